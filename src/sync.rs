//! The only file that names a synchronisation primitive: std's, arc-swap's and crossbeam's. Every other file takes its
//! atomics, locks and cells from this one. In the models `tests/loom/sync.rs` takes its place, with the same names and
//! loom's primitives, so that loom explores the code that ships.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, OnceLock};
pub(crate) use std::thread::{JoinHandle, yield_now};

pub(crate) use arc_swap::{ArcSwap, Guard};
pub(crate) use crossbeam_utils::CachePadded;

use std::cell::Cell;
pub(crate) use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

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

/// The condition variable for [`Mutex`].
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

/// Returns the number of this thread. No other living thread has the same, and it is never 0.
#[inline]
pub(crate) fn thread_number() -> usize {
    thread_local!(static HERE: Cell<u8> = const { Cell::new(0) });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// Starts a thread whose work is known already.
pub(crate) type StartThread = Box<dyn Fn() -> std::io::Result<JoinHandle<()>> + Send + Sync>;

/// Starts a thread.
///
/// # Errors
/// If the system cannot start one.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_numbers_of_their_own() {
        let here = thread_number();
        let other = std::thread::scope(|scope| {
            let other = scope.spawn(|| (thread_number(), thread_number()));
            other.join().unwrap()
        });
        assert_eq!(other.0, other.1);
        assert!(here != 0 && here == thread_number() && here != other.0);
    }
}
