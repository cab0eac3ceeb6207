//! Who waits for news, and what wakes them: the bells, and what the writer owes to those who listen. No I/O in here.
//!
//! Who waits for a record registers at a bell first and then, under the append lock, looks again and leaves word in
//! [`Asked`]. The writer reads that word when it gives the lock up, so whatever it does comes either before the look or
//! after the word, and no wake-up is lost. Nobody is rung for as long as nobody has asked: an append pays one plain load.
//!
//! What is staged is no record yet that a reader sees. The append that stages the first one rings for one of those who
//! wait, who commits it, and with it all that was staged meanwhile: one flush a wake, not one an append. Every commit
//! rings for all.
//!
//! The one that was woken flushes, unless it finds its record there: then another has committed it and rings for all the
//! rest, who see to what is staged by then. If it goes away before it looks, the [`Event`] wakes the next in its place;
//! if its flush fails, it [passes the call on](Watch::pass_on) itself, so that all who wait are told.

use crate::sync::Event;

/// What those who wait have asked for, under the append lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Asked {
    /// Nobody waits, or everybody was rung for.
    #[default]
    Nothing,
    /// Nothing is staged: the first append is to ring for one, who flushes.
    Append,
    /// Someone sees to a flush: the next commit is to ring for all.
    Commit,
}

/// How far a record has to get before who waits for it hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Readers see it.
    Committed,
    /// It survives a power loss.
    Durable,
}

/// What happened under the append lock that someone waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing, or nobody waits.
    None,
    /// Something was staged.
    Staged,
    /// Something was committed.
    Committed,
}

impl Asked {
    /// What to ring for, now that the append lock is given up. `staged`: something waits to be flushed; `moved`:
    /// the committed end is not where it was when the first of them asked.
    pub(crate) fn news(&mut self, staged: bool, moved: bool) -> News {
        match self {
            Self::Nothing => News::None,
            _ if moved => {
                *self = Self::Nothing;
                News::Committed
            }
            Self::Append if staged => {
                *self = Self::Commit;
                News::Staged
            }
            Self::Append | Self::Commit => News::None,
        }
    }
}

/// The bells of a journal.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Rung when records were committed.
    pub(crate) committed: Event,
    /// Rung when records became durable.
    pub(crate) durable: Event,
}

impl Watch {
    /// The bell that is rung when records got as far as `until`.
    pub(crate) fn bell(&self, until: Until) -> &Event {
        match until {
            Until::Committed => &self.committed,
            Until::Durable => &self.durable,
        }
    }

    /// Rings for what happened under the append lock. Its caller holds no lock: those who wake want it.
    #[cold]
    pub(crate) fn ring(&self, news: News) {
        match news {
            News::None => {}
            News::Staged => self.committed.wake_one(),
            News::Committed => self.committed.wake_all(),
        }
    }

    /// Rings for the next of those who wait, in place of one who could not flush.
    pub(crate) fn pass_on(&self) {
        self.committed.wake_one();
    }

    /// Rings for everybody: the journal was cut, failed or was closed.
    pub(crate) fn ring_all(&self) {
        self.committed.wake_all();
        self.durable.wake_all();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_rung_for_who_has_not_asked() {
        let mut asked = Asked::default();
        assert_eq!(asked.news(true, true), News::None);
    }

    #[test]
    fn the_first_append_rings_for_one_and_the_commit_for_all() {
        let mut asked = Asked::Append;
        assert_eq!(asked.news(false, false), News::None);
        assert_eq!(asked.news(true, false), News::Staged);
        assert_eq!(asked.news(true, false), News::None, "one wake, however many appends");
        assert_eq!(asked.news(false, true), News::Committed);
        assert_eq!(asked.news(false, true), News::None);
    }

    #[test]
    fn an_append_that_commits_at_once_rings_for_all() {
        let mut asked = Asked::Append;
        assert_eq!(asked.news(true, true), News::Committed);
        assert_eq!(asked, Asked::Nothing);
    }
}
