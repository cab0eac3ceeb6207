//! The fault seam as the rest of the crate holds it: every request to the system for a file goes through here, and straight
//! on unless the tests have put something in the way.

use std::fmt;
use std::io::{self, IoSlice};

use crate::options::Options;
use crate::seam::{Op, Role, Seam, Verdict};
use crate::sync::Arc;

/// What stands between a file and the system: nothing, but in this crate's own tests.
#[derive(Clone, Default)]
pub(crate) struct FileSeam(Option<Arc<dyn Seam>>);

impl FileSeam {
    /// The seam that `options` ask for. Only the feature `__seam` lets them ask for one.
    pub(crate) fn of(options: &Options) -> Self {
        Self(options.seam.clone())
    }

    /// Does what `op` says with `perform`, unless the seam refuses it.
    pub(crate) fn ask<T>(
        &self,
        role: Role,
        op: &Op<'_>,
        perform: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(seam) = &self.0 else { return perform() };
        let result = match seam.before(role, op) {
            Verdict::Fail(code) => Err(io::Error::from_raw_os_error(code)),
            Verdict::Proceed | Verdict::Short(_) => perform(),
        };
        seam.after(role, op, result.as_ref().ok().map(|_| 0));
        result
    }

    /// The same for what can be done in part. `perform` gets the largest number of bytes it may write, and returns how many
    /// it has written.
    pub(crate) fn transfer(
        &self,
        role: Role,
        op: &Op<'_>,
        perform: impl FnOnce(usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Some(seam) = &self.0 else { return perform(usize::MAX) };
        let result = match seam.before(role, op) {
            Verdict::Fail(code) => Err(io::Error::from_raw_os_error(code)),
            Verdict::Proceed => perform(usize::MAX),
            Verdict::Short(most) => perform(most),
        };
        seam.after(role, op, result.as_ref().ok().copied());
        result
    }
}

impl fmt::Debug for FileSeam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileSeam").field(&self.0.is_some()).finish()
    }
}

/// The first `most` bytes of `parts`.
pub(crate) fn first_bytes<'a>(parts: &'a [IoSlice<'a>], most: usize) -> Vec<IoSlice<'a>> {
    let mut left = most;
    let shorten = |part: &'a IoSlice<'a>| {
        let now = part.len().min(left);
        left -= now;
        IoSlice::new(part.get(..now).unwrap_or_default())
    };
    parts.iter().map(shorten).collect()
}
