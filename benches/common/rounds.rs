//! Interleaved rounds, and their medians.

use std::time::Duration;

/// A piece of work to time: takes a number of rounds and returns how long they took.
pub type Side<'a> = Box<dyn FnMut(u64) -> Duration + 'a>;

/// A median with the least and the greatest of its values.
#[derive(Clone, Copy)]
pub struct Median {
    pub value: f64,
    pub min: f64,
    pub max: f64,
}

impl Median {
    /// `values` is not empty.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let value = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Self { value, min: values[0], max: values[values.len() - 1] }
    }
}

/// Returns the number of rounds for which all of `sides` together take about as long as `piece`. Warms them up, too.
pub fn calibrate(sides: &mut [&mut Side<'_>], piece: Duration) -> u64 {
    let mut rounds = 1;
    loop {
        let took: Duration = sides.iter_mut().map(|side| side(rounds)).sum();
        if took >= piece / 4 {
            let rounds = rounds as f64 * piece.as_secs_f64() / took.as_secs_f64();
            return (rounds.round() as u64).max(1);
        }
        rounds *= 2;
    }
}

/// Times each of `sides` `times` times, one after the other, every second time in the reverse order, so that a machine that
/// gets faster or slower affects all of them alike. Returns the durations of each side.
pub fn interleave(sides: &mut [&mut Side<'_>], rounds: u64, times: usize) -> Vec<Vec<Duration>> {
    let mut took = vec![Vec::with_capacity(times); sides.len()];
    for time in 0..times {
        let mut order: Vec<usize> = (0..sides.len()).collect();
        if time % 2 == 1 {
            order.reverse();
        }
        for side in order {
            took[side].push(sides[side](rounds));
        }
    }
    took
}
