//! Files made of headers whose checks hold: no fuzzer meets a CRC by chance, so it chooses the pieces, and the lengths,
//! places and checks in them are made right here.

use super::decoder::seal;
use super::input::Input;

/// The longest file.
pub const MAX: usize = 64 << 10;

pub fn header(at: usize, len: u64, crc: u32, low: u8) -> [u8; 16] {
    raw_header(len, crc, seal(at as u64, len, crc, low))
}

fn raw_header(len: u64, crc: u32, seal: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&len.to_le_bytes());
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes[12..].copy_from_slice(&seal.to_le_bytes());
    bytes
}

/// A sealed record at `at`.
pub fn record(at: usize, payload: &[u8], flags: u8) -> Vec<u8> {
    let mut bytes = header(at, payload.len() as u64, crc32fast::hash(payload), flags | 1).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// The mark at `at` that says "the journal ends at `end`".
pub fn mark(at: usize, end: usize) -> [u8; 16] {
    header(at, end as u64, u32::MAX, 17)
}

/// A gap of so many bytes of payload in the place of `removed` records; what is not given is 0xAB, as if it had not been
/// punched.
pub fn gap(len: usize, removed: u64) -> Vec<u8> {
    let mut virtually = vec![0; len];
    if len >= 16 {
        virtually[..8].copy_from_slice(&removed.to_le_bytes());
        virtually[8..16].copy_from_slice(&removed.wrapping_add(1).to_le_bytes());
    }
    let mut bytes = header(0, len as u64, crc32fast::hash(&virtually), 9).to_vec();
    bytes.extend_from_slice(&virtually[..len.min(16) / 16 * 16]);
    bytes.resize(16 + len, 0xAB);
    bytes
}

/// The file that a script describes.
pub fn file(input: &mut Input<'_>) -> Vec<u8> {
    let mut file = Vec::new();
    // Where records begin or end: what marks speak of.
    let mut places = vec![0];
    while !input.is_empty() && file.len() < MAX {
        piece(input, &mut file, &mut places, 0);
    }
    file.truncate(MAX);
    file
}

fn piece(input: &mut Input<'_>, file: &mut Vec<u8>, places: &mut Vec<usize>, depth: usize) {
    let at = file.len();
    match input.byte() % 24 {
        0 => {
            let n = usize::from(input.byte());
            file.extend_from_slice(input.take(n));
        }
        1 => {
            let n = [1, 3, 15, 16, 100, 511, 512, 4095, 4096, 4097, 8192][input.below(11)];
            file.resize(at + n, 0);
        }
        2..=7 => {
            let flags = input.byte() & 6;
            file.extend(record(at, &input.payload(), flags));
        }
        8 | 9 => {
            let payload = input.payload();
            file.extend(raw_header(payload.len() as u64, crc32fast::hash(&payload), 0));
            file.extend(payload);
        }
        10 | 11 => {
            let end = match input.byte() {
                0..=99 => at,
                100..=119 => usize::from(input.byte()),
                120..=149 => 0,
                choice => places[usize::from(choice) % places.len()],
            };
            file.extend(mark(at, end));
        }
        12 => {
            let len = [0, 3, 15, 16, 17, 100, 496, 4080][input.below(8)];
            let removed = match input.byte() {
                0 => input.u64(),
                n => u64::from(n),
            };
            let bytes = gap(len, removed);
            // Anywhere else a gap is none.
            file.extend(bytes);
        }
        13 => {
            // Whole but for its payload.
            let mut bytes = record(at, &input.payload(), input.byte() & 6);
            if let Some(byte) = bytes.get_mut(16) {
                *byte ^= 1 << (input.byte() & 7);
            }
            file.extend(bytes);
        }
        14 => {
            // Whole but for its seal.
            let mut bytes = record(at, &input.payload(), input.byte() & 6);
            bytes[12 + input.below(4)] ^= input.byte().max(1);
            file.extend(bytes);
        }
        15 => {
            // Flags that do not belong together, or of a newer version.
            let payload = input.payload();
            let low = input.byte() | 1;
            file.extend(header(at, payload.len() as u64, crc32fast::hash(&payload), low));
            file.extend(payload);
        }
        16 => {
            // A length that does not fit, or hardly.
            let len = match input.byte() {
                0..=99 => u64::from(input.byte()) * 64,
                100..=199 => u64::from(input.byte()) << 20,
                200..=229 => u64::MAX - u64::from(input.byte()),
                _ => input.u64(),
            };
            file.extend(header(at, len, input.byte().into(), [1, 3, 5, 7, 9, 17][input.below(6)]));
        }
        17 => {
            // Back by some bytes, into what is there.
            file.truncate(at.saturating_sub(usize::from(input.byte())));
        }
        18 => {
            if at > 0 {
                let place = input.below(at);
                file[place] ^= 1 << (input.byte() & 7);
            }
        }
        19 => {
            if at > 0 {
                let (from, n) = (input.below(at), usize::from(input.byte()));
                let end = at.min(from + n);
                file[from..end].fill(0);
            }
        }
        20 | 21 if depth < 3 => {
            // A record whose payload is made of pieces at their right places, and sealed itself or not.
            let (flags, count, sealed) = (input.byte() & 6, input.byte() % 4, input.byte());
            file.resize(at + 16, 0);
            for _ in 0..count {
                piece(input, file, places, depth + 1);
                if file.len() < at + 16 {
                    // Cut into the header that is still to come.
                    file.resize(at + 16, 0);
                }
            }
            let (len, crc) = ((file.len() - at - 16) as u64, crc32fast::hash(&file[at + 16..]));
            let head = match sealed {
                0..=199 => header(at, len, crc, flags | 1),
                200..=229 => raw_header(len, crc, 0),
                _ => raw_header(len, crc, u32::from(flags | 1)),
            };
            file[at..at + 16].copy_from_slice(&head);
        }
        22 => {
            // Records one after the other, the last of them perhaps the end of their batch.
            let flags = if input.byte() & 1 == 0 { 0 } else { 4 };
            for _ in 0..input.byte() % 20 {
                let at = file.len();
                file.extend(record(at, &[7; 9][..usize::from(input.byte() % 10)], flags));
                places.push(file.len());
            }
        }
        _ => {
            let n = usize::from(input.byte());
            file.resize(at + n, input.byte());
        }
    }
    places.push(file.len());
}
