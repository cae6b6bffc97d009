//! Snapshots beside real writers: two processes commit without pause and, in WAL mode, a third checkpoints in all four
//! ways at random times. Every snapshot is restored, and the restored database must be sound and in a state that was
//! once committed, by the workload's own judgement; states must follow each other as the snapshots do.
//!
//! The normal run takes 100 snapshots in all. The long one, of 1,000:
//!
//! ```text
//! PAGEVAULT_LIVE_SNAPSHOTS=1000 cargo test --release --test integration live:: -- --nocapture --test-threads=1
//! ```
//!
//! A second, independent program with the same tables cross-checks where it is present (`PAGEVAULT_HOURLY` names it)
//! and python3 is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pagevault::error::ErrorKind;
use pagevault::operations::snapshot::SnapshotReport;
use pagevault::vault::Vault;
use rusqlite::Connection;

use crate::children::{Process, pagevault, workload};
use crate::databases::{settled, with_suffix};
use crate::support::{memory_vault, restore_to, take};

/// Snapshots in all, in both journal modes.
fn wanted() -> usize {
    let given = std::env::var("PAGEVAULT_LIVE_SNAPSHOTS").ok();
    given.map_or(100, |number| number.parse().expect("PAGEVAULT_LIVE_SNAPSHOTS is a number"))
}

/// One in so many is taken and restored by the command line.
const BY_COMMAND_LINE: usize = 8;

/// Whoever knows which states of the workload's database may ever be seen.
type Judge<'a> = &'a dyn Fn(&Path) -> Command;

/// What the snapshots of one run were like.
#[derive(Default)]
struct Tally {
    snapshots: usize,
    by_command_line: usize,
    busy: usize,
    /// Snapshots that were not of the same state as the one before.
    advanced: usize,
    moves: u64,
    hold_ms: Vec<u64>,
    stored_bytes: u64,
}

impl Tally {
    fn add(&mut self, hold_ms: u64, stored_bytes: u64, moves: u64) {
        assert!(moves >= self.moves, "the state after {} moves came after that of {}", moves, self.moves);
        self.advanced += usize::from(moves > self.moves);
        self.moves = moves;
        self.snapshots += 1;
        self.hold_ms.push(hold_ms);
        self.stored_bytes += stored_bytes;
    }

    fn print(&mut self, what: &str, elapsed: Duration) {
        self.hold_ms.sort_unstable();
        let (median, most) = (self.hold_ms[self.hold_ms.len() / 2], self.hold_ms[self.hold_ms.len() - 1]);
        let bytes = self.stored_bytes / self.snapshots as u64;
        println!(
            "{what}: {} snapshots ({} by the command line, {} tries busy), {} of them of new states, {} moves, \
             held {median} ms (median) and {most} ms (most), {bytes} bytes stored each, {:.1} s",
            self.snapshots,
            self.by_command_line,
            self.busy,
            self.advanced,
            self.moves,
            elapsed.as_secs_f64()
        );
    }
}

/// The number of moves in a sound database, by a judge; otherwise a failure with what the judge says.
fn moves(judge: Judge<'_>, database: &Path) -> u64 {
    let output = judge(database).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = said.trim().strip_prefix("ok moves ").and_then(|number| number.parse().ok());
    match number {
        Some(number) if output.status.success() => number,
        _ => panic!("{}: {said}{}", database.display(), String::from_utf8_lossy(&output.stderr)),
    }
}

/// A database that others work on, a vault in memory, and a folder for restores and the vault of the command line.
struct Scene<'a> {
    folder: &'a Path,
    database: PathBuf,
    vault: Vault,
    judge: Judge<'a>,
    tally: Tally,
}

impl<'a> Scene<'a> {
    fn new(folder: &'a Path, judge: Judge<'a>) -> Self {
        fs::create_dir(folder.join("place")).unwrap();
        Self {
            folder,
            database: folder.join("app.db"),
            vault: memory_vault().0,
            judge,
            tally: Tally::default(),
        }
    }

