//! The unsafe room of the file: owns its mapping, and with it the file and its lock; lends checked slices; keeps lent
//! pages when the file is cut; has a page by which a forked child is told. No other file of this crate but
//! `index/memory.rs` contains `unsafe`.
//!
//! # Invariants
//!
//! Each `unsafe` block below names those it rests on.
//!
//! 1. **The mapping lives as long as its [`Map`].** It begins at `at`, is unmapped by the drop of `raw` and by nothing
//!    else, and every slice borrows from the `Map`.
//! 2. **Nothing at or beyond `limit` is lent**, and `limit` is at most the mapping's length. `limit` only grows, by
//!    the one writer, after the bytes below it were accepted by the file.
//! 3. **Bytes below `limit` that are lent never change.** The writer appends at or beyond `limit`, and writes zeros
//!    ahead at the file's end, which is never below it. What it writes in place, a seal or the header of the record
//!    in front, is read only as plain bytes copied out, or lies in pages that were preserved first; a slice is only
//!    ever made of a payload.
//! 4. **Pages below `limit` stay backed.** The file is cut below `limit` only after [`Map::preserve`] has put a copy
//!    of the pages beyond the cut, the one that the cut goes through included, into every map that someone still
//!    holds; a map that nobody holds lends nothing. What was replaced is not the file's any more, so a later cut leaves
//!    it alone.
//! 5. **Replacing pages keeps address and content.** The copy is complete before the one call that puts it in place
//!    of the same range, and the range lies within the mapping, so no foreign mapping is touched. A copy may be begun
//!    before the append lock is taken, by the holder of the sync slot: below the `limit` that it saw first no byte of the
//!    file changes while the slot is held (3, and only its holder cuts or rewrites). What was committed from there on is
//!    copied under the append lock, which keeps `limit` where it is until the copy is in place.
//! 6. **The file is this process's.** The lock keeps cooperating programs out; a program that ignores it and
//!    shrinks or changes the file, or a sector that cannot be read, is outside of what a memory map can promise
//!    (SIGBUS), and the crate's documentation says so.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{MapFlags, ProtFlags};

use crate::error::Result;
use crate::file::{JournalFile, check_size_limit, read_full_at};
use crate::format::HEADER_LEN;
use crate::seam::{Op, Role};
use crate::sync::{Arc, AtomicU64, Ordering};

/// The first window; each further one doubles. Address space only, no memory.
const FIRST_WINDOW: u64 = 16 << 20;

/// Pieces in which pages are copied.
const PIECE: usize = 1 << 20;

/// What a header says of its record, without the seal, which may change in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

/// A copy of what a map shows from some page on, in memory of its own.
#[derive(Debug)]
pub(crate) struct Copy {
    /// The number of the map that it is for.
    of: u64,
    memory: File,
    /// Where in the file it begins and ends, at the boundaries of pages.
    from: u64,
    to: u64,
    /// From its beginning to here it is what the file holds for good.
    done: u64,
}

/// A read-only window onto the file, larger than the file.
#[derive(Debug)]
pub(crate) struct Map {
    /// No other map of this process has had the same: what a map was can be told when it is gone, unlike by its address.
    number: u64,
    /// Where the mapping begins: a load less than to ask `raw`.
    at: NonNull<u8>,
    /// There is none in a map of nothing.
    raw: Option<MmapRaw>,
    /// Bytes that are committed, and may be lent.
    limit: AtomicU64,
    /// Below this offset the pages are the file's; from there on they are a preserved copy.
    backed: AtomicU64,
    /// Keeps the lock for as long as anything can be borrowed.
    file: Arc<JournalFile>,
}

