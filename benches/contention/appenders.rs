//! Durable appends from 1 to 64 threads, beside a simple leader with followers.

use std::cell::RefCell;
use std::time::Duration;

use crate::common::folder::Folder;
use crate::common::rounds::{Median, Side, calibrate, interleave};
use crate::common::{durable, quick, rate};

const THREADS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const LEN: usize = 256;

/// About how long the two sides take together each time, for one number of threads.
const PIECE: Duration = Duration::from_millis(600);

pub(crate) fn run(folder: &Folder) {
    let (piece, times) = if quick() { (Duration::ZERO, 1) } else { (PIECE, 7) };
    println!("\ndurable appends of {LEN} B; what one sync covers; the same by a simple leader and followers");
    println!("{:>9} {:>12} {:>16} {:>12}   ratio", "threads", "appends", "records a sync", "simple");
    for threads in THREADS {
        let covered = RefCell::new(Vec::new());
        let mut counted = durable::wally_counted(folder, LEN, threads);
        let mut wally: Side<'_> = Box::new(|rounds| {
            let (took, records) = counted(rounds);
            covered.borrow_mut().push(records);
            took
        });
        let mut simple: Side<'_> = Box::new(durable::floor(folder, LEN, threads));
        let sides = &mut [&mut wally, &mut simple];
        let rounds = calibrate(sides, piece);
        covered.borrow_mut().clear();
        let took = interleave(sides, rounds, times);

        let rates = |side: usize| took[side].iter().map(move |took| rounds as f64 / took.as_secs_f64());
        let ratio = Median::of(rates(0).zip(rates(1)).map(|(wally, simple)| wally / simple).collect());
        println!(
            "{threads:>9} {:>12} {:>16.1} {:>12}   {:.2} ({:.2} to {:.2})",
            rate(Median::of(rates(0).collect()).value),
            Median::of(covered.take()).value,
            rate(Median::of(rates(1).collect()).value),
            ratio.value,
            ratio.min,
            ratio.max,
        );
    }
}
