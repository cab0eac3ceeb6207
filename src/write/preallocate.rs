//! Room ahead: zeros that a sealed journal writes behind its records.
//!
//! A sync that finds the file longer than at the one before has the file system journal a new length and new blocks.
//! A sync of records that took the place of zeros has not, and costs a quarter to a half less. Blocks that were only
//! allocated gain nothing: they are journaled when they are first written.
//!
//! Where what is written over goes to new blocks, zeros gain nothing and cost their space twice, so there are none unless
//! the user asks for them.
//!
//! Whoever holds the sync slot and is about to sync records that outgrew the room makes more of it, so that one sync
//! pays for the records and for the room. No lock of the journal is held meanwhile and nobody waits for one: the
//! system appends the zeros where the file ends at that moment, so a flush that writes at the same time is never
//! overwritten. Room that cannot be had is no error. What cuts the file takes the room off with the rest.

use crate::error::Result;
use crate::file::JournalFile;
use crate::group_commit::Slot;
use crate::sync::Mutex;

/// The largest step unless the user sets one: larger ones gained nothing.
const LARGEST: u64 = 512 << 10;

/// The first step, and the least.
const SMALLEST: u64 = 64 << 10;

/// A step is for so many syncs like the one that it is made for.
const SYNCS: u64 = 32;

/// Bytes from one sync to the next beyond which writing zeros costs more than it saves (measured on ext4).
const MOST_PER_SYNC: u64 = 64 << 10;

/// Syncs of a handle that go without room. To write the first zeros and to take them off when the journal is closed costs
/// about what so many syncs would have saved, and who appends only a few records gets nothing for it.
const WITHOUT: u32 = 8;

/// Zeros of one call: a flush waits for the file's own lock no longer than that takes.
const PIECE: u64 = 256 << 10;

/// Makes room. Only the holder of the slot has it do so.
#[derive(Debug)]
pub(crate) struct Preallocation {
    /// The largest step in bytes; 0 for no room at all.
    largest: u64,
    state: Mutex<PreallocationState>,
}

#[derive(Debug, Default)]
struct PreallocationState {
    /// The file was made so long, and not cut since.
    end: u64,
    /// No room is made before the journal is longer than this.
    after: u64,
    /// Syncs that would have had use for room, counted up to [`WITHOUT`].
    without: u32,
}

/// The largest step in `file`: what the user `asked` for, or what serves its file system best.
pub(crate) fn largest_step(asked: Option<u64>, file: &JournalFile) -> u64 {
    asked.unwrap_or_else(|| if file.is_copied_on_write() { 0 } else { LARGEST })
}

impl Preallocation {
    /// Room in steps of up to `largest` bytes.
    pub(crate) fn new(largest: u64) -> Self {
        Self { largest, state: Mutex::default() }
    }

    /// The room that there is behind `committed`, in bytes.
    pub(crate) fn left(&self, committed: u64) -> u64 {
        self.state.lock().end.saturating_sub(committed)
    }

    /// Makes room behind `committed`, if there is none left and it pays. The last sync came as far as `durable`.
    ///
    /// # Errors
    /// If there is no room to be had; a part of it may have been written. It is not tried again soon.
    pub(crate) fn make(&self, _: &Slot<'_>, file: &JournalFile, durable: u64, committed: u64) -> Result<()> {
        let Some(step) = self.due(durable, committed) else { return Ok(()) };
        // Not under the lock: who looks at the room holds the append lock.
        let made = extend(file, committed.saturating_add(step));
        let mut state = self.state.lock();
        match made {
            Ok(end) => state.end = end,
            Err(_) => state.after = committed.saturating_add(self.largest),
        }
        made.map(drop)
    }

    /// How much room is to be made now, if any.
    fn due(&self, durable: u64, committed: u64) -> Option<u64> {
        let mut state = self.state.lock();
        if committed <= state.end.max(state.after) {
            return None;
        }
        if state.without < WITHOUT {
            state.without += 1;
            return None;
        }
        step(committed.saturating_sub(durable), self.largest)
    }

    /// The file was cut, and with it the room.
    pub(crate) fn cut(&self, _: &Slot<'_>) {
        self.state.lock().end = 0;
    }

    /// The same, since something could not be written behind `committed`: no new room is made soon.
    pub(crate) fn give_up(&self, _: &Slot<'_>, committed: u64) {
        let mut state = self.state.lock();
        (state.end, state.after) = (0, committed.saturating_add(self.largest));
    }

    /// No room is made any more.
    pub(crate) fn stop(&self, _: &Slot<'_>) {
        self.state.lock().after = u64::MAX;
    }
}

