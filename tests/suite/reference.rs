//! Journals that the reference implementation wrote: read back record for record, left as they are when nothing is
//! appended, continued in their own format, and written again byte for byte.
//!
//! `fixtures/NAME.wally` is such a journal, `fixtures/NAME.tsv` lists what it holds: index, payload length,
//! CRC-32/IEEE and SHA-256 of the payload.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::built::Built;
use sha2::{Digest, Sha256};
use wally::{Format, IndexMode, Options, State, SyncPolicy, Walk};

/// Every fixture that has records.
const NAMES: [&str; 6] =
    ["one", "zero-length", "mixed-300", "big-record", "truncated-then-appended", "cleared-then-appended"];

const MODES: [IndexMode; 4] =
    [IndexMode::Full, IndexMode::Sparse(7), IndexMode::Sparse(4096), IndexMode::Scan];

/// A fixture: its bytes, what it should hold, and a copy that may be changed.
struct Fixture {
    bytes: Vec<u8>,
    listed: Vec<Listed>,
    path: PathBuf,
    folder: tempfile::TempDir,
}

/// A line of the list.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    index: u64,
    len: u64,
    crc: String,
    sha256: String,
}

impl Fixture {
    fn new(name: &str) -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("fixtures");
        let bytes = fs::read(fixtures.join(format!("{name}.wally"))).expect("the fixture");
        let list = fs::read_to_string(fixtures.join(format!("{name}.tsv"))).expect("the fixture's list");
        let listed = list.lines().map(Listed::parse).collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("copy.wally");
        fs::write(&path, &bytes).expect("the copy");
        Self { bytes, listed, path, folder }
    }

    fn options() -> Options {
        let mut options = Options::new();
        options.sync_policy(SyncPolicy::OnDemand);
        options
    }

    /// The payloads, cut out of the file by the lengths in the list.
    fn payloads(&self) -> Vec<&[u8]> {
        let mut at = 0;
        let payloads = self.listed.iter().map(|listed| {
            let payload = &self.bytes[at + 16..at + 16 + listed.len as usize];
            at += 16 + payload.len();
            payload
        });
        let payloads = payloads.collect();
        assert_eq!(at, self.bytes.len());
        payloads
    }

    #[track_caller]
    fn is_untouched(&self) {
        assert!(fs::read(&self.path).expect("the copy") == self.bytes, "the file has changed");
        let files = fs::read_dir(self.folder.path()).expect("the folder").count();
        assert_eq!(files, 1, "something was put beside the file");
    }
}

impl Listed {
    fn parse(line: &str) -> Self {
        let fields: Vec<_> = line.split('\t').collect();
        let [index, len, crc, sha256] = fields[..] else { panic!("four fields, not {line:?}") };
        Self {
            index: index.parse().expect("an index"),
            len: len.parse().expect("a length"),
            crc: crc.to_owned(),
            sha256: sha256.to_owned(),
        }
    }

    fn of(index: u64, payload: &[u8]) -> Self {
        let sha256 = Sha256::digest(payload).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { index, len: payload.len() as u64, crc: format!("{:08x}", crc32fast::hash(payload)), sha256 }
    }
}

#[test]
fn every_record_reads_back_in_every_index_mode() {
    for name in NAMES {
        let fixture = Fixture::new(name);
        for mode in MODES {
            let journal = Fixture::options().index(mode).open(&fixture.path).expect(name);
            assert_eq!(journal.format(), Format::Reference);
            assert_eq!(journal.first_index(), 1);
            assert_eq!(journal.last_index(), fixture.listed.len() as u64, "{name}");
            assert_eq!(journal.durable_index(), journal.last_index(), "{name}");
            let snapshot = journal.snapshot();
            let mut reader = journal.reader();
            let mut buffer = Vec::new();
            // Backwards first, so that no way of reading profits from where it was.
            for listed in fixture.listed.iter().rev().chain(&fixture.listed) {
                let n = listed.index;
                assert_eq!(Listed::of(n, &journal.read(n).expect("a record")), *listed, "{name} {mode:?}");
                journal.read_into(n, &mut buffer).expect("a record");
                assert_eq!(Listed::of(n, &buffer), *listed, "{name} {mode:?}");
                let record = journal.read_ref(n).expect("a record");
                record.verify().expect("the checksum");
                assert_eq!(Listed::of(record.index(), &record), *listed, "{name} {mode:?}");
                assert_eq!(Listed::of(n, reader.get(n).expect("a record")), *listed, "{name} {mode:?}");
                assert_eq!(Listed::of(n, snapshot.get(n).expect("a record")), *listed, "{name} {mode:?}");
            }
            let scanned: Vec<_> = snapshot.iter().map(|(n, payload)| Listed::of(n, payload)).collect();
            assert_eq!(scanned, fixture.listed, "{name} {mode:?}");
            drop((reader, snapshot));
            journal.close().expect("a clean end");
        }
        fixture.is_untouched();
    }
}

