//! Threads that hold the append lock across syncs, and those that must therefore stay away from it. No I/O in here.
//!
//! An append and a flush hold the lock for short. A truncation holds it across syncs, and so does what poisons or closes
//! the journal. What must not wait for a disk [enters](LongHolds::enter) only while nobody does that, and a
//! [`LongHold`] begins only when nobody is entering. One that stayed away is woken at its end.

use crate::notify::{Change, Notifier};
use crate::sync::{Condvar, Mutex};

/// The threads of both kinds.
#[derive(Debug, Default)]
pub(crate) struct LongHolds {
    state: Mutex<HoldState>,
    none_enters: Condvar,
}

#[derive(Debug, Default)]
struct HoldState {
    /// Threads that hold the lock across syncs, or are about to.
    holders: usize,
    /// Threads that wait for the lock and must not wait for a sync.
    entering: usize,
    /// One of those stayed away since the holders began.
    stayed_away: bool,
}

impl LongHolds {
    /// What `lock` locks, or nothing while somebody holds it for long. Then the caller is woken when that is over.
    pub(crate) fn enter<T>(&self, lock: impl FnOnce() -> T) -> Option<T> {
        let mut state = self.state.lock();
        if state.holders > 0 {
            state.stayed_away = true;
            return None;
        }
        state.entering += 1;
        drop(state);
        let locked = lock();
        let mut state = self.state.lock();
        state.entering -= 1;
        if state.entering == 0 && state.holders > 0 {
            self.none_enters.notify_all();
        }
        Some(locked)
    }

    /// The caller is about to take the append lock, which it does not hold yet, for long. Every one
    /// [ends](Self::end).
    pub(crate) fn begin(&self) {
        let mut state = self.state.lock();
        state.holders += 1;
        while state.entering > 0 {
            state = self.none_enters.wait(state);
        }
    }

    /// The caller has given the append lock up. Returns `true` if somebody stayed away and is to be woken.
    pub(crate) fn end(&self) -> bool {
        let mut state = self.state.lock();
        state.holders -= 1;
        state.holders == 0 && std::mem::take(&mut state.stayed_away)
    }
}

/// The append lock may be held across syncs as long as this lives, which is longer than the lock is held.
pub(crate) struct LongHold<'a> {
    holds: &'a LongHolds,
    notifier: &'a Notifier,
}

impl<'a> LongHold<'a> {
    pub(crate) fn begin(holds: &'a LongHolds, notifier: &'a Notifier) -> Self {
        holds.begin();
        Self { holds, notifier }
    }
}

impl Drop for LongHold<'_> {
    fn drop(&mut self) {
        if self.holds.end() {
            self.notifier.wake(Change::All);
        }
    }
}
