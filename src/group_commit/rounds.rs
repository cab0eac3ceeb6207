//! Rounds of syncs: which thread leads the next one, which waiters the one in flight covers, and which threads are woken
//! when the slot is given up. Plain counts without I/O, kept by [`GroupCommit`](super::GroupCommit) under its lock.
//!
//! Waiters sleep in one of two queues: those that the round in flight covers in one, all others in the other. So the end of
//! a round wakes all waiters that it covers with one call, and of the others only one, which leads the next round.
//!
//! Where syncs take long, fewer and larger ones are faster. A thread whose record became durable often comes back with its
//! next record at once, so a round should not begin before these threads are back. No thread waits for them as such: the
//! covered waiters are woken first, and a thread that comes back leads only when the last of them has left its queue.
//!
//! The queue of a waiter only affects speed. A waiter in the wrong queue is not forgotten: while the slot is free and a
//! waiter sleeps in the next queue, one of those is woken, or the last covered waiter that leaves will wake one.

use std::time::Duration;

/// Syncs that take less than this are over before a sleeping thread is awake. After those, the first thread to come leads.
const GATHERING_PAYS_FROM: Duration = Duration::from_micros(20);

/// One of the two queues of sleeping waiters. The round in flight covers the waiters of one; the two swap roles with every
/// round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Queue {
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

    /// Returns the element of a pair that belongs to this queue.
    pub(super) fn of<T>(self, [even, odd]: &[T; 2]) -> &T {
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

/// The threads to wake, in the order of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wakeups {
    /// One of the threads that wait for the slot itself.
    pub(super) slot_waiter: bool,
    /// All waiters of this queue: the round covered them.
    pub(super) covered: Option<Queue>,
    /// All waiters of this queue: they may have a result although no round covered them.
    pub(super) all: Option<Queue>,
    /// One waiter of this queue, which may lead.
    pub(super) leader: Option<Queue>,
}

/// A round of syncing. It covers the records of one generation up to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) generation: u64,
    pub(super) last: u64,
}

/// A thread that may lead a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leader {
    /// The leader yields the processor once before it begins: at least half of the waiters of the last round are missing,
    /// and may only need the processor to come back.
    pub(super) yields: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Rounds {
    held: bool,
    /// Threads that sleep until they can take the slot. No waiter leads while there are any.
    slot_waiters: u64,
    /// Waiters that are asleep, or woken and not yet awake, by queue.
    asleep: [u64; 2],
    /// The queue of the waiters that the round in flight does not cover.
    next: Queue,
    /// The round in flight.
    round: Option<Round>,
    /// Waiters in both queues may have a result.
    both_have_results: bool,
    /// A waiter in the next queue was woken to lead and is not yet awake.
    leader_woken: bool,
    /// The last sync took long enough that gathering waiters for the next one pays.
    gathers: bool,
    /// The number of waiters when the slot was last given up, its holder included.
    waiters_before: u64,
}

impl Rounds {
    /// Takes the slot. Returns `false` if another thread holds it.
    pub(super) fn take(&mut self) -> bool {
        let free = !self.held;
        if free {
            (self.held, self.leader_woken) = (true, false);
        }
        free
    }

    /// Counts a thread that goes to sleep until the slot is free.
    pub(super) fn slot_waiter_sleeps(&mut self) {
        self.slot_waiters += 1;
    }

    /// Counts a thread that slept until the slot was free as awake.
    pub(super) fn slot_waiter_wakes(&mut self) {
        self.slot_waiters -= 1;
    }

    /// Takes the slot for a waiter that leads a round, if a waiter may lead now. `woken`: the waiter has just been woken
    /// in the next queue.
    pub(super) fn lead(&mut self, woken: bool) -> Option<Leader> {
        let gathered = woken || !self.gathers || self.not_yet_awake() == 0;
        if self.slot_waiters > 0 || !gathered || !self.take() {
            return None;
        }
        let here = self.asleep.iter().sum::<u64>() + 1;
        Some(Leader { yields: self.gathers && 2 * here <= self.waiters_before })
    }

    /// Returns the number of waiters that sleep, and of threads that wait for the slot itself.
    #[cfg(test)]
    pub(super) fn asleep(&self) -> (u64, u64) {
        (self.asleep.iter().sum(), self.slot_waiters)
    }

    /// Counts a waiter for record `index` of `generation` that goes to sleep, and returns its queue.
    pub(super) fn sleep(&mut self, generation: u64, index: u64) -> Queue {
        let covered = self.round.is_some_and(|round| generation == round.generation && index <= round.last);
        let queue = if covered { self.next.other() } else { self.next };
        *queue.of_mut(&mut self.asleep) += 1;
        queue
    }

    /// Counts a waiter that slept in `queue` as awake. Returns `true` if it may lead even though others have yet to leave.
    pub(super) fn awake(&mut self, queue: Queue) -> bool {
        *queue.of_mut(&mut self.asleep) -= 1;
        let next = queue == self.next;
        if next {
            self.leader_woken = false;
        }
        next
    }

