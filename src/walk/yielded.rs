//! The records that a walk has yielded, as far as they are needed to tell which of them are still in a file that has
//! changed. Of the last records all are remembered, of those before ever fewer, so that the memory grows with the
//! logarithm of their number.

use crate::error::Result;
use crate::format::{Boundary, Header};

/// So many of the last records are all remembered. Of twice as many records before those, every second is remembered, of
/// twice as many again every fourth, and so on.
const DENSE: u64 = 64;

/// A record that was yielded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct YieldedRecord {
    pub(super) at: Boundary,
    pub(super) header: Header,
    /// Where it ends.
    pub(super) end: u64,
}

/// The yielded records that are remembered, in ascending order.
#[derive(Debug)]
pub(super) struct Yielded {
    records: Vec<YieldedRecord>,
    /// With so many records it is time to thin them out.
    full: usize,
}

impl Yielded {
    const LEAST: usize = 4 * DENSE as usize;

    pub(super) fn new() -> Self {
        Self { records: Vec::new(), full: Self::LEAST }
    }

    #[inline]
    pub(super) fn push(&mut self, record: YieldedRecord) {
        if self.records.len() >= self.full {
            self.thin(record.at.next);
        }
        self.records.push(record);
    }

    pub(super) fn last(&self) -> Option<&YieldedRecord> {
        self.records.last()
    }

    /// Forgets the records that begin before `offset`.
    pub(super) fn forget_before(&mut self, offset: u64) {
        self.records.retain(|record| record.at.offset >= offset);
    }

    /// Forgets the first record for which `stands` returns `false`, and all records after it. Returns `true` if there is
    /// no such record.
    pub(super) fn keep_while(
        &mut self,
        mut stands: impl FnMut(&YieldedRecord) -> Result<bool>,
    ) -> Result<bool> {
        for n in 0..self.records.len() {
            let standing = match self.records.get(n) {
                Some(record) => stands(record)?,
                None => true,
            };
            if !standing {
                self.records.truncate(n);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Of the records that lie `d` before record `now`, keeps only those whose index is a multiple of the largest power of
    /// two that is at most `d / DENSE`. That power grows with `d`, so no record is forgotten that would be kept later.
    #[cold]
    fn thin(&mut self, now: u64) {
        self.records.retain(|record| {
            let far = now.saturating_sub(record.at.next) / DENSE;
            far == 0 || record.at.next.is_multiple_of(1 << far.ilog2())
        });
        // So at least as many records are added before the next thinning as this one has looked at.
        self.full = Self::LEAST.max(2 * self.records.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(index: u64) -> YieldedRecord {
        let header = Header::reference(index, 0);
        YieldedRecord { at: Boundary { next: index, offset: 16 * index }, header, end: 16 * index + 16 }
    }

    fn walked(records: u64) -> Yielded {
        let mut yielded = Yielded::new();
        (1..=records).for_each(|index| yielded.push(record(index)));
        yielded
    }

    #[test]
    fn the_last_records_are_all_remembered_and_those_before_ever_fewer() {
        let yielded = walked(1_000_000);
        assert!(yielded.records.len() < 3000, "{} records", yielded.records.len());
        assert_eq!(yielded.last(), Some(&record(1_000_000)));
        for pair in yielded.records.windows(2) {
            let back = 1_000_000 - pair[0].at.next;
            let apart = pair[1].at.next - pair[0].at.next;
            assert!(apart <= 1.max(back / DENSE), "{apart} apart, {back} before the end");
        }
        assert!(yielded.records[0].at.next <= 1_000_000 / DENSE);
    }

    #[test]
    fn a_record_that_does_not_stand_is_forgotten_with_all_after_it() {
        let mut yielded = walked(100);
        assert!(yielded.keep_while(|_| Ok(true)).unwrap());
        assert_eq!(yielded.last().unwrap().at.next, 100);
        // Records after the first that does not stand may by chance be as they were.
        assert!(!yielded.keep_while(|record| Ok(record.at.next != 40)).unwrap());
        assert_eq!(yielded.last().unwrap().at.next, 39);
        yielded.forget_before(39 * 16);
        assert_eq!(yielded.records, [record(39)]);
        assert!(!yielded.keep_while(|_| Ok(false)).unwrap());
        assert_eq!(yielded.last(), None);
        assert!(yielded.keep_while(|_| Ok(false)).unwrap(), "no record is left");
    }
}
