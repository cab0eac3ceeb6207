//! Reading: a round is a record, or a pass over all records in a scan.
#![allow(unsafe_code)] // A floor for reading needs a map of its own.

use std::fs::File;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memmap2::{Mmap, MmapMut, MmapOptions};
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

/// A journal to read, and its floors.
pub struct ReadSet {
    pub journal: Journal,
    pub floor: ReadFloor,
    flat: FlatFloor,
    records: u64,
    /// A random order of indexes that all sides share, far longer than what a branch predictor can learn.
    random: Vec<u64>,
}

/// The least code that reads: where each record begins, and a map of the file.
pub struct ReadFloor {
    map: Mmap,
    offsets: Vec<u64>,
    end: usize,
}

/// The flat array: entries in memory that was reserved for more of them, each a distance from the base of 4096, a count
/// that readers load with acquire, and a map of the file. What a journal's index does, without a view that can change,
/// a cut, or a record that is far away.
struct FlatFloor {
    map: Mmap,
    distances: MmapMut,
    bases: Vec<u64>,
    count: AtomicU64,
}

/// Entries that share a base.
const GROUP: u64 = 4096;

/// Entries that memory is reserved for.
const RESERVED: usize = 1 << 30;

impl ReadSet {
    pub fn new(folder: &Folder) -> Self {
        Self::of(folder, 1 << 18, LEN)
    }

    /// One of `records` of `len` bytes each; of fewer when only to see that it works.
    pub fn of(folder: &Folder, records: u64, len: usize) -> Self {
        let records = if quick() { records.min(1 << 10) } else { records };
        let journal = folder.journal(SyncPolicy::OnDemand);
        // Windows of one stretch of noise: quicker than noise for each, and still no two neighbours alike.
        let noise_of_all = payload(2 * len + 4096, 1);
        for n in 0..records as usize {
            let from = n % (len + 4096);
            journal.append(&noise_of_all[from..from + len]).expect("an append");
        }
        journal.flush().expect("a flush");
        let floor = ReadFloor::new(&journal);
        let flat = FlatFloor::new(&journal, &floor);
        let order = records.next_power_of_two().min(1 << 22);
        let random = (0..order).map(|at| 1 + noise(at) % records).collect();
        Self { journal, floor, flat, records, random }
    }

    pub fn records(&self) -> u64 {
        self.records
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

    /// Random reads through the flat array.
    pub fn flat(&self, threads: usize, rounds: u64) -> Duration {
        spread(threads, rounds, BLOCK, |thread| {
            let mut at = self.begin(thread);
            move |rounds| {
                for _ in 0..rounds {
                    let n = self.next(&mut at);
                    black_box(touch(self.flat.get(n).expect("a record")));
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

    /// A round is a pass through the flat array.
    pub fn scan_flat(&self, rounds: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..rounds {
            let record = |n| self.flat.get(n).expect("a record");
            black_box((1..=self.records).fold(0, |sum, n| sum ^ touch(record(n))));
        }
        start.elapsed()
    }

    /// Threads begin at different places of the one order.
    fn begin(&self, thread: usize) -> usize {
        noise(thread as u64) as usize & (self.random.len() - 1)
    }
}

fn mapped(journal: &Journal) -> Mmap {
    let file = File::open(journal.path()).expect("the journal's file");
    // SAFETY: what is read of this map is the records that were committed before it was made. They are never
    // written to again: the journal only appends behind them, and its folder is this process's own.
    unsafe { Mmap::map(&file) }.expect("a map")
}

impl FlatFloor {
    fn new(journal: &Journal, floor: &ReadFloor) -> Self {
        let mut reserved = MmapOptions::new();
        let distances = reserved.len(4 * RESERVED).no_reserve_swap().map_anon().expect("address space");
        let count = AtomicU64::new(floor.offsets.len() as u64);
        let mut flat = Self { map: mapped(journal), distances, bases: Vec::new(), count };
        let mut base = 0;
        for (at, &offset) in floor.offsets.iter().chain([&(floor.end as u64)]).enumerate() {
            flat.distances()[at].store((offset - base) as u32, Ordering::Relaxed);
            if (at as u64).is_multiple_of(GROUP) {
                base = offset;
                flat.bases.push(base);
            }
        }
        flat
    }

    #[inline]
    fn distances(&self) -> &[AtomicU32] {
        // SAFETY: the map is of so many words, begins at a page and has no other name; zeros are atomics.
        unsafe { std::slice::from_raw_parts(self.distances.as_ptr().cast(), RESERVED) }
    }

    #[inline]
    fn get(&self, n: u64) -> Option<&[u8]> {
        let at = n.wrapping_sub(1);
        if at >= self.count.load(Ordering::Acquire) {
            return None;
        }
        let [start, end] = self.distances().get(at as usize..)?.first_chunk()?;
        let base = *self.bases.get((at / GROUP) as usize)?;
        // A distance is from the base of the entry before, so the first of a group is the base itself.
        let start = if at.is_multiple_of(GROUP) { 0 } else { start.load(Ordering::Relaxed) };
        let (start, end) = (base + u64::from(start), base + u64::from(end.load(Ordering::Relaxed)));
        self.map.get(start as usize + 16..end as usize)
    }
}

impl ReadFloor {
    fn new(journal: &Journal) -> Self {
        let map = mapped(journal);
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
