//! [`Journal`]: connects the log, which writes, with the ways to read.

use std::fmt;
use std::io::IoSlice;
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use crate::error::{Error, Result};
use crate::file::seam::FileSeam;
use crate::file::{JournalFile, Origin};
use crate::format::Format;
use crate::options::{Options, SyncPolicy};
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
/// A journal is shared by reference or in an `Arc`. Every method but [`close`](Self::close) takes `&self`, and a lock puts
/// the appends of several threads in one order. Indexes begin at 1 and have no holes.
///
/// Dropping a journal flushes and syncs it as [`close`](Self::close) does, but cannot report a failure.
///
/// A journal belongs to the process that opened it. A child forked from that process may only drop what it has inherited,
/// which has no effect on the parent; see the [caveats](crate#caveats).
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
    /// Everything in the file is checked, to its last byte, and made durable before it can be read. [`Journal::recovery`]
    /// returns what was found and done. An open that fails removes the file that it has created.
    ///
    /// # Errors
    /// * [`Error::Io`] if the system refuses an operation, or the path names no regular file.
    /// * [`Error::Locked`] if the journal is open for writing, in this process or another, or a reader of it still lives.
    /// * [`Error::NotAJournal`], [`Error::UnsupportedFormat`] or [`Error::Corrupt`], depending on the recovery policy; the
    ///   file is untouched.
    /// * [`Error::Stopped`] if the progress callback stopped the opening.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Journal> {
        let (file, origin) = JournalFile::open(path.as_ref(), self.create, FileSeam::of(self))?;
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
        log.employ_background();
        if let SyncPolicy::Interval(every) = self.sync_policy {
            background.sync_every(every).map_err(|e| log.file.error("start the background thread of", e))?;
        }
        unwanted.keep();
        Ok(Journal { log, report: recovered.report, delete_on_close: self.delete_on_close, finished: false })
    }
}

/// Removes the file that an open has created if the open fails, also by a panic of the caller's callback.
struct Unwanted(Option<Arc<JournalFile>>);

impl Unwanted {
    /// A file that this open has created, and that is empty, is unwanted until it is [kept](Self::keep). If it has content,
    /// another program filled it before it was locked.
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
            // While it is locked: another opener that waits for the lock finds that the file is gone, and begins anew.
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

    /// Appends one record and returns its index. Under [`SyncPolicy::Always`] the record is durable when this returns; under
    /// the other policies it is staged, or committed if it did not fit the buffer.
    ///
    /// # Errors
    /// * [`Error::RecordTooLarge`] if the payload is longer than [`Options::max_record_len`].
    /// * [`Error::Io`] if a write is refused: the record is not there, and appends work again once there is room.
    /// * [`Error::Poisoned`] after a failed sync.
    /// * [`Error::Forked`] in a child of the process that opened the journal. On other systems than Linux, where it takes a
    ///   system call to detect that, an append that only goes to the buffer succeeds in a child, and never reaches the file.
    pub fn append(&self, payload: &[u8]) -> Result<u64> {
        self.log.append(&[IoSlice::new(payload)])
    }

    /// Appends one record whose payload is the concatenation of `parts`, and returns its index.
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

    /// Appends records as one atomic batch and returns their indexes, or an empty range if there are no records. In a sealed
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

    /// Appends the records of a [`Batch`] as one atomic batch and returns their indexes. The batch is not changed.
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

    /// Returns a copy of the payload of record `n`, after checking its checksum. Commits what is appended first, if `n` is not
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

    /// Copies the payload of record `n` into `buf`, as [`read`](Self::read) does, in place of its former content. The memory of
    /// `buf` is reused. On failure `buf` is empty.
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

    /// Returns record `n`, borrowed from the map without a copy. Its checksum is checked only by [`RecordRef::verify`].
    ///
    /// # Errors
    /// As [`read`](Self::read), except for `Corrupt`.
    pub fn read_ref(&self, n: u64) -> Result<RecordRef> {
        let (view, extent) = self.find(n)?;
        Ok(RecordRef::new(view, n, extent))
    }

