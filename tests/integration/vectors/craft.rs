//! Pieces of objects, right and wrong, put together byte by byte: what an encoder of this crate would never write must
//! be refused all the same.

use pagevault::crypto::keys::{Keyring, VaultKeys};
use pagevault::crypto::seal::ObjectSealer;
use pagevault::crypto::secret::Secret32;
use pagevault::format::envelope::{BodyInfo, Header, ObjectKind, Parts, unsealed_object};
use pagevault::ids::{ObjectName, VaultId};

use super::{Vector, What};

pub(crate) const MASTER: [u8; 32] = *b"the master key of these vectors!";
pub(crate) const VAULT: [u8; 16] = *b"vault of vectors";
/// A time: 2026-01-02T03:04:05.678901Z.
pub(crate) const TIME_US: i64 = 1_767_323_045_678_901;

pub(crate) fn keys() -> VaultKeys {
    let keyring = Keyring::from_master_key(Secret32::new(MASTER));
    VaultKeys::new(VaultId(VAULT), keyring).unwrap()
}

/// A salt for the object of this name: no two objects of the same key may have the same.
pub(crate) fn salt(name: &str) -> [u8; 32] {
    ObjectName::of(name.as_bytes()).0
}

/// The shortest form of a number.
pub(crate) fn varint(value: u64) -> Vec<u8> {
    let bytes = value.to_le_bytes();
    match value {
        0..=250 => vec![bytes[0]],
        251..=0xFFFF => [&[0xFB], &bytes[..2]].concat(),
        0x1_0000..=0xFFFF_FFFF => [&[0xFC], &bytes[..4]].concat(),
        _ => [&[0xFD], &bytes[..8]].concat(),
    }
}

/// A number and where it ends, in bytes known to be right.
pub(crate) fn varint_at(bytes: &[u8], at: usize) -> (u64, usize) {
    let width = match bytes[at] {
        0xFB => 2,
        0xFC => 4,
        0xFD => 8,
        small => return (small.into(), at + 1),
    };
    let mut number = [0; 8];
    number[..width].copy_from_slice(&bytes[at + 1..=at + width]);
    (u64::from_le_bytes(number), at + 1 + width)
}

pub(crate) fn signed(value: i64) -> Vec<u8> {
    varint(((value << 1) ^ (value >> 63)).cast_unsigned())
}

/// Bytes, or a string, after their count.
pub(crate) fn counted(bytes: &[u8]) -> Vec<u8> {
    [&varint(bytes.len() as u64), bytes].concat()
}

/// Items after their count.
pub(crate) fn items(items: &[Vec<u8>]) -> Vec<u8> {
    [varint(items.len() as u64), items.concat()].concat()
}

/// A field list, with whatever tags in whatever order.
pub(crate) fn list(fields: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let encoded: Vec<u8> =
        fields.iter().flat_map(|(tag, value)| [varint(*tag), counted(value)].concat()).collect();
    [varint(fields.len() as u64), encoded].concat()
}

/// `fields` with some replaced, added, or (`None`) taken out.
pub(crate) fn with(fields: &[(u64, Vec<u8>)], changes: &[(u64, Option<Vec<u8>>)]) -> Vec<(u64, Vec<u8>)> {
    let mut fields = fields.to_vec();
    for (tag, change) in changes {
        fields.retain(|(known, _)| known != tag);
        fields.extend(change.clone().map(|value| (*tag, value)));
    }
    fields.sort_by_key(|(tag, _)| *tag);
    fields
}

/// A sealed object without records.
pub(crate) fn sealed(kind: ObjectKind, name: &str, body: &[u8]) -> Vec<u8> {
    ObjectSealer::with_salt(&keys(), kind, salt(name)).unwrap().finish(body).unwrap()
}

/// The header of a sealed object.
pub(crate) fn header(kind: ObjectKind, name: &str) -> Vec<u8> {
    Header { kind, epoch: 1, vault: VaultId(VAULT), salt: salt(name) }.encode().to_vec()
}

pub(crate) fn unsealed_header(kind: ObjectKind) -> Vec<u8> {
    Header::unsealed(kind, VaultId(VAULT)).encode().to_vec()
}

/// A header with an extension and flags, as a newer version might write.
pub(crate) fn extended(mut header: Vec<u8>, flags: u16, extension: &[u8]) -> Vec<u8> {
    header[10..12].copy_from_slice(&flags.to_le_bytes());
    header[66..68].copy_from_slice(&u16::try_from(extension.len()).unwrap().to_le_bytes());
    header.extend_from_slice(extension);
    header
}

/// A config or slot with right checksums, whatever is in it.
pub(crate) fn unsealed(kind: ObjectKind, header: &[u8], body: &[u8]) -> Vec<u8> {
    let mac = |bytes: &[u8]| (kind == ObjectKind::VaultConfig).then(|| keys().config_mac(bytes));
    unsealed_object(header, body, mac).unwrap()
}

/// `bytes` with another trailer: its entries as a field list.
pub(crate) fn with_trailer(bytes: &[u8], entries: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let end = Parts::split(bytes, None).unwrap().before_trailer.len();
    let trailer = list(entries);
    let len = u32::try_from(trailer.len()).unwrap().to_le_bytes();
    [&bytes[..end], &trailer, &len, b"PGVT"].concat()
}

/// Trailer entry 2.
pub(crate) fn body_entry(sealed_len: u64, plain_len: u64, codec: u8) -> (u64, Vec<u8>) {
    (2, [varint(sealed_len), varint(plain_len), vec![codec]].concat())
}

pub(crate) fn body_of(bytes: &[u8]) -> BodyInfo {
    Parts::split(bytes, None).unwrap().trailer.body.unwrap()
}

pub(crate) fn edited(bytes: &[u8], edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    edit(&mut bytes);
    bytes
}

pub(crate) fn object(
    expected: &'static str,
    kind: ObjectKind,
    name: &str,
    shows: &str,
    content: Vec<u8>,
) -> Vector {
    let what = What::Object(kind);
    Vector { name: name.to_owned(), what, shows: shows.to_owned(), content, expected }
}

/// Bech32 (BIP-173, with its constant 1; BIP-350 has another) of `bytes`.
pub(crate) fn bech32(prefix: &str, bytes: &[u8], constant: u32) -> String {
    const DIGITS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATOR: [u32; 5] = [0x3B6A_57B2, 0x2650_8E6D, 0x1EA1_19FA, 0x3D42_33DD, 0x2A14_62B3];
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let mut data: Vec<u8> = bits
        .chunks(5)
        .map(|five| (0..5).fold(0, |digit, bit| digit << 1 | five.get(bit).unwrap_or(&0)))
        .collect();
    let expanded =
        prefix.bytes().map(|byte| byte >> 5).chain([0]).chain(prefix.bytes().map(|byte| byte & 31));
    let checked: Vec<u8> = expanded.chain(data.iter().copied()).chain([0; 6]).collect();
    let sum = checked.iter().fold(1u32, |sum, value| {
        let (top, sum) = (sum >> 25, (sum & 0x1FF_FFFF) << 5 ^ u32::from(*value));
        (0..5).filter(|bit| top >> bit & 1 == 1).fold(sum, |sum, bit| sum ^ GENERATOR[bit])
    }) ^ constant;
    data.extend((0..6).map(|digit| u8::try_from(sum >> (5 * (5 - digit)) & 31).unwrap()));
    let text: String = data.iter().map(|digit| DIGITS[usize::from(*digit)] as char).collect();
    format!("{prefix}1{text}")
}
