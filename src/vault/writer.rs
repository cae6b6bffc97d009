//! One run's writing: records into packs, packs into the store, then the index, then manifests: the order
//! that makes a crash at any point harmless (docs/format.md, section 11).
//!
//! Sealing and storing have a thread each, fed through bounded channels, so that a full disk or a slow
//! one holds the source back instead of filling memory.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::core::Core;
use super::error::VaultError;
use super::index::ChunkIndex;
use crate::chunk::Class;
use crate::crypto::seal::ObjectSealer;
use crate::format::directory::{Encoding, Record};
use crate::format::envelope::{HEADER_LEN, ObjectKind};
use crate::format::index::{Index, PackEntry};
use crate::format::manifest::encode_snapshots;
use crate::ids::{ChunkId, ObjectName};

/// A pack is closed when it reaches this many bytes.
const PACK_TARGET: usize = 16 << 20;
/// Room beyond that for the last record and the directory, so that the buffer never has to move.
const PACK_MARGIN: usize = 256 << 10;
/// Encoded chunks that may wait for the sealer.
const WAITING: usize = 64;
/// Packs after which an index object is written, so that what a run has to remember stays bounded: chunks of 256 MiB, so
/// that a database of half a gigabyte needs no less memory than one of any size.
const PACKS_PER_INDEX: usize = 16;

/// A chunk, encoded and ready to be sealed.
pub struct EncodedChunk {
    /// Its id.
    pub id: ChunkId,
    /// What it is.
    pub class: Class,
    /// How it is encoded.
    pub encoding: Encoding,
    /// Bytes of its plaintext.
    pub plain_len: u32,
    /// The encoded bytes.
    pub bytes: Vec<u8>,
}

/// Without the bytes: they may be the plaintext.
impl std::fmt::Debug for EncodedChunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EncodedChunk({}, {:?}, {} bytes)", self.id, self.class, self.bytes.len())
    }
}

/// What a run has added so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Objects written, of all kinds.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

enum Order {
    Chunk(EncodedChunk),
    /// Close the open packs and say what is durable now.
    Flush(Sender<Vec<PackEntry>>),
}

/// Where encoded chunks go; one per thread that encodes.
#[derive(Debug, Clone)]
pub struct ChunkSink(Sender<Order>);

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Order")
    }
}

impl ChunkSink {
    /// Hands a chunk over; waits while the sealer is busy.
    ///
    /// # Errors
    /// The run has failed; [`RunWriter::flush`] says why.
    pub fn push(&self, chunk: EncodedChunk) -> Result<(), VaultError> {
        self.0.send(Order::Chunk(chunk)).map_err(|_| VaultError::Worker)
    }
}

/// Writes chunks and, at the end, manifests.
#[derive(Debug)]
pub struct RunWriter {
    core: Arc<Core>,
    orders: Option<Sender<Order>>,
    sealer: Option<JoinHandle<Result<(), VaultError>>>,
    storer: Option<JoinHandle<Result<(), VaultError>>>,
    /// Ids of this run that no index object names yet.
    pending: HashSet<(Class, ChunkId)>,
    /// Durable packs that no index object names yet.
    unindexed: Vec<PackEntry>,
    written: Written,
}

