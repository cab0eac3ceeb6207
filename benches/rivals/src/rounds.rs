//! Rounds of measurements, each in a process of its own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine;
use crate::measure::Measured;
use crate::options::Options;
use crate::results::{About, Cell, Results, Row};
use crate::subjects::{CONTENDERS, Contender, Fallible};
use crate::work::{Scale, Work};

/// How the comparison is started, as far as it is the same for everyone.
const COMMAND: &str = "cargo run --release --manifest-path benches/rivals/Cargo.toml";

/// Makes every measurement once a round, so that whatever the machine does meanwhile falls on all alike.
pub(crate) fn compare(options: &Options) -> Fallible<Results> {
    let contenders: Vec<&Contender> = options.contenders.iter().map(|&at| &CONTENDERS[at]).collect();
    let mut rows: Vec<Row> = options.works.iter().map(|&work| row(work, &contenders)).collect();
    let able: usize = rows.iter().flat_map(|row| &row.cells).filter(|cell| cell.lacks.is_none()).count();
    let (start, all) = (Instant::now(), able * options.rounds);
    let mut done = 0;
    for round in 0..options.rounds {
        for (row, &work) in rows.iter_mut().zip(&options.works) {
            for turn in 0..contenders.len() {
                // Another one begins in each round.
                let at = (turn + round) % contenders.len();
                let cell = &mut row.cells[at];
                if cell.lacks.is_some() {
                    continue;
                }
                let measured = one(contenders[at], work, options)
                    .map_err(|error| format!("{}, {work}: {error}", contenders[at].profile.name))?;
                cell.samples.push(measured);
                done += 1;
            }
            let left = start.elapsed().mul_f64((all - done) as f64 / done.max(1) as f64);
            eprintln!("round {} of {}, {work}: about {} left", round + 1, options.rounds, minutes(left));
        }
    }
    let command = match options.given.is_empty() {
        true => COMMAND.to_owned(),
        false => format!("{COMMAND} -- {}", options.given.join(" ")),
    };
    Ok(Results {
        date: machine::today(),
        command,
        machine: machine::describe(&options.dir),
        rounds: options.rounds,
        long_mib: options.scale.long_mib,
        reopen_mib: options.scale.reopen_mib,
        contenders: contenders.iter().map(|contender| About::new(&contender.profile)).collect(),
        rows,
    })
}

fn row(work: Work, contenders: &[&Contender]) -> Row {
    let cells = contenders
        .iter()
        .map(|contender| Cell {
            contender: contender.profile.name.to_owned(),
            less: (contender.less)(work).map(str::to_owned),
            lacks: (contender.lacks)(work).map(str::to_owned),
            samples: Vec::new(),
        })
        .collect();
    Row { work: work.to_string(), cells }
}

/// One measurement, in a new process and a new folder.
fn one(contender: &Contender, work: Work, options: &Options) -> Fallible<Measured> {
    let dir = tempfile::Builder::new().prefix("wally-rivals-").tempdir_in(&options.dir)?;
    // What earlier measurements left to be written is none of this one's business.
    write_out(dir.path())?;
    if work == Work::Reopen {
        child("prepare", contender, work, dir.path(), &options.scale)?;
    }
    let printed = child("measure", contender, work, dir.path(), &options.scale)?;
    dir.close()?;
    let line = printed.lines().last().unwrap_or_default();
    Ok(serde_json::from_str(line).map_err(|error| format!("printed {line:?}: {error}"))?)
}

/// Has the file system that `dir` is on write out what is left to be written.
fn write_out(dir: &Path) -> Fallible {
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(std::fs::File::open(dir)?)?;
    #[cfg(not(target_os = "linux"))]
    {
        let _ = dir;
        rustix::fs::sync();
    }
    Ok(())
}

/// Runs this program again to do one thing; what it printed.
fn child(what: &str, contender: &Contender, work: Work, dir: &Path, scale: &Scale) -> Fallible<String> {
    let output = Command::new(std::env::current_exe()?)
        .args(["child", what, contender.profile.name, &work.to_string()])
        .arg(dir)
        .arg(serde_json::to_string(scale)?)
        .env("WALRUS_DATA_DIR", dir)
        .env("WALRUS_QUIET", "1")
        .stderr(Stdio::inherit())
        .output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?),
        false => Err(format!("to {what} ended with {}", output.status).into()),
    }
}

/// The other end of [`child`].
pub(crate) fn serve(args: &[String]) -> Fallible {
    let [what, name, work, dir, scale] = args else {
        return Err("child is for this program's own use".into());
    };
    let contender =
        CONTENDERS.iter().find(|contender| contender.profile.name == name).ok_or("no such contender")?;
    let (work, scale): (Work, Scale) = (work.parse()?, serde_json::from_str(scale)?);
    match what.as_str() {
        "prepare" => (contender.prepare)(Path::new(dir), &scale),
        "measure" => {
            let measured = (contender.measure)(work, Path::new(dir), &scale)?;
            println!("{}", serde_json::to_string(&measured)?);
            Ok(())
        }
        _ => Err(format!("{what} is nothing that a child does").into()),
    }
}

fn minutes(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..=90 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}
