//! The entries of an index: a list of file offsets that grows, in chunks that never move, so that readers look things
//! up without a lock while the one writer adds to it.
//!
//! What makes that safe is not in here: a reader asks only for entries below a count that the writer published with
//! release after it had stored them, so entries are plain relaxed atomics, and an entry below a published count
//! never changes.

use std::array;

use crate::sync::{Arc, AtomicU32, AtomicU64, OnceLock, Ordering};

/// Entries of a chunk. The models have small ones, so that a few records cross every boundary.
pub(crate) const CHUNK: usize = if cfg!(loom) { 3 } else { 4096 };

/// Chunks of the first shelf, a power of two; each further shelf is as large as all before it. A shelf never moves.
pub(crate) const FIRST_SHELF: usize = if cfg!(loom) { 1 } else { 1024 };

/// Enough further shelves for more chunks than a file of 2^63 bytes can have records.
const SHELVES: usize = if cfg!(loom) { 2 } else { 48 };

/// A narrow entry whose distance does not fit: the offset is in the chunk's wide half.
const WIDE: u32 = u32::MAX;

/// Offsets of [`CHUNK`] entries and, once more, of the one behind them, so that an entry and the next are always in
/// one chunk. They are u32 distances from a base, and wide entries for those further away.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The first entry. All others are larger, so wide ones have only wide ones behind them.
    base: AtomicU64,
    wide: OnceLock<Box<[AtomicU64]>>,
    narrow: [AtomicU32; CHUNK + 1],
}

impl Chunk {
    fn new() -> Self {
        let narrow = array::from_fn(|_| AtomicU32::new(0));
        Self { base: AtomicU64::new(0), wide: OnceLock::new(), narrow }
    }

    /// The offset of entry `at`.
    #[inline]
    fn get(&self, at: usize) -> Option<u64> {
        match self.narrow.get(at)?.load(Ordering::Relaxed) {
            WIDE => Some(self.wide.get()?.get(at)?.load(Ordering::Relaxed)),
            distance => Some(far(self.base.load(Ordering::Relaxed), distance)),
        }
    }

    /// The offsets of entry `at` and of the next, unless they are far from the first.
    #[inline]
    fn near_pair(&self, at: usize) -> Option<(u64, u64)> {
        let [start, end] = self.narrow.get(at..)?.first_chunk()?;
        let (start, end) = (start.load(Ordering::Relaxed), end.load(Ordering::Relaxed));
        if end == WIDE {
            return None;
        }
        let base = self.base.load(Ordering::Relaxed);
        Some((far(base, start), far(base, end)))
    }

    /// Stores the offset of entry `at`, the first before all others. Only the writer calls this.
    #[inline]
    pub(crate) fn set(&self, at: usize, offset: u64) {
        if at == 0 {
            // Nobody looks at a chunk yet whose first entry is new.
            self.base.store(offset, Ordering::Relaxed);
        }
        let distance = u32::try_from(offset.wrapping_sub(self.base.load(Ordering::Relaxed))).unwrap_or(WIDE);
        if distance == WIDE {
            self.set_wide(at, offset);
        }
        if let Some(entry) = self.narrow.get(at) {
            entry.store(distance, Ordering::Relaxed);
        }
    }

    #[cold]
    #[inline(never)]
    fn set_wide(&self, at: usize, offset: u64) {
        let wide = self.wide.get_or_init(|| (0..=CHUNK).map(|_| AtomicU64::new(0)).collect());
        if let Some(entry) = wide.get(at) {
            entry.store(offset, Ordering::Relaxed);
        }
    }

    fn bytes(&self) -> u64 {
        let wide = self.wide.get().map_or(0, |wide| size_of_val(&**wide));
        (size_of::<Self>() + wide) as u64
    }
}

#[inline]
fn far(base: u64, distance: u32) -> u64 {
    // The sum is an offset that was stored, if the entry was, so it does not wrap.
    base.wrapping_add(u64::from(distance))
}

/// A place for a chunk, empty until the list has grown that far.
type Slot = OnceLock<Arc<Chunk>>;

/// The list: shelves of slots of chunks.
#[derive(Debug)]
pub(crate) struct Chunks {
    first: [Slot; FIRST_SHELF],
    further: [OnceLock<Box<[Slot]>>; SHELVES],
    /// How many chunks there are.
    len: AtomicU64,
}

