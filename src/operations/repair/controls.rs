//! The objects with fixed names: each lies there twice, and the key and the log tell which copy is genuine.

use std::collections::BTreeSet;

use super::plan::Planner;
use super::view::Source;
use crate::crypto::unlock::SlotNote;
use crate::error::Result;
use crate::format::envelope::{HEADER_LEN, Header};
use crate::format::keyslot::KeySlot;
use crate::format::limits;
use crate::format::vault_config::VaultConfig;
use crate::ids::{ObjectName, SlotId};
use crate::store::{ObjectMeta, ObjectPath, Store};
use crate::vault::layout::{self, Place};
use crate::vault::log::History;
use crate::vault::{Vault, VaultError};

/// Plans what to do about config and key slots.
pub(super) fn plan(planner: &mut Planner<'_>, history: &History) -> Result<()> {
    let config = planner.vault.config_hash();
    let paths = [layout::CONFIG, layout::CONFIG_COPY].map(ObjectPath::new);
    let [first, second] = paths;
    let paths = [first.map_err(VaultError::from)?, second.map_err(VaultError::from)?];
    two_copies(planner, &paths, Some(config), |_| false)?;
    match &history.keyring {
        Some(state) if state.config == config => {}
        _ => planner.plan.work.log_keyring = true,
    }
    let mut slots: BTreeSet<SlotId> =
        history.keyring.iter().flat_map(|state| &state.slots).map(|(id, _)| *id).collect();
    for meta in crate::operations::check::listing(planner.vault.store())? {
        if let Place::Slot(id) = Place::of(&meta.path) {
            slots.insert(id);
        }
    }
    for id in slots {
        if history.removed_slots.contains(&id) {
            planner.plan.notes.push(format!(
                "key slot {id} was removed, and is there: `pagevault key remove {id}` removes it again"
            ));
            continue;
        }
        let expected = history.keyring.iter().flat_map(|state| &state.slots).find(|(slot, _)| *slot == id);
        let paths = [layout::slot_path(id), layout::slot_copy_path(id)];
        let [first, second] = paths;
        let paths = [first.map_err(VaultError::from)?, second.map_err(VaultError::from)?];
        let expected = expected.map(|(_, hash)| *hash);
        let vault = planner.vault;
        if !two_copies(planner, &paths, expected, |bytes| is_genuine(vault, id, bytes))? && expected.is_some()
        {
            let text = format!(
                "key slot {id}: no whole copy of it is left; add that key again with `pagevault key add`"
            );
            planner.plan.beyond_repair.push(text);
        }
    }
    Ok(())
}

/// Takes from another copy of a vault what it has lost and without which nothing can be unlocked: the config, if both of its
/// copies are gone, and the key slots, if none is left. The names of what was taken. The key will tell whether it is genuine;
/// that it belongs to this vault, the header of any object tells.
///
/// # Errors
/// A store fails, or `copy` is no copy of this vault.
pub fn restore_controls(store: &dyn Store, copy: &dyn Store) -> Result<Vec<String>> {
    let own = crate::operations::check::listing(store)?;
    let is_config = |place: &Place| *place == Place::Config;
    let is_slot = |place: &Place| matches!(place, Place::Slot(_));
    let lacks = |kind: &dyn Fn(&Place) -> bool| !own.iter().any(|meta| kind(&Place::of(&meta.path)));
    let (lacks_config, lacks_slots) = (lacks(&is_config), lacks(&is_slot));
    if !lacks_config && !lacks_slots {
        return Ok(Vec::new());
    }
    let vault_of = |meta: &ObjectMeta| {
        if !matches!(Place::of(&meta.path), Place::Slot(_) | Place::Pack(_) | Place::Log(_)) {
            return None;
        }
        let header = store.get_range(&meta.path, 0, HEADER_LEN).ok()?;
        Header::decode(&header).ok().map(|(header, _)| header.vault)
    };
    let vault = own.iter().find_map(vault_of);
    let mut taken = Vec::new();
    for meta in crate::operations::check::listing(copy)? {
        let place = Place::of(&meta.path);
        if !(lacks_config && is_config(&place) || lacks_slots && is_slot(&place)) {
            continue;
        }
        let Ok(bytes) = copy.get(&meta.path, limits::CONTROL_OBJECT) else { continue };
        let theirs = if is_config(&place) {
            VaultConfig::decode(&bytes, None).map(|config| config.vault)
        } else {
            KeySlot::decode(&bytes).map(|slot| slot.vault)
        };
        if theirs.is_ok_and(|theirs| Some(theirs) == vault) {
            taken.push((meta.path, bytes));
        }
    }
    if taken.is_empty() {
        return Err(VaultError::NotACopy { place: copy.describe() }.into());
    }
    // The config last: it is what makes a vault of a folder.
    taken.sort_by_key(|(path, _)| (is_config(&Place::of(path)), path.as_str() == layout::CONFIG));
    for (path, bytes) in &taken {
        store.put_if_absent(path, bytes)?;
    }
    Ok(taken.into_iter().map(|(path, _)| path.to_string()).collect())
}

