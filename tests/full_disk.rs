//! No room for real: a limit on the file's size, and a small file system that fills up.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{payload, place};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wally::{Error, Journal, Options, Recovery, SyncPolicy, Verdict};

const EFBIG: i32 = 27;
const ENOSPC: i32 = 28;
const POLICIES: [SyncPolicy; 2] = [SyncPolicy::Always, SyncPolicy::OnDemand];

fn options(policy: SyncPolicy) -> Options {
    let mut options = Options::new();
    options.sync(policy).buffer_size(4096);
    options
}

fn code(error: &Error) -> Option<i32> {
    match error {
        Error::Io { source, .. } => source.raw_os_error(),
        _ => None,
    }
}

/// Appends records of many sizes until some were refused with `expected`; what was not refused.
fn fill(journal: &Journal, expected: i32) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut refused = 0;
    for salt in 0.. {
        let bytes = payload(salt, [900, 10, 3000, 0, 6000][salt as usize % 5]);
        match journal.append(&bytes) {
            Ok(n) => {
                records.push(bytes);
                assert_eq!(n, records.len() as u64);
            }
            Err(error) => {
                assert_eq!(code(&error), Some(expected), "{error}");
                refused += 1;
            }
        }
        assert_eq!(journal.last_index(), records.len() as u64);
        if refused == 20 {
            break;
        }
    }
    records
}

fn assert_reads(journal: &Journal, records: &[Vec<u8>]) {
    assert_eq!(journal.last_index(), records.len() as u64);
    for (n, bytes) in (1..).zip(records) {
        assert!(journal.read(n).unwrap() == *bytes, "record {n}");
    }
}

/// Fills, checks, makes room, goes on, closes and opens again.
fn fill_and_go_on(path: &Path, policy: SyncPolicy, expected: i32, make_room: impl FnOnce(&Journal)) {
    let journal = options(policy).open(path).unwrap();
    let mut records = fill(&journal, expected);
    let committed = journal.committed_index();
    assert!(committed > 3);
    for n in 1..=committed {
        assert!(journal.read(n).unwrap() == records[n as usize - 1], "record {n}");
    }
    let (len, end) = (std::fs::metadata(path).unwrap().len(), journal.stats().committed_bytes);
    assert!((end..=end + 16).contains(&len), "the records, and a mark if there was room: {len} {end}");
    if policy == SyncPolicy::Always {
        assert_eq!(journal.durable_index(), journal.last_index());
    }
    make_room(&journal);
    records.truncate(journal.last_index() as usize);
    for salt in 0..5 {
        records.push(payload(1000 + salt, 6000));
        assert_eq!(journal.append(&records[records.len() - 1]).unwrap(), records.len() as u64);
    }
    assert_reads(&journal, &records);
    journal.close().unwrap();
    assert_reads(&options(policy).open(path).unwrap(), &records);
}

/// Runs the test `name` in a process that does not die of the signal that a limit on the file's size brings.
fn without_the_signal(name: &str) {
    let output = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("WALLY_TEST_CHILD", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("done in a process of its own"), "{output:?}");
}

fn limit_file_size(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

#[test]
fn a_limit_on_the_file_size_refuses_appends_until_it_is_raised() {
    if std::env::var_os("WALLY_TEST_CHILD").is_none() {
        return without_the_signal("a_limit_on_the_file_size_refuses_appends_until_it_is_raised");
    }
    for policy in POLICIES {
        // Ends within a record, and within a header.
        for limit in [60_000, 39_017] {
            let (_dir, path) = place();
            limit_file_size(Some(limit));
            fill_and_go_on(&path, policy, EFBIG, |journal| {
                assert!(std::fs::metadata(journal.path()).unwrap().len() <= limit);
                limit_file_size(None);
            });
        }
    }
    println!("done in a process of its own");
}

#[test]
fn under_a_limit_on_the_file_size_no_zeros_are_written_ahead() {
    if std::env::var_os("WALLY_TEST_CHILD").is_none() {
        return without_the_signal("under_a_limit_on_the_file_size_no_zeros_are_written_ahead");
    }
    let (_dir, path) = place();
    limit_file_size(Some(1 << 30));
    let journal = options(SyncPolicy::Always).room_ahead(4096).open(&path).unwrap();
    common::past_the_first_syncs(&journal);
    for salt in 0..100 {
        journal.append(&payload(salt, 84)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), journal.stats().committed_bytes);
    }
    limit_file_size(None);
    for salt in 0..100 {
        journal.append(&payload(salt, 84)).unwrap();
    }
    assert!(std::fs::metadata(&path).unwrap().len() > journal.stats().committed_bytes, "the limit is gone");
    println!("done in a process of its own");
}

