//! One appender and from 1 to 1000 followers that each read everything, under `OnDemand`: only waiting followers flush.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use wally::{Follow, SyncPolicy};

use crate::common::folder::Folder;
use crate::common::rounds::Median;
use crate::common::{payload, quick, rate};

const FOLLOWERS: [usize; 4] = [1, 10, 100, 1000];
const LEN: usize = 256;

/// The stack of a follower's thread in bytes: small, so that the memory is there for the records that are read.
const STACK: usize = 128 << 10;

pub(crate) fn run(folder: &Folder) {
    let times = if quick() { 1 } else { 5 };
    println!("\nfollowers of one appender of {LEN} B: until all have all, when it goes as fast as it can;");
    println!("from append to delivery, when it waits until all have the last");
    let (appends, delivered) = ("appends", "delivered");
    println!("{:>9} {appends:>12} {delivered:>12} {:>12} {:>12}", "followers", "median", "of 100: 99");
    for followers in FOLLOWERS {
        // About as many deliveries for all numbers of followers.
        let most = if quick() { 2000 } else { 20_000_000 };
        let records = (most / followers).clamp(if quick() { 2 } else { 20_000 }, 500_000);
        let seconds = (0..times).map(|_| stream(folder, followers, records)).collect::<Vec<_>>();
        let appended = seconds.iter().map(|(appending, _)| records as f64 / appending).collect();
        let delivered = seconds.iter().map(|(_, all)| (records * followers) as f64 / all).collect();

        let most = if quick() { 2000 } else { 100_000 };
        let mut delays = one_by_one(folder, followers, (most / followers).clamp(2, 5000));
        delays.sort_unstable();
        let delay = |part: usize| format!("{:.1} µs", delays[delays.len() * part / 100] as f64 / 1e3);
        println!(
            "{followers:>9} {:>12} {:>12} {:>12} {:>12}",
            rate(Median::of(appended).value),
            rate(Median::of(delivered).value),
            delay(50),
            delay(99),
        );
    }
}

/// Appends `records` as fast as possible while each of `followers` reads all of them. Returns the seconds until all were
/// appended, and until all were delivered.
fn stream(folder: &Folder, followers: usize, records: usize) -> (f64, f64) {
    let payload = payload(LEN, 1);
    let ready = Barrier::new(followers + 1);
    thread::scope(|scope| {
        // Created inside of the scope, so that a panic drops it, which ends the followers that wait for it.
        let journal = folder.journal(SyncPolicy::OnDemand);
        let threads: Vec<_> = (0..followers)
            .map(|_| {
                let follow = journal.follow(1);
                spawn(scope, || {
                    ready.wait();
                    let bytes: usize = take(follow, records).map(|record| record.len()).sum();
                    assert_eq!(bytes, records * LEN);
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        for _ in 0..records {
            journal.append(&payload).expect("an append");
        }
        let appended = start.elapsed();
        threads.into_iter().for_each(|thread| thread.join().expect("a follower that ends"));
        (appended.as_secs_f64(), start.elapsed().as_secs_f64())
    })
}

/// Appends one of `records` after the other, each when all of `followers` have the one before. Returns the nanoseconds from
/// each append to each delivery.
fn one_by_one(folder: &Folder, followers: usize, records: usize) -> Vec<u64> {
    let (delivered, ready) = (AtomicUsize::new(0), Barrier::new(followers + 1));
    let (appender, epoch) = (thread::current(), Instant::now());
    let now = || u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
    thread::scope(|scope| {
        // Created inside of the scope, so that a panic drops it, which ends the followers that wait for it.
        let journal = folder.journal(SyncPolicy::OnDemand);
        let threads: Vec<_> = (0..followers)
            .map(|_| {
                let follow = journal.follow(1);
                let (delivered, ready, appender) = (&delivered, &ready, &appender);
                spawn(scope, move || {
                    ready.wait();
                    let received = |record: wally::RecordRef| {
                        let sent = record.first_chunk().expect("a time in front");
                        let delay = now() - u64::from_le_bytes(*sent);
                        if (delivered.fetch_add(1, Ordering::Release) + 1).is_multiple_of(followers) {
                            appender.unpark();
                        }
                        delay
                    };
                    take(follow, records).map(received).collect::<Vec<u64>>()
                })
            })
            .collect();
        ready.wait();
        let mut record = payload(LEN, 1);
        for n in 1..=records {
            record[..8].copy_from_slice(&now().to_le_bytes());
            journal.append(&record).expect("an append");
            while delivered.load(Ordering::Acquire) < n * followers {
                // With a limit, for a follower that panics and so does not wake this thread.
                thread::park_timeout(Duration::from_secs(1));
                let ended = threads.iter().any(|thread| thread.is_finished());
                assert!(!ended || n == records, "a follower ended early");
            }
        }
        threads.into_iter().flat_map(|thread| thread.join().expect("a follower that ends")).collect()
    })
}

fn take(follow: Follow, records: usize) -> impl Iterator<Item = wally::RecordRef> {
    follow.take(records).map(|record| record.expect("a record"))
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).expect("a thread")
}
