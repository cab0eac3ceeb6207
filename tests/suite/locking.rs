//! One writer at a time, what may be opened at all, and what becomes of the file in the end.

use crate::common;

use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::place;
use rustix::process::{Resource, Rlimit, setrlimit};
use wally::seam::Verdict;
use wally::{Error, Journal, Options, SyncPolicy};

fn options() -> Options {
    let mut options = Options::new();
    options.sync_policy(SyncPolicy::OnDemand);
    options
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs the test `name` of this file in another process, with `path` for it to work on.
fn in_another_process(name: &str, path: &Path) -> std::process::Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("locking::{name}"), "--nocapture", "--test-threads=1"])
        .env("WALLY_TEST_CHILD", path)
        .output()
        .unwrap()
}

/// The path to work on, if this is the other process.
fn child() -> Option<PathBuf> {
    std::env::var_os("WALLY_TEST_CHILD").map(Into::into)
}

fn assert_locked(path: &Path) {
    let error = options().open(path).unwrap_err();
    assert!(matches!(&error, Error::Locked { path: named, .. } if named == path), "{error}");
}

#[test]
fn a_second_open_in_the_same_process_is_refused() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    assert_locked(&path);
    assert_locked(&path);
    journal.append(b"still works").unwrap();
    journal.close().unwrap();
    assert_eq!(options().open(&path).unwrap().read(1).unwrap(), b"still works");
}

#[test]
fn the_lock_is_on_the_file_and_not_on_its_name() {
    let (dir, path) = place();
    let _journal = options().open(&path).unwrap();
    let (hard, soft) = (dir.path().join("hard"), dir.path().join("soft"));
    std::fs::hard_link(&path, &hard).unwrap();
    std::os::unix::fs::symlink(&path, &soft).unwrap();
    assert_locked(&hard);
    assert_locked(&soft);
}

#[test]
fn an_open_from_another_process_is_refused() {
    if let Some(path) = child() {
        assert_locked(&path);
        return println!("locked, as it should be");
    }
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    let output = in_another_process("an_open_from_another_process_is_refused", &path);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("locked, as it should be"), "{output:?}");
    journal.close().unwrap();
}

#[test]
fn a_process_that_ends_without_closing_gives_the_lock_up() {
    if let Some(path) = child() {
        let journal = options().open(&path).unwrap();
        journal.append(b"from the other process").unwrap();
        journal.sync().unwrap();
        std::mem::forget(journal);
        return println!("left open");
    }
    let (_dir, path) = place();
    let output = in_another_process("a_process_that_ends_without_closing_gives_the_lock_up", &path);
    assert!(String::from_utf8_lossy(&output.stdout).contains("left open"), "{output:?}");
    assert_eq!(options().open(&path).unwrap().read(1).unwrap(), b"from the other process");
}

#[test]
fn a_child_that_inherits_the_environment_of_a_writer_does_not_keep_its_lock() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    // It lives until its input is closed.
    let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    journal.close().unwrap();
    let again = options().open(&path);
    drop(child.stdin.take());
    child.wait().unwrap();
    again.unwrap();
}

#[test]
fn what_readers_hold_keeps_the_file_locked_after_the_close() {
    let (_dir, path) = place();
    let with = |hold: fn(&Journal) -> Box<dyn Send>| {
        let journal = options().open(&path).unwrap();
        journal.append(b"a").unwrap();
        journal.flush().unwrap();
        let held = hold(&journal);
        journal.close().unwrap();
        assert_locked(&path);
        drop(held);
        drop(options().open(&path).unwrap());
    };
    with(|journal| Box::new(journal.reader()));
    with(|journal| {
        let mut reader = journal.reader();
        assert_eq!(reader.get(1), Some(&b"a"[..]));
        Box::new(reader)
    });
    with(|journal| {
        let snapshot = journal.snapshot();
        Box::new(snapshot.clone())
    });
}

#[test]
fn a_record_keeps_the_file_locked_after_the_close() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    journal.append(b"a").unwrap();
    // More than a thread has quick places for.
    let mut records: Vec<_> = (0..20).map(|_| journal.read_ref(1).unwrap()).collect();
    journal.close().unwrap();
    while let Some(record) = records.pop() {
        assert_eq!(&record[..], b"a");
        assert_locked(&path);
        drop(record);
    }
    drop(options().open(&path).unwrap());
}

