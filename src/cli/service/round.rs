//! One round: the databases that are due, looked at and, where they have changed, snapshotted. Whatever happens to one of
//! them, the others have their turn.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pagevault::clock::Clock;
use pagevault::format::manifest::Kind;
use pagevault::monitor::Monitor;
use pagevault::operations::moved::Holdings;
use pagevault::operations::snapshot::{Host, SnapshotReport, SnapshotRequest, snapshot};
use pagevault::sqlite::OpenOptions;
use pagevault::vault::Vault;
use pagevault::{Error, ErrorKind, Result};

use super::super::config::{DatabaseEntry, Policy, Unchanged};
use super::super::context::Context;
use super::super::text::{milliseconds, printable, size};
use super::hooks::{self, Told};
use super::journal::{Journal, LastResult};

/// A database whose time has come.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) path: PathBuf,
    pub(super) entry: DatabaseEntry,
}

/// What a round came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) stored: usize,
    pub(super) unchanged: usize,
    pub(super) failed: usize,
}

/// A round at work.
pub(super) struct Round<'a> {
    pub(super) context: &'a Context,
    pub(super) vault: &'a Vault,
    pub(super) host: &'a Host,
    pub(super) journal: &'a mut Journal,
    pub(super) tally: Tally,
    /// Read everything, because the vault is not what it should be.
    pub(super) distrust: bool,
}

/// Databases that can share a run.
struct Batch {
    request: SnapshotRequest,
    alone: bool,
    members: Vec<Due>,
}

