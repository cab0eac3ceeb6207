//! Appending and reading back: sizes, shapes, index modes, formats, ranges, and the figures that go with them.

use crate::common;

use std::io::IoSlice;
use std::os::unix::fs::FileExt;

use common::built::Built;
use common::{payload, place, place_in_memory};
use wally::{Error, Format, IndexMode, Journal, Options, Snapshot, SyncPolicy};

const HEADER: usize = 16;
const BUFFER: usize = 4096;

fn options() -> Options {
    let mut options = Options::new();
    options.sync_policy(SyncPolicy::OnDemand).buffer_size(BUFFER);
    options
}

const MODES: [IndexMode; 5] =
    [IndexMode::Full, IndexMode::Sparse(1), IndexMode::Sparse(7), IndexMode::sparse(), IndexMode::Scan];
const FORMATS: [Format; 2] = [Format::Sealed, Format::Reference];

/// Every way to read agrees that the journal holds `expected`, from index 1.
fn assert_holds(journal: &Journal, expected: &[Vec<u8>]) {
    let last = expected.len() as u64;
    assert_eq!((journal.first_index(), journal.last_index()), (1, last));
    assert_eq!(journal.is_empty(), expected.is_empty());
    journal.flush().unwrap();
    assert_eq!(journal.committed_index(), last);
    let snapshot = journal.snapshot();
    let mut reader = journal.reader();
    let mut buf = Vec::new();
    for (n, bytes) in (1..).zip(expected) {
        assert!(journal.read(n).unwrap() == *bytes, "read {n}");
        journal.read_into(n, &mut buf).unwrap();
        assert!(buf == *bytes, "read_into {n}");
        let record = journal.read_ref(n).unwrap();
        assert_eq!(record.index(), n);
        assert!(record[..] == bytes[..], "read_ref {n}");
        record.verify().unwrap();
        assert!(reader.get(n) == Some(&bytes[..]), "reader {n}");
        assert!(snapshot.get(n) == Some(&bytes[..]), "snapshot {n}");
    }
    // Backwards, so that a remembered place is of no help.
    for (n, bytes) in (1..=last).rev().zip(expected.iter().rev()) {
        assert!(reader.get(n) == Some(&bytes[..]), "reader, backwards, {n}");
    }
    for n in [0, last + 1, u64::MAX] {
        assert!(matches!(journal.read(n), Err(Error::OutOfRange { .. })), "{n}");
        assert_eq!((reader.get(n), snapshot.get(n)), (None, None), "{n}");
    }
    let all: Vec<(u64, &[u8])> = snapshot.iter().collect();
    let want: Vec<(u64, &[u8])> = (1..).zip(expected.iter().map(|bytes| &bytes[..])).collect();
    assert!(all == want);
}

#[test]
fn records_come_back_in_every_index_mode_and_format_and_after_a_reopen() {
    for format in FORMATS {
        for mode in MODES {
            let (_dir, path) = place();
            let mut options = options();
            options.new_file_format(format).index(mode);
            let journal = options.open(&path).unwrap();
            assert_eq!(journal.format(), format);
            let sizes = [1, 0, 5, 16, 17, 100, 0, 0, 4000, 5000, 3, 12, 255, 256, 70_000, 1];
            let expected: Vec<Vec<u8>> = (1..).zip(sizes).map(|(salt, len)| payload(salt, len)).collect();
            for (n, bytes) in (1..).zip(&expected) {
                assert_eq!(journal.append(bytes).unwrap(), n);
            }
            assert_holds(&journal, &expected);
            journal.close().unwrap();
            let journal = options.open(&path).unwrap();
            assert_eq!(journal.recovery().records, expected.len() as u64);
            assert_holds(&journal, &expected);
            // And it goes on from there.
            assert_eq!(journal.append(b"more").unwrap(), expected.len() as u64 + 1);
        }
    }
}

#[test]
fn empty_records_are_records() {
    for format in FORMATS {
        let (_dir, path) = place();
        let mut options = options();
        options.new_file_format(format);
        let journal = options.open(&path).unwrap();
        // The reference format cannot tell a file of empty records alone from other zeros.
        let mut expected = vec![b"not empty".to_vec()];
        expected.resize(300, Vec::new());
        for bytes in &expected {
            journal.append(bytes).unwrap();
        }
        assert_holds(&journal, &expected);
        journal.close().unwrap();
        assert_holds(&options.open(&path).unwrap(), &expected);
    }
}

