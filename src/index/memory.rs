//! The second unsafe room: the memory of an index. It is reserved as address space, becomes usable from its beginning
//! on, and never moves. No other file but `file/map.rs` contains `unsafe`; the models have `tests/loom/memory.rs` in
//! place of this one.
//!
//! The memory is anonymous and private: it takes no descriptor, no limit on the size of files binds it, and a forked
//! process that writes to it changes its own copy. Address space costs nothing by itself, and strict overcommit counts it
//! only from when it is usable. All of this works on macOS too, but for [`Memory::give_back`], which does nothing there.
//!
//! # Invariants
//!
//! Each `unsafe` block below names those it rests on.
//!
//! 1. **The range lives as long as anybody has it.** It is unmapped by the drop of the last [`Memory`] of it and by
//!    nothing else, and nothing is lent: numbers are copied in and out.
//! 2. **What is ready is usable.** Below `ready`, so is a distance, the one after it, and the base of their group; below
//!    `ready_bases`, a base. Both are raised after the system made that readable and writable, and never lowered.
//! 3. **Every distance and every base is an atomic at all times.** The range begins at a page, bases come first and fill
//!    whole pages, zeros are atomics, and pages that are given back are zeros again. So threads may load and store as
//!    they like; that what they load means something is the index's business.
//! 4. **The range is nobody else's.** The system chose it; what is made usable or given back lies within it.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering};

/// Distances that share a base. With 128 a random read took 2 % longer, with 4096 no less, and records further apart than
/// 4 GiB within a group, which are hopped to, would be found later.
pub(crate) const GROUP: u64 = 512;

/// Memory becomes usable in steps of so many bytes, a multiple of every page size there is.
const STEP: usize = 64 << 10;

/// A range of bases, and of distances, or none of these. Clones are of the same range.
#[derive(Debug)]
pub(crate) struct Memory {
    /// The places of the first of each: the owner's, for there is a load less on this way.
    distances: NonNull<AtomicU32>,
    bases: NonNull<AtomicU64>,
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    start: NonNull<c_void>,
    /// Bytes of bases, and of distances, which come after them.
    len: [usize; 2],
    /// How many of these bytes are usable. Only the writer looks.
    usable: [AtomicU64; 2],
    /// See the second invariant.
    ready: AtomicU64,
    ready_bases: AtomicU64,
}

// SAFETY: what the pointer leads to is atomics (3), and the range belongs to whoever holds the owner (1).
unsafe impl Send for Owner {}
// SAFETY: as above.
unsafe impl Sync for Owner {}
// SAFETY: as above.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Clone for Memory {
    fn clone(&self) -> Self {
        Self { owner: Arc::clone(&self.owner), ..*self }
    }
}

impl Memory {
    /// A range of nothing.
    pub(crate) fn none() -> Self {
        Self::at(NonNull::dangling(), [0; 2])
    }

    fn at(start: NonNull<c_void>, len: [usize; 2]) -> Self {
        let [zero, one, ready, ready_bases] = [0; 4].map(AtomicU64::new);
        // SAFETY: the first distance lies within the range, or at its end if there is none.
        let distances = unsafe { start.byte_add(len[0]) }.cast();
        let owner = Arc::new(Owner { start, len, usable: [zero, one], ready, ready_bases });
        Self { distances, bases: start.cast(), owner }
    }

