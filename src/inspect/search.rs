//! The search for whole records after a place where none begins. Its result decides whether damage is a torn tail, and
//! whether a copy of what is cut must be kept.
//!
//! The search tries every byte offset, in ascending order. In the sealed format few bytes can be the low byte of a
//! record's seal, and the check over 21 bytes rules out most of those. After a confirmed record the search goes on at
//! that record's end, so confirmed payloads do not overlap and cost linear time at most. Payloads that do not match
//! their CRC may all overlap, so their bytes are charged to a budget of four times the bytes searched, and a candidate
//! longer than half of what is left of the budget is not tried. So a few long forged headers cannot use up the budget
//! before the short records after them are tried. Trying candidates shortest first would do the same, but needs a list
//! of candidates that has no bound. If a candidate was not tried, the budget is *spent*: there may be more records than
//! the search found.
//!
//! No input makes the search take more than linear time, or more memory than two buffers.

use crate::error::Result;
use crate::format::Format;
use crate::format::{HEADER_LEN, Header, flag};
use crate::inspect::pread::Source;
use crate::inspect::progress::ProgressReporter;

/// The number of offsets that are tried from one read.
const STRETCH: usize = 1 << 20;

/// The number of bytes read after those. A payload up to this length is in memory whole; a longer one is read by itself.
const READ_AHEAD: usize = 64 << 10;

/// Bytes of payloads that did not match, allowed per byte searched.
const BUDGET: u64 = 4;

/// What a search has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// The number of whole, valid records.
    pub(super) records: u64,
    /// A candidate was not tried because the budget did not allow it.
    pub(super) spent: bool,
    /// The offset of the first confirmed record with `BARRIER`.
    pub(super) barrier: Option<u64>,
    /// There was a valid sealed header, whether or not its payload is whole.
    pub(super) header: bool,
}

/// Searches the bytes `from..len` of the file for records of `format`. Empty records of the reference format do not
/// count, since they are nothing but sixteen zeros.
///
/// # Errors
/// `Io`, or `Stopped`.
pub(super) fn search(
    source: Source<'_>,
    format: Format,
    from: u64,
    len: u64,
    progress: &mut ProgressReporter<'_>,
) -> Result<Found> {
    let mut search = Search {
        source,
        format,
        len,
        budget: len.saturating_sub(from).saturating_mul(BUDGET),
        piece: Vec::new(),
        found: Found::default(),
    };
    let room = len.saturating_sub(from).saturating_add(READ_AHEAD as u64);
    let mut buffer = vec![0; room.min((STRETCH + READ_AHEAD) as u64) as usize];
    let mut at = from;
    while at.saturating_add(HEADER_LEN) <= len {
        let read = source.read_at(&mut buffer, at)?;
        // The file may have grown since its length was read.
        let read = read.min(usize::try_from(len - at).unwrap_or(usize::MAX));
        let bytes = buffer.get(..read).unwrap_or_default();
        progress.advance(read as u64, at, 0)?;
        let last = read < READ_AHEAD || at.saturating_add(read as u64) >= len;
        let tries = read.saturating_sub(if last { HEADER_LEN as usize - 1 } else { READ_AHEAD });
        let next = search.try_each(bytes, at, tries)?;
        if last && next <= tries as u64 {
            break;
        }
        at = at.saturating_add(next.max(1));
    }
    Ok(search.found)
}

struct Search<'a> {
    source: Source<'a>,
    format: Format,
    len: u64,
    /// What is left of the budget, in bytes.
    budget: u64,
    piece: Vec<u8>,
    found: Found,
}

