//! The vault as it will be: some of its objects read from another copy or from the quarantine, some not there any more.
//! A plan is made by looking at this, so that what a repair promises is what has been seen to work.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};

use crate::ids::ObjectName;
use crate::store::{ObjectMeta, ObjectPath, Put, Store, StoreError};
use crate::vault::Core;
use crate::vault::layout::Place;

/// Where the bytes of an object are had from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// From the other copy of the vault, under the same path.
    Copy,
    /// From another path of this vault.
    Own(ObjectPath),
}

#[derive(Debug, Clone)]
enum Elsewhere {
    At(Source),
    Nowhere,
}

/// A store that shows another one as it will be. It cannot be written to.
#[derive(Debug)]
pub(super) struct View {
    own: Arc<Core>,
    copy: Option<Arc<Core>>,
    elsewhere: RwLock<BTreeMap<ObjectPath, Elsewhere>>,
}

impl View {
    pub(super) fn new(own: Arc<Core>, copy: Option<Arc<Core>>) -> Self {
        Self { own, copy, elsewhere: RwLock::default() }
    }

    /// The object at `path` is read from `source` from now on.
    pub(super) fn redirect(&self, path: &ObjectPath, source: Source) {
        self.note(path, Elsewhere::At(source));
    }

    /// The object at `path` is not there from now on.
    pub(super) fn hide(&self, path: &ObjectPath) {
        self.note(path, Elsewhere::Nowhere);
    }

    fn note(&self, path: &ObjectPath, what: Elsewhere) {
        self.elsewhere.write().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), what);
    }

    fn find(&self, path: &ObjectPath) -> Result<(&dyn Store, ObjectPath), StoreError> {
        let elsewhere = self.elsewhere.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        match (elsewhere, &self.copy) {
            (None, _) => Ok((&*self.own.store, path.clone())),
            (Some(Elsewhere::At(Source::Own(place))), _) => Ok((&*self.own.store, place)),
            (Some(Elsewhere::At(Source::Copy)), Some(copy)) => Ok((&*copy.store, path.clone())),
            (Some(_), _) => Err(StoreError::NotFound { path: path.to_string() }),
        }
    }
}

impl Store for View {
    fn describe(&self) -> String {
        self.own.store.describe()
    }

    fn get(&self, path: &ObjectPath, limit: u64) -> Result<Vec<u8>, StoreError> {
        let (store, place) = self.find(path)?;
        let bytes = store.get(&place, limit)?;
        let name = match Place::of(path) {
            Place::Pack(name) | Place::Index(name) | Place::Snapshots(name) | Place::Log(name) => Some(name),
            _ => None,
        };
        // One bad reading condemns nothing.
        if name.is_none_or(|name| ObjectName::of(&bytes) == name) {
            Ok(bytes)
        } else {
            store.get(&place, limit)
        }
    }

    fn read_range(&self, path: &ObjectPath, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        let (store, path) = self.find(path)?;
        store.read_range(&path, offset, into)
    }

    fn size(&self, path: &ObjectPath) -> Result<u64, StoreError> {
        let (store, path) = self.find(path)?;
        store.size(&path)
    }

    fn put_if_absent(&self, path: &ObjectPath, _: &[u8]) -> Result<Put, StoreError> {
        Err(StoreError::ReadOnly { path: path.to_string(), operation: "write" })
    }

    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let elsewhere = self.elsewhere.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut added: BTreeSet<ObjectPath> = elsewhere
            .iter()
            .filter(|(path, what)| is_below(path, folder) && matches!(what, Elsewhere::At(_)))
            .map(|(path, _)| path.clone())
            .collect();
        let mut broken_off = false;
        self.own.store.list(folder, &mut |meta| {
            if elsewhere.contains_key(&meta.path) {
                return ControlFlow::Continue(());
            }
            let flow = visit(meta);
            broken_off |= flow.is_break();
            flow
        })?;
        while let Some(path) = added.pop_first().filter(|_| !broken_off) {
            let size = self.size(&path)?;
            broken_off |= visit(ObjectMeta { path, size, modified: None, md5: None }).is_break();
        }
        Ok(())
    }

    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly { path: path.to_string(), operation: "delete" })
    }
}

fn is_below(path: &ObjectPath, folder: &str) -> bool {
    folder.is_empty() || path.as_str().strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}
