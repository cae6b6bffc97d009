//! What counts as wrong, as a function of what is known.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::super::text::{age, size};
use super::alerts::Condition;
use super::journal::{DatabaseRecord, Journal, LastResult};
use super::metrics::Facts;

/// Of databases and jobs. `max_age` says how old a database may become; nothing for one that is not configured any more.
pub(super) fn of_journal(
    journal: &Journal,
    now: Timestamp,
    max_age: impl Fn(&Path) -> Option<Duration>,
) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for (path, record) in &journal.databases {
        let object = record.name.clone().unwrap_or_else(|| path.display().to_string());
        let mut add = |kind, message| conditions.push(Condition { kind, object: object.clone(), message });
        if record.vanished {
            add("vanished", format!("{} is gone", path.display()));
        } else if record.result == Some(LastResult::Failed) {
            let why = record.job.error.clone().unwrap_or_default();
            add("snapshot_failed", format!("no snapshot of {}: {why}", path.display()));
        }
        if let Some(message) = stale(record, now, max_age(path)) {
            add("stale", format!("{}: {message}", path.display()));
        }
        if let Some(error) = record.tested.as_ref().and_then(|test| test.error.as_ref()) {
            add("test_restore_failed", format!("{}: the test restore failed: {error}", path.display()));
        }
        if let Some(error) = &record.hook_error {
            add("hook_failed", format!("{}: {error}", path.display()));
        }
    }
    for (job, record) in &journal.jobs {
        // Each failed test is told of by itself.
        if let Some(error) = record.error.as_ref().filter(|_| job != "test-restore") {
            let kind = match job.split(' ').next() {
                Some("check") => "check_failed",
                Some("sync") => "sync_failed",
                _ => "job_failed",
            };
            let message = format!("{job} failed: {error}");
            conditions.push(Condition { kind, object: job.clone(), message });
        }
    }
    conditions
}

/// A database that has changed, or may have, and was not kept for too long.
fn stale(record: &DatabaseRecord, now: Timestamp, max_age: Option<Duration>) -> Option<String> {
    let (max_age, kept) = (max_age?, record.kept_at?);
    let since = now.duration_since(kept);
    let is_old = Duration::try_from(since).is_ok_and(|since| since > max_age);
    let moved_on = record.moved_on_since.is_some() || record.result == Some(LastResult::Failed);
    (is_old && moved_on)
        .then(|| format!("it has changed, and the vault holds it as it was {} ago", age(since)))
}

/// Of the vault and its disk.
pub(super) fn of_facts(facts: &Facts, least_free: u64) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let mut add = |kind, message| conditions.push(Condition { kind, object: String::new(), message });
    if let Some(bytes) = facts.vault_bytes.filter(|bytes| *bytes > facts.vault_limit) {
        let limit = size(facts.vault_limit);
        add("vault_size", format!("the vault has {}, more than the limit of {limit}", size(bytes)));
    }
    if let Some(free) = facts.disk_free.filter(|free| *free < least_free) {
        add(
            "disk_space",
            format!("{} are free where the vault is, less than {}", size(free), size(least_free)),
        );
    }
    conditions
}

/// Of the service itself: what its configuration and its vault made it say last.
pub(super) fn of_errors(configuration: Option<&String>, vault: Option<&String>) -> Vec<Condition> {
    let said = [("configuration", configuration), ("vault", vault)];
    let condition =
        |kind, message: &String| Condition { kind, object: String::new(), message: message.clone() };
    said.into_iter().filter_map(|(kind, message)| message.map(|message| condition(kind, message))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_database_that_has_changed_becomes_stale() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let hour = Some(Duration::from_hours(1));
        let now = at("2026-11-22T12:00:00Z");
        let kept = |moved: Option<&str>| DatabaseRecord {
            kept_at: Some(at("2026-11-22T10:00:00Z")),
            moved_on_since: moved.map(at),
            ..DatabaseRecord::default()
        };
        assert_eq!(stale(&kept(None), now, hour), None);
        assert!(stale(&kept(Some("2026-11-22T11:59:00Z")), now, hour).is_some());
        assert_eq!(stale(&kept(Some("2026-11-22T11:59:00Z")), now, None), None);
        assert_eq!(stale(&kept(Some("2026-11-22T11:59:00Z")), at("2026-11-22T10:30:00Z"), hour), None);
        assert_eq!(stale(&kept(Some("2026-11-22T11:59:00Z")), at("2026-11-22T09:00:00Z"), hour), None);
    }

    #[test]
    fn limits_of_space() {
        let facts = Facts { vault_bytes: Some(11), vault_limit: 10, disk_free: Some(5), ..Facts::default() };
        let kinds = |free| of_facts(&facts, free).iter().map(|condition| condition.kind).collect::<Vec<_>>();
        assert_eq!(kinds(6), ["vault_size", "disk_space"]);
        assert_eq!(kinds(5), ["vault_size"]);
    }
}
