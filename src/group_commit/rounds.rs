//! Whose turn it is at the sync slot: who sleeps where, and whom a thread wakes as it lets the slot go. Plain counts, kept
//! by [`Commit`](crate::group_commit::Commit) under its lock.
//!
//! Waiters sleep at one of two gates: at one those whom the round in flight covers, at the other those whom it does
//! not. So the end of a round wakes all whom it covered in one call, and of the others only one, who leads the next.
//!
//! Where syncs take long, fewer and larger ones win. A thread that was let go often comes back with the next record at
//! once, so a round had better not begin before these are back. Nobody waits for them as such: those who were covered
//! are woken first, and whoever comes back leads only when the last of them has left its gate.
//!
//! Which gate a waiter sleeps at is a matter of speed. Nobody is lost at the wrong one: while the slot is free and someone
//! sleeps at the next gate, one of those is called, or the last of those who leave will call one.

use std::time::Duration;

/// Syncs that take less are over before a sleeping thread is awake; then it is best to let whoever comes first lead.
const WORTH_GATHERING: Duration = Duration::from_micros(20);

/// Where waiters sleep. Which of the two is for whom changes with every round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Gate {
    #[default]
    Even,
    Odd,
}

impl Gate {
    fn other(self) -> Self {
        match self {
            Self::Even => Self::Odd,
            Self::Odd => Self::Even,
        }
    }

    /// What stands at this gate, of a pair.
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
pub(crate) struct Wake {
    /// One of those who wait for the slot itself.
    pub(crate) taker: bool,
    /// All at a gate.
    pub(crate) covered: Option<Gate>,
    /// All at a gate, or one that may lead.
    pub(crate) all: Option<Gate>,
    pub(crate) leader: Option<Gate>,
}

/// What a round covers: the records of one generation up to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) generation: u64,
    pub(crate) last: u64,
}

/// A round that a thread may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lead {
    /// Half of those who were there last are missing, and may only want the processor.
    pub(crate) yields: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Turns {
    held: bool,
    /// Threads that sleep until they can take the slot. Nobody leads as long as there are any.
    takers: u64,
    /// Waiters asleep, or woken and not yet awake, by gate.
    asleep: [u64; 2],
    /// The gate of those whom the round in flight does not cover.
    next: Gate,
    /// The round in flight.
    round: Option<Round>,
    /// Waiters at both gates may have a verdict.
    told: bool,
    /// One at the next gate was woken to lead and is not yet awake.
    called: bool,
    /// The last sync was worth gathering for.
    gathers: bool,
    /// Waiters when the slot was let go last, its holder included.
    seen: u64,
}

impl Turns {
    /// Takes the slot, if it is free.
    pub(crate) fn take(&mut self) -> bool {
        let free = !self.held;
        if free {
            (self.held, self.called) = (true, false);
        }
        free
    }

    /// A thread goes to sleep until the slot is free.
    pub(crate) fn taker_sleeps(&mut self) {
        self.takers += 1;
    }

    pub(crate) fn taker_wakes(&mut self) {
        self.takers -= 1;
    }

    /// Takes the slot to lead a round, if a waiter may. `woken` says that it slept at the next gate until now.
    pub(crate) fn lead(&mut self, woken: bool) -> Option<Lead> {
        let gathered = woken || !self.gathers || self.leaving() == 0;
        if self.takers > 0 || !gathered || !self.take() {
            return None;
        }
        let here = self.asleep.iter().sum::<u64>() + 1;
        Some(Lead { yields: self.gathers && 2 * here <= self.seen })
    }

    /// Waiters that sleep, and threads that wait for the slot itself.
    #[cfg(test)]
    pub(crate) fn asleep(&self) -> (u64, u64) {
        (self.asleep.iter().sum(), self.takers)
    }

    /// A waiter for record `index` of `generation` goes to sleep; its gate.
    pub(crate) fn sleeps(&mut self, generation: u64, index: u64) -> Gate {
        let covered = self.round.is_some_and(|round| generation == round.generation && index <= round.last);
        let gate = if covered { self.next.other() } else { self.next };
        *gate.of_mut(&mut self.asleep) += 1;
        gate
    }

    /// A waiter that slept at `gate` is awake; whether it may lead even if others have yet to leave.
    pub(crate) fn wakes(&mut self, gate: Gate) -> bool {
        *gate.of_mut(&mut self.asleep) -= 1;
        let next = gate == self.next;
        if next {
            self.called = false;
        }
        next
    }

    /// A waiter that has slept leaves with its verdict; whom it has to wake.
    pub(crate) fn leaves(&mut self) -> Wake {
        let waits = *self.next.of(&self.asleep) > 0;
        if self.held || self.called || self.takers > 0 || self.leaving() > 0 || !waits {
            return Wake::default();
        }
        self.called = true;
        Wake { leader: Some(self.next), ..Wake::default() }
    }

    /// What `round` covers is about to be synced. All who sleep have appended before, so it covers them.
    pub(crate) fn begin(&mut self, round: Round) {
        // The second round of one holder: whom the first covered sleeps at what now is the next gate.
        self.told |= self.round.is_some();
        self.round = Some(round);
        self.next = self.next.other();
    }

    /// What `round` covers is durable. Waiters are at the gates for that if it is the round in flight.
    pub(crate) fn acknowledged(&mut self, round: Round) {
        self.told |= self.round != Some(round);
    }

    /// Verdicts were given, whatever the gate.
    pub(crate) fn told(&mut self) {
        self.told = true;
    }

