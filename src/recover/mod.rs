//! Brings a file that was just opened into a state to be written: acts on the ruling of `inspect`. This folder alone
//! decides what an open cuts. No other code shortens a file before it is mapped.
//!
//! * This file: what is done for each ruling under each policy, and in which order it is written.
//! * `quarantine`: keeps a copy of what is cut.
//! * `report`: [`RecoveryReport`] and [`Verdict`], which the caller of the open gets.
//!
//! Nothing is written before the ruling is known and the progress callback has been asked for the last time. The order of
//! the writes is such that after a crash between any two of them the next open comes to the same result.

mod quarantine;
mod report;

use std::time::{Duration, Instant};

use crate::error::{Beyond, Result};
use crate::file::{JournalFile, Origin, end};
use crate::format::Format;
use crate::format::{Boundary, HEADER_LEN};
use crate::index::IndexWriter;
use crate::inspect::{Classification, ProgressReporter, Reseal, Ruling, Source, Survey, SurveyRequest};
use crate::options::{Options, Recovery};
use quarantine::quarantine;

pub use report::{RecoveryReport, Verdict};

/// A journal that is ready to be mapped and written.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) format: Format,
    /// The records, and where they end.
    pub(crate) index: IndexWriter,
    /// A mark lies where the records end, so the file is 16 bytes longer than they are. Else it ends with them.
    pub(crate) marked: bool,
    pub(crate) report: RecoveryReport,
}

/// Brings a file that was just opened and locked into a state to be written.
///
/// # Errors
/// `Io`, `Corrupt`, `NotAJournal`, `UnsupportedFormat` or `Stopped`. The file is untouched then, unless a write has failed.
pub(crate) fn recover(file: &JournalFile, origin: Origin, options: &Options) -> Result<Recovered> {
    let len = file.len()?;
    let started = Instant::now();
    let mut progress = ProgressReporter::new(options.on_progress.as_deref(), len);
    progress.report()?;
    let source = Source::new(file.as_file(), file.path());
    let request = SurveyRequest {
        index: options.index,
        new_file_format: options.new_file_format,
        force_reference: options.new_file_format == Format::Reference
            && options.recovery_policy == Recovery::FirstInvalid,
    };
    let Survey { classification, x, index, forced_reference, .. } =
        Survey::read(source, len, request, &mut progress)?;
    let records = index.last().saturating_sub(index.index().origin().saturating_sub(1));
    progress.advance(0, len, records)?;
    progress.report()?;
    // The callback is the caller's code, and may have forked.
    file.check_process()?;

    let mut report = RecoveryReport {
        format: classification.map_or(options.new_file_format, |known| known.format),
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
    // The entry may be new: the process that created the file may have crashed, and a rename is often not synced. No later
    // sync of the file has to bring the entry along: an empty record in the place of the mark changes no size, so that
    // fdatasync has nothing of the directory to commit.
    file.sync_directory()?;
    let opening = Opening { file, len, x: x.at, forced_reference, options };
    let (index, marked) = match classification {
        None => {
            report.verdict = Verdict::New;
            (index, end::begin(file, options.new_file_format, origin)?)
        }
        Some(classification) => opening.finish(classification, index, &mut report)?,
    };
    report.first_index = index.index().origin();
    report.last_index = index.last();
    report.records = report.last_index.saturating_sub(report.first_index.saturating_sub(1));
    report.bytes = index.end();
    report.elapsed = started.elapsed();
    Ok(Recovered { format: report.format, index, marked, report })
}

/// An open for which the file has been classified.
struct Opening<'a> {
    file: &'a JournalFile,
    len: u64,
    x: Boundary,
    /// See [`Survey::forced_reference`].
    forced_reference: bool,
    options: &'a Options,
}

/// A cut to be made.
struct PlannedCut {
    format: Format,
    end: Boundary,
    reseal: Option<Reseal>,
}

impl Opening<'_> {
    /// Does what the ruling and the policy ask for. Returns the index and whether a mark lies at its end.
    fn finish(
        &self,
        classification: Classification,
        index: IndexWriter,
        report: &mut RecoveryReport,
    ) -> Result<(IndexWriter, bool)> {
        let (end, reseal, verdict) = match (classification.ruling, self.options.recovery_policy) {
            (Ruling::NotAJournal | Ruling::Newer, _)
            | (Ruling::Torn { .. } | Ruling::Corrupt { .. }, Recovery::Strict)
            | (Ruling::Corrupt { .. }, Recovery::TornTail) => {
                return Err(classification.error(self.file.path(), self.x));
            }
            (Ruling::Clean { marked }, _) => {
                self.file.sync()?;
                let marked_len = index.end().saturating_add(HEADER_LEN);
                if marked && self.len > marked_len {
                    self.file.truncate(marked_len)?;
                    self.file.sync()?;
                }
                return Ok((index, marked));
            }
            (Ruling::Preallocated, _) => (self.x, None, Verdict::Clean),
            (Ruling::Truncated { end, reseal }, _) => (end, reseal, Verdict::TruncationFinished),
            (Ruling::Torn { end }, _) if self.forced_reference => (end, None, Verdict::DamageCut),
            (Ruling::Torn { end }, _) => (end, None, Verdict::TornTail),
            (Ruling::Corrupt { end }, Recovery::FirstInvalid) => (end, None, Verdict::DamageCut),
        };
        if verdict != Verdict::Clean {
            report.beyond = classification.beyond();
            // Records before X are cut as well: those after T, or of the batch that X is in. The records of a gap were
            // removed before.
            report.beyond.records += self.x.next.saturating_sub(end.next.max(index.index().origin()));
            report.cut_offset = Some(end.offset);
            report.cut_bytes = self.len.saturating_sub(end.offset);
            let keep = report.beyond.records > 0
                || report.beyond.at_least
                || verdict == Verdict::DamageCut
                || self.options.quarantine;
            // What the user asked to remove is removed. A copy of it would need room, for want of which it may have been
            // removed, and a disk that stays full would keep the truncation from ever being finished.
            let asked = verdict == Verdict::TruncationFinished;
            if keep && !asked && report.cut_bytes > 0 {
                report.quarantine = Some(quarantine(self.file, end.offset, self.len)?);
            }
        }
        report.verdict = verdict;
        self.cut(PlannedCut { format: classification.format, end, reseal }, index)
    }

    /// Cuts the file, durably, and leaves a mark at its new end.
    fn cut(&self, planned: PlannedCut, mut index: IndexWriter) -> Result<(IndexWriter, bool)> {
        let PlannedCut { format, end, reseal } = planned;
        if end.offset == 0 {
            // A gap is cut as well, and with it the numbering.
            index = IndexWriter::new(self.options.index, 1, 0);
        } else if end.offset > index.end() {
            let room = index.reserve(1);
            room.map_err(|error| self.file.error("make room in the index of", error))?;
            index.push(end.offset);
        } else {
            index.rewind(end.last(), end.offset);
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
            0 => end::empty(self.file)?,
            offset => end::cut(self.file, format, offset)?,
        };
        Ok((index, marked))
    }
}

#[cfg(test)]
mod tests;
