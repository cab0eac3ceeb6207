//! The format and the recovery table a second time, as plainly as they can be put: a whole file in memory, every
//! question answered by looking at all of it. Written from the specification, shares no code with the journal, and is
//! slow on purpose. `cargo test` has it judge every small change of many files, too (`tests/suite/sweeps.rs`).
//!
//! One thing it does not repeat: the journal's search beyond a damaged place has a budget. Where the budget may have
//! been spent, [`Decoded::unsure`] is set, and the journal may count fewer records and may say `Corrupt` where
//! this says `Torn`.

use std::ops::Range;

const MARK_CRC: u32 = 0xFFFF_FFFF;
const CRASHED_CREATION_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Sealed,
    Reference,
}

/// What a header whose check holds says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Record { barrier: bool, continued: bool },
    Gap,
    Mark,
    Newer,
    Nonsense,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub len: u64,
    pub crc: u32,
    pub seal: u32,
}

/// A record that the journal holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: usize,
    pub payload: Range<usize>,
    pub crc: u32,
    pub continued: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    New,
    Clean,
    Truncated,
    Torn,
    Corrupt,
    NotAJournal,
    Newer,
}

#[derive(Debug, Clone)]
pub struct Decoded {
    /// `None` if the file is new or not a journal.
    pub form: Option<Form>,
    /// The row of the table that decided; 0 for a new file.
    pub row: u8,
    pub ruling: Ruling,
    /// Where the walk ended, and the index a record there would have.
    pub x: usize,
    pub x_index: u64,
    /// Where the journal ends if it is cut as the row says: T of a truncation, the place where the batch that X is in
    /// begins, or X.
    pub end: usize,
    /// The index of the first record, if it is cut so.
    pub first: u64,
    /// The records in front of `end`.
    pub records: Vec<Record>,
    /// The bytes in front of `end`, a seal rewritten where a truncation asks for it.
    pub kept: Vec<u8>,
    /// A mark of the end lies there already.
    pub marked: bool,
    /// Whole records after `end`.
    pub beyond: u64,
    /// Those of them that lie before X: of a batch that is not whole, or after the end that a truncation asks for.
    pub before_x: u64,
    /// The header that proves X to have been durable.
    pub proof: Option<usize>,
    /// The budget of the search may have been spent.
    pub unsure: bool,
    /// Only because it was insisted on is this a journal.
    pub insisted: bool,
}

pub fn header(file: &[u8], at: usize) -> Option<Header> {
    let bytes = file.get(at..at.checked_add(16)?)?;
    Some(Header {
        len: u64::from_le_bytes(bytes[..8].try_into().unwrap()),
        crc: u32::from_le_bytes(bytes[8..12].try_into().unwrap()),
        seal: u32::from_le_bytes(bytes[12..].try_into().unwrap()),
    })
}

/// The seal of a header at `at` whose low byte is `low`.
pub fn seal(at: u64, len: u64, crc: u32, low: u8) -> u32 {
    let mut covered = [low; 21];
    covered[..8].copy_from_slice(&at.to_le_bytes());
    covered[8..16].copy_from_slice(&len.to_le_bytes());
    covered[16..20].copy_from_slice(&crc.to_le_bytes());
    crc32fast::hash(&covered) >> 8 << 8 | u32::from(low)
}

/// What a header at `at` says, if its check holds there.
pub fn kind(header: Header, at: u64) -> Option<Kind> {
    let low = header.seal as u8;
    if low & 1 == 0 || header.seal != seal(at, header.len, header.crc, low) {
        return None;
    }
    Some(match low {
        1 | 3 | 5 | 7 => Kind::Record { barrier: low & 2 != 0, continued: low & 4 != 0 },
        9 if at == 0 => Kind::Gap,
        17 if header.crc == MARK_CRC && header.len <= at => Kind::Mark,
        low if low >> 5 != 0 => Kind::Newer,
        _ => Kind::Nonsense,
    })
}

