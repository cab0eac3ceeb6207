//! What can go wrong, as one enum, and how it turns into [`std::io::Error`].

use std::io;
use std::path::{Path, PathBuf};

use crate::sync::Arc;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What lies beyond a damaged place, as far as the bounded search looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Beyond {
    /// Whole, valid records found behind the damage.
    pub records: u64,
    /// The search spent its budget, so there may be more records than counted.
    pub at_least: bool,
    /// The file offset of a header that proves everything before it to have been durable: damage in front of
    /// it is no torn tail.
    pub proof: Option<u64>,
}

impl std::fmt::Display for Beyond {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at_least = if self.at_least { "at least " } else { "" };
        write!(f, "{at_least}{} whole records lie beyond it", self.records)?;
        match self.proof {
            Some(offset) => write!(f, "; the one at offset {offset} proves that what is damaged was durable"),
            None => Ok(()),
        }
    }
}

/// What was found beyond, if it was looked for, as it is said after the place of the damage.
pub(crate) struct After<'a>(pub(crate) &'a Option<Beyond>);

impl std::fmt::Display for After<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |beyond| write!(f, "; {beyond}"))
    }
}

/// Everything that a journal reports as an error.
///
/// It converts into [`io::Error`], so that `?` works in functions that return [`io::Result`].
///
/// ```
/// let error = wally::Walk::open("/no/such/journal").err().unwrap();
/// let error = std::io::Error::from(error);
/// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
/// ```
///
/// Its words are whole: what the system said and the first failure of a poisoned journal are in them, so that
/// `eprintln!("{error}")` and a log that goes no further lose no cause. What an error prints it must not return from
/// [`source`](std::error::Error::source) as well, or reporters that go through the sources print it twice; so that is
/// `None`. The causes are fields: match on them, as on [`Io`](Self::Io).
///
/// ```
/// let error = wally::Walk::open("/no/such/journal").err().unwrap();
/// assert_eq!(error.to_string(), "open /no/such/journal: No such file or directory (os error 2)");
/// let wally::Error::Io { source, .. } = error else { panic!("{error}") };
/// assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
/// ```
///
/// Variants can get more fields: match on them with `..`.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("{op} {}: {source}", path.display())]
    #[non_exhaustive]
    Io {
        /// What was attempted, as a verb: "open", "write", "sync".
        op: &'static str,
        /// The file it was attempted on.
        path: PathBuf,
        /// What the system said.
        // Raw, or `thiserror` would return it from `source()`.
        r#source: Arc<io::Error>,
    },
    /// No record has this index. Converts into [`io::ErrorKind::UnexpectedEof`].
    #[error("index {index} is out of range: the journal holds {first}..={last}")]
    #[non_exhaustive]
    OutOfRange {
        /// The index asked for.
        index: u64,
        /// The first index of the journal.
        first: u64,
        /// The last index of the journal; `first - 1` if it is empty.
        last: u64,
    },
    /// Bytes that were durable are damaged, or [`Recovery::Strict`](crate::Recovery::Strict) met a torn tail, or
    /// a record read with its checksum checked does not match it. At open the file is left untouched.
    #[error("{} is damaged at offset {offset}, in the place of record {index}{}", path.display(), After(beyond))]
    #[non_exhaustive]
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// File offset of the first header that could not be accepted.
        offset: u64,
        /// The index that the record there would have.
        index: u64,
        /// What was found behind the damage; `None` if nothing was looked for there, as by a call that reads one
        /// record.
        beyond: Option<Beyond>,
    },
    /// The file is not empty and nothing in it says that it is a journal. It is left untouched.
    #[error("{} is not a journal", path.display())]
    #[non_exhaustive]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of the format wrote this, or the operation does not exist in the file's format.
    /// The file is left untouched.
    #[error("{}: unsupported format: {what}", path.display())]
    #[non_exhaustive]
    UnsupportedFormat {
        /// The journal.
        path: PathBuf,
        /// What is not supported, and where.
        what: String,
    },
    /// The journal is open for writing, in this process or another, or it was closed and a
    /// [`Reader`](crate::Reader), [`Snapshot`](crate::Snapshot), [`RecordRef`](crate::RecordRef), or
    /// [`Follow`](crate::Follow) that has not come to its end, is still alive.
    #[error(
        "{} is locked: it is open for writing in this or another process, or a reader of a journal that was closed \
         is still alive in it", path.display()
    )]
    #[non_exhaustive]
    Locked {
        /// The journal.
        path: PathBuf,
    },
    /// This process was forked from the one that opened the journal, and may only drop what it has inherited of it. The
    /// file and the journal of the other process are left untouched. Converts into [`io::ErrorKind::PermissionDenied`].
    #[error(
        "{} was opened by another process, from which this one was forked: open it again to use it here",
        path.display()
    )]
    Forked {
        /// The journal.
        path: PathBuf,
    },
    /// The payload is longer than [`Options::max_record_len`](crate::Options::max_record_len), or does not fit
    /// into a file at all.
    #[error("a record of {len} bytes is too large: the limit is {max}")]
    #[non_exhaustive]
    RecordTooLarge {
        /// The payload's length in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// An earlier failure made this handle useless for everything but reading what is durable. Close it and open
    /// the journal again.
    #[error("the journal is poisoned by an earlier failure, reopen it: {first}")]
    #[non_exhaustive]
    Poisoned {
        /// The first failure.
        first: Arc<Error>,
    },
    /// The journal was closed: nothing more will come. Only those who read and wait are told so.
    #[error("the journal is closed")]
    Closed,
    /// Records were removed since the reader or follower that is told this waited last. It is told once; its next call
    /// goes on with what is in their place.
    #[error("the journal was truncated: the records after {last} were removed")]
    #[non_exhaustive]
    Truncated {
        /// The last record that the deepest of these truncations has kept; 0 if the journal was cleared.
        last: u64,
    },
    /// A truncation would have to preserve more for the readers that hold older views than
    /// [`Options::preserve_limit`](crate::Options::preserve_limit) or the system allows. Nothing was changed.
    #[error("readers hold {held_bytes} bytes beyond the cut, which cannot be preserved: {why}")]
    #[non_exhaustive]
    ReadersActive {
        /// Bytes beyond the cut that older views hold.
        held_bytes: u64,
        /// What stood in the way.
        why: String,
    },
    /// The progress callback of [`Options::on_progress`](crate::Options::on_progress) asked to stop. The file is
    /// left untouched.
    #[error("opening was stopped by the progress callback")]
    Stopped,
}

