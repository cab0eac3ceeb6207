//! The format of a journal file: how headers, marks and gaps are encoded and decoded, and what a header alone can prove.
//! This file does no I/O. Decoding never fails: any sixteen bytes decode to a header.
//!
//! # Specification
//!
//! A journal is one file of records, back to back from offset 0. There is no file header and no alignment. All
//! integers are little-endian. A record is a header of 16 bytes and its payload:
//!
//! | bytes  | field       | meaning                                                        |
//! | ---    | ---         | ---                                                            |
//! | 0..8   | `len: u64`  | length of the payload in bytes                                 |
//! | 8..12  | `crc: u32`  | CRC-32/IEEE of the payload                                     |
//! | 12..16 | `seal: u32` | 0 in the reference format; in a sealed journal the header's own check |
//! | 16..   | payload     | `len` bytes                                                    |
//!
//! The seal's low byte holds flags, its upper 24 bits are the upper 24 bits of CRC-32/IEEE over the 21 bytes
//! `offset: u64 | len: u64 | crc: u32 | low byte of the seal`, where `offset` is the header's own place in the
//! file. A header thereby proves its length, its flags and its place. In random bytes a check holds once in 2^28
//! offsets.
//!
//! | bit  | flag        | meaning                                                                   |
//! | ---  | ---         | ---                                                                       |
//! | 0    | `SEALED`    | always 1                                                                  |
//! | 1    | `BARRIER`   | all bytes before this record were durable before this record was written  |
//! | 2    | `CONTINUED` | the next record belongs to the same atomic batch                          |
//! | 3    | `GAP`       | at offset 0 only: the place of records that were removed from the front   |
//! | 4    | `MARK`      | not a record: the journal ends at `len`, at most the mark's own offset    |
//! | 5..8 |             | 0; a newer version wrote a header whose check holds with one of them set  |
//!
//! A sealed header is *valid* if its check holds, its length fits the file, and its flags are none, `BARRIER`,
//! `CONTINUED`, both of these, `GAP` alone at offset 0, or `MARK` alone.
//!
//! A `MARK` has no payload. Its `crc` is 0xFFFFFFFF, at which the reference implementation stops. A mark is valid only
//! if every byte after it in the file is zero. The writer writes a mark only when all bytes before it are durable, so
//! a mark counts as a `BARRIER`. A new journal consists of a mark at 0, a closed journal ends with a mark of the mark's
//! own place, and a mark of an earlier place is the intent of a truncation.
//!
//! The payload of a `GAP` begins with the count of records removed and the index of the record that follows, both
//! `u64`. A reader takes the rest of the payload as zeros, whatever the file holds there: the header's `crc` is that of
//! the 16 bytes and as many zeros. A gap whose payload is shorter than 16 bytes counts as all zeros and stands for
//! exactly one record.

/// The two formats of a journal file, told apart by its first header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Format {
    /// Each header proves its own length, flags and place.
    #[default]
    Sealed,
    /// Byte for byte what the reference implementation writes: no seal, no batch atomicity.
    Reference,
}

impl Format {
    /// Returns the format's name in lower case, as the command prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Reference => "reference",
        }
    }
}

/// Length of a header in bytes.
pub(crate) const HEADER_LEN: u64 = 16;

/// The `crc` of a mark. No empty payload has it, so the reference implementation stops at a mark.
const MARK_CRC: u32 = 0xFFFF_FFFF;

/// A file that consists of at most this many zeros is the result of a creation that crashed.
pub(crate) const CRASHED_CREATION_MAX: u64 = 4096;

/// The flags of a seal, as its low byte.
pub(crate) mod flag {
    pub(crate) const SEALED: u8 = 1;
    pub(crate) const BARRIER: u8 = 1 << 1;
    pub(crate) const CONTINUED: u8 = 1 << 2;
    pub(crate) const GAP: u8 = 1 << 3;
    pub(crate) const MARK: u8 = 1 << 4;
    pub(crate) const NEWER: u8 = 0b1110_0000;
    /// The flags that a record may carry beside `SEALED`.
    pub(crate) const OF_RECORD: u8 = BARRIER | CONTINUED;
}

/// A place between two records, or before the first or after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Boundary {
    /// The index of the record that begins here, or that would begin here.
    pub(crate) next: u64,
    /// The file offset.
    pub(crate) offset: u64,
}

