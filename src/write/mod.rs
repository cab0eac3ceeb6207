//! The append lock, the sync slot and what is published, put together: flushing and syncing, and what happens when the
//! file refuses something. A refused append leaves no trace (P7), a failed sync is final (P8). What callers wait for is
//! in `append.rs`, what shortens the journal in `truncate.rs`.
//!
//! One order of locks: slot, then append lock. Neither commits nor roll-backs sync under the append lock. A flush that
//! finds that it needs the slot leaves a [`Note`] in the writer, lets go, takes slot and lock and looks again; meanwhile
//! appends may stage but none may flush.

pub(crate) mod append;
pub(crate) mod batch;
pub(crate) mod holds;
pub(crate) mod lock;
pub(crate) mod preallocate;
pub(crate) mod stats;
pub(crate) mod truncate;
pub(crate) mod waiting;
pub(crate) mod writer;

use std::time::Instant;

use crate::error::{Error, Result};
use crate::file::JournalFile;
use crate::file::end::{Unmarked, is_no_space, leave_mark, mark_empty, take_off};
use crate::file::map::Map;
use crate::file::preserve::Copies;
use crate::format::Format;
use crate::group_commit::{Dropped, GroupCommit, Slot, Watermark};
use crate::notify::{Change, Notifier};
use crate::options::{Options, SyncPolicy};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};
use crate::view::View;
use crate::view::publish::Publisher;
use crate::write::holds::{LongHold, LongHolds};
use crate::write::lock::Locked;
use crate::write::preallocate::{Preallocation, largest_step};
use crate::write::writer::{Note, Refusal, Start, Writer};

/// Failures of the background thread, which has nobody to tell them to.
#[derive(Debug, Default)]
pub(crate) struct BackgroundFailures {
    pub(crate) count: u64,
    pub(crate) last: Option<String>,
}

/// What a poisoned journal does with the file behind its durable point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It is taken off, if that is possible.
    TakeOff,
    /// It stays, for the next open to decide by: the last record in front of it may still say that its batch goes on
    /// there, and would be lost with it.
    Leave,
}

/// The journal without its façade.
#[derive(Debug)]
pub(crate) struct Log {
    writer: Mutex<Writer>,
    long_holds: LongHolds,
    pub(crate) group_commit: GroupCommit,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) publisher: Publisher<View>,
    pub(crate) preallocation: Preallocation,
    pub(crate) file: Arc<JournalFile>,
    pub(crate) format: Format,
    pub(crate) policy: SyncPolicy,
    pub(crate) preserve_limit: u64,
    pub(crate) background: Mutex<BackgroundFailures>,
    /// Readers outlive the journal and are told by this that it is closed.
    pub(crate) closed: AtomicBool,
    pub(crate) max_record_len: u64,
    /// The last appended record, for those who do not hold the append lock.
    appended: AtomicU64,
}

impl Log {
    /// # Errors
    /// `Io` if the file cannot be mapped, or there is no memory for the staging buffer.
    pub(crate) fn new(start: Start, options: &Options) -> Result<Self> {
        let (file, format) = (Arc::clone(&start.file), start.format);
        let writer = Writer::new(start)?;
        let room = match (format, options.sync_policy) {
            (Format::Sealed, SyncPolicy::Always | SyncPolicy::Interval(_)) => {
                largest_step(options.preallocate, &file)
            }
            (Format::Reference, _) | (_, SyncPolicy::OnDemand) => 0,
        };
        let notifier = Arc::new(Notifier::default());
        Ok(Self {
            long_holds: LongHolds::default(),
            group_commit: GroupCommit::new(writer.committed).with_notifier(&notifier),
            notifier,
            publisher: writer.publisher.clone(),
            file,
            format,
            preallocation: Preallocation::new(room),
            policy: options.sync_policy,
            preserve_limit: options.preserve_limit,
            background: Mutex::default(),
            closed: AtomicBool::new(false),
            max_record_len: options.max_record_len,
            appended: AtomicU64::new(writer.committed.index),
            writer: Mutex::new(writer),
        })
    }

