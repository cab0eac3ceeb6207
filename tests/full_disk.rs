//! No room for real: a limit on the file's size, and a small file system that fills up.

mod common;

use std::path::Path;
use std::process::Command;

use common::built::{BARRIER, Built, CONTINUED};
use common::mounted::Mounted;
use common::seam::{EFBIG, ENOSPC};
use common::{payload, place};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wally::{Error, Journal, Options, Recovery, SyncPolicy, Verdict};

const POLICIES: [SyncPolicy; 2] = [SyncPolicy::Always, SyncPolicy::OnDemand];

fn options(policy: SyncPolicy) -> Options {
    let mut options = Options::new();
    options.sync_policy(policy).buffer_size(4096);
    options
}

fn code(error: &Error) -> Option<i32> {
    match error {
        Error::Io { source, .. } => source.raw_os_error(),
        _ => None,
    }
}

/// Appends records of many sizes until some were refused with `expected`; what was not refused.
fn fill(journal: &Journal, expected: i32) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut refused = 0;
    for salt in 0.. {
        let bytes = payload(salt, [900, 10, 3000, 0, 6000][salt as usize % 5]);
        match journal.append(&bytes) {
            Ok(n) => {
                records.push(bytes);
                assert_eq!(n, records.len() as u64);
            }
            Err(error) => {
                assert_eq!(code(&error), Some(expected), "{error}");
                refused += 1;
            }
        }
        assert_eq!(journal.last_index(), records.len() as u64);
        if refused == 20 {
            break;
        }
    }
    records
}

fn assert_reads(journal: &Journal, records: &[Vec<u8>]) {
    assert_eq!(journal.last_index(), records.len() as u64);
    for (n, bytes) in (1..).zip(records) {
        assert!(journal.read(n).unwrap() == *bytes, "record {n}");
    }
}

/// Fills, checks, makes room, goes on, closes and opens again.
fn fill_and_go_on(path: &Path, policy: SyncPolicy, expected: i32, make_room: impl FnOnce(&Journal)) {
    let journal = options(policy).open(path).unwrap();
    let mut records = fill(&journal, expected);
    let committed = journal.committed_index();
    assert!(committed > 3);
    for n in 1..=committed {
        assert!(journal.read(n).unwrap() == records[n as usize - 1], "record {n}");
    }
    let (len, end) = (std::fs::metadata(path).unwrap().len(), journal.stats().committed_bytes);
    assert!((end..=end + 16).contains(&len), "the records, and a mark if there was room: {len} {end}");
    if policy == SyncPolicy::Always {
        assert_eq!(journal.durable_index(), journal.last_index());
    }
    make_room(&journal);
    records.truncate(journal.last_index() as usize);
    for salt in 0..5 {
        records.push(payload(1000 + salt, 6000));
        assert_eq!(journal.append(&records[records.len() - 1]).unwrap(), records.len() as u64);
    }
    assert_reads(&journal, &records);
    journal.close().unwrap();
    assert_reads(&options(policy).open(path).unwrap(), &records);
}

/// Runs the test `name` in a process of its own, since a limit on the size of files binds all of it. Nothing keeps the
/// signal away that the system sends with a write beyond the limit, so one such write ends the process.
fn in_a_process_of_its_own(name: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("WALLY_TEST_CHILD", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("done in a process of its own"), "{output:?}");
}

