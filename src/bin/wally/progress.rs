//! A progress bar on standard error for long runs, if standard error is a terminal.

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wally::Options;

/// A progress bar, in bytes or in steps, or nothing at all. A drop erases it, so that it leaves no trace between the lines of
/// output.
pub(crate) struct Meter(Option<ProgressBar>);

impl Meter {
    /// Creates a bar towards `total` bytes, if that is known, unless `other` is a terminal: there the bar would stand between
    /// the lines that are typed or printed.
    pub(crate) fn new(what: &'static str, total: Option<u64>, other: &impl IsTerminal) -> Self {
        if other.is_terminal() { Self(None) } else { Self::unless_unseen(what, total) }
    }

    /// Creates a bar of `total` steps, for a command that prints nothing until it is done.
    pub(crate) fn of_steps(total: u64) -> Self {
        Self::with_template("{wide_bar} {pos}/{len} {eta}  {msg}", "", Some(total))
    }

    fn unless_unseen(what: &'static str, total: Option<u64>) -> Self {
        let template = match total {
            Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
            None => "{msg} {spinner} {bytes} {binary_bytes_per_sec}",
        };
        Self::with_template(template, what, total)
    }

    fn with_template(template: &str, what: &'static str, total: Option<u64>) -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        // Set up so that it draws nothing yet: work that is over at once shows no bar.
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        Self(Some(bar.with_style(style).with_message(what)))
    }

    pub(crate) fn reach(&self, position: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(position);
        }
    }

    /// Counts one more step, and shows that `what` comes next.
    pub(crate) fn step(&self, what: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(what.to_owned());
            bar.inc(1);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Makes `options` show the progress of opening for as long as the returned meter lives.
pub(crate) fn of_opening(options: &mut Options) -> Meter {
    let meter = Meter::unless_unseen("opening", Some(0));
    if let Some(bar) = meter.0.clone() {
        options.on_progress(move |progress| {
            bar.set_length(progress.total_bytes);
            bar.set_position(progress.bytes);
            ControlFlow::Continue(())
        });
    }
    meter
}