    /// Reserves room for `distances` and `bases`, and some more. None is usable yet.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn reserve(distances: u64, bases: u64) -> io::Result<Self> {
        let len = lens(distances, bases)?;
        let bytes = len[0].checked_add(len[1]).filter(|&bytes| isize::try_from(bytes).is_ok());
        let bytes = bytes.ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new range at a place that the system chooses (4).
        let start = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::empty(), MapFlags::PRIVATE)?
        };
        let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self::at(start, len))
    }

    /// Whether the two are of the same range.
    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.owner, &other.owner)
    }

    /// How many distances can be loaded and stored, with a base for each group.
    #[inline]
    pub(crate) fn ready(&self) -> u64 {
        self.owner.ready.load(Ordering::Acquire)
    }

    /// How many bases can be loaded and stored.
    #[inline]
    pub(crate) fn ready_bases(&self) -> u64 {
        self.owner.ready_bases.load(Ordering::Acquire)
    }

    /// Whether so many of each can be made usable.
    pub(crate) fn reserves(&self, distances: u64, bases: u64) -> bool {
        lens(distances, bases)
            .is_ok_and(|[bases, distances]| bases <= self.owner.len[0] && distances <= self.owner.len[1])
    }

    /// Makes at least so many of each usable, and some more. Only the writer calls this.
    ///
    /// # Errors
    /// `OutOfMemory` if so many are not reserved, or what the system says. Then what was usable still is.
    pub(crate) fn make_ready(&self, distances: u64, bases: u64) -> io::Result<()> {
        let wanted = lens(distances, bases)?;
        for part in [0, 1] {
            self.use_up_to(part, wanted[part])?;
        }
        let usable = self.owner.usable.each_ref().map(|usable| usable.load(Ordering::Relaxed));
        let bases = usable[0] / size_of::<AtomicU64>() as u64;
        // The one after the last has to be usable as well.
        let distances = (usable[1] / size_of::<AtomicU32>() as u64).saturating_sub(1);
        self.owner.ready_bases.store(bases, Ordering::Release);
        self.owner.ready.store(distances.min(bases.saturating_mul(GROUP)), Ordering::Release);
        Ok(())
    }

    /// Makes the first `to` bytes of the bases (0) or distances (1) usable, a whole number of steps.
    fn use_up_to(&self, part: usize, to: usize) -> io::Result<()> {
        let from = self.owner.usable[part].load(Ordering::Relaxed) as usize;
        if to <= from {
            return Ok(());
        }
        if to > self.owner.len[part] {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let begin = if part == 0 { 0 } else { self.owner.len[0] };
        let flags = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the bytes lie within their part of the range (4), which is there (1), and are whole pages, since each
        // part is a whole number of steps, and so is what was usable before.
        unsafe { rustix::mm::mprotect(self.owner.start.as_ptr().byte_add(begin + from), to - from, flags)? };
        self.owner.usable[part].store(to as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The distances `at` and `at + 1`, and the base of the group of the first, if they are ready.
    #[inline]
    pub(crate) fn load(&self, at: u64, order: Ordering) -> Option<(u32, u32, u64)> {
        if at >= self.ready() {
            return None;
        }
        // SAFETY: below `ready` all three are usable (2), atomics (3), and `self` keeps the range (1).
        let (here, next, base) = unsafe {
            let here = self.distances.add(at as usize);
            (here.as_ref(), here.add(1).as_ref(), self.bases.add((at / GROUP) as usize).as_ref())
        };
        Some((here.load(order), next.load(order), base.load(order)))
    }

    /// The base of a group, if it is ready.
    #[inline]
    pub(crate) fn load_base(&self, group: u64, order: Ordering) -> Option<u64> {
        if group >= self.ready_bases() {
            return None;
        }
        // SAFETY: below `ready_bases` it is usable (2), an atomic (3), and `self` keeps the range (1).
        Some(unsafe { self.bases.add(group as usize).as_ref() }.load(order))
    }

    /// Stores the distance `at`, if it is ready.
    #[inline]
    pub(crate) fn store(&self, at: u64, distance: u32, order: Ordering) {
        if at < self.ready() {
            // SAFETY: below `ready` it is usable (2), an atomic (3), and `self` keeps the range (1).
            unsafe { self.distances.add(at as usize).as_ref() }.store(distance, order);
        }
    }

    /// Stores the base of a group, if it is ready.
    #[inline]
    pub(crate) fn store_base(&self, group: u64, base: u64, order: Ordering) {
        if group < self.ready_bases() {
            // SAFETY: below `ready_bases` it is usable (2), an atomic (3), and `self` keeps the range (1).
            unsafe { self.bases.add(group as usize).as_ref() }.store(base, order);
        }
    }

    /// Gives back the pages of which nothing is needed but the first so many distances and bases. They are zeros from
    /// now on, and as usable as before. Best effort, and on Linux only. Only the writer calls this.
    pub(crate) fn give_back(&self, distances: u64, bases: u64) {
        let bytes = |count: u64, size: usize| usize::try_from(count).ok()?.checked_mul(size);
        let keep = [bytes(bases, size_of::<AtomicU64>()), bytes(distances, size_of::<AtomicU32>())];
        let page = rustix::param::page_size();
        for (part, keep) in keep.into_iter().enumerate() {
            let usable = self.owner.usable[part].load(Ordering::Relaxed) as usize;
            let from = keep.and_then(|keep| keep.checked_next_multiple_of(page)).unwrap_or(usable);
            if from < usable {
                self.drop_pages(if part == 0 { 0 } else { self.owner.len[0] } + from, usable - from);
            }
        }
    }

    #[cfg(target_os = "linux")]
    fn drop_pages(&self, from: usize, len: usize) {
        // SAFETY: the pages lie within the usable part of the range (2, 4), and zeros are numbers like any other (3).
        let _ = unsafe {
            let at = self.owner.start.as_ptr().byte_add(from);
            rustix::mm::madvise(at, len, rustix::mm::Advice::LinuxDontNeed)
        };
    }

    #[cfg(not(target_os = "linux"))]
    fn drop_pages(&self, _: usize, _: usize) {}
}

impl Drop for Owner {
    fn drop(&mut self) {
        let bytes = self.len[0] + self.len[1];
        if bytes > 0 {
            // SAFETY: the range was mapped as a whole by `reserve`, and nobody has it any more (1).
            let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr(), bytes) };
            // What the system does not take back stays reserved.
            let _ = unmapped;
        }
    }
}

