use super::*;
use crate::index::entries::{GROUP, WINDOWS};

/// An index of records that end there.
fn filled(mode: IndexMode, ends: impl IntoIterator<Item = u64>) -> IndexWriter {
    let mut writer = IndexWriter::new(mode, 1, 0);
    extend(&mut writer, ends);
    writer
}

fn extend(writer: &mut IndexWriter, ends: impl IntoIterator<Item = u64>) {
    for end in ends {
        writer.reserve(1).unwrap();
        writer.push(end);
    }
}

fn extent(index: &Index, n: u64) -> Option<(u64, u64)> {
    let at = n.wrapping_sub(index.origin());
    index.extent(at).or(index.kept_extent(at))
}

/// Of the records up to `last`, each that `index` knows nothing of as it was, if they were `len` bytes long.
fn changed(index: &Index, last: u64, len: u64) -> Vec<u64> {
    (1..=last).filter(|&n| extent(index, n) != Some(((n - 1) * len, n * len))).collect()
}

/// Numbers around every boundary up to `last`.
fn around(last: u64) -> impl Iterator<Item = u64> {
    let edges = [1, GROUP, 2 * GROUP, 100 * GROUP, WINDOWS[0], last].into_iter();
    edges.flat_map(|edge| edge.saturating_sub(2)..=edge + 2).filter(move |n| (1..=last).contains(n))
}

#[test]
fn a_full_index_knows_every_extent_across_groups_and_windows() {
    let records = WINDOWS[0] + 3 * GROUP + 17;
    let writer = filled(IndexMode::Full, (1..=records).map(|n| n * 20));
    for n in (1..=records).step_by(997).chain(around(records)) {
        assert_eq!(extent(writer.index(), n), Some(((n - 1) * 20, n * 20)), "{n}");
        assert_eq!(writer.index().nearest(n), (n, (n - 1) * 20));
    }
    assert_eq!(extent(writer.index(), 0), None);
    assert_eq!((writer.last(), writer.end()), (records, records * 20));
}

#[test]
fn an_index_that_grows_leaves_older_views_what_they_have() {
    let mut writer = filled(IndexMode::Full, (1..=WINDOWS[0] - 2).map(|n| n * 20));
    let small = writer.index().share();
    let last = writer.last();
    while writer.index().same(&small) {
        let end = writer.end() + 20;
        extend(&mut writer, [end]);
    }
    let records = writer.last();
    assert_eq!(records, WINDOWS[0] + STEP / 4 - 1, "what is reserved is a whole number of steps");
    let (large, shorter) = (writer.index().share(), writer.cut(last / 2, last / 2 * 20));
    writer = shorter;
    for old in [&small, &large] {
        old.preserve(writer.index(), last / 2, if old.same(&large) { records } else { last }).unwrap();
    }
    extend(&mut writer, (1..=last).map(|n| last / 2 * 20 + n * 7));
    assert_eq!(changed(&small, last, 20), [0u64; 0]);
    assert_eq!(changed(&large, records, 20), [0u64; 0]);
}

const STEP: u64 = 64 << 10;

#[test]
fn a_sparse_index_knows_every_kth_place() {
    let writer = filled(IndexMode::Sparse(10), (1..=95).map(|n| n * 20));
    assert_eq!(writer.index().nearest(1), (1, 0));
    assert_eq!(writer.index().nearest(10), (1, 0));
    assert_eq!(writer.index().nearest(11), (11, 200));
    assert_eq!(writer.index().nearest(95), (91, 1800));
    assert_eq!(extent(writer.index(), 11), None);
}

#[test]
fn scan_knows_only_the_beginning() {
    let writer = filled(IndexMode::Scan, (1..=95).map(|n| n * 20));
    assert_eq!(writer.index().nearest(95), (1, 0));
    assert_eq!(writer.bytes(), 0);
}

#[test]
fn entries_far_from_their_base_are_found_from_the_last_that_is_near() {
    let writer = filled(IndexMode::Full, (1..=2 * GROUP).map(|n| n << 30));
    let index = writer.index();
    for n in 1..=2 * GROUP {
        let near = (n - 1) % GROUP;
        let (known, place) = index.nearest(n);
        assert_eq!((known, place), (n - near + near.min(3), (known - 1) << 30), "{n}");
        let expected = (near < 3).then_some(((n - 1) << 30, n << 30));
        assert_eq!(extent(index, n), expected, "{n}");
    }
    let edge = filled(IndexMode::Full, [u64::from(u32::MAX), 1 << 32, (1 << 32) + 16]);
    assert_eq!(extent(edge.index(), 1), Some((0, u64::from(u32::MAX))));
    assert_eq!(extent(edge.index(), 2), None);
    assert_eq!(extent(edge.index(), 3), None);
    assert_eq!(edge.index().nearest(3), (2, u64::from(u32::MAX)));
}

