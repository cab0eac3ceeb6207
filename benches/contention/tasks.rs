//! The cost of waiting tasks for the writer: append + flush with no tasks and with up to 10,000, with wakers that only
//! count. The figure to watch is the processor time of the writer's thread; beside it stands the elapsed time, which
//! includes other threads if there was no processor for both.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use wally::{Journal, SyncPolicy};

use crate::common::folder::Folder;
use crate::common::rounds::Median;
use crate::common::{payload, quick};

const TASKS: [usize; 4] = [10, 100, 1000, 10_000];
const LEN: usize = 256;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// A journal with tasks that follow it.
struct Followed {
    journal: Journal,
    tasks: Vec<Pin<Box<dyn Future<Output = ()>>>>,
    woken: Arc<Count>,
}

impl Followed {
    fn new(folder: &Folder, tasks: usize) -> Self {
        let journal = folder.journal(SyncPolicy::OnDemand);
        let tasks = (0..tasks)
            .map(|_| {
                let mut follow = journal.follow(1);
                Box::pin(async move {
                    while let Some(record) = follow.next_async().await {
                        assert_eq!(record.expect("a record").len(), LEN);
                    }
                }) as Pin<Box<dyn Future<Output = ()>>>
            })
            .collect();
        Self { journal, tasks, woken: Arc::default() }
    }

    /// Polls all tasks, so that all wait.
    fn poll(&mut self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        for task in &mut self.tasks {
            assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending(), "a follower ended");
        }
        self.woken.0.store(0, Ordering::Relaxed);
    }

    /// Times append + flush. Returns nanoseconds of this thread's processor time, and elapsed ones.
    fn append(&self, payload: &[u8]) -> [f64; 2] {
        let (start, here) = (Instant::now(), of_this_thread());
        self.journal.append(payload).expect("an append");
        self.journal.flush().expect("a flush");
        let took = [(of_this_thread() - here) as f64, start.elapsed().as_nanos() as f64];
        while self.woken.0.load(Ordering::Acquire) < self.tasks.len() {
            thread::yield_now();
        }
        took
    }
}

/// Returns the processor time of this thread in nanoseconds.
fn of_this_thread() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

pub(crate) fn run(folder: &Folder) {
    let rounds = if quick() { 3 } else { 500 };
    println!("\nappend + flush of {LEN} B while tasks wait, beside none in the same run: medians");
    println!(
        "{:>9} {:>26} {:>8} {:>26}",
        "tasks", "thread, with none and all", "ratio", "passed, with none and all"
    );
    let payload = payload(LEN, 1);
    for tasks in TASKS {
        let (none, mut all) = (Followed::new(folder, 0), Followed::new(folder, tasks));
        let mut rounds_of = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            // Polled before both measurements, so that both find the caches in the same state.
            all.poll();
            rounds_of[0].push(none.append(&payload));
            all.poll();
            rounds_of[1].push(all.append(&payload));
        }
        let median =
            |side: usize, of: usize| Median::of(rounds_of[side].iter().map(|took| took[of]).collect()).value;
        let [none, all] = [0, 1].map(|side| median(side, 0));
        let [passed_none, passed_all] = [0, 1].map(|side| median(side, 1));
        println!(
            "{tasks:>9} {:>13}{:>13} {:>8} {:>13}{:>13}",
            micros(none),
            micros(all),
            format!("{:.2}", all / none),
            micros(passed_none),
            micros(passed_all),
        );
    }
}

fn micros(nanos: f64) -> String {
    format!("{:.2} µs", nanos / 1e3)
}
