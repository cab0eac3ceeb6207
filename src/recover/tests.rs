//! Each row of the table as an open of a real file, under each policy.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::error::Error;
use crate::file::seam::FileSeam;
use crate::format::Header;
use crate::inspect::State;
use crate::inspect::testing::{B, Built, BuiltFile, C};
use crate::walk::Walk;

impl BuiltFile {
    fn open(&self, options: &Options) -> Result<Recovered> {
        let (file, origin) = JournalFile::open(&self.path, true, FileSeam::of(options))?;
        recover(&file, origin, options)
    }
}

fn with(policy: Recovery) -> Options {
    Options::new().recovery_policy(policy).clone()
}

fn state(built: &Built) -> State {
    let file = BuiltFile::new(built);
    let inspection = Walk::inspect(&file.path).unwrap();
    let walk: Vec<_> = Walk::open(&file.path).unwrap().collect();
    assert_eq!(walk.iter().filter(|entry| entry.is_ok()).count() as u64, inspection.records);
    match (inspection.state, walk.last()) {
        (State::Clean, None | Some(Ok(_))) => {}
        // What an unfinished truncation keeps is whole, so the walk ends without an error.
        (State::Torn, None | Some(Ok(_))) => {
            assert_eq!(inspection.damage_offset, Some(inspection.good_bytes));
            let opened = BuiltFile::new(built).open(&Options::new()).unwrap();
            assert_eq!(opened.report.verdict, Verdict::TruncationFinished);
            assert_eq!(Some(opened.report.beyond), inspection.beyond);
        }
        (State::Torn | State::Corrupt, Some(Err(Error::Corrupt { offset, beyond, .. }))) => {
            assert_eq!((Some(*offset), *beyond), (inspection.damage_offset, inspection.beyond));
        }
        (State::NotAJournal, Some(Err(Error::NotAJournal { .. }))) => {}
        (State::Unsupported, Some(Err(Error::UnsupportedFormat { .. }))) => {}
        (state, last) => panic!("{state} but {last:?}"),
    }
    assert_eq!(file.bytes(), built.bytes);
    inspection.state
}

/// Opens the journal under a policy and expects a cut that leaves `left`, with a mark if it is sealed. Then opens it again.
#[track_caller]
fn expect_cut(built: &Built, policy: Recovery, left: &Built, sealed: bool, verdict: Verdict, whole: u64) {
    let file = BuiltFile::new(built);
    let opened = file.open(&with(policy)).unwrap();
    let report = &opened.report;
    assert_eq!((report.verdict, report.beyond.records), (verdict, whole), "{report}");
    assert_eq!((report.cut_offset, report.cut_bytes), (Some(left.len()), built.len() - left.len()));
    assert_eq!((opened.index.end(), report.bytes, opened.marked), (left.len(), left.len(), sealed));
    assert_eq!(file.bytes(), if sealed { left.clone().closed().bytes } else { left.bytes.clone() });
    let keeps = (whole > 0 || verdict == Verdict::DamageCut || report.beyond.at_least)
        && verdict != Verdict::TruncationFinished;
    assert_eq!(report.quarantine.is_some(), keeps, "{report}");
    if let Some(path) = &report.quarantine {
        assert_eq!(path, &file.path.with_file_name(format!("j.cut-{}", left.len())));
        assert_eq!(std::fs::read(path).unwrap(), built.bytes[left.bytes.len()..]);
    }
    let again = file.open(&with(Recovery::Strict));
    if sealed || left.len() > 0 {
        let again = again.unwrap();
        assert_eq!((again.report.verdict, again.report.records), (Verdict::Clean, report.records));
        assert_eq!(again.marked, sealed);
    }
}

#[track_caller]
fn expect_refusal(built: &Built, policy: Recovery, matches: impl Fn(&Error) -> bool) {
    let file = BuiltFile::new(built);
    let error = file.open(&with(policy)).unwrap_err();
    assert!(matches(&error), "{error}");
    assert_eq!(file.bytes(), built.bytes, "the file was touched");
    assert_eq!(file.files(), 1);
}

#[track_caller]
fn expect_torn(built: &Built, left: &Built, sealed: bool, whole: u64) {
    assert_eq!(state(built), State::Torn);
    expect_cut(built, Recovery::TornTail, left, sealed, Verdict::TornTail, whole);
    expect_cut(built, Recovery::FirstInvalid, left, sealed, Verdict::TornTail, whole);
    expect_refusal(built, Recovery::Strict, |error| matches!(error, Error::Corrupt { .. }));
}

