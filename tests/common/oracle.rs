//! What a file is: the recovery table on a whole file in memory, written to be obviously right and not to be quick. It
//! shares no code with the library. It knows no budget: where the library says "at least", it says how many.

pub const HEADER: usize = 16;
const SEALED: u8 = 1;
const BARRIER: u8 = 2;
const CONTINUED: u8 = 4;
const GAP: u8 = 8;
const MARK: u8 = 16;
const MARK_CRC: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sealed,
    Reference,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    New,
    Clean,
    RoomAhead,
    Truncated,
    Torn,
    Corrupt,
    NotAJournal,
    Newer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: usize,
    pub payload: Vec<u8>,
}

/// What the file is, whatever the policy of whoever opens it.
#[derive(Debug, Clone)]
pub struct Found {
    pub kind: Option<Kind>,
    pub ruling: Ruling,
    /// Where the walk ended, and the index of the record that would be there.
    pub x: (usize, u64),
    /// Where the journal ends if it is cut as the ruling has it.
    pub end: usize,
    pub first_index: u64,
    /// The records up to `end`.
    pub records: Vec<Record>,
    /// Whole records in what would be cut.
    pub beyond: usize,
    /// Those of them that lie before X: of a batch that is not whole, or behind the end of a truncation.
    pub before_x: usize,
    /// What would be cut is kept though none of it is a record of this journal.
    pub keep: bool,
    /// Taken for a journal only because someone insists.
    pub insisted: bool,
    /// What proves X to have been durable.
    pub proof: Option<usize>,
    /// Where a seal is written anew, and the seal.
    pub reseal: Option<(usize, [u8; 4])>,
    /// The mark of the end lies there.
    pub marked: bool,
}

impl Found {
    /// Whole records beyond X: those that an error tells of.
    pub fn beyond_x(&self) -> usize {
        self.beyond - self.before_x
    }
}

/// What opening the file does.
#[derive(Debug, Clone)]
pub enum Outcome {
    Opened { file: Vec<u8>, quarantined: Option<Vec<u8>>, cut: Option<usize>, verdict: &'static str },
    Corrupt { offset: usize, index: u64 },
    NotAJournal,
    Unsupported,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    TornTail,
    FirstInvalid,
    Strict,
}

fn u64_at(file: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(file.get(at..at + 8)?.try_into().unwrap()))
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().unwrap()))
}

pub fn seal(offset: usize, len: u64, crc: u32, flags: u8) -> [u8; 4] {
    let mut bytes = [0; 21];
    bytes[..8].copy_from_slice(&(offset as u64).to_le_bytes());
    bytes[8..16].copy_from_slice(&len.to_le_bytes());
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes[20] = flags;
    let check = crc32fast::hash(&bytes).to_le_bytes();
    [flags, check[1], check[2], check[3]]
}

/// The sixteen bytes of a sealed header.
pub fn header(offset: usize, len: u64, crc: u32, flags: u8) -> Vec<u8> {
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.extend(crc.to_le_bytes());
    bytes.extend(seal(offset, len, crc, flags | SEALED));
    bytes
}

pub fn mark(offset: usize, end: usize) -> Vec<u8> {
    header(offset, end as u64, MARK_CRC, MARK)
}

/// A gap of `len` bytes that stands for `removed` records.
pub fn gap(len: usize, removed: u64) -> Vec<u8> {
    let mut payload = vec![0; len];
    if len >= 16 {
        payload[..8].copy_from_slice(&removed.to_le_bytes());
        payload[8..16].copy_from_slice(&(removed + 1).to_le_bytes());
    }
    let mut bytes = header(0, len as u64, crc32fast::hash(&payload), GAP);
    bytes.extend(payload);
    bytes
}

/// The flags of the header at `at`, if its check holds.
fn checked(file: &[u8], at: usize) -> Option<u8> {
    let flags = *file.get(at + 12)?;
    if flags & SEALED == 0 {
        return None;
    }
    let found: [u8; 4] = file.get(at + 12..at + 16)?.try_into().unwrap();
    let (len, crc) = (u64_at(file, at)?, u32_at(file, at + 8)?);
    (seal(at, len, crc, flags) == found).then_some(flags & !SEALED)
}

