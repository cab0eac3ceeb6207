//! What recovery and the read-only tools read with: `pread` and nothing else, so that an unreadable sector is an
//! error and not a signal, and memory that does not depend on what a length field says.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use crate::error::{Error, Result};
use crate::file::read_full_at;
use crate::format::{Header, Sealed, flag};
use crate::options::{Format, Progress};

/// Bytes read in one piece where a payload is streamed.
pub(crate) const PIECE: usize = 1 << 20;

/// A file to read and the name to report it by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    file: &'a File,
    path: &'a Path,
}

/// The place of a record that is there, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where its header begins.
    pub(crate) offset: u64,
    /// The index it has, or would have.
    pub(crate) index: u64,
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a File, path: &'a Path) -> Self {
        Self { file, path }
    }

    pub(crate) fn error(&self, op: &'static str, source: io::Error) -> Error {
        Error::io(op, self.path, source)
    }

    pub(crate) fn len(&self) -> Result<u64> {
        let meta = self.file.metadata().map_err(|e| Error::io("stat", self.path, e))?;
        Ok(meta.len())
    }

    /// Reads at `offset` until `buf` is full or the file ends; returns how many bytes were read.
    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        read_full_at(self.file, buf, offset).map_err(|e| Error::io("read", self.path, e))
    }

    /// The header at `offset`, if the file holds all of it.
    pub(crate) fn header_at(&self, offset: u64) -> Result<Option<Header>> {
        let mut bytes = [0; 16];
        let whole = self.read_at(&mut bytes, offset)? == bytes.len();
        Ok(whole.then(|| Header::decode(&bytes)))
    }

    /// The CRC of `len` bytes at `offset`, read in pieces. `None` if the file ends before, or if `go_on` says no, which
    /// is told how many bytes come next.
    pub(crate) fn crc(
        &self,
        offset: u64,
        len: u64,
        piece: &mut Vec<u8>,
        mut go_on: impl FnMut(u64) -> bool,
    ) -> Result<Option<u32>> {
        let mut crc = crc32fast::Hasher::new();
        let mut at = offset;
        let mut left = len;
        while left > 0 {
            let want = left.min(PIECE as u64) as usize;
            if piece.len() < want {
                piece.resize(want, 0);
            }
            let Some(bytes) = piece.get_mut(..want) else { return Ok(None) };
            if !go_on(want as u64) || self.read_at(bytes, at)? < want {
                return Ok(None);
            }
            crc.update(bytes);
            at = at.saturating_add(want as u64);
            left -= want as u64;
        }
        Ok(Some(crc.finalize()))
    }

    /// Where the last byte that is not zero ends, among the first `len`; 0 if there is none. Reads backwards.
    pub(crate) fn last_non_zero(&self, len: u64) -> Result<u64> {
        let mut piece = vec![0; PIECE.min(len as usize).min(64 << 10)];
        let mut end = len;
        while end > 0 {
            let want = (piece.len() as u64).min(end) as usize;
            let start = end - want as u64;
            let Some(bytes) = piece.get_mut(..want) else { break };
            let read = self.read_at(bytes, start)?;
            if let Some(at) = bytes.iter().take(read).rposition(|&byte| byte != 0) {
                return Ok(start + at as u64 + 1);
            }
            end = start;
            // Long zeros are rare, a short look is the rule: only what goes on is read in larger pieces.
            if piece.len() < PIECE {
                piece.resize(PIECE, 0);
            }
        }
        Ok(0)
    }

    /// The offset of the first byte that is not zero, among the first `len`.
    pub(crate) fn first_non_zero(&self, len: u64) -> Result<Option<u64>> {
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while at < len {
            let read = self.read_at(&mut piece, at)?;
            if let Some(found) = piece.iter().take(read).position(|&byte| byte != 0) {
                return Ok(Some(at + found as u64).filter(|&found| found < len));
            }
            if read < piece.len() {
                break;
            }
            at += read as u64;
        }
        Ok(None)
    }
}

/// Whether a header can be one of a record at all: what tells most of what is none, at the price of a comparison.
#[inline]
pub(crate) fn plausible(format: Format, header: Header) -> bool {
    match format {
        Format::Sealed => header.flags() & !(flag::BARRIER | flag::CONTINUED) == flag::SEALED,
        Format::Reference => header.seal == 0,
    }
}

/// Whether a header that begins at `offset` is one of a record of this format, whatever its length.
#[inline]
pub(crate) fn is_record(format: Format, header: Header, offset: u64) -> bool {
    match format {
        Format::Sealed => matches!(header.unseal(offset), Some(Sealed::Record { .. })),
        Format::Reference => header.seal == 0,
    }
}

/// Whether the next record belongs to the batch of the one with this header.
#[inline]
pub(crate) fn continued(header: Header) -> bool {
    // In the reference format the seal is 0.
    header.flags() & flag::CONTINUED != 0
}

/// A stretch of a file in memory that moves on demand.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: Vec<u8>,
    start: u64,
    filled: usize,
    /// How often it was read into.
    loads: u64,
}

impl Window {
    pub(crate) fn new(len: usize) -> Self {
        Self { bytes: vec![0; len], start: 0, filled: 0, loads: 0 }
    }

    /// How many bytes one look can show at most.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes from `offset` on: at least `want` of them if the file has them and the window is that large.
    pub(crate) fn at(&mut self, source: Source<'_>, offset: u64, want: usize) -> Result<&[u8]> {
        let skip = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let skip = match skip {
            Some(skip) if skip.saturating_add(want) <= self.filled => skip,
            _ => {
                self.forget();
                self.filled = source.read_at(&mut self.bytes, offset)?;
                self.start = offset;
                self.loads += 1;
                0
            }
        };
        Ok(self.bytes.get(skip..self.filled).unwrap_or_default())
    }

    /// How often the file was read so far: what two looks showed was read at once if this did not change between.
    pub(crate) fn loads(&self) -> u64 {
        self.loads
    }

    /// Makes the next look read the file again.
    pub(crate) fn forget(&mut self) {
        self.filled = 0;
    }
}

type Callback = dyn Fn(Progress) -> ControlFlow<()> + Send + Sync;

/// Tells the progress callback how far it is, every few MiB read, and hears whether to stop.
pub(crate) struct Ticker<'a> {
    callback: Option<&'a Callback>,
    total_bytes: u64,
    /// Bytes read since the last call.
    untold: u64,
    /// The furthest place so far: some of the file is read more than once, but progress never goes back.
    bytes: u64,
    records: u64,
}

impl<'a> Ticker<'a> {
    const EVERY: u64 = 4 << 20;

    pub(crate) fn new(callback: Option<&'a Callback>, total_bytes: u64) -> Self {
        Self { callback, total_bytes, untold: 0, bytes: 0, records: 0 }
    }

    /// Nobody listens.
    pub(crate) fn silent() -> Self {
        Self::new(None, 0)
    }

    /// `read` bytes were read up to the place `bytes`, in front of which lie `records`.
    pub(crate) fn tick(&mut self, read: u64, bytes: u64, records: u64) -> Result<()> {
        self.bytes = self.bytes.max(bytes);
        self.records = self.records.max(records);
        self.untold = self.untold.saturating_add(read);
        if self.untold < Self::EVERY { Ok(()) } else { self.tell() }
    }

    /// Tells in any case.
    pub(crate) fn tell(&mut self) -> Result<()> {
        self.untold = 0;
        let Some(callback) = self.callback else { return Ok(()) };
        let Self { bytes, total_bytes, records, .. } = *self;
        match callback(Progress { bytes, total_bytes, records }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped),
        }
    }
}
