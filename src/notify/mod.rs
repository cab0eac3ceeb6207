//! Waiting for records and waking the waiters. There is no I/O in this folder.
//!
//! * This file: what waiters ask the writer for ([`WakeRequest`]), and which waiters a [`Change`] wakes ([`Notifier`]).
//! * `event`: [`Event`], the list of threads and tasks that wait for one kind of change.
//! * `background`: [`Background`], the journal's background thread, which does what no caller should have to wait for.
//!
//! Nothing outside of this folder calls a waker or wakes a follower; the writer only says what changed.
//!
//! A waiter registers at an event first. Then, under the append lock, it looks again and leaves a [`WakeRequest`]. The
//! writer reads that when it gives the append lock up, so whatever the writer does comes either before the look or after
//! the request, and no wake-up is lost. While there is no request the writer wakes no waiter: an append pays one plain load.
//!
//! Readers do not see a staged record. The append that stages the first one wakes one waiter, which commits it together
//! with all that was staged meanwhile: one flush for each wake, not one for each append. Every commit wakes all waiters.
//!
//! The woken waiter flushes, unless it finds its record committed: then the thread that committed it wakes all other
//! waiters, which see to what is staged by then. If the woken waiter goes away before it looks, the [`Event`] wakes the next
//! one instead; if its flush fails, it [wakes the next one](Notifier::wake_next) itself, so that all waiters get the error.
//!
//! Wakers are foreign code, which may call the journal, so they are called without any lock. A thread that holds the sync
//! slot [defers](Notifier::wake) its wakes until it has given the slot up. The writer calls a few of the waiters that it
//! wakes and leaves the rest to the background thread.

mod background;
mod event;

pub(crate) use crate::notify::background::{Answer, Background, Request};
pub(crate) use crate::notify::event::{Event, Wait};
use crate::sync::{AtomicU32, AtomicUsize, Ordering, thread_number};

/// What waiters have asked the writer for, kept under the append lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum WakeRequest {
    /// There are no waiters, or all were woken.
    #[default]
    None,
    /// Nothing is staged: the first append is to wake one waiter, which flushes.
    OnAppend,
    /// A waiter or an append sees to a flush: the next commit is to wake all waiters.
    OnCommit,
}

/// How far a record has to get before its waiter is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitUntil {
    /// Readers see it.
    Committed,
    /// It survives a power loss.
    Durable,
}

/// What a caller may block on to have staged records committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MayBlock {
    /// A sync, if the commit needs one.
    OnSync,
    /// Only the page cache, and other threads that write to it.
    OnWrite,
}

impl MayBlock {
    /// Returns what a caller may block on that waits until `deadline`: a sync could exceed it.
    pub(crate) fn before(deadline: Option<std::time::Instant>) -> Self {
        if deadline.is_none() { Self::OnSync } else { Self::OnWrite }
    }
}

/// A change of the journal that waiters are woken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing changed, or there are no waiters for it.
    None,
    /// A record was staged.
    Staged,
    /// Records were committed.
    Committed,
    /// Records became durable.
    Durable,
    /// The journal was cut, failed or was closed.
    All,
}

/// Wake one waiter for commits.
const ONE: u32 = 1;
/// Wake all waiters for commits.
const COMMITTED: u32 = 2;
/// Wake all waiters for the disk.
const DURABLE: u32 = 4;

impl Change {
    /// Returns the set of wakes that this change causes.
    fn wakes(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Staged => ONE,
            Self::Committed => COMMITTED,
            Self::Durable => DURABLE,
            Self::All => COMMITTED | DURABLE,
        }
    }
}

impl WakeRequest {
    /// Returns the change to wake waiters for, now that the append lock is given up. `staged`: records wait to be flushed.
    /// `moved`: the committed end is not where it was when the first waiter asked.
    pub(crate) fn due(&mut self, staged: bool, moved: bool) -> Change {
        match self {
            Self::None => Change::None,
            _ if moved => {
                *self = Self::None;
                Change::Committed
            }
            Self::OnAppend if staged => {
                *self = Self::OnCommit;
                Change::Staged
            }
            Self::OnAppend | Self::OnCommit => Change::None,
        }
    }
}

