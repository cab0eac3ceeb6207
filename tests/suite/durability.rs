//! When records become durable: the three policies, group commit, and what the file says of it.

use crate::common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::built::{BARRIER, CONTINUED, MARK};
use common::seam::{Call, EACCES, EIO, ENOSPC, Seam, Seen};
use common::{payload, place, until};
use wally::seam::{Role, Verdict};
use wally::{Error, Format, Journal, Options, SyncPolicy};

fn open(policy: SyncPolicy) -> (tempfile::TempDir, Arc<Seam>, Journal) {
    let (dir, path) = place();
    let seam = Seam::new();
    let journal = Options::new().sync_policy(policy).buffer_size(4096).seam(seam.clone()).open(path).unwrap();
    seam.take();
    (dir, seam, journal)
}

fn syncs(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| seen.call.is_sync()).count()
}

/// For each record in the file: whether its seal has `flag`.
fn flagged(journal: &Journal, flag: u8) -> Vec<bool> {
    let file = std::fs::read(journal.path()).unwrap();
    let low = |n| file[journal.data_range(n).unwrap().start as usize - 4];
    (1..=journal.committed_index()).map(|n| low(n) & flag != 0).collect()
}

#[test]
fn under_always_each_append_is_durable_when_it_returns() {
    let (_dir, seam, journal) = open(SyncPolicy::Always);
    let large = payload(1, 5000);
    for n in 1..=20 {
        let bytes = if n % 3 == 0 { &large[..] } else { b"small" };
        assert_eq!(journal.append(bytes).unwrap(), n);
        assert_eq!((journal.durable_index(), journal.committed_index()), (n, n));
        let seen = seam.take();
        let written = seen.iter().position(|seen| seen.call.is_write()).unwrap();
        let synced = seen.iter().rposition(|seen| seen.call.is_sync()).unwrap();
        assert!(written < synced, "{seen:?}");
        assert_eq!(syncs(&seen), 1, "{seen:?}");
    }
    let stats = journal.stats();
    assert_eq!((stats.syncs, stats.records_per_sync), (20, 1.0));
}

#[test]
fn on_demand_nothing_is_durable_until_it_is_asked_for() {
    let (_dir, seam, journal) = open(SyncPolicy::OnDemand);
    for _ in 0..100 {
        journal.append(&payload(1, 500)).unwrap();
    }
    journal.flush().unwrap();
    assert_eq!((journal.committed_index(), journal.durable_index()), (100, 0));
    assert_eq!(syncs(&seam.take()), 0);

    journal.append(b"staged").unwrap();
    journal.sync().unwrap();
    assert_eq!(journal.durable_index(), 101, "what is staged goes out first");
    journal.sync().unwrap();
    assert_eq!(syncs(&seam.take()), 1, "there was nothing new to sync");

    journal.append(b"one more").unwrap();
    journal.append(b"and one").unwrap();
    journal.wait_durable(102).unwrap();
    assert_eq!(journal.durable_index(), 103, "a sync covers everything there is");
    assert_eq!(syncs(&seam.take()), 1);
}

#[test]
fn close_writes_syncs_marks_and_syncs_in_this_order() {
    let (dir, seam, journal) = open(SyncPolicy::OnDemand);
    journal.append(b"staged").unwrap();
    journal.close().unwrap();
    let calls: Vec<Call> = seam.take().into_iter().map(|seen| seen.call).collect();
    let [
        record @ Call::Write { offset: 0, .. },
        Call::Sync,
        mark @ Call::Write { offset: 22, .. },
        Call::Sync,
    ] = &calls[..]
    else {
        panic!("{calls:?}")
    };
    assert_eq!((record.written(), mark.written()), (22, 16));
    assert_eq!(mark.flags().unwrap() & MARK, MARK);
    let journal = Journal::open(dir.path().join("journal")).unwrap();
    assert_eq!((journal.durable_index(), journal.read(1).unwrap()), (1, b"staged".to_vec()));
}

