//! P1, P5 and P6 on a real file system: a small ext4 on a loop device is imaged, again and again, while a journal is
//! written on it; mounting a copy replays the file system's own journal as after a power cut, and what is in it has to be a
//! prefix that holds all that was durable when the copy was made.
//!
//! The disk under the loop device has what the kernel wrote back so far, in an order of its own, which neither the recorded
//! writes of `crash.rs` nor a killed process show. And P7 on a small ext4 that is full. Needs root, a loop device and
//! mkfs.ext4; without them it says so and passes. `WALLY_EXT4` sets how many images are made.

mod common;

use std::path::Path;
use std::process::Command;

use common::mounted::Mounted;
use common::rng::Rng;
use common::seam::ENOSPC;
use wally::{Options, SyncPolicy};

/// Begins to write the pages of a file back, without making them durable: their blocks can then reach the disk before the
/// size does. dd with nothing to copy and no truncation asks for that alone.
fn write_back(file: &Path) {
    let path = format!("of={}", file.display());
    let args = ["if=/dev/null", &path, "count=0", "conv=notrunc", "oflag=nocache"];
    let _ = Command::new("dd").args(args).output();
}

/// What is staged and does not fit can be removed, on its own and with all that is committed.
#[test]
fn a_full_file_system_takes_truncations_that_remove_what_is_staged() {
    for all in [false, true] {
        let Some(live) = Mounted::new("ext4", 4 << 20) else { return };
        let path = live.path("journal");
        let options = Options::new().sync_policy(SyncPolicy::OnDemand).buffer_size(8192).clone();
        let journal = options.open(&path).unwrap();
        let mut records: Vec<Vec<u8>> = Vec::new();
        for salt in 0..40 {
            records.push(common::payload(salt, 1000));
            journal.append(&records[salt as usize]).unwrap();
        }
        journal.sync().unwrap();
        let other = live.path("other");
        let _ = std::fs::write(&other, vec![1; 8 << 20]);
        // Its last block and its last pages, too.
        let full = loop {
            let record = common::payload(records.len() as u64, 1000);
            let Err(error) = journal.append(&record).and_then(|_| journal.flush()) else {
                records.push(record);
                continue;
            };
            break error;
        };
        assert!(
            matches!(&full, wally::Error::Io { source, .. } if source.raw_os_error() == Some(ENOSPC)),
            "{full}"
        );
        let (committed, last) = (journal.committed_index(), journal.last_index());
        assert!(committed < last, "something is staged");
        let n = if all { 0 } else { committed };
        journal.truncate_back(n).unwrap();
        assert_eq!((journal.last_index(), journal.durable_index()), (n, n));
        std::fs::remove_file(&other).unwrap();
        records.truncate(n as usize);
        records.push(b"next".to_vec());
        assert_eq!(journal.append(b"next").unwrap(), n + 1);
        journal.close().unwrap();
        let journal = options.open(&path).unwrap();
        assert_eq!(journal.last_index(), n + 1);
        for (n, record) in (1..).zip(&records) {
            assert_eq!(journal.read(n).unwrap(), *record, "record {n}");
        }
    }
}

/// A new ext4 whose own journal commits only when it has to.
fn live() -> Option<Mounted> {
    Mounted::with("ext4", 24 << 20, "commit=300,noauto_da_alloc")
}

#[test]
fn a_renamed_journal_that_loses_power_is_there_under_its_name() {
    let Some(live) = live() else { return };
    let (before, after) = (live.path("before"), live.path("after"));
    let journal = Options::new().open(&before).unwrap();
    journal.append(b"a").unwrap();
    journal.close().unwrap();
    live.sync();
    std::fs::rename(&before, &after).unwrap();
    let journal = Options::new().create(false).open(&after).unwrap();
    // In the place of the mark: no size changes.
    journal.append(b"").unwrap();
    let left = live.after_a_power_cut();
    assert!(!left.path("before").exists());
    let reopened = Options::new().create(false).open(left.path("after")).unwrap();
    assert_eq!((reopened.last_index(), reopened.read(2).unwrap()), (2, Vec::new()));
}

#[test]
fn a_real_file_system_loses_power() {
    let images = std::env::var("WALLY_EXT4").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let Some(live) = live() else { return };
    let path = live.path("journal");
    let journal = Options::new().sync_policy(SyncPolicy::OnDemand).buffer_size(8192).open(&path).unwrap();
    let rng = &mut Rng::new(4);
    let mut records: Vec<Vec<u8>> = Vec::new();
    let (mut durable, mut found_beyond) = (0, 0);
    for at in 0..images {
        for _ in 0..rng.range(1, 12) {
            match rng.below(12) {
                0..=6 => {
                    let len = [0, 40, 600, 5000][rng.below(4)];
                    records.push(rng.bytes(len));
                    journal.append(records.last().unwrap()).unwrap();
                }
                7..=8 => {
                    let batch: Vec<_> = (0..rng.range(2, 6)).map(|_| rng.bytes(700)).collect();
                    journal.append_batch(&batch).unwrap();
                    records.extend(batch);
                }
                9 => journal.flush().unwrap(),
                10 => {
                    journal.sync().unwrap();
                    durable = records.len();
                }
                _ => {
                    let keep = records.len() - rng.below(records.len().min(6) + 1);
                    journal.truncate_back(keep as u64).unwrap();
                    records.truncate(keep);
                    durable = keep;
                }
            }
        }
        journal.flush().unwrap();
        match rng.below(5) {
            0 => {}
            1 => {
                // Another program makes everything durable.
                let _ = Command::new("sync").arg("-f").arg(&path).output();
            }
            2 | 3 => write_back(&path),
            _ => {
                write_back(&path);
                // The sync of another file commits the file system's journal, with sizes whose blocks were written back.
                let other = std::fs::File::create(live.path("other")).unwrap();
                other.sync_all().unwrap();
            }
        }
        let after = live.after_a_power_cut();
        let left = after.path("journal");
        let reopened = Options::new().sync_policy(SyncPolicy::OnDemand).create(false).open(&left);
        let reopened = reopened.unwrap_or_else(|error| panic!("image {at}: {error}"));
        let found = reopened.last_index() as usize;
        assert!(found >= durable, "image {at}: {found} records, {durable} were durable");
        assert!(found <= records.len(), "image {at}: {found} records of {}", records.len());
        for (n, record) in (1..).zip(&records[..found]) {
            assert_eq!(reopened.read(n).unwrap(), *record, "image {at}: record {n}");
        }
        found_beyond += found - durable;
        reopened.close().unwrap();
    }
    journal.close().unwrap();
    println!("{images} images, {found_beyond} records beyond the durable ones in them");
}
