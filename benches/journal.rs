//! The journal beside its floors: `cargo bench --bench journal`, one or two minutes.
//!
//! A floor is the least code that does the same work on the same file system in the same run: the same bytes
//! encoded with the same checksums and handed to the same file, or the same records found through a plain list of
//! offsets into a plain map, with nothing that makes it a journal (no locks, no watermarks, no publishing to
//! readers). Figures drift from machine to machine and from day to day; the ratio of a line to its floor is what
//! to watch.
//!
//! Files lie in a temporary folder under `WALLY_BENCH_DIR`, else under `TMPDIR`, and are removed at the end. An
//! append bench starts a new file each [`FILE_BYTES`], so that no run fills the disk; that is not timed.
//! `cargo bench --bench journal -- --test` runs each once, to see that they work.
#![allow(unsafe_code)] // A floor for reading needs a map of its own.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memmap2::Mmap;
use wally::{Journal, Options, SyncPolicy};

/// What an append bench writes before it starts a new file.
const FILE_BYTES: u64 = 32 << 20;

/// The journal's staging buffer, and that of the floors.
const BUFFER: usize = 256 << 10;

/// Records in a batch.
const BATCH: usize = 64;

/// Records of [`READ_LEN`] bytes in the journal that is read.
const RECORDS: u64 = 1 << 18;
const READ_LEN: usize = 256;

/// A folder that is removed at the end, and names in it.
struct Folder {
    dir: tempfile::TempDir,
    next: Cell<u64>,
}

impl Folder {
    fn new() -> Self {
        let builder = tempfile::Builder::new();
        let dir = match std::env::var_os("WALLY_BENCH_DIR") {
            Some(root) => builder.tempdir_in(root),
            None => builder.tempdir(),
        };
        Self { dir: dir.expect("a temporary folder"), next: Cell::new(0) }
    }

    fn path(&self) -> PathBuf {
        self.next.set(self.next.get() + 1);
        self.dir.path().join(format!("{}.wally", self.next.get()))
    }

    /// A journal that takes its file along when it is dropped.
    fn journal(&self, policy: SyncPolicy) -> Journal {
        let mut options = Options::new();
        options.sync(policy).buffer_size(BUFFER).delete_on_close(true);
        options.open(self.path()).expect("a new journal")
    }

    fn floor(&self) -> Floor {
        Floor::new(&self.path())
    }
}

/// The least code that appends: encodes into a buffer, hands it to the file when it is full.
struct Floor {
    file: File,
    buffer: Vec<u8>,
    /// Where the buffer's first byte goes in the file.
    start: u64,
}

impl Floor {
    fn new(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).expect("a new file");
        std::fs::remove_file(path).expect("a file without a name");
        Self { file, buffer: Vec::with_capacity(BUFFER), start: 0 }
    }

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

    fn append_durably(&mut self, payload: &[u8]) {
        self.append(payload);
        self.flush();
        self.file.sync_data().expect("a sync");
    }

    /// A batch that fits goes into the buffer; one that does not goes out as it is, headers and payloads in one
    /// system call.
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

