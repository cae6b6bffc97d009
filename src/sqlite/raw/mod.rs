//! The layer's only `unsafe`: calls of `SQLite`'s C interface that rusqlite does not wrap.
//!
//! The argument, in general; each block adds what is its own:
//!
//! - A `sqlite3 *` is only taken from a borrowed [`rusqlite::Connection`] and is not kept beyond the borrow.
//!   The connection is open as long as it exists, and since it is not `Sync`, no other thread uses it meanwhile.
//! - `SQLite` is compiled with `SQLITE_THREADSAFE=1` by `libsqlite3-sys`, so connections and statements may move
//!   between threads.
//! - Pointers that `SQLite` hands out (a blob, an error text) are used before the next call on the same statement.
//! - Pointers that `SQLite` hands in (the VFS) are valid for the call by its documented contract; nothing
//!   unwinds into C: each callback catches panics.
#![allow(unsafe_code)]

pub(super) mod connection;
pub(super) mod pages;
pub(super) mod vfs;
