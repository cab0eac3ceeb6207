//! Work on several threads at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Runs `rounds` on `threads` together and returns the time from the first start to the last end. Each thread creates a
/// worker, which takes `block` rounds at a time: so the other threads do the part of a thread that the system holds up, and
/// at the end no thread waits long for another.
pub fn spread<W: FnMut(u64)>(
    threads: usize,
    rounds: u64,
    block: u64,
    worker: impl Fn(usize) -> W + Sync,
) -> Duration {
    let taken = AtomicU64::new(0);
    let ready = Barrier::new(threads);
    let work = |thread: usize| {
        let mut worker = worker(thread);
        ready.wait();
        let start = Instant::now();
        loop {
            let at = taken.fetch_add(block, Ordering::Relaxed);
            if at >= rounds {
                return (start, Instant::now());
            }
            worker(block.min(rounds - at));
        }
    };
    let times: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        let mut times = vec![work(0)];
        times.extend(others.into_iter().map(|other| other.join().expect("a worker that ends")));
        times
    });
    let first = times.iter().map(|(start, _)| *start).min().expect("a thread");
    let last = times.iter().map(|(_, end)| *end).max().expect("a thread");
    last - first
}

/// Runs `work` while another thread runs `background` over and over. Returns the result of `work`, and how often and how
/// long `background` ran. `work` begins when `background` has run once.
pub fn beside<T>(mut background: impl FnMut() + Send, work: impl FnOnce() -> T) -> (T, u64, Duration) {
    let stop = AtomicBool::new(false);
    let (running, runs) = mpsc::channel();
    thread::scope(|scope| {
        let stop = &stop;
        let background = scope.spawn(move || {
            background();
            running.send(()).expect("someone who waits for it");
            let (start, mut times) = (Instant::now(), 0);
            while !stop.load(Ordering::Relaxed) {
                background();
                times += 1;
            }
            (times, start.elapsed())
        });
        runs.recv().expect("a background that runs");
        let stopper = Stop(stop);
        let result = work();
        drop(stopper);
        let (times, took) = background.join().expect("a background that ends");
        (result, times, took)
    })
}

/// Ends the other thread also if the work panics: else this thread would wait for it for ever.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
