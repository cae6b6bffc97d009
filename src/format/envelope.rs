//! What all objects share: header, trailer, and where the body lies (section 3).

use super::fields::{FieldWriter, Fields};
use super::{FormatError, VERSION, limits};
use crate::ids::VaultId;

const MAGIC: [u8; 8] = [0x89, b'P', b'G', b'V', 0x0D, 0x0A, 0x1A, 0x0A];
const END_MAGIC: [u8; 4] = *b"PGVT";
/// Bytes of a header without its extension.
pub const HEADER_LEN: usize = 72;
/// Bytes that end every object and say where the trailer begins.
pub const FOOTER_LEN: usize = 8;
const CRITICAL_FLAGS: u16 = 0x00FF;

/// What an object is (section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Identity and parameters of the vault.
    VaultConfig,
    /// A way to unlock the vault.
    KeySlot,
    /// Sealed page chunks.
    PagePack,
    /// Sealed tree nodes and manifests.
    MetadataPack,
    /// Where chunks are.
    Index,
    /// Manifests.
    Snapshots,
    /// What happened.
    Log,
}

impl ObjectKind {
    /// Every kind of version 1.
    pub const ALL: [Self; 7] = [
        Self::VaultConfig,
        Self::KeySlot,
        Self::PagePack,
        Self::MetadataPack,
        Self::Index,
        Self::Snapshots,
        Self::Log,
    ];

    /// The byte that stands for the kind.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::VaultConfig => 1,
            Self::KeySlot => 2,
            Self::PagePack => 3,
            Self::MetadataPack => 4,
            Self::Index => 5,
            Self::Snapshots => 6,
            Self::Log => 7,
        }
    }

    /// The kind that `code` stands for.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Whether objects of this kind are sealed with the vault's keys.
    #[must_use]
    pub const fn is_sealed(self) -> bool {
        !matches!(self, Self::VaultConfig | Self::KeySlot)
    }

    /// The word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::VaultConfig => "vault config",
            Self::KeySlot => "key slot",
            Self::PagePack => "pack",
            Self::MetadataPack => "metadata pack",
            Self::Index => "index",
            Self::Snapshots => "snapshots object",
            Self::Log => "log object",
        }
    }
}

/// The first bytes of every object (section 3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What the object is.
    pub kind: ObjectKind,
    /// Which master key of the keyring; 0 if unsealed.
    pub epoch: u32,
    /// The vault the object belongs to.
    pub vault: VaultId,
    /// Random per object; zero if unsealed.
    pub salt: [u8; 32],
}

impl Header {
    /// A header of an object that is not sealed.
    #[must_use]
    pub const fn unsealed(kind: ObjectKind, vault: VaultId) -> Self {
        Self { kind, epoch: 0, vault, salt: [0; 32] }
    }

    /// The encoded header, [`HEADER_LEN`] bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let sealed = u8::from(self.kind.is_sealed());
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = VERSION;
        bytes[9] = self.kind.code();
        bytes[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.vault.0);
        bytes[32..64].copy_from_slice(&self.salt);
        bytes[64] = sealed;
        bytes[65] = sealed;
        bytes
    }

    /// Decodes a header and says how long it is with its extension.
    ///
    /// # Errors
    /// Anything that version 1 does not allow, or does not know.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), FormatError> {
        let fixed: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(FormatError::Length("header"))?;
        if fixed[..8] != MAGIC {
            return Err(FormatError::Magic);
        }
        let newer = |what, number: u64| FormatError::Newer { what, number };
        if fixed[8] != VERSION {
            return Err(newer("format version", fixed[8].into()));
        }
        let kind = ObjectKind::from_code(fixed[9]).ok_or(newer("object kind", fixed[9].into()))?;
        let flags = u16::from_le_bytes([fixed[10], fixed[11]]);
        if flags & CRITICAL_FLAGS != 0 {
            return Err(newer("flag set", flags.into()));
        }
        let sealed = u8::from(kind.is_sealed());
        for (what, found) in [("key source", fixed[64]), ("cipher suite", fixed[65])] {
            match found {
                found if found == sealed => {}
                // Known, but not for an object of this kind.
                0 | 1 => return Err(FormatError::Invalid(what)),
                unknown => return Err(newer(what, unknown.into())),
            }
        }
        if fixed[68..72] != [0; 4] {
            return Err(FormatError::Invalid("header"));
        }
        let len = HEADER_LEN + usize::from(u16::from_le_bytes([fixed[66], fixed[67]]));
        let extension = bytes.get(HEADER_LEN..len).ok_or(FormatError::Length("header extension"))?;
        if !extension.is_empty() {
            Fields::parse("header extension", extension)?.finish()?;
        }
        let header = Self {
            kind,
            epoch: u32::from_le_bytes([fixed[12], fixed[13], fixed[14], fixed[15]]),
            vault: VaultId(copy(&fixed[16..32])),
            salt: copy(&fixed[32..64]),
        };
        header.validate()?;
        Ok((header, len))
    }

    fn validate(&self) -> Result<(), FormatError> {
        let sealed = self.kind.is_sealed();
        if sealed != (self.epoch > 0) || (!sealed && self.salt != [0; 32]) {
            return Err(FormatError::Invalid("header"));
        }
        Ok(())
    }
}

