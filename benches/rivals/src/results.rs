//! What a comparison found, and the file it is kept in.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::measure::Measured;
use crate::subjects::{Fallible, Profile};
use crate::work::{Unit, Work};

const FILE: &str = "results.json";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) date: String,
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) long_mib: u64,
    pub(crate) reopen_mib: u64,
    pub(crate) contenders: Vec<About>,
    pub(crate) rows: Vec<Row>,
}

/// A contender, for people.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) settings: String,
    pub(crate) less: Vec<String>,
}

/// A work, and what each contender made of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) cells: Vec<Cell>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) contender: String,
    /// What the contender does less in this work.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) less: Option<String>,
    /// Why there are no samples.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) lacks: Option<String>,
    /// One a round.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) samples: Vec<Measured>,
}

/// The samples of a cell, in the unit of its work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Results {
    pub(crate) fn load(dir: &Path) -> Fallible<Self> {
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    }

    pub(crate) fn save(&self, dir: &Path) -> Fallible {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(fs::write(dir.join(FILE), text)?)
    }

    pub(crate) fn row(&self, work: Work) -> Option<&Row> {
        self.rows.iter().find(|row| row.work == work.to_string())
    }

    /// What `contender` made of `work`, if it was measured.
    pub(crate) fn spread(&self, work: Work, contender: &str) -> Option<Spread> {
        self.row(work)?.cells.iter().find(|cell| cell.contender == contender)?.spread(work.unit())
    }
}

impl Cell {
    pub(crate) fn spread(&self, unit: Unit) -> Option<Spread> {
        Spread::new(self.samples.iter().map(|sample| sample.in_unit(unit)).collect())
    }

    /// What the writer of a fan-out appended, records a second.
    pub(crate) fn written(&self) -> Option<Spread> {
        Spread::new(self.samples.iter().map(|sample| sample.written as f64 / sample.seconds).collect())
    }
}

impl Spread {
    fn new(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Self { least, median, most })
    }
}

impl Measured {
    fn in_unit(&self, unit: Unit) -> f64 {
        let records = self.records as f64;
        match unit {
            Unit::NanosecondsARecord => self.seconds * 1e9 / records,
            Unit::AppendsASecond => records / self.seconds,
            Unit::MillionReadsASecond => records / self.seconds / 1e6,
            Unit::Seconds => self.seconds,
        }
    }
}

impl About {
    pub(crate) fn new(profile: &Profile) -> Self {
        Self {
            name: profile.name.to_owned(),
            version: profile.package.and_then(locked_version),
            settings: profile.settings.to_owned(),
            less: profile.less.iter().map(|&less| less.to_owned()).collect(),
        }
    }
}

/// The version of `package` that this program was built with.
fn locked_version(package: &str) -> Option<String> {
    let entry = format!("name = \"{package}\"\nversion = \"");
    let (_, rest) = include_str!("../Cargo.lock").split_once(&entry)?;
    Some(rest.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subjects::CONTENDERS;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        let of = |values: &[f64]| Spread::new(values.to_vec());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0, 9.0, 1.0]), Some(Spread { least: 1.0, median: 3.0, most: 9.0 }));
        assert_eq!(of(&[4.0, 9.0, 1.0, 2.0]), Some(Spread { least: 1.0, median: 3.0, most: 9.0 }));
    }

    #[test]
    fn units_are_what_their_names_say() {
        let measured = Measured { records: 4_000_000, seconds: 2.0, written: 0 };
        assert_eq!(measured.in_unit(Unit::NanosecondsARecord), 500.0);
        assert_eq!(measured.in_unit(Unit::AppendsASecond), 2_000_000.0);
        assert_eq!(measured.in_unit(Unit::MillionReadsASecond), 2.0);
        assert_eq!(measured.in_unit(Unit::Seconds), 2.0);
    }

    #[test]
    fn every_contender_from_a_package_has_a_version() {
        for contender in &CONTENDERS {
            let about = About::new(&contender.profile);
            assert_eq!(about.version.is_some(), contender.profile.package.is_some(), "{}", about.name);
        }
    }
}
