//! `snapshot`: live databases into the vault.
//!
//! Several databases share a run: its packs, its index object and, as far as they are small, the object that
//! publishes them. A database is reported only after what publishes it is durable.

mod afterwards;
pub(super) mod identity;
mod parent;
mod pipeline;
pub(super) mod unchanged;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use self::identity::Identity;
pub(super) use self::identity::free_name;
use self::pipeline::{Hashing, ImageWriter, StoredTree, UnsummedTree};
use super::check::{TestedSnapshot, note_tests, test_restore};
use crate::checksum::Sha256;
use crate::chunk::Class;
use crate::clock::Clock;
use crate::codec::{Bases, DEFAULT_LEVEL, Encoder};
use crate::error::{Error, ErrorKind, Result};
use crate::format::log::{LogEntry, Published};
use crate::format::manifest::{ChunkCounts, Content, Details, JournalMode, Kind, Manifest, SourceWitness};
use crate::ids::{ChunkId, HostId, ObjectName, SnapshotId};
use crate::monitor::Monitor;
use crate::page_source::{Geometry, PageSource};
use crate::sqlite::{self, Capture, CaptureFigures, CheckLevel, DatabaseFacts, LiveDatabase, OpenOptions};
use crate::vault::log::History;
use crate::vault::writer::{EncodedChunk, RunWriter};
use crate::vault::{Catalog, Snapshot, Vault};

/// Bytes of new objects after which finished databases are published without waiting for the rest of the run.
const PUBLISH_AFTER: u64 = 16 << 20;

/// The machine a database is read on.
#[derive(Debug, Clone)]
pub struct Host {
    /// Stable identity.
    pub id: HostId,
    /// Name for people.
    pub name: Option<String>,
}

/// What is to be snapshotted, and how.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct SnapshotRequest {
    /// The databases.
    pub databases: Vec<PathBuf>,
    /// Name of the database in the vault; the file's stem if not given. For a single database only.
    pub name: Option<String>,
    /// The database of that name is at this path now: it is continued, whatever path or host it was at.
    pub moved: bool,
    /// Why it is made.
    pub kind: Kind,
    /// The user's words.
    pub description: Option<String>,
    /// The user's `key=value` pairs.
    pub tags: Vec<(String, String)>,
    /// Tables that must be there, now and after a restore.
    pub required_tables: Vec<String>,
    /// zstd level.
    pub compression_level: i32,
    /// How long to wait for a lock.
    pub busy_timeout: Duration,
    /// Give up when the database has been held for longer.
    pub max_hold: Option<Duration>,
    /// Read every page even where nothing can have changed.
    pub full_scan: bool,
    /// Test-restore from the vault before success is reported.
    pub verify: bool,
    /// Make no further snapshot of a database that is byte for byte what its newest one holds, but report that one.
    pub only_if_changed: bool,
    /// This machine.
    pub host: Host,
}

impl SnapshotRequest {
    /// A manual snapshot of `databases`, each named after its file; five seconds to get a lock. Whatever else is
    /// wanted is set on the fields.
    pub fn new(databases: impl IntoIterator<Item = impl Into<PathBuf>>, host: Host) -> Self {
        Self {
            databases: databases.into_iter().map(Into::into).collect(),
            name: None,
            moved: false,
            kind: Kind::Manual,
            description: None,
            tags: Vec::new(),
            required_tables: Vec::new(),
            compression_level: DEFAULT_LEVEL,
            busy_timeout: OpenOptions::default().busy_timeout,
            max_hold: None,
            full_scan: false,
            verify: false,
            only_if_changed: false,
            host,
        }
    }
}

/// A finished snapshot, in the words of docs/cli.md.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SnapshotReport {
    /// Its id.
    pub snapshot_id: SnapshotId,
    /// Name of the database.
    pub database: String,
    /// Canonical path of the source.
    pub source: String,
    /// Why it was made.
    pub kind: Kind,
    /// When the image was true.
    pub created_at: Timestamp,
    /// The snapshot it was compared with.
    pub parent: Option<SnapshotId>,
    /// Bytes of the image.
    pub size: u64,
    /// Bytes of a page.
    pub page_size: u32,
    /// Pages of the image.
    pub page_count: u32,
    /// Checksum of the image.
    pub sha256: Sha256,
    /// Where its chunks came from.
    pub chunks: ChunkCounts,
    /// Bytes of records added for it.
    pub stored_bytes: u64,
    /// Milliseconds from opening the database to its manifest.
    pub duration_ms: u64,
    /// Milliseconds for which the database was held.
    pub hold_ms: u64,
}

