//! Encoding of chunks: as is, zstd, or zstd with the base as prefix (docs/format.md, section 6.1).
//!
//! What an encoder wrote is decoded and compared before it is trusted: a fault of compressor or memory must
//! not be found when a restore needs the chunk.

use zstd::zstd_safe::{CCtx, DCtx};

use crate::format::directory::Encoding;
use crate::ids::ChunkId;

/// zstd's level for chunks in full, unless the user asks for another. On 64 KiB of pages level 3 makes them 2 % smaller and
/// takes half as long again (docs/performance.md).
pub const DEFAULT_LEVEL: i32 = 1;

/// The level of deltas. Beyond it a delta of pages gets 3 % smaller and takes twice as long; level 1 makes it 14 %
/// larger, and below that it gets a hundred times larger (docs/performance.md).
const DELTA_LEVEL: i32 = 2;

/// The level of index objects, manifests and logs.
const BODY_LEVEL: i32 = 3;

/// A delta is kept only if it is smaller than this share of the chunk's own compressed size (numerator,
/// denominator): beyond it the chunk becomes the new full version.
const FULL_SHARE: (usize, usize) = (1, 2);

/// A delta against the middle version is kept only if it is smaller than this share of the one against the full
/// version; else the chunk becomes the new middle version.
const MIDDLE_SHARE: (usize, usize) = (2, 3);

/// A delta below this part of the plaintext is taken without trying the full form: compressed alone, pages
/// rarely get that small.
const CLEARLY_SMALL: usize = 16;

/// A base a chunk may be encoded against.
#[derive(Clone, Copy)]
pub struct Base<'a> {
    /// The base's id.
    pub id: ChunkId,
    /// The base's plaintext.
    pub plain: &'a [u8],
}

/// Without the plaintext.
impl std::fmt::Debug for Base<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Base({}, {} bytes)", self.id, self.plain.len())
    }
}

impl Base<'_> {
    /// Whether zstd takes the bytes for what they are. What begins with the magic number of a trained dictionary
    /// (RFC 8878, section 5) it would take apart, and no other decoder could tell.
    fn is_raw(&self) -> bool {
        !self.plain.starts_with(&[0x37, 0xA4, 0x30, 0xEC])
    }
}

/// The older versions that a chunk may be encoded against: two tiers, so that deltas stay small between full versions
/// and no chunk ever needs more than three reads.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bases<'a> {
    /// The last version that is stored in full.
    pub full: Option<Base<'a>>,
    /// The last version that is stored as a delta against `full`.
    pub middle: Option<Base<'a>>,
}

/// Encodes chunks; holds the compressor's memory for reuse. One per thread.
pub struct Encoder {
    compressor: CCtx<'static>,
    decoder: Decoder,
    level: i32,
    scratch: Vec<u8>,
    check: Vec<u8>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoder(level {})", self.level)
    }
}

impl Encoder {
    /// An encoder for zstd `level`, as far as chunks are stored in full.
    #[must_use]
    pub fn new(level: i32) -> Self {
        Self {
            compressor: CCtx::create(),
            decoder: Decoder::new(),
            level,
            scratch: Vec::new(),
            check: Vec::new(),
        }
    }

    /// Encodes `plain` into `output`: as a delta if that is much smaller, else in full.
    pub fn encode(&mut self, plain: &[u8], bases: Bases<'_>, output: &mut Vec<u8>) -> Encoding {
        let Some(full) = bases.full.filter(Base::is_raw) else { return self.encode_full(plain, output) };
        if !self.compress(plain, Some(full.plain), DELTA_LEVEL) {
            return self.encode_full(plain, output);
        }
        let mut delta = std::mem::take(&mut self.scratch);
        let (mut base, mut depth) = (full, 1);
        if let Some(middle) = bases.middle.filter(Base::is_raw)
            && self.compress(plain, Some(middle.plain), DELTA_LEVEL)
            && self.scratch.len() < delta.len() * MIDDLE_SHARE.0 / MIDDLE_SHARE.1
        {
            std::mem::swap(&mut delta, &mut self.scratch);
            (base, depth) = (middle, 2);
        }
        let small = delta.len() < plain.len() / CLEARLY_SMALL;
        let encoding = if small { Encoding::Plain } else { self.encode_full(plain, output) };
        if (small || delta.len() < output.len() * FULL_SHARE.0 / FULL_SHARE.1)
            && self.is_right(&delta, plain, Some(base.plain))
        {
            *output = delta;
            return Encoding::Delta { base: base.id, depth };
        }
        if small { self.encode_full(plain, output) } else { encoding }
    }

