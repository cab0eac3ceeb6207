//! The cost of each kind of work beside the least code that does the same. Both sides of a ratio are interleaved in one run.
//!
//! ```sh
//! cargo bench --bench table                  # as text; five minutes
//! cargo bench --bench table -- --markdown    # the same as Markdown
//! cargo bench --bench table -- --results     # and into benches/RESULTS.md, between its two marks
//! cargo bench --bench table -- --rounds 31   # more rounds than 15; at least 9
//! cargo bench --bench table -- --only read   # the rows with that word
//! cargo bench --bench table -- --test        # each once and small, to see that it works
//! ```
//!
//! `common/mod.rs` says what a floor is. Files of up to 1 GiB lie in a temporary folder under `WALLY_BENCH_DIR`, else
//! under `TMPDIR`, and are removed at the end. On a machine that is busy with something else the ranges are wide.

use std::process::ExitCode;

#[path = "../common/mod.rs"]
mod common;
mod line;
mod results;
mod rows;

use common::folder::Folder;
use common::{machine, quick};
use line::Line;
use results::Results;
use rows::{GROUPS, Row};

const ROUNDS: usize = 15;
const FEWEST_ROUNDS: usize = 9;

struct Arguments {
    output: Output,
    rounds: usize,
    /// A part of the names of the rows to measure.
    only: Option<String>,
}

#[derive(PartialEq)]
enum Output {
    Text,
    Markdown,
    Results,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("table: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let Arguments { output, rounds, only } = Arguments::read()?;
    let quick = quick();
    if output == Output::Results && (quick || only.is_some()) {
        return Err("--results needs every row, so neither --test nor --only".to_owned());
    }
    let results = if output == Output::Results { Some(Results::open()?) } else { None };
    let rounds = if quick { 1 } else { rounds };
    let folder = Folder::new();
    let machine = machine::describe(folder.dir());
    eprintln!("{machine}; {rounds} rounds");

    let mut lines = Vec::new();
    for group in GROUPS {
        group(&folder, &mut |row: Row<'_>| {
            if only.as_ref().is_some_and(|word| !row.work.contains(word)) {
                return;
            }
            eprintln!("{}", row.work);
            let line = Line::measure(row, rounds, quick);
            if output == Output::Text && !quick {
                print(&line);
            }
            lines.push(line);
        });
    }
    if lines.is_empty() {
        return Err("no row has that word".to_owned());
    }
    // Figures of runs that were small mean nothing.
    if quick {
        return Ok(());
    }
    let block = results::markdown(&lines, &machine, rounds);
    if let Some(results) = results {
        return results.write(&block);
    }
    if output == Output::Markdown {
        print!("{block}");
    }
    Ok(())
}

fn print(line: &Line) {
    let (work, other) = (&line.work, line.other);
    let (wally, beside, ratio, target) = (line.wally(), line.beside(), line.ratio(), line.target());
    println!("{work:<37} {wally:>10}   {other:<24} {beside:>10}   {ratio:<24} {target}");
}

impl Arguments {
    fn read() -> Result<Self, String> {
        let mut read = Self { output: Output::Text, rounds: ROUNDS, only: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--markdown" => read.output = Output::Markdown,
                "--results" => read.output = Output::Results,
                "--only" => {
                    let word = arguments.next().filter(|word| !word.starts_with("--"));
                    read.only = Some(word.ok_or("--only wants a word")?);
                }
                "--rounds" => {
                    let number = arguments.next().and_then(|number| number.parse().ok());
                    read.rounds = number
                        .filter(|&number| number >= FEWEST_ROUNDS)
                        .ok_or_else(|| format!("--rounds wants a number, {FEWEST_ROUNDS} or more"))?;
                }
                // Cargo adds the first; `quick` looks for both.
                "--bench" | "--test" => {}
                other => {
                    return Err(format!("{other}? There is --markdown, --results, --rounds, --only, --test"));
                }
            }
        }
        Ok(read)
    }
}
