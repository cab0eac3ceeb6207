//! P5: an fdatasync in flight acknowledges what was committed when it began, and nothing that came after it, nor what took
//! the place of records that were cut meanwhile. Nothing here depends on time.

use crate::common;

use std::sync::{Arc, mpsc};

use common::seam::{Call, Seam};
use wally::seam::Role;
use wally::{Journal, Options, SyncPolicy};

fn ten_records(path: &std::path::Path, seam: &Arc<Seam>) -> Journal {
    let options = &mut Options::new();
    let journal = options.sync_policy(SyncPolicy::OnDemand).seam(seam.clone()).open(path).unwrap();
    for n in 0..10 {
        journal.append(&common::payload(n, 300)).unwrap();
    }
    journal.flush().unwrap();
    journal
}

#[test]
fn a_sync_does_not_acknowledge_what_was_committed_after_it_began() {
    let (_dir, path) = common::place_in_memory();
    let seam = Seam::new();
    let journal = ten_records(&path, &seam);
    seam.hold_syncs();
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| journal.sync());
        seam.wait_held();
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
        seam.release();
        syncing.join().unwrap().unwrap();
    });
    assert_eq!((journal.committed_index(), journal.durable_index()), (15, 10));
}

#[test]
fn a_truncation_waits_for_the_sync_in_flight_and_what_follows_it_is_not_acknowledged() {
    for round in 0..20 {
        let (_dir, path) = common::place_in_memory();
        let seam = Seam::new();
        let journal = ten_records(&path, &seam);
        seam.take();
        seam.hold_one(|role, call| role == Role::Journal && call.is_sync());
        std::thread::scope(|scope| {
            let syncing = scope.spawn(|| journal.sync());
            seam.wait_held();
            let (begun, begins) = mpsc::channel();
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
            // Whether it has come to wait for the slot by now or not, nothing is durable yet and nothing is cut. Time for
            // one that does not wait to be seen.
            for _ in 0..round * 100 {
                std::thread::yield_now();
            }
            let indexes = (journal.last_index(), journal.durable_index());
            let io = seam.take_io();
            seam.release();
            assert_eq!((indexes, io), ((10, 0), Vec::new()), "while a sync was in flight");
            cutting.join().unwrap();
            syncing.join().unwrap().unwrap();
        });
        // The five are where others were when the sync began.
        assert_eq!((journal.last_index(), journal.durable_index()), (6, 1));
        assert_eq!(seam.take_io().first(), Some(&Call::Sync));
        journal.sync().unwrap();
        assert_eq!(journal.durable_index(), 6);
        journal.close().unwrap();
        assert_eq!(Options::new().open(&path).unwrap().last_index(), 6);
    }
}
