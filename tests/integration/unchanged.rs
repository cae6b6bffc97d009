//! "Nothing has changed" is believed only where it is proven, and then costs no reading.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pagevault::clock::{FixedClock, SystemClock};
use pagevault::monitor::{Monitor, Silent};
use pagevault::operations::list::find;
use pagevault::operations::snapshot::{SnapshotReport, SnapshotRequest, snapshot};
use pagevault::operations::status::status;
use pagevault::store::{FaultStore, LoggedOperation, MemoryStore, OperationKind};
use pagevault::vault::{LocalFolders, LockedVault, Vault};
use rusqlite::Connection;

use crate::support::{Collected, create_vault_with, key, memory_vault, request, restore_to};

/// Counts the bytes that an operation says it has worked through.
#[derive(Default)]
struct Meter(AtomicU64);

impl Monitor for Meter {
    fn begin(&self, _: &str, _: &str, _: u64) {}
    fn advance(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }
    fn finish(&self) {}
    fn warn(&self, message: &str) {
        panic!("unexpected warning: {message}");
    }
}

/// A snapshot, and whether pages were read for it.
fn take(vault: &Vault, request: &SnapshotRequest) -> (SnapshotReport, bool) {
    let (meter, mut report) = (Meter::default(), None);
    snapshot(vault, request, &SystemClock, &meter, &mut |_, outcome| report = Some(outcome.unwrap()))
        .unwrap();
    (report.unwrap(), meter.0.into_inner() > 0)
}

/// Longer than the file system's timestamps take to move on.
fn settle() {
    std::thread::sleep(Duration::from_millis(40));
}

fn build(path: &Path, mode: &str) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(&format!(
        "PRAGMA journal_mode={mode}; CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(300000));"
    ))
    .unwrap();
    db
}

/// The newest snapshot holds what the database holds now.
fn assert_current(vault: &Vault, report: &SnapshotReport, path: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    restore_to(vault, &report.snapshot_id.to_string(), &copy).unwrap();
    let all = |path: &Path| -> Vec<Vec<u8>> {
        let db = Connection::open(path).unwrap();
        let mut statement = db.prepare("SELECT CAST(a AS BLOB) FROM t ORDER BY rowid").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(all(path), all(&copy));
}

#[test]
fn a_file_at_rest_is_not_read_again_unless_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    for mode in ["DELETE", "WAL"] {
        drop(build(&path, mode));
        settle();
        let (vault, _) = memory_vault();
        let (first, read) = take(&vault, &request(&[&path]));
        assert!(read);
        let (second, read) = take(&vault, &request(&[&path]));
        assert!(!read, "{mode}");
        assert_eq!((second.parent, second.sha256), (Some(first.snapshot_id), first.sha256));
        assert_eq!(second.chunks.unchanged, first.chunks.total);
        assert_current(&vault, &second, &path);
        let (_, read) = take(&vault, &SnapshotRequest { full_scan: true, ..request(&[&path]) });
        assert!(read);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_file_written_just_before_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    drop(build(&path, "DELETE"));
    let db = Connection::open(&path).unwrap();
    let (vault, _) = memory_vault();
    for _ in 0..20 {
        db.execute("UPDATE t SET a = randomblob(300000)", ()).unwrap();
        take(&vault, &request(&[&path]));
        db.execute("UPDATE t SET a = randomblob(300000)", ()).unwrap();
        let (report, _) = take(&vault, &request(&[&path]));
        assert_current(&vault, &report, &path);
    }
}

#[test]
fn commits_through_a_log_that_was_cleanly_closed_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    drop(build(&path, "WAL"));
    settle();
    let (vault, _) = memory_vault();
    take(&vault, &request(&[&path]));
    for round in 0..5 {
        let db = Connection::open(&path).unwrap();
        db.execute("UPDATE t SET a = 'same length ' || ?1", [round]).unwrap();
        drop(db);
        settle();
        let (report, read) = take(&vault, &request(&[&path]));
        assert!(read);
        assert_current(&vault, &report, &path);
    }
}

