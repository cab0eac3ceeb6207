//! What a forked child does with the journal that it inherited has no effect on the process that opened it.
//!
//! Each test runs in a process of its own, in which the test's thread is the only one but for those that the test starts
//! itself, and the one that waits for the test to end. So a child finds no lock of the test harness or of the standard
//! library taken; those of the journal it does find taken, where that is what is tested.
#![allow(unsafe_code)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::seam::Seam;
use common::{payload, place_in_memory as place};
use rustix::process::{Pid, WaitOptions, waitpid};
use wally::{Error, Format, Journal, Options, SyncPolicy, Verdict};

const POLICIES: [SyncPolicy; 3] =
    [SyncPolicy::Always, SyncPolicy::OnDemand, SyncPolicy::Interval(Duration::from_millis(1))];

/// A child that hangs is ended after so many seconds, so that the test fails.
const HANGS: u32 = 30;

/// A child is told from its parent without a system call.
const AT_ONCE: bool = cfg!(target_os = "linux");

fn options(policy: SyncPolicy) -> Options {
    let mut options = Options::new();
    options.sync_policy(policy).buffer_size(4096);
    options
}

/// Runs the test `name` in a process of its own; whether this is that process, in which it is to be done.
fn alone(name: &str) -> bool {
    const ALONE: &str = "WALLY_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{output:?}");
    false
}

/// Where a fork returns.
enum Side {
    Child,
    Parent(Pid),
}

fn fork() -> Side {
    // SAFETY: fork has no precondition but that a child of a process with several threads keeps to what no lock of
    // another thread can stop. The only lock that other threads of this process hold are the journal's (see the top of
    // this file, and glibc sees to those of its allocator itself), and what the child calls is to do without those.
    match unsafe { libc::fork() } {
        0 => Side::Child,
        pid => Side::Parent(Pid::from_raw(pid).filter(|_| pid > 0).expect("no process")),
    }
}

/// The end of a child, after `work`: it never returns to the test.
fn child(work: impl FnOnce()) -> ! {
    // SAFETY: it only sets a timer.
    unsafe { libc::alarm(HANGS) };
    let done = catch_unwind(AssertUnwindSafe(work)).is_ok();
    // SAFETY: it ends the process and runs nothing of it.
    unsafe { libc::_exit(if done { 0 } else { 1 }) }
}

/// Waits for a child; whether it has neither panicked nor hung.
fn ended_well(pid: Pid) -> bool {
    let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    status.exit_status() == Some(0)
}

#[track_caller]
fn ends_well(pid: Pid) {
    assert!(ended_well(pid), "the child has panicked or hung");
}

#[track_caller]
fn assert_forked<T>(path: &Path, result: wally::Result<T>) {
    match result {
        Err(Error::Forked { path: named }) => assert_eq!(named, path),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("not refused"),
    }
}

fn assert_locked(path: &Path) {
    let error = options(SyncPolicy::OnDemand).open(path).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
}

/// A journal with a committed record, one that is longer than the buffer, and unless it is synced at once a staged one.
fn filled(policy: SyncPolicy) -> (tempfile::TempDir, PathBuf, Journal) {
    let (dir, path) = place();
    let journal = options(policy).open(&path).unwrap();
    journal.append(b"one").unwrap();
    journal.append(&payload(2, 9000)).unwrap();
    journal.sync().unwrap();
    journal.append(b"three").unwrap();
    (dir, path, journal)
}

/// The parent goes on, and what it has is there after a reopen.
fn goes_on(journal: Journal, path: &Path) {
    assert_eq!(journal.append(b"four").unwrap(), 4);
    journal.sync().unwrap();
    assert_locked(path);
    journal.close().unwrap();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    assert_eq!(journal.recovery().verdict, Verdict::Clean);
    let records: Vec<_> = (1..=journal.last_index()).map(|n| journal.read(n).unwrap()).collect();
    assert!(records == [b"one".to_vec(), payload(2, 9000), b"three".to_vec(), b"four".to_vec()]);
}