#[test]
fn a_close_with_nothing_new_leaves_the_file_as_it_is() {
    let (dir, _faults, journal) = open(SyncPolicy::Always);
    journal.append(b"a").unwrap();
    journal.close().unwrap();
    let path = dir.path().join("journal");
    let before = std::fs::read(&path).unwrap();
    for _ in 0..3 {
        Journal::open(&path).unwrap().close().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}

#[test]
fn dropping_a_journal_makes_it_durable_as_closing_does() {
    let (dir, seam, journal) = open(SyncPolicy::OnDemand);
    journal.append(b"staged").unwrap();
    drop(journal);
    assert_eq!(syncs(&seam.take()), 2);
    let (closed_dir, _, journal) = open(SyncPolicy::OnDemand);
    journal.append(b"staged").unwrap();
    journal.close().unwrap();
    let [dropped, closed] = [dir, closed_dir].map(|dir| std::fs::read(dir.path().join("journal")).unwrap());
    assert_eq!(dropped, closed);
}

#[test]
fn an_interval_makes_records_durable_without_being_asked() {
    let (_dir, seam, journal) = open(SyncPolicy::Interval(Duration::from_millis(1)));
    for n in 1..=3 {
        journal.append(b"some bytes").unwrap();
        seam.wait_seen(|seen| seen.call.is_sync() && seen.done.is_some());
        until(|| journal.durable_index() == n);
        seam.take();
    }
}

#[test]
fn a_long_interval_neither_syncs_early_nor_holds_up_the_close() {
    let (_dir, seam, journal) = open(SyncPolicy::Interval(Duration::from_secs(3600)));
    for _ in 0..50 {
        journal.append(&payload(1, 500)).unwrap();
    }
    assert_eq!((journal.durable_index(), syncs(&seam.take())), (0, 0));
    journal.wait_durable(50).unwrap();
    assert_eq!(journal.durable_index(), 50);
    journal.append(b"more").unwrap();
    journal.close().unwrap();
    assert_eq!(syncs(&seam.take()), 3, "one waited for, two of the close");
}

#[test]
fn failures_in_the_background_are_counted_and_tried_again() {
    let (_dir, seam, journal) = open(SyncPolicy::Interval(Duration::from_millis(1)));
    seam.fail(ENOSPC, |call| call.written() > 16);
    journal.append(b"no room for it").unwrap();
    until(|| journal.stats().background_failures >= 3);
    let words = journal.stats().last_background_failure.unwrap();
    assert!(words.contains("write") && words.contains(journal.path().to_str().unwrap()), "{words}");
    assert_eq!((journal.last_index(), journal.committed_index()), (1, 0), "it stays, staged");
    assert_eq!(journal.append(b"another").unwrap(), 2);
    seam.allow_all();
    until(|| journal.durable_index() == 2);
    assert_eq!(journal.read(1).unwrap(), b"no room for it");
    journal.close().unwrap();
}

#[test]
fn waiting_for_what_is_durable_or_was_never_appended_returns_at_once() {
    for policy in [SyncPolicy::Always, SyncPolicy::OnDemand] {
        let (_dir, seam, journal) = open(policy);
        journal.wait_durable(0).unwrap();
        let error = journal.wait_durable(1).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { index: 1, first: 1, last: 0, .. }), "{error}");
        journal.append_batch([b"a", b"b"]).unwrap();
        journal.wait_durable(2).unwrap();
        seam.take();
        journal.append(b"c").unwrap();
        let by_policy = syncs(&seam.take());
        for n in 0..=2 {
            journal.wait_durable(n).unwrap();
        }
        let error = journal.wait_durable(4).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { index: 4, first: 1, last: 3, .. }), "{error}");
        assert_eq!((syncs(&seam.take()), by_policy), (0, usize::from(policy == SyncPolicy::Always)));
        journal.truncate_back(1).unwrap();
        journal.wait_durable(2).unwrap_err();
    }
}

#[test]
fn many_threads_that_wait_for_durability_share_one_sync() {
    let (_dir, seam, journal) = open(SyncPolicy::OnDemand);
    for _ in 0..100 {
        journal.append(b"some bytes").unwrap();
    }
    seam.hold_syncs();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let journal = &journal;
            scope.spawn(move || {
                let n = 100 - thread * 10;
                journal.wait_durable(n).unwrap();
                assert!(journal.durable_index() >= n);
            });
        }
        seam.wait_held();
        assert_eq!(journal.durable_index(), 0, "nothing is acknowledged before its sync returns");
        seam.release();
    });
    assert_eq!((journal.stats().syncs, journal.stats().records_per_sync), (1, 100.0));
}

