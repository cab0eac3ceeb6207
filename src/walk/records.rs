//! Reads and checks one record at a given offset, through a window of the file in memory.

use std::io;

use crate::error::{Error, Result};
use crate::format::Format;
use crate::format::{HEADER_LEN, Header};
use crate::inspect::{Source, SourceFile};

/// Bytes of the file in memory at a time.
pub(super) const WINDOW: usize = 1 << 20;

/// A file whose records are read one by one.
#[derive(Debug)]
pub(super) struct RecordReader {
    file: SourceFile,
    window: Window,
    /// The offset of a record whose seal a truncation is writing anew. Only its payload has to match.
    pub(super) unsealed_at: Option<u64>,
    /// The window's `reads` when [`note_checked`](Self::note_checked) was called last.
    checked_reads: u64,
}

impl RecordReader {
    pub(super) fn new(file: SourceFile) -> Self {
        Self { file, window: Window::new(WINDOW), unsealed_at: None, checked_reads: 0 }
    }

    pub(super) fn source(&self) -> Source<'_> {
        self.file.source()
    }

    /// Makes the next record come from the file and not from memory.
    pub(super) fn forget_window(&mut self) {
        self.window.forget();
    }

    /// Notes that all that the window shows follows the record that was yielded last.
    pub(super) fn note_checked(&mut self) {
        self.checked_reads = self.window.reads;
    }

    /// Returns `true` if a record of `len` bytes may come from a read after [`note_checked`](Self::note_checked). Records
    /// that are longer than the window are always read anew.
    pub(super) fn has_read_since_check(&self, len: u64) -> bool {
        len > WINDOW as u64 || self.window.reads != self.checked_reads
    }

    /// Reads the record at `offset`. Returns its header and where it ends, or `None` if no whole, valid record begins
    /// there. Adds its payload to `payload`, if that is given.
    pub(super) fn record(
        &mut self,
        format: Format,
        offset: u64,
        payload: Option<&mut Vec<u8>>,
    ) -> Result<Option<(Header, u64)>> {
        let source = self.file.source();
        let Some(header) = Header::decode_at(self.window.at(source, offset, HEADER_LEN as usize)?, 0) else {
            return Ok(None);
        };
        let Some(end) = header.end(offset) else { return Ok(None) };
        let trusted = self.unsealed_at == Some(offset);
        if !trusted && !header.is_record(format, offset) {
            return Ok(None);
        }
        let size = usize::try_from(end - offset).ok().filter(|&size| size <= WINDOW);
        let Some(size) = size else {
            return Ok(long_payload(source, header, offset, payload)?.then_some((header, end)));
        };
        let bytes = self.window.at(source, offset, size)?;
        let Some(bytes) = bytes.get(HEADER_LEN as usize..size) else { return Ok(None) };
        if crc32fast::hash(bytes) != header.crc {
            return Ok(None);
        }
        if let Some(payload) = payload {
            payload.extend_from_slice(bytes);
        }
        Ok(Some((header, end)))
    }
}

/// Checks a payload that does not fit the window, and then reads it into `payload`. Returns `true` if it matches its
/// header.
fn long_payload(
    source: Source<'_>,
    header: Header,
    offset: u64,
    payload: Option<&mut Vec<u8>>,
) -> Result<bool> {
    // It is checked piece by piece first, so that memory is taken only for what is there.
    if !source.payload_matches(header, offset)? {
        return Ok(false);
    }
    let Some(payload) = payload else { return Ok(true) };
    let too_large = || Error::io("read", source.path(), io::ErrorKind::OutOfMemory.into());
    let len = usize::try_from(header.len).map_err(|_| too_large())?;
    payload.try_reserve_exact(len).map_err(|_| too_large())?;
    payload.resize(len, 0);
    let whole = source.read_at(payload, offset.saturating_add(HEADER_LEN))? == len;
    Ok(whole && crc32fast::hash(payload) == header.crc)
}

/// A part of a file in memory, which is replaced as needed.
#[derive(Debug)]
struct Window {
    bytes: Vec<u8>,
    start: u64,
    filled: usize,
    /// The number of times that the window was read from the file.
    reads: u64,
}

impl Window {
    fn new(len: usize) -> Self {
        Self { bytes: vec![0; len], start: 0, filled: 0, reads: 0 }
    }

    /// Returns the bytes from `offset` on: at least `want` of them, if the file has so many and the window is that large.
    fn at(&mut self, source: Source<'_>, offset: u64, want: usize) -> Result<&[u8]> {
        let skip = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let skip = match skip {
            Some(skip) if skip.saturating_add(want) <= self.filled => skip,
            _ => {
                self.forget();
                self.filled = source.read_at(&mut self.bytes, offset)?;
                self.start = offset;
                self.reads += 1;
                0
            }
        };
        Ok(self.bytes.get(skip..self.filled).unwrap_or_default())
    }

    /// Makes the next call of [`at`](Self::at) read the file.
    fn forget(&mut self) {
        self.filled = 0;
    }
}