#[test]
fn truncating_makes_room_below_a_limit_on_the_file_size() {
    if std::env::var_os("WALLY_TEST_CHILD").is_none() {
        return without_the_signal("truncating_makes_room_below_a_limit_on_the_file_size");
    }
    for policy in POLICIES {
        let (_dir, path) = place();
        limit_file_size(Some(60_000));
        let journal = options(policy).open(&path).unwrap();
        let mut records = fill(&journal, EFBIG);
        // What is staged has been acknowledged, so it has to get in before anything is cut.
        if journal.committed_index() < journal.last_index() {
            assert_eq!(code(&journal.truncate_back(3).unwrap_err()), Some(EFBIG));
            limit_file_size(Some(journal.stats().appended_bytes));
        }
        records.truncate(3);
        journal.truncate_back(3).unwrap();
        records.push(payload(7, 20_000));
        assert_eq!(journal.append(&records[3]).unwrap(), 4);
        assert_reads(&journal, &records);
        journal.close().unwrap();
        assert_reads(&options(policy).open(&path).unwrap(), &records);
        limit_file_size(None);
    }
    println!("done in a process of its own");
}

/// A file system in memory of 256 KiB, gone when this is dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
        let mounted = rustix::process::geteuid().is_root()
            && Command::new("mount")
                .args(mount)
                .arg(dir.path())
                .output()
                .is_ok_and(|out| out.status.success());
        if !mounted {
            println!("skipped: no right to mount");
        }
        mounted.then_some(Self(dir))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room() {
    for policy in POLICIES {
        let Some(mounted) = Mounted::new() else { return };
        std::fs::write(mounted.path("other"), vec![1; 100 << 10]).unwrap();
        fill_and_go_on(&mounted.path("journal"), policy, ENOSPC, |_| {
            std::fs::remove_file(mounted.path("other")).unwrap();
        });
    }
}

#[test]
fn an_empty_journal_on_a_full_disk_stays_a_journal() {
    for policy in POLICIES {
        let Some(mounted) = Mounted::new() else { return };
        let path = mounted.path("journal");
        let journal = options(policy).open(&path).unwrap();
        // The last page goes too.
        std::fs::write(mounted.path("other"), vec![1; 256 << 10]).unwrap_err();
        for _ in 0..3 {
            assert_eq!(code(&journal.append(&payload(1, 8000)).unwrap_err()), Some(ENOSPC));
            assert_eq!((journal.last_index(), std::fs::metadata(&path).unwrap().len()), (0, 16));
        }
        journal.append(b"fits the page that is there").unwrap();
        journal.close().unwrap();
        let journal = options(policy).open(&path).unwrap();
        assert_eq!(journal.read(1).unwrap(), b"fits the page that is there");
        std::fs::remove_file(mounted.path("other")).unwrap();
        assert_eq!(journal.append(&payload(1, 8000)).unwrap(), 2);
    }
}

#[test]
fn a_batch_that_does_not_fit_the_disk_is_refused_whole() {
    for policy in POLICIES {
        let Some(mounted) = Mounted::new() else { return };
        let path = mounted.path("journal");
        let journal = options(policy).open(&path).unwrap();
        journal.append(b"before").unwrap();
        // In many calls, most of which find room.
        let error = journal.append_batch(vec![payload(1, 1000); 300]).unwrap_err();
        assert_eq!(code(&error), Some(ENOSPC), "{error}");
        assert_eq!(journal.last_index(), 1);
        assert_eq!(
            journal.append_batch(vec![payload(1, 1000); 200]).unwrap(),
            2..=201,
            "its space is free again"
        );
        journal.close().unwrap();
        let journal = options(policy).open(&path).unwrap();
        assert_eq!((journal.last_index(), journal.read(1).unwrap()), (201, b"before".to_vec()));
    }
}

