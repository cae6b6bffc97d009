//! Packs: which are whole, what of the others can be saved, and which the index objects have to learn or to forget.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::needs::Losses;
use super::plan::{Planner, packs_of, why};
use super::view::Source;
use crate::crypto::seal::{RecordOpener, open_directory};
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::{Header, ObjectKind};
use crate::format::index::{Index, PackEntry};
use crate::format::limits;
use crate::ids::ObjectName;
use crate::operations::check::listing;
use crate::operations::check::promises::Promises;
use crate::store::{ObjectMeta, ObjectPath, StoreError};
use crate::vault::index::located;
use crate::vault::log::History;
use crate::vault::quarantine;
use crate::vault::{Vault, VaultError, layout, read_named};

/// Records that are whole in a pack that is not.
#[derive(Debug)]
pub(super) struct Salvage {
    /// Where the pack's bytes are.
    pub(super) place: ObjectPath,
    /// What was in it.
    pub(super) entry: PackEntry,
    /// The numbers of the records that open.
    pub(super) numbers: Vec<u32>,
}

/// What was found of the packs.
#[derive(Debug, Default)]
pub(super) struct Packs {
    pub(super) losses: Losses,
    /// Packs that index objects name and that will not be there.
    dropped: HashSet<ObjectName>,
    /// Index objects that say of a pack what is not true.
    liars: BTreeSet<ObjectName>,
}

impl Packs {
    /// Looks at all packs; what can be put back whole is.
    pub(super) fn survey(planner: &mut Planner<'_>, history: &History) -> Result<Self> {
        let mut packs = Self::default();
        let objects = listing(planner.vault.store())?;
        let present = packs_of(&objects);
        let named: HashMap<ObjectName, u64> = planner.seen.index().packs()?.into_iter().collect();
        let promises = Promises::read(&planner.seen)?;
        let mut bad = Vec::new();
        for (name, len) in sorted(&named) {
            match present.get(&name) {
                None => bad.push((name, "it is missing".to_owned())),
                Some(meta) if meta.size != len => {
                    bad.push((name, format!("it has {} bytes instead of {len}", meta.size)));
                }
                Some(_) => {}
            }
        }
        let mut unknown = Index::default();
        let read: Vec<(ObjectName, &ObjectMeta)> = sorted(&present)
            .into_iter()
            .filter(|(name, _)| !bad.iter().any(|(other, _)| other == name))
            .filter(|(name, _)| planner.request.read_data || !named.contains_key(name))
            // One that no index names because a prune is about to delete it is not to be named again.
            .filter(|(name, _)| named.contains_key(name) || !history.condemned.contains_key(name))
            .collect();
        planner.monitor.begin("repair", "packs", read.iter().map(|(_, meta)| meta.size).sum());
        for (name, meta) in read {
            if planner.monitor.interrupted() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            match entry_of(planner.vault, &meta.path, name) {
                Ok(entry) if named.contains_key(&name) => {
                    packs.liars.extend(promises.broken(name, &entry.header, &entry.directory)?);
                }
                Ok(entry) => packs.unnamed(planner, &meta.path, entry, &mut unknown),
                Err(VaultError::Newer { .. }) => {}
                Err(error @ VaultError::Store(StoreError::PermissionDenied { .. })) => {
                    return Err(error.into());
                }
                Err(error) if named.contains_key(&name) => bad.push((name, why(&error))),
                Err(error) => packs.stray(planner, name, &meta.path, &error, &mut unknown),
            }
            planner.monitor.advance(meta.size);
        }
        planner.monitor.finish();
        // Known to the view alone: the plan is made as if they were written.
        planner.seen.index().add(ObjectName([0; 32]), &unknown)?;
        let mut entries = entries_of(&planner.seen, &bad.iter().map(|(name, _)| *name).collect())?;
        for (name, why) in bad {
            let is_there = present.contains_key(&name);
            packs.damaged(planner, name, is_there, &why, &entries.remove(&name).unwrap_or_default())?;
        }
        Ok(packs)
    }

