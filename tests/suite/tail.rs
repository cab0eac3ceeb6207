//! `wally tail`, run as a process beside a writer in this one: what it prints of what is there, what it prints of what
//! comes, and what it makes of cuts, crashes and damage under its eyes. Nothing waits but for its lines.

use crate::common;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::built::{BARRIER, Built, CONTINUED};
use common::command::{Ran, Running, run};
use wally::{Format, Journal, Options, SyncPolicy};

fn args(file: &Path, options: &[&str]) -> Vec<String> {
    let file = file.to_str().expect("UTF-8");
    ["tail", file].into_iter().chain(options.iter().copied()).map(str::to_owned).collect()
}

fn tail(file: &Path, options: &[&str]) -> Ran {
    run(args(file, options))
}

/// Follows the file with looks so frequent that a test is not held up.
fn follow(file: &Path, options: &[&str]) -> Running {
    Running::start(args(file, &[&["--follow", "--interval", "1"], options].concat()))
}

fn open(path: &Path) -> Journal {
    Options::new().sync_policy(SyncPolicy::Always).open(path).expect("open")
}

fn append(journal: &Journal, from: u64, to: u64, what: &str) {
    for n in from..=to {
        assert_eq!(journal.append(format!("{what} {n}").as_bytes()).expect("append"), n);
    }
}

fn lines(from: u64, to: u64, what: &str) -> Vec<String> {
    (from..=to).map(|n| format!("{what} {n}")).collect()
}

fn file(path: &Path, built: &Built) {
    fs::write(path, &built.0).expect("write");
}

/// Puts more at the end of a file, in one write.
fn extend(path: &Path, built: &Built) {
    let at = fs::metadata(path).expect("stat").len() as usize;
    File::options().append(true).open(path).expect("open").write_all(&built.0[at..]).expect("write");
}

fn place() -> (tempfile::TempDir, PathBuf) {
    common::place_in_memory()
}

// ---- what is there ----

#[test]
fn the_last_records_are_printed() {
    let (_dir, path) = place();
    let journal = open(&path);
    append(&journal, 1, 25, "record");
    for (options, expected) in [
        (&[][..], lines(16, 25, "record")),
        (&["-n", "3"], lines(23, 25, "record")),
        (&["--lines", "100"], lines(1, 25, "record")),
        (&["-n", "0"], vec![]),
        (&["--from", "24"], lines(24, 25, "record")),
        (&["--from", "0"], lines(1, 25, "record")),
        (&["--from", "26"], vec![]),
    ] {
        assert_eq!(tail(&path, options).ok().text().lines().collect::<Vec<_>>(), expected, "{options:?}");
    }
    assert_eq!(tail(&path, &["-n", "1", "--output", "hex"]).ok().text(), "7265636f7264203235\n");
    let prefixed = tail(&path, &["-n", "1", "--output", "length-prefixed"]).ok();
    assert_eq!(prefixed.text(), "\x09\0\0\0record 25");
}

#[test]
fn a_torn_or_damaged_end_is_told_after_what_is_good() {
    let (_dir, path) = place();
    let good = Built::new().sealed(b"one", BARRIER).sealed(b"two", 0);
    for (built, code, words) in [
        (good.clone().raw(b"half a record"), 1, "is torn at offset 38, in the place of record 3"),
        (good.clone().sealed(b"begun", CONTINUED), 1, "is torn at offset "),
        (good.sealed(b"bad", 0).sealed(b"4", BARRIER).damaged(56), 2, "is corrupt at offset 38"),
    ] {
        file(&path, &built);
        let before = fs::read(&path).expect("read");
        assert_eq!(tail(&path, &[]).fails(code, words).text(), "one\ntwo\n");
        assert_eq!(fs::read(&path).expect("read"), before);
    }
    fs::write(&path, "A text file.\n").expect("write");
    for options in [&[][..], &["--follow"]] {
        assert_eq!(tail(&path, options).fails(3, "is not a journal").text(), "");
    }
}

#[test]
fn what_cannot_be_asked_for_is_refused() {
    let (_dir, path) = place();
    for options in [&[][..], &["--follow"]] {
        tail(&path, options).fails(4, "open ");
        assert!(!path.exists());
    }
    drop(open(&path));
    for options in [
        &["--interval", "0"][..],
        &["--lines", "1", "--from", "1"],
        &["--lines", "-1"],
        &["--from", "x"],
        &["--output", "xml"],
    ] {
        let ran = tail(&path, options);
        assert_eq!((ran.code, ran.text(), ran.err.is_empty()), (4, "", false), "{options:?}");
    }
}

