//! One image into the vault: read, name, compare, encode, seal, all at once through bounded channels.
//!
//! ```text
//! reading thread: page source -> BLAKE3 id -> parent's id? -> this run? -> index?    tree of ids
//!        |                                                        | new
//!        v                                                        v
//! SHA-256 thread, every byte in order                encoding threads: base, zstd, check -> sealer -> store
//! ```
//!
//! Buffers are few and go round: when all are in use, reading waits. In rollback mode, where a writer waits for the
//! reader, a large image is hashed afterwards ([`super::afterwards`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::afterwards::KEPT_IDS;
use super::parent::{BasePlains, BasePlans, ParentTree};
use crate::checksum::{Sha256, Sha256Hasher};
use crate::chunk::{CHUNK_SIZE, Class, chunk_count, chunk_len};
use crate::codec::Encoder;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::ChunkCounts;
use crate::ids::ChunkId;
use crate::monitor::Monitor;
use crate::page_source::PageSource;
use crate::tree::{Node, TreeBuilder};
use crate::vault::index::ChunkIndex;
use crate::vault::reader::{ChunkReader, plan};
use crate::vault::writer::{ChunkSink, EncodedChunk, RunWriter};
use crate::vault::{Snapshot, Vault, VaultError};

/// Buffers of 64 KiB in circulation: 8 MiB.
const BUFFERS: usize = 128;
/// The same where a writer waits for the reader, which therefore runs ahead of the encoders as far as it may: 32 MiB.
const BUFFERS_AHEAD: usize = 512;
/// One in so many chunks that the vault is believed to have already is read to make sure.
const SAMPLE: u64 = 64;

/// A whole image in the vault.
#[derive(Debug)]
pub(super) struct StoredTree {
    pub(super) root: Option<ChunkId>,
    pub(super) sha256: Sha256,
    pub(super) counts: ChunkCounts,
    pub(super) stored_bytes: u64,
}

/// A whole image in the vault, whose checksum may still be owed.
#[derive(Debug)]
pub(super) struct UnsummedTree {
    root: Option<ChunkId>,
    checksum: Checksum,
    counts: ChunkCounts,
    stored_bytes: u64,
}

/// When the checksum of an image is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hashing {
    /// While it is read.
    Along,
    /// When the database is no longer held.
    Afterwards,
}

impl Hashing {
    /// For an image of this length: one that fits into the buffers is never held for the sake of its checksum.
    pub(super) const fn of(is_held_exclusively: bool, image_len: u64) -> Self {
        if is_held_exclusively && chunk_count(image_len) > BUFFERS as u64 {
            Self::Afterwards
        } else {
            Self::Along
        }
    }
}

/// A checksum, or what is needed to take it.
#[derive(Debug)]
enum Checksum {
    Taken(Sha256),
    /// The ids of all chunks, if there are not too many to keep.
    Owed(Option<Vec<ChunkId>>),
}

/// A chunk of an image; its buffer goes back to the others when the last user lets go.
struct Buffer {
    bytes: Vec<u8>,
    home: Sender<Vec<u8>>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // The channel holds all buffers there are, so this never waits.
        let _ = self.home.try_send(std::mem::take(&mut self.bytes));
    }
}

struct Job {
    id: ChunkId,
    buffer: Arc<Buffer>,
    bases: Option<BasePlans>,
}

#[derive(Default)]
struct Tally {
    delta: AtomicU64,
    full: AtomicU64,
    stored_bytes: AtomicU64,
}

/// Pages are in; the tree's open nodes are not.
pub(super) struct StoredPages<'i, 'v> {
    image: &'i mut ImageWriter<'v>,
    checksum: Checksum,
    tally: Tally,
}

/// Writes one image against its parent.
pub(super) struct ImageWriter<'v> {
    vault: &'v Vault,
    image_len: u64,
    parent: Option<ParentTree>,
    builder: TreeBuilder,
    counts: ChunkCounts,
    node_encoder: Encoder,
    node_bytes: u64,
    level: i32,
    hashing: Hashing,
    /// In order, if the checksum is taken afterwards and they are not too many.
    ids: Option<Vec<ChunkId>>,
}

