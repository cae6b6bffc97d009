//! What is copied, refused, replaced and deleted, on objects that are not opened: sync has no key.

use super::*;
use crate::ids::{ObjectName, SlotId};
use crate::monitor::Silent;
use crate::store::{CountingStore, Fault, FaultStore, MemoryStore, ObjectPath, OperationKind};
use crate::vault::layout::{self, Place};

use crate::vault::testing::vault_in;
use std::sync::Arc;

/// A vault with some objects that are only bytes under their hash.
fn vault() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    vault_in(Arc::clone(&store));
    for number in 0..3_u8 {
        add(&store, "packs", &[number; 1000]);
        add(&store, "index", &[number; 100]);
        add(&store, "snapshots", &[number; 10]);
    }
    store
}

fn add(store: &MemoryStore, folder: &str, bytes: &[u8]) -> ObjectPath {
    let name = ObjectName::of(bytes).to_string();
    let path =
        if folder == "packs" { format!("packs/{}/{name}", &name[..2]) } else { format!("{folder}/{name}") };
    let path = ObjectPath::new(path).unwrap();
    store.put_if_absent(&path, bytes).unwrap();
    path
}

fn run(source: &dyn Store, destination: &dyn Store, request: &SyncRequest) -> Result<SyncReport> {
    sync(source, destination, request, &Silent)
}

fn plain() -> SyncRequest {
    SyncRequest::default()
}

#[test]
fn everything_is_copied_once_and_found_the_second_time() {
    let (source, destination) = (vault(), MemoryStore::new());
    let report = run(&source, &destination, &plain()).unwrap();
    assert_eq!(destination.objects(), source.objects());
    assert_eq!(report.copied.objects, source.objects().len() as u64);
    assert_eq!(report.copied.bytes, source.total_bytes());
    let again = run(&source, &destination, &SyncRequest { verify: Verify::Data, ..plain() }).unwrap();
    assert_eq!((again.copied.objects, again.present, again.verified), (0, report.copied, report.copied));
    let added = add(&source, "packs", b"new");
    assert_eq!(run(&source, &destination, &plain()).unwrap().copied, Tally { objects: 1, bytes: 3 });
    assert_eq!(destination.get(&added, 10).unwrap(), b"new");
}

#[test]
fn a_dry_run_says_the_same_and_does_nothing() {
    let (source, destination) = (vault(), MemoryStore::new());
    let planned = run(&source, &destination, &SyncRequest { dry_run: true, ..plain() }).unwrap();
    assert!(destination.objects().is_empty());
    assert_eq!(run(&source, &destination, &plain()).unwrap().copied, planned.copied);
}

#[test]
fn stages_follow_each_other_and_deletions_go_backwards() {
    let source = vault();
    let destination = FaultStore::new(MemoryStore::new());
    run(&source, &destination, &plain()).unwrap();
    let rank = |path: &str| match path.split('/').next().unwrap() {
        "keys" => 0,
        ".gitignore" => 1,
        "vault.pv.copy" => 2,
        "vault.pv" => 3,
        "packs" => 4,
        "index" => 5,
        "snapshots" => 6,
        _ => 7,
    };
    let order = |kind| {
        let log = destination.log().into_iter().filter(move |operation| operation.kind == kind);
        log.map(|operation| rank(&operation.path)).collect::<Vec<u8>>()
    };
    let written = order(OperationKind::Put);
    assert!(written.is_sorted() && written.len() == source.objects().len(), "{written:?}");
    for folder in ["packs", "index", "snapshots", "log", "keys"] {
        let path = source.paths().into_iter().find(|path| path.as_str().starts_with(folder)).unwrap();
        source.remove(&path);
    }
    run(&source, &destination, &SyncRequest { delete: true, ..plain() }).unwrap();
    let deleted = order(OperationKind::Delete);
    assert!(deleted.iter().rev().is_sorted() && deleted.len() == 5, "{deleted:?}");
    assert_eq!(destination.inner().objects(), source.objects());
}

