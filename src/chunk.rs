//! Chunks: how an image is cut and how a piece is named (docs/format.md, sections 5 and 8).

use crate::ids::ChunkId;

/// Bytes of a chunk: 64 KiB, a multiple of every page size. The last chunk of an image may be shorter.
pub const CHUNK_SIZE: usize = 65_536;

/// Number of chunks in an image of `image_len` bytes.
#[must_use]
pub const fn chunk_count(image_len: u64) -> u64 {
    image_len.div_ceil(CHUNK_SIZE as u64)
}

/// Bytes of chunk `position` (from 0) in an image of `image_len` bytes; 0 beyond its end.
#[must_use]
pub fn chunk_len(image_len: u64, position: u64) -> usize {
    let rest = image_len.saturating_sub(position.saturating_mul(CHUNK_SIZE as u64));
    usize::try_from(rest).unwrap_or(CHUNK_SIZE).min(CHUNK_SIZE)
}

/// What a stored piece of plaintext is. Each class has its own id key, so that none passes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Consecutive pages of an image.
    Page,
    /// A node of the tree at this level, 1 to 8.
    Node(u8),
    /// A manifest.
    Manifest,
}

impl Class {
    /// Highest level a tree may have.
    pub const MAX_LEVEL: u8 = 8;

    /// The byte that stands for the class in the format.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Page => 0,
            Self::Node(level) => level,
            Self::Manifest => 64,
        }
    }

    /// The class that `code` stands for.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Page),
            1..=Self::MAX_LEVEL => Some(Self::Node(code)),
            64 => Some(Self::Manifest),
            _ => None,
        }
    }

    /// The longest plaintext a chunk of this class may have, in bytes.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "constants of a few KiB")]
    pub const fn max_plain_len(self) -> u32 {
        match self {
            Self::Page => CHUNK_SIZE as u32,
            Self::Node(_) => (crate::tree::FAN_OUT * ChunkId::LEN) as u32,
            Self::Manifest => 1 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_chunk_is_short() {
        assert_eq!((chunk_count(0), chunk_count(1), chunk_count(65_536), chunk_count(65_537)), (0, 1, 1, 2));
        assert_eq!((chunk_len(65_537, 0), chunk_len(65_537, 1), chunk_len(65_537, 2)), (65_536, 1, 0));
        assert_eq!(chunk_len(u64::MAX, 3), CHUNK_SIZE);
    }

    #[test]
    fn classes_have_one_code_each() {
        for code in 0..=255 {
            if let Some(class) = Class::from_code(code) {
                assert_eq!(class.code(), code);
            }
        }
    }
}
