//! Reads a file with `pread` and nothing else, so that an unreadable sector is an error and not a signal. How much memory
//! is taken does not depend on what a length field says.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::file::{open_read_only, read_full_at};
use crate::format::{HEADER_LEN, Header};

/// The number of bytes that are read at a time where a payload is streamed.
const PIECE: usize = 1 << 20;

/// A file that was opened for reading only.
#[derive(Debug)]
pub(crate) struct SourceFile {
    file: File,
    path: PathBuf,
}

impl SourceFile {
    /// Opens the file at `path`. Never blocks, and refuses everything but regular files.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self { file: open_read_only(path)?, path: path.to_owned() })
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source::new(&self.file, &self.path)
    }
}

/// A file to read, and the path that errors name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    file: &'a File,
    path: &'a Path,
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a File, path: &'a Path) -> Self {
        Self { file, path }
    }

    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }

    pub(crate) fn error(&self, op: &'static str, source: io::Error) -> Error {
        Error::io(op, self.path, source)
    }

    pub(crate) fn metadata(&self) -> Result<Metadata> {
        self.file.metadata().map_err(|e| Error::io("stat", self.path, e))
    }

    pub(crate) fn len(&self) -> Result<u64> {
        Ok(self.metadata()?.len())
    }

    /// Reads at `offset` until `buf` is full or the file ends. Returns the number of bytes read.
    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        read_full_at(self.file, buf, offset).map_err(|e| Error::io("read", self.path, e))
    }

    /// Reads the header at `offset`. Returns `None` if the file ends before the header does.
    pub(crate) fn header_at(&self, offset: u64) -> Result<Option<Header>> {
        let mut bytes = [0; 16];
        let whole = self.read_at(&mut bytes, offset)? == bytes.len();
        Ok(whole.then(|| Header::decode(&bytes)))
    }

    /// Returns `true` if the payload of the record at `offset` has the CRC that `header` states.
    pub(crate) fn payload_matches(&self, header: Header, offset: u64) -> Result<bool> {
        let mut piece = Vec::with_capacity(header.len.min(PIECE as u64) as usize);
        let crc = self.crc(offset.saturating_add(HEADER_LEN), header.len, &mut piece, |_| true)?;
        Ok(crc == Some(header.crc))
    }

    /// Computes the CRC of `len` bytes at `offset`, which it reads in pieces. Before each piece it calls `go_on` with the
    /// piece's length. Returns `None` if `go_on` returned `false`, or if the file ends before.
    pub(super) fn crc(
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

    /// Returns the offset at which the zeros at the end of the first `len` bytes begin: `len` if there are none. Reads
    /// backwards.
    pub(super) fn zeros_from(&self, len: u64) -> Result<u64> {
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
            // Most files end in few zeros, so larger pieces are read only if the first holds nothing else.
            if piece.len() < PIECE {
                piece.resize(PIECE, 0);
            }
        }
        Ok(0)
    }

    /// Returns the offset of the first byte that is not zero, among the first `len`.
    pub(super) fn first_non_zero(&self, len: u64) -> Result<Option<u64>> {
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
