//! Takes the place of `src/index/memory.rs` in the models: the same calls over loom's atomics, a few of them, all there
//! from the beginning. Whose memory it is orders nothing, so std keeps it. What the system sees to is not modelled: that memory becomes usable, and that it goes.

use std::io;
use std::sync::Arc;

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Small, so that a few records cross every boundary.
pub(crate) const GROUP: u64 = 2;

/// As many as any model asks for.
const DISTANCES: usize = 9;
const BASES: usize = 9;

#[derive(Debug, Clone)]
pub(crate) struct Memory(Option<Arc<Range>>);

#[derive(Debug)]
struct Range {
    distances: Vec<AtomicU32>,
    bases: Vec<AtomicU64>,
}

impl Memory {
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn reserve(distances: u64, bases: u64) -> io::Result<Self> {
        let sizes = (distances as usize + 1, bases as usize);
        assert!(sizes.0 <= DISTANCES + 1 && sizes.1 <= BASES, "a model with more records needs more");
        let distances = (0..if distances == 0 { 0 } else { sizes.0 }).map(|_| AtomicU32::new(0)).collect();
        let bases = (0..sizes.1).map(|_| AtomicU64::new(0)).collect();
        Ok(Self(Some(Arc::new(Range { distances, bases }))))
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    pub(crate) fn reserves(&self, distances: u64, bases: u64) -> bool {
        distances <= self.ready() && bases <= self.ready_bases()
    }

    pub(crate) fn make_ready(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn ready(&self) -> u64 {
        self.0.as_ref().map_or(0, |range| range.distances.len().saturating_sub(1) as u64)
    }

    pub(crate) fn ready_bases(&self) -> u64 {
        self.0.as_ref().map_or(0, |range| range.bases.len() as u64)
    }

    pub(crate) fn load(&self, at: u64, order: Ordering) -> Option<(u32, u32, u64)> {
        let range = self.0.as_ref()?;
        let (here, next) = (range.distances.get(at as usize)?, range.distances.get(at as usize + 1)?);
        let base = range.bases.get((at / GROUP) as usize)?;
        Some((here.load(order), next.load(order), base.load(order)))
    }

    pub(crate) fn load_base(&self, group: u64, order: Ordering) -> Option<u64> {
        Some(self.0.as_ref()?.bases.get(group as usize)?.load(order))
    }

    pub(crate) fn store(&self, at: u64, distance: u32, order: Ordering) {
        if let Some(distances) = self.0.as_ref().map(|range| &range.distances)
            && at + 1 < distances.len() as u64
        {
            distances[at as usize].store(distance, order);
        }
    }

    pub(crate) fn store_base(&self, group: u64, base: u64, order: Ordering) {
        if let Some(place) = self.0.as_ref().and_then(|range| range.bases.get(group as usize)) {
            place.store(base, order);
        }
    }

    pub(crate) fn give_back(&self, _: u64, _: u64) {}
}