/// Which of the further shelves a chunk stands on, and where there.
#[inline]
fn place(chunk: usize) -> Option<(usize, usize)> {
    let size = chunk.checked_ilog2()?;
    Some((size.checked_sub(FIRST_SHELF.ilog2())? as usize, chunk - (1 << size)))
}

/// Where in its chunk an entry is.
#[inline]
pub(crate) fn within(at: u64) -> usize {
    (at % CHUNK as u64) as usize
}

/// Which chunk an entry is in, and where there.
#[inline]
fn split(at: u64) -> (usize, usize) {
    ((at / CHUNK as u64) as usize, within(at))
}

impl Chunks {
    pub(crate) fn new() -> Self {
        let first = array::from_fn(|_| Slot::new());
        Self { first, further: array::from_fn(|_| OnceLock::new()), len: AtomicU64::new(0) }
    }

    #[inline]
    fn chunk(&self, chunk: usize) -> Option<&Arc<Chunk>> {
        if let Some(slot) = self.first.get(chunk) {
            return slot.get();
        }
        let (shelf, at) = place(chunk)?;
        self.further.get(shelf)?.get()?.get(at)?.get()
    }

    /// The offset of entry `at`.
    #[inline]
    pub(crate) fn get(&self, at: u64) -> Option<u64> {
        let (chunk, within) = split(at);
        self.chunk(chunk)?.get(within)
    }

    /// The offsets of entry `at` and of the next.
    pub(crate) fn pair(&self, at: u64) -> Option<(u64, u64)> {
        let (chunk, within) = split(at);
        let chunk = self.chunk(chunk)?;
        chunk.near_pair(within).or_else(|| Some((chunk.get(within)?, chunk.get(within + 1)?)))
    }

    /// As [`pair`](Self::pair), if the entries are on the first shelf and not wide, as nearly all are: the least that a
    /// reader can do.
    #[inline]
    pub(crate) fn near_pair(&self, at: u64) -> Option<(u64, u64)> {
        let (chunk, within) = split(at);
        self.first.get(chunk)?.get()?.near_pair(within)
    }

    /// Stores the offset of entry `at`, and returns the chunk it is in. Only the writer calls this.
    pub(crate) fn set(&self, at: u64, offset: u64) -> Option<&Arc<Chunk>> {
        let (number, within) = split(at);
        if let (0, Some(before)) = (within, number.checked_sub(1)) {
            self.chunk(before)?.set(CHUNK, offset);
        }
        let chunk = self.chunk_at(number)?;
        chunk.set(within, offset);
        Some(chunk)
    }

    /// The chunk with this number, made if it is not there.
    fn chunk_at(&self, number: usize) -> Option<&Arc<Chunk>> {
        Some(self.build(number)?.get_or_init(|| {
            self.len.fetch_max(number as u64 + 1, Ordering::Relaxed);
            Arc::new(Chunk::new())
        }))
    }

    /// The slot for `chunk`, with its shelf built. Only the writer calls this.
    fn build(&self, chunk: usize) -> Option<&Slot> {
        if let Some(slot) = self.first.get(chunk) {
            return Some(slot);
        }
        let (shelf, at) = place(chunk)?;
        let len = FIRST_SHELF << shelf;
        self.further.get(shelf)?.get_or_init(|| (0..len).map(|_| Slot::new()).collect()).get(at)
    }

    /// A new list of the first `entries` of this one. Chunks of these alone are shared and never written to
    /// again; the last is copied.
    pub(crate) fn cut(&self, entries: u64) -> Self {
        let new = Self::new();
        let (shared, _) = split(entries.saturating_sub(1));
        for at in 0..shared {
            if let (Some(from), Some(to)) = (self.chunk(at), new.build(at)) {
                let _ = to.set(Arc::clone(from));
            }
        }
        new.len.store(shared as u64, Ordering::Relaxed);
        if let Some(from) = self.chunk(shared).filter(|_| entries > 0) {
            let to = new.chunk_at(shared);
            for at in 0..(entries - (shared * CHUNK) as u64) as usize {
                if let (Some(to), Some(offset)) = (to, from.get(at)) {
                    to.set(at, offset);
                }
            }
        }
        new
    }

    /// How many chunks there are.
    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    /// Memory in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let further = self.further.iter().filter_map(|shelf| shelf.get()).map(|shelf| size_of_val(&**shelf));
        let chunks = (0..self.len() as usize).filter_map(|at| self.chunk(at)).map(|chunk| chunk.bytes());
        (size_of::<Self>() + further.sum::<usize>()) as u64 + chunks.sum::<u64>()
    }
}
