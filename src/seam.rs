//! The fault seam: where this crate's own tests see, delay and refuse what a journal asks of the system. It is public only
//! with the feature `__seam`, which is no part of the public API and carries no promise.
#![allow(missing_docs)]
#![cfg_attr(
    not(feature = "__seam"),
    allow(dead_code, unreachable_pub, reason = "only the tests make use of it")
)]

use std::io::IoSlice;

/// Which file is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Journal,
    Quarantine,
    Directory,
}

/// What a journal asks of the system.
#[derive(Debug)]
pub enum Op<'a> {
    /// One attempt to write; what a short write left comes as another.
    Write { offset: u64, parts: &'a [IoSlice<'a>] },
    /// One attempt to append so many zeros at the file's end.
    Extend { len: u64 },
    /// fdatasync or fsync.
    Sync,
    /// ftruncate.
    Truncate { len: u64 },
    /// mmap of the journal.
    Map { len: u64 },
    /// The memory that keeps lent pages when the file is cut.
    Preserve { bytes: u64 },
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Proceed,
    /// Fail with this OS error code without doing anything.
    Fail(i32),
    /// Write at most so many bytes.
    Short(usize),
}

/// Sees each operation before and after it happens. Called with the journal's locks held: it must not call the
/// journal, but for what takes no lock.
pub trait Seam: Send + Sync {
    fn before(&self, role: Role, op: &Op<'_>) -> Verdict {
        let _ = (role, op);
        Verdict::Proceed
    }

    /// `done` tells how many bytes were written, or that it succeeded (0), if it did.
    fn after(&self, role: Role, op: &Op<'_>, done: Option<usize>) {
        let _ = (role, op, done);
    }
}

/// The format's bytes, for the fuzzers.
#[cfg(feature = "__seam")]
pub mod format {
    use crate::format::{Gap, Header, Sealed, record_end};

    /// A header's fields: `len`, `crc`, `seal`.
    pub type Fields = (u64, u32, u32);

    /// What a header whose check holds stands for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Kind {
        Record { barrier: bool, continued: bool },
        Gap,
        Mark,
        Newer,
        Invalid,
    }

    pub fn decode(bytes: &[u8; 16]) -> Fields {
        fields(Header::decode(bytes))
    }

    pub fn decode_at(bytes: &[u8], at: usize) -> Option<Fields> {
        Header::decode_at(bytes, at).map(fields)
    }

    pub fn encode(header: Fields) -> [u8; 16] {
        of(header).encode()
    }

    /// The fields of a record's header at `offset`; `flags` without `SEALED`.
    pub fn sealed(offset: u64, len: u64, crc: u32, flags: u8) -> Fields {
        fields(Header::sealed(offset, len, crc, flags))
    }

    pub fn mark(offset: u64, end: u64) -> Fields {
        fields(Header::mark(offset, end))
    }

    pub fn unseal(header: Fields, offset: u64) -> Option<Kind> {
        Some(match of(header).unseal(offset)? {
            Sealed::Record { barrier, continued } => Kind::Record { barrier, continued },
            Sealed::Gap => Kind::Gap,
            Sealed::Mark => Kind::Mark,
            Sealed::Newer => Kind::Newer,
            Sealed::Invalid => Kind::Invalid,
        })
    }

    /// Where a record with `len` bytes of payload ends.
    pub fn end(offset: u64, len: u64) -> Option<u64> {
        record_end(offset, len)
    }

    /// How many records a gap stands for.
    pub fn gap(header: Fields, payload: &[u8]) -> Option<u64> {
        Gap::decode(of(header), payload).map(|gap| gap.removed)
    }

    fn fields(header: Header) -> Fields {
        (header.len, header.crc, header.seal)
    }

    fn of((len, crc, seal): Fields) -> Header {
        Header { len, crc, seal }
    }
}

/// The index, for the bench of its growth.
#[cfg(feature = "__seam")]
pub mod index {
    use std::io;

    use crate::index::IndexWriter;
    use crate::options::IndexMode;

    /// The writer's side of a full index.
    #[derive(Debug)]
    pub struct Entries(IndexWriter);

    impl Entries {
        /// An index without records.
        pub fn empty() -> Self {
            Self(IndexWriter::new(IndexMode::Full, 1, 0))
        }

        /// What an append does: adds a record that ends at `end`.
        #[inline]
        pub fn push(&mut self, end: u64) -> io::Result<()> {
            self.0.reserve(1)?;
            self.0.push(end);
            Ok(())
        }

        pub fn bytes(&self) -> u64 {
            self.0.bytes()
        }
    }
}
