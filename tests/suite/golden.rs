//! The bytes of a journal's file, exactly, in both formats. What is expected is computed here from the format's
//! table, bit by bit and without the library's code, so that neither side can drift alone.

use std::fs;
use std::path::PathBuf;

use wally::{Batch, Format, IndexMode, Journal, Options, SyncPolicy, Walk};

// The format's table, a second time.

const SEALED: u8 = 1;
const BARRIER: u8 = 1 << 1;
const CONTINUED: u8 = 1 << 2;
const MARK: u8 = 1 << 4;

/// CRC-32/IEEE, one bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}

/// A file as it should be, built record by record.
#[derive(Default)]
struct Expected(Vec<u8>);

impl Expected {
    fn header(&mut self, len: u64, crc: u32, flags: u8) {
        let mut sealed = Vec::new();
        sealed.extend_from_slice(&(self.0.len() as u64).to_le_bytes());
        sealed.extend_from_slice(&len.to_le_bytes());
        sealed.extend_from_slice(&crc.to_le_bytes());
        sealed.push(flags);
        self.0.extend_from_slice(&sealed[8..20]);
        self.0.extend_from_slice(&(crc32(&sealed) >> 8 << 8 | u32::from(flags)).to_le_bytes());
    }

    fn record(mut self, flags: u8, payload: &[u8]) -> Self {
        self.header(payload.len() as u64, crc32(payload), SEALED | flags);
        self.0.extend_from_slice(payload);
        self
    }

    /// The mark of its own place.
    fn mark(mut self) -> Self {
        self.header(self.0.len() as u64, 0xFFFF_FFFF, SEALED | MARK);
        self
    }

    fn reference(mut self, payload: &[u8]) -> Self {
        self.0.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        self.0.extend_from_slice(&crc32(payload).to_le_bytes());
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(payload);
        self
    }
}

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
    fn holds(&self, expected: &Expected) {
        assert_eq!(hex(&fs::read(&self.path).expect("the file")), hex(&expected.0));
    }

    /// The same up to `expected`'s length, and nothing but zeros behind it: under `Always` and `Interval` there
    /// may be room ahead while the journal is open.
    #[track_caller]
    fn begins_with(&self, expected: &Expected) {
        let bytes = fs::read(&self.path).expect("the file");
        let (begin, rest) = bytes.split_at(expected.0.len().min(bytes.len()));
        assert_eq!(hex(begin), hex(&expected.0));
        assert!(rest.iter().all(|&byte| byte == 0), "more than zeros behind the records");
    }
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x} ")).collect::<String>() + "\n";
    bytes.chunks(16).map(line).collect()
}

#[test]
fn this_files_own_arithmetic_is_that_of_the_published_check_values() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    // The mark of an empty journal, worked out once with zlib.
    let mut mark = [0; 16];
    mark[8..12].copy_from_slice(&[0xFF; 4]);
    mark[12..].copy_from_slice(&[0x11, 0xED, 0x69, 0x12]);
    assert_eq!(Expected::default().mark().0, mark);
}

// Sealed.

