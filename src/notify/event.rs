//! What threads and tasks wait at: a list of waiters under a lock of its own, which is a leaf.
//!
//! A wake takes waiters out of the list under that lock and calls them when it is free again, so a waker may do
//! anything: drop its task, wait again, call the journal. A wake for all marks everybody that is registered at that
//! moment, in one step, and calls a few of them. Those that are left are *due*: [`wake_due`](Event::wake_due) calls
//! them, on the background thread, and each waiter that goes away woken calls a few more, so that neither a thread that
//! is busy nor a waker that blocks keeps the others waiting.
//!
//! A wake for one goes to the waiter that registered first. If that one goes away without having used it, the next gets
//! it, unless a wake for all came in between. Slots are used again, so nothing is allocated for a wait.

use std::mem;
#[cfg(feature = "async")]
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "async")]
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::sync::{Arc, Condvar, Mutex};

/// Waiters that a wake for all calls at once.
const AT_ONCE: usize = if cfg!(loom) { 1 } else { 16 };

/// Waiters that one calls which goes away woken.
const HELPED: usize = 2;

/// Threads that do so at the same time. A waker may poll, and what it polls may help: the bound is also that of the
/// stack's depth.
const HELPERS: usize = 8;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Event {
    waiters: Mutex<Waiters>,
}

/// How waiting at an [`Event`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// There was no need to wait, or no longer.
    Over,
    /// The deadline passed, and no wake was spent on this waiter.
    TimedOut,
}

#[derive(Debug, Default)]
struct Waiters {
    slots: Vec<Slot>,
    /// The first slot that nobody has. Free slots are linked by `next`.
    free: Option<usize>,
    /// Those that were not called yet, in the order in which they registered: those that are due are in front.
    first: Option<usize>,
    last: Option<usize>,
    /// The first that is not due.
    fresh: Option<usize>,
    /// Wakes for all so far.
    round: u64,
    helpers: usize,
}

#[derive(Debug, Default)]
struct Slot {
    /// Wakes for all when this waiter registered.
    round: u64,
    called: Called,
    how: How,
    /// What threads sleep at, kept for the next one.
    parker: Option<Arc<Condvar>>,
    previous: Option<usize>,
    next: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Called {
    /// It is still in the list.
    #[default]
    No,
    /// By a wake for one.
    One,
    /// By a wake for all.
    All,
}

/// How a waiter is called.
#[derive(Debug, Default)]
enum How {
    /// It does not wait yet and looks first.
    #[default]
    NotAtAll,
    Thread,
    #[cfg(feature = "async")]
    Task(Waker),
}

/// A waiter that was taken out of the list, to be called without the lock.
enum Call {
    Nobody,
    Thread(Arc<Condvar>),
    #[cfg(feature = "async")]
    Task(Waker),
}

impl Call {
    fn call(self) {
        match self {
            Self::Nobody => {}
            Self::Thread(parker) => parker.notify_one(),
            #[cfg(feature = "async")]
            // A waker that panics keeps nobody else from being woken, and does not end the thread.
            Self::Task(waker) => drop(catch_unwind(AssertUnwindSafe(|| waker.wake()))),
        }
    }
}

impl Waiters {
    fn register(&mut self) -> usize {
        let key = match self.free {
            Some(key) => {
                self.free = self.slots[key].next;
                key
            }
            None => {
                self.slots.push(Slot::default());
                self.slots.len() - 1
            }
        };
        let (round, last) = (self.round, self.last);
        let slot = &mut self.slots[key];
        (slot.round, slot.called, slot.previous, slot.next) = (round, Called::No, last, None);
        match last {
            Some(last) => self.slots[last].next = Some(key),
            None => self.first = Some(key),
        }
        self.last = Some(key);
        self.fresh.get_or_insert(key);
        key
    }

    fn unlink(&mut self, key: usize) {
        let (previous, next) = (self.slots[key].previous.take(), self.slots[key].next.take());
        match previous {
            Some(previous) => self.slots[previous].next = next,
            None => self.first = next,
        }
        match next {
            Some(next) => self.slots[next].previous = previous,
            None => self.last = previous,
        }
        if self.fresh == Some(key) {
            self.fresh = next;
        }
    }

    fn is_woken(&self, key: usize) -> bool {
        let slot = &self.slots[key];
        slot.called != Called::No || slot.round != self.round
    }

    fn take(&mut self, key: usize, called: Called) -> Call {
        self.unlink(key);
        let slot = &mut self.slots[key];
        slot.called = called;
        match mem::take(&mut slot.how) {
            How::NotAtAll => Call::Nobody,
            How::Thread => slot.parker.clone().map_or(Call::Nobody, Call::Thread),
            #[cfg(feature = "async")]
            How::Task(waker) => Call::Task(waker),
        }
    }

