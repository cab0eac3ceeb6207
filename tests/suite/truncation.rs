//! Truncating back: what stays, what goes, in which order the file is asked, and what is left when it refuses.

use crate::common;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use common::built::{self, BARRIER, Built, CONTINUED, crc32};
use common::content::{all, assert_holds, assert_snapshot_holds, check, found_in_copy, payload};
use common::rng::Rng;
use common::seam::{Call, Seam};
use tempfile::TempDir;
use wally::seam::Verdict;
use wally::{Error, Format, IndexMode, Journal, Options, ReaderStatus, Snapshot, SyncPolicy};

const FORMATS: [Format; 2] = [Format::Sealed, Format::Reference];
const MODES: [IndexMode; 5] =
    [IndexMode::Full, IndexMode::Sparse(1), IndexMode::Sparse(3), IndexMode::sparse(), IndexMode::Scan];

const EIO: i32 = 5;
const ENOMEM: i32 = 12;
const ENOSPC: i32 = 28;

fn on_demand() -> Options {
    let mut options = Options::new();
    options.sync_policy(SyncPolicy::OnDemand);
    options
}

fn place() -> (TempDir, PathBuf) {
    let dir = common::fast_dir();
    let path = dir.path().join("j");
    (dir, path)
}

/// Appends `count` records that name `generation`, of lengths from 0 on.
fn fill(journal: &Journal, generation: u64, count: usize, records: &mut Vec<Vec<u8>>) {
    for _ in 0..count {
        let n = records.len() as u64 + 1;
        records.push(payload(generation, n, (n * n * 7 % 120) as usize));
        assert_eq!(journal.append(&records[n as usize - 1]).unwrap(), n);
    }
}

fn page() -> u64 {
    rustix::param::page_size() as u64
}

/// Appends a record that ends at `end`, an offset in the file.
fn append_to(journal: &Journal, generation: u64, end: u64, records: &mut Vec<Vec<u8>>) {
    let len = end - journal.stats().appended_bytes - 16;
    let n = records.len() as u64 + 1;
    records.push(payload(generation, n, len as usize));
    assert_eq!(journal.append(&records[n as usize - 1]).unwrap(), n);
    assert_eq!(journal.stats().appended_bytes, end);
}

#[test]
fn truncating_to_any_record_keeps_exactly_the_records_up_to_it() {
    let (dir, _) = place();
    for (format, mode) in FORMATS.into_iter().flat_map(|f| MODES.into_iter().map(move |m| (f, m))) {
        for n in 0..=9 {
            let path = dir.path().join(format!("{format:?}-{mode:?}-{n}"));
            let mut options = on_demand();
            options.new_file_format(format).index(mode);
            let journal = options.open(&path).unwrap();
            let mut records = Vec::new();
            fill(&journal, 0, 9, &mut records);
            journal.truncate_back(n).unwrap();
            records.truncate(n as usize);
            assert_holds(&journal, &records);
            assert_eq!(journal.durable_index(), n);
            fill(&journal, 1, 5, &mut records);
            assert_holds(&journal, &records);
            journal.close().unwrap();
            let journal = options.open(&path).unwrap();
            assert_holds(&journal, &records);
        }
    }
}

#[test]
fn truncating_past_the_end_is_out_of_range_and_changes_nothing() {
    let (_dir, path) = place();
    let journal = on_demand().open(&path).unwrap();
    for n in [1, 2, u64::MAX] {
        let error = journal.truncate_back(n).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { index, first: 1, last: 0, .. } if index == n), "{error}");
    }
    journal.truncate_back(0).unwrap();
    let mut records = Vec::new();
    fill(&journal, 0, 4, &mut records);
    for n in [5, 6, u64::MAX] {
        let error = journal.truncate_back(n).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { index, first: 1, last: 4, .. } if index == n), "{error}");
    }
    assert_holds(&journal, &records);
    fill(&journal, 0, 1, &mut records);
    assert_holds(&journal, &records);
}

#[test]
fn a_cleared_journal_begins_at_one_again_as_often_as_it_is_cleared() {
    for format in FORMATS {
        let (_dir, path) = place();
        let mut options = on_demand();
        options.new_file_format(format);
        for generation in 0..3 {
            let journal = options.open(&path).unwrap();
            let mut records = Vec::new();
            for again in 0..3 {
                journal.truncate_back(0).unwrap();
                assert_holds(&journal, &[]);
                assert_eq!(journal.durable_index(), 0);
                records.clear();
                fill(&journal, generation * 3 + again, 5, &mut records);
                assert_holds(&journal, &records);
            }
            journal.close().unwrap();
            assert_eq!(found_in_copy(&options, &path), records);
        }
    }
}

#[test]
fn truncating_to_the_last_record_only_makes_everything_durable() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = on_demand().seam(seam.clone()).open(&path).unwrap();
    let mut records = Vec::new();
    fill(&journal, 0, 4, &mut records);
    let views = journal.stats().views_published;
    seam.take_io();
    journal.truncate_back(4).unwrap();
    assert!(matches!(seam.take_io()[..], [Call::Write { offset: 0, .. }, Call::Sync]));
    assert_eq!(journal.durable_index(), 4);
    journal.truncate_back(4).unwrap();
    assert_eq!(seam.take_io(), [], "all is durable already");
    assert_eq!(journal.stats().views_published, views);
    assert_holds(&journal, &records);
}

