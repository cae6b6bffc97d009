//! Objects and key texts that every reader must refuse, and how: as damage, or as the work of a newer version.

use pagevault::chunk::Class;
use pagevault::crypto::seal::ObjectSealer;
use pagevault::crypto::secret::{Secret32, TextForm};
use pagevault::format::directory::Encoding;
use pagevault::format::envelope::ObjectKind;
use pagevault::format::keyslot::KeySlot;

use super::accepted::{
    KEY_FILE, List, NO_ID, config_fields, delta, frame, index_entry, log_fields, manifest_fields,
    minimal_manifest, page_pack, record, slot, snapshots, text, unlocker,
};
use super::craft::{
    bech32, body_entry, body_of, counted, edited, extended, header, items, keys, list, object, salt, sealed,
    unsealed, unsealed_header, varint, with, with_trailer,
};
use super::{Vector, What};

const DAMAGED: &str = "damaged";
const NEWER: &str = "newer";

/// What is wrong with the parts that all objects share, shown on a log object.
fn envelopes() -> Vec<Vector> {
    let kind = ObjectKind::Log;
    let body = list(&log_fields(&[]));
    let good = sealed(kind, "refused-envelope", &body);
    let info = body_of(&good);
    let (sealed_len, plain_len, codec) =
        (u64::from(info.sealed_len), u64::from(info.plain_len), u8::from(info.compressed));
    let right = || body_entry(sealed_len, plain_len, codec);
    let at = |offset: usize, value: u8| edited(&good, |bytes| bytes[offset] = value);
    let trailer = |entries: &[(u64, Vec<u8>)]| with_trailer(&good, entries);
    let end = |edit: fn(&mut Vec<u8>)| edited(&good, edit);
    let head = header(kind, "refused-envelope");
    // The header's own seal is of no help: whatever it says must be understood before a key can be derived.
    let extension = |extension: &[u8]| [extended(head.clone(), 0, extension), good[72..].to_vec()].concat();
    let no_records = edited(&good, |bytes| {
        bytes.insert(72, 0);
    });
    [
        (DAMAGED, "magic", "another first byte", at(0, 0x88)),
        (
            DAMAGED,
            "magic-text-mode",
            "a line end changed in transfer",
            edited(&good, |bytes| _ = bytes.remove(4)),
        ),
        (NEWER, "version-2", "format version 2", at(8, 2)),
        (NEWER, "version-0", "format version 0", at(8, 0)),
        (NEWER, "kind-8", "an unknown kind", at(9, 8)),
        (DAMAGED, "kind-5", "another kind than is expected here", at(9, 5)),
        (NEWER, "flag-0", "an unknown critical flag", at(10, 1)),
        (NEWER, "flag-7", "the last critical flag", at(10, 0x80)),
        (DAMAGED, "flag-8", "an ignorable flag that the object's keys were not derived with", at(11, 1)),
        (DAMAGED, "epoch-0", "a sealed object has an epoch", at(12, 0)),
        (DAMAGED, "epoch-2", "an epoch that the keyring lacks", at(12, 2)),
        (DAMAGED, "vault", "another vault's id", at(16, 0)),
        (DAMAGED, "salt", "another salt", edited(&good, |bytes| bytes[40] ^= 1)),
        (DAMAGED, "source-0", "a kind that is sealed, unsealed", at(64, 0)),
        (NEWER, "source-2", "keys wrapped for recipients", at(64, 2)),
        (NEWER, "suite-2", "an unknown cipher suite", at(65, 2)),
        (
            DAMAGED,
            "extension-added",
            "an extension that the keys were not derived with",
            extension(&list(&[(1, vec![])])),
        ),
        (
            NEWER,
            "extension-even",
            "an unknown even field in the header extension",
            extension(&list(&[(2, vec![])])),
        ),
        (DAMAGED, "extension-rest", "bytes behind the fields of the extension", extension(&[0, 0])),
        (DAMAGED, "extension-long", "an extension longer than the object", at(67, 0xFF)),
        (DAMAGED, "reserved", "reserved bytes that are not zero", at(70, 1)),
        (DAMAGED, "empty", "no byte at all", Vec::new()),
        (DAMAGED, "header-only", "nothing but a header", head.clone()),
        (DAMAGED, "cut", "the last byte is gone", end(|bytes| _ = bytes.pop())),
        (DAMAGED, "longer", "a byte too many", end(|bytes| bytes.push(0))),
        (DAMAGED, "end-magic", "another last byte", end(|bytes| *bytes.last_mut().unwrap() = b'X')),
        (
            DAMAGED,
            "trailer-beyond",
            "a trailer that begins before the object does",
            end(|bytes| {
                let at = bytes.len() - 8;
                bytes[at..at + 4].copy_from_slice(&0xFFFFu32.to_le_bytes());
            }),
        ),
        (
            DAMAGED,
            "trailer-limit",
            "a trailer above its limit",
            end(|bytes| {
                let at = bytes.len() - 8;
                bytes[at..at + 4].copy_from_slice(&0x0100_0001u32.to_le_bytes());
            }),
        ),
        (DAMAGED, "trailer-none", "a trailer without entries", trailer(&[])),
        (DAMAGED, "trailer-descending", "entries in descending order", trailer(&[(3, vec![]), right()])),
        (DAMAGED, "trailer-twice", "an entry twice", trailer(&[right(), right()])),
        (NEWER, "trailer-even", "an unknown even entry", trailer(&[right(), (8, vec![])])),
        (DAMAGED, "trailer-checksum", "a checksum where none belongs", trailer(&[right(), (4, vec![0; 32])])),
        (
            NEWER,
            "body-codec",
            "an unknown codec of the body",
            trailer(&[body_entry(sealed_len, plain_len, 2)]),
        ),
        (
            DAMAGED,
            "body-codec-lie",
            "the other codec",
            trailer(&[body_entry(sealed_len, plain_len, 1 - codec)]),
        ),
        (
            DAMAGED,
            "body-plain-lie",
            "another plain length",
            trailer(&[body_entry(sealed_len, plain_len + 1, codec)]),
        ),
        (
            DAMAGED,
            "body-plain-limit",
            "a plain length above the limit",
            trailer(&[body_entry(sealed_len, 0x0400_0001, codec)]),
        ),
        (
            DAMAGED,
            "body-short",
            "a body that does not begin at the header",
            trailer(&[body_entry(sealed_len - 1, plain_len, codec)]),
        ),
        (
            DAMAGED,
            "body-long",
            "a body that begins inside the header",
            trailer(&[body_entry(sealed_len + 1, plain_len, codec)]),
        ),
        (
            DAMAGED,
            "body-rest",
            "bytes behind the body's lengths",
            trailer(&[(2, [right().1, vec![0]].concat())]),
        ),
        (DAMAGED, "records-in-log", "a record in an object that has none", no_records),
        (DAMAGED, "ciphertext", "a bit of the body", edited(&good, |bytes| bytes[80] ^= 1)),
        (DAMAGED, "tag", "a bit of the body's tag", {
            edited(&good, |bytes| bytes[72 + usize::try_from(sealed_len).unwrap() - 1] ^= 0x80)
        }),
    ]
    .into_iter()
    .map(|(expected, name, shows, bytes)| object(expected, kind, &format!("no-{name}"), shows, bytes))
    .collect()
}

