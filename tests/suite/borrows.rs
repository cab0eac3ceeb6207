//! What is lent keeps its bytes for as long as the borrow lives (P2), whatever happens to the journal meanwhile, and
//! readers of every kind see only whole records that were committed (P3, P4).

use crate::common;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;

use common::content::{assert_holds, assert_snapshot_holds, check, payload};
use common::seam::{Call, EIO, Seam};
use tempfile::TempDir;
use wally::seam::Role;
use wally::{
    Error, Format, IndexMode, Journal, Options, Reader, ReaderStatus, RecordRef, Snapshot, SyncPolicy,
};

/// How the journal's life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Close,
    Drop,
    FailedSyncThenClose,
    FailedSyncThenDrop,
}

/// Each end, and each way to find records.
const LIVES: [(End, IndexMode); 6] = [
    (End::Drop, IndexMode::Full),
    (End::Drop, IndexMode::Sparse(4)),
    (End::Drop, IndexMode::Scan),
    (End::Close, IndexMode::Scan),
    (End::FailedSyncThenClose, IndexMode::Full),
    (End::FailedSyncThenDrop, IndexMode::Sparse(4)),
];

/// A journal of eight records, of which the last is not durable.
struct Scene {
    _dir: TempDir,
    path: PathBuf,
    seam: Arc<Seam>,
    journal: Journal,
    records: Vec<Vec<u8>>,
}

impl Scene {
    fn new(mode: IndexMode) -> Self {
        let dir = common::fast_dir();
        let path = dir.path().join("j");
        let seam = Seam::new();
        let mut options = Options::new();
        options.sync_policy(SyncPolicy::OnDemand).index(mode).seam(seam.clone());
        let journal = options.open(&path).unwrap();
        let lens = [0, 1, 300, 5000, 24, 9000, 77, 4096];
        let records: Vec<_> = (1..).zip(lens).map(|(n, len)| payload(0, n, len)).collect();
        for (at, record) in records.iter().enumerate() {
            if at + 1 == records.len() {
                journal.sync().unwrap();
            }
            journal.append(record).unwrap();
        }
        journal.flush().unwrap();
        Self { _dir: dir, path, seam, journal, records }
    }

    /// Leads the journal through everything that could pull bytes from under a borrow; `check` looks at them after
    /// each step. The file stays until the scene is over.
    fn live_on(self, end: End, check: impl FnMut(&str)) {
        let Self { _dir, path, seam, journal, .. } = self;
        let mut check = check;
        check("at first");
        let views = journal.stats().views_published;
        let mebibyte = vec![0xA5; 1 << 20];
        for n in 1..=40u64 {
            assert_eq!(journal.append(&mebibyte).unwrap(), 8 + n);
        }
        journal.flush().unwrap();
        assert_eq!(journal.stats().views_published, views + 2, "windows of 32 and 64 MiB");
        check("after growth");
        journal.truncate_back(7).unwrap();
        check("after a cut that keeps it");
        journal.truncate_back(2).unwrap();
        check("after a cut that removes it");
        for n in 3..=12 {
            journal.append(&payload(1, n, 3000)).unwrap();
        }
        journal.sync().unwrap();
        check("after it was overwritten");
        journal.truncate_back(0).unwrap();
        check("after the journal was cleared");
        for n in 1..=20 {
            journal.append(&payload(2, n, 2000)).unwrap();
        }
        journal.flush().unwrap();
        check("after it grew again");
        let failed = matches!(end, End::FailedSyncThenClose | End::FailedSyncThenDrop);
        if failed {
            seam.fail(EIO, Call::is_sync);
            let error = journal.sync().unwrap_err();
            assert!(matches!(error, Error::Poisoned { .. }), "{error}");
            check("after a failed sync");
        }
        match end {
            End::Close => journal.close().unwrap(),
            End::FailedSyncThenClose => drop(journal.close().unwrap_err()),
            End::Drop | End::FailedSyncThenDrop => drop(journal),
        }
        check("after the end of the journal");
        std::fs::remove_file(path).unwrap();
        check("after the file was unlinked");
    }
}

