//! A sequence of operations against the plainest model there is, a vector of payloads; with snapshots held across it,
//! and with copies of the file opened as a crash would leave them.

use std::fs;
use std::io::IoSlice;
use std::path::Path;
use std::time::Duration;

use wally::{
    Batch, Error, Format, IndexMode, Journal, Options, Reader, ReaderStatus, RecordRef, Recovery, Snapshot,
    SyncPolicy,
};

use super::input::Input;

/// More operations than this say nothing new.
const STEPS: usize = 300;

/// The longest payload where a limit is set.
const LIMIT: u64 = 300;

#[derive(Clone)]
struct Record {
    payload: Vec<u8>,
    continued: bool,
}

struct Run<'a> {
    path: &'a Path,
    options: Options,
    policy: SyncPolicy,
    format: Format,
    limit: u64,
    model: Vec<Record>,
    /// At least so many are durable.
    durable: usize,
    snapshots: Vec<(Snapshot, Vec<Record>)>,
    lent: Vec<(RecordRef, Vec<u8>)>,
    reader: Option<Reader>,
}

/// The first three bytes choose the options, the rest the operations.
pub fn run(bytes: &[u8], folder: &Path) {
    let mut input = Input(bytes);
    let path = folder.join("journal");
    let policy = match input.byte() % 8 {
        0 | 1 => SyncPolicy::Always,
        2 => SyncPolicy::Interval(Duration::from_millis(1)),
        _ => SyncPolicy::OnDemand,
    };
    let format = if input.byte() % 4 == 0 { Format::Reference } else { Format::Sealed };
    let shape = input.byte();
    let index = match shape % 5 {
        0 => IndexMode::Full,
        1 => IndexMode::Sparse(0),
        2 => IndexMode::Sparse(3),
        3 => IndexMode::Sparse(64),
        _ => IndexMode::Scan,
    };
    let limit = if shape / 5 % 4 == 0 { LIMIT } else { u64::MAX };
    let mut options = Options::new();
    options
        .sync_policy(policy)
        .new_file_format(format)
        .index(index)
        .max_record_len(limit)
        .recovery_policy(Recovery::Strict);
    options.buffer_size([0, 4096, 5000, 256 << 10][usize::from(shape / 20 % 4)]).quarantine(shape / 80 == 1);
    let mut journal = options.open(&path).unwrap();
    let mut run = Run {
        path: &path,
        options,
        policy,
        format,
        limit,
        model: Vec::new(),
        durable: 0,
        snapshots: Vec::new(),
        lent: Vec::new(),
        reader: None,
    };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        journal = run.step(journal, &mut input);
        run.watermarks(&journal);
    }
    run.tell_apart(&journal);
    run.all(&journal);
    run.held();
    let (model, options) = (run.model.clone(), run.options.clone());
    drop(run);
    journal.close().unwrap();
    let journal = options.open(&path).unwrap();
    assert_eq!(journal.last_index(), model.len() as u64);
    for entry in fs::read_dir(folder).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

