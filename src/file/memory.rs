//! The second unsafe room: memory that is reserved as address space, becomes usable from its beginning on, and never
//! moves. The index keeps its entries there. Only `map.rs` and this file contain `unsafe`.
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
//!    nothing else, and nothing is lent: words are copied in and out.
//! 2. **Words below `ready`, and the one after them, are usable.** `ready` is raised after the system made them readable
//!    and writable, is never lowered, and stays below the number of words in the range.
//! 3. **Every word is an atomic of its size at all times.** The range begins at a page, zeros are a value of each
//!    [`Word`], and pages that are given back are zeros again. So threads may load and store as they like; that what they
//!    load means something is the index's business.
//! 4. **The range is nobody else's.** The system chose it; what is made usable or given back lies within it.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering};

/// Memory becomes usable in steps of so many bytes, a multiple of every page size there is.
const STEP: u64 = 64 << 10;

/// An atomic number.
///
/// # Safety
/// Bytes that are all zero are a value of it, it is aligned to its size, and it is `Send` and `Sync`.
pub(crate) unsafe trait Word {
    type Value;
    fn load(&self, order: Ordering) -> Self::Value;
    fn store(&self, value: Self::Value, order: Ordering);
}

// SAFETY: an atomic integer has the size and the values of its integer, and the alignment of its size.
unsafe impl Word for AtomicU32 {
    type Value = u32;

    #[inline]
    fn load(&self, order: Ordering) -> u32 {
        self.load(order)
    }

    #[inline]
    fn store(&self, value: u32, order: Ordering) {
        self.store(value, order);
    }
}

// SAFETY: as above.
unsafe impl Word for AtomicU64 {
    type Value = u64;

    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
}

/// A range of words. Clones are of the same range.
#[derive(Debug)]
pub(crate) struct Memory<W: Word> {
    /// The owner's, once more: one load less on the way to a word.
    start: NonNull<W>,
    owner: Arc<Owner<W>>,
}

#[derive(Debug)]
struct Owner<W> {
    start: NonNull<W>,
    /// How many words fit; none if nothing is reserved.
    len: u64,
    /// See the second invariant.
    ready: AtomicU64,
}

// SAFETY: what the pointer leads to is atomics (3), and the range belongs to whoever holds the owner (1).
unsafe impl<W: Word> Send for Owner<W> {}
// SAFETY: as above.
unsafe impl<W: Word> Sync for Owner<W> {}
// SAFETY: as above.
unsafe impl<W: Word> Send for Memory<W> {}
// SAFETY: as above.
unsafe impl<W: Word> Sync for Memory<W> {}

impl<W: Word> Clone for Memory<W> {
    fn clone(&self) -> Self {
        Self { start: self.start, owner: Arc::clone(&self.owner) }
    }
}

impl<W: Word> Memory<W> {
    /// A range without words.
    pub(crate) fn none() -> Self {
        let start = NonNull::dangling();
        Self { start, owner: Arc::new(Owner { start, len: 0, ready: AtomicU64::new(0) }) }
    }

    /// Reserves `words` and some more, none of which is usable yet.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn reserve(words: u64) -> io::Result<Self> {
        let bytes = bytes_of::<W>(words)?;
        // SAFETY: a new range at a place that the system chooses (4).
        let at = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::empty(), MapFlags::PRIVATE)?
        };
        let start = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let len = (bytes / size_of::<W>()) as u64;
        Ok(Self { start, owner: Arc::new(Owner { start, len, ready: AtomicU64::new(0) }) })
    }

    /// Whether the two are of the same range.
    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.owner, &other.owner)
    }

    /// How many words can be loaded and stored.
    #[inline]
    pub(crate) fn ready(&self) -> u64 {
        self.owner.ready.load(Ordering::Acquire)
    }

    /// How many words can be made usable.
    pub(crate) fn reserved(&self) -> u64 {
        self.owner.len.saturating_sub(1)
    }

    /// Makes at least the first `words` usable, and some more. Only the writer calls this.
    ///
    /// # Errors
    /// `OutOfMemory` if so many are not reserved, or what the system says. Then nothing has changed.
    pub(crate) fn make_ready(&self, words: u64) -> io::Result<()> {
        let ready = self.ready();
        if words <= ready {
            return Ok(());
        }
        let to = bytes_of::<W>(words)?.min(self.bytes());
        let now = ((to / size_of::<W>()) as u64).saturating_sub(1);
        if now < words {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let from = if ready == 0 { 0 } else { (ready as usize + 1) * size_of::<W>() };
        let flags = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: `from` and `to` are multiples of a page, since both the range and its usable part end with a step, and
        // lie within the range (4), which is there (1).
        unsafe { rustix::mm::mprotect(self.start.as_ptr().byte_add(from).cast::<c_void>(), to - from, flags)? };
        self.owner.ready.store(now, Ordering::Release);
        Ok(())
    }

    /// The word `at`, if it is usable.
    #[inline]
    pub(crate) fn load(&self, at: u64, order: Ordering) -> Option<W::Value> {
        // SAFETY: it is asked for below `ready` only.
        (at < self.ready()).then(|| unsafe { self.word(at).load(order) })
    }

    /// The word `at` and the next, if they are usable.
    #[inline]
    pub(crate) fn load_pair(&self, at: u64, order: Ordering) -> Option<(W::Value, W::Value)> {
        // SAFETY: below `ready`, and the one after that.
        (at < self.ready()).then(|| unsafe { (self.word(at).load(order), self.word(at + 1).load(order)) })
    }

    /// Stores the word `at`, if it is usable.
    #[inline]
    pub(crate) fn store(&self, at: u64, value: W::Value, order: Ordering) {
        if at < self.ready() {
            // SAFETY: it is below `ready`.
            unsafe { self.word(at) }.store(value, order);
        }
    }

    /// # Safety
    /// `at` is at most a value of `ready`, which is not 0.
    #[inline]
    unsafe fn word(&self, at: u64) -> &W {
        // SAFETY: the word is within the range and usable, as the caller says (2), it is an atomic (3), and `self` keeps
        // the range (1).
        unsafe { self.start.add(at as usize).as_ref() }
    }

    /// Gives the pages back that hold only words from `from` on. These are zeros from now on, and usable as before. Best
    /// effort; only on Linux. Only the writer calls this.
    pub(crate) fn give_back(&self, from: u64) {
        let page = rustix::param::page_size();
        let ready = self.ready();
        let end = if ready == 0 { 0 } else { (ready as usize + 1) * size_of::<W>() };
        let from = usize::try_from(from).ok().and_then(|from| from.checked_mul(size_of::<W>()));
        let from = from.and_then(|from| from.checked_next_multiple_of(page)).unwrap_or(end);
        if from < end {
            #[cfg(target_os = "linux")]
            // SAFETY: the pages lie within the usable part of the range (2, 4), and zeros are words like any other (3).
            let _ = unsafe {
                let at = self.start.as_ptr().byte_add(from).cast::<c_void>();
                rustix::mm::madvise(at, end - from, rustix::mm::Advice::LinuxDontNeed)
            };
        }
    }

    fn bytes(&self) -> usize {
        self.owner.len as usize * size_of::<W>()
    }
}