/// Snapshots all databases of `request`; `each` hears of every one, success or failure, when it is settled.
///
/// # Errors
/// The request makes no sense, or the vault itself fails; what `each` was told of remains true.
pub fn snapshot(
    vault: &Vault,
    request: &SnapshotRequest,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
    each: &mut dyn FnMut(&Path, Result<SnapshotReport>),
) -> Result<()> {
    if request.name.is_some() && request.databases.len() > 1 {
        return Err(Error::new(ErrorKind::Usage, "one name was given for several databases")
            .with_hint("snapshot them one by one, or leave --name out: each is then named after its file"));
    }
    if request.databases.iter().any(|path| path.as_os_str().is_empty()) {
        return Err(Error::new(ErrorKind::Usage, "the path of a database is empty")
            .with_hint("an unset variable in a script looks like this; nothing was stored"));
    }
    let history = vault.history()?;
    super::list::warn_of_history(&history, monitor);
    let catalog = vault.catalog(&history)?;
    super::list::warn_of_vanished(&catalog, monitor);
    vault.avoid(&history.condemned);
    for (name, error) in &catalog.skipped {
        monitor.warn(&format!("snapshots object {name} is not used: {error}"));
    }
    for skipped in vault.load_index()? {
        monitor.warn(&format!("index object {} is not used: {}", skipped.name, skipped.error));
    }
    // Far away, listing all packs may cost more than the snapshot; what is lost there, `check` finds.
    let lost = if vault.store().is_remote() { Vec::new() } else { vault.look_for_packs()? };
    for pack in lost {
        monitor.warn(&format!(
            "pack {pack} is gone or cut short: what it held is stored anew where it is found"
        ));
    }
    let mut run = Run {
        vault,
        request,
        clock,
        monitor,
        history,
        names: identity::Names::of(&catalog),
        catalog,
        writer: vault.begin_run(),
        finished: Vec::new(),
        published_bytes: 0,
        is_repeat: false,
    };
    for path in &request.databases {
        match run.add(path) {
            Ok(Some(unchanged)) => each(path, Ok(unchanged)),
            Ok(None) => {}
            Err(error) => {
                let interrupted = error.kind() == ErrorKind::Interrupted;
                each(path, Err(error));
                if interrupted {
                    break;
                }
            }
        }
        if run.is_due() {
            run.publish(each)?;
        }
    }
    run.publish(each)
}

/// A live database while it is held.
struct Source<'a> {
    canonical: &'a Path,
    facts: DatabaseFacts,
    geometry: Geometry,
    witness: Option<SourceWitness>,
    created_at: Timestamp,
}

struct Finished<'a> {
    path: &'a Path,
    id: SnapshotId,
    bytes: Vec<u8>,
    manifest: Manifest,
}

struct Run<'a> {
    vault: &'a Vault,
    request: &'a SnapshotRequest,
    clock: &'a dyn Clock,
    monitor: &'a dyn Monitor,
    history: History,
    catalog: Catalog,
    names: identity::Names,
    writer: RunWriter,
    finished: Vec<Finished<'a>>,
    published_bytes: u64,
    /// Whether this is the second try of databases that a prune has interfered with.
    is_repeat: bool,
}

