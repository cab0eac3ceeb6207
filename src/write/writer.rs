//! The append path, visibly in its order: encode → staging buffer → file → publish. One [`Writer`], under the append
//! lock of [`Log`](crate::write::Log); nothing in here takes a lock or waits.
//!
//! Three watermarks: **appended** (in the staging buffer) ≥ **committed** (accepted by the file, readers see it) ≥
//! **durable** (covered by a sync; kept in [`GroupCommit`](crate::group_commit::GroupCommit)). Visible is not durable.

use std::io::IoSlice;

use crate::error::{Error, Result};
use crate::file::JournalFile;
use crate::file::map::Map;
use crate::file::preserve::{Copies, Mappings};
use crate::format::Format;
use crate::format::{HEADER_LEN, Header, flag, record_end};
use crate::group_commit::{Dropped, Watermark};
use crate::index::IndexWriter;
use crate::notify::{Change, WakeRequest};
use crate::sync::Arc;
use crate::view::View;
use crate::view::generation::{Generation, Generations};
use crate::view::publish::{Publisher, Retired};

/// Records of a batch that go out in one call.
const GATHER: usize = 64;

/// After so many bytes without a barrier, one sync holds flushes back, so that the stretch in which damage looks like
/// a torn tail stays bounded.
const BARRIER_EVERY: u64 = 64 << 20;

/// Why no flush may happen until the holder of the sync slot has seen to it.
#[derive(Debug)]
pub(crate) enum Note {
    /// 64 MiB went by without a barrier: sync, so that the next flush begins with one.
    Sync,
    /// A write failed: take what it left behind the committed end off the file.
    RollBack { dropped: Option<Dropped> },
    /// Records were dropped and nothing was written: tell the callers that wait for them.
    Drop(Dropped),
    /// The journal is empty and there was no room for its mark, which the first record may not go without.
    Mark,
}

/// Why a record in hand did not get in.
pub(crate) enum Refusal {
    /// Nothing was written: what is staged can still go out.
    Before(Error),
    /// A write failed: the file may hold a part of what it was given.
    Write(Error),
}

/// What the file has accepted, for readers to [see](Writer::publish).
#[must_use]
pub(crate) struct Written {
    map: Option<Map>,
    end: u64,
    barrier: u8,
}

/// Records of a batch: payloads and their CRCs, computed before the append lock was taken.
pub(crate) trait Records {
    fn count(&self) -> usize;
    fn get(&self, at: usize) -> Option<(&[u8], u32)>;
}

/// One record from parts, with the CRC and length of them all.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) slices: &'a [IoSlice<'a>],
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

/// What the append lock protects.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) file: Arc<JournalFile>,
    pub(crate) format: Format,
    /// Encoded records that the file has not yet accepted. Its first byte belongs at `committed.bytes`.
    staging: Vec<u8>,
    staging_len: usize,
    /// The stage that appends go into: a new one after each drop.
    pub(crate) stage: u64,
    /// Callers that wait for a record that is staged.
    pub(crate) waiting: u64,
    pub(crate) committed: Watermark,
    pub(crate) index: IndexWriter,
    /// Where the last header stands that proves everything before it durable.
    pub(crate) barrier: u64,
    /// The file ends with a mark of its own end.
    pub(crate) marked: bool,
    pub(crate) note: Option<Note>,
    pub(crate) failure: Option<Arc<Error>>,
    pub(crate) view: Arc<View>,
    pub(crate) generations: Generations,
    /// What a flush has met that must not wait for the roll-back.
    refused: Option<Error>,
    /// What those who wait for records are owed.
    asked: WakeRequest,
    /// The committed end when the first of them asked.
    asked_at: Watermark,
    pub(crate) retired: Retired<View>,
    pub(crate) mappings: Mappings,
    pub(crate) publisher: Publisher<View>,
    pub(crate) flushes: u64,
    pub(crate) views_published: u64,
}

/// What a writer goes on from.
pub(crate) struct Start {
    pub(crate) file: Arc<JournalFile>,
    pub(crate) format: Format,
    pub(crate) index: IndexWriter,
    pub(crate) marked: bool,
    pub(crate) staging_len: usize,
}

