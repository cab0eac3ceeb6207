//! `wally tail`: prints the last records, and those that another process appends, without a lock.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wally::{Entry, State, Walk};

use crate::list::{Form, broken_off};
use crate::outcome::{self, Failure, OTHER, Outcome, Output, count};
use crate::progress::Meter;

/// Print the last records, and with --follow those that are appended from then on
///
/// With --follow the command reads the file at intervals and prints the records that the journal's writer has written to it
/// since. It takes no lock, writes nothing and never makes the writer wait. It ends when it is interrupted, when its output
/// is closed, with an error if the journal is corrupt (exit code 2), and with an error if the file is removed or another
/// file takes its name (exit code 4; the records that were not read yet are printed first).
///
/// In two cases it prints a note on standard error and goes on. If the journal ends torn, the writer may be in the middle of
/// a long write, or have crashed and be started again later. If records were removed, the note says "truncated to N": the
/// printed records after N are no longer in the journal, and the records in their place are printed. If the truncation goes
/// back far, N can be too low by a 64th of the distance, and records that stayed are printed once more. A truncation is not
/// noticed if the next look finds records of the same lengths and checksums in the place of the removed ones.
///
/// Records are visible before they are durable: a power cut may remove records that were printed.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  The last ten records:
    wally tail events.wally
  Only the records that are appended from now on:
    wally tail --lines 0 --follow events.wally
  A copy that follows its journal, from record 1 on:
    wally tail --follow --from 1 --output length-prefixed events.wally |
      wally append --input length-prefixed copy.wally")]
pub(crate) struct Tail {
    /// The journal, which must exist
    file: PathBuf,
    /// The number of the last records to print
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, conflicts_with = "from")]
    lines: usize,
    /// Print the records from index N on, instead of the last ones
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// Go on and print the records that are appended
    #[arg(short, long)]
    follow: bool,
    /// With --follow, how long to wait before reading the file again
    #[arg(long, value_name = "MILLISECONDS", default_value_t = const { NonZeroU64::new(100).unwrap() })]
    interval: NonZeroU64,
    /// How records are separated
    #[arg(long, value_enum, default_value_t = Form::Lines)]
    output: Form,
}

impl Tail {
    pub(crate) fn run(&self) -> Outcome {
        let mut walk = Walk::open(&self.file)?;
        let mut output = Output::new();
        let last = self.begin(&mut walk, &mut output)?;
        if self.follow { self.go_on(&mut walk, last, &mut output) } else { Ok(0) }
    }

    /// Prints records as they are appended. Returns only with a failure.
    fn go_on(&self, walk: &mut Walk, mut last: Option<u64>, output: &mut Output) -> Outcome {
        loop {
            // Checked before the file is read, so that no record that was written before the file was replaced is missed.
            let replaced = walk.replaced()?;
            if let Some(next) = walk.resume()? {
                self.removed(last, next);
                last = Some(next.saturating_sub(1));
                let ended = each(walk, |entry| {
                    last = Some(entry.index);
                    self.print(&entry, output)
                });
                output.flush()?;
                self.end(walk, ended)?;
            } else if replaced {
                let path = self.file.display();
                let why = format!("{path} was removed, or another file has taken its name");
                return Err(Failure::new(OTHER, why));
            }
            pause(Duration::from_millis(self.interval.get()))?;
        }
    }

    /// Prints the requested ones of the records that are there. Returns the index of the last record that is there, if any.
    fn begin(&self, walk: &mut Walk, output: &mut Output) -> Result<Option<u64>, Failure> {
        // The length is only for the progress bar, so not getting it is no failure.
        let total = fs::metadata(&self.file).map(|meta| meta.len()).ok();
        let meter = Meter::new("reading", total, &io::stdout());
        let mut held = VecDeque::new();
        let mut last = None;
        let ended = each(walk, |entry| {
            last = Some(entry.index);
            meter.reach(entry.offset);
            if self.from.is_some() {
                return self.print(&entry, output);
            }
            held.push_back(entry);
            if held.len() > self.lines {
                held.pop_front();
            }
            Ok(())
        });
        drop(meter);
        for entry in held {
            self.output.print(&entry, output)?;
        }
        output.flush()?;
        self.end(walk, ended)?;
        Ok(last)
    }

    fn print(&self, entry: &Entry, output: &mut Output) -> Result<(), Failure> {
        if entry.index >= self.from.unwrap_or(0) { self.output.print(entry, output) } else { Ok(()) }
    }

    /// Decides whether the command goes on after a walk ended: it does at a clean end, and with --follow at a torn one.
    fn end(&self, walk: &Walk, ended: Result<(), Stop>) -> Result<(), Failure> {
        let error = match ended {
            Ok(()) => return Ok(()),
            Err(Stop::Failed(failure)) => return Err(failure),
            Err(Stop::BrokenOff(error)) => error,
        };
        let failure = broken_off(&self.file, walk, error);
        match failure {
            Failure::Reported { message, .. } if self.follow && walk.state() == Some(State::Torn) => {
                outcome::say(&format!("note: {message}; waiting for its writer"));
                Ok(())
            }
            failure => Err(failure),
        }
    }

    /// Reports that records were removed, if `next` is the next record and does not come right after `last`, the last one read.
    fn removed(&self, last: Option<u64>, next: u64) {
        let path = self.file.display();
        let Some(last) = last else { return };
        if next <= last {
            outcome::say(&format!("note: {path} was truncated to {}", next.saturating_sub(1)));
        } else if let missed @ 1.. = next - last - 1 {
            let missed = count(missed, "record");
            outcome::say(&format!("note: {path}: {missed} after {last} removed before being read"));
        }
    }
}

/// Why a walk did not reach a clean end.
enum Stop {
    /// The journal is torn or damaged here.
    BrokenOff(wally::Error),
    /// The output failed.
    Failed(Failure),
}

fn each(walk: &mut Walk, mut each: impl FnMut(Entry) -> Result<(), Failure>) -> Result<(), Stop> {
    for entry in walk {
        each(entry.map_err(Stop::BrokenOff)?).map_err(Stop::Failed)?;
    }
    Ok(())
}

/// Waits for `time`, or until standard output is closed.
fn pause(time: Duration) -> Result<(), Failure> {
    let until = Instant::now().checked_add(time);
    let stdout = io::stdout();
    // No event is requested: a closed other end is reported in any case.
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let timeout = Timespec::try_from(time).ok();
    let reported = poll(&mut polled, timeout.as_ref()).is_ok_and(|events| events > 0);
    let [polled] = polled;
    if reported && polled.revents().intersects(PollFlags::ERR | PollFlags::HUP) {
        return Err(Failure::BrokenPipe);
    }
    // The poll ended early, after a signal or because the descriptor cannot be polled.
    let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
    thread::sleep(left);
    Ok(())
}
