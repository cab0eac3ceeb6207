//! wally
#![allow(dead_code, unused_imports)]
mod error;
mod file;
mod format;
mod index;
mod map;
mod options;
mod publish;
#[cfg(feature = "seam")]
#[doc(hidden)]
pub mod seam;
mod sync;
mod view;
pub use error::{Beyond, Error, Result};
pub use options::{Format, IndexMode, Options, Progress, Recovery, SyncPolicy};
