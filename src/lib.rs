//! An append-only journal (write-ahead log) in one memory-mapped file, with readers that never take a lock.
//!
//! One writer appends through a buffer, under a mutex, and publishes what it has committed; any number of threads borrow
//! `&[u8]` straight from the map. [`Journal`] appends and creates the ways to read: [`Reader`], one for each thread, sees the
//! journal as it grows; [`Follow`] waits for each next record; [`Snapshot`] does not change; [`RecordRef`] is one record that
//! keeps its memory alive. [`Walk`] reads a file without opening it for writing, as tools do.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("events.wally");
//! use wally::{Journal, Options, SyncPolicy};
//!
//! let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(&path)?;
//! journal.append(b"first")?;
//! journal.append_batch([b"debit ", b"credit"])?;
//! journal.sync()?;
//!
//! let mut reader = journal.reader();
//! std::thread::spawn(move || {
//!     assert_eq!(reader.get(3), Some(&b"credit"[..]));
//! })
//! .join()
//! .unwrap();
//! journal.close()?;
//!
//! let journal = Journal::open(&path)?;
//! assert_eq!(journal.recovery().records, 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The features `async` (waiting in tasks) and `cli` (the command `wally`) are off by default.
//!
//! # The guide
//!
//! [`guide`] explains what goes beyond single calls, in a module for each chapter:
//! [durability](guide::durability), [recovery](guide::recovery), [the format in full](guide::format), [the reference
//! implementation](guide::reference), [tuning](guide::tuning) with the tables of all calls and options, and
//! [recipes](guide::recipes).
//!
//! # Three watermarks
//!
//! **appended** (in the staging buffer) ≥ **committed** (in the file, and visible to readers) ≥ **durable** (covered by a
//! completed sync). Visible is not durable: under [`SyncPolicy::OnDemand`] and [`SyncPolicy::Interval`] a reader can see a record that
//! a power loss takes away.
//!
//! # Promises
//!
//! * **P1 Prefix.** After any crash, what a reopen of a sealed journal finds is a prefix of what was appended, in append
//!   order. It holds at least everything acknowledged as durable. A batch is there whole or not at all.
//! * **P2 Borrowed bytes never change.** A `&[u8]` lent to a reader keeps its bytes, and never faults, for as long as
//!   the borrow lives: across growth, truncation, a failed sync, `close`, and the drop of the [`Journal`]. No API lets
//!   safe code outlive the memory it borrowed. (The caveats below are the limit of this one.)
//! * **P3 Readers are lock-free.** Reading a committed record takes no lock, makes no system call, allocates nothing
//!   after a thread's first read, and never waits for the writer. On a [`Reader`] it does no read-modify-write on memory
//!   that readers share either, except for the one read after a view was replaced. (A page of the file that is not in memory
//!   is read by the system when it is touched.)
//! * **P4 Publish order.** A reader that can see that record n exists can read every record up to n, whole.
//! * **P5 Durability.** Under [`SyncPolicy::Always`], when an append returns, its record survives power loss. So does
//!   everything appended before a [`sync`](Journal::sync) or a [`wait_durable`](Journal::wait_durable) that returned.
//!   Records found at open are made durable before they are served, and so is the file's entry in its directory, which
//!   may be that of a rename.
//! * **P6 Nothing durable is destroyed.** Opening never touches a file that is not a journal. In a sealed journal it
//!   never cuts what a later header proves durable: damage there is an error that names the place. Damage in the stretch
//!   after the last such proof looks like a torn tail; whole records found in what is cut are always kept in a
//!   quarantine file. What a truncation removes on purpose is not kept, not even by an open that finishes the truncation.
//!   (The reference format has no such proofs: there, the first invalid record ends the journal.)
//! * **P7 A refused append leaves no trace.** Disk full, file-size limit, short write: the caller gets the error, the
//!   record is not there, and appends work again once there is room. Only [`close`](Journal::close) can lose records
//!   whose append has returned, and it reports that.
//! * **P8 A failed sync is final.** Nothing is ever acknowledged again on that handle, every waiter wakes with the
//!   error, and new reads after the durable point are [`Error::Poisoned`]; borrows and snapshots keep what they have.
//! * **P9 One writer.** A second writable open, from this process or another, fails at once.
//!
//! # Caveats
//!
//! They are explained in full under [assumptions](guide::durability#assumptions).
//!
//! * **The file is yours alone.** An advisory lock keeps other users of this crate out. A program that ignores it and
//!   shrinks the file, or a sector under the map that cannot be read, makes any memory map fault with SIGBUS; a program
//!   that overwrites records changes what readers borrow.
//! * **A local file system.** One that shows no stale blocks after a crash (ext4 `data=ordered`, XFS, btrfs, ZFS,
//!   APFS), on media that write a 512-byte sector whole or not at all. Network file systems keep neither the lock nor
//!   the coherence of map and descriptor that this crate rests on.
//! * **Readers hold the lock.** It is released when the last reader is dropped: after `close`, a reopen fails with
//!   [`Error::Locked`] as long as a [`Reader`], [`Snapshot`] or [`RecordRef`] lives, or a [`Follow`] that has not returned its
//!   end.
//! * **Fork.** A journal belongs to the process that opened it. A forked child can [only drop](guide::durability#fork)
//!   what it has inherited: calls that would write fail with [`Error::Forked`] there, others may wait for ever, and memory
//!   that a child has borrowed changes, or faults, when the parent truncates.
//! * **Chosen payloads.** Checks are CRCs, which protect against accidents, not against an attacker. With chosen payloads and
//!   a torn write at the right place, recovery can be made to refuse the journal, to make a cut that is quarantined, or to
//!   finish what looks like a truncation, whose cut is not quarantined.
//! * **A full disk.** A truncation first writes its intent after the old end. Without room for that it goes on without the
//!   intent, and a power cut at that moment can look like damage. Likewise the mark at the end of a closed journal is left
//!   out where it does not fit; the file of an empty journal then has no bytes. A truncation that ends inside of a batch
//!   rewrites four bytes, for which a file system that copies on write needs room. The limit on the size of files
//!   (`RLIMIT_FSIZE`) is checked before each write, so that exceeding it is an error and not the signal that ends a process;
//!   a limit that is lowered at the moment of a write can still cause the signal.
//! * **Address space.** A journal of more than 131,072 records reserves 16 GiB of it for its index, without memory, or as
//!   much as a limit allows. Where none is left, an append fails and leaves nothing.
//! * 64-bit Unix only. On Linux the pages that a truncation keeps for readers are in a memfd, elsewhere in an unlinked
//!   temporary file, and the memory of an index that a truncation made shorter is given back on Linux only.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("wally maps whole journals and needs a 64-bit target");

mod error;
mod file;
mod format;
mod group_commit;
pub mod guide;
mod index;
#[cfg(feature = "__seam")]
#[doc(hidden)]
pub mod inside;
mod inspect;
mod journal;
mod notify;
mod options;
mod read;
mod recover;
#[cfg(not(feature = "__seam"))]
mod seam;
#[cfg(feature = "__seam")]
#[doc(hidden)]
pub mod seam;
mod sync;
mod view;
mod walk;
mod write;

pub use error::{Beyond, Error, Result};
pub use format::Format;
pub use inspect::{Inspection, State};
pub use journal::Journal;
pub use options::{IndexMode, Options, Progress, Recovery, SyncPolicy};
pub use read::{Follow, Range, Reader, ReaderStatus, RecordRef, Snapshot};
pub use recover::{RecoveryReport, Verdict};
pub use walk::{Entry, Walk};
pub use write::batch::Batch;
pub use write::stats::Stats;

// One of the README's examples needs the feature `async`.
#[doc = include_str!("../README.md")]
#[cfg(all(doctest, feature = "async"))]
struct Readme;
