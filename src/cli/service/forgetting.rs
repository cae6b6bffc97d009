//! Letting go of snapshots by the rules of the configuration, each database by its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use pagevault::Result;
use pagevault::clock::Clock;
use pagevault::monitor::Monitor;
use pagevault::operations::forget::{ForgetReport, ForgetRequest, plan_all};
use pagevault::operations::moved::Holdings;
use pagevault::operations::snapshot::Host;
use pagevault::vault::Vault;

use super::super::config::{Config, Keep};
use super::journal::Journal;

/// The name of this work in the journal.
pub(super) const JOB: &str = "forget";

/// Whether anything is ever to go.
pub(super) fn is_wanted(config: &Config) -> bool {
    config.databases.iter().any(|entry| entry.policy.keep != Keep::All)
}

/// Lets go of what the rules do not keep of these databases of this host; those of other hosts, and those that are not
/// configured any more, are left alone.
///
/// # Errors
/// The vault cannot be read, or the log not be written; then nothing has gone.
pub(super) fn forget(
    vault: &Vault,
    config: &Config,
    databases: &BTreeMap<PathBuf, usize>,
    (host, zone): (&Host, &TimeZone),
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<ForgetReport> {
    let holdings = Holdings::read(vault, host, monitor)?;
    let mut of_rules: Vec<(&Keep, Vec<String>)> = Vec::new();
    for (path, number) in databases {
        let Some(newest) = holdings.newest(path) else { continue };
        let keep = &config.databases[*number].policy.keep;
        match of_rules.iter_mut().find(|(rules, _)| *rules == keep) {
            Some((_, names)) => names.push(newest.name.clone()),
            None => of_rules.push((keep, vec![newest.name.clone()])),
        }
    }
    let requests: Vec<ForgetRequest> =
        of_rules.iter().flat_map(|(keep, names)| keep.requests(names, zone)).collect();
    plan_all(vault, &requests, clock, monitor)?.execute(vault, clock, monitor)
}

/// What was done, if there was something to do.
pub(super) fn sentence(report: &ForgetReport) -> Option<String> {
    let (gone, kept) = (report.forgotten.len(), report.kept.len());
    (gone > 0).then(|| format!("{JOB}: {gone} snapshots are forgotten, {kept} stay"))
}

/// Whether the vault is not what it should be. Then nothing is let go of: an old snapshot may be the last whole one.
pub(super) fn is_in_doubt(config: &Config, journal: &Journal) -> bool {
    [("check", &config.check.schedule), ("test-restore", &config.check.test_restore)]
        .into_iter()
        .filter(|(_, schedule)| schedule.is_some())
        .any(|(job, _)| journal.jobs.get(job).is_some_and(|job| job.failures > 0))
}
