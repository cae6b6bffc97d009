//! Where a vault's bytes lie: a flat set of immutable objects under short relative paths.
//!
//! A store is dumb. It sees ciphertext only and knows nothing of keys, formats or which objects belong
//! together; everything above it can run on any store that passes the one conformance suite.
//!
//! Invariants that the layers above build on:
//!
//! - An object is written once and never changed: it is absent, then complete. No reader ever sees a part
//!   of one, and of two writers of the same path exactly one is told [`Put::Created`].
//! - What [`Store::put_if_absent`] and [`Store::delete`] have returned from survives a power cut. The order
//!   in which a vault writes and deletes therefore is the order on disk.
//! - [`Store::list`] shows every object that existed before it was called and was not deleted meanwhile.
//!   Objects put or deleted during a listing may or may not show.
//! - What a store returns is not trusted: callers state how much they are willing to read, and verify it.

mod cache;
mod counting;
mod disturbed;
mod error;
mod fallback;
mod fault;
mod in_use;
mod local;
mod memory;
mod path;
#[cfg(feature = "remote")]
mod remote;
mod retry;
mod throttle;

#[cfg(test)]
mod conformance;

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

pub use cache::CacheStore;
pub use counting::{CountingStore, Requests, StoreCounts};
pub use disturbed::{Disturbance, DisturbedStore};
pub use error::StoreError;
pub use fallback::{FallbackStore, Say, Told};
pub use fault::{Fault, FaultStore, LoggedOperation};
pub use in_use::InUse;
pub use local::LocalStore;
pub use memory::MemoryStore;
pub use path::ObjectPath;
#[cfg(feature = "remote")]
pub use remote::{Credentials, Limits, RemoteAddress, RemoteStore, Service};
pub use retry::{Patience, RetryStore};
pub use throttle::ThrottledStore;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Where it is.
    pub path: ObjectPath,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written, by the store's clock; nothing may depend on it but the age of leftovers.
    pub modified: Option<jiff::Timestamp>,
    /// The checksum that the service itself keeps of it, where a listing tells; a hint, for the service may say what it likes.
    pub md5: Option<[u8; 16]>,
}

/// What a service would say of these bytes in [`ObjectMeta::md5`]; `None` in a build without remote stores.
#[must_use]
pub fn md5(bytes: &[u8]) -> Option<[u8; 16]> {
    #[cfg(feature = "remote")]
    return Some(<md5::Md5 as md5::Digest>::digest(bytes).into());
    #[cfg(not(feature = "remote"))]
    {
        let _ = bytes;
        None
    }
}

/// What [`Store::put_if_absent`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object was not there; it is now.
    Created,
    /// An object of that path was there and was left as it is, whatever its content.
    AlreadyPresent,
}

/// The verbs of a store, as counted and logged by the decorators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// [`Store::get`].
    Get,
    /// [`Store::read_range`] and [`Store::get_range`].
    ReadRange,
    /// [`Store::size`].
    Size,
    /// [`Store::put_if_absent`].
    Put,
    /// [`Store::list`].
    List,
    /// [`Store::delete`].
    Delete,
}

/// A place for immutable objects. All methods may be called from several threads, and several processes may
/// work on the same place at once.
pub trait Store: Send + Sync + fmt::Debug {
    /// The place in words, for messages; never holds a credential.
    fn describe(&self) -> String;

    /// Whether a request takes a journey: what can be had from this machine, is better had from here.
    fn is_remote(&self) -> bool {
        false
    }

    /// Tells the store that what it gave of an object was not what its writer wrote. Whether it may do better if it is
    /// asked again: a cache forgets, a store with copies turns to them.
    fn distrust(&self, path: &ObjectPath) -> bool {
        let _ = path;
        false
    }

    /// From `true` to `false`, what is read comes from the place itself, and from nothing nearer: for those who want to know
    /// what is there. Calls nest. See [`DirectReads`].
    fn read_directly(&self, directly: bool) {
        let _ = directly;
    }

    /// The whole object. One of more than `limit` bytes is refused ([`StoreError::TooLarge`]) before it is
    /// read: a hostile store must not decide how much memory a reader takes.
    fn get(&self, path: &ObjectPath, limit: u64) -> Result<Vec<u8>, StoreError>;

