//! Work on several threads at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long `threads` take for `rounds` together, from the first to start to the last to end. Each makes itself a
/// worker, which is told how many rounds to do next: `block` at a time, so that a thread that the system holds up
/// leaves its part to the others, and at the end none waits long for another.
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

/// Runs `work` while another thread does `background` over and over: what `work` returned, how often `background` ran
/// and for how long. `work` begins when `background` has run once.
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

/// Also when the work panics: else its thread would wait for ever for the other.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