    /// A pack that no index object names. Its name alone proves nothing: anybody can give a file the name that its bytes
    /// hash to, so every record must open.
    fn unnamed(
        &mut self,
        planner: &mut Planner<'_>,
        path: &ObjectPath,
        entry: PackEntry,
        unknown: &mut Index,
    ) {
        let numbers = readable(planner.vault, path, &entry);
        if numbers.len() == entry.directory.records().len() {
            planner.step("rebuild", path, "no index object names it");
            planner.plan.work.reindex.push(entry.name);
        } else {
            self.losses.packs.insert(entry.name, numbers.iter().copied().collect());
            self.salvage(planner, entry.name, path, entry.clone(), numbers);
            planner.step("quarantine", path, "not all of its records open");
            planner.plan.work.aside.push(path.clone());
        }
        unknown.packs.push(entry);
    }

    /// A damaged pack that no index object names: its own directory may still be readable.
    fn stray(
        &mut self,
        planner: &mut Planner<'_>,
        name: ObjectName,
        path: &ObjectPath,
        error: &VaultError,
        unknown: &mut Index,
    ) {
        let bytes = planner.vault.store().get(path, limits::OBJECT).unwrap_or_default();
        if let Ok(entry) = entry_in(planner.vault, &bytes, name) {
            let numbers = readable(planner.vault, path, &entry);
            self.losses.packs.insert(name, numbers.iter().copied().collect());
            self.salvage(planner, name, path, entry.clone(), numbers);
            // As if it were there still: what opens in it will be elsewhere.
            unknown.packs.push(entry);
        }
        planner.step("quarantine", path, why(error));
        planner.plan.work.aside.push(path.clone());
    }

    /// A pack that an index object names and that is not as it was.
    fn damaged(
        &mut self,
        planner: &mut Planner<'_>,
        name: ObjectName,
        is_there: bool,
        why: &str,
        entries: &[PackEntry],
    ) -> Result<()> {
        let path = layout::object_path(ObjectKind::PagePack, name).map_err(VaultError::from)?;
        if planner.is_whole_in_copy(&path, name) {
            planner.put_back(&path, Source::Copy, name, why);
            return Ok(());
        }
        let aside = quarantine::forms_of(planner.vault.store(), &path)?;
        for place in &aside {
            let bytes = planner.vault.store().get(place, limits::OBJECT);
            if bytes.is_ok_and(|bytes| ObjectName::of(&bytes) == name) {
                planner.put_back(&path, Source::Own(place.clone()), name, why);
                return Ok(());
            }
        }
        if entries.is_empty() {
            // An index object named it a moment ago: without that, nobody would know what to save of it.
            self.losses.packs.insert(name, HashSet::new());
            planner.plan.beyond_repair.push(format!(
                "{path} is left as it is: no index object can be read just now that says what is in it"
            ));
            return Ok(());
        }
        let mut best: Option<(ObjectPath, PackEntry, Vec<u32>)> = None;
        for place in is_there.then(|| path.clone()).into_iter().chain(aside) {
            for entry in entries {
                let numbers = readable(planner.vault, &place, entry);
                if best.as_ref().is_none_or(|(.., known)| known.len() < numbers.len()) {
                    best = Some((place.clone(), entry.clone(), numbers));
                }
            }
        }
        let numbers =
            best.as_ref().map_or_else(HashSet::new, |(.., numbers)| numbers.iter().copied().collect());
        self.losses.packs.insert(name, numbers);
        self.dropped.insert(name);
        if let Some((place, entry, numbers)) = best {
            if place != path {
                planner.view.redirect(&path, Source::Own(place.clone()));
            }
            self.salvage(planner, name, &place, entry, numbers);
        }
        if is_there {
            planner.step("quarantine", &path, why);
            planner.plan.work.aside.push(path);
        }
        Ok(())
    }

    fn salvage(
        &mut self,
        planner: &mut Planner<'_>,
        name: ObjectName,
        place: &ObjectPath,
        entry: PackEntry,
        numbers: Vec<u32>,
    ) {
        self.dropped.insert(name);
        if !numbers.is_empty() {
            let detail =
                format!("{} of its {} records are whole", numbers.len(), entry.directory.records().len());
            planner.step("rescue", place, detail);
            planner.plan.work.salvage.push(Salvage { place: place.clone(), entry, numbers });
        }
    }

