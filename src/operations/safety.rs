//! Safety snapshots: what a restore is about to overwrite, stored first.

use std::error::Error as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::list::catalog;
use super::snapshot::{Host, SnapshotRequest, free_name, snapshot};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Kind;
use crate::monitor::Monitor;
use crate::sqlite::SqliteError;
use crate::vault::{Snapshot, Vault};

/// How to take safety snapshots of one target.
pub(super) struct Safety<'a> {
    pub(super) vault: &'a Vault,
    pub(super) target: &'a Path,
    /// What is going to be restored.
    pub(super) before: &'a Snapshot,
    pub(super) host: &'a Host,
    pub(super) busy_timeout: Duration,
    pub(super) clock: &'a dyn Clock,
    pub(super) monitor: &'a dyn Monitor,
}

impl Safety<'_> {
    /// Stores what the target holds now. With `only_if_changed`, the newest snapshot of it is enough if it is the same; a
    /// further one says that it is the later of two.
    pub(super) fn take(&self, only_if_changed: bool) -> Result<Snapshot> {
        let when = if only_if_changed { ", with what was committed meanwhile" } else { "" };
        let canonical = std::fs::canonicalize(self.target).map_err(|error| {
            let message = format!("cannot find {}: {error}", self.target.display());
            Error::new(ErrorKind::NotFound, message).with_source(error)
        })?;
        let known = catalog(self.vault, self.monitor)?;
        let before = &self.before.manifest.name;
        let request = SnapshotRequest {
            name: Some(free_name(&known, self.host.id, &canonical)),
            kind: Kind::Automatic,
            description: Some(format!("before restore of {} ({before}){when}", self.before.id.short())),
            busy_timeout: self.busy_timeout,
            only_if_changed,
            ..SnapshotRequest::new([self.target], self.host.clone())
        };
        let mut taken = Err(Error::new(ErrorKind::Failed, "no safety snapshot was taken"));
        snapshot(self.vault, &request, self.clock, self.monitor, &mut |_, outcome| taken = outcome)?;
        let id = taken.map_err(|error| error.context("safety snapshot"))?.snapshot_id;
        let found = catalog(self.vault, self.monitor)?.get(id).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::Damage, format!("safety snapshot {} is gone", id.short())))
    }

    /// As [`Safety::take`]; `None`, and a warning, where the target is what is left of a database and cannot be captured.
    ///
    /// # Errors
    /// The target is something else, which nobody may have meant to lose.
    pub(super) fn take_if_readable(&self, only_if_changed: bool) -> Result<Option<Snapshot>> {
        match self.take(only_if_changed) {
            Ok(taken) => Ok(Some(taken)),
            Err(error) if error.kind() == ErrorKind::Refused => self.do_without(&error).map(|()| None),
            Err(error) => Err(error),
        }
    }

    /// Whether a target that cannot be captured, because of `error`, may be replaced all the same; warns if so.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn do_without(&self, error: &Error) -> Result<()> {
        let is_damaged = error
            .source()
            .and_then(|cause| cause.downcast_ref::<SqliteError>())
            .is_some_and(|cause| matches!(cause, SqliteError::Damaged { .. }));
        if is_damaged || self.is_known()? {
            self.monitor.warn(&format!("nothing is kept of what is replaced: {error}"));
            return Ok(());
        }
        let message =
            format!("nothing of {} can be kept as a snapshot first: {error}", self.target.display());
        Err(Error::new(ErrorKind::Refused, message).with_hint(
            "is it the right file? If it may go, copy away what matters and say so with --no-safety-snapshot",
        ))
    }

    /// Whether a database of the vault is, or was, where the target is.
    fn is_known(&self) -> Result<bool> {
        let canonical = std::fs::canonicalize(self.target).unwrap_or_else(|_| self.target.to_path_buf());
        let path = Some(canonical.as_os_str().as_bytes());
        let known = catalog(self.vault, self.monitor)?;
        Ok(known.snapshots.iter().any(|snapshot| {
            let manifest = &snapshot.manifest;
            manifest.host == self.host.id && manifest.details.source_path.as_deref() == path
        }))
    }
}
