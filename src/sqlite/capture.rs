//! One read snapshot of a live database, page by page.
//!
//! `BEGIN`, one read, and `SQLite` holds the snapshot: in rollback mode a shared lock that makes a committing writer wait,
//! in WAL mode a mark that keeps the log from being reset. Both end with [`Capture::finish`] at the latest,
//! which callers reach as soon as the last page is read.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::LOCK_BYTE_OFFSET;
use super::database::{FileState, busy_or, patiently};
use super::error::SqliteError;
use super::header::{DatabaseHeader, JournalMode, TextEncoding};
use super::image::{DEFAULT_PAGE_SIZE, check_range};
use super::raw::connection::{WalEnd, file_len, has_moved, read_wal, wal_end, wal_index};
use super::raw::pages::PageReader;
use super::schema;
use super::witness::Witness;
use crate::error::Error;
use crate::page_source::{Geometry, PageSize, PageSource};

/// Bytes before the first frame of a write-ahead log, and before the page of each (walformat, 4.1 and 4.2).
const WAL_HEADER_LEN: u64 = 32;
const WAL_FRAME_HEADER_LEN: u64 = 24;

/// What is known of a database once its read snapshot is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// How it commits. [`JournalMode::Rollback`] if it has no pages.
    pub journal_mode: JournalMode,
    /// The application's number.
    pub user_version: i32,
    /// The file type's number.
    pub application_id: i32,
    /// See [`schema_fingerprint`](super::schema_fingerprint); all zeros if the schema
    /// cannot be read, which does not keep the pages from being captured.
    pub schema_fingerprint: [u8; 32],
    /// How text is stored.
    pub text_encoding: TextEncoding,
    /// Version of the `SQLite` that reads, such as `3.54.1`.
    pub sqlite_version: String,
    /// The header of page 1; `None` if the database has no pages.
    pub header: Option<DatabaseHeader>,
    /// Frames in the write-ahead log when the snapshot was taken, and those that writers added in the same
    /// instant. `None` in rollback mode.
    pub wal_frames: Option<u32>,
}

/// What a finished capture cost the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureFigures {
    /// How long the read snapshot was held.
    pub hold: Duration,
    /// What can prove later that nothing has changed since; `None` where nothing can. Better than that of the beginning:
    /// what was written just before the capture has had time to settle.
    pub witness: Option<Witness>,
}

/// A read snapshot of a live database: the image as of one commit. Dropping it ends the snapshot.
#[derive(Debug)]
pub struct Capture<'a> {
    pages: PageReader<'a>,
    path: &'a Path,
    immutable: Option<&'a FileState>,
    geometry: Geometry,
    facts: DatabaseFacts,
    since: Instant,
    held: Option<Duration>,
    witness: Option<Witness>,
}

impl<'a> Capture<'a> {
    pub(super) fn begin(
        connection: &'a mut Connection,
        path: &'a Path,
        patience: Duration,
        immutable: Option<&'a FileState>,
    ) -> Result<Self, SqliteError> {
        let started = Instant::now();
        let pages = PageReader::new(connection).map_err(|error| busy_or(path, error, started))?;
        let mut capture = Self {
            pages,
            path,
            immutable,
            geometry: Geometry { page_size: DEFAULT_PAGE_SIZE, page_count: 0 },
            facts: DatabaseFacts::of_nothing(),
            since: started,
            held: None,
            witness: None,
        };
        let log_before = capture.log_end();
        capture.take_snapshot(patience).map_err(|error| busy_or(path, error, started))?;
        capture.since = Instant::now();
        let log = log_before.zip(capture.log_end());
        let connection = capture.pages.connection();
        if has_moved(connection).map_err(|error| capture.failed(error))? {
            return Err(SqliteError::Moved { path: path.to_path_buf() });
        }
        capture.geometry = read_geometry(connection).map_err(|error| capture.failed(error))?;
        capture.read_facts()?;
        capture.check_length()?;
        let in_wal_mode = capture.facts.journal_mode == JournalMode::Wal;
        if immutable.is_none() && in_wal_mode == log.is_some() {
            capture.witness = Witness::take(path, log);
        }
        Ok(capture)
    }

