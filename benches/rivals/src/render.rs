//! What shows the results: the charts, a block of `benches/RESULTS.md` and a small one of the README. All of it is
//! written from the results that are kept, so that no figure is typed by hand and all are of the same run.

use std::fs;
use std::path::Path;

use crate::results::Results;
use crate::subjects::Fallible;
use crate::{chart, table};

const BEGIN: &str = "<!-- rivals:begin -->";
const END: &str = "<!-- rivals:end -->";

/// The files, as seen from the repository's root.
const RESULTS: &str = "benches/RESULTS.md";
const README: &str = "README.md";
const CHARTS: &str = "benches/results";

/// The chart of the README.
const README_CHART: &str = "fan-out.svg";

/// Writes everything anew in the repository at `root`.
pub(crate) fn write(root: &Path, results: &Results) -> Fallible {
    let texts = [(RESULTS, results_block(results)), (README, readme_block(results))];
    // Looked at first, so that a file without its marks leaves the others as they are.
    let texts = texts
        .into_iter()
        .map(|(file, block)| Ok((file, with_block(root, file, &block)?)))
        .collect::<Fallible<Vec<_>>>()?;
    fs::create_dir_all(root.join(CHARTS))?;
    for (file, svg) in chart::all(results) {
        fs::write(root.join(CHARTS).join(file), svg)?;
    }
    for (file, text) in texts {
        fs::write(root.join(file), text)?;
    }
    Ok(())
}

/// The text of `file` with `block` in its place.
fn with_block(root: &Path, file: &str, block: &str) -> Fallible<String> {
    let text = fs::read_to_string(root.join(file)).map_err(|error| format!("{file}: {error}"))?;
    Ok(replaced(&text, block).map_err(|error| format!("{file}: {error}"))?)
}

/// Everything: the whole table, the charts, and what each contender does less.
fn results_block(results: &Results) -> String {
    let mut text = table::whole(results);
    let charts = chart::all(results);
    // Paths in a Markdown file begin in its own folder.
    let folder = CHARTS.trim_start_matches("benches/");
    text.extend(charts.iter().map(|(file, svg)| format!("\n![{}]({folder}/{file})\n", chart::title(svg))));
    text += "\n### How each is used, and what it does less\n";
    text += &table::contenders(results);
    text
}

/// A few rows, and one chart.
fn readme_block(results: &Results) -> String {
    let mut text = format!("{}\n", table::few(results));
    let charts = chart::all(results);
    if let Some((file, svg)) = charts.iter().find(|(file, _)| *file == README_CHART) {
        text += &format!("![{}]({CHARTS}/{file})\n\n", chart::title(svg));
    }
    text += &format!("{}.\n", table::conditions(results));
    text
}

/// `text` with `block` between the two marks.
fn replaced(text: &str, block: &str) -> Result<String, &'static str> {
    let (before, rest) = text.split_once(BEGIN).ok_or("no line says <!-- rivals:begin -->")?;
    let (_, after) = rest.split_once(END).ok_or("no line after it says <!-- rivals:end -->")?;
    Ok(format!("{before}{BEGIN}\n{block}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kept, repository};

    #[test]
    fn what_is_between_the_marks_is_replaced_and_nothing_else() {
        let before = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let after = replaced(&before, "new\n").expect("both marks are there");
        assert_eq!(after, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(replaced(&after, "new\n").as_deref(), Ok(after.as_str()));
    }

    #[test]
    fn a_file_without_both_marks_is_left_alone() {
        assert!(replaced("a", "new").is_err());
        assert!(replaced(&format!("{END} {BEGIN}"), "new").is_err());

        let root = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(root.path().join("benches")).expect("a folder");
        fs::write(root.path().join(RESULTS), format!("{BEGIN}{END}")).expect("a file");
        fs::write(root.path().join(README), "no marks").expect("a file");
        let results = Results::load(&kept()).expect("the results that are kept");
        assert!(write(root.path(), &results).is_err());
        let text = fs::read_to_string(root.path().join(RESULTS)).expect("the file");
        assert_eq!(text, format!("{BEGIN}{END}"));
        assert!(!root.path().join(CHARTS).exists());
    }

    /// New results are to be rendered.
    #[test]
    fn the_repository_shows_the_results_that_are_kept() {
        let results = Results::load(&kept()).expect("the results that are kept");
        let read = |file: &str| fs::read_to_string(repository().join(file)).expect(file);
        for (file, block) in [(RESULTS, results_block(&results)), (README, readme_block(&results))] {
            let same = replaced(&read(file), &block) == Ok(read(file));
            assert!(same, "{file} shows other results: run the command `render`");
        }
        for (file, svg) in chart::all(&results) {
            let same = read(&format!("{CHARTS}/{file}")) == svg;
            assert!(same, "{file} shows other results: run the command `render`");
        }
    }
}