fn limit_file_size(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

#[test]
fn a_limit_on_the_file_size_refuses_appends_until_it_is_raised() {
    if std::env::var_os("WALLY_TEST_CHILD").is_none() {
        return in_a_process_of_its_own("a_limit_on_the_file_size_refuses_appends_until_it_is_raised");
    }
    for policy in POLICIES {
        // Ends within a record, and within a header.
        for limit in [60_000, 39_017] {
            let (_dir, path) = place();
            limit_file_size(Some(limit));
            fill_and_go_on(&path, policy, EFBIG, |journal| {
                assert!(std::fs::metadata(journal.path()).unwrap().len() <= limit);
                limit_file_size(None);
            });
        }
    }
    println!("done in a process of its own");
}

#[test]
fn under_a_limit_on_the_file_size_no_zeros_are_written_ahead() {
    if std::env::var_os("WALLY_TEST_CHILD").is_none() {
        return in_a_process_of_its_own("under_a_limit_on_the_file_size_no_zeros_are_written_ahead");
    }
    let (_dir, path) = place();
    limit_file_size(Some(1 << 30));
    let journal = options(SyncPolicy::Always).preallocate(4096).open(&path).unwrap();
    common::past_the_first_syncs(&journal);
    for salt in 0..100 {
        journal.append(&payload(salt, 84)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), journal.stats().committed_bytes);
    }
    limit_file_size(None);
    for salt in 0..100 {
        journal.append(&payload(salt, 84)).unwrap();
    }
    assert!(std::fs::metadata(&path).unwrap().len() > journal.stats().committed_bytes, "the limit is gone");
    println!("done in a process of its own");
}

#[test]
fn truncating_makes_room_below_a_limit_on_the_file_size() {
    if std::env::var_os("WALLY_TEST_CHILD").is_none() {
        return in_a_process_of_its_own("truncating_makes_room_below_a_limit_on_the_file_size");
    }
    for policy in POLICIES {
        let (_dir, path) = place();
        limit_file_size(Some(60_000));
        let journal = options(policy).open(&path).unwrap();
        let mut records = fill(&journal, EFBIG);
        // What is staged does not fit, and need not: it goes.
        assert_eq!(journal.committed_index() < journal.last_index(), policy == SyncPolicy::OnDemand);
        records.truncate(3);
        journal.truncate_back(3).unwrap();
        records.push(payload(7, 20_000));
        assert_eq!(journal.append(&records[3]).unwrap(), 4);
        assert_reads(&journal, &records);
        journal.close().unwrap();
        assert_reads(&options(policy).open(&path).unwrap(), &records);
        limit_file_size(None);
    }
    println!("done in a process of its own");
}

/// Two records and a batch of four, synced, and what they are.
fn with_a_batch(path: &Path, policy: SyncPolicy) -> (Journal, Vec<Vec<u8>>) {
    let journal = options(policy).open(path).unwrap();
    let records: Vec<Vec<u8>> = (0..6).map(|salt| payload(salt, 4000)).collect();
    journal.append(&records[0]).unwrap();
    journal.append(&records[1]).unwrap();
    journal.append_batch(&records[2..]).unwrap();
    journal.sync().unwrap();
    (journal, records)
}

#[test]
fn a_record_that_ends_at_the_limit_gets_in_and_the_journal_is_closed_without_a_mark() {
    if std::env::var_os("WALLY_TEST_CHILD").is_none() {
        return in_a_process_of_its_own(
            "a_record_that_ends_at_the_limit_gets_in_and_the_journal_is_closed_without_a_mark",
        );
    }
    for policy in POLICIES {
        // Through the buffer and past it.
        for len in [100, 20_000] {
            for (too_much, batch) in [(0, false), (1, false), (0, true), (1, true)] {
                let (_dir, path) = place();
                let journal = options(policy).open(&path).unwrap();
                journal.append(b"one").unwrap();
                journal.flush().unwrap();
                let end = journal.stats().committed_bytes + if batch { 2 } else { 1 } * (16 + len as u64);
                limit_file_size(Some(end - too_much));
                let record = payload(1, len);
                let done = match batch {
                    false => journal.append(&record).map(drop),
                    true => journal.append_batch([&record, &record]).map(drop),
                };
                // What is staged is refused when it is written.
                let done = done.and_then(|()| journal.flush());
                if too_much > 0 {
                    assert_eq!(code(&done.unwrap_err()), Some(EFBIG));
                    assert_eq!(journal.committed_index(), 1);
                    if journal.last_index() > 1 {
                        assert_eq!(
                            code(&journal.close().unwrap_err()),
                            Some(EFBIG),
                            "staged records are lost"
                        );
                    } else {
                        journal.close().unwrap();
                    }
                } else {
                    done.unwrap();
                    journal.close().unwrap();
                    assert_eq!(std::fs::metadata(&path).unwrap().len(), end, "there is no room for a mark");
                }
                let journal = options(policy).recovery_policy(Recovery::Strict).open(&path).unwrap();
                let expected = if too_much > 0 {
                    1
                } else if batch {
                    3
                } else {
                    2
                };
                assert_eq!(journal.last_index(), expected);
                assert!((2..=expected).all(|n| journal.read(n).unwrap() == record));
                journal.close().unwrap();
                limit_file_size(None);
            }
        }
    }
    println!("done in a process of its own");
}

