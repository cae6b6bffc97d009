//! A store that fails on purpose: for tests that crash at every operation, lose answers, or meet a store
//! that only lets objects be added.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{ObjectMeta, ObjectPath, OperationKind, Put, Store, StoreError};

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// An error, and nothing was done.
    Before,
    /// Everything was done, but the answer is an error.
    After,
    /// Half of it: a put leaves an object of half the bytes and reports an error; a get returns half of the
    /// bytes as if they were all; a range read ends short; a listing fails after its first object. The
    /// others as [`Fault::Before`].
    Torn,
}

/// An operation as the log shows it, whatever its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedOperation {
    /// The verb.
    pub kind: OperationKind,
    /// The object's path, or the folder listed.
    pub path: String,
}

/// Wraps a store, numbers and logs its operations from 0 on, and lets chosen ones fail. To enumerate
/// crashes, run once to learn the number of operations, then once for each with [`Self::crash_at`].
#[derive(Debug, Default)]
pub struct FaultStore<S> {
    inner: S,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    log: Vec<LoggedOperation>,
    faults: BTreeMap<u64, Fault>,
    dead_after: Option<u64>,
    append_only: bool,
}

impl<S: Store> FaultStore<S> {
    /// Wraps `inner`; nothing fails yet.
    pub fn new(inner: S) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// The store below.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// Operation number `operation` fails; those after it work.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.state().faults.insert(operation, fault);
    }

    /// Operation number `operation` fails, and every later one as [`Fault::Before`], as if the process had
    /// been killed there.
    pub fn crash_at(&self, operation: u64, fault: Fault) {
        let mut state = self.state();
        state.faults.insert(operation, fault);
        state.dead_after = Some(operation);
    }

    /// From now on deletes are refused ([`StoreError::PermissionDenied`]), as in append-only storage.
    pub fn refuse_deletes(&self) {
        self.state().append_only = true;
    }

    /// Forgets faults and log: the next operation is number 0 and works.
    pub fn reset(&self) {
        *self.state() = State::default();
    }

    /// How many operations were asked for so far, failed ones included.
    pub fn operations(&self) -> u64 {
        self.state().log.len() as u64
    }

    /// The operations so far, in the order in which they were asked for.
    pub fn log(&self) -> Vec<LoggedOperation> {
        self.state().log.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one operation, or what its fault makes of it.
    fn run<T>(
        &self,
        kind: OperationKind,
        path: &str,
        whole: impl FnOnce() -> Result<T, StoreError>,
        torn: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.enter(kind, path)? {
            None => whole(),
            Some(Fault::Before) => Err(injected(path)),
            Some(Fault::After) => whole().and(Err(injected(path))),
            Some(Fault::Torn) => torn(),
        }
    }

    fn enter(&self, kind: OperationKind, path: &str) -> Result<Option<Fault>, StoreError> {
        let mut state = self.state();
        let number = state.log.len() as u64;
        state.log.push(LoggedOperation { kind, path: path.to_owned() });
        if state.append_only && kind == OperationKind::Delete {
            return Err(StoreError::PermissionDenied { path: path.to_owned(), operation: "delete" });
        }
        let dead = state.dead_after.is_some_and(|last| number > last);
        Ok(if dead { Some(Fault::Before) } else { state.faults.get(&number).copied() })
    }
}

impl<S: Store> Store for FaultStore<S> {
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
        let whole = || self.inner.get(path, limit);
        self.run(OperationKind::Get, path.as_str(), whole, || {
            let mut bytes = whole()?;
            bytes.truncate(bytes.len() / 2);
            Ok(bytes)
        })
    }

    fn read_range(&self, path: &ObjectPath, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        match self.enter(OperationKind::ReadRange, path.as_str())? {
            None => self.inner.read_range(path, offset, into),
            Some(Fault::Before) => Err(injected(path.as_str())),
            Some(Fault::After) => self.inner.read_range(path, offset, into).and(Err(injected(path.as_str()))),
            Some(Fault::Torn) => {
                let length = into.len();
                self.inner.read_range(path, offset, &mut into[..length / 2])?;
                Err(StoreError::ShortRead { path: path.to_string(), offset, length })
            }
        }
    }

    fn size(&self, path: &ObjectPath) -> Result<u64, StoreError> {
        let torn = || Err(injected(path.as_str()));
        self.run(OperationKind::Size, path.as_str(), || self.inner.size(path), torn)
    }

    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        let whole = || self.inner.put_if_absent(path, bytes);
        self.run(OperationKind::Put, path.as_str(), whole, || {
            self.inner.put_if_absent(path, &bytes[..bytes.len() / 2])?;
            Err(injected(path.as_str()))
        })
    }

    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        match self.enter(OperationKind::List, folder)? {
            None => self.inner.list(folder, visit),
            Some(Fault::Before) => Err(injected(folder)),
            Some(Fault::After) => self.inner.list(folder, visit).and(Err(injected(folder))),
            Some(Fault::Torn) => {
                self.inner.list(folder, &mut |object| {
                    let _ = visit(object);
                    ControlFlow::Break(())
                })?;
                Err(injected(folder))
            }
        }
    }

    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        let torn = || Err(injected(path.as_str()));
        self.run(OperationKind::Delete, path.as_str(), || self.inner.delete(path), torn)
    }

    fn in_use(&self, folder: &str) -> Option<super::InUse> {
        self.inner.in_use(folder)
    }
}