fn mark(offset: u64, end: u64) -> Vec<u8> {
    built::mark(offset, end).to_vec()
}

/// Records 1 and 2 are durable, record 3 is staged and so are 4 to 7, a batch, and 8.
#[test]
fn of_what_is_staged_only_what_stays_is_written() {
    for format in FORMATS {
        for n in 0..=8u64 {
            let (_dir, path) = place();
            let seam = Seam::new();
            let options = on_demand().new_file_format(format).clone();
            let journal = options.clone().seam(seam.clone()).open(&path).unwrap();
            let mut records = Vec::new();
            fill(&journal, 0, 2, &mut records);
            journal.sync().unwrap();
            let committed = journal.stats().committed_bytes;
            fill(&journal, 0, 1, &mut records);
            let batch: Vec<_> = (4..=7).map(|n| payload(0, n, 50)).collect();
            journal.append_batch(&batch).unwrap();
            records.extend(batch);
            fill(&journal, 0, 1, &mut records);
            let mut follow = journal.follow(3);
            seam.take_io();
            journal.truncate_back(n).unwrap();
            let calls = seam.take_io();
            let mut written = Vec::new();
            for at in 3..=n {
                // Record 3 is the first of its flush; of a batch that is cut, the last record that stays ends it.
                let flags = match at {
                    3 => BARRIER,
                    4..=6 if at < n => CONTINUED,
                    _ => 0,
                };
                let (offset, payload) = (committed + written.len() as u64, &records[at as usize - 1]);
                let header = if format == Format::Reference {
                    Built::new().reference(payload).0[..16].to_vec()
                } else {
                    built::header(offset, payload.len() as u64, crc32(payload), flags).to_vec()
                };
                written.extend(header);
                written.extend(payload);
            }
            match n {
                0..=1 => {
                    let beyond = |call: &Call| call.written() > 16;
                    assert!(!calls.iter().any(beyond), "{format:?} to {n}: {calls:?}");
                }
                2 => assert_eq!(calls, [], "{format:?}"),
                _ => assert_eq!(calls, [wrote(committed, written), Call::Sync], "{format:?} to {n}"),
            }
            records.truncate(n as usize);
            assert_eq!((journal.last_index(), journal.committed_index(), journal.durable_index()), (n, n, n));
            assert_holds(&journal, &records);
            assert_eq!(found_in_copy(&options, &path), records, "{format:?} to {n}");
            if n < 8 {
                let error = follow.try_next().map(drop).unwrap_err();
                assert!(matches!(error, Error::Truncated { last, .. } if last == n), "{error}");
            }
            drop(follow);
            fill(&journal, 1, 3, &mut records);
            assert_holds(&journal, &records);
            journal.close().unwrap();
            assert_holds(&options.open(&path).unwrap(), &records);
        }
    }
}

/// Whatever is refused while the part of a staged batch that stays is written, the batch is as it was afterwards.
#[test]
fn a_cut_of_what_is_staged_that_is_refused_leaves_it_staged_as_it_was() {
    for format in FORMATS {
        let (_dir, path) = place();
        let seam = Seam::new();
        let options = on_demand().new_file_format(format).clone();
        let journal = options.clone().seam(seam.clone()).open(&path).unwrap();
        let mut records: Vec<_> = (1..=3).map(|n| payload(0, n, 50)).collect();
        journal.append_batch(&records).unwrap();
        for refused in [Call::is_map, Call::is_write] {
            let mut armed = true;
            seam.rule(move |_, call| {
                let now = refused(call) && armed;
                armed &= !call.is_write();
                if now { Verdict::Fail(ENOSPC) } else { Verdict::Proceed }
            });
            let error = journal.truncate_back(2).unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "{error}");
            assert_eq!((journal.last_index(), journal.committed_index()), (3, 0));
        }
        seam.allow_all();
        fill(&journal, 1, 1, &mut records);
        journal.flush().unwrap();
        assert_holds(&journal, &records);
        if format == Format::Sealed {
            let file = std::fs::read(&path).unwrap();
            let flags = [0, 66, 132, 198].map(|start| file[start + 12]);
            assert_eq!(flags.map(|flags| flags & 4), [4, 4, 0, 0], "CONTINUED");
        }
        assert_eq!(found_in_copy(&options, &path), records);
    }
}

#[test]
fn a_cut_inside_a_batch_takes_the_last_kept_record_out_of_it() {
    // The batch is 3..=7; the first record of its flush may be a barrier, which it stays.
    for (n, barrier) in [(3, false), (3, true), (4, false), (6, false), (7, false)] {
        let (_dir, path) = place();
        let options = on_demand();
        let journal = options.open(&path).unwrap();
        let mut records = Vec::new();
        fill(&journal, 0, 2, &mut records);
        if barrier {
            journal.sync().unwrap();
        }
        let batch: Vec<_> = (3..=7).map(|n| payload(0, n, 40)).collect();
        assert_eq!(journal.append_batch(&batch).unwrap(), 3..=7);
        records.extend(batch);
        fill(&journal, 0, 1, &mut records);
        let start = journal.data_range(n).unwrap().start as usize - 16;
        let flags = |bytes: &[u8]| bytes[start + 12];
        let before = std::fs::read(&path).unwrap();
        assert_eq!(flags(&before) & 4 != 0, n < 7, "CONTINUED before the cut");
        assert_eq!(flags(&before) & 2 != 0, barrier);
        journal.truncate_back(n).unwrap();
        records.truncate(n as usize);
        let end = start + 56;
        let after = std::fs::read(&path).unwrap();
        let mut expected = before[..end].to_vec();
        let resealed = flags(&before) & !4;
        let crc = crc32fast::hash(&records[n as usize - 1]);
        expected[start + 12..start + 16].copy_from_slice(&built::seal(start as u64, 40, crc, resealed));
        expected.extend(mark(end as u64, end as u64));
        assert!(
            after == expected,
            "to {n}: the kept bytes, the seal without CONTINUED, a mark, and nothing else"
        );
        assert_eq!(found_in_copy(&options, &path), records);
        fill(&journal, 1, 3, &mut records);
        journal.close().unwrap();
        assert_holds(&options.open(&path).unwrap(), &records);
    }
}

