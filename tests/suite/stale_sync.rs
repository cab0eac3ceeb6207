//! P5: an fdatasync in flight acknowledges what was committed when it began, and nothing that came after it, nor what took
//! the place of records that were cut meanwhile. Nothing here depends on time.

use crate::common;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};

use common::faults::{Faults, Kind};
use wally::seam::{Op, Role, Seam, Verdict};
use wally::{Journal, Options, SyncPolicy};

fn ten_records(path: &std::path::Path, faults: &Arc<Faults>) -> Journal {
    let options = &mut Options::new();
    let journal = options.sync_policy(SyncPolicy::OnDemand).seam(faults.clone()).open(path).unwrap();
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

/// Holds the first sync of the journal until it is told to let it go; later ones go through. Remembers what completed.
#[derive(Default)]
struct First {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    armed: bool,
    holding: bool,
    seen: Vec<Kind>,
}

impl First {
    fn until<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        done: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        while !done(&state) {
            state = self.changed.wait(state).unwrap();
        }
        state
    }
}

impl Seam for First {
    fn before(&self, role: Role, op: &Op<'_>) -> Verdict {
        let mut state = self.state.lock().unwrap();
        if role == Role::Journal && state.armed && matches!(op, Op::Sync) {
            (state.armed, state.holding) = (false, true);
            self.changed.notify_all();
            drop(self.until(state, |state| !state.holding));
        }
        Verdict::Proceed
    }

    fn after(&self, _: Role, op: &Op<'_>, _: Option<usize>) {
        let kind = match op {
            Op::Sync => Kind::Sync,
            Op::Truncate { len } => Kind::Truncate { len: *len },
            Op::Write { offset, .. } => Kind::Write { offset: *offset, len: 0, head: Vec::new() },
            Op::Extend { .. } | Op::Map { .. } | Op::Preserve { .. } => return,
        };
        self.state.lock().unwrap().seen.push(kind);
    }
}

#[test]
fn a_truncation_waits_for_the_sync_in_flight_and_what_follows_it_is_not_acknowledged() {
    for round in 0..20 {
        let (_dir, path) = common::place_in_memory();
        let first = Arc::new(First::default());
        let journal =
            Options::new().sync_policy(SyncPolicy::OnDemand).seam(first.clone()).open(&path).unwrap();
        for n in 0..10 {
            journal.append(&common::payload(n, 300)).unwrap();
        }
        journal.flush().unwrap();
        let mut state = first.state.lock().unwrap();
        (state.armed, state.seen) = (true, Vec::new());
        std::thread::scope(|scope| {
            let syncing = scope.spawn(|| journal.sync());
            drop(first.until(state, |state| state.holding));
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
            let mut state = first.state.lock().unwrap();
            let seen = state.seen.clone();
            state.holding = false;
            drop(state);
            first.changed.notify_all();
            assert_eq!((indexes, seen), ((10, 0), Vec::new()), "while a sync was in flight");
            cutting.join().unwrap();
            syncing.join().unwrap().unwrap();
        });
        // The five are where others were when the sync began.
        assert_eq!((journal.last_index(), journal.durable_index()), (6, 1));
        assert_eq!(first.state.lock().unwrap().seen.first(), Some(&Kind::Sync));
        journal.sync().unwrap();
        assert_eq!(journal.durable_index(), 6);
        journal.close().unwrap();
        assert_eq!(Options::new().open(&path).unwrap().last_index(), 6);
    }
}
