//! Group commit: threads that need records durable share syncs through the one sync slot.
//!
//! A thread that needs records durable and finds the slot free takes it and becomes the leader: it writes and syncs what is
//! there. Threads that come meanwhile wait; a waiter then finds its record covered, or leads the next round.
//!
//! * This file keeps the durable watermark, and alone decides the result of each waiter.
//! * `rounds` decides which thread leads next and which threads are woken.
//!
//! There is no I/O in this folder: the caller of [`GroupCommit::wait`] passes what the leader does. Only the holder of the
//! [`Slot`] may sync the file, shrink it or overwrite committed bytes, and only it moves the durable watermark.
//!
//! Lock order: slot, then append lock. The lock inside of [`GroupCommit`] is a leaf: no lock is taken under it.

mod rounds;

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::group_commit::rounds::{Leader, Round, Rounds, Wakeups};
use crate::notify::Notifier;
use crate::sync::{Arc, AtomicU64, Condvar, Mutex, Ordering, yield_now};

/// A point in the journal: the last record before it, and its offset in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Watermark {
    pub(crate) index: u64,
    pub(crate) bytes: u64,
}

/// What a waiter waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// The last record that has to be durable.
    pub(crate) index: u64,
    /// The generation that it was appended in.
    pub(crate) generation: u64,
    /// The stage that the record was in when the wait began; `None` if it was committed by then, so that it can be cut
    /// but not dropped.
    pub(crate) stage: Option<u64>,
}

/// Records that were dropped before they were committed: those staged after `kept`.
#[derive(Debug)]
pub(crate) struct Dropped {
    /// The stage that they were in. The next records go into another one, and so do those that follow a cut.
    pub(crate) stage: u64,
    pub(crate) kept: u64,
    /// The number of callers that wait for one of them. Each of them has to get the error.
    pub(crate) waiting: u64,
    pub(crate) error: Error,
}

#[derive(Debug, Default)]
struct DurableState {
    rounds: Rounds,
    generation: u64,
    durable: Watermark,
    /// The generation that settled the earlier ones: everything appended before it was made durable and then cut or kept,
    /// or was cut before it was written.
    settled: u64,
    dropped: VecDeque<Dropped>,
    failure: Option<Arc<Error>>,
    syncs: u64,
    synced_records: u64,
}

/// The sync slot and the durable watermark.
#[derive(Debug)]
pub(crate) struct GroupCommit {
    state: Mutex<DurableState>,
    queues: [Condvar; 2],
    slot_waiters: Condvar,
    /// The durable watermark again, for threads that do not take this lock.
    durable_index: AtomicU64,
    durable_bytes: AtomicU64,
    /// It knows which thread holds the slot, so that it wakes no waiter before the slot is free.
    notifier: Option<Arc<Notifier>>,
}

/// The sync slot, held. Only its holder syncs, shrinks or rewrites the file. A drop gives it up.
pub(crate) struct Slot<'a> {
    group_commit: &'a GroupCommit,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if let Some(notifier) = &self.group_commit.notifier {
            notifier.slot_given_up();
        }
        let wake = self.group_commit.state.lock().rounds.release();
        self.group_commit.wake(wake);
        if let Some(notifier) = &self.group_commit.notifier {
            notifier.slot_is_free();
        }
    }
}

/// What a waiter does next.
enum WaiterStep<'a> {
    Done(Result<()>),
    Lead(Slot<'a>, Leader),
}

impl GroupCommit {
    pub(crate) fn new(durable: Watermark) -> Self {
        Self {
            state: Mutex::new(DurableState { durable, ..DurableState::default() }),
            queues: [Condvar::new(), Condvar::new()],
            slot_waiters: Condvar::new(),
            durable_index: AtomicU64::new(durable.index),
            durable_bytes: AtomicU64::new(durable.bytes),
            notifier: None,
        }
    }

    /// Tells `notifier` from now on which thread holds the slot.
    pub(crate) fn with_notifier(mut self, notifier: &Arc<Notifier>) -> Self {
        self.notifier = Some(Arc::clone(notifier));
        self
    }

