//! That the checks notice it when a contender gives back something else than it was given.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::*;
use crate::subjects::Profile;
use crate::work;

const NONE: u8 = 0;
const LOSES_THE_LAST: u8 = 1;
const CHANGES_ONE: u8 = 2;
const SWAPS_TWO: u8 = 3;
const SHOWS_ONE_TWICE: u8 = 4;
const READS_THE_NEXT: u8 = 5;

/// Keeps records in memory under the name of its folder, and has one of the faults above.
struct Faulty<const FAULT: u8>(PathBuf);

static JOURNALS: LazyLock<Mutex<HashMap<PathBuf, Vec<Vec<u8>>>>> = LazyLock::new(Mutex::default);

impl<const FAULT: u8> Faulty<FAULT> {
    fn records<T>(&self, use_them: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
        let mut journals = JOURNALS.lock().unwrap_or_else(PoisonError::into_inner);
        use_them(journals.entry(self.0.clone()).or_default())
    }
}

impl<const FAULT: u8> Subject for Faulty<FAULT> {
    const PROFILE: Profile =
        Profile { name: "faulty", package: None, settings: "", less: &[], forgets: None, reads_once: false };

    type Reader<'a> = &'a Self;

    fn open(dir: &Path, _durability: Durability) -> Fallible<Self> {
        Ok(Self(dir.to_owned()))
    }

    fn append(&self, _lane: usize, payload: &[u8]) -> Fallible {
        self.records(|records| records.push(payload.to_vec()));
        Ok(())
    }

    fn append_batch(&self, payloads: &[&[u8]]) -> Fallible {
        payloads.iter().try_for_each(|payload| self.append(0, payload))
    }

    fn reader(&self) -> Fallible<&Self> {
        Ok(self)
    }

    fn scan(&self, mut see: impl FnMut(&[u8])) -> Fallible {
        let mut records = self.records(|records| records.clone());
        let last = records.len() - 1;
        match FAULT {
            LOSES_THE_LAST => drop(records.pop()),
            CHANGES_ONE => *records[last / 2].last_mut().expect("a byte") ^= 1,
            SWAPS_TWO => records.swap(last, last - 1),
            SHOWS_ONE_TWICE => records.push(records[last].clone()),
            _ => {}
        }
        records.iter().for_each(|record| see(record));
        Ok(())
    }

    fn close(self) -> Fallible {
        Ok(())
    }
}

impl<const FAULT: u8> Reader for &Faulty<FAULT> {
    fn read<T>(&mut self, n: u64, see: impl FnOnce(&[u8]) -> T) -> Fallible<T> {
        let at = if FAULT == READS_THE_NEXT { n as usize % 8 } else { n as usize - 1 };
        self.records(|records| records.get(at).map(|record| see(record)))
            .ok_or_else(|| "no such record".into())
    }
}

/// Small enough that memory holds it.
fn scale() -> Scale {
    Scale {
        time: Duration::from_millis(1),
        durable_time: Duration::from_millis(1),
        burst_bytes: 64 << 10,
        long_mib: 1,
        long_time: Duration::from_millis(1),
        records: 64,
        reopen_mib: 1,
    }
}

fn measured<const FAULT: u8>(work: Work) -> Fallible<Measured> {
    let dir = PathBuf::from(format!("{work} {FAULT}"));
    if work == Work::Reopen {
        prepare::<Faulty<FAULT>>(&dir, &scale())?;
    }
    measure::<Faulty<FAULT>>(work, &dir, &scale())
}

#[test]
fn every_work_is_done_by_one_without_a_fault() {
    for work in work::all() {
        let measured = measured::<NONE>(work).unwrap_or_else(|error| panic!("{work}: {error}"));
        assert!(measured.records > 0, "{work}");
    }
}

#[test]
fn no_work_is_measured_when_records_are_lost_changed_swapped_or_shown_twice() {
    for work in work::all() {
        // Reading by number has the check below.
        if matches!(work, Work::Read { .. } | Work::FanOut { .. }) {
            continue;
        }
        assert!(measured::<LOSES_THE_LAST>(work).is_err(), "{work}");
        assert!(measured::<CHANGES_ONE>(work).is_err(), "{work}");
        assert!(measured::<SHOWS_ONE_TWICE>(work).is_err(), "{work}");
        // The records of many threads come in any order, each thread's in its own.
        if !matches!(work, Work::Durable { threads: 2.. }) {
            assert!(measured::<SWAPS_TWO>(work).is_err(), "{work}");
        }
    }
}

#[test]
fn no_read_is_measured_when_another_record_comes() {
    for work in work::all() {
        if matches!(work, Work::Read { .. } | Work::FanOut { .. }) {
            assert!(measured::<READS_THE_NEXT>(work).is_err(), "{work}");
        }
    }
}
