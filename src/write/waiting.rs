//! What the log answers to waiters, and to readers that only ask whether more records will come; and what the background
//! thread does for them.

use crate::error::{Error, Result};
use crate::file::end::is_no_space;
use crate::notify::{Answer, Change, MayBlock, Request, WaitUntil, WakeRequest};
use crate::options::SyncPolicy;
use crate::sync::{Arc, Ordering, spawn};
use crate::view::generation::Generation;
use crate::write::Log;
use crate::write::writer::{Note, Refusal};

impl Log {
    /// Whether something is staged that nobody flushes unless a reader waits for it: an append under
    /// `SyncPolicy::Always` does that itself.
    pub(crate) fn is_staged(&self) -> bool {
        self.policy != SyncPolicy::Always
            && !self.is_closed()
            && self.appended() > self.publisher.load().committed()
    }

    /// Commits what is appended, or leaves that to the background thread, if it would take more than the caller
    /// may block on. Returns `true` if it is done.
    ///
    /// # Errors
    /// As [`flush`](Self::flush); and again what a write has met that is not rolled back yet.
    pub(crate) fn flush_with(&self, may_block: MayBlock) -> Result<bool> {
        if may_block == MayBlock::OnSync {
            return self.flush().map(|()| true);
        }
        self.file.check_process()?;
        let Some(mut writer) = self.lock_shortly() else { return self.leave_flush() };
        writer.check()?;
        if let Some(error) = writer.refused() {
            return Err(error);
        }
        let durable = self.group_commit.durable_bytes();
        if writer.needs_slot(durable) {
            drop(writer);
            return self.leave_flush();
        }
        let error = match writer.write_staged(durable) {
            Ok(()) => return Ok(true),
            // Nothing was written, and what is staged stays.
            Err(Refusal::Before(error)) => return Err(error),
            Err(Refusal::Write(error)) => error,
        };
        // To take off what the write has left takes a sync. Without the room ahead the rest may then fit.
        let may_fit = is_no_space(&error) && self.preallocation.left(writer.committed.bytes) > 0;
        writer.refuse_staged((!may_fit).then(|| error.clone()), Note::RollBack { dropped: None });
        drop(writer);
        let flushed = self.leave_flush()?;
        if may_fit || flushed { Ok(flushed) } else { Err(error) }
    }

    /// Leaves a flush to the background thread. Returns `true` if there is none, so that it is done already.
    fn leave_flush(&self) -> Result<bool> {
        match self.notifier.background.request(Request::FLUSH) {
            // The thread that closes the journal flushes it.
            Answer::Accepted | Answer::Stopped => Ok(false),
            Answer::NoThread => self.flush().map(|()| true),
        }
    }

    /// The background thread's flush. If it fails, the waiters that left it look again, and are told.
    pub(crate) fn flush_for_others(&self) {
        if let Err(error) = self.flush() {
            self.count_failure(&error);
            self.notifier.wake(Change::Committed);
        }
    }

    /// The background thread's sync. Returns `true` if there is to be another: what fails is tried again, since the
    /// records are still staged.
    pub(crate) fn sync_for_others(&self) -> bool {
        let Err(error) = self.sync() else { return true };
        self.count_failure(&error);
        !matches!(error, Error::Poisoned { .. })
    }

    fn count_failure(&self, error: &Error) {
        let mut failures = self.background.lock();
        failures.count += 1;
        failures.last = Some(error.to_string());
    }

    /// Says that a waiter, which has registered at the event, waits for record `n` to get as far as `until` and was in
    /// `generation` last. Returns `true` if it has to wait: else there is something to look at.
    pub(crate) fn must_wait(
        &self,
        n: u64,
        until: WaitUntil,
        generation: &Arc<Generation>,
        may_block: MayBlock,
    ) -> bool {
        let writer = match may_block {
            MayBlock::OnSync => Some(self.lock()),
            MayBlock::OnWrite => self.lock_shortly(),
        };
        // The thread that holds the lock across syncs wakes all when that is over.
        let Some(mut writer) = writer else { return true };
        // A failure begins a generation too.
        if !Arc::ptr_eq(writer.view.generation(), generation) || self.is_closed() {
            return false;
        }
        if until == WaitUntil::Durable {
            // Not the atomic: what is acknowledged from here on wakes each waiter that has registered.
            return self.group_commit.durable().index < n;
        }
        if writer.committed.index >= n {
            return false;
        }
        let flushes = self.policy == SyncPolicy::Always;
        if !writer.is_staged() || flushes {
            writer.request_wake(if flushes { WakeRequest::OnCommit } else { WakeRequest::OnAppend });
            return true;
        }
        if may_block == MayBlock::OnSync || !writer.needs_slot(self.group_commit.durable_bytes()) {
            return false;
        }
        if writer.refused().is_some() {
            return false;
        }
        writer.request_wake(WakeRequest::OnCommit);
        drop(writer);
        // A failure is told by the next look.
        matches!(self.leave_flush(), Ok(false))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Has the background thread, once it is needed, work for this log. It does not keep the log alive before it runs.
    pub(crate) fn employ_background(self: &Arc<Self>) {
        let log = Arc::downgrade(self);
        self.notifier.background.started_by(Box::new(move || {
            let log = log.upgrade().ok_or(std::io::ErrorKind::NotFound)?;
            spawn("wally-background", move || {
                let (wake, flush) = (|| log.notifier.wake_due(), || log.flush_for_others());
                log.notifier.background.run(wake, flush, || log.sync_for_others());
            })
        }));
    }

    /// Ends the background thread; what it has not woken is woken now.
    pub(crate) fn stop_background(&self) {
        self.notifier.background.stop();
        self.notifier.wake_due();
    }

    /// Tells readers and waiters that nothing more will come.
    pub(crate) fn set_closed(&self) {
        // Under the lock, so that a waiter that is about to sleep sees it, or is seen.
        let writer = self.lock();
        self.closed.store(true, Ordering::Release);
        drop(writer);
        self.notifier.wake(Change::All);
    }
}
