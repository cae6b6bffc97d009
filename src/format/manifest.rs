//! Manifests (section 9): what a snapshot is, and how its content is proven.

use super::fields::{FieldWriter, Fields};
use super::{FormatError, limits, within};
use crate::checksum::Sha256;
use crate::ids::{ChunkId, DatabaseId, HostId, SnapshotId};
use crate::page_source::{Geometry, PageSize};
use crate::tree;

/// Why a snapshot was made; retention treats each differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// By a schedule or an application.
    Automatic,
    /// By a person.
    Manual,
    /// Before a migration.
    Migration,
    /// A subject's data, kept.
    Export,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Automatic, Self::Manual, Self::Migration, Self::Export];

    /// The word for people and scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Manual => "manual",
            Self::Migration => "migration",
            Self::Export => "export",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Automatic => 1,
            Self::Manual => 2,
            Self::Migration => 3,
            Self::Export => 4,
        }
    }

    fn from_code(code: u8) -> Result<Self, FormatError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.code() == code)
            .ok_or(FormatError::Newer { what: "snapshot kind", number: code.into() })
    }
}

/// What the stored bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// An image of a database.
    Image(Geometry),
    /// A document of this many bytes: an export.
    Document(u64),
}

impl Content {
    /// Length in bytes.
    #[must_use]
    pub const fn len(self) -> u64 {
        match self {
            Self::Image(geometry) => geometry.image_len(),
            Self::Document(len) => len,
        }
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Page size and count, if it is a database.
    #[must_use]
    pub const fn geometry(self) -> Option<Geometry> {
        match self {
            Self::Image(geometry) => Some(geometry),
            Self::Document(_) => None,
        }
    }
}

/// How the source keeps its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalMode {
    /// Rollback journal.
    Rollback,
    /// Write-ahead log.
    Wal,
}

/// How many chunks of a snapshot came from where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ChunkCounts {
    /// Chunks of the image.
    pub total: u64,
    /// At the same place in the parent.
    pub unchanged: u64,
    /// Elsewhere in the vault.
    pub deduplicated: u64,
    /// Stored as a delta.
    pub delta: u64,
    /// Stored in full.
    pub full: u64,
}

/// What the source looked like while it was held: proof, later, that nothing has changed (section 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceWitness {
    /// The write-ahead log ended with this frame.
    Log {
        /// Device and inode of the database file.
        file: (u64, u64),
        /// Salts of the log.
        salts: (u32, u32),
        /// Number of the frame.
        last_frame: u32,
        /// Cumulative checksum of the frame.
        checksum: (u32, u32),
    },
    /// There was no log.
    File {
        /// Device and inode of the database file.
        file: (u64, u64),
        /// Bytes.
        size: u64,
        /// Nanoseconds since 1970.
        modified_ns: i64,
        /// Nanoseconds since 1970.
        changed_ns: i64,
        /// Whether the file had been left alone for long enough before it was held.
        settled: bool,
    },
}

impl SourceWitness {
    fn encode(self) -> Result<Vec<u8>, FormatError> {
        let mut writer = FieldWriter::new("witness");
        match self {
            Self::Log { file, salts, last_frame, checksum } => {
                writer.put(1, &file)?.put(3, &(salts, last_frame, checksum))?;
            }
            Self::File { file, size, modified_ns, changed_ns, settled } => {
                writer.put(1, &file)?.put(5, &(size, modified_ns, changed_ns, settled))?;
            }
        }
        writer.finish()
    }

    /// `None` for a witness of a sort that is not known: it proves nothing.
    fn decode(bytes: &[u8]) -> Result<Option<Self>, FormatError> {
        let mut fields = Fields::parse("witness", bytes)?;
        let file = fields.take(1)?;
        let log = fields.take::<((u32, u32), u32, (u32, u32))>(3)?;
        let state = fields.take::<(u64, i64, i64, bool)>(5)?;
        fields.finish()?;
        Ok(match (file, log, state) {
            (Some(file), Some((salts, last_frame, checksum)), None) => {
                Some(Self::Log { file, salts, last_frame, checksum })
            }
            (Some(file), None, Some((size, modified_ns, changed_ns, settled))) => {
                Some(Self::File { file, size, modified_ns, changed_ns, settled })
            }
            _ => None,
        })
    }
}

/// What a snapshot is. The fields are those of section 9, in its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Identity of the database.
    pub database: DatabaseId,
    /// Its name (label), unique in the vault.
    pub name: String,
    /// When the image was true, in microseconds since 1970 UTC.
    pub created_at_us: i64,
    /// Why it was made.
    pub kind: Kind,
    /// What the bytes are.
    pub content: Content,
    /// Id of the tree's root, unless the content is empty.
    pub root: Option<ChunkId>,
    /// SHA-256 of the whole content; absent only in points between snapshots.
    pub sha256: Option<Sha256>,
    /// The snapshot this one was compared with.
    pub parent: Option<SnapshotId>,
    /// Machine of the source.
    pub host: HostId,
    /// Everything that may be absent and that older readers may ignore.
    pub details: Details,
}

