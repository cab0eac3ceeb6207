//! What it means that a scan ended where it did: the table of recovery, row by row in its order. Classifying reads no
//! file itself. It calls back for the search beyond the place where the scan ended, and only for rows that depend on it.
//!
//! X is where the scan ended. The first row that matches decides:
//!
//! | row | found | ruling |
//! | --- | --- | --- |
//! | 1 | X = 0, no check holds there, no valid sealed header anywhere | not a journal |
//! | 2 | a check holds at X and a bit that this version keeps 0 is set | of a newer version |
//! | 3 | a valid `MARK(T)` at X or beyond, and T is a boundary up to X, or the end of the record at X, which is not the first and is whole but for its seal | at X = T: clean; else a truncation to finish at T |
//! | 4 | sealed, X = 0, and no record or mark begins there (the first sector is never torn) | corrupt |
//! | 5 | sealed: a whole record with `BARRIER`, or a mark of a place beyond X, lies beyond X | corrupt |
//! | 6 | sealed: only zeros from X on, outside a batch | preallocated |
//! | 7 | the end of the file, outside a batch | clean |
//! | 8 | the end of the file, inside a batch | torn where the batch begins |
//! | 9 | sealed: anything else | torn at X, or where its batch begins; corrupt if the search spent its budget |
//! | 10 | reference: anything else | torn at X; corrupt if sealed records lie there |

use std::path::Path;

use crate::error::{Beyond, Error, Result};
use crate::format::Format;
use crate::format::{Boundary, Header, Sealed, flag};
use crate::inspect::detect::{FileEnd, Mark};
use crate::inspect::scan::Scanned;
use crate::inspect::search::Found;

/// What is known when a scan has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// The format that the first header states.
    pub(super) format: Format,
    /// The caller takes a file that is not a journal for a damaged one of the reference format.
    pub(super) force_reference: bool,
    pub(super) file_end: FileEnd,
    /// X, and the boundary at T if T is one and is at most X.
    pub(super) scanned: Scanned,
    /// The header at X. `None` if the file ends before that does.
    pub(super) header: Option<Header>,
    /// The record at X ends at T and is whole but for its seal.
    pub(super) whole_but_unsealed: bool,
    /// A whole record of the reference format that is not empty begins at X.
    pub(super) reference_at_x: bool,
}

/// A record's header that is to be written again in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reseal {
    pub(crate) offset: u64,
    pub(crate) header: Header,
}

/// What the facts mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ruling {
    NotAJournal,
    /// A newer version of the format wrote what lies at X.
    Newer,
    /// The journal ends at X as it should. `marked`: the mark of that place follows.
    Clean {
        marked: bool,
    },
    /// The journal ends at X. The zeros that were preallocated there were left by a crash.
    Preallocated,
    /// A truncation to `end` was not finished.
    Truncated {
        end: Boundary,
        reseal: Option<Reseal>,
    },
    Torn {
        end: Boundary,
    },
    Corrupt {
        end: Boundary,
    },
}

/// A ruling and what it is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Classification {
    pub(crate) format: Format,
    pub(crate) ruling: Ruling,
    /// What lies beyond X, as far as the ruling needed a search.
    found: Found,
    /// The offset beyond X of a header that proves that X was durable.
    proof: Option<u64>,
}

impl Classification {
    /// What lies beyond X, as errors and reports state it.
    pub(crate) fn beyond(&self) -> Beyond {
        Beyond { records: self.found.records, at_least: self.found.spent, proof: self.proof }
    }

    /// The error for a caller that does not accept how the journal at `path` ends at `x`.
    pub(crate) fn error(&self, path: &Path, x: Boundary) -> Error {
        let path = path.to_owned();
        match self.ruling {
            Ruling::NotAJournal => Error::NotAJournal { path },
            Ruling::Newer => {
                let what = format!("the header at offset {} was written by a newer version", x.offset);
                Error::UnsupportedFormat { path, what }
            }
            _ => Error::Corrupt { path, offset: x.offset, index: x.next, beyond: Some(self.beyond()) },
        }
    }
}