    /// Which index objects have to be written anew.
    pub(super) fn finish(self, planner: &mut Planner<'_>) -> Result<()> {
        let liars = self.liars;
        let mut rewrite = liars.clone();
        if !self.dropped.is_empty() {
            for (name, index) in index_objects(&planner.seen)? {
                if index.packs.iter().any(|pack| self.dropped.contains(&pack.name)) {
                    rewrite.insert(name);
                }
            }
        }
        for name in &rewrite {
            let path = layout::object_path(ObjectKind::Index, *name).map_err(VaultError::from)?;
            planner.step(
                "rebuild",
                &path,
                "it names packs that are damaged or gone, or says what is not true of them",
            );
            planner.plan.work.aside.push(path);
        }
        planner.plan.work.rewrite = rewrite;
        planner.plan.work.liars = liars;
        planner.plan.work.dropped = self.dropped;
        Ok(())
    }
}

fn sorted<T: Copy>(packs: &HashMap<ObjectName, T>) -> Vec<(ObjectName, T)> {
    let mut sorted: Vec<_> = packs.iter().map(|(name, value)| (*name, *value)).collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    sorted
}

/// Reads a whole pack: what an index says of it.
pub(super) fn entry_of(vault: &Vault, path: &ObjectPath, name: ObjectName) -> Result<PackEntry, VaultError> {
    let bytes = persistently(|| read_named(vault.store(), path, name))?;
    entry_in(vault, &bytes, name).map_err(|error| VaultError::of_object(path, error))
}

fn entry_in(vault: &Vault, bytes: &[u8], name: ObjectName) -> Result<PackEntry, crate::crypto::CryptoError> {
    let (_, directory) = open_directory(&vault.core().keys, bytes)?;
    let (_, header_len) = Header::decode(bytes)?;
    let header = bytes[..header_len].to_vec();
    Ok(PackEntry { name, object_len: bytes.len() as u64, header, directory })
}

/// What is read badly once is no damage: three times is.
fn persistently<T>(mut read: impl FnMut() -> Result<T, VaultError>) -> Result<T, VaultError> {
    let mut last = read();
    for _ in 0..2 {
        if last.is_ok() || matches!(last, Err(VaultError::Store(StoreError::NotFound { .. }))) {
            break;
        }
        last = read();
    }
    last
}

/// The records of a pack that open, going by what an index says of it.
fn readable(vault: &Vault, place: &ObjectPath, entry: &PackEntry) -> Vec<u32> {
    let Ok(opener) = RecordOpener::new(&vault.core().keys, &entry.header) else { return Vec::new() };
    let mut sealed = Vec::new();
    let mut numbers = Vec::new();
    for (number, offset, record) in located(entry) {
        sealed.resize(record.stored_len as usize, 0);
        let read = persistently(|| Ok(vault.store().read_range(place, offset, &mut sealed)?));
        if read.is_ok() && opener.open(record, number, &mut sealed).is_ok() {
            numbers.push(number);
        }
    }
    numbers
}

/// The index objects that can be read, one after the other.
pub(super) fn index_objects(
    vault: &Vault,
) -> Result<impl Iterator<Item = (ObjectName, Index)> + '_, VaultError> {
    let names = vault.core().names(layout::INDEX)?;
    Ok(names.into_iter().filter_map(|(name, _)| {
        let (_, body) = vault.core().read_object(ObjectKind::Index, name).ok()?;
        Some((name, Index::decode(&body).ok()?))
    }))
}

/// What index objects say of some packs.
fn entries_of(
    vault: &Vault,
    wanted: &HashSet<ObjectName>,
) -> Result<HashMap<ObjectName, Vec<PackEntry>>, VaultError> {
    let mut entries: HashMap<ObjectName, Vec<PackEntry>> = HashMap::new();
    if wanted.is_empty() {
        return Ok(entries);
    }
    for (_, index) in index_objects(vault)? {
        for pack in index.packs {
            let known = entries.entry(pack.name).or_default();
            if wanted.contains(&pack.name) && !known.contains(&pack) {
                known.push(pack);
            }
        }
    }
    Ok(entries)
}
