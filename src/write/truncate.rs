//! Truncating back: records are removed from the end, durably, without waiting for readers and without pulling bytes
//! from under one. The steps and their order are those of the crate's design; each that looks redundant is one whose
//! absence lost data in a simulation of crashes.

use crate::error::{Error, Result};
use crate::file::end::{cut, is_no_space};
use crate::file::map::{Map, maps_left};
use crate::format::{HEADER_LEN, Header, flag};
use crate::group_commit::{Slot, Watermark};
use crate::index::IndexWriter;
use crate::options::Format;
use crate::view::{Extent, View};
use crate::write::lock::Locked;
use crate::write::writer::Writer;
use crate::write::{Log, Rest};

/// Mappings that a truncation leaves to the rest of the process.
const SPARE_MAPS: usize = 8;

/// A header in the file before and after it was rewritten without `CONTINUED`.
struct Resealed {
    offset: u64,
    before: Header,
}

impl Log {
    /// Keeps the records up to `n`; 0 clears the journal.
    pub(crate) fn truncate_back(&self, n: u64) -> Result<()> {
        let done = self.cut_back(n);
        self.watch.ring_all();
        done
    }

    fn cut_back(&self, n: u64) -> Result<()> {
        // Step 1: slot, then append lock, both held throughout; everything flushed and synced.
        let slot = self.commit.take();
        let mut writer = self.flush_locked(self.lock(), Some(&slot))?;
        let (first, old_end) = (writer.view.first(), writer.committed);
        if n != 0 && (n < first.saturating_sub(1) || n > old_end.index) {
            return Err(Error::OutOfRange { index: n, first, last: old_end.index });
        }
        if self.commit.durable_bytes() != old_end.bytes {
            if let Err(error) = self.file.sync() {
                return Err(self.poison(&slot, writer, Rest::TakeOff, error));
            }
            self.commit.acknowledge(&slot, writer.view.cuts(), old_end);
        }
        // A gap goes too if the journal is cleared, and with it the numbering.
        let clears = n == 0 && first > 1;
        if n == old_end.index && !clears {
            return Ok(());
        }
        let (kept, end) = writer.place_of_cut(n)?;
        writer.check_limits(end.bytes, self.preserve_limit)?;

        // Step 2: a view of the shorter journal, with its own map and index.
        let map = Map::new(&self.file, end.bytes)?;
        // Publishing the full length again must not fail, so its map is made now.
        let spare = Map::new(&self.file, old_end.bytes)?;
        let mut index = match n {
            0 => IndexWriter::new(writer.index.index().mode(), 1, 0),
            _ => writer.index.cut(end.index, end.bytes),
        };
        index.reserve(1).map_err(|error| self.file.error("make room in the index of", error))?;
        let old_index = std::mem::replace(&mut writer.index, index);
        writer.publish_cut(map, end);
        self.set_appended(end.index);

        // Step 3: what readers hold of the rest is preserved.
        if let Err(error) = writer.preserve(end.bytes, self.preserve_limit) {
            self.undo(&slot, writer, (spare, old_index, old_end));
            return Err(error);
        }
        self.ahead.cut(&slot);

        // Step 4: the intent, durable before the file is touched. Step 5: the cut itself.
        let done = match self.announce(end.bytes, old_end.bytes, kept) {
            Ok(()) => cut(&self.file, self.format, end.bytes).map_err(|error| (Rest::TakeOff, error)),
            Err(Announce::Undone(error)) => {
                self.undo(&slot, writer, (spare, old_index, old_end));
                return Err(error);
            }
            // The last record that stays may not have left its batch: cut there, it would be lost with it.
            Err(Announce::Stuck(error)) => Err((Rest::Leave, error)),
        };
        // Whether the cut succeeded or not, what is beyond it is not known to be there any more.
        writer.committed = end;
        self.commit.cut(&slot, writer.view.cuts(), end);
        match done {
            Ok(marked) => {
                writer.marked = marked;
                writer.barrier = end.bytes;
                writer.index.give_back();
                Ok(())
            }
            Err((rest, error)) => Err(self.poison(&slot, writer, rest, error)),
        }
    }

    /// Publishes the full length again, as another generation.
    fn undo(
        &self,
        slot: &Slot<'_>,
        mut writer: Locked<'_>,
        (map, index, end): (Map, IndexWriter, Watermark),
    ) {
        // The intent may have overwritten the mark of a clean end.
        writer.marked = false;
        writer.index = index;
        writer.publish_cut(map, end);
        self.set_appended(end.index);
        self.commit.cut(slot, writer.view.cuts(), end);
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
        let mut bytes = [0; HEADER_LEN as usize];
        if self.file.read_at(&mut bytes, extent.start)? < bytes.len() {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            return Err(self.file.error("read", source));
        }
        let before = Header::decode(&bytes);
        Ok((before.flags() & flag::CONTINUED != 0).then_some(Resealed { offset: extent.start, before }))
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
            if let Some(Resealed { offset, before }) = resealed {
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

impl Writer {
    /// The last record that stays and where the journal then ends, if the records up to `n` are kept.
    ///
    /// # Errors
    /// `Corrupt` if the way to record `n` is not what it was when it was written: then nothing is cut.
    fn place_of_cut(&self, n: u64) -> Result<(Option<Extent>, Watermark)> {
        if n == 0 {
            return Ok((None, Watermark::default()));
        }
        let first = self.view.first();
        if n < first {
            // Nothing stays but the gap.
            return Ok((None, Watermark { index: n, bytes: self.view.index().nearest(first).1 }));
        }
        match self.view.locate(n, self.view.committed(), &mut None) {
            Some(extent) => Ok((Some(extent), Watermark { index: n, bytes: extent.end })),
            None => Err(Error::corrupt(self.file.path(), self.view.index().nearest(n).1, n)),
        }
    }

    /// Publishes a view of the next generation that ends at `end`, with `map` and the writer's index.
    fn publish_cut(&mut self, map: Map, end: Watermark) {
        let (index, generation) = (self.index.index().share(), self.generations.cut(end.index));
        self.replace_view(View::new(map, index, generation, end.index, end.bytes));
    }

    /// Before anything is changed: whether what older views hold beyond `cut` can be preserved.
    fn check_limits(&mut self, cut: u64, limit: u64) -> Result<()> {
        let held = self.retired.held();
        let held_bytes = held.iter().map(|view| view.map().beyond(cut)).sum();
        let why = if held_bytes > limit {
            format!("preserve_limit is {limit} bytes")
        } else if let Some(left) = maps_left()
            // Each map that pages are put into becomes two or three.
            && left < SPARE_MAPS + 2 * (held.len() + 1)
        {
            format!("only {left} memory mappings are left to the process")
        } else {
            return Ok(());
        };
        Err(Error::ReadersActive { held_bytes, why })
    }
}