/// Wakes the waiters of a journal.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    /// Waiters for records that are committed.
    committed: Event,
    /// Waiters for records that are durable.
    durable: Event,
    /// The number of the thread that holds the sync slot, or 0.
    slot_holder: AtomicUsize,
    /// The wakes that the slot's holder has deferred until it has given the slot up.
    deferred: AtomicU32,
    pub(crate) background: Background,
}

impl Notifier {
    /// Returns the event of records that got as far as `until`.
    pub(crate) fn event(&self, until: WaitUntil) -> &Event {
        match until {
            WaitUntil::Committed => &self.committed,
            WaitUntil::Durable => &self.durable,
        }
    }

    /// Wakes the waiters of `change`: now, or, if this thread holds the sync slot, when it has given that up. The caller
    /// does not hold the append lock.
    #[cold]
    pub(crate) fn wake(&self, change: Change) {
        if self.slot_holder.load(Ordering::Relaxed) == thread_number() {
            self.deferred.fetch_or(change.wakes(), Ordering::AcqRel);
        } else {
            self.wake_now(change.wakes());
        }
    }

    fn wake_now(&self, wakes: u32) {
        let mut left = false;
        if wakes & COMMITTED != 0 {
            left |= self.committed.wake_all();
        } else if wakes & ONE != 0 {
            self.committed.wake_one();
        }
        if wakes & DURABLE != 0 {
            left |= self.durable.wake_all();
        }
        if left && self.background.request(Request::WAKES) != Answer::Accepted {
            self.wake_due();
        }
    }

    /// Calls the waiters that [`wake`](Self::wake) has woken but not called.
    pub(crate) fn wake_due(&self) {
        self.committed.wake_due();
        self.durable.wake_due();
    }

    /// Wakes the next waiter for a commit, in place of one that could not flush.
    pub(crate) fn wake_next(&self) {
        self.wake(Change::Staged);
    }

    /// Notes that this thread has taken the sync slot.
    pub(crate) fn slot_taken(&self) {
        self.slot_holder.store(thread_number(), Ordering::Relaxed);
    }

    /// Notes that this thread is about to give the sync slot up. It calls [`slot_is_free`](Self::slot_is_free) afterwards.
    pub(crate) fn slot_given_up(&self) {
        self.slot_holder.store(0, Ordering::Relaxed);
    }

    /// Does the wakes that were deferred while the slot was held, by this thread or another that has taken it since.
    pub(crate) fn slot_is_free(&self) {
        if self.deferred.load(Ordering::Relaxed) != 0 {
            // Acquired: the wake sees each waiter that registered before the change that was deferred.
            self.wake_now(self.deferred.swap(0, Ordering::AcqRel));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn without_a_request_no_waiter_is_woken() {
        let mut request = WakeRequest::default();
        assert_eq!(request.due(true, true), Change::None);
    }

    #[test]
    fn the_first_append_wakes_one_and_the_commit_all() {
        let mut request = WakeRequest::OnAppend;
        assert_eq!(request.due(false, false), Change::None);
        assert_eq!(request.due(true, false), Change::Staged);
        assert_eq!(request.due(true, false), Change::None, "one wake, however many appends");
        assert_eq!(request.due(false, true), Change::Committed);
        assert_eq!(request.due(false, true), Change::None);
    }

    #[test]
    fn an_append_that_commits_at_once_wakes_all() {
        let mut request = WakeRequest::OnAppend;
        assert_eq!(request.due(true, true), Change::Committed);
        assert_eq!(request, WakeRequest::None);
    }

    #[cfg(feature = "async")]
    #[test]
    fn without_a_thread_the_caller_wakes_all() {
        use crate::sync::Arc;
        use std::task::{Context, Wake, Waker};

        struct CountedWaker(AtomicUsize);

        impl Wake for CountedWaker {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }

        // It belongs to no log, so it has no thread.
        let (notifier, count) = (Notifier::default(), Arc::new(CountedWaker(AtomicUsize::new(0))));
        let waker = Waker::from(Arc::clone(&count));
        let events = [WaitUntil::Committed, WaitUntil::Durable].map(|until| notifier.event(until));
        let mut listeners: Vec<_> =
            events.iter().flat_map(|event| [(); 50].map(|()| event.listen())).collect();
        for listener in &mut listeners {
            assert!(listener.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(notifier.background.request(Request::WAKES), Answer::NoThread);
        notifier.wake(Change::All);
        assert_eq!(count.0.load(Ordering::Relaxed), 100);
    }
}
