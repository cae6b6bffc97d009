//! Making a vault so that a failure leaves nothing behind, and two that are made at once do not mix.
//!
//! The place is reserved first: its folder is made and locked, and must be empty. Only then a key is asked for
//! or made, and only when that is durable, the vault. A reservation that comes to nothing removes what it made.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use jiff::Timestamp;
use pagevault::crypto::unlock::Unlocker;
use pagevault::format::keyslot::Argon2Params;
use pagevault::store::{LocalStore, Store};
use pagevault::vault::{LocalFolders, Vault, VaultError, layout};
use pagevault::{Error, ErrorKind, Result};

/// Cost of Argon2id for new slots on this machine.
pub(crate) fn argon2_params() -> Argon2Params {
    Argon2Params::recommended(available_parallelism().map_or(1, usize::from))
}

/// An empty folder for a vault, ours as long as this lives.
#[derive(Debug)]
pub(crate) struct Reservation {
    place: PathBuf,
    /// Folders that were not there before, the innermost first.
    made: Vec<PathBuf>,
    /// The folder, locked. `None` on file systems without locks: there, nothing inside is ever removed.
    lock: Option<File>,
    empty: bool,
    done: bool,
}

impl Reservation {
    /// Reserves `place`, where there must be no vault.
    pub(crate) fn take(place: &Path) -> Result<Self> {
        let exists = || VaultError::Exists { place: place.display().to_string() };
        Self::take_unless_vault(place)?.ok_or_else(|| exists().into())
    }

    /// Reserves `place`; `None` if there is a vault. While another process makes one, this waits for it.
    pub(crate) fn take_unless_vault(place: &Path) -> Result<Option<Self>> {
        if place.metadata().is_ok_and(|metadata| !metadata.is_dir()) {
            let message = format!("{} is a file, not a folder", place.display());
            return Err(Error::new(ErrorKind::Refused, message).with_hint("choose an empty or new folder"));
        }
        let made = place.ancestors().take_while(|folder| !folder.exists()).map(Path::to_path_buf).collect();
        let mut reservation =
            Self { place: place.to_path_buf(), made, lock: None, empty: false, done: false };
        let store = LocalStore::create(place)?;
        reservation.lock = File::open(place).ok().filter(|folder| folder.lock().is_ok());
        if holds_vault(place) {
            return Ok(None);
        }
        if !store.is_empty()? {
            return Err(VaultError::NotEmpty { place: store.describe() }.into());
        }
        reservation.empty = true;
        Ok(Some(reservation))
    }

    /// The folder.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Makes the vault, with one key slot.
    pub(crate) fn create(
        mut self,
        unlocker: &Unlocker,
        label: Option<String>,
        now: Timestamp,
        folders: &LocalFolders,
    ) -> Result<Vault> {
        let store = LocalStore::open(&self.place)?;
        let vault = Vault::create(Box::new(store), unlocker, argon2_params(), label, now, folders)?;
        self.done = true;
        Ok(vault)
    }

    fn remove_vault(&self) {
        for name in [layout::CONFIG, layout::CONFIG_COPY, layout::GITIGNORE] {
            let _ = std::fs::remove_file(self.place.join(name));
        }
        for name in [layout::KEYS, layout::LOG] {
            let _ = std::fs::remove_dir_all(self.place.join(name));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if self.empty && self.lock.is_some() {
            self.remove_vault();
        }
        for folder in &self.made {
            // Fails where somebody else has put something into it, as it should.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Whether there is a vault in `folder`, whole or not.
pub(crate) fn holds_vault(folder: &Path) -> bool {
    [layout::CONFIG, layout::CONFIG_COPY].iter().any(|name| folder.join(name).exists())
}

#[cfg(test)]
mod tests {
    use pagevault::crypto::secret::Secret32;

    use super::*;

    fn key() -> Unlocker {
        Unlocker::KeyFile(Secret32::new([1; 32]))
    }

    #[test]
    fn a_reservation_that_comes_to_nothing_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a/b/vault");
        drop(Reservation::take(&place).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        std::fs::create_dir_all(&place).unwrap();
        drop(Reservation::take(&place).unwrap());
        assert!(place.exists());
    }

    #[test]
    fn what_is_there_is_refused_and_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        std::fs::write(&file, "precious").unwrap();
        for place in [folder.path(), file.as_path()] {
            assert_eq!(Reservation::take(place).unwrap_err().kind(), ErrorKind::Refused);
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    }

    #[test]
    fn a_vault_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("vault");
        let reservation = Reservation::take(&place).unwrap();
        let made = reservation.create(&key(), None, Timestamp::UNIX_EPOCH, &LocalFolders::default());
        assert_eq!(made.unwrap().slots().unwrap().len(), 1);
        let error = Reservation::take(&place).unwrap_err();
        assert!(error.to_string().contains("already holds a vault"), "{error}");
    }
}