#[test]
fn threads_that_append_under_always_share_their_syncs() {
    const THREADS: u64 = 32;
    let (_dir, seam, journal) = open(SyncPolicy::Always);
    seam.hold_syncs();
    std::thread::scope(|scope| {
        let spawn = |thread: u64| {
            let journal = &journal;
            scope.spawn(move || {
                let n = journal.append(&thread.to_le_bytes()).unwrap();
                assert!(journal.durable_index() >= n);
                assert_eq!(journal.read(n).unwrap(), thread.to_le_bytes());
            })
        };
        spawn(0);
        seam.wait_held();
        // While the first one syncs, all the others get in after it.
        for thread in 1..THREADS {
            spawn(thread);
        }
        until(|| journal.last_index() == THREADS);
        assert_eq!((journal.committed_index(), journal.durable_index()), (1, 0));
        seam.release();
    });
    assert_eq!(journal.durable_index(), THREADS);
    let stats = journal.stats();
    assert_eq!((stats.syncs, stats.flushes), (2, 2), "one for the first, one for all that came meanwhile");
    assert_eq!(stats.records_per_sync, THREADS as f64 / 2.0);
}

#[test]
fn batches_and_large_records_share_syncs_too() {
    let (_dir, seam, journal) = open(SyncPolicy::Always);
    seam.hold_syncs();
    let large = payload(1, 10_000);
    std::thread::scope(|scope| {
        scope.spawn(|| journal.append(b"first").unwrap());
        seam.wait_held();
        for _ in 0..4 {
            scope.spawn(|| journal.append(&large).unwrap());
            scope.spawn(|| journal.append_batch([&large, &large]).unwrap());
            scope.spawn(|| journal.append_batch([b"small", b"batch"]).unwrap());
        }
        until(|| journal.last_index() == 1 + 4 * 5);
        seam.release();
    });
    assert_eq!((journal.durable_index(), journal.stats().syncs), (21, 2));
}

#[test]
fn a_sync_in_flight_holds_neither_appends_nor_flushes_nor_reads_back() {
    let (_dir, seam, journal) = open(SyncPolicy::OnDemand);
    journal.append(b"first").unwrap();
    seam.hold_syncs();
    std::thread::scope(|scope| {
        let synced = scope.spawn(|| journal.sync());
        seam.wait_held();
        for n in 2..=200 {
            assert_eq!(journal.append(&payload(n, 100)).unwrap(), n);
        }
        journal.append(&payload(1, 10_000)).unwrap();
        journal.flush().unwrap();
        assert_eq!(journal.read(200).unwrap(), payload(200, 100));
        assert_eq!((journal.committed_index(), journal.durable_index()), (201, 0));
        seam.release();
        synced.join().unwrap().unwrap();
    });
    assert_eq!(journal.durable_index(), 1, "what came after the sync had begun is not covered by it");
}

#[test]
fn a_flush_begins_with_a_barrier_if_everything_before_it_is_durable() {
    let (_dir, seam, journal) = open(SyncPolicy::OnDemand);
    let flush = |records: u64| {
        for _ in 0..records {
            journal.append(b"x").unwrap();
        }
        journal.flush().unwrap();
    };
    flush(2); // 1, 2: nothing is before them
    flush(2); // 3, 4: 1 and 2 are not synced
    journal.sync().unwrap();
    flush(1); // 5
    journal.append(b"x").unwrap(); // 6: not before its flush is decided
    journal.sync().unwrap();
    seam.hold_syncs();
    std::thread::scope(|scope| {
        flush(1); // 7
        scope.spawn(|| journal.sync().unwrap());
        seam.wait_held();
        flush(1); // 8: the sync is pending
        seam.release();
    });
    journal.sync().unwrap();
    flush(1); // 9
    let want = [true, false, false, false, true, false, true, false, true];
    assert_eq!(flagged(&journal, BARRIER), want);
}

