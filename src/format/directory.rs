//! The directory of a pack (section 6): what each record is, and what its seal authenticates.

use super::envelope::ObjectKind;
use super::fields::{FieldWriter, Fields, decode_column, encode_column};
use super::{FormatError, VERSION, limits, within};
use crate::chunk::Class;
use crate::ids::{ChunkId, VaultId};

/// Bytes that a record's seal adds to its encoded chunk.
pub const SEAL_LEN: usize = 16;

/// How a chunk is encoded in its record (section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As is.
    Plain,
    /// One zstd frame.
    Zstd,
    /// One zstd frame with the base's plaintext as prefix.
    Delta {
        /// The chunk that serves as prefix, of the same class.
        base: ChunkId,
        /// Reads that the base needs, plus one.
        depth: u8,
    },
}

impl Encoding {
    /// The byte that stands for the codec.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Zstd => 1,
            Self::Delta { .. } => 2,
        }
    }

    /// Further reads that decoding needs.
    #[must_use]
    pub const fn depth(self) -> u8 {
        match self {
            Self::Plain | Self::Zstd => 0,
            Self::Delta { depth, .. } => depth,
        }
    }

    /// The base of a delta.
    #[must_use]
    pub const fn base(self) -> Option<ChunkId> {
        match self {
            Self::Plain | Self::Zstd => None,
            Self::Delta { base, .. } => Some(base),
        }
    }

    fn from_parts(code: u8, depth: u8, base: Option<ChunkId>) -> Result<Self, FormatError> {
        match (code, depth, base) {
            (0, 0, None) => Ok(Self::Plain),
            (1, 0, None) => Ok(Self::Zstd),
            (2, 1..=limits::DEPTH, Some(base)) => Ok(Self::Delta { base, depth }),
            (0..=2, ..) => Err(FormatError::Invalid("depth of a record")),
            _ => Err(FormatError::Newer { what: "codec", number: code.into() }),
        }
    }
}

/// One record of a pack, without its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Identity of the plaintext.
    pub id: ChunkId,
    /// What the plaintext is.
    pub class: Class,
    /// How it is encoded.
    pub encoding: Encoding,
    /// Bytes of the plaintext.
    pub plain_len: u32,
    /// Bytes of the record in the pack, seal included.
    pub stored_len: u32,
}

impl Record {
    /// What the seal of record `number` authenticates besides the encoded chunk (section 6.1).
    #[must_use]
    pub fn associated_data(&self, kind: ObjectKind, vault: VaultId, number: u32) -> [u8; 69] {
        let mut data = [0; 69];
        data[..4].copy_from_slice(b"PGVR");
        data[4] = VERSION;
        data[5] = kind.code();
        data[6..22].copy_from_slice(&vault.0);
        data[22..26].copy_from_slice(&number.to_le_bytes());
        data[26] = self.class.code();
        data[27..43].copy_from_slice(&self.id.0);
        data[43] = self.encoding.code();
        data[44] = self.encoding.depth();
        data[45..49].copy_from_slice(&self.plain_len.to_le_bytes());
        data[49..53].copy_from_slice(&self.stored_len.to_le_bytes());
        if let Some(base) = self.encoding.base() {
            data[53..].copy_from_slice(&base.0);
        }
        data
    }

    fn validate(&self, kind: ObjectKind) -> Result<(), FormatError> {
        if (kind == ObjectKind::PagePack) != (self.class == Class::Page) {
            return Err(FormatError::Invalid("class of a record"));
        }
        if self.encoding.base() == Some(self.id) {
            return Err(FormatError::Invalid("base of a record"));
        }
        within("plain length of a record", self.plain_len as usize, self.class.max_plain_len() as usize)?;
        let encoded_len = (self.stored_len as usize).checked_sub(SEAL_LEN);
        match (self.encoding, encoded_len) {
            (Encoding::Plain, Some(len)) if len != self.plain_len as usize => {
                Err(FormatError::Invalid("stored length of a record"))
            }
            (_, Some(len)) => {
                within("stored length of a record", len, self.class.max_plain_len() as usize + 1024)
            }
            (_, None) => Err(FormatError::Invalid("stored length of a record")),
        }
    }
}

/// The records of a pack, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    kind: ObjectKind,
    records: Vec<Record>,
}

impl Directory {
    /// A directory of a pack of `kind`.
    ///
    /// # Errors
    /// A record does not fit into such a pack, or there are too many.
    pub fn new(kind: ObjectKind, records: Vec<Record>) -> Result<Self, FormatError> {
        let directory = Self { kind, records };
        directory.validate()?;
        Ok(directory)
    }

    /// The kind of pack.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// The records, in order.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Bytes that the records take in the pack.
    #[must_use]
    pub fn stored_len(&self) -> u64 {
        self.records.iter().map(|record| u64::from(record.stored_len)).sum()
    }

