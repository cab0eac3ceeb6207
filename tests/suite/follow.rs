//! Following: every record once and in order, to each reader that waits for it; cuts, failures and the end told by a value; no
//! wake-up lost, and none for nothing.

use crate::common;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use common::seam::{Call, EIO, ENOSPC, Seam};
use common::{place, place_in_memory};
use wally::{Error, Follow, Format, IndexMode, Journal, Options, RecordRef, Result, SyncPolicy};

const NEVER: Option<Duration> = None;
const AT_ONCE: Duration = Duration::ZERO;

fn options(policy: SyncPolicy) -> Options {
    let mut options = Options::new();
    options.sync_policy(policy);
    options
}

/// The number that the next record holds.
#[track_caller]
fn number(record: Result<Option<RecordRef>>) -> u64 {
    let record = record.unwrap().expect("a record");
    let number = u64::from_le_bytes(record[..].try_into().unwrap());
    // Every test appends records that hold their own index, plus a thousand for each cut before.
    assert_eq!(number % 1000, record.index());
    number
}

fn append(journal: &Journal, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        assert_eq!(journal.append(&n.to_le_bytes()).unwrap(), n % 1000);
    }
}

/// A mark would say that the journal ends at some other place.
fn writes_records(call: &Call) -> bool {
    matches!(call, Call::Write { bytes, .. } if bytes.starts_with(&8u64.to_le_bytes()))
}

#[track_caller]
fn truncated<T>(result: Result<T>) -> u64 {
    match result {
        Err(Error::Truncated { last, .. }) => last,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a truncation goes before everything else"),
    }
}

#[test]
fn a_follower_gets_what_is_there_and_what_comes_and_the_end() {
    for mode in [IndexMode::Full, IndexMode::Sparse(3), IndexMode::Scan] {
        for policy in
            [SyncPolicy::OnDemand, SyncPolicy::Always, SyncPolicy::Interval(Duration::from_secs(1000))]
        {
            for format in [Format::Sealed, Format::Reference] {
                let (_dir, path) = place_in_memory();
                let journal = options(policy).index(mode).new_file_format(format).open(path).unwrap();
                append(&journal, 1..=5);
                let mut follow = journal.follow(3);
                assert_eq!(follow.next_index(), 3);
                (3..=5).for_each(|n| assert_eq!(number(follow.try_next()), n));
                assert!(follow.try_next().unwrap().is_none());
                append(&journal, 6..=7);
                (6..=7).for_each(|n| assert_eq!(number(follow.next().transpose()), n));
                append(&journal, 8..=8);
                journal.close().unwrap();
                assert_eq!(number(follow.next().transpose()), 8, "what was committed before the end");
                assert!(matches!(follow.next(), Some(Err(Error::Closed))));
                assert!(follow.next().is_none());
                assert!(matches!(follow.try_next(), Err(Error::Closed)));
            }
        }
    }
}

#[test]
fn a_follower_begins_at_the_first_record_or_waits_for_its_own() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    append(&journal, 1..=2);
    assert_eq!(number(journal.follow(0).try_next()), 1);
    let mut later = journal.follow(3);
    assert!(later.try_next().unwrap().is_none());
    append(&journal, 3..=3);
    assert_eq!(number(later.try_next()), 3);
}

#[test]
fn a_dropped_journal_ends_its_followers_like_a_closed_one() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    let mut follow = journal.follow(1);
    let mut reader = journal.reader();
    append(&journal, 1..=1);
    let threads = [
        std::thread::spawn(move || follow.by_ref().map(|record| record.is_ok()).collect::<Vec<_>>()),
        std::thread::spawn(move || vec![matches!(reader.wait_for(2, NEVER), Err(Error::Closed))]),
    ];
    drop(journal);
    let [followed, waited] = threads.map(|thread| thread.join().unwrap());
    assert_eq!(followed, [true, false]);
    assert_eq!(waited, [true]);
}

#[test]
fn a_deadline_ends_the_waiting_and_nothing_else() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    let (mut follow, mut reader) = (journal.follow(1), journal.reader());
    assert!(follow.next_before(Instant::now()).unwrap().is_none());
    assert!(follow.next_before(Instant::now() + Duration::from_millis(2)).unwrap().is_none());
    assert!(!reader.wait_for(1, AT_ONCE).unwrap());
    assert!(!reader.wait_for(1, Duration::from_millis(2)).unwrap());
    append(&journal, 1..=1);
    assert_eq!(number(follow.next_before(Instant::now())), 1);
    assert!(reader.wait_for(1, AT_ONCE).unwrap());
    assert!(reader.wait_for(1, Duration::MAX).unwrap());
}

#[test]
fn what_will_never_be_there_is_not_waited_for() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    append(&journal, 1..=3);
    let mut reader = journal.reader();
    assert!(matches!(reader.wait_for(0, NEVER), Err(Error::OutOfRange { index: 0, first: 1, last: 3, .. })));
    journal.close().unwrap();
    assert!(reader.wait_for(3, NEVER).unwrap());
    assert!(matches!(reader.wait_for(4, NEVER), Err(Error::Closed)));
}

