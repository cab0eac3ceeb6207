//! The bytes of a journal's file, exactly, in both formats. What is expected is computed from the format's table by
//! `common/built.rs`, without the library's code, so that neither side can drift alone.

use std::fs;
use std::path::PathBuf;

use crate::common::built::{BARRIER, Built, CONTINUED, crc32};
use wally::{Batch, Format, IndexMode, Journal, Options, SyncPolicy, Walk};

/// A journal's path in a folder that is removed at the end.
struct Place {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { path: folder.path().join("golden.wally"), _folder: folder }
    }

    fn open(&self, policy: SyncPolicy, format: Format) -> Journal {
        Options::new().sync_policy(policy).new_file_format(format).open(&self.path).expect("the journal")
    }

    #[track_caller]
    fn holds(&self, expected: &Built) {
        assert_eq!(hex(&fs::read(&self.path).expect("the file")), hex(&expected.0));
    }

    /// The same up to `expected`'s length, and nothing but zeros after it: under `Always` and `Interval` there
    /// may be preallocated zeros while the journal is open.
    #[track_caller]
    fn begins_with(&self, expected: &Built) {
        let bytes = fs::read(&self.path).expect("the file");
        let (begin, rest) = bytes.split_at(expected.0.len().min(bytes.len()));
        assert_eq!(hex(begin), hex(&expected.0));
        assert!(rest.iter().all(|&byte| byte == 0), "more than zeros after the records");
    }
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x} ")).collect::<String>() + "\n";
    bytes.chunks(16).map(line).collect()
}

#[test]
fn the_arithmetic_of_the_tests_is_that_of_the_published_check_values() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    // The mark of an empty journal, worked out once with zlib.
    let mut mark = [0; 16];
    mark[8..12].copy_from_slice(&[0xFF; 4]);
    mark[12..].copy_from_slice(&[0x11, 0xED, 0x69, 0x12]);
    assert_eq!(Built::new().closed().0, mark);
}

// Sealed.

#[test]
fn a_new_journal_is_one_mark() {
    let place = Place::new();
    for policy in [SyncPolicy::Always, SyncPolicy::OnDemand] {
        let journal = place.open(policy, Format::Sealed);
        place.begins_with(&Built::default().closed());
        journal.close().expect("a clean end");
        place.holds(&Built::default().closed());
    }
}

#[test]
fn a_closed_journal_is_its_records_and_a_mark() {
    let place = Place::new();
    let journal = place.open(SyncPolicy::OnDemand, Format::Sealed);
    for payload in [&b"hello"[..], b"", b"world"] {
        journal.append(payload).expect("an append");
    }
    journal.close().expect("a clean end");
    // One flush, and all before it (nothing) was durable.
    let records = Built::new().sealed(b"hello", BARRIER).sealed(b"", 0).sealed(b"world", 0);
    place.holds(&records.closed());
}

#[test]
fn opening_and_closing_changes_nothing() {
    let place = Place::new();
    let journal = place.open(SyncPolicy::OnDemand, Format::Sealed);
    journal.append(b"hello").expect("an append");
    journal.close().expect("a clean end");
    let expected = Built::new().sealed(b"hello", BARRIER).closed();
    for policy in [SyncPolicy::Always, SyncPolicy::OnDemand] {
        // What was asked for is the format of a new file, which this is not.
        for format in [Format::Sealed, Format::Reference] {
            place.open(policy, format).close().expect("a clean end");
            place.holds(&expected);
        }
    }
}

#[test]
fn the_next_append_overwrites_the_mark() {
    let place = Place::new();
    for payload in [b"first", b"again"] {
        let journal = place.open(SyncPolicy::OnDemand, Format::Sealed);
        journal.append(payload).expect("an append");
        journal.close().expect("a clean end");
    }
    place.holds(&Built::default().sealed(b"first", BARRIER).sealed(b"again", BARRIER).closed());
}

