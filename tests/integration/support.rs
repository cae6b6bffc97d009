//! What the tests share: a vault in memory or in a folder, databases, and the two main verbs in short.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use pagevault::clock::SystemClock;
use pagevault::crypto::secret::Secret32;
use pagevault::crypto::unlock::Unlocker;
use pagevault::error::Result;
use pagevault::format::keyslot::Argon2Params;
use pagevault::ids::HostId;
use pagevault::monitor::{Monitor, Silent};
use pagevault::operations::list::SnapshotSpec;
use pagevault::operations::restore::{RestoreReport, RestoreRequest, restore};
use pagevault::operations::restore_into::{LiveRestoreRequest, restore_into};
use pagevault::operations::snapshot::{Host, SnapshotReport, SnapshotRequest, snapshot};
use pagevault::store::{MemoryStore, Store};

use pagevault::vault::{LocalFolders, LockedVault, Vault};

/// The key that opens every test vault.
pub fn key() -> Unlocker {
    Unlocker::KeyFile(Secret32::new([0x42; 32]))
}

/// A new vault in `store`, without any folder on this machine.
pub fn create_vault(store: Box<dyn Store>) -> Vault {
    create_vault_with(store, &LocalFolders::default())
}

/// A new vault in `store`, whose client remembers what `folders` let it.
pub fn create_vault_with(store: Box<dyn Store>, folders: &LocalFolders) -> Vault {
    let argon2 = Argon2Params::recommended(1);
    Vault::create(store, &key(), argon2, None, Timestamp::now(), folders).unwrap()
}

/// The vault in `store`, opened anew: nothing is remembered from earlier.
pub fn open_vault(store: Box<dyn Store>) -> Result<Vault> {
    Ok(LockedVault::find(store)?.unlock(&key(), &LocalFolders::default())?)
}

/// A vault in memory, and the store to look into.
pub fn memory_vault() -> (Vault, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    (create_vault(Box::new(Arc::clone(&store))), store)
}

/// A manual snapshot of `databases` with nothing special.
pub fn request(databases: &[&Path]) -> SnapshotRequest {
    let host = Host { id: HostId([7; 16]), name: Some("test".to_owned()) };
    let request = SnapshotRequest::new(databases.iter().copied(), host);
    SnapshotRequest { busy_timeout: Duration::from_secs(10), ..request }
}

/// Carries out `request`; the outcome of each database, in the order they were settled.
pub fn run(vault: &Vault, request: &SnapshotRequest) -> Result<Vec<(PathBuf, Result<SnapshotReport>)>> {
    let mut outcomes = Vec::new();
    snapshot(vault, request, &SystemClock, &Silent, &mut |path, outcome| {
        outcomes.push((path.to_path_buf(), outcome));
    })?;
    Ok(outcomes)
}

/// One snapshot of one database.
pub fn take(vault: &Vault, database: &Path) -> Result<SnapshotReport> {
    run(vault, &request(&[database]))?.pop().expect("every database is reported").1
}

/// Restores the snapshot with this id to `target`.
pub fn restore_to(vault: &Vault, id: &str, target: &Path) -> Result<RestoreReport> {
    restore_with(vault, id, target, |_| {})
}

/// As [`restore_to`], of a request that `change` has changed.
pub fn restore_with(
    vault: &Vault,
    id: &str,
    target: &Path,
    change: impl FnOnce(&mut RestoreRequest),
) -> Result<RestoreReport> {
    let mut request = RestoreRequest::new(id.parse::<SnapshotSpec>().unwrap(), target);
    change(&mut request);
    restore(vault, &request, &SystemClock, &Silent)
}

/// Remembers what an operation warned of.
#[derive(Debug, Default)]
pub struct Collected(Mutex<Vec<String>>);

impl Collected {
    /// What was said so far.
    pub fn warnings(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Monitor for Collected {
    fn begin(&self, _: &str, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
    fn warn(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

/// Restores the snapshot with this id into the live database at `target`, with a safety snapshot.
pub fn restore_live(vault: &Vault, id: &str, target: &Path) -> Result<RestoreReport> {
    let host = request(&[target]).host;
    let mut request = LiveRestoreRequest::new(id.parse::<SnapshotSpec>().unwrap(), target, host);
    request.busy_timeout = Duration::from_secs(20);
    restore_into(vault, &request, &SystemClock, &Silent)
}

/// What a store that wraps another, its `inner`, hands through to it in any case.
macro_rules! reads_of_inner {
    () => {
        fn describe(&self) -> String {
            self.inner.describe()
        }
        fn get(
            &self,
            path: &pagevault::store::ObjectPath,
            limit: u64,
        ) -> std::result::Result<Vec<u8>, pagevault::store::StoreError> {
            self.inner.get(path, limit)
        }
        fn read_range(
            &self,
            path: &pagevault::store::ObjectPath,
            offset: u64,
            into: &mut [u8],
        ) -> std::result::Result<(), pagevault::store::StoreError> {
            self.inner.read_range(path, offset, into)
        }
        fn size(
            &self,
            path: &pagevault::store::ObjectPath,
        ) -> std::result::Result<u64, pagevault::store::StoreError> {
            self.inner.size(path)
        }
    };
}
pub(crate) use reads_of_inner;
