//! The walk over a whole file at open, on all cores. Each thread reads a stretch of the file, waits for its turn to hop
//! from header to header in it, which costs next to nothing, hands the turn on, and then checks the seals and the
//! CRCs of the payloads that it hopped over. So the hops are in order while what costs, reading and checking, goes on
//! side by side. The lowest failure wins, so the outcome is that of a walk that checks each record before the next.

use std::io;
use std::ops::Range;
use std::thread;

use crate::error::Result;
use crate::format::{HEADER_LEN, Header};
use crate::index::IndexWriter;
use crate::inspect::checks::Checks;
use crate::inspect::pread::{Place, Source, Ticker, continued, plausible};
use crate::options::Format;
use crate::sync::{Condvar, Mutex};

/// Bytes of a stretch: it stays in a core's own cache between being read and being checked.
const BLOCK: usize = 256 << 10;

/// A record that does not fit what is left of a stretch and is longer than this is checked on its own, read piece by
/// piece; a shorter one is carried over into the next stretch.
const LONG: u64 = 64 << 10;

/// Below this many bytes, starting threads costs more than they save.
const THREADS_FROM: u64 = 4 << 20;

/// More threads than this wait for their turns.
const THREADS_MAX: usize = 15;

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// X: the first place that holds no whole, valid record.
    pub(crate) x: Place,
    /// Where the batch that X is in begins, if it is in one.
    pub(crate) batch: Option<Place>,
    /// The watched offset, if it is at most X and a record ends there or the walk began there.
    pub(crate) passed: Option<Passed>,
}

/// A boundary between records that the walk passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) at: Place,
    /// The record that ends there: where its header is, and the header.
    pub(crate) last: Option<(u64, Header)>,
}

/// What a walk is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Orders {
    pub(crate) format: Format,
    /// The file's length.
    pub(crate) len: u64,
    /// Where the batch begins in which the walk starts, if it starts in one.
    pub(crate) batch: Option<Place>,
    /// An offset to look out for: whether it is a boundary between records.
    pub(crate) watch: Option<u64>,
}

/// Walks from the end of `index` on, adds every whole, valid record to it, and tells where and why it ended.
///
/// # Errors
/// `Io`, or `Stopped`.
pub(crate) fn scan(
    source: Source<'_>,
    orders: Orders,
    index: &mut IndexWriter,
    ticker: &mut Ticker<'_>,
) -> Result<Scanned> {
    let threads = match orders.len.saturating_sub(index.end()) {
        0..THREADS_FROM => 0,
        _ => thread::available_parallelism().map_or(0, |n| n.get() - 1).min(THREADS_MAX),
    };
    scan_with(threads, source, orders, index, ticker)
}

/// As [`scan`], with so many threads beside the calling one.
fn scan_with(
    threads: usize,
    source: Source<'_>,
    orders: Orders,
    index: &mut IndexWriter,
    ticker: &mut Ticker<'_>,
) -> Result<Scanned> {
    let Orders { format, len, batch, watch } = orders;
    let at = Place { offset: index.end(), index: index.last().saturating_add(1) };
    let passed = (watch == Some(at.offset)).then_some(Passed { at, last: None });
    let watch = watch.unwrap_or(u64::MAX);
    let walker = Walker { format, len, watch, at, batch, passed, index, full: None };
    let turns = Turns { walker, carry: Vec::new(), next: at.offset, handed: 0, turn: 0, done: false };
    let checks = Checks::new(source, format, ticker);
    let relay = Relay { source, checks, turns: Mutex::new(turns), changed: Condvar::new() };
    thread::scope(|scope| {
        for _ in 0..threads {
            let worker = thread::Builder::new().name("wally-recovery".into());
            if worker.spawn_scoped(scope, || relay.run()).is_err() {
                // The ones that did start, or this thread alone, do it as well.
                break;
            }
        }
        relay.run();
    });
    let failure = relay.checks.outcome()?;
    let Walker { at, batch, passed, index, full, .. } = relay.turns.into_inner().walker;
    if let Some(error) = full {
        return Err(source.error("make room in the index of", error));
    }
    let (x, batch) = match failure {
        Some(failure) if failure.at.offset < at.offset => (failure.at, failure.batch),
        _ => (at, batch),
    };
    let passed = passed.filter(|passed| passed.at.offset <= x.offset);
    index.rewind(x.index.saturating_sub(1), x.offset);
    Ok(Scanned { x, batch, passed })
}

/// What the threads share.
struct Relay<'a, 't> {
    source: Source<'a>,
    checks: Checks<'a, 't>,
    turns: Mutex<Turns<'a>>,
    changed: Condvar,
}

