//! [`Event`]: threads and tasks that wait for the same change, in a list under a lock of its own, which is a leaf.
//!
//! To *call* a waiter is to notify its thread or to call its waker. A wake takes waiters out of the list under the lock and
//! calls them without it, so a waker may do anything: drop its task, wait again, call the journal.
//!
//! A wake for all marks every registered waiter as woken, in one step, and calls a few of them. The others are *due*:
//! [`wake_due`](Event::wake_due) calls them on the background thread, and each woken waiter that goes away calls a few more.
//! So neither a busy thread nor a waker that blocks keeps the other waiters waiting.
//!
//! A wake for one goes to the waiter that registered first. If that waiter goes away without having used the wake, the next
//! waiter gets it, unless a wake for all came in between. Registrations are reused, so a wait allocates nothing.

use std::mem;
#[cfg(feature = "async")]
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "async")]
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::sync::{Arc, Condvar, Mutex};

/// The number of waiters that a wake for all calls at once.
const AT_ONCE: usize = if cfg!(loom) { 1 } else { 16 };

/// The number of waiters that a woken waiter calls when it goes away.
const HELPED: usize = 2;

/// The number of threads that do so at the same time. A waker may poll, and the polled task may call others in turn, so
/// this also bounds the depth of the stack.
const HELPERS: usize = 8;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Event {
    waiters: Mutex<WaiterList>,
}

/// How a wait at an [`Event`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// There was no need to wait, or no longer.
    Over,
    /// The deadline passed, and no wake was spent on this waiter.
    TimedOut,
}

#[derive(Debug, Default)]
struct WaiterList {
    registrations: Vec<Registration>,
    /// The first free registration. Free ones are linked by `next`.
    free: Option<usize>,
    /// The first and last of the waiters that were not called yet, in the order in which they registered. Those that are due
    /// come first.
    first: Option<usize>,
    last: Option<usize>,
    /// The first waiter that is not due.
    not_due: Option<usize>,
    /// The number of wakes for all so far.
    round: u64,
    helpers: usize,
}

#[derive(Debug, Default)]
struct Registration {
    /// The number of wakes for all when this waiter registered.
    round: u64,
    called: Called,
    sleeper: Sleeper,
    /// The condition variable that the thread sleeps at, kept for the next waiter.
    parker: Option<Arc<Condvar>>,
    previous: Option<usize>,
    next: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Called {
    /// The waiter is still in the list.
    #[default]
    No,
    /// By a wake for one.
    One,
    /// By a wake for all.
    All,
}

/// The thread or task that a call reaches.
#[derive(Debug, Default)]
enum Sleeper {
    /// The waiter is awake and looks whether it has to wait.
    #[default]
    Awake,
    Thread,
    #[cfg(feature = "async")]
    Task(Waker),
}

/// The call of a waiter that was taken out of the list, to be made without the lock.
enum Call {
    None,
    Thread(Arc<Condvar>),
    #[cfg(feature = "async")]
    Task(Waker),
}

impl Call {
    fn call(self) {
        match self {
            Self::None => {}
            Self::Thread(parker) => parker.notify_one(),
            #[cfg(feature = "async")]
            // A waker that panics keeps no other waiter from being woken, and does not end the thread.
            Self::Task(waker) => drop(catch_unwind(AssertUnwindSafe(|| waker.wake()))),
        }
    }
}

impl WaiterList {
    /// Appends a waiter to the list and returns its key.
    fn register(&mut self) -> usize {
        let key = match self.free {
            Some(key) => {
                self.free = self.registrations[key].next;
                key
            }
            None => {
                self.registrations.push(Registration::default());
                self.registrations.len() - 1
            }
        };
        let (round, last) = (self.round, self.last);
        let registration = &mut self.registrations[key];
        (registration.round, registration.called, registration.previous, registration.next) =
            (round, Called::No, last, None);
        match last {
            Some(last) => self.registrations[last].next = Some(key),
            None => self.first = Some(key),
        }
        self.last = Some(key);
        self.not_due.get_or_insert(key);
        key
    }

    /// Takes a waiter out of the list.
    fn unlink(&mut self, key: usize) {
        let (previous, next) = (self.registrations[key].previous.take(), self.registrations[key].next.take());
        match previous {
            Some(previous) => self.registrations[previous].next = next,
            None => self.first = next,
        }
        match next {
            Some(next) => self.registrations[next].previous = previous,
            None => self.last = previous,
        }
        if self.not_due == Some(key) {
            self.not_due = next;
        }
    }

    fn is_woken(&self, key: usize) -> bool {
        let registration = &self.registrations[key];
        registration.called != Called::No || registration.round != self.round
    }

    /// Takes a waiter out of the list to be called.
    fn take(&mut self, key: usize, called: Called) -> Call {
        self.unlink(key);
        let registration = &mut self.registrations[key];
        registration.called = called;
        match mem::take(&mut registration.sleeper) {
            Sleeper::Awake => Call::None,
            Sleeper::Thread => registration.parker.clone().map_or(Call::None, Call::Thread),
            #[cfg(feature = "async")]
            Sleeper::Task(waker) => Call::Task(waker),
        }
    }