#[test]
fn borrows_of_removed_records_on_the_same_thread_do_not_hold_a_truncation_back() {
    for (format, mode) in FORMATS.into_iter().flat_map(|f| MODES.into_iter().map(move |m| (f, m))) {
        let (_dir, path) = place();
        let journal = on_demand().new_file_format(format).index(mode).open(&path).unwrap();
        let mut records = Vec::new();
        fill(&journal, 0, 50, &mut records);
        journal.flush().unwrap();
        let record = journal.read_ref(31).unwrap();
        let snapshot = journal.snapshot();
        let lent = snapshot.get(32).unwrap();
        let mut range = snapshot.range(20..);
        let first = range.next().unwrap();
        let mut reader = journal.reader();
        let read = reader.get(33).unwrap();
        journal.truncate_back(3).unwrap();
        let mut others = records[..3].to_vec();
        fill(&journal, 1, 100, &mut others);
        journal.sync().unwrap();
        assert!(record[..] == records[30] && lent == records[31] && read == records[32]);
        record.verify().unwrap();
        assert_eq!(first, (20, &records[19][..]));
        assert!(range.eq((21..=50).map(|n| (n, &records[n as usize - 1][..]))));
        assert_snapshot_holds(&snapshot, &records);
        assert_eq!(reader.get(33), Some(&others[32][..]), "the next read sees the journal as it is");
        assert_holds(&journal, &others);
    }
}

#[test]
fn cuts_around_page_boundaries_leave_lent_pages_as_they_were() {
    let (dir, _) = place();
    for distance in [-17i64, -16, -15, -1, 0, 1, 15, 16, 17] {
        let cut = (3 * page()).checked_add_signed(distance).unwrap();
        let low = (page()).checked_add_signed(distance).unwrap();
        let journal = on_demand().open(dir.path().join(distance.to_string())).unwrap();
        let mut records = Vec::new();
        append_to(&journal, 0, low, &mut records);
        append_to(&journal, 0, cut, &mut records);
        for end in [cut + 16, cut + 40, 4 * page() + 100, 5 * page() - 16, 6 * page() + 1] {
            append_to(&journal, 0, end, &mut records);
        }
        journal.flush().unwrap();
        let snapshot = journal.snapshot();
        let refs: Vec<_> = (1..=7).map(|n| journal.read_ref(n).unwrap()).collect();
        let check_all = |when: &str| {
            for (record, payload) in refs.iter().zip(&records) {
                assert!(record[..] == payload[..], "{distance}: record {} {when}", record.index());
            }
            assert_snapshot_holds(&snapshot, &records);
        };
        journal.truncate_back(2).unwrap();
        check_all("after the first cut");
        let mut others = records[..2].to_vec();
        append_to(&journal, 1, 5 * page() + 7, &mut others);
        journal.flush().unwrap();
        let second = journal.snapshot();
        check_all("after it was overwritten");
        journal.truncate_back(1).unwrap();
        check_all("after the second cut");
        let mut last = records[..1].to_vec();
        append_to(&journal, 2, cut + 3, &mut last);
        fill(&journal, 2, 9, &mut last);
        journal.sync().unwrap();
        check_all("after that was overwritten");
        assert_snapshot_holds(&second, &others);
        journal.truncate_back(0).unwrap();
        check_all("after it was cleared");
        assert_snapshot_holds(&second, &others);
        drop(journal);
        check_all("after the drop");
    }
}