#[test]
fn a_numbering_that_begins_far_away_takes_no_more() {
    let mut writer = IndexWriter::new(IndexMode::Full, 1 << 60, 5000);
    assert_eq!((writer.last(), writer.end()), ((1 << 60) - 1, 5000));
    extend(&mut writer, [5100]);
    assert_eq!(extent(writer.index(), 1 << 60), Some((5000, 5100)));
    assert_eq!(extent(writer.index(), (1 << 60) - 1), None);
    assert_eq!(writer.last(), 1 << 60);
    assert!(writer.bytes() <= 2 * 4096);
}

#[test]
fn without_room_nothing_is_taken_in() {
    for mode in [IndexMode::Full, IndexMode::Sparse(3)] {
        let mut writer = IndexWriter::new(mode, 1, 7);
        assert_eq!((writer.bytes(), writer.index().nearest(1)), (0, (1, 7)));
        assert!(writer.reserve(u64::MAX).is_err());
        extend(&mut writer, [20, 40]);
        assert!(writer.reserve(1 << 62).is_err());
        extend(&mut writer, [60]);
        assert_eq!(writer.index().nearest(1), (1, 7), "{mode:?}");
        assert_eq!((writer.last(), writer.end()), (3, 60));
    }
}

#[test]
fn rewound_records_are_overwritten_by_the_next() {
    for mode in [IndexMode::Full, IndexMode::Sparse(1), IndexMode::Sparse(4)] {
        let mut writer = filled(mode, (1..=9).map(|n| n * 20));
        writer.rewind(3, 60);
        extend(&mut writer, (4..=9).map(|n| n * 100));
        assert_eq!(writer.last(), 9);
        if mode == IndexMode::Full {
            assert_eq!(extent(writer.index(), 4), Some((60, 400)));
        }
        assert_eq!(writer.index().nearest(9).1 % 100, 0);
    }
}

#[test]
fn a_group_that_was_rewound_begins_anew_at_a_smaller_offset() {
    for kept in [0, GROUP - 2, GROUP - 1, GROUP, GROUP + 1, WINDOWS[0] - 1] {
        let last = kept + GROUP + 5;
        let mut writer = filled(IndexMode::Full, (1..=last).map(|n| n * 20));
        writer.rewind(kept, kept * 20);
        let end = |n: u64| n.min(kept) * 20 + n.saturating_sub(kept) * 17;
        extend(&mut writer, (kept + 1..=last).map(end));
        for n in kept.saturating_sub(2).max(1)..=last {
            assert_eq!(extent(writer.index(), n), Some((end(n - 1), end(n))), "{n}, rewound to {kept}");
        }
    }
}

#[test]
fn a_cut_leaves_the_old_index_as_it_was() {
    for (mode, keep) in [
        (IndexMode::Full, 0),
        (IndexMode::Full, 4100),
        (IndexMode::Full, 4096),
        (IndexMode::Sparse(2), 4100),
        (IndexMode::Sparse(2), 4101),
        (IndexMode::Scan, 4100),
    ] {
        let mut writer = filled(mode, (1..=10_000).map(|n| n * 20));
        let old = writer.index().share();
        writer = writer.cut(keep, keep * 20);
        old.preserve(writer.index(), keep, 10_000).unwrap();
        writer.give_back();
        extend(&mut writer, (keep + 1..=9000).map(|n| keep * 20 + (n - keep) * 7));
        for n in around(10_000).chain([4095, 4100, 4101, 4102, 8192, 8193]) {
            let (at, offset) = old.nearest(n);
            assert_eq!(offset, (at - 1) * 20, "{mode:?} cut at {keep}, record {n}");
            assert!(mode == IndexMode::Scan || n - at < 2);
        }
        for n in around(9000).chain([4000, 4100, 4101, 4102, 4103]) {
            let (at, offset) = writer.index().nearest(n);
            let expected = (at - 1).min(keep) * 20 + (at - 1).saturating_sub(keep) * 7;
            assert_eq!(offset, expected, "{mode:?} cut at {keep}, record {n}");
            assert!(mode == IndexMode::Scan || n - at < 2);
        }
        assert_eq!(writer.last(), 9000);
    }
}