impl Search<'_> {
    /// Tries the first `tries` offsets of `bytes`, which begin at the file offset `base`. Returns the next offset to try,
    /// relative to `base`: `tries`, or more if a record ends after that.
    fn try_each(&mut self, bytes: &[u8], base: u64, tries: usize) -> Result<u64> {
        let mut at = 0;
        while let Some(candidate) = self.next_candidate(bytes, at, tries) {
            at = candidate + 1;
            let offset = base.saturating_add(candidate as u64);
            let Some(header) = Header::decode_at(bytes, candidate) else { break };
            let Some(end) = header.end(offset).filter(|&end| end <= self.len) else { continue };
            if !header.is_record(self.format, offset) {
                continue;
            }
            self.found.header |= self.format == Format::Sealed;
            if !self.confirm(header, offset, bytes.get(candidate + HEADER_LEN as usize..))? {
                continue;
            }
            self.found.records += 1;
            if header.flags() & flag::BARRIER != 0 {
                self.found.barrier.get_or_insert(offset);
            }
            let next = end - base;
            match usize::try_from(next) {
                Ok(next) if next < tries => at = next,
                _ => return Ok(next),
            }
        }
        Ok(tries as u64)
    }

    /// Returns the first place in `from..to` at which a record's header may begin, as far as a few of its bytes show.
    #[inline]
    fn next_candidate(&self, bytes: &[u8], from: usize, to: usize) -> Option<usize> {
        match self.format {
            Format::Sealed => {
                let lows = bytes.get(from.checked_add(12)?..to.checked_add(12)?)?;
                Some(from + first_low_byte(lows)?)
            }
            Format::Reference => (from..to).find(|&at| {
                let Some(header) = Header::decode_at(bytes, at) else { return false };
                // Most random bytes state a length that exceeds the file's.
                header.seal == 0 && header.len != 0 && header.len < self.len
            }),
        }
    }

    /// Returns `true` if the payload of the record at `offset` matches its header. `rest` is what is in memory from the
    /// payload on.
    fn confirm(&mut self, header: Header, offset: u64, rest: Option<&[u8]>) -> Result<bool> {
        if header.len > self.budget / 2 && header.len > 0 {
            self.found.spent = true;
            return Ok(false);
        }
        let inside = usize::try_from(header.len).ok().and_then(|len| rest?.get(..len));
        let crc = match inside {
            Some(payload) => Some(crc32fast::hash(payload)),
            None => {
                let payload = offset.saturating_add(HEADER_LEN);
                self.source.crc(payload, header.len, &mut self.piece, |_| true)?
            }
        };
        let confirmed = crc == Some(header.crc);
        if !confirmed {
            self.budget = self.budget.saturating_sub(header.len);
        }
        Ok(confirmed)
    }
}