#[test]
fn many_old_snapshots_keep_their_bytes_through_truncations_of_every_depth() {
    for (format, mode) in [(Format::Sealed, IndexMode::Full), (Format::Reference, IndexMode::Sparse(7))] {
        let (_dir, path) = place();
        let options = on_demand().new_file_format(format).index(mode).clone();
        let journal = options.open(&path).unwrap();
        let mut rng = Rng::new(11);
        // Of each record its generation and length; the bytes follow from these.
        let mut records: Vec<(u64, usize)> = Vec::new();
        let mut held: Vec<(Snapshot, Vec<(u64, usize)>)> = Vec::new();
        let verify = |held: &[(Snapshot, Vec<(u64, usize)>)]| {
            for (snapshot, records) in held {
                assert_eq!(snapshot.len(), records.len() as u64);
                for ((n, bytes), &(generation, len)) in snapshot.iter().zip(records) {
                    assert_eq!(bytes.len(), len);
                    assert!(len < 24 || check(n, bytes) == Some(generation), "record {n}");
                }
            }
        };
        for generation in 0..40 {
            for _ in 0..1 + rng.below(12) {
                let n = records.len() as u64 + 1;
                let longest = if rng.below(4) == 0 { 9000 } else { 300 };
                let len = rng.below(longest);
                records.push((generation, len));
                assert_eq!(journal.append(&payload(generation, n, len)).unwrap(), n);
                if rng.below(8) == 0 {
                    journal.flush().unwrap();
                    held.push((journal.snapshot(), records.clone()));
                }
            }
            journal.flush().unwrap();
            held.push((journal.snapshot(), records.clone()));
            let keep = match rng.below(8) {
                0 => 0,
                1 => records.len() as u64,
                _ => rng.below(records.len() + 1) as u64,
            };
            journal.truncate_back(keep).unwrap();
            records.truncate(keep as usize);
            if generation % 8 == 7 {
                verify(&held);
            }
        }
        verify(&held);
        assert!(journal.stats().views_held > 0);
        // Those that go make no difference to those that stay.
        for at in (0..held.len()).rev().step_by(2) {
            held.swap_remove(at);
        }
        journal.truncate_back(0).unwrap();
        verify(&held);
        held.clear();
        assert_eq!((journal.stats().views_held, journal.stats().held_bytes), (0, 0));
    }
}

#[test]
fn beyond_the_preserve_limit_readers_are_left_alone_and_nothing_is_changed() {
    for format in FORMATS {
        let (_dir, path) = place();
        let options = on_demand().new_file_format(format).preserve_limit(2 * page()).clone();
        let journal = options.open(&path).unwrap();
        let mut records = Vec::new();
        append_to(&journal, 0, 100, &mut records);
        for at in 1..=4 {
            append_to(&journal, 0, at * page(), &mut records);
        }
        journal.flush().unwrap();
        let snapshot = journal.snapshot();
        let mut reader = journal.reader();
        for to in [0, 1, 2] {
            let error = journal.truncate_back(to).unwrap_err();
            assert!(
                matches!(error, Error::ReadersActive { held_bytes, .. } if held_bytes > 2 * page()),
                "{error}"
            );
            assert_holds(&journal, &records);
            assert_snapshot_holds(&snapshot, &records);
            assert_eq!(reader.get(5), Some(&records[4][..]));
            assert_eq!(journal.durable_index(), records.len() as u64);
            fill(&journal, 1, 1, &mut records);
            assert_holds(&journal, &records);
            assert_eq!(found_in_copy(&options, &path), records);
            records.truncate(5);
            drop(std::mem::replace(&mut reader, journal.reader()));
            // What only the snapshot holds fits the limit.
            journal.truncate_back(5).unwrap();
        }
        drop((snapshot, reader));
        journal.truncate_back(1).unwrap();
        assert_holds(&journal, &records[..1]);
    }
}

#[test]
fn if_lent_pages_cannot_be_preserved_nothing_is_changed() {
    for (format, mode) in FORMATS.into_iter().flat_map(|f| MODES.into_iter().map(move |m| (f, m))) {
        let (_dir, path) = place();
        let seam = Seam::new();
        let options = on_demand().new_file_format(format).index(mode).clone();
        let journal = options.clone().seam(seam.clone()).open(&path).unwrap();
        let mut records = Vec::new();
        for at in 1..=10 {
            append_to(&journal, 0, at * page() + at, &mut records);
        }
        journal.sync().unwrap();
        let oldest = journal.snapshot();
        let mut shorter = records.clone();
        journal.truncate_back(9).unwrap();
        shorter.truncate(9);
        fill(&journal, 1, 3, &mut shorter);
        journal.sync().unwrap();
        let file = std::fs::read(&path).unwrap();
        let snapshot = journal.snapshot();
        let mut reader = journal.reader();
        assert!(reader.get(12).is_some());
        // The first of the two older maps is preserved, the second is not; or neither.
        for refused in [1, 0] {
            let mut at = 0;
            seam.rule(move |_, call| {
                let preserve = call.is_preserve();
                at += usize::from(preserve);
                if preserve && at > refused { Verdict::Fail(ENOMEM) } else { Verdict::Proceed }
            });
            seam.take_io();
            let error = journal.truncate_back(2).unwrap_err();
            assert!(matches!(error, Error::ReadersActive { .. }), "{error}");
            assert_eq!(seam.take_io(), [], "the file was not asked anything");
            assert!(std::fs::read(&path).unwrap() == file);
            seam.allow_all();
            assert!(reader.get(12) == Some(&shorter[11]));
            assert_snapshot_holds(&snapshot, &shorter);
            assert_snapshot_holds(&oldest, &records);
            assert_eq!((journal.last_index(), journal.durable_index()), (12, 12));
            assert_holds(&journal, &shorter);
        }
        let before = shorter.clone();
        fill(&journal, 2, 2, &mut shorter);
        assert_holds(&journal, &shorter);
        assert_eq!(found_in_copy(&options, &path), shorter);
        journal.truncate_back(2).unwrap();
        assert_holds(&journal, &shorter[..2]);
        assert_snapshot_holds(&snapshot, &before);
        assert_snapshot_holds(&oldest, &records);
    }
}

