//! What a cut needs to preserve the pages that readers hold: copies of them, and memory mappings to put the copies in.
//!
//! Most of the copying is done before the append lock is taken. The caller holds the sync slot from before the copy until
//! after the cut, so nothing below the committed end changes meanwhile: only commits happen, which lie beyond it.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::file::map::{Copy, Map, maps_left};

/// Copies made ahead of a cut, each for one map. They do not keep the map: nothing else tells that readers have let go.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    copies: Vec<Copy>,
    /// The mappings that were left, if it was time to look.
    pub(crate) seen: Option<Seen>,
}

impl Copies {
    /// Copies what `maps` show beyond `cut`. What cannot be copied is left to the cut, which tells why.
    pub(crate) fn make<'a>(maps: impl Iterator<Item = &'a Map>, cut: u64) -> Self {
        Self { copies: maps.filter_map(|map| map.copy(cut).ok().flatten()).collect(), seen: None }
    }

    /// Preserves what `map` shows beyond `cut`. What was copied ahead is not copied again.
    ///
    /// # Errors
    /// As [`Map::preserve`].
    pub(crate) fn preserve(&mut self, map: &Map, cut: u64) -> io::Result<()> {
        let at = self.copies.iter().position(|copy| map.has_copy(copy));
        let copy = at.map(|at| self.copies.swap_remove(at));
        map.preserve(cut, copy)
    }
}

/// Mappings that a truncation leaves to the rest of the process.
const SPARE: usize = 8;

/// Mappings of a truncation itself: a map of the shorter journal, one to take it back with, and four for the memory of a new
/// index, of whose two parts a piece is usable.
const OWN: usize = 6;

/// A map that pages are put into becomes two or three.
const MORE_PER_MAP: usize = 2;

/// A look that took so long is good for so many times as long, unless much of what it found was used since.
const GOOD_FOR: u32 = 16;

/// How many more mappings the system allows this process. To find out takes as long as there are mappings, so a look is
/// good for a while where many are left.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    seen: Option<Seen>,
}

/// What a look has found.
#[derive(Debug)]
pub(crate) struct Seen {
    left: usize,
    /// What was allowed since.
    used: usize,
    at: Instant,
    took: Duration,
}

impl Seen {
    /// Looks, where the system tells.
    pub(crate) fn now() -> Option<Self> {
        Self::of(maps_left)
    }

    fn of(left: impl FnOnce() -> Option<usize>) -> Option<Self> {
        let began = Instant::now();
        let left = left()?;
        let at = Instant::now();
        Some(Self { left, used: 0, at, took: at.saturating_duration_since(began) })
    }

    /// Whether it is good enough to allow `needed` more.
    fn allows(&self, needed: usize) -> bool {
        // The rest of the process may have taken some too.
        let plenty = self.used.saturating_add(needed).saturating_add(SPARE) <= self.left / 2;
        plenty && self.at.elapsed() < self.took.saturating_mul(GOOD_FOR)
    }
}

fn needed(maps: usize) -> usize {
    maps.saturating_mul(MORE_PER_MAP).saturating_add(OWN)
}

impl Mappings {
    /// Whether it takes a look to allow pages to be put into `maps` maps. It can be made without the append lock.
    pub(crate) fn wants_look(&self, maps: usize) -> bool {
        maps > 0 && self.seen.as_ref().is_none_or(|seen| !seen.allows(needed(maps)))
    }

    /// Takes note of a look.
    pub(crate) fn looked(&mut self, seen: Seen) {
        self.seen = Some(seen);
    }

    /// Whether pages can be put into `maps` maps.
    ///
    /// # Errors
    /// What is wanting.
    pub(crate) fn allow(&mut self, maps: usize) -> Result<(), Wanting> {
        self.allow_of(maps, maps_left)
    }

    fn allow_of(&mut self, maps: usize, left: impl FnOnce() -> Option<usize>) -> Result<(), Wanting> {
        if maps == 0 {
            // Nothing is replaced.
            return Ok(());
        }
        let needed = needed(maps);
        let good = self.seen.take().filter(|seen| seen.allows(needed));
        let looks = good.is_none();
        let Some(mut seen) = good.or_else(|| Seen::of(left)) else { return Ok(()) };
        seen.used = seen.used.saturating_add(needed);
        let left = seen.left;
        self.seen = Some(seen);
        if looks && needed.saturating_add(SPARE) > left { Err(Wanting { needed, left }) } else { Ok(()) }
    }
}

/// There are too few mappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanting {
    needed: usize,
    left: usize,
}

impl fmt::Display for Wanting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, left } = self;
        write!(
            f,
            "that takes {needed} memory mappings, and the process has {left} left, of which {SPARE} are not used"
        )
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn without_maps_to_put_pages_into_nobody_looks() {
        let mut mappings = Mappings::default();
        assert_eq!(mappings.allow_of(0, || unreachable!("nothing is wanted")), Ok(()));
    }

    #[test]
    fn the_last_few_mappings_are_left_to_the_process() {
        for (left, allowed) in
            [(0, false), (OWN + MORE_PER_MAP + SPARE - 1, false), (16, true), (60_000, true)]
        {
            let wanting = Mappings::default().allow_of(1, || Some(left)).err();
            assert_eq!(wanting, (!allowed).then_some(Wanting { needed: 8, left }));
        }
        assert_eq!(Mappings::default().allow_of(1, || None), Ok(()), "the system does not tell");
    }

    #[test]
    fn a_look_is_good_for_a_while_but_for_no_more_than_half_of_what_it_found() {
        let seen = |left, took| Mappings {
            seen: Some(Seen { left, used: 0, at: Instant::now(), took: Duration::from_secs(took) }),
        };
        let mut mappings = seen(1000, 3600);
        let mut allowed = 0;
        while mappings.allow_of(10, || Some(0)).is_ok() {
            allowed += 26;
        }
        assert!((460..=500).contains(&allowed), "{allowed}");
        assert!(seen(1000, 0).allow_of(10, || Some(0)).is_err(), "that was long ago");
    }
}
