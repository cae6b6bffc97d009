//! `SQLite` databases: reading a live one exactly, and reading or checking an image of one.
//!
//! What it does:
//!
//! - [`LiveDatabase`] opens a database that an application may be using; [`Capture`] holds one read
//!   snapshot of it and is a [`PageSource`](crate::page_source::PageSource).
//! - [`ImageConnection`] runs SQL over any `PageSource` without a file; [`verify_image`] checks one.
//! - [`FileImage`] and [`MemoryImage`] are the plain sources.
//!
//! What it must not know: vaults, snapshots in them, keys, the command line.
//!
//! Invariants:
//!
//! 1. No descriptor of our own is ever opened on a live database or its `-shm`: POSIX locks belong to the
//!    process, and closing any descriptor drops them all. Everything is read through `SQLite`; only the
//!    file's metadata and the first bytes of the `-wal`, which carries no locks, are looked at directly.
//! 2. A live database that is read is never written, checkpointed or switched to another journal mode. What `SQLite`
//!    does for any reader still happens: a hot journal is rolled back, a WAL database gets its `-shm`.
//!    [`LiveTarget`] writes, in one transaction of `SQLite`'s own.
//! 3. A page is delivered exactly or the capture fails; nothing is padded or guessed.
//! 4. `unsafe` lives in `raw` only.

mod capture;
mod database;
mod error;
mod header;
mod image;
mod image_reader;
mod live;
mod raw;
mod schema;
mod schema_difference;
pub mod sole_use;
mod table_difference;
mod trees;
mod verify;
pub mod witness;

#[cfg(test)]
mod tests;

pub use capture::{Capture, CaptureFigures, DatabaseFacts};
pub use database::{LiveDatabase, OpenOptions};
pub use error::SqliteError;
pub use header::{AutoVacuum, DatabaseHeader, HeaderError, JournalMode, TextEncoding};
pub use image::{FileImage, MemoryImage};
pub use live::{Committed, LiveTarget, LiveWrite, differs_only_as_live};
pub use raw::vfs::ImageConnection;
pub use schema::{has_table, schema_fingerprint};
pub use schema_difference::Schema;
pub use table_difference::{
    CompareError, NotCompared, Side, TableChange, TableDifference, TableDifferences, compare_tables,
};
pub use trees::{HarmedTables, harmed_tables};
pub use verify::{CheckLevel, ForeignKeyProblem, ImageReport, Integrity, verify_image};
pub use witness::Witness;

/// Offset of the page that `SQLite` keeps for its locks (file format, section 1.5). It is never
/// written and never read by `SQLite`; an image has zeros there.
pub const LOCK_BYTE_OFFSET: u64 = 1 << 30;