#[test]
fn the_barrier_goes_to_the_first_record_of_whatever_is_flushed() {
    let (_dir, _faults, journal) = open(SyncPolicy::OnDemand);
    let large = payload(1, 5000);
    let sync = || journal.sync().unwrap();
    journal.append(&large).unwrap(); // 1: goes out alone
    sync();
    journal.append(b"staged").unwrap(); // 2
    journal.append(&large).unwrap(); // 3: after it, in the same flush
    sync();
    journal.append_batch([&large, &large, &large]).unwrap(); // 4, 5, 6: straight from the batch
    sync();
    journal.append(b"staged").unwrap(); // 7
    journal.append_batch([&large, &large]).unwrap(); // 8, 9
    sync();
    journal.append_batch([b"a", b"b", b"c"]).unwrap(); // 10, 11, 12: staged
    sync();
    journal.append_batch(vec![&large; 70]).unwrap(); // 13..=82: in two calls, one flush
    let with =
        |flag| -> Vec<u64> { (1..).zip(flagged(&journal, flag)).filter(|f| f.1).map(|f| f.0).collect() };
    assert_eq!(with(BARRIER), [1, 2, 4, 7, 10, 13]);
    let continued: Vec<u64> = [4, 5, 8, 10, 11].into_iter().chain(13..82).collect();
    assert_eq!(with(CONTINUED), continued);
}

#[test]
fn a_flush_that_is_tried_again_decides_on_its_barrier_anew() {
    let (_dir, seam, journal) = open(SyncPolicy::OnDemand);
    journal.append(b"committed").unwrap();
    journal.flush().unwrap();
    journal.append(b"staged").unwrap();
    seam.take();
    seam.at_write(0, Verdict::Fail(ENOSPC));
    journal.flush().unwrap_err();
    let tried = seam.take().into_iter().find_map(|seen| seen.call.flags()).unwrap();
    assert_eq!(tried & BARRIER, 0, "the first record was not durable");
    journal.flush().unwrap();
    assert_eq!(flagged(&journal, BARRIER), [true, true], "rolling back made it so");
}

#[test]
fn the_reference_format_has_no_flags() {
    let (_dir, path) = place();
    let mut options = Options::new();
    options.sync_policy(SyncPolicy::OnDemand).new_file_format(Format::Reference).buffer_size(4096);
    let journal = options.open(path).unwrap();
    let large = payload(1, 5000);
    for _ in 0..3 {
        journal.append(b"x").unwrap();
        journal.append_batch([b"x", b"y"]).unwrap();
        journal.append_batch([&large, &large]).unwrap();
        journal.sync().unwrap();
    }
    assert!(flagged(&journal, 0xFF).iter().all(|any| !any));
}

#[test]
fn after_64_mib_without_a_barrier_one_sync_holds_flushes_but_not_appends_back() {
    let (_dir, seam, journal) = open(SyncPolicy::OnDemand);
    let mib = payload(1, 1 << 20);
    for _ in 0..64 {
        journal.append(&mib).unwrap();
    }
    assert_eq!(syncs(&seam.take()), 0);
    seam.hold_syncs();
    std::thread::scope(|scope| {
        let next = scope.spawn(|| journal.append(&mib).unwrap());
        seam.wait_held();
        assert_eq!(journal.append(b"staged meanwhile").unwrap(), 65);
        assert_eq!((journal.committed_index(), journal.durable_index()), (64, 0));
        seam.release();
        assert_eq!(next.join().unwrap(), 66);
    });
    assert_eq!((journal.committed_index(), journal.durable_index()), (66, 64));
    let seen = seam.take();
    assert_eq!(syncs(&seen), 1);
    let at = |found: fn(&Seen) -> bool| seen.iter().position(found).unwrap();
    assert!(at(|seen| seen.call.is_sync()) < at(|seen| seen.call.is_write()), "synced before it is written");
    let barriers: Vec<u64> =
        (1..).zip(flagged(&journal, BARRIER)).filter(|(_, set)| *set).map(|(n, _)| n).collect();
    assert_eq!(barriers, [1, 65]);
}

