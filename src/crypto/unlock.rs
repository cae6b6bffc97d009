//! The one joint at which a secret becomes the keyring (section 4.2), and back.

use argon2::{Algorithm, Argon2, Params, Version};

use super::CryptoError;
use super::keys::{Keyring, commits};
use super::seal::{open_detached, seal_detached};
use super::secret::{Passphrase, Secret32};
use crate::format::fields::{FieldWriter, Fields};
use crate::format::keyslot::{Argon2Params, KeySlot, SlotKind};
use crate::format::{FormatError, limits, within};
use crate::ids::{SlotId, VaultId};

/// What a user has to unlock a vault with.
#[derive(Debug, Clone)]
pub enum Unlocker {
    /// A passphrase.
    Passphrase(Passphrase),
    /// The content of a key file.
    KeyFile(Secret32),
    /// A recovery key.
    RecoveryKey(Secret32),
}

impl Unlocker {
    /// The kind of slot this may open.
    #[must_use]
    pub const fn kind(&self) -> SlotKind {
        match self {
            Self::Passphrase(_) => SlotKind::Passphrase,
            Self::KeyFile(_) => SlotKind::KeyFile,
            Self::RecoveryKey(_) => SlotKind::RecoveryKey,
        }
    }

    /// Opens `slot`; `None` if this is not its secret.
    ///
    /// # Errors
    /// The secret is right and the slot is damaged all the same, or memory for Argon2id is lacking.
    pub fn open(&self, slot: &KeySlot) -> Result<Option<Keyring>, CryptoError> {
        if slot.kind != self.kind() {
            return Ok(None);
        }
        let secret = self.secret(&slot.salt, slot.argon2)?;
        let material = Material { secret: &secret, slot };
        if !commits(&slot.commitment, &material.parts()) {
            return Ok(None);
        }
        let plain = open_detached(&material.wrap_key(), &slot.associated_data()?, &slot.sealed_keyring)?;
        Ok(Some(Keyring::decode(&plain)?))
    }

    /// Makes a new slot that holds `keyring`.
    ///
    /// # Errors
    /// No random numbers, or no memory for Argon2id.
    pub fn make_slot(
        &self,
        vault: VaultId,
        keyring: &Keyring,
        argon2: Argon2Params,
        note: &SlotNote,
    ) -> Result<KeySlot, CryptoError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)?;
        self.make_slot_with(vault, keyring, argon2, note, SlotId::random()?, salt)
    }

    /// As [`make_slot`](Self::make_slot) with a given id and salt, for reproducible test vectors. A salt must never be
    /// used twice.
    #[doc(hidden)]
    pub fn make_slot_with(
        &self,
        vault: VaultId,
        keyring: &Keyring,
        argon2: Argon2Params,
        note: &SlotNote,
        id: SlotId,
        salt: [u8; 32],
    ) -> Result<KeySlot, CryptoError> {
        let argon2 = (self.kind() == SlotKind::Passphrase).then_some(argon2);
        let mut slot = KeySlot {
            vault,
            header: KeySlot::new_header(vault),
            id,
            kind: self.kind(),
            salt,
            argon2,
            sealed_keyring: Vec::new(),
            commitment: [0; 32],
            note: None,
        };
        let secret = self.secret(&salt, argon2)?;
        let material = Material { secret: &secret, slot: &slot };
        let commitment = *Secret32::derive("pagevault v1 slot commitment", &material.parts()).expose();
        let sealed = seal_detached(&material.wrap_key(), &slot.associated_data()?, &keyring.encode()?)?;
        let (epoch, master) = keyring.current()?;
        slot.commitment = commitment;
        slot.sealed_keyring = sealed;
        let note_key = note_key(master, &slot);
        slot.note = Some((epoch, seal_detached(&note_key, &slot.all_but_the_note()?, &note.encode()?)?));
        Ok(slot)
    }

    fn secret(&self, salt: &[u8; 32], argon2: Option<Argon2Params>) -> Result<Secret32, CryptoError> {
        match (self, argon2) {
            (Self::Passphrase(passphrase), Some(params)) => stretch(passphrase, salt, params),
            (Self::Passphrase(_), None) => Err(FormatError::Invalid("key slot").into()),
            (Self::KeyFile(secret) | Self::RecoveryKey(secret), _) => Ok(secret.clone()),
        }
    }
}

fn stretch(passphrase: &Passphrase, salt: &[u8], params: Argon2Params) -> Result<Secret32, CryptoError> {
    let (memory_kib, passes, lanes) = params.values();
    let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(CryptoError::Argon2)?;
    let mut key = zeroize::Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose(), salt, &mut *key)
        .map_err(CryptoError::Argon2)?;
    Ok(Secret32::new(*key))
}