#[test]
fn a_journal_that_is_longer_than_the_limit_is_truncated_or_left_as_it_is() {
    if std::env::var_os("WALLY_TEST_CHILD").is_none() {
        return in_a_process_of_its_own(
            "a_journal_that_is_longer_than_the_limit_is_truncated_or_left_as_it_is",
        );
    }
    for policy in POLICIES {
        for kept in 0..=6 {
            let (_dir, path) = place();
            let (journal, records) = with_a_batch(&path, policy);
            // Before the second record ends, so that the batch lies beyond it.
            limit_file_size(Some(8000));
            assert_eq!(code(&journal.append(&payload(9, 6000)).unwrap_err()), Some(EFBIG));
            let cut = journal.truncate_back(kept);
            // A record of the batch cannot be taken out of it without a write beyond the limit.
            let kept = if (3..6).contains(&kept) {
                assert_eq!(code(&cut.unwrap_err()), Some(EFBIG));
                6
            } else {
                cut.unwrap();
                kept
            };
            let kept = kept as usize;
            assert_reads(&journal, &records[..kept]);
            if kept < 2 {
                assert_eq!(journal.append(&payload(7, 500)).unwrap(), kept as u64 + 1);
                journal.truncate_back(kept as u64).unwrap();
            }
            journal.close().unwrap();
            let journal = options(policy).recovery_policy(Recovery::Strict).open(&path).unwrap();
            assert_reads(&journal, &records[..kept]);
            limit_file_size(None);
            journal.append(b"there is room again").unwrap();
        }
    }
    println!("done in a process of its own");
}

#[test]
fn what_readers_hold_is_kept_below_the_limit_and_else_refused() {
    if std::env::var_os("WALLY_TEST_CHILD").is_none() {
        return in_a_process_of_its_own("what_readers_hold_is_kept_below_the_limit_and_else_refused");
    }
    for policy in POLICIES {
        let (_dir, path) = place();
        let (journal, records) = with_a_batch(&path, policy);
        let snapshot = journal.snapshot();
        // Memory for lent pages is a file to the system.
        limit_file_size(Some(8000));
        let error = journal.truncate_back(1).unwrap_err();
        assert!(matches!(error, Error::ReadersActive { .. }), "{error}");
        assert_reads(&journal, &records);
        // The last page is not all the journal's, and a file that is cut to it would be longer than the limit.
        limit_file_size(Some(journal.stats().committed_bytes));
        journal.truncate_back(1).unwrap();
        for (n, bytes) in (1..).zip(&records) {
            assert!(snapshot.get(n) == Some(&bytes[..]), "record {n}");
        }
        assert_reads(&journal, &records[..1]);
        limit_file_size(None);
    }
    println!("done in a process of its own");
}

