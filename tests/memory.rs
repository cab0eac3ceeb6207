//! What an open journal costs in memory while nobody uses it. It is measured in a process that does nothing else: what
//! a program has freed before is not given back to the system at once, and would be counted.
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{payload, place};
use wally::{Options, SyncPolicy};

const TEST: &str = "an_idle_journal_takes_less_than_a_mebibyte_beyond_its_mapped_file";
const RECORDS: u64 = 64;

/// Memory of this process that no file backs, in bytes. Pages of a map are not among it.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

fn options() -> Options {
    let mut options = Options::new();
    // The policy with a thread of its own.
    options.sync_policy(SyncPolicy::Interval(Duration::from_secs(3600)));
    options
}

/// Opens the journal, uses it a little, and looks at what is left when it idles.
fn measure(path: &Path) {
    let before = anonymous();
    let journal = options().open(path).unwrap();
    let mut reader = journal.reader();
    for n in 1..=RECORDS {
        assert!(reader.get(n).is_some_and(|record| record.contains(&1)));
    }
    journal.append(b"not idle yet").unwrap();
    journal.sync().unwrap();
    let taken = anonymous().saturating_sub(before);
    assert!(taken < 1 << 20, "{taken} bytes");
}

#[test]
fn an_idle_journal_takes_less_than_a_mebibyte_beyond_its_mapped_file() {
    if let Some(path) = std::env::var_os("WALLY_TEST_MEASURE") {
        return measure(Path::new(&path));
    }
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    for n in 0..RECORDS {
        journal.append(&payload(n, 1 << 20)).unwrap();
    }
    journal.close().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output =
        child.args([TEST, "--exact", "--nocapture"]).env("WALLY_TEST_MEASURE", path).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}