/// What is wrong with a field list, shown in the body of a log object.
fn field_lists() -> Vec<Vector> {
    let kind = ObjectKind::Log;
    let good = log_fields(&[]);
    let body = |fields: &List| list(fields);
    let swapped = edited(&list(&good), |bytes| {
        bytes.clear();
        bytes.extend(list(&[
            good[1].clone(),
            good[0].clone(),
            good[2].clone(),
            good[3].clone(),
            good[4].clone(),
        ]));
    });
    [
        (DAMAGED, "list-descending", "fields in descending order", swapped),
        (DAMAGED, "list-twice", "a field twice", {
            list(&[
                good[0].clone(),
                good[0].clone(),
                good[1].clone(),
                good[2].clone(),
                good[3].clone(),
                good[4].clone(),
            ])
        }),
        (DAMAGED, "list-rest", "a byte behind the last field", [list(&good), vec![0]].concat()),
        (DAMAGED, "list-short", "fewer fields than said", edited(&list(&good), |bytes| bytes[0] += 1)),
        (DAMAGED, "list-empty", "no bytes, so not even a number of fields", Vec::new()),
        (
            DAMAGED,
            "list-257",
            "257 fields",
            list(&(0..257).map(|tag| (2 * tag + 1, vec![])).collect::<Vec<_>>()),
        ),
        (DAMAGED, "list-count-bomb", "2^64 - 1 fields", [vec![0xFD], vec![0xFF; 8]].concat()),
        (
            DAMAGED,
            "list-length-bomb",
            "a field of 2^64 - 1 bytes",
            [vec![1, 2, 0xFD], vec![0xFF; 8]].concat(),
        ),
        (DAMAGED, "list-wide-tag", "a tag above 65,535", [vec![1, 0xFC, 1, 0, 1, 0, 0]].concat()),
        (DAMAGED, "list-128-bit", "a number of sixteen bytes", [vec![0xFE], vec![0; 16]].concat()),
        (NEWER, "list-even", "an unknown even field", body(&with(&good, &[(12, Some(vec![]))]))),
        (DAMAGED, "value-rest", "a byte behind a value", body(&with(&good, &[(4, Some(vec![2, 0]))]))),
        (DAMAGED, "value-short", "a value that ends early", body(&with(&good, &[(2, Some(vec![0x88; 15]))]))),
        (DAMAGED, "items-bomb", "2^60 items in a list", {
            body(&with(&good, &[(10, Some([vec![0xFD], (1u64 << 60).to_le_bytes().to_vec()].concat()))]))
        }),
    ]
    .into_iter()
    .map(|(expected, name, shows, body)| {
        let name = format!("no-{name}");
        let bytes = sealed(kind, &name, &body);
        object(expected, kind, &name, shows, bytes)
    })
    .collect()
}

