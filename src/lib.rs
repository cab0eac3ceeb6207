//! wally
#![allow(dead_code, unused_imports)]
mod batch;
mod commit;
mod cut;
mod error;
mod failure;
mod file;
mod format;
mod index;
mod journal;
mod log;
mod map;
mod options;
mod publish;
mod reader;
mod recovery;
#[cfg(feature = "seam")]
#[doc(hidden)]
pub mod seam;
mod snapshot;
mod stats;
mod sync;
mod ticker;
mod truncate;
mod view;
mod writer;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("wally maps whole journals and needs a 64-bit target");

pub use batch::Batch;
pub use error::{Beyond, Error, Result};
pub use journal::Journal;
pub use options::{Format, IndexMode, Options, Progress, Recovery, SyncPolicy};
pub use reader::{Reader, ReaderStatus, RecordRef};
pub use recovery::RecoveryReport;
pub use snapshot::{Range, Snapshot};
pub use stats::Stats;
