//! A walk that goes on: each case is a file built by hand, changed as a writer, a crash or a damage would change it.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::inspect::testing::{B, Built, C};

struct Bench {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Bench {
    fn new(built: &Built) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.wally");
        fs::write(&path, &built.bytes).unwrap();
        Self { _dir: dir, path }
    }

    fn walk(&self) -> Walk {
        Walk::open(&self.path).unwrap()
    }

    /// The same file with other content.
    fn becomes(&self, built: &Built) {
        fs::write(&self.path, &built.bytes).unwrap();
    }
}

/// What comes until the walk ends: indexes and payloads, and the state it ends with.
fn rest(walk: &mut Walk) -> (Vec<(u64, String)>, State) {
    let mut found = Vec::new();
    while let Some(Ok(entry)) = walk.next() {
        found.push((entry.index, String::from_utf8(entry.payload).unwrap()));
    }
    assert!(walk.next().is_none(), "it has ended");
    (found, walk.state().expect("it has ended"))
}

#[track_caller]
fn ends(walk: &mut Walk, expected: &[(u64, &str)], state: State) {
    let (found, ended) = rest(walk);
    let found: Vec<_> = found.iter().map(|(n, payload)| (*n, payload.as_str())).collect();
    assert_eq!((found.as_slice(), ended), (expected, state));
}

/// It has nothing to look at.
#[track_caller]
fn unchanged(walk: &mut Walk) {
    assert_eq!(walk.resume().unwrap(), None);
    assert!(walk.next().is_none());
}

#[test]
fn what_is_appended_is_yielded_by_the_next_resume() {
    let one = Built::sealed(&[(b"one", B)]);
    let bench = Bench::new(&one.clone().closed());
    let mut walk = bench.walk();
    assert_eq!(walk.state(), None);
    ends(&mut walk, &[(1, "one")], State::Clean);
    unchanged(&mut walk);
    // Over the mark of the clean end, and before zeros written ahead.
    let two = one.record(b"two", B);
    bench.becomes(&two.clone().zeros(5000));
    assert_eq!(walk.resume().unwrap(), Some(2));
    assert_eq!(walk.state(), None, "it goes on");
    ends(&mut walk, &[(2, "two")], State::Clean);
    unchanged(&mut walk);
    let three = two.record(b"three", 0).record(b"four", 0);
    bench.becomes(&three.clone().zeros(4979));
    assert_eq!(walk.resume().unwrap(), Some(3));
    ends(&mut walk, &[(3, "three"), (4, "four")], State::Clean);
    bench.becomes(&three.closed());
    assert_eq!(walk.resume().unwrap(), Some(5));
    ends(&mut walk, &[], State::Clean);
    unchanged(&mut walk);
}

#[test]
fn an_empty_file_becomes_a_journal_under_the_walk() {
    for first in [Built::sealed(&[]), Built::sealed(&[]).zeros(100), Built::sealed(&[]).closed()] {
        let bench = Bench::new(&first);
        let mut walk = bench.walk();
        ends(&mut walk, &[], State::Clean);
        bench.becomes(&Built::sealed(&[(b"one", B)]));
        assert_eq!(walk.resume().unwrap(), Some(1));
        ends(&mut walk, &[(1, "one")], State::Clean);
    }
}

#[test]
fn a_torn_tail_is_told_once_and_yielded_when_it_is_whole() {
    let one = Built::sealed(&[(b"one", B)]);
    for (whole, yielded) in [
        (one.clone().record(b"two", 0), &[(2, "two")][..]),
        (one.clone().record(b"two", C).record(b"three", 0), &[(2, "two"), (3, "three")]),
    ] {
        for cut in one.len() as usize + 1..whole.bytes.len() {
            let mut torn = whole.clone();
            torn.bytes.truncate(cut);
            let bench = Bench::new(&torn);
            let mut walk = bench.walk();
            ends(&mut walk, &[(1, "one")], State::Torn);
            assert_eq!(walk.resume().unwrap(), None, "cut at {cut}");
            bench.becomes(&whole);
            assert_eq!(walk.resume().unwrap(), Some(2), "cut at {cut}");
            ends(&mut walk, yielded, State::Clean);
        }
    }
}

