//! What is published is what is read: a map, an index and a count, in one object, so that a reader can never pair a
//! new index with an old map.

pub(crate) mod generation;
pub(crate) mod publish;

use std::io;

use crate::error::Error;
use crate::file::map::Map;
use crate::format::{HEADER_LEN, record_end};
use crate::index::Index;
use crate::sync::{Arc, AtomicU64, CachePadded, Ordering};
use crate::view::generation::Generation;
use crate::view::publish::Published;

/// Where a record lies: its header begins at `start`, its payload ends at `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Extent {
    /// The payload's place in the file.
    pub(crate) fn payload(self) -> std::ops::Range<u64> {
        self.start.saturating_add(HEADER_LEN)..self.end
    }
}

/// A place that a reader remembers: in this generation record `index` begins at `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hint {
    generation: u64,
    index: u64,
    offset: u64,
}

/// The count of committed records of a view that begins so.
fn count(index: &Index, last: u64) -> CachePadded<AtomicU64> {
    CachePadded::new(AtomicU64::new(last.saturating_sub(before(index))))
}

/// The index before the one that records are counted from.
#[inline]
fn before(index: &Index) -> u64 {
    index.origin().saturating_sub(1)
}

/// One state of the journal as readers see it.
#[derive(Debug)]
pub(crate) struct View {
    map: Map,
    /// The view whose map this one shows, if none of its own could be had.
    former: Option<Arc<View>>,
    index: Index,
    /// The index of the first record, at or after the one that the index begins with.
    first: u64,
    generation: Arc<Generation>,
    /// Set if the journal is poisoned: the view then ends at the durable point.
    failure: Option<Arc<Error>>,
    /// How many records are committed, counted from the one that the index begins with; with [`RETIRED`] once the view was replaced. It moves while the view is the
    /// current one and never again.
    committed: CachePadded<AtomicU64>,
}

/// Added to the count of a view that was replaced, which makes it negative. No file has that many records.
const RETIRED: u64 = 1 << 63;

impl View {
    /// A view of the records up to `last`, which ends at `end`.
    pub(crate) fn new(map: Map, index: Index, generation: Arc<Generation>, last: u64, end: u64) -> Self {
        map.raise(end);
        let (committed, first) = (count(&index, last), index.origin());
        Self { map, former: None, index, first, generation, failure: None, committed }
    }

    /// A view of a poisoned journal: the records up to `last`, which its map shows, or that of a former view.
    pub(crate) fn poisoned(
        map: Result<Map, Arc<View>>,
        index: Index,
        generation: Arc<Generation>,
        last: u64,
        failure: Arc<Error>,
    ) -> Self {
        let (map, former) = match map {
            Ok(map) => (map, None),
            Err(former) => (former.map().blank(), Some(former)),
        };
        let (committed, first) = (count(&index, last), index.origin());
        Self { map, former, index, first, generation, failure: Some(failure), committed }
    }

