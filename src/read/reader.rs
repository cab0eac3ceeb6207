//! [`Reader`]: sees the journal as it grows; one for each thread.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::notify::MayBlock;
use crate::read::waiter::Waiter;
use crate::sync::Arc;
use crate::view::publish::Subscriber;
use crate::view::{Hint, View};
use crate::write::Log;

/// Reads the journal from one thread, lock-free: a read is a few loads, and writes to no memory that threads share.
///
/// A reader sees what is committed and may outlive the [`Journal`](crate::Journal). It waits only in
/// [`wait_for`](Self::wait_for). It keeps the view that it saw last until its next call, and with it the pages of that
/// view; a reader that will be idle for long should [`release`](Self::release) it. As long as the reader lives the file
/// stays locked, even after the journal was closed and the view released.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
/// let mut reader = journal.reader();
/// assert_eq!(reader.get(1), None);
/// journal.append(b"hello")?;
/// assert_eq!(reader.get(1), Some(&b"hello"[..]));
/// let elsewhere = std::thread::spawn(move || reader.get(1).map(<[u8]>::len));
/// assert_eq!(elsewhere.join().unwrap(), Some(5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A reader lends one slice at a time: the next call may move the reader to another view. To hold two at once, use a
/// [`Snapshot`](crate::Snapshot) or [`RecordRef`](crate::RecordRef)s.
///
/// ```compile_fail,E0499
/// # let dir = tempfile::tempdir()?;
/// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
/// let mut reader = journal.reader();
/// let one = reader.get(1);
/// let two = reader.get(2);
/// assert_eq!(one, two);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
/// # journal.append_batch([b"a", b"a"])?;
/// let one = journal.read_ref(1)?;
/// let two = journal.read_ref(2)?;
/// assert_eq!(*one, *two);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader {
    subscriber: Subscriber<View>,
    hint: Option<Hint>,
    waiter: Waiter,
}

/// The state of a [`Reader`]'s journal, which tells whether more records can come.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReaderStatus {
    /// The journal is open.
    Open,
    /// The journal was closed or dropped. The reader still reads what was committed.
    Closed,
    /// The journal was poisoned by this failure. The reader still reads what was durable.
    Poisoned(Arc<Error>),
}

impl Reader {
    pub(crate) fn new(log: &Arc<Log>) -> Self {
        Self { subscriber: log.publisher.subscribe(), hint: None, waiter: Waiter::new(log) }
    }

    /// Returns the payload of record `n`, borrowed from the map, or `None` if the record is removed, not committed, or after
    /// the durable point of a poisoned journal; [`status`](Self::status) tells which. The checksum is not checked.
    #[inline]
    pub fn get(&mut self, n: u64) -> Option<&[u8]> {
        match self.subscriber.seen().and_then(|view| view.at_once(n)) {
            Some(extent) => self.subscriber.seen()?.payload(extent),
            None => self.get_from_current(n),
        }
    }

    /// Returns record `n` from the current view, which becomes the view that this reader saw last.
    #[cold]
    #[inline(never)]
    fn get_from_current(&mut self, n: u64) -> Option<&[u8]> {
        let view = self.subscriber.get();
        let extent = view.locate(n, view.committed(), &mut self.hint)?;
        view.payload(extent)
    }

    /// Returns the index of the first record, or one more than the last index if there is no record.
    pub fn first_index(&mut self) -> u64 {
        self.subscriber.get().first()
    }

    /// Returns the index of the last committed record.
    pub fn last_index(&mut self) -> u64 {
        self.subscriber.get().committed()
    }

    /// Returns the state of the journal: open, closed or poisoned.
    pub fn status(&mut self) -> ReaderStatus {
        if let Some(first) = self.subscriber.get().failure() {
            return ReaderStatus::Poisoned(Arc::clone(first));
        }
        match self.waiter.log().is_closed() {
            true => ReaderStatus::Closed,
            false => ReaderStatus::Open,
        }
    }

    /// Waits until record `n` is committed, for `timeout` at most (`None`: without a limit). Returns `true` if it is. The
    /// wait does not poll, and the reader holds no view meanwhile: it is [released](Self::release). If record `n` is
    /// appended but not committed, this commits it.
    ///
    /// With a timeout this waits for no sync: if a sync has to come before the record can be committed, the journal's
    /// background thread does both, and this can return `false` although the record was appended before. So a timeout of 0
    /// never waits.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let journal = wally::Options::new().sync_policy(wally::SyncPolicy::OnDemand).open(dir.path().join("events.wally"))?;
    /// let mut reader = journal.reader();
    /// let waiting = std::thread::spawn(move || {
    ///     reader.wait_for(1, None)?;
    ///     Ok::<_, wally::Error>(reader.get(1).map(<[u8]>::to_vec))
    /// });
    /// journal.append(b"hello")?;
    /// assert_eq!(waiting.join().unwrap()?.as_deref(), Some(&b"hello"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// * [`Error::Truncated`], once, if the journal was truncated since this reader waited last or was made: records after
    ///   the cut that it has read are gone, and record `n` may be another one than before.
    /// * [`Error::Closed`] or [`Error::Poisoned`] if record `n` will never be there.
    /// * [`Error::OutOfRange`] if record `n` was removed from the front, and for 0.
    /// * [`Error::Io`] if the record could not be committed.
    pub fn wait_for(&mut self, n: u64, timeout: impl Into<Option<Duration>>) -> Result<bool> {
        // A deadline that cannot be represented is no deadline.
        let deadline = timeout.into().and_then(|timeout| Instant::now().checked_add(timeout));
        if self.is_there(n, MayBlock::before(deadline))? {
            return Ok(true);
        }
        self.waiter.wait(n, deadline)
    }

    /// Waits until record `n` is committed, in async code. There is no timeout, since executors have their own; the future
    /// can be dropped at any time. With the feature `async`.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
    /// let mut reader = journal.reader();
    /// journal.append(b"hello")?;
    /// pollster::block_on(reader.wait_for_async(1))?;
    /// assert_eq!(reader.get(1), Some(&b"hello"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    #[cfg(feature = "async")]
    pub async fn wait_for_async(&mut self, n: u64) -> Result<()> {
        match self.is_there(n, MayBlock::OnWrite)? {
            true => Ok(()),
            false => self.waiter.wait_async(n).await,
        }
    }

    /// Returns `true` if record `n` is there already. Releases the view.
    fn is_there(&mut self, n: u64, may_block: MayBlock) -> Result<bool> {
        self.release();
        let found = self.waiter.look(n, may_block)?;
        let Some((view, last)) = found else { return Ok(false) };
        let first = view.first();
        if n < first {
            let last = last.max(self.waiter.log().appended());
            return Err(Error::OutOfRange { index: n, first, last });
        }
        Ok(true)
    }

    /// Releases the view that the last call used, so that its pages can be unmapped. The next call takes the current view.
    pub fn release(&mut self) {
        self.subscriber.release();
        self.hint = None;
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
