//! The table operation x operation of docs/architecture.md, cell by cell, with real processes: each operation beside each other,
//! itself included, over a vault in a folder. None fails, none waits for long, what was there stays, and the vault is whole.
//!
//! `PAGEVAULT_BESIDE=snapshot,prune` runs the cells of these operations only, `PAGEVAULT_BESIDE_ROUNDS=20` each for longer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

use super::children::pagevault;
use super::databases::copy;

/// A row, and a column, of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Snapshot,
    /// Of the other database.
    SnapshotOther,
    Restore,
    Look,
    Check,
    Forget,
    Prune,
    AddKey,
    RemoveKey,
    Repair,
    Sync,
}

use Operation::{
    AddKey, Check, Forget, Look, Prune, RemoveKey, Repair, Restore, Snapshot, SnapshotOther, Sync,
};

const ALL: [Operation; 11] =
    [Snapshot, SnapshotOther, Restore, Look, Check, Forget, Prune, AddKey, RemoveKey, Repair, Sync];

/// A home with a vault, its key, two databases with a past, and keys that can be removed.
struct World {
    home: PathBuf,
    /// Ids of slots that may go, four for each side.
    slots: Vec<String>,
    /// Snapshots by age, oldest first.
    past: Vec<String>,
    pinned: String,
}

impl World {
    fn made_in(home: &Path) -> Self {
        let mut world =
            Self { home: home.to_path_buf(), slots: Vec::new(), past: Vec::new(), pinned: String::new() };
        for name in ["one", "two"] {
            let db = Connection::open(world.database(name)).unwrap();
            db.execute_batch(
                "PRAGMA journal_mode = WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, x);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000)
                 INSERT INTO t SELECT i, hex(randomblob(100)) FROM n",
            )
            .unwrap();
        }
        for round in 0..4 {
            for name in ["one", "two"] {
                world.change(name, round);
                world.past.push(world.snapshot(name));
            }
        }
        world.pinned = world.past[2].clone();
        let pinned = world.pinned.clone();
        world.good(&["pin", &pinned]);
        // Something for a prune to take, and something for an undelete to bring back.
        let (gone, last) = (world.past[0].clone(), world.past[1].clone());
        world.good(&["forget", &gone, &last, "--yes"]);
        world.past.drain(..2);
        for number in 0..8 {
            let file = world.home.join(format!("more-{number}.key"));
            let made = world.good(&["key", "add", "--generate-key-file", file.to_str().unwrap(), "--json"]);
            let made: Value = serde_json::from_slice(&made).unwrap();
            world.slots.push(made["slot"].as_str().unwrap().to_owned());
        }
        copy(&world.home, &world.saved());
        world
    }

    fn saved(&self) -> PathBuf {
        self.home.with_extension("saved")
    }

    /// Puts everything back to what it was, at the same place: a database is known by its path.
    fn put_back(&self) {
        std::fs::remove_dir_all(&self.home).unwrap();
        copy(&self.saved(), &self.home);
    }

    fn database(&self, name: &str) -> PathBuf {
        self.home.join(format!("{name}.db"))
    }

    fn vault(&self) -> PathBuf {
        self.home.join(".local/share/pagevault/vault")
    }

    fn change(&self, name: &str, round: usize) {
        let db = Connection::open(self.database(name)).unwrap();
        db.busy_timeout(Duration::from_secs(30)).unwrap();
        db.execute(
            "UPDATE t SET x = hex(randomblob(100)) WHERE id % 5 = ?1",
            [u32::try_from(round % 5).unwrap()],
        )
        .unwrap();
    }

    fn run(&self, words: &[&str]) -> Output {
        pagevault(&self.home).args(words).output().unwrap()
    }