/// Ignorable fields of a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Name of the machine, for people.
    pub host_name: Option<String>,
    /// Canonical path of the source, in the bytes of its system.
    pub source_path: Option<Vec<u8>>,
    /// How the source keeps its journal.
    pub journal_mode: Option<JournalMode>,
    /// `PRAGMA user_version`.
    pub user_version: Option<u32>,
    /// `PRAGMA application_id`.
    pub application_id: Option<u32>,
    /// Fingerprint of the schema.
    pub schema_fingerprint: Option<[u8; 32]>,
    /// Version of `SQLite` that read the image.
    pub sqlite_version: Option<String>,
    /// Version of pagevault.
    pub tool_version: Option<String>,
    /// The user's words.
    pub description: Option<String>,
    /// The user's `key=value` pairs.
    pub tags: Vec<(String, String)>,
    /// Tables that must be there after a restore.
    pub required_tables: Vec<String>,
    /// Where the chunks came from.
    pub chunks: Option<ChunkCounts>,
    /// Bytes of records that the run added.
    pub stored_bytes: Option<u64>,
    /// Milliseconds for which the source was held, and that the run took up to the manifest.
    pub timing_ms: Option<(u64, u64)>,
    /// Frames of the write-ahead log that were part of the image.
    pub wal_frames: Option<u64>,
    /// What the source looked like while it was held.
    pub witness: Option<SourceWitness>,
}

impl Manifest {
    /// The encoded field list: what the snapshot id is the hash of.
    ///
    /// # Errors
    /// A part exceeds its limit.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        self.validate()?;
        let mut writer = FieldWriter::new("manifest");
        let (content, len) = match self.content {
            Content::Image(geometry) => (0u8, geometry.image_len()),
            Content::Document(len) => (1u8, len),
        };
        let geometry =
            self.content.geometry().map(|geometry| (geometry.page_size.bytes(), geometry.page_count));
        writer
            .put(2, &self.database.0)?
            .put(4, &self.name)?
            .put(6, &self.created_at_us)?
            .put(8, &self.kind.code())?
            .put(10, &(content, len))?
            .put_some(12, geometry.as_ref())?
            .put_some(14, self.root.map(|id| (tree::height(len), id.0)).as_ref())?
            .put_some(16, self.sha256.map(|sum| sum.0).as_ref())?
            .put_some(18, self.parent.map(|id| id.0).as_ref())?
            .put(20, &self.host.0)?;
        self.details.encode(&mut writer)?;
        writer.finish()
    }

    /// Decodes a field list.
    ///
    /// # Errors
    /// Anything that section 9 does not allow.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Fields::parse("manifest", bytes)?;
        let (content, len) = fields.require::<(u8, u64)>(10)?;
        let content = match (content, fields.take::<(u32, u32)>(12)?) {
            (0, Some((page_size, page_count))) => {
                let page_size = PageSize::new(page_size).ok_or(FormatError::Invalid("page size"))?;
                Content::Image(Geometry { page_size, page_count })
            }
            (1, None) => Content::Document(len),
            (0..=1, _) => return Err(FormatError::Invalid("geometry of a manifest")),
            _ => return Err(FormatError::Newer { what: "content", number: content.into() }),
        };
        if content.len() != len {
            return Err(FormatError::Invalid("length of a manifest's content"));
        }
        let root = match fields.take::<(u8, [u8; 16])>(14)? {
            Some((height, id)) if height == tree::height(len) => Some(ChunkId(id)),
            None => None,
            Some(_) => return Err(FormatError::Invalid("height of a tree")),
        };
        let manifest = Self {
            database: DatabaseId(fields.require(2)?),
            name: fields.require(4)?,
            created_at_us: fields.require(6)?,
            kind: Kind::from_code(fields.require(8)?)?,
            content,
            root,
            sha256: fields.take(16)?.map(Sha256),
            parent: fields.take(18)?.map(SnapshotId),
            host: HostId(fields.require(20)?),
            details: Details::decode(&mut fields)?,
        };
        fields.finish()?;
        manifest.validate()?;
        Ok(manifest)
    }

    fn validate(&self) -> Result<(), FormatError> {
        if self.root.is_some() == self.content.is_empty() {
            return Err(FormatError::Invalid("root of a manifest"));
        }
        if self.content.len() > limits::IMAGE {
            let found = self.content.len();
            return Err(FormatError::Limit { what: "image", found, limit: limits::IMAGE });
        }
        if self.name.is_empty() {
            return Err(FormatError::Invalid("name of a database"));
        }
        within("name of a database", self.name.len(), limits::STRING)?;
        self.details.validate()
    }
}

