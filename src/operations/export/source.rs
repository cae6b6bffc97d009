//! Where an export is read from: one transaction on a live database, or a stored snapshot through the read-only VFS.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;

use super::super::list::find;
use super::{ExportRequest, ExportSource, needed};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::SnapshotId;
use crate::monitor::Monitor;
use crate::sqlite::{Capture, ImageConnection, LiveDatabase, OpenOptions};
use crate::vault::{Snapshot, Vault};

/// Bytes of a stored image that are held while it is read.
const CACHE_BYTES: usize = 16 << 20;

/// Where an export is from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SourceInfo {
    /// Path of the database, as it is or was on its machine.
    pub database: String,
    /// The snapshot that was read; null for a live database.
    pub snapshot_id: Option<SnapshotId>,
    /// When the data was true.
    pub created_at: Timestamp,
}

/// What cannot be done: an error of `SQLite`, which the source explains, or one of our own.
#[derive(Debug)]
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    Own(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Own(error)
    }
}

/// What an export is of, for whoever keeps it.
#[derive(Debug, Clone, Copy)]
pub(super) enum SourceOrigin<'a> {
    Live(&'a Path),
    Stored(&'a Snapshot),
}

/// A source that is being read.
pub(super) enum Opened<'a> {
    Live { capture: Capture<'a>, path: &'a Path, info: SourceInfo },
    Stored { image: ImageConnection, snapshot: &'a Snapshot, info: SourceInfo },
}

impl<'a> Opened<'a> {
    pub(super) const fn connection(&self) -> &Connection {
        match self {
            Self::Live { capture, .. } => capture.connection(),
            Self::Stored { image, .. } => image.connection(),
        }
    }

    pub(super) const fn info(&self) -> &SourceInfo {
        match self {
            Self::Live { info, .. } | Self::Stored { info, .. } => info,
        }
    }

    pub(super) const fn origin(&self) -> SourceOrigin<'a> {
        match self {
            Self::Live { path, .. } => SourceOrigin::Live(path),
            Self::Stored { snapshot, .. } => SourceOrigin::Stored(snapshot),
        }
    }

    /// What stopped the work, in words that name the source.
    pub(super) fn explain(&self, failure: Failure) -> Error {
        match (failure, self) {
            (Failure::Own(error), _) => error,
            (Failure::Sqlite(error), Self::Live { capture, .. }) => capture.explain(error).into(),
            (Failure::Sqlite(error), Self::Stored { image, snapshot, .. }) => {
                image.explain(error).context(format_args!("snapshot {}", snapshot.id.short()))
            }
        }
    }

    fn held(&self) -> Duration {
        match self {
            Self::Live { capture, .. } => capture.held(),
            Self::Stored { .. } => Duration::ZERO,
        }
    }

    /// Lets go of a live database; how long it was held, in milliseconds.
    pub(super) fn release(self) -> Result<Option<u64>> {
        match self {
            Self::Live { capture, .. } => {
                let held = capture.finish()?.hold;
                Ok(Some(u64::try_from(held.as_millis()).unwrap_or(u64::MAX)))
            }
            Self::Stored { .. } => Ok(None),
        }
    }
}

/// Whether the work may go on.
pub(super) struct Pace<'a> {
    pub(super) opened: &'a Opened<'a>,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) max_hold: Option<Duration>,
}

impl Pace<'_> {
    pub(super) fn still_allowed(&self) -> Result<(), Failure> {
        if self.monitor.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted; nothing was exported").into());
        }
        match self.max_hold {
            Some(limit) if self.opened.held() > limit => {
                let place = &self.opened.info().database;
                let message =
                    format!("{place}: the export would hold it for longer than {} ms", limit.as_millis());
                let hint =
                    "allow more with --max-hold, or take a snapshot and export from that with --snapshot";
                Err(Error::new(ErrorKind::Busy, message).with_hint(hint).into())
            }
            _ => Ok(()),
        }
    }
}

/// Opens what `request` names and gives it to `work`.
pub(super) fn with_source<T>(
    vault: Option<&Vault>,
    request: &ExportRequest,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
    work: impl FnOnce(Opened<'_>) -> Result<T>,
) -> Result<T> {
    match &request.source {
        ExportSource::Database(path) => {
            let mut database = LiveDatabase::open(path, &OpenOptions { busy_timeout: request.busy_timeout })?;
            let path = database.canonical_path().to_path_buf();
            let created_at = clock.now();
            let capture = database.begin()?;
            capture.read_strictly()?;
            let info = SourceInfo { database: path.display().to_string(), snapshot_id: None, created_at };
            work(Opened::Live { capture, path: &path, info })
        }
        ExportSource::Snapshot(spec) => {
            let vault = needed(vault)?;
            let snapshot = find(vault, spec, clock.now(), monitor)?;
            for skipped in vault.load_index()? {
                monitor.warn(&format!("index object {} is not used: {}", skipped.name, skipped.error));
            }
            let Some(image) = vault.image(&snapshot) else {
                let message = format!("snapshot {} is an export, not a database", snapshot.id.short());
                return Err(Error::new(ErrorKind::Refused, message)
                    .with_hint("`pagevault restore` writes it to a file as it is"));
            };
            let image = ImageConnection::open(Box::new(image), CACHE_BYTES)?;
            let path = snapshot.manifest.details.source_path.as_deref().unwrap_or_default();
            let info = SourceInfo {
                database: String::from_utf8_lossy(path).into_owned(),
                snapshot_id: Some(snapshot.id),
                created_at: snapshot.created_at(),
            };
            work(Opened::Stored { image, snapshot: &snapshot, info })
        }
    }
}