#[test]
fn a_write_that_ends_without_changing_length_or_time_is_seen() {
    let two = Built::sealed(&[(b"one", B), (b"two", 0)]).zeros(4096);
    let mut begun = two.clone();
    begun.bytes[35..38].fill(0);
    let bench = Bench::new(&begun);
    let mut walk = bench.walk();
    ends(&mut walk, &[(1, "one")], State::Torn);
    assert_eq!(walk.resume().unwrap(), None);
    let time = fs::metadata(&bench.path).unwrap().modified().unwrap();
    bench.becomes(&two);
    fs::File::options().write(true).open(&bench.path).unwrap().set_modified(time).unwrap();
    assert_eq!(walk.resume().unwrap(), Some(2));
    ends(&mut walk, &[(2, "two")], State::Clean);
}

#[test]
fn a_torn_tail_that_changes_to_another_is_told_again() {
    let one = Built::sealed(&[(b"one", B)]);
    let bench = Bench::new(&one.clone().raw(b"half"));
    let mut walk = bench.walk();
    ends(&mut walk, &[(1, "one")], State::Torn);
    bench.becomes(&one.raw(b"half of it"));
    assert_eq!(walk.resume().unwrap(), Some(2));
    assert!(matches!(walk.next(), Some(Err(Error::Corrupt { index: 2, .. }))));
    assert_eq!((walk.state(), walk.resume().unwrap()), (Some(State::Torn), None));
}

#[test]
fn damage_behind_zeros_is_told_when_the_file_has_another_length() {
    let one = Built::sealed(&[(b"one", B)]);
    let bench = Bench::new(&one.clone().zeros(4096));
    let mut walk = bench.walk();
    ends(&mut walk, &[(1, "one")], State::Clean);
    // The second record is lost, the third proves that it was there.
    let mut lost = one.record(b"two", 0).record(b"three", B).zeros(2000);
    lost.bytes[19..38].fill(0);
    bench.becomes(&lost);
    assert_eq!(walk.resume().unwrap(), Some(2));
    ends(&mut walk, &[], State::Corrupt);
    assert_eq!(walk.resume().unwrap(), None);
}

/// Records of one length, so that those that come back lie where those that went had been.
fn records(from: u64, to: u64, what: &str) -> Vec<String> {
    (from..=to).map(|n| format!("{what} {n:06}")).collect()
}

fn built(format: Format, payloads: &[String]) -> Built {
    let begin = Built::new(format);
    payloads.iter().fold(begin, |built, payload| built.record(payload.as_bytes(), 0))
}

#[test]
fn a_truncation_is_told_and_what_takes_its_place_is_yielded() {
    for format in [Format::Sealed, Format::Reference] {
        for kept in [0, 1, 2, 36, 99] {
            for new in [0, 1, 99 - kept, 100 - kept, 101 - kept] {
                let bench = Bench::new(&built(format, &records(1, 100, "old")));
                let mut walk = bench.walk();
                assert_eq!(rest(&mut walk).0.len(), 100);
                let mut payloads = records(1, kept, "old");
                payloads.extend(records(kept + 1, kept + new, "new"));
                bench.becomes(&built(format, &payloads));
                assert_eq!(walk.resume().unwrap(), Some(kept + 1), "{kept} kept, {new} new");
                let (found, state) = rest(&mut walk);
                let expected: Vec<_> = (kept + 1..).zip(records(kept + 1, kept + new, "new")).collect();
                assert_eq!((found, state), (expected, State::Clean));
                // An empty file is looked at each time: there is nothing in it to compare.
                if kept + new > 0 {
                    unchanged(&mut walk);
                }
            }
        }
    }
}

#[test]
fn a_record_that_lost_its_end_is_cut() {
    let two = Built::sealed(&[(b"one", B), (b"two", 0)]);
    let bench = Bench::new(&two);
    let mut walk = bench.walk();
    assert_eq!(rest(&mut walk).0.len(), 2);
    let mut torn = two.clone();
    torn.bytes.pop();
    bench.becomes(&torn);
    assert_eq!(walk.resume().unwrap(), Some(2));
    ends(&mut walk, &[], State::Torn);
    bench.becomes(&two);
    assert_eq!(walk.resume().unwrap(), Some(2));
    ends(&mut walk, &[(2, "two")], State::Clean);
}

