//! Which snapshots can be put together from what is stored: their trees are walked, pages looked up.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Bad, CheckReport, Problem};
use crate::chunk::{Class, chunk_count};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{ChunkId, SnapshotId};
use crate::monitor::Monitor;
use crate::vault::index::ChunkIndex;
use crate::vault::reader::{ChunkReader, plan};
use crate::vault::{Catalog, Vault, VaultError};

/// Walks the trees of all snapshots; each node once.
pub(super) fn check_references(
    vault: &Vault,
    snapshots: &Catalog,
    bad: &mut Bad,
    monitor: &dyn Monitor,
    report: &mut CheckReport,
) -> Result<()> {
    let mut walk = Walk {
        reader: vault.reader(),
        bad,
        verdicts: HashMap::new(),
        good_pages: HashSet::new(),
        bad_pages: HashMap::new(),
        chunks: 0,
    };
    let mut harmed: BTreeMap<String, Vec<SnapshotId>> = BTreeMap::new();
    monitor.begin("check", "references", snapshots.snapshots.len() as u64);
    for snapshot in &snapshots.snapshots {
        if monitor.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        let index = vault.index();
        let manifest = &snapshot.manifest;
        if let Some(root) = manifest.root {
            let height = crate::tree::height(manifest.content.len());
            for message in walk.node(&index, height, root, chunk_count(manifest.content.len()))? {
                harmed.entry(message).or_default().push(snapshot.id);
            }
        }
        monitor.advance(1);
    }
    monitor.finish();
    report.chunks += walk.chunks;
    for (message, snapshots) in harmed {
        report.problems.push(Problem { object: "snapshots".to_owned(), kind: "damaged", message, snapshots });
    }
    Ok(())
}

/// Messages about one subtree: bounded, for a missing pack harms thousands of chunks in the same way.
const MESSAGES: usize = 8;

struct Walk<'b> {
    reader: ChunkReader,
    bad: &'b mut Bad,
    verdicts: HashMap<(u8, ChunkId), Vec<String>>,
    good_pages: HashSet<ChunkId>,
    bad_pages: HashMap<ChunkId, String>,
    chunks: u64,
}

impl Walk<'_> {
    fn node(
        &mut self,
        index: &ChunkIndex,
        level: u8,
        id: ChunkId,
        chunks: u64,
    ) -> Result<Vec<String>, VaultError> {
        if let Some(verdict) = self.verdicts.get(&(level, id)) {
            return Ok(verdict.clone());
        }
        self.chunks += 1;
        let mut plain = Vec::new();
        let read = plan(index, Class::Node(level), id).and_then(|plan| self.reader.read(&plan, &mut plain));
        let mut messages = BTreeSet::new();
        if let Err(error) = read {
            messages.insert(error.to_string());
        } else {
            let below = (crate::tree::FAN_OUT as u64).pow(u32::from(level) - 1);
            if plain.len() as u64 != chunks.div_ceil(below) * ChunkId::LEN as u64 {
                messages.insert(format!("tree node {id} has the wrong size"));
            }
            for (child, bytes) in (0u64..).zip(plain.as_chunks().0) {
                let child_chunks = below.min(chunks.saturating_sub(child * below));
                let found = if level == 1 {
                    self.page(index, ChunkId(*bytes))?
                } else {
                    self.node(index, level - 1, ChunkId(*bytes), child_chunks)?
                };
                if messages.len() < MESSAGES {
                    messages.extend(found);
                }
            }
        }
        let verdict: Vec<String> = messages.into_iter().collect();
        self.verdicts.insert((level, id), verdict.clone());
        Ok(verdict)
    }

    fn page(&mut self, index: &ChunkIndex, id: ChunkId) -> Result<Vec<String>, VaultError> {
        if self.good_pages.contains(&id) {
            return Ok(Vec::new());
        }
        if let Some(message) = self.bad_pages.get(&id) {
            return Ok(vec![message.clone()]);
        }
        self.chunks += 1;
        match self.trouble(index, Class::Page, id, u8::MAX)? {
            None => {
                self.good_pages.insert(id);
                Ok(Vec::new())
            }
            Some(message) => {
                self.bad_pages.insert(id, message.clone());
                Ok(vec![message])
            }
        }
    }

    /// Why no stored form of a chunk is usable, as far as is known without reading it.
    fn trouble(
        &mut self,
        index: &ChunkIndex,
        class: Class,
        id: ChunkId,
        depth: u8,
    ) -> Result<Option<String>, VaultError> {
        let mut trouble = Some(VaultError::MissingChunk(id).to_string());
        for location in index.forms(class, id)? {
            let own = location.record.encoding.depth();
            if own >= depth {
                continue;
            }
            let base = match location.record.encoding.base() {
                Some(base) => self.trouble(index, class, base, own)?,
                None => None,
            };
            match (self.bad.why(&location), base) {
                (None, None) => return Ok(None),
                (Some(why), _) if self.bad.packs.contains_key(&location.pack) => {
                    let why = why.to_owned();
                    // A damaged pack may still hold this record whole.
                    let whole = plan(index, class, id).is_ok_and(|plan| {
                        plan.only(location.pack, location.number)
                            .is_some_and(|form| self.reader.read(&form, &mut Vec::new()).is_ok())
                    });
                    if whole {
                        return Ok(None);
                    }
                    trouble = Some(why);
                }
                (Some(why), _) => trouble = Some(why.to_owned()),
                (None, Some(base)) => trouble = Some(format!("its base is lost: {base}")),
            }
        }
        Ok(trouble)
    }
}
