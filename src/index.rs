//! The index: record to file offset. The writer appends to it while readers look things up without a lock.
//!
//! What makes that safe is not in here: a reader asks only for entries below a count that the writer published with
//! release after it had stored them, so entries are plain relaxed atomics, and an entry below a published count
//! never changes. Entries live in chunks that never move; growing adds a chunk. A cut makes a new index that
//! shares the full chunks below the cut, so an old view keeps what it had.

use std::array;

use crate::options::IndexMode;
use crate::sync::{Arc, AtomicU32, AtomicU64, OnceLock, Ordering};

/// Entries of a chunk. The models have small ones, so that a few records cross every boundary.
const CHUNK: usize = if cfg!(loom) { 3 } else { 4096 };

/// Chunks of the first shelf; each further shelf is twice as large. A shelf never moves.
const FIRST_SHELF: u64 = if cfg!(loom) { 1 } else { 64 };

/// Enough shelves for more chunks than a file of 2^63 bytes can have records.
const SHELVES: usize = if cfg!(loom) { 3 } else { 48 };

/// A narrow entry whose distance does not fit: the offset is in the chunk's wide half.
const WIDE: u32 = u32::MAX;

/// Offsets of up to [`CHUNK`] entries: u32 distances from a base, and wide entries for those further away.
#[derive(Debug)]
struct Chunk {
    base: u64,
    narrow: Box<[AtomicU32]>,
    wide: OnceLock<Box<[AtomicU64]>>,
}

impl Chunk {
    fn new(base: u64) -> Self {
        Self { base, narrow: (0..CHUNK).map(|_| AtomicU32::new(0)).collect(), wide: OnceLock::new() }
    }

    #[inline]
    fn get(&self, at: usize) -> Option<u64> {
        match self.narrow.get(at)?.load(Ordering::Relaxed) {
            WIDE => Some(self.wide.get()?.get(at)?.load(Ordering::Relaxed)),
            distance => self.base.checked_add(u64::from(distance)),
        }
    }

    #[inline]
    fn set(&self, at: usize, offset: u64) {
        let distance = u32::try_from(offset.wrapping_sub(self.base)).unwrap_or(WIDE);
        if distance == WIDE {
            let wide = self.wide.get_or_init(|| (0..CHUNK).map(|_| AtomicU64::new(0)).collect());
            if let Some(entry) = wide.get(at) {
                entry.store(offset, Ordering::Relaxed);
            }
        }
        if let Some(entry) = self.narrow.get(at) {
            entry.store(distance, Ordering::Relaxed);
        }
    }

    fn bytes(&self) -> u64 {
        let wide = if self.wide.get().is_some() { CHUNK * 8 } else { 0 };
        (size_of::<Self>() + CHUNK * 4 + wide) as u64
    }
}

/// A place for a chunk, empty until the index has grown that far.
type Slot = OnceLock<Arc<Chunk>>;

/// Which shelf a chunk stands on, and where there.
#[inline]
fn place(chunk: u64) -> (usize, usize) {
    let shelf = ((chunk / FIRST_SHELF + 1).ilog2()) as usize;
    let before = FIRST_SHELF * ((1 << shelf) - 1);
    (shelf, (chunk - before) as usize)
}

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
    shelves: [OnceLock<Box<[Slot]>>; SHELVES],
    chunks: AtomicU64,
}

impl Index {
    fn new(mode: IndexMode, first: u64, origin: u64) -> Self {
        Self { mode, first, origin, shelves: array::from_fn(|_| OnceLock::new()), chunks: AtomicU64::new(0) }
    }

    /// The index of the first record, whether or not there is one.
    #[inline]
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn mode(&self) -> IndexMode {
        self.mode
    }

