//! A store with copies of it to turn to: what is missing or damaged in the first is taken from the others, and said.
//!
//! For reading only: what a copy has is no reason not to write it to the first. An object whose name is the BLAKE3 of its
//! bytes is proven before it is handed on. Of such an object a range proves nothing; whoever finds that it was damaged
//! says so ([`Store::distrust`]), and then the whole object is compared with its name.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::path::is_hash;
use super::{ObjectMeta, ObjectPath, Put, Store, StoreError};

/// Objects from copies that are kept in memory: packs of 16 MiB, mostly.
const SUBSTITUTES: NonZeroUsize = NonZeroUsize::new(4).unwrap();
/// No object is longer (docs/format.md, section 12).
const LONGEST: u64 = 64 << 20;

/// Something that should be known of copies, in words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Told {
    /// The first lacks something, or has it damaged, and a copy has it: it can be mended.
    Mendable(String),
    /// The first, or a copy, does not answer.
    Silent(String),
}

/// Hears what came from where.
pub type Say = Box<dyn Fn(&Told) + Send + Sync>;

/// Wraps a store and turns to copies where it fails.
pub struct FallbackStore<S> {
    first: Answering<S>,
    copies: Vec<Answering<Box<dyn Store>>>,
    say: Say,
    state: Mutex<State>,
}

/// A store that is not asked any more when it has not answered once, however long it was waited.
#[derive(Debug)]
struct Answering<S> {
    store: S,
    is_silent: AtomicBool,
}

impl<S: Store> Answering<S> {
    const fn new(store: S) -> Self {
        Self { store, is_silent: AtomicBool::new(false) }
    }

    fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Relaxed)
    }

    fn ask<T>(&self, request: impl FnOnce(&S) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.is_silent() {
            return Err(StoreError::Temporary {
                path: self.store.describe(),
                operation: "read",
                why: "it did not answer before".to_owned(),
            });
        }
        let outcome = request(&self.store);
        if matches!(outcome, Err(StoreError::Temporary { .. })) {
            self.is_silent.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

struct State {
    substitutes: LruCache<ObjectPath, Arc<[u8]>>,
    /// Objects that the first store was seen not to have as they should be.
    bad: HashSet<ObjectPath>,
    /// What was said already.
    said: HashSet<Told>,
}

impl<S: Store> std::fmt::Debug for FallbackStore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FallbackStore")
            .field("first", &self.first)
            .field("copies", &self.copies)
            .finish_non_exhaustive()
    }
}

impl<S: Store> FallbackStore<S> {
    /// Wraps `inner`; `say` is told once of each object that came from a copy.
    pub fn new(inner: S, copies: Vec<Box<dyn Store>>, say: Say) -> Self {
        let substitutes = LruCache::new(SUBSTITUTES);
        let state = Mutex::new(State { substitutes, bad: HashSet::new(), said: HashSet::new() });
        let copies = copies.into_iter().map(Answering::new).collect();
        Self { first: Answering::new(inner), copies, say, state }
    }

    /// The first is known not to answer.
    #[must_use]
    pub fn with_silent_first(self) -> Self {
        self.first.is_silent.store(true, Ordering::Relaxed);
        self
    }

    /// Asks the first store, unless it is known not to answer and there are others.
    fn ask<T>(&self, request: impl FnOnce(&S) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.copies.is_empty() { request(&self.first.store) } else { self.first.ask(request) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, told: Told) {
        if !self.state().said.contains(&told) {
            (self.say)(&told);
            self.state().said.insert(told);
        }
    }

    /// Of what is asked of a copy because the first does not answer, it is enough to hear that.
    fn say_of(&self, path: &ObjectPath, why: &str, copy: &dyn Store) {
        let copy = copy.describe();
        if self.first.is_silent() {
            let first = self.first.store.describe();
            self.say(Told::Silent(format!("{first} does not answer; the copy {copy} is read instead")));
        } else {
            self.say(Told::Mendable(format!("{path} {why}; it was read from the copy {copy}")));
        }
    }

    /// The object from the first copy that has it as it should be.
    fn substitute(&self, path: &ObjectPath, limit: u64, why: &str) -> Option<Arc<[u8]>> {
        if let Some(bytes) = self.state().substitutes.get(path) {
            return Some(Arc::clone(bytes));
        }
        for copy in &self.copies {
            if let Ok(bytes) = copy.ask(|store| store.get(path, limit))
                && is_genuine(path, &bytes)
            {
                self.say_of(path, why, &copy.store);
                let bytes: Arc<[u8]> = bytes.into();
                let mut state = self.state();
                state.substitutes.put(path.clone(), Arc::clone(&bytes));
                state.bad.insert(path.clone());
                return Some(bytes);
            }
        }
        None
    }

    fn is_bad(&self, path: &ObjectPath) -> bool {
        self.state().bad.contains(path)
    }
}

/// Whether bytes have the name they should have; of fixed names nothing can be told here.
fn is_genuine(path: &ObjectPath, bytes: &[u8]) -> bool {
    !is_hash(path.file_name()) || blake3::hash(bytes).to_hex().as_str() == path.file_name()
}

fn words(error: &StoreError) -> &'static str {
    if error.is_not_found() { "is missing" } else { "cannot be read" }
}