impl<'v> ImageWriter<'v> {
    pub(super) fn new(
        vault: &'v Vault,
        parent: Option<&Snapshot>,
        image_len: u64,
        level: i32,
        hashing: Hashing,
    ) -> Self {
        let current = vault.current_epoch().ok();
        let parent = parent.filter(|parent| Some(parent.epoch) == current);
        let parent = parent.map(|parent| ParentTree::of(vault, parent));
        Self {
            vault,
            image_len,
            parent,
            builder: TreeBuilder::new(),
            counts: ChunkCounts::default(),
            node_encoder: Encoder::new(level),
            node_bytes: 0,
            level,
            hashing,
            ids: (hashing == Hashing::Afterwards && chunk_count(image_len) <= KEPT_IDS).then(Vec::new),
        }
    }

    /// Reads the whole source and stores its chunks. `still_allowed` is asked between chunks; `release` takes the
    /// source as soon as the last page is read, while encoding and, if it goes along, hashing still go on.
    pub(super) fn write<'i, S: PageSource, T>(
        &'i mut self,
        writer: &mut RunWriter,
        mut source: S,
        monitor: &dyn Monitor,
        still_allowed: &dyn Fn(&S) -> Result<()>,
        release: impl FnOnce(S) -> Result<T>,
    ) -> Result<(StoredPages<'i, 'v>, T)> {
        let buffers = match self.hashing {
            Hashing::Along => BUFFERS,
            Hashing::Afterwards => BUFFERS_AHEAD,
        };
        let (home, pool) = bounded(buffers);
        for _ in 0..buffers.min(usize::try_from(chunk_count(self.image_len)).unwrap_or(buffers)) {
            let _ = home.try_send(Vec::new());
        }
        let (hash_queue, hash_inbox) = bounded::<Arc<Buffer>>(buffers);
        let (jobs, job_inbox) = bounded::<Job>(buffers);
        let tally = Tally::default();
        let sink = writer.sink()?;
        let (vault, level) = (self.vault, self.level);
        let along = self.hashing == Hashing::Along;
        let (sha256, encoded, read) = std::thread::scope(|scope| {
            let hasher = along.then(|| scope.spawn(move || hash(&hash_inbox)));
            let encoders: Vec<_> = (0..crate::operations::workers())
                .map(|_| {
                    let (inbox, sink, tally) = (job_inbox.clone(), sink.clone(), &tally);
                    scope.spawn(move || {
                        if !along {
                            let_the_reader_go_first();
                        }
                        encode(&inbox, &sink, vault.reader(), level, tally)
                    })
                })
                .collect();
            drop((job_inbox, sink));
            let channels = Channels { home, pool, hash_queue: along.then_some(hash_queue), jobs };
            let read = self.read_chunks(writer, &mut source, monitor, still_allowed, &channels);
            drop(channels);
            let read = read.and_then(|()| release(source));
            let encoded: Result<(), VaultError> =
                encoders.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(VaultError::Worker)));
            let hashed = hasher.map(|hasher| hasher.join().map_err(|_| VaultError::Worker)).transpose();
            (hashed, encoded, read)
        });
        // A reader that could not hand over a chunk only knows that the run failed; flushing says why.
        if encoded.is_err() || read.is_err() {
            let broken = read.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::Failed);
            if broken && let Err(error) = writer.flush(&mut vault.index()) {
                return Err(error.into());
            }
        }
        let released = read?;
        encoded?;
        let checksum = match sha256? {
            Some(sha256) => Checksum::Taken(sha256),
            None => Checksum::Owed(self.ids.take()),
        };
        Ok((StoredPages { image: self, checksum, tally }, released))
    }

    fn read_chunks<S: PageSource>(
        &mut self,
        writer: &mut RunWriter,
        source: &mut S,
        monitor: &dyn Monitor,
        still_allowed: &dyn Fn(&S) -> Result<()>,
        channels: &Channels,
    ) -> Result<()> {
        let pages_per_chunk =
            u64::try_from(CHUNK_SIZE).unwrap_or(0) / u64::from(source.geometry().page_size.bytes());
        for position in 0..chunk_count(self.image_len) {
            if monitor.interrupted() {
                return Err(Error::new(
                    ErrorKind::Interrupted,
                    "interrupted; no snapshot of this database was made",
                ));
            }
            still_allowed(source)?;
            let mut bytes = channels.pool.recv().map_err(|_| VaultError::Worker)?;
            bytes.resize(chunk_len(self.image_len, position), 0);
            let first_page = u32::try_from(position * pages_per_chunk)
                .map_err(|_| Error::new(ErrorKind::Failed, "an image beyond the largest page number"))?;
            source.read_pages(first_page, &mut bytes)?;
            let buffer = Arc::new(Buffer { bytes, home: channels.home.clone() });
            if let Some(queue) = &channels.hash_queue {
                queue.send(Arc::clone(&buffer)).map_err(|_| VaultError::Worker)?;
            }
            let len = buffer.bytes.len() as u64;
            let id = self.vault.chunk_id(Class::Page, &buffer.bytes)?;
            if let Some(bases) = self.settle(writer, position, id)? {
                channels.jobs.send(Job { id, buffer, bases }).map_err(|_| VaultError::Worker)?;
            }
            if let Some(ids) = &mut self.ids {
                ids.push(id);
            }
            self.push_id(writer, id)?;
            if writer.is_heavy() {
                writer.flush(&mut self.vault.index())?;
            }
            monitor.advance(len);
        }
        Ok(())
    }

    /// Decides what becomes of a chunk; `Some` if it must be stored, with what it may be a delta against.
    #[expect(clippy::option_option, reason = "to be stored or not, and with or without a base")]
    fn settle(
        &mut self,
        writer: &mut RunWriter,
        position: u64,
        id: ChunkId,
    ) -> Result<Option<Option<BasePlans>>, VaultError> {
        let index = self.vault.index();
        let old = self.parent.as_mut().and_then(|parent| parent.id_at(&index, 0, position));
        if self.parent.as_ref().is_some_and(|parent| parent.keeps(id, old)) {
            self.counts.unchanged += 1;
            return Ok(None);
        }
        if writer.has(Class::Page, id) {
            self.counts.deduplicated += 1;
            return Ok(None);
        }
        // Even what the parent has at the same place must be named by an index that is there now.
        if let Some(location) = index.find(Class::Page, id)? {
            let same_place = old == Some(id);
            if same_place || self.is_sound(&index, id, location.offset)? {
                *if same_place { &mut self.counts.unchanged } else { &mut self.counts.deduplicated } += 1;
                return Ok(None);
            }
        }
        writer.claim(Class::Page, id);
        let old = old.filter(|old| *old != id);
        Ok(Some(old.and_then(|old| BasePlans::of(&index, Class::Page, id, old))))
    }

    /// Reads a sample of the chunks that are found elsewhere in the vault, so that a damaged or forged one is
    /// not built upon.
    fn is_sound(&mut self, index: &ChunkIndex, id: ChunkId, offset: u64) -> Result<bool, VaultError> {
        if !(self.counts.deduplicated + offset).is_multiple_of(SAMPLE) {
            return Ok(true);
        }
        let plan = plan(index, Class::Page, id)?;
        Ok(self.vault.reader().read(&plan, &mut Vec::new()).is_ok())
    }

    fn push_id(&mut self, writer: &mut RunWriter, id: ChunkId) -> Result<(), VaultError> {
        let mut builder = std::mem::take(&mut self.builder);
        let result = builder.push(id, &mut |node| self.store_node(writer, &node));
        self.builder = builder;
        result
    }

    fn store_node(&mut self, writer: &mut RunWriter, node: &Node) -> Result<ChunkId, VaultError> {
        let class = Class::Node(node.level);
        let id = self.vault.chunk_id(class, &node.plain)?;
        let index = self.vault.index();
        let old = self.parent.as_mut().and_then(|parent| parent.id_at(&index, node.level, node.position));
        let stays = self.parent.as_ref().is_some_and(|parent| parent.keeps(id, old));
        if stays || writer.has(class, id) || index.find(class, id)?.is_some() {
            return Ok(id);
        }
        writer.claim(class, id);
        let plans = old.and_then(|old| BasePlans::of(&index, class, id, old));
        drop(index);
        let bases = match (&plans, &mut self.parent) {
            (Some(plans), Some(parent)) => plans.read(&mut parent.reader),
            _ => BasePlains::default(),
        };
        let mut bytes = Vec::new();
        let encoding = self.node_encoder.encode(&node.plain, bases.as_bases(), &mut bytes);
        let plain_len = u32::try_from(node.plain.len()).unwrap_or(u32::MAX);
        self.node_bytes += bytes.len() as u64;
        writer.sink()?.push(EncodedChunk { id, class, encoding, plain_len, bytes })?;
        Ok(id)
    }
}

