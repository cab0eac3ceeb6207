//! [`Follow`]: an iterator over the records of a journal that waits for the next one.

use std::fmt;
use std::iter::FusedIterator;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::notify::{MayBlock, WaitUntil};
use crate::read::record::RecordRef;
use crate::read::waiter::Waiter;
use crate::sync::Arc;
use crate::view::Hint;
use crate::write::Log;

/// Delivers the records of a journal from an index on, each as soon as it is committed, until the journal is closed. Made
/// by [`Journal::follow`](crate::Journal::follow).
///
/// As an iterator it waits for the next record without polling. Any number of followers can wait; a slow follower slows no
/// other thread, and a dropped one leaves nothing allocated. While it waits it holds no view, so it keeps no pages. The
/// file stays locked until the follower is dropped or has returned its end.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let journal = wally::Options::new().sync_policy(wally::SyncPolicy::OnDemand).open(dir.path().join("events.wally"))?;
/// let mut follow = journal.follow(1);
/// let follower = std::thread::spawn(move || {
///     let mut seen = Vec::new();
///     for record in &mut follow {
///         match record {
///             Ok(record) => seen.push(record.to_vec()),
///             Err(wally::Error::Closed) => break,
///             Err(error) => return Err(error),
///         }
///     }
///     Ok(seen)
/// });
/// journal.append(b"one")?;
/// journal.append(b"two")?;
/// journal.close()?;
/// assert_eq!(follower.join().unwrap()?, [b"one", b"two"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What it returns
///
/// Records come in order and without holes. Everything else comes as an error, in its place among the records:
///
/// * [`Error::Truncated`] once after truncations, with the lowest index that one of them kept: delivered records after
///   that index are gone. The follower goes on after the last record that was kept, or where it was if that comes first. A
///   truncation that fails half way and is taken back can be reported as well; the records are then delivered again.
/// * [`Error::Io`] if staged records had to be written to the file for the follower, and the write failed. They stay
///   staged, and the next call tries again.
/// * [`Error::OutOfRange`] as the first item if the follower was made with an index more than one past the last appended
///   record. After that the iterator has ended.
/// * [`Error::Closed`] or [`Error::Poisoned`] at the end, when every record that readers can see was delivered. After that
///   the iterator has ended.
///
/// # What it waits for
///
/// A follower waits for committed records, which readers see. A waiting follower makes the journal commit what is
/// appended: under [`OnDemand`](crate::SyncPolicy::OnDemand) and [`Interval`](crate::SyncPolicy::Interval) the appender
/// need not flush for it. With [`durable`](Self::durable) the follower waits for records that survive a power loss.
///
/// Hold a [`RecordRef`] only for a short time: to collect records, copy them, or read them from a
/// [`Snapshot`](crate::Snapshot).
pub struct Follow {
    /// The waiter, or the error that ended the follower: then nothing keeps the file locked any more.
    waiter: Result<Waiter>,
    next: u64,
    hint: Option<Hint>,
    /// Set if the follower begins past the end: the first and the last record when it was made.
    beyond: Option<(u64, u64)>,
}

impl Follow {
    pub(crate) fn new(log: &Arc<Log>, from: u64) -> Self {
        let waiter = Waiter::new(log);
        let (first, failed) = {
            let view = log.publisher.load();
            (view.first(), view.failure().is_some())
        };
        let last = log.appended();
        // After a failure the follower reports that instead: the failure has taken records away.
        let beyond = (from > last.saturating_add(1) && !failed).then_some((first, last));
        Self { waiter: Ok(waiter), next: from.max(first), hint: None, beyond }
    }