#[test]
fn an_open_log_proves_by_its_last_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let db = build(&path, "WAL");
    let (vault, _) = memory_vault();
    take(&vault, &request(&[&path]));
    let (_, read) = take(&vault, &request(&[&path]));
    assert!(!read, "no commit since");
    db.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
    let (report, read) = take(&vault, &request(&[&path]));
    assert!(!read, "a checkpoint changes no content");
    assert_current(&vault, &report, &path);
    db.execute("UPDATE t SET a = 'new'", ()).unwrap();
    let (report, read) = take(&vault, &request(&[&path]));
    assert!(read);
    assert_current(&vault, &report, &path);
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let (report, read) = take(&vault, &request(&[&path]));
    assert!(read, "the log is gone, and the file has not settled yet");
    assert_current(&vault, &report, &path);
}

#[test]
fn an_older_file_with_as_many_commits_and_forged_times_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (path, older) = (folder.path().join("app.db"), folder.path().join("older.db"));
    drop(build(&path, "DELETE"));
    std::fs::copy(&path, &older).unwrap();
    for (file, value) in [(&path, "one"), (&older, "two")] {
        Connection::open(file).unwrap().execute("UPDATE t SET a = ?1", [value]).unwrap();
    }
    settle();
    let (vault, _) = memory_vault();
    take(&vault, &request(&[&path]));
    let modified = path.metadata().unwrap().modified().unwrap();
    // In place, so that device and inode stay; same size, same change counter, and the old modification time.
    std::fs::write(&path, std::fs::read(&older).unwrap()).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    settle();
    let (report, read) = take(&vault, &request(&[&path]));
    assert!(read);
    assert_current(&vault, &report, &path);
}

#[test]
fn a_journal_of_any_kind_ends_the_proof() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    drop(build(&path, "PERSIST"));
    settle();
    assert!(folder.path().join("app.db-journal").exists());
    let (vault, _) = memory_vault();
    take(&vault, &request(&[&path]));
    let (_, read) = take(&vault, &request(&[&path]));
    assert!(read);
}

#[test]
fn what_was_written_just_before_settles_while_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let db = build(&path, "DELETE");
    db.execute_batch("UPDATE t SET a = zeroblob(60000000)").unwrap();
    drop(db);
    let (vault, _) = memory_vault();
    // Reading 60 MB takes longer than the file system's timestamps need.
    take(&vault, &request(&[&path]));
    let (report, read) = take(&vault, &request(&[&path]));
    assert!(!read);
    assert_current(&vault, &report, &path);
}

/// A file at rest, a vault of it, and a client that remembers that its tree is stored whole.
fn remembered() -> (tempfile::TempDir, PathBuf, Arc<MemoryStore>, LocalFolders) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    build(&path, "DELETE").execute_batch("UPDATE t SET a = randomblob(3000000)").unwrap();
    settle();
    let folders = LocalFolders { cache: Some(folder.path().join("cache")), state: None };
    let store = Arc::new(MemoryStore::new());
    let vault = create_vault_with(Box::new(Arc::clone(&store)), &folders);
    take(&vault, &request(&[&path]));
    (folder, path, store, folders)
}

fn reopened(store: &Arc<MemoryStore>, folders: &LocalFolders) -> Vault {
    LockedVault::find(Box::new(Arc::clone(store))).unwrap().unlock(&key(), folders).unwrap()
}

#[test]
fn a_tree_that_is_remembered_costs_no_reading_of_packs() {
    let (_folder, path, store, folders) = remembered();
    let counting = Arc::new(FaultStore::new(Arc::clone(&store)));
    let vault = LockedVault::find(Box::new(Arc::clone(&counting))).unwrap().unlock(&key(), &folders).unwrap();
    counting.reset();
    let (_, read) = take(&vault, &request(&[&path]));
    assert!(!read);
    let reads_packs =
        |o: &LoggedOperation| o.path.starts_with("packs/") && matches!(o.kind, OperationKind::ReadRange);
    assert!(!counting.log().iter().any(reads_packs), "nodes of the tree were read");
}