#[track_caller]
fn expect_corrupt(built: &Built, left: &Built, x: Boundary, expected: Beyond, whole: u64) {
    assert_eq!(state(built), State::Corrupt);
    for policy in [Recovery::TornTail, Recovery::Strict] {
        expect_refusal(built, policy, |error| match error {
            Error::Corrupt { offset, index, beyond, .. } => {
                assert_eq!((*offset, *index, *beyond), (x.offset, x.next, Some(expected)));
                true
            }
            _ => false,
        });
    }
    expect_cut(built, Recovery::FirstInvalid, left, true, Verdict::DamageCut, whole);
}

#[track_caller]
fn expect_finished(built: &Built, left: &Built, whole: u64) {
    assert_eq!(state(built), State::Torn);
    for policy in [Recovery::TornTail, Recovery::Strict, Recovery::FirstInvalid] {
        expect_cut(built, policy, left, true, Verdict::TruncationFinished, whole);
    }
}

const ALL: [Recovery; 3] = [Recovery::TornTail, Recovery::Strict, Recovery::FirstInvalid];

fn abc() -> Built {
    Built::sealed(&[(b"a", B), (b"b", 0), (b"c", 0)])
}

#[test]
fn a_new_file_begins_as_a_mark() {
    for before in [0, 16, 100, 4096] {
        let built = Built::sealed(&[]).zeros(before);
        assert_eq!(state(&built), State::Clean);
        for policy in ALL {
            let file = BuiltFile::new(&built);
            let opened = file.open(&with(policy)).unwrap();
            assert_eq!((opened.report.verdict, opened.marked), (Verdict::New, true));
            assert_eq!((opened.index.last(), opened.index.end()), (0, 0));
            assert_eq!(file.bytes(), Header::mark(0, 0).encode());
            assert_eq!(file.open(&with(policy)).unwrap().report.verdict, Verdict::Clean);
        }
    }
}

#[test]
fn a_new_reference_file_stays_empty_and_zeros_are_its_records() {
    let options = Options::new().new_file_format(Format::Reference).clone();
    let opened = BuiltFile::new(&Built::reference(&[])).open(&options).unwrap();
    assert_eq!((opened.format, opened.marked, opened.index.end()), (Format::Reference, false, 0));
    let opened = BuiltFile::new(&Built::reference(&[b"", b"", b""])).open(&options).unwrap();
    assert_eq!((opened.report.verdict, opened.index.last()), (Verdict::Clean, 3));
    let file = BuiltFile::new(&Built::reference(&[b"", b"", b""]).zeros(5));
    let opened = file.open(&options).unwrap();
    assert_eq!((opened.report.verdict, file.bytes().len()), (Verdict::TornTail, 48));
}

#[test]
fn row_1_what_is_not_a_journal_is_left_alone() {
    let text = b"Dear diary, this is not a journal of the kind that you think it is.\n".repeat(200);
    let mut files: Vec<Vec<u8>> = (1..16).map(|n| vec![0; n]).collect();
    files.extend((1..16).map(|n| b"0123456789abcdef"[..n].to_vec()));
    files.extend([text, vec![0; 4097], vec![0; 1 << 20], vec![0xFF; 64]]);
    files.push(Built::reference(&[b""]).raw(b"and then text").bytes);
    for bytes in files {
        let built = Built::sealed(&[]).raw(&bytes);
        assert_eq!(state(&built), State::NotAJournal);
        for policy in ALL {
            expect_refusal(&built, policy, |error| matches!(error, Error::NotAJournal { .. }));
        }
    }
}

