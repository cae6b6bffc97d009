//! Writes the seeds of every target: `cargo run --release --manifest-path fuzz/Cargo.toml --example seeds`.
//!
//! With `-- --fixture` it first makes a new vault and new databases to edit. That changes what the inputs of
//! `hostile_vault` and `hostile_image` mean, so reproducers among their seeds are worth nothing afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pagevault::clock::FixedClock;
use pagevault::crypto::seal::open_body;
use pagevault::crypto::secret::{Passphrase, Secret32, TextForm};
use pagevault::crypto::unlock::{SlotNote, Unlocker};
use pagevault::format::envelope::{ObjectKind, Parts};
use pagevault::format::keyslot::Argon2Params;
use pagevault::format::log::LogEntry;
use pagevault::format::manifest::{Kind, decode_snapshots};
use pagevault::ids::{HostId, VaultId};
use pagevault::monitor::Silent;
use pagevault::operations::snapshot::{Host, SnapshotRequest, snapshot};
use pagevault::store::MemoryStore;
use pagevault::vault::layout::Place;
use pagevault::vault::{LocalFolders, Vault};
use pagevault_fuzz::fixture;
use rusqlite::Connection;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::args().any(|word| word == "--fixture") {
        fs::write(root.join("fixture/images"), fixture::pack(&images())).unwrap();
        fs::write(root.join("fixture/vault"), fixture::pack(&vault())).unwrap();
        println!("the fixture is new; run again without --fixture for the seeds");
        return;
    }
    let seeds = Seeds { corpus: root.join("corpus") };
    seeds.objects();
    seeds.texts();
    seeds.chunks();
    seeds.edits();
}

/// Small databases of every build.
fn images() -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let people =
        "CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE, age INT CHECK(age >= 0));
        CREATE INDEX people_name ON people(name, age);
        WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 60)
        INSERT INTO people SELECT i, 'person ' || i, i % 90 FROM n;";
    let kinds: [(&str, u32, &str); 7] = [
        ("plain", 512, ""),
        ("wal", 1024, "PRAGMA journal_mode=WAL;"),
        ("vacuumed", 512, "PRAGMA auto_vacuum=FULL;"),
        (
            "rules",
            1024,
            "CREATE TABLE pets(id INTEGER PRIMARY KEY, owner REFERENCES people(id), name, loud AS (upper(name)) STORED)
                 STRICT, WITHOUT ROWID;
             CREATE TABLE notes(id INTEGER PRIMARY KEY, owner REFERENCES people(id), name, loud AS (upper(name)));
             CREATE UNIQUE INDEX notes_loud ON notes(loud) WHERE id > 1;
             INSERT INTO notes(owner, name) VALUES(1, 'a'), (2, 'b'), (99, 'c');
             CREATE VIEW old AS SELECT * FROM people WHERE age > 60;
             CREATE TRIGGER grow AFTER INSERT ON notes BEGIN UPDATE people SET age = age + 1; END;",
        ),
        (
            "search",
            1024,
            "CREATE VIRTUAL TABLE papers USING fts5(body);
             INSERT INTO papers VALUES('the quick brown fox'), ('jumps over the lazy dog');",
        ),
        (
            "space",
            1024,
            "CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1, y0, y1);
             INSERT INTO boxes VALUES(1, 0, 1, 0, 1), (2, 5, 6, 5, 6);",
        ),
        ("wide", 512, "CREATE TABLE blobs(b BLOB); INSERT INTO blobs VALUES(zeroblob(9000));"),
    ];
    let mut images = Vec::new();
    for (name, page_size, sql) in kinds {
        let path = folder.path().join(name);
        let database = Connection::open(&path).unwrap();
        database.execute_batch(&format!("PRAGMA page_size={page_size}; PRAGMA foreign_keys=OFF;")).unwrap();
        let (first, then) = if sql.starts_with("PRAGMA") { (sql, "") } else { ("", sql) };
        database.execute_batch(first).unwrap();
        database.execute_batch(people).unwrap();
        database.execute_batch(&then.replace("STRICT, WITHOUT", "WITHOUT")).unwrap();
        database.close().unwrap();
        images.push((name.to_owned(), fs::read(&path).unwrap()));
    }
    images
}

