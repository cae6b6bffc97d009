//! The configuration file: which databases are kept, how often, for how long, and who is told.
//!
//! `example.toml` beside this file is the documentation of every key, and is what `pagevault config example` prints; a test
//! holds the two together. Reading is total: all mistakes are found at once, each with its line.

mod database;
pub(crate) mod load;
mod retention;
mod section;
pub(crate) mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pagevault::daemon::Schedule;
use toml::de::DeTable;

pub(crate) use self::database::{DatabaseEntry, Hooks, MATCHING, Policy, Source, Unchanged};
pub(crate) use self::retention::{Keep, PrunePlan};
pub(crate) use self::section::Problem;
use self::section::{Problems, Section};
use super::args::UnlockOptions;

/// What `pagevault config example` prints.
pub(crate) const EXAMPLE: &str = include_str!("example.toml");

/// Every section with its keys.
const TOP: [&str; 10] =
    ["vault", "defaults", "database", "hooks", "retention", "check", "sync", "alerts", "metrics", "service"];
const VAULT: [&str; 5] = ["path", "copies", "key_file", "password_file", "password_command"];
const CHECK: [&str; 3] = ["schedule", "read_data_subset", "test_restore"];
const SYNC: [&str; 4] = ["destination", "schedule", "limit_rate", "delete"];
const ALERTS: [&str; 7] =
    ["webhook", "heartbeat_success", "heartbeat_failure", "timeout", "repeat", "vault_size", "disk_free"];
const METRICS: [&str; 2] = ["listen", "textfile"];
const SERVICE: [&str; 1] = ["rescan"];

/// A configuration file that was read.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The vault's folder or address.
    pub(crate) vault: Option<PathBuf>,
    /// Copies of it that a restore may turn to.
    pub(crate) copies: Vec<PathBuf>,
    /// What opens it.
    pub(crate) unlock: UnlockOptions,
    /// What holds for a database that says nothing else.
    pub(crate) defaults: Policy,
    /// The databases, in the order of the file.
    pub(crate) databases: Vec<DatabaseEntry>,
    /// When space is freed; not at all where nothing is ever forgotten.
    pub(crate) prune: Option<PrunePlan>,
    /// Verification.
    pub(crate) check: CheckPlan,
    /// Copies.
    pub(crate) syncs: Vec<SyncPlan>,
    /// Who is told.
    pub(crate) alerts: Alerts,
    /// Figures for Prometheus.
    pub(crate) metrics: Metrics,
    /// How often patterns are looked at.
    pub(crate) rescan: Duration,
}

/// When the vault is verified.
#[derive(Debug, Clone)]
pub(crate) struct CheckPlan {
    pub(crate) schedule: Option<Schedule>,
    /// Percent of the packs.
    pub(crate) read_data_subset: f64,
    pub(crate) test_restore: Option<Schedule>,
}

/// A copy of the vault that is kept up to date.
#[derive(Debug, Clone)]
pub(crate) struct SyncPlan {
    pub(crate) destination: PathBuf,
    pub(crate) schedule: Schedule,
    /// Bytes a second.
    pub(crate) limit_rate: Option<u64>,
    pub(crate) delete: bool,
}

/// Who is told of what.
#[derive(Debug, Clone)]
pub(crate) struct Alerts {
    pub(crate) webhook: Option<String>,
    pub(crate) heartbeat_success: Option<String>,
    pub(crate) heartbeat_failure: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) repeat: Duration,
    pub(crate) vault_size: u64,
    pub(crate) disk_free: u64,
}

/// Where the figures go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    pub(crate) listen: Option<std::net::SocketAddr>,
    pub(crate) textfile: Option<PathBuf>,
}

/// What paths in the file are relative to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'p> {
    /// The user's home.
    pub(crate) home: Option<&'p Path>,
    /// The file's folder.
    pub(crate) folder: &'p Path,
}

impl Places<'_> {
    fn path(&self, text: &str) -> Result<PathBuf, String> {
        values::path(text, self.home, self.folder)
    }

    /// A folder, or an address as it stands.
    fn place(&self, text: &str) -> Result<PathBuf, String> {
        if !text.contains("://") {
            return self.path(text);
        }
        super::places::check_address(text)?;
        Ok(PathBuf::from(text))
    }
}

