//! Objects that nobody honest would make, sealed with the right keys: what an enemy with the key, or a writer with
//! a defect, could leave in a vault.

use std::sync::Arc;

use pagevault::chunk::Class;
use pagevault::codec::{Base, Bases, Encoder};
use pagevault::crypto::seal::{ObjectSealer, open_body};
use pagevault::format::directory::{Directory, Encoding, Record};
use pagevault::format::envelope::{HEADER_LEN, Header, ObjectKind, Parts, unsealed_object};
use pagevault::format::index::{Index, PackEntry};
use pagevault::format::log::{KeyringState, Log, LogEntry, Published};
use pagevault::format::manifest::{Content, Kind, Manifest, encode_snapshots};
use pagevault::ids::{ChunkId, DatabaseId, ObjectName, SnapshotId, WriterId};
use pagevault::page_source::{Geometry, PageSize};
use pagevault::store::{MemoryStore, ObjectPath};
use pagevault::vault::layout::{Place, object_path};

use crate::cursor::Cursor;
use crate::fixture::{Fixture, Known};

pub struct Forge<'f> {
    fixture: &'f Fixture,
    store: &'f MemoryStore,
    /// Chunks to refer to: the vault's and those that were forged.
    chunks: Vec<Known>,
    packs: Vec<PackEntry>,
    objects: u8,
}

impl<'f> Forge<'f> {
    pub fn new(fixture: &'f Fixture, store: &'f MemoryStore) -> Self {
        Self { fixture, store, chunks: fixture.chunks.clone(), packs: fixture.packs.clone(), objects: 0 }
    }

    fn known(&self, cursor: &mut Cursor<'_>) -> Known {
        self.chunks[cursor.below(self.chunks.len())].clone()
    }

    /// A salt per object, the same in every run.
    fn sealer(&mut self, kind: ObjectKind) -> Option<ObjectSealer> {
        self.objects = self.objects.wrapping_add(1);
        ObjectSealer::with_salt(&self.fixture.keys, kind, [self.objects; 32]).ok()
    }

    fn put(&mut self, kind: ObjectKind, body: &[u8]) -> Option<ObjectName> {
        let bytes = self.sealer(kind)?.finish(body).ok()?;
        self.file(kind, bytes)
    }

    fn file(&self, kind: ObjectKind, bytes: Vec<u8>) -> Option<ObjectName> {
        let name = ObjectName::of(&bytes);
        self.store.replace(&object_path(kind, name).ok()?, bytes);
        Some(name)
    }

    /// Opens an object of the fixture, edits its body byte by byte, and seals or signs it anew.
    pub fn reseal(&mut self, path: &ObjectPath, bytes: &[u8], cursor: &mut Cursor<'_>) -> Option<()> {
        let keep = cursor.flag();
        let (header, _) = Header::decode(bytes).ok()?;
        if header.kind.is_sealed() {
            let mut body = open_body(&self.fixture.keys, header.kind, bytes).ok()?.1;
            edit(&mut body, cursor);
            self.put(header.kind, &body)?;
        } else {
            let mut body = Parts::split(bytes, None).ok()?.body.to_vec();
            let (header, with_key) = (Header::unsealed(header.kind, header.vault).encode(), cursor.flag());
            edit(&mut body, cursor);
            let is_config = Place::of(path) == Place::Config;
            let mac = |bytes: &[u8]| {
                is_config.then(|| if with_key { self.fixture.keys.config_mac(bytes) } else { [1; 32] })
            };
            self.store.replace(path, unsealed_object(&header, &body, mac).ok()?);
            return Some(());
        }
        if !keep {
            self.store.remove(path);
        }
        Some(())
    }

    /// An index that says something else of the packs than they do.
    pub fn index(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let other = self.packs[cursor.below(self.packs.len())].clone();
        let mut packs = vec![self.packs[cursor.below(self.packs.len())].clone()];
        for _ in 0..1 + cursor.below(4) {
            let at = cursor.below(packs.len());
            match cursor.byte() % 6 {
                0 => packs[at].name = other.name,
                1 => packs[at].header.clone_from(&other.header),
                2 => {
                    packs[at].object_len =
                        packs[at].object_len.wrapping_add_signed(i64::from(cursor.byte().cast_signed()))
                }
                3 => packs.push(self.packs[cursor.below(self.packs.len())].clone()),
                _ => {
                    let mut records = packs[at].directory.records().to_vec();
                    self.records(&mut records, cursor);
                    packs[at].directory = Directory::new(packs[at].directory.kind(), records).ok()?;
                }
            }
        }
        let replaces = cursor.flag().then_some(other.name).into_iter().collect();
        let body = Index { packs, replaces }.encode().ok()?;
        self.put(ObjectKind::Index, &body).map(|_| ())
    }

