//! The table as Markdown, and its place in `benches/RESULTS.md`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::line::Line;

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

pub(crate) fn markdown(lines: &[Line], machine: &str, rounds: usize) -> String {
    let mut text = format!(
        "{machine}. `cargo bench --bench table`: medians of {rounds} interleaved rounds; the ratio is wally divided by what it stands \
         beside, with the least and the greatest of the rounds.\n\n\
         | work | wally | | beside | ratio | to reach |\n| --- | --- | --- | --- | --- | --- |\n"
    );
    for line in lines {
        let (wally, beside) = (line.wally(), line.beside());
        let cells = [&line.work, &wally, line.other, &beside, &line.ratio(), &line.target()];
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

/// The text of `benches/RESULTS.md` before and after the table.
pub(crate) struct Results {
    path: PathBuf,
    before: String,
    after: String,
}

impl Results {
    /// Finds the place of the table. Called first, so that a file without one is reported before anything is measured.
    pub(crate) fn open() -> Result<Self, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/RESULTS.md");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let place = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
        match place {
            Some((before, after)) => Ok(Self { before: before.to_owned(), after: after.to_owned(), path }),
            None => Err(format!("{}: no {BEGIN} with an {END} after it", path.display())),
        }
    }

    pub(crate) fn write(&self, block: &str) -> Result<(), String> {
        let Self { path, before, after } = self;
        let text = format!("{before}{BEGIN}\n{block}{END}{after}");
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}