impl Run<'_> {
    fn step(&mut self, journal: Journal, input: &mut Input<'_>) -> Journal {
        let last = self.model.len() as u64;
        match input.byte() % 32 {
            0..=5 => {
                let payload = input.payload();
                self.appended(std::slice::from_ref(&payload), journal.append(&payload).map(|n| n..=n));
            }
            6 | 7 => {
                let (head, body, tail) = (input.payload(), input.payload(), input.payload());
                let parts =
                    [IoSlice::new(&head), IoSlice::new(&body), IoSlice::new(&[]), IoSlice::new(&tail)];
                let done = journal.append_vectored(&parts);
                self.appended(&[[&head[..], &body, &tail].concat()], done.map(|n| n..=n));
            }
            8..=10 => {
                let batch = self.batch(input);
                self.appended(&batch, journal.append_batch(&batch));
            }
            11 => {
                let batch = self.batch(input);
                let mut built = Batch::new();
                batch.iter().for_each(|payload| built.push(payload));
                let done = journal.write_batch(&built);
                assert_eq!(built.len(), batch.len());
                self.appended(&batch, done);
            }
            12 => {
                journal.flush().unwrap();
                assert_eq!(journal.committed_index(), last);
            }
            13 => {
                journal.sync().unwrap();
                self.durable = self.model.len();
                assert_eq!(journal.durable_index(), last);
            }
            14 => {
                let n = input.u16() as u64 % (last + 3);
                match journal.wait_durable(n) {
                    Ok(()) => self.durable = self.durable.max(n.try_into().unwrap()),
                    Err(Error::OutOfRange { .. }) => assert!(n > last),
                    Err(error) => panic!("{error}"),
                }
                assert!(n > last || journal.durable_index() >= n);
            }
            15..=17 => self.read(&journal, input.u16() as u64 % (last + 3)),
            18 => {
                if last > 0 && self.lent.len() < 8 {
                    let n = 1 + input.u16() as u64 % last;
                    let expected = self.model[n as usize - 1].payload.clone();
                    self.lent.push((journal.read_ref(n).unwrap(), expected));
                }
            }
            19 | 20 => {
                // Under an interval the background thread may commit between any two of these looks.
                let before = journal.committed_index();
                let snapshot = journal.snapshot();
                assert!((before..=journal.committed_index()).contains(&snapshot.last_index()));
                let expected = self.model[..snapshot.len() as usize].to_vec();
                if self.snapshots.len() == 4 {
                    let oldest = self.snapshots.remove(0);
                    same(&oldest.0, &oldest.1);
                }
                self.snapshots.push((snapshot, expected));
            }
            21 => self.held(),
            22 => {
                self.snapshots.clear();
                self.lent.clear();
            }
            23 => {
                let committed = journal.committed_index();
                let reader = self.reader.get_or_insert_with(|| journal.reader());
                for _ in 0..input.byte() % 6 {
                    let n = input.u16() as u64 % (last + 3);
                    let expected = n.checked_sub(1).and_then(|at| self.model.get(at as usize));
                    let found = reader.get(n);
                    match expected.filter(|_| n <= committed) {
                        Some(record) => assert!(found == Some(&record.payload[..]), "record {n} of a reader"),
                        // In the background it may have been committed meanwhile.
                        None => {
                            assert!(found.is_none_or(|found| expected.is_some_and(|r| r.payload == found)))
                        }
                    }
                }
                assert!(matches!(reader.status(), ReaderStatus::Open));
                if input.byte().is_multiple_of(4) {
                    reader.release();
                }
            }
            24..=26 => {
                let n = match input.byte() {
                    0..=39 => 0,
                    40..=149 => last.saturating_sub(input.byte() as u64 % 8),
                    _ => input.u16() as u64 % (last + 2),
                };
                match journal.truncate_back(n) {
                    Ok(()) => {
                        self.model.truncate(n as usize);
                        if let Some(record) = self.model.last_mut() {
                            record.continued = false;
                        }
                        self.durable = self.model.len();
                        assert_eq!((journal.last_index(), journal.durable_index()), (n, n));
                    }
                    Err(Error::OutOfRange { .. }) => assert!(n > last),
                    Err(error) => panic!("{error}"),
                }
            }
            27 => self.crash(&journal, usize::MAX),
            28 => self.crash(&journal, input.u16()),
            29 | 30 => return self.reopen(journal, input),
            _ => self.all(&journal),
        }
        journal
    }

    fn batch(&self, input: &mut Input<'_>) -> Vec<Vec<u8>> {
        (0..input.byte() % 9).map(|_| input.payload()).collect()
    }

    fn appended(&mut self, payloads: &[Vec<u8>], done: wally::Result<std::ops::RangeInclusive<u64>>) {
        if payloads.iter().any(|payload| payload.len() as u64 > self.limit) {
            assert!(matches!(done, Err(Error::RecordTooLarge { .. })), "{done:?}");
            return;
        }
        let (next, count) = (self.model.len() as u64 + 1, payloads.len());
        let range = done.unwrap();
        assert_eq!((*range.start(), range.end() + 1), (next, next + count as u64));
        self.model.extend(payloads.iter().enumerate().map(|(at, payload)| Record {
            payload: payload.clone(),
            continued: at + 1 < count && self.format == Format::Sealed,
        }));
        if self.policy == SyncPolicy::Always {
            self.durable = self.model.len();
        }
    }

    /// One record, every way it is read.
    fn read(&self, journal: &Journal, n: u64) {
        let expected = n.checked_sub(1).and_then(|at| self.model.get(at as usize));
        let mut buffer = vec![9; 9];
        let into = journal.read_into(n, &mut buffer);
        let Some(Record { payload, .. }) = expected else {
            let last = self.model.len() as u64;
            for error in
                [into.unwrap_err(), journal.read_ref(n).unwrap_err(), journal.data_range(n).unwrap_err()]
            {
                let Error::OutOfRange { index, first: 1, last: told, .. } = error else { panic!("{error}") };
                assert_eq!((index, told), (n, last));
            }
            return;
        };
        into.unwrap();
        assert!(buffer == *payload && journal.read(n).unwrap() == *payload, "record {n}");
        let record = journal.read_ref(n).unwrap();
        assert!(record[..] == payload[..] && record.verify().is_ok() && record.index() == n, "record {n}");
        let start = self.end(n as usize - 1) as u64 + 16;
        assert_eq!(journal.data_range(n).unwrap(), start..start + payload.len() as u64);
    }

    /// Where the first `n` records end in the file.
    fn end(&self, n: usize) -> usize {
        self.model[..n].iter().map(|record| 16 + record.payload.len()).sum()
    }

    /// Appends what tells a journal from zeros, if nothing does.
    fn tell_apart(&mut self, journal: &Journal) {
        if self.nothing_but_zeros(self.model.len()) && self.end(self.model.len()) > 4096 {
            self.appended(&[b"no zeros".to_vec()], journal.append(b"no zeros").map(|n| n..=n));
        }
    }

    /// Whether the first `n` records cannot be told from zeros.
    fn nothing_but_zeros(&self, n: usize) -> bool {
        self.format == Format::Reference && self.model[..n].iter().all(|record| record.payload.is_empty())
    }

    fn all(&self, journal: &Journal) {
        for n in 0..=self.model.len() as u64 + 1 {
            self.read(journal, n);
        }
    }

    fn held(&self) {
        for (snapshot, expected) in &self.snapshots {
            same(snapshot, expected);
        }
        for (record, expected) in &self.lent {
            assert!(record[..] == expected[..] && record.verify().is_ok());
        }
    }

    fn watermarks(&self, journal: &Journal) {
        let (durable, committed) = (journal.durable_index(), journal.committed_index());
        let last = journal.last_index();
        assert_eq!((journal.first_index(), last), (1, self.model.len() as u64));
        assert_eq!(journal.is_empty(), self.model.is_empty());
        assert!(self.durable as u64 <= durable && durable <= committed && committed <= last);
        assert_eq!(journal.format(), self.format);
        for n in [durable, committed] {
            assert!(n == 0 || !self.model[n as usize - 1].continued, "a watermark within a batch");
        }
    }

    /// Opens the file as it is now, or its beginning, elsewhere: a prefix, batches whole.
    fn crash(&self, journal: &Journal, cut: usize) {
        let copy = self.path.with_extension("copy");
        let before = journal.committed_index() as usize;
        let mut file = fs::read(self.path).unwrap();
        let after = journal.committed_index() as usize;
        let torn = cut != usize::MAX;
        if torn {
            file.truncate(16 + cut % (file.len() + 1));
        }
        fs::write(&copy, &file).unwrap();
        let opened =
            Options::new().new_file_format(self.format).sync_policy(SyncPolicy::OnDemand).open(&copy);
        let whole = |most: usize| {
            let fits = (0..=most)
                .rev()
                .find(|&n| self.end(n) <= file.len() && (n == 0 || !self.model[n - 1].continued));
            fits.unwrap()
        };
        let count = match opened {
            Ok(journal) => {
                let count = journal.last_index() as usize;
                for (n, record) in (1..).zip(&self.model[..count.min(self.model.len())]) {
                    assert!(journal.read(n).unwrap() == record.payload, "record {n} after a crash");
                }
                count
            }
            // In that format empty records are zeros: alone they say nothing, with anything torn after them or too
            // many of them.
            Err(Error::NotAJournal { .. })
                if self.nothing_but_zeros(whole(after)) && (torn || file.len() > 4096) =>
            {
                return;
            }
            Err(error) => panic!("after a crash: {error}"),
        };
        let (least, most) = (whole(before), whole(after));
        assert!(least <= count && count <= most, "{count} records after a crash, not {least} to {most}");
        assert!(
            torn || count >= self.durable,
            "{count} records after a crash, {} were durable",
            self.durable
        );
        for entry in fs::read_dir(self.path.parent().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            if path != self.path {
                fs::remove_file(path).unwrap();
            }
        }
    }

    fn reopen(&mut self, journal: Journal, input: &mut Input<'_>) -> Journal {
        self.tell_apart(&journal);
        match input.byte() % 2 {
            0 => journal.close().unwrap(),
            _ => drop(journal),
        }
        self.durable = self.model.len();
        if !self.snapshots.is_empty() || !self.lent.is_empty() {
            assert!(matches!(self.options.open(self.path), Err(Error::Locked { .. })), "open with readers");
            self.held();
        }
        if let Some(reader) = &mut self.reader {
            for (n, record) in (1..).zip(&self.model) {
                assert!(reader.get(n) == Some(&record.payload[..]), "record {n} of a reader after the close");
            }
            assert!(matches!(reader.status(), ReaderStatus::Closed));
        }
        self.reader = None;
        self.snapshots.clear();
        self.lent.clear();
        let journal = self.options.open(self.path).unwrap();
        assert_eq!(journal.recovery().records, self.model.len() as u64);
        journal
    }
}

fn same(snapshot: &Snapshot, expected: &[Record]) {
    assert_eq!(snapshot.len(), expected.len() as u64);
    let forward = snapshot.iter().map(|(_, payload)| payload);
    assert!(forward.eq(expected.iter().map(|record| &record.payload[..])), "a snapshot has changed");
    let backward = snapshot.iter().rev().map(|(_, payload)| payload);
    assert!(backward.eq(expected.iter().rev().map(|record| &record.payload[..])), "a snapshot backwards");
}