impl<S: Store> Store for FallbackStore<S> {
    fn describe(&self) -> String {
        self.first.store.describe()
    }

    fn is_remote(&self) -> bool {
        self.first.store.is_remote()
    }

    fn distrust(&self, path: &ObjectPath) -> bool {
        let below = self.first.store.distrust(path);
        if !is_hash(path.file_name()) || self.is_bad(path) {
            return below;
        }
        match self.ask(|store| store.get(path, LONGEST)) {
            Ok(bytes) if is_genuine(path, &bytes) => below,
            _ => self.substitute(path, LONGEST, "is damaged").is_some() || below,
        }
    }

    fn read_directly(&self, directly: bool) {
        self.first.store.read_directly(directly);
        self.copies.iter().for_each(|copy| copy.store.read_directly(directly));
    }

    fn get(&self, path: &ObjectPath, limit: u64) -> Result<Vec<u8>, StoreError> {
        match self.ask(|store| store.get(path, limit)) {
            Ok(bytes) if is_genuine(path, &bytes) => Ok(bytes),
            Ok(bytes) => Ok(self.substitute(path, limit, "is damaged").map_or(bytes, |bytes| bytes.to_vec())),
            Err(error) => {
                self.substitute(path, limit, words(&error)).map(|bytes| bytes.to_vec()).ok_or(error)
            }
        }
    }

    fn read_range(&self, path: &ObjectPath, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        let outcome = if self.is_bad(path) {
            Err(StoreError::NotFound { path: path.to_string() })
        } else {
            self.ask(|store| store.read_range(path, offset, into))
        };
        let Err(error) = outcome else { return Ok(()) };
        let Some(bytes) = self.substitute(path, LONGEST, words(&error)) else { return Err(error) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = start.checked_add(into.len()).and_then(|end| bytes.get(start..end));
        let short = || StoreError::ShortRead { path: path.to_string(), offset, length: into.len() };
        into.copy_from_slice(part.ok_or_else(short)?);
        Ok(())
    }

    fn fetch_ahead(&self, path: &ObjectPath, part: Range<u64>, object_len: u64) -> Result<(), StoreError> {
        if self.is_bad(path) {
            return Ok(());
        }
        self.ask(|store| store.fetch_ahead(path, part.clone(), object_len))
    }

    fn size(&self, path: &ObjectPath) -> Result<u64, StoreError> {
        let error = match self.ask(|store| store.size(path)) {
            Ok(size) => return Ok(size),
            Err(error) => error,
        };
        self.copies.iter().find_map(|copy| copy.ask(|store| store.size(path)).ok()).ok_or(error)
    }

    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        self.first.store.put_if_absent(path, bytes)
    }

    /// What any of them has.
    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let (hasher, mut shown) = (RandomState::new(), HashSet::new());
        let mut ended = false;
        let mut once = |meta: ObjectMeta| {
            if shown.insert(hasher.hash_one(&meta.path)) && visit(meta).is_break() {
                ended = true;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let mut outcome = self.ask(|store| store.list(folder, &mut once));
        for copy in self.copies.iter().filter(|copy| !copy.is_silent()) {
            let listed = copy.ask(|store| store.list(folder, &mut once));
            match (&listed, &outcome) {
                (Ok(()), Err(error)) => {
                    if !self.first.is_silent() {
                        let copy = copy.store.describe();
                        self.say(Told::Mendable(format!("{error}; the copy {copy} was listed")));
                    }
                    outcome = Ok(());
                }
                (Err(error), _) => self.say(Told::Silent(format!("a copy is not used: {error}"))),
                _ => {}
            }
        }
        if ended { Ok(()) } else { outcome }
    }

    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.first.store.delete(path)
    }