#[test]
fn a_waiting_reader_has_let_go_of_its_view() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    append(&journal, 1..=3);
    journal.flush().unwrap();
    let (mut reader, mut follow) = (journal.reader(), journal.follow(1));
    assert!(reader.get(3).is_some());
    while follow.try_next().unwrap().is_some() {}
    assert!(!reader.wait_for(4, AT_ONCE).unwrap());
    journal.truncate_back(1).unwrap();
    assert_eq!(journal.stats().views_held, 0);
    // One that reads does hold it, so the figure means something.
    assert!(reader.get(1).is_some());
    journal.truncate_back(0).unwrap();
    assert_eq!(journal.stats().views_held, 1);
}

#[test]
fn the_lowest_cut_is_told_once_and_the_follower_goes_on_from_there() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    append(&journal, 1..=30);
    let (mut follow, mut behind, mut reader) = (journal.follow(1), journal.follow(1), journal.reader());
    (1..=30).for_each(|n| assert_eq!(number(follow.try_next()), n));
    (1..=5).for_each(|n| assert_eq!(number(behind.try_next()), n));
    assert!(reader.wait_for(30, NEVER).unwrap());
    journal.truncate_back(20).unwrap();
    append(&journal, 1021..=1025);
    journal.truncate_back(10).unwrap();
    append(&journal, 2011..=2015);
    journal.truncate_back(14).unwrap();
    assert_eq!(truncated(follow.try_next()), 10);
    (2011..=2014).for_each(|n| assert_eq!(number(follow.try_next()), n));
    assert!(follow.try_next().unwrap().is_none());
    assert_eq!(truncated(behind.next().transpose()), 10);
    assert_eq!(behind.next_index(), 6, "what it had not yet read it reads as it is now");
    (6..=10).chain(2011..=2014).for_each(|n| assert_eq!(number(behind.try_next()), n));
    assert_eq!(truncated(reader.wait_for(31, NEVER)), 10);
    assert!(!reader.wait_for(31, AT_ONCE).unwrap());
    journal.truncate_back(0).unwrap();
    assert_eq!(truncated(follow.next_before(Instant::now())), 0);
    append(&journal, 3001..=3001);
    assert_eq!(number(follow.try_next()), 3001);
}

#[test]
fn a_truncation_that_removes_nothing_is_not_told() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    append(&journal, 1..=3);
    let mut follow = journal.follow(1);
    (1..=3).for_each(|n| assert_eq!(number(follow.try_next()), n));
    journal.truncate_back(3).unwrap();
    assert!(follow.try_next().unwrap().is_none());
}

#[test]
fn waiters_are_told_of_a_cut() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    append(&journal, 1..=9);
    let (mut follow, mut durable, mut reader) =
        (journal.follow(10), journal.follow(10).durable(), journal.reader());
    let threads = [
        std::thread::spawn(move || truncated(follow.next().transpose())),
        std::thread::spawn(move || truncated(durable.next().transpose())),
        std::thread::spawn(move || truncated(reader.wait_for(10, NEVER))),
    ];
    journal.truncate_back(7).unwrap();
    assert_eq!(threads.map(|thread| thread.join().unwrap()), [7; 3]);
}

#[test]
fn a_durable_follower_gets_what_is_durable_and_no_more() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    append(&journal, 1..=30);
    let mut follow = journal.follow(1).durable();
    assert!(follow.try_next().unwrap().is_none());
    journal.flush().unwrap();
    assert!(follow.try_next().unwrap().is_none());
    journal.sync().unwrap();
    append(&journal, 31..=31);
    journal.flush().unwrap();
    (1..=30).for_each(|n| assert_eq!(number(follow.try_next()), n));
    assert!(follow.next_before(Instant::now()).unwrap().is_none());
    // The indexes up to 31 were durable once; what has them now is not.
    journal.truncate_back(20).unwrap();
    append(&journal, 1021..=1031);
    journal.flush().unwrap();
    assert_eq!(truncated(follow.try_next()), 20);
    assert!(follow.try_next().unwrap().is_none());
    journal.wait_durable(25).unwrap();
    (1021..=1025).for_each(|n| assert_eq!(number(follow.try_next()), n));
    journal.close().unwrap();
    (1026..=1031).for_each(|n| assert_eq!(number(follow.next().transpose()), n));
    assert!(matches!(follow.next(), Some(Err(Error::Closed))));
}

#[test]
fn a_durable_follower_is_woken_by_whatever_makes_records_durable() {
    for policy in [SyncPolicy::Always, SyncPolicy::OnDemand, SyncPolicy::Interval(Duration::from_millis(1))] {
        let (_dir, path) = place_in_memory();
        let journal = options(policy).open(path).unwrap();
        let mut follow = journal.follow(1).durable();
        let thread = std::thread::spawn(move || {
            (1..=50).for_each(|n| assert_eq!(number(follow.next().transpose()), n))
        });
        for n in 1..=50 {
            append(&journal, n..=n);
            if policy == SyncPolicy::OnDemand {
                journal.sync().unwrap();
            }
        }
        thread.join().unwrap();
    }
}

