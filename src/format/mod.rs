//! The bytes of every object, as `docs/format.md` lays them down: one file per object kind, each with an
//! `encode` and a `decode` that mirror each other and share one `validate`.
//!
//! Nothing here knows keys, files or the network, and every decoder is total: any bytes give a value or a
//! [`FormatError`], without a panic and without allocating more than the input justifies.

pub mod directory;
pub mod envelope;
pub mod fields;
pub mod index;
pub mod keyslot;
pub mod log;
pub mod manifest;
pub mod vault_config;

/// The format version this crate writes.
pub const VERSION: u8 = 1;

/// Limits of section 12.
pub mod limits {
    /// Largest object, in bytes.
    pub const OBJECT: u64 = 64 << 20;
    /// Largest vault config or key slot, in bytes.
    pub const CONTROL_OBJECT: u64 = 64 << 10;
    /// Longest trailer, in bytes.
    pub const TRAILER: u32 = 16 << 20;
    /// Longest plaintext of a body, in bytes.
    pub const BODY: u32 = 64 << 20;
    /// Most records in a pack.
    pub const RECORDS: u32 = 1 << 20;
    /// Most packs in an index.
    pub const PACKS: usize = 65_536;
    /// Most manifests in a snapshots object.
    pub const MANIFESTS: usize = 65_536;
    /// Most entries in a log object.
    pub const LOG_ENTRIES: usize = 65_536;
    /// Greatest depth of a delta.
    pub const DEPTH: u8 = 8;
    /// Longest string, in bytes.
    pub const STRING: usize = 4_096;
    /// Longest path, in bytes.
    pub const PATH: usize = 32_768;
    /// Longest description, in bytes.
    pub const DESCRIPTION: usize = 65_536;
    /// Most tags or required tables.
    pub const LABELS: usize = 1_024;
    /// Most fields in a field list.
    pub const FIELDS: usize = 256;
    /// Longest sealed keyring, in bytes.
    pub const KEYRING: usize = 16 << 10;
    /// Longest sealed note of a key slot, in bytes.
    pub const NOTE: usize = 8 << 10;
    /// Most key slots that are tried with one secret.
    pub const SLOTS: usize = 64;
    /// Largest image, in bytes.
    pub const IMAGE: u64 = 1 << 48;
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes end before the named part does, or go on after it.
    #[error("{0} has the wrong length")]
    Length(&'static str),
    /// Not one of pagevault's objects at all.
    #[error("not a pagevault object")]
    Magic,
    /// The named part holds a value it cannot have.
    #[error("{0} is not valid")]
    Invalid(&'static str),
    /// A mandatory field is missing.
    #[error("field {tag} of {what} is missing")]
    Missing {
        /// The list that lacks it.
        what: &'static str,
        /// The field.
        tag: u16,
    },
    /// Something exceeds a limit of section 12.
    #[error("{what} is {found}, more than the limit of {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        found: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A checksum does not match.
    #[error("the checksum of {0} does not match")]
    Checksum(&'static str),
    /// Written by a newer version: the named thing has a number this version does not know.
    #[error("{what} {number} is not known to this version of pagevault")]
    Newer {
        /// Kind of number.
        what: &'static str,
        /// The number.
        number: u64,
    },
}

impl FormatError {
    /// Whether a newer version of pagevault would understand the bytes.
    #[must_use]
    pub const fn is_newer(&self) -> bool {
        matches!(self, Self::Newer { .. })
    }
}

/// `found` if it is at most `limit`.
pub(crate) fn within(what: &'static str, found: usize, limit: usize) -> Result<(), FormatError> {
    if found > limit {
        return Err(FormatError::Limit { what, found: found as u64, limit: limit as u64 });
    }
    Ok(())
}
