//! `wally truncate` and `wally repair`: the two commands that make a journal shorter.

use std::path::{Path, PathBuf};

use clap::Args;
use wally::{IndexMode, Inspection, Journal, Options, Recovery, State, SyncPolicy, Walk};

use crate::inspect;
use crate::outcome::{self, Failure, NOT_A_JOURNAL, OTHER, Outcome, count};
use crate::progress;

/// Remove the records after index N
///
/// No copy of the removed records is kept. The removal is durable when the command exits. A torn tail is cut off first, and
/// the cut is reported on standard error. A corrupt journal is left untouched.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  Keep records up to 1000, so that the next one appended is 1001:
    wally truncate --keep 1000 events.wally
  Remove all of them and start again at 1:
    wally truncate --keep 0 events.wally")]
pub(crate) struct Truncate {
    /// The journal
    file: PathBuf,
    /// The last index to keep; 0 removes all records, and the journal begins at 1 again
    #[arg(long, value_name = "N")]
    keep: u64,
}

impl Truncate {
    pub(crate) fn run(&self) -> Outcome {
        let journal = open(&self.file, &mut Options::new())?;
        if let Some(cut) = outcome::what_was_cut(&journal) {
            outcome::say(&format!("note: {}: {cut}", self.file.display()));
        }
        let had = journal.last_index().saturating_add(1).saturating_sub(journal.first_index());
        let truncated = journal.truncate_back(self.keep).map_err(Failure::from);
        let last = journal.last_index();
        let left = last.saturating_add(1).saturating_sub(journal.first_index());
        outcome::close(journal, truncated)?;
        let removed = count(had.saturating_sub(left), "record");
        outcome::print(format_args!("{removed} removed, the last index is {last}"))?;
        Ok(0)
    }
}

/// Cut a torn or corrupt journal at the first record that is not valid
///
/// First prints what will be cut: from which offset, how many bytes, and how many whole records they hold. The cut bytes
/// are kept in a file next to the journal, named FILE.cut-OFFSET, and its name is printed; the rest of a truncation that a
/// crash interrupted is not kept. A clean journal, a file that is not a journal, and a journal that a newer version wrote
/// are left untouched.
///
/// A torn tail needs no repair: the next writer cuts it off. Corrupt means that bytes which were durable have changed since,
/// so check the disk first.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  wally repair --dry-run events.wally
  wally repair events.wally")]
pub(crate) struct Repair {
    /// The journal
    file: PathBuf,
    /// Print what would be cut and write nothing
    #[arg(long)]
    dry_run: bool,
}

impl Repair {
    pub(crate) fn run(&self) -> Outcome {
        let path = self.file.display();
        let found = Walk::inspect(&self.file)?;
        match found.state {
            State::Clean => {
                outcome::print(format_args!("{path}: nothing to repair, {}", inspect::summary(&found)))?;
                return Ok(0);
            }
            State::Torn | State::Corrupt => {}
            State::NotAJournal => {
                return Err(Failure::new(NOT_A_JOURNAL, format!("{path} is not a journal")));
            }
            _ => return Err(Failure::new(OTHER, format!("{path}: {}", inspect::summary(&found)))),
        }
        outcome::print(format_args!("{path}: {}", plan(&found, self.dry_run)))?;
        if self.dry_run {
            return Ok(0);
        }

        let journal =
            open(&self.file, Options::new().recovery_policy(Recovery::FirstInvalid).quarantine(true))?;
        let cut = outcome::what_was_cut(&journal);
        let left = journal.recovery().records;
        outcome::close(journal, Ok(()))?;
        match cut {
            Some(cut) => outcome::print(format_args!("{path}: {cut}; {} left", count(left, "record")))?,
            // Another writer has repaired it between the inspection and the lock.
            None => outcome::print(format_args!("{path}: nothing to repair any more"))?,
        }
        Ok(0)
    }
}

/// Describes what is cut.
fn plan(found: &Inspection, dry_run: bool) -> String {
    let go = if dry_run { "would be cut" } else { "will be cut" };
    let bytes = count(found.file_bytes.saturating_sub(found.good_bytes), "byte");
    let state = inspect::summary(found);
    format!("{state}; {bytes} from offset {} on {go}", found.good_bytes)
}

/// Opens a journal that must exist, to make it shorter.
fn open(path: &Path, options: &mut Options) -> Result<Journal, Failure> {
    options.create(false).sync_policy(SyncPolicy::OnDemand).index(IndexMode::sparse());
    let _meter = progress::of_opening(options);
    Ok(options.open(path)?)
}
