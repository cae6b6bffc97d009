//! Vaults for unit tests.

use jiff::Timestamp;

use super::{LocalFolders, Vault};
use crate::crypto::secret::Secret32;
use crate::crypto::unlock::Unlocker;
use crate::format::keyslot::Argon2Params;
use crate::store::Store;

/// A key file of 32 times `byte`.
pub(crate) fn key(byte: u8) -> Unlocker {
    Unlocker::KeyFile(Secret32::new([byte; 32]))
}

/// A new vault in `store`, opened by [`key`] 1, that remembers nothing on this machine.
pub(crate) fn vault_in(store: impl Store + 'static) -> Vault {
    let (argon2, now) = (Argon2Params::recommended(1), Timestamp::UNIX_EPOCH);
    Vault::create(Box::new(store), &key(1), argon2, None, now, &LocalFolders::default()).unwrap()
}