#[test]
fn row_1_yields_to_a_caller_that_forces_the_reference_format() {
    let forced =
        Options::new().new_file_format(Format::Reference).recovery_policy(Recovery::FirstInvalid).clone();
    let with_records = Built::new(Format::Reference).raw(b"junk at the front").record(b"whole", 0);
    for (built, left, whole) in [
        (Built::reference(&[]).raw(b"plain text, which is no journal"), 0, 0),
        (with_records, 0, 1),
        (Built::reference(&[b""]).raw(b"and then text, also not one"), 16, 0),
        (Built::reference(&[]).raw(b"short"), 0, 0),
    ] {
        let file = BuiltFile::new(&built);
        let opened = file.open(&forced).unwrap();
        assert_eq!((opened.report.verdict, opened.report.beyond.records), (Verdict::DamageCut, whole));
        assert_eq!(file.bytes(), built.bytes[..left]);
        assert_eq!(std::fs::read(opened.report.quarantine.unwrap()).unwrap(), built.bytes[left..]);
        for refused in
            [with(Recovery::FirstInvalid), Options::new().new_file_format(Format::Reference).clone()]
        {
            let file = BuiltFile::new(&built);
            assert!(matches!(file.open(&refused), Err(Error::NotAJournal { .. })));
            assert_eq!(file.bytes(), built.bytes);
        }
    }
    // But not against a sealed header.
    let file = BuiltFile::new(&Built::sealed(&[]).raw(&[7; 20]).record(b"sealed", 0));
    assert_eq!(file.open(&forced).unwrap().format, Format::Sealed);
}

#[test]
fn row_2_a_newer_version_is_left_alone() {
    for built in [Built::sealed(&[]), abc(), Built::sealed(&[(b"a", C)]), Built::reference(&[b"a"])] {
        let newer = Header::sealed(built.len(), 3, 4, 1 << 5);
        let built = built.raw(&newer.encode()).raw(b"payload");
        assert_eq!(state(&built), State::Unsupported);
        for policy in ALL {
            expect_refusal(&built, policy, |error| matches!(error, Error::UnsupportedFormat { .. }));
        }
    }
}

#[test]
fn row_3_a_closed_journal_is_clean() {
    for (built, zeros) in [(abc(), 0), (abc(), 5000), (Built::sealed(&[]), 0), (Built::sealed(&[]), 40)] {
        let closed = built.clone().closed();
        assert_eq!(state(&closed), State::Clean);
        for policy in ALL {
            let file = BuiltFile::new(&closed.clone().zeros(zeros));
            let opened = file.open(&with(policy)).unwrap();
            assert_eq!((opened.report.verdict, opened.marked), (Verdict::Clean, true));
            assert_eq!((opened.report.cut_offset, opened.index.end()), (None, built.len()));
            assert_eq!(file.bytes(), closed.bytes);
        }
    }
}

#[test]
fn row_3_a_truncation_is_finished() {
    let ab = Built::sealed(&[(b"a", B), (b"b", 0)]);
    // Before ftruncate: the records to be removed are still whole.
    let before = abc().zeros(4096 - 51).mark(ab.len());
    expect_finished(&before, &ab, 1);
    // The file system wrote zeros from T to the end of its block, but not the new size.
    expect_finished(&ab.clone().zeros(4096 - 34).mark(ab.len()), &ab, 0);
    // Directly after the old end, and the new mark already lies at T.
    expect_finished(&abc().mark(ab.len()), &ab, 1);
    expect_finished(&ab.clone().closed().raw(b"c").zeros(100).mark(ab.len()), &ab, 0);
    // Neither barriers nor damage in what the truncation removes are reported as damage.
    let barriers = Built::sealed(&[(b"a", B), (b"b", 0), (b"c", B), (b"d", B)]);
    expect_finished(&barriers.clone().zeros(99).mark(ab.len()), &ab, 2);
    expect_finished(&barriers.clone().zeros(99).mark(ab.len()).damage(34 + 16), &ab, 1);
    // To nothing.
    expect_finished(&barriers.clone().mark(0), &Built::sealed(&[]), 4);
    expect_finished(&barriers.mark(0).damage(0).damage(12), &Built::sealed(&[]), 3);
    expect_finished(&Built::sealed(&[]).zeros(4096).mark(0), &Built::sealed(&[]), 0);
}

#[test]
fn row_3_a_truncation_inside_a_batch_ends_the_batch_there() {
    let left = Built::sealed(&[(b"a", B), (b"b", B), (b"c", 0)]);
    let batch = Built::sealed(&[(b"a", B), (b"b", B | C), (b"c", C), (b"d", 0)]);
    let resealed = Built::sealed(&[(b"a", B), (b"b", B | C), (b"c", 0)]);
    expect_finished(&batch.clone().zeros(64).mark(51), &resealed, 1);
    let first = Built::sealed(&[(b"a", B), (b"b", B)]);
    expect_finished(&batch.clone().zeros(64).mark(34), &first, 2);
    // The new seal was being written, and its bytes are neither the old ones nor the new. The record counts.
    let mut torn = Built::sealed(&[(b"a", B), (b"b", B | C), (b"c", C), (b"d", 0)]).zeros(64).mark(34);
    torn.bytes[17 + 13] ^= 0xFF;
    expect_finished(&torn, &first, 2);
    let mut torn = batch.zeros(64).mark(51);
    torn.bytes[34 + 12] = 1;
    expect_finished(&torn, &resealed, 1);
    assert_ne!(left.bytes, resealed.bytes);
}

