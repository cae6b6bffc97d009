//! The application at work, and somebody who checkpoints it.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::random::Random;
use super::text::Text;
use super::{ACCOUNTS, CASE_STATES, INSERT_DOCUMENT, audit, connect, stamp};

/// What [`live`] did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LiveReport {
    /// Transactions committed.
    pub(crate) transactions: u64,
    /// Transactions given up because the database stayed locked.
    pub(crate) busy: u64,
    /// The longest of either.
    pub(crate) longest: Duration,
}

/// What [`checkpoint`] did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CheckpointReport {
    /// Checkpoints asked for.
    pub(crate) checkpoints: u64,
    /// Those that could not be completed because of others at work.
    pub(crate) busy: u64,
}

/// Commits `transactions` transactions, then checkpoints: one "hour".
pub(crate) fn churn(path: &Path, transactions: u64, seed: u64) -> rusqlite::Result<()> {
    let mut application = Application::open(path, seed)?;
    application.database.pragma_update(None, "synchronous", "off")?;
    for _ in 0..transactions {
        application.transaction()?;
    }
    let journal: String = application.database.query_row("PRAGMA journal_mode", (), |row| row.get(0))?;
    if journal == "wal" {
        application.database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    }
    application.database.close().map_err(|(_, error)| error)
}

/// Commits transactions without pause as long as `running` says so.
pub(crate) fn live(
    path: &Path,
    seed: u64,
    running: &mut dyn FnMut() -> bool,
) -> rusqlite::Result<LiveReport> {
    let mut application = Application::open(path, seed)?;
    let mut report = LiveReport::default();
    while running() {
        let start = Instant::now();
        match application.transaction() {
            Ok(()) => report.transactions += 1,
            Err(error) if is_contention(&error) => {
                report.busy += 1;
                if !application.database.is_autocommit() {
                    application.database.execute_batch("ROLLBACK")?;
                }
            }
            Err(error) => return Err(error),
        }
        report.longest = report.longest.max(start.elapsed());
    }
    Ok(report)
}

/// Checkpoints of all kinds at random, up to 20 ms apart, as long as `running` says so.
pub(crate) fn checkpoint(
    path: &Path,
    seed: u64,
    running: &mut dyn FnMut() -> bool,
) -> rusqlite::Result<CheckpointReport> {
    let (database, mut random) = (connect(path)?, Random::new(seed));
    database.busy_timeout(Duration::from_millis(250))?;
    let mut report = CheckpointReport::default();
    while running() {
        let kind = random.choose(&["PASSIVE", "FULL", "RESTART", "TRUNCATE"]);
        let busy =
            database.query_row(&format!("PRAGMA wal_checkpoint({kind})"), (), |row| row.get::<_, bool>(0));
        report.checkpoints += 1;
        match busy {
            Ok(busy) => report.busy += u64::from(busy),
            Err(error) if is_contention(&error) => report.busy += 1,
            Err(error) => return Err(error),
        }
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
    }
    Ok(report)
}

/// Whether somebody else was in the way; anything else ends the run.
fn is_contention(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed)
    )
}

struct Application {
    database: Connection,
    random: Random,
    text: Text,
    users: i64,
    cases: i64,
}

impl Application {
    fn open(path: &Path, seed: u64) -> rusqlite::Result<Self> {
        let database = connect(path)?;
        let count = |table| database.query_row(&format!("SELECT max(id) FROM {table}"), (), |row| row.get(0));
        let (users, cases) = (count("users")?, count("cases")?);
        Ok(Self { database, random: Random::new(seed), text: Text::new(), users, cases })
    }

    /// A login, an edit, sometimes a new document, always a move in the ledger.
    fn transaction(&mut self) -> rusqlite::Result<()> {
        self.run("BEGIN IMMEDIATE", ())?;
        let user = self.pick_user();
        let now = stamp(&mut self.random, 2026);
        self.run("UPDATE users SET last_login = ? WHERE id = ?", (now, user))?;
        self.edit()?;
        audit(&self.database, &mut self.random, &self.text, user, self.cases)?;
        self.move_money()?;
        self.run("UPDATE ledger_meta SET moves = moves + 1", ())?;
        self.run("COMMIT", ())
    }

    /// Half of the transactions change a case, a tenth add a document, a twentieth drop a case's evidence.
    fn edit(&mut self) -> rusqlite::Result<()> {
        let dice = self.random.unit();
        let case = self.random.between(1, self.cases);
        let random = &mut self.random;
        if dice < 0.5 {
            let (status, now) = (random.choose(&CASE_STATES), stamp(random, 2026));
            self.run("UPDATE cases SET status = ?, updated_at = ? WHERE id = ?", (status, now, case))
        } else if dice < 0.6 {
            let (name, body) = (self.text.draw(random, 10, 30), self.text.draw(random, 500, 8000));
            let digest = random.bytes(32);
            self.run(INSERT_DOCUMENT, (case, name, "text/plain", body.as_bytes(), digest))
        } else if dice < 0.65 {
            self.run("DELETE FROM evidence WHERE case_id = ?", [case])
        } else {
            Ok(())
        }
    }

    fn move_money(&mut self) -> rusqlite::Result<()> {
        let giver = self.random.between(1, ACCOUNTS);
        // One of the other accounts, each as likely.
        let taker = (giver - 1 + self.random.between(1, ACCOUNTS - 1)) % ACCOUNTS + 1;
        let amount = self.random.between(1, 50);
        let note = self.text.draw(&mut self.random, 20, 200);
        self.run("UPDATE ledger SET balance = balance - ? WHERE id = ?", (amount, giver))?;
        self.run("UPDATE ledger SET balance = balance + ?, note = ? WHERE id = ?", (amount, note, taker))
    }

    /// Most work is done by few users.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "far fewer than 2^52 users"
    )]
    fn pick_user(&mut self) -> i64 {
        ((self.users as f64 * self.random.skewed()) as i64).max(1)
    }

    fn run(&self, sql: &str, parameters: impl rusqlite::Params) -> rusqlite::Result<()> {
        self.database.prepare_cached(sql)?.execute(parameters).map(|_| ())
    }
}
