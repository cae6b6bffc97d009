//! What snapshots need, and what of it can be had: the trees are walked, each node once, and every chunk is judged by its
//! stored forms, without reading the pages themselves.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use super::live::Key;
use crate::chunk::{CHUNK_SIZE, Class, chunk_count};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{ChunkId, ObjectName, SnapshotId};
use crate::monitor::Monitor;
use crate::tree::FAN_OUT;
use crate::vault::index::{ChunkIndex, Location};
use crate::vault::reader::{ChunkReader, plan};
use crate::vault::{Snapshot, Vault, VaultError};

/// What is known of packs: by name, the records that cannot be used. Packs that are not named are whole.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Packs of which nothing but the named records can be used.
    pub(super) packs: HashMap<ObjectName, HashSet<u32>>,
}

impl Losses {
    fn has(&self, location: &Location) -> bool {
        self.packs.get(&location.pack).is_none_or(|whole| whole.contains(&location.number))
    }
}

/// Stored forms that are looked at for one chunk and its bases, as in a plan of the reader.
const MAX_FORMS: usize = 64;

/// The chunks that snapshots lack.
#[derive(Debug, Default)]
pub(super) struct Lacks {
    /// All that would have to come from somewhere else; bases of deltas among them, where they would be enough.
    pub(super) wanted: HashSet<Key>,
    /// By snapshot, the parts of its image that cannot be had, in bytes.
    pub(super) harmed: Vec<(SnapshotId, Vec<Range<u64>>)>,
}

/// Walks trees and judges chunks.
pub(super) struct Walk<'a> {
    view: &'a Vault,
    reader: ChunkReader,
    losses: &'a Losses,
    /// Chunks that can be had from elsewhere; nodes with their plaintext.
    found: &'a HashMap<Key, Vec<u8>>,
    wanted: HashSet<Key>,
    /// By node and number of chunks below, the chunks under it that cannot be had, as positions.
    verdicts: HashMap<(u8, ChunkId, u64), Vec<Range<u64>>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(view: &'a Vault, losses: &'a Losses, found: &'a HashMap<Key, Vec<u8>>) -> Self {
        Self { view, reader: view.reader(), losses, found, wanted: HashSet::new(), verdicts: HashMap::new() }
    }

    /// What `snapshots` lack.
    pub(super) fn lacks(mut self, snapshots: &[Snapshot], monitor: &dyn Monitor) -> Result<Lacks> {
        let mut harmed = Vec::new();
        let index = self.view.index();
        for snapshot in snapshots {
            if monitor.interrupted() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            let len = snapshot.manifest.content.len();
            let Some(root) = snapshot.manifest.root else { continue };
            let lost = self.node(&index, crate::tree::height(len), root, chunk_count(len))?;
            if !lost.is_empty() {
                let bytes = |chunks: &Range<u64>| {
                    chunks.start * CHUNK_SIZE as u64..(chunks.end * CHUNK_SIZE as u64).min(len)
                };
                harmed.push((snapshot.id, lost.iter().map(bytes).collect()));
            }
        }
        Ok(Lacks { wanted: self.wanted, harmed })
    }

    fn node(
        &mut self,
        index: &ChunkIndex,
        level: u8,
        id: ChunkId,
        chunks: u64,
    ) -> Result<Vec<Range<u64>>, VaultError> {
        if let Some(verdict) = self.verdicts.get(&(level, id, chunks)) {
            return Ok(verdict.clone());
        }
        let mut lost: Vec<Range<u64>> = Vec::new();
        let below = (FAN_OUT as u64).pow(u32::from(level) - 1);
        match self.read_node(index, level, id)? {
            Some(plain) if plain.len() as u64 == chunks.div_ceil(below) * ChunkId::LEN as u64 => {
                for (child, bytes) in (0u64..).zip(plain.as_chunks().0) {
                    let (first, child_id) = (child * below, ChunkId(*bytes));
                    let found = if level > 1 {
                        self.node(index, level - 1, child_id, below.min(chunks - first))?
                    } else if self.can_have(index, (Class::Page, child_id))? {
                        Vec::new()
                    } else {
                        std::iter::once(0..1).collect()
                    };
                    for range in found {
                        join(&mut lost, first + range.start..first + range.end);
                    }
                }
            }
            _ => lost.push(0..chunks),
        }
        self.verdicts.insert((level, id, chunks), lost.clone());
        Ok(lost)
    }

    fn read_node(
        &mut self,
        index: &ChunkIndex,
        level: u8,
        id: ChunkId,
    ) -> Result<Option<Vec<u8>>, VaultError> {
        let key = (Class::Node(level), id);
        if let Some(plain) = self.found.get(&key) {
            return Ok(Some(plain.clone()));
        }
        let mut plain = Vec::new();
        match plan(index, key.0, id).and_then(|plan| self.reader.read(&plan, &mut plain)) {
            Ok(()) => Ok(Some(plain)),
            Err(error @ VaultError::Cache(_)) => Err(error),
            Err(_) => {
                // Its bases might be had where it cannot; and where all seems well, it is all the same.
                self.can_have(index, key)?;
                self.wanted.insert(key);
                Ok(None)
            }
        }
    }

    fn can_have(&mut self, index: &ChunkIndex, key: Key) -> Result<bool, VaultError> {
        let mut bases = BTreeSet::new();
        let there = self.has(index, key, u8::MAX, &mut MAX_FORMS.clone(), &mut bases)?;
        if !there {
            self.wanted.insert(key);
            self.wanted.extend(bases);
        }
        Ok(there)
    }

    fn has(
        &self,
        index: &ChunkIndex,
        key: Key,
        below: u8,
        budget: &mut usize,
        bases: &mut BTreeSet<Key>,
    ) -> Result<bool, VaultError> {
        if self.found.contains_key(&key) {
            return Ok(true);
        }
        for form in index.forms(key.0, key.1)? {
            let own = form.record.encoding.depth();
            if own >= below || *budget == 0 {
                break;
            }
            *budget -= 1;
            if !self.losses.has(&form) {
                continue;
            }
            match form.record.encoding.base() {
                None => return Ok(true),
                Some(base) if self.has(index, (key.0, base), own, budget, bases)? => return Ok(true),
                Some(base) => {
                    bases.insert((key.0, base));
                }
            }
        }
        Ok(false)
    }
}

fn join(ranges: &mut Vec<Range<u64>>, next: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ => ranges.push(next),
    }
}