#[test]
fn a_record_may_come_in_any_number_of_parts() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    let large = payload(1, 3 * BUFFER);
    let shapes: Vec<Vec<&[u8]>> = vec![
        vec![],
        vec![b""],
        vec![b"", b"", b""],
        vec![b"head ", b"body"],
        vec![b"", b"a", b"", b"", b"b", b""],
        large.chunks(1).take(3000).collect(),
        // More parts than a call takes, more bytes than the buffer.
        large.chunks(3).collect(),
        vec![&large, b"", &large, b"tail"],
        large.chunks(5).flat_map(|part| [part, b""]).collect(),
        vec![b""; 5000],
    ];
    let mut expected = Vec::new();
    for (n, shape) in (1..).zip(&shapes) {
        let parts: Vec<IoSlice<'_>> = shape.iter().map(|part| IoSlice::new(part)).collect();
        assert_eq!(journal.append_vectored(&parts).unwrap(), n);
        expected.push(shape.concat());
    }
    assert_holds(&journal, &expected);
    journal.close().unwrap();
    assert_holds(&options().open(&path).unwrap(), &expected);
}

#[test]
fn records_that_just_fit_the_buffer_or_just_do_not_come_back() {
    // How full the buffer is before, and how the record compares with the room that is left.
    for before in [0, 1, 100, BUFFER - 2 * HEADER, BUFFER - HEADER] {
        for by in [-1i64, 0, 1, 17] {
            let (_dir, path) = place();
            let journal = options().open(&path).unwrap();
            let mut expected = Vec::new();
            let mut room = BUFFER;
            if before > 0 {
                expected.push(payload(1, before));
                room -= HEADER + before;
            }
            let Some(len) = (room as i64 - HEADER as i64 + by).try_into().ok() else { continue };
            expected.push(payload(2, len));
            expected.push(payload(3, 10));
            for bytes in &expected {
                journal.append(bytes).unwrap();
            }
            assert_holds(&journal, &expected);
            journal.close().unwrap();
            assert_holds(&options().open(&path).unwrap(), &expected);
        }
    }
}

#[test]
fn what_fits_the_buffer_is_staged_and_what_does_not_is_committed() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    journal.append(&payload(1, BUFFER - HEADER)).unwrap();
    assert_eq!(journal.committed_index(), 0, "it fits, with its header, to the last byte");
    journal.append(b"").unwrap();
    assert_eq!(journal.committed_index(), 2, "there was no room left");
    journal.append(&payload(2, BUFFER - HEADER + 1)).unwrap();
    assert_eq!(journal.committed_index(), 3, "one byte too long");
    journal.append(&payload(3, BUFFER)).unwrap();
    assert_eq!(journal.committed_index(), 4);
}

#[test]
fn the_buffer_is_used_again_and_again() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    let expected: Vec<Vec<u8>> = (0..2000).map(|n| payload(n, (n * 7 % 90) as usize)).collect();
    for bytes in &expected {
        journal.append(bytes).unwrap();
    }
    let stats = journal.stats();
    assert!(stats.flushes >= 20, "{stats:?}");
    assert_holds(&journal, &expected);
}

#[test]
fn a_buffer_size_of_nothing_is_raised_to_the_smallest() {
    let (_dir, path) = place();
    let journal = options().buffer_size(0).open(&path).unwrap();
    journal.append(b"small").unwrap();
    assert_eq!(journal.committed_index(), 0, "staged");
    assert_eq!(journal.read(1).unwrap(), b"small");
}

#[test]
fn a_record_may_be_larger_than_the_first_map() {
    for format in FORMATS {
        let (_dir, path) = place();
        let mut options = options();
        options.new_file_format(format);
        let journal = options.open(&path).unwrap();
        let expected = [b"small".to_vec(), payload(1, 21 << 20), b"behind".to_vec()];
        journal.append(&expected[0]).unwrap();
        let held = journal.snapshot();
        let early = journal.read_ref(1).unwrap();
        for bytes in &expected[1..] {
            journal.append(bytes).unwrap();
        }
        assert_holds(&journal, &expected);
        assert_eq!(&early[..], b"small");
        assert_eq!(held.last_index(), 0, "a snapshot is fixed");
        journal.truncate_back(2).unwrap();
        assert!(journal.read(2).unwrap() == expected[1]);
    }
}

