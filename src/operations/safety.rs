//! Safety snapshots: what a restore is about to overwrite, stored first.

use std::path::Path;
use std::time::Duration;

use super::list::catalog;
use super::snapshot::{Host, SnapshotRequest, free_name, snapshot};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Kind;
use crate::monitor::Monitor;
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
    /// Stores what the target holds now. With `only_if_changed`, the newest snapshot of it is enough if it is the same.
    pub(super) fn take(&self, only_if_changed: bool) -> Result<Snapshot> {
        let canonical = std::fs::canonicalize(self.target).map_err(|error| {
            let message = format!("cannot find {}: {error}", self.target.display());
            Error::new(ErrorKind::NotFound, message).with_source(error)
        })?;
        let known = catalog(self.vault, self.monitor)?;
        let before = &self.before.manifest.name;
        let request = SnapshotRequest {
            name: Some(free_name(&known, self.host.id, &canonical)),
            kind: Kind::Automatic,
            description: Some(format!("before restore of {} ({before})", self.before.id.short())),
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

    /// As [`Safety::take`]; `None`, and a warning, where the target is no database that can be captured.
    pub(super) fn take_if_readable(&self, only_if_changed: bool) -> Result<Option<Snapshot>> {
        match self.take(only_if_changed) {
            Ok(taken) => Ok(Some(taken)),
            Err(error) if error.kind() == ErrorKind::Refused => {
                self.monitor.warn(&format!("nothing is kept of what is replaced: {error}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
