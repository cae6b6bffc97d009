//! An export in the vault: a document, cut and stored as an image is, under a manifest of kind export.

use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use jiff::Timestamp;

use super::super::snapshot::identity::{Identity, Names};
use super::super::snapshot::{Host, SnapshotRequest};
use super::source::SourceOrigin;
use crate::checksum::Sha256Hasher;
use crate::chunk::{CHUNK_SIZE, Class, chunk_count};
use crate::clock::Clock;
use crate::codec::{Bases, DEFAULT_LEVEL, Encoder};
use crate::error::{Error, ErrorKind, Result};
use crate::format::log::{LogEntry, Published};
use crate::format::manifest::{ChunkCounts, Content, Details, Kind, Manifest};
use crate::ids::{ChunkId, DatabaseId, SnapshotId};
use crate::monitor::Monitor;
use crate::tree::{Node, TreeBuilder};
use crate::vault::image::TreeReader;
use crate::vault::log::History;
use crate::vault::reader::plan;
use crate::vault::writer::{EncodedChunk, RunWriter};
use crate::vault::{Snapshot, Vault};

/// Stores a document as it comes; holds one chunk of it.
pub(super) struct Keeper<'v> {
    vault: &'v Vault,
    monitor: &'v dyn Monitor,
    history: History,
    about: About,
    started: Instant,
    writer: RunWriter,
    encoder: Encoder,
    tree: TreeBuilder,
    hasher: Sha256Hasher,
    chunk: Vec<u8>,
    len: u64,
    counts: ChunkCounts,
    stored_bytes: u64,
}

/// Of which database the export is.
struct About {
    database: DatabaseId,
    name: String,
    parent: Option<SnapshotId>,
    source_path: Option<Vec<u8>>,
    host: Host,
}

impl<'v> Keeper<'v> {
    pub(super) fn begin(
        vault: &'v Vault,
        origin: SourceOrigin<'_>,
        host: &Host,
        monitor: &'v dyn Monitor,
    ) -> Result<Self> {
        let history = vault.history()?;
        let catalog = vault.catalog(&history)?;
        vault.avoid(&history.condemned);
        vault.load_index()?;
        vault.look_for_packs()?;
        let about = match origin {
            SourceOrigin::Stored(snapshot) => About {
                database: snapshot.manifest.database,
                name: snapshot.manifest.name.clone(),
                parent: Some(snapshot.id),
                source_path: snapshot.manifest.details.source_path.clone(),
                host: Host { id: snapshot.manifest.host, name: snapshot.manifest.details.host_name.clone() },
            },
            SourceOrigin::Live(path) => {
                let request = SnapshotRequest::new([path], host.clone());
                // Nothing is asked of its parent.
                let (mut names, now) = (Names::of(&catalog), Timestamp::MAX);
                let identity = Identity::of(&catalog, &mut names, &request, path, now)?;
                About {
                    database: identity.database,
                    name: identity.name,
                    parent: None,
                    source_path: Some(path.as_os_str().as_bytes().to_vec()),
                    host: host.clone(),
                }
            }
        };
        Ok(Self::with(vault, monitor, history, about))
    }

    /// Nothing is stored yet.
    fn with(vault: &'v Vault, monitor: &'v dyn Monitor, history: History, about: About) -> Self {
        Self {
            vault,
            monitor,
            history,
            about,
            started: Instant::now(),
            writer: vault.begin_run(),
            encoder: Encoder::new(DEFAULT_LEVEL),
            tree: TreeBuilder::new(),
            hasher: Sha256Hasher::new(),
            chunk: Vec::with_capacity(CHUNK_SIZE),
            len: 0,
            counts: ChunkCounts::default(),
            stored_bytes: 0,
        }
    }

