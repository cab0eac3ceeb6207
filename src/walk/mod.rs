//! [`Walk`] reads records one by one, for tools. It takes no lock and writes nothing, so it also reads a journal while a
//! writer appends to it. No other code reads the records of a file that is not open as a journal.
//!
//! * This file: [`Walk`] and [`Entry`]; one step of a walk.
//! * `records`: reads and checks one record at an offset.
//! * `end`: what it means that no whole record follows, and how a walk ends.
//! * `resume`: how a walk that has ended goes on after the file has changed.
//! * `yielded`: the records that the walk has yielded, to recognise them in a file that has changed.
//!
//! `inspect` rules on what an end means. This folder only waits until a place that looks damaged no longer changes.

mod end;
mod records;
mod resume;
mod yielded;

use std::path::Path;

use crate::error::Result;
use crate::format::Format;
use crate::format::{Boundary, Cursor, Header, Sealed};
use crate::inspect::{
    Detected, FileEnd, Inspection, ProgressReporter, SourceFile, State, detect, first_boundary, inspect,
};
use end::{Ending, KnownMarks, SuspectedDamage};
use records::RecordReader;
use resume::FileStamp;
use yielded::{Yielded, YieldedRecord};

/// A record, copied out of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The record's index.
    pub index: u64,
    /// The file offset of its header.
    pub offset: u64,
    /// CRC-32/IEEE of its payload, which was checked.
    pub crc: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Reads a journal's records one by one, each checked, without a lock and without writing.
///
/// The walk yields a record only if its whole batch is there. After the last record the walk ends with `None` if the
/// journal ends cleanly, else with one error: [`Corrupt`] for damage and for a torn tail alike, [`NotAJournal`],
/// [`UnsupportedFormat`] or [`Io`].
///
/// [`Corrupt`]: crate::Error::Corrupt
/// [`NotAJournal`]: crate::Error::NotAJournal
/// [`UnsupportedFormat`]: crate::Error::UnsupportedFormat
/// [`Io`]: crate::Error::Io
///
/// A journal that is being written is read up to where its writer is. What looks torn may be half of a write, so the
/// walk reads it again until it no longer changes. Records that are truncated during the walk may or may not be yielded.
/// If the truncation removes records that the walk has already yielded, the walk ends there.
///
/// A walk that has ended yields nothing more, until [`resume`](Walk::resume) finds that the file has changed.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("events.wally");
/// # let journal = wally::Journal::open(&path)?;
/// # journal.append_batch(["one", "two"])?;
/// # journal.close()?;
/// let mut payloads = Vec::new();
/// for entry in wally::Walk::open(&path)? {
///     payloads.push(entry?.payload);
/// }
/// assert_eq!(payloads, [b"one", b"two"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Walk {
    records: RecordReader,
    /// The file's format, once that is detected.
    format: Option<Format>,
    marks: KnownMarks,
    /// Where the next record begins.
    next: Boundary,
    /// Records before this offset belong to a batch of which all records are there.
    whole_to: u64,
    yielded: Yielded,
    suspected: Option<SuspectedDamage>,
    /// The file's length when the walk last ended with nothing but zeros after it.
    zeros_read_at_len: Option<u64>,
    /// How the walk has ended, if it has.
    ending: Option<Ending>,
}

/// What one step of a walk leads to.
enum Step {
    Yield(Entry),
    /// The walk has ended, cleanly.
    End,
    /// The walk goes on with another step.
    Again,
}

