//! Waiting for records: no wake-up is lost, whichever of those who wait is woken first, gives up or finds another thing
//! to tell, and whichever thread wakes them. A lost one is a thread that never ends, which loom calls a deadlock.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use loom::thread;

use crate::error::Error;
use crate::model;
use crate::notify::WaitUntil;
use crate::read::waiter::Waiter;
use crate::sync::{Arc, Condvar, Mutex};
use crate::write::{Disk, Log};

/// One who waits for records to get as far as `until`.
fn waiter(log: &Arc<Log>, until: WaitUntil) -> Waiter {
    let mut waiter = Waiter::new(log);
    waiter.until = until;
    waiter
}

/// Waits until record `n` is there.
fn waits(log: &Arc<Log>, n: u64) -> impl FnOnce() + 'static {
    let mut waiter = Waiter::new(log);
    move || assert!(waiter.wait(n, None).unwrap())
}

#[test]
fn who_waits_gets_what_is_only_staged() {
    model(3, || {
        let log = Log::new();
        let follower = thread::spawn(waits(&log, 2));
        log.append(1);
        log.append(2);
        follower.join().unwrap();
        assert!((1..=2).contains(&log.flushes()), "one flush a wake at most");
    });
}

#[test]
fn who_waits_is_woken_by_a_flush_of_another() {
    model(3, || {
        let log = Log::new();
        let follower = thread::spawn(waits(&log, 1));
        log.append(1);
        log.flush().unwrap();
        follower.join().unwrap();
        assert_eq!(log.flushes(), 1);
    });
}

#[test]
fn a_commit_wakes_all_who_wait() {
    model(2, || {
        let log = Log::new();
        let threads = [1, 1].map(|n| thread::spawn(waits(&log, n)));
        log.write(1);
        threads.map(|thread| thread.join().unwrap());
        log.stop_background();
    });
}

#[test]
fn two_who_wait_for_different_records_both_get_theirs() {
    model(2, || {
        let log = Log::new();
        let threads = [1, 2].map(|n| thread::spawn(waits(&log, n)));
        log.append(1);
        log.append(2);
        threads.map(|thread| thread.join().unwrap());
        log.stop_background();
    });
}

#[test]
fn who_gives_up_leaves_the_flush_to_who_does_not() {
    model(2, || {
        let log = Log::new();
        let mut impatient = Waiter::new(&log);
        let threads = [
            thread::spawn(move || drop(impatient.wait(1, Some(Instant::now())).unwrap())),
            thread::spawn(waits(&log, 1)),
        ];
        log.append(1);
        threads.map(|thread| thread.join().unwrap());
        log.stop_background();
    });
}

#[test]
fn who_has_its_record_leaves_the_flush_of_the_next_to_others() {
    model(2, || {
        let log = Log::new();
        let threads = [1, 2].map(|n| thread::spawn(waits(&log, n)));
        log.append(1);
        log.flush().unwrap();
        log.append(2);
        threads.map(|thread| thread.join().unwrap());
        log.stop_background();
    });
}

#[test]
fn a_flush_that_fails_is_told_to_all_who_wait_for_it() {
    model(2, || {
        let log = Log::on_a_disk(Disk::Full);
        let threads = [1, 1].map(|n| {
            let mut waiter = Waiter::new(&log);
            thread::spawn(move || assert!(matches!(waiter.wait(n, None), Err(Error::Io { .. }))))
        });
        log.append(1);
        threads.map(|thread| thread.join().unwrap());
        log.stop_background();
    });
}

#[test]
fn who_waits_for_the_disk_is_woken_by_the_sync() {
    model(3, || {
        let log = Log::new();
        let mut waiter = waiter(&log, WaitUntil::Durable);
        let follower = thread::spawn(move || assert!(waiter.wait(1, None).unwrap()));
        log.append(1);
        log.sync();
        follower.join().unwrap();
    });
}

#[test]
fn a_cut_is_told_to_who_waits_and_only_once() {
    for until in [WaitUntil::Committed, WaitUntil::Durable] {
        model(3, move || {
            let log = Log::new();
            log.append(1);
            log.sync();
            let mut waiter = waiter(&log, until);
            let follower = thread::spawn(move || {
                assert!(matches!(waiter.wait(2, None), Err(Error::Truncated { last: 0 })));
                assert!(waiter.wait(1, None).unwrap());
            });
            log.cut(0);
            log.append(9);
            log.sync();
            follower.join().unwrap();
        });
    }
}

