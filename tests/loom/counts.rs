//! Who sees that record n exists sees slots, bytes and view of all up to n; counts never go back within a generation;
//! an old view stays as it was.

use loom::thread;

use crate::file::map::{File, Map, RECORD_LEN};
use crate::index::IndexWriter;
use crate::index::entries::GROUP;
use crate::journal::{Writer, read_all};
use crate::model;
use crate::options::IndexMode;
use crate::read::snapshot::Snapshot;
use crate::sync::Arc;
use crate::view::View;
use crate::view::generation::Generation;
use crate::view::publish::{Publisher, Retired};

/// Commits cross the boundary of a group and that of a window while a reader looks twice.
fn commits(mode: IndexMode) {
    model(3, move || {
        let mut writer = Writer::new(mode);
        let mut subscriber = writer.publisher.subscribe();
        let reader = thread::spawn(move || {
            let before = read_all(subscriber.get(), &[1, 2, 3]);
            let after = read_all(subscriber.get(), &[1, 2, 3]);
            assert!(before <= after, "the count went back");
        });
        writer.commit(&[1]);
        writer.commit(&[2, 3]);
        reader.join().unwrap();
    });
}

#[test]
fn who_sees_a_record_sees_all_up_to_it_with_a_full_index() {
    commits(IndexMode::Full);
}

#[test]
fn who_sees_a_record_sees_all_up_to_it_with_a_sparse_index() {
    commits(IndexMode::Sparse(2));
}

#[test]
fn who_sees_a_record_sees_all_up_to_it_without_an_index() {
    commits(IndexMode::Scan);
}

/// As a `Reader` reads: what the view it saw last can tell at once is right, and so is what it looks for otherwise.
#[test]
fn who_is_told_at_once_sees_the_record() {
    model(3, || {
        let mut writer = Writer::new(IndexMode::Full);
        let mut subscriber = writer.publisher.subscribe();
        let reader = thread::spawn(move || {
            subscriber.get();
            for n in [3, 2, 1] {
                let seen = subscriber.seen().expect("nobody let go of it");
                if let Some(extent) = seen.at_once(n) {
                    assert_eq!((extent.start, extent.end), ((n - 1) * RECORD_LEN, n * RECORD_LEN));
                    assert_eq!(
                        seen.payload(extent).expect("a record that was told of has its bytes"),
                        [n as u8]
                    );
                }
            }
        });
        writer.commit(&[1, 2]);
        writer.grow(&[3]);
        reader.join().unwrap();
    });
}

#[test]
fn who_sees_a_record_that_is_far_away_sees_where_its_group_begins() {
    model(3, || {
        let mut index = IndexWriter::new(IndexMode::Full, 1, 0);
        index.reserve(4).unwrap();
        let map = Map::new(&std::rc::Rc::default());
        let view = Arc::new(View::new(map, index.index().share(), Generation::new(0), 0, 0));
        let publisher = Publisher::new(Arc::clone(&view));
        let reader = thread::spawn(move || {
            let view = publisher.load();
            for n in 1..=view.committed() {
                assert_eq!(view.at_once(n), None);
                let known = n - (n - 1) % GROUP;
                assert_eq!(view.index().nearest(n), (known, (known - 1) << 33));
            }
        });
        for n in 1..=3 {
            index.push(n << 33);
            view.commit(n, 0);
        }
        reader.join().unwrap();
    });
}

/// The bytes of the other models' records are all of one length, so these look at places only.
struct Places {
    file: std::rc::Rc<File>,
    index: IndexWriter,
    view: Arc<View>,
    retired: Retired<View>,
    publisher: Publisher<View>,
}

impl Places {
    /// Three records of 20 bytes.
    fn new() -> Self {
        let file = std::rc::Rc::default();
        let mut index = IndexWriter::new(IndexMode::Full, 1, 0);
        index.reserve(4).unwrap();
        (1..=3).for_each(|n| index.push(n * 20));
        let generation = Generation::new(0);
        let view = Arc::new(View::new(Map::new(&file), index.index().share(), generation, 3, 0));
        let publisher = Publisher::new(Arc::clone(&view));
        Self { file, index, view, retired: Retired::new(), publisher }
    }

    /// Keeps the first `n` records, which are of 20 bytes, and appends some of `len` up to the third.
    fn cut(&mut self, n: u64, len: u64) {
        self.index = self.index.cut(n, n * 20);
        let generation = Generation::new(self.view.cuts() + 1);
        let view = View::new(Map::new(&self.file), self.index.index().share(), generation, n, 0);
        self.retired.replace(&self.publisher, &mut self.view, view);
        for view in self.retired.held() {
            view.preserve(self.index.index(), n, Map::preserve).unwrap();
        }
        for at in n + 1..=3 {
            self.index.push(n * 20 + (at - n) * len);
        }
        self.view.commit(3, 0);
    }
}

/// Where record `n` lies if the first `kept` are of 20 bytes and the others of `len`.
fn place(n: u64, kept: u64, len: u64) -> (u64, u64) {
    let end = |n: u64| n.min(kept) * 20 + n.saturating_sub(kept) * len;
    (end(n - 1), end(n))
}

