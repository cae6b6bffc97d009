//! What a check must see in vaults that only a writer with a defect, or an enemy with the key, could have left.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::packs::choose_packs;
use super::*;
use crate::chunk::Class;
use crate::clock::FixedClock;
use crate::crypto::secret::Secret32;
use crate::format::directory::{Directory, Encoding, Record};
use crate::format::envelope::ObjectKind;
use crate::format::index::Index;
use crate::format::manifest::{Content, Manifest, encode_snapshots};
use crate::ids::{ChunkId, HostId};
use crate::monitor::Silent;
use crate::operations::snapshot::{Host, SnapshotRequest, snapshot};
use crate::store::{MemoryStore, ObjectPath};
use crate::vault::reader::plan;
use crate::vault::readings::{Reading, Readings};
use crate::vault::testing::{key, vault_in};
use crate::vault::writer::EncodedChunk;
use crate::vault::{LocalFolders, LockedVault};

/// A vault with one snapshot of a database of three chunks.
fn vault() -> (Vault, Arc<MemoryStore>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch("CREATE TABLE t(b); INSERT INTO t VALUES(randomblob(70000)), (randomblob(70000));")
        .unwrap();
    let store = Arc::new(MemoryStore::new());
    let vault = vault_in(Arc::clone(&store));
    let request = SnapshotRequest::new([path], Host { id: HostId([1; 16]), name: None });
    let mut each = |_: &std::path::Path, outcome: Result<_>| {
        outcome.unwrap();
    };
    snapshot(&vault, &request, &FixedClock(Timestamp::UNIX_EPOCH), &Silent, &mut each).unwrap();
    (vault, store)
}

/// The vault with nothing remembered of earlier.
fn reopen(store: &Arc<MemoryStore>) -> Vault {
    LockedVault::find(Box::new(Arc::clone(store))).unwrap().unlock(&key(1), &LocalFolders::default()).unwrap()
}

fn check_all(vault: &Vault) -> CheckReport {
    let request = CheckRequest { data: DataLevel::All, test_restore: None };
    check(vault, &request, &FixedClock(Timestamp::UNIX_EPOCH), &Silent).unwrap()
}

fn only_manifest(vault: &Vault) -> Manifest {
    vault.catalog(&vault.history().unwrap()).unwrap().snapshots.pop().unwrap().manifest
}

fn publish(vault: &Vault, manifest: &Manifest) -> SnapshotId {
    let bytes = manifest.encode().unwrap();
    let body = encode_snapshots(std::slice::from_ref(&bytes)).unwrap();
    vault.core().write_object(ObjectKind::Snapshots, &body).unwrap();
    vault.snapshot_id(&bytes).unwrap()
}

fn only_index(vault: &Vault) -> (ObjectName, Index) {
    let (name, _) = vault.core().names(layout::INDEX).unwrap()[0];
    let (_, body) = vault.core().read_object(ObjectKind::Index, name).unwrap();
    (name, Index::decode(&body).unwrap())
}

#[test]
fn a_length_that_does_not_fit_a_tree_is_found_although_the_tree_is_sound() {
    let (vault, _) = vault();
    assert_eq!(check_all(&vault).problems, []);
    let manifest = only_manifest(&vault);
    let longer = Content::Document(manifest.content.len() + 65_536);
    let wrong = publish(&vault, &Manifest { content: longer, created_at_us: 5, ..manifest });
    let report = check_all(&vault);
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].snapshots, [wrong]);
}

#[test]
fn an_index_that_takes_a_record_for_another_chunk_is_found() {
    let (vault, store) = vault();
    let (name, mut index) = only_index(&vault);
    let pack = index.packs.iter_mut().find(|pack| pack.directory.kind() == ObjectKind::PagePack).unwrap();
    let mut records = pack.directory.records().to_vec();
    let id = records[0].id;
    records[0].id = records[1].id;
    records[1].id = id;
    pack.directory = Directory::new(ObjectKind::PagePack, records).unwrap();
    store.remove(&layout::object_path(ObjectKind::Index, name).unwrap()).unwrap();
    vault.core().write_object(ObjectKind::Index, &index.encode().unwrap()).unwrap();
    let report = check_all(&vault);
    assert!(report.problems.iter().any(|problem| problem.object.starts_with("index/")), "{report:?}");
    assert!(report.problems.iter().any(|problem| problem.snapshots.len() == 1), "{report:?}");
}

#[test]
fn a_wrong_header_in_one_index_does_not_spoil_what_another_says() {
    let (vault, store) = vault();
    let (_, truth) = only_index(&vault);
    let mut wrong = truth.clone();
    let pack = wrong.packs.iter_mut().find(|pack| pack.directory.kind() == ObjectKind::PagePack).unwrap();
    let record = pack.directory.records()[0];
    // The salt: the keys that follow from it open nothing.
    pack.header[40] ^= 1;
    let (pack, vault) = (pack.name, reopen(&store));
    let name = vault.core().write_object(ObjectKind::Index, &wrong.encode().unwrap()).unwrap();
    // Known first, so that it is tried first.
    vault.index().add(name, &wrong).unwrap();
    assert!(vault.load_index().unwrap().is_empty());
    let plan = plan(&vault.index(), Class::Page, record.id).unwrap();
    assert_eq!(plan.location().unwrap().pack, pack);
    vault.reader().read(&plan, &mut Vec::new()).unwrap();
}

