//! The command `wally`: reads journals, appends to them and cuts them.
//!
//! One file for each job: [`append`] writes, [`list`], [`tail`] and [`inspect`] only read, [`cut`] shortens, [`bench`]
//! measures the [`work`]; [`outcome`] holds the exit codes and messages, [`progress`] the progress bar.

mod append;
mod bench;
mod cut;
mod inspect;
mod list;
mod outcome;
mod progress;
mod tail;
mod work;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use outcome::{Failure, OTHER, Outcome};

/// Works with wally journals: append-only files of records, numbered from 1.
///
/// `ls`, `cat`, `tail`, `info` and `verify` take no lock and write nothing: they work on a journal that a program has open
/// for writing, and show what that program has written to the file. `append`, `truncate` and `repair` lock the journal, so
/// no other program may have it open for writing. `bench` uses journals of its own.
#[derive(Parser)]
#[command(name = "wally", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    success; for `verify`: the journal is clean
  1    the journal is torn: a crash left an unfinished write or truncation (the next writer cuts it off)
  2    the journal is corrupt: durable bytes are damaged (see `wally repair`)
  3    the file is not a journal
  4    anything else: wrong usage, no such file, a newer format, locked, out of range, a full disk
  130  `bench` was interrupted (likewise 143 and 129: 128 and the number of the signal)
  141  the program that reads the output closed it, as in `wally cat FILE | head`

`info` and `repair --dry-run` describe a damaged journal and exit with 0; to test for damage, use `verify`.";

#[derive(Subcommand)]
enum Command {
    Append(append::Append),
    Ls(list::Ls),
    Cat(list::Cat),
    Tail(tail::Tail),
    Info(inspect::Info),
    Verify(inspect::Verify),
    Truncate(cut::Truncate),
    Repair(cut::Repair),
    Bench(bench::Bench),
}

impl Command {
    fn run(&self) -> Outcome {
        match self {
            Self::Append(append) => append.run(),
            Self::Ls(ls) => ls.run(),
            Self::Cat(cat) => cat.run(),
            Self::Tail(tail) => tail.run(),
            Self::Info(info) => info.run(),
            Self::Verify(verify) => verify.run(),
            Self::Truncate(truncate) => truncate.run(),
            Self::Repair(repair) => repair.run(),
            Self::Bench(bench) => bench.run(),
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(cli) => cli.command.run(),
        Err(error) => usage(&error),
    };
    ExitCode::from(outcome.unwrap_or_else(|failure| failure.report()))
}

/// Prints clap's message: the help or the version, if they were asked for, or what is wrong with the arguments. The exit
/// code is not clap's, which is 2 for wrong arguments: here 2 means "corrupt".
fn usage(error: &clap::Error) -> Outcome {
    let printed = error.print();
    if error.use_stderr() {
        return Ok(OTHER);
    }
    printed.map_err(Failure::stdout)?;
    Ok(0)
}
