//! The append lock, the sync slot and what is published, put together: appending, flushing and syncing. What fails is
//! in [`failure`](crate::failure), what shortens the journal in [`truncate`](crate::truncate).
//!
//! One order of locks: slot, then append lock. Neither commits nor roll-backs sync under the append lock. A flush that
//! finds that it needs the slot leaves a [`Note`] in the writer, lets go, takes slot and lock and looks again; meanwhile
//! appends may stage but none may flush.

use std::io::IoSlice;

use crate::commit::{Commit, Slot, Target};
use crate::cut::leave_mark;
use crate::error::{Error, Result};
use crate::failure::{BackgroundFailures, Rest};
use crate::file::JournalFile;
use crate::format::HEADER_LEN;
use crate::options::{Format, Options, SyncPolicy};
use crate::publish::Publisher;
use crate::stats::Stats;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};
use crate::view::View;
use crate::writer::{Note, Parts, Records, Refusal, Start, Writer};

/// The journal without its façade.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) writer: Mutex<Writer>,
    pub(crate) commit: Commit,
    pub(crate) publisher: Publisher<View>,
    pub(crate) file: Arc<JournalFile>,
    pub(crate) format: Format,
    pub(crate) policy: SyncPolicy,
    pub(crate) preserve_limit: u64,
    pub(crate) background: Mutex<BackgroundFailures>,
    /// Readers outlive the journal and are told by this that it is closed.
    pub(crate) closed: Arc<AtomicBool>,
    max_record_len: u64,
    /// The last appended record, for those who do not hold the append lock.
    appended: AtomicU64,
}

impl Log {
    /// # Errors
    /// `Io` if the file cannot be mapped.
    pub(crate) fn new(start: Start, options: &Options) -> Result<Self> {
        let (file, format) = (Arc::clone(&start.file), start.format);
        let writer = Writer::new(start)?;
        Ok(Self {
            commit: Commit::new(writer.committed),
            publisher: writer.publisher.clone(),
            file,
            format,
            policy: options.sync,
            preserve_limit: options.preserve_limit,
            background: Mutex::default(),
            closed: Arc::new(AtomicBool::new(false)),
            max_record_len: options.max_record_len,
            appended: AtomicU64::new(writer.committed.index),
            writer: Mutex::new(writer),
        })
    }

    /// The last appended record.
    #[inline]
    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    pub(crate) fn set_appended(&self, last: u64) {
        self.appended.store(last, Ordering::Release);
    }

