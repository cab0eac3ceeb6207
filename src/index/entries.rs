//! The entries of an index: file offsets in one array that grows in place, so that readers look things up without a lock
//! while the one writer adds to it.
//!
//! What makes that safe is this. A reader asks for entries below a count that the writer published with release after it
//! had stored them, and as long as nothing is cut an entry below a published count never changes. A cut makes the writer
//! overwrite entries that an older view may show. Before that they are copied into each older view that is still held
//! ([`Entries::preserve`]), and the view's `kept` says from where on. Entries are stored with release and loaded with
//! acquire, so a reader that meets an entry of a later generation sees what `kept` says, which it looks at last.

use std::io;

pub(crate) use crate::index::memory::GROUP;
use crate::index::memory::Memory;
use crate::sync::{AtomicU64, OnceLock, Ordering};

/// How many entries are reserved: at first a few, then more than nearly every journal will have, so that an append
/// hardly ever waits for a copy, and never for one of more than the first. Address space only, no memory.
pub(crate) const WINDOWS: [u64; 3] = if cfg!(loom) { [3, 8, 8] } else { [1 << 17, 1 << 32, 1 << 40] };

/// In place of a distance that does not fit. No other is 0, since no record is shorter than its header; the first of a
/// group, which is 0 from its own base, is told by that of the group before.
const FAR: u32 = 0;

/// An offset that is not known, because it is far from its base.
const UNKNOWN: u64 = u64::MAX;

/// File offsets, numbered from 0. A full index has a base for each group of [`GROUP`], which is the first of them, and
/// for each entry its distance from the base of the entry before it, so that two neighbours have one base. Any other has
/// bases only, one for each entry: groups of one.
#[derive(Debug)]
pub(crate) struct Entries {
    memory: Memory,
    group: u64,
    kept: Kept,
}

impl Entries {
    /// No room for any entry.
    pub(crate) fn new(full: bool) -> Self {
        let group = if full { GROUP } else { 1 };
        Self { memory: Memory::none(), group, kept: Kept::new() }
    }

    /// The same entries for another view, which keeps none of its own.
    pub(crate) fn share(&self) -> Self {
        Self { memory: self.memory.clone(), group: self.group, kept: Kept::new() }
    }

