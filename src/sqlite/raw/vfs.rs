//! A read-only `SQLite` file system over page sources: SQL on an image that is not in any file.
//!
//! One VFS is registered for the process and never removed. An image is put into a table under a fresh number,
//! opened by that name, and taken out of the table by `xOpen`; from then on the `sqlite3_file` owns it.
//! Only main databases open; nothing can be created, so no plaintext can reach a disk by this way.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rusqlite::{Connection, OpenFlags, ffi};

use super::super::error::SqliteError;
use super::super::image_reader::ImageReader;
use crate::error::Error;
use crate::page_source::{Geometry, PageSource};

const VFS_NAME: &CStr = c"pagevault-image";
const NAME_PREFIX: &str = "image-";

/// Images between `ImageConnection::open` and the `xOpen` it causes.
static WAITING: Mutex<BTreeMap<u64, ImageReader>> = Mutex::new(BTreeMap::new());
static NEXT_IMAGE: AtomicU64 = AtomicU64::new(1);

/// A read-only connection over an image; temporary data stays in memory.
#[derive(Debug)]
pub struct ImageConnection {
    connection: Connection,
    failure: Arc<Mutex<Option<Error>>>,
    geometry: Geometry,
}

impl ImageConnection {
    /// Opens `source` with at most `cache_bytes` of its content held here (rounded to 64 KiB runs, at least
    /// one) besides `SQLite`'s own page cache of 2 MiB.
    ///
    /// # Errors
    /// What `SQLite` refuses, and the error of `source` if its header cannot be read. Damage further in shows
    /// in the first query.
    pub fn open(source: Box<dyn PageSource>, cache_bytes: usize) -> Result<Self, SqliteError> {
        let number = NEXT_IMAGE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAME_PREFIX}{number}");
        let reader = ImageReader::new(source, cache_bytes);
        let (failure, geometry) = (reader.failure(), reader.geometry());
        let failed = |source| match lock(&failure).take() {
            Some(error) => SqliteError::Image(error),
            None => SqliteError::Sqlite { path: "image".into(), source },
        };
        register().map_err(failed)?;
        lock(&WAITING).insert(number, reader);
        let connection =
            Connection::open_with_flags_and_vfs(&name, OpenFlags::SQLITE_OPEN_READ_ONLY, VFS_NAME);
        lock(&WAITING).remove(&number);
        let connection = connection.map_err(failed)?;
        connection
            .execute_batch("PRAGMA temp_store=MEMORY; PRAGMA query_only=1; PRAGMA trusted_schema=OFF;")
            .map_err(failed)?;
        Ok(Self { connection, failure, geometry })
    }

    /// The connection, for any reading SQL.
    #[must_use]
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Page size and page count of the image.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The first error of the page source since the last call: what is behind a `disk I/O error`.
    pub fn take_failure(&self) -> Option<Error> {
        lock(&self.failure).take()
    }

    /// The error to report for `error`: the page source's own, if that is what made `SQLite` fail.
    #[must_use]
    pub fn explain(&self, error: rusqlite::Error) -> Error {
        self.take_failure()
            .unwrap_or_else(|| SqliteError::Sqlite { path: "image".into(), source: error }.into())
    }
}

