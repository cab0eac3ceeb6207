//! A journal against a plain list of payloads: sequences of everything that one thread can do, in both formats, all
//! index modes and two policies, with crashes and reopenings in between. `PROPTEST_CASES` sets how many.

use crate::common;

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use common::content::{assert_snapshot_holds, found_in_copy, payload};
use proptest::collection::vec;
use proptest::prelude::*;
use wally::{
    Batch, Error, Format, IndexMode, Journal, Options, Reader, ReaderStatus, RecordRef, Snapshot, SyncPolicy,
};

/// One step. Places are parts of what there is when the step is taken, in 65536ths, so that they stay in range
/// while a failing case is made smaller.
#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    AppendVectored(Vec<usize>),
    AppendBatch(Vec<usize>),
    WriteBatch(Vec<usize>),
    Read(u16),
    ReadPastTheEnd(u64),
    ReadAll,
    Follow,
    TakeSnapshot,
    TakeRecord(u16),
    Range(u16, u16, Vec<bool>),
    Flush,
    Sync,
    WaitDurable(u16),
    TruncateBack(u16),
    TruncatePastTheEnd(u64),
    Clear,
    Close,
    Drop,
    Crash,
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0usize..80, 3 => 80usize..1500, 1 => 3900usize..9000]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => length().prop_map(Step::Append),
        2 => vec(length(), 0..5).prop_map(Step::AppendVectored),
        4 => vec(length(), 0..8).prop_map(Step::AppendBatch),
        3 => vec(length(), 0..8).prop_map(Step::WriteBatch),
        4 => any::<u16>().prop_map(Step::Read),
        1 => (1u64..9).prop_map(Step::ReadPastTheEnd),
        1 => Just(Step::ReadAll),
        3 => Just(Step::Follow),
        3 => Just(Step::TakeSnapshot),
        3 => any::<u16>().prop_map(Step::TakeRecord),
        2 => (any::<u16>(), any::<u16>(), vec(any::<bool>(), 12)).prop_map(|(a, b, c)| Step::Range(a, b, c)),
        3 => Just(Step::Flush),
        2 => Just(Step::Sync),
        2 => any::<u16>().prop_map(Step::WaitDurable),
        5 => any::<u16>().prop_map(Step::TruncateBack),
        1 => (1u64..9).prop_map(Step::TruncatePastTheEnd),
        1 => Just(Step::Clear),
        2 => Just(Step::Close),
        1 => Just(Step::Drop),
        2 => Just(Step::Crash),
    ]
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    mode: IndexMode,
    format: Format,
    policy: SyncPolicy,
    buffer: usize,
    preallocate: u64,
}

impl Settings {
    fn options(self) -> Options {
        let Self { mode, format, policy, buffer, preallocate } = self;
        Options::new()
            .index(mode)
            .new_file_format(format)
            .sync_policy(policy)
            .buffer_size(buffer)
            .preallocate(preallocate)
            .clone()
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    let mode = prop_oneof![
        3 => Just(IndexMode::Full),
        2 => (0u32..6).prop_map(IndexMode::Sparse),
        1 => Just(IndexMode::sparse()),
        2 => Just(IndexMode::Scan),
    ];
    let format = prop_oneof![3 => Just(Format::Sealed), 1 => Just(Format::Reference)];
    let policy = prop_oneof![3 => Just(SyncPolicy::OnDemand), 1 => Just(SyncPolicy::Always)];
    let buffer = prop_oneof![Just(0), Just(4096), Just(5000), Just(1 << 20)];
    let preallocate = prop_oneof![Just(0), Just(300), Just(1 << 20)];
    (mode, format, policy, buffer, preallocate).prop_map(|(mode, format, policy, buffer, preallocate)| {
        Settings { mode, format, policy, buffer, preallocate }
    })
}

/// The journal, and what it should hold.
struct Model {
    settings: Settings,
    path: PathBuf,
    journal: Journal,
    reader: Reader,
    records: Vec<Vec<u8>>,
    /// Records that end a batch or are one by themselves: committed and durable stop only there.
    whole: Vec<u64>,
    durable: u64,
    snapshots: Vec<(Snapshot, Vec<Vec<u8>>)>,
    refs: Vec<(RecordRef, Vec<u8>)>,
    /// Names payloads apart that have the same index and length.
    appends: u64,
}

impl Model {
    fn new(settings: Settings, path: &Path) -> Self {
        let journal = settings.options().open(path).unwrap();
        assert_eq!(journal.format(), settings.format);
        Self {
            settings,
            path: path.to_owned(),
            reader: journal.reader(),
            journal,
            records: Vec::new(),
            whole: vec![0],
            durable: 0,
            snapshots: Vec::new(),
            refs: Vec::new(),
            appends: 0,
        }
    }

    fn last(&self) -> u64 {
        self.records.len() as u64
    }