#[test]
fn a_failed_sync_is_told_to_all_after_what_is_durable() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::OnDemand).seam(seam.clone()).open(path).unwrap();
    append(&journal, 1..=2);
    journal.sync().unwrap();
    append(&journal, 3..=4);
    let (mut follow, mut late, mut reader) = (journal.follow(1), journal.follow(1), journal.reader());
    (1..=4).for_each(|n| assert_eq!(number(follow.try_next()), n));
    let waiting = journal.follow(5);
    let durable = journal.follow(3).durable();
    let threads = [waiting, durable].map(|mut follow| {
        std::thread::spawn(move || {
            let told = truncated(follow.next().transpose());
            (told, matches!(follow.next(), Some(Err(Error::Poisoned { .. }))), follow.next().is_none())
        })
    });
    seam.fail(EIO, Call::is_sync);
    journal.sync().unwrap_err();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), (2, true, true));
    }
    assert_eq!(truncated(follow.try_next()), 2);
    assert!(matches!(follow.next(), Some(Err(Error::Poisoned { .. }))));
    assert!(follow.next().is_none());
    assert_eq!(truncated(late.try_next()), 2);
    (1..=2).for_each(|n| assert_eq!(number(late.try_next()), n));
    assert!(matches!(late.try_next(), Err(Error::Poisoned { .. })));
    assert_eq!(truncated(reader.wait_for(3, NEVER)), 2);
    assert!(matches!(reader.wait_for(3, NEVER), Err(Error::Poisoned { .. })));
    assert!(reader.wait_for(2, NEVER).unwrap());
}

#[test]
fn a_flush_that_fails_is_told_and_tried_again() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::OnDemand).seam(seam.clone()).open(path).unwrap();
    let (mut follow, mut reader) = (journal.follow(1), journal.reader());
    append(&journal, 1..=3);
    seam.fail(ENOSPC, writes_records);
    assert!(matches!(follow.try_next(), Err(Error::Io { op: "write", .. })));
    assert!(matches!(follow.next(), Some(Err(Error::Io { op: "write", .. }))));
    assert!(matches!(reader.wait_for(1, NEVER), Err(Error::Io { op: "write", .. })));
    seam.allow_all();
    (1..=3).for_each(|n| assert_eq!(number(follow.next().transpose()), n));
    assert!(reader.wait_for(3, NEVER).unwrap());
}

#[test]
fn a_flush_that_fails_is_told_to_all_its_waiters() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::OnDemand).seam(seam.clone()).open(path).unwrap();
    let (mut one, mut two) = (journal.follow(1), journal.follow(1));
    let mut first = pin!(one.next_async());
    let mut first = ByHand::new(first.as_mut());
    let mut second = pin!(two.next_async());
    let mut second = ByHand::new(second.as_mut());
    seam.fail(ENOSPC, writes_records);
    append(&journal, 1..=1);
    assert_eq!((first.woken(), second.woken()), (1, 0));
    assert!(matches!(first.poll(), Some(Some(Err(Error::Io { op: "write", .. })))));
    assert_eq!(second.woken(), 1);
    assert!(matches!(second.poll(), Some(Some(Err(Error::Io { op: "write", .. })))));
}

#[test]
fn a_truncation_that_is_taken_back_leaves_nobody_without_a_record() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options(SyncPolicy::OnDemand).seam(seam.clone()).open(path).unwrap();
    append(&journal, 1..=9);
    let mut follow = journal.follow(1);
    (1..=9).for_each(|n| assert_eq!(number(follow.try_next()), n));
    journal.sync().unwrap();
    seam.fail(EIO, Call::is_write);
    journal.truncate_back(5).unwrap_err();
    seam.allow_all();
    assert_eq!(truncated(follow.try_next()), 5);
    (6..=9).for_each(|n| assert_eq!(number(follow.try_next()), n));
    append(&journal, 10..=10);
    assert_eq!(number(follow.next().transpose()), 10);
}

#[test]
fn many_followers_get_every_record_in_order_while_others_come_and_go() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).buffer_size(4096).open(path).unwrap();
    const RECORDS: u64 = 900;
    std::thread::scope(|scope| {
        for at in 0..24 {
            let journal = &journal;
            scope.spawn(move || {
                let mut follow = journal.follow(1);
                let mut expected = 1;
                while expected <= RECORDS {
                    let got = match at % 3 {
                        // Some come anew each time, with waiting of no length in between.
                        0 => {
                            follow = journal.follow(expected);
                            let _ = journal.reader().wait_for(RECORDS + 1, AT_ONCE);
                            follow.next().transpose()
                        }
                        1 => follow.next_before(Instant::now() + Duration::from_micros(50)),
                        _ => follow.next().transpose(),
                    };
                    if let Ok(None) = got {
                        continue;
                    }
                    assert_eq!(number(got), expected);
                    expected += 1;
                }
            });
        }
        append(&journal, 1..=RECORDS);
    });
}

