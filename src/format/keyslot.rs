//! Key slots (section 4.2): the bytes only; `crypto::unlock` opens and seals them.

use super::envelope::{Header, ObjectKind, Parts, unsealed_object};
use super::fields::{FieldWriter, Fields};
use super::{FormatError, limits, within};
use crate::ids::{SlotId, VaultId};

/// What opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotKind {
    /// A passphrase, stretched by Argon2id.
    Passphrase,
    /// The 256 random bits of a key file.
    KeyFile,
    /// The 256 random bits of a recovery key.
    RecoveryKey,
}

impl SlotKind {
    /// The byte that stands for the kind.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Passphrase => 1,
            Self::KeyFile => 2,
            Self::RecoveryKey => 3,
        }
    }

    fn from_code(code: u8) -> Result<Self, FormatError> {
        match code {
            1 => Ok(Self::Passphrase),
            2 => Ok(Self::KeyFile),
            3 => Ok(Self::RecoveryKey),
            _ => Err(FormatError::Newer { what: "key slot kind", number: code.into() }),
        }
    }

    /// The word for people and scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::KeyFile => "key-file",
            Self::RecoveryKey => "recovery-key",
        }
    }
}

/// Cost of Argon2id (RFC 9106), within bounds that keep a hostile slot from asking for a terabyte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Params {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Argon2Params {
    const MEMORY_KIB: std::ops::RangeInclusive<u32> = 8 * 1024..=1024 * 1024;
    const MAX_WORK_KIB: u64 = 8 * 1024 * 1024;

    /// Accepts values within the bounds of section 4.2.
    ///
    /// # Errors
    /// They are outside.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, FormatError> {
        let work = u64::from(memory_kib) * u64::from(passes);
        if !Self::MEMORY_KIB.contains(&memory_kib)
            || !(1..=32).contains(&passes)
            || !(1..=16).contains(&lanes)
            || work > Self::MAX_WORK_KIB
        {
            return Err(FormatError::Limit {
                what: "Argon2id work in KiB",
                found: work,
                limit: Self::MAX_WORK_KIB,
            });
        }
        Ok(Self { memory_kib, passes, lanes })
    }

    /// What new slots use: 64 MiB, 3 passes, a lane per core up to 4.
    #[must_use]
    pub fn recommended(cores: usize) -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: u32::try_from(cores.clamp(1, 4)).unwrap_or(1) }
    }

    /// What trying a passphrase costs: KiB of memory times passes.
    #[must_use]
    pub const fn work(self) -> u64 {
        self.memory_kib as u64 * self.passes as u64
    }

    /// Memory in KiB, passes, lanes.
    #[must_use]
    pub const fn values(self) -> (u32, u32, u32) {
        (self.memory_kib, self.passes, self.lanes)
    }
}

/// A key slot, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySlot {
    /// The vault it opens.
    pub vault: VaultId,
    /// Its header as it stands in the object, with whatever a newer version put there.
    pub header: Vec<u8>,
    /// Its identity and file name.
    pub id: SlotId,
    /// What opens it.
    pub kind: SlotKind,
    /// Random.
    pub salt: [u8; 32],
    /// For passphrases only.
    pub argon2: Option<Argon2Params>,
    /// The keyring, sealed.
    pub sealed_keyring: Vec<u8>,
    /// Proof that a secret is this slot's.
    pub commitment: [u8; 32],
    /// Label and time of creation, preceded by the epoch under which they are sealed.
    pub note: Option<(u32, Vec<u8>)>,
}

impl KeySlot {
    /// The header of a new slot of `vault`.
    #[must_use]
    pub fn new_header(vault: VaultId) -> Vec<u8> {
        Header::unsealed(ObjectKind::KeySlot, vault).encode().to_vec()
    }

    /// What the seal of the keyring authenticates: the header and fields 2, 4, 6 and 8.
    ///
    /// # Errors
    /// Never for a valid slot.
    pub fn associated_data(&self) -> Result<Vec<u8>, FormatError> {
        let mut bytes = self.header.clone();
        bytes.extend(self.public_fields()?.finish()?);
        Ok(bytes)
    }

    /// What the seal of the note authenticates: all of the slot but the note itself.
    ///
    /// # Errors
    /// Never for a valid slot.
    pub fn all_but_the_note(&self) -> Result<Vec<u8>, FormatError> {
        let mut bytes = self.header.clone();
        bytes.extend(self.fields_but_the_note()?.finish()?);
        Ok(bytes)
    }

