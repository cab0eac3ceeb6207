//! The block of a README that shows the results, so that no figure in it is typed by hand.

use std::fs;
use std::path::Path;

use crate::results::Results;
use crate::subjects::Fallible;
use crate::table;

const BEGIN: &str = "<!-- rivals:begin -->";
const END: &str = "<!-- rivals:end -->";

/// Where all of it is. No link: the README goes into the published package, this does not.
const WHOLE: &str = "benches/rivals/results/table.md";

/// Writes the block anew.
pub(crate) fn update(file: &Path, results: &Results) -> Fallible {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let text = replaced(&text, &block(results)).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(fs::write(file, text)?)
}

fn block(results: &Results) -> String {
    let mut text = format!("{}\n\n{}", table::conditions(results), table::medians(results));
    text.extend(table::claims(results).iter().map(|claim| format!("- {claim}\n")));
    text += &format!(
        "\nCharts, minimum and maximum, and what each contender does less: `{WHOLE}` in the repository."
    );
    text
}

/// `text` with `block` between the two marks.
fn replaced(text: &str, block: &str) -> Result<String, &'static str> {
    let (before, rest) = text.split_once(BEGIN).ok_or("no line says <!-- rivals:begin -->")?;
    let (_, after) = rest.split_once(END).ok_or("no line behind it says <!-- rivals:end -->")?;
    Ok(format!("{before}{BEGIN}\n{block}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_the_marks_is_replaced_and_nothing_else() {
        let before = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let after = replaced(&before, "new").expect("both marks are there");
        assert_eq!(after, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(replaced(&after, "new").as_deref(), Ok(after.as_str()));
    }

    #[test]
    fn a_file_without_both_marks_is_left_alone() {
        assert!(replaced("a", "new").is_err());
        assert!(replaced(&format!("{END} {BEGIN}"), "new").is_err());
    }
}