#[test]
fn a_child_that_drops_what_it_inherited_leaves_the_parent_the_lock() {
    if !alone("a_child_that_drops_what_it_inherited_leaves_the_parent_the_lock") {
        return;
    }
    for policy in POLICIES {
        let (_dir, path, journal) = filled(policy);
        let held = (journal.reader(), journal.snapshot(), journal.read_ref(1).unwrap(), journal.follow(1));
        let pid = match fork() {
            Side::Child => child(move || {
                drop(journal);
                drop(held);
            }),
            Side::Parent(pid) => pid,
        };
        ends_well(pid);
        drop(held);
        assert_locked(&path);
        goes_on(journal, &path);
    }
}

#[test]
fn a_reader_that_a_child_drops_last_leaves_the_lock_to_the_parents_readers() {
    if !alone("a_reader_that_a_child_drops_last_leaves_the_lock_to_the_parents_readers") {
        return;
    }
    let (_dir, path, journal) = filled(SyncPolicy::OnDemand);
    let snapshot = journal.snapshot();
    journal.close().unwrap();
    let pid = match fork() {
        Side::Child => child(move || drop(snapshot)),
        Side::Parent(pid) => pid,
    };
    ends_well(pid);
    assert_locked(&path);
    assert_eq!(snapshot.get(1), Some(&b"one"[..]));
    drop(snapshot);
    options(SyncPolicy::OnDemand).open(&path).unwrap();
}

#[test]
fn a_child_that_lives_does_not_keep_the_lock_of_a_parent_that_has_closed() {
    if !alone("a_child_that_lives_does_not_keep_the_lock_of_a_parent_that_has_closed") {
        return;
    }
    for policy in POLICIES {
        let (_dir, path, journal) = filled(policy);
        let (mut listens, tells) = std::io::pipe().unwrap();
        let pid = match fork() {
            Side::Child => child(move || {
                drop(tells);
                // It ends when the parent lets go of its end.
                std::io::Read::read_to_end(&mut listens, &mut Vec::new()).unwrap();
            }),
            Side::Parent(pid) => pid,
        };
        goes_on(journal, &path);
        drop(tells);
        ends_well(pid);
    }
}

#[test]
fn what_a_child_would_write_is_refused_and_the_file_is_as_it_was() {
    if !alone("what_a_child_would_write_is_refused_and_the_file_is_as_it_was") {
        return;
    }
    for policy in POLICIES {
        let (_dir, path, journal) = filled(policy);
        let pid = match fork() {
            // The file is looked at from there: in the parent, a background thread may sync meanwhile.
            Side::Child => child(|| {
                // Nobody but the tests of the journal flushes here, so what is staged stays so.
                let before = std::fs::read(&path).unwrap();
                let last = journal.last_index();
                if policy == SyncPolicy::Always || AT_ONCE {
                    assert_forked(&path, journal.append(b"small"));
                    assert_forked(&path, journal.append_batch([b"a", b"b"]));
                }
                assert_forked(&path, journal.append(&payload(1, 5000)));
                assert_forked(&path, journal.append_batch([payload(1, 3000), payload(2, 3000)]));
                assert_eq!(journal.last_index(), last);
                assert_forked(&path, journal.flush());
                assert_forked(&path, journal.sync());
                assert_forked(&path, journal.wait_durable(last));
                for n in [0, 1, last] {
                    assert_forked(&path, journal.truncate_back(n));
                }
                if policy == SyncPolicy::OnDemand {
                    assert_forked(&path, journal.read(last));
                }
                assert_eq!(journal.read(1).unwrap(), b"one");
                assert_forked(&path, journal.close());
                let after = std::fs::read(&path).unwrap();
                assert!(after.starts_with(&before), "the parent may have gone on, but nobody has gone back");
                if !matches!(policy, SyncPolicy::Interval(_)) {
                    assert!(after == before);
                }
            }),
            Side::Parent(pid) => pid,
        };
        ends_well(pid);
        assert_eq!(journal.last_index(), 3);
        goes_on(journal, &path);
    }
}

