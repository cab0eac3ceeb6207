//! walrus: topics in blocks of 10 MiB, each read once from front to back.

use std::path::Path;

use super::{Durability, Fallible, NoReader, Profile, Subject};
use crate::work::Work;
use walrus_rust::{FsyncSchedule, ReadConsistency, disable_fd_backend, enable_fd_backend};

const TOPIC: &str = "records";

/// What a scan reads at once.
const AT_ONCE: usize = 1 << 20;

pub(crate) struct Walrus(walrus_rust::Walrus);

impl Subject for Walrus {
    const PROFILE: Profile = Profile {
        name: "walrus",
        package: Some("walrus-rust"),
        settings: "one topic; `NoFsync` on its memory map where nothing is synced, `SyncEach` on its file descriptors \
                   (`O_SYNC`) where each append is; positions of readers are not persisted. A scan takes 1 MiB a call",
        less: &[
            "no read by number: records are consumed, once, from front to back",
            "a batch is synced whatever the schedule says",
            "the results of writes are not looked at",
            "threads do not share syncs",
        ],
        forgets: None,
        reads_once: true,
    };

    type Reader<'a> = NoReader;

    fn lacks(work: Work) -> Option<&'static str> {
        match work {
            Work::Batch => Some("a batch is synced whatever the schedule says"),
            Work::Read { .. } | Work::FanOut { .. } => Some("no read by number"),
            Work::Append { .. } | Work::AppendLong | Work::Durable { .. } | Work::Scan | Work::Reopen => None,
        }
    }

    /// It takes its folder from the environment, `WALRUS_DATA_DIR`, which the parent process sets.
    fn open(dir: &Path, durability: Durability) -> Fallible<Self> {
        if std::env::var_os("WALRUS_DATA_DIR").is_none_or(|told| told != dir) {
            return Err("WALRUS_DATA_DIR must name the folder".into());
        }
        let schedule = match durability {
            Durability::OnClose => {
                disable_fd_backend();
                FsyncSchedule::NoFsync
            }
            Durability::EachAppend => {
                enable_fd_backend();
                FsyncSchedule::SyncEach
            }
        };
        let consistency = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
        Ok(Self(walrus_rust::Walrus::with_consistency_and_schedule(consistency, schedule)?))
    }

    fn append(&self, _lane: usize, payload: &[u8]) -> Fallible {
        Ok(self.0.append_for_topic(TOPIC, payload)?)
    }

    fn append_batch(&self, payloads: &[&[u8]]) -> Fallible {
        Ok(self.0.batch_append_for_topic(TOPIC, payloads)?)
    }

    fn fill(&self, payloads: &[&[u8]]) -> Fallible {
        payloads.iter().try_for_each(|payload| self.append(0, payload))
    }

    fn reader(&self) -> Fallible<NoReader> {
        Err("no read by number".into())
    }

    /// Consumes what it shows.
    fn scan(&self, mut see: impl FnMut(&[u8])) -> Fallible {
        loop {
            let records = self.0.batch_read_for_topic(TOPIC, AT_ONCE, true)?;
            if records.is_empty() {
                return Ok(());
            }
            records.iter().for_each(|record| see(&record.data));
        }
    }

    fn close(self) -> Fallible {
        Ok(())
    }
}
