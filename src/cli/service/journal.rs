//! What scheduled runs remember on this machine: when each job was last tried, and how that went.
//!
//! One small file in the state folder, replaced as a whole. It decides nothing about data: without it every job is due.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pagevault::daemon::Memory;
use pagevault::ids::VaultId;
use pagevault::{Error, ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::super::files;

const FILE: &str = "service.json";

/// A job that is not a snapshot: `forget`, `prune`, `check`, `test-restore`, or `sync` with its destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct JobRecord {
    /// When the last attempt began.
    pub(crate) attempted: Option<Timestamp>,
    /// When the last good one began.
    pub(crate) succeeded: Option<Timestamp>,
    /// Failed attempts since.
    pub(crate) failures: u32,
    /// Why the last one failed.
    pub(crate) error: Option<String>,
}

impl JobRecord {
    /// What the planner needs.
    pub(crate) const fn memory(&self) -> Memory {
        Memory { attempted: self.attempted, failures: self.failures }
    }

    /// Notes an attempt that began at `now`.
    pub(crate) fn note(&mut self, now: Timestamp, outcome: std::result::Result<(), String>) {
        let memory = self.memory().after_attempt(now, outcome.is_ok());
        self.attempted = memory.attempted;
        self.failures = memory.failures;
        if outcome.is_ok() {
            self.succeeded = Some(now);
        }
        self.error = outcome.err();
    }

    /// Forgets what the clock says has not happened yet.
    pub(crate) fn settle(&mut self, now: Timestamp) {
        self.attempted = self.memory().as_of(now).attempted;
    }
}

/// How the last attempt at a database went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LastResult {
    /// A snapshot was made.
    Stored,
    /// It was proven that nothing has changed since the newest snapshot.
    Unchanged,
    /// There is no new snapshot.
    Failed,
}

/// A restore of a snapshot that wrote nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TestRecord {
    /// The snapshot.
    pub(crate) snapshot_id: String,
    /// When.
    pub(crate) at: Timestamp,
    /// Why it failed, if it did.
    pub(crate) error: Option<String>,
}

/// A database of the configuration, by its path there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DatabaseRecord {
    /// Its name in the vault, once it has one.
    pub(crate) name: Option<String>,
    /// Attempts.
    #[serde(flatten)]
    pub(crate) job: JobRecord,
    /// How the last one went.
    pub(crate) result: Option<LastResult>,
    /// The newest snapshot that this service knows.
    pub(crate) snapshot_id: Option<String>,
    /// When the vault last held the database as it then was.
    pub(crate) kept_at: Option<Timestamp>,
    /// Since when it is known to differ from its newest snapshot.
    pub(crate) moved_on_since: Option<Timestamp>,
    /// The last test restore.
    pub(crate) tested: Option<TestRecord>,
    /// The last test restore that found a snapshot whole.
    pub(crate) proven: Option<TestRecord>,
    /// Why a hook that changes nothing about the snapshot failed last time.
    pub(crate) hook_error: Option<String>,
    /// Bytes of its image.
    pub(crate) size: u64,
    /// Snapshots made, and bytes stored for them, since the journal began.
    pub(crate) snapshots: u64,
    /// See `snapshots`.
    pub(crate) stored_bytes: u64,
    /// Attempts that failed since the journal began.
    pub(crate) failed: u64,
    /// It was there once, and is not now.
    pub(crate) vanished: bool,
}

/// An alert that is raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Raised {
    /// When it began.
    pub(crate) since: Timestamp,
    /// When somebody was last told.
    pub(crate) told: Timestamp,
    /// In words.
    pub(crate) message: String,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Journal {
    /// Databases by path.
    pub(crate) databases: BTreeMap<PathBuf, DatabaseRecord>,
    /// Other jobs by name.
    pub(crate) jobs: BTreeMap<String, JobRecord>,
    /// Alerts that are raised, by key, and when they were last told.
    pub(crate) alerts: BTreeMap<String, Raised>,
}

impl Journal {
    /// Where it is for a vault.
    pub(crate) fn place(state: &Path, vault: VaultId) -> PathBuf {
        state.join(vault.to_string()).join(FILE)
    }

    /// Reads it. One that is not there, or cannot be understood, is empty; why is said in the second case.
    pub(crate) fn read(file: &Path) -> (Self, Option<String>) {
        let text = match std::fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (Self::default(), None),
            Err(error) => {
                return (Self::default(), Some(format!("{} cannot be read: {error}", file.display())));
            }
        };
        match serde_json::from_slice(&text) {
            Ok(journal) => (journal, None),
            Err(error) => (Self::default(), Some(format!("{} is not used: {error}", file.display()))),
        }
    }

    /// Replaces it.
    pub(crate) fn write(&self, file: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        files::replace(file, &text, 0o600)
    }

    /// Nobody's turn came: all have failed alike.
    pub(crate) fn fail_all(&mut self, paths: &[PathBuf], now: Timestamp, why: &str) {
        for path in paths {
            let record = self.databases.entry(path.clone()).or_default();
            record.job.note(now, Err(why.to_owned()));
            record.result = Some(LastResult::Failed);
            record.failed += 1;
        }
    }

    /// The record of the database that has `name` in the vault.
    pub(crate) fn named(&self, name: &str) -> Option<&DatabaseRecord> {
        self.databases.values().find(|record| record.name.as_deref() == Some(name))
    }
}

/// One service for a vault on a machine: two would snapshot everything twice.
pub(super) fn lock(journal: &Path) -> Result<File> {
    let path = journal.with_extension("lock");
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Failed, format!("cannot write to {}: {error}", path.display()))
    };
    let folder = files::parent(&path);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error::new(ErrorKind::Busy, "another `pagevault run` keeps this vault on this machine")
                .with_hint("`pagevault status` says how well; `pagevault schedule show` says what starts it"))
        }
        Err(error) => Err(failed(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/service.json");
        assert_eq!(Journal::read(&file), (Journal::default(), None));
        let mut journal = Journal::default();
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let record = journal.databases.entry("/srv/app.db".into()).or_default();
        record.job.note(now, Err("busy".to_owned()));
        record.result = Some(LastResult::Failed);
        journal.jobs.entry("check".to_owned()).or_default().note(now, Ok(()));
        journal.write(&file).unwrap();
        assert_eq!(Journal::read(&file), (journal, None));
        std::fs::write(&file, "{").unwrap();
        let (empty, why) = Journal::read(&file);
        assert!(empty == Journal::default() && why.is_some());
    }
}
