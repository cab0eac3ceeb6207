//! The background thread: one a journal, for what nobody should wait for. It begins at the first need and ends with the
//! journal.
//!
//! What it is to do is a small set of flags under a lock; it sleeps until one is set, or until the next sync of
//! [`SyncPolicy::Interval`](crate::SyncPolicy::Interval) is due. It does three things: it calls waiters that a wake for
//! all has left, flushes for those that must not wait for a disk, and syncs at intervals.

use std::io;
use std::time::{Duration, Instant};

use crate::sync::{Arc, Condvar, JoinHandle, Mutex, OnceLock, Weak, spawn, thread_number};
use crate::write::Log;

/// The shortest interval that is kept: below it a sync would follow the other.
const SHORTEST: Duration = Duration::from_millis(1);

/// What the thread is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Request {
    /// Call the waiters that are due.
    pub(crate) wakes: bool,
    /// Commit what is staged.
    pub(crate) flush: bool,
    /// Make everything durable.
    pub(crate) sync: bool,
}

impl Request {
    pub(crate) const WAKES: Self = Self { wakes: true, flush: false, sync: false };
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

/// What becomes of a [request](Background::request).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It will be done.
    Accepted,
    /// The journal is being closed.
    Stopped,
    /// There is no thread to be had.
    NoThread,
}

#[derive(Debug, Default)]
pub(crate) struct Background {
    /// What the thread works for. Weak, since it belongs to that.
    log: OnceLock<Weak<Log>>,
    state: Mutex<BackgroundState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct BackgroundState {
    work: Request,
    /// How often to sync, if it does.
    every: Option<Duration>,
    last_sync: Option<Instant>,
    thread: Option<JoinHandle<()>>,
    /// The thread's [number](thread_number), once it runs.
    number: usize,
    stopped: bool,
}

impl Background {
    /// Says what the thread works for. Without that it does not start.
    pub(crate) fn belongs_to(&self, log: &Arc<Log>) {
        // Only the first counts, and there is only one.
        let _ = self.log.set(Arc::downgrade(log));
    }

    /// Has `work` done, by a thread that is started if need be.
    pub(crate) fn request(&self, work: Request) -> Answer {
        let mut state = self.state.lock();
        if state.stopped {
            return Answer::Stopped;
        }
        if self.start(&mut state).is_err() {
            return Answer::NoThread;
        }
        let sleeps = !state.work.is_any();
        state.work = state.work.and(work);
        drop(state);
        if sleeps {
            self.changed.notify_one();
        }
        Answer::Accepted
    }

    /// Has everything synced at least `every` so often.
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
        let log = self.log.get().and_then(Weak::upgrade).ok_or(io::ErrorKind::NotFound)?;
        state.thread = Some(spawn("wally-background", move || run(&log))?);
        Ok(())
    }

    /// Nothing more is accepted. Returns when the thread has ended, unless it is the caller, as when a waker drops the
    /// journal; what it has not done it leaves.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        let (thread, number) = (state.thread.take(), state.number);
        drop(state);
        self.changed.notify_one();
        if let Some(thread) = thread
            && number != thread_number()
        {
            // It cannot have panicked, and there is nobody to tell if it had.
            let _ = thread.join();
        }
    }

    /// Waits until there is something to do; `None` if the thread is to end.
    fn next(&self) -> Option<Request> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            let left = state.sync_due_in();
            if left.is_some_and(|left| left.is_zero()) {
                state.work.sync = true;
                state.last_sync = Some(Instant::now());
            }
            if state.work.is_any() {
                return Some(std::mem::take(&mut state.work));
            }
            state = match left {
                None => self.changed.wait(state),
                Some(left) => self.changed.wait_timeout(state, left),
            };
        }
    }
}

impl BackgroundState {
    fn sync_due_in(&self) -> Option<Duration> {
        let (every, last) = (self.every?, self.last_sync?);
        Some(every.saturating_sub(last.elapsed()))
    }
}

fn run(log: &Log) {
    let background = &log.notifier.background;
    background.state.lock().number = thread_number();
    while let Some(work) = background.next() {
        // Waiters for what is there already come first.
        if work.wakes {
            log.notifier.wake_due();
        }
        if work.flush {
            log.flush_for_others();
        }
        if work.sync && !log.sync_for_others() {
            background.state.lock().every = None;
        }
    }
}