/// The walk, and whose turn it is to go on with it.
struct Turns<'a> {
    walker: Walker<'a>,
    /// What lies between the walker's place and the stretch whose turn it is: the beginning of a record.
    carry: Vec<u8>,
    /// Where the next stretch to be handed out begins.
    next: u64,
    /// How many stretches were handed out.
    handed: u64,
    /// The number of the stretch whose turn it is.
    turn: u64,
    /// The walk is over, or nobody wants to know any more.
    done: bool,
}

/// A stretch of the file that a thread has taken on.
struct Stretch {
    number: u64,
    offset: u64,
    len: usize,
}

/// What a thread hopped over and has to check.
struct Job {
    at: Place,
    batch: Option<Place>,
    /// Where in the buffer the whole records lie.
    records: Range<usize>,
    long: Option<Long>,
}

/// A record that is checked on its own.
struct Long {
    header: Header,
    at: Place,
    batch: Option<Place>,
}

impl Relay<'_, '_> {
    /// Takes on stretches until the walk is over.
    fn run(&self) {
        // In front is room for what is carried over.
        let mut buffer = vec![0; LONG as usize + BLOCK];
        let mut piece = Vec::new();
        while let Some(stretch) = self.take_on() {
            let Some(Job { at, batch, records, long }) = self.hop(&stretch, &mut buffer) else { continue };
            self.checks.check_records(buffer.get(records).unwrap_or_default(), at, batch);
            if let Some(Long { header, at, batch }) = long {
                self.checks.check_long(header, at, batch, &mut piece);
            }
        }
    }

    fn take_on(&self) -> Option<Stretch> {
        let mut turns = self.turns.lock();
        let offset = turns.next;
        let left = turns.walker.len.saturating_sub(offset);
        if turns.done || left == 0 {
            return None;
        }
        let len = left.min(BLOCK as u64) as usize;
        let number = turns.handed;
        turns.handed += 1;
        turns.next = offset.saturating_add(len as u64);
        Some(Stretch { number, offset, len })
    }

    /// Reads the stretch, waits for its turn, and hops through it.
    fn hop(&self, stretch: &Stretch, buffer: &mut [u8]) -> Option<Job> {
        let baton = Baton { relay: self, number: stretch.number };
        let (_, room) = buffer.split_at_mut_checked(LONG as usize)?;
        let read = self.source.read_at(room.get_mut(..stretch.len)?, stretch.offset);
        let mut turns = self.turns.lock();
        while turns.turn != baton.number {
            turns = self.changed.wait(turns);
        }
        if turns.done {
            return None;
        }
        let job = read.and_then(|read| {
            self.checks.tick(read as u64, turns.walker.at)?;
            Ok(turns.hop(stretch, read, buffer))
        });
        turns.done |= !self.checks.none_below(turns.walker.at.offset);
        match job {
            Ok(job) => job,
            Err(error) => {
                self.checks.found(Err(error));
                turns.done = true;
                None
            }
        }
    }
}

/// A thread's turn, or its place in the line. It is handed on however the thread is done with it.
struct Baton<'r, 'a, 't> {
    relay: &'r Relay<'a, 't>,
    number: u64,
}

impl Drop for Baton<'_, '_, '_> {
    fn drop(&mut self) {
        let mut turns = self.relay.turns.lock();
        while turns.turn != self.number {
            turns = self.relay.changed.wait(turns);
        }
        turns.turn += 1;
        // The caller's callback may panic: the others shall not go on without this stretch.
        turns.done |= thread::panicking();
        drop(turns);
        self.relay.changed.notify_all();
    }
}

impl Turns<'_> {
    /// Hops through a stretch of which `read` bytes were read, behind the room for what is carried over.
    fn hop(&mut self, stretch: &Stretch, read: usize, buffer: &mut [u8]) -> Option<Job> {
        let Walker { at, batch, .. } = self.walker;
        let room = LONG as usize;
        let end = room.checked_add(read)?;
        if read < stretch.len {
            // Someone cut the file meanwhile.
            self.walker.len = self.walker.len.min(stretch.offset.saturating_add(read as u64));
        }
        // A long record may end in the midst of a stretch that was handed out before, or behind it.
        let start = match at.offset.checked_sub(stretch.offset) {
            Some(skip) => room.checked_add(usize::try_from(skip).ok()?)?,
            None => room.checked_sub(self.carry.len())?,
        };
        if start < room {
            buffer.get_mut(start..room)?.copy_from_slice(&self.carry);
        }
        let (used, stop) = self.walker.hop(buffer.get(start..end)?);
        self.carry.clear();
        let mut long = None;
        match stop {
            Stop::End => self.done = true,
            Stop::Carry => self.carry.extend_from_slice(buffer.get(start + used..end)?),
            Stop::Long(header, end) => {
                long = Some(Long { header, at: self.walker.at, batch: self.walker.batch });
                self.walker.pass(header, end);
                self.next = self.next.max(end);
            }
            Stop::Full(error) => {
                self.walker.full = Some(error);
                self.done = true;
            }
        }
        Some(Job { at, batch, records: start..start + used, long })
    }
}

