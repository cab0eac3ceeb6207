//! Generations: one more with each cut. Who was in an older one is told how far the journal was cut since.

use crate::sync::{Arc, AtomicU64, Ordering};

/// No cut yet.
const NONE: u64 = u64::MAX;

/// The time between two cuts. Views have the one they were published in, and followers the one they read last.
#[derive(Debug)]
pub(crate) struct Generation {
    number: u64,
    /// The lowest last record that a later cut has left.
    lowest_cut: AtomicU64,
    /// The same of those cuts that were not taken back.
    lowest_kept: AtomicU64,
}

impl Generation {
    pub(crate) fn new(number: u64) -> Arc<Self> {
        Arc::new(Self { number, lowest_cut: AtomicU64::new(NONE), lowest_kept: AtomicU64::new(NONE) })
    }

    /// How many cuts there were before it since the journal was opened.
    #[inline]
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The last record that the deepest cut since has left. Whoever sees a later generation sees the cuts before it.
    pub(crate) fn lowest_cut(&self) -> Option<u64> {
        let lowest = self.lowest_cut.load(Ordering::Acquire);
        (lowest != NONE).then_some(lowest)
    }

    /// The last record that the deepest cut since has left, of the cuts that were carried out.
    pub(crate) fn lowest_kept(&self) -> Option<u64> {
        let lowest = self.lowest_kept.load(Ordering::Acquire);
        (lowest != NONE).then_some(lowest)
    }
}

/// The writer's side: the current generation, and those before it that someone still has.
#[derive(Debug)]
pub(crate) struct Generations {
    current: Arc<Generation>,
    former: Vec<Arc<Generation>>,
}

impl Generations {
    pub(crate) fn new() -> Self {
        Self { current: Generation::new(0), former: Vec::new() }
    }

    #[inline]
    pub(crate) fn current(&self) -> &Arc<Generation> {
        &self.current
    }

    /// Begins the generation in which `kept` is the last record, to be published by the caller, and leaves word of it
    /// with those before.
    pub(crate) fn cut(&mut self, kept: u64) -> Arc<Generation> {
        self.former.retain_mut(|former| Arc::get_mut(former).is_none());
        let next = Generation::new(self.current.number + 1);
        self.former.push(std::mem::replace(&mut self.current, Arc::clone(&next)));
        for former in &self.former {
            former.lowest_cut.fetch_min(kept, Ordering::AcqRel);
        }
        next
    }

    /// The cut that has begun the current generation, in which `kept` was the last record, is not taken back any more.
    pub(crate) fn carried_out(&self, kept: u64) {
        for former in &self.former {
            former.lowest_kept.fetch_min(kept, Ordering::AcqRel);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_generation_knows_the_lowest_of_the_cuts_since() {
        let mut generations = Generations::new();
        let first = Arc::clone(generations.current());
        assert_eq!(first.lowest_cut(), None);
        let second = generations.cut(10);
        generations.cut(20);
        assert_eq!((first.lowest_cut(), second.lowest_cut()), (Some(10), Some(20)));
        generations.cut(5);
        assert_eq!((first.lowest_cut(), second.lowest_cut()), (Some(5), Some(5)));
        assert_eq!(generations.current().number(), 3);
        assert_eq!(generations.current().lowest_cut(), None);
    }

    #[test]
    fn cuts_that_were_taken_back_are_told_apart() {
        let mut generations = Generations::new();
        let first = Arc::clone(generations.current());
        generations.cut(10);
        generations.cut(30);
        assert_eq!((first.lowest_cut(), first.lowest_kept()), (Some(10), None));
        let fourth = generations.cut(20);
        generations.carried_out(20);
        assert_eq!((first.lowest_cut(), first.lowest_kept()), (Some(10), Some(20)));
        assert_eq!(fourth.lowest_kept(), None);
    }

    #[test]
    fn generations_that_nobody_has_are_let_go() {
        let mut generations = Generations::new();
        let held = Arc::clone(generations.current());
        (0..100).for_each(|kept| drop(generations.cut(kept)));
        assert_eq!(generations.former.len(), 2, "the one held, and the last before the current one");
        drop(held);
        generations.cut(0);
        assert_eq!(generations.former.len(), 1);
    }
}