// ---- what comes ----

#[test]
fn what_a_writer_appends_is_printed_as_it_becomes_visible() {
    for policy in [SyncPolicy::Always, SyncPolicy::OnDemand] {
        let (_dir, path) = place();
        let journal = Options::new().sync_policy(policy).open(&path).expect("open");
        append(&journal, 1, 12, "record");
        journal.flush().expect("flush");
        let mut tail = follow(&path, &[]);
        assert_eq!(tail.lines(10), lines(3, 12, "record"));
        for n in 13..=40 {
            append(&journal, n, n, "record");
            journal.flush().expect("flush");
            // It is not held back until there is more of it.
            assert_eq!(tail.lines(1), lines(n, n, "record"));
        }
        append(&journal, 41, 5000, "record");
        journal.append_batch(["a", "batch"]).expect("append");
        journal.flush().expect("flush");
        assert_eq!(tail.lines(4960), lines(41, 5000, "record"));
        assert_eq!(tail.lines(2), ["a", "batch"]);
        assert_eq!(tail.kill(), (String::new(), String::new()));
    }
}

#[test]
fn following_from_an_index_waits_for_it() {
    let (_dir, path) = place();
    let journal = open(&path);
    append(&journal, 1, 3, "record");
    let mut some = follow(&path, &["--from", "3"]);
    let mut later = follow(&path, &["--from", "6"]);
    let mut none = follow(&path, &["--lines", "0"]);
    assert_eq!(some.lines(1), ["record 3"]);
    // The third has no line to wait for yet, so it may begin now or after these: what counts is the last.
    append(&journal, 4, 7, "record");
    assert_eq!(some.lines(4), lines(4, 7, "record"));
    assert_eq!(later.lines(2), lines(6, 7, "record"));
    loop {
        journal.append(b"more").expect("append");
        if some.line().as_deref() == Some("more") && later.line().as_deref() == Some("more") {
            break;
        }
    }
    // Without asking for the last ones it prints only what came after it had begun, in one piece to the end.
    let more = std::thread::spawn(move || none.line());
    while !more.is_finished() {
        journal.append(b"new").expect("append");
    }
    assert!(more.join().expect("reader").is_some());
}

#[test]
fn an_empty_file_may_become_a_journal_of_either_format() {
    for format in [Format::Sealed, Format::Reference] {
        let (_dir, path) = place();
        fs::write(&path, b"").expect("write");
        let mut tail = follow(&path, &[]);
        let journal = Options::new().new_file_format(format).open(&path).expect("nobody else has locked it");
        append(&journal, 1, 3, "record");
        assert_eq!(tail.lines(3), lines(1, 3, "record"));
        append(&journal, 4, 4, "record");
        assert_eq!(tail.lines(1), ["record 4"]);
        assert_eq!(tail.kill(), (String::new(), String::new()));
    }
}

#[test]
fn a_clean_end_is_no_end_if_another_writer_comes() {
    let (_dir, path) = place();
    let journal = open(&path);
    append(&journal, 1, 2, "record");
    journal.close().expect("close");
    let mut tail = follow(&path, &[]);
    assert_eq!(tail.lines(2), lines(1, 2, "record"));
    for n in 3..=6 {
        let journal = open(&path);
        append(&journal, n, n, "record");
        assert_eq!(tail.lines(1), lines(n, n, "record"));
        journal.close().expect("close");
    }
    assert_eq!(tail.kill(), (String::new(), String::new()));
}

#[test]
fn zeros_written_ahead_are_the_end_until_a_record_takes_their_place() {
    let (_dir, path) = place();
    let two = Built::new().sealed(b"one", BARRIER).sealed(b"two", 0);
    file(&path, &two.clone().zeros(100_000));
    let mut tail = follow(&path, &[]);
    assert_eq!(tail.lines(2), ["one", "two"]);
    let four = two.clone().sealed(b"three", BARRIER).sealed(b"four", 0);
    let written = File::options().write(true).open(&path).expect("open");
    written.write_all_at(&four.0[two.0.len()..], two.len()).expect("write");
    assert_eq!(tail.lines(2), ["three", "four"]);
    assert_eq!(tail.kill(), (String::new(), String::new()));
}

// ---- what is not what it was ----

