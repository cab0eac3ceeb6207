//! P3: reading a committed record makes no system call. A thread reads under a seccomp filter that allows none, so that the
//! kernel ends the process at the first. Each run is a process of its own; one that makes a system call on purpose is the
//! control.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod common;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{payload, place};
use seccompiler::{SeccompAction, SeccompFilter};
use wally::{IndexMode, Journal, Options, Reader, Snapshot, SyncPolicy};

const RECORDS: u64 = 5000;
const CHILD: &str = "WALLY_TEST_SECCOMP";
/// What a child ends with if all went well: a panic ends it with another code.
const DONE: i32 = 42;
/// The signal of a forbidden system call.
const SIGSYS: i32 = 31;

/// From here on the kernel ends the process if this thread makes a system call.
fn forbid_system_calls() {
    let filter = SeccompFilter::new(
        BTreeMap::new(),
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// Reads in each way that promises to make no system call. Returns a sum of what was read.
fn read(journal: &Journal, reader: &mut Reader, snapshot: &Snapshot) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    let mut total = 0u64;
    // Forward, and out of order with a stride that meets every record.
    for n in (1..=RECORDS).chain((0..RECORDS).map(|n| n * 1777 % RECORDS + 1).take(200)) {
        total += reader.get(n).map_or(u64::MAX / 2, sum);
        total += snapshot.get(n).map_or(u64::MAX / 2, sum);
    }
    total += snapshot.range(..).map(|(_, bytes)| sum(bytes)).sum::<u64>();
    total += snapshot.range(RECORDS - 100..).rev().map(|(_, bytes)| sum(bytes)).sum::<u64>();
    for n in 1..=5 {
        total += journal.read_ref(n).map_or(u64::MAX / 2, |record| sum(&record));
    }
    assert_eq!((reader.get(RECORDS + 1), snapshot.get(0)), (None, None));
    total
}

/// What a child does: reads once, so that every page is in memory and what a thread's first read allocates is there, and
/// then again under the filter. Another thread ends the process, since to end takes a system call.
fn child(mode: IndexMode, breaks_the_rule: bool) -> ! {
    let (_dir, path) = place();
    let journal = Options::new().sync_policy(SyncPolicy::OnDemand).index(mode).open(path).unwrap();
    for n in 1..=RECORDS {
        journal.append(&payload(n, (n % 90) as usize)).unwrap();
    }
    journal.flush().unwrap();
    let all_read = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut reader, snapshot) = (journal.reader(), journal.snapshot());
            let expected = read(&journal, &mut reader, &snapshot);
            forbid_system_calls();
            let found = read(&journal, &mut reader, &snapshot);
            if breaks_the_rule {
                let _ = std::process::id();
            }
            all_read.store(found == expected, Ordering::Release);
            // Without a system call it can neither sleep nor end.
            loop {
                std::hint::spin_loop();
            }
        });
        while !all_read.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        std::process::exit(DONE)
    })
}

/// Runs the test `name` in a process of its own, as a child.
fn in_a_child(name: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap()
}

fn assert_no_system_call(name: &str, mode: IndexMode) {
    if std::env::var_os(CHILD).is_some() {
        child(mode, false);
    }
    let output = in_a_child(name);
    assert_eq!(output.status.code(), Some(DONE), "{output:?}");
}

#[test]
fn reading_makes_no_system_call_with_a_full_index() {
    assert_no_system_call("reading_makes_no_system_call_with_a_full_index", IndexMode::Full);
}

#[test]
fn reading_makes_no_system_call_with_a_sparse_index() {
    assert_no_system_call("reading_makes_no_system_call_with_a_sparse_index", IndexMode::Sparse(64));
}

#[test]
fn reading_makes_no_system_call_without_an_index() {
    assert_no_system_call("reading_makes_no_system_call_without_an_index", IndexMode::Scan);
}

#[test]
fn a_reader_that_does_make_a_system_call_is_stopped() {
    if std::env::var_os(CHILD).is_some() {
        child(IndexMode::Full, true);
    }
    let output = in_a_child("a_reader_that_does_make_a_system_call_is_stopped");
    assert_eq!(output.status.signal(), Some(SIGSYS), "{output:?}");
}
