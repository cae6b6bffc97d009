//! Sealing and opening whole objects and single records (sections 5.3, 5.4 and 6.1).

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use zeroize::Zeroizing;

use super::CryptoError;
use super::keys::VaultKeys;
use super::secret::Secret32;
use crate::format::FormatError;
use crate::format::directory::{Directory, Record, SEAL_LEN};
use crate::format::envelope::{BodyInfo, Header, ObjectKind, Parts, Trailer};

fn cipher(key: &Secret32) -> Aes256Gcm {
    Aes256Gcm::new(key.expose().into())
}

fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    nonce
}

/// Seals the bytes of `buffer` from `start` on, in place, and appends the tag.
fn seal_in_place(
    cipher: &Aes256Gcm,
    number: u64,
    associated_data: &[u8],
    buffer: &mut Vec<u8>,
    start: usize,
) -> Result<(), CryptoError> {
    let nonce = Nonce::from(nonce(number));
    let tag = cipher
        .encrypt_inout_detached(&nonce, associated_data, (&mut buffer[start..]).into())
        .map_err(|_| CryptoError::TooLong)?;
    buffer.extend_from_slice(&tag);
    Ok(())
}

/// Opens `buffer`, ciphertext and tag, in place; what remains is the plaintext.
fn open_in_place(
    cipher: &Aes256Gcm,
    number: u64,
    associated_data: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<(), CryptoError> {
    let len = buffer.len().checked_sub(SEAL_LEN).ok_or(CryptoError::NotAuthentic)?;
    let nonce = Nonce::from(nonce(number));
    let (ciphertext, tag) = buffer.split_at_mut(len);
    let tag = Tag::try_from(&*tag).map_err(|_| CryptoError::NotAuthentic)?;
    cipher
        .decrypt_inout_detached(&nonce, associated_data, ciphertext.into(), &tag)
        .map_err(|_| CryptoError::NotAuthentic)?;
    buffer.truncate(len);
    Ok(())
}

/// Seals `plain` under a key that is used once.
pub(super) fn seal_detached(
    key: &Secret32,
    associated_data: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let mut buffer = Vec::with_capacity(plain.len() + SEAL_LEN);
    buffer.extend_from_slice(plain);
    seal_in_place(&cipher(key), 0, associated_data, &mut buffer, 0)?;
    Ok(buffer)
}

/// Opens what [`seal_detached`] sealed.
pub(super) fn open_detached(
    key: &Secret32,
    associated_data: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let mut buffer = Zeroizing::new(sealed.to_vec());
    open_in_place(&cipher(key), 0, associated_data, &mut buffer)?;
    Ok(buffer)
}

/// An object in the making: header first, then records, then the body.
pub struct ObjectSealer {
    header: Header,
    record_cipher: Aes256Gcm,
    body_cipher: Aes256Gcm,
    bytes: Vec<u8>,
    records: Vec<Record>,
}

impl std::fmt::Debug for ObjectSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObjectSealer({:?}, {} bytes)", self.header.kind, self.bytes.len())
    }
}

