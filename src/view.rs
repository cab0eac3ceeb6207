//! What is published is what is read: a map, an index and a count, in one object, so that a reader can never pair a
//! new index with an old map.

use crate::error::Error;
use crate::format::{HEADER_LEN, record_end};
use crate::generation::Generation;
use crate::index::Index;
use crate::map::Map;
use crate::options::IndexMode;
use crate::sync::{Arc, AtomicU64, CachePadded, Ordering};

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
pub(crate) struct Place {
    generation: u64,
    index: u64,
    offset: u64,
}

/// One state of the journal as readers see it.
#[derive(Debug)]
pub(crate) struct View {
    map: Arc<Map>,
    index: Arc<Index>,
    generation: Arc<Generation>,
    /// Set if the journal is poisoned: the view then ends at the durable point.
    failure: Option<Arc<Error>>,
    /// Index of the last committed record. It moves while the view is the current one and never again.
    committed: CachePadded<AtomicU64>,
}

impl View {
    /// A view of the records up to `last`, which ends at `end`.
    pub(crate) fn new(
        map: Arc<Map>,
        index: Arc<Index>,
        generation: Arc<Generation>,
        last: u64,
        end: u64,
    ) -> Self {
        map.raise(end);
        let committed = CachePadded::new(AtomicU64::new(last));
        Self { map, index, generation, failure: None, committed }
    }

    /// A view of a poisoned journal: the records up to `last`. The map's limit stays as it is.
    pub(crate) fn poisoned(
        map: Arc<Map>,
        index: Arc<Index>,
        generation: Arc<Generation>,
        last: u64,
        failure: Arc<Error>,
    ) -> Self {
        let committed = CachePadded::new(AtomicU64::new(last));
        Self { map, index, generation, failure: Some(failure), committed }
    }

    pub(crate) fn map(&self) -> &Arc<Map> {
        &self.map
    }

    pub(crate) fn index(&self) -> &Arc<Index> {
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
        self.index.first()
    }

    /// The index of the last committed record. Whoever has seen it can read every record up to it.
    #[inline]
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Lets readers see the records up to `last`, which ends at `end`. Only the writer calls this, when the index
    /// has their entries and the file their bytes.
    #[inline]
    pub(crate) fn commit(&self, last: u64, end: u64) {
        self.map.raise(end);
        self.committed.store(last, Ordering::Release);
    }

    /// Where record `n` lies, if it is among those up to `last`, a count that [`committed`](Self::committed) told.
    /// `place` is where the caller was last; it is moved behind the record.
    #[inline]
    pub(crate) fn locate(&self, n: u64, last: u64, place: &mut Option<Place>) -> Option<Extent> {
        if n < self.first() || n > last {
            return None;
        }
        if self.index.mode() == IndexMode::Full {
            let (start, end) = self.index.extent(n)?;
            return Some(Extent { start, end });
        }
        let extent = self.hop(n, *place)?;
        *place = Some(Place { generation: self.cuts(), index: n.checked_add(1)?, offset: extent.end });
        Some(extent)
    }

    /// Goes from the nearest known place to record `n`, from header to header.
    fn hop(&self, n: u64, place: Option<Place>) -> Option<Extent> {
        let (mut at, mut start) = self.index.nearest(n);
        if let Some(place) = place
            && place.generation == self.cuts()
            && (at..=n).contains(&place.index)
        {
            (at, start) = (place.index, place.offset);
        }
        loop {
            let end = record_end(start, self.map.stated(start)?.len)?;
            if at == n {
                return Some(Extent { start, end });
            }
            (at, start) = (at.checked_add(1)?, end);
        }
    }

    /// The payload at `extent`.
    #[inline]
    pub(crate) fn payload(&self, extent: Extent) -> Option<&[u8]> {
        self.map.payload(extent.start, extent.end)
    }

    /// Whether `payload` has the CRC that the header at `extent` states.
    pub(crate) fn verify(&self, extent: Extent, payload: &[u8]) -> bool {
        self.map.stated(extent.start).is_some_and(|stated| stated.crc == crc32fast::hash(payload))
    }
}