    /// Appends one record; its index.
    #[inline]
    pub(crate) fn append(&self, slices: &[IoSlice<'_>]) -> Result<u64> {
        let record = self.measure(slices)?;
        let mut writer = self.writer.lock();
        let n = loop {
            writer.check()?;
            if writer.has_room(record.len.saturating_add(HEADER_LEN)) {
                break writer.stage(record, 0)?;
            }
            let durable = self.commit.durable_bytes();
            if writer.needs_slot(durable) {
                writer = self.settle(writer, None);
                continue;
            }
            match writer.write_record(record, durable) {
                Ok(n) => break n,
                Err(Refusal::Before(error)) => return Err(error),
                Err(Refusal::Write(error)) => return Err(self.refuse(writer, None, error)),
            }
        };
        self.acknowledge(writer, n)?;
        Ok(n)
    }

    /// Appends the records of `batch`, all or none, and returns the index of the last. `batch` is not empty.
    pub(crate) fn append_batch(&self, batch: &impl Records) -> Result<u64> {
        let mut total = 0u64;
        for at in 0..batch.count() {
            let len = batch.get(at).map_or(0, |(payload, _)| payload.len() as u64);
            self.check_len(len)?;
            total = total.saturating_add(len).saturating_add(HEADER_LEN);
        }
        let mut writer = self.writer.lock();
        loop {
            writer.check()?;
            if writer.has_room(total) {
                writer.stage_batch(batch, total)?;
                break;
            }
            let durable = self.commit.durable_bytes();
            if writer.needs_slot(durable) {
                writer = self.settle(writer, None);
                continue;
            }
            match writer.write_batch(batch, total, durable) {
                Ok(()) => break,
                Err(Refusal::Before(error)) => return Err(error),
                Err(Refusal::Write(error)) => return Err(self.refuse(writer, None, error)),
            }
        }
        let last = writer.appended().index;
        self.acknowledge(writer, last)?;
        Ok(last)
    }

    fn measure<'a>(&self, slices: &'a [IoSlice<'a>]) -> Result<Parts<'a>> {
        let mut hasher = crc32fast::Hasher::new();
        let mut len = 0u64;
        for slice in slices {
            len = len.saturating_add(slice.len() as u64);
            hasher.update(slice);
        }
        self.check_len(len)?;
        Ok(Parts { slices, len, crc: hasher.finalize() })
    }

    fn check_len(&self, len: u64) -> Result<()> {
        let max = self.max_record_len;
        if len > max { Err(Error::RecordTooLarge { len, max }) } else { Ok(()) }
    }

    /// Tells an append that its records, the last of which is `n`, are in: at once, or when they are durable.
    #[inline]
    fn acknowledge(&self, mut writer: MutexGuard<'_, Writer>, n: u64) -> Result<()> {
        self.set_appended(n);
        if self.policy != SyncPolicy::Always {
            return Ok(());
        }
        if writer.is_staged() {
            writer.waiting += 1;
        }
        let target = Target { index: n, generation: writer.view.generation(), stage: Some(writer.stage) };
        drop(writer);
        self.commit.wait(target, |slot| self.sync_with(slot))
    }

    /// Commits everything that is appended.
    pub(crate) fn flush(&self) -> Result<()> {
        self.flush_locked(self.writer.lock(), None).map(drop)
    }

    /// Commits everything that is appended and keeps the append lock. A caller that holds the slot passes it.
    pub(crate) fn flush_locked<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Writer>,
        slot: Option<&Slot<'_>>,
    ) -> Result<MutexGuard<'a, Writer>> {
        loop {
            writer.check()?;
            // A truncation, too, must find nothing left behind the committed end, and nobody untold.
            if !writer.is_staged() && !writer.rolls_back() {
                return Ok(writer);
            }
            let durable = self.commit.durable_bytes();
            if writer.needs_slot(durable) {
                writer = self.settle(writer, slot);
                continue;
            }
            return match writer.write_staged(durable) {
                Ok(()) => Ok(writer),
                Err(error) => Err(self.refuse(writer, slot, error)),
            };
        }
    }

