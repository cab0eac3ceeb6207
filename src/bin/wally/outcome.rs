//! How a command ends: its exit code, and the one line on standard error with the reason.

use std::io::{self, BufWriter, StdoutLock, Write};

use wally::{Error, Journal, Verdict};

/// What a command returns: the exit code, or the failure.
pub(crate) type Outcome = Result<u8, Failure>;

/// The journal is torn.
pub(crate) const TORN: u8 = 1;
/// The journal is corrupt.
pub(crate) const CORRUPT: u8 = 2;
/// The file is not a journal.
pub(crate) const NOT_A_JOURNAL: u8 = 3;
/// Anything else.
pub(crate) const OTHER: u8 = 4;
/// What a shell reports for a program that SIGPIPE ended.
const BROKEN_PIPE: u8 = 128 + 13;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The program that reads standard output closed it. This is not reported.
    BrokenPipe,
    /// Reported in one line on standard error, with this exit code.
    Reported { code: u8, message: String },
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self::Reported { code, message: message.into() }
    }

    /// Returns the failure that a failed write to standard output means.
    pub(crate) fn stdout(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::new(OTHER, format!("write standard output: {error}")),
        }
    }

    /// Returns the same failure with more text in its message.
    pub(crate) fn and(self, more: &str) -> Self {
        match self {
            Self::BrokenPipe => Self::BrokenPipe,
            Self::Reported { code, message } => {
                Self::Reported { code, message: format!("{message}; {more}") }
            }
        }
    }

    /// Returns the same failure, and `error` in its message, with which closing the journal failed after it. Closing a
    /// poisoned journal returns its first failure, which is in the message already.
    fn and_closing(self, error: &Error) -> Self {
        let error = error.to_string();
        match self {
            Self::Reported { ref message, .. } if message.contains(&error) => self,
            failure => failure.and(&format!("closing it failed, too: {error}")),
        }
    }

    /// Reports the failure and returns the exit code.
    pub(crate) fn report(self) -> u8 {
        match self {
            Self::BrokenPipe => BROKEN_PIPE,
            Self::Reported { code, message } => {
                say(&message);
                code
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::Corrupt { .. } => CORRUPT,
            Error::NotAJournal { .. } => NOT_A_JOURNAL,
            _ => OTHER,
        };
        Self::new(code, error.to_string())
    }
}

/// Prints one line on standard error. If that fails, the exit code alone has to do.
pub(crate) fn say(message: &str) {
    let _ = writeln!(io::stderr(), "wally: {message}");
}

/// Standard output, buffered. Commands flush it explicitly, since a drop could not report a failure.
pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub(crate) fn new() -> Self {
        Self(BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write_all(bytes).map_err(Failure::stdout)
    }

    pub(crate) fn line(&mut self, line: std::fmt::Arguments<'_>) -> Result<(), Failure> {
        writeln!(self.0, "{line}").map_err(Failure::stdout)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(Failure::stdout)
    }
}

/// Prints one line.
pub(crate) fn print(line: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut output = Output::new();
    output.line(line)?;
    output.flush()
}

/// Closes a journal after `done`. If both failed, the message has both failures, but the same failure only once.
pub(crate) fn close<T>(journal: Journal, done: Result<T, Failure>) -> Result<T, Failure> {
    match (done, journal.close()) {
        (Ok(done), Ok(())) => Ok(done),
        (Ok(_), Err(error)) => Err(Failure::from(error)),
        (Err(failure), Ok(())) => Err(failure),
        (Err(failure), Err(error)) => Err(failure.and_closing(&error)),
    }
}

/// Describes what opening cut off, if it cut anything other than preallocated zeros.
pub(crate) fn what_was_cut(journal: &Journal) -> Option<String> {
    let report = journal.recovery();
    let why = match report.verdict {
        Verdict::TornTail => "a torn tail",
        Verdict::TruncationFinished => "the rest of an unfinished truncation",
        Verdict::DamageCut => "the first invalid record and all after it",
        _ => return None,
    };
    let offset = report.cut_offset?;
    let mut text = format!("cut {} at offset {offset} ({why})", count(report.cut_bytes, "byte"));
    if let Some(quarantine) = &report.quarantine {
        text.push_str(&format!(", kept in {}", quarantine.display()));
    }
    Some(text)
}

/// Returns a count with its noun: `1 record`, `2 records`.
pub(crate) fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_closing_repeats_is_reported_once() {
        let told = |failure| match failure {
            Failure::Reported { code, message } => (code, message),
            Failure::BrokenPipe => panic!("nothing would be reported"),
        };
        let same = Failure::from(Error::Closed).and_closing(&Error::Closed);
        assert_eq!(told(same), (OTHER, Error::Closed.to_string()));
        let other = Failure::new(OTHER, "read standard input: broken").and_closing(&Error::Closed);
        let both = format!("read standard input: broken; closing it failed, too: {}", Error::Closed);
        assert_eq!(told(other), (OTHER, both));
    }
}
