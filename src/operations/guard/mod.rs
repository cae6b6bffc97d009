//! `guard`: what a migration did is verified, and rolled back if it is not right.
//!
//! Snapshots of kind migration are taken of all databases; then somebody else runs the migration. What it left is stored
//! as well, and judged in the vault, on one committed state: integrity, references that were whole before, tables, rows,
//! assertions. A rollback is a live restore of the first snapshot.

mod expect;
mod settle;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::ValueRef;

pub use self::expect::{Expectation, ExpectationError};
pub use self::settle::{GuardOutcome, GuardReport, RolledBack, guard};
use super::list::{SnapshotSpec, catalog};
use super::restore::{RestoreReport, RestoreRequest, restore};
use super::restore_into::{LiveRestoreRequest, restore_into};
use super::snapshot::{Host, SnapshotReport, SnapshotRequest, snapshot};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Kind;
use crate::ids::SnapshotId;
use crate::monitor::Monitor;
use crate::sqlite::{
    CheckLevel, ForeignKeyProblem, ImageConnection, Integrity, Schema, has_table, verify_image,
};
use crate::vault::{Snapshot, Vault};

/// Bytes of an image held while it is asked.
const CACHE_BYTES: usize = 16 << 20;

/// What must hold after the migration. Each may begin with `NAME:` to be about one of several databases.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    /// Tables that must be there.
    pub required_tables: Vec<String>,
    /// Numbers of rows.
    pub expectations: Vec<Expectation>,
    /// Queries that must give at least one row, and a true value first in every row.
    pub assertions: Vec<String>,
}

/// What is to be guarded, and how.
#[derive(Debug, Clone)]
pub struct GuardRequest {
    /// The databases.
    pub databases: Vec<PathBuf>,
    /// The migration, for the descriptions of its snapshots.
    pub command: String,
    /// What must hold after it.
    pub checks: Checks,
    /// How long to wait for a lock.
    pub busy_timeout: Duration,
    /// This machine.
    pub host: Host,
}

/// A database as it was before the migration.
#[derive(Debug, Clone)]
pub struct Guarded {
    /// The database.
    pub path: PathBuf,
    /// Its name in the vault.
    pub database: String,
    /// What it was.
    pub before: SnapshotId,
    was_empty: bool,
    schema: Schema,
    broken: Vec<ForeignKeyProblem>,
    rows: BTreeMap<String, u64>,
}

impl Guarded {
    /// Nothing is known yet.
    fn verdict(&self) -> Verdict {
        Verdict {
            database: self.database.clone(),
            path: self.path.display().to_string(),
            before: self.before,
            after: None,
            failures: Vec::new(),
            schema_changes: Vec::new(),
        }
    }
}

/// What a migration did to one database.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Verdict {
    /// Name of the database.
    pub database: String,
    /// The database.
    pub path: String,
    /// The snapshot of before.
    pub before: SnapshotId,
    /// The snapshot of after, where one could be taken.
    pub after: Option<SnapshotId>,
    /// What is not right; nothing if all is.
    pub failures: Vec<String>,
    /// The difference of the schemas in words.
    pub schema_changes: Vec<String>,
}

/// A guard over some databases.
pub struct Guard<'a> {
    /// The vault.
    pub vault: &'a Vault,
    /// What is guarded.
    pub request: &'a GuardRequest,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Who is told.
    pub monitor: &'a dyn Monitor,
}

