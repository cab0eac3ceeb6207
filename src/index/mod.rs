//! The index: record to file offset. The writer appends to it while readers look things up without a lock. A cut
//! makes a new index, which shares most of its memory with the old one, so an old view keeps what it had.

pub(crate) mod entries;

use crate::index::entries::{Chunk, Chunks, within};
use crate::options::IndexMode;
use crate::sync::Arc;

/// Where records lie: entry `i` stands for the record with the index `first + i * every`.
///
/// In `Full` mode `every` is 1 and there is one entry more than there are records, the end of the last, so an
/// entry and its successor are a record's extent. In the other modes an entry is a place to hop from; without
/// entries (`Scan`) it is the beginning of the journal.
#[derive(Debug)]
pub(crate) struct Index {
    mode: IndexMode,
    first: u64,
    /// Where the first record begins.
    origin: u64,
    entries: Chunks,
}

impl Index {
    fn new(mode: IndexMode, first: u64, origin: u64) -> Self {
        Self { mode, first, origin, entries: Chunks::new() }
    }

    /// The index of the first record, whether or not there is one.
    #[inline]
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    #[inline]
    pub(crate) fn mode(&self) -> IndexMode {
        self.mode
    }

    /// Memory of the entries in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.bytes()
    }

    /// The extent of the `at`-th record from the first on, header included, if this is a full index. It must be below
    /// a count that was published after its entry and the next were stored; else this is `None` or meaningless,
    /// never unsound.
    pub(crate) fn extent(&self, at: u64) -> Option<(u64, u64)> {
        if self.mode != IndexMode::Full {
            return None;
        }
        self.entries.pair(at)
    }

    /// As [`extent`](Self::extent), but `None` where that takes more than a look.
    #[inline]
    pub(crate) fn near_extent(&self, at: u64) -> Option<(u64, u64)> {
        if self.mode != IndexMode::Full {
            return None;
        }
        self.entries.near_pair(at)
    }

    /// The closest known place at or before record `n`: a record's index and the offset of its header.
    #[inline]
    pub(crate) fn nearest(&self, n: u64) -> (u64, u64) {
        let every = self.every();
        let at = n.saturating_sub(self.first) / every;
        match self.entries.get(at) {
            Some(offset) if every != u64::MAX => {
                (self.first.saturating_add(at.saturating_mul(every)), offset)
            }
            _ => (self.first, self.origin),
        }
    }

    #[inline]
    fn every(&self) -> u64 {
        match self.mode {
            IndexMode::Full => 1,
            IndexMode::Sparse(every) => u64::from(every.max(1)),
            IndexMode::Scan => u64::MAX,
        }
    }

    /// The entry that stands for the end of `len` records, if the mode wants one there.
    #[inline]
    fn entry_behind(&self, len: u64) -> Option<u64> {
        match self.mode {
            IndexMode::Full => Some(len),
            IndexMode::Sparse(_) if len.is_multiple_of(self.every()) => Some(len / self.every()),
            IndexMode::Sparse(_) | IndexMode::Scan => None,
        }
    }

    /// A new index with the first `entries` entries of this one.
    fn cut(&self, entries: u64) -> Self {
        Self { mode: self.mode, first: self.first, origin: self.origin, entries: self.entries.cut(entries) }
    }
}

/// The writer's side of an [`Index`]: there is one, and it alone stores entries.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    index: Arc<Index>,
    /// The chunk that entries are being added to, which is never one that a cut shares.
    chunk: Option<Arc<Chunk>>,
    /// Records in the index, staged ones included.
    len: u64,
    /// Where the last record ends.
    end: u64,
}

impl IndexWriter {
    /// An index without records. `first` is the index that the first will have, `origin` where it will begin.
    pub(crate) fn new(mode: IndexMode, first: u64, origin: u64) -> Self {
        let index = Arc::new(Index::new(mode, first, origin));
        let mut this = Self { index, chunk: None, len: 0, end: origin };
        this.turn();
        this
    }

    pub(crate) fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// The index of the last record; `first - 1` without records.
    #[inline]
    pub(crate) fn last(&self) -> u64 {
        self.index.first.saturating_sub(1).saturating_add(self.len)
    }