#[test]
fn each_of_many_cuts_keeps_what_it_removes() {
    let mut writer = filled(IndexMode::Full, (1..=10_000).map(|n| n * 20));
    let mut views = vec![(writer.index().share(), 10_000)];
    for keep in [9999, 9950, 9000, 9500, 8999, 8999, 300, 1000, 128, 127, 0] {
        let keep = keep.min(writer.last());
        writer = writer.cut(keep, keep * 20);
        for (view, last) in &views {
            view.preserve(writer.index(), keep, *last).unwrap();
        }
        // A view of which every record is known by its length, and then records that are not what they were.
        extend(&mut writer, (keep + 1..=keep + 50).map(|n| n * 20));
        views.push((writer.index().share(), keep + 50));
        writer = writer.cut(keep, keep * 20);
        for (view, last) in &views {
            view.preserve(writer.index(), keep, *last).unwrap();
        }
        extend(&mut writer, (1..=700).map(|n| keep * 20 + n * 3));
        writer.rewind(keep, keep * 20);
    }
    for (view, last) in &views {
        assert_eq!(changed(view, *last, 20), [0u64; 0], "a view of {last} records");
    }
}

#[test]
fn far_entries_that_are_kept_are_found_from_the_last_that_is_near() {
    let (keep, last) = (GROUP + 20, 2 * GROUP + 40);
    let mut writer = filled(IndexMode::Full, (1..=last).map(|n| n << 30));
    let old = writer.index().share();
    writer = writer.cut(keep, keep << 30);
    old.preserve(writer.index(), keep, last).unwrap();
    extend(&mut writer, (keep + 1..=last).map(|n| (keep << 30) + n * 20));
    for n in 1..=last {
        let near = ((n - 1) % GROUP).min(3);
        let known = n - (n - 1) % GROUP + near;
        assert_eq!(old.nearest(n), (known, (known - 1) << 30));
        assert_eq!(extent(&old, n), (near < 3).then_some(((n - 1) << 30, n << 30)));
    }
}

/// A truncation that is undone goes on with the index from before it.
#[test]
fn a_cut_that_nothing_was_pushed_to_can_be_undone() {
    for mode in [IndexMode::Full, IndexMode::Sparse(7)] {
        let mut writer = filled(mode, (1..=1000).map(|n| n * 20));
        let old = writer.index().share();
        let cut = writer.cut(333, 333 * 20);
        let short = cut.index().share();
        old.preserve(cut.index(), 333, 1000).unwrap();
        drop(cut);
        extend(&mut writer, (1001..=1300).map(|n| n * 20));
        for n in 1..=1300 {
            let (at, place) = writer.index().nearest(n);
            assert_eq!(place, (at - 1) * 20);
            assert!(n - at < 7);
            assert!(n > 1000 || old.nearest(n) == (at, place));
            assert!(n > 333 || short.nearest(n) == (at, place));
        }
    }
}

#[test]
fn a_chain_of_cuts_is_dropped_one_by_one() {
    let mut writer = filled(IndexMode::Full, (1..=WINDOWS[0]).map(|n| n * 20));
    let old = writer.index().share();
    for keep in (0..WINDOWS[0] / GROUP).rev().map(|group| group * GROUP) {
        writer = writer.cut(keep, keep * 20);
        old.preserve(writer.index(), keep, WINDOWS[0]).unwrap();
    }
    assert_eq!(extent(&old, 1), Some((0, 20)));
    std::thread::Builder::new().stack_size(64 << 10).spawn(|| drop(old)).unwrap().join().unwrap();
}

#[test]
fn a_full_index_takes_about_four_bytes_a_record() {
    let records = 1_000_000;
    let mut writer = filled(IndexMode::Full, (1..=records).map(|n| n * 48));
    let per_record = |writer: &IndexWriter| writer.bytes() as f64 / records as f64;
    assert!((4.0..4.1).contains(&per_record(&writer)), "{}", per_record(&writer));
    writer = writer.cut(1000, 48_000);
    assert!(per_record(&writer) > 4.0, "a cut may be undone");
    writer.give_back();
    assert!(writer.bytes() < 3 * 4096);
}
