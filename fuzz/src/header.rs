//! The sixteen bytes: decode undoes encode, what they say is what the specification says, and nothing outside of the
//! buffer is looked at.

use wally::inside::format::{self, Kind};

use super::decoder;
use super::input::Input;
use super::render;

pub fn run(bytes: &[u8]) {
    // A slice of its own, so that a read beyond it is one beyond an allocation.
    let exact = bytes[..bytes.len().min(100)].to_vec().into_boxed_slice();
    for at in (0..=exact.len() + 17).chain([usize::MAX, usize::MAX - 15]) {
        let decoded = format::decode_at(&exact, at);
        let slow = at.checked_add(16).and_then(|_| decoder::header(&exact, at));
        assert_eq!(decoded, slow.map(|header| (header.len, header.crc, header.seal)));
        let Some(fields) = decoded else { continue };
        assert_eq!(format::encode(fields), exact[at..at + 16]);
        says(fields, at as u64);
    }
    let mut input = Input(bytes);
    let (offset, len, crc) = (input.u64(), input.u64(), input.u64() as u32);
    let end = u128::from(offset) + 16 + u128::from(len);
    assert_eq!(format::end(offset, len).map(u128::from), (end <= i64::MAX as u128).then_some(end));
    for low in 0..=255 {
        // The check holds, so everything hangs on the flags.
        says((len, crc, decoder::seal(offset, len, crc, low)), offset);
        says((len.min(offset), u32::MAX, decoder::seal(offset, len.min(offset), u32::MAX, low)), offset);
    }
    let flags = input.byte() & 6;
    let fields = format::sealed(offset, len, crc, flags);
    assert_eq!(fields, (len, crc, decoder::seal(offset, len, crc, flags | 1)));
    let Some(Kind::Record { barrier, continued }) = format::unseal(fields, offset) else {
        panic!("{fields:?}")
    };
    assert_eq!((barrier, continued), (flags & 2 != 0, flags & 4 != 0));
    let at = (offset >> 1) as usize;
    assert_eq!(format::encode(format::mark(at as u64, crc.into())), render::mark(at, crc as usize));
    gap(&mut input);
}

fn says(fields: format::Fields, offset: u64) {
    let header = decoder::Header { len: fields.0, crc: fields.1, seal: fields.2 };
    let said = format::unseal(fields, offset).map(|kind| match kind {
        Kind::Record { barrier, continued } => decoder::Kind::Record { barrier, continued },
        Kind::Gap => decoder::Kind::Gap,
        Kind::Mark => decoder::Kind::Mark,
        Kind::Newer => decoder::Kind::Newer,
        Kind::Invalid => decoder::Kind::Nonsense,
    });
    assert_eq!(said, decoder::kind(header, offset), "{header:?} at {offset}");
}

/// A gap tells what was removed, whatever its length says, and never reads more than its first 16 bytes.
fn gap(input: &mut Input<'_>) {
    let (len, removed) = (input.u64(), input.u64());
    let (short, removed) = ((len % 8192) as usize, removed.clamp(1, i64::MAX as u64));
    let bytes = render::gap(short, removed);
    let fields = format::decode_at(&bytes, 0).unwrap();
    assert_eq!(format::unseal(fields, 0), Some(Kind::Gap));
    assert_eq!(format::gap(fields, &bytes[16..]), Some(if short < 16 { 1 } else { removed }));
    // Any length, any payload: no panic, and no time that depends on the length.
    let payload = input.0.to_vec().into_boxed_slice();
    let _ = format::gap((len, fields.1, fields.2), &payload);
}