impl RunWriter {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let (orders, inbox) = bounded(WAITING);
        // No queue: one pack is filled while one is stored, and that is all that memory holds.
        let (packs, packs_inbox) = bounded(0);
        let (emptied, home) = bounded(2);
        let sealer = {
            let core = Arc::clone(&core);
            std::thread::spawn(move || Sealer { core, packs, home, open: [None, None] }.run(&inbox))
        };
        let storer = {
            let core = Arc::clone(&core);
            std::thread::spawn(move || store_packs(&core, &packs_inbox, &emptied))
        };
        Self {
            core,
            orders: Some(orders),
            sealer: Some(sealer),
            storer: Some(storer),
            pending: HashSet::new(),
            unindexed: Vec::new(),
            written: Written::default(),
        }
    }

    /// A way to hand over chunks, for another thread.
    ///
    /// # Errors
    /// The run has failed.
    pub fn sink(&self) -> Result<ChunkSink, VaultError> {
        self.orders.clone().map(ChunkSink).ok_or(VaultError::Worker)
    }

    /// Claims an id for this run: `false` if the run has it already, `true` if the caller must now provide it.
    pub fn claim(&mut self, class: Class, id: ChunkId) -> bool {
        self.pending.insert((class, id))
    }

    /// Whether this run has an id that no index object names yet.
    #[must_use]
    pub fn has(&self, class: Class, id: ChunkId) -> bool {
        self.pending.contains(&(class, id))
    }

    /// Whether so much is pending that it should be flushed before the next chunk.
    #[must_use]
    pub fn is_heavy(&self) -> bool {
        self.pending.len() >= PACKS_PER_INDEX * (PACK_TARGET / crate::chunk::CHUNK_SIZE)
    }

    /// Makes all that was handed over durable: packs, then an index object for them, which `index` learns.
    ///
    /// # Errors
    /// Whatever made sealing or storing fail. Where only the index object could not be written, the next flush tries
    /// again: nothing may be published on packs that no index names.
    pub fn flush(&mut self, index: &mut ChunkIndex) -> Result<(), VaultError> {
        let (reply, packs) = bounded(1);
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(Order::Flush(reply)).is_ok());
        let Some(packs) = sent.then(|| packs.recv().ok()).flatten() else { return Err(self.failure()) };
        for pack in &packs {
            self.count(pack.object_len);
        }
        self.unindexed.extend(packs);
        if !self.unindexed.is_empty() {
            let content = Index { packs: std::mem::take(&mut self.unindexed), replaces: Vec::new() };
            let written = content
                .encode()
                .map_err(VaultError::from)
                .and_then(|body| self.write(ObjectKind::Index, &body))
                .and_then(|name| index.add(name, &content));
            if let Err(error) = written {
                self.unindexed = content.packs;
                return Err(error);
            }
        }
        self.pending.clear();
        Ok(())
    }

    /// Publishes manifests, encoded: flushes, then writes the object that makes them visible.
    ///
    /// # Errors
    /// The store fails. After an error nothing is visible, or all of it.
    pub fn publish(
        &mut self,
        index: &mut ChunkIndex,
        manifests: &[Vec<u8>],
    ) -> Result<ObjectName, VaultError> {
        self.flush(index)?;
        self.write(ObjectKind::Snapshots, &encode_snapshots(manifests)?)
    }

    /// Objects and bytes written so far.
    #[must_use]
    pub const fn written(&self) -> Written {
        self.written
    }

    fn write(&mut self, kind: ObjectKind, body: &[u8]) -> Result<ObjectName, VaultError> {
        let bytes = ObjectSealer::new(&self.core.keys, kind)?.finish(body)?;
        self.count(bytes.len() as u64);
        self.core.put(kind, &bytes)
    }

    fn count(&mut self, bytes: u64) {
        self.written.objects += 1;
        self.written.bytes += bytes;
    }

    /// Why the threads stopped. The storer's reason comes first: the sealer only notices that it is gone.
    fn failure(&mut self) -> VaultError {
        self.orders = None;
        let joined = [self.sealer.take(), self.storer.take()].map(|thread| thread.map(JoinHandle::join));
        let mut errors = joined.into_iter().rev().filter_map(|result| match result {
            Some(Ok(Err(error))) => Some(error),
            _ => None,
        });
        errors.next().unwrap_or(VaultError::Worker)
    }
}

impl Drop for RunWriter {
    fn drop(&mut self) {
        let _ = self.failure();
    }
}

/// Seals chunks into two open packs, one for pages and one for metadata.
struct Sealer {
    core: Arc<Core>,
    packs: Sender<StoreOrder>,
    /// Buffers of packs that are stored.
    home: Receiver<Vec<u8>>,
    open: [Option<ObjectSealer>; 2],
}

enum StoreOrder {
    Pack(Vec<u8>, crate::format::directory::Directory),
    Flush(Sender<Vec<PackEntry>>),
}

impl Sealer {
    fn run(mut self, inbox: &Receiver<Order>) -> Result<(), VaultError> {
        for order in inbox {
            match order {
                Order::Chunk(chunk) => self.seal(&chunk)?,
                Order::Flush(reply) => {
                    self.close(0)?;
                    self.close(1)?;
                    self.packs.send(StoreOrder::Flush(reply)).map_err(|_| VaultError::Worker)?;
                }
            }
        }
        Ok(())
    }

