//! Store and keys together: whole objects in and out, checked by name and seal.

use std::ops::ControlFlow;
use std::panic::resume_unwind;

use super::error::VaultError;
use super::layout;
use crate::crypto::keys::VaultKeys;
use crate::crypto::seal::{ObjectSealer, open_body};
use crate::format::envelope::{Header, ObjectKind};
use crate::format::limits;
use crate::ids::ObjectName;
use crate::store::{InUse, ObjectMeta, ObjectPath, Put, Store};

/// Requests that are under way at once, as far as the store lets them.
const AT_ONCE: usize = 16;

/// Store and keys of an unlocked vault: what every part of the layer works with, from any thread.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) store: Box<dyn Store>,
    pub(crate) keys: VaultKeys,
    /// Held as long as the vault is open, where users of its place can see each other.
    pub(crate) in_use: Option<InUse>,
}

impl Core {
    /// Reads an object whose name is the hash of its bytes, and opens its body.
    ///
    /// # Errors
    /// It is missing, its bytes do not hash to its name, or it does not open.
    pub(crate) fn read_object(
        &self,
        kind: ObjectKind,
        name: ObjectName,
    ) -> Result<(Header, Vec<u8>), VaultError> {
        let path = layout::object_path(kind, name)?;
        let bytes = read_named(&*self.store, &path, name)?;
        open_body(&self.keys, kind, &bytes).map_err(|error| VaultError::of_object(&path, error))
    }

    /// Reads objects with `read` and hands over what it makes of them, in order. Where a request takes a journey, several are
    /// under way at once.
    pub(crate) fn read_each<R: Send>(
        &self,
        names: &[ObjectName],
        read: impl Fn(ObjectName) -> R + Sync,
        mut take: impl FnMut(ObjectName, R) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        if !self.store.is_remote() {
            return names.iter().try_for_each(|name| take(*name, read(*name)));
        }
        let read = &read;
        for several in names.chunks(AT_ONCE) {
            let outcomes: Vec<R> = std::thread::scope(|scope| {
                let started: Vec<_> = several.iter().map(|name| scope.spawn(move || read(*name))).collect();
                let ended = started
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
                ended.collect()
            });
            several.iter().zip(outcomes).try_for_each(|(name, outcome)| take(*name, outcome))?;
        }
        Ok(())
    }

    /// Seals `body` as a new object of `kind` and writes it durably.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) fn write_object(&self, kind: ObjectKind, body: &[u8]) -> Result<ObjectName, VaultError> {
        let bytes = ObjectSealer::new(&self.keys, kind)?.finish(body)?;
        self.put(kind, &bytes)
    }

    /// Writes the bytes of an object under their hash.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) fn put(&self, kind: ObjectKind, bytes: &[u8]) -> Result<ObjectName, VaultError> {
        let name = ObjectName::of(bytes);
        let path = layout::object_path(kind, name)?;
        if self.store.put_if_absent(&path, bytes)? == Put::AlreadyPresent {
            // What is there under this name decides, not what was to be put there.
            read_named(&*self.store, &path, name)?;
        }
        Ok(name)
    }

    /// Names of all objects in `folder`, with their sizes, in order.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) fn names(&self, folder: &str) -> Result<Vec<(ObjectName, u64)>, VaultError> {
        let mut names = Vec::new();
        self.store.list(folder, &mut |meta: ObjectMeta| {
            if let Some(name) = layout::Place::of(&meta.path).name() {
                names.push((name, meta.size));
            }
            ControlFlow::Continue(())
        })?;
        names.sort_unstable();
        Ok(names)
    }
}

/// Reads a whole object and compares its hash with its name.
pub(crate) fn read_named(
    store: &dyn Store,
    path: &ObjectPath,
    name: ObjectName,
) -> Result<Vec<u8>, VaultError> {
    let bytes = store.get(path, limits::OBJECT)?;
    if ObjectName::of(&bytes) == name {
        return Ok(bytes);
    }
    let why = "its bytes do not hash to its name".to_owned();
    Err(VaultError::Damaged { object: path.to_string(), why })
}
