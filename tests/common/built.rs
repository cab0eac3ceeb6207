//! Journal files built by hand: the table of the format written down a second time, so that the library is not tested
//! against itself.

pub const SEALED: u8 = 1;
pub const BARRIER: u8 = 1 << 1;
pub const CONTINUED: u8 = 1 << 2;
pub const GAP: u8 = 1 << 3;
pub const MARK: u8 = 1 << 4;

/// A header of the sealed format. `flags` without `SEALED`.
pub fn sealed_header(offset: u64, len: u64, crc: u32, flags: u8) -> [u8; 16] {
    let flags = flags | SEALED;
    let mut checked = Vec::with_capacity(21);
    checked.extend_from_slice(&offset.to_le_bytes());
    checked.extend_from_slice(&len.to_le_bytes());
    checked.extend_from_slice(&crc.to_le_bytes());
    checked.push(flags);
    let seal = crc32fast::hash(&checked) & 0xFFFF_FF00 | u32::from(flags);
    let mut header = [0; 16];
    header[..8].copy_from_slice(&len.to_le_bytes());
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    header[12..].copy_from_slice(&seal.to_le_bytes());
    header
}

/// A file's bytes, grown record by record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Built(pub Vec<u8>);

impl Built {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    pub fn sealed(mut self, payload: &[u8], flags: u8) -> Self {
        let header = sealed_header(self.len(), payload.len() as u64, crc32fast::hash(payload), flags);
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(payload);
        self
    }

    pub fn reference(mut self, payload: &[u8]) -> Self {
        self.0.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        self.0.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(payload);
        self
    }

    /// The place of `removed` records, in `len` bytes: at least 16, and nothing lies in front of it.
    pub fn gap(mut self, len: usize, removed: u64) -> Self {
        let mut payload = vec![0; len];
        payload[..8].copy_from_slice(&removed.to_le_bytes());
        payload[8..16].copy_from_slice(&(removed + 1).to_le_bytes());
        self.0.extend_from_slice(&sealed_header(0, len as u64, crc32fast::hash(&payload), GAP));
        self.0.extend_from_slice(&payload);
        self
    }

    /// "The journal ends at `end`."
    pub fn mark(mut self, end: u64) -> Self {
        let header = sealed_header(self.len(), end, 0xFFFF_FFFF, MARK);
        self.0.extend_from_slice(&header);
        self
    }

    /// The mark of its own place.
    pub fn closed(self) -> Self {
        let end = self.len();
        self.mark(end)
    }

    pub fn zeros(mut self, n: usize) -> Self {
        self.0.resize(self.0.len() + n, 0);
        self
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// With the byte at `at` changed.
    pub fn damaged(mut self, at: usize) -> Self {
        self.0[at] ^= 0x55;
        self
    }
}
