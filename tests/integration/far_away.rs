//! Vaults that are far away: what a snapshot and a restore ask of the store, and what a bad line does to them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagevault::clock::SystemClock;
use pagevault::monitor::Silent;
use pagevault::operations::check::{CheckRequest, DataLevel, check};
use pagevault::operations::list::{ListFilter, list};
use pagevault::operations::sync::{SyncRequest, sync};
use pagevault::store::{
    CacheStore, Disturbance, DisturbedStore, FaultStore, MemoryStore, OperationKind, Patience, RetryStore,
    Store,
};
use pagevault::vault::{LocalFolders, LockedVault, Vault};
use rusqlite::Connection;

use crate::support::{create_vault, key, open_vault, restore_to, take};
use crate::tamper::fixture::scratch;

fn database(path: &Path, rows: u32) {
    let db = Connection::open(path).unwrap();
    db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB); BEGIN").unwrap();
    for row in 0..rows {
        let noise = row.wrapping_mul(2_654_435_761);
        // Half of it cannot be compressed.
        let body: Vec<u8> =
            (0..200u32).map(|at| (noise.rotate_left(at).wrapping_mul(at) >> 8) as u8).collect();
        db.execute("INSERT INTO t(body) VALUES(?1)", [body]).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

fn change(path: &Path, seed: u32) {
    let db = Connection::open(path).unwrap();
    db.execute("UPDATE t SET body = zeroblob(150) WHERE id % 997 = ?1", [seed % 997]).unwrap();
}

/// A vault's client on a machine of its own, as the command line sets one up.
fn client(store: impl Store + 'static, machine: &Path) -> Vault {
    let cached = CacheStore::new(store, "packs", Some(machine.join("objects")), 1 << 30);
    let folders = LocalFolders { cache: Some(machine.join("cache")), state: Some(machine.join("state")) };
    LockedVault::find(Box::new(cached)).unwrap().unlock(&key(), &folders).unwrap()
}

/// Nothing is wrong with the line but that it is one.
fn line(store: &Arc<MemoryStore>) -> DisturbedStore<Arc<MemoryStore>> {
    DisturbedStore::new(Arc::clone(store), Disturbance::default(), 0)
}

#[test]
fn a_small_snapshot_makes_few_requests_and_reads_its_bases_from_this_machine() {
    let folder = scratch();
    let path = folder.path().join("app.db");
    database(&path, 30_000);
    let store = Arc::new(MemoryStore::new());
    create_vault(Box::new(Arc::clone(&store)));
    let machine = folder.path().join("machine");
    take(&client(line(&store), &machine), &path).unwrap();
    for hour in 1..4 {
        change(&path, hour);
        let counted = Arc::new(FaultStore::new(line(&store)));
        let report = take(&client(Arc::clone(&counted), &machine), &path).unwrap();
        assert!(report.chunks.delta > 10, "{:?}", report.chunks);
        let log = counted.log();
        let of = |kind| log.iter().filter(|operation| operation.kind == kind).count();
        assert!(of(OperationKind::Put) <= 6, "{log:?}");
        assert_eq!(of(OperationKind::ReadRange), 0, "bases were fetched: {log:?}");
        let listed: Vec<&str> = log
            .iter()
            .filter(|operation| operation.kind == OperationKind::List)
            .map(|o| o.path.as_str())
            .collect();
        assert!(listed.iter().all(|folder| !folder.is_empty() && !folder.starts_with("packs")), "{listed:?}");
        // Config and slots twice each, and what is new since the last time.
        assert!(of(OperationKind::Get) <= 10, "{log:?}");
    }
}

#[test]
fn a_restore_reads_in_large_pieces() {
    let folder = scratch();
    let path = folder.path().join("app.db");
    database(&path, 60_000);
    let store = Arc::new(MemoryStore::new());
    let vault = create_vault(Box::new(Arc::clone(&store)));
    take(&vault, &path).unwrap();
    for hour in 0..5 {
        change(&path, hour);
        take(&vault, &path).unwrap();
    }
    let target = folder.path().join("new.db");
    let timed = |vault: &Vault| {
        let started = Instant::now();
        let id = list(vault, &ListFilter::default(), &Silent).unwrap().pop().unwrap().snapshot_id.to_string();
        restore_to(vault, &id, &target).unwrap();
        assert!(std::fs::read(&target).unwrap() == std::fs::read(&path).unwrap());
        std::fs::remove_file(&target).unwrap();
        started.elapsed()
    };
    let near = timed(&vault);
    let slow = Disturbance { latency: Duration::from_millis(50), ..Disturbance::default() };
    let counted = Arc::new(FaultStore::new(DisturbedStore::new(Arc::clone(&store), slow, 0)));
    let far_vault = client(Arc::clone(&counted), &folder.path().join("machine"));
    let far = timed(&far_vault);
    let log = counted.log();
    let ranges = log.iter().filter(|operation| operation.kind == OperationKind::ReadRange).count() as u64;
    let bytes = store.total_bytes();
    println!(
        "restore: {near:?} near, {far:?} with 50 ms a request; {bytes} bytes, {ranges} range reads, {} requests",
        log.len()
    );
    let packs = store.paths().iter().filter(|path| path.as_str().starts_with("packs/")).count() as u64;
    assert!(
        ranges <= packs * 2 + bytes / (2 << 20),
        "{ranges} range reads of {bytes} bytes in {packs} packs"
    );
}

/// Snapshots, copies and restores on a line that fails a fifth of all requests: whatever comes of them, no vault is ever
/// damaged. `PAGEVAULT_LONG=200` makes it long.
#[test]
fn a_line_that_fails_often_damages_nothing() {
    let rounds = std::env::var("PAGEVAULT_LONG").map_or(12, |rounds| rounds.parse().unwrap());
    let (mut failed, mut failures, mut requests) = (0, 0, 0);
    for seed in 0..rounds {
        let folder = scratch();
        let path = folder.path().join("app.db");
        database(&path, 500);
        let (store, copy) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
        create_vault(Box::new(Arc::clone(&store)));
        let bad = Disturbance { failures_percent: 20, ..Disturbance::default() };
        // From no patience at all, with which almost nothing succeeds, to more than enough.
        let patience = Patience {
            retries: (seed % 5) as u32,
            first_pause: Duration::from_micros(10),
            longest_pause: Duration::from_micros(100),
        };
        let far = Arc::new(DisturbedStore::new(Arc::clone(&store), bad, seed));
        let far_copy = Arc::new(DisturbedStore::new(Arc::clone(&copy), bad, seed ^ 0xFFFF));
        let machine = folder.path().join("machine");
        let mut kept = Vec::new();
        for hour in 0..3 {
            change(&path, hour + seed as u32);
            let near = RetryStore::new(Arc::clone(&far), patience);
            let folders =
                LocalFolders { cache: Some(machine.join("cache")), state: Some(machine.join("state")) };
            let cached = CacheStore::new(near, "packs", Some(machine.join("objects")), 1 << 30);
            let opened =
                LockedVault::find(Box::new(cached)).and_then(|locked| locked.unlock(&key(), &folders));
            let taken = opened.map_err(Into::into).and_then(|vault| take(&vault, &path));
            match taken {
                Ok(report) => kept.push((report.snapshot_id.to_string(), std::fs::read(&path).unwrap())),
                Err(error) => {
                    failed += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
            let (from, to) = (
                RetryStore::new(Arc::clone(&far), patience),
                RetryStore::new(Arc::clone(&far_copy), patience),
            );
            failed += u32::from(sync(&from, &to, &SyncRequest::default(), &Silent).is_err());
        }
        judge(&store, &kept, folder.path(), true);
        // The copy may lack what was not copied; what it shows is whole.
        if open_vault(Box::new(copy.fork())).is_ok() {
            judge(&copy, &kept, folder.path(), false);
        }
        sync(&store, &copy, &SyncRequest::default(), &Silent).unwrap();
        judge(&copy, &kept, folder.path(), true);
        failures += far.failures() + far_copy.failures();
        requests += far.requests() + far_copy.requests();
    }
    println!(
        "{rounds} rounds: {failures} of {requests} requests failed, and {failed} commands; 0 damaged vaults"
    );
    assert!(failures > 0 && failed > 0);
}

fn judge(store: &MemoryStore, kept: &[(String, Vec<u8>)], folder: &Path, complete: bool) {
    let vault = open_vault(Box::new(store.fork())).unwrap();
    let report =
        check(&vault, &CheckRequest { data: DataLevel::All, test_restore: None }, &SystemClock, &Silent)
            .unwrap();
    for problem in &report.problems {
        // A snapshot whose run ended between manifest and log is there, and said.
        assert!(problem.kind == "unlogged" || (!complete && problem.kind == "history"), "{problem:?}");
    }
    let shown = list(&vault, &ListFilter::default(), &Silent).unwrap();
    let target = folder.join("judged.db");
    for (id, image) in kept {
        if shown.iter().any(|snapshot| snapshot.snapshot_id.to_string() == *id) {
            restore_to(&vault, id, &target).unwrap();
            assert!(std::fs::read(&target).unwrap() == *image);
            std::fs::remove_file(&target).unwrap();
        } else {
            assert!(!complete, "{id} was reported and is not there");
        }
    }
}
