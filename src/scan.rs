//! The walk over a whole file at open. One thread reads the file in order and hops from header to header, which
//! costs next to nothing; what costs, the seals and the CRCs of the payloads, is checked block by block on all
//! cores. The lowest failure wins, so the outcome is that of a walk that checks each record before the next.

use std::thread;

use crate::checks::{Checks, Job};
use crate::error::Result;
use crate::format::{HEADER_LEN, Header};
use crate::index::IndexWriter;
use crate::options::Format;
use crate::source::{Place, Source, Ticker, continued, plausible};

/// A record that does not fit what is left of a block and is longer than this is checked on its own, read piece by
/// piece by whoever checks it; a shorter one is carried over into the next block.
const LONG: u64 = 64 << 10;

/// Below this many bytes, starting threads costs more than they save.
const THREADS_FROM: u64 = 4 << 20;

/// More threads than this wait for the one that reads.
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

/// As [`scan`], with so many threads beside the calling one, which checks too when it has nothing to read into.
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
    let checks = Checks::new(source, format, 1 + 3 * threads, ticker);
    let mut walker = Walker { format, len, watch: watch.unwrap_or(u64::MAX), at, batch, passed, index };
    let walked = thread::scope(|scope| {
        for _ in 0..threads {
            let worker = thread::Builder::new().name("wally-recovery".into());
            if worker.spawn_scoped(scope, || checks.work(false)).is_err() {
                // The ones that did start, or this thread alone, do it as well.
                break;
            }
        }
        let walked = walker.walk(source, &checks);
        checks.close(walked.is_err());
        checks.work(true);
        walked
    });
    let failure = checks.outcome()?;
    walked?;
    let (at, batch) = (walker.at, walker.batch);
    let (x, batch) = match failure {
        Some(failure) if failure.at.offset < at.offset => (failure.at, failure.batch),
        _ => (at, batch),
    };
    let passed = walker.passed.filter(|passed| passed.at.offset <= x.offset);
    index.rewind(x.index.saturating_sub(1), x.offset);
    Ok(Scanned { x, batch, passed })
}

/// The half that hops from header to header.
struct Walker<'a> {
    format: Format,
    len: u64,
    watch: u64,
    at: Place,
    batch: Option<Place>,
    passed: Option<Passed>,
    index: &'a mut IndexWriter,
}

/// Why the hopping in a block ended.
enum Stop {
    /// What comes next is no record, or the file ends.
    End,
    /// The next record, or its header, goes on in the next block.
    Carry,
    /// The next record is to be checked on its own.
    Long(Header, u64),
}

impl Walker<'_> {
    fn walk(&mut self, source: Source<'_>, checks: &Checks<'_, '_>) -> Result<()> {
        let mut carry = Vec::new();
        while checks.none_below(self.at.offset) {
            let mut block = checks.free_block();
            let filled = self.fill(source, &mut block, &carry)?;
            let (at, batch) = (self.at, self.batch);
            checks.tick(filled as u64, at)?;
            let (used, stop) = self.hop(block.get(..filled).unwrap_or_default());
            carry.clear();
            if let Stop::Carry = stop {
                carry.extend_from_slice(block.get(used..filled).unwrap_or_default());
            }
            checks.submit(Job::Block { block, used, at, batch });
            match stop {
                Stop::End => break,
                Stop::Carry => {}
                Stop::Long(header, end) => {
                    checks.submit(Job::Long { header, at: self.at, batch: self.batch });
                    self.pass(header, end);
                }
            }
        }
        Ok(())
    }

    /// Fills a block with what was carried over and what follows it in the file.
    fn fill(&mut self, source: Source<'_>, block: &mut [u8], carry: &[u8]) -> Result<usize> {
        let wanted = self.len.saturating_sub(self.at.offset).min(block.len() as u64) as usize;
        let carried = carry.len().min(wanted);
        let (head, rest) = block.split_at_mut(carried);
        head.copy_from_slice(carry.get(..carried).unwrap_or_default());
        let rest = rest.get_mut(..wanted - carried).unwrap_or_default();
        let filled = carried + source.read_at(rest, self.at.offset.saturating_add(carried as u64))?;
        if filled < wanted {
            // Someone cut the file meanwhile.
            self.len = self.at.offset.saturating_add(filled as u64);
        }
        Ok(filled)
    }

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
    use crate::checks::BLOCK;
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
                for n in (1..one.x.index).step_by(17) {
                    assert_eq!(indexes.index().extent(n), index.index().extent(n));
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