#[test]
fn a_new_journal_is_one_mark() {
    let place = Place::new();
    for policy in [SyncPolicy::Always, SyncPolicy::OnDemand] {
        let journal = place.open(policy, Format::Sealed);
        place.begins_with(&Expected::default().mark());
        journal.close().expect("a clean end");
        place.holds(&Expected::default().mark());
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
    let records = Expected::default().record(BARRIER, b"hello").record(0, b"").record(0, b"world");
    place.holds(&records.mark());
}

#[test]
fn opening_and_closing_changes_nothing() {
    let place = Place::new();
    let journal = place.open(SyncPolicy::OnDemand, Format::Sealed);
    journal.append(b"hello").expect("an append");
    journal.close().expect("a clean end");
    let expected = Expected::default().record(BARRIER, b"hello").mark();
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
    place.holds(&Expected::default().record(BARRIER, b"first").record(BARRIER, b"again").mark());
}

#[test]
fn only_the_first_record_of_a_flush_behind_a_durable_point_is_a_barrier() {
    let place = Place::new();
    let journal = place.open(SyncPolicy::OnDemand, Format::Sealed);
    let append = |payload: &[u8]| journal.append(payload).expect("an append");
    append(b"a");
    append(b"b");
    journal.flush().expect("a flush");
    let mut expected = Expected::default().record(BARRIER, b"a").record(0, b"b");
    place.holds(&expected);
    // Committed is now ahead of durable.
    append(b"c");
    journal.flush().expect("a flush");
    expected = expected.record(0, b"c");
    place.holds(&expected);
    // Durable catches up.
    journal.sync().expect("a sync");
    append(b"d");
    append(b"e");
    journal.flush().expect("a flush");
    expected = expected.record(BARRIER, b"d").record(0, b"e");
    place.holds(&expected);
    // A sync flushes what is staged: that flush is behind a point that is not durable.
    append(b"f");
    journal.sync().expect("a sync");
    append(b"g");
    journal.close().expect("a clean end");
    place.holds(&expected.record(0, b"f").record(BARRIER, b"g").mark());
}

#[test]
fn under_always_each_append_of_one_thread_is_a_barrier() {
    let place = Place::new();
    let journal = place.open(SyncPolicy::Always, Format::Sealed);
    let mut expected = Expected::default();
    for payload in [&b"one"[..], b"two", b"three"] {
        journal.append(payload).expect("an append");
        expected = expected.record(BARRIER, payload);
        place.begins_with(&expected);
    }
    journal.append_batch([b"four", b"five"]).expect("a batch");
    expected = expected.record(BARRIER | CONTINUED, b"four").record(0, b"five");
    place.begins_with(&expected);
    journal.close().expect("a clean end");
    place.holds(&expected.mark());
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
    let expected = Expected::default().record(BARRIER, b"before");
    let expected = expected.record(CONTINUED, b"a").record(CONTINUED, b"b").record(0, b"c");
    let expected = expected.record(0, b"alone").record(CONTINUED, b"").record(0, b"end");
    place.holds(&expected.mark());
}

#[test]
fn a_batch_that_follows_a_durable_point_is_one_barrier() {
    let place = Place::new();
    let journal = place.open(SyncPolicy::OnDemand, Format::Sealed);
    // Larger than the staging buffer, so that it takes the way around it.
    let payloads: Vec<Vec<u8>> = (0..40u8).map(|at| vec![at; 10_000]).collect();
    journal.append_batch(&payloads).expect("a batch");
    journal.close().expect("a clean end");
    let mut expected = Expected::default();
    for (at, payload) in payloads.iter().enumerate() {
        let barrier = if at == 0 { BARRIER } else { 0 };
        let continued = if at + 1 < payloads.len() { CONTINUED } else { 0 };
        expected = expected.record(barrier | continued, payload);
    }
    place.holds(&expected.mark());
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
        let expected = Expected::default().record(BARRIER | CONTINUED, b"a");
        expected.record(CONTINUED, b"b").record(0, b"c")
    };
    place.holds(&whole().mark());
    // Inside the batch: what is now its last record ends it.
    journal.truncate_back(2).expect("a truncation");
    let shorter = || Expected::default().record(BARRIER | CONTINUED, b"a").record(0, b"b");
    place.holds(&shorter().mark());
    journal.append(b"c").expect("an append");
    journal.close().expect("a clean end");
    place.holds(&shorter().record(BARRIER, b"c").mark());

    let journal = place.open(SyncPolicy::OnDemand, Format::Sealed);
    journal.truncate_back(0).expect("a truncation");
    place.holds(&Expected::default().mark());
    journal.close().expect("a clean end");
    place.holds(&Expected::default().mark());
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
    let kept = || Expected::default().record(BARRIER, b"kept");
    place.holds(&kept().mark());
    journal.append(b"next").expect("an append");
    journal.close().expect("a clean end");
    place.holds(&kept().record(BARRIER, b"next").mark());
}

#[test]
fn a_hand_built_journal_reads_back() {
    let place = Place::new();
    let expected = Expected::default().record(BARRIER, b"one").record(CONTINUED, b"two").record(0, b"");
    fs::write(&place.path, &expected.mark().0).expect("the file");
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
        place.holds(&Expected::default());
        let mut expected = Expected::default();
        for payload in [&b"hello"[..], b"", &[0; 100], &[7; 300_000]] {
            journal.append(payload).expect("an append");
            expected = expected.reference(payload);
        }
        journal.append_batch([&b"no"[..], b"flags"]).expect("a batch");
        expected = expected.reference(b"no").reference(b"flags");
        journal.sync().expect("a sync");
        place.holds(&expected);
        journal.append(b"behind a durable point").expect("an append");
        journal.close().expect("a clean end");
        place.holds(&expected.reference(b"behind a durable point"));
    }
}

#[test]
fn an_empty_reference_journal_is_an_empty_file() {
    let place = Place::new();
    place.open(SyncPolicy::Always, Format::Reference).close().expect("a clean end");
    place.holds(&Expected::default());
    // It has no format until something is in it.
    place.open(SyncPolicy::Always, Format::Sealed).close().expect("a clean end");
    place.holds(&Expected::default().mark());
}

#[test]
fn truncating_a_reference_journal_only_makes_it_shorter() {
    let place = Place::new();
    let journal = place.open(SyncPolicy::OnDemand, Format::Reference);
    for payload in [b"a", b"b", b"c"] {
        journal.append(payload).expect("an append");
    }
    journal.truncate_back(2).expect("a truncation");
    let two = || Expected::default().reference(b"a").reference(b"b");
    place.holds(&two());
    journal.append(b"d").expect("an append");
    journal.close().expect("a clean end");
    place.holds(&two().reference(b"d"));
}