// SAFETY: `at` leads to what `raw` owns, which is `Send` and `Sync`, for as long as that is there (1).
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the file from its beginning, with room for at least `need` bytes, and ahead of it if possible.
    ///
    /// # Errors
    /// `Io` if not even `need` bytes can be mapped.
    pub(crate) fn new(file: &Arc<JournalFile>, need: u64) -> Result<Self> {
        let window = need.checked_next_power_of_two().unwrap_or(need).max(FIRST_WINDOW);
        let raw = map_raw(file, window).or_else(|_| map_raw(file, round_up(need.max(1), page_len())));
        let raw = raw.map_err(|e| file.error("map", e))?;
        let at = NonNull::new(raw.as_mut_ptr());
        let at = at.ok_or_else(|| file.error("map", io::ErrorKind::OutOfMemory.into()))?;
        Ok(Self { raw: Some(raw), ..Self::nothing(at, file) })
    }

    /// A map of the same file that shows nothing of it. It cannot fail.
    pub(crate) fn blank(&self) -> Self {
        Self::nothing(NonNull::dangling(), &self.file)
    }

    fn nothing(at: NonNull<u8>, file: &Arc<JournalFile>) -> Self {
        static MAPS: AtomicU64 = AtomicU64::new(0);
        let number = MAPS.fetch_add(1, Ordering::Relaxed);
        let (limit, backed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
        Self { number, at, raw: None, limit, backed, file: Arc::clone(file) }
    }

    /// How many bytes of the file this window can show.
    pub(crate) fn len(&self) -> u64 {
        self.raw.as_ref().map_or(0, |raw| raw.len() as u64)
    }

    pub(crate) fn file(&self) -> &JournalFile {
        &self.file
    }

    /// Bytes that are committed in this map.
    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Acquire)
    }

    /// Allows bytes below `to` to be lent. Only the writer calls this, once the file has accepted them.
    #[inline]
    pub(crate) fn raise(&self, to: u64) {
        self.limit.store(to.min(self.len()), Ordering::Release);
    }

    /// The payload of the record whose header begins at `start` and which ends at `end`, if it is committed.
    #[inline]
    pub(crate) fn payload(&self, start: u64, end: u64) -> Option<&[u8]> {
        let len = end.checked_sub(start)?.checked_sub(HEADER_LEN)?;
        if end > self.limit.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: `start + HEADER_LEN <= end <= limit <= len` of the mapping (2), which outlives the borrow of `self`
        // (1). The range is a payload's, so its bytes never change (3, 6) and its pages never go (4, 5). It is at most
        // isize::MAX long since the mapping is.
        Some(unsafe {
            let from = self.at.add((start + HEADER_LEN) as usize);
            NonNull::slice_from_raw_parts(from, len as usize).as_ref()
        })
    }

    /// What the header at `offset` says, if it is committed.
    #[inline]
    pub(crate) fn stated(&self, offset: u64) -> Option<Stated> {
        if offset.checked_add(HEADER_LEN)? > self.limit.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: the twelve bytes lie below `limit`, within the mapping (2), which lives as long as `self` (1)
        // and is backed there (4). They are copied out, not borrowed, and the seal behind them, which may change in
        // place, is not among them (3). An array of bytes has no alignment.
        let bytes: [u8; 12] = unsafe { self.at.add(offset as usize).cast::<[u8; 12]>().read() };
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        Some(Stated {
            len: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            crc: u32::from_le_bytes([i, j, k, l]),
        })
    }

    /// How many bytes [`preserve`](Self::preserve) would copy for a cut at `cut`.
    pub(crate) fn beyond(&self, cut: u64) -> u64 {
        let (from, to) = self.pages_beyond(cut, self.limit());
        to.saturating_sub(from)
    }

    /// The pages of the file that a map shows beyond `cut`, of which it has lent the bytes up to `lent`.
    fn pages_beyond(&self, cut: u64, lent: u64) -> (u64, u64) {
        let page = page_len();
        // The page that the cut goes through loses its rest, so it counts if anything is lent beyond the cut.
        let end = if lent > cut { round_up(lent, page).min(self.backed.load(Ordering::Acquire)) } else { 0 };
        (cut - cut % page, end)
    }

    /// Whether `copy` is of this map.
    pub(crate) fn has_copy(&self, copy: &Copy) -> bool {
        copy.of == self.number
    }

    /// Before the file is cut at `cut`, or its bytes from there on are overwritten: puts a copy of what this map
    /// shows from there on in place of the file's pages, at the same address. Only the writer calls this, with
    /// all locks held. `ahead` is a [copy](Self::copy) of this map for the same cut that was made since the slot was taken.
    ///
    /// # Errors
    /// What kept the copy from being made. Then nothing has changed.
    pub(crate) fn preserve(&self, cut: u64, ahead: Option<Copy>) -> io::Result<()> {
        let lent = self.limit();
        let (from, to) = self.pages_beyond(cut, lent);
        if from >= to {
            return Ok(());
        }
        let copy = match ahead.filter(|copy| self.has_copy(copy) && copy.from == from && copy.to <= to) {
            Some(copy) if copy.done == lent => copy,
            begun => self.complete(begun, from, to, lent)?,
        };
        // SAFETY: `from` and `to` are page-aligned and within the mapping, since `to` is at most `limit` rounded up
        // to a page (2), and the mapping's length is a multiple of a page or its last page is all its own. The copy
        // holds the same bytes at the same places, and from `limit` to the end of its last page zeros (5): a page that
        // the copy's end lies in is backed as a whole.
        let put = unsafe { self.replace(&copy.memory, 0, from, to) };
        if let Err(error) = put {
            // The call may have unmapped the range before it failed, and readers may be about to touch it.
            // SAFETY: as above; the file still holds these bytes, since it is cut only after this returns (4).
            let back = unsafe { self.replace(self.file.as_file(), from, from, to) };
            if back.is_err() {
                // There is no way left to keep the promise that borrowed bytes never fault.
                std::process::abort();
            }
            return Err(error);
        }
        self.backed.store(from, Ordering::Release);
        Ok(())
    }

    /// Copies what this map shows beyond `cut`, to be [put in place](Self::preserve) before the next cut. Its caller holds
    /// the sync slot until then, and no other lock is needed.
    ///
    /// # Errors
    /// What kept the copy from being made.
    pub(crate) fn copy(&self, cut: u64) -> io::Result<Option<Copy>> {
        let lent = self.limit();
        let (from, to) = self.pages_beyond(cut, lent);
        if from >= to { Ok(None) } else { self.complete(None, from, to, lent).map(Some) }
    }

    /// A copy of the pages from `from` to `to`, whose bytes below `lent` are committed. It goes on where `begun` ends.
    fn complete(&self, begun: Option<Copy>, from: u64, to: u64, lent: u64) -> io::Result<Copy> {
        let done = begun.as_ref().map_or(from, |copy| copy.done);
        // Nothing beyond the limit is lent, so the rest of the last page may be zeros. The memory is a file to the
        // system, and with that rest could be longer than it lets a file be, though the journal is not.
        let end = to.min(lent);
        let complete = || {
            check_size_limit(end - from)?;
            let memory = match begun {
                Some(Copy { memory, to: until, .. }) => {
                    commit_memory(&memory, until.min(done) - from, end - from)?;
                    memory
                }
                None => committed_memory(end - from)?,
            };
            self.copy_bytes(&memory, from, done..end)?;
            Ok(Copy { of: self.number, memory, from, to, done: lent })
        };
        let op = Op::Preserve { bytes: to.saturating_sub(done) };
        self.file.seam().ask(Role::Journal, &op, complete)
    }

    /// Copies `bytes` of the file into `memory`, which begins at `from`. They are read from the descriptor, which shows
    /// the same pages as the map, so that an unreadable sector is an error and not a signal.
    fn copy_bytes(&self, memory: &File, from: u64, bytes: std::ops::Range<u64>) -> io::Result<()> {
        let mut at = bytes.start;
        let mut buf = vec![0; PIECE.min(bytes.end.saturating_sub(at) as usize)];
        while at < bytes.end {
            let want = buf.len().min((bytes.end - at) as usize);
            let read = read_full_at(self.file.as_file(), &mut buf[..want], at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            memory.write_all_at(&buf[..read], at - from)?;
            at += read as u64;
        }
        Ok(())
    }

    /// Maps `source` from `offset` on over this map's pages `from..to`.
    ///
    /// # Safety
    /// The range is page-aligned and within the mapping, and `source` shows the same bytes there.
    unsafe fn replace(&self, source: &File, offset: u64, from: u64, to: u64) -> io::Result<()> {
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: the caller vouches for the range, so MAP_FIXED replaces pages of this mapping only (5), at the
        // same address and with the same bytes; the mapping's owner still unmaps the range as a whole (1).
        unsafe {
            let at = self.at.as_ptr().add(from as usize).cast::<c_void>();
            rustix::mm::mmap(at, (to - from) as usize, ProtFlags::READ, flags, source, offset)?;
        }
        Ok(())
    }
}