#[test]
fn an_old_index_stays_as_it_was() {
    model(3, || {
        let mut places = Places::new();
        let publisher = places.publisher.clone();
        let reader = thread::spawn(move || {
            let view = publisher.load_full();
            let last = view.committed();
            let kept = if view.cuts() == 0 { 3 } else { 1 };
            for n in (1..=last).rev() {
                assert_eq!(view.index().nearest(n), (n, place(n, kept, 30).0), "record {n}");
                let extent = view.locate(n, last, &mut None).expect("a record that was told of has a place");
                assert_eq!((extent.start, extent.end), place(n, kept, 30), "record {n}");
            }
        });
        places.cut(1, 30);
        reader.join().unwrap();
    });
}

#[test]
fn who_is_told_at_once_is_told_of_its_own_generation() {
    model(3, || {
        let mut places = Places::new();
        let mut subscriber = places.publisher.subscribe();
        let reader = thread::spawn(move || {
            let kept = if subscriber.get().cuts() == 0 { 3 } else { 1 };
            for n in [3, 2] {
                let seen = subscriber.seen().expect("nobody let go of it");
                if let Some(extent) = seen.at_once(n) {
                    assert_eq!((extent.start, extent.end), place(n, kept, 30), "record {n}");
                }
            }
        });
        places.cut(1, 30);
        reader.join().unwrap();
    });
}

#[test]
fn an_old_index_stays_as_it_was_over_two_cuts() {
    model(2, || {
        let mut places = Places::new();
        let publisher = places.publisher.clone();
        let reader = thread::spawn(move || {
            let view = publisher.load_full();
            let (last, cuts) = (view.committed(), view.cuts());
            for n in (1..=last).rev() {
                let extent = view.locate(n, last, &mut None).expect("a record that was told of has a place");
                let expected = match cuts {
                    0 => place(n, 3, 0),
                    1 => place(n, 2, 30),
                    _ => place(n, 0, 40),
                };
                assert_eq!((extent.start, extent.end), expected, "record {n} after {cuts} cuts");
            }
        });
        places.cut(2, 30);
        places.cut(0, 40);
        reader.join().unwrap();
    });
}

/// Looks twice; the count must not go back, whichever views it is in.
fn look_twice(mut look: impl FnMut() -> u64) {
    let before = look();
    assert!(before <= look(), "the count went back");
}

#[test]
fn a_new_view_has_all_that_the_old_one_had() {
    model(2, || {
        let mut writer = Writer::new(IndexMode::Full);
        let publisher = writer.publisher.clone();
        let mut subscriber = writer.publisher.subscribe();
        let guards = thread::spawn(move || look_twice(|| read_all(&publisher.load(), &[1, 2, 3])));
        let cache = thread::spawn(move || look_twice(|| read_all(subscriber.get(), &[1, 2, 3])));
        writer.commit(&[1]);
        writer.grow(&[2]);
        writer.commit(&[3]);
        guards.join().unwrap();
        cache.join().unwrap();
    });
}

#[test]
fn a_count_goes_back_only_with_a_new_generation() {
    model(3, || {
        let mut writer = Writer::new(IndexMode::Full);
        writer.commit(&[1, 2]);
        let mut subscriber = writer.publisher.subscribe();
        let reader = thread::spawn(move || {
            let mut look = || {
                let view = subscriber.get();
                let payloads = if view.cuts() == 0 { [1, 2, 3] } else { [1, 8, 9] };
                (view.cuts(), read_all(view, &payloads))
            };
            let before = look();
            let after = look();
            assert!(before <= after, "{before:?}, then {after:?}");
        });
        writer.commit(&[3]);
        writer.cut(1);
        writer.commit(&[8, 9]);
        reader.join().unwrap();
    });
}

/// A record that is removed is not there for a read that begins after the truncation returned.
#[test]
fn a_removed_record_is_not_read_again() {
    use crate::sync::{AtomicBool, Ordering};
    model(3, || {
        let mut writer = Writer::new(IndexMode::Full);
        writer.commit(&[1, 2]);
        let mut subscriber = writer.publisher.subscribe();
        let returned = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&returned);
        let reader = thread::spawn(move || {
            subscriber.get();
            if told.load(Ordering::Acquire) {
                assert_eq!(subscriber.seen().and_then(|seen| seen.at_once(2)), None);
                let view = subscriber.get();
                assert_eq!(view.locate(2, view.committed(), &mut None), None);
            }
        });
        writer.cut(1);
        returned.store(true, Ordering::Release);
        reader.join().unwrap();
    });
}

#[test]
fn an_old_view_stays_as_it_was() {
    model(3, || {
        let mut writer = Writer::new(IndexMode::Full);
        writer.commit(&[1, 2]);
        let publisher = writer.publisher.clone();
        let reader = thread::spawn(move || {
            let snapshot = Snapshot::new(publisher.load_full());
            let read = || snapshot.iter().map(|(n, bytes)| (n, bytes[0])).collect::<Vec<_>>();
            let first = read();
            thread::yield_now();
            assert_eq!(read(), first);
            assert_eq!(first.len() as u64, snapshot.last_index());
        });
        writer.commit(&[3]);
        writer.grow(&[4]);
        writer.cut(1);
        writer.commit(&[8, 9]);
        reader.join().unwrap();
        assert_eq!(writer.held(), 0);
    });
}
