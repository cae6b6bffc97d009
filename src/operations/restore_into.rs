//! `restore --into`: a stored snapshot into a database that applications have open.
//!
//! The image is proven first, then what the database holds is stored, completely, under the write lock; then one
//! transaction writes the pages that differ. Every other connection sees the state before or the state after.
//!
//! A target that cannot be written page by page (another page size or text encoding, empty, damaged) is replaced as a
//! file, once it is proven that nobody else has it open.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::difference::{differing_pages, is_same};
use super::list::{SnapshotSpec, find};
use super::restore::{Method, RestoreReport, RestoreRequest, Verified, restore};
use super::safety::Safety;
use super::snapshot::Host;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::SnapshotId;
use crate::monitor::Monitor;
use crate::page_source::{Geometry, PageSource};
use crate::sqlite::{
    CheckLevel, DatabaseHeader, LiveDatabase, LiveTarget, OpenOptions, SqliteError, TextEncoding,
};
use crate::vault::{Snapshot, Vault};

/// What is to be restored into which live database.
#[derive(Debug, Clone)]
pub struct LiveRestoreRequest {
    /// Which snapshot.
    pub snapshot: SnapshotSpec,
    /// The database.
    pub target: PathBuf,
    /// How thoroughly `SQLite` checks the image before anything is written.
    pub check: CheckLevel,
    /// This machine, for the snapshot of what the restore overwrites; without it, none is taken.
    pub safety: Option<Host>,
    /// How long to wait for a lock.
    pub busy_timeout: Duration,
}

impl LiveRestoreRequest {
    /// Restores `snapshot` into `target`, checked in full, with a safety snapshot.
    pub fn new(snapshot: SnapshotSpec, target: impl Into<PathBuf>, host: Host) -> Self {
        Self {
            snapshot,
            target: target.into(),
            check: CheckLevel::Full,
            safety: Some(host),
            busy_timeout: OpenOptions::default().busy_timeout,
        }
    }
}

/// Restores a snapshot into a live database.
///
/// # Errors
/// There is no such snapshot or database, the image fails its proof, the database stays locked, or it must be replaced
/// as a file and others have it open. It is then as it was.
pub fn restore_into(
    vault: &Vault,
    request: &LiveRestoreRequest,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<RestoreReport> {
    let started = Instant::now();
    let snapshot = find(vault, &request.snapshot, clock.now(), monitor)?;
    super::load_index(vault, monitor)?;
    let target = look_at(&request.target, request.busy_timeout)?;
    let way = match target {
        Target::Pages(geometry, encoding) => fits(vault, &snapshot, geometry, encoding)?,
        Target::Unusable(why) => Err(why),
    };
    let encoding = match way {
        Ok(encoding) => encoding,
        Err(why) => {
            monitor.warn(&format!(
                "{} cannot be restored page by page, only replaced as a file: {why}",
                request.target.display()
            ));
            return replace(vault, request, &snapshot, clock, monitor);
        }
    };
    let live = Live { vault, request, snapshot: &snapshot, clock, monitor };
    let check_started = Instant::now();
    let (sha256, verified) = super::restore::prove_stored(vault, &snapshot, request.check, monitor)?;
    let check_ms = super::restore::millis(check_started);
    let done = live.write(encoding)?;
    Ok(RestoreReport {
        snapshot_id: snapshot.id,
        database: snapshot.manifest.name.clone(),
        target: request.target.display().to_string(),
        size: snapshot.manifest.content.len(),
        sha256,
        verified: Verified { live: Some(done.untouched), ..verified },
        method: Method::Pages,
        safety_snapshot: done.safety,
        pages_written: done.pages_written,
        hold_ms: Some(u64::try_from(done.held.as_millis()).unwrap_or(u64::MAX)),
        duration_ms: super::restore::millis(started),
        check_ms,
    })
}

/// What there is where the snapshot is to go.
pub(super) enum Target {
    Pages(Geometry, TextEncoding),
    /// Not to be written page by page, for this reason.
    Unusable(String),
}

pub(super) fn look_at(target: &Path, busy_timeout: Duration) -> Result<Target> {
    let options = OpenOptions { busy_timeout };
    let look = || -> Result<(Geometry, TextEncoding), SqliteError> {
        let mut database = LiveDatabase::open(target, &options)?;
        let capture = database.begin()?;
        Ok((capture.geometry(), capture.facts().text_encoding))
    };
    match look() {
        Ok((geometry, encoding)) => Ok(Target::Pages(geometry, encoding)),
        Err(
            error @ (SqliteError::NotADatabase { .. }
            | SqliteError::Damaged { .. }
            | SqliteError::Unsupported { .. }),
        ) => Ok(Target::Unusable(error.to_string())),
        Err(error @ SqliteError::NotFound { .. }) => {
            Err(Error::from(error).with_hint("a database that does not exist is restored with --to"))
        }
        Err(error) => Err(error.into()),
    }
}

/// The encoding if the snapshot can be written into such a database page by page, else why not.
pub(super) fn fits(
    vault: &Vault,
    snapshot: &Snapshot,
    live: Geometry,
    encoding: TextEncoding,
) -> Result<Result<TextEncoding, String>> {
    let Some(stored) = snapshot.manifest.content.geometry() else {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("snapshot {} is no database", snapshot.id.short()),
        ));
    };
    if live.page_count == 0 || stored.page_count == 0 {
        let which = if live.page_count == 0 { "it" } else { "the snapshot" };
        return Ok(Err(format!("{which} is empty")));
    }
    if live.page_size != stored.page_size {
        let (stored, live) = (stored.page_size, live.page_size);
        return Ok(Err(format!("the snapshot has pages of {stored} bytes, it has {live}")));
    }
    let mut page_1 = vec![0; stored.page_size.bytes() as usize];
    let mut image = vault.image(snapshot).ok_or_else(|| Error::new(ErrorKind::Failed, "no image"))?;
    image.read_pages(0, &mut page_1)?;
    let header = DatabaseHeader::parse(&page_1).map_err(|error| {
        Error::new(ErrorKind::Damage, format!("snapshot {}: {error}", snapshot.id.short()))
    })?;
    if header.text_encoding != encoding {
        return Ok(Err(format!("the snapshot has text as {:?}, it as {encoding:?}", header.text_encoding)));
    }
    Ok(Ok(encoding))
}