#[test]
fn a_cut_wakes_who_waits() {
    for until in [WaitUntil::Committed, WaitUntil::Durable] {
        model(3, move || {
            let log = Log::new();
            log.append(1);
            log.sync();
            let mut waiter = waiter(&log, until);
            let follower = thread::spawn(move || {
                assert!(matches!(waiter.wait(2, None), Err(Error::Truncated { last: 0 })));
            });
            log.cut(0);
            follower.join().unwrap();
        });
    }
}

#[test]
fn a_cut_of_what_is_staged_leaves_nobody_asleep() {
    model(3, || {
        let log = Log::new();
        let mut waiter = Waiter::new(&log);
        let follower = thread::spawn(move || match waiter.wait(1, None) {
            Ok(there) => assert!(there),
            Err(Error::Truncated { last: 0 }) => assert!(waiter.wait(1, None).unwrap()),
            Err(error) => panic!("{error}"),
        });
        log.append(1);
        log.cut(0);
        log.append(9);
        follower.join().unwrap();
    });
}

#[test]
fn the_end_is_told_after_the_last_record() {
    for until in [WaitUntil::Committed, WaitUntil::Durable] {
        model(3, move || {
            let log = Log::new();
            let mut waiter = waiter(&log, until);
            let follower = thread::spawn(move || {
                assert!(waiter.wait(1, None).unwrap());
                assert!(matches!(waiter.wait(2, None), Err(Error::Closed)));
            });
            log.append(1);
            log.sync();
            log.close();
            follower.join().unwrap();
        });
    }
}

/// What a task of the models is woken by.
#[derive(Default)]
struct Woken {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        *self.woken.lock() = true;
        self.changed.notify_one();
    }
}

/// Polls `future` whenever it was woken, until it is ready.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let woken = std::sync::Arc::new(Woken::default());
    let waker = Waker::from(std::sync::Arc::clone(&woken));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let mut called = woken.woken.lock();
        while !*called {
            called = woken.changed.wait(called);
        }
        *called = false;
    }
}

#[test]
fn a_task_gets_what_is_left_to_the_background_thread() {
    model(2, || {
        let log = Log::on_a_disk(Disk::Syncs);
        let mut waiter = Waiter::new(&log);
        let task = thread::spawn(move || block_on(waiter.wait_async(1)).unwrap());
        log.append(1);
        task.join().unwrap();
        assert_eq!(log.flushes(), 1);
        log.stop_background();
    });
}

#[test]
fn a_task_hears_that_what_it_left_has_failed() {
    model(2, || {
        let log = Log::on_a_disk(Disk::SyncsAndIsFull);
        let mut waiter = Waiter::new(&log);
        let task =
            thread::spawn(move || assert!(matches!(block_on(waiter.wait_async(1)), Err(Error::Io { .. }))));
        log.append(1);
        task.join().unwrap();
        log.stop_background();
    });
}

#[test]
fn a_task_that_stays_away_from_a_long_hold_is_woken_at_its_end() {
    model(3, || {
        let log = Log::new();
        let mut waiter = Waiter::new(&log);
        let task = thread::spawn(move || block_on(waiter.wait_async(1)).unwrap());
        let holds = Arc::clone(&log);
        let holds = thread::spawn(move || holds.hold_for_long());
        log.append(1);
        holds.join().unwrap();
        task.join().unwrap();
        log.stop_background();
    });
}

#[test]
fn a_task_that_is_about_to_wait_hears_of_the_end() {
    model(3, || {
        let log = Log::new();
        let mut waiter = Waiter::new(&log);
        let task =
            thread::spawn(move || assert!(matches!(block_on(waiter.wait_async(1)), Err(Error::Closed))));
        log.close();
        task.join().unwrap();
    });
}

#[test]
fn the_end_beside_the_background_thread_leaves_nobody_asleep() {
    model(2, || {
        let log = Log::new();
        let threads = [1, 1].map(|n| {
            let mut waiter = Waiter::new(&log);
            thread::spawn(move || {
                assert!(waiter.wait(n, None).unwrap());
                assert!(matches!(waiter.wait(2, None), Err(Error::Closed)));
            })
        });
        log.write(1);
        log.close();
        threads.map(|thread| thread.join().unwrap());
    });
}
