//! What opening does to a file: the only place that decides what is cut. It reads the file through, rules, keeps what
//! it is going to cut in a quarantine file, cuts, and makes durable what it leaves.
//!
//! Nothing is written before the ruling is known and the progress callback has had its last chance to stop. The
//! order of what is written is such that a crash anywhere in between leaves a file that the next open brings to the
//! same end.

pub(crate) mod quarantine;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Beyond, Error, Result};
use crate::file::end;
use crate::file::{JournalFile, Origin};
use crate::format::{HEADER_LEN, Header};
use crate::index::IndexWriter;
use crate::inspect::classify::{Reseal, Ruled, Ruling};
use crate::inspect::pread::{Place, Source, Ticker};
use crate::inspect::survey::Survey;
use crate::options::{Format, Options, Recovery};
use crate::recover::quarantine::quarantine;

/// What an open found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The file was created, or held nothing yet.
    New,
    /// It ended as it should, or with room ahead that a crash left.
    Clean,
    /// It ended in the midst of a record or a batch, which was cut off.
    TornTail,
    /// A crash had interrupted [`Journal::truncate_back`](crate::Journal::truncate_back), which was finished.
    TruncationFinished,
    /// It was damaged, and [`Recovery::FirstInvalid`] had it cut there.
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

/// What an open found and did. [`Journal::recovery`](crate::Journal::recovery) returns it; it prints as a sentence
/// or two.
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
    /// How the file was found.
    pub verdict: Verdict,
    /// Records that the journal holds.
    pub records: u64,
    /// The index of the first of them, whether or not there is one.
    pub first_index: u64,
    /// The index of the last of them; `first_index - 1` if there are none.
    pub last_index: u64,
    /// Where the last of them ends in the file.
    pub bytes: u64,
    /// Where the file was cut, if it was.
    pub cut_offset: Option<u64>,
    /// How many bytes were cut there.
    pub cut_bytes: u64,
    /// Whole records among them.
    pub beyond: Beyond,
    /// The file that holds what was cut.
    pub quarantine: Option<PathBuf>,
    /// The time that it took.
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

/// A journal that is ready to be mapped and written.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) format: Format,
    /// The records, and where they end.
    pub(crate) index: IndexWriter,
    /// The mark of the end lies there, so the file is 16 bytes longer than its records; else it ends with them.
    pub(crate) marked: bool,
    pub(crate) report: RecoveryReport,
}

/// Brings a file that was just opened and locked into a state to be written.
///
/// # Errors
/// `Io`, `Corrupt`, `NotAJournal`, `UnsupportedFormat` or `Stopped`. The file is untouched then, unless it is `Io` of
/// a write.
pub(crate) fn recover(file: &JournalFile, origin: Origin, options: &Options) -> Result<Recovered> {
    let len = file.len()?;
    let recovered = attempt(file, len, options);
    if recovered.is_err() && origin == Origin::Created && len == 0 {
        // An open that failed leaves no file behind that was not there before.
        let _ = file.unlink();
    }
    recovered
}

fn attempt(file: &JournalFile, len: u64, options: &Options) -> Result<Recovered> {
    let started = Instant::now();
    let mut ticker = Ticker::new(options.on_progress.as_deref(), len);
    ticker.tell()?;
    let source = Source::new(file.as_file(), file.path());
    let insist =
        options.new_file_format == Format::Reference && options.recovery_policy == Recovery::FirstInvalid;
    let survey = Survey::take(source, len, options.index, options.new_file_format, insist, &mut ticker)?;
    let records = survey.index.last().saturating_sub(survey.index.index().origin().saturating_sub(1));
    ticker.tick(0, len, records)?;
    ticker.tell()?;

    let Survey { ruled, scanned, index, insisted, .. } = survey;
    let mut report = RecoveryReport {
        format: ruled.map_or(options.new_file_format, |ruled| ruled.format),
        verdict: Verdict::Clean,
        records: 0,
        first_index: 1,
        last_index: 0,
        bytes: 0,
        cut_offset: None,
        cut_bytes: 0,
        beyond: Beyond::default(),
        quarantine: None,
        elapsed: Duration::ZERO,
    };
    let opening = Opening { file, len, x: scanned.x, insisted, options };
    let (index, marked) = match ruled {
        None => {
            report.verdict = Verdict::New;
            (index, opening.create()?)
        }
        Some(ruled) => opening.finish(ruled, index, &mut report)?,
    };
    report.first_index = index.index().origin();
    report.last_index = index.last();
    report.records = report.last_index.saturating_sub(report.first_index.saturating_sub(1));
    report.bytes = index.end();
    if report.records == 0 {
        // The one who created the file may have crashed before its entry in the directory was durable.
        file.sync_directory()?;
    }
    report.elapsed = started.elapsed();
    Ok(Recovered { format: report.format, index, marked, report })
}

/// An open whose ruling is known.
struct Opening<'a> {
    file: &'a JournalFile,
    len: u64,
    x: Place,
    /// See [`Survey::insisted`].
    insisted: bool,
    options: &'a Options,
}

/// A cut to be made.
struct Cut {
    format: Format,
    end: Place,
    reseal: Option<Reseal>,
}

