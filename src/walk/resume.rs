//! How a walk that has ended goes on after the file has changed, and how it notices that records that it has yielded were
//! cut.

use std::os::unix::fs::MetadataExt;

use super::{Step, Walk, YieldedRecord};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::format::{Boundary, Header};
use crate::inspect::{Source, State, first_boundary};

/// What is compared to decide whether a file has changed since a walk ended in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStamp {
    pub(super) len: u64,
    /// The time of the last write. The file system gives many writes the same time.
    written: (i64, i64),
    /// Where the walk ended, and the header there.
    at: u64,
    header: Option<Header>,
}

impl FileStamp {
    /// Returns `true` if the header there is all zeros.
    pub(super) fn is_at_zeros(self) -> bool {
        self.header.is_some_and(Header::is_zero)
    }
}

impl Walk {
    /// Checks whether the file has changed since the walk ended, and lets the walk go on if it has.
    ///
    /// Returns `None` if the file has not changed: [`next`](Iterator::next) still returns `None`. Returns `Some(n)` if the
    /// file has changed: the walk goes on with record n, if that is there by now. If n is
    ///
    /// * the index after the last record yielded, no yielded record was removed;
    /// * less than that, the writer has truncated the journal: the records yielded from n on are no longer there, and the
    ///   walk yields the records in their place. Of the records yielded long ago the walk remembers only some, so n can be
    ///   too low, at most by a 64th of the number of records in between: then the walk yields some records again that were
    ///   not removed;
    /// * more than that, records were removed at the front before the walk had come to them.
    ///
    /// A walk that ended with an error goes on like any other, and returns the error again if the change made no
    /// difference to it. A walk that has not ended only goes back to where the journal was truncated, if it was.
    ///
    /// If nothing has changed, this reads a few bytes and the file's length and time, so it can be called many times a
    /// second. Zeros that the writer has preallocated are read to their end once for each length of the file.
    ///
    /// The walk recognises a truncation by the headers of the records that it has yielded. It does not notice one after
    /// which records of the same lengths and checksums are in the place of all that it remembers.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("events.wally");
    /// let journal = wally::Journal::open(&path)?; // Usually in another process.
    /// journal.append_batch(["one", "two"])?;
    ///
    /// let mut walk = wally::Walk::open(&path)?;
    /// assert_eq!(walk.by_ref().count(), 2);
    /// journal.append(b"three")?;
    /// assert_eq!(walk.resume()?, Some(3));
    /// assert_eq!(walk.next().unwrap()?.payload, b"three");
    ///
    /// journal.truncate_back(1)?;
    /// journal.append(b"another two")?;
    /// assert_eq!(walk.resume()?, Some(2));
    /// assert_eq!(walk.next().unwrap()?.payload, b"another two");
    /// assert!(walk.next().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`]. The walk stays as it was.
    pub fn resume(&mut self) -> Result<Option<u64>> {
        if let Some(stamp) = self.ending.and_then(|ending| ending.stamp)
            && self.stamp(stamp.at)? == stamp
            && !self.is_repaired(stamp.at)?
        {
            return Ok(None);
        }
        self.move_to_last_standing()?;
        self.ending = None;
        Ok(Some(self.next.next))
    }

    /// Returns the state of the journal where the walk has ended. After an error it tells a torn tail from damage.
    ///
    /// Returns `None` while the walk has not ended, and if it could not read the file.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("events.wally");
    /// # let journal = wally::Journal::open(&path)?;
    /// # journal.append(b"one")?;
    /// # drop(journal);
    /// # let file = std::fs::OpenOptions::new().append(true).open(&path)?;
    /// # std::io::Write::write_all(&mut &file, b"half a record")?;
    /// # file.set_len(file.metadata()?.len() - 16 - 5)?;
    /// let mut walk = wally::Walk::open(&path)?;
    /// assert!(walk.by_ref().any(|entry| entry.is_err()));
    /// assert_eq!(walk.state(), Some(wally::State::Torn));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn state(&self) -> Option<State> {
        self.ending?.state
    }

    /// Returns `true` if the path that the walk was opened with now names another file, or none. The walk still reads the
    /// file that it has opened.
    ///
    /// # Errors
    /// [`Error::Io`] if the files cannot be compared.
    pub fn replaced(&self) -> Result<bool> {
        let source = self.records.source();
        let mine = source.metadata()?;
        match std::fs::metadata(source.path()) {
            Ok(there) => Ok((there.dev(), there.ino()) != (mine.dev(), mine.ino())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(Error::io("stat", source.path(), error)),
        }
    }

    /// The file as it is now, with what lies at `at`.
    pub(super) fn stamp(&self, at: u64) -> Result<FileStamp> {
        let source = self.records.source();
        let meta = source.metadata()?;
        let header = source.header_at(at)?;
        Ok(FileStamp { len: meta.len(), written: (meta.mtime(), meta.mtime_nsec()), at, header })
    }

    /// Returns `true` if the walk ended with damage and a whole record begins there now. The time of a file is that of the
    /// beginning of a write: the end of a long write into preallocated zeros changes nothing else in the stamp.
    fn is_repaired(&mut self, at: u64) -> Result<bool> {
        let damaged = self.state() != Some(State::Clean);
        let Some(format) = self.format.filter(|_| damaged) else { return Ok(false) };
        self.records.forget_window();
        Ok(self.records.record(format, at, None)?.is_some())
    }

    /// Returns `true` if the record that was yielded last is no longer where it was. Then what follows its place does not
    /// follow what was yielded.
    pub(super) fn is_last_yielded_gone(&self) -> Result<bool> {
        let Some((last, format)) = self.yielded.last().zip(self.format) else { return Ok(false) };
        Ok(!stands(self.records.source(), format, last)?)
    }

    /// Goes to where the file departs from what was yielded. If records were removed at the front alone, the walk goes on
    /// there, else it ends.
    pub(super) fn go_back(&mut self) -> Result<Step> {
        let expected = self.next.next;
        self.move_to_last_standing()?;
        Ok(if self.next.next >= expected { Step::Again } else { self.end_with(State::Clean, None) })
    }

    /// Moves to the end of the last yielded record that still stands, and forgets what is known of the file after it.
    fn move_to_last_standing(&mut self) -> Result<()> {
        self.records.forget_window();
        self.records.unsealed_at = None;
        self.suspected = None;
        self.whole_to = 0;
        let Some(format) = self.format else { return Ok(()) };
        let source = self.records.source();
        let start = first_boundary(source, format, source.len()?)?;
        // The records in a gap were not truncated, and their headers are no longer there to be compared.
        self.yielded.forget_before(start.offset);
        let all = self.yielded.keep_while(|record| stands(source, format, record))?;
        match self.yielded.last() {
            Some(last) if !all => self.next = last.at.after_record(last.end),
            None if !all && start.offset == 0 => {
                // A journal that begins anew may have another format.
                self.format = None;
                self.next = start;
            }
            _ if !all || self.next.offset < start.offset => self.next = start,
            _ => {}
        }
        Ok(())
    }
}

/// Returns `true` if the record is still where it was. A truncation may have written its seal anew, and the records before
/// it may have been removed.
fn stands(source: Source<'_>, format: Format, record: &YieldedRecord) -> Result<bool> {
    let YieldedRecord { at: Boundary { offset, .. }, header, end } = *record;
    let here = source.header_at(offset)?;
    let same = here.is_some_and(|here| {
        (here.len, here.crc) == (header.len, header.crc) && here.is_record(format, offset)
    });
    Ok(same && end <= source.len()?)
}