    /// Takes the next bytes of the document.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_SIZE - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() == CHUNK_SIZE {
                self.close_chunk()?;
            }
        }
        Ok(())
    }

    fn close_chunk(&mut self) -> Result<()> {
        let plain = std::mem::take(&mut self.chunk);
        self.hasher.update(&plain);
        self.len += plain.len() as u64;
        self.counts.total += 1;
        let (id, is_new) = self.store(Class::Page, &plain)?;
        *if is_new { &mut self.counts.full } else { &mut self.counts.deduplicated } += 1;
        let mut tree = std::mem::take(&mut self.tree);
        tree.push(id, &mut |node| self.store_node(&node))?;
        self.tree = tree;
        self.chunk = plain;
        self.chunk.clear();
        if self.writer.is_heavy() {
            self.writer.flush(&mut self.vault.index())?;
        }
        Ok(())
    }

    fn store_node(&mut self, node: &Node) -> Result<ChunkId> {
        Ok(self.store(Class::Node(node.level), &node.plain)?.0)
    }

    /// The id of a chunk that is stored now, and whether it was not before.
    fn store(&mut self, class: Class, plain: &[u8]) -> Result<(ChunkId, bool)> {
        let id = self.vault.chunk_id(class, plain)?;
        if self.writer.has(class, id) || self.vault.index().find(class, id)?.is_some() {
            return Ok((id, false));
        }
        self.hand_over(class, id, plain)?;
        Ok((id, true))
    }

    fn hand_over(&mut self, class: Class, id: ChunkId, plain: &[u8]) -> Result<()> {
        self.writer.claim(class, id);
        let mut bytes = Vec::new();
        let encoding = self.encoder.encode(plain, Bases::default(), &mut bytes);
        self.stored_bytes += bytes.len() as u64;
        let plain_len = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        self.writer.sink()?.push(EncodedChunk { id, class, encoding, plain_len, bytes })?;
        Ok(())
    }

    /// Closes the document and publishes it. If a prune has taken what it is built on meanwhile, it is withdrawn and stored
    /// once more.
    pub(super) fn publish(self, subject: &str, now: Timestamp, clock: &dyn Clock) -> Result<SnapshotId> {
        let (again, published) = self.try_to_publish(subject, now, clock)?;
        let Some(again) = again else { return Ok(published) };
        let (undone, published) = again.try_to_publish(subject, clock.now(), clock)?;
        if undone.is_some() {
            let message = "prunes took what the kept export was built on, twice";
            return Err(Error::new(ErrorKind::Busy, message)
                .with_hint("nothing was kept; try again when no prune is running"));
        }
        Ok(published)
    }

    /// The published export, or one that has been withdrawn, and its document in a keeper that is to publish it.
    fn try_to_publish(
        mut self,
        subject: &str,
        now: Timestamp,
        clock: &dyn Clock,
    ) -> Result<(Option<Self>, SnapshotId)> {
        if !self.chunk.is_empty() {
            self.close_chunk()?;
        }
        let tree = std::mem::take(&mut self.tree);
        let root = tree.finish(&mut |node| self.store_node(&node))?.map(|(_, id)| id);
        let mut manifest = self.manifest(subject, now, root);
        let (snapshot, bytes) = self.vault.encode_manifest(&self.history, &mut manifest)?;
        let copy = ChunkId(snapshot.0);
        if !self.writer.has(Class::Manifest, copy) {
            self.hand_over(Class::Manifest, copy, &bytes)?;
        }
        let object = self.writer.publish(&mut self.vault.index(), &[bytes])?;
        let published = vec![Published { snapshot, database: self.about.database, object }];
        let entries = vec![LogEntry::Published(published)];
        if let Err(error) = self.vault.append_log(&self.history, clock.now(), entries) {
            self.monitor.warn(&format!("the export is stored, but the log could not be written: {error}"));
        }
        let published = Snapshot { id: snapshot, object, epoch: self.vault.current_epoch()?, manifest };
        if self.is_undone(&published)? {
            let withdrawn = vec![LogEntry::Aborted(vec![snapshot])];
            self.vault.append_log(&self.history, clock.now(), withdrawn)?;
            return Ok((Some(self.once_more(&published.manifest)?), snapshot));
        }
        Ok((None, snapshot))
    }

    /// Whether a prune has condemned what was just published; asked after publishing, as for a snapshot of a database.
    fn is_undone(&mut self, published: &Snapshot) -> Result<bool> {
        if !self.vault.pruned_since(&self.history)? {
            return Ok(false);
        }
        self.history = self.vault.history()?;
        self.vault.avoid(&self.history.condemned);
        self.vault.load_index()?;
        self.vault.look_for_packs()?;
        Ok(!self.vault.is_whole_without(published, &self.history.condemned)?)
    }

    /// Reads the document back while it can still be read, and stores what does not count as stored any more.
    fn once_more(self, manifest: &Manifest) -> Result<Self> {
        let vault = self.vault;
        let mut again = Self::with(vault, self.monitor, self.history, self.about);
        let len = manifest.content.len();
        let (mut tree, mut reader) = (TreeReader::new(manifest.root, len), vault.reader());
        let mut piece = Vec::new();
        for position in 0..chunk_count(len) {
            let plan = {
                let index = vault.index();
                let id = tree.chunk_id(&index, &mut reader, position)?;
                plan(&index, Class::Page, id)?
            };
            reader.read(&plan, &mut piece)?;
            again.push(&piece)?;
        }
        Ok(again)
    }

    fn manifest(&mut self, subject: &str, now: Timestamp, root: Option<ChunkId>) -> Manifest {
        let hasher = std::mem::take(&mut self.hasher);
        let duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Manifest {
            database: self.about.database,
            name: self.about.name.clone(),
            created_at_us: now.as_microsecond(),
            kind: Kind::Export,
            content: Content::Document(self.len),
            root,
            sha256: Some(hasher.finish()),
            parent: self.about.parent,
            host: self.about.host.id,
            details: Details {
                host_name: self.about.host.name.clone(),
                source_path: self.about.source_path.clone(),
                tool_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
                description: Some(format!("export of {subject}")),
                tags: vec![("subject".to_owned(), subject.to_owned())],
                chunks: Some(self.counts),
                stored_bytes: Some(self.stored_bytes),
                timing_ms: Some((0, duration_ms)),
                ..Details::default()
            },
        }
    }
}