impl Round<'_> {
    /// Does it.
    ///
    /// # Errors
    /// The vault itself fails.
    pub(super) fn run(&mut self, due: Vec<Due>) -> Result<()> {
        let holdings = Holdings::read(self.vault, self.host, &self.context.progress)?;
        let mut batches: Vec<Batch> = Vec::new();
        for database in due {
            if self.context.progress.interrupted() {
                return Ok(());
            }
            if self.is_unchanged(&database, &holdings) {
                continue;
            }
            let (request, alone) = self.request(&database, &holdings);
            let shared =
                batches.iter_mut().find(|batch| !alone && !batch.alone && shares(&batch.request, &request));
            match shared {
                Some(batch) => {
                    batch.request.databases.push(database.path.clone());
                    batch.members.push(database);
                }
                None => batches.push(Batch { request, alone, members: vec![database] }),
            }
        }
        for batch in batches {
            if self.context.progress.interrupted() {
                return Ok(());
            }
            match batch.members.as_slice() {
                [only] if !only.entry.policy.hooks.are_none() => self.with_hooks(only, &batch.request),
                members => {
                    self.snapshot(members, &batch.request);
                }
            }
        }
        Ok(())
    }

    /// Whether the database is proven not to have changed; that is noted.
    fn is_unchanged(&mut self, database: &Due, holdings: &Holdings) -> bool {
        let policy = &database.entry.policy;
        if self.distrust || policy.full_scan || policy.unchanged == Unchanged::Snapshot {
            return false;
        }
        let now = self.context.clock.now();
        let options = OpenOptions { busy_timeout: policy.busy_timeout };
        // What cannot be opened now will say why when a snapshot is tried.
        let Ok(Some(newest)) = holdings.if_unchanged(&database.path, &options) else { return false };
        if database.entry.name_of(&database.path).is_some_and(|name| name != newest.name) {
            return false;
        }
        let record = self.journal.databases.entry(database.path.clone()).or_default();
        record.job.note(now, Ok(()));
        record.result = Some(LastResult::Unchanged);
        record.name = Some(newest.name.clone());
        record.snapshot_id = Some(newest.snapshot.to_string());
        record.size = newest.size;
        record.kept_at = Some(now);
        record.moved_on_since = None;
        self.tally.unchanged += 1;
        true
    }

    /// The request for one database, and whether it must be made alone.
    fn request(&self, database: &Due, holdings: &Holdings) -> (SnapshotRequest, bool) {
        let Due { path, entry } = database;
        let policy = &entry.policy;
        let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let known = holdings.newest(path).map(|newest| newest.name.clone()).or_else(stem);
        // A name has to be said only where it is not the one that the database has or would get.
        let name = entry.name_of(path).filter(|name| Some(name) != known.as_ref());
        let alone = name.is_some() || !policy.hooks.are_none();
        let request = SnapshotRequest {
            name,
            kind: Kind::Automatic,
            tags: policy.tags.clone(),
            required_tables: policy.required_tables.clone(),
            compression_level: policy.compression_level,
            busy_timeout: policy.busy_timeout,
            max_hold: policy.max_hold,
            full_scan: policy.full_scan || self.distrust,
            verify: policy.verify,
            ..SnapshotRequest::new([path], self.host.clone())
        };
        (request, alone)
    }

    fn with_hooks(&mut self, database: &Due, request: &SnapshotRequest) {
        let policy = &database.entry.policy;
        let began = self.context.clock.now();
        if let Err(error) = self.hook("before", database, policy.hooks.before.as_deref(), &[]) {
            self.failed(
                database,
                began,
                &Error::new(ErrorKind::Failed, format!("the hook `before` failed: {error}")),
            );
        } else if let Some(report) = self.snapshot(std::slice::from_ref(database), request).pop() {
            let told = [
                ("PAGEVAULT_SNAPSHOT", report.snapshot_id.to_string()),
                ("PAGEVAULT_STORED_BYTES", report.stored_bytes.to_string()),
            ];
            self.hook_or_alert("after", database, policy.hooks.after.as_deref(), &told);
            return;
        }
        if self.context.progress.interrupted() {
            return;
        }
        let record = self.journal.databases.get(&database.path);
        let why = record.and_then(|record| record.job.error.clone()).unwrap_or_default();
        self.hook_or_alert("failed", database, policy.hooks.failed.as_deref(), &[("PAGEVAULT_ERROR", why)]);
    }

    fn hook_or_alert(
        &mut self,
        event: &str,
        database: &Due,
        command: Option<&str>,
        told: &[(&'static str, String)],
    ) {
        let outcome = self.hook(event, database, command, told);
        if let Err(why) = &outcome {
            self.context
                .progress
                .warn(&format!("{}: the hook `{event}` failed: {why}", database.path.display()));
        }
        if command.is_some() {
            let record = self.journal.databases.entry(database.path.clone()).or_default();
            record.hook_error = outcome.err().map(|why| format!("the hook `{event}` failed: {why}"));
        }
    }

    fn hook(
        &self,
        event: &str,
        database: &Due,
        command: Option<&str>,
        more: &[(&'static str, String)],
    ) -> std::result::Result<(), String> {
        let Some(command) = command else { return Ok(()) };
        let Due { path, entry } = database;
        let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let record = self.journal.databases.get(path).and_then(|record| record.name.clone());
        let name = entry.name_of(path).or(record).unwrap_or_else(stem);
        let mut told: Told = vec![
            ("PAGEVAULT_EVENT", event.into()),
            ("PAGEVAULT_DATABASE", name.into()),
            ("PAGEVAULT_PATH", path.clone().into_os_string()),
            ("PAGEVAULT_VAULT", self.vault.place().into()),
        ];
        told.extend(more.iter().map(|(name, value)| (*name, value.into())));
        let stopped = || self.context.progress.interrupted();
        hooks::run(command, &told, entry.policy.hooks.timeout, &stopped)
    }

    /// Snapshots databases of one batch; the reports of those that succeeded.
    fn snapshot(&mut self, members: &[Due], request: &SnapshotRequest) -> Vec<SnapshotReport> {
        let context = self.context;
        let began = context.clock.now();
        let mut settled = Vec::new();
        let outcome =
            snapshot(self.vault, request, &context.clock, &context.progress, &mut |path, outcome| {
                settled.push((path.to_path_buf(), outcome));
            });
        let mut reports = Vec::new();
        for member in members {
            let place = settled.iter().position(|(path, _)| *path == member.path);
            match (place.map(|place| settled.swap_remove(place).1), &outcome) {
                (Some(Ok(report)), _) => {
                    self.stored(member, began, &report);
                    reports.push(report);
                }
                (Some(Err(error)), _) => self.failed(member, began, &error),
                (None, Err(error)) => self.failed(member, began, error),
                // It was not its turn any more when the service was told to stop.
                (None, Ok(())) => {}
            }
        }
        reports
    }

    fn stored(&mut self, database: &Due, began: Timestamp, report: &SnapshotReport) {
        let record = self.journal.databases.entry(database.path.clone()).or_default();
        record.job.note(began, Ok(()));
        record.result = Some(LastResult::Stored);
        record.name = Some(report.database.clone());
        record.snapshot_id = Some(report.snapshot_id.to_string());
        record.size = report.size;
        record.kept_at = Some(report.created_at);
        record.moved_on_since = None;
        record.vanished = false;
        record.snapshots += 1;
        record.stored_bytes += report.stored_bytes;
        self.tally.stored += 1;
        let chunks = &report.chunks;
        self.context.progress.note(&format!(
            "{}: snapshot {} of {}: {} of {} chunks changed, {} stored, in {}",
            printable(&report.database),
            report.snapshot_id.short(),
            size(report.size),
            chunks.total.saturating_sub(chunks.unchanged),
            chunks.total,
            size(report.stored_bytes),
            milliseconds(report.duration_ms),
        ));
    }

    fn failed(&mut self, database: &Due, began: Timestamp, error: &Error) {
        // Being told to stop is no failure of the database.
        if error.kind() == ErrorKind::Interrupted {
            return;
        }
        let mut message = error.to_string();
        let shown = database.path.display().to_string();
        if !message.contains(&shown) {
            message = format!("{shown}: {message}");
        }
        self.context.progress.warn(&message);
        let record = self.journal.databases.entry(database.path.clone()).or_default();
        record.job.note(began, Err(message));
        record.result = Some(LastResult::Failed);
        record.failed += 1;
        self.tally.failed += 1;
    }
}

/// Whether two requests differ in their databases only.
fn shares(one: &SnapshotRequest, other: &SnapshotRequest) -> bool {
    let settings = |request: &SnapshotRequest| {
        (
            request.name.clone(),
            request.tags.clone(),
            request.required_tables.clone(),
            request.compression_level,
            request.busy_timeout,
            request.max_hold,
            (request.full_scan, request.verify),
        )
    };
    settings(one) == settings(other)
}

/// Whether `path` is where `policy` says it may not be untouched for long: since when it has been different is noted.
pub(super) fn look_at_old(
    journal: &mut Journal,
    holdings: &Holdings,
    path: &Path,
    policy: &Policy,
    now: Timestamp,
) {
    let options = OpenOptions { busy_timeout: policy.busy_timeout };
    let unchanged = matches!(holdings.if_unchanged(path, &options), Ok(Some(_)));
    let record = journal.databases.entry(path.to_path_buf()).or_default();
    if unchanged {
        record.kept_at = Some(now);
        record.moved_on_since = None;
    } else if record.moved_on_since.is_none() {
        record.moved_on_since = Some(now);
    }
}
