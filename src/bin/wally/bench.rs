//! `wally bench`: measures a journal on a disk, in a minute at most.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::outcome::{self, Failure, OTHER, Outcome, Output};
use crate::progress::Meter;
use crate::work::{APPEND_BYTES, Ground, READ_BYTES, Sample, Slice, Work};

/// Measure a journal on the disk of a folder
///
/// Measures appends of several lengths without sync, durable appends by 1, 8 and 64 threads, random reads by one thread and
/// by as many as the machine runs at once, a scan, and a reopen with all its checks. Each kind of work runs for the same
/// time, interleaved with the others, in five rounds. The table has the median, the lowest and the highest of the rounds. A
/// wide range means that the machine was busy with something else.
///
/// The rates are those that a program gets: they include the call and its checks. Records that are read were just written,
/// so they come from memory, not from the disk. Only the durable appends wait for the disk; the last column is the mean
/// number of records that one sync covered.
///
/// The command works in a new folder inside DIR, which is removed at the end, also on Ctrl-C. (Killed with SIGKILL it
/// leaves a folder wally-bench-*.) It writes up to several GiB, but needs at most 320 MiB at a time, and does not begin if
/// they are not free.
///
/// With --json, `results` has an object for each line; `threads` is null for `reopen`, which uses the threads that there
/// are, and `records_per_sync` is null where nothing is synced.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  wally bench /var/lib/myapp
  wally bench --seconds 5 --json . | jq '.results[] | select(.work == \"append_durable\")'")]
pub(crate) struct Bench {
    /// The folder to measure in
    dir: PathBuf,
    /// For how many seconds to measure in total; preparing and cleaning up take a few seconds more
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=50))]
    seconds: u64,
    /// Print a JSON object on one line
    #[arg(long)]
    json: bool,
}

const ROUNDS: u32 = 5;

/// The space that has to be free, in bytes. The journal that is read is there twice, and has headers, too.
const ROOM: u64 = 320 << 20;
const _: () = assert!(APPEND_BYTES + 2 * READ_BYTES + READ_BYTES / 4 < ROOM);

/// No measurement begins later than this.
const LATEST: Duration = Duration::from_secs(55);