impl Walk {
    /// Opens the journal at `path` for reading.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be opened or is not a regular file. The iterator returns all
    /// other errors.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self {
            records: RecordReader::new(SourceFile::open(path.as_ref())?),
            format: None,
            marks: KnownMarks::default(),
            next: Boundary::START,
            whole_to: 0,
            yielded: Yielded::new(),
            suspected: None,
            zeros_read_at_len: None,
            ending: None,
        })
    }

    /// Returns the state of the journal at `path`. Everything is checked, on all cores, as when a journal is opened, but
    /// without a lock and without writing.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("events.wally");
    /// # let journal = wally::Journal::open(&path)?;
    /// # journal.append(b"one")?;
    /// # journal.close()?;
    /// let inspection = wally::Walk::inspect(&path)?;
    /// assert_eq!(inspection.state, wally::State::Clean);
    /// assert_eq!(inspection.records, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io). Damage is not an error here: the [`Inspection`] reports it.
    pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection> {
        inspect(path.as_ref())
    }

    /// Returns the next record, or `None` at a clean end.
    fn advance(&mut self) -> Result<Option<Entry>> {
        loop {
            match self.step()? {
                Step::Yield(entry) => return Ok(Some(entry)),
                Step::End => return Ok(None),
                Step::Again => {}
            }
        }
    }

    /// Detects the format, or reads the next record, or decides what it means that there is none.
    fn step(&mut self) -> Result<Step> {
        let at = self.next;
        let format = match self.format {
            Some(format) => format,
            None => match self.begin()? {
                Detected::Journal(format) => {
                    self.format = Some(format);
                    return Ok(Step::Again);
                }
                Detected::NewFile => return Ok(self.end_with(State::Clean, None)),
                // The writer may be writing the first header.
                Detected::NotAJournal => return self.no_record_at(Cursor::outside_batch(at)),
            },
        };
        if let Some(stamp) = self.stamp_of_marked_end(format)? {
            return Ok(self.end_with(State::Clean, Some(stamp)));
        }
        let mut payload = Vec::new();
        let Some((header, end)) = self.records.record(format, at.offset, Some(&mut payload))? else {
            return self.no_record_at(Cursor::outside_batch(at));
        };
        let whole_to = match self.whole_to(format, at, header, end)? {
            Ok(whole_to) => whole_to,
            Err(cursor) => return self.no_record_at(cursor),
        };
        if self.records.has_read_since_check(end - at.offset) && self.is_last_yielded_gone()? {
            return self.go_back();
        }
        self.records.note_checked();
        self.whole_to = whole_to;
        self.next = at.after_record(end);
        if self.records.unsealed_at != Some(at.offset) {
            self.yielded.push(YieldedRecord { at, header, end });
        }
        Ok(Step::Yield(Entry { index: at.next, offset: at.offset, crc: header.crc, payload }))
    }

    /// Reads the two ends of the file, and moves to its first record.
    fn begin(&mut self) -> Result<Detected> {
        let source = self.records.source();
        let file_end = FileEnd::read(source, source.len()?)?;
        // The format of a new file is its writer's choice. For the walk it is empty in either format.
        let detected = detect(source, &file_end, Format::Sealed, &mut ProgressReporter::silent())?;
        if let Detected::Journal(format) = detected {
            self.next = first_boundary(source, format, file_end.len)?;
        }
        self.marks.begin(file_end.mark, detected);
        Ok(detected)
    }

    /// If a mark says that the journal ends at the next boundary, returns the file's stamp.
    fn stamp_of_marked_end(&mut self, format: Format) -> Result<Option<FileStamp>> {
        let offset = self.next.offset;
        if !self.is_marked_end(format, offset)? {
            return Ok(None);
        }
        let stamp = self.stamp(offset)?;
        // A change before the stamp was taken would never be noticed, so the mark is read once more.
        Ok(self.is_marked_end(format, offset)?.then_some(stamp))
    }

    /// Returns `true` if a mark says that the journal ends at `offset`: as it was closed, or as a truncation will leave
    /// it.
    fn is_marked_end(&mut self, format: Format, offset: u64) -> Result<bool> {
        // A record that is being sealed anew is the last that the truncation keeps.
        if self.records.unsealed_at.is_some_and(|unsealed| unsealed < offset) {
            return Ok(true);
        }
        let Some(mark) = self.marks.of_end_at(offset) else { return Ok(false) };
        // What looks like a mark may be the payload of a record that begins before it.
        let mut at = offset;
        while at < mark.offset {
            match self.records.record(format, at, None)? {
                Some((_, end)) => at = end,
                None => break,
            }
        }
        let source = self.records.source();
        let marked = source.header_at(mark.offset)? == Some(Header::mark(mark.offset, mark.end));
        // What a newer version wrote there may mean anything.
        let newer = source.header_at(at)?.and_then(|header| header.unseal(at)) == Some(Sealed::Newer);
        if at <= mark.offset && marked && !newer {
            return Ok(true);
        }
        self.marks.forget_end();
        Ok(false)
    }

    /// Returns the offset up to which records belong to whole batches, if the record at `at`, which has this header and
    /// ends at `end`, belongs to one. Else returns where its batch breaks off.
    fn whole_to(
        &mut self,
        format: Format,
        at: Boundary,
        header: Header,
        end: u64,
    ) -> Result<Result<u64, Cursor>> {
        let mut cursor = Cursor::outside_batch(at);
        cursor.step_over(header, end);
        while cursor.at.offset > self.whole_to && cursor.batch.is_some() && self.records.unsealed_at.is_none()
        {
            let offset = cursor.at.offset;
            if self.is_marked_end(format, offset)? {
                break;
            }
            match self.records.record(format, offset, None)? {
                Some((header, end)) => cursor.step_over(header, end),
                None => return Ok(Err(cursor)),
            }
        }
        Ok(Ok(self.whole_to.max(cursor.at.offset)))
    }
}

impl Iterator for Walk {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ending.is_some() {
            return None;
        }
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.ending.get_or_insert(Ending::UNREADABLE);
        }
        next
    }
}

#[cfg(test)]
mod tests;
