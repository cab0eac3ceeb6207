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
