//! Which process this is. A child that is forked from the one that opened a file finds out that it is another, where
//! possible without asking the system each time.

use crate::file::map::zero_in_children;
use crate::sync::{AtomicU64, OnceLock, Ordering};

/// The number of this process among those that were forked from each other, or 0 if it has none yet. A child finds 0.
static HERE: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();

/// The last number that was given to this process or to one that it descends from.
static LAST: AtomicU64 = AtomicU64::new(0);

/// The process that opened a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    number: u64,
    /// Where this process keeps its number; without such a place, numbers are those of the system.
    here: Option<&'static AtomicU64>,
}

impl Owner {
    /// This process.
    pub(crate) fn this() -> Self {
        let here = *HERE.get_or_init(zero_in_children);
        Self { number: here.map_or_else(system_number, number), here }
    }

    /// Returns `true` if it is this process.
    #[inline]
    pub(crate) fn is_this(&self) -> bool {
        match self.here {
            Some(here) => here.load(Ordering::Relaxed) == self.number,
            None => self.number == system_number(),
        }
    }

    /// Returns `false` if it is known without a system call not to be this process.
    #[inline]
    pub(crate) fn may_be_this(&self) -> bool {
        self.here.is_none() || self.is_this()
    }
}

/// The number at `here`, given now if need be.
fn number(here: &AtomicU64) -> u64 {
    let found = here.load(Ordering::Relaxed);
    if found != 0 {
        return found;
    }
    let next = LAST.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    // Another thread may have been quicker.
    here.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|first| first, |_| next)
}

fn system_number() -> u64 {
    u64::from(std::process::id())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_number_and_what_finds_0_is_another() {
        let owner = Owner::this();
        assert!(owner.is_this() && owner.may_be_this());
        assert_eq!(Owner::this().number, owner.number);
        // As a child would find it.
        let here: &'static AtomicU64 = Box::leak(Box::default());
        let mut child = Owner { here: Some(here), ..owner };
        assert!(!child.is_this() && !child.may_be_this());
        child.number = number(here);
        assert!(child.is_this());
        assert_eq!(number(here), child.number);
        if owner.here.is_some() {
            assert_ne!(child.number, owner.number);
        }
    }

    #[test]
    fn without_a_place_for_a_number_the_system_tells() {
        let mut owner = Owner { number: system_number(), here: None };
        assert!(owner.is_this() && owner.may_be_this());
        owner.number += 1;
        assert!(!owner.is_this());
        assert!(owner.may_be_this(), "it is not asked for this");
    }
}
