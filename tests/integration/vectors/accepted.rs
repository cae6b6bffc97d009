//! Objects that every reader of version 1 must understand.

use pagevault::chunk::Class;
use pagevault::crypto::keys::Keyring;
use pagevault::crypto::seal::ObjectSealer;
use pagevault::crypto::secret::{Passphrase, Secret32, TextForm};
use pagevault::crypto::unlock::{SlotNote, Unlocker};
use pagevault::format::directory::{Encoding, Record};
use pagevault::format::envelope::ObjectKind;
use pagevault::format::keyslot::{Argon2Params, KeySlot};
use pagevault::ids::{ChunkId, SlotId, VaultId};

use super::craft::{
    MASTER, TIME_US, VAULT, body_entry, body_of, counted, extended, header, items, keys, list, object, salt,
    sealed, signed, unsealed, unsealed_header, varint, with, with_trailer,
};
use super::{Vector, What};

pub(crate) const KEY_FILE: [u8; 32] = *b"the bytes of a key file of these";
pub(crate) const RECOVERY: [u8; 32] = *b"the bytes of a recovery key here";
pub(crate) const PASSPHRASE: &str = "correct horse, battery: stäple";

pub(crate) type List = Vec<(u64, Vec<u8>)>;

pub(crate) fn config_fields() -> List {
    vec![(1, signed(TIME_US)), (2, varint(65_536)), (3, counted(b"0.1.0")), (4, varint(256)), (6, vec![16])]
}

/// Every field there is.
pub(crate) fn manifest_fields() -> List {
    vec![
        (1, counted(b"laptop")),
        (2, vec![0x22; 16]),
        (3, counted(b"/srv/app/app.db")),
        (4, counted(b"app")),
        (5, vec![2]),
        (6, signed(TIME_US)),
        (7, varint(12)),
        (8, vec![3]),
        (9, varint(0x6A6A_6A6A)),
        (10, [vec![0], varint(100 * 4096)].concat()),
        (11, vec![0x33; 32]),
        (12, [varint(4096), varint(100)].concat()),
        (13, counted(b"3.50.0")),
        (14, [vec![1], vec![0x44; 16]].concat()),
        (15, counted(b"0.1.0")),
        (16, vec![0x55; 32]),
        (17, counted("vor dem Umzug".as_bytes())),
        (18, vec![0x66; 16]),
        (19, items(&[[counted(b"release"), counted(b"1.4")].concat()])),
        (20, vec![0x77; 16]),
        (21, items(&[counted(b"users"), counted(b"orders")])),
        (23, [varint(7), varint(1), varint(2), varint(3), varint(1)].concat()),
        (25, varint(123_456)),
        (27, [varint(40), varint(900)].concat()),
        (29, varint(17)),
    ]
}

pub(crate) fn minimal_manifest() -> List {
    manifest_fields().into_iter().filter(|(tag, _)| [2, 4, 6, 8, 10, 12, 14, 20].contains(tag)).collect()
}

pub(crate) fn snapshots(manifests: &[List]) -> Vec<u8> {
    list(&[(2, items(&manifests.iter().map(|manifest| counted(&list(manifest))).collect::<Vec<_>>()))])
}

pub(crate) fn log_fields(entries: &[(u64, List)]) -> List {
    let entries: Vec<Vec<u8>> =
        entries.iter().map(|(number, payload)| [varint(*number), counted(&list(payload))].concat()).collect();
    vec![
        (2, vec![0x88; 16]),
        (4, varint(2)),
        (6, vec![0x99; 32]),
        (8, signed(TIME_US)),
        (10, items(&entries)),
    ]
}

fn every_log_entry() -> Vec<(u64, List)> {
    let snapshots = || (2, items(&[vec![0xA1; 16]]));
    let objects = || (2, items(&[vec![0xA2; 32], vec![0xA3; 32]]));
    vec![
        (2, vec![(2, items(&[[vec![0xA1; 16], vec![0x22; 16], vec![0xA4; 32]].concat()]))]),
        (4, vec![snapshots()]),
        (6, vec![(1, counted(b"too old")), snapshots()]),
        (8, vec![snapshots()]),
        (10, vec![snapshots()]),
        (12, vec![snapshots()]),
        (14, vec![objects(), (4, signed(TIME_US))]),
        (16, vec![objects()]),
        (18, vec![objects()]),
        (
            20,
            vec![
                (2, varint(3)),
                (4, vec![0xA5; 32]),
                (6, items(&[[vec![0xA6; 8], vec![0xA7; 32]].concat()])),
                (8, varint(1)),
            ],
        ),
        (22, vec![objects()]),
        (1, vec![objects(), (4, vec![2])]),
        (3, vec![(2, items(&[[vec![0xA1; 16], vec![1]].concat()]))]),
    ]
}