#[test]
fn a_memory_is_not_trusted_over_the_vault() {
    for lost in ["packs/", "index/"] {
        let (_folder, path, store, folders) = remembered();
        // A second time, so that what is remembered rests on all that there is.
        take(&reopened(&store, &folders), &request(&[&path]));
        for object in store.paths().into_iter().filter(|path| path.as_str().starts_with(lost)) {
            store.remove(&object).unwrap();
        }
        let mut report = None;
        let wanted = request(&[&path]);
        let vault = reopened(&store, &folders);
        snapshot(&vault, &wanted, &SystemClock, &Silent, &mut |_, outcome| report = Some(outcome.unwrap()))
            .unwrap();
        let report = report.unwrap();
        assert_eq!(report.chunks.full, report.chunks.total, "{lost}");
        assert_current(&vault, &report, &path);
        // Whole again, and remembered as that, though packs are still missing.
        let vault = reopened(&store, &folders);
        let mut read = 0;
        snapshot(&vault, &wanted, &SystemClock, &Silent, &mut |_, outcome| {
            read = outcome.unwrap().chunks.full;
        })
        .unwrap();
        assert_eq!(read, 0, "{lost}");
    }
}

#[test]
fn a_vault_that_lost_a_pack_gets_what_it_held_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    build(&path, "DELETE").execute_batch("UPDATE t SET a = randomblob(3000000)").unwrap();
    settle();
    for lost in ["packs/", "index/"] {
        let (vault, store) = memory_vault();
        take(&vault, &request(&[&path]));
        for object in store.paths().into_iter().filter(|path| path.as_str().starts_with(lost)) {
            store.remove(&object).unwrap();
        }
        let vault = crate::support::open_vault(Box::new(store)).unwrap();
        let mut report = None;
        snapshot(&vault, &request(&[&path]), &SystemClock, &Silent, &mut |_, outcome| {
            report = Some(outcome.unwrap());
        })
        .unwrap();
        assert_current(&vault, &report.unwrap(), &path);
    }
}

/// A clock that was wrong once neither makes every later snapshot one of everything, nor hides it.
#[test]
fn what_is_dated_in_the_future_is_nobody_s_parent_and_not_the_latest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    drop(build(&path, "DELETE"));
    let (vault, _) = memory_vault();
    let request = request(&[&path]);
    let ahead = FixedClock(jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 300));
    snapshot(&vault, &request, &ahead, &Silent, &mut |_, outcome| drop(outcome.unwrap())).unwrap();
    settle();
    let (first, _) = take(&vault, &request);
    assert_eq!(first.chunks.full + first.chunks.delta, 0);
    let (second, was_read) = take(&vault, &request);
    assert!(second.parent == Some(first.snapshot_id) && !was_read, "{second:?}");
    let (now, heard) = (jiff::Timestamp::now(), Collected::default());
    for spec in ["latest", "app@latest"] {
        let found = find(&vault, &spec.parse().unwrap(), now, &heard).unwrap();
        assert_eq!(found.id, second.snapshot_id, "{spec}");
    }
    assert!(heard.warnings().iter().all(|warning| warning.contains("dated in the future")), "{heard:?}");
    assert_eq!(heard.warnings().len(), 2);
    let kept = |now| status(&vault, now, &Silent).unwrap().databases.remove(0).kept_at;
    assert_eq!(kept(now), Some(second.created_at));
    // Where all are of the future, it may be this clock that is wrong.
    let long_ago = "2020-01-01T00:00:00Z".parse().unwrap();
    let found = find(&vault, &"latest".parse().unwrap(), long_ago, &Silent).unwrap();
    assert!(found.id != second.snapshot_id && kept(long_ago).is_none());
}
