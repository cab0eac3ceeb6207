//! A refused append leaves no trace: every write of a scenario is refused in turn, at the seam.

use crate::common;

use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::built::MARK;
use common::seam::{Call, EFBIG, EINTR, EIO, ENOMEM, ENOSPC, Seam};
use common::{payload, place_in_memory as place, until};
use wally::seam::Verdict;
use wally::{Error, Format, Journal, Options, Recovery, SyncPolicy};

const BUFFER: usize = 4096;
const POLICIES: [SyncPolicy; 3] =
    [SyncPolicy::Always, SyncPolicy::OnDemand, SyncPolicy::Interval(Duration::from_secs(3600))];
const FORMATS: [Format; 2] = [Format::Sealed, Format::Reference];

fn options(policy: SyncPolicy, seam: &Arc<Seam>) -> Options {
    let mut options = Options::new();
    // With zeros preallocated, a write that finds no space is tried again without them: see `preallocate.rs`.
    options.sync_policy(policy).buffer_size(BUFFER).preallocate(0).seam(seam.clone());
    options
}

fn code(error: &Error) -> Option<i32> {
    match error {
        Error::Io { source, .. } => source.raw_os_error(),
        _ => None,
    }
}

/// The file holds the records up to the committed one, to the byte, and after them nothing, or the mark of its end.
fn assert_file(journal: &Journal, expected: &[Vec<u8>], marked: bool) {
    let file = std::fs::read(journal.path()).unwrap();
    let committed = journal.stats().committed_bytes as usize;
    assert_eq!(journal.committed_index(), expected.len() as u64);
    let mut at = 0;
    for (n, bytes) in (1..).zip(expected) {
        assert_eq!(file[at..at + 8], (bytes.len() as u64).to_le_bytes(), "record {n}");
        assert_eq!(file[at + 8..at + 12], crc32fast::hash(bytes).to_le_bytes(), "record {n}");
        at += 16 + bytes.len();
        assert!(file[at - bytes.len()..at] == bytes[..], "record {n}");
    }
    assert_eq!(at, committed);
    let behind = &file[committed..];
    if marked && journal.format() == Format::Sealed {
        assert_eq!(behind.len(), 16, "a mark and nothing else");
        assert_eq!((&behind[..8], behind[12] & MARK), (&(committed as u64).to_le_bytes()[..], MARK));
    } else {
        assert_eq!(behind, [0u8; 0]);
    }
}

fn assert_reads(journal: &Journal, expected: &[Vec<u8>]) {
    assert_eq!(journal.last_index(), expected.len() as u64);
    for (n, bytes) in (1..).zip(expected) {
        assert!(journal.read(n).unwrap() == *bytes, "record {n}");
    }
}

enum Step {
    Append(usize),
    Parts(usize, usize),
    Batch(Vec<usize>),
    Flush,
    Sync,
}

/// Staged and direct, single, in parts and in batches, with something staged in front and without.
fn scenario() -> Vec<Step> {
    use Step::{Append, Batch, Flush, Parts, Sync};
    vec![
        Append(5000),
        Append(10),
        Append(0),
        Flush,
        Append(100),
        Append(4050),
        Append(1),
        Batch(vec![10, 0, 20]),
        Sync,
        Append(50),
        Batch(vec![3000, 0, 3000]),
        Batch(vec![100; 70]),
        Append(7),
        Batch(vec![60; 130]),
        Parts(300, 20),
        Append(3),
        Batch(vec![0; 10]),
        Sync,
    ]
}

