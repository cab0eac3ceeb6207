//! Reads a file and rules on what it is and how it ends. This folder writes nothing and takes no lock. No other
//! code decides what damage means.
//!
//! [`inspect`] in this file reports a file's state to tools. The data goes down through these files, once:
//!
//! * `survey`: reads the whole file once and returns its records and a [`Classification`].
//! * `detect`: what the file's first header and its end show.
//! * `scan`, `verify`: follow the records from header to header, and verify seals and CRCs, on all cores.
//! * `classify`: the table of recovery, without I/O: from [facts](classify::Facts) to a [`Ruling`].
//! * `search`: whole records beyond the place where the scan ended.
//! * `pread`, `progress`: read the file, and report how far reading has come.
//!
//! `recover` acts on a ruling, `walk` reports it.

mod classify;
mod detect;
mod pread;
mod progress;
mod scan;
mod search;
mod survey;
#[cfg(test)]
pub(crate) mod testing;
mod verify;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::error::{After, Beyond, Result};
use crate::format::Format;
use crate::options::IndexMode;
use scan::{ScanRequest, scan};

pub(crate) use classify::{Classification, Reseal, Ruling};
pub(crate) use detect::{Detected, FileEnd, Mark, detect, first_boundary};
pub(crate) use pread::{Source, SourceFile};
pub(crate) use progress::ProgressReporter;
pub(crate) use survey::{Survey, SurveyRequest, classify_end};

/// The pause before a place that looks damaged is read again: a writer may be writing there. A fuzzer has no writer, so
/// under it there is no pause.
pub(crate) const RECHECK_PAUSE: Duration = Duration::from_millis(if cfg!(fuzzing) { 0 } else { 25 });

/// How many times in a row such a place is read again and must be the same.
pub(crate) const RECHECKS: u32 = 2;

/// What state a journal is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It ends as it should, perhaps with preallocated zeros.
    Clean,
    /// It ends within a record, a batch or a truncation; an open cuts there.
    Torn,
    /// Bytes that were durable are damaged; an open refuses.
    Corrupt,
    /// Nothing in the file says that it is a journal.
    NotAJournal,
    /// A newer version of the format wrote it.
    Unsupported,
}

impl State {
    /// The state of a journal about which this ruling was made.
    pub(crate) fn of(ruling: Ruling) -> Self {
        match ruling {
            Ruling::Clean { .. } | Ruling::Preallocated => Self::Clean,
            Ruling::Truncated { .. } | Ruling::Torn { .. } => Self::Torn,
            Ruling::Corrupt { .. } => Self::Corrupt,
            Ruling::NotAJournal => Self::NotAJournal,
            Ruling::Newer => Self::Unsupported,
        }
    }

    /// The state's name in lower case, as the command prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Torn => "torn",
            Self::Corrupt => "corrupt",
            Self::NotAJournal => "not_a_journal",
            Self::Unsupported => "unsupported",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What [`Walk::inspect`](crate::Walk::inspect) found. It prints as a sentence or two.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The format; `None` if the file is empty or not a journal.
    pub format: Option<Format>,
    /// The number of whole records before the first damage, without those of an unfinished batch.
    pub records: u64,
    /// The index of the first of them, whether or not there is one.
    pub first_index: u64,
    /// The index of the last of them; `first_index - 1` if there are none.
    pub last_index: u64,
    /// The file's length.
    pub file_bytes: u64,
    /// Where the last of those records ends.
    pub good_bytes: u64,
    /// The state.
    pub state: State,
    /// The file offset of the first header that could not be accepted, or where a truncation was to cut, if the journal
    /// is not clean.
    pub damage_offset: Option<u64>,
    /// What lies beyond the damage; `None` if it was not looked for: the journal is neither torn nor corrupt.
    pub beyond: Option<Beyond>,
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, good_bytes, file_bytes, state, .. } = self;
        write!(f, "{state}: {records} records in {good_bytes} of {file_bytes} bytes")?;
        if let Some(format) = self.format {
            write!(f, ", {} format", format.name())?;
        }
        if let Some(offset) = self.damage_offset {
            write!(f, "; damaged at offset {offset}{}", After(&self.beyond))?;
        }
        Ok(())
    }
}

/// See [`Walk::inspect`](crate::Walk::inspect).
pub(crate) fn inspect(path: &Path) -> Result<Inspection> {
    let file = SourceFile::open(path)?;
    let source = file.source();
    let request =
        SurveyRequest { index: IndexMode::Scan, new_file_format: Format::Sealed, force_reference: false };
    loop {
        let mut survey = Survey::read(source, source.len()?, request, &mut ProgressReporter::silent())?;
        let inspection = report(&survey);
        if inspection.state == State::Clean || is_unchanged(source, &mut survey, inspection.format)? {
            return Ok(inspection);
        }
    }
}

/// Returns `true` if neither X nor the file's length changes while the caller rechecks.
fn is_unchanged(source: Source<'_>, survey: &mut Survey, format: Option<Format>) -> Result<bool> {
    let len = survey.file_end.len;
    for _ in 0..RECHECKS {
        std::thread::sleep(RECHECK_PAUSE);
        if source.len()? != len {
            return Ok(false);
        }
        // A file of no known format is not a journal with a writer, or else its first header is still to come.
        let format = format.unwrap_or_default();
        let request = ScanRequest { format, len, batch: survey.x.batch, boundary_at: None };
        let again = scan(source, request, &mut survey.index, &mut ProgressReporter::silent())?;
        if again.x.at != survey.x.at {
            return Ok(false);
        }
    }
    Ok(true)
}

fn report(survey: &Survey) -> Inspection {
    let x = survey.x.at;
    let ruling = survey.classification.map(|classification| classification.ruling);
    let state = ruling.map_or(State::Clean, State::of);
    let end = match ruling {
        Some(Ruling::Truncated { end, .. } | Ruling::Torn { end } | Ruling::Corrupt { end }) => end,
        Some(Ruling::Newer) => survey.x.last_outside_batch(),
        None | Some(Ruling::Clean { .. } | Ruling::Preallocated | Ruling::NotAJournal) => x,
    };
    let clean = state == State::Clean;
    // What a truncation was to remove lies after its end, and may be whole.
    let damage = if matches!(ruling, Some(Ruling::Truncated { .. })) { end } else { x };
    let known = survey.classification.filter(|_| state != State::NotAJournal);
    let first_index = survey.index.index().origin();
    let searched = matches!(state, State::Torn | State::Corrupt);
    let beyond = known.filter(|_| searched).map(|known| {
        let mut beyond = known.beyond();
        beyond.records = beyond.records.saturating_add(x.next.saturating_sub(damage.next.max(first_index)));
        beyond
    });
    let first_index = if end.offset == 0 { 1 } else { first_index };
    Inspection {
        format: known.map(|known| known.format),
        records: end.last().saturating_sub(first_index.saturating_sub(1)),
        first_index,
        last_index: end.last(),
        file_bytes: survey.file_end.len,
        good_bytes: end.offset,
        state,
        damage_offset: (!clean).then_some(damage.offset),
        beyond,
    }
}
