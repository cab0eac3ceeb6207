//! The scan: follows the records of a file from header to header and verifies each, on all cores.
//!
//! Each thread claims a block of the file and reads it. It then waits until the headers of all blocks before have been
//! followed, follows those in its own block, which takes next to no time, lets the next block go on, and verifies the
//! seals and payload CRCs of the records that it found. So the headers are followed in order, while reading and
//! verifying, which take the time, happen in parallel. Of all failures the one with the lowest offset counts, so the
//! outcome is that of a scan that verifies each record before the next.

use std::io;
use std::ops::Range;
use std::thread;

use crate::error::Result;
use crate::format::Format;
use crate::format::{Boundary, Cursor, HEADER_LEN, Header};
use crate::index::IndexWriter;
use crate::inspect::pread::Source;
use crate::inspect::progress::ProgressReporter;
use crate::inspect::verify::Verifier;
use crate::sync::{Condvar, Mutex};

/// Bytes of a block. So many stay in a core's own cache between being read and being verified.
const BLOCK_LEN: usize = 256 << 10;

/// A record that does not fit what is left of a block is verified on its own, read piece by piece, if it is longer than
/// this. A shorter one is carried over into the next block.
const LONG: u64 = 64 << 10;

/// Below this many bytes, starting threads takes longer than they save.
const THREADS_FROM: u64 = 4 << 20;

/// More threads than this would only wait for the blocks before theirs.
const THREADS_MAX: usize = 15;

/// How a scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scanned {
    /// X: the first boundary at which no whole, valid record begins, and the batch that it is in.
    pub(super) x: Cursor,
    /// The boundary at the requested offset, if that is at most X and a boundary that the scan has passed.
    pub(super) passed: Option<PassedBoundary>,
}

/// A boundary that the scan has passed, or where it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PassedBoundary {
    pub(super) at: Boundary,
    /// The record that ends there: the offset of its header, and the header. `None` where the scan began.
    pub(super) last: Option<(u64, Header)>,
}

/// What a caller asks of a scan.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScanRequest {
    pub(super) format: Format,
    /// The file's length.
    pub(super) len: u64,
    /// Where the batch begins in which the scan starts, if it starts in one.
    pub(super) batch: Option<Boundary>,
    /// An offset of which the caller asks whether it is a boundary.
    pub(super) boundary_at: Option<u64>,
}

/// Scans from the end of `index` on and adds every whole, valid record to `index`. Returns where the scan ended.
///
/// # Errors
/// `Io`, or `Stopped`.
pub(super) fn scan(
    source: Source<'_>,
    request: ScanRequest,
    index: &mut IndexWriter,
    progress: &mut ProgressReporter<'_>,
) -> Result<Scanned> {
    let threads = match request.len.saturating_sub(index.end()) {
        0..THREADS_FROM => 0,
        _ => thread::available_parallelism().map_or(0, |n| n.get() - 1).min(THREADS_MAX),
    };
    scan_with(threads, source, request, index, progress)
}

