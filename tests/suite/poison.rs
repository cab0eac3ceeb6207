//! A failed sync is final, and so is a roll-back that fails: what then is refused, what is still served, and what
//! becomes of the file.

use crate::common;

use std::sync::Arc;
use std::time::Duration;

use common::seam::{Call, EIO, ENOSPC, Seam};
use common::{payload, place, until};
use wally::seam::Verdict;
use wally::{Error, Format, IndexMode, Journal, Options, ReaderStatus, SyncPolicy};

fn options(policy: SyncPolicy, seam: &Arc<Seam>) -> Options {
    let mut options = Options::new();
    options.sync_policy(policy).buffer_size(4096).seam(seam.clone());
    options
}

/// The next sync fails, and those after it say that all is well, as those of the system do.
fn fail_one_sync(seam: &Seam) {
    let mut next = true;
    seam.rule(move |_, call| {
        if call.is_sync() && std::mem::take(&mut next) { Verdict::Fail(EIO) } else { Verdict::Proceed }
    });
}

/// The first failure, if that is what `result` tells of.
#[track_caller]
fn poisoned<T>(result: Result<T, Error>) -> Arc<Error> {
    match result {
        Err(Error::Poisoned { first, .. }) => first,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("this must not succeed"),
    }
}

fn code(error: &Error) -> Option<i32> {
    match error {
        Error::Io { source, .. } => source.raw_os_error(),
        _ => None,
    }
}

/// Everything that would change or acknowledge something is refused.
#[track_caller]
fn assert_refuses_everything(journal: &Journal) {
    let first = poisoned(journal.append(b"more"));
    let again = [
        poisoned(journal.append(&payload(1, 10_000))),
        poisoned(journal.append_vectored(&[])),
        poisoned(journal.append_batch([b"a", b"b"])),
        poisoned(journal.append_batch([payload(1, 10_000)])),
        poisoned(journal.flush()),
        poisoned(journal.sync()),
        poisoned(journal.truncate_back(journal.durable_index())),
        poisoned(journal.truncate_back(0)),
        poisoned(journal.wait_durable(journal.durable_index() + 1)),
    ];
    assert!(again.iter().all(|other| Arc::ptr_eq(other, &first)), "the first failure stays the first");
    assert!(matches!(journal.reader().status(), ReaderStatus::Poisoned(told) if Arc::ptr_eq(&told, &first)));
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_what_is_durable_is_served() {
    for format in [Format::Sealed, Format::Reference] {
        for mode in [IndexMode::Full, IndexMode::Sparse(2), IndexMode::Scan] {
            let (_dir, path) = place();
            let seam = Seam::new();
            let mut options = options(SyncPolicy::OnDemand, &seam);
            options.new_file_format(format).index(mode);
            let journal = options.open(&path).unwrap();
            let record = |n: u64| payload(n, 3000);
            for n in 1..=3 {
                journal.append(&record(n)).unwrap();
            }
            journal.sync().unwrap();
            let durable_bytes = journal.stats().durable_bytes;
            for n in 4..=5 {
                journal.append(&record(n)).unwrap();
            }
            journal.flush().unwrap();
            journal.append(b"staged").unwrap();

            // Held across the failure, above the durable point and below.
            let snapshot = journal.snapshot();
            let held = [2, 4, 5].map(|n| journal.read_ref(n).unwrap());
            let mut reader = journal.reader();
            let borrowed = reader.get(5).unwrap();

            fail_one_sync(&seam);
            let first = poisoned(journal.sync());
            assert!(matches!(&*first, Error::Io { op: "sync", .. }) && code(&first) == Some(EIO), "{first}");
            assert_refuses_everything(&journal);

            assert_eq!((journal.first_index(), journal.last_index()), (1, 3));
            assert_eq!((journal.committed_index(), journal.durable_index()), (3, 3));
            for n in 0..=3 {
                journal.wait_durable(n).unwrap();
            }
            for n in 1..=3 {
                assert!(journal.read(n).unwrap() == record(n));
                assert!(journal.snapshot().get(n) == Some(&record(n)));
            }
            for n in [4, 5, 6, 7] {
                assert!(Arc::ptr_eq(&poisoned(journal.read(n)), &first), "{n}");
                poisoned(journal.read_ref(n));
                poisoned(journal.data_range(n));
                assert_eq!(journal.snapshot().get(n), None);
            }
            assert!(matches!(journal.read(0), Err(Error::OutOfRange { .. })));

            // What was lent keeps its bytes, though the file has lost them.
            let mark = if format == Format::Sealed { 16 } else { 0 };
            assert_eq!(
                std::fs::metadata(&path).unwrap().len(),
                durable_bytes + mark,
                "cut to the durable point"
            );
            assert!(borrowed == record(5));
            for (n, bytes) in snapshot.iter() {
                assert!(bytes == record(n), "{n}");
            }
            assert_eq!(snapshot.last_index(), 5);
            for held in &held {
                assert!(held[..] == record(held.index()));
                held.verify().unwrap();
            }
            assert_eq!(reader.get(4), None, "the next call sees the new state");
            assert!(reader.get(3) == Some(&record(3)));
            assert!(matches!(reader.status(), ReaderStatus::Poisoned(_)));

            poisoned(journal.close());
            assert!(matches!(reader.status(), ReaderStatus::Poisoned(_)), "not merely closed");
            drop((snapshot, held, reader));
            let journal = options.open(&path).unwrap();
            assert_eq!(journal.last_index(), 3);
            assert_eq!(journal.append(b"goes on").unwrap(), 4);
            journal.close().unwrap();
        }
    }
}

#[test]
fn every_append_that_waits_for_the_sync_is_told_of_its_failure() {
    const THREADS: u64 = 16;
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::Always, &seam).open(&path).unwrap();
    assert_eq!(journal.append(b"durable").unwrap(), 1);
    let large = payload(1, 6000);
    seam.hold_syncs();
    std::thread::scope(|scope| {
        let leader = scope.spawn(|| journal.append(b"leads"));
        seam.wait_held();
        let followers: Vec<_> = (2..THREADS)
            .map(|thread| {
                let (journal, large) = (&journal, &large);
                scope.spawn(move || match thread % 3 {
                    0 => journal.append(b"staged"),
                    1 => journal.append(large),
                    _ => journal.append_batch([b"a"]).map(|range| *range.end()),
                })
            })
            .collect();
        until(|| journal.last_index() == THREADS);
        seam.fail(EIO, Call::is_sync);
        seam.release();
        let first = poisoned(leader.join().unwrap());
        for follower in followers {
            assert!(Arc::ptr_eq(&poisoned(follower.join().unwrap()), &first));
        }
    });
    assert_eq!((journal.durable_index(), journal.last_index()), (1, 1));
    assert_refuses_everything(&journal);
}