/// How much room to make when so many bytes were written since the last sync.
fn step(per_sync: u64, largest: u64) -> Option<u64> {
    let step = per_sync.saturating_mul(SYNCS).max(SMALLEST).min(largest);
    (per_sync <= MOST_PER_SYNC && step > per_sync).then_some(step)
}

/// Appends zeros until the file is `to` bytes long; how long it is then.
fn extend(file: &JournalFile, to: u64) -> Result<u64> {
    let mut end = file.len()?;
    while end < to {
        end = end.saturating_add(file.append_zeros((to - end).min(PIECE))?);
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::seam::FileSeam;
    use crate::group_commit::{GroupCommit, Watermark};

    const LARGEST: u64 = 1 << 20;

    #[test]
    fn steps_begin_small_and_grow_with_the_load_up_to_the_largest() {
        assert_eq!(step(16, LARGEST), Some(64 << 10));
        assert_eq!(step(4096, LARGEST), Some(128 << 10));
        assert_eq!(step(40 << 10, LARGEST), Some(LARGEST));
        assert_eq!(step(16, 1000), Some(1000));
    }

    #[test]
    fn no_room_is_made_where_it_would_not_last() {
        assert_eq!(step(MOST_PER_SYNC + 1, u64::MAX), None);
        assert_eq!(step(u64::MAX, u64::MAX), None);
        assert_eq!(step(1000, 1000), None);
        assert_eq!(step(0, 0), None);
    }

    /// A journal's file with 100 bytes in it, and what makes room in it.
    fn place() -> (tempfile::TempDir, JournalFile, GroupCommit, Preallocation) {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = JournalFile::open(&dir.path().join("j"), true, FileSeam::default()).unwrap();
        file.write_at(&[7; 100], 0).unwrap();
        let ahead = Preallocation::new(LARGEST);
        ahead.state.lock().without = WITHOUT;
        (dir, file, GroupCommit::new(Watermark::default()), ahead)
    }

    #[test]
    fn the_first_few_syncs_go_without_room() {
        let (_dir, file, commit, _) = place();
        let ahead = Preallocation::new(LARGEST);
        let slot = commit.take_slot();
        for durable in 0..u64::from(WITHOUT) {
            ahead.make(&slot, &file, durable, durable + 1).unwrap();
            assert_eq!(file.len().unwrap(), 100);
        }
        ahead.make(&slot, &file, 99, 100).unwrap();
        assert_eq!(file.len().unwrap(), 100 + SMALLEST);
    }

    #[test]
    fn room_is_made_when_it_is_used_up_and_not_before() {
        let (_dir, file, commit, ahead) = place();
        let slot = commit.take_slot();
        ahead.make(&slot, &file, 0, 100).unwrap();
        let end = 100 + SMALLEST;
        assert_eq!((file.len().unwrap(), ahead.left(100)), (end, SMALLEST));
        ahead.make(&slot, &file, 100, end).unwrap();
        assert_eq!((file.len().unwrap(), ahead.left(end)), (end, 0));
        file.write_at(&[7], end).unwrap();
        ahead.make(&slot, &file, end - 99, end + 1).unwrap();
        assert_eq!(file.len().unwrap(), end + 1 + SMALLEST);
        let mut bytes = vec![1; (end + 1 + SMALLEST) as usize];
        file.read_at(&mut bytes, 0).unwrap();
        assert!(bytes.iter().enumerate().all(|(at, &byte)| (byte != 0) == (at < 100 || at as u64 == end)));
    }

    #[test]
    fn after_a_cut_room_is_made_anew() {
        let (_dir, file, commit, ahead) = place();
        let slot = commit.take_slot();
        ahead.make(&slot, &file, 0, 100).unwrap();
        file.truncate(50).unwrap();
        ahead.cut(&slot);
        assert_eq!(ahead.left(50), 0);
        file.write_at(&[7; 10], 50).unwrap();
        ahead.make(&slot, &file, 50, 60).unwrap();
        assert_eq!(file.len().unwrap(), 60 + SMALLEST);
    }

    #[test]
    fn after_a_failure_room_is_not_tried_again_soon() {
        let (_dir, file, commit, ahead) = place();
        let slot = commit.take_slot();
        ahead.give_up(&slot, 100);
        for (committed, len) in [(200, 100), (100 + LARGEST, 100), (101 + LARGEST, 101 + LARGEST + SMALLEST)]
        {
            ahead.make(&slot, &file, committed - 100, committed).unwrap();
            assert_eq!(file.len().unwrap(), len, "{committed}");
        }
        ahead.stop(&slot);
        ahead.make(&slot, &file, LARGEST * 2, LARGEST * 2 + 1).unwrap();
        assert_eq!(file.len().unwrap(), 101 + LARGEST + SMALLEST);
    }
}