/// The way of `restore --to --yes`.
fn replace(
    vault: &Vault,
    request: &LiveRestoreRequest,
    snapshot: &Snapshot,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<RestoreReport> {
    let spec = SnapshotSpec::Prefix(snapshot.id.to_string());
    let request = RestoreRequest {
        overwrite: true,
        check: request.check,
        safety: request.safety.clone(),
        ..RestoreRequest::new(spec, &request.target)
    };
    restore(vault, &request, clock, monitor)
}

struct Live<'a> {
    vault: &'a Vault,
    request: &'a LiveRestoreRequest,
    snapshot: &'a Snapshot,
    clock: &'a dyn Clock,
    monitor: &'a dyn Monitor,
}

struct Done {
    safety: Option<SnapshotId>,
    pages_written: u64,
    held: Duration,
    /// Nobody has committed since, and the database was found to be the image.
    untouched: bool,
}

impl Live<'_> {
    fn write(&self, encoding: TextEncoding) -> Result<Done> {
        let (vault, snapshot, request) = (self.vault, self.snapshot, self.request);
        let safety = request.safety.as_ref().map(|host| Safety {
            vault,
            target: &request.target,
            before: snapshot,
            host,
            busy_timeout: request.busy_timeout,
            clock: self.clock,
            monitor: self.monitor,
        });
        // Most of it is stored before the write lock, and only what was committed meanwhile under it.
        if let Some(safety) = &safety {
            safety.take(false)?;
        }
        let mut target = LiveTarget::open(&request.target, encoding, request.busy_timeout)?;
        let mut write = target.begin()?;
        let kept = match &safety {
            Some(safety) => Some(safety.take(true)?.id),
            None => None,
        };
        let stored = snapshot.manifest.content.geometry();
        if stored.map(|stored| stored.page_size) != Some(write.geometry().page_size) {
            return Err(self.changed_meanwhile());
        }
        let page_count = stored.map_or(0, |stored| stored.page_count);
        let mut pages_written = 0;
        self.monitor.begin("restore", &snapshot.manifest.name, snapshot.manifest.content.len());
        let compared =
            differing_pages(vault, snapshot, &mut write, self.monitor, &mut |write, number, page| {
                pages_written += 1;
                if number == 1 { Ok(()) } else { Ok(write.write_page(number, page)?) }
            });
        self.monitor.finish();
        compared?;
        if pages_written == 0 && write.geometry().page_count == page_count {
            return Ok(Done { safety: kept, pages_written, held: write.held(), untouched: true });
        }
        let mut page_1 = vec![0; write.geometry().page_size.bytes() as usize];
        let mut image = vault.image(snapshot).ok_or_else(|| self.changed_meanwhile())?;
        image.read_pages(0, &mut page_1)?;
        let committed = write.commit(&page_1, page_count, request.busy_timeout)?;
        let untouched = self.prove(&mut target, committed, kept)?;
        Ok(Done { safety: kept, pages_written: pages_written.max(1), held: committed.held, untouched })
    }

    /// Compares the database with the image, unless somebody has gone on working already.
    fn prove(
        &self,
        target: &mut LiveTarget,
        committed: crate::sqlite::Committed,
        kept: Option<SnapshotId>,
    ) -> Result<bool> {
        let (untouched, mut read) = match target.read_back(committed) {
            Ok(read) => read,
            Err(SqliteError::Busy { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if !untouched {
            return Ok(false);
        }
        // Not to be interrupted: what is done is done, and whether it is right is to be known.
        if is_same(self.vault, self.snapshot, &mut read, &crate::monitor::Silent)? {
            return Ok(true);
        }
        let error = Error::new(
            ErrorKind::Damage,
            format!(
                "{} is not what snapshot {} holds",
                self.request.target.display(),
                self.snapshot.id.short()
            ),
        );
        Err(match kept {
            Some(kept) => error.with_hint(format!(
                "check the disk; what was there before is in snapshot {}: restore it with --to",
                kept.short()
            )),
            None => error.with_hint("check the disk, and restore with --to"),
        })
    }

    fn changed_meanwhile(&self) -> Error {
        let message = format!("{} has changed its form meanwhile", self.request.target.display());
        Error::new(ErrorKind::Busy, message).with_hint("try again; nothing was changed")
    }
}