#[test]
fn an_index_cannot_keep_a_check_busy_for_ever() {
    let (vault, _) = vault();
    let id = |number: u8| ChunkId([number; 16]);
    // Each chunk is a delta of the one before, many times over, and the first is nowhere.
    let records: Vec<Record> = (1..=limits::DEPTH)
        .map(|depth| Record {
            id: id(depth),
            class: Class::Page,
            encoding: Encoding::Delta { base: id(depth - 1), depth },
            plain_len: 10,
            stored_len: 20,
        })
        .collect();
    let (_, index) = only_index(&vault);
    let mut pack =
        index.packs.into_iter().find(|pack| pack.directory.kind() == ObjectKind::PagePack).unwrap();
    pack.directory = Directory::new(ObjectKind::PagePack, records).unwrap();
    let packs = (0..12).map(|number| {
        let mut pack = pack.clone();
        pack.name = ObjectName([number; 32]);
        pack
    });
    let body = Index { packs: packs.collect(), replaces: Vec::new() }.encode().unwrap();
    vault.core().write_object(ObjectKind::Index, &body).unwrap();
    let plain = id(limits::DEPTH).0.to_vec();
    let root = vault.chunk_id(Class::Node(1), &plain).unwrap();
    let mut run = vault.begin_run();
    let node = EncodedChunk {
        id: root,
        class: Class::Node(1),
        encoding: Encoding::Plain,
        plain_len: 16,
        bytes: plain,
    };
    run.sink().unwrap().push(node).unwrap();
    run.flush(&mut vault.index()).unwrap();
    let manifest = Manifest { content: Content::Document(10), root: Some(root), ..only_manifest(&vault) };
    let wrong = publish(&vault, &manifest);
    let report = check_all(&vault);
    assert!(report.problems.iter().any(|problem| problem.snapshots == [wrong]), "{report:?}");
}

fn metas(sizes: &[u64]) -> Vec<ObjectMeta> {
    let meta = |size: &u64| ObjectMeta {
        path: ObjectPath::new("a").unwrap(),
        size: *size,
        modified: None,
        md5: None,
    };
    sizes.iter().map(meta).collect()
}

fn named(metas: &[ObjectMeta]) -> HashMap<ObjectName, &ObjectMeta> {
    (0u8..).zip(metas).map(|(n, meta)| (ObjectName([n; 32]), meta)).collect()
}

fn nothing_read() -> Readings {
    Readings::load(None, Secret32::new([1; 32]))
}

#[test]
fn a_subset_is_rounded_up_and_has_no_repetitions() {
    let metas = metas(&[1; 10]);
    let choose = |level| choose_packs(&named(&metas), level, &nothing_read(), 0).unwrap().packs;
    for (percent, expected) in [(0.0, 0), (5.0, 1), (10.0, 1), (11.0, 2), (100.0, 10)] {
        let chosen = choose(DataLevel::Subset(percent));
        assert_eq!(chosen.len(), expected);
        assert_eq!(chosen.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>().len(), expected);
    }
    assert!(choose(DataLevel::None).is_empty());
}

#[test]
fn what_is_due_is_read_in_order_of_need() {
    let metas = metas(&[10; 5]);
    let mut readings = nothing_read();
    let name = |number| ObjectName([number; 32]);
    for (number, at_us, whole) in [(0, 900, true), (1, 100, true), (3, 950, false), (4, 2000, true)] {
        readings.note(name(number), Reading { at_us, whole });
    }
    let choose = |budget, age_us| {
        let max_age = Option::map(age_us, Duration::from_micros);
        let chosen =
            choose_packs(&named(&metas), DataLevel::Due { budget, max_age }, &readings, 1000).unwrap();
        (chosen.packs.iter().map(|(name, _)| name.0[0]).collect::<Vec<_>>(), chosen.left)
    };
    // Damaged, never read, the oldest first; 4 was read in the future, which is nowhere.
    assert_eq!(choose(None, None), (vec![3, 2, 1, 0, 4], 0));
    assert_eq!(choose(Some(25), None), (vec![3, 2], 3));
    assert_eq!(choose(Some(0), None), (vec![3], 4));
    assert_eq!(choose(None, Some(500)), (vec![3, 2, 1, 4], 0));
    assert_eq!(choose(Some(30), Some(500)), (vec![3, 2, 1], 1));
    assert_eq!(choose(Some(30), Some(0)), (vec![3, 2, 1], 2));
}