/// The entry may be that of a creation that crashed, or of a rename, which nobody has synced.
#[test]
fn every_open_syncs_the_directory_before_anything_is_acknowledged() {
    for format in [Format::Sealed, Format::Reference] {
        let (_dir, path) = place();
        let seam = Seam::new();
        let mut options = Options::new();
        options.new_file_format(format).seam(seam.clone());
        let directories = || seam.take().iter().filter(|seen| seen.role == Role::Directory).count();
        let open = |path| {
            let journal = options.open(path).unwrap();
            assert_eq!(directories(), 1, "with {} records", journal.last_index());
            journal
        };
        drop(open(&path));
        open(&path).append(b"").unwrap();
        directories();
        let renamed = path.with_file_name("renamed");
        std::fs::rename(&path, &renamed).unwrap();
        let journal = open(&renamed);
        journal.append(b"").unwrap();
        assert_eq!(directories(), 0, "not at each append");
        drop(journal);
        // Torn: what is cut changes nothing about the entry.
        let len = std::fs::metadata(&renamed).unwrap().len();
        let file = std::fs::OpenOptions::new().write(true).open(&renamed).unwrap();
        file.set_len(len - 3).unwrap();
        drop((open(&renamed), file));
    }
}

#[test]
fn a_directory_that_cannot_be_synced_is_an_error_and_the_file_untouched() {
    let (_dir, path) = place();
    Journal::open(&path).unwrap().append(b"a").unwrap();
    let mut before = std::fs::read(&path).unwrap();
    before.extend(b"torn");
    std::fs::write(&path, &before).unwrap();
    let seam = Seam::new();
    seam.rule(|role, _| if role == Role::Directory { Verdict::Fail(EIO) } else { Verdict::Proceed });
    let error = Options::new().seam(seam.clone()).open(&path).unwrap_err();
    assert!(matches!(error, Error::Io { op: "sync directory", .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

/// The link's own entry is its maker's to sync.
#[test]
fn through_a_symbolic_link_it_is_the_directory_of_the_file_that_is_synced() {
    let ((dir, path), (_other, link)) = (place(), place());
    std::os::unix::fs::symlink(&path, &link).unwrap();
    drop(Journal::open(&path).unwrap());
    for _ in 0..2 {
        let seam = Seam::new();
        seam.rule(|role, _| if role == Role::Directory { Verdict::Fail(EIO) } else { Verdict::Proceed });
        let error = Options::new().seam(seam.clone()).open(&link).unwrap_err();
        assert!(
            matches!(&error, Error::Io { path, .. } if *path == dir.path().canonicalize().unwrap()),
            "{error}"
        );
        Journal::open(&link).unwrap().append(b"a").unwrap();
    }
}

#[test]
fn a_directory_that_may_not_be_read_is_synced_with_its_file_system() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let refused = std::sync::atomic::AtomicBool::new(false);
    seam.rule(move |role, _| match role {
        Role::Directory if !refused.swap(true, std::sync::atomic::Ordering::Relaxed) => Verdict::Fail(EACCES),
        _ => Verdict::Proceed,
    });
    let journal = Options::new().seam(seam.clone()).open(&path).unwrap();
    assert_eq!(journal.append(b"a").unwrap(), 1);
    let seen = seam.take();
    let done: Vec<_> =
        seen.iter().filter(|seen| seen.role == Role::Directory).map(|seen| seen.done).collect();
    assert_eq!(done, [None, Some(0)]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_without_a_name_needs_no_directory() {
    use std::os::fd::AsRawFd;
    let (_dir, path) = place();
    drop(Journal::open(&path).unwrap());
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let journal = Journal::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    assert_eq!(journal.append(b"a").unwrap(), 1);
}

#[test]
fn a_new_journal_is_a_durable_mark_before_anything_else() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let _journal = Options::new().seam(seam.clone()).open(&path).unwrap();
    let file = std::fs::read(&path).unwrap();
    assert_eq!((file.len(), file[12] & MARK), (16, MARK));
    let seen = seam.take();
    let written = seen.iter().position(|seen| seen.call.is_write()).unwrap();
    assert!(syncs(&seen[written..]) >= 1, "{seen:?}");
}

#[test]
fn a_sealed_journal_marks_its_end_only_when_closed() {
    let (dir, _faults, journal) = open(SyncPolicy::Always);
    journal.append(b"1234").unwrap();
    let path = dir.path().join("journal");
    let file = std::fs::read(&path).unwrap();
    assert!(file[20..].iter().all(|&byte| byte == 0), "the first record took the first mark's place");
    journal.close().unwrap();
    let file = std::fs::read(&path).unwrap();
    assert_eq!((file.len(), file[32] & MARK), (36, MARK));
    assert_eq!(file[20..28], 20u64.to_le_bytes(), "the journal ends here");
}

/// Another process may have died before it synced what is in the file now.
#[test]
fn what_is_found_at_open_is_synced_before_it_is_served_and_before_anything_is_written() {
    for format in [Format::Sealed, Format::Reference] {
        for closed in [true, false] {
            let (_dir, path) = common::place();
            let journal =
                Options::new().new_file_format(format).sync_policy(SyncPolicy::OnDemand).open(&path).unwrap();
            journal.append_batch(["one", "two"]).unwrap();
            journal.flush().unwrap();
            let committed = journal.stats().committed_bytes as usize;
            let copy = path.with_extension("copy");
            if closed {
                journal.close().unwrap();
                std::fs::copy(&path, &copy).unwrap();
            } else {
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&copy, &bytes[..committed]).unwrap();
            }
            let seam = Seam::new();
            let journal = Options::new().seam(seam.clone()).open(&copy).unwrap();
            assert_eq!(journal.durable_index(), 2);
            let sync = |role| Seen { role, call: Call::Sync, done: Some(0) };
            let expected = [sync(Role::Directory), sync(Role::Journal)];
            assert_eq!(seam.take_changes(), expected, "{format:?}, closed {closed}");
        }
    }
}

#[test]
fn durable_committed_and_appended_are_in_order_at_every_call() {
    for policy in [SyncPolicy::Always, SyncPolicy::OnDemand] {
        let (_dir, path) = place();
        let seam = Seam::new();
        let mut options = Options::new();
        options.sync_policy(policy).buffer_size(4096).seam(seam.clone());
        let journal = Arc::new(options.open(path).unwrap());
        let looks = Arc::new(Mutex::new(Vec::new()));
        // At each call that the journal makes, in the midst of what it does, the three indexes stand as they stand for every
        // other thread meanwhile. The calls fail that are `refused`.
        let refuse = |refused: fn(&Call) -> bool| {
            let (journal, looks) = (Arc::downgrade(&journal), Arc::clone(&looks));
            seam.rule(move |_, call| {
                if let Some(journal) = journal.upgrade() {
                    let look = [journal.durable_index(), journal.committed_index(), journal.last_index()];
                    looks.lock().unwrap().push(look);
                }
                if refused(call) { Verdict::Fail(ENOSPC) } else { Verdict::Proceed }
            });
        };
        let check = |what: &str| {
            let looks = std::mem::take(&mut *looks.lock().unwrap());
            for look in &looks {
                assert!(look.is_sorted(), "{policy:?}, {what}: {look:?} of {looks:?}");
            }
            looks.len()
        };
        refuse(|_| false);
        let mut held = Vec::new();
        for n in [5, 3, 3, 1, 0] {
            for salt in 0..4 {
                journal.append(&payload(salt, 100)).unwrap();
                journal.append(&payload(salt, 5000)).unwrap();
                journal.append_batch([payload(salt, 40), payload(salt, 50)]).unwrap();
            }
            journal.flush().unwrap();
            held.push(journal.snapshot());
            journal.append(b"staged").unwrap();
            check("appended");
            journal.truncate_back(n).unwrap();
            assert!(check("cut") >= 5);
        }
        for salt in 0..4 {
            journal.append(&payload(salt, 5000)).unwrap();
        }
        held.push(journal.snapshot());
        refuse(Call::is_preserve);
        journal.truncate_back(2).unwrap_err();
        check("taken back before the file was touched");
        refuse(|call| call.written() == 16);
        // Without room for its mark it goes on.
        journal.truncate_back(3).unwrap();
        check("cut without a mark");
        refuse(Call::is_write);
        let refused = journal.append(&payload(1, 5000)).map(drop);
        refused.unwrap_err();
        check("refused");
        refuse(|_| false);
        journal.append(&payload(1, 5000)).unwrap();
        journal.append(b"staged").unwrap();
        refuse(Call::is_truncate);
        assert!(matches!(journal.truncate_back(1), Err(Error::Poisoned { .. })));
        check("poisoned");
    }
}
