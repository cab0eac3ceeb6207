//! The append lock, held.

use std::ops::{Deref, DerefMut};

use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::watch::{News, Watch};
use crate::writer::Writer;

/// The writer, locked. When it is given up, those who asked are woken: after the lock is free again, which they want
/// next.
pub(crate) struct Locked<'a> {
    // In this order: the fields of a struct are dropped from first to last.
    writer: MutexGuard<'a, Writer>,
    wakes: Wakes<'a>,
}

struct Wakes<'a> {
    watch: &'a Watch,
    news: News,
}

impl<'a> Locked<'a> {
    #[inline]
    pub(crate) fn new(writer: MutexGuard<'a, Writer>, watch: &'a Watch) -> Self {
        Self { writer, wakes: Wakes { watch, news: News::None } }
    }
}

impl Deref for Locked<'_> {
    type Target = Writer;

    #[inline]
    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        self.wakes.news = self.writer.news();
    }
}

impl Drop for Wakes<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.news != News::None {
            self.watch.wake(self.news);
        }
    }
}

/// Tells apart who holds the append lock for short, to stage or to write to the page cache, and who holds it across a
/// sync. What must not wait for a disk stays away while the latter do or are about to.
#[derive(Debug, Default)]
pub(crate) struct LongHolds {
    state: Mutex<State>,
    none_enters: Condvar,
}

#[derive(Debug, Default)]
struct State {
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
    watch: &'a Watch,
}

impl<'a> LongHold<'a> {
    pub(crate) fn begin(holds: &'a LongHolds, watch: &'a Watch) -> Self {
        holds.begin();
        Self { holds, watch }
    }
}

impl Drop for LongHold<'_> {
    fn drop(&mut self) {
        if self.holds.end() {
            self.watch.wake(News::All);
        }
    }
}