    /// Where the last record ends.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Adds a record that begins where the last one ends, and ends at `end`.
    #[inline]
    pub(crate) fn push(&mut self, end: u64) {
        self.len += 1;
        self.end = end;
        let Some(at) = self.index.entry_behind(self.len) else { return };
        match (within(at), &self.chunk) {
            (1.., Some(chunk)) => chunk.set(within(at), end),
            _ => self.turn(),
        }
    }

    /// Takes back records that no reader has seen: those after the record `last`, which ends at `end`.
    pub(crate) fn rewind(&mut self, last: u64, end: u64) {
        self.len = last.saturating_sub(self.index.first.saturating_sub(1)).min(self.len);
        self.end = end;
        self.turn();
    }

    /// Goes on with a new index that holds the records up to `last`, which ends at `end`; views keep the old one.
    pub(crate) fn cut(&mut self, last: u64, end: u64) {
        self.len = last.saturating_sub(self.index.first.saturating_sub(1)).min(self.len);
        self.end = end;
        // The entry behind the last record, its end in a full index, is a place that the next record takes too.
        let entries =
            if self.index.mode == IndexMode::Scan { 0 } else { self.len.div_ceil(self.index.every()) };
        self.index = Arc::new(self.index.cut(entries));
        self.turn();
    }

    /// Goes on with another index, one that a cut replaced, or an empty one.
    pub(crate) fn restore(&mut self, index: Arc<Index>, last: u64, end: u64) {
        self.len = last.saturating_sub(index.first.saturating_sub(1));
        self.end = end;
        self.index = index;
        self.turn();
    }

