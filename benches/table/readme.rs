//! The table as Markdown, and the place in the README where it stands.

use std::fs;
use std::path::Path;

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

/// Puts `block` between the two marks of the README.
pub(crate) fn rewrite(block: &str) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(&path).map_err(|error| wrong(&error))?;
    let text = replaced(&text, block).ok_or_else(|| wrong(&format!("no {BEGIN} with an {END} behind it")))?;
    fs::write(&path, text).map_err(|error| wrong(&error))
}

fn replaced(text: &str, block: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{block}{END}{after}"))
}