/// Classifies the facts. `search` searches beyond X for records of a format.
///
/// # Errors
/// Those of `search`.
pub(super) fn classify(
    facts: &Facts,
    search: &mut dyn FnMut(Format) -> Result<Found>,
) -> Result<Classification> {
    let FileEnd { len, zeros_from, mark } = facts.file_end;
    let x = facts.scanned.x.at;
    let in_batch = facts.scanned.x.batch.is_some();
    let end = facts.scanned.x.last_outside_batch();
    let at_x = facts.header.and_then(|header| header.unseal(x.offset));
    let mut format = facts.format;
    let mut found = None;
    let rule = |format, ruling, found: Option<Found>, proof| {
        Ok(Classification { format, ruling, found: found.unwrap_or_default(), proof })
    };

    // Row 1.
    if x.offset == 0 && len > 0 && at_x.is_none() {
        let sealed = search(Format::Sealed)?;
        if sealed.header || mark.is_some() {
            // Whatever the first header is now: what lies beyond it was written as a sealed journal.
            format = Format::Sealed;
            found = Some(sealed);
        } else if facts.force_reference {
            format = Format::Reference;
        } else {
            return rule(format, Ruling::NotAJournal, None, None);
        }
    }
    // Row 2.
    if at_x == Some(Sealed::Newer) {
        return rule(format, Ruling::Newer, None, None);
    }
    if format == Format::Reference {
        // Row 7.
        if x.offset == len {
            return rule(format, Ruling::Clean { marked: false }, None, None);
        }
        return row_10(facts, search);
    }
    // Row 3.
    let mark = mark.filter(|mark| mark.offset >= x.offset);
    if let Some(mark) = mark {
        if mark.offset == x.offset && mark.end == x.offset && !in_batch {
            return rule(format, Ruling::Clean { marked: true }, None, None);
        }
        if let Some(ruling) = truncation(facts, mark) {
            // The search covers what the truncation removes, to tell how many records go.
            let found = found.map_or_else(|| search(format), Ok)?;
            return rule(format, ruling, Some(found), None);
        }
    }
    // If only zeros follow, there is nothing to find.
    if found.is_none() && zeros_from > x.offset {
        found = Some(search(format)?);
    }
    let mark_beyond = mark.filter(|mark| mark.end > x.offset).map(|mark| mark.offset);
    let proof = match (found.and_then(|found| found.barrier), mark_beyond) {
        (Some(barrier), Some(mark)) => Some(barrier.min(mark)),
        (barrier, mark) => barrier.or(mark),
    };
    // Row 4. It covers a gap whose payload contradicts its header, and every other header whose check holds but that
    // makes no sense: all of them lie in the first sector.
    if x.offset == 0 && !matches!(at_x, Some(Sealed::Record { .. } | Sealed::Mark)) {
        return rule(format, Ruling::Corrupt { end }, found, proof);
    }
    // Row 5.
    if proof.is_some() {
        return rule(format, Ruling::Corrupt { end }, found, proof);
    }
    if !in_batch {
        // Row 7 before row 6: at the end of the file there are no zeros to cut.
        if x.offset == len {
            return rule(format, Ruling::Clean { marked: false }, found, None);
        }
        // Row 6.
        if zeros_from <= x.offset {
            return rule(format, Ruling::Preallocated, found, None);
        }
    }
    // Rows 8 and 9.
    let mut found = found.unwrap_or_default();
    if found.spent {
        return rule(format, Ruling::Corrupt { end }, Some(found), None);
    }
    if found.records == 0 && facts.reference_at_x {
        // Another program appended in the other format. What it appended is no record of this journal, but a copy of it
        // must be kept when it is cut.
        found.records = 1;
        found.spent = true;
    }
    rule(format, Ruling::Torn { end }, Some(found), None)
}