    /// The end of the log as other connections see it now; `None` in rollback mode.
    fn log_end(&self) -> Option<WalEnd> {
        let connection = self.pages.connection();
        let mode: String = connection.query_row("PRAGMA journal_mode", (), |row| row.get(0)).ok()?;
        if mode == "wal" { wal_end(connection).ok().flatten() } else { None }
    }

    /// What can prove that nothing has changed since an earlier capture; `None` where nothing can.
    #[must_use]
    pub const fn witness(&self) -> Option<Witness> {
        self.witness
    }

    /// `BEGIN` alone takes no lock; the first read does. It reads no more than the header, so that a
    /// damaged schema does not stand in the way.
    fn take_snapshot(&self, patience: Duration) -> rusqlite::Result<()> {
        let connection = self.pages.connection();
        connection.execute_batch("BEGIN")?;
        patiently(connection, patience, || connection.query_row("PRAGMA schema_version", (), |_| Ok(())))
    }

    /// What is known of the database.
    #[must_use]
    pub const fn facts(&self) -> &DatabaseFacts {
        &self.facts
    }

    /// Whether the snapshot has a table of that name, compared as `SQLite` compares names.
    ///
    /// # Errors
    /// Whatever keeps the schema from being read.
    pub fn has_table(&self, table: &str) -> Result<bool, SqliteError> {
        schema::has_table(self.pages.connection(), table).map_err(|error| self.failed(error))
    }

    /// How long the snapshot has been held.
    #[must_use]
    pub fn held(&self) -> Duration {
        self.held.unwrap_or_else(|| self.since.elapsed())
    }

    /// Ends the snapshot at once.
    ///
    /// # Errors
    /// `Moved` if the file was one that cannot be locked and changed meanwhile: the pages read are then worthless.
    pub fn finish(mut self) -> Result<CaptureFigures, SqliteError> {
        let witness = self.witness.and_then(|witness| witness.seen_again(self.path));
        self.end().map_err(|error| self.failed(error))?;
        if let Some(before) = self.immutable {
            let after = FileState::of(self.path).map_err(|source| SqliteError::from_io(self.path, source))?;
            if *before != after {
                return Err(SqliteError::Moved { path: self.path.to_path_buf() });
            }
        }
        Ok(CaptureFigures { hold: self.held(), witness })
    }

    fn end(&mut self) -> rusqlite::Result<()> {
        self.pages.reset();
        let ended = self.pages.connection().execute_batch("COMMIT");
        self.held = Some(self.since.elapsed());
        ended
    }

    fn failed(&self, error: rusqlite::Error) -> SqliteError {
        SqliteError::classify(self.path, error, 0)
    }

    fn read_facts(&mut self) -> Result<(), SqliteError> {
        if let Ok(fingerprint) = schema::schema_fingerprint(self.pages.connection()) {
            self.facts.schema_fingerprint = fingerprint;
        }
        if self.geometry.page_count == 0 {
            return Ok(());
        }
        let mut page = vec![0; self.geometry.page_size.bytes() as usize];
        self.read_page(1, &mut page)?;
        let header = DatabaseHeader::parse(&page).map_err(|error| SqliteError::Unsupported {
            path: self.path.to_path_buf(),
            why: error.to_string(),
        })?;
        self.facts.journal_mode = header.journal_mode;
        self.facts.user_version = header.user_version;
        self.facts.application_id = header.application_id;
        self.facts.text_encoding = header.text_encoding;
        self.facts.header = Some(header);
        if header.journal_mode == JournalMode::Wal && self.immutable.is_none() {
            let index = wal_index(self.pages.connection()).map_err(|error| self.failed(error))?;
            self.facts.wal_frames = index.map(|index| index.last_frame);
        }
        Ok(())
    }

