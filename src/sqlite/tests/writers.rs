//! Captures beside writers at work are consistent.

use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::TransactionBehavior::Immediate;

use super::*;

const ACCOUNTS: u32 = 200;

/// Two writers move amounts between accounts; whatever is captured, the sum is 0 and nothing is torn.
fn captures_beside_writers(journal: &str, captures: u32) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let writer = Connection::open(&path).unwrap();
    writer.busy_timeout(Duration::from_secs(20)).unwrap();
    writer
        .execute_batch(&format!(
            "PRAGMA page_size=1024; PRAGMA journal_mode={journal};
             CREATE TABLE ledger(id INTEGER PRIMARY KEY, balance INTEGER, note BLOB); CREATE TABLE log(x);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {ACCOUNTS})
             INSERT INTO ledger SELECT i, 0, zeroblob(400) FROM n;"
        ))
        .unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (path, done) = (&path, &done);
            scope.spawn(move || work(path, done, seed));
        }
        let mut database =
            LiveDatabase::open(&path, &OpenOptions { busy_timeout: Duration::from_secs(20) }).unwrap();
        let moves = || -> u32 { writer.query_row("SELECT count(*) FROM log", (), |row| row.get(0)).unwrap() };
        for round in 0..captures {
            // Each capture finds work done since the one before.
            let seen = moves();
            while moves() == seen {
                std::thread::yield_now();
            }
            let mut capture = database.begin().unwrap();
            let image = read_all(&mut capture);
            capture.finish().unwrap();
            let image = ImageConnection::open(Box::new(MemoryImage::new(image).unwrap()), 1 << 20).unwrap();
            let sum: i64 = image.query_row("SELECT sum(balance) FROM ledger", (), |row| row.get(0)).unwrap();
            assert_eq!(sum, 0, "{journal} {round}");
            let verdict: String = image.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
            assert_eq!(verdict, "ok", "{journal} {round}");
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn work(path: &Path, done: &AtomicBool, seed: u32) {
    let mut connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection
        .execute_batch("PRAGMA synchronous=OFF; PRAGMA cache_size=10; PRAGMA wal_autocheckpoint=50")
        .unwrap();
    for round in 0.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let transaction = connection.transaction_with_behavior(Immediate).unwrap();
        let (from, to) = (1 + (round * 7 + seed) % ACCOUNTS, 1 + (round * 13 + seed * 3) % ACCOUNTS);
        let note = "UPDATE ledger SET balance = balance + ?1, note = randomblob(400) WHERE id = ?2";
        transaction.execute(note, (-5, from)).unwrap();
        transaction.execute("INSERT INTO log VALUES(randomblob(700))", ()).unwrap();
        transaction.execute(note, (5, to)).unwrap();
        transaction.commit().unwrap();
        std::thread::sleep(Duration::from_micros(300));
    }
}

#[test]
fn with_a_log() {
    captures_beside_writers("wal", 60);
}

#[test]
fn with_a_rollback_journal() {
    captures_beside_writers("delete", 30);
}

#[test]
fn a_capture_can_move_to_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Capture<'_>>();
    assert_send::<LiveDatabase>();
    assert_send::<ImageConnection>();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(create(&path, ""));
    let mut database = open(&path).unwrap();
    let mut capture = database.begin().unwrap();
    let image = std::thread::scope(|scope| scope.spawn(move || read_all(&mut capture)).join().unwrap());
    assert!(image == bytes_of(&path));
}
