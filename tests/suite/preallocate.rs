//! Preallocated zeros: which journals are followed by them and when, that no record is lost to them, that no append waits
//! for them or is refused because of them, and that they are gone where the journal is closed or cut.

use crate::common;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::seam::{Call, EIO, ENOSPC, Seam};
use common::{payload, place_in_memory as place};
use wally::seam::Verdict as Answer;
use wally::{Error, Format, Journal, Options, State, SyncPolicy, Verdict, Walk};

const STEP: u64 = 64 << 10;
/// The background thread stays out of it.
const INTERVAL: SyncPolicy = SyncPolicy::Interval(Duration::from_secs(1 << 20));

fn options(policy: SyncPolicy) -> Options {
    let mut options = Options::new();
    options.sync_policy(policy).buffer_size(4096);
    options
}

/// Opens a new journal, or one that is to be cleared, and has it past the first few syncs, which write no zeros. It is
/// empty.
fn open(options: &Options, path: &Path) -> Journal {
    let journal = options.open(path).unwrap();
    common::past_the_first_syncs(&journal);
    journal
}

fn len(journal: &Journal) -> u64 {
    std::fs::metadata(journal.path()).unwrap().len()
}

/// How many bytes lie after the committed records, all of which are zeros.
fn zeros(journal: &Journal) -> u64 {
    let file = std::fs::read(journal.path()).unwrap();
    let behind = &file[journal.stats().committed_bytes as usize..];
    assert!(behind.iter().all(|&byte| byte == 0), "more than zeros after the records");
    behind.len() as u64
}

/// The file ends with the mark of the records' end.
fn assert_marked(path: &Path, end: u64) {
    let file = std::fs::read(path).unwrap();
    assert_eq!(file.len() as u64, end + 16);
    assert!(file.ends_with(&common::built::mark(end, end)));
}

fn assert_reads(journal: &Journal, expected: &[Vec<u8>]) {
    assert_eq!(journal.last_index(), expected.len() as u64);
    for (n, bytes) in (1..).zip(expected) {
        assert!(journal.read(n).unwrap() == *bytes, "record {n}");
    }
}

#[test]
fn zeros_follow_the_records_of_a_sealed_journal_under_always_and_interval() {
    for (policy, format, asked, expected) in [
        (SyncPolicy::Always, Format::Sealed, None, STEP),
        (INTERVAL, Format::Sealed, None, STEP),
        (SyncPolicy::Always, Format::Sealed, Some(1000), 1000),
        (SyncPolicy::Always, Format::Sealed, Some(0), 0),
        (SyncPolicy::OnDemand, Format::Sealed, None, 0),
        (SyncPolicy::Always, Format::Reference, None, 0),
        (INTERVAL, Format::Reference, None, 0),
    ] {
        let (_dir, path) = place();
        let mut options = options(policy);
        options.new_file_format(format);
        if let Some(bytes) = asked {
            options.preallocate(bytes);
        }
        let journal = open(&options, &path);
        assert!(len(&journal) <= 16, "no zeros before there is something to sync");
        journal.append(b"one").unwrap();
        journal.sync().unwrap();
        assert_eq!(zeros(&journal), expected, "{policy:?} {format:?} {asked:?}");
        assert_eq!(journal.stats().preallocated_bytes, expected);
    }
}

#[test]
fn a_journal_that_gets_only_a_few_records_is_followed_by_no_zeros() {
    let (_dir, path) = place();
    let journal = options(SyncPolicy::Always).open(&path).unwrap();
    let mut with_zeros = 0;
    for _ in 0..20 {
        journal.append(b"one").unwrap();
        with_zeros += u64::from(zeros(&journal) > 0);
    }
    assert_eq!(with_zeros, 12, "of 20 appends 8 go without");
}

