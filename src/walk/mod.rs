//! The read-only half: records one by one, for tools. It takes no lock and writes nothing, so it also reads a journal
//! that someone is writing.

mod end;
mod resume;
mod yielded;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::file::open_read_only;
use crate::format::{HEADER_LEN, Header, Sealed};
use crate::inspect::classify::Mark;
use crate::inspect::pread::{Place, Source, Ticker, Window, continued, is_record};
use crate::inspect::survey::{Tail, Told, begin, tell};
use crate::inspect::{Inspection, State, inspect};
use crate::options::{Format, IndexMode};
use crate::walk::yielded::{Step, Trail};
use end::{End, Still};
use resume::Look;

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

/// Bytes of the file in memory at a time.
const WINDOW: usize = 1 << 20;

/// Reads a journal's records one by one, each checked, without a lock and without writing.
///
/// It yields a record only when its batch is there whole. After the last record it ends with `None` if the journal
/// ends cleanly, else with one error: [`Error::Corrupt`] for damage and for a torn tail alike,
/// [`Error::NotAJournal`], [`Error::UnsupportedFormat`] or [`Error::Io`].
///
/// A journal that is being written is read up to where its writer is. What looks torn is looked at again until it
/// stands still, for it may be half of a write. What is truncated while the walk goes on may or may not be seen; if
/// that reaches back to what was yielded already, the walk ends there.
///
/// A walk that has ended stays so, until [`resume`](Walk::resume) finds that the file has changed.
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
    file: File,
    path: PathBuf,
    window: Window,
    tail: Tail,
    /// The journal ends where this says, unless it is a record's payload or was overwritten meanwhile.
    end_mark: Option<Mark>,
    /// The mark that was there at the beginning.
    first_mark: Option<Mark>,
    format: Option<Format>,
    next: Place,
    /// Records before this offset belong to a batch that is known to be whole.
    whole_to: u64,
    /// A record whose seal is being written anew: its payload alone has to match.
    unsealed_at: Option<u64>,
    /// The place that looked damaged at the last look.
    still: Option<Still>,
    /// What was yielded, to know it again.
    trail: Trail,
    /// The loads of the window that are known to show what follows the last record yielded.
    checked: u64,
    /// The file at the place where the walk ended, if it was judged as it was then.
    look: Option<Look>,
    /// The file's length when nothing but zeros was behind the last record.
    room: Option<u64>,
    resumed: bool,
    done: bool,
    state: Option<State>,
}

