//! How long an append can wait for the index to grow: the longest push among very many, the least of five runs.
//!
//! ```sh
//! cargo bench --bench index_growth -- 1000000000   # entries: 4 GiB of memory, some minutes
//! cargo bench --bench index_growth                 # ten million
//! ```
//!
//! Pushes are timed in blocks of 256, so a figure is that of a block, which no push in it exceeds: by the clock, and by
//! the time that this thread had a processor, in which the system's work for it is counted but not that for others.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wally::inside::index::Entries;

const ENTRIES: u64 = 10_000_000;
const RUNS: usize = 5;
const BLOCK: u64 = 256;

fn main() {
    let number = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let entries = if quick { 1 << 20 } else { number.unwrap_or(ENTRIES) };
    let mut least = [Duration::MAX; 2];
    for run in 1..=if quick { 1 } else { RUNS } {
        let began = Instant::now();
        let (longest, bytes) = push(entries);
        let each = began.elapsed().as_secs_f64() * 1e9 / entries as f64;
        let [clock, processor] = longest;
        println!(
            "run {run}: {entries} entries, {:.3} B and {each:.1} ns each; longest block of {BLOCK}: {clock:.1?}, {processor:.1?} of it \
             on a processor",
            bytes as f64 / entries as f64,
        );
        least = [least[0].min(clock), least[1].min(processor)];
    }
    println!("least of the runs: {:.1?}, {:.1?} on a processor", least[0], least[1]);
}

/// The longest block by the clock and by the processor, and what the index takes.
fn push(entries: u64) -> ([Duration; 2], u64) {
    let mut index = Entries::empty();
    let mut longest = [Duration::ZERO; 2];
    let mut at = 0;
    while at < entries {
        let (clock, processor) = (Instant::now(), on_processor());
        for n in at + 1..=at + BLOCK {
            index.push(black_box(n * 48)).expect("memory for the index");
        }
        let took = [clock.elapsed(), on_processor() - processor];
        longest = [longest[0].max(took[0]), longest[1].max(took[1])];
        at += BLOCK;
    }
    (longest, index.bytes())
}

fn on_processor() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
