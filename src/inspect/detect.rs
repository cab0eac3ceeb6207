//! What the two ends of a file show: its format, where its records begin, and whether a mark states where they end.

use crate::error::Result;
use crate::format::Format;
use crate::format::{Boundary, CRASHED_CREATION_MAX, Gap, HEADER_LEN, Header, Sealed};
use crate::inspect::pread::Source;
use crate::inspect::progress::ProgressReporter;
use crate::inspect::search::search;

/// A valid mark. A file holds at most one, since only zeros may follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offset: u64,
    /// T: where the journal ends according to this mark.
    pub(crate) end: u64,
}

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileEnd {
    /// The file's length.
    pub(crate) len: u64,
    /// Where the zeros at the end of the file begin.
    pub(super) zeros_from: u64,
    pub(crate) mark: Option<Mark>,
}

impl FileEnd {
    /// Reads the end of a file of `len` bytes.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn read(source: Source<'_>, len: u64) -> Result<Self> {
        let zeros_from = source.zeros_from(len)?;
        let mut mark = None;
        // Only zeros follow a mark, and the low byte of its seal, 12 bytes after its beginning, is not zero. So it
        // begins between 13 and 16 bytes before the zeros do.
        let mut bytes = [0; 19];
        let base = zeros_from.saturating_sub(16);
        let read = source.read_at(&mut bytes, base)?.min(usize::try_from(len - base).unwrap_or(usize::MAX));
        for at in 0..=3usize {
            let offset = base + at as u64;
            let Some(header) = Header::decode_at(bytes.get(..read).unwrap_or_default(), at) else { break };
            let only_zeros_follow = offset + 12 < zeros_from && zeros_from <= offset + HEADER_LEN;
            if only_zeros_follow && header.unseal(offset) == Some(Sealed::Mark) {
                mark = Some(Mark { offset, end: header.len });
            }
        }
        Ok(Self { len, zeros_from, mark })
    }
}

/// What the first header says about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detected {
    /// The file has no content yet: 0 bytes, or the zeros of a creation that crashed.
    NewFile,
    /// The file is to be read in this format. What is read may contradict that.
    Journal(Format),
    /// The file is of no known format.
    NotAJournal,
}

/// Detects a file's format by its first header. `new_file_format` is the format that the caller gives to a new file: it
/// decides what a short file of zeros is.
///
/// # Errors
/// `Io`, or `Stopped`.
pub(crate) fn detect(
    source: Source<'_>,
    file_end: &FileEnd,
    new_file_format: Format,
    progress: &mut ProgressReporter<'_>,
) -> Result<Detected> {
    let FileEnd { len, zeros_from, mark } = *file_end;
    if len == 0 {
        return Ok(Detected::NewFile);
    }
    let Some(first) = source.header_at(0)? else { return Ok(Detected::NotAJournal) };
    if first.seal != 0 {
        return Ok(Detected::Journal(Format::Sealed));
    }
    if !first.is_zero() {
        return Ok(Detected::Journal(Format::Reference));
    }
    // Sixteen zeros are an empty record of the reference format, or what is left of a sealed header.
    if zeros_from == 0 {
        return Ok(match (len, new_file_format) {
            (0..=CRASHED_CREATION_MAX, Format::Reference) => Detected::Journal(Format::Reference),
            (0..=CRASHED_CREATION_MAX, Format::Sealed) => Detected::NewFile,
            _ => Detected::NotAJournal,
        });
    }
    if mark.is_some() || search(source, Format::Sealed, 1, len, progress)?.header {
        return Ok(Detected::Journal(Format::Sealed));
    }
    // The first byte that is not zero is in the header of the first record that is not empty.
    let Some(first) = source.first_non_zero(len)?.map(|at| at & !(HEADER_LEN - 1)) else {
        return Ok(Detected::NotAJournal);
    };
    Ok(match is_whole_reference_record(source, first, len)? {
        true => Detected::Journal(Format::Reference),
        false => Detected::NotAJournal,
    })
}

/// Returns where the records of a file of `len` bytes begin: after the gap at offset 0 if there is a valid one, else at
/// 0.
///
/// # Errors
/// `Io`.
pub(crate) fn first_boundary(source: Source<'_>, format: Format, len: u64) -> Result<Boundary> {
    let mut bytes = [0; 32];
    let read = source.read_at(&mut bytes, 0)?;
    let bytes = bytes.get(..read).unwrap_or_default();
    if let (Format::Sealed, Some(header)) = (format, Header::decode_at(bytes, 0)) {
        let gap = header.unseal(0).filter(|what| *what == Sealed::Gap);
        let gap = gap.and_then(|_| Gap::decode(header, bytes.get(16..)?));
        // More records than a file can hold were never removed, and indexes after so many would overflow.
        let gap = gap.filter(|gap| gap.removed <= i64::MAX as u64);
        if let (Some(gap), Some(end)) = (gap, header.end(0).filter(|&end| end <= len)) {
            return Ok(Boundary { next: gap.next_index(), offset: end });
        }
    }
    Ok(Boundary::START)
}

/// Returns `true` if a whole, valid record of the reference format that is not empty begins at `offset`.
pub(super) fn is_whole_reference_record(source: Source<'_>, offset: u64, len: u64) -> Result<bool> {
    let Some(header) = source.header_at(offset)? else { return Ok(false) };
    if header.seal != 0 || header.len == 0 || header.end(offset).is_none_or(|end| end > len) {
        return Ok(false);
    }
    source.payload_matches(header, offset)
}