/// Row 3 without its clean case: the truncation that the mark announces. Returns `None` if the mark does not belong to
/// the records that were scanned.
fn truncation(facts: &Facts, mark: Mark) -> Option<Ruling> {
    let x = facts.scanned.x.at;
    if mark.end <= x.offset {
        if mark.end == 0 {
            // It holds whatever lies there, a gap included, and even if that is damaged.
            return Some(Ruling::Truncated { end: Boundary::START, reseal: None });
        }
        let passed = facts.scanned.passed.filter(|passed| passed.at.offset == mark.end)?;
        // The journal may end inside what was a batch. Then its last record becomes the last of the batch.
        let reseal = passed.last.filter(|(_, header)| header.is_continued());
        let reseal = reseal.map(|(offset, header)| Reseal {
            offset,
            header: header.with_flags(offset, header.flags() & !flag::CONTINUED),
        });
        return Some(Ruling::Truncated { end: passed.at, reseal });
    }
    // The first sector is never torn, so a header at 0 is not one that was being sealed anew. And what lost its seal there
    // may have been a gap, which must not come back as a record.
    let header = facts.header.filter(|_| facts.whole_but_unsealed && x.offset > 0)?;
    let flags = header.flags();
    let flags = match flags & !flag::OF_RECORD == flag::SEALED {
        true => flags & !flag::CONTINUED,
        // The flags themselves are torn. Without BARRIER the seal proves less, but nothing false.
        false => flag::SEALED,
    };
    let reseal = Some(Reseal { offset: x.offset, header: header.with_flags(x.offset, flags) });
    Some(Ruling::Truncated { end: x.after_record(mark.end), reseal })
}

