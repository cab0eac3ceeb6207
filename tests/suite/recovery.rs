//! P1 and P6 at open: every row of the recovery table under every policy, as a program meets it: what `open` says,
//! what is left of the file, what is kept beside it, and that the journal goes on from there.

use crate::common;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::built::{BARRIER, Built, CONTINUED};
use common::disk::Disk;
use common::fast_dir;
use common::rng::Rng;
use common::seam::Seam;
use wally::{Error, Format, IndexMode, Journal, Options, Recovery, State, SyncPolicy, Verdict, Walk};

const ALL: [Recovery; 3] = [Recovery::TornTail, Recovery::FirstInvalid, Recovery::Strict];

struct Case {
    dir: tempfile::TempDir,
    path: PathBuf,
    built: Built,
}

impl Case {
    fn new(built: &Built) -> Self {
        let dir = fast_dir();
        let path = dir.path().join("case.wally");
        std::fs::write(&path, &built.0).unwrap();
        Self { dir, path, built: built.clone() }
    }

    fn open(&self, policy: Recovery) -> wally::Result<Journal> {
        Options::new().sync_policy(SyncPolicy::OnDemand).recovery_policy(policy).open(&self.path)
    }

    #[track_caller]
    fn untouched(&self) {
        assert_eq!(std::fs::read(&self.path).unwrap(), self.built.0, "the file was touched");
        assert_eq!(std::fs::read_dir(self.dir.path()).unwrap().count(), 1, "another file appeared");
    }

    fn state(&self) -> State {
        let state = Walk::inspect(&self.path).unwrap().state;
        self.untouched();
        state
    }
}

fn payloads(journal: &Journal) -> Vec<Vec<u8>> {
    (journal.first_index()..=journal.last_index()).map(|n| journal.read(n).unwrap()).collect()
}

/// The journal holds these records, takes another, and holds all of them when it is opened again.
#[track_caller]
fn goes_on(case: &Case, journal: Journal, expected: &[&[u8]]) {
    assert_eq!(payloads(&journal), expected);
    assert_eq!(journal.durable_index(), journal.last_index(), "what is served is durable");
    let (first, format) = (journal.first_index(), journal.format());
    let next = journal.append(b"and on").unwrap();
    assert_eq!(next, first + expected.len() as u64);
    journal.close().unwrap();
    let again = case.open(Recovery::Strict).unwrap();
    assert_eq!((again.recovery().verdict, again.format()), (Verdict::Clean, format));
    let all: Vec<&[u8]> = expected.iter().copied().chain([&b"and on"[..]]).collect();
    assert_eq!(payloads(&again), all);
    assert_eq!(again.first_index(), first);
}

/// Every policy opens it, cuts nothing that anyone wrote, and says so.
#[track_caller]
fn clean(built: &Built, verdict: Verdict, expected: &[&[u8]]) {
    assert_eq!(Case::new(built).state(), State::Clean);
    for policy in ALL {
        let case = Case::new(built);
        let journal = case.open(policy).unwrap();
        let report = journal.recovery();
        assert_eq!((report.verdict, report.cut_offset, &report.quarantine), (verdict, None, &None));
        assert_eq!((report.records, report.cut_bytes), (expected.len() as u64, 0));
        goes_on(&case, journal, expected);
    }
}

/// These policies cut it at `at`, where `whole` whole records are lost, and they are in a file then, unless the user had
/// asked to remove them.
#[track_caller]
fn cut(built: &Built, policies: &[Recovery], verdict: Verdict, at: u64, whole: u64, expected: &[&[u8]]) {
    for &policy in policies {
        let case = Case::new(built);
        let journal = case.open(policy).unwrap();
        let report = journal.recovery().clone();
        assert_eq!((report.verdict, report.cut_offset), (verdict, Some(at)), "{policy:?}: {report}");
        assert_eq!((report.cut_bytes, report.bytes), (built.len() - at, at));
        assert_eq!(report.beyond.records, whole, "{report}");
        match &report.quarantine {
            Some(path) => {
                assert_ne!(verdict, Verdict::TruncationFinished, "{report}");
                assert_eq!(std::fs::read(path).unwrap(), built.0[at as usize..]);
            }
            None => assert!(
                verdict == Verdict::TruncationFinished || whole == 0 && verdict != Verdict::DamageCut,
                "nothing was kept: {report}"
            ),
        }
        goes_on(&case, journal, expected);
    }
}

