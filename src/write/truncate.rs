//! Truncating back: records are removed from the end, durably, without waiting for readers and without pulling bytes
//! from under one. The steps and their order are those of the crate's design; each that looks redundant is one whose
//! absence lost data in a simulation of crashes.

use crate::error::{Error, Result};
use crate::file::end::{cut, is_no_space};
use crate::file::map::Map;
use crate::file::preserve::{Copies, Seen};
use crate::format::Format;
use crate::format::{HEADER_LEN, Header, flag};
use crate::group_commit::{Dropped, Slot, Watermark};
use crate::index::IndexWriter;
use crate::notify::Change;
use crate::sync::Arc;
use crate::view::{Extent, View};
use crate::write::lock::Locked;
use crate::write::writer::{Refusal, Writer};
use crate::write::{Log, Rest};

/// A header in the file before and after it was rewritten without `CONTINUED`.
struct Resealed {
    offset: u64,
    before: Header,
}

impl Log {
    /// Keeps the records up to `n`; 0 clears the journal.
    pub(crate) fn truncate_back(&self, n: u64) -> Result<()> {
        self.file.check_process()?;
        let long = self.long_hold();
        let done = self.cut_back(n);
        drop(long);
        self.notifier.wake(Change::All);
        done
    }

    fn cut_back(&self, n: u64) -> Result<()> {
        // Step 1: slot, then append lock, both held throughout; everything that stays flushed and synced. What readers hold
        // is copied in between: appends need not wait for that.
        let slot = self.group_commit.take_slot();
        let copies = self.copy_ahead(&slot, n);
        let mut writer = self.flush_kept(&slot, n)?;
        let (generation, old_end) = (self.group_commit.generation(), writer.committed);
        if self.group_commit.durable_bytes() != old_end.bytes {
            if let Err(error) = self.file.sync() {
                return Err(self.poison(&slot, writer, Rest::TakeOff, error));
            }
            self.group_commit.acknowledge(&slot, generation, old_end);
        }
        // A gap goes too if the journal is cleared, and with it the numbering.
        let clears = n == 0 && writer.view.first() > 1;
        if n < old_end.index || clears {
            return self.cut_file(&slot, writer, n, copies);
        }
        if writer.is_staged() {
            // Nothing of what goes is in the file.
            let map = Map::new(&self.file, old_end.bytes)?;
            writer.cut_staged(map);
            self.set_appended(old_end.index);
        }
        if writer.view.cuts() != generation {
            writer.generations.carried_out(old_end.index);
            self.group_commit.cut(&slot, writer.view.cuts(), old_end);
        }
        Ok(())
    }

    /// Commits what is staged up to record `n`, and drops what is staged after it, if `n` itself is staged. Else all that
    /// is staged stays where it is, to be dropped with the rest.
    ///
    /// # Errors
    /// `OutOfRange` if there is no record `n` to keep.
    fn flush_kept<'a>(&'a self, slot: &Slot<'_>, n: u64) -> Result<Locked<'a>> {
        let mut writer = self.lock();
        loop {
            writer.check()?;
            let (first, last) = (writer.view.first(), writer.appended().index);
            // A cut must find nothing left behind the committed end, and nobody untold.
            if writer.owes() {
                writer = self.settle(writer, Some(slot))?;
                continue;
            }
            if n != 0 && (n < first.saturating_sub(1) || n > last) {
                return Err(Error::OutOfRange { index: n, first, last });
            }
            if n <= writer.committed.index {
                return Ok(writer);
            }
            let durable = self.group_commit.durable_bytes();
            if writer.needs_slot(durable) {
                writer = self.settle(writer, Some(slot))?;
                continue;
            }
            let written =
                if n == last { writer.write_staged(durable) } else { writer.write_kept(n, durable) };
            match written {
                Ok(()) => {
                    self.set_appended(n);
                    return Ok(writer);
                }
                Err(Refusal::Before(error)) => return Err(error),
                Err(Refusal::Write(error)) => writer = self.refuse(writer, Some(slot), error)?,
            }
        }
    }

    /// Copies what readers hold beyond record `n`, as far as it is committed by now. The append lock is held only to find
    /// out whether there is any.
    fn copy_ahead(&self, _: &Slot<'_>, n: u64) -> Copies {
        let mut writer = self.lock();
        let views = writer.held_views();
        if views.is_empty() || writer.failure.is_some() {
            return Copies::default();
        }
        let view = Arc::clone(&writer.view);
        let looks = writer.mappings.wants_look(views.len());
        drop(writer);
        let Ok((_, end)) = place_of_cut(&view, n) else { return Copies::default() };
        let beyond = || views.iter().map(|view| view.map()).filter(|map| map.beyond(end.bytes) > 0);
        // More than that is not copied at all, and the cut says so.
        let bytes = beyond().fold(0u64, |sum, map| sum.saturating_add(map.beyond(end.bytes)));
        if bytes == 0 || bytes > self.preserve_limit {
            return Copies::default();
        }
        let mut copies = Copies::make(beyond(), end.bytes);
        // Last, so that it is still good when it is needed.
        copies.seen = if looks { Seen::now() } else { None };
        copies
    }

