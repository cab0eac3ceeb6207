//! `wally info` and `wally verify`: show what a journal holds and its state, without a lock.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use wally::{Format, Inspection, State, Walk};

use crate::outcome::{self, CORRUPT, Failure, NOT_A_JOURNAL, OTHER, Outcome, Output, TORN, count};

/// Show what a journal holds and its state
///
/// Exits with 0 in every state, as long as the state can be determined. Reads every record and checks its checksum.
///
/// With --json, `format` and `damage_offset` are null where there is none; `state` is one of clean, torn, corrupt,
/// not_a_journal, unsupported; `records_beyond` is the number of whole records found after the damage: a lower bound if
/// the search ended at its limit, and null if the journal is neither torn nor corrupt.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  wally info events.wally
  wally info --json events.wally | jq .records")]
pub(crate) struct Info {
    /// The journal
    file: PathBuf,
    /// Print a JSON object on one line
    #[arg(long)]
    json: bool,
}

/// Check every record; the exit code is the state
///
/// 0: clean. 1: torn, which is what a crash leaves of an unfinished write or truncation; the next writer cuts it off. 2:
/// corrupt, durable bytes are damaged. 3: not a journal. 4: anything else, such as a file that does not exist or that a
/// newer version wrote.
///
/// With --json the command prints the same object as `wally info --json`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  Refuse to start on a damaged journal, but do start on a torn one:
    wally verify events.wally; [ $? -le 1 ] || exit 1
  wally verify --json events.wally | jq .state")]
pub(crate) struct Verify {
    /// The journal
    file: PathBuf,
    /// Print a JSON object on one line
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(crate) fn run(&self) -> Outcome {
        let found = Walk::inspect(&self.file)?;
        if self.json {
            print_json(&found)?;
        } else {
            print_table(&self.file, &found)?;
        }
        Ok(0)
    }
}

impl Verify {
    pub(crate) fn run(&self) -> Outcome {
        let found = Walk::inspect(&self.file)?;
        let printed = if self.json {
            print_json(&found)
        } else {
            outcome::print(format_args!("{}: {}", self.file.display(), summary(&found)))
        };
        match printed {
            // The exit code is the result, and it holds even if the message cannot be written.
            Ok(()) | Err(Failure::BrokenPipe) => Ok(code(found.state)),
            Err(failure) => Err(failure),
        }
    }
}

fn code(state: State) -> u8 {
    match state {
        State::Clean => 0,
        State::Torn => TORN,
        State::Corrupt => CORRUPT,
        State::NotAJournal => NOT_A_JOURNAL,
        _ => OTHER,
    }
}

/// Describes the state in one line.
pub(crate) fn summary(found: &Inspection) -> String {
    let good = format!("{} in {}", count(found.records, "whole record"), count(found.good_bytes, "byte"));
    match found.state {
        State::Clean => format!("clean, {good}"),
        State::Torn => format!("torn at offset {}; {good} before it{}", place(found), beyond(found)),
        State::Corrupt => format!("corrupt at offset {}; {good} before it{}", place(found), beyond(found)),
        State::NotAJournal => "not a journal".to_owned(),
        State::Unsupported => format!("written by a newer version, at offset {}", place(found)),
        other => other.name().to_owned(),
    }
}

fn place(found: &Inspection) -> u64 {
    found.damage_offset.unwrap_or(found.good_bytes)
}

/// Describes what was found after the damage, if it was looked for.
pub(crate) fn beyond(found: &Inspection) -> String {
    let Some(beyond) = found.beyond else { return String::new() };
    let at_least = if beyond.at_least { "at least " } else { "" };
    format!(", {at_least}{} beyond it", count(beyond.records, "whole record"))
}

fn print_json(found: &Inspection) -> Result<(), Failure> {
    let object = json!({
        "format": found.format.map(Format::name),
        "records": found.records,
        "first_index": found.first_index,
        "last_index": found.last_index,
        "file_bytes": found.file_bytes,
        "good_bytes": found.good_bytes,
        "state": found.state.name(),
        "damage_offset": found.damage_offset,
        "records_beyond": found.beyond.map(|beyond| beyond.records),
    });
    outcome::print(format_args!("{object}"))
}

fn print_table(path: &Path, found: &Inspection) -> Result<(), Failure> {
    let mut output = Output::new();
    output.line(format_args!("file         {}", path.display()))?;
    output.line(format_args!("format       {}", found.format.map_or("none", Format::name)))?;
    output.line(format_args!("records      {}", found.records))?;
    if found.records > 0 {
        output.line(format_args!("indexes      {} to {}", found.first_index, found.last_index))?;
    }
    output.line(format_args!("file bytes   {}", found.file_bytes))?;
    output.line(format_args!("good bytes   {}", found.good_bytes))?;
    output.line(format_args!("state        {}", summary(found)))?;
    output.flush()
}
