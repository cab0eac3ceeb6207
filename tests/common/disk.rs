//! A disk that loses power: it takes the calls that the seam logged, and makes the files that a power cut could leave.
//!
//! Each 512-byte sector is as it was at the last completed sync, or as it was in the page cache after any one of the
//! writes since; a sector that was never written is zeros. The file's size is any that it has had since that sync. A
//! shrinking ftruncate zeroes the rest of its block in the cache, and that too can reach the disk before the new size
//! does (seen on ext4).
//!
//! The file's entry in its directory is a name, or none, out of those that it has had since the directory was last synced.
//! That is all that POSIX promises; ext4 commits an entry also with the new size of a file that is synced.

use wally::seam::Role;

use super::seam::{Call, Seen};

pub const SECTOR: usize = 512;
const BLOCK: usize = 4096;

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

    /// Makes the change that a call has made.
    pub fn apply(&mut self, seen: &Seen) {
        let Some(done) = seen.done.filter(|_| seen.changed_the_disk()) else { return };
        match &seen.call {
            Call::Write { offset, bytes } => self.write(*offset as usize, &bytes[..done]),
            Call::Extend(_) => self.write(self.cache.len(), &vec![0; done]),
            Call::Truncate(len) => {
                let (old, len) = (self.cache.len(), *len as usize);
                self.cache.resize(len, 0);
                // What lay beyond can still be there, or the zeros that follow the cut in its block.
                self.note(len, old.max(len).min(len.next_multiple_of(BLOCK)));
            }
            Call::Sync if seen.role == Role::Directory => self.names = *self.names.end()..=*self.names.end(),
            Call::Sync => self.settle(),
            Call::Rename => self.names = *self.names.start()..=*self.names.end() + 1,
            Call::Map(_) | Call::Preserve(_) => {}
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