/// As [`scan`], with `threads` threads beside the calling one.
fn scan_with(
    threads: usize,
    source: Source<'_>,
    request: ScanRequest,
    index: &mut IndexWriter,
    progress: &mut ProgressReporter<'_>,
) -> Result<Scanned> {
    let ScanRequest { format, len, batch, boundary_at } = request;
    let at = Boundary { next: index.last().saturating_add(1), offset: index.end() };
    let passed = (boundary_at == Some(at.offset)).then_some(PassedBoundary { at, last: None });
    let cursor = Cursor { at, batch };
    let boundary_at = boundary_at.unwrap_or(u64::MAX);
    let headers = HeaderChain { format, len, boundary_at, cursor, passed, index, full: None };
    let state = ScanState {
        headers,
        carried: Vec::new(),
        next_block: at.offset,
        claimed: 0,
        in_order: 0,
        over: false,
    };
    let verifier = Verifier::new(source, format, progress);
    let shared = SharedScan { source, verifier, state: Mutex::new(state), block_followed: Condvar::new() };
    thread::scope(|scope| {
        for _ in 0..threads {
            let worker = thread::Builder::new().name("wally-recovery".into());
            if worker.spawn_scoped(scope, || shared.run()).is_err() {
                // The threads that could be started, or this one alone, do the same.
                break;
            }
        }
        shared.run();
    });
    let failure = shared.verifier.outcome()?;
    let HeaderChain { cursor, passed, index, full, .. } = shared.state.into_inner().headers;
    if let Some(error) = full {
        return Err(source.error("make room in the index of", error));
    }
    let x = failure.filter(|failure| failure.at.offset < cursor.at.offset).unwrap_or(cursor);
    let passed = passed.filter(|passed| passed.at.offset <= x.at.offset);
    index.rewind(x.at.last(), x.at.offset);
    Ok(Scanned { x, passed })
}

/// What the threads of a scan share.
struct SharedScan<'a, 't> {
    source: Source<'a>,
    verifier: Verifier<'a, 't>,
    state: Mutex<ScanState<'a>>,
    /// Notified when the headers of a block have been followed.
    block_followed: Condvar,
}

/// How far the headers have been followed, and which blocks the threads have claimed.
struct ScanState<'a> {
    headers: HeaderChain<'a>,
    /// The bytes between the chain's cursor and the block whose headers are followed next: the beginning of a record.
    carried: Vec<u8>,
    /// The offset of the next block to be claimed.
    next_block: u64,
    /// The number of blocks that were claimed.
    claimed: u64,
    /// The number of the block whose headers are followed next.
    in_order: u64,
    /// No further block needs to be looked at.
    over: bool,
}

/// A part of the file that a thread has claimed.
struct Block {
    number: u64,
    offset: u64,
    len: usize,
}

/// The records whose headers a thread has followed and which it has to verify.
struct Unverified {
    /// Where the first of them begins.
    cursor: Cursor,
    /// Where in the buffer they lie.
    records: Range<usize>,
    /// The record after them, if it is to be verified on its own.
    long: Option<(Header, Cursor)>,
}

impl SharedScan<'_, '_> {
    /// Claims blocks and does what they need, until the scan is over.
    fn run(&self) {
        // The space before the block is for what is carried over.
        let mut buffer = vec![0; LONG as usize + BLOCK_LEN];
        let mut piece = Vec::new();
        while let Some(block) = self.claim() {
            let Some(Unverified { cursor, records, long }) = self.follow(&block, &mut buffer) else {
                continue;
            };
            self.verifier.verify_records(buffer.get(records).unwrap_or_default(), cursor);
            if let Some((header, cursor)) = long {
                self.verifier.verify_long(header, cursor, &mut piece);
            }
        }
    }

    /// Claims the next block. Returns `None` if the scan is over.
    fn claim(&self) -> Option<Block> {
        let mut state = self.state.lock();
        let offset = state.next_block;
        let left = state.headers.len.saturating_sub(offset);
        if state.over || left == 0 {
            return None;
        }
        let len = left.min(BLOCK_LEN as u64) as usize;
        let number = state.claimed;
        state.claimed += 1;
        state.next_block = offset.saturating_add(len as u64);
        Some(Block { number, offset, len })
    }

    /// Reads the block, waits until all blocks before it have been followed, and follows the headers in it.
    fn follow(&self, block: &Block, buffer: &mut [u8]) -> Option<Unverified> {
        let order = OrderGuard { scan: self, number: block.number };
        let (_, room) = buffer.split_at_mut_checked(LONG as usize)?;
        let read = self.source.read_at(room.get_mut(..block.len)?, block.offset);
        let mut state = self.state.lock();
        while state.in_order != order.number {
            state = self.block_followed.wait(state);
        }
        if state.over {
            return None;
        }
        let unverified = read.and_then(|read| {
            self.verifier.advance(read as u64, state.headers.cursor.at)?;
            Ok(state.follow(block, read, buffer))
        });
        state.over |= !self.verifier.none_up_to(state.headers.cursor.at.offset);
        match unverified {
            Ok(unverified) => unverified,
            Err(error) => {
                self.verifier.note(Err(error));
                state.over = true;
                None
            }
        }
    }
}

