//! The rows of the table: the work, what it stands beside, and the target.

use std::cell::{LazyCell, RefCell};
use std::time::Duration;

use crate::common::folder::Folder;
use crate::common::read::ReadSet;
use crate::common::reopen::Closed;
use crate::common::rounds::Side;
use crate::common::{BATCH, append, durable, quick};

/// One line of the table.
pub(crate) struct Row<'a> {
    pub(crate) work: String,
    pub(crate) unit: Unit,
    /// What wally is compared with.
    pub(crate) other: &'static str,
    pub(crate) measure: Measure<'a>,
    pub(crate) target: Target,
}

pub(crate) enum Measure<'a> {
    /// Two sides that run in turn. `each` is what a round counts for: 64 if it is a batch of 64 records. `piece` is
    /// about how long the two should take together each time.
    Timed { wally: Side<'a>, other: Side<'a>, each: u64, piece: Duration },
    /// Four sides that run in turn: with more threads and with one, of wally and of the other. What counts is how much
    /// the threads gain.
    Gained { wally: [Side<'a>; 2], other: [Side<'a>; 2], piece: Duration },
    /// Figures that are what they are, however often one looks.
    Counted { wally: Box<dyn FnOnce() -> f64 + 'a>, other: f64 },
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Unit {
    /// Less is better.
    Nanoseconds,
    /// Less is better.
    Seconds,
    /// Less is better.
    Bytes,
    /// More is better.
    PerSecond,
    /// The more, the better.
    Times,
}

#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// Wally's figure divided by the other: at most this, or at least this where more is better.
    Ratio(f64),
    /// Wally's figure itself: at most this.
    Figure(f64),
    /// The line is there to be compared with.
    None,
}