fn logs() -> Vec<Vector> {
    let kind = ObjectKind::Log;
    let lacking = [2, 4, 6, 8, 10].map(|tag| {
        (
            DAMAGED,
            format!("log-without-{tag}"),
            format!("field {tag} is missing"),
            with(&log_fields(&[]), &[(tag, None)]),
        )
    });
    let first = |sequence: u64, previous: u8| {
        with(&log_fields(&[]), &[(4, Some(varint(sequence))), (6, Some(vec![previous; 32]))])
    };
    let entries = |entries: &[(u64, List)]| log_fields(entries);
    let owned = |name: &str, shows: &str| (name.to_owned(), shows.to_owned());
    lacking
        .into_iter()
        .chain(
            [
                (DAMAGED, owned("log-sequence-0", "numbers begin at 1"), first(0, 0)),
                (DAMAGED, owned("log-first-previous", "the first has no previous"), first(1, 7)),
                (DAMAGED, owned("log-later-alone", "a later one has a previous"), first(2, 0)),
                (NEWER, owned("log-type-24", "an unknown even type of entry"), entries(&[(24, vec![])])),
                (NEWER, owned("log-entry-even", "an unknown even field in an entry"), {
                    entries(&[(4, vec![(2, items(&[])), (8, vec![])])])
                }),
                (DAMAGED, owned("log-entry-missing", "an entry without its list"), entries(&[(4, vec![])])),
                (DAMAGED, owned("log-reason", "a reason of 4,097 bytes"), {
                    entries(&[(6, vec![(1, counted(&[b'x'; 4097])), (2, items(&[]))])])
                }),
                (DAMAGED, owned("log-utf-8", "a reason that is not UTF-8"), {
                    entries(&[(6, vec![(1, counted(&[0xFF])), (2, items(&[]))])])
                }),
                (DAMAGED, owned("log-65537", "65,537 entries"), { entries(&vec![(101, vec![]); 65_537]) }),
            ]
            .map(|(expected, (name, shows), fields)| (expected, name, shows, fields)),
        )
        .map(|(expected, name, shows, fields)| {
            let name = format!("no-{name}");
            let bytes = sealed(kind, &name, &list(&fields));
            object(expected, kind, &name, &shows, bytes)
        })
        .collect()
}

