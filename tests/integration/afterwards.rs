//! In rollback mode the checksum of a large image is taken when the database is no longer held: whatever becomes of the
//! file meanwhile, it is that of the image.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use pagevault::clock::SystemClock;
use pagevault::monitor::Monitor;
use pagevault::operations::snapshot::{SnapshotReport, snapshot};
use pagevault::vault::Vault;
use rusqlite::Connection;

use crate::support::{memory_vault, request, restore_to};

/// Does something to the database when the checksum is about to be taken, and counts what is read for it.
struct Meanwhile<'a> {
    path: PathBuf,
    deed: &'a (dyn Fn(&Path) + Sync),
    steps: Mutex<Vec<(String, u64)>>,
}

impl Monitor for Meanwhile<'_> {
    fn begin(&self, verb: &str, _: &str, _: u64) {
        self.steps.lock().unwrap().push((verb.to_owned(), 0));
        if verb == "checksum" {
            (self.deed)(&self.path);
        }
    }
    fn advance(&self, amount: u64) {
        self.steps.lock().unwrap().last_mut().unwrap().1 += amount;
    }
    fn finish(&self) {}
    fn warn(&self, message: &str) {
        panic!("unexpected warning: {message}");
    }
}

fn build(path: &Path, mode: &str) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(&format!(
        "PRAGMA journal_mode={mode}; CREATE TABLE t(id INTEGER PRIMARY KEY, a);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 4500)
         INSERT INTO t SELECT i, printf('%02000d', i * 7919) FROM n;"
    ))
    .unwrap();
}

/// A snapshot while `deed` is done after the hold; it must be the file as it was before.
fn take(vault: &Vault, path: &Path, deed: &(dyn Fn(&Path) + Sync)) -> (SnapshotReport, Vec<(String, u64)>) {
    let before = std::fs::read(path).unwrap();
    let meanwhile = Meanwhile { path: path.to_path_buf(), deed, steps: Mutex::default() };
    let mut report = None;
    snapshot(vault, &request(&[path]), &SystemClock, &meanwhile, &mut |_, outcome| {
        report = Some(outcome.unwrap());
    })
    .unwrap();
    let report = report.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    let restored = restore_to(vault, &report.snapshot_id.to_string(), &copy).unwrap();
    assert!(std::fs::read(&copy).unwrap() == before);
    assert_eq!((restored.sha256, restored.verified.sha256), (report.sha256, Some(true)));
    (report, meanwhile.steps.into_inner().unwrap())
}

#[test]
fn the_checksum_is_that_of_the_image_whatever_becomes_of_the_file() {
    let write = |path: &Path| {
        // Busy at once where the snapshot still held it.
        let db = Connection::open(path).unwrap();
        db.busy_timeout(std::time::Duration::ZERO).unwrap();
        db.execute_batch("UPDATE t SET a = printf('%02000d', id * 13) WHERE id % 7 = 0").unwrap();
    };
    let shrink = |path: &Path| {
        let db = Connection::open(path).unwrap();
        db.execute_batch("DELETE FROM t WHERE id > 500; VACUUM").unwrap();
    };
    let other_pages = |path: &Path| {
        Connection::open(path).unwrap().execute_batch("PRAGMA page_size=512; VACUUM").unwrap();
    };
    let gone = |path: &Path| {
        std::fs::remove_file(path).unwrap();
        build(path, "DELETE");
    };
    let empty = |path: &Path| std::fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap();
    let deeds: [&(dyn Fn(&Path) + Sync); 6] = [&|_| {}, &write, &shrink, &other_pages, &gone, &empty];
    let (vault, _) = memory_vault();
    for (number, deed) in deeds.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("app{number}.db"));
        build(&path, "DELETE");
        let (report, steps) = take(&vault, &path, deed);
        let expected = [("snapshot".to_owned(), report.size), ("checksum".to_owned(), report.size)];
        assert_eq!(steps, expected, "deed {number}");
        // Once more, with a parent, when only a little has changed.
        if number <= 1 {
            Connection::open(&path).unwrap().execute("UPDATE t SET a = 'x' WHERE id < 5", ()).unwrap();
            let (report, _) = take(&vault, &path, deed);
            assert!(report.chunks.delta > 0, "{report:?}");
            assert!(number == 1 || report.chunks.unchanged > 0, "{report:?}");
        }
    }
}

#[test]
fn where_nobody_waits_the_file_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, _) = memory_vault();
    let path = folder.path().join("log.db");
    build(&path, "WAL");
    let (report, steps) = take(&vault, &path, &|_| {});
    assert_eq!(steps, [("snapshot".to_owned(), report.size)]);
    let path = folder.path().join("small.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
    let (report, steps) = take(&vault, &path, &|_| {});
    assert_eq!(steps, [("snapshot".to_owned(), report.size)]);
}