/// Where the record that the header at `at` tells of ends, if that is in the file.
fn end_of(file: &[u8], at: usize) -> Option<usize> {
    let end = (at as u64 + HEADER as u64).checked_add(u64_at(file, at)?)?;
    (at + HEADER <= file.len() && end <= file.len() as u64).then_some(end as usize)
}

fn is_record(flags: u8) -> bool {
    flags & !(BARRIER | CONTINUED) == 0
}

/// A valid header of a record: not necessarily with a whole payload.
fn valid_header(file: &[u8], at: usize) -> bool {
    let may_be = file.get(at + 12).is_some_and(|flags| flags & !(BARRIER | CONTINUED) == SEALED);
    may_be && checked(file, at).is_some_and(is_record) && end_of(file, at).is_some()
}

fn payload_whole(file: &[u8], at: usize) -> bool {
    end_of(file, at).is_some_and(|end| Some(crc32fast::hash(&file[at + HEADER..end])) == u32_at(file, at + 8))
}

fn whole(kind: Kind, file: &[u8], at: usize) -> bool {
    match kind {
        Kind::Sealed => valid_header(file, at) && payload_whole(file, at),
        Kind::Reference => u32_at(file, at + 12) == Some(0) && payload_whole(file, at),
    }
}

/// The valid mark: its place and T.
fn find_mark(file: &[u8]) -> Option<(usize, usize)> {
    (0..file.len().saturating_sub(HEADER - 1)).find_map(|at| {
        if file[at + 12] != SEALED | MARK {
            return None;
        }
        let mark = checked(file, at) == Some(MARK)
            && u32_at(file, at + 8) == Some(MARK_CRC)
            && u64_at(file, at)? <= at as u64
            && file[at + HEADER..].iter().all(|&byte| byte == 0);
        mark.then(|| (at, u64_at(file, at).unwrap() as usize))
    })
}

/// Whole records from `from` on, at any offset, none inside another.
fn records_from(kind: Kind, file: &[u8], from: usize) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = from;
    while at + HEADER <= file.len() {
        let flags = file[at + 12];
        if kind == Kind::Sealed && flags & !(BARRIER | CONTINUED) != SEALED {
            at += 1;
            continue;
        }
        let empty_reference = kind == Kind::Reference && u64_at(file, at) == Some(0);
        if !empty_reference && whole(kind, file, at) {
            found.push(at);
            at = end_of(file, at).unwrap();
        } else {
            at += 1;
        }
    }
    found
}

/// The index behind a valid gap at 0, and where it ends.
fn valid_gap(file: &[u8]) -> Option<(u64, usize)> {
    if checked(file, 0) != Some(GAP) {
        return None;
    }
    let (end, len) = (end_of(file, 0)?, u64_at(file, 0)? as usize);
    let mut payload = vec![0; len];
    if len >= 16 {
        payload[..16].copy_from_slice(&file[16..32]);
    }
    if Some(crc32fast::hash(&payload)) != u32_at(file, 8) {
        return None;
    }
    if len < 16 {
        return Some((2, end));
    }
    let (removed, next) = (u64_at(file, 16)?, u64_at(file, 24)?);
    (removed > 0 && removed < 1 << 62 && next == removed + 1).then_some((next, end))
}

enum Told {
    New,
    As(Kind),
    Nothing,
}

fn format_of(file: &[u8], asked: Kind) -> Told {
    if file.is_empty() {
        return Told::New;
    }
    if file.len() < HEADER {
        return Told::Nothing;
    }
    if file[12..16] != [0; 4] {
        return Told::As(Kind::Sealed);
    }
    if file[..16] != [0; 16] {
        return Told::As(Kind::Reference);
    }
    if file.iter().all(|&byte| byte == 0) {
        return match (file.len() <= 4096, asked) {
            (true, Kind::Sealed) => Told::New,
            (true, Kind::Reference) => Told::As(Kind::Reference),
            (false, _) => Told::Nothing,
        };
    }
    if find_mark(file).is_some() || (1..file.len()).any(|at| valid_header(file, at)) {
        return Told::As(Kind::Sealed);
    }
    let mut at = 0;
    while whole(Kind::Reference, file, at) {
        if u64_at(file, at) != Some(0) {
            return Told::As(Kind::Reference);
        }
        at += HEADER;
    }
    Told::Nothing
}

