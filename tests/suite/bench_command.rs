//! `wally bench`, run as a process: the shape of what it prints, and what it leaves behind. What the figures are is
//! no test's business.

use crate::common;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use common::command::{Running, run};
use rustix::process::{Pid, Signal, kill_process};

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[track_caller]
fn assert_empty(dir: &Path) {
    let left: Vec<_> = fs::read_dir(dir).expect("list").map(|entry| entry.expect("list").path()).collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
}

fn bench(dir: &Path, options: &[&str]) -> common::command::Ran {
    let args = [OsStr::new("bench"), dir.as_os_str()];
    run(args.into_iter().chain(options.iter().map(OsStr::new)))
}

/// What is measured, in order: the name in JSON, the length of the records, the threads.
fn rows() -> Vec<(&'static str, u64, Option<u64>)> {
    let cpus = std::thread::available_parallelism().expect("a number").get() as u64;
    let mut rows: Vec<_> = [64, 256, 4096, 65536].map(|len| ("append", len, Some(1))).into();
    rows.extend([1, 8, 64].map(|threads| ("append_durable", 256, Some(threads))));
    for work in ["read_into", "reader_get"] {
        rows.push((work, 256, Some(1)));
        if cpus > 1 {
            rows.push((work, 256, Some(cpus)));
        }
    }
    rows.extend([("scan", 256, Some(1)), ("reopen", 256, None)]);
    rows
}

#[test]
fn json_has_an_object_for_each_work_and_nothing_is_left() {
    let dir = dir();
    let ran = bench(dir.path(), &["--seconds", "1", "--json"]).ok();
    assert_empty(dir.path());
    assert_eq!(ran.text().lines().count(), 1);
    let found: serde_json::Value = serde_json::from_str(ran.text()).expect("JSON");
    let keys =
        |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&found), ["cpus", "dir", "records_to_read", "results", "rounds", "seconds", "version"]);
    let place = fs::canonicalize(dir.path()).expect("a path");
    assert_eq!(found["dir"], place.to_str().expect("UTF-8"));
    assert_eq!((&found["seconds"], &found["rounds"]), (&1.into(), &5.into()));
    assert_eq!(found["version"], env!("CARGO_PKG_VERSION"));
    assert!(found["records_to_read"].as_u64().expect("a count") > 0);

    let results = found["results"].as_array().expect("an array");
    let measured: Vec<_> = results
        .iter()
        .map(|row| {
            let len = row["record_bytes"].as_u64().expect("a length");
            (row["work"].as_str().expect("a name"), len, row["threads"].as_u64())
        })
        .collect();
    assert_eq!(measured, rows());
    for row in results {
        assert_eq!(
            keys(row),
            ["mib_per_second", "record_bytes", "records_per_second", "records_per_sync", "threads", "work"]
        );
        let rate = |name: &str| row["records_per_second"][name].as_f64().expect("a number");
        let (min, median, max) = (rate("min"), rate("median"), rate("max"));
        assert!(0.0 < min && min <= median && median <= max, "{row}");
        let mib = row["mib_per_second"].as_f64().expect("a number");
        let expected = median * row["record_bytes"].as_f64().expect("a length") / f64::from(1 << 20);
        assert!((mib - expected).abs() <= expected * 1e-9, "{row}");
        match row["records_per_sync"].as_f64() {
            Some(per_sync) => assert!(row["work"] == "append_durable" && per_sync >= 1.0, "{row}"),
            None => assert!(row["work"] != "append_durable" && row["records_per_sync"].is_null(), "{row}"),
        }
    }
}

#[test]
fn the_table_has_a_line_for_each_work() {
    let dir = dir();
    let ran = bench(dir.path(), &["--seconds", "1"]).ok();
    assert_empty(dir.path());
    let lines: Vec<&str> = ran.text().lines().collect();
    let head = lines.iter().position(|line| line.contains("records/s")).expect("a head");
    for name in ["bytes", "threads", "lowest", "highest", "MiB/s", "records/sync"] {
        assert!(lines[head].contains(name), "{}", lines[head]);
    }
    assert_eq!(lines.len() - head - 1, rows().len(), "{}", ran.text());
    for (line, (_, len, _)) in lines[head + 1..].iter().zip(rows()) {
        assert!(line.split_whitespace().any(|word| word == len.to_string()), "{line}");
    }
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let dir = dir();
        let running = Running::start(["bench", "--seconds", "50", dir.path().to_str().expect("UTF-8")]);
        common::until(|| fs::read_dir(dir.path()).expect("list").count() > 0);
        let pid = Pid::from_raw(running.child.id().try_into().expect("a pid")).expect("a pid");
        kill_process(pid, signal).expect("kill");
        assert_eq!(running.wait().fails(code, "interrupted").text(), "");
        assert_empty(dir.path());
    }
}

#[test]
fn what_cannot_be_measured_in_is_refused() {
    let dir = dir();
    let file = dir.path().join("file");
    fs::write(&file, "mine").expect("write");
    bench(&dir.path().join("missing"), &[]).fails(4, "missing");
    bench(&file, &[]).fails(4, "file");
    assert_eq!(fs::read(&file).expect("read"), b"mine");
    fs::remove_file(&file).expect("remove");
    for seconds in ["0", "51", "x"] {
        let ran = bench(dir.path(), &["--seconds", seconds]);
        assert_eq!((ran.code, ran.text(), ran.err.is_empty()), (4, "", false), "{seconds}");
    }
    assert_empty(dir.path());
}

#[test]
#[cfg(target_os = "linux")]
fn a_disk_without_space_is_told_before_anything_is_written() {
    // No file system has less room than this one, and no program could write here.
    bench(Path::new("/proc"), &[]).fails(4, "0 MiB are free in /proc, and it takes 320");
}

#[test]
fn help_gives_examples() {
    for help in ["--help", "-h"] {
        assert!(run(["bench", help]).ok().text().contains("wally bench"));
    }
    assert!(run(["bench", "--help"]).ok().text().contains("Examples:"));
    assert!(run(["--help"]).ok().text().contains("\n  bench "));
}