impl Writer {
    /// A writer that goes on behind the records of `start`, all of which are durable, and publishes them.
    ///
    /// # Errors
    /// `Io` if the file cannot be mapped, or there is no memory for the staging buffer or the index.
    pub(crate) fn new(start: Start) -> Result<Self> {
        let Start { file, format, mut index, marked, staging_len } = start;
        // Its size is the caller's choice: one that cannot be had is an error, not a panic.
        let mut staging = Vec::new();
        staging
            .try_reserve_exact(staging_len)
            .map_err(|e| file.error("make the staging buffer of", e.into()))?;
        let committed = Watermark { index: index.last(), bytes: index.end() };
        // The first view's index has room, or the first append would need another view.
        index.reserve(1).map_err(|e| file.error("make room in the index of", e))?;
        let map = Map::new(&file, committed.bytes)?;
        let generations = Generations::new();
        let generation = Arc::clone(generations.current());
        let view =
            Arc::new(View::new(map, index.index().share(), generation, committed.index, committed.bytes));
        Ok(Self {
            file,
            format,
            staging,
            staging_len,
            stage: 0,
            waiting: 0,
            committed,
            index,
            barrier: if marked { committed.bytes } else { 0 },
            marked,
            note: None,
            failure: None,
            publisher: Publisher::new(Arc::clone(&view)),
            view,
            generations,
            refused: None,
            asked: WakeRequest::None,
            asked_at: committed,
            retired: Retired::new(),
            mappings: Mappings::default(),
            flushes: 0,
            views_published: 1,
        })
    }