impl<W> Drop for Owner<W> {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the range was mapped as a whole by `reserve`, and nobody has it any more (1).
            let unmapped = unsafe {
                rustix::mm::munmap(self.start.as_ptr().cast(), self.len as usize * size_of::<W>())
            };
            // What the system does not take back stays reserved.
            let _ = unmapped;
        }
    }
}

/// The bytes that hold `words` and one more, in whole steps.
fn bytes_of<W>(words: u64) -> io::Result<usize> {
    let bytes = words.checked_add(1).and_then(|words| words.checked_mul(size_of::<W>() as u64));
    let bytes = bytes.and_then(|bytes| bytes.checked_next_multiple_of(STEP));
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    bytes.filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or(io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAXED: Ordering = Ordering::Relaxed;

    #[test]
    fn words_are_usable_as_far_as_they_are_ready() {
        let memory = Memory::<AtomicU32>::reserve(100_000).unwrap();
        assert_eq!((memory.ready(), memory.load(0, RELAXED), memory.load_pair(0, RELAXED)), (0, None, None));
        memory.store(0, 1, RELAXED);
        for words in [1, 17_000, 100_000] {
            memory.make_ready(words).unwrap();
            let ready = memory.ready();
            assert!(ready >= words && ready * 4 < words * 4 + STEP, "{ready}");
            memory.store(ready - 1, 7, RELAXED);
            assert_eq!(memory.load_pair(ready - 1, RELAXED), Some((7, 0)));
            memory.store(ready, 9, RELAXED);
            assert_eq!(memory.load(ready, RELAXED), None);
            assert_eq!(memory.load(u64::MAX, RELAXED), None);
        }
        assert_eq!(memory.load(0, RELAXED), Some(0), "it was not usable then");
        let all = memory.owner.len;
        assert!(memory.make_ready(all).is_err());
        memory.make_ready(all - 1).unwrap();
        assert_eq!(memory.ready(), all - 1);
        assert_eq!(memory.load(16_382, RELAXED), Some(7), "what was stored stays when more becomes usable");
    }

    #[test]
    fn nothing_is_there_without_a_range() {
        let memory = Memory::<AtomicU64>::none();
        memory.store(0, 1, RELAXED);
        memory.give_back(0);
        assert_eq!(memory.load(0, RELAXED), None);
        assert!(memory.make_ready(1).is_err());
        assert!(Memory::<AtomicU64>::reserve(u64::MAX / 8).is_err());
        assert!(Memory::<AtomicU64>::reserve(u64::MAX).is_err());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_given_back_is_zero_and_usable() {
        let memory = Memory::<AtomicU64>::reserve(100_000).unwrap();
        memory.make_ready(50_000).unwrap();
        (0..50_000).for_each(|at| memory.store(at, at, RELAXED));
        let clone = memory.clone();
        memory.give_back(1000);
        let page = rustix::param::page_size() as u64 / 8;
        let kept = 1000u64.next_multiple_of(page);
        assert_eq!(clone.load(kept - 1, RELAXED), Some(kept - 1));
        assert_eq!(clone.load(kept, RELAXED), Some(0));
        assert_eq!(clone.load(49_999, RELAXED), Some(0));
        drop(memory);
        clone.store(kept, 5, RELAXED);
        assert_eq!(clone.load(kept, RELAXED), Some(5));
    }
}