/// A thread's claim on a block. When it is dropped, however the thread is done with the block, the next block may go on.
struct OrderGuard<'r, 'a, 't> {
    scan: &'r SharedScan<'a, 't>,
    number: u64,
}

impl Drop for OrderGuard<'_, '_, '_> {
    fn drop(&mut self) {
        let mut state = self.scan.state.lock();
        while state.in_order != self.number {
            state = self.scan.block_followed.wait(state);
        }
        state.in_order += 1;
        // The caller's callback may panic. The other threads must not go on without this block.
        state.over |= thread::panicking();
        drop(state);
        self.scan.block_followed.notify_all();
    }
}

impl ScanState<'_> {
    /// Follows the headers in a block, of which `read` bytes were read into `buffer`, after the space for what is carried
    /// over.
    fn follow(&mut self, block: &Block, read: usize, buffer: &mut [u8]) -> Option<Unverified> {
        let cursor = self.headers.cursor;
        let room = LONG as usize;
        let end = room.checked_add(read)?;
        if read < block.len {
            // Another program has cut the file since its length was read.
            self.headers.len = self.headers.len.min(block.offset.saturating_add(read as u64));
        }
        // A long record may end inside or after a block that was claimed before the record was found.
        let start = match cursor.at.offset.checked_sub(block.offset) {
            Some(skip) => room.checked_add(usize::try_from(skip).ok()?)?,
            None => room.checked_sub(self.carried.len())?,
        };
        if start < room {
            buffer.get_mut(start..room)?.copy_from_slice(&self.carried);
        }
        let (used, stop) = self.headers.follow(buffer.get(start..end)?);
        self.carried.clear();
        let mut long = None;
        match stop {
            Stop::End => self.over = true,
            Stop::Carry => self.carried.extend_from_slice(buffer.get(start + used..end)?),
            Stop::Long(header, end) => {
                long = Some((header, self.headers.cursor));
                self.headers.step_over(header, end);
                self.next_block = self.next_block.max(end);
            }
            Stop::Full(error) => {
                self.headers.full = Some(error);
                self.over = true;
            }
        }
        Some(Unverified { cursor, records: start..start + used, long })
    }
}

/// Follows the records from header to header and adds them to the index, unverified.
struct HeaderChain<'a> {
    format: Format,
    /// The file's length.
    len: u64,
    /// The requested offset, or `u64::MAX`.
    boundary_at: u64,
    cursor: Cursor,
    passed: Option<PassedBoundary>,
    index: &'a mut IndexWriter,
    /// What the system said when it had no memory for the index.
    full: Option<io::Error>,
}

/// Why the headers could be followed no further in a block.
enum Stop {
    /// What comes next is no record, or the file ends.
    End,
    /// The next record, or its header, goes on in the next block.
    Carry,
    /// The next record, which has this header and this end, is to be verified on its own.
    Long(Header, u64),
    /// There is no room in the index.
    Full(io::Error),
}

