//! What can go wrong in a store, and what it means to people.

use std::fmt::Display;
use std::io;

use crate::error::{Error, ErrorKind};

/// Why a store did not do what it was asked. `path` is where the trouble is, in the words of the store (a
/// local one names the whole path of the file).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Not a path that an object can have.
    #[error("{path:?} is not a valid object path")]
    InvalidPath {
        /// What was given.
        path: String,
    },
    /// There is no such object.
    #[error("{path} does not exist")]
    NotFound {
        /// The object.
        path: String,
    },
    /// The object is larger than the caller is willing to read.
    #[error("{path} has {size} bytes, more than the {limit} that such an object can have")]
    TooLarge {
        /// The object.
        path: String,
        /// Its length in bytes.
        size: u64,
        /// The caller's limit in bytes.
        limit: u64,
    },
    /// The object ends before the range that was asked for does.
    #[error("{path} ends before the {length} bytes at {offset} do")]
    ShortRead {
        /// The object.
        path: String,
        /// Where the range begins, in bytes.
        offset: u64,
        /// How long the range is, in bytes.
        length: usize,
    },
    /// The place is full, or a quota is.
    #[error("no space left to write {path}")]
    NoSpace {
        /// The object.
        path: String,
    },
    /// The place does not let this user do that.
    #[error("permission denied: cannot {operation} {path}")]
    PermissionDenied {
        /// The object or folder.
        path: String,
        /// The verb.
        operation: &'static str,
    },
    /// The place cannot be written to at all.
    #[error("cannot {operation} {path}: read-only file system")]
    ReadOnly {
        /// The object or folder.
        path: String,
        /// The verb.
        operation: &'static str,
    },
    /// What is named as a place is none.
    #[error("{address} is no address of a store: {why}")]
    InvalidAddress {
        /// What was given, without secrets.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The store did not answer, or asked to be left alone for a while. Trying again may help.
    #[error("cannot {operation} {path}: {why}")]
    Temporary {
        /// The object.
        path: String,
        /// What was tried.
        operation: &'static str,
        /// What happened.
        why: String,
    },
    /// Anything else.
    #[error("cannot {operation} {path}: {source}")]
    Other {
        /// The object or folder.
        path: String,
        /// The verb.
        operation: &'static str,
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// The error for what the system said when asked to `operation` (a verb) the thing at `path`.
    pub(super) fn from_io(operation: &'static str, path: impl Display, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_string(), source.into());
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { path, operation },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, operation },
            _ => Self::other(operation, path, source),
        }
    }

    /// The error for a reason that has no variant of its own.
    pub(super) fn other(
        operation: &'static str,
        path: impl Display,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Other { path: path.to_string(), operation, source: source.into() }
    }

    /// Whether this says that the object is not there.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// A missing object is [`ErrorKind::NotFound`] here; whoever was promised the object by another one knows
/// that it is damage. The message holds the system's reason, so there is no source to print after it.
impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let (kind, hint) = match &error {
            StoreError::Other { path, .. } if path.starts_with("sftp://") => (
                ErrorKind::Failed,
                Some(
                    "try `sftp` to that host by hand: the keys and known hosts are those of ssh; the options key=FILE and known-hosts=add name a key and trust a new host",
                ),
            ),
            StoreError::Other { path, .. } if path.contains("://") => {
                (ErrorKind::Failed, Some("docs/offsite.md says what each service needs"))
            }
            StoreError::InvalidPath { .. } | StoreError::Other { .. } => (ErrorKind::Failed, None),
            StoreError::InvalidAddress { .. } => (
                ErrorKind::Usage,
                Some("addresses look like s3://bucket/prefix; docs/offsite.md has them all"),
            ),
            StoreError::Temporary { .. } => (
                ErrorKind::Failed,
                Some(
                    "try again later, or look at the address and its endpoint; what is stored already is intact",
                ),
            ),
            StoreError::PermissionDenied { path, .. } if path.starts_with("webdav") => (
                ErrorKind::Failed,
                Some(
                    "look at PAGEVAULT_WEBDAV_USER and PAGEVAULT_WEBDAV_PASSWORD, and at what the server allows them to do",
                ),
            ),
            StoreError::NotFound { .. } => (ErrorKind::NotFound, None),
            StoreError::TooLarge { .. } | StoreError::ShortRead { .. } => {
                (ErrorKind::Damage, Some("`pagevault repair` shows what can be made good"))
            }
            StoreError::NoSpace { .. } => {
                (ErrorKind::Failed, Some("free space there and try again; what the vault held is intact"))
            }
            StoreError::PermissionDenied { path, .. } if path.contains("://") => (
                ErrorKind::Failed,
                Some("look at the credentials, and at what the service allows them to do"),
            ),
            StoreError::PermissionDenied { .. } => (
                ErrorKind::Failed,
                Some("run as the vault's owner, or give this user rights to the vault's folder"),
            ),
            StoreError::ReadOnly { .. } => {
                (ErrorKind::Failed, Some("mount the vault's file system for writing, or use another vault"))
            }
        };
        let wrapped = Self::new(kind, error.to_string());
        match hint {
            Some(hint) => wrapped.with_hint(hint),
            None => wrapped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_becomes_a_kind_and_a_hint() {
        for (system, kind, hinted) in [
            (io::ErrorKind::NotFound, ErrorKind::NotFound, false),
            (io::ErrorKind::StorageFull, ErrorKind::Failed, true),
            (io::ErrorKind::QuotaExceeded, ErrorKind::Failed, true),
            (io::ErrorKind::PermissionDenied, ErrorKind::Failed, true),
            (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::Failed, true),
            (io::ErrorKind::TimedOut, ErrorKind::Failed, false),
        ] {
            let error = Error::from(StoreError::from_io("write", "packs/a", system));
            assert_eq!((error.kind(), error.hint().is_some()), (kind, hinted), "{system:?}");
            assert!(error.to_string().contains("packs/a"), "{error}");
        }
    }

    #[test]
    fn lies_about_lengths_are_damage() {
        let path = || "packs/a".to_owned();
        let too_large = StoreError::TooLarge { path: path(), size: 2, limit: 1 };
        let short = StoreError::ShortRead { path: path(), offset: 0, length: 1 };
        assert_eq!(Error::from(too_large).kind(), ErrorKind::Damage);
        assert_eq!(Error::from(short).kind(), ErrorKind::Damage);
    }
}