#[test]
fn row_3_a_mark_in_a_payload_is_not_a_mark() {
    let inner = Header::mark(16, 0).encode();
    let built = Built::sealed(&[(&inner, B)]);
    let opened = BuiltFile::new(&built).open(&Options::new()).unwrap();
    assert_eq!((opened.report.verdict, opened.index.last()), (Verdict::Clean, 1));
    assert_eq!(state(&built), State::Clean);
    let inner = Header::mark(33 + 17, 17).encode();
    assert_eq!(state(&Built::sealed(&[(b"a", C), (b"b", 0), (&inner, 0)])), State::Clean);
    let inner = Header::mark(17 + 16, 17).encode();
    assert_eq!(state(&Built::sealed(&[(b"a", C), (&inner, C)])), State::Torn);
    assert_eq!(state(&Built::sealed(&[(b"a", C), (&inner, 0)])), State::Clean);
    let torn = built.clone().record(b"torn", 0).damage(built.len() + 17);
    expect_torn(&torn, &built, true, 0);
}

#[test]
fn row_4_damage_at_the_very_beginning_is_an_error() {
    let at = Boundary::START;
    let beyond = Beyond { records: 2, at_least: false, proof: None };
    let nothing = Built::sealed(&[]);
    expect_corrupt(&abc().damage(0), &nothing, at, beyond, 2);
    expect_corrupt(&abc().damage(15), &nothing, at, beyond, 2);
    let mut zeroed = abc();
    zeroed.bytes[..16].fill(0);
    expect_corrupt(&zeroed, &nothing, at, beyond, 2);
    let mut zeroed = abc();
    zeroed.bytes[12..17].fill(0);
    expect_corrupt(&zeroed, &nothing, at, beyond, 2);
    // A gap that contradicts itself.
    let gap = Built::sealed(&[]).gap(100, 7).record(b"h", 0);
    expect_corrupt(&gap.damage(17), &nothing, at, Beyond { records: 1, ..beyond }, 1);
}

#[test]
fn row_5_damage_before_a_barrier_is_an_error() {
    let built = Built::sealed(&[(b"a", B), (b"b", 0), (b"c", 0), (b"d", B), (b"e", B)]);
    let a = Built::sealed(&[(b"a", B)]);
    let beyond = Beyond { records: 3, at_least: false, proof: Some(51) };
    for at in [17, 25, 29, 33] {
        expect_corrupt(&built.clone().damage(at), &a, Boundary { next: 2, offset: 17 }, beyond, 3);
    }
    // In a batch the cut is where the batch begins, so its whole records are cut as well.
    let built = Built::sealed(&[(b"a", B), (b"b", C), (b"c", 0), (b"d", B)]).damage(50);
    let beyond = Beyond { records: 1, at_least: false, proof: Some(51) };
    expect_corrupt(&built, &a, Boundary { next: 3, offset: 34 }, beyond, 2);
    // A damaged length does not hide the records after it.
    let built = Built::sealed(&[(b"a", B), (b"b", 0), (b"c", B)]).damage(17 + 7);
    expect_corrupt(&built, &a, Boundary { next: 2, offset: 17 }, Beyond { proof: Some(34), ..beyond }, 1);
}

#[test]
fn row_5_a_closed_journal_is_protected_to_its_last_byte() {
    let ab = Built::sealed(&[(b"a", B), (b"b", 0)]);
    let closed = abc().closed();
    let beyond = Beyond { records: 0, at_least: false, proof: Some(51) };
    expect_corrupt(&closed.damage(50), &ab, Boundary { next: 3, offset: 34 }, beyond, 0);
}

