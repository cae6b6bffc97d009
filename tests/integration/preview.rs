//! What a dry run of a restore says is what the restore does; and it does nothing.

use std::path::Path;
use std::time::Duration;

use pagevault::clock::SystemClock;
use pagevault::monitor::Silent;
use pagevault::operations::preview::{RestorePreview, preview_restore, preview_restore_into};
use pagevault::operations::restore::{Method, RestoreRequest};
use pagevault::operations::restore_into::LiveRestoreRequest;
use pagevault::sqlite::TableChange;
use pagevault::store::MemoryStore;
use pagevault::vault::Vault;
use rusqlite::Connection;

use crate::children::holder;
use crate::databases::{contents, create, difference, execute, with_suffix};
use crate::support::{memory_vault, request, restore_live, restore_to, take};

fn preview(vault: &Vault, id: &str, target: &Path) -> RestorePreview {
    let host = request(&[target]).host;
    let request = LiveRestoreRequest::new(id.parse().unwrap(), target, host);
    preview_restore_into(vault, &request, &SystemClock, &Silent).unwrap()
}

/// Rows added, removed and changed, by sets: for tables with a key in their first column and no equal rows.
fn by_sets(live: &Path, image: &Path, table: &str, key: &str) -> [u64; 3] {
    let connection = Connection::open(live).unwrap();
    connection.execute("ATTACH ?1 AS image", [image.to_str().unwrap()]).unwrap();
    let count = |from: &str, other: &str, what: &str| -> u64 {
        let sql = format!(
            "SELECT count(*) FROM (SELECT {what} FROM {from}.{table} EXCEPT SELECT {what} FROM {other}.{table})"
        );
        connection.query_row(&sql, (), |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    };
    let added = count("image", "main", key);
    [added, count("main", "image", key), count("image", "main", "*") - added]
}

fn counts(preview: &RestorePreview, table: &str) -> [u64; 3] {
    let found = preview.tables.iter().find(|found| found.table == table);
    found.map_or([0; 3], |found| [found.rows_added, found.rows_removed, found.rows_changed])
}

fn objects(store: &MemoryStore) -> Vec<String> {
    store.objects().into_iter().map(|(path, _)| path.as_str().to_owned()).collect()
}

const KEYED: &str =
    "CREATE TABLE keyed(name TEXT COLLATE NOCASE, part INT, v, PRIMARY KEY(name DESC, part)) WITHOUT ROWID;
    INSERT INTO keyed SELECT 'Name ' || id, id % 3, x FROM t;
    CREATE VIRTUAL TABLE words USING fts5(text); INSERT INTO words SELECT y FROM t;";

#[test]
fn it_says_what_the_restore_then_does_and_does_nothing() {
    for form in [
        "PRAGMA journal_mode = wal",
        "PRAGMA journal_mode = delete; PRAGMA page_size = 1024",
        "PRAGMA encoding = 'UTF-16le'",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("app.db");
        create(&database, form);
        execute(&database, KEYED);
        let (vault, store) = memory_vault();
        let early = take(&vault, &database).unwrap().snapshot_id.to_string();
        execute(
            &database,
            "DELETE FROM t WHERE id BETWEEN 20 AND 29; UPDATE t SET y = y || '!' WHERE id % 50 = 1;
             INSERT INTO t SELECT id + 5000, x, y FROM t WHERE id < 20; DELETE FROM keyed WHERE part = 2 AND name < 'name 2';
             UPDATE keyed SET v = 1 WHERE part = 1 AND name > 'name 40'; INSERT INTO words VALUES('more');
             CREATE TABLE extra(a); INSERT INTO extra VALUES(1), (2), (3); ALTER TABLE t ADD COLUMN z DEFAULT 5",
        );
        // One whose later state the vault has, one whose it has not.
        for is_stored in [false, true] {
            if is_stored {
                take(&vault, &database).unwrap();
            }
            let image = folder.path().join("image.db");
            restore_to(&vault, &early, &image).unwrap();
            execute(&image, "ALTER TABLE t ADD COLUMN z DEFAULT 5");
            let expected = [("t", "id"), ("keyed", "name, part")]
                .map(|(table, key)| (table, by_sets(&database, &image, table, key)));
            std::fs::remove_file(&image).unwrap();
            let (before, stored) = (contents(folder.path()), objects(&store));
            let said = preview(&vault, &early, &database);
            // A reader leaves an empty log and its index behind.
            let mut changed = difference(&before, &contents(folder.path()));
            changed.retain(|name| name != "app.db-shm" && name != "app.db-wal");
            assert_eq!(changed, Vec::<std::ffi::OsString>::new(), "{form}");
            let log = std::fs::metadata(with_suffix(&database, "-wal")).map_or(0, |log| log.len());
            assert_eq!(log, 0, "{form}");
            assert_eq!(objects(&store), stored, "{form}");
            for (table, wanted) in expected {
                assert!(wanted.iter().sum::<u64>() > 20, "{form} {table} {wanted:?}");
                assert_eq!(counts(&said, table), wanted, "{form} {table}");
            }
            let extra = said.tables.iter().find(|table| table.table == "extra").unwrap();
            assert_eq!((extra.change, extra.rows_removed), (TableChange::Removed, 3));
            assert_eq!(said.schema_changes, ["table extra removed", "table t: column z removed"]);
            let left: Vec<_> = said.not_compared.iter().map(|left| left.table.as_deref().unwrap()).collect();
            assert_eq!(left, ["words"], "{form}");
            assert_eq!((said.method, said.verified.sha256), (Method::Pages, Some(true)));
        }
        let pages = preview(&vault, &early, &database).pages.unwrap();
        let restored = restore_live(&vault, &early, &database).unwrap();
        assert_eq!(pages.changed + pages.added, restored.pages_written, "{form}");
        let said = preview(&vault, &early, &database);
        assert_eq!(said.pages, Some(Default::default()), "{form}");
        assert!(said.tables.is_empty() && said.schema_changes.is_empty() && said.not_compared.is_empty());
        // The way back has the opposite signs.
        let back = preview(&vault, &restored.safety_snapshot.unwrap().to_string(), &database);
        let extra = back.tables.iter().find(|table| table.table == "extra").unwrap();
        assert_eq!((extra.change, extra.rows_added), (TableChange::Added, 3));
    }
}

/// What the vault does not have is more than is kept in memory: rows are read while the database is held.
#[test]
fn much_that_is_new_is_compared_in_the_same_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("app.db");
    create(&database, "PRAGMA journal_mode = wal");
    let (vault, _) = memory_vault();
    let early = take(&vault, &database).unwrap().snapshot_id.to_string();
    execute(
        &database,
        "WITH RECURSIVE n(v) AS (SELECT 1000 UNION ALL SELECT v + 1 FROM n LIMIT 40000)
         INSERT INTO t SELECT v, randomblob(1000), NULL FROM n; UPDATE t SET y = 'x' WHERE id = 5",
    );
    let said = preview(&vault, &early, &database);
    assert_eq!(counts(&said, "t"), [0, 40_000, 1]);
    assert!(said.pages.unwrap().removed > 9000, "{:?}", said.pages);
    assert!(said.not_compared.is_empty());
}

