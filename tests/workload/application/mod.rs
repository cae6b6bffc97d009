//! A case-management application, as far as a backup can tell: users with cases, documents, evidence and an
//! audit trail, and a ledger by which every committed state can be judged.
//!
//! Every transaction moves an amount between two accounts of `ledger`, whose sum therefore never changes,
//! and counts itself in `ledger_meta`; a torn copy shows in either. Text comes from a pseudo-vocabulary with
//! a Zipf distribution, and a share of the documents is incompressible, so that 64 KiB of pages compress
//! about 2x with zstd level 3, as those of real applications do.
//!
//! All of it prints nothing, and given the same arguments and the same `SQLite` writes the same bytes.

mod build;
mod check;
mod random;
mod text;
mod work;

pub(crate) use build::{BuildOptions, Journal, build};
pub(crate) use check::check;
pub(crate) use work::{checkpoint, churn, live};

use random::Random;

/// Accounts in the ledger, numbered from 1.
const ACCOUNTS: i64 = 2000;
/// What each account holds at the beginning.
const OPENING_BALANCE: i64 = 1000;

const SCHEMA: &str = "
CREATE TABLE users(id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT, password_hash BLOB,
                   created_at TEXT, last_login TEXT, prefs TEXT);
CREATE TABLE cases(id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users(id), title TEXT,
                   status TEXT, description TEXT, updated_at TEXT);
CREATE INDEX cases_user ON cases(user_id);
CREATE INDEX cases_status ON cases(status, updated_at);
CREATE TABLE documents(id INTEGER PRIMARY KEY, case_id INTEGER NOT NULL REFERENCES cases(id), name TEXT,
                       mime TEXT, body BLOB, digest BLOB);
CREATE INDEX documents_case ON documents(case_id);
CREATE TABLE evidence(id INTEGER PRIMARY KEY, case_id INTEGER NOT NULL REFERENCES cases(id), kind TEXT,
                      note TEXT, weight REAL);
CREATE INDEX evidence_case ON evidence(case_id);
CREATE TABLE audit_logs(id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users(id), at TEXT, action TEXT,
                        entity TEXT, entity_id INTEGER, ip TEXT, detail TEXT);
CREATE INDEX audit_user ON audit_logs(user_id, at);
CREATE TABLE ledger(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, note TEXT);
CREATE TABLE ledger_meta(moves INTEGER NOT NULL);
";

const INSERT_DOCUMENT: &str =
    "INSERT INTO documents(case_id, name, mime, body, digest) VALUES(?, ?, ?, ?, ?)";
const INSERT_AUDIT: &str =
    "INSERT INTO audit_logs(user_id, at, action, entity, entity_id, ip, detail) VALUES(?, ?, ?, ?, ?, ?, ?)";

const CASE_STATES: [&str; 3] = ["open", "closed", "pending"];

/// An RFC 3339 time within `year`.
fn stamp(random: &mut Random, year: i64) -> String {
    let (month, day) = (random.between(1, 11), random.between(1, 28));
    let (hour, minute, second) = (random.between(0, 23), random.between(0, 59), random.between(0, 59));
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Opens the application's connection: foreign keys on, 30 s of patience.
fn connect(path: &std::path::Path) -> rusqlite::Result<rusqlite::Connection> {
    let connection = rusqlite::Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(30))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

/// One line of the audit trail about one of the first `cases` cases.
fn audit(
    database: &rusqlite::Connection,
    random: &mut Random,
    text: &text::Text,
    user: i64,
    cases: i64,
) -> rusqlite::Result<()> {
    let at = stamp(random, 2026);
    let action = random.choose(&["login", "view", "edit", "delete", "share"]);
    let entity = random.choose(&["case", "document", "evidence"]);
    let entity_id = random.between(1, cases);
    let ip = format!("10.{}.{}.{}", random.between(0, 255), random.between(0, 255), random.between(0, 255));
    let detail = text.draw(random, 10, 80);
    database.prepare_cached(INSERT_AUDIT)?.execute((user, at, action, entity, entity_id, ip, detail))?;
    Ok(())
}
