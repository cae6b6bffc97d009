//! Writing pages into a database that applications have open: one transaction of `SQLite`'s own, so that every other
//! connection sees the state before or the state after, and a crash leaves one of the two.
//!
//! What it rests on, all of it seen on `SQLite` 3.54:
//!
//! - The target is attached to a connection whose main database is in memory. Written as `main`, a new page 1 would make
//!   the connection parse a schema of which half the pages are still the old ones.
//! - `sqlite3_autovacuum_pages` keeps the commit from moving pages in a target with `auto_vacuum=FULL`.
//! - Page 1 is written after all others. It keeps the journal mode of the target, and has a schema cookie that no
//!   open connection can know, so that all of them read the schema anew.
//! - Truncation is the very last row: any page that is written after it cancels it.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags};

use super::LOCK_BYTE_OFFSET;
use super::database::{busy_or, patiently};
use super::error::SqliteError;
use super::header::TextEncoding;
use super::image::check_range;
use super::raw;
use super::raw::connection::{has_moved_in, keep_free_pages};
use super::raw::pages::{PageReader, read_run};
use crate::error::Error;
use crate::page_source::{Geometry, PageSize, PageSource};

const WRITE_PAGE: &str = "INSERT INTO sqlite_dbpage(pgno, data, schema) VALUES(?1, ?2, 'target')";
const TRUNCATE: &str = "INSERT INTO sqlite_dbpage(pgno, data, schema) VALUES(?1, NULL, 'target')";

/// Write and read version: the journal mode.
const VERSIONS: std::ops::Range<usize> = 18..20;
/// Pages of the database, as the last writer saw it.
const PAGE_COUNT: std::ops::Range<usize> = 28..32;
const SCHEMA_COOKIE: std::ops::Range<usize> = 40..44;
/// What a commit writes by itself, and what a live target keeps: change counter, versions, cookie.
const OF_THE_TARGET: [std::ops::Range<usize>; 5] = [VERSIONS, 24..28, PAGE_COUNT, SCHEMA_COOKIE, 92..100];

/// A database that is to be written although others have it open.
#[derive(Debug)]
pub struct LiveTarget {
    connection: Connection,
    path: PathBuf,
    patience: Duration,
}

impl LiveTarget {
    /// Opens the existing database at `path`, whose text is stored as `encoding`; waits for locks for `patience`.
    ///
    /// # Errors
    /// See [`SqliteError`]; in particular whatever keeps its schema from being read.
    pub fn open(path: &Path, encoding: TextEncoding, patience: Duration) -> Result<Self, SqliteError> {
        if !raw::connection::compile_option_used(c"ENABLE_DBPAGE_VTAB") {
            return Err(SqliteError::MissingBuildFlags);
        }
        let path = std::fs::canonicalize(path).map_err(|source| SqliteError::from_io(path, source))?;
        let started = Instant::now();
        let connect = || -> rusqlite::Result<Connection> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(":memory:", flags)?;
            connection.pragma_update(None, "encoding", pragma_word(encoding))?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
            connection.execute_batch(
                "PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=OFF;",
            )?;
            keep_free_pages(&connection)?;
            // Text of whatever bytes the path has.
            let name = ToSqlOutput::Borrowed(ValueRef::Text(path.as_os_str().as_bytes()));
            patiently(&connection, patience, || connection.execute("ATTACH DATABASE ?1 AS target", [&name]))?;
            // The application's checkpoints are its own; our frames wait for them, or for the last one to close.
            connection.execute_batch(
                "PRAGMA target.synchronous=EXTRA; PRAGMA wal_autocheckpoint=0; PRAGMA target.mmap_size=0;",
            )?;
            Ok(connection)
        };
        let connection = connect().map_err(|error| busy_or(&path, error, started))?;
        Ok(Self { connection, path, patience })
    }

    /// Takes the write lock: from now on nobody else commits.
    ///
    /// # Errors
    /// `Busy` if another connection keeps it, `Moved` if the file has been replaced.
    pub fn begin(&mut self) -> Result<LiveWrite<'_>, SqliteError> {
        let Self { connection, path, patience } = self;
        let started = Instant::now();
        let pages = PageReader::of_target(connection).map_err(|error| busy_or(path, error, started))?;
        let connection = pages.connection();
        patiently(connection, *patience, || connection.execute_batch("BEGIN IMMEDIATE"))
            .map_err(|error| busy(path, error, started))?;
        let none = Geometry { page_size: super::image::DEFAULT_PAGE_SIZE, page_count: 0 };
        let mut write =
            LiveWrite { pages, path, geometry: none, page_1: Vec::new(), since: started, open: true };
        write.since = Instant::now();
        if has_moved_in(write.pages.connection(), c"target").map_err(|error| write.failed(error))? {
            return Err(SqliteError::Moved { path: path.clone() });
        }
        write.look()?;
        Ok(write)
    }

    /// Reads the target in a transaction of its own, as it is now: whether others have committed since the write
    /// transaction that ended with `committed`, and the pages.
    ///
    /// # Errors
    /// `Busy`, or whatever keeps it from being read.
    pub fn read_back(&mut self, committed: Committed) -> Result<(bool, LiveWrite<'_>), SqliteError> {
        let Self { connection, path, patience } = self;
        let started = Instant::now();
        // The B-tree layer remembers what it found in the pages of the old schema, which were written behind its back.
        connection.execute_batch("PRAGMA shrink_memory").map_err(|error| busy_or(path, error, started))?;
        let pages = PageReader::of_target(connection).map_err(|error| busy_or(path, error, started))?;
        let connection = pages.connection();
        connection.execute_batch("BEGIN").map_err(|error| busy_or(path, error, started))?;
        let version = patiently(connection, *patience, || data_version(connection))
            .map_err(|error| busy_or(path, error, started));
        let none = Geometry { page_size: super::image::DEFAULT_PAGE_SIZE, page_count: 0 };
        let mut read =
            LiveWrite { pages, path, geometry: none, page_1: Vec::new(), since: Instant::now(), open: true };
        let untouched = version? == committed.data_version;
        read.look()?;
        Ok((untouched, read))
    }

    /// The canonical path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A write transaction that was committed, for [`LiveTarget::read_back`].