impl<'a> Run<'a> {
    /// Stores one database. Reported now if there is nothing to publish, else when it is published.
    fn add(&mut self, path: &'a Path) -> Result<Option<SnapshotReport>> {
        let started = Instant::now();
        let options = OpenOptions { busy_timeout: self.request.busy_timeout };
        let mut database = LiveDatabase::open(path, &options)?;
        let canonical = database.canonical_path().to_path_buf();
        let identity =
            Identity::of(&self.catalog, &mut self.names, self.request, &canonical, self.clock.now())
                .map_err(|error| error.context(path.display()))?;
        let parent = identity.parent.and_then(|id| self.catalog.get(id)).cloned();
        let created_at = self.clock.now();
        let capture = database.begin()?;
        for table in &self.request.required_tables {
            if !capture.has_table(table)? {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("{}: no table {table:?}", path.display()),
                )
                .with_hint("check --require-table; nothing was stored"));
            }
        }
        let facts = capture.facts().clone();
        let mut source = Source {
            canonical: &canonical,
            facts,
            geometry: capture.geometry(),
            witness: capture.witness().map(unchanged::to_format),
            created_at,
        };
        let proven = if self.request.full_scan {
            None
        } else {
            unchanged::tree_of(self.vault, parent.as_ref(), &source, self.request)?
        };
        let (stored, figures) = if let Some(stored) = proven {
            (stored, capture.finish()?)
        } else {
            let (tree, figures) = self.read(path, &identity, parent.as_ref(), capture)?;
            (self.summed(tree, &identity, &database, source.geometry)?, figures)
        };
        if self.request.only_if_changed
            && let Some(parent) = parent.as_ref().filter(|parent| holds_the_same(parent, &source, &stored))
        {
            return Ok(Some(report_of(parent.id, &parent.manifest)));
        }
        source.witness = figures.witness.map(unchanged::to_format);
        let timing_ms = (millis(figures.hold), millis(started.elapsed()));
        let manifest = self.manifest(&identity, parent.as_ref(), &source, &stored, timing_ms);
        self.finish(path, manifest).map(|()| None)
    }

    /// Reads the whole image into the vault.
    fn read(
        &mut self,
        path: &Path,
        identity: &Identity,
        parent: Option<&Snapshot>,
        capture: Capture<'_>,
    ) -> Result<(UnsummedTree, CaptureFigures)> {
        let image_len = capture.geometry().image_len();
        let is_held_exclusively = capture.facts().journal_mode == sqlite::JournalMode::Rollback;
        let hashing = Hashing::of(is_held_exclusively, image_len);
        let level = self.request.compression_level;
        let mut image = ImageWriter::new(self.vault, parent, image_len, level, hashing);
        let max_hold = self.request.max_hold;
        self.monitor.begin("snapshot", &identity.name, image_len);
        let stored = image.write(
            &mut self.writer,
            capture,
            self.monitor,
            &|capture| match max_hold {
                Some(limit) if capture.held() > limit => Err(held_too_long(path, limit)),
                _ => Ok(()),
            },
            |capture| Ok(capture.finish()?),
        );
        self.monitor.finish();
        let (pages, figures) = stored?;
        Ok((pages.finish(&mut self.writer)?, figures))
    }

    /// Takes the checksum if it was not taken along.
    fn summed(
        &mut self,
        tree: UnsummedTree,
        identity: &Identity,
        database: &LiveDatabase,
        geometry: Geometry,
    ) -> Result<StoredTree> {
        tree.summed(|root, ids| {
            let image = afterwards::Image { vault: self.vault, database, geometry, root, ids };
            self.monitor.begin("checksum", &identity.name, geometry.image_len());
            let sha256 = afterwards::checksum(&image, &mut self.writer, self.monitor);
            self.monitor.finish();
            sha256
        })
    }

    fn manifest(
        &self,
        identity: &Identity,
        parent: Option<&Snapshot>,
        source: &Source<'_>,
        stored: &StoredTree,
        timing_ms: (u64, u64),
    ) -> Manifest {
        use std::os::unix::ffi::OsStrExt;
        let facts = &source.facts;
        Manifest {
            database: identity.database,
            name: identity.name.clone(),
            created_at_us: source.created_at.as_microsecond(),
            kind: self.request.kind,
            content: Content::Image(source.geometry),
            root: stored.root,
            sha256: Some(stored.sha256),
            parent: parent.map(|parent| parent.id),
            host: self.request.host.id,
            details: Details {
                host_name: self.request.host.name.clone(),
                source_path: Some(source.canonical.as_os_str().as_bytes().to_vec()),
                journal_mode: Some(match facts.journal_mode {
                    sqlite::JournalMode::Rollback => JournalMode::Rollback,
                    sqlite::JournalMode::Wal => JournalMode::Wal,
                }),
                user_version: Some(facts.user_version.cast_unsigned()),
                application_id: Some(facts.application_id.cast_unsigned()),
                schema_fingerprint: Some(facts.schema_fingerprint),
                sqlite_version: Some(facts.sqlite_version.clone()),
                tool_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
                description: self.request.description.clone(),
                tags: self.request.tags.clone(),
                required_tables: self.request.required_tables.clone(),
                chunks: Some(stored.counts),
                stored_bytes: Some(stored.stored_bytes),
                timing_ms: Some(timing_ms),
                wal_frames: facts.wal_frames.map(u64::from),
                witness: source.witness,
            },
        }
    }

    /// Puts the manifest's copy into the run's metadata pack; publishing comes later.
    fn finish(&mut self, path: &'a Path, mut manifest: Manifest) -> Result<()> {
        let (id, bytes) = self.vault.encode_manifest(&self.history, &mut manifest)?;
        let mut encoded = Vec::new();
        let encoding =
            Encoder::new(self.request.compression_level).encode(&bytes, Bases::default(), &mut encoded);
        let plain_len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let copy =
            EncodedChunk { id: ChunkId(id.0), class: Class::Manifest, encoding, plain_len, bytes: encoded };
        if self.writer.claim(Class::Manifest, copy.id) {
            self.writer.sink()?.push(copy)?;
        }
        self.finished.push(Finished { path, id, bytes, manifest });
        Ok(())
    }

    fn is_due(&self) -> bool {
        self.writer.written().bytes - self.published_bytes >= PUBLISH_AFTER || self.writer.is_heavy()
    }

    fn publish(&mut self, each: &mut dyn FnMut(&Path, Result<SnapshotReport>)) -> Result<()> {
        if self.finished.is_empty() {
            return Ok(());
        }
        let manifests: Vec<Vec<u8>> = self.finished.iter().map(|finished| finished.bytes.clone()).collect();
        let object = self.writer.publish(&mut self.vault.index(), &manifests)?;
        self.published_bytes = self.writer.written().bytes;
        let published = self
            .finished
            .iter()
            .map(|finished| Published { snapshot: finished.id, database: finished.manifest.database, object })
            .collect();
        let logged =
            self.vault.append_log(&self.history, self.clock.now(), vec![LogEntry::Published(published)]);
        if let Err(error) = logged {
            self.monitor.warn(&format!("the snapshot is stored, but the log could not be written: {error}"));
        }
        let undone = self.withdraw_undone(object)?;
        let mut tests = Vec::new();
        let mut settled = Vec::new();
        for finished in std::mem::take(&mut self.finished) {
            let snapshot = Snapshot {
                id: finished.id,
                object,
                epoch: self.vault.current_epoch()?,
                manifest: finished.manifest.clone(),
            };
            self.remember_whole(&snapshot);
            let proven = if self.request.verify { self.prove(&snapshot, &mut tests) } else { Ok(()) };
            self.catalog.snapshots.push(snapshot);
            settled.push((finished.path, proven.map(|()| report(&finished))));
        }
        if let Err(error) = note_tests(self.vault, &tests, self.clock) {
            self.monitor.warn(&format!("what the test restores found could not be written down: {error}"));
        }
        for (path, outcome) in settled {
            each(path, outcome);
        }
        self.repeat(undone, each)
    }

    /// Whether a prune has condemned what was just published: asked after publishing, for a prune looks again after
    /// condemning; the other order would leave a moment in which neither side sees the other. What it has undone is
    /// withdrawn and returned.
    fn withdraw_undone(&mut self, object: ObjectName) -> Result<Vec<&'a Path>> {
        if !self.vault.pruned_since(&self.history)? {
            return Ok(Vec::new());
        }
        self.history = self.vault.history()?;
        self.vault.avoid(&self.history.condemned);
        self.vault.load_index()?;
        self.vault.look_for_packs()?;
        let (mut undone, epoch) = (Vec::new(), self.vault.current_epoch()?);
        for finished in std::mem::take(&mut self.finished) {
            let manifest = finished.manifest.clone();
            let snapshot = Snapshot { id: finished.id, object, epoch, manifest };
            if self.vault.is_whole_without(&snapshot, &self.history.condemned)? {
                self.finished.push(finished);
            } else {
                undone.push(finished);
            }
        }
        if !undone.is_empty() {
            let ids = undone.iter().map(|finished| finished.id).collect();
            self.vault.append_log(&self.history, self.clock.now(), vec![LogEntry::Aborted(ids)])?;
        }
        Ok(undone.into_iter().map(|finished| finished.path).collect())
    }

    /// Takes snapshots again that a prune has undone; what it took is stored anew then.
    fn repeat(
        &mut self,
        undone: Vec<&'a Path>,
        each: &mut dyn FnMut(&Path, Result<SnapshotReport>),
    ) -> Result<()> {
        if undone.is_empty() {
            return Ok(());
        }
        let is_repeat = std::mem::replace(&mut self.is_repeat, true);
        for path in undone {
            let taken = if is_repeat { Err(undone_again(path)) } else { self.add(path) };
            if let Err(error) = taken {
                each(path, Err(error));
            }
        }
        self.publish(each)?;
        self.is_repeat = is_repeat;
        Ok(())
    }

    /// Every chunk of what was published just now was found, or was stored by this run.
    fn remember_whole(&self, snapshot: &Snapshot) {
        let Some(root) = snapshot.manifest.root else { return };
        let parent = snapshot.manifest.parent.and_then(|id| self.catalog.get(id));
        let replaced = parent.and_then(|parent| parent.manifest.root);
        self.vault.index().remember_whole(root, snapshot.manifest.content.len(), replaced);
    }

    fn prove(&self, snapshot: &Snapshot, tests: &mut Vec<TestedSnapshot>) -> Result<()> {
        let proof = test_restore(self.vault, snapshot, CheckLevel::Full, self.monitor)?;
        tests.push((snapshot.id, proof.is_empty()));
        match proof.first() {
            None => Ok(()),
            Some(problem) => Err(Error::new(
                ErrorKind::Damage,
                format!(
                    "snapshot {} was stored, but its test restore failed: {problem}",
                    snapshot.id.short()
                ),
            )
            .with_hint("`pagevault check --read-data` tells whether the vault is damaged, `PRAGMA integrity_check` whether the database itself is")),
        }
    }
}

