//! The snapshot that a new one is compared with: what it has at each position, and what of that a chunk may be a delta
//! against.

use std::sync::Arc;

use crate::chunk::{Class, chunk_count};
use crate::codec::{Base, Bases};
use crate::ids::ChunkId;
use crate::tree::height;
use crate::vault::image::TreeReader;
use crate::vault::index::{ChunkIndex, Location};
use crate::vault::reader::{ChunkPlan, ChunkReader, plan, plan_within};
use crate::vault::{Snapshot, Vault};

/// The parent's chunk ids by position, as far as they can be read.
pub(super) struct ParentTree {
    tree: TreeReader,
    pub(super) reader: ChunkReader,
    image_len: u64,
    /// All of it is known to be stored: what is unchanged need not be looked up.
    is_whole: bool,
}

impl ParentTree {
    pub(super) fn of(vault: &Vault, parent: &Snapshot) -> Self {
        let (root, image_len) = (parent.manifest.root, parent.manifest.content.len());
        let is_whole = root.is_some_and(|root| vault.index().remembers_whole(root, image_len));
        Self { tree: TreeReader::new(root, image_len), reader: vault.reader(), image_len, is_whole }
    }

    /// Whether what it has at this place needs no look-up: it is the same, and known to be stored.
    pub(super) fn keeps(&self, id: ChunkId, old: Option<ChunkId>) -> bool {
        self.is_whole && old == Some(id)
    }

    pub(super) fn id_at(&mut self, index: &ChunkIndex, level: u8, position: u64) -> Option<ChunkId> {
        if level > height(self.image_len) || (level == 0 && position >= chunk_count(self.image_len)) {
            return None;
        }
        // A parent that is damaged or shorter here is no reason to fail: what it lacks is stored anew.
        self.tree.id_at(index, &mut self.reader, level, position).ok()
    }
}

/// How to read the versions that a chunk may be encoded against.
pub(super) struct BasePlans {
    full: ChunkPlan,
    middle: Option<ChunkPlan>,
}

impl BasePlans {
    /// For chunk `id`, from the version that it replaces: that itself and what it is a delta against, as far as they are of
    /// the right depth, not lost, and not the chunk itself, which is stored again where its pack is lost.
    pub(super) fn of(index: &ChunkIndex, class: Class, id: ChunkId, old: ChunkId) -> Option<Self> {
        let plan_of = |id| {
            let plan = plan(index, class, id).ok()?;
            let encoding = plan.location()?.record.encoding;
            Some((plan, encoding))
        };
        let (mut plan, mut encoding) = plan_of(old)?;
        let mut middle = None;
        while let Some(base) = encoding.base() {
            middle = (encoding.depth() == 1).then_some(plan.id);
            (plan, encoding) = plan_of(base)?;
        }
        // Read from forms of just these depths: a delta is of the depth after that of its base, and whoever reads it
        // uses no deeper form of the base.
        let usable = |base: ChunkId, depth| {
            let plan = plan_within(index, class, base, depth).ok().filter(|_| base != id)?;
            let there = |_: &ChunkPlan, location: &Location| {
                if index.is_lost(location.pack) { Err(String::new()) } else { Ok(()) }
            };
            plan.judge(&mut { there }).is_ok().then_some(plan)
        };
        Some(Self { full: usable(plan.id, 0)?, middle: middle.and_then(|id| usable(id, 1)) })
    }

    /// Reads them; what cannot be read is left out, and the chunk stored accordingly larger.
    pub(super) fn read(&self, reader: &mut ChunkReader) -> BasePlains {
        let mut read = |plan: &ChunkPlan| reader.read_shared(plan).ok().map(|plain| (plan.id, plain));
        BasePlains { full: read(&self.full), middle: self.middle.as_ref().and_then(read) }
    }
}

/// The versions themselves.
#[derive(Default)]
pub(super) struct BasePlains {
    full: Option<(ChunkId, Arc<Vec<u8>>)>,
    middle: Option<(ChunkId, Arc<Vec<u8>>)>,
}

impl BasePlains {
    pub(super) fn as_bases(&self) -> Bases<'_> {
        Bases {
            full: self.full.as_ref().map(|(id, plain)| Base { id: *id, plain }),
            middle: self.middle.as_ref().map(|(id, plain)| Base { id: *id, plain }),
        }
    }
}
