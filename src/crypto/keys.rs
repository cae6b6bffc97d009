//! From the keyring to the keys of everything (section 5).

use std::collections::BTreeMap;

use super::secret::Secret32;
use super::{CryptoError, equal};
use crate::chunk::Class;
use crate::format::FormatError;
use crate::format::envelope::ObjectKind;
use crate::format::fields::{FieldWriter, Fields};
use crate::ids::{ChunkId, SnapshotId, VaultId};

/// The master keys of a vault, one per epoch.
#[derive(Debug, Clone)]
pub struct Keyring {
    epochs: BTreeMap<u32, Secret32>,
    current: u32,
}

impl Keyring {
    /// A keyring with one fresh master key, of epoch 1.
    ///
    /// # Errors
    /// The operating system has no random numbers to give.
    pub fn generate() -> Result<Self, CryptoError> {
        Ok(Self { epochs: BTreeMap::from([(1, Secret32::random()?)]), current: 1 })
    }

    /// A keyring of one known master key; for test vectors.
    #[must_use]
    pub fn from_master_key(key: Secret32) -> Self {
        Self { epochs: BTreeMap::from([(1, key)]), current: 1 }
    }

    /// The encoded field list: a secret.
    ///
    /// # Errors
    /// Never for a keyring that was generated or decoded.
    pub fn encode(&self) -> Result<zeroize::Zeroizing<Vec<u8>>, FormatError> {
        let epochs: zeroize::Zeroizing<Vec<(u32, [u8; 32])>> =
            zeroize::Zeroizing::new(self.epochs.iter().map(|(epoch, key)| (*epoch, *key.expose())).collect());
        let mut writer = FieldWriter::new("keyring");
        writer.put::<Vec<_>>(2, &epochs)?.put(4, &self.current)?;
        writer.finish().map(zeroize::Zeroizing::new)
    }

    /// Decodes a field list.
    ///
    /// # Errors
    /// Anything that section 4.2 does not allow.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Fields::parse("keyring", bytes)?;
        let epochs: zeroize::Zeroizing<Vec<(u32, [u8; 32])>> = zeroize::Zeroizing::new(fields.require(2)?);
        let current = fields.require(4)?;
        fields.finish()?;
        let ascending = epochs.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let epochs: BTreeMap<_, _> =
            epochs.iter().map(|(epoch, key)| (*epoch, Secret32::new(*key))).collect();
        if !ascending || !epochs.contains_key(&1) || epochs.contains_key(&0) || !epochs.contains_key(&current)
        {
            return Err(FormatError::Invalid("keyring"));
        }
        Ok(Self { epochs, current })
    }

    /// The master key of the current epoch, and which that is.
    ///
    /// # Errors
    /// Never for a keyring that was generated or decoded.
    pub fn current(&self) -> Result<(u32, &Secret32), CryptoError> {
        self.master_key(self.current).map(|key| (self.current, key))
    }

    /// The master key of `epoch`.
    ///
    /// # Errors
    /// The keyring has none.
    pub fn master_key(&self, epoch: u32) -> Result<&Secret32, CryptoError> {
        self.epochs.get(&epoch).ok_or(CryptoError::UnknownEpoch(epoch))
    }
}

/// Keys of one sealed object.
#[derive(Debug)]
pub(super) struct ObjectKeys {
    pub(super) record: Secret32,
    pub(super) body: Secret32,
}

/// The keys of one epoch.
#[derive(Debug)]
pub struct EpochKeys {
    epoch: u32,
    page_id: Secret32,
    node_ids: Vec<Secret32>,
    manifest_id: Secret32,
    seal: BTreeMap<u8, Secret32>,
}

impl EpochKeys {
    fn derive(vault: VaultId, epoch: u32, master: &Secret32) -> Self {
        let subkey = |context: &str, code: u8| {
            Secret32::derive(context, &[master.expose(), &vault.0, &epoch.to_le_bytes(), &[code]])
        };
        let id = |class: Class| subkey("pagevault v1 chunk id", class.code());
        let sealed_kinds = ObjectKind::ALL.into_iter().filter(|kind| kind.is_sealed());
        Self {
            epoch,
            page_id: id(Class::Page),
            node_ids: (1..=Class::MAX_LEVEL).map(|level| id(Class::Node(level))).collect(),
            manifest_id: id(Class::Manifest),
            seal: sealed_kinds.map(|kind| (kind.code(), subkey("pagevault v1 seal", kind.code()))).collect(),
        }
    }

    /// Which epoch these are the keys of.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The id of a chunk's plaintext (section 5.2).
    #[must_use]
    pub fn chunk_id(&self, class: Class, plain: &[u8]) -> ChunkId {
        let key = match class {
            Class::Page => &self.page_id,
            Class::Manifest => &self.manifest_id,
            Class::Node(level) => {
                let last = self.node_ids.len() - 1;
                &self.node_ids[usize::from(level).saturating_sub(1).min(last)]
            }
        };
        let hash = blake3::keyed_hash(key.expose(), plain);
        let mut id = [0; ChunkId::LEN];
        id.copy_from_slice(&hash.as_bytes()[..ChunkId::LEN]);
        ChunkId(id)
    }

