//! The only room that names a synchronisation primitive: std's, arc-swap's and crossbeam's. Every other file takes
//! its atomics, locks and cells from this one. When the models are built, `tests/loom/sync.rs` takes its place with
//! the same names and loom's primitives, so that what loom explores is the code that ships.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
pub(crate) use std::sync::{Arc, OnceLock};
pub(crate) use std::thread::yield_now;

pub(crate) use arc_swap::{ArcSwap, Guard};
pub(crate) use crossbeam_utils::CachePadded;

use event_listener::{Listener, listener};

pub(crate) use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// A mutex that ignores lock poisoning: no code of this crate panics while it holds one, and a caller's panic
/// elsewhere must not turn into a second one here.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The condition variable that goes with [`Mutex`].
#[derive(Debug, Default)]
pub(crate) struct Condvar(std::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(std::sync::Condvar::new())
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait_timeout<'a, T>(&self, guard: MutexGuard<'a, T>, limit: Duration) -> MutexGuard<'a, T> {
        self.0.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// What threads and tasks wait at. Who registers is woken by whatever comes after; nothing is allocated for it. A wake
/// that was meant for one who went away before it came back goes to the next.
#[derive(Debug)]
pub(crate) struct Event(event_listener::Event);

impl Default for Event {
    fn default() -> Self {
        let event = event_listener::Event::new();
        // The memory that it needs is taken now, not by the first that rings.
        event.notify(0);
        Self(event)
    }
}

/// How waiting at an [`Event`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// There was no need to wait, or no longer.
    Over,
    /// The deadline passed, and no wake was spent on this waiter.
    TimedOut,
}

impl Event {
    /// Wakes one of those who wait that was not woken yet.
    pub(crate) fn wake_one(&self) {
        self.0.notify_additional(1);
    }

    /// Wakes all who wait.
    pub(crate) fn wake_all(&self) {
        self.0.notify(usize::MAX);
    }

    /// Registers, then asks `still`, and if that says so waits to be woken, until `deadline` at most.
    pub(crate) fn wait_while(&self, still: impl FnOnce() -> bool, deadline: Option<Instant>) -> Wait {
        listener!(self.0 => listener);
        match deadline {
            _ if !still() => {}
            None => listener.wait(),
            Some(deadline) if listener.wait_deadline(deadline).is_none() => return Wait::TimedOut,
            Some(_) => {}
        }
        Wait::Over
    }

    /// The same for a task, which may be dropped while it waits.
    #[cfg(feature = "async")]
    pub(crate) async fn wait_while_async(&self, still: impl FnOnce() -> bool) {
        listener!(self.0 => listener);
        if still() {
            listener.await;
        }
    }
}