fn copy<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

/// Where a sealed body lies and how it is compressed (trailer entry 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyInfo {
    /// Bytes in the object, tag included.
    pub sealed_len: u32,
    /// Bytes of the field list.
    pub plain_len: u32,
    /// Whether the field list was compressed before sealing.
    pub compressed: bool,
}

impl BodyInfo {
    /// What the seal of a body at `offset` authenticates besides the body (section 5.4).
    #[must_use]
    pub fn associated_data(&self, offset: u64) -> [u8; 21] {
        let mut data = [0; 21];
        data[..4].copy_from_slice(b"PGVB");
        data[4..12].copy_from_slice(&offset.to_le_bytes());
        data[12..16].copy_from_slice(&self.sealed_len.to_le_bytes());
        data[16..20].copy_from_slice(&self.plain_len.to_le_bytes());
        data[20] = u8::from(self.compressed);
        data
    }
}

/// The typed entries at the end of an object (section 3.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trailer {
    /// The body, in sealed objects.
    pub body: Option<BodyInfo>,
    /// Checksum over all before the trailer, in unsealed objects.
    pub checksum: Option<[u8; 32]>,
    /// Keyed checksum over all before the trailer, in the vault config.
    pub mac: Option<[u8; 32]>,
}

impl Trailer {
    /// The encoded trailer with its footer.
    ///
    /// # Errors
    /// Never for values that [`decode`](Self::decode) gave.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let mut writer = FieldWriter::new("trailer");
        if let Some(body) = self.body {
            writer.put(2, &(body.sealed_len, body.plain_len, u8::from(body.compressed)))?;
        }
        writer.put_some(4, self.checksum.as_ref())?.put_some(6, self.mac.as_ref())?;
        let mut bytes = writer.finish()?;
        let len = u32::try_from(bytes.len()).map_err(|_| FormatError::Length("trailer"))?;
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&END_MAGIC);
        Ok(bytes)
    }

    /// Whether it has the entries that an object of `kind` must have, and no others.
    fn fits(&self, kind: ObjectKind) -> bool {
        let found = (self.body.is_some(), self.checksum.is_some(), self.mac.is_some());
        found
            == match kind {
                ObjectKind::VaultConfig => (false, true, true),
                ObjectKind::KeySlot => (false, true, false),
                _ => (true, false, false),
            }
    }

    /// Decodes the trailer at the end of `bytes`, which may be only the tail of an object, and says how
    /// many bytes it takes with its footer.
    ///
    /// # Errors
    /// Anything that section 3.2 does not allow.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), FormatError> {
        let len = Self::len(bytes)?;
        let start = bytes.len().checked_sub(len).ok_or(FormatError::Length("trailer"))?;
        let mut fields = Fields::parse("trailer", &bytes[start..bytes.len() - FOOTER_LEN])?;
        let body = match fields.take::<(u32, u32, u8)>(2)? {
            Some((sealed_len, plain_len, codec @ 0..=1)) => {
                super::within("body", plain_len as usize, limits::BODY as usize)?;
                Some(BodyInfo { sealed_len, plain_len, compressed: codec == 1 })
            }
            Some((_, _, codec)) => {
                return Err(FormatError::Newer { what: "body codec", number: codec.into() });
            }
            None => None,
        };
        let trailer = Self { body, checksum: fields.take(4)?, mac: fields.take(6)? };
        fields.finish()?;
        Ok((trailer, len))
    }

    /// Bytes of trailer and footer, read from the last eight bytes of an object.
    ///
    /// # Errors
    /// The footer is not one, or the trailer is longer than the format allows.
    pub fn len(tail: &[u8]) -> Result<usize, FormatError> {
        let footer: &[u8; FOOTER_LEN] = tail.last_chunk().ok_or(FormatError::Length("object"))?;
        if footer[4..] != END_MAGIC {
            return Err(FormatError::Length("object"));
        }
        let len = u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]);
        super::within("trailer", len as usize, limits::TRAILER as usize)?;
        Ok(len as usize + FOOTER_LEN)
    }
}