    /// Returns the range of file offsets, in bytes, where the payload of record `n` lies, for `sendfile` and similar calls. The
    /// bytes stay there until a truncation removes the record.
    ///
    /// # Errors
    /// As [`read_ref`](Self::read_ref).
    pub fn data_range(&self, n: u64) -> Result<Range<u64>> {
        let (_, extent) = self.find(n)?;
        Ok(extent.payload())
    }

    /// Returns a view that holds record `n`, and where the record lies in it.
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

    /// Returns a snapshot of the journal as it is now. It holds what is committed: call [`flush`](Self::flush) first to include
    /// what was appended before.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.log.publisher.load_full())
    }

    /// Returns a reader for one thread. It sees records as they are committed.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.log)
    }

    /// Returns an iterator over the records from index `from` on, future ones included, which waits for the next one. It begins
    /// at the first record if `from` is before that, and waits for the next append if `from` is `last_index() + 1`.
    ///
    /// If `from` is larger, the iterator returns [`Error::OutOfRange`] and ends, since it cannot know which record will have
    /// that index: a caller that goes on from the last record it saw then has the index of a record that a truncation or a
    /// crash has removed.
    pub fn follow(&self, from: u64) -> Follow {
        Follow::new(&self.log, from)
    }

    /// Returns the index of the first record, or one more than [`last_index`](Self::last_index) if the journal is empty.
    pub fn first_index(&self) -> u64 {
        self.log.publisher.load().first()
    }

    /// Returns the index of the last appended record.
    pub fn last_index(&self) -> u64 {
        self.log.appended()
    }

    /// Returns the index of the last committed record, which is the last that readers see.
    pub fn committed_index(&self) -> u64 {
        self.log.publisher.load().committed()
    }

    /// Returns the index of the last durable record, which is the last that survives a power loss.
    pub fn durable_index(&self) -> u64 {
        self.log.group_commit.durable_index()
    }

    /// Returns `true` if the journal has no records.
    pub fn is_empty(&self) -> bool {
        self.last_index() < self.first_index()
    }

    /// Returns the format of the file.
    pub fn format(&self) -> Format {
        self.log.format
    }

    /// Returns the absolute path of the file. Links in it are not resolved.
    pub fn path(&self) -> &Path {
        self.log.file.path()
    }

    /// Commits everything appended: writes it to the file, so that readers see it. This does not make it durable.
    ///
    /// # Errors
    /// * [`Error::Io`] if a write is refused. Under [`SyncPolicy::Always`] the staged records are dropped and their appends
    ///   fail; under the other policies they stay staged, and the next flush tries again.
    /// * [`Error::Poisoned`] after a failed sync.
    /// * [`Error::Forked`] in a child of the process that opened the journal.
    pub fn flush(&self) -> Result<()> {
        self.log.flush()
    }

    /// Makes everything durable that was appended before the call, except for what a truncation removes meanwhile.
    ///
    /// # Errors
    /// As [`flush`](Self::flush), also if a failed flush of another thread drops the last record. If the sync itself fails the
    /// journal is poisoned: nothing is acknowledged any more, and what was not durable may be lost.
    pub fn sync(&self) -> Result<()> {
        self.log.sync()
    }

    /// Waits until record `n` is durable, and syncs for it if necessary, under every policy. Returns at once for 0 and for
    /// records removed from the front.
    ///
    /// # Errors
    /// As [`sync`](Self::sync), and [`Error::OutOfRange`] if `n` was not appended or a truncation removes it meanwhile.
    pub fn wait_durable(&self, n: u64) -> Result<()> {
        self.log.wait_durable(n)
    }

    /// Removes the records after `n`, durably: no crash brings them back. 0 removes all records, and the journal begins at 1
    /// again.
    ///
    /// A truncation waits for no reader: removed records that readers, snapshots and [`RecordRef`]s still hold keep their bytes,
    /// at the cost of a copy of those pages for as long as they are held. Appends go on while pages are copied, except for
    /// those committed meanwhile, and wait for the rest of the truncation, which syncs up to five times.
    ///
    /// Of the records that are appended but not committed, only those up to `n` are written, so a full disk does not prevent the
    /// removal of the others. An append that waits for one of the others returns its index all the same: the record was
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
    /// * [`Error::OutOfRange`] if `n` is below `first_index() - 1` (except for 0) or past the end.
    /// * [`Error::ReadersActive`] if more than [`Options::preserve_limit`] would have to be copied, or a copy fails; nothing
    ///   has changed.
    /// * [`Error::Io`] if the system refuses an operation; nothing has changed. But if record `n` is not committed and cannot
    ///   be written, the staged records are dropped under [`SyncPolicy::Always`], as by [`flush`](Self::flush).
    /// * [`Error::Poisoned`] if the truncation fails where it can neither be finished nor taken back.
    /// * [`Error::Forked`] in a child of the process that opened the journal.
    pub fn truncate_back(&self, n: u64) -> Result<()> {
        self.log.truncate_back(n)
    }

    /// Returns what was found, and done, when the journal was opened.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// Returns figures of this journal since it was opened.
    pub fn stats(&self) -> Stats {
        self.log.stats()
    }

    /// Makes everything durable, marks the end of the file, and releases the lock. If a [`Reader`], [`Snapshot`],
    /// [`RecordRef`] or [`Follow`] of this journal is alive, the file stays locked until the last of them is dropped, whether
    /// or not it holds a view; a `Follow` only until it has returned its end.
    ///
    /// Without room for the mark the journal is closed all the same: its records are durable, but the last of them are less
    /// protected against being taken for a torn tail if they are damaged later.
    ///
    /// When this returns, the background thread has ended, and every follower and waiting reader was woken.
    ///
    /// # Errors
    /// As [`sync`](Self::sync). This is the only call that can lose staged records: those after
    /// [`committed_index`](Self::committed_index) are lost if they cannot be written.
    pub fn close(mut self) -> Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        // A fork does not copy the background thread, so a child must not wait for it.
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
            // A caller that needs the result calls `close`.
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

    /// A change that makes a wait pointless can come between the look and the registration, so both see it.
    #[test]
    fn a_waiter_looks_again_if_something_changed_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new();
        let journal = options.sync_policy(SyncPolicy::OnDemand).open(dir.path().join("journal")).unwrap();
        let generation = || Arc::clone(journal.log.publisher.load().generation());
        let waits = |n, until| journal.log.must_wait(n, until, &generation(), MayBlock::OnSync);
        assert!(waits(1, WaitUntil::Committed) && waits(1, WaitUntil::Durable));
        journal.append(b"staged").unwrap();
        assert!(!waits(1, WaitUntil::Committed), "the waiter has to flush");
        assert!(waits(1, WaitUntil::Durable), "a durable waiter does not flush");
        journal.flush().unwrap();
        assert!(!waits(1, WaitUntil::Committed));
        assert!(waits(2, WaitUntil::Committed) && waits(1, WaitUntil::Durable));
        journal.sync().unwrap();
        assert!(!waits(1, WaitUntil::Durable));
        assert!(waits(2, WaitUntil::Durable));
        let before = generation();
        journal.truncate_back(0).unwrap();
        for until in [WaitUntil::Committed, WaitUntil::Durable] {
            assert!(
                !journal.log.must_wait(1, until, &before, MayBlock::OnSync),
                "the waiter is to be told of the cut"
            );
            assert!(waits(1, until));
        }
        journal.log.set_closed();
        assert!(!waits(1, WaitUntil::Committed) && !waits(1, WaitUntil::Durable));
    }
}
