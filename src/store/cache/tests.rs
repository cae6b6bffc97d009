//! What is fetched, kept, proven and forgotten.

use super::super::{CountingStore, DirectReads, MemoryStore, OperationKind, conformance};
use super::*;

fn named(folder: &str, bytes: &[u8]) -> ObjectPath {
    ObjectPath::new(format!("{folder}/{}", blake3::hash(bytes).to_hex())).unwrap()
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|number| (number.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}

/// A store that holds a pack of these bytes.
fn with_pack(bytes: &[u8]) -> (Arc<MemoryStore>, ObjectPath) {
    let (inner, path) = (Arc::new(MemoryStore::new()), named("packs/00", bytes));
    inner.put_if_absent(&path, bytes).unwrap();
    (inner, path)
}

fn counted(
    folder: &std::path::Path,
    inner: &Arc<MemoryStore>,
) -> CacheStore<CountingStore<Arc<MemoryStore>>> {
    let inner = CountingStore::new(Arc::clone(inner));
    CacheStore::new(inner, "packs", Some(folder.to_path_buf()), 100 << 20)
}

#[test]
fn conforms_with_and_without_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    conformance::run(&CacheStore::new(MemoryStore::new(), "range", Some(folder.path().into()), 1 << 20));
    conformance::run(&CacheStore::new(MemoryStore::new(), "range", None, 0));
}

#[test]
fn whole_objects_are_fetched_once_and_proven_each_time() {
    let (folder, inner) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::new()));
    let (bytes, fixed) = (noise(1000), ObjectPath::new("vault.pv").unwrap());
    let path = named("index", &bytes);
    inner.put_if_absent(&path, &bytes).unwrap();
    inner.put_if_absent(&fixed, b"config").unwrap();
    for round in 0..3 {
        let store = counted(folder.path(), &inner);
        assert_eq!(store.get(&path, 1000).unwrap(), bytes);
        assert_eq!(store.get(&fixed, 1000).unwrap(), b"config");
        let fetched = store.inner.counts().of(OperationKind::Get).requests;
        assert_eq!(fetched, if round == 0 { 2 } else { 1 });
    }
    let entry = folder.path().join(&path.file_name()[..2]).join(format!("{}.whole", path.file_name()));
    std::fs::write(&entry, b"something else").unwrap();
    assert_eq!(counted(folder.path(), &inner).get(&path, 1000).unwrap(), bytes);
    assert!(counted(folder.path(), &inner).get(&path, 10).is_err(), "the limit holds for the cache as well");
    // What does not have its name is handed on as it is, and not kept.
    inner.replace(&path, b"damaged".to_vec());
    std::fs::remove_file(&entry).unwrap();
    for _ in 0..2 {
        let store = counted(folder.path(), &inner);
        assert_eq!(store.get(&path, 1000).unwrap(), b"damaged");
        assert_eq!(store.inner.counts().of(OperationKind::Get).requests, 1);
    }
}

#[test]
fn ranges_are_read_in_blocks_ahead_and_from_disk_the_next_time() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), noise(9_500_000));
    let (inner, path) = with_pack(&bytes);
    for round in 0..2 {
        let store = counted(folder.path(), &inner);
        let mut at = 0;
        while at < bytes.len() {
            let length = 60_000.min(bytes.len() - at);
            assert_eq!(store.get_range(&path, at as u64, length).unwrap(), &bytes[at..at + length]);
            at += length;
        }
        assert!(store.get_range(&path, 9_499_999, 2).is_err());
        let counts = store.inner.counts();
        let (ranges, sizes) = (counts.of(OperationKind::ReadRange), counts.of(OperationKind::Size));
        // 10 blocks: 1, 2, 2, 2, 2, 1. Only what is beyond the end is asked for the second time.
        assert_eq!((ranges.requests, sizes.requests), (if round == 0 { 6 } else { 0 }, 1));
    }
    let store = counted(folder.path(), &inner);
    let damaged = folder.path().join(&path.file_name()[..2]).join(format!("{}.3", path.file_name()));
    std::fs::write(&damaged, noise(100)).unwrap();
    assert_eq!(store.get_range(&path, 3 << 20, 10).unwrap(), &bytes[3 << 20..][..10]);
    assert!(store.distrust(&path));
    assert_eq!(store.get_range(&path, 5, 10).unwrap(), &bytes[5..15]);
    assert_eq!(store.inner.counts().of(OperationKind::ReadRange).requests, 2);
}

#[test]
fn what_was_written_need_not_be_fetched() {
    let (folder, inner) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::new()));
    let bytes = noise(3_000_000);
    let path = named("packs/00", &bytes);
    counted(folder.path(), &inner).put_if_absent(&path, &bytes).unwrap();
    let store = counted(folder.path(), &inner);
    assert_eq!(store.get_range(&path, 2_000_000, 500_000).unwrap(), &bytes[2_000_000..2_500_000]);
    assert_eq!(store.inner.counts().of(OperationKind::ReadRange).requests, 0);
    store.delete(&path).unwrap();
    assert!(store.get_range(&path, 0, 5).unwrap_err().is_not_found());
}