    /// Sees to what the writer's note asks for, with the slot; takes the slot unless the caller has it.
    pub(crate) fn settle<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Writer>,
        slot: Option<&Slot<'_>>,
    ) -> MutexGuard<'a, Writer> {
        writer.note.get_or_insert(Note::Sync);
        drop(writer);
        match slot {
            Some(slot) => self.settle_with(slot),
            None => self.settle_with(&self.commit.take()),
        }
    }

    /// Whoever gets slot and lock first does what the note says; the others look again and find nothing to do.
    fn settle_with(&self, slot: &Slot<'_>) -> MutexGuard<'_, Writer> {
        let mut writer = self.writer.lock();
        match writer.note {
            // The note stays while the lock is not held, so that nothing is flushed.
            Some(Note::Sync) => {
                let synced = self.sync_committed(slot, writer);
                writer = self.writer.lock();
                writer.note = None;
                drop(synced);
                writer
            }
            Some(Note::RollBack { .. }) => self.roll_back(slot, writer),
            None => writer,
        }
    }

    /// Makes everything that is appended durable: the leader's work.
    pub(crate) fn sync_with(&self, slot: &Slot<'_>) -> Result<()> {
        match self.flush_locked(self.writer.lock(), Some(slot)) {
            Ok(writer) => self.sync_committed(slot, writer),
            Err(error) => {
                // What is committed can be made durable even if what is staged cannot be committed.
                let synced = self.sync_committed(slot, self.writer.lock());
                synced.and(Err(error))
            }
        }
    }

    /// Makes everything that is committed durable, without holding the append lock while it syncs.
    fn sync_committed(&self, slot: &Slot<'_>, writer: MutexGuard<'_, Writer>) -> Result<()> {
        writer.check()?;
        let (generation, committed) = (writer.view.generation(), writer.committed);
        drop(writer);
        if self.commit.durable_bytes() == committed.bytes {
            return Ok(());
        }
        match self.file.sync() {
            Ok(()) => {
                self.commit.acknowledge(slot, generation, committed);
                Ok(())
            }
            Err(error) => Err(self.poison(slot, self.writer.lock(), Rest::TakeOff, error)),
        }
    }

    /// Makes everything appended so far durable.
    pub(crate) fn sync(&self) -> Result<()> {
        let writer = self.writer.lock();
        // What is left after a failure is durable, but what was staged is gone: that must not look like success.
        writer.check()?;
        let target =
            Target { index: writer.appended().index, generation: writer.view.generation(), stage: None };
        drop(writer);
        self.commit.wait(target, |slot| self.sync_with(slot))
    }

    /// Waits until record `n` is durable.
    pub(crate) fn wait_durable(&self, n: u64) -> Result<()> {
        let writer = self.writer.lock();
        let (first, last) = (writer.view.first(), writer.appended().index);
        let generation = writer.view.generation();
        // Looked at before `n` is held against the end: what is durable stays so after a failure.
        let durable = self.commit.durable_index();
        if n < first || n <= durable {
            return Ok(());
        }
        writer.check()?;
        drop(writer);
        if n > last {
            return Err(Error::OutOfRange { index: n, first, last });
        }
        let target = Target { index: n, generation, stage: None };
        self.commit.wait(target, |slot| self.sync_with(slot))?;
        // It may have been cut meanwhile, synced first.
        let last = self.appended();
        if n > last {
            return Err(Error::OutOfRange { index: n, first: self.publisher.load().first(), last });
        }
        Ok(())
    }

    pub(crate) fn stats(&self) -> Stats {
        let (syncs, synced_records) = self.commit.syncs();
        let background = self.background.lock();
        let (background_failures, last_background_failure) = (background.count, background.last.clone());
        drop(background);
        let durable = self.commit.durable();
        let mut writer = self.writer.lock();
        let (appended, committed) = (writer.appended(), writer.committed);
        let held = writer.retired.held();
        let (views_held, held_bytes) = (held.len() as u64, held.iter().map(|view| view.map().limit()).sum());
        Stats {
            appended_index: appended.index,
            committed_index: committed.index,
            durable_index: durable.index,
            appended_bytes: appended.bytes,
            committed_bytes: committed.bytes,
            durable_bytes: durable.bytes,
            flushes: writer.flushes,
            syncs,
            records_per_sync: if syncs == 0 { 0.0 } else { synced_records as f64 / syncs as f64 },
            views_published: writer.views_published,
            views_held,
            held_bytes,
            index_bytes: writer.index.index().bytes(),
            background_failures,
            last_background_failure,
        }
    }

    /// Makes everything durable and marks the end, so that a journal closed cleanly is protected to its last byte.
    pub(crate) fn close(&self) -> Result<()> {
        let slot = self.commit.take();
        self.sync_with(&slot).map_err(|error| match error {
            Error::Io { op: "write", path, source } => {
                Error::Io { op: "close: write staged records, which are lost,", path, source }
            }
            other => other,
        })?;
        let mut writer = self.writer.lock();
        if self.format == Format::Sealed && !writer.marked {
            writer.marked = leave_mark(&self.file, self.format, writer.committed.bytes)?;
        }
        Ok(())
    }
}
