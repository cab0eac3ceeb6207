//! P1, P6 and row by row section 3 under every small change of a file: it is cut at every length, every byte is flipped,
//! bytes are inserted and removed, sectors zeroed, things appended, headers forged. An oracle that shares no code with
//! the library says what each result has to be, under every recovery policy and to programs that only read.
//!
//! By default the large journals are changed at every place near a header and at some others, the first and the last
//! header in every bit, and each result is opened under one policy or all; `WALLY_SWEEP=all` makes every change everywhere,
//! looks at each in every way, and makes the forged files 256 MiB long instead of a few.

use crate::{common, fuzz};

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::built::{self, BARRIER, Built, CONTINUED, HEADER, crc32};
use common::rng::Rng;
use fuzz::decoder::{Decoded, Form, Ruling, decode};
use wally::{Error, Format, Journal, Options, Recovery, State, SyncPolicy, Walk};

const POLICIES: [Recovery; 3] = [Recovery::TornTail, Recovery::FirstInvalid, Recovery::Strict];

/// Looks at what seems damaged sleep in between: with so many threads they sleep together.
const THREADS: usize = 48;

fn everything() -> bool {
    std::env::var("WALLY_SWEEP").is_ok_and(|what| what == "all")
}

/// A journal to be changed, and where its headers are.
struct Subject {
    name: &'static str,
    file: Vec<u8>,
    headers: Vec<usize>,
}

impl Subject {
    fn new(name: &'static str, file: Vec<u8>) -> Self {
        let found = decode(&file, Form::Sealed, false);
        let mut headers: Vec<_> = found.records.iter().map(|record| record.offset).collect();
        if found.first > 1 {
            headers.push(0);
        }
        // Marks and zeros.
        headers.extend([found.end, file.len().saturating_sub(HEADER)]);
        headers.retain(|at| at + HEADER <= file.len());
        headers.sort_unstable();
        headers.dedup();
        Self { name, file, headers }
    }

    fn near_a_header(&self, at: usize) -> bool {
        self.headers.iter().any(|&header| at + 2 >= header && at <= header + HEADER + 2)
    }

    /// The places to change: all, or those near headers and each `stride`-th.
    fn places(&self, stride: usize) -> impl Iterator<Item = usize> + '_ {
        let all = everything() || self.file.len() < 700;
        (0..self.file.len()).filter(move |&at| all || at % stride == 0 || self.near_a_header(at))
    }
}

const SMALL: [usize; 6] = [15, 0, 1, 16, 17, 0];
const LARGE: [usize; 5] = [17, 4096, 0, 5000, 40];

/// A journal that the library wrote: `act` may close it or not.
fn written(format: Format, act: impl FnOnce(Journal) -> Option<Journal>) -> Vec<u8> {
    let dir = common::fast_dir();
    let path = dir.path().join("written");
    let journal =
        Options::new().new_file_format(format).sync_policy(SyncPolicy::OnDemand).open(&path).unwrap();
    let open = act(journal);
    if let Some(journal) = &open {
        journal.flush().unwrap();
    }
    std::fs::read(path).unwrap()
}

fn append(journal: &Journal, lens: &[usize]) {
    let mut rng = Rng::new(journal.last_index() + 7);
    for &len in lens {
        journal.append(&rng.bytes(len)).unwrap();
    }
}

fn batch(journal: &Journal, lens: &[usize]) {
    let mut rng = Rng::new(journal.last_index() + 99);
    journal.append_batch(lens.iter().map(|&len| rng.bytes(len)).collect::<Vec<_>>()).unwrap();
}

/// A journal built by hand after `front`: records of these lengths with these flags, all checks right.
fn built(front: Built, records: &[(usize, u8)]) -> Built {
    let mut rng = Rng::new(front.len() + 5);
    records.iter().fold(front, |built, &(len, flags)| built.sealed(&rng.bytes(len), flags))
}