/// Performs a step. `expected` gets the records that are in, `salt` makes each different.
fn perform(journal: &Journal, step: &Step, expected: &mut Vec<Vec<u8>>, salt: u64) -> wally::Result<()> {
    let next = expected.len() as u64 + 1;
    match step {
        Step::Append(len) => {
            let bytes = payload(salt, *len);
            assert_eq!(journal.append(&bytes)?, next);
            expected.push(bytes);
        }
        Step::Parts(parts, len) => {
            let bytes = payload(salt, parts * len);
            let parts: Vec<IoSlice<'_>> = bytes.chunks(*len).map(IoSlice::new).collect();
            assert_eq!(journal.append_vectored(&parts)?, next);
            expected.push(bytes);
        }
        Step::Batch(lens) => {
            let batch: Vec<Vec<u8>> = (salt..).zip(lens).map(|(salt, &len)| payload(salt, len)).collect();
            assert_eq!(journal.append_batch(&batch)?, next..=next + lens.len() as u64 - 1);
            expected.extend(batch);
        }
        Step::Flush => journal.flush()?,
        Step::Sync => journal.sync()?,
    }
    Ok(())
}

/// Runs the scenario with a fault; `inject` arms it. Returns how many steps failed.
fn run(policy: SyncPolicy, format: Format, inject: impl FnOnce(&Seam), marked: bool) -> usize {
    let (_dir, path) = place();
    let seam = Seam::new();
    let mut options = options(policy, &seam);
    options.new_file_format(format);
    let journal = options.open(&path).unwrap();
    inject(&seam);
    let mut expected = Vec::new();
    let mut failed = 0;
    for (salt, step) in (1..).zip(scenario()) {
        let salt = salt * 1000;
        let committed = journal.committed_index() as usize;
        let Err(error) = perform(&journal, &step, &mut expected, salt) else { continue };
        failed += 1;
        assert!(matches!(error, Error::Io { op: "write", .. }), "{error}");
        // What has returned stays, the record in hand is not there, and the file knows nothing of it.
        assert_eq!(journal.last_index(), expected.len() as u64);
        assert_eq!(journal.committed_index() as usize, committed);
        assert_file(&journal, &expected[..committed], marked);
        if policy == SyncPolicy::Always {
            assert_eq!(journal.durable_index(), journal.last_index());
        }
        // There is room again: the next append gets the next index.
        seam.allow_all();
        perform(&journal, &step, &mut expected, salt + 500).unwrap();
    }
    seam.allow_all();
    assert_reads(&journal, &expected);
    assert_file(&journal, &expected, false);
    journal.close().unwrap();
    let journal = options.open(&path).unwrap();
    assert_reads(&journal, &expected);
    failed
}

#[test]
fn each_write_refused_in_turn_leaves_no_trace_of_its_record() {
    for policy in POLICIES {
        for format in FORMATS {
            let errors: &[i32] = if format == Format::Sealed { &[ENOSPC, EFBIG, EIO] } else { &[EIO] };
            for &error in errors {
                let mut nth = 0;
                while run(policy, format, |seam| seam.at_write(nth, Verdict::Fail(error)), true) > 0 {
                    nth += 1;
                }
                assert!(nth >= 12, "{policy:?} {format:?}: only {nth} writes were there to refuse");
            }
        }
    }
}

#[test]
fn each_write_cut_short_and_then_refused_leaves_no_trace_of_its_record() {
    for policy in POLICIES {
        for short in [1, 16, 3500] {
            let inject = |nth: usize| {
                move |seam: &Seam| {
                    seam.writes(move |at| match at {
                        n if n == nth => Verdict::Short(short),
                        n if n == nth + 1 => Verdict::Fail(ENOSPC),
                        _ => Verdict::Proceed,
                    });
                }
            };
            let mut nth = 0;
            while run(policy, Format::Sealed, inject(nth), true) > 0 {
                nth += 1;
            }
            assert!(nth >= 12, "{policy:?}: only {nth} writes were there to refuse");
        }
    }
}

#[test]
fn a_write_of_nothing_is_taken_for_a_full_disk() {
    for policy in POLICIES {
        let inject = |nth| move |seam: &Seam| seam.at_write(nth, Verdict::Short(0));
        let mut nth = 0;
        while run(policy, Format::Sealed, inject(nth), true) > 0 {
            nth += 1;
        }
        assert!(nth >= 12);
    }
}

