//! Whose turn it is at the sync slot: who sleeps where, and whom a thread wakes as it lets the slot go. Plain counts, kept
//! by [`GroupCommit`](crate::group_commit::GroupCommit) under its lock.
//!
//! Waiters sleep at one of two queues: at one those whom the round in flight covers, at the other those whom it does
//! not. So the end of a round wakes all whom it covered in one call, and of the others only one, who leads the next.
//!
//! Where syncs take long, fewer and larger ones win. A thread that was let go often comes back with the next record at
//! once, so a round had better not begin before these are back. Nobody waits for them as such: those who were covered
//! are woken first, and whoever comes back leads only when the last of them has left its queue.
//!
//! Which queue a waiter sleeps at is a matter of speed. Nobody is lost at the wrong one: while the slot is free and someone
//! sleeps at the next queue, one of those is called, or the last of those who leave will call one.

use std::time::Duration;

/// Syncs that take less are over before a sleeping thread is awake; then it is best to let whoever comes first lead.
const WORTH_GATHERING: Duration = Duration::from_micros(20);

/// Where waiters sleep. Which of the two is for whom changes with every round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Queue {
    #[default]
    Even,
    Odd,
}

impl Queue {
    fn other(self) -> Self {
        match self {
            Self::Even => Self::Odd,
            Self::Odd => Self::Even,
        }
    }

    /// What stands at this queue, of a pair.
    pub(crate) fn of<T>(self, [even, odd]: &[T; 2]) -> &T {
        match self {
            Self::Even => even,
            Self::Odd => odd,
        }
    }

    fn of_mut<T>(self, [even, odd]: &mut [T; 2]) -> &mut T {
        match self {
            Self::Even => even,
            Self::Odd => odd,
        }
    }
}

/// Whom to wake, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wakeups {
    /// One of those who wait for the slot itself.
    pub(crate) slot_waiter: bool,
    /// All at a queue.
    pub(crate) covered: Option<Queue>,
    /// All at a queue, or one that may lead.
    pub(crate) all: Option<Queue>,
    pub(crate) leader: Option<Queue>,
}

/// What a round covers: the records of one generation up to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) generation: u64,
    pub(crate) last: u64,
}

/// A round that a thread may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leader {
    /// Half of those who were there last are missing, and may only want the processor.
    pub(crate) yields: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    held: bool,
    /// Threads that sleep until they can take the slot. Nobody leads as long as there are any.
    slot_waiters: u64,
    /// Waiters asleep, or woken and not yet awake, by queue.
    asleep: [u64; 2],
    /// The queue of those whom the round in flight does not cover.
    next: Queue,
    /// The round in flight.
    round: Option<Round>,
    /// Waiters at both queues may have a result.
    both_have_results: bool,
    /// One at the next queue was woken to lead and is not yet awake.
    leader_woken: bool,
    /// The last sync was worth gathering for.
    gathers: bool,
    /// Waiters when the slot was let go last, its holder included.
    waiters_before: u64,
}

impl Rounds {
    /// Takes the slot, if it is free.
    pub(crate) fn take(&mut self) -> bool {
        let free = !self.held;
        if free {
            (self.held, self.leader_woken) = (true, false);
        }
        free
    }

    /// A thread goes to sleep until the slot is free.
    pub(crate) fn slot_waiter_sleeps(&mut self) {
        self.slot_waiters += 1;
    }

    pub(crate) fn slot_waiter_wakes(&mut self) {
        self.slot_waiters -= 1;
    }

    /// Takes the slot to lead a round, if a waiter may. `woken` says that it slept at the next queue until now.
    pub(crate) fn lead(&mut self, woken: bool) -> Option<Leader> {
        let gathered = woken || !self.gathers || self.not_yet_awake() == 0;
        if self.slot_waiters > 0 || !gathered || !self.take() {
            return None;
        }
        let here = self.asleep.iter().sum::<u64>() + 1;
        Some(Leader { yields: self.gathers && 2 * here <= self.waiters_before })
    }

