//! The results as Markdown.

use std::fmt::Write;

use crate::results::{About, Cell, Results, Spread};
use crate::work::{FAN_OUT_READERS, Unit, Work};

/// Everything: each median with its minimum and maximum.
pub(crate) fn whole(results: &Results) -> String {
    let mut text = format!("{}\n\n", conditions(results));
    text += "Medians, with minimum and maximum in brackets. The best of a row is bold.\n\n";
    let mut notes = Notes::default();
    text += &table(results, |cell, unit| notes.mark(cell, cell.spread(unit).map(ranged)));
    text += &notes.list();
    text += &writers(results);
    text.extend(claims(results).iter().map(|claim| format!("- {claim}\n")));
    text
}

/// How each contender is used, and what it does less.
pub(crate) fn contenders(results: &Results) -> String {
    let mut text = String::new();
    for contender in &results.contenders {
        let _ = write!(text, "\n**{}**: {}.\n\n", named(contender), contender.settings);
        contender.less.iter().for_each(|less| {
            let _ = writeln!(text, "- {less}");
        });
    }
    text
}

/// The works of [`few`].
const FEW: [Work; 5] = [
    Work::Append { len: 256 },
    Work::Durable { threads: 1 },
    Work::Durable { threads: 64 },
    Work::Read { threads: 1 },
    Work::FanOut { readers: 8 },
];

/// A few works, for a first look: the medians of wally, of one `write(2)` an append, and of the best of the others.
pub(crate) fn few(results: &Results) -> String {
    let mut text = "| work | unit | wally | `write(2)` | the best of the others |\n".to_owned();
    text += "| --- | --- | ---: | ---: | ---: |\n";
    let mut notes = Notes::default();
    for work in FEW {
        let Some(row) = results.row(work) else { continue };
        let unit = work.unit();
        let of = |name: &str| row.cells.iter().find(|cell| cell.contender == name);
        let others = row.cells.iter().filter(|cell| !OURS.contains(&cell.contender.as_str()));
        let (best_of_all, other) = (best(&row.cells, unit), best(others, unit));
        let mut show = |cell: Option<&Cell>| {
            let Some(cell) = cell else { return "–".to_owned() };
            let median = cell.spread(unit).map(|spread| figure(spread.median));
            let shown = notes.mark(cell, median);
            let name = if OURS.contains(&cell.contender.as_str()) { "" } else { &cell.contender };
            let shown = format!("{name} {shown}").trim_start().to_owned();
            if best_of_all.is_some_and(|best| best.contender == cell.contender) {
                format!("**{shown}**")
            } else {
                shown
            }
        };
        let [wally, call] = OURS.map(|name| show(of(name)));
        let other = show(other);
        let work = work.describe(results.long_mib, results.reopen_mib);
        let _ = writeln!(text, "| {work} | {} | {wally} | {call} | {other} |", unit.name());
    }
    format!("{text}\n{}", notes.list().trim_end()) + "\n"
}

/// The contenders that are written here.
const OURS: [&str; 2] = ["wally", "write(2)"];

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

/// A row a work, a column a contender.
fn table(results: &Results, mut show: impl FnMut(&Cell, Unit) -> String) -> String {
    let mut text = head(results, "| work | unit |", "| --- | --- |");
    for row in &results.rows {
        let Ok(work) = row.work.parse::<Work>() else { continue };
        let unit = work.unit();
        let _ = write!(text, "| {} | {} |", work.describe(results.long_mib, results.reopen_mib), unit.name());
        let best = best(&row.cells, unit);
        for cell in &row.cells {
            let shown = show(cell, unit);
            let _ = match best.is_some_and(|best| best.contender == cell.contender) {
                true => write!(text, " **{shown}** |"),
                false => write!(text, " {shown} |"),
            };
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

/// What the writers beside readers did meanwhile, if there were any.
fn writers(results: &Results) -> String {
    let mut rows = String::new();
    for readers in FAN_OUT_READERS {
        let Some(row) = results.row(Work::FanOut { readers }) else { continue };
        let _ = write!(rows, "| {readers} |");
        for cell in &row.cells {
            let _ = write!(rows, " {} |", cell.written().map_or_else(|| "–".to_owned(), ranged));
        }
        rows.push('\n');
    }
    if rows.is_empty() {
        return rows;
    }
    let head = head(results, "| readers |", "| --- |");
    format!("What the writer beside the readers appended meanwhile, records a second:\n\n{head}{rows}\n")
}

/// The first two lines of a table, with a column a contender after those given.
fn head(results: &Results, names: &str, lines: &str) -> String {
    let mut text = names.to_owned();
    results.contenders.iter().for_each(|contender| {
        let _ = write!(text, " {} |", named(contender));
    });
    let _ = writeln!(text, "\n{lines}{}", " ---: |".repeat(results.contenders.len()));
    text
}

fn ranged(spread: Spread) -> String {
    let Spread { least, median, most } = spread;
    format!("{} ({}–{})", figure(median), figure(least), figure(most))
}

/// The cell with the best median.
fn best<'a>(cells: impl IntoIterator<Item = &'a Cell>, unit: Unit) -> Option<&'a Cell> {
    let better = |spread: Spread| if unit.less_is_better() { spread.median } else { -spread.median };
    let measured = cells.into_iter().filter_map(|cell| Some((better(cell.spread(unit)?), cell)));
    measured.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, cell)| cell)
}

