//! What the errors say, and what they are as [`std::io::Error`]s.

use crate::common;

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;

use common::seam::{Call, EIO, ENOSPC, Seam};
use common::{payload, place};
use wally::{Error, IndexMode, Journal, Options, SyncPolicy};

fn options() -> Options {
    let mut options = Options::new();
    options.sync_policy(SyncPolicy::OnDemand).buffer_size(4096);
    options
}

fn kind(error: Error) -> ErrorKind {
    let words = error.to_string();
    let error = io::Error::from(error);
    assert_eq!(error.to_string(), words, "the words survive the conversion");
    assert!(error.get_ref().is_some_and(|inner| inner.is::<Error>()), "and so does the error itself");
    error.kind()
}

/// What a reporter prints that goes through the sources: `a: b: c`.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// The cause is told exactly once, by the error alone, by a reporter that goes through the sources, and by the
/// [`io::Error`] that it turns into.
#[track_caller]
fn told_once(error: Error, cause: &str) {
    assert_eq!(error.to_string().matches(cause).count(), 1, "{error}");
    assert_eq!(chain(&error).matches(cause).count(), 1, "{}", chain(&error));
    let error = io::Error::from(error);
    assert_eq!(error.to_string().matches(cause).count(), 1, "{error}");
    assert_eq!(chain(&error).matches(cause).count(), 1, "{}", chain(&error));
}

#[test]
fn index_0_and_beyond_the_end_are_out_of_range() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    let bounds = |error: Error| match error {
        Error::OutOfRange { index, first, last, .. } => (index, first, last),
        other => panic!("{other}"),
    };
    for n in [0, 1, u64::MAX] {
        assert_eq!(bounds(journal.read(n).unwrap_err()), (n, 1, 0), "of an empty journal");
    }
    journal.append_batch([b"a", b"b", b"c"]).unwrap();
    for n in [0, 4, 5, u64::MAX] {
        assert_eq!(bounds(journal.read(n).unwrap_err()), (n, 1, 3));
        assert_eq!(bounds(journal.read_into(n, &mut Vec::new()).unwrap_err()), (n, 1, 3));
        assert_eq!(bounds(journal.read_ref(n).unwrap_err()), (n, 1, 3));
        assert_eq!(bounds(journal.data_range(n).unwrap_err()), (n, 1, 3));
        if n > 0 {
            assert_eq!(bounds(journal.truncate_back(n).unwrap_err()), (n, 1, 3));
            assert_eq!(bounds(journal.wait_durable(n).unwrap_err()), (n, 1, 3));
        }
    }
    let error = journal.read(4).unwrap_err();
    assert_eq!(error.to_string(), "index 4 is out of range: the journal holds 1..=3");
    assert_eq!(kind(error), ErrorKind::UnexpectedEof);
    journal.truncate_back(1).unwrap();
    assert_eq!(bounds(journal.read(2).unwrap_err()), (2, 1, 1));
}

#[test]
fn a_staging_buffer_that_cannot_be_had_is_an_error() {
    let (_dir, path) = place();
    let error = options().buffer_size(usize::MAX).open(&path).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(error.to_string().contains("staging buffer"), "{error}");
    assert_eq!(kind(error), ErrorKind::OutOfMemory);
    let journal = options().open(&path).unwrap();
    assert_eq!(journal.append(b"with one that can").unwrap(), 1);
}

#[test]
fn an_error_of_the_system_keeps_its_kind_and_code_and_names_the_file() {
    let (dir, path) = place();
    let missing = dir.path().join("no/such/journal");
    let error = Journal::open(&missing).unwrap_err();
    let words = error.to_string();
    assert!(words.contains(missing.to_str().unwrap()), "{words}");
    assert!(matches!(&error, Error::Io { path, .. } if *path == missing), "{words}");
    assert_eq!(kind(error), ErrorKind::NotFound);

    let seam = Seam::new();
    let journal = options().seam(seam.clone()).open(&path).unwrap();
    seam.fail(ENOSPC, Call::is_write);
    let error = journal.append(&payload(1, 5000)).unwrap_err();
    let words = error.to_string();
    assert!(words.starts_with(&format!("write {}: ", path.display())), "{words}");
    let Error::Io { op, source, .. } = &error else { panic!("{words}") };
    assert_eq!((*op, source.raw_os_error()), ("write", Some(ENOSPC)));
    assert_eq!(kind(error), ErrorKind::StorageFull);
}

