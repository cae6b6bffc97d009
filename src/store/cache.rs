//! A local cache of ciphertext in front of a store that is far away.
//!
//! Only objects whose name is the BLAKE3 of their bytes are kept: such an object never changes, and whether what the cache
//! has of it is right can be told here. Small ones are kept whole; of those below one folder, from which ranges are read,
//! aligned blocks. Blocks carry a checksum, since a part of an object does not tell its name. What is damaged or missing
//! in the cache is fetched; the cache as a whole may be lost at any moment. Whether an object *exists* the cache never
//! answers: listings and sizes not seen in this run come from the store.
//!
//! What is written goes into the cache as well: the bases of the next deltas.

mod disk;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use self::disk::Disk;
use super::path::is_hash;
use super::{ObjectMeta, ObjectPath, Put, Store, StoreError};

/// A part of an object that is fetched and kept as one.
const BLOCK: u64 = 1 << 20;
/// Blocks that are fetched in one request where reading goes on from one to the next.
const READ_AHEAD: u64 = 2;
/// Blocks kept in memory: 32 MiB.
const BLOCKS_IN_MEMORY: NonZeroUsize = NonZeroUsize::new(32).unwrap();
/// Sizes of objects that are remembered.
const SIZES: NonZeroUsize = NonZeroUsize::new(1 << 16).unwrap();

type BlockKey = (ObjectPath, u64);

/// Wraps a store and keeps what was read and written of it in a folder on this machine and, briefly, in memory.
#[derive(Debug)]
pub struct CacheStore<S> {
    inner: S,
    ranged: &'static str,
    disk: Option<Disk>,
    state: Mutex<State>,
    arrived: Condvar,
    /// How many want to know what is in the store itself.
    direct: AtomicUsize,
}

#[derive(Debug)]
struct State {
    blocks: LruCache<BlockKey, Arc<[u8]>>,
    sizes: LruCache<ObjectPath, u64>,
    on_the_way: HashSet<BlockKey>,
}

impl State {
    /// Says that a block is on its way now, and those after it that are to come in the same request: where reading goes on
    /// from the one before. `None` if it is on its way already.
    fn claim(&mut self, path: &ObjectPath, number: u64) -> Option<Range<u64>> {
        let key = |number| (path.clone(), number);
        let is_here = |state: &Self, number| {
            state.blocks.contains(&key(number)) || state.on_the_way.contains(&key(number))
        };
        if self.on_the_way.contains(&key(number)) {
            return None;
        }
        let mut end = number + 1;
        if number > 0 && is_here(self, number - 1) {
            while end < number + READ_AHEAD && !is_here(self, end) {
                end += 1;
            }
        }
        self.on_the_way.extend((number..end).map(key));
        Some(number..end)
    }
}

impl<S: Store> CacheStore<S> {
    /// Wraps `inner`; ranges are read from objects below the folder `ranged`. At most `limit` bytes or little more are kept in
    /// `folder`, those used last; without a folder, only what memory holds.
    pub fn new(inner: S, ranged: &'static str, folder: Option<PathBuf>, limit: u64) -> Self {
        let state = State {
            blocks: LruCache::new(BLOCKS_IN_MEMORY),
            sizes: LruCache::new(SIZES),
            on_the_way: HashSet::new(),
        };
        let disk = folder.and_then(|folder| Disk::open(folder, limit));
        Self {
            inner,
            ranged,
            disk,
            state: Mutex::new(state),
            arrived: Condvar::new(),
            direct: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder, if there is one and it may keep such an object.
    fn disk_for(&self, path: &ObjectPath) -> Option<&Disk> {
        self.disk.as_ref().filter(|_| is_hash(path.file_name()))
    }

    fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed) > 0
    }

    fn is_ranged(&self, path: &ObjectPath) -> bool {
        path.is_below(self.ranged) && is_hash(path.file_name())
    }

    fn remember_size(&self, path: &ObjectPath, size: u64) {
        self.state().sizes.put(path.clone(), size);
    }

