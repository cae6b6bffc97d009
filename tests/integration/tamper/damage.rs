//! What can be done to a vault by accident or malice, as changed copies of its objects.

use pagevault::format::envelope::{FOOTER_LEN, HEADER_LEN, ObjectKind, Parts};
use pagevault::ids::ObjectName;
use pagevault::store::{MemoryStore, ObjectPath};

use super::fixture::{Fixture, kind_of};

/// A damaged vault.
pub(crate) struct Case {
    /// What was done to what.
    pub(crate) what: String,
    pub(crate) store: MemoryStore,
    /// Objects that are not what and where they were.
    pub(crate) harmed: Vec<ObjectPath>,
}

/// One way to change the bytes of one object.
pub(crate) type Change = (String, Vec<u8>);

/// A byte of every field of an object, and of every part that has no fields.
pub(crate) fn places(bytes: &[u8]) -> Vec<(String, usize)> {
    let parts = Parts::split(bytes, None).unwrap();
    let header = [
        (0, "magic"),
        (8, "version"),
        (9, "kind"),
        (10, "critical flags"),
        (11, "ignorable flags"),
        (12, "epoch"),
        (16, "vault id"),
        (31, "vault id"),
        (32, "salt"),
        (63, "salt"),
        (64, "key source"),
        (65, "cipher suite"),
        (66, "extension length"),
        (67, "extension length"),
        (68, "reserved"),
        (71, "reserved"),
    ];
    let mut places: Vec<(String, usize)> =
        header.into_iter().map(|(offset, name)| (format!("{name} at {offset}"), offset)).collect();
    let body = usize::try_from(parts.body_offset).unwrap();
    if !parts.records.is_empty() {
        for offset in [HEADER_LEN, HEADER_LEN + 20, body / 2 + 36, body - 17, body - 16, body - 1] {
            places.push((format!("records at {offset}"), offset));
        }
    }
    let trailer = parts.before_trailer.len();
    for offset in [body, body + 1, usize::midpoint(body, trailer), trailer - 16, trailer - 1] {
        places.push((format!("body at {offset}"), offset));
    }
    let footer = bytes.len() - FOOTER_LEN;
    places
        .extend((trailer..footer).map(|offset| (format!("trailer entry byte {}", offset - trailer), offset)));
    places.extend((footer..bytes.len()).map(|offset| (format!("footer byte {}", offset - footer), offset)));
    places.retain(|(_, offset)| *offset < bytes.len());
    places
}

/// Changes of bytes where they are: flips, cuts, rests, zeros.
pub(crate) fn changes(bytes: &[u8]) -> Vec<Change> {
    let mut changes = Vec::new();
    for (name, offset) in places(bytes) {
        let mut flipped = bytes.to_vec();
        flipped[offset] ^= 1 << (offset % 8);
        changes.push((format!("flip in {name}"), flipped));
    }
    let parts = Parts::split(bytes, None).unwrap();
    let (body, trailer) = (usize::try_from(parts.body_offset).unwrap(), parts.before_trailer.len());
    for len in [
        0,
        1,
        7,
        8,
        9,
        71,
        72,
        73,
        bytes.len() / 2,
        body,
        body + 16,
        trailer,
        bytes.len() - 8,
        bytes.len() - 1,
    ] {
        changes.push((format!("cut to {len} bytes"), bytes[..len].to_vec()));
    }
    for rest in [&[0][..], &[0; 100], b"PGVT", bytes] {
        changes.push((format!("{} more bytes", rest.len()), [bytes, rest].concat()));
    }
    changes.push(("all zeros".to_owned(), vec![0; bytes.len()]));
    changes.push(("its records and body are zeros".to_owned(), {
        let mut zeroed = bytes.to_vec();
        zeroed[HEADER_LEN..trailer].fill(0);
        zeroed
    }));
    changes
}

/// Changes after which the object claims to be of a newer version; where there is a checksum, it is right.
pub(crate) fn newer(bytes: &[u8]) -> Vec<Change> {
    [
        (8, 2, "version 2"),
        (9, 42, "kind 42"),
        (9, 0x85, "kind 0x85"),
        (10, 1, "critical flag"),
        (64, 2, "key source 2"),
        (65, 2, "suite 2"),
    ]
    .into_iter()
    .map(|(offset, value, name)| {
        let mut changed = bytes.to_vec();
        changed[offset] = value;
        (name.to_owned(), with_right_checksum(changed, bytes))
    })
    .collect()
}