    /// Removes the records after `n`, some of which are committed, from the file.
    fn cut_file(&self, slot: &Slot<'_>, mut writer: Locked<'_>, n: u64, mut copies: Copies) -> Result<()> {
        let (kept, end) = place_of_cut(&writer.view, n)?;
        if let Some(seen) = copies.seen.take() {
            writer.mappings.looked(seen);
        }
        writer.check_limits(end.bytes, self.preserve_limit)?;

        // Step 2: a view of the shorter journal, with its own map and index. What is staged stays for now. Nothing may be
        // called durable that is not committed any more, or committed that is not appended.
        let map = Map::new(&self.file, end.bytes)?;
        // Publishing the full length again must not fail, so its map is made now.
        let spare = Map::new(&self.file, writer.committed.bytes)?;
        let mut index = match n {
            0 => IndexWriter::new(writer.index.index().mode(), 1, 0),
            _ => writer.index.cut(end.index, end.bytes),
        };
        index.reserve(1).map_err(|error| self.file.error("make room in the index of", error))?;
        let index = std::mem::replace(&mut writer.index, index);
        let old = Old { index, committed: writer.committed };
        self.group_commit.lower(slot, end);
        writer.publish_cut(map, end);
        self.set_appended(end.index);

        // Step 3: what readers hold of the rest is preserved.
        if let Err(error) = writer.preserve(end.bytes, self.preserve_limit, &mut copies) {
            self.undo(slot, writer, spare, old);
            return Err(error);
        }
        self.preallocation.cut(slot);

        // Step 4: the intent, durable before the file is touched. Step 5: the cut itself.
        let done = match self.announce(end.bytes, old.committed.bytes, kept) {
            Ok(()) => cut(&self.file, self.format, end.bytes).map_err(|error| (Rest::TakeOff, error)),
            Err(Announce::Undone(error)) => {
                self.undo(slot, writer, spare, old);
                return Err(error);
            }
            // The last record that stays may not have left its batch: cut there, it would be lost with it.
            Err(Announce::Stuck(error)) => Err((Rest::Leave, error)),
        };
        // Whether the cut succeeded or not, what is beyond it is not known to be there any more.
        let (stage, waiting) = (writer.stage, writer.waiting);
        writer.committed = end;
        writer.drop_staged();
        writer.generations.carried_out(end.index);
        if let Err((_, error)) = &done {
            // What was staged was never written, and this did not remove it either.
            let error = error.clone();
            self.group_commit.dropped(slot, Dropped { stage, kept: old.committed.index, waiting, error });
        }
        self.group_commit.cut(slot, writer.view.cuts(), end);
        match done {
            Ok(marked) => {
                writer.marked = marked;
                writer.barrier = end.bytes;
                writer.index.give_back();
                Ok(())
            }
            Err((rest, error)) => Err(self.poison(slot, writer, rest, error)),
        }
    }

    /// Publishes the full length again, as another generation.
    fn undo(&self, slot: &Slot<'_>, mut writer: Locked<'_>, map: Map, old: Old) {
        // The intent may have overwritten the mark of a clean end.
        writer.marked = false;
        // With what is staged.
        writer.index = old.index;
        self.set_appended(writer.appended().index);
        writer.publish_cut(map, old.committed);
        self.group_commit.restore(slot, writer.view.cuts(), old.committed);
    }

    /// Writes the mark that says "the journal ends at `end`" behind the old end, and takes the last record that is kept
    /// out of its batch.
    fn announce(&self, end: u64, old_end: u64, kept: Option<Extent>) -> Result<(), Announce> {
        if self.format == Format::Reference {
            return Ok(());
        }
        let mark = self.place_intent(end, old_end)?;
        let Some(extent) = kept else { return Ok(()) };
        let resealed =
            self.continued_at(extent).map_err(|error| self.withdraw(mark, old_end, None, error))?;
        let Some(record) = resealed else { return Ok(()) };
        // It lies in the file, but the limit on the file's size may be below it: then the seal is as it was.
        self.file
            .check_write(record.offset.saturating_add(HEADER_LEN))
            .map_err(|error| self.withdraw(mark, old_end, None, error))?;
        let flags = record.before.flags() & !(flag::CONTINUED | flag::SEALED);
        self.write_seal(record.offset, record.before.with_flags(record.offset, flags))
            .map_err(|error| self.withdraw(mark, old_end, Some(record), error))?;
        self.file.sync().map_err(Announce::Stuck)
    }