#[derive(Debug, Clone, Copy)]
pub struct Committed {
    data_version: i64,
    /// How long nobody else could write.
    pub held: Duration,
}

/// The write transaction on a target; a [`PageSource`] of its pages. Dropped, it is rolled back.
#[derive(Debug)]
pub struct LiveWrite<'c> {
    pages: PageReader<'c>,
    path: &'c Path,
    geometry: Geometry,
    page_1: Vec<u8>,
    since: Instant,
    open: bool,
}

impl LiveWrite<'_> {
    fn look(&mut self) -> Result<(), SqliteError> {
        let connection = self.pages.connection();
        let number = |sql: &str| connection.query_row(sql, (), |row| row.get::<_, u32>(0));
        let page_size = number("PRAGMA target.page_size").map_err(|error| self.failed(error))?;
        let page_count = number("PRAGMA target.page_count").map_err(|error| self.failed(error))?;
        let page_size = PageSize::new(page_size).ok_or_else(|| SqliteError::Damaged {
            path: self.path.to_path_buf(),
            why: format!("its pages have {page_size} bytes"),
        })?;
        self.geometry = Geometry { page_size, page_count };
        if page_count > 0 {
            let mut page_1 = vec![0; page_size.bytes() as usize];
            self.read(0, &mut page_1)?;
            self.page_1 = page_1;
        }
        Ok(())
    }

    /// For how long the transaction has been open.
    #[must_use]
    pub fn held(&self) -> Duration {
        self.since.elapsed()
    }

    /// Writes the page of that number, counted from 1 and not 1 itself.
    ///
    /// # Errors
    /// `Busy` where the pages do not fit into memory and readers do not let go; a full disk.
    pub fn write_page(&self, number: u32, page: &[u8]) -> Result<(), SqliteError> {
        if u64::from(number - 1) * page.len() as u64 == LOCK_BYTE_OFFSET {
            return Ok(());
        }
        let connection = self.pages.connection();
        let written =
            connection.prepare_cached(WRITE_PAGE).and_then(|mut write| write.execute((number, page)));
        written.map(|_| ()).map_err(|error| self.failed(error))
    }

    /// Writes page 1 of the image, cuts the database to `page_count` pages, and commits: until then nobody has seen
    /// anything.
    ///
    /// # Errors
    /// `Busy` where a reader in rollback mode does not let go. The target is then as it was.
    pub fn commit(
        mut self,
        page_1: &[u8],
        page_count: u32,
        patience: Duration,
    ) -> Result<Committed, SqliteError> {
        let page_1 = adapted(page_1, &self.page_1, page_count);
        self.pages.reset();
        let started = Instant::now();
        let finish = || -> rusqlite::Result<i64> {
            let connection = self.pages.connection();
            let version = data_version(connection)?;
            connection.execute(WRITE_PAGE, (1, &page_1))?;
            if page_count < self.geometry.page_count {
                // A row of a statement of its own: as the second row of the one above it has no effect (seen).
                connection.execute(TRUNCATE, [page_count + 1])?;
            }
            // In rollback mode this waits for readers; the write lock keeps new ones from starving it.
            patiently(connection, patience, || connection.execute_batch("COMMIT"))?;
            Ok(version)
        };
        let data_version = finish().map_err(|error| busy(self.path, error, started))?;
        self.open = false;
        Ok(Committed { data_version, held: self.since.elapsed() })
    }

    fn read(&mut self, first_page: u32, into: &mut [u8]) -> Result<(), SqliteError> {
        let page_size = self.geometry.page_size.bytes() as usize;
        match read_run(&mut self.pages, first_page, page_size, into) {
            Ok(None) => Ok(()),
            Ok(Some(number)) => Err(SqliteError::Damaged {
                path: self.path.to_path_buf(),
                why: format!("page {number} of {} cannot be read", self.geometry.page_count),
            }),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: rusqlite::Error) -> SqliteError {
        SqliteError::classify(self.path, error, 0)
    }
}

