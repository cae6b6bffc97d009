//! What is on either side, and what is to be done about the difference.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use super::{SyncReport, Tally, layout};
use crate::error::{Error, ErrorKind, Result};
use crate::format::keyslot::KeySlot;
use crate::format::limits;
use crate::format::vault_config::VaultConfig;
use crate::ids::VaultId;
use crate::store::{ObjectPath, Store, StoreError};
use crate::vault::VaultError;
use crate::vault::layout::Place;

/// The parts of a vault in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Key slots and vault config: with them the destination is a vault, if an empty one.
    Control,
    Packs,
    Index,
    Snapshots,
    Log,
}

impl Stage {
    pub(super) const ALL: [Self; 5] = [Self::Control, Self::Packs, Self::Index, Self::Snapshots, Self::Log];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Control => "keys",
            Self::Packs => "packs",
            Self::Index => "index",
            Self::Snapshots => "snapshots",
            Self::Log => "log",
        }
    }

    /// What of a vault has a place that sync knows; whatever else lies there is left alone.
    fn of(path: &ObjectPath) -> Option<Self> {
        match Place::of(path) {
            Place::Config | Place::Slot(_) => Some(Self::Control),
            Place::Pack(_) => Some(Self::Packs),
            Place::Index(_) => Some(Self::Index),
            Place::Snapshots(_) => Some(Self::Snapshots),
            Place::Log(_) => Some(Self::Log),
            Place::Other if path.as_str() == layout::GITIGNORE => Some(Self::Control),
            Place::Other => None,
        }
    }
}

/// Objects of a vault with their sizes.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    sizes: BTreeMap<Stage, BTreeMap<ObjectPath, u64>>,
    /// What the service says of them, where it does.
    md5s: HashMap<ObjectPath, [u8; 16]>,
}

