//! Store and keys together: whole objects in and out, checked by name and seal.

use std::ops::ControlFlow;

use super::error::VaultError;
use super::layout;
use crate::crypto::keys::VaultKeys;
use crate::crypto::seal::{ObjectSealer, open_body};
use crate::format::envelope::{Header, ObjectKind};
use crate::format::limits;
use crate::ids::ObjectName;
use crate::store::{InUse, ObjectMeta, ObjectPath, Put, Store};

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