impl Details {
    fn encode(&self, writer: &mut FieldWriter) -> Result<(), FormatError> {
        let counts = self.chunks.map(|c| (c.total, c.unchanged, c.deduplicated, c.delta, c.full));
        let journal_mode = self.journal_mode.map(|mode| match mode {
            JournalMode::Rollback => 1u8,
            JournalMode::Wal => 2,
        });
        writer
            .put_some(1, self.host_name.as_ref())?
            .put_some(3, self.source_path.as_ref())?
            .put_some(5, journal_mode.as_ref())?
            .put_some(7, self.user_version.as_ref())?
            .put_some(9, self.application_id.as_ref())?
            .put_some(11, self.schema_fingerprint.as_ref())?
            .put_some(13, self.sqlite_version.as_ref())?
            .put_some(15, self.tool_version.as_ref())?
            .put_some(17, self.description.as_ref())?
            .put_some(19, Some(&self.tags).filter(|tags| !tags.is_empty()))?
            .put_some(21, Some(&self.required_tables).filter(|tables| !tables.is_empty()))?
            .put_some(23, counts.as_ref())?
            .put_some(25, self.stored_bytes.as_ref())?
            .put_some(27, self.timing_ms.as_ref())?
            .put_some(29, self.wal_frames.as_ref())?;
        if let Some(witness) = self.witness {
            writer.put_raw(31, witness.encode()?);
        }
        Ok(())
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, FormatError> {
        let journal_mode = match fields.take::<u8>(5)? {
            Some(1) => Some(JournalMode::Rollback),
            Some(2) => Some(JournalMode::Wal),
            _ => None,
        };
        let chunks = fields.take::<(u64, u64, u64, u64, u64)>(23)?.map(
            |(total, unchanged, deduplicated, delta, full)| ChunkCounts {
                total,
                unchanged,
                deduplicated,
                delta,
                full,
            },
        );
        Ok(Self {
            host_name: fields.take(1)?,
            source_path: fields.take(3)?,
            journal_mode,
            user_version: fields.take(7)?,
            application_id: fields.take(9)?,
            schema_fingerprint: fields.take(11)?,
            sqlite_version: fields.take(13)?,
            tool_version: fields.take(15)?,
            description: fields.take(17)?,
            tags: fields.take(19)?.unwrap_or_default(),
            required_tables: fields.take(21)?.unwrap_or_default(),
            chunks,
            stored_bytes: fields.take(25)?,
            timing_ms: fields.take(27)?,
            wal_frames: fields.take(29)?,
            witness: fields.take_raw(31).map_or(Ok(None), SourceWitness::decode)?,
        })
    }

    fn validate(&self) -> Result<(), FormatError> {
        let len = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        within("host name", len(&self.host_name), limits::STRING)?;
        within("source path", self.source_path.as_ref().map_or(0, Vec::len), limits::PATH)?;
        within("SQLite version", len(&self.sqlite_version), limits::STRING)?;
        within("tool version", len(&self.tool_version), limits::STRING)?;
        within("description", len(&self.description), limits::DESCRIPTION)?;
        within("number of tags", self.tags.len(), limits::LABELS)?;
        within("number of required tables", self.required_tables.len(), limits::LABELS)?;
        let words = self.tags.iter().flat_map(|(key, value)| [key, value]).chain(&self.required_tables);
        words.into_iter().try_for_each(|word| within("tag or table name", word.len(), limits::STRING))
    }
}

/// Encodes the body of a snapshots object from encoded manifests.
///
/// # Errors
/// There are too many.
pub fn encode_snapshots(manifests: &[Vec<u8>]) -> Result<Vec<u8>, FormatError> {
    within("manifests of an object", manifests.len(), limits::MANIFESTS)?;
    let mut writer = FieldWriter::new("snapshots object");
    writer.put(2, &manifests.to_vec())?;
    writer.finish()
}

/// Decodes the body of a snapshots object into encoded manifests.
///
/// # Errors
/// Anything that section 9 does not allow.
pub fn decode_snapshots(bytes: &[u8]) -> Result<Vec<Vec<u8>>, FormatError> {
    let mut fields = Fields::parse("snapshots object", bytes)?;
    let manifests: Vec<Vec<u8>> = fields.require(2)?;
    fields.finish()?;
    within("manifests of an object", manifests.len(), limits::MANIFESTS)?;
    let longest = manifests.iter().map(Vec::len).max().unwrap_or(0);
    within("manifest", longest, crate::chunk::Class::Manifest.max_plain_len() as usize)?;
    Ok(manifests)
}

#[cfg(test)]
impl Manifest {
    /// Of a document of no bytes.
    pub(crate) fn empty() -> Self {
        Self {
            database: DatabaseId([1; 16]),
            name: "app".to_owned(),
            created_at_us: 0,
            kind: Kind::Manual,
            content: Content::Document(0),
            root: None,
            sha256: None,
            parent: None,
            host: HostId([4; 16]),
            details: Details::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_manifest() -> impl Strategy<Value = Manifest> {
        let details = (
            proptest::option::of(".{0,20}"),
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
            proptest::collection::vec((".{0,5}", ".{0,5}"), 0..4),
            proptest::option::of(any::<(u64, u64)>()),
            proptest::option::of(any::<[u8; 32]>()),
        )
            .prop_map(|(description, source_path, tags, timing_ms, schema_fingerprint)| Details {
                description,
                source_path,
                tags,
                timing_ms,
                schema_fingerprint,
                journal_mode: Some(JournalMode::Wal),
                chunks: Some(ChunkCounts { total: 9, ..ChunkCounts::default() }),
                witness: timing_ms.map(|(one, other)| {
                    if one % 2 == 0 {
                        SourceWitness::Log {
                            file: (one, other),
                            salts: (1, 2),
                            last_frame: 3,
                            checksum: (4, 5),
                        }
                    } else {
                        SourceWitness::File {
                            file: (one, other),
                            size: 1,
                            modified_ns: -2,
                            changed_ns: 3,
                            settled: true,
                        }
                    }
                }),
                ..Details::default()
            });
        (any::<i64>(), 9u32..=16, any::<u32>(), proptest::option::of(any::<[u8; 32]>()), details).prop_map(
            |(created_at_us, page_bits, page_count, sum, details)| {
                let page_size = PageSize::new(1 << page_bits).unwrap();
                Manifest {
                    database: DatabaseId([1; 16]),
                    name: "app".to_owned(),
                    created_at_us,
                    kind: Kind::Migration,
                    content: Content::Image(Geometry { page_size, page_count }),
                    root: (page_count > 0).then_some(ChunkId([2; 16])),
                    sha256: sum.map(Sha256),
                    parent: Some(SnapshotId([3; 16])),
                    host: HostId([4; 16]),
                    details,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn it_goes_both_ways(manifest in any_manifest()) {
            prop_assert_eq!(Manifest::decode(&manifest.encode().unwrap()).unwrap(), manifest);
        }

        #[test]
        fn changed_bytes_decode_or_fail(manifest in any_manifest(), position: prop::sample::Index, value: u8) {
            let mut bytes = manifest.encode().unwrap();
            let position = position.index(bytes.len());
            bytes[position] = value;
            let _ = Manifest::decode(&bytes);
        }
    }

    #[test]
    fn what_exceeds_a_limit_is_neither_written_nor_read() {
        let text = |len: usize| Some("x".repeat(len));
        let sample = Manifest::empty();
        let details = |details: Details| Manifest { details, ..sample.clone() };
        let longest = details(Details {
            host_name: text(limits::STRING),
            source_path: Some(vec![1; limits::PATH]),
            description: text(limits::DESCRIPTION),
            tags: vec![("k".repeat(limits::STRING), String::new()); 3],
            required_tables: vec!["t".to_owned(); limits::LABELS],
            ..Details::default()
        });
        assert_eq!(Manifest::decode(&longest.encode().unwrap()).unwrap(), longest);
        for wrong in [
            details(Details { host_name: text(limits::STRING + 1), ..Details::default() }),
            details(Details { source_path: Some(vec![1; limits::PATH + 1]), ..Details::default() }),
            details(Details { description: text(limits::DESCRIPTION + 1), ..Details::default() }),
            details(Details { sqlite_version: text(limits::STRING + 1), ..Details::default() }),
            details(Details { tool_version: text(limits::STRING + 1), ..Details::default() }),
            details(Details { tags: vec![Default::default(); limits::LABELS + 1], ..Details::default() }),
            details(Details { tags: vec![("k".repeat(4097), String::new())], ..Details::default() }),
            details(Details {
                required_tables: vec![String::new(); limits::LABELS + 1],
                ..Details::default()
            }),
            Manifest { name: String::new(), ..sample.clone() },
            Manifest { name: "n".repeat(limits::STRING + 1), ..sample.clone() },
            Manifest { root: Some(ChunkId([1; 16])), ..sample.clone() },
            Manifest { content: Content::Document(1), ..sample.clone() },
            Manifest {
                content: Content::Document(limits::IMAGE + 1),
                root: Some(ChunkId([1; 16])),
                ..sample.clone()
            },
        ] {
            assert!(wrong.encode().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn many_manifests_share_an_object() {
        let manifests = vec![vec![1, 2], vec![], vec![3]];
        assert_eq!(decode_snapshots(&encode_snapshots(&manifests).unwrap()).unwrap(), manifests);
    }
}