impl Bench {
    pub(crate) fn run(&self) -> Outcome {
        let dir = self.dir.canonicalize().map_err(|error| self.unusable(&error))?;
        self.check_room(&dir)?;
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGINT, SIGTERM, SIGHUP] {
            let code = usize::try_from(number).unwrap_or_default();
            signal_hook::flag::register_usize(number, Arc::clone(&signal), code)
                .map_err(|error| Failure::new(OTHER, format!("cannot catch signals: {error}")))?;
        }
        let folder = tempfile::Builder::new()
            .prefix("wally-bench-")
            .tempdir_in(&dir)
            .map_err(|error| self.unusable(&error))?;
        let measured = self.measure(folder.path(), &signal);
        // No file stays, whatever the result; a file that could not be removed is reported.
        let path = folder.path().to_owned();
        let removed = folder.close();
        let measured = measured?;
        removed.map_err(|error| Failure::new(OTHER, format!("remove {}: {error}", path.display())))?;
        if self.json {
            self.print_json(&dir, &measured)?
        } else {
            self.print_table(&dir, &measured)?
        }
        Ok(0)
    }

    fn unusable(&self, error: &io::Error) -> Failure {
        Failure::new(OTHER, format!("{}: {error}", self.dir.display()))
    }

    fn check_room(&self, dir: &Path) -> Result<(), Failure> {
        let found = rustix::fs::statvfs(dir).map_err(|error| self.unusable(&error.into()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free < ROOM {
            let (free, needed) = (free >> 20, ROOM >> 20);
            let why = format!("{free} MiB are free in {}, and it takes {needed}", self.dir.display());
            return Err(Failure::new(OTHER, why));
        }
        Ok(())
    }

    fn measure(&self, folder: &Path, signal: &AtomicUsize) -> Result<Measured, Failure> {
        let began = Instant::now();
        let mut rows: Vec<_> = Work::all(cpus()).into_iter().map(Row::new).collect();
        let steps = u64::from(ROUNDS) * rows.len() as u64;
        let meter = Meter::of_steps(steps + 1);
        let time = Duration::from_secs(self.seconds);
        let ground = Ground::prepare(folder, Slice { time: time / 10, signal })?;
        let slice = Slice { time: time.div_f64(steps as f64), signal };
        for _ in 0..ROUNDS {
            for row in &mut rows {
                if began.elapsed() > LATEST {
                    break;
                }
                meter.step(row.work.title());
                let sample = ground.measure(row.work, slice)?;
                match signal.load(Ordering::Relaxed) {
                    0 => row.samples.push(sample),
                    signal => return Err(interrupted(signal)),
                }
            }
        }
        // Work that a very slow disk left no time for has no row.
        rows.retain(|row| !row.samples.is_empty());
        Ok(Measured { rows, read: ground.records() })
    }

    fn print_table(&self, dir: &Path, measured: &Measured) -> Result<(), Failure> {
        let mut output = Output::new();
        let (seconds, cpus) = (self.seconds, cpus());
        output
            .line(format_args!("{}: {seconds} s, {ROUNDS} rounds, {cpus} threads at once", dir.display()))?;
        output.line(format_args!("{} records to read", measured.read))?;
        output.line(format_args!(""))?;
        output.line(format_args!(
            "{:<32}{:>7}{:>9}{:>14}{:>12}{:>12}{:>10}{:>14}",
            "", "bytes", "threads", "records/s", "lowest", "highest", "MiB/s", "records/sync"
        ))?;
        for row in &measured.rows {
            let Spread { median, min, max } = row.spread();
            let threads = row.threads().map_or_else(String::new, |threads| threads.to_string());
            let per_sync = row.per_sync().map_or_else(String::new, |per_sync| format!("{per_sync:.1}"));
            let line = format!(
                "{:<32}{:>7}{threads:>9}{median:>14.0}{min:>12.0}{max:>12.0}{:>10.1}{per_sync:>14}",
                row.work.title(),
                row.work.len(),
                row.mib_per_second(),
            );
            output.line(format_args!("{}", line.trim_end()))?;
        }
        output.flush()
    }

    fn print_json(&self, dir: &Path, measured: &Measured) -> Result<(), Failure> {
        let object = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "dir": dir.to_string_lossy(),
            "cpus": cpus(),
            "seconds": self.seconds,
            "rounds": ROUNDS,
            "records_to_read": measured.read,
            "results": measured.rows.iter().map(Row::json).collect::<Vec<_>>(),
        });
        outcome::print(format_args!("{object}"))
    }
}

fn cpus() -> usize {
    thread::available_parallelism().map_or(1, |n| n.get())
}

fn interrupted(signal: usize) -> Failure {
    // As a shell reports a program that the signal ended.
    let code = u8::try_from(128 + signal).unwrap_or(OTHER);
    Failure::new(code, "interrupted; what it had written is removed")
}

/// The results.
struct Measured {
    rows: Vec<Row>,
    /// Records in the journal that was read.
    read: u64,
}

/// A line of the table: a kind of work and what its rounds measured.
struct Row {
    work: Work,
    samples: Vec<Sample>,
}

/// Records a second.
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Row {
    fn new(work: Work) -> Self {
        Self { work, samples: Vec::new() }
    }

    fn spread(&self) -> Spread {
        let mut rates: Vec<_> = self.samples.iter().map(Sample::per_second).collect();
        rates.sort_by(f64::total_cmp);
        let at = |n: usize| rates.get(n).copied().unwrap_or_default();
        Spread { median: at(rates.len() / 2), min: at(0), max: at(rates.len().saturating_sub(1)) }
    }

    fn mib_per_second(&self) -> f64 {
        self.spread().median * self.work.len() as f64 / f64::from(1 << 20)
    }

    /// Returns the mean number of records that a sync covered, over all rounds.
    fn per_sync(&self) -> Option<f64> {
        let all: Option<Vec<_>> = self.samples.iter().map(|sample| sample.per_sync).collect();
        all.filter(|all| !all.is_empty()).map(|all| all.iter().sum::<f64>() / all.len() as f64)
    }

    fn threads(&self) -> Option<usize> {
        Some(self.work.threads()).filter(|&threads| threads > 0)
    }

    fn json(&self) -> Value {
        let Spread { median, min, max } = self.spread();
        json!({
            "work": self.work.name(),
            "record_bytes": self.work.len(),
            "threads": self.threads(),
            "records_per_second": { "median": median, "min": min, "max": max },
            "mib_per_second": self.mib_per_second(),
            "records_per_sync": self.per_sync(),
        })
    }
}
