//! Test vectors of the format: objects and key texts under `tests/data/vectors`, what each must give, and more of what
//! must be refused. Any reader can run them; `docs/recover.py --vectors` is another one.
//!
//! They stay for ever: `cargo test -- --ignored vectors::write` writes them anew only when version 1 itself changes.

mod accepted;
mod craft;
mod refused;

use std::collections::BTreeSet;
use std::path::PathBuf;

use pagevault::codec::Decoder;
use pagevault::crypto::CryptoError;
use pagevault::crypto::keys::VaultKeys;
use pagevault::crypto::seal::{RecordOpener, open_body, open_directory};
use pagevault::crypto::secret::{Passphrase, TextForm};
use pagevault::crypto::unlock::{SlotNote, Unlocker};
use pagevault::format::FormatError;
use pagevault::format::directory::{Encoding, Record};
use pagevault::format::envelope::{ObjectKind, Parts};
use pagevault::format::index::Index;
use pagevault::format::keyslot::KeySlot;
use pagevault::format::log::Log;
use pagevault::format::manifest::{Manifest, decode_snapshots};
use pagevault::format::vault_config::VaultConfig;
use pagevault::ids::{ChunkId, ObjectName, to_hex};
use serde_json::{Map, Value, json};

use self::craft::{MASTER, VAULT, keys, varint_at};

/// One vector before it is written.
pub(crate) struct Vector {
    name: String,
    what: What,
    /// The point it makes.
    shows: String,
    content: Vec<u8>,
    /// What its maker expects: `ok`, `damaged`, `newer`, `wrong key` or `not a key`.
    expected: &'static str,
}

