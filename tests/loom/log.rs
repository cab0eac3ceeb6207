//! What `src/log.rs`, `src/locked.rs` and `src/writer.rs` do for those who wait, without a file, over the writer of the
//! models and the real `watch.rs`.

use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::group_commit::{Commit, Watermark};
use crate::journal;
use crate::options::IndexMode;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};
use crate::view::View;
use crate::view::generation::Generation;
use crate::view::publish::Publisher;
use crate::write::notify::{Asked, Until, Watch};

/// What the append lock protects.
struct Writer {
    writer: journal::Writer,
    asked: Asked,
    asked_at: u64,
    flushes: u64,
}

pub(crate) struct Log {
    writer: Mutex<Writer>,
    pub(crate) publisher: Publisher<View>,
    pub(crate) watch: Watch,
    pub(crate) commit: Commit,
    appended: AtomicU64,
    closed: AtomicBool,
    /// Flushes fail.
    full: bool,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    pub(crate) fn new() -> Arc<Self> {
        Self::on_a_disk(false)
    }

    pub(crate) fn on_a_disk(full: bool) -> Arc<Self> {
        let writer = journal::Writer::new(IndexMode::Full);
        let publisher = writer.publisher.clone();
        Arc::new(Self {
            writer: Mutex::new(Writer { writer, asked: Asked::Nothing, asked_at: 0, flushes: 0 }),
            publisher,
            watch: Watch::default(),
            commit: Commit::new(Watermark::default()),
            appended: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            full,
        })
    }

    /// Gives the append lock up and rings.
    fn unlock(&self, mut writer: MutexGuard<'_, Writer>) {
        let (appended, committed) = writer.writer.lasts();
        let moved = committed != writer.asked_at;
        let news = writer.asked.news(appended > committed, moved);
        drop(writer);
        self.watch.ring(news);
    }

    pub(crate) fn append(&self, payload: u8) {
        let mut writer = self.writer.lock();
        writer.writer.stage(&[payload]);
        self.appended.store(writer.writer.lasts().0, Ordering::Release);
        self.unlock(writer);
    }

    /// Appends and commits in one, as a record does that does not fit the buffer.
    pub(crate) fn write(&self, payload: u8) {
        let mut writer = self.writer.lock();
        writer.writer.stage(&[payload]);
        self.appended.store(writer.writer.lasts().0, Ordering::Release);
        writer.writer.publish_staged();
        self.unlock(writer);
    }

    pub(crate) fn flush(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        let (appended, committed) = writer.writer.lasts();
        if appended > committed {
            if self.full {
                self.unlock(writer);
                return Err(Error::io("write", Path::new("/j"), io::Error::from_raw_os_error(28)));
            }
            writer.writer.publish_staged();
            writer.flushes += 1;
        }
        self.unlock(writer);
        Ok(())
    }

    /// Flushes, and makes durable what is committed.
    pub(crate) fn sync(&self) {
        let slot = self.commit.take();
        self.flush().unwrap();
        let writer = self.writer.lock();
        let (generation, (_, index)) = (writer.writer.generation().number(), writer.writer.lasts());
        drop(writer);
        self.commit.acknowledge(&slot, generation, Watermark { index, bytes: index });
        self.watch.durable.wake_all();
    }

    /// Keeps the records up to `n`, as a truncation does, which drops what is staged after that.
    pub(crate) fn cut(&self, n: u64) {
        let slot = self.commit.take();
        let mut writer = self.writer.lock();
        let end = Watermark { index: n, bytes: n };
        self.commit.lower(&slot, end);
        writer.asked = Asked::Nothing;
        writer.writer.cut(n);
        self.appended.store(n, Ordering::Release);
        self.commit.cut(&slot, writer.writer.generation().number(), end);
        self.unlock(writer);
        drop(slot);
        self.watch.ring_all();
    }

    pub(crate) fn close(&self) {
        self.flush().unwrap();
        let writer = self.writer.lock();
        self.closed.store(true, Ordering::Release);
        self.unlock(writer);
        self.watch.ring_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn is_staged(&self) -> bool {
        !self.is_closed() && self.appended.load(Ordering::Acquire) > self.publisher.load().committed()
    }

    pub(crate) fn ask(&self, n: u64, until: Until, generation: &Arc<Generation>) -> bool {
        let mut writer = self.writer.lock();
        let (appended, committed) = writer.writer.lasts();
        let waits = Arc::ptr_eq(writer.writer.generation(), generation)
            && !self.is_closed()
            && match until {
                Until::Committed => committed < n && appended == committed,
                Until::Durable => self.commit.durable().index < n,
            };
        if waits && until == Until::Committed && writer.asked == Asked::Nothing {
            (writer.asked, writer.asked_at) = (Asked::Append, committed);
        }
        self.unlock(writer);
        waits
    }

    /// The last appended record, for those without a lock.
    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// Commits until now.
    pub(crate) fn flushes(&self) -> u64 {
        self.writer.lock().flushes
    }
}
