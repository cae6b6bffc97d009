//! Which snapshots can be put together from what is stored: their trees are walked, pages looked up.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::packs::Bad;
use super::{CheckReport, Problem};
use crate::chunk::{Class, chunk_count};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{ChunkId, SnapshotId};
use crate::monitor::Monitor;
use crate::vault::index::{ChunkIndex, Location};
use crate::vault::reader::{ChunkPlan, ChunkReader, plan};
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
        let kind = bad.kind_of(&message);
        report.problems.push(Problem { object: "snapshots".to_owned(), kind, message, snapshots });
    }
    Ok(())
}

/// Messages about one subtree: bounded, for a missing pack harms thousands of chunks in the same way.
const MESSAGES: usize = 8;

/// Verdicts on single pages that are remembered, so that a page of many nodes is looked up once. Bounded: the nodes'
/// verdicts alone make each node be walked once.
const PAGES: usize = 1 << 20;

struct Walk<'b> {
    reader: ChunkReader,
    bad: &'b mut Bad,
    /// By level, id and number of chunks below.
    verdicts: HashMap<(u8, ChunkId, u64), Vec<String>>,
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
        if let Some(verdict) = self.verdicts.get(&(level, id, chunks)) {
            return Ok(verdict.clone());
        }
        self.chunks += 1;
        let mut plain = Vec::new();
        let read = plan(index, Class::Node(level), id).and_then(|plan| self.reader.read(&plan, &mut plain));
        let mut messages = BTreeSet::new();
        if let Err(error) = read {
            messages.insert(self.bad.words(&error));
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
        self.verdicts.insert((level, id, chunks), verdict.clone());
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
        if self.good_pages.len() + self.bad_pages.len() >= PAGES {
            self.good_pages.clear();
            self.bad_pages.clear();
        }
        match self.trouble(index, id)? {
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

    /// Why a page cannot be read, as far as is known without reading it: judged by just the forms that a restore tries.
    fn trouble(&mut self, index: &ChunkIndex, id: ChunkId) -> Result<Option<String>, VaultError> {
        let plan = match plan(index, Class::Page, id) {
            Ok(plan) => plan,
            Err(error @ VaultError::MissingChunk(_)) => return Ok(Some(error.to_string())),
            Err(error) => return Err(error),
        };
        let (bad, reader) = (&*self.bad, &mut self.reader);
        let verdict = plan.judge(&mut |plan, location| match bad.why(location) {
            None => Ok(()),
            // A damaged pack may still hold this record whole.
            Some(_) if bad.packs.contains_key(&location.pack) && reads(reader, plan, location) => Ok(()),
            Some(why) => Err(why.to_owned()),
        });
        Ok(verdict.err())
    }
}

fn reads(reader: &mut ChunkReader, plan: &ChunkPlan, location: &Location) -> bool {
    let form = plan.clone().only(location.pack, location.number);
    form.is_some_and(|form| reader.read(&form, &mut Vec::new()).is_ok())
}
