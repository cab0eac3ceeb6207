//! What the place where a walk ended means: the table of recovery, row by row in its order. Pure, but for the search
//! beyond that place, which is only made by rows that need it.
//!
//! X is where the walk ended. The first row that matches decides:
//!
//! | row | found | ruling |
//! | --- | --- | --- |
//! | 1 | X = 0, no check holds there, no valid sealed header anywhere | not a journal |
//! | 2 | a check holds at X and a bit that this version keeps 0 is set | of a newer version |
//! | 3 | a valid `MARK(T)` at X or beyond, and T is a boundary up to X, or the end of the record at X, which is not the first and is whole but for its seal | at X = T: clean; else a truncation to finish at T |
//! | 4 | sealed, X = 0, and no record or mark begins there (the first sector is never torn) | corrupt |
//! | 5 | sealed: a whole record with `BARRIER`, or a mark of a place beyond X, lies beyond X | corrupt |
//! | 6 | sealed: only zeros from X on, outside a batch | room ahead |
//! | 7 | the end of the file, outside a batch | clean |
//! | 8 | the end of the file, inside a batch | torn where the batch begins |
//! | 9 | sealed: anything else | torn at X, or where its batch begins; corrupt if the search was spent |
//! | 10 | reference: anything else | torn at X; corrupt if sealed records lie there |

use crate::error::{Beyond, Result};
use crate::format::{Header, Sealed, flag};
use crate::inspect::pread::Place;
use crate::inspect::scan::Passed;
use crate::inspect::search::Found;
use crate::options::Format;

/// A valid mark. There is at most one in a file, for nothing but zeros lies behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offset: u64,
    /// T: where it says that the journal ends.
    pub(crate) end: u64,
}

/// What is known when a walk has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// What the first header says.
    pub(crate) format: Format,
    /// A file that is not a journal is to be taken for a damaged one of the reference format.
    pub(crate) insist: bool,
    /// The file's length.
    pub(crate) len: u64,
    /// Where the last byte ends that is not zero.
    pub(crate) zeros_from: u64,
    pub(crate) mark: Option<Mark>,
    pub(crate) x: Place,
    /// Where the batch that X is in begins.
    pub(crate) batch: Option<Place>,
    /// The boundary at T, if T is at most X and a boundary.
    pub(crate) passed: Option<Passed>,
    /// The header at X, if the file holds all of it.
    pub(crate) header: Option<Header>,
    /// The record at X ends at T and is whole but for its seal.
    pub(crate) unsealed: bool,
    /// A whole record of the reference format that is not empty begins at X.
    pub(crate) reference_at_x: bool,
}

/// A record's header to be written again, in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reseal {
    pub(crate) offset: u64,
    pub(crate) header: Header,
}

/// What the facts mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ruling {
    NotAJournal,
    Newer,
    /// Ends at X as it should; `marked` if the mark of that place follows.
    Clean {
        marked: bool,
    },
    /// Ends at X, and zeros follow that a crash left.
    RoomAhead,
    /// A truncation that was not finished.
    Truncated {
        end: Place,
        reseal: Option<Reseal>,
    },
    Torn {
        end: Place,
    },
    Corrupt {
        end: Place,
    },
}

/// A ruling and what it was based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ruled {
    pub(crate) format: Format,
    pub(crate) ruling: Ruling,
    /// What lies beyond X, as far as it was looked for.
    pub(crate) found: Found,
    /// The place beyond X that proves that X was durable.
    pub(crate) proof: Option<u64>,
}

impl Ruled {
    /// What lies beyond X, as errors and reports tell it.
    pub(crate) fn beyond(&self) -> Beyond {
        Beyond { records: self.found.records, at_least: self.found.spent, proof: self.proof }
    }
}