    /// Waiters that sleep, and threads that wait for the slot itself.
    #[cfg(test)]
    pub(crate) fn asleep(&self) -> (u64, u64) {
        (self.asleep.iter().sum(), self.slot_waiters)
    }

    /// A waiter for record `index` of `generation` goes to sleep; its queue.
    pub(crate) fn sleep(&mut self, generation: u64, index: u64) -> Queue {
        let covered = self.round.is_some_and(|round| generation == round.generation && index <= round.last);
        let queue = if covered { self.next.other() } else { self.next };
        *queue.of_mut(&mut self.asleep) += 1;
        queue
    }

    /// A waiter that slept at `queue` is awake; whether it may lead even if others have yet to leave.
    pub(crate) fn awake(&mut self, queue: Queue) -> bool {
        *queue.of_mut(&mut self.asleep) -= 1;
        let next = queue == self.next;
        if next {
            self.leader_woken = false;
        }
        next
    }

    /// A waiter that has slept leaves with its result; whom it has to wake.
    pub(crate) fn leave(&mut self) -> Wakeups {
        let waits = *self.next.of(&self.asleep) > 0;
        if self.held || self.leader_woken || self.slot_waiters > 0 || self.not_yet_awake() > 0 || !waits {
            return Wakeups::default();
        }
        self.leader_woken = true;
        Wakeups { leader: Some(self.next), ..Wakeups::default() }
    }

    /// What `round` covers is about to be synced. All who sleep have appended before, so it covers them.
    pub(crate) fn round_begins(&mut self, round: Round) {
        // The second round of one holder: whom the first covered sleeps at what now is the next queue.
        self.both_have_results |= self.round.is_some();
        self.round = Some(round);
        self.next = self.next.other();
    }

    /// What `round` covers is durable. Waiters are at the queues for that if it is the round in flight.
    pub(crate) fn acknowledged(&mut self, round: Round) {
        self.both_have_results |= self.round != Some(round);
    }

    /// Verdicts were given, whatever the queue.
    pub(crate) fn results_given(&mut self) {
        self.both_have_results = true;
    }

    /// A sync has taken so long.
    pub(crate) fn sync_took(&mut self, time: Duration) {
        self.gathers = time >= WORTH_GATHERING;
    }

    /// Lets the slot go.
    pub(crate) fn release(&mut self) -> Wakeups {
        self.held = false;
        self.waiters_before = self.asleep.iter().sum::<u64>() + 1;
        let told = std::mem::take(&mut self.both_have_results);
        let covers = self.round.take().is_some() || told;
        let slot_waiter = self.slot_waiters > 0;
        let behind = (*self.next.of(&self.asleep) > 0).then_some(self.next);
        let all = behind.filter(|_| told);
        let leader = behind.filter(|_| !told && !slot_waiter);
        self.leader_woken = leader.is_some();
        let covered = (covers && self.not_yet_awake() > 0).then_some(self.next.other());
        Wakeups { slot_waiter, covered, all, leader }
    }

