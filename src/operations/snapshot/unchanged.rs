//! Nothing changed, proven: then the parent's tree is the new snapshot's, and not a page is read.

use super::pipeline::StoredTree;
use super::{SnapshotRequest, Source};
use crate::chunk::chunk_count;
use crate::error::Result;
use crate::format::manifest::{ChunkCounts, Content, SourceWitness};
use crate::sqlite::witness::{State, Witness};
use crate::vault::{Snapshot, Vault};

/// The parent's tree, if the source is proven to be what it was then.
pub(super) fn tree_of(
    vault: &Vault,
    parent: Option<&Snapshot>,
    source: &Source<'_>,
    request: &SnapshotRequest,
) -> Result<Option<StoredTree>> {
    let Some(parent) = parent else { return Ok(None) };
    let (manifest, content) = (&parent.manifest, Content::Image(source.geometry));
    let Some(sha256) = manifest.sha256 else { return Ok(None) };
    let (Some(before), Some(now)) = (manifest.details.witness, source.witness) else { return Ok(None) };
    let comparable = manifest.host == request.host.id
        && manifest.content == content
        && parent.epoch == vault.current_epoch()?;
    if !comparable || !from_format(before).proves_unchanged(&from_format(now)) {
        return Ok(None);
    }
    // Proven unchanged is the source; the vault may have lost what it had. Then all is read and stored anew.
    if !vault.has_whole_tree(manifest.root, content.len()) {
        return Ok(None);
    }
    let total = chunk_count(content.len());
    let counts = ChunkCounts { total, unchanged: total, ..ChunkCounts::default() };
    Ok(Some(StoredTree { root: manifest.root, sha256, counts, stored_bytes: 0 }))
}

pub(super) const fn to_format(witness: Witness) -> SourceWitness {
    let file = witness.file;
    match witness.state {
        State::Log { salts, last_frame, checksum } => {
            SourceWitness::Log { file, salts, last_frame, checksum }
        }
        State::File { size, modified_ns, changed_ns, settled } => {
            SourceWitness::File { file, size, modified_ns, changed_ns, settled }
        }
    }
}

const fn from_format(witness: SourceWitness) -> Witness {
    match witness {
        SourceWitness::Log { file, salts, last_frame, checksum } => {
            Witness { file, state: State::Log { salts, last_frame, checksum } }
        }
        SourceWitness::File { file, size, modified_ns, changed_ns, settled } => {
            Witness { file, state: State::File { size, modified_ns, changed_ns, settled } }
        }
    }
}