    /// Stores the place where the next record begins, and goes on in the chunk that it is in.
    #[cold]
    fn turn(&mut self) {
        let at = self.index.entry_behind(self.len);
        self.chunk = at.and_then(|at| self.index.entries.set(at, self.end).cloned());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::index::entries::{CHUNK, FIRST_SHELF};

    fn filled(mode: IndexMode, ends: impl IntoIterator<Item = u64>) -> IndexWriter {
        let mut writer = IndexWriter::new(mode, 1, 0);
        ends.into_iter().for_each(|end| writer.push(end));
        writer
    }

    /// As [`Index::extent`], told by the index of the record.
    fn extent(writer: &IndexWriter, n: u64) -> Option<(u64, u64)> {
        let at = n.wrapping_sub(writer.index().first());
        let near = writer.index().near_extent(at);
        near.inspect(|near| assert_eq!(writer.index().extent(at), Some(*near))).or(writer.index().extent(at))
    }

    #[test]
    fn a_full_index_knows_every_extent_across_chunks_and_shelves() {
        let records = (CHUNK * (FIRST_SHELF + 3) + 17) as u64;
        let writer = filled(IndexMode::Full, (1..=records).map(|n| n * 20));
        for n in (1..=records).step_by(997).chain([1, 4096, 4097, records]) {
            assert_eq!(extent(&writer, n), Some(((n - 1) * 20, n * 20)), "{n}");
            assert_eq!(writer.index().nearest(n), (n, (n - 1) * 20));
        }
        assert_eq!(extent(&writer, 0), None);
        assert_eq!((writer.last(), writer.end()), (records, records * 20));
    }

    #[test]
    fn a_sparse_index_knows_every_kth_place() {
        let writer = filled(IndexMode::Sparse(10), (1..=95).map(|n| n * 20));
        assert_eq!(writer.index().nearest(1), (1, 0));
        assert_eq!(writer.index().nearest(10), (1, 0));
        assert_eq!(writer.index().nearest(11), (11, 200));
        assert_eq!(writer.index().nearest(95), (91, 1800));
        assert_eq!(extent(&writer, 11), None);
    }

    #[test]
    fn scan_knows_only_the_beginning() {
        let writer = filled(IndexMode::Scan, (1..=95).map(|n| n * 20));
        assert_eq!(writer.index().nearest(95), (1, 0));
        assert_eq!(writer.index().entries.len(), 0);
    }

    #[test]
    fn entries_further_than_four_gib_from_their_chunk_go_wide() {
        let writer = filled(IndexMode::Full, (1..=20).map(|n| n << 30));
        for n in 1..=20 {
            assert_eq!(extent(&writer, n), Some(((n - 1) << 30, n << 30)), "{n}");
        }
        let edge = filled(IndexMode::Full, [u64::from(u32::MAX) - 1, u64::from(u32::MAX), 1 << 32]);
        assert_eq!(extent(&edge, 2), Some((u64::from(u32::MAX) - 1, u64::from(u32::MAX))));
        assert_eq!(extent(&edge, 3), Some((u64::from(u32::MAX), 1 << 32)));
    }

    #[test]
    fn a_gap_moves_the_first_index_and_place() {
        let mut writer = IndexWriter::new(IndexMode::Full, 101, 5000);
        assert_eq!((writer.last(), writer.end()), (100, 5000));
        writer.push(5100);
        assert_eq!(extent(&writer, 101), Some((5000, 5100)));
        assert_eq!(extent(&writer, 100), None);
        assert_eq!(writer.last(), 101);
    }

    #[test]
    fn rewound_records_are_overwritten_by_the_next() {
        for mode in [IndexMode::Full, IndexMode::Sparse(1), IndexMode::Sparse(4)] {
            let mut writer = filled(mode, (1..=9).map(|n| n * 20));
            writer.rewind(3, 60);
            (4..=9).for_each(|n| writer.push(n * 100));
            assert_eq!(writer.last(), 9);
            if mode == IndexMode::Full {
                assert_eq!(extent(&writer, 4), Some((60, 400)));
            }
            assert_eq!(writer.index().nearest(9).1 % 100, 0);
        }
    }

    #[test]
    fn a_chunk_that_was_rewound_begins_anew_at_a_smaller_offset() {
        let last = CHUNK as u64 + 5;
        let mut writer = filled(IndexMode::Full, (1..=last).map(|n| n * 20));
        writer.rewind(CHUNK as u64 - 2, (CHUNK as u64 - 2) * 20);
        let end = |n: u64| (CHUNK as u64 - 2) * 20 + (n + 2 - CHUNK as u64) * 17;
        (CHUNK as u64 - 1..=last).for_each(|n| writer.push(end(n)));
        for n in CHUNK as u64 - 1..=last {
            assert_eq!(extent(&writer, n), Some((end(n - 1), end(n))), "{n}");
        }
    }

    #[test]
    fn a_cut_leaves_the_old_index_as_it_was() {
        for (mode, keep) in [
            (IndexMode::Full, 4100),
            (IndexMode::Full, 4096),
            (IndexMode::Sparse(2), 4100),
            (IndexMode::Sparse(2), 4101),
            (IndexMode::Scan, 4100),
        ] {
            let mut writer = filled(mode, (1..=10_000).map(|n| n * 20));
            let old = Arc::clone(writer.index());
            writer.cut(keep, keep * 20);
            (keep + 1..=9000).for_each(|n| writer.push(keep * 20 + (n - keep) * 7));
            for n in [1, 4095, 4096, 4097, 4100, 4101, 8192, 8193, 10_000] {
                let (at, offset) = old.nearest(n);
                assert_eq!(offset, (at - 1) * 20);
            }
            for n in [1, 4000, keep, keep + 1, keep + 2, keep + 3, 9000] {
                let (at, offset) = writer.index().nearest(n);
                let expected = (at - 1).min(keep) * 20 + (at - 1).saturating_sub(keep) * 7;
                assert_eq!(offset, expected, "{mode:?} cut at {keep}, record {n}");
                assert!(mode == IndexMode::Scan || n - at < 2);
            }
            assert_eq!(writer.last(), 9000);
        }
    }

    #[test]
    fn a_full_index_takes_about_four_bytes_a_record() {
        let records = 1_000_000;
        let writer = filled(IndexMode::Full, (1..=records).map(|n| n * 48));
        let per_record = writer.index().bytes() as f64 / records as f64;
        assert!(per_record < 4.1, "{per_record}");
    }
}