    /// Makes sure that every page is somewhere. `SQLite` reads what lies beyond the end of the file as zeros, without
    /// an error; that is right only for pages that are in the write-ahead log.
    fn check_length(&self) -> Result<(), SqliteError> {
        let page_size = u64::from(self.geometry.page_size.bytes());
        let connection = self.pages.connection();
        let len = file_len(connection).map_err(|error| self.failed(error))?;
        if len >= self.geometry.image_len() {
            return Ok(());
        }
        let index = match self.facts.wal_frames {
            Some(_) => wal_index(connection).map_err(|error| self.failed(error))?,
            None => None,
        };
        // A log that is copied back completely is not read any more, whatever it holds. If a checkpoint ended just now,
        // the file has its full length by now.
        let frames =
            index.filter(|index| index.backfilled < index.last_frame).map_or(0, |index| index.last_frame);
        let len = file_len(connection).map_err(|error| self.failed(error))?;
        let first_missing = len / page_size + 1;
        let missing = self.missing_from_log(first_missing, frames).map_err(|error| self.failed(error))?;
        missing.map_or(Ok(()), |page| Err(SqliteError::Damaged {
            path: self.path.to_path_buf(),
            why: format!(
                "the file has {len} bytes but the database {} pages of {page_size}: page {page} is nowhere",
                self.geometry.page_count
            ),
        }))
    }

    /// The first page from `first` that none of the log's first `frames` frames holds.
    fn missing_from_log(&self, first: u64, frames: u32) -> rusqlite::Result<Option<u64>> {
        let page_size = u64::from(self.geometry.page_size.bytes());
        let count = u64::from(self.geometry.page_count);
        let mut logged = vec![false; usize::try_from((count + 1).saturating_sub(first)).unwrap_or(0)];
        for frame in 0..u64::from(frames) {
            let mut number = [0; 4];
            let offset = WAL_HEADER_LEN + frame * (WAL_FRAME_HEADER_LEN + page_size);
            read_wal(self.pages.connection(), offset, &mut number)?;
            let at = u64::from(u32::from_be_bytes(number)).checked_sub(first);
            if let Some(slot) = at.and_then(|at| logged.get_mut(usize::try_from(at).unwrap_or(usize::MAX))) {
                *slot = true;
            }
        }
        let lock_page = LOCK_BYTE_OFFSET / page_size + 1;
        let absent = (first..).zip(&logged).find(|&(page, logged)| !*logged && page != lock_page);
        Ok(absent.map(|(page, _)| page))
    }

    /// Fills `into` with the page of that number, counted from 1.
    fn read_page(&mut self, number: u32, into: &mut [u8]) -> Result<(), SqliteError> {
        match self.pages.read(number, into) {
            Ok(true) => {
                if u64::from(number - 1) * into.len() as u64 == LOCK_BYTE_OFFSET {
                    into.fill(0);
                }
                Ok(())
            }
            Ok(false) => Err(SqliteError::Damaged {
                path: self.path.to_path_buf(),
                why: format!("page {number} of {} cannot be read", self.geometry.page_count),
            }),
            Err(error) => Err(self.failed(error)),
        }
    }
}

impl PageSource for Capture<'_> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_pages(&mut self, first_page: u32, into: &mut [u8]) -> Result<(), Error> {
        check_range(self.geometry, first_page, into.len())?;
        let page_size = self.geometry.page_size.bytes() as usize;
        for (number, page) in (first_page + 1..).zip(into.chunks_exact_mut(page_size)) {
            self.read_page(number, page)?;
        }
        Ok(())
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if self.held.is_none() {
            // Nothing to be done about a failure here: closing the connection ends the transaction too.
            let _ = self.end();
        }
    }
}

impl DatabaseFacts {
    fn of_nothing() -> Self {
        Self {
            journal_mode: JournalMode::Rollback,
            user_version: 0,
            application_id: 0,
            schema_fingerprint: [0; 32],
            text_encoding: TextEncoding::Utf8,
            sqlite_version: rusqlite::version().to_owned(),
            header: None,
            wal_frames: None,
        }
    }
}

pub(super) fn read_geometry(connection: &Connection) -> rusqlite::Result<Geometry> {
    let number = |sql| connection.query_row(sql, (), |row| row.get::<_, u32>(0));
    let (page_size, page_count) = (number("PRAGMA page_size")?, number("PRAGMA page_count")?);
    let outside = || rusqlite::Error::IntegralValueOutOfRange(0, i64::from(page_size));
    Ok(Geometry { page_size: PageSize::new(page_size).ok_or_else(outside)?, page_count })
}
