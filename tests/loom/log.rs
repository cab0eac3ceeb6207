//! What `src/log.rs`, `src/ask.rs`, `src/locked.rs` and `src/writer.rs` do for those who wait, without a file, over the
//! writer of the models and the real `notifier.rs`.

use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::group_commit::{GroupCommit, Watermark};
use crate::journal;
use crate::notify::{Answer, Change, MayBlock, Notifier, Request, WaitUntil, WakeRequest};
use crate::options::IndexMode;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, spawn};
use crate::view::View;
use crate::view::generation::Generation;
use crate::view::publish::Publisher;
use crate::write::holds::{LongHold, LongHolds};

/// What the append lock protects.
struct Writer {
    writer: journal::Writer,
    asked: WakeRequest,
    asked_at: u64,
    flushes: u64,
}

pub(crate) struct Log {
    writer: Mutex<Writer>,
    pub(crate) publisher: Publisher<View>,
    long_holds: LongHolds,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) group_commit: GroupCommit,
    appended: AtomicU64,
    closed: AtomicBool,
    disk: Disk,
    /// The background thread's flush has failed. Relaxed: who looks has to be woken after it by other means.
    failed: AtomicBool,
}

/// How it takes a flush.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Disk {
    Takes,
    /// Flushes fail.
    Full,
    /// A flush has to wait for a sync first.
    Syncs,
    /// The same, and then it fails.
    SyncsAndIsFull,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    pub(crate) fn new() -> Arc<Self> {
        Self::on_a_disk(Disk::Takes)
    }

    pub(crate) fn on_a_disk(disk: Disk) -> Arc<Self> {
        let writer = journal::Writer::new(IndexMode::Full);
        let publisher = writer.publisher.clone();
        let notifier = Arc::new(Notifier::default());
        let log = Arc::new(Self {
            writer: Mutex::new(Writer { writer, asked: WakeRequest::None, asked_at: 0, flushes: 0 }),
            publisher,
            long_holds: LongHolds::default(),
            group_commit: GroupCommit::new(Watermark::default()).with_notifier(&notifier),
            notifier,
            appended: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            disk,
            failed: AtomicBool::new(false),
        });
        let worker = Arc::downgrade(&log);
        log.notifier.background.started_by(Box::new(move || {
            let log = worker.upgrade().ok_or(io::ErrorKind::NotFound)?;
            spawn("background", move || {
                let (wake, flush) = (|| log.notifier.wake_due(), || log.flush_for_others());
                log.notifier.background.run(wake, flush, || log.sync_for_others());
            })
        }));
        log
    }

    /// Ends the background thread, if there is one, as all models do where one may be started.
    pub(crate) fn stop_background(&self) {
        self.notifier.background.stop();
        self.notifier.wake_due();
    }

    fn lock_shortly(&self) -> Option<MutexGuard<'_, Writer>> {
        self.long_holds.enter(|| self.writer.lock())
    }

    /// Gives the append lock up and wakes.
    fn unlock(&self, mut writer: MutexGuard<'_, Writer>) {
        let (appended, committed) = writer.writer.lasts();
        let moved = committed != writer.asked_at;
        let change = writer.asked.due(appended > committed, moved);
        drop(writer);
        self.notifier.wake(change);
    }

    pub(crate) fn append(&self, payload: u8) {
        let mut writer = self.writer.lock();
        writer.writer.stage(&[payload]);
        self.appended.store(writer.writer.lasts().0, Ordering::Release);
        self.unlock(writer);
    }

    /// Appends and commits in one, as a record does that does not fit the buffer.
    pub(crate) fn write(&self, payload: u8) {
        let mut writer = self.writer.lock();
        writer.writer.stage(&[payload]);
        self.appended.store(writer.writer.lasts().0, Ordering::Release);
        writer.writer.publish_staged();
        self.unlock(writer);
    }

    pub(crate) fn flush(&self) -> Result<()> {
        self.flush_locked(self.writer.lock())
    }

    fn flush_locked(&self, mut writer: MutexGuard<'_, Writer>) -> Result<()> {
        let (appended, committed) = writer.writer.lasts();
        if appended > committed {
            if matches!(self.disk, Disk::Full | Disk::SyncsAndIsFull) {
                self.unlock(writer);
                return Err(Error::io("write", Path::new("/j"), io::Error::from_raw_os_error(28)));
            }
            writer.writer.publish_staged();
            writer.flushes += 1;
        }
        self.unlock(writer);
        Ok(())
    }

    /// The slot is needed once: what is left to the background thread has been through it.
    fn needs_slot(&self) -> bool {
        matches!(self.disk, Disk::Syncs)
            || (self.disk == Disk::SyncsAndIsFull && !self.failed.load(Ordering::Relaxed))
    }

    pub(crate) fn flush_with(&self, may_block: MayBlock) -> Result<bool> {
        if may_block == MayBlock::OnSync {
            return self.flush().map(|()| true);
        }
        let Some(writer) = self.lock_shortly() else { return self.leave_flush() };
        if self.needs_slot() {
            self.unlock(writer);
            return self.leave_flush();
        }
        self.flush_locked(writer).map(|()| true)
    }

    fn leave_flush(&self) -> Result<bool> {
        match self.notifier.background.request(Request::FLUSH) {
            Answer::Accepted | Answer::Stopped => Ok(false),
            Answer::NoThread => panic!("there always is one"),
        }
    }

    pub(crate) fn flush_for_others(&self) {
        if self.flush().is_err() {
            self.failed.store(true, Ordering::Relaxed);
            self.notifier.wake(Change::Committed);
        }
    }

    pub(crate) fn sync_for_others(&self) -> bool {
        unreachable!("there is no clock")
    }

    /// Flushes, and makes durable what is committed.
    pub(crate) fn sync(&self) {
        let slot = self.group_commit.take_slot();
        self.flush().unwrap();
        let writer = self.writer.lock();
        let (generation, (_, index)) = (writer.writer.generation().number(), writer.writer.lasts());
        drop(writer);
        self.group_commit.acknowledge(&slot, generation, Watermark { index, bytes: index });
        self.notifier.wake(Change::Durable);
    }

    /// Keeps the records up to `n`, as a truncation does, which drops what is staged after that.
    pub(crate) fn cut(&self, n: u64) {
        let long = LongHold::begin(&self.long_holds, &self.notifier);
        let slot = self.group_commit.take_slot();
        let mut writer = self.writer.lock();
        let end = Watermark { index: n, bytes: n };
        self.group_commit.lower(&slot, end);
        writer.asked = WakeRequest::None;
        writer.writer.cut(n);
        self.appended.store(n, Ordering::Release);
        self.group_commit.cut(&slot, writer.writer.generation().number(), end);
        self.unlock(writer);
        drop(slot);
        drop(long);
        self.notifier.wake(Change::All);
    }

    /// Holds the append lock across a sync, and changes nothing.
    pub(crate) fn hold_for_long(&self) {
        let _long = LongHold::begin(&self.long_holds, &self.notifier);
        let writer = self.writer.lock();
        self.unlock(writer);
    }

    pub(crate) fn close(&self) {
        self.stop_background();
        self.flush().unwrap();
        let writer = self.writer.lock();
        self.closed.store(true, Ordering::Release);
        self.unlock(writer);
        self.notifier.wake(Change::All);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn is_staged(&self) -> bool {
        !self.is_closed() && self.appended.load(Ordering::Acquire) > self.publisher.load().committed()
    }

    pub(crate) fn must_wait(
        &self,
        n: u64,
        until: WaitUntil,
        generation: &Arc<Generation>,
        may_block: MayBlock,
    ) -> bool {
        let writer = match may_block {
            MayBlock::OnSync => Some(self.writer.lock()),
            MayBlock::OnWrite => self.lock_shortly(),
        };
        let Some(mut writer) = writer else { return true };
        let (appended, committed) = writer.writer.lasts();
        let leaves = may_block == MayBlock::OnWrite && self.needs_slot();
        let waits = Arc::ptr_eq(writer.writer.generation(), generation)
            && !self.is_closed()
            && match until {
                WaitUntil::Committed => committed < n && (appended == committed || leaves),
                WaitUntil::Durable => self.group_commit.durable().index < n,
            };
        if waits && until == WaitUntil::Committed {
            if writer.asked == WakeRequest::None {
                writer.asked_at = committed;
            }
            writer.asked = if appended > committed { WakeRequest::OnCommit } else { WakeRequest::OnAppend };
        }
        let leaves = waits && until == WaitUntil::Committed && appended > committed;
        self.unlock(writer);
        if leaves {
            return matches!(self.leave_flush(), Ok(false));
        }
        waits
    }

    /// The last appended record, for those without a lock.
    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// Commits until now.
    pub(crate) fn flushes(&self) -> u64 {
        self.writer.lock().flushes
    }
}
