//! Migrations under guard: real programs that do it right, fail, damage, hang, are killed; and a guard that is killed.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

use crate::children::{Process, pagevault, this_binary};
use crate::databases::execute;

const SCHEMA: &str = "
    CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE orders(id INTEGER PRIMARY KEY, user_id REFERENCES users(id), total REAL);
    WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n LIMIT 300)
    INSERT INTO users SELECT v, 'user ' || v FROM n;
    INSERT INTO orders SELECT id, id, id * 1.5 FROM users;";

/// A database, and the home of the vault.
struct Scene {
    folder: tempfile::TempDir,
    database: PathBuf,
}

impl Scene {
    fn new(journal: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("app.db");
        execute(&database, &format!("PRAGMA journal_mode = {journal}; {SCHEMA}"));
        Self { folder, database }
    }

    /// The command line, whose child finds what `migrate` needs in its environment.
    fn guard(&self, options: &[&str], sql: &str) -> Command {
        let mut command = pagevault(self.folder.path());
        command.current_dir(self.folder.path()).env("PATH", std::env::var_os("PATH").unwrap());
        command.env("PAGEVAULT_TEST_DATABASE", &self.database).env("PAGEVAULT_TEST_SQL", sql);
        command.args(["guard", "--json"]).args(options);
        command
    }