fn holds_the_same(parent: &Snapshot, source: &Source<'_>, stored: &StoredTree) -> bool {
    let manifest = &parent.manifest;
    (manifest.content, manifest.root, manifest.sha256)
        == (Content::Image(source.geometry), stored.root, Some(stored.sha256))
}

fn report(finished: &Finished<'_>) -> SnapshotReport {
    report_of(finished.id, &finished.manifest)
}

fn report_of(snapshot_id: SnapshotId, manifest: &Manifest) -> SnapshotReport {
    let details = &manifest.details;
    let geometry = manifest.content.geometry();
    let (hold_ms, duration_ms) = details.timing_ms.unwrap_or_default();
    SnapshotReport {
        snapshot_id,
        database: manifest.name.clone(),
        source: String::from_utf8_lossy(details.source_path.as_deref().unwrap_or_default()).into_owned(),
        kind: manifest.kind,
        created_at: Timestamp::from_microsecond(manifest.created_at_us).unwrap_or_default(),
        parent: manifest.parent,
        size: manifest.content.len(),
        page_size: geometry.map_or(0, |geometry| geometry.page_size.bytes()),
        page_count: geometry.map_or(0, |geometry| geometry.page_count),
        sha256: manifest.sha256.unwrap_or(Sha256([0; 32])),
        chunks: details.chunks.unwrap_or_default(),
        stored_bytes: details.stored_bytes.unwrap_or(0),
        duration_ms,
        hold_ms,
    }
}

fn undone_again(path: &Path) -> Error {
    let message = format!("{}: prunes took what its snapshot was built on, twice", path.display());
    Error::new(ErrorKind::Busy, message).with_hint("no snapshot was made; try again when no prune is running")
}

fn held_too_long(path: &Path, limit: Duration) -> Error {
    Error::new(
        ErrorKind::Busy,
        format!("{}: reading it would hold it for longer than {} ms", path.display(), limit.as_millis()),
    )
    .with_hint("nothing was stored; allow more with --max-hold, or try when the machine is less busy")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