impl StoredPages<'_, '_> {
    /// Closes the tree.
    pub(super) fn finish(self, writer: &mut RunWriter) -> Result<UnsummedTree> {
        let Self { image, checksum, tally } = self;
        let builder = std::mem::take(&mut image.builder);
        let root = builder.finish(&mut |node| image.store_node(writer, &node))?;
        let counts = ChunkCounts {
            total: chunk_count(image.image_len),
            delta: tally.delta.into_inner(),
            full: tally.full.into_inner(),
            ..image.counts
        };
        let stored_bytes = tally.stored_bytes.into_inner() + image.node_bytes;
        Ok(UnsummedTree { root: root.map(|(_, id)| id), checksum, counts, stored_bytes })
    }
}

impl UnsummedTree {
    /// With its checksum, which `afterwards` takes if it was not taken along.
    pub(super) fn summed(
        self,
        afterwards: impl FnOnce(Option<ChunkId>, Option<Vec<ChunkId>>) -> Result<Sha256>,
    ) -> Result<StoredTree> {
        let Self { root, checksum, counts, stored_bytes } = self;
        let sha256 = match checksum {
            Checksum::Taken(sha256) => sha256,
            Checksum::Owed(ids) => afterwards(root, ids)?,
        };
        Ok(StoredTree { root, sha256, counts, stored_bytes })
    }
}