#[test]
fn a_child_finds_locks_taken_and_does_without() {
    if !alone("a_child_finds_locks_taken_and_does_without") {
        return;
    }
    for policy in POLICIES {
        let (_dir, path) = place();
        let seam = Seam::new();
        let journal = options(policy).seam(seam.clone()).open(&path).unwrap();
        journal.append(b"one").unwrap();
        // What is only staged would be cut without a sync.
        journal.flush().unwrap();
        if let SyncPolicy::Interval(_) = policy {
            journal.sync().unwrap();
        }
        std::thread::scope(|scope| {
            seam.hold_syncs();
            // Holds the slot and the append lock while it syncs.
            scope.spawn(|| journal.truncate_back(0).unwrap());
            seam.wait_held();
            // SAFETY: the copy is the child's, which ends without ever looking at the journal it was taken from.
            let copy = || unsafe { std::ptr::read(&journal) };
            let works: [fn(Journal, &Path); 6] = [
                |journal, path| assert_forked(path, journal.flush()),
                |journal, path| assert_forked(path, journal.sync()),
                |journal, path| assert_forked(path, journal.wait_durable(1)),
                |journal, path| assert_forked(path, journal.truncate_back(0)),
                |journal, path| assert_forked(path, journal.close()),
                |_, _| {},
            ];
            let appends: fn(Journal, &Path) = |journal, path| assert_forked(path, journal.append(b"two"));
            // Under the other policies an append may not know that it will write before it has the lock.
            let appends = (policy == SyncPolicy::Always || AT_ONCE).then_some(appends);
            let ended = works.into_iter().chain(appends).map(|work| {
                let pid = match fork() {
                    Side::Child => child(|| work(copy(), &path)),
                    Side::Parent(pid) => pid,
                };
                ended_well(pid)
            });
            let ended: Vec<bool> = ended.collect();
            // First, or the thread would be waited for in vain.
            seam.release();
            assert!(!ended.contains(&false), "{ended:?}");
        });
        assert!(journal.is_empty());
        journal.append(b"other").unwrap();
        journal.close().unwrap();
        assert_eq!(options(policy).open(&path).unwrap().read(1).unwrap(), b"other");
    }
}

#[test]
fn a_child_does_not_delete_the_file_of_its_parent() {
    if !alone("a_child_does_not_delete_the_file_of_its_parent") {
        return;
    }
    for close in [true, false] {
        let (_dir, path) = place();
        let journal = options(SyncPolicy::OnDemand).delete_on_close(true).open(&path).unwrap();
        let pid = match fork() {
            Side::Child => child(move || match close {
                true => assert_forked(&path, journal.close()),
                false => drop(journal),
            }),
            Side::Parent(pid) => pid,
        };
        ends_well(pid);
        assert!(path.exists());
        journal.close().unwrap();
        assert!(!path.exists());
    }
}

/// The one call that runs code of the caller between opening the file and using it.
#[test]
fn a_child_that_was_forked_while_its_parent_opens_a_journal_does_not_go_on_with_it() {
    if !alone("a_child_that_was_forked_while_its_parent_opens_a_journal_does_not_go_on_with_it") {
        return;
    }
    let (_dir, path) = place();
    for format in [Format::Sealed, Format::Reference] {
        let me = std::process::id();
        let mut options = options(SyncPolicy::OnDemand);
        let children = std::sync::Mutex::new(Vec::new());
        options.new_file_format(format).on_progress(move |_| {
            if std::process::id() == me
                && let Side::Parent(pid) = fork()
            {
                // One after the other, so that what the child does is done when the parent goes on.
                ends_well(pid);
                children.lock().unwrap().push(pid);
            }
            std::ops::ControlFlow::Continue(())
        });
        let opened = options.open(&path);
        if std::process::id() != me {
            child(|| {
                assert_forked(&path, opened);
                assert_eq!(std::fs::read(&path).unwrap(), b"");
            });
        }
        opened.unwrap().close().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_child_opens_a_journal_of_its_own() {
    if !alone("a_child_opens_a_journal_of_its_own") {
        return;
    }
    let (dir, path, journal) = filled(SyncPolicy::Interval(Duration::from_millis(1)));
    let pid = match fork() {
        Side::Child => child(|| {
            assert_locked(&path);
            for policy in POLICIES {
                let own = dir.path().join("own");
                let own = options(policy).delete_on_close(true).open(own).unwrap();
                own.append(b"the child's").unwrap();
                own.sync().unwrap();
                own.truncate_back(0).unwrap();
                own.close().unwrap();
            }
        }),
        Side::Parent(pid) => pid,
    };
    ends_well(pid);
    assert!(!dir.path().join("own").exists());
    goes_on(journal, &path);
}