    /// A sync has taken so long.
    pub(crate) fn took(&mut self, time: Duration) {
        self.gathers = time >= WORTH_GATHERING;
    }

    /// Lets the slot go.
    pub(crate) fn release(&mut self) -> Wake {
        self.held = false;
        self.seen = self.asleep.iter().sum::<u64>() + 1;
        let told = std::mem::take(&mut self.told);
        let covers = self.round.take().is_some() || told;
        let taker = self.takers > 0;
        let behind = (*self.next.of(&self.asleep) > 0).then_some(self.next);
        let all = behind.filter(|_| told);
        let leader = behind.filter(|_| !told && !taker);
        self.called = leader.is_some();
        let covered = (covers && self.leaving() > 0).then_some(self.next.other());
        Wake { taker, covered, all, leader }
    }

    /// While the slot is free: those who were woken with a verdict, and are not yet awake.
    fn leaving(&self) -> u64 {
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
    fn in_flight(last: u64, covered: usize, behind: usize) -> Turns {
        let mut turns = Turns::default();
        assert!(turns.lead(false).is_some());
        turns.begin(round(last));
        for _ in 0..covered {
            turns.sleeps(0, last);
        }
        for _ in 0..behind {
            turns.sleeps(0, last + 1);
        }
        turns.took(SLOW);
        turns
    }

    #[test]
    fn the_end_of_a_round_wakes_all_whom_it_covers_and_one_that_leads_the_next() {
        let mut turns = in_flight(5, 3, 3);
        turns.acknowledged(round(5));
        let wake = turns.release();
        let (Some(covered), Some(leader)) = (wake.covered, wake.leader) else { panic!("{wake:?}") };
        assert_eq!(covered, leader.other());
        assert_eq!((wake.taker, wake.all), (false, None));
        assert!(turns.wakes(leader), "it may lead even if those before it have not left");
        assert!(turns.lead(true).is_some());
    }

    #[test]
    fn who_sleeps_when_a_round_begins_is_covered_by_it() {
        let mut turns = Turns::default();
        assert!(turns.lead(false).is_some());
        let gate = turns.sleeps(0, 2);
        turns.begin(round(2));
        turns.acknowledged(round(2));
        assert_eq!(turns.release(), Wake { covered: Some(gate), ..Wake::default() });
    }

    #[test]
    fn with_nobody_asleep_nobody_is_woken() {
        let mut turns = in_flight(1, 0, 0);
        turns.acknowledged(round(1));
        assert_eq!(turns.release(), Wake::default());
    }

    #[test]
    fn verdicts_that_no_round_announced_wake_everyone() {
        let causes: [fn(&mut Turns); 3] = [
            Turns::told,
            |turns| turns.acknowledged(round(6)),
            |turns| {
                // Whom the first of two rounds covers is at the gate of those whom the second does not.
                turns.acknowledged(round(5));
                turns.begin(round(6));
            },
        ];
        for cause in causes {
            let mut turns = in_flight(5, 2, 2);
            cause(&mut turns);
            let wake = turns.release();
            assert!(wake.covered.is_some() && wake.all.is_some(), "{wake:?}");
        }
    }

    #[test]
    fn where_syncs_take_long_the_last_that_leaves_calls_one_of_those_who_came_back() {
        let mut turns = in_flight(5, 2, 0);
        turns.acknowledged(round(5));
        let covered = turns.release().covered.unwrap();
        assert_eq!(turns.lead(false), None, "the holder itself is back first");
        let next = turns.sleeps(0, 6);
        turns.wakes(covered);
        assert_eq!(turns.leaves(), Wake::default(), "another has yet to leave");
        assert_eq!(turns.lead(false), None);
        turns.sleeps(0, 7);
        turns.wakes(covered);
        assert_eq!(turns.leaves(), Wake { leader: Some(next), ..Wake::default() });
        assert_eq!(turns.leaves(), Wake::default(), "one is called");
        assert!(turns.lead(false).is_some(), "whoever is quicker than the one that was called");
        assert!(turns.wakes(next));
        assert_eq!(turns.lead(true), None);
    }

    #[test]
    fn where_syncs_are_quick_whoever_comes_first_leads() {
        let mut turns = in_flight(5, 2, 0);
        turns.took(Duration::from_micros(1));
        turns.acknowledged(round(5));
        turns.release();
        assert_eq!(turns.lead(false), Some(Lead { yields: false }));
    }

    #[test]
    fn nobody_leads_before_those_who_wait_for_the_slot_itself() {
        let mut turns = in_flight(5, 0, 1);
        assert!(!turns.take());
        turns.taker_sleeps();
        turns.acknowledged(round(5));
        assert_eq!(turns.release(), Wake { taker: true, ..Wake::default() });
        assert_eq!((turns.lead(false), turns.lead(true)), (None, None));
        turns.taker_wakes();
        assert!(turns.take());
        let wake = turns.release();
        assert!(wake.leader.is_some(), "{wake:?}");
    }

    #[test]
    fn a_leader_yields_once_if_half_of_those_seen_last_are_missing() {
        // Behind 0 the holder leads again; else one of those behind, while the holder is gone.
        for (behind, yields) in [(0, false), (1, true), (2, false)] {
            let mut turns = in_flight(5, 0, behind);
            turns.acknowledged(round(5));
            let leader = turns.release().leader;
            if let Some(gate) = leader {
                turns.wakes(gate);
            }
            assert_eq!(turns.lead(leader.is_some()), Some(Lead { yields }), "{behind}");
        }
    }
}