/// Calls the function that it gets with each of its rows. It creates the files that they need, and removes them.
pub(crate) type Group = fn(&Folder, &mut dyn FnMut(Row<'_>));

/// In the order of the table.
pub(crate) const GROUPS: [Group; 6] = [appends, durables, reads, flat_reads, reads_beside_a_writer, reopens];

const PIECE: Duration = Duration::from_millis(200);

/// Longer than [`PIECE`], since syncs take long and vary.
const SYNCING: Duration = Duration::from_millis(600);

fn appends(folder: &Folder, row: &mut dyn FnMut(Row<'_>)) {
    for (len, size, target) in [(64, "64 B", 1.3), (256, "256 B", 1.25), (4096, "4 KiB", 1.15)] {
        row(Row {
            work: format!("append {size}, no sync"),
            unit: Unit::Nanoseconds,
            other: "floor",
            measure: timed(append::wally(folder, len), append::floor(folder, len), 1),
            target: Target::Ratio(target),
        });
    }
    row(Row {
        work: "append 64 B, no sync".to_owned(),
        unit: Unit::PerSecond,
        other: "one write(2) an append",
        measure: timed(append::wally(folder, 64), append::write_each(folder, 64), 1),
        target: Target::Ratio(8.0),
    });
    row(Row {
        work: format!("batch of {BATCH} × 4 KiB, per record"),
        unit: Unit::Nanoseconds,
        other: "floor",
        measure: timed(
            append::wally_batches(folder, 4096),
            append::floor_batches(folder, 4096),
            BATCH as u64,
        ),
        target: Target::Ratio(1.1),
    });
}

fn durables(folder: &Folder, row: &mut dyn FnMut(Row<'_>)) {
    for (threads, name) in [(1, "1 thread"), (8, "8 threads"), (64, "64 threads")] {
        row(Row {
            work: format!("durable append 256 B, {name}"),
            unit: Unit::PerSecond,
            other: "leader and followers",
            measure: Measure::Timed {
                wally: Box::new(durable::wally(folder, 256, threads)),
                other: Box::new(durable::floor(folder, 256, threads)),
                each: 1,
                piece: SYNCING,
            },
            target: Target::None,
        });
    }
}

fn reads(folder: &Folder, row: &mut dyn FnMut(Row<'_>)) {
    let set = &ReadSet::new(folder);
    row(Row {
        work: "random read 256 B".to_owned(),
        unit: Unit::Nanoseconds,
        other: "a list of offsets",
        measure: timed(|rounds| set.wally(1, rounds), |rounds| set.floor(1, rounds), 1),
        target: Target::None,
    });
    row(Row {
        work: "random read 256 B, 2 threads".to_owned(),
        unit: Unit::PerSecond,
        other: "its own single thread",
        measure: timed(|rounds| set.wally(2, rounds), |rounds| set.wally(1, rounds), 1),
        target: Target::Ratio(1.9),
    });
    row(Row {
        work: "the floor, 2 threads".to_owned(),
        unit: Unit::PerSecond,
        other: "its own single thread",
        measure: timed(|rounds| set.floor(2, rounds), |rounds| set.floor(1, rounds), 1),
        target: Target::None,
    });
    row(Row {
        work: "scan forward 256 B".to_owned(),
        unit: Unit::Nanoseconds,
        other: "floor",
        measure: timed(|rounds| set.scan(rounds), |rounds| set.scan_floor(rounds), set.records()),
        target: Target::Ratio(1.3),
    });
}

/// Beside the array that the index is: what a view, a cut and a record that is far away cost.
fn flat_reads(folder: &Folder, row: &mut dyn FnMut(Row<'_>)) {
    for (records, len, name) in
        [(1 << 20, 256, "256 B of 1 M"), (100_000, 4096, "4 KiB of 100 k"), (10_000_000, 32, "32 B of 10 M")]
    {
        let set = &LazyCell::new(|| ReadSet::of(folder, records, len));
        row(Row {
            work: format!("random read {name}"),
            unit: Unit::Nanoseconds,
            other: "flat array",
            measure: timed(|rounds| set.wally(1, rounds), |rounds| set.flat(1, rounds), 1),
            target: Target::Ratio(1.15),
        });
        if len == 4096 {
            continue;
        }
        let each = if quick() { records.min(1 << 10) } else { records };
        row(Row {
            work: format!("scan forward {name}"),
            unit: Unit::Nanoseconds,
            other: "flat array",
            measure: timed(|rounds| set.scan(rounds), |rounds| set.scan_flat(rounds), each),
            target: Target::Ratio(1.3),
        });
        row(Row {
            work: format!("random read {name}, 2 threads to 1"),
            unit: Unit::Times,
            other: "flat array",
            measure: Measure::Gained {
                wally: [2, 1].map(|threads| Box::new(move |rounds| set.wally(threads, rounds)) as Side<'_>),
                other: [2, 1].map(|threads| Box::new(move |rounds| set.flat(threads, rounds)) as Side<'_>),
                piece: 2 * PIECE,
            },
            target: Target::Ratio(0.97),
        });
    }
}

fn reads_beside_a_writer(folder: &Folder, row: &mut dyn FnMut(Row<'_>)) {
    let set = RefCell::new(ReadSet::new(folder));
    let renewed = || {
        set.borrow_mut().renew(folder);
        set.borrow()
    };
    let beside = |read: fn(&ReadSet, usize, u64) -> Duration, rounds| {
        let set = renewed();
        set.while_writing(|| read(&set, 1, rounds)).0
    };
    row(Row {
        work: "random read 256 B, a writer flat out".to_owned(),
        unit: Unit::Nanoseconds,
        other: "its own without a writer",
        measure: timed(|rounds| beside(ReadSet::wally, rounds), |rounds| renewed().wally(1, rounds), 1),
        target: Target::Ratio(1.2),
    });
    row(Row {
        work: "the floor, the same writer".to_owned(),
        unit: Unit::Nanoseconds,
        other: "its own without a writer",
        measure: timed(|rounds| beside(ReadSet::floor, rounds), |rounds| renewed().floor(1, rounds), 1),
        target: Target::None,
    });
}

fn reopens(folder: &Folder, row: &mut dyn FnMut(Row<'_>)) {
    for (records, len, name, target) in
        [(1 << 20, 1024, "1 GiB of 1 KiB", 0.8), (10_000_000, 32, "10 M × 32 B", 1.3)]
    {
        let file = &LazyCell::new(|| Closed::new(folder, records, len));
        row(Row {
            work: format!("reopen {name}"),
            unit: Unit::Seconds,
            other: "floor, one thread",
            measure: timed(|rounds| file.wally(rounds), |rounds| file.floor(rounds), 1),
            target: Target::Ratio(target),
        });
        if len == 32 {
            row(Row {
                work: "index memory a record, full index".to_owned(),
                unit: Unit::Bytes,
                other: "a list of offsets",
                measure: Measure::Counted {
                    wally: Box::new(|| file.open().stats().index_bytes as f64 / file.records() as f64),
                    other: size_of::<u64>() as f64,
                },
                target: Target::Figure(4.1),
            });
        }
    }
}

fn timed<'a>(
    wally: impl FnMut(u64) -> Duration + 'a,
    other: impl FnMut(u64) -> Duration + 'a,
    each: u64,
) -> Measure<'a> {
    Measure::Timed { wally: Box::new(wally), other: Box::new(other), each, piece: PIECE }
}