    /// A waiter that has slept leaves with its result. Returns the threads that it has to wake.
    pub(super) fn leave(&mut self) -> Wakeups {
        let waits = *self.next.of(&self.asleep) > 0;
        if self.held || self.leader_woken || self.slot_waiters > 0 || self.not_yet_awake() > 0 || !waits {
            return Wakeups::default();
        }
        self.leader_woken = true;
        Wakeups { leader: Some(self.next), ..Wakeups::default() }
    }

    /// Begins `round`: the slot's holder is about to sync what it covers. All sleeping waiters have appended before, so the
    /// round covers them.
    pub(super) fn round_begins(&mut self, round: Round) {
        // In the second round of one holder, the waiters that the first covered sleep in what now is the next queue.
        self.both_have_results |= self.round.is_some();
        self.round = Some(round);
        self.next = self.next.other();
    }

    /// Notes that what `round` covers is durable. Waiters are in the right queue for that only if it is the round in
    /// flight.
    pub(super) fn acknowledged(&mut self, round: Round) {
        self.both_have_results |= self.round != Some(round);
    }

    /// Notes that waiters of either queue may have a result.
    pub(super) fn results_given(&mut self) {
        self.both_have_results = true;
    }

    /// Notes how long a sync took.
    pub(super) fn sync_took(&mut self, time: Duration) {
        self.gathers = time >= GATHERING_PAYS_FROM;
    }

    /// Gives the slot up. Returns the threads to wake.
    pub(super) fn release(&mut self) -> Wakeups {
        self.held = false;
        self.waiters_before = self.asleep.iter().sum::<u64>() + 1;
        let both = std::mem::take(&mut self.both_have_results);
        let covers = self.round.take().is_some() || both;
        let slot_waiter = self.slot_waiters > 0;
        let next = (*self.next.of(&self.asleep) > 0).then_some(self.next);
        let all = next.filter(|_| both);
        let leader = next.filter(|_| !both && !slot_waiter);
        self.leader_woken = leader.is_some();
        let covered = (covers && self.not_yet_awake() > 0).then_some(self.next.other());
        Wakeups { slot_waiter, covered, all, leader }
    }

    /// Returns, while the slot is free, the number of waiters that were woken with a result and are not yet awake.
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

    /// A thread leads a round up to record `last`. `covered` waiters wait for it and `later` ones for records after it.
    fn in_flight(last: u64, covered: usize, later: usize) -> Rounds {
        let mut rounds = Rounds::default();
        assert!(rounds.lead(false).is_some());
        rounds.round_begins(round(last));
        for _ in 0..covered {
            rounds.sleep(0, last);
        }
        for _ in 0..later {
            rounds.sleep(0, last + 1);
        }
        rounds.sync_took(SLOW);
        rounds
    }

    #[test]
    fn the_end_of_a_round_wakes_all_that_it_covers_and_one_that_leads_the_next() {
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
    fn a_round_covers_the_waiters_that_sleep_when_it_begins() {
        let mut rounds = Rounds::default();
        assert!(rounds.lead(false).is_some());
        let queue = rounds.sleep(0, 2);
        rounds.round_begins(round(2));
        rounds.acknowledged(round(2));
        assert_eq!(rounds.release(), Wakeups { covered: Some(queue), ..Wakeups::default() });
    }

    #[test]
    fn with_no_waiter_asleep_none_is_woken() {
        let mut rounds = in_flight(1, 0, 0);
        rounds.acknowledged(round(1));
        assert_eq!(rounds.release(), Wakeups::default());
    }

    #[test]
    fn results_that_no_round_announced_wake_all() {
        let causes: [fn(&mut Rounds); 3] = [
            Rounds::results_given,
            |rounds| rounds.acknowledged(round(6)),
            |rounds| {
                // The waiters that the first of two rounds covers are in the queue of those that the second does not cover.
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
    fn where_syncs_take_long_the_last_waiter_that_leaves_wakes_one_that_came_back() {
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
        assert_eq!(rounds.leave(), Wakeups::default(), "one is woken");
        assert!(rounds.lead(false).is_some(), "a thread that is quicker than the one that was woken");
        assert!(rounds.awake(next));
        assert_eq!(rounds.lead(true), None);
    }

    #[test]
    fn where_syncs_are_quick_the_first_to_come_leads() {
        let mut rounds = in_flight(5, 2, 0);
        rounds.sync_took(Duration::from_micros(1));
        rounds.acknowledged(round(5));
        rounds.release();
        assert_eq!(rounds.lead(false), Some(Leader { yields: false }));
    }

    #[test]
    fn no_waiter_leads_before_threads_that_wait_for_the_slot_itself() {
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
    fn a_leader_yields_once_if_half_of_the_last_waiters_are_missing() {
        // With no later waiter the holder leads again; else a later waiter leads, while the holder is gone.
        for (later, yields) in [(0, false), (1, true), (2, false)] {
            let mut rounds = in_flight(5, 0, later);
            rounds.acknowledged(round(5));
            let leader = rounds.release().leader;
            if let Some(queue) = leader {
                rounds.awake(queue);
            }
            assert_eq!(rounds.lead(leader.is_some()), Some(Leader { yields }), "{later}");
        }
    }
}
