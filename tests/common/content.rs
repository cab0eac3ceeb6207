//! Payloads that name their record, so that every byte that was ever lent can be checked; and checks of a whole journal
//! against what it should hold.

use std::path::Path;

use wally::{Error, Journal, Options, Snapshot};

use super::rng::Rng;

/// What a payload begins with: generation, index and seed.
const HEAD: usize = 24;

fn seed(generation: u64, index: u64, len: usize) -> u64 {
    Rng::new(generation).next() ^ Rng::new(!index).next().rotate_left(17) ^ (len as u64) << 40
}

/// A payload of `len` bytes for record `index`. One that is too short to name its generation does not depend on it.
pub fn payload(generation: u64, index: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    let seed = if len < HEAD { seed(0, index, len) } else { seed(generation, index, len) };
    if len >= HEAD {
        [generation, index, seed].iter().for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()));
    }
    let mut rng = Rng::new(seed);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Checks every byte of what was lent as record `index`; returns the generation that it names, if it is long enough.
#[track_caller]
pub fn check(index: u64, bytes: &[u8]) -> Option<u64> {
    let generation =
        bytes.first_chunk().map(|first| u64::from_le_bytes(*first)).filter(|_| bytes.len() >= HEAD);
    let expected = payload(generation.unwrap_or(0), index, bytes.len());
    if bytes != expected {
        let at = bytes.iter().zip(&expected).position(|(a, b)| a != b);
        panic!("record {index} of {} bytes (generation {generation:?}) is wrong at byte {at:?}", bytes.len());
    }
    generation
}

/// Checks that `snapshot` holds exactly `expected`, read from both ends and one by one.
#[track_caller]
pub fn assert_snapshot_holds(snapshot: &Snapshot, expected: &[Vec<u8>]) {
    assert_eq!((snapshot.first_index(), snapshot.last_index()), (1, expected.len() as u64));
    assert_eq!((snapshot.len(), snapshot.is_empty()), (expected.len() as u64, expected.is_empty()));
    let indexed = || (1..).zip(expected.iter().map(|payload| &payload[..]));
    assert!(snapshot.iter().eq(indexed()), "forwards");
    let mut backwards: Vec<_> = snapshot.iter().rev().collect();
    backwards.reverse();
    assert!(backwards.into_iter().eq(indexed()), "backwards");
    assert!(indexed().all(|(n, payload)| snapshot.get(n) == Some(payload)), "one by one");
    assert_eq!((snapshot.get(0), snapshot.get(expected.len() as u64 + 1)), (None, None));
}

/// Checks that `journal` holds exactly `expected`, read in every way that there is.
#[track_caller]
pub fn assert_holds(journal: &Journal, expected: &[Vec<u8>]) {
    let last = expected.len() as u64;
    assert_eq!((journal.first_index(), journal.last_index()), (1, last));
    assert_eq!(journal.is_empty(), expected.is_empty());
    let mut buf = Vec::new();
    for (n, payload) in (1..).zip(expected) {
        assert!(journal.read(n).unwrap() == *payload, "read({n})");
        journal.read_into(n, &mut buf).unwrap();
        assert!(buf == *payload, "read_into({n})");
        let record = journal.read_ref(n).unwrap();
        record.verify().unwrap();
        assert!(record[..] == payload[..] && record.index() == n, "read_ref({n})");
        let lies = journal.data_range(n).unwrap();
        assert_eq!(lies.end - lies.start, payload.len() as u64);
    }
    for n in [0, last + 1, u64::MAX] {
        let error = journal.read(n).unwrap_err();
        assert!(
            matches!(error, Error::OutOfRange { index, first: 1, last: l, .. } if index == n && l == last),
            "{error}"
        );
    }
    journal.flush().unwrap();
    assert_eq!(journal.committed_index(), last);
    let mut reader = journal.reader();
    assert_eq!((reader.first_index(), reader.last_index()), (1, last));
    for (n, payload) in (1..).zip(expected) {
        assert!(reader.get(n) == Some(&payload[..]), "Reader::get({n})");
    }
    assert_eq!(reader.get(0), None);
    assert_eq!(reader.get(last + 1), None);
    assert_snapshot_holds(&journal.snapshot(), expected);
}

/// Returns all records of `journal`, read with their checksums checked.
pub fn all(journal: &Journal) -> Vec<Vec<u8>> {
    (journal.first_index()..=journal.last_index()).map(|n| journal.read(n).unwrap()).collect()
}

/// Returns what a journal holds whose file is the one at `path` as it is now: as after a crash of the process.
pub fn found_in_copy(options: &Options, path: &Path) -> Vec<Vec<u8>> {
    let dir = super::fast_dir();
    let copy = dir.path().join("copy");
    std::fs::copy(path, &copy).unwrap();
    let journal = options.open(&copy).unwrap();
    all(&journal)
}