    /// Returns the slot, which this thread has just taken.
    fn slot(&self) -> Slot<'_> {
        if let Some(notifier) = &self.notifier {
            notifier.slot_taken();
        }
        Slot { group_commit: self }
    }

    /// Returns the index of the last durable record.
    pub(crate) fn durable_index(&self) -> u64 {
        self.durable_index.load(Ordering::Acquire)
    }

    /// Returns the file offset where the durable part ends. A sync that has just completed may not be counted yet.
    #[inline]
    pub(crate) fn durable_bytes(&self) -> u64 {
        self.durable_bytes.load(Ordering::Acquire)
    }

    /// Returns the durable watermark.
    pub(crate) fn durable(&self) -> Watermark {
        self.state.lock().durable
    }

    /// Returns the generation that the durable watermark belongs to.
    pub(crate) fn generation(&self) -> u64 {
        self.state.lock().generation
    }

    /// Returns the number of completed syncs, and of the records that they made durable.
    pub(crate) fn syncs(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.syncs, state.synced_records)
    }

    /// Returns the number of waiters that sleep until they have a result or may lead, and of threads that sleep until they
    /// can take the slot.
    #[cfg(test)]
    pub(crate) fn asleep(&self) -> (u64, u64) {
        self.state.lock().rounds.asleep()
    }

    /// Waits for the slot and takes it.
    pub(crate) fn take_slot(&self) -> Slot<'_> {
        let mut state = self.state.lock();
        while !state.rounds.take() {
            state.rounds.slot_waiter_sleeps();
            state = self.slot_waiters.wait(state);
            state.rounds.slot_waiter_wakes();
        }
        self.slot()
    }

    fn wake(&self, Wakeups { slot_waiter, covered, all, leader }: Wakeups) {
        if slot_waiter {
            self.slot_waiters.notify_one();
        }
        for queue in [covered, all].into_iter().flatten() {
            queue.of(&self.queues).notify_all();
        }
        // Last, so that the covered waiters get the processor first, and come back in time.
        if let Some(queue) = leader {
            queue.of(&self.queues).notify_one();
        }
    }

    /// Waits until `target` is durable. Whenever this thread is the leader it calls `lead` with the slot, which writes and
    /// syncs everything that is staged.
    ///
    /// # Errors
    /// What `lead` failed with, the error of a dropped record, or `Poisoned`.
    pub(crate) fn wait(&self, target: Target, mut lead: impl FnMut(&Slot<'_>) -> Result<()>) -> Result<()> {
        loop {
            match self.next_step(target) {
                WaiterStep::Done(result) => return result,
                WaiterStep::Lead(slot, Leader { yields }) => {
                    if yields {
                        // Once, and not until the missing waiters are there: another program may want the processor, too.
                        yield_now();
                    }
                    let led = lead(&slot);
                    let result = self.state.lock().result(target);
                    drop(slot);
                    match (result, led) {
                        (Some(result), _) => return result,
                        (None, Err(error)) => return Err(error),
                        (None, Ok(())) => {}
                    }
                }
            }
        }
    }

    /// Sleeps until `target` has a result, or until this thread may lead.
    fn next_step(&self, target: Target) -> WaiterStep<'_> {
        let mut state = self.state.lock();
        let (mut slept, mut called) = (false, false);
        loop {
            if let Some(result) = state.result(target) {
                let wake = if slept { state.rounds.leave() } else { Wakeups::default() };
                drop(state);
                self.wake(wake);
                return WaiterStep::Done(result);
            }
            if let Some(lead) = state.rounds.lead(called) {
                return WaiterStep::Lead(self.slot(), lead);
            }
            let queue = state.rounds.sleep(target.generation, target.index);
            state = queue.of(&self.queues).wait(state);
            called = state.rounds.awake(queue);
            slept = true;
        }
    }

    /// Begins a sync that will cover all records up to `to`, in `generation`. Waiters that it covers sleep apart from the
    /// others from here on, and are woken together.
    pub(crate) fn round_begins(&self, _: &Slot<'_>, generation: u64, to: Watermark) {
        self.state.lock().rounds.round_begins(Round { generation, last: to.index });
    }

    /// Notes how long a sync took, which decides whether gathering many waiters for the next one pays.
    pub(crate) fn sync_took(&self, _: &Slot<'_>, time: Duration) {
        self.state.lock().rounds.sync_took(time);
    }

    /// Raises the durable watermark to `to`: a sync that began when the file ended there, in `generation`, has completed.
    pub(crate) fn acknowledge(&self, _: &Slot<'_>, generation: u64, to: Watermark) {
        let mut state = self.state.lock();
        // The slot keeps cuts away from syncs, so the generations are the same; if they ever were not, the bytes
        // that were synced are not the ones that are there now.
        if state.generation == generation && to.bytes >= state.durable.bytes {
            state.syncs += 1;
            state.synced_records += to.index.saturating_sub(state.durable.index);
            state.rounds.acknowledged(Round { generation, last: to.index });
            self.set(&mut state, to);
        }
    }

    /// Lowers the durable watermark to `end`, because readers are about to see a shorter journal that ends there. Waiters get
    /// their results from the [cut](Self::cut), or when that is [taken back](Self::restore).
    pub(crate) fn lower(&self, _: &Slot<'_>, end: Watermark) {
        let mut state = self.state.lock();
        if end.bytes < state.durable.bytes {
            self.set(&mut state, end);
        }
    }

    /// Takes back a cut that was begun: the journal ends durably at `end` again, in another generation. Records that were
    /// staged before still are, and their waiters go on waiting.
    pub(crate) fn restore(&self, _: &Slot<'_>, generation: u64, end: Watermark) {
        let mut state = self.state.lock();
        state.generation = generation;
        state.rounds.results_given();
        self.set(&mut state, end);
    }

    /// Begins a new generation after a cut, which ends, durably, at `end`. All records that were appended before were made
    /// durable first, or were staged and removed with the rest.
    pub(crate) fn cut(&self, _: &Slot<'_>, generation: u64, end: Watermark) {
        let mut state = self.state.lock();
        state.generation = generation;
        state.settled = generation;
        state.rounds.results_given();
        self.set(&mut state, end);
    }

    fn set(&self, state: &mut DurableState, durable: Watermark) {
        state.durable = durable;
        self.durable_index.store(durable.index, Ordering::Release);
        self.durable_bytes.store(durable.bytes, Ordering::Release);
    }

    /// Gives the error of dropped records to the callers that wait for them.
    pub(crate) fn dropped(&self, _: &Slot<'_>, dropped: Dropped) {
        if dropped.waiting > 0 {
            let mut state = self.state.lock();
            state.dropped.push_back(dropped);
            state.rounds.results_given();
        }
    }

    /// Gives `failure` to every waiter that is not covered: no record will become durable any more.
    pub(crate) fn fail(&self, _: &Slot<'_>, generation: u64, failure: Arc<Error>) {
        let mut state = self.state.lock();
        state.generation = generation;
        state.failure.get_or_insert(failure);
        state.rounds.results_given();
    }
}

