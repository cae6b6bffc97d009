//! A row of the cache: what an index object says of one record, under a keyed checksum.

use crate::chunk::Class;
use crate::crypto::secret::Secret32;
use crate::format::directory::{Encoding, Record};
use crate::ids::{ChunkId, ObjectName};

/// One cached look-up and all that its checksum covers.
pub(super) struct Entry<'a> {
    pub(super) id: ChunkId,
    pub(super) pack: ObjectName,
    pub(super) header: &'a [u8],
    pub(super) number: u32,
}

const CHECK_LEN: usize = 8;
const ENTRY_LEN: usize = 8 + 3 + 4 + 4 + 16;

impl Entry<'_> {
    pub(super) fn encode(&self, key: &Secret32, offset: u64, record: &Record) -> [u8; ENTRY_LEN + CHECK_LEN] {
        let mut bytes = [0; ENTRY_LEN + CHECK_LEN];
        bytes[..8].copy_from_slice(&offset.to_le_bytes());
        bytes[8] = record.class.code();
        bytes[9] = record.encoding.code();
        bytes[10] = record.encoding.depth();
        bytes[11..15].copy_from_slice(&record.plain_len.to_le_bytes());
        bytes[15..19].copy_from_slice(&record.stored_len.to_le_bytes());
        if let Some(base) = record.encoding.base() {
            bytes[19..35].copy_from_slice(&base.0);
        }
        let check = self.check(key, &bytes[..ENTRY_LEN]);
        bytes[ENTRY_LEN..].copy_from_slice(&check);
        bytes
    }

    pub(super) fn decode(&self, key: &Secret32, bytes: &[u8]) -> Option<(u64, Record)> {
        let (entry, check) = bytes.split_at_checked(ENTRY_LEN)?;
        if self.check(key, entry) != check {
            return None;
        }
        let u32_at = |at: usize| entry[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let encoding = match entry[9] {
            0 => Encoding::Plain,
            1 => Encoding::Zstd,
            _ => Encoding::Delta { base: ChunkId(*entry[19..].first_chunk()?), depth: entry[10] },
        };
        let record = Record {
            id: self.id,
            class: Class::from_code(entry[8])?,
            encoding,
            plain_len: u32_at(11)?,
            stored_len: u32_at(15)?,
        };
        Some((u64::from_le_bytes(*entry.first_chunk()?), record))
    }

    fn check(&self, key: &Secret32, entry: &[u8]) -> [u8; CHECK_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(key.expose());
        hasher.update(&self.id.0).update(&self.pack.0).update(&self.number.to_le_bytes()).update(entry);
        hasher.update(self.header);
        let mut check = [0; CHECK_LEN];
        hasher.finalize_xof().fill(&mut check);
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotten_entry_is_a_miss() {
        let key = Secret32::new([3; 32]);
        let record = Record {
            id: ChunkId([1; 16]),
            class: Class::Page,
            encoding: Encoding::Delta { base: ChunkId([2; 16]), depth: 1 },
            plain_len: 65_536,
            stored_len: 300,
        };
        let entry = Entry { id: record.id, pack: ObjectName([4; 32]), header: &[5; 72], number: 9 };
        let bytes = entry.encode(&key, 77, &record);
        assert_eq!(entry.decode(&key, &bytes), Some((77, record)));
        for position in 0..bytes.len() {
            let mut rotten = bytes;
            rotten[position] ^= 4;
            assert_eq!(entry.decode(&key, &rotten), None);
        }
        let elsewhere = Entry { number: 8, ..entry };
        assert_eq!(elsewhere.decode(&key, &bytes), None);
    }
}