fn injected(path: &str) -> StoreError {
    StoreError::other("reach", path, "injected fault")
}

#[cfg(test)]
mod tests {
    use super::super::{LocalStore, MemoryStore};
    use super::*;

    fn path(text: &str) -> ObjectPath {
        ObjectPath::new(text).unwrap()
    }

    #[test]
    fn without_faults_it_conforms() {
        super::super::conformance::run(&FaultStore::new(MemoryStore::new()));
        let folder = tempfile::tempdir().unwrap();
        super::super::conformance::run(&FaultStore::new(LocalStore::open(folder.path()).unwrap()));
    }

    #[test]
    fn puts_fail_before_after_or_half_way() {
        let store = FaultStore::new(MemoryStore::new());
        for (number, fault) in (0..).zip([Fault::Before, Fault::After, Fault::Torn]) {
            store.fail_at(number, fault);
        }
        for name in ["before", "after", "torn", "fine"] {
            let outcome = store.put_if_absent(&path(name), b"12345678");
            assert_eq!(outcome.is_ok(), name == "fine", "{name}");
        }
        let found: Vec<_> = store
            .inner()
            .objects()
            .into_iter()
            .map(|(path, bytes)| (path.to_string(), bytes.len()))
            .collect();
        assert_eq!(found, [("after".to_owned(), 8), ("fine".to_owned(), 8), ("torn".to_owned(), 4)]);
    }

    #[test]
    fn torn_reads_are_short() {
        let store = FaultStore::new(MemoryStore::new());
        for name in ["f/1", "f/2", "f/3"] {
            store.put_if_absent(&path(name), b"12345678").unwrap();
        }
        for number in 3..7 {
            store.fail_at(number, Fault::Torn);
        }
        assert_eq!(store.get(&path("f/1"), 8).unwrap(), b"1234");
        assert!(matches!(store.get_range(&path("f/1"), 2, 4), Err(StoreError::ShortRead { .. })));
        let mut shown = 0;
        let listed = store.list("f", &mut |_| {
            shown += 1;
            ControlFlow::Continue(())
        });
        assert!(listed.is_err() && shown == 1);
        assert!(store.delete(&path("f/1")).is_err());
        assert_eq!(store.size(&path("f/1")).unwrap(), 8);
    }

    #[test]
    fn after_a_crash_nothing_works_until_reset() {
        let store = FaultStore::new(MemoryStore::new());
        store.crash_at(1, Fault::After);
        assert!(store.put_if_absent(&path("0"), b"x").is_ok());
        assert!(store.put_if_absent(&path("1"), b"x").is_err());
        assert!(store.put_if_absent(&path("2"), b"x").is_err());
        assert!(store.size(&path("0")).is_err());
        assert_eq!(store.operations(), 4);
        let last = LoggedOperation { kind: OperationKind::Size, path: "0".to_owned() };
        assert_eq!(store.log().last(), Some(&last));
        store.reset();
        assert_eq!((store.size(&path("1")).unwrap(), store.operations()), (1, 1));
        assert!(store.size(&path("2")).unwrap_err().is_not_found());
    }

    #[test]
    fn append_only_refuses_deletes_only() {
        let store = FaultStore::new(MemoryStore::new());
        store.refuse_deletes();
        store.put_if_absent(&path("a"), b"x").unwrap();
        assert!(matches!(store.delete(&path("a")), Err(StoreError::PermissionDenied { .. })));
        assert_eq!(store.get(&path("a"), 1).unwrap(), b"x");
    }
}
