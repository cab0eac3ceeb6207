//! Appending without a sync: one by one, in batches, and with a write(2) for each.
//!
//! Each starts a new file every [`FILE_BYTES`], so that no run fills the disk. Creating and removing files is not timed;
//! writing the rest of the buffer is.

use std::fs::File;
use std::hint::black_box;
use std::io::{IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use wally::{Journal, SyncPolicy};

use super::folder::Folder;
use super::{BATCH, BUFFER, header, payload};

/// The bytes written before a new file is started.
const FILE_BYTES: u64 = 32 << 20;

/// The least code that appends: encodes into a buffer and writes it to the file when it is full.
struct Floor {
    file: File,
    buffer: Vec<u8>,
    /// Where the buffer's first byte goes in the file.
    start: u64,
}

impl Floor {
    fn new(folder: &Folder) -> Self {
        Self { file: folder.file(), buffer: Vec::with_capacity(BUFFER), start: 0 }
    }

    #[inline]
    fn append(&mut self, payload: &[u8]) {
        if self.buffer.len() + 16 + payload.len() > BUFFER {
            self.flush();
        }
        let header = header(self.start + self.buffer.len() as u64, payload, 0);
        self.buffer.extend_from_slice(&header);
        self.buffer.extend_from_slice(payload);
    }

    fn flush(&mut self) {
        self.file.write_all_at(&self.buffer, self.start).expect("room on the disk");
        self.start += self.buffer.len() as u64;
        self.buffer.clear();
    }

    /// Appends a batch: into the buffer if it fits, else to the file, headers and payloads in one system call.
    fn append_batch(&mut self, payloads: &[Vec<u8>; BATCH]) {
        let bytes: usize = payloads.iter().map(|payload| 16 + payload.len()).sum();
        if bytes <= BUFFER {
            payloads.iter().for_each(|payload| self.append(payload));
            return;
        }
        let mut offset = self.start;
        let headers: [[u8; 16]; BATCH] = std::array::from_fn(|at| {
            let header = header(offset, &payloads[at], if at + 1 < BATCH { 4 } else { 0 });
            offset += 16 + payloads[at].len() as u64;
            header
        });
        let parts: [IoSlice<'_>; 2 * BATCH] = std::array::from_fn(|at| match at % 2 {
            0 => IoSlice::new(&headers[at / 2]),
            _ => IoSlice::new(&payloads[at / 2]),
        });
        // The file's own position is its end, as nothing else writes to it in this mode.
        let written = self.file.write_vectored(&parts).expect("room on the disk");
        assert_eq!(written, bytes, "a short write");
        self.start = offset;
    }
}

/// Times `rounds` of `work` of `bytes` each, with a new `target` every [`FILE_BYTES`].
fn timed<T>(
    mut rounds: u64,
    bytes: usize,
    target: impl Fn() -> T,
    mut work: impl FnMut(&mut T),
    flush: impl Fn(&mut T),
) -> Duration {
    let mut took = Duration::ZERO;
    while rounds > 0 {
        let now = rounds.min(FILE_BYTES.div_ceil(bytes as u64));
        let mut target = target();
        let start = Instant::now();
        for _ in 0..now {
            work(&mut target);
        }
        flush(&mut target);
        took += start.elapsed();
        rounds -= now;
    }
    took
}

pub fn wally(folder: &Folder, len: usize) -> impl FnMut(u64) -> Duration + '_ {
    let payload = payload(len, 1);
    move |rounds| {
        let work = |journal: &mut Journal| {
            journal.append(black_box(&payload)).expect("an append");
        };
        timed(rounds, len, || folder.journal(SyncPolicy::OnDemand), work, flush)
    }
}

pub fn floor(folder: &Folder, len: usize) -> impl FnMut(u64) -> Duration + '_ {
    let payload = payload(len, 1);
    move |rounds| {
        let work = |floor: &mut Floor| floor.append(black_box(&payload));
        timed(rounds, len, || Floor::new(folder), work, Floor::flush)
    }
}

/// Appends without a buffer, as a log does that writes each record by itself.
pub fn write_each(folder: &Folder, len: usize) -> impl FnMut(u64) -> Duration + '_ {
    let payload = payload(len, 1);
    move |rounds| {
        let target = || (folder.file(), Vec::with_capacity(16 + len), 0);
        let work = |(file, record, offset): &mut (File, Vec<u8>, u64)| {
            record.clear();
            record.extend_from_slice(&header(*offset, black_box(&payload), 0));
            record.extend_from_slice(&payload);
            file.write_all(record).expect("room on the disk");
            *offset += record.len() as u64;
        };
        timed(rounds, len, target, work, |_| ())
    }
}

/// A round is a batch.
pub fn wally_batches(folder: &Folder, len: usize) -> impl FnMut(u64) -> Duration + '_ {
    let payloads = payloads(len);
    move |rounds| {
        let work = |journal: &mut Journal| {
            journal.append_batch(black_box(&payloads)).expect("a batch");
        };
        timed(rounds, len * BATCH, || folder.journal(SyncPolicy::OnDemand), work, flush)
    }
}

/// A round is a batch.
pub fn floor_batches(folder: &Folder, len: usize) -> impl FnMut(u64) -> Duration + '_ {
    let payloads = payloads(len);
    move |rounds| {
        let work = |floor: &mut Floor| floor.append_batch(black_box(&payloads));
        timed(rounds, len * BATCH, || Floor::new(folder), work, Floor::flush)
    }
}

fn payloads(len: usize) -> [Vec<u8>; BATCH] {
    std::array::from_fn(|at| payload(len, at as u64))
}

fn flush(journal: &mut Journal) {
    journal.flush().expect("a flush");
}
