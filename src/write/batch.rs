//! A batch that is built first and appended later, and used again without allocating.

use crate::write::writer::Records;

/// Records to be appended as one: all of them are there after a crash, or none (sealed journals).
///
/// The payloads are copied in, and their checksums computed, while the batch is built, so that
/// [`Journal::write_batch`](crate::Journal::write_batch) has less to do under the lock. [`clear`](Self::clear) keeps
/// the memory.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let journal = wally::Journal::open(dir.path().join("events.wally"))?;
/// let mut batch = wally::Batch::new();
/// batch.push(b"debit");
/// batch.push(b"credit");
/// assert_eq!(journal.write_batch(&batch)?, 1..=2);
/// batch.clear();
/// assert!(batch.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each payload ends in `bytes`, and its CRC.
    records: Vec<(usize, u32)>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record to the end.
    pub fn push(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.records.push((self.bytes.len(), crc32fast::hash(payload)));
    }

    /// How many records the batch holds.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the batch holds no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The payloads' bytes in all, without headers.
    pub fn payload_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Removes all records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
    }
}

impl Records for Batch {
    fn count(&self) -> usize {
        self.records.len()
    }

    fn get(&self, at: usize) -> Option<(&[u8], u32)> {
        let start = match at.checked_sub(1) {
            Some(before) => self.records.get(before)?.0,
            None => 0,
        };
        let &(end, crc) = self.records.get(at)?;
        Some((self.bytes.get(start..end)?, crc))
    }
}

/// Borrowed payloads and their CRCs.
pub(crate) struct Borrowed<'a>(Vec<(&'a [u8], u32)>);

impl<'a> Borrowed<'a> {
    pub(crate) fn new<T: AsRef<[u8]>>(items: &'a [T]) -> Self {
        let with_crc = |item: &'a T| {
            let payload = item.as_ref();
            (payload, crc32fast::hash(payload))
        };
        Self(items.iter().map(with_crc).collect())
    }
}

impl Records for Borrowed<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn get(&self, at: usize) -> Option<(&[u8], u32)> {
        self.0.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_pushed() {
        let payloads: [&[u8]; 4] = [b"a", b"", b"bcd", b""];
        let mut batch = Batch::new();
        payloads.iter().for_each(|p| batch.push(p));
        let borrowed = Borrowed::new(&payloads);
        for (at, payload) in payloads.into_iter().enumerate() {
            assert_eq!(batch.get(at), Some((payload, crc32fast::hash(payload))));
            assert_eq!(borrowed.get(at), batch.get(at));
        }
        assert_eq!((batch.get(4), batch.len(), batch.payload_bytes()), (None, 4, 4));
    }
}