#[test]
fn zeros_are_written_before_the_sync_that_makes_them_durable_and_only_when_the_last_are_used_up() {
    for policy in [SyncPolicy::Always, INTERVAL] {
        let (_dir, path) = place();
        let seam = Seam::new();
        let journal = open(options(policy).preallocate(1000).seam(seam.clone()), &path);
        let mut rounds = Vec::new();
        for salt in 0..16 {
            seam.take();
            journal.append(&payload(salt, 184)).unwrap();
            journal.sync().unwrap();
            let asked = seam.take().into_iter().map(|seen| match seen.call {
                Call::Write { .. } => 'w',
                Call::Extend(_) => 'z',
                Call::Sync => 's',
                other => panic!("{other:?}"),
            });
            rounds.push(asked.collect::<String>());
        }
        // After the first record of 200 bytes the zeros take five more.
        let expected: Vec<_> = (0..16).map(|at| if at % 6 == 0 { "wzs" } else { "ws" }).collect();
        assert_eq!(rounds, expected, "{policy:?}");
    }
}

#[test]
fn closing_removes_the_zeros_and_leaves_a_mark() {
    for policy in [SyncPolicy::Always, INTERVAL] {
        for dropped in [false, true] {
            let (_dir, path) = place();
            let journal = open(&options(policy), &path);
            journal.append(b"one").unwrap();
            journal.sync().unwrap();
            assert_eq!(zeros(&journal), STEP);
            // Under `Interval` this one is still staged.
            journal.append(b"two").unwrap();
            if dropped {
                drop(journal)
            } else {
                journal.close().unwrap()
            }
            assert_marked(&path, 38);
            assert_eq!(options(policy).open(&path).unwrap().recovery().verdict, Verdict::Clean);
        }
    }
}

#[test]
fn no_zeros_are_written_that_the_close_would_remove_at_once() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = open(options(INTERVAL).seam(seam.clone()), &path);
    seam.take();
    journal.append(b"one").unwrap();
    journal.close().unwrap();
    assert!(seam.take().iter().all(|seen| !seen.call.is_extend() && !seen.call.is_truncate()));
}

#[test]
fn a_cut_removes_the_zeros_and_later_there_are_zeros_again() {
    let (_dir, path) = place();
    let journal = open(&options(SyncPolicy::Always), &path);
    for salt in 0..10 {
        journal.append(&payload(salt, 84)).unwrap();
    }
    for (keep, end) in [(5, 500), (4, 400), (0, 0)] {
        assert!(zeros(&journal) > 0);
        journal.truncate_back(keep).unwrap();
        assert_marked(&path, end);
        assert_eq!(journal.stats().preallocated_bytes, 0);
        journal.append(&payload(keep, 84)).unwrap();
        assert_eq!(zeros(&journal), STEP);
    }
}

#[test]
fn a_poisoned_journal_has_no_zeros() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = open(options(SyncPolicy::Always).seam(seam.clone()), &path);
    journal.append(&payload(1, 84)).unwrap();
    let mut syncs = 0;
    seam.rule(move |_, call| {
        syncs += usize::from(call.is_sync());
        if call.is_sync() && syncs == 1 { Answer::Fail(EIO) } else { Answer::Proceed }
    });
    journal.append(&payload(2, 84)).unwrap_err();
    assert!(matches!(journal.append(b"no"), Err(Error::Poisoned { .. })));
    assert_marked(&path, 100);
}

#[test]
fn a_crash_leaves_zeros_that_are_clean_and_cut_quietly() {
    let (_dir, path) = place();
    let journal = open(&options(SyncPolicy::Always), &path);
    journal.append_batch(["one", "two"]).unwrap();
    let copy = path.with_extension("copy");
    std::fs::copy(&path, &copy).unwrap();
    let again = Options::new().quarantine(true).recovery_policy(wally::Recovery::Strict).open(&copy).unwrap();
    let report = again.recovery();
    assert_eq!((report.verdict, report.records, report.bytes), (Verdict::Clean, 2, 38));
    assert_eq!((report.cut_offset, &report.quarantine), (None, &None));
    assert_marked(&copy, 38);
}

