//! What a restore would change, without changing anything: pages, and tables with their rows.
//!
//! The database is read once, in one transaction, which is over when the last page is read: what it has that the vault
//! has not is kept in memory then, if that is not much. Rows are compared after that, from both images, through the
//! read-only VFS. Neither the target nor the vault is written to, and no plaintext reaches any file.

mod held;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::Connection;

pub use self::held::PageDifference;
use super::list::{SnapshotSpec, find};
use super::restore::{Method, RestoreRequest, Verified, inspect_target, millis, prove_stored};
use super::restore_into::{LiveRestoreRequest, Target, fits, look_at};
use super::safety::Safety;
use super::snapshot::Host;
use crate::checksum::Sha256;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::SnapshotId;
use crate::monitor::Monitor;
use crate::page_source::{Geometry, PageSource};
use crate::sqlite::sole_use::holders;
use crate::sqlite::{
    Capture, CheckLevel, CompareError, ImageConnection, LiveDatabase, NotCompared, OpenOptions, Schema, Side,
    SqliteError, TableDifference, compare_tables,
};
use crate::vault::{Snapshot, Vault};

/// Bytes of each image held while rows are compared.
const CACHE_BYTES: usize = 8 << 20;

/// What a restore would do, in the words of docs/cli.md.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RestorePreview {
    /// What would be restored.
    pub snapshot_id: SnapshotId,
    /// Name of the database.
    pub database: String,
    /// Where to.
    pub target: String,
    /// Bytes of the snapshot.
    pub size: u64,
    /// Checksum of the snapshot.
    pub sha256: Sha256,
    /// What was proven of the snapshot.
    pub verified: Verified,
    /// How the restore would reach its target.
    pub method: Method,
    /// Why a live database would be replaced as a file.
    pub replaced_because: Option<String>,
    /// Who has a file open that would be replaced: the restore would be refused.
    pub in_use_by: Vec<String>,
    /// Pages; none where they cannot be set against each other.
    pub pages: Option<PageDifference>,
    /// The difference of the schemas in words.
    pub schema_changes: Vec<String>,
    /// Tables that would have other rows.
    pub tables: Vec<TableDifference>,
    /// What was not compared.
    pub not_compared: Vec<NotCompared>,
    /// Milliseconds for which the database was held for reading.
    pub hold_ms: u64,
    /// Milliseconds, all in all.
    pub duration_ms: u64,
}