impl Dropped {
    /// Returns `true` if the record that `target` waits for is one of these.
    fn holds(&self, target: Target) -> bool {
        target.stage == Some(self.stage) && target.index > self.kept
    }
}

impl DurableState {
    /// Returns the result of the waiter for `target`, or `None` if it has to wait on.
    fn result(&mut self, target: Target) -> Option<Result<()>> {
        // Dropped records first, since the index of one goes to another record, which may be durable by now.
        if let Some(at) = self.dropped.iter().position(|dropped| dropped.holds(target))
            && let Some(dropped) = self.dropped.get_mut(at)
        {
            let error = dropped.error.clone();
            dropped.waiting -= 1;
            if dropped.waiting == 0 {
                self.dropped.remove(at);
            }
            return Some(Err(error));
        }
        // Since the settled generation, no record up to the durable point has changed its index.
        if target.generation < self.settled || target.index <= self.durable.index {
            return Some(Ok(()));
        }
        let first = Arc::clone(self.failure.as_ref()?);
        Some(Err(Error::Poisoned { first }))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::io;
    use std::path::Path;

    fn target(index: u64) -> Target {
        Target { index, generation: 0, stage: Some(0) }
    }

    fn failure() -> Error {
        Error::io("write", Path::new("/j"), io::Error::from_raw_os_error(28))
    }

    fn stage_dropped(kept: u64, waiting: u64) -> Dropped {
        Dropped { stage: 0, kept, waiting, error: failure() }
    }

    #[test]
    fn what_is_durable_needs_no_leader() {
        let commit = GroupCommit::new(Watermark { index: 5, bytes: 100 });
        commit.wait(target(5), |_| unreachable!("nothing to lead")).unwrap();
    }

    #[test]
    fn a_leader_covers_itself() {
        let commit = GroupCommit::new(Watermark::default());
        let mut led = 0;
        let lead = |slot: &Slot<'_>| {
            led += 1;
            commit.acknowledge(slot, 0, Watermark { index: 3, bytes: 60 });
            Ok(())
        };
        commit.wait(target(3), lead).unwrap();
        assert_eq!((led, commit.durable_index(), commit.durable_bytes()), (1, 3, 60));
        assert_eq!(commit.syncs(), (1, 3));
    }