#[track_caller]
fn torn(built: &Built, at: u64, whole: u64, expected: &[&[u8]]) {
    assert_eq!(Case::new(built).state(), State::Torn);
    cut(built, &[Recovery::TornTail, Recovery::FirstInvalid], Verdict::TornTail, at, whole, expected);
    let case = Case::new(built);
    assert!(matches!(case.open(Recovery::Strict), Err(Error::Corrupt { .. })));
    case.untouched();
}

/// Damage at `x`, in the place of record `index`; an open that gives up what follows cuts at `at`.
#[track_caller]
fn corrupt(built: &Built, x: u64, index: u64, at: u64, whole: u64, expected: &[&[u8]]) {
    assert_eq!(Case::new(built).state(), State::Corrupt);
    for policy in [Recovery::TornTail, Recovery::Strict] {
        let case = Case::new(built);
        match case.open(policy) {
            Err(Error::Corrupt { offset, index: n, .. }) => assert_eq!((offset, n), (x, index)),
            other => panic!("{other:?}"),
        }
        case.untouched();
    }
    cut(built, &[Recovery::FirstInvalid], Verdict::DamageCut, at, whole, expected);
}

fn abc() -> Built {
    Built::new().sealed(b"a", BARRIER).sealed(b"b", 0).sealed(b"c", 0)
}

#[test]
fn row_1_what_is_no_journal_is_refused_and_left_alone() {
    let text = "It was a bright cold day in April, and the clocks were striking thirteen.\n".repeat(99);
    let mut files = vec![text.into_bytes(), vec![0; 4097], vec![0xFF; 4096], b"\x7fELF".repeat(9)];
    files.extend((1..16).flat_map(|len| [vec![0; len], vec![b'x'; len]]));
    for bytes in files {
        let built = Built(bytes);
        assert_eq!(Case::new(&built).state(), State::NotAJournal);
        for policy in ALL {
            let case = Case::new(&built);
            assert!(matches!(case.open(policy), Err(Error::NotAJournal { .. })));
            case.untouched();
        }
    }
}

#[test]
fn row_1_a_creation_that_crashed_is_new() {
    for zeros in [0, 16, 512, 4096] {
        clean(&Built::new().zeros(zeros), Verdict::New, &[]);
    }
}

#[test]
fn row_2_a_newer_version_is_refused_and_left_alone() {
    for built in [Built::new(), abc(), Built::new().sealed(b"a", CONTINUED)] {
        let built = built.clone().header(4, 5, 1 << 6).raw(b"more");
        assert_eq!(Case::new(&built).state(), State::Unsupported);
        for policy in ALL {
            let case = Case::new(&built);
            assert!(matches!(case.open(policy), Err(Error::UnsupportedFormat { .. })));
            case.untouched();
        }
    }
}

#[test]
fn row_3_a_closed_journal_is_clean() {
    clean(&abc().closed(), Verdict::Clean, &[b"a", b"b", b"c"]);
    clean(&abc().closed().zeros(9), Verdict::Clean, &[b"a", b"b", b"c"]);
    clean(&Built::new().closed(), Verdict::Clean, &[]);
}

#[test]
fn row_3_a_truncation_is_finished() {
    let finished = |built: &Built, at, whole, expected: &[&[u8]]| {
        assert_eq!(Case::new(built).state(), State::Torn);
        cut(built, &ALL, Verdict::TruncationFinished, at, whole, expected);
    };
    finished(&abc().zeros(4096 - 51).mark(34), 34, 1, &[b"a", b"b"]);
    finished(&abc().sealed(b"d", BARRIER).zeros(4096 - 68).mark(17), 17, 3, &[b"a"]);
    finished(&Built::new().sealed(b"a", BARRIER).zeros(4096 - 17).mark(17), 17, 0, &[b"a"]);
    finished(&abc().mark(0), 0, 3, &[]);
    // Into a batch: what is left of it is whole.
    let batch = Built::new().sealed(b"a", BARRIER | CONTINUED).sealed(b"b", CONTINUED).sealed(b"c", 0);
    finished(&batch.clone().zeros(80).mark(34), 34, 1, &[b"a", b"b"]);
    // The seal of the batch's new last record was half written.
    finished(&batch.zeros(80).mark(34).damaged(17 + 14), 34, 1, &[b"a", b"b"]);
}