/// The parts of an object that is at hand as a whole.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The decoded header.
    pub header: Header,
    /// The header's bytes with extension: what the object's keys are derived from.
    pub header_bytes: &'a [u8],
    /// Records, without the body.
    pub records: &'a [u8],
    /// The body: sealed, or a plain field list in unsealed objects.
    pub body: &'a [u8],
    /// Where the body begins.
    pub body_offset: u64,
    /// The decoded trailer.
    pub trailer: Trailer,
    /// All before the trailer: what checksums cover.
    pub before_trailer: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Takes an object apart, of which `kind` is expected if given.
    ///
    /// # Errors
    /// Anything that section 3 does not allow.
    pub fn split(bytes: &'a [u8], kind: Option<ObjectKind>) -> Result<Self, FormatError> {
        let (header, header_len) = Header::decode(bytes)?;
        if kind.is_some_and(|kind| kind != header.kind) {
            return Err(FormatError::Invalid("object kind"));
        }
        let (trailer, trailer_len) = Trailer::decode(bytes)?;
        let end = bytes
            .len()
            .checked_sub(trailer_len)
            .filter(|&end| end >= header_len)
            .ok_or(FormatError::Length("object"))?;
        if !trailer.fits(header.kind) {
            return Err(FormatError::Invalid("trailer"));
        }
        let body_offset = match (header.kind.is_sealed(), trailer.body) {
            (true, Some(body)) => end
                .checked_sub(body.sealed_len as usize)
                .filter(|&offset| offset >= header_len)
                .ok_or(FormatError::Length("body"))?,
            (false, None) => header_len,
            _ => return Err(FormatError::Invalid("trailer")),
        };
        let parts = Self {
            header_bytes: &bytes[..header_len],
            records: &bytes[header_len..body_offset],
            body: &bytes[body_offset..end],
            body_offset: body_offset as u64,
            before_trailer: &bytes[..end],
            header,
            trailer,
        };
        parts.validate()?;
        Ok(parts)
    }

    fn validate(&self) -> Result<(), FormatError> {
        let is_pack = matches!(self.header.kind, ObjectKind::PagePack | ObjectKind::MetadataPack);
        if !is_pack && !self.records.is_empty() {
            return Err(FormatError::Length("body"));
        }
        if self.header.kind.is_sealed() {
            return Ok(());
        }
        let checksum = *blake3::hash(self.before_trailer).as_bytes();
        if self.trailer.checksum == Some(checksum) {
            Ok(())
        } else {
            Err(FormatError::Checksum(self.header.kind.name()))
        }
    }
}

