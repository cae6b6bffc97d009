//! `doctor`: what in this environment endangers the data, and what to do about it (docs/cli.md).
//!
//! Nothing is changed, and nothing but what is named in the request is looked at; it does not know where configuration or keys
//! come from. Each part can fail without harm to the others: what cannot be seen is said.

mod database;
mod library;
mod place;
mod stored;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

pub use self::library::{WAL_RESET_FIXED, has_wal_reset_bug};

use crate::error::{Error, ErrorKind, Result};
use crate::ids::HostId;
use crate::monitor::Monitor;
use crate::vault::Vault;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Will hurt one day.
    Warning,
    /// Can lose or expose data now.
    Danger,
}

impl Severity {
    /// The word for people and scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Danger => "danger",
        }
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What was looked at, in a word that does not change: `sqlite`, `network`, `locking`, `permissions`, `key-file`, `space`,
    /// `clock`, `recovery-key`, `snapshots`, `test-restore`, `database`, `vault`.
    pub check: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// The file, process or vault it is about.
    pub object: String,
    /// What was found.
    pub message: String,
    /// What to do.
    pub advice: String,
}

/// What is looked at.
#[derive(Debug, Clone, Default)]
pub struct DoctorRequest {
    /// The vault's folder, if it is one.
    pub vault: Option<PathBuf>,
    /// Key files that open it.
    pub key_files: Vec<PathBuf>,
    /// Databases to look at, besides those that the vault knows on this machine.
    pub databases: Vec<PathBuf>,
    /// This machine, to tell which databases of the vault are its own.
    pub host: Option<HostId>,
    /// When a restore from the vault was last tested with success, as far as the caller knows; what the vault's log says is
    /// known without it.
    pub last_proof: Option<Timestamp>,
    /// How long a database may be locked before that is a finding; two seconds if not given.
    pub busy_timeout: Option<Duration>,
}

/// Looks at everything that `request` names, and at `vault` where it could be opened. The worst findings come first.
///
/// # Errors
/// Interrupted. What cannot be looked at is a finding.
pub fn doctor(
    vault: Option<&Vault>,
    request: &DoctorRequest,
    now: Timestamp,
    monitor: &dyn Monitor,
) -> Result<Vec<Finding>> {
    let mut findings = Findings::default();
    library::look_at_own(&mut findings);
    place::look_at_clock(now, &mut findings);
    let mut databases = request.databases.clone();
    let mut newest_size = 0;
    if let Some(vault) = vault {
        let known = stored::look(vault, request, now, &mut findings);
        newest_size = known.largest;
        databases.extend(known.databases);
    }
    databases.sort();
    databases.dedup();
    if let Some(folder) = &request.vault {
        place::look_at_vault(folder, &databases, newest_size, &mut findings);
    }
    for key_file in &request.key_files {
        place::look_at_key_file(key_file, request.vault.as_deref(), &mut findings);
    }
    let patience = request.busy_timeout.unwrap_or(Duration::from_secs(2));
    for path in &databases {
        if monitor.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        database::look(path, patience, &mut findings);
    }
    let mut found = findings.0;
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(found)
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        check: &'static str,
        severity: Severity,
        object: impl std::fmt::Display,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let (object, message, advice) = (object.to_string(), message.into(), advice.into());
        self.0.push(Finding { check, severity, object, message, advice });
    }
}

/// A path for messages.
fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}
