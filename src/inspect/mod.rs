//! What state a journal is in, told without a lock and without writing.

pub(crate) mod checks;
pub(crate) mod classify;
pub(crate) mod pread;
pub(crate) mod scan;
pub(crate) mod search;
pub(crate) mod survey;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::error::{Beyond, Result};
use crate::file::open_read_only;
use crate::inspect::classify::Ruling;
use crate::inspect::pread::{Source, Ticker};
use crate::inspect::scan::{Orders, scan};
use crate::inspect::survey::Survey;
use crate::options::{Format, IndexMode};

/// How long a place that looks damaged is given to change: someone may be writing there. Nobody is under a fuzzer,
/// which would do nothing but wait.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(if cfg!(fuzzing) { 0 } else { 25 });

/// How many looks in a row have to see the same.
pub(crate) const LOOKS: u32 = 2;

/// What state a journal is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It ends as it should, perhaps with zeros that were written ahead.
    Clean,
    /// It ends in the midst of a record, a batch or a truncation; an open cuts there.
    Torn,
    /// Bytes that were durable are damaged; an open refuses.
    Corrupt,
    /// Nothing in the file says that it is a journal.
    NotAJournal,
    /// A newer version of the format wrote it.
    Unsupported,
}

impl State {
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
    /// Whole records before the first damage, those of an unfinished batch left out.
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
    /// What lies beyond the damage.
    pub beyond: Beyond,
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, good_bytes, file_bytes, state, .. } = self;
        write!(f, "{state}: {records} records in {good_bytes} of {file_bytes} bytes")?;
        if let Some(format) = self.format {
            write!(f, ", {} format", format.name())?;
        }
        if let Some(offset) = self.damage_offset {
            write!(f, "; damaged at offset {offset}, {}", self.beyond)?;
        }
        Ok(())
    }
}

/// See [`Walk::inspect`](crate::Walk::inspect).
pub(crate) fn inspect(path: &Path) -> Result<Inspection> {
    let file = open_read_only(path)?;
    let source = Source::new(&file, path);
    loop {
        let len = source.len()?;
        let asked = Format::Sealed;
        let mut survey = Survey::take(source, len, IndexMode::Scan, asked, false, &mut Ticker::silent())?;
        let inspection = report(&survey);
        if inspection.state == State::Clean || stands_still(source, &mut survey, inspection.format)? {
            return Ok(inspection);
        }
    }
}

/// Whether neither the place where the walk ended nor the size changes while one looks again.
fn stands_still(source: Source<'_>, survey: &mut Survey, format: Option<Format>) -> Result<bool> {
    let len = survey.tail.len;
    for _ in 0..LOOKS {
        std::thread::sleep(LOOK_AGAIN);
        if source.len()? != len {
            return Ok(false);
        }
        // What was not read in any format is no journal that someone writes, or one whose first header comes.
        let format = format.unwrap_or_default();
        let orders = Orders { format, len, batch: survey.scanned.batch, watch: None };
        let again = scan(source, orders, &mut survey.index, &mut Ticker::silent())?;
        if again.x != survey.scanned.x {
            return Ok(false);
        }
    }
    Ok(true)
}

fn report(survey: &Survey) -> Inspection {
    let x = survey.scanned.x;
    let index = &survey.index;
    let (state, end) = match survey.ruled.map(|ruled| ruled.ruling) {
        None | Some(Ruling::Clean { .. } | Ruling::RoomAhead) => (State::Clean, x),
        Some(Ruling::Truncated { end, .. }) => (State::Torn, end),
        Some(Ruling::Torn { end }) => (State::Torn, end),
        Some(Ruling::Corrupt { end }) => (State::Corrupt, end),
        Some(Ruling::NotAJournal) => (State::NotAJournal, x),
        Some(Ruling::Newer) => (State::Unsupported, survey.scanned.batch.unwrap_or(x)),
    };
    let clean = state == State::Clean;
    // What a truncation was to remove lies behind its end, and may be whole.
    let truncated = matches!(survey.ruled.map(|ruled| ruled.ruling), Some(Ruling::Truncated { .. }));
    let damage = if truncated { end } else { x };
    let ruled = survey.ruled.filter(|_| state != State::NotAJournal);
    let mut beyond = ruled.filter(|_| !clean).map(|ruled| ruled.beyond()).unwrap_or_default();
    let cut_from = damage.index.max(index.index().origin());
    beyond.records = beyond.records.saturating_add(x.index.saturating_sub(cut_from));
    let first_index = if end.offset == 0 { 1 } else { index.index().origin() };
    let last_index = end.index.saturating_sub(1);
    Inspection {
        format: ruled.map(|ruled| ruled.format),
        records: last_index.saturating_sub(first_index.saturating_sub(1)),
        first_index,
        last_index,
        file_bytes: survey.tail.len,
        good_bytes: end.offset,
        state,
        damage_offset: (!clean).then_some(damage.offset),
        beyond,
    }
}
