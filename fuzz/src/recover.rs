//! Any bytes as a file: what the journal makes of it is what the simple decoder makes of it, the same each time, and
//! nothing is touched but what may be.

use std::fs;
use std::path::{Path, PathBuf};

use wally::{Error, Format, IndexMode, Journal, Options, Recovery, State, SyncPolicy, Verdict, Walk};

use super::decoder::{Decoded, Form, Ruling, decode};
use super::input::Input;
use super::render;

/// How a file is opened, out of one byte.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub policy: Recovery,
    pub format: Format,
    pub index: IndexMode,
    pub quarantine: bool,
}

impl Way {
    pub fn of(byte: u8) -> Self {
        Self {
            policy: [Recovery::TornTail, Recovery::FirstInvalid, Recovery::Strict][usize::from(byte % 3)],
            format: [Format::Sealed, Format::Reference][usize::from(byte / 3 % 2)],
            index: [IndexMode::Full, IndexMode::Sparse(3), IndexMode::Scan][usize::from(byte / 6 % 3)],
            quarantine: byte / 18 % 2 == 1,
        }
    }

    fn options(self) -> Options {
        let mut options = Options::new();
        options
            .recovery_policy(self.policy)
            .new_file_format(self.format)
            .index(self.index)
            .quarantine(self.quarantine);
        options.sync_policy(SyncPolicy::OnDemand).create(false).buffer_size(4096);
        options
    }
}

/// An input is a [`Way`], a byte that says whether the file follows as it is (even) or as a script (odd), and that.
pub fn run(bytes: &[u8], folder: &Path) {
    let mut input = Input(bytes);
    let way = Way::of(input.byte());
    let file = match input.byte() % 2 {
        0 => input.0[..input.0.len().min(render::MAX)].to_vec(),
        _ => render::file(&mut input),
    };
    check(&file, way, folder);
}

