//! Input of all benches: a database of the project's workload, an "hour" of work on it, and a vault in memory.
//! The same arguments give the same bytes on every machine.

#![allow(dead_code, reason = "no bench uses all of it")]

#[path = "../../tests/workload/application/mod.rs"]
#[allow(dead_code, unused_imports)]
mod application;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pagevault::chunk::CHUNK_SIZE;
use pagevault::clock::FixedClock;
use pagevault::crypto::keys::{Keyring, VaultKeys};
use pagevault::crypto::secret::Secret32;
use pagevault::crypto::unlock::Unlocker;
use pagevault::format::keyslot::Argon2Params;
use pagevault::format::manifest::Kind;
use pagevault::ids::{HostId, VaultId};
use pagevault::monitor::Silent;
use pagevault::operations::snapshot::{Host, SnapshotReport, SnapshotRequest, snapshot};
use pagevault::store::{MemoryStore, Store};
use pagevault::vault::{LocalFolders, LockedVault, Vault};

use application::{BuildOptions, Journal};

/// Transactions of an "hour" for each million bytes of the database: the 1,000 on 500 MB of the comparison
/// with other tools, times ten, so that a small database has a change worth measuring.
const TRANSACTIONS_PER_MEGABYTE: u64 = 20;

/// A database in a folder of its own.
pub(crate) struct Database {
    folder: tempfile::TempDir,
    megabytes: u64,
}

impl Database {
    /// Builds one of about `megabytes` million bytes.
    pub(crate) fn build(megabytes: u32) -> Self {
        let database = Self { folder: tempfile::tempdir().unwrap(), megabytes: megabytes.into() };
        let options =
            BuildOptions { megabytes: megabytes.into(), journal: Journal::Wal, page_size: 4096, seed: 1 };
        application::build(&database.path(), &options).unwrap();
        database
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    /// A place beside it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Lets the application work on it for an "hour".
    pub(crate) fn churn(&self) {
        application::churn(&self.path(), self.megabytes * TRANSACTIONS_PER_MEGABYTE, 2).unwrap();
    }

    /// Its bytes.
    pub(crate) fn image(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }
}

/// Whole chunks of `image`.
pub(crate) fn chunks(image: &[u8]) -> Vec<&[u8]> {
    image.chunks_exact(CHUNK_SIZE).collect()
}

/// Pairs of old and new version of the chunks that differ between two images.
pub(crate) fn changed<'a>(old: &'a [u8], new: &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
    chunks(old).into_iter().zip(chunks(new)).filter(|(old, new)| old != new).collect()
}

/// Keys that are always the same.
pub(crate) fn keys() -> VaultKeys {
    VaultKeys::new(VaultId([1; 16]), Keyring::from_master_key(Secret32::new([2; 32]))).unwrap()
}

fn unlocker() -> Unlocker {
    Unlocker::KeyFile(Secret32::new([3; 32]))
}

/// A new vault in `store`.
pub(crate) fn create_vault(store: Box<dyn Store>) -> Vault {
    let argon2 = Argon2Params::recommended(1);
    Vault::create(store, &unlocker(), argon2, None, clock().0, &LocalFolders::default()).unwrap()
}

/// The vault in `store`, opened anew.
pub(crate) fn open_vault(store: Box<dyn Store>) -> Vault {
    open_vault_with(store, &LocalFolders::default())
}

/// As [`open_vault`], with folders on this machine.
pub(crate) fn open_vault_with(store: Box<dyn Store>, folders: &LocalFolders) -> Vault {
    LockedVault::find(store).unwrap().unlock(&unlocker(), folders).unwrap()
}

/// A new vault in memory, and its store.
pub(crate) fn memory_vault() -> (Vault, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    (create_vault(Box::new(Arc::clone(&store))), store)
}

/// The instant at which everything happens.
pub(crate) fn clock() -> FixedClock {
    FixedClock("2026-11-22T10:00:00Z".parse().unwrap())
}

/// A snapshot of the database at `path`.
pub(crate) fn take(vault: &Vault, path: &Path) -> SnapshotReport {
    let host = Host { id: HostId([7; 16]), name: None };
    let request = SnapshotRequest { kind: Kind::Automatic, ..SnapshotRequest::new([path], host) };
    let mut outcome = None;
    snapshot(vault, &request, &clock(), &Silent, &mut |_, result| outcome = Some(result.unwrap())).unwrap();
    outcome.unwrap()
}
