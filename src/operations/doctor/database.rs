//! One database: whether it can be captured at all, who has it open, and where it lies.

use std::path::Path;
use std::time::Duration;

use super::library::{copies_in, judge};
use super::place::{Place, file_system};
use super::{Findings, Severity, shown};
use crate::error::Error;
use crate::sqlite::sole_use::holding_processes;
use crate::sqlite::{JournalMode, LiveDatabase, OpenOptions, SqliteError};

pub(super) fn look(path: &Path, patience: Duration, findings: &mut Findings) {
    let journal = match journal_mode(path, patience) {
        Ok(journal) => Some(journal),
        Err(error) => {
            say_unreadable(path, error, findings);
            None
        }
    };
    let in_wal_mode = journal == Some(JournalMode::Wal) || (journal.is_none() && has_log(path));
    if let Place::Network(name) = file_system(path) {
        let (severity, message) = if in_wal_mode {
            (
                Severity::Danger,
                format!("it is in WAL mode on a network file system ({name}): a log is for one machine only"),
            )
        } else {
            (
                Severity::Warning,
                format!("it is on a network file system ({name}), whose locks are often not to be trusted"),
            )
        };
        findings.add(
            "network",
            severity,
            shown(path),
            message,
            "keep databases on a local disk; for several machines use a server",
        );
    }
    for process in holding_processes(path) {
        judge(&process.name, &copies_in(&process.folder), in_wal_mode, findings);
    }
}

fn journal_mode(path: &Path, patience: Duration) -> Result<JournalMode, SqliteError> {
    let mut database = LiveDatabase::open(path, &OpenOptions { busy_timeout: patience })?;
    let capture = database.begin()?;
    let journal = capture.facts().journal_mode;
    capture.finish()?;
    Ok(journal)
}

fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    Path::new(&log).exists()
}

fn say_unreadable(path: &Path, error: SqliteError, findings: &mut Findings) {
    let (check, severity) = match &error {
        SqliteError::ExclusivelyLocked { .. } => ("locking", Severity::Danger),
        SqliteError::Busy { .. } => ("locking", Severity::Warning),
        _ => ("database", Severity::Danger),
    };
    let error = Error::from(error);
    let advice = error.hint().unwrap_or("see the message").to_owned();
    findings.add(check, severity, shown(path), format!("it cannot be backed up now: {error}"), advice);
}
