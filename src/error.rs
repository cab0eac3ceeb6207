//! [`Error`]: everything that can go wrong, and how it converts into [`std::io::Error`].

use std::io;
use std::path::{Path, PathBuf};

use crate::sync::Arc;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What lies after a damaged place, as far as the bounded search looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Beyond {
    /// The number of whole, valid records found after the damage.
    pub records: u64,
    /// `true` if the search ended at its limit, so that there may be more records than counted.
    pub at_least: bool,
    /// The file offset of a header that proves that everything before it was durable: damage before it is no torn tail.
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

/// Prints what was found after the damage, if it was looked for, to follow the place of the damage in a message.
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
/// The message is complete: it contains the message of the system and the first failure of a poisoned journal, so that
/// `eprintln!("{error}")`, or a log that prints no sources, loses no cause. An error that prints its cause must not return it
/// from [`source`](std::error::Error::source) as well, or reporters that print all sources print it twice; so `source`
/// returns `None`. The causes are fields: match on them, as on [`Io`](Self::Io).
///
/// An error can be cloned, for several callers that wait for the same record.
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
    /// The operating system refused an operation.
    #[error("{op} {}: {source}", path.display())]
    #[non_exhaustive]
    Io {
        /// The operation, as a verb: "open", "write", "sync".
        op: &'static str,
        /// The file of the operation.
        path: PathBuf,
        /// The error of the system.
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
        /// What was found after the damage; `None` if nothing was looked for there, as in a call that reads one record.
        beyond: Option<Beyond>,
    },
    /// The file is not empty, and nothing in it shows that it is a journal. It is left untouched.
    #[error("{} is not a journal", path.display())]
    #[non_exhaustive]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of the format wrote the file, or the operation does not exist in the file's format.
    /// The file is left untouched.
    #[error("{}: unsupported format: {what}", path.display())]
    #[non_exhaustive]
    UnsupportedFormat {
        /// The journal.
        path: PathBuf,
        /// What is not supported, and where.
        what: String,
    },
    /// The journal is open for writing, in this process or another, or it was closed and one of its readers is still alive:
    /// a [`Reader`](crate::Reader), [`Snapshot`](crate::Snapshot), [`RecordRef`](crate::RecordRef), or a
    /// [`Follow`](crate::Follow) that has not returned its end.
    #[error(
        "{} is locked: it is open for writing in this or another process, or a reader of a journal that was closed \
         is still alive in it", path.display()
    )]
    #[non_exhaustive]
    Locked {
        /// The journal.
        path: PathBuf,
    },
    /// This process was forked from the one that opened the journal, and may only drop what it has inherited. The file and
    /// the journal of the other process are left untouched. Converts into [`io::ErrorKind::PermissionDenied`].
    #[error(
        "{} was opened by another process, from which this one was forked: open it again to use it here",
        path.display()
    )]
    Forked {
        /// The journal.
        path: PathBuf,
    },
    /// The payload is longer than [`Options::max_record_len`](crate::Options::max_record_len), or does not fit
    /// into a file.
    #[error("a record of {len} bytes is too large: the limit is {max}")]
    #[non_exhaustive]
    RecordTooLarge {
        /// The payload's length in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// After an earlier failure this journal can only read what is durable. Close it and open it again.
    #[error("the journal is poisoned by an earlier failure, reopen it: {first}")]
    #[non_exhaustive]
    Poisoned {
        /// The first failure.
        first: Arc<Error>,
    },
    /// The journal was closed: no more records will come. Only readers that wait get this error.
    #[error("the journal is closed")]
    Closed,
    /// Records were removed since the reader or follower waited last. It gets this error once; its next call goes on with the
    /// records that are in their place.
    #[error("the journal was truncated: the records after {last} were removed")]
    #[non_exhaustive]
    Truncated {
        /// The index of the last record that the deepest of these truncations has kept; 0 if the journal was cleared.
        last: u64,
    },
    /// A truncation would have to preserve more for the readers that hold older views than
    /// [`Options::preserve_limit`](crate::Options::preserve_limit) or the system allows. Nothing was changed.
    #[error("readers hold {held_bytes} bytes beyond the cut, which cannot be preserved: {why}")]
    #[non_exhaustive]
    ReadersActive {
        /// The number of bytes after the cut that older views hold.
        held_bytes: u64,
        /// Why they could not be preserved.
        why: String,
    },
    /// The callback of [`Options::on_progress`](crate::Options::on_progress) stopped the opening. The file is left untouched.
    #[error("opening was stopped by the progress callback")]
    Stopped,
}

impl Error {
    /// Returns the error of the operation `op` on `path`.
    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { op, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Returns the error for record `index`, of which only the bytes at `offset` were read: it is not what was written.
    pub(crate) fn corrupt(path: &Path, offset: u64, index: u64) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, index, beyond: None }
    }

    /// Returns the kind of the [`io::Error`] that this converts into.
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

    /// One of each variant, with what its message has to say of its cause.
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
            // Does not compile with a variant that is missing here: add one of it to the list above.
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
    fn a_clone_keeps_the_os_code_and_the_message() {
        let first = Error::io("sync", Path::new("/j"), io::Error::from_raw_os_error(5));
        let Error::Io { source, .. } = first.clone() else { panic!("another kind of error") };
        assert_eq!(source.raw_os_error(), Some(5));
        assert_eq!(first.clone().to_string(), first.to_string());
    }
}
