//! What can be wrong with a vault.

use crate::crypto::CryptoError;
use crate::error::{Error, ErrorKind};
use crate::format::FormatError;
use crate::ids::{ChunkId, SlotId};
use crate::store::StoreError;

/// Why a vault could not do what was asked; each variant names the object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// There is no vault there.
    #[error("{place} is not a vault")]
    NotAVault {
        /// Where it was looked for.
        place: String,
    },
    /// A vault is there, but for its config.
    #[error("vault.pv and vault.pv.copy are gone from {place}, where other objects of a vault are")]
    ConfigLost {
        /// Where it was looked for.
        place: String,
    },
    /// There is a vault there already.
    #[error("{place} already holds a vault")]
    Exists {
        /// Where.
        place: String,
    },
    /// The place holds something else.
    #[error("{place} is not empty and not a vault")]
    NotEmpty {
        /// Where.
        place: String,
    },
    /// It is not a copy of the vault at hand.
    #[error("{place} is not a copy of this vault")]
    NotACopy {
        /// Where it was looked for.
        place: String,
    },
    /// The log says that a key slot is removed, and its object could not be deleted.
    #[error("key slot {slot} still opens the vault, though the log calls it removed: {why}")]
    HalfRemoved {
        /// The slot.
        slot: SlotId,
        /// Why it could not be deleted.
        why: String,
    },
    /// There is no key slot.
    #[error("no key slot is left in the vault at {place}, so that no key opens it")]
    NoSlots {
        /// The vault.
        place: String,
    },
    /// No slot opens with what was given.
    #[error("this {given} does not open the vault at {place}")]
    WrongKey {
        /// The vault.
        place: String,
        /// What was given: passphrase, key file or recovery key.
        given: &'static str,
    },
    /// Without it nobody could open the vault.
    #[error("{slot} is the last key of this vault")]
    LastSlot {
        /// The slot.
        slot: SlotId,
    },
    /// With one more, not every key would be tried any more.
    #[error("the vault has {count} keys of the kind {kind}, and no more than that are tried")]
    TooManySlots {
        /// How many there are.
        count: usize,
        /// Of which kind.
        kind: &'static str,
    },
    /// An object is not what it was.
    #[error("{object} is damaged: {why}")]
    Damaged {
        /// Path of the object.
        object: String,
        /// What does not hold.
        why: String,
    },
    /// An object was written by a newer version.
    #[error("{object} was written by a newer version of pagevault: {why}")]
    Newer {
        /// Path of the object.
        object: String,
        /// What is not known.
        why: FormatError,
    },
    /// A chunk that a snapshot needs is nowhere.
    #[error("chunk {0} is missing: no index names a pack that holds it")]
    MissingChunk(ChunkId),
    /// All stored forms of a chunk are damaged.
    #[error("chunk {chunk} cannot be read: {why}")]
    UnreadableChunk {
        /// The chunk.
        chunk: ChunkId,
        /// What the last attempt said.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Cryptography failed for a reason that is no object's fault.
    #[error(transparent)]
    Crypto(CryptoError),
    /// A value exceeds what the format can hold.
    #[error("cannot be written: {0}")]
    Unwritable(#[from] FormatError),
    /// The local index cache failed in a way that opening it anew does not mend.
    #[error("the local index cache failed: {0}")]
    Cache(#[from] rusqlite::Error),
    /// A thread of the engine ended without a result.
    #[error("a worker thread ended unexpectedly")]
    Worker,
}

impl VaultError {
    /// `error` of opening `object`, as damage or as the work of a newer version.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over what they have just made")]
    pub(crate) fn of_object(object: impl ToString, error: CryptoError) -> Self {
        let object = object.to_string();
        match error {
            CryptoError::Format(why) if why.is_newer() => Self::Newer { object, why },
            CryptoError::Format(why) => Self::Damaged { object, why: why.to_string() },
            error @ (CryptoError::NotAuthentic | CryptoError::UnknownEpoch(_)) => {
                Self::Damaged { object, why: error.to_string() }
            }
            error => Self::Crypto(error),
        }
    }
}

impl VaultError {
    /// What it says to somebody who has read the object's path just before.
    pub(crate) fn said_of(&self, path: &str) -> String {
        match self {
            Self::Damaged { object, why } if object == path => why.clone(),
            error => error.to_string(),
        }
    }

    /// Whether the object is of a kind that version 1 leaves alone (section 2 of docs/format.md).
    pub(crate) fn is_of_ignorable_kind(&self) -> bool {
        matches!(self, Self::Newer { why: FormatError::Newer { what: "object kind", number: 0x80.. }, .. })
    }

    /// Whether a faulty local cache could have caused this.
    pub(crate) const fn may_be_the_cache(&self) -> bool {
        matches!(self, Self::Cache(_) | Self::MissingChunk(_))
    }
}

impl From<CryptoError> for VaultError {
    fn from(error: CryptoError) -> Self {
        match error {
            CryptoError::Format(error) => Self::Unwritable(error),
            error => Self::Crypto(error),
        }
    }
}

impl From<VaultError> for Error {
    fn from(error: VaultError) -> Self {
        let (kind, hint) = match &error {
            VaultError::Store(_) => {
                let VaultError::Store(error) = error else { return Self::new(ErrorKind::Failed, "store") };
                return error.into();
            }
            VaultError::NotAVault { .. } => {
                (ErrorKind::NotFound, Some("name the vault with --vault, or make one with `pagevault init`"))
            }
            VaultError::ConfigLost { .. } => (
                ErrorKind::Damage,
                Some(
                    "`pagevault repair --from COPY` takes it from any copy of this vault, for it never changes",
                ),
            ),
            VaultError::Exists { .. } => {
                (ErrorKind::Refused, Some("use it as it is, or choose another place"))
            }
            VaultError::NotACopy { .. } => (
                ErrorKind::Refused,
                Some("name the folder of a copy that was made of this very vault: only its objects fit"),
            ),
            VaultError::LastSlot { .. } => {
                (ErrorKind::Refused, Some("add another first: `pagevault key add`"))
            }
            VaultError::TooManySlots { .. } => (
                ErrorKind::Refused,
                Some("remove one that nobody uses first: `pagevault key list`, `pagevault key remove`"),
            ),
            VaultError::NotEmpty { .. } => (ErrorKind::Refused, Some("choose an empty or new folder")),
            VaultError::HalfRemoved { .. } => (
                ErrorKind::Failed,
                Some(
                    "run the same again where objects of the vault may be deleted; until then `pagevault check` names it",
                ),
            ),
            VaultError::NoSlots { .. } => (
                ErrorKind::Unlock,
                Some("`pagevault repair --from COPY --yes` takes the key slots from any copy of this vault"),
            ),
            VaultError::WrongKey { .. } => (
                ErrorKind::Unlock,
                Some(
                    "check the passphrase, --key-file or PAGEVAULT_KEY_FILE; the recovery key opens it as well",
                ),
            ),
            VaultError::Damaged { .. } => {
                (ErrorKind::Damage, Some("`pagevault repair` shows what can be made good"))
            }
            VaultError::MissingChunk(_) | VaultError::UnreadableChunk { .. } => (
                ErrorKind::Damage,
                Some(
                    "`pagevault repair` shows what can be made good; `pagevault check --read-data` lists the snapshots that need it",
                ),
            ),
            VaultError::Newer { .. } => (ErrorKind::Refused, Some("install the newest pagevault")),
            VaultError::Unwritable(_) | VaultError::Crypto(_) | VaultError::Cache(_) | VaultError::Worker => {
                (ErrorKind::Failed, None)
            }
        };
        let converted = Self::new(kind, error.to_string());
        match hint {
            Some(hint) => converted.with_hint(hint),
            None => converted,
        }
    }
}