    /// Makes this follower deliver records only once they are durable. It waits for a sync and does not cause one: under
    /// [`OnDemand`](crate::SyncPolicy::OnDemand) the program has to call [`sync`](crate::Journal::sync).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let journal = wally::Options::new().sync_policy(wally::SyncPolicy::OnDemand).open(dir.path().join("events.wally"))?;
    /// let mut follow = journal.follow(1).durable();
    /// journal.append(b"one")?;
    /// assert!(follow.try_next()?.is_none());
    /// journal.sync()?;
    /// assert_eq!(&follow.try_next()?.unwrap()[..], b"one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn durable(mut self) -> Self {
        if let Ok(waiter) = &mut self.waiter {
            waiter.until = WaitUntil::Durable;
        }
        self
    }

    /// Returns the index of the record that comes next.
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// Returns the next record, or `None` if it is not there yet; never waits for it. Commits what is appended, unless that
    /// has to wait for a sync: then the journal's background thread commits it, and this call returns `None`.
    ///
    /// # Errors
    /// The errors that the follower [returns](Self#what-it-returns); after the end the same error each time.
    pub fn try_next(&mut self) -> Result<Option<RecordRef>> {
        self.get(MayBlock::OnWrite)
    }

    fn get(&mut self, may_block: MayBlock) -> Result<Option<RecordRef>> {
        if let Some((first, last)) = self.beyond.take() {
            let end = Error::OutOfRange { index: self.next, first, last };
            self.waiter = Err(end.clone());
            return Err(end);
        }
        loop {
            let next = self.next;
            let looked = self.waiter()?.look(next, may_block);
            let Some((view, last)) = looked.inspect_err(|error| self.note(error))? else { return Ok(None) };
            if self.next < view.first() {
                self.next = view.first();
                continue;
            }
            let Some(extent) = view.locate(self.next, last, &mut self.hint) else {
                let start = view.index().nearest(self.next).1;
                return Err(Error::corrupt(view.map().file().path(), start, self.next));
            };
            let record = RecordRef::new(view, self.next, extent);
            self.next = self.next.saturating_add(1);
            return Ok(Some(record));
        }
    }

    /// Waits for the next record until `deadline` at most. Returns `None` if it is not there by then. As
    /// [`try_next`](Self::try_next), it never waits for a sync.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
    /// use std::time::{Duration, Instant};
    /// let mut follow = journal.follow(1);
    /// assert!(follow.next_before(Instant::now() + Duration::from_millis(1))?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next).
    pub fn next_before(&mut self, deadline: Instant) -> Result<Option<RecordRef>> {
        self.wait(Some(deadline))
    }

    /// Waits for the next record in async code, as the iterator does, without blocking a thread. Returns `None` after the
    /// end. The future can be dropped at any time, and no record is lost with it. It works with any executor. With the
    /// feature `async`.
    ///
    /// A poll waits for no sync. If staged records have to be written to the file first, the poll writes them, as an append
    /// to a full buffer does; if that has to wait for a sync, the journal's background thread writes them.
    ///
    /// Wakers are called without any lock of the journal, so they may do anything, calls of this journal included. The
    /// thread that commits calls up to 16 wakers and leaves the rest to the background thread, and to tasks that are
    /// polled, so a waker that blocks does not keep the others from being called. It does block the thread that calls it,
    /// which can be one that appends, and [`close`](crate::Journal::close), which waits for the background thread. A
    /// waker's panic is caught.
    ///
    /// The first append after a commit wakes one waiter, which commits for all. While a woken task is neither polled nor
    /// dropped, what is appended is committed only by the next flush, sync or full buffer.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
    /// let mut follow = journal.follow(1);
    /// journal.append(b"one")?;
    /// let record = pollster::block_on(follow.next_async()).unwrap()?;
    /// assert_eq!(&record[..], b"one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next).
    #[cfg(feature = "async")]
    pub async fn next_async(&mut self) -> Option<Result<RecordRef>> {
        loop {
            if self.waiter.is_err() {
                return None;
            }
            match self.try_next() {
                Ok(None) => {}
                Ok(Some(record)) => return Some(Ok(record)),
                Err(error) => return Some(Err(error)),
            }
            let next = self.next;
            let Ok(waiter) = &mut self.waiter else { return None };
            if let Err(error) = waiter.wait_async(next).await {
                self.note(&error);
                return Some(Err(error));
            }
        }
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<Option<RecordRef>> {
        let may_block = MayBlock::before(deadline);
        loop {
            if let Some(record) = self.get(may_block)? {
                return Ok(Some(record));
            }
            let next = self.next;
            let waited = self.waiter()?.wait(next, deadline);
            if !waited.inspect_err(|error| self.note(error))? {
                return Ok(None);
            }
        }
    }

    fn waiter(&mut self) -> Result<&mut Waiter> {
        self.waiter.as_mut().map_err(|end| end.clone())
    }

    /// Notes an error that the caller is about to get: the follower goes on, or ends, accordingly.
    fn note(&mut self, error: &Error) {
        match error {
            Error::Truncated { last } => {
                self.next = self.next.min(last.saturating_add(1));
            }
            Error::Closed | Error::Poisoned { .. } => self.waiter = Err(error.clone()),
            _ => {}
        }
    }
}

/// Waits for each record. Ends after [`Error::Closed`], [`Error::Poisoned`] or [`Error::OutOfRange`].
impl Iterator for Follow {
    type Item = Result<RecordRef>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.waiter.is_err() {
            return None;
        }
        self.wait(None).transpose()
    }
}

impl FusedIterator for Follow {}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("next", &self.next)
            .field("until", &self.waiter.as_ref().ok().map(|waiter| waiter.until))
            .field("ended", &self.waiter.is_err())
            .finish_non_exhaustive()
    }
}