fn map_raw(file: &JournalFile, len: u64) -> io::Result<MmapRaw> {
    let fits = usize::try_from(len).ok().filter(|&len| isize::try_from(len).is_ok());
    let len = fits.ok_or(io::ErrorKind::FileTooLarge)?;
    let map = || MmapOptions::new().len(len).map_raw_read_only(file.as_file());
    file.seam().ask(Role::Journal, &Op::Map { len: len as u64 }, map)
}

fn page_len() -> u64 {
    rustix::param::page_size() as u64
}

fn round_up(n: u64, to: u64) -> u64 {
    n.checked_next_multiple_of(to).unwrap_or(n)
}

/// A file in memory of `len` zero bytes, all of it committed, so that no later touch can fail.
#[cfg(target_os = "linux")]
fn committed_memory(len: u64) -> io::Result<File> {
    let memory = rustix::fs::memfd_create("wally-preserved", rustix::fs::MemfdFlags::CLOEXEC)?.into();
    commit_memory(&memory, 0, len)?;
    Ok(memory)
}

/// Makes `memory`, of which `from` bytes are committed, `to` bytes long, all of them committed.
#[cfg(target_os = "linux")]
fn commit_memory(memory: &File, from: u64, to: u64) -> io::Result<()> {
    if from < to {
        rustix::fs::fallocate(memory, rustix::fs::FallocateFlags::empty(), from, to - from)?;
    }
    Ok(())
}

