//! commitlog: segments with an index file each.

use std::path::Path;
use std::sync::{PoisonError, RwLock};

use super::{Durability, Fallible, Profile, Reader, Subject};
use crate::work::{READ_LEN, Work};
use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, ReadLimit};

/// What a message has beside its payload.
const HEADER: usize = 20;

/// What a scan reads at once.
const AT_ONCE: usize = 256 << 10;

/// The largest batch that it takes: more than any here.
const LARGEST: usize = 16 << 20;

pub(crate) struct Commitlog(RwLock<CommitLog>);

impl Subject for Commitlog {
    const PROFILE: Profile = Profile {
        name: "commitlog",
        package: Some("commitlog"),
        settings: "its defaults, but for a limit on batches; one `write(2)` an append or batch, one `pread` a read, which checks its CRC-32C. A \
                   scan reads 256 KiB at once",
        less: &[
            "nothing is ever synced: its flush does not reach `fsync`",
            "not made to be shared between threads: a reader-writer lock is put around it",
            "opening looks at the index only, at no record",
            "a batch is not atomic",
        ],
        forgets: None,
        reads_once: false,
    };

    type Reader<'a> = LockReader<'a>;

    fn lacks(work: Work) -> Option<&'static str> {
        matches!(work, Work::Durable { .. }).then_some("nothing is ever synced")
    }

    fn less(work: Work) -> Option<&'static str> {
        match work {
            Work::Batch => Some("the batch is not atomic"),
            Work::Reopen => Some("looks at no record"),
            _ => None,
        }
    }

    fn open(dir: &Path, _durability: Durability) -> Fallible<Self> {
        let mut options = LogOptions::new(dir);
        options.message_max_bytes(LARGEST);
        Ok(Self(RwLock::new(CommitLog::new(options)?)))
    }

    fn append(&self, _lane: usize, payload: &[u8]) -> Fallible {
        let mut log = self.0.write().unwrap_or_else(PoisonError::into_inner);
        log.append_msg(payload).map_err(|error| format!("append: {error}"))?;
        Ok(())
    }

    fn append_batch(&self, payloads: &[&[u8]]) -> Fallible {
        let mut messages: MessageBuf = payloads.iter().collect();
        let mut log = self.0.write().unwrap_or_else(PoisonError::into_inner);
        log.append(&mut messages).map_err(|error| format!("append: {error}"))?;
        Ok(())
    }

    fn reader(&self) -> Fallible<LockReader<'_>> {
        Ok(LockReader(&self.0))
    }

    fn scan(&self, mut see: impl FnMut(&[u8])) -> Fallible {
        let log = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut next = 0;
        loop {
            let messages = read(&log, next, AT_ONCE)?;
            if messages.is_empty() {
                return Ok(());
            }
            messages.iter().for_each(|message| see(message.payload()));
            next += messages.len() as u64;
        }
    }

    fn close(self) -> Fallible {
        Ok(self.0.into_inner().unwrap_or_else(PoisonError::into_inner).flush()?)
    }
}

/// The messages from `offset` on that fit into `bytes`.
fn read(log: &CommitLog, offset: u64, bytes: usize) -> Fallible<MessageBuf> {
    log.read(offset, ReadLimit::max_bytes(bytes)).map_err(|error| format!("read: {error}").into())
}

pub(crate) struct LockReader<'a>(&'a RwLock<CommitLog>);

impl Reader for LockReader<'_> {
    fn read<T>(&mut self, n: u64, see: impl FnOnce(&[u8]) -> T) -> Fallible<T> {
        let log = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // Room for this record and no other, all that are read are of this length; and one byte more, without which it
        // does not find the last one.
        let messages = read(&log, n - 1, HEADER + READ_LEN + 1)?;
        let record = messages.iter().next().ok_or("no such record")?;
        Ok(see(record.payload()))
    }
}