impl Boundary {
    /// Where a journal without a gap begins.
    pub(crate) const START: Self = Self { next: 1, offset: 0 };

    /// The end of the record that begins here and ends at the offset `end`.
    #[inline]
    pub(crate) fn after_record(self, end: u64) -> Self {
        Self { next: self.next.saturating_add(1), offset: end }
    }

    /// The index of the record that ends here, or that would end here.
    #[inline]
    pub(crate) fn last(self) -> u64 {
        self.next.saturating_sub(1)
    }
}

/// A boundary that was reached from record to record, and the batch that it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) at: Boundary,
    /// Where the batch begins that continues at this boundary, if one does.
    pub(crate) batch: Option<Boundary>,
}

impl Cursor {
    /// A cursor at a boundary that is in no batch.
    pub(crate) fn outside_batch(at: Boundary) -> Self {
        Self { at, batch: None }
    }

    /// Moves over the record that begins here, whose header is `header`, and that ends at the offset `end`.
    #[inline]
    pub(crate) fn step_over(&mut self, header: Header, end: u64) {
        self.batch = if header.is_continued() { self.batch.or(Some(self.at)) } else { None };
        self.at = self.at.after_record(end);
    }

    /// The last boundary up to this one that is not inside a batch.
    pub(crate) fn last_outside_batch(self) -> Boundary {
        self.batch.unwrap_or(self.at)
    }
}

/// The sixteen bytes before each payload, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) len: u64,
    pub(crate) crc: u32,
    pub(crate) seal: u32,
}

/// What a header whose check holds stands for. Its length may still exceed the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sealed {
    Record {
        barrier: bool,
        continued: bool,
    },
    /// Occurs at offset 0 only.
    Gap,
    /// The journal ends at the header's `len`, which is at most the header's own offset.
    Mark,
    /// One of the bits is set that are 0 in this version.
    Newer,
    /// The flags exclude each other, or it is a gap that is not at 0, or a mark of a place after itself.
    Invalid,
}

