//! The background thread of `SyncPolicy::Interval`.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::sync::{Arc, Condvar, Mutex};
use crate::write::Log;

/// The shortest interval that is kept: below it a sync would follow the other.
const SHORTEST: Duration = Duration::from_millis(1);

/// Syncs a journal at least every so often until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn start(log: &Arc<Log>, every: Duration) -> std::io::Result<Self> {
        let every = every.max(SHORTEST);
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (log, stopped) = (Arc::clone(log), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("wally-sync".into()).spawn(move || {
            let mut last = Instant::now();
            while !wait(&stopped, last, every) {
                last = Instant::now();
                if !tick(&log) {
                    return;
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked, and there is nobody to tell if it had.
            let _ = thread.join();
        }
    }
}

/// Waits until `every` has passed since `last`; whether to stop instead.
fn wait(stopped: &(Mutex<bool>, Condvar), last: Instant, every: Duration) -> bool {
    let mut stop = stopped.0.lock();
    loop {
        let left = every.saturating_sub(last.elapsed());
        if *stop || left.is_zero() {
            return *stop;
        }
        stop = stopped.1.wait_timeout(stop, left);
    }
}

/// One turn; whether there is to be another. What fails is tried again, since the records are still staged.
fn tick(log: &Log) -> bool {
    let Err(error) = log.sync() else { return true };
    let mut failures = log.background.lock();
    failures.count += 1;
    failures.last = Some(error.to_string());
    !matches!(error, Error::Poisoned { .. })
}