#[test]
fn what_would_be_replaced_is_compared_as_far_as_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("app.db");
    create(&database, "");
    let (vault, _) = memory_vault();
    let early = take(&vault, &database).unwrap().snapshot_id.to_string();
    execute(&database, "DELETE FROM t WHERE id = 5; PRAGMA page_size = 8192; VACUUM");
    let reader = holder(&database, "SELECT count(*) FROM t");
    let said = preview(&vault, &early, &database);
    assert_eq!((said.method, said.pages), (Method::Replaced, None));
    assert!(said.replaced_because.unwrap().contains("pages of 4096 bytes, it has 8192"));
    assert!(said.in_use_by[0].contains(&reader.id().to_string()), "{:?}", said.in_use_by);
    assert_eq!(counts_of_rows(&said.tables), (1, 0, 0));
    reader.kill();
    // By path, nothing is asked of anybody.
    let request = RestoreRequest::new(early.parse().unwrap(), &database);
    let said = preview_restore(&vault, &request, Duration::from_secs(5), &SystemClock, &Silent).unwrap();
    assert_eq!((said.method, counts_of_rows(&said.tables)), (Method::Replaced, (1, 0, 0)));
    // Empty: all would come back.
    std::fs::remove_file(&database).unwrap();
    std::fs::write(&database, "").unwrap();
    let said = preview(&vault, &early, &database);
    assert!(said.pages.unwrap().added > 10);
    assert!(said.tables.iter().any(|table| table.table == "t" && table.change == TableChange::Added));
    let request = RestoreRequest::new(early.parse().unwrap(), folder.path().join("new.db"));
    let said = preview_restore(&vault, &request, Duration::from_secs(5), &SystemClock, &Silent).unwrap();
    assert_eq!((said.method, said.tables.len()), (Method::File, 0));
    assert!(!folder.path().join("new.db").exists());
}

fn counts_of_rows(tables: &[pagevault::sqlite::TableDifference]) -> (u64, u64, u64) {
    tables.iter().fold((0, 0, 0), |sum, table| {
        (sum.0 + table.rows_added, sum.1 + table.rows_removed, sum.2 + table.rows_changed)
    })
}

/// In rollback mode a reader makes writers wait: rows are compared after it is over.
#[test]
fn writers_wait_only_while_pages_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("app.db");
    create(&database, "PRAGMA journal_mode = delete");
    let (vault, _) = memory_vault();
    let early = take(&vault, &database).unwrap().snapshot_id.to_string();
    execute(&database, "UPDATE t SET y = 'x'");
    // A row of the snapshot is only read when nobody holds the database any more.
    struct Writes<'a>(&'a Path, std::sync::atomic::AtomicU32);
    impl pagevault::monitor::Monitor for Writes<'_> {
        fn begin(&self, _: &str, _: &str, _: u64) {}
        fn advance(&self, _: u64) {}
        fn finish(&self) {}
        fn warn(&self, _: &str) {}
        fn interrupted(&self) -> bool {
            // Asked while rows are merged, too.
            let written = Connection::open(self.0).and_then(|connection| {
                connection.busy_timeout(Duration::ZERO)?;
                connection.execute("UPDATE t SET y = 'later' WHERE id = 1", ())
            });
            self.1.fetch_add(u32::from(written.is_ok()), std::sync::atomic::Ordering::Relaxed);
            false
        }
    }
    execute(
        &database,
        "WITH RECURSIVE n(v) AS (SELECT 1000 UNION ALL SELECT v + 1 FROM n LIMIT 3000) INSERT INTO t(id) SELECT v FROM n",
    );
    let monitor = Writes(&database, std::sync::atomic::AtomicU32::new(0));
    let host = request(&[&database]).host;
    let request = LiveRestoreRequest::new(early.parse().unwrap(), &database, host);
    let said = preview_restore_into(&vault, &request, &SystemClock, &monitor).unwrap();
    assert_eq!(counts(&said, "t")[1], 3000);
    // Written before the transaction began, and after it was over; what is compared is the state of the transaction.
    assert!(monitor.1.into_inner() >= 2);
}
