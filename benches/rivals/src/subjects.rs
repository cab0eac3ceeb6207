//! The contenders, each behind the same few calls. What one of them cannot do is said, never imitated.

mod commitlog;
mod lmdb;
mod nano_wal;
mod okaywal;
mod raft_engine;
mod redb;
mod wally;
mod walrus;
mod write_call;

use std::error::Error;
use std::path::Path;

use crate::measure::Measured;
use crate::work::{Scale, Work};

pub(crate) type Fallible<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// When a record must have reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// When the journal is closed.
    OnClose,
    /// When its append returns.
    EachAppend,
}

/// What a reader of the results must know of a contender.
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    /// The crate whose version `Cargo.lock` tells; `None` for what is written here.
    pub(crate) package: Option<&'static str>,
    /// How it is used: its fastest honest setting.
    pub(crate) settings: &'static str,
    /// What it does less than others, or otherwise, in general.
    pub(crate) less: &'static [&'static str],
    /// Why it cannot tell, when opened again, which records there are.
    pub(crate) forgets: Option<&'static str>,
    /// A scan consumes what it shows.
    pub(crate) reads_once: bool,
}

/// A contender. Records are numbered from 1, in the order of their appends.
pub(crate) trait Subject: Sized + Sync {
    const PROFILE: Profile;

    type Reader<'a>: Reader
    where
        Self: 'a;

    /// Why it cannot do `work`; `None` if it can.
    fn lacks(_work: Work) -> Option<&'static str> {
        None
    }

    /// What it does less than others where it does `work`, and what its figure must be read with.
    fn less(_work: Work) -> Option<&'static str> {
        None
    }

    /// Opens what is in `dir`, or makes it.
    fn open(dir: &Path, durability: Durability) -> Fallible<Self>;

    /// Appends one record. `lane` is the number of the appending thread, for those that keep threads apart.
    fn append(&self, lane: usize, payload: &[u8]) -> Fallible;

    /// Appends records that are there together or not at all, or the nearest that there is.
    fn append_batch(&self, payloads: &[&[u8]]) -> Fallible;

    /// Appends many records at once, outside of any measurement.
    fn fill(&self, payloads: &[&[u8]]) -> Fallible {
        self.append_batch(payloads)
    }

    /// Lets readers see what was appended.
    fn flush(&self) -> Fallible {
        Ok(())
    }

    /// Reads records by their number, one thread each.
    fn reader(&self) -> Fallible<Self::Reader<'_>>;

    /// Shows every record, forward.
    fn scan(&self, see: impl FnMut(&[u8])) -> Fallible;

    /// Makes everything durable and lets go of the files.
    fn close(self) -> Fallible;
}

pub(crate) trait Reader {
    /// Shows record `n`.
    fn read<T>(&mut self, n: u64, see: impl FnOnce(&[u8]) -> T) -> Fallible<T>;
}

/// The reader of those that cannot read by number.
pub(crate) enum NoReader {}

impl Reader for NoReader {
    fn read<T>(&mut self, _n: u64, _see: impl FnOnce(&[u8]) -> T) -> Fallible<T> {
        match *self {}
    }
}

/// One contender, with its type taken away.
pub(crate) struct Contender {
    pub(crate) profile: Profile,
    pub(crate) lacks: fn(Work) -> Option<&'static str>,
    pub(crate) less: fn(Work) -> Option<&'static str>,
    pub(crate) measure: fn(Work, &Path, &Scale) -> Fallible<Measured>,
    pub(crate) prepare: fn(&Path, &Scale) -> Fallible,
}

const fn contender<S: Subject>() -> Contender {
    Contender {
        profile: S::PROFILE,
        lacks: S::lacks,
        less: S::less,
        measure: crate::measure::measure::<S>,
        prepare: crate::measure::prepare::<S>,
    }
}

/// All of them, in the order in which tables show them.
pub(crate) static CONTENDERS: [Contender; 9] = [
    contender::<wally::Wally>(),
    contender::<write_call::WriteCall>(),
    contender::<okaywal::Okaywal>(),
    contender::<raft_engine::RaftEngine>(),
    contender::<lmdb::Lmdb>(),
    contender::<redb::Redb>(),
    contender::<commitlog::Commitlog>(),
    contender::<nano_wal::NanoWal>(),
    contender::<walrus::Walrus>(),
];
