//! `restore --to`: a stored snapshot as a file, proven before it has its name.
//!
//! The image is written to a temporary file next to the target, every chunk checked by its id, the whole by SHA-256
//! and by `SQLite` itself; only then is it put in place in one step. Whatever fails or interrupts, the target is what
//! it was.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Sender, bounded};

use super::assemble::assemble;
use super::list::{SnapshotSpec, find};
use super::replace::Keeper;
use super::snapshot::Host;
use crate::checksum::Sha256;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{SnapshotId, to_hex};
use crate::monitor::Monitor;
use crate::page_source::PageSource;
use crate::sqlite::{CheckLevel, FileImage, ForeignKeyProblem, Integrity, verify_image};
use crate::vault::{Snapshot, Vault};

/// Bytes of a file's name under Linux and most file systems.
const MAX_NAME_LEN: usize = 255;

/// What is to be restored, and where to.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// Which snapshot.
    pub snapshot: SnapshotSpec,
    /// The file to make.
    pub target: PathBuf,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// How thoroughly `SQLite` checks the image before it gets its name.
    pub check: CheckLevel,
    /// This machine, for the snapshot of a database that is replaced; without it, none is taken.
    pub safety: Option<Host>,
}

impl RestoreRequest {
    /// Restores `snapshot` to `target`, which must not exist, checked in full.
    pub fn new(snapshot: SnapshotSpec, target: impl Into<PathBuf>) -> Self {
        Self { snapshot, target: target.into(), overwrite: false, check: CheckLevel::Full, safety: None }
    }
}

/// What was proven of a restored file.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Verified {
    /// The whole file has the snapshot's SHA-256; `None` for a point that has none.
    pub sha256: Option<bool>,
    /// What `SQLite` says.
    pub integrity_check: Integrity,
    /// All tables that the snapshot requires are there.
    pub required_tables: bool,
    /// Broken references, as the application left them.
    pub foreign_keys: Vec<ForeignKeyProblem>,
    /// A live database was read back and is the image: `Some(false)` if its applications had gone on writing before it
    /// could be compared, `None` for a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<bool>,
}

/// How a restore reached its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A new file.
    File,
    /// A file in the place of another.
    Replaced,
    /// One transaction on a live database.
    Pages,
}

/// A finished restore, in the words of docs/cli.md.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RestoreReport {
    /// What was restored.
    pub snapshot_id: SnapshotId,
    /// Name of the database.
    pub database: String,
    /// The file.
    pub target: String,
    /// Bytes.
    pub size: u64,
    /// Checksum of the file.
    pub sha256: Sha256,
    /// What was proven.
    pub verified: Verified,
    /// How it was done.
    pub method: Method,
    /// What was there before.
    pub safety_snapshot: Option<SnapshotId>,
    /// Pages that were written.
    pub pages_written: u64,
    /// Milliseconds for which nobody else could write to a live database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
    /// Milliseconds, all in all.
    pub duration_ms: u64,
    /// Milliseconds of that for `SQLite`'s checks.
    pub check_ms: u64,
}

/// Restores a snapshot to a path.
///
/// # Errors
/// There is no such snapshot, the target exists and may not be replaced, the vault lacks something, or the image
/// fails its proof. The target is then as it was.
pub fn restore(
    vault: &Vault,
    request: &RestoreRequest,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<RestoreReport> {
    let started = Instant::now();
    // The index after the manifest: what a snapshot published just now needs was named before it was there.
    let snapshot = find(vault, &request.snapshot, clock.now(), monitor)?;
    super::load_index(vault, monitor)?;
    let existing = inspect_target(&request.target, request.overwrite)?;
    let mut keeper = Keeper::new(vault, request, existing.is_some(), &snapshot, clock, monitor)?;
    let mut temporary = Temporary::create(&request.target)?;
    monitor.begin("restore", &snapshot.manifest.name, snapshot.manifest.content.len());
    let assembled = assemble(vault, &snapshot, monitor, &mut |piece| temporary.write(piece));
    monitor.finish();
    let sha256 = assembled?;
    let check_started = Instant::now();
    let verified = prove(&snapshot, &temporary, sha256, request.check)?;
    let check_ms = millis(check_started);
    if monitor.interrupted() {
        return Err(Error::new(ErrorKind::Interrupted, "interrupted; the target is as it was"));
    }
    temporary.put_in_place(&request.target, existing.as_ref(), &mut keeper)?;
    Ok(RestoreReport {
        method: if existing.is_some() { Method::Replaced } else { Method::File },
        safety_snapshot: keeper.kept(),
        pages_written: snapshot.manifest.content.geometry().map_or(0, |geometry| geometry.page_count.into()),
        hold_ms: None,
        snapshot_id: snapshot.id,
        database: snapshot.manifest.name.clone(),
        target: request.target.display().to_string(),
        size: snapshot.manifest.content.len(),
        sha256,
        verified,
        duration_ms: millis(started),
        check_ms,
    })
}

pub(super) fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The target's metadata if it exists and may be replaced.
pub(super) fn inspect_target(target: &Path, overwrite: bool) -> Result<Option<std::fs::Metadata>> {
    if target.as_os_str().as_bytes().ends_with(b"/") {
        return Err(Error::new(ErrorKind::Refused, format!("{} names a folder", target.display()))
            .with_hint("name a file to restore to"));
    }
    let metadata = match std::fs::symlink_metadata(target) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refuse_sidecars(target, overwrite).map(|()| None);
        }
        Err(error) => return Err(io(target, "inspect", error)),
    };
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a folder" } else { "not a regular file" };
        return Err(Error::new(ErrorKind::Refused, format!("{} is {what}", target.display()))
            .with_hint("name a file to restore to"));
    }
    if !overwrite {
        return Err(Error::new(ErrorKind::Refused, format!("{} exists", target.display()))
            .with_hint("choose another path, or replace it with --yes"));
    }
    Ok(Some(metadata))
}

