//! The search for whole records beyond a place that holds none. It decides whether damage is a torn tail, and
//! whether what is cut has to be kept.
//!
//! It tries every byte offset, in ascending order. In the sealed format only one byte in a few dozen can be the
//! low byte of a record's seal, and a check over 21 bytes tells most of those apart; behind a confirmed record it
//! goes on behind its payload. Confirmed payloads do not overlap, so they cost linear time at most. A payload that
//! does not match its CRC may overlap all others, so those are charged to a budget of four times the bytes
//! searched, and a candidate longer than half of what is left of the budget is not tried at all. So a few long
//! forgeries cannot starve the short records behind them: this is what "shortest first" comes to without keeping a
//! list of candidates, which would have no bound. When a candidate was left out, the search is *spent*: there may
//! be more records than it found.
//!
//! No input makes it take more than linear time or more memory than a window and a piece.

use crate::error::Result;
use crate::format::{HEADER_LEN, Header, flag};
use crate::inspect::pread::{Source, Ticker, Window, is_record};
use crate::options::Format;

/// Bytes in memory at a time.
const WINDOW: usize = 1 << 20;

/// Payloads up to this length are always in the window whole; longer ones are worth a read of their own.
const AHEAD: usize = 64 << 10;

/// Failed payload bytes allowed per byte searched.
const BUDGET: u64 = 4;

/// What lies beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// Whole, valid records.
    pub(crate) records: u64,
    /// A candidate was left out because the budget did not allow it.
    pub(crate) spent: bool,
    /// The first confirmed record with `BARRIER`.
    pub(crate) barrier: Option<u64>,
    /// A valid sealed header was seen, whether or not its payload is whole.
    pub(crate) header: bool,
}

/// Searches the bytes `from..len` of the file for records of `format`. In the reference format an empty record is
/// nothing but sixteen zeros and does not count.
///
/// # Errors
/// `Io`, or `Stopped`.
pub(crate) fn search(
    source: Source<'_>,
    format: Format,
    from: u64,
    len: u64,
    ticker: &mut Ticker<'_>,
) -> Result<Found> {
    let mut search = Search {
        source,
        format,
        len,
        left: len.saturating_sub(from).saturating_mul(BUDGET),
        piece: Vec::new(),
        found: Found::default(),
    };
    let room = len.saturating_sub(from).saturating_add(AHEAD as u64).min((WINDOW + AHEAD) as u64);
    let mut window = Window::new(room as usize);
    let mut at = from;
    while at.saturating_add(HEADER_LEN) <= len {
        window.forget();
        let bytes = window.at(source, at, 1)?;
        let bytes = bytes.get(..usize::try_from(len - at).unwrap_or(usize::MAX)).unwrap_or(bytes);
        ticker.tick(bytes.len() as u64, at, 0)?;
        let last = bytes.len() < AHEAD || at.saturating_add(bytes.len() as u64) >= len;
        let tries = bytes.len().saturating_sub(if last { HEADER_LEN as usize - 1 } else { AHEAD });
        let behind = search.look(bytes, at, tries)?;
        if last && behind <= tries as u64 {
            break;
        }
        at = at.saturating_add(behind.max(1));
    }
    Ok(search.found)
}

struct Search<'a> {
    source: Source<'a>,
    format: Format,
    len: u64,
    /// What is left of the budget.
    left: u64,
    piece: Vec<u8>,
    found: Found,
}