impl Header {
    /// Decodes any sixteen bytes.
    #[inline]
    pub(crate) fn decode(bytes: &[u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes;
        Self {
            len: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            crc: u32::from_le_bytes([i, j, k, l]),
            seal: u32::from_le_bytes([m, n, o, p]),
        }
    }

    /// Decodes the header that begins at `at`. Returns `None` if `bytes` does not hold all of it.
    #[inline]
    pub(crate) fn decode_at(bytes: &[u8], at: usize) -> Option<Self> {
        Some(Self::decode(bytes.get(at..)?.first_chunk()?))
    }

    /// Returns the sixteen bytes of this header.
    #[inline]
    pub(crate) fn encode(self) -> [u8; 16] {
        (u128::from(self.len) | u128::from(self.crc) << 64 | u128::from(self.seal) << 96).to_le_bytes()
    }

    /// A record's header in the sealed format. `flags` need not contain `SEALED`.
    #[inline]
    pub(crate) fn sealed(offset: u64, len: u64, crc: u32, flags: u8) -> Self {
        Self { len, crc, seal: seal(offset, len, crc, flags | flag::SEALED) }
    }

    /// A record's header in the reference format.
    #[inline]
    pub(crate) fn reference(len: u64, crc: u32) -> Self {
        Self { len, crc, seal: 0 }
    }

    /// The mark at `offset` that says "the journal ends at `end`".
    pub(crate) fn mark(offset: u64, end: u64) -> Self {
        Self::sealed(offset, end, MARK_CRC, flag::MARK)
    }

    /// The low byte of the seal, where the flags are.
    #[inline]
    pub(crate) fn flags(self) -> u8 {
        self.seal.to_le_bytes()[0]
    }

    /// Returns `true` if all sixteen bytes are zero.
    #[inline]
    pub(crate) fn is_zero(self) -> bool {
        (self.len, self.crc, self.seal) == (0, 0, 0)
    }

    /// Returns `true` if the next record belongs to the batch of the record with this header. In the reference format
    /// that is never so, since the seal is 0.
    #[inline]
    pub(crate) fn is_continued(self) -> bool {
        self.flags() & flag::CONTINUED != 0
    }

    /// Returns `false` if the flags alone show that this is no header of a record. A cheap test before
    /// [`is_record`](Self::is_record).
    #[inline]
    pub(crate) fn may_be_record(self, format: Format) -> bool {
        match format {
            Format::Sealed => self.flags() & !flag::OF_RECORD == flag::SEALED,
            Format::Reference => self.seal == 0,
        }
    }

    /// Returns `true` if this is the header of a record of `format` that begins at `offset`, whatever its length.
    #[inline]
    pub(crate) fn is_record(self, format: Format, offset: u64) -> bool {
        match format {
            Format::Sealed => matches!(self.unseal(offset), Some(Sealed::Record { .. })),
            Format::Reference => self.seal == 0,
        }
    }

    /// This header with other flags, sealed anew for the same place.
    pub(crate) fn with_flags(self, offset: u64, flags: u8) -> Self {
        Self::sealed(offset, self.len, self.crc, flags)
    }

    /// Where the payload ends if the header is at `offset`. Returns `None` if that is more than a file offset can be.
    #[inline]
    pub(crate) fn end(self, offset: u64) -> Option<u64> {
        record_end(offset, self.len)
    }

    /// What the header stands for at `offset`. Returns `None` if its check does not hold there.
    #[inline]
    pub(crate) fn unseal(self, offset: u64) -> Option<Sealed> {
        let flags = self.flags();
        if flags & flag::SEALED == 0 || self.seal != seal(offset, self.len, self.crc, flags) {
            return None;
        }
        Some(match flags & !flag::SEALED {
            rest if rest & flag::NEWER != 0 => Sealed::Newer,
            rest if rest & !flag::OF_RECORD == 0 => {
                Sealed::Record { barrier: rest & flag::BARRIER != 0, continued: rest & flag::CONTINUED != 0 }
            }
            flag::GAP if offset == 0 => Sealed::Gap,
            flag::MARK if self.crc == MARK_CRC && self.len <= offset => Sealed::Mark,
            _ => Sealed::Invalid,
        })
    }
}

/// Bytes that a seal covers.
const COVERED: usize = 21;

/// The seal of a header at `offset`: the flags and the check over them, as the specification above says.
#[inline]
fn seal(offset: u64, len: u64, crc: u32, flags: u8) -> u32 {
    let mut bytes = [0; COVERED];
    bytes[..8].copy_from_slice(&offset.to_le_bytes());
    bytes[8..16].copy_from_slice(&len.to_le_bytes());
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes[20] = flags;
    let mut check = CRC_OF_ZEROS;
    for (table, byte) in SLICES.iter().zip(bytes) {
        check ^= table[usize::from(byte)];
    }
    check & 0xFFFF_FF00 | u32::from(flags)
}

/// For each place among the covered bytes, what a byte there adds to their CRC. A CRC is linear: it is the CRC of as many
/// zeros, xor what each byte adds. So no look-up of a seal depends on the result of another, and an append need not call
/// the general CRC, which is made for long slices, a second time for 21 bytes.
static SLICES: [[u32; 256]; COVERED] = slices();

const CRC_OF_ZEROS: u32 = {
    let mut state = u32::MAX;
    let mut left = COVERED;
    while left > 0 {
        state = after_zero(state);
        left -= 1;
    }
    !state
};

const fn slices() -> [[u32; 256]; COVERED] {
    let mut slices = [[0; 256]; COVERED];
    let mut byte = 0;
    while byte < 256 {
        let mut added = byte as u32;
        let mut at = COVERED;
        while at > 0 {
            at -= 1;
            added = after_zero(added);
            slices[at][byte] = added;
        }
        byte += 1;
    }
    slices
}

/// The state of a CRC-32/IEEE after one more byte, a zero.
const fn after_zero(mut state: u32) -> u32 {
    let mut bit = 0;
    while bit < 8 {
        state = if state & 1 == 1 { state >> 1 ^ 0xEDB8_8320 } else { state >> 1 };
        bit += 1;
    }
    state
}

/// Where a record with `len` bytes of payload ends if its header is at `offset`. Returns `None` if that is more than a
/// file offset can be.
#[inline]
pub(crate) fn record_end(offset: u64, len: u64) -> Option<u64> {
    let end = offset.checked_add(HEADER_LEN)?.checked_add(len)?;
    (end <= i64::MAX as u64).then_some(end)
}

/// What a gap stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The number of records that were removed since the journal was empty.
    pub(crate) removed: u64,
}