/// The same where there is no memfd: it is written through, so that no page of it lacks a block.
#[cfg(not(target_os = "linux"))]
fn commit_memory(memory: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; PIECE];
    let mut at = from;
    while at < to {
        let n = (to - at).min(PIECE as u64);
        memory.write_all_at(&zeros[..n as usize], at)?;
        at += n;
    }
    Ok(())
}

/// Where there is no memfd: an unlinked file in the temporary directory.
#[cfg(not(target_os = "linux"))]
fn committed_memory(len: u64) -> io::Result<File> {
    use std::time::{SystemTime, UNIX_EPOCH};
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    for attempt in 0..64 {
        let name = format!("wally-preserved-{}-{now}-{attempt}", std::process::id());
        let path = std::env::temp_dir().join(name);
        match File::options().read(true).write(true).create_new(true).open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                commit_memory(&file, 0, len)?;
                return Ok(file);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// A place that holds 0 now, and in every process that is forked from this one; nothing if the system has none.
#[cfg(target_os = "linux")]
pub(crate) fn zero_in_children() -> Option<&'static AtomicU64> {
    use rustix::mm::{Advice, madvise, mmap_anonymous};
    let (len, access) = (page_len() as usize, ProtFlags::READ | ProtFlags::WRITE);
    // SAFETY: without MAP_FIXED the system puts it where there is nothing, so no other mapping is touched.
    let page = unsafe { mmap_anonymous(std::ptr::null_mut(), len, access, MapFlags::PRIVATE) }.ok()?;
    // SAFETY: the page is this function's own, and the advice changes what a child finds there, not what is here.
    let advised = unsafe { madvise(page, len, Advice::LinuxWipeOnFork) };
    if advised.is_err() {
        // SAFETY: as mapped above, and nothing refers to it.
        let _ = unsafe { rustix::mm::munmap(page, len) };
        return None;
    }
    // SAFETY: a page is aligned for an atomic and longer than one, its zeros are a valid one, here and in a child, and
    // it is never unmapped from here on nor used for anything else.
    Some(unsafe { AtomicU64::from_ptr(page.cast()) })
}

/// A place that holds 0 now, and in every process that is forked from this one; nothing if the system has none.
#[cfg(not(target_os = "linux"))]
pub(crate) fn zero_in_children() -> Option<&'static AtomicU64> {
    None
}

/// How many more mappings the system allows this process, where it tells.
#[cfg(target_os = "linux")]
pub(crate) fn maps_left() -> Option<usize> {
    let max: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()?;
    let now = std::fs::read("/proc/self/maps").ok()?.iter().filter(|&&b| b == b'\n').count();
    Some(max.saturating_sub(now))
}

