//! Questions to an open connection that rusqlite does not ask.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::{Connection, ffi};

/// Bytes of one region of the wal-index (walformat, section 2.1).
const SHM_REGION_LEN: c_int = 32_768;

/// Whether the linked `SQLite` was compiled with `option` (without its `SQLITE_` prefix).
pub(in crate::sqlite) fn compile_option_used(option: &CStr) -> bool {
    // SAFETY: a NUL-terminated string that outlives the call; the function keeps nothing.
    unsafe { ffi::sqlite3_compileoption_used(option.as_ptr()) != 0 }
}

/// Keeps the `-wal` and `-shm` on close, as every reader that is not the last one does.
pub(in crate::sqlite) fn persist_wal(connection: &Connection) -> rusqlite::Result<()> {
    let mut persist: c_int = 1;
    file_control(connection, ffi::SQLITE_FCNTL_PERSIST_WAL, (&raw mut persist).cast())
}

/// Whether the file under the connection no longer bears the name it was opened by.
pub(in crate::sqlite) fn has_moved(connection: &Connection) -> rusqlite::Result<bool> {
    has_moved_in(connection, c"main")
}

/// As [`has_moved`], of the database attached as `schema`.
pub(in crate::sqlite) fn has_moved_in(connection: &Connection, schema: &CStr) -> rusqlite::Result<bool> {
    let mut moved: c_int = 0;
    file_control_in(connection, schema, ffi::SQLITE_FCNTL_HAS_MOVED, (&raw mut moved).cast())?;
    Ok(moved != 0)
}

/// Lets commits of this connection leave free pages where they are, also in a database with `auto_vacuum=FULL`.
///
/// Pages that are written from outside the B-tree layer must not be moved by it at the commit.
pub(in crate::sqlite) fn keep_free_pages(connection: &Connection) -> rusqlite::Result<()> {
    unsafe extern "C" fn none(_: *mut c_void, _: *const c_char, _: c_uint, _: c_uint, _: c_uint) -> c_uint {
        0
    }
    // SAFETY: an open handle; the callback touches nothing and there is neither data nor a destructor.
    check(unsafe { ffi::sqlite3_autovacuum_pages(connection.handle(), Some(none), ptr::null_mut(), None) })
}

/// Length of the database file in bytes, by `SQLite`'s own handle.
pub(in crate::sqlite) fn file_len(connection: &Connection) -> rusqlite::Result<u64> {
    let file = file_pointer(connection, ffi::SQLITE_FCNTL_FILE_POINTER)?;
    let mut len: ffi::sqlite3_int64 = 0;
    // SAFETY: `file` is the connection's open main file (checked non-null with methods by `file_pointer`),
    // and `len` outlives the call.
    let code = unsafe {
        match (*(*file).pMethods).xFileSize {
            Some(size) => size(file, &raw mut len),
            None => ffi::SQLITE_MISUSE,
        }
    };
    check(code)?;
    Ok(u64::try_from(len).unwrap_or(0))
}

/// The head of the wal-index: what the log holds at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sqlite) struct WalIndex {
    /// Last valid frame of the log.
    pub(in crate::sqlite) last_frame: u32,
    /// Frames already copied into the database file.
    pub(in crate::sqlite) backfilled: u32,
}

/// The end of a write-ahead log: what its last valid frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sqlite) struct WalEnd {
    /// Last valid frame, 0 if there is none.
    pub(in crate::sqlite) last_frame: u32,
    /// Cumulative checksum of that frame.
    pub(in crate::sqlite) checksum: (u32, u32),
    /// Salts of the log.
    pub(in crate::sqlite) salts: (u32, u32),
}

/// Words of the wal-index header, of which there are two copies (walformat, section 2.1).
const WAL_INDEX_HEADER_WORDS: usize = 12;

/// Reads the head of the wal-index through `SQLite`'s own mapping.
///
/// To be called on a connection that has read a WAL database in shared locking mode, so that the
/// mapping exists; otherwise the call might create one.
pub(in crate::sqlite) fn wal_index(connection: &Connection) -> rusqlite::Result<Option<WalIndex>> {
    let words = wal_index_words(connection)?;
    Ok(words.map(|words| WalIndex { last_frame: words[4], backfilled: words[24] }))
}

/// Reads the end of the log from the wal-index; `None` if there is none or it is being written. To be called as
/// [`wal_index`].
pub(in crate::sqlite) fn wal_end(connection: &Connection) -> rusqlite::Result<Option<WalEnd>> {
    let words = wal_index_words(connection)?;
    let whole = words.filter(|words| {
        let (one, rest) = words.split_at(WAL_INDEX_HEADER_WORDS);
        one == &rest[..WAL_INDEX_HEADER_WORDS]
    });
    Ok(whole.map(|words| WalEnd {
        last_frame: words[4],
        checksum: (words[6], words[7]),
        salts: (words[8], words[9]),
    }))
}