impl Error {
    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { op, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Record `index`, of which only the bytes at `offset` were looked at, is not what it was when it was written.
    pub(crate) fn corrupt(path: &Path, offset: u64, index: u64) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, index, beyond: None }
    }

    /// The kind that [`io::Error`] gives it.
    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { source, .. } => source.kind(),
            Self::OutOfRange { .. } => io::ErrorKind::UnexpectedEof,
            Self::Corrupt { .. } | Self::NotAJournal { .. } => io::ErrorKind::InvalidData,
            Self::UnsupportedFormat { .. } => io::ErrorKind::Unsupported,
            Self::Locked { .. } => io::ErrorKind::WouldBlock,
            Self::Forked { .. } => io::ErrorKind::PermissionDenied,
            Self::RecordTooLarge { .. } => io::ErrorKind::InvalidInput,
            Self::Poisoned { first } => first.kind(),
            Self::Closed => io::ErrorKind::BrokenPipe,
            Self::Truncated { .. } => io::ErrorKind::Interrupted,
            Self::ReadersActive { .. } => io::ErrorKind::ResourceBusy,
            Self::Stopped => io::ErrorKind::Interrupted,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(error.kind(), error)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn out_of_range_turns_into_unexpected_eof() {
        let error = io::Error::from(Error::OutOfRange { index: 4, first: 1, last: 3 });
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(error.to_string(), "index 4 is out of range: the journal holds 1..=3");
    }

    /// One of each variant, with what its words have to say of its cause.
    fn one_of_each() -> Vec<(Error, &'static str)> {
        let path = || PathBuf::from("/j");
        let io = || Error::io("sync", Path::new("/j"), io::Error::from_raw_os_error(5));
        let cause = "os error 5";
        let all = vec![
            (io(), cause),
            (Error::OutOfRange { index: 4, first: 1, last: 3 }, "index 4"),
            (Error::corrupt(Path::new("/j"), 17, 2), "record 2"),
            (Error::NotAJournal { path: path() }, "/j"),
            (
                Error::UnsupportedFormat { path: path(), what: "a newer version".to_owned() },
                "a newer version",
            ),
            (Error::Locked { path: path() }, "/j"),
            (Error::Forked { path: path() }, "/j"),
            (Error::RecordTooLarge { len: 11, max: 10 }, "11 bytes"),
            (Error::Poisoned { first: Arc::new(io()) }, cause),
            (Error::Closed, "closed"),
            (Error::Truncated { last: 3 }, "after 3"),
            (Error::ReadersActive { held_bytes: 7, why: io().to_string() }, cause),
            (Error::Stopped, "stopped"),
        ];
        for (error, _) in &all {
            // Does not compile with a variant that is not here: then give the list one of it.
            match error {
                Error::Io { .. } | Error::OutOfRange { .. } | Error::Corrupt { .. } => {}
                Error::NotAJournal { .. } | Error::UnsupportedFormat { .. } | Error::Locked { .. } => {}
                Error::RecordTooLarge { .. } | Error::Poisoned { .. } | Error::Closed => {}
                Error::Truncated { .. } | Error::ReadersActive { .. } | Error::Stopped => {}
                Error::Forked { .. } => {}
            }
        }
        let kinds = all.iter().map(|(error, _)| std::mem::discriminant(error));
        assert_eq!(kinds.collect::<std::collections::HashSet<_>>().len(), 13, "one of each");
        all
    }

    #[test]
    fn every_error_says_its_cause_once_through_whatever_reports_it() {
        for (error, cause) in one_of_each() {
            let alone = error.to_string();
            assert_eq!(alone.matches(cause).count(), 1, "{alone}");
            let errors: [Box<dyn std::error::Error>; 3] =
                [Box::new(error.clone()), Box::new(io::Error::from(error.clone())), Box::new(error)];
            for error in &errors {
                // As `{:#}` of anyhow, and as the standard library's reporter.
                let links = std::iter::successors(Some(&**error), |error| error.source());
                let chain = links.map(ToString::to_string).collect::<Vec<_>>().join(": ");
                assert_eq!(chain, alone);
            }
        }
    }

    #[test]
    fn what_was_not_looked_for_is_not_said() {
        let error = |beyond| Error::Corrupt { path: "/j".into(), offset: 17, index: 2, beyond };
        let place = "/j is damaged at offset 17, in the place of record 2";
        assert_eq!(error(None).to_string(), place);
        let none = error(Some(Beyond::default())).to_string();
        assert_eq!(none, format!("{place}; 0 whole records lie beyond it"));
        let some = error(Some(Beyond { records: 3, at_least: true, proof: Some(40) })).to_string();
        let proof = "the one at offset 40 proves that what is damaged was durable";
        assert_eq!(some, format!("{place}; at least 3 whole records lie beyond it; {proof}"));
    }

    #[test]
    fn an_error_told_again_keeps_its_os_code_and_words() {
        let first = Error::io("sync", Path::new("/j"), io::Error::from_raw_os_error(5));
        let Error::Io { source, .. } = first.clone() else { panic!("another kind of error") };
        assert_eq!(source.raw_os_error(), Some(5));
        assert_eq!(first.clone().to_string(), first.to_string());
    }
}