    #[test]
    fn a_sync_of_an_older_generation_acknowledges_nothing() {
        let commit = GroupCommit::new(Watermark::default());
        let slot = commit.take_slot();
        commit.cut(&slot, 1, Watermark { index: 1, bytes: 20 });
        commit.acknowledge(&slot, 0, Watermark { index: 9, bytes: 900 });
        assert_eq!(commit.durable(), Watermark { index: 1, bytes: 20 });
    }

    #[test]
    fn an_append_that_was_synced_and_then_cut_is_acknowledged() {
        let commit = GroupCommit::new(Watermark::default());
        commit.cut(&commit.take_slot(), 1, Watermark { index: 1, bytes: 20 });
        commit.wait(target(7), |_| unreachable!("settled")).unwrap();
    }

    #[test]
    fn a_dropped_stage_fails_its_appends_and_no_other() {
        let commit = GroupCommit::new(Watermark { index: 1, bytes: 20 });
        commit.dropped(&commit.take_slot(), stage_dropped(1, 2));
        for index in [2, 3] {
            let error = commit.wait(target(index), |_| unreachable!("dropped")).unwrap_err();
            assert!(matches!(error, Error::Io { op: "write", .. }), "{error}");
        }
        assert!(commit.state.lock().dropped.is_empty(), "every waiter has its error");
        commit.dropped(&commit.take_slot(), stage_dropped(1, 1));
        let next = Target { stage: Some(1), ..target(2) };
        let lead = |slot: &Slot<'_>| {
            commit.acknowledge(slot, 0, Watermark { index: 2, bytes: 40 });
            Ok(())
        };
        commit.wait(next, lead).unwrap();
    }

    #[test]
    fn a_dropped_append_fails_even_if_its_index_is_durable_again_or_cut() {
        let commit = GroupCommit::new(Watermark { index: 1, bytes: 20 });
        commit.dropped(&commit.take_slot(), stage_dropped(1, 2));
        commit.acknowledge(&commit.take_slot(), 0, Watermark { index: 2, bytes: 40 });
        commit.wait(target(2), |_| unreachable!("dropped")).unwrap_err();
        commit.cut(&commit.take_slot(), 1, Watermark { index: 1, bytes: 20 });
        commit.wait(target(3), |_| unreachable!("dropped")).unwrap_err();
        assert!(commit.state.lock().dropped.is_empty(), "every waiter has its error");
    }

    #[test]
    fn a_drop_in_a_new_generation_does_not_fail_appends_of_the_old_one() {
        let commit = GroupCommit::new(Watermark::default());
        let slot = commit.take_slot();
        commit.cut(&slot, 1, Watermark { index: 1, bytes: 20 });
        commit.dropped(&slot, Dropped { stage: 1, ..stage_dropped(1, 1) });
        drop(slot);
        commit.wait(target(7), |_| unreachable!("settled")).unwrap();
        let dropped = Target { generation: 1, stage: Some(1), ..target(2) };
        commit.wait(dropped, |_| unreachable!("dropped")).unwrap_err();
    }

    #[test]
    fn what_is_staged_while_a_cut_is_taken_back_waits_on() {
        let commit = GroupCommit::new(Watermark { index: 4, bytes: 80 });
        let slot = commit.take_slot();
        commit.lower(&slot, Watermark { index: 1, bytes: 20 });
        assert_eq!((commit.durable_index(), commit.durable_bytes()), (1, 20));
        commit.restore(&slot, 2, Watermark { index: 4, bytes: 80 });
        drop(slot);
        commit.wait(target(4), |_| unreachable!("durable")).unwrap();
        let mut led = 0;
        let lead = |slot: &Slot<'_>| {
            led += 1;
            commit.acknowledge(slot, 2, Watermark { index: 5, bytes: 100 });
            Ok(())
        };
        commit.wait(target(5), lead).unwrap();
        assert_eq!(led, 1);
        commit.dropped(&commit.take_slot(), stage_dropped(5, 1));
        commit.wait(target(6), |_| unreachable!("dropped")).unwrap_err();
    }

    #[test]
    fn a_failure_reaches_waiters_that_are_not_covered() {
        let commit = GroupCommit::new(Watermark { index: 4, bytes: 20 });
        commit.fail(&commit.take_slot(), 0, Arc::new(failure()));
        commit.wait(target(4), |_| unreachable!("durable")).unwrap();
        let error = commit.wait(target(5), |_| unreachable!("failed")).unwrap_err();
        assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    }
}
