//! Opening a live database so that reading it changes nothing.
//!
//! The file is opened for reading and writing (never creating), and `SQLite` itself falls back to
//! read-only where the file or its mount does not permit more. Not read-only from the start, for one
//! reason: a hot journal, left by a crash, must be rolled back before the file means anything, and a read-only
//! connection can only refuse (`SQLITE_READONLY_ROLLBACK`). Any reader of the application would roll it back too.
//! For `-wal` and `-shm` the mode makes no difference: `SQLite` opens them for writing where it can, and gives
//! them the database's mode and owner. `query_only` and `DEFENSIVE` keep us from writing by SQL,
//! `NO_CKPT_ON_CLOSE`, `wal_autocheckpoint=0` and `PERSIST_WAL` keep `SQLite` from writing on its own.

use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use rustix::fs::Access;

use super::LOCK_BYTE_OFFSET;
use super::capture::Capture;
use super::error::{SqliteError, error_code};
use super::raw;
use crate::page_source::Geometry;

/// `SQLite`'s limit on a path under Unix, less the longest suffix it appends (`-journal`) and a NUL.
const MAX_PATH_LEN: usize = 512 - 9;

/// Between two tries for a lock.
const RETRY: Duration = Duration::from_millis(1);

/// The only version of the write-ahead log there is (walformat, section 4.1).
const WAL_VERSION: u32 = 3_007_000;

/// How to open a live database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    /// How long to wait for a lock.
    pub busy_timeout: Duration,
}

impl Default for OpenOptions {
    /// Five seconds: what applications commonly allow each other.
    fn default() -> Self {
        Self { busy_timeout: Duration::from_secs(5) }
    }
}

/// A database that applications may be reading and writing at this moment.
#[derive(Debug)]
pub struct LiveDatabase {
    connection: Connection,
    path: PathBuf,
    patience: Duration,
    /// Set where the file was opened as immutable, with what it looked like then.
    immutable: Option<FileState>,
}

impl LiveDatabase {
    /// Opens the database at `path`, following symbolic links, and makes sure that it can be read.
    ///
    /// # Errors
    /// See [`SqliteError`]: nothing is created, and whatever is not plainly a readable database is refused.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, SqliteError> {
        if !raw::connection::compile_option_used(c"ENABLE_DBPAGE_VTAB") {
            return Err(SqliteError::MissingBuildFlags);
        }
        let path = fs::canonicalize(path).map_err(|source| SqliteError::from_io(path, source))?;
        check_file(&path)?;
        let connection = connect(&path, options, false)?;
        let started = Instant::now();
        let database = Self { connection, path, patience: options.busy_timeout, immutable: None };
        match database.probe() {
            Ok(()) => Ok(database),
            Err(error) => database.recover(error, options, started),
        }
    }

    /// The path with symbolic links resolved: what the database is known by.
    #[must_use]
    pub fn canonical_path(&self) -> &Path {
        &self.path
    }

    /// Takes a read snapshot and holds it until the capture is finished or dropped.
    ///
    /// # Errors
    /// See [`SqliteError`]; in particular `Busy`, `Moved`, `Unsupported` and `Damaged`.
    pub fn begin(&mut self) -> Result<Capture<'_>, SqliteError> {
        let Self { connection, path, patience, immutable } = self;
        Capture::begin(connection, path, *patience, immutable.as_ref())
    }

    /// Bytes of the file as they are at this moment, without any lock, laid out as an image has them; `false` if they are
    /// not there. For whoever can tell from the bytes themselves whether they are the ones that are wanted.
    #[must_use]
    pub fn read_unlocked(&self, geometry: Geometry, offset: u64, into: &mut [u8]) -> bool {
        if raw::connection::read_file(&self.connection, offset, into).is_err() {
            return false;
        }
        let lock_page = LOCK_BYTE_OFFSET.wrapping_sub(offset);
        if let Ok(start) = usize::try_from(lock_page)
            && let Some(rest) = into.get_mut(start..)
        {
            let len = rest.len().min(geometry.page_size.bytes() as usize);
            rest[..len].fill(0);
        }
        true
    }

    /// One read, so that what is wrong with the file shows when it is opened.
    fn probe(&self) -> rusqlite::Result<()> {
        // A page is read once, so a small page cache is the fast one: 64 pages stay in the CPU's cache
        // (4,300 MB/s on 4 KiB pages, against 3,700 with 2,000). This pragma, too, reads the schema.
        let read = "PRAGMA cache_size=64; PRAGMA schema_version;";
        patiently(&self.connection, self.patience, || self.connection.execute_batch(read))
    }

    /// Turns the failure of the first read into a readable database or a precise error.
    fn recover(
        self,
        error: rusqlite::Error,
        options: &OpenOptions,
        started: Instant,
    ) -> Result<Self, SqliteError> {
        let Self { connection, path, .. } = self;
        drop(connection);
        let code = error.sqlite_error().map_or(0, |error| error.extended_code);
        if code == ffi::SQLITE_READONLY_ROLLBACK {
            let why = "it needs the rollback of an interrupted transaction (its -journal), and cannot be written; \
                       open it once with the application, or as a user that may write it";
            return Err(SqliteError::Unsupported { path, why: why.into() });
        }
        if code & 0xff == ffi::SQLITE_CANTOPEN || code & 0xff == ffi::SQLITE_READONLY {
            check_wal_version(&path)?;
            if let Some(state) = FileState::of_unwritable(&path)? {
                let connection = connect(&path, options, true)?;
                let patience = options.busy_timeout;
                let database = Self { connection, path, patience, immutable: Some(state) };
                return match database.probe() {
                    Ok(()) => Ok(database),
                    Err(error) => Err(SqliteError::classify(&database.path, error, 0)),
                };
            }
            let why = "its -wal or -shm cannot be opened or created, and reading without them could miss \
                       commits; run as the user that owns the database";
            return Err(SqliteError::Unsupported { path, why: why.into() });
        }
        Err(busy_or(&path, error, started))
    }
}

