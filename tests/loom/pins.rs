//! Truncation never misses a pin, however a load interleaves with the swap: what someone still holds is preserved, and
//! what is taken for unheld is overwritten, which the map tells from a race.

use loom::thread;

use crate::journal::{Writer, payload};
use crate::model;
use crate::options::IndexMode;
use crate::view::View;

/// Reads the last record twice, as a borrow that lives on would.
fn read_last_twice(view: &View) {
    let last = view.committed();
    let expected = if view.cuts() == 0 { [1, 2, 3] } else { [1, 8, 9] }[last as usize - 1];
    assert_eq!(payload(view, last, last), expected);
    thread::yield_now();
    assert_eq!(payload(view, last, last), expected, "the bytes changed");
}

/// Cuts what was there and writes over it, while one thread runs `a` and another, if there is one, `b`.
fn cut_while(preemptions: usize, a: fn(&Writer) -> Reads, b: Option<fn(&Writer) -> Reads>) {
    model(preemptions, move || {
        let mut writer = Writer::new(IndexMode::Full);
        writer.commit(&[1, 2, 3]);
        let readers: Vec<_> = [Some(a), b].into_iter().flatten().map(|reads| reads(&writer)).collect();
        let readers: Vec<_> = readers.into_iter().map(thread::spawn).collect();
        writer.cut(1);
        writer.commit(&[8, 9]);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!(writer.held(), 0, "everyone has let go");
    });
}

/// What a reader's thread does.
type Reads = Box<dyn FnOnce()>;

fn guard(writer: &Writer) -> Reads {
    let publisher = writer.publisher.clone();
    Box::new(move || read_last_twice(&publisher.load()))
}

fn full(writer: &Writer) -> Reads {
    let publisher = writer.publisher.clone();
    Box::new(move || read_last_twice(&publisher.load_full()))
}

fn cache(writer: &Writer) -> Reads {
    let mut subscriber = writer.publisher.subscribe();
    Box::new(move || {
        read_last_twice(subscriber.get());
        read_last_twice(subscriber.get());
    })
}

fn release(writer: &Writer) -> Reads {
    let mut subscriber = writer.publisher.subscribe();
    Box::new(move || {
        read_last_twice(subscriber.get());
        subscriber.release();
        read_last_twice(subscriber.get());
    })
}

#[test]
fn a_guard_is_a_pin() {
    cut_while(3, guard, None);
}

#[test]
fn a_count_is_a_pin() {
    cut_while(3, full, None);
}

#[test]
fn a_cached_view_is_a_pin_until_the_next_call() {
    cut_while(3, cache, None);
}

#[test]
fn a_released_view_is_no_pin() {
    cut_while(3, release, None);
}

#[test]
fn pins_of_two_threads_are_told_apart() {
    cut_while(3, guard, Some(full));
    cut_while(3, guard, Some(cache));
}

#[test]
fn a_view_that_was_retired_before_the_cut_is_still_a_pin() {
    model(3, || {
        let mut writer = Writer::new(IndexMode::Full);
        writer.commit(&[1, 2]);
        let publisher = writer.publisher.clone();
        let reader = thread::spawn(move || read_last_twice(&publisher.load()));
        writer.grow(&[3]);
        writer.cut(1);
        writer.commit(&[8, 9]);
        reader.join().unwrap();
        assert_eq!(writer.held(), 0);
    });
}
