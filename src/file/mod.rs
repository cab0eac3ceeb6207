//! The file descriptor: opening and locking, full writes, syncs, truncation and directory syncs, each asked for through
//! the seam at which the tests see and refuse it.

pub(crate) mod end;
pub(crate) mod map;
pub(crate) mod preserve;
pub(crate) mod process;
pub(crate) mod seam;

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::error::{Error, Result};
use crate::file::process::Owner;
use crate::file::seam::{FileSeam, first_bytes};
use crate::seam::{Op, Role};

/// A file that the journal writes: itself, locked, or a quarantine file.
#[derive(Debug)]
pub(crate) struct JournalFile {
    file: File,
    path: PathBuf,
    /// The path with all links in it resolved when the file was opened: where its entry in its directory is.
    place: PathBuf,
    device_inode: (u64, u64),
    /// The unit in which the file system zeroes the rest of a cut block.
    block_len: u64,
    locked: bool,
    /// The process that opened it. A child that was forked from it shares the open file, its lock included.
    owner: Owner,
    seam: FileSeam,
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
    pub(crate) fn open(path: &Path, create: bool, seam: FileSeam) -> Result<(Self, Origin)> {
        // An absolute path keeps its meaning if the process changes its directory before the file is unlinked.
        let path = std::path::absolute(path).map_err(|e| Error::io("open", path, e))?;
        loop {
            let (file, origin) = open_or_create(&path, create)?;
            let meta = regular(&file, &path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(Error::Locked { path }),
                Err(e) => return Err(Error::io("lock", &path, e.into())),
            }
            let this = Self {
                file,
                device_inode: (meta.dev(), meta.ino()),
                block_len: meta.blksize().max(512),
                locked: true,
                owner: Owner::this(),
                seam: seam.clone(),
                // Where that cannot be told, the file is not removed if the path turns out to be a link.
                place: path.canonicalize().unwrap_or_else(|_| path.clone()),
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
    pub(crate) fn create_new(path: &Path, seam: FileSeam) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(path)?;
        let meta = file.metadata()?;
        Ok(Self {
            file,
            path: path.to_owned(),
            place: path.to_owned(),
            device_inode: (meta.dev(), meta.ino()),
            block_len: meta.blksize().max(512),
            locked: false,
            owner: Owner::this(),
            seam,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file's entry is, whatever links the path went through when it was opened.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    pub(crate) fn block_len(&self) -> u64 {
        self.block_len
    }

    /// Whether what is written over goes to new blocks, as far as the kind of file system tells. It does not tell of a file
    /// that is excepted (`chattr +C`), nor of what lies under an overlay.
    pub(crate) fn is_copied_on_write(&self) -> bool {
        copies_on_write(&self.file)
    }

    pub(crate) fn seam(&self) -> &FileSeam {
        &self.seam
    }

    pub(crate) fn as_file(&self) -> &File {
        &self.file
    }

    /// Whether this is the process that opened the file. Every request that changes the file asks this first; the journal
    /// also asks before it takes a lock for one, since a lock that another thread held at the moment of the fork stays
    /// taken in the child.
    ///
    /// # Errors
    /// `Forked` if this is a child of it.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.owner.is_this() { Ok(()) } else { Err(self.forked()) }
    }

    /// The same where no system call may be made: where it takes one to tell, nothing is refused.
    ///
    /// # Errors
    /// As [`check_process`](Self::check_process).
    #[inline]
    pub(crate) fn check_process_at_once(&self) -> Result<()> {
        if self.owner.may_be_this() { Ok(()) } else { Err(self.forked()) }
    }

    #[cold]
    fn forked(&self) -> Error {
        Error::Forked { path: self.path.clone() }
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
        self.check_process()?;
        let len = parts.iter().fold(0u64, |len, part| len.saturating_add(part.len() as u64));
        self.check_write(offset.saturating_add(len))?;
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

    /// Whether the limit on the size of files lets this process write up to `end`.
    ///
    /// # Errors
    /// `Io` if it does not.
    pub(crate) fn check_write(&self, end: u64) -> Result<()> {
        check_size_limit(end).map_err(|e| self.error("write", e))
    }

    fn write_once(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let write = |parts: &[IoSlice<'_>]| match parts {
            [one] => self.file.write_at(one, offset),
            // The number of parts of one call is bounded (1024 on Linux); the rest follows in another.
            many => pwritev(&self.file, &many[..many.len().min(1024)], offset),
        };
        self.seam.transfer(self.role(), &Op::Write { offset, parts }, |most| match most {
            usize::MAX => write(parts),
            most => write(&first_bytes(parts, most)),
        })
    }

    /// Appends up to `len` zeros, wherever the file ends at that moment: they never take the place of anything. How many
    /// it were.
    pub(crate) fn append_zeros(&self, len: u64) -> Result<u64> {
        self.check_process()?;
        loop {
            let extend = |most| append_zeros(&self.file, len.min(most as u64));
            match self.seam.transfer(self.role(), &Op::Extend { len }, extend) {
                Ok(0) => return Err(self.error("extend", io::ErrorKind::WriteZero.into())),
                Ok(n) => return Ok(n as u64),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error("extend", e)),
            }
        }
    }

    /// Makes the content and the length durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_process()?;
        let done = self.seam.ask(self.role(), &Op::Sync, || self.file.sync_data());
        done.map_err(|e| self.error("sync", e))
    }

    /// Cuts or extends the file to `len` bytes.
    pub(crate) fn truncate(&self, len: u64) -> Result<()> {
        self.check_process()?;
        // To cut a file that is longer than the limit is no offence against it.
        if let Err(e) = check_size_limit(len)
            && len > self.len()?
        {
            return Err(self.error("truncate", e));
        }
        let done = self.seam.ask(self.role(), &Op::Truncate { len }, || self.file.set_len(len));
        done.map_err(|e| self.error("truncate", e))
    }

    /// Makes the file's entry in its directory durable. That of a symbolic link to it is its maker's to sync, and a file
    /// that was unlinked has none.
    pub(crate) fn sync_directory(&self) -> Result<()> {
        self.check_process()?;
        let meta = self.file.metadata().map_err(|e| self.error("stat", e))?;
        if meta.nlink() == 0 {
            return Ok(());
        }
        let directory = match self.place.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let sync = || File::open(directory)?.sync_all();
        let mut done = self.seam.ask(Role::Directory, &Op::Sync, sync);
        if done.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied) {
            // It may be searched but not read.
            done = self.seam.ask(Role::Directory, &Op::Sync, || sync_file_system(&self.file));
        }
        done.map_err(|e| Error::io("sync directory", directory, e))
    }

    /// Removes the file from its directory, if its entry is still there. A link through which it was opened stays: it
    /// names the place of the journal, and the next one is made there.
    pub(crate) fn unlink(&self) -> Result<()> {
        self.check_process()?;
        if std::fs::symlink_metadata(&self.place).is_ok_and(|meta| self.is(&meta)) {
            std::fs::remove_file(&self.place).map_err(|e| self.error("unlink", e))?;
        }
        Ok(())
    }

    fn path_names_this(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|meta| self.is(&meta))
    }