/// Waiting of which each step can be taken by hand.
struct ByHand<F> {
    future: F,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl<F: Future + Unpin> ByHand<F> {
    /// Waiting that has begun.
    #[track_caller]
    fn new(future: F) -> Self {
        let mut this = Self { future, woken: Arc::default() };
        assert!(this.poll().is_none(), "nothing to wait for");
        this
    }

    fn poll(&mut self) -> Option<F::Output> {
        let waker = Waker::from(Arc::clone(&self.woken));
        match Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// How often it was woken since it was asked last.
    fn woken(&self) -> usize {
        self.woken.0.swap(0, Ordering::SeqCst)
    }
}

#[test]
fn an_append_wakes_one_waiter_and_its_flush_the_others() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    let mut follows: Vec<Follow> = (0..5).map(|_| journal.follow(1)).collect();
    let mut futures: Vec<_> = follows.iter_mut().map(|follow| Box::pin(follow.next_async())).collect();
    let mut waiting: Vec<_> = futures.iter_mut().map(|future| ByHand::new(future.as_mut())).collect();
    append(&journal, 1..=100);
    let woken: Vec<usize> = waiting.iter().map(ByHand::woken).collect();
    assert_eq!(woken, [1, 0, 0, 0, 0], "one wake, however many appends");
    assert_eq!(journal.committed_index(), 0);
    assert_eq!(number(waiting[0].poll().unwrap().transpose()), 1);
    assert_eq!((journal.committed_index(), journal.stats().flushes), (100, 1));
    let woken: Vec<usize> = waiting.iter().map(ByHand::woken).collect();
    assert_eq!(woken, [0, 1, 1, 1, 1]);
    for task in &mut waiting[1..] {
        assert_eq!(number(task.poll().unwrap().transpose()), 1);
    }
    assert_eq!(journal.stats().flushes, 1);
}

#[test]
fn a_waiter_that_is_woken_and_goes_away_leaves_the_flush_to_the_next() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    let (mut one, mut two, mut three) = (journal.follow(1), journal.follow(1), journal.reader());
    let mut first = Some(Box::pin(one.next_async()));
    let task = ByHand::new(first.as_mut().unwrap().as_mut());
    let mut second = pin!(two.next_async());
    let mut second = ByHand::new(second.as_mut());
    let mut third = pin!(three.wait_for_async(1));
    let mut third = ByHand::new(third.as_mut());
    append(&journal, 1..=1);
    assert_eq!((task.woken(), second.woken(), third.woken()), (1, 0, 0));
    // Dropped before it was asked again, as a task that lost a race against a timeout is.
    drop(first.take());
    assert_eq!((second.woken(), third.woken()), (1, 0));
    assert_eq!(number(second.poll().unwrap().transpose()), 1);
    assert_eq!(third.woken(), 1);
    third.poll().unwrap().unwrap();
}

#[test]
fn a_waiter_that_has_its_record_before_it_looks_keeps_no_other_from_its_own() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    let (mut one, mut two, mut three) = (journal.reader(), journal.reader(), journal.reader());
    let mut first = pin!(one.wait_for_async(1));
    let mut first = ByHand::new(first.as_mut());
    let mut second = pin!(two.wait_for_async(2));
    let mut second = ByHand::new(second.as_mut());
    append(&journal, 1..=1);
    assert_eq!((first.woken(), second.woken()), (1, 0));
    journal.flush().unwrap();
    assert_eq!((first.woken(), second.woken()), (0, 1));
    assert!(second.poll().is_none());
    // `second` waits again; `first`, woken for the first record, has not looked yet.
    let mut third = pin!(three.wait_for_async(2));
    let mut third = ByHand::new(third.as_mut());
    append(&journal, 2..=2);
    first.poll().unwrap().unwrap();
    assert_eq!((second.woken(), third.woken()), (1, 0));
    second.poll().unwrap().unwrap();
    assert_eq!(third.woken(), 1);
    third.poll().unwrap().unwrap();
    assert_eq!(journal.committed_index(), 2);
}

/// The one that was woken for what is staged finds it cut: the append after that has to wake someone again.
#[test]
fn after_a_cut_of_what_is_staged_an_append_wakes_again() {
    for kept in [1, 0] {
        let (_dir, path) = place_in_memory();
        let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
        append(&journal, 1..=1);
        journal.flush().unwrap();
        let mut follow = journal.follow(2);
        let mut future = Box::pin(follow.next_async());
        let mut task = ByHand::new(future.as_mut());
        append(&journal, 2..=2);
        assert_eq!(task.woken(), 1);
        journal.truncate_back(kept).unwrap();
        assert_eq!(truncated(task.poll().unwrap().transpose()), kept);
        drop(future);
        let mut future = Box::pin(follow.next_async());
        let mut task = ByHand::new(future.as_mut());
        append(&journal, [1000 + kept + 1]);
        assert_eq!(task.woken(), 1, "cut to {kept}");
        assert_eq!(number(task.poll().unwrap().transpose()), 1000 + kept + 1);
    }
}

#[test]
fn nobody_is_woken_for_nothing() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    let (mut one, mut two) = (journal.follow(1), journal.follow(1).durable());
    let mut first = pin!(one.next_async());
    let mut first = ByHand::new(first.as_mut());
    let mut second = pin!(two.next_async());
    let mut second = ByHand::new(second.as_mut());
    journal.flush().unwrap();
    drop(journal.snapshot());
    journal.reader().get(1);
    assert_eq!((first.woken(), second.woken()), (0, 0));
    append(&journal, 1..=1);
    journal.flush().unwrap();
    assert_eq!(first.woken(), 1);
    assert_eq!(second.woken(), 0, "nothing is durable yet");
    journal.sync().unwrap();
    assert_eq!((first.woken(), second.woken()), (0, 1));
    assert!(first.poll().is_some() && second.poll().is_some());
}

