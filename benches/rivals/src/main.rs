//! wally beside its rivals: the same work under the same durability, in one run. README.md tells how.

mod chart;
mod drawing;
mod machine;
mod measure;
mod options;
mod payload;
mod render;
mod results;
mod rounds;
mod subjects;
mod table;
mod work;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use options::{Command, Options};
use results::Results;
use subjects::Fallible;

fn main() -> ExitCode {
    match options::parse(std::env::args().skip(1)).map_err(Into::into).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Fallible {
    match command {
        Command::Help => print!("{}", options::HELP),
        Command::Compare(options) => compare(&options)?,
        Command::Render => render::write(&repository(), &Results::load(&kept())?)?,
        Command::Child(child) => rounds::serve(&child)?,
    }
    Ok(())
}

/// Measures, prints the table, and keeps the results.
fn compare(options: &Options) -> Fallible {
    let results = rounds::compare(options)?;
    print!("\n{}{}", table::whole(&results), table::contenders(&results));
    if options.quick {
        eprintln!("everything works; the works were too small for their figures to mean anything");
    }
    let out = match &options.out {
        Some(out) => out.clone(),
        None if options.is_whole() => kept(),
        None => return Ok(()),
    };
    fs::create_dir_all(&out)?;
    results.save(&out)?;
    eprintln!("the results are kept in {}", out.display());
    Ok(())
}

/// Where the results of a whole run are kept.
fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("results")
}

/// The root of the repository.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