    fn take_one(&mut self) -> Option<Call> {
        let key = self.fresh?;
        Some(self.take(key, Called::One))
    }

    /// Takes out a waiter that registered before wake for all number `round`.
    fn take_due(&mut self, round: u64) -> Option<Call> {
        let key = self.first.filter(|&key| self.slots[key].round < round)?;
        Some(self.take(key, Called::All))
    }

    /// The waiter goes away, `used` tells whether with a wake that was its own. The wake that it leaves to the next is
    /// to be called without the lock, and what it was called by let go.
    fn leave(&mut self, key: usize, used: bool) -> (How, Call) {
        if self.slots[key].called == Called::No {
            self.unlink(key);
        }
        let (round, free) = (self.round, self.free);
        let slot = &mut self.slots[key];
        let how = mem::take(&mut slot.how);
        slot.next = free;
        self.free = Some(key);
        // A wake for all has reached the next as well.
        let passes_on = slot.called == Called::One && slot.round == round && !used;
        let next = if passes_on { self.take_one() } else { None };
        (how, next.unwrap_or(Call::Nobody))
    }
}

impl Event {
    /// Wakes the waiter that registered first of those that were not woken yet.
    pub(crate) fn wake_one(&self) {
        let call = self.waiters.lock().take_one();
        if let Some(call) = call {
            call.call();
        }
    }

    /// Wakes all waiters, and calls a few of them. Returns `true` if others are left for [`wake_due`](Self::wake_due).
    #[must_use]
    pub(crate) fn wake_all(&self) -> bool {
        let mut calls = [const { Call::Nobody }; AT_ONCE];
        let mut waiters = self.waiters.lock();
        waiters.fresh = None;
        waiters.round += 1;
        let round = waiters.round;
        for call in &mut calls {
            match waiters.take_due(round) {
                Some(due) => *call = due,
                None => break,
            }
        }
        let left = waiters.first.is_some();
        drop(waiters);
        calls.into_iter().for_each(Call::call);
        left
    }

    /// Calls those that were left by the wakes for all so far, each by itself: a waker that blocks has nobody else with
    /// it.
    pub(crate) fn wake_due(&self) {
        let mut waiters = self.waiters.lock();
        let round = waiters.round;
        while let Some(call) = waiters.take_due(round) {
            drop(waiters);
            call.call();
            waiters = self.waiters.lock();
        }
    }

    /// Calls a few waiters that are due.
    fn help(&self) {
        let mut waiters = self.waiters.lock();
        let round = waiters.round;
        let mut calls = [const { Call::Nobody }; HELPED];
        if waiters.helpers >= HELPERS || waiters.first.is_none_or(|key| waiters.slots[key].round == round) {
            return;
        }
        for call in &mut calls {
            match waiters.take_due(round) {
                Some(due) => *call = due,
                None => break,
            }
        }
        waiters.helpers += 1;
        drop(waiters);
        calls.into_iter().for_each(Call::call);
        self.waiters.lock().helpers -= 1;
    }

    /// Registers: whatever wakes from here on wakes this one, too.
    pub(crate) fn listen(&self) -> Listener<'_> {
        Listener { event: self, key: self.waiters.lock().register(), ends: Ends::Unused }
    }

    /// Registers, then asks `still`, and if that returns `true` waits to be woken, until `deadline` at most.
    pub(crate) fn wait_while(&self, still: impl FnOnce() -> bool, deadline: Option<Instant>) -> Wait {
        let listener = self.listen();
        if still() { listener.sleep(deadline) } else { Wait::Over }
    }

    /// The same for a task, which may be dropped while it waits.
    #[cfg(feature = "async")]
    pub(crate) async fn wait_while_async(&self, still: impl FnOnce() -> bool) {
        let mut listener = self.listen();
        if still() {
            std::future::poll_fn(|context| listener.poll(context)).await;
        }
    }
}

/// A place in the list, which is given up when this is dropped.
#[derive(Debug)]
pub(crate) struct Listener<'a> {
    event: &'a Event,
    key: usize,
    ends: Ends,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// What wakes it is not used.
    Unused,
    /// It was woken, and that was what it waited for.
    Woken,
}

