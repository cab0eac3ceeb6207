//! Group commit: nobody sleeps through the commit that was waited for, a failed sync reaches every waiter, and what is
//! called durable was synced.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize as Tally, Ordering::Relaxed as Unseen};
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::thread;

use crate::error::{Error, Result};
use crate::group_commit::{Commit, Dropped, Slot, Target, Watermark};
use crate::model;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

/// What the append lock protects.
#[derive(Default)]
struct Appends {
    index: u64,
    generation: u64,
    stage: u64,
    /// Appends since the beginning, whatever became of their records.
    total: u64,
    /// Which of them are neither durable nor dropped.
    pending: Vec<u64>,
    failed: bool,
}

/// `src/log.rs` without files: the order of its locks and of what it tells [`Commit`].
struct Log {
    appends: Mutex<Appends>,
    commit: Commit,
    /// How many of all appends the last sync covered. Relaxed: whoever knows of a sync has to know by other means.
    disk: AtomicU64,
    /// Appends whose records a sync has covered, which loom does not see.
    durable: RefCell<Vec<u64>>,
    /// One leader at a time.
    leading: UnsafeCell<()>,
    /// Rounds that were led.
    led: Tally,
    fails: Fails,
    syncs: Syncs,
}

/// How the file syncs.
#[derive(Clone, Copy, PartialEq)]
enum Syncs {
    /// So quickly that it does not pay to gather waiters.
    Quickly,
    /// So slowly that it does.
    Slowly,
    /// A leader that finds something syncs twice, as one does that comes after 64 MiB without a barrier.
    Twice,
}

/// What the file refuses, the first time.
#[derive(Clone, Copy, PartialEq)]
enum Fails {
    Nothing,
    Write,
    Sync,
}

fn watermark(index: u64) -> Watermark {
    Watermark { index, bytes: index * 20 }
}

fn refused(op: &'static str) -> Error {
    Error::io(op, Path::new("/j"), io::Error::from_raw_os_error(5))
}

impl Log {
    fn new(fails: Fails) -> std::rc::Rc<Self> {
        Self::on_a_disk(fails, Syncs::Slowly)
    }

    fn on_a_disk(fails: Fails, syncs: Syncs) -> std::rc::Rc<Self> {
        std::rc::Rc::new(Self {
            appends: Mutex::default(),
            commit: Commit::new(watermark(0)),
            disk: AtomicU64::new(0),
            durable: RefCell::default(),
            leading: UnsafeCell::new(()),
            led: Tally::new(0),
            fails,
            syncs,
        })
    }

    /// Appends one record and waits until it is durable.
    fn append(&self) -> Result<()> {
        let mut appends = self.appends.lock();
        if appends.failed {
            return Err(Error::Closed);
        }
        appends.index += 1;
        appends.total += 1;
        let Appends { index, generation, stage, total, .. } = *appends;
        appends.pending.push(total);
        drop(appends);
        let target = Target { index, generation, stage: Some(stage) };
        let result = self.commit.wait(target, |slot| self.lead(slot));
        assert_eq!(result.is_ok(), self.durable.borrow().contains(&total), "{result:?}");
        assert!(
            result.is_err() || self.disk.load(Ordering::Relaxed) >= total,
            "acknowledged before the sync"
        );
        result
    }

    /// Makes everything appended so far durable.
    fn sync(&self) -> Result<()> {
        let appends = self.appends.lock();
        let Appends { index, generation, total, .. } = *appends;
        drop(appends);
        self.commit.wait(Target { index, generation, stage: None }, |slot| self.lead(slot))?;
        assert!(self.disk.load(Ordering::Relaxed) >= total, "acknowledged before the sync");
        Ok(())
    }

    fn lead(&self, slot: &Slot<'_>) -> Result<()> {
        self.leading.with_mut(|_| ());
        let first = self.led.fetch_add(1, Unseen) == 0;
        let mut appends = self.appends.lock();
        assert!(!appends.failed, "a round is led after the failure was told");
        if first && self.fails == Fails::Write {
            // If there are more, the first was in the file before.
            let pending = std::mem::take(&mut appends.pending);
            let (committed, staged) = pending.split_at(usize::from(pending.len() > 1));
            let Appends { generation, stage, .. } = *appends;
            let kept = self.commit.durable_index() + committed.len() as u64;
            (appends.index, appends.stage) = (kept, stage + 1);
            drop(appends);
            let (waiting, error) = (staged.len() as u64, refused("write"));
            self.commit.dropped(slot, Dropped { generation, stage, kept, waiting, error });
            if let Some(&total) = committed.first() {
                self.disk.store(total, Ordering::Relaxed);
                self.durable.borrow_mut().push(total);
                self.commit.acknowledge(slot, generation, watermark(kept));
            }
            return Err(refused("write"));
        }
        if self.syncs == Syncs::Twice && !appends.pending.is_empty() {
            let Appends { index, generation, total, .. } = *appends;
            let pending = std::mem::take(&mut appends.pending);
            drop(appends);
            self.sync_up_to(slot, generation, index, total, pending);
            appends = self.appends.lock();
        }
        let Appends { index, generation, total, .. } = *appends;
        let pending = std::mem::take(&mut appends.pending);
        drop(appends);
        if first && self.fails == Fails::Sync {
            self.commit.begin(slot, generation, watermark(index));
            self.appends.lock().failed = true;
            let failure = Arc::new(refused("sync"));
            self.commit.fail(slot, generation + 1, Arc::clone(&failure));
            return Err(Error::Poisoned { first: failure });
        }
        self.sync_up_to(slot, generation, index, total, pending);
        Ok(())
    }

