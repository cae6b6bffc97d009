//! A vault: a store and a key together. This layer turns dumb objects into chunks, snapshots and stored
//! images, and knows the order in which things are written.
//!
//! It knows nothing of live databases, of what a snapshot is for, or of terminals. Invariants: what is
//! visible is complete; a damaged object is reported by name and never keeps the others from being used.

pub mod catalog;
mod core;
pub mod error;
mod idle;
pub mod image;
pub mod index;
pub mod layout;
mod locked;
pub mod log;
mod memory;
pub(crate) mod quarantine;
mod reach;
pub mod reader;
pub mod readings;
pub mod slots;
#[cfg(test)]
pub(crate) mod testing;
pub mod writer;

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

pub use self::catalog::{Catalog, Snapshot};
pub(crate) use self::core::{Core, read_named};
pub use self::error::VaultError;
pub use self::idle::{IdleVault, Visit};
pub use self::image::StoredImage;
pub use self::locked::LockedVault;
pub use self::slots::{Slot, SlotSource};

use self::index::{ChunkIndex, SkippedIndex};
use self::layout::Place;
use self::log::History;
pub(crate) use self::reach::Reach;
use self::reader::{ChunkReader, Openers};
use self::readings::Readings;
use self::writer::RunWriter;
use crate::chunk::Class;
use crate::crypto::CryptoError;
use crate::crypto::keys::{Keyring, VaultKeys};
use crate::crypto::unlock::{SlotNote, Unlocker};
use crate::format::keyslot::{Argon2Params, KeySlot};
use crate::format::log::LogEntry;
use crate::format::manifest::Manifest;
use crate::format::vault_config::VaultConfig;
use crate::ids::{ChunkId, ObjectName, SlotId, SnapshotId, VaultId, WriterId};
use crate::store::{InUse, ObjectPath, Store};

/// Folders on this machine that a vault's client may use. Both can be lost: the first costs time, the
/// second begins a new chain in the log.
#[derive(Debug, Clone, Default)]
pub struct LocalFolders {
    /// For the index cache; a folder per vault is made in it.
    pub cache: Option<PathBuf>,
    /// For what a client remembers; a folder per vault is made in it.
    pub state: Option<PathBuf>,
}

/// How often it is looked whether others who change keys have named what is gone.
const SETTLE_ATTEMPTS: usize = 5;

/// An unlocked vault.
#[derive(Debug)]
pub struct Vault {
    core: Arc<Core>,
    index: Arc<Mutex<ChunkIndex>>,
    openers: Arc<Openers>,
    config_hash: ObjectName,
    state: Option<PathBuf>,
    unlocked_by: Option<SlotId>,
    warnings: Vec<String>,
}

impl Vault {
    /// Makes a vault in an empty `store`, with one key slot for `unlocker`.
    ///
    /// # Errors
    /// There is a vault already, the place holds something else, or the store fails.
    pub fn create(
        store: Box<dyn Store>,
        unlocker: &Unlocker,
        argon2: Argon2Params,
        label: Option<String>,
        now: Timestamp,
        folders: &LocalFolders,
    ) -> Result<Self, VaultError> {
        let vault = VaultId::random().map_err(CryptoError::from)?;
        let keys = VaultKeys::new(vault, Keyring::generate()?)?;
        let config = VaultConfig {
            vault,
            created_at_us: Some(now.as_microsecond()),
            tool_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        };
        let config_bytes = config.encode(|bytes| keys.config_mac(bytes))?;
        let note = SlotNote { label, created_at_us: Some(now.as_microsecond()) };
        let slot = unlocker.make_slot(vault, keys.keyring(), argon2, &note)?;
        refuse_occupied(&*store)?;
        store.put_if_absent(&ObjectPath::new(layout::GITIGNORE)?, b"*\n")?;
        slots::write(&*store, &slot)?;
        for name in [layout::CONFIG_COPY, layout::CONFIG] {
            let path = ObjectPath::new(name)?;
            if store.put_if_absent(&path, &config_bytes)? == crate::store::Put::AlreadyPresent {
                return Err(VaultError::Exists { place: store.describe() });
            }
        }
        let mut made = Self::assemble(store, keys, &config_bytes, folders)?;
        made.unlocked_by = Some(slot.id);
        made.log_keyring(now)?;
        Ok(made)
    }

