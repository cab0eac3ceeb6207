//! Journal files built by hand, for the unit tests of the folders that read them.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::format::Format;
use crate::format::{Header, encode_gap, flag};

/// The bytes of a file, to which each call adds.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    pub(crate) bytes: Vec<u8>,
    format: Format,
}

pub(crate) const B: u8 = flag::BARRIER;
pub(crate) const C: u8 = flag::CONTINUED;

impl Built {
    pub(crate) fn new(format: Format) -> Self {
        Self { bytes: Vec::new(), format }
    }

    /// A sealed journal with these records, each with its flags.
    pub(crate) fn sealed(records: &[(&[u8], u8)]) -> Self {
        records
            .iter()
            .fold(Self::new(Format::Sealed), |built, (payload, flags)| built.record(payload, *flags))
    }

    pub(crate) fn reference(records: &[&[u8]]) -> Self {
        records.iter().fold(Self::new(Format::Reference), |built, payload| built.record(payload, 0))
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn record(mut self, payload: &[u8], flags: u8) -> Self {
        let (len, crc) = (payload.len() as u64, crc32fast::hash(payload));
        let header = match self.format {
            Format::Sealed => Header::sealed(self.len(), len, crc, flags),
            Format::Reference => Header::reference(len, crc),
        };
        self.bytes.extend_from_slice(&header.encode());
        self.bytes.extend_from_slice(payload);
        self
    }

    /// Adds `n` records of mixed lengths.
    pub(crate) fn many(mut self, n: usize) -> Self {
        for at in 0..n {
            let payload: Vec<u8> = (0..at * 37 % 1500).map(|i| (i * 7 + at) as u8).collect();
            self = self.record(&payload, if at % 5 == 0 { B } else { 0 });
        }
        self
    }

    pub(crate) fn gap(mut self, len: u64, removed: u64) -> Self {
        assert!(self.bytes.is_empty());
        self.bytes = encode_gap(len, removed);
        // A gap is valid whatever lies after its first bytes.
        self.bytes.resize(16 + len as usize, 0xAB);
        if len < 16 {
            self.bytes[16..].fill(0xAB);
        }
        self
    }

    /// Adds the mark that says "the journal ends at `end`".
    pub(crate) fn mark(mut self, end: u64) -> Self {
        let header = Header::mark(self.len(), end);
        self.bytes.extend_from_slice(&header.encode());
        self
    }

    /// Adds the mark of its own place, as a closed journal ends with.
    pub(crate) fn closed(self) -> Self {
        let end = self.len();
        self.mark(end)
    }

    pub(crate) fn zeros(mut self, n: usize) -> Self {
        self.bytes.resize(self.bytes.len() + n, 0);
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Changes the byte at `at`.
    pub(crate) fn damage(mut self, at: u64) -> Self {
        self.bytes[at as usize] ^= 0x55;
        self
    }

    pub(crate) fn file(&self) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&self.bytes).unwrap();
        file
    }
}

/// A built journal as a file, alone in a directory.
pub(crate) struct BuiltFile {
    dir: TempDir,
    pub(crate) path: PathBuf,
}

impl BuiltFile {
    pub(crate) fn new(built: &Built) -> Self {
        // In memory if the system has such a directory, since hundreds of opens sync.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let path = dir.path().join("j");
        let this = Self { dir, path };
        this.becomes(built);
        this
    }

    /// Gives the same file another content.
    pub(crate) fn becomes(&self, built: &Built) {
        std::fs::write(&self.path, &built.bytes).unwrap();
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    /// The number of files in the directory.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(self.dir.path()).unwrap().count()
    }
}
