//! Waiting for a record, as [`Reader`](crate::Reader) and [`Follow`](crate::Follow) do: look, register, look again under
//! the append lock, sleep. What is staged is flushed by whoever waits for it.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::notify::{MayBlock, Wait, WaitUntil};
use crate::sync::{Arc, Guard};
use crate::view::View;
use crate::view::generation::Generation;
use crate::write::Log;

/// Waits for records of one journal. It holds no view meanwhile, only the generation that it was in.
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

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// A view in which record `n` is there, if it has got as far as it should, with the last record of which that can
    /// be said. Commits what is staged if that is what it takes, or leaves that to the background thread if it takes more
    /// than `may_block`.
    ///
    /// # Errors
    /// * `Truncated`, once, if the journal was cut since the generation that this was in.
    /// * `Poisoned` or `Closed` if the record will never be there.
    /// * `Io` if a flush was needed and failed.
    pub(crate) fn look(&mut self, n: u64, may_block: MayBlock) -> Result<Option<(Guard<Arc<View>>, u64)>> {
        loop {
            // Looked at first: what a close commits comes before it.
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
                    // This may have been the one that was woken for it: the next that waits hears of it too.
                    self.log.notifier.wake_next();
                    return Err(error);
                }
            }
        }
    }

    /// Waits until [`look`](Self::look) finds record `n`, and tells so; or until `deadline`, and tells that it did not.
    /// With a deadline no sync is waited for, which could overshoot it.
    ///
    /// # Errors
    /// As `look`.
    pub(crate) fn wait(&mut self, n: u64, deadline: Option<Instant>) -> Result<bool> {
        let may_block = MayBlock::before(deadline);
        while self.look(n, may_block)?.is_none() {
            let event = self.log.notifier.event(self.until);
            let asked = || self.log.ask(n, self.until, &self.generation, may_block);
            if event.wait_while(asked, deadline) == Wait::TimedOut {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The same in a task, without a deadline. The future can be dropped at any time.
    #[cfg(feature = "async")]
    pub(crate) async fn wait_async(&mut self, n: u64) -> Result<()> {
        let may_block = MayBlock::OnWrite;
        while self.look(n, may_block)?.is_none() {
            let event = self.log.notifier.event(self.until);
            event.wait_while_async(|| self.log.ask(n, self.until, &self.generation, may_block)).await;
        }
        Ok(())
    }

    /// How far `view` was cut since the generation before, which becomes its own.
    fn cut_since(&mut self, view: &View) -> Option<u64> {
        if Arc::ptr_eq(&self.generation, view.generation()) {
            return None;
        }
        let before = std::mem::replace(&mut self.generation, Arc::clone(view.generation()));
        before.lowest_cut()
    }

    /// The last record of `view` that has got as far as it should.
    fn last(&self, view: &View) -> u64 {
        // Looked at first: what was durable before a cut is not known to be so of the records that follow it, and whoever
        // sees one of those sees the durable point that the cut has set.
        let committed = view.committed();
        match self.until {
            WaitUntil::Committed => committed,
            WaitUntil::Durable => committed.min(self.log.group_commit.durable_index()),
        }
    }
}
