//! [`Snapshot`]: one state of the journal, and [`Range`], an iterator over its records.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::{Bound, RangeBounds};

use crate::sync::Arc;
use crate::view::{Extent, Hint, View};

/// The journal as it was when the snapshot was taken.
///
/// A snapshot holds what was committed, so it may lack records that were appended but not yet flushed. What it holds
/// keeps its bytes across growth, truncation, closing, and the drop of the [`Journal`](crate::Journal). In return it keeps
/// the file locked and its pages mapped for as long as it lives.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
/// journal.append_batch([b"a", b"b", b"c"])?;
/// let snapshot = journal.snapshot();
/// journal.truncate_back(1)?;
/// assert_eq!(journal.last_index(), 1);
/// assert_eq!(snapshot.get(3), Some(&b"c"[..]));
/// let backwards: Vec<_> = snapshot.range(2..).rev().collect();
/// assert_eq!(backwards, [(3, &b"c"[..]), (2, &b"b"[..])]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A borrow cannot outlive the snapshot it comes from:
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
/// # journal.append(b"a")?;
/// let snapshot = journal.snapshot();
/// let bytes = snapshot.get(1);
/// drop(journal);
/// assert_eq!(bytes, Some(&b"a"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail,E0505
/// # let dir = tempfile::tempdir()?;
/// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
/// # journal.append(b"a")?;
/// let snapshot = journal.snapshot();
/// let bytes = snapshot.get(1);
/// drop(snapshot);
/// assert_eq!(bytes, Some(&b"a"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Snapshot {
    view: Arc<View>,
    last: u64,
}

impl Snapshot {
    pub(crate) fn new(view: Arc<View>) -> Self {
        let last = view.committed();
        Self { view, last }
    }

    /// Returns the payload of record `n`, borrowed from the map, or `None` if the snapshot does not hold it. The checksum is
    /// not checked.
    #[inline]
    pub fn get(&self, n: u64) -> Option<&[u8]> {
        let extent = self.view.locate(n, self.last, &mut None)?;
        self.view.payload(extent)
    }

    /// Iterates over the records of `range` that the snapshot holds, each with its index.
    ///
    /// A step forwards costs O(1) in every index mode. A step backwards costs O(1) with a full index; with a sparse index
    /// it hops over the headers of its interval, and without an index over all headers from the start of the journal.
    pub fn range(&self, range: impl RangeBounds<u64>) -> Range<'_> {
        let first = match range.start_bound() {
            Bound::Included(&n) => Some(n),
            Bound::Excluded(&n) => n.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let end = match range.end_bound() {
            Bound::Included(&n) => n.saturating_add(1),
            Bound::Excluded(&n) => n,
            Bound::Unbounded => u64::MAX,
        };
        let end = end.min(self.last.saturating_add(1));
        let next = first.unwrap_or(end).max(self.first_index()).min(end);
        Range { view: &self.view, last: self.last, next, end, hint: None }
    }

    /// Iterates over all records, each with its index.
    pub fn iter(&self) -> Range<'_> {
        self.range(..)
    }

    /// Returns the index of the first record, or one more than [`last_index`](Self::last_index) if there is no record.
    pub fn first_index(&self) -> u64 {
        self.view.first()
    }

    /// Returns the index of the last record.
    pub fn last_index(&self) -> u64 {
        self.last
    }

    /// Returns the number of records.
    pub fn len(&self) -> u64 {
        self.last.saturating_add(1).saturating_sub(self.first_index())
    }

    /// Returns `true` if the snapshot holds no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> IntoIterator for &'a Snapshot {
    type Item = (u64, &'a [u8]);
    type IntoIter = Range<'a>;

    fn into_iter(self) -> Range<'a> {
        self.iter()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("first_index", &self.first_index())
            .field("last_index", &self.last)
            .field("generation", &self.view.cuts())
            .finish_non_exhaustive()
    }
}

/// Iterates over records of a [`Snapshot`] in order, from either end.
#[derive(Clone)]
pub struct Range<'a> {
    view: &'a View,
    last: u64,
    next: u64,
    end: u64,
    hint: Option<Hint>,
}

impl<'a> Range<'a> {
    /// Returns record `n`, which lies at `extent`. If it is not there, neither are the records after it.
    #[inline]
    fn at(&mut self, n: u64, extent: Option<Extent>) -> Option<(u64, &'a [u8])> {
        match extent.and_then(|extent| self.view.payload(extent)) {
            Some(payload) => Some((n, payload)),
            None => {
                self.end = self.next;
                None
            }
        }
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = (u64, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let n = self.next;
        self.next += 1;
        let extent = self.view.locate(n, self.last, &mut self.hint);
        self.at(n, extent)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end.saturating_sub(self.next);
        (usize::try_from(left).unwrap_or(usize::MAX), usize::try_from(left).ok())
    }

    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        self.next = self.next.saturating_add(n as u64).min(self.end);
        self.next()
    }
}

impl DoubleEndedIterator for Range<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        self.end -= 1;
        // The place that a forward step remembers comes before the records that are left: a step back must not move it.
        let extent = self.view.locate(self.end, self.last, &mut self.hint.clone());
        self.at(self.end, extent)
    }
}

impl ExactSizeIterator for Range<'_> {}
impl FusedIterator for Range<'_> {}

impl fmt::Debug for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Range").field("next", &self.next).field("end", &self.end).finish_non_exhaustive()
    }
}