/// Text that compresses.
pub(crate) fn text(len: usize) -> Vec<u8> {
    (0u32..).flat_map(|line| format!("line {line} of a page; ").into_bytes()).take(len).collect()
}

pub(crate) fn record(class: Class, plain: &[u8], encoding: Encoding) -> Record {
    let id = keys().current().unwrap().chunk_id(class, plain);
    Record { id, class, encoding, plain_len: u32::try_from(plain.len()).unwrap(), stored_len: 0 }
}

pub(crate) fn frame(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 3).unwrap()
}

pub(crate) fn delta(plain: &[u8], base: &[u8]) -> Vec<u8> {
    zstd::bulk::Compressor::with_dictionary(3, base).unwrap().compress(plain).unwrap()
}

/// A pack of all three codecs: a page as it is, one compressed, and two deltas, of depth 1 and 2.
pub(crate) fn page_pack(name: &str) -> ObjectSealer {
    fill_page_pack(ObjectSealer::with_salt(&keys(), ObjectKind::PagePack, salt(name)).unwrap())
}

fn fill_page_pack(mut sealer: ObjectSealer) -> ObjectSealer {
    let full = text(65_536);
    let mut middle = full.clone();
    middle[1000..1010].copy_from_slice(b"ten bytes!");
    let mut newest = middle.clone();
    newest[60_000..60_004].copy_from_slice(b"four");
    let id = |plain: &[u8]| keys().current().unwrap().chunk_id(Class::Page, plain);
    sealer.push(record(Class::Page, b"a short last chunk", Encoding::Plain), b"a short last chunk").unwrap();
    sealer.push(record(Class::Page, &full, Encoding::Zstd), &frame(&full)).unwrap();
    let encoding = Encoding::Delta { base: id(&full), depth: 1 };
    sealer.push(record(Class::Page, &middle, encoding), &delta(&middle, &full)).unwrap();
    let encoding = Encoding::Delta { base: id(&middle), depth: 2 };
    sealer.push(record(Class::Page, &newest, encoding), &delta(&newest, &middle)).unwrap();
    sealer
}

fn metadata_pack(name: &str) -> Vec<u8> {
    let mut sealer = ObjectSealer::with_salt(&keys(), ObjectKind::MetadataPack, salt(name)).unwrap();
    for class in [Class::Node(1), Class::Node(2), Class::Node(8)] {
        let plain = vec![0xB0 + class.code(); 32];
        sealer.push(record(class, &plain, Encoding::Plain), &plain).unwrap();
    }
    let manifest = list(&manifest_fields());
    sealer.push(record(Class::Manifest, &manifest, Encoding::Zstd), &frame(&manifest)).unwrap();
    sealer.finish_pack().unwrap().0
}

pub(crate) fn index_entry() -> Vec<u8> {
    let (bytes, directory) = page_pack("page-pack").finish_pack().unwrap();
    let name = pagevault::ids::ObjectName::of(&bytes).0;
    let head = header(ObjectKind::PagePack, "page-pack");
    [name.to_vec(), varint(bytes.len() as u64), counted(&head), counted(&directory.encode().unwrap())]
        .concat()
}

pub(crate) fn unlocker(sort: &str) -> (Unlocker, String) {
    match sort {
        "passphrase" => (Unlocker::Passphrase(Passphrase::new(PASSPHRASE.into())), PASSPHRASE.to_owned()),
        "key-file" => {
            let key = Secret32::new(KEY_FILE);
            (Unlocker::KeyFile(key.clone()), TextForm::KeyFile.print(&key).to_string())
        }
        _ => {
            let key = Secret32::new(RECOVERY);
            (Unlocker::RecoveryKey(key.clone()), TextForm::RecoveryKey.print(&key).to_string())
        }
    }
}

