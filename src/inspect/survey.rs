//! Reads a whole file once and classifies how it ends: detects its format, scans its records, gathers the facts about
//! the place where the scan ended, and classifies them.

use crate::error::Result;
use crate::format::Format;
use crate::format::{Boundary, Cursor, HEADER_LEN, Sealed};
use crate::index::IndexWriter;
use crate::inspect::classify::{Classification, Facts, classify};
use crate::inspect::detect::{Detected, FileEnd, detect, first_boundary, is_whole_reference_record};
use crate::inspect::pread::Source;
use crate::inspect::progress::ProgressReporter;
use crate::inspect::scan::{ScanRequest, Scanned, scan};
use crate::inspect::search::search;
use crate::options::IndexMode;

/// What a caller asks of a survey.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SurveyRequest {
    /// How the index keeps the records.
    pub(crate) index: IndexMode,
    /// The format that the caller gives to a new file.
    pub(crate) new_file_format: Format,
    /// A file that is not a journal is to be read as a damaged journal of the reference format.
    pub(crate) force_reference: bool,
}

/// What a file holds and how it ends.
#[derive(Debug)]
pub(crate) struct Survey {
    /// `None` for a new file, about which there is nothing to classify.
    pub(crate) classification: Option<Classification>,
    pub(super) file_end: FileEnd,
    /// X: the first boundary at which no whole, valid record begins, and the batch that it is in.
    pub(crate) x: Cursor,
    /// The records up to X.
    pub(crate) index: IndexWriter,
    /// The file counts as a journal only because the request forces the reference format.
    pub(crate) forced_reference: bool,
}

impl Survey {
    /// Reads a file of `len` bytes.
    ///
    /// # Errors
    /// `Io`, or `Stopped`.
    pub(crate) fn read(
        source: Source<'_>,
        len: u64,
        request: SurveyRequest,
        progress: &mut ProgressReporter<'_>,
    ) -> Result<Self> {
        let SurveyRequest { index: mode, new_file_format, force_reference } = request;
        let file_end = FileEnd::read(source, len)?;
        let mut scanned = Scanned { x: Cursor::outside_batch(Boundary::START), passed: None };
        let (format, detected) = match detect(source, &file_end, new_file_format, progress)? {
            Detected::NewFile => {
                let index = IndexWriter::new(mode, Boundary::START.next, Boundary::START.offset);
                let x = scanned.x;
                return Ok(Self { classification: None, file_end, x, index, forced_reference: false });
            }
            Detected::Journal(format) => (format, true),
            Detected::NotAJournal => (Format::Reference, false),
        };
        let first = first_boundary(source, format, len)?;
        let mut index = IndexWriter::new(mode, first.next, first.offset);
        if detected || force_reference {
            let boundary_at = file_end.mark.map(|mark| mark.end);
            let request = ScanRequest { format, len, batch: None, boundary_at };
            scanned = scan(source, request, &mut index, progress)?;
        }
        let classification = classify_at(source, format, force_reference, file_end, scanned, progress)?;
        let x = scanned.x;
        let forced_reference =
            force_reference && classification.format == Format::Reference && (!detected || x.at.offset == 0);
        Ok(Self { classification: Some(classification), file_end, x, index, forced_reference })
    }
}

/// Classifies a file of this format in which no whole, valid record begins at `x`, for a caller that reads the records
/// itself.
///
/// # Errors
/// `Io`.
pub(crate) fn classify_end(
    source: Source<'_>,
    format: Format,
    file_end: FileEnd,
    x: Cursor,
) -> Result<Classification> {
    let scanned = Scanned { x, passed: None };
    classify_at(source, format, false, file_end, scanned, &mut ProgressReporter::silent())
}

/// Gathers the facts about X, and classifies them.
fn classify_at(
    source: Source<'_>,
    format: Format,
    force_reference: bool,
    file_end: FileEnd,
    scanned: Scanned,
    progress: &mut ProgressReporter<'_>,
) -> Result<Classification> {
    let FileEnd { len, mark, .. } = file_end;
    let x = scanned.x.at.offset;
    let header = match x.checked_add(HEADER_LEN) {
        Some(end) if end <= len => source.header_at(x)?,
        _ => None,
    };
    let end = header.and_then(|header| header.end(x)).filter(|&end| end <= len);
    let whole_but_unsealed = match (header, mark) {
        (Some(header), Some(mark)) if end == Some(mark.end) => source.payload_matches(header, x)?,
        _ => false,
    };
    let facts = Facts {
        format,
        force_reference,
        file_end,
        scanned,
        header,
        whole_but_unsealed,
        reference_at_x: format == Format::Sealed && is_whole_reference_record(source, x, len)?,
    };
    let valid = header.is_some_and(|header| {
        let gap = x == 0 && header.unseal(0) == Some(Sealed::Gap);
        gap || header.is_record(Format::Sealed, x)
    });
    classify(&facts, &mut |wanted| {
        let from = match (wanted, format, end) {
            // The header proves its length, so everything up to `end` is payload.
            (Format::Sealed, Format::Sealed, Some(end)) if valid => end,
            (Format::Sealed, Format::Reference, _) => x,
            _ => x.saturating_add(1),
        };
        search(source, wanted, from, len, progress)
    })
}