#[test]
fn row_6_preallocated_zeros_are_cut_and_not_reported() {
    for zeros in [1, 15, 16, 4096, 100_000] {
        let built = abc().zeros(zeros);
        assert_eq!(state(&built), State::Clean);
        for policy in ALL {
            let file = BuiltFile::new(&built);
            let opened = file.open(&with(policy)).unwrap();
            let report = opened.report;
            assert_eq!((report.verdict, report.cut_offset, report.cut_bytes), (Verdict::Clean, None, 0));
            assert_eq!((file.bytes(), opened.marked), (abc().closed().bytes, true));
            assert_eq!(file.files(), 1);
        }
    }
}

#[test]
fn row_7_a_clean_end_is_left_as_it_is() {
    for (built, first, last) in [
        (abc(), 1, 3),
        (Built::sealed(&[]).gap(1000, 41), 42, 41),
        (Built::sealed(&[]).gap(1000, 41).record(b"x", B), 42, 42),
        (Built::sealed(&[]).gap(9, 1).record(b"x", B), 2, 2),
        (Built::sealed(&[]).gap(0, 1), 2, 1),
        (Built::reference(&[b"a", b"", b"c"]), 1, 3),
        (Built::reference(&[b"", b"", b"c", b""]), 1, 4),
    ] {
        assert_eq!(state(&built), State::Clean);
        for policy in ALL {
            let file = BuiltFile::new(&built);
            let opened = file.open(&with(policy)).unwrap();
            let report = opened.report;
            assert_eq!(
                (report.verdict, report.first_index, report.last_index),
                (Verdict::Clean, first, last)
            );
            assert_eq!((opened.index.end(), opened.marked), (built.len(), false));
            assert_eq!(file.bytes(), built.bytes);
        }
    }
}

#[test]
fn rows_8_and_9_a_batch_counts_whole_or_not_at_all() {
    let a = Built::sealed(&[(b"a", B)]);
    let batch = a.clone().record(b"b", B | C).record(b"c", C);
    expect_torn(&a.clone().record(b"b", C), &a, true, 1);
    expect_torn(&batch, &a, true, 2);
    expect_torn(&batch.clone().zeros(4096), &a, true, 2);
    expect_torn(&batch.clone().zeros(3), &a, true, 2);
    expect_torn(&batch.clone().record(b"d", 0).damage(51), &a, true, 2);
    expect_torn(&Built::sealed(&[(b"a", C)]), &Built::sealed(&[]), true, 1);
}

#[test]
fn row_9_a_torn_tail_is_cut() {
    let (ab, abc) = (Built::sealed(&[(b"a", B), (b"b", 0)]), abc());
    for cut in 1..17 {
        let mut torn = abc.clone();
        torn.bytes.truncate(51 - cut);
        expect_torn(&torn, &ab, true, 0);
    }
    for fragment in 1..16 {
        expect_torn(&abc.clone().raw(&[0xEE; 16][..fragment]), &abc, true, 0);
    }
    // A copy of the whole records after it is kept.
    expect_torn(&abc.clone().damage(17 + 16), &Built::sealed(&[(b"a", B)]), true, 1);
    // A length that no file has.
    let header = Header::sealed(51, 1 << 63, 1, B);
    expect_torn(&abc.clone().raw(&header.encode()), &abc, true, 0);
    // The first record of a journal, and a record over the mark of a new one.
    let mut first = Built::sealed(&[(b"the first", B)]);
    first.bytes.truncate(20);
    expect_torn(&first, &Built::sealed(&[]), true, 0);
    expect_torn(&Built::sealed(&[]).mark(0).raw(b"payload of what came"), &Built::sealed(&[]), true, 0);
    // After a gap.
    let gap = Built::sealed(&[]).gap(500, 9);
    expect_torn(&gap.clone().raw(b"torn"), &gap, true, 0);
    // Records that another program appended in the other format.
    let other = Built::reference(&[b"theirs"]);
    let file = BuiltFile::new(&abc.clone().raw(&other.bytes));
    let report = file.open(&Options::new()).unwrap().report;
    assert_eq!(std::fs::read(report.quarantine.unwrap()).unwrap(), other.bytes);
}