impl Search<'_> {
    /// Tries the first `tries` places of `bytes`, which begin at `base`. Returns how far on the next place to try
    /// is: `tries`, or further if a record ends behind that.
    fn look(&mut self, bytes: &[u8], base: u64, tries: usize) -> Result<u64> {
        let mut at = 0;
        while let Some(candidate) = self.next_candidate(bytes, at, tries) {
            at = candidate + 1;
            let offset = base.saturating_add(candidate as u64);
            let Some(header) = Header::decode_at(bytes, candidate) else { break };
            let Some(end) = header.end(offset).filter(|&end| end <= self.len) else { continue };
            if !is_record(self.format, header, offset) {
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
            let behind = end - base;
            match usize::try_from(behind) {
                Ok(behind) if behind < tries => at = behind,
                _ => return Ok(behind),
            }
        }
        Ok(tries as u64)
    }

    /// The first place in `from..to` whose header can be one of a record, by a look at a few of its bytes.
    #[inline]
    fn next_candidate(&self, bytes: &[u8], from: usize, to: usize) -> Option<usize> {
        match self.format {
            Format::Sealed => {
                let lows = bytes.get(from.checked_add(12)?..to.checked_add(12)?)?;
                Some(from + first_low_byte(lows)?)
            }
            Format::Reference => (from..to).find(|&at| {
                let Some(header) = Header::decode_at(bytes, at) else { return false };
                // What is longer than the file is most of what there is.
                header.seal == 0 && header.len != 0 && header.len < self.len
            }),
        }
    }

    /// Whether the payload is what the header says. `rest` is what is in memory from the payload on.
    fn confirm(&mut self, header: Header, offset: u64, rest: Option<&[u8]>) -> Result<bool> {
        if header.len > self.left / 2 && header.len > 0 {
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
            self.left = self.left.saturating_sub(header.len);
        }
        Ok(confirmed)
    }
}

/// The first byte that can be the low byte of a record's seal: `SEALED`, perhaps `BARRIER`, perhaps `CONTINUED`.
#[inline]
fn first_low_byte(bytes: &[u8]) -> Option<usize> {
    const MAYBE: u8 = flag::BARRIER | flag::CONTINUED;
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
    let (words, _) = bytes.as_chunks::<8>();
    // Eight places at a time: a byte that can be one becomes 0 here, and only then borrows from its high bit.
    let skip = words.iter().position(|word| {
        let word =
            (u64::from_le_bytes(*word) & (ONES * u64::from(!MAYBE))) ^ (ONES * u64::from(flag::SEALED));
        word.wrapping_sub(ONES) & !word & HIGHS != 0
    });
    let from = skip.unwrap_or(words.len()) * 8;
    let found = bytes.iter().skip(from).position(|byte| byte & !MAYBE == flag::SEALED);
    found.map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inspect::testing::{B, Built, C};

    fn found(built: &Built, format: Format, from: u64) -> Found {
        let file = built.file();
        search(Source::new(&file, Path::new("test")), format, from, built.len(), &mut Ticker::silent())
            .unwrap()
    }

    #[test]
    fn counts_whole_records_and_tells_the_first_barrier() {
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
    fn finds_records_wherever_they_lie_around_the_window() {
        for behind in [0, 1, 12, 13, 15, 16, 17, 31, 100] {
            for zeros in [WINDOW, WINDOW + AHEAD] {
                let built = Built::sealed(&[]).zeros(zeros - behind).record(b"payload", B).record(b"next", 0);
                assert_eq!(found(&built, Format::Sealed, 0).records, 2, "{behind} before {zeros}");
                let built = Built::reference(&[]).zeros(zeros - behind).record(b"payload", 0);
                assert_eq!(found(&built, Format::Reference, 0).records, 1, "{behind} before {zeros}");
            }
        }
    }

    #[test]
    fn goes_on_behind_a_confirmed_record_however_long() {
        // The inner records are payload: they must not count.
        let inner = Built::sealed(&[]).zeros(17).record(b"inner", B);
        for len in [100, AHEAD, AHEAD + 1, 2 * WINDOW, 3 * (WINDOW + AHEAD)] {
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
    fn forgeries_spend_the_budget_and_not_the_day() {
        let built = forged(8 << 20);
        let found = found(&built, Format::Sealed, 1);
        assert!(found.spent && found.header);
        assert_eq!(found.records, 0);
    }

    #[test]
    fn long_forgeries_do_not_starve_a_short_record_behind_them() {
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
    fn the_quick_look_finds_what_a_slow_one_finds() {
        let bytes: Vec<u8> = (0..2000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for from in 0..bytes.len() {
            let slow = bytes[from..].iter().position(|byte| matches!(byte, 1 | 3 | 5 | 7));
            assert_eq!(first_low_byte(&bytes[from..]), slow, "{from}");
        }
    }
}
