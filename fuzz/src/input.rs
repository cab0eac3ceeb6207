//! Fuzzed bytes, taken from the front. When they run out, what is taken is zeros, so any input means something.

/// What is left of an input.
#[derive(Debug, Clone)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At most so many bytes.
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub fn u16(&mut self) -> usize {
        usize::from(self.byte()) | usize::from(self.byte()) << 8
    }

    pub fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let taken = self.take(8);
        bytes[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(bytes)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        let raw =
            if n <= 256 { usize::from(self.byte()) } else { self.u16() | usize::from(self.byte()) << 16 };
        raw % n
    }

    /// A payload: mostly short, its bytes from the input; sometimes long, and then of one byte.
    pub fn payload(&mut self) -> Vec<u8> {
        match self.byte() {
            n @ 0..=199 => self.take(usize::from(n % 40)).to_vec(),
            n @ 200..=239 => vec![n; usize::from(n) * 3],
            n => vec![n; 480 + self.u16() % 9000],
        }
    }
}
