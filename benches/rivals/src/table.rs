//! The results as Markdown.

use std::fmt::Write;

use crate::results::{About, Cell, Results, Row, Spread};
use crate::work::{Unit, Work};

/// Everything: each median with its minimum and maximum, and what each contender does less.
pub(crate) fn whole(results: &Results) -> String {
    let mut text = format!("# wally beside its rivals\n\n{}\n\n", conditions(results));
    text += "Medians, with minimum and maximum in brackets. The best of a row is bold.\n\n";
    let ranged = |spread: Option<Spread>| {
        let Spread { least, median, most } = spread?;
        Some(format!("{} ({}–{})", figure(median), figure(least), figure(most)))
    };
    let mut reasons = Reasons::default();
    text += &table(
        results,
        |_| true,
        |cell, unit| ranged(cell.spread(unit)).unwrap_or_else(|| reasons.note(cell)),
    );
    text += &reasons.list();
    text += "What the writer beside the readers appended meanwhile, records a second:\n\n";
    let mut reasons = Reasons::default();
    let beside = |work| matches!(work, Work::FanOut { .. });
    text += &table(results, beside, |cell, _| ranged(cell.written()).unwrap_or_else(|| reasons.note(cell)));
    text += &reasons.list();
    text.push_str(&claims(results).iter().map(|claim| format!("- {claim}\n")).collect::<String>());
    text += "\n## How each is used, and what it does less\n";
    for contender in &results.contenders {
        let _ = write!(text, "\n**{}**: {}.\n\n", named(contender), contender.settings);
        contender.less.iter().for_each(|less| {
            let _ = writeln!(text, "- {less}");
        });
    }
    text
}

/// The medians alone.
pub(crate) fn medians(results: &Results) -> String {
    let mut reasons = Reasons::default();
    let mut text = table(
        results,
        |_| true,
        |cell, unit| match cell.spread(unit) {
            Some(Spread { median, .. }) => figure(median),
            None => reasons.note(cell),
        },
    );
    text += &reasons.list();
    text
}

/// Where, when and how it was measured.
pub(crate) fn conditions(results: &Results) -> String {
    let machine = &results.machine;
    let rounds = match results.rounds {
        1 => "one round".to_owned(),
        rounds => format!("{rounds} interleaved rounds"),
    };
    format!(
        "{}, {} cores, {}, {}; {}; {rounds}, a fresh process for each measurement: `{}`",
        machine.processor, machine.cores, machine.kernel, machine.file_system, results.date, results.command
    )
}

/// What a user will check first.
pub(crate) fn claims(results: &Results) -> Vec<String> {
    let median = |work, name| results.spread(work, name).map(|spread| spread.median);
    let mut claims = Vec::new();
    let append = Work::Append { len: 64 };
    if let (Some(here), Some(call)) = (median(append, "wally"), median(append, "write(2)")) {
        claims.push(format!(
            "64-byte appends: {} times as fast as one `write(2)` an append.",
            figure(call / here)
        ));
    }
    let alone = median(Work::Read { threads: 1 }, "wally").map(|nanoseconds| 1000.0 / nanoseconds);
    if let (Some(one), Some(two)) = (alone, median(Work::Read { threads: 2 }, "wally")) {
        claims.push(format!("Random reads from 2 threads: {} times as many as from one.", figure(two / one)));
    }
    if let (Some(one), Some(beside)) = (alone, median(Work::FanOut { readers: 1 }, "wally")) {
        claims.push(format!(
            "Random reads beside a writer that runs flat out: {} times as many as without it.",
            figure(beside / one)
        ));
    }
    claims
}

/// A row a work that is `wanted`, a column a contender.
fn table(
    results: &Results,
    wanted: impl Fn(Work) -> bool,
    mut show: impl FnMut(&Cell, Unit) -> String,
) -> String {
    let mut text = String::from("| work | unit |");
    results.contenders.iter().for_each(|contender| {
        let _ = write!(text, " {} |", named(contender));
    });
    text += "\n| --- | --- |";
    text += &" ---: |".repeat(results.contenders.len());
    text.push('\n');
    for row in &results.rows {
        let Some(work) = row.work.parse().ok().filter(|&work| wanted(work)) else { continue };
        let unit = work.unit();
        let _ = write!(text, "| {} | {} |", work.describe(results.long_mib, results.reopen_mib), unit.name());
        let best = best(row, unit);
        for cell in &row.cells {
            let shown = show(cell, unit);
            let _ = match best == Some(&cell.contender) {
                true => write!(text, " **{shown}** |"),
                false => write!(text, " {shown} |"),
            };
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

/// Whose median is the best of the row.
fn best(row: &Row, unit: Unit) -> Option<&String> {
    let better = |spread: Spread| if unit.less_is_better() { spread.median } else { -spread.median };
    let measured = row.cells.iter().filter_map(|cell| Some((better(cell.spread(unit)?), &cell.contender)));
    measured.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, contender)| contender)
}

fn named(contender: &About) -> String {
    match &contender.version {
        Some(version) => format!("{} {version}", contender.name),
        None => contender.name.clone(),
    }
}

/// Why cells are empty, numbered as they come.
#[derive(Default)]
struct Reasons(Vec<String>);

impl Reasons {
    fn note(&mut self, cell: &Cell) -> String {
        let reason = match &cell.lacks {
            Some(lacks) => format!("{}: {lacks}.", cell.contender),
            None => "Not measured.".to_owned(),
        };
        let at = self.0.iter().position(|known| *known == reason).unwrap_or_else(|| {
            self.0.push(reason);
            self.0.len() - 1
        });
        format!("– <sup>{}</sup>", at + 1)
    }

    fn list(&self) -> String {
        let mut text = String::new();
        for (at, reason) in self.0.iter().enumerate() {
            let _ = write!(text, "{}<sup>{}</sup> {reason}", if at == 0 { "" } else { " " }, at + 1);
        }
        if !text.is_empty() {
            text += "\n\n";
        }
        text
    }
}

/// Three digits that count, thousands apart.
pub(crate) fn figure(value: f64) -> String {
    if value <= 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let exponent = value.log10().floor() as i32;
    let step = 10f64.powi(exponent - 2);
    let rounded = (value / step).round() * step;
    let digits = usize::try_from(2 - exponent).unwrap_or(0);
    let text = format!("{rounded:.digits$}");
    match text.contains('.') || text.len() < 4 {
        true => text,
        false => {
            let (mut apart, first) = (String::new(), text.len() % 3);
            for (at, digit) in text.chars().enumerate() {
                if at > 0 && at % 3 == first {
                    apart.push(',');
                }
                apart.push(digit);
            }
            apart
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_that_count() {
        for (value, text) in [
            (0.01234, "0.0123"),
            (1.005, "1.00"),
            (12.34, "12.3"),
            (71.0, "71.0"),
            (999.6, "1,000"),
            (123.4, "123"),
            (1234.0, "1,230"),
            (54_321.0, "54,300"),
            (1_234_567.0, "1,230,000"),
        ] {
            assert_eq!(figure(value), text);
        }
    }
}
