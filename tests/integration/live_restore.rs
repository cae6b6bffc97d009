//! Restores into databases that others have open.
//!
//! The long runs:
//!
//! ```text
//! PAGEVAULT_LIVE_RESTORES=60 PAGEVAULT_LIVE_KILLS=50 \
//!     cargo test --release --test integration live_restore:: -- --nocapture --test-threads=1
//! ```
//!
//! `PAGEVAULT_LIVE_RESTORES` is how many seconds restores go on beside writers and readers, all in all;
//! `PAGEVAULT_LIVE_KILLS` is how many restores are killed at moments that time chooses, and how many at single system
//! calls of the commit (see `kills`).

mod kills;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagevault::error::ErrorKind;
use pagevault::operations::restore::Method;
use pagevault::page_source::PageSource;
use pagevault::sqlite::{ImageConnection, LiveDatabase, OpenOptions, differs_only_as_live};
use pagevault::vault::Vault;
use rusqlite::Connection;

use crate::children::{Process, holder, workload};
use crate::databases::{create, execute};
use crate::support::{memory_vault, restore_live, restore_to, take};

fn number_of(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |number| number.parse().expect("a number"))
}

/// The pages of a live database.
fn pages_of(database: &Path) -> Vec<u8> {
    let mut live =
        LiveDatabase::open(database, &OpenOptions { busy_timeout: Duration::from_secs(20) }).unwrap();
    let mut capture = live.begin().unwrap();
    let geometry = capture.geometry();
    let mut pages = vec![0; usize::try_from(geometry.image_len()).unwrap()];
    capture.read_pages(0, &mut pages).unwrap();
    capture.finish().unwrap();
    pages
}

/// Whether a live database is an image, but for what it keeps of its own.
fn is_image(live: &[u8], image: &[u8]) -> bool {
    let page = match u16::from_be_bytes([image[16], image[17]]) {
        1 => 65_536,
        size => usize::from(size),
    };
    live.len() == image.len()
        && live[page..] == image[page..]
        && differs_only_as_live(&image[..page], &live[..page])
}

/// All that a connection sees, as text.
fn content(connection: &Connection) -> String {
    let texts = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map((), |row| {
            Ok((0..row.as_ref().column_count())
                .map(|column| format!("{:?}", row.get_ref(column).unwrap()))
                .collect())
        });
        rows.unwrap().map(Result::unwrap).collect()
    };
    let mut all = texts("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2");
    for table in connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")
        .unwrap()
        .query_map((), |row| row.get::<_, String>(0))
        .unwrap()
    {
        all.extend(texts(&format!("SELECT * FROM \"{}\"", table.unwrap())));
    }
    all.join("\n")
}

fn integrity(connection: &Connection) -> String {
    connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap()
}

/// What a database goes through between the snapshot and its restore.
const CHANGES: [(&str, &str); 6] = [
    (
        "grows",
        "INSERT INTO t(x, y) SELECT randomblob(900), 'new' FROM t, (SELECT 1 UNION SELECT 2 UNION SELECT 3)",
    ),
    ("shrinks", "DELETE FROM t WHERE id % 3 <> 0"),
    (
        "has more tables",
        "CREATE TABLE more(a, b UNIQUE); INSERT INTO more SELECT id, y || id FROM t; CREATE VIEW v AS SELECT 1",
    ),
    ("has fewer tables", "DROP TABLE t; DROP TABLE words; DROP TABLE boxes"),
    (
        "has other columns",
        "ALTER TABLE t ADD COLUMN z; UPDATE t SET z = x; DROP INDEX i; PRAGMA user_version = 7",
    ),
    (
        "has other words and boxes",
        "INSERT INTO words SELECT 'alpha beta ' || id FROM t; DELETE FROM words WHERE rowid < 40;
         UPDATE boxes SET x1 = x1 + 5 WHERE id % 2",
    ),
];

const SPECIAL: &str =
    "CREATE VIRTUAL TABLE words USING fts5(text); CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1);
    INSERT INTO words SELECT 'gamma delta ' || id FROM t; INSERT INTO boxes SELECT id, id, id + 3 FROM t;";

