//! Keys and sealing (docs/format.md, sections 4.2 and 5). One joint for unlocking, [`unlock`]; everything
//! else follows from the keyring and is fixed by the format's version.
//!
//! Invariants: secrets are types that wipe themselves and print nothing; every sealed object has keys of
//! its own from a fresh salt, so that no nonce can ever repeat under a key; what fails to open says
//! nothing about why.

pub mod keys;
pub mod seal;
pub mod secret;
pub mod unlock;

/// Why cryptography could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CryptoError {
    /// Not sealed with this key, in this place, in this vault; or damaged since.
    #[error("does not open with this vault's key: damaged, or put in a place it was not made for")]
    NotAuthentic,
    /// The object was sealed under a key epoch that the keyring lacks.
    #[error("key epoch {0} is not in the keyring")]
    UnknownEpoch(u32),
    /// The operating system has no random numbers to give.
    #[error("the operating system gave no random numbers")]
    Random(#[from] getrandom::Error),
    /// The bytes themselves are not what the format says.
    #[error(transparent)]
    Format(#[from] crate::format::FormatError),
    /// Argon2id failed, for lack of memory.
    #[error("deriving a key from the passphrase failed: {0}")]
    Argon2(argon2::Error),
    /// More than a cipher may take; never for sizes within the format's limits.
    #[error("too long to seal")]
    TooLong,
}

/// Whether two hashes are equal, in constant time.
#[must_use]
pub fn equal(one: &[u8; 32], other: &[u8; 32]) -> bool {
    blake3::Hash::from_bytes(*one) == blake3::Hash::from_bytes(*other)
}
