//! Histories drawn by lot: two databases of one vault are edited, vacuumed, shrunk, given other page sizes, schemas and
//! journal modes, replaced by copies and by restores, and snapshotted in between. The model is a plain copy of each
//! file, taken at rest; in the end every snapshot must be its copy, byte for byte.
//!
//! Thirty histories in the normal run; `PAGEVAULT_HISTORIES` is for more, and `PAGEVAULT_HISTORY_SEED` repeats one.

#![allow(clippy::print_stderr, reason = "a history that fails is told")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pagevault::clock::SystemClock;
use pagevault::ids::SnapshotId;
use pagevault::monitor::Silent;
use pagevault::operations::assemble::assemble;
use pagevault::operations::check::{CheckRequest, DataLevel, check};
use pagevault::operations::list::{SnapshotSpec, find};
use pagevault::store::MemoryStore;
use pagevault::vault::Vault;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::databases::{Random, settled, with_suffix};
use crate::support::{memory_vault, open_vault, request, restore_with, run};

const PAGE_SIZES: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];
const STEPS: usize = 24;

struct History {
    seed: u64,
    random: Random,
    folder: tempfile::TempDir,
    vault: Vault,
    store: Arc<MemoryStore>,
    /// Every snapshot with its database and the bytes that it must have.
    taken: Vec<(SnapshotId, usize, Vec<u8>)>,
    told: Vec<String>,
    tables: usize,
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("history {} went wrong after: {}", self.seed, self.told.join("; "));
        }
    }
}

