//! Random reads from 1 to 64 threads, alone and beside a writer that appends as fast as it can.

use std::cell::RefCell;
use std::time::Duration;

use crate::common::folder::Folder;
use crate::common::read::{self, ReadSet};
use crate::common::rounds::{Median, Side, calibrate, interleave};
use crate::common::{quick, rate};

const READERS: [usize; 5] = [1, 2, 4, 8, 64];

/// About how long a piece with one reader and a piece with one reader and the writer take together.
const PIECE: Duration = Duration::from_millis(300);

pub(crate) fn run(folder: &Folder) {
    let set = RefCell::new(ReadSet::new(folder));
    let appended: Vec<RefCell<Vec<f64>>> = READERS.iter().map(|_| RefCell::default()).collect();
    let mut sides: Vec<Side<'_>> = Vec::new();
    for (&readers, appended) in READERS.iter().zip(&appended) {
        let renewed = || {
            set.borrow_mut().renew(folder);
            set.borrow()
        };
        sides.push(Box::new(move |rounds| renewed().wally(readers, rounds)));
        sides.push(Box::new(move |rounds| {
            let set = renewed();
            let (took, rate) = set.while_writing(|| set.wally(readers, rounds));
            appended.borrow_mut().push(rate);
            took
        }));
    }
    let (piece, times) = if quick() { (Duration::ZERO, 1) } else { (PIECE, 7) };
    let rounds = calibrate(&mut sides.iter_mut().take(2).collect::<Vec<_>>(), piece);
    let took = interleave(&mut sides.iter_mut().collect::<Vec<_>>(), rounds, times);

    println!("\nrandom reads of {} B, and of as many beside a writer that appends {0} B each", read::LEN);
    println!("{:>9} {:>12} {:>15} {:>16}", "readers", "reads", "beside writer", "writer appends");
    for (at, readers) in READERS.iter().enumerate() {
        let reads = |side: usize| {
            let rates = took[side].iter().map(|took| rounds as f64 / took.as_secs_f64()).collect();
            rate(Median::of(rates).value)
        };
        let writer = rate(Median::of(appended[at].take()).value);
        println!("{readers:>9} {:>12} {:>15} {writer:>16}", reads(2 * at), reads(2 * at + 1));
    }
}