#[test]
fn short_and_interrupted_writes_go_on() {
    for policy in POLICIES {
        for verdict in [Verdict::Short(1), Verdict::Short(17), Verdict::Fail(EINTR)] {
            for nth in 0..15 {
                assert_eq!(run(policy, Format::Sealed, |seam| seam.at_write(nth, verdict), true), 0);
            }
        }
        // Every other one.
        let mut flip = false;
        let every_other = move |_| {
            flip = !flip;
            if flip { Verdict::Short(100) } else { Verdict::Proceed }
        };
        assert_eq!(run(policy, Format::Sealed, |seam| seam.writes(every_other), true), 0);
    }
}

/// Lets the file grow to `limit` and no further, as a disk does that is full.
fn limit(seam: &Seam, limit: u64) {
    seam.rule(move |_, call| match call {
        Call::Write { offset, bytes } if offset + bytes.len() as u64 > limit => {
            match limit.saturating_sub(*offset) {
                0 => Verdict::Fail(ENOSPC),
                fits => Verdict::Short(fits as usize),
            }
        }
        _ => Verdict::Proceed,
    });
}

#[test]
fn on_a_full_disk_everything_stays_as_it_is_until_there_is_room() {
    for policy in POLICIES {
        for room in [16, 100, 5000, 9000, 20_001] {
            let (_dir, path) = place();
            let seam = Seam::new();
            let journal = options(policy, &seam).open(&path).unwrap();
            limit(&seam, room);
            let mut expected = Vec::new();
            let mut refused = 0;
            for salt in 0..60 {
                let bytes = payload(salt, [10, 900, 5000, 0][salt as usize % 4]);
                match journal.append(&bytes) {
                    Ok(n) => {
                        expected.push(bytes);
                        assert_eq!(n, expected.len() as u64);
                    }
                    Err(error) => {
                        assert_eq!(code(&error), Some(ENOSPC), "{error}");
                        refused += 1;
                        let file = std::fs::metadata(&path).unwrap().len();
                        let committed = journal.stats().committed_bytes;
                        assert!((committed..=committed + 16).contains(&file) && file <= room.max(16));
                    }
                }
                assert_eq!(journal.last_index(), expected.len() as u64);
            }
            assert!(refused > 10, "{policy:?} {room}");
            // Under the policies that have acknowledged what is staged, it is still there, waiting for room.
            seam.allow_all();
            assert_reads(&journal, &expected);
            journal.append(b"next").unwrap();
            expected.push(b"next".to_vec());
            journal.close().unwrap();
            assert_reads(&options(policy, &seam).open(&path).unwrap(), &expected);
        }
    }
}

#[test]
fn what_is_staged_and_cannot_be_flushed_is_an_error_to_read_and_readable_later() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::OnDemand, &seam).open(&path).unwrap();
    journal.append(b"committed").unwrap();
    journal.flush().unwrap();
    journal.append(b"staged").unwrap();
    limit(&seam, journal.stats().committed_bytes);
    for _ in 0..3 {
        assert_eq!(code(&journal.read(2).unwrap_err()), Some(ENOSPC));
        assert_eq!(code(&journal.read_ref(2).unwrap_err()), Some(ENOSPC));
        assert_eq!(code(&journal.flush().unwrap_err()), Some(ENOSPC));
        assert_eq!(code(&journal.wait_durable(2).unwrap_err()), Some(ENOSPC));
        assert_eq!(code(&journal.sync().unwrap_err()), Some(ENOSPC));
        assert_eq!((journal.last_index(), journal.committed_index()), (2, 1));
        assert_eq!(journal.read(1).unwrap(), b"committed");
    }
    assert_eq!(journal.durable_index(), 1, "what could be made durable was");
    // The buffer still takes what fits.
    assert_eq!(journal.append(b"staged too").unwrap(), 3);
    seam.allow_all();
    assert_reads(&journal, &[&b"committed"[..], b"staged", b"staged too"].map(<[u8]>::to_vec));
}