    fn encode_full(&mut self, plain: &[u8], output: &mut Vec<u8>) -> Encoding {
        if self.compress(plain, None, self.level) && self.scratch.len() < plain.len() {
            let frame = std::mem::take(&mut self.scratch);
            if self.is_right(&frame, plain, None) {
                *output = frame;
                return Encoding::Zstd;
            }
        }
        output.clear();
        output.extend_from_slice(plain);
        Encoding::Plain
    }

    /// Compresses into `scratch`; `false` if zstd fails, which leaves the chunk as it is.
    fn compress(&mut self, plain: &[u8], prefix: Option<&[u8]>, level: i32) -> bool {
        self.scratch.clear();
        self.scratch.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        match prefix {
            None => self.compressor.compress(&mut self.scratch, plain, level),
            Some(prefix) => self.compressor.compress_using_dict(&mut self.scratch, plain, prefix, level),
        }
        .is_ok()
    }

    fn is_right(&mut self, frame: &[u8], plain: &[u8], prefix: Option<&[u8]>) -> bool {
        self.decoder.decompress(frame, prefix, plain.len(), &mut self.check) && self.check == plain
    }
}

/// Decodes chunks; holds the decompressor's memory for reuse. One per thread.
pub struct Decoder {
    decompressor: DCtx<'static>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder.
    #[must_use]
    pub fn new() -> Self {
        Self { decompressor: DCtx::create() }
    }

    /// Decodes a chunk of `plain_len` bytes into `output`; `base` is the base's plaintext for a delta. `false` if
    /// the bytes are not an encoding of that many bytes.
    #[must_use]
    pub fn decode(
        &mut self,
        encoding: Encoding,
        encoded: &[u8],
        base: Option<&[u8]>,
        plain_len: usize,
        output: &mut Vec<u8>,
    ) -> bool {
        match encoding {
            Encoding::Plain => {
                output.clear();
                output.extend_from_slice(encoded);
                output.len() == plain_len
            }
            Encoding::Zstd => self.decompress(encoded, None, plain_len, output),
            Encoding::Delta { base: id, .. } => {
                base.is_some_and(|plain| Base { id, plain }.is_raw())
                    && self.decompress(encoded, base, plain_len, output)
            }
        }
    }

    fn decompress(
        &mut self,
        frame: &[u8],
        prefix: Option<&[u8]>,
        plain_len: usize,
        output: &mut Vec<u8>,
    ) -> bool {
        output.clear();
        output.reserve_exact(plain_len);
        let result = match prefix {
            None => self.decompressor.decompress(output, frame),
            Some(prefix) => self.decompressor.decompress_using_dict(output, frame, prefix),
        };
        result.is_ok() && output.len() == plain_len
    }
}

/// A body as one zstd frame, if that is smaller.
#[must_use]
pub fn compress_body(plain: &[u8]) -> Option<Vec<u8>> {
    let mut frame = Vec::with_capacity(zstd::zstd_safe::compress_bound(plain.len()));
    zstd::zstd_safe::compress(&mut frame, plain, BODY_LEVEL).ok()?;
    (frame.len() < plain.len()).then_some(frame)
}