#[test]
fn a_waiter_is_woken_by_a_cut_a_failure_and_the_end() {
    type Happens = fn(&Journal, &Seam);
    let cut: Happens = |journal, _| journal.truncate_back(1).unwrap();
    let failure: Happens = |journal, seam| {
        seam.fail(EIO, Call::is_sync);
        journal.sync().unwrap_err();
    };
    for (happens, closes) in [(cut, false), (failure, false), (|_, _| (), true)] {
        let (_dir, path) = place_in_memory();
        let seam = Seam::new();
        let journal = options(SyncPolicy::OnDemand).seam(seam.clone()).open(path).unwrap();
        append(&journal, 1..=2);
        journal.sync().unwrap();
        append(&journal, 3..=3);
        journal.flush().unwrap();
        let (mut one, mut two, mut three) =
            (journal.follow(4), journal.follow(4).durable(), journal.reader());
        let mut first = pin!(one.next_async());
        let mut first = ByHand::new(first.as_mut());
        let mut second = pin!(two.next_async());
        let mut second = ByHand::new(second.as_mut());
        let mut third = pin!(three.wait_for_async(4));
        let mut third = ByHand::new(third.as_mut());
        happens(&journal, &seam);
        if closes {
            journal.close().unwrap();
        }
        assert_eq!(second.woken(), 1);
        assert!(matches!(second.poll(), Some(Some(Err(_)))));
        assert!(first.woken() == 1 && third.woken() == 1);
        assert!(matches!((first.poll(), third.poll()), (Some(Some(Err(_))), Some(Err(_)))));
    }
}

#[test]
fn under_always_the_append_itself_flushes_and_wakes() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::Always).open(path).unwrap();
    let (mut one, mut two) = (journal.follow(1), journal.follow(1).durable());
    let mut first = pin!(one.next_async());
    let mut first = ByHand::new(first.as_mut());
    let mut second = pin!(two.next_async());
    let mut second = ByHand::new(second.as_mut());
    append(&journal, 1..=1);
    assert_eq!((first.woken(), second.woken()), (1, 1));
    assert_eq!(journal.stats().flushes, 1);
    assert!(first.poll().is_some() && second.poll().is_some());
}

#[test]
fn followers_that_are_gone_leave_nothing() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(&path).unwrap();
    for _ in 0..100 {
        let (mut follow, mut reader) = (journal.follow(1), journal.reader());
        {
            let mut waiting = pin!(follow.next_async());
            ByHand::new(waiting.as_mut());
        }
        assert!(!reader.wait_for(1, AT_ONCE).unwrap());
    }
    append(&journal, 1..=1);
    assert_eq!(journal.stats().flushes, 0, "nobody is there to flush");
    journal.close().unwrap();
    assert_eq!(Journal::open(path).unwrap().last_index(), 1, "nobody keeps the file locked");
}

#[test]
fn a_follower_can_be_sent_and_outlives_its_journal() {
    fn sent<T: Send + 'static>(_: &T) {}
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(&path).unwrap();
    append(&journal, 1..=1);
    let mut follow = journal.follow(1);
    sent(&follow);
    journal.close().unwrap();
    assert!(matches!(Journal::open(path), Err(Error::Locked { .. })));
    assert_eq!(number(follow.next().transpose()), 1);
    let waiting = follow.next_async();
    sent_future(waiting);
}

#[test]
fn a_follower_that_has_told_its_end_keeps_no_lock() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(&path).unwrap();
    append(&journal, 1..=1);
    let mut followers = [journal.follow(1), journal.follow(1).durable(), journal.follow(2)];
    journal.close().unwrap();
    for follow in &mut followers {
        assert!(matches!(Journal::open(&path), Err(Error::Locked { .. })), "not every end was told");
        for record in follow.by_ref() {
            assert!(record.is_ok() || matches!(record, Err(Error::Closed)));
        }
    }
    let journal = Journal::open(&path).expect("nobody keeps the file locked");
    append(&journal, 2..=2);
    for follow in &mut followers {
        assert!(follow.next().is_none());
        assert!(matches!(follow.try_next(), Err(Error::Closed)), "the same error each time");
        assert_eq!(follow.next_index(), 2);
    }

    // A poisoned one, in a task.
    let (_dir, path) = place_in_memory();
    let seam = Seam::new();
    let journal = options(SyncPolicy::OnDemand).seam(seam.clone()).open(&path).unwrap();
    append(&journal, 1..=1);
    seam.fail(EIO, Call::is_sync);
    let mut follow = journal.follow(2);
    journal.sync().unwrap_err();
    let poisoned =
        |told| matches!(told, Err(Error::Poisoned { first, .. }) if first.to_string().contains("sync"));
    while let Some(told) = pollster::block_on(follow.next_async()) {
        assert!(poisoned(told.map(|_| ())) || follow.next_index() == 1);
    }
    drop(journal);
    assert!(Journal::open(&path).is_ok(), "nobody keeps the file locked");
    assert!(poisoned(follow.next_before(Instant::now()).map(|_| ())));
    assert!(pollster::block_on(follow.next_async()).is_none());
}

fn sent_future(future: impl Future + Send) {
    drop(future);
}

/// A waker that does something of its own each time.
struct Does {
    work: Box<dyn Fn() + Send + Sync>,
    times: AtomicUsize,
}

