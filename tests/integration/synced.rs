//! Copies of real vaults: usable with the key alone at every moment of the copying, whatever happens meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pagevault::clock::SystemClock;
use pagevault::error::ErrorKind;
use pagevault::monitor::Silent;
use pagevault::operations::check::{CheckRequest, DataLevel, check};
use pagevault::operations::list::{ListFilter, list};
use pagevault::operations::sync::{SyncRequest, sync};
use pagevault::store::{FallbackStore, Fault, FaultStore, MemoryStore, ObjectPath, Say, Store};
use pagevault::vault::Vault;
use rusqlite::Connection;

use crate::support::{memory_vault, open_vault, restore_to, take};
use crate::tamper::fixture::scratch;

/// A database and what it was at each snapshot.
struct World {
    folder: tempfile::TempDir,
    database: PathBuf,
    kept: Vec<(String, Vec<u8>)>,
}

impl World {
    fn new() -> Self {
        let folder = scratch();
        let database = folder.path().join("app.db");
        let db = Connection::open(&database).unwrap();
        db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT); BEGIN").unwrap();
        for row in 0..2000u32 {
            let text = format!("row {row} {:x}", row.wrapping_mul(2_654_435_761));
            db.execute("INSERT INTO t(body) VALUES(?1)", [text]).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
        Self { folder, database, kept: Vec::new() }
    }

    fn snapshot(&mut self, vault: &Vault) {
        let db = Connection::open(&self.database).unwrap();
        db.execute("UPDATE t SET body = body || '!' WHERE id % 7 = ?1", [self.kept.len() as u32]).unwrap();
        drop(db);
        let report = take(vault, &self.database).unwrap();
        self.kept.push((report.snapshot_id.to_string(), std::fs::read(&self.database).unwrap()));
    }

    /// That `copy` is a vault in which every snapshot that shows is whole; how many there are.
    fn judge(&self, copy: &MemoryStore) -> usize {
        let vault = match open_vault(Box::new(copy.fork())) {
            Ok(vault) => vault,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                assert!(copy.paths().iter().all(|path| path.folder() != "packs"), "packs before the config");
                return 0;
            }
        };
        let shown = list(&vault, &ListFilter::default(), &Silent).unwrap();
        let target = self.folder.path().join("restored.db");
        for snapshot in &shown {
            let id = snapshot.snapshot_id.to_string();
            restore_to(&vault, &id, &target).unwrap();
            let (_, image) = self.kept.iter().find(|(kept, _)| *kept == id).unwrap();
            assert!(std::fs::read(&target).unwrap() == *image, "{id} differs");
            std::fs::remove_file(&target).unwrap();
        }
        shown.len()
    }
}

fn one_by_one() -> SyncRequest {
    SyncRequest { transfers: std::num::NonZeroUsize::MIN, ..SyncRequest::default() }
}

#[test]
fn a_copy_is_usable_wherever_copying_was_cut_off() {
    let mut world = World::new();
    let (vault, source) = memory_vault();
    world.snapshot(&vault);
    let earlier = MemoryStore::new();
    sync(&source, &earlier, &SyncRequest::default(), &Silent).unwrap();
    world.snapshot(&vault);
    world.snapshot(&vault);
    for (begun, least) in [(MemoryStore::new(), 0), (earlier, 1)] {
        let whole = FaultStore::new(begun.fork());
        sync(&source, &whole, &one_by_one(), &Silent).unwrap();
        let mut counts = Vec::new();
        for operation in 0..whole.operations() {
            let fault = if operation % 2 == 0 { Fault::Before } else { Fault::After };
            let destination = FaultStore::new(begun.fork());
            destination.crash_at(operation, fault);
            sync(&source, &destination, &one_by_one(), &Silent).unwrap_err();
            counts.push(world.judge(destination.inner()));
            destination.reset();
            sync(&source, &destination, &one_by_one(), &Silent).unwrap();
            assert_eq!(destination.inner().objects(), source.objects());
        }
        assert!(counts.is_sorted() && counts.contains(&least), "{counts:?}");
        assert_eq!(world.judge(whole.inner()), 3);
    }
}

