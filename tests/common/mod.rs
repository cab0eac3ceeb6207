//! What the tests share.
#![allow(dead_code, unreachable_pub)]

pub mod built;
pub mod command;
pub mod content;
pub mod disk;
pub mod mounted;
pub mod rng;
pub mod seam;

use std::path::PathBuf;

/// A directory of its own, and a path in it where there is no file yet.
pub fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    (dir, path)
}

/// A directory in memory where there is one, so that syncs cost nothing.
pub fn fast_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The same in memory, where the system offers that: for tests that sync very often.
pub fn place_in_memory() -> (tempfile::TempDir, PathBuf) {
    let dir = fast_dir();
    let path = dir.path().join("journal");
    (dir, path)
}

/// `len` bytes that tell records of different `salt` and different places apart.
pub fn payload(salt: u64, len: usize) -> Vec<u8> {
    let mut x = salt.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes.extend_from_slice(&x.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Brings an empty journal past the first few syncs, which preallocate nothing, and leaves it empty.
pub fn past_the_first_syncs(journal: &wally::Journal) {
    for _ in 0..8 {
        journal.append(b"x").unwrap();
        journal.sync().unwrap();
    }
    journal.truncate_back(0).unwrap();
}

/// Lets other threads run until `done`. What is waited for happens for certain, so there is no limit and no clock.
pub fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::yield_now();
    }
}
