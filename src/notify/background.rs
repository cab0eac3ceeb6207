//! The background thread of a journal. It starts when it is first needed and ends with the journal.
//!
//! It does three things: it calls the waiters that a wake for all has left, flushes for callers that must not wait for a
//! disk, and syncs at intervals. Requests are a small set of flags under a lock; the thread sleeps until one is set, or
//! until the next sync of [`SyncPolicy::Interval`](crate::SyncPolicy::Interval) is due.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::sync::{Condvar, JoinHandle, Mutex, OnceLock, StartThread, thread_number};

/// The shortest interval that is used. With a shorter one the thread would do nothing but sync.
const SHORTEST: Duration = Duration::from_millis(1);

/// What the thread is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Request {
    /// Call the waiters that are due.
    wakes: bool,
    /// Commit what is staged.
    flush: bool,
    /// Make everything durable.
    sync: bool,
}

impl Request {
    pub(super) const WAKES: Self = Self { wakes: true, flush: false, sync: false };
    pub(crate) const FLUSH: Self = Self { wakes: false, flush: true, sync: false };

    fn is_any(self) -> bool {
        self.wakes || self.flush || self.sync
    }

    fn and(self, other: Self) -> Self {
        Self {
            wakes: self.wakes || other.wakes,
            flush: self.flush || other.flush,
            sync: self.sync || other.sync,
        }
    }
}

/// What becomes of a [`Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The thread will do it.
    Accepted,
    /// The journal is being closed.
    Stopped,
    /// The thread could not be started.
    NoThread,
}

/// The background thread and the requests to it.
#[derive(Default)]
pub(crate) struct Background {
    start: OnceLock<StartThread>,
    state: Mutex<BackgroundState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct BackgroundState {
    requested: Request,
    /// The interval between syncs, if the thread is to sync.
    every: Option<Duration>,
    last_sync: Option<Instant>,
    thread: Option<JoinHandle<()>>,
    /// The thread's [number](thread_number), once it runs.
    number: usize,
    stopped: bool,
}

impl Background {
    /// Sets how the thread is started, which is then to [run](Self::run). Without that it does not start.
    pub(crate) fn started_by(&self, start: StartThread) {
        // Only the first counts, and there is only one.
        let _ = self.start.set(start);
    }

    /// Asks the thread for `request`, and starts it if there is none.
    pub(crate) fn request(&self, request: Request) -> Answer {
        let mut state = self.state.lock();
        if state.stopped {
            return Answer::Stopped;
        }
        if self.start(&mut state).is_err() {
            return Answer::NoThread;
        }
        let sleeps = !state.requested.is_any();
        state.requested = state.requested.and(request);
        drop(state);
        if sleeps {
            self.changed.notify_one();
        }
        Answer::Accepted
    }

    /// Makes the thread sync everything at least once in each `every`.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn sync_every(&self, every: Duration) -> io::Result<()> {
        let mut state = self.state.lock();
        (state.every, state.last_sync) = (Some(every.max(SHORTEST)), Some(Instant::now()));
        self.start(&mut state)
    }

    fn start(&self, state: &mut BackgroundState) -> io::Result<()> {
        if state.thread.is_some() {
            return Ok(());
        }
        let start = self.start.get().ok_or(io::ErrorKind::NotFound)?;
        state.thread = Some(start()?);
        Ok(())
    }

    /// Ends the thread and refuses further requests. Returns when the thread has ended, unless it is the caller, as when a
    /// waker drops the journal. Requests that it has not done yet stay undone.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        let (thread, number) = (state.thread.take(), state.number);
        drop(state);
        self.changed.notify_one();
        if let Some(thread) = thread
            && number != thread_number()
        {
            // The thread cannot have panicked, and there would be no caller to report that to.
            let _ = thread.join();
        }
    }

    /// What the thread does until it is stopped: `wake` calls the waiters that are due, `flush` commits what is staged, and
    /// `sync` makes everything durable and returns `true` if there is to be another.
    pub(crate) fn run(&self, wake: impl Fn(), flush: impl Fn(), sync: impl Fn() -> bool) {
        self.state.lock().number = thread_number();
        while let Some(request) = self.next() {
            // Waiters first: the change that woke them has already happened.
            if request.wakes {
                wake();
            }
            if request.flush {
                flush();
            }
            if request.sync && !sync() {
                self.state.lock().every = None;
            }
        }
    }

    /// Waits until there is a request. Returns `None` if the thread is to end.
    fn next(&self) -> Option<Request> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            let left = state.sync_due_in();
            if left.is_some_and(|left| left.is_zero()) {
                state.requested.sync = true;
                state.last_sync = Some(Instant::now());
            }
            if state.requested.is_any() {
                return Some(std::mem::take(&mut state.requested));
            }
            state = match left {
                None => self.changed.wait(state),
                Some(left) => self.changed.wait_timeout(state, left),
            };
        }
    }
}

impl BackgroundState {
    /// Returns the time until the next sync is due, if the thread syncs.
    fn sync_due_in(&self) -> Option<Duration> {
        let (every, last) = (self.every?, self.last_sync?);
        Some(every.saturating_sub(last.elapsed()))
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background").field("state", &self.state).finish_non_exhaustive()
    }
}