    /// Takes out the first waiter that was not woken yet.
    fn take_one(&mut self) -> Option<Call> {
        let key = self.not_due?;
        Some(self.take(key, Called::One))
    }

    /// Takes out a waiter that is due: it registered before the wake for all with number `round`.
    fn take_due(&mut self, round: u64) -> Option<Call> {
        let key = self.first.filter(|&key| self.registrations[key].round < round)?;
        Some(self.take(key, Called::All))
    }

    /// Removes a waiter that goes away. `used`: it was woken and used the wake. Returns what is to be dropped and, for the
    /// waiter that gets an unused wake, the call; both without the lock.
    fn leave(&mut self, key: usize, used: bool) -> (Sleeper, Call) {
        if self.registrations[key].called == Called::No {
            self.unlink(key);
        }
        let (round, free) = (self.round, self.free);
        let registration = &mut self.registrations[key];
        let sleeper = mem::take(&mut registration.sleeper);
        registration.next = free;
        self.free = Some(key);
        // After a wake for all, the next waiter is woken as well.
        let passes_on = registration.called == Called::One && registration.round == round && !used;
        let next = if passes_on { self.take_one() } else { None };
        (sleeper, next.unwrap_or(Call::None))
    }
}

impl Event {
    /// Wakes one waiter: the first to register of those that were not woken yet.
    pub(crate) fn wake_one(&self) {
        let call = self.waiters.lock().take_one();
        if let Some(call) = call {
            call.call();
        }
    }

    /// Wakes all waiters, and calls a few of them. Returns `true` if others are left for [`wake_due`](Self::wake_due).
    #[must_use]
    pub(crate) fn wake_all(&self) -> bool {
        let mut calls = [const { Call::None }; AT_ONCE];
        let mut waiters = self.waiters.lock();
        waiters.not_due = None;
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

    /// Calls the waiters that the wakes for all so far have left, one after the other. Each is taken out of the list just
    /// before its call, so that other threads can call the rest while a waker blocks.
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
        let mut calls = [const { Call::None }; HELPED];
        if waiters.helpers >= HELPERS
            || waiters.first.is_none_or(|key| waiters.registrations[key].round == round)
        {
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

    /// Registers a waiter. Every wake from here on can reach it.
    pub(crate) fn listen(&self) -> Listener<'_> {
        Listener { event: self, key: self.waiters.lock().register(), woken: false }
    }

    /// Registers, then calls `still`. If that returns `true`, waits to be woken, until `deadline` at most.
    pub(crate) fn wait_while(&self, still: impl FnOnce() -> bool, deadline: Option<Instant>) -> Wait {
        let listener = self.listen();
        if still() { listener.sleep(deadline) } else { Wait::Over }
    }

    /// As [`wait_while`](Self::wait_while), without a deadline, for a task. The future may be dropped while it waits.
    #[cfg(feature = "async")]
    pub(crate) async fn wait_while_async(&self, still: impl FnOnce() -> bool) {
        let mut listener = self.listen();
        if still() {
            std::future::poll_fn(|context| listener.poll(context)).await;
        }
    }
}

/// A registered waiter. A drop removes it from the list.
#[derive(Debug)]
pub(crate) struct Listener<'a> {
    event: &'a Event,
    key: usize,
    /// The waiter was woken and the wake was used: another waiter must not get it.
    woken: bool,
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
            let registration = &mut waiters.registrations[self.key];
            registration.sleeper = Sleeper::Thread;
            let parker = Arc::clone(registration.parker.get_or_insert_with(|| Arc::new(Condvar::new())));
            waiters = match left {
                None => parker.wait(waiters),
                Some(left) => parker.wait_timeout(waiters, left),
            };
        }
        self.woken = true;
        Wait::Over
    }

    /// Polls a task's wait to be woken.
    #[cfg(feature = "async")]
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut cloned = None;
        loop {
            let mut waiters = self.event.waiters.lock();
            if waiters.is_woken(self.key) {
                self.woken = true;
                drop(waiters);
                return Poll::Ready(());
            }
            let sleeper = &mut waiters.registrations[self.key].sleeper;
            if matches!(sleeper, Sleeper::Task(waker) if waker.will_wake(context.waker())) {
                drop(waiters);
                return Poll::Pending;
            }
            // Cloning or dropping a waker runs the executor's code, which may do anything, so it is not done under the lock.
            if let Some(waker) = cloned.take() {
                let before = mem::replace(sleeper, Sleeper::Task(waker));
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
        let used = self.woken;
        // The sleeper is dropped last, and without the lock: it may hold a waker, which is foreign code.
        let (_sleeper, next) = self.event.waiters.lock().leave(self.key, used);
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

    /// Returns waiting tasks, and how often they were called.
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
        assert_eq!(calls(&count_late), 0, "no waiter is due");
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
    fn registrations_are_used_again() {
        let event = Event::default();
        for _ in 0..10 {
            let (tasks, _) = tasks(&event, 5);
            event.wake_one();
            drop(tasks);
            assert_eq!(event.wait_while(|| true, Some(Instant::now())), Wait::TimedOut);
        }
        let waiters = event.waiters.lock();
        assert_eq!(
            (waiters.registrations.len(), waiters.first, waiters.last, waiters.not_due),
            (5, None, None, None)
        );
    }
}