#[test]
fn copies_taken_while_snapshots_are_made_are_sound() {
    let mut world = World::new();
    let (vault, source) = memory_vault();
    world.snapshot(&vault);
    let done = AtomicBool::new(false);
    let copies = std::thread::scope(|scope| {
        let copier = scope.spawn(|| {
            let mut copies = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let copy = MemoryStore::new();
                sync(&source, &copy, &SyncRequest::default(), &Silent).unwrap();
                copies.push(copy);
            }
            copies
        });
        for _ in 0..6 {
            world.snapshot(&vault);
        }
        done.store(true, Ordering::Relaxed);
        copier.join().unwrap()
    });
    for copy in copies.iter().take(10) {
        world.judge(copy);
        let copied = open_vault(Box::new(copy.fork())).unwrap();
        let request = CheckRequest { data: DataLevel::All, test_restore: None };
        let report = check(&copied, &request, &SystemClock, &Silent).unwrap();
        // The log may be ahead of or behind the manifests by what was made meanwhile; no data is.
        let harmful = report.problems.iter().filter(|problem| problem.kind != "unlogged");
        assert_eq!(harmful.count(), 0, "{:?}", report.problems);
    }
}

#[test]
fn a_copy_can_be_written_to_and_copied_back() {
    let mut world = World::new();
    let (vault, source) = memory_vault();
    world.snapshot(&vault);
    let copy = Arc::new(MemoryStore::new());
    sync(&source, &copy, &SyncRequest::default(), &Silent).unwrap();
    let elsewhere = open_vault(Box::new(Arc::clone(&copy))).unwrap();
    world.snapshot(&elsewhere);
    world.snapshot(&vault);
    sync(&copy, &source, &SyncRequest::default(), &Silent).unwrap();
    sync(&source, &copy, &SyncRequest::default(), &Silent).unwrap();
    assert_eq!(copy.objects(), source.objects());
    assert_eq!(world.judge(&source), 3);
}

fn damage(store: &MemoryStore, folder: &str) -> Vec<ObjectPath> {
    let all: Vec<_> =
        store.objects().into_iter().filter(|(path, _)| path.as_str().starts_with(folder)).collect();
    for (path, bytes) in &all {
        let mut bytes = bytes.to_vec();
        for at in (100..bytes.len()).step_by(200) {
            bytes[at] ^= 1;
        }
        store.replace(path, bytes);
    }
    all.into_iter().map(|(path, _)| path).collect()
}

#[test]
fn a_restore_turns_to_a_copy_for_what_is_damaged_or_missing() {
    let mut world = World::new();
    let (vault, source) = memory_vault();
    world.snapshot(&vault);
    world.snapshot(&vault);
    let copy = Arc::new(MemoryStore::new());
    sync(&source, &copy, &SyncRequest::default(), &Silent).unwrap();
    for folder in ["packs", "index", "snapshots"] {
        for lose in [false, true] {
            let hurt = source.fork();
            let paths = damage(&hurt, folder);
            if lose {
                paths.iter().for_each(|path| drop(hurt.remove(path)));
            }
            let target = world.folder.path().join("restored.db");
            let alone = open_vault(Box::new(hurt.fork())).unwrap();
            assert!(restore_to(&alone, &world.kept[1].0, &target).is_err());
            let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
            let ear = Arc::clone(&heard);
            let say: Say = Box::new(move |told| ear.lock().unwrap().push(format!("{told:?}")));
            let copies: Vec<Box<dyn Store>> = vec![Box::new(Arc::clone(&copy))];
            let vault = open_vault(Box::new(FallbackStore::new(hurt, copies, say))).unwrap();
            for (id, image) in &world.kept {
                restore_to(&vault, id, &target).unwrap();
                assert!(std::fs::read(&target).unwrap() == *image);
                remove(&target);
            }
            let heard = heard.lock().unwrap();
            assert!(
                heard.iter().any(|message| message.starts_with(&format!("Mendable(\"{folder}"))),
                "{folder}: {heard:?}"
            );
        }
    }
}

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}