/// Both copies of the wal-index header and the first word of the checkpoint information.
fn wal_index_words(
    connection: &Connection,
) -> rusqlite::Result<Option<[u32; 2 * WAL_INDEX_HEADER_WORDS + 1]>> {
    let file = file_pointer(connection, ffi::SQLITE_FCNTL_FILE_POINTER)?;
    let mut region: *mut c_void = ptr::null_mut();
    // SAFETY: `file` is open; `xShmMap` exists from version 2 of the methods; extending is not asked for, so
    // that an absent region comes back as null.
    let code = unsafe {
        let methods = &*(*file).pMethods;
        match methods.xShmMap {
            Some(map) if methods.iVersion >= 2 => map(file, 0, SHM_REGION_LEN, 0, &raw mut region),
            _ => return Ok(None),
        }
    };
    if region.is_null() || (code != ffi::SQLITE_OK && code & 0xff != ffi::SQLITE_READONLY) {
        return Ok(None);
    }
    let mut words = [0; 2 * WAL_INDEX_HEADER_WORDS + 1];
    for (index, word) in words.iter_mut().enumerate() {
        // SAFETY: a region is 32 KiB, aligned to a page, and stays mapped while the connection is open in WAL
        // mode. Other processes write it, so it is read atomically; these words are in native byte order.
        *word = unsafe { region.cast::<AtomicU32>().add(index).as_ref() }.map_or(0, load);
    }
    Ok(Some(words))
}

fn load(word: &AtomicU32) -> u32 {
    word.load(Ordering::Acquire)
}

/// Fills `into` from `offset` of the write-ahead log, by `SQLite`'s own handle.
pub(in crate::sqlite) fn read_wal(
    connection: &Connection,
    offset: u64,
    into: &mut [u8],
) -> rusqlite::Result<()> {
    read_by_handle(connection, ffi::SQLITE_FCNTL_JOURNAL_POINTER, offset, into)
}

/// Fills `into` from `offset` of the database file as it is at this moment, by `SQLite`'s own handle. No lock is taken:
/// a writer may be at work there.
pub(in crate::sqlite) fn read_file(
    connection: &Connection,
    offset: u64,
    into: &mut [u8],
) -> rusqlite::Result<()> {
    read_by_handle(connection, ffi::SQLITE_FCNTL_FILE_POINTER, offset, into)
}

fn read_by_handle(
    connection: &Connection,
    operation: c_int,
    offset: u64,
    into: &mut [u8],
) -> rusqlite::Result<()> {
    let file = file_pointer(connection, operation)?;
    let (Ok(len), Ok(offset)) = (c_int::try_from(into.len()), i64::try_from(offset)) else {
        return check(ffi::SQLITE_TOOBIG);
    };
    // SAFETY: `file` is open, and no other thread uses the connection that is borrowed; `into` has `len` writable bytes.
    let code = unsafe {
        match (*(*file).pMethods).xRead {
            Some(read) => read(file, into.as_mut_ptr().cast(), len, offset),
            None => ffi::SQLITE_MISUSE,
        }
    };
    check(code)
}

/// The `sqlite3_file` of the main database or its journal; an error if it is not open.
fn file_pointer(connection: &Connection, operation: c_int) -> rusqlite::Result<*mut ffi::sqlite3_file> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    file_control(connection, operation, (&raw mut file).cast())?;
    // SAFETY: a non-null pointer from these operations is the pager's own file object; `pMethods` is
    // null exactly when it is not open.
    if file.is_null() || unsafe { (*file).pMethods.is_null() } {
        return check(ffi::SQLITE_NOTFOUND).map(|()| file);
    }
    Ok(file)
}

/// `argument` must be what `operation` documents.
fn file_control(connection: &Connection, operation: c_int, argument: *mut c_void) -> rusqlite::Result<()> {
    file_control_in(connection, c"main", operation, argument)
}

fn file_control_in(
    connection: &Connection,
    schema: &CStr,
    operation: c_int,
    argument: *mut c_void,
) -> rusqlite::Result<()> {
    // SAFETY: the handle is open while `connection` is borrowed; the callers above, the only ones, pass a
    // pointer of the type that the operation documents, to a local that outlives the call.
    check(unsafe { ffi::sqlite3_file_control(connection.handle(), schema.as_ptr(), operation, argument) })
}

fn check(code: c_int) -> rusqlite::Result<()> {
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
}

/// Reserves `bytes` at the end of each page from the next `VACUUM` on, as encrypting extensions do.
#[cfg(test)]
pub(in crate::sqlite) fn reserve_bytes(connection: &Connection, bytes: u8) -> rusqlite::Result<()> {
    let mut reserved = c_int::from(bytes);
    file_control(connection, ffi::SQLITE_FCNTL_RESERVE_BYTES, (&raw mut reserved).cast())
}