#[test]
fn a_record_over_the_limit_is_too_large() {
    let (_dir, path) = place();
    let journal = options().max_record_len(100).open(&path).unwrap();
    assert_eq!(journal.append(&[0; 100]).unwrap(), 1);
    for error in [
        journal.append(&[0; 101]).unwrap_err(),
        journal.append_vectored(&[io::IoSlice::new(&[0; 100]), io::IoSlice::new(b"1")]).unwrap_err(),
        journal.append_batch([[0; 101]]).unwrap_err(),
    ] {
        assert!(matches!(error, Error::RecordTooLarge { len: 101, max: 100, .. }), "{error}");
        assert_eq!(error.to_string(), "a record of 101 bytes is too large: the limit is 100");
        assert_eq!(kind(error), ErrorKind::InvalidInput);
    }
    assert_eq!(journal.append(b"next").unwrap(), 2, "no index was lost");
    journal.close().unwrap();
    // It binds appends only.
    let journal = options().max_record_len(10).open(&path).unwrap();
    assert_eq!(journal.read(1).unwrap(), [0; 100]);
}

#[test]
fn a_limit_of_nothing_allows_empty_records() {
    let (_dir, path) = place();
    let journal = options().max_record_len(0).open(&path).unwrap();
    assert_eq!(journal.append(b"").unwrap(), 1);
    journal.append(b"x").unwrap_err();
}

#[test]
fn locked_names_the_file_and_what_may_hold_it() {
    let (_dir, path) = place();
    let _journal = options().open(&path).unwrap();
    let error = options().open(&path).unwrap_err();
    let words = error.to_string();
    assert!(words.contains(path.to_str().unwrap()), "{words}");
    assert!(words.contains("open for writing") && words.contains("a reader"), "{words}");
    for name in ["Reader", "Snapshot", "RecordRef", "Follow", "handle"] {
        assert!(!words.contains(name), "no word of the code for someone at a shell: {words}");
    }
    assert_eq!(kind(error), ErrorKind::WouldBlock);
}

#[test]
fn a_checksum_that_does_not_match_is_corrupt_and_says_where() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    journal.append_batch(["first", "second", "third"]).unwrap();
    journal.sync().unwrap();
    let at = journal.data_range(2).unwrap().start;
    // The same length, so the map stays whole; what it shows is no longer what was appended.
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"S", at).unwrap();
    let mut buf = b"old".to_vec();
    for error in [
        journal.read(2).unwrap_err(),
        journal.read_into(2, &mut buf).unwrap_err(),
        journal.read_ref(2).unwrap().verify().unwrap_err(),
    ] {
        let words = error.to_string();
        let Error::Corrupt { path: named, offset, index, beyond: None, .. } = &error else {
            panic!("{words}")
        };
        assert_eq!((named, *offset, *index), (&path, at - 16, 2));
        assert!(words.contains(path.to_str().unwrap()) && words.contains("record 2"), "{words}");
        assert!(!words.contains("beyond"), "nothing was looked for there: {words}");
        assert_eq!(kind(error), ErrorKind::InvalidData);
    }
    assert!(buf.is_empty());
    assert_eq!(journal.read(3).unwrap(), b"third");
    assert_eq!(journal.snapshot().get(2), Some(&b"Second"[..]), "this one is not checked");
}

