//! Restores that are killed: afterwards there is the old state or the new, and never anything between.
//!
//! At moments that time chooses, and, where `strace` is there and may trace, at each system call by which the commit reaches
//! the disk: every write to the log, the journal and the database, every fsync, the unlink that ends a journal.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{built, integrity, is_image, number_of, of_workload, pages_of};
use crate::children::pagevault;
use crate::databases::with_suffix;

/// A database of which the vault has two states; the early one is there at first.
struct Scene {
    folder: tempfile::TempDir,
    database: PathBuf,
    ids: [String; 2],
    images: [Vec<u8>; 2],
}

const EARLY: usize = 0;
const LATE: usize = 1;

impl Scene {
    fn new(journal: &str, transactions: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        let database = built(home, journal, "none");
        let snapshot = || {
            let output = pagevault(home).args(["snapshot", "--json"]).arg(&database).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            report["snapshot_id"].as_str().unwrap().to_owned()
        };
        let early = snapshot();
        let churn = of_workload("churn", &database).args(["--transactions", transactions]).status();
        assert!(churn.unwrap().success());
        let ids = [early, snapshot()];
        let images = ids.each_ref().map(|id| {
            let target = home.join(format!("{id}.db"));
            let restored = pagevault(home).args(["restore", id, "--to"]).arg(&target).status();
            assert!(restored.unwrap().success());
            std::fs::read(target).unwrap()
        });
        let scene = Self { folder, database, ids, images };
        scene.bring_to(EARLY);
        scene
    }

    fn restore(&self, state: usize) -> Command {
        let mut command = pagevault(self.folder.path());
        command.args(["restore", &self.ids[state], "--yes", "--check", "none", "--into"]);
        command.arg(&self.database).stdout(Stdio::null());
        command
    }

    fn bring_to(&self, state: usize) {
        assert!(self.restore(state).status().unwrap().success());
        assert!(is_image(&pages_of(&self.database), &self.images[state]));
        // The last one to close the database leaves no log behind.
        assert_eq!(integrity(&Connection::open(&self.database).unwrap()), "ok");
    }

    /// Which of the two states there is; it must be one of them, and sound.
    fn state(&self, what: &str) -> usize {
        let found = pages_of(&self.database);
        let is = self.images.each_ref().map(|image| is_image(&found, image));
        assert!(is[EARLY] != is[LATE], "{what}: neither the old state nor the new");
        assert_eq!(integrity(&Connection::open(&self.database).unwrap()), "ok", "{what}");
        usize::from(is[LATE])
    }
}