impl Gap {
    /// Decodes a gap from its header and the first 16 bytes of its payload, or all of a shorter payload. Returns `None`
    /// if those bytes contradict the header's CRC or each other.
    pub(crate) fn decode(header: Header, payload: &[u8]) -> Option<Self> {
        let Some(rest) = header.len.checked_sub(16) else {
            return (crc32(&[], header.len) == header.crc).then_some(Self { removed: 1 });
        };
        let head: &[u8; 16] = payload.first_chunk()?;
        if crc32(head, rest) != header.crc {
            return None;
        }
        let both = u128::from_le_bytes(*head);
        let (removed, next) = (both as u64, (both >> 64) as u64);
        (removed > 0 && removed.checked_add(1) == Some(next)).then_some(Self { removed })
    }

    /// The index of the first record after the gap.
    pub(crate) fn next_index(self) -> u64 {
        self.removed.saturating_add(1)
    }
}

/// CRC-32/IEEE of `head` followed by `zeros` zero bytes. Takes time logarithmic in `zeros`: the CRC of twice as many
/// zeros is the CRC of the zeros combined with itself.
fn crc32(head: &[u8], zeros: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    let mut power = crc32fast::Hasher::new();
    power.update(&[0]);
    let mut left = zeros;
    while left > 0 {
        if left & 1 == 1 {
            crc.combine(&power);
        }
        left >>= 1;
        if left > 0 {
            power.combine(&power.clone());
        }
    }
    crc.finalize()
}