    /// A record's index; `None` if there is no record.
    fn pick(&self, place: u16) -> Option<u64> {
        (self.last() > 0).then(|| 1 + self.last() * u64::from(place) / 65536)
    }

    fn record(&self, n: u64) -> &Vec<u8> {
        &self.records[n as usize - 1]
    }

    fn make(&mut self, at: usize, len: usize) -> Vec<u8> {
        self.appends += 1;
        payload(self.appends, self.last() + 1 + at as u64, len)
    }

    /// Takes note of records that were appended as one.
    fn appended(&mut self, records: Vec<Vec<u8>>) {
        self.records.extend(records);
        if self.last() > *self.whole.last().unwrap() {
            self.whole.push(self.last());
        }
        if self.settings.policy == SyncPolicy::Always {
            self.durable = self.last();
        }
    }

    fn cut(&mut self, n: u64) {
        self.records.truncate(n as usize);
        self.whole.retain(|&whole| whole <= n);
        if self.whole.last() != Some(&n) {
            self.whole.push(n);
        }
        self.durable = n;
    }

    fn batch_of(&mut self, lens: &[usize]) -> Vec<Vec<u8>> {
        lens.iter().enumerate().map(|(at, &len)| self.make(at, len)).collect()
    }

    /// What holds after every step.
    fn check(&mut self) {
        let journal = &self.journal;
        assert_eq!((journal.first_index(), journal.last_index()), (1, self.last()));
        assert_eq!(journal.is_empty(), self.records.is_empty());
        let (committed, durable) = (journal.committed_index(), journal.durable_index());
        assert!(durable <= committed && committed <= self.last());
        assert!(self.durable <= durable, "{} was made durable, but only {durable} is", self.durable);
        self.durable = durable;
        if self.settings.format == Format::Sealed {
            assert!(self.whole.contains(&committed), "committed stops inside a batch, at {committed}");
            assert!(self.whole.contains(&durable), "durable stops inside a batch, at {durable}");
        }
        assert_eq!(self.reader.last_index(), committed);
        assert_eq!(self.reader.get(committed + 1), None);
        if committed > 0 {
            assert!(self.reader.get(committed) == Some(&self.records[committed as usize - 1]));
        }
        let stats = self.journal.stats();
        assert_eq!((stats.appended_index, stats.committed_index), (self.last(), committed));
        let bytes = |n: u64| self.records[..n as usize].iter().map(|r| r.len() as u64 + 16).sum::<u64>();
        assert_eq!((stats.appended_bytes, stats.committed_bytes), (bytes(self.last()), bytes(committed)));
        assert_eq!(stats.durable_bytes, bytes(durable));
    }

    fn check_held(&self) {
        for (snapshot, records) in &self.snapshots {
            assert_snapshot_holds(snapshot, records);
        }
        for (record, payload) in &self.refs {
            assert!(record[..] == payload[..], "record {}", record.index());
            record.verify().unwrap();
        }
    }

    /// Opens the journal again. `end` ends the one there is.
    fn reopen(&mut self, end: impl FnOnce(Journal)) {
        // Something to hold the place meanwhile.
        let dir = common::fast_dir();
        let other = Options::new().sync_policy(SyncPolicy::OnDemand).open(dir.path().join("other")).unwrap();
        let closed = self.last();
        end(std::mem::replace(&mut self.journal, other));
        assert!(matches!(self.reader.status(), ReaderStatus::Closed));
        assert_eq!(self.reader.last_index(), closed, "all that was appended is committed");
        let again = self.settings.options().open(&self.path);
        assert!(matches!(again, Err(Error::Locked { .. })), "the reader still holds its view");
        self.check_held();
        self.snapshots.clear();
        self.refs.clear();
        self.reader.release();
        // The options ask for a format, but the file has one, unless nothing but zeros is in it.
        let mut options = self.settings.options();
        if self.records.iter().any(|record| !record.is_empty()) {
            options.new_file_format(match self.settings.format {
                Format::Sealed => Format::Reference,
                _ => Format::Sealed,
            });
        }
        self.reader = self.journal.reader();
        self.journal = options.open(&self.path).unwrap();
        self.reader = self.journal.reader();
        assert_eq!(self.journal.recovery().records, self.last());
        assert_eq!(self.journal.format(), self.settings.format);
        self.durable = self.last();
        self.whole.push(self.last());
        self.read_all();
    }

