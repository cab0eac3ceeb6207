//! The command `wally`, run as a process: what it prints, what it leaves on disk, and the code it exits with.

use crate::common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::built::{self, BARRIER, Built, CONTINUED};
use common::command::{Ran, command, run};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use wally::{Journal, Options, SyncPolicy, Walk};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

const NEWER: u8 = 32;

// ---- running it ----

/// Runs a subcommand on a file, with options.
fn wally(subcommand: &str, file: &Path, options: &[&str]) -> Ran {
    let args = [OsStr::new(subcommand), file.as_os_str()];
    run(args.into_iter().chain(options.iter().map(OsStr::new)))
}

fn append(file: &Path, options: &[&str], input: &[u8]) -> Ran {
    let args = [OsStr::new("append"), file.as_os_str()];
    let mut child = command(args.into_iter().chain(options.iter().map(OsStr::new)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    // It may exit before it has read all: then what is left cannot be written, which is no failure of the test.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("run");
    feeder.join().expect("feeder");
    Ran::new(output)
}

fn json(file: &Path, subcommand: &str) -> (i32, serde_json::Value) {
    let ran = wally(subcommand, file, &["--json"]);
    assert_eq!(ran.err, "");
    assert_eq!(ran.text().lines().count(), 1);
    (ran.code, serde_json::from_slice(&ran.out).expect("JSON"))
}

// ---- journals to run it on ----

fn dir() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A closed sealed journal with these records, each durable before the next.
fn journal(dir: &TempDir, records: &[&[u8]]) -> PathBuf {
    let path = dir.path().join("j.wally");
    let journal = Journal::open(&path).expect("open");
    for record in records {
        journal.append(record).expect("append");
    }
    journal.close().expect("close");
    path
}

fn file(dir: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join("made.wally");
    fs::write(&path, bytes).expect("write");
    path
}

/// Puts a record after `bytes`.
fn push(bytes: &mut Vec<u8>, payload: &[u8], flags: u8) {
    *bytes = Built(std::mem::take(bytes)).sealed(payload, flags).0;
}

/// Two records, one that a crash cut short, and no proof after it.
fn torn() -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, b"one", BARRIER);
    push(&mut bytes, b"two", 0);
    push(&mut bytes, b"a record that is cut short", 0);
    bytes.truncate(bytes.len() - 5);
    bytes
}

/// The second of four records is damaged; `flags` are those of the third.
fn damaged(flags: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, b"one", BARRIER);
    push(&mut bytes, b"twX", 0);
    push(&mut bytes, b"three", flags);
    push(&mut bytes, b"four", 0);
    bytes[19 + 16 + 2] = b'o';
    bytes
}

fn newer() -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, b"one", BARRIER);
    push(&mut bytes, b"two", NEWER);
    bytes
}

fn fixtures() -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(FIXTURES)
        .expect("fixtures")
        .map(|entry| entry.expect("fixtures").path())
        .filter(|path| path.extension() == Some(OsStr::new("wally")) && path.with_extension("tsv").exists())
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no fixtures in {FIXTURES}");
    found
}

fn payloads(path: &Path) -> Vec<Vec<u8>> {
    Walk::open(path).expect("open").map(|entry| entry.expect("a clean journal").payload).collect()
}

fn length_prefixed<T: AsRef<[u8]>>(records: &[T]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records.iter().map(AsRef::as_ref) {
        bytes.extend(u32::try_from(record.len()).expect("short").to_le_bytes());
        bytes.extend(record);
    }
    bytes
}

/// What must not change under a command that only reads: every file of the directory, its bytes, when it was written.
fn picture(dir: &TempDir) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
    let mut files: Vec<_> = fs::read_dir(dir.path())
        .expect("list")
        .map(|entry| {
            let path = entry.expect("list").path();
            let written = fs::metadata(&path).and_then(|meta| meta.modified()).expect("stat");
            (path.clone(), fs::read(&path).expect("read"), written)
        })
        .collect();
    files.sort();
    files
}

// ---- append ----