/// `changed` with the checksum of an unsealed object made right again, as anybody can; `original` says where it is.
pub(crate) fn with_right_checksum(mut changed: Vec<u8>, original: &[u8]) -> Vec<u8> {
    let parts = Parts::split(original, None).unwrap();
    let Some(checksum) = parts.trailer.checksum else { return changed };
    let end = parts.before_trailer.len();
    let at = original[end..].windows(32).position(|window| window == checksum).unwrap() + end;
    let right = ObjectName::of(&changed[..end]).0;
    changed[at..at + 32].copy_from_slice(&right);
    changed
}

/// Where an object with these bytes would be, were it what it claims to be.
pub(crate) fn place_of(kind: ObjectKind, bytes: &[u8]) -> Option<ObjectPath> {
    pagevault::vault::layout::object_path(kind, ObjectName::of(bytes)).ok()
}

impl Fixture {
    /// The object at `path` has other bytes.
    pub(crate) fn with_bytes(&self, path: &ObjectPath, (what, bytes): Change) -> Case {
        let store = self.store.fork();
        store.replace(path, bytes);
        Case { what: format!("{path}: {what}"), store, harmed: vec![path.clone()] }
    }

    /// The object at `path` has other bytes, and the name that they hash to.
    pub(crate) fn renamed(&self, path: &ObjectPath, kind: ObjectKind, (what, bytes): Change) -> Option<Case> {
        let store = self.store.fork();
        store.remove(path);
        store.replace(&place_of(kind, &bytes)?, bytes);
        Some(Case { what: format!("{path}: {what}, and renamed"), store, harmed: vec![path.clone()] })
    }

    pub(crate) fn without(&self, path: &ObjectPath) -> Case {
        let store = self.store.fork();
        store.remove(path);
        Case { what: format!("{path}: gone"), store, harmed: vec![path.clone()] }
    }

    /// Two objects of a kind with each other's bytes.
    pub(crate) fn swapped(&self, one: &ObjectPath, other: &ObjectPath) -> Case {
        let store = self.store.fork();
        let (Some(first), Some(second)) = (store.remove(one), store.remove(other)) else { unreachable!() };
        store.replace(one, second.to_vec());
        store.replace(other, first.to_vec());
        Case { what: format!("{one} and {other}: swapped"), store, harmed: vec![one.clone(), other.clone()] }
    }

    /// The objects of another vault of the same key beside this one's, or in the place of this one's.
    pub(crate) fn mixed_with(&self, foreign: &MemoryStore) -> Vec<Case> {
        let beside = self.store.fork();
        let own = self.objects();
        let mut cases = Vec::new();
        for (path, bytes) in foreign.objects() {
            if kind_of(&bytes).is_none() {
                continue;
            }
            if beside.remove(&path).is_none() {
                beside.replace(&path, bytes.to_vec());
            } else {
                // Fixed names that both vaults have are a case of their own.
                let original = own.iter().find(|(own, ..)| *own == path).map(|(_, bytes, _)| bytes.clone());
                beside.replace(&path, original.unwrap());
            }
            for (own_path, _, kind) in &own {
                if kind_of(&bytes) == Some(*kind) {
                    let what = "the bytes of another vault's object".to_owned();
                    cases.push(self.with_bytes(own_path, (what, bytes.to_vec())));
                }
            }
        }
        cases.push(Case {
            what: "another vault's objects are there too".to_owned(),
            store: beside,
            harmed: vec![],
        });
        cases
    }

    /// Packs whose inside was rearranged, under the old name and under the right one.
    pub(crate) fn rearranged_packs(&self) -> Vec<Case> {
        let packs: Vec<_> = self
            .objects()
            .into_iter()
            .filter(|(_, _, kind)| matches!(kind, ObjectKind::PagePack | ObjectKind::MetadataPack))
            .collect();
        let mut cases = Vec::new();
        for (path, bytes, kind) in &packs {
            let parts = Parts::split(bytes, None).unwrap();
            let body = usize::try_from(parts.body_offset).unwrap();
            let mut changes = Vec::new();
            if parts.records.len() >= 64 {
                let mut swapped = bytes.clone();
                let (front, back) = swapped[HEADER_LEN..body].split_at_mut(32);
                front.swap_with_slice(&mut back[..32]);
                changes.push(("records swapped".to_owned(), swapped));
            }
            for (other_path, other, other_kind) in &packs {
                if other_path != path && other_kind == kind {
                    let theirs = Parts::split(other, None).unwrap();
                    let from = usize::try_from(theirs.body_offset).unwrap();
                    let directory = [&bytes[..body], &other[from..]].concat();
                    changes.push((format!("the directory of {other_path}"), directory));
                    let records = [&other[..from], &bytes[body..]].concat();
                    changes.push((format!("the records of {other_path}"), records));
                }
            }
            for change in changes {
                cases.extend(self.renamed(path, *kind, change.clone()));
                cases.push(self.with_bytes(path, change));
            }
        }
        cases
    }
}
