//! A store behind a bad line: every request takes a while, and some fail, before or after they were carried out. For
//! tests, and for trying what a line does to a backup.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{ObjectMeta, ObjectPath, Put, Store, StoreError};

/// What is wrong with the line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disturbance {
    /// How long each request takes on top.
    pub latency: Duration,
    /// How many requests of a hundred fail, half of them after they were carried out.
    pub failures_percent: u64,
}

/// Wraps a store and disturbs it; the same seed disturbs the same requests, by their order.
#[derive(Debug)]
pub struct DisturbedStore<S> {
    inner: S,
    disturbance: Disturbance,
    seed: u64,
    requests: AtomicU64,
    failures: AtomicU64,
}

impl<S: Store> DisturbedStore<S> {
    /// Wraps `inner`.
    pub const fn new(inner: S, disturbance: Disturbance, seed: u64) -> Self {
        Self { inner, disturbance, seed, requests: AtomicU64::new(0), failures: AtomicU64::new(0) }
    }

    /// The store below.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests so far that failed by design.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn run<T>(
        &self,
        operation: &'static str,
        path: &str,
        request: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(self.disturbance.latency);
        let drawn = mix(self.seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        if drawn % 100 >= self.disturbance.failures_percent {
            return request();
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        if drawn >> 63 == 1 {
            // Nobody hears how it went.
            drop(request());
        }
        Err(StoreError::Temporary {
            path: path.to_owned(),
            operation,
            why: "the line was disturbed".to_owned(),
        })
    }
}

/// The last step of `SplitMix64` (Steele, Lea, Flood 2014): neighbours in, nothing alike out.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl<S: Store> Store for DisturbedStore<S> {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn distrust(&self, path: &ObjectPath) -> bool {
        self.inner.distrust(path)
    }

    fn read_directly(&self, directly: bool) {
        self.inner.read_directly(directly);
    }

    fn get(&self, path: &ObjectPath, limit: u64) -> Result<Vec<u8>, StoreError> {
        self.run("read", path.as_str(), || self.inner.get(path, limit))
    }

    fn read_range(&self, path: &ObjectPath, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.run("read", path.as_str(), || self.inner.read_range(path, offset, into))
    }

    fn size(&self, path: &ObjectPath) -> Result<u64, StoreError> {
        self.run("inspect", path.as_str(), || self.inner.size(path))
    }

    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        self.run("write", path.as_str(), || self.inner.put_if_absent(path, bytes))
    }

    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.run("list", folder, || self.inner.list(folder, visit))
    }

    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.run("delete", path.as_str(), || self.inner.delete(path))
    }

    fn in_use(&self, folder: &str) -> Option<super::InUse> {
        self.inner.in_use(folder)
    }
}