impl Guard<'_> {
    /// Takes the snapshots of before.
    ///
    /// # Errors
    /// One of the databases cannot be stored, or is not sound before anything has begun.
    pub fn begin(&self) -> Result<Vec<Guarded>> {
        let taken = self.store("before", &self.request.databases)?;
        let pairs = self.request.databases.iter().zip(taken);
        pairs.map(|(path, report)| self.resume(path, report?.snapshot_id)).collect()
    }

    /// What is known of before from its snapshot, also by whoever did not take it.
    ///
    /// # Errors
    /// The snapshot is gone, or was not sound.
    pub fn resume(&self, path: &Path, before: SnapshotId) -> Result<Guarded> {
        let snapshot = self.find(before)?;
        let name = snapshot.manifest.name.clone();
        let image = self.image(&snapshot)?;
        let report = verify_image(Box::new(self.pages(&snapshot)?), CheckLevel::Quick, &[])?;
        if let Integrity::Damaged { findings } = report.integrity {
            let first = findings.first().map_or("", String::as_str);
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{} is damaged before the migration: {first}", path.display()),
            )
            .with_hint("restore a sound snapshot first"));
        }
        let mut rows = BTreeMap::new();
        for expectation in
            self.own(&name, &self.request.checks.expectations, |expectation| &expectation.table)
        {
            let table = expectation.1;
            rows.insert(
                table.to_owned(),
                count(&image, table).map_err(|error| image.explain(error))?.unwrap_or(0),
            );
        }
        let schema = Schema::read(&image).map_err(|error| image.explain(error))?;
        Ok(Guarded {
            path: path.to_path_buf(),
            database: name,
            before,
            was_empty: snapshot.manifest.content.is_empty(),
            schema,
            broken: report.foreign_keys,
            rows,
        })
    }

    /// Stores and judges what the migration has left in one database.
    ///
    /// # Errors
    /// The vault fails. What is wrong with the database is in the verdict.
    pub fn verify(&self, guarded: &Guarded) -> Result<Verdict> {
        let mut verdict = guarded.verdict();
        match self.store("after", std::slice::from_ref(&guarded.path))?.pop() {
            Some(Ok(report)) => {
                let after = self.find(report.snapshot_id)?;
                verdict.after = Some(after.id);
                self.judge(guarded, &after, &mut verdict)?;
            }
            Some(Err(error)) => verdict.failures.push(error.to_string()),
            None => verdict.failures.push("no snapshot could be taken".to_owned()),
        }
        Ok(verdict)
    }

    fn judge(&self, guarded: &Guarded, after: &Snapshot, verdict: &mut Verdict) -> Result<()> {
        if after.manifest.content.is_empty() && !guarded.was_empty {
            verdict.failures.push("the file is empty".to_owned());
            return Ok(());
        }
        let report = verify_image(Box::new(self.pages(after)?), CheckLevel::Full, &[])?;
        if let Integrity::Damaged { findings } = &report.integrity {
            // One finding may have a hundred lines, the first of which is a heading.
            let lines = findings.iter().flat_map(|finding| finding.lines());
            let lines = lines.filter(|line| !line.starts_with("***")).take(3);
            verdict.failures.extend(lines.map(|line| format!("integrity: {line}")));
            if verdict.failures.is_empty() {
                verdict.failures.push("integrity: damaged".to_owned());
            }
        }
        for problem in &report.foreign_keys {
            let same = |known: &&ForeignKeyProblem| {
                (&known.table, &known.parent) == (&problem.table, &problem.parent)
            };
            let before = guarded.broken.iter().find(same).map_or(0, |known| known.rows);
            if problem.rows > before {
                verdict.failures.push(format!(
                    "foreign keys: {} rows of {} refer to rows of {} that do not exist, {before} did before",
                    problem.rows, problem.table, problem.parent
                ));
            }
        }
        let image = self.image(after)?;
        if let Ok(schema) = Schema::read(&image) {
            verdict.schema_changes = guarded.schema.changes(&schema);
        }
        let checks = &self.request.checks;
        for (_, table) in self.own(&guarded.database, &checks.required_tables, |table| table) {
            if !has_table(&image, table).unwrap_or(false) {
                verdict.failures.push(format!("required table {table} is missing"));
            }
        }
        for (expectation, table) in self.own(&guarded.database, &checks.expectations, |wanted| &wanted.table)
        {
            let before = guarded.rows.get(table).copied().unwrap_or(0);
            match count(&image, table) {
                Ok(Some(now)) if expectation.holds(before, now) => {}
                Ok(Some(now)) => verdict
                    .failures
                    .push(format!("expected {expectation}: {table} has {now} rows, had {before}")),
                Ok(None) => {
                    verdict.failures.push(format!("expected {expectation}: there is no table {table}"));
                }
                Err(error) => verdict.failures.push(format!("expected {expectation}: {error}")),
            }
        }
        for (_, sql) in self.own(&guarded.database, &checks.assertions, |sql| sql) {
            if let Some(why) = refuted(&image, sql) {
                verdict.failures.push(format!("assertion {sql:?}: {why}"));
            }
        }
        Ok(())
    }

    /// Puts one database back to what it was, by a live restore; what the migration left is kept as a safety snapshot.
    ///
    /// # Errors
    /// As [`restore_into`].
    pub fn roll_back(&self, guarded: &Guarded) -> Result<RestoreReport> {
        let spec = SnapshotSpec::Prefix(guarded.before.to_string());
        if guarded.path.symlink_metadata().is_err() {
            let request = RestoreRequest { overwrite: true, ..RestoreRequest::new(spec, &guarded.path) };
            return restore(self.vault, &request, self.clock, self.monitor);
        }
        let mut request = LiveRestoreRequest::new(spec, &guarded.path, self.request.host.clone());
        request.busy_timeout = self.request.busy_timeout;
        restore_into(self.vault, &request, self.clock, self.monitor)
    }

    /// Those of `all` that are about the database `name`, and what each is about without the name.
    fn own<'c, T>(
        &self,
        name: &str,
        all: &'c [T],
        text: impl Fn(&'c T) -> &'c String + 'c,
    ) -> Vec<(&'c T, &'c str)> {
        let stems = self.request.databases.iter().filter_map(|path| path.file_stem());
        let others: Vec<String> = stems.map(|stem| format!("{}:", stem.to_string_lossy())).collect();
        let prefix = format!("{name}:");
        all.iter()
            .filter_map(|item| {
                let text = text(item).as_str();
                match text.strip_prefix(prefix.as_str()) {
                    Some(rest) => Some((item, rest.trim())),
                    None if others.iter().any(|other| text.starts_with(other.as_str())) => None,
                    None => Some((item, text)),
                }
            })
            .collect()
    }

    fn store(&self, when: &str, paths: &[PathBuf]) -> Result<Vec<Result<SnapshotReport>>> {
        let request = SnapshotRequest {
            kind: Kind::Migration,
            description: Some(format!("{when}: {}", self.request.command)),
            busy_timeout: self.request.busy_timeout,
            ..SnapshotRequest::new(paths, self.request.host.clone())
        };
        let mut outcomes: BTreeMap<PathBuf, Result<SnapshotReport>> = BTreeMap::new();
        snapshot(self.vault, &request, self.clock, self.monitor, &mut |path, outcome| {
            outcomes.insert(path.to_path_buf(), outcome);
        })?;
        let lost =
            |path: &PathBuf| Err(Error::new(ErrorKind::Failed, format!("{} was not stored", path.display())));
        Ok(paths.iter().map(|path| outcomes.remove(path).unwrap_or_else(|| lost(path))).collect())
    }

    fn find(&self, id: SnapshotId) -> Result<Snapshot> {
        catalog(self.vault, self.monitor)?.get(id).cloned().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("snapshot {} is gone", id.short()))
                .with_hint("`pagevault list` shows what there is")
        })
    }

    fn pages(&self, snapshot: &Snapshot) -> Result<crate::vault::StoredImage> {
        super::load_index(self.vault, self.monitor)?;
        self.vault.image(snapshot).ok_or_else(|| {
            Error::new(ErrorKind::Refused, format!("snapshot {} is no database", snapshot.id.short()))
        })
    }

    fn image(&self, snapshot: &Snapshot) -> Result<ImageConnection> {
        Ok(ImageConnection::open(Box::new(self.pages(snapshot)?), CACHE_BYTES)?)
    }
}

