//! What the writer pays for tasks that wait: append + flush with none and with up to 10,000 of them, on the writer's
//! thread, with wakers that only count.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

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

    /// How long append + flush takes while all tasks wait; nothing else is timed.
    fn round(&mut self, payload: &[u8]) -> Duration {
        let waker = Waker::from(Arc::clone(&self.woken));
        for task in &mut self.tasks {
            assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending(), "a follower ended");
        }
        self.woken.0.store(0, Ordering::Relaxed);
        let start = Instant::now();
        self.journal.append(payload).expect("an append");
        self.journal.flush().expect("a flush");
        let took = start.elapsed();
        while self.woken.0.load(Ordering::Acquire) < self.tasks.len() {
            thread::yield_now();
        }
        took
    }
}

pub(crate) fn run(folder: &Folder) {
    let rounds = if quick() { 3 } else { 500 };
    println!(
        "\nappend + flush of {LEN} B on the writer's thread while tasks wait, beside none in the same run"
    );
    println!("{:>9} {:>12} {:>12} {:>12}", "tasks", "with none", "with all", "ratio");
    let payload = payload(LEN, 1);
    for tasks in TASKS {
        let mut sides = [Followed::new(folder, 0), Followed::new(folder, tasks)];
        let mut took = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (side, took) in sides.iter_mut().zip(&mut took) {
                took.push(side.round(&payload).as_nanos() as f64 / 1e3);
            }
        }
        let [none, all] = took.map(|took| Median::of(took).value);
        println!("{tasks:>9} {:>12} {:>12} {:>12}", micros(none), micros(all), format!("{:.2}", all / none));
    }
}

fn micros(figure: f64) -> String {
    format!("{figure:.2} µs")
}
