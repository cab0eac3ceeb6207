//! Reports to the caller's callback how far reading a file has come, and asks it whether to go on.

use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::options::Progress;

type Callback = dyn Fn(Progress) -> ControlFlow<()> + Send + Sync;

/// Calls the progress callback after every few MiB that were read.
pub(crate) struct ProgressReporter<'a> {
    callback: Option<&'a Callback>,
    total_bytes: u64,
    /// The number of bytes read since the last report.
    unreported: u64,
    /// The furthest offset so far. Parts of the file are read more than once, but a report never goes back.
    bytes: u64,
    records: u64,
}

impl<'a> ProgressReporter<'a> {
    /// The number of bytes between two reports.
    const INTERVAL: u64 = 4 << 20;

    pub(crate) fn new(callback: Option<&'a Callback>, total_bytes: u64) -> Self {
        Self { callback, total_bytes, unreported: 0, bytes: 0, records: 0 }
    }

    /// A reporter without a callback.
    pub(crate) fn silent() -> Self {
        Self::new(None, 0)
    }

    /// Notes that `read` bytes were read up to the offset `bytes`, before which there are `records` records, and reports
    /// if enough was read since the last report.
    ///
    /// # Errors
    /// `Stopped`.
    pub(crate) fn advance(&mut self, read: u64, bytes: u64, records: u64) -> Result<()> {
        self.bytes = self.bytes.max(bytes);
        self.records = self.records.max(records);
        self.unreported = self.unreported.saturating_add(read);
        if self.unreported < Self::INTERVAL { Ok(()) } else { self.report() }
    }

    /// Calls the callback in any case.
    ///
    /// # Errors
    /// `Stopped`, if the callback returns `Break`.
    pub(crate) fn report(&mut self) -> Result<()> {
        self.unreported = 0;
        let Some(callback) = self.callback else { return Ok(()) };
        let Self { bytes, total_bytes, records, .. } = *self;
        match callback(Progress { bytes, total_bytes, records }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped),
        }
    }
}
