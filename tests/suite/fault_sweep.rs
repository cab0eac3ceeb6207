//! P7 and P8 under a fault at every single call: one scenario is run with no fault to count what it asks of the system, then
//! again for each call and each error that the call can give, once and from there on for ever. Nothing may hang or panic,
//! what was refused is not there, what was lent stays, and a reopen without faults finds all that is durable.

use crate::common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::seam::{Call, EFBIG, EINTR, EIO, ENOMEM, ENOSPC, Seam};
use wally::seam::{Role, Verdict as Answer};
use wally::{Error, Format, Journal, Options, ReaderStatus, RecordRef, Snapshot, SyncPolicy};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Extend,
    Sync,
    SyncDirectory,
    Truncate,
    Map,
    Preserve,
}

impl Kind {
    fn of(role: Role, call: &Call) -> Self {
        match call {
            Call::Write { .. } => Self::Write,
            Call::Extend(_) => Self::Extend,
            Call::Sync if role == Role::Directory => Self::SyncDirectory,
            Call::Sync => Self::Sync,
            Call::Truncate(_) => Self::Truncate,
            Call::Map(_) => Self::Map,
            Call::Preserve(_) => Self::Preserve,
            Call::Rename => unreachable!("nothing is renamed here"),
        }
    }

    fn faults(self) -> &'static [Answer] {
        match self {
            Self::Write | Self::Extend => &[
                Answer::Short(1),
                Answer::Short(700),
                Answer::Short(0),
                Answer::Fail(EINTR),
                Answer::Fail(ENOSPC),
                Answer::Fail(EFBIG),
                Answer::Fail(EIO),
            ],
            Self::Sync | Self::SyncDirectory => &[Answer::Fail(EIO), Answer::Fail(ENOSPC)],
            Self::Truncate => &[Answer::Fail(EIO), Answer::Fail(EFBIG)],
            Self::Map | Self::Preserve => &[Answer::Fail(ENOMEM)],
        }
    }
}

/// One kind of answer to the call number `at`, or from it on to all of its kind.
#[derive(Debug, Clone, Copy)]
struct Fault {
    at: usize,
    kind: Option<Kind>,
    answer: Answer,
    for_ever: bool,
    /// The disk is full at the next write: a part of what the call before it was given is in.
    then_full: bool,
}

impl Fault {
    fn none() -> Self {
        Self { at: usize::MAX, kind: None, answer: Answer::Proceed, for_ever: false, then_full: false }
    }

    fn inject(self, seam: &Seam) {
        let mut calls = 0;
        seam.rule(move |role, call| {
            let (at, kind) = (calls, Kind::of(role, call));
            calls += 1;
            let hit = at == self.at || (self.for_ever && at > self.at && self.kind == Some(kind));
            if self.then_full && at == self.at + 1 && kind == Kind::Write {
                return Answer::Fail(ENOSPC);
            }
            if hit { self.answer } else { Answer::Proceed }
        });
    }
}

/// What the calls have promised so far.
#[derive(Default)]
struct Model {
    /// What was accepted, and whether the next one belongs to the same batch.
    records: Vec<(Vec<u8>, bool)>,
    durable: usize,
    /// What was refused because a sync failed: it may be on the disk if the file cannot be cut any more.
    in_doubt: Vec<(Vec<u8>, bool)>,
    poisoned: bool,
    /// A cut was under way when the journal was poisoned: as far as that it may be cut.
    cut_in_doubt: Option<usize>,
    salt: u64,
    held: Vec<(RecordRef, Vec<u8>)>,
    snapshots: Vec<(Snapshot, Vec<Vec<u8>>)>,
}

impl Model {
    fn payload(&mut self, len: usize) -> Vec<u8> {
        self.salt += 1;
        common::payload(self.salt, len)
    }

    fn append(&mut self, journal: &Journal, always: bool, lens: &[usize]) {
        let payloads: Vec<_> = lens.iter().map(|&len| self.payload(len)).collect();
        let last = payloads.len() - 1;
        let appended = match &payloads[..] {
            [one] => journal.append(one),
            batch => journal.append_batch(batch).map(|range| *range.end()),
        };
        let records = payloads.into_iter().enumerate().map(|(at, bytes)| (bytes, at < last));
        match appended {
            Ok(n) => {
                assert!(!self.poisoned, "appended to a poisoned journal");
                self.records.extend(records);
                assert_eq!(n as usize, self.records.len());
                if always {
                    self.durable = self.records.len();
                }
            }
            Err(error) => {
                self.fail(journal, &error);
                if self.poisoned && self.in_doubt.is_empty() {
                    self.in_doubt = records.collect();
                }
            }
        }
        self.look(journal);
    }

