//! The checking half of the scan: the seals and payload CRCs of whole records. It keeps the failure with the lowest
//! offset, whichever thread finds it.

use crate::error::Result;
use crate::format::Format;
use crate::format::{Boundary, Cursor, HEADER_LEN, Header};
use crate::inspect::pread::Source;
use crate::inspect::progress::ProgressReporter;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// What the threads of a scan verify with, and what they have found.
pub(super) struct Verifier<'a, 't> {
    source: Source<'a>,
    format: Format,
    progress: Mutex<&'a mut ProgressReporter<'t>>,
    /// Where the first record begins that is not what its header says, as far as is known.
    failure: Mutex<Result<Option<Cursor>>>,
    /// The offset of that failure, after which nothing has to be verified any more. 0 after an error.
    lowest: AtomicU64,
}

impl<'a, 't> Verifier<'a, 't> {
    pub(super) fn new(source: Source<'a>, format: Format, progress: &'a mut ProgressReporter<'t>) -> Self {
        let (progress, failure) = (Mutex::new(progress), Mutex::new(Ok(None)));
        Self { source, format, progress, failure, lowest: AtomicU64::new(u64::MAX) }
    }

    /// Reports progress: `read` bytes were read, and the scan has come to `at`.
    pub(super) fn advance(&self, read: u64, at: Boundary) -> Result<()> {
        self.progress.lock().advance(read, at.offset, at.last())
    }

    /// Returns `true` if no failure is known at `offset` or before.
    pub(super) fn none_up_to(&self, offset: u64) -> bool {
        // Relaxed: the answer only saves work. The outcome is read after all threads have ended.
        self.lowest.load(Ordering::Relaxed) > offset
    }

    /// Verifies the whole records of which `bytes` consists. The first of them begins at `cursor`.
    pub(super) fn verify_records(&self, bytes: &[u8], cursor: Cursor) {
        if self.none_up_to(cursor.at.offset) {
            self.note(Ok(first_failure(self.format, bytes, cursor)));
        }
    }

    /// Verifies the record at `cursor`, which it reads from the file in pieces.
    pub(super) fn verify_long(&self, header: Header, cursor: Cursor, piece: &mut Vec<u8>) {
        self.note(self.long_failure(header, cursor, piece));
    }

    /// Keeps `failure` if it is the lowest so far. An error outweighs every failure.
    pub(super) fn note(&self, failure: Result<Option<Cursor>>) {
        if let Ok(None) = failure {
            return;
        }
        let mut kept = self.failure.lock();
        match (&*kept, &failure) {
            (Err(_), _) => return,
            (Ok(Some(lowest)), Ok(Some(failure))) if failure.at.offset >= lowest.at.offset => return,
            _ => {}
        }
        let lowest =
            failure.as_ref().ok().and_then(|failure| *failure).map_or(0, |failure| failure.at.offset);
        *kept = failure;
        self.lowest.store(lowest, Ordering::Relaxed);
    }

    fn long_failure(&self, header: Header, cursor: Cursor, piece: &mut Vec<u8>) -> Result<Option<Cursor>> {
        let at = cursor.at;
        if !header.is_record(self.format, at.offset) {
            return Ok(Some(cursor));
        }
        let payload = at.offset.saturating_add(HEADER_LEN);
        // One record can be as long as the file, so the callback may stop the scan in the middle of it.
        let mut reported = Ok(());
        let crc = self.source.crc(payload, header.len, piece, |next| {
            reported = self.advance(next, at);
            reported.is_ok() && self.none_up_to(at.offset)
        })?;
        reported?;
        Ok((crc != Some(header.crc)).then_some(cursor))
    }

    /// Returns the lowest failure, or the error.
    pub(super) fn outcome(self) -> Result<Option<Cursor>> {
        self.failure.into_inner()
    }
}

/// Returns where the first record begins that is not what its header says.
fn first_failure(format: Format, bytes: &[u8], mut cursor: Cursor) -> Option<Cursor> {
    let mut rest = bytes;
    while let Some((head, after_head)) = rest.split_first_chunk() {
        let header = Header::decode(head);
        let at = cursor.at.offset;
        let payload = usize::try_from(header.len).ok().and_then(|len| after_head.split_at_checked(len));
        match payload {
            Some((payload, next))
                if header.is_record(format, at) && crc32fast::hash(payload) == header.crc =>
            {
                cursor.step_over(header, at.saturating_add(HEADER_LEN + payload.len() as u64));
                rest = next;
            }
            _ => return Some(cursor),
        }
    }
    None
}
