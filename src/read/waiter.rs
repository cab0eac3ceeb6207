//! [`Waiter`]: what [`Reader`](crate::Reader) and [`Follow`](crate::Follow) wait for records with: look, register, look again
//! under the append lock, sleep. Waiting commits staged records; one commit serves all that is staged.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::notify::{MayBlock, Wait, WaitUntil};
use crate::sync::{Arc, Guard};
use crate::view::View;
use crate::view::generation::Generation;
use crate::write::Log;

/// Waits for records of one journal. Between two looks it holds no view, only the generation that it saw last.
#[derive(Debug)]
pub(crate) struct Waiter {
    log: Arc<Log>,
    generation: Arc<Generation>,
    pub(crate) until: WaitUntil,
}

impl Waiter {
    pub(crate) fn new(log: &Arc<Log>) -> Self {
        let generation = Arc::clone(log.publisher.load().generation());
        Self { log: Arc::clone(log), generation, until: WaitUntil::Committed }
    }

    pub(super) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Looks for record `n`. If it is committed, or durable, as [`until`](Self::until) wants it, returns a view that holds it,
    /// and the last record of that view for which the same is true. Commits what is staged if record `n` may be there; a
    /// commit for which the caller would block on more than `may_block` is left to the background thread.
    ///
    /// # Errors
    /// * `Truncated`, once, if the journal was cut since the generation that this waiter saw last.
    /// * `Poisoned` or `Closed` if the record will never be there.
    /// * `Io` if a flush was needed and failed.
    pub(crate) fn look(&mut self, n: u64, may_block: MayBlock) -> Result<Option<(Guard<Arc<View>>, u64)>> {
        loop {
            // Loaded before the view: a close commits first and sets this afterwards.
            let closed = self.log.is_closed();
            let view = self.log.publisher.load();
            if let Some(last) = self.cut_since(&view) {
                return Err(Error::Truncated { last });
            }
            let last = self.last(&view);
            if n <= last {
                return Ok(Some((view, last)));
            }
            if let Some(first) = view.failure() {
                return Err(Error::Poisoned { first: Arc::clone(first) });
            }
            if closed {
                return Err(Error::Closed);
            }
            drop(view);
            if self.until == WaitUntil::Durable || !self.log.is_staged() {
                return Ok(None);
            }
            match self.log.flush_with(may_block) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => {
                    // This may be the waiter that was woken for the commit: the next one is to get the error too.
                    self.log.notifier.wake_next();
                    return Err(error);
                }
            }
        }
    }

    /// Waits until [`look`](Self::look) finds record `n`, or until `deadline`. Returns `true` if it was found. With a deadline
    /// this waits for no sync, which could exceed it.
    ///
    /// # Errors
    /// As `look`.
    pub(crate) fn wait(&mut self, n: u64, deadline: Option<Instant>) -> Result<bool> {
        let may_block = MayBlock::before(deadline);
        while self.look(n, may_block)?.is_none() {
            let event = self.log.notifier.event(self.until);
            let must_wait = || self.log.must_wait(n, self.until, &self.generation, may_block);
            if event.wait_while(must_wait, deadline) == Wait::TimedOut {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As [`wait`](Self::wait), in a task and without a deadline. The future can be dropped at any time.
    #[cfg(feature = "async")]
    pub(crate) async fn wait_async(&mut self, n: u64) -> Result<()> {
        let may_block = MayBlock::OnWrite;
        while self.look(n, may_block)?.is_none() {
            let event = self.log.notifier.event(self.until);
            event.wait_while_async(|| self.log.must_wait(n, self.until, &self.generation, may_block)).await;
        }
        Ok(())
    }

    /// Takes over the generation of `view`. Returns the last record that the deepest cut since the generation before has
    /// kept, if there was a cut.
    fn cut_since(&mut self, view: &View) -> Option<u64> {
        if Arc::ptr_eq(&self.generation, view.generation()) {
            return None;
        }
        let before = std::mem::replace(&mut self.generation, Arc::clone(view.generation()));
        before.lowest_cut()
    }

    /// Returns the last record of `view` that is committed, or durable, as [`until`](Self::until) wants it.
    fn last(&self, view: &View) -> u64 {
        // The count is loaded first: a durable point from before a cut says nothing about records appended after it, and a
        // thread that sees one of those also sees the durable point that the cut has set.
        let committed = view.committed();
        match self.until {
            WaitUntil::Committed => committed,
            WaitUntil::Durable => committed.min(self.log.group_commit.durable_index()),
        }
    }
}