#[test]
fn an_empty_journal_stays_one_where_not_even_its_mark_could_be_written() {
    if std::env::var_os("WALLY_TEST_CHILD").is_none() {
        return in_a_process_of_its_own(
            "an_empty_journal_stays_one_where_not_even_its_mark_could_be_written",
        );
    }
    for policy in POLICIES {
        for limit in [0, 1, 15] {
            let (_dir, path) = place();
            limit_file_size(Some(limit));
            assert_eq!(code(&options(policy).open(&path).unwrap_err()), Some(EFBIG));
            assert!(!path.exists());
            limit_file_size(None);
            let journal = options(policy).open(&path).unwrap();
            limit_file_size(Some(limit));
            for len in [0, 100, 5000] {
                let refused = journal.append(&payload(1, len)).and_then(|_| journal.flush());
                assert_eq!(code(&refused.unwrap_err()), Some(EFBIG), "{len}");
                assert_eq!(journal.committed_index(), 0);
            }
            limit_file_size(None);
            journal.append(b"there is room").unwrap();
            let last = journal.last_index();
            journal.sync().unwrap();
            assert_eq!(journal.read(last).unwrap(), b"there is room");
            // To nothing: the mark of that has no room, so nothing stays of the file.
            limit_file_size(Some(limit));
            journal.truncate_back(0).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
            let refused = journal.append(b"").and_then(|_| journal.flush());
            assert_eq!(code(&refused.unwrap_err()), Some(EFBIG));
            if policy != SyncPolicy::Always {
                journal.truncate_back(0).unwrap();
            }
            journal.close().unwrap();
            let journal = options(policy).recovery_policy(Recovery::Strict).open(&path).unwrap();
            assert!(journal.is_empty());
            limit_file_size(None);
            journal.append(b"there is room again").unwrap();
            journal.close().unwrap();
            let journal = options(policy).recovery_policy(Recovery::Strict).open(&path).unwrap();
            assert_eq!(journal.read(1).unwrap(), b"there is room again");
        }
    }
    println!("done in a process of its own");
}

#[test]
fn what_recovery_cannot_keep_below_the_limit_it_does_not_cut() {
    if std::env::var_os("WALLY_TEST_CHILD").is_none() {
        return in_a_process_of_its_own("what_recovery_cannot_keep_below_the_limit_it_does_not_cut");
    }
    let (dir, path) = place();
    let (journal, records) = with_a_batch(&path, SyncPolicy::OnDemand);
    journal.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4016 + 50] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    limit_file_size(Some(8000));
    let mut options = options(SyncPolicy::OnDemand);
    options.recovery_policy(Recovery::FirstInvalid);
    assert_eq!(code(&options.open(&path).unwrap_err()), Some(EFBIG));
    assert!(std::fs::read(&path).unwrap() == bytes);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of what did not fit");
    // It is cut in front of the limit, so that the mark of the new end has room.
    limit_file_size(Some(bytes.len() as u64 - 4016));
    let journal = options.open(&path).unwrap();
    assert_reads(&journal, &records[..1]);
    assert!(std::fs::read(journal.recovery().quarantine.as_ref().unwrap()).unwrap() == bytes[4016..]);
    println!("done in a process of its own");
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room() {
    for policy in POLICIES {
        let Some(mounted) = Mounted::new("tmpfs", 256 << 10) else { return };
        std::fs::write(mounted.path("other"), vec![1; 100 << 10]).unwrap();
        fill_and_go_on(&mounted.path("journal"), policy, ENOSPC, |_| {
            std::fs::remove_file(mounted.path("other")).unwrap();
        });
    }
}

/// Where records are staged that the disk has no room for, everything can be removed that includes them.
#[test]
fn a_full_disk_takes_truncations_that_remove_what_is_staged() {
    for policy in POLICIES {
        for keep in [|_: &Journal| 0, Journal::committed_index, |_: &Journal| 3] {
            let Some(mounted) = Mounted::new("tmpfs", 256 << 10) else { return };
            std::fs::write(mounted.path("other"), vec![1; 100 << 10]).unwrap();
            let path = mounted.path("journal");
            let journal = options(policy).open(&path).unwrap();
            let mut records = fill(&journal, ENOSPC);
            let (committed, last) = (journal.committed_index(), journal.last_index());
            assert_eq!(committed < last, policy == SyncPolicy::OnDemand, "something is staged");
            let snapshot = journal.snapshot();
            if committed < last {
                // That has to be written, and cannot be: nothing is changed.
                assert_eq!(code(&journal.truncate_back(last).unwrap_err()), Some(ENOSPC));
                assert_eq!((journal.committed_index(), journal.last_index()), (committed, last));
            }
            let n = keep(&journal);
            journal.truncate_back(n).unwrap();
            assert_eq!((journal.last_index(), journal.durable_index()), (n, n));
            for (n, bytes) in (1..=committed).zip(&records) {
                assert_eq!(snapshot.get(n), Some(&bytes[..]));
            }
            records.truncate(n as usize);
            assert_reads(&journal, &records);
            std::fs::remove_file(mounted.path("other")).unwrap();
            records.push(payload(7, 6000));
            assert_eq!(journal.append(&records[n as usize]).unwrap(), n + 1);
            drop(snapshot);
            journal.close().unwrap();
            assert_reads(&options(policy).open(&path).unwrap(), &records);
        }
    }
}

