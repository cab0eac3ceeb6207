//! A measured row of the table.

use std::time::Duration;

use crate::common::rate;
use crate::common::rounds::{Median, calibrate, interleave};
use crate::rows::{Measure, Row, Target, Unit};

pub(crate) struct Line {
    pub(crate) work: String,
    pub(crate) other: &'static str,
    unit: Unit,
    wally: f64,
    beside: f64,
    /// The median over the rounds of wally's figure divided by the other.
    ratio: Median,
    target: Target,
}

impl Line {
    /// Measures `row` with `times` pairs of pieces, as small as possible if `quick`.
    pub(crate) fn measure(row: Row<'_>, times: usize, quick: bool) -> Self {
        let figures = match row.measure {
            Measure::Counted { wally, other } => vec![(wally(), other)],
            Measure::Gained { wally: [mut more, mut one], other: [mut other_more, mut other_one], piece } => {
                let sides = &mut [&mut more, &mut one, &mut other_more, &mut other_one];
                let rounds = calibrate(sides, if quick { Duration::ZERO } else { piece });
                let took = interleave(sides, rounds, times);
                let gain = |more: usize, one: usize, at: usize| {
                    took[one][at].as_secs_f64() / took[more][at].as_secs_f64()
                };
                (0..times).map(|at| (gain(0, 1, at), gain(2, 3, at))).collect()
            }
            Measure::Timed { mut wally, mut other, each, piece } => {
                let sides = &mut [&mut wally, &mut other];
                let rounds = calibrate(sides, if quick { Duration::ZERO } else { piece });
                let took = interleave(sides, rounds, times);
                let figure = |took: &Duration| row.unit.figure(*took, rounds * each);
                took[0].iter().map(figure).zip(took[1].iter().map(figure)).collect()
            }
        };
        let median = |of: fn(&(f64, f64)) -> f64| Median::of(figures.iter().map(of).collect());
        Self {
            work: row.work,
            other: row.other,
            unit: row.unit,
            wally: median(|pair| pair.0).value,
            beside: median(|pair| pair.1).value,
            ratio: median(|pair| pair.0 / pair.1),
            target: row.target,
        }
    }

    pub(crate) fn wally(&self) -> String {
        self.unit.words(self.wally)
    }

    pub(crate) fn beside(&self) -> String {
        self.unit.words(self.beside)
    }

    pub(crate) fn ratio(&self) -> String {
        let Median { value, min, max } = self.ratio;
        match min == max {
            true => format!("{value:.2}"),
            false => format!("{value:.2} ({min:.2} to {max:.2})"),
        }
    }

    /// Describes the target, and whether the median reaches it.
    pub(crate) fn target(&self) -> String {
        let reached = |reached| if reached { "yes" } else { "no" };
        match self.target {
            Target::None => "–".to_owned(),
            Target::Figure(most) => format!("at most {most} B: {}", reached(self.wally <= most)),
            Target::Ratio(least) if matches!(self.unit, Unit::PerSecond | Unit::Times) => {
                format!("at least {least}: {}", reached(self.ratio.value >= least))
            }
            Target::Ratio(most) => format!("at most {most}: {}", reached(self.ratio.value <= most)),
        }
    }
}

impl Unit {
    fn figure(self, took: Duration, count: u64) -> f64 {
        match self {
            Self::Nanoseconds => took.as_secs_f64() * 1e9 / count as f64,
            Self::PerSecond => count as f64 / took.as_secs_f64(),
            Self::Seconds | Self::Bytes | Self::Times => took.as_secs_f64() / count as f64,
        }
    }

    fn words(self, figure: f64) -> String {
        match self {
            Self::Nanoseconds if figure < 100.0 => format!("{figure:.1} ns"),
            Self::Nanoseconds => format!("{figure:.0} ns"),
            Self::Seconds => format!("{figure:.3} s"),
            Self::Bytes => format!("{figure:.2} B"),
            Self::Times => format!("{figure:.2} ×"),
            Self::PerSecond => rate(figure),
        }
    }
}
