//! okaywal: a log that is checkpointed into something else. Used here without checkpoints, so that it keeps what it
//! was given.

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Durability, Fallible, Profile, Reader, Subject};
use crate::work::Work;
use okaywal::{
    Configuration, Entry, EntryId, LogManager, LogPosition, ReadChunkResult, SegmentReader, WriteAheadLog,
};

pub(crate) struct Okaywal {
    log: WriteAheadLog,
    positions: Positions,
}

/// Where each record lies: okaywal reads by position, whoever uses it keeps them.
#[derive(Debug, Clone, Default)]
struct Positions(Arc<Mutex<Vec<LogPosition>>>);

impl Positions {
    fn push(&self, position: LogPosition) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(position);
    }

    fn all(&self) -> Vec<LogPosition> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Subject for Okaywal {
    const PROFILE: Profile = Profile {
        name: "okaywal",
        package: Some("okaywal"),
        settings: "an entry of one chunk a record, committed by its own group commit; no checkpoints, which would \
                   drop the records. Where each append is synced, 32 MiB written ahead before the clock starts. \
                   Opening checks each CRC-32C and collects positions",
        less: &[
            "reads by position, which its user must keep (here: a list in memory), and opens the file for each read",
            "a failed sync leaves a flag set, and later commits wait for ever",
        ],
        forgets: None,
        reads_once: false,
    };

    type Reader<'a> = PositionReader<'a>;

    fn lacks(work: Work) -> Option<&'static str> {
        match work {
            Work::Append { .. } | Work::AppendLong | Work::Batch => Some("every commit syncs"),
            Work::FanOut { .. } => Some("no append without a sync, so no writer runs flat out"),
            Work::Scan => Some("records are walked only while it is opened"),
            Work::Durable { .. } | Work::Read { .. } | Work::Reopen => None,
        }
    }

    fn open(dir: &Path, durability: Durability) -> Fallible<Self> {
        let positions = Positions::default();
        let config = Configuration::default_for(dir).checkpoint_after_bytes(u64::MAX);
        let config = match durability {
            Durability::OnClose => config,
            Durability::EachAppend => config.preallocate_bytes(32 << 20),
        };
        Ok(Self { log: config.open(Collector(positions.clone()))?, positions })
    }

    fn append(&self, _lane: usize, payload: &[u8]) -> Fallible {
        self.append_batch(&[payload])
    }

    fn append_batch(&self, payloads: &[&[u8]]) -> Fallible {
        let mut entry = self.log.begin_entry()?;
        let mut written = Vec::with_capacity(payloads.len());
        for payload in payloads {
            written.push(entry.write_chunk(payload)?.position);
        }
        entry.commit()?;
        for position in written {
            self.positions.push(position);
        }
        Ok(())
    }

    fn reader(&self) -> Fallible<PositionReader<'_>> {
        Ok(PositionReader { log: &self.log, positions: self.positions.all(), buffer: Vec::new() })
    }

    /// To check what was written, not to be measured.
    fn scan(&self, mut see: impl FnMut(&[u8])) -> Fallible {
        let mut reader = self.reader()?;
        for n in 1..=reader.positions.len() as u64 {
            reader.read(n, &mut see)?;
        }
        Ok(())
    }

    fn close(self) -> Fallible {
        Ok(self.log.shutdown()?)
    }
}

/// Is shown every record while the log is opened.
#[derive(Debug)]
struct Collector(Positions);

impl LogManager for Collector {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        let mut payload = Vec::new();
        while let ReadChunkResult::Chunk(mut chunk) = entry.read_chunk()? {
            payload.clear();
            chunk.read_to_end(&mut payload)?;
            if !chunk.check_crc()? {
                return Err(io::Error::other("a record that is not what its CRC says"));
            }
            self.0.push(chunk.log_position());
        }
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
        Err(io::Error::other("a checkpoint, though none was asked for"))
    }
}

pub(crate) struct PositionReader<'a> {
    log: &'a WriteAheadLog,
    positions: Vec<LogPosition>,
    buffer: Vec<u8>,
}

impl Reader for PositionReader<'_> {
    fn read<T>(&mut self, n: u64, see: impl FnOnce(&[u8]) -> T) -> Fallible<T> {
        let position = self.positions.get(n as usize - 1).ok_or("no such record")?;
        let mut chunk = self.log.read_at(*position)?;
        self.buffer.clear();
        chunk.read_to_end(&mut self.buffer)?;
        if !chunk.crc_is_valid()? {
            return Err("a record that is not what its CRC says".into());
        }
        Ok(see(&self.buffer))
    }
}