    /// Fills `into` with the object's bytes from `offset`; an object that ends before that is a
    /// [`StoreError::ShortRead`], after which the content of `into` is unspecified.
    fn read_range(&self, path: &ObjectPath, offset: u64, into: &mut [u8]) -> Result<(), StoreError>;

    /// Exactly `length` bytes of the object from `offset`. Allocates `length` bytes before it asks, so
    /// callers bound a length that they were told.
    fn get_range(&self, path: &ObjectPath, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; length];
        self.read_range(path, offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Says that these bytes will be read soon, and returns when they are nearer, if the store has a nearer place for them;
    /// several threads may bring several things at once. Nothing is promised, and a failure is the last word on nothing.
    /// `object_len` is how long the object should be: who fetches more than was asked for need not ask for that.
    fn fetch_ahead(&self, path: &ObjectPath, part: Range<u64>, object_len: u64) -> Result<(), StoreError> {
        let _ = (path, part, object_len);
        Ok(())
    }

    /// The object's length in bytes.
    fn size(&self, path: &ObjectPath) -> Result<u64, StoreError>;

    /// Writes an object unless there is one of that path. Durable when it returns, in either case. After an
    /// error the object is absent or complete, and calling again is safe.
    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError>;

    /// Shows every object below `folder` (`""`: all of them) to `visit`, in no particular order and at any
    /// depth, until it breaks off. A folder that does not exist is empty. Temporary files and whatever has a
    /// name that no object can have are not shown. Memory does not grow with the number of objects.
    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// Removes an object, durably; one that is absent already is a success.
    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError>;

    /// Marks `folder`, which stands for the whole place, as in use by this process, where users of the place can see
    /// each other: `None` where they cannot.
    fn in_use(&self, folder: &str) -> Option<InUse> {
        let _ = folder;
        None
    }
}

/// As long as it lives, a store is read directly ([`Store::read_directly`]).
#[derive(Debug)]
pub struct DirectReads<'a>(&'a dyn Store);

impl<'a> DirectReads<'a> {
    /// Begins.
    pub fn of(store: &'a dyn Store) -> Self {
        store.read_directly(true);
        Self(store)
    }
}

impl Drop for DirectReads<'_> {
    fn drop(&mut self) {
        self.0.read_directly(false);
    }
}

/// Stores are shared by reference or owner, and every way of sharing one is a store.
macro_rules! forward_store {
    ($($pointer:ty),+) => {$(
        impl<S: Store + ?Sized> Store for $pointer {
            fn describe(&self) -> String {
                (**self).describe()
            }
            fn is_remote(&self) -> bool {
                (**self).is_remote()
            }
            fn distrust(&self, path: &ObjectPath) -> bool {
                (**self).distrust(path)
            }
            fn read_directly(&self, directly: bool) {
                (**self).read_directly(directly);
            }
            fn get(&self, path: &ObjectPath, limit: u64) -> Result<Vec<u8>, StoreError> {
                (**self).get(path, limit)
            }
            fn read_range(&self, path: &ObjectPath, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
                (**self).read_range(path, offset, into)
            }
            fn get_range(&self, path: &ObjectPath, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
                (**self).get_range(path, offset, length)
            }
            fn fetch_ahead(
                &self,
                path: &ObjectPath,
                part: Range<u64>,
                object_len: u64,
            ) -> Result<(), StoreError> {
                (**self).fetch_ahead(path, part, object_len)
            }
            fn size(&self, path: &ObjectPath) -> Result<u64, StoreError> {
                (**self).size(path)
            }
            fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
                (**self).put_if_absent(path, bytes)
            }
            fn list(
                &self,
                folder: &str,
                visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
            ) -> Result<(), StoreError> {
                (**self).list(folder, visit)
            }
            fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
                (**self).delete(path)
            }
            fn in_use(&self, folder: &str) -> Option<InUse> {
                (**self).in_use(folder)
            }
        }
    )+};
}

forward_store!(&S, Arc<S>, Box<S>);