    fn fail(&mut self, journal: &Journal, error: &Error) {
        assert!(
            matches!(error, Error::Poisoned { .. } | Error::Io { .. } | Error::ReadersActive { .. }),
            "not a failure of the system: {error}"
        );
        let was = self.poisoned;
        assert!(!was || matches!(error, Error::Poisoned { .. }), "{error} from a poisoned journal");
        // A write whose roll-back failed as well is told as what it was.
        self.poisoned = matches!(journal.reader().status(), ReaderStatus::Poisoned(_));
        assert!(self.poisoned || !matches!(error, Error::Poisoned { .. }), "{error} from a healthy journal");
        if self.poisoned && !was {
            let durable = journal.durable_index() as usize;
            let least = self.cut_in_doubt.unwrap_or(self.durable).min(self.durable);
            assert!(durable >= least, "{durable} durable, {least} were");
            assert!(matches!(journal.sync(), Err(Error::Poisoned { .. })));
            assert!(matches!(journal.append(b"no"), Err(Error::Poisoned { .. })));
            journal.wait_durable(durable as u64).expect("what is durable stays so");
        }
    }

    fn sync(&mut self, journal: &Journal, synced: Result<(), Error>) {
        match synced {
            Ok(()) => {
                assert!(!self.poisoned, "acknowledged by a poisoned journal");
                self.durable = self.records.len();
            }
            Err(error) => self.fail(journal, &error),
        }
        self.look(journal);
    }

    fn truncate(&mut self, journal: &Journal, n: usize) {
        match journal.truncate_back(n as u64) {
            Ok(()) => {
                assert!(!self.poisoned);
                self.records.truncate(n);
                if let Some(last) = self.records.last_mut() {
                    last.1 = false;
                }
                self.durable = n;
            }
            Err(error) => {
                let was = self.poisoned;
                self.cut_in_doubt = if was { self.cut_in_doubt } else { Some(n) };
                self.fail(journal, &error);
                if !self.poisoned {
                    self.cut_in_doubt = None;
                }
            }
        }
        self.look(journal);
    }

    /// What the journal shows is what was promised.
    fn look(&mut self, journal: &Journal) {
        let (committed, durable) = (journal.committed_index(), journal.durable_index());
        assert!(durable <= committed && committed <= journal.last_index());
        if self.poisoned {
            assert_eq!((committed, journal.last_index()), (durable, durable));
        } else {
            assert_eq!(journal.last_index() as usize, self.records.len());
            assert!(durable as usize >= self.durable, "{durable} durable, {} were", self.durable);
        }
        let snapshot = journal.snapshot();
        assert_eq!(snapshot.last_index(), committed);
        for (n, bytes) in snapshot.iter() {
            assert_eq!(bytes, self.records[n as usize - 1].0, "record {n}");
        }
        self.check_held();
    }

    /// Holds on to what is there now.
    fn hold(&mut self, journal: &Journal) {
        let snapshot = journal.snapshot();
        let copy = snapshot.iter().map(|(_, bytes)| bytes.to_vec()).collect();
        let last = snapshot.last_index();
        self.snapshots.push((snapshot, copy));
        if last > 0
            && let Ok(record) = journal.read_ref(last)
        {
            let copy = record.to_vec();
            self.held.push((record, copy));
        }
    }

    fn check_held(&self) {
        for (record, copy) in &self.held {
            assert_eq!(record[..], copy[..], "a record that is held changed");
        }
        for (snapshot, copy) in &self.snapshots {
            assert!(snapshot.iter().map(|(_, bytes)| bytes).eq(copy.iter()), "a snapshot changed");
        }
    }
}

