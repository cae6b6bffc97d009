//! Snapshot, then restore: the file must be what it was, byte for byte.

use std::path::Path;

use pagevault::checksum::sha256_portable;
use rusqlite::Connection;

use crate::support::{memory_vault, open_vault, restore_to, take};

fn build(path: &Path, pragmas: &str, rows: u32) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(pragmas).unwrap();
    db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT); CREATE INDEX i ON t(body);")
        .unwrap();
    db.execute_batch("BEGIN").unwrap();
    for row in 0..rows {
        db.execute(
            "INSERT INTO t(body) VALUES(?1)",
            [format!("row {row} {}", "text ".repeat(row as usize % 40))],
        )
        .unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

/// Snapshots `path` and restores it: the copy has the reported checksum, and that of the source at rest.
fn round_trip(path: &Path) {
    let (vault, store) = memory_vault();
    let report = take(&vault, path).unwrap();
    let copy = path.with_extension("copy");
    let vault = open_vault(Box::new(store)).unwrap();
    let restored = restore_to(&vault, &report.snapshot_id.to_string(), &copy).unwrap();
    let (source, copy) = (std::fs::read(path).unwrap(), std::fs::read(copy).unwrap());
    assert_eq!(source, copy);
    assert_eq!(restored.sha256, sha256_portable(&copy));
    assert_eq!(restored.sha256, report.sha256);
}

#[test]
fn every_page_size_in_both_journal_modes() {
    let folder = tempfile::tempdir().unwrap();
    for bits in 9..=16 {
        for mode in ["DELETE", "WAL"] {
            let path = folder.path().join(format!("{bits}-{mode}.db"));
            build(&path, &format!("PRAGMA page_size={}; PRAGMA journal_mode={mode}", 1 << bits), 3000);
            round_trip(&path);
        }
    }
}

#[test]
fn an_hour_of_small_changes_is_stored_as_deltas() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    build(&path, "PRAGMA journal_mode=WAL", 20_000);
    let (vault, store) = memory_vault();
    let first = take(&vault, &path).unwrap();
    let mut ids = Vec::new();
    for hour in 0..5 {
        let db = Connection::open(&path).unwrap();
        db.execute("UPDATE t SET body = 'changed in hour ' || ?1 WHERE id % 5000 = 7", [hour]).unwrap();
        drop(db);
        let report = take(&vault, &path).unwrap();
        assert!(report.chunks.delta > 0, "{report:?}");
        assert!(report.stored_bytes * 10 < first.stored_bytes, "{report:?}");
        ids.push((report, std::fs::read(&path).unwrap()));
    }
    let vault = open_vault(Box::new(store)).unwrap();
    for (report, bytes) in ids {
        let copy = folder.path().join(report.snapshot_id.to_string());
        restore_to(&vault, &report.snapshot_id.to_string(), &copy).unwrap();
        assert_eq!(std::fs::read(copy).unwrap(), bytes);
    }
}

#[test]
fn an_unchanged_database_stores_no_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    build(&path, "", 5000);
    let (vault, _) = memory_vault();
    let first = take(&vault, &path).unwrap();
    let second = take(&vault, &path).unwrap();
    assert_eq!(second.parent, Some(first.snapshot_id));
    assert_eq!((second.chunks.unchanged, second.stored_bytes), (second.chunks.total, 0));
    assert_eq!(second.sha256, first.sha256);
}
