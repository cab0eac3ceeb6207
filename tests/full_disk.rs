//! No room for real: a limit on the file's size, and a small file system that fills up.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{payload, place};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wally::{Error, Journal, Options, SyncPolicy};

const EFBIG: i32 = 27;
const ENOSPC: i32 = 28;
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

/// Runs the test `name` in a process that does not die of the signal that a limit on the file's size brings.
fn without_the_signal(name: &str) {
    let output = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
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
        return without_the_signal("a_limit_on_the_file_size_refuses_appends_until_it_is_raised");
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
        return without_the_signal("under_a_limit_on_the_file_size_no_zeros_are_written_ahead");
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
        return without_the_signal("truncating_makes_room_below_a_limit_on_the_file_size");
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

/// A file system in memory of 256 KiB, gone when this is dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
        let mounted = rustix::process::geteuid().is_root()
            && Command::new("mount")
                .args(mount)
                .arg(dir.path())
                .output()
                .is_ok_and(|out| out.status.success());
        if !mounted {
            println!("skipped: no right to mount");
        }
        mounted.then_some(Self(dir))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room() {
    for policy in POLICIES {
        let Some(mounted) = Mounted::new() else { return };
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
            let Some(mounted) = Mounted::new() else { return };
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
        let Some(mounted) = Mounted::new() else { return };
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
        let Some(mounted) = Mounted::new() else { return };
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
