//! `status`: one screen that says how well each database is kept.
//!
//! The vault says what snapshots there are and which were restored as a test; this machine's journal adds what only the service
//! knows: databases that were proven not to have changed, attempts that failed, why a test restore did.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pagevault::ids::{DatabaseId, SnapshotId};
use pagevault::monitor::Monitor;
use pagevault::operations::status::{DatabaseStatus, SnapshotTest, VaultStatus, status};
use pagevault::{Error, ErrorKind, Result};
use serde::Serialize;

use super::super::args::StatusArgs;
use super::super::context::Context;
use super::super::failure::{Outcome, describe};
use super::super::service::databases;
use super::super::service::journal::{DatabaseRecord, Journal, LastResult, TestRecord};
use super::super::text::{age, printable, size, table};

/// A round of test restores is written into the log within this time.
const LOGGED_WITHIN: SignedDuration = SignedDuration::from_hours(12);

/// What the vault says of a database that is in it.
#[derive(Debug, Serialize)]
struct InVault {
    database_id: DatabaseId,
    host: Option<String>,
    snapshots: u64,
    newest: SnapshotId,
    newest_at: Timestamp,
    size: u64,
    stored_bytes: u64,
    stored_bytes_per_day: u64,
}

impl From<DatabaseStatus> for InVault {
    fn from(status: DatabaseStatus) -> Self {
        Self {
            database_id: status.database_id,
            host: status.host,
            snapshots: status.snapshots,
            newest: status.newest,
            newest_at: status.newest_at,
            size: status.size,
            stored_bytes: status.stored_bytes,
            stored_bytes_per_day: status.stored_bytes_per_day,
        }
    }
}

/// A line of the answer, in the words of docs/cli.md.
#[derive(Debug, Serialize)]
struct Row {
    database: String,
    source: String,
    configured: bool,
    #[serde(flatten)]
    stored: Option<InVault>,
    kept_at: Option<Timestamp>,
    age_s: Option<i64>,
    last_result: Option<LastResult>,
    last_attempt: Option<Timestamp>,
    error: Option<String>,
    failures: u32,
    last_test: Option<TestRecord>,
    proven_restore: Option<TestRecord>,
    stale: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    vault: String,
    vault_bytes: u64,
    vault_limit_bytes: u64,
    databases: Vec<Row>,
    alerts: Vec<String>,
}

/// Says how it stands.
pub(crate) fn run(args: &StatusArgs, context: &Context) -> Result<Outcome> {
    let vault = context.open_vault()?;
    let now = context.now();
    let stored = status(&vault, now, &context.progress)?;
    let journal = match context.environment.state_folder() {
        Some(state) => {
            let (journal, why) = Journal::read(&Journal::place(&state, vault.id()));
            if let Some(why) = why {
                context.progress.warn(&why);
            }
            journal
        }
        None => Journal::default(),
    };
    let limit = context.loaded.as_ref().map_or(1 << 30, |loaded| loaded.config.alerts.vault_size);
    let mut report = Report {
        vault: stored.vault.clone(),
        vault_bytes: stored.vault_bytes,
        vault_limit_bytes: limit,
        databases: rows(stored, &journal, context, now),
        alerts: journal.alerts.values().map(|raised| raised.message.clone()).collect(),
    };
    if let Some(name) = &args.database {
        report.databases.retain(|row| row.database == *name);
        if report.databases.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, format!("no database is named {name:?}"))
                .with_hint("`pagevault status` shows all"));
        }
    }
    mark_stale(&mut report.databases, args.max_age, context.loaded.is_some(), now);
    if context.output.is_json() {
        context.output.json(&report)?;
    } else {
        context.output.text(&screen(&report, now))?;
    }
    let stale: Vec<&str> =
        report.databases.iter().filter(|row| row.stale).map(|row| row.database.as_str()).collect();
    if stale.is_empty() {
        return Ok(Outcome::Done);
    }
    let message = format!("not kept for longer than allowed: {}", stale.join(", "));
    context.progress.always(&describe(
        &Error::new(ErrorKind::Stale, message)
            .with_hint("is `pagevault run` alive? `pagevault snapshot DB` makes one now"),
    ));
    Ok(Outcome::Reported(ErrorKind::Stale))
}

/// The databases of the vault, and those of the configuration that are not in it yet.
fn rows(stored: VaultStatus, journal: &Journal, context: &Context, now: Timestamp) -> Vec<Row> {
    let configured =
        context.loaded.as_ref().map(|loaded| databases::find(&loaded.config)).unwrap_or_default();
    let mut rest: Vec<_> = configured
        .keys()
        .map(|path| (path.clone(), path.canonicalize().unwrap_or_else(|_| path.clone())))
        .collect();
    let mut rows = Vec::new();
    for database in stored.databases {
        let known = rest.iter().position(|(_, canonical)| canonical.as_os_str() == database.source.as_str());
        let path = known.map(|place| rest.swap_remove(place).0);
        let record = path.as_ref().and_then(|path| journal.databases.get(path));
        let record = record.or_else(|| journal.named(&database.database));
        rows.push(row(database.database.clone(), Some(database), path.is_some(), record, now));
    }
    for (path, _) in rest {
        let record = journal.databases.get(&path);
        let entry = context.loaded.as_ref().zip(configured.get(&path));
        let name = entry.and_then(|(loaded, number)| loaded.config.databases[*number].name_of(&path));
        let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut row = row(name.unwrap_or_else(stem), None, true, record, now);
        row.source = path.display().to_string();
        rows.push(row);
    }
    rows.sort_by(|one, other| one.database.cmp(&other.database));
    rows
}