/// Creates, appends, truncates, clears, closes, and opens again what a crash has torn.
fn scenario(
    path: &Path,
    policy: SyncPolicy,
    format: Format,
    fault: Fault,
    seam: &Arc<Seam>,
    model: &mut Model,
) {
    let always = policy == SyncPolicy::Always;
    let mut options = Options::new();
    options.sync_policy(policy).new_file_format(format).buffer_size(4096).quarantine(true).seam(seam.clone());
    let journal = match options.open(path) {
        Ok(journal) => journal,
        Err(Error::Io { .. }) => return,
        Err(error) => panic!("creation: {error}"),
    };
    if format == Format::Sealed && policy != SyncPolicy::OnDemand {
        // So that there are preallocated zeros from the beginning.
        seam.aside(|| common::past_the_first_syncs(&journal));
    }
    model.append(&journal, always, &[40]);
    model.append(&journal, always, &[0]);
    // More than the buffer, so it goes out directly.
    model.append(&journal, always, &[5000]);
    model.append(&journal, always, &[60, 0, 70]);
    let flushed = journal.flush();
    match flushed {
        Ok(()) => {}
        Err(error) => model.fail(&journal, &error),
    }
    model.look(&journal);
    model.hold(&journal);
    let synced = journal.sync();
    model.sync(&journal, synced);
    // If the first two of these get in and are refused, the second must not come back after one as long as the first.
    model.append(&journal, always, &[10, 20, 5000]);
    model.append(&journal, always, &[10]);
    let flushed = journal.flush();
    if let Err(error) = flushed {
        model.fail(&journal, &error);
    }
    image(path, model, fault);
    model.append(&journal, always, &[3000, 4000, 20]);
    let wanted = model.records.len() as u64;
    if !model.poisoned {
        let waited = journal.wait_durable(wanted);
        model.sync(&journal, waited);
    }
    model.hold(&journal);
    if !model.poisoned {
        // Into a batch, if all went well.
        model.truncate(&journal, model.records.len().saturating_sub(2));
    }
    model.append(&journal, always, &[10]);
    model.append(&journal, always, &[11, 12, 13]);
    if !model.poisoned {
        // Into a batch that is staged, but for `Always`.
        model.truncate(&journal, model.records.len().saturating_sub(1));
    }
    model.append(&journal, always, &[14, 15]);
    if !model.poisoned {
        // Exactly what is staged, if anything is.
        model.truncate(&journal, journal.committed_index() as usize);
    }
    model.append(&journal, always, &[16, 17]);
    if !model.poisoned {
        model.truncate(&journal, 0);
    }
    model.append(&journal, always, &[33]);
    model.append(&journal, always, &[34, 35]);
    model.hold(&journal);
    let all = journal.durable_index() as usize;
    model.check_held();
    // What is held keeps the lock.
    let (held, snapshots) = (std::mem::take(&mut model.held), std::mem::take(&mut model.snapshots));
    match journal.close() {
        Ok(()) => {
            assert!(!model.poisoned, "a poisoned journal closed well");
            model.durable = model.records.len();
        }
        Err(_) => assert!(all >= model.durable || model.cut_in_doubt.is_some()),
    }
    (model.held, model.snapshots) = (held, snapshots);
    model.check_held();
    (model.held, model.snapshots) = Default::default();

    // A crash in the midst of an append, if the journal was closed.
    if !model.poisoned && model.durable > 0 && model.durable == model.records.len() {
        let mut file = std::fs::read(path).unwrap();
        // The mark of the end, if there was room for it.
        let end = file.len() - 16;
        if file.ends_with(&common::built::mark(end as u64, end as u64)) {
            file.truncate(end);
        }
        file.extend(common::payload(77, 21));
        std::fs::write(path, file).unwrap();
        let journal = match options.open(path) {
            Ok(journal) => journal,
            Err(Error::Io { .. }) => return,
            Err(error) => panic!("reopen: {error}"),
        };
        model.look(&journal);
        model.append(&journal, always, &[7]);
        // Dropped, not closed.
    }
}

/// Opens a copy of the file as it is now, as if the process had been killed.
fn image(path: &Path, model: &Model, fault: Fault) {
    let copy = path.with_extension("copy");
    std::fs::copy(path, &copy).unwrap();
    reopen(&copy, model, fault);
}