#[test]
fn small_records_cross_the_end_of_the_map() {
    let (_dir, path) = place();
    let journal = options().buffer_size(256 << 10).open(&path).unwrap();
    let chunk = payload(1, 100_000);
    let count = (17 << 20) / chunk.len() as u64;
    let mut reader = journal.reader();
    for n in 1..=count {
        journal.append(&[&n.to_le_bytes(), &chunk[..]].concat()).unwrap();
    }
    journal.flush().unwrap();
    assert_eq!(journal.stats().views_published, 2, "the first window and one of twice its size");
    for n in 1..=count {
        let bytes = reader.get(n).unwrap();
        assert!(bytes[..8] == n.to_le_bytes() && bytes[8..] == chunk, "{n}");
    }
}

#[test]
fn journal_reads_see_what_was_appended_and_readers_see_what_was_committed() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    let mut reader = journal.reader();
    for (n, read) in (1..).zip([
        (|journal, n| assert_eq!(journal.read(n).unwrap(), b"mine")) as fn(&Journal, u64),
        |journal, n| journal.read_into(n, &mut Vec::new()).unwrap(),
        |journal, n| assert_eq!(&journal.read_ref(n).unwrap()[..], b"mine"),
        |journal, n| assert_eq!(journal.data_range(n).unwrap().count(), 4),
    ]) {
        assert_eq!(journal.append(b"mine").unwrap(), n);
        let snapshot = journal.snapshot();
        assert_eq!((journal.last_index(), journal.committed_index()), (n, n - 1));
        assert_eq!(reader.get(n), None);
        assert_eq!(reader.last_index(), n - 1);
        assert_eq!((snapshot.get(n), snapshot.last_index()), (None, n - 1));
        read(&journal, n);
        assert_eq!(journal.committed_index(), n, "the read flushed");
        assert_eq!(reader.get(n), Some(&b"mine"[..]));
        assert_eq!(snapshot.get(n), None, "a snapshot stays as it is");
        assert_eq!(journal.snapshot().get(n), Some(&b"mine"[..]));
    }
    journal.append(b"staged").unwrap();
    let _ = journal.read(1).unwrap();
    let _ = journal.read(99).unwrap_err();
    assert_eq!(journal.committed_index(), 4, "neither an old record nor one that is not there needs a flush");
}

#[test]
fn read_into_replaces_what_was_in_the_buffer() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    journal.append(b"short").unwrap();
    let mut buf = vec![7; 100];
    let capacity = buf.capacity();
    journal.read_into(1, &mut buf).unwrap();
    assert_eq!((&buf[..], buf.capacity()), (&b"short"[..], capacity));
    journal.read_into(2, &mut buf).unwrap_err();
    assert!(buf.is_empty());
}

fn indexes(snapshot: &Snapshot, range: impl std::ops::RangeBounds<u64>) -> Vec<u64> {
    snapshot
        .range(range)
        .map(|(n, bytes)| (n, bytes.to_vec()))
        .map(|(n, bytes)| {
            assert_eq!(bytes, payload(n, (n % 40) as usize));
            n
        })
        .collect()
}

#[test]
fn ranges_take_every_kind_of_bound_and_go_both_ways() {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    const LAST: u64 = 50;
    for mode in MODES {
        let (_dir, path) = place();
        let journal = options().index(mode).open(&path).unwrap();
        for n in 1..=LAST {
            journal.append(&payload(n, (n % 40) as usize)).unwrap();
        }
        journal.flush().unwrap();
        let snapshot = journal.snapshot();
        let edges = [0, 1, 2, 7, 8, 49, 50, 51, 52, u64::MAX];
        let starts = edges.iter().flat_map(|&n| [Included(n), Excluded(n)]).chain([Unbounded]);
        for start in starts {
            let ends = edges.iter().flat_map(|&n| [Included(n), Excluded(n)]).chain([Unbounded]);
            for end in ends {
                let inside = |n: &u64| std::ops::RangeBounds::contains(&(start, end), n);
                let want: Vec<u64> = (1..=LAST).filter(inside).collect();
                assert_eq!(indexes(&snapshot, (start, end)), want, "{mode:?} {start:?} {end:?}");
                let back: Vec<u64> = snapshot.range((start, end)).rev().map(|(n, _)| n).collect();
                assert!(back.iter().rev().eq(&want), "{mode:?} {start:?} {end:?}");
                assert_eq!(snapshot.range((start, end)).len(), want.len());
            }
        }
        let mut range = snapshot.range(10..=16);
        let ends = [range.next(), range.next_back(), range.nth(1), range.next_back()].map(|r| r.unwrap().0);
        assert_eq!((ends, range.len()), ([10, 16, 12, 15], 2));
        let mut rest = range.clone();
        assert_eq!(range.map(|(n, _)| n).collect::<Vec<_>>(), [13, 14]);
        assert_eq!((rest.nth(5), rest.next(), rest.next_back(), rest.len()), (None, None, None, 0));
        let loops: Vec<u64> = (&snapshot).into_iter().map(|(n, _)| n).collect();
        assert_eq!(loops.len(), LAST as usize);
    }
}