impl ObjectSealer {
    /// Begins an object of a sealed `kind` under the current epoch, with keys of its own.
    ///
    /// # Errors
    /// No random numbers.
    pub fn new(keys: &VaultKeys, kind: ObjectKind) -> Result<Self, CryptoError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)?;
        Self::with_salt(keys, kind, salt)
    }

    /// As [`new`](Self::new) with a given salt, for reproducible test vectors. A salt must never be used twice.
    #[doc(hidden)]
    pub fn with_salt(keys: &VaultKeys, kind: ObjectKind, salt: [u8; 32]) -> Result<Self, CryptoError> {
        let epoch = keys.current()?.epoch();
        Self::with_header(keys, Header { kind, epoch, vault: keys.vault(), salt }.encode().to_vec())
    }

    /// As [`with_salt`](Self::with_salt) with a given header, for test vectors of headers that only newer versions write.
    #[doc(hidden)]
    pub fn with_header(keys: &VaultKeys, header_bytes: Vec<u8>) -> Result<Self, CryptoError> {
        let (header, _) = Header::decode(&header_bytes)?;
        let object_keys = keys.epoch(header.epoch)?.object_keys(header.kind, &header_bytes)?;
        Ok(Self {
            header,
            record_cipher: cipher(&object_keys.record),
            body_cipher: cipher(&object_keys.body),
            bytes: header_bytes,
            records: Vec::new(),
        })
    }

    /// Makes room for an object of `bytes`.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// Goes on in the memory of `buffer`, whose content is given up.
    pub fn reuse(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        buffer.append(&mut self.bytes);
        self.bytes = buffer;
    }

    /// Bytes so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no record was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Number of records so far.
    #[must_use]
    pub const fn record_count(&self) -> usize {
        self.records.len()
    }

    /// Seals `encoded` as the next record; `record.stored_len` is set from it. Returns the record as it was written.
    ///
    /// # Errors
    /// More than a record may hold.
    pub fn push(&mut self, mut record: Record, encoded: &[u8]) -> Result<Record, CryptoError> {
        record.stored_len = u32::try_from(encoded.len() + SEAL_LEN).map_err(|_| CryptoError::TooLong)?;
        let number = u32::try_from(self.records.len()).map_err(|_| CryptoError::TooLong)?;
        let associated_data = record.associated_data(self.header.kind, self.header.vault, number);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(encoded);
        seal_in_place(&self.record_cipher, number.into(), &associated_data, &mut self.bytes, start)?;
        self.records.push(record);
        Ok(record)
    }

    /// Ends a pack: its body is the directory of its records. Returns the object's bytes and the directory.
    ///
    /// # Errors
    /// The records exceed what a pack may hold.
    pub fn finish_pack(mut self) -> Result<(Vec<u8>, Directory), CryptoError> {
        let directory = Directory::new(self.header.kind, std::mem::take(&mut self.records))?;
        let body = directory.encode()?;
        Ok((self.seal_body(&body)?, directory))
    }

    /// Ends an object without records: its body is `body`, an encoded field list.
    ///
    /// # Errors
    /// The body exceeds the limits.
    pub fn finish(self, body: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.seal_body(body)
    }

    fn seal_body(mut self, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        crate::format::within("body", plain.len(), crate::format::limits::BODY as usize)?;
        let frame = crate::codec::compress_body(plain);
        let compressed = frame.is_some();
        let encoded = frame.as_deref().unwrap_or(plain);
        let length = |bytes: usize| u32::try_from(bytes).map_err(|_| CryptoError::TooLong);
        let info = BodyInfo {
            sealed_len: length(encoded.len() + SEAL_LEN)?,
            plain_len: length(plain.len())?,
            compressed,
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(encoded);
        seal_in_place(&self.body_cipher, 0, &info.associated_data(start as u64), &mut self.bytes, start)?;
        self.bytes.extend(Trailer { body: Some(info), ..Trailer::default() }.encode()?);
        crate::format::within("object", self.bytes.len(), 64 << 20)?;
        Ok(self.bytes)
    }
}

/// Opens the body of a whole object: header and encoded field list.
///
/// # Errors
/// The object is malformed, of another kind or vault, or not authentic.
pub fn open_body(keys: &VaultKeys, kind: ObjectKind, bytes: &[u8]) -> Result<(Header, Vec<u8>), CryptoError> {
    let parts = Parts::split(bytes, Some(kind))?;
    let info = parts.trailer.body.ok_or(FormatError::Invalid("trailer"))?;
    let plain =
        open_sealed_body(keys, &parts.header, parts.header_bytes, info, parts.body_offset, parts.body)?;
    Ok((parts.header, plain))
}

/// Opens the directory of a whole pack and checks that its records fill the pack.
///
/// # Errors
/// As [`open_body`], and a directory that does not match the pack.
pub fn open_directory(keys: &VaultKeys, bytes: &[u8]) -> Result<(Header, Directory), CryptoError> {
    let (header, _) = Header::decode(bytes)?;
    let (header, body) = open_body(keys, header.kind, bytes)?;
    let directory = Directory::decode(header.kind, &body)?;
    let parts = Parts::split(bytes, None)?;
    if directory.stored_len() != parts.records.len() as u64 {
        return Err(FormatError::Length("records of a pack").into());
    }
    Ok((header, directory))
}

/// Opens a sealed body that was read apart from its object.
///
/// # Errors
/// It is not authentic, or does not decompress.
pub fn open_sealed_body(
    keys: &VaultKeys,
    header: &Header,
    header_bytes: &[u8],
    info: BodyInfo,
    offset: u64,
    sealed: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    if header.vault != keys.vault() {
        return Err(CryptoError::NotAuthentic);
    }
    let object_keys = keys.epoch(header.epoch)?.object_keys(header.kind, header_bytes)?;
    let mut buffer = sealed.to_vec();
    open_in_place(&cipher(&object_keys.body), 0, &info.associated_data(offset), &mut buffer)?;
    if info.compressed {
        buffer = crate::codec::decompress_body(&buffer, info.plain_len as usize)
            .ok_or(FormatError::Invalid("compressed body"))?;
    }
    if buffer.len() == info.plain_len as usize { Ok(buffer) } else { Err(FormatError::Length("body").into()) }
}

