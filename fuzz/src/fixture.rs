//! What hostile inputs are edits of: a small vault and some small databases, committed under `fixture/` so that
//! an input means the same in every process. `examples/seeds.rs` made them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use pagevault::chunk::Class;
use pagevault::crypto::keys::VaultKeys;
use pagevault::crypto::seal::open_body;
use pagevault::crypto::secret::Secret32;
use pagevault::crypto::unlock::Unlocker;
use pagevault::format::envelope::ObjectKind;
use pagevault::format::index::{Index, PackEntry};
use pagevault::format::keyslot::KeySlot;
use pagevault::format::manifest::Manifest;
use pagevault::ids::{ChunkId, SnapshotId};
use pagevault::monitor::Silent;
use pagevault::operations::assemble::assemble;
use pagevault::store::{MemoryStore, ObjectPath, Store};
use pagevault::vault::layout::Place;
use pagevault::vault::{LocalFolders, LockedVault, Vault};

const VAULT: &[u8] = include_bytes!("../fixture/vault");
const IMAGES: &[u8] = include_bytes!("../fixture/images");

/// Contents up to this are put together; what claims more is only walked.
pub const SMALL: u64 = 1 << 20;

/// The key that opens the vault.
pub fn key() -> Unlocker {
    Unlocker::KeyFile(Secret32::new([0x42; 32]))
}

/// The vault in `store`, if it opens.
pub fn open(store: Box<dyn Store>) -> Option<Vault> {
    LockedVault::find(store).ok()?.unlock(&key(), &LocalFolders::default()).ok()
}

/// Named pieces of bytes, one after the other.
pub fn pack(pieces: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, piece) in pieces {
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend((piece.len() as u32).to_le_bytes());
        bytes.extend(piece);
    }
    bytes
}

fn unpack(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut part = || {
        let (len, rest) = bytes.split_first_chunk().expect("a whole fixture");
        let (part, rest) = rest.split_at(u32::from_le_bytes(*len) as usize);
        bytes = rest;
        let more = !bytes.is_empty();
        (part.to_vec(), more)
    };
    let mut pieces = Vec::new();
    loop {
        let (name, _) = part();
        let (piece, more) = part();
        pieces.push((String::from_utf8(name).expect("a name"), piece));
        if !more {
            return pieces;
        }
    }
}

/// A chunk that the vault has.
#[derive(Clone)]
pub struct Known {
    pub class: Class,
    pub id: ChunkId,
    /// Empty where the plaintext does not matter.
    pub plain: Arc<[u8]>,
}

/// The vault, its keys, and what is in it.
pub struct Fixture {
    pub store: MemoryStore,
    pub keys: VaultKeys,
    pub objects: Vec<(ObjectPath, Arc<[u8]>)>,
    pub packs: Vec<PackEntry>,
    pub chunks: Vec<Known>,
    pub manifests: Vec<Manifest>,
    /// Every snapshot; with its bytes if it is small.
    pub contents: HashMap<SnapshotId, Option<Vec<u8>>>,
}

pub fn vault() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(load)
}

/// The databases, each a whole image.
pub fn images() -> &'static [(String, Vec<u8>)] {
    static FIXTURE: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    FIXTURE.get_or_init(|| unpack(IMAGES))
}

fn load() -> Fixture {
    let store = MemoryStore::new();
    for (path, bytes) in unpack(VAULT) {
        store.replace(&path.parse().expect("a path"), bytes);
    }
    let objects = store.objects();
    let keys = keys(&objects);
    let vault = open(Box::new(store.fork())).expect("the fixture opens");
    assert!(vault.load_index().expect("an index").is_empty());
    let history = vault.history().expect("a history");
    let catalog = vault.catalog(&history).expect("a catalog");
    assert!(catalog.skipped.is_empty() && catalog.vanished.is_empty() && catalog.unlogged.is_empty());
    let mut packs = Vec::new();
    for (_, bytes) in objects.iter().filter(|(path, _)| matches!(Place::of(path), Place::Index(_))) {
        let (_, body) = open_body(&keys, ObjectKind::Index, bytes).expect("an index object");
        packs.extend(Index::decode(&body).expect("an index").packs);
    }
    let mut chunks = Vec::new();
    let mut reader = vault.reader();
    for record in packs.iter().flat_map(|pack: &PackEntry| pack.directory.records()) {
        let plan = pagevault::vault::reader::plan(&vault.index(), record.class, record.id).expect("a plan");
        let mut plain = Vec::new();
        reader.read(&plan, &mut plain).expect("a chunk");
        chunks.push(Known { class: record.class, id: record.id, plain: plain.into() });
    }
    let content = |snapshot| {
        let mut bytes = Vec::new();
        let mut sink = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        assemble(&vault, snapshot, &Silent, &mut sink).expect("a content");
        bytes
    };
    let contents = catalog
        .snapshots
        .iter()
        .map(|snapshot| {
            let small = snapshot.manifest.content.len() <= SMALL;
            (snapshot.id, small.then(|| content(snapshot)))
        })
        .collect();
    let manifests = catalog.snapshots.iter().map(|snapshot| snapshot.manifest.clone()).collect();
    Fixture { store, keys, objects, packs, chunks, manifests, contents }
}

fn keys(objects: &[(ObjectPath, Arc<[u8]>)]) -> VaultKeys {
    let slot = objects.iter().find(|(path, _)| matches!(Place::of(path), Place::Slot(_)));
    let slot = KeySlot::decode(&slot.expect("a slot").1).expect("a whole slot");
    let keyring = key().open(&slot).expect("a sound slot").expect("its key");
    VaultKeys::new(slot.vault, keyring).expect("keys")
}
