//! The journal of this repository, through its public API.

use std::path::Path;

use super::{Durability, Fallible, Profile, Reader, Subject};
use crate::work::Work;
use wally::{Journal, Options, SyncPolicy};

pub(crate) struct Wally(Journal);

impl Subject for Wally {
    const PROFILE: Profile = Profile {
        name: "wally",
        package: Some("wally-journal"),
        settings: "the defaults; `SyncPolicy::OnDemand` where nothing is synced, `Always` where each append is. \
                   Read through a `Reader` a thread, scanned through a `Snapshot`",
        less: &[
            "more, not less: where nothing is synced it syncs by itself once 64 MiB went by, so that a damaged place \
             can be told from a torn tail; what is appended on end shows what that costs",
            "an append that is not synced goes to a buffer of 256 KiB in the process and is lost with the process, \
             not only with the power, until the buffer is full or flushed; the flush at the end is within the time",
            "a `Reader` lends the bytes from the map and does not look at their checksum; it was checked when the \
             journal was opened",
        ],
        forgets: None,
        reads_once: false,
    };

    type Reader<'a> = wally::Reader;

    fn less(work: Work) -> Option<&'static str> {
        match work {
            Work::Append { .. } | Work::AppendLong => {
                Some("staged in the process, 256 KiB at most, and lost with it")
            }
            Work::Read { .. } | Work::FanOut { .. } | Work::Scan => Some("does not look at the checksum"),
            Work::Batch | Work::Durable { .. } | Work::Reopen => None,
        }
    }

    fn open(dir: &Path, durability: Durability) -> Fallible<Self> {
        let policy = match durability {
            Durability::OnClose => SyncPolicy::OnDemand,
            Durability::EachAppend => SyncPolicy::Always,
        };
        Ok(Self(Options::new().sync_policy(policy).open(dir.join("journal.wally"))?))
    }

    fn append(&self, _lane: usize, payload: &[u8]) -> Fallible {
        self.0.append(payload)?;
        Ok(())
    }

    fn append_batch(&self, payloads: &[&[u8]]) -> Fallible {
        self.0.append_batch(payloads)?;
        Ok(())
    }

    fn flush(&self) -> Fallible {
        Ok(self.0.flush()?)
    }

    fn reader(&self) -> Fallible<wally::Reader> {
        Ok(self.0.reader())
    }

    fn scan(&self, mut see: impl FnMut(&[u8])) -> Fallible {
        for (_, record) in &self.0.snapshot() {
            see(record);
        }
        Ok(())
    }

    fn close(self) -> Fallible {
        Ok(self.0.close()?)
    }
}

impl Reader for wally::Reader {
    fn read<T>(&mut self, n: u64, see: impl FnOnce(&[u8]) -> T) -> Fallible<T> {
        self.get(n).map(see).ok_or_else(|| "no such record".into())
    }
}