fn there_and_back(pragmas: &str, what: &str, change: &str) {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("app.db");
    create(&database, pragmas);
    execute(&database, SPECIAL);
    let (vault, _) = memory_vault();
    let first = take(&vault, &database).unwrap().snapshot_id.to_string();
    let before = content(&Connection::open(&database).unwrap());
    execute(&database, change);
    if pragmas.contains("incremental") {
        execute(&database, "PRAGMA incremental_vacuum");
    }

    // Open throughout, with statements prepared and the old schema in memory.
    let open = Connection::open(&database).unwrap();
    let after = content(&open);
    assert_ne!(before, after, "{what}");
    let restored = restore_live(&vault, &first, &database).unwrap();
    assert_eq!(restored.method, Method::Pages, "{pragmas} {what}");
    assert_eq!(restored.verified.live, Some(true));
    assert_eq!(content(&open), before, "{pragmas} {what}");
    assert_eq!(integrity(&open), "ok", "{pragmas} {what}");
    open.execute("INSERT INTO words VALUES('epsilon')", ()).unwrap();
    open.execute("DELETE FROM words WHERE text = 'epsilon'", ()).unwrap();

    // The safety snapshot is the way back, byte for byte.
    let safety = restored.safety_snapshot.unwrap().to_string();
    let image = folder.path().join("safety.db");
    restore_to(&vault, &safety, &image).unwrap();
    assert_eq!(content(&Connection::open(&image).unwrap()), after, "{pragmas} {what}");
    let image = std::fs::read(&image).unwrap();
    restore_live(&vault, &safety, &database).unwrap();
    assert_eq!(content(&open), after, "{pragmas} {what}");
    assert_eq!(integrity(&open), "ok", "{pragmas} {what}");
    assert!(is_image(&pages_of(&database), &image), "{pragmas} {what}");
    // Nothing differs any more, so nothing is written.
    assert_eq!(restore_live(&vault, &safety, &database).unwrap().pages_written, 0);
}

/// Every third form in the normal run, all with `PAGEVAULT_THOROUGH`.
#[test]
fn every_form_of_database_there_and_back() {
    let mut forms: Vec<(String, usize)> = Vec::new();
    for journal in ["delete", "wal"] {
        for vacuum in ["none", "full", "incremental"] {
            let page_size = if vacuum == "none" { 4096 } else { 1024 };
            let pragmas = format!(
                "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {vacuum}; PRAGMA journal_mode = {journal}"
            );
            // Shifted, so that a third has all changes.
            let shift = forms.len() / CHANGES.len();
            forms
                .extend((0..CHANGES.len()).map(|change| (pragmas.clone(), (change + shift) % CHANGES.len())));
        }
        for pragmas in ["PRAGMA page_size = 512", "PRAGMA encoding = 'UTF-16be'", "PRAGMA page_size = 65536"]
        {
            forms.push((format!("{pragmas}; PRAGMA journal_mode = {journal}"), 0));
        }
    }
    let step = if std::env::var_os("PAGEVAULT_THOROUGH").is_some() { 1 } else { 3 };
    for (pragmas, change) in forms.iter().step_by(step) {
        let (what, sql) = CHANGES[*change];
        there_and_back(pragmas, what, sql);
    }
}

#[test]
fn auto_vacuum_and_journal_mode_may_have_changed_since() {
    for (one, other) in [("none", "full"), ("full", "incremental"), ("incremental", "none")] {
        for (journal, later) in [("delete", "wal"), ("wal", "delete")] {
            let folder = tempfile::tempdir().unwrap();
            let database = folder.path().join("app.db");
            create(&database, &format!("PRAGMA auto_vacuum = {one}; PRAGMA journal_mode = {journal}"));
            let (vault, _) = memory_vault();
            let first = take(&vault, &database).unwrap().snapshot_id.to_string();
            let before = content(&Connection::open(&database).unwrap());
            execute(
                &database,
                &format!(
                    "PRAGMA journal_mode = delete; PRAGMA auto_vacuum = {other}; VACUUM; DELETE FROM t WHERE id > 9;
                     PRAGMA journal_mode = {later}"
                ),
            );
            let open = Connection::open(&database).unwrap();
            let _ = content(&open);
            restore_live(&vault, &first, &database).unwrap();
            assert_eq!(content(&open), before);
            open.execute("DELETE FROM t WHERE id % 2", ()).unwrap();
            assert_eq!(integrity(&open), "ok");
            // The mode in which its applications have it open stays.
            let mode: String = open.query_row("PRAGMA journal_mode", (), |row| row.get(0)).unwrap();
            assert_eq!(mode, later);
        }
    }
}

