//! The machine that a figure was measured on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

/// Returns processor, system, file system of `dir` and date, as one line. What cannot be found out is left out.
pub fn describe(dir: &Path) -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let parts = [
        processor(),
        Some(format!("{cores} cores")),
        printed("uname", &["-sr"]),
        file_system(dir),
        printed("date", &["-u", "+%F"]),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn processor() -> Option<String> {
    let all = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = all.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Returns the type of the mount that `dir` is on: of the mount points that are prefixes of it, the longest.
fn file_system(dir: &Path) -> Option<String> {
    let dir = fs::canonicalize(dir).ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let fields = mounts.lines().map(|line| line.split(' ').skip(1).take(2).collect::<Vec<_>>());
    let under = fields.filter(|fields| fields.len() == 2 && dir.starts_with(fields[0]));
    Some(under.max_by_key(|fields| fields[0].len())?[1].to_owned())
}

fn printed(command: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(command).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
