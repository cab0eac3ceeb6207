//! Opening a journal that is already there: every seal and checksum checked, the full index built. A round is an
//! opening. The file is in the system's cache.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use wally::{Journal, Options, SyncPolicy};

use super::folder::Folder;
use super::{payload, quick, seal};

/// Bytes that the floor reads at a time, so that they stay in a core's cache. From 1 MiB on it was slower, below no faster.
const PIECE: usize = 256 << 10;

/// A journal that was closed. A drop removes its file.
pub struct Closed {
    path: PathBuf,
    records: u64,
}

impl Closed {
    /// Creates a journal of `records` of `len` bytes each; of fewer in a quick run.
    pub fn new(folder: &Folder, records: u64, len: usize) -> Self {
        let records = if quick() { records >> 10 } else { records };
        let path = folder.path();
        let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(&path).expect("a new journal");
        // Windows of one stretch of noise: faster than noise for each, and still no two neighbours are alike.
        let noise = payload(2 * len + 4096, 1);
        for n in 0..records as usize {
            let from = n % (len + 4096);
            journal.append(&noise[from..from + len]).expect("an append");
        }
        journal.close().expect("a clean end");
        Self { path, records }
    }

    pub fn records(&self) -> u64 {
        self.records
    }

    pub fn open(&self) -> Journal {
        let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(&self.path).expect("a journal");
        assert_eq!(journal.last_index(), self.records);
        journal
    }

    /// Opens the journal. Closing it again is not timed.
    pub fn wally(&self, rounds: u64) -> Duration {
        (0..rounds)
            .map(|_| {
                let start = Instant::now();
                let journal = self.open();
                let took = start.elapsed();
                journal.close().expect("a clean end");
                took
            })
            .sum()
    }

    pub fn floor(&self, rounds: u64) -> Duration {
        (0..rounds)
            .map(|_| {
                let start = Instant::now();
                let offsets = self.walk();
                let took = start.elapsed();
                assert_eq!(offsets.len() as u64, self.records);
                took
            })
            .sum()
    }

    /// The least code that opens, on one thread: reads the file piece by piece, checks each header and each payload,
    /// keeps the offset of each record. It has no code for batches, barriers, records longer than a piece, or a file that
    /// does not end cleanly; it takes no lock and maps nothing.
    fn walk(&self) -> Vec<u64> {
        let file = File::open(&self.path).expect("the journal's file");
        let (mut piece, mut held) = (vec![0; PIECE], 0);
        let (mut offsets, mut start) = (Vec::new(), 0);
        loop {
            let read = file.read_at(&mut piece[held..], start + held as u64).expect("a read");
            assert_ne!(read, 0, "a journal that ends with a mark");
            held += read;
            let mut at = 0;
            while let Some((header, rest)) = piece[at..held].split_first_chunk::<16>() {
                let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four"));
                let len = u64::from_le_bytes(header[..8].try_into().expect("eight"));
                let (crc, found, offset) = (number(8), number(12), start + at as u64);
                assert_eq!(found, seal(offset, len, crc, found as u8), "the seal at {offset}");
                if found & MARK != 0 {
                    return offsets;
                }
                let Some(payload) = rest.get(..len as usize) else { break };
                assert_eq!(crc, crc32fast::hash(payload), "the payload at {offset}");
                offsets.push(offset);
                at += 16 + payload.len();
            }
            piece.copy_within(at..held, 0);
            (held, start) = (held - at, start + at as u64);
        }
    }
}

/// The flag of a seal that ends the journal.
const MARK: u32 = 1 << 4;

impl Drop for Closed {
    fn drop(&mut self) {
        // A failure does no harm: its folder is removed at the end.
        let _ = std::fs::remove_file(&self.path);
    }
}