#[test]
fn a_cut_that_damage_is_in_the_way_of_says_where_and_nothing_of_what_lies_beyond() {
    let (_dir, path) = place();
    let journal = options().index(IndexMode::Scan).open(&path).unwrap();
    journal.append_batch(["first", "second", "third"]).unwrap();
    journal.sync().unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xFF; 8], 21).unwrap();
    let error = journal.truncate_back(2).unwrap_err();
    assert!(matches!(error, Error::Corrupt { index: 2, beyond: None, .. }), "{error}");
    assert!(!error.to_string().contains("beyond"), "{error}");
    assert_eq!(journal.last_index(), 3, "nothing was cut");
}

#[test]
fn poisoned_tells_the_first_failure_and_has_its_kind() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options().seam(seam.clone()).open(&path).unwrap();
    journal.append(b"a").unwrap();
    seam.fail(EIO, Call::is_sync);
    journal.sync().unwrap_err();
    let error = journal.append(b"b").unwrap_err();
    let words = error.to_string();
    assert!(words.contains("reopen") && words.contains(path.to_str().unwrap()), "{words}");
    let Error::Poisoned { first, .. } = &error else { panic!("{words}") };
    assert!(matches!(&**first, Error::Io { op: "sync", .. }), "{first}");
    let from_system = io::Error::from_raw_os_error(EIO).kind();
    assert_eq!(kind(error), from_system);
}

#[test]
fn a_cause_is_told_once_and_whole() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = options().seam(seam.clone()).open(&path).unwrap();
    journal.append(b"a").unwrap();
    journal.flush().unwrap();
    let full = io::Error::from_raw_os_error(ENOSPC).to_string();
    seam.fail(ENOSPC, Call::is_write);
    told_once(journal.append(&payload(1, 5000)).unwrap_err(), &full);
    let broken = io::Error::from_raw_os_error(EIO).to_string();
    seam.allow_all();
    journal.append(b"b").unwrap();
    seam.fail(EIO, Call::is_sync);
    told_once(journal.sync().unwrap_err(), &broken);
    told_once(journal.append(b"c").unwrap_err(), &broken);
    told_once(journal.close().unwrap_err(), &broken);
}

#[test]
fn readers_active_says_how_much_is_held_and_what_stood_in_the_way() {
    let (_dir, path) = place();
    let journal = options().preserve_limit(100).open(&path).unwrap();
    journal.append_batch(vec![payload(1, 1000); 10]).unwrap();
    let snapshot = journal.snapshot();
    journal.truncate_back(9).unwrap_err();
    let error = journal.truncate_back(1).unwrap_err();
    let words = error.to_string();
    assert!(matches!(error, Error::ReadersActive { held_bytes: 101.., .. }), "{words}");
    assert!(words.contains("preserve_limit"), "{words}");
    assert_eq!(kind(error), ErrorKind::ResourceBusy);
    assert_eq!((journal.last_index(), snapshot.last_index()), (10, 10), "nothing has changed");
    drop(snapshot);
    journal.truncate_back(1).unwrap();
}

#[test]
fn the_other_errors_have_a_kind_too() {
    let (_dir, path) = place();
    std::fs::write(&path, "A text file opened by mistake.").unwrap();
    let error = options().open(&path).unwrap_err();
    assert_eq!(error.to_string(), format!("{} is not a journal", path.display()));
    assert_eq!(kind(error), ErrorKind::InvalidData);
    assert_eq!(kind(Error::Closed), ErrorKind::BrokenPipe);
    assert_eq!(kind(Error::Stopped), ErrorKind::Interrupted);
}

#[test]
fn errors_go_through_the_question_mark_and_across_threads() {
    fn in_io(path: &std::path::Path) -> io::Result<u64> {
        Ok(Options::new().create(false).open(path)?.last_index())
    }
    fn assert_send_sync<T: Send + Sync + std::error::Error + 'static>() {}
    assert_send_sync::<Error>();
    let (_dir, path) = place();
    assert_eq!(in_io(&path).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn options_show_themselves() {
    let mut options = options();
    options.on_progress(|_| ControlFlow::Continue(()));
    let words = format!("{options:?}");
    assert!(
        words.contains("OnDemand") && words.contains("4096") && words.contains("on_progress: true"),
        "{words}"
    );
}
