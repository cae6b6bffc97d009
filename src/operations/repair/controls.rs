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
use crate::store::{ObjectPath, Store};
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

/// Takes the config from another copy of a vault that has lost it, before anything can be unlocked. Whether it was lost. The
/// key will tell whether it is genuine; that it belongs to this vault, the header of any object tells.
///
/// # Errors
/// A store fails, or `copy` is no copy of this vault.
pub fn restore_config(store: &dyn Store, copy: &dyn Store) -> Result<bool> {
    let names = [layout::CONFIG, layout::CONFIG_COPY];
    for name in names {
        match store.size(&ObjectPath::new(name).map_err(VaultError::from)?) {
            Ok(_) => return Ok(false),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut own = None;
    for meta in crate::operations::check::listing(store)? {
        if matches!(Place::of(&meta.path), Place::Slot(_) | Place::Pack(_) | Place::Log(_)) && own.is_none() {
            let header = store.get_range(&meta.path, 0, HEADER_LEN).ok();
            own = header.and_then(|bytes| Header::decode(&bytes).ok()).map(|(header, _)| header.vault);
        }
    }
    let theirs = names.iter().find_map(|name| {
        let bytes = copy.get(&ObjectPath::new(*name).ok()?, limits::CONTROL_OBJECT).ok()?;
        let config = VaultConfig::decode(&bytes, None).ok()?;
        (Some(config.vault) == own).then_some(bytes)
    });
    let Some(bytes) = theirs else { return Err(VaultError::NotACopy { place: copy.describe() }.into()) };
    for name in [layout::CONFIG_COPY, layout::CONFIG] {
        store.put_if_absent(&ObjectPath::new(name).map_err(VaultError::from)?, &bytes)?;
    }
    Ok(true)
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