/// What the file is. `asked` is the format asked for; `insist` if `FirstInvalid` is, too.
pub fn judge(file: &[u8], asked: Kind, insist: bool) -> Found {
    let mut found = Found {
        kind: None,
        ruling: Ruling::New,
        x: (0, 1),
        end: 0,
        first_index: 1,
        records: Vec::new(),
        beyond: 0,
        before_x: 0,
        keep: false,
        insisted: false,
        proof: None,
        reseal: None,
        marked: false,
    };
    let (mut kind, known) = match format_of(file, asked) {
        Told::New => return found,
        Told::As(kind) => (kind, true),
        // Not walked through, unless someone insists.
        Told::Nothing => (Kind::Reference, false),
    };

    // The walk.
    let (mut at, mut index, mut batch) = (0, 1, None);
    if kind == Kind::Sealed
        && let Some((next, end)) = valid_gap(file)
    {
        (found.first_index, index, at) = (next, next, end);
    }
    let start = at;
    let mut records = Vec::new();
    while (known || insist) && whole(kind, file, at) {
        let continued = kind == Kind::Sealed && checked(file, at).unwrap() & CONTINUED != 0;
        batch = if continued { batch.or(Some(at)) } else { None };
        let end = end_of(file, at).unwrap();
        records.push(Record { offset: at, payload: file[at + HEADER..end].to_vec() });
        (at, index) = (end, index + 1);
    }
    let x = at;
    found.x = (x, index);
    let mark = find_mark(file);
    let at_x = checked(file, x);

    // Row 1.
    if x == 0 && at_x.is_none() {
        if mark.is_some() || (1..file.len()).any(|at| valid_header(file, at)) {
            kind = Kind::Sealed;
        } else if insist {
            kind = Kind::Reference;
        } else {
            found.ruling = Ruling::NotAJournal;
            return found;
        }
    }
    found.kind = Some(kind);
    found.insisted = insist && kind == Kind::Reference && (!known || x == 0);
    found.end = batch.unwrap_or(x);
    // The header at X proves its length: what is inside its payload is payload.
    let proven = valid_header(file, x) || (x == 0 && at_x == Some(GAP) && end_of(file, 0).is_some());
    let behind = if proven && kind == Kind::Sealed { end_of(file, x).unwrap() } else { x + 1 };
    let mut beyond = records_from(kind, file, behind);
    if kind == Kind::Reference {
        // Row 10: sealed records in a reference journal say that its first header lost its seal.
        let sealed = records_from(Kind::Sealed, file, x);
        if !sealed.is_empty() || mark.is_some_and(|(at, _)| at >= x) {
            beyond = sealed;
        }
    }
    let done = |mut found: Found, ruling| {
        found.ruling = ruling;
        let kept =
            |record: &Record| record.offset < found.end || found.reseal.is_some_and(|r| r.0 == record.offset);
        found.before_x = records.iter().filter(|r| !kept(r)).count();
        found.beyond = beyond.len() + found.before_x;
        found.records = records.iter().filter(|r| kept(r)).cloned().collect();
        found
    };

    // Row 2.
    if at_x.is_some_and(|flags| flags & 0b1110_0000 != 0) {
        return done(found, Ruling::Newer);
    }
    if kind == Kind::Reference {
        // Row 7.
        if x == file.len() {
            return done(found, Ruling::Clean);
        }
        // Row 10, but for that.
        let later = mark.map(|(at, _)| at).filter(|&at| at >= x);
        let sealed = beyond.iter().copied().filter(|&at| checked(file, at).is_some());
        if later.is_some() || sealed.clone().next().is_some() {
            found.proof = sealed.clone().find(|&at| checked(file, at).unwrap() & BARRIER != 0).or(later);
            return done(found, Ruling::Corrupt);
        }
        return done(found, Ruling::Torn);
    }
    // Row 3.
    if let Some((place, t)) = mark.filter(|&(place, _)| place >= x) {
        if place == x && t == x && batch.is_none() {
            found.marked = true;
            return done(found, Ruling::Clean);
        }
        let ends = records.iter().position(|r| r.offset + HEADER + r.payload.len() == t);
        if t <= x && (t == 0 || t == start || ends.is_some()) {
            found.end = t;
            if t == 0 {
                found.first_index = 1;
            }
            if let Some(last) = ends.map(|i| records[i].offset) {
                let flags = file[last + 12];
                if flags & CONTINUED != 0 {
                    let seal = seal(
                        last,
                        u64_at(file, last).unwrap(),
                        u32_at(file, last + 8).unwrap(),
                        flags & !CONTINUED,
                    );
                    found.reseal = Some((last, seal));
                }
            }
            return done(found, Ruling::Truncated);
        }
        // The first sector is never torn, so a header at 0 is not being sealed anew.
        if t > x && x > 0 && end_of(file, x) == Some(t) && payload_whole(file, x) {
            let flags = match file[x + 12] {
                flags if flags & SEALED != 0 && is_record(flags & !SEALED) => flags & !CONTINUED,
                _ => SEALED,
            };
            let seal = seal(x, u64_at(file, x).unwrap(), u32_at(file, x + 8).unwrap(), flags);
            found.reseal = Some((x, seal));
            found.end = t;
            let mut found = done(found, Ruling::Truncated);
            found.records.push(Record { offset: x, payload: file[x + HEADER..t].to_vec() });
            return found;
        }
    }
    let barrier = beyond.iter().copied().find(|&at| checked(file, at).unwrap() & BARRIER != 0);
    let later = mark.filter(|&(_, t)| t > x).map(|(at, _)| at);
    found.proof = barrier.into_iter().chain(later).min();
    // Row 4, with what else makes no sense there.
    let nonsense = !at_x.is_some_and(|flags| is_record(flags) || flags == MARK && u64_at(file, 0) == Some(0));
    if x == 0 && nonsense {
        return done(found, Ruling::Corrupt);
    }
    // Row 5.
    if found.proof.is_some() {
        return done(found, Ruling::Corrupt);
    }
    if batch.is_none() {
        // Row 7.
        if x == file.len() {
            return done(found, Ruling::Clean);
        }
        // Row 6.
        if file[x..].iter().all(|&byte| byte == 0) {
            return done(found, Ruling::RoomAhead);
        }
    }
    // Rows 8 and 9. A record of the other kind is no record of this journal, but someone's.
    found.keep = whole(Kind::Reference, file, x) && u64_at(file, x) != Some(0);
    done(found, Ruling::Torn)
}

