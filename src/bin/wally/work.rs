//! The work that `wally bench` times: each kind runs for a given time on journals in a folder of its own.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wally::{Journal, Options, Result, SyncPolicy};

use crate::outcome::{Failure, OTHER};

/// A round that appends stops when its file has so many bytes, however fast the disk is.
pub(crate) const APPEND_BYTES: u64 = 128 << 20;

/// Bytes of payload in the journal that is read, if there is time to write so much. It is there twice: once open, to
/// be read, once closed, to be opened.
pub(crate) const READ_BYTES: u64 = 64 << 20;

/// The length of the records that are read, and of those whose append is durable.
const LEN: usize = 256;

/// The number of records between two looks at the clock.
const UNCLOCKED: u64 = 64;

/// A kind of work to time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Appends of so many bytes, written to the file when the time is up at the latest, never synced.
    Append { len: usize },
    /// Appends that are durable when they return, by so many threads.
    AppendDurable { threads: usize },
    /// `Journal::read_into` of random records: a copy, its checksum checked.
    ReadInto { threads: usize },
    /// `Reader::get` of random records: no copy; the first and the last byte are looked at.
    ReaderGet { threads: usize },
    /// All records in order, through a `Snapshot`.
    Scan,
    /// Opening a journal: every checksum checked, the index built.
    Reopen,
}

impl Work {
    /// Returns all kinds of work, for a machine that runs so many threads at once.
    pub(crate) fn all(cpus: usize) -> Vec<Self> {
        let mut all: Vec<_> = [64, 256, 4 << 10, 64 << 10].map(|len| Self::Append { len }).into();
        all.extend([1, 8, 64].map(|threads| Self::AppendDurable { threads }));
        all.extend([1, cpus].map(|threads| Self::ReadInto { threads }));
        all.extend([1, cpus].map(|threads| Self::ReaderGet { threads }));
        all.extend([Self::Scan, Self::Reopen]);
        // With one processor, two kinds are the same.
        all.dedup();
        all
    }

    /// Returns the name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Append { .. } => "append",
            Self::AppendDurable { .. } => "append_durable",
            Self::ReadInto { .. } => "read_into",
            Self::ReaderGet { .. } => "reader_get",
            Self::Scan => "scan",
            Self::Reopen => "reopen",
        }
    }

    /// Returns the name in the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Append { .. } => "append, no sync",
            Self::AppendDurable { .. } => "append, durable",
            Self::ReadInto { .. } => "random read, copied and checked",
            Self::ReaderGet { .. } => "random read, no copy",
            Self::Scan => "scan, no copy",
            Self::Reopen => "reopen, all checked",
        }
    }

    /// Returns the length of its records in bytes.
    pub(crate) fn len(self) -> usize {
        if let Self::Append { len } = self { len } else { LEN }
    }

    /// Returns the number of threads that do it; 0 if the library decides how many it starts.
    pub(crate) fn threads(self) -> usize {
        match self {
            Self::AppendDurable { threads } | Self::ReadInto { threads } | Self::ReaderGet { threads } => {
                threads
            }
            Self::Append { .. } | Self::Scan => 1,
            Self::Reopen => 0,
        }
    }
}

/// How long work is to run.
#[derive(Clone, Copy)]
pub(crate) struct Slice<'a> {
    pub(crate) time: Duration,
    /// The number of the signal that came; 0 if none did.
    pub(crate) signal: &'a AtomicUsize,
}

/// A slice that has begun. It ends when the time is up, or when a signal comes.
#[derive(Clone, Copy)]
struct Clock<'a> {
    began: Instant,
    slice: Slice<'a>,
}

impl<'a> Slice<'a> {
    fn begin(self) -> Clock<'a> {
        Clock { began: Instant::now(), slice: self }
    }
}

impl Clock<'_> {
    /// Returns `true` if there is time for more. If nothing was `done` yet there always is, so that slow work is timed once.
    fn runs(&self, done: u64) -> bool {
        let over = self.slice.signal.load(Ordering::Relaxed) != 0 || self.began.elapsed() >= self.slice.time;
        done == 0 || !over
    }

    /// Returns the sample of `records` since the beginning.
    fn stop(&self, records: u64) -> Sample {
        Sample { records, took: self.began.elapsed(), per_sync: None }
    }
}

/// The number of records that were handled, and the time.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sample {
    pub(crate) records: u64,
    pub(crate) took: Duration,
    /// Records that one sync made durable, on average.
    pub(crate) per_sync: Option<f64>,
}