#[test]
fn lines_become_records_whatever_bytes_they_hold() {
    let dir = dir();
    let path = dir.path().join("new.wally");
    let ran = append(&path, &[], b"a\r\n\n\xFF\xFE\0b\nlast").ok();
    assert!(ran.text().starts_with("4 records appended, the last index is 4; "), "{}", ran.text());
    assert!(ran.text().contains(" records/s"), "{}", ran.text());
    assert_eq!(payloads(&path), [&b"a\r"[..], b"", b"\xFF\xFE\0b", b"last"]);

    // A newline at the end ends a record and begins none; the numbering goes on.
    let ran = append(&path, &[], b"fifth\n").ok();
    assert!(ran.text().starts_with("1 record appended, the last index is 5; "), "{}", ran.text());
    assert_eq!(payloads(&path).len(), 5);
}

#[test]
fn no_input_makes_an_empty_journal() {
    for options in [&[][..], &["--batch", "4"], &["--input", "length-prefixed"]] {
        let dir = dir();
        let path = dir.path().join("new.wally");
        let ran = append(&path, options, b"").ok();
        assert!(ran.text().starts_with("0 records appended, the last index is 0; "), "{}", ran.text());
        assert_eq!(wally("verify", &path, &[]).ok().code, 0);
        assert_eq!(payloads(&path).len(), 0);
    }
}

#[test]
fn every_sync_policy_takes_every_record() {
    for sync in ["always", "never", "5"] {
        let dir = dir();
        let path = dir.path().join("new.wally");
        append(&path, &["--sync", sync], b"a\nb\nc\n").ok();
        assert_eq!(payloads(&path), [b"a", b"b", b"c"], "--sync {sync}");
        assert_eq!(json(&path, "verify").1["state"], "clean");
    }
}

#[test]
fn batches_are_atomic_and_the_last_one_takes_what_is_left() {
    let dir = dir();
    let path = dir.path().join("new.wally");
    let ran = append(&path, &["--batch", "3"], b"1\n2\n3\n4\n5\n6\n7").ok();
    assert!(ran.text().starts_with("7 records appended, the last index is 7; "), "{}", ran.text());
    assert_eq!(payloads(&path), [b"1", b"2", b"3", b"4", b"5", b"6", b"7"]);
    let bytes = fs::read(&path).expect("read");
    let continued: Vec<bool> = (0..7).map(|n| bytes[n * 17 + 12] & CONTINUED != 0).collect();
    assert_eq!(continued, [true, true, false, true, true, false, false]);
}

#[test]
fn length_prefixed_records_make_the_round_trip_through_cat() {
    let dir = dir();
    let records: [&[u8]; 5] = [b"line\nbreak\n", b"", b"\0\0\0\0", &[0xAB; 70_000], b"end"];
    let input = length_prefixed(&records);
    for batch in [&[][..], &["--batch", "2"]] {
        let path = dir.path().join(format!("batch-{}.wally", batch.len()));
        append(&path, &[&["--input", "length-prefixed", "--sync", "never"], batch].concat(), &input).ok();
        assert_eq!(payloads(&path), records);
        assert!(wally("cat", &path, &["--output", "length-prefixed"]).ok().out == input);
    }
}

#[test]
fn a_journal_of_the_reference_copied_into_the_reference_format_is_the_same_file() {
    let dir = dir();
    for fixture in fixtures() {
        let records = wally("cat", &fixture, &["--output", "length-prefixed"]).ok().out;
        let copy = dir.path().join(fixture.file_name().expect("a name"));
        let options = ["--format", "reference", "--input", "length-prefixed", "--sync", "never"];
        append(&copy, &options, &records).ok();
        assert!(fs::read(&copy).expect("read") == fs::read(&fixture).expect("read"), "{}", fixture.display());

        // The default is the other format, and a file keeps the one it has.
        append(&copy, &["--format", "sealed"], b"more").ok();
        let kept = if records.is_empty() { "sealed" } else { "reference" };
        assert_eq!(json(&copy, "info").1["format"], kept, "{}", fixture.display());
        fs::remove_file(&copy).expect("remove");
        append(&copy, &options[2..], &records).ok();
        assert_eq!(json(&copy, "info").1["format"], "sealed");
    }
}

