//! The snapshots of a vault, and the words by which people name one.

use std::collections::HashSet;

use jiff::Timestamp;

use super::core::Core;
use super::error::VaultError;
use super::layout;
use super::log::History;
use crate::crypto::CryptoError;
use crate::format::envelope::ObjectKind;
use crate::format::manifest::{Manifest, decode_snapshots};
use crate::ids::{ObjectName, SnapshotId};

/// A stored snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The object that holds its manifest.
    pub object: ObjectName,
    /// The epoch whose ids its tree uses.
    pub epoch: u32,
    /// What it is.
    pub manifest: Manifest,
}

impl Snapshot {
    /// When the image was true.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        Timestamp::from_microsecond(self.manifest.created_at_us).unwrap_or_default()
    }

    /// Whether it holds a database, and not an export of one.
    #[must_use]
    pub const fn is_image(&self) -> bool {
        self.manifest.content.geometry().is_some()
    }
}

/// All snapshots that can be used, and what could not be read.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Those that were forgotten and whose manifests are still there, oldest first.
    pub forgotten: Vec<Snapshot>,
    /// Those that their run withdrew.
    pub withdrawn: Vec<Snapshot>,
    /// Objects that could not be read; the others are not affected.
    pub skipped: Vec<(ObjectName, VaultError)>,
    /// Snapshots that no log object names, although the log can be read.
    pub unlogged: Vec<SnapshotId>,
    /// Snapshots that the log names and no object holds.
    pub vanished: Vec<SnapshotId>,
    /// The same of forgotten ones, which no prune has taken: they could still have been brought back.
    pub vanished_forgotten: Vec<SnapshotId>,
}

impl Catalog {
    pub(crate) fn read(core: &Core, history: &History) -> Result<Self, VaultError> {
        let mut catalog = Self::default();
        let mut present = HashSet::new();
        let names: Vec<ObjectName> =
            core.names(layout::SNAPSHOTS)?.into_iter().map(|(name, _)| name).collect();
        core.read_each(
            &names,
            |name| read_snapshots(core, name),
            |name, read| {
                catalog.add(name, read, &mut present);
                Ok(())
            },
        )?;
        let gone = |id: &SnapshotId| history.forgotten.contains(id) || history.aborted.contains(id);
        catalog.snapshots.sort_by_key(|snapshot| (snapshot.manifest.created_at_us, snapshot.id));
        let (gone_ones, usable) = catalog.snapshots.into_iter().partition(|snapshot| gone(&snapshot.id));
        (catalog.forgotten, catalog.snapshots) = (gone_ones, usable);
        let aborted = |snapshot: &Snapshot| history.aborted.contains(&snapshot.id);
        (catalog.withdrawn, catalog.forgotten) = catalog.forgotten.into_iter().partition(aborted);
        catalog.unlogged = catalog
            .snapshots
            .iter()
            .map(|snapshot| snapshot.id)
            .filter(|id| !history.published.contains(id))
            .collect();
        catalog.vanished =
            history.published.iter().filter(|id| !present.contains(*id) && !gone(id)).copied().collect();
        catalog.vanished.sort_unstable();
        let was_taken =
            |id: &SnapshotId| history.objects.get(id).is_none_or(|object| history.deleted.contains(object));
        let lost = history.forgotten.difference(&history.aborted);
        catalog.vanished_forgotten =
            lost.filter(|id| !present.contains(*id) && !was_taken(id)).copied().collect();
        catalog.vanished_forgotten.sort_unstable();
        Ok(catalog)
    }

    fn add(
        &mut self,
        object: ObjectName,
        read: Result<Vec<Read>, VaultError>,
        present: &mut HashSet<SnapshotId>,
    ) {
        match read {
            Ok(manifests) => {
                for (id, snapshot) in manifests {
                    match snapshot {
                        // What is there is not gone, also where only a newer version understands it.
                        _ if !present.insert(id) => {}
                        Ok(snapshot) => self.snapshots.push(snapshot),
                        Err(error) => self.skipped.push((object, error)),
                    }
                }
            }
            Err(error) if error.is_of_ignorable_kind() => {}
            // Listed and gone: a prune took it just now, which it does only to what was forgotten long ago.
            Err(VaultError::Store(error)) if error.is_not_found() => {}
            Err(error) => self.skipped.push((object, error)),
        }
    }

    /// The snapshot with this id.
    #[must_use]
    pub fn get(&self, id: SnapshotId) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.id == id)
    }

    /// Names of databases that have snapshots, in order.
    #[must_use]
    pub fn database_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.snapshots.iter().map(|snapshot| snapshot.manifest.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// A manifest that is there, and what it says.
type Read = (SnapshotId, Result<Snapshot, VaultError>);

/// The manifests of an object. One that cannot be decoded, of a newer version, does not harm the others.
fn read_snapshots(core: &Core, name: ObjectName) -> Result<Vec<Read>, VaultError> {
    let (header, body) = core.read_object(ObjectKind::Snapshots, name)?;
    let damaged = |error: CryptoError| VaultError::of_object(format!("{}/{name}", layout::SNAPSHOTS), error);
    let keys = core.keys.epoch(header.epoch).map_err(damaged)?;
    let manifests = decode_snapshots(&body).map_err(|error| damaged(error.into()))?;
    let read = |bytes: Vec<u8>| {
        let id = keys.snapshot_id(&bytes);
        let manifest = Manifest::decode(&bytes).map_err(|error| damaged(error.into()));
        (id, manifest.map(|manifest| Snapshot { id, object: name, epoch: header.epoch, manifest }))
    };
    Ok(manifests.into_iter().map(read).collect())
}

#[cfg(test)]
mod tests {
    use crate::format::manifest::Manifest;
    use crate::store::MemoryStore;
    use crate::vault::log::History;
    use crate::vault::testing::vault_in;

    #[test]
    fn a_snapshot_does_not_get_the_id_of_one_that_was_forgotten() {
        let vault = vault_in(MemoryStore::new());
        let manifest = Manifest { created_at_us: 7, ..Manifest::empty() };
        let mut history = History::default();
        let (first, bytes) = vault.encode_manifest(&history, &mut manifest.clone()).unwrap();
        assert_eq!(bytes, manifest.encode().unwrap());
        history.forgotten.insert(first);
        let mut second = manifest.clone();
        let (id, bytes) = vault.encode_manifest(&history, &mut second).unwrap();
        assert_ne!(id, first);
        assert_eq!((second.created_at_us, bytes), (8, second.encode().unwrap()));
    }
}
