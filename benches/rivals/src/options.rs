//! The command line.

use std::path::PathBuf;

use crate::subjects::CONTENDERS;
use crate::work::{self, Scale, Work};

pub(crate) const HELP: &str = "\
wally beside its rivals, in one run.

  cargo run --release --manifest-path benches/rivals/Cargo.toml -- [OPTIONS]
  cargo run --release --manifest-path benches/rivals/Cargo.toml -- COMMAND

Options:
  --quick           one round of tiny works: sees that everything works, measures nothing
  --rounds N        how often each measurement is made (5)
  --dir PATH        where files are written (the system's folder for temporary files)
  --reopen-mib N    how much is reopened (128)
  --only NAMES      these contenders only, separated by commas
  --works NAMES     these works only, separated by commas
  --out PATH        where results.json is kept (benches/rivals/results after a whole run, else nowhere)

Commands:
  render            measures nothing: writes the charts in benches/results, and the blocks of benches/RESULTS.md and
                    README.md that show them, from the results that are kept in benches/rivals/results
";

pub(crate) enum Command {
    Help,
    Compare(Options),
    Render,
    Child(Vec<String>),
}

pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) dir: PathBuf,
    pub(crate) out: Option<PathBuf>,
    pub(crate) scale: Scale,
    /// Indexes into [`CONTENDERS`].
    pub(crate) contenders: Vec<usize>,
    pub(crate) works: Vec<Work>,
    /// As given, to be shown with the results.
    pub(crate) given: Vec<String>,
}

impl Options {
    /// Whether the results can stand for the whole comparison.
    pub(crate) fn is_whole(&self) -> bool {
        !self.quick && self.contenders.len() == CONTENDERS.len() && self.works == work::all()
    }
}

pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Command, String> {
    let given: Vec<String> = args.collect();
    let mut args = given.iter().cloned();
    match given.first().map(String::as_str) {
        Some("render" | "--render") if given.len() == 1 => return Ok(Command::Render),
        Some("child") => return Ok(Command::Child(given[1..].to_vec())),
        _ => {}
    }

    let mut quick = false;
    let (mut rounds, mut reopen_mib) = (None, None);
    let (mut dir, mut out) = (std::env::temp_dir(), None);
    let (mut contenders, mut works) = ((0..CONTENDERS.len()).collect(), work::all());
    while let Some(option) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--quick" => quick = true,
            "--rounds" => rounds = Some(number(&value()?)? as usize),
            "--reopen-mib" => reopen_mib = Some(number(&value()?)?),
            "--dir" => dir = value()?.into(),
            "--out" => out = Some(value()?.into()),
            "--only" => contenders = value()?.split(',').map(contender).collect::<Result<_, _>>()?,
            "--works" => works = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            _ => return Err(format!("no option called {option}; --help lists them")),
        }
    }
    let mut scale = if quick { Scale::quick() } else { Scale::full() };
    scale.reopen_mib = reopen_mib.unwrap_or(scale.reopen_mib);
    let rounds = rounds.unwrap_or(if quick { 1 } else { 5 });
    Ok(Command::Compare(Options { quick, rounds, dir, out, scale, contenders, works, given }))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| format!("{text} is not a number above 0"))
}

fn contender(name: &str) -> Result<usize, String> {
    CONTENDERS
        .iter()
        .position(|contender| contender.profile.name == name)
        .ok_or_else(|| format!("no contender called {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn only_a_run_of_everything_is_whole() {
        let whole = |line| matches!(parsed(line), Ok(Command::Compare(options)) if options.is_whole());
        assert!(whole(""));
        assert!(whole("--rounds 3 --reopen-mib 1024"));
        assert!(!whole("--quick"));
        assert!(!whole("--only wally,redb"));
        assert!(!whole("--works scan"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "render --quick",
            "--quick render",
            "--rounds",
            "--rounds 0",
            "--rounds x",
            "--only nobody",
            "--works nothing",
            "--speed",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
