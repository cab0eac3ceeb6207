//! One `write(2)` an append, which is what the reference implementation does: a header of 16 bytes and the payload
//! in one call, under a mutex, with a list of offsets in memory.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};

use super::{Durability, Fallible, Profile, Reader, Subject};
use crate::work::Work;

/// `len: u64`, `crc: u32`, four bytes of zeros.
const HEADER: usize = 16;

pub(crate) struct WriteCall {
    file: File,
    durability: Durability,
    writer: Mutex<Vec<u8>>,
    /// Where each record begins, and behind them where the next one goes.
    offsets: RwLock<Vec<u64>>,
}

impl Subject for WriteCall {
    const PROFILE: Profile = Profile {
        name: "write(2)",
        package: None,
        settings: "written here: a header with a CRC-32 and the payload in one `write(2)` an append or batch, under a \
                   mutex; `fdatasync` under the same mutex where each append is synced. Read with one `pread` a \
                   record, checked; opened by a walk that checks every record",
        less: &[
            "a header does not prove its own length or place, so nothing tells damage from a torn tail",
            "a batch is not atomic",
        ],
        forgets: None,
        reads_once: false,
    };

    type Reader<'a> = CallReader<'a>;

    fn less(work: Work) -> Option<&'static str> {
        (work == Work::Batch).then_some("the batch is not atomic")
    }

    fn open(dir: &Path, durability: Durability) -> Fallible<Self> {
        let path = dir.join("records");
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut offsets = vec![0];
        let mut end = 0;
        walk(&file, |record| {
            end += (HEADER + record.len()) as u64;
            offsets.push(end);
        })?;
        Ok(Self { file, durability, writer: Mutex::default(), offsets: RwLock::new(offsets) })
    }

    fn append(&self, _lane: usize, payload: &[u8]) -> Fallible {
        self.append_batch(&[payload])
    }

    fn append_batch(&self, payloads: &[&[u8]]) -> Fallible {
        let mut buffer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.clear();
        for payload in payloads {
            buffer.extend_from_slice(&(payload.len() as u64).to_le_bytes());
            buffer.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
            buffer.extend_from_slice(&[0; 4]);
            buffer.extend_from_slice(payload);
        }
        if (&self.file).write(&buffer)? != buffer.len() {
            return Err("a short write".into());
        }
        if self.durability == Durability::EachAppend {
            self.file.sync_data()?;
        }
        let mut offsets = self.offsets.write().unwrap_or_else(PoisonError::into_inner);
        let mut end = offsets.last().copied().unwrap_or_default();
        for payload in payloads {
            end += (HEADER + payload.len()) as u64;
            offsets.push(end);
        }
        Ok(())
    }

    fn reader(&self) -> Fallible<CallReader<'_>> {
        Ok(CallReader { from: self, buffer: Vec::new() })
    }

    fn scan(&self, see: impl FnMut(&[u8])) -> Fallible {
        walk(&self.file, see)
    }

    fn close(self) -> Fallible {
        Ok(self.file.sync_data()?)
    }
}

/// Shows every record of the file, checked.
fn walk(file: &File, mut see: impl FnMut(&[u8])) -> Fallible {
    let left = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 20, Positioned { file, offset: 0 }).take(left);
    let mut payload = Vec::new();
    while reader.limit() > 0 {
        let mut header = [0; HEADER];
        reader.read_exact(&mut header)?;
        let len = usize::try_from(length(&header))?;
        payload.resize(len, 0);
        reader.read_exact(&mut payload)?;
        check(&header, &payload)?;
        see(&payload);
    }
    Ok(())
}

/// Reads a file without moving its own position.
struct Positioned<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for Positioned<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(into, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

fn length(header: &[u8]) -> u64 {
    u64::from_le_bytes(header[..8].try_into().expect("eight bytes"))
}

fn check(header: &[u8], payload: &[u8]) -> Fallible {
    let crc = u32::from_le_bytes(header[8..12].try_into().expect("four bytes"));
    if length(header) != payload.len() as u64 || crc32fast::hash(payload) != crc {
        return Err("a record that is not what its header says".into());
    }
    Ok(())
}

pub(crate) struct CallReader<'a> {
    from: &'a WriteCall,
    buffer: Vec<u8>,
}

impl Reader for CallReader<'_> {
    fn read<T>(&mut self, n: u64, see: impl FnOnce(&[u8]) -> T) -> Fallible<T> {
        let (start, end) = {
            let offsets = self.from.offsets.read().unwrap_or_else(PoisonError::into_inner);
            match offsets.get(n as usize - 1..=n as usize) {
                Some(&[start, end]) => (start, end),
                _ => return Err("no such record".into()),
            }
        };
        self.buffer.resize((end - start) as usize, 0);
        self.from.file.read_exact_at(&mut self.buffer, start)?;
        let (header, payload) = self.buffer.split_at(HEADER);
        check(header, payload)?;
        Ok(see(payload))
    }
}