#[test]
fn a_walk_finds_the_same_records_and_touches_nothing() {
    for name in NAMES {
        let fixture = Fixture::new(name);
        let mut end = 0;
        let mut walked = Vec::new();
        for entry in Walk::open(&fixture.path).expect(name) {
            let entry = entry.expect(name);
            assert_eq!(entry.offset, end, "{name}");
            assert_eq!(entry.crc, crc32fast::hash(&entry.payload));
            end += 16 + entry.payload.len() as u64;
            walked.push(Listed::of(entry.index, &entry.payload));
        }
        assert_eq!(walked, fixture.listed, "{name}");
        let inspection = Walk::inspect(&fixture.path).expect(name);
        assert_eq!(inspection.format, Some(Format::Reference), "{name}");
        assert_eq!(inspection.state, State::Clean, "{name}");
        assert_eq!(inspection.records, fixture.listed.len() as u64, "{name}");
        assert_eq!(inspection.good_bytes, fixture.bytes.len() as u64, "{name}");
        fixture.is_untouched();
    }
}

#[test]
fn opening_and_closing_changes_no_byte_whatever_the_options_say() {
    for name in NAMES {
        let fixture = Fixture::new(name);
        for policy in [SyncPolicy::Always, SyncPolicy::OnDemand] {
            for format in [Format::Sealed, Format::Reference] {
                let mut options = Options::new();
                let journal = options
                    .sync_policy(policy)
                    .new_file_format(format)
                    .quarantine(true)
                    .open(&fixture.path)
                    .expect(name);
                assert_eq!(journal.format(), Format::Reference);
                journal.close().expect("a clean end");
                fixture.is_untouched();
            }
        }
        // Dropped instead of closed.
        drop(Fixture::options().open(&fixture.path).expect(name));
        fixture.is_untouched();
    }
}

#[test]
fn an_append_continues_in_the_reference_format() {
    for name in NAMES {
        let fixture = Fixture::new(name);
        let journal = Fixture::options().new_file_format(Format::Sealed).open(&fixture.path).expect(name);
        let next = fixture.listed.len() as u64 + 1;
        assert_eq!(journal.append(b"appended").expect("an append"), next);
        assert_eq!(journal.append_batch([b"x", b"y"]).expect("a batch"), next + 1..=next + 2);
        journal.close().expect("a clean end");

        let expected = Built(fixture.bytes.clone()).reference(b"appended").reference(b"x").reference(b"y");
        assert!(fs::read(&fixture.path).expect("the file") == expected.0, "{name}");

        let journal = Fixture::options().open(&fixture.path).expect(name);
        assert_eq!(journal.last_index(), next + 2);
        assert_eq!(journal.read(next).expect("a record"), b"appended");
    }
}

#[test]
fn the_same_records_written_here_are_the_same_bytes() {
    for name in NAMES {
        let fixture = Fixture::new(name);
        for policy in [SyncPolicy::Always, SyncPolicy::OnDemand] {
            let path = fixture.folder.path().join(format!("{policy:?}.wally"));
            let journal = Options::new()
                .sync_policy(policy)
                .new_file_format(Format::Reference)
                .open(&path)
                .expect("a new journal");
            // A third one by one, a third as batches, a third from parts, in turn.
            for (turn, payloads) in fixture.payloads().chunks(5).enumerate() {
                match turn % 3 {
                    0 => {
                        for payload in payloads {
                            journal.append(payload).expect("an append");
                        }
                    }
                    1 => {
                        journal.append_batch(payloads).expect("a batch");
                    }
                    _ => {
                        for payload in payloads {
                            let (head, body) = payload.split_at(payload.len() / 3);
                            let parts = [head, body].map(std::io::IoSlice::new);
                            journal.append_vectored(&parts).expect("an append");
                        }
                    }
                }
            }
            journal.close().expect("a clean end");
            assert!(fs::read(&path).expect("the file") == fixture.bytes, "{name} {policy:?}");
        }
    }
}

#[test]
fn cutting_back_and_appending_again_is_the_same_bytes() {
    let fixture = Fixture::new("truncated-then-appended");
    let payloads = fixture.payloads();
    let path = fixture.folder.path().join("again.wally");
    let journal = Fixture::options().new_file_format(Format::Reference).open(&path).expect("a new journal");
    journal.append_batch(&payloads[..37]).expect("a batch");
    for at in 0..263 {
        journal.append(&vec![at as u8; at * 3]).expect("an append");
    }
    journal.truncate_back(37).expect("a truncation");
    for payload in &payloads[37..] {
        journal.append(payload).expect("an append");
    }
    journal.close().expect("a clean end");
    assert!(fs::read(&path).expect("the file") == fixture.bytes);
}

#[test]
fn an_empty_journal_of_the_reference_is_a_journal_of_no_records() {
    let fixture = Fixture::new("empty");
    assert_eq!(Walk::open(&fixture.path).expect("the file").count(), 0);
    let inspection = Walk::inspect(&fixture.path).expect("the file");
    assert_eq!((inspection.format, inspection.state), (None, State::Clean));
    fixture.is_untouched();

    let journal =
        Fixture::options().new_file_format(Format::Reference).open(&fixture.path).expect("the journal");
    assert!(journal.is_empty());
    journal.close().expect("a clean end");
    fixture.is_untouched();
}