/// `file` with the mark of a truncation to `end` at the next multiple of the block size.
fn truncating(built: Built, end: u64) -> Vec<u8> {
    let zeros = built.len().next_multiple_of(4096) - built.len();
    built.zeros(zeros as usize).mark(end).0
}

fn subjects() -> Vec<Subject> {
    let close = |journal: Journal| journal.close().map(|()| None).unwrap();
    let sealed = Format::Sealed;
    let (b, c) = (BARRIER, CONTINUED);
    let ending = |records: &[(usize, u8)]| built(Built::new(), records).closed();
    let batched = built(Built::new(), &[(20, b), (1, c), (16, c), (0, 0), (33, b)]);
    // After the second record of the batch.
    let inside = 36 + 17 + 32;
    let mut resealing = truncating(batched.clone(), inside);
    // Half of the seal that is being written anew.
    let seal = built::seal(53, 16, u32::from_le_bytes(resealing[61..65].try_into().unwrap()), 0);
    resealing[53 + 12..53 + 14].copy_from_slice(&seal[..2]);
    vec![
        Subject::new("empty", Built::new().closed().0),
        Subject::new("nothing", Vec::new()),
        Subject::new("one record, closed", ending(&[(9, 0)]).0),
        Subject::new(
            "closed",
            written(sealed, |j| {
                append(&j, &SMALL);
                close(j)
            }),
        ),
        Subject::new(
            "crashed, one flush",
            written(sealed, |j| {
                append(&j, &SMALL);
                Some(j)
            }),
        ),
        Subject::new(
            "crashed, with barriers",
            written(sealed, |j| {
                for len in SMALL {
                    append(&j, &[len, 3]);
                    j.sync().unwrap();
                }
                append(&j, &[5, 6]);
                Some(j)
            }),
        ),
        Subject::new(
            "crashed after a batch",
            written(sealed, |j| {
                append(&j, &[8]);
                j.sync().unwrap();
                batch(&j, &[0, 1, 17]);
                append(&j, &[16]);
                batch(&j, &[15, 0, 30]);
                Some(j)
            }),
        ),
        Subject::new(
            "closed after a batch",
            written(sealed, |j| {
                append(&j, &[8]);
                j.sync().unwrap();
                batch(&j, &SMALL);
                close(j)
            }),
        ),
        Subject::new("a batch that breaks off", built(Built::new(), &[(20, b), (7, b | c), (0, c)]).0),
        Subject::new("a gap", built(Built::gap(100, 41), &[(20, b), (7, 0), (16, b)]).0),
        Subject::new("a short gap", built(Built::gap(5, 1), &[(20, b), (7, 0)]).0),
        Subject::new("nothing but a gap, closed", Built::gap(77, 9).closed().0),
        Subject::new("nothing but a short gap, closed", Built::gap(0, 1).closed().0),
        Subject::new("preallocated", {
            let mut file = built(Built::new(), &[(20, b), (7, 0), (0, b)]).0;
            file.resize(700, 0);
            file
        }),
        Subject::new("closed, zeros after the mark", ending(&[(20, b), (7, 0)]).zeros(33).0),
        Subject::new("truncating", truncating(batched.clone(), 36)),
        Subject::new("truncating to nothing", truncating(batched.clone(), 0)),
        Subject::new("truncating into a batch", truncating(batched, inside)),
        Subject::new("truncating, half sealed anew", resealing),
        Subject::new(
            "pages, crashed",
            written(sealed, |j| {
                append(&j, &LARGE);
                j.sync().unwrap();
                append(&j, &LARGE[..2]);
                Some(j)
            }),
        ),
        Subject::new(
            "pages, closed",
            written(sealed, |j| {
                append(&j, &LARGE);
                close(j)
            }),
        ),
        Subject::new(
            "reference",
            written(Format::Reference, |j| {
                append(&j, &SMALL);
                close(j)
            }),
        ),
        Subject::new(
            "reference, empty records first",
            written(Format::Reference, |j| {
                append(&j, &[0, 0, 5, 0]);
                close(j)
            }),
        ),
        Subject::new(
            "reference, pages",
            written(Format::Reference, |j| {
                append(&j, &LARGE);
                close(j)
            }),
        ),
    ]
}