    fn good(&self, words: &[&str]) -> Vec<u8> {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn snapshot(&self, name: &str) -> String {
        let made = self.good(&["snapshot", self.database(name).to_str().unwrap(), "--json"]);
        let made: Value = serde_json::from_slice(&made).unwrap();
        made["snapshot_id"].as_str().unwrap().to_owned()
    }

    fn listed(&self, words: &[&str]) -> Vec<String> {
        let listed: Value = serde_json::from_slice(&self.good(words)).unwrap();
        listed.as_array().unwrap().iter().map(|one| one["snapshot_id"].as_str().unwrap().to_owned()).collect()
    }
}

/// One side of a cell: an operation, again and again. Snapshots that it made.
struct Side<'a> {
    world: &'a World,
    operation: Operation,
    /// What the other side does at the same time.
    other: Operation,
    /// 0 or 1.
    number: usize,
    rounds: usize,
    made: Vec<String>,
    slowest: Duration,
}

impl Side<'_> {
    fn go(&mut self, both: &Barrier) {
        both.wait();
        for round in 0..self.rounds {
            let started = Instant::now();
            self.once(round);
            self.slowest = self.slowest.max(started.elapsed());
        }
    }

    fn once(&mut self, round: usize) {
        let world = self.world;
        let place =
            |name: &str| world.home.join(format!("{name}-{}-{round}", self.number)).display().to_string();
        match self.operation {
            Snapshot | SnapshotOther => {
                let name = if self.operation == Snapshot { "one" } else { "two" };
                world.change(name, round);
                self.made.push(world.snapshot(name));
            }
            Restore => {
                world.good(&["restore", "one@latest", "--to", &place("restored")]);
                // By id: one that a forget may let go just now.
                let old = world.run(&["restore", &world.past[0], "--to", &place("old")]);
                let gone = self.other == Forget && old.status.code() == Some(6);
                assert!(old.status.success() || gone, "{}", String::from_utf8_lossy(&old.stderr));
            }
            Look => {
                for words in
                    [&["list", "--forgotten"][..], &["show", "one@latest"], &["stats"], &["key", "list"]]
                {
                    world.good(words);
                }
            }
            Check => {
                let report = world.run(&["check", "--read-data", "--json"]);
                // The other side takes the second copy of the config away.
                let report: Value = serde_json::from_slice(&report.stdout).unwrap();
                let is_taken = |problem: &&Value| {
                    self.other == Repair && problem["object"].as_str() == Some("vault.pv.copy")
                };
                let problems: Vec<&Value> =
                    report["problems"].as_array().unwrap().iter().filter(|one| !is_taken(one)).collect();
                assert!(problems.is_empty(), "{problems:?}");
            }
            Forget => {
                world.good(&["forget", "--keep-last", "2", "--yes"]);
                // A prune may have been faster, and another forget may have brought back the same one.
                if let Some(id) = world.listed(&["list", "--forgotten", "--json"]).first() {
                    let back = world.run(&["undelete", id, "--yes"]);
                    let code = back.status.code();
                    assert!([Some(0), Some(6)].contains(&code), "{}", String::from_utf8_lossy(&back.stderr));
                }
                world.good(&["pin", "two@latest"]);
                world.good(&["unpin", "two@latest"]);
            }
            Prune => drop(world.good(&["prune", "--grace", "0s", "--max-unused", "0%", "--yes"])),
            AddKey => drop(world.good(&["key", "add", "--generate-key-file", &place("added")])),
            RemoveKey => {
                let slot = &world.slots[4 * self.number + round % 4];
                let removed = world.run(&["key", "remove", slot]);
                // Once each: with more rounds than keys it is gone already.
                let again = round >= 4 && removed.status.code() == Some(6);
                assert!(removed.status.success() || again, "{}", String::from_utf8_lossy(&removed.stderr));
            }
            Repair => {
                // Two repairs may both find it gone; one of them puts it back.
                let _ = std::fs::remove_file(world.vault().join("vault.pv.copy"));
                let repaired = world.run(&["repair", "--yes"]);
                // What one has just put back, the other side takes away again.
                let taken = self.other == Repair && repaired.status.code() == Some(4);
                let ok = repaired.status.success() || taken;
                assert!(ok, "{}", String::from_utf8_lossy(&repaired.stderr));
            }
            Sync => drop(
                world
                    .good(&["sync", &world.home.join(format!("copy-{}", self.number)).display().to_string()]),
            ),
        }
    }
}