/// Repeats `attempt` for `patience` while the database is busy.
///
/// `SQLite`'s own waiting soon sleeps 100 ms between tries. Two writers that commit without pause in rollback mode leave
/// a reader gaps of about a millisecond, and it missed them for tens of seconds.
pub(super) fn patiently<T>(
    connection: &Connection,
    patience: Duration,
    mut attempt: impl FnMut() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let started = Instant::now();
    connection.busy_timeout(Duration::ZERO)?;
    let outcome = loop {
        match attempt() {
            Err(error)
                if error_code(&error) == Some(ffi::ErrorCode::DatabaseBusy)
                    && started.elapsed() < patience =>
            {
                std::thread::sleep(RETRY);
            }
            outcome => break outcome,
        }
    };
    connection.busy_timeout(patience)?;
    outcome
}

/// Sorts `error`, telling a WAL database in exclusive locking mode from one that is merely busy: in that
/// mode the wal-index is in the holder's memory, so there is no `-shm`, or the main file is locked for good.
pub(super) fn busy_or(path: &Path, error: rusqlite::Error, started: Instant) -> SqliteError {
    let waited_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match SqliteError::classify(path, error, waited_ms) {
        SqliteError::Busy { path, waited_ms } if sidecar_len(&path, "-wal").is_some() => {
            SqliteError::ExclusivelyLocked { path, waited_ms }
        }
        error => error,
    }
}

/// Refuses, by metadata alone, what is not a database file.
fn check_file(path: &Path) -> Result<(), SqliteError> {
    let metadata = fs::metadata(path).map_err(|source| SqliteError::from_io(path, source))?;
    let path_buf = || path.to_path_buf();
    if metadata.is_dir() {
        return Err(SqliteError::IsFolder { path: path_buf() });
    }
    if !metadata.is_file() {
        let why = "it is a pipe, a socket or a device".into();
        return Err(SqliteError::NotADatabase { path: path_buf(), why });
    }
    // SQLite takes a file of one byte for an empty database (unixFileSize, a workaround for an old file system);
    // what is left of a database is not to be stored as one that is empty.
    if metadata.len() == 1 {
        return Err(SqliteError::NotADatabase { path: path_buf(), why: "it has only one byte".into() });
    }
    if rustix::fs::access(path, Access::READ_OK).is_err() {
        return Err(SqliteError::NoPermission { path: path_buf() });
    }
    if path.as_os_str().len() > MAX_PATH_LEN {
        let why = format!("SQLite opens paths of at most {MAX_PATH_LEN} bytes");
        return Err(SqliteError::Unsupported { path: path_buf(), why });
    }
    // SQLite takes the log of an empty file for a left-over and deletes it (pagerOpenWalIfPresent). A WAL
    // database has at least one page, so this file was emptied by something else, and the log is all that is left.
    match sidecar_len(path, "-wal") {
        Some(len) if len > 0 && metadata.len() == 0 => {
            let why = format!(
                "the file is empty but there is a -wal of {len} bytes, which SQLite would delete on opening; \
                 move the -wal away if it is a left-over"
            );
            Err(SqliteError::Unsupported { path: path_buf(), why })
        }
        _ => Ok(()),
    }
}