#[test]
fn a_range_of_an_empty_journal_is_empty() {
    let (_dir, path) = place();
    let snapshot = options().open(&path).unwrap().snapshot();
    assert_eq!((snapshot.first_index(), snapshot.last_index(), snapshot.len()), (1, 0, 0));
    assert!(snapshot.is_empty());
    assert_eq!(snapshot.iter().next_back(), None);
    assert_eq!(snapshot.range(0..=0).next(), None);
    assert_eq!(snapshot.range(u64::MAX..).next(), None);
}

#[test]
fn sparse_checkpoints_hold_at_their_edges_also_after_truncation_and_reopen() {
    for k in [1u64, 2, 7, 64] {
        let (_dir, path) = place_in_memory();
        let mut options = options();
        options.index(IndexMode::Sparse(k as u32));
        let bytes = |n: u64| payload(n, (n % 13) as usize);
        let journal = options.open(&path).unwrap();
        let append_up_to = |journal: &Journal, last: u64| {
            while journal.last_index() < last {
                let n = journal.last_index() + 1;
                assert_eq!(journal.append(&bytes(n)).unwrap(), n);
            }
        };
        let check = |journal: &Journal| {
            let last = journal.last_index();
            let mut reader = journal.reader();
            journal.flush().unwrap();
            let snapshot = journal.snapshot();
            for edge in [1, k, 2 * k, 3 * k, last] {
                for n in [edge.saturating_sub(1), edge, edge + 1] {
                    let want = (1..=last).contains(&n).then(|| bytes(n));
                    assert_eq!(journal.read(n).ok(), want, "k {k} n {n}");
                    assert_eq!(reader.get(n), want.as_deref(), "k {k} n {n}");
                    assert_eq!(snapshot.get(n), want.as_deref(), "k {k} n {n}");
                    let found = snapshot.range(n..).next();
                    let next = (n.max(1) <= last).then(|| (n.max(1), bytes(n.max(1))));
                    assert_eq!(found.map(|(n, b)| (n, b.to_vec())), next, "k {k} n {n}");
                    let before = snapshot.range(..n).next_back().map(|(n, b)| (n, b.to_vec()));
                    let want = (n > 1 && last > 0).then(|| (n - 1).min(last)).map(|n| (n, bytes(n)));
                    assert_eq!(before, want, "k {k} n {n}");
                }
            }
        };
        append_up_to(&journal, 3 * k + 2);
        check(&journal);
        for n in [3 * k + 1, 3 * k, 3 * k - 1, 2 * k, k + 1, k, k - 1, 0] {
            journal.truncate_back(n.min(journal.last_index())).unwrap();
            check(&journal);
            // And when it grows again after the cut.
            append_up_to(&journal, n + 2);
            check(&journal);
        }
        append_up_to(&journal, 2 * k);
        journal.close().unwrap();
        let journal = options.open(&path).unwrap();
        check(&journal);
        append_up_to(&journal, 3 * k + 1);
        check(&journal);
    }
}

#[test]
fn data_range_is_where_the_payload_lies_in_the_file() {
    for format in FORMATS {
        for mode in MODES {
            let (_dir, path) = place();
            let journal = options().new_file_format(format).index(mode).open(&path).unwrap();
            let sizes = [10, 0, 5000, 1, 300];
            for (n, len) in (1..).zip(sizes) {
                journal.append(&payload(n, len)).unwrap();
            }
            let file = std::fs::File::open(&path).unwrap();
            for (n, len) in (1..).zip(sizes) {
                let range = journal.data_range(n).unwrap();
                let mut bytes = vec![0; (range.end - range.start) as usize];
                file.read_exact_at(&mut bytes, range.start).unwrap();
                assert_eq!(bytes, payload(n, len));
            }
            for n in [0, 6] {
                assert!(matches!(journal.data_range(n), Err(Error::OutOfRange { .. })));
            }
        }
    }
}