impl HeaderChain<'_> {
    /// Steps over the records of which `bytes` holds all. Returns the number of bytes that they take.
    #[inline]
    fn follow(&mut self, bytes: &[u8]) -> (usize, Stop) {
        let mut used = 0;
        loop {
            let at = self.cursor.at.offset;
            let left = bytes.len().saturating_sub(used) as u64;
            let Some(header) = Header::decode_at(bytes, used) else {
                let more = at.saturating_add(HEADER_LEN) <= self.len;
                return (used, if more { Stop::Carry } else { Stop::End });
            };
            let end = match header.end(at) {
                Some(end) if end <= self.len && header.may_be_record(self.format) => end,
                _ => return (used, Stop::End),
            };
            if let Err(error) = self.index.reserve(1) {
                return (used, Stop::Full(error));
            }
            let size = end - at;
            if size > left {
                return (used, if size > LONG { Stop::Long(header, end) } else { Stop::Carry });
            }
            self.step_over(header, end);
            used += size as usize;
        }
    }

    /// Steps over the record that begins at the cursor and ends at `end`.
    #[inline]
    fn step_over(&mut self, header: Header, end: u64) {
        let offset = self.cursor.at.offset;
        self.cursor.step_over(header, end);
        self.index.push(end);
        if end == self.boundary_at {
            self.passed = Some(PassedBoundary { at: self.cursor.at, last: Some((offset, header)) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inspect::testing::{B, Built, C};
    use crate::options::IndexMode;

    fn outside_batch(next: u64, offset: u64) -> Cursor {
        Cursor::outside_batch(Boundary { next, offset })
    }

    fn scan_built(
        built: &Built,
        format: Format,
        boundary_at: Option<u64>,
        threads: usize,
    ) -> (Scanned, IndexWriter) {
        let file = built.file();
        let source = Source::new(&file, Path::new("test"));
        let mut index = IndexWriter::new(IndexMode::Full, 1, 0);
        let request = ScanRequest { format, len: built.len(), batch: None, boundary_at };
        let scanned =
            scan_with(threads, source, request, &mut index, &mut ProgressReporter::silent()).unwrap();
        assert_eq!(index.end(), scanned.x.at.offset);
        assert_eq!(index.last() + 1, scanned.x.at.next);
        (scanned, index)
    }

    #[test]
    fn threads_find_what_one_finds() {
        let built = Built::sealed(&[]).many(4000);
        let (whole, _) = scan_built(&built, Format::Sealed, None, 0);
        assert_eq!(whole.x, outside_batch(4001, built.len()));
        for at in [0, 5, 16, 300_000, 300_001, built.len() / 2, built.len() - 1] {
            let damaged = built.clone().damage(at).damage((at + 700_000).min(built.len() - 2));
            let (one, index) = scan_built(&damaged, Format::Sealed, None, 0);
            assert!(one.x.at.offset <= at);
            for threads in [1, 2, 4] {
                let (many, indexes) = scan_built(&damaged, Format::Sealed, None, threads);
                assert_eq!(many, one, "{threads} threads, damage at {at}");
                for at in (0..one.x.at.next - 1).step_by(17) {
                    assert_eq!(indexes.index().extent(at), index.index().extent(at));
                }
            }
        }
    }

    #[test]
    fn records_longer_than_a_block_are_verified_in_pieces() {
        let long = vec![7u8; 3 * BLOCK_LEN + 5];
        let built = Built::sealed(&[(b"a", B), (&long, 0), (b"b", C), (&long, 0), (b"", 0), (&long, 0)]);
        for threads in [0, 2] {
            assert_eq!(scan_built(&built, Format::Sealed, None, threads).0.x.at.offset, built.len());
            let torn = built.clone().damage(built.len() - 9);
            let x = outside_batch(6, built.len() - 16 - long.len() as u64);
            assert_eq!(scan_built(&torn, Format::Sealed, None, threads).0.x, x);
            // The fourth is the second of a batch that begins with the third.
            let third = 17 + 16 + long.len() as u64;
            let torn = built.clone().damage(third + 17 + 16 + BLOCK_LEN as u64);
            let (scanned, _) = scan_built(&torn, Format::Sealed, None, threads);
            assert_eq!(scanned.x.at, Boundary { next: 4, offset: third + 17 });
            assert_eq!(scanned.x.batch, Some(Boundary { next: 3, offset: third }));
        }
    }

    #[test]
    fn lengths_around_a_block_are_carried_over() {
        for len in [
            LONG as usize - 17,
            LONG as usize - 16,
            LONG as usize,
            BLOCK_LEN - 17,
            BLOCK_LEN - 16,
            BLOCK_LEN,
            BLOCK_LEN + 1,
        ] {
            let payload = vec![3u8; len];
            for first in [0, 1, 9, 15, 16] {
                let built = Built::sealed(&[(&payload[..first], 0)]);
                let built = (0..9).fold(built, |built, _| built.record(&payload, 0));
                assert_eq!(
                    scan_built(&built, Format::Sealed, None, 0).0.x.at.next,
                    11,
                    "{len} after {first}"
                );
            }
        }
    }

    #[test]
    fn the_end_of_the_file_inside_a_batch_names_the_batch() {
        let built = Built::sealed(&[(b"a", B), (b"b", C), (b"c", C)]);
        let (scanned, _) = scan_built(&built, Format::Sealed, None, 0);
        assert_eq!(scanned.x.at, Boundary { next: 4, offset: 51 });
        assert_eq!(scanned.x.batch, Some(Boundary { next: 2, offset: 17 }));
    }

    #[test]
    fn a_requested_offset_is_reported_only_if_it_is_a_boundary_before_x() {
        let built = Built::sealed(&[(b"a", B), (b"b", C), (b"c", 0), (b"d", 0)]).damage(51 + 16);
        let passed = |offset| scan_built(&built, Format::Sealed, Some(offset), 0).0.passed;
        assert_eq!(passed(0).unwrap().last, None);
        assert_eq!(passed(16), None);
        let two = passed(34).unwrap();
        assert_eq!((two.at, two.last.unwrap().0), (Boundary { next: 3, offset: 34 }, 17));
        assert_eq!(passed(51).unwrap().at.next, 4);
        assert_eq!(passed(68), None);
    }

    /// The callback is the caller's code. A thread that panics in it must not leave the others waiting for its block.
    #[test]
    fn a_callback_that_panics_ends_the_scan() {
        let built = Built::sealed(&[]).many(40_000);
        assert!(built.len() > 8 << 20);
        let file = built.file();
        let stop = |_| -> std::ops::ControlFlow<()> { panic!("by the callback") };
        for threads in [0, 1, 3] {
            let scan = || {
                let mut index = IndexWriter::new(IndexMode::Full, 1, 0);
                let mut progress = ProgressReporter::new(Some(&stop), built.len());
                let request =
                    ScanRequest { format: Format::Sealed, len: built.len(), batch: None, boundary_at: None };
                scan_with(threads, Source::new(&file, Path::new("test")), request, &mut index, &mut progress)
            };
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(scan)).is_err(), "{threads}");
        }
    }

    #[test]
    fn lengths_that_no_file_has_end_the_scan() {
        for len in [1 << 63, u64::MAX, u64::MAX - 15, i64::MAX as u64, 18] {
            let header = Header::sealed(17, len, 0, 0);
            let built = Built::sealed(&[(b"a", 0)]).raw(&header.encode()).raw(b"more");
            assert_eq!(scan_built(&built, Format::Sealed, None, 0).0.x.at.offset, 17);
            let built = Built::reference(&[b"a"]).raw(&Header::reference(len, 0).encode());
            assert_eq!(scan_built(&built, Format::Reference, None, 0).0.x.at.offset, 17);
        }
    }

    #[test]
    fn a_scan_goes_on_from_where_an_index_ends() {
        let built = Built::reference(&[b"a", b"", b"ccc"]);
        let file = built.file();
        let mut index = IndexWriter::new(IndexMode::Scan, 5, 17);
        let request =
            ScanRequest { format: Format::Reference, len: built.len(), batch: None, boundary_at: None };
        let scanned =
            scan(Source::new(&file, Path::new("test")), request, &mut index, &mut ProgressReporter::silent())
                .unwrap();
        assert_eq!(scanned.x, outside_batch(7, built.len()));
    }
}