#[test]
fn input_that_breaks_off_is_an_error_that_tells_how_much_was_appended() {
    let whole = length_prefixed(&["one", "two"]);
    let within_record = [&whole[..], &length_prefixed(&["three"])[..7]].concat();
    let within_length = [&whole[..], &[5, 0][..]].concat();
    let long = [&whole[..], &[0xFF; 4][..], b"not 4 GiB"].concat();
    for (input, words) in [
        (&within_record, "ends inside a record: 3 of its 5 bytes are there; 2 records were appended"),
        (&within_length, "ends inside a length: 2 of its 4 bytes are there; 2 records were appended"),
        (&long, "ends inside a record: 9 of its 4294967295 bytes are there; 2 records were appended"),
    ] {
        let dir = dir();
        let path = dir.path().join("new.wally");
        let ran = append(&path, &["--input", "length-prefixed"], input).fails(4, words);
        assert!(ran.err.contains("the last index is 2"), "{}", ran.err);
        assert_eq!(payloads(&path), [b"one", b"two"]);
        assert_eq!(ran.text(), "");
    }
    // The batch that the input breaks off in is not written: whole or not at all.
    let dir = dir();
    let path = dir.path().join("new.wally");
    let input = [length_prefixed(&["zero"]), within_record].concat();
    let options = ["--input", "length-prefixed", "--batch", "2"];
    append(&path, &options, &input).fails(4, "; 2 records were appended, the last index is 2");
    assert_eq!(payloads(&path), [&b"zero"[..], b"one"]);
}

#[test]
fn append_cuts_a_torn_tail_and_says_so() {
    let dir = dir();
    let path = file(&dir, &torn());
    let ran = append(&path, &[], b"three");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.starts_with("wally: note: ") && ran.err.contains("at offset 38"), "{}", ran.err);
    assert_eq!(payloads(&path), [&b"one"[..], b"two", b"three"]);
}

#[test]
fn append_touches_nothing_that_is_no_sound_journal() {
    for (bytes, code) in
        [(damaged(BARRIER), 2), (b"A text file opened by mistake.\n".to_vec(), 3), (newer(), 4)]
    {
        let dir = dir();
        let path = file(&dir, &bytes);
        let before = picture(&dir);
        append(&path, &[], b"more").fails(code, "made.wally");
        assert_eq!(picture(&dir), before);
    }
}

#[test]
fn a_journal_is_not_appended_to_itself() {
    let dir = dir();
    let path = journal(&dir, &[b"a"]);
    let input = File::open(&path).expect("open");
    let ran = command([OsStr::new("append"), path.as_os_str()]).stdin(input).output().expect("run");
    Ran::new(ran).fails(4, "at once");
    assert_eq!(payloads(&path), [b"a"]);
}

// ---- ls and cat ----

#[test]
fn ls_and_cat_agree_with_what_the_reference_wrote() {
    for fixture in fixtures() {
        let listed = wally("ls", &fixture, &[]).ok();
        let hex = wally("cat", &fixture, &["--output", "hex"]).ok();
        let expected = fs::read_to_string(fixture.with_extension("tsv")).expect("read");
        assert_eq!(listed.text().lines().count(), expected.lines().count());
        assert_eq!(hex.text().lines().count(), expected.lines().count());
        let mut offset = 0;
        for ((listed, hex), expected) in listed.text().lines().zip(hex.text().lines()).zip(expected.lines()) {
            let [index, len, crc, sha] = expected.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{expected:?}")
            };
            assert_eq!(listed, format!("{index}\t{offset}\t{len}\t{crc}"), "{}", fixture.display());
            let payload = unhex(hex);
            assert_eq!(to_hex(&Sha256::digest(&payload)), sha, "{}", fixture.display());
            offset += 16 + len.parse::<u64>().expect("a length");
        }
    }
}