#[test]
fn a_truncation_is_told_even_if_what_was_yielded_last_is_back() {
    let bench = Bench::new(&built(Format::Sealed, &records(1, 100, "old")));
    let mut walk = bench.walk();
    assert_eq!(rest(&mut walk).0.len(), 100);
    let mut payloads = records(1, 100, "old");
    payloads[69].replace_range(..3, "new");
    bench.becomes(&built(Format::Sealed, &payloads));
    assert_eq!(walk.resume().unwrap(), Some(70));
    let (found, _) = rest(&mut walk);
    assert_eq!((found[0].1.as_str(), found.len()), ("new 000070", 31));
}

#[test]
fn what_was_yielded_long_ago_is_known_to_a_64th_of_the_way_back() {
    let bench = Bench::new(&built(Format::Sealed, &records(1, 20_000, "old")));
    let mut walk = bench.walk();
    assert_eq!(rest(&mut walk).0.len(), 20_000);
    let kept = 7001;
    bench.becomes(&built(Format::Sealed, &records(1, kept, "old")));
    let next = walk.resume().unwrap().unwrap();
    assert!((kept + 1 - 13_000 / 64..=kept + 1).contains(&next), "{next}");
    let (found, _) = rest(&mut walk);
    assert_eq!(found.len() as u64, kept + 1 - next);
}

#[test]
fn a_truncation_back_to_what_was_yielded_ends_the_walk_that_meets_it() {
    // More than the window holds, so that the walk has to read on after the cut.
    let old = built(Format::Sealed, &records(1, 100_000, "old"));
    assert!(old.len() > 2 * WINDOW as u64);
    let bench = Bench::new(&old);
    let mut walk = bench.walk();
    for n in 1..=50_000 {
        assert_eq!(walk.next().unwrap().unwrap().index, n);
    }
    let mut payloads = records(1, 49_990, "old");
    payloads.extend(records(49_991, 120_000, "new"));
    bench.becomes(&built(Format::Sealed, &payloads));
    let (found, state) = rest(&mut walk);
    assert_eq!(state, State::Clean);
    // What it still had in memory may come, nothing that was written since.
    assert!(found.iter().all(|(_, payload)| payload.starts_with("old")), "{:?}", found.last());
    let back = found.last().unwrap().0 - 49_991;
    let next = walk.resume().unwrap().unwrap();
    assert!((49_991 - back / 64..=49_991).contains(&next), "{next}");
    let (found, state) = rest(&mut walk);
    let expected: Vec<_> = (next..).zip(payloads.into_iter().skip(next as usize - 1)).collect();
    assert!(found == expected && state == State::Clean);
}

#[test]
fn records_removed_at_the_front_are_no_truncation() {
    let payloads: Vec<String> = records(1, 10, "old");
    let before = built(Format::Sealed, &payloads);
    let gap = |removed: u64| {
        let len = removed * 26 - 16;
        let begin = Built::sealed(&[]).gap(len, removed);
        payloads
            .iter()
            .skip(removed as usize)
            .fold(begin, |built, payload| built.record(payload.as_bytes(), 0))
    };
    // Yielded and removed.
    let bench = Bench::new(&before);
    let mut walk = bench.walk();
    assert_eq!(rest(&mut walk).0.len(), 10);
    for removed in [4, 10] {
        bench.becomes(&gap(removed).record(b"more", 0));
        assert_eq!(walk.resume().unwrap(), Some(if removed == 4 { 11 } else { 12 }));
        assert_eq!(rest(&mut walk).0.len(), if removed == 4 { 1 } else { 0 });
        unchanged(&mut walk);
    }
    // Removed before the walk had come there.
    let bench = Bench::new(&before);
    let mut walk = bench.walk();
    for _ in 0..3 {
        walk.next().unwrap().unwrap();
    }
    bench.becomes(&gap(8));
    assert_eq!(walk.resume().unwrap(), Some(9));
    ends(&mut walk, &[(9, "old 000009"), (10, "old 000010")], State::Clean);
}