#[test]
fn row_4_damage_in_the_first_header_is_an_error() {
    for at in [0, 8, 13] {
        corrupt(&abc().damaged(at), 0, 1, 0, 2, &[]);
    }
    let mut zeroed = abc();
    zeroed.0[..17].fill(0);
    corrupt(&zeroed, 0, 1, 0, 2, &[]);
}

#[test]
fn row_5_damage_before_what_was_durable_is_an_error() {
    let built = abc().sealed(b"d", BARRIER).sealed(b"e", 0);
    for at in [17, 24, 25, 30, 33] {
        corrupt(&built.clone().damaged(at), 17, 2, 17, 3, &[b"a"]);
    }
    corrupt(&abc().closed().damaged(50), 34, 3, 34, 0, &[b"a", b"b"]);
    let batch = Built::new().sealed(b"a", 0).sealed(b"b", CONTINUED).sealed(b"c", 0).sealed(b"d", BARRIER);
    corrupt(&batch.damaged(50), 34, 3, 17, 2, &[b"a"]);
}

#[test]
fn row_6_preallocated_zeros_are_cut_quietly() {
    for zeros in [1, 15, 16, 4096, 70_000] {
        clean(&abc().zeros(zeros), Verdict::Clean, &[b"a", b"b", b"c"]);
    }
}

#[test]
fn row_7_a_clean_end() {
    clean(&abc(), Verdict::Clean, &[b"a", b"b", b"c"]);
    clean(&Built::gap(64, 7), Verdict::Clean, &[]);
    clean(&Built::gap(64, 7).sealed(b"h", BARRIER), Verdict::Clean, &[b"h"]);
    clean(&Built::new().reference(b"a").reference(b"").reference(b"c"), Verdict::Clean, &[b"a", b"", b"c"]);
    let case = Case::new(&Built::gap(64, 7).sealed(b"h", BARRIER));
    let journal = case.open(Recovery::Strict).unwrap();
    assert_eq!((journal.first_index(), journal.last_index()), (8, 8));
}

#[test]
fn rows_8_and_9_a_batch_is_there_whole_or_not_at_all() {
    let built = Built::new().sealed(b"a", BARRIER).sealed(b"b", CONTINUED).sealed(b"c", CONTINUED);
    torn(&built, 17, 2, &[b"a"]);
    torn(&built.clone().zeros(100), 17, 2, &[b"a"]);
    torn(&built.clone().raw(b"half a header"), 17, 2, &[b"a"]);
    torn(&built.sealed(b"d", 0).damaged(60), 17, 2, &[b"a"]);
}

#[test]
fn row_9_a_torn_tail_is_cut() {
    for len in 1..16 {
        torn(&abc().raw(&[7; 15][..len]), 51, 0, &[b"a", b"b", b"c"]);
    }
    torn(&abc().damaged(50), 34, 0, &[b"a", b"b"]);
    torn(&abc().damaged(33), 17, 1, &[b"a"]);
    torn(&abc().header(1 << 63, 0, BARRIER), 51, 0, &[b"a", b"b", b"c"]);
    torn(&Built::new().mark(0).raw(b"the first record's second sector"), 0, 0, &[]);
}

#[test]
fn row_10_a_reference_journal_is_cut_at_the_first_invalid_record() {
    let ab = Built::new().reference(b"a").reference(b"b");
    for len in 1..16 {
        torn(&ab.clone().raw(&[7; 15][..len]), 34, 0, &[b"a", b"b"]);
    }
    torn(&ab.clone().reference(b"c").damaged(50), 34, 0, &[b"a", b"b"]);
    torn(&ab.reference(b"c").damaged(33), 17, 1, &[b"a"]);
}

#[test]
fn row_10_only_a_caller_that_asks_twice_gets_a_file_cut_that_is_no_journal() {
    let built = Built::new().raw(b"a header of sorts").reference(b"a");
    for (format, policy) in [
        (Format::Sealed, Recovery::FirstInvalid),
        (Format::Reference, Recovery::TornTail),
        (Format::Reference, Recovery::Strict),
    ] {
        let case = Case::new(&built);
        let opened = Options::new().new_file_format(format).recovery_policy(policy).open(&case.path);
        assert!(matches!(opened, Err(Error::NotAJournal { .. })));
        case.untouched();
    }
    let case = Case::new(&built);
    let mut options = Options::new();
    let journal = options
        .new_file_format(Format::Reference)
        .recovery_policy(Recovery::FirstInvalid)
        .open(&case.path)
        .unwrap();
    let report = journal.recovery();
    assert_eq!((report.verdict, report.cut_offset), (Verdict::DamageCut, Some(0)));
    assert_eq!(std::fs::read(report.quarantine.as_ref().unwrap()).unwrap(), built.0);
    assert_eq!(journal.format(), Format::Reference);
}