    /// Takes the append lock.
    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked::new(self.writer.lock(), &self.notifier)
    }

    /// Takes the append lock, unless that could mean to wait for a sync: a waiter that has registered is then
    /// woken once it could not any more.
    pub(crate) fn lock_shortly(&self) -> Option<Locked<'_>> {
        self.long_holds.enter(|| self.lock())
    }

    /// The append lock, which the caller does not hold yet, may be held across syncs as long as this lives.
    pub(crate) fn long_hold(&self) -> LongHold<'_> {
        LongHold::begin(&self.long_holds, &self.notifier)
    }

    /// The last appended record.
    #[inline]
    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    pub(crate) fn set_appended(&self, last: u64) {
        self.appended.store(last, Ordering::Release);
    }

    /// Commits everything that is appended.
    pub(crate) fn flush(&self) -> Result<()> {
        self.file.check_process()?;
        self.flush_locked(self.lock(), None).map(drop)
    }

    /// Commits everything that is appended and keeps the append lock. A caller that holds the slot passes it.
    pub(crate) fn flush_locked<'a>(
        &'a self,
        mut writer: Locked<'a>,
        slot: Option<&Slot<'_>>,
    ) -> Result<Locked<'a>> {
        loop {
            writer.check()?;
            // A truncation, too, must find nothing left behind the committed end, and nobody untold.
            if !writer.is_staged() && !writer.owes() {
                return Ok(writer);
            }
            let durable = self.group_commit.durable_bytes();
            if writer.needs_slot(durable) {
                writer = self.settle(writer, slot)?;
                continue;
            }
            match writer.write_staged(durable) {
                Ok(()) => return Ok(writer),
                Err(Refusal::Before(error)) => return Err(self.refuse_unwritten(writer, slot, error)),
                Err(Refusal::Write(error)) => writer = self.refuse(writer, slot, error)?,
            }
        }
    }

    /// Sees to what the writer's note asks for, with the slot; takes the slot unless the caller has it.
    ///
    /// # Errors
    /// As [`refuse`](Self::refuse), if there is no room for what has to come before the first record.
    pub(crate) fn settle<'a>(
        &'a self,
        mut writer: Locked<'a>,
        slot: Option<&Slot<'_>>,
    ) -> Result<Locked<'a>> {
        let due = if writer.lacks_mark() { Note::Mark } else { Note::Sync };
        writer.note.get_or_insert(due);
        drop(writer);
        match slot {
            Some(slot) => self.settle_with(slot),
            None => {
                let slot = self.group_commit.take_slot();
                let settled = self.settle_with(&slot).map(drop);
                // What is to be woken now is woken without any lock.
                drop(slot);
                settled.map(|()| self.lock())
            }
        }
    }

    /// Whoever gets slot and lock first does what the note says; the others look again and find nothing to do.
    fn settle_with(&self, slot: &Slot<'_>) -> Result<Locked<'_>> {
        let mut writer = self.lock();
        if let Some(Note::Drop(dropped)) = writer.note.take_if(|note| matches!(note, Note::Drop(_))) {
            self.group_commit.dropped(slot, dropped);
        }
        Ok(match writer.note {
            // The note stays while the lock is not held, so that nothing is flushed.
            Some(Note::Sync) => {
                let synced = self.sync_committed(slot, writer);
                writer = self.lock();
                writer.note = None;
                drop(synced);
                writer
            }
            Some(Note::RollBack { .. }) => self.roll_back(slot, writer),
            Some(Note::Mark) => self.mark_first(slot, writer)?,
            Some(Note::Drop(_)) | None => writer,
        })
    }

    /// Marks the empty journal, durably, before its first record is written: a power cut that tears that record must not
    /// leave a file that nothing tells from any other.
    fn mark_first<'a>(&'a self, slot: &Slot<'_>, writer: Locked<'a>) -> Result<Locked<'a>> {
        drop(writer);
        // The note keeps flushes away, so the file is not written meanwhile.
        let marked = mark_empty(&self.file);
        let mut writer = self.lock();
        writer.note = None;
        match marked {
            Ok(()) => {
                writer.marked = true;
                Ok(writer)
            }
            Err(Unmarked::Refused(error)) => self.refuse(writer, Some(slot), error),
            Err(Unmarked::Failed(error)) => {
                drop(writer);
                let _long = self.long_hold();
                Err(self.poison(slot, self.lock(), Rest::TakeOff, error))
            }
        }
    }

    /// Makes everything that is appended durable: the leader's work.
    pub(crate) fn sync_with(&self, slot: &Slot<'_>) -> Result<()> {
        match self.flush_locked(self.lock(), Some(slot)) {
            Ok(writer) => self.sync_committed(slot, writer),
            Err(error) => {
                // What is committed can be made durable even if what is staged cannot be committed.
                let synced = self.sync_committed(slot, self.lock());
                synced.and(Err(error))
            }
        }
    }

    /// Makes everything that is committed durable, without holding the append lock while it syncs.
    fn sync_committed(&self, slot: &Slot<'_>, writer: Locked<'_>) -> Result<()> {
        writer.check()?;
        let (generation, committed) = (writer.view.cuts(), writer.committed);
        drop(writer);
        let durable = self.group_commit.durable_bytes();
        if durable == committed.bytes {
            return Ok(());
        }
        self.group_commit.round_begins(slot, generation, committed);
        if self.preallocation.make(slot, &self.file, durable, committed.bytes).is_err() {
            self.take_room_off();
        }
        let began = Instant::now();
        match self.file.sync() {
            Ok(()) => {
                self.group_commit.sync_took(slot, began.elapsed());
                self.made_durable(slot, generation, committed);
                Ok(())
            }
            Err(error) => {
                let _long = self.long_hold();
                Err(self.poison(slot, self.lock(), Rest::TakeOff, error))
            }
        }
    }

    fn made_durable(&self, slot: &Slot<'_>, generation: u64, to: Watermark) {
        self.group_commit.acknowledge(slot, generation, to);
        self.notifier.wake(Change::Durable);
    }

    /// Room ahead could not be had in full: gives back what there is, for the disk may be full. The caller has the slot.
    fn take_room_off(&self) {
        let writer = self.lock();
        // Else a roll-back is due, which cuts the same.
        if writer.failure.is_none() && !writer.rolls_back() {
            // What cannot be taken off is room.
            let _ = self.file.truncate(writer.committed.bytes);
        }
    }

    /// A write failed: takes what it left off the file. Returns the writer if the room ahead went with it, so that the
    /// write may now find space.
    ///
    /// # Errors
    /// Else `error`, for the caller whose record is refused. Under `SyncPolicy::Always` all that is staged is refused,
    /// since each of its appends still waits for an answer; under the others those appends have returned, so what they
    /// staged stays.
    pub(crate) fn refuse<'a>(
        &'a self,
        mut writer: Locked<'a>,
        slot: Option<&Slot<'_>>,
        error: Error,
    ) -> Result<Locked<'a>> {
        if is_no_space(&error) && self.preallocation.left(writer.committed.bytes) > 0 {
            writer.note = Some(Note::RollBack { dropped: None });
            let writer = self.settle(writer, slot)?;
            return if writer.failure.is_none() { Ok(writer) } else { Err(error) };
        }
        let dropped = (self.policy == SyncPolicy::Always).then(|| self.drop_staged(&mut writer, &error));
        writer.note = Some(Note::RollBack { dropped });
        drop(self.settle(writer, slot)?);
        Err(error)
    }

    /// What is staged could not be written, and nothing of it was: there is nothing to take off the file. Callers that wait
    /// for it under `SyncPolicy::Always` are told as after a failed write. Returns `error`.
    fn refuse_unwritten(&self, mut writer: Locked<'_>, slot: Option<&Slot<'_>>, error: Error) -> Error {
        if self.policy == SyncPolicy::Always {
            writer.note = Some(Note::Drop(self.drop_staged(&mut writer, &error)));
            // The note is of the kind that cannot fail.
            let _ = self.settle(writer, slot);
        }
        error
    }

    /// Drops what is staged, because of `error`; what the callers that wait for it have to be told.
    fn drop_staged(&self, writer: &mut Locked<'_>, error: &Error) -> Dropped {
        let (stage, waiting, kept) = (writer.stage, writer.waiting, writer.committed.index);
        writer.drop_staged();
        self.set_appended(kept);
        Dropped { stage, kept, waiting, error: error.clone() }
    }

    /// Rolls the file back to its committed end, before anything more is written: else a refused record could come back
    /// behind a shorter one. The appends that were dropped hear of it only then.
    pub(crate) fn roll_back<'a>(&'a self, slot: &Slot<'_>, writer: Locked<'a>) -> Locked<'a> {
        let (generation, committed) = (writer.view.cuts(), writer.committed);
        drop(writer);
        // The note keeps flushes away, so the file is not written meanwhile.
        self.preallocation.give_up(slot, committed.bytes);
        let rolled_back = take_off(&self.file, self.format, committed.bytes);
        let _long = rolled_back.is_err().then(|| self.long_hold());
        let mut writer = self.lock();
        let dropped = match writer.note.take() {
            Some(Note::RollBack { dropped }) => dropped,
            _ => None,
        };
        match rolled_back {
            Ok(marked) => {
                writer.marked = marked;
                if marked {
                    writer.barrier = committed.bytes;
                }
                self.made_durable(slot, generation, committed);
                if let Some(dropped) = dropped {
                    self.group_commit.dropped(slot, dropped);
                }
                writer
            }
            Err(error) => {
                self.poison(slot, writer, Rest::TakeOff, error);
                self.lock()
            }
        }
    }

    /// Nothing more is acknowledged on this handle: the system may now call pages clean that never reached the disk.
    /// Readers get a view that ends at the durable point, what they hold is preserved, and the file is cut there if
    /// that is possible. Returns the error to tell.
    pub(crate) fn poison(&self, slot: &Slot<'_>, mut writer: Locked<'_>, rest: Rest, error: Error) -> Error {
        if let Some(first) = &writer.failure {
            return Error::Poisoned { first: Arc::clone(first) };
        }
        let first = Arc::new(error);
        let durable = self.group_commit.durable();
        writer.failure = Some(Arc::clone(&first));
        writer.note = None;
        writer.drop_staged();
        let map = Map::new(&self.file, durable.bytes).map_err(|_| Arc::clone(&writer.view));
        let mapped = map.is_ok();
        if let Ok(map) = &map {
            map.raise(durable.bytes);
        }
        writer.index = writer.index.cut(durable.index, durable.bytes);
        let generation = writer.generations.cut(durable.index);
        let cuts = generation.number();
        let index = writer.index.index().share();
        writer.replace_view(View::poisoned(map, index, generation, durable.index, Arc::clone(&first)));
        self.set_appended(durable.index);
        // Without a map of its own the new view shows the old one's pages, which then have to stay.
        if rest == Rest::TakeOff
            && mapped
            && writer.preserve(durable.bytes, self.preserve_limit, &mut Copies::default()).is_ok()
        {
            // Best effort: the handle is of no more use, and the next open decides by what it finds.
            let _ = take_off(&self.file, self.format, durable.bytes);
        }
        writer.committed = durable;
        self.group_commit.fail(slot, cuts, Arc::clone(&first));
        drop(writer);
        self.notifier.wake(Change::All);
        Error::Poisoned { first }
    }

    /// Makes everything durable and marks the end, so that a journal closed cleanly is protected to its last byte.
    pub(crate) fn close(&self) -> Result<()> {
        let slot = self.group_commit.take_slot();
        self.preallocation.stop(&slot);
        self.sync_with(&slot).map_err(|error| match error {
            Error::Io { op: "write", path, source } => {
                Error::Io { op: "close: write staged records, which are lost,", path, source }
            }
            other => other,
        })?;
        let _long = self.long_hold();
        let mut writer = self.lock();
        if self.format == Format::Sealed && !writer.marked {
            writer.marked = leave_mark(&self.file, self.format, writer.committed.bytes)?;
        }
        Ok(())
    }
}