#[test]
fn an_empty_journal_on_a_full_disk_stays_a_journal() {
    for policy in POLICIES {
        let Some(mounted) = Mounted::new("tmpfs", 256 << 10) else { return };
        let path = mounted.path("journal");
        let journal = options(policy).open(&path).unwrap();
        // The last page goes too.
        std::fs::write(mounted.path("other"), vec![1; 256 << 10]).unwrap_err();
        for _ in 0..3 {
            assert_eq!(code(&journal.append(&payload(1, 8000)).unwrap_err()), Some(ENOSPC));
            assert_eq!((journal.last_index(), std::fs::metadata(&path).unwrap().len()), (0, 16));
        }
        journal.append(b"fits the page that is there").unwrap();
        journal.close().unwrap();
        let journal = options(policy).open(&path).unwrap();
        assert_eq!(journal.read(1).unwrap(), b"fits the page that is there");
        std::fs::remove_file(mounted.path("other")).unwrap();
        assert_eq!(journal.append(&payload(1, 8000)).unwrap(), 2);
    }
}

#[test]
fn a_batch_that_does_not_fit_the_disk_is_refused_whole() {
    for policy in POLICIES {
        let Some(mounted) = Mounted::new("tmpfs", 256 << 10) else { return };
        let path = mounted.path("journal");
        let journal = options(policy).open(&path).unwrap();
        journal.append(b"before").unwrap();
        // In many calls, most of which find room.
        let error = journal.append_batch(vec![payload(1, 1000); 300]).unwrap_err();
        assert_eq!(code(&error), Some(ENOSPC), "{error}");
        assert_eq!(journal.last_index(), 1);
        assert_eq!(
            journal.append_batch(vec![payload(1, 1000); 200]).unwrap(),
            2..=201,
            "its space is free again"
        );
        journal.close().unwrap();
        let journal = options(policy).open(&path).unwrap();
        assert_eq!((journal.last_index(), journal.read(1).unwrap()), (201, b"before".to_vec()));
    }
}