/// A sealed header, from the format's table.
fn header(offset: u64, payload: &[u8], flags: u8) -> [u8; 16] {
    let mut sealed = [0; 21];
    sealed[..8].copy_from_slice(&offset.to_le_bytes());
    sealed[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    sealed[16..20].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    sealed[20] = flags | 1;
    let seal = crc32fast::hash(&sealed) & 0xFFFF_FF00 | u32::from(sealed[20]);
    let mut header = [0; 16];
    header[..12].copy_from_slice(&sealed[8..20]);
    header[12..].copy_from_slice(&seal.to_le_bytes());
    header
}

/// Times `rounds` of `work`, with a new `target` each [`FILE_BYTES`]. What is staged is handed to the file within
/// the time; making and removing the file is not.
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

fn append(c: &mut Criterion) {
    let folder = Folder::new();
    for len in [64, 256, 4096] {
        let payload = payload(len, 1);
        let mut group = c.benchmark_group(format!("append/{len}"));
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function("floor", |b| {
            b.iter_custom(|rounds| {
                timed(rounds, len, || folder.floor(), |floor| floor.append(black_box(&payload)), Floor::flush)
            });
        });
        group.bench_function("wally", |b| {
            b.iter_custom(|rounds| {
                timed(
                    rounds,
                    len,
                    || folder.journal(SyncPolicy::OnDemand),
                    |journal| {
                        journal.append(black_box(&payload)).expect("an append");
                    },
                    |journal| journal.flush().expect("a flush"),
                )
            });
        });
        group.finish();
    }
}

fn batch(c: &mut Criterion) {
    let folder = Folder::new();
    for len in [256, 4096] {
        let payloads: [Vec<u8>; BATCH] = std::array::from_fn(|at| payload(len, at as u64));
        let bytes = len * BATCH;
        let mut group = c.benchmark_group(format!("batch of {BATCH}/{len}"));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function("floor", |b| {
            b.iter_custom(|rounds| {
                let work = |floor: &mut Floor| floor.append_batch(black_box(&payloads));
                timed(rounds, bytes, || folder.floor(), work, Floor::flush)
            });
        });
        group.bench_function("wally", |b| {
            b.iter_custom(|rounds| {
                timed(
                    rounds,
                    bytes,
                    || folder.journal(SyncPolicy::OnDemand),
                    |journal| {
                        journal.append_batch(black_box(&payloads)).expect("a batch");
                    },
                    |journal| journal.flush().expect("a flush"),
                )
            });
        });
        group.finish();
    }
}

/// One thread: each append waits for its own sync. The floor grows its file with each append, as a file does.
fn durable(c: &mut Criterion) {
    let folder = Folder::new();
    let len = 256;
    let payload = payload(len, 1);
    let mut group = c.benchmark_group(format!("durable append/{len}"));
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function("floor", |b| {
        b.iter_custom(|rounds| {
            let work = |floor: &mut Floor| floor.append_durably(black_box(&payload));
            timed(rounds, len, || folder.floor(), work, |_| ())
        });
    });
    group.bench_function("wally", |b| {
        b.iter_custom(|rounds| {
            timed(
                rounds,
                len,
                || folder.journal(SyncPolicy::Always),
                |journal| {
                    journal.append(black_box(&payload)).expect("an append");
                },
                |_| (),
            )
        });
    });
    group.finish();
}

/// The least code that reads: where each record begins, and a map of the file.
struct ReadFloor {
    map: Mmap,
    offsets: Vec<u64>,
}

impl ReadFloor {
    fn new(path: &Path, offsets: Vec<u64>) -> Self {
        let file = File::open(path).expect("the journal's file");
        // SAFETY: nobody writes to the file or cuts it while it is mapped: the journal it belongs to has no
        // appends left to do, and its folder is this process's own.
        let map = unsafe { Mmap::map(&file) }.expect("a map");
        Self { map, offsets }
    }

    fn get(&self, index: u64) -> &[u8] {
        self.at(self.offsets[index as usize - 1] as usize)
    }

    fn at(&self, offset: usize) -> &[u8] {
        let len = u64::from_le_bytes(self.map[offset..offset + 8].try_into().expect("eight bytes"));
        &self.map[offset + 16..offset + 16 + len as usize]
    }

    fn checked(&self, index: u64, into: &mut Vec<u8>) -> bool {
        let offset = self.offsets[index as usize - 1] as usize;
        let crc = u32::from_le_bytes(self.map[offset + 8..offset + 12].try_into().expect("four bytes"));
        let record = self.at(offset);
        into.clear();
        into.extend_from_slice(record);
        crc32fast::hash(record) == crc
    }

    /// The record at `offset`, which moves on to the next one, and from the last to the first.
    fn next(&self, offset: &mut usize) -> &[u8] {
        let record = self.at(*offset);
        *offset += 16 + record.len();
        if *offset == self.map.len() {
            *offset = 0;
        }
        record
    }
}

/// What a bench does with a record that it read: both ends, so that it is really there.
fn touch(record: &[u8]) -> u8 {
    record[0] ^ record[record.len() - 1]
}

fn read(c: &mut Criterion) {
    let folder = Folder::new();
    let path = folder.path();
    let journal = Options::new().sync(SyncPolicy::OnDemand).open(&path).expect("a new journal");
    for index in 1..=RECORDS {
        journal.append(&payload(READ_LEN, index)).expect("an append");
    }
    journal.flush().expect("a flush");
    let offsets =
        (1..=RECORDS).map(|index| journal.data_range(index).expect("a record").start - 16).collect();
    let floor = ReadFloor::new(&path, offsets);
    // The same order for all, far longer than what a processor learns by heart.
    let random: Vec<u64> = (0..RECORDS).map(|at| 1 + noise(at) % RECORDS).collect();
    let forward: Vec<u64> = (1..=RECORDS).collect();
    fn next(order: &[u64], at: &mut usize) -> u64 {
        *at = (*at + 1) & (order.len() - 1);
        order[*at]
    }

    let mut group = c.benchmark_group(format!("checked read, random/{READ_LEN}"));
    group.throughput(Throughput::Bytes(READ_LEN as u64));
    let mut buffer = Vec::with_capacity(READ_LEN);
    group.bench_function("floor", |b| {
        let mut at = 0;
        b.iter(|| assert!(floor.checked(next(&random, &mut at), &mut buffer)));
    });
    group.bench_function("Journal::read_into", |b| {
        let mut at = 0;
        b.iter(|| journal.read_into(next(&random, &mut at), &mut buffer).expect("a record"));
    });
    group.finish();

    for (name, order) in [("random", &random), ("forward", &forward)] {
        let mut group = c.benchmark_group(format!("zero-copy read, {name}/{READ_LEN}"));
        group.throughput(Throughput::Bytes(READ_LEN as u64));
        group.bench_function("floor", |b| {
            let (mut at, mut offset) = (0, 0);
            match name {
                "forward" => b.iter(|| touch(floor.next(&mut offset))),
                _ => b.iter(|| touch(floor.get(next(order, &mut at)))),
            }
        });
        let mut reader = journal.reader();
        group.bench_function("Reader::get", |b| {
            let mut at = 0;
            b.iter(|| touch(reader.get(next(order, &mut at)).expect("a record")));
        });
        group.bench_function("Journal::read_ref", |b| {
            let mut at = 0;
            b.iter(|| touch(&journal.read_ref(next(order, &mut at)).expect("a record")));
        });
        group.finish();
    }

    let mut group = c.benchmark_group(format!("scan/{READ_LEN}"));
    group.throughput(Throughput::Bytes(RECORDS * READ_LEN as u64));
    group.bench_function("floor", |b| {
        b.iter(|| {
            let mut offset = 0;
            (0..RECORDS).fold(0, |sum, _| sum ^ touch(floor.next(&mut offset)))
        });
    });
    let snapshot = journal.snapshot();
    group.bench_function("Snapshot::iter", |b| {
        b.iter(|| snapshot.iter().fold(0, |sum, (_, record)| sum ^ touch(record)));
    });
    group.finish();
}

/// Bytes that are the same in every run.
fn payload(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|at| noise(seed << 32 | at) as u8).collect()
}

/// SplitMix64's mixing of one number.
fn noise(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ n >> 31
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = benches;
    config = settings();
    targets = append, batch, durable, read
}
criterion_main!(benches);
