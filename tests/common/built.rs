//! The encoder of the tests: the format's table written down a second time, CRC included, so that the library is not
//! tested against itself. What reads the format is the oracle, `fuzz/src/decoder.rs`, which shares no code with this.

pub const HEADER: usize = 16;
pub const SEALED: u8 = 1;
pub const BARRIER: u8 = 1 << 1;
pub const CONTINUED: u8 = 1 << 2;
pub const GAP: u8 = 1 << 3;
pub const MARK: u8 = 1 << 4;

/// The remainders of all bytes, each worked out one bit at a time.
const REMAINDERS: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// CRC-32/IEEE.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, &byte| REMAINDERS[(crc as u8 ^ byte) as usize] ^ crc >> 8)
}

/// The seal of a header at `offset`. `flags` without `SEALED`.
pub fn seal(offset: u64, len: u64, crc: u32, flags: u8) -> [u8; 4] {
    let flags = flags | SEALED;
    let mut checked = Vec::with_capacity(21);
    checked.extend_from_slice(&offset.to_le_bytes());
    checked.extend_from_slice(&len.to_le_bytes());
    checked.extend_from_slice(&crc.to_le_bytes());
    checked.push(flags);
    (crc32(&checked) & 0xFFFF_FF00 | u32::from(flags)).to_le_bytes()
}

/// A header of the sealed format. `flags` without `SEALED`.
pub fn header(offset: u64, len: u64, crc: u32, flags: u8) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&len.to_le_bytes());
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    header[12..].copy_from_slice(&seal(offset, len, crc, flags));
    header
}

/// A mark at `offset`: "the journal ends at `end`".
pub fn mark(offset: u64, end: u64) -> [u8; HEADER] {
    header(offset, end, 0xFFFF_FFFF, MARK)
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

    pub fn header(self, len: u64, crc: u32, flags: u8) -> Self {
        let header = header(self.len(), len, crc, flags);
        self.raw(&header)
    }

    pub fn sealed(self, payload: &[u8], flags: u8) -> Self {
        self.header(payload.len() as u64, crc32(payload), flags).raw(payload)
    }

    /// A record of the reference format.
    pub fn reference(self, payload: &[u8]) -> Self {
        let len = payload.len() as u64;
        self.raw(&len.to_le_bytes()).raw(&crc32(payload).to_le_bytes()).raw(&[0; 4]).raw(payload)
    }

    /// The place of `removed` records, in `len` bytes, which tell how many only if they are 16 at least. Nothing lies before
    /// it.
    pub fn gap(len: usize, removed: u64) -> Self {
        let mut payload = vec![0; len];
        if len >= 16 {
            payload[..8].copy_from_slice(&removed.to_le_bytes());
            payload[8..16].copy_from_slice(&(removed + 1).to_le_bytes());
        }
        Self::new().sealed(&payload, GAP)
    }

    /// "The journal ends at `end`."
    pub fn mark(self, end: u64) -> Self {
        let mark = mark(self.len(), end);
        self.raw(&mark)
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