/// A truncation that a crash interrupted is finished without room for anything: what the user asked to remove is removed
/// and not kept.
#[test]
fn an_interrupted_truncation_is_finished_on_a_full_disk() {
    let record = |built: Built, n: u8, flags| built.sealed(&vec![n; 3000], flags);
    let whole = (0..4).fold(Built::new(), |built, n| record(built, n, BARRIER));
    // The second record ends where a block does, so that its mark would need another.
    let even = record(Built::new(), 0, BARRIER).sealed(&[1; 8192 - 3016 - 16], BARRIER);
    let even = record(record(even, 2, BARRIER), 3, 0);
    let batch = record(record(Built::new(), 0, BARRIER), 1, CONTINUED);
    let batch = record(record(batch, 2, CONTINUED), 3, 0);
    let cut = |built: &Built, end: u64| {
        let aligned = built.len().next_multiple_of(4096);
        built.clone().zeros((aligned - built.len()) as usize).mark(end).0
    };
    for (kind, size) in [("tmpfs", 1 << 20), ("ext4", 4 << 20), ("btrfs", 120 << 20)] {
        let Some(mounted) = Mounted::new(kind, size) else { continue };
        let images = [
            (cut(&whole, 6032), 2),
            (whole.clone().mark(6032).0, 2),
            (cut(&even, 8192), 2),
            (cut(&whole, 0), 0),
            (cut(&batch, 6032), 2),
        ];
        // Each its own file, since a full disk gives no room for another.
        let ways = [
            (Recovery::TornTail, false),
            (Recovery::TornTail, true),
            (Recovery::FirstInvalid, true),
            (Recovery::Strict, true),
        ];
        let place = |image: usize, way: usize| mounted.path(&format!("journal-{image}-{way}"));
        for (at, (image, _)) in images.iter().enumerate() {
            for way in 0..ways.len() + 2 {
                std::fs::write(place(at, way), image).unwrap();
            }
        }
        mounted.sync();
        mounted.fill();
        let names = || std::fs::read_dir(mounted.path("")).unwrap().count();
        let before = names();
        for (at, (image, records)) in images.iter().enumerate() {
            if kind == "btrfs" && at == 4 {
                // The last record that stays has to leave its batch first, and that takes a new block there.
                continue;
            }
            let context = format!("{kind}, image {at}");
            for (way, (policy, quarantine)) in ways.into_iter().enumerate() {
                let path = place(at, way);
                // What was cut has made room.
                mounted.fill();
                let mut options = options(SyncPolicy::Always);
                let journal = options.recovery_policy(policy).quarantine(quarantine).open(&path);
                let journal = journal.unwrap_or_else(|error| panic!("{context}: {error}"));
                let report = journal.recovery();
                assert_eq!(report.verdict, Verdict::TruncationFinished, "{context}");
                assert_eq!(report.cut_bytes, image.len() as u64 - report.bytes, "{context}");
                assert_eq!((report.records, &report.quarantine), (*records, &None), "{context}");
                for n in 1..=*records {
                    assert_eq!(journal.read(n).unwrap()[0] as u64, n - 1, "{context}");
                }
                journal.close().unwrap_or_else(|error| panic!("{context}: {error}"));
                let again = options.recovery_policy(Recovery::Strict).open(&path).unwrap();
                assert_eq!(again.last_index(), *records, "{context}");
            }
            for (way, args) in [(4, &["repair"][..]), (5, &["truncate", "--keep", "0"])] {
                let path = place(at, way);
                mounted.fill();
                let ran = Command::new(env!("CARGO_BIN_EXE_wally")).args(args).arg(&path).output().unwrap();
                assert!(ran.status.success(), "{context}: {args:?}: {ran:?}");
                let left = Options::new().open(&path).unwrap().last_index();
                assert_eq!(left, if way == 4 { *records } else { 0 }, "{context}");
            }
        }
        assert_eq!(names(), before, "{kind}: nothing is kept beside a journal");
    }
}

/// Copy on write: the mark at 0 cannot be written over, though its place is there.
#[test]
fn an_empty_journal_on_a_full_btrfs_is_refused_and_goes_on_when_there_is_room() {
    for policy in POLICIES {
        let Some(mounted) = Mounted::new("btrfs", 120 << 20) else { return };
        let path = mounted.path("journal");
        let mut journal = options(policy).open(&path).unwrap();
        mounted.sync();
        mounted.fill();
        for round in 0..2 {
            for len in [8000, 0, 40] {
                let refused = journal.append(&payload(1, len)).and_then(|_| journal.sync());
                assert_eq!(code(&refused.unwrap_err()), Some(ENOSPC), "{policy:?}, round {round}");
                assert_eq!(journal.committed_index(), 0);
            }
            if policy == SyncPolicy::Always {
                assert_eq!(journal.last_index(), 0);
                // Nothing is staged, so nothing is lost; and it is a journal on the full disk, too.
                journal.close().unwrap();
                journal = options(policy).recovery_policy(Recovery::Strict).open(&path).unwrap();
                assert_eq!(journal.last_index(), 0);
            }
        }
        mounted.empty();
        let staged = journal.last_index();
        assert_eq!(journal.append(b"after").unwrap(), staged + 1);
        journal.close().unwrap();
        let journal = options(policy).open(&path).unwrap();
        assert_eq!(journal.read(staged + 1).unwrap(), b"after");
    }
}

#[test]
fn a_full_btrfs_refuses_appends_until_there_is_room() {
    for policy in POLICIES {
        let Some(mounted) = Mounted::new("btrfs", 120 << 20) else { return };
        let path = mounted.path("journal");
        mounted.fill();
        mounted.spare(1 << 20);
        fill_and_go_on(&path, policy, ENOSPC, |_| mounted.empty());
    }
}
