//! Chunks that the vault has lost, looked for in the databases they came from: what has the same id has the same content.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use crate::chunk::{CHUNK_SIZE, Class, chunk_count, chunk_len};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::ChunkId;
use crate::monitor::Monitor;
use crate::page_source::PageSource;
use crate::sqlite::{LiveDatabase, OpenOptions};
use crate::tree::{Node, TreeBuilder};
use crate::vault::{Vault, VaultError};

/// A chunk of any class, by name.
pub(super) type Key = (Class, ChunkId);

/// Reads a live database once, in one read snapshot, and gives each of the `wanted` chunks and tree nodes that it has to
/// `found`.
pub(super) fn search(
    vault: &Vault,
    path: &Path,
    wanted: &HashSet<Key>,
    busy_timeout: Duration,
    monitor: &dyn Monitor,
    found: &mut dyn FnMut(Key, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut database = LiveDatabase::open(path, &OpenOptions { busy_timeout })?;
    let mut capture = database.begin()?;
    let geometry = capture.geometry();
    let (image_len, page_size) = (geometry.image_len(), u64::from(geometry.page_size.bytes()));
    let mut builder = TreeBuilder::new();
    let mut nodes: Vec<(Key, Vec<u8>)> = Vec::new();
    let name = |nodes: &mut Vec<(Key, Vec<u8>)>, node: Node| -> Result<ChunkId> {
        let class = Class::Node(node.level);
        let id = vault.chunk_id(class, &node.plain)?;
        if wanted.contains(&(class, id)) {
            nodes.push(((class, id), node.plain));
        }
        Ok(id)
    };
    monitor.begin("repair", &path.display().to_string(), image_len);
    let mut plain = vec![0; CHUNK_SIZE];
    for position in 0..chunk_count(image_len) {
        if monitor.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        let piece = &mut plain[..chunk_len(image_len, position)];
        let first_page =
            u32::try_from(position * CHUNK_SIZE as u64 / page_size).map_err(|_| VaultError::Worker)?;
        capture.read_pages(first_page, piece)?;
        let id = vault.chunk_id(Class::Page, piece)?;
        if wanted.contains(&(Class::Page, id)) {
            found((Class::Page, id), piece)?;
        }
        builder.push(id, &mut |node| name(&mut nodes, node))?;
        monitor.advance(piece.len() as u64);
    }
    builder.finish(&mut |node| name(&mut nodes, node))?;
    monitor.finish();
    capture.finish()?;
    nodes.into_iter().try_for_each(|(key, plain)| found(key, &plain))
}