#[test]
fn appends_do_not_wait_while_what_readers_hold_is_copied() {
    for mode in MODES {
        let (_dir, path) = place();
        let seam = Seam::new();
        let journal = on_demand().index(mode).seam(seam.clone()).open(&path).unwrap();
        seam.hold_one(|_, call| call.is_preserve());
        let mut records = Vec::new();
        for at in 1..=5 {
            append_to(&journal, 0, at * page() + at, &mut records);
        }
        journal.flush().unwrap();
        let snapshot = journal.snapshot();
        let mut others = records[..2].to_vec();
        let late = std::thread::scope(|scope| {
            let cut = scope.spawn(|| journal.truncate_back(2));
            seam.wait_held();
            // If the append lock were held, whatever took it would wait here for ever.
            fill(&journal, 0, 3, &mut records);
            append_to(&journal, 0, 8 * page() + 3, &mut records);
            journal.flush().unwrap();
            fill(&journal, 0, 1, &mut records);
            let late = journal.snapshot();
            seam.release();
            cut.join().unwrap().unwrap();
            late
        });
        fill(&journal, 1, 200, &mut others);
        journal.sync().unwrap();
        assert_holds(&journal, &others);
        assert_snapshot_holds(&snapshot, &records[..5]);
        assert_snapshot_holds(&late, &records[..9]);
        journal.truncate_back(0).unwrap();
        assert_snapshot_holds(&snapshot, &records[..5]);
        assert_snapshot_holds(&late, &records[..9]);
    }
}

#[test]
fn where_mappings_are_wanting_only_truncations_that_need_some_are_refused() {
    const NAME: &str = "truncation::where_mappings_are_wanting_only_truncations_that_need_some_are_refused";
    let max = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|n| n.trim().parse().ok());
    if max.is_none_or(|max: u64| max > 200_000) {
        println!("skipped: the system allows a process more mappings than a test can make");
        return;
    }
    // In a process of its own: the tests beside this one need mappings too.
    if std::env::var_os("WALLY_TEST_CHILD").is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let child = child.args(["--exact", NAME, "--nocapture", "--test-threads=1"]);
        let output = child.env("WALLY_TEST_CHILD", "1").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("done in a process of its own"));
        return;
    }
    let (_dir, path) = place();
    let journal = on_demand().open(&path).unwrap();
    let mut records = Vec::new();
    for at in 1..=3 {
        append_to(&journal, 0, at * page() + at, &mut records);
    }
    journal.sync().unwrap();
    let snapshot = journal.snapshot();
    let file = std::fs::File::open(&path).unwrap();
    let map = || memmap2::MmapOptions::new().len(page() as usize).map_raw_read_only(&file);
    let mut taken = Vec::new();
    while let Ok(one) = map() {
        taken.push(one);
    }
    // A few are left, fewer than it takes to put pages into a map and leave some.
    taken.truncate(taken.len() - 7);
    let error = journal.truncate_back(1).unwrap_err();
    let words = error.to_string();
    assert!(matches!(error, Error::ReadersActive { held_bytes: 1.., .. }), "{words}");
    assert!(words.contains("takes 8 memory mappings"), "{words}");
    assert_holds(&journal, &records);
    assert_snapshot_holds(&snapshot, &records);
    drop(snapshot);
    // Now there is nobody to preserve anything for.
    journal.truncate_back(1).unwrap();
    drop(taken);
    assert_holds(&journal, &records[..1]);
    println!("done in a process of its own");
}

/// A journal of which records up to 8 are durable, record 9 is committed and record 10 is staged; 3 to 6 are a batch.
struct Scene {
    _dir: TempDir,
    path: PathBuf,
    seam: Arc<Seam>,
    options: Options,
    journal: Journal,
    records: Vec<Vec<u8>>,
}

impl Scene {
    fn new(format: Format) -> Self {
        let (dir, path) = place();
        let seam = Seam::new();
        let options = on_demand().new_file_format(format).clone();
        let journal = options.clone().seam(seam.clone()).open(&path).unwrap();
        let mut records = Vec::new();
        fill(&journal, 0, 2, &mut records);
        let batch: Vec<_> = (3..=6).map(|n| payload(0, n, 50)).collect();
        journal.append_batch(&batch).unwrap();
        records.extend(batch);
        fill(&journal, 0, 1, &mut records);
        let end = 2 * page() + 100;
        append_to(&journal, 0, end, &mut records);
        journal.sync().unwrap();
        fill(&journal, 0, 1, &mut records);
        journal.flush().unwrap();
        fill(&journal, 0, 1, &mut records);
        seam.take_io();
        Self { _dir: dir, path, seam, options, journal, records }
    }

    /// Where record `n` begins, header included, and ends. Looked up in what is committed.
    fn extent(&self, n: u64) -> (u64, u64) {
        let payload = self.journal.data_range(n).unwrap();
        (payload.start - 16, payload.end)
    }

    fn block(&self) -> u64 {
        std::fs::metadata(&self.path).unwrap().blksize()
    }

    fn found(&self) -> Vec<Vec<u8>> {
        found_in_copy(&self.options, &self.path)
    }
}

fn wrote(offset: u64, bytes: Vec<u8>) -> Call {
    Call::Write { offset, bytes }
}

/// What a truncation to `n` asks of the file of a [`Scene`], in its order, with the mark at `intent`.
fn sequence(scene: &Scene, n: u64, intent: Option<u64>) -> Vec<Call> {
    let (start, end) = scene.extent(n);
    // What is committed is synced; what is staged is not even written.
    let mut calls = vec![Call::Sync];
    if let Some(at) = intent {
        calls.extend([wrote(at, mark(at, end)), Call::Sync]);
    }
    if (3..6).contains(&n) {
        let crc = crc32(&scene.records[n as usize - 1]);
        let seal = built::seal(start, end - start - 16, crc, 0);
        calls.extend([wrote(start + 12, seal.to_vec()), Call::Sync]);
    }
    calls.extend([Call::Truncate(end), Call::Sync, wrote(end, mark(end, end)), Call::Sync]);
    calls
}

