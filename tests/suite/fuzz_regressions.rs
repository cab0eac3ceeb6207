//! What the fuzzers in `fuzz/` found, and the seeds they begin with, run through the same checks as an ordinary test.
//! An input that made a fuzz target fail goes to `finds/TARGET/` here, under a name that says what it showed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{common, fuzz};

/// Runs each input of a target, and tells which one failed.
fn replay(target: &str, run: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let seeds = inputs(&root.join("fuzz/seeds").join(target));
    assert!(!seeds.is_empty(), "no seeds of {target}");
    let finds = inputs(&root.join("tests/finds").join(target));
    for path in seeds.iter().chain(&finds) {
        let bytes = fs::read(path).expect("an input");
        if let Err(panic) = std::panic::catch_unwind(|| run(&bytes)) {
            eprintln!("{target} failed on {}", path.display());
            std::panic::resume_unwind(panic);
        }
    }
    println!("{target}: {} seeds, {} finds", seeds.len(), finds.len());
}

fn inputs(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[test]
fn any_file_is_taken_for_what_the_simple_decoder_takes_it_for() {
    let folder = common::fast_dir();
    replay("recover", |bytes| fuzz::recover::run(bytes, folder.path()));
}

#[test]
fn operations_do_what_they_do_to_a_vector() {
    let folder = common::fast_dir();
    replay("operations", |bytes| fuzz::operations::run(bytes, folder.path()));
}

#[test]
fn damage_never_costs_what_is_proven_durable() {
    let folder = common::fast_dir();
    replay("damage", |bytes| fuzz::damage::run(bytes, folder.path()));
}

#[test]
fn headers_say_what_the_specification_says() {
    replay("header", fuzz::header::run);
}
