//! A journal that the library wrote, and then damage. The verdict has to be the simple decoder's, and beyond that: what
//! a surviving header proves durable is never cut, what is found is a prefix, and a batch is there whole or not at all.

use std::fs;
use std::path::Path;

use wally::{Format, Journal, Options, SyncPolicy, Verdict};

use super::decoder::{Decoded, Form, Kind, decode, header, kind, mark};
use super::input::Input;
use super::recover::{self, Way};

/// The first bytes choose how it is opened and what is written, those after them the damage.
pub fn run(bytes: &[u8], folder: &Path) {
    let mut input = Input(bytes);
    let way = Way::of(input.byte());
    let form = if input.byte() % 8 == 0 { Format::Reference } else { Format::Sealed };
    let whole = write(&mut input, form, &folder.join("journal"));
    let mut damaged = whole.clone();
    for _ in 0..=input.byte() % 3 {
        damage(&mut input, &mut damaged);
    }
    if form == Format::Sealed {
        promises(&whole, &damaged, folder);
    }
    recover::check(&whole, way, folder);
    recover::check(&damaged, way, folder);
}

/// The file of a journal, closed or as it is while it is open.
fn write(input: &mut Input<'_>, format: Format, path: &Path) -> Vec<u8> {
    let mut options = Options::new();
    options.sync_policy(SyncPolicy::OnDemand).new_file_format(format).buffer_size(4096);
    let mut journal = options.open(path).unwrap();
    for _ in 0..1 + input.byte() % 24 {
        match input.byte() % 12 {
            0..=3 => {
                journal.append(&input.payload()).unwrap();
            }
            4 | 5 => {
                let batch: Vec<_> = (0..input.byte() % 6).map(|_| input.payload()).collect();
                journal.append_batch(&batch).unwrap();
            }
            6 => journal.flush().unwrap(),
            7 | 8 => journal.sync().unwrap(),
            9 => {
                let last = journal.last_index();
                journal.truncate_back(last.saturating_sub(input.byte() as u64 % 4)).unwrap();
            }
            10 => {
                drop(journal);
                journal = options.open(path).unwrap();
            }
            _ => {}
        }
    }
    journal.flush().unwrap();
    if input.byte().is_multiple_of(2) {
        drop(journal);
        return fs::read(path).unwrap();
    }
    let file = fs::read(path).unwrap();
    drop(journal);
    file
}

fn damage(input: &mut Input<'_>, file: &mut Vec<u8>) {
    let len = file.len();
    let (at, n) = (input.below(len.max(1)).min(len), 1 + input.below(700));
    let end = len.min(at + n);
    match input.byte() % 9 {
        0 | 1 => {
            if let Some(byte) = file.get_mut(at) {
                *byte ^= 1 << (input.byte() & 7);
            }
        }
        2 => file[at..end].fill(0),
        3 => {
            let from = at / 512 * 512;
            let end = len.min(from + 512 * (1 + n % 9));
            file[from..end].fill(0);
        }
        4 => file.truncate(at),
        5 => {
            let garbage = input.take(n).to_vec();
            file.splice(at..at, garbage);
        }
        6 => {
            file.drain(at..end);
        }
        7 => {
            let garbage = input.take(n).to_vec();
            file.extend(garbage);
        }
        _ => {
            let stretch = file[at..end].to_vec();
            let to = input.below(len + 1);
            file.splice(to..len.min(to + stretch.len()), stretch);
        }
    }
}

/// What holds whatever the recovery table says.
fn promises(whole: &[u8], damaged: &[u8], folder: &Path) {
    let path = folder.join("journal");
    let before = decode(whole, Form::Sealed, false);
    fs::write(&path, damaged).unwrap();
    let opened = Options::new().sync_policy(SyncPolicy::OnDemand).open(&path);
    let Ok(journal) = opened else {
        assert!(fs::read(&path).unwrap() == damaged, "refused, and written to");
        return;
    };
    promised(&journal, &before, whole, damaged);
    drop(journal);
    for entry in fs::read_dir(folder).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

/// The same for a journal that an open took, whatever is left of it.
fn promised(journal: &Journal, before: &Decoded, whole: &[u8], damaged: &[u8]) {
    let report = journal.recovery();
    if report.format == Format::Reference {
        // Damage that takes away just the first seal, and all that would tell otherwise, leaves a file of the reference
        // format: nothing in that one tells more.
        assert!(header(damaged, 0).is_some_and(|header| header.seal == 0), "{report:?}");
        return;
    }
    let count = journal.last_index() as usize;
    assert!(count <= before.records.len(), "{report:?} of {} records", before.records.len());
    for (n, record) in (1..).zip(&before.records[..count]) {
        assert!(journal.read(n).unwrap() == whole[record.payload.clone()], "record {n}: {report:?}");
    }
    if report.format == Format::Sealed && report.verdict != Verdict::New {
        assert!(count == 0 || !before.records[count - 1].continued, "a batch was split: {report:?}");
    }
    let proven = proven(whole, damaged);
    assert!(report.bytes >= proven as u64, "{proven} bytes were durable: {report:?}");
}

/// How much the headers prove durable that the damage has left as they were.
fn proven(whole: &[u8], damaged: &[u8]) -> usize {
    let mut proven = 0;
    for record in &decode(whole, Form::Sealed, false).records {
        let (at, end) = (record.offset, record.payload.end);
        let said = header(whole, at).and_then(|header| kind(header, at as u64));
        let barrier = matches!(said, Some(Kind::Record { barrier: true, .. }));
        if barrier && damaged.get(at..end) == Some(&whole[at..end]) {
            proven = at;
        }
    }
    match mark(damaged) {
        // A damaged stretch that was copied does not make a mark: it knows its place.
        Some((_, t)) => proven.max(t),
        None => proven,
    }
}