/// Holds everything that can be said about a file against it. Leaves `folder` empty.
pub fn check(file: &[u8], way: Way, folder: &Path) {
    let path = folder.join("journal");
    fs::write(&path, file).unwrap();
    let seen = decode(file, Form::Sealed, false);
    walk(&path, file, &seen);
    inspect(&path, &seen);
    assert!(fs::read(&path).unwrap() == file, "a tool that reads has written");

    let form = if way.format == Format::Sealed { Form::Sealed } else { Form::Reference };
    let insist = form == Form::Reference && way.policy == Recovery::FirstInvalid;
    let opened = if form == Form::Sealed { seen } else { decode(file, form, insist) };
    open(&path, file, way, &opened);
    for entry in fs::read_dir(folder).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

/// Walk yields the records that an open would keep of a torn file, and ends as the file does.
fn walk(path: &Path, file: &[u8], decoded: &Decoded) {
    let mut walk = Walk::open(path).unwrap();
    for (index, record) in (decoded.first..).zip(&decoded.records) {
        let entry = match walk.next() {
            Some(Ok(entry)) => entry,
            other => panic!("walk ended before record {index} with {other:?}: {decoded:?}"),
        };
        let place = (entry.index, entry.offset, entry.crc);
        assert_eq!(place, (index, record.offset as u64, record.crc), "{decoded:?}");
        assert!(entry.payload == file[record.payload.clone()], "payload of {index}");
    }
    match (walk.next(), decoded.ruling) {
        (None, Ruling::New | Ruling::Clean | Ruling::Truncated) => {}
        (Some(Err(Error::Corrupt { offset, index, .. })), Ruling::Torn | Ruling::Corrupt) => {
            assert_eq!((offset, index), (decoded.x as u64, decoded.x_index));
        }
        (Some(Err(Error::NotAJournal { .. })), Ruling::NotAJournal) => {}
        (Some(Err(Error::UnsupportedFormat { .. })), Ruling::Newer) => {}
        (end, _) => panic!("walk ended with {end:?}: {decoded:?}"),
    }
    assert!(walk.next().is_none());
}

fn inspect(path: &Path, decoded: &Decoded) {
    let inspection = Walk::inspect(path).unwrap();
    assert_eq!(inspection, Walk::inspect(path).unwrap());
    let context = format!("{inspection:?}: {decoded:?}");
    let state = match decoded.ruling {
        Ruling::New | Ruling::Clean => State::Clean,
        Ruling::Torn if decoded.unsure && inspection.state == State::Corrupt => State::Corrupt,
        Ruling::Torn | Ruling::Truncated => State::Torn,
        Ruling::Corrupt => State::Corrupt,
        Ruling::NotAJournal => State::NotAJournal,
        Ruling::Newer => State::Unsupported,
    };
    assert_eq!(inspection.state, state, "{context}");
    assert_eq!(inspection.format, decoded.form.map(format), "{context}");
    assert_eq!(inspection.good_bytes, decoded.end as u64, "{context}");
    assert_eq!(inspection.records, decoded.records.len() as u64, "{context}");
    assert_eq!(inspection.first_index, decoded.first, "{context}");
    assert_eq!(inspection.last_index, decoded.first - 1 + inspection.records, "{context}");
    let at = if decoded.ruling == Ruling::Truncated { decoded.end } else { decoded.x };
    let damage = (state != State::Clean).then_some(at as u64);
    assert_eq!(inspection.damage_offset, damage, "{context}");
}

fn format(form: Form) -> Format {
    match form {
        Form::Sealed => Format::Sealed,
        Form::Reference => Format::Reference,
    }
}

fn open(path: &Path, file: &[u8], way: Way, decoded: &Decoded) {
    let (policy, unsure) = (way.policy, decoded.unsure);
    let opened = way.options().open(path);
    let context = format!("{way:?}, {:?}: {decoded:?}", opened.as_ref().map(|journal| journal.recovery()));
    let journal = match opened {
        Ok(journal) => journal,
        Err(error) => {
            match (&error, decoded.ruling) {
                (Error::NotAJournal { .. }, Ruling::NotAJournal) => {}
                (Error::UnsupportedFormat { .. }, Ruling::Newer) => {}
                (Error::Corrupt { offset, index, .. }, ruling) => {
                    assert_eq!((*offset, *index), (decoded.x as u64, decoded.x_index), "{context}");
                    let right = match (policy, ruling) {
                        (Recovery::Strict, Ruling::Torn | Ruling::Corrupt) => true,
                        (Recovery::TornTail, Ruling::Corrupt) => true,
                        (Recovery::TornTail, Ruling::Torn) => unsure,
                        _ => false,
                    };
                    assert!(right, "{context}");
                }
                _ => panic!("{error}: {context}"),
            }
            assert!(fs::read(path).unwrap() == file, "an open that failed has written: {context}");
            assert_eq!(quarantined(path), Vec::<PathBuf>::new(), "{context}");
            // And again.
            let again = way.options().open(path).map(|_| ()).unwrap_err();
            assert_eq!(again.to_string(), error.to_string());
            return;
        }
    };
    let report = journal.recovery().clone();
    let verdict = match (decoded.ruling, policy) {
        (Ruling::New, _) => Verdict::New,
        (Ruling::Clean, _) => Verdict::Clean,
        (Ruling::Truncated, _) => Verdict::TruncationFinished,
        (Ruling::Torn, Recovery::FirstInvalid) if unsure && report.verdict == Verdict::DamageCut => {
            Verdict::DamageCut
        }
        (Ruling::Torn, Recovery::TornTail | Recovery::FirstInvalid) if !decoded.insisted => Verdict::TornTail,
        (Ruling::Torn | Ruling::Corrupt, Recovery::FirstInvalid) => Verdict::DamageCut,
        _ => panic!("opened: {context}"),
    };
    assert_eq!(report.verdict, verdict, "{context}");

    // What is left, and what was cut.
    let form = decoded.form.map_or(way.format, format);
    assert_eq!(report.format, form, "{context}");
    let cut = !matches!(verdict, Verdict::New | Verdict::Clean);
    assert_eq!(report.cut_offset, cut.then_some(decoded.end as u64), "{context}");
    assert_eq!(report.cut_bytes, if cut { (file.len() - decoded.end) as u64 } else { 0 }, "{context}");
    let mut expected = match decoded.ruling {
        Ruling::New => Vec::new(),
        _ => decoded.kept.clone(),
    };
    // A journal that ends where its file ends has no mark yet; a cut, and a new one, always have.
    let untouched = verdict == Verdict::Clean && !decoded.marked && expected.len() == file.len();
    let closed = closed(&expected, form);
    if !untouched {
        expected.clone_from(&closed);
    }
    assert!(fs::read(path).unwrap() == expected, "the file after the open: {context}");
    if !unsure && cut {
        assert_eq!(report.beyond.records, decoded.beyond, "{context}");
    }
    let gone = &file[decoded.end..];
    // What someone asked to remove is not kept.
    let cut = cut && verdict != Verdict::TruncationFinished;
    let must = cut
        && !gone.is_empty()
        && (decoded.beyond > 0 && !unsure || verdict == Verdict::DamageCut || way.quarantine);
    let may = must || cut && !gone.is_empty() && unsure;
    match (&quarantined(path)[..], &report.quarantine) {
        ([], None) => assert!(!must, "nothing was kept: {context}"),
        ([kept], Some(told)) => {
            assert!(may && kept == told, "{context}");
            assert!(fs::read(kept).unwrap() == gone, "what was kept: {context}");
            fs::remove_file(kept).unwrap();
        }
        other => panic!("{other:?}: {context}"),
    }
    holds(&journal, file, decoded, &context);
    drop(journal);
    assert!(fs::read(path).unwrap() == closed, "the file after the close: {context}");

    // And again.
    let journal = way.options().open(path).unwrap_or_else(|error| panic!("again: {error}: {context}"));
    let again = journal.recovery();
    let clean = if closed.is_empty() { Verdict::New } else { Verdict::Clean };
    assert_eq!((again.verdict, again.cut_offset), (clean, None), "again: {context}");
    holds(&journal, file, decoded, &context);
    // It goes on.
    let next = journal.append(b"next").unwrap();
    assert_eq!(next, decoded.first + decoded.records.len() as u64, "{context}");
    assert_eq!(journal.read(next).unwrap(), b"next");
    drop(journal);
    let after = Walk::inspect(path).unwrap();
    assert_eq!((after.state, after.last_index), (State::Clean, next), "{context}");
}

fn closed(kept: &[u8], form: Format) -> Vec<u8> {
    let mut file = kept.to_vec();
    if form == Format::Sealed {
        file.extend(render::mark(kept.len(), kept.len()));
    }
    file
}

/// The journal holds the records of `decoded`, every way they are read.
fn holds(journal: &Journal, file: &[u8], decoded: &Decoded, context: &str) {
    let count = decoded.records.len() as u64;
    let (first, last) = (decoded.first, decoded.first - 1 + count);
    assert_eq!((journal.first_index(), journal.last_index()), (first, last), "{context}");
    assert_eq!((journal.committed_index(), journal.durable_index()), (last, last), "{context}");
    assert_eq!(journal.recovery().records, count, "{context}");
    assert_eq!(journal.recovery().bytes, decoded.end as u64, "{context}");
    let (snapshot, mut reader) = (journal.snapshot(), journal.reader());
    assert_eq!(snapshot.len(), count);
    let mut all = snapshot.iter();
    for (n, record) in (first..).zip(&decoded.records) {
        let payload = &file[record.payload.clone()];
        assert!(journal.read(n).unwrap() == payload, "record {n}: {context}");
        assert!(reader.get(n) == Some(payload), "record {n} of a reader: {context}");
        assert!(all.next() == Some((n, payload)), "record {n} of a snapshot: {context}");
        let range = record.payload.start as u64..record.payload.end as u64;
        assert_eq!(journal.data_range(n).unwrap(), range, "{context}");
    }
    assert!(all.next().is_none());
    for n in [0, first - 1, last + 1, u64::MAX] {
        assert!(reader.get(n).is_none() && snapshot.get(n).is_none(), "record {n}: {context}");
        assert!(matches!(journal.read(n), Err(Error::OutOfRange { .. })), "record {n}: {context}");
    }
}

fn quarantined(path: &Path) -> Vec<PathBuf> {
    let folder = fs::read_dir(path.parent().unwrap()).unwrap();
    folder.map(|entry| entry.unwrap().path()).filter(|other| other != path).collect()
}
