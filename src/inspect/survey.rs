//! Reads off a file what the classification needs to know: its end, its format, how far its records go, and what lies
//! beyond. Writes nothing.

use crate::error::Result;
use crate::format::{CRASHED_CREATION_MAX, Gap, HEADER_LEN, Header, Sealed};
use crate::index::IndexWriter;
use crate::inspect::classify::{Facts, Mark, Ruled, classify};
use crate::inspect::pread::{PIECE, Place, Source, Ticker, is_record};
use crate::inspect::scan::{Orders, Scanned, scan};
use crate::inspect::search::search;
use crate::options::{Format, IndexMode};

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) len: u64,
    /// Where the last byte ends that is not zero.
    pub(crate) zeros_from: u64,
    pub(crate) mark: Option<Mark>,
}

impl Tail {
    /// Looks at the end of a file of `len` bytes.
    pub(crate) fn of(source: Source<'_>, len: u64) -> Result<Self> {
        let zeros_from = source.last_non_zero(len)?;
        let mut mark = None;
        // Only zeros lie behind a mark, and the low byte of its seal, 12 bytes in, is not zero. So it begins
        // between 13 and 16 bytes before the zeros do.
        let mut bytes = [0; 19];
        let base = zeros_from.saturating_sub(16);
        let read = source.read_at(&mut bytes, base)?.min(usize::try_from(len - base).unwrap_or(usize::MAX));
        for at in 0..=3usize {
            let offset = base + at as u64;
            let Some(header) = Header::decode_at(bytes.get(..read).unwrap_or_default(), at) else { break };
            let no_zeros = offset + 12 < zeros_from && zeros_from <= offset + HEADER_LEN;
            if no_zeros && header.unseal(offset) == Some(Sealed::Mark) {
                mark = Some(Mark { offset, end: header.len });
            }
        }
        Ok(Self { len, zeros_from, mark })
    }
}

/// What the first header says about the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing yet: 0 bytes, or the zeros of a creation that crashed.
    New,
    /// To be read in this format, which the walk may contradict.
    As(Format),
    /// It is none.
    Nothing,
}

/// Tells a file's format by its first header. `asked` is what the one who opens it asked for.
pub(crate) fn tell(source: Source<'_>, tail: &Tail, asked: Format, ticker: &mut Ticker<'_>) -> Result<Told> {
    if tail.len == 0 {
        return Ok(Told::New);
    }
    let Some(first) = source.header_at(0)? else { return Ok(Told::Nothing) };
    if first.seal != 0 {
        return Ok(Told::As(Format::Sealed));
    }
    if first != Header::decode(&[0; 16]) {
        return Ok(Told::As(Format::Reference));
    }
    // Sixteen zeros are an empty record of the reference format, or what is left of a sealed header.
    if tail.zeros_from == 0 {
        return Ok(match (tail.len, asked) {
            (0..=CRASHED_CREATION_MAX, Format::Reference) => Told::As(Format::Reference),
            (0..=CRASHED_CREATION_MAX, Format::Sealed) => Told::New,
            _ => Told::Nothing,
        });
    }
    if tail.mark.is_some() || search(source, Format::Sealed, 1, tail.len, ticker)?.header {
        return Ok(Told::As(Format::Sealed));
    }
    // The first record that is not empty begins with the header that the first other byte is in.
    let Some(first) = source.first_non_zero(tail.len)?.map(|at| at & !(HEADER_LEN - 1)) else {
        return Ok(Told::Nothing);
    };
    Ok(match whole_reference_record(source, first, tail.len)? {
        true => Told::As(Format::Reference),
        false => Told::Nothing,
    })
}

/// An index that begins where the records do: at 0, or behind a gap. A gap that is not valid is no gap.
pub(crate) fn begin(source: Source<'_>, format: Format, mode: IndexMode, len: u64) -> Result<IndexWriter> {
    let mut bytes = [0; 32];
    let read = source.read_at(&mut bytes, 0)?;
    let bytes = bytes.get(..read).unwrap_or_default();
    if let (Format::Sealed, Some(header)) = (format, Header::decode_at(bytes, 0)) {
        let gap = header.unseal(0).filter(|what| *what == Sealed::Gap);
        let gap = gap.and_then(|_| Gap::decode(header, bytes.get(16..)?));
        // More records than a file can hold were never removed, and indexes beyond that would overflow.
        let gap = gap.filter(|gap| gap.removed <= i64::MAX as u64);
        if let (Some(gap), Some(end)) = (gap, header.end(0).filter(|&end| end <= len)) {
            return Ok(IndexWriter::new(mode, gap.next_index(), end));
        }
    }
    Ok(IndexWriter::new(mode, 1, 0))
}

