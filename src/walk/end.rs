//! What it means to a walk that no whole record follows, and what it leaves behind when it ends.

use super::Walk;
use super::resume::Look;
use crate::error::{Error, Result};
use crate::inspect::classify::Ruling;
use crate::inspect::pread::{Place, Source, Ticker};
use crate::inspect::scan::Scanned;
use crate::inspect::survey::{Tail, rule};
use crate::inspect::{LOOK_AGAIN, LOOKS, State};
use crate::options::Format;
use crate::recover::{corrupt, newer, not_a_journal};

/// A place that looks damaged, and how often it was seen so.
#[derive(Debug)]
pub(super) struct Still {
    x: Place,
    tail: Tail,
    looks: u32,
    /// The file at the first of these looks.
    look: Look,
    state: State,
    error: Error,
}

/// How a broken place is taken.
pub(super) enum End {
    Clean,
    /// To be looked at once more.
    Again,
}

/// What the ruling about a broken place means to a walk.
enum Ruled {
    Clean,
    /// The record there is the last that a truncation leaves, and its seal is being written anew.
    Unsealed,
    /// The journal is in this state, and this error says so if it stays like that.
    Not(State, Error),
}

impl Walk {
    /// What it means that no whole record begins at `x`.
    pub(super) fn end(&mut self, x: Place, batch: Option<Place>) -> Result<End> {
        self.window.forget();
        if self.slipped()? {
            return self.turn_back();
        }
        // Before anything is judged: what changes from here on is seen by the next look.
        let look = self.look_at(x.offset)?;
        if x.offset > look.len {
            // Truncated under the walk.
            return Ok(self.ended(State::Clean, None));
        }
        if self.in_known_room(look, batch) {
            return Ok(self.ended(State::Clean, Some(look)));
        }
        self.tail = Tail::of(Source::new(&self.file, &self.path), look.len)?;
        if self.truncation_announced(x) {
            return Ok(self.ended(State::Clean, Some(look)));
        }
        // Someone may be writing here: only what stands still is called damaged.
        let still = self.still.take().filter(|still| still.x == x && still.tail == self.tail);
        let still = match still {
            Some(still) if still.looks >= LOOKS => {
                self.ended(still.state, Some(still.look));
                return Err(still.error);
            }
            Some(still) => Still { looks: still.looks + 1, ..still },
            None => match self.ruled(x, batch)? {
                Ruled::Clean => {
                    self.room = Some(look.len);
                    return Ok(self.ended(State::Clean, Some(look)));
                }
                Ruled::Unsealed => {
                    self.unsealed_at = Some(x.offset);
                    return Ok(End::Again);
                }
                Ruled::Not(state, error) => Still { x, tail: self.tail, looks: 1, look, state, error },
            },
        };
        self.still = Some(still);
        std::thread::sleep(LOOK_AGAIN);
        Ok(End::Again)
    }

    /// Whether a mark that came while the walk went on says that the journal will end before `x`. The next look finds
    /// it cut.
    fn truncation_announced(&self, x: Place) -> bool {
        let came = self.tail.mark.filter(|_| self.tail.mark != self.first_mark);
        self.format == Some(Format::Sealed)
            && came.is_some_and(|mark| mark.end <= x.offset && mark.end < mark.offset)
    }

    /// What the ruling about `x` is.
    fn ruled(&mut self, x: Place, batch: Option<Place>) -> Result<Ruled> {
        let source = Source::new(&self.file, &self.path);
        let scanned = Scanned { x, batch, passed: None };
        let format = self.format.unwrap_or(Format::Reference);
        let ruled = rule(source, format, false, &self.tail, &scanned, &mut Ticker::silent())?;
        let damaged = |state| Ruled::Not(state, corrupt(&self.path, x, &ruled));
        Ok(match ruled.ruling {
            Ruling::Clean { .. } | Ruling::RoomAhead => Ruled::Clean,
            Ruling::Truncated { end, .. } if end.offset <= x.offset => Ruled::Clean,
            Ruling::Truncated { .. } if self.unsealed_at.is_none() => Ruled::Unsealed,
            Ruling::Torn { .. } | Ruling::Truncated { .. } => damaged(State::Torn),
            Ruling::Corrupt { .. } => damaged(State::Corrupt),
            Ruling::NotAJournal => Ruled::Not(State::NotAJournal, not_a_journal(&self.path)),
            Ruling::Newer => Ruled::Not(State::Unsupported, newer(&self.path, x)),
        })
    }

    /// The walk ends here. `look` is the file as it was judged.
    pub(super) fn ended(&mut self, state: State, look: Option<Look>) -> End {
        self.state = Some(state);
        self.look = look;
        End::Clean
    }
}
