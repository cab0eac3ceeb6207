//! The tests that need no process of their own, a module a subject. `tests/README.md` tells which promise each holds.

#[path = "../common/mod.rs"]
mod common;

#[path = "../../fuzz/src/lib.rs"]
#[allow(dead_code, unreachable_pub)]
mod fuzz;

mod append;
mod batches;
mod bench_command;
mod borrows;
mod command;
mod crash;
mod documents;
mod durability;
mod errors;
mod fault_sweep;
mod faults;
mod fixtures;
mod follow;
mod fuzz_regressions;
mod golden;
mod locking;
mod model;
mod poison;
mod preallocate;
mod recovery;
mod reference;
mod stale_sync;
mod stress;
mod sweeps;
mod tail;
mod truncation;
