//! What is measured: the works, their names and their sizes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bytes of a record that is read or appended durably.
pub(crate) const READ_LEN: usize = 256;

/// Records of a batch, and bytes of each.
pub(crate) const BATCH: usize = 64;
pub(crate) const BATCH_LEN: usize = 4096;

/// Bytes of a record in the journal that is reopened.
pub(crate) const REOPEN_LEN: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Records of `len` bytes, one call each, not synced.
    Append { len: usize },
    /// Records of [`READ_LEN`] bytes as above, but far more of them: see [`Scale::burst_bytes`].
    AppendLong,
    /// Batches of [`BATCH`] records of [`BATCH_LEN`] bytes, not synced.
    Batch,
    /// Records of [`READ_LEN`] bytes from `threads` at once, each durable when its append returns.
    Durable { threads: usize },
    /// Records of [`READ_LEN`] bytes by number, in no order, from `threads` at once.
    Read { threads: usize },
    /// The same from `readers` threads, while one more appends flat out.
    FanOut { readers: usize },
    /// All records, forward.
    Scan,
    /// Opening a journal of records of [`REOPEN_LEN`] bytes that was closed.
    Reopen,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    NanosecondsARecord,
    AppendsASecond,
    MillionReadsASecond,
    Seconds,
}

pub(crate) const APPEND_LENS: [usize; 3] = [64, 256, 4096];
pub(crate) const DURABLE_THREADS: [usize; 3] = [1, 8, 64];
pub(crate) const FAN_OUT_READERS: [usize; 5] = [1, 2, 4, 8, 64];

/// All of them, in the order in which tables show them.
pub(crate) fn all() -> Vec<Work> {
    let mut works: Vec<Work> = APPEND_LENS.map(|len| Work::Append { len }).into();
    works.extend([Work::AppendLong, Work::Batch]);
    works.extend(DURABLE_THREADS.map(|threads| Work::Durable { threads }));
    works.extend([1, 2].map(|threads| Work::Read { threads }));
    works.extend(FAN_OUT_READERS.map(|readers| Work::FanOut { readers }));
    works.extend([Work::Scan, Work::Reopen]);
    works
}

impl Work {
    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::Append { .. } | Self::AppendLong | Self::Batch | Self::Scan | Self::Read { threads: 1 } => {
                Unit::NanosecondsARecord
            }
            Self::Durable { .. } => Unit::AppendsASecond,
            Self::Read { .. } | Self::FanOut { .. } => Unit::MillionReadsASecond,
            Self::Reopen => Unit::Seconds,
        }
    }

    /// What it is, for people, given how much is appended on end and how much is reopened.
    pub(crate) fn describe(self, long_mib: u64, reopen_mib: u64) -> String {
        match self {
            Self::Append { len } => format!("append {}, no sync", bytes(len)),
            Self::AppendLong => format!("append {}, no sync, {long_mib} MiB on end", bytes(READ_LEN)),
            Self::Batch => format!("batch of {BATCH} × {}, no sync", bytes(BATCH_LEN)),
            Self::Durable { threads } => {
                format!("durable append {}, {}", bytes(READ_LEN), counted(threads, "thread"))
            }
            Self::Read { threads } => {
                format!("random read {}, {}", bytes(READ_LEN), counted(threads, "thread"))
            }
            Self::FanOut { readers } => {
                format!("random read {} beside a writer, {}", bytes(READ_LEN), counted(readers, "reader"))
            }
            Self::Scan => format!("scan forward {}", bytes(READ_LEN)),
            Self::Reopen => format!("reopen {reopen_mib} MiB of {}", bytes(REOPEN_LEN)),
        }
    }
}

/// Its name on the command line and in the results.
impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append { len } => write!(f, "append-{len}"),
            Self::AppendLong => write!(f, "append-long"),
            Self::Batch => write!(f, "batch"),
            Self::Durable { threads } => write!(f, "durable-{threads}"),
            Self::Read { threads } => write!(f, "read-{threads}"),
            Self::FanOut { readers } => write!(f, "fan-out-{readers}"),
            Self::Scan => write!(f, "scan"),
            Self::Reopen => write!(f, "reopen"),
        }
    }
}

impl FromStr for Work {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        all()
            .into_iter()
            .find(|work| work.to_string() == name)
            .ok_or_else(|| format!("no work called {name}"))
    }
}

impl Unit {
    pub(crate) fn less_is_better(self) -> bool {
        matches!(self, Self::NanosecondsARecord | Self::Seconds)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NanosecondsARecord => "ns a record",
            Self::AppendsASecond => "appends a second",
            Self::MillionReadsASecond => "million reads a second",
            Self::Seconds => "s",
        }
    }
}

/// How much of each work a measurement does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scale {
    /// How long appends without a sync, reads and scans go on.
    pub(crate) time: Duration,
    /// How long durable appends go on.
    pub(crate) durable_time: Duration,
    /// Appends without a sync end here, if not before. wally syncs by itself once 64 MiB went by without a sync, so
    /// that no more than that is ever at stake; bursts end before that, and what is appended on end shows it.
    pub(crate) burst_bytes: u64,
    /// What is appended on end, in MiB, if there is time for it.
    pub(crate) long_mib: u64,
    /// How long that goes on.
    pub(crate) long_time: Duration,
    /// Records in the journal that is read.
    pub(crate) records: u64,
    /// What is reopened, in MiB of payload.
    pub(crate) reopen_mib: u64,
}

impl Scale {
    pub(crate) fn full() -> Self {
        Self {
            time: Duration::from_millis(300),
            durable_time: Duration::from_millis(600),
            burst_bytes: 40 << 20,
            long_mib: 256,
            long_time: Duration::from_secs(1),
            records: 1 << 18,
            reopen_mib: 128,
        }
    }

    /// Enough to see that everything works.
    pub(crate) fn quick() -> Self {
        Self {
            time: Duration::from_millis(10),
            durable_time: Duration::from_millis(20),
            burst_bytes: 1 << 20,
            long_mib: 2,
            long_time: Duration::from_millis(20),
            records: 1 << 12,
            reopen_mib: 1,
        }
    }
}

fn bytes(len: usize) -> String {
    match len {
        1024.. if len.is_multiple_of(1024) => format!("{} KiB", len / 1024),
        _ => format!("{len} B"),
    }
}

fn counted(count: usize, of: &str) -> String {
    match count {
        1 => format!("1 {of}"),
        _ => format!("{count} {of}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_work_is_found_by_its_name() {
        for work in all() {
            assert_eq!(work.to_string().parse(), Ok(work));
        }
        assert!("append-65".parse::<Work>().is_err());
    }
}
