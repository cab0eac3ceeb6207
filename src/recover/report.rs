//! What an open reports about the recovery of a journal.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Beyond;
use crate::format::Format;

/// What an open found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The file was created by this open, or had no content yet.
    New,
    /// It ended as it should, or with preallocated zeros that a crash left.
    Clean,
    /// It ended within a record or a batch, which was cut off.
    TornTail,
    /// A crash had interrupted [`Journal::truncate_back`](crate::Journal::truncate_back), which was finished. What it was
    /// to remove is removed, and not kept in a quarantine file.
    TruncationFinished,
    /// It was damaged, and cut there because of [`Recovery::FirstInvalid`](crate::Recovery::FirstInvalid).
    DamageCut,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::New => "new",
            Self::Clean => "clean",
            Self::TornTail => "torn tail",
            Self::TruncationFinished => "truncation finished",
            Self::DamageCut => "damage cut",
        })
    }
}

/// What an open found and did. [`Journal::recovery`](crate::Journal::recovery) returns it. It prints as one or two
/// sentences.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("events.wally");
/// let journal = wally::Journal::open(&path)?;
/// assert_eq!(journal.recovery().verdict, wally::Verdict::New);
/// println!("{}", journal.recovery());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The file's format.
    pub format: Format,
    /// In what state the file was.
    pub verdict: Verdict,
    /// The number of records in the journal.
    pub records: u64,
    /// The index of the first of them, whether or not there is one.
    pub first_index: u64,
    /// The index of the last of them; `first_index - 1` if there are none.
    pub last_index: u64,
    /// Where the last of them ends in the file.
    pub bytes: u64,
    /// Where the file was cut, if it was.
    pub cut_offset: Option<u64>,
    /// The number of bytes cut there.
    pub cut_bytes: u64,
    /// The whole records among them.
    pub beyond: Beyond,
    /// The file that holds what was cut, if it was kept: always if whole records are among it, but for those that a
    /// truncation was to remove.
    pub quarantine: Option<PathBuf>,
    /// The time that the open took.
    pub elapsed: Duration,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, bytes, verdict, .. } = self;
        let format = self.format.name();
        write!(f, "{verdict}: {records} records in {bytes} bytes, {format} format")?;
        if let Some(offset) = self.cut_offset {
            let at_least = if self.beyond.at_least { "at least " } else { "" };
            let (cut, whole) = (self.cut_bytes, self.beyond.records);
            write!(
                f,
                "; {cut} bytes were cut at offset {offset}, {at_least}{whole} whole records among them"
            )?;
        }
        if let Some(path) = &self.quarantine {
            write!(f, "; they are kept in {}", path.display())?;
        }
        write!(f, " ({:.1?})", self.elapsed)
    }
}
