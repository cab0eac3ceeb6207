//! How a journal's file begins and ends: the one place that writes marks and shortens the file. Each sealed file ends with a
//! mark of its own end where there is room for one.
//!
//! A file is brought to an end in five ways. They differ in what a crash in between may leave, and each is named for its
//! case:
//!
//! * [`begin`]: a new journal gets its first mark.
//! * [`cut`]: a truncation or a recovery removes records from the end. The file is shortened first: the mark of the intent,
//!   or the records that stay, tell what it is until the new mark is there.
//! * [`empty`]: a recovery removes everything. The mark is written over the first header first, for what lies there may be
//!   damaged, and a part of it alone would be no journal.
//! * [`take_off`]: a roll-back removes what no caller was told is there, perhaps on a full disk.
//! * [`leave_mark`]: a journal is closed.

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::file::{JournalFile, Origin};
use crate::format::Format;
use crate::format::{HEADER_LEN, Header};

/// Makes the first bytes of a new journal durable. Returns `true` if they are a mark, which a sealed journal begins with. A
/// file that existed before, and has lost its mark for want of room, is opened without one.
///
/// # Errors
/// `Io`. A file that this open has created then has no bytes, if they can be taken off.
pub(crate) fn begin(file: &JournalFile, format: Format, origin: Origin) -> Result<bool> {
    if format == Format::Reference {
        file.sync()?;
        return Ok(false);
    }
    if let Err(error) = file.write_at(&Header::mark(0, 0).encode(), 0) {
        // A part of a mark is no journal: nothing at all is a new one.
        let nothing = file.truncate(0);
        if origin == Origin::Created || !is_no_space(&error) {
            return Err(error);
        }
        nothing?;
        file.sync()?;
        return Ok(false);
    }
    if file.len()? > HEADER_LEN {
        file.truncate(HEADER_LEN)?;
    }
    file.sync()?;
    Ok(true)
}

/// Cuts the file to a mark at 0. Returns `true` if the mark is there. It is written over the first header: most file systems
/// have to allocate no block for it, and the file begins with a valid header at every moment. Without room for it nothing
/// stays of the file.
pub(crate) fn empty(file: &JournalFile) -> Result<bool> {
    let marked = write_mark(file, 0)?;
    file.sync()?;
    if marked {
        file.truncate(HEADER_LEN)?;
        file.sync()?;
    }
    Ok(marked)
}

/// Cuts the journal at `end` and marks the new end. Returns `true` if there is a mark now.
///
/// The sync in between keeps what lay after `end` from coming back in the place of the mark: a record without payload
/// is as long as one.
pub(crate) fn cut(file: &JournalFile, format: Format, end: u64) -> Result<bool> {
    file.truncate(end)?;
    file.sync()?;
    leave_mark(file, format, end)
}

/// [Cuts](cut) off what no caller was told is there. A sealed journal that is cut to nothing keeps its first 16 bytes: they
/// may still be its mark, or else the mark overwrites them, for which most file systems need no new block.
pub(crate) fn take_off(file: &JournalFile, format: Format, end: u64) -> Result<bool> {
    match format {
        Format::Sealed => file.truncate(end.max(HEADER_LEN.min(file.len()?)))?,
        Format::Reference => file.truncate(end)?,
    }
    file.sync()?;
    leave_mark(file, format, end)
}

/// Marks `end`, before which everything is durable and after which there are at most zeros, lets the file end with the
/// mark, and syncs that. Returns `true` if there is a mark now. A reference journal has none, and nothing to sync.
///
/// Without room for it the journal goes on unmarked: the mark protects the last stretch of records against damage that
/// looks like a torn tail. It also tells an empty journal from any other file, so one that is empty and cannot be marked
/// is left with no bytes at all, which every open takes for a new journal. What lies there instead may be a whole record,
/// and must not stay. The mark then has to be [written](mark_empty) before the first record is, which may be torn.
pub(crate) fn leave_mark(file: &JournalFile, format: Format, end: u64) -> Result<bool> {
    if format == Format::Reference {
        return Ok(false);
    }
    let marked = write_mark(file, end)?;
    if marked {
        // The mark comes first: it fits where zeros are, even if the disk is full.
        let marked_len = end.saturating_add(HEADER_LEN);
        if file.len()? > marked_len {
            file.truncate(marked_len)?;
        }
    }
    file.sync()?;
    Ok(marked)
}

/// Writes the mark of `end`, or lets the file end there if there is no room for it. Returns `true` if there is a mark now.
fn write_mark(file: &JournalFile, end: u64) -> Result<bool> {
    let mark = Header::mark(end, end).encode();
    // Where what is overwritten needs as much room as what is new, a full disk has none for what is there already.
    if end == 0 && holds(file, end, &mark)? {
        return Ok(true);
    }
    match file.write_at(&mark, end) {
        Ok(()) => Ok(true),
        Err(error) if is_no_space(&error) => {
            // One that is there already, since what was to take its place was refused as a whole, needs no room.
            let marked = holds(file, end, &mark)?;
            if !marked {
                // A part of it may have got in.
                file.truncate(end)?;
            }
            Ok(marked)
        }
        Err(error) => Err(error),
    }
}

/// Marks an empty sealed journal whose file has no bytes.
///
/// # Errors
/// `Unmarked::Refused` if the mark did not get in, and the file still has no bytes.
pub(crate) fn mark_empty(file: &JournalFile) -> Result<(), Unmarked> {
    if let Err(error) = file.write_at(&Header::mark(0, 0).encode(), 0) {
        // Part of a mark is no journal.
        file.truncate(0).and_then(|()| file.sync()).map_err(Unmarked::Failed)?;
        return Err(Unmarked::Refused(error));
    }
    file.sync().map_err(Unmarked::Failed)
}

/// Why an empty journal has no mark.
pub(crate) enum Unmarked {
    /// The file is as it was.
    Refused(Error),
    /// What the file holds now is not known.
    Failed(Error),
}

/// Returns `true` if `mark` lies at `end`.
fn holds(file: &JournalFile, end: u64, mark: &[u8; HEADER_LEN as usize]) -> Result<bool> {
    let mut bytes = [0; HEADER_LEN as usize];
    Ok(file.read_at(&mut bytes, end)? == bytes.len() && bytes == *mark)
}

/// Returns `true` if the file system, a quota or a limit on the file's size left no room.
pub(crate) fn is_no_space(error: &Error) -> bool {
    let Error::Io { source, .. } = error else { return false };
    let codes = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].map(Errno::raw_os_error);
    source.raw_os_error().is_some_and(|code| codes.contains(&code))
        || source.kind() == std::io::ErrorKind::WriteZero
}
