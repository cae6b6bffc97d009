//! Every decoder of `pagevault::format`: any bytes give a value or an error, and a value that was decoded
//! encodes to bytes that decode to the same value.

use std::fmt::Debug;

use pagevault::crypto::keys::Keyring;
use pagevault::crypto::secret::Secret32;
use pagevault::crypto::unlock::Unlocker;
use pagevault::format::FormatError;
use pagevault::format::directory::Directory;
use pagevault::format::envelope::{Header, ObjectKind, Parts, Trailer, unsealed_object};
use pagevault::format::fields::{FieldWriter, Fields};
use pagevault::format::index::Index;
use pagevault::format::keyslot::KeySlot;
use pagevault::format::log::{Log, LogEntry};
use pagevault::format::manifest::{Manifest, decode_snapshots, encode_snapshots};
use pagevault::format::vault_config::VaultConfig;
use pagevault::ids::VaultId;

use crate::cursor::Cursor;

/// Decodes, encodes, decodes: nothing may be lost or added.
fn there_and_back<T: PartialEq + Debug>(
    decode: impl Fn(&[u8]) -> Result<T, FormatError>,
    encode: impl Fn(&T) -> Result<Vec<u8>, FormatError>,
    bytes: &[u8],
) -> Option<T> {
    let value = decode(bytes).ok()?;
    let encoded = encode(&value).expect("what was decoded can be encoded");
    assert_eq!(decode(&encoded).as_ref(), Ok(&value), "it changes on the way");
    assert_eq!(encode(&value).as_ref(), Ok(&encoded));
    Some(value)
}

pub fn envelope(data: &[u8]) {
    if let Ok((header, len)) = Header::decode(data) {
        assert!(len <= data.len());
        assert_eq!(Header::decode(&header.encode()).map(|(header, _)| header).as_ref(), Ok(&header));
    }
    if let Ok((trailer, len)) = Trailer::decode(data) {
        assert!(len <= data.len());
        let encoded = trailer.encode().expect("what was decoded can be encoded");
        assert_eq!(Trailer::decode(&encoded), Ok((trailer, encoded.len())));
    }
    for kind in ObjectKind::ALL.into_iter().map(Some).chain([None]) {
        let Ok(parts) = Parts::split(data, kind) else { continue };
        assert!(kind.is_none_or(|kind| kind == parts.header.kind));
        let end = parts.body_offset as usize + parts.body.len();
        assert_eq!(end, parts.before_trailer.len());
        assert_eq!(parts.header_bytes.len() + parts.records.len(), parts.body_offset as usize);
    }
}

/// The bytes as they are, or as the body of an object whose checksum is right.
fn unsealed(data: &[u8], kind: ObjectKind) -> Option<Vec<u8>> {
    let (&how, rest) = data.split_first()?;
    if how % 2 == 0 {
        return Some(rest.to_vec());
    }
    let header = Header::unsealed(kind, VaultId([how; 16])).encode();
    unsealed_object(&header, rest, |bytes| (how % 4 == 1).then(|| mac(bytes))).ok()
}

fn mac(bytes: &[u8]) -> [u8; 32] {
    let mut mac = [7; 32];
    bytes.iter().enumerate().for_each(|(at, byte)| mac[at % 32] ^= byte);
    mac
}

pub fn vault_config(data: &[u8]) {
    let Some(bytes) = unsealed(data, ObjectKind::VaultConfig) else { return };
    there_and_back(|bytes| VaultConfig::decode(bytes, None), |config| config.encode(mac), &bytes);
    let with_key = VaultConfig::decode(&bytes, Some(&mac));
    assert!(with_key.is_err() || VaultConfig::decode(&bytes, None) == with_key);
}

pub fn key_slot(data: &[u8]) {
    let Some(bytes) = unsealed(data, ObjectKind::KeySlot) else { return };
    if let Some(slot) = there_and_back(KeySlot::decode, KeySlot::encode, &bytes) {
        // Not a passphrase: Argon2id within its bounds is slow on purpose.
        for unlocker in
            [Unlocker::KeyFile(Secret32::new([1; 32])), Unlocker::RecoveryKey(Secret32::new([1; 32]))]
        {
            assert!(!matches!(unlocker.open(&slot), Ok(Some(_))), "a slot was opened that nobody made");
        }
    }
}