/// Where the committed records of a [`Scene`] end.
fn old_end(scene: &Scene) -> u64 {
    scene.extent(9).1
}

#[test]
fn the_file_is_asked_in_exactly_the_order_that_survives_crashes() {
    for n in [1, 2, 4, 6, 7] {
        let scene = Scene::new(Format::Sealed);
        let intent = old_end(&scene).next_multiple_of(scene.block());
        let expected = sequence(&scene, n, Some(intent));
        scene.journal.truncate_back(n).unwrap();
        assert_eq!(scene.seam.take_io(), expected, "to {n}");
    }
    // An end that is a block's end takes the mark right there.
    let scene = Scene::new(Format::Sealed);
    let mut records = scene.records.clone();
    append_to(&scene.journal, 0, 4 * scene.block(), &mut records);
    scene.journal.sync().unwrap();
    scene.seam.take_io();
    let (at, end) = (4 * scene.block(), scene.extent(7).1);
    scene.journal.truncate_back(7).unwrap();
    let expected = [
        wrote(at, mark(at, end)),
        Call::Sync,
        Call::Truncate(end),
        Call::Sync,
        wrote(end, mark(end, end)),
        Call::Sync,
    ];
    assert_eq!(scene.seam.take_io(), expected);
}

#[test]
fn a_reference_journal_is_only_cut_and_synced() {
    let scene = Scene::new(Format::Reference);
    let end = scene.extent(4).1;
    scene.journal.truncate_back(4).unwrap();
    assert_eq!(scene.seam.take_io(), [Call::Sync, Call::Truncate(end), Call::Sync]);
    assert_eq!(std::fs::metadata(&scene.path).unwrap().len(), end);
}

#[test]
fn a_full_disk_takes_the_mark_right_after_the_old_end_or_not_at_all() {
    // Record 7 ends in the first block, the journal in the third: the mark can stand right after it.
    let scene = Scene::new(Format::Sealed);
    let (block, end) = (scene.block(), old_end(&scene));
    let aligned = end.next_multiple_of(block);
    scene.seam.rule(move |_, call| match call {
        Call::Write { offset, .. } if *offset >= aligned => Verdict::Fail(ENOSPC),
        _ => Verdict::Proceed,
    });
    let mut expected = sequence(&scene, 4, Some(end));
    expected.splice(1..1, [wrote(aligned, mark(aligned, scene.extent(4).1)), Call::Truncate(end)]);
    scene.journal.truncate_back(4).unwrap();
    assert_eq!(scene.seam.take_io(), expected);
    assert_holds(&scene.journal, &scene.records[..4]);
    assert_eq!(scene.found(), scene.records[..4]);

    // No room there either, or the new end in the same block: without a mark.
    for (n, refused_from) in [(4, 0), (8, 1)] {
        let scene = Scene::new(Format::Sealed);
        let (end, new_end) = (old_end(&scene), scene.extent(n).1);
        assert_eq!(new_end / block == end / block, n == 8, "the scene is as this test wants it");
        scene.seam.rule(move |_, call| match call {
            Call::Write { offset, .. } if *offset >= end => Verdict::Fail(ENOSPC),
            _ => Verdict::Proceed,
        });
        let mut expected = sequence(&scene, n, None);
        let aligned = end.next_multiple_of(block);
        let tries = [wrote(aligned, mark(aligned, new_end)), Call::Truncate(end)];
        expected.splice(1..1, tries);
        if refused_from == 0 {
            expected.splice(3..3, [wrote(end, mark(end, new_end)), Call::Truncate(end)]);
        }
        scene.journal.truncate_back(n).unwrap();
        assert_eq!(scene.seam.take_io(), expected, "to {n}");
        assert_holds(&scene.journal, &scene.records[..n as usize]);
        assert_eq!(scene.found(), scene.records[..n as usize]);
    }
}

#[test]
fn a_mark_that_got_in_only_in_part_is_taken_off_before_the_next_attempt() {
    let scene = Scene::new(Format::Sealed);
    let aligned = old_end(&scene).next_multiple_of(scene.block());
    scene.seam.rule(move |_, call| match call {
        Call::Write { offset, .. } if *offset == aligned => Verdict::Short(7),
        Call::Write { offset, .. } if *offset > aligned => Verdict::Fail(ENOSPC),
        _ => Verdict::Proceed,
    });
    scene.journal.truncate_back(4).unwrap();
    assert_holds(&scene.journal, &scene.records[..4]);
    assert_eq!(scene.found(), scene.records[..4]);
}

/// What is left of a [`Scene`] whose truncation to `n` failed.
fn assert_nothing_changed(scene: Scene, snapshot: &Snapshot, when: &str) {
    let Scene { _dir, path, options, journal, mut records, .. } = scene;
    eprintln!("{when}: as before");
    assert_holds(&journal, &records);
    assert_eq!(found_in_copy(&options, &path), records, "{when}");
    fill(&journal, 5, 3, &mut records);
    journal.sync().unwrap();
    assert_holds(&journal, &records);
    assert_snapshot_holds(snapshot, &records[..9]);
    assert_eq!(found_in_copy(&options, &path), records, "{when}, and appended to");
    journal.truncate_back(5).unwrap();
    assert_holds(&journal, &records[..5]);
    journal.close().unwrap();
    assert_eq!(found_in_copy(&options, &path), records[..5], "{when}, and truncated");
}