/// Puts an unsealed object together: header, field list, checksum and, where `mac` gives one, a keyed one.
///
/// # Errors
/// The parts exceed a limit.
pub fn unsealed_object(
    header: &[u8],
    body: &[u8],
    mac: impl FnOnce(&[u8]) -> Option<[u8; 32]>,
) -> Result<Vec<u8>, FormatError> {
    let mut bytes = [header, body].concat();
    let checksum = Some(*blake3::hash(&bytes).as_bytes());
    let trailer = Trailer { body: None, checksum, mac: mac(&bytes) };
    bytes.extend(trailer.encode()?);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let header = Header::unsealed(ObjectKind::VaultConfig, VaultId([7; 16])).encode();
        unsealed_object(&header, &[0], |_| Some([1; 32])).unwrap()
    }

    #[test]
    fn parts_are_found_again() {
        let bytes = sample();
        let parts = Parts::split(&bytes, Some(ObjectKind::VaultConfig)).unwrap();
        assert_eq!((parts.body, parts.header.vault), (&[0][..], VaultId([7; 16])));
        assert_eq!(parts.trailer.mac, Some([1; 32]));
        assert!(Parts::split(&bytes, Some(ObjectKind::KeySlot)).is_err());
    }

    #[test]
    fn no_changed_byte_before_the_trailer_passes() {
        let bytes = sample();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                match Parts::split(&damaged, None) {
                    Err(_) => {}
                    Ok(parts) => assert_eq!(parts.before_trailer, &bytes[..parts.before_trailer.len()]),
                }
            }
        }
    }

    #[test]
    fn what_is_newer_is_said_to_be_newer() {
        for (position, value) in [(8, 2), (9, 99), (10, 1), (64, 2), (65, 2)] {
            let mut bytes = sample();
            bytes[position] = value;
            assert!(Parts::split(&bytes, None).unwrap_err().is_newer(), "byte {position}");
        }
        let mut bytes = sample();
        bytes[11] = 1;
        assert_eq!(Parts::split(&bytes, None).unwrap_err(), FormatError::Checksum("vault config"));
    }

    proptest! {
        #[test]
        fn ignorable_parts_are_ignored_and_critical_ones_refused(
            flags: u8, tags in proptest::collection::btree_set(1u16.., 0..8), critical: bool,
            value in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let list = |what, tags: &mut dyn Iterator<Item = u16>| {
                let mut writer = FieldWriter::new(what);
                for tag in tags {
                    writer.put_raw(tag, value.clone());
                }
                writer
            };
            let even = tags.iter().find(|tag| *tag % 2 == 0 && **tag > 6).copied().filter(|_| critical);
            let odd = || tags.iter().copied().filter(|tag| tag % 2 == 1).chain(even);
            let extension = list("header extension", &mut odd()).finish().unwrap();
            let mut header = Header::unsealed(ObjectKind::KeySlot, VaultId([7; 16])).encode().to_vec();
            header[11] = flags;
            header[66..68].copy_from_slice(&u16::try_from(extension.len()).unwrap().to_le_bytes());
            let before = [&header[..], &extension, &[0]].concat();
            let mut trailer = list("trailer", &mut tags.iter().copied().filter(|tag| tag % 2 == 1));
            trailer.put(4, blake3::hash(&before).as_bytes()).unwrap();
            let trailer = trailer.finish().unwrap();
            let end = u32::try_from(trailer.len()).unwrap().to_le_bytes();
            let bytes = [&before[..], &trailer, &end, b"PGVT"].concat();
            match Parts::split(&bytes, None) {
                Ok(parts) => {
                    prop_assert!(even.is_none());
                    prop_assert_eq!((parts.body, parts.header_bytes), (&[0][..], &before[..before.len() - 1]));
                }
                Err(error) => prop_assert!(even.is_some() && error.is_newer(), "{}", error),
            }
        }

        #[test]
        fn any_bytes_split_or_fail(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), plausible: bool) {
            if plausible && bytes.len() > 80 {
                let start = sample();
                bytes[..72].copy_from_slice(&start[..72]);
                let end = bytes.len();
                bytes[end - 4..].copy_from_slice(b"PGVT");
            }
            let _ = Parts::split(&bytes, None);
        }
    }
}
