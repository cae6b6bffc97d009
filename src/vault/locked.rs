//! Finding a vault and unlocking it. Config and slots lie there twice and can be changed by whoever can write to the
//! store; only the key tells which copies are genuine, so each is tried before a vault is given up.

use std::ops::ControlFlow;

use super::error::VaultError;
use super::layout::Place;
use super::slots::{self, SlotSource, Slots};
use super::{LocalFolders, Vault, layout};
use crate::crypto::keys::{Keyring, VaultKeys};
use crate::crypto::unlock::Unlocker;
use crate::format::limits;
use crate::format::vault_config::VaultConfig;
use crate::ids::VaultId;
use crate::store::{ObjectPath, Store, StoreError};

/// A vault that was found and is not unlocked yet.
#[derive(Debug)]
pub struct LockedVault {
    store: Box<dyn Store>,
    /// What can be read of the two copies of the config: one, unless they differ.
    configs: Vec<ConfigSource>,
    id: VaultId,
    slots: Slots,
    warnings: Vec<String>,
}

/// A readable config, which may be forged.
#[derive(Debug)]
struct ConfigSource {
    name: &'static str,
    bytes: Vec<u8>,
    vault: VaultId,
}

impl LockedVault {
    /// Finds the vault in `store`.
    ///
    /// # Errors
    /// There is none, both copies of its config are damaged, or a newer version wrote it.
    pub fn find(store: Box<dyn Store>) -> Result<Self, VaultError> {
        let mut warnings = Vec::new();
        let (first, second) = read_configs(&*store, &mut warnings)?;
        let id = first.vault;
        let configs: Vec<ConfigSource> = std::iter::once(first).chain(second).collect();
        let vaults: Vec<VaultId> = configs.iter().map(|config| config.vault).collect();
        let mut slots = slots::read_all(&*store, &vaults)?;
        warnings.append(&mut slots.warnings);
        Ok(Self { store, configs, id, slots, warnings })
    }

    /// Identity of the vault.
    #[must_use]
    pub const fn id(&self) -> VaultId {
        self.id
    }

    /// What was noticed so far: damaged copies, and slots of which no copy is whole.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The key slots that can be read, the cheapest first: what a hostile store adds must not delay the owner's.
    #[must_use]
    pub fn slots(&self) -> &[SlotSource] {
        &self.slots.readable
    }

    /// Unlocks the vault.
    ///
    /// # Errors
    /// No slot opens with this, or both copies of the vault's config were changed by somebody without the key.
    pub fn unlock(mut self, unlocker: &Unlocker, folders: &LocalFolders) -> Result<Vault, VaultError> {
        let mut failure = None;
        let slots = std::mem::take(&mut self.slots);
        let fitting = slots.readable.iter().filter(|source| source.slot.kind == unlocker.kind());
        let mut tried = 0;
        for source in fitting.take(limits::SLOTS) {
            tried += 1;
            match unlocker.open(&source.slot) {
                Ok(Some(keyring)) => match self.authentic(source.slot.vault, &keyring) {
                    Ok((keys, bytes)) => {
                        let mut vault = Vault::assemble(self.store, keys, &bytes, folders)?;
                        vault.warnings = self.warnings;
                        vault.unlocked_by = Some(source.slot.id);
                        return Ok(vault);
                    }
                    Err(error) => failure = failure.or(Some(error)),
                },
                Ok(None) => {}
                // One slot that is damaged behind its commitment, or too costly here, does not lock the others out.
                Err(error) => {
                    let error = VaultError::of_object(&source.path, error);
                    self.warnings.push(error.to_string());
                    failure = failure.or(Some(error));
                }
            }
        }
        // That a key is wrong can be said only where the slot it may be for was read.
        let unread =
            slots.unreadable.into_iter().find(|error| tried == 0 || matches!(error, VaultError::Store(_)));
        let (place, given) = (self.store.describe(), unlocker.kind().name());
        let nothing = if slots.readable.is_empty() {
            VaultError::NoSlots { place }
        } else {
            VaultError::WrongKey { place, given }
        };
        Err(failure.or(unread).unwrap_or(nothing))
    }

    /// The keys of `vault`, and the first copy of its config that was written by somebody who had them.
    fn authentic(&mut self, vault: VaultId, keyring: &Keyring) -> Result<(VaultKeys, Vec<u8>), VaultError> {
        let keys = VaultKeys::new(vault, keyring.clone())?;
        let mut failure = None;
        for config in &self.configs {
            let verdict = if config.vault == vault {
                VaultConfig::decode(&config.bytes, Some(&|bytes| keys.config_mac(bytes)))
                    .map_err(|error| VaultError::of_object(config.name, error.into()))
            } else {
                let why = "it is the config of another vault".to_owned();
                Err(VaultError::Damaged { object: config.name.to_owned(), why })
            };
            match verdict {
                Ok(_) => {
                    self.warnings.extend(failure.map(|error: VaultError| error.to_string()));
                    return Ok((keys, config.bytes.clone()));
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let nothing = || VaultError::NotAVault { place: self.store.describe() };
        Err(failure.unwrap_or_else(nothing))
    }
}

/// The readable copies of the config, if they differ both. One that cannot be read becomes a warning, also where it
/// claims to be of a newer version: a single changed byte says that as well.
fn read_configs(
    store: &dyn Store,
    warnings: &mut Vec<String>,
) -> Result<(ConfigSource, Option<ConfigSource>), VaultError> {
    let copies = (read_config(store, layout::CONFIG), read_config(store, layout::CONFIG_COPY));
    match copies {
        (Ok(first), Ok(second)) => {
            let differs = first.bytes != second.bytes;
            if differs {
                warnings.push(format!("{} and {} differ", first.name, second.name));
            }
            Ok((first, differs.then_some(second)))
        }
        (Ok(only), Err(error)) | (Err(error), Ok(only)) => {
            warnings.push(format!("{error}; {} is used", only.name));
            Ok((only, None))
        }
        (Err(first), Err(second)) => Err(match (first, second) {
            (
                VaultError::Store(StoreError::NotFound { .. }),
                VaultError::Store(StoreError::NotFound { .. }),
            ) if holds_objects(store) => VaultError::ConfigLost { place: store.describe() },
            (
                VaultError::Store(StoreError::NotFound { .. }),
                VaultError::Store(StoreError::NotFound { .. }),
            ) => VaultError::NotAVault { place: store.describe() },
            (VaultError::Store(StoreError::NotFound { .. }), other) | (other, _) => other,
        }),
    }
}

/// Whether more of a vault is there than an initialisation that was cut off leaves.
fn holds_objects(store: &dyn Store) -> bool {
    let mut found = false;
    let listed = store.list("", &mut |meta| {
        found = Place::of(&meta.path).name().is_some();
        if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    listed.is_ok() && found
}

fn read_config(store: &dyn Store, name: &'static str) -> Result<ConfigSource, VaultError> {
    let bytes = store.get(&ObjectPath::new(name)?, limits::CONTROL_OBJECT)?;
    match VaultConfig::decode(&bytes, None) {
        Ok(config) => Ok(ConfigSource { name, bytes, vault: config.vault }),
        Err(error) => Err(VaultError::of_object(name, error.into())),
    }
}