fn kind_at(file: &[u8], at: usize) -> Option<Kind> {
    kind(header(file, at)?, at as u64)
}

/// Where the payload lies that the header at `at` tells of, if the file is that long.
fn payload(file: &[u8], at: usize) -> Option<Range<usize>> {
    let len = usize::try_from(header(file, at)?.len).ok()?;
    let range = at + 16..at.checked_add(16)?.checked_add(len)?;
    (range.end <= file.len()).then_some(range)
}

/// The whole, valid record at `at`.
fn record(file: &[u8], form: Form, at: usize) -> Option<Record> {
    let Header { crc, seal, .. } = header(file, at)?;
    let continued = match (form, kind_at(file, at)) {
        (Form::Reference, _) if seal == 0 => false,
        (Form::Sealed, Some(Kind::Record { continued, .. })) => continued,
        _ => return None,
    };
    let payload = payload(file, at)?;
    (crc32fast::hash(&file[payload.clone()]) == crc).then_some(Record { offset: at, payload, crc, continued })
}

/// The gap at 0, if there is a valid one: where it ends, and the index after it.
fn gap(file: &[u8]) -> Option<(usize, u64)> {
    let range = payload(file, 0).filter(|_| kind_at(file, 0) == Some(Kind::Gap))?;
    let mut virtually = vec![0; range.len()];
    let mut removed = 1;
    if range.len() >= 16 {
        virtually[..16].copy_from_slice(&file[16..32]);
        removed = u64::from_le_bytes(file[16..24].try_into().unwrap());
        let next = u64::from_le_bytes(file[24..32].try_into().unwrap());
        // More records than bytes in any file were never removed.
        if removed == 0 || removed > i64::MAX as u64 || next != removed + 1 {
            return None;
        }
    }
    (crc32fast::hash(&virtually) == header(file, 0)?.crc).then_some((range.end, removed + 1))
}

/// The valid mark: where it is, and T.
pub fn mark(file: &[u8]) -> Option<(usize, usize)> {
    let at = (0..file.len())
        .rfind(|&at| file.get(at + 12) == Some(&17) && kind_at(file, at) == Some(Kind::Mark))?;
    let zeros = file[at + 16..].iter().all(|&byte| byte == 0);
    zeros.then(|| (at, header(file, at).unwrap().len as usize))
}

/// What lies at or beyond a place.
#[derive(Debug, Default)]
struct Beyond {
    records: Vec<usize>,
    /// The first record that is a barrier.
    barrier: Option<usize>,
    /// What proves X to have been durable, if this is what lies beyond X.
    proof: Option<usize>,
    /// There is a valid header of a record, whether or not its payload is.
    header: bool,
    unsure: bool,
}

fn beyond(file: &[u8], form: Form, from: usize) -> Beyond {
    let mut found = Beyond::default();
    let budget = 4 * file.len().saturating_sub(from);
    let (mut failed, mut longest, mut at) = (0, 0, from);
    while at + 16 <= file.len() {
        // Most places are told by one byte.
        let candidate = match (form, file[at + 12]) {
            (Form::Sealed, 1 | 3 | 5 | 7) => matches!(kind_at(file, at), Some(Kind::Record { .. })),
            (Form::Reference, 0) => {
                header(file, at).is_some_and(|header| header.seal == 0 && header.len != 0)
            }
            _ => false,
        };
        if !candidate {
            at += 1;
            continue;
        }
        let Some(range) = payload(file, at) else {
            at += 1;
            continue;
        };
        found.header |= form == Form::Sealed;
        longest = longest.max(range.len());
        if failed > budget.max(1 << 20) {
            // Slow is one thing, this is another.
            break;
        }
        match record(file, form, at) {
            Some(record) => {
                found.records.push(at);
                if matches!(kind_at(file, at), Some(Kind::Record { barrier: true, .. })) {
                    found.barrier = found.barrier.or(Some(at));
                }
                at = record.payload.end;
            }
            None => {
                failed += range.len();
                at += 1;
            }
        }
    }
    found.unsure = longest > 0 && 2 * longest + failed > budget;
    found
}

