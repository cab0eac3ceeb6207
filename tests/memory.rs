//! What an open journal costs in memory while nobody uses it, and what happens where there is not enough. Each is looked
//! at in a process that does nothing else: what a program has freed before is not given back to the system at once, and
//! would be counted; and a limit is for all of a process.
#![cfg(target_os = "linux")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{payload, place, place_in_memory};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wally::{Error, Journal, Options, SyncPolicy};

const RECORDS: u64 = 64;

/// A figure of this process in bytes, by its name in `/proc/self/status`.
fn figure(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// The path that a test was started for as a process of its own.
fn child() -> Option<PathBuf> {
    std::env::var_os("WALLY_TEST_MEASURE").map(PathBuf::from)
}

/// Runs `test` once more, alone in a process, for `path`.
fn run_alone(test: &str, path: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output =
        child.args([test, "--exact", "--nocapture"]).env("WALLY_TEST_MEASURE", path).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{told}{errors}");
}

fn options() -> Options {
    let mut options = Options::new();
    // The policy with a thread of its own.
    options.sync_policy(SyncPolicy::Interval(Duration::from_secs(3600)));
    options
}

/// Opens the journal, uses it a little, and looks at what is left when it idles.
fn measure(path: &Path) {
    let before = figure("RssAnon");
    let journal = options().open(path).unwrap();
    let mut reader = journal.reader();
    for n in 1..=RECORDS {
        assert!(reader.get(n).is_some_and(|record| record.contains(&1)));
    }
    journal.append(b"not idle yet").unwrap();
    journal.sync().unwrap();
    let taken = figure("RssAnon").saturating_sub(before);
    assert!(taken < 1 << 20, "{taken} bytes");
}

#[test]
fn an_idle_journal_takes_less_than_a_mebibyte_beyond_its_mapped_file() {
    if let Some(path) = child() {
        return measure(&path);
    }
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    for n in 0..RECORDS {
        journal.append(&payload(n, 1 << 20)).unwrap();
    }
    journal.close().unwrap();
    run_alone("an_idle_journal_takes_less_than_a_mebibyte_beyond_its_mapped_file", &path);
}

/// Leaves this process `bytes` more than it has of `resource`; returns the limit as it was.
fn leave(resource: Resource, has: &str, bytes: u64) -> Rlimit {
    let before = getrlimit(resource);
    setrlimit(resource, Rlimit { current: Some(figure(has) + bytes), ..before }).unwrap();
    before
}

fn assert_holds(journal: &Journal, records: u64) {
    assert_eq!((journal.committed_index(), journal.last_index()), (records, records));
    let mut reader = journal.reader();
    for n in (1..=records).step_by(997).chain([records]) {
        assert_eq!(reader.get(n), Some(&[n as u8][..]), "{n}");
    }
    assert_eq!(reader.get(records + 1), None);
}

#[test]
fn an_index_makes_do_with_little_address_space() {
    let Some(path) = child() else {
        let (_dir, path) = place_in_memory();
        return run_alone("an_index_makes_do_with_little_address_space", &path);
    };
    leave(Resource::As, "VmSize", 128 << 20);
    let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(path).unwrap();
    let records = 1_000_000;
    for n in 1..=records {
        assert_eq!(journal.append(&[n as u8]).unwrap(), n);
    }
    journal.flush().unwrap();
    assert_holds(&journal, records);
}

#[test]
fn an_append_without_memory_for_its_index_is_refused_and_leaves_nothing() {
    let Some(path) = child() else {
        let (_dir, path) = place_in_memory();
        return run_alone("an_append_without_memory_for_its_index_is_refused_and_leaves_nothing", &path);
    };
    let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(path).unwrap();
    let batch: Vec<[u8; 1]> = (1..=100_000u64).map(|n| [n as u8]).collect();
    let mut records = journal.append_batch(&batch).unwrap().count() as u64;
    let refused = |error| match error {
        Error::Io { op, source, .. } => {
            assert_eq!(op, "make room in the index of");
            assert_eq!(source.raw_os_error(), Some(rustix::io::Errno::NOMEM.raw_os_error()));
        }
        other => panic!("{other}"),
    };
    let before = leave(Resource::Data, "VmData", 2 << 20);
    // As much as a step of usable memory has room for may still fit.
    loop {
        match journal.append(&[(records + 1) as u8]) {
            Ok(n) => records = n,
            Err(error) => break refused(error),
        }
        assert!(records < 10_000_000);
    }
    refused(journal.append(b"refused as well").unwrap_err());
    refused(journal.append_batch([b"a", b"b"]).unwrap_err());
    assert_eq!(journal.last_index(), records);
    journal.flush().unwrap();
    assert_holds(&journal, records);
    setrlimit(Resource::Data, before).unwrap();
    for _ in 0..100_000 {
        records += 1;
        assert_eq!(journal.append(&[records as u8]).unwrap(), records);
    }
    journal.flush().unwrap();
    assert_holds(&journal, records);
}