impl Walk {
    /// Opens the journal at `path` for reading.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be opened or is no regular file. Everything else is told by the iterator.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let file = open_read_only(&path)?;
        Ok(Self {
            file,
            path,
            window: Window::new(WINDOW),
            tail: Tail { len: 0, zeros_from: 0, mark: None },
            end_mark: None,
            first_mark: None,
            format: None,
            next: Place { offset: 0, index: 1 },
            whole_to: 0,
            unsealed_at: None,
            still: None,
            trail: Trail::new(),
            checked: 0,
            look: None,
            room: None,
            resumed: false,
            done: false,
            state: None,
        })
    }

    /// Tells what state the journal at `path` is in: everything is checked, on all cores, as an open does it, but
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
    /// [`Error::Io`]. Damage is no error here but what was asked for.
    pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection> {
        inspect(path.as_ref())
    }

    /// The next record, or `None` at a clean end.
    fn advance(&mut self) -> Result<Option<Entry>> {
        loop {
            if self.format.is_none() {
                match self.begin()? {
                    Told::New => {
                        self.ended(State::Clean, None);
                        return Ok(None);
                    }
                    Told::As(format) => self.format = Some(format),
                    // Perhaps the first write is under way.
                    Told::Nothing => match self.end(self.next, None)? {
                        End::Clean => return Ok(None),
                        End::Again => continue,
                    },
                }
            }
            let format = self.format.unwrap_or_default();
            if self.ends_at(format, self.next.offset)? {
                let look = self.look_at(self.next.offset)?;
                // What has changed before that look would never be looked at.
                if self.ends_at(format, self.next.offset)? {
                    self.ended(State::Clean, Some(look));
                    return Ok(None);
                }
            }
            let place = self.next;
            let mut payload = Vec::new();
            let (x, batch) = match self.record(format, place.offset, Some(&mut payload))? {
                Some((header, end)) => match self.batch_end(format, header, end)? {
                    Ok(whole_to) => {
                        let long = end - place.offset > WINDOW as u64;
                        if (long || self.window.loads() != self.checked) && self.slipped()? {
                            match self.turn_back()? {
                                End::Clean => return Ok(None),
                                End::Again => continue,
                            }
                        }
                        self.checked = self.window.loads();
                        self.whole_to = whole_to;
                        self.next = Place { offset: end, index: place.index.saturating_add(1) };
                        if self.unsealed_at != Some(place.offset) {
                            self.trail.push(Step { at: place, header, end });
                        }
                        let Place { offset, index } = place;
                        return Ok(Some(Entry { index, offset, crc: header.crc, payload }));
                    }
                    Err((offset, records)) => {
                        let x = Place { offset, index: place.index.saturating_add(records) };
                        (x, Some(place))
                    }
                },
                None => (place, None),
            };
            match self.end(x, batch)? {
                End::Clean => return Ok(None),
                End::Again => {}
            }
        }
    }

    /// Looks at the file's two ends.
    fn begin(&mut self) -> Result<Told> {
        let source = Source::new(&self.file, &self.path);
        self.tail = Tail::of(source, source.len()?)?;
        self.first_mark = self.tail.mark;
        // Whoever opens the file decides about one without content; to a reader it is empty either way.
        let told = tell(source, &self.tail, Format::Sealed, &mut Ticker::silent())?;
        if let Told::As(format) = told {
            self.end_mark = self.tail.mark.filter(|_| format == Format::Sealed);
            let index = begin(source, format, IndexMode::Scan, self.tail.len)?;
            self.next = Place { offset: index.end(), index: index.last().saturating_add(1) };
        }
        Ok(told)
    }

    /// Whether a mark says that the journal ends at `offset`: as it was closed, or as a truncation will leave it.
    fn ends_at(&mut self, format: Format, offset: u64) -> Result<bool> {
        // A record that is being sealed anew is the last that stays.
        if self.unsealed_at.is_some_and(|unsealed| unsealed < offset) {
            return Ok(true);
        }
        // A truncation to nothing removes a gap, too.
        let here = |mark: &Mark| mark.end == offset || mark.end == 0;
        let Some(mark) = self.end_mark.filter(here) else { return Ok(false) };
        // What looks like a mark may be the payload of a record that begins before it.
        let mut at = offset;
        while at < mark.offset {
            match self.record(format, at, None)? {
                Some((_, end)) => at = end,
                None => break,
            }
        }
        let source = Source::new(&self.file, &self.path);
        let marked = source.header_at(mark.offset)? == Some(Header::mark(mark.offset, mark.end));
        // What a newer version wrote is not to be guessed at.
        let newer = source.header_at(at)?.and_then(|header| header.unseal(at)) == Some(Sealed::Newer);
        if at <= mark.offset && marked && !newer {
            return Ok(true);
        }
        self.end_mark = None;
        Ok(false)
    }

    /// The record at `offset`, if it is whole and valid: its header and where it ends.
    fn record(
        &mut self,
        format: Format,
        offset: u64,
        payload: Option<&mut Vec<u8>>,
    ) -> Result<Option<(Header, u64)>> {
        let source = Source::new(&self.file, &self.path);
        let Some(header) = Header::decode_at(self.window.at(source, offset, HEADER_LEN as usize)?, 0) else {
            return Ok(None);
        };
        let Some(end) = header.end(offset) else { return Ok(None) };
        let trusted = self.unsealed_at == Some(offset);
        if !trusted && !is_record(format, header, offset) {
            return Ok(None);
        }
        let size = usize::try_from(end - offset).ok().filter(|&size| size <= self.window.capacity());
        if let Some(size) = size {
            let bytes = self.window.at(source, offset, size)?;
            let Some(bytes) = bytes.get(HEADER_LEN as usize..size) else { return Ok(None) };
            if crc32fast::hash(bytes) != header.crc {
                return Ok(None);
            }
            if let Some(payload) = payload {
                payload.extend_from_slice(bytes);
            }
            return Ok(Some((header, end)));
        }
        // First it has to prove itself, piece by piece; memory is taken only for what is there.
        let at = offset.saturating_add(HEADER_LEN);
        let crc = source.crc(at, header.len, &mut Vec::new(), |_| true)?;
        if crc != Some(header.crc) {
            return Ok(None);
        }
        let Some(payload) = payload else { return Ok(Some((header, end))) };
        let too_large = || Error::io("read", &self.path, io::ErrorKind::OutOfMemory.into());
        let len = usize::try_from(header.len).map_err(|_| too_large())?;
        payload.try_reserve_exact(len).map_err(|_| too_large())?;
        payload.resize(len, 0);
        let whole = source.read_at(payload, at)? == len;
        Ok((whole && crc32fast::hash(payload) == header.crc).then_some((header, end)))
    }

    /// Where the batch ends that the record with this header, which ends at `end`, belongs to. Else where it
    /// breaks off, and behind how many records.
    fn batch_end(&mut self, format: Format, header: Header, end: u64) -> Result<Result<u64, (u64, u64)>> {
        let (mut header, mut end, mut records) = (header, end, 1);
        while end > self.whole_to && continued(header) && self.unsealed_at.is_none() {
            if self.ends_at(format, end)? {
                break;
            }
            match self.record(format, end, None)? {
                Some((next, next_end)) => (header, end) = (next, next_end),
                None => return Ok(Err((end, records))),
            }
            records += 1;
        }
        Ok(Ok(self.whole_to.max(end)))
    }
}

impl Iterator for Walk {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.advance().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests;
