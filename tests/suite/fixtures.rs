//! Journals that the reference implementation wrote, read record by record. Each `NAME.tsv` lists what
//! `NAME.wally` holds: index, payload length, CRC-32/IEEE and SHA-256 of the payload.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wally::{Format, State, Walk};

const NAMES: [&str; 7] = [
    "big-record",
    "cleared-then-appended",
    "empty",
    "mixed-300",
    "one",
    "truncated-then-appended",
    "zero-length",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One line of the list for what the walk yields.
fn listed(path: &Path) -> Vec<String> {
    let mut offset = 0;
    let mut lines = Vec::new();
    for entry in Walk::open(path).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.offset, offset);
        offset += 16 + entry.payload.len() as u64;
        let sha = hex(&Sha256::digest(&entry.payload));
        lines.push(format!("{}\t{}\t{:08x}\t{sha}", entry.index, entry.payload.len(), entry.crc));
    }
    assert_eq!(offset, std::fs::metadata(path).unwrap().len());
    lines
}

#[test]
fn every_fixture_is_listed_here() {
    let mut files: Vec<String> = std::fs::read_dir(fixture(""))
        .unwrap()
        .filter_map(|file| file.unwrap().file_name().to_str()?.strip_suffix(".wally").map(str::to_owned))
        .collect();
    files.sort();
    assert_eq!(files, NAMES);
}

#[test]
fn a_walk_reads_what_the_reference_wrote() {
    for name in NAMES {
        let expected = std::fs::read_to_string(fixture(&format!("{name}.tsv"))).unwrap();
        let expected: Vec<&str> = expected.lines().collect();
        assert_eq!(listed(&fixture(&format!("{name}.wally"))), expected, "{name}");
    }
}

#[test]
fn an_inspection_calls_them_clean() {
    for name in NAMES {
        let records =
            std::fs::read_to_string(fixture(&format!("{name}.tsv"))).unwrap().lines().count() as u64;
        let inspection = Walk::inspect(fixture(&format!("{name}.wally"))).unwrap();
        assert_eq!(inspection.state, State::Clean, "{name}: {inspection}");
        assert_eq!((inspection.records, inspection.last_index), (records, records), "{name}");
        assert_eq!(inspection.good_bytes, inspection.file_bytes, "{name}");
        let format = (name != "empty").then_some(Format::Reference);
        assert_eq!(inspection.format, format, "{name}");
    }
}

#[test]
fn one_changed_byte_is_seen_where_the_reference_saw_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mixed-300.wally");
    let mut bytes = std::fs::read(fixture("mixed-300.wally")).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let inspection = Walk::inspect(&path).unwrap();
    assert_eq!((inspection.state, inspection.records), (State::Torn, 1));
    // All the others are still there, but for empty ones, which nothing tells from zeros.
    let listed = std::fs::read_to_string(fixture("mixed-300.tsv")).unwrap();
    let whole = listed.lines().skip(2).filter(|line| line.split('\t').nth(1) != Some("0")).count() as u64;
    assert_eq!(inspection.beyond.map(|beyond| beyond.records), Some(whole));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}