/// Reads a file as an open does that asks for this format; `insist` if it also says to cut at the first invalid record
/// of a reference journal, wherever that is.
pub fn decode(file: &[u8], asked: Form, insist: bool) -> Decoded {
    let nothing = Decoded {
        form: None,
        row: 0,
        ruling: Ruling::New,
        x: 0,
        x_index: 1,
        end: 0,
        first: 1,
        records: Vec::new(),
        kept: Vec::new(),
        marked: false,
        beyond: 0,
        before_x: 0,
        proof: None,
        unsure: false,
        insisted: false,
    };
    let mark = mark(file);
    let Some(told) = format(file, asked, mark.is_some()) else { return nothing };
    let known = told.is_some();
    if !known && !insist {
        return Decoded { row: 1, ruling: Ruling::NotAJournal, ..nothing };
    }
    let mut form = told.unwrap_or(Form::Reference);

    // The walk.
    let start = if form == Form::Sealed { gap(file) } else { None }.unwrap_or((0, 1));
    let (mut x, first) = start;
    let mut all = Vec::new();
    while let Some(record) = record(file, form, x) {
        x = record.payload.end;
        all.push(record);
    }
    let x_index = first + all.len() as u64;
    let whole = all.iter().rposition(|record| !record.continued).map_or(0, |last| last + 1);
    let batch = all.get(whole).map(|record| record.offset);
    let place = batch.unwrap_or(x);
    let at_x = kind_at(file, x);

    // Row 1.
    let mut insisted = !known;
    if x == 0 && at_x.is_none() {
        if beyond(file, Form::Sealed, 0).header || mark.is_some() {
            form = Form::Sealed;
        } else if insist {
            form = Form::Reference;
        } else {
            return Decoded { row: 1, ruling: Ruling::NotAJournal, ..nothing };
        }
    }
    insisted |= x == 0 && insist && form == Form::Reference;

    // What a header proves to be payload is not searched.
    let fits = payload(file, x).filter(|_| match at_x {
        Some(Kind::Record { .. }) => true,
        Some(Kind::Gap) => x == 0,
        _ => false,
    });
    let from = fits.clone().filter(|_| form == Form::Sealed).map_or(x + 1, |payload| payload.end);
    let ruled = |row, ruling, end: usize, found: &Beyond, reseal: Option<(usize, u8)>| {
        let mut kept = file[..end].to_vec();
        if let Some((at, low)) = reseal {
            let Header { len, crc, .. } = header(file, at).unwrap();
            kept[at + 12..at + 16].copy_from_slice(&seal(at as u64, len, crc, low).to_le_bytes());
        }
        let mut records: Vec<_> = all.iter().filter(|record| record.payload.end <= end).cloned().collect();
        if end > x {
            let crc = header(file, x).unwrap().crc;
            records.push(Record { offset: x, payload: x + 16..end, crc, continued: false });
        }
        let cut = all.iter().filter(|record| record.payload.end > end).count();
        Decoded {
            form: Some(form),
            row,
            ruling,
            x,
            x_index,
            end,
            first: if end == 0 { 1 } else { first },
            records,
            kept,
            marked: mark == Some((end, end)),
            beyond: (found.records.len() + cut) as u64,
            before_x: cut as u64,
            proof: found.proof,
            unsure: found.unsure,
            insisted,
        }
    };
    let none = Beyond::default();

    // Row 2.
    if at_x == Some(Kind::Newer) {
        return ruled(2, Ruling::Newer, place, &none, None);
    }
    if form == Form::Reference {
        if x == file.len() {
            return ruled(7, Ruling::Clean, x, &none, None);
        }
        // Row 10. A sealed record or mark says that this is a sealed journal whose first seal is gone.
        let mut sealed = beyond(file, Form::Sealed, x);
        let later = mark.map(|(at, _)| at).filter(|&at| at >= x);
        if !sealed.records.is_empty() || later.is_some() {
            sealed.proof = sealed.barrier.or(later);
            return ruled(10, Ruling::Corrupt, x, &sealed, None);
        }
        let mut found = beyond(file, Form::Reference, x + 1);
        found.unsure |= sealed.unsure;
        return ruled(10, Ruling::Torn, x, &found, None);
    }
    let mut found = beyond(file, Form::Sealed, from);
    // Row 3.
    if let Some((at, t)) = mark.filter(|&(at, _)| at >= x) {
        if at == x && t == x && batch.is_none() {
            return ruled(3, Ruling::Clean, x, &none, None);
        }
        if t == 0 {
            return ruled(3, Ruling::Truncated, 0, &found, None);
        }
        if t == start.0 && t <= x {
            return ruled(3, Ruling::Truncated, t, &found, None);
        }
        if let Some(last) = all.iter().find(|record| record.payload.end == t) {
            let low = header(file, last.offset).unwrap().seal as u8 & !4;
            let reseal = last.continued.then_some((last.offset, low));
            return ruled(3, Ruling::Truncated, t, &found, reseal);
        }
        // In the first sector no seal is torn, so one that does not hold at 0 is damage.
        if let Some(range) = payload(file, x).filter(|range| x > 0 && range.end == t) {
            let Header { crc, seal, .. } = header(file, x).unwrap();
            if crc32fast::hash(&file[range]) == crc {
                // Flags that make no sense were torn: none then.
                let low = if matches!(seal as u8, 1 | 3 | 5 | 7) { seal as u8 & !4 } else { 1 };
                return ruled(3, Ruling::Truncated, t, &found, Some((x, low)));
            }
        }
    }
    let later = mark.filter(|&(at, t)| at >= x && t > x).map(|(at, _)| at);
    found.proof = found.barrier.into_iter().chain(later).min();
    // Row 4. The first sector is never torn, whatever makes no sense there.
    if x == 0 && !matches!(at_x, Some(Kind::Record { .. } | Kind::Mark)) {
        return ruled(4, Ruling::Corrupt, place, &found, None);
    }
    // Row 5.
    if found.proof.is_some() {
        return ruled(5, Ruling::Corrupt, place, &found, None);
    }
    if batch.is_none() {
        if x == file.len() {
            return ruled(7, Ruling::Clean, x, &none, None);
        }
        if file[x..].iter().all(|&byte| byte == 0) {
            return ruled(6, Ruling::Clean, x, &none, None);
        }
    }
    let row = if x == file.len() { 8 } else { 9 };
    let mut decoded = ruled(row, Ruling::Torn, place, &found, None);
    let foreign = record(file, Form::Reference, x).is_some_and(|record| !record.payload.is_empty());
    if found.records.is_empty() && foreign {
        // No record of this journal, but of some other.
        decoded.beyond += 1;
    }
    decoded
}

/// The format that the file's first header tells: `None` for a new file, `Some(None)` if it tells none.
fn format(file: &[u8], asked: Form, marked: bool) -> Option<Option<Form>> {
    if file.is_empty() {
        return None;
    }
    let Some(first) = header(file, 0) else { return Some(None) };
    if first.seal != 0 {
        return Some(Some(Form::Sealed));
    }
    if file[..16] != [0; 16] {
        return Some(Some(Form::Reference));
    }
    let Some(nonzero) = file.iter().position(|&byte| byte != 0) else {
        return match asked {
            _ if file.len() > CRASHED_CREATION_MAX => Some(None),
            Form::Sealed => None,
            Form::Reference => Some(Some(Form::Reference)),
        };
    };
    if marked || beyond(file, Form::Sealed, 1).header {
        return Some(Some(Form::Sealed));
    }
    let at = nonzero / 16 * 16;
    Some(
        record(file, Form::Reference, at)
            .filter(|record| !record.payload.is_empty())
            .map(|_| Form::Reference),
    )
}
