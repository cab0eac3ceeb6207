//! The file descriptor: opening and locking, full writes, syncs, truncation and directory syncs, each asked for through
//! the seam at which the tests see and refuse it.

pub(crate) mod end;
pub(crate) mod map;
pub(crate) mod seam;

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::error::{Error, Result};
use crate::file::seam::{Asked, SeamRole, Seamed};

/// A file that the journal writes: itself, locked, or a quarantine file.
#[derive(Debug)]
pub(crate) struct JournalFile {
    file: File,
    path: PathBuf,
    device_inode: (u64, u64),
    /// The unit in which the file system zeroes the rest of a cut block.
    block_len: u64,
    locked: bool,
    seam: Seamed,
}

/// How a file came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Existed,
    Created,
}

impl JournalFile {
    /// Opens the journal at `path` for writing and locks it. A file that is no regular file is refused; so is one
    /// that another writer has locked.
    ///
    /// # Errors
    /// `Io`, or `Locked`.
    pub(crate) fn open(path: &Path, create: bool, seam: Seamed) -> Result<(Self, Origin)> {
        // An absolute path keeps its meaning if the process changes its directory before the file is unlinked.
        let path = std::path::absolute(path).map_err(|e| Error::io("open", path, e))?;
        loop {
            let (file, origin) = open_or_create(&path, create)?;
            let meta = regular(&file, &path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Locked { path }),
                Err(e) => return Err(Error::io("lock", &path, e.into())),
            }
            let this = Self {
                file,
                device_inode: (meta.dev(), meta.ino()),
                block_len: meta.blksize().max(512),
                locked: true,
                seam: seam.clone(),
                path: path.clone(),
            };
            // Between the open and the lock the file may have been unlinked or replaced; the lock is worth
            // something only on the file that the path still names.
            if this.path_names_this() {
                return Ok((this, origin));
            }
        }
    }

    /// Creates a file that must not exist, for what recovery cuts. It is not locked.
    pub(crate) fn create_new(path: &Path, seam: Seamed) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(path)?;
        let meta = file.metadata()?;
        Ok(Self {
            file,
            path: path.to_owned(),
            device_inode: (meta.dev(), meta.ino()),
            block_len: meta.blksize().max(512),
            locked: false,
            seam,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn block_len(&self) -> u64 {
        self.block_len
    }

    pub(crate) fn seam(&self) -> &Seamed {
        &self.seam
    }

    pub(crate) fn as_file(&self) -> &File {
        &self.file
    }

    pub(crate) fn len(&self) -> Result<u64> {
        let meta = self.file.metadata().map_err(|e| self.error("stat", e))?;
        Ok(meta.len())
    }

    /// Reads at `offset` until `buf` is full or the file ends; returns how many bytes were read.
    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        read_full_at(&self.file, buf, offset).map_err(|e| self.error("read", e))
    }

    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write_vectored_at(&mut [IoSlice::new(bytes)], offset)
    }

    /// Writes all of `parts`, one after the other, at `offset`, in as few calls as the system takes.
    pub(crate) fn write_vectored_at(&self, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.write_once(parts, offset) {
                Ok(0) => return Err(self.error("write", io::ErrorKind::WriteZero.into())),
                Ok(n) => {
                    offset = offset.saturating_add(n as u64);
                    IoSlice::advance_slices(&mut parts, n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error("write", e)),
            }
        }
        Ok(())
    }

    fn write_once(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.seam.write(self.role(), offset, parts, |parts| match parts {
            [one] => self.file.write_at(one, offset),
            // The number of parts of one call is bounded (1024 on Linux); the rest follows in another.
            many => pwritev(&self.file, &many[..many.len().min(1024)], offset),
        })
    }

    /// Appends up to `len` zeros, wherever the file ends at that moment: they never take the place of anything. How many
    /// it were.
    pub(crate) fn append_zeros(&self, len: u64) -> Result<u64> {
        loop {
            match self.seam.extend(self.role(), len, |len| append_zeros(&self.file, len)) {
                Ok(0) => return Err(self.error("extend", io::ErrorKind::WriteZero.into())),
                Ok(n) => return Ok(n as u64),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error("extend", e)),
            }
        }
    }

    /// Makes the content and the length durable.
    pub(crate) fn sync(&self) -> Result<()> {
        let done = self.seam.ask(self.role(), Asked::Sync, || self.file.sync_data());
        done.map_err(|e| self.error("sync", e))
    }

    /// Cuts or extends the file to `len` bytes.
    pub(crate) fn truncate(&self, len: u64) -> Result<()> {
        let done = self.seam.ask(self.role(), Asked::Truncate(len), || self.file.set_len(len));
        done.map_err(|e| self.error("truncate", e))
    }

    /// Makes the file's entry in its directory durable.
    pub(crate) fn sync_directory(&self) -> Result<()> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let sync = || File::open(directory)?.sync_all();
        let done = self.seam.ask(SeamRole::Directory, Asked::Sync, sync);
        done.map_err(|e| Error::io("sync directory", directory, e))
    }

    /// Removes the file from its directory, if the path still names this file.
    pub(crate) fn unlink(&self) -> Result<()> {
        if self.path_names_this() {
            std::fs::remove_file(&self.path).map_err(|e| self.error("unlink", e))?;
        }
        Ok(())
    }

    fn path_names_this(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.device_inode)
    }

    fn role(&self) -> SeamRole {
        if self.locked { SeamRole::Journal } else { SeamRole::Quarantine }
    }

    pub(crate) fn error(&self, op: &'static str, source: io::Error) -> Error {
        Error::io(op, &self.path, source)
    }
}

