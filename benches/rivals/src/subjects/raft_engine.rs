//! raft-engine: the log of many Raft groups in one stream of files, from TiKV.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{Durability, Fallible, Profile, Reader, Subject};
use crate::work::Work;
use protobuf::descriptor::UninterpretedOption;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

/// As many threads as any work has.
const LANES: usize = 64;

pub(crate) struct RaftEngine {
    engine: Engine,
    durability: Durability,
    lanes: Vec<Mutex<Lane>>,
}

/// A Raft group, and what its one writer needs.
struct Lane {
    batch: LogBatch,
    /// The index of the group's next entry.
    next: u64,
}

/// An entry is a protobuf message with an index and bytes. This one comes with the protobuf library and has both,
/// beside as many unused fields as the entry of a Raft log has.
struct Entries;

impl MessageExt for Entries {
    type Entry = UninterpretedOption;

    fn index(entry: &UninterpretedOption) -> u64 {
        entry.get_positive_int_value()
    }
}

impl Subject for RaftEngine {
    const PROFILE: Profile = Profile {
        name: "raft-engine",
        package: Some("raft-engine"),
        settings: "no compression; a log batch an append, written through its own group commit, `sync` where each \
                   append is synced. Scanned with `fetch_entries_to`",
        less: &[
            "within a Raft group indexes must come in order, so threads that append at the same time have a group \
             each: many logs, where the others write one",
            "entries are protobuf messages, copied once more when written and read",
            "a batch is read as a whole, so what is read at random is appended one by one",
        ],
        forgets: None,
        reads_once: false,
    };

    type Reader<'a> = &'a Engine;

    fn less(work: Work) -> Option<&'static str> {
        matches!(work, Work::Durable { threads: 2.. }).then_some("a log for each thread")
    }

    fn open(dir: &Path, durability: Durability) -> Fallible<Self> {
        let config = Config {
            dir: dir.to_str().ok_or("a folder whose name is not UTF-8")?.to_owned(),
            batch_compression_threshold: ReadableSize(0),
            ..Config::default()
        };
        let engine = Engine::open(config)?;
        let lanes = (0..LANES)
            .map(|lane| {
                let next = engine.last_index(group(lane)).map_or(1, |last| last + 1);
                Mutex::new(Lane { batch: LogBatch::default(), next })
            })
            .collect();
        Ok(Self { engine, durability, lanes })
    }

    fn append(&self, lane: usize, payload: &[u8]) -> Fallible {
        self.write(lane, &[payload])
    }

    fn append_batch(&self, payloads: &[&[u8]]) -> Fallible {
        self.write(0, payloads)
    }

    fn fill(&self, payloads: &[&[u8]]) -> Fallible {
        payloads.iter().try_for_each(|payload| self.write(0, &[payload]))
    }

    fn reader(&self) -> Fallible<&Engine> {
        Ok(&self.engine)
    }

    fn scan(&self, mut see: impl FnMut(&[u8])) -> Fallible {
        const AT_ONCE: u64 = 1024;
        let mut entries = Vec::new();
        for lane in 0..LANES {
            let Some(last) = self.engine.last_index(group(lane)) else { continue };
            let mut next = 1;
            while next <= last {
                let end = (next + AT_ONCE).min(last + 1);
                entries.clear();
                self.engine.fetch_entries_to::<Entries>(group(lane), next, end, None, &mut entries)?;
                entries.iter().for_each(|entry| see(entry.get_string_value()));
                next = end;
            }
        }
        Ok(())
    }

    /// Closing the engine syncs the file that it wrote last; earlier ones were synced when it went on to the next.
    fn close(self) -> Fallible {
        drop(self.engine);
        Ok(())
    }
}

impl RaftEngine {
    fn write(&self, lane: usize, payloads: &[&[u8]]) -> Fallible {
        let mut lane_state =
            self.lanes.get(lane).ok_or("a lane too many")?.lock().unwrap_or_else(PoisonError::into_inner);
        let Lane { batch, next } = &mut *lane_state;
        let entries: Vec<UninterpretedOption> = payloads
            .iter()
            .zip(*next..)
            .map(|(payload, index)| {
                let mut entry = UninterpretedOption::new();
                entry.set_positive_int_value(index);
                entry.set_string_value(payload.to_vec());
                entry
            })
            .collect();
        batch.add_entries::<Entries>(group(lane), &entries)?;
        self.engine.write(batch, self.durability == Durability::EachAppend)?;
        *next += payloads.len() as u64;
        Ok(())
    }
}

/// Groups are numbered from 1.
fn group(lane: usize) -> u64 {
    lane as u64 + 1
}

impl Reader for &Engine {
    fn read<T>(&mut self, n: u64, see: impl FnOnce(&[u8]) -> T) -> Fallible<T> {
        let entry = self.get_entry::<Entries>(group(0), n)?.ok_or("no such record")?;
        Ok(see(entry.get_string_value()))
    }
}
