//! A store that takes its time: so that a copy leaves room on the line.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{ObjectMeta, ObjectPath, Put, Store, StoreError};

/// Wraps a store and holds back who would move more bytes a second than is allowed, reads and writes together. An
/// object goes over in one piece as fast as it can; what is limited is the mean over some seconds.
#[derive(Debug)]
pub struct ThrottledStore<S> {
    inner: S,
    bytes_per_second: u64,
    /// When all that was moved so far would be through at the allowed rate.
    free_at: Mutex<Instant>,
}

impl<S: Store> ThrottledStore<S> {
    /// Wraps `inner`; 0 counts as 1.
    pub fn new(inner: S, bytes_per_second: u64) -> Self {
        Self { inner, bytes_per_second: bytes_per_second.max(1), free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` may have been moved.
    fn pay(&self, bytes: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a time to wait")]
        let cost = Duration::try_from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let now = Instant::now();
        let until = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            *free_at = (*free_at).max(now) + cost.unwrap_or(Duration::from_hours(1));
            *free_at
        };
        std::thread::sleep(until.saturating_duration_since(now));
    }
}

impl<S: Store> Store for ThrottledStore<S> {
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
        let bytes = self.inner.get(path, limit)?;
        self.pay(bytes.len());
        Ok(bytes)
    }

    fn read_range(&self, path: &ObjectPath, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.inner.read_range(path, offset, into)?;
        self.pay(into.len());
        Ok(())
    }

    fn size(&self, path: &ObjectPath) -> Result<u64, StoreError> {
        self.inner.size(path)
    }

    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        self.pay(bytes.len());
        self.inner.put_if_absent(path, bytes)
    }

    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner.list(folder, visit)
    }

    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.inner.delete(path)
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
        super::super::conformance::run(&ThrottledStore::new(MemoryStore::new(), u64::MAX));
    }

    #[test]
    fn the_rate_holds_over_several_threads() {
        let store = ThrottledStore::new(MemoryStore::new(), 100_000);
        let started = Instant::now();
        std::thread::scope(|scope| {
            for number in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    let path = ObjectPath::new(format!("rate/{number}")).unwrap();
                    store.put_if_absent(&path, &[0; 2_500]).unwrap();
                    store.get(&path, 10_000).unwrap();
                });
            }
        });
        // 20,000 bytes.
        assert!(started.elapsed() >= Duration::from_millis(190), "{:?}", started.elapsed());
    }
}