    /// Keeps all blocks of an object whose bytes are at hand.
    fn keep_blocks(&self, path: &ObjectPath, first: u64, bytes: &[u8]) {
        for (number, block) in (first..).zip(bytes.chunks(usize::try_from(BLOCK).unwrap_or(usize::MAX))) {
            if let Some(disk) = &self.disk {
                disk.put_block(path.file_name(), number, block);
            }
            self.state().blocks.put((path.clone(), number), block.into());
        }
    }

    /// A block from memory, from disk, or from the store. Who asks for one that is on its way waits for it.
    fn block(&self, path: &ObjectPath, number: u64) -> Result<Arc<[u8]>, StoreError> {
        let key = (path.clone(), number);
        let mut state = self.state();
        let claimed = loop {
            if let Some(block) = state.blocks.get(&key) {
                return Ok(Arc::clone(block));
            }
            if let Some(claimed) = state.claim(path, number) {
                break claimed;
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        self.bring(path, claimed, None)
    }

    /// Brings the first of the blocks that were claimed, and with it, if that is a request anyway, the others.
    fn bring(
        &self,
        path: &ObjectPath,
        claimed: Range<u64>,
        object_len: Option<u64>,
    ) -> Result<Arc<[u8]>, StoreError> {
        let first = claimed.start;
        let fetch = || self.fetch(path, claimed.clone(), object_len);
        let outcome = self.block_from_disk(path, first).map_or_else(fetch, Ok);
        let mut state = self.state();
        for number in claimed {
            state.on_the_way.remove(&(path.clone(), number));
        }
        if let Ok(block) = &outcome {
            state.blocks.put((path.clone(), first), Arc::clone(block));
        }
        drop(state);
        self.arrived.notify_all();
        outcome
    }

    fn block_from_disk(&self, path: &ObjectPath, number: u64) -> Option<Arc<[u8]>> {
        self.disk.as_ref().filter(|_| !self.is_direct())?.block(path.file_name(), number).map(Into::into)
    }

    /// Without asking for the object's size if somebody says what it should be; the store is asked if it is not that long.
    fn fetch(
        &self,
        path: &ObjectPath,
        blocks: Range<u64>,
        object_len: Option<u64>,
    ) -> Result<Arc<[u8]>, StoreError> {
        let start = blocks.start * BLOCK;
        let size = object_len.map_or_else(|| self.size(path), Ok)?;
        let most = (blocks.end - blocks.start) * BLOCK;
        let length = usize::try_from(size.saturating_sub(start).min(most)).unwrap_or(0);
        if length == 0 {
            return Ok(Arc::from([]));
        }
        let bytes = match self.inner.get_range(path, start, length) {
            Err(StoreError::ShortRead { .. }) if object_len.is_some() => {
                return self.fetch(path, blocks, None);
            }
            fetched => fetched?,
        };
        self.keep_blocks(path, blocks.start, &bytes);
        let end = bytes.len().min(usize::try_from(BLOCK).unwrap_or(usize::MAX));
        Ok(bytes[..end].into())
    }
}

impl<S: Store> Store for CacheStore<S> {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn distrust(&self, path: &ObjectPath) -> bool {
        let mut state = self.state();
        let known: Vec<BlockKey> =
            state.blocks.iter().map(|(key, _)| key.clone()).filter(|(of, _)| of == path).collect();
        for key in &known {
            state.blocks.pop(key);
        }
        state.sizes.pop(path);
        drop(state);
        let forgotten = self.disk_for(path).is_some_and(|disk| disk.forget(path.file_name()));
        let below = self.inner.distrust(path);
        forgotten || below || !known.is_empty()
    }

    /// What memory holds when it begins is forgotten; what is fetched from then on is of the store.
    fn read_directly(&self, directly: bool) {
        self.inner.read_directly(directly);
        if directly {
            self.direct.fetch_add(1, Ordering::Relaxed);
            let mut state = self.state();
            state.blocks.clear();
            state.sizes.clear();
        } else {
            self.direct.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn get(&self, path: &ObjectPath, limit: u64) -> Result<Vec<u8>, StoreError> {
        let Some(disk) = self.disk.as_ref().filter(|_| is_hash(path.file_name()) && !self.is_ranged(path))
        else {
            return self.inner.get(path, limit);
        };
        if !self.is_direct()
            && let Some(bytes) = disk.whole(path.file_name()).filter(|bytes| bytes.len() as u64 <= limit)
        {
            return Ok(bytes);
        }
        let bytes = self.inner.get(path, limit)?;
        disk.put_whole(path.file_name(), &bytes);
        Ok(bytes)
    }

    fn read_range(&self, path: &ObjectPath, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        if !self.is_ranged(path) {
            return self.inner.read_range(path, offset, into);
        }
        let length = into.len();
        let short = || StoreError::ShortRead { path: path.to_string(), offset, length };
        let end = offset.checked_add(length as u64).ok_or_else(short)?;
        let (mut at, mut sure) = (offset, false);
        while at < end {
            let block = self.block(path, at / BLOCK)?;
            let skip = usize::try_from(at % BLOCK).unwrap_or(usize::MAX);
            let rest = block.get(skip..).unwrap_or_default();
            if rest.is_empty() {
                if sure || self.size(path)? < end {
                    return Err(short());
                }
                // It is as long as the store says, not as somebody said who fetched ahead.
                self.distrust(path);
                sure = true;
                continue;
            }
            let done = usize::try_from(at - offset).unwrap_or(usize::MAX);
            let part = rest.len().min(length - done);
            into[done..done + part].copy_from_slice(&rest[..part]);
            at += part as u64;
        }
        Ok(())
    }

    fn fetch_ahead(&self, path: &ObjectPath, part: Range<u64>, object_len: u64) -> Result<(), StoreError> {
        if !self.is_ranged(path) {
            return Ok(());
        }
        for number in part.start / BLOCK..part.end.min(object_len).div_ceil(BLOCK) {
            let claimed = {
                let mut state = self.state();
                if state.blocks.contains(&(path.clone(), number)) {
                    continue;
                }
                state.claim(path, number)
            };
            if let Some(claimed) = claimed {
                self.bring(path, claimed, Some(object_len))?;
            }
        }
        Ok(())
    }

    fn size(&self, path: &ObjectPath) -> Result<u64, StoreError> {
        if self.is_ranged(path)
            && let Some(size) = self.state().sizes.get(path)
        {
            return Ok(*size);
        }
        let size = self.inner.size(path)?;
        if self.is_ranged(path) {
            self.remember_size(path, size);
        }
        Ok(size)
    }

    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        let put = self.inner.put_if_absent(path, bytes)?;
        if put == Put::Created && is_hash(path.file_name()) {
            if self.is_ranged(path) {
                self.remember_size(path, bytes.len() as u64);
                self.keep_blocks(path, 0, bytes);
            } else if let Some(disk) = &self.disk {
                disk.put_whole(path.file_name(), bytes);
            }
        }
        Ok(put)
    }

    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner.list(folder, &mut |meta| {
            if self.is_ranged(&meta.path) {
                self.remember_size(&meta.path, meta.size);
            }
            visit(meta)
        })
    }

    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.inner.delete(path)?;
        let mut state = self.state();
        state.sizes.pop(path);
        let blocks: Vec<BlockKey> =
            state.blocks.iter().map(|(key, _)| key.clone()).filter(|(of, _)| of == path).collect();
        for key in blocks {
            state.blocks.pop(&key);
        }
        drop(state);
        if let Some(disk) = self.disk_for(path) {
            disk.forget(path.file_name());
        }
        Ok(())
    }

    fn in_use(&self, folder: &str) -> Option<super::InUse> {
        self.inner.in_use(folder)
    }
}

#[cfg(test)]
mod tests;