/// The bytes of so many bases, and of so many distances and one more, in whole steps.
fn lens(distances: u64, bases: u64) -> io::Result<[usize; 2]> {
    let distances = if distances == 0 { Some(0) } else { distances.checked_add(1) };
    let steps = |count: Option<u64>, size: usize| {
        usize::try_from(count?).ok()?.checked_mul(size)?.checked_next_multiple_of(STEP)
    };
    let lens = [steps(Some(bases), size_of::<AtomicU64>()), steps(distances, size_of::<AtomicU32>())];
    match lens {
        [Some(bases), Some(distances)] => Ok([bases, distances]),
        _ => Err(io::ErrorKind::OutOfMemory.into()),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const RELAXED: Ordering = Ordering::Relaxed;

    #[test]
    fn what_is_ready_is_usable_and_nothing_else_is_looked_at() {
        let memory = Memory::reserve(100_000, 1000).unwrap();
        assert_eq!((memory.ready(), memory.load(0, RELAXED), memory.load_base(0, RELAXED)), (0, None, None));
        memory.store(0, 1, RELAXED);
        memory.store_base(0, 1, RELAXED);
        for words in [1, 17_000, 100_000] {
            memory.make_ready(words, words / GROUP + 1).unwrap();
            let ready = memory.ready();
            assert!(ready >= words && ready < words + (STEP / 4) as u64, "{ready}");
            memory.store(ready - 1, 7, RELAXED);
            assert_eq!(memory.load(ready - 1, RELAXED), Some((7, 0, 0)));
            memory.store(ready, 9, RELAXED);
            assert_eq!(memory.load(ready, RELAXED), None);
            assert_eq!(memory.load(u64::MAX, RELAXED), None);
        }
        assert_eq!(memory.load(0, RELAXED), Some((0, 0, 0)), "it was not usable then");
        assert_eq!(
            memory.load(16_382, RELAXED),
            Some((7, 0, 0)),
            "what was stored stays when more is usable"
        );
        assert!(memory.make_ready(200_000, 0).is_err());
        assert!(memory.make_ready(0, 10_000).is_err());
        memory.store_base(memory.ready_bases() - 1, 3, RELAXED);
        assert_eq!(memory.load_base(memory.ready_bases() - 1, RELAXED), Some(3));
        assert_eq!(memory.load(0, RELAXED), Some((0, 0, 0)), "bases and distances do not overlap");
    }

    #[test]
    fn distances_are_ready_only_with_their_bases() {
        let memory = Memory::reserve(10_000_000, 100_000).unwrap();
        memory.make_ready(9_000_000, 1).unwrap();
        assert_eq!(memory.ready(), memory.ready_bases() * GROUP);
        let bases = Memory::reserve(0, 1000).unwrap();
        bases.make_ready(0, 1000).unwrap();
        assert_eq!((bases.ready(), bases.load(0, RELAXED)), (0, None));
        assert_eq!(bases.load_base(999, RELAXED), Some(0));
    }

    #[test]
    fn nothing_is_there_without_a_range() {
        let memory = Memory::none();
        memory.store(0, 1, RELAXED);
        memory.store_base(0, 1, RELAXED);
        memory.give_back(0, 0);
        assert_eq!((memory.load(0, RELAXED), memory.load_base(0, RELAXED)), (None, None));
        assert!(memory.make_ready(1, 0).is_err());
        assert!(memory.make_ready(0, 1).is_err());
        for (distances, bases) in [(u64::MAX, 1), (1, u64::MAX), (1 << 61, 1 << 59), (1 << 62, 0)] {
            assert!(Memory::reserve(distances, bases).is_err());
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_given_back_is_zero_and_usable() {
        let memory = Memory::reserve(100_000, 50_000).unwrap();
        memory.make_ready(50_000, 50_000).unwrap();
        (0..50_000).for_each(|at| memory.store(at, 7, RELAXED));
        (0..50_000).for_each(|group| memory.store_base(group, 9, RELAXED));
        let clone = memory.clone();
        memory.give_back(1000, 2000);
        let page = rustix::param::page_size() as u64;
        let (kept, kept_bases) = (1000u64.next_multiple_of(page / 4), 2000u64.next_multiple_of(page / 8));
        assert_eq!(clone.load(kept - 1, RELAXED), Some((7, 0, 9)));
        assert_eq!(clone.load(kept, RELAXED), Some((0, 0, 9)));
        assert_eq!(clone.load(49_999, RELAXED), Some((0, 0, 9)));
        assert_eq!(clone.load_base(kept_bases - 1, RELAXED), Some(9));
        assert_eq!(clone.load_base(kept_bases, RELAXED), Some(0));
        drop(memory);
        clone.store(kept, 5, RELAXED);
        assert_eq!(clone.load(kept, RELAXED), Some((5, 0, 9)));
    }
}
