//! What it means to a walk that no whole record follows, and how it ends.

use std::thread::sleep;

use super::resume::FileStamp;
use super::{Step, Walk};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::format::{Boundary, Cursor};
use crate::inspect::{Detected, FileEnd, Mark, RECHECK_PAUSE, RECHECKS, Ruling, State, classify_end};

/// How a walk has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// The journal's state there. `None` if the file could not be read.
    pub(super) state: Option<State>,
    /// The file as it was when its state was decided.
    pub(super) stamp: Option<FileStamp>,
}

impl Ending {
    pub(super) const UNREADABLE: Self = Self { state: None, stamp: None };
}

/// The marks that the file held when the walk began.
#[derive(Debug, Default)]
pub(super) struct KnownMarks {
    /// The mark that was there, whatever the format.
    first: Option<Mark>,
    /// The mark that says where the journal ends, unless it is a record's payload or was overwritten since.
    end: Option<Mark>,
}

impl KnownMarks {
    /// Notes the mark that a walk finds when it begins.
    pub(super) fn begin(&mut self, mark: Option<Mark>, detected: Detected) {
        self.first = mark;
        if let Detected::Journal(format) = detected {
            self.end = mark.filter(|_| format == Format::Sealed);
        }
    }

    /// Returns the mark that says that the journal ends at `offset`. A truncation to nothing removes a gap as well, so its
    /// mark says so for every offset.
    pub(super) fn of_end_at(&self, offset: u64) -> Option<Mark> {
        self.end.filter(|mark| mark.end == offset || mark.end == 0)
    }

    /// Forgets the mark of the end, which turned out to be none.
    pub(super) fn forget_end(&mut self) {
        self.end = None;
    }

    /// Returns `true` if `mark` was written after the walk began and says that the journal will end at `x` or before. A
    /// later recheck finds it cut.
    fn announces_truncation(&self, mark: Option<Mark>, x: Boundary) -> bool {
        let new = mark.filter(|_| mark != self.first);
        new.is_some_and(|mark| mark.end <= x.offset && mark.end < mark.offset)
    }
}

/// A place that looks damaged, which is read again until it has not changed for some time.
#[derive(Debug)]
pub(super) struct SuspectedDamage {
    x: Boundary,
    file_end: FileEnd,
    /// The number of times in a row that it looked like this.
    checks: u32,
    /// The file at the first of these checks.
    stamp: FileStamp,
    state: State,
    error: Error,
}

/// What the ruling about a place means to a walk.
enum Meaning {
    CleanEnd,
    /// The record there is the last that a truncation keeps, and its seal is being written anew.
    Unsealed,
    /// The journal is in this state, and the walk ends with this error if the place does not change.
    Damage(State, Error),
}

impl Walk {
    /// Decides what it means that no whole record begins at `x`.
    pub(super) fn no_record_at(&mut self, x: Cursor) -> Result<Step> {
        let at = x.at;
        self.records.forget_window();
        if self.is_last_yielded_gone()? {
            return self.go_back();
        }
        // The stamp comes before the decision, so that `resume` sees every change from here on.
        let stamp = self.stamp(at.offset)?;
        if at.offset > stamp.len {
            // A truncation during the walk.
            return Ok(self.end_with(State::Clean, None));
        }
        if self.are_zeros_known(stamp, x) {
            return Ok(self.end_with(State::Clean, Some(stamp)));
        }
        let file_end = FileEnd::read(self.records.source(), stamp.len)?;
        if self.format == Some(Format::Sealed) && self.marks.announces_truncation(file_end.mark, at) {
            return Ok(self.end_with(State::Clean, Some(stamp)));
        }
        // A writer may be writing here. It is damage only if it does not change.
        let same = self.suspected.take().filter(|same| same.x == at && same.file_end == file_end);
        let suspected = match same {
            Some(same) if same.checks >= RECHECKS => {
                self.end_with(same.state, Some(same.stamp));
                return Err(same.error);
            }
            Some(same) => SuspectedDamage { checks: same.checks + 1, ..same },
            None => match self.meaning(x, file_end)? {
                Meaning::CleanEnd => {
                    self.zeros_read_at_len = Some(stamp.len);
                    return Ok(self.end_with(State::Clean, Some(stamp)));
                }
                Meaning::Unsealed => {
                    self.records.unsealed_at = Some(at.offset);
                    return Ok(Step::Again);
                }
                Meaning::Damage(state, error) => {
                    SuspectedDamage { x: at, file_end, checks: 1, stamp, state, error }
                }
            },
        };
        self.suspected = Some(suspected);
        sleep(RECHECK_PAUSE);
        Ok(Step::Again)
    }

    /// Has the place ruled on, and decides what the ruling means to a walk that came to it.
    fn meaning(&self, x: Cursor, file_end: FileEnd) -> Result<Meaning> {
        let source = self.records.source();
        let format = self.format.unwrap_or(Format::Reference);
        let classification = classify_end(source, format, file_end, x)?;
        Ok(match classification.ruling {
            Ruling::Clean { .. } | Ruling::Preallocated => Meaning::CleanEnd,
            Ruling::Truncated { end, .. } if end.offset <= x.at.offset => Meaning::CleanEnd,
            Ruling::Truncated { .. } if self.records.unsealed_at.is_none() => Meaning::Unsealed,
            ruling => Meaning::Damage(State::of(ruling), classification.error(source.path(), x.at)),
        })
    }

    /// Returns `true` if only zeros follow, in a file whose zeros were read to their end when it had this length. Without
    /// this, each call of `resume` while records are appended to preallocated zeros would read all of them.
    fn are_zeros_known(&self, stamp: FileStamp, x: Cursor) -> bool {
        self.format == Some(Format::Sealed)
            && x.batch.is_none()
            && stamp.is_at_zeros()
            && self.zeros_read_at_len == Some(stamp.len)
    }

    /// Ends the walk. `stamp` is the file as it was when its state was decided.
    pub(super) fn end_with(&mut self, state: State, stamp: Option<FileStamp>) -> Step {
        self.ending = Some(Ending { state: Some(state), stamp });
        Step::End
    }
}