#[test]
fn a_closed_journal_is_still_read_and_says_that_it_is_closed() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    journal.append(b"a").unwrap();
    let mut reader = journal.reader();
    assert!(matches!(reader.status(), wally::ReaderStatus::Open));
    journal.close().unwrap();
    assert!(matches!(reader.status(), wally::ReaderStatus::Closed));
    assert_eq!(reader.get(1), Some(&b"a"[..]), "the close committed it");
    assert_eq!(reader.last_index(), 1);
    reader.release();
    assert_eq!(reader.get(1), Some(&b"a"[..]));
}

fn io_code(path: &Path) -> Option<i32> {
    match options().open(path).unwrap_err() {
        Error::Io { op: "open" | "create", path: named, source, .. } => {
            assert_eq!(named, path);
            source.raw_os_error()
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_missing_file_is_created_only_if_that_is_wanted() {
    let (_dir, path) = place();
    let error = options().create(false).open(&path).unwrap_err();
    assert!(matches!(&error, Error::Io { op: "open", .. }), "{error}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::NotFound);
    assert!(!path.exists());
    options().open(&path).unwrap();
    options().create(false).open(&path).unwrap();
}

#[test]
fn an_open_that_fails_leaves_no_file_that_was_not_there() {
    // Nothing, something without records, and a journal.
    let old = {
        let (_dir, path) = place();
        options().open(&path).unwrap().append(b"old").unwrap();
        std::fs::read(&path).unwrap()
    };
    let before: [Option<&[u8]>; 3] = [None, Some(b""), Some(&old)];
    let fails = |what: &str, options: &Options| {
        for before in before {
            let (dir, path) = place();
            if let Some(before) = before {
                std::fs::write(&path, before).unwrap();
            }
            let opened = catch_unwind(AssertUnwindSafe(|| options.open(&path)));
            assert!(!matches!(opened, Ok(Ok(_))), "{what}");
            assert_eq!(path.exists(), before.is_some(), "{what}");
            assert_eq!(
                std::fs::read_dir(dir.path()).unwrap().count(),
                usize::from(before.is_some()),
                "{what}"
            );
            if before == Some(&old[..]) {
                assert_eq!(self::options().open(&path).unwrap().read(1).unwrap(), b"old", "{what}");
            }
        }
    };
    fails("no buffer", options().buffer_size(isize::MAX as usize));
    fails("a callback that stops", options().on_progress(|_| ControlFlow::Break(())));
    fails("a callback that panics", options().on_progress(|_| panic!("it does")));
    // Each thing asked of the system in turn, where there is nothing before.
    for nth in 0.. {
        let (_dir, path) = place();
        let seam = common::seam::Seam::new();
        let mut left = nth;
        seam.rule(move |_, _| {
            left -= 1;
            if left == -1 { Verdict::Fail(5) } else { Verdict::Proceed }
        });
        match options().seam(seam).open(&path) {
            Err(_) => assert!(!path.exists(), "request {nth}"),
            // A map that cannot be had is tried smaller.
            Ok(_) if nth < 4 => {}
            Ok(_) => break,
        }
    }
}

#[test]
fn an_open_that_gets_no_thread_leaves_no_file() {
    const NAME: &str = "an_open_that_gets_no_thread_leaves_no_file";
    if let Some(path) = child() {
        let mut options = Options::new();
        options.sync_policy(SyncPolicy::Interval(Duration::from_secs(1))).buffer_size(4096);
        let limit = |bytes| setrlimit(Resource::As, Rlimit { current: bytes, maximum: None }).unwrap();
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
        // Room for all that is small, but not for the stack of a thread, which has 2 MiB.
        limit(Some(pages * rustix::param::page_size() as u64 + (1 << 20)));
        let opened = options.open(&path);
        limit(None);
        let error = opened.unwrap_err();
        assert!(error.to_string().contains("thread"), "{error}");
        assert!(!path.exists());
        options.open(&path).unwrap();
        return println!("no thread");
    }
    let (_dir, path) = place();
    let output = in_another_process(NAME, &path);
    assert!(String::from_utf8_lossy(&output.stdout).contains("no thread"), "{output:?}");
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let (dir, path) = place();
    assert_eq!(io_code(dir.path()), Some(rustix::io::Errno::ISDIR.raw_os_error()));
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    for special in [&path, Path::new("/dev/null")] {
        let error = options().open(special).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::InvalidInput);
    }
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(io_code(&socket), Some(rustix::io::Errno::NXIO.raw_os_error()));
    std::fs::File::open(dir.path().join("socket/below")).unwrap_err();
    assert_eq!(io_code(&socket.join("below")), Some(rustix::io::Errno::NOTDIR.raw_os_error()));
}

#[test]
fn a_symlink_to_nowhere_creates_what_it_names() {
    let (dir, path) = place();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    // From link to link, each relative to the directory that it is in.
    symlink("data/link", &path).unwrap();
    symlink("../data/../data/file", dir.path().join("data/link")).unwrap();
    options().create(false).open(&path).unwrap_err();
    let journal = options().open(&path).unwrap();
    assert_eq!(journal.path(), path, "as it was given");
    journal.append(b"a").unwrap();
    journal.close().unwrap();
    assert_eq!(options().create(false).open(dir.path().join("data/file")).unwrap().read(1).unwrap(), b"a");
}

#[test]
fn a_symlink_that_leads_to_no_place_for_a_file_is_an_error_and_not_a_loop() {
    let (dir, path) = place();
    symlink(&path, &path).unwrap();
    assert_eq!(io_code(&path), Some(rustix::io::Errno::LOOP.raw_os_error()));
    let path = dir.path().join("missing");
    symlink("no/such/directory", &path).unwrap();
    assert_eq!(io_code(&path), Some(rustix::io::Errno::NOENT.raw_os_error()));
}

#[test]
fn a_file_that_may_not_be_written_is_refused() {
    if is_root() {
        return println!("skipped: root may write every file");
    }
    let (_dir, path) = place();
    options().open(&path).unwrap().append(b"a").unwrap();
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    assert_eq!(io_code(&path), Some(rustix::io::Errno::ACCESS.raw_os_error()));
}

/// A file system in memory, gone when this is dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let args = ["-t", "tmpfs", "-o", options, "tmpfs"];
        let mounted = is_root()
            && Command::new("mount")
                .args(args)
                .arg(dir.path())
                .output()
                .is_ok_and(|out| out.status.success());
        mounted.then_some(Self(dir))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_read_only_file_system_is_an_error_of_the_system() {
    let Some(mounted) = Mounted::new("size=256k") else {
        return println!("skipped: no right to mount");
    };
    let path = mounted.0.path().join("journal");
    options().open(&path).unwrap().append(b"a").unwrap();
    let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(mounted.0.path()).output().unwrap();
    if !remount.status.success() {
        return println!("skipped: cannot remount");
    }
    assert_eq!(io_code(&path), Some(rustix::io::Errno::ROFS.raw_os_error()));
    assert_eq!(io_code(&mounted.0.path().join("other")), Some(rustix::io::Errno::ROFS.raw_os_error()));
}

#[test]
fn delete_on_close_removes_the_file_and_leaves_readers_what_they_have() {
    for close in [true, false] {
        let (_dir, path) = place();
        let journal = options().delete_on_close(true).open(&path).unwrap();
        journal.append(b"kept").unwrap();
        journal.flush().unwrap();
        let snapshot = journal.snapshot();
        let record = journal.read_ref(1).unwrap();
        let mut reader = journal.reader();
        if close {
            journal.close().unwrap()
        } else {
            drop(journal)
        }
        assert!(!path.exists());
        let journal = options().open(&path).unwrap();
        assert_eq!(journal.recovery().records, 0, "a new file");
        journal.append(b"new").unwrap();
        assert_eq!(snapshot.get(1), Some(&b"kept"[..]));
        assert_eq!(reader.get(1), Some(&b"kept"[..]));
        assert_eq!(&record[..], b"kept");
        assert_eq!(journal.read(1).unwrap(), b"new");
    }
}

#[test]
fn delete_on_close_does_not_sync_first() {
    let (_dir, path) = place();
    let seam = common::seam::Seam::new();
    let journal = options().delete_on_close(true).seam(seam.clone()).open(&path).unwrap();
    journal.append(b"a").unwrap();
    journal.flush().unwrap();
    seam.take();
    journal.close().unwrap();
    assert_eq!(seam.take(), []);
}

#[test]
fn delete_on_close_leaves_another_file_at_the_path_alone() {
    let (dir, path) = place();
    let journal = options().delete_on_close(true).open(&path).unwrap();
    journal.append(b"a").unwrap();
    std::fs::rename(&path, dir.path().join("moved")).unwrap();
    std::fs::write(&path, "an impostor").unwrap();
    journal.close().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"an impostor");
    assert!(dir.path().join("moved").exists());
}

#[test]
fn delete_on_close_through_symlinks_removes_the_file_and_leaves_the_links() {
    for close in [true, false] {
        let (dir, path) = place();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        symlink("data/link", &path).unwrap();
        symlink("file", data.join("link")).unwrap();
        // Through links in the directory's place too, which lead elsewhere when the journal is closed.
        let current = dir.path().join("current");
        symlink(dir.path(), &current).unwrap();
        for given in [&path, &current.join("journal")] {
            std::fs::write(data.join("file"), "").unwrap();
            let journal = options().delete_on_close(true).open(given).unwrap();
            journal.append(b"kept").unwrap();
            let _ = std::fs::remove_file(&current);
            match close {
                true => journal.close().unwrap(),
                false => drop(journal),
            }
            assert!(!data.join("file").exists());
            assert!(path.is_symlink() && data.join("link").is_symlink());
            symlink(dir.path(), &current).unwrap();
            // The links still name the place of the journal.
            options().open(given).unwrap().append(b"new").unwrap();
            assert!(data.join("file").exists());
        }
    }
}

#[test]
fn delete_on_close_through_a_symlink_leaves_alone_what_took_the_place_of_its_file() {
    let (dir, path) = place();
    let (file, other) = (dir.path().join("file"), dir.path().join("other"));
    std::fs::write(&other, "another file").unwrap();
    symlink(&file, &path).unwrap();
    // The link leads elsewhere by now: what it led to when it was opened goes all the same.
    let journal = options().delete_on_close(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    symlink(&other, &path).unwrap();
    journal.close().unwrap();
    assert!(!file.exists());
    // The file has another name by now, and a link to it, and then another file, is in its place.
    for impostor in ["a link", "a file"] {
        std::fs::remove_file(&path).unwrap();
        symlink(&file, &path).unwrap();
        let journal = options().delete_on_close(true).open(&path).unwrap();
        let moved = dir.path().join("moved");
        std::fs::rename(&file, &moved).unwrap();
        match impostor {
            "a link" => symlink(&moved, &file).unwrap(),
            _ => std::fs::write(&file, "another file").unwrap(),
        }
        journal.close().unwrap();
        assert!(file.exists() && moved.exists() && path.is_symlink(), "{impostor}");
        std::fs::remove_file(&file).unwrap();
        std::fs::remove_file(&moved).unwrap();
    }
    assert_eq!(std::fs::read(&other).unwrap(), b"another file");
}

#[test]
fn what_recovery_cuts_is_kept_beside_the_file_and_not_beside_a_link_to_it() {
    let (dir, path) = place();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    symlink("data/file", &path).unwrap();
    options().open(&path).unwrap().append(b"a record").unwrap();
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"torn").unwrap();
    let journal = options().quarantine(true).open(&path).unwrap();
    let kept = journal.recovery().quarantine.as_ref().unwrap();
    assert_eq!(kept.parent().unwrap(), data.canonicalize().unwrap());
    assert!(kept.is_file());
}

#[test]
fn delete_on_close_of_a_file_that_is_gone_already_is_no_error() {
    let (_dir, path) = place();
    let journal = options().delete_on_close(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    journal.close().unwrap();
}

#[test]
fn delete_on_close_finds_its_file_by_the_path_it_was_opened_with() {
    if child().is_some() {
        // A process of its own, since the current directory is everyone's.
        let (dir, path) = place();
        std::env::set_current_dir(dir.path()).unwrap();
        let journal = options().delete_on_close(true).open("journal").unwrap();
        std::env::set_current_dir("/").unwrap();
        assert_eq!(journal.path().file_name(), path.file_name());
        journal.close().unwrap();
        assert!(!path.exists());
        return println!("gone");
    }
    let name = "delete_on_close_finds_its_file_by_the_path_it_was_opened_with";
    let output = in_another_process(name, Path::new("/"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("gone"), "{output:?}");
}

#[test]
fn a_file_that_took_the_place_of_a_locked_one_is_another_journal() {
    let (dir, path) = place();
    let first = options().open(&path).unwrap();
    first.append(b"first").unwrap();
    std::fs::rename(&path, dir.path().join("moved")).unwrap();
    let second = options().open(&path).unwrap();
    second.append(b"second").unwrap();
    assert_locked(&dir.path().join("moved"));
    assert_locked(&path);
    first.close().unwrap();
    assert_eq!(second.read(1).unwrap(), b"second");
    assert_eq!(options().open(dir.path().join("moved")).unwrap().read(1).unwrap(), b"first");
}

#[test]
fn of_many_that_open_and_delete_at_once_each_gets_a_file_that_the_path_names() {
    let (_dir, path) = place();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let path = &path;
            scope.spawn(move || {
                let mut opened = 0;
                while opened < 50 {
                    match options().delete_on_close(true).open(path) {
                        Ok(journal) => {
                            // The thread that has the lock is alone, and begins with nothing.
                            assert_eq!(journal.append(&[thread]).unwrap(), 1);
                            assert_eq!(journal.read(1).unwrap(), [thread]);
                            assert!(path.exists());
                            journal.close().unwrap();
                            opened += 1;
                        }
                        Err(Error::Locked { .. }) => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert!(!path.exists());
}