    /// Whether what is stored in one is seen in the other.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.memory.same(&other.memory)
    }

    /// The offsets of entry `at` and of the next, if that takes no more than a look, as it nearly always does. Both must
    /// be below a count that was published after they were stored; else this is `None` or meaningless, never unsound.
    #[inline]
    pub(crate) fn pair(&self, at: u64) -> Option<(u64, u64)> {
        let (start, end, base) = self.memory.load(at, Ordering::Acquire)?;
        // The first of a group is its base, and its distance one from the base before.
        let start = if at.is_multiple_of(GROUP) { 0 } else { start };
        if end <= start || at >= self.kept.from.load(Ordering::Relaxed) {
            return None;
        }
        // The sums are offsets that were stored, if the entries were, so they do not wrap.
        Some((base.wrapping_add(u64::from(start)), base.wrapping_add(u64::from(end))))
    }

    /// The offsets of entry `at` and of the next, if they are of those that this view keeps.
    pub(crate) fn kept_pair(&self, at: u64) -> Option<(u64, u64)> {
        let piece = self.kept.piece(at)?;
        Some((piece.get(at)?, piece.get(at.checked_add(1)?)?))
    }

    /// The closest known entry at or before `at`, which must be as for [`pair`](Self::pair), and its offset.
    pub(crate) fn known(&self, at: u64) -> Option<(u64, u64)> {
        let stored = self.stored(at);
        // Looked at last: what was loaded may be of a later generation.
        match self.kept.piece(at) {
            Some(piece) => piece.known(at),
            None => stored,
        }
    }

    fn stored(&self, at: u64) -> Option<(u64, u64)> {
        let base = self.memory.load_base(at / self.group, Ordering::Acquire)?;
        let first = at - at % self.group;
        let near = (first + 1..=at).rev().find_map(|at| {
            let (distance, ..) = self.memory.load(at, Ordering::Acquire)?;
            (distance != FAR).then(|| (at, base.wrapping_add(u64::from(distance))))
        });
        near.or(Some((first, base)))
    }

    /// The offset that the distance of the entry after `at` is from.
    pub(crate) fn base(&self, at: u64) -> Option<u64> {
        self.memory.load_base(at / self.group, Ordering::Relaxed)
    }

    /// Stores the entry `at`, for which there is [room](Self::room), and returns the base of the next; `base` is its own.
    /// Only the writer calls this, as everything below.
    #[inline]
    pub(crate) fn set(&self, at: u64, offset: u64, base: u64) -> u64 {
        let distance = u32::try_from(offset.wrapping_sub(base)).unwrap_or(FAR);
        self.memory.store(at, distance, Ordering::Release);
        match at.is_multiple_of(GROUP) {
            true => self.set_base(at / GROUP, offset),
            false => base,
        }
    }

    /// Stores the first entry of a group.
    #[inline]
    pub(crate) fn set_base(&self, group: u64, offset: u64) -> u64 {
        self.memory.store_base(group, offset, Ordering::Release);
        offset
    }

    /// How many entries there is room for.
    pub(crate) fn room(&self) -> u64 {
        if self.group == 1 { self.memory.ready_bases() } else { self.memory.ready() }
    }

    /// How many distances and bases so many entries take.
    fn counts(&self, entries: u64) -> (u64, u64) {
        (if self.group == 1 { 0 } else { entries }, entries.div_ceil(self.group))
    }

    /// Makes room for `entries`, where these are or else in a larger window, to which it copies the first `used`: then
    /// they are not the same any more.
    ///
    /// # Errors
    /// What the system says if it has no memory for so many. Then nothing has changed.
    pub(crate) fn make_room(&mut self, used: u64, entries: u64) -> io::Result<()> {
        let (distances, bases) = self.counts(entries);
        if self.memory.reserves(distances, bases) {
            return self.memory.make_ready(distances, bases);
        }
        let window = WINDOWS.into_iter().find(|&window| window > entries).unwrap_or(entries);
        let mut more = window - entries;
        let memory = loop {
            let (distances, bases) = self.counts(entries.saturating_add(more));
            match Memory::reserve(distances, bases) {
                Ok(memory) => break memory,
                Err(error) if more == 0 => return Err(error),
                // Where there is a limit, others want address space as well.
                Err(_) => more = more.min(2 * entries) / 2,
            }
        };
        memory.make_ready(distances, bases)?;
        let (distances, bases) = self.counts(used);
        for at in 0..distances {
            let distance = self.memory.load(at, Ordering::Relaxed).map_or(FAR, |(distance, ..)| distance);
            memory.store(at, distance, Ordering::Release);
        }
        for at in 0..bases {
            memory.store_base(
                at,
                self.memory.load_base(at, Ordering::Relaxed).unwrap_or(0),
                Ordering::Release,
            );
        }
        self.memory = memory;
        Ok(())
    }

    /// Copies the entries from `from` to `to` into this view, which is an older one, before they are overwritten.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(crate) fn preserve(&self, from: u64, to: u64) -> io::Result<()> {
        // A group's first entry is always known.
        let from = from - from % self.group;
        let before = self.kept.from.load(Ordering::Relaxed);
        if from >= before {
            return Ok(());
        }
        let to = to.min(before);
        let mut offsets = Vec::new();
        offsets
            .try_reserve_exact((to - from) as usize + 1)
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        for at in from..=to {
            offsets.push(self.stored(at).filter(|known| known.0 == at).map_or(UNKNOWN, |known| known.1));
        }
        self.kept.add(Piece { from, offsets, next: OnceLock::new() });
        Ok(())
    }

    /// Gives back the memory of the entries from `entries` on, which stay usable.
    pub(crate) fn give_back(&self, entries: u64) {
        let (distances, bases) = self.counts(entries);
        self.memory.give_back(distances, bases);
    }

    /// Memory of so many entries in bytes: the pages that they are in.
    pub(crate) fn bytes(&self, entries: u64) -> u64 {
        let (distances, bases) = self.counts(entries.min(self.room()));
        let pages = |bytes: u64| bytes.next_multiple_of(4096);
        pages(distances * size_of::<u32>() as u64) + pages(bases * size_of::<u64>() as u64)
    }
}

/// The entries of an older view that the writer has overwritten since, or may.
#[derive(Debug)]
struct Kept {
    /// The first of them.
    from: AtomicU64,
    pieces: OnceLock<Box<Piece>>,
}

/// One for each cut, which goes to where the one before it begins.
#[derive(Debug)]
struct Piece {
    from: u64,
    offsets: Vec<u64>,
    next: OnceLock<Box<Piece>>,
}

impl Kept {
    fn new() -> Self {
        Self { from: AtomicU64::new(u64::MAX), pieces: OnceLock::new() }
    }

    fn add(&self, piece: Piece) {
        let from = piece.from;
        let mut place = &self.pieces;
        while let Some(piece) = place.get() {
            place = &piece.next;
        }
        // Only the writer sets one, so it is not set already.
        let _ = place.set(Box::new(piece));
        self.from.store(from, Ordering::Release);
    }

    /// The piece that entry `at` is in, if it is kept.
    fn piece(&self, at: u64) -> Option<&Piece> {
        if at < self.from.load(Ordering::Acquire) {
            return None;
        }
        let mut piece = self.pieces.get()?;
        while at < piece.from {
            piece = piece.next.get()?;
        }
        Some(piece)
    }
}

impl Piece {
    fn get(&self, at: u64) -> Option<u64> {
        let at = usize::try_from(at.checked_sub(self.from)?).ok()?;
        self.offsets.get(at).copied().filter(|&offset| offset != UNKNOWN)
    }

    fn known(&self, at: u64) -> Option<(u64, u64)> {
        (self.from..=at).rev().find_map(|at| Some((at, self.get(at)?)))
    }
}

/// One by one: a long chain would take more stack than a thread has.
impl Drop for Kept {
    fn drop(&mut self) {
        let mut next = self.pieces.take();
        while let Some(mut piece) = next {
            next = piece.next.take();
        }
    }
}