    fn in_use(&self, folder: &str) -> Option<super::InUse> {
        self.first.store.in_use(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Disturbance, DisturbedStore, MemoryStore};
    use super::*;

    type Heard = Arc<Mutex<Vec<String>>>;

    fn with_copy(
        primary: Arc<MemoryStore>,
        copy: Arc<MemoryStore>,
    ) -> (FallbackStore<Arc<MemoryStore>>, Heard) {
        let heard = Heard::default();
        let ear = Arc::clone(&heard);
        let say: Say = Box::new(move |told| ear.lock().unwrap().push(format!("{told:?}")));
        (FallbackStore::new(primary, vec![Box::new(copy)], say), heard)
    }

    fn named(bytes: &[u8]) -> ObjectPath {
        ObjectPath::new(format!("packs/00/{}", blake3::hash(bytes).to_hex())).unwrap()
    }

    #[test]
    fn without_copies_and_with_a_sound_first_it_conforms() {
        let say: Say = Box::new(|told| panic!("{told:?}"));
        super::super::conformance::run(&FallbackStore::new(MemoryStore::new(), Vec::new(), say));
    }

    #[test]
    fn missing_and_damaged_objects_come_from_the_copy() {
        let (primary, copy) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
        let (lost, damaged, sound) = (named(b"lost"), named(b"damaged"), named(b"sound"));
        for (path, bytes) in [(&lost, &b"lost"[..]), (&damaged, b"damaged"), (&sound, b"sound")] {
            copy.put_if_absent(path, bytes).unwrap();
        }
        primary.put_if_absent(&damaged, b"dAmaged").unwrap();
        primary.put_if_absent(&sound, b"sound").unwrap();
        let (store, heard) = with_copy(primary, copy);
        assert_eq!(store.get(&lost, 10).unwrap(), b"lost");
        assert_eq!(store.get(&damaged, 10).unwrap(), b"damaged");
        assert_eq!(store.get(&sound, 10).unwrap(), b"sound");
        assert_eq!(store.get_range(&lost, 1, 2).unwrap(), b"os");
        assert_eq!(heard.lock().unwrap().len(), 2, "{heard:?}");
        let mut listed = 0;
        store
            .list("packs", &mut |_| {
                listed += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(listed, 3);
    }

    #[test]
    fn a_range_is_read_anew_when_its_reader_distrusts_it() {
        let (primary, copy) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
        let path = named(b"0123456789");
        copy.put_if_absent(&path, b"0123456789").unwrap();
        primary.put_if_absent(&path, b"0123456x89").unwrap();
        let (store, heard) = with_copy(Arc::clone(&primary), Arc::clone(&copy));
        assert_eq!(store.get_range(&path, 6, 2).unwrap(), b"6x");
        assert!(store.distrust(&path));
        assert_eq!(store.get_range(&path, 6, 2).unwrap(), b"67");
        assert!(!store.distrust(&path), "the copy was the last resort");
        assert_eq!(heard.lock().unwrap().len(), 1);
        copy.replace(&path, b"0123456y89".to_vec());
        let (store, heard) = with_copy(primary, copy);
        assert!(!store.distrust(&path), "a damaged copy is no help");
        assert!(heard.lock().unwrap().is_empty());
    }

    #[test]
    fn a_first_store_that_is_gone_is_replaced_altogether() {
        let copy = Arc::new(MemoryStore::new());
        let path = named(b"x");
        copy.put_if_absent(&path, b"x").unwrap();
        let dead = Disturbance { failures_percent: 100, ..Disturbance::default() };
        let gone = DisturbedStore::new(MemoryStore::new(), dead, 1);
        let heard = Heard::default();
        let ear = Arc::clone(&heard);
        let say: Say = Box::new(move |told| ear.lock().unwrap().push(format!("{told:?}")));
        let store = FallbackStore::new(gone, vec![Box::new(copy)], say);
        assert_eq!(store.get(&path, 1).unwrap(), b"x");
        assert!(store.list("packs", &mut |_| ControlFlow::Continue(())).is_ok());
        // Said once, not for each thing that is asked for.
        let said = heard.lock().unwrap().clone();
        assert!(said.len() == 1 && said[0].starts_with("Silent"), "{said:?}");
        assert_eq!(store.first.store.failures(), 1, "it is not asked again");
    }
}