/// Both sides at once, then what must hold.
fn cell(world: &World, (one, other): (Operation, Operation), rounds: usize) -> Duration {
    world.put_back();
    let side = |operation, other, number| Side {
        world,
        operation,
        other,
        number,
        rounds,
        made: Vec::new(),
        slowest: Duration::ZERO,
    };
    let mut sides = [side(one, other, 0), side(other, one, 1)];
    let both = Barrier::new(2);
    std::thread::scope(|scope| {
        for side in &mut sides {
            scope.spawn(|| side.go(&both));
        }
    });
    let slowest = sides[0].slowest.max(sides[1].slowest);
    let reported: Vec<String> = sides.into_iter().flat_map(|side| side.made).collect();
    let there: BTreeSet<String> = world.listed(&["list", "--json"]).into_iter().collect();
    let forgets = [one, other].contains(&Forget);
    // A forget keeps the two newest of each database, whoever made them, and what is pinned.
    for id in reported.iter().rev().take(1).chain([&world.pinned]) {
        assert!(there.contains(id), "{id}");
    }
    if !forgets {
        let lost: Vec<&String> =
            reported.iter().chain(&world.past).filter(|id| !there.contains(*id)).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
    if [one, other].contains(&Repair) {
        world.good(&["repair", "--yes"]);
    }
    world.good(&["check", "--read-data", "--test-restore"]);
    if [one, other].contains(&Sync) {
        for number in 0..2 {
            let copy = world.home.join(format!("copy-{number}"));
            if copy.exists() {
                let copy = copy.display().to_string();
                // Of a slot that goes while it is copied, one of its two objects may be there, until a sync may delete.
                if ![one, other].contains(&RemoveKey) {
                    world.good(&["check", "--no-key", "--vault", &copy]);
                }
                let listed = world.listed(&["list", "--json", "--vault", &copy]);
                assert!(listed.contains(&world.pinned), "{listed:?}");
                // A key that was removed stays in the copy, which `check` says, until a sync may delete.
                world.good(&["sync", &copy, "--verify", "--delete"]);
                world.good(&["check", "--read-data", "--vault", &copy]);
            }
        }
    }
    // Nothing has to be unlocked, and the next of each works.
    world.good(&["prune", "--grace", "0s", "--max-unused", "0%", "--yes"]);
    world.change("one", 1);
    world.snapshot("one");
    world.good(&["check", "--test-restore", "one@latest"]);
    slowest
}

#[test]
fn each_operation_beside_each_other() {
    let chosen = std::env::var("PAGEVAULT_BESIDE").unwrap_or_default().to_lowercase();
    let is_chosen = |operation: Operation| {
        chosen.is_empty() || chosen.split(',').any(|word| word == format!("{operation:?}").to_lowercase())
    };
    let rounds =
        std::env::var("PAGEVAULT_BESIDE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let world = World::made_in(&home);
    let (mut cells, mut slowest) = (0, Duration::ZERO);
    for (number, one) in ALL.into_iter().enumerate() {
        for other in ALL.into_iter().skip(number).filter(|other| is_chosen(one) && is_chosen(*other)) {
            let outcome = std::panic::catch_unwind(|| cell(&world, (one, other), rounds));
            let took = outcome.unwrap_or_else(|_| panic!("{one:?} beside {other:?}"));
            slowest = slowest.max(took);
            cells += 1;
        }
    }
    println!("{cells} cells, {rounds} rounds each, the slowest operation took {slowest:?}");
    assert!(!chosen.is_empty() || cells == ALL.len() * (ALL.len() + 1) / 2, "{cells}");
}