fn row(
    database: String,
    stored: Option<DatabaseStatus>,
    configured: bool,
    record: Option<&DatabaseRecord>,
    now: Timestamp,
) -> Row {
    let newest = stored.as_ref().and_then(|stored| stored.kept_at);
    // The journal counts only for the snapshot it speaks of: that one may have been forgotten since.
    let same = |record: &&DatabaseRecord| {
        stored.as_ref().is_some_and(|stored| record.snapshot_id == Some(stored.newest.to_string()))
    };
    let kept_at = newest.max(record.filter(same).and_then(|record| record.kept_at));
    Row {
        database,
        source: stored.as_ref().map(|stored| stored.source.clone()).unwrap_or_default(),
        configured,
        kept_at,
        age_s: kept_at.map(|kept| now.duration_since(kept).as_secs().max(0)),
        last_result: record.and_then(|record| record.result),
        last_attempt: record.and_then(|record| record.job.attempted),
        error: record.and_then(|record| record.job.error.clone()),
        failures: record.map_or(0, |record| record.job.failures),
        last_test: newer(
            record.and_then(|record| record.tested.as_ref()),
            stored.as_ref().and_then(|stored| stored.last_test),
        ),
        proven_restore: newer(
            record.and_then(|record| record.proven.as_ref()),
            stored.as_ref().and_then(|stored| stored.last_proof),
        ),
        stored: stored.map(InVault::from),
        stale: false,
    }
}

/// Of what the journal and the vault's log say of a test restore, the newer. The journal knows why it failed; the log is written
/// a moment later.
fn newer(own: Option<&TestRecord>, logged: Option<SnapshotTest>) -> Option<TestRecord> {
    let Some(logged) = logged else { return own.cloned() };
    let is_same = |own: &&TestRecord| {
        own.snapshot_id == logged.snapshot_id.to_string() && own.error.is_none() == logged.is_whole
    };
    if let Some(own) = own.filter(|own| is_same(own) && logged.at.duration_since(own.at) < LOGGED_WITHIN) {
        return Some(own.clone());
    }
    let found = "it was not whole; `pagevault check --test-restore` says why";
    let error = (!logged.is_whole).then(|| found.to_owned());
    let logged = TestRecord { snapshot_id: logged.snapshot_id.to_string(), at: logged.at, error };
    Some(own.filter(|own| own.at > logged.at).cloned().unwrap_or(logged))
}

/// With a configuration, its databases count: what is kept no more grows old rightly.
fn mark_stale(rows: &mut [Row], max_age: Option<Duration>, by_configuration: bool, now: Timestamp) {
    let Some(max_age) = max_age else { return };
    for row in rows.iter_mut().filter(|row| row.configured || !by_configuration) {
        row.stale =
            row.kept_at.is_none_or(|kept| now.duration_since(kept).unsigned_abs() > max_age && kept < now);
    }
}

fn screen(report: &Report, now: Timestamp) -> String {
    let heading = ["DATABASE", "KEPT", "LAST RESULT", "PROVEN RESTORE", "SNAPSHOTS", "SIZE", "PER DAY"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let ago = |time: Option<Timestamp>| match time {
        Some(time) => format!("{} ago", age(now.duration_since(time))),
        None => "never".to_owned(),
    };
    for row in &report.databases {
        let mark = if row.stale { " !" } else { "" };
        let result = match row.last_result {
            Some(LastResult::Stored) => "stored",
            Some(LastResult::Unchanged) => "unchanged",
            Some(LastResult::Failed) => "FAILED",
            None => "-",
        };
        let stored = row.stored.as_ref();
        lines.push(vec![
            printable(&row.database).into_owned(),
            format!("{}{mark}", ago(row.kept_at)),
            result.to_owned(),
            ago(row.proven_restore.as_ref().map(|test| test.at)),
            stored.map_or(0, |stored| stored.snapshots).to_string(),
            stored.map_or_else(|| "-".to_owned(), |stored| size(stored.size)),
            stored.map_or_else(|| "-".to_owned(), |stored| size(stored.stored_bytes_per_day)),
        ]);
    }
    let mut text = format!(
        "vault {}: {} of {}\n",
        printable(&report.vault),
        size(report.vault_bytes),
        size(report.vault_limit_bytes)
    );
    if report.databases.is_empty() {
        text.push_str("no snapshots\n");
    } else {
        text.push_str(&table(&lines, &[4, 5, 6]));
    }
    for row in &report.databases {
        if let Some(error) = &row.error {
            let _ = writeln!(text, "{}: {}", printable(&row.database), printable(error));
        }
        if let Some(TestRecord { error: Some(error), .. }) = &row.last_test {
            let _ = writeln!(text, "{}: test restore: {}", printable(&row.database), printable(error));
        }
    }
    for alert in &report.alerts {
        let _ = writeln!(text, "alert: {}", printable(alert));
    }
    text
}