#[test]
fn every_cut_is_kept_if_asked_for_and_no_file_is_overwritten() {
    let built = abc().raw(b"torn");
    let case = Case::new(&built);
    for name in ["case.wally.cut-51", "case.wally.cut-51-1", "case.wally.cut-51-2"] {
        std::fs::write(&case.path, &built.0).unwrap();
        let journal = Options::new().quarantine(true).open(&case.path).unwrap();
        let kept = case.dir.path().join(name);
        assert_eq!(journal.recovery().quarantine.as_ref(), Some(&kept));
        assert_eq!(std::fs::read(kept).unwrap(), b"torn");
    }
}

#[test]
fn what_a_truncation_was_to_remove_is_not_kept_even_if_every_cut_is() {
    for policy in ALL {
        let case = Case::new(&abc().zeros(4096 - 51).mark(17));
        let journal = Options::new().recovery_policy(policy).quarantine(true).open(&case.path).unwrap();
        let report = journal.recovery();
        assert_eq!((report.verdict, report.cut_offset), (Verdict::TruncationFinished, Some(17)));
        assert_eq!((report.cut_bytes, report.beyond.records), (4096 + 16 - 17, 2));
        assert_eq!(report.quarantine, None);
        assert_eq!(std::fs::read_dir(case.dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn an_open_that_is_told_to_stop_has_changed_nothing() {
    for built in [abc(), abc().raw(b"torn"), abc().zeros(4096).mark(17)] {
        let case = Case::new(&built);
        let calls = Arc::new(AtomicUsize::new(0));
        for last in 0..2 {
            calls.store(0, Ordering::Relaxed);
            let calls = Arc::clone(&calls);
            let opened = Options::new()
                .on_progress(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
                    call if call == last => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                })
                .open(&case.path);
            assert!(matches!(opened, Err(Error::Stopped)));
            case.untouched();
        }
    }
}

/// What a program writes, with a sync after the first half.
fn written(dir: &std::path::Path) -> (Vec<u8>, Vec<Vec<u8>>, u64) {
    let path = dir.join("written.wally");
    let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(&path).unwrap();
    let records: Vec<Vec<u8>> = (0..24usize).map(|n| vec![n as u8; n * 5 % 31]).collect();
    for record in &records[..12] {
        journal.append(record).unwrap();
    }
    journal.sync().unwrap();
    let durable = journal.data_range(12).unwrap().end;
    for record in &records[12..] {
        journal.append(record).unwrap();
    }
    journal.flush().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    (bytes, records, durable)
}

#[test]
fn cut_anywhere_a_journal_opens_with_a_prefix() {
    let dir = fast_dir();
    let (bytes, records, _) = written(dir.path());
    for len in 16..bytes.len() {
        let case = Case::new(&Built(bytes[..len].to_vec()));
        let journal = case.open(Recovery::TornTail).unwrap();
        let found = payloads(&journal);
        assert_eq!(found, records[..found.len()], "cut to {len}");
        let next = found.len() as u64 + 1;
        assert!(journal.data_range(next - 1).map_or(0, |range| range.end) <= len as u64);
        assert_eq!(journal.append(b"next").unwrap(), next);
    }
}

#[test]
fn damaged_anywhere_a_journal_opens_with_a_prefix_or_says_where() {
    let dir = fast_dir();
    let (bytes, records, durable) = written(dir.path());
    for at in 0..bytes.len() {
        let built = Built(bytes.clone()).damaged(at);
        let case = Case::new(&built);
        match case.open(Recovery::TornTail) {
            Ok(journal) => {
                assert!(at as u64 >= durable, "damage at {at} was durable and went unnoticed");
                let found = payloads(&journal);
                assert_eq!(found, records[..found.len()]);
                let kept = journal.recovery().quarantine.as_ref().map(|path| std::fs::read(path).unwrap());
                // All but the damaged record are found: in the journal, or kept beside it.
                assert_eq!(found.len() as u64 + journal.recovery().beyond.records, 23, "damage at {at}");
                assert_eq!(kept.is_some(), found.len() < 23);
            }
            Err(Error::Corrupt { offset, .. }) => {
                assert!(offset <= at as u64 && (at as u64) < durable, "damage at {at} was called durable");
                case.untouched();
            }
            Err(error) => panic!("damage at {at}: {error}"),
        }
    }
}

#[test]
fn every_index_mode_recovers_alike() {
    let built = (0..5000u32).fold(Built::new(), |built, n| built.sealed(&n.to_le_bytes(), 0));
    let built = built.sealed(b"lost", CONTINUED).raw(b"torn");
    for mode in [
        IndexMode::Full,
        IndexMode::Sparse(1),
        IndexMode::Sparse(7),
        IndexMode::Sparse(4096),
        IndexMode::Scan,
    ] {
        let case = Case::new(&built);
        let journal = Options::new().index(mode).sync_policy(SyncPolicy::OnDemand).open(&case.path).unwrap();
        assert_eq!(journal.append(b"next").unwrap(), 5001);
        for n in [1, 2, 4095, 4096, 4097, 5000] {
            assert_eq!(journal.read(n).unwrap(), ((n - 1) as u32).to_le_bytes(), "{mode:?}");
        }
        assert_eq!(journal.read(5001).unwrap(), b"next");
    }
}

/// Whatever a power cut leaves of a recovery, the next one comes to the same end.
#[test]
fn a_recovery_that_loses_power_is_finished_by_the_next() {
    // Long enough that what is cut spans blocks, and the cut lies in the midst of one.
    let long = |n: u8| vec![n; 3000];
    let journal =
        || (0..4).fold(Built::new(), |built, n| built.sealed(&long(n), if n % 3 == 0 { BARRIER } else { 0 }));
    let at = |n: usize| 3016 * n;
    let batch = Built::new().sealed(b"a", BARRIER).sealed(&long(1), CONTINUED).sealed(&long(2), 0);
    let cases = [
        (journal().raw(&long(9)), Recovery::TornTail, 4),
        (journal().sealed(&long(4), 0).damaged(at(4) + 99), Recovery::TornTail, 4),
        (journal().zeros(9000), Recovery::Strict, 4),
        (journal().damaged(at(1) + 99), Recovery::FirstInvalid, 1),
        (journal().damaged(at(1) + 3), Recovery::FirstInvalid, 1),
        (journal().damaged(3), Recovery::FirstInvalid, 0),
        (journal().zeros(16_384 - at(4)).mark(at(2) as u64), Recovery::Strict, 2),
        (journal().zeros(16_384 - at(4)).mark(0), Recovery::Strict, 0),
        (batch.zeros(8192 - 6049).mark(17 + 3016), Recovery::Strict, 2),
        (journal().sealed(&long(4), CONTINUED), Recovery::TornTail, 4),
        (Built::new().sealed(&long(0), CONTINUED), Recovery::TornTail, 0),
        (Built::new().zeros(4096), Recovery::Strict, 0),
    ];
    let rng = &mut Rng::new(7);
    for (number, (built, policy, records)) in cases.iter().enumerate() {
        let case = Case::new(built);
        let seam = Seam::new();
        let mut options = Options::new();
        options.recovery_policy(*policy).seam(seam.clone());
        let expected = payloads(&options.open(&case.path).unwrap());
        assert_eq!(expected.len(), *records, "case {number}");
        let events = seam.take_changes();
        let mut disk = Disk::holding(&built.0);
        let image = case.dir.path().join("image.wally");
        for (cut, event) in events.iter().enumerate() {
            disk.apply(event);
            for _ in 0..60 {
                let mut sectors = Rng::new(rng.next());
                let size = rng.next() as usize;
                let bytes = disk.image(|_, n| sectors.below(n), |n| size % n);
                std::fs::write(&image, &bytes).unwrap();
                let again =
                    Options::new().recovery_policy(*policy).sync_policy(SyncPolicy::OnDemand).open(&image);
                let again = again.unwrap_or_else(|error| panic!("case {number}, event {cut}: {error}"));
                assert_eq!(payloads(&again), expected, "case {number}, event {cut}");
            }
        }
    }
}

/// A file pieced together from whole records, marks, zeros and noise, some of it damaged or cut off.
fn pieced(rng: &mut Rng) -> Built {
    let mut built = match rng.below(8) {
        0 => Built::gap(rng.range(16, 300), 1 + rng.below(9) as u64),
        _ => Built::new(),
    };
    let reference = rng.below(5) == 0;
    for _ in 0..rng.below(12) {
        let len = [0, 1, 16, rng.below(900)][rng.below(4)];
        let payload = if rng.below(3) == 0 { vec![0; len] } else { rng.bytes(len) };
        let end = rng.below(built.0.len() + 1) as u64;
        built = match rng.below(24) {
            0 => built.zeros(len),
            1 => built.raw(&payload),
            2 => built.mark(end),
            3 => built.closed(),
            4 => {
                let inner = Built::new().zeros(built.0.len() + 16).sealed(&payload, BARRIER).mark(end);
                let from = built.0.len() + 16;
                built.sealed(&inner.0[from..], 0)
            }
            5 => built.header(rng.next() >> rng.below(64), 1, rng.next() as u8),
            _ if reference => built.reference(&payload),
            flags => built.sealed(&payload, [0, 0, 0, BARRIER, CONTINUED, BARRIER | CONTINUED][flags % 6]),
        };
    }
    if rng.below(3) == 0 && built.len() > 0 {
        let at = rng.below(built.0.len());
        built = built.damaged(at);
    }
    if rng.below(3) == 0 {
        let cut = rng.below(built.0.len().min(64) + 1);
        built.0.truncate(built.0.len() - cut);
    }
    match rng.below(3) {
        0 => built.zeros(5000),
        1 => {
            let end = rng.below(built.0.len() + 1) as u64;
            built.zeros(77).mark(end)
        }
        _ => built,
    }
}

/// No file makes any of the ways to read it panic; they agree on what it holds, and whatever an open leaves is clean.
#[test]
fn whatever_the_file_all_ways_to_read_it_agree() {
    let check = |seed: u64| {
        let built = pieced(&mut Rng::new(seed));
        let case = Case::new(&built);
        let inspection = Walk::inspect(&case.path).unwrap();
        let walked: Vec<_> = Walk::open(&case.path).unwrap().collect();
        let (entries, errors): (Vec<_>, Vec<_>) = walked.into_iter().partition(Result::is_ok);
        let entries: Vec<_> =
            entries.into_iter().flatten().map(|entry| (entry.index, entry.payload)).collect();
        assert_eq!(entries.len() as u64, inspection.records, "seed {seed}: {inspection}");
        case.untouched();
        let opened = case.open(Recovery::TornTail);
        // What stays of a truncation to finish is whole, so the walk has nothing to complain of.
        let finished = opened.as_ref().is_ok_and(|j| j.recovery().verdict == Verdict::TruncationFinished);
        let complains = inspection.state != State::Clean && !finished;
        assert_eq!(errors.len(), usize::from(complains), "seed {seed}: {inspection}");
        match (inspection.state, opened) {
            (State::Clean | State::Torn, Ok(journal)) => {
                let found: Vec<_> = (journal.first_index()..).zip(payloads(&journal)).collect();
                assert_eq!(found, entries, "seed {seed}");
                assert_eq!(journal.first_index(), inspection.first_index, "seed {seed}");
                assert_eq!(journal.recovery().bytes, inspection.good_bytes, "seed {seed}");
                let cuts = [Verdict::TornTail, Verdict::TruncationFinished];
                assert_eq!(inspection.state == State::Torn, cuts.contains(&journal.recovery().verdict));
            }
            (State::Corrupt, Err(Error::Corrupt { beyond, .. })) => {
                assert!(beyond.is_some() && beyond == inspection.beyond, "seed {seed}");
                case.untouched();
                let journal = case.open(Recovery::FirstInvalid).unwrap();
                let found: Vec<_> = (journal.first_index()..).zip(payloads(&journal)).collect();
                assert_eq!(found, entries, "seed {seed}");
            }
            (State::NotAJournal, Err(Error::NotAJournal { .. })) => return case.untouched(),
            (State::Unsupported, Err(Error::UnsupportedFormat { .. })) => return case.untouched(),
            (state, opened) => panic!("seed {seed}: {state} but {opened:?}"),
        }
        let again = Options::new().recovery_policy(Recovery::Strict).open(&case.path);
        match again {
            Ok(again) => {
                assert_eq!((again.last_index(), again.recovery().cut_bytes), { (inspection.last_index, 0) })
            }
            Err(error) => panic!("seed {seed}: {error} after {inspection}"),
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || (0..60).for_each(|n| check(thread * 60 + n)));
        }
    });
}
