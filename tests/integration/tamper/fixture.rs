//! A vault worth damaging: two databases, several snapshots, deltas, chunks shared between the databases and,
//! if wanted, trees of two levels; and what each snapshot needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pagevault::format::envelope::{Header, ObjectKind};
use pagevault::store::{FaultStore, MemoryStore, ObjectPath, OperationKind};
use rusqlite::Connection;

use pagevault::vault::LocalFolders;

use crate::support::{create_vault_with, open_vault, restore_to, take};

/// A snapshot and the bytes it must give.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) image: Vec<u8>,
    /// Objects without which it cannot be restored.
    pub(crate) needs: BTreeSet<ObjectPath>,
    /// The object that holds its manifest.
    pub(crate) published_in: ObjectPath,
}

/// A vault at rest, and its history.
pub(crate) struct Fixture {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: MemoryStore,
    pub(crate) snapshots: Vec<Kept>,
    /// A database of which there are snapshots, as it is now.
    pub(crate) database: PathBuf,
}

/// Files that come and go quickly: in memory, where the system offers that.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

pub(crate) fn kind_of(bytes: &[u8]) -> Option<ObjectKind> {
    Header::decode(bytes).ok().map(|(header, _)| header.kind)
}

fn build(path: &Path, large: bool) {
    let db = Connection::open(path).unwrap();
    db.execute_batch("PRAGMA page_size = 4096; CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT); BEGIN")
        .unwrap();
    for row in 0..5000u32 {
        let noise = row.wrapping_mul(2_654_435_761);
        db.execute("INSERT INTO t(body) VALUES(?1)", [format!("row {row} {noise:x} {}", "word ".repeat(9))])
            .unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
    if large {
        // More than 256 chunks, so that the tree has two levels; empty pages cost next to nothing.
        db.execute_batch("CREATE TABLE blank(b BLOB); INSERT INTO blank VALUES(zeroblob(17000000))").unwrap();
    }
}

fn change(path: &Path, round: u32) {
    let db = Connection::open(path).unwrap();
    db.execute("UPDATE t SET body = 'changed in round ' || ?1 || body WHERE id IN (?1, ?1 + 2500)", [round])
        .unwrap();
}

impl Fixture {
    pub(crate) fn new(large: bool) -> Self {
        let folder = scratch();
        let database = folder.path().join("first.db");
        let other = folder.path().join("second.db");
        build(&database, large);
        std::fs::copy(&database, &other).unwrap();
        change(&other, 7);
        let store = Arc::new(MemoryStore::new());
        // One client that remembers, so that the log is one chain.
        let folders = LocalFolders { cache: None, state: Some(folder.path().join("state")) };
        let vault = create_vault_with(Box::new(Arc::clone(&store)), &folders);
        let mut made = Vec::new();
        let mut written_in_run: BTreeMap<ObjectPath, usize> = BTreeMap::new();
        for (run, path) in [&database, &other, &database, &other].into_iter().enumerate() {
            let report = take(&vault, path).unwrap();
            match run {
                0 => assert!(report.chunks.full > 0, "{report:?}"),
                1 => assert!(report.chunks.deduplicated > 0, "{report:?}"),
                _ => assert!(report.chunks.delta > 0, "{report:?}"),
            }
            made.push((report.snapshot_id.to_string(), std::fs::read(path).unwrap()));
            for path in store.paths() {
                written_in_run.entry(path).or_insert(run);
            }
            change(path, 100 + u32::try_from(run).unwrap());
        }
        let snapshots = made
            .into_iter()
            .enumerate()
            .map(|(run, (id, image))| {
                let published_in = written_in_run
                    .iter()
                    .find(|(path, written)| **written == run && path.as_str().starts_with("snapshots/"))
                    .map(|(path, _)| path.clone())
                    .unwrap();
                let packs = packs_read(&store, &id, folder.path());
                let runs: BTreeSet<usize> = packs.iter().map(|pack| written_in_run[pack]).collect();
                let indexes = written_in_run
                    .iter()
                    .filter(|(path, run)| path.as_str().starts_with("index/") && runs.contains(run))
                    .map(|(path, _)| path.clone());
                let needs = packs.iter().cloned().chain(indexes).chain([published_in.clone()]).collect();
                Kept { id, image, needs, published_in }
            })
            .collect();
        Self { folder, store: store.fork(), snapshots, database }
    }

    /// The same vault with a folder and a database of its own, for another thread.
    pub(crate) fn apart(&self) -> Self {
        let folder = scratch();
        let database = self.database.clone();
        let snapshots = self.snapshots.clone();
        Self { folder, store: self.store.fork(), snapshots, database }
    }

    /// All objects with their kind; what is no object is left out.
    pub(crate) fn objects(&self) -> Vec<(ObjectPath, Vec<u8>, ObjectKind)> {
        let objects = self.store.objects().into_iter();
        objects.filter_map(|(path, bytes)| kind_of(&bytes).map(|kind| (path, bytes.to_vec(), kind))).collect()
    }
}

/// The packs that restoring a snapshot reads.
fn packs_read(store: &MemoryStore, id: &str, folder: &Path) -> BTreeSet<ObjectPath> {
    let watched = Arc::new(FaultStore::new(store.fork()));
    let vault = open_vault(Box::new(Arc::clone(&watched))).unwrap();
    restore_to(&vault, id, &folder.join("probe")).unwrap();
    std::fs::remove_file(folder.join("probe")).unwrap();
    let log = watched.log().into_iter();
    log.filter(|operation| operation.kind == OperationKind::ReadRange)
        .map(|operation| ObjectPath::new(operation.path).unwrap())
        .collect()
}