    /// The encoded columns.
    ///
    /// # Errors
    /// Never for a valid directory.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let column = |value: fn(&Record) -> u8| self.records.iter().map(value).collect::<Vec<u8>>();
        let lengths = |value: fn(&Record) -> u32| {
            encode_column("directory", &self.records.iter().map(value).collect::<Vec<u32>>())
        };
        let count = u32::try_from(self.records.len()).map_err(|_| FormatError::Length("directory"))?;
        let mut writer = FieldWriter::new("directory");
        writer
            .put(2, &count)?
            .put_raw(4, self.records.iter().flat_map(|record| record.id.0).collect())
            .put_raw(6, column(|record| record.class.code()))
            .put_raw(8, column(|record| record.encoding.code()))
            .put_raw(10, column(|record| record.encoding.depth()))
            .put_raw(12, lengths(|record| record.plain_len)?)
            .put_raw(14, lengths(|record| record.stored_len)?)
            .put_raw(
                16,
                self.records.iter().filter_map(|record| record.encoding.base()).flat_map(|id| id.0).collect(),
            );
        writer.finish()
    }

    /// Decodes the columns of a pack of `kind`.
    ///
    /// # Errors
    /// Anything that section 6.2 does not allow.
    pub fn decode(kind: ObjectKind, bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Fields::parse("directory", bytes)?;
        let count = fields.require::<u32>(2)? as usize;
        within("records", count, limits::RECORDS as usize)?;
        let ids = ids(fields.require_raw(4)?, count)?;
        let mut bytes_column = |tag| {
            fields.require_raw(tag).and_then(|bytes| {
                if bytes.len() == count { Ok(bytes) } else { Err(FormatError::Length("directory")) }
            })
        };
        let (classes, codecs, depths) = (bytes_column(6)?, bytes_column(8)?, bytes_column(10)?);
        let plain_lens = decode_column("plain lengths", fields.require_raw(12)?, count)?;
        let stored_lens = decode_column("stored lengths", fields.require_raw(14)?, count)?;
        let deltas = codecs.iter().map(|&codec| usize::from(codec == 2)).sum();
        let mut bases = self::ids(fields.require_raw(16)?, deltas)?.into_iter();
        fields.finish()?;
        let mut records = Vec::with_capacity(count);
        for number in 0..count {
            let base = if codecs[number] == 2 { bases.next() } else { None };
            records.push(Record {
                id: ids[number],
                class: Class::from_code(classes[number])
                    .ok_or(FormatError::Newer { what: "class", number: classes[number].into() })?,
                encoding: Encoding::from_parts(codecs[number], depths[number], base)?,
                plain_len: plain_lens[number],
                stored_len: stored_lens[number],
            });
        }
        Self::new(kind, records)
    }

    fn validate(&self) -> Result<(), FormatError> {
        if !matches!(self.kind, ObjectKind::PagePack | ObjectKind::MetadataPack) {
            return Err(FormatError::Invalid("kind of a pack"));
        }
        within("records", self.records.len(), limits::RECORDS as usize)?;
        within(
            "stored length of all records",
            usize::try_from(self.stored_len()).unwrap_or(usize::MAX),
            64 << 20,
        )?;
        self.records.iter().try_for_each(|record| record.validate(self.kind))
    }
}

fn ids(bytes: &[u8], count: usize) -> Result<Vec<ChunkId>, FormatError> {
    let (ids, rest) = bytes.as_chunks::<{ ChunkId::LEN }>();
    if ids.len() != count || !rest.is_empty() {
        return Err(FormatError::Length("ids of a directory"));
    }
    Ok(ids.iter().map(|&id| ChunkId(id)).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_record() -> impl Strategy<Value = Record> {
        let encoding = prop_oneof![
            Just(Encoding::Plain),
            Just(Encoding::Zstd),
            (any::<[u8; 16]>(), 1..=limits::DEPTH)
                .prop_map(|(base, depth)| Encoding::Delta { base: ChunkId(base), depth }),
        ];
        (any::<[u8; 16]>(), encoding, 0u32..=65_536, 0u32..=65_536).prop_map(
            |(id, encoding, plain_len, len)| Record {
                id: ChunkId(id),
                class: Class::Page,
                encoding,
                plain_len,
                stored_len: if encoding == Encoding::Plain { plain_len + 16 } else { len + 16 },
            },
        )
    }

    proptest! {
        #[test]
        fn it_goes_both_ways(records in proptest::collection::vec(any_record(), 0..50)) {
            let directory = Directory::new(ObjectKind::PagePack, records).unwrap();
            prop_assert_eq!(Directory::decode(ObjectKind::PagePack, &directory.encode().unwrap()).unwrap(), directory);
        }

        #[test]
        fn changed_bytes_decode_or_fail(
            records in proptest::collection::vec(any_record(), 1..5), position: prop::sample::Index, value: u8,
        ) {
            let mut bytes = Directory::new(ObjectKind::PagePack, records).unwrap().encode().unwrap();
            let position = position.index(bytes.len());
            bytes[position] = value;
            let _ = Directory::decode(ObjectKind::PagePack, &bytes);
        }
    }

    #[test]
    fn a_record_must_fit_its_pack() {
        let record = Record {
            id: ChunkId([1; 16]),
            class: Class::Page,
            encoding: Encoding::Plain,
            plain_len: 5,
            stored_len: 21,
        };
        assert!(Directory::new(ObjectKind::PagePack, vec![record]).is_ok());
        for (kind, wrong) in [
            (ObjectKind::MetadataPack, record),
            (ObjectKind::Index, record),
            (ObjectKind::PagePack, Record { class: Class::Node(1), ..record }),
            (ObjectKind::PagePack, Record { stored_len: 20, ..record }),
            (ObjectKind::PagePack, Record { stored_len: 3, ..record }),
            (ObjectKind::PagePack, Record { plain_len: 65_537, stored_len: 65_553, ..record }),
            (
                ObjectKind::PagePack,
                Record { encoding: Encoding::Delta { base: record.id, depth: 1 }, ..record },
            ),
        ] {
            assert!(Directory::new(kind, vec![wrong]).is_err(), "{wrong:?}");
        }
    }
}