#[test]
fn only_the_first_record_of_a_flush_after_a_durable_point_is_a_barrier() {
    let place = Place::new();
    let journal = place.open(SyncPolicy::OnDemand, Format::Sealed);
    let append = |payload: &[u8]| journal.append(payload).expect("an append");
    append(b"a");
    append(b"b");
    journal.flush().expect("a flush");
    let mut expected = Built::new().sealed(b"a", BARRIER).sealed(b"b", 0);
    place.holds(&expected);
    // Committed is now ahead of durable.
    append(b"c");
    journal.flush().expect("a flush");
    expected = expected.sealed(b"c", 0);
    place.holds(&expected);
    // Durable catches up.
    journal.sync().expect("a sync");
    append(b"d");
    append(b"e");
    journal.flush().expect("a flush");
    expected = expected.sealed(b"d", BARRIER).sealed(b"e", 0);
    place.holds(&expected);
    // A sync flushes what is staged: that flush is after a point that is not durable.
    append(b"f");
    journal.sync().expect("a sync");
    append(b"g");
    journal.close().expect("a clean end");
    place.holds(&expected.sealed(b"f", 0).sealed(b"g", BARRIER).closed());
}

#[test]
fn under_always_each_append_of_one_thread_is_a_barrier() {
    let place = Place::new();
    let journal = place.open(SyncPolicy::Always, Format::Sealed);
    let mut expected = Built::new();
    for payload in [&b"one"[..], b"two", b"three"] {
        journal.append(payload).expect("an append");
        expected = expected.sealed(payload, BARRIER);
        place.begins_with(&expected);
    }
    journal.append_batch([b"four", b"five"]).expect("a batch");
    expected = expected.sealed(b"four", BARRIER | CONTINUED).sealed(b"five", 0);
    place.begins_with(&expected);
    journal.close().expect("a clean end");
    place.holds(&expected.closed());
}

#[test]
fn all_of_a_batch_but_its_last_record_is_continued() {
    let place = Place::new();
    let journal = place.open(SyncPolicy::OnDemand, Format::Sealed);
    journal.append(b"before").expect("an append");
    assert_eq!(journal.append_batch([b"a", b"b", b"c"]).expect("a batch"), 2..=4);
    assert_eq!(journal.append_batch([b"alone"]).expect("a batch"), 5..=5);
    let mut batch = Batch::new();
    batch.push(b"");
    batch.push(b"end");
    assert_eq!(journal.write_batch(&batch).expect("a batch"), 6..=7);
    assert!(journal.append_batch([[0; 0]; 0]).expect("no batch").is_empty());
    journal.close().expect("a clean end");
    let expected = Built::new().sealed(b"before", BARRIER);
    let expected = expected.sealed(b"a", CONTINUED).sealed(b"b", CONTINUED).sealed(b"c", 0);
    let expected = expected.sealed(b"alone", 0).sealed(b"", CONTINUED).sealed(b"end", 0);
    place.holds(&expected.closed());
}

#[test]
fn a_batch_that_follows_a_durable_point_is_one_barrier() {
    let place = Place::new();
    let journal = place.open(SyncPolicy::OnDemand, Format::Sealed);
    // Larger than the staging buffer, so that it takes the way around it.
    let payloads: Vec<Vec<u8>> = (0..40u8).map(|at| vec![at; 10_000]).collect();
    journal.append_batch(&payloads).expect("a batch");
    journal.close().expect("a clean end");
    let mut expected = Built::new();
    for (at, payload) in payloads.iter().enumerate() {
        let barrier = if at == 0 { BARRIER } else { 0 };
        let continued = if at + 1 < payloads.len() { CONTINUED } else { 0 };
        expected = expected.sealed(payload, barrier | continued);
    }
    place.holds(&expected.closed());
}

#[test]
fn truncating_leaves_a_mark_at_the_new_end() {
    let place = Place::new();
    let journal = place.open(SyncPolicy::OnDemand, Format::Sealed);
    journal.append_batch([b"a", b"b", b"c"]).expect("a batch");
    journal.append(b"d").expect("an append");
    journal.flush().expect("a flush");
    journal.truncate_back(3).expect("a truncation");
    let whole = || {
        let expected = Built::new().sealed(b"a", BARRIER | CONTINUED);
        expected.sealed(b"b", CONTINUED).sealed(b"c", 0)
    };
    place.holds(&whole().closed());
    // Inside the batch: what is now its last record ends it.
    journal.truncate_back(2).expect("a truncation");
    let shorter = || Built::new().sealed(b"a", BARRIER | CONTINUED).sealed(b"b", 0);
    place.holds(&shorter().closed());
    journal.append(b"c").expect("an append");
    journal.close().expect("a clean end");
    place.holds(&shorter().sealed(b"c", BARRIER).closed());

    let journal = place.open(SyncPolicy::OnDemand, Format::Sealed);
    journal.truncate_back(0).expect("a truncation");
    place.holds(&Built::default().closed());
    journal.close().expect("a clean end");
    place.holds(&Built::default().closed());
}

