//! A store that asks again: what fails for a passing reason is tried anew after a pause that grows, with a random part so
//! that many clients do not come back at the same moment.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::ControlFlow;
use std::time::Duration;

use super::{ObjectMeta, ObjectPath, Put, Store, StoreError};

/// How long a [`RetryStore`] goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Attempts after the first.
    pub retries: u32,
    /// The longest the first pause may be; each is at most twice as long as the one before.
    pub first_pause: Duration,
    /// The longest any pause may be.
    pub longest_pause: Duration,
}

impl Default for Patience {
    /// Half a minute, all in all.
    fn default() -> Self {
        Self { retries: 6, first_pause: Duration::from_millis(300), longest_pause: Duration::from_secs(10) }
    }
}

impl Patience {
    /// A random time between a half and the whole of what is allowed for this attempt.
    fn pause(&self, attempt: u32) -> Duration {
        let most = self.first_pause.saturating_mul(1 << attempt.min(16)).min(self.longest_pause);
        let random = getrandom::u32().unwrap_or(0);
        most.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0)
    }
}

/// Wraps a store and repeats what failed with [`StoreError::Temporary`].
#[derive(Debug)]
pub struct RetryStore<S> {
    inner: S,
    patience: Patience,
}

impl<S: Store> RetryStore<S> {
    /// Wraps `inner`.
    pub const fn new(inner: S, patience: Patience) -> Self {
        Self { inner, patience }
    }

    fn repeat<T>(&self, mut attempt: impl FnMut(u32) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut number = 0;
        loop {
            match attempt(number) {
                Err(StoreError::Temporary { .. }) if number < self.patience.retries => {
                    std::thread::sleep(self.patience.pause(number));
                    number += 1;
                }
                Err(StoreError::Temporary { path, operation, why }) if number > 0 => {
                    let why = format!("{why} (tried {} times)", number + 1);
                    return Err(StoreError::Temporary { path, operation, why });
                }
                outcome => return outcome,
            }
        }
    }
}

impl<S: Store> Store for RetryStore<S> {
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
        self.repeat(|_| self.inner.get(path, limit))
    }

    fn read_range(&self, path: &ObjectPath, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.repeat(|_| self.inner.read_range(path, offset, into))
    }

    fn size(&self, path: &ObjectPath) -> Result<u64, StoreError> {
        self.repeat(|_| self.inner.size(path))
    }

    /// An attempt may have done its work although its answer was lost. Then the next finds the object there; whether it
    /// is the one that was to be written, its bytes tell.
    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        self.repeat(|attempt| match self.inner.put_if_absent(path, bytes)? {
            Put::AlreadyPresent if attempt > 0 => match self.inner.get(path, bytes.len() as u64) {
                Ok(there) if there == bytes => Ok(Put::Created),
                Ok(_) | Err(StoreError::TooLarge { .. }) => Ok(Put::AlreadyPresent),
                Err(error) => Err(error),
            },
            put => Ok(put),
        })
    }

    /// A listing that breaks is begun anew, and what was shown is not shown again: eight bytes of memory for each object.
    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let (hasher, mut shown, mut ended) = (RandomState::new(), HashSet::new(), false);
        self.repeat(|_| {
            let listed = self.inner.list(folder, &mut |meta| {
                if !shown.insert(hasher.hash_one(&meta.path)) {
                    return ControlFlow::Continue(());
                }
                let flow = visit(meta);
                ended |= flow.is_break();
                flow
            });
            // Who has seen enough does not care how it went on.
            if ended { Ok(()) } else { listed }
        })
    }

    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.repeat(|_| self.inner.delete(path))
    }

    fn in_use(&self, folder: &str) -> Option<super::InUse> {
        self.inner.in_use(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Disturbance, DisturbedStore, MemoryStore};
    use super::*;

    fn hurried(retries: u32) -> Patience {
        Patience { retries, first_pause: Duration::from_micros(1), longest_pause: Duration::from_micros(10) }
    }

    #[test]
    fn conforms_over_a_store_that_fails_often() {
        let disturbance = Disturbance { failures_percent: 30, ..Disturbance::default() };
        let store = DisturbedStore::new(MemoryStore::new(), disturbance, 7);
        super::super::conformance::run(&RetryStore::new(&store, hurried(40)));
        assert!(store.failures() > 50, "{}", store.failures());
    }

    #[test]
    fn it_gives_up_and_says_how_often_it_tried() {
        let disturbance = Disturbance { failures_percent: 100, ..Disturbance::default() };
        let store = RetryStore::new(DisturbedStore::new(MemoryStore::new(), disturbance, 7), hurried(3));
        let error = store.size(&ObjectPath::new("a").unwrap()).unwrap_err().to_string();
        assert!(error.contains("tried 4 times"), "{error}");
    }

    #[test]
    fn what_will_not_pass_is_not_repeated() {
        let store = RetryStore::new(MemoryStore::new(), hurried(3));
        assert!(store.size(&ObjectPath::new("a").unwrap()).unwrap_err().is_not_found());
    }

    #[test]
    fn pauses_grow_and_end() {
        let patience = Patience::default();
        for attempt in 0..40 {
            let most = Duration::from_millis(300 << attempt.min(10)).min(Duration::from_secs(10));
            let pause = patience.pause(attempt);
            assert!(pause <= most && pause >= most / 2, "{attempt}: {pause:?}");
        }
    }
}