/// Whether a whole, valid record of the reference format that is not empty begins at `offset`.
fn whole_reference_record(source: Source<'_>, offset: u64, len: u64) -> Result<bool> {
    let Some(header) = source.header_at(offset)? else { return Ok(false) };
    if header.seal != 0 || header.len == 0 || header.end(offset).is_none_or(|end| end > len) {
        return Ok(false);
    }
    payload_matches(source, header, offset)
}

fn payload_matches(source: Source<'_>, header: Header, offset: u64) -> Result<bool> {
    let mut piece = Vec::with_capacity(header.len.min(PIECE as u64) as usize);
    let crc = source.crc(offset.saturating_add(HEADER_LEN), header.len, &mut piece, |_| true)?;
    Ok(crc == Some(header.crc))
}

/// Says what it means that a walk through a file of this format ended so. With `insist`, a file that is not a
/// journal is one of the reference format that is damaged at 0.
pub(crate) fn rule(
    source: Source<'_>,
    format: Format,
    insist: bool,
    tail: &Tail,
    scanned: &Scanned,
    ticker: &mut Ticker<'_>,
) -> Result<Ruled> {
    let Tail { len, zeros_from, mark } = *tail;
    let x = scanned.x;
    let header = match x.offset.checked_add(HEADER_LEN) {
        Some(end) if end <= len => source.header_at(x.offset)?,
        _ => None,
    };
    let end = header.and_then(|header| header.end(x.offset)).filter(|&end| end <= len);
    let unsealed = match (header, mark) {
        (Some(header), Some(mark)) if end == Some(mark.end) => payload_matches(source, header, x.offset)?,
        _ => false,
    };
    let valid = header.is_some_and(|header| {
        let gap = x.offset == 0 && header.unseal(0) == Some(Sealed::Gap);
        gap || is_record(Format::Sealed, header, x.offset)
    });
    let facts = Facts {
        format,
        insist,
        len,
        zeros_from,
        mark,
        x,
        batch: scanned.batch,
        passed: scanned.passed,
        header,
        unsealed,
        reference_at_x: format == Format::Sealed && whole_reference_record(source, x.offset, len)?,
    };
    let behind = x.offset.saturating_add(1);
    classify(&facts, &mut |wanted| {
        let from = match (wanted, format, end) {
            // The header proves its length: what is inside its payload is payload.
            (Format::Sealed, Format::Sealed, Some(end)) if valid => end,
            (Format::Sealed, Format::Reference, _) => x.offset,
            _ => behind,
        };
        search(source, wanted, from, len, ticker)
    })
}

/// A file, read through once.
#[derive(Debug)]
pub(crate) struct Survey {
    /// `None` if there is nothing to rule about: a new file.
    pub(crate) ruled: Option<Ruled>,
    pub(crate) tail: Tail,
    pub(crate) scanned: Scanned,
    /// The records up to X.
    pub(crate) index: IndexWriter,
    /// Only the one who opens it takes it for a journal.
    pub(crate) insisted: bool,
}

impl Survey {
    /// Reads a file of `len` bytes through. `asked` is the format that the one who opens it asked for; with
    /// `insist`, a file that is not a journal is read as a reference journal all the same.
    ///
    /// # Errors
    /// `Io`, or `Stopped`.
    pub(crate) fn take(
        source: Source<'_>,
        len: u64,
        mode: IndexMode,
        asked: Format,
        insist: bool,
        ticker: &mut Ticker<'_>,
    ) -> Result<Self> {
        let tail = Tail::of(source, len)?;
        let start = Place { offset: 0, index: 1 };
        let nowhere = Scanned { x: start, batch: None, passed: None };
        let (format, known) = match tell(source, &tail, asked, ticker)? {
            Told::New => {
                let index = IndexWriter::new(mode, 1, 0);
                return Ok(Self { ruled: None, tail, scanned: nowhere, index, insisted: false });
            }
            Told::As(format) => (format, true),
            Told::Nothing => (Format::Reference, false),
        };
        let mut index = begin(source, format, mode, len)?;
        let watch = tail.mark.map(|mark| mark.end);
        let scanned = match known || insist {
            true => scan(source, Orders { format, len, batch: None, watch }, &mut index, ticker)?,
            false => nowhere,
        };
        let ruled = rule(source, format, insist, &tail, &scanned, ticker)?;
        let insisted = insist && ruled.format == Format::Reference && (!known || scanned.x.offset == 0);
        Ok(Self { ruled: Some(ruled), tail, scanned, index, insisted })
    }
}