#[test]
fn a_record_keeps_its_bytes_through_everything() {
    for (end, mode) in LIVES {
        let scene = Scene::new(mode);
        let record = scene.journal.read_ref(6).unwrap();
        let lent: &[u8] = &record;
        let (address, expected) = (lent.as_ptr(), scene.records[5].clone());
        scene.live_on(end, |when| {
            assert!(lent == expected, "{end:?}, {mode:?}: {when}");
            assert_eq!(record.as_ptr(), address, "it is the same memory all along");
            record.verify().unwrap();
        });
    }
}

#[test]
fn a_snapshot_and_what_it_lent_keep_their_bytes_through_everything() {
    for (end, mode) in LIVES {
        let scene = Scene::new(mode);
        let (snapshot, expected) = (scene.journal.snapshot(), scene.records.clone());
        let lent = snapshot.get(8).unwrap();
        scene.live_on(end, |when| {
            assert!(lent == expected[7], "{end:?}, {mode:?}: {when}");
            assert_snapshot_holds(&snapshot, &expected);
        });
    }
}

#[test]
fn what_a_reader_lent_keeps_its_bytes_through_everything() {
    for (end, mode) in LIVES {
        let scene = Scene::new(mode);
        let (mut reader, expected) = (scene.journal.reader(), scene.records[5].clone());
        let lent = reader.get(6).unwrap();
        scene.live_on(end, |when| assert!(lent == expected, "{end:?}, {mode:?}: {when}"));
    }
}

#[test]
fn a_range_under_way_goes_on_through_everything() {
    for (end, mode) in LIVES {
        let scene = Scene::new(mode);
        let (snapshot, expected) = (scene.journal.snapshot(), scene.records.clone());
        let mut range = snapshot.range(2..=7);
        let (first, last) = (range.next().unwrap(), range.next_back().unwrap());
        scene.live_on(end, |when| {
            assert!(
                first == (2, &expected[1][..]) && last == (7, &expected[6][..]),
                "{end:?}, {mode:?}: {when}"
            );
            let rest: Vec<_> = range.clone().collect();
            assert!(rest.into_iter().eq((3..=6).map(|n| (n, &expected[n as usize - 1][..]))), "{when}");
        });
        assert_eq!(range.next().unwrap().0, 3);
        assert_eq!(range.next_back().unwrap().0, 6);
    }
}

#[test]
fn every_kind_of_borrow_at_once_keeps_its_bytes_when_some_of_them_go() {
    let scene = Scene::new(IndexMode::Full);
    let expected = scene.records.clone();
    let mut records: Vec<RecordRef> = (0..40).map(|at| scene.journal.read_ref(at % 8 + 1).unwrap()).collect();
    let mut snapshots: Vec<Snapshot> = (0..40).map(|_| scene.journal.snapshot()).collect();
    let mut reader = scene.journal.reader();
    let lent = reader.get(4).unwrap();
    scene.live_on(End::Drop, |when| {
        assert!(lent == expected[3], "{when}");
        for record in &records {
            assert!(record[..] == expected[record.index() as usize - 1][..], "{when}");
        }
        snapshots.iter().for_each(|snapshot| assert_snapshot_holds(snapshot, &expected));
        records.truncate(records.len().saturating_sub(5));
        snapshots.truncate(snapshots.len().saturating_sub(5));
    });
}

#[test]
fn a_thread_may_hold_any_number_of_records_of_different_views() {
    let dir = common::fast_dir();
    let mut options = Options::new();
    let journal = options.sync_policy(SyncPolicy::OnDemand).open(dir.path().join("j")).unwrap();
    let mut held = Vec::new();
    for generation in 0..20 {
        for n in 1..=12 {
            journal.append(&payload(generation, n, 24 + 500 * n as usize)).unwrap();
            held.push((generation, journal.read_ref(n).unwrap()));
        }
        journal.truncate_back(0).unwrap();
    }
    let verify = |held: &[(u64, RecordRef)]| {
        for (generation, record) in held {
            assert_eq!(check(record.index(), record), Some(*generation));
        }
    };
    verify(&held);
    assert_eq!(journal.stats().views_held, 20);
    // Given back in an order of their own, and the last of them on another thread.
    held.sort_by_key(|(generation, record)| (record.index() * 7 + generation * 3) % 11);
    held.truncate(120);
    verify(&held);
    drop(journal);
    std::thread::spawn(move || verify(&held)).join().unwrap();
}