fn connect(path: &Path, options: &OpenOptions, immutable: bool) -> Result<Connection, SqliteError> {
    let failed = |source: rusqlite::Error| {
        let code = source.sqlite_error_code();
        if code == Some(ffi::ErrorCode::CannotOpen) && rustix::fs::access(path, Access::READ_OK).is_err() {
            return SqliteError::NoPermission { path: path.to_path_buf() };
        }
        SqliteError::classify(path, source, 0)
    };
    let connection = if immutable {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(immutable_uri(path), flags)
    } else {
        // A canonical path begins with `/`, so it is never taken for a URI.
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
    };
    let connection = connection.map_err(failed)?;
    configure(&connection, options).map_err(failed)?;
    Ok(connection)
}

/// No step here reads the file.
fn configure(connection: &Connection, options: &OpenOptions) -> rusqlite::Result<()> {
    connection.busy_timeout(options.busy_timeout)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    raw::connection::persist_wal(connection)?;
    // `writable_schema` also means that schema errors are not reported, so that a database whose schema does not
    // parse can still be captured page by page. DEFENSIVE, set after it, takes back the permission to
    // write, and with it the other leniency: a file shorter than its header says is still refused.
    connection.execute_batch(
        "PRAGMA query_only=1; PRAGMA temp_store=MEMORY; PRAGMA mmap_size=0; PRAGMA trusted_schema=OFF; \
         PRAGMA writable_schema=ON;",
    )?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0).or_else(ignore_result_row)
}

/// `pragma_update` objects to pragmas that answer with a row; the setting is made all the same.
fn ignore_result_row(error: rusqlite::Error) -> rusqlite::Result<()> {
    match error {
        rusqlite::Error::ExecuteReturnedResults => Ok(()),
        error => Err(error),
    }
}

/// `file:` URI with everything but unreserved characters and `/` escaped, whatever bytes the path has.
fn immutable_uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri.push_str("?immutable=1");
    uri
}

/// The length of a sidecar of `path`, if there is one.
pub(super) fn sidecar_len(path: &Path, suffix: &str) -> Option<u64> {
    fs::metadata(sidecar(path, suffix)).ok().map(|metadata| metadata.len())
}

fn sidecar(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Reads the version of the log, which carries no locks and may be opened beside `SQLite`.
fn check_wal_version(path: &Path) -> Result<(), SqliteError> {
    let mut head = [0; 8];
    let read = File::open(sidecar(path, "-wal")).and_then(|mut wal| wal.read_exact(&mut head));
    let version = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    if read.is_ok() && version != WAL_VERSION {
        let why = format!("its write-ahead log has version {version}; {WAL_VERSION} is supported");
        return Err(SqliteError::Unsupported { path: path.to_path_buf(), why });
    }
    Ok(())
}

/// What a file looks like from outside; two equal states of a file that we cannot lock mean, as far as
/// metadata can tell, that nobody wrote in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileState {
    file: [i64; 7],
    sidecars: [bool; 3],
}

impl FileState {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata: Metadata = fs::metadata(path)?;
        let file = [
            metadata.dev().cast_signed(),
            metadata.ino().cast_signed(),
            metadata.size().cast_signed(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ];
        let sidecars = ["-wal", "-shm", "-journal"].map(|suffix| sidecar_len(path, suffix).is_some());
        Ok(Self { file, sidecars })
    }

    /// The state of a file that may be opened as immutable: neither it nor its folder can be written by
    /// this process, and no sidecar holds content or shows that someone has it open.
    ///
    /// Someone else may still be able to write, through another mount or as another user; hence the state, to be
    /// compared at the end.
    fn of_unwritable(path: &Path) -> Result<Option<Self>, SqliteError> {
        let folder = path.parent().unwrap_or_else(|| Path::new("/"));
        let writable = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
        if writable(folder) || writable(path) {
            return Ok(None);
        }
        let state = Self::of(path).map_err(|source| SqliteError::from_io(path, source))?;
        Ok(if state.sidecars == [false; 3] { Some(state) } else { None })
    }
}