/// A reference journal that does not end with a whole record. Nothing in that format tells a torn tail from damage. But
/// if there are sealed records, it is a sealed journal whose first header lost its seal.
fn row_10(facts: &Facts, search: &mut dyn FnMut(Format) -> Result<Found>) -> Result<Classification> {
    let end = facts.scanned.x.at;
    let sealed = search(Format::Sealed)?;
    let mark = facts.file_end.mark.filter(|mark| mark.offset >= end.offset).map(|mark| mark.offset);
    if sealed.records > 0 || sealed.spent || mark.is_some() {
        let proof = sealed.barrier.or(mark);
        let ruling = Ruling::Corrupt { end };
        return Ok(Classification { format: facts.format, ruling, found: sealed, proof });
    }
    let found = search(Format::Reference)?;
    Ok(Classification { format: Format::Reference, ruling: Ruling::Torn { end }, found, proof: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Cursor;
    use crate::inspect::scan::PassedBoundary;

    const X: Boundary = Boundary { next: 11, offset: 1000 };
    const BEGIN: Boundary = Boundary { next: 9, offset: 900 };

    /// A sealed file of 2000 bytes with something that is no record at 1000, outside a batch.
    fn facts() -> Facts {
        Facts {
            format: Format::Sealed,
            force_reference: false,
            file_end: FileEnd { len: 2000, zeros_from: 2000, mark: None },
            scanned: Scanned { x: Cursor::outside_batch(X), passed: None },
            header: Some(Header { len: 1, crc: 2, seal: 3 }),
            whole_but_unsealed: false,
            reference_at_x: false,
        }
    }

    impl Facts {
        fn at_0(mut self) -> Self {
            self.scanned.x = Cursor::outside_batch(Boundary::START);
            self
        }

        fn in_batch(mut self) -> Self {
            self.scanned.x.batch = Some(BEGIN);
            self
        }

        /// A mark at `offset` that says "the journal ends at `end`".
        fn mark(mut self, offset: u64, end: u64) -> Self {
            self.file_end.mark = Some(Mark { offset, end });
            self
        }

        fn header(self, header: Header) -> Self {
            Self { header: Some(header), ..self }
        }

        fn passed(mut self, passed: PassedBoundary) -> Self {
            self.scanned.passed = Some(passed);
            self
        }

        /// Only zeros follow X, up to `len`.
        fn zeros_to(mut self, len: u64) -> Self {
            self.file_end = FileEnd { len, zeros_from: 1000, mark: None };
            self
        }

        fn no_header(self) -> Self {
            Self { header: None, ..self }
        }

        fn reference(self) -> Self {
            Self { format: Format::Reference, ..self }
        }
    }

    fn classified(facts: Facts, found: Found) -> Classification {
        classify(&facts, &mut |format| Ok(if format == Format::Sealed { found } else { Found::default() }))
            .unwrap()
    }

    fn ruling(facts: Facts, found: Found) -> Ruling {
        classified(facts, found).ruling
    }

    const NONE: Found = Found { records: 0, spent: false, barrier: None, header: false };
    const HEADER: Found = Found { header: true, ..NONE };
    const BARRIER: Found = Found { records: 1, barrier: Some(1500), header: true, ..NONE };
    const SPENT: Found = Found { spent: true, header: true, ..NONE };

    #[test]
    fn row_1_comes_first() {
        assert_eq!(ruling(facts().at_0(), NONE), Ruling::NotAJournal);
        let reference = facts().at_0().reference();
        assert_eq!(ruling(reference, NONE), Ruling::NotAJournal);
        // Any valid header makes it a damaged sealed journal, whatever the first header is.
        let end = Boundary::START;
        assert_eq!(ruling(facts().at_0(), HEADER), Ruling::Corrupt { end });
        assert_eq!(classified(reference, HEADER).format, Format::Sealed);
        // A caller can force the reference format, but not against that.
        let forced = Facts { force_reference: true, ..facts().at_0() };
        assert_eq!(ruling(forced, NONE), Ruling::Torn { end });
        assert_eq!(classified(forced, NONE).format, Format::Reference);
        assert_eq!(ruling(forced, HEADER), Ruling::Corrupt { end });
    }

    #[test]
    fn row_2_comes_before_all_that_follow() {
        let newer = facts().header(Header::sealed(1000, 5, 6, 1 << 6));
        assert_eq!(ruling(newer.mark(1984, 1000), BARRIER), Ruling::Newer);
        assert_eq!(ruling(newer.reference(), BARRIER), Ruling::Newer);
        let newer = facts().at_0().header(Header::sealed(0, 5, 6, 1 << 5));
        assert_eq!(ruling(newer, NONE), Ruling::Newer);
        let elsewhere = facts().header(Header::sealed(1001, 5, 6, 1 << 6));
        assert_eq!(ruling(elsewhere, NONE), Ruling::Torn { end: X });
    }

    #[test]
    fn row_3_a_mark_of_x_at_x_is_clean() {
        let marked = facts().mark(1000, 1000).header(Header::mark(1000, 1000));
        assert_eq!(ruling(marked, NONE), Ruling::Clean { marked: true });
        assert_eq!(ruling(marked.in_batch(), NONE), Ruling::Torn { end: BEGIN });
    }

    #[test]
    fn row_3_comes_before_damage() {
        let last = Header::sealed(800, 84, 9, flag::CONTINUED | flag::BARRIER);
        let passed = PassedBoundary { at: BEGIN, last: Some((800, last)) };
        let reseal = Some(Reseal { offset: 800, header: Header::sealed(800, 84, 9, flag::BARRIER) });
        let truncated = Ruling::Truncated { end: BEGIN, reseal };
        assert_eq!(ruling(facts().mark(1984, 900).passed(passed), BARRIER), truncated);
        assert_eq!(ruling(facts().mark(1984, 900).passed(passed), SPENT), truncated);
        // T is not a boundary of this scan, so the mark is not a truncation of it.
        assert_eq!(ruling(facts().mark(1984, 900), NONE), Ruling::Torn { end: X });
        // The mark is inside a record.
        assert_eq!(ruling(facts().mark(984, 900).passed(passed), NONE), Ruling::Torn { end: X });
        let to_nothing = facts().mark(1984, 0);
        let end = Boundary::START;
        assert_eq!(ruling(to_nothing, BARRIER), Ruling::Truncated { end, reseal: None });
        assert_eq!(ruling(to_nothing.at_0(), BARRIER), Ruling::Truncated { end, reseal: None });
    }

    #[test]
    fn row_3_a_record_that_is_being_sealed_anew_counts() {
        let whole = Header::sealed(1000, 84, 9, flag::BARRIER | flag::CONTINUED);
        for (low, flags) in [(7, flag::BARRIER), (3, flag::BARRIER), (5, 0), (1, 0), (2, 0), (0xFF, 0)] {
            let header = Header { seal: 0xABCD_EF00 | low, ..whole };
            let facts = facts().mark(1984, 1100).header(header).in_batch();
            let reseal = Some(Reseal { offset: 1000, header: Header::sealed(1000, 84, 9, flags) });
            let end = Boundary { next: 12, offset: 1100 };
            assert_eq!(
                ruling(Facts { whole_but_unsealed: true, ..facts }, NONE),
                Ruling::Truncated { end, reseal }
            );
            assert_eq!(ruling(facts, NONE), Ruling::Corrupt { end: BEGIN });
        }
    }

    #[test]
    fn row_4_what_makes_no_sense_in_the_first_sector_is_damage() {
        let end = Boundary::START;
        let gap = facts().at_0().header(Header::sealed(0, 100, 1, flag::GAP));
        assert_eq!(ruling(gap, NONE), Ruling::Corrupt { end });
        for header in [Header::sealed(0, 5000, 1, flag::BARRIER), Header::mark(0, 0)] {
            assert_eq!(ruling(facts().at_0().header(header), NONE), Ruling::Torn { end });
        }
    }

    #[test]
    fn row_5_a_barrier_or_a_mark_beyond_is_proof() {
        let corrupt = classified(facts(), BARRIER);
        assert_eq!((corrupt.ruling, corrupt.proof), (Ruling::Corrupt { end: X }, Some(1500)));
        assert_eq!(ruling(facts().in_batch(), BARRIER), Ruling::Corrupt { end: BEGIN });
        let corrupt = classified(facts().mark(1984, 1984), NONE);
        assert_eq!((corrupt.ruling, corrupt.proof), (Ruling::Corrupt { end: X }, Some(1984)));
    }

    #[test]
    fn rows_6_to_8_depend_on_the_batch() {
        let zeros = facts().zeros_to(2000).header(Header::decode(&[0; 16]));
        assert_eq!(ruling(zeros, NONE), Ruling::Preallocated);
        assert_eq!(ruling(facts().zeros_to(1009).no_header(), NONE), Ruling::Preallocated);
        assert_eq!(ruling(zeros.in_batch(), NONE), Ruling::Torn { end: BEGIN });
        let ended = facts().zeros_to(1000).no_header();
        assert_eq!(ruling(ended, NONE), Ruling::Clean { marked: false });
        assert_eq!(ruling(ended.in_batch(), NONE), Ruling::Torn { end: BEGIN });
        assert_eq!(ruling(ended.reference(), NONE), Ruling::Clean { marked: false });
    }

    #[test]
    fn row_9_is_torn_unless_the_search_was_spent() {
        assert_eq!(ruling(facts(), NONE), Ruling::Torn { end: X });
        assert_eq!(ruling(facts().in_batch(), HEADER), Ruling::Torn { end: BEGIN });
        assert_eq!(ruling(facts(), SPENT), Ruling::Corrupt { end: X });
        let other = classified(Facts { reference_at_x: true, ..facts() }, NONE);
        assert_eq!((other.ruling, other.found.records), (Ruling::Torn { end: X }, 1));
    }

    #[test]
    fn row_10_is_torn_unless_sealed_records_follow() {
        let reference = facts().reference();
        assert_eq!(ruling(reference, NONE), Ruling::Torn { end: X });
        assert_eq!(ruling(reference, BARRIER), Ruling::Corrupt { end: X });
        assert_eq!(ruling(reference.zeros_to(2000), NONE), Ruling::Torn { end: X });
    }

    #[test]
    fn a_clean_end_is_classified_without_a_search() {
        let mut search = |_| -> Result<Found> { panic!("nothing to search for") };
        let zeros = facts().zeros_to(2000).no_header();
        let ended = facts().zeros_to(1000).no_header();
        let closed = facts().mark(1000, 1000).header(Header::mark(1000, 1000));
        for facts in [zeros, ended, closed, ended.reference()] {
            classify(&facts, &mut search).unwrap();
        }
    }
}
