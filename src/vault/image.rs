//! A stored snapshot as a [`PageSource`]: its tree is walked, its chunks are read when they are needed.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::error::VaultError;
use super::index::ChunkIndex;
use super::reader::{ChunkPlan, ChunkReader, plan};
use crate::chunk::{CHUNK_SIZE, Class, chunk_count, chunk_len};
use crate::error::{Error, ErrorKind};
use crate::ids::ChunkId;
use crate::page_source::{Geometry, PageSource};
use crate::tree::{FAN_OUT, height, node_len};

/// The chunk ids of a stored tree by position; holds one node per level.
#[derive(Debug)]
pub struct TreeReader {
    image_len: u64,
    root: Option<ChunkId>,
    /// The node at hand per level, the lowest first: position and ids.
    nodes: Vec<Option<(u64, Vec<u8>)>>,
}

impl TreeReader {
    /// A reader of the tree under `root` over an image of `image_len` bytes.
    #[must_use]
    pub fn new(root: Option<ChunkId>, image_len: u64) -> Self {
        Self { image_len, root, nodes: vec![None; usize::from(height(image_len))] }
    }

    /// The id of chunk `position`.
    ///
    /// # Errors
    /// A node cannot be read, or there is no such chunk.
    pub fn chunk_id(
        &mut self,
        index: &ChunkIndex,
        reader: &mut ChunkReader,
        position: u64,
    ) -> Result<ChunkId, VaultError> {
        if position >= chunk_count(self.image_len) {
            return Err(VaultError::MissingChunk(ChunkId([0; 16])));
        }
        self.id_at(index, reader, 0, position)
    }

    /// The id of node `position` of `level`; level 0 are the chunks.
    ///
    /// # Errors
    /// A node above it cannot be read.
    pub fn id_at(
        &mut self,
        index: &ChunkIndex,
        reader: &mut ChunkReader,
        level: u8,
        position: u64,
    ) -> Result<ChunkId, VaultError> {
        let slot = usize::from(level);
        if slot >= self.nodes.len() {
            return self.root.filter(|_| position == 0).ok_or(VaultError::MissingChunk(ChunkId([0; 16])));
        }
        let (parent, child) =
            (position / FAN_OUT as u64, usize::try_from(position % FAN_OUT as u64).unwrap_or(0));
        if self.nodes[slot].as_ref().is_none_or(|(at_hand, _)| *at_hand != parent) {
            let id = self.id_at(index, reader, level + 1, parent)?;
            let mut plain = self.nodes[slot].take().map(|(_, plain)| plain).unwrap_or_default();
            reader.read(&plan(index, Class::Node(level + 1), id)?, &mut plain)?;
            if plain.len() != node_len(self.image_len, level + 1, parent) * ChunkId::LEN {
                return Err(VaultError::UnreadableChunk {
                    chunk: id,
                    why: "a tree node of the wrong size".to_owned(),
                });
            }
            self.nodes[slot] = Some((parent, plain));
        }
        let ids = self.nodes[slot].as_ref().map(|(_, plain)| plain.as_slice()).unwrap_or_default();
        let id = ids.chunks_exact(ChunkId::LEN).nth(child).and_then(|id| id.try_into().ok());
        id.map(ChunkId).ok_or(VaultError::MissingChunk(ChunkId([0; 16])))
    }

    /// The ids of all nodes of `level` that lie beside the one that was asked for last.
    pub fn siblings(&self, level: u8) -> impl Iterator<Item = ChunkId> {
        let node = self.nodes.get(usize::from(level)).and_then(Option::as_ref);
        let ids = node.map(|(_, plain)| plain.as_slice()).unwrap_or_default();
        ids.as_chunks().0.iter().map(|id| ChunkId(*id))
    }
}

/// Chunks kept by one image: 1 MiB.
const CHUNKS: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// A stored database image, readable page by page.
#[derive(Debug)]
pub struct StoredImage {
    geometry: Geometry,
    tree: TreeReader,
    index: Arc<Mutex<ChunkIndex>>,
    reader: ChunkReader,
    chunks: LruCache<u64, Vec<u8>>,
}

impl StoredImage {
    pub(crate) fn new(
        geometry: Geometry,
        root: Option<ChunkId>,
        index: Arc<Mutex<ChunkIndex>>,
        reader: ChunkReader,
    ) -> Self {
        let tree = TreeReader::new(root, geometry.image_len());
        Self { geometry, tree, index, reader, chunks: LruCache::new(CHUNKS) }
    }

    /// The id of the 64 KiB of the image at `position`: what equal bytes have as well, in the same epoch.
    ///
    /// # Errors
    /// A node of the tree cannot be read.
    pub fn chunk_id(&mut self, position: u64) -> Result<ChunkId, VaultError> {
        self.look_up(position).map(|(id, _)| id)
    }

    fn look_up(&mut self, position: u64) -> Result<(ChunkId, ChunkPlan), VaultError> {
        let core = self.reader.core();
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let mut look_up = |index: &ChunkIndex| {
            let id = self.tree.chunk_id(index, &mut self.reader, position)?;
            Ok((id, plan(index, Class::Page, id)?))
        };
        match look_up(&index) {
            Err(error) if VaultError::may_be_the_cache(&error) && index.distrust(&core)? => look_up(&index),
            found => found,
        }
    }

    /// Reads any chunk of pages that the vault has, by its id.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub fn read_chunk(&mut self, id: ChunkId, into: &mut Vec<u8>) -> Result<(), VaultError> {
        let plan = {
            let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
            plan(&index, Class::Page, id)?
        };
        self.reader.read(&plan, into)
    }

    fn load(&mut self, position: u64) -> Result<(), VaultError> {
        if self.chunks.get(&position).is_some() {
            return Ok(());
        }
        let (id, plan) = self.look_up(position)?;
        let mut plain = Vec::new();
        self.reader.read(&plan, &mut plain)?;
        if plain.len() != chunk_len(self.geometry.image_len(), position) {
            return Err(VaultError::UnreadableChunk {
                chunk: id,
                why: "a chunk of the wrong size".to_owned(),
            });
        }
        self.chunks.put(position, plain);
        Ok(())
    }
}

impl PageSource for StoredImage {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_pages(&mut self, first_page: u32, into: &mut [u8]) -> Result<(), Error> {
        let mut offset = u64::from(first_page) * u64::from(self.geometry.page_size.bytes());
        if offset + into.len() as u64 > self.geometry.image_len() {
            return Err(Error::new(ErrorKind::Failed, "pages beyond the end of the snapshot were asked for"));
        }
        let mut rest = into;
        while !rest.is_empty() {
            let position = offset / CHUNK_SIZE as u64;
            let start = usize::try_from(offset % CHUNK_SIZE as u64).unwrap_or(0);
            self.load(position)?;
            let chunk = self.chunks.get(&position).map(Vec::as_slice).unwrap_or_default();
            let len = rest.len().min(chunk.len().saturating_sub(start));
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&chunk[start..start + len]);
            rest = later;
            offset += len as u64;
        }
        Ok(())
    }
}
