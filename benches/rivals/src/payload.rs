//! What is written, so that what comes back can be checked: a number, then bytes that are the same in every run.

/// A record that is given a new number for each append.
pub(crate) struct Payload(Vec<u8>);

impl Payload {
    pub(crate) fn new(len: usize) -> Self {
        assert!(len > 8, "a record has room for its number and more");
        Self((0..len as u64).map(|at| noise(at) as u8).collect())
    }

    #[inline]
    pub(crate) fn numbered(&mut self, number: u64) -> &[u8] {
        self.0[..8].copy_from_slice(&number.to_le_bytes());
        &self.0
    }

    /// The number of a record that was made by a payload of the same length; `None` if any byte is another.
    pub(crate) fn number(&self, record: &[u8]) -> Option<u64> {
        let (number, rest) = record.split_first_chunk()?;
        (rest == &self.0[8..]).then_some(u64::from_le_bytes(*number))
    }

    /// As [`number`](Self::number), but looks at the length and at both ends only: cheap enough to be done within the
    /// time of every read.
    #[inline]
    pub(crate) fn number_at_a_glance(&self, record: &[u8]) -> Option<u64> {
        let (number, _) = record.split_first_chunk()?;
        (record.len() == self.0.len() && record.last() == self.0.last())
            .then_some(u64::from_le_bytes(*number))
    }
}

/// SplitMix64's mixing of one number.
#[inline]
pub(crate) fn noise(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ n >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_number_it_was_given() {
        let mut payload = Payload::new(64);
        let record = payload.numbered(7).to_vec();
        payload.numbered(8);
        assert_eq!(payload.number(&record), Some(7));
        assert_eq!(payload.number_at_a_glance(&record), Some(7));
    }

    #[test]
    fn a_changed_or_cut_record_has_no_number() {
        let mut payload = Payload::new(64);
        let record = payload.numbered(7).to_vec();
        for at in 8..64 {
            let mut changed = record.clone();
            changed[at] ^= 1;
            assert_eq!(payload.number(&changed), None, "byte {at}");
        }
        for len in 0..64 {
            assert_eq!(payload.number(&record[..len]), None, "{len} bytes");
            assert_eq!(payload.number_at_a_glance(&record[..len]), None, "{len} bytes");
        }
    }
}