impl PageSource for LiveWrite<'_> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_pages(&mut self, first_page: u32, into: &mut [u8]) -> Result<(), Error> {
        check_range(self.geometry, first_page, into.len())?;
        Ok(self.read(first_page, into)?)
    }
}

impl Drop for LiveWrite<'_> {
    fn drop(&mut self) {
        if self.open {
            self.pages.reset();
            // Closing the connection would roll back as well.
            let _ = self.pages.connection().execute_batch("ROLLBACK");
        }
    }
}

/// The error of a connection that has read the database: another one that writes does not hold it exclusively.
fn busy(path: &Path, error: rusqlite::Error, started: Instant) -> SqliteError {
    SqliteError::classify(path, error, u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX))
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA target.data_version", (), |row| row.get(0))
}

const fn pragma_word(encoding: TextEncoding) -> &'static str {
    match encoding {
        TextEncoding::Utf8 => "UTF-8",
        TextEncoding::Utf16Le => "UTF-16le",
        TextEncoding::Utf16Be => "UTF-16be",
    }
}

/// Page 1 of an image as it goes into a live target whose page 1 is `live`.
fn adapted(image: &[u8], live: &[u8], page_count: u32) -> Vec<u8> {
    let mut page = image.to_vec();
    let cookie = |page: &[u8]| {
        page.get(SCHEMA_COOKIE).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
    };
    let next = cookie(image).max(cookie(live)).wrapping_add(1);
    if let (Some(versions), true) = (live.get(VERSIONS), page.len() >= SCHEMA_COOKIE.end) {
        page[VERSIONS].copy_from_slice(versions);
        page[PAGE_COUNT].copy_from_slice(&page_count.to_be_bytes());
        page[SCHEMA_COOKIE].copy_from_slice(&next.to_be_bytes());
    }
    page
}

/// Whether two first pages are the same but for what a restore into a live database leaves to the target: journal
/// mode, change counter, page count, schema cookie and the version of the last writer.
#[must_use]
pub fn differs_only_as_live(image: &[u8], live: &[u8]) -> bool {
    let mut at = 0;
    for range in OF_THE_TARGET {
        if image.get(at..range.start) != live.get(at..range.start) {
            return false;
        }
        at = range.end;
    }
    image.get(at..) == live.get(at..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_page_1_keeps_what_is_the_targets() {
        let (mut image, mut live) = (vec![7; 512], vec![7; 512]);
        live[VERSIONS].copy_from_slice(&[2, 2]);
        live[SCHEMA_COOKIE].copy_from_slice(&90_u32.to_be_bytes());
        image[SCHEMA_COOKIE].copy_from_slice(&12_u32.to_be_bytes());
        let page = adapted(&image, &live, 3);
        assert_eq!(page[VERSIONS], [2, 2]);
        assert_eq!(page[PAGE_COUNT], 3_u32.to_be_bytes());
        assert_eq!(page[SCHEMA_COOKIE], 91_u32.to_be_bytes());
        assert!(differs_only_as_live(&image, &page));
        image[100] = 8;
        assert!(!differs_only_as_live(&image, &page));
    }
}
