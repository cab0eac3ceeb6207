//! Walks that go on: each test builds a file by hand and changes it as a writer, a crash or damage would.

use std::fs;

use super::records::WINDOW;
use super::*;
use crate::error::Error;
use crate::inspect::testing::{B, Built, BuiltFile, C};

impl BuiltFile {
    fn walk(&self) -> Walk {
        Walk::open(&self.path).unwrap()
    }
}

/// Runs the walk to its end. Returns the indexes and payloads that it yields, and the state that it ends with.
fn rest(walk: &mut Walk) -> (Vec<(u64, String)>, State) {
    let mut found = Vec::new();
    while let Some(Ok(entry)) = walk.next() {
        found.push((entry.index, String::from_utf8(entry.payload).unwrap()));
    }
    assert!(walk.next().is_none(), "the walk has ended");
    (found, walk.state().expect("the walk has ended"))
}

#[track_caller]
fn ends(walk: &mut Walk, expected: &[(u64, &str)], state: State) {
    let (found, ended) = rest(walk);
    let found: Vec<_> = found.iter().map(|(n, payload)| (*n, payload.as_str())).collect();
    assert_eq!((found.as_slice(), ended), (expected, state));
}

/// Expects that `resume` finds no change.
#[track_caller]
fn unchanged(walk: &mut Walk) {
    assert_eq!(walk.resume().unwrap(), None);
    assert!(walk.next().is_none());
}

#[test]
fn what_is_appended_is_yielded_after_the_next_resume() {
    let one = Built::sealed(&[(b"one", B)]);
    let file = BuiltFile::new(&one.clone().closed());
    let mut walk = file.walk();
    assert_eq!(walk.state(), None);
    ends(&mut walk, &[(1, "one")], State::Clean);
    unchanged(&mut walk);
    // Over the mark of the clean end, and before preallocated zeros.
    let two = one.record(b"two", B);
    file.becomes(&two.clone().zeros(5000));
    assert_eq!(walk.resume().unwrap(), Some(2));
    assert_eq!(walk.state(), None, "the walk goes on");
    ends(&mut walk, &[(2, "two")], State::Clean);
    unchanged(&mut walk);
    let three = two.record(b"three", 0).record(b"four", 0);
    file.becomes(&three.clone().zeros(4979));
    assert_eq!(walk.resume().unwrap(), Some(3));
    ends(&mut walk, &[(3, "three"), (4, "four")], State::Clean);
    file.becomes(&three.closed());
    assert_eq!(walk.resume().unwrap(), Some(5));
    ends(&mut walk, &[], State::Clean);
    unchanged(&mut walk);
}

#[test]
fn an_empty_file_becomes_a_journal_under_the_walk() {
    for first in [Built::sealed(&[]), Built::sealed(&[]).zeros(100), Built::sealed(&[]).closed()] {
        let file = BuiltFile::new(&first);
        let mut walk = file.walk();
        ends(&mut walk, &[], State::Clean);
        file.becomes(&Built::sealed(&[(b"one", B)]));
        assert_eq!(walk.resume().unwrap(), Some(1));
        ends(&mut walk, &[(1, "one")], State::Clean);
    }
}