pub(crate) fn slot(sort: &str) -> KeySlot {
    let note = SlotNote { label: Some("label".to_owned()), created_at_us: Some(TIME_US) };
    let keyring = Keyring::from_master_key(Secret32::new(MASTER));
    let mut id = [0; 8];
    id.copy_from_slice(&salt(sort)[..8]);
    let argon2 = Argon2Params::new(8192, 2, 2).unwrap();
    unlocker(sort).0.make_slot_with(VaultId(VAULT), &keyring, argon2, &note, SlotId(id), salt(sort)).unwrap()
}

fn slots() -> Vec<Vector> {
    let vector = |name: &str, sort: &'static str, shows: &str, slot: &KeySlot| {
        let what = What::Slot(sort, unlocker(sort).1);
        let content = slot.encode().unwrap();
        Vector { name: name.to_owned(), what, shows: shows.to_owned(), content, expected: "ok" }
    };
    let mut made: Vec<Vector> = ["passphrase", "key-file", "recovery-key"]
        .map(|sort| vector(&format!("slot-{sort}"), sort, "a key slot of this sort opens", &slot(sort)))
        .into();
    let bare = KeySlot { note: None, ..slot("key-file") };
    made.push(vector("slot-without-note", "key-file", "the note may be absent", &bare));
    made
}

fn key_texts() -> Vec<Vector> {
    let text = |name: &str, sort, shows: &str, text: String| Vector {
        name: name.to_owned(),
        what: What::KeyText(sort),
        shows: shows.to_owned(),
        content: text.into_bytes(),
        expected: "ok",
    };
    let (key, recovery) = (unlocker("key-file").1, unlocker("recovery-key").1);
    vec![
        text("key-file", "key-file", "comments, one line", format!("# a key of pagevault\n{key}\n")),
        text("key-file-capitals", "key-file", "case does not matter", key.to_uppercase()),
        text(
            "key-file-two-lines",
            "key-file",
            "nor do line ends",
            format!("{}\r\n  {}\n", &key[..30], &key[30..]),
        ),
        text("recovery-key", "recovery-key", "as it is printed", recovery.clone()),
        text("recovery-key-spaces", "recovery-key", "hyphens, spaces and case do not matter", {
            recovery.replace('-', " ").to_lowercase()
        }),
    ]
}

fn envelopes() -> Vec<Vector> {
    let kind = ObjectKind::Log;
    let body = list(&log_fields(&[]));
    let plain = sealed(kind, "log-odd-trailer", &body);
    let info = body_of(&plain);
    let entry = || body_entry(info.sealed_len.into(), info.plain_len.into(), u8::from(info.compressed));
    let odd = with_trailer(&plain, &[(1, vec![0; 100]), entry(), (3, vec![7; 40]), (255, vec![])]);
    let head = extended(header(kind, "log-extended"), 0xFF00, &list(&[(3, b"newer".to_vec())]));
    let extended_log = ObjectSealer::with_header(&keys(), head).unwrap().finish(&body).unwrap();
    let head =
        extended(header(ObjectKind::PagePack, "page-pack-extended"), 0x0100, &list(&[(1, vec![1; 300])]));
    let pack = fill_page_pack(ObjectSealer::with_header(&keys(), head).unwrap()).finish_pack().unwrap().0;
    let config = extended(unsealed_header(ObjectKind::VaultConfig), 0x8000, &list(&[(5, vec![])]));
    vec![
        object(
            "ok",
            kind,
            "log-odd-trailer",
            "padding, error correction and an unknown odd entry are ignored",
            odd,
        ),
        object(
            "ok",
            kind,
            "log-extended",
            "ignorable flags and an odd field in the header extension",
            extended_log,
        ),
        object("ok", ObjectKind::PagePack, "page-pack-extended", "records begin after the extension", pack),
        object(
            "ok",
            ObjectKind::VaultConfig,
            "config-extended",
            "ignorable flags and an extension in an unsealed object",
            unsealed(ObjectKind::VaultConfig, &config, &list(&config_fields())),
        ),
    ]
}