#[test]
fn cut_off_anywhere_it_goes_on_where_it_was() {
    let source = vault();
    let whole = FaultStore::new(MemoryStore::new());
    let request = SyncRequest { transfers: NonZeroUsize::MIN, ..plain() };
    run(&source, &whole, &request).unwrap();
    for fault in [Fault::Before, Fault::After] {
        for operation in 0..whole.operations() {
            let destination = FaultStore::new(MemoryStore::new());
            destination.crash_at(operation, fault);
            run(&source, &destination, &request).unwrap_err();
            let copied = destination.inner().objects();
            let paths: Vec<&str> = copied.iter().map(|(path, _)| path.as_str()).collect();
            // Whatever refers to something is there later than that.
            let has = |folder: &str| paths.iter().any(|path| path.starts_with(folder));
            let all = |folder: &str| paths.iter().filter(|path| path.starts_with(folder)).count() == 3;
            assert!(!has("index") || all("packs"));
            assert!(!has("snapshots") || all("index"));
            assert!(!has("log") || all("snapshots"));
            destination.reset();
            run(&source, &destination, &request).unwrap();
            assert_eq!(destination.inner().objects(), source.objects());
        }
    }
}

#[test]
fn another_vault_and_other_things_are_refused() {
    let (source, other) = (vault(), vault());
    let before = other.objects();
    let error = run(&source, &other, &SyncRequest { delete: true, ..plain() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(other.objects(), before);
    let documents = MemoryStore::new();
    documents.put_if_absent(&ObjectPath::new("letters/mine.txt").unwrap(), b"dear").unwrap();
    assert_eq!(run(&source, &documents, &plain()).unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(documents.objects().len(), 1);
    // A slot of another vault, left by a run that ended before its config.
    let begun = MemoryStore::new();
    let slot = other.objects().into_iter().find(|(path, _)| path.as_str().starts_with("keys/")).unwrap();
    begun.put_if_absent(&slot.0, &slot.1).unwrap();
    assert_eq!(run(&source, &begun, &plain()).unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(run(&MemoryStore::new(), &begun, &plain()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn damage_at_the_source_is_not_copied_and_damage_at_the_destination_is_healed() {
    let (source, destination) = (vault(), MemoryStore::new());
    run(&source, &destination, &plain()).unwrap();
    let packs: Vec<_> = source.paths().into_iter().filter(|p| p.as_str().starts_with("packs")).collect();
    destination.replace(&packs[0], vec![9; 5]);
    let report = run(&source, &destination, &plain()).unwrap();
    assert_eq!(report.replaced.objects, 1);
    // Of the same size, so that only reading shows it.
    destination.replace(&packs[1], vec![9; 1000]);
    assert_eq!(run(&source, &destination, &plain()).unwrap().replaced.objects, 0);
    let verified = run(&source, &destination, &SyncRequest { verify: Verify::Data, ..plain() }).unwrap();
    assert_eq!((verified.replaced.objects, verified.problems.len()), (1, 0));
    assert_eq!(destination.objects(), source.objects());
    source.replace(&packs[2], vec![8; 1000]);
    destination.remove(&packs[2]);
    let report = run(&source, &destination, &SyncRequest { delete: true, ..plain() }).unwrap();
    assert_eq!(report.problems.len(), 1);
    assert!(report.problems[0].object.contains(packs[2].file_name()));
    assert!(destination.size(&packs[2]).unwrap_err().is_not_found());
}

#[cfg(feature = "remote")]
#[test]
fn what_has_the_right_checksum_is_not_read_back_and_what_has_not_is_healed() {
    let (source, destination) = (vault(), MemoryStore::new());
    let checksums = SyncRequest { verify: Verify::Checksums, ..plain() };
    let counted = CountingStore::new(&destination);
    let report = run(&source, &counted, &checksums).unwrap();
    // Control files are asked for by name, and listed without.
    assert_eq!(report.verified.objects + report.checksummed.objects, report.copied.objects);
    assert!(report.verified.objects <= 3, "{report:?}");
    let reads = counted.counts().of(OperationKind::Get).requests;
    assert!(reads < report.copied.objects, "{reads} reads of {report:?}");
    let packs: Vec<_> = source.paths().into_iter().filter(|p| p.as_str().starts_with("packs")).collect();
    destination.replace(&packs[1], vec![9; 1000]);
    let report = run(&source, &destination, &checksums).unwrap();
    assert_eq!((report.replaced.objects, report.problems.len()), (1, 0));
    assert_eq!(destination.objects(), source.objects());
}

#[test]
fn a_source_that_lost_much_deletes_nothing() {
    let (source, destination) = (vault(), MemoryStore::new());
    run(&source, &destination, &plain()).unwrap();
    let snapshots: Vec<_> =
        source.paths().into_iter().filter(|path| path.as_str().starts_with("snapshots")).collect();
    source.remove(&snapshots[0]);
    source.remove(&snapshots[1]);
    let before = destination.objects();
    let request = SyncRequest { delete: true, ..plain() };
    let error = run(&source, &destination, &request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(destination.objects(), before);
    assert_eq!(run(&source, &destination, &plain()).unwrap().kept.objects, 2);
    let allowed = SyncRequest { max_delete: 100.0, ..request };
    assert_eq!(run(&source, &destination, &allowed).unwrap().deleted.objects, 2);
    assert_eq!(destination.objects(), source.objects());
}

#[test]
fn an_append_only_destination_is_enough_and_says_what_it_cannot_heal() {
    let source = vault();
    let destination = FaultStore::new(MemoryStore::new());
    destination.refuse_deletes();
    run(&source, &destination, &plain()).unwrap();
    assert_eq!(destination.inner().objects(), source.objects());
    let pack = source.paths().into_iter().find(|path| path.as_str().starts_with("packs")).unwrap();
    destination.inner().replace(&pack, vec![9; 5]);
    let report = run(&source, &destination, &plain()).unwrap();
    assert_eq!((report.replaced.objects, report.problems.len()), (0, 1));
    assert!(report.problems[0].message.contains("permission denied"), "{}", report.problems[0]);
}

/// Deletes an object from the source while it is being copied, as a prune on another host does.
#[derive(Debug)]
struct Pruned(Arc<MemoryStore>, std::sync::Mutex<Vec<ObjectPath>>);

impl Store for Pruned {
    fn describe(&self) -> String {
        "pruned".to_owned()
    }
    fn get(&self, path: &ObjectPath, limit: u64) -> Result<Vec<u8>, crate::store::StoreError> {
        if matches!(Place::of(path), Place::Pack(_)) {
            self.1.lock().unwrap().drain(..).for_each(|path| drop(self.0.remove(&path)));
        }
        self.0.get(path, limit)
    }
    fn read_range(
        &self,
        path: &ObjectPath,
        offset: u64,
        into: &mut [u8],
    ) -> Result<(), crate::store::StoreError> {
        self.0.read_range(path, offset, into)
    }
    fn size(&self, path: &ObjectPath) -> Result<u64, crate::store::StoreError> {
        self.0.size(path)
    }
    fn put_if_absent(
        &self,
        path: &ObjectPath,
        bytes: &[u8],
    ) -> Result<crate::store::Put, crate::store::StoreError> {
        self.0.put_if_absent(path, bytes)
    }
    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(crate::store::ObjectMeta) -> std::ops::ControlFlow<()>,
    ) -> Result<(), crate::store::StoreError> {
        self.0.list(folder, visit)
    }
    fn delete(&self, path: &ObjectPath) -> Result<(), crate::store::StoreError> {
        self.0.delete(path)
    }
}

#[test]
fn a_prune_in_the_midst_of_it_leaves_no_snapshot_without_its_packs() {
    let source = vault();
    let paths = source.paths();
    let last = |folder: &str| paths.iter().rfind(|path| path.as_str().starts_with(folder)).cloned();
    // The last pack, what names it, and its snapshot.
    let gone: Vec<_> = ["snapshots", "index", "packs"].into_iter().filter_map(last).collect();
    let pruned = Pruned(Arc::clone(&source), gone.clone().into());
    let destination = MemoryStore::new();
    let request = SyncRequest { transfers: NonZeroUsize::MIN, ..plain() };
    run(&pruned, &destination, &request).unwrap();
    assert_eq!(destination.objects(), source.objects());
    assert!(gone.iter().all(|path| destination.size(path).is_err()));
}

#[test]
fn two_whole_slots_of_one_name_are_left_to_the_key() {
    let (source, destination) = (vault(), MemoryStore::new());
    run(&source, &destination, &plain()).unwrap();
    let mut damaged = source.fork();
    let slot = damaged.paths().into_iter().find(|path| path.as_str().starts_with("keys/")).unwrap();
    let Place::Slot(SlotId(_)) = Place::of(&slot) else { panic!("{slot}") };
    let mut bytes = damaged.get(&slot, 100_000).unwrap();
    bytes.truncate(bytes.len() - 3);
    damaged.replace(&slot, bytes);
    // Damaged at the source: not copied over the good one.
    let report = run(&damaged, &destination, &plain()).unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(destination.objects(), source.objects());
    damaged = source.fork();
    damaged.remove(&ObjectPath::new(layout::CONFIG).unwrap());
    assert_eq!(run(&damaged, &MemoryStore::new(), &plain()).unwrap().problems, []);
}
