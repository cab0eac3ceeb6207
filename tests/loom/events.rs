//! The event by itself, and the background thread that wakes what a wake for all has left: nobody sleeps through a wake
//! that came after it had registered, and a wake that is not used goes to the next.

use std::cell::RefCell;
use std::task::{Context, Wake, Waker};

use loom::thread;

use crate::model;
use crate::notify::{Change, Event, Wait, WaitUntil};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use crate::write::Log;
use crate::write::holds::LongHolds;

/// Waits at `event` until `done`. Relaxed, and changed before the wake: one that registers sees it, or is woken.
fn waits(event: &Arc<Event>, done: &Arc<AtomicBool>) -> impl FnOnce() + 'static {
    let (event, done) = (Arc::clone(event), Arc::clone(done));
    move || {
        while event.wait_while(|| !done.load(Ordering::Relaxed), None) == Wait::Over
            && !done.load(Ordering::Relaxed)
        {}
    }
}

fn event() -> (Arc<Event>, Arc<AtomicBool>) {
    (Arc::new(Event::default()), Arc::new(AtomicBool::new(false)))
}

#[test]
fn a_wake_for_all_and_those_it_has_left_misses_nobody_who_has_registered() {
    model(3, || {
        let (event, done) = event();
        let threads = [(); 2].map(|()| thread::spawn(waits(&event, &done)));
        done.store(true, Ordering::Relaxed);
        if event.wake_all() {
            event.wake_due();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_wake_for_one_that_is_not_used_goes_to_the_next() {
    model(3, || {
        let (event, done) = event();
        // It goes away as a task does that is dropped before it is polled again.
        let mut dropped = event.listen();
        assert!(dropped.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let thread = thread::spawn(waits(&event, &done));
        done.store(true, Ordering::Relaxed);
        event.wake_one();
        drop(dropped);
        thread.join().unwrap();
    });
}

#[test]
fn a_wake_for_one_beside_one_that_goes_away_is_not_lost() {
    model(3, || {
        let (event, done) = event();
        let other = Arc::clone(&event);
        let goes = thread::spawn(move || drop(other.listen()));
        let thread = thread::spawn(waits(&event, &done));
        done.store(true, Ordering::Relaxed);
        event.wake_one();
        goes.join().unwrap();
        thread.join().unwrap();
    });
}

/// A task that waits first, so that it is called first, and that no executor ever polls again, so that it does not help.
/// Beside it a thread waits.
fn beside_a_stalled_task(log: &Arc<Log>, during: impl FnOnce()) {
    let mut stalled = log.notifier.event(WaitUntil::Durable).listen();
    assert!(stalled.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let done = Arc::new(AtomicBool::new(false));
    let (waits, told) = (Arc::clone(log), Arc::clone(&done));
    let thread = thread::spawn(move || {
        let event = waits.notifier.event(WaitUntil::Durable);
        event.wait_while(|| !told.load(Ordering::Relaxed), None);
    });
    done.store(true, Ordering::Relaxed);
    log.notifier.wake(Change::Durable);
    during();
    thread.join().unwrap();
}

/// The second time it may be asleep.
#[test]
fn the_background_thread_wakes_those_that_the_writer_has_left() {
    model(2, || {
        let log = Log::new();
        beside_a_stalled_task(&log, || ());
        beside_a_stalled_task(&log, || ());
        log.stop_background();
    });
}

#[test]
fn those_who_are_left_when_the_background_thread_ends_are_woken_by_who_ends_it() {
    model(2, || {
        let log = Log::new();
        beside_a_stalled_task(&log, || log.stop_background());
    });
}

/// Whatever is woken for while the slot is held is woken for once it is free, by whichever thread.
#[test]
fn what_the_holder_of_the_slot_owes_is_paid() {
    model(3, || {
        let log = Log::new();
        let waits = Arc::clone(&log);
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        let thread = thread::spawn(move || {
            let event = waits.notifier.event(WaitUntil::Durable);
            event.wait_while(|| !told.load(Ordering::Relaxed), None);
        });
        let other = Arc::clone(&log);
        let other = thread::spawn(move || drop(other.group_commit.take_slot()));
        let slot = log.group_commit.take_slot();
        done.store(true, Ordering::Relaxed);
        log.notifier.wake(Change::Durable);
        drop(slot);
        thread.join().unwrap();
        other.join().unwrap();
    });
}

/// A waker that takes the slot, as one does that truncates. What a waker holds has to be `Send`, and nothing of a model
/// is, so that lies here: the threads of a model are one thread of the system.
struct TakesTheSlot;

thread_local!(static OF: RefCell<Option<Arc<Log>>> = const { RefCell::new(None) });

impl Wake for TakesTheSlot {
    fn wake(self: std::sync::Arc<Self>) {
        let log = OF.with_borrow(|log| log.as_ref().map(Arc::clone));
        drop(log.expect("a model that runs").group_commit.take_slot());
    }
}

#[test]
fn a_waker_is_called_without_the_slot() {
    model(3, || {
        let log = Log::new();
        OF.set(Some(Arc::clone(&log)));
        let waker = Waker::from(std::sync::Arc::new(TakesTheSlot));
        let mut listener = log.notifier.event(WaitUntil::Durable).listen();
        assert!(listener.poll(&mut Context::from_waker(&waker)).is_pending());
        let other = Arc::clone(&log);
        let other = thread::spawn(move || {
            let slot = other.group_commit.take_slot();
            other.notifier.wake(Change::Durable);
            drop(slot);
        });
        let slot = log.group_commit.take_slot();
        log.notifier.wake(Change::Durable);
        drop(slot);
        other.join().unwrap();
        drop(listener);
        OF.take();
    });
}

#[test]
fn nobody_enters_while_the_lock_is_held_for_long() {
    model(3, || {
        let (holds, lock) = (Arc::new(LongHolds::default()), Arc::new(Mutex::new(())));
        let held = Arc::new(AtomicBool::new(false));
        let (entered, wanted, looks) = (Arc::clone(&holds), Arc::clone(&lock), Arc::clone(&held));
        let enters = thread::spawn(move || {
            let locked = entered.enter(|| {
                assert!(!looks.load(Ordering::Relaxed), "it may wait for a sync");
                let locked = wanted.lock();
                assert!(!looks.load(Ordering::Relaxed), "it has waited for a sync");
                locked
            });
            drop(locked);
        });
        holds.begin();
        let locked = lock.lock();
        held.store(true, Ordering::Relaxed);
        thread::yield_now();
        held.store(false, Ordering::Relaxed);
        drop(locked);
        holds.end();
        enters.join().unwrap();
    });
}