struct Material<'a> {
    secret: &'a Secret32,
    slot: &'a KeySlot,
}

impl Material<'_> {
    fn parts(&self) -> [&[u8]; 5] {
        let kind: &[u8] = match self.slot.kind {
            SlotKind::Passphrase => &[1],
            SlotKind::KeyFile => &[2],
            SlotKind::RecoveryKey => &[3],
        };
        [self.secret.expose(), &self.slot.vault.0, &self.slot.id.0, kind, &self.slot.salt]
    }

    fn wrap_key(&self) -> Secret32 {
        Secret32::derive("pagevault v1 slot wrap", &self.parts())
    }
}

fn note_key(master: &Secret32, slot: &KeySlot) -> Secret32 {
    Secret32::derive("pagevault v1 slot note", &[master.expose(), &slot.vault.0, &slot.id.0, &slot.salt])
}

/// What `key list` shows of a slot: readable by whoever unlocks the vault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotNote {
    /// The user's word for the slot.
    pub label: Option<String>,
    /// Microseconds since 1970 UTC.
    pub created_at_us: Option<i64>,
}

impl SlotNote {
    fn encode(&self) -> Result<Vec<u8>, FormatError> {
        within("label", self.label.as_ref().map_or(0, String::len), limits::STRING)?;
        let mut writer = FieldWriter::new("key slot note");
        writer.put_some(1, self.label.as_ref())?.put_some(3, self.created_at_us.as_ref())?;
        writer.finish()
    }

    /// Opens the note of `slot`; an empty one if it has none.
    ///
    /// # Errors
    /// The note does not open.
    pub fn open(slot: &KeySlot, keyring: &Keyring) -> Result<Self, CryptoError> {
        let Some((epoch, sealed)) = &slot.note else { return Ok(Self::default()) };
        let plain =
            open_detached(&note_key(keyring.master_key(*epoch)?, slot), &slot.all_but_the_note()?, sealed)?;
        let mut fields = Fields::parse("key slot note", &plain)?;
        let note = Self { label: fields.take(1)?, created_at_us: fields.take(3)? };
        fields.finish()?;
        Ok(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap() -> Argon2Params {
        Argon2Params::new(8192, 1, 1).unwrap()
    }

    fn unlockers() -> [Unlocker; 3] {
        [
            Unlocker::Passphrase(Passphrase::new(b"correct horse".to_vec())),
            Unlocker::KeyFile(Secret32::new([4; 32])),
            Unlocker::RecoveryKey(Secret32::new([4; 32])),
        ]
    }

    #[test]
    fn each_unlocker_opens_its_own_slot_only() {
        let keyring = Keyring::generate().unwrap();
        let note = SlotNote { label: Some("laptop".to_owned()), created_at_us: Some(3) };
        for maker in unlockers() {
            let slot = maker.make_slot(VaultId([1; 16]), &keyring, cheap(), &note).unwrap();
            let slot = KeySlot::decode(&slot.encode().unwrap()).unwrap();
            for (number, other) in unlockers().into_iter().enumerate() {
                let opened = other.open(&slot).unwrap();
                assert_eq!(opened.is_some(), other.kind() == maker.kind(), "{number}");
                if let Some(opened) = opened {
                    assert_eq!(
                        opened.master_key(1).unwrap().expose(),
                        keyring.master_key(1).unwrap().expose()
                    );
                }
            }
            let wrong = Unlocker::Passphrase(Passphrase::new(b"correct horse\n".to_vec()));
            assert!(wrong.open(&slot).unwrap().is_none());
            assert_eq!(SlotNote::open(&slot, &keyring).unwrap(), note);
        }
    }

    #[test]
    fn a_slot_moved_to_another_vault_or_changed_does_not_open() {
        let keyring = Keyring::generate().unwrap();
        let key = Unlocker::KeyFile(Secret32::new([4; 32]));
        let slot = key.make_slot(VaultId([1; 16]), &keyring, cheap(), &SlotNote::default()).unwrap();
        let moved = KeySlot { vault: VaultId([2; 16]), ..slot.clone() };
        assert!(key.open(&moved).unwrap().is_none());
        let mut changed = slot;
        changed.sealed_keyring[3] ^= 1;
        assert!(key.open(&changed).is_err());
        assert!(SlotNote::open(&changed, &keyring).is_err(), "a forged slot passes for a genuine one");
    }
}