#[test]
fn the_reference_format_is_length_crc_zeros_and_payload() {
    let (_dir, path) = place();
    let journal = options().new_file_format(Format::Reference).open(&path).unwrap();
    let mut want = Built::new();
    for bytes in [&b"hello"[..], b"", b"world!"] {
        journal.append(bytes).unwrap();
        want = want.reference(bytes);
    }
    journal.append_batch([b"a", b"b"]).unwrap();
    journal.close().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), want.reference(b"a").reference(b"b").0);
}

#[test]
fn indexes_tell_appended_committed_and_durable_apart() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    let watermarks = || {
        let indexes = (journal.last_index(), journal.committed_index(), journal.durable_index());
        let stats = journal.stats();
        assert_eq!(indexes, (stats.appended_index, stats.committed_index, stats.durable_index));
        indexes
    };
    assert_eq!((journal.first_index(), watermarks(), journal.is_empty()), (1, (0, 0, 0), true));
    journal.append(b"a").unwrap();
    assert_eq!((journal.first_index(), watermarks(), journal.is_empty()), (1, (1, 0, 0), false));
    journal.flush().unwrap();
    assert_eq!(watermarks(), (1, 1, 0));
    journal.append(b"b").unwrap();
    assert_eq!(watermarks(), (2, 1, 0));
    journal.sync().unwrap();
    assert_eq!(watermarks(), (2, 2, 2));
    journal.truncate_back(1).unwrap();
    assert_eq!(watermarks(), (1, 1, 1));
    journal.truncate_back(0).unwrap();
    assert_eq!((journal.first_index(), watermarks(), journal.is_empty()), (1, (0, 0, 0), true));
}

#[test]
fn stats_change_as_documented() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    let start = journal.stats();
    assert_eq!((start.flushes, start.syncs, start.views_published, start.views_held), (0, 0, 1, 0));
    assert_eq!((start.appended_bytes, start.committed_bytes, start.durable_bytes), (0, 0, 0));
    assert_eq!((start.records_per_sync, start.held_bytes), (0.0, 0));
    assert_eq!((start.background_failures, start.last_background_failure), (0, None));

    for _ in 0..3 {
        journal.append(b"four").unwrap();
    }
    let staged = journal.stats();
    assert_eq!((staged.appended_bytes, staged.committed_bytes, staged.durable_bytes), (60, 0, 0));
    assert_eq!((staged.flushes, staged.syncs), (0, 0));
    assert!(staged.index_bytes > 0);

    journal.flush().unwrap();
    journal.flush().unwrap();
    let flushed = journal.stats();
    assert_eq!((flushed.appended_bytes, flushed.committed_bytes, flushed.durable_bytes), (60, 60, 0));
    assert_eq!((flushed.flushes, flushed.syncs), (1, 0), "the second had nothing to flush");

    journal.sync().unwrap();
    journal.append(b"").unwrap();
    journal.sync().unwrap();
    journal.sync().unwrap();
    let synced = journal.stats();
    assert_eq!((synced.appended_bytes, synced.committed_bytes, synced.durable_bytes), (76, 76, 76));
    assert_eq!((synced.flushes, synced.syncs, synced.records_per_sync), (2, 2, 2.0));

    let snapshot = journal.snapshot();
    journal.truncate_back(1).unwrap();
    let cut = journal.stats();
    assert_eq!((cut.views_published, cut.views_held, cut.held_bytes), (2, 1, 76));
    assert_eq!(cut.durable_bytes, 20);
    drop(snapshot);
    let reaped = journal.stats();
    assert_eq!((reaped.views_held, reaped.held_bytes), (0, 0));
}

#[test]
fn a_full_index_costs_about_four_bytes_a_record_and_the_others_less() {
    let grown = |mode| {
        let (_dir, path) = place();
        let journal = options().index(mode).open(&path).unwrap();
        let before = journal.stats().index_bytes;
        journal.append_batch(std::iter::repeat_n([0; 4], 100_000)).unwrap();
        journal.stats().index_bytes - before
    };
    let full = grown(IndexMode::Full);
    assert!((380_000..430_000).contains(&full), "{full}");
    let sparse = grown(IndexMode::sparse());
    assert!(sparse < 20_000, "{sparse}");
    assert_eq!(grown(IndexMode::Scan), 0);
}

#[test]
fn a_journal_names_its_file_by_an_absolute_path() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    assert_eq!(journal.path(), path);
    assert!(format!("{journal:?}").contains("journal"));
}
