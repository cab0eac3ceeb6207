//! What happens when the file refuses something: a refused append leaves no trace (P7), a failed sync is final (P8).

use crate::commit::{Dropped, Slot};
use crate::cut::take_off;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::map::Map;
use crate::options::SyncPolicy;
use crate::sync::{Arc, MutexGuard};
use crate::view::View;
use crate::writer::{Note, Writer};

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

impl Log {
    /// A write failed: takes what it left off the file and returns the error for the caller whose record is refused.
    /// Under `SyncPolicy::Always` all that is staged is refused, since each of its appends still waits for an answer;
    /// under the others those appends have returned, so what they staged stays.
    pub(crate) fn refuse<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Writer>,
        slot: Option<&Slot<'_>>,
        error: Error,
    ) -> Error {
        let dropped = (self.policy == SyncPolicy::Always).then(|| {
            let (generation, kept) = (writer.view.generation(), writer.committed.index);
            let (stage, waiting) = (writer.stage, writer.waiting);
            writer.drop_staged();
            self.set_appended(kept);
            Dropped { generation, stage, kept, waiting, error: error.again() }
        });
        writer.note = Some(Note::RollBack { dropped });
        drop(self.settle(writer, slot));
        error
    }

    /// Rolls the file back to its committed end, before anything more is written: else a refused record could come back
    /// behind a shorter one. The appends that were dropped hear of it only then.
    pub(crate) fn roll_back<'a>(
        &'a self,
        slot: &Slot<'_>,
        writer: MutexGuard<'a, Writer>,
    ) -> MutexGuard<'a, Writer> {
        let (generation, committed) = (writer.view.generation(), writer.committed);
        drop(writer);
        // The note keeps flushes away, so the file is not written meanwhile.
        let rolled_back = take_off(&self.file, self.format, committed.bytes);
        let mut writer = self.writer.lock();
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
                self.commit.acknowledge(slot, generation, committed);
                if let Some(dropped) = dropped {
                    self.commit.dropped(slot, dropped);
                }
                writer
            }
            Err(error) => {
                self.poison(slot, writer, Rest::TakeOff, error);
                self.writer.lock()
            }
        }
    }

    /// Nothing more is acknowledged on this handle: the system may now call pages clean that never reached the disk.
    /// Readers get a view that ends at the durable point, what they hold is preserved, and the file is cut there if
    /// that is possible. Returns the error to tell.
    pub(crate) fn poison(
        &self,
        slot: &Slot<'_>,
        mut writer: MutexGuard<'_, Writer>,
        rest: Rest,
        error: Error,
    ) -> Error {
        if let Some(first) = &writer.failure {
            return Error::Poisoned { first: Arc::clone(first) };
        }
        let first = Arc::new(error);
        let durable = self.commit.durable();
        let generation = writer.view.generation() + 1;
        writer.failure = Some(Arc::clone(&first));
        writer.note = None;
        writer.drop_staged();
        let before = Arc::clone(writer.view.map());
        let map = Map::new(&self.file, durable.bytes).map(Arc::new);
        let mapped = map.is_ok();
        let map = map.unwrap_or(before);
        map.raise(map.limit().max(durable.bytes));
        writer.index.cut(durable.index, durable.bytes);
        let index = Arc::clone(writer.index.index());
        writer.replace_view(View::poisoned(map, index, generation, durable.index, Arc::clone(&first)));
        self.set_appended(durable.index);
        // Without a map of its own the new view shows the old one's pages, which then have to stay.
        if rest == Rest::TakeOff && mapped && writer.preserve(durable.bytes, self.preserve_limit).is_ok() {
            // Best effort: the handle is of no more use, and the next open decides by what it finds.
            let _ = take_off(&self.file, self.format, durable.bytes);
        }
        writer.committed = durable;
        self.commit.fail(slot, generation, Arc::clone(&first));
        Error::Poisoned { first }
    }
}

impl Writer {
    /// Preserves, for each older view that someone still holds, what it shows beyond `cut`.
    ///
    /// # Errors
    /// `ReadersActive` if that is more than `limit` bytes, or the system has no room for it.
    pub(crate) fn preserve(&mut self, cut: u64, limit: u64) -> Result<()> {
        let held = self.retired.held();
        let held_bytes = held.iter().map(|view| view.map().beyond(cut)).sum();
        if held_bytes > limit {
            return Err(Error::ReadersActive { held_bytes, why: format!("preserve_limit is {limit} bytes") });
        }
        held.iter()
            .try_for_each(|view| view.map().preserve(cut))
            .map_err(|error| Error::ReadersActive { held_bytes, why: error.to_string() })
    }
}