/// What opening a file does.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Opened { file: Vec<u8>, quarantined: Option<Vec<u8>>, cut: Option<usize>, verdict: &'static str },
    Corrupt { offset: usize, index: u64 },
    NotAJournal,
    Unsupported,
}

/// What opening `file` under `policy` does, if it is what was `found`.
fn expected(file: &[u8], found: &Decoded, asked: Form, policy: Recovery) -> Outcome {
    // Zeros after the records are no damage, and are cut without a report.
    let quiet = found.row == 6;
    let damage = match (found.ruling, policy) {
        (Ruling::New, _) => {
            let file = if asked == Form::Sealed { Built::new().closed().0 } else { Vec::new() };
            return Outcome::Opened { file, quarantined: None, cut: None, verdict: "new" };
        }
        (Ruling::NotAJournal, _) => return Outcome::NotAJournal,
        (Ruling::Newer, _) => return Outcome::Unsupported,
        (Ruling::Clean, _) if !quiet => {
            let file = if found.marked { &file[..found.x + HEADER] } else { file };
            return Outcome::Opened { file: file.to_vec(), quarantined: None, cut: None, verdict: "clean" };
        }
        (Ruling::Torn | Ruling::Corrupt, Recovery::Strict) | (Ruling::Corrupt, Recovery::TornTail) => {
            return Outcome::Corrupt { offset: found.x, index: found.x_index };
        }
        (Ruling::Corrupt, _) => true,
        (Ruling::Torn, _) => found.insisted,
        (Ruling::Clean | Ruling::Truncated, _) => false,
    };
    let verdict = match found.ruling {
        Ruling::Clean => "clean",
        Ruling::Truncated => "truncation finished",
        _ if damage => "damage cut",
        _ => "torn tail",
    };
    let left = Built(found.kept.clone());
    let left = if found.form == Some(Form::Sealed) { left.closed() } else { left };
    // What a truncation removes is not kept.
    let keeps = !quiet && found.ruling != Ruling::Truncated;
    let keeps = keeps && (found.beyond > 0 || damage) && found.end < file.len();
    let quarantined = keeps.then(|| file[found.end..].to_vec());
    Outcome::Opened { file: left.0, quarantined, cut: (!quiet).then_some(found.end), verdict }
}

/// The ways to open one file, compared with the oracle.
struct Bench {
    dir: tempfile::TempDir,
    looked: usize,
    /// Whether what recovery left is opened once more.
    reopen: bool,
}

impl Bench {
    fn new() -> Self {
        Self { dir: common::fast_dir(), looked: 0, reopen: true }
    }

    /// Writes the file and opens it in every way; `read` for what only reads, too.
    fn check(&mut self, file: &[u8], read: bool, dice: usize) -> Result<(), String> {
        self.reopen = everything() || dice.is_multiple_of(5);
        let policies = if everything() || dice.is_multiple_of(3) { &POLICIES[..] } else { &POLICIES[..1] };
        let found = decode(file, Form::Sealed, false);
        for &policy in policies {
            self.opened(file, &found, Form::Sealed, policy).map_err(|what| format!("{policy:?}: {what}"))?;
        }
        if found.form != Some(Form::Sealed) {
            let asked = [(Recovery::TornTail, "asked"), (Recovery::FirstInvalid, "insisted")];
            for (policy, how) in asked {
                let found = decode(file, Form::Reference, policy == Recovery::FirstInvalid);
                self.opened(file, &found, Form::Reference, policy)
                    .map_err(|what| format!("{how}: {what}"))?;
            }
        }
        if read {
            self.read(file, &found)?;
        }
        Ok(())
    }

    fn place(&mut self, file: &[u8]) -> PathBuf {
        self.looked += 1;
        let path = self.dir.path().join(format!("j{}", self.looked));
        std::fs::write(&path, file).unwrap();
        path
    }