#[test]
fn what_cannot_be_written_by_pages_is_replaced_when_nobody_has_it_open() {
    let cases: [(&str, &str); 4] = [
        ("pages", "PRAGMA page_size = 8192; VACUUM"),
        ("encoding", "PRAGMA encoding = 'UTF-16le'"),
        ("empty", ""),
        ("damaged", ""),
    ];
    for (what, sql) in cases {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("app.db");
        create(&database, "");
        let (vault, _) = memory_vault();
        let first = take(&vault, &database).unwrap().snapshot_id.to_string();
        let image = std::fs::read(&database).unwrap();
        match what {
            "pages" => execute(&database, sql),
            "damaged" => std::fs::write(&database, &image[..image.len() - 3000]).unwrap(),
            _ => {
                std::fs::remove_file(&database).unwrap();
                create(&database, sql);
                if what == "empty" {
                    std::fs::write(&database, "").unwrap();
                }
            }
        }
        let was = std::fs::read(&database).unwrap();
        let other = holder(&database, "SELECT count(*) FROM sqlite_schema");
        // A damaged file cannot be held by somebody who reads it; by one who has it open it can.
        let error = restore_live(&vault, &first, &database).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{what}: {error}");
        assert!(error.to_string().contains(&format!("({})", other.id())), "{what}: {error}");
        assert!(std::fs::read(&database).unwrap() == was, "{what}");
        other.kill();
        let restored = restore_live(&vault, &first, &database).unwrap();
        assert_eq!(restored.method, Method::Replaced, "{what}");
        assert!(std::fs::read(&database).unwrap() == image, "{what}");
        assert_eq!(restored.safety_snapshot.is_some(), what != "damaged", "{what}");
    }
}

#[test]
fn a_reader_that_does_not_let_go_keeps_the_old_state() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("app.db");
    create(&database, "");
    let (vault, _) = memory_vault();
    let first = take(&vault, &database).unwrap().snapshot_id.to_string();
    execute(&database, "DELETE FROM t");
    let was = pages_of(&database);
    let reader = holder(&database, "BEGIN; SELECT count(*) FROM t");
    let host = crate::support::request(&[&database]).host;
    let mut request =
        pagevault::operations::restore_into::LiveRestoreRequest::new(first.parse().unwrap(), &database, host);
    request.busy_timeout = Duration::from_millis(300);
    let restore = || {
        pagevault::operations::restore_into::restore_into(
            &vault,
            &request,
            &pagevault::clock::SystemClock,
            &pagevault::monitor::Silent,
        )
    };
    assert_eq!(restore().unwrap_err().kind(), ErrorKind::Busy);
    reader.kill();
    assert!(pages_of(&database) == was);
    // A writer keeps the write lock.
    let writer = holder(&database, "BEGIN IMMEDIATE");
    assert_eq!(restore().unwrap_err().kind(), ErrorKind::Busy);
    writer.kill();
    restore().unwrap();
}

/// The number of moves in a stored snapshot, read in the vault.
fn stored_moves(vault: &Vault, id: &str) -> i64 {
    let snapshot = pagevault::operations::list::find(
        vault,
        &id.parse().unwrap(),
        jiff::Timestamp::now(),
        &pagevault::monitor::Silent,
    )
    .unwrap();
    vault.load_index().unwrap();
    let image = ImageConnection::open(Box::new(vault.image(&snapshot).unwrap()), 1 << 20).unwrap();
    image.query_row("SELECT moves FROM ledger_meta", (), |row| row.get(0)).unwrap()
}

fn of_workload(verb: &str, database: &Path) -> Command {
    let mut command = Command::new(workload());
    command.arg(verb).arg(database);
    command
}

fn built(folder: &Path, journal: &str, vacuum: &str) -> PathBuf {
    let database = folder.join("app.db");
    execute(&database, &format!("PRAGMA auto_vacuum = {vacuum}; VACUUM"));
    std::fs::remove_file(&database).unwrap();
    let build = of_workload("build", &database).args(["--megabytes", "3", "--journal", journal]).status();
    assert!(build.unwrap().success());
    if vacuum != "none" {
        execute(
            &database,
            &format!(
                "PRAGMA journal_mode = delete; PRAGMA auto_vacuum = {vacuum}; VACUUM; PRAGMA journal_mode = {journal}"
            ),
        );
    }
    database
}

/// Reads over and over, and finds that every state is whole. Returns how many it saw.
fn read_on(database: &Path, stop: &AtomicBool) -> u64 {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    let mut seen = 0;
    while !stop.load(Ordering::Relaxed) {
        let look = || -> rusqlite::Result<(i64, i64, i64, i64)> {
            let moves = "SELECT moves FROM ledger_meta";
            let sum = "SELECT sum(balance), count(*) FROM ledger";
            connection.execute_batch("BEGIN")?;
            let first = connection.query_row(moves, (), |row| row.get(0))?;
            let (sum, count) = connection.query_row(sum, (), |row| Ok((row.get(0)?, row.get(1)?)))?;
            if seen % 16 == 0 {
                assert_eq!(integrity(&connection), "ok");
            }
            let last = connection.query_row(moves, (), |row| row.get(0))?;
            connection.execute_batch("COMMIT")?;
            Ok((first, last, sum, count))
        };
        match look() {
            Ok((first, last, sum, count)) => {
                assert_eq!((first, sum, count), (last, 2_000_000, 2000));
                seen += 1;
            }
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                let _ = connection.execute_batch("ROLLBACK");
            }
            Err(error) => panic!("a reader met {error}"),
        }
    }
    seen
}