#[test]
fn a_journal_in_use_is_clean_to_programs_that_only_read() {
    let (_dir, path) = place();
    let journal = open(&options(SyncPolicy::Always), &path);
    for n in 1..=50u64 {
        journal.append(&n.to_le_bytes()).unwrap();
        if n % 10 == 0 {
            let walked: Vec<_> = Walk::open(&path).unwrap().map(|entry| entry.unwrap().index).collect();
            assert_eq!(walked, (1..=n).collect::<Vec<_>>());
        }
    }
    assert!(zeros(&journal) > 0);
    let inspection = Walk::inspect(&path).unwrap();
    assert_eq!((inspection.state, inspection.records), (State::Clean, 50));
    assert_eq!((inspection.good_bytes, inspection.file_bytes), (50 * 24, len(&journal)));
    for command in ["verify", "info", "cat", "ls"] {
        let output = Command::new(env!("CARGO_BIN_EXE_wally")).arg(command).arg(&path).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
}

#[test]
fn appends_and_flushes_go_on_while_zeros_are_written_and_lose_nothing_to_them() {
    for large in [false, true] {
        let (_dir, path) = place();
        let seam = Seam::new();
        let journal = open(options(INTERVAL).seam(seam.clone()), &path);
        let mut expected = vec![payload(0, 50)];
        journal.append(&expected[0]).unwrap();
        seam.hold_one(|_, call| call.is_extend());
        std::thread::scope(|scope| {
            let syncing = scope.spawn(|| journal.sync());
            seam.wait_held();
            for salt in 1..40 {
                expected.push(payload(salt, if large { 5000 } else { 300 }));
                journal.append(&expected[salt as usize]).unwrap();
                journal.flush().unwrap();
            }
            assert_eq!((journal.committed_index(), journal.durable_index()), (40, 0));
            assert_eq!(journal.stats().preallocated_bytes, 0);
            seam.release();
            syncing.join().unwrap().unwrap();
        });
        assert_reads(&journal, &expected);
        assert!(zeros(&journal) > 0);
        let copy = path.with_extension("copy");
        std::fs::copy(&path, &copy).unwrap();
        assert_reads(&options(INTERVAL).open(&copy).unwrap(), &expected);
    }
}

#[test]
fn zeros_never_take_the_place_of_what_other_threads_write() {
    const THREADS: u64 = 4;
    // Not in memory: it is the file system that keeps them apart.
    let (_dir, path) = common::place();
    // Few zeros, so that they are written all the time, and records that go out directly and from the buffer.
    let journal = options(SyncPolicy::Always).preallocate(20_000).open(&path).unwrap();
    let content = |salt: u64| payload(salt, [30, 5000, 700, 9000][salt as usize % 4]);
    let mut indexes = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (journal, content) = (&journal, &content);
                scope.spawn(move || {
                    let salts = (0..300).map(|n| thread + n * THREADS);
                    salts.map(|salt| (journal.append(&content(salt)).unwrap(), salt)).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    indexes.sort_unstable();
    let expected: Vec<_> = indexes.iter().map(|&(_, salt)| content(salt)).collect();
    assert_reads(&journal, &expected);
    journal.close().unwrap();
    assert_reads(&options(SyncPolicy::Always).open(&path).unwrap(), &expected);
}

#[test]
fn zeros_that_do_not_fit_are_no_error_are_removed_and_not_tried_again_at_every_append() {
    for (largest, attempts) in [(1 << 20, 1..=1), (4096, 3..=7)] {
        for partly in [false, true] {
            let (_dir, path) = place();
            let seam = Seam::new();
            let journal = open(options(SyncPolicy::Always).preallocate(largest).seam(seam.clone()), &path);
            let (mut flip, mut tried) = (false, 0);
            let counted = Arc::new(Mutex::new(0));
            let count = counted.clone();
            seam.rule(move |_, call| {
                if !call.is_extend() {
                    return Answer::Proceed;
                }
                flip = partly && !flip;
                if flip {
                    return Answer::Short(1000);
                }
                tried += 1;
                *count.lock().unwrap() = tried;
                Answer::Fail(ENOSPC)
            });
            let expected: Vec<_> = (0..200).map(|salt| payload(salt, 100)).collect();
            for (n, bytes) in (1..).zip(&expected) {
                assert_eq!(journal.append(bytes).unwrap(), n);
                assert_eq!(journal.durable_index(), n);
                assert_eq!((zeros(&journal), journal.stats().preallocated_bytes), (0, 0));
            }
            let tried = *counted.lock().unwrap();
            assert!(attempts.contains(&tried), "{tried} attempts in steps of {largest}");
            assert_reads(&journal, &expected);
            journal.close().unwrap();
            assert_reads(&options(SyncPolicy::Always).open(&path).unwrap(), &expected);
        }
    }
}

/// A disk for a file of `capacity` bytes on which what is overwritten needs as much space as what is new.
fn copy_on_write(seam: &Seam, path: &Path, capacity: u64) {
    let path = path.to_owned();
    seam.rule(move |_, call| {
        let used = std::fs::metadata(&path).unwrap().len();
        match *call {
            // A mark is small enough.
            ref call if call.written() > 16 && used + call.written() as u64 > capacity => {
                Answer::Fail(ENOSPC)
            }
            Call::Extend(len) if used + len > capacity => {
                Answer::Short(capacity.saturating_sub(used) as usize)
            }
            _ => Answer::Proceed,
        }
    });
}

#[test]
fn a_record_that_fits_without_the_zeros_is_not_refused_because_of_them() {
    type Append = fn(&Journal, usize) -> wally::Result<()>;
    let ways: [(u64, usize, Append); 4] = [
        // Directly, alone and as a batch; from the buffer, under both policies.
        (STEP + 1000, 20_000, |journal, len| journal.append(&payload(7, len)).map(drop)),
        (STEP + 1000, 20_000, |journal, len| journal.append_batch([payload(7, len)]).map(drop)),
        (STEP + 1000, 2000, |journal, len| journal.append(&payload(7, len)).map(drop)),
        (STEP + 1000, 2000, |journal, len| {
            journal.append(&payload(7, len)).unwrap();
            journal.flush()
        }),
    ];
    for (at, (capacity, len, append)) in ways.into_iter().enumerate() {
        let policy = if at == 3 { INTERVAL } else { SyncPolicy::Always };
        let (_dir, path) = place();
        let seam = Seam::new();
        let journal = open(options(policy).seam(seam.clone()), &path);
        journal.append(b"before").unwrap();
        journal.sync().unwrap();
        assert_eq!(zeros(&journal), STEP);
        copy_on_write(&seam, &path, capacity);
        append(&journal, len).unwrap();
        let mut expected = vec![b"before".to_vec(), payload(7, len)];
        assert_eq!(zeros(&journal), 0, "the zeros made room");
        assert_reads(&journal, &expected);
        // What does not fit even so is refused, and leaves no trace.
        let error = journal.append(&payload(8, capacity as usize)).unwrap_err();
        assert!(
            matches!(&error, Error::Io { source, .. } if source.raw_os_error() == Some(ENOSPC)),
            "{error}"
        );
        assert_reads(&journal, &expected);
        assert_marked(&path, journal.stats().committed_bytes);
        seam.allow_all();
        journal.append(b"after").unwrap();
        expected.push(b"after".to_vec());
        journal.close().unwrap();
        assert_reads(&options(policy).open(&path).unwrap(), &expected);
    }
}

#[test]
fn heavy_syncs_write_no_zeros() {
    let (_dir, path) = place();
    let journal = open(&options(INTERVAL), &path);
    journal.append(&payload(1, 100 << 10)).unwrap();
    journal.sync().unwrap();
    assert_eq!(zeros(&journal), 0, "zeros would cost what they save");
    journal.append(&payload(2, 10)).unwrap();
    journal.sync().unwrap();
    assert_eq!(zeros(&journal), STEP);
}

/// Where what is written over is copied, zeros cost space and save nothing; but a caller gets what it asks for.
#[test]
fn file_systems_that_copy_on_write_get_no_zeros_unless_asked_for() {
    for (kind, bytes, default) in [("btrfs", 120 << 20, 0), ("ext4", 8 << 20, STEP), ("tmpfs", 8 << 20, STEP)]
    {
        let Some(mounted) = common::mounted::Mounted::new(kind, bytes) else { continue };
        for policy in [SyncPolicy::Always, INTERVAL] {
            for (asked, expected) in [(None, default), (Some(512 << 10), STEP), (Some(0), 0)] {
                let path = mounted.path("journal");
                let mut options = options(policy);
                if let Some(bytes) = asked {
                    options.preallocate(bytes);
                }
                let journal = open(&options, &path);
                journal.append(b"one").unwrap();
                journal.sync().unwrap();
                assert_eq!(zeros(&journal), expected, "{kind}, {policy:?}, asked for {asked:?}");
                assert_eq!(journal.stats().preallocated_bytes, expected);
                journal.close().unwrap();
                std::fs::remove_file(&path).unwrap();
            }
        }
    }
}