#[test]
fn row_10_a_reference_journal_is_cut_at_the_first_invalid_record() {
    let ab = Built::reference(&[b"a", b"b"]);
    expect_torn(&ab.clone().raw(b"fragment"), &ab, false, 0);
    expect_torn(&ab.clone().raw(&[1; 40]), &ab, false, 0);
    let damaged = ab.clone().record(b"c", 0).record(b"d", 0).damage(34 + 16);
    expect_torn(&damaged, &ab, false, 1);
    expect_torn(&ab.clone().raw(&Header::reference(1 << 63, 1).encode()), &ab, false, 0);
}

#[test]
fn row_10_a_sealed_journal_whose_first_seal_is_lost_is_damaged() {
    let mut built = abc();
    built.bytes[12..16].fill(0);
    assert_eq!(state(&built), State::Corrupt);
    expect_refusal(&built, Recovery::TornTail, |error| matches!(error, Error::Corrupt { .. }));
}

#[test]
fn a_spent_search_is_no_torn_tail() {
    let mut built = abc().raw(&[0xEE; 5]);
    let len = 1 << 20;
    while built.len() + 16 <= len {
        let header = Header::sealed(built.len(), len - built.len() - 16, 1, 0);
        built = built.raw(&header.encode());
    }
    built = built.raw(&[0xEE; 16]);
    built.bytes.truncate(len as usize);
    assert_eq!(state(&built), State::Corrupt);
    expect_refusal(&built, Recovery::TornTail, |error| {
        matches!(error, Error::Corrupt { beyond: Some(Beyond { at_least: true, .. }), .. })
    });
    expect_cut(&built, Recovery::FirstInvalid, &abc(), true, Verdict::DamageCut, 0);
}

#[test]
fn a_quarantine_file_never_replaces_another() {
    let built = abc().raw(b"torn");
    let file = BuiltFile::new(&built);
    let always = Options::new().quarantine(true).clone();
    for name in ["j.cut-51", "j.cut-51-1", "j.cut-51-2"] {
        std::fs::write(&file.path, &built.bytes).unwrap();
        let report = file.open(&always).unwrap().report;
        let path = report.quarantine.unwrap();
        assert_eq!(path, file.path.with_file_name(name));
        assert_eq!(std::fs::read(path).unwrap(), b"torn");
    }
}

#[test]
fn a_stopped_open_leaves_the_file_alone() {
    for built in [Built::sealed(&[]), abc(), abc().raw(b"torn"), Built::sealed(&[]).zeros(16)] {
        for calls in [0, 1] {
            let file = BuiltFile::new(&built);
            let count = AtomicUsize::new(0);
            let stop = Options::new()
                .on_progress(move |_| match count.fetch_add(1, Ordering::Relaxed) == calls {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                })
                .clone();
            assert!(matches!(file.open(&stop), Err(Error::Stopped)));
            assert_eq!(file.bytes(), built.bytes);
            std::fs::remove_file(&file.path).unwrap();
            assert!(matches!(file.open(&stop), Err(Error::Stopped)) || calls < 2);
        }
    }
    let missing = BuiltFile::new(&abc());
    std::fs::remove_file(&missing.path).unwrap();
    let stop = Options::new().on_progress(|_| ControlFlow::Break(())).clone();
    assert!(matches!(stop.open(&missing.path), Err(Error::Stopped)));
    assert_eq!(missing.files(), 0);
}

#[test]
fn progress_is_reported_at_the_beginning_in_between_and_at_the_end() {
    let built = Built::sealed(&[]).many(20_000);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    let options = Options::new()
        .on_progress(move |progress| {
            into.lock().unwrap().push((progress.bytes, progress.total_bytes, progress.records));
            ControlFlow::Continue(())
        })
        .clone();
    BuiltFile::new(&built).open(&options).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.first(), Some(&(0, built.len(), 0)));
    assert_eq!(seen.last(), Some(&(built.len(), built.len(), 20_000)));
    assert!(seen.is_sorted());
    assert!(seen.len() as u64 > built.len() / (6 << 20));
}