/// A truncation that a crash interrupted is finished without room for anything: what the user asked to remove is removed
/// and not kept.
#[test]
fn an_interrupted_truncation_is_finished_on_a_full_disk() {
    use common::built::{BARRIER, Built, CONTINUED};
    let record = |built: Built, n: u8, flags| built.sealed(&vec![n; 3000], flags);
    let whole = (0..4).fold(Built::new(), |built, n| record(built, n, BARRIER));
    // The second record ends where a block does, so that its mark would need another.
    let even = record(Built::new(), 0, BARRIER).sealed(&[1; 8192 - 3016 - 16], BARRIER);
    let even = record(record(even, 2, BARRIER), 3, 0);
    let batch = record(record(Built::new(), 0, BARRIER), 1, CONTINUED);
    let batch = record(record(batch, 2, CONTINUED), 3, 0);
    let cut = |built: &Built, end: u64| {
        let aligned = built.len().next_multiple_of(4096);
        built.clone().zeros((aligned - built.len()) as usize).mark(end).0
    };
    for (kind, size) in [("tmpfs", 1 << 20), ("ext4", 4 << 20), ("btrfs", 120 << 20)] {
        let Some(mounted) = common::mounted::Mounted::new(kind, size) else { continue };
        let images = [
            (cut(&whole, 6032), 2),
            (whole.clone().mark(6032).0, 2),
            (cut(&even, 8192), 2),
            (cut(&whole, 0), 0),
            (cut(&batch, 6032), 2),
        ];
        // Each its own file, since a full disk gives no room for another.
        let ways = [
            (Recovery::TornTail, false),
            (Recovery::TornTail, true),
            (Recovery::FirstInvalid, true),
            (Recovery::Strict, true),
        ];
        let place = |image: usize, way: usize| mounted.path(&format!("journal-{image}-{way}"));
        for (at, (image, _)) in images.iter().enumerate() {
            for way in 0..ways.len() + 2 {
                std::fs::write(place(at, way), image).unwrap();
            }
        }
        mounted.sync();
        mounted.fill();
        let names = || std::fs::read_dir(mounted.path("")).unwrap().count();
        let before = names();
        for (at, (image, records)) in images.iter().enumerate() {
            if kind == "btrfs" && at == 4 {
                // The last record that stays has to leave its batch first, and that takes a new block there.
                continue;
            }
            let context = format!("{kind}, image {at}");
            for (way, (policy, quarantine)) in ways.into_iter().enumerate() {
                let path = place(at, way);
                // What was cut has made room.
                mounted.fill();
                let mut options = options(SyncPolicy::Always);
                let journal = options.recovery(policy).quarantine(quarantine).open(&path);
                let journal = journal.unwrap_or_else(|error| panic!("{context}: {error}"));
                let report = journal.recovery();
                assert_eq!(report.verdict, Verdict::TruncationFinished, "{context}");
                assert_eq!(report.cut_bytes, image.len() as u64 - report.bytes, "{context}");
                assert_eq!((report.records, &report.quarantine), (*records, &None), "{context}");
                for n in 1..=*records {
                    assert_eq!(journal.read(n).unwrap()[0] as u64, n - 1, "{context}");
                }
                journal.close().unwrap_or_else(|error| panic!("{context}: {error}"));
                let again = options.recovery(Recovery::Strict).open(&path).unwrap();
                assert_eq!(again.last_index(), *records, "{context}");
            }
            for (way, args) in [(4, &["repair"][..]), (5, &["truncate", "--keep", "0"])] {
                let path = place(at, way);
                mounted.fill();
                let ran = Command::new(env!("CARGO_BIN_EXE_wally")).args(args).arg(&path).output().unwrap();
                assert!(ran.status.success(), "{context}: {args:?}: {ran:?}");
                let left = Options::new().open(&path).unwrap().last_index();
                assert_eq!(left, if way == 4 { *records } else { 0 }, "{context}");
            }
        }
        assert_eq!(names(), before, "{kind}: nothing is kept beside a journal");
    }
}

/// Copy on write: the mark at 0 cannot be written over, though its place is there.
#[test]
fn an_empty_journal_on_a_full_btrfs_is_refused_and_goes_on_when_there_is_room() {
    for policy in POLICIES {
        let Some(mounted) = common::mounted::Mounted::new("btrfs", 120 << 20) else { return };
        let path = mounted.path("journal");
        let mut journal = options(policy).open(&path).unwrap();
        mounted.sync();
        mounted.fill();
        for round in 0..2 {
            for len in [8000, 0, 40] {
                let refused = journal.append(&payload(1, len)).and_then(|_| journal.sync());
                assert_eq!(code(&refused.unwrap_err()), Some(ENOSPC), "{policy:?}, round {round}");
                assert_eq!(journal.committed_index(), 0);
            }
            if policy == SyncPolicy::Always {
                assert_eq!(journal.last_index(), 0);
                // Nothing is staged, so nothing is lost; and it is a journal on the full disk, too.
                journal.close().unwrap();
                journal = options(policy).recovery(Recovery::Strict).open(&path).unwrap();
                assert_eq!(journal.last_index(), 0);
            }
        }
        mounted.empty();
        let staged = journal.last_index();
        assert_eq!(journal.append(b"after").unwrap(), staged + 1);
        journal.close().unwrap();
        let journal = options(policy).open(&path).unwrap();
        assert_eq!(journal.read(staged + 1).unwrap(), b"after");
    }
}

#[test]
fn a_full_btrfs_refuses_appends_until_there_is_room() {
    for policy in POLICIES {
        let Some(mounted) = common::mounted::Mounted::new("btrfs", 120 << 20) else { return };
        let path = mounted.path("journal");
        mounted.fill();
        mounted.spare(1 << 20);
        fill_and_go_on(&path, policy, ENOSPC, |_| mounted.empty());
    }
}
