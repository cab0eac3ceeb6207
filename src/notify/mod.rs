//! The waiters of a journal: what they wait at, what they have asked for, and how they are woken. No I/O in here.
//!
//! A waiter registers at an event first and then, under the append lock, looks again and says in [`WakeRequest`] what it waits
//! for. The writer reads that when it gives the lock up, so whatever it does comes either before the look or after the
//! question, and no wake-up is lost. Nobody is woken for as long as nobody has asked: an append pays one plain load.
//!
//! What is staged is no record yet that a reader sees. The append that stages the first one wakes one of those who
//! wait, which commits it, and with it all that was staged meanwhile: one flush a wake, not one an append. Every commit
//! wakes all.
//!
//! The one that was woken flushes, unless it finds its record there: then another has committed it and wakes all the
//! rest, which see to what is staged by then. If it goes away before it looks, the [`Event`] wakes the next in its place;
//! if its flush fails, it [passes the call on](Notifier::pass_on) itself, so that all who wait are told.
//!
//! Wakers are code of others, which may call the journal, so they are called without any lock. A thread that holds the
//! sync slot [owes](Notifier::wake) what it would wake until it has given the slot up. The writer calls a few of those it
//! wakes and leaves the rest to the [background thread](Background).

pub(crate) mod background;
pub(crate) mod event;

use crate::notify::background::{Answer, Background, Request};
use crate::notify::event::Event;
use crate::sync::{AtomicU32, AtomicUsize, Ordering, thread_number};

/// What those who wait have asked for, under the append lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum WakeRequest {
    /// Nobody waits, or everybody was woken.
    #[default]
    None,
    /// Nothing is staged: the first append is to wake one, which flushes.
    OnAppend,
    /// Someone sees to a flush: the next commit is to wake all.
    OnCommit,
}

/// How far a record has to get before who waits for it hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitUntil {
    /// Readers see it.
    Committed,
    /// It survives a power loss.
    Durable,
}

/// What a caller may wait for to have what is staged committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MayBlock {
    /// A sync, if that is what it takes.
    OnSync,
    /// The page cache and those that write to it.
    OnWrite,
}

impl MayBlock {
    /// That of a caller which waits until `deadline`: a sync could overshoot it.
    pub(crate) fn before(deadline: Option<std::time::Instant>) -> Self {
        if deadline.is_none() { Self::OnSync } else { Self::OnWrite }
    }
}

/// What happened that someone waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing, or nobody waits.
    None,
    /// Something was staged.
    Staged,
    /// Something was committed.
    Committed,
    /// Something became durable.
    Durable,
    /// The journal was cut, failed or was closed.
    All,
}

/// One waiter for commits.
const ONE: u32 = 1;
/// All waiters for commits.
const COMMITTED: u32 = 2;
/// All waiters for the disk.
const DURABLE: u32 = 4;

impl Change {
    /// What is to be woken for it.
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
    /// What to wake for, now that the append lock is given up. `staged`: something waits to be flushed; `moved`:
    /// the committed end is not where it was when the first of them asked.
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

/// The events of a journal.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    /// Records were committed.
    committed: Event,
    /// Records became durable.
    durable: Event,
    /// The thread that has the sync slot, or 0.
    slot_of: AtomicUsize,
    /// What that thread owes until it has given the slot up.
    owed: AtomicU32,
    pub(crate) background: Background,
}

impl Notifier {
    /// The event of records that got as far as `until`.
    pub(crate) fn event(&self, until: WaitUntil) -> &Event {
        match until {
            WaitUntil::Committed => &self.committed,
            WaitUntil::Durable => &self.durable,
        }
    }

    /// Wakes the waiters of what happened: now, or, if this thread has the sync slot, when it has given it up. The
    /// caller does not hold the append lock.
    #[cold]
    pub(crate) fn wake(&self, change: Change) {
        if self.slot_of.load(Ordering::Relaxed) == thread_number() {
            self.owed.fetch_or(change.wakes(), Ordering::AcqRel);
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

    /// Calls the waiters that wakes for all have left.
    pub(crate) fn wake_due(&self) {
        self.committed.wake_due();
        self.durable.wake_due();
    }

    /// Wakes the next of those who wait, in place of one that could not flush.
    pub(crate) fn pass_on(&self) {
        self.wake(Change::Staged);
    }

    /// This thread has taken the sync slot.
    pub(crate) fn slot_taken(&self) {
        self.slot_of.store(thread_number(), Ordering::Relaxed);
    }

    /// This thread is about to give the sync slot up, and calls [`slot_is_free`](Self::slot_is_free) afterwards.
    pub(crate) fn slot_given_up(&self) {
        self.slot_of.store(0, Ordering::Relaxed);
    }

    /// Wakes the waiters that this thread owed it to, or another thread that has taken the slot since.
    pub(crate) fn slot_is_free(&self) {
        if self.owed.load(Ordering::Relaxed) != 0 {
            // Acquired: the wake sees each waiter that registered before what is owed for happened.
            self.wake_now(self.owed.swap(0, Ordering::AcqRel));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_woken_who_has_not_asked() {
        let mut asked = WakeRequest::default();
        assert_eq!(asked.due(true, true), Change::None);
    }

    #[test]
    fn the_first_append_wakes_one_and_the_commit_all() {
        let mut asked = WakeRequest::OnAppend;
        assert_eq!(asked.due(false, false), Change::None);
        assert_eq!(asked.due(true, false), Change::Staged);
        assert_eq!(asked.due(true, false), Change::None, "one wake, however many appends");
        assert_eq!(asked.due(false, true), Change::Committed);
        assert_eq!(asked.due(false, true), Change::None);
    }

    #[test]
    fn an_append_that_commits_at_once_wakes_all() {
        let mut asked = WakeRequest::OnAppend;
        assert_eq!(asked.due(true, true), Change::Committed);
        assert_eq!(asked, WakeRequest::None);
    }

    #[cfg(feature = "async")]
    #[test]
    fn without_a_thread_the_caller_wakes_all() {
        use crate::sync::Arc;
        use std::task::{Context, Wake, Waker};

        struct Count(AtomicUsize);

        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }

        // It belongs to no journal, so it has no thread.
        let (notifier, count) = (Notifier::default(), Arc::new(Count(AtomicUsize::new(0))));
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