/// The bytes of a gap of `len` bytes at offset 0, without the zeros after the first 32. Tests build files with them.
#[cfg(all(test, not(loom)))]
pub(crate) fn encode_gap(len: u64, removed: u64) -> Vec<u8> {
    let mut head = Vec::new();
    if len >= 16 {
        head.extend_from_slice(&removed.to_le_bytes());
        head.extend_from_slice(&(removed + 1).to_le_bytes());
    }
    let crc = crc32(&head, len - head.len() as u64);
    let mut bytes = Header::sealed(0, len, crc, flag::GAP).encode().to_vec();
    bytes.extend_from_slice(&head);
    bytes
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes_of_a_reference_header() {
        let header = Header::reference(5, crc32fast::hash(b"hello"));
        assert_eq!(header.encode(), [5, 0, 0, 0, 0, 0, 0, 0, 0x86, 0xA6, 0x10, 0x36, 0, 0, 0, 0]);
    }

    #[test]
    fn golden_bytes_of_sealed_headers() {
        // Computed with another implementation of CRC-32/IEEE (Python's zlib) from the specification above.
        let hello = crc32fast::hash(b"hello");
        let golden = [
            (Header::sealed(0, 5, hello, 0), [0x01, 0x77, 0xB0, 0xE8]),
            (Header::sealed(0, 5, hello, flag::BARRIER), [0x03, 0x16, 0xBE, 0x06]),
            (Header::sealed(21, 5, hello, flag::CONTINUED), [0x05, 0x26, 0x1A, 0x29]),
            (Header::mark(0, 0), [0x11, 0xED, 0x69, 0x12]),
            (Header::mark(8192, 37), [0x11, 0x45, 0xC4, 0xA6]),
        ];
        for (header, seal) in golden {
            assert_eq!(header.encode()[12..], seal, "{header:?}");
        }
    }

    #[test]
    fn any_change_of_place_length_crc_or_flags_breaks_the_check() {
        let header = Header::sealed(1000, 77, 0xABCD_EF01, flag::BARRIER);
        assert_eq!(header.unseal(1000), Some(Sealed::Record { barrier: true, continued: false }));
        assert_eq!(header.unseal(1001), None);
        for bit in 0..128 {
            let changed = Header::decode(&(u128::from_le_bytes(header.encode()) ^ 1 << bit).to_le_bytes());
            assert_eq!(changed.unseal(1000), None, "bit {bit}");
        }
    }

    #[test]
    fn only_the_listed_flags_are_valid() {
        for flags in (1..=255u8).step_by(2) {
            for offset in [0, 4096] {
                let header = Header { seal: seal(offset, 0, MARK_CRC, flags), len: 0, crc: MARK_CRC };
                let what = header.unseal(offset);
                let expected = match flags & !1 {
                    0 => Sealed::Record { barrier: false, continued: false },
                    2 => Sealed::Record { barrier: true, continued: false },
                    4 => Sealed::Record { barrier: false, continued: true },
                    6 => Sealed::Record { barrier: true, continued: true },
                    8 if offset == 0 => Sealed::Gap,
                    16 => Sealed::Mark,
                    32.. => Sealed::Newer,
                    _ => Sealed::Invalid,
                };
                assert_eq!(what, Some(expected), "flags {flags:#b} at {offset}");
            }
        }
    }

    #[test]
    fn a_mark_of_a_place_after_itself_is_invalid() {
        assert_eq!(Header::mark(100, 100).unseal(100), Some(Sealed::Mark));
        assert_eq!(Header::mark(100, 101).unseal(100), Some(Sealed::Invalid));
    }

    #[test]
    fn zeros_are_not_a_sealed_header() {
        assert_eq!(Header::decode(&[0; 16]).unseal(0), None);
    }

    #[test]
    fn an_end_that_is_no_file_offset_is_none() {
        for len in [u64::MAX, 1 << 63, i64::MAX as u64, i64::MAX as u64 - 15] {
            assert_eq!(record_end(0, len), None, "{len}");
        }
        assert_eq!(record_end(0, i64::MAX as u64 - 16), Some(i64::MAX as u64));
    }

    #[test]
    fn a_gap_states_what_was_removed_whatever_follows_its_first_bytes() {
        for (len, removed) in [(0, 1), (3, 1), (15, 1), (16, 1), (17, 2), (4096, 41), (1 << 40, 1 << 35)] {
            let bytes = encode_gap(len, removed);
            let header = Header::decode_at(&bytes, 0).unwrap();
            assert_eq!(header.unseal(0), Some(Sealed::Gap));
            let gap = Gap::decode(header, &bytes[16..]).expect("a valid gap");
            assert_eq!((gap.removed, gap.next_index()), (removed, removed + 1));
        }
    }

    #[test]
    fn a_gap_that_contradicts_itself_is_none() {
        let bytes = encode_gap(100, 7);
        let header = Header::decode_at(&bytes, 0).unwrap();
        for byte in 16..32 {
            let mut changed = bytes.clone();
            changed[byte] ^= 1;
            assert_eq!(Gap::decode(header, &changed[16..]), None);
        }
        assert_eq!(Gap::decode(header, &bytes[16..31]), None);
        let mut skipped = 7u64.to_le_bytes().to_vec();
        skipped.extend_from_slice(&9u64.to_le_bytes());
        let forged = Header::sealed(0, 16, crc32(&skipped, 0), flag::GAP);
        assert_eq!(Gap::decode(forged, &skipped), None);
    }

    #[test]
    fn the_crc_of_virtual_zeros_is_that_of_real_ones() {
        for zeros in [0usize, 1, 2, 3, 15, 16, 255, 1000, 65537] {
            let mut bytes = b"head".to_vec();
            bytes.resize(4 + zeros, 0);
            assert_eq!(crc32(b"head", zeros as u64), crc32fast::hash(&bytes), "{zeros}");
        }
        crc32(&[], u64::MAX);
    }

    proptest! {
        #[test]
        fn a_seal_holds_the_crc_of_what_it_covers(offset: u64, len: u64, crc: u32, flags: u8) {
            let mut covered = crc32fast::Hasher::new();
            covered.update(&offset.to_le_bytes());
            covered.update(&len.to_le_bytes());
            covered.update(&crc.to_le_bytes());
            covered.update(&[flags]);
            let check = covered.finalize() & 0xFFFF_FF00;
            prop_assert_eq!(seal(offset, len, crc, flags), check | u32::from(flags));
        }

        #[test]
        fn decoding_undoes_encoding(len: u64, crc: u32, seal: u32) {
            let header = Header { len, crc, seal };
            prop_assert_eq!(Header::decode(&header.encode()), header);
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes: [u8; 16], offset: u64) {
            let header = Header::decode(&bytes);
            let _ = header.unseal(offset);
            let _ = header.end(offset);
            let _ = Gap::decode(header, &bytes);
        }
    }
}