/// A vault with deltas, a shared database, an empty one, one with a tree of two levels, and a long history.
fn vault() -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(MemoryStore::new());
    let start: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    let vault = Vault::create(
        Box::new(Arc::clone(&store)),
        &fixture::key(),
        Argon2Params::recommended(1),
        Some("fuzz".to_owned()),
        start,
        &LocalFolders::default(),
    )
    .unwrap();
    let app = folder.path().join("app.db");
    let database = Connection::open(&app).unwrap();
    database
        .execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT);
             WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
             INSERT INTO people SELECT i, 'person ' || i || ' of many, ' || (i * 7919 % 10007) FROM n;",
        )
        .unwrap();
    for hour in 0..3 {
        take(&vault, &[&app], start + SignedDuration::from_hours(hour));
        database
            .execute("UPDATE people SET name = 'changed in hour ' || ?1 WHERE id % 1500 = 3", [hour])
            .unwrap();
    }
    drop(database);
    let copy = folder.path().join("copy.db");
    fs::copy(&app, &copy).unwrap();
    let empty = folder.path().join("empty.db");
    fs::write(&empty, b"").unwrap();
    let tall = folder.path().join("tall.db");
    // More than 256 chunks, all but three of them the same.
    Connection::open(&tall)
        .unwrap()
        .execute_batch(
            "PRAGMA page_size=65536; PRAGMA secure_delete=ON; CREATE TABLE t(b);
             INSERT INTO t VALUES(zeroblob(17000000)); DELETE FROM t;",
        )
        .unwrap();
    take(&vault, &[&copy, &empty, &tall], start + SignedDuration::from_hours(4));
    let history = vault.history().unwrap();
    let mut ids: Vec<_> = history.published.iter().copied().collect();
    ids.sort_unstable();
    let entries = vec![
        LogEntry::Forgotten(ids[..2].to_vec(), Some("a mistake".to_owned())),
        LogEntry::Undeleted(ids[..2].to_vec()),
        LogEntry::Tested(vec![(ids[0], 1)]),
    ];
    vault.append_log(&history, start + SignedDuration::from_hours(5), entries).unwrap();
    store.objects().into_iter().map(|(path, bytes)| (path.to_string(), bytes.to_vec())).collect()
}

fn take(vault: &Vault, databases: &[&PathBuf], now: Timestamp) {
    let request = SnapshotRequest {
        databases: databases.iter().map(|path| path.to_path_buf()).collect(),
        name: None,
        kind: Kind::Automatic,
        description: Some("for the fuzzer".to_owned()),
        tags: vec![("why".to_owned(), "fuzz".to_owned())],
        required_tables: Vec::new(),
        compression_level: 9,
        busy_timeout: Duration::from_secs(10),
        max_hold: None,
        full_scan: false,
        verify: false,
        host: Host { id: HostId([7; 16]), name: Some("fuzz".to_owned()) },
    };
    snapshot(vault, &request, &FixedClock(now), &Silent, &mut |path, outcome| {
        outcome.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    })
    .unwrap();
}

struct Seeds {
    corpus: PathBuf,
}

impl Seeds {
    fn add(&self, target: &str, name: &str, bytes: impl AsRef<[u8]>) {
        let folder = self.corpus.join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }

    /// The vault's own objects and bodies.
    fn objects(&self) {
        let fixture = fixture::vault();
        for (number, (path, bytes)) in fixture.objects.iter().enumerate() {
            let place = Place::of(path);
            if bytes.len() < 2000 {
                self.add("envelope", &format!("object-{number}"), bytes);
            }
            match place {
                Place::Config => {
                    self.add("vault_config", "whole", [&[0], &bytes[..]].concat());
                    let body = Parts::split(bytes, None).unwrap().body.to_vec();
                    self.add("vault_config", "body", [vec![1], body].concat());
                }
                Place::Slot(_) => {
                    self.add("key_slot", "whole", [&[0], &bytes[..]].concat());
                    let body = Parts::split(bytes, None).unwrap().body.to_vec();
                    self.add("key_slot", "body", [vec![3], body].concat());
                }
                Place::Index(_) => {
                    let body = open_body(&fixture.keys, ObjectKind::Index, bytes).unwrap().1;
                    self.add("index", &format!("object-{number}"), &body);
                    self.add("fields", &format!("index-{number}"), &body);
                }
                Place::Snapshots(_) => {
                    let body = open_body(&fixture.keys, ObjectKind::Snapshots, bytes).unwrap().1;
                    self.add("manifest", &format!("object-{number}"), &body);
                    for (at, manifest) in decode_snapshots(&body).unwrap().into_iter().enumerate() {
                        self.add("manifest", &format!("manifest-{number}-{at}"), manifest);
                    }
                }
                Place::Log(_) => {
                    let body = open_body(&fixture.keys, ObjectKind::Log, bytes).unwrap().1;
                    self.add("log", &format!("object-{number}"), &body);
                }
                Place::Pack(_) | Place::Other => {}
            }
        }
        for (number, pack) in fixture.packs.iter().enumerate() {
            self.add("directory", &format!("pack-{number}"), pack.directory.encode().unwrap());
        }
        self.add("keyring", "one", fixture.keys.keyring().encode().unwrap());
        let passphrase = Unlocker::Passphrase(Passphrase::new(b"secret".to_vec()));
        let cheap = Argon2Params::new(8192, 1, 1).unwrap();
        let note = SlotNote { label: Some("a label".to_owned()), created_at_us: Some(5) };
        let slot = passphrase.make_slot(VaultId([1; 16]), fixture.keys.keyring(), cheap, &note).unwrap();
        self.add("key_slot", "passphrase", [vec![0], slot.encode().unwrap()].concat());
    }

    fn texts(&self) {
        let secret = Secret32::new([0xA5; 32]);
        self.add("key_text", "file", format!("# a key\n{}\n", TextForm::KeyFile.print(&secret).as_str()));
        self.add("key_text", "paper", TextForm::RecoveryKey.print(&secret).as_bytes());
        for (number, spec) in [
            "latest",
            "latest:migration",
            "ab12cd34",
            "app@latest",
            "app@-2h",
            "app@-1 day 3 hours",
            "app@-P1DT2H",
            "2026-11-22T10:00:00Z",
            "2026-11-22T10:00:00.123456789+05:30[Asia/Kolkata]",
            "a@b@2026-11-22",
            "app@2026-11-22T10:00",
        ]
        .iter()
        .enumerate()
        {
            self.add("snapshot_spec", &format!("spec-{number}"), spec);
        }
        for (number, (path, _)) in fixture::vault().objects.iter().enumerate() {
            self.add("names", &format!("path-{number}"), path.as_str());
        }
        for (name, image) in fixture::images() {
            self.add("database_header", name, &image[..100]);
        }
    }

    fn chunks(&self) {
        let chunk = &fixture::images()[0].1[..2048];
        let mut changed = chunk.to_vec();
        changed[700..720].fill(b'!');
        let frame = pagevault::codec::compress_body(chunk).unwrap();
        let len = 2048u16.to_le_bytes();
        self.add("codec", "decode", [&[0, len[0], len[1]], &frame[..], b"\0|"].concat());
        self.add("codec", "decode-delta", [&[1, len[0], len[1]], &frame[..], b"\0|", chunk].concat());
        self.add("codec", "encode", [&[2, 0, 0], chunk, b"\0|"].concat());
        self.add("codec", "encode-delta", [&[3, 0, 0], &changed[..], b"\0|", chunk].concat());
        self.add(
            "codec",
            "encode-dictionary",
            [&[3, 0, 0], chunk, b"\0|", &[0x37, 0xA4, 0x30, 0xEC], chunk].concat(),
        );
    }

    /// One seed for each sort of edit; the fuzzer combines them.
    fn edits(&self) {
        self.add("hostile_vault", "untouched", []);
        for how in [0u8, 16, 48, 2, 18, 3, 4, 5, 6, 7] {
            for variant in 0u8..6 {
                let rest: Vec<u8> =
                    (0..48u8).map(|at| at.wrapping_mul(37).wrapping_add(variant * 11)).collect();
                self.add(
                    "hostile_vault",
                    &format!("edit-{how}-{variant}"),
                    [vec![how, variant], rest].concat(),
                );
            }
        }
        for image in 0..fixture::images().len() {
            let image = u8::try_from(image).unwrap();
            self.add("hostile_image", &format!("untouched-{image}"), [0, image]);
            for offset in [20u8, 28, 52, 100, 103] {
                let edit = [0, image, 1, offset, 0, 0, 0, 2, 0xFF, 0x01];
                self.add("hostile_image", &format!("header-{image}-{offset}"), edit);
            }
        }
    }
}