    fn records(&self, records: &mut Vec<Record>, cursor: &mut Cursor<'_>) {
        if records.is_empty() {
            return;
        }
        let at = cursor.below(records.len());
        let known = self.known(cursor);
        match cursor.byte() % 8 {
            0 => records[at].id = known.id,
            1 => records[at].encoding = encoding(known.id, cursor),
            2 => records[at].plain_len = u32::from(cursor.u16()),
            3 => records[at].stored_len = u32::from(cursor.u16()) + 16,
            4 => records[at].class = class(cursor),
            5 => records.truncate(at),
            6 => {
                let other = cursor.below(records.len());
                records.swap(at, other);
            }
            _ => {
                let other = cursor.below(records.len());
                records.insert(at, records[other]);
            }
        }
    }

    /// A manifest that says something else of what is stored.
    pub fn manifest(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let manifests = &self.fixture.manifests;
        let mut manifest: Manifest = manifests[cursor.below(manifests.len())].clone();
        for _ in 0..1 + cursor.below(4) {
            match cursor.byte() % 10 {
                0 => manifest.root = Some(self.known(cursor).id),
                1 => manifest.root = None,
                2 => {
                    let page_size = PageSize::new(512 << (cursor.byte() % 8))?;
                    manifest.content =
                        Content::Image(Geometry { page_size, page_count: u32::from(cursor.u16()) });
                }
                3 => manifest.content = Content::Document(cursor.u64() >> (cursor.byte() % 64)),
                4 => manifest.sha256 = None,
                5 => manifest.parent = Some(SnapshotId(cursor.array())),
                6 => manifest.created_at_us = cursor.u64().cast_signed(),
                7 => manifest.database = DatabaseId(cursor.array()),
                8 => manifest.name = String::from_utf8_lossy(cursor.piece()).into_owned(),
                _ => {
                    manifest.kind = Kind::ALL[cursor.below(4)];
                    let table = String::from_utf8_lossy(cursor.piece()).into_owned();
                    manifest.details.required_tables.push(table);
                }
            }
        }
        let bytes = manifest.encode().ok()?;
        let twice = cursor.flag().then(|| bytes.clone());
        let manifests: Vec<Vec<u8>> = [bytes].into_iter().chain(twice).collect();
        let name = self.put(ObjectKind::Snapshots, &encode_snapshots(&manifests).ok()?)?;
        if cursor.flag() {
            let id = self.fixture.keys.current().ok()?.snapshot_id(&manifests[0]);
            let published = Published { snapshot: id, database: manifest.database, object: name };
            self.log_of(vec![LogEntry::Published(vec![published])], cursor)?;
        }
        Some(())
    }

    /// A log object with all sorts of entries.
    pub fn log(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let ids: Vec<SnapshotId> = self.fixture.contents.keys().copied().collect();
        let mut ids: Vec<SnapshotId> = ids;
        ids.sort_unstable();
        let mut entries = Vec::new();
        for _ in 0..1 + cursor.below(4) {
            let some = vec![ids[cursor.below(ids.len())]];
            let pack = vec![self.packs[cursor.below(self.packs.len())].name];
            entries.push(match cursor.byte() % 12 {
                0 => LogEntry::Aborted(some),
                1 => LogEntry::Forgotten(some, None),
                2 => LogEntry::Undeleted(some),
                3 => LogEntry::Pinned(some),
                4 => LogEntry::Condemned(pack, cursor.u64().cast_signed()),
                5 => LogEntry::Rescued(pack),
                6 => LogEntry::Deleted(pack),
                7 => LogEntry::Merged(pack),
                8 => LogEntry::Verified(pack, cursor.byte()),
                9 => LogEntry::Tested(vec![(some[0], cursor.byte())]),
                10 => LogEntry::Keyring(KeyringState {
                    generation: [0, 1, u64::MAX, cursor.u64()][cursor.below(4)],
                    config: ObjectName(cursor.array()),
                    slots: Vec::new(),
                    epoch: cursor.u32(),
                }),
                _ => LogEntry::Published(vec![Published {
                    snapshot: SnapshotId(cursor.array()),
                    database: DatabaseId(cursor.array()),
                    object: ObjectName(cursor.array()),
                }]),
            });
        }
        self.log_of(entries, cursor)
    }

    fn log_of(&mut self, entries: Vec<LogEntry>, cursor: &mut Cursor<'_>) -> Option<()> {
        let sequence = [1, 2, u64::MAX, cursor.u64()][cursor.below(4)];
        let previous = if sequence == 1 { [0; 32] } else { [cursor.byte() | 1; 32] };
        let log = Log {
            writer: WriterId([cursor.byte(); 16]),
            sequence,
            previous: ObjectName(previous),
            time_us: cursor.u64().cast_signed(),
            entries,
        };
        self.put(ObjectKind::Log, &log.encode().ok()?).map(|_| ())
    }

