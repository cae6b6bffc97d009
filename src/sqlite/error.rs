//! What can go wrong with a database or an image, naming the file.

use std::path::{Path, PathBuf};

use rusqlite::ffi;

use crate::error::{Error, ErrorKind};

/// An error of the `sqlite` layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqliteError {
    /// There is no file of that name.
    #[error("{} does not exist", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The file, or whatever bears its name, is not a `SQLite` database.
    #[error("{} is not a SQLite database: {why}", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What it is, or what is wrong with it.
        why: String,
    },
    /// The path names a folder.
    #[error("{} is a folder, not a database", path.display())]
    IsFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Another connection kept the database locked beyond the busy timeout.
    #[error("{} was locked by another connection for {waited_ms} ms", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
        /// Time spent waiting, in milliseconds.
        waited_ms: u64,
    },
    /// Another connection holds a WAL database with `locking_mode=EXCLUSIVE`: no other connection can
    /// read it as long as that one is open.
    #[error("{} is held exclusively by another connection ({waited_ms} ms waited)", path.display())]
    ExclusivelyLocked {
        /// The database.
        path: PathBuf,
        /// Time spent waiting, in milliseconds.
        waited_ms: u64,
    },
    /// A database that cannot be captured safely.
    #[error("{} cannot be captured: {why}", path.display())]
    Unsupported {
        /// The database.
        path: PathBuf,
        /// What is not supported.
        why: String,
    },
    /// The file contradicts itself, so that no exact image of it exists.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// The contradiction.
        why: String,
    },
    /// The file was renamed, replaced or deleted, or changed where nothing could write, while open.
    #[error("{} was moved, replaced or changed while it was open", path.display())]
    Moved {
        /// The path that was opened.
        path: PathBuf,
    },
    /// The `SQLite` in this build lacks `sqlite_dbpage`, the one way pages are read.
    #[error("this build of pagevault has a SQLite without sqlite_dbpage and cannot capture databases")]
    MissingBuildFlags,
    /// The operating system does not let us read the file.
    #[error("no permission to read {}", path.display())]
    NoPermission {
        /// The database.
        path: PathBuf,
    },
    /// The operating system failed.
    #[error("cannot access {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its error.
        source: std::io::Error,
    },
    /// The page source under an image failed; its own error, unchanged.
    #[error(transparent)]
    Image(Error),
    /// `SQLite` failed in a way that has no variant of its own.
    #[error("SQLite failed on {}: {source}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// Its error.
        source: rusqlite::Error,
    },
}

impl SqliteError {
    /// Sorts an error of `SQLite` about `path` into a variant; `waited_ms` is the time the call took.
    pub(super) fn classify(path: &Path, source: rusqlite::Error, waited_ms: u64) -> Self {
        let path = path.to_path_buf();
        match error_code(&source) {
            Some(ffi::ErrorCode::DatabaseBusy | ffi::ErrorCode::DatabaseLocked) => {
                Self::Busy { path, waited_ms }
            }
            Some(ffi::ErrorCode::NotADatabase) => {
                let why = "it does not begin with a SQLite header (another format, or encrypted)".into();
                Self::NotADatabase { path, why }
            }
            Some(ffi::ErrorCode::DatabaseCorrupt) => Self::Damaged { path, why: source.to_string() },
            Some(ffi::ErrorCode::PermissionDenied) => Self::NoPermission { path },
            _ => Self::Sqlite { path, source },
        }
    }

    /// The error of a metadata call on `path`.
    pub(super) fn from_io(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            std::io::ErrorKind::NotFound => Self::NotFound { path },
            std::io::ErrorKind::PermissionDenied => Self::NoPermission { path },
            _ => Self::Io { path, source },
        }
    }

    const fn kind(&self) -> ErrorKind {
        match self {
            Self::Image(error) => error.kind(),
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Busy { .. } | Self::ExclusivelyLocked { .. } => ErrorKind::Busy,
            Self::NotADatabase { .. }
            | Self::IsFolder { .. }
            | Self::Unsupported { .. }
            | Self::Damaged { .. }
            | Self::Moved { .. }
            | Self::MissingBuildFlags => ErrorKind::Refused,
            Self::NoPermission { .. } | Self::Io { .. } | Self::Sqlite { .. } => ErrorKind::Failed,
        }
    }

    const fn hint(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "check the path; the database must exist before it can be captured",
            Self::NotADatabase { .. } => {
                "give the path of the database file itself; encrypted SQLite databases are not supported"
            }
            Self::IsFolder { .. } => "give the path of the database file inside it",
            Self::Busy { .. } => {
                "wait for the long write to end and try again, or allow more time for the lock"
            }
            Self::ExclusivelyLocked { .. } => {
                "the application uses `PRAGMA locking_mode=EXCLUSIVE`; remove that, or close the application \
                 while the snapshot is taken"
            }
            Self::Unsupported { .. } => "the message says what stands in the way; nothing was changed",
            Self::Damaged { .. } => {
                "run `PRAGMA integrity_check` in sqlite3 on a copy, and restore an earlier snapshot if it confirms this"
            }
            Self::Moved { .. } => {
                "try again when nothing replaces the file; the application may still use the old one"
            }
            Self::MissingBuildFlags => {
                "a checkout sets them in .cargo/config.toml; otherwise set \
                 LIBSQLITE3_FLAGS=\"-DSQLITE_ENABLE_DBPAGE_VTAB -DSQLITE_ENABLE_SNAPSHOT\" and build again"
            }
            Self::NoPermission { .. } => "run as the user that owns the database, or grant read access",
            Self::Image(_) => "see the error of the image",
            Self::Io { .. } => "check the file system and its mount",
            Self::Sqlite { .. } => "try `sqlite3 FILE .tables` to see whether the database opens at all",
        }
    }
}

/// The code of an error of `SQLite`, also where rusqlite knows the place in the SQL (an error kind of its own).
pub(super) fn error_code(error: &rusqlite::Error) -> Option<ffi::ErrorCode> {
    match error {
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        error => error.sqlite_error_code(),
    }
}

impl From<SqliteError> for Error {
    fn from(error: SqliteError) -> Self {
        let error = match error {
            SqliteError::Image(error) => return error,
            error => error,
        };
        Self::new(error.kind(), error.to_string()).with_hint(error.hint()).with_source(error)
    }
}