/// Waits until the database's log or journal grows, or the process ends.
fn wait_for_writing(database: &Path, child: &mut std::process::Child) {
    let len = |suffix| std::fs::metadata(with_suffix(database, suffix)).map_or(0, |file| file.len());
    while len("-wal") + len("-journal") == 0 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn killed_at_any_moment_it_is_the_old_state_or_the_new() {
    let kills = number_of("PAGEVAULT_LIVE_KILLS", 6);
    for journal in ["wal", "delete"] {
        let scene = Scene::new(journal, "2000");
        let started = Instant::now();
        scene.bring_to(EARLY);
        let whole = started.elapsed();
        let (mut state, mut old, mut new) = (EARLY, 0, 0);
        for kill in 0..kills / 2 {
            let mut child = scene.restore(1 - state).spawn().unwrap();
            if kill % 3 == 0 {
                std::thread::sleep(whole.mul_f64((kill as f64 * 0.618).fract()));
            } else {
                wait_for_writing(&scene.database, &mut child);
                std::thread::sleep(Duration::from_micros(kill * 7919 % 30_000));
            }
            let _ = child.kill();
            child.wait().unwrap();
            let now = scene.state(&format!("{journal}, kill {kill}"));
            *if now == state { &mut old } else { &mut new } += 1;
            state = now;
        }
        println!(
            "{journal}: {} killed within {} ms: {old} the old state, {new} the new",
            kills / 2,
            whole.as_millis()
        );
        // What was left behind hinders nobody.
        scene.bring_to(EARLY);
    }
}

const CALLS: &str = "pwrite64,fsync,fdatasync,unlink,ftruncate";

/// `command` under `strace`, which looks at the calls that write the database and its sidecars.
fn traced(scene: &Scene, options: &[&str], log: &Path) -> Option<ExitStatus> {
    let command = scene.restore(LATE);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(log).args(options);
    for suffix in ["", "-wal", "-journal"] {
        strace.arg("-P").arg(with_suffix(&scene.database, suffix));
    }
    strace.arg(command.get_program()).args(command.get_args());
    strace.env_clear().stdout(Stdio::null()).stderr(Stdio::null());
    for (name, value) in command.get_envs() {
        strace.env(name, value.unwrap_or_default());
    }
    strace.env("PATH", std::env::var_os("PATH").unwrap_or_default()).status().ok()
}

/// The calls of a whole restore in their order, each with how many of its name there were up to it.
fn calls_of(log: &str) -> Vec<(String, usize)> {
    let mut calls: Vec<(String, usize)> = Vec::new();
    for line in log.lines() {
        let Some(call) = line.split_whitespace().nth(1).and_then(|word| word.split_once('(')) else {
            continue;
        };
        if CALLS.split(',').any(|name| name == call.0) {
            let before = calls.iter().filter(|(name, _)| name == call.0).count();
            calls.push((call.0.to_owned(), before + 1));
        }
    }
    calls
}

/// The transaction fits into SQLite's page cache, so that whatever reaches a file after the journal's pages is the commit.
#[test]
fn killed_at_each_step_of_the_commit_it_is_the_old_state_or_the_new() {
    let kills = usize::try_from(number_of("PAGEVAULT_LIVE_KILLS", 10)).unwrap();
    for journal in ["wal", "delete"] {
        let scene = Scene::new(journal, "60");
        let log = scene.folder.path().join("calls");
        if traced(&scene, &["-e", &format!("trace={CALLS}")], &log).is_none_or(|status| !status.success()) {
            eprintln!("SKIPPED: kills at single system calls need strace, and that it may trace");
            return;
        }
        let calls = calls_of(&std::fs::read_to_string(&log).unwrap());
        assert!(calls.len() > 10, "{calls:?}");
        assert_eq!(scene.state("not killed"), LATE);
        let (mut old, mut new, mut by_name) = (0, 0, std::collections::BTreeMap::<&str, usize>::new());
        let half = kills / 2;
        // What is not a write of a page, and what comes before and after it, is where the commit takes a step; the other
        // half is spread over all calls.
        let steps: Vec<usize> = (0..calls.len())
            .filter(|at| {
                let around = at.saturating_sub(1)..(at + 2).min(calls.len());
                calls[around].iter().any(|(name, _)| name != "pwrite64")
            })
            .collect();
        for kill in 0..half {
            if scene.state("before a kill") == LATE {
                scene.bring_to(EARLY);
            }
            let at = if kill % 2 == 0 {
                kill * (calls.len() - 1) / half.max(2)
            } else {
                steps[(kill / 2) * steps.len() / half.div_ceil(2) % steps.len()]
            };
            let (name, number) = &calls[at];
            let inject = format!("inject={name}:signal=SIGKILL:when={number}");
            let status = traced(&scene, &["-e", &format!("trace={name}"), "-e", &inject], &log).unwrap();
            let what = format!("{journal}, killed at call {at} of {}: {name} {number}", calls.len());
            assert!(!status.success(), "{what}: it was not");
            *by_name.entry(name).or_default() += 1;
            *if scene.state(&what) == EARLY { &mut old } else { &mut new } += 1;
        }
        println!(
            "{journal}: {half} killed at one of the {} calls that write: {by_name:?}: {old} the old state, {new} the new",
            calls.len()
        );
    }
}
