//! Where a walk has been: enough of it to tell, on looking at the file again, what is still there. The last records
//! are all remembered, those before ever more thinly, so that the memory grows with the logarithm of the journal.

use crate::error::Result;
use crate::format::Header;
use crate::inspect::pread::Place;

/// How many records are remembered without a hole; those twice as far back are so many again, every second one of
/// them, and so on.
const DENSE: u64 = 64;

/// A record that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) at: Place,
    pub(crate) header: Header,
    /// Where it ends.
    pub(crate) end: u64,
}

/// The records that a walk has passed, the first of them first.
#[derive(Debug)]
pub(crate) struct Trail {
    steps: Vec<Step>,
    /// With so many steps it is time to thin.
    full: usize,
}

impl Trail {
    const LEAST: usize = 4 * DENSE as usize;

    pub(crate) fn new() -> Self {
        Self { steps: Vec::new(), full: Self::LEAST }
    }

    #[inline]
    pub(crate) fn push(&mut self, step: Step) {
        if self.steps.len() >= self.full {
            self.thin(step.at.index);
        }
        self.steps.push(step);
    }

    pub(crate) fn last(&self) -> Option<&Step> {
        self.steps.last()
    }

    /// Forgets what begins before `offset`.
    pub(crate) fn forget_before(&mut self, offset: u64) {
        self.steps.retain(|step| step.at.offset >= offset);
    }

    /// Forgets the first step that does not stand and all behind it. Whether all of them stand.
    pub(crate) fn keep_standing(&mut self, mut stands: impl FnMut(&Step) -> Result<bool>) -> Result<bool> {
        for n in 0..self.steps.len() {
            let standing = match self.steps.get(n) {
                Some(step) => stands(step)?,
                None => true,
            };
            if !standing {
                self.steps.truncate(n);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Keeps of the records that lie `d` before record `now` only those whose index is a multiple of the largest
    /// power of two that is at most `d / DENSE`. It grows with `d`, so what goes would never have come back.
    #[cold]
    fn thin(&mut self, now: u64) {
        self.steps.retain(|step| {
            let far = now.saturating_sub(step.at.index) / DENSE;
            far == 0 || step.at.index.is_multiple_of(1 << far.ilog2())
        });
        // Each thinning is paid for by as many steps as it looked at.
        self.full = Self::LEAST.max(2 * self.steps.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(index: u64) -> Step {
        let header = Header::reference(index, 0);
        Step { at: Place { offset: 16 * index, index }, header, end: 16 * index + 16 }
    }

    fn walked(records: u64) -> Trail {
        let mut trail = Trail::new();
        (1..=records).for_each(|index| trail.push(step(index)));
        trail
    }

    #[test]
    fn the_last_are_all_there_and_those_before_ever_more_thinly() {
        let trail = walked(1_000_000);
        assert!(trail.steps.len() < 3000, "{} steps", trail.steps.len());
        assert_eq!(trail.last(), Some(&step(1_000_000)));
        for pair in trail.steps.windows(2) {
            let back = 1_000_000 - pair[0].at.index;
            let apart = pair[1].at.index - pair[0].at.index;
            assert!(apart <= 1.max(back / DENSE), "{apart} apart, {back} before the end");
        }
        assert!(trail.steps[0].at.index <= 1_000_000 / DENSE);
    }

    #[test]
    fn what_does_not_stand_goes_and_all_behind_it() {
        let mut trail = walked(100);
        assert!(trail.keep_standing(|_| Ok(true)).unwrap());
        assert_eq!(trail.last().unwrap().at.index, 100);
        // The one behind the first that fell may look as it did by chance.
        assert!(!trail.keep_standing(|step| Ok(step.at.index != 40)).unwrap());
        assert_eq!(trail.last().unwrap().at.index, 39);
        trail.forget_before(39 * 16);
        assert_eq!(trail.steps, [step(39)]);
        assert!(!trail.keep_standing(|_| Ok(false)).unwrap());
        assert_eq!(trail.last(), None);
        assert!(trail.keep_standing(|_| Ok(false)).unwrap(), "nothing is left to fall");
    }
}