fn manifests() -> Vec<Vector> {
    let kind = ObjectKind::Snapshots;
    let lacking = [2, 4, 6, 8, 10, 20].map(|tag| {
        let fields = with(&minimal_manifest(), &[(tag, None)]);
        (DAMAGED, format!("manifest-without-{tag}"), format!("field {tag} is missing"), fields)
    });
    let changed = |changes: &[(u64, Option<Vec<u8>>)]| with(&manifest_fields(), changes);
    let geometry = |size: u64, count: u64| (12, Some([varint(size), varint(count)].concat()));
    let content = |code: u8, len: u64| (10, Some([vec![code], varint(len)].concat()));
    let text = |tag: u64, len: usize| (tag, Some(counted(&vec![b'x'; len])));
    let root = |height: u8| (14, Some([vec![height], vec![0x44; 16]].concat()));
    lacking
        .into_iter()
        .chain(
            [
                (DAMAGED, "geometry-missing", "an image without page size", changed(&[(12, None)])),
                (
                    DAMAGED,
                    "geometry-of-document",
                    "a document with a page size",
                    changed(&[content(1, 100 * 4096)]),
                ),
                (
                    DAMAGED,
                    "page-size-513",
                    "no page size",
                    changed(&[geometry(513, 100), content(0, 51_300)]),
                ),
                (DAMAGED, "page-size-256", "a page size below 512", changed(&[geometry(256, 1600)])),
                (DAMAGED, "length", "a length that is not page size times count", changed(&[content(0, 1)])),
                (DAMAGED, "image-limit", "an image above 2^48 bytes", {
                    changed(&[(12, None), content(1, (1 << 48) + 1), root(5)])
                }),
                (DAMAGED, "height", "a height that the length does not have", changed(&[root(2)])),
                (DAMAGED, "root-missing", "no root above an image", changed(&[(14, None)])),
                (
                    DAMAGED,
                    "root-of-nothing",
                    "a root above nothing",
                    changed(&[geometry(4096, 0), content(0, 0), root(0)]),
                ),
                (DAMAGED, "name-empty", "an empty name", changed(&[text(4, 0)])),
                (DAMAGED, "name-long", "a name of 4,097 bytes", changed(&[text(4, 4097)])),
                (DAMAGED, "host-long", "a host name of 4,097 bytes", changed(&[text(1, 4097)])),
                (DAMAGED, "path-long", "a path of 32,769 bytes", changed(&[text(3, 32_769)])),
                (DAMAGED, "description-long", "a description of 65,537 bytes", changed(&[text(17, 65_537)])),
                (DAMAGED, "tags-1025", "1,025 tags", changed(&[(19, Some(items(&vec![vec![0, 0]; 1025])))])),
                (
                    DAMAGED,
                    "tables-1025",
                    "1,025 required tables",
                    changed(&[(21, Some(items(&vec![vec![0]; 1025])))]),
                ),
                (DAMAGED, "tag-long", "a tag of 4,097 bytes", {
                    changed(&[(19, Some(items(&[[counted(&[b'x'; 4097]), vec![0]].concat()])))])
                }),
                (
                    DAMAGED,
                    "name-utf-8",
                    "a name that is not UTF-8",
                    changed(&[(4, Some(counted(&[0xC3, 0x28])))]),
                ),
                (NEWER, "kind-5", "an unknown kind of snapshot", changed(&[(8, Some(vec![5]))])),
                (NEWER, "content-2", "an unknown content", changed(&[content(2, 100 * 4096)])),
                (NEWER, "even", "an unknown even field", changed(&[(22, Some(vec![]))])),
            ]
            .map(|(expected, name, shows, fields)| {
                (expected, format!("manifest-{name}"), shows.to_owned(), fields)
            }),
        )
        .map(|(expected, name, shows, fields)| {
            let name = format!("no-{name}");
            let bytes = sealed(kind, &name, &snapshots(&[fields]));
            object(expected, kind, &name, &shows, bytes)
        })
        .collect()
}

/// A pack with one good record of this plaintext and any directory.
fn pack_with(kind: ObjectKind, name: &str, plain: &[u8], directory: &List) -> Vec<u8> {
    let mut sealer = ObjectSealer::with_salt(&keys(), kind, salt(name)).unwrap();
    sealer.push(record(Class::Page, plain, Encoding::Plain), plain).unwrap();
    sealer.finish(&list(directory)).unwrap()
}