    /// Memory of the entries in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let slots: usize = self.shelves.iter().filter_map(|s| s.get()).map(|s| s.len()).sum();
        let mut bytes = (size_of::<Self>() + slots * size_of::<Slot>()) as u64;
        for chunk in 0..self.chunks.load(Ordering::Relaxed) {
            bytes += self.slot(chunk).and_then(|slot| slot.get()).map_or(0, |chunk| chunk.bytes());
        }
        bytes
    }

    /// The extent of record `n`, header included, if this is a full index. `n` must be below a count that was
    /// published after its entry and the next were stored; else this is `None` or meaningless, never unsound.
    #[inline]
    pub(crate) fn extent(&self, n: u64) -> Option<(u64, u64)> {
        if self.mode != IndexMode::Full {
            return None;
        }
        let at = n.checked_sub(self.first)?;
        let chunk = self.slot(at / CHUNK as u64)?.get()?;
        let within = (at % CHUNK as u64) as usize;
        let start = chunk.get(within)?;
        let end = if within + 1 < CHUNK { chunk.get(within + 1)? } else { self.entry(at + 1)? };
        Some((start, end))
    }

    /// The closest known place at or before record `n`: a record's index and the offset of its header.
    #[inline]
    pub(crate) fn nearest(&self, n: u64) -> (u64, u64) {
        let every = self.every();
        let at = n.saturating_sub(self.first) / every;
        match self.entry(at) {
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

    #[inline]
    fn slot(&self, chunk: u64) -> Option<&Slot> {
        let (shelf, at) = place(chunk);
        self.shelves.get(shelf)?.get()?.get(at)
    }

    #[inline]
    fn entry(&self, at: u64) -> Option<u64> {
        self.slot(at / CHUNK as u64)?.get()?.get((at % CHUNK as u64) as usize)
    }

    /// The slot for `chunk`, with its shelf built. Only the writer calls this.
    fn build(&self, chunk: u64) -> Option<&Slot> {
        let (shelf, at) = place(chunk);
        let len = FIRST_SHELF << shelf;
        self.shelves.get(shelf)?.get_or_init(|| (0..len).map(|_| Slot::new()).collect()).get(at)
    }

    fn set(&self, at: u64, offset: u64) {
        let chunk = at / CHUNK as u64;
        let Some(slot) = self.build(chunk) else { return };
        let chunk = slot.get_or_init(|| {
            self.chunks.fetch_max(chunk + 1, Ordering::Relaxed);
            Arc::new(Chunk::new(offset))
        });
        chunk.set((at % CHUNK as u64) as usize, offset);
    }

    /// A new index with the first `entries` entries of this one. Full chunks are shared, the last is copied.
    fn cut(&self, entries: u64) -> Self {
        let new = Self::new(self.mode, self.first, self.origin);
        let whole = entries / CHUNK as u64;
        for at in 0..whole {
            if let (Some(from), Some(to)) = (self.slot(at).and_then(|slot| slot.get()), new.build(at)) {
                let _ = to.set(Arc::clone(from));
            }
        }
        new.chunks.store(whole, Ordering::Relaxed);
        for at in whole * CHUNK as u64..entries {
            if let Some(offset) = self.entry(at) {
                new.set(at, offset);
            }
        }
        new
    }
}

/// The writer's side of an [`Index`]: there is one, and it alone stores entries.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    index: Arc<Index>,
    /// Records in the index, staged ones included.
    len: u64,
    /// Where the last record ends.
    end: u64,
}

impl IndexWriter {
    /// An index without records. `first` is the index that the first will have, `origin` where it will begin.
    pub(crate) fn new(mode: IndexMode, first: u64, origin: u64) -> Self {
        let this = Self { index: Arc::new(Index::new(mode, first, origin)), len: 0, end: origin };
        this.note();
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
        self.note();
    }

    /// Takes back records that no reader has seen: those after the record `last`, which ends at `end`.
    pub(crate) fn rewind(&mut self, last: u64, end: u64) {
        self.len = last.saturating_sub(self.index.first.saturating_sub(1)).min(self.len);
        self.end = end;
        self.note();
    }