#[test]
fn a_close_that_cannot_write_says_what_is_lost() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let options = options(SyncPolicy::OnDemand, &seam);
    let journal = options.open(&path).unwrap();
    journal.append(b"committed").unwrap();
    journal.flush().unwrap();
    journal.append(b"staged").unwrap();
    limit(&seam, journal.stats().committed_bytes);
    let error = journal.close().unwrap_err();
    let words = error.to_string();
    assert_eq!(code(&error), Some(ENOSPC));
    assert!(
        words.contains("close") && words.contains("lost") && words.contains(path.to_str().unwrap()),
        "{words}"
    );
    seam.allow_all();
    assert_reads(&options.open(&path).unwrap(), &[b"committed".to_vec()]);
}

#[test]
fn a_close_without_room_for_its_mark_succeeds() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::Always, &seam).open(&path).unwrap();
    journal.append(b"durable").unwrap();
    limit(&seam, journal.stats().committed_bytes + 7);
    journal.close().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 16 + 7, "and leaves no part of it");
    seam.allow_all();
    assert_reads(&options(SyncPolicy::Always, &seam).open(&path).unwrap(), &[b"durable".to_vec()]);
}

#[test]
fn a_refused_record_does_not_come_back_after_a_shorter_one() {
    for policy in POLICIES {
        let (_dir, path) = place();
        let seam = Seam::new();
        let journal = options(policy, &seam).open(&path).unwrap();
        // Every byte but the last gets in.
        seam.rule(|_, call| match call.written() {
            5016.. => Verdict::Short(5015),
            1 => Verdict::Fail(EIO),
            _ => Verdict::Proceed,
        });
        assert_eq!(code(&journal.append(&payload(1, 5000)).unwrap_err()), Some(EIO));
        assert_eq!(journal.append(b"short").unwrap(), 1);
        journal.sync().unwrap();
        assert_file(&journal, &[b"short".to_vec()], false);
        let sizes = std::fs::File::open(&path).unwrap();
        assert_eq!(sizes.read_at(&mut [0; 8], 21).unwrap(), 0, "nothing after it");
    }
}

#[test]
fn all_threads_that_wait_in_one_group_are_told_of_the_refusal() {
    const THREADS: u64 = 16;
    let (_dir, path) = place();
    let seam = Seam::new();
    let options = options(SyncPolicy::Always, &seam);
    let journal = options.open(&path).unwrap();
    seam.hold_syncs();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| journal.append(b"first"));
        seam.wait_held();
        let others: Vec<_> = (1..THREADS)
            .map(|thread| {
                let journal = &journal;
                scope.spawn(move || match thread % 3 {
                    0 => journal.append_batch([[1], [2]]).map(|range| *range.end()),
                    _ => journal.append(&thread.to_le_bytes()),
                })
            })
            .collect();
        until(|| journal.last_index() == THREADS + 5);
        seam.at_write(0, Verdict::Fail(ENOSPC));
        seam.release();
        assert_eq!(first.join().unwrap().unwrap(), 1);
        for other in others {
            let error = other.join().unwrap().unwrap_err();
            assert_eq!(code(&error), Some(ENOSPC), "{error}");
            assert!(matches!(error, Error::Io { op: "write", .. }), "{error}");
        }
    });
    assert_eq!((journal.last_index(), journal.durable_index()), (1, 1));
    assert_file(&journal, &[b"first".to_vec()], true);
    assert_eq!(journal.append(b"second").unwrap(), 2, "no holes");
    journal.close().unwrap();
    assert_reads(&options.open(&path).unwrap(), &[b"first".to_vec(), b"second".to_vec()]);
}