fn packs() -> Vec<Vector> {
    let (page, metadata) = (ObjectKind::PagePack, ObjectKind::MetadataPack);
    let plain = b"twenty bytes of page";
    let id = keys().current().unwrap().chunk_id(Class::Page, plain).0.to_vec();
    let good: List = vec![
        (2, varint(1)),
        (4, id.clone()),
        (6, vec![0]),
        (8, vec![0]),
        (10, vec![0]),
        (12, varint(20)),
        (14, varint(36)),
        (16, vec![]),
    ];
    let delta_of = |base: Vec<u8>, depth: u8| {
        with(&good, &[(8, Some(vec![2])), (10, Some(vec![depth])), (16, Some(base))])
    };
    let one = |tag: u64, value: Vec<u8>| with(&good, &[(tag, Some(value))]);
    let mut vectors: Vec<Vector> = [
        (DAMAGED, page, "sum", "stored lengths that leave a rest", one(14, varint(35))),
        (DAMAGED, page, "sum-long", "stored lengths beyond the body", {
            with(&good, &[(14, Some(varint(37))), (12, Some(varint(21)))])
        }),
        (DAMAGED, page, "lost", "a directory of no record over one", {
            vec![
                (2, varint(0)),
                (4, vec![]),
                (6, vec![]),
                (8, vec![]),
                (10, vec![]),
                (12, vec![]),
                (14, vec![]),
                (16, vec![]),
            ]
        }),
        (DAMAGED, page, "count-bomb", "1,048,577 records", one(2, varint(1_048_577))),
        (DAMAGED, page, "ids-short", "a column of ids too short", one(4, id[..15].to_vec())),
        (DAMAGED, page, "classes-long", "a column of classes too long", one(6, vec![0, 0])),
        (DAMAGED, page, "lengths-rest", "a column of lengths with a rest", one(12, vec![20, 0])),
        (
            DAMAGED,
            page,
            "base-missing",
            "a delta without a base",
            with(&good, &[(8, Some(vec![2])), (10, Some(vec![1]))]),
        ),
        (DAMAGED, page, "base-needless", "a base without a delta", one(16, vec![1; 16])),
        (DAMAGED, page, "base-itself", "a delta against itself", delta_of(id.clone(), 1)),
        (DAMAGED, page, "depth-0", "a delta of depth 0", delta_of(vec![1; 16], 0)),
        (DAMAGED, page, "depth-9", "a delta of depth 9", delta_of(vec![1; 16], 9)),
        (DAMAGED, page, "depth-of-plain", "a depth without a delta", one(10, vec![1])),
        (DAMAGED, page, "node", "a node in a pack of pages", one(6, vec![1])),
        (DAMAGED, metadata, "page", "a page in a pack of metadata", good.clone()),
        (NEWER, page, "class-9", "an unknown class", one(6, vec![9])),
        (NEWER, page, "codec-3", "an unknown codec", one(8, vec![3])),
        (DAMAGED, page, "plain-limit", "a page of 65,537 bytes", {
            with(&good, &[(12, Some(varint(65_537))), (14, Some(varint(65_553)))])
        }),
        (DAMAGED, page, "plain-stored", "as it is, and yet of another length", one(12, varint(19))),
        (
            DAMAGED,
            page,
            "stored-short",
            "a record shorter than a tag",
            with(&good, &[(12, Some(vec![0])), (14, Some(varint(15)))]),
        ),
        (NEWER, page, "even", "an unknown even column", one(18, vec![])),
    ]
    .into_iter()
    .map(|(expected, kind, name, shows, directory)| {
        let name = format!("no-pack-{name}");
        let bytes = pack_with(kind, &name, plain, &directory);
        object(expected, kind, &name, shows, bytes)
    })
    .collect();
    vectors.extend(records());
    vectors
}