/// A database put next to the log of another is corrupt at its first opening.
fn refuse_sidecars(target: &Path, overwrite: bool) -> Result<()> {
    if overwrite {
        return Ok(());
    }
    for sidecar in sidecars(target) {
        if sidecar.symlink_metadata().is_ok() {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{} is left over from another database", sidecar.display()),
            )
            .with_hint("move it away, choose another path, or remove it with --yes"));
        }
    }
    Ok(())
}

pub(super) fn sidecars(target: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    ["-wal", "-shm", "-journal"].into_iter().map(|suffix| {
        let mut name = target.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

fn io(path: &Path, verb: &str, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Failed,
    };
    let made = Error::new(kind, format!("cannot {verb} {}: {error}", path.display()));
    match error.kind() {
        std::io::ErrorKind::NotFound => made.with_hint("the folder must exist"),
        std::io::ErrorKind::StorageFull => made.with_hint("free space there, or restore to another disk"),
        std::io::ErrorKind::PermissionDenied => made.with_hint("restore as a user who may write there"),
        _ => made,
    }
    .with_source(error)
}

fn prove(snapshot: &Snapshot, temporary: &Temporary, sha256: Sha256, level: CheckLevel) -> Result<Verified> {
    prove_image(snapshot, sha256, level, || Ok(Box::new(FileImage::new(temporary.reopen()?)?)))
}

/// Proves an image where it is, in the vault: nothing is written anywhere.
pub(super) fn prove_stored(
    vault: &Vault,
    snapshot: &Snapshot,
    level: CheckLevel,
    monitor: &dyn Monitor,
) -> Result<(Sha256, Verified)> {
    monitor.begin("verify", &snapshot.manifest.name, snapshot.manifest.content.len());
    let assembled = assemble(vault, snapshot, monitor, &mut |_| Ok(()));
    monitor.finish();
    let sha256 = assembled?;
    let gone = || Error::new(ErrorKind::Refused, format!("snapshot {} is no database", snapshot.id.short()));
    let verified =
        prove_image(snapshot, sha256, level, || Ok(Box::new(vault.image(snapshot).ok_or_else(gone)?)))?;
    Ok((sha256, verified))
}

fn prove_image(
    snapshot: &Snapshot,
    sha256: Sha256,
    level: CheckLevel,
    image: impl FnOnce() -> Result<Box<dyn PageSource>>,
) -> Result<Verified> {
    let matches = snapshot.manifest.sha256.map(|expected| expected == sha256);
    if matches == Some(false) {
        return Err(Error::new(
            ErrorKind::Damage,
            format!("snapshot {}: the restored bytes do not have its SHA-256", snapshot.id.short()),
        )
        .with_hint("restore another snapshot; `pagevault list` shows them"));
    }
    let mut verified = Verified {
        sha256: matches,
        integrity_check: Integrity::Skipped,
        required_tables: true,
        foreign_keys: Vec::new(),
        live: None,
    };
    if snapshot.manifest.content.is_empty() || snapshot.manifest.content.geometry().is_none() {
        return Ok(verified);
    }
    let required = &snapshot.manifest.details.required_tables;
    let report = verify_image(image()?, level, required)?;
    if let Integrity::Damaged { findings } = &report.integrity {
        let first = findings.first().map_or("", String::as_str);
        return Err(Error::new(
            ErrorKind::Damage,
            format!(
                "snapshot {} is exactly what was captured, but SQLite finds the database damaged: {first}",
                snapshot.id.short()
            ),
        )
        .with_hint("restore an older snapshot, or this one as it is with --check none"));
    }
    if let Some(table) = report.missing_tables.first() {
        return Err(Error::new(
            ErrorKind::Damage,
            format!("snapshot {}: required table {table:?} is missing", snapshot.id.short()),
        ));
    }
    verified.integrity_check = report.integrity;
    verified.foreign_keys = report.foreign_keys;
    Ok(verified)
}

/// The file in the making; removed unless it is put in place.
struct Temporary {
    path: PathBuf,
    file: File,
    flusher: Flusher,
    unflushed: usize,
    in_place: bool,
}

/// Bytes after which the operating system is asked to write what is there.
const FLUSH_AFTER: usize = 32 << 20;

/// Makes what was written so far durable beside the rest of the work, so that the last fsync is short. Its answer counts:
/// the system reports a failed write to one fsync only.
struct Flusher {
    orders: Option<Sender<()>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Flusher {
    fn of(file: &File) -> std::io::Result<Self> {
        let file = file.try_clone()?;
        let (orders, inbox) = bounded(1);
        let thread = std::thread::spawn(move || inbox.iter().try_for_each(|()| file.sync_data()));
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Does not wait: while one flush is going on, another one is of no use.
    fn flush(&self) {
        if let Some(orders) = &self.orders {
            let _ = orders.try_send(());
        }
    }

    fn finish(&mut self) -> std::io::Result<()> {
        self.orders = None;
        let failed = || std::io::Error::other("the thread that flushes it failed");
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap_or_else(|_| Err(failed())))
    }
}

impl Temporary {
    fn create(target: &Path) -> Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
        let name = target.file_name().ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("{} does not name a file", target.display()))
        })?;
        let suffix = format!(".pagevault-{}", to_hex(&random));
        // With the target's name in it people see what it belongs to; without it there is room for any name.
        let mut temporary = std::ffi::OsString::new();
        if 1 + name.len() + suffix.len() <= MAX_NAME_LEN {
            temporary.push(".");
            temporary.push(name);
        }
        temporary.push(suffix);
        let path = target.with_file_name(temporary);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| io(&path, "create", error))?;
        let flusher = Flusher::of(&file).map_err(|error| {
            let _ = std::fs::remove_file(&path);
            io(&path, "write", error)
        })?;
        Ok(Self { path, file, flusher, unflushed: 0, in_place: false })
    }

    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece).map_err(|error| io(&self.path, "write", error))?;
        self.unflushed += piece.len();
        if self.unflushed >= FLUSH_AFTER {
            self.unflushed = 0;
            self.flusher.flush();
        }
        Ok(())
    }

    fn reopen(&self) -> Result<File> {
        File::open(&self.path).map_err(|error| io(&self.path, "read back", error))
    }

    /// Durable bytes, then no stale sidecars, then the name.
    fn put_in_place(
        mut self,
        target: &Path,
        existing: Option<&std::fs::Metadata>,
        keeper: &mut Keeper<'_>,
    ) -> Result<()> {
        if let Some(metadata) = existing {
            std::os::unix::fs::fchown(&self.file, Some(metadata.uid()), Some(metadata.gid()))
                .or_else(|error| {
                    if metadata.uid() == rustix::process::geteuid().as_raw() { Ok(()) } else { Err(error) }
                })
                .map_err(|error| io(&self.path, "give the old owner to", error))?;
            let mode = std::fs::Permissions::from_mode(metadata.mode() & 0o7777);
            self.file.set_permissions(mode).map_err(|error| io(&self.path, "give the old mode to", error))?;
        }
        let flushed = self.flusher.finish().and_then(|()| self.file.sync_all());
        flushed.map_err(|error| io(&self.path, "write", error))?;
        if existing.is_some() {
            super::replace::replace(&self.path, target, keeper)?;
        } else {
            for sidecar in sidecars(target) {
                remove_if_there(&sidecar)?;
            }
            rename_new(&self.path, target)?;
        }
        self.in_place = true;
        sync_folder(target)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Not waited for: what it flushes is to be removed.
        self.flusher.orders = None;
        if !self.in_place {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn rename_new(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => {
            Err(Error::new(ErrorKind::Refused, format!("{} has come into being meanwhile", to.display()))
                .with_hint("choose another path, or replace it with --yes"))
        }
        // A file system without that operation: a hard link never replaces either.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            std::fs::hard_link(from, to).map_err(|error| io(to, "create", error))?;
            std::fs::remove_file(from).map_err(|error| io(from, "remove", error))
        }
        Err(error) => Err(io(to, "create", error.into())),
    }
}

pub(super) fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path, "remove", error)),
        _ => Ok(()),
    }
}

fn sync_folder(target: &Path) -> Result<()> {
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| io(folder, "sync", error))
}