impl Opening<'_> {
    /// Makes the first bytes of a new journal durable. Returns whether they are a mark.
    fn create(&self) -> Result<bool> {
        if self.options.new_file_format == Format::Reference {
            self.file.sync()?;
            return Ok(false);
        }
        let written = self.file.write_at(&Header::mark(0, 0).encode(), 0);
        if written.is_err() {
            // Part of a mark is no journal: better nothing at all.
            let _ = self.file.truncate(0);
        }
        written?;
        if self.len > HEADER_LEN {
            self.file.truncate(HEADER_LEN)?;
        }
        self.file.sync()?;
        Ok(true)
    }

    /// Does what the ruling and the policy ask for. Returns the index and whether a mark lies at its end.
    fn finish(
        &self,
        ruled: Ruled,
        index: IndexWriter,
        report: &mut RecoveryReport,
    ) -> Result<(IndexWriter, bool)> {
        let (end, reseal, verdict) = match (ruled.ruling, self.options.recovery_policy) {
            (Ruling::NotAJournal, _) => return Err(not_a_journal(self.file.path())),
            (Ruling::Newer, _) => return Err(newer(self.file.path(), self.x)),
            (Ruling::Clean { marked }, _) => {
                self.file.sync()?;
                let marked_len = index.end().saturating_add(HEADER_LEN);
                if marked && self.len > marked_len {
                    self.file.truncate(marked_len)?;
                    self.file.sync()?;
                }
                return Ok((index, marked));
            }
            (Ruling::RoomAhead, _) => (self.x, None, Verdict::Clean),
            (Ruling::Truncated { end, reseal }, _) => (end, reseal, Verdict::TruncationFinished),
            (Ruling::Torn { .. } | Ruling::Corrupt { .. }, Recovery::Strict)
            | (Ruling::Corrupt { .. }, Recovery::TornTail) => {
                return Err(corrupt(self.file.path(), self.x, &ruled));
            }
            (Ruling::Torn { end }, _) if self.insisted => (end, None, Verdict::DamageCut),
            (Ruling::Torn { end }, _) => (end, None, Verdict::TornTail),
            (Ruling::Corrupt { end }, Recovery::FirstInvalid) => (end, None, Verdict::DamageCut),
        };
        if verdict != Verdict::Clean {
            report.beyond = ruled.beyond();
            // Records in front of X go as well: those behind T, or of the batch that X is in. What a gap stands for is
            // gone already.
            report.beyond.records += self.x.index.saturating_sub(end.index.max(index.index().origin()));
            report.cut_offset = Some(end.offset);
            report.cut_bytes = self.len.saturating_sub(end.offset);
            let keep = report.beyond.records > 0
                || report.beyond.at_least
                || verdict == Verdict::DamageCut
                || self.options.quarantine;
            if keep && report.cut_bytes > 0 {
                report.quarantine = Some(quarantine(self.file, end.offset, self.len)?);
            }
        }
        report.verdict = verdict;
        self.cut(Cut { format: ruled.format, end, reseal }, index)
    }

    /// Cuts the file, durably, and leaves a mark at its new end.
    fn cut(&self, planned: Cut, mut index: IndexWriter) -> Result<(IndexWriter, bool)> {
        let Cut { format, end, reseal } = planned;
        if end.offset == 0 {
            // A gap is cut as well, and with it the numbering.
            index = IndexWriter::new(self.options.index, 1, 0);
        } else if end.offset > index.end() {
            let room = index.reserve(1);
            room.map_err(|error| self.file.error("make room in the index of", error))?;
            index.push(end.offset);
        } else {
            index.rewind(end.index.saturating_sub(1), end.offset);
        }
        if format == Format::Reference {
            return Ok((index, end::cut(self.file, format, end.offset)?));
        }
        // A mark proves what lies before it, so all of that is made durable first.
        self.file.sync()?;
        if let Some(Reseal { offset, header }) = reseal {
            let bytes = header.encode();
            let seal = bytes.get(12..).unwrap_or_default();
            self.file.write_at(seal, offset.saturating_add(12))?;
            self.file.sync()?;
        }
        let marked = match end.offset {
            0 => self.mark_at_zero()?,
            offset => end::cut(self.file, format, offset)?,
        };
        Ok((index, marked))
    }

    /// The mark takes the place of the first header: no block has to be allocated for it, and at no moment does the
    /// file begin with anything that is not recognised.
    fn mark_at_zero(&self) -> Result<bool> {
        self.file.write_at(&Header::mark(0, 0).encode(), 0)?;
        self.file.sync()?;
        self.file.truncate(HEADER_LEN)?;
        self.file.sync()?;
        Ok(true)
    }
}

pub(crate) fn not_a_journal(path: &Path) -> Error {
    Error::NotAJournal { path: path.to_owned() }
}

pub(crate) fn newer(path: &Path, x: Place) -> Error {
    let what = format!("the header at offset {} was written by a newer version", x.offset);
    Error::UnsupportedFormat { path: path.to_owned(), what }
}

pub(crate) fn corrupt(path: &Path, x: Place, ruled: &Ruled) -> Error {
    Error::Corrupt { path: path.to_owned(), offset: x.offset, index: x.index, beyond: ruled.beyond() }
}

#[cfg(test)]
mod tests;