impl History {
    fn new(seed: u64) -> Self {
        let (vault, store) = memory_vault();
        let mut history = Self {
            seed,
            random: Random::new(seed),
            folder: tempfile::tempdir().unwrap(),
            vault,
            store,
            taken: Vec::new(),
            told: Vec::new(),
            tables: 0,
        };
        for database in 0..2 {
            let page_size = *history.random.choose(&PAGE_SIZES);
            let auto_vacuum = history.random.below(3);
            history.sql(
                database,
                &format!(
                    "PRAGMA page_size={page_size}; PRAGMA auto_vacuum={auto_vacuum};
                     CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB, y TEXT); CREATE INDEX i ON t(y);"
                ),
            );
            history.edit(database);
        }
        history
    }

    fn path(&self, database: usize) -> PathBuf {
        self.folder.path().join(["one.db", "two.db"][database])
    }

    /// Runs `sql` and closes the database; now and then without copying the log back.
    fn sql(&mut self, database: usize, sql: &str) {
        let connection = Connection::open(self.path(database)).unwrap();
        connection.execute_batch("PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0").unwrap();
        if self.random.below(3) == 0 {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        }
        connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection.close().unwrap();
    }

    fn is_there(&self, database: usize) -> bool {
        fs::metadata(self.path(database)).unwrap().len() > 0
    }

    fn edit(&mut self, database: usize) {
        let (rows, bytes, first) =
            (1 + self.random.below(60), self.random.below(8000), self.random.below(500));
        // Bytes that are the same in every run.
        let blob: String = self.random.bytes(40).iter().map(|byte| format!("{byte:02x}")).collect();
        let blob = format!("CAST(replace(hex(zeroblob({bytes} / 40)), '00', x'{blob}') AS BLOB)");
        let edit = match self.random.below(4) {
            0 => format!("UPDATE t SET x = {blob} WHERE id BETWEEN {first} AND {first} + {rows} / 4"),
            1 => format!("DELETE FROM t WHERE id BETWEEN {first} AND {first} + {rows}"),
            _ => format!(
                "WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n LIMIT {rows})
                 INSERT OR REPLACE INTO t(id, x, y) SELECT i, {blob}, 'row ' || i || ' ' || {bytes} FROM n"
            ),
        };
        self.sql(database, &edit);
    }

    fn vacuum(&mut self, database: usize) {
        self.sql(database, "VACUUM");
    }

    fn change_page_size(&mut self, database: usize) {
        let page_size = *self.random.choose(&PAGE_SIZES);
        let back = *self.random.choose(&["delete", "wal"]);
        let sql = format!(
            "PRAGMA journal_mode=delete; PRAGMA page_size={page_size}; VACUUM; PRAGMA journal_mode={back}"
        );
        self.sql(database, &sql);
    }

    fn shrink(&mut self, database: usize) {
        let rest = self.random.below(50);
        let how = *self.random.choose(&["VACUUM", "PRAGMA incremental_vacuum", ""]);
        self.sql(database, &format!("DELETE FROM t WHERE id > {rest}; {how}"));
    }

    fn change_schema(&mut self, database: usize) {
        self.tables += 1;
        let number = self.tables;
        let sql = match self.random.below(5) {
            0 => format!(
                "CREATE TABLE s{number}(a PRIMARY KEY, b) WITHOUT ROWID; INSERT INTO s{number} VALUES(1, 2)"
            ),
            1 => format!("CREATE TABLE s{number} AS SELECT * FROM t LIMIT 30"),
            2 => format!("CREATE INDEX j{number} ON t(length(x), y)"),
            3 => format!("ALTER TABLE t ADD COLUMN z{number} DEFAULT 'nothing yet'"),
            _ => {
                let found = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 's%' LIMIT 1";
                let connection = Connection::open(self.path(database)).unwrap();
                let table: Option<String> = connection.query_row(found, (), |row| row.get(0)).ok();
                connection.close().unwrap();
                table.filter(|table| !table.starts_with("sqlite")).map_or_else(
                    || format!("PRAGMA user_version={number}"),
                    |table| format!("DROP TABLE {table}"),
                )
            }
        };
        self.sql(database, &sql);
    }

    fn change_journal_mode(&mut self, database: usize) {
        let mode = *self.random.choose(&["wal", "delete", "truncate", "persist", "memory", "wal"]);
        self.sql(database, &format!("PRAGMA journal_mode={mode}"));
        self.edit(database);
    }

    /// What `cp` does: other bytes in the same file, with the times of another one or not.
    fn copy_over(&mut self, database: usize) {
        let (path, other) = (self.path(database), self.path(1 - database));
        let bytes = match self.taken.len() {
            0 => settled(&other),
            known if self.random.below(2) == 0 => self.taken[self.random.below(known)].2.clone(),
            _ => settled(&other),
        };
        self.remove_sidecars(&path);
        fs::write(&path, bytes).unwrap();
        if self.random.below(2) == 0 {
            let modified = fs::metadata(&other).unwrap().modified().unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        }
    }

    /// Another file under the same name, or none at all for a moment.
    fn replace(&mut self, database: usize) {
        let (path, aside) = (self.path(database), self.folder.path().join("aside"));
        let bytes = settled(&path);
        self.remove_sidecars(&path);
        fs::write(&aside, if self.random.below(6) == 0 { Vec::new() } else { bytes }).unwrap();
        fs::rename(aside, path).unwrap();
    }

    fn remove_sidecars(&self, path: &Path) {
        for suffix in ["-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(with_suffix(path, suffix));
        }
        assert!(path.starts_with(self.folder.path()));
    }

    /// Any earlier snapshot of either database.
    fn restore_over(&mut self, database: usize) {
        let Some(last) = self.taken.len().checked_sub(1) else { return };
        let (id, _, bytes) = &self.taken[self.random.below(last + 1)];
        let path = self.path(database);
        restore_with(&self.vault, &id.to_string(), &path, |request| request.overwrite = true).unwrap();
        assert!(fs::read(&path).unwrap() == *bytes, "restored {id}");
        assert!(!with_suffix(&path, "-wal").exists() && !with_suffix(&path, "-journal").exists());
    }

    fn snapshot(&mut self, database: usize) {
        let path = self.path(database);
        let expected = settled(&path);
        let mut wanted = request(&[&path]);
        wanted.full_scan = self.random.below(6) == 0;
        wanted.compression_level = *self.random.choose(&[1, 3, 9]);
        wanted.verify = self.random.below(6) == 0;
        let taken = run(&self.vault, &wanted).unwrap().pop().unwrap().1.unwrap();
        let parent = self.taken.iter().rev().find(|(_, of, _)| *of == database).map(|(id, ..)| *id);
        assert_eq!((taken.parent, taken.size), (parent, expected.len() as u64));
        self.taken.push((taken.snapshot_id, database, expected));
        // Nobody remembers anything: caches and proofs must do without the process.
        if self.random.below(4) == 0 {
            self.vault = open_vault(Box::new(Arc::clone(&self.store))).unwrap();
        }
    }

    fn step(&mut self) {
        let database = self.random.below(2);
        let dice = if self.is_there(database) { self.random.below(20) } else { 20 };
        let (told, deed): (_, fn(&mut Self, usize)) = match dice {
            0..=6 => ("edit", Self::edit),
            7 => ("vacuum", Self::vacuum),
            8..=9 => ("page size", Self::change_page_size),
            10..=11 => ("shrink", Self::shrink),
            12 => ("schema", Self::change_schema),
            13..=14 => ("journal mode", Self::change_journal_mode),
            15 => ("copy over", Self::copy_over),
            16 => ("replace", Self::replace),
            17..=18 => ("restore over", Self::restore_over),
            19 => ("nothing", |_, _| {}),
            _ => ("begin again", |history, database| {
                history.copy_over(database);
            }),
        };
        self.told.push(format!("{told} {database}"));
        deed(self, database);
        if self.random.below(10) < 7 {
            // Now and then of the other one, which nothing was done to.
            let of = if self.random.below(5) == 0 { 1 - database } else { database };
            self.told.push(format!("snapshot {of}"));
            self.snapshot(of);
        }
    }

    /// Every snapshot is its copy, for somebody who comes with nothing but the key.
    fn judge(&self) -> usize {
        let vault = open_vault(Box::new(Arc::clone(&self.store))).unwrap();
        vault.load_index().unwrap();
        for (id, _, bytes) in &self.taken {
            let spec: SnapshotSpec = id.to_string().parse().unwrap();
            let snapshot = find(&vault, &spec, jiff::Timestamp::now(), &Silent).unwrap();
            let mut restored = Vec::with_capacity(bytes.len());
            let sum = assemble(&vault, &snapshot, &Silent, &mut |piece| {
                restored.extend_from_slice(piece);
                Ok(())
            });
            assert!(restored == *bytes, "snapshot {id} is not its copy");
            assert_eq!(Some(sum.unwrap()), snapshot.manifest.sha256);
        }
        let everything = CheckRequest { data: DataLevel::All, test_restore: None };
        assert_eq!(check(&vault, &everything, &SystemClock, &Silent).unwrap().problems, []);
        self.taken.len()
    }
}

#[test]
fn every_snapshot_of_every_history_is_the_copy_taken_then() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let first = number("PAGEVAULT_HISTORY_SEED");
    let count = number("PAGEVAULT_HISTORIES").unwrap_or(if first.is_some() { 1 } else { 30 });
    let (next, snapshots) = (AtomicU64::new(first.unwrap_or(1)), AtomicU64::new(0));
    let end = next.load(Ordering::Relaxed) + count;
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(4) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let mut history = History::new(seed);
                    for _ in 0..STEPS {
                        history.step();
                    }
                    snapshots.fetch_add(history.judge() as u64, Ordering::Relaxed);
                }
            });
        }
    });
    println!("{count} histories, {} snapshots", snapshots.into_inner());
}