/// How many more mappings the system allows this process, where it tells.
#[cfg(not(target_os = "linux"))]
pub(crate) fn maps_left() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::seam::FileSeam;

    fn mapped(bytes: &[u8]) -> (tempfile::TempDir, Arc<JournalFile>, Map) {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = JournalFile::open(&dir.path().join("j"), true, FileSeam::default()).unwrap();
        file.write_at(bytes, 0).unwrap();
        let file = Arc::new(file);
        let map = Map::new(&file, bytes.len() as u64).unwrap();
        (dir, file, map)
    }

    #[test]
    fn nothing_beyond_the_limit_is_lent() {
        let (_dir, _file, map) = mapped(&[7; 100]);
        assert_eq!(map.payload(0, 20), None);
        assert_eq!(map.stated(0), None);
        map.raise(40);
        assert_eq!(map.payload(0, 40), Some(&[7; 24][..]));
        assert_eq!(map.payload(0, 41), None);
        assert_eq!(map.payload(30, 40), None);
        assert_eq!(map.payload(u64::MAX, 40), None);
        assert_eq!(map.stated(24), Some(Stated { len: 0x0707_0707_0707_0707, crc: 0x0707_0707 }));
        assert_eq!(map.stated(25), None);
        assert_eq!(map.stated(u64::MAX), None);
        map.raise(u64::MAX);
        assert_eq!(map.limit(), map.len());
        let blank = map.blank();
        blank.raise(40);
        assert_eq!((blank.payload(0, 40), blank.stated(0), blank.beyond(0)), (None, None, 0));
    }

    #[test]
    fn preserved_pages_keep_their_bytes_when_the_file_is_cut_and_overwritten() {
        let page = page_len() as usize;
        let old: Vec<u8> = (0..page * 3 + 100).map(|i| (i % 251) as u8).collect();
        let (_dir, file, map) = mapped(&old);
        map.raise(old.len() as u64);
        let lent = map.payload(0, old.len() as u64).unwrap();
        for cut in [2 * page + 5, page + 1, 10] {
            map.preserve(cut as u64, None).unwrap();
            file.truncate(cut as u64).unwrap();
            file.write_at(&vec![0xEE; page * 4], cut as u64).unwrap();
            assert!(lent == &old[16..], "cut at {cut}");
        }
        assert_eq!(map.beyond(0), 0, "the first page is preserved already");
    }

    #[test]
    fn a_copy_that_was_begun_before_more_was_committed_is_completed() {
        let page = page_len() as usize;
        for (seen, more) in [(2 * page, 10), (2 * page + 10, 100), (3 * page - 1, 5000), (page + 1, 4 * page)]
        {
            let bytes: Vec<u8> = (0..page * 8).map(|i| (i % 251) as u8).collect();
            let (_dir, file, map) = mapped(&bytes[..seen]);
            map.raise(seen as u64);
            let copy = map.copy(page as u64).unwrap().unwrap();
            file.write_at(&bytes[seen..seen + more], seen as u64).unwrap();
            map.raise((seen + more) as u64);
            let lent = map.payload(0, (seen + more) as u64).unwrap();
            map.preserve(page as u64, Some(copy)).unwrap();
            file.truncate(page as u64).unwrap();
            file.write_at(&vec![0xEE; page * 8], page as u64).unwrap();
            assert!(lent == &bytes[16..seen + more], "{seen} and {more} more");
        }
    }

    #[test]
    fn a_copy_for_another_cut_is_not_put_in_place() {
        let page = page_len();
        let bytes: Vec<u8> = (0..page * 3).map(|i| (i % 251) as u8).collect();
        let (_dir, file, map) = mapped(&bytes);
        map.raise(bytes.len() as u64);
        let copy = map.copy(2 * page).unwrap();
        let lent = map.payload(0, bytes.len() as u64).unwrap();
        map.preserve(page, copy).unwrap();
        file.truncate(page).unwrap();
        assert!(lent == &bytes[16..]);
        assert!(map.copy(page).unwrap().is_none(), "nothing of that is the file's any more");
    }

    #[test]
    fn a_copy_of_another_map_is_not_put_in_place() {
        let page = page_len();
        let bytes: Vec<u8> = (0..page * 3).map(|i| (i % 251) as u8).collect();
        let (_dir, file, map) = mapped(&bytes);
        let shorter = Map::new(&file, bytes.len() as u64).unwrap();
        [&map, &shorter].iter().for_each(|map| map.raise(bytes.len() as u64));
        // What it shows of the file ends before what the other does.
        shorter.preserve(2 * page, None).unwrap();
        let copy = shorter.copy(page).unwrap().unwrap();
        assert!(shorter.has_copy(&copy) && !map.has_copy(&copy));
        let lent = map.payload(0, bytes.len() as u64).unwrap();
        map.preserve(page, Some(copy)).unwrap();
        file.write_at(&vec![0xEE; 2 * page as usize], page).unwrap();
        assert!(lent == &bytes[16..]);
    }

    #[test]
    fn a_cut_behind_what_is_lent_copies_nothing() {
        let (_dir, _file, map) = mapped(&[1; 5000]);
        map.raise(4000);
        assert_eq!(map.beyond(4000), 0);
        assert_eq!(map.beyond(3999), page_len());
    }
}
