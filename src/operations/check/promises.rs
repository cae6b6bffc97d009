//! What index objects say of packs, to be compared with the packs themselves: restores believe the index.

use std::collections::HashMap;

use crate::error::Result;
use crate::format::directory::Directory;
use crate::format::envelope::ObjectKind;
use crate::format::index::Index;
use crate::ids::ObjectName;
use crate::vault::{Vault, VaultError, layout};

/// By pack, which index objects name it and the hash of what each says. Hashes, so that memory grows with packs and
/// not with chunks.
#[derive(Debug, Default)]
pub(in crate::operations) struct Promises(HashMap<ObjectName, Vec<(ObjectName, blake3::Hash)>>);

impl Promises {
    /// Reads all index objects; those that cannot be read are left out, for loading the index has reported them.
    pub(in crate::operations) fn read(vault: &Vault) -> Result<Self> {
        let (core, mut promises) = (vault.core(), Self::default());
        for (name, _) in core.names(layout::INDEX)? {
            let Ok((_, body)) = core.read_object(ObjectKind::Index, name) else { continue };
            for pack in Index::decode(&body).unwrap_or_default().packs {
                let said = hash(&pack.header, &pack.directory)?;
                promises.0.entry(pack.name).or_default().push((name, said));
            }
        }
        Ok(promises)
    }

    /// The index objects that say of a pack something else than its own header and directory.
    pub(in crate::operations) fn broken(
        &self,
        pack: ObjectName,
        header: &[u8],
        directory: &Directory,
    ) -> Result<Vec<ObjectName>> {
        let (said, true_hash) = (self.0.get(&pack), hash(header, directory)?);
        let wrong = said.into_iter().flatten().filter(|(_, said)| *said != true_hash);
        Ok(wrong.map(|(name, _)| *name).collect())
    }
}

fn hash(header: &[u8], directory: &Directory) -> Result<blake3::Hash, VaultError> {
    // A header says its own length, so the two cannot run into each other.
    Ok(blake3::hash(&[header, &directory.encode()?].concat()))
}