/// Restores beside two writers, readers and, with a log, a checkpointer, for `seconds`.
fn beside_writers(journal: &str, vacuum: &str, seconds: f64) {
    let folder = tempfile::tempdir().unwrap();
    let database = built(folder.path(), journal, vacuum);
    let (vault, _) = memory_vault();
    // An early state, and a later one that is larger and of another schema.
    let early = take(&vault, &database).unwrap().snapshot_id.to_string();
    assert!(of_workload("churn", &database).args(["--transactions", "300"]).status().unwrap().success());
    execute(
        &database,
        "CREATE TABLE extra(a PRIMARY KEY, b); INSERT INTO extra SELECT id, body FROM documents LIMIT 200",
    );
    let late = take(&vault, &database).unwrap().snapshot_id.to_string();
    let mut base = stored_moves(&vault, &late);

    let mut processes: Vec<Process> = ["31", "32"]
        .map(|seed| {
            Process::start(of_workload("live", &database).args(["--seed", seed, "--until-stdin-closes"]))
        })
        .into();
    let checkpointer = (journal == "wal").then(|| {
        Process::start(of_workload("checkpoint", &database).args(["--seed", "33", "--until-stdin-closes"]))
    });
    let stop = AtomicBool::new(false);
    let (mut restores, mut busy, mut compared, mut committed, mut pages) =
        (0_u64, 0_u64, 0_u64, 0_i64, 0_u64);
    let mut holds = Vec::new();
    let seen = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| seen.fetch_add(read_on(&database, &stop), Ordering::Relaxed));
        }
        // Whatever fails below, the readers end.
        let stop_at_last = StopAtLast(&stop);
        let started = Instant::now();
        while started.elapsed().as_secs_f64() < seconds || restores < 2 {
            let wanted = if restores % 2 == 0 { &early } else { &late };
            match restore_live(&vault, wanted, &database) {
                Ok(report) => {
                    assert_eq!(report.method, Method::Pages);
                    // What was committed since the last restore is in the safety snapshot, to the last transaction.
                    committed += stored_moves(&vault, &report.safety_snapshot.unwrap().to_string()) - base;
                    base = stored_moves(&vault, wanted);
                    restores += 1;
                    compared += u64::from(report.verified.live == Some(true));
                    pages += report.pages_written;
                    holds.push(report.hold_ms.unwrap());
                }
                Err(error) if error.kind() == ErrorKind::Busy => busy += 1,
                Err(error) => panic!("{error}"),
            }
        }
        drop(stop_at_last);
    });
    for process in &mut processes {
        assert!(process.is_running());
    }
    let mut transactions = 0;
    for process in processes {
        let (status, printed) = process.finish();
        assert!(status.success(), "{printed}");
        transactions += printed.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap();
    }
    if let Some(checkpointer) = checkpointer {
        assert!(checkpointer.finish().0.success());
    }
    let check = of_workload("check", &database).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success(), "{said}");
    let last: i64 = said.trim().strip_prefix("ok moves ").unwrap().parse().unwrap();
    committed += last - base;
    assert_eq!(committed, transactions, "a commit was lost or counted twice");
    holds.sort_unstable();
    println!(
        "{journal}, auto_vacuum {vacuum}: {restores} restores ({compared} compared before the next commit, {busy} busy), \
         {pages} pages, write lock {} ms (median) and {} ms (most), {transactions} transactions, all of them in safety \
         snapshots, {} whole states seen by readers",
        holds[holds.len() / 2],
        holds[holds.len() - 1],
        seen.into_inner()
    );
}

struct StopAtLast<'a>(&'a AtomicBool);

impl Drop for StopAtLast<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn beside_writers_and_readers() {
    let seconds = number_of("PAGEVAULT_LIVE_RESTORES", 4) as f64;
    let forms = [("wal", "none"), ("delete", "none"), ("wal", "full"), ("delete", "incremental")];
    for (journal, vacuum) in forms {
        beside_writers(journal, vacuum, seconds / forms.len() as f64);
    }
}
