//! The checking half of the walk: seals and payloads of stretches of whole records. The lowest failure is kept.

use crate::error::Result;
use crate::format::{HEADER_LEN, Header};
use crate::inspect::pread::{Place, Source, Ticker, continued, is_record};
use crate::options::Format;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The first record of a stretch that is not what its header says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) at: Place,
    pub(crate) batch: Option<Place>,
}

/// What all who check have found.
pub(crate) struct Checks<'a, 't> {
    source: Source<'a>,
    format: Format,
    ticker: Mutex<&'a mut Ticker<'t>>,
    found: Mutex<Result<Option<Failure>>>,
    /// The offset of the lowest failure so far; everything beyond it does not matter any more. 0 behind an error.
    lowest: AtomicU64,
}

impl<'a, 't> Checks<'a, 't> {
    pub(crate) fn new(source: Source<'a>, format: Format, ticker: &'a mut Ticker<'t>) -> Self {
        let found = Mutex::new(Ok(None));
        Self { source, format, ticker: Mutex::new(ticker), found, lowest: AtomicU64::new(u64::MAX) }
    }

    /// Tells how far the walk is, at a place up to which so many bytes were read.
    pub(crate) fn tick(&self, read: u64, at: Place) -> Result<()> {
        self.ticker.lock().tick(read, at.offset, at.index.saturating_sub(1))
    }

    pub(crate) fn none_below(&self, offset: u64) -> bool {
        // Relaxed: it only saves work, the outcome is read when all threads are done.
        self.lowest.load(Ordering::Relaxed) > offset
    }

    /// Checks whole records back to back, the first of them at `at`.
    pub(crate) fn check_records(&self, bytes: &[u8], at: Place, batch: Option<Place>) {
        if self.none_below(at.offset) {
            self.found(Ok(check_records(self.format, bytes, at, batch)));
        }
    }

    /// Checks one record, read from the file in pieces.
    pub(crate) fn check_long(&self, header: Header, at: Place, batch: Option<Place>, piece: &mut Vec<u8>) {
        self.found(self.long_failure(header, at, batch, piece));
    }

    /// Keeps the lowest failure, and an error, behind which there is no outcome.
    pub(crate) fn found(&self, failure: Result<Option<Failure>>) {
        if let Ok(None) = failure {
            return;
        }
        let mut found = self.found.lock();
        match (&*found, &failure) {
            (Err(_), _) => return,
            (Ok(Some(lowest)), Ok(Some(failure))) if failure.at.offset >= lowest.at.offset => return,
            _ => {}
        }
        let lowest =
            failure.as_ref().ok().and_then(|failure| *failure).map_or(0, |failure| failure.at.offset);
        *found = failure;
        self.lowest.store(lowest, Ordering::Relaxed);
    }

    fn long_failure(
        &self,
        header: Header,
        at: Place,
        batch: Option<Place>,
        piece: &mut Vec<u8>,
    ) -> Result<Option<Failure>> {
        let failure = Some(Failure { at, batch });
        if !is_record(self.format, header, at.offset) {
            return Ok(failure);
        }
        let payload = at.offset.saturating_add(HEADER_LEN);
        // One record can be as long as the file: who checks it listens for the word to stop.
        let mut told = Ok(());
        let crc = self.source.crc(payload, header.len, piece, |next| {
            told = self.tick(next, at);
            told.is_ok() && self.none_below(at.offset)
        })?;
        told?;
        Ok(failure.filter(|_| crc != Some(header.crc)))
    }

    pub(crate) fn outcome(self) -> Result<Option<Failure>> {
        self.found.into_inner()
    }
}

/// Checks records back to back and returns the first that is not what its header says.
fn check_records(format: Format, bytes: &[u8], mut at: Place, mut batch: Option<Place>) -> Option<Failure> {
    let mut rest = bytes;
    while let Some((head, behind)) = rest.split_first_chunk() {
        let header = Header::decode(head);
        let payload = usize::try_from(header.len).ok().and_then(|len| behind.split_at_checked(len));
        match payload {
            Some((payload, next))
                if is_record(format, header, at.offset) && crc32fast::hash(payload) == header.crc =>
            {
                batch = if continued(header) { batch.or(Some(at)) } else { None };
                at.offset = at.offset.saturating_add(HEADER_LEN + payload.len() as u64);
                at.index = at.index.saturating_add(1);
                rest = next;
            }
            _ => return Some(Failure { at, batch }),
        }
    }
    None
}