/// How a vector is read.
#[derive(Clone)]
pub(crate) enum What {
    /// An object of this kind, with the vault's keys.
    Object(ObjectKind),
    /// A key slot, opened with this.
    Slot(&'static str, String),
    /// The text of a key.
    KeyText(&'static str),
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/vectors")
}

fn class(error: &FormatError) -> &'static str {
    if error.is_newer() { "newer" } else { "damaged" }
}

fn refusal(error: CryptoError) -> Value {
    match error {
        CryptoError::Format(error) => json!({"outcome": class(&error), "says": error.to_string()}),
        error => json!({"outcome": "damaged", "says": error.to_string()}),
    }
}

/// Hexadecimal, or the hash of what is long.
fn show(bytes: &[u8]) -> String {
    if bytes.len() <= 64 { to_hex(bytes) } else { format!("blake3:{}", ObjectName::of(bytes)) }
}

/// The fields of an accepted list.
fn fields(list: &[u8]) -> Value {
    let (count, mut at) = varint_at(list, 0);
    let mut fields = Map::new();
    for _ in 0..count {
        let (tag, after_tag) = varint_at(list, at);
        let (len, start) = varint_at(list, after_tag);
        at = start + usize::try_from(len).unwrap();
        fields.insert(tag.to_string(), json!(show(&list[start..at])));
    }
    assert_eq!(at, list.len());
    Value::Object(fields)
}

/// What this crate makes of a vector.
fn read(what: &What, content: &[u8]) -> Value {
    match what {
        What::Object(kind) => read_object(&keys(), *kind, content).unwrap_or_else(refusal),
        What::Slot(sort, secret) => read_slot(sort, secret, content).unwrap_or_else(refusal),
        What::KeyText(sort) => match form(sort).read(std::str::from_utf8(content).unwrap()) {
            Ok(secret) => json!({"outcome": "ok", "secret": to_hex(secret.expose())}),
            Err(error) => json!({"outcome": "not a key", "says": error.to_string()}),
        },
    }
}

fn form(sort: &str) -> TextForm {
    if sort == "key-file" { TextForm::KeyFile } else { TextForm::RecoveryKey }
}

fn read_object(keys: &VaultKeys, kind: ObjectKind, bytes: &[u8]) -> Result<Value, CryptoError> {
    let body = if kind.is_sealed() {
        open_body(keys, kind, bytes)?.1
    } else {
        Parts::split(bytes, Some(kind))?.body.to_vec()
    };
    let mut outcome = json!({"outcome": "ok"});
    match kind {
        ObjectKind::VaultConfig => drop(VaultConfig::decode(bytes, Some(&|bytes| keys.config_mac(bytes)))?),
        ObjectKind::KeySlot => drop(KeySlot::decode(bytes)?),
        ObjectKind::PagePack | ObjectKind::MetadataPack => outcome["records"] = read_records(keys, bytes)?,
        ObjectKind::Index => drop(Index::decode(&body)?),
        ObjectKind::Log => drop(Log::decode(&body)?),
        ObjectKind::Snapshots => {
            let epoch = keys.current()?;
            let mut snapshots = Vec::new();
            for manifest in decode_snapshots(&body)? {
                Manifest::decode(&manifest)?;
                let id = epoch.snapshot_id(&manifest).to_string();
                snapshots.push(json!({"id": id, "fields": fields(&manifest)}));
            }
            outcome["snapshots"] = json!(snapshots);
        }
    }
    outcome["fields"] = fields(&body);
    Ok(outcome)
}

/// Every record down to its plaintext; bases are looked for among the records before.
fn read_records(keys: &VaultKeys, bytes: &[u8]) -> Result<Value, CryptoError> {
    let (header, directory) = open_directory(keys, bytes)?;
    let parts = Parts::split(bytes, None)?;
    let opener = RecordOpener::new(keys, parts.header_bytes)?;
    let mut plains: Vec<(ChunkId, Vec<u8>)> = Vec::new();
    let mut records = Vec::new();
    let mut rest = parts.records;
    for (number, record) in (0u32..).zip(directory.records()) {
        let (sealed, later) = rest.split_at(record.stored_len as usize);
        rest = later;
        let plain = read_record(&opener, record, number, sealed, &plains);
        let plain = plain.filter(|plain| keys.is_chunk(header.epoch, record.class, record.id, plain));
        records.push(match &plain {
            Some(plain) => json!({"id": record.id.to_string(), "plain": show(plain)}),
            None => json!({"id": record.id.to_string(), "plain": null}),
        });
        plains.extend(plain.map(|plain| (record.id, plain)));
    }
    Ok(json!(records))
}

fn read_record(
    opener: &RecordOpener,
    record: &Record,
    number: u32,
    sealed: &[u8],
    plains: &[(ChunkId, Vec<u8>)],
) -> Option<Vec<u8>> {
    let mut encoded = sealed.to_vec();
    opener.open(record, number, &mut encoded).ok()?;
    let base = match record.encoding {
        Encoding::Delta { base, .. } => Some(&plains.iter().find(|(id, _)| *id == base)?.1[..]),
        Encoding::Plain | Encoding::Zstd => None,
    };
    let mut plain = Vec::new();
    let len = record.plain_len as usize;
    Decoder::new().decode(record.encoding, &encoded, base, len, &mut plain).then_some(plain)
}

fn read_slot(sort: &str, secret: &str, content: &[u8]) -> Result<Value, CryptoError> {
    let unlocker = match sort {
        "passphrase" => Unlocker::Passphrase(Passphrase::new(secret.as_bytes().to_vec())),
        "key-file" => Unlocker::KeyFile(TextForm::KeyFile.read(secret).unwrap()),
        _ => Unlocker::RecoveryKey(TextForm::RecoveryKey.read(secret).unwrap()),
    };
    let slot = KeySlot::decode(content)?;
    let Some(keyring) = unlocker.open(&slot)? else { return Ok(json!({"outcome": "wrong key"})) };
    let master = to_hex(keyring.master_key(1)?.expose());
    let note = SlotNote::open(&slot, &keyring)?;
    Ok(json!({"outcome": "ok", "master_key": master, "label": note.label, "created_at": note.created_at_us}))
}

fn entry(vector: &Vector) -> (String, Value) {
    let ending = if matches!(vector.what, What::KeyText(_)) { "txt" } else { "pv" };
    let file = format!("{}.{ending}", vector.name);
    let mut entry =
        json!({"file": file, "shows": vector.shows, "expect": read(&vector.what, &vector.content)});
    match &vector.what {
        What::Object(kind) => entry["kind"] = json!(kind.code()),
        What::Slot(sort, secret) => entry["unlock"] = json!({"by": sort, "secret": secret}),
        What::KeyText(sort) => entry["key_text"] = json!(sort),
    }
    (file, entry)
}

fn all() -> Vec<Vector> {
    accepted::vectors().into_iter().chain(refused::vectors()).collect()
}

fn ids() -> Vec<Value> {
    use pagevault::chunk::Class;
    let classes = (1..=8).map(Class::Node).chain([Class::Page, Class::Manifest]);
    let keys = keys();
    let id = |class, plain: &[u8]| keys.current().unwrap().chunk_id(class, plain).to_string();
    classes
        .flat_map(|class| [&b""[..], b"pagevault"].map(|plain| (class, plain)))
        .map(|(class, plain)| json!({"class": class.code(), "plain": to_hex(plain), "id": id(class, plain)}))
        .collect()
}

/// Writes the vectors: only when the format itself changes.
#[test]
#[ignore = "writes into the source tree"]
fn write() {
    let folder = folder();
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let (mut entries, mut otherwise) = (Vec::new(), Vec::new());
    for vector in all() {
        let (file, entry) = entry(&vector);
        if entry["expect"]["outcome"] != vector.expected {
            otherwise.push(format!("expected {}: {entry}", vector.expected));
        }
        assert!(!folder.join(&file).exists(), "{file} twice");
        std::fs::write(folder.join(file), &vector.content).unwrap();
        entries.push(entry);
    }
    assert!(otherwise.is_empty(), "{otherwise:#?}");
    let list = json!({
        "format": 1,
        "master_key": to_hex(&MASTER),
        "vault": to_hex(&VAULT),
        "ids": ids(),
        "vectors": entries,
    });
    std::fs::write(folder.join("vectors.json"), format!("{list:#}\n")).unwrap();
}

#[test]
fn every_vector_gives_what_is_written() {
    let folder = folder();
    let list: Value = serde_json::from_slice(&std::fs::read(folder.join("vectors.json")).unwrap()).unwrap();
    assert_eq!(
        (list["master_key"].clone(), list["vault"].clone()),
        (json!(to_hex(&MASTER)), json!(to_hex(&VAULT)))
    );
    assert_eq!(list["ids"], json!(ids()));
    let mut listed = BTreeSet::from(["vectors.json".to_owned()]);
    let mut refused = 0;
    for entry in list["vectors"].as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        assert!(listed.insert(file.to_owned()), "{file} is listed twice");
        let content = std::fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let what = if let Some(code) = entry["kind"].as_u64() {
            What::Object(ObjectKind::from_code(u8::try_from(code).unwrap()).unwrap())
        } else if entry["key_text"].is_string() {
            What::KeyText(if entry["key_text"] == "key-file" { "key-file" } else { "recovery-key" })
        } else {
            let by = match entry["unlock"]["by"].as_str().unwrap() {
                "passphrase" => "passphrase",
                "key-file" => "key-file",
                _ => "recovery-key",
            };
            What::Slot(by, text(&entry["unlock"]["secret"]))
        };
        assert_eq!(read(&what, &content), entry["expect"], "{file}: {}", text(&entry["shows"]));
        refused += usize::from(entry["expect"]["outcome"] != "ok");
    }
    let present: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(present, listed, "files that nobody lists, or listed ones that are not there");
    assert!(refused * 2 > listed.len(), "failures outnumber successes: {refused} of {}", listed.len());
    println!("{} vectors, {refused} of them refused", listed.len() - 1);
}

/// What the generator makes today is what lies there, but for frames of zstd, which another version may write otherwise.
#[test]
fn the_generator_lists_the_same_vectors() {
    let list: Value = serde_json::from_slice(&std::fs::read(folder().join("vectors.json")).unwrap()).unwrap();
    let files = |entries: Vec<Value>| {
        entries.into_iter().map(|entry| (entry["file"].clone(), entry["shows"].clone()))
    };
    let made: Vec<_> = files(all().iter().map(|vector| entry(vector).1).collect()).collect();
    let lying: Vec<_> = files(list["vectors"].as_array().unwrap().clone()).collect();
    assert_eq!(made, lying);
}