impl Does {
    fn new(work: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { work: Box::new(work), times: AtomicUsize::new(0) })
    }
}

impl Wake for Does {
    fn wake(self: Arc<Self>) {
        self.times.fetch_add(1, Ordering::SeqCst);
        (self.work)();
    }
}

fn poll_with<F: Future + ?Sized>(
    future: Pin<&mut F>,
    waker: &Arc<impl Wake + Send + Sync + 'static>,
) -> bool {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(waker)))).is_ready()
}

#[test]
fn a_waker_may_call_the_journal() {
    type Call = fn(&Journal);
    let acts: [Call; 7] = [
        |journal| assert!(journal.append(b"more").unwrap() > 0),
        |journal| journal.flush().unwrap(),
        |journal| journal.sync().unwrap(),
        |journal| journal.truncate_back(0).unwrap(),
        |journal| drop(journal.stats()),
        |journal| drop(journal.follow(1).next_before(Instant::now())),
        |journal| {
            let (mut follow, mut reader) = (journal.follow(1), journal.reader());
            let _ = poll_with(pin!(follow.next_async()), &Arc::new(Woken::default()));
            let _ = poll_with(pin!(reader.wait_for_async(9)), &Arc::new(Woken::default()));
        },
    ];
    let happens: [Call; 4] = [
        |journal| append(journal, 3..=3),
        |journal| {
            append(journal, 3..=3);
            journal.flush().unwrap();
        },
        |journal| {
            append(journal, 3..=3);
            journal.sync().unwrap();
        },
        |journal| journal.truncate_back(1).unwrap(),
    ];
    for policy in [SyncPolicy::OnDemand, SyncPolicy::Always] {
        for act in acts {
            for happens in happens {
                let (_dir, path) = place_in_memory();
                let journal = Arc::new(options(policy).open(path).unwrap());
                append(&journal, 1..=2);
                journal.sync().unwrap();
                let (mut one, mut two) = (journal.follow(3), journal.follow(3).durable());
                let (mut first, mut second) = (pin!(one.next_async()), pin!(two.next_async()));
                let acting = Arc::clone(&journal);
                let waker = Does::new(move || act(&acting));
                assert!(!poll_with(first.as_mut(), &waker) && !poll_with(second.as_mut(), &waker));
                happens(&journal);
                assert!(waker.times.load(Ordering::SeqCst) >= 1);
            }
        }
    }
}

type Task = Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>;

#[test]
fn a_waker_may_drop_its_task() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    let mut other = journal.follow(1);
    let (mut one, mut two) = (journal.follow(1), journal.follow(1).durable());
    let first: Arc<Task> = Arc::new(Mutex::new(Some(Box::pin(async move { drop(one.next_async().await) }))));
    let second: Arc<Task> = Arc::new(Mutex::new(Some(Box::pin(async move { drop(two.next_async().await) }))));
    for task in [&first, &second] {
        let of_waker = Arc::clone(task);
        let waker = Does::new(move || drop(of_waker.lock().unwrap().take()));
        assert!(!poll_with(task.lock().unwrap().as_mut().unwrap().as_mut(), &waker));
    }
    let mut next = pin!(other.next_async());
    let next = ByHand::new(next.as_mut());
    append(&journal, 1..=1);
    assert!(first.lock().unwrap().is_none());
    assert_eq!(next.woken(), 1, "the flush is left to the next");
    journal.sync().unwrap();
    assert!(second.lock().unwrap().is_none());
}

#[test]
fn a_waker_may_drop_the_journal() {
    // One that the thread wakes that commits, and one that the background thread does.
    for at in [1, 30] {
        let (_dir, path) = place_in_memory();
        let journal = options(SyncPolicy::OnDemand).open(&path).unwrap();
        append(&journal, 1..=1);
        journal.flush().unwrap();
        let mut follows: Vec<Follow> = (0..40).map(|_| journal.follow(2)).collect();
        let mut futures: Vec<_> = follows.iter_mut().map(|follow| Box::pin(follow.next_async())).collect();
        let (calls, journal) = (Calls::new(), Arc::new(Mutex::new(Some(journal))));
        for (n, future) in futures.iter_mut().enumerate() {
            let (calls, journal) = (Arc::clone(&calls), Arc::clone(&journal));
            let waker = Does::new(move || {
                if n == at {
                    let last = journal.lock().unwrap().take();
                    drop(last);
                }
                calls.note(n);
            });
            assert!(!poll_with(future.as_mut(), &waker));
        }
        append(journal.lock().unwrap().as_ref().unwrap(), 2..=2);
        // The one that was woken flushes, and the journal is in nobody's hands meanwhile.
        assert!(poll_with(futures[0].as_mut(), &Arc::new(Woken::default())));
        drop(calls.wait_for(40));
        assert!(journal.lock().unwrap().is_none());
        drop(futures);
        for follow in &mut follows[1..] {
            assert_eq!(number(follow.next().transpose()), 2);
            assert!(matches!(follow.next(), Some(Err(Error::Closed))));
        }
    }
}

/// Which waker was called, and by which thread.
#[derive(Default)]
struct Calls {
    calls: Mutex<Vec<(usize, ThreadId)>>,
    noted: Condvar,
}