/// What [`restore`](super::restore::restore) would change; `request.overwrite` is taken as given.
///
/// # Errors
/// As the restore, where that is known beforehand.
pub fn preview_restore(
    vault: &Vault,
    request: &RestoreRequest,
    busy_timeout: Duration,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<RestorePreview> {
    let exists = inspect_target(&request.target, true)?.is_some();
    let preview = Preview {
        vault,
        spec: &request.snapshot,
        target: &request.target,
        check: request.check,
        safety: request.safety.as_ref(),
        busy_timeout,
        clock,
        monitor,
    };
    preview.run(|_| Ok((if exists { Method::Replaced } else { Method::File }, None)))
}

/// What [`restore_into`](super::restore_into::restore_into) would change.
///
/// # Errors
/// As the restore, where that is known beforehand.
pub fn preview_restore_into(
    vault: &Vault,
    request: &LiveRestoreRequest,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<RestorePreview> {
    let preview = Preview {
        vault,
        spec: &request.snapshot,
        target: &request.target,
        check: request.check,
        safety: request.safety.as_ref(),
        busy_timeout: request.busy_timeout,
        clock,
        monitor,
    };
    preview.run(|snapshot| {
        let way = match look_at(&request.target, request.busy_timeout)? {
            Target::Pages(geometry, encoding) => fits(vault, snapshot, geometry, encoding)?.map(|_| ()),
            Target::Unusable(why) => Err(why),
        };
        Ok(match way {
            Ok(()) => (Method::Pages, None),
            Err(why) => (Method::Replaced, Some(why)),
        })
    })
}

struct Preview<'a> {
    vault: &'a Vault,
    spec: &'a SnapshotSpec,
    target: &'a PathBuf,
    check: CheckLevel,
    safety: Option<&'a Host>,
    busy_timeout: Duration,
    clock: &'a dyn Clock,
    monitor: &'a dyn Monitor,
}

/// What comes of comparing target and snapshot.
#[derive(Default)]
struct Comparison {
    pages: Option<PageDifference>,
    schema_changes: Vec<String>,
    tables: Vec<TableDifference>,
    not_compared: Vec<NotCompared>,
    hold_ms: u64,
}

impl Preview<'_> {
    fn run(
        &self,
        method: impl FnOnce(&Snapshot) -> Result<(Method, Option<String>)>,
    ) -> Result<RestorePreview> {
        let started = Instant::now();
        let snapshot = find(self.vault, self.spec, self.clock.now(), self.monitor)?;
        super::load_index(self.vault, self.monitor)?;
        let (method, replaced_because) = method(&snapshot)?;
        let (sha256, verified) = prove_stored(self.vault, &snapshot, self.check, self.monitor)?;
        let compared = if method == Method::File { Comparison::default() } else { self.compare(&snapshot)? };
        let in_use_by = if method == Method::Replaced { holders(self.target) } else { Vec::new() };
        Ok(RestorePreview {
            snapshot_id: snapshot.id,
            database: snapshot.manifest.name.clone(),
            target: self.target.display().to_string(),
            size: snapshot.manifest.content.len(),
            sha256,
            verified,
            method,
            replaced_because,
            in_use_by,
            pages: compared.pages,
            schema_changes: compared.schema_changes,
            tables: compared.tables,
            not_compared: compared.not_compared,
            hold_ms: compared.hold_ms,
            duration_ms: millis(started),
        })
    }

    fn compare(&self, snapshot: &Snapshot) -> Result<Comparison> {
        let options = OpenOptions { busy_timeout: self.busy_timeout };
        let mut database = match LiveDatabase::open(self.target, &options) {
            Ok(database) => database,
            Err(error) => return self.unreadable(snapshot, error),
        };
        let capture = match database.begin() {
            Ok(capture) => capture,
            Err(error) => return self.unreadable(snapshot, error),
        };
        let (live, stored) = (capture.geometry(), snapshot.manifest.content.geometry());
        match stored {
            Some(stored) if stored.page_size == live.page_size => self.by_pages(snapshot, capture),
            Some(Geometry { page_count, .. }) => {
                let mut compared = self.while_held(snapshot, capture)?;
                let added = (live.page_count == 0).then_some(page_count.into());
                compared.pages = added.map(|added| PageDifference { added, ..PageDifference::default() });
                Ok(compared)
            }
            // A document: the restore itself says why it cannot be.
            None => Ok(Comparison::default()),
        }
    }

    /// Pages first, and rows when the database has been let go, if that can be.
    fn by_pages(&self, snapshot: &Snapshot, mut capture: Capture<'_>) -> Result<Comparison> {
        self.monitor.begin("compare", &snapshot.manifest.name, snapshot.manifest.content.len());
        let looked = held::look(self.vault, snapshot, &mut capture, self.monitor);
        self.monitor.finish();
        let looked = looked?;
        let mut compared = if looked.pages == PageDifference::default() {
            Comparison { hold_ms: hold_of(capture)?, ..Comparison::default() }
        } else if let Some(held) = looked.held {
            let hold_ms = hold_of(capture)?;
            let live = ImageConnection::open(Box::new(held), CACHE_BYTES)?;
            let compared =
                self.rows(snapshot, &live, &|error| live.explain(error).context(self.target.display()))?;
            Comparison { hold_ms, ..compared }
        } else {
            self.while_held(snapshot, capture)?
        };
        compared.pages = Some(looked.pages);
        Ok(compared)
    }

    /// A target that cannot be read has nothing to compare; one that is locked or not permitted is an error, and so is one
    /// that the restore would not replace.
    fn unreadable(&self, snapshot: &Snapshot, error: SqliteError) -> Result<Comparison> {
        let reason = match &error {
            SqliteError::NotADatabase { .. }
            | SqliteError::Damaged { .. }
            | SqliteError::Unsupported { .. } => error.to_string(),
            _ => return Err(error.into()),
        };
        if let Some(host) = self.safety {
            let safety = Safety {
                vault: self.vault,
                target: self.target,
                before: snapshot,
                host,
                busy_timeout: self.busy_timeout,
                clock: self.clock,
                monitor: self.monitor,
            };
            safety.do_without(&error.into())?;
        }
        let left = NotCompared { table: None, reason };
        Ok(Comparison { not_compared: vec![left], ..Comparison::default() })
    }

    fn while_held(&self, snapshot: &Snapshot, capture: Capture<'_>) -> Result<Comparison> {
        if let Err(error) = capture.read_strictly() {
            return self.unreadable(snapshot, error);
        }
        let compared = self.rows(snapshot, capture.connection(), &|error| capture.explain(error).into())?;
        Ok(Comparison { hold_ms: hold_of(capture)?, ..compared })
    }

    fn rows(
        &self,
        snapshot: &Snapshot,
        live: &Connection,
        explain: &dyn Fn(rusqlite::Error) -> Error,
    ) -> Result<Comparison> {
        let image = self.vault.image(snapshot).ok_or_else(|| {
            Error::new(ErrorKind::Refused, format!("snapshot {} is no database", snapshot.id.short()))
        })?;
        let image = ImageConnection::open(Box::new(image), CACHE_BYTES)?;
        let of_image = |error| image.explain(error).context(format_args!("snapshot {}", snapshot.id.short()));
        let before = Schema::read(live).map_err(explain)?;
        let after = Schema::read(&image).map_err(of_image)?;
        let found = match compare_tables(live, &image, &|| !self.monitor.interrupted()) {
            Ok(found) => found,
            Err(CompareError::Sqlite(Side::From, error)) => return Err(explain(error)),
            Err(CompareError::Sqlite(Side::To, error)) => return Err(of_image(error)),
            Err(CompareError::Stopped) => {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted; nothing was changed"));
            }
        };
        Ok(Comparison {
            schema_changes: before.changes(&after),
            tables: found.tables,
            not_compared: found.not_compared,
            ..Comparison::default()
        })
    }
}

fn hold_of(capture: Capture<'_>) -> Result<u64> {
    Ok(u64::try_from(capture.finish()?.hold.as_millis()).unwrap_or(u64::MAX))
}
