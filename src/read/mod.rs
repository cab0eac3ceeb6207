//! The ways to read. Each takes what is published in a [`View`](crate::view::View) and nothing else: a read takes no
//! lock, makes no system call and allocates nothing.
//!
//! * `reader`: [`Reader`], one for each thread, sees the journal as it grows.
//! * `record`: [`RecordRef`], one record that keeps its memory alive.
//! * `snapshot`: [`Snapshot`], one state of the journal, and [`Range`], an iterator over its records.
//! * `follow`: [`Follow`], an iterator that waits for the next record.
//! * `waiter`: what `reader` and `follow` wait with. It alone in this folder takes locks, and it makes the log commit what
//!   is staged.
//!
//! No other file of the crate lends bytes of the map to users.

mod follow;
mod reader;
mod record;
mod snapshot;
mod waiter;

pub use follow::Follow;
pub use reader::{Reader, ReaderStatus};
pub use record::RecordRef;
pub(crate) use record::corrupt;
pub use snapshot::{Range, Snapshot};