impl Config {
    /// Reads `text`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn parse(text: &str, places: Places<'_>) -> Result<Self, Vec<Problem>> {
        let problems = Problems::new(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            for error in errors {
                let place = error.span().unwrap_or(text.len()..text.len());
                problems.add(&place, format_args!("this is not TOML: {}", error.message()));
            }
            return Err(problems.into_list());
        }
        let top = Section::new(table.get_ref(), table.span(), "", &TOP, &problems);
        let config = Self::of(&top, places);
        let found = problems.into_list();
        if found.is_empty() { Ok(config) } else { Err(found) }
    }

    /// What holds for the database whose canonical path is `path`: of several entries the first that names it, else the first
    /// whose pattern does, else the defaults.
    pub(crate) fn policy_of(&self, path: &Path) -> &Policy {
        let is_path = |entry: &&DatabaseEntry| matches!(entry.source, Source::Path(_));
        let (paths, patterns): (Vec<_>, Vec<_>) = self.databases.iter().partition(is_path);
        let entry = paths.into_iter().chain(patterns).find(|entry| entry.means(path));
        entry.map_or(&self.defaults, |entry| &entry.policy)
    }

    fn of(top: &Section<'_, '_>, places: Places<'_>) -> Self {
        let vault = top.section("vault", &VAULT);
        let hooks =
            top.section("hooks", &database::HOOKS).map(|section| Hooks::read(&section, &Hooks::default()));
        let known: Vec<&str> = retention::KEEP.into_iter().chain(retention::PRUNE).collect();
        let retention = top.section("retention", &known);
        let keep = retention.as_ref().map_or(Keep::All, Keep::read);
        let mut defaults = Policy { hooks: hooks.unwrap_or_default(), keep, ..Policy::default() };
        if let Some(section) = top.section("defaults", &database::POLICY) {
            defaults = Policy::read(&section, &defaults);
        }
        let databases = database::read_all(top, &defaults, places);
        let forgets = databases.iter().any(|entry| entry.policy.keep != Keep::All);
        let prune = (retention.is_some() || forgets).then(|| PrunePlan::read(retention.as_ref()));
        Self {
            vault: vault.as_ref().and_then(|vault| vault.parsed("path", |text| places.place(text))),
            copies: vault.as_ref().map(|vault| read_copies(vault, places)).unwrap_or_default(),
            unlock: vault.as_ref().map(|vault| read_unlock(vault, places)).unwrap_or_default(),
            databases,
            defaults,
            prune,
            check: read_check(top.section("check", &CHECK).as_ref()),
            syncs: top.sections("sync", &SYNC).iter().filter_map(|it| read_sync(it, places)).collect(),
            alerts: read_alerts(top.section("alerts", &ALERTS).as_ref()),
            metrics: top.section("metrics", &METRICS).map(|it| read_metrics(&it, places)).unwrap_or_default(),
            rescan: top
                .section("service", &SERVICE)
                .and_then(|service| at_least_a_second(&service, "rescan"))
                .unwrap_or(Duration::from_mins(1)),
        }
    }
}

fn read_copies(vault: &Section<'_, '_>, places: Places<'_>) -> Vec<PathBuf> {
    let texts = vault.texts("copies").unwrap_or_default();
    let place = |text: &String| places.place(text).map_err(|why| vault.wrong("copies", why)).ok();
    texts.iter().filter_map(place).collect()
}

fn read_unlock(vault: &Section<'_, '_>, places: Places<'_>) -> UnlockOptions {
    let ways = ["key_file", "password_file", "password_command"];
    if let Some(second) = ways.into_iter().filter(|way| vault.has(way)).nth(1) {
        vault.wrong(second, "expected only one of key_file, password_file and password_command");
    }
    UnlockOptions {
        key_file: vault.parsed("key_file", |text| places.path(text)),
        password_file: vault.parsed("password_file", |text| places.path(text)),
        password_command: vault.text("password_command"),
    }
}

fn schedule(section: &Section<'_, '_>, key: &str) -> Option<Schedule> {
    section.parsed(key, str::parse::<Schedule>)
}

/// A length of time that leaves room to breathe.
fn at_least_a_second(section: &Section<'_, '_>, key: &str) -> Option<Duration> {
    let length = section.parsed(key, values::length)?;
    if length < Duration::from_secs(1) {
        section.wrong(key, "expected a second or more");
    }
    Some(length)
}

fn read_check(section: Option<&Section<'_, '_>>) -> CheckPlan {
    CheckPlan {
        schedule: section.and_then(|section| schedule(section, "schedule")),
        read_data_subset: section
            .and_then(|section| section.parsed("read_data_subset", super::values::percent))
            .unwrap_or(2.0),
        test_restore: section.and_then(|section| schedule(section, "test_restore")),
    }
}

fn read_sync(section: &Section<'_, '_>, places: Places<'_>) -> Option<SyncPlan> {
    if !section.has("destination") {
        section.wrong("", "expected a destination: a folder, or an address such as s3://bucket/vault");
    }
    let destination = section.parsed("destination", |text| places.place(text));
    let (limit_rate, delete) = (section.size("limit_rate"), section.flag("delete").unwrap_or(false));
    let schedule = schedule(section, "schedule").unwrap_or(Schedule::Every(Duration::from_hours(1)));
    Some(SyncPlan { destination: destination?, schedule, limit_rate, delete })
}

fn read_alerts(section: Option<&Section<'_, '_>>) -> Alerts {
    let url = |key| section.and_then(|section| section.parsed(key, values::url));
    let length = |key| section.and_then(|section| at_least_a_second(section, key));
    let size = |key| section.and_then(|section| section.size(key));
    Alerts {
        webhook: url("webhook"),
        heartbeat_success: url("heartbeat_success"),
        heartbeat_failure: url("heartbeat_failure"),
        timeout: length("timeout").unwrap_or(Duration::from_secs(10)),
        repeat: length("repeat").unwrap_or(Duration::from_hours(24)),
        vault_size: size("vault_size").unwrap_or(1 << 30),
        disk_free: size("disk_free").unwrap_or(1 << 30),
    }
}

fn read_metrics(section: &Section<'_, '_>, places: Places<'_>) -> Metrics {
    Metrics {
        listen: section.parsed("listen", values::loopback),
        textfile: section.parsed("textfile", |text| places.path(text)),
    }
}

#[cfg(test)]
mod tests;
