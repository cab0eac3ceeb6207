//! Following a journal: an iterator that waits for the next record.

use std::fmt;
use std::iter::FusedIterator;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::notify::{MayBlock, WaitUntil};
use crate::read::record::RecordRef;
use crate::read::waiter::Waiter;
use crate::sync::Arc;
use crate::view::Place;
use crate::write::Log;

/// The records of a journal from some index on, each as soon as it is there, for as long as the journal is open. From
/// [`Journal::follow`](crate::Journal::follow).
///
/// As an iterator it waits for the next record without polling. Any number of followers can wait; a slow one slows
/// nobody, and a dropped one leaves nothing behind. While it waits it holds no view, so it keeps no pages. The file stays
/// locked until the follower is dropped or has told its end.
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
/// # What it tells
///
/// Records come in order and without holes. What else happens comes as an error, in its place among them:
///
/// * [`Error::Truncated`] once after truncations, with the lowest index that one of them kept: records after that which
///   were delivered are gone. The follower goes on behind the last that was kept, or where it was if that is before. A
///   truncation that fails half way and is taken back can be told as well; the records are then delivered again.
/// * [`Error::Io`] if records had to be handed over to the file for it, which the file refused. They stay staged, and
///   the next call tries again.
/// * [`Error::OutOfRange`] first of all if it was to begin where no record can follow: more than one past the last that
///   was appended. After that the iterator has ended.
/// * [`Error::Closed`] or [`Error::Poisoned`] at the end, when everything that readers can see was delivered. After that
///   the iterator has ended.
///
/// # What it waits for
///
/// Records that readers see, so those that are committed. A follower that waits makes the journal commit what is
/// appended: readers of a journal under [`OnDemand`](crate::SyncPolicy::OnDemand) or
/// [`Interval`](crate::SyncPolicy::Interval) need not be flushed for. With [`durable`](Self::durable) it waits for
/// records that survive a power loss.
///
/// A [`RecordRef`] is meant to be short: what is collected from a follower should be copied, or read from a
/// [`Snapshot`](crate::Snapshot).
pub struct Follow {
    /// Or the end that was told: nothing is left then that keeps the file locked.
    waiter: Result<Waiter>,
    next: u64,
    place: Option<Place>,
    /// It begins past the end: the first and last record when it was made.
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
        // After a failure that is what there is to tell: it has taken records away.
        let beyond = (from > last.saturating_add(1) && !failed).then_some((first, last));
        Self { waiter: Ok(waiter), next: from.max(first), place: None, beyond }
    }

    /// Delivers records only once they are durable. It waits for that and does not bring it about: under
    /// [`OnDemand`](crate::SyncPolicy::OnDemand) someone has to call [`sync`](crate::Journal::sync).
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

    /// The index of the record that comes next.
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// The next record if it is there, without waiting for it. What is appended is committed, unless that would mean to
    /// wait for a sync: then it is left to the journal's background thread, and this returns what there is.
    ///
    /// # Errors
    /// What the follower [tells](Self#what-it-tells); at the end the same error each time.
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
            let Some((view, last)) = looked.inspect_err(|error| self.tell(error))? else { return Ok(None) };
            if self.next < view.first() {
                self.next = view.first();
                continue;
            }
            let Some(extent) = view.locate(self.next, last, &mut self.place) else {
                let start = view.index().nearest(self.next).1;
                return Err(Error::corrupt(view.map().file().path(), start, self.next));
            };
            let record = RecordRef::new(view, self.next, extent);
            self.next = self.next.saturating_add(1);
            return Ok(Some(record));
        }
    }

    /// The next record, waiting for it until `deadline`; `None` if it is not there by then. No sync is waited for beyond
    /// that, as with [`try_next`](Self::try_next).
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

    /// The next record, in async code: what the iterator does, without blocking a thread while it waits. The future can
    /// be dropped at any time, and no record is lost with it. Any executor will do.
    ///
    /// A poll waits for no sync. Handing over to the file what is appended, if that is what it takes, is done in place, as
    /// the append of a full buffer would, or by the journal's background thread, if it has to wait for a sync.
    ///
    /// Wakers are called without any lock of the journal, so that they may do anything, this journal's own calls
    /// included. The thread that commits calls up to 16 and leaves the rest to the background thread, and to those that
    /// are polled, so a waker that blocks does not keep the others from being called. It does block the thread that calls
    /// it, which can be one that appends, and [`close`](crate::Journal::close), which waits for the background thread. A
    /// waker's panic is caught.
    ///
    /// The first append after a while wakes one waiter, which commits for all: a task that was woken and is neither
    /// polled nor dropped leaves what is appended to the next flush, sync or full buffer. With the feature `async`.
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
    /// As [`try_next`](Self::try_next); `None` after the end.
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
                self.tell(&error);
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
            if !waited.inspect_err(|error| self.tell(error))? {
                return Ok(None);
            }
        }
    }

    fn waiter(&mut self) -> Result<&mut Waiter> {
        self.waiter.as_mut().map_err(|end| end.clone())
    }

    /// What is told to the caller is true of the follower from then on.
    fn tell(&mut self, error: &Error) {
        match error {
            Error::Truncated { last } => {
                self.next = self.next.min(last.saturating_add(1));
            }
            Error::Closed | Error::Poisoned { .. } => self.waiter = Err(error.clone()),
            _ => {}
        }
    }
}

/// Waits for each record; ends after `Closed` or `Poisoned`.
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