    fn sync_up_to(&self, slot: &Slot<'_>, generation: u64, index: u64, total: u64, pending: Vec<u64>) {
        self.commit.begin(slot, generation, watermark(index));
        self.disk.store(total, Ordering::Relaxed);
        self.durable.borrow_mut().extend(pending);
        let time = if self.syncs == Syncs::Quickly { Duration::ZERO } else { Duration::from_secs(1) };
        self.commit.took(slot, time);
        self.commit.acknowledge(slot, generation, watermark(index));
    }

    /// Cuts everything, as a truncation does: slot, then append lock, everything synced first.
    fn truncate(&self) {
        let slot = self.commit.take();
        self.leading.with_mut(|_| ());
        let mut appends = self.appends.lock();
        self.disk.store(appends.total, Ordering::Relaxed);
        self.durable.borrow_mut().append(&mut appends.pending);
        self.commit.acknowledge(&slot, appends.generation, watermark(appends.index));
        (appends.index, appends.generation) = (0, appends.generation + 1);
        self.commit.cut(&slot, appends.generation, watermark(0));
    }
}

/// Runs `a`, `b` and `c` at once; what they return.
fn at_once<T: 'static>(log: &std::rc::Rc<Log>, [a, b, c]: [fn(&Log) -> T; 3]) -> [T; 3] {
    let run = |f: fn(&Log) -> T| {
        let log = std::rc::Rc::clone(log);
        thread::spawn(move || f(&log))
    };
    let (b, c) = (run(b), run(c));
    [a(log), b.join().unwrap(), c.join().unwrap()]
}

#[test]
fn appends_that_share_a_sync_all_wake() {
    for syncs in [Syncs::Quickly, Syncs::Slowly, Syncs::Twice] {
        model(3, move || {
            let log = Log::on_a_disk(Fails::Nothing, syncs);
            at_once(&log, [Log::append; 3]).into_iter().for_each(Result::unwrap);
            assert_eq!(log.commit.durable(), watermark(3));
        });
    }
}

/// The first that is back does not lead, and sleeps at the gate of those whom no round covers.
#[test]
fn whoever_comes_back_before_the_others_have_left_is_woken_by_the_last_of_them() {
    for syncs in [Syncs::Quickly, Syncs::Slowly] {
        model(2, move || {
            let log = Log::on_a_disk(Fails::Nothing, syncs);
            let twice = |log: &Log| log.append().and_then(|()| log.append());
            at_once(&log, [twice, twice, Log::append]).into_iter().for_each(Result::unwrap);
            assert_eq!(log.commit.durable(), watermark(5));
        });
    }
}

#[test]
fn a_sync_covers_what_was_appended_before_it() {
    model(3, || {
        let log = Log::new(Fails::Nothing);
        at_once(&log, [Log::append, Log::sync, Log::append]).into_iter().for_each(Result::unwrap);
        assert_eq!(log.commit.durable(), watermark(2));
    });
}

#[test]
fn what_is_called_durable_is_on_the_disk() {
    model(3, || {
        let log = Log::new(Fails::Nothing);
        let watching = std::rc::Rc::clone(&log);
        let watcher = thread::spawn(move || {
            let index = watching.commit.durable_index();
            assert!(watching.disk.load(Ordering::Relaxed) >= index);
        });
        let watching = std::rc::Rc::clone(&log);
        let flusher = thread::spawn(move || {
            let bytes = watching.commit.durable_bytes();
            assert!(watching.disk.load(Ordering::Relaxed) >= bytes / 20);
        });
        log.append().unwrap();
        watcher.join().unwrap();
        flusher.join().unwrap();
    });
}

#[test]
fn a_failed_sync_reaches_every_waiter() {
    model(3, || {
        let log = Log::new(Fails::Sync);
        for result in at_once(&log, [Log::append, Log::append, Log::sync]) {
            // A sync of nothing is none.
            assert!(result.is_err() || log.commit.durable_index() == 0);
        }
        assert_eq!(log.commit.durable_index(), 0, "acknowledged after the failure");
        assert_eq!(log.led.load(Unseen), 1, "led after the failure");
    });
}

#[test]
fn a_failed_write_reaches_those_who_waited_for_it_and_nobody_else() {
    model(3, || {
        let log = Log::new(Fails::Write);
        let refused = at_once(&log, [Log::append; 3]).iter().filter(|result| result.is_err()).count() as u64;
        assert!(refused > 0);
        assert_eq!(log.commit.durable(), watermark(3 - refused));
        log.append().unwrap();
    });
}

fn truncate(log: &Log) -> Result<()> {
    log.truncate();
    Ok(())
}

#[test]
fn a_truncation_acknowledges_what_it_synced_and_cut() {
    model(3, || {
        let log = Log::new(Fails::Nothing);
        at_once(&log, [truncate, Log::append, Log::append]).into_iter().for_each(Result::unwrap);
        assert_eq!(log.commit.durable(), watermark(log.appends.lock().index));
    });
}

#[test]
fn who_waits_for_the_slot_gets_it_and_gives_it_on() {
    model(3, || {
        let log = Log::new(Fails::Nothing);
        at_once(&log, [truncate, Log::append, truncate]).into_iter().for_each(Result::unwrap);
        log.append().unwrap();
    });
}

/// What is checked is in [`Log::append`].
#[test]
fn a_truncation_and_a_failed_write_are_told_apart() {
    model(3, || {
        let log = Log::new(Fails::Write);
        let twice = |log: &Log| log.append().and_then(|()| log.append());
        let _ = at_once(&log, [truncate, Log::append, twice]);
        log.append().or_else(|_| log.append()).unwrap();
    });
}