impl Inventory {
    /// Lists in the reverse of the order of writing, so that whatever a listed object needs is listed as well.
    pub(super) fn of(store: &dyn Store) -> Result<Self> {
        let mut inventory = Self::default();
        let folders = [layout::LOG, layout::SNAPSHOTS, layout::INDEX, layout::PACKS, layout::KEYS];
        for folder in folders {
            store.list(folder, &mut |meta| {
                if let Some(stage) = Stage::of(&meta.path) {
                    inventory.md5s.extend(meta.md5.map(|md5| (meta.path.clone(), md5)));
                    inventory.sizes.entry(stage).or_default().insert(meta.path, meta.size);
                }
                ControlFlow::Continue(())
            })?;
        }
        for name in [layout::CONFIG, layout::CONFIG_COPY, layout::GITIGNORE] {
            let path = ObjectPath::new(name)?;
            match store.size(&path) {
                Ok(size) => drop(inventory.sizes.entry(Stage::Control).or_default().insert(path, size)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(inventory)
    }

    pub(super) fn stage(&self, stage: Stage) -> impl Iterator<Item = (&ObjectPath, u64)> {
        self.sizes.get(&stage).into_iter().flatten().map(|(path, size)| (path, *size))
    }

    fn size(&self, stage: Stage, path: &ObjectPath) -> Option<u64> {
        self.sizes.get(&stage)?.get(path).copied()
    }

    pub(super) fn md5(&self, path: &ObjectPath) -> Option<[u8; 16]> {
        self.md5s.get(path).copied()
    }

    pub(super) fn tally(&self, stage: Stage) -> Tally {
        self.stage(stage).map(|(_, size)| size).collect()
    }
}

/// An object to be copied.
#[derive(Debug, Clone)]
pub(super) struct Missing {
    pub(super) path: ObjectPath,
    pub(super) size: u64,
    /// One of that path is there with another size: damaged, for objects never change.
    pub(super) replaces: bool,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// To be copied, stage by stage.
    pub(super) missing: Vec<(Stage, Vec<Missing>)>,
    /// There already, and of the right size.
    pub(super) present: Tally,
    /// At the destination only, in the order in which it may be deleted.
    pub(super) superfluous: Vec<(Stage, ObjectPath, u64)>,
}

impl Plan {
    pub(super) fn new(ours: &Inventory, theirs: &Inventory) -> Self {
        let mut plan = Self { missing: Vec::new(), present: Tally::default(), superfluous: Vec::new() };
        for stage in Stage::ALL {
            let mut missing = Vec::new();
            for (path, size) in ours.stage(stage) {
                let there = theirs.size(stage, path);
                if there == Some(size) {
                    plan.present.add(size);
                } else {
                    missing.push(Missing { path: path.clone(), size, replaces: there.is_some() });
                }
            }
            if stage == Stage::Control {
                // As a vault is made: slots, then the config, which says that it is one.
                missing.sort_by_key(|object| (control_rank(&object.path), object.path.clone()));
            }
            plan.missing.push((stage, missing));
        }
        for stage in Stage::ALL.into_iter().rev() {
            let mut superfluous: Vec<_> = theirs
                .stage(stage)
                .filter(|(path, _)| ours.size(stage, path).is_none() && control_rank(path) == 0)
                .map(|(path, size)| (stage, path.clone(), size))
                .collect();
            // The second copy of a key slot goes before the first.
            superfluous.reverse();
            plan.superfluous.append(&mut superfluous);
        }
        plan
    }

    /// Refuses to delete a great part of a copy: rather the source has lost something, or is not what was meant.
    pub(super) fn guard(&self, theirs: &Inventory, max_percent: f64) -> Result<()> {
        let gone = |stage| {
            self.superfluous.iter().filter(|(of, ..)| *of == stage).map(|(.., size)| *size).collect::<Tally>()
        };
        let (snapshots, all_snapshots) = (gone(Stage::Snapshots), theirs.tally(Stage::Snapshots));
        let (packs, all_packs) = (gone(Stage::Packs), theirs.tally(Stage::Packs));
        let shares = [
            ("snapshots objects", snapshots.objects, all_snapshots.objects),
            ("bytes in packs", packs.bytes, all_packs.bytes),
        ];
        for (what, part, all) in shares {
            if is_more_than(part, all, max_percent) {
                let message = format!(
                    "would delete {part} of the {all} {what} at the destination, more than {max_percent} %"
                );
                return Err(Error::new(ErrorKind::Refused, message).with_hint(
                    "look at both with `pagevault list`; --max-delete 100% allows it, without --delete nothing goes",
                ));
            }
        }
        Ok(())
    }

    /// What would be done.
    pub(super) fn describe_into(&self, report: &mut SyncReport, delete: bool) {
        for object in self.missing.iter().flat_map(|(_, objects)| objects) {
            let tally = if object.replaces { &mut report.replaced } else { &mut report.copied };
            tally.add(object.size);
        }
        let superfluous = self.superfluous.iter().map(|(.., size)| *size).collect();
        *(if delete { &mut report.deleted } else { &mut report.kept }) = superfluous;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn is_more_than(part: u64, all: u64, percent: f64) -> bool {
    part as f64 * 100.0 > all as f64 * percent
}

/// Slots come first, then what makes a folder a vault, the config itself last. Only slots are ever deleted.
fn control_rank(path: &ObjectPath) -> u8 {
    match path.as_str() {
        layout::GITIGNORE => 1,
        layout::CONFIG_COPY => 2,
        layout::CONFIG => 3,
        _ => 0,
    }
}

/// The vault in a store, told without its key.
///
/// # Errors
/// There is none, or its config is damaged.
pub fn identity(store: &dyn Store) -> Result<VaultId> {
    let not_a_vault = || VaultError::NotAVault { place: store.describe() };
    find_identity(store)?.ok_or_else(|| not_a_vault().into())
}

/// As [`identity`]; `None` if neither copy of a config is there.
fn find_identity(store: &dyn Store) -> Result<Option<VaultId>> {
    let mut found = None;
    let mut failure = None;
    for name in [layout::CONFIG, layout::CONFIG_COPY] {
        match read_config(store, name) {
            Ok(id) => match found {
                Some(other) if other != id => {
                    let (one, two) = (layout::CONFIG, layout::CONFIG_COPY);
                    let message = format!("{one} and {two} in {} are of different vaults", store.describe());
                    return Err(Error::new(ErrorKind::Damage, message)
                        .with_hint("`pagevault check` with the key tells which of them is genuine"));
                }
                _ => found = Some(id),
            },
            Err(VaultError::Store(StoreError::NotFound { .. })) => {}
            Err(error) => failure = Some(error),
        }
    }
    match (found, failure) {
        (None, Some(error)) => Err(error.into()),
        (found, _) => Ok(found),
    }
}

fn read_config(store: &dyn Store, name: &'static str) -> Result<VaultId, VaultError> {
    let bytes = store.get(&ObjectPath::new(name)?, limits::CONTROL_OBJECT)?;
    let config = VaultConfig::decode(&bytes, None);
    Ok(config.map_err(|error| VaultError::of_object(name, error.into()))?.vault)
}

/// A destination holds the same vault, the beginning of a copy of it, or nothing at all.
pub(super) fn refuse_another_vault(destination: &dyn Store, vault: VaultId) -> Result<()> {
    let refused = |message: String| {
        Err(Error::new(ErrorKind::Refused, message)
            .with_hint("name an empty or new place, or a copy of this vault"))
    };
    let place = destination.describe();
    match find_identity(destination)? {
        Some(other) if other == vault => return Ok(()),
        Some(other) => return refused(format!("{place} holds another vault, {other}")),
        None => {}
    }
    let mut foreign = None;
    let mut slots = Vec::new();
    destination.list("", &mut |meta| {
        match Place::of(&meta.path) {
            Place::Slot(_) => slots.push(meta.path),
            Place::Other if meta.path.as_str() == layout::GITIGNORE => {}
            _ => foreign = Some(meta.path),
        }
        if foreign.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    for path in slots {
        let bytes = destination.get(&path, limits::CONTROL_OBJECT)?;
        // One that cannot be read was cut off while it was copied to a store that shows half of an object.
        if KeySlot::decode(&bytes).is_ok_and(|slot| slot.vault != vault) {
            foreign = Some(path);
        }
    }
    foreign.map_or(Ok(()), |path| refused(format!("{place} is not empty and no vault: it holds {path}")))
}
