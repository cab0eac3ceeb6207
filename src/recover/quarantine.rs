//! Copies what recovery is going to cut into a file of its own.

use std::io;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::file::JournalFile;

/// The number of bytes that are copied at a time.
const PIECE: usize = 1 << 20;

/// Copies the bytes `from..len` of the journal into a new file `PATH.cut-FROM`, links in PATH resolved, or with `-1`, `-2`… added if that
/// exists, and makes it durable. If that fails, the new file is removed.
///
/// # Errors
/// `Io`.
pub(super) fn quarantine(journal: &JournalFile, from: u64, len: u64) -> Result<PathBuf> {
    let (file, path) = create(journal, from)?;
    let kept = fill(journal, &file, from, len);
    if kept.is_err() {
        let _ = file.unlink();
    }
    kept.map(|()| path)
}

fn create(journal: &JournalFile, from: u64) -> Result<(JournalFile, PathBuf)> {
    let mut tries = 0u64;
    loop {
        let mut name = journal.place().as_os_str().to_owned();
        name.push(format!(".cut-{from}"));
        if tries > 0 {
            name.push(format!("-{tries}"));
        }
        let path = PathBuf::from(name);
        match JournalFile::create_new(&path, journal.seam().clone()) {
            Ok(file) => return Ok((file, path)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => tries += 1,
            Err(e) => return Err(Error::io("create", &path, e)),
        }
    }
}

fn fill(journal: &JournalFile, file: &JournalFile, from: u64, len: u64) -> Result<()> {
    let mut piece = vec![0; PIECE.min(usize::try_from(len - from).unwrap_or(PIECE))];
    let mut at = from;
    while at < len {
        let want = (piece.len() as u64).min(len - at) as usize;
        let bytes = piece.get_mut(..want).unwrap_or_default();
        if journal.read_at(bytes, at)? < want {
            return Err(journal.error("read", io::ErrorKind::UnexpectedEof.into()));
        }
        file.write_at(bytes, at - from)?;
        at += want as u64;
    }
    file.sync()?;
    file.sync_directory()
}
