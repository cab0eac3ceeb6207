//! The fault seam as the rest of the crate holds it: every request to the system goes through here, and straight on
//! unless the feature `__seam` is on.

use std::io::{self, IoSlice};

/// What is asked at the seam, without what it is asked with.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "__seam"), expect(dead_code, reason = "only the seam looks at the numbers"))]
pub(crate) enum Asked {
    Sync,
    Truncate(u64),
    Map(u64),
    Preserve(u64),
}

#[cfg(feature = "__seam")]
pub(crate) use crate::seam::Role as SeamRole;

#[cfg(not(feature = "__seam"))]
#[derive(Debug, Clone, Copy)]
pub(crate) enum SeamRole {
    Journal,
    Quarantine,
    Directory,
}

/// The seam as the rest of the crate holds it: nothing at all unless the feature `__seam` is on.
#[derive(Clone, Default)]
pub(crate) struct Seamed {
    #[cfg(feature = "__seam")]
    seam: Option<std::sync::Arc<dyn crate::seam::Seam>>,
}

impl Seamed {
    pub(crate) fn of(options: &crate::options::Options) -> Self {
        let _ = options;
        Self {
            #[cfg(feature = "__seam")]
            seam: options.seam.clone(),
        }
    }

    #[cfg(not(feature = "__seam"))]
    pub(crate) fn ask<T>(
        &self,
        _: SeamRole,
        _: Asked,
        perform: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        perform()
    }

    #[cfg(not(feature = "__seam"))]
    pub(crate) fn write(
        &self,
        _: SeamRole,
        _: u64,
        parts: &[IoSlice<'_>],
        perform: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        perform(parts)
    }

    #[cfg(not(feature = "__seam"))]
    pub(crate) fn extend(
        &self,
        _: SeamRole,
        len: u64,
        perform: impl FnOnce(u64) -> io::Result<usize>,
    ) -> io::Result<usize> {
        perform(len)
    }

    #[cfg(feature = "__seam")]
    pub(crate) fn extend(
        &self,
        role: SeamRole,
        len: u64,
        perform: impl FnOnce(u64) -> io::Result<usize>,
    ) -> io::Result<usize> {
        use crate::seam::{Op, Verdict};
        let Some(seam) = &self.seam else { return perform(len) };
        let op = Op::Extend { len };
        let result = match seam.before(role, &op) {
            Verdict::Fail(code) => Err(io::Error::from_raw_os_error(code)),
            Verdict::Proceed => perform(len),
            Verdict::Short(max) => perform(len.min(max as u64)),
        };
        seam.after(role, &op, result.as_ref().ok().copied());
        result
    }

    #[cfg(feature = "__seam")]
    pub(crate) fn ask<T>(
        &self,
        role: SeamRole,
        asked: Asked,
        perform: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        use crate::seam::{Op, Verdict};
        let Some(seam) = &self.seam else { return perform() };
        let op = match asked {
            Asked::Sync => Op::Sync,
            Asked::Truncate(len) => Op::Truncate { len },
            Asked::Map(len) => Op::Map { len },
            Asked::Preserve(bytes) => Op::Preserve { bytes },
        };
        let result = match seam.before(role, &op) {
            Verdict::Fail(code) => Err(io::Error::from_raw_os_error(code)),
            Verdict::Proceed | Verdict::Short(_) => perform(),
        };
        seam.after(role, &op, result.as_ref().ok().map(|_| 0));
        result
    }

    #[cfg(feature = "__seam")]
    pub(crate) fn write(
        &self,
        role: SeamRole,
        offset: u64,
        parts: &[IoSlice<'_>],
        perform: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        use crate::seam::{Op, Verdict};
        let Some(seam) = &self.seam else { return perform(parts) };
        let op = Op::Write { offset, parts };
        let result = match seam.before(role, &op) {
            Verdict::Fail(code) => Err(io::Error::from_raw_os_error(code)),
            Verdict::Proceed => perform(parts),
            Verdict::Short(max) => {
                let mut left = max;
                let short: Vec<IoSlice<'_>> = parts
                    .iter()
                    .map(|part| {
                        let n = part.len().min(left);
                        left -= n;
                        IoSlice::new(&part[..n])
                    })
                    .collect();
                perform(&short)
            }
        };
        seam.after(role, &op, result.as_ref().ok().copied());
        result
    }
}

impl std::fmt::Debug for Seamed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seamed")
    }
}