    fn seal(&mut self, chunk: &EncodedChunk) -> Result<(), VaultError> {
        let (slot, kind) = if chunk.class == Class::Page {
            (0, ObjectKind::PagePack)
        } else {
            (1, ObjectKind::MetadataPack)
        };
        let sealer = match &mut self.open[slot] {
            Some(sealer) => sealer,
            closed => {
                let mut sealer = ObjectSealer::new(&self.core.keys, kind)?;
                // Packs of pages take turns in two buffers; those of metadata are mostly small.
                if kind == ObjectKind::PagePack {
                    match self.home.try_recv() {
                        Ok(buffer) => sealer.reuse(buffer),
                        Err(_) => sealer.reserve(PACK_TARGET + PACK_MARGIN),
                    }
                }
                closed.insert(sealer)
            }
        };
        let record = Record {
            id: chunk.id,
            class: chunk.class,
            encoding: chunk.encoding,
            plain_len: chunk.plain_len,
            stored_len: 0,
        };
        sealer.push(record, &chunk.bytes)?;
        if sealer.len() >= PACK_TARGET || sealer.record_count() >= crate::format::limits::RECORDS as usize / 2
        {
            self.close(slot)?;
        }
        Ok(())
    }

    fn close(&mut self, slot: usize) -> Result<(), VaultError> {
        let Some(sealer) = self.open[slot].take() else { return Ok(()) };
        let (bytes, directory) = sealer.finish_pack()?;
        self.packs.send(StoreOrder::Pack(bytes, directory)).map_err(|_| VaultError::Worker)
    }
}

fn store_packs(core: &Core, inbox: &Receiver<StoreOrder>, home: &Sender<Vec<u8>>) -> Result<(), VaultError> {
    let mut durable = Vec::new();
    for order in inbox {
        match order {
            StoreOrder::Pack(bytes, directory) => {
                let name = core.put(directory.kind(), &bytes)?;
                let header = bytes[..HEADER_LEN].to_vec();
                durable.push(PackEntry { name, object_len: bytes.len() as u64, header, directory });
                if bytes.len() >= PACK_TARGET {
                    let _ = home.try_send(bytes);
                }
            }
            StoreOrder::Flush(reply) => {
                let _ = reply.send(std::mem::take(&mut durable));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Fault, FaultStore, MemoryStore, OperationKind};
    use crate::vault::Vault;
    use crate::vault::testing::vault_in;

    fn vault() -> (Vault, Arc<FaultStore<MemoryStore>>) {
        let store = Arc::new(FaultStore::new(MemoryStore::new()));
        let vault = vault_in(Arc::clone(&store));
        (vault, store)
    }

    fn hand_over(vault: &Vault, writer: &mut RunWriter, plain: &[u8]) -> ChunkId {
        let id = vault.chunk_id(Class::Page, plain).unwrap();
        assert!(writer.claim(Class::Page, id));
        let plain_len = u32::try_from(plain.len()).unwrap();
        let (class, encoding, bytes) = (Class::Page, Encoding::Plain, plain.to_vec());
        writer.sink().unwrap().push(EncodedChunk { id, class, encoding, plain_len, bytes }).unwrap();
        id
    }

    #[test]
    fn what_an_index_could_not_name_is_named_by_the_next() {
        let (vault, store) = vault();
        let mut writer = vault.begin_run();
        let first = hand_over(&vault, &mut writer, b"first");
        store.reset();
        store.fail_at(1, Fault::Before);
        assert!(writer.flush(&mut vault.index()).is_err());
        let puts: Vec<_> = store.log().into_iter().filter(|o| o.kind == OperationKind::Put).collect();
        assert!(puts[0].path.starts_with("packs/") && puts[1].path.starts_with("index/"), "{puts:?}");
        assert!(writer.has(Class::Page, first), "the run has forgotten a chunk that no index names");
        let second = hand_over(&vault, &mut writer, b"second");
        writer.publish(&mut vault.index(), &[]).unwrap();
        for id in [first, second] {
            assert!(vault.index().find(Class::Page, id).unwrap().is_some());
        }
    }

    #[test]
    fn a_store_that_fails_ends_the_run_with_its_own_words() {
        let (vault, store) = vault();
        let mut writer = vault.begin_run();
        hand_over(&vault, &mut writer, b"first");
        store.reset();
        store.crash_at(0, Fault::Before);
        let error = writer.flush(&mut vault.index()).unwrap_err();
        assert!(matches!(error, VaultError::Store(_)), "{error}");
        assert!(writer.sink().is_err());
        assert!(writer.publish(&mut vault.index(), &[]).is_err());
    }
}