/// Tells what the facts mean. `look` searches beyond X for records of a format.
///
/// # Errors
/// Those of `look`.
pub(crate) fn classify(facts: &Facts, look: &mut dyn FnMut(Format) -> Result<Found>) -> Result<Ruled> {
    let Facts { x, mark, .. } = *facts;
    let at_x = facts.header.and_then(|header| header.unseal(x.offset));
    let mut format = facts.format;
    let mut found = None;
    let rule = |format, ruling, found: Option<Found>, proof| {
        Ok(Ruled { format, ruling, found: found.unwrap_or_default(), proof })
    };

    // Row 1.
    if x.offset == 0 && facts.len > 0 && at_x.is_none() {
        let sealed = look(Format::Sealed)?;
        if sealed.header || mark.is_some() {
            // Whatever is left of the first header: what lies beyond it was written as a sealed journal.
            format = Format::Sealed;
            found = Some(sealed);
        } else if facts.insist {
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
        if x.offset == facts.len {
            return rule(format, Ruling::Clean { marked: false }, None, None);
        }
        return row_10(facts, look);
    }
    // Row 3.
    if let Some(mark) = mark.filter(|mark| mark.offset >= x.offset) {
        if mark.offset == x.offset && mark.end == x.offset && facts.batch.is_none() {
            return rule(format, Ruling::Clean { marked: true }, None, None);
        }
        if let Some(ruling) = truncation(facts, mark) {
            // What is cut is looked at like any cut, to tell how many records go.
            let found = found.map_or_else(|| look(format), Ok)?;
            return rule(format, ruling, Some(found), None);
        }
    }
    // Where only zeros follow there is nothing to be found.
    if found.is_none() && facts.zeros_from > x.offset {
        found = Some(look(format)?);
    }
    let end = facts.batch.unwrap_or(x);
    let beyond = mark.filter(|mark| mark.offset >= x.offset && mark.end > x.offset).map(|mark| mark.offset);
    let proof = match (found.and_then(|found| found.barrier), beyond) {
        (Some(barrier), Some(mark)) => Some(barrier.min(mark)),
        (barrier, mark) => barrier.or(mark),
    };
    // Row 4. A gap whose payload contradicts it is damage, too: it lies in the first sector, and so does whatever
    // else has a check that holds but makes no sense.
    if x.offset == 0 && !matches!(at_x, Some(Sealed::Record { .. } | Sealed::Mark)) {
        return rule(format, Ruling::Corrupt { end }, found, proof);
    }
    // Row 5.
    if proof.is_some() {
        return rule(format, Ruling::Corrupt { end }, found, proof);
    }
    if facts.batch.is_none() {
        // Row 7 before row 6: at the end of the file there are no zeros to cut.
        if x.offset == facts.len {
            return rule(format, Ruling::Clean { marked: false }, found, None);
        }
        // Row 6.
        if facts.zeros_from <= x.offset {
            return rule(format, Ruling::RoomAhead, found, None);
        }
    }
    // Rows 8 and 9.
    let mut found = found.unwrap_or_default();
    if found.spent {
        return rule(format, Ruling::Corrupt { end }, Some(found), None);
    }
    if found.records == 0 && facts.reference_at_x {
        // Another program appended in the other format. That is no record of this journal, but someone's record:
        // it is cut like anything torn, and kept.
        found.records = 1;
        found.spent = true;
    }
    rule(format, Ruling::Torn { end }, Some(found), None)
}

/// Row 3, but for its clean case: the truncation that the mark tells of, if the mark belongs to this walk at all.
fn truncation(facts: &Facts, mark: Mark) -> Option<Ruling> {
    if mark.end <= facts.x.offset {
        if mark.end == 0 {
            // Whatever lies there, a gap included, and even if it is damaged.
            let end = Place { offset: 0, index: 1 };
            return Some(Ruling::Truncated { end, reseal: None });
        }
        let passed = facts.passed.filter(|passed| passed.at.offset == mark.end)?;
        // The journal may end inside what was a batch: its last record then is the batch's last.
        let reseal = passed.last.filter(|(_, header)| header.flags() & flag::CONTINUED != 0);
        let reseal = reseal.map(|(offset, header)| Reseal {
            offset,
            header: header.with_flags(offset, header.flags() & !flag::CONTINUED),
        });
        return Some(Ruling::Truncated { end: passed.at, reseal });
    }
    let offset = facts.x.offset;
    // The first sector is never torn, so no seal is being written anew there; and what lost its seal there may have been
    // a gap, which must not come back as a record.
    let header = facts.header.filter(|_| facts.unsealed && offset > 0)?;
    let flags = match header.flags() {
        flags @ (1 | 3 | 5 | 7) => flags & !flag::CONTINUED,
        // The flags themselves are torn. Without BARRIER the seal proves less, never anything false.
        _ => flag::SEALED,
    };
    let reseal = Some(Reseal { offset, header: header.with_flags(offset, flags) });
    let end = Place { offset: mark.end, index: facts.x.index.saturating_add(1) };
    Some(Ruling::Truncated { end, reseal })
}

/// A reference journal that ends in anything but a whole record. Nothing in that format can tell a torn tail from
/// damage. But sealed records can: then it is a sealed journal whose first header lost its seal.
fn row_10(facts: &Facts, look: &mut dyn FnMut(Format) -> Result<Found>) -> Result<Ruled> {
    let end = facts.x;
    let sealed = look(Format::Sealed)?;
    let mark = facts.mark.filter(|mark| mark.offset >= end.offset).map(|mark| mark.offset);
    if sealed.records > 0 || sealed.spent || mark.is_some() {
        let proof = sealed.barrier.or(mark);
        let ruling = Ruling::Corrupt { end };
        return Ok(Ruled { format: facts.format, ruling, found: sealed, proof });
    }
    let found = look(Format::Reference)?;
    Ok(Ruled { format: Format::Reference, ruling: Ruling::Torn { end }, found, proof: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: Place = Place { offset: 1000, index: 11 };
    const BEGIN: Place = Place { offset: 900, index: 9 };

    /// A sealed file of 2000 bytes with something that is no record at 1000, outside a batch.
    fn facts() -> Facts {
        Facts {
            format: Format::Sealed,
            insist: false,
            len: 2000,
            zeros_from: 2000,
            mark: None,
            x: X,
            batch: None,
            passed: None,
            header: Some(Header { len: 1, crc: 2, seal: 3 }),
            unsealed: false,
            reference_at_x: false,
        }
    }

    fn ruled(facts: Facts, found: Found) -> Ruled {
        classify(&facts, &mut |format| Ok(if format == Format::Sealed { found } else { Found::default() }))
            .unwrap()
    }

    fn ruling(facts: Facts, found: Found) -> Ruling {
        ruled(facts, found).ruling
    }

    fn at_0(facts: Facts) -> Facts {
        Facts { x: Place { offset: 0, index: 1 }, ..facts }
    }

    const NONE: Found = Found { records: 0, spent: false, barrier: None, header: false };
    const HEADER: Found = Found { header: true, ..NONE };
    const BARRIER: Found = Found { records: 1, barrier: Some(1500), header: true, ..NONE };
    const SPENT: Found = Found { spent: true, header: true, ..NONE };

    #[test]
    fn row_1_comes_first() {
        assert_eq!(ruling(at_0(facts()), NONE), Ruling::NotAJournal);
        let reference = Facts { format: Format::Reference, ..at_0(facts()) };
        assert_eq!(ruling(reference, NONE), Ruling::NotAJournal);
        // Any valid header makes it a damaged sealed journal, whatever the first one looks like.
        let end = Place { offset: 0, index: 1 };
        assert_eq!(ruling(at_0(facts()), HEADER), Ruling::Corrupt { end });
        assert_eq!(ruled(reference, HEADER).format, Format::Sealed);
        // The opener may insist on the reference format, but not against that.
        let insist = Facts { insist: true, ..at_0(facts()) };
        assert_eq!(ruling(insist, NONE), Ruling::Torn { end });
        assert_eq!(ruled(insist, NONE).format, Format::Reference);
        assert_eq!(ruling(insist, HEADER), Ruling::Corrupt { end });
    }

    #[test]
    fn row_2_comes_before_all_that_follow() {
        let newer = Some(Header::sealed(1000, 5, 6, 1 << 6));
        let mark = Some(Mark { offset: 1984, end: 1000 });
        assert_eq!(ruling(Facts { header: newer, mark, ..facts() }, BARRIER), Ruling::Newer);
        assert_eq!(
            ruling(Facts { header: newer, format: Format::Reference, ..facts() }, BARRIER),
            Ruling::Newer
        );
        let newer = Some(Header::sealed(0, 5, 6, 1 << 5));
        assert_eq!(ruling(Facts { header: newer, ..at_0(facts()) }, NONE), Ruling::Newer);
        let elsewhere = Some(Header::sealed(1001, 5, 6, 1 << 6));
        assert_eq!(ruling(Facts { header: elsewhere, ..facts() }, NONE), Ruling::Torn { end: X });
    }

    #[test]
    fn row_3_a_mark_of_x_at_x_is_clean() {
        let mark = Some(Mark { offset: 1000, end: 1000 });
        let header = Some(Header::mark(1000, 1000));
        assert_eq!(ruling(Facts { mark, header, ..facts() }, NONE), Ruling::Clean { marked: true });
        let batch = Some(BEGIN);
        assert_eq!(ruling(Facts { mark, header, batch, ..facts() }, NONE), Ruling::Torn { end: BEGIN });
    }

    #[test]
    fn row_3_comes_before_damage() {
        let last = Header::sealed(800, 84, 9, flag::CONTINUED | flag::BARRIER);
        let passed = Some(Passed { at: BEGIN, last: Some((800, last)) });
        let mark = Some(Mark { offset: 1984, end: 900 });
        let reseal = Some(Reseal { offset: 800, header: Header::sealed(800, 84, 9, flag::BARRIER) });
        let truncated = Ruling::Truncated { end: BEGIN, reseal };
        assert_eq!(ruling(Facts { mark, passed, ..facts() }, BARRIER), truncated);
        assert_eq!(ruling(Facts { mark, passed, ..facts() }, SPENT), truncated);
        // T is no boundary of this walk: it is some other mark.
        assert_eq!(ruling(Facts { mark, ..facts() }, NONE), Ruling::Torn { end: X });
        // The mark is inside a record.
        let mark = Some(Mark { offset: 984, end: 900 });
        assert_eq!(ruling(Facts { mark, passed, ..facts() }, NONE), Ruling::Torn { end: X });
        let to_nothing = Facts { mark: Some(Mark { offset: 1984, end: 0 }), ..facts() };
        let end = Place { offset: 0, index: 1 };
        assert_eq!(ruling(to_nothing, BARRIER), Ruling::Truncated { end, reseal: None });
        assert_eq!(ruling(at_0(to_nothing), BARRIER), Ruling::Truncated { end, reseal: None });
    }

    #[test]
    fn row_3_a_record_that_is_being_sealed_anew_counts() {
        let mark = Some(Mark { offset: 1984, end: 1100 });
        let whole = Header::sealed(1000, 84, 9, flag::BARRIER | flag::CONTINUED);
        for (low, flags) in [(7, flag::BARRIER), (3, flag::BARRIER), (5, 0), (1, 0), (2, 0), (0xFF, 0)] {
            let header = Some(Header { seal: 0xABCD_EF00 | low, ..whole });
            let facts = Facts { mark, header, unsealed: true, batch: Some(BEGIN), ..facts() };
            let reseal = Some(Reseal { offset: 1000, header: Header::sealed(1000, 84, 9, flags) });
            let end = Place { offset: 1100, index: 12 };
            assert_eq!(ruling(facts, NONE), Ruling::Truncated { end, reseal });
            assert_eq!(ruling(Facts { unsealed: false, ..facts }, NONE), Ruling::Corrupt { end: BEGIN });
        }
    }

    #[test]
    fn row_4_what_makes_no_sense_in_the_first_sector_is_damage() {
        let end = Place { offset: 0, index: 1 };
        let gap = Some(Header::sealed(0, 100, 1, flag::GAP));
        assert_eq!(ruling(Facts { header: gap, ..at_0(facts()) }, NONE), Ruling::Corrupt { end });
        for header in [Header::sealed(0, 5000, 1, flag::BARRIER), Header::mark(0, 0)] {
            assert_eq!(ruling(Facts { header: Some(header), ..at_0(facts()) }, NONE), Ruling::Torn { end });
        }
    }

    #[test]
    fn row_5_a_barrier_or_a_mark_beyond_is_proof() {
        let corrupt = ruled(facts(), BARRIER);
        assert_eq!((corrupt.ruling, corrupt.proof), (Ruling::Corrupt { end: X }, Some(1500)));
        let batch = Facts { batch: Some(BEGIN), ..facts() };
        assert_eq!(ruling(batch, BARRIER), Ruling::Corrupt { end: BEGIN });
        let mark = Some(Mark { offset: 1984, end: 1984 });
        let corrupt = ruled(Facts { mark, ..facts() }, NONE);
        assert_eq!((corrupt.ruling, corrupt.proof), (Ruling::Corrupt { end: X }, Some(1984)));
    }

    #[test]
    fn rows_6_to_8_depend_on_the_batch() {
        let zeros = Facts { zeros_from: 1000, header: Some(Header::decode(&[0; 16])), ..facts() };
        let batch = Some(BEGIN);
        assert_eq!(ruling(zeros, NONE), Ruling::RoomAhead);
        assert_eq!(ruling(Facts { header: None, len: 1009, ..zeros }, NONE), Ruling::RoomAhead);
        assert_eq!(ruling(Facts { batch, ..zeros }, NONE), Ruling::Torn { end: BEGIN });
        let ended = Facts { len: 1000, zeros_from: 1000, header: None, ..facts() };
        assert_eq!(ruling(ended, NONE), Ruling::Clean { marked: false });
        assert_eq!(ruling(Facts { batch, ..ended }, NONE), Ruling::Torn { end: BEGIN });
        let reference = Facts { format: Format::Reference, ..ended };
        assert_eq!(ruling(reference, NONE), Ruling::Clean { marked: false });
    }

    #[test]
    fn row_9_is_torn_unless_the_search_was_spent() {
        assert_eq!(ruling(facts(), NONE), Ruling::Torn { end: X });
        assert_eq!(ruling(Facts { batch: Some(BEGIN), ..facts() }, HEADER), Ruling::Torn { end: BEGIN });
        assert_eq!(ruling(facts(), SPENT), Ruling::Corrupt { end: X });
        let other = ruled(Facts { reference_at_x: true, ..facts() }, NONE);
        assert_eq!((other.ruling, other.found.records), (Ruling::Torn { end: X }, 1));
    }

    #[test]
    fn row_10_is_torn_unless_sealed_records_follow() {
        let reference = Facts { format: Format::Reference, ..facts() };
        assert_eq!(ruling(reference, NONE), Ruling::Torn { end: X });
        assert_eq!(ruling(reference, BARRIER), Ruling::Corrupt { end: X });
        assert_eq!(ruling(Facts { zeros_from: 1000, ..reference }, NONE), Ruling::Torn { end: X });
    }

    #[test]
    fn a_clean_end_is_told_without_a_search() {
        let mut search = |_| -> Result<Found> { panic!("nothing to search for") };
        let zeros = Facts { zeros_from: 1000, header: None, ..facts() };
        let ended = Facts { len: 1000, ..zeros };
        let closed = Facts {
            mark: Some(Mark { offset: 1000, end: 1000 }),
            header: Some(Header::mark(1000, 1000)),
            ..facts()
        };
        for facts in [zeros, ended, closed, Facts { format: Format::Reference, ..ended }] {
            classify(&facts, &mut search).unwrap();
        }
    }
}
