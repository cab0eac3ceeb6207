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
use crate::group_commit::{Dropped, GroupCommit, Slot, Target, Watermark};
use crate::model;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};
use crate::view::generation::Generations;

/// What the append lock protects.
struct Appends {
    index: u64,
    generations: Generations,
    stage: u64,
    /// Appends since the beginning, whatever became of their records.
    total: u64,
    /// Which of them are neither durable nor dropped nor removed: the last ones of those that are there.
    pending: Vec<u64>,
    /// The records that callers wait for which are staged.
    waiting: Vec<u64>,
    failed: bool,
}

impl Appends {
    fn generation(&self) -> u64 {
        self.generations.current().number()
    }

    /// What a caller waits for that wants the last record to be durable.
    fn target(&mut self) -> Target {
        let staged = !self.pending.is_empty();
        if staged {
            self.waiting.push(self.index);
        }
        Target { index: self.index, generation: self.generation(), stage: staged.then_some(self.stage) }
    }

    /// Those of what is pending that are in the file, if `some` are, and those that are only staged.
    fn split(&mut self, some: bool) -> (Vec<u64>, Vec<u64>) {
        let mut committed = std::mem::take(&mut self.pending);
        let staged = committed.split_off(usize::from(some));
        (committed, staged)
    }
}

/// `src/log.rs` without files: the order of its locks and of what it tells [`GroupCommit`].
struct Log {
    appends: Mutex<Appends>,
    group_commit: GroupCommit,
    /// How many of all appends the last sync covered. Relaxed: whoever knows of a sync has to know by other means.
    disk: AtomicU64,
    /// Appends whose records a sync has covered, which loom does not see.
    durable: RefCell<Vec<u64>>,
    /// The same of those whose records were removed before any sync.
    removed: RefCell<Vec<u64>>,
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
            appends: Mutex::new(Appends {
                index: 0,
                generations: Generations::new(),
                stage: 0,
                total: 0,
                pending: Vec::new(),
                waiting: Vec::new(),
                failed: false,
            }),
            group_commit: GroupCommit::new(watermark(0)),
            disk: AtomicU64::new(0),
            durable: RefCell::default(),
            removed: RefCell::default(),
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
        let total = appends.total;
        appends.pending.push(total);
        let target = appends.target();
        drop(appends);
        let result = self.group_commit.wait(target, |slot| self.lead(slot));
        let (durable, removed) = (self.is_durable(total), self.removed.borrow().contains(&total));
        assert_eq!(result.is_ok(), durable || removed, "{result:?}");
        result
    }

    /// Whether the record of the append number `total` is on the disk, or was before it was cut.
    fn is_durable(&self, total: u64) -> bool {
        let durable = self.durable.borrow().contains(&total);
        assert!(!durable || self.disk.load(Ordering::Relaxed) >= total, "acknowledged before the sync");
        durable
    }

    /// Makes everything appended so far durable.
    fn sync(&self) -> Result<()> {
        let mut appends = self.appends.lock();
        let (target, pending) = (appends.target(), appends.pending.clone());
        drop(appends);
        self.group_commit.wait(target, |slot| self.lead(slot))?;
        for total in pending {
            let durable = self.is_durable(total);
            assert!(durable || self.removed.borrow().contains(&total), "neither durable nor removed");
        }
        Ok(())
    }

    /// Waits for the last record, as it is now, to be durable.
    fn wait_durable(&self) -> Result<()> {
        let mut appends = self.appends.lock();
        let (n, last) = (appends.index, appends.pending.last().copied());
        if n <= self.group_commit.durable_index() {
            return Ok(());
        }
        let generation = Arc::clone(appends.generations.current());
        let target = appends.target();
        drop(appends);
        self.group_commit.wait(target, |slot| self.lead(slot))?;
        match generation.lowest_kept() {
            Some(kept) if n > kept => Err(Error::OutOfRange { index: n, first: 1, last: kept }),
            _ => {
                // Without one it was being synced as it was asked about.
                assert!(last.is_none_or(|total| self.is_durable(total)), "told that it is durable");
                Ok(())
            }
        }
    }

    fn lead(&self, slot: &Slot<'_>) -> Result<()> {
        self.leading.with_mut(|_| ());
        let first = self.led.fetch_add(1, Unseen) == 0;
        let mut appends = self.appends.lock();
        assert!(!appends.failed, "a round is led after the failure was told");
        if first && self.fails == Fails::Write {
            // If there are more, the first was in the file before.
            let some = appends.pending.len() > 1;
            let (committed, _) = appends.split(some);
            let (generation, stage) = (appends.generation(), appends.stage);
            let kept = self.group_commit.durable_index() + committed.len() as u64;
            (appends.index, appends.stage) = (kept, stage + 1);
            let waiting = std::mem::take(&mut appends.waiting);
            drop(appends);
            let waiting = waiting.into_iter().filter(|&n| n > kept).count() as u64;
            self.group_commit.dropped(slot, Dropped { stage, kept, waiting, error: refused("write") });
            if let Some(&total) = committed.first() {
                self.disk.store(total, Ordering::Relaxed);
                self.durable.borrow_mut().push(total);
                self.group_commit.acknowledge(slot, generation, watermark(kept));
            }
            return Err(refused("write"));
        }
        if self.syncs == Syncs::Twice && !appends.pending.is_empty() {
            let (index, generation, total) = (appends.index, appends.generation(), appends.total);
            let pending = std::mem::take(&mut appends.pending);
            appends.waiting.clear();
            drop(appends);
            self.sync_up_to(slot, generation, index, total, pending);
            appends = self.appends.lock();
        }
        let (index, generation, total) = (appends.index, appends.generation(), appends.total);
        let pending = std::mem::take(&mut appends.pending);
        appends.waiting.clear();
        drop(appends);
        if first && self.fails == Fails::Sync {
            self.group_commit.round_begins(slot, generation, watermark(index));
            self.appends.lock().failed = true;
            let failure = Arc::new(refused("sync"));
            self.group_commit.fail(slot, generation + 1, Arc::clone(&failure));
            return Err(Error::Poisoned { first: failure });
        }
        self.sync_up_to(slot, generation, index, total, pending);
        Ok(())
    }

    fn sync_up_to(&self, slot: &Slot<'_>, generation: u64, index: u64, total: u64, pending: Vec<u64>) {
        self.group_commit.round_begins(slot, generation, watermark(index));
        self.disk.store(total, Ordering::Relaxed);
        self.durable.borrow_mut().extend(pending);
        let time = if self.syncs == Syncs::Quickly { Duration::ZERO } else { Duration::from_secs(1) };
        self.group_commit.sync_took(slot, time);
        self.group_commit.acknowledge(slot, generation, watermark(index));
    }

    /// Cuts everything, as a truncation does: slot, then append lock, what is in the file synced first. What is staged is
    /// not written; if there is more than one record, the first was in the file before.
    fn truncate(&self) {
        let slot = self.group_commit.take_slot();
        self.leading.with_mut(|_| ());
        let mut appends = self.appends.lock();
        let some = appends.pending.len() > 1;
        let (committed, staged) = appends.split(some);
        if let Some(&total) = committed.first() {
            self.disk.store(total, Ordering::Relaxed);
            self.durable.borrow_mut().push(total);
            let end = watermark(self.group_commit.durable_index() + 1);
            self.group_commit.acknowledge(&slot, appends.generation(), end);
        }
        self.group_commit.lower(&slot, watermark(0));
        appends.generations.cut(0);
        (appends.index, appends.stage) = (0, appends.stage + 1);
        appends.waiting.clear();
        self.removed.borrow_mut().extend(staged);
        appends.generations.carried_out(0);
        self.group_commit.cut(&slot, appends.generation(), watermark(0));
    }

    /// The same, taken back half way: what is staged stays so.
    fn take_back(&self) {
        let slot = self.group_commit.take_slot();
        self.leading.with_mut(|_| ());
        let mut appends = self.appends.lock();
        let end = self.group_commit.durable();
        self.group_commit.lower(&slot, watermark(0));
        appends.generations.cut(0);
        appends.generations.cut(end.index);
        self.group_commit.restore(&slot, appends.generation(), end);
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
            assert_eq!(log.group_commit.durable(), watermark(3));
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
            assert_eq!(log.group_commit.durable(), watermark(5));
        });
    }
}

