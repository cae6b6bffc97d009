//! Key slots in the store: two copies each, either of which is enough.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::core::Core;
use super::error::VaultError;
use super::layout::{self, Place};
use crate::crypto::CryptoError;
use crate::crypto::unlock::SlotNote;
use crate::format::keyslot::{Argon2Params, KeySlot};
use crate::format::limits;
use crate::ids::{ObjectName, SlotId, VaultId};
use crate::store::{ObjectMeta, ObjectPath, Put, Store};

/// A readable key slot.
#[derive(Debug, Clone)]
pub struct SlotSource {
    /// The slot.
    pub slot: KeySlot,
    /// Hash of its object.
    pub hash: ObjectName,
    /// Where it was read.
    pub path: ObjectPath,
}

/// A key slot with its note.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The slot.
    pub slot: KeySlot,
    /// Label and time of creation.
    pub note: SlotNote,
    /// Hash of its object.
    pub hash: ObjectName,
    /// Whether somebody who had the vault's key made it.
    pub genuine: bool,
}

/// What is found of the key slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// The cheapest to try first.
    pub(super) readable: Vec<SlotSource>,
    /// Why slots of which no copy can be read cannot.
    pub(super) unreadable: Vec<VaultError>,
    pub(super) warnings: Vec<String>,
}

/// Reads all slots of `vaults`, the cheapest to try first. Of each slot both copies, where they are whole and differ:
/// which is genuine, only the key can tell. What is not whole, becomes a warning.
pub(super) fn read_all(store: &dyn Store, vaults: &[VaultId]) -> Result<Slots, VaultError> {
    let mut paths: BTreeMap<SlotId, Vec<ObjectPath>> = BTreeMap::new();
    store.list(layout::KEYS, &mut |meta: ObjectMeta| {
        if let Place::Slot(id) = Place::of(&meta.path) {
            paths.entry(id).or_default().push(meta.path);
        }
        ControlFlow::Continue(())
    })?;
    let mut slots = Slots::default();
    for (id, mut copies) in paths {
        copies.sort_by_key(|path| path.as_str().len());
        let known = slots.readable.len();
        let mut failure = None;
        for path in copies {
            match read(store, &path, id) {
                Ok(source) if !vaults.contains(&source.slot.vault) => {
                    slots.warnings.push(format!("{path} is a key slot of another vault and is not used"));
                }
                Ok(source) => {
                    if slots.readable[known..].iter().all(|other| other.hash != source.hash) {
                        slots.readable.push(source);
                    }
                }
                // Listed and gone: somebody removed it just now.
                Err(VaultError::Store(error)) if error.is_not_found() => {}
                Err(error) => {
                    slots.warnings.push(error.to_string());
                    // A store that failed may give the slot next time; that is the reason to report.
                    if failure.is_none() || matches!(error, VaultError::Store(_)) {
                        failure = Some(error);
                    }
                }
            }
        }
        match slots.readable.len() - known {
            0 => slots.unreadable.extend(failure),
            1 => {}
            _ => slots.warnings.push(format!("the two copies of key slot {id} differ")),
        }
    }
    slots.readable.sort_by_key(|source| source.slot.argon2.map_or(0, Argon2Params::work));
    Ok(slots)
}

fn read(store: &dyn Store, path: &ObjectPath, id: SlotId) -> Result<SlotSource, VaultError> {
    let bytes = store.get(path, limits::CONTROL_OBJECT)?;
    let slot = KeySlot::decode(&bytes).map_err(|error| VaultError::of_object(path, error.into()))?;
    if slot.id != id {
        let why = "it belongs to another slot".to_owned();
        return Err(VaultError::Damaged { object: path.to_string(), why });
    }
    Ok(SlotSource { slot, hash: ObjectName::of(&bytes), path: path.clone() })
}

/// Writes a slot and its copy. Somebody who repairs may have made the second of the first already.
pub(super) fn write(store: &dyn Store, slot: &KeySlot) -> Result<(), VaultError> {
    let bytes = slot.encode()?;
    for path in [layout::slot_path(slot.id)?, layout::slot_copy_path(slot.id)?] {
        if store.put_if_absent(&path, &bytes)? == Put::AlreadyPresent
            && store.get(&path, limits::CONTROL_OBJECT)? != bytes
        {
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

/// All slots, one copy of each: that whose note opens, if one does. A note that does not open is shown as empty.
pub(super) fn list(core: &Core) -> Result<Vec<Slot>, VaultError> {
    let found = read_all(&*core.store, &[core.keys.vault()])?;
    // A slot that could not be read just now is not one that is gone.
    if let Some(error) = found.unreadable.into_iter().find(|error| matches!(error, VaultError::Store(_))) {
        return Err(error);
    }
    let mut slots: BTreeMap<SlotId, Slot> = BTreeMap::new();
    for source in found.readable {
        let note = SlotNote::open(&source.slot, core.keys.keyring());
        let genuine = source.slot.note.is_some() && note.is_ok();
        let (id, hash) = (source.slot.id, source.hash);
        let slot = Slot { slot: source.slot, note: note.unwrap_or_default(), hash, genuine };
        if genuine || !slots.contains_key(&id) {
            slots.insert(id, slot);
        }
    }
    Ok(slots.into_values().collect())
}

/// Ids and hashes of the slots that are alive, for the log. What somebody without the key put there is not.
pub(super) fn state(core: &Core, removed: Option<SlotId>) -> Result<Vec<(SlotId, ObjectName)>, VaultError> {
    let alive = list(core)?.into_iter().filter(|slot| slot.genuine && Some(slot.slot.id) != removed);
    Ok(alive.map(|slot| (slot.slot.id, slot.hash)).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::store::MemoryStore;
    use crate::vault::testing::{key, vault_in};
    use crate::vault::{LocalFolders, LockedVault};

    #[test]
    fn no_key_is_added_that_would_keep_another_from_being_tried() {
        let store = Arc::new(MemoryStore::new());
        let vault = vault_in(Arc::clone(&store));
        let add =
            |number| vault.add_slot(&key(number), Argon2Params::recommended(1), None, Timestamp::UNIX_EPOCH);
        let most = u8::try_from(limits::SLOTS).unwrap();
        for number in 2..=most {
            add(number).unwrap();
        }
        let error = add(most + 1).unwrap_err();
        assert!(
            matches!(error, VaultError::TooManySlots { count: limits::SLOTS, kind: "key-file" }),
            "{error}"
        );
        for number in 1..=most {
            let locked = LockedVault::find(Box::new(Arc::clone(&store))).unwrap();
            assert!(locked.unlock(&key(number), &LocalFolders::default()).is_ok(), "key {number}");
        }
    }

    #[test]
    fn a_second_copy_that_a_repair_has_made_is_as_good() {
        let store = Arc::new(MemoryStore::new());
        let vault = vault_in(Arc::clone(&store));
        let (keyring, argon2) = (vault.core.keys.keyring(), Argon2Params::recommended(1));
        let slot = key(2).make_slot(vault.id(), keyring, argon2, &SlotNote::default()).unwrap();
        let copy = layout::slot_copy_path(slot.id).unwrap();
        store.put_if_absent(&copy, &slot.encode().unwrap()).unwrap();
        write(&*store, &slot).unwrap();
        // But not something else under its name.
        let other = KeySlot { id: SlotId([7; 8]), ..slot };
        store.put_if_absent(&layout::slot_path(other.id).unwrap(), b"something else").unwrap();
        assert!(write(&*store, &other).is_err());
    }
}
