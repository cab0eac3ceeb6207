//! Reading: a round is a record, or a pass over all records in a scan.
#![allow(unsafe_code)] // A floor for reading needs a map of its own.

use std::fs::File;
use std::hint::black_box;
use std::time::{Duration, Instant};

use memmap2::Mmap;
use wally::{Journal, SyncPolicy};

use super::folder::Folder;
use super::threads::{beside, spread};
use super::{noise, payload, quick, touch};

/// Bytes of a record that is read.
pub const LEN: usize = 256;

/// The number of reads that a thread does before it looks whether there are more to do.
const BLOCK: u64 = 4096;

/// About how long a writer beside readers lets its file become, before the next piece gets a new one.
const FILE_BYTES: u64 = 512 << 20;

/// A journal to read, and its floor.
pub struct ReadSet {
    pub journal: Journal,
    pub floor: ReadFloor,
    /// A random order of indexes that all sides share, far longer than what a branch predictor can learn.
    random: Vec<u64>,
}

/// The least code that reads: where each record begins, and a map of the file.
pub struct ReadFloor {
    map: Mmap,
    offsets: Vec<u64>,
    end: usize,
}

impl ReadSet {
    pub fn new(folder: &Folder) -> Self {
        let records: u64 = if quick() { 1 << 10 } else { 1 << 18 };
        let journal = folder.journal(SyncPolicy::OnDemand);
        for n in 1..=records {
            journal.append(&payload(LEN, n)).expect("an append");
        }
        journal.flush().expect("a flush");
        let floor = ReadFloor::new(&journal);
        let random = (0..records).map(|at| 1 + noise(at) % records).collect();
        Self { journal, floor, random }
    }

    pub fn records(&self) -> u64 {
        self.random.len() as u64
    }

    /// Creates a new journal if a writer has made this one long.
    pub fn renew(&mut self, folder: &Folder) {
        if self.journal.stats().committed_bytes > FILE_BYTES {
            *self = Self::new(folder);
        }
    }

    /// Returns the next index of the random order.
    #[inline]
    pub fn next(&self, at: &mut usize) -> u64 {
        *at = (*at + 1) & (self.random.len() - 1);
        self.random[*at]
    }

    /// Reads random records through a `Reader` on each of `threads`.
    pub fn wally(&self, threads: usize, rounds: u64) -> Duration {
        spread(threads, rounds, BLOCK, |thread| {
            let mut reader = self.journal.reader();
            let mut at = self.begin(thread);
            move |rounds| {
                for _ in 0..rounds {
                    let n = self.next(&mut at);
                    black_box(touch(reader.get(n).expect("a record")));
                }
            }
        })
    }

    pub fn floor(&self, threads: usize, rounds: u64) -> Duration {
        spread(threads, rounds, BLOCK, |thread| {
            let mut at = self.begin(thread);
            move |rounds| {
                for _ in 0..rounds {
                    let n = self.next(&mut at);
                    black_box(touch(self.floor.get(n)));
                }
            }
        })
    }

    /// Runs `work` while a writer appends as fast as it can. Returns also the records a second that the writer appended.
    pub fn while_writing<T>(&self, work: impl FnOnce() -> T) -> (T, f64) {
        let record = payload(LEN, 0);
        let append = || {
            self.journal.append(&record).expect("an append");
        };
        let (result, times, took) = beside(append, work);
        (result, times as f64 / took.as_secs_f64())
    }

    /// A round is a pass.
    pub fn scan(&self, rounds: u64) -> Duration {
        let snapshot = self.journal.snapshot();
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(snapshot.iter().fold(0, |sum, (_, record)| sum ^ touch(record)));
        }
        start.elapsed()
    }

    /// A round is a pass.
    pub fn scan_floor(&self, rounds: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(self.floor.scan());
        }
        start.elapsed()
    }

    /// Threads begin at different places of the one order.
    fn begin(&self, thread: usize) -> usize {
        noise(thread as u64) as usize & (self.random.len() - 1)
    }
}

impl ReadFloor {
    fn new(journal: &Journal) -> Self {
        let file = File::open(journal.path()).expect("the journal's file");
        // SAFETY: only records that were committed before the map was made are read through it. They are never
        // written to again: the journal only appends after them, and its folder belongs to this process alone.
        let map = unsafe { Mmap::map(&file) }.expect("a map");
        let extent = |n| journal.data_range(n).expect("a record");
        let last = journal.committed_index();
        let offsets = (1..=last).map(|n| extent(n).start - 16).collect();
        Self { map, offsets, end: extent(last).end as usize }
    }

    #[inline]
    pub fn get(&self, n: u64) -> &[u8] {
        self.at(self.offsets[n as usize - 1] as usize)
    }

    #[inline]
    fn at(&self, offset: usize) -> &[u8] {
        let len = u64::from_le_bytes(self.map[offset..offset + 8].try_into().expect("eight bytes"));
        &self.map[offset + 16..offset + 16 + len as usize]
    }

    /// Copies record `n` into `into`. Returns `true` if its checksum holds.
    pub fn checked(&self, n: u64, into: &mut Vec<u8>) -> bool {
        let offset = self.offsets[n as usize - 1] as usize;
        let crc = u32::from_le_bytes(self.map[offset + 8..offset + 12].try_into().expect("four bytes"));
        let record = self.at(offset);
        into.clear();
        into.extend_from_slice(record);
        crc32fast::hash(record) == crc
    }

    /// Returns the record at `offset` and moves `offset` to the next one, from the last to the first.
    pub fn next(&self, offset: &mut usize) -> &[u8] {
        let record = self.at(*offset);
        *offset += 16 + record.len();
        if *offset == self.end {
            *offset = 0;
        }
        record
    }

    fn scan(&self) -> u8 {
        let (mut offset, mut sum) = (0, 0);
        while offset < self.end {
            let record = self.at(offset);
            offset += 16 + record.len();
            sum ^= touch(record);
        }
        sum
    }
}
