//! The end of a guard: everything is verified, and if anything is wrong, everything is rolled back.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{Guard, GuardRequest, Guarded, Verdict};
use crate::clock::Clock;
use crate::error::Result;
use crate::ids::SnapshotId;
use crate::monitor::Monitor;
use crate::vault::Vault;

/// How a guard ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardOutcome {
    /// What the migration left stays.
    Kept,
    /// All databases are as they were before.
    RolledBack,
    /// At least one is not.
    RollbackFailed,
}

/// What became of rolling one database back.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RolledBack {
    /// Name of the database.
    pub database: String,
    /// Pages that were written; none if the migration had changed nothing.
    pub pages_written: u64,
    /// What the migration left.
    pub safety_snapshot: Option<SnapshotId>,
    /// Why it failed.
    pub error: Option<String>,
    /// What to do then.
    pub hint: Option<String>,
}

/// A guard that is over, in the words of docs/cli.md.
#[derive(Debug, Clone, serde::Serialize)]
pub struct GuardReport {
    /// How it ended.
    pub outcome: GuardOutcome,
    /// What the migration itself failed with.
    pub migration_error: Option<String>,
    /// What was found of each database.
    pub databases: Vec<Verdict>,
    /// What was put back.
    pub rolled_back: Vec<RolledBack>,
}

impl GuardReport {
    /// Whether the migration stands.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.outcome == GuardOutcome::Kept
    }
}

/// Runs `migrate` between snapshots of the databases of `request`, verifies what it has left, and puts all of them back if
/// it failed or anything is not right. If `migrate` panics, they are put back first.
///
/// Several databases are verified and put back one after the other: that is not one transaction.
///
/// # Errors
/// A snapshot of before could not be taken: nothing was run. What goes wrong later is in the report.
pub fn guard<E: Display>(
    vault: &Vault,
    request: &GuardRequest,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
    migrate: impl FnOnce() -> Result<(), E>,
) -> Result<GuardReport> {
    let guard = Guard { vault, request, clock, monitor };
    let guarded = guard.begin()?;
    match catch_unwind(AssertUnwindSafe(migrate)) {
        Ok(ended) => {
            let migration_error = ended.err().map(|error| error.to_string());
            let report = guard.settle(&guarded, migration_error.is_none());
            Ok(GuardReport { migration_error, ..report })
        }
        Err(panic) => {
            // Nobody hears of the report but by the monitor.
            let _ = guard.settle(&guarded, false);
            resume_unwind(panic)
        }
    }
}

impl Guard<'_> {
    /// Verifies everything; keeps it if the migration has `succeeded` and all is right, else rolls everything back.
    #[must_use]
    pub fn settle(&self, guarded: &[Guarded], succeeded: bool) -> GuardReport {
        let databases = self.verify_all(guarded);
        if succeeded && databases.iter().all(|one| one.failures.is_empty()) {
            let (outcome, rolled_back) = (GuardOutcome::Kept, Vec::new());
            return GuardReport { outcome, migration_error: None, databases, rolled_back };
        }
        self.roll_back_all(guarded, databases)
    }

    /// What the migration did to each database. What cannot be verified is not right.
    #[must_use]
    pub fn verify_all(&self, guarded: &[Guarded]) -> Vec<Verdict> {
        let verify = |one: &Guarded| {
            self.verify(one).unwrap_or_else(|error| {
                let mut verdict = one.verdict();
                verdict.failures.push(format!("it cannot be verified: {error}"));
                verdict
            })
        };
        guarded.iter().map(verify).collect()
    }

    /// Rolls every database back, whatever becomes of the others.
    #[must_use]
    pub fn roll_back_all(&self, guarded: &[Guarded], databases: Vec<Verdict>) -> GuardReport {
        let rolled_back: Vec<RolledBack> = guarded.iter().map(|one| self.roll_back_one(one)).collect();
        let failed = rolled_back.iter().any(|one| one.error.is_some());
        let outcome = if failed { GuardOutcome::RollbackFailed } else { GuardOutcome::RolledBack };
        GuardReport { outcome, migration_error: None, databases, rolled_back }
    }

    fn roll_back_one(&self, guarded: &Guarded) -> RolledBack {
        let database = guarded.database.clone();
        match self.roll_back(guarded) {
            Ok(report) => RolledBack {
                database,
                pages_written: report.pages_written,
                safety_snapshot: report.safety_snapshot,
                error: None,
                hint: None,
            },
            Err(error) => RolledBack {
                database,
                pages_written: 0,
                safety_snapshot: None,
                error: Some(error.to_string()),
                hint: error.hint().map(str::to_owned),
            },
        }
    }
}
