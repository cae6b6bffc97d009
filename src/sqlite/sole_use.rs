//! Proof that nobody else uses a database file, held while the file is replaced.
//!
//! `BEGIN EXCLUSIVE` proves nothing in WAL mode, where other connections may be open and idle. Leaving WAL mode
//! under `locking_mode=EXCLUSIVE` does: `SQLite` refuses it while any other connection is there. A file that
//! `SQLite` cannot open is locked as a whole by the operating system instead.
//!
//! In rollback mode an idle connection holds no lock at all, so locks prove nothing about it; [`holders`] sees it where
//! the system shows the open files of other processes.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, fcntl_lock};

use super::capture::read_geometry;
use super::error::SqliteError;
use super::image::check_range;
use super::raw::pages::{PageReader, read_run};
use crate::error::Error;
use crate::page_source::{Geometry, PageSource};

/// Nobody else has the database open, as long as this value lives.
#[derive(Debug)]
pub struct SoleUse {
    path: PathBuf,
    database: Option<Connection>,
    was_wal: bool,
    /// Closed after the connection: a closed descriptor drops all POSIX locks of the process on the file.
    _file: Option<File>,
}

impl SoleUse {
    /// Tries for `patience` to become the only user of `path`; `None` if somebody else is.
    ///
    /// # Errors
    /// The file cannot be opened at all.
    pub fn prove(path: &Path, patience: Duration) -> std::io::Result<Option<Self>> {
        match Self::prove_by_sqlite(path, patience) {
            Ok(proven) => Ok(Some(proven)),
            Err(rusqlite::Error::SqliteFailure(error, _))
                if matches!(
                    error.code,
                    rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked
                ) =>
            {
                Ok(None)
            }
            Err(_) => Self::prove_by_file_lock(path),
        }
    }

    fn prove_by_sqlite(path: &Path, patience: Duration) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(patience)?;
        let mode: String = connection.query_row("PRAGMA journal_mode", (), |row| row.get(0))?;
        let was_wal = mode == "wal";
        connection.query_row("PRAGMA locking_mode = EXCLUSIVE", (), |_| Ok(()))?;
        let now: String = connection.query_row("PRAGMA journal_mode = DELETE", (), |row| row.get(0))?;
        if now != "delete" {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                None,
            ));
        }
        connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
        Ok(Self { path: path.to_path_buf(), database: Some(connection), was_wal, _file: None })
    }

    fn prove_by_file_lock(path: &Path) -> std::io::Result<Option<Self>> {
        let file = File::options().read(true).write(true).open(path)?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                Ok(Some(Self { path: path.to_path_buf(), database: None, was_wal: false, _file: Some(file) }))
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The pages of the database; `None` for a file that is none. It is in rollback mode as long as it is ours.
    pub fn pages(&mut self) -> Option<Result<SolePages<'_>, SqliteError>> {
        self.database.as_mut().map(|connection| {
            SolePages::new(connection).map_err(|error| SqliteError::classify(&self.path, error, 0))
        })
    }

    /// Gives the file back unreplaced, in the journal mode it had.
    pub fn give_back(mut self) {
        if let Some(connection) = self.database.take()
            && self.was_wal
        {
            // What fails here leaves a sound database in rollback mode.
            let _ = connection.execute_batch("PRAGMA locking_mode = NORMAL; PRAGMA journal_mode = WAL");
        }
    }
}

/// The pages of a database that nobody else has open.
#[derive(Debug)]
pub struct SolePages<'c> {
    pages: PageReader<'c>,
    geometry: Geometry,
}

impl<'c> SolePages<'c> {
    fn new(connection: &'c mut Connection) -> rusqlite::Result<Self> {
        let pages = PageReader::new(connection)?;
        let geometry = read_geometry(pages.connection())?;
        Ok(Self { pages, geometry })
    }
}

impl PageSource for SolePages<'_> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_pages(&mut self, first_page: u32, into: &mut [u8]) -> Result<(), Error> {
        check_range(self.geometry, first_page, into.len())?;
        read_run(&mut self.pages, first_page, self.geometry.page_size.bytes() as usize, into)
            .and_then(|missing| match missing {
                None => Ok(()),
                Some(_) => Err(rusqlite::Error::QueryReturnedNoRows),
            })
            .map_err(|source| SqliteError::Sqlite { path: "database".into(), source }.into())
    }
}

/// Processes that have `path` or one of its sidecars open, as "NAME (PID)"; as far as this user may see. Told by the
/// files themselves: in a container they have other names.
#[must_use]
pub fn holders(path: &Path) -> Vec<String> {
    let Ok(path) = path.canonicalize() else { return Vec::new() };
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let wanted: Vec<_> = ["", "-wal", "-shm", "-journal"]
        .into_iter()
        .filter_map(|suffix| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            std::fs::metadata(name).ok().map(identity)
        })
        .collect();
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        if pid == own || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let descriptors = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let holds = descriptors
            .filter_map(|descriptor| std::fs::metadata(descriptor.path()).ok())
            .any(|open| wanted.contains(&identity(open)));
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(format!("{} ({pid})", name.trim()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_reader_in_wal_mode_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let other = Connection::open(&path).unwrap();
        other.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1)").unwrap();
        assert!(SoleUse::prove(&path, Duration::from_millis(10)).unwrap().is_none());
        drop(other);
        let sole = SoleUse::prove(&path, Duration::from_millis(10)).unwrap().unwrap();
        let late = Connection::open(&path).unwrap();
        assert!(late.query_row("SELECT a FROM t", (), |_| Ok(())).is_err());
        sole.give_back();
        let mode: String = late.query_row("PRAGMA journal_mode", (), |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn a_file_that_is_no_database_is_locked_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "not a database at all, however long one looks at it").unwrap();
        assert!(SoleUse::prove(&path, Duration::ZERO).unwrap().is_some());
    }
}
