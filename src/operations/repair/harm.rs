//! What remains harmed, in the words of people: snapshots, databases, and tables where the damage can be mapped to them.

use std::ops::Range;

use jiff::Timestamp;

use crate::ids::SnapshotId;
use crate::sqlite::harmed_tables;
use crate::vault::{Snapshot, Vault};

/// Snapshots whose tables are looked for, the newest first: each costs a walk over its trees.
const MAPPED: usize = 16;

/// A snapshot of which a part cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Harm {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Name of its database.
    pub database: String,
    /// When the image was true.
    pub created_at: Timestamp,
    /// Bytes of the image.
    pub size: u64,
    /// Bytes of it that cannot be had.
    pub lost_bytes: u64,
    /// Tables that have lost pages; empty if these are pages of no table. `None` where that cannot be said.
    pub tables: Option<Vec<String>>,
}

pub(super) fn describe(
    seen: &Vault,
    snapshots: &[Snapshot],
    harmed: Vec<(SnapshotId, Vec<Range<u64>>)>,
) -> Vec<Harm> {
    let mut described = Vec::new();
    let count = harmed.len();
    for (position, (id, lost)) in harmed.into_iter().enumerate() {
        let Some(snapshot) = snapshots.iter().find(|snapshot| snapshot.id == id) else { continue };
        let is_mapped = count - position <= MAPPED;
        described.push(Harm {
            snapshot: id,
            database: snapshot.manifest.name.clone(),
            created_at: snapshot.created_at(),
            size: snapshot.manifest.content.len(),
            lost_bytes: lost.iter().map(|range| range.end - range.start).sum(),
            tables: if is_mapped { tables(seen, snapshot, &lost) } else { None },
        });
    }
    described
}

fn tables(seen: &Vault, snapshot: &Snapshot, lost: &[Range<u64>]) -> Option<Vec<String>> {
    let mut image = seen.image(snapshot)?;
    let harmed = harmed_tables(&mut image, lost);
    // Without the whole schema, the list would be believed to be all.
    harmed.schema_is_whole.then(|| harmed.tables.into_iter().collect())
}
