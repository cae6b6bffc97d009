//! Which stored records snapshots need: trees are walked, and of every chunk the shallowest usable form is marked, with
//! the bases it is read through. What is not marked, nobody needs.
//!
//! Memory is a bit per record and the nodes of one tree: a node that the snapshot before has at the same place was
//! walked with it, so that a thousand snapshots of one database cost little more than what they differ in.

use std::collections::{HashMap, HashSet};

use super::catalog::Snapshot;
use super::error::VaultError;
use super::index::ChunkIndex;
use super::reader::{ChunkReader, plan};
use crate::chunk::Class;
use crate::ids::{ChunkId, DatabaseId, ObjectName};
use crate::tree::{FAN_OUT, height, node_len};

/// Chunks whose marks are remembered, so that a base of many deltas is looked up once.
const REMEMBERED: usize = 1 << 17;
/// Forms of a chunk and its bases that are tried, as a reader does.
const MAX_FORMS: usize = 64;

/// The marked records of a pack.
#[derive(Debug, Default, Clone)]
pub(crate) struct Marks {
    words: Vec<u64>,
    /// Stored bytes of the marked records.
    pub(crate) bytes: u64,
    /// Number of marked records.
    pub(crate) count: u32,
}

impl Marks {
    /// Whether record `number` is marked.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.words.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn set(&mut self, number: u32, stored_len: u32) {
        let word = number as usize / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (number % 64);
        self.bytes += u64::from(stored_len);
        self.count += 1;
    }
}

/// The records that the snapshots added so far need.
pub(crate) struct Reach {
    reader: ChunkReader,
    /// Packs whose records are used only where there is no other form.
    avoided: HashSet<ObjectName>,
    /// Whether what only an avoided pack has counts as missing.
    strict: bool,
    marks: HashMap<ObjectName, Marks>,
    /// Depth of the marked form of chunks met lately.
    lately: HashMap<(Class, ChunkId), u8>,
    /// The nodes of the last tree, by level and position.
    last_tree: HashMap<(u8, u64), (ChunkId, Vec<u8>)>,
    last_database: Option<DatabaseId>,
    budget: usize,
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reach({} packs)", self.marks.len())
    }
}

impl Reach {
    pub(crate) fn new(reader: ChunkReader, avoided: HashSet<ObjectName>, strict: bool) -> Self {
        Self {
            reader,
            avoided,
            strict,
            marks: HashMap::new(),
            lately: HashMap::new(),
            last_tree: HashMap::new(),
            last_database: None,
            budget: 0,
        }
    }

    /// The marks in `pack`; `None` if nothing in it is needed.
    pub(crate) fn of(&self, pack: ObjectName) -> Option<&Marks> {
        self.marks.get(&pack)
    }

    /// Adds what a snapshot needs. Snapshots of one database should follow each other, oldest first.
    ///
    /// # Errors
    /// A chunk is missing or a node cannot be read; what was marked so far stays marked.
    pub(crate) fn add(&mut self, index: &ChunkIndex, snapshot: &Snapshot) -> Result<(), VaultError> {
        let manifest = &snapshot.manifest;
        if self.last_database.replace(manifest.database) != Some(manifest.database) {
            self.last_tree.clear();
        }
        // The manifest's copy: without it a lost snapshots object could not be repaired.
        self.mark(index, Class::Manifest, ChunkId(snapshot.id.0))?;
        let len = manifest.content.len();
        match manifest.root {
            Some(root) => self.node(index, len, height(len), 0, root),
            None => Ok(()),
        }
    }

    fn node(
        &mut self,
        index: &ChunkIndex,
        image_len: u64,
        level: u8,
        position: u64,
        id: ChunkId,
    ) -> Result<(), VaultError> {
        let known = self.last_tree.remove(&(level, position));
        let (known_id, old) = known.map_or((None, Vec::new()), |(id, plain)| (Some(id), plain));
        if known_id == Some(id) {
            self.last_tree.insert((level, position), (id, old));
            return Ok(());
        }
        self.need(index, Class::Node(level), id)?;
        let mut plain = Vec::new();
        self.reader.read(&plan(index, Class::Node(level), id)?, &mut plain)?;
        if plain.len() != node_len(image_len, level, position) * ChunkId::LEN {
            let why = "a tree node of the wrong size".to_owned();
            return Err(VaultError::UnreadableChunk { chunk: id, why });
        }
        let old = old.as_chunks().0;
        for (number, child) in plain.as_chunks().0.iter().enumerate() {
            if old.get(number) == Some(child) {
                continue;
            }
            if level == 1 {
                self.need(index, Class::Page, ChunkId(*child))?;
            } else {
                let child_position = position * FAN_OUT as u64 + number as u64;
                self.node(index, image_len, level - 1, child_position, ChunkId(*child))?;
            }
        }
        self.last_tree.insert((level, position), (id, plain));
        Ok(())
    }

    fn need(&mut self, index: &ChunkIndex, class: Class, id: ChunkId) -> Result<(), VaultError> {
        if self.mark(index, class, id)? { Ok(()) } else { Err(VaultError::MissingChunk(id)) }
    }

    fn mark(&mut self, index: &ChunkIndex, class: Class, id: ChunkId) -> Result<bool, VaultError> {
        self.budget = MAX_FORMS;
        Ok(self.mark_below(index, class, id, u8::MAX)?.is_some())
    }

    /// Marks a form that is shallower than `below`, and its bases; its depth.
    fn mark_below(
        &mut self,
        index: &ChunkIndex,
        class: Class,
        id: ChunkId,
        below: u8,
    ) -> Result<Option<u8>, VaultError> {
        if let Some(depth) = self.lately.get(&(class, id)).filter(|depth| **depth < below) {
            return Ok(Some(*depth));
        }
        // The newest first: what an interrupted prune has copied already need not be copied again.
        let mut forms = index.forms(class, id)?;
        forms.reverse();
        forms.sort_by_key(|form| form.record.encoding.depth());
        let fitting = || forms.iter().filter(|form| form.record.encoding.depth() < below);
        let marked =
            fitting().find(|form| self.marks.get(&form.pack).is_some_and(|marks| marks.has(form.number)));
        if let Some(form) = marked {
            return Ok(Some(self.remember(class, id, form.record.encoding.depth())));
        }
        for avoided in [false, true] {
            if avoided && self.strict {
                break;
            }
            for form in fitting() {
                if self.avoided.contains(&form.pack) != avoided
                    || index.is_missing(form.pack)
                    || self.budget == 0
                {
                    continue;
                }
                self.budget -= 1;
                let depth = form.record.encoding.depth();
                if let Some(base) = form.record.encoding.base()
                    && self.mark_below(index, class, base, depth)?.is_none()
                {
                    continue;
                }
                self.marks.entry(form.pack).or_default().set(form.number, form.record.stored_len);
                return Ok(Some(self.remember(class, id, depth)));
            }
        }
        Ok(None)
    }

    fn remember(&mut self, class: Class, id: ChunkId, depth: u8) -> u8 {
        if self.lately.len() >= REMEMBERED {
            self.lately.clear();
        }
        self.lately.insert((class, id), depth);
        depth
    }
}