impl std::ops::Deref for ImageConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// Locks even if a panic elsewhere poisoned the mutex: each update of the data behind it is whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The object that `SQLite` allocates (`szOsFile` bytes) and hands to every file method.
#[repr(C)]
struct ImageFile {
    base: ffi::sqlite3_file,
    /// From `Box::into_raw` in `x_open`; freed in `x_close`.
    reader: *mut ImageReader,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(x_close),
    xRead: Some(x_read),
    xWrite: Some(x_write),
    xTruncate: Some(x_truncate),
    xSync: Some(x_flags),
    xFileSize: Some(x_file_size),
    xLock: Some(x_flags),
    xUnlock: Some(x_flags),
    xCheckReservedLock: Some(x_check_reserved_lock),
    xFileControl: Some(x_file_control),
    xSectorSize: Some(x_sector_size),
    xDeviceCharacteristics: Some(x_device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

fn register() -> rusqlite::Result<()> {
    static REGISTERED: OnceLock<c_int> = OnceLock::new();
    let code = *REGISTERED.get_or_init(|| {
        // SAFETY: initialises SQLite, idempotent; the default VFS, if any, is never unregistered by us, and
        // reading its fields is what VFS shims do.
        let Some(default) = (unsafe {
            ffi::sqlite3_initialize();
            ffi::sqlite3_vfs_find(ptr::null()).as_ref()
        }) else {
            return ffi::SQLITE_ERROR;
        };
        let vfs = Box::leak(Box::new(ffi::sqlite3_vfs {
            iVersion: 1,
            szOsFile: c_int::try_from(size_of::<ImageFile>()).unwrap_or(c_int::MAX),
            mxPathname: 64,
            pNext: ptr::null_mut(),
            zName: VFS_NAME.as_ptr(),
            pAppData: ptr::null_mut(),
            xOpen: Some(x_open),
            xDelete: Some(x_delete),
            xAccess: Some(x_access),
            xFullPathname: Some(x_full_pathname),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            // Randomness, sleep and time read nothing but their arguments in SQLite's own VFS modules.
            xRandomness: default.xRandomness,
            xSleep: default.xSleep,
            xCurrentTime: default.xCurrentTime,
            xGetLastError: None,
            xCurrentTimeInt64: None,
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        }));
        // SAFETY: `vfs` is leaked, so it lives as long as the process; not made the default.
        unsafe { ffi::sqlite3_vfs_register(vfs, 0) }
    });
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
}

unsafe extern "C" fn x_open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: `file` points to `szOsFile` bytes for us to fill; with `pMethods` null, SQLite calls nothing on it.
    unsafe { (*file).pMethods = ptr::null() };
    if flags & ffi::SQLITE_OPEN_MAIN_DB == 0 || name.is_null() {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: a non-null name is NUL-terminated and valid for the call.
    let name = unsafe { CStr::from_ptr(name) };
    let reader = catch_unwind(|| {
        let number = name.to_str().ok()?.strip_prefix(NAME_PREFIX)?.parse().ok()?;
        lock(&WAITING).remove(&number)
    });
    let Ok(Some(reader)) = reader else {
        return ffi::SQLITE_CANTOPEN;
    };
    // SAFETY: `file` has room for an `ImageFile` (`szOsFile`), suitably aligned for pointers; `out_flags`
    // may be null and is otherwise writable.
    unsafe {
        let file = file.cast::<ImageFile>();
        (*file).reader = Box::into_raw(Box::new(reader));
        (*file).base.pMethods = &raw const METHODS;
        if let Some(out) = out_flags.as_mut() {
            *out = ffi::SQLITE_OPEN_READONLY | ffi::SQLITE_OPEN_MAIN_DB;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: `file` was filled by `x_open`, and SQLite closes a file once.
    let reader = unsafe { Box::from_raw((*file.cast::<ImageFile>()).reader) };
    // A page source's drop is foreign code too.
    match catch_unwind(AssertUnwindSafe(|| drop(reader))) {
        Ok(()) => ffi::SQLITE_OK,
        Err(_) => ffi::SQLITE_IOERR_CLOSE,
    }
}

unsafe extern "C" fn x_read(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let (Ok(amount), Ok(offset)) = (usize::try_from(amount), u64::try_from(offset)) else {
        return ffi::SQLITE_IOERR_READ;
    };
    // SAFETY: `into` has `amount` bytes to write; they are zeroed before a slice is made of them, for SQLite
    // does not initialise them. `file` was filled by `x_open`, and SQLite calls one method of a file at a time.
    let (into, reader) = unsafe {
        ptr::write_bytes(into.cast::<u8>(), 0, amount);
        (std::slice::from_raw_parts_mut(into.cast::<u8>(), amount), &mut *(*file.cast::<ImageFile>()).reader)
    };
    match catch_unwind(AssertUnwindSafe(|| reader.read_at(offset, into))) {
        Ok(Some(read)) if read == amount => ffi::SQLITE_OK,
        Ok(Some(_)) => ffi::SQLITE_IOERR_SHORT_READ,
        Ok(None) => ffi::SQLITE_IOERR_READ,
        Err(_) => {
            reader.note_panic();
            ffi::SQLITE_IOERR_READ
        }
    }
}

unsafe extern "C" fn x_file_size(file: *mut ffi::sqlite3_file, size: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: `file` was filled by `x_open`; `size` is writable.
    unsafe {
        let len = (*(*file.cast::<ImageFile>()).reader).geometry().image_len();
        *size = i64::try_from(len).unwrap_or(i64::MAX);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_write(
    _: *mut ffi::sqlite3_file,
    _: *const c_void,
    _: c_int,
    _: ffi::sqlite3_int64,
) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn x_truncate(_: *mut ffi::sqlite3_file, _: ffi::sqlite3_int64) -> c_int {
    ffi::SQLITE_READONLY
}

/// `xSync`, `xLock`, `xUnlock`: nothing to do on an image that nobody else sees.
unsafe extern "C" fn x_flags(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_check_reserved_lock(_: *mut ffi::sqlite3_file, reserved: *mut c_int) -> c_int {
    // SAFETY: a writable out parameter.
    unsafe { *reserved = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn x_sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    4096
}

/// Immutable: `SQLite` then looks for no journal and takes no locks.
unsafe extern "C" fn x_device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_IMMUTABLE
}

unsafe extern "C" fn x_delete(_: *mut ffi::sqlite3_vfs, _: *const c_char, _: c_int) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn x_access(
    _: *mut ffi::sqlite3_vfs,
    _: *const c_char,
    _: c_int,
    exists: *mut c_int,
) -> c_int {
    // SAFETY: a writable out parameter. Nothing exists beside an image.
    unsafe { *exists = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: `name` is NUL-terminated, `out` has `room` bytes; the name is copied with its NUL if it fits.
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if usize::try_from(room).is_ok_and(|room| bytes.len() <= room) {
            ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
            return ffi::SQLITE_OK;
        }
    }
    ffi::SQLITE_CANTOPEN
}
