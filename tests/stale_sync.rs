//! P5: an fdatasync in flight acknowledges what was committed when it began, and nothing that came after it, nor what took
//! the place of records that were cut meanwhile. Nothing here depends on time.

mod common;

use std::sync::Arc;

use common::faults::{Faults, Kind};
use wally::{Journal, Options, SyncPolicy};

fn ten_records(path: &std::path::Path, faults: &Arc<Faults>) -> Journal {
    let options = &mut Options::new();
    let journal = options.sync(SyncPolicy::OnDemand).seam(faults.clone()).open(path).unwrap();
    for n in 0..10 {
        journal.append(&common::payload(n, 300)).unwrap();
    }
    journal.flush().unwrap();
    journal
}

#[test]
fn a_sync_does_not_acknowledge_what_was_committed_after_it_began() {
    let (_dir, path) = common::place_in_memory();
    let faults = Faults::new();
    let journal = ten_records(&path, &faults);
    faults.hold_syncs();
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| journal.sync());
        faults.wait_held();
        // Neither appends nor flushes wait for the one that stands there.
        scope
            .spawn(|| {
                for n in 10..15 {
                    journal.append(&common::payload(n, 20)).unwrap();
                }
                journal.flush().unwrap();
            })
            .join()
            .unwrap();
        assert_eq!((journal.committed_index(), journal.durable_index()), (15, 0));
        faults.release_syncs();
        syncing.join().unwrap().unwrap();
    });
    assert_eq!((journal.committed_index(), journal.durable_index()), (15, 10));
}

#[test]
fn a_truncation_waits_for_the_sync_in_flight_and_what_follows_it_is_not_acknowledged() {
    for round in 0..20 {
        let (_dir, path) = common::place_in_memory();
        let faults = Faults::new();
        let journal = ten_records(&path, &faults);
        faults.hold_syncs();
        faults.take();
        std::thread::scope(|scope| {
            let syncing = scope.spawn(|| journal.sync());
            faults.wait_held();
            let (begun, begins) = std::sync::mpsc::channel();
            let journal = &journal;
            let cutting = scope.spawn(move || {
                begun.send(()).unwrap();
                journal.truncate_back(1).unwrap();
                for n in 0..5 {
                    journal.append(&common::payload(100 + n, 20)).unwrap();
                }
                journal.flush().unwrap();
            });
            begins.recv().unwrap();
            // Whether it has come to wait for the slot by now or not, nothing is durable yet and nothing is cut.
            for _ in 0..round * 10 {
                std::thread::yield_now();
            }
            assert_eq!((journal.last_index(), journal.durable_index()), (10, 0));
            faults.release_syncs();
            cutting.join().unwrap();
            syncing.join().unwrap().unwrap();
        });
        // The five are where others were when the sync began.
        assert_eq!((journal.last_index(), journal.durable_index()), (6, 1));
        let seen = faults.take();
        let first = |wanted: &dyn Fn(&Kind) -> bool| seen.iter().position(|seen| wanted(&seen.kind));
        let (synced, touched) =
            (first(&|kind| *kind == Kind::Sync), first(&|kind| !matches!(kind, Kind::Sync | Kind::Map { .. })));
        assert!(synced < touched, "{seen:?}");
        journal.sync().unwrap();
        assert_eq!(journal.durable_index(), 6);
        journal.close().unwrap();
        assert_eq!(Options::new().open(&path).unwrap().last_index(), 6);
    }
}