#[test]
fn many_readers_of_one_block_fetch_it_once() {
    let bytes = noise(900_000);
    let (inner, path) = with_pack(&bytes);
    let store = CacheStore::new(CountingStore::new(Arc::clone(&inner)), "packs", None, 0);
    std::thread::scope(|scope| {
        for reader in 0..8_usize {
            let (store, path, bytes) = (&store, &path, &bytes);
            scope.spawn(move || {
                let at = reader * 100_000;
                let read = store.get_range(path, at as u64, 1000).unwrap();
                assert_eq!(read, &bytes[at..][..1000]);
            });
        }
    });
    assert_eq!(store.inner.counts().of(OperationKind::ReadRange).requests, 1);
}

#[test]
fn what_is_fetched_ahead_by_many_is_fetched_once() {
    let bytes = noise(9_500_000);
    let (inner, path) = with_pack(&bytes);
    let store = CacheStore::new(CountingStore::new(Arc::clone(&inner)), "packs", None, 0);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(60_000, Ordering::Relaxed);
                    if at >= bytes.len() {
                        break;
                    }
                    let end = bytes.len().min(at + 60_000);
                    store.fetch_ahead(&path, at as u64..end as u64, bytes.len() as u64).unwrap();
                }
            });
        }
    });
    let fetched = || store.inner.counts().of(OperationKind::ReadRange);
    assert_eq!(fetched().bytes, bytes.len() as u64);
    let before = fetched().requests;
    assert_eq!(store.get_range(&path, 0, bytes.len()).unwrap(), bytes);
    assert_eq!(fetched().requests, before);
    // Beyond the end there is nothing.
    assert!(store.fetch_ahead(&named("packs/00", b"none"), 0..10, 10).unwrap_err().is_not_found());
    store.fetch_ahead(&path, 1 << 40..(1 << 40) + 10, bytes.len() as u64).unwrap();
    assert!(store.get_range(&path, 9_499_999, 2).is_err());
    // Its length was said, and so not asked for.
    assert_eq!(store.inner.counts().of(OperationKind::Size).requests, 1);
}

#[test]
fn a_length_that_is_wrongly_said_does_no_harm() {
    let bytes = noise(2_500_000);
    for said in [1_000_000, 1_048_576, 2_200_000, 2_500_000, 2_500_001, 9_000_000] {
        let folder = tempfile::tempdir().unwrap();
        let (inner, path) = with_pack(&bytes);
        let store = counted(folder.path(), &inner);
        for start in (0..bytes.len() as u64).step_by(300_000) {
            store.fetch_ahead(&path, start..start + 300_000, said).unwrap();
        }
        assert_eq!(store.get_range(&path, 0, bytes.len()).unwrap(), bytes);
        assert!(store.get_range(&path, 2_499_999, 2).is_err());
        assert_eq!(store.size(&path).unwrap(), 2_500_000);
    }
}

#[test]
fn a_folder_keeps_to_its_limit() {
    let (folder, inner) = (tempfile::tempdir().unwrap(), MemoryStore::new());
    let store = CacheStore::new(inner, "packs", Some(folder.path().into()), 5 << 20);
    for number in 0..20 {
        let bytes = noise(1_000_000 + number);
        store.put_if_absent(&named("packs/00", &bytes), &bytes).unwrap();
    }
    let used: u64 = std::fs::read_dir(folder.path())
        .unwrap()
        .flat_map(|sub| std::fs::read_dir(sub.unwrap().path()).unwrap())
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!((2 << 20..=6 << 20).contains(&used), "{used}");
}

#[test]
fn who_reads_directly_sees_what_is_in_the_store() {
    let (folder, inner) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::new()));
    let (small, large) = (noise(1000), noise(3 << 20));
    let paths = (named("index", &small), named("packs", &large));
    let store = counted(folder.path(), &inner);
    store.put_if_absent(&paths.0, &small).unwrap();
    store.put_if_absent(&paths.1, &large).unwrap();
    inner.replace(&paths.0, b"damaged".to_vec());
    inner.replace(&paths.1, vec![7; 3 << 20]);
    let read = |at| store.get_range(&paths.1, at, 10).unwrap();
    assert!(store.get(&paths.0, 1000).unwrap() == small && read(5) == large[5..15]);
    let (outer, nested) = (DirectReads::of(&store), DirectReads::of(&store));
    assert!(store.get(&paths.0, 1000).unwrap() == b"damaged" && read(5) == [7; 10]);
    drop(nested);
    assert_eq!(read(2 << 20), [7; 10]);
    drop(outer);
    assert_eq!(store.get(&paths.0, 1000).unwrap(), small);
}