    fn is(&self, meta: &std::fs::Metadata) -> bool {
        (meta.dev(), meta.ino()) == self.device_inode
    }

    fn role(&self) -> Role {
        if self.locked { Role::Journal } else { Role::Quarantine }
    }

    pub(crate) fn error(&self, op: &'static str, source: io::Error) -> Error {
        Error::io(op, &self.path, source)
    }
}

impl Drop for JournalFile {
    fn drop(&mut self) {
        // A child that unlocked the file would unlock it for its parent.
        if self.locked && self.check_process().is_ok() {
            // Not left to close(2): a descriptor that a forked child still holds would keep the lock.
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
    }
}

/// Whether a file may be written up to `end`, as far as the limit of this process on the size of its files goes. Asked
/// before each call that could go beyond it, since such a call brings a signal that ends the process by default.
///
/// # Errors
/// `EFBIG` if it may not.
pub(crate) fn check_size_limit(end: u64) -> io::Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if end > limit => Err(Errno::FBIG.into()),
        _ => Ok(()),
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

/// Opens an existing file, or creates it: one that was created is removed if the open fails. The two are tried in turn,
/// for another process may create or remove it in between.
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
        let created = end_of_links(path).and_then(|place| options.clone().create_new(true).open(place));
        match created {
            Ok(file) => return Ok((file, Origin::Created)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io("create", path, e)),
        }
    }
}

/// Where the links at `path` lead, one after the other, whether or not there is anything. To create a file only where
/// there is none, the system follows no link.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    let mut place = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        match std::fs::read_link(&place) {
            // A relative one begins in the directory that the link is in.
            Ok(target) => {
                place.pop();
                place.push(target);
            }
            // No link, or nothing at all.
            Err(_) => return Ok(place),
        }
    }
    Err(Errno::LOOP.into())
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
fn copies_on_write(file: &File) -> bool {
    // The numbers have 32 bits, whatever the type.
    rustix::fs::fstatfs(file).is_ok_and(|stat| is_copy_on_write(stat.f_type as u32))
}

/// Elsewhere it is asked by nobody: no zeros are written ahead.
#[cfg(not(target_os = "linux"))]
fn copies_on_write(_: &File) -> bool {
    false
}

/// By the number that Linux knows a file system by. F2FS is none of these: what is synced in small pieces it writes in
/// place.
#[cfg(any(target_os = "linux", test))]
fn is_copy_on_write(number: u32) -> bool {
    const BTRFS: u32 = 0x9123_683E;
    const ZFS: u32 = 0x2FC1_2FC1;
    const BCACHEFS: u32 = 0xCA45_1A4E;
    const NILFS2: u32 = 0x3434;
    const UBIFS: u32 = 0x2405_1905;
    matches!(number, BTRFS | ZFS | BCACHEFS | NILFS2 | UBIFS)
}

/// Makes everything durable that is on the file's file system, its entry in a directory included.
#[cfg(target_os = "linux")]
fn sync_file_system(file: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

/// Elsewhere there is no such call. File systems that keep a log write the entry with the file.
#[cfg(not(target_os = "linux"))]
fn sync_file_system(file: &File) -> io::Result<()> {
    file.sync_all()
}

#[cfg(target_os = "linux")]
fn append_zeros(file: &File, len: u64) -> io::Result<usize> {
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_told_by_their_numbers() {
        for copies in [0x9123_683E, 0x2FC1_2FC1, 0xCA45_1A4E, 0x3434, 0x2405_1905] {
            assert!(is_copy_on_write(copies), "{copies:x}");
        }
        // ext4, XFS, tmpfs, overlayfs, F2FS, NFS, and the lower half of btrfs.
        for in_place in [0xEF53, 0x5846_5342, 0x0102_1994, 0x794C_7630, 0xF2F5_2010, 0x6969, 0x683E, 0] {
            assert!(!is_copy_on_write(in_place), "{in_place:x}");
        }
    }
}