fn unhex(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex");
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn cat_prints_lines_hex_and_lengths() {
    let dir = dir();
    let long: Vec<u8> = (0..1300).map(|n| n as u8).collect();
    let path = journal(&dir, &[b"a\xFF\0", b"", &long]);
    let lines = [&b"a\xFF\0\n\n"[..], &long, b"\n"].concat();
    assert!(wally("cat", &path, &[]).ok().out == lines);
    assert!(wally("cat", &path, &["--output", "lines"]).ok().out == lines);
    let hex = format!("61ff00\n\n{}\n", to_hex(&long));
    assert_eq!(wally("cat", &path, &["--output", "hex"]).ok().text(), hex);
    let lengths = length_prefixed(&[&b"a\xFF\0"[..], b"", &long]);
    assert!(wally("cat", &path, &["--output", "length-prefixed"]).ok().out == lengths);
}

#[test]
fn cat_prints_what_is_there_of_the_range_it_is_asked_for() {
    let dir = dir();
    let path = journal(&dir, &[b"1", b"2", b"3", b"4"]);
    for (options, expected) in [
        (&["--from", "3"][..], "3\n4\n"),
        (&["--to", "2"], "1\n2\n"),
        (&["--from", "2", "--to", "3"], "2\n3\n"),
        (&["--from", "2", "--to", "2"], "2\n"),
        (&["--from", "0", "--to", "0"], ""),
        (&["--from", "4", "--to", "18446744073709551615"], "4\n"),
        (&["--from", "5"], ""),
    ] {
        assert_eq!(wally("cat", &path, options).ok().text(), expected, "{options:?}");
    }
    wally("cat", &path, &["--from", "3", "--to", "2"]).fails(4, "--from 3 is after --to 2");
}

#[test]
fn ls_and_cat_print_what_is_good_and_then_tell_the_damage() {
    let mut unfinished = Vec::new();
    push(&mut unfinished, b"one", BARRIER);
    push(&mut unfinished, b"two", 0);
    push(&mut unfinished, b"begins a batch", CONTINUED);
    for (bytes, good, code, words) in [
        (torn(), &["one", "two"][..], 1, "torn at offset 38, in the place of record 3"),
        (unfinished, &["one", "two"], 1, "is torn at offset "),
        (damaged(0), &["one"], 1, "torn at offset 19, in the place of record 2; 2 whole records"),
        (damaged(BARRIER), &["one"], 2, "corrupt at offset 19, in the place of record 2; 2 whole records"),
        (newer(), &["one"], 4, "unsupported format"),
        (b"A text file.\n".to_vec(), &[], 3, "is not a journal"),
    ] {
        let dir = dir();
        let path = file(&dir, &bytes);
        let before = picture(&dir);
        let cat = wally("cat", &path, &[]).fails(code, words);
        assert_eq!(cat.text().lines().collect::<Vec<_>>(), good);
        let ls = wally("ls", &path, &[]).fails(code, words);
        assert_eq!(ls.text().lines().count(), good.len());
        assert_eq!(picture(&dir), before);
    }
    // What lies after --to is not looked at.
    let dir = dir();
    let path = file(&dir, &damaged(BARRIER));
    assert_eq!(wally("cat", &path, &["--to", "1"]).ok().text(), "one\n");
}

#[test]
fn output_that_nobody_reads_any_more_ends_it_quietly() {
    let dir = dir();
    let path = dir.path().join("big.wally");
    let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(&path).expect("open");
    for _ in 0..64 {
        journal.append(&[b'x'; 64 << 10]).expect("append");
    }
    for _ in 0..100_000 {
        journal.append(b"").expect("append");
    }
    journal.close().expect("close");
    for args in [&["cat"][..], &["ls"], &["tail", "--from", "1"]] {
        let subcommand = args[0];
        let mut child = command(args.iter().map(OsStr::new).chain([path.as_os_str()]))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run");
        // One byte shows that it writes; far more than a pipe holds is still to come.
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_exact(&mut [0]).expect("read");
        drop(stdout);
        let ran = Ran::new(child.wait_with_output().expect("wait"));
        assert_eq!((ran.code, ran.err.as_str()), (141, ""), "{subcommand}");
    }
}

#[test]
fn the_verdict_stands_even_if_nobody_reads_it() {
    let dir = dir();
    let path = file(&dir, &torn());
    let (reader, writer) = std::io::pipe().expect("pipe");
    drop(reader);
    let ran = command([OsStr::new("verify"), path.as_os_str()]).stdout(writer).output().expect("run");
    let ran = Ran::new(ran);
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_under_the_output_is_an_error() {
    let dir = dir();
    let path = journal(&dir, &[b"a"]);
    for subcommand in ["ls", "cat", "tail", "info", "verify", "repair"] {
        let full = File::options().write(true).open("/dev/full").expect("open");
        let ran = command([OsStr::new(subcommand), path.as_os_str()]).stdout(full).output().expect("run");
        Ran::new(ran).fails(4, "write standard output: ");
    }
    let full = File::options().write(true).open("/dev/full").expect("open");
    let ran = command(["--help"]).stdout(full).output().expect("run");
    Ran::new(ran).fails(4, "write standard output: ");
}

// ---- info and verify ----

#[test]
fn json_has_these_keys() {
    let dir = dir();
    let path = journal(&dir, &[b"one", b"two"]);
    for subcommand in ["info", "verify"] {
        let (code, found) = json(&path, subcommand);
        let expected = serde_json::json!({
            "format": "sealed",
            "records": 2,
            "first_index": 1,
            "last_index": 2,
            "file_bytes": 54,
            "good_bytes": 38,
            "state": "clean",
            "damage_offset": null,
            "records_beyond": null,
        });
        assert_eq!((code, found), (0, expected));
    }
}

#[test]
fn each_state_has_its_name_and_verify_its_exit_code() {
    let one_fixture = fs::read(Path::new(FIXTURES).join("one.wally")).expect("read");
    let torn_fixture = [&one_fixture[..], b"123"].concat();
    let mut unfinished_truncation = Vec::new();
    push(&mut unfinished_truncation, b"one", BARRIER);
    push(&mut unfinished_truncation, b"two", 0);
    unfinished_truncation.extend(built::mark(38, 19));
    let mut preallocated = torn();
    preallocated.truncate(38);
    preallocated.resize(4096, 0);

    let null = serde_json::Value::Null;
    let (sealed, reference) = (serde_json::json!("sealed"), serde_json::json!("reference"));
    for (what, bytes, code, state, format, records, damage, beyond) in [
        ("nothing in it", Vec::new(), 0, "clean", &null, 0, None, None),
        ("preallocated", preallocated, 0, "clean", &sealed, 2, None, None),
        ("of the reference", one_fixture, 0, "clean", &reference, 1, None, None),
        ("of the reference, torn", torn_fixture, 1, "torn", &reference, 1, Some(21), Some(0)),
        ("cut short", torn(), 1, "torn", &sealed, 2, Some(38), Some(0)),
        ("damaged, nothing proven", damaged(0), 1, "torn", &sealed, 1, Some(19), Some(2)),
        ("damaged before a barrier", damaged(BARRIER), 2, "corrupt", &sealed, 1, Some(19), Some(2)),
        ("newer", newer(), 4, "unsupported", &sealed, 1, Some(19), None),
    ] {
        let dir = dir();
        let path = file(&dir, &bytes);
        let before = picture(&dir);
        let (exit, found) = json(&path, "verify");
        assert_eq!((exit, found["state"].as_str()), (code, Some(state)), "{what}: {found}");
        assert_eq!(&found["format"], format, "{what}: {found}");
        assert_eq!(found["records"], records, "{what}: {found}");
        assert_eq!(found["damage_offset"], serde_json::json!(damage), "{what}: {found}");
        assert_eq!(found["records_beyond"], serde_json::json!(beyond), "{what}: {found}");
        assert_eq!(found["file_bytes"], bytes.len(), "{what}: {found}");

        let verify = wally("verify", &path, &[]);
        assert_eq!((verify.code, verify.err.as_str()), (code, ""), "{what}");
        assert_eq!(verify.text().lines().count(), 1, "{what}: {}", verify.text());
        // Telling what is wrong is what `info` is for: that is no failure.
        assert_eq!(json(&path, "info"), (0, found));
        assert!(wally("info", &path, &[]).ok().text().contains("\nstate "), "{what}");
        assert_eq!(picture(&dir), before, "{what}");
    }

    let dir = dir();
    let path = file(&dir, b"A text file opened by mistake.\n");
    let (exit, found) = json(&path, "verify");
    assert_eq!((exit, found["state"].as_str(), &found["format"]), (3, Some("not_a_journal"), &null));
    assert!(wally("info", &path, &[]).ok().text().contains("not a journal"));

    let path = file(&dir, &unfinished_truncation);
    let (exit, found) = json(&path, "verify");
    assert_eq!((exit, found["state"].as_str()), (1, Some("torn")), "a truncation to finish");
}

#[test]
fn damage_to_a_closed_journal_is_corrupt_to_its_last_byte() {
    let dir = dir();
    let path = journal(&dir, &[b"one", b"two", b"three"]);
    let sound = fs::read(&path).expect("read");
    for (offset, record) in [(16, 0), (35, 19), (58, 38)] {
        let mut bytes = sound.clone();
        bytes[offset] ^= 1;
        fs::write(&path, &bytes).expect("write");
        let (code, found) = json(&path, "verify");
        assert_eq!((code, found["damage_offset"].as_u64()), (2, Some(record)), "{found}");
    }
}

// ---- beside a writer ----

#[test]
fn what_only_reads_works_beside_a_writer_and_changes_nothing() {
    for policy in [SyncPolicy::Always, SyncPolicy::OnDemand] {
        let dir = dir();
        let path = dir.path().join("open.wally");
        let journal = Options::new().sync_policy(policy).open(&path).expect("open");
        for n in 0..100 {
            journal.append(format!("record {n}").as_bytes()).expect("append");
        }
        journal.flush().expect("flush");
        journal.sync().expect("sync");
        let before = picture(&dir);

        assert_eq!(wally("ls", &path, &[]).ok().text().lines().count(), 100);
        assert_eq!(wally("cat", &path, &["--from", "100"]).ok().text(), "record 99\n");
        wally("info", &path, &[]).ok();
        wally("verify", &path, &[]).ok();
        let (code, found) = json(&path, "verify");
        assert_eq!((code, found["state"].as_str(), found["records"].as_u64()), (0, Some("clean"), Some(100)));
        assert_eq!(picture(&dir), before);

        // The others need the journal for themselves.
        append(&path, &[], b"no").fails(4, "is locked");
        wally("truncate", &path, &["--keep", "1"]).fails(4, "is locked");
        assert!(wally("repair", &path, &[]).ok().text().contains("nothing to repair"));
        assert_eq!(picture(&dir), before);
        journal.append(b"still the writer").expect("append");
        journal.close().expect("close");
        assert_eq!(payloads(&path).len(), 101);
    }
}

// ---- truncate ----

#[test]
fn truncate_removes_the_records_after_an_index() {
    let dir = dir();
    let path = journal(&dir, &[b"1", b"2", b"3", b"4"]);
    let ran = wally("truncate", &path, &["--keep", "2"]).ok();
    assert_eq!(ran.text(), "2 records removed, the last index is 2\n");
    assert_eq!(payloads(&path), [b"1", b"2"]);
    assert_eq!(wally("verify", &path, &[]).ok().code, 0);

    let before = picture(&dir);
    wally("truncate", &path, &["--keep", "3"]).fails(4, "index 3 is out of range: the journal holds 1..=2");
    assert_eq!(payloads(&path), [b"1", b"2"]);
    assert_eq!(picture(&dir).len(), before.len());
    let ran = wally("truncate", &path, &["--keep", "2"]).ok();
    assert_eq!(ran.text(), "0 records removed, the last index is 2\n");

    append(&path, &[], b"new 3").ok();
    assert_eq!(payloads(&path), [&b"1"[..], b"2", b"new 3"]);
    let ran = wally("truncate", &path, &["--keep", "0"]).ok();
    assert_eq!(ran.text(), "3 records removed, the last index is 0\n");
    assert_eq!(payloads(&path).len(), 0);
    append(&path, &[], b"again").ok();
    assert_eq!(json(&path, "info").1["last_index"], 1);
}

#[test]
fn truncate_works_in_the_reference_format() {
    let dir = dir();
    let path = dir.path().join("copy.wally");
    let fixture = Path::new(FIXTURES).join("mixed-300.wally");
    fs::copy(&fixture, &path).expect("copy");
    let ran = wally("truncate", &path, &["--keep", "37"]).ok();
    assert_eq!(ran.text(), "263 records removed, the last index is 37\n");
    let left = fs::read(&path).expect("read");
    assert!(fs::read(&fixture).expect("read").starts_with(&left), "what is kept is as it was");
    assert_eq!(wally("ls", &path, &[]).ok().text().lines().count(), 37);
}

#[test]
fn truncate_cuts_a_torn_tail_but_leaves_a_corrupt_journal_alone() {
    let dir = dir();
    let path = file(&dir, &torn());
    let ran = wally("truncate", &path, &["--keep", "1"]);
    assert_eq!((ran.code, ran.text()), (0, "1 record removed, the last index is 1\n"), "{}", ran.err);
    assert!(ran.err.starts_with("wally: note: ") && ran.err.contains("at offset 38"), "{}", ran.err);
    assert_eq!(payloads(&path), [b"one"]);

    for (bytes, code) in [(damaged(BARRIER), 2), (b"text\n".to_vec(), 3), (newer(), 4)] {
        file(&dir, &bytes);
        let before = picture(&dir);
        wally("truncate", &path, &["--keep", "0"]).fails(code, "made.wally");
        assert_eq!(picture(&dir), before);
    }
}

// ---- repair ----

#[test]
fn repair_leaves_a_sound_journal_alone() {
    let dir = dir();
    let path = journal(&dir, &[b"one"]);
    let before = picture(&dir);
    for options in [&[][..], &["--dry-run"]] {
        assert!(wally("repair", &path, options).ok().text().contains("nothing to repair"));
        assert_eq!(picture(&dir), before);
    }
}

#[test]
fn repair_says_what_goes_cuts_it_and_keeps_it() {
    for (bytes, left, offset, beyond) in [
        (torn(), &["one", "two"][..], 38, "0 whole records beyond"),
        (damaged(0), &["one"], 19, "2 whole records beyond"),
        (damaged(BARRIER), &["one"], 19, "2 whole records beyond"),
    ] {
        let dir = dir();
        let path = file(&dir, &bytes);
        let before = picture(&dir);
        let went = format!("{} bytes from offset {offset} on", bytes.len() - offset);

        let dry = wally("repair", &path, &["--dry-run"]).ok();
        assert!(dry.text().contains(&format!("{went} would be cut")), "{}", dry.text());
        assert!(dry.text().contains(beyond), "{}", dry.text());
        assert_eq!(picture(&dir), before, "a dry run writes nothing");

        let ran = wally("repair", &path, &[]).ok();
        let lines: Vec<_> = ran.text().lines().collect();
        assert!(lines[0].contains(&went) && lines[0].contains(beyond), "{}", ran.text());
        let kept = dir.path().join(format!("made.wally.cut-{offset}"));
        let kept_name = kept.to_str().expect("UTF-8");
        assert!(lines[1].contains(&format!("cut {} bytes", bytes.len() - offset)), "{}", ran.text());
        assert!(lines[1].contains(kept_name), "{}", ran.text());
        assert_eq!(fs::read(&kept).expect("read"), &bytes[offset..]);
        assert_eq!(payloads(&path), left.iter().map(|text| text.as_bytes()).collect::<Vec<_>>());
        assert_eq!(wally("verify", &path, &[]).ok().code, 0);

        let after = picture(&dir);
        assert!(wally("repair", &path, &[]).ok().text().contains("nothing to repair"));
        assert_eq!(picture(&dir), after, "once is enough");
    }
}

#[test]
fn repair_refuses_what_is_not_its_business() {
    for (bytes, code, words) in
        [(b"text\n".to_vec(), 3, "is not a journal"), (newer(), 4, "written by a newer version")]
    {
        let dir = dir();
        let path = file(&dir, &bytes);
        let before = picture(&dir);
        for options in [&[][..], &["--dry-run"]] {
            wally("repair", &path, options).fails(code, words);
            assert_eq!(picture(&dir), before);
        }
    }
}

#[test]
fn repair_does_not_cut_under_a_writer() {
    let dir = dir();
    let path = file(&dir, &damaged(BARRIER));
    let before = picture(&dir);
    let locked = File::open(&path).expect("open");
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("lock");
    wally("repair", &path, &[]).fails(4, "is locked");
    wally("repair", &path, &["--dry-run"]).ok();
    assert_eq!(picture(&dir), before);
}

// ---- what is wrong with the arguments ----

const ON_A_FILE: [(&str, &[&str]); 8] = [
    ("append", &[]),
    ("ls", &[]),
    ("cat", &[]),
    ("tail", &[]),
    ("info", &[]),
    ("verify", &[]),
    ("truncate", &["--keep", "0"]),
    ("repair", &[]),
];

#[test]
fn a_file_that_is_not_there_is_not_made_but_by_append() {
    let dir = dir();
    let missing = dir.path().join("missing.wally");
    for (subcommand, options) in ON_A_FILE.into_iter().skip(1) {
        wally(subcommand, &missing, options).fails(4, "missing.wally");
        assert!(!missing.exists(), "{subcommand}");
    }
    wally("append", &missing.join("in no directory"), &[]).fails(4, "missing.wally");
    wally("append", &missing, &[]).ok();
    assert!(missing.exists());
}

#[test]
fn a_directory_is_no_file() {
    let dir = dir();
    for (subcommand, options) in ON_A_FILE {
        wally(subcommand, dir.path(), options).fails(4, "");
    }
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 0);
}

#[test]
fn wrong_usage_is_never_mistaken_for_a_corrupt_journal() {
    let dir = dir();
    let path = journal(&dir, &[b"a"]);
    let path = path.to_str().expect("UTF-8");
    let before = picture(&dir);
    for args in [
        &[][..],
        &["frobnicate"],
        &["append"],
        &["ls"],
        &["cat"],
        &["info"],
        &["verify"],
        &["truncate", path],
        &["repair"],
        &["tail"],
        &["bench"],
        &["verify", "--nonsense", path],
        &["verify", path, "more"],
        &["cat", "--from", "x", path],
        &["cat", "--output", "xml", path],
        &["truncate", "--keep", "-1", path],
        &["append", "--batch", "0", path],
        &["append", "--format", "new", path],
        &["append", "--input", "csv", path],
        &["append", "--sync", "sometimes", path],
        &["append", "--sync", "0", path],
        &["append", "--sync=-1", path],
    ] {
        let ran = run(args);
        assert_eq!((ran.code, ran.text()), (4, ""), "{args:?}");
        assert!(!ran.err.is_empty(), "{args:?}");
    }
    assert_eq!(picture(&dir), before);
}

#[test]
fn help_tells_the_exit_codes_and_gives_examples() {
    let help = run(["--help"]).ok();
    assert!(help.text().contains("Exit codes:"), "{}", help.text());
    for (subcommand, _) in ON_A_FILE {
        assert!(help.text().contains(&format!("\n  {subcommand} ")), "{}", help.text());
        let help = run([subcommand, "--help"]).ok();
        assert!(help.text().contains("Examples:"), "{}", help.text());
        assert!(help.text().contains(&format!("wally {subcommand} ")), "{}", help.text());
        run([subcommand, "-h"]).ok();
    }
    let version = run(["--version"]).ok();
    assert_eq!(version.text(), concat!("wally ", env!("CARGO_PKG_VERSION"), "\n"));
}