    fn assemble(
        store: Box<dyn Store>,
        keys: VaultKeys,
        config_bytes: &[u8],
        folders: &LocalFolders,
    ) -> Result<Self, VaultError> {
        let id = keys.vault().to_string();
        let cache = folders.cache.as_ref().map(|folder| folder.join(&id));
        let index = ChunkIndex::open(cache.as_deref(), keys.cache_key())?;
        Ok(Self {
            core: Arc::new(Core { in_use: store.in_use(layout::KEYS), store, keys }),
            index: Arc::new(Mutex::new(index)),
            openers: Arc::default(),
            config_hash: ObjectName::of(config_bytes),
            state: folders.state.as_ref().map(|folder| folder.join(&id)),
            unlocked_by: None,
            warnings: Vec::new(),
        })
    }

    /// Identity of the vault.
    #[must_use]
    pub fn id(&self) -> VaultId {
        self.core.keys.vault()
    }

    /// The place in words.
    #[must_use]
    pub fn place(&self) -> String {
        self.core.store.describe()
    }

    /// What was noticed while the vault was opened: copies used in place of damaged originals.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The store, for checks that need no key.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.core.store
    }

    /// Whether nobody else has the vault open, as far as its place can tell. If so nobody can open it until
    /// [`let_others_in`](Self::let_others_in). Does not wait.
    #[must_use]
    pub(crate) fn try_alone(&self) -> bool {
        self.core.in_use.as_ref().is_some_and(InUse::try_alone)
    }

    /// Ends what [`try_alone`](Self::try_alone) began.
    pub(crate) fn let_others_in(&self) {
        if let Some(in_use) = &self.core.in_use {
            let _ = in_use.share();
        }
    }

    /// From now on, what these packs hold does not count as stored.
    pub(crate) fn avoid(&self, condemned: &BTreeMap<ObjectName, i64>) {
        self.index().avoid(condemned.keys().copied());
    }

    /// Whether packs were condemned or deleted since `history` was read.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub(crate) fn pruned_since(&self, history: &History) -> Result<bool, VaultError> {
        history.pruned_since(&self.core)
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    pub(crate) fn shared_core(&self) -> Arc<Core> {
        Arc::clone(&self.core)
    }

    /// The same keys over another store, which nothing on this machine remembers.
    pub(crate) fn over(&self, store: Box<dyn Store>) -> Result<Self, VaultError> {
        let keys = VaultKeys::new(self.id(), self.core.keys.keyring().clone())?;
        let index = ChunkIndex::open(None, keys.cache_key())?;
        Ok(Self {
            core: Arc::new(Core { in_use: store.in_use(layout::KEYS), store, keys }),
            index: Arc::new(Mutex::new(index)),
            openers: Arc::default(),
            config_hash: self.config_hash,
            state: None,
            unlocked_by: None,
            warnings: Vec::new(),
        })
    }

    /// Another copy of this vault, opened with this one's keys.
    ///
    /// # Errors
    /// What is in `store` is no copy of this vault, or no copy of its config can be read.
    pub fn copy_in(&self, store: Box<dyn Store>) -> Result<Self, VaultError> {
        let mut is_copy = false;
        for name in [layout::CONFIG, layout::CONFIG_COPY] {
            let bytes = match store.get(&ObjectPath::new(name)?, crate::format::limits::CONTROL_OBJECT) {
                Ok(bytes) => bytes,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            is_copy |= VaultConfig::decode(&bytes, Some(&|bytes| self.core.keys.config_mac(bytes)))
                .is_ok_and(|config| config.vault == self.id());
        }
        if is_copy { self.over(store) } else { Err(VaultError::NotACopy { place: store.describe() }) }
    }

    /// The id of a chunk that is stored now.
    ///
    /// # Errors
    /// Never for an unlocked vault.
    pub fn chunk_id(&self, class: Class, plain: &[u8]) -> Result<ChunkId, VaultError> {
        Ok(self.core.keys.current()?.chunk_id(class, plain))
    }

    /// The epoch under which objects are written now.
    ///
    /// # Errors
    /// Never for an unlocked vault.
    pub fn current_epoch(&self) -> Result<u32, VaultError> {
        Ok(self.core.keys.current()?.epoch())
    }

    /// Brings the index up to date with the vault; index objects that cannot be used are returned.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub fn load_index(&self) -> Result<Vec<SkippedIndex>, VaultError> {
        self.index().synchronise(&self.core)
    }

    /// Reads every index object from the vault, whatever the local cache knows: for checks.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub fn load_index_anew(&self) -> Result<Vec<SkippedIndex>, VaultError> {
        self.index().read_anew(&self.core)
    }

    /// After `error`, which a faulty cache may have caused: throws the cache away, if one was used. Whether to try again.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub(crate) fn distrust_cache(&self, error: &VaultError) -> Result<bool, VaultError> {
        Ok(error.may_be_the_cache() && self.index().distrust(&self.core)?)
    }

    /// Looks which packs are there; those that are lost are returned, and count as not stored from now on.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub fn look_for_packs(&self) -> Result<Vec<ObjectName>, VaultError> {
        self.index().look_for_packs(&self.core)
    }

    /// The last log object that this client remembers having written: its chain, its number there, its name.
    pub(crate) fn remembered_head(&self) -> Option<(WriterId, u64, ObjectName)> {
        log::remembered(self.state.as_deref(), &self.place())
    }

    /// What this machine remembers of the log at this place is forgotten: what is there now is all that is to be there.
    pub(crate) fn accept_log(&self) {
        if let Some(folder) = &self.state {
            memory::forget(folder, &self.place());
        }
    }

    /// Which packs this machine has read, and when.
    #[must_use]
    pub fn readings(&self) -> Readings {
        // By place: what the disk under one copy gives says nothing of another.
        let name = format!("readings-{}", memory::place_key(&self.place()));
        let file = self.state.as_ref().map(|folder| folder.join(name));
        Readings::load(file.as_deref(), self.core.keys.cache_key())
    }

    /// Hash of the vault config that was used.
    #[must_use]
    pub const fn config_hash(&self) -> ObjectName {
        self.config_hash
    }

    /// The index; holds a lock while in use.
    pub fn index(&self) -> MutexGuard<'_, ChunkIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader of chunks, one per thread.
    #[must_use]
    pub fn reader(&self) -> ChunkReader {
        ChunkReader::new(Arc::clone(&self.core), Arc::clone(&self.openers))
    }

    /// Begins a run that adds to the vault.
    #[must_use]
    pub fn begin_run(&self) -> RunWriter {
        RunWriter::new(Arc::clone(&self.core))
    }

    /// What the log says.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub fn history(&self) -> Result<History, VaultError> {
        let read = || History::read(&self.core, self.state.as_deref());
        let history = read()?;
        // Of entries that are appended while it is listed, a later one may show and an earlier one not.
        if history.breaks.is_empty() { Ok(history) } else { read() }
    }

    /// Appends to the log.
    ///
    /// # Errors
    /// The store fails.
    pub fn append_log(
        &self,
        history: &History,
        now: Timestamp,
        entries: Vec<LogEntry>,
    ) -> Result<ObjectName, VaultError> {
        log::append(&self.core, self.state.as_deref(), history, now.as_microsecond(), entries)
    }

    /// The snapshots that can be used.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub fn catalog(&self, history: &History) -> Result<Catalog, VaultError> {
        Catalog::read(&self.core, history)
    }

    /// A tally of what snapshots need. Forms in `avoided` packs count only where there is no other, or if `strict` not at
    /// all.
    pub(crate) fn reach(&self, avoided: HashSet<ObjectName>, strict: bool) -> Reach {
        Reach::new(self.reader(), avoided, strict)
    }

    /// Whether the index names, for all that a snapshot needs, a pack that was seen and is not condemned. Only nodes are
    /// read.
    ///
    /// # Errors
    /// The store or the cache fails.
    pub fn is_whole_without(
        &self,
        snapshot: &Snapshot,
        condemned: &BTreeMap<ObjectName, i64>,
    ) -> Result<bool, VaultError> {
        let look = || self.reach(condemned.keys().copied().collect(), true).add(&self.index(), snapshot);
        let found = match look() {
            Err(error) if self.distrust_cache(&error)? => look(),
            found => found,
        };
        match found {
            Ok(()) => Ok(true),
            Err(VaultError::MissingChunk(_) | VaultError::UnreadableChunk { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A stored snapshot as pages; `None` if it is not a database.
    #[must_use]
    pub fn image(&self, snapshot: &Snapshot) -> Option<StoredImage> {
        let geometry = snapshot.manifest.content.geometry()?;
        Some(StoredImage::new(geometry, snapshot.manifest.root, Arc::clone(&self.index), self.reader()))
    }

    /// The id a manifest has when it is stored now.
    ///
    /// # Errors
    /// Never for an unlocked vault.
    pub fn snapshot_id(&self, manifest: &[u8]) -> Result<SnapshotId, VaultError> {
        Ok(self.core.keys.current()?.snapshot_id(manifest))
    }

    /// A manifest as it is stored now, and its id, which nothing in `history` has: at the same instant, all that is alike has the
    /// same id, and what was forgotten would not come back. Then it is a microsecond later.
    pub(crate) fn encode_manifest(
        &self,
        history: &History,
        manifest: &mut Manifest,
    ) -> Result<(SnapshotId, Vec<u8>), VaultError> {
        loop {
            let bytes = manifest.encode()?;
            let id = self.snapshot_id(&bytes)?;
            if !history.knows(id) {
                return Ok((id, bytes));
            }
            manifest.created_at_us += 1;
        }
    }

    /// The slot that was used to unlock, if any.
    #[must_use]
    pub const fn unlocked_by(&self) -> Option<SlotId> {
        self.unlocked_by
    }

    /// All key slots with their notes.
    ///
    /// # Errors
    /// The store fails.
    pub fn slots(&self) -> Result<Vec<Slot>, VaultError> {
        slots::list(&self.core)
    }

    /// Adds a key slot.
    ///
    /// # Errors
    /// There are as many of its kind as a reader tries, or the store fails.
    pub fn add_slot(
        &self,
        unlocker: &Unlocker,
        argon2: Argon2Params,
        label: Option<String>,
        now: Timestamp,
    ) -> Result<KeySlot, VaultError> {
        let note = SlotNote { label, created_at_us: Some(now.as_microsecond()) };
        let kind = unlocker.kind();
        let count = slots::list(&self.core)?.iter().filter(|other| other.slot.kind == kind).count();
        if count >= crate::format::limits::SLOTS {
            return Err(VaultError::TooManySlots { count, kind: kind.name() });
        }
        let slot = unlocker.make_slot(self.id(), self.core.keys.keyring(), argon2, &note)?;
        slots::write(&*self.core.store, &slot)?;
        self.log_keyring(now)?;
        self.settle_keyring(now)?;
        Ok(slot)
    }

    /// Removes a key slot.
    ///
    /// # Errors
    /// It is the last, or the store fails.
    pub fn remove_slot(&self, slot: SlotId, now: Timestamp) -> Result<(), VaultError> {
        if slots::state(&self.core, Some(slot))?.is_empty() {
            return Err(VaultError::LastSlot { slot });
        }
        let said = self.log_keyring_without(Some(slot), now)?;
        // Said first, then looked at again: of two removals at once, each of which counts on the other's slot, one at
        // least sees what the other has said.
        let withdrawn = self.history()?.withdrawn_slots(said);
        let left = slots::state(&self.core, Some(slot))?;
        if left.iter().all(|(id, _)| withdrawn.contains(id)) {
            self.log_keyring(now)?;
            return Err(VaultError::LastSlot { slot });
        }
        slots::remove(&*self.core.store, slot)
            .map_err(|error| VaultError::HalfRemoved { slot, why: error.to_string() })?;
        self.settle_keyring(now)
    }

    /// Says in the log which slots there are, if others who changed keys at the same time have said something else.
    fn settle_keyring(&self, now: Timestamp) -> Result<(), VaultError> {
        for _ in 0..SETTLE_ATTEMPTS {
            let history = self.history()?;
            let Some(slots) = history.slots_to_settle(&slots::state(&self.core, None)?) else { break };
            self.append_keyring(&history, slots, now)?;
        }
        Ok(())
    }

    pub(crate) fn log_keyring(&self, now: Timestamp) -> Result<(), VaultError> {
        self.log_keyring_without(None, now).map(|_| ())
    }

    fn log_keyring_without(&self, removed: Option<SlotId>, now: Timestamp) -> Result<ObjectName, VaultError> {
        let history = self.history()?;
        let slots = slots::state(&self.core, removed)?;
        self.append_keyring(&history, slots, now)
    }

    fn append_keyring(
        &self,
        history: &History,
        slots: Vec<(SlotId, ObjectName)>,
        now: Timestamp,
    ) -> Result<ObjectName, VaultError> {
        let generation = history.keyring.as_ref().map_or(0, |state| state.generation).saturating_add(1);
        let (epoch, _) = self.core.keys.keyring().current()?;
        let state = crate::format::log::KeyringState { generation, config: self.config_hash, slots, epoch };
        self.append_log(history, now, vec![LogEntry::Keyring(state)])
    }
}

/// Whether nothing is there but what an initialisation that was cut off leaves behind. Objects of a vault whose config is
/// lost are no such remainder: another vault among them would make them harder to save.
///
/// # Errors
/// There is a vault, or something else.
pub fn refuse_occupied(store: &dyn Store) -> Result<(), VaultError> {
    let place = || store.describe();
    let mut refused = None;
    store.list("", &mut |meta| {
        refused = match Place::of(&meta.path) {
            Place::Config => Some(VaultError::Exists { place: place() }),
            Place::Slot(_) => return ControlFlow::Continue(()),
            Place::Other if meta.path.as_str() == layout::GITIGNORE => return ControlFlow::Continue(()),
            _ => refused.take().or_else(|| Some(VaultError::NotEmpty { place: place() })),
        };
        if matches!(refused, Some(VaultError::Exists { .. })) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    refused.map_or(Ok(()), Err)
}