/// Hops from header to header.
struct Walker<'a> {
    format: Format,
    len: u64,
    watch: u64,
    at: Place,
    batch: Option<Place>,
    passed: Option<Passed>,
    index: &'a mut IndexWriter,
    /// What the system said when it had no memory for the index.
    full: Option<io::Error>,
}

/// Why the hopping in a stretch ended.
enum Stop {
    /// What comes next is no record, or the file ends.
    End,
    /// The next record, or its header, goes on in the next stretch.
    Carry,
    /// The next record is to be checked on its own.
    Long(Header, u64),
    /// There is no room in the index.
    Full(io::Error),
}

impl Walker<'_> {
    /// Hops over the records that lie in `bytes` whole. Returns how many bytes they take.
    #[inline]
    fn hop(&mut self, bytes: &[u8]) -> (usize, Stop) {
        let mut used = 0;
        loop {
            let left = bytes.len().saturating_sub(used) as u64;
            let Some(header) = Header::decode_at(bytes, used) else {
                let more = self.at.offset.saturating_add(HEADER_LEN) <= self.len;
                return (used, if more { Stop::Carry } else { Stop::End });
            };
            let end = match header.end(self.at.offset) {
                Some(end) if end <= self.len && plausible(self.format, header) => end,
                _ => return (used, Stop::End),
            };
            if let Err(error) = self.index.reserve(1) {
                return (used, Stop::Full(error));
            }
            let size = end - self.at.offset;
            if size > left {
                return (used, if size > LONG { Stop::Long(header, end) } else { Stop::Carry });
            }
            self.pass(header, end);
            used += size as usize;
        }
    }

    /// Goes behind the record that begins here and ends at `end`.
    #[inline]
    fn pass(&mut self, header: Header, end: u64) {
        let record = self.at;
        self.batch = if continued(header) { self.batch.or(Some(record)) } else { None };
        self.index.push(end);
        self.at = Place { offset: end, index: record.index.saturating_add(1) };
        if end == self.watch {
            self.passed = Some(Passed { at: self.at, last: Some((record.offset, header)) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::options::IndexMode;
    use crate::testing::{B, Built, C};

    fn walked(built: &Built, format: Format, watch: Option<u64>, threads: usize) -> (Scanned, IndexWriter) {
        let file = built.file();
        let source = Source::new(&file, Path::new("test"));
        let mut index = IndexWriter::new(IndexMode::Full, 1, 0);
        let orders = Orders { format, len: built.len(), batch: None, watch };
        let scanned = scan_with(threads, source, orders, &mut index, &mut Ticker::silent()).unwrap();
        assert_eq!(index.end(), scanned.x.offset);
        assert_eq!(index.last() + 1, scanned.x.index);
        (scanned, index)
    }

    #[test]
    fn threads_find_what_one_finds() {
        let built = Built::sealed(&[]).many(4000);
        let (whole, _) = walked(&built, Format::Sealed, None, 0);
        assert_eq!(whole.x, Place { offset: built.len(), index: 4001 });
        for at in [0, 5, 16, 300_000, 300_001, built.len() / 2, built.len() - 1] {
            let damaged = built.clone().damage(at).damage((at + 700_000).min(built.len() - 2));
            let (one, index) = walked(&damaged, Format::Sealed, None, 0);
            assert!(one.x.offset <= at);
            for threads in [1, 2, 4] {
                let (many, indexes) = walked(&damaged, Format::Sealed, None, threads);
                assert_eq!(many, one, "{threads} threads, damage at {at}");
                for at in (0..one.x.index - 1).step_by(17) {
                    assert_eq!(indexes.index().extent(at), index.index().extent(at));
                }
            }
        }
    }

    #[test]
    fn records_longer_than_a_block_are_checked_in_pieces() {
        let long = vec![7u8; 3 * BLOCK + 5];
        let built = Built::sealed(&[(b"a", B), (&long, 0), (b"b", C), (&long, 0), (b"", 0), (&long, 0)]);
        for threads in [0, 2] {
            assert_eq!(walked(&built, Format::Sealed, None, threads).0.x.offset, built.len());
            let torn = built.clone().damage(built.len() - 9);
            let x = Place { offset: built.len() - 16 - long.len() as u64, index: 6 };
            assert_eq!(walked(&torn, Format::Sealed, None, threads).0.x, x);
            // The fourth is the second of a batch that begins with the third.
            let third = 17 + 16 + long.len() as u64;
            let torn = built.clone().damage(third + 17 + 16 + BLOCK as u64);
            let (scanned, _) = walked(&torn, Format::Sealed, None, threads);
            assert_eq!(scanned.x, Place { offset: third + 17, index: 4 });
            assert_eq!(scanned.batch, Some(Place { offset: third, index: 3 }));
        }
    }

    #[test]
    fn lengths_around_a_block_are_carried_over() {
        for len in
            [LONG as usize - 17, LONG as usize - 16, LONG as usize, BLOCK - 17, BLOCK - 16, BLOCK, BLOCK + 1]
        {
            let payload = vec![3u8; len];
            for first in [0, 1, 9, 15, 16] {
                let built = Built::sealed(&[(&payload[..first], 0)]);
                let built = (0..9).fold(built, |built, _| built.record(&payload, 0));
                assert_eq!(walked(&built, Format::Sealed, None, 0).0.x.index, 11, "{len} behind {first}");
            }
        }
    }

    #[test]
    fn the_end_of_the_file_inside_a_batch_names_the_batch() {
        let built = Built::sealed(&[(b"a", B), (b"b", C), (b"c", C)]);
        let (scanned, _) = walked(&built, Format::Sealed, None, 0);
        assert_eq!(scanned.x, Place { offset: 51, index: 4 });
        assert_eq!(scanned.batch, Some(Place { offset: 17, index: 2 }));
    }

    #[test]
    fn a_watched_offset_is_told_only_if_it_is_a_boundary_before_x() {
        let built = Built::sealed(&[(b"a", B), (b"b", C), (b"c", 0), (b"d", 0)]).damage(51 + 16);
        let passed = |watch| walked(&built, Format::Sealed, Some(watch), 0).0.passed;
        assert_eq!(passed(0).unwrap().last, None);
        assert_eq!(passed(16), None);
        let two = passed(34).unwrap();
        assert_eq!((two.at, two.last.unwrap().0), (Place { offset: 34, index: 3 }, 17));
        assert_eq!(passed(51).unwrap().at.index, 4);
        assert_eq!(passed(68), None);
    }

    /// The callback is the caller's code, and a thread that panics must not leave the others waiting for its turn.
    #[test]
    fn a_callback_that_panics_ends_the_walk() {
        let built = Built::sealed(&[]).many(40_000);
        assert!(built.len() > 8 << 20);
        let file = built.file();
        let stop = |_| -> std::ops::ControlFlow<()> { panic!("by the callback") };
        for threads in [0, 1, 3] {
            let walk = || {
                let mut index = IndexWriter::new(IndexMode::Full, 1, 0);
                let mut ticker = Ticker::new(Some(&stop), built.len());
                let orders = Orders { format: Format::Sealed, len: built.len(), batch: None, watch: None };
                scan_with(threads, Source::new(&file, Path::new("test")), orders, &mut index, &mut ticker)
            };
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(walk)).is_err(), "{threads}");
        }
    }

    #[test]
    fn lengths_that_no_file_has_end_the_walk() {
        for len in [1 << 63, u64::MAX, u64::MAX - 15, i64::MAX as u64, 18] {
            let header = Header::sealed(17, len, 0, 0);
            let built = Built::sealed(&[(b"a", 0)]).raw(&header.encode()).raw(b"more");
            assert_eq!(walked(&built, Format::Sealed, None, 0).0.x.offset, 17);
            let built = Built::reference(&[b"a"]).raw(&Header::reference(len, 0).encode());
            assert_eq!(walked(&built, Format::Reference, None, 0).0.x.offset, 17);
        }
    }

    #[test]
    fn a_walk_goes_on_from_where_an_index_ends() {
        let built = Built::reference(&[b"a", b"", b"ccc"]);
        let file = built.file();
        let mut index = IndexWriter::new(IndexMode::Scan, 5, 17);
        let orders = Orders { format: Format::Reference, len: built.len(), batch: None, watch: None };
        let scanned =
            scan(Source::new(&file, Path::new("test")), orders, &mut index, &mut Ticker::silent()).unwrap();
        assert_eq!(scanned.x, Place { offset: built.len(), index: 7 });
    }
}