    /// The object's bytes.
    ///
    /// # Errors
    /// A part exceeds its limit.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        self.validate()?;
        let mut writer = self.fields_but_the_note()?;
        writer.put_some(3, self.note.as_ref())?;
        unsealed_object(&self.header, &writer.finish()?, |_| None)
    }

    /// Decodes an object and verifies its checksum.
    ///
    /// # Errors
    /// Anything that section 4.2 does not allow.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let parts = Parts::split(bytes, Some(ObjectKind::KeySlot))?;
        let mut fields = Fields::parse("key slot", parts.body)?;
        let argon2 = match fields.take::<(u32, u32, u32)>(8)? {
            Some((memory_kib, passes, lanes)) => Some(Argon2Params::new(memory_kib, passes, lanes)?),
            None => None,
        };
        let slot = Self {
            vault: parts.header.vault,
            header: parts.header_bytes.to_vec(),
            kind: SlotKind::from_code(fields.require(2)?)?,
            id: SlotId(fields.require(4)?),
            salt: fields.require(6)?,
            argon2,
            sealed_keyring: fields.require(10)?,
            commitment: fields.require(12)?,
            note: fields.take(3)?,
        };
        fields.finish()?;
        slot.validate()?;
        Ok(slot)
    }

    fn fields_but_the_note(&self) -> Result<FieldWriter, FormatError> {
        let mut writer = self.public_fields()?;
        writer.put(10, &self.sealed_keyring)?.put(12, &self.commitment)?;
        Ok(writer)
    }

    fn public_fields(&self) -> Result<FieldWriter, FormatError> {
        let mut writer = FieldWriter::new("key slot");
        writer.put(2, &self.kind.code())?.put(4, &self.id.0)?.put(6, &self.salt)?;
        writer.put_some(8, self.argon2.map(Argon2Params::values).as_ref())?;
        Ok(writer)
    }

    fn validate(&self) -> Result<(), FormatError> {
        if self.argon2.is_some() != (self.kind == SlotKind::Passphrase) {
            return Err(FormatError::Invalid("Argon2id parameters of a key slot"));
        }
        within("sealed keyring", self.sealed_keyring.len(), limits::KEYRING)?;
        within("key slot note", self.note.as_ref().map_or(0, |(_, note)| note.len()), limits::NOTE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_slot() -> impl Strategy<Value = KeySlot> {
        let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
        let argon2 = (8192u32..=65_536, 1u32..=8, 1u32..=16);
        (
            0u8..3,
            any::<[u8; 8]>(),
            any::<[u8; 32]>(),
            argon2,
            bytes(80),
            proptest::option::of((any::<u32>(), bytes(80))),
        )
            .prop_map(|(kind, id, salt, (memory, passes, lanes), sealed_keyring, note)| {
                let kind =
                    [SlotKind::Passphrase, SlotKind::KeyFile, SlotKind::RecoveryKey][usize::from(kind)];
                let argon2 =
                    (kind == SlotKind::Passphrase).then(|| Argon2Params::new(memory, passes, lanes).unwrap());
                KeySlot { kind, id: SlotId(id), salt, argon2, sealed_keyring, note, ..sample() }
            })
    }

    proptest! {
        #[test]
        fn every_slot_goes_both_ways(slot in any_slot()) {
            prop_assert_eq!(KeySlot::decode(&slot.encode().unwrap()).unwrap(), slot);
        }

        #[test]
        fn changed_bytes_are_refused(slot in any_slot(), position: prop::sample::Index, change in 1u8..) {
            let mut bytes = slot.encode().unwrap();
            let position = position.index(bytes.len());
            bytes[position] ^= change;
            prop_assert!(KeySlot::decode(&bytes).ok().is_none_or(|decoded| decoded == slot));
        }

        #[test]
        fn an_extended_header_is_kept_and_authenticated(slot in any_slot(), flags: u8, extension in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut writer = FieldWriter::new("header extension");
            writer.put_raw(7, extension);
            let extension = writer.finish().unwrap();
            let mut header = slot.header.clone();
            header[11] = flags;
            header[66..68].copy_from_slice(&u16::try_from(extension.len()).unwrap().to_le_bytes());
            header.extend(extension);
            let extended = KeySlot { header: header.clone(), ..slot.clone() };
            let decoded = KeySlot::decode(&extended.encode().unwrap()).unwrap();
            prop_assert!(decoded.associated_data().unwrap().starts_with(&header));
            prop_assert_ne!(decoded.associated_data().unwrap(), slot.associated_data().unwrap());
            prop_assert_eq!(decoded, extended);
        }
    }

    fn sample() -> KeySlot {
        KeySlot {
            vault: VaultId([3; 16]),
            header: KeySlot::new_header(VaultId([3; 16])),
            id: SlotId([4; 8]),
            kind: SlotKind::Passphrase,
            salt: [5; 32],
            argon2: Some(Argon2Params::recommended(2)),
            sealed_keyring: vec![1; 60],
            commitment: [6; 32],
            note: Some((1, vec![7; 9])),
        }
    }

    #[test]
    fn it_goes_both_ways() {
        let slot = sample();
        assert_eq!(KeySlot::decode(&slot.encode().unwrap()).unwrap(), slot);
    }

    #[test]
    fn a_slot_cannot_ask_for_unbounded_work() {
        for (memory_kib, passes, lanes) in [
            (u32::MAX, 1, 1),
            (1 << 20, 9, 1),
            (1024, 3, 1),
            (65_536, 33, 1),
            (65_536, 3, 17),
            (65_536, 0, 1),
        ] {
            assert!(Argon2Params::new(memory_kib, passes, lanes).is_err());
        }
    }

    #[test]
    fn only_passphrases_have_argon2_parameters() {
        let slot = KeySlot { kind: SlotKind::KeyFile, ..sample() };
        assert!(slot.encode().is_err());
        let slot = KeySlot { argon2: None, ..sample() };
        assert!(slot.encode().is_err());
    }
}