    /// The id of a snapshot, from its encoded manifest.
    #[must_use]
    pub fn snapshot_id(&self, manifest: &[u8]) -> SnapshotId {
        SnapshotId(self.chunk_id(Class::Manifest, manifest).0)
    }

    pub(super) fn object_keys(&self, kind: ObjectKind, header: &[u8]) -> Result<ObjectKeys, CryptoError> {
        let seal = self.seal.get(&kind.code()).ok_or(CryptoError::NotAuthentic)?;
        let mut hasher = blake3::Hasher::new_keyed(seal.expose());
        hasher.update(header);
        let mut keys = zeroize::Zeroizing::new([0; 64]);
        hasher.finalize_xof().fill(&mut *keys);
        let (mut record, mut body) = ([0; 32], [0; 32]);
        record.copy_from_slice(&keys[..32]);
        body.copy_from_slice(&keys[32..]);
        Ok(ObjectKeys { record: Secret32::new(record), body: Secret32::new(body) })
    }
}

/// All keys of an unlocked vault.
#[derive(Debug)]
pub struct VaultKeys {
    vault: VaultId,
    keyring: Keyring,
    epochs: BTreeMap<u32, EpochKeys>,
    config: Secret32,
}

impl VaultKeys {
    /// Derives the keys of `vault` from its keyring.
    ///
    /// # Errors
    /// The keyring has no epoch 1.
    pub fn new(vault: VaultId, keyring: Keyring) -> Result<Self, CryptoError> {
        let config = Secret32::derive("pagevault v1 config", &[keyring.master_key(1)?.expose(), &vault.0]);
        let epochs = keyring
            .epochs
            .iter()
            .map(|(epoch, key)| (*epoch, EpochKeys::derive(vault, *epoch, key)))
            .collect();
        Ok(Self { vault, keyring, epochs, config })
    }

    /// The vault these are the keys of.
    #[must_use]
    pub const fn vault(&self) -> VaultId {
        self.vault
    }

    /// The keyring, for making another slot.
    #[must_use]
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Keys of the current epoch: what is written now is sealed under them.
    ///
    /// # Errors
    /// Never for a keyring that was generated or decoded.
    pub fn current(&self) -> Result<&EpochKeys, CryptoError> {
        self.epoch(self.keyring.current)
    }

    /// Keys of `epoch`.
    ///
    /// # Errors
    /// The keyring has no such epoch.
    pub fn epoch(&self, epoch: u32) -> Result<&EpochKeys, CryptoError> {
        self.epochs.get(&epoch).ok_or(CryptoError::UnknownEpoch(epoch))
    }

    /// The keyed checksum of a vault config.
    #[must_use]
    pub fn config_mac(&self, bytes: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(self.config.expose(), bytes).as_bytes()
    }

    /// Whether `id` is that of `plain`.
    #[must_use]
    pub fn is_chunk(&self, epoch: u32, class: Class, id: ChunkId, plain: &[u8]) -> bool {
        self.epoch(epoch).is_ok_and(|keys| keys.chunk_id(class, plain) == id)
    }

    /// A key for checksums of local caches: bit rot there must not be taken for the vault's word.
    #[must_use]
    pub fn cache_key(&self) -> Secret32 {
        Secret32::derive("pagevault v1 local cache", &[self.config.expose()])
    }
}

/// Whether `secret` belongs to `commitment`.
pub(super) fn commits(commitment: &[u8; 32], material: &[&[u8]]) -> bool {
    equal(commitment, Secret32::derive("pagevault v1 slot commitment", material).expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_vault_and_epoch_has_its_own_ids() {
        let keyring = Keyring::from_master_key(Secret32::new([1; 32]));
        let ids: Vec<ChunkId> = [1, 2]
            .into_iter()
            .flat_map(|vault| {
                let keys = VaultKeys::new(VaultId([vault; 16]), keyring.clone()).unwrap();
                let classes = (1..=8).map(Class::Node).chain([Class::Page, Class::Manifest]);
                classes.map(move |class| keys.current().unwrap().chunk_id(class, b"same")).collect::<Vec<_>>()
            })
            .collect();
        let different: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(different.len(), 20);
    }

    #[test]
    fn a_keyring_goes_both_ways() {
        let keyring = Keyring::generate().unwrap();
        let decoded = Keyring::decode(&keyring.encode().unwrap()).unwrap();
        assert_eq!(decoded.master_key(1).unwrap().expose(), keyring.master_key(1).unwrap().expose());
        assert!(Keyring::decode(&[0]).is_err());
    }
}