/// Opens single records of one pack.
pub struct RecordOpener {
    header: Header,
    header_len: u64,
    cipher: Aes256Gcm,
}

impl std::fmt::Debug for RecordOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecordOpener({:?})", self.header.kind)
    }
}

impl RecordOpener {
    /// From the bytes of the pack's header with extension.
    ///
    /// # Errors
    /// The header is malformed, of another vault or of an unknown epoch.
    pub fn new(keys: &VaultKeys, header_bytes: &[u8]) -> Result<Self, CryptoError> {
        let (header, len) = Header::decode(header_bytes)?;
        if header.vault != keys.vault() || len != header_bytes.len() {
            return Err(CryptoError::NotAuthentic);
        }
        let object_keys = keys.epoch(header.epoch)?.object_keys(header.kind, header_bytes)?;
        Ok(Self { cipher: cipher(&object_keys.record), header_len: len as u64, header })
    }

    /// The epoch whose ids the pack uses.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.header.epoch
    }

    /// Where the first record begins.
    #[must_use]
    pub const fn header_len(&self) -> u64 {
        self.header_len
    }

    /// Opens record `number` in place: `buffer` holds it as stored, then its encoded chunk.
    ///
    /// # Errors
    /// It is not authentic.
    pub fn open(&self, record: &Record, number: u32, buffer: &mut Vec<u8>) -> Result<(), CryptoError> {
        let associated_data = record.associated_data(self.header.kind, self.header.vault, number);
        open_in_place(&self.cipher, number.into(), &associated_data, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Keyring;
    use super::*;
    use crate::chunk::Class;
    use crate::format::directory::Encoding;
    use crate::ids::{ChunkId, VaultId};

    fn keys(vault: u8) -> VaultKeys {
        VaultKeys::new(VaultId([vault; 16]), Keyring::from_master_key(Secret32::new([1; 32]))).unwrap()
    }

    fn record(id: u8, len: u32) -> Record {
        Record {
            id: ChunkId([id; 16]),
            class: Class::Page,
            encoding: Encoding::Plain,
            plain_len: len,
            stored_len: 0,
        }
    }

    fn pack() -> (Vec<u8>, Directory) {
        let mut sealer = ObjectSealer::new(&keys(1), ObjectKind::PagePack).unwrap();
        sealer.push(record(1, 5), b"first").unwrap();
        sealer.push(record(2, 6), b"second").unwrap();
        sealer.finish_pack().unwrap()
    }

    #[test]
    fn records_open_in_their_place_only() {
        let (bytes, directory) = pack();
        assert_eq!(open_directory(&keys(1), &bytes).unwrap().1, directory);
        let opener = RecordOpener::new(&keys(1), &bytes[..72]).unwrap();
        let first = &directory.records()[0];
        let stored = bytes[72..72 + first.stored_len as usize].to_vec();
        let mut buffer = stored.clone();
        opener.open(first, 0, &mut buffer).unwrap();
        assert_eq!(buffer, b"first");
        assert!(opener.open(first, 1, &mut stored.clone()).is_err());
        for wrong in [
            Record { id: ChunkId([9; 16]), ..*first },
            Record { class: Class::Node(1), ..*first },
            Record { encoding: Encoding::Zstd, ..*first },
            Record { encoding: Encoding::Delta { base: ChunkId([0; 16]), depth: 0 }, ..*first },
            Record { plain_len: 6, ..*first },
            Record { stored_len: 6, ..*first },
        ] {
            assert!(opener.open(&wrong, 0, &mut stored.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let (bytes, _) = pack();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                // Ignorable flags and the records themselves are not the directory's business.
                let opened = open_directory(&keys(1), &damaged);
                if opened.is_ok() {
                    assert!((72..72 + 43).contains(&position), "byte {position}");
                }
            }
        }
    }

    #[test]
    fn another_vault_s_keys_open_nothing() {
        let (bytes, _) = pack();
        assert!(open_directory(&keys(2), &bytes).is_err());
        assert!(RecordOpener::new(&keys(2), &bytes[..72]).is_err());
    }

    #[test]
    fn two_objects_never_share_keys() {
        let (one, _) = pack();
        let (other, _) = pack();
        assert_ne!(one[32..64], other[32..64]);
        assert_ne!(one[72..77], other[72..77]);
    }
}