impl Drop for JournalFile {
    fn drop(&mut self) {
        if self.locked {
            // Not left to close(2): a descriptor that a forked child still holds would keep the lock.
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
    }
}

/// Opens `path` for reading only; never blocks, and refuses what is no regular file.
pub(crate) fn open_read_only(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(|e| Error::io("open", path, e))?;
    regular(&file, path)?;
    Ok(file)
}

/// Reads at `offset` until `buf` is full or the file ends.
pub(crate) fn read_full_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Opens an existing file, or creates it: whether it was created decides whether its directory is synced. The two
/// are tried in turn, for another process may create or remove it in between.
fn open_or_create(path: &Path, create: bool) -> Result<(File, Origin)> {
    let mut options = OpenOptions::new();
    // A FIFO must not make the open wait for its other end.
    options.read(true).write(true).custom_flags(OFlags::NONBLOCK.bits() as i32).mode(0o644);
    loop {
        match options.open(path) {
            Ok(file) => return Ok((file, Origin::Existed)),
            Err(e) if create && e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("open", path, e)),
        }
        match options.clone().create_new(true).open(path) {
            Ok(file) => return Ok((file, Origin::Created)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.exists() => {}
            Err(e) => return Err(Error::io("create", path, e)),
        }
    }
}

fn regular(file: &File, path: &Path) -> Result<std::fs::Metadata> {
    let meta = file.metadata().map_err(|e| Error::io("stat", path, e))?;
    if meta.is_file() {
        return Ok(meta);
    }
    let source = match meta.is_dir() {
        true => io::Error::from_raw_os_error(rustix::io::Errno::ISDIR.raw_os_error()),
        false => io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"),
    };
    Err(Error::io("open", path, source))
}

#[cfg(not(target_vendor = "apple"))]
fn pwritev(file: &File, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    Ok(rustix::io::pwritev(file.as_fd(), parts, offset)?)
}

#[cfg(target_vendor = "apple")]
fn pwritev(file: &File, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    // Not in every macOS that is still in use: the first part alone is a short write like any other.
    let _ = AsFd::as_fd(file);
    match parts.iter().find(|part| !part.is_empty()) {
        Some(part) => file.write_at(part, offset),
        None => Ok(0),
    }
}

#[cfg(target_os = "linux")]
fn append_zeros(file: &File, len: u64) -> io::Result<usize> {
    use rustix::process::{Resource, getrlimit};
    static ZEROS: [u8; 16 << 10] = [0; 16 << 10];
    if getrlimit(Resource::Fsize).current.is_some() {
        // A write at the limit brings a signal, which nobody expects who has not reached it.
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut left = len;
    let parts = [(); 16].map(|()| {
        let now = left.min(ZEROS.len() as u64);
        left -= now;
        IoSlice::new(ZEROS.get(..now as usize).unwrap_or_default())
    });
    // The system looks for the end and writes there in one step: what another thread writes is there before or after.
    Ok(rustix::io::pwritev2(file, &parts, 0, rustix::io::ReadWriteFlags::APPEND)?)
}

/// Elsewhere there is no call that does it in one step.
#[cfg(not(target_os = "linux"))]
fn append_zeros(_: &File, _: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
