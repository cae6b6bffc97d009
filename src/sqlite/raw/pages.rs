//! Pages through `sqlite_dbpage`, as fast as `SQLite` reads them.

use std::ffi::{CStr, c_int};
use std::ptr::{self, NonNull};

use rusqlite::{Connection, ffi};

use super::super::LOCK_BYTE_OFFSET;

/// A connection and a statement that yields pages from it.
///
/// rusqlite's `Statement` cannot leave its thread, which a page source must, and cannot live beside the
/// connection it borrows; so the statement is held here, and with it the only borrow of the connection.
#[derive(Debug)]
pub(in crate::sqlite) struct PageReader<'c> {
    connection: &'c mut Connection,
    scan: NonNull<ffi::sqlite3_stmt>,
    lookup: NonNull<ffi::sqlite3_stmt>,
    /// The page that the next step of `scan` yields, from 1; 0 when it must be started over.
    next: u32,
}

// SAFETY: `Connection` is `Send`, and so is the exclusive borrow of it. The statements belong to that connection, are
// reachable only through this value, and SQLite in its serialized mode (SQLITE_THREADSAFE=1) ties neither to a thread.
unsafe impl Send for PageReader<'_> {}

impl<'c> PageReader<'c> {
    /// Of the main database.
    pub(in crate::sqlite) fn new(connection: &'c mut Connection) -> rusqlite::Result<Self> {
        let (scan, lookup) =
            (c"SELECT data FROM sqlite_dbpage", c"SELECT data FROM sqlite_dbpage WHERE pgno = ?1");
        Self::with(connection, scan, lookup)
    }

    /// Of the database attached as `target`.
    pub(in crate::sqlite) fn of_target(connection: &'c mut Connection) -> rusqlite::Result<Self> {
        let scan = c"SELECT data FROM sqlite_dbpage('target')";
        let lookup = c"SELECT data FROM sqlite_dbpage('target') WHERE pgno = ?1";
        Self::with(connection, scan, lookup)
    }

    fn with(connection: &'c mut Connection, scan: &CStr, lookup: &CStr) -> rusqlite::Result<Self> {
        let scan = prepare(connection, scan)?;
        let lookup = match prepare(connection, lookup) {
            Ok(lookup) => lookup,
            Err(error) => {
                // SAFETY: `scan` was prepared above and is used nowhere else.
                unsafe { ffi::sqlite3_finalize(scan.as_ptr()) };
                return Err(error);
            }
        };
        Ok(Self { connection, scan, lookup, next: 1 })
    }

    pub(in crate::sqlite) const fn connection(&self) -> &Connection {
        self.connection
    }

    /// Fills `into` with the page of that number, counted from 1. `false` if there is no such page, or
    /// one of another length.
    pub(in crate::sqlite) fn read(&mut self, page_number: u32, into: &mut [u8]) -> rusqlite::Result<bool> {
        if page_number == self.next {
            self.next = 0;
            let filled = self.step(self.scan, into)?;
            self.next = page_number + 1;
            return Ok(filled);
        }
        // SAFETY: the statement is live and, after the reset, may be bound.
        unsafe {
            ffi::sqlite3_reset(self.lookup.as_ptr());
            ffi::sqlite3_bind_int64(self.lookup.as_ptr(), 1, i64::from(page_number));
        }
        let filled = self.step(self.lookup, into)?;
        // SAFETY: as above. Ends the look-up, so that it does not keep the transaction open.
        unsafe { ffi::sqlite3_reset(self.lookup.as_ptr()) };
        Ok(filled)
    }

    /// Ends the running scan, so that the transaction can end.
    pub(in crate::sqlite) fn reset(&mut self) {
        // SAFETY: both statements are live; a reset repeats the error of the last step, already reported.
        unsafe {
            ffi::sqlite3_reset(self.scan.as_ptr());
            ffi::sqlite3_reset(self.lookup.as_ptr());
        }
        self.next = 1;
    }

    fn step(&self, statement: NonNull<ffi::sqlite3_stmt>, into: &mut [u8]) -> rusqlite::Result<bool> {
        // SAFETY: `statement` is one of the two live ones. The blob stays valid until its next step; it is
        // copied out at once, and its length is compared with that of `into` first.
        unsafe {
            match ffi::sqlite3_step(statement.as_ptr()) {
                ffi::SQLITE_ROW => {}
                ffi::SQLITE_DONE => return Ok(false),
                _ => return Err(last_error(self.connection)),
            }
            let blob = ffi::sqlite3_column_blob(statement.as_ptr(), 0).cast::<u8>();
            let len = ffi::sqlite3_column_bytes(statement.as_ptr(), 0);
            if blob.is_null() || usize::try_from(len) != Ok(into.len()) {
                return Ok(false);
            }
            ptr::copy_nonoverlapping(blob, into.as_mut_ptr(), into.len());
        }
        Ok(true)
    }
}

/// Fills `into` with consecutive pages from `first_page`, counted from 0, and the lock-byte page with zeros, whatever
/// the file has there. The number of a page that is missing, counted from 1, if there is one.
pub(in crate::sqlite) fn read_run(
    pages: &mut PageReader<'_>,
    first_page: u32,
    page_size: usize,
    into: &mut [u8],
) -> rusqlite::Result<Option<u32>> {
    for (number, page) in (first_page + 1..).zip(into.chunks_exact_mut(page_size)) {
        if !pages.read(number, page)? {
            return Ok(Some(number));
        }
        if u64::from(number - 1) * page_size as u64 == LOCK_BYTE_OFFSET {
            page.fill(0);
        }
    }
    Ok(None)
}

impl Drop for PageReader<'_> {
    fn drop(&mut self) {
        // SAFETY: prepared in `new`, finalized only here, while the connection is still open.
        unsafe {
            ffi::sqlite3_finalize(self.scan.as_ptr());
            ffi::sqlite3_finalize(self.lookup.as_ptr());
        }
    }
}

fn prepare(connection: &Connection, sql: &CStr) -> rusqlite::Result<NonNull<ffi::sqlite3_stmt>> {
    let mut statement = ptr::null_mut();
    // SAFETY: an open handle, NUL-terminated SQL (so the length -1 is right), and a local for the result.
    let code = unsafe {
        ffi::sqlite3_prepare_v2(
            connection.handle(),
            sql.as_ptr(),
            -1 as c_int,
            &raw mut statement,
            ptr::null_mut(),
        )
    };
    match NonNull::new(statement) {
        Some(statement) if code == ffi::SQLITE_OK => Ok(statement),
        _ => Err(last_error(connection)),
    }
}

fn last_error(connection: &Connection) -> rusqlite::Error {
    // SAFETY: an open handle; the text is copied before anything else is called on the connection.
    unsafe {
        let handle = connection.handle();
        let message = CStr::from_ptr(ffi::sqlite3_errmsg(handle)).to_string_lossy().into_owned();
        let code = ffi::sqlite3_extended_errcode(handle);
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(message))
    }
}