    /// Writes the mark and syncs; where it is, or nothing if there is no room for it.
    ///
    /// It goes to the first multiple of the block size at or behind the old end, since ext4 can write zeros from the new
    /// end to the end of its block before it commits the new size. Without room there, as on a full disk, it goes right
    /// behind the old end if that is another block than the new end's, and else nowhere: a power cut between the cut
    /// and its sync can then look like damage.
    fn place_intent(&self, end: u64, old_end: u64) -> Result<Option<u64>, Announce> {
        let block = self.file.block_len();
        let aligned = old_end.checked_next_multiple_of(block);
        let right_behind = (old_end / block != end / block).then_some(old_end);
        for at in [aligned, right_behind].into_iter().flatten() {
            match self.file.write_at(&Header::mark(at, end).encode(), at) {
                Ok(()) => {
                    // No way back from a failed sync: another that succeeds would prove nothing.
                    self.file.sync().map_err(Announce::Stuck)?;
                    return Ok(Some(at));
                }
                Err(error) if is_no_space(&error) => {
                    // A part of it may have got in, and behind a hole at that.
                    self.file.truncate(old_end).map_err(Announce::Stuck)?;
                }
                Err(error) => return Err(self.withdraw(Some(at), old_end, None, error)),
            }
        }
        Ok(None)
    }

    /// The record at `extent` as its header is now, if the batch that it is in goes on behind it.
    fn continued_at(&self, extent: Extent) -> Result<Option<Resealed>> {
        let before = self.header_at(extent.start)?;
        Ok((before.flags() & flag::CONTINUED != 0).then_some(Resealed { offset: extent.start, before }))
    }

    fn header_at(&self, offset: u64) -> Result<Header> {
        let mut bytes = [0; HEADER_LEN as usize];
        if self.file.read_at(&mut bytes, offset)? < bytes.len() {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            return Err(self.file.error("read", source));
        }
        Ok(Header::decode(&bytes))
    }

    fn write_seal(&self, offset: u64, header: Header) -> Result<()> {
        self.file.write_at(&header.seal.to_le_bytes(), offset + 12)
    }

    /// Takes the mark off again and restores the seal. `error` is what stood in the way.
    fn withdraw(
        &self,
        mark: Option<u64>,
        old_end: u64,
        resealed: Option<Resealed>,
        error: Error,
    ) -> Announce {
        let restored = || -> Result<()> {
            if let Some(Resealed { offset, before }) = resealed
                // Where a write in place needs room, a full disk has none to restore what was not written either.
                && self.header_at(offset)? != before
            {
                self.write_seal(offset, before)?;
            }
            if mark.is_some() {
                self.file.truncate(old_end)?;
            }
            self.file.sync()
        };
        match restored() {
            Ok(()) => Announce::Undone(error),
            Err(error) => Announce::Stuck(error),
        }
    }
}

/// How announcing a truncation failed.
enum Announce {
    /// The file is as it was.
    Undone(Error),
    /// The file could not be brought back.
    Stuck(Error),
}

/// What a cut that is taken back goes on with.
struct Old {
    index: IndexWriter,
    committed: Watermark,
}

/// The last record that stays and where the journal then ends, if the records of `view` up to `n` are kept.
///
/// # Errors
/// `Corrupt` if the way to record `n` is not what it was when it was written: then nothing is cut.
fn place_of_cut(view: &View, n: u64) -> Result<(Option<Extent>, Watermark)> {
    if n == 0 {
        return Ok((None, Watermark::default()));
    }
    let first = view.first();
    if n < first {
        // Nothing stays but the gap.
        return Ok((None, Watermark { index: n, bytes: view.index().nearest(first).1 }));
    }
    match view.locate(n, view.committed(), &mut None) {
        Some(extent) => Ok((Some(extent), Watermark { index: n, bytes: extent.end })),
        None => Err(Error::corrupt(view.map().file().path(), view.index().nearest(n).1, n)),
    }
}

impl Writer {
    /// The views that someone holds, in addition to the journal. A guess where the current view is concerned: that
    /// is certain only once it was replaced.
    fn held_views(&mut self) -> Vec<Arc<View>> {
        // The writer and the publisher hold it too.
        let current = (Arc::strong_count(&self.view) > 2).then_some(&self.view);
        self.retired.held().iter().chain(current).map(Arc::clone).collect()
    }
}