    fn opened(&mut self, file: &[u8], found: &Decoded, asked: Form, policy: Recovery) -> Result<(), String> {
        let path = self.place(file);
        let expected = expected(file, found, asked, policy);
        let mut options = Options::new();
        options.sync_policy(SyncPolicy::OnDemand).buffer_size(4096).recovery_policy(policy);
        if asked == Form::Reference {
            options.new_file_format(Format::Reference);
        }
        let opened = options.open(&path);
        let left = std::fs::read(&path).unwrap();
        let kept = quarantine_of(self.dir.path());
        let compared = match (opened, &expected) {
            (Ok(journal), Outcome::Opened { .. }) => compare(&journal, file, &left, &kept, found, &expected),
            (Err(error), expected) => {
                if left != file {
                    return Err(format!("{error}, yet the file was touched"));
                }
                if !kept.is_empty() {
                    return Err(format!("{error}, yet there is a quarantine file"));
                }
                match (&error, expected) {
                    (Error::NotAJournal { .. }, Outcome::NotAJournal)
                    | (Error::UnsupportedFormat { .. }, Outcome::Unsupported) => Ok(()),
                    (Error::Corrupt { offset, index, beyond: Some(beyond), .. }, Outcome::Corrupt { .. }) => {
                        let told = Outcome::Corrupt { offset: *offset as usize, index: *index };
                        let same_beyond = beyond.at_least || beyond.records == found.beyond - found.before_x;
                        let same_proof = beyond.proof.map(|at| at as usize) == found.proof;
                        if told == *expected && same_beyond && same_proof {
                            Ok(())
                        } else {
                            Err(format!("{error}, not {expected:?}, {found:?}"))
                        }
                    }
                    _ => Err(format!("{error}, not {expected:?}, {:?}", found.ruling)),
                }
            }
            (Ok(journal), expected) => {
                Err(format!("opened with {} records, not {expected:?}", journal.last_index()))
            }
        };
        // The quarantine files are none of the next look's.
        for (path, _) in kept {
            std::fs::remove_file(path).unwrap();
        }
        compared?;
        if let (Outcome::Opened { .. }, true) = (expected, self.reopen && !found.insisted) {
            // What recovery left is clean, and is that again; unless that takes `FirstInvalid`.
            let again = Options::new()
                .recovery_policy(Recovery::Strict)
                .new_file_format(format_of(asked))
                .open(&path);
            let again = again.map_err(|error| format!("not clean after recovery: {error}"))?;
            compare_records(&again, file, found)?;
        }
        std::fs::remove_file(&path).unwrap();
        Ok(())
    }