/// Packs that open, and of whose records some do not.
fn records() -> Vec<Vector> {
    let kind = ObjectKind::PagePack;
    let vector = |name: &str, shows: &str, bytes| object("ok", kind, name, shows, bytes);
    let sealer = |name: &str| ObjectSealer::with_salt(&keys(), kind, salt(name)).unwrap();
    let one = |name: &str, make: &dyn Fn(&mut ObjectSealer)| {
        let mut sealer = sealer(name);
        make(&mut sealer);
        sealer.finish_pack().unwrap().0
    };
    let (plain, other) = (text(5000), b"other bytes".repeat(100));
    let dictionary = [&[0x37, 0xA4, 0x30, 0xEC][..], &text(4000)].concat();
    let against = |base: &[u8]| {
        let base = keys().current().unwrap().chunk_id(Class::Page, base);
        record(Class::Page, &plain, Encoding::Delta { base, depth: 1 })
    };
    let swapped = edited(&page_pack("record-swapped").finish_pack().unwrap().0, |bytes| {
        // The first record has 18 bytes and a tag; its bytes come after those of the second now.
        bytes[72..72 + 200].rotate_left(34);
    });
    vec![
        vector("record-flipped", "a bit of the first record", {
            edited(&page_pack("record-flipped").finish_pack().unwrap().0, |bytes| bytes[72] ^= 1)
        }),
        vector("record-swapped", "records out of their places", swapped),
        vector(
            "record-wrong-id",
            "a plaintext that has not its id",
            one("record-wrong-id", &|sealer| {
                let wrong = pagevault::format::directory::Record {
                    id: NO_ID,
                    ..record(Class::Page, &plain, Encoding::Zstd)
                };
                sealer.push(wrong, &frame(&plain)).unwrap();
            }),
        ),
        vector(
            "record-no-frame",
            "no zstd frame",
            one("record-no-frame", &|sealer| {
                sealer.push(record(Class::Page, &plain, Encoding::Zstd), b"this is no frame").unwrap();
            }),
        ),
        vector(
            "record-frame-length",
            "a frame of another length",
            one("record-frame-length", &|sealer| {
                sealer.push(record(Class::Page, &plain, Encoding::Zstd), &frame(&plain[1..])).unwrap();
            }),
        ),
        vector(
            "record-frame-bomb",
            "a frame of 64 MiB",
            one("record-frame-bomb", &|sealer| {
                sealer.push(record(Class::Page, &plain, Encoding::Zstd), &frame(&vec![0; 64 << 20])).unwrap();
            }),
        ),
        vector(
            "record-base-unknown",
            "a delta whose base is nowhere",
            one("record-base-unknown", &|sealer| {
                sealer.push(against(&other), &delta(&plain, &other)).unwrap();
            }),
        ),
        vector(
            "record-base-wrong",
            "a delta against other bytes than it says",
            one("record-base-wrong", &|sealer| {
                sealer.push(record(Class::Page, &other, Encoding::Plain), &other).unwrap();
                sealer.push(against(&other), &delta(&plain, &plain)).unwrap();
            }),
        ),
        vector("record-base-dictionary", "a base that begins as a trained dictionary does", {
            one("record-base-dictionary", &|sealer| {
                sealer.push(record(Class::Page, &dictionary, Encoding::Plain), &dictionary).unwrap();
                sealer.push(against(&dictionary), &frame(&plain)).unwrap();
            })
        }),
    ]
}

fn indexes() -> Vec<Vector> {
    let kind = ObjectKind::Index;
    let entry = index_entry();
    let head = entry.windows(8).position(|window| window[1..4] == *b"PGV").unwrap();
    let len = |len: u64| {
        let (_, rest) = super::craft::varint_at(&entry, 32);
        [&entry[..32], &varint(len), &entry[rest..]].concat()
    };
    let entries = |entry: Vec<u8>| list(&[(2, items(&[entry]))]);
    [
        (DAMAGED, "without-packs", "field 2 is missing", list(&[])),
        (DAMAGED, "object-short", "an object shorter than its records", entries(len(100))),
        (DAMAGED, "object-limit", "an object above 64 MiB", entries(len((64 << 20) + 1))),
        (
            DAMAGED,
            "header-kind",
            "a header of another kind of pack",
            entries(edited(&entry, |bytes| bytes[head + 9] = 4)),
        ),
        (
            DAMAGED,
            "header-no-pack",
            "a header of no pack",
            entries(edited(&entry, |bytes| bytes[head + 9] = 7)),
        ),
        (
            NEWER,
            "header-version",
            "a header of version 2",
            entries(edited(&entry, |bytes| bytes[head + 8] = 2)),
        ),
        (DAMAGED, "directory-cut", "a directory that ends early", {
            entries(edited(&entry, |bytes| {
                let len = bytes.len();
                bytes.truncate(len - 1);
            }))
        }),
        (NEWER, "even", "an unknown even field", list(&[(2, items(&[])), (4, vec![])])),
    ]
    .into_iter()
    .map(|(expected, name, shows, body)| {
        let name = format!("no-index-{name}");
        let bytes = sealed(kind, &name, &body);
        object(expected, kind, &name, shows, bytes)
    })
    .collect()
}