struct Channels {
    home: Sender<Vec<u8>>,
    pool: Receiver<Vec<u8>>,
    /// `None` if the checksum is taken afterwards.
    hash_queue: Option<Sender<Arc<Buffer>>>,
    jobs: Sender<Job>,
}

fn hash(inbox: &Receiver<Arc<Buffer>>) -> Sha256 {
    let mut hasher = Sha256Hasher::new();
    for buffer in inbox {
        hasher.update(&buffer.bytes);
    }
    hasher.finish()
}

/// The reading thread holds up a writer, so this thread stands back for it. Where there are fewer processors than threads,
/// a hold is an eighth shorter for that (docs/performance.md).
fn let_the_reader_go_first() {
    // On Linux a priority is a thread's own.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 10);
}

fn encode(
    inbox: &Receiver<Job>,
    sink: &ChunkSink,
    mut reader: ChunkReader,
    level: i32,
    tally: &Tally,
) -> Result<(), VaultError> {
    let mut encoder = Encoder::new(level);
    for job in inbox {
        let plain = &job.buffer.bytes;
        let bases = job.bases.as_ref().map(|plans| plans.read(&mut reader)).unwrap_or_default();
        let mut bytes = Vec::new();
        let encoding = encoder.encode(plain, bases.as_bases(), &mut bytes);
        let kind = if encoding.base().is_some() { &tally.delta } else { &tally.full };
        kind.fetch_add(1, Ordering::Relaxed);
        tally.stored_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let plain_len = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        sink.push(EncodedChunk { id: job.id, class: Class::Page, encoding, plain_len, bytes })?;
    }
    Ok(())
}
