//! A store in memory, for tests and for callers without a disk.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::path::check_folder;
use super::{ObjectMeta, ObjectPath, Put, Store, StoreError};

type Objects = BTreeMap<ObjectPath, Arc<[u8]>>;

/// Objects in memory; share one through an `Arc`. Beyond [`Store`] it lets tests look at the objects and
/// damage them.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<Objects>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A second store with the same objects as this one has now, for trying several things from one state.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { objects: Mutex::new(self.lock().clone()) }
    }

    /// Every object, ordered by path.
    #[must_use]
    pub fn objects(&self) -> Vec<(ObjectPath, Arc<[u8]>)> {
        self.lock().iter().map(|(path, bytes)| (path.clone(), Arc::clone(bytes))).collect()
    }

    /// The paths of all objects, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<ObjectPath> {
        self.lock().keys().cloned().collect()
    }

    /// Bytes of all objects together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.lock().values().map(|bytes| bytes.len() as u64).sum()
    }

    /// Puts `bytes` at `path` whatever is there, as damage or a hostile store would.
    pub fn replace(&self, path: &ObjectPath, bytes: impl Into<Vec<u8>>) {
        self.lock().insert(path.clone(), bytes.into().into());
    }

    /// Takes an object away and returns it, as loss would.
    pub fn remove(&self, path: &ObjectPath) -> Option<Arc<[u8]>> {
        self.lock().remove(path)
    }

    /// Every critical section is a single call on the map, so that a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, path: &ObjectPath) -> Result<Arc<[u8]>, StoreError> {
        self.lock().get(path).cloned().ok_or_else(|| StoreError::NotFound { path: path.to_string() })
    }
}

impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn get(&self, path: &ObjectPath, limit: u64) -> Result<Vec<u8>, StoreError> {
        let bytes = self.find(path)?;
        let size = bytes.len() as u64;
        if size > limit {
            return Err(StoreError::TooLarge { path: path.to_string(), size, limit });
        }
        Ok(bytes.to_vec())
    }

    fn read_range(&self, path: &ObjectPath, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        let bytes = self.find(path)?;
        let found = usize::try_from(offset)
            .ok()
            .and_then(|start| bytes.get(start..start.checked_add(into.len())?))
            .ok_or_else(|| StoreError::ShortRead { path: path.to_string(), offset, length: into.len() })?;
        into.copy_from_slice(found);
        Ok(())
    }

    fn size(&self, path: &ObjectPath) -> Result<u64, StoreError> {
        Ok(self.find(path)?.len() as u64)
    }

    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        let mut objects = self.lock();
        if objects.contains_key(path) {
            return Ok(Put::AlreadyPresent);
        }
        objects.insert(path.clone(), bytes.into());
        Ok(Put::Created)
    }

    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        check_folder(folder)?;
        // Copied first: the visitor may use the store.
        let found: Vec<ObjectMeta> = self
            .lock()
            .iter()
            .filter(|(path, _)| path.is_below(folder))
            .map(|(path, bytes)| ObjectMeta {
                path: path.clone(),
                size: bytes.len() as u64,
                modified: None,
                md5: super::md5(bytes),
            })
            .collect();
        for object in found {
            if visit(object).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.remove(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        super::super::conformance::run(&MemoryStore::new());
    }

    #[test]
    fn damage_and_loss_show_and_a_fork_is_apart() {
        let (store, path) = (MemoryStore::new(), ObjectPath::new("packs/a").unwrap());
        store.put_if_absent(&path, b"good").unwrap();
        let fork = store.fork();
        store.replace(&path, *b"bad");
        assert_eq!(store.get(&path, 10).unwrap(), b"bad");
        assert_eq!((store.total_bytes(), store.paths(), store.objects().len()), (3, vec![path.clone()], 1));
        assert_eq!(store.remove(&path).as_deref(), Some(b"bad".as_slice()));
        assert!(store.get(&path, 10).unwrap_err().is_not_found());
        assert_eq!(fork.get(&path, 10).unwrap(), b"good");
    }
}