impl Sample {
    pub(crate) fn per_second(&self) -> f64 {
        self.records as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// A folder to work in, and the journal that is read.
///
/// Files keep their names while they are measured, since some file systems skip the sync of a file without a name. So the
/// caller that made the folder removes it.
pub(crate) struct Ground {
    folder: PathBuf,
    filled: Journal,
    records: u64,
}

impl Ground {
    /// Writes the journal that is read, for the time of `slice` at most.
    pub(crate) fn prepare(folder: &Path, slice: Slice<'_>) -> Result<Self, Failure> {
        let (filled, closed) = (folder.join("read.wally"), folder.join("closed.wally"));
        let journal = open(&closed)?;
        let mut payload = payload(LEN);
        let clock = slice.begin();
        let mut records = 0;
        while clock.runs(records) && records < READ_BYTES / LEN as u64 {
            for _ in 0..UNCLOCKED {
                if let Some(number) = payload.first_chunk_mut() {
                    *number = u64::to_le_bytes(records);
                }
                records = journal.append(&payload)?;
            }
        }
        journal.close()?;
        fs::copy(&closed, &filled)
            .map_err(|error| Failure::new(OTHER, format!("write {}: {error}", filled.display())))?;
        Ok(Self { folder: folder.to_owned(), filled: open(&filled)?, records })
    }

    /// Returns the number of records in the journal that is read.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Does `work` for the time of `slice`.
    pub(crate) fn measure(&self, work: Work, slice: Slice<'_>) -> Result<Sample> {
        match work {
            Work::Append { len } => self.append(len, slice),
            Work::AppendDurable { threads } => self.append_durable(threads, slice),
            Work::ReadInto { threads } => self.read_into(threads, slice),
            Work::ReaderGet { threads } => self.reader_get(threads, slice),
            Work::Scan => Ok(self.scan(slice)),
            Work::Reopen => self.reopen(slice),
        }
    }

    /// Creates a journal, whose file is removed when it is dropped.
    fn new_journal(&self, sync: SyncPolicy) -> Result<Journal> {
        Options::new().sync_policy(sync).delete_on_close(true).open(self.folder.join("append.wally"))
    }

    fn append(&self, len: usize, slice: Slice<'_>) -> Result<Sample> {
        let journal = self.new_journal(SyncPolicy::OnDemand)?;
        let payload = payload(len);
        // By bytes: with long records, a fixed number would take too long between two looks at the clock.
        let unclocked = (UNCLOCKED << 10).div_ceil(len as u64);
        let most = APPEND_BYTES / (len as u64 + 16);
        let mut records = 0;
        let clock = slice.begin();
        while clock.runs(records) && records < most {
            for _ in 0..unclocked {
                records = journal.append(&payload)?;
            }
        }
        journal.flush()?;
        Ok(clock.stop(records))
    }

    fn append_durable(&self, threads: usize, slice: Slice<'_>) -> Result<Sample> {
        let journal = self.new_journal(SyncPolicy::Always)?;
        let payload = payload(LEN);
        let sample = together(threads, slice, |_, clock| {
            let mut records = 0;
            while clock.runs(records) {
                journal.append(&payload)?;
                records += 1;
            }
            Ok(records)
        })?;
        Ok(Sample { per_sync: Some(journal.stats().records_per_sync), ..sample })
    }

    fn read_into(&self, threads: usize, slice: Slice<'_>) -> Result<Sample> {
        together(threads, slice, |seed, clock| {
            let mut buffer = Vec::with_capacity(LEN);
            self.random(seed, clock, |index| {
                self.filled.read_into(index, &mut buffer)?;
                black_box(touch(&buffer));
                Ok(())
            })
        })
    }

    fn reader_get(&self, threads: usize, slice: Slice<'_>) -> Result<Sample> {
        together(threads, slice, |seed, clock| {
            let mut reader = self.filled.reader();
            self.random(seed, clock, |index| {
                black_box(reader.get(index).map(touch));
                Ok(())
            })
        })
    }

    /// Calls `each` with random indexes until the clock stops. Returns the number of calls.
    fn random(&self, seed: u64, clock: Clock<'_>, mut each: impl FnMut(u64) -> Result<()>) -> Result<u64> {
        let mut count = 0;
        while clock.runs(count) {
            for _ in 0..UNCLOCKED {
                each(1 + noise(seed << 40 | count) % self.records)?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn scan(&self, slice: Slice<'_>) -> Sample {
        let snapshot = self.filled.snapshot();
        let (mut records, mut next) = (0, 1);
        let clock = slice.begin();
        while clock.runs(records) {
            let end = (next + 16 * UNCLOCKED).min(self.records + 1);
            for (_, record) in snapshot.range(next..end) {
                black_box(touch(record));
            }
            records += end - next;
            next = if end > self.records { 1 } else { end };
        }
        clock.stop(records)
    }

    /// Opens a closed journal again and again. Closing is not timed.
    fn reopen(&self, slice: Slice<'_>) -> Result<Sample> {
        let path = self.folder.join("closed.wally");
        let mut sample = Sample::default();
        let clock = slice.begin();
        while clock.runs(sample.records) {
            let began = Instant::now();
            let journal = open(&path)?;
            sample.took += began.elapsed();
            sample.records += self.records;
            journal.close()?;
        }
        Ok(sample)
    }
}

fn open(path: &Path) -> Result<Journal> {
    Options::new().sync_policy(SyncPolicy::OnDemand).open(path)
}

/// Runs `work` on so many threads, each with a number of its own. Returns the sample of all of them together.
fn together(
    threads: usize,
    slice: Slice<'_>,
    work: impl Fn(u64, Clock<'_>) -> Result<u64> + Sync,
) -> Result<Sample> {
    let (clock, work) = (slice.begin(), &work);
    let done: Vec<_> = thread::scope(|scope| {
        let start = |number| scope.spawn(move || work(number, clock));
        let threads: Vec<_> = (0..threads as u64).map(start).collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let sample = clock.stop(0);
    let mut records = 0;
    for done in done {
        // A panic of a thread goes on in this one.
        records += done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    }
    Ok(Sample { records, ..sample })
}

/// Reads both ends of a record, so that its memory is really read.
fn touch(record: &[u8]) -> u8 {
    record.first().copied().unwrap_or(0) ^ record.last().copied().unwrap_or(0)
}

fn payload(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| noise(at) as u8).collect()
}

/// Mixes one number as SplitMix64 does.
fn noise(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ n >> 31
}