/// Returns the position of the first byte that can be the low byte of a record's seal.
#[inline]
fn first_low_byte(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
    let (words, _) = bytes.as_chunks::<8>();
    // Eight bytes at a time: a byte that can be one becomes 0 here, and only a byte of 0 borrows from its high bit below.
    let skip = words.iter().position(|word| {
        let word = (u64::from_le_bytes(*word) & (ONES * u64::from(!flag::OF_RECORD)))
            ^ (ONES * u64::from(flag::SEALED));
        word.wrapping_sub(ONES) & !word & HIGHS != 0
    });
    let from = skip.unwrap_or(words.len()) * 8;
    let found = bytes.iter().skip(from).position(|byte| byte & !flag::OF_RECORD == flag::SEALED);
    found.map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inspect::testing::{B, Built, C};

    fn found(built: &Built, format: Format, from: u64) -> Found {
        let file = built.file();
        search(
            Source::new(&file, Path::new("test")),
            format,
            from,
            built.len(),
            &mut ProgressReporter::silent(),
        )
        .unwrap()
    }

    #[test]
    fn counts_whole_records_and_reports_the_first_barrier() {
        let built = Built::sealed(&[(b"a", 0), (b"b", 0), (b"", C), (b"c", B), (b"d", B | C)]);
        let all = Found { records: 5, spent: false, barrier: Some(50), header: true };
        assert_eq!(found(&built, Format::Sealed, 0), all);
        assert_eq!(found(&built, Format::Sealed, 1), Found { records: 4, ..all });
        assert_eq!(found(&built.clone().damage(49), Format::Sealed, 1), Found { records: 3, ..all });
        assert_eq!(
            found(&built.zeros(9), Format::Sealed, 51),
            Found { records: 1, barrier: Some(67), ..all }
        );
    }

    #[test]
    fn a_header_without_its_payload_is_a_header_but_no_record() {
        let built = Built::sealed(&[(b"a", 0), (b"bcd", B)]).damage(34);
        let expected = Found { header: true, ..Found::default() };
        assert_eq!(found(&built, Format::Sealed, 1), expected);
    }

    #[test]
    fn finds_nothing_where_nothing_is() {
        let text: Vec<u8> = b"plain text, nothing else. ".repeat(100_000);
        for format in [Format::Sealed, Format::Reference] {
            for bytes in [&text[..], &vec![0; 3 << 20], &vec![1; 3 << 20], &[], &[1; 15], &[1; 16]] {
                let built = Built::new(format).raw(bytes);
                let found = found(&built, format, 0);
                assert_eq!((found.records, found.header, found.barrier), (0, false, None));
            }
        }
    }

    #[test]
    fn finds_records_wherever_they_lie_around_the_end_of_a_read() {
        for before in [0, 1, 12, 13, 15, 16, 17, 31, 100] {
            for zeros in [STRETCH, STRETCH + READ_AHEAD] {
                let built = Built::sealed(&[]).zeros(zeros - before).record(b"payload", B).record(b"next", 0);
                assert_eq!(found(&built, Format::Sealed, 0).records, 2, "{before} before {zeros}");
                let built = Built::reference(&[]).zeros(zeros - before).record(b"payload", 0);
                assert_eq!(found(&built, Format::Reference, 0).records, 1, "{before} before {zeros}");
            }
        }
    }

    #[test]
    fn goes_on_after_a_confirmed_record_however_long() {
        // The inner records are payload: they must not count.
        let inner = Built::sealed(&[]).zeros(17).record(b"inner", B);
        for len in [100, READ_AHEAD, READ_AHEAD + 1, 2 * STRETCH, 3 * (STRETCH + READ_AHEAD)] {
            let mut payload = inner.bytes[16..].to_vec();
            payload.resize(len, 9);
            let built = Built::sealed(&[]).zeros(1).record(&payload, 0).record(b"last", B);
            let found = found(&built, Format::Sealed, 0);
            assert_eq!((found.records, found.barrier), (2, Some(17 + len as u64)), "{len}");
        }
    }

    /// A header every 16 bytes, each of which claims the rest of the file.
    fn forged(len: u64) -> Built {
        let mut bytes = Vec::new();
        for offset in (0..len).step_by(16) {
            bytes.extend_from_slice(&Header::sealed(offset, len - offset - 16, 1, B).encode());
        }
        Built::new(Format::Sealed).raw(&bytes)
    }

    #[test]
    fn forged_headers_spend_the_budget() {
        let built = forged(8 << 20);
        let found = found(&built, Format::Sealed, 1);
        assert!(found.spent && found.header);
        assert_eq!(found.records, 0);
    }

    #[test]
    fn long_forged_headers_do_not_hide_a_short_record_after_them() {
        let real = Built::sealed(&[]).zeros(1 << 20).record(b"real", B);
        let forged = forged(1 << 20);
        let mut built = real.clone();
        built.bytes[..1 << 20].copy_from_slice(&forged.bytes);
        assert_eq!(found(&built, Format::Sealed, 1).barrier, Some(1 << 20));
    }

    #[test]
    fn records_of_the_reference_format_are_found_but_not_empty_ones() {
        let built = Built::new(Format::Reference).raw(b"junk").zeros(64).record(b"one", 0).record(b"", 0);
        assert_eq!(found(&built, Format::Reference, 0).records, 1);
        let numbers: Vec<u8> = (0..50_000u64).flat_map(|n| (n % 90).to_le_bytes()).collect();
        assert_eq!(found(&Built::new(Format::Reference).raw(&numbers), Format::Reference, 0).records, 0);
    }

    #[test]
    fn first_low_byte_finds_what_a_simple_search_finds() {
        let bytes: Vec<u8> = (0..2000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for from in 0..bytes.len() {
            let slow = bytes[from..].iter().position(|byte| matches!(byte, 1 | 3 | 5 | 7));
            assert_eq!(first_low_byte(&bytes[from..]), slow, "{from}");
        }
    }
}