impl Listener<'_> {
    /// Waits to be woken, until `deadline` at most.
    pub(crate) fn sleep(mut self, deadline: Option<Instant>) -> Wait {
        let mut waiters = self.event.waiters.lock();
        while !waiters.is_woken(self.key) {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Wait::TimedOut;
            }
            let slot = &mut waiters.slots[self.key];
            slot.how = How::Thread;
            let parker = Arc::clone(slot.parker.get_or_insert_with(|| Arc::new(Condvar::new())));
            waiters = match left {
                None => parker.wait(waiters),
                Some(left) => parker.wait_timeout(waiters, left),
            };
        }
        self.ends = Ends::Woken;
        Wait::Over
    }

    /// The same for a task, without a deadline.
    #[cfg(feature = "async")]
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut cloned = None;
        loop {
            let mut waiters = self.event.waiters.lock();
            if waiters.is_woken(self.key) {
                self.ends = Ends::Woken;
                drop(waiters);
                return Poll::Ready(());
            }
            let how = &mut waiters.slots[self.key].how;
            if matches!(how, How::Task(waker) if waker.will_wake(context.waker())) {
                drop(waiters);
                return Poll::Pending;
            }
            // To clone or to drop a waker is the executor's code, which may do anything: not under the lock.
            if let Some(waker) = cloned.take() {
                let before = mem::replace(how, How::Task(waker));
                drop(waiters);
                drop(before);
                return Poll::Pending;
            }
            drop(waiters);
            cloned = Some(context.waker().clone());
        }
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let used = self.ends == Ends::Woken;
        // What called it goes last, and without the lock: it may be a waker, which is the code of others.
        let (_how, next) = self.event.waiters.lock().leave(self.key, used);
        next.call();
        if used {
            self.event.help();
        }
    }
}

#[cfg(all(test, feature = "async", not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tasks that wait, and how often they were called.
    fn tasks(event: &Event, number: usize) -> (Vec<Listener<'_>>, Arc<Count>) {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let tasks = (0..number).map(|_| {
            let mut listener = event.listen();
            assert!(listener.poll(&mut Context::from_waker(&waker)).is_pending());
            listener
        });
        (tasks.collect(), count)
    }

    fn calls(count: &Count) -> usize {
        count.0.swap(0, Ordering::Relaxed)
    }

    fn is_woken(listener: &mut Listener<'_>) -> bool {
        listener.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_wake_for_all_calls_a_few_and_leaves_the_others_due() {
        let event = Event::default();
        let (mut early, count) = tasks(&event, 40);
        assert!(event.wake_all());
        let (mut late, count_late) = tasks(&event, 40);
        assert_eq!(calls(&count), AT_ONCE);
        event.wake_due();
        assert_eq!((calls(&count), calls(&count_late)), (40 - AT_ONCE, 0));
        assert!(early.iter_mut().all(is_woken) && !late.iter_mut().any(is_woken));
        event.wake_due();
        assert_eq!(calls(&count_late), 0, "nobody is due");
    }

    #[test]
    fn one_that_is_due_is_woken_before_it_is_called() {
        let event = Event::default();
        let (mut tasks, count) = tasks(&event, 20);
        assert!(event.wake_all());
        assert!(is_woken(&mut tasks[19]));
        tasks.pop();
        assert_eq!(calls(&count), AT_ONCE + HELPED);
        event.wake_due();
        assert_eq!(calls(&count), 20 - 1 - AT_ONCE - HELPED, "not the one that went away");
    }

    #[test]
    fn those_that_go_away_woken_call_others() {
        let event = Event::default();
        let (mut tasks, count) = tasks(&event, 30);
        assert!(event.wake_all());
        assert!(tasks.iter_mut().take(7).all(is_woken));
        tasks.drain(..7);
        assert_eq!(calls(&count), 30);
    }

    #[test]
    fn a_wake_for_one_goes_to_the_first_and_on_to_the_next_unless_all_were_woken() {
        let event = Event::default();
        let (mut tasks, count) = tasks(&event, 3);
        event.wake_one();
        assert!(is_woken(&mut tasks[0]));
        drop(tasks.remove(0));
        assert_eq!(calls(&count), 1, "it was used");
        event.wake_one();
        drop(tasks.remove(0));
        assert_eq!(calls(&count), 2, "it was not used");
        assert!(!event.wake_all());
        let (_late, count_late) = self::tasks(&event, 1);
        drop(tasks);
        assert_eq!((calls(&count), calls(&count_late)), (0, 0), "all were woken since");
    }

    #[test]
    fn slots_are_used_again() {
        let event = Event::default();
        for _ in 0..10 {
            let (tasks, _) = tasks(&event, 5);
            event.wake_one();
            drop(tasks);
            assert_eq!(event.wait_while(|| true, Some(Instant::now())), Wait::TimedOut);
        }
        let waiters = event.waiters.lock();
        assert_eq!((waiters.slots.len(), waiters.first, waiters.last, waiters.fresh), (5, None, None, None));
    }
}