impl Calls {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn note(&self, n: usize) {
        self.calls.lock().unwrap().push((n, std::thread::current().id()));
        self.noted.notify_all();
    }

    /// Returns once there were so many.
    fn wait_for(&self, count: usize) -> MutexGuard<'_, Vec<(usize, ThreadId)>> {
        self.noted.wait_while(self.calls.lock().unwrap(), |calls| calls.len() < count).unwrap()
    }

    /// How many this thread has made, of `count`.
    fn of_this_thread(&self, count: usize) -> usize {
        let calls = self.wait_for(count);
        assert_eq!(calls.len(), count);
        calls.iter().filter(|(_, thread)| *thread == std::thread::current().id()).count()
    }

    fn waker(self: &Arc<Self>, n: usize) -> Arc<Does> {
        let this = Arc::clone(self);
        Does::new(move || this.note(n))
    }
}

#[test]
fn the_writer_wakes_few_and_nobody_is_forgotten() {
    for (tasks, by_the_writer) in [(1, 1), (16, 16), (17, 16), (100, 16), (1000, 16)] {
        let (_dir, path) = place_in_memory();
        let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
        let mut follows: Vec<Follow> = (0..tasks).map(|_| journal.follow(1).durable()).collect();
        let mut futures: Vec<_> = follows.iter_mut().map(|follow| Box::pin(follow.next_async())).collect();
        let calls = Calls::new();
        for (n, future) in futures.iter_mut().enumerate() {
            assert!(!poll_with(future.as_mut(), &calls.waker(n)));
        }
        append(&journal, 1..=1);
        assert_eq!(calls.wait_for(0).len(), 0);
        journal.sync().unwrap();
        assert_eq!(calls.of_this_thread(tasks), by_the_writer, "of {tasks}");
        let mut woken: Vec<usize> = calls.wait_for(tasks).iter().map(|(n, _)| *n).collect();
        woken.sort_unstable();
        assert_eq!(woken, (0..tasks).collect::<Vec<_>>());
        assert!(futures.iter_mut().all(|future| poll_with(future.as_mut(), &calls.waker(0))));
    }
}

#[test]
fn the_end_wakes_all_before_close_returns() {
    for closes in [true, false] {
        let (_dir, path) = place_in_memory();
        let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
        let mut follows: Vec<Follow> =
            (0..50).flat_map(|_| [journal.follow(1), journal.follow(1).durable()]).collect();
        let mut futures: Vec<_> = follows.iter_mut().map(|follow| Box::pin(follow.next_async())).collect();
        let calls = Calls::new();
        for (n, future) in futures.iter_mut().enumerate() {
            assert!(!poll_with(future.as_mut(), &calls.waker(n)));
        }
        match closes {
            true => journal.close().unwrap(),
            false => drop(journal),
        }
        assert_eq!(calls.wait_for(0).len(), 100);
    }
}

#[test]
fn a_waker_that_blocks_keeps_neither_appends_nor_the_others_from_going_on() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    const BLOCKS: usize = 30;
    let mut follows: Vec<Follow> = (0..60).map(|_| journal.follow(1)).collect();
    let mut futures: Vec<_> = follows.iter_mut().map(|follow| Box::pin(follow.next_async())).collect();
    let (calls, gate) = (Calls::new(), Calls::new());
    for (n, future) in futures.iter_mut().enumerate() {
        let (calls, gate) = (Arc::clone(&calls), Arc::clone(&gate));
        let waker = Does::new(move || {
            calls.note(n);
            if n == BLOCKS {
                drop(gate.wait_for(1));
            }
        });
        assert!(!poll_with(future.as_mut(), &waker));
    }
    append(&journal, 1..=1);
    journal.flush().unwrap();
    // The background thread stands still from here on.
    drop(calls.wait_for(BLOCKS + 1));
    append(&journal, 2..=2);
    journal.flush().unwrap();
    for future in &mut futures[..BLOCKS] {
        assert!(poll_with(future.as_mut(), &calls.waker(0)));
    }
    assert_eq!(calls.wait_for(0).len(), 60, "those that were woken have woken the others");
    gate.note(0);
    journal.close().unwrap();
}

#[test]
fn a_waker_that_panics_keeps_nobody_from_being_woken() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    let mut follows: Vec<Follow> = (0..40).map(|_| journal.follow(1)).collect();
    let mut futures: Vec<_> = follows.iter_mut().map(|follow| Box::pin(follow.next_async())).collect();
    let calls = Calls::new();
    for (n, future) in futures.iter_mut().enumerate() {
        let calls = Arc::clone(&calls);
        let waker = Does::new(move || {
            calls.note(n);
            assert!(![2, 35].contains(&n), "this panic is part of the test");
        });
        assert!(!poll_with(future.as_mut(), &waker));
    }
    append(&journal, 1..=1);
    journal.flush().unwrap();
    drop(calls.wait_for(40));
    append(&journal, 2..=2);
    journal.close().unwrap();
}

/// What does not wait for records waits for no disk either.
#[track_caller]
fn answers_at_once(journal: &Journal, n: u64) {
    let (mut follow, mut reader) = (journal.follow(n), journal.reader());
    assert!(follow.try_next().unwrap().is_none());
    assert!(follow.next_before(Instant::now()).unwrap().is_none());
    assert!(follow.next_before(Instant::now() + Duration::from_millis(2)).unwrap().is_none());
    assert!(!reader.wait_for(n, AT_ONCE).unwrap());
    assert!(!reader.wait_for(n, Duration::from_millis(2)).unwrap());
}

