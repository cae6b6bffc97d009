//! A vault: a store and a key together. This layer turns dumb objects into chunks, snapshots and stored
//! images, and knows the order in which things are written.
//!
//! It knows nothing of live databases, of what a snapshot is for, or of terminals. Invariants: what is
//! visible is complete; a damaged object is reported by name and never keeps the others from being used.

pub mod catalog;
mod core;
pub mod error;
pub mod image;
pub mod index;
pub mod layout;
mod locked;
pub mod log;
pub mod reader;
pub mod slots;
pub mod writer;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

pub use self::catalog::{Catalog, Snapshot};
pub(crate) use self::core::{Core, read_named};
pub use self::error::VaultError;
pub use self::image::StoredImage;
pub use self::locked::LockedVault;
pub use self::slots::{Slot, SlotSource};

use self::index::{ChunkIndex, SkippedIndex};
use self::layout::Place;
use self::log::History;
use self::reader::{ChunkReader, Openers};
use self::writer::RunWriter;
use crate::chunk::Class;
use crate::crypto::CryptoError;
use crate::crypto::keys::{Keyring, VaultKeys};
use crate::crypto::unlock::{SlotNote, Unlocker};
use crate::format::keyslot::{Argon2Params, KeySlot};
use crate::format::log::LogEntry;
use crate::format::vault_config::VaultConfig;
use crate::ids::{ChunkId, ObjectName, SlotId, SnapshotId, VaultId, WriterId};
use crate::store::{ObjectPath, Store};

/// Folders on this machine that a vault's client may use. Both can be lost: the first costs time, the
/// second begins a new chain in the log.
#[derive(Debug, Clone, Default)]
pub struct LocalFolders {
    /// For the index cache; a folder per vault is made in it.
    pub cache: Option<PathBuf>,
    /// For what a client remembers; a folder per vault is made in it.
    pub state: Option<PathBuf>,
}

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
            core: Arc::new(Core { store, keys }),
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

    pub(crate) fn core(&self) -> &Core {
        &self.core
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

    /// The last log object that this client remembers having written: its chain and its number there.
    #[must_use]
    pub fn remembered_log(&self) -> Option<(WriterId, u64)> {
        log::remembered(self.state.as_deref())
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
        History::read(&self.core)
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
    /// The store fails.
    pub fn add_slot(
        &self,
        unlocker: &Unlocker,
        argon2: Argon2Params,
        label: Option<String>,
        now: Timestamp,
    ) -> Result<KeySlot, VaultError> {
        let note = SlotNote { label, created_at_us: Some(now.as_microsecond()) };
        let slot = unlocker.make_slot(self.id(), self.core.keys.keyring(), argon2, &note)?;
        slots::write(&*self.core.store, &slot)?;
        self.log_keyring(now)?;
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
        self.log_keyring_without(Some(slot), now)?;
        slots::remove(&*self.core.store, slot)
    }

    fn log_keyring(&self, now: Timestamp) -> Result<(), VaultError> {
        self.log_keyring_without(None, now)
    }

    fn log_keyring_without(&self, removed: Option<SlotId>, now: Timestamp) -> Result<(), VaultError> {
        let history = self.history()?;
        let generation = history.keyring.as_ref().map_or(0, |state| state.generation).saturating_add(1);
        let slots = slots::state(&self.core, removed)?;
        let (epoch, _) = self.core.keys.keyring().current()?;
        let state = crate::format::log::KeyringState { generation, config: self.config_hash, slots, epoch };
        self.append_log(&history, now, vec![LogEntry::Keyring(state)])?;
        Ok(())
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