#[test]
fn a_walk_goes_on_behind_a_front_that_is_removed_under_it() {
    let payloads = records(1, 100_000, "old");
    let bench = Bench::new(&built(Format::Sealed, &payloads));
    let mut walk = bench.walk();
    for _ in 0..50_000 {
        walk.next().unwrap().unwrap();
    }
    let begin = Built::sealed(&[]).gap(90_000 * 26 - 16, 90_000);
    let left = payloads.iter().skip(90_000).fold(begin, |built, payload| built.record(payload.as_bytes(), 0));
    bench.becomes(&left);
    let (found, state) = rest(&mut walk);
    assert_eq!((found.last().unwrap().0, state), (100_000, State::Clean));
    assert!(found.iter().all(|(n, payload)| *payload == payloads[*n as usize - 1]));
    assert!(found.iter().any(|(n, _)| *n == 90_001));
}

#[test]
fn a_seal_written_anew_is_no_truncation() {
    let batch = Built::sealed(&[(b"one", B), (b"two", C), (b"three", 0)]);
    let bench = Bench::new(&batch);
    let mut walk = bench.walk();
    assert_eq!(rest(&mut walk).0.len(), 3);
    bench.becomes(&Built::sealed(&[(b"one", B), (b"two", 0), (b"new", 0)]));
    assert_eq!(walk.resume().unwrap(), Some(3));
    ends(&mut walk, &[(3, "new")], State::Clean);
}

#[test]
fn a_truncation_that_is_under_way_ends_the_walk_until_it_is_done() {
    let old = Built::sealed(&[(b"one", B), (b"two", C), (b"three", 0)]);
    let mut announced = old.zeros(38).mark(38);
    let bench = Bench::new(&announced);
    let mut walk = bench.walk();
    ends(&mut walk, &[(1, "one"), (2, "two")], State::Clean);
    unchanged(&mut walk);
    // The seal of the last record that stays is half written.
    announced.bytes[19 + 13] ^= 0x55;
    bench.becomes(&announced);
    let mut walk = bench.walk();
    ends(&mut walk, &[(1, "one"), (2, "two")], State::Clean);
    // Until then the record that stays is yielded once, whatever else is written.
    for n in 1..4 {
        bench.becomes(&announced.clone().zeros(n));
        assert_eq!(walk.resume().unwrap(), Some(3));
        ends(&mut walk, &[], State::Clean);
    }
    bench.becomes(&Built::sealed(&[(b"one", B), (b"two", 0)]).closed());
    assert_eq!(walk.resume().unwrap(), Some(3));
    ends(&mut walk, &[], State::Clean);
}

#[test]
fn a_truncation_announced_to_a_walk_that_has_passed_its_end_is_no_damage() {
    let old = Built::sealed(&[(b"one", B), (b"two", 0), (b"three", 0)]);
    let bench = Bench::new(&old);
    let mut walk = bench.walk();
    assert_eq!(rest(&mut walk).0.len(), 3);
    bench.becomes(&old.zeros(100).mark(19));
    assert_eq!(walk.resume().unwrap(), Some(4));
    ends(&mut walk, &[], State::Clean);
    unchanged(&mut walk);
    bench.becomes(&Built::sealed(&[(b"one", B)]).closed());
    assert_eq!(walk.resume().unwrap(), Some(2));
    ends(&mut walk, &[], State::Clean);
}

#[test]
fn a_journal_begun_anew_may_have_another_format() {
    let bench = Bench::new(&Built::reference(&[b"one", b"two"]));
    let mut walk = bench.walk();
    assert_eq!(rest(&mut walk).0.len(), 2);
    bench.becomes(&Built::sealed(&[(b"new", B)]));
    assert_eq!(walk.resume().unwrap(), Some(1));
    ends(&mut walk, &[(1, "new")], State::Clean);
}

#[test]
fn another_file_under_the_name_is_told_and_the_walk_stays_with_its_own() {
    let bench = Bench::new(&Built::sealed(&[(b"one", B)]));
    let mut walk = bench.walk();
    assert!(!walk.replaced().unwrap());
    let moved = bench.path.with_extension("moved");
    fs::rename(&bench.path, &moved).unwrap();
    assert!(walk.replaced().unwrap());
    bench.becomes(&Built::sealed(&[(b"other", B)]));
    assert!(walk.replaced().unwrap());
    ends(&mut walk, &[(1, "one")], State::Clean);
    fs::rename(&moved, &bench.path).unwrap();
    assert!(!walk.replaced().unwrap());
}