#[test]
fn a_torn_tail_is_waited_for_until_it_is_whole() {
    let one = Built::new().sealed(b"one", BARRIER);
    for (whole, expected) in [
        (one.clone().sealed(b"a longer record", 0), &["a longer record"][..]),
        (one.clone().sealed(b"two", CONTINUED).sealed(b"three", 0), &["two", "three"]),
    ] {
        let (_dir, path) = place();
        let mut torn = whole.clone();
        torn.0.truncate(whole.0.len() - 3);
        file(&path, &torn);
        let mut tail = follow(&path, &[]);
        assert_eq!(tail.lines(1), ["one"]);
        let note = tail.complaint();
        assert!(note.contains("is torn at offset ") && note.ends_with("; waiting for its writer"), "{note}");
        extend(&path, &whole);
        assert_eq!(tail.lines(expected.len()), expected);
        assert_eq!(tail.kill(), (String::new(), String::new()), "said once");
    }
}

#[test]
fn a_torn_tail_that_the_next_writer_cuts_is_replaced() {
    let (_dir, path) = place();
    file(&path, &Built::new().sealed(b"one", BARRIER).raw(b"half a record"));
    let mut tail = follow(&path, &[]);
    assert_eq!(tail.lines(1), ["one"]);
    assert!(tail.complaint().contains("torn at offset 19"));
    let journal = open(&path);
    journal.append(b"two").expect("append");
    assert_eq!(tail.lines(1), ["two"]);
    assert_eq!(tail.kill(), (String::new(), String::new()));
}

#[test]
fn a_truncation_is_told_and_what_takes_its_place_is_printed() {
    for format in [Format::Sealed, Format::Reference] {
        let (_dir, path) = place();
        let journal = Options::new().new_file_format(format).open(&path).expect("open");
        append(&journal, 1, 9, "old");
        let mut tail = follow(&path, &["--from", "1"]);
        assert_eq!(tail.lines(9), lines(1, 9, "old"));
        for (kept, to, what) in [(3, 7, "new"), (6, 6, "none"), (0, 12, "all")] {
            journal.truncate_back(kept).expect("truncate");
            append(&journal, kept + 1, to, what);
            let note = tail.complaint();
            assert!(
                note.starts_with("wally: note: ") && note.ends_with(&format!(" truncated to {kept}")),
                "{note}"
            );
            assert_eq!(tail.lines((to - kept) as usize), lines(kept + 1, to, what));
        }
        // Records of the same lengths in the place of those that went.
        journal.truncate_back(4).expect("truncate");
        append(&journal, 5, 12, "ALL");
        assert!(tail.complaint().ends_with(" truncated to 4"));
        assert_eq!(tail.lines(8), lines(5, 12, "ALL"));
        assert_eq!(tail.kill(), (String::new(), String::new()));
    }
}

#[test]
fn what_was_removed_is_not_printed_again_below_from() {
    let (_dir, path) = place();
    let journal = open(&path);
    append(&journal, 1, 9, "old");
    let mut tail = follow(&path, &["--from", "8"]);
    assert_eq!(tail.lines(2), lines(8, 9, "old"));
    journal.truncate_back(2).expect("truncate");
    append(&journal, 3, 9, "new");
    assert!(tail.complaint().ends_with(" truncated to 2"));
    assert_eq!(tail.lines(2), lines(8, 9, "new"));
}

#[test]
fn records_removed_at_the_front_before_they_were_read_are_told() {
    let (_dir, path) = place();
    let old = Built::new().sealed(b"one", BARRIER).sealed(b"two", 0).raw(b"half");
    file(&path, &old);
    let mut tail = follow(&path, &[]);
    assert_eq!(tail.lines(2), ["one", "two"]);
    tail.complaint();
    // A gap in the place of five records, written over them.
    file(&path, &Built::gap(200, 5).sealed(b"six", BARRIER));
    let note = tail.complaint();
    assert!(note.ends_with(": 3 records after 2 removed before being read"), "{note}");
    assert_eq!(tail.lines(1), ["six"]);
}

#[test]
fn a_file_that_goes_ends_it_when_all_is_printed() {
    for replace in [false, true] {
        let (dir, path) = place();
        let journal = open(&path);
        append(&journal, 1, 3, "record");
        let mut tail = follow(&path, &[]);
        assert_eq!(tail.lines(3), lines(1, 3, "record"));
        append(&journal, 4, 5, "record");
        if replace {
            let other = dir.path().join("other");
            file(&other, &Built::new().sealed(b"of another file", BARRIER));
            fs::rename(&other, &path).expect("rename");
        } else {
            fs::remove_file(&path).expect("remove");
        }
        let ran = tail.wait().fails(4, "was removed, or another file has taken its name");
        assert_eq!(ran.text(), "record 4\nrecord 5\n");
    }
}