    /// Goes on with a new index that holds the records up to `last`, which ends at `end`; views keep the old one.
    pub(crate) fn cut(&mut self, last: u64, end: u64) {
        self.len = last.saturating_sub(self.index.first.saturating_sub(1)).min(self.len);
        self.end = end;
        // The entry behind the last record, its end in a full index, is a place that the next record takes too.
        let entries =
            if self.index.mode == IndexMode::Scan { 0 } else { self.len.div_ceil(self.index.every()) };
        self.index = Arc::new(self.index.cut(entries));
        self.note();
    }

    /// Goes on with another index, one that a cut replaced, or an empty one.
    pub(crate) fn restore(&mut self, index: Arc<Index>, last: u64, end: u64) {
        self.len = last.saturating_sub(index.first.saturating_sub(1));
        self.end = end;
        self.index = index;
    }

    /// Stores the place where the next record begins, if the mode wants an entry there.
    #[inline]
    fn note(&self) {
        match self.index.mode {
            IndexMode::Full => self.index.set(self.len, self.end),
            IndexMode::Sparse(every) if self.len.is_multiple_of(u64::from(every.max(1))) => {
                self.index.set(self.len / u64::from(every.max(1)), self.end);
            }
            IndexMode::Sparse(_) | IndexMode::Scan => {}
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn filled(mode: IndexMode, ends: impl IntoIterator<Item = u64>) -> IndexWriter {
        let mut writer = IndexWriter::new(mode, 1, 0);
        ends.into_iter().for_each(|end| writer.push(end));
        writer
    }

    #[test]
    fn a_full_index_knows_every_extent_across_chunks_and_shelves() {
        let records = CHUNK as u64 * (FIRST_SHELF + 3) + 17;
        let writer = filled(IndexMode::Full, (1..=records).map(|n| n * 20));
        for n in (1..=records).step_by(997).chain([1, 4096, 4097, records]) {
            assert_eq!(writer.index().extent(n), Some(((n - 1) * 20, n * 20)), "{n}");
            assert_eq!(writer.index().nearest(n), (n, (n - 1) * 20));
        }
        assert_eq!(writer.index().extent(0), None);
        assert_eq!((writer.last(), writer.end()), (records, records * 20));
    }

    #[test]
    fn a_sparse_index_knows_every_kth_place() {
        let writer = filled(IndexMode::Sparse(10), (1..=95).map(|n| n * 20));
        assert_eq!(writer.index().nearest(1), (1, 0));
        assert_eq!(writer.index().nearest(10), (1, 0));
        assert_eq!(writer.index().nearest(11), (11, 200));
        assert_eq!(writer.index().nearest(95), (91, 1800));
        assert_eq!(writer.index().extent(11), None);
    }

    #[test]
    fn scan_knows_only_the_beginning() {
        let writer = filled(IndexMode::Scan, (1..=95).map(|n| n * 20));
        assert_eq!(writer.index().nearest(95), (1, 0));
        assert_eq!(writer.index().chunks.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn entries_further_than_four_gib_from_their_chunk_go_wide() {
        let writer = filled(IndexMode::Full, (1..=20).map(|n| n << 30));
        for n in 1..=20 {
            assert_eq!(writer.index().extent(n), Some(((n - 1) << 30, n << 30)), "{n}");
        }
        let edge = filled(IndexMode::Full, [u64::from(u32::MAX) - 1, u64::from(u32::MAX), 1 << 32]);
        assert_eq!(edge.index().extent(2), Some((u64::from(u32::MAX) - 1, u64::from(u32::MAX))));
        assert_eq!(edge.index().extent(3), Some((u64::from(u32::MAX), 1 << 32)));
    }

    #[test]
    fn a_gap_moves_the_first_index_and_place() {
        let mut writer = IndexWriter::new(IndexMode::Full, 101, 5000);
        assert_eq!((writer.last(), writer.end()), (100, 5000));
        writer.push(5100);
        assert_eq!(writer.index().extent(101), Some((5000, 5100)));
        assert_eq!(writer.index().extent(100), None);
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
                assert_eq!(writer.index().extent(4), Some((60, 400)));
            }
            assert_eq!(writer.index().nearest(9).1 % 100, 0);
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
