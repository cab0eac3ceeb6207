//! [`RecordRef`]: one record that keeps the memory it lies in alive.

use std::fmt;
use std::ops::Deref;

use crate::error::{Error, Result};
use crate::sync::{Arc, Guard};
use crate::view::{Extent, View};

/// One record, borrowed from the map together with the view that keeps it alive. It derefs to the payload.
///
/// It keeps its bytes across truncation, closing and the drop of the [`Journal`](crate::Journal). Hold it only for a short
/// time: each one keeps the file locked, and each that a thread holds beyond eight costs a count that threads contend for.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
/// journal.append(b"hello")?;
/// let record = journal.read_ref(1)?;
/// record.verify()?;
/// journal.truncate_back(0)?;
/// assert_eq!(&record[..], b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Its bytes cannot outlive it:
///
/// ```compile_fail,E0505
/// # let dir = tempfile::tempdir()?;
/// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
/// # journal.append(b"hello")?;
/// let record = journal.read_ref(1)?;
/// let bytes: &[u8] = &record;
/// drop(record);
/// assert_eq!(bytes, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RecordRef {
    view: Guard<Arc<View>>,
    index: u64,
    extent: Extent,
}

impl RecordRef {
    pub(crate) fn new(view: Guard<Arc<View>>, index: u64, extent: Extent) -> Self {
        Self { view, index, extent }
    }

    /// Returns the record's index.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Checks the payload against the checksum in its header.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if they differ.
    pub fn verify(&self) -> Result<()> {
        if self.view.verify(self.extent, self) {
            return Ok(());
        }
        Err(corrupt(&self.view, self.index, self.extent))
    }
}

/// Returns the error for record `index` at `extent`, whose payload does not match its checksum.
pub(crate) fn corrupt(view: &View, index: u64, extent: Extent) -> Error {
    Error::corrupt(view.map().file().path(), extent.start, index)
}

impl Deref for RecordRef {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // The payload was there when this was made, and a view's limit never shrinks.
        self.view.payload(self.extent).unwrap_or_default()
    }
}

impl AsRef<[u8]> for RecordRef {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for RecordRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordRef").field("index", &self.index).field("len", &self.len()).finish()
    }
}