    /// `Walk` and `Walk::inspect`, which change nothing.
    fn read(&mut self, file: &[u8], found: &Decoded) -> Result<(), String> {
        let path = self.place(file);
        let expected = match found.ruling {
            Ruling::New | Ruling::Clean => State::Clean,
            Ruling::Torn | Ruling::Truncated => State::Torn,
            Ruling::Corrupt => State::Corrupt,
            Ruling::NotAJournal => State::NotAJournal,
            Ruling::Newer => State::Unsupported,
        };
        let told = Walk::inspect(&path).map_err(|error| format!("inspect: {error}"))?;
        let clean = expected == State::Clean;
        let truncated = found.ruling == Ruling::Truncated;
        let damage = if truncated { found.end } else { found.x };
        let records = found.records.len() as u64;
        let same = told.state == expected
            && told.records == records
            && told.first_index == found.first
            && told.last_index + 1 == found.first + records
            && told.file_bytes as usize == file.len()
            && told.good_bytes as usize == found.end
            && told.damage_offset == (!clean).then_some(damage as u64)
            && told.format == found.form.map(format_of);
        if !same {
            return Err(format!("inspect: {told:?}, not {found:?}"));
        }
        let mut walked = 0;
        for entry in Walk::open(&path).map_err(|error| format!("walk: {error}"))? {
            match (entry, found.records.get(walked)) {
                (Ok(entry), Some(record)) => {
                    let index = found.first + walked as u64;
                    if entry.index != index
                        || entry.offset as usize != record.offset
                        || entry.payload != file[record.payload.clone()]
                    {
                        return Err(format!("walk: another record {index}: {entry:?}"));
                    }
                    walked += 1;
                }
                (Ok(entry), None) => return Err(format!("walk: one record too many: {entry:?}, {found:?}")),
                (Err(error), None) => {
                    let same = match (&error, expected) {
                        (Error::Corrupt { offset, index, .. }, State::Torn | State::Corrupt) => {
                            (*offset as usize, *index) == (found.x, found.x_index)
                        }
                        (Error::NotAJournal { .. }, State::NotAJournal)
                        | (Error::UnsupportedFormat { .. }, State::Unsupported) => true,
                        _ => false,
                    };
                    if !same {
                        return Err(format!("walk: {error}, not {found:?}"));
                    }
                    walked = usize::MAX;
                }
                (Err(error), Some(record)) => {
                    return Err(format!("walk: {error} before the record at {}", record.offset));
                }
            }
        }
        // What stays of a truncation to finish is whole.
        if walked != if clean || truncated { found.records.len() } else { usize::MAX } {
            return Err(format!("walk: ended after {walked} records, not {found:?}"));
        }
        if std::fs::read(&path).unwrap() != file {
            return Err("a reader touched the file".into());
        }
        std::fs::remove_file(path).unwrap();
        Ok(())
    }
}

fn format_of(form: Form) -> Format {
    match form {
        Form::Sealed => Format::Sealed,
        Form::Reference => Format::Reference,
    }
}

fn quarantine_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let kept = entries.filter(|path| path.to_string_lossy().contains(".cut-"));
    kept.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn compare_records(journal: &Journal, original: &[u8], found: &Decoded) -> Result<(), String> {
    let (first, last) = (journal.first_index(), journal.last_index());
    if first != found.first || last + 1 != first + found.records.len() as u64 {
        return Err(format!("records {first}..={last}, not {found:?}"));
    }
    for (n, record) in (first..).zip(&found.records) {
        if journal.read(n).map_err(|error| format!("record {n}: {error}"))?
            != original[record.payload.clone()]
        {
            return Err(format!("record {n} is another"));
        }
    }
    Ok(())
}

fn compare(
    journal: &Journal,
    original: &[u8],
    left: &[u8],
    kept: &[(PathBuf, Vec<u8>)],
    found: &Decoded,
    expected: &Outcome,
) -> Result<(), String> {
    let Outcome::Opened { file, quarantined, cut, verdict } = expected else { return Ok(()) };
    let report = journal.recovery();
    compare_records(journal, original, found)?;
    if left != file {
        return Err(format!(
            "the file was left with {} bytes, not {}, or with others",
            left.len(),
            file.len()
        ));
    }
    if report.verdict.to_string() != *verdict {
        return Err(format!("verdict {}, not {verdict}", report.verdict));
    }
    if report.cut_offset.map(|at| at as usize) != *cut {
        return Err(format!("cut at {:?}, not {cut:?}", report.cut_offset));
    }
    match (kept, quarantined, &report.quarantine) {
        ([], None, None) => {}
        // A search that ran out of budget may have to keep what holds nothing.
        ([_], None, Some(_)) if report.beyond.at_least => {}
        ([(path, bytes)], Some(expected), Some(told)) if bytes == expected && path == told => {}
        _ => {
            let kept: Vec<_> = kept.iter().map(|(path, bytes)| (path, bytes.len())).collect();
            return Err(format!("kept {kept:?}, not {:?}", quarantined.as_ref().map(Vec::len)));
        }
    }
    if cut.is_some() && !report.beyond.at_least && report.beyond.records != found.beyond {
        return Err(format!("{} records beyond, not {}", report.beyond.records, found.beyond));
    }
    Ok(())
}