#[test]
fn a_torn_tail_is_reported_once_and_yielded_when_it_is_whole() {
    let one = Built::sealed(&[(b"one", B)]);
    for (whole, yielded) in [
        (one.clone().record(b"two", 0), &[(2, "two")][..]),
        (one.clone().record(b"two", C).record(b"three", 0), &[(2, "two"), (3, "three")]),
    ] {
        for cut in one.len() as usize + 1..whole.bytes.len() {
            let mut torn = whole.clone();
            torn.bytes.truncate(cut);
            let file = BuiltFile::new(&torn);
            let mut walk = file.walk();
            ends(&mut walk, &[(1, "one")], State::Torn);
            assert_eq!(walk.resume().unwrap(), None, "cut at {cut}");
            file.becomes(&whole);
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
    let file = BuiltFile::new(&begun);
    let mut walk = file.walk();
    ends(&mut walk, &[(1, "one")], State::Torn);
    assert_eq!(walk.resume().unwrap(), None);
    let time = fs::metadata(&file.path).unwrap().modified().unwrap();
    file.becomes(&two);
    fs::File::options().write(true).open(&file.path).unwrap().set_modified(time).unwrap();
    assert_eq!(walk.resume().unwrap(), Some(2));
    ends(&mut walk, &[(2, "two")], State::Clean);
}

#[test]
fn a_torn_tail_that_changes_to_another_is_reported_again() {
    let one = Built::sealed(&[(b"one", B)]);
    let file = BuiltFile::new(&one.clone().raw(b"half"));
    let mut walk = file.walk();
    ends(&mut walk, &[(1, "one")], State::Torn);
    file.becomes(&one.raw(b"half of it"));
    assert_eq!(walk.resume().unwrap(), Some(2));
    assert!(matches!(walk.next(), Some(Err(Error::Corrupt { index: 2, .. }))));
    assert_eq!((walk.state(), walk.resume().unwrap()), (Some(State::Torn), None));
}

#[test]
fn damage_after_zeros_is_reported_when_the_file_has_another_length() {
    let one = Built::sealed(&[(b"one", B)]);
    let file = BuiltFile::new(&one.clone().zeros(4096));
    let mut walk = file.walk();
    ends(&mut walk, &[(1, "one")], State::Clean);
    // The second record is lost, the third proves that it was there.
    let mut lost = one.record(b"two", 0).record(b"three", B).zeros(2000);
    lost.bytes[19..38].fill(0);
    file.becomes(&lost);
    assert_eq!(walk.resume().unwrap(), Some(2));
    ends(&mut walk, &[], State::Corrupt);
    assert_eq!(walk.resume().unwrap(), None);
}

/// Payloads of one length, so that new records lie where removed ones were.
fn records(from: u64, to: u64, what: &str) -> Vec<String> {
    (from..=to).map(|n| format!("{what} {n:06}")).collect()
}

fn built(format: Format, payloads: &[String]) -> Built {
    let begin = Built::new(format);
    payloads.iter().fold(begin, |built, payload| built.record(payload.as_bytes(), 0))
}

#[test]
fn a_truncation_is_reported_and_what_takes_its_place_is_yielded() {
    for format in [Format::Sealed, Format::Reference] {
        for kept in [0, 1, 2, 36, 99] {
            for new in [0, 1, 99 - kept, 100 - kept, 101 - kept] {
                let file = BuiltFile::new(&built(format, &records(1, 100, "old")));
                let mut walk = file.walk();
                assert_eq!(rest(&mut walk).0.len(), 100);
                let mut payloads = records(1, kept, "old");
                payloads.extend(records(kept + 1, kept + new, "new"));
                file.becomes(&built(format, &payloads));
                assert_eq!(walk.resume().unwrap(), Some(kept + 1), "{kept} kept, {new} new");
                let (found, state) = rest(&mut walk);
                let expected: Vec<_> = (kept + 1..).zip(records(kept + 1, kept + new, "new")).collect();
                assert_eq!((found, state), (expected, State::Clean));
                // `resume` always goes on in an empty file: it holds nothing to compare.
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
    let file = BuiltFile::new(&two);
    let mut walk = file.walk();
    assert_eq!(rest(&mut walk).0.len(), 2);
    let mut torn = two.clone();
    torn.bytes.pop();
    file.becomes(&torn);
    assert_eq!(walk.resume().unwrap(), Some(2));
    ends(&mut walk, &[], State::Torn);
    file.becomes(&two);
    assert_eq!(walk.resume().unwrap(), Some(2));
    ends(&mut walk, &[(2, "two")], State::Clean);
}

#[test]
fn a_truncation_is_reported_even_if_the_last_yielded_record_is_there_again() {
    let file = BuiltFile::new(&built(Format::Sealed, &records(1, 100, "old")));
    let mut walk = file.walk();
    assert_eq!(rest(&mut walk).0.len(), 100);
    let mut payloads = records(1, 100, "old");
    payloads[69].replace_range(..3, "new");
    file.becomes(&built(Format::Sealed, &payloads));
    assert_eq!(walk.resume().unwrap(), Some(70));
    let (found, _) = rest(&mut walk);
    assert_eq!((found[0].1.as_str(), found.len()), ("new 000070", 31));
}

#[test]
fn what_was_yielded_long_ago_is_known_to_a_64th_of_the_distance() {
    let file = BuiltFile::new(&built(Format::Sealed, &records(1, 20_000, "old")));
    let mut walk = file.walk();
    assert_eq!(rest(&mut walk).0.len(), 20_000);
    let kept = 7001;
    file.becomes(&built(Format::Sealed, &records(1, kept, "old")));
    let next = walk.resume().unwrap().unwrap();
    assert!((kept + 1 - 13_000 / 64..=kept + 1).contains(&next), "{next}");
    let (found, _) = rest(&mut walk);
    assert_eq!(found.len() as u64, kept + 1 - next);
}

#[test]
fn a_truncation_of_yielded_records_ends_the_walk() {
    // The file is larger than the window, so that the walk has to read more after the cut.
    let old = built(Format::Sealed, &records(1, 100_000, "old"));
    assert!(old.len() > 2 * WINDOW as u64);
    let file = BuiltFile::new(&old);
    let mut walk = file.walk();
    for n in 1..=50_000 {
        assert_eq!(walk.next().unwrap().unwrap().index, n);
    }
    let mut payloads = records(1, 49_990, "old");
    payloads.extend(records(49_991, 120_000, "new"));
    file.becomes(&built(Format::Sealed, &payloads));
    let (found, state) = rest(&mut walk);
    assert_eq!(state, State::Clean);
    // The walk may yield what it had in memory, but nothing that was written since.
    assert!(found.iter().all(|(_, payload)| payload.starts_with("old")), "{:?}", found.last());
    let back = found.last().unwrap().0 - 49_991;
    let next = walk.resume().unwrap().unwrap();
    assert!((49_991 - back / 64..=49_991).contains(&next), "{next}");
    let (found, state) = rest(&mut walk);
    let expected: Vec<_> = (next..).zip(payloads.into_iter().skip(next as usize - 1)).collect();
    assert!(found == expected && state == State::Clean);
}

#[test]
fn removing_records_at_the_front_is_not_a_truncation() {
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
    let file = BuiltFile::new(&before);
    let mut walk = file.walk();
    assert_eq!(rest(&mut walk).0.len(), 10);
    for removed in [4, 10] {
        file.becomes(&gap(removed).record(b"more", 0));
        assert_eq!(walk.resume().unwrap(), Some(if removed == 4 { 11 } else { 12 }));
        assert_eq!(rest(&mut walk).0.len(), if removed == 4 { 1 } else { 0 });
        unchanged(&mut walk);
    }
    // Removed before the walk has come there.
    let file = BuiltFile::new(&before);
    let mut walk = file.walk();
    for _ in 0..3 {
        walk.next().unwrap().unwrap();
    }
    file.becomes(&gap(8));
    assert_eq!(walk.resume().unwrap(), Some(9));
    ends(&mut walk, &[(9, "old 000009"), (10, "old 000010")], State::Clean);
}

#[test]
fn a_walk_goes_on_after_a_front_that_is_removed_meanwhile() {
    let payloads = records(1, 100_000, "old");
    let file = BuiltFile::new(&built(Format::Sealed, &payloads));
    let mut walk = file.walk();
    for _ in 0..50_000 {
        walk.next().unwrap().unwrap();
    }
    let begin = Built::sealed(&[]).gap(90_000 * 26 - 16, 90_000);
    let left = payloads.iter().skip(90_000).fold(begin, |built, payload| built.record(payload.as_bytes(), 0));
    file.becomes(&left);
    let (found, state) = rest(&mut walk);
    assert_eq!((found.last().unwrap().0, state), (100_000, State::Clean));
    assert!(found.iter().all(|(n, payload)| *payload == payloads[*n as usize - 1]));
    assert!(found.iter().any(|(n, _)| *n == 90_001));
}

#[test]
fn a_seal_written_anew_is_not_a_truncation() {
    let batch = Built::sealed(&[(b"one", B), (b"two", C), (b"three", 0)]);
    let file = BuiltFile::new(&batch);
    let mut walk = file.walk();
    assert_eq!(rest(&mut walk).0.len(), 3);
    file.becomes(&Built::sealed(&[(b"one", B), (b"two", 0), (b"new", 0)]));
    assert_eq!(walk.resume().unwrap(), Some(3));
    ends(&mut walk, &[(3, "new")], State::Clean);
}

#[test]
fn a_truncation_in_progress_ends_the_walk_until_it_is_finished() {
    let old = Built::sealed(&[(b"one", B), (b"two", C), (b"three", 0)]);
    let mut announced = old.zeros(38).mark(38);
    let file = BuiltFile::new(&announced);
    let mut walk = file.walk();
    ends(&mut walk, &[(1, "one"), (2, "two")], State::Clean);
    unchanged(&mut walk);
    // The seal of the last record that stays is half written.
    announced.bytes[19 + 13] ^= 0x55;
    file.becomes(&announced);
    let mut walk = file.walk();
    ends(&mut walk, &[(1, "one"), (2, "two")], State::Clean);
    // Until then the record that the truncation keeps is yielded once, whatever else is written.
    for n in 1..4 {
        file.becomes(&announced.clone().zeros(n));
        assert_eq!(walk.resume().unwrap(), Some(3));
        ends(&mut walk, &[], State::Clean);
    }
    file.becomes(&Built::sealed(&[(b"one", B), (b"two", 0)]).closed());
    assert_eq!(walk.resume().unwrap(), Some(3));
    ends(&mut walk, &[], State::Clean);
}

#[test]
fn an_announced_truncation_of_yielded_records_is_not_damage() {
    let old = Built::sealed(&[(b"one", B), (b"two", 0), (b"three", 0)]);
    let file = BuiltFile::new(&old);
    let mut walk = file.walk();
    assert_eq!(rest(&mut walk).0.len(), 3);
    file.becomes(&old.zeros(100).mark(19));
    assert_eq!(walk.resume().unwrap(), Some(4));
    ends(&mut walk, &[], State::Clean);
    unchanged(&mut walk);
    file.becomes(&Built::sealed(&[(b"one", B)]).closed());
    assert_eq!(walk.resume().unwrap(), Some(2));
    ends(&mut walk, &[], State::Clean);
}

#[test]
fn a_journal_begun_anew_may_have_another_format() {
    let file = BuiltFile::new(&Built::reference(&[b"one", b"two"]));
    let mut walk = file.walk();
    assert_eq!(rest(&mut walk).0.len(), 2);
    file.becomes(&Built::sealed(&[(b"new", B)]));
    assert_eq!(walk.resume().unwrap(), Some(1));
    ends(&mut walk, &[(1, "new")], State::Clean);
}

#[test]
fn another_file_at_the_path_is_reported_and_the_walk_reads_its_own() {
    let file = BuiltFile::new(&Built::sealed(&[(b"one", B)]));
    let mut walk = file.walk();
    assert!(!walk.replaced().unwrap());
    let moved = file.path.with_extension("moved");
    fs::rename(&file.path, &moved).unwrap();
    assert!(walk.replaced().unwrap());
    file.becomes(&Built::sealed(&[(b"other", B)]));
    assert!(walk.replaced().unwrap());
    ends(&mut walk, &[(1, "one")], State::Clean);
    fs::rename(&moved, &file.path).unwrap();
    assert!(!walk.replaced().unwrap());
}