fn configs() -> Vec<Vector> {
    let kind = ObjectKind::VaultConfig;
    let head = unsealed_header(kind);
    let good = unsealed(kind, &head, &list(&config_fields()));
    let changed =
        |changes: &[(u64, Option<Vec<u8>>)]| unsealed(kind, &head, &list(&with(&config_fields(), changes)));
    let trailer = pagevault::format::envelope::Parts::split(&good, None).unwrap().trailer;
    let (sum, mac) = (trailer.checksum.unwrap().to_vec(), trailer.mac.unwrap().to_vec());
    let set = |offset: usize, value: u8| {
        unsealed(kind, &edited(&head, |bytes| bytes[offset] = value), &list(&config_fields()))
    };
    [
        (DAMAGED, "checksum", "a bit of a field", edited(&good, |bytes| bytes[80] ^= 1)),
        (DAMAGED, "checksum-missing", "no checksum", with_trailer(&good, &[(6, mac.clone())])),
        (DAMAGED, "mac-missing", "no keyed checksum", with_trailer(&good, &[(4, sum.clone())])),
        (DAMAGED, "mac", "a keyed checksum by somebody without the key", {
            with_trailer(&good, &[(4, sum.clone()), (6, vec![1; 32])])
        }),
        (
            DAMAGED,
            "body-entry",
            "a sealed body",
            with_trailer(&good, &[body_entry(1, 1, 0), (4, sum), (6, mac)]),
        ),
        (NEWER, "chunk-size", "chunks of 4 KiB", changed(&[(2, Some(varint(4096)))])),
        (NEWER, "fan-out", "nodes of 128", changed(&[(4, Some(varint(128)))])),
        (NEWER, "id-length", "ids of 32 bytes", changed(&[(6, Some(vec![32]))])),
        (NEWER, "even", "an unknown even field", changed(&[(8, Some(vec![]))])),
        (DAMAGED, "without-2", "no chunk size", changed(&[(2, None)])),
        (DAMAGED, "tool-long", "a version of 4,097 bytes", changed(&[(3, Some(counted(&[b'x'; 4097])))])),
        (DAMAGED, "epoch", "an epoch in an unsealed object", set(12, 1)),
        (DAMAGED, "salt", "a salt in an unsealed object", set(40, 1)),
        (DAMAGED, "source", "a key source in an unsealed object", set(64, 1)),
    ]
    .into_iter()
    .map(|(expected, name, shows, bytes)| object(expected, kind, &format!("no-config-{name}"), shows, bytes))
    .collect()
}

