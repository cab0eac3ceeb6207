//! How a journal file becomes shorter. Every cut leaves a mark at the new end (sealed journals only).

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::file::JournalFile;
use crate::format::{HEADER_LEN, Header};
use crate::options::Format;

/// Cuts the journal at `end` and marks the new end; whether there is a mark now.
///
/// The sync in between keeps what lay behind `end` from coming back in the place of the mark: a record without payload
/// is as long as one.
pub(crate) fn cut(file: &JournalFile, format: Format, end: u64) -> Result<bool> {
    file.truncate(end)?;
    file.sync()?;
    leave_mark(file, format, end)
}

/// [Cuts](cut) off what nobody was told is there. A sealed journal that is cut to nothing keeps its first 16 bytes until
/// the mark overwrites them: it then needs no new block, which a full disk would not have.
pub(crate) fn take_off(file: &JournalFile, format: Format, end: u64) -> Result<bool> {
    match format {
        Format::Sealed => file.truncate(end.max(HEADER_LEN.min(file.len()?)))?,
        Format::Reference => file.truncate(end)?,
    }
    file.sync()?;
    leave_mark(file, format, end)
}

/// Marks `end`, before which everything is durable and behind which there are at most zeros, lets the file end with the
/// mark, and syncs that; whether there is a mark now. A reference journal has none, and nothing to sync.
///
/// Without room for it the journal goes on unmarked, unless it is empty: the mark protects the last stretch of records
/// against damage that looks like a torn tail, and tells an empty journal from any other file. One that is there already,
/// since what was to take its place was refused as a whole, needs no room.
pub(crate) fn leave_mark(file: &JournalFile, format: Format, end: u64) -> Result<bool> {
    if format == Format::Reference {
        return Ok(false);
    }
    let marked = match file.write_at(&Header::mark(end, end).encode(), end) {
        Ok(()) => {
            // The mark comes first: it fits where zeros are, even if the disk is full.
            let marked_len = end.saturating_add(HEADER_LEN);
            if file.len()? > marked_len {
                file.truncate(marked_len)?;
            }
            true
        }
        Err(error) if is_no_space(&error) => {
            let marked = is_marked(file, end)?;
            if end == 0 && !marked {
                return Err(error);
            }
            // A part of it may have got in.
            file.truncate(if marked { end.saturating_add(HEADER_LEN) } else { end })?;
            marked
        }
        Err(error) => return Err(error),
    };
    file.sync()?;
    Ok(marked)
}

/// Whether the mark of `end` lies there.
fn is_marked(file: &JournalFile, end: u64) -> Result<bool> {
    let mut bytes = [0; HEADER_LEN as usize];
    Ok(file.read_at(&mut bytes, end)? == bytes.len() && bytes == Header::mark(end, end).encode())
}

/// Whether the file system, a quota or a limit on the file's size left no room.
pub(crate) fn is_no_space(error: &Error) -> bool {
    let Error::Io { source, .. } = error else { return false };
    let codes = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].map(Errno::raw_os_error);
    source.raw_os_error().is_some_and(|code| codes.contains(&code))
        || source.kind() == std::io::ErrorKind::WriteZero
}