    /// Takes a snapshot, as often as it takes in rollback mode, where two writers without pause may leave no room for a
    /// reader for longer than it is willing to wait.
    fn take(&mut self) -> SnapshotReport {
        loop {
            match take(&self.vault, &self.database) {
                Ok(taken) => return taken,
                Err(error) if error.kind() == ErrorKind::Busy => self.tally.busy += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn by_library(&mut self) {
        let taken = self.take();
        let target = self.folder.join("place/restored.db");
        let restored = restore_to(&self.vault, &taken.snapshot_id.to_string(), &target).unwrap();
        assert_eq!(restored.sha256, taken.sha256);
        self.tally.add(taken.hold_ms, taken.stored_bytes, moves(self.judge, &target));
        remove(&target);
    }

    fn by_command_line(&mut self) {
        let target = self.folder.join("place/by command line.db");
        let taken = loop {
            let output =
                pagevault(self.folder).args(["snapshot", "--json"]).arg(&self.database).output().unwrap();
            match output.status.code() {
                Some(0) => break serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(),
                Some(7) => self.tally.busy += 1,
                _ => panic!("{}", String::from_utf8_lossy(&output.stderr)),
            }
        };
        let mut command = pagevault(self.folder);
        command.args(["restore", taken["snapshot_id"].as_str().unwrap(), "--to"]).arg(&target);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let number = |field: &str| taken[field].as_u64().unwrap();
        self.tally.add(number("hold_ms"), number("stored_bytes"), moves(self.judge, &target));
        self.tally.by_command_line += 1;
        remove(&target);
    }

    fn take_all(&mut self, count: usize) {
        for number in 0..count {
            if number % BY_COMMAND_LINE == BY_COMMAND_LINE - 1 {
                self.by_command_line();
            } else {
                self.by_library();
            }
        }
    }
}

/// Removes a database that a judge has opened.
fn remove(database: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(with_suffix(database, suffix));
    }
}

fn own_judge(database: &Path) -> Command {
    let mut command = Command::new(workload());
    command.arg("check").arg(database);
    command
}

/// Waits until the writers have begun.
fn wait_for_moves(database: &Path) {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    let moves =
        || -> i64 { connection.query_row("SELECT moves FROM ledger_meta", (), |row| row.get(0)).unwrap() };
    let (before, started) = (moves(), Instant::now());
    while moves() < before + 3 {
        assert!(started.elapsed() < Duration::from_mins(1), "the writers do not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Snapshots of one database at most. The writers never pause, so it grows as long as they work, and a long run of one
/// database would be about its size.
const ROUND: usize = 100;

fn beside_writers(journal: &str, count: usize) {
    for taken in (0..count).step_by(ROUND) {
        one_round_beside_writers(journal, ROUND.min(count - taken));
    }
}

fn one_round_beside_writers(journal: &str, count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(folder.path(), &own_judge);
    let database = scene.database.clone();
    let of_workload = |verb: &str| {
        let mut command = Command::new(workload());
        command.arg(verb).arg(&database);
        command
    };
    let mut build = of_workload("build");
    build.args(["--megabytes", "5", "--journal", journal]);
    assert!(build.status().unwrap().success());

    let mut processes: Vec<Process> = ["11", "12"]
        .map(|seed| {
            let mut command = of_workload("live");
            Process::start(command.args(["--seed", seed, "--until-stdin-closes"]))
        })
        .into();
    if journal == "wal" {
        let mut command = of_workload("checkpoint");
        processes.push(Process::start(command.args(["--seed", "13", "--until-stdin-closes"])));
    }
    wait_for_moves(&database);
    let started = Instant::now();
    scene.take_all(count);
    let elapsed = started.elapsed();
    // All of them were at work to the end, and none met an error.
    for process in &mut processes {
        assert!(process.is_running());
    }
    for process in processes {
        let (status, printed) = process.finish();
        assert!(status.success(), "{printed}");
        println!("{journal}: {}", printed.trim());
    }
    // At rest, the image is the file; and the application's own database took no harm.
    let last = scene.take();
    let target = folder.path().join("place/last.db");
    restore_to(&scene.vault, &last.snapshot_id.to_string(), &target).unwrap();
    assert!(fs::read(&target).unwrap() == settled(&database));
    assert!(moves(&own_judge, &database) >= scene.tally.moves);
    // Not one state over and over.
    assert!(scene.tally.advanced * 2 > count, "{} of {count}", scene.tally.advanced);
    scene.tally.print(journal, elapsed);
}

#[test]
fn beside_writers_and_checkpoints_with_a_log() {
    beside_writers("wal", wanted() * 6 / 10);
}

#[test]
fn beside_writers_with_a_rollback_journal() {
    beside_writers("delete", wanted() - wanted() * 6 / 10);
}

/// The program that cross-checks, and the interpreter that runs it, if both are there.
fn hourly() -> Option<PathBuf> {
    let place = std::env::var_os("PAGEVAULT_HOURLY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/workload/hourly.py"),
        PathBuf::from,
    );
    let python = Command::new("python3").args(["-c", "import sqlite3"]).status();
    (place.exists() && python.is_ok_and(|status| status.success())).then_some(place)
}

#[test]
fn beside_the_writers_of_another_program() {
    let Some(program) = hourly() else {
        eprintln!("SKIPPED: beside_the_writers_of_another_program needs python3 and PAGEVAULT_HOURLY");
        return;
    };
    let of_hourly = |verb: &str, database: &Path| {
        let mut command = Command::new("python3");
        command.arg(&program).arg(verb).arg(database);
        command
    };
    let judge = |database: &Path| of_hourly("check", database);
    for journal in ["wal", "delete"] {
        let folder = tempfile::tempdir().unwrap();
        let mut scene = Scene::new(folder.path(), &judge);
        let database = scene.database.clone();
        let mut build = of_hourly("build", &database);
        assert!(build.args(["--megabytes", "5", "--journal", journal]).status().unwrap().success());
        // These end by the clock only; they are killed when the snapshots are done.
        let processes = ["21", "22"].map(|seed| {
            Process::start(of_hourly("live", &database).args(["--seconds", "600", "--seed", seed]))
        });
        wait_for_moves(&database);
        let started = Instant::now();
        scene.take_all((wanted() / 10).max(5));
        for process in processes {
            process.kill();
        }
        // Whatever the killed left behind is a committed state as well: for both judges.
        scene.by_library();
        scene.judge = &own_judge;
        scene.by_library();
        scene.tally.print(&format!("another program, {journal}"), started.elapsed());
    }
}