#[test]
fn every_waiter_for_durability_is_told_of_the_failure() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::OnDemand, &seam).open(&path).unwrap();
    for _ in 0..10 {
        journal.append(b"not durable yet").unwrap();
    }
    seam.hold_syncs();
    seam.fail(EIO, Call::is_sync);
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (1..=10)
            .map(|n| {
                let journal = &journal;
                scope.spawn(move || if n == 10 { journal.sync() } else { journal.wait_durable(n) })
            })
            .collect();
        seam.wait_held();
        seam.release();
        for waiter in waiters {
            poisoned(waiter.join().unwrap());
        }
    });
    assert_eq!((journal.durable_index(), journal.last_index()), (0, 0));
    assert_eq!(journal.stats().syncs, 0);
}

#[test]
fn a_sync_that_succeeds_later_does_not_bring_anything_back() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::Always, &seam).open(&path).unwrap();
    journal.append(b"durable").unwrap();
    fail_one_sync(&seam);
    poisoned(journal.append(b"lost"));
    for _ in 0..3 {
        assert_refuses_everything(&journal);
        assert_eq!(journal.durable_index(), 1);
    }
    drop(journal);
    let journal = options(SyncPolicy::Always, &seam).open(&path).unwrap();
    assert_eq!((journal.last_index(), journal.read(1).unwrap()), (1, b"durable".to_vec()));
}

#[test]
fn the_background_thread_poisons_too() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::Interval(Duration::from_millis(1)), &seam).open(&path).unwrap();
    seam.fail(EIO, Call::is_sync);
    let mut reader = journal.reader();
    journal.append(b"not durable yet").unwrap();
    until(|| matches!(reader.status(), ReaderStatus::Poisoned(_)));
    until(|| journal.stats().background_failures == 1);
    assert!(journal.stats().last_background_failure.unwrap().contains("sync"));
    assert_refuses_everything(&journal);
    poisoned(journal.close());
}

#[test]
fn a_failed_sync_of_a_close_is_told() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::OnDemand, &seam).open(&path).unwrap();
    journal.append(b"a").unwrap();
    seam.fail(EIO, Call::is_sync);
    poisoned(journal.close());
}

#[test]
fn a_failed_sync_of_a_truncation_poisons() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::OnDemand, &seam).open(&path).unwrap();
    journal.append_batch([b"a", b"b", b"c"]).unwrap();
    journal.sync().unwrap();
    journal.append(b"d").unwrap();
    journal.flush().unwrap();
    seam.fail(EIO, Call::is_sync);
    poisoned(journal.truncate_back(1));
    seam.allow_all();
    assert_refuses_everything(&journal);
    assert_eq!((journal.durable_index(), journal.read(3).unwrap()), (3, b"c".to_vec()));
}