#[test]
fn clones_of_a_snapshot_are_read_by_many_threads_while_the_journal_goes_on() {
    let Scene { _dir, journal, records, .. } = Scene::new(IndexMode::Sparse(4));
    let snapshot = journal.snapshot();
    std::thread::scope(|scope| {
        let mut told = Vec::new();
        for _ in 0..4 {
            let (tell, hear) = mpsc::channel::<()>();
            let (snapshot, records) = (snapshot.clone(), &records);
            scope.spawn(move || {
                assert_snapshot_holds(&snapshot, records);
                // Once for each step below, and once more when the journal is gone.
                for () in hear {
                    assert_snapshot_holds(&snapshot, records);
                }
                assert_snapshot_holds(&snapshot, records);
            });
            told.push(tell);
        }
        drop(snapshot);
        for n in (0..8).rev() {
            journal.truncate_back(n).unwrap();
            journal.append(&payload(1, n + 1, 6000)).unwrap();
            journal.flush().unwrap();
            told.iter().for_each(|tell| tell.send(()).unwrap());
        }
        journal.close().unwrap();
    });
}

#[test]
fn a_reader_outlives_the_journal_and_tells_that_it_is_closed() {
    for drop_it in [false, true] {
        let Scene { _dir, journal, records, .. } = Scene::new(IndexMode::Scan);
        let mut reader = journal.reader();
        let mut fresh = journal.reader();
        assert!(matches!(reader.status(), ReaderStatus::Open));
        // Not yet committed when the journal is closed; closing commits it.
        journal.append(b"last").unwrap();
        assert_eq!(reader.get(9), None);
        match drop_it {
            true => drop(journal),
            false => journal.close().unwrap(),
        }
        let verify = |reader: &mut Reader| {
            assert!(matches!(reader.status(), ReaderStatus::Closed));
            assert_eq!((reader.first_index(), reader.last_index()), (1, 9));
            for (n, record) in (1..).zip(&records) {
                assert_eq!(reader.get(n), Some(&record[..]));
            }
            assert_eq!(reader.get(9), Some(&b"last"[..]));
            assert_eq!(reader.get(10), None);
        };
        verify(&mut reader);
        std::thread::spawn(move || fresh.get(8).map(<[u8]>::len)).join().unwrap().unwrap();
        reader.release();
        verify(&mut reader);
    }
}

#[test]
fn a_reader_of_a_poisoned_journal_serves_what_is_durable_and_tells_why() {
    let Scene { _dir, seam, journal, records, .. } = Scene::new(IndexMode::Full);
    let mut reader = journal.reader();
    assert_eq!(reader.get(8), Some(&records[7][..]));
    seam.fail(EIO, Call::is_sync);
    journal.sync().unwrap_err();
    let ReaderStatus::Poisoned(first) = reader.status() else { panic!("{:?}", reader.status()) };
    assert!(matches!(&*first, Error::Io { op: "sync", .. }), "{first}");
    assert_eq!(reader.last_index(), 7);
    assert_eq!(reader.get(8), None);
    assert_eq!(reader.get(7), Some(&records[6][..]));
    drop(journal);
    assert!(matches!(reader.status(), ReaderStatus::Poisoned(_)));
    assert_eq!(reader.get(7), Some(&records[6][..]));
}