pub(crate) fn vectors() -> Vec<Vector> {
    let config = |name: &str, shows: &str, fields: &List| {
        let kind = ObjectKind::VaultConfig;
        object("ok", kind, name, shows, unsealed(kind, &unsealed_header(kind), &list(fields)))
    };
    let index = |name: &str, shows: &str, fields: &[(u64, Vec<u8>)]| {
        object("ok", ObjectKind::Index, name, shows, sealed(ObjectKind::Index, name, &list(fields)))
    };
    let published = |name: &str, shows: &str, manifests: &[List]| {
        let bytes = sealed(ObjectKind::Snapshots, name, &snapshots(manifests));
        object("ok", ObjectKind::Snapshots, name, shows, bytes)
    };
    let log = |name: &str, shows: &str, fields: &List| {
        object("ok", ObjectKind::Log, name, shows, sealed(ObjectKind::Log, name, &list(fields)))
    };
    let pack = |name: &str, kind, shows: &str, bytes| object("ok", kind, name, shows, bytes);
    let (page, metadata) = (ObjectKind::PagePack, ObjectKind::MetadataPack);
    let long = |tag: u64, len: usize| (tag, Some(counted(&vec![b'x'; len])));
    let document = with(&minimal_manifest(), &[(10, Some([vec![1], varint(5)].concat())), (12, None)]);
    let empty = with(
        &minimal_manifest(),
        &[(10, Some(vec![0, 0])), (12, Some([varint(512), varint(0)].concat())), (14, None)],
    );
    let mut vectors = vec![
        config("config", "every field", &config_fields()),
        config("config-bare", "only what must be there", &with(&config_fields(), &[(1, None), (3, None)])),
        config("config-odd", "an unknown odd field", &with(&config_fields(), &[(7, Some(vec![1, 2]))])),
        pack(
            "page-pack",
            page,
            "every codec, deltas of depth 1 and 2",
            page_pack("page-pack").finish_pack().unwrap().0,
        ),
        pack("page-pack-empty", page, "no record at all", {
            ObjectSealer::with_salt(&keys(), page, salt("page-pack-empty")).unwrap().finish_pack().unwrap().0
        }),
        pack(
            "metadata-pack",
            metadata,
            "nodes of three levels and a manifest",
            metadata_pack("metadata-pack"),
        ),
        index(
            "index",
            "a pack, and an index that it replaces",
            &[(2, items(&[index_entry()])), (5, items(&[vec![0xC1; 32]]))],
        ),
        index("index-empty", "no pack", &[(2, items(&[]))]),
        index("index-odd", "an unknown odd field", &[(2, items(&[])), (9, vec![1])]),
        published("snapshots", "every field of a manifest", &[manifest_fields()]),
        published("snapshots-minimal", "only what must be there", &[minimal_manifest()]),
        published(
            "snapshots-several",
            "several manifests, one of an empty image, one of a document",
            &[manifest_fields(), empty, document],
        ),
        published("snapshots-none", "none at all", &[]),
        published(
            "snapshots-odd",
            "reserved and unknown odd fields",
            &[with(
                &minimal_manifest(),
                &[(5, Some(vec![77])), (31, Some(list(&[]))), (33, Some(list(&[]))), (1001, Some(vec![9]))],
            )],
        ),
        published(
            "snapshots-limits",
            "the longest strings",
            &[with(&minimal_manifest(), &[long(1, 4096), long(3, 32_768), long(4, 4096), long(17, 65_536)])],
        ),
        log("log", "every type of entry", &log_fields(&every_log_entry())),
        log(
            "log-first",
            "the first of a chain",
            &with(&log_fields(&[]), &[(4, Some(varint(1))), (6, Some(vec![0; 32]))]),
        ),
        log(
            "log-odd",
            "an unknown odd type, an unknown odd field in an entry",
            &log_fields(&[(101, vec![(2, vec![1])]), (4, vec![(2, items(&[])), (3, vec![1])])]),
        ),
        log(
            "log-long-numbers",
            "numbers need not be in their shortest form",
            &with(&log_fields(&[]), &[(4, Some(vec![0xFD, 2, 0, 0, 0, 0, 0, 0, 0]))]),
        ),
    ];
    vectors.extend(slots());
    vectors.extend(key_texts());
    vectors.extend(envelopes());
    vectors
}

/// For wrong ids.
pub(crate) const NO_ID: ChunkId = ChunkId([0xEE; 16]);
