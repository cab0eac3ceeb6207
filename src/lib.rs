//! wally
#![allow(dead_code, unused_imports)]
mod classify;
mod error;
mod file;
mod format;
mod index;
mod inspect;
mod options;
mod quarantine;
mod recovery;
mod scan;
mod search;
#[cfg(feature = "seam")]
#[doc(hidden)]
pub mod seam;
mod source;
mod survey;
mod sync;
#[cfg(test)]
mod testing;
mod walk;
pub use error::{Beyond, Error, Result};
pub use options::{Format, IndexMode, Options, Progress, Recovery, SyncPolicy};
pub use recovery::{RecoveryReport, Verdict};
pub use inspect::{Inspection, State};
pub use walk::{Entry, Walk};