/// Opens without faults: what is there has to fit the model.
fn reopen(path: &Path, model: &Model, fault: Fault) {
    let journal = match Options::new().sync_policy(SyncPolicy::OnDemand).create(false).open(path) {
        Ok(journal) => journal,
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            assert!(model.records.is_empty() && model.durable == 0, "the file is gone");
            return;
        }
        Err(error) => panic!("after the faults: {error}"),
    };
    let found: Vec<_> = (1..=journal.last_index()).map(|n| journal.read(n).unwrap()).collect();
    let mut may_be = model.records.clone();
    if fault.for_ever {
        may_be.extend(model.in_doubt.iter().cloned());
    }
    let least = model.cut_in_doubt.unwrap_or(model.durable).min(model.durable);
    assert!(
        found.len() >= least,
        "{} records are left, {least} were durable of {}, cut in doubt {:?}, poisoned {}",
        found.len(),
        model.records.len(),
        model.cut_in_doubt,
        model.poisoned
    );
    assert!(found.len() <= may_be.len(), "{} records, {} were accepted", found.len(), may_be.len());
    for (at, (found, (expected, _))) in found.iter().zip(&may_be).enumerate() {
        assert_eq!(found, expected, "record {}", at + 1);
    }
    let splits = found.len().checked_sub(1).is_some_and(|last| may_be[last].1);
    if splits && journal.format() == Format::Sealed {
        assert_eq!(model.cut_in_doubt, Some(found.len()), "a batch is split after record {}", found.len());
    }
    journal.append(b"and on").unwrap();
    journal.close().unwrap();
}

fn sweep(policy: SyncPolicy, format: Format) {
    let dir = common::fast_dir();
    let mut runs = 0;
    let mut run = |fault: Fault| {
        let seam = Seam::new();
        fault.inject(&seam);
        runs += 1;
        let path = dir.path().join(format!("j{runs}"));
        let what = format!(
            "{policy:?} {format:?}: call {} ({:?}) answered {:?}, for ever: {}, then full: {}",
            fault.at, fault.kind, fault.answer, fault.for_ever, fault.then_full
        );
        let done = std::panic::catch_unwind(|| {
            let mut model = Model::default();
            scenario(&path, policy, format, fault, &seam, &mut model);
            reopen(&path, &model, fault);
        });
        if done.is_err() {
            panic!("{what}; the file is {} bytes long", std::fs::metadata(&path).map_or(0, |m| m.len()));
        }
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        seam.take()
    };
    let calls: Vec<_> = run(Fault::none()).iter().map(|seen| Kind::of(seen.role, &seen.call)).collect();
    for kind in [Kind::Write, Kind::Sync, Kind::SyncDirectory, Kind::Truncate, Kind::Map, Kind::Preserve] {
        assert!(calls.contains(&kind), "the scenario has no {kind:?}");
    }
    let has_zeros = format == Format::Sealed && policy != SyncPolicy::OnDemand;
    assert_eq!(calls.contains(&Kind::Extend), has_zeros, "zeros under {policy:?}");
    for (at, &kind) in calls.iter().enumerate() {
        if kind == Kind::Write {
            for answer in [Answer::Short(30), Answer::Short(700)] {
                run(Fault { at, kind: Some(kind), answer, then_full: true, ..Fault::none() });
            }
        }
        for &answer in kind.faults() {
            for for_ever in [false, true] {
                // A call that is interrupted for ever is tried for ever.
                if !(for_ever && answer == Answer::Fail(EINTR)) {
                    run(Fault { at, kind: Some(kind), answer, for_ever, ..Fault::none() });
                }
            }
        }
    }
    println!("{policy:?} {format:?}: {} calls, {runs} runs", calls.len());
}

#[test]
fn a_fault_at_every_call_under_always() {
    sweep(SyncPolicy::Always, Format::Sealed);
}

#[test]
fn a_fault_at_every_call_under_interval() {
    // The background thread stays out of it, so that the calls are the same each time.
    sweep(SyncPolicy::Interval(Duration::from_secs(1 << 20)), Format::Sealed);
}

#[test]
fn a_fault_at_every_call_on_demand() {
    sweep(SyncPolicy::OnDemand, Format::Sealed);
}

#[test]
fn a_fault_at_every_call_in_the_reference_format_under_always() {
    sweep(SyncPolicy::Always, Format::Reference);
}

#[test]
fn a_fault_at_every_call_in_the_reference_format_under_interval() {
    sweep(SyncPolicy::Interval(Duration::from_secs(1 << 20)), Format::Reference);
}

#[test]
fn a_fault_at_every_call_in_the_reference_format_on_demand() {
    sweep(SyncPolicy::OnDemand, Format::Reference);
}
