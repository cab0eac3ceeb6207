//! What runs in a steady state allocates nothing. Allocations are counted per thread, so that tests which run at the
//! same time do not disturb each other.
#![allow(unsafe_code)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::io::IoSlice;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use common::{payload, place_in_memory as place};
use wally::{Batch, Format, IndexMode, Journal, Options, SyncPolicy};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count_one() {
    // A thread that is ending has no counter any more, and nobody to ask for it.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every call is handed on to the system's allocator as it is; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller's promise is the one that `System` wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller's promise is the one that `System` wants.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count_one();
        // SAFETY: the caller's promise is the one that `System` wants.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the one that `System` wants.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread allocates in `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// Records that are read.
const RECORDS: u64 = 1000;

fn journals() -> impl Iterator<Item = (tempfile::TempDir, Journal)> {
    let modes = [IndexMode::Full, IndexMode::Sparse(16), IndexMode::Scan];
    let policies = [SyncPolicy::OnDemand, SyncPolicy::Always];
    modes
        .into_iter()
        .flat_map(move |mode| policies.map(|policy| (mode, policy)))
        .flat_map(|(mode, policy)| [Format::Sealed, Format::Reference].map(|format| (mode, policy, format)))
        .map(|(mode, policy, format)| {
            let (dir, path) = place();
            let mut options = Options::new();
            options.index(mode).sync_policy(policy).new_file_format(format).buffer_size(4096);
            (dir, options.open(path).unwrap())
        })
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| ()), 0);
}

#[test]
fn an_append_allocates_nothing() {
    for (_dir, journal) in journals() {
        let (small, large) = (payload(1, 100), payload(2, 5000));
        journal.append(&small).unwrap();
        let made = allocations(|| {
            for _ in 0..50 {
                journal.append(&small).unwrap();
                journal.append(b"").unwrap();
                journal.append(&large).unwrap();
                journal.append_vectored(&[IoSlice::new(&small), IoSlice::new(&large)]).unwrap();
                journal.append_vectored(&[]).unwrap();
            }
            journal.flush().unwrap();
            journal.sync().unwrap();
            journal.wait_durable(20).unwrap();
        });
        assert_eq!(made, 0, "{journal:?}");
    }
}

#[test]
fn the_index_grows_without_allocating() {
    let (_dir, path) = place();
    let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(path).unwrap();
    journal.append(b"first").unwrap();
    let made = allocations(|| {
        for _ in 0..10 * 4096 {
            journal.append(b"some more").unwrap();
        }
    });
    assert_eq!(made, 0);
}

#[test]
fn reading_allocates_nothing() {
    for (_dir, journal) in journals().filter(|(_, journal)| journal.format() == Format::Sealed) {
        let bytes = payload(1, 300);
        journal.append_batch((0..RECORDS).map(|_| &bytes)).unwrap();
        journal.flush().unwrap();
        let mut buf = Vec::with_capacity(300);
        let mut reader = journal.reader();
        let snapshot = journal.snapshot();
        // A thread's first read may make a place for it in what readers share.
        black_box(reader.get(1));
        drop(journal.read_ref(1).unwrap());
        let made = allocations(|| {
            for n in [1, 2, 3, 500, 17, RECORDS, 1, 0, RECORDS + 1] {
                black_box(reader.get(n));
                black_box(snapshot.get(n));
            }
            for n in [1, 2, 3, 500, 17, RECORDS, 1] {
                journal.read_into(n, &mut buf).unwrap();
                let record = journal.read_ref(n).unwrap();
                record.verify().unwrap();
                black_box(&record[..]);
                black_box(journal.data_range(n).unwrap());
            }
            assert_eq!(snapshot.iter().count(), RECORDS as usize);
            assert_eq!(snapshot.range(900..).rev().count(), 101);
            black_box((reader.first_index(), reader.last_index()));
            black_box(reader.status());
            black_box((journal.first_index(), journal.last_index(), journal.durable_index()));
        });
        assert_eq!(made, 0, "{journal:?}");
    }
}