/// What opening the file under `policy` does, if it is what was `found`.
pub fn open(file: &[u8], found: &Found, asked: Kind, policy: Policy) -> Outcome {
    let damage = match (found.ruling, policy) {
        (Ruling::New, _) => {
            let file = if asked == Kind::Sealed { mark(0, 0) } else { Vec::new() };
            return Outcome::Opened { file, quarantined: None, cut: None, verdict: "new" };
        }
        (Ruling::NotAJournal, _) => return Outcome::NotAJournal,
        (Ruling::Newer, _) => return Outcome::Unsupported,
        (Ruling::Clean, _) => {
            let mut file = file.to_vec();
            if found.marked {
                file.truncate(found.x.0 + HEADER);
            }
            return Outcome::Opened { file, quarantined: None, cut: None, verdict: "clean" };
        }
        (Ruling::Torn | Ruling::Corrupt, Policy::Strict) | (Ruling::Corrupt, Policy::TornTail) => {
            let (offset, index) = found.x;
            return Outcome::Corrupt { offset, index };
        }
        (Ruling::Corrupt, Policy::FirstInvalid) => true,
        (Ruling::Torn, _) => found.insisted,
        (Ruling::RoomAhead | Ruling::Truncated, _) => false,
    };
    let verdict = match found.ruling {
        Ruling::RoomAhead => "clean",
        Ruling::Truncated => "truncation finished",
        _ if damage => "damage cut",
        _ => "torn tail",
    };
    let mut cut = file[..found.end].to_vec();
    if let Some((at, seal)) = found.reseal {
        cut[at + 12..at + 16].copy_from_slice(&seal);
    }
    if found.kind == Some(Kind::Sealed) {
        cut.extend(mark(found.end, found.end));
    }
    let quiet = found.ruling == Ruling::RoomAhead;
    // What someone asked to remove is not kept.
    let asked = found.ruling == Ruling::Truncated;
    let keep = !quiet && !asked && (found.beyond > 0 || found.keep || damage) && found.end < file.len();
    let quarantined = keep.then(|| file[found.end..].to_vec());
    Outcome::Opened { file: cut, quarantined, cut: (!quiet).then_some(found.end), verdict }
}