#[test]
fn what_was_staged_before_a_record_that_is_refused_is_refused_with_it_under_always() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::Always, &seam).open(&path).unwrap();
    seam.hold_syncs();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| journal.append(b"first"));
        seam.wait_held();
        let staged: Vec<_> = (0..4).map(|_| scope.spawn(|| journal.append(b"staged"))).collect();
        until(|| journal.last_index() == 5);
        // Its own write, which takes along what is staged, is the one that fails.
        seam.at_write(0, Verdict::Fail(EIO));
        let large = scope.spawn(|| journal.append(&payload(1, 10_000)));
        until(|| journal.last_index() == 1);
        seam.release();
        assert_eq!(first.join().unwrap().unwrap(), 1);
        assert_eq!(code(&large.join().unwrap().unwrap_err()), Some(EIO));
        for staged in staged {
            assert_eq!(code(&staged.join().unwrap().unwrap_err()), Some(EIO));
        }
    });
    assert_file(&journal, &[b"first".to_vec()], true);
    assert_eq!(journal.append(b"second").unwrap(), 2);
}

#[test]
fn a_truncation_that_comes_between_a_refusal_and_its_roll_back_acknowledges_nothing() {
    for _ in 0..20 {
        let (_dir, path) = place();
        let seam = Seam::new();
        let journal = options(SyncPolicy::Always, &seam).open(&path).unwrap();
        journal.append(b"kept").unwrap();
        journal.append(b"cut").unwrap();
        seam.hold_syncs();
        std::thread::scope(|scope| {
            let first = scope.spawn(|| journal.append(b"cut as well"));
            seam.wait_held();
            let staged: Vec<_> = (0..4).map(|_| scope.spawn(|| journal.append(b"staged"))).collect();
            until(|| journal.last_index() == 7);
            seam.at_write(0, Verdict::Fail(EIO));
            let large = scope.spawn(|| journal.append(&payload(1, 10_000)));
            until(|| journal.last_index() == 3);
            // The refusal wants the sync slot for its roll-back, and so does this, in whatever order.
            let cut = scope.spawn(|| journal.truncate_back(1));
            seam.release();
            assert_eq!(first.join().unwrap().unwrap(), 3, "it was durable before it was cut");
            cut.join().unwrap().unwrap();
            for refused in staged.into_iter().chain([large]) {
                assert_eq!(code(&refused.join().unwrap().unwrap_err()), Some(EIO));
            }
        });
        assert_file(&journal, &[b"kept".to_vec()], true);
        assert_eq!(journal.append(b"next").unwrap(), 2);
        assert_reads(&journal, &[b"kept".to_vec(), b"next".to_vec()]);
    }
}