fn slots() -> Vec<Vector> {
    let vector = |expected, name: &str, sort: &'static str, shows: &str, content: Vec<u8>| Vector {
        name: format!("no-slot-{name}"),
        what: What::Slot(sort, unlocker(sort).1),
        shows: shows.to_owned(),
        content,
        expected,
    };
    let kind = ObjectKind::KeySlot;
    let head = unsealed_header(kind);
    let fields = |slot: &KeySlot| -> List {
        let mut fields = vec![
            (2, vec![slot.kind.code()]),
            (4, slot.id.0.to_vec()),
            (6, slot.salt.to_vec()),
            (10, counted(&slot.sealed_keyring)),
            (12, slot.commitment.to_vec()),
        ];
        if let Some((memory, passes, lanes)) =
            slot.argon2.map(pagevault::format::keyslot::Argon2Params::values)
        {
            fields.push((8, [varint(memory.into()), varint(passes.into()), varint(lanes.into())].concat()));
        }
        with(&fields, &[])
    };
    let (passphrase, key_file, recovery) = (slot("passphrase"), slot("key-file"), slot("recovery-key"));
    let changed = |slot: &KeySlot, changes: &[(u64, Option<Vec<u8>>)]| {
        unsealed(kind, &head, &list(&with(&fields(slot), changes)))
    };
    let argon2 = |memory: u64, passes: u64, lanes: u64| {
        changed(&passphrase, &[(8, Some([varint(memory), varint(passes), varint(lanes)].concat()))])
    };
    let flipped = |tag: u64, offset: usize| {
        let value = fields(&key_file).into_iter().find(|(known, _)| *known == tag).unwrap().1;
        changed(&key_file, &[(tag, Some(edited(&value, |bytes| bytes[offset] ^= 1)))])
    };
    let good = key_file.encode().unwrap();
    vec![
        vector("wrong key", "other-sort", "key-file", "a key of another sort", recovery.encode().unwrap()),
        vector("wrong key", "kind-changed", "recovery-key", "another kind than it was made for", {
            changed(&KeySlot { kind: recovery.kind, ..key_file.clone() }, &[])
        }),
        vector("wrong key", "commitment", "key-file", "another commitment", flipped(12, 0)),
        vector("wrong key", "salt", "key-file", "another salt", flipped(6, 0)),
        vector("wrong key", "id", "key-file", "another slot id", flipped(4, 0)),
        vector("wrong key", "vault", "key-file", "another vault", {
            unsealed(kind, &edited(&head, |bytes| bytes[20] ^= 1), &list(&fields(&key_file)))
        }),
        vector(DAMAGED, "keyring", "key-file", "a bit of the sealed keyring", flipped(10, 20)),
        vector(DAMAGED, "header-flag", "key-file", "an ignorable flag that it was not sealed with", {
            unsealed(kind, &extended(head.clone(), 0x0100, &[]), &list(&fields(&key_file)))
        }),
        vector(DAMAGED, "checksum", "key-file", "a bit of the salt", edited(&good, |bytes| bytes[100] ^= 1)),
        vector(DAMAGED, "mac", "key-file", "a keyed checksum where none belongs", {
            let sum =
                pagevault::format::envelope::Parts::split(&good, None).unwrap().trailer.checksum.unwrap();
            with_trailer(&good, &[(4, sum.to_vec()), (6, vec![0; 32])])
        }),
        vector(
            NEWER,
            "kind-4",
            "key-file",
            "an unknown kind of slot",
            changed(&key_file, &[(2, Some(vec![4]))]),
        ),
        vector(NEWER, "even", "key-file", "an unknown even field", changed(&key_file, &[(14, Some(vec![]))])),
        vector(DAMAGED, "without-commitment", "key-file", "no commitment", changed(&key_file, &[(12, None)])),
        vector(DAMAGED, "keyring-long", "key-file", "a keyring of 16,385 bytes", {
            changed(&key_file, &[(10, Some(counted(&[0; 16_385])))])
        }),
        vector(
            DAMAGED,
            "argon2-missing",
            "passphrase",
            "a passphrase without Argon2id",
            changed(&passphrase, &[(8, None)]),
        ),
        vector(DAMAGED, "argon2-needless", "key-file", "Argon2id for a key file", {
            changed(&key_file, &[(8, Some([varint(8192), varint(1), varint(1)].concat()))])
        }),
        vector(DAMAGED, "argon2-memory", "passphrase", "Argon2id in 2 GiB", argon2(2 << 20, 1, 1)),
        vector(DAMAGED, "argon2-weak", "passphrase", "Argon2id in 4 MiB", argon2(4096, 3, 1)),
        vector(DAMAGED, "argon2-work", "passphrase", "Argon2id in 1 GiB, 9 times", argon2(1 << 20, 9, 1)),
        vector(DAMAGED, "argon2-passes-0", "passphrase", "Argon2id in no pass", argon2(8192, 0, 1)),
        vector(DAMAGED, "argon2-passes-33", "passphrase", "Argon2id in 33 passes", argon2(8192, 33, 1)),
        vector(DAMAGED, "argon2-lanes-0", "passphrase", "Argon2id in no lane", argon2(8192, 1, 0)),
        vector(DAMAGED, "argon2-lanes-17", "passphrase", "Argon2id in 17 lanes", argon2(8192, 1, 17)),
    ]
}

fn key_texts() -> Vec<Vector> {
    let vector = |name: &str, sort, shows: &str, text: String| Vector {
        name: format!("no-{name}"),
        what: What::KeyText(sort),
        shows: shows.to_owned(),
        content: text.into_bytes(),
        expected: "not a key",
    };
    let key = TextForm::KeyFile.print(&Secret32::new(KEY_FILE)).to_string();
    let swapped = {
        let mut digits: Vec<char> = key.chars().collect();
        digits.swap(10, 12);
        digits.into_iter().collect()
    };
    vec![
        vector("key-empty", "key-file", "nothing", String::new()),
        vector("key-comment", "key-file", "a comment only", "# pvkey1\n".to_owned()),
        vector("key-typing", "key-file", "two digits swapped", swapped),
        vector("key-cut", "key-file", "the last digit is gone", key[..key.len() - 1].to_owned()),
        vector("key-twice", "key-file", "two keys", format!("{key}\n{key}\n")),
        vector("key-mixed", "key-file", "a key of the other sort", unlocker("recovery-key").1),
        vector("recovery-mixed", "recovery-key", "a key of the other sort", key),
        vector(
            "key-bech32",
            "key-file",
            "the checksum of BIP-173 instead of BIP-350",
            bech32("pvkey", &KEY_FILE, 1),
        ),
    ]
}

pub(crate) fn vectors() -> Vec<Vector> {
    [envelopes(), field_lists(), logs(), manifests(), packs(), indexes(), configs(), slots(), key_texts()]
        .into_iter()
        .flatten()
        .collect()
}