    fn read_all(&mut self) {
        let mut buf = Vec::new();
        for (n, payload) in (1..).zip(&self.records) {
            self.journal.read_into(n, &mut buf).unwrap();
            assert!(buf == *payload, "record {n}");
        }
        assert_eq!(self.journal.committed_index(), self.last());
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append(len) => {
                let record = self.make(0, len);
                assert_eq!(self.journal.append(&record).unwrap(), self.last() + 1);
                self.appended(vec![record]);
            }
            Step::AppendVectored(lens) => {
                let record = self.make(0, lens.iter().sum());
                let mut rest = &record[..];
                let mut parts = Vec::new();
                for len in lens {
                    let (part, later) = rest.split_at(len);
                    parts.push(IoSlice::new(part));
                    rest = later;
                }
                assert_eq!(self.journal.append_vectored(&parts).unwrap(), self.last() + 1);
                self.appended(vec![record]);
            }
            Step::AppendBatch(lens) => {
                let records = self.batch_of(&lens);
                let range = self.journal.append_batch(&records).unwrap();
                assert_eq!(range, self.last() + 1..=self.last() + records.len() as u64);
                self.appended(records);
            }
            Step::WriteBatch(lens) => {
                let records = self.batch_of(&lens);
                let mut batch = Batch::new();
                records.iter().for_each(|record| batch.push(record));
                let range = self.journal.write_batch(&batch).unwrap();
                assert_eq!(range, self.last() + 1..=self.last() + records.len() as u64);
                self.appended(records);
            }
            Step::Read(place) => {
                if let Some(n) = self.pick(place) {
                    assert!(self.journal.read(n).unwrap() == *self.record(n), "record {n}");
                    assert!(self.journal.committed_index() >= n);
                }
            }
            Step::ReadPastTheEnd(by) => {
                for n in [0, self.last() + by, u64::MAX - by] {
                    let error = self.journal.read(n).unwrap_err();
                    let last = self.last();
                    assert!(
                        matches!(error, Error::OutOfRange { index, first: 1, last: l, .. } if index == n && l == last),
                        "{error}"
                    );
                    assert!(self.journal.read_ref(n).is_err());
                }
            }
            Step::ReadAll => self.read_all(),
            Step::Follow => {
                let committed = self.journal.committed_index();
                for n in 1..=committed {
                    assert!(self.reader.get(n) == Some(&self.records[n as usize - 1]), "record {n}");
                }
            }
            Step::TakeSnapshot => {
                let committed = self.journal.committed_index() as usize;
                self.snapshots.push((self.journal.snapshot(), self.records[..committed].to_vec()));
            }
            Step::TakeRecord(place) => {
                if let Some(n) = self.pick(place) {
                    self.refs.push((self.journal.read_ref(n).unwrap(), self.record(n).clone()));
                }
            }
            Step::Range(a, b, ends) => {
                let snapshot = self.journal.snapshot();
                let last = snapshot.last_index();
                let [from, to] = [a, b].map(|place| (last + 3) * u64::from(place) / 65536);
                let mut expected: std::collections::VecDeque<_> =
                    (from.max(1)..=to.min(last)).map(|n| (n, &self.record(n)[..])).collect();
                let mut range = snapshot.range(from..=to);
                for front in ends {
                    assert_eq!(range.len(), expected.len());
                    match front {
                        true => assert!(range.next() == expected.pop_front()),
                        false => assert!(range.next_back() == expected.pop_back()),
                    }
                }
                assert!(range.eq(expected));
            }
            Step::Flush => {
                self.journal.flush().unwrap();
                assert_eq!(self.journal.committed_index(), self.last());
            }
            Step::Sync => {
                self.journal.sync().unwrap();
                self.durable = self.last();
            }
            Step::WaitDurable(place) => {
                let n = self.pick(place).unwrap_or(0);
                self.journal.wait_durable(n).unwrap();
                self.durable = self.durable.max(n);
                let past = self.journal.wait_durable(self.last() + 1).unwrap_err();
                assert!(matches!(past, Error::OutOfRange { .. }), "{past}");
            }
            Step::TruncateBack(place) => {
                let n = (self.last() + 1) * u64::from(place) / 65536;
                self.journal.truncate_back(n).unwrap();
                self.cut(n);
                assert_eq!(self.journal.durable_index(), n);
            }
            Step::TruncatePastTheEnd(by) => {
                let error = self.journal.truncate_back(self.last() + by).unwrap_err();
                assert!(matches!(error, Error::OutOfRange { .. }), "{error}");
            }
            Step::Clear => {
                self.journal.truncate_back(0).unwrap();
                self.cut(0);
            }
            Step::Close => self.reopen(|journal| journal.close().unwrap()),
            Step::Drop => self.reopen(drop),
            Step::Crash => {
                let committed = self.journal.committed_index() as usize;
                let found = found_in_copy(&self.settings.options(), &self.path);
                assert!(found == self.records[..committed], "{} found, {committed} committed", found.len());
            }
        }
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_behaves_like_a_list_of_payloads(
        settings in settings(),
        steps in vec(step(), 1..40),
    ) {
        let dir = common::fast_dir();
        let mut model = Model::new(settings, &dir.path().join("j"));
        for step in steps {
            model.take(step);
        }
        model.check_held();
        model.reopen(|journal| journal.close().unwrap());
    }
}