    /// # Errors
    /// `Poisoned` after a failure that nothing more can be appended after.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        match &self.failure {
            None => Ok(()),
            Some(first) => Err(Error::Poisoned { first: Arc::clone(first) }),
        }
    }

    /// The last appended record, and where it will end in the file.
    #[inline]
    pub(crate) fn appended(&self) -> Watermark {
        Watermark { index: self.index.last(), bytes: self.index.end() }
    }

    #[inline]
    pub(crate) fn is_staged(&self) -> bool {
        !self.staging.is_empty()
    }

    /// Whether `bytes` more, headers included, fit the staging buffer.
    #[inline]
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        bytes <= (self.staging_len - self.staging.len()) as u64
    }

    /// Whether the file holds something behind its committed end.
    pub(crate) fn rolls_back(&self) -> bool {
        matches!(self.note, Some(Note::RollBack { .. }))
    }

    /// Whether a write that failed is still to be answered for.
    pub(crate) fn owes(&self) -> bool {
        matches!(self.note, Some(Note::RollBack { .. } | Note::Drop(_)))
    }

    /// Whether the journal is empty and its file does not say so: it has no bytes.
    #[inline]
    pub(crate) fn lacks_mark(&self) -> bool {
        self.committed.bytes == 0 && !self.marked && self.format == Format::Sealed
    }

    /// Whether a flush has to wait for the holder of the sync slot.
    #[inline]
    pub(crate) fn needs_slot(&self, durable: u64) -> bool {
        self.note.is_some()
            || self.lacks_mark()
            || (self.format == Format::Sealed
                && self.committed.bytes.saturating_sub(self.barrier) >= BARRIER_EVERY
                && durable != self.committed.bytes)
    }

    /// Encodes one record into the staging buffer, which [has room](Self::has_room) for it; its index.
    ///
    /// # Errors
    /// `RecordTooLarge` if it would end beyond what a file can have, `Io` if there is no memory for its index entry.
    #[inline]
    pub(crate) fn stage(&mut self, record: Parts<'_>, flags: u8) -> Result<u64> {
        let offset = self.index.end();
        let end = checked_end(offset, record.len)?;
        self.reserve(1)?;
        self.staging.extend_from_slice(&self.header(offset, record.len, record.crc, flags).encode());
        for part in record.slices {
            self.staging.extend_from_slice(part);
        }
        self.index.push(end);
        Ok(self.index.last())
    }

    /// Encodes a batch into the staging buffer, which has room for all of it.
    ///
    /// # Errors
    /// As for one record; then none of it is staged.
    pub(crate) fn stage_batch(&mut self, batch: &impl Records, total: u64) -> Result<()> {
        checked_end(self.index.end(), total)?;
        self.reserve(batch.count() as u64)?;
        for at in 0..batch.count() {
            if let Some((payload, crc)) = batch.get(at) {
                let flags = continued(at, batch.count());
                self.stage(
                    Parts { slices: &[IoSlice::new(payload)], len: payload.len() as u64, crc },
                    flags,
                )?;
            }
        }
        Ok(())
    }

    /// Writes what is staged to the file and publishes it. `durable` is where the durable part of the file ends.
    ///
    /// # Errors
    /// `Io`. Then nothing is committed, and the buffer is as it was; the file may hold a part of it.
    pub(crate) fn write_staged(&mut self, durable: u64) -> Result<(), Refusal> {
        let end = self.index.end();
        let map = self.map_for(end).map_err(Refusal::Before)?;
        let barrier = self.barrier_flag(durable);
        self.patch_barrier(barrier);
        self.file.write_at(&self.staging, self.committed.bytes).map_err(Refusal::Write)?;
        self.publish(Written { map, end, barrier });
        Ok(())
    }

    /// Of what is staged, writes the records up to `n`, which is one of them, and drops the rest. The view that is then
    /// published is of the next generation. If a batch goes on after record `n`, that record ends it.
    ///
    /// # Errors
    /// As [`write_staged`](Self::write_staged): then nothing is dropped either.
    pub(crate) fn write_kept(&mut self, n: u64, durable: u64) -> Result<(), Refusal> {
        let Some((at, len)) = self.staged_place(n) else {
            let source = std::io::ErrorKind::InvalidData.into();
            return Err(Refusal::Before(self.file.error("find a staged record of", source)));
        };
        let start = self.committed.bytes;
        let end = start.saturating_add(len as u64);
        let map = Map::new(&self.file, end).map_err(Refusal::Before)?;
        let barrier = self.barrier_flag(durable);
        self.patch_barrier(barrier);
        let header = Header::decode_at(&self.staging, at);
        let goes_on =
            header.filter(|header| self.format == Format::Sealed && header.flags() & flag::CONTINUED != 0);
        if let Some(header) = goes_on {
            let flags = header.flags() & !(flag::CONTINUED | flag::SEALED);
            self.put_header(at, header.with_flags(start.saturating_add(at as u64), flags));
        }
        let kept = self.staging.get(..len).unwrap_or_default();
        if let Err(error) = self.file.write_at(kept, start) {
            if let Some(header) = goes_on {
                self.put_header(at, header);
            }
            return Err(Refusal::Write(error));
        }
        self.index.rewind(n, end);
        self.stage += 1;
        self.begin_generation(n);
        self.publish(Written { map: Some(map), end, barrier });
        Ok(())
    }

    /// Where the header of record `n`, which is staged, begins in the buffer, and where the record ends there.
    fn staged_place(&self, n: u64) -> Option<(usize, usize)> {
        let mut at = 0;
        let mut left = n.checked_sub(self.committed.index)?;
        loop {
            let end =
                usize::try_from(record_end(at as u64, Header::decode_at(&self.staging, at)?.len)?).ok()?;
            left = left.checked_sub(1)?;
            if left == 0 {
                return (end <= self.staging.len()).then_some((at, end));
            }
            at = end;
        }
    }

    /// Drops what is staged and publishes a view of the next generation, with `map`, that ends where the file does.
    pub(crate) fn cut_staged(&mut self, map: Map) {
        self.drop_staged();
        self.publish_cut(map, self.committed);
    }

    /// Publishes a view of the next generation that ends at `end`, with `map` and the writer's index.
    pub(crate) fn publish_cut(&mut self, map: Map, end: Watermark) {
        let (index, generation) = (self.index.index().share(), self.begin_generation(end.index));
        self.replace_view(View::new(map, index, generation, end.index, end.bytes));
    }

    /// Begins the generation in which `kept` is the last record. A cut wakes all waiters, and they ask anew.
    fn begin_generation(&mut self, kept: u64) -> Arc<Generation> {
        self.asked = WakeRequest::None;
        self.generations.cut(kept)
    }

    /// Writes what is staged and, behind it, a record that does not fit the buffer, without copying it. It is appended
    /// then, and committed once it is published. One that fits
    /// is copied, however long: up to three quarters of the default buffer, a system call of its own was never quicker.
    ///
    /// # Errors
    /// As [`write_staged`](Self::write_staged), or `RecordTooLarge`. The record gets no index.
    pub(crate) fn write_record(&mut self, record: Parts<'_>, durable: u64) -> Result<Written, Refusal> {
        let offset = self.index.end();
        let end = checked_end(offset, record.len).map_err(Refusal::Before)?;
        self.reserve(1).map_err(Refusal::Before)?;
        let map = self.map_for(end).map_err(Refusal::Before)?;
        let barrier = self.barrier_flag(durable);
        self.patch_barrier(barrier);
        let flags = if self.is_staged() { 0 } else { barrier };
        let header = self.header(offset, record.len, record.crc, flags).encode();
        let mut at = self.committed.bytes;
        let mut parts = record.slices;
        let mut first = true;
        while first || !parts.is_empty() {
            let (now, later) = parts.split_at(parts.len().min(2 * GATHER));
            let mut gather = [IoSlice::new(&[]); 2 * GATHER + 2];
            if first {
                gather[0] = IoSlice::new(&self.staging);
                gather[1] = IoSlice::new(&header);
            }
            gather[2..2 + now.len()].copy_from_slice(now);
            let bytes: usize = gather.iter().map(|part| part.len()).sum();
            self.file.write_vectored_at(&mut gather[..2 + now.len()], at).map_err(Refusal::Write)?;
            at += bytes as u64;
            parts = later;
            first = false;
        }
        self.index.push(end);
        Ok(Written { map, end, barrier })
    }

    /// Writes what is staged and, behind it, a batch that does not fit the buffer, in as many calls as it needs. Its
    /// records are appended after the last, and committed once they are published.
    ///
    /// # Errors
    /// As [`write_record`](Self::write_record); no record of the batch gets an index.
    pub(crate) fn write_batch(
        &mut self,
        batch: &impl Records,
        total: u64,
        durable: u64,
    ) -> Result<Written, Refusal> {
        let mut offset = self.index.end();
        // `total` is the batch with its headers, so if its end is fine, so is that of each record.
        checked_end(offset, total).map_err(Refusal::Before)?;
        let end = offset + total;
        self.reserve(batch.count() as u64).map_err(Refusal::Before)?;
        let map = self.map_for(end).map_err(Refusal::Before)?;
        let barrier = self.barrier_flag(durable);
        self.patch_barrier(barrier);
        let opening = if self.is_staged() { 0 } else { barrier };
        let mut at = self.committed.bytes;
        let count = batch.count();
        for chunk in (0..count).step_by(GATHER) {
            let now = GATHER.min(count - chunk);
            let mut headers = [[0; HEADER_LEN as usize]; GATHER];
            for (i, header) in headers[..now].iter_mut().enumerate() {
                let Some((payload, crc)) = batch.get(chunk + i) else { continue };
                let first = if chunk + i == 0 { opening } else { 0 };
                let flags = continued(chunk + i, count) | first;
                *header = self.header(offset, payload.len() as u64, crc, flags).encode();
                offset += HEADER_LEN + payload.len() as u64;
            }
            let mut gather = [IoSlice::new(&[]); 2 * GATHER + 1];
            if chunk == 0 {
                gather[0] = IoSlice::new(&self.staging);
            }
            for (i, header) in headers[..now].iter().enumerate() {
                let Some((payload, _)) = batch.get(chunk + i) else { continue };
                gather[1 + 2 * i] = IoSlice::new(header);
                gather[2 + 2 * i] = IoSlice::new(payload);
            }
            self.file.write_vectored_at(&mut gather[..1 + 2 * now], at).map_err(Refusal::Write)?;
            at = offset;
        }
        for i in 0..count {
            if let Some((payload, _)) = batch.get(i) {
                self.index.push(self.index.end() + HEADER_LEN + payload.len() as u64);
            }
        }
        Ok(Written { map, end, barrier })
    }

    /// Drops what is staged, and the indexes it had.
    pub(crate) fn drop_staged(&mut self) {
        self.staging.clear();
        self.index.rewind(self.committed.index, self.committed.bytes);
        self.stage += 1;
        self.waiting = 0;
    }

    /// Publishes `view` in place of the current one, which joins the retired.
    pub(crate) fn replace_view(&mut self, view: View) {
        self.retired.replace(&self.publisher, &mut self.view, view);
        self.views_published += 1;
    }

    /// Whether what older views that someone still holds show beyond `cut` can be preserved. Nothing is changed.
    ///
    /// # Errors
    /// `ReadersActive` if that is more than `limit` bytes, or takes more memory mappings than the process has left.
    pub(crate) fn check_limits(&mut self, cut: u64, limit: u64) -> Result<()> {
        let beyond = self.retired.held().iter().map(|view| view.map().beyond(cut));
        let (held_bytes, maps) = beyond
            .filter(|&bytes| bytes > 0)
            .fold((0u64, 0usize), |(sum, maps), bytes| (sum.saturating_add(bytes), maps + 1));
        let why = if held_bytes > limit {
            format!("preserve_limit is {limit} bytes")
        } else if let Err(wanting) = self.mappings.allow(maps) {
            wanting.to_string()
        } else {
            return Ok(());
        };
        Err(Error::ReadersActive { held_bytes, why })
    }

    /// Preserves, for each older view that someone still holds, what it shows beyond `cut`, with the copies that were
    /// made ahead.
    ///
    /// # Errors
    /// `ReadersActive` as [`check_limits`](Self::check_limits), or if the system has no room for it.
    pub(crate) fn preserve(&mut self, cut: u64, limit: u64, copies: &mut Copies) -> Result<()> {
        self.check_limits(cut, limit)?;
        let held = self.retired.held();
        let (index, last) = (self.index.index(), self.index.last());
        let keep = |view: &Arc<View>| view.preserve(index, last, |map| copies.preserve(map, cut));
        held.iter().try_for_each(keep).map_err(|error| {
            let held_bytes = held.iter().map(|view| view.map().beyond(cut)).sum();
            Error::ReadersActive { held_bytes, why: error.to_string() }
        })
    }

    /// Someone waits for a record that is not committed, and nothing is staged or someone sees to that.
    pub(crate) fn request_wake(&mut self, asked: WakeRequest) {
        if self.asked == WakeRequest::None {
            self.asked_at = self.committed;
        }
        // Also if another was seen to that is gone: the one that asks now waits for what comes next.
        self.asked = asked;
    }

    /// A write of what is staged failed, and has left what `note` says. `error` is what to tell until that is gone.
    pub(crate) fn refuse_staged(&mut self, error: Option<Error>, note: Note) {
        (self.refused, self.note) = (error, Some(note));
    }

    /// What that was, as long as the file still holds what it has left.
    pub(crate) fn refused(&self) -> Option<Error> {
        self.refused.as_ref().filter(|_| self.rolls_back()).cloned()
    }

    /// What happened that someone has asked for, as the append lock is given up.
    #[inline]
    pub(crate) fn take_change(&mut self) -> Change {
        if self.asked == WakeRequest::None {
            return Change::None;
        }
        self.asked.due(!self.staging.is_empty(), self.committed != self.asked_at)
    }

    /// A map for a new view that shows the file up to `end`, if the current view cannot: its map is too small, or the
    /// index has moved to where there is more room. Made before the write: what is in the file but cannot be mapped
    /// could not be read.
    fn map_for(&self, end: u64) -> Result<Option<Map>> {
        let shown = end <= self.view.map().len() && self.view.index().same(self.index.index());
        (!shown).then(|| Map::new(&self.file, end)).transpose()
    }

    /// Makes room in the index for `more` records.
    ///
    /// # Errors
    /// `Io` if there is no memory for them. Nothing has changed.
    #[inline]
    fn reserve(&mut self, more: u64) -> Result<()> {
        self.index.reserve(more).map_err(|error| self.file.error("make room in the index of", error))
    }

    /// Lets readers see what the file has accepted. All of it is appended already, in the index that other threads see as well.
    pub(crate) fn publish(&mut self, written: Written) {
        let Written { map, end, barrier } = written;
        if barrier != 0 {
            self.barrier = self.committed.bytes;
        }
        let last = self.index.last();
        match map {
            None => self.view.commit(last, end),
            Some(map) => {
                let index = self.index.index().share();
                let generation = Arc::clone(self.generations.current());
                self.replace_view(View::new(map, index, generation, last, end));
            }
        }
        self.committed = Watermark { index: last, bytes: end };
        self.staging.clear();
        self.waiting = 0;
        self.refused = None;
        self.marked = false;
        self.flushes += 1;
    }

    #[inline]
    fn header(&self, offset: u64, len: u64, crc: u32, flags: u8) -> Header {
        match self.format {
            Format::Sealed => Header::sealed(offset, len, crc, flags),
            Format::Reference => Header::reference(len, crc),
        }
    }

    /// `BARRIER` for the first record of a flush, if everything before it is durable. A flush that is tried again
    /// decides anew.
    fn barrier_flag(&self, durable: u64) -> u8 {
        let all_durable = self.format == Format::Sealed && durable == self.committed.bytes;
        if all_durable { flag::BARRIER } else { 0 }
    }

    /// Seals the first staged record anew, with `BARRIER` or without, as it is about to be handed over.
    fn patch_barrier(&mut self, barrier: u8) {
        let offset = self.committed.bytes;
        let Some(header) = Header::decode_at(&self.staging, 0) else { return };
        if self.format == Format::Reference {
            return;
        }
        let flags = header.flags() & flag::CONTINUED | barrier;
        self.put_header(0, header.with_flags(offset, flags));
    }

    /// Writes `header` over the one that begins at `at` in the buffer.
    fn put_header(&mut self, at: usize, header: Header) {
        let bytes = header.encode();
        if let Some(place) = self.staging.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
            place.copy_from_slice(&bytes);
        }
    }
}

fn continued(at: usize, count: usize) -> u8 {
    if at + 1 < count { flag::CONTINUED } else { 0 }
}

#[inline]
fn checked_end(offset: u64, len: u64) -> Result<u64> {
    record_end(offset, len).ok_or_else(|| too_large(len))
}

fn too_large(len: u64) -> Error {
    Error::RecordTooLarge { len, max: i64::MAX as u64 - HEADER_LEN }
}