/// Whether somebody who had the vault's key made this slot.
fn is_genuine(vault: &Vault, id: SlotId, bytes: &[u8]) -> bool {
    KeySlot::decode(bytes).is_ok_and(|slot| {
        slot.id == id
            && slot.vault == vault.id()
            && slot.note.is_some()
            && SlotNote::open(&slot, vault.core().keys.keyring()).is_ok()
    })
}

/// Makes both copies what one of them is, or what the other vault has. Whether there is a right one.
fn two_copies(
    planner: &mut Planner<'_>,
    paths: &[ObjectPath; 2],
    expected: Option<ObjectName>,
    is_genuine: impl Fn(&[u8]) -> bool,
) -> Result<bool> {
    let is_right = |bytes: &[u8]| match expected {
        Some(hash) => ObjectName::of(bytes) == hash,
        None => is_genuine(bytes),
    };
    let read = |store: &dyn Store, path: &ObjectPath| match store.get(path, limits::CONTROL_OBJECT) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        // Too large to be one: somebody wrote something else there.
        Err(crate::store::StoreError::TooLarge { .. }) => Ok(Some(Vec::new())),
        Err(error) => Err(VaultError::from(error)),
    };
    let mut copies = Vec::new();
    for path in paths {
        let mut bytes = read(planner.vault.store(), path)?;
        // One bad reading condemns nothing: these are the objects without which there is no vault.
        if bytes.as_ref().is_some_and(|bytes| !is_right(bytes)) {
            bytes = read(planner.vault.store(), path)?;
        }
        copies.push((path.clone(), bytes));
    }
    let right = copies.iter().find(|(_, bytes)| bytes.as_ref().is_some_and(|bytes| is_right(bytes))).cloned();
    let right = match right {
        Some((path, Some(bytes))) => Some((Source::Own(path), ObjectName::of(&bytes))),
        _ => paths.iter().find_map(|path| {
            let bytes = read(planner.copy?.store(), path).ok()??;
            is_right(&bytes).then(|| (Source::Copy, ObjectName::of(&bytes)))
        }),
    };
    for (path, bytes) in copies {
        match (&right, bytes) {
            (_, Some(bytes)) if is_right(&bytes) => {}
            (Some((source, hash)), bytes) => {
                let source = match source {
                    // The other vault may have it under the other name only.
                    Source::Copy if !planner.is_whole_in_copy(&path, *hash) => continue,
                    source => source.clone(),
                };
                let why = if bytes.is_some() { "it is not what it was" } else { "it is missing" };
                planner.put_back(&path, source, *hash, why);
            }
            (None, Some(_)) if path.as_str().starts_with(layout::CONFIG) => {
                planner.plan.beyond_repair.push(format!(
                    "{path}: no whole copy of it is left; `pagevault repair --from COPY` takes it from a copy of this vault"
                ));
            }
            (None, Some(bytes)) => {
                if KeySlot::decode(&bytes).is_err_and(|error| error.is_newer()) {
                    planner.plan.beyond_repair.push(format!("{path} was written by a newer version"));
                } else {
                    planner.set_aside(&path, "it was not made with this vault's key, or is not whole");
                }
            }
            (None, None) => {}
        }
    }
    Ok(right.is_some())
}