/// What is left of a [`Scene`] that is poisoned: the records up to `n`, or up to the durable point if that is more.
fn assert_poisoned(scene: Scene, snapshot: &Snapshot, n: usize, when: &str) {
    let Scene { _dir, path, seam, options, journal, records } = scene;
    seam.allow_all();
    let mut reader = journal.reader();
    let served = reader.last_index() as usize;
    eprintln!("{when}: poisoned, serves {served}");
    assert!(served == n || served == 8, "{when}: serves up to {served}");
    assert!(matches!(reader.status(), ReaderStatus::Poisoned(_)));
    for (n, payload) in (1..).zip(&records) {
        if n <= served as u64 {
            assert_eq!(reader.get(n), Some(&payload[..]));
            assert_eq!(journal.read(n).unwrap(), *payload);
        } else {
            assert_eq!(reader.get(n), None);
            let error = journal.read(n).unwrap_err();
            assert!(matches!(error, Error::Poisoned { .. }), "{when}: {error}");
        }
    }
    let refused = |result: wally::Result<()>| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Poisoned { .. }), "{when}: {error}");
    };
    refused(journal.append(b"no").map(drop));
    refused(journal.flush());
    refused(journal.sync());
    refused(journal.truncate_back(1));
    assert_snapshot_holds(snapshot, &records[..9]);
    refused(journal.close());
    assert_snapshot_holds(snapshot, &records[..9]);
    let found = found_in_copy(&options, &path);
    assert!(found.len() >= n && found == records[..found.len()], "{when}: {} found at reopen", found.len());
}

#[test]
fn each_refusal_leaves_everything_as_it_was_or_poisons_with_what_is_kept() {
    for (format, n) in FORMATS.into_iter().flat_map(|f| [4, 7].map(|n| (f, n))) {
        let scene = Scene::new(format);
        scene.journal.truncate_back(n).unwrap();
        let steps = scene.seam.take_io();
        for (at, step) in steps.iter().enumerate() {
            for for_good in [false, true] {
                let scene = Scene::new(format);
                let snapshot = scene.journal.snapshot();
                scene.seam.fail_io(EIO, move |call| call == at || for_good && call > at);
                let error = scene.journal.truncate_back(n).unwrap_err();
                let when = format!("{format:?} to {n}, call {at} refused, for good: {for_good}");
                // A mark or a seal that could not be written is taken back, if that can be written and synced.
                let last_write = steps.iter().rposition(Call::is_write);
                let can_go_back = step.is_write() && Some(at) != last_write && !for_good;
                match error {
                    Error::Io { .. } if can_go_back => {
                        scene.seam.allow_all();
                        assert_nothing_changed(scene, &snapshot, &when);
                    }
                    Error::Poisoned { .. } if !can_go_back => {
                        assert_poisoned(scene, &snapshot, n as usize, &when);
                    }
                    other => panic!("{when}: {other}"),
                }
            }
        }
    }
}

#[test]
fn without_room_for_the_last_mark_the_cut_stands_unmarked() {
    let scene = Scene::new(Format::Sealed);
    let end = scene.extent(7).1;
    scene.seam.rule(move |_, call| match call {
        Call::Write { offset, .. } if *offset == end => Verdict::Fail(ENOSPC),
        _ => Verdict::Proceed,
    });
    scene.journal.truncate_back(7).unwrap();
    assert_eq!(scene.seam.take_io().last(), Some(&Call::Sync));
    assert_eq!(std::fs::metadata(&scene.path).unwrap().len(), end);
    assert_holds(&scene.journal, &scene.records[..7]);
    assert_eq!(scene.found(), scene.records[..7]);
    scene.seam.allow_all();
    let mut records = scene.records[..7].to_vec();
    fill(&scene.journal, 1, 3, &mut records);
    assert_holds(&scene.journal, &records);
    assert_eq!(scene.found(), records);
}

#[test]
fn clearing_without_room_for_the_mark_of_an_empty_journal_leaves_an_empty_file_that_goes_on() {
    let scene = Scene::new(Format::Sealed);
    let snapshot = scene.journal.snapshot();
    scene.seam.rule(move |_, call| match call {
        Call::Write { offset: 0, .. } => Verdict::Fail(ENOSPC),
        _ => Verdict::Proceed,
    });
    scene.journal.truncate_back(0).unwrap();
    assert_eq!((scene.journal.last_index(), std::fs::metadata(&scene.path).unwrap().len()), (0, 0));
    assert_eq!(scene.found(), Vec::<Vec<u8>>::new());
    let lent = &scene.records[..snapshot.last_index() as usize];
    assert!(lent.len() > 7 && snapshot.iter().map(|(_, bytes)| bytes).eq(lent), "a snapshot changed");
    scene.journal.append(b"no").and_then(|_| scene.journal.flush()).unwrap_err();
    scene.seam.allow_all();
    let mut records: Vec<_> = (1..=scene.journal.last_index()).map(|_| b"no".to_vec()).collect();
    fill(&scene.journal, 1, 3, &mut records);
    scene.journal.sync().unwrap();
    assert_holds(&scene.journal, &records);
    assert_eq!(scene.found(), records);
}

