//! What the fuzzers and a bench of this crate reach into. It exists only with the feature `__seam`, which is no part of the
//! public API and carries no promise.
#![allow(missing_docs)]

/// The format's bytes, for the fuzzers.
pub mod format {
    use crate::format::{Gap, Header, Sealed, record_end};

    /// A header's fields: `len`, `crc`, `seal`.
    pub type Fields = (u64, u32, u32);

    /// What a header whose check holds stands for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Kind {
        Record { barrier: bool, continued: bool },
        Gap,
        Mark,
        Newer,
        Invalid,
    }

    pub fn decode(bytes: &[u8; 16]) -> Fields {
        fields(Header::decode(bytes))
    }

    pub fn decode_at(bytes: &[u8], at: usize) -> Option<Fields> {
        Header::decode_at(bytes, at).map(fields)
    }

    pub fn encode(header: Fields) -> [u8; 16] {
        of(header).encode()
    }

    /// The fields of a record's header at `offset`; `flags` without `SEALED`.
    pub fn sealed(offset: u64, len: u64, crc: u32, flags: u8) -> Fields {
        fields(Header::sealed(offset, len, crc, flags))
    }

    pub fn mark(offset: u64, end: u64) -> Fields {
        fields(Header::mark(offset, end))
    }

    pub fn unseal(header: Fields, offset: u64) -> Option<Kind> {
        Some(match of(header).unseal(offset)? {
            Sealed::Record { barrier, continued } => Kind::Record { barrier, continued },
            Sealed::Gap => Kind::Gap,
            Sealed::Mark => Kind::Mark,
            Sealed::Newer => Kind::Newer,
            Sealed::Invalid => Kind::Invalid,
        })
    }

    /// Where a record with `len` bytes of payload ends.
    pub fn end(offset: u64, len: u64) -> Option<u64> {
        record_end(offset, len)
    }

    /// How many records a gap stands for.
    pub fn gap(header: Fields, payload: &[u8]) -> Option<u64> {
        Gap::decode(of(header), payload).map(|gap| gap.removed)
    }

    fn fields(header: Header) -> Fields {
        (header.len, header.crc, header.seal)
    }

    fn of((len, crc, seal): Fields) -> Header {
        Header { len, crc, seal }
    }
}

/// The index, for the bench of its growth.
pub mod index {
    use std::io;

    use crate::index::IndexWriter;
    use crate::options::IndexMode;

    /// The writer's side of a full index.
    #[derive(Debug)]
    pub struct Entries(IndexWriter);

    impl Entries {
        /// An index without records.
        pub fn empty() -> Self {
            Self(IndexWriter::new(IndexMode::Full, 1, 0))
        }

        /// What an append does: adds a record that ends at `end`.
        #[inline]
        pub fn push(&mut self, end: u64) -> io::Result<()> {
            self.0.reserve(1)?;
            self.0.push(end);
            Ok(())
        }

        pub fn bytes(&self) -> u64 {
            self.0.bytes()
        }
    }
}
