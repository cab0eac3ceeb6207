//! What the log answers to those who wait for records, and to those who only want to know whether more will come.

use crate::options::SyncPolicy;
use crate::sync::{Arc, Ordering};
use crate::view::generation::Generation;
use crate::write::Log;
use crate::write::notify::{Asked, Until};

impl Log {
    /// Whether something is staged that nobody flushes unless a reader waits for it: an append under
    /// `SyncPolicy::Always` does that itself.
    pub(crate) fn is_staged(&self) -> bool {
        self.policy != SyncPolicy::Always
            && !self.is_closed()
            && self.appended() > self.publisher.load().committed()
    }

    /// Leaves word that someone, who has registered at the bell, waits for record `n` to get as far as `until` and was
    /// in `generation` last. Whether to wait for the bell: else there is something to look at.
    pub(crate) fn ask(&self, n: u64, until: Until, generation: &Arc<Generation>) -> bool {
        let mut writer = self.lock();
        // A failure begins a generation too.
        if !Arc::ptr_eq(writer.view.generation(), generation) || self.is_closed() {
            return false;
        }
        if until == Until::Durable {
            // Not the atomic: what is acknowledged from here on rings for who has registered.
            return self.commit.durable().index < n;
        }
        let flushes = self.policy == SyncPolicy::Always;
        if writer.committed.index >= n || (writer.is_staged() && !flushes) {
            return false;
        }
        writer.ask(if flushes { Asked::Commit } else { Asked::Append });
        true
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Tells those who read and wait that nothing more will come.
    pub(crate) fn set_closed(&self) {
        // Under the lock, so that who is about to wait sees it, or is seen waiting.
        let writer = self.lock();
        self.closed.store(true, Ordering::Release);
        drop(writer);
        self.watch.ring_all();
    }
}