/// A body of exactly `plain_len` bytes from its zstd frame.
#[must_use]
pub fn decompress_body(frame: &[u8], plain_len: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    Decoder::new().decompress(frame, None, plain_len, &mut plain).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        std::iter::repeat_with(|| format!("word{} ", next() % 3000))
            .flat_map(String::into_bytes)
            .take(len)
            .collect()
    }

    fn against(old: &[u8]) -> Bases<'_> {
        Bases { full: Some(Base { id: ChunkId([1; 16]), plain: old }), middle: None }
    }

    #[test]
    fn the_middle_version_is_used_while_it_pays() {
        let full = text(1, 65_536);
        let mut middle = full.clone();
        middle[10_000..14_000].copy_from_slice(&text(3, 4_000));
        let mut new = middle.clone();
        new[30_000..30_100].fill(b'!');
        let bases = Bases { middle: Some(Base { id: ChunkId([2; 16]), plain: &middle }), ..against(&full) };
        let mut encoded = Vec::new();
        let encoding = Encoder::new(3).encode(&new, bases, &mut encoded);
        assert_eq!(encoding, Encoding::Delta { base: ChunkId([2; 16]), depth: 2 });
        // As far from the middle version as from the full one: it becomes the next middle version.
        let mut far = full.clone();
        far[50_000..51_000].copy_from_slice(&text(4, 1_000));
        let encoding = Encoder::new(3).encode(&far, bases, &mut encoded);
        assert_eq!(encoding, Encoding::Delta { base: ChunkId([1; 16]), depth: 1 });
    }

    #[test]
    fn a_small_change_makes_a_small_delta() {
        let old = text(1, 65_536);
        let mut new = old.clone();
        new[30_000..30_100].fill(b'!');
        let bases = against(&old);
        let mut encoded = Vec::new();
        let encoding = Encoder::new(3).encode(&new, bases, &mut encoded);
        assert_eq!(encoding, Encoding::Delta { base: ChunkId([1; 16]), depth: 1 });
        assert!(encoded.len() < 100, "{} bytes", encoded.len());
        let mut decoded = Vec::new();
        assert!(Decoder::new().decode(encoding, &encoded, Some(&old), new.len(), &mut decoded));
        assert_eq!(decoded, new);
        assert!(!Decoder::new().decode(encoding, &encoded, None, new.len(), &mut decoded));
        assert!(!Decoder::new().decode(encoding, &encoded, Some(&old), new.len() - 1, &mut decoded));
    }

    #[test]
    fn an_unrelated_base_is_not_used() {
        let (old, new) = (text(1, 65_536), text(2, 65_536));
        let bases = against(&old);
        assert_eq!(Encoder::new(3).encode(&new, bases, &mut Vec::new()), Encoding::Zstd);
    }

    #[test]
    fn a_base_that_looks_like_a_trained_dictionary_is_not_used() {
        let mut old = text(1, 65_536);
        old[..4].copy_from_slice(&0xEC30_A437u32.to_le_bytes());
        let bases = against(&old);
        let mut encoded = Vec::new();
        assert_eq!(Encoder::new(3).encode(&old, bases, &mut encoded), Encoding::Zstd);
        let delta = Encoding::Delta { base: ChunkId([1; 16]), depth: 1 };
        assert!(!Decoder::new().decode(delta, &encoded, Some(&old), old.len(), &mut Vec::new()));
    }

    proptest! {
        #[test]
        fn chunks_go_both_ways(
            old in proptest::collection::vec(0u8..4, 0..3000),
            new in proptest::collection::vec(0u8..4, 0..3000),
        ) {
            let bases = against(&old);
            let mut encoded = Vec::new();
            let encoding = Encoder::new(1).encode(&new, bases, &mut encoded);
            let mut decoded = Vec::new();
            prop_assert!(Decoder::new().decode(encoding, &encoded, Some(&old), new.len(), &mut decoded));
            prop_assert_eq!(decoded, new);
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..300), len in 0usize..70_000) {
            let _ = Decoder::new().decode(Encoding::Zstd, &bytes, None, len, &mut Vec::new());
        }
    }
}