    pub(crate) fn map(&self) -> &Map {
        self.former.as_ref().map_or(&self.map, |former| former.map())
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    pub(crate) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// The number of cuts since open.
    pub(crate) fn cuts(&self) -> u64 {
        self.generation.number()
    }

    pub(crate) fn failure(&self) -> Option<&Arc<Error>> {
        self.failure.as_ref()
    }

    /// The index of the first record, whether or not there is one.
    #[inline]
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The index of the last committed record. A reader that has seen it can read every record up to it.
    #[inline]
    pub(crate) fn committed(&self) -> u64 {
        let count = self.committed.load(Ordering::Acquire) & !RETIRED;
        before(&self.index).saturating_add(count)
    }

    /// Lets readers see the records up to `last`, which ends at `end`. Only the writer calls this, when the index
    /// has their entries and the file their bytes.
    #[inline]
    pub(crate) fn commit(&self, last: u64, end: u64) {
        self.map.raise(end);
        self.committed.store(last.saturating_sub(before(&self.index)), Ordering::Release);
    }

    /// Where record `n` lies, if that can be told at once: the view was not replaced, and a full index has it.
    #[inline]
    pub(crate) fn at_once(&self, n: u64) -> Option<Extent> {
        let at = n.wrapping_sub(self.index.origin());
        // A retired view's count is negative.
        if n < self.first || (at as i64) >= (self.committed.load(Ordering::Acquire) as i64) {
            return None;
        }
        let (start, end) = self.index.extent(at)?;
        Some(Extent { start, end })
    }

    /// Where record `n` lies, if it is among those up to `last`, a count that [`committed`](Self::committed) returned.
    /// `hint` is where the caller was last; where that helps, it is moved to the end of the record.
    #[inline]
    pub(crate) fn locate(&self, n: u64, last: u64, hint: &mut Option<Hint>) -> Option<Extent> {
        if n < self.first || n > last {
            return None;
        }
        match self.index.extent(n.wrapping_sub(self.index.origin())) {
            Some((start, end)) => Some(Extent { start, end }),
            None => {
                // A copy, since the caller's own could not stay in registers if its address were given away.
                let mut copy = *hint;
                let found = self.search(n, &mut copy);
                *hint = copy;
                found
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn search(&self, n: u64, hint: &mut Option<Hint>) -> Option<Extent> {
        match self.index.kept_extent(n.wrapping_sub(self.index.origin())) {
            Some((start, end)) => Some(Extent { start, end }),
            None => self.hop(n, hint),
        }
    }

    /// Goes from the nearest known place to record `n`, from header to header.
    fn hop(&self, n: u64, last: &mut Option<Hint>) -> Option<Extent> {
        let (mut at, mut start) = self.index.nearest(n);
        if let Some(hint) = *last
            && hint.generation == self.cuts()
            && (at..=n).contains(&hint.index)
        {
            (at, start) = (hint.index, hint.offset);
        }
        loop {
            let end = record_end(start, self.map().stated(start)?.len)?;
            let next = at.checked_add(1)?;
            if at == n {
                *last = Some(Hint { generation: self.cuts(), index: next, offset: end });
                return Some(Extent { start, end });
            }
            (at, start) = (next, end);
        }
    }

    /// Before the writer, whose index is `index`, goes on after record `last`: keeps what this older view has beyond. `pages`
    /// is what preserves its map.
    ///
    /// # Errors
    /// What kept it from that. Then this view shows what it did.
    pub(crate) fn preserve(
        &self,
        index: &Index,
        last: u64,
        pages: impl FnOnce(&Map) -> io::Result<()>,
    ) -> io::Result<()> {
        self.index.preserve(index, last, self.committed())?;
        pages(self.map())
    }

    /// The payload at `extent`.
    #[inline]
    pub(crate) fn payload(&self, extent: Extent) -> Option<&[u8]> {
        self.map.payload(extent.start, extent.end).or_else(|| self.formers_payload(extent))
    }

    #[cold]
    fn formers_payload(&self, extent: Extent) -> Option<&[u8]> {
        self.former.as_ref()?.payload(extent)
    }

    /// Whether `payload` has the CRC that the header at `extent` states.
    pub(crate) fn verify(&self, extent: Extent, payload: &[u8]) -> bool {
        self.map().stated(extent.start).is_some_and(|stated| stated.crc == crc32fast::hash(payload))
    }
}

impl Published for View {
    fn retire(&self) {
        self.committed.fetch_or(RETIRED, Ordering::Release);
    }

    #[inline]
    fn is_retired(&self) -> bool {
        self.committed.load(Ordering::Acquire) & RETIRED != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::file::JournalFile;
    use crate::file::seam::FileSeam;
    use crate::format::Header;
    use crate::index::IndexWriter;
    use crate::options::IndexMode;

    /// Payload bytes of a record, so that only the first in a group is near its base. The file is a hole but for headers.
    const LEN: u64 = 3 << 30;

    #[test]
    fn records_far_from_each_other_are_hopped_to() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = JournalFile::open(&dir.path().join("j"), true, FileSeam::default()).unwrap();
        let mut index = IndexWriter::new(IndexMode::Full, 1, 0);
        for _ in 0..5 {
            file.write_at(&Header::reference(LEN, 0).encode(), index.end()).unwrap();
            index.reserve(1).unwrap();
            let end = index.end() + HEADER_LEN + LEN;
            index.push(end);
        }
        let (end, file) = (index.end(), Arc::new(file));
        let map = || Map::new(&file, end).unwrap();
        let view = View::new(map(), index.index().share(), Generation::new(0), 5, end);
        // An older view after a cut, which keeps what it had.
        let older = View::new(map(), index.index().share(), Generation::new(0), 5, end);
        assert_found(&view, Some(1));
        let mut cut = index.cut(3, 3 * (HEADER_LEN + LEN));
        older.preserve(cut.index(), 3, |map| map.preserve(end, None)).unwrap();
        let end = cut.end() + HEADER_LEN;
        cut.push(end);
        // What it keeps begins with the group.
        assert_found(&older, None);
    }

    /// Each of five records; only `near` is told at once.
    fn assert_found(view: &View, near: Option<u64>) {
        for n in [5, 1, 4, 2, 3] {
            let start = (n - 1) * (HEADER_LEN + LEN);
            let extent = Extent { start, end: start + HEADER_LEN + LEN };
            assert_eq!(view.at_once(n), (near == Some(n)).then_some(extent), "{n}");
            assert_eq!(view.locate(n, 5, &mut None), Some(extent), "{n}");
            assert_eq!(view.payload(extent).unwrap().len() as u64, LEN);
        }
    }

    /// As if records had been removed in front.
    #[test]
    fn a_view_with_a_higher_first_index_shares_the_entries() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = JournalFile::open(&dir.path().join("j"), true, FileSeam::default()).unwrap();
        let file = Arc::new(file);
        let mut index = IndexWriter::new(IndexMode::Full, 11, 100);
        index.reserve(9).unwrap();
        (1..=9).for_each(|n| index.push(100 + n * 20));
        let map = || Map::new(&file, 280).unwrap();
        let mut view = View::new(map(), index.index().share(), Generation::new(0), 19, 280);
        view.first = 15;
        assert_eq!((view.first(), view.committed()), (15, 19));
        for n in [0, 10, 11, 14, 20, u64::MAX] {
            assert_eq!((view.at_once(n), view.locate(n, 19, &mut None)), (None, None), "{n}");
        }
        for n in 15..=19 {
            let extent = Some(Extent { start: 100 + (n - 11) * 20, end: 100 + (n - 10) * 20 });
            assert_eq!((view.at_once(n), view.locate(n, 19, &mut None)), (extent, extent), "{n}");
        }
    }
}