#[test]
fn the_sync_that_makes_way_for_a_barrier_poisons_when_it_fails() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::OnDemand, &seam).open(&path).unwrap();
    let large = payload(1, 32 << 20);
    journal.append(&large).unwrap();
    journal.append(&large).unwrap();
    seam.fail(EIO, Call::is_sync);
    let first = poisoned(journal.append(&large));
    assert!(matches!(&*first, Error::Io { op: "sync", .. }), "{first}");
    assert_eq!((journal.last_index(), journal.durable_index()), (0, 0));
}

#[test]
fn a_roll_back_that_fails_poisons() {
    type Of = fn(&Call) -> bool;
    let steps: [(&str, Of); 3] = [
        ("truncate", Call::is_truncate),
        ("sync", Call::is_sync),
        ("mark", |call| call.flags().is_some_and(|flags| flags & 1 << 4 != 0)),
    ];
    for policy in [SyncPolicy::Always, SyncPolicy::OnDemand] {
        for (what, of) in steps {
            let (_dir, path) = place();
            let seam = Seam::new();
            let journal = options(policy, &seam).open(&path).unwrap();
            journal.append(b"durable").unwrap();
            journal.sync().unwrap();
            let snapshot = journal.snapshot();
            // The write fails half way, and so does what would take it off again.
            let mut short = true;
            seam.rule(move |_, call| match call {
                call if of(call) => Verdict::Fail(EIO),
                call if call.written() >= 5000 && std::mem::take(&mut short) => Verdict::Short(1000),
                call if call.written() >= 4000 => Verdict::Fail(ENOSPC),
                _ => Verdict::Proceed,
            });
            let error = journal.append(&payload(1, 5000)).unwrap_err();
            assert_eq!(code(&error), Some(ENOSPC), "{what}: the caller hears why it was refused: {error}");
            seam.allow_all();
            assert_refuses_everything(&journal);
            assert_eq!((journal.last_index(), journal.read(1).unwrap()), (1, b"durable".to_vec()));
            assert_eq!(snapshot.get(1), Some(&b"durable"[..]));
            let file = std::fs::read(&path).unwrap();
            assert_eq!(&file[16..23], b"durable", "{what}");
            poisoned(journal.close());
        }
    }
}

#[test]
fn a_group_whose_roll_back_fails_is_told_of_it() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::Always, &seam).open(&path).unwrap();
    seam.hold_syncs();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| journal.append(b"first"));
        seam.wait_held();
        let others: Vec<_> = (0..8).map(|_| scope.spawn(|| journal.append(b"staged"))).collect();
        until(|| journal.last_index() == 9);
        seam.rule(|_, call| match call {
            Call::Truncate(_) => Verdict::Fail(EIO),
            Call::Write { .. } => Verdict::Fail(ENOSPC),
            _ => Verdict::Proceed,
        });
        seam.release();
        assert_eq!(first.join().unwrap().unwrap(), 1);
        for other in others {
            let error = other.join().unwrap().unwrap_err();
            // The leader tells of the write, the others of what it led to.
            assert!(matches!(error, Error::Poisoned { .. }) || code(&error) == Some(ENOSPC), "{error}");
        }
    });
    seam.allow_all();
    assert_refuses_everything(&journal);
    assert_eq!((journal.last_index(), journal.durable_index()), (1, 1));
}

#[test]
fn pages_that_cannot_be_preserved_keep_the_file_from_being_cut() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::OnDemand, &seam).open(&path).unwrap();
    journal.append(&payload(1, 5000)).unwrap();
    journal.sync().unwrap();
    journal.append(&payload(2, 5000)).unwrap();
    journal.flush().unwrap();
    let held = journal.read_ref(2).unwrap();
    let end = journal.stats().committed_bytes;
    seam.fail(EIO, |call| call.is_sync() || call.is_preserve());
    poisoned(journal.sync());
    assert!(held[..] == payload(2, 5000));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), end, "else the borrow would fault");
    assert_eq!(journal.last_index(), 1);
    poisoned(journal.read(2));
}

#[test]
fn a_journal_is_poisoned_also_when_nothing_can_be_mapped() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::OnDemand, &seam).open(&path).unwrap();
    journal.append(&payload(1, 5000)).unwrap();
    journal.sync().unwrap();
    journal.append(&payload(2, 5000)).unwrap();
    journal.flush().unwrap();
    let held = journal.read_ref(2).unwrap();
    seam.fail(EIO, |call| call.is_sync() || call.is_map());
    poisoned(journal.sync());
    assert_refuses_everything(&journal);
    assert!(held[..] == payload(2, 5000));
    assert!(journal.read(1).unwrap() == payload(1, 5000));
    poisoned(journal.read(2));
    let mut reader = journal.reader();
    assert_eq!(reader.get(2), None);
    assert_eq!(reader.last_index(), 1);
}