#[test]
fn progress_is_reported_within_a_long_record() {
    let built = Built::sealed(&[(&vec![1; 40 << 20], 0)]);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let options = Options::new()
        .on_progress(move |_| match counted.fetch_add(1, Ordering::Relaxed) {
            5 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .clone();
    assert!(matches!(BuiltFile::new(&built).open(&options), Err(Error::Stopped)));
    assert_eq!(calls.load(Ordering::Relaxed), 6);
}

#[test]
fn a_walk_yields_a_batch_only_when_it_is_whole() {
    let long = vec![5u8; 3 << 20];
    let built = Built::sealed(&[(b"a", B), (&long, C), (b"", C), (&long, 0), (b"e", C)]);
    let file = BuiltFile::new(&built);
    let entries: Vec<_> = Walk::open(&file.path).unwrap().collect();
    assert_eq!(entries.len(), 5);
    for (entry, (index, payload)) in entries.iter().zip([(1, &b"a"[..]), (2, &long), (3, b""), (4, &long)]) {
        let entry = entry.as_ref().unwrap();
        assert_eq!((entry.index, entry.crc), (index, crc32fast::hash(payload)));
        assert_eq!(entry.payload, payload);
    }
    let x = built.len();
    assert!(matches!(entries[4], Err(Error::Corrupt { offset, index: 6, .. }) if offset == x));
}

#[test]
fn a_walk_waits_for_a_writer() {
    let file = BuiltFile::new(&abc().raw(b"half of a head"));
    let path = file.path.clone();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(30));
        std::fs::write(path, abc().record(b"d", 0).bytes).unwrap();
    });
    let entries: Result<Vec<_>> = Walk::open(&file.path).unwrap().collect();
    writer.join().unwrap();
    assert_eq!(entries.unwrap().len(), 4);
}

#[cfg(feature = "__seam")]
mod seams {
    use super::*;
    use crate::seam::{Op, Role, Seam, Verdict as Answer};

    /// Fails what the closure picks.
    struct Refuse<F>(F);

    impl<F: Fn(Role, &Op<'_>) -> Option<i32> + Send + Sync> Seam for Refuse<F> {
        fn before(&self, role: Role, op: &Op<'_>) -> Answer {
            (self.0)(role, op).map_or(Answer::Proceed, Answer::Fail)
        }
    }

    fn refusing(refuse: impl Fn(Role, &Op<'_>) -> Option<i32> + Send + Sync + 'static) -> Options {
        Options::new().quarantine(true).seam(Arc::new(Refuse(refuse))).clone()
    }

    const ENOSPC: i32 = 28;
    const EIO: i32 = 5;

    #[test]
    fn without_a_quarantine_file_nothing_is_cut() {
        let built = abc().raw(b"torn");
        for failing in 0..3 {
            let file = BuiltFile::new(&built);
            let options = refusing(move |role, op| match (failing, role, op) {
                (0, Role::Quarantine, Op::Write { .. }) => Some(ENOSPC),
                (1, Role::Quarantine, Op::Sync) => Some(EIO),
                (2, Role::Directory, Op::Sync) => Some(EIO),
                _ => None,
            });
            assert!(matches!(file.open(&options), Err(Error::Io { .. })));
            assert_eq!((file.bytes(), file.files()), (built.bytes.clone(), 1));
        }
    }

    #[test]
    fn a_full_disk_leaves_a_cut_journal_without_its_mark() {
        let file = BuiltFile::new(&abc().raw(b"torn"));
        let options =
            refusing(|role, op| (role == Role::Journal && matches!(op, Op::Write { .. })).then_some(ENOSPC));
        let opened = file.open(&options).unwrap();
        assert_eq!((opened.marked, opened.index.end()), (false, 51));
        assert_eq!(file.bytes(), abc().bytes);
    }

    #[test]
    fn a_creation_that_fails_leaves_nothing() {
        for failing in 0..3 {
            let options = refusing(move |role, op| match (failing, role, op) {
                (0, Role::Journal, Op::Write { .. }) => Some(ENOSPC),
                (1, Role::Journal, Op::Sync) => Some(EIO),
                (2, Role::Directory, Op::Sync) => Some(EIO),
                _ => None,
            });
            let file = BuiltFile::new(&abc());
            std::fs::remove_file(&file.path).unwrap();
            assert!(matches!(options.open(&file.path), Err(Error::Io { .. })));
            assert_eq!(file.files(), 0);
        }
    }

    #[test]
    fn a_failed_sync_is_reported() {
        let options = refusing(|role, op| (role == Role::Journal && matches!(op, Op::Sync)).then_some(EIO));
        for built in [abc(), abc().closed(), abc().zeros(40), abc().raw(b"torn")] {
            let file = BuiltFile::new(&built);
            assert!(matches!(file.open(&options), Err(Error::Io { op: "sync", .. })));
            assert_eq!(file.bytes(), built.bytes);
        }
    }
}