#[test]
fn a_reader_that_lets_go_no_longer_holds_its_view() {
    let Scene { _dir, journal, .. } = Scene::new(IndexMode::Full);
    let mut reader = journal.reader();
    assert!(reader.get(1).is_some());
    journal.truncate_back(6).unwrap();
    let stats = journal.stats();
    assert_eq!(stats.views_held, 1, "the one that the reader saw last");
    assert!(stats.held_bytes > 0);
    reader.release();
    let stats = journal.stats();
    assert_eq!((stats.views_held, stats.held_bytes), (0, 0));
    assert!(reader.get(6).is_some() && reader.get(7).is_none());
    journal.truncate_back(5).unwrap();
    assert_eq!(journal.stats().views_held, 1);
    assert!(reader.get(6).is_none());
    assert_eq!(journal.stats().views_held, 0, "a call moves it to the current view");
}

#[test]
fn the_lock_is_held_for_as_long_as_anything_can_be_borrowed() {
    let Scene { _dir, path, journal, records, .. } = Scene::new(IndexMode::Full);
    let snapshot = journal.snapshot();
    let record = journal.read_ref(3).unwrap();
    let mut reader = journal.reader();
    reader.get(1).unwrap();
    let mut released = journal.reader();
    released.get(1).unwrap();
    released.release();
    let follow = journal.follow(1);
    journal.close().unwrap();
    let locked = || matches!(Options::new().open(&path), Err(Error::Locked { .. }));
    assert!(locked());
    drop(snapshot);
    assert!(locked());
    drop(record);
    assert!(locked());
    drop(reader);
    assert!(locked());
    drop(released);
    assert!(locked());
    drop(follow);
    let journal = Options::new().open(&path).unwrap();
    assert_holds(&journal, &records);
}

#[test]
fn a_journal_that_is_deleted_on_close_leaves_readers_their_bytes_and_the_path_free() {
    for format in [Format::Sealed, Format::Reference] {
        let dir = common::fast_dir();
        let path = dir.path().join("j");
        let mut options = Options::new();
        options.sync_policy(SyncPolicy::OnDemand).new_file_format(format).delete_on_close(true);
        let journal = options.open(&path).unwrap();
        let records: Vec<_> = (1..=5).map(|n| payload(0, n, 3000)).collect();
        journal.append_batch(&records).unwrap();
        journal.flush().unwrap();
        let snapshot = journal.snapshot();
        journal.close().unwrap();
        assert!(!path.exists());
        let other = options.open(&path).unwrap();
        other.append(b"other").unwrap();
        assert_holds(&other, &[b"other".to_vec()]);
        assert_snapshot_holds(&snapshot, &records);
    }
}

#[test]
fn what_may_cross_threads_does() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Journal>();
    sync::<Journal>();
    send::<Snapshot>();
    sync::<Snapshot>();
    send::<Reader>();
    send::<Error>();
    sync::<Error>();
    send::<Options>();
    sync::<Options>();
}

#[test]
fn no_reader_waits_for_a_writer_that_is_held_up_in_the_midst_of_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let seam = Seam::new();
    let mut options = wally::Options::new();
    let journal = options
        .sync_policy(wally::SyncPolicy::OnDemand)
        .seam(seam.clone())
        .open(dir.path().join("journal"))
        .unwrap();
    journal.append(b"committed").unwrap();
    journal.flush().unwrap();
    journal.append(b"held up").unwrap();
    // The write is made under the append lock.
    seam.hold_one(|role, call| role == Role::Journal && call.is_write());
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| journal.flush());
        seam.wait_held();
        // The append lock is held: whatever took it would wait here for ever.
        let mut reader = journal.reader();
        assert_eq!(reader.get(1), Some(&b"committed"[..]));
        assert_eq!(reader.get(2), None);
        assert_eq!(journal.snapshot().get(1), Some(&b"committed"[..]));
        assert_eq!(&journal.read_ref(1).unwrap()[..], b"committed");
        assert_eq!(journal.read(1).unwrap(), b"committed");
        assert_eq!((journal.committed_index(), journal.last_index(), journal.first_index()), (1, 2, 1));
        seam.release();
        flush.join().unwrap().unwrap();
        assert_eq!(reader.get(2), Some(&b"held up"[..]));
    });
}
