//! Key slots in the store: two copies each, either of which is enough.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::core::Core;
use super::error::VaultError;
use super::layout::{self, Place};
use crate::crypto::CryptoError;
use crate::crypto::unlock::SlotNote;
use crate::format::keyslot::KeySlot;
use crate::format::limits;
use crate::ids::{ObjectName, SlotId, VaultId};
use crate::store::{ObjectMeta, Put, Store};

/// A readable key slot.
#[derive(Debug, Clone)]
pub struct SlotSource {
    /// The slot.
    pub slot: KeySlot,
    /// Hash of its object.
    pub hash: ObjectName,
}

/// A key slot with its note.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The slot.
    pub slot: KeySlot,
    /// Label and time of creation.
    pub note: SlotNote,
}

/// Reads all slots of `vault`; of each the first copy that is whole. What is not, becomes a warning.
pub(super) fn read_all(
    store: &dyn Store,
    vault: VaultId,
    warnings: &mut Vec<String>,
) -> Result<Vec<SlotSource>, VaultError> {
    let mut paths: BTreeMap<SlotId, Vec<_>> = BTreeMap::new();
    store.list(layout::KEYS, &mut |meta: ObjectMeta| {
        if let Place::Slot(id) = Place::of(&meta.path) {
            paths.entry(id).or_default().push(meta.path);
        }
        ControlFlow::Continue(())
    })?;
    let mut slots = Vec::new();
    for (id, mut copies) in paths {
        copies.sort_by_key(|path| path.as_str().len());
        for path in copies {
            match read(store, &path, id, vault) {
                Ok(source) => {
                    slots.push(source);
                    break;
                }
                Err(error) => warnings.push(error.to_string()),
            }
        }
    }
    Ok(slots)
}

fn read(
    store: &dyn Store,
    path: &crate::store::ObjectPath,
    id: SlotId,
    vault: VaultId,
) -> Result<SlotSource, VaultError> {
    let bytes = store.get(path, limits::CONTROL_OBJECT)?;
    let slot = KeySlot::decode(&bytes).map_err(|error| VaultError::of_object(path, error.into()))?;
    if slot.id != id || slot.vault != vault {
        let why = "it belongs to another slot or another vault".to_owned();
        return Err(VaultError::Damaged { object: path.to_string(), why });
    }
    Ok(SlotSource { slot, hash: ObjectName::of(&bytes) })
}

/// Writes a slot and its copy.
pub(super) fn write(store: &dyn Store, slot: &KeySlot) -> Result<(), VaultError> {
    let bytes = slot.encode()?;
    for path in [layout::slot_path(slot.id)?, layout::slot_copy_path(slot.id)?] {
        if store.put_if_absent(&path, &bytes)? == Put::AlreadyPresent {
            return Err(VaultError::Crypto(CryptoError::NotAuthentic));
        }
    }
    Ok(())
}

/// Removes a slot, the copy first.
pub(super) fn remove(store: &dyn Store, slot: SlotId) -> Result<(), VaultError> {
    store.delete(&layout::slot_copy_path(slot)?)?;
    store.delete(&layout::slot_path(slot)?)?;
    Ok(())
}

/// All slots with their notes. A note that does not open is shown as empty.
pub(super) fn list(core: &Core) -> Result<Vec<Slot>, VaultError> {
    let sources = read_all(&*core.store, core.keys.vault(), &mut Vec::new())?;
    Ok(sources
        .into_iter()
        .map(|source| {
            let note = SlotNote::open(&source.slot, core.keys.keyring()).unwrap_or_default();
            Slot { slot: source.slot, note }
        })
        .collect())
}

/// Ids and hashes of the slots that are alive, for the log.
pub(super) fn state(core: &Core, removed: Option<SlotId>) -> Result<Vec<(SlotId, ObjectName)>, VaultError> {
    let sources = read_all(&*core.store, core.keys.vault(), &mut Vec::new())?;
    Ok(sources
        .into_iter()
        .filter(|source| Some(source.slot.id) != removed)
        .map(|source| (source.slot.id, source.hash))
        .collect())
}