    /// A pack of chunks that are not what they say, or are and should not be; and an index that names it.
    pub fn pack(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let pages = cursor.flag();
        let kind = if pages { ObjectKind::PagePack } else { ObjectKind::MetadataPack };
        let mut sealer = self.sealer(kind)?;
        let mut made = Vec::new();
        for _ in 0..1 + cursor.below(6) {
            let (record, bytes, plain) = self.chunk(pages, cursor)?;
            if sealer.push(record, &bytes).is_ok() {
                made.push(Known { class: record.class, id: record.id, plain: plain.into() });
            }
        }
        let (bytes, directory) = sealer.finish_pack().ok()?;
        let (header, object_len) = (bytes[..HEADER_LEN].to_vec(), bytes.len() as u64);
        let name = self.file(kind, bytes)?;
        let entry = PackEntry { name, object_len, header, directory };
        self.chunks.extend(made);
        self.packs.push(entry.clone());
        let body = Index { packs: vec![entry], replaces: Vec::new() }.encode().ok()?;
        self.put(ObjectKind::Index, &body).map(|_| ())
    }

    /// A record, its encoded bytes, and the plaintext they may or may not stand for.
    fn chunk(&mut self, pages: bool, cursor: &mut Cursor<'_>) -> Option<(Record, Vec<u8>, Vec<u8>)> {
        let class = if pages { Class::Page } else { class(cursor) };
        let base = self.known(cursor);
        let plain: Vec<u8> = match cursor.byte() % 4 {
            0 => cursor.piece().to_vec(),
            1 => vec![cursor.byte(); usize::from(cursor.u16())],
            2 => {
                // A node whose children are all the same.
                let child = self.known(cursor);
                child.id.0.repeat(1 + usize::from(cursor.byte()))
            }
            _ => {
                let mut plain = base.plain.to_vec();
                edit(&mut plain, cursor);
                plain
            }
        };
        let id = match cursor.byte() % 4 {
            0 => self.known(cursor).id,
            _ => self.fixture.keys.current().ok()?.chunk_id(class, &plain),
        };
        let mut bytes = Vec::new();
        let encoding = match cursor.byte() % 4 {
            0 => {
                bytes.clone_from(&plain);
                encoding(base.id, cursor)
            }
            1 => {
                bytes.extend_from_slice(cursor.piece());
                encoding(base.id, cursor)
            }
            _ => {
                let with = Some(Base { id: base.id, plain: &base.plain });
                let bases = if cursor.flag() {
                    Bases { full: with, middle: None }
                } else {
                    Bases { full: Some(Base { id: base.id, plain: &[] }), middle: with }
                };
                Encoder::new(1).encode(&plain, bases, &mut bytes)
            }
        };
        let plain_len = if cursor.flag() { cursor.u16().into() } else { u32::try_from(plain.len()).ok()? };
        Some((Record { id, class, encoding, plain_len, stored_len: 0 }, bytes, plain))
    }
}

fn class(cursor: &mut Cursor<'_>) -> Class {
    Class::from_code(cursor.byte() % 10).unwrap_or(Class::Manifest)
}

fn encoding(base: ChunkId, cursor: &mut Cursor<'_>) -> Encoding {
    match cursor.byte() % 3 {
        0 => Encoding::Plain,
        1 => Encoding::Zstd,
        _ => Encoding::Delta { base, depth: 1 + cursor.byte() % 8 },
    }
}

/// One edit of bytes: change, insert, delete, cut.
pub fn edit(bytes: &mut Vec<u8>, cursor: &mut Cursor<'_>) {
    let how = cursor.byte();
    let at = cursor.u32() as usize % (bytes.len() + 1);
    match how % 5 {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (how >> 5);
            }
        }
        1 => {
            let piece = cursor.piece();
            let end = bytes.len().min(at + piece.len());
            bytes[at..end].copy_from_slice(&piece[..end - at]);
        }
        2 => {
            let piece = cursor.piece();
            bytes.splice(at..at, piece.iter().copied());
        }
        3 => {
            let end = bytes.len().min(at + usize::from(cursor.byte()));
            bytes.drain(at..end);
        }
        _ => bytes.truncate(at),
    }
}

/// A copy under the name that its bytes hash to, as every reader demands.
pub fn refile(store: &MemoryStore, path: &ObjectPath, bytes: &Arc<[u8]>) -> Option<()> {
    let kind = match Place::of(path) {
        Place::Pack(_) => ObjectKind::PagePack,
        Place::Index(_) => ObjectKind::Index,
        Place::Snapshots(_) => ObjectKind::Snapshots,
        Place::Log(_) => ObjectKind::Log,
        Place::Config | Place::Slot(_) | Place::Other => return None,
    };
    store.replace(&object_path(kind, ObjectName::of(bytes)).ok()?, bytes.to_vec());
    Some(())
}
