//! How a walk that has ended goes on when the file has changed, and how it notices that what it yielded was cut.

use std::os::unix::fs::MetadataExt;

use super::{End, Walk};
use crate::error::{Error, Result};
use crate::format::Header;
use crate::inspect::State;
use crate::inspect::pread::{Place, Source, is_record};
use crate::inspect::survey::begin;
use crate::options::{Format, IndexMode};
use crate::walk::yielded::Step;

/// What is looked at to tell whether a file has changed since a walk ended in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) len: u64,
    /// When it was written to, as the file system tells it: in steps that many writes share.
    written: (i64, i64),
    /// Where the walk broke off, and what is there.
    at: u64,
    header: Option<Header>,
}

impl Walk {
    /// Looks at the file again, and goes on if it has changed since the walk ended.
    ///
    /// `None`: it has not, and [`next`](Iterator::next) goes on to return `None`. `Some(n)`: it has, and the walk goes
    /// on with record n, if that is there by now. If n is
    ///
    /// * the index after the last one yielded, nothing was removed of what was yielded;
    /// * less than that, the writer has truncated the journal: what was yielded from n on is no longer there, and
    ///   whatever takes its place is yielded. What was yielded long ago is remembered only here and there, so n can be
    ///   too low, by a 64th of the way back at most: then some records that stayed are yielded once more;
    /// * more than that, records were removed at the front before the walk had come to them.
    ///
    /// A walk that ended with an error goes on like any other, and yields the error again if the change made no
    /// difference to it. One that has not ended is only put back to where the truncation has cut, if there was one.
    ///
    /// It looks at a few bytes and at the file's length and time if nothing has changed, so it can be called many times
    /// a second. Zeros that a writer has put where the next records will be are read to their end once for each length
    /// of the file.
    ///
    /// A truncation is seen by the headers of the records that were yielded. It stays unseen if, by the next look,
    /// records of the same lengths and checksums are back in the place of all that are remembered.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("events.wally");
    /// let journal = wally::Journal::open(&path)?; // Most often in another process.
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
        if let Some(look) = self.look.filter(|_| self.done)
            && self.look_at(look.at)? == look
            && !self.mended(look.at)?
        {
            return Ok(None);
        }
        self.relocate()?;
        self.look = None;
        self.resumed = true;
        self.done = false;
        self.state = None;
        Ok(Some(self.next.index))
    }

    /// What state the journal was in where the walk has ended: after an error, whether that is a torn tail or damage.
    /// `None` while the walk goes on, and if it could not read the file.
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
        self.state.filter(|_| self.done)
    }

    /// Whether the path that the walk was opened with names another file by now, or none. The walk stays with the file
    /// that it has.
    ///
    /// # Errors
    /// [`Error::Io`] if that cannot be told.
    pub fn replaced(&self) -> Result<bool> {
        let failed = |source| Error::io("stat", &self.path, source);
        let mine = self.file.metadata().map_err(failed)?;
        match std::fs::metadata(&self.path) {
            Ok(there) => Ok((there.dev(), there.ino()) != (mine.dev(), mine.ino())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(failed(error)),
        }
    }

    /// The file as it is now, and what lies at `at`.
    pub(super) fn look_at(&self, at: u64) -> Result<Look> {
        let meta = self.file.metadata().map_err(|source| Error::io("stat", &self.path, source))?;
        let header = Source::new(&self.file, &self.path).header_at(at)?;
        Ok(Look { len: meta.len(), written: (meta.mtime(), meta.mtime_nsec()), at, header })
    }

    /// Whether there is nothing but zeros where the next record will be, in a file whose zeros were read to their end
    /// when it had this length. Who has written room ahead would have them all read at every look.
    pub(super) fn in_known_room(&self, look: Look, batch: Option<Place>) -> bool {
        let zeros = look.header == Some(Header::decode(&[0; 16]));
        let room = self.format == Some(Format::Sealed) && zeros && batch.is_none();
        room && self.resumed && self.room == Some(look.len)
    }

    /// Whether the walk ended with damage and a whole record begins there now. A file's time is that of the beginning of
    /// a write: of a long one into room ahead, the end changes nothing else that is looked at.
    fn mended(&mut self, at: u64) -> Result<bool> {
        let Some(format) = self.format.filter(|_| self.state != Some(State::Clean)) else { return Ok(false) };
        self.window.forget();
        Ok(self.record(format, at, None)?.is_some())
    }

    /// Whether the record that was yielded last is no longer what it was. Then what follows its place does not follow
    /// what was yielded.
    pub(super) fn slipped(&self) -> Result<bool> {
        let Some((last, format)) = self.trail.last().zip(self.format) else { return Ok(false) };
        Ok(!stands(Source::new(&self.file, &self.path), format, last)?)
    }

    /// Goes to where the file departs from what was yielded. The walk goes on there if what was removed was at the front
    /// alone, else it ends.
    pub(super) fn turn_back(&mut self) -> Result<End> {
        let expected = self.next.index;
        self.relocate()?;
        Ok(if self.next.index >= expected { End::Again } else { self.ended(State::Clean, None) })
    }

    /// Moves to the end of what was yielded and is still there, and forgets what was read beyond.
    fn relocate(&mut self) -> Result<()> {
        self.window.forget();
        self.still = None;
        self.unsealed_at = None;
        self.whole_to = 0;
        let Some(format) = self.format else { return Ok(()) };
        let source = Source::new(&self.file, &self.path);
        let index = begin(source, format, IndexMode::Scan, source.len()?)?;
        let start = Place { offset: index.end(), index: index.last().saturating_add(1) };
        // What lies in a gap was not cut off, and is not there to be looked at any more.
        self.trail.forget_before(start.offset);
        let all = self.trail.keep_standing(|step| stands(source, format, step))?;
        match self.trail.last() {
            Some(step) if !all => {
                self.next = Place { offset: step.end, index: step.at.index.saturating_add(1) };
            }
            None if !all && start.offset == 0 => {
                // Who begins anew may do so in another format.
                self.format = None;
                self.next = start;
            }
            _ if !all || self.next.offset < start.offset => self.next = start,
            _ => {}
        }
        Ok(())
    }
}

/// Whether a record is where it was. A truncation may have written its seal anew, and a front may have been removed up
/// to it.
fn stands(source: Source<'_>, format: Format, step: &Step) -> Result<bool> {
    let Step { at, header, end } = *step;
    let here = source.header_at(at.offset)?;
    let same = here.is_some_and(|here| {
        (here.len, here.crc) == (header.len, header.crc) && is_record(format, here, at.offset)
    });
    Ok(same && end <= source.len()?)
}
