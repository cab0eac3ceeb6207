//! The ways to read that follow the journal as it grows: a [`Reader`] per thread, and single records that keep
//! themselves alive.

use std::fmt;
use std::ops::Deref;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::notify::Patience;
use crate::read::waiter::Waiter;
use crate::sync::{Arc, Guard};
use crate::view::publish::Subscriber;
use crate::view::{Extent, Place, View};
use crate::write::Log;

/// Reads the journal from one thread, lock-free: a read is a few loads, with no write to memory that threads share.
///
/// A reader sees what is committed and outlives the [`Journal`](crate::Journal). It waits only where it is asked to, in
/// [`wait_for`](Self::wait_for). It keeps the view that it saw last until its next call, and with it the pages of that
/// view; one that will be idle for long should [`release`](Self::release) it. As long as it lives the file stays locked, even after the journal was closed and
/// the view released.
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
/// One slice at a time: the next call may move the reader to another view. Two at once want a
/// [`Snapshot`](crate::Snapshot) or [`RecordRef`]s.
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
    place: Option<Place>,
    waiter: Waiter,
}

/// Whether a [`Reader`] can expect more.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReaderStatus {
    /// The journal is open.
    Open,
    /// The journal was closed or dropped; what was committed is still served.
    Closed,
    /// The journal was poisoned by this failure; what was durable is still served.
    Poisoned(Arc<Error>),
}

impl Reader {
    pub(crate) fn new(log: &Arc<Log>) -> Self {
        Self { subscriber: log.publisher.subscribe(), place: None, waiter: Waiter::new(log) }
    }

    /// The payload of record `n`, borrowed from the map; `None` if it is removed, beyond what is committed, or above
    /// the durable point of a poisoned journal ([`status`](Self::status) tells which). The checksum is not looked at.
    #[inline]
    pub fn get(&mut self, n: u64) -> Option<&[u8]> {
        match self.subscriber.seen().and_then(|view| view.at_once(n)) {
            Some(extent) => self.subscriber.seen()?.payload(extent),
            None => self.get_from_current(n),
        }
    }

    /// Record `n` in the current view, which is from now on the one that was seen last.
    #[cold]
    #[inline(never)]
    fn get_from_current(&mut self, n: u64) -> Option<&[u8]> {
        let view = self.subscriber.get();
        let extent = view.locate(n, view.committed(), &mut self.place)?;
        view.payload(extent)
    }

    /// The index of the first record; one more than the last if there is none.
    pub fn first_index(&mut self) -> u64 {
        self.subscriber.get().first()
    }

    /// The index of the last committed record.
    pub fn last_index(&mut self) -> u64 {
        self.subscriber.get().committed()
    }

    /// Whether the journal is open, closed or poisoned.
    pub fn status(&mut self) -> ReaderStatus {
        if let Some(first) = self.subscriber.get().failure() {
            return ReaderStatus::Poisoned(Arc::clone(first));
        }
        match self.waiter.log().is_closed() {
            true => ReaderStatus::Closed,
            false => ReaderStatus::Open,
        }
    }

    /// Waits until record `n` is there, for `timeout` at most (`None`: for ever); whether it is. Nothing is polled and
    /// nothing is held meanwhile: the view is [released](Self::release). What is appended but not committed is
    /// committed, if it takes that.
    ///
    /// With a timeout it waits for no sync: if one has to go before the record can be committed, that is left to the
    /// journal's background thread, and the answer can be `false` though the record was appended before. So a timeout of
    /// 0 only asks.
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
    /// * [`Error::Truncated`], once, if the journal was truncated since this reader waited last or was made: what it has
    ///   read behind that is gone, and the record that it waits for may be another one.
    /// * [`Error::Closed`] or [`Error::Poisoned`] if it will never be there.
    /// * [`Error::OutOfRange`] if it was removed from the front, and for 0.
    /// * [`Error::Io`] if what is appended could not be committed.
    pub fn wait_for(&mut self, n: u64, timeout: impl Into<Option<Duration>>) -> Result<bool> {
        // A time too far away to be told is never.
        let deadline = timeout.into().and_then(|timeout| Instant::now().checked_add(timeout));
        if self.is_there(n, Patience::until(deadline))? {
            return Ok(true);
        }
        self.waiter.wait(n, deadline)
    }

    /// [`wait_for`](Self::wait_for) in async code, without a timeout: executors have their own, and the future can be
    /// dropped at any time. With the feature `async`.
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
    /// As `wait_for`.
    #[cfg(feature = "async")]
    pub async fn wait_for_async(&mut self, n: u64) -> Result<()> {
        match self.is_there(n, Patience::ForWrites)? {
            true => Ok(()),
            false => self.waiter.wait_async(n).await,
        }
    }

    /// Whether record `n` is there without waiting. Else the view is let go of.
    fn is_there(&mut self, n: u64, patience: Patience) -> Result<bool> {
        self.release();
        let found = self.waiter.look(n, patience)?;
        let Some((view, last)) = found else { return Ok(false) };
        let first = view.first();
        if n < first {
            let last = last.max(self.waiter.log().appended());
            return Err(Error::OutOfRange { index: n, first, last });
        }
        Ok(true)
    }

    /// Lets go of the view that the last call used, so that its pages can go. The next call takes the current one.
    pub fn release(&mut self) {
        self.subscriber.release();
        self.place = None;
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// One record, borrowed from the map together with what keeps it alive. It derefs to the payload.
///
/// It outlives truncation, closing and the [`Journal`](crate::Journal), and keeps its bytes. It is meant to be short:
/// beyond eight of them a thread pays for each more a contended count, and each keeps the file locked.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
/// journal.append(b"hello")?;
/// let record = journal.read_ref(1)?;
/// record.verify()?;
/// journal.truncate_back(0)?;
/// assert_eq!(&record[..], b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Its bytes cannot outlive it:
///
/// ```compile_fail,E0505
/// # let dir = tempfile::tempdir()?;
/// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
/// # journal.append(b"hello")?;
/// let record = journal.read_ref(1)?;
/// let bytes: &[u8] = &record;
/// drop(record);
/// assert_eq!(bytes, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RecordRef {
    view: Guard<Arc<View>>,
    index: u64,
    extent: Extent,
}

impl RecordRef {
    pub(crate) fn new(view: Guard<Arc<View>>, index: u64, extent: Extent) -> Self {
        Self { view, index, extent }
    }

    /// The record's index.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Checks the payload against the checksum in its header.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if they do not agree.
    pub fn verify(&self) -> Result<()> {
        if self.view.verify(self.extent, self) {
            return Ok(());
        }
        Err(corrupt(&self.view, self.index, self.extent))
    }
}

/// The payload at `extent` does not have its checksum.
pub(crate) fn corrupt(view: &View, index: u64, extent: Extent) -> Error {
    Error::corrupt(view.map().file().path(), extent.start, index)
}

impl Deref for RecordRef {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // There when this was made, and a view's limit never goes back.
        self.view.payload(self.extent).unwrap_or_default()
    }
}

impl AsRef<[u8]> for RecordRef {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for RecordRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordRef").field("index", &self.index).field("len", &self.len()).finish()
    }
}