/// What a copy of the file holds as it was before and after each call of a truncation.
#[test]
fn a_process_that_dies_at_any_call_leaves_all_records_or_those_that_are_kept() {
    for (format, n) in FORMATS.into_iter().flat_map(|f| [0, 4, 7].map(|n| (f, n))) {
        let mut calls = 1;
        let mut at = 0;
        while at <= calls {
            let scene = Scene::new(format);
            let (path, image) = (scene.path.clone(), scene.path.with_extension("image"));
            let (from, to, mut seen) = (path, image.clone(), 0);
            scene.seam.rule(move |_, call| {
                if call.is_io() {
                    if seen == at {
                        std::fs::copy(&from, &to).unwrap();
                    }
                    seen += 1;
                }
                Verdict::Proceed
            });
            scene.journal.truncate_back(n).unwrap();
            calls = scene.seam.take_io().len();
            if at == calls {
                std::fs::copy(&scene.path, &image).unwrap();
            }
            let found = all(&scene.options.open(&image).unwrap());
            assert!(found == scene.records[..found.len()], "a prefix");
            let possible = if at == calls { vec![n as usize] } else { vec![n as usize, 9] };
            assert!(possible.contains(&found.len()), "{format:?} to {n}, call {at}: {} found", found.len());
            at += 1;
        }
    }
}

#[test]
fn a_removed_record_never_comes_back_at_a_reopen() {
    for (format, policy) in
        FORMATS.into_iter().flat_map(|f| [SyncPolicy::OnDemand, SyncPolicy::Always].map(|p| (f, p)))
    {
        let (_dir, path) = place();
        let options = on_demand().new_file_format(format).sync_policy(policy).clone();
        let mut rng = Rng::new(3);
        let mut records = Vec::new();
        for generation in 0..6 {
            let journal = options.open(&path).unwrap();
            assert_holds(&journal, &records);
            for step in 0..3 {
                fill(&journal, generation * 3 + step, 2 + rng.below(6), &mut records);
                if rng.below(2) == 0 {
                    journal.flush().unwrap();
                }
                let n = rng.below(records.len() + 1) as u64;
                journal.truncate_back(n).unwrap();
                records.truncate(n as usize);
                assert_eq!(found_in_copy(&options, &path), records, "a crash right after");
            }
            match rng.below(2) {
                0 => journal.close().unwrap(),
                _ => drop(journal),
            }
        }
    }
}

#[test]
fn a_read_that_begins_after_a_truncation_returned_sees_nothing_it_removed() {
    for mode in [IndexMode::Full, IndexMode::Sparse(4), IndexMode::Scan] {
        let (_dir, path) = place();
        let journal = on_demand().index(mode).open(&path).unwrap();
        let mut records = Vec::new();
        let (ask, asked) = mpsc::channel::<(u64, u64)>();
        let (answer, answered) = mpsc::channel();
        let mut reader = journal.reader();
        let mut here = journal.reader();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for (last, generation) in asked {
                    assert_eq!(reader.last_index(), last);
                    let newest = if last == 0 { None } else { reader.get(last).and_then(|b| check(last, b)) };
                    assert!(last == 0 || newest == Some(generation), "{newest:?} is not {generation}");
                    for beyond in last + 1..last + 9 {
                        assert!(reader.get(beyond).is_none(), "record {beyond} was removed");
                    }
                    answer.send(()).unwrap();
                }
            });
            let meet = |records: &[u64]| {
                ask.send((records.len() as u64, records.last().copied().unwrap_or(0))).unwrap();
                answered.recv().unwrap();
            };
            let mut rng = Rng::new(8);
            for generation in 0..60 {
                for _ in 0..8 {
                    records.push(generation);
                    let n = records.len() as u64;
                    journal.append(&payload(generation, n, 24 + rng.below(200))).unwrap();
                }
                journal.flush().unwrap();
                meet(&records);
                let n = (records.len() as u64).saturating_sub(rng.below(9) as u64);
                journal.truncate_back(n).unwrap();
                records.truncate(n as usize);
                assert_eq!((here.last_index(), here.get(n + 1)), (n, None));
                meet(&records);
            }
            drop(ask);
        });
    }
}

#[test]
fn a_durable_append_that_is_synced_and_then_cut_is_acknowledged() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = Options::new().buffer_size(4096).seam(seam.clone()).open(&path).unwrap();
    journal.append(b"kept").unwrap();
    for round in 0..30 {
        // The append is too large for the buffer, so it holds the append lock while it writes; it is let go once the
        // other thread is on its way to truncate. The truncation therefore always comes after the append's commit,
        // and mostly takes the sync slot before it: either way the append was synced and then cut.
        seam.hold_one(|_, call| call.written() > 8192);
        std::thread::scope(|scope| {
            let append = scope.spawn(|| journal.append(&payload(round, 2, 9000)));
            seam.wait_held();
            let truncate = scope.spawn(|| {
                seam.release();
                journal.truncate_back(1)
            });
            truncate.join().unwrap().unwrap();
            assert_eq!(append.join().unwrap().unwrap(), 2);
        });
        assert_eq!((journal.last_index(), journal.durable_index()), (1, 1));
    }
    assert_eq!(found_in_copy(&Options::new(), Path::new(&path)), [b"kept"]);
}
