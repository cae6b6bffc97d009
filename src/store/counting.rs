//! A store that counts: what an operation costs in requests and bytes, which on object storage is money.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{ObjectMeta, ObjectPath, OperationKind, Put, Store, StoreError};

/// How often something was asked for, and how much of it came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Operations, failed ones included.
    pub requests: u64,
    /// Bytes read or newly stored; 0 for the kinds that move none.
    pub bytes: u64,
}

/// The tallies of a [`CountingStore`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounts([Requests; 6]);

impl StoreCounts {
    /// The tally of one kind.
    #[must_use]
    pub const fn of(&self, kind: OperationKind) -> Requests {
        self.0[kind as usize]
    }
}

/// Wraps a store and counts its operations.
#[derive(Debug, Default)]
pub struct CountingStore<S> {
    inner: S,
    tallies: [Tally; 6],
}

#[derive(Debug, Default)]
struct Tally {
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl<S: Store> CountingStore<S> {
    /// Wraps `inner`, with all tallies at 0.
    pub fn new(inner: S) -> Self {
        Self { inner, tallies: Default::default() }
    }

    /// The store below.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// The tallies now.
    pub fn counts(&self) -> StoreCounts {
        StoreCounts(self.tallies.each_ref().map(|tally| Requests {
            requests: tally.requests.load(Ordering::Relaxed),
            bytes: tally.bytes.load(Ordering::Relaxed),
        }))
    }

    fn count<T>(
        &self,
        kind: OperationKind,
        outcome: Result<T, StoreError>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Result<T, StoreError> {
        let tally = &self.tallies[kind as usize];
        tally.requests.fetch_add(1, Ordering::Relaxed);
        if let Ok(answer) = &outcome {
            tally.bytes.fetch_add(bytes(answer) as u64, Ordering::Relaxed);
        }
        outcome
    }
}

impl<S: Store> Store for CountingStore<S> {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn distrust(&self, path: &ObjectPath) -> bool {
        self.inner.distrust(path)
    }

    fn read_directly(&self, directly: bool) {
        self.inner.read_directly(directly);
    }

    fn get(&self, path: &ObjectPath, limit: u64) -> Result<Vec<u8>, StoreError> {
        self.count(OperationKind::Get, self.inner.get(path, limit), Vec::len)
    }

    fn read_range(&self, path: &ObjectPath, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.count(OperationKind::ReadRange, self.inner.read_range(path, offset, into), |()| into.len())
    }

    fn size(&self, path: &ObjectPath) -> Result<u64, StoreError> {
        self.count(OperationKind::Size, self.inner.size(path), |_| 0)
    }

    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        self.count(OperationKind::Put, self.inner.put_if_absent(path, bytes), |put| match put {
            Put::Created => bytes.len(),
            Put::AlreadyPresent => 0,
        })
    }

    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.count(OperationKind::List, self.inner.list(folder, visit), |()| 0)
    }

    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.count(OperationKind::Delete, self.inner.delete(path), |()| 0)
    }

    fn in_use(&self, folder: &str) -> Option<super::InUse> {
        self.inner.in_use(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryStore;
    use super::*;

    #[test]
    fn conforms() {
        super::super::conformance::run(&CountingStore::new(MemoryStore::new()));
    }

    #[test]
    fn requests_and_bytes_are_counted_by_kind() {
        let store = CountingStore::new(MemoryStore::new());
        let path = ObjectPath::new("a").unwrap();
        store.put_if_absent(&path, b"12345").unwrap();
        store.put_if_absent(&path, b"12345").unwrap();
        store.get_range(&path, 1, 3).unwrap();
        assert!(store.get(&path, 2).is_err());
        let counts = store.counts();
        assert_eq!(counts.of(OperationKind::Put), Requests { requests: 2, bytes: 5 });
        assert_eq!(counts.of(OperationKind::ReadRange), Requests { requests: 1, bytes: 3 });
        assert_eq!(counts.of(OperationKind::Get), Requests { requests: 1, bytes: 0 });
        assert_eq!(counts.of(OperationKind::Delete), Requests::default());
    }
}
