//! A disk that loses power: what a journal asked of its file, recorded at the seam, and the files that a power cut
//! could leave of it.
//!
//! Each 512-byte sector is as it was at the last completed sync, or as it was in the page cache after any one of the
//! writes since; one that was never written is zeros. The file's size is any that it has had since that sync. A
//! shrinking ftruncate zeroes the rest of its block in the cache, and that too can reach the disk before the new size
//! does (seen on ext4).
//!
//! The file's entry in its directory is a name, or none, out of those that it has had since the directory was last synced.
//! That is all that POSIX promises; ext4 commits an entry also with the new size of a file that is synced.

use std::sync::{Arc, Mutex};

use wally::seam::{Op, Role, Seam, Verdict};

pub const SECTOR: usize = 512;
const BLOCK: usize = 4096;

/// Something that changed the journal's file, in the order in which it completed.
#[derive(Debug, Clone)]
pub enum Event {
    Write {
        offset: usize,
        bytes: Vec<u8>,
    },
    /// Zeros at the end.
    Extend(usize),
    Truncate(usize),
    Sync,
    /// The file got its name, or another one.
    Rename,
    SyncDirectory,
}

/// What decides which operations fail: called with the count of operations so far.
pub type Faults = Box<dyn Fn(usize, &Op<'_>) -> Verdict + Send + Sync>;

/// Records what completes; refuses what it is told to.
pub struct Recorder {
    events: Mutex<Vec<Event>>,
    asked: Mutex<usize>,
    faults: Mutex<Option<Faults>>,
}

impl Recorder {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { events: Mutex::default(), asked: Mutex::default(), faults: Mutex::default() })
    }

    pub fn fail_with(&self, faults: Option<Faults>) {
        *self.asked.lock().unwrap() = 0;
        *self.faults.lock().unwrap() = faults;
    }

    /// What has happened so far is of no interest.
    pub fn forget(&self) {
        self.events.lock().unwrap().clear();
    }

    /// Someone else gave the file a name.
    pub fn renamed(&self) {
        self.events.lock().unwrap().push(Event::Rename);
    }

    pub fn count(&self) -> usize {
        self.events.lock().unwrap().len()
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }
}

impl Seam for Recorder {
    fn before(&self, role: Role, op: &Op<'_>) -> Verdict {
        if role != Role::Journal {
            return Verdict::Proceed;
        }
        let mut asked = self.asked.lock().unwrap();
        *asked += 1;
        match &*self.faults.lock().unwrap() {
            Some(faults) => faults(*asked - 1, op),
            None => Verdict::Proceed,
        }
    }

    fn after(&self, role: Role, op: &Op<'_>, done: Option<usize>) {
        let Some(done) = done else { return };
        let event = match op {
            _ if role == Role::Quarantine => return,
            Op::Sync if role == Role::Directory => Event::SyncDirectory,
            Op::Write { offset, parts } => {
                let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
                bytes.truncate(done);
                Event::Write { offset: *offset as usize, bytes }
            }
            Op::Extend { .. } => Event::Extend(done),
            Op::Truncate { len } => Event::Truncate(*len as usize),
            Op::Sync => Event::Sync,
            Op::Map { .. } | Op::Preserve { .. } => return,
        };
        self.events.lock().unwrap().push(event);
    }
}

/// The file as the page cache shows it, and every version of each sector that the disk may hold.
#[derive(Clone)]
pub struct Disk {
    cache: Vec<u8>,
    /// For each sector its versions: the first is what the last sync left.
    versions: Vec<Vec<[u8; SECTOR]>>,
    /// The sizes since the last sync.
    sizes: Vec<usize>,
    /// The names since the last sync of the directory, in the order in which the file had them; 0 is none.
    names: std::ops::RangeInclusive<usize>,
}

impl Disk {
    /// A disk that holds `bytes`, synced.
    pub fn holding(bytes: &[u8]) -> Self {
        let mut disk = Self { cache: bytes.to_vec(), versions: Vec::new(), sizes: Vec::new(), names: 1..=1 };
        disk.settle();
        disk
    }

    /// A disk without the file.
    pub fn without() -> Self {
        Self { names: 0..=0, ..Self::holding(&[]) }
    }

    /// The number of the name, in the order of the renames, that a power cut leaves the file under.
    pub fn names(&self) -> std::ops::RangeInclusive<usize> {
        self.names.clone()
    }

    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Write { offset, bytes } => self.write(*offset, bytes),
            Event::Extend(len) => self.write(self.cache.len(), &vec![0; *len]),
            Event::Truncate(len) => {
                let old = self.cache.len();
                self.cache.resize(*len, 0);
                // What lay beyond can still be there, or the zeros that follow the cut in its block.
                self.note(*len, old.max(*len).min(len.next_multiple_of(BLOCK)));
            }
            Event::Sync => self.settle(),
            Event::Rename => self.names = *self.names.start()..=*self.names.end() + 1,
            Event::SyncDirectory => self.names = *self.names.end()..=*self.names.end(),
        }
        if self.sizes.last() != Some(&self.cache.len()) {
            self.sizes.push(self.cache.len());
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        self.note(offset, end);
    }

    fn settle(&mut self) {
        self.versions = (0..self.cache.len().div_ceil(SECTOR)).map(|at| vec![self.sector(at)]).collect();
        self.sizes = vec![self.cache.len()];
    }

    fn sector(&self, at: usize) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        let start = (at * SECTOR).min(self.cache.len());
        let end = (start + SECTOR).min(self.cache.len());
        bytes[..end - start].copy_from_slice(&self.cache[start..end]);
        bytes
    }

    fn note(&mut self, from: usize, to: usize) {
        for at in from / SECTOR..to.div_ceil(SECTOR) {
            let sector = self.sector(at);
            while self.versions.len() <= at {
                self.versions.push(vec![[0; SECTOR]]);
            }
            self.versions[at].push(sector);
        }
    }

    /// One of the files that a power cut could leave: `choose(sector, versions)` picks a version of each sector that has
    /// several, `size` picks one of the sizes.
    pub fn image(
        &self,
        mut choose: impl FnMut(usize, usize) -> usize,
        size: impl FnOnce(usize) -> usize,
    ) -> Vec<u8> {
        let len = self.sizes[size(self.sizes.len())];
        let mut image = vec![0; len.next_multiple_of(SECTOR)];
        for (at, sector) in image.chunks_exact_mut(SECTOR).enumerate() {
            match self.versions.get(at).map(Vec::as_slice) {
                None | Some([]) => {}
                Some([only]) => sector.copy_from_slice(only),
                Some(many) => sector.copy_from_slice(&many[choose(at, many.len())]),
            }
        }
        image.truncate(len);
        image
    }
}