/// Rows of a table; `None` if it is not there.
fn count(image: &ImageConnection, table: &str) -> rusqlite::Result<Option<u64>> {
    if !has_table(image, table)? {
        return Ok(None);
    }
    let sql = format!("SELECT count(*) FROM \"{}\"", table.replace('"', "\"\""));
    image.query_row(&sql, (), |row| row.get::<_, i64>(0)).map(|rows| Some(rows.unsigned_abs()))
}

/// A value as people write it in SQL.
fn spoken(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(text) => format!("'{}'", String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => format!("a blob of {} bytes", bytes.len()),
    }
}

/// Why an assertion does not hold; `None` if it does.
fn refuted(image: &ImageConnection, sql: &str) -> Option<String> {
    let ask = || -> rusqlite::Result<Option<String>> {
        let mut statement = image.prepare(sql)?;
        let mut rows = statement.query(())?;
        let mut any = false;
        while let Some(row) = rows.next()? {
            any = true;
            let value = row.get_ref(0)?;
            let is_true = match value {
                ValueRef::Integer(number) => number != 0,
                ValueRef::Real(number) => number != 0.0,
                _ => false,
            };
            if !is_true {
                return Ok(Some(format!("it gives {}", spoken(value))));
            }
        }
        Ok(if any { None } else { Some("it gives no row".to_owned()) })
    };
    ask().unwrap_or_else(|error| Some(error.to_string()))
}