#[test]
fn reading_what_is_being_appended_allocates_nothing() {
    for (_dir, journal) in journals() {
        let mut reader = journal.reader();
        let mut buf = Vec::with_capacity(100);
        journal.append(b"first").unwrap();
        journal.read_into(1, &mut buf).unwrap();
        black_box(reader.get(1));
        let made = allocations(|| {
            for _ in 0..20 {
                let n = journal.append(b"some bytes").unwrap();
                journal.read_into(n, &mut buf).unwrap();
                assert_eq!(reader.get(n), Some(&b"some bytes"[..]));
            }
        });
        assert_eq!(made, 0, "{journal:?}");
    }
}

/// The first time that a thread waits it makes what it is woken by.
fn first_wait(journals: [&Journal; 2]) {
    for journal in journals {
        assert!(!journal.reader().wait_for(u64::MAX, Duration::from_millis(1)).unwrap());
    }
}

/// Two threads, each of which waits for the other's record before it appends its own; how often they allocated.
fn ping_pong(ping: &Journal, pong: &Journal, mut wait: [impl FnMut() + Send; 2]) -> [u64; 2] {
    let [wait_ping, wait_pong] = &mut wait;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut round = || {
                wait_ping();
                pong.append(b"pong").unwrap();
            };
            first_wait([ping, pong]);
            (0..3).for_each(|_| round());
            allocations(|| (0..100).for_each(|_| round()))
        });
        let mut round = || {
            ping.append(b"ping").unwrap();
            wait_pong();
        };
        first_wait([ping, pong]);
        (0..3).for_each(|_| round());
        let made = allocations(|| (0..100).for_each(|_| round()));
        [made, other.join().unwrap()]
    })
}

#[test]
fn waiting_and_following_allocate_nothing() {
    for ((_a, ping), (_b, pong)) in journals().zip(journals()) {
        let mut follows = [&ping, &pong].map(|journal| journal.follow(1));
        let follow = follows.each_mut().map(|follow| || drop(follow.next().unwrap().unwrap()));
        assert_eq!(ping_pong(&ping, &pong, follow), [0; 2], "{ping:?}");

        let mut readers = [&ping, &pong].map(|journal| (journal.reader(), journal.last_index()));
        let wait = readers.each_mut().map(|(reader, n)| {
            || {
                *n += 1;
                assert!(reader.wait_for(*n, None).unwrap());
                black_box(reader.get(*n));
            }
        });
        assert_eq!(ping_pong(&ping, &pong, wait), [0; 2], "{ping:?}");
    }
}

#[test]
fn waiting_in_a_task_allocates_nothing() {
    for (_dir, journal) in journals() {
        let mut follow = journal.follow(1);
        let mut context = Context::from_waker(Waker::noop());
        let mut round = || {
            let mut next = pin!(follow.next_async());
            assert!(next.as_mut().poll(&mut context).is_pending());
            journal.append(b"record").unwrap();
            assert!(next.as_mut().poll(&mut context).is_ready());
        };
        round();
        assert_eq!(allocations(|| (0..100).for_each(|_| round())), 0, "{journal:?}");
    }
}

#[test]
fn read_into_allocates_only_when_the_buffer_is_too_small() {
    let (_dir, path) = place();
    let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(path).unwrap();
    for len in [100, 200, 50] {
        journal.append(&payload(len, len as usize)).unwrap();
    }
    journal.flush().unwrap();
    let mut buf = Vec::with_capacity(100);
    drop(journal.read_ref(1).unwrap());
    for (n, want) in [(1, 0), (2, 1), (1, 0), (3, 0), (2, 0)] {
        assert_eq!(allocations(|| journal.read_into(n, &mut buf).unwrap()), want, "{n}");
    }
}

#[test]
fn a_batch_that_is_used_again_allocates_nothing() {
    for (_dir, journal) in journals() {
        let large = payload(1, 3000);
        let mut batch = Batch::new();
        let fill = |batch: &mut Batch| {
            batch.clear();
            for _ in 0..20 {
                batch.push(b"small");
            }
            journal.write_batch(batch).unwrap();
            batch.push(&large);
            batch.push(&large);
            journal.write_batch(batch).unwrap();
        };
        fill(&mut batch);
        let made = allocations(|| {
            for _ in 0..20 {
                fill(&mut batch);
            }
        });
        assert_eq!(made, 0);
    }
}
