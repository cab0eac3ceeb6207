//! [`Journal`]: the glue between the log, which writes, and the ways to read.

use std::fmt;
use std::io::IoSlice;
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use crate::error::{Error, Result};
use crate::file::seam::Seamed;
use crate::file::{JournalFile, Origin};
use crate::options::{Format, Options, SyncPolicy};
use crate::read::{Follow, Reader, RecordRef, Snapshot, corrupt};
use crate::recover::{RecoveryReport, recover};
use crate::sync::{Arc, Guard};
use crate::view::{Extent, View};
use crate::write::Log;
use crate::write::batch::{Batch, Borrowed};
use crate::write::stats::Stats;
use crate::write::writer::{Records, Start};

/// The smallest staging buffer.
const SMALLEST_BUFFER: usize = 4096;

/// An open journal: appends records to one file and lends them to any number of readers.
///
/// It is shared by reference or in an `Arc`; every method takes `&self`, and appends of several threads are put in one
/// order by a lock. Indexes begin at 1 and have no holes.
///
/// Dropping a journal flushes and syncs it as [`close`](Self::close) does, but cannot report a failure.
///
/// It belongs to the process that opened it. A child that was forked from that one may only drop what it has inherited,
/// which then has no effect on the parent; see the [caveats](crate#caveats).
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("events.wally");
/// let journal = wally::Journal::open(&path)?;
/// let n = journal.append(b"hello")?;
/// assert_eq!(journal.read(n)?, b"hello");
/// journal.close()?;
///
/// let journal = wally::Journal::open(&path)?;
/// assert_eq!(journal.recovery().records, 1);
/// assert_eq!(journal.read(1)?, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Journal {
    log: Arc<Log>,
    report: RecoveryReport,
    delete_on_close: bool,
    finished: bool,
}

impl Options {
    /// Opens the journal at `path` for writing, recovering it first.
    ///
    /// What is found is checked to its last byte and made durable before it is served.
    /// [`Journal::recovery`] tells what happened. An open that fails removes the file that it has created.
    ///
    /// # Errors
    /// * [`Error::Io`] if the system refuses something, or the path names no regular file.
    /// * [`Error::Locked`] if another writer has it open, in this process or another.
    /// * [`Error::NotAJournal`], [`Error::UnsupportedFormat`] or [`Error::Corrupt`] as the recovery policy has it; the
    ///   file is untouched.
    /// * [`Error::Stopped`] if the progress callback said so.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Journal> {
        let (file, origin) = JournalFile::open(path.as_ref(), self.create, Seamed::of(self))?;
        let file = Arc::new(file);
        let mut unwanted = Unwanted::new(&file, origin);
        let recovered = recover(&file, origin, self)?;
        let start = Start {
            file,
            format: recovered.format,
            index: recovered.index,
            marked: recovered.marked,
            staging_len: self.buffer_size.max(SMALLEST_BUFFER),
        };
        let log = Arc::new(Log::new(start, self)?);
        let background = &log.notifier.background;
        background.belongs_to(&log);
        if let SyncPolicy::Interval(every) = self.sync_policy {
            background.sync_every(every).map_err(|e| log.file.error("start the background thread of", e))?;
        }
        unwanted.keep();
        Ok(Journal { log, report: recovered.report, delete_on_close: self.delete_on_close, finished: false })
    }
}

/// An open that fails leaves no file that was not there before, however it ends: a callback of the caller may panic.
struct Unwanted(Option<Arc<JournalFile>>);

impl Unwanted {
    /// A file that this open has created, and that is empty, is unwanted until it is [kept](Self::keep). One that has
    /// content was filled by somebody else before it was locked.
    fn new(file: &Arc<JournalFile>, origin: Origin) -> Self {
        let fresh = origin == Origin::Created && matches!(file.len(), Ok(0));
        Self(fresh.then(|| Arc::clone(file)))
    }

    fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for Unwanted {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            // While it is locked: another that has opened it meanwhile finds that it is gone, and begins anew.
            let _ = file.unlink();
        }
    }
}

