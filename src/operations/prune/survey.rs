//! What is stored: packs as the index objects themselves tell of them, past the cache, and packs that none names.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::interrupted;
use crate::error::Result;
use crate::format::envelope::ObjectKind;
use crate::format::index::Index;
use crate::ids::ObjectName;
use crate::monitor::Monitor;
use crate::vault::layout::{self, Place};
use crate::vault::{Vault, VaultError};

/// A pack that index objects name.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackFacts {
    pub(super) name: ObjectName,
    /// Bytes of the object.
    pub(super) object_len: u64,
    /// Bytes of its records.
    pub(super) stored_len: u64,
    pub(super) is_pages: bool,
    pub(super) epoch: u32,
}

/// What is stored.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) packs: BTreeMap<ObjectName, PackFacts>,
    /// Packs that no index object names: their sizes, and whether they are so old that no run can be at work on them.
    pub(super) unnamed: Vec<(ObjectName, u64, bool)>,
    /// Index objects and their sizes.
    pub(super) indexes: Vec<(ObjectName, u64)>,
}

/// Reads an index object from the vault.
pub(super) fn read_index(vault: &Vault, name: ObjectName) -> Result<Index, VaultError> {
    let (_, body) = vault.core().read_object(ObjectKind::Index, name)?;
    Index::decode(&body)
        .map_err(|error| VaultError::of_object(format!("{}/{name}", layout::INDEX), error.into()))
}

/// Looks at what is stored.
pub(super) fn survey(vault: &Vault, monitor: &dyn Monitor) -> Result<Survey> {
    let mut survey = Survey::default();
    // The packs first: one that appears while index objects are read is then none that nobody names.
    let present = present(vault)?;
    for (name, size) in vault.core().names(layout::INDEX)? {
        if monitor.interrupted() {
            return Err(interrupted());
        }
        let index = match read_index(vault, name) {
            Err(error) if error.is_of_ignorable_kind() => continue,
            // Replaced meanwhile by another prune: its successor was listed, or this plan will not be carried out.
            Err(VaultError::Store(error)) if error.is_not_found() => continue,
            read => read?,
        };
        survey.indexes.push((name, size));
        for pack in index.packs {
            let header = pack.decoded_header().map_err(VaultError::from)?;
            let facts = PackFacts {
                name: pack.name,
                object_len: pack.object_len,
                stored_len: pack.directory.stored_len(),
                is_pages: header.kind == ObjectKind::PagePack,
                epoch: header.epoch,
            };
            survey.packs.insert(pack.name, facts);
        }
    }
    let unnamed = present.iter().filter(|(name, _)| !survey.packs.contains_key(*name));
    survey.unnamed = unnamed.map(|(name, (size, is_old))| (*name, *size, *is_old)).collect();
    // What an index names and is not there is no pack that could be freed.
    survey.packs.retain(|name, _| present.contains_key(name));
    Ok(survey)
}

/// The packs that are there, with their sizes, and whether they are old by the store's own clock.
pub(super) fn present(vault: &Vault) -> Result<BTreeMap<ObjectName, (u64, bool)>, VaultError> {
    let mut newest = None;
    let mut found = BTreeMap::new();
    vault.store().list(layout::PACKS, &mut |meta| {
        if let Place::Pack(name) = Place::of(&meta.path) {
            newest = newest.max(meta.modified);
            found.insert(name, (meta.size, meta.modified));
        }
        ControlFlow::Continue(())
    })?;
    let old_before = newest.and_then(|newest| newest.checked_sub(super::WAIT).ok());
    let is_old = |modified: Option<jiff::Timestamp>| {
        modified.zip(old_before).is_some_and(|(modified, before)| modified < before)
    };
    Ok(found.into_iter().map(|(name, (size, modified))| (name, (size, is_old(modified)))).collect())
}