/// Checks the changes of all subjects that `change` makes, on many threads. Readers look at each `every`-th.
fn sweep(every: usize, changes: impl Fn(&Subject) -> Vec<(String, Vec<u8>)> + Sync) {
    let started = std::time::Instant::now();
    let subjects = subjects();
    let every = if everything() { 1 } else { every };
    let work: Vec<_> = subjects.iter().flat_map(|s| changes(s).into_iter().map(move |c| (s, c))).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut bench = Bench::new();
                while let Some((subject, (what, file))) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let dice = Rng::new(file.len() as u64 ^ u64::from(crc32fast::hash(file))).below(1 << 20);
                    if let Err(mut error) = bench.check(file, (dice / 16).is_multiple_of(every), dice) {
                        error.truncate(400);
                        failures.lock().unwrap().push(format!("{}, {what}: {error}", subject.name));
                        bench = Bench::new();
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    let count = failures.len();
    failures.truncate(20);
    assert!(count == 0, "{count} of {} differ:\n{}", work.len(), failures.join("\n"));
    println!("{} files in {:.1?}", work.len(), started.elapsed());
}

#[test]
fn unchanged() {
    sweep(1, |s| vec![("unchanged".into(), s.file.clone())]);
}

#[test]
fn cut_at_every_length() {
    sweep(4, |s| s.places(131).map(|len| (format!("cut at {len}"), s.file[..len].to_vec())).collect());
}

#[test]
fn every_byte_flipped_and_every_bit_of_every_header() {
    sweep(8, |s| {
        let few = [s.headers.first(), s.headers.last()];
        let headers: Vec<_> =
            if everything() { s.headers.iter().collect() } else { few.into_iter().flatten().collect() };
        let in_header = |at: usize| headers.iter().any(|&&header| (header..header + HEADER).contains(&at));
        let flips = s.places(157).flat_map(|at| {
            let bits: Vec<u8> =
                if in_header(at) { (0..8).map(|bit| 1 << bit).chain([0xFF]).collect() } else { vec![0x55] };
            bits.into_iter().map(move |bits| (at, bits))
        });
        flips
            .map(|(at, bits)| {
                let mut file = s.file.clone();
                file[at] ^= bits;
                (format!("{bits:#04x} flipped at {at}"), file)
            })
            .collect()
    });
}

#[test]
fn bytes_inserted_and_removed() {
    sweep(8, |s| {
        let kinds = [(1, false), (16, true), (1, true), (16, false)];
        let changes = s.places(211).flat_map(|at| kinds.map(|(n, remove)| (at, n, remove)));
        // One kind at each place, unless all are wanted.
        changes
            .enumerate()
            .filter(|(nth, (at, ..))| everything() || nth % 4 == at * 7 / 5 % 4)
            .map(|(_, change)| change)
            .map(|(at, n, remove)| {
                let (head, tail) = s.file.split_at(at);
                let new = if remove { Vec::new() } else { vec![(at % 3) as u8 * 0x55; n] };
                let tail = if remove { &tail[n.min(tail.len())..] } else { tail };
                let what = if remove { "removed" } else { "inserted" };
                (format!("{n} bytes {what} at {at}"), [head, &new, tail].concat())
            })
            .collect()
    });
}

#[test]
fn every_sector_zeroed() {
    sweep(2, |s| {
        let sectors = (0..s.file.len().div_ceil(512)).map(|at| (at * 512, 512));
        // And some of other sizes, so that small journals lose parts, too.
        let parts = s.headers.iter().flat_map(|&at| [(at, 12), (at, 16), (at + 12, 4), (at, 40)]);
        let zeroed = sectors.chain(parts).collect::<BTreeSet<_>>();
        let mut changed: Vec<_> = zeroed
            .into_iter()
            .map(|(at, len)| {
                let mut file = s.file.clone();
                let end = file.len().min(at + len);
                file[at.min(end)..end].fill(0);
                (format!("{len} zeroed at {at}"), file)
            })
            .collect();
        changed.extend(s.places(499).map(|at| {
            let mut file = s.file.clone();
            file[at..].fill(0);
            (format!("all zeroed from {at}"), file)
        }));
        changed
    });
}

#[test]
fn things_appended() {
    sweep(1, |s| {
        let at = s.file.len();
        let mut rng = Rng::new(3);
        let mut things: Vec<(String, Vec<u8>)> = Vec::new();
        for n in [1, 15, 16, 17, 496, 4096, 5000] {
            things.push((format!("{n} zeros"), vec![0; n]));
            things.push((format!("{n} of garbage"), rng.bytes(n)));
            things.push((format!("{n} ones"), vec![0xFF; n]));
        }
        things.push(("itself".into(), s.file.clone()));
        things.push(("itself twice".into(), [&s.file[..], &s.file[..]].concat()));
        for flags in [0, 1, 2, 4, 6, 8, 16, 24, 32, 64, 128, 255] {
            let payload = rng.bytes(21);
            let header = built::header(at as u64, 21, crc32(&payload), flags);
            things.push((format!("a record flagged {flags}"), [&header[..], &payload].concat()));
            let header = built::header(at as u64, at as u64, u32::MAX, flags);
            things.push((format!("an end flagged {flags}"), header.to_vec()));
        }
        for end in [0, s.headers.first().copied().unwrap_or(0), s.headers.len(), at, at + 1] {
            let mark = built::mark(at as u64, end as u64);
            things.push((format!("a mark of {end}"), mark.to_vec()));
            things.push((format!("a mark of {end} and a byte"), [&mark[..], &[7]].concat()));
        }
        let far = at.next_multiple_of(4096);
        for &end in &s.headers {
            let (zeros, mark) = (vec![0; far - at], built::mark(far as u64, end as u64));
            things.push((format!("a truncation to {end}"), [&zeros[..], &mark].concat()));
        }
        things
            .into_iter()
            .map(|(what, thing)| (format!("{what} appended"), [&s.file[..], &thing].concat()))
            .collect()
    });
}

#[test]
fn two_places_changed() {
    sweep(8, |s| {
        if s.file.is_empty() {
            return Vec::new();
        }
        let mut rng = Rng::new(s.file.len() as u64);
        let n = if everything() { 3000 } else { 120 };
        (0..n)
            .map(|_| {
                let mut file = s.file.clone();
                let mut what = Vec::new();
                for _ in 0..2 {
                    // Headers are where it matters.
                    let near = s.headers.get(rng.below(s.headers.len().max(1)));
                    let at = near.map_or(0, |at| at + rng.below(HEADER)).min(file.len() - 1);
                    let at = if rng.below(3) == 0 { rng.below(file.len()) } else { at };
                    match rng.below(4) {
                        0 => file.truncate(at + 1),
                        1 => {
                            let end = file.len().min(at + 20);
                            file[at..end].fill(0);
                        }
                        _ => file[at] ^= 1 << rng.below(8),
                    }
                    what.push(at);
                }
                (format!("changed at {what:?}"), file)
            })
            .collect()
    });
}

/// Headers that claim what `claim` says, one every 16 bytes after `front`, none of them whole.
fn forged(front: &[u8], len: usize, claim: impl Fn(usize) -> u64, form: Form) -> Vec<u8> {
    let mut file = front.to_vec();
    file.reserve_exact(len);
    file.extend([0xEE; 13]);
    while file.len() + 2 * HEADER <= len {
        let at = file.len();
        match form {
            Form::Sealed => file.extend(built::header(at as u64, claim(at), 0x1234_5678, BARRIER)),
            Form::Reference => {
                file.extend(claim(at).to_le_bytes());
                file.extend([0x78, 0x56, 0x34, 0x12, 0, 0, 0, 0]);
            }
        }
    }
    file.resize(len, 0xEE);
    file
}

/// A search that followed each claim would read this many bytes squared; the verdict has to come all the same.
#[test]
fn forged_headers_do_not_make_opening_quadratic() {
    let len: usize = if everything() { 256 << 20 } else { 2 << 20 };
    let dir = common::fast_dir();
    let path = dir.path().join("forged");
    let front = built(Built::new(), &[(20, BARRIER), (30, 0)]).0;
    let reference = Built::new().reference(b"abc").0;
    let all = |at: usize| (len - at - HEADER) as u64;
    let half = |at: usize| (len - at - HEADER) as u64 / 2;
    let rest = |at: usize| (len - at - HEADER) as u64 / 3 + 1;
    let near = |at: usize| (len as u64 - at as u64 - 16).min(3000);
    let claims: [(&str, &dyn Fn(usize) -> u64); 4] =
        [("all", &all), ("half", &half), ("a third", &rest), ("a little", &near)];
    for (name, claim) in claims {
        let started = std::time::Instant::now();
        std::fs::write(&path, forged(&front, len, claim, Form::Sealed)).unwrap();
        let made = started.elapsed();
        let started = std::time::Instant::now();
        // Many headers are seen but the budget does not reach to look at all of them: no torn tail.
        match Options::new().open(&path) {
            Err(Error::Corrupt { offset, index: 3, beyond: Some(beyond), .. }) => {
                assert_eq!((offset as usize, beyond.records), (front.len(), 0), "{name}");
                assert!(beyond.at_least && beyond.proof.is_none(), "{name}: {beyond:?}");
            }
            other => panic!("{name}: {other:?}"),
        }
        let opened = started.elapsed();
        let inspected = Walk::inspect(&path).unwrap();
        assert_eq!((inspected.state, inspected.records), (State::Corrupt, 2), "{name}");
        println!("{name}: {len} bytes, made in {made:.2?}, refused in {opened:.2?}");

        // In the reference format the tail is cut, and kept, since nobody looked at all of it.
        let file = forged(&reference, len, claim, Form::Reference);
        let cut = file.len() - reference.len();
        std::fs::write(&path, file).unwrap();
        let started = std::time::Instant::now();
        let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(&path).unwrap();
        println!("{name}: reference, cut in {:.2?}", started.elapsed());
        assert_eq!((journal.last_index(), journal.recovery().beyond.at_least), (1, true), "{name}");
        let kept = journal.recovery().quarantine.clone().unwrap();
        assert_eq!(std::fs::metadata(&kept).unwrap().len() as usize, cut);
        std::fs::remove_file(kept).unwrap();
    }
    // From the first byte on.
    std::fs::write(&path, forged(&built::header(0, all(0), 1, BARRIER), len, all, Form::Sealed)).unwrap();
    let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(&path).unwrap();
    assert_eq!(journal.last_index(), 0);
}

/// Forgeries do not hide a short record that proves what lies before it.
#[test]
fn forged_headers_do_not_hide_a_short_whole_record() {
    let len = 1 << 20;
    let dir = common::fast_dir();
    let path = dir.path().join("forged");
    let front = built(Built::new(), &[(20, BARRIER)]).0;
    let mut file = forged(&front, len, |at| (len - at - HEADER) as u64, Form::Sealed);
    let at = len / 2 + 3;
    let record = [&built::header(at as u64, 5, crc32(b"proof"), BARRIER)[..], b"proof"].concat();
    file[at..at + record.len()].copy_from_slice(&record);
    std::fs::write(&path, &file).unwrap();
    match Options::new().open(&path) {
        Err(Error::Corrupt { beyond: Some(beyond), .. }) => {
            assert_eq!((beyond.records, beyond.proof), (1, Some(at as u64)));
        }
        other => panic!("{other:?}"),
    }
    let journal = Options::new().recovery_policy(Recovery::FirstInvalid).open(&path).unwrap();
    let kept = std::fs::read(journal.recovery().quarantine.as_ref().unwrap()).unwrap();
    assert_eq!(kept, file[front.len()..]);
}
