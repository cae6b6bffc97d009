//! The tree of chunk ids under a snapshot (docs/format.md, section 8): its shape, and building it in one
//! pass with one open node per level. Reading it is the vault's work.

use crate::chunk::{Class, chunk_count};
use crate::ids::ChunkId;

/// Ids in a full node.
pub const FAN_OUT: usize = 256;

/// Levels of the tree over an image of `image_len` bytes; 0 for an empty image.
#[must_use]
pub const fn height(image_len: u64) -> u8 {
    let mut nodes = chunk_count(image_len);
    if nodes == 0 {
        return 0;
    }
    let mut height = 1;
    nodes = nodes.div_ceil(FAN_OUT as u64);
    while nodes > 1 {
        nodes = nodes.div_ceil(FAN_OUT as u64);
        height += 1;
    }
    height
}

/// Number of ids in node `position` (from 0) of `level` (from 1) over an image of `image_len` bytes.
#[must_use]
pub fn node_len(image_len: u64, level: u8, position: u64) -> usize {
    let mut below = chunk_count(image_len);
    for _ in 1..level {
        below = below.div_ceil(FAN_OUT as u64);
    }
    let rest = below.saturating_sub(position.saturating_mul(FAN_OUT as u64));
    usize::try_from(rest).unwrap_or(FAN_OUT).min(FAN_OUT)
}

/// A finished node on its way into the vault.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    /// Level, from 1.
    pub level: u8,
    /// Position among the nodes of its level, from 0.
    pub position: u64,
    /// Concatenated ids: the node's plaintext.
    pub plain: Vec<u8>,
}

/// Builds a tree from chunk ids in order. Finished nodes go to a function that stores them and says their id.
#[derive(Debug, Default)]
pub struct TreeBuilder {
    /// One open node per level, the lowest first: ids so far and number of nodes finished.
    levels: Vec<(Vec<u8>, u64)>,
}

impl TreeBuilder {
    /// A tree without chunks.
    #[must_use]
    pub const fn new() -> Self {
        Self { levels: Vec::new() }
    }

    /// Adds the id of the next chunk.
    ///
    /// # Errors
    /// What `store` fails with.
    pub fn push<E>(
        &mut self,
        id: ChunkId,
        store: &mut impl FnMut(Node) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        self.push_at(0, id, store)
    }

    fn push_at<E>(
        &mut self,
        level: usize,
        mut id: ChunkId,
        store: &mut impl FnMut(Node) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        for level in level.. {
            if self.levels.len() == level {
                self.levels.push((Vec::new(), 0));
            }
            // A full node is closed only when its successor begins, so that the root is never split off early.
            if self.levels[level].0.len() < FAN_OUT * ChunkId::LEN {
                self.levels[level].0.extend_from_slice(&id.0);
                return Ok(());
            }
            let closed = self.close(level, store)?;
            self.levels[level].0.extend_from_slice(&id.0);
            id = closed;
        }
        Ok(())
    }

    fn close<E>(
        &mut self,
        level: usize,
        store: &mut impl FnMut(Node) -> Result<ChunkId, E>,
    ) -> Result<ChunkId, E> {
        let (ids, finished) = &mut self.levels[level];
        let node = Node {
            level: u8::try_from(level + 1).unwrap_or(Class::MAX_LEVEL),
            position: *finished,
            plain: std::mem::take(ids),
        };
        *finished += 1;
        store(node)
    }

    /// Closes all open nodes; the height and id of the root, or `None` without chunks.
    ///
    /// # Errors
    /// What `store` fails with.
    pub fn finish<E>(
        mut self,
        store: &mut impl FnMut(Node) -> Result<ChunkId, E>,
    ) -> Result<Option<(u8, ChunkId)>, E> {
        let mut level = 0;
        while level < self.levels.len() {
            let id = self.close(level, store)?;
            if level + 1 == self.levels.len() {
                return Ok(Some((u8::try_from(level + 1).unwrap_or(Class::MAX_LEVEL), id)));
            }
            self.push_at(level + 1, id, store)?;
            level += 1;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::CHUNK_SIZE;
    use std::convert::Infallible;

    fn build(chunks: u64) -> (Option<(u8, ChunkId)>, Vec<Node>) {
        let mut nodes = Vec::new();
        let mut store = |node: Node| {
            let mut id = [node.level; 16];
            id[8..].copy_from_slice(&node.position.to_le_bytes());
            nodes.push(node);
            Ok::<_, Infallible>(ChunkId(id))
        };
        let mut builder = TreeBuilder::new();
        for chunk in 0..chunks {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&chunk.to_le_bytes());
            builder.push(ChunkId(id), &mut store).unwrap();
        }
        let root = builder.finish(&mut store).unwrap();
        (root, nodes)
    }

    #[test]
    fn the_built_shape_is_the_computed_shape() {
        for chunks in [0, 1, 2, 255, 256, 257, 65_535, 65_536, 65_537, 65_793] {
            let image_len = chunks * CHUNK_SIZE as u64;
            let (root, nodes) = build(chunks);
            assert_eq!(root.map_or(0, |(height, _)| height), height(image_len), "{chunks} chunks");
            for node in &nodes {
                let ids = node_len(image_len, node.level, node.position);
                assert_eq!(node.plain.len(), ids * ChunkId::LEN, "{chunks} chunks, {node:?}");
            }
            let leaves: usize =
                nodes.iter().filter(|node| node.level == 1).map(|node| node.plain.len()).sum();
            assert_eq!(leaves as u64, chunks * ChunkId::LEN as u64);
            assert_eq!(
                nodes.iter().filter(|node| node.level == height(image_len)).count(),
                usize::from(chunks > 0)
            );
        }
    }
}