#[test]
fn a_sync_covers_what_was_appended_before_it() {
    model(3, || {
        let log = Log::new(Fails::Nothing);
        at_once(&log, [Log::append, Log::sync, Log::append]).into_iter().for_each(Result::unwrap);
        assert_eq!(log.group_commit.durable(), watermark(2));
    });
}

#[test]
fn what_is_called_durable_is_on_the_disk() {
    model(3, || {
        let log = Log::new(Fails::Nothing);
        let watching = std::rc::Rc::clone(&log);
        let watcher = thread::spawn(move || {
            let index = watching.group_commit.durable_index();
            assert!(watching.disk.load(Ordering::Relaxed) >= index);
        });
        let watching = std::rc::Rc::clone(&log);
        let flusher = thread::spawn(move || {
            let bytes = watching.group_commit.durable_bytes();
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
            assert!(result.is_err() || log.group_commit.durable_index() == 0);
        }
        assert_eq!(log.group_commit.durable_index(), 0, "acknowledged after the failure");
        assert_eq!(log.led.load(Unseen), 1, "led after the failure");
    });
}

#[test]
fn a_failed_write_reaches_those_who_waited_for_it_and_nobody_else() {
    model(3, || {
        let log = Log::new(Fails::Write);
        let refused = at_once(&log, [Log::append; 3]).iter().filter(|result| result.is_err()).count() as u64;
        assert!(refused > 0);
        assert_eq!(log.group_commit.durable(), watermark(3 - refused));
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
        assert_eq!(log.group_commit.durable(), watermark(log.appends.lock().index));
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

/// What is checked here and below is in [`Log::append`], [`Log::sync`] and [`Log::wait_durable`].
#[test]
fn a_waiter_hears_what_became_of_its_own_record() {
    for fails in [Fails::Write, Fails::Nothing] {
        model(3, move || {
            let log = Log::new(fails);
            let twice = |log: &Log| log.append().or_else(|_| log.append());
            let _ = at_once(&log, [twice, Log::wait_durable, Log::append]);
        });
    }
    for waits in [Log::wait_durable, Log::sync] {
        model(3, move || {
            let log = Log::new(Fails::Write);
            let _ = at_once(&log, [Log::append, waits, waits]);
        });
        model(3, move || {
            let log = Log::new(Fails::Nothing);
            let _ = at_once(&log, [truncate, Log::append, waits]);
            log.append().unwrap();
        });
    }
}

#[test]
fn what_is_staged_while_a_truncation_is_taken_back_hears_what_becomes_of_it() {
    let take_back = |log: &Log| {
        log.take_back();
        Ok(())
    };
    for fails in [Fails::Write, Fails::Nothing] {
        model(3, move || {
            let log = Log::new(fails);
            let _ = at_once(&log, [take_back, Log::append, Log::wait_durable]);
            log.append().or_else(|_| log.append()).unwrap();
        });
    }
}

#[test]
fn a_truncation_and_a_failed_write_are_told_apart() {
    model(3, || {
        let log = Log::new(Fails::Write);
        let twice = |log: &Log| log.append().and_then(|()| log.append());
        let _ = at_once(&log, [truncate, Log::append, twice]);
        log.append().or_else(|_| log.append()).unwrap();
    });
}