#[test]
fn damage_that_stands_still_ends_it() {
    let (_dir, path) = place();
    let one = Built::new().sealed(b"one", BARRIER);
    file(&path, &one);
    let mut tail = follow(&path, &[]);
    assert_eq!(tail.lines(1), ["one"]);
    extend(&path, &one.sealed(b"two", 0).sealed(b"three", BARRIER).damaged(36));
    let ran = tail.wait().fails(2, "is corrupt at offset 19, in the place of record 2; 1 whole records");
    assert_eq!(ran.text(), "");
}

#[test]
fn a_newer_format_ends_it() {
    let (_dir, path) = place();
    let one = Built::new().sealed(b"one", BARRIER);
    file(&path, &one);
    let mut tail = follow(&path, &[]);
    assert_eq!(tail.lines(1), ["one"]);
    extend(&path, &one.sealed(b"two", 1 << 5));
    tail.wait().fails(4, "unsupported format");
}

// ---- what it costs and leaves ----

#[test]
fn nothing_is_written_and_nothing_locked() {
    let (dir, path) = place();
    file(&path, &Built::new().sealed(b"one", BARRIER).raw(b"half"));
    let before =
        (fs::read(&path).expect("read"), fs::metadata(&path).and_then(|meta| meta.modified()).expect("stat"));
    let mut tail = follow(&path, &[]);
    assert_eq!(tail.lines(1), ["one"]);
    tail.complaint();
    let after =
        (fs::read(&path).expect("read"), fs::metadata(&path).and_then(|meta| meta.modified()).expect("stat"));
    assert_eq!(before, after);
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    // The writer that comes is not kept out, and keeps no program out that only reads.
    let journal = open(&path);
    journal.append(b"two").expect("append");
    assert_eq!(tail.lines(1), ["two"]);
    journal.close().expect("close");
    open(&path).close().expect("close");
}

#[test]
fn output_that_nobody_reads_any_more_ends_it_even_if_nothing_comes() {
    let (_dir, path) = place();
    let journal = open(&path);
    append(&journal, 1, 1, "record");
    let mut tail = follow(&path, &[]);
    assert_eq!(tail.lines(1), ["record 1"]);
    tail.ignore();
    let ran = tail.wait();
    assert_eq!((ran.code, ran.err.as_str()), (141, ""));
}

/// How many bytes the process has read so far.
#[cfg(target_os = "linux")]
fn bytes_read(tail: &Running) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", tail.child.id())).expect("read");
    let bytes = io.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("a count");
    bytes.parse().expect("a number")
}

#[test]
#[cfg(target_os = "linux")]
fn preallocated_zeros_are_not_read_again_with_each_record_that_takes_their_place() {
    let (_dir, path) = place();
    let mut built = Built::new().sealed(b"record 1", BARRIER);
    file(&path, &built);
    let written = File::options().write(true).open(&path).expect("open");
    written.set_len(64 << 20).expect("zeros");
    let mut tail = follow(&path, &[]);
    tail.lines(1);
    let mut before = 0;
    for n in 2..=30 {
        let at = built.len();
        built = built.sealed(format!("record {n}").as_bytes(), BARRIER);
        written.write_all_at(&built.0[at as usize..], at).expect("write");
        assert_eq!(tail.lines(1), lines(n, n, "record"));
        if n == 10 {
            before = bytes_read(&tail);
        }
    }
    let more = bytes_read(&tail) - before;
    assert!(more < 64 << 20, "{more} bytes for twenty records");
}

#[test]
#[cfg(target_os = "linux")]
fn what_was_read_is_not_read_again() {
    let (_dir, path) = place();
    let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(&path).expect("open");
    for _ in 0..256 {
        journal.append(&[b'x'; 128 << 10]).expect("append");
    }
    journal.flush().expect("flush");
    let mut tail = follow(&path, &["--lines", "1"]);
    tail.lines(1);
    let before = bytes_read(&tail);
    assert!(before > 32 << 20, "it has read the file once: {before} bytes");
    journal.append(b"more").expect("append");
    journal.flush().expect("flush");
    assert_eq!(tail.lines(1), ["more"]);
    let more = bytes_read(&tail) - before;
    assert!(more < 8 << 20, "{more} bytes for one more record");
}
