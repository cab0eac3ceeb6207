//! The index: record to file offset. The writer appends to it while readers look things up without a lock. Each view
//! has the index as a handle of its own on entries that all of them share, and keeps those that a later cut overwrites.

pub(crate) mod entries;
#[cfg_attr(loom, path = "../../tests/loom/memory.rs")]
pub(crate) mod memory;

use std::io;

use crate::index::entries::Entries;
use crate::options::IndexMode;

/// Where records lie: entry `i` stands for the record with the index `origin + i * every`.
///
/// In `Full` mode `every` is 1 and there is one entry more than there are records, the end of the last, so an
/// entry and its successor are a record's extent. In the other modes an entry is a place to hop from; without
/// entries (`Scan`) it is the beginning of the journal.
#[derive(Debug)]
pub(crate) struct Index {
    mode: IndexMode,
    /// The index of the record that entries are numbered from, the first there was when the journal was opened or
    /// cleared.
    origin: u64,
    /// Where that record begins.
    start: u64,
    entries: Entries,
}

impl Index {
    fn new(mode: IndexMode, origin: u64, start: u64) -> Self {
        Self { mode, origin, start, entries: Entries::new(mode == IndexMode::Full) }
    }

    /// The same for a view of its own.
    pub(crate) fn share(&self) -> Self {
        let Self { mode, origin, start, .. } = *self;
        Self { mode, origin, start, entries: self.entries.share() }
    }

    /// Whether what is pushed to one is seen in the other.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.entries.same(&other.entries)
    }

    /// The index of the record that entries are numbered from, whether or not it is there.
    #[inline]
    pub(crate) fn origin(&self) -> u64 {
        self.origin
    }

    #[inline]
    pub(crate) fn mode(&self) -> IndexMode {
        self.mode
    }

    /// The extent of the `at`-th record from the origin on, header included, if this is a full index and that takes no
    /// more than a look. It must be below a count that was published after its entry and the next were stored; else
    /// this is `None` or meaningless, never unsound.
    #[inline]
    pub(crate) fn extent(&self, at: u64) -> Option<(u64, u64)> {
        self.entries.pair(at)
    }

    /// As [`extent`](Self::extent), of a record that a cut has removed since.
    pub(crate) fn kept_extent(&self, at: u64) -> Option<(u64, u64)> {
        if self.mode == IndexMode::Full { self.entries.kept_pair(at) } else { None }
    }

    /// The closest known place at or before record `n`: a record's index and the offset of its header.
    #[inline]
    pub(crate) fn nearest(&self, n: u64) -> (u64, u64) {
        let every = self.every();
        let at = n.saturating_sub(self.origin) / every;
        match self.entries.known(at) {
            Some((at, offset)) => (self.origin.saturating_add(at.saturating_mul(every)), offset),
            None => (self.origin, self.start),
        }
    }

    /// Before the writer, whose index is `writer`, overwrites the entries of records after `kept`: keeps them for an
    /// older view of the records up to `last`.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(crate) fn preserve(&self, writer: &Self, kept: u64, last: u64) -> io::Result<()> {
        if self.mode == IndexMode::Scan || kept >= last || !self.same(writer) {
            return Ok(());
        }
        let at = |n: u64| n.saturating_sub(self.origin.saturating_sub(1)) / self.every();
        self.entries.preserve(at(kept), at(last))
    }

    #[inline]
    fn every(&self) -> u64 {
        match self.mode {
            IndexMode::Full => 1,
            IndexMode::Sparse(every) => u64::from(every.max(1)),
            IndexMode::Scan => u64::MAX,
        }
    }
}

/// The writer's side of an [`Index`]: it alone stores entries.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    index: Index,
    /// How many records there is room for.
    room: u64,
    /// What the next distance is from.
    base: u64,
    /// Records in the index, staged ones included.
    len: u64,
    /// Where the last record ends.
    end: u64,
    /// The most records there were since memory was given back.
    peak: u64,
}

impl IndexWriter {
    /// An index without records. `origin` is the index that the first will have, `start` where it will begin. It takes
    /// no memory yet.
    pub(crate) fn new(mode: IndexMode, origin: u64, start: u64) -> Self {
        let room = if mode == IndexMode::Scan { u64::MAX } else { 0 };
        Self { index: Index::new(mode, origin, start), room, base: start, len: 0, end: start, peak: 0 }
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// The index of the last record; `origin - 1` without records.
    #[inline]
    pub(crate) fn last(&self) -> u64 {
        self.index.origin.saturating_sub(1).saturating_add(self.len)
    }

    /// Where the last record ends.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Memory of the entries in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        match self.index.mode {
            IndexMode::Scan => 0,
            _ => self.index.entries.bytes(self.len.max(self.peak) / self.index.every() + 1),
        }
    }

    /// Makes room for `more` records, so that they can be [pushed](Self::push).
    ///
    /// # Errors
    /// What the system says if it has no memory for them.
    #[inline]
    pub(crate) fn reserve(&mut self, more: u64) -> io::Result<()> {
        if more <= self.room.saturating_sub(self.len) { Ok(()) } else { self.make_room(more) }
    }

    #[cold]
    fn make_room(&mut self, more: u64) -> io::Result<()> {
        let every = self.index.every();
        let used = if self.room == 0 { 0 } else { self.len / every + 1 };
        let entries = (self.len.saturating_add(more) / every).saturating_add(1);
        self.index.entries.make_room(used, entries)?;
        if used == 0 {
            self.base = self.index.entries.set_base(0, self.index.start);
        }
        self.room = self.index.entries.room().saturating_mul(every).saturating_sub(1);
        Ok(())
    }

    /// Adds a record that begins where the last one ends, and ends at `end`. There must be [room](Self::reserve) for it.
    #[inline]
    pub(crate) fn push(&mut self, end: u64) {
        self.len += 1;
        self.end = end;
        match self.index.mode {
            IndexMode::Full => self.base = self.index.entries.set(self.len, end, self.base),
            IndexMode::Sparse(_) if self.len.is_multiple_of(self.index.every()) => {
                self.index.entries.set_base(self.len / self.index.every(), end);
            }
            IndexMode::Sparse(_) | IndexMode::Scan => {}
        }
    }

    /// Takes back records that no reader has seen: those after the record `last`, which ends at `end`.
    pub(crate) fn rewind(&mut self, last: u64, end: u64) {
        self.peak = self.peak.max(self.len);
        self.len = last.saturating_sub(self.index.origin.saturating_sub(1)).min(self.len);
        self.end = end;
        self.base = self.index.entries.base(self.len).unwrap_or(self.index.start);
    }

    /// The index of the records up to `last`, which ends at `end`, for the writer to go on with. Before it pushes any,
    /// older views that are held must have [preserved](Index::preserve) theirs. Until then this one can be gone on with
    /// as well.
    pub(crate) fn cut(&self, last: u64, end: u64) -> Self {
        let mut cut = Self { index: self.index.share(), ..*self };
        cut.rewind(last, end);
        cut
    }

    /// Gives back the memory of records that were cut.
    pub(crate) fn give_back(&mut self) {
        self.peak = 0;
        if self.room > 0 && self.index.mode != IndexMode::Scan {
            self.index.entries.give_back(self.len / self.index.every() + 1);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
