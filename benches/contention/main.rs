//! The heavy set: how reading, durable appending and following perform with many threads or tasks.
//!
//! ```sh
//! cargo bench --bench contention                     # two minutes
//! cargo bench --bench contention -- --only readers   # or appenders, followers, tasks
//! cargo bench --bench contention -- --test           # each once and small, to see that it works
//! ```
//!
//! Run it after a change to something that threads share; `table` and `journal` are the sets to watch. Files lie where
//! theirs do. With more threads than cores the figures show what waiting and waking cost, not how the journal scales.

use std::process::ExitCode;

mod appenders;
#[path = "../common/mod.rs"]
mod common;
mod followers;
mod readers;
mod tasks;

use common::folder::Folder;
use common::{machine, quick};

type Part = (&'static str, fn(&Folder));

const PARTS: [Part; 4] = [
    ("readers", readers::run),
    ("appenders", appenders::run),
    ("followers", followers::run),
    ("tasks", tasks::run),
];

fn main() -> ExitCode {
    let mut only = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--only" => only = Some(arguments.next().unwrap_or_default()),
            // Cargo adds the first; `common::quick` looks for both.
            "--bench" | "--test" => {}
            other => {
                eprintln!("contention: {other}? There is --only and --test");
                return ExitCode::FAILURE;
            }
        }
    }
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only == name);
    if !PARTS.iter().any(|(name, _)| wanted(name)) {
        eprintln!("contention: --only wants readers, appenders, followers or tasks");
        return ExitCode::FAILURE;
    }
    let folder = Folder::new();
    println!("{}", machine::describe(folder.dir()));
    if quick() {
        println!("each once and small: the figures mean nothing");
    }
    for (name, run) in PARTS {
        if wanted(name) {
            run(&folder);
        }
    }
    ExitCode::SUCCESS
}
