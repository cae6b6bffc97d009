//! A vault that is kept open for long and used now and then. Between its uses it does not count as in use, so that a prune
//! can be alone; its key need not be asked for again.

use std::ops::Deref;

use super::{Vault, VaultError};
use crate::ids::VaultId;
use crate::store::StoreError;

/// A vault that is open and not in use.
#[derive(Debug)]
pub struct IdleVault {
    vault: Vault,
}

impl IdleVault {
    /// Nobody may hold readers or writers of `vault` any more.
    #[must_use]
    pub fn new(vault: Vault) -> Self {
        if let Some(in_use) = &vault.core().in_use {
            in_use.leave();
        }
        Self { vault }
    }

    /// Identity of the vault.
    #[must_use]
    pub fn id(&self) -> VaultId {
        self.vault.id()
    }

    /// The vault, in use until what is returned is dropped. What it remembers of index and packs may be out of date, as
    /// that of a process that starts with a cache is: every operation brings it up to date first.
    ///
    /// # Errors
    /// The operating system does not let it be marked as in use.
    pub fn enter(&mut self) -> Result<Visit<'_>, VaultError> {
        let entered = self.vault.core().in_use.as_ref().is_none_or(crate::store::InUse::share);
        if entered {
            Ok(Visit { vault: &self.vault })
        } else {
            let (path, operation) = (self.vault.place(), "lock");
            Err(StoreError::PermissionDenied { path, operation }.into())
        }
    }
}

/// An [`IdleVault`] while it is used.
#[derive(Debug)]
pub struct Visit<'v> {
    vault: &'v Vault,
}

impl Deref for Visit<'_> {
    type Target = Vault;

    fn deref(&self) -> &Vault {
        self.vault
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if let Some(in_use) = &self.vault.core().in_use {
            in_use.leave();
        }
    }
}