    /// Guards this binary running `sql`.
    fn migrate(&self, options: &[&str], sql: &str) -> Output {
        let program = this_binary("children::holds_a_database");
        let mut command = self.guard(options, sql);
        command.arg("app.db").arg("--").arg(program.get_program()).args(program.get_args());
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Guards `program` with `arguments`.
    fn run(&self, options: &[&str], program: &str, arguments: &[&str]) -> Output {
        let mut command = self.guard(options, "");
        command.args(["app.db", "--", program]).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    fn content(&self) -> Vec<String> {
        let connection = Connection::open(&self.database).unwrap();
        let integrity: String = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
        assert_eq!(integrity, "ok");
        let mut all = Vec::new();
        for sql in [
            "SELECT coalesce(sql, name) FROM sqlite_schema",
            "SELECT id || name FROM users",
            "SELECT id || ' ' || user_id || ' ' || total FROM orders",
        ] {
            let mut statement = match connection.prepare(sql) {
                Ok(statement) => statement,
                Err(_) => continue,
            };
            all.extend(statement.query_map((), |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap));
        }
        all
    }

    /// Runs what must be undone, and returns the report.
    fn is_undone(&self, what: &str, act: impl FnOnce(&Self) -> Output) -> Value {
        let before = self.content();
        let output = act(self);
        assert_eq!(output.status.code(), Some(10), "{what}: {}", said(&output));
        assert_eq!(self.content(), before, "{what}");
        let report = report(&output);
        assert_eq!(report["outcome"], "rolled_back", "{what}");
        report
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The last line: before it is what the command said.
fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim_end().lines().last().unwrap())
        .unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

fn failures(report: &Value) -> String {
    report["databases"][0]["failures"].to_string()
}

#[test]
fn a_migration_that_is_right_is_kept() {
    for journal in ["wal", "delete"] {
        let scene = Scene::new(journal);
        let options = [
            "--require-table",
            "users",
            "--expect",
            "users>=same",
            "--assert",
            "SELECT count(email) = 300 FROM users",
        ];
        let sql = "ALTER TABLE users ADD COLUMN email TEXT; UPDATE users SET email = name || '@example.org';
                   CREATE TABLE tags(id INTEGER PRIMARY KEY, word); PRAGMA user_version = 2";
        let output = scene.migrate(&options, sql);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let report = report(&output);
        assert_eq!(report["outcome"], "kept");
        assert_eq!(report["command"]["exit_code"], 0);
        let changes = report["databases"][0]["schema_changes"].to_string();
        for words in
            ["user_version 0 -> 2", "table users: column email added (TEXT)", "table tags added (2 columns)"]
        {
            assert!(changes.contains(words), "{changes}");
        }
        let list =
            pagevault(scene.folder.path()).args(["list", "--kind", "migration", "--json"]).output().unwrap();
        let list: Value = serde_json::from_slice(&list.stdout).unwrap();
        assert!(list[0]["description"].as_str().unwrap().starts_with("before: "), "{list}");
        assert_eq!((&list[0]["user_version"], &list[1]["user_version"]), (&Value::from(0), &Value::from(2)));
        assert_ne!(list[0]["schema_fingerprint"], list[1]["schema_fingerprint"]);
    }
}

#[test]
fn a_migration_that_is_wrong_is_undone() {
    for journal in ["wal", "delete"] {
        let scene = Scene::new(journal);
        let half =
            "CREATE TABLE half(a); INSERT INTO half SELECT name FROM users; DELETE FROM orders; NONSENSE";
        let report = scene.is_undone("fails half way", |scene| scene.migrate(&[], half));
        assert!(
            report["databases"][0]["schema_changes"].to_string().contains("table half added"),
            "{report}"
        );
        let report = scene.is_undone("drops a table", |scene| {
            scene.migrate(&["--require-table", "orders"], "DROP TABLE orders")
        });
        assert!(failures(&report).contains("required table orders is missing"), "{report}");
        let report = scene.is_undone("leaves orphans", |scene| {
            scene.migrate(&[], "PRAGMA foreign_keys = 0; DELETE FROM users WHERE id < 9")
        });
        assert!(failures(&report).contains("8 rows of orders refer to rows of users"), "{report}");
        let report = scene.is_undone("loses rows", |scene| {
            scene.migrate(&["--expect", "app:orders>=same"], "DELETE FROM orders WHERE id = 5")
        });
        assert!(failures(&report).contains("orders has 299 rows, had 300"), "{report}");
        let report = scene.is_undone("an assertion", |scene| {
            scene.migrate(
                &["--assert", "SELECT total > 0 FROM orders"],
                "UPDATE orders SET total = -1 WHERE id = 9",
            )
        });
        assert!(failures(&report).contains("assertion"), "{report}");
        let report = scene.is_undone("is killed", |scene| scene.run(&[], "sh", &["-c", "kill -9 $$"]));
        assert_eq!(report["command"]["signal"], 9);
    }
}

#[test]
fn a_migration_that_damages_the_file_is_undone() {
    let deeds = [
        ("corrupts a page", "head -c 3000 /dev/urandom | dd of=app.db bs=1 seek=4096 conv=notrunc"),
        ("writes something else", "echo gone > app.db"),
        ("cuts it", "head -c 9000 app.db > cut && cat cut > app.db"),
        ("empties it", ": > app.db"),
        ("removes it", "rm app.db"),
    ];
    for (what, deed) in deeds {
        let scene = Scene::new("delete");
        scene.is_undone(what, |scene| scene.run(&[], "sh", &["-c", &format!("{deed}; exit 0")]));
    }
}

#[test]
fn a_command_that_cannot_be_run_changes_nothing() {
    let scene = Scene::new("wal");
    let output = scene.run(&[], "./no such program", &[]);
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
    // Nothing is left to finish.
    assert_eq!(scene.guard(&["--resume"], "").stdin(Stdio::null()).output().unwrap().status.code(), Some(6));
}

#[test]
fn several_databases_stand_and_fall_together() {
    let scene = Scene::new("wal");
    let other = scene.folder.path().join("other.db");
    execute(&other, "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
    let before = scene.content();
    let program = this_binary("children::holds_a_database");
    let mut command = scene.guard(&["--expect", "other:t=2"], "DELETE FROM orders");
    command.args(["app.db", "other.db", "--"]).arg(program.get_program()).args(program.get_args());
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(10), "{}", said(&output));
    assert_eq!(scene.content(), before);
    let report = report(&output);
    assert_eq!(report["databases"][0]["failures"], Value::Array(Vec::new()));
    assert!(report["databases"][1]["failures"].to_string().contains("t has 1 rows, had 1"), "{report}");
}

/// Starts a guard over this binary, which hangs after it has changed the database.
fn hanging(scene: &Scene, sql: &str) -> Process {
    let program = this_binary("children::holds_a_database");
    let mut command = scene.guard(&[], sql);
    command.arg("app.db").arg("--").arg(program.get_program()).args(program.get_args());
    let mut process = Process::start(&mut command);
    process.wait_for("ready");
    process
}

#[test]
fn a_migration_that_hangs_is_interrupted() {
    for signal in ["TERM", "INT"] {
        let scene = Scene::new("wal");
        let before = scene.content();
        let process = hanging(&scene, "DELETE FROM orders WHERE id > 10");
        let sent = Command::new("kill").args([&format!("-{signal}"), &process.id().to_string()]).status();
        assert!(sent.unwrap().success());
        // Its standard input stays open: only the signal can have ended it.
        let (status, printed) = process.finish_by_itself();
        assert_eq!(status.code(), Some(10), "{printed}");
        assert!(printed.contains("rolled_back"), "{printed}");
        assert_eq!(scene.content(), before);
    }
}

#[test]
fn a_guard_that_was_killed_is_finished_later() {
    for (options, code, kept) in [(["--keep"], 0, true), (["--roll-back"], 10, false)] {
        let scene = Scene::new("wal");
        let before = scene.content();
        let mut process = hanging(&scene, "UPDATE users SET name = 'x' || name");
        let stdin = process.take_stdin();
        process.kill();
        // The command goes on, for it has its own life.
        let resume = |options: &[&str]| {
            let options: Vec<&str> = std::iter::once("--resume").chain(options.iter().copied()).collect();
            scene.guard(&options, "").stdin(Stdio::null()).output().unwrap()
        };
        let output = resume(&[]);
        assert_eq!(output.status.code(), Some(7), "{}", said(&output));
        let again = scene.migrate(&[], "SELECT 1");
        assert_eq!(again.status.code(), Some(9), "{}", said(&again));
        drop(stdin);
        let started = Instant::now();
        let undecided = loop {
            let output = resume(&[]);
            if output.status.code() != Some(7) {
                break output;
            }
            assert!(started.elapsed() < Duration::from_mins(1));
            std::thread::sleep(Duration::from_millis(50));
        };
        assert_eq!(undecided.status.code(), Some(9), "{}", said(&undecided));
        assert!(said(&undecided).contains("guard --resume --keep"));
        let output = resume(&options);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert_eq!(scene.content() != before, kept);
        assert_eq!(resume(&[]).status.code(), Some(6));
    }
}

/// The guard dies in the moment between starting its command and noting which process that is, or near it.
#[test]
fn a_guard_that_is_killed_at_once_knows_that_its_command_lives() {
    let scene = Scene::new("wal");
    let before = scene.content();
    let resume = |options: &[&str]| {
        let options: Vec<&str> = std::iter::once("--resume").chain(options.iter().copied()).collect();
        scene.guard(&options, "").stdin(Stdio::null()).output().unwrap()
    };
    for _ in 0..6 {
        let mut process = hanging(&scene, "UPDATE users SET name = 'x' || name");
        let stdin = process.take_stdin();
        process.kill();
        let output = resume(&["--roll-back"]);
        assert_eq!(output.status.code(), Some(7), "{}", said(&output));
        drop(stdin);
        let started = Instant::now();
        let output = loop {
            let output = resume(&["--roll-back"]);
            if output.status.code() != Some(7) || started.elapsed() > Duration::from_mins(1) {
                break output;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(output.status.code(), Some(10), "{}", said(&output));
        assert_eq!(scene.content(), before);
    }
}

/// What the command has started keeps the write lock, so that nothing can be put back: exit code 11, until it is gone.
#[test]
fn a_rollback_that_fails_is_finished_later() {
    for journal in ["wal", "delete"] {
        let scene = Scene::new(journal);
        let before = scene.content();
        let program = this_binary("children::holds_a_database");
        let script = "exec 3<&0; \"$@\" <&3 >held & while ! grep -q ready held 2>/dev/null; do sleep 0.02; done; exit 1";
        let mut command = scene.guard(&["--busy-timeout", "300ms"], "DELETE FROM orders; BEGIN IMMEDIATE");
        command.args(["app.db", "--", "sh", "-c", script, "sh"]);
        command.arg(program.get_program()).args(program.get_args());
        let mut process = Process::start(&mut command);
        let stdin = process.take_stdin();
        let (status, printed) = process.finish_by_itself();
        assert_eq!(status.code(), Some(11), "{printed}");
        let report: Value = serde_json::from_str(printed.trim_end().lines().last().unwrap()).unwrap();
        assert_eq!(report["outcome"], "rollback_failed");
        assert!(report["rolled_back"][0]["error"].to_string().contains("locked"), "{report}");
        assert_ne!(scene.content(), before);
        drop(stdin);
        let started = Instant::now();
        let output = loop {
            let resume = ["--resume", "--roll-back", "--busy-timeout", "1s"];
            let output = scene.guard(&resume, "").stdin(Stdio::null()).output().unwrap();
            if output.status.code() != Some(11) || started.elapsed() > Duration::from_mins(1) {
                break output;
            }
        };
        assert_eq!(output.status.code(), Some(10), "{}", said(&output));
        assert_eq!(scene.content(), before);
    }
}

fn is_there(program: &str, arguments: &[&str]) -> bool {
    let found = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        eprintln!("SKIPPED: a migration by {program}, which is not here");
    }
    found
}

#[test]
fn migrations_by_common_programs() {
    let right = "ALTER TABLE users ADD COLUMN age INT";
    let wrong = "DELETE FROM users WHERE id = 7";
    let script = |language: &str, sql: &str| match language {
        "sqlite3" => vec!["app.db".to_owned(), sql.to_owned()],
        "python3" => vec![
            "-c".to_owned(),
            format!(
                "import sqlite3\nwith sqlite3.connect('app.db') as database:\n    database.execute({sql:?})"
            ),
        ],
        _ => vec![
            "-e".to_owned(),
            format!("require('child_process').execFileSync('sqlite3', ['app.db', {sql:?}])"),
        ],
    };
    for (program, probe) in [
        ("sqlite3", ["--version", "--version"]),
        ("python3", ["-c", "import sqlite3"]),
        // Node has SQLite of its own from version 22 on only; older ones call the shell.
        ("node", ["-e", "require('child_process').execFileSync('sqlite3', ['--version'])"]),
    ] {
        if !is_there(program, &probe) {
            continue;
        }
        let scene = Scene::new("wal");
        let run = |scene: &Scene, sql: &str| {
            let words = script(program, sql);
            scene.run(&[], program, &words.iter().map(String::as_str).collect::<Vec<_>>())
        };
        scene.is_undone(program, |scene| run(scene, wrong));
        let output = run(&scene, right);
        assert_eq!(output.status.code(), Some(0), "{program}: {}", said(&output));
        assert!(said(&output).contains("column age added (INT)"));
    }
}