#[test]
fn an_append_that_returned_an_index_has_its_record_there_however_many_others_are_refused() {
    for policy in [SyncPolicy::Always, SyncPolicy::OnDemand] {
        let (_dir, path) = place();
        let seam = Seam::new();
        let journal = options(policy, &seam).open(&path).unwrap();
        // Of the writes at the end of the file, but for marks, every other one fails.
        let writes = AtomicU64::new(0);
        seam.rule(move |_, call| match call.flags() {
            Some(flags) if flags & MARK == 0 && writes.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => {
                Verdict::Fail(ENOSPC)
            }
            _ => Verdict::Proceed,
        });
        let acknowledged = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8u64)
                .map(|thread| {
                    let journal = &journal;
                    scope.spawn(move || {
                        let mut acknowledged = Vec::new();
                        for round in 0..40 {
                            let len = if round % 8 == 7 { 5000 } else { 24 };
                            let bytes = payload(thread << 32 | round, len);
                            match journal.append(&bytes) {
                                Ok(n) => acknowledged.push((n, bytes)),
                                Err(error) => assert_eq!(code(&error), Some(ENOSPC), "{error}"),
                            }
                        }
                        acknowledged
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        seam.allow_all();
        let mut indexes: Vec<u64> = acknowledged.iter().map(|(n, _)| *n).collect();
        indexes.sort_unstable();
        assert!(
            indexes.iter().copied().eq(1..=journal.last_index()),
            "each index once, and no holes: {indexes:?}"
        );
        for (n, bytes) in &acknowledged {
            assert!(journal.read(*n).unwrap() == *bytes, "{policy:?}: record {n}");
        }
        assert!(!acknowledged.is_empty());
    }
}

#[test]
fn without_a_map_the_append_is_refused_and_nothing_is_written() {
    for policy in POLICIES {
        let (_dir, path) = place();
        let seam = Seam::new();
        let journal = options(policy, &seam).open(&path).unwrap();
        journal.append(b"before").unwrap();
        journal.flush().unwrap();
        let large = payload(1, 17 << 20);
        let half = &large[..9 << 20];
        seam.take();
        seam.fail(ENOMEM, Call::is_map);
        for error in [journal.append(&large).unwrap_err(), journal.append_batch([half, half]).unwrap_err()] {
            assert!(matches!(error, Error::Io { op: "map", .. }) && code(&error) == Some(12), "{error}");
        }
        assert!(seam.take().iter().all(|seen| !seen.call.is_write()));
        assert_eq!(journal.last_index(), 1);
        assert_eq!(journal.append(b"fits the map").unwrap(), 2);
        seam.allow_all();
        assert_eq!(journal.append(&large).unwrap(), 3);
        assert!(journal.read(3).unwrap() == large);
    }
}

#[test]
fn what_is_staged_waits_for_a_map_or_is_refused_under_always() {
    for policy in [SyncPolicy::OnDemand, SyncPolicy::Always] {
        let (_dir, path) = place();
        let seam = Seam::new();
        let journal = options(policy, &seam).open(&path).unwrap();
        // Up to ten bytes before the end of the first window.
        journal.append(&payload(1, (16 << 20) - 26)).unwrap();
        seam.fail(ENOMEM, Call::is_map);
        let appended = journal.append(b"crosses");
        if policy == SyncPolicy::OnDemand {
            assert_eq!(appended.unwrap(), 2);
            assert_eq!(code(&journal.flush().unwrap_err()), Some(12));
            assert_eq!(journal.last_index(), 2);
        } else {
            assert_eq!(code(&appended.unwrap_err()), Some(12));
            assert_eq!(journal.last_index(), 1);
            seam.allow_all();
            assert_eq!(journal.append(b"crosses").unwrap(), 2);
        }
        seam.allow_all();
        assert_eq!(journal.read(2).unwrap(), b"crosses");
    }
}

#[test]
fn without_a_map_nothing_was_written_so_nothing_is_taken_off() {
    for policy in POLICIES {
        let (_dir, path) = place();
        let seam = Seam::new();
        let journal = options(policy, &seam).open(&path).unwrap();
        // Up to ten bytes before the end of the first window.
        journal.append(&payload(1, (16 << 20) - 26)).unwrap();
        journal.sync().unwrap();
        seam.take();
        seam.fail(ENOMEM, Call::is_map);
        for _ in 0..10 {
            let refused = journal.append(b"crosses").and_then(|_| journal.flush());
            assert_eq!(code(&refused.unwrap_err()), Some(12), "{policy:?}");
        }
        let staged = if policy == SyncPolicy::Always { 0 } else { 10 };
        assert_eq!((journal.last_index(), journal.committed_index()), (1 + staged, 1));
        let seen = seam.take();
        assert!(seen.iter().all(|seen| seen.call.is_map()), "{policy:?}: {seen:?}");
        seam.allow_all();
        assert_eq!(journal.append(b"crosses").unwrap(), 2 + staged);
        journal.sync().unwrap();
        assert_eq!(journal.read(2).unwrap(), b"crosses");
    }
}

#[test]
fn where_no_window_can_be_mapped_what_is_needed_is() {
    let (_dir, path) = place();
    let seam = Seam::new();
    // Only what is asked for to the page, no window for more.
    seam.fail(ENOMEM, |call| matches!(call, Call::Map(len) if len % (1 << 20) == 0));
    let journal = options(SyncPolicy::OnDemand, &seam).open(&path).unwrap();
    for n in 1..=20 {
        journal.append(&payload(n, 6000)).unwrap();
        assert!(journal.read(n).unwrap() == payload(n, 6000));
    }
    let snapshot = journal.snapshot();
    assert!(snapshot.iter().all(|(n, bytes)| bytes == payload(n, 6000)));
}

#[test]
fn a_journal_that_cannot_be_mapped_is_not_opened_and_stays_as_it_is() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let options = options(SyncPolicy::OnDemand, &seam);
    options.open(&path).unwrap().append(b"a").unwrap();
    let before = std::fs::read(&path).unwrap();
    seam.fail(ENOMEM, Call::is_map);
    let error = options.open(&path).unwrap_err();
    assert!(matches!(error, Error::Io { op: "map", .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    seam.allow_all();
    assert_reads(&options.open(&path).unwrap(), &[b"a".to_vec()]);
}

/// A disk that is full and writes nothing in place, as one does that copies on write.
fn no_space_anywhere(seam: &Seam) {
    seam.fail(ENOSPC, Call::is_write);
}

/// Nothing of it was written: the mark is what it was.
#[test]
fn an_empty_journal_needs_no_room_to_stay_one() {
    for policy in POLICIES {
        let (_dir, path) = place();
        let seam = Seam::new();
        let journal = options(policy, &seam).open(&path).unwrap();
        let empty = std::fs::read(&path).unwrap();
        no_space_anywhere(&seam);
        for len in [5000, 0, 7] {
            let refused = journal.append(&payload(1, len)).and_then(|_| journal.flush());
            assert_eq!(code(&refused.unwrap_err()), Some(ENOSPC), "{policy:?}");
            assert_eq!(std::fs::read(&path).unwrap(), empty);
        }
        seam.allow_all();
        let next = journal.last_index() + 1;
        assert_eq!(journal.append(b"after").unwrap(), next);
        journal.close().unwrap();
        let journal = Options::new().recovery_policy(Recovery::Strict).open(&path).unwrap();
        assert_eq!(journal.read(next).unwrap(), b"after");
    }
}

/// The beginning got in, over the mark, and the mark does not any more. The first record of what was refused may be whole,
/// as an empty one always is: it must not come back. Nothing is left then, which every open takes for an empty journal.
#[test]
fn an_empty_journal_that_lost_its_mark_gets_it_again_before_anything_else() {
    for (first, short) in [(0, 16), (0, 40), (600, 17), (600, 616), (600, 1000), (600, 1), (5000, 15)] {
        for durable_cut in [false, true] {
            let (_dir, path) = place();
            let seam = Seam::new();
            let journal = options(SyncPolicy::Always, &seam).open(&path).unwrap();
            if durable_cut {
                journal.append(&payload(9, 6000)).unwrap();
                journal.truncate_back(0).unwrap();
            }
            let context = format!("{short} bytes of a batch that begins with {first}");
            seam.writes(move |at| if at == 0 { Verdict::Short(short) } else { Verdict::Fail(ENOSPC) });
            let batch = [payload(1, first), payload(2, 7000)];
            let error = journal.append_batch(&batch).unwrap_err();
            assert_eq!(code(&error), Some(ENOSPC), "{context}");
            assert_eq!(std::fs::read(&path).unwrap(), [0u8; 0], "{context}");
            // As a crash would leave it now, and as the next one finds it on the disk that is still full.
            let copy = path.with_extension("copy");
            std::fs::copy(&path, &copy).unwrap();
            assert_eq!(Options::new().recovery_policy(Recovery::Strict).open(&copy).unwrap().last_index(), 0);
            for bytes in [&b""[..], b"more"] {
                assert_eq!(code(&journal.append(bytes).unwrap_err()), Some(ENOSPC), "{context}");
                assert_eq!(
                    (journal.last_index(), std::fs::metadata(&path).unwrap().len()),
                    (0, 0),
                    "{context}"
                );
            }
            journal.flush().unwrap();
            journal.sync().unwrap();
            journal.close().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), [0u8; 0], "{context}");
            let journal = options(SyncPolicy::Always, &seam).create(false).open(&path).unwrap();
            assert_eq!(code(&journal.append(b"more").unwrap_err()), Some(ENOSPC), "{context}");
            assert_eq!(journal.last_index(), 0);

            // There is room: the mark is durable before a record takes its place.
            seam.allow_all();
            seam.take();
            assert_eq!(journal.append(b"after").unwrap(), 1);
            let seen: Vec<Call> = seam.take().into_iter().map(|seen| seen.call).collect();
            let [
                mark @ Call::Write { offset: 0, .. },
                Call::Sync,
                record @ Call::Write { offset: 0, .. },
                Call::Sync,
            ] = &seen[..]
            else {
                panic!("{context}: {seen:?}")
            };
            assert_eq!((mark.written(), record.written()), (16, 21), "{context}");
            assert_eq!(mark.flags().unwrap() & MARK, MARK);
            journal.close().unwrap();
            let journal = Options::new().recovery_policy(Recovery::Strict).open(&path).unwrap();
            assert_eq!((journal.last_index(), journal.read(1).unwrap()), (1, b"after".to_vec()));
        }
    }
}

/// What was staged has been acknowledged, so it waits for room under the policies that do not wait for the disk.
#[test]
fn what_is_staged_in_an_empty_journal_without_its_mark_waits_for_room() {
    for policy in [POLICIES[1], POLICIES[2]] {
        let (_dir, path) = place();
        let seam = Seam::new();
        let journal = options(policy, &seam).open(&path).unwrap();
        journal.append_batch([&b""[..], b"two"]).unwrap();
        seam.writes(|at| if at == 0 { Verdict::Short(16) } else { Verdict::Fail(ENOSPC) });
        for _ in 0..3 {
            assert_eq!(code(&journal.flush().unwrap_err()), Some(ENOSPC));
            assert_eq!(code(&journal.append(&payload(3, 5000)).unwrap_err()), Some(ENOSPC));
            assert_eq!((journal.last_index(), journal.committed_index()), (2, 0));
        }
        assert_eq!(std::fs::read(&path).unwrap(), [0u8; 0]);
        seam.allow_all();
        journal.append(b"three").unwrap();
        journal.close().unwrap();
        let journal = Options::new().recovery_policy(Recovery::Strict).open(&path).unwrap();
        assert_reads(&journal, &[Vec::new(), b"two".to_vec(), b"three".to_vec()]);
    }
}

/// The last record that stays has to leave its batch, which takes a write in place.
#[test]
fn a_truncation_into_a_batch_that_finds_no_room_changes_nothing() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::Always, &seam).open(&path).unwrap();
    let expected = [payload(1, 30), payload(2, 6000), payload(3, 9)];
    journal.append_batch(&expected).unwrap();
    let before = std::fs::read(&path).unwrap();
    no_space_anywhere(&seam);
    assert_eq!(code(&journal.truncate_back(1).unwrap_err()), Some(ENOSPC));
    assert_reads(&journal, &expected);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    seam.allow_all();
    journal.truncate_back(1).unwrap();
    journal.append(&expected[1]).unwrap();
    journal.close().unwrap();
    let journal = Options::new().recovery_policy(Recovery::Strict).open(&path).unwrap();
    assert_reads(&journal, &expected[..2]);
}