#[test]
fn what_does_not_wait_is_not_kept_by_a_sync_that_a_flush_needs() {
    let (_dir, path) = place_in_memory();
    let seam = Seam::new();
    let journal = Arc::new(options(SyncPolicy::OnDemand).seam(seam.clone()).open(path).unwrap());
    append(&journal, 1..=1);
    journal.sync().unwrap();
    // So much without a barrier that the next flush has to be preceded by a sync.
    assert_eq!(journal.append(&vec![1; 64 << 20]).unwrap(), 2);
    assert_eq!(journal.committed_index(), 2);
    append(&journal, 3..=3);
    let (mut one, mut two) = (journal.follow(3), journal.reader());
    seam.hold_syncs();
    answers_at_once(&journal, 3);
    let mut first = pin!(one.next_async());
    let mut first = ByHand::new(first.as_mut());
    let mut second = pin!(two.wait_for_async(3));
    let calls = Calls::new();
    assert!(!poll_with(second.as_mut(), &calls.waker(0)));
    seam.wait_held();
    answers_at_once(&journal, 3);
    seam.release();
    drop(calls.wait_for(1));
    assert!(poll_with(second.as_mut(), &calls.waker(0)));
    assert_eq!(number(first.poll().unwrap().transpose()), 3);
    assert_eq!(journal.committed_index(), 3);
}

#[test]
fn what_does_not_wait_is_not_kept_by_a_truncation() {
    let (_dir, path) = place_in_memory();
    let seam = Seam::new();
    let journal = options(SyncPolicy::OnDemand).seam(seam.clone()).open(path).unwrap();
    append(&journal, 1..=2);
    journal.sync().unwrap();
    append(&journal, 3..=3);
    journal.flush().unwrap();
    std::thread::scope(|scope| {
        seam.hold_syncs();
        let cut = scope.spawn(|| journal.truncate_back(2));
        // It has the append lock from here on.
        seam.wait_held();
        answers_at_once(&journal, 4);
        let mut follow = journal.follow(4);
        let mut next = pin!(follow.next_async());
        let calls = Calls::new();
        assert!(!poll_with(next.as_mut(), &calls.waker(0)));
        seam.release();
        cut.join().unwrap().unwrap();
        drop(calls.wait_for(1));
        assert!(poll_with(next.as_mut(), &calls.waker(0)), "it is told of the cut");
    });
}

#[test]
fn what_does_not_wait_is_not_kept_by_a_roll_back() {
    let (_dir, path) = place_in_memory();
    let seam = Seam::new();
    let journal = options(SyncPolicy::OnDemand).seam(seam.clone()).open(path).unwrap();
    append(&journal, 1..=1);
    let (mut follow, mut reader) = (journal.follow(1), journal.reader());
    seam.fail(ENOSPC, writes_records);
    seam.hold_syncs();
    // The write is refused at once; what it left is taken off, which takes a sync, by the background thread.
    assert!(matches!(follow.try_next(), Err(Error::Io { op: "write", .. })));
    seam.wait_held();
    assert!(matches!(follow.try_next(), Err(Error::Io { op: "write", .. })));
    assert!(matches!(reader.wait_for(1, AT_ONCE), Err(Error::Io { op: "write", .. })));
    seam.allow_all();
    seam.release();
    assert_eq!(number(follow.next().transpose()), 1);
}

#[test]
fn a_follower_that_begins_where_no_record_follows_is_told() {
    let (_dir, path) = place_in_memory();
    let journal = options(SyncPolicy::OnDemand).open(path).unwrap();
    assert!(journal.follow(1).try_next().unwrap().is_none());
    append(&journal, 1..=3);
    assert!(journal.follow(4).try_next().unwrap().is_none());
    for from in [5, 6, u64::MAX] {
        let follows = || [journal.follow(from), journal.follow(from).durable()];
        let told = |error: &Error| matches!(error, Error::OutOfRange { index, first: 1, last: 3, .. } if *index == from);
        for mut follow in follows() {
            assert!(told(&follow.next().unwrap().unwrap_err()));
            assert!(follow.next().is_none());
        }
        for mut follow in follows() {
            assert!(told(&follow.try_next().unwrap_err()) && told(&follow.try_next().unwrap_err()));
            assert!(follow.next().is_none());
        }
        for mut follow in follows() {
            assert!(told(&follow.next_before(Instant::now()).unwrap_err()));
            let mut next = pin!(follow.next_async());
            assert!(matches!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(None)));
        }
        for mut follow in follows() {
            let mut next = pin!(follow.next_async());
            match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Err(error))) => assert!(told(&error)),
                _ => panic!("it would wait for ever, or for another record than was meant"),
            }
        }
    }
    // It was told, so nothing that comes later is taken for what was meant.
    let mut follow = journal.follow(5);
    append(&journal, 4..=6);
    assert!(matches!(follow.next(), Some(Err(Error::OutOfRange { index: 5, first: 1, last: 3, .. }))));
    assert!(follow.next().is_none());
}