impl Journal {
    /// Opens or creates the journal at `path` with the default [`Options`]: each append is durable when it returns.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path)
    }

    /// Appends one record and returns its index. Under [`SyncPolicy::Always`] it is durable when this returns; under
    /// the others it is staged, or committed if it did not fit the buffer.
    ///
    /// # Errors
    /// * [`Error::RecordTooLarge`] beyond [`Options::max_record_len`].
    /// * [`Error::Io`] if the file takes no more: the record is not there, and appends work again once there is room.
    /// * [`Error::Poisoned`] after a failed sync.
    /// * [`Error::Forked`] in a child of the process that opened the journal. Where the system has no way to tell a child
    ///   without being asked (other systems than Linux), an append that only goes to the buffer is not refused, and goes
    ///   nowhere.
    pub fn append(&self, payload: &[u8]) -> Result<u64> {
        self.log.append(&[IoSlice::new(payload)])
    }

    /// Appends one record that is given in parts.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
    /// use std::io::IoSlice;
    /// let n = journal.append_vectored(&[IoSlice::new(b"head "), IoSlice::new(b"body")])?;
    /// assert_eq!(journal.read(n)?, b"head body");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_vectored(&self, parts: &[IoSlice<'_>]) -> Result<u64> {
        self.log.append(parts)
    }

    /// Appends records as one atomic batch and returns their indexes; an empty range for no records. In a sealed
    /// journal a crash leaves all of them or none.
    ///
    /// The iterator is drained before the append lock is taken.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
    /// assert_eq!(journal.append_batch(["one", "two"])?, 1..=2);
    /// assert!(journal.append_batch([[0u8; 0]; 0])?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`append`](Self::append), for the batch as a whole.
    pub fn append_batch<I>(&self, payloads: I) -> Result<RangeInclusive<u64>>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let payloads: Vec<I::Item> = payloads.into_iter().collect();
        self.append_records(&Borrowed::new(&payloads))
    }

    /// Appends a [`Batch`] as one, and returns the indexes of its records. The batch stays as it is.
    ///
    /// # Errors
    /// As [`append`](Self::append), for the batch as a whole.
    pub fn write_batch(&self, batch: &Batch) -> Result<RangeInclusive<u64>> {
        self.append_records(batch)
    }

    fn append_records(&self, records: &impl Records) -> Result<RangeInclusive<u64>> {
        let count = records.count() as u64;
        if count == 0 {
            let next = self.last_index().saturating_add(1);
            #[expect(clippy::reversed_empty_ranges, reason = "the way to write an empty inclusive range")]
            return Ok(if next == 0 { 1..=0 } else { next..=next - 1 });
        }
        let last = self.log.append_batch(records)?;
        Ok(last - (count - 1)..=last)
    }

    /// A copy of the payload of record `n`, its checksum checked. Commits what is appended first, if `n` is not
    /// committed yet.
    ///
    /// # Errors
    /// * [`Error::OutOfRange`] if there is no such record.
    /// * [`Error::Corrupt`] if the payload does not match its checksum.
    /// * [`Error::Poisoned`] above the durable point of a poisoned journal.
    /// * [`Error::Io`] if a flush was needed and failed.
    pub fn read(&self, n: u64) -> Result<Vec<u8>> {
        let mut payload = Vec::new();
        self.read_into(n, &mut payload)?;
        Ok(payload)
    }

    /// As [`read`](Self::read), into `buf`, whose former content is dropped and whose memory is used again. It is
    /// left empty on failure.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_into(&self, n: u64, buf: &mut Vec<u8>) -> Result<()> {
        buf.clear();
        let (view, extent) = self.find(n)?;
        let payload = view.payload(extent).unwrap_or_default();
        if !view.verify(extent, payload) {
            return Err(corrupt(&view, n, extent));
        }
        buf.extend_from_slice(payload);
        Ok(())
    }

    /// Record `n`, borrowed from the map with nothing copied. Its checksum is checked only by
    /// [`RecordRef::verify`].
    ///
    /// # Errors
    /// As [`read`](Self::read), but for `Corrupt`.
    pub fn read_ref(&self, n: u64) -> Result<RecordRef> {
        let (view, extent) = self.find(n)?;
        Ok(RecordRef::new(view, n, extent))
    }

    /// Where the payload of record `n` lies in the file, for `sendfile` and the like. What is there stays there until
    /// a truncation removes it.
    ///
    /// # Errors
    /// As [`read_ref`](Self::read_ref).
    pub fn data_range(&self, n: u64) -> Result<Range<u64>> {
        let (_, extent) = self.find(n)?;
        Ok(extent.payload())
    }

    /// The view that holds record `n`, and where it lies there.
    fn find(&self, n: u64) -> Result<(Guard<Arc<View>>, Extent)> {
        let mut view = self.log.publisher.load();
        if n > view.committed() && n <= self.log.appended() {
            self.log.flush()?;
            view = self.log.publisher.load();
        }
        let last = view.committed();
        match view.locate(n, last, &mut None) {
            Some(extent) => Ok((view, extent)),
            None => Err(match view.failure() {
                Some(first) if n > last => Error::Poisoned { first: Arc::clone(first) },
                _ => Error::OutOfRange { index: n, first: view.first(), last: last.max(self.log.appended()) },
            }),
        }
    }

    /// The journal as it is now, fixed. It holds what is committed: [`flush`](Self::flush) first to have in it what was
    /// appended before.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.log.publisher.load_full())
    }

    /// A reader for one thread; it sees what is committed, as it is committed.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.log)
    }

    /// The records from index `from` on, those to come included: an iterator that waits for the next one. It begins at the
    /// first record if `from` is before that, and waits for the next append if `from` is `last_index() + 1`.
    ///
    /// Beyond that there is no telling which record would have index `from`, so the first that the follower delivers is
    /// [`Error::OutOfRange`], and it has ended: a caller that kept the number of the last record it saw has kept
    /// that of a record which is gone, in a truncation or with a crash.
    pub fn follow(&self, from: u64) -> Follow {
        Follow::new(&self.log, from)
    }

    /// The index of the first record; one more than [`last_index`](Self::last_index) if the journal is empty.
    pub fn first_index(&self) -> u64 {
        self.log.publisher.load().first()
    }

    /// The index of the last appended record.
    pub fn last_index(&self) -> u64 {
        self.log.appended()
    }

    /// The index of the last record that readers see.
    pub fn committed_index(&self) -> u64 {
        self.log.publisher.load().committed()
    }

    /// The index of the last record that survives a power loss.
    pub fn durable_index(&self) -> u64 {
        self.log.group_commit.durable_index()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.last_index() < self.first_index()
    }

    /// The format of the file.
    pub fn format(&self) -> Format {
        self.log.format
    }

    /// The file, as an absolute path; links in it are not resolved.
    pub fn path(&self) -> &Path {
        self.log.file.path()
    }

    /// Hands everything appended over to the file, so that readers see it. It does not make it durable.
    ///
    /// # Errors
    /// * [`Error::Io`] if the file takes no more. Under [`SyncPolicy::Always`] what was staged is dropped and its
    ///   appends fail; under the other policies it stays staged, and the next flush tries again.
    /// * [`Error::Poisoned`] after a failed sync.
    /// * [`Error::Forked`] in a child of the process that opened the journal.
    pub fn flush(&self) -> Result<()> {
        self.log.flush()
    }

    /// Makes everything appended before durable, but for what a truncation removes meanwhile.
    ///
    /// # Errors
    /// As [`flush`](Self::flush), and the same if the last record is dropped by another thread's flush that fails. If the sync itself fails the journal is poisoned: nothing is acknowledged any more,
    /// and what was not durable may be lost.
    pub fn sync(&self) -> Result<()> {
        self.log.sync()
    }

    /// Returns once record `n` is durable, syncing if need be, whatever the policy. At once for 0 and what was removed
    /// from the front.
    ///
    /// # Errors
    /// As [`sync`](Self::sync), and [`Error::OutOfRange`] if `n` was not appended or is cut meanwhile.
    pub fn wait_durable(&self, n: u64) -> Result<()> {
        self.log.wait_durable(n)
    }

    /// Removes the records after `n`, durably: they never come back. 0 clears the journal, which then begins at 1
    /// again.
    ///
    /// It waits for no reader: what readers, snapshots and records still hold of what is removed keeps its bytes, at
    /// the cost of a copy of those pages for as long as they hold it. Appends go on while that is copied, but for what is
    /// committed meanwhile; they wait for the rest of the truncation, which syncs up to five times.
    ///
    /// Of what is appended but not committed only the records up to `n` are written, so a full disk does not keep what is
    /// after them from being removed. An append that waits for such a record returns its index all the same: the record was
    /// appended, and then removed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
    /// journal.append_batch([b"one", b"two"])?;
    /// let two = journal.read_ref(2)?;
    /// journal.truncate_back(1)?;
    /// assert_eq!(journal.append(b"other")?, 2);
    /// assert_eq!(&two[..], b"two");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// * [`Error::OutOfRange`] below `first_index() - 1` (but for 0) or past the end.
    /// * [`Error::ReadersActive`] if more than [`Options::preserve_limit`] would have to be copied, or it cannot be;
    ///   nothing has changed.
    /// * [`Error::Io`] if the system refuses something; nothing has changed. But if record `n` is not committed and cannot be
    ///   written, what was staged is dropped under [`SyncPolicy::Always`], as by [`flush`](Self::flush).
    /// * [`Error::Poisoned`] if it fails where there is no way back.
    /// * [`Error::Forked`] in a child of the process that opened the journal.
    pub fn truncate_back(&self, n: u64) -> Result<()> {
        self.log.truncate_back(n)
    }

    /// What was found, and done, when the journal was opened.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// Figures of this journal since it was opened.
    pub fn stats(&self) -> Stats {
        self.log.stats()
    }

    /// Makes everything durable, marks the end of the file, and gives the lock up, or leaves that to the last
    /// [`Reader`], [`Snapshot`], [`RecordRef`] or [`Follow`] of this journal. Each of them keeps the file locked until
    /// it is dropped, whether or not it holds a view; a `Follow` only until its end was told. Without room for the mark the journal is closed all the same: its records are durable,
    /// but the last of them are less protected against being taken for a torn tail if they are damaged later.
    ///
    /// The background thread has ended when this returns, and every follower and waiting reader was woken.
    ///
    /// # Errors
    /// As [`sync`](Self::sync). This is the one call that can lose staged records: those above
    /// [`committed_index`](Self::committed_index) are gone with the journal if they cannot be written.
    pub fn close(mut self) -> Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        // The thread was not forked with this one, so a child has none to wait for.
        self.log.file.check_process()?;
        self.log.stop_background();
        let result = match self.delete_on_close {
            true => self.log.file.unlink(),
            false => self.log.close(),
        };
        self.log.set_closed();
        result
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if !self.finished {
            // Whoever wants to know calls `close`.
            let _ = self.finish();
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("path", &self.path())
            .field("first_index", &self.first_index())
            .field("last_index", &self.last_index())
            .field("durable_index", &self.durable_index())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::notify::{MayBlock, WaitUntil};

    /// What makes a wait pointless can come between the look and the question, so both see it.
    #[test]
    fn who_is_about_to_wait_looks_again_if_something_happened_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new();
        let journal = options.sync_policy(SyncPolicy::OnDemand).open(dir.path().join("journal")).unwrap();
        let generation = || Arc::clone(journal.log.publisher.load().generation());
        let waits = |n, until| journal.log.ask(n, until, &generation(), MayBlock::OnSync);
        assert!(waits(1, WaitUntil::Committed) && waits(1, WaitUntil::Durable));
        journal.append(b"staged").unwrap();
        assert!(!waits(1, WaitUntil::Committed), "somebody has to flush");
        assert!(waits(1, WaitUntil::Durable), "that is the business of others");
        journal.flush().unwrap();
        assert!(!waits(1, WaitUntil::Committed));
        assert!(waits(2, WaitUntil::Committed) && waits(1, WaitUntil::Durable));
        journal.sync().unwrap();
        assert!(!waits(1, WaitUntil::Durable));
        assert!(waits(2, WaitUntil::Durable));
        let before = generation();
        journal.truncate_back(0).unwrap();
        for until in [WaitUntil::Committed, WaitUntil::Durable] {
            assert!(!journal.log.ask(1, until, &before, MayBlock::OnSync), "it is to be told of the cut");
            assert!(waits(1, until));
        }
        journal.log.set_closed();
        assert!(!waits(1, WaitUntil::Committed) && !waits(1, WaitUntil::Durable));
    }
}
