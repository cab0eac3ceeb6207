//! What the benches share: the floors, and each piece of work as a function from a number of rounds to the time that they
//! took. Criterion, the table and the contention set time the same code in this way.
//!
//! A floor is the least code that does the same work on the same file system in the same run: the same bytes, encoded
//! with the same checksums and handed to the same kind of file, or the same records found in a plain map through a plain
//! list of offsets, or through the flat array that an index of 4 bytes a record takes. It has nothing that makes a
//! journal: no locks, no watermarks, no publishing to readers, no errors but a panic. Figures drift from machine to
//! machine and from day to day; the ratio to the floor is what to watch.
#![allow(dead_code, unreachable_pub)] // No bench uses all of it.

pub mod append;
pub mod durable;
pub mod folder;
pub mod machine;
pub mod read;
pub mod reopen;
pub mod rounds;
pub mod threads;

/// The journal's staging buffer, and that of the floors.
pub const BUFFER: usize = 256 << 10;

/// Records in a batch.
pub const BATCH: usize = 64;

/// Returns `true` if everything is to run once and small, only to see that it works: with `--test`, and when not
/// `cargo bench` runs it. Criterion follows the same rule.
pub fn quick() -> bool {
    let mut bench = false;
    let test = std::env::args().any(|argument| {
        bench |= argument == "--bench";
        argument == "--test"
    });
    test || !bench
}

/// Returns bytes that are the same in every run.
pub fn payload(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|at| noise(seed << 32 | at) as u8).collect()
}

/// Mixes one number as SplitMix64 does.
pub fn noise(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ n >> 31
}

/// Reads both ends of a record, so that its memory is really read.
#[inline]
pub fn touch(record: &[u8]) -> u8 {
    record[0] ^ record[record.len() - 1]
}

/// Formats a rate per second.
pub fn rate(figure: f64) -> String {
    match figure {
        small if small < 1e3 => format!("{small:.0} /s"),
        thousands if thousands < 1e5 => format!("{:.2} k/s", thousands / 1e3),
        thousands if thousands < 1e6 => format!("{:.0} k/s", thousands / 1e3),
        millions => format!("{:.2} M/s", millions / 1e6),
    }
}

/// Returns a sealed header, written from the format's table.
pub fn header(offset: u64, payload: &[u8], flags: u8) -> [u8; 16] {
    let crc = crc32fast::hash(payload);
    let seal = seal(offset, payload.len() as u64, crc, flags | 1);
    let mut header = [0; 16];
    header[..8].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    header[12..].copy_from_slice(&seal.to_le_bytes());
    header
}

/// Returns the seal of a header that lies at `offset`. `low` is its lowest byte.
pub fn seal(offset: u64, len: u64, crc: u32, low: u8) -> u32 {
    let mut sealed = [0; 21];
    sealed[..8].copy_from_slice(&offset.to_le_bytes());
    sealed[8..16].copy_from_slice(&len.to_le_bytes());
    sealed[16..20].copy_from_slice(&crc.to_le_bytes());
    sealed[20] = low;
    crc32fast::hash(&sealed) & 0xFFFF_FF00 | u32::from(low)
}