    /// While the slot is free: those who were woken with a result, and are not yet awake.
    fn not_yet_awake(&self) -> u64 {
        *self.next.other().of(&self.asleep)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_millis(1);

    fn round(last: u64) -> Round {
        Round { generation: 0, last }
    }

    /// Someone leads a round up to record `last`, `covered` others wait for it and `behind` for what comes after.
    fn in_flight(last: u64, covered: usize, behind: usize) -> Rounds {
        let mut rounds = Rounds::default();
        assert!(rounds.lead(false).is_some());
        rounds.round_begins(round(last));
        for _ in 0..covered {
            rounds.sleep(0, last);
        }
        for _ in 0..behind {
            rounds.sleep(0, last + 1);
        }
        rounds.sync_took(SLOW);
        rounds
    }

    #[test]
    fn the_end_of_a_round_wakes_all_whom_it_covers_and_one_that_leads_the_next() {
        let mut rounds = in_flight(5, 3, 3);
        rounds.acknowledged(round(5));
        let wake = rounds.release();
        let (Some(covered), Some(leader)) = (wake.covered, wake.leader) else { panic!("{wake:?}") };
        assert_eq!(covered, leader.other());
        assert_eq!((wake.slot_waiter, wake.all), (false, None));
        assert!(rounds.awake(leader), "it may lead even if those before it have not left");
        assert!(rounds.lead(true).is_some());
    }

    #[test]
    fn who_sleeps_when_a_round_begins_is_covered_by_it() {
        let mut rounds = Rounds::default();
        assert!(rounds.lead(false).is_some());
        let queue = rounds.sleep(0, 2);
        rounds.round_begins(round(2));
        rounds.acknowledged(round(2));
        assert_eq!(rounds.release(), Wakeups { covered: Some(queue), ..Wakeups::default() });
    }

    #[test]
    fn with_nobody_asleep_nobody_is_woken() {
        let mut rounds = in_flight(1, 0, 0);
        rounds.acknowledged(round(1));
        assert_eq!(rounds.release(), Wakeups::default());
    }

    #[test]
    fn verdicts_that_no_round_announced_wake_everyone() {
        let causes: [fn(&mut Rounds); 3] = [
            Rounds::results_given,
            |rounds| rounds.acknowledged(round(6)),
            |rounds| {
                // Whom the first of two rounds covers is at the queue of those whom the second does not.
                rounds.acknowledged(round(5));
                rounds.round_begins(round(6));
            },
        ];
        for cause in causes {
            let mut rounds = in_flight(5, 2, 2);
            cause(&mut rounds);
            let wake = rounds.release();
            assert!(wake.covered.is_some() && wake.all.is_some(), "{wake:?}");
        }
    }

    #[test]
    fn where_syncs_take_long_the_last_that_leaves_calls_one_of_those_who_came_back() {
        let mut rounds = in_flight(5, 2, 0);
        rounds.acknowledged(round(5));
        let covered = rounds.release().covered.unwrap();
        assert_eq!(rounds.lead(false), None, "the holder itself is back first");
        let next = rounds.sleep(0, 6);
        rounds.awake(covered);
        assert_eq!(rounds.leave(), Wakeups::default(), "another has yet to leave");
        assert_eq!(rounds.lead(false), None);
        rounds.sleep(0, 7);
        rounds.awake(covered);
        assert_eq!(rounds.leave(), Wakeups { leader: Some(next), ..Wakeups::default() });
        assert_eq!(rounds.leave(), Wakeups::default(), "one is called");
        assert!(rounds.lead(false).is_some(), "whoever is quicker than the one that was called");
        assert!(rounds.awake(next));
        assert_eq!(rounds.lead(true), None);
    }

    #[test]
    fn where_syncs_are_quick_whoever_comes_first_leads() {
        let mut rounds = in_flight(5, 2, 0);
        rounds.sync_took(Duration::from_micros(1));
        rounds.acknowledged(round(5));
        rounds.release();
        assert_eq!(rounds.lead(false), Some(Leader { yields: false }));
    }

    #[test]
    fn nobody_leads_before_those_who_wait_for_the_slot_itself() {
        let mut rounds = in_flight(5, 0, 1);
        assert!(!rounds.take());
        rounds.slot_waiter_sleeps();
        rounds.acknowledged(round(5));
        assert_eq!(rounds.release(), Wakeups { slot_waiter: true, ..Wakeups::default() });
        assert_eq!((rounds.lead(false), rounds.lead(true)), (None, None));
        rounds.slot_waiter_wakes();
        assert!(rounds.take());
        let wake = rounds.release();
        assert!(wake.leader.is_some(), "{wake:?}");
    }

    #[test]
    fn a_leader_yields_once_if_half_of_those_seen_last_are_missing() {
        // Behind 0 the holder leads again; else one of those behind, while the holder is gone.
        for (behind, yields) in [(0, false), (1, true), (2, false)] {
            let mut rounds = in_flight(5, 0, behind);
            rounds.acknowledged(round(5));
            let leader = rounds.release().leader;
            if let Some(queue) = leader {
                rounds.awake(queue);
            }
            assert_eq!(rounds.lead(leader.is_some()), Some(Leader { yields }), "{behind}");
        }
    }
}
