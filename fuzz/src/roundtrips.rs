//! Chunks: whatever was encoded decodes to what it was, and any bytes decode or fail within the length announced.

use pagevault::codec::{Base, Bases, Decoder, Encoder, compress_body, decompress_body};
use pagevault::format::directory::Encoding;
use pagevault::ids::ChunkId;

use crate::cursor::Cursor;

const LONGEST: usize = 65_536;

pub fn codec(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let (how, len) = (cursor.byte(), usize::from(cursor.u16()));
    let with_base = how & 1 == 1;
    let (first, rest) = split(cursor.rest(), how);
    if how & 2 == 0 {
        decode(first, rest, with_base, len);
    } else {
        encode(first, rest, with_base, i32::from(how >> 4) % 4);
    }
}

/// Two parts, the second of which follows a separator that the fuzzer can move about.
fn split(bytes: &[u8], how: u8) -> (&[u8], &[u8]) {
    match bytes.windows(2).position(|pair| pair == b"\0|") {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => bytes.split_at(bytes.len() / (1 + usize::from(how >> 2 & 3))),
    }
}

fn decode(encoded: &[u8], base: &[u8], with_base: bool, len: usize) {
    let delta = Encoding::Delta { base: ChunkId([1; 16]), depth: 1 };
    let mut output = Vec::new();
    for encoding in [Encoding::Plain, Encoding::Zstd, delta] {
        let decoded = Decoder::new().decode(encoding, encoded, with_base.then_some(base), len, &mut output);
        assert!(!decoded || output.len() == len);
        assert!(encoding != delta || with_base || !decoded, "a delta without its base");
    }
    if let Some(body) = decompress_body(encoded, len) {
        assert_eq!(body.len(), len);
    }
}

fn encode(plain: &[u8], old: &[u8], with_base: bool, level: i32) {
    let (plain, old) = (&plain[..plain.len().min(LONGEST)], &old[..old.len().min(LONGEST)]);
    let base = |id, plain| with_base.then_some(Base { id: ChunkId([id; 16]), plain });
    let (full, middle) = (base(1, old), base(2, &old[old.len() / 2..]));
    let bases = Bases { full, middle: middle.filter(|_| level % 2 == 1) };
    let (mut encoder, mut encoded, mut decoded) = (Encoder::new(level), Vec::new(), Vec::new());
    // Twice: what the encoder keeps for reuse must not show.
    for _ in 0..2 {
        let encoding = encoder.encode(plain, bases, &mut encoded);
        assert!(encoded.len() <= plain.len());
        assert!(with_base || encoding.base().is_none());
        let used = [full, middle].into_iter().flatten().find(|base| encoding.base() == Some(base.id));
        let used = used.map(|base| base.plain);
        assert!(Decoder::new().decode(encoding, &encoded, used, plain.len(), &mut decoded));
        assert_eq!(decoded, plain);
    }
    if let Some(frame) = compress_body(plain) {
        assert_eq!(decompress_body(&frame, plain.len()).as_deref(), Some(plain));
    }
}