fn named(contender: &About) -> String {
    match &contender.version {
        Some(version) => format!("{} {version}", contender.name),
        None => contender.name.clone(),
    }
}

/// What must be known of single cells, numbered as they come.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    /// `shown` with the number of its note, if there is one; without anything shown, why.
    fn mark(&mut self, cell: &Cell, shown: Option<String>) -> String {
        let note = if shown.is_some() { &cell.less } else { &cell.lacks };
        let shown = shown.unwrap_or_else(|| "–".to_owned());
        let Some(note) = note else { return shown };
        let at = self.0.iter().position(|known| known == note).unwrap_or_else(|| {
            self.0.push(note.clone());
            self.0.len() - 1
        });
        format!("{shown} <sup>{}</sup>", at + 1)
    }

    fn list(&self) -> String {
        let notes: Vec<String> =
            self.0.iter().zip(1..).map(|(note, number)| format!("<sup>{number}</sup> {note}")).collect();
        match notes.is_empty() {
            true => String::new(),
            false => format!("{}.\n\n", notes.join("; ")),
        }
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
    use crate::machine::Machine;
    use crate::measure::Measured;
    use crate::results::Row;

    fn cell(contender: &str, seconds: &[f64]) -> Cell {
        let sample = |&seconds| Measured { records: 1_000_000_000, seconds, written: 0 };
        let lacks = seconds.is_empty().then(|| "cannot".to_owned());
        let samples = seconds.iter().map(sample).collect();
        Cell { contender: contender.to_owned(), less: None, lacks, samples }
    }

    #[test]
    fn a_first_look_has_the_best_of_the_others_and_marks_the_best_of_all() {
        let mut slow = cell("slow", &[700.0]);
        slow.less = Some("no checksum".to_owned());
        let rows = vec![
            Row {
                work: Work::Append { len: 256 }.to_string(),
                cells: vec![
                    cell("wally", &[3.0, 1.0, 2.0]),
                    cell("write(2)", &[9.0]),
                    cell("slower", &[800.0]),
                    slow,
                ],
            },
            // More is better here.
            Row {
                work: Work::Durable { threads: 1 }.to_string(),
                cells: vec![
                    cell("wally", &[4.0]),
                    cell("write(2)", &[5.0]),
                    cell("slower", &[]),
                    cell("slow", &[2.0]),
                ],
            },
            Row { work: Work::Scan.to_string(), cells: vec![cell("wally", &[1.0])] },
        ];
        let results = Results {
            date: String::new(),
            command: String::new(),
            machine: Machine {
                processor: String::new(),
                cores: 1,
                kernel: String::new(),
                file_system: String::new(),
            },
            rounds: 1,
            long_mib: 1,
            reopen_mib: 1,
            contenders: Vec::new(),
            rows,
        };
        let text = few(&results);
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| append 256 B, no sync | ns a record | **2.00** | 9.00 | slow 700 <sup>1</sup> |",
                "| durable append 256 B, 1 thread | appends a second | 250,000,000 | 200,000,000 | **slow 500,000,000** |",
                "",
                "<sup>1</sup> no checksum.",
            ]
        );
    }

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