#[test]
fn a_cut_tail_leaves_a_mark_at_the_new_end() {
    let place = Place::new();
    let journal = place.open(SyncPolicy::OnDemand, Format::Sealed);
    journal.append(b"kept").expect("an append");
    journal.append(b"torn").expect("an append");
    journal.close().expect("a clean end");
    // The closing mark and the last byte of the last payload.
    let file = fs::OpenOptions::new().write(true).open(&place.path).expect("the file");
    file.set_len(20 + 20 - 1).expect("a shorter file");
    let journal = place.open(SyncPolicy::OnDemand, Format::Sealed);
    assert_eq!(journal.recovery().cut_offset, Some(20));
    assert_eq!(journal.recovery().cut_bytes, 19);
    let kept = || Built::new().sealed(b"kept", BARRIER);
    place.holds(&kept().closed());
    journal.append(b"next").expect("an append");
    journal.close().expect("a clean end");
    place.holds(&kept().sealed(b"next", BARRIER).closed());
}

#[test]
fn a_hand_built_journal_reads_back() {
    let place = Place::new();
    let expected = Built::new().sealed(b"one", BARRIER).sealed(b"two", CONTINUED).sealed(b"", 0);
    fs::write(&place.path, &expected.closed().0).expect("the file");
    let walked: Vec<_> =
        Walk::open(&place.path).expect("the file").map(|entry| entry.expect("an entry")).collect();
    let walked: Vec<_> = walked.iter().map(|e| (e.index, e.offset, e.crc, e.payload.as_slice())).collect();
    let crcs = [crc32(b"one"), crc32(b"two"), 0];
    assert_eq!(walked, [(1, 0, crcs[0], &b"one"[..]), (2, 19, crcs[1], b"two"), (3, 38, crcs[2], b"")]);
    for mode in [IndexMode::Full, IndexMode::Sparse(2), IndexMode::Scan] {
        let journal = Options::new()
            .sync_policy(SyncPolicy::OnDemand)
            .index(mode)
            .open(&place.path)
            .expect("the journal");
        assert_eq!(journal.format(), Format::Sealed);
        let records: Vec<_> = (1..=3).map(|n| journal.read(n).expect("a record")).collect();
        assert_eq!(records, [&b"one"[..], b"two", b""], "{mode:?}");
        journal.close().expect("a clean end");
    }
}

// Reference.

#[test]
fn a_reference_journal_is_its_records_and_nothing_else() {
    for policy in [SyncPolicy::Always, SyncPolicy::OnDemand] {
        let place = Place::new();
        let journal = place.open(policy, Format::Reference);
        assert_eq!(journal.format(), Format::Reference);
        place.holds(&Built::default());
        let mut expected = Built::new();
        for payload in [&b"hello"[..], b"", &[0; 100], &[7; 300_000]] {
            journal.append(payload).expect("an append");
            expected = expected.reference(payload);
        }
        journal.append_batch([&b"no"[..], b"flags"]).expect("a batch");
        expected = expected.reference(b"no").reference(b"flags");
        journal.sync().expect("a sync");
        place.holds(&expected);
        journal.append(b"after a durable point").expect("an append");
        journal.close().expect("a clean end");
        place.holds(&expected.reference(b"after a durable point"));
    }
}

#[test]
fn an_empty_reference_journal_is_an_empty_file() {
    let place = Place::new();
    place.open(SyncPolicy::Always, Format::Reference).close().expect("a clean end");
    place.holds(&Built::default());
    // It has no format until something is in it.
    place.open(SyncPolicy::Always, Format::Sealed).close().expect("a clean end");
    place.holds(&Built::default().closed());
}

#[test]
fn truncating_a_reference_journal_only_makes_it_shorter() {
    let place = Place::new();
    let journal = place.open(SyncPolicy::OnDemand, Format::Reference);
    for payload in [b"a", b"b", b"c"] {
        journal.append(payload).expect("an append");
    }
    journal.truncate_back(2).expect("a truncation");
    let two = || Built::new().reference(b"a").reference(b"b");
    place.holds(&two());
    journal.append(b"d").expect("an append");
    journal.close().expect("a clean end");
    place.holds(&two().reference(b"d"));
}