pub fn keyring(data: &[u8]) {
    let Ok(keyring) = Keyring::decode(data) else { return };
    let (epoch, key) = keyring.current().expect("a current key");
    let encoded = keyring.encode().expect("what was decoded can be encoded");
    let again = Keyring::decode(&encoded).expect("what was encoded can be decoded");
    let (again_epoch, again_key) = again.current().expect("a current key");
    assert_eq!((epoch, key.expose()), (again_epoch, again_key.expose()));
    assert!(keyring.master_key(1).is_ok() && keyring.master_key(0).is_err());
}

pub fn directory(data: &[u8]) {
    for kind in [ObjectKind::PagePack, ObjectKind::MetadataPack] {
        let Some(directory) = there_and_back(|bytes| Directory::decode(kind, bytes), Directory::encode, data)
        else {
            continue;
        };
        let sum: u64 = directory.records().iter().map(|record| u64::from(record.stored_len)).sum();
        assert_eq!(sum, directory.stored_len());
        for (number, record) in (0..).zip(directory.records()) {
            let _ = record.associated_data(kind, VaultId([1; 16]), number);
        }
    }
    for kind in [ObjectKind::VaultConfig, ObjectKind::Index] {
        assert!(Directory::decode(kind, data).is_err());
    }
}

pub fn index(data: &[u8]) {
    let Some(index) = there_and_back(Index::decode, Index::encode, data) else { return };
    for pack in &index.packs {
        let header = pack.decoded_header().expect("an entry has a header");
        assert_eq!(header.kind, pack.directory.kind());
        assert!(pack.header.len() as u64 + pack.directory.stored_len() <= pack.object_len);
    }
}

pub fn manifest(data: &[u8]) {
    if let Some(manifest) = there_and_back(Manifest::decode, Manifest::encode, data) {
        assert_eq!(manifest.root.is_none(), manifest.content.is_empty());
    }
    let snapshots = there_and_back(decode_snapshots, |manifests| encode_snapshots(manifests), data);
    for manifest in snapshots.unwrap_or_default() {
        there_and_back(Manifest::decode, Manifest::encode, &manifest);
    }
}

pub fn log(data: &[u8]) {
    let Ok(mut log) = Log::decode(data) else { return };
    // Entries of newer versions are skipped when read and cannot be written.
    log.entries.retain(|entry| !matches!(entry, LogEntry::Unknown(_)));
    let encoded = log.encode().expect("what was decoded can be encoded");
    assert_eq!(Log::decode(&encoded), Ok(log));
}

/// Lists as they come, and lists made of the bytes.
pub fn fields(data: &[u8]) {
    if let Ok(mut fields) = Fields::parse("fuzz", data) {
        let _ = fields.take::<u64>(2);
        let _ = fields.take::<String>(4);
        let _ = fields.take::<Vec<(u16, Vec<u8>)>>(6);
        let _ = fields.take::<Vec<[u8; 16]>>(8);
        let _ = fields.take::<(u32, [u8; 8], bool, Option<i64>)>(10);
        let _ = fields.finish();
    }
    let mut cursor = Cursor::new(data);
    let (mut writer, mut expected) = (FieldWriter::new("fuzz"), Vec::new());
    while !cursor.is_empty() {
        let (tag, value) = (cursor.u16(), cursor.piece());
        writer.put_raw(tag, value.to_vec());
        expected.push((tag, value));
    }
    expected.sort_by_key(|(tag, _)| *tag);
    let repeated = expected.windows(2).any(|pair| pair[0].0 == pair[1].0);
    match writer.finish() {
        Err(_) => assert!(repeated || expected.len() > 256),
        Ok(bytes) => {
            let mut fields = Fields::parse("fuzz", &bytes).expect("what was written can be parsed");
            for (tag, value) in expected {
                assert_eq!(fields.require_raw(tag), Ok(value));
            }
            assert_eq!(fields.finish(), Ok(()));
        }
    }
}
