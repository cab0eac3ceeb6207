//! [`RecordRef`]: one record that keeps the memory it lies in alive.

use std::fmt;
use std::ops::Deref;

use crate::error::{Error, Result};
use crate::sync::{Arc, Guard};
use crate::view::{Extent, View};

/// One record, borrowed from the map together with what keeps it alive. It derefs to the payload.
///
/// It outlives truncation, closing and the [`Journal`](crate::Journal), and keeps its bytes. It is meant to be short:
/// beyond eight of them a thread pays for each more a contended count, and each keeps the file locked.
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

    /// The record's index.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Checks the payload against the checksum in its header.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if they do not agree.
    pub fn verify(&self) -> Result<()> {
        if self.view.verify(self.extent, self) {
            return Ok(());
        }
        Err(corrupt(&self.view, self.index, self.extent))
    }
}

/// The payload at `extent` does not have its checksum.
pub(crate) fn corrupt(view: &View, index: u64, extent: Extent) -> Error {
    Error::corrupt(view.map().file().path(), extent.start, index)
}

impl Deref for RecordRef {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // There when this was made, and a view's limit never goes back.
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
