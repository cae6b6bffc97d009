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
pub mod log;
pub mod reader;
pub mod slots;
pub mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

pub use self::catalog::{Catalog, Snapshot};
pub(crate) use self::core::{Core, read_named};
pub use self::error::VaultError;
pub use self::image::StoredImage;
pub use self::slots::{Slot, SlotSource};

use self::index::{ChunkIndex, SkippedIndex};
use self::log::History;
use self::reader::{ChunkReader, Openers};
use self::writer::RunWriter;
use crate::chunk::Class;
use crate::crypto::CryptoError;
use crate::crypto::keys::{Keyring, VaultKeys};
use crate::crypto::unlock::{SlotNote, Unlocker};
use crate::format::keyslot::{Argon2Params, KeySlot};
use crate::format::limits;
use crate::format::log::LogEntry;
use crate::format::vault_config::VaultConfig;
use crate::ids::{ChunkId, ObjectName, SlotId, SnapshotId, VaultId};
use crate::store::{ObjectPath, Store, StoreError};

/// Folders on this machine that a vault's client may use. Both can be lost: the first costs time, the
/// second begins a new chain in the log.
#[derive(Debug, Clone, Default)]
pub struct LocalFolders {
    /// For the index cache; a folder per vault is made in it.
    pub cache: Option<PathBuf>,
    /// For what a client remembers; a folder per vault is made in it.
    pub state: Option<PathBuf>,
}

/// A vault that was found and is not unlocked yet.
#[derive(Debug)]
pub struct LockedVault {
    store: Box<dyn Store>,
    config_bytes: Vec<u8>,
    config: VaultConfig,
    slots: Vec<SlotSource>,
    warnings: Vec<String>,
}

impl LockedVault {
    /// Finds the vault in `store`.
    ///
    /// # Errors
    /// There is none, both copies of its config are damaged, or a newer version wrote it.
    pub fn find(store: Box<dyn Store>) -> Result<Self, VaultError> {
        let mut warnings = Vec::new();
        let (config_bytes, config) = read_config(&*store, &mut warnings)?;
        let slots = slots::read_all(&*store, config.vault, &mut warnings)?;
        Ok(Self { store, config_bytes, config, slots, warnings })
    }

    /// Identity of the vault.
    #[must_use]
    pub const fn id(&self) -> VaultId {
        self.config.vault
    }

    /// What was noticed so far: damaged copies, and slots of which no copy is whole.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The key slots that can be read.
    #[must_use]
    pub fn slots(&self) -> &[SlotSource] {
        &self.slots
    }

    /// Unlocks the vault.
    ///
    /// # Errors
    /// No slot opens with this, or the vault's config was changed by somebody without the key.
    pub fn unlock(self, unlocker: &Unlocker, folders: &LocalFolders) -> Result<Vault, VaultError> {
        let mut opened = None;
        for source in &self.slots {
            let path =
                || layout::slot_path(source.slot.id).map_or_else(|e| e.to_string(), |path| path.to_string());
            match unlocker.open(&source.slot) {
                Ok(Some(keyring)) => {
                    opened = Some((source.slot.id, keyring));
                    break;
                }
                Ok(None) => {}
                Err(error) => return Err(VaultError::of_object(path(), error)),
            }
        }
        let Some((slot, keyring)) = opened else {
            let given = unlocker.kind().name();
            return Err(VaultError::WrongKey { place: self.store.describe(), given });
        };
        let keys = VaultKeys::new(self.config.vault, keyring)?;
        VaultConfig::decode(&self.config_bytes, Some(&|bytes| keys.config_mac(bytes)))
            .map_err(|error| VaultError::of_object(layout::CONFIG, error.into()))?;
        let mut vault = Vault::assemble(self.store, keys, &self.config_bytes, folders)?;
        vault.warnings = self.warnings;
        vault.unlocked_by = Some(slot);
        Ok(vault)
    }
}

fn read_config(store: &dyn Store, warnings: &mut Vec<String>) -> Result<(Vec<u8>, VaultConfig), VaultError> {
    let mut first_error = None;
    for name in [layout::CONFIG, layout::CONFIG_COPY] {
        let read = store.get(&ObjectPath::new(name)?, limits::CONTROL_OBJECT);
        let error = match read {
            Ok(bytes) => match VaultConfig::decode(&bytes, None) {
                Ok(config) => {
                    if let Some(error) = &first_error {
                        warnings.push(format!("{error}; its copy {name} is used"));
                    }
                    return Ok((bytes, config));
                }
                Err(error) => VaultError::of_object(name, error.into()),
            },
            Err(error) => error.into(),
        };
        // A newer format is the whole answer: the copy has it too.
        if matches!(error, VaultError::Newer { .. }) {
            return Err(error);
        }
        first_error = first_error.or(Some(error));
    }
    Err(match first_error {
        None | Some(VaultError::Store(StoreError::NotFound { .. })) => {
            VaultError::NotAVault { place: store.describe() }
        }
        Some(error) => error,
    })
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

    /// Removes a key slot. The caller sees to it that another remains.
    ///
    /// # Errors
    /// The store fails.
    pub fn remove_slot(&self, slot: SlotId, now: Timestamp) -> Result<(), VaultError> {
        self.log_keyring_without(Some(slot), now)?;
        slots::remove(&*self.core.store, slot)
    }

    fn log_keyring(&self, now: Timestamp) -> Result<(), VaultError> {
        self.log_keyring_without(None, now)
    }

    fn log_keyring_without(&self, removed: Option<SlotId>, now: Timestamp) -> Result<(), VaultError> {
        let history = self.history()?;
        let generation = history.keyring.as_ref().map_or(0, |state| state.generation) + 1;
        let slots = slots::state(&self.core, removed)?;
        let (epoch, _) = self.core.keys.keyring().current()?;
        let state = crate::format::log::KeyringState { generation, config: self.config_hash, slots, epoch };
        self.append_log(&history, now, vec![LogEntry::Keyring(state)])?;
        Ok(())
    }
}

fn refuse_occupied(store: &dyn Store) -> Result<(), VaultError> {
    for name in [layout::CONFIG, layout::CONFIG_COPY] {
        match store.size(&ObjectPath::new(name)?) {
            Ok(_) => return Err(VaultError::Exists { place: store.describe() }),
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
