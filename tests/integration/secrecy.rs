//! Nothing that must stay secret reaches a store, the folders on this machine, an error message or debug output: not
//! as it is, nor in any usual encoding.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use pagevault::clock::SystemClock;
use pagevault::crypto::keys::{Keyring, VaultKeys};
use pagevault::crypto::secret::{Passphrase, Secret32, TextForm};
use pagevault::crypto::unlock::Unlocker;
use pagevault::error::Error;
use pagevault::format::keyslot::Argon2Params;
use pagevault::monitor::Silent;
use pagevault::operations::export::{ExportRequest, ExportSource, export};
use pagevault::page_source::PageSource;
use pagevault::store::MemoryStore;
use pagevault::vault::{LocalFolders, LockedVault, Vault};
use rusqlite::Connection;

use crate::support::{request, run};
use crate::tamper::fixture::scratch;
use crate::tamper::judge::restored;

const ROW: &str = "Kanarienvogel im Inhalt einer Zeile";
const TABLE: &str = "canary_table_name";
const COLUMN: &str = "canary_column_name";
const FILE: &str = "canary-file-name";
const FOLDER: &str = "canary-folder-name";
const HOST: &str = "canary-host-name";
const DESCRIPTION: &str = "canary words of description";
const TAG: (&str, &str) = ("canary-tag-key", "canary-tag-value");
const LABEL: &str = "canary label of a slot";
const PASSPHRASE: &str = "canary passphrase, not easily guessed";
const KEY_FILE: [u8; 32] = *b"canary bytes of a key file 01234";
const RECOVERY: [u8; 32] = *b"canary bytes of the recovery key";

/// Everything that may not be seen, by name.
struct Canaries(Vec<(String, Vec<u8>)>);

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let whole = bytes.as_chunks::<3>().0;
    let digits = whole.iter().flat_map(|three| {
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        [18, 12, 6, 0].map(|shift| DIGITS[(bits >> shift) as usize & 63] as char)
    });
    digits.collect()
}

fn decimal(bytes: &[u8]) -> String {
    format!("{bytes:?}").trim_matches(['[', ']']).to_owned()
}

impl Canaries {
    fn new(secrets: &[(&str, &[u8])]) -> Self {
        let mut all = Vec::new();
        for (name, bytes) in secrets {
            let hex: String = bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            });
            let mut add = |form: &str, encoded: Vec<u8>| all.push((format!("{name} ({form})"), encoded));
            add("as it is", bytes.to_vec());
            add("reversed", bytes.iter().rev().copied().collect());
            add("hex", hex.clone().into_bytes());
            add("HEX", hex.to_uppercase().into_bytes());
            add("UTF-16", bytes.iter().flat_map(|byte| [*byte, 0]).collect());
            add("UTF-16, big end first", bytes.iter().flat_map(|byte| [0, *byte]).collect());
            add("decimal", decimal(bytes).into_bytes());
            for skip in 0..3 {
                add("base64", base64(&bytes[skip..]).into_bytes());
            }
        }
        Self(all)
    }

    fn assert_absent(&self, place: &str, bytes: &[u8]) {
        for (name, canary) in &self.0 {
            let found = bytes.windows(canary.len()).position(|window| window == canary);
            assert_eq!(found, None, "{name} is in {place}");
        }
    }
}

struct World {
    place: tempfile::TempDir,
    store: Arc<MemoryStore>,
    vault: Vault,
    images: Vec<Vec<u8>>,
    snapshots: Vec<String>,
}

fn unlockers() -> [Unlocker; 3] {
    [
        Unlocker::Passphrase(Passphrase::new(PASSPHRASE.as_bytes().to_vec())),
        Unlocker::KeyFile(Secret32::new(KEY_FILE)),
        Unlocker::RecoveryKey(Secret32::new(RECOVERY)),
    ]
}

fn cheap() -> Argon2Params {
    Argon2Params::new(8192, 1, 1).unwrap()
}

impl World {
    fn new() -> Self {
        let place = scratch();
        let folders = Self::folders(place.path());
        let store = Arc::new(MemoryStore::new());
        let [passphrase, key_file, recovery] = unlockers();
        let (label, now) = (Some(LABEL.to_owned()), Timestamp::now());
        let boxed = Box::new(Arc::clone(&store));
        let vault = Vault::create(boxed, &passphrase, cheap(), label.clone(), now, &folders).unwrap();
        for unlocker in [key_file, recovery] {
            vault.add_slot(&unlocker, cheap(), label.clone(), now).unwrap();
        }
        let mut world = Self { place, store, vault, images: Vec::new(), snapshots: Vec::new() };
        world.fill();
        world
    }

    fn folders(place: &Path) -> LocalFolders {
        LocalFolders { cache: Some(place.join("cache")), state: Some(place.join("state")) }
    }

    /// Three snapshots, with rows that do not compress, so that chunks are stored in every way there is.
    fn fill(&mut self) {
        let folder = self.place.path().join(FOLDER);
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join(format!("{FILE}.db"));
        let db = Connection::open(&path).unwrap();
        db.execute_batch(&format!("CREATE TABLE {TABLE}(id INTEGER PRIMARY KEY, {COLUMN} TEXT, noise BLOB)"))
            .unwrap();
        for round in 0..3 {
            for _ in 0..30 {
                let insert = format!("INSERT INTO {TABLE}({COLUMN}, noise) VALUES(?1, randomblob(3000))");
                db.execute(&insert, [format!("{ROW} {round}")]).unwrap();
            }
            let mut request = request(&[&path]);
            request.description = Some(DESCRIPTION.to_owned());
            request.tags = vec![(TAG.0.to_owned(), TAG.1.to_owned())];
            request.required_tables = vec![TABLE.to_owned()];
            request.host.name = Some(HOST.to_owned());
            let report = run(&self.vault, &request).unwrap().pop().unwrap().1.unwrap();
            self.snapshots.push(report.snapshot_id.to_string());
            self.images.push(std::fs::read(&path).unwrap());
        }
        // And an export that is kept: the rows' text as JSON.
        let host = request(&[&path]).host;
        let subject = format!("{TABLE}:{COLUMN}={ROW} 2").parse().unwrap();
        let source = ExportSource::Snapshot("latest".parse().unwrap());
        let request =
            ExportRequest { subject: Some(subject), keep: Some(host), ..ExportRequest::new(source) };
        let mut exported = Vec::new();
        let report = export(Some(&self.vault), &request, &SystemClock, &Silent, &mut exported).unwrap();
        assert!(report.snapshot_id.is_some() && report.tables[TABLE] == 30);
        assert!(exported.windows(ROW.len()).any(|window| window == ROW.as_bytes()));
    }

    fn keyring(&self) -> Keyring {
        let locked = LockedVault::find(Box::new(Arc::clone(&self.store))).unwrap();
        let [_, key_file, _] = unlockers();
        locked.slots().iter().find_map(|source| key_file.open(&source.slot).unwrap()).unwrap()
    }

    /// What nobody without the key may see anywhere.
    fn all(&self) -> Canaries {
        let mut secrets: Vec<(&str, Vec<u8>)> =
            [ROW, TABLE, COLUMN, FILE, FOLDER, HOST, DESCRIPTION, TAG.0, TAG.1, LABEL]
                .map(|text| (text, text.as_bytes().to_vec()))
                .to_vec();
        secrets.extend(self.keys());
        Canaries::new(&secrets.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect::<Vec<_>>())
    }

    /// What may not even be printed by whoever has the key.
    fn keys(&self) -> Vec<(&'static str, Vec<u8>)> {
        let keyring = self.keyring();
        let master = keyring.master_key(1).unwrap().expose().to_vec();
        let [key_text, recovery_text] = [(TextForm::KeyFile, KEY_FILE), (TextForm::RecoveryKey, RECOVERY)]
            .map(|(form, key)| {
                let text = form.print(&Secret32::new(key));
                text.rsplit_once('1')
                    .map_or("", |(_, data)| data)
                    .to_lowercase()
                    .replace('-', "")
                    .into_bytes()
            });
        vec![
            ("passphrase", PASSPHRASE.as_bytes().to_vec()),
            ("key file's bytes", KEY_FILE.to_vec()),
            ("recovery key's bytes", RECOVERY.to_vec()),
            ("key file's text", key_text),
            ("recovery key's text", recovery_text),
            ("master key", master.clone()),
            ("half of the master key", master[..16].to_vec()),
            ("other half of the master key", master[16..].to_vec()),
        ]
    }

    /// All windows of 16 bytes of all images behind the schema, whose words databases share, unless they are nearly empty.
    fn windows(&self) -> HashSet<[u8; 16]> {
        let windows = self.images.iter().flat_map(|image| image[4096..].array_windows::<16>()).copied();
        windows.filter(|window| window.iter().collect::<HashSet<_>>().len() > 6).collect()
    }
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn a_store_and_the_local_folders_see_nothing() {
    let world = World::new();
    let (canaries, windows) = (world.all(), world.windows());
    let look = |place: &str, bytes: &[u8]| {
        canaries.assert_absent(place, bytes);
        let found = bytes.array_windows::<16>().position(|window| windows.contains(window));
        assert_eq!(found, None, "sixteen bytes of the database are in {place}");
    };
    let mut total = 0;
    for (path, bytes) in world.store.objects() {
        look(path.as_str(), path.as_str().as_bytes());
        look(path.as_str(), &bytes);
        total += bytes.len();
    }
    let folders = World::folders(world.place.path());
    let files: Vec<_> = [folders.cache, folders.state]
        .into_iter()
        .flatten()
        .flat_map(|folder| files_below(&folder))
        .collect();
    assert!(files.len() >= 2, "{files:?}");
    for file in &files {
        look(
            &file.display().to_string(),
            file.strip_prefix(world.place.path()).unwrap().as_os_str().as_encoded_bytes(),
        );
        look(&file.display().to_string(), &std::fs::read(file).unwrap());
    }
    println!(
        "{} canaries and {} windows, not in {} objects of {total} bytes and {} local files",
        canaries.0.len(),
        windows.len(),
        world.store.paths().len(),
        files.len()
    );
}

#[test]
fn debug_output_shows_no_key_and_no_page() {
    let world = World::new();
    let keys = world.keys();
    let canaries =
        Canaries::new(&keys.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect::<Vec<_>>());
    let row = Canaries::new(&[("a row", ROW.as_bytes())]);
    let keyring = world.keyring();
    let [passphrase, key_file, recovery] = unlockers();
    let opened = LockedVault::find(Box::new(Arc::clone(&world.store))).unwrap();
    let history = world.vault.history().unwrap();
    let catalog = world.vault.catalog(&history).unwrap();
    world.vault.load_index().unwrap();
    let mut image = world.vault.image(&catalog.snapshots[0]).unwrap();
    let mut page = vec![0; image.geometry().page_size.bytes() as usize];
    image.read_pages(0, &mut page).unwrap();
    let plain = page.clone();
    let chunk = pagevault::vault::writer::EncodedChunk {
        id: world.vault.chunk_id(pagevault::chunk::Class::Page, &plain).unwrap(),
        class: pagevault::chunk::Class::Page,
        encoding: pagevault::format::directory::Encoding::Plain,
        plain_len: 4096,
        bytes: plain.clone(),
    };
    let base = pagevault::codec::Base { id: chunk.id, plain: &plain };
    let encoded = keyring.encode().unwrap();
    let fields = pagevault::format::fields::Fields::parse("keyring", &encoded).unwrap();
    let mut writer = pagevault::format::fields::FieldWriter::new("keyring");
    writer.put_raw(2, encoded.to_vec());
    let keys = VaultKeys::new(world.vault.id(), keyring.clone()).unwrap();
    let shown: [(&str, String); 16] = [
        ("Vault", format!("{:?}", world.vault)),
        ("LockedVault", format!("{opened:?}")),
        ("Unlocker", format!("{passphrase:?} {key_file:?} {recovery:?}")),
        ("Keyring", format!("{keyring:?}")),
        ("VaultKeys", format!("{keys:?}")),
        ("EpochKeys", format!("{:?}", keys.current().unwrap())),
        ("ChunkReader", format!("{:?}", world.vault.reader())),
        ("StoredImage", format!("{image:?}")),
        ("RunWriter", format!("{:?}", world.vault.begin_run())),
        ("ChunkIndex", format!("{:?}", world.vault.index())),
        ("EncodedChunk", format!("{chunk:?}")),
        ("Base", format!("{base:?}")),
        ("Fields", format!("{fields:?}")),
        ("FieldWriter", format!("{writer:?}")),
        ("History", format!("{history:?}")),
        ("Slot", format!("{:?}", world.vault.slots().unwrap())),
    ];
    let windows = world.windows();
    for (name, text) in shown {
        canaries.assert_absent(name, text.as_bytes());
        row.assert_absent(name, text.as_bytes());
        // Bytes are printed as decimal numbers.
        let numbers: Vec<u8> =
            text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
        let found = numbers.array_windows::<16>().position(|window| windows.contains(window));
        assert_eq!(found, None, "sixteen bytes of the database are in the debug output of {name}");
    }
}

#[test]
fn error_messages_show_no_key() {
    let world = World::new();
    let mut texts = Vec::new();
    let mut note = |error: &Error| texts.push(format!("{error} {error:?} {:?}", error.hint()));
    let wrong = [
        Unlocker::Passphrase(Passphrase::new(b"canary of a wrong passphrase".to_vec())),
        Unlocker::KeyFile(Secret32::new(*b"canary bytes of a wrong key file")),
        Unlocker::RecoveryKey(Secret32::new(*b"canary bytes of a wrong key file")),
    ];
    for unlocker in &wrong {
        let locked = LockedVault::find(Box::new(Arc::clone(&world.store))).unwrap();
        note(&locked.unlock(unlocker, &LocalFolders::default()).unwrap_err().into());
    }
    // Every object damaged in turn, with the right key.
    for (path, bytes) in world.store.objects() {
        let damaged = world.store.fork();
        let mut flipped = bytes.to_vec();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        damaged.replace(&path, flipped);
        let [_, key_file, _] = unlockers();
        let opened = LockedVault::find(Box::new(damaged))
            .and_then(|locked| locked.unlock(&key_file, &LocalFolders::default()));
        match opened {
            Ok(vault) => {
                vault.warnings().iter().for_each(|warning| texts.push(warning.clone()));
                for id in &world.snapshots {
                    let failed = restored(&vault, id, world.place.path()).err();
                    texts.extend(failed.map(|error| format!("{error} {error:?}")));
                }
            }
            Err(error) => texts.push(format!("{error} {error:?}")),
        }
    }
    let mut canaries = Canaries::new(&[
        ("wrong passphrase", b"canary of a wrong passphrase"),
        ("wrong key file", b"canary bytes of a wrong key file"),
        ("row", ROW.as_bytes()),
    ]);
    let keys = world.keys();
    canaries.0.extend(Canaries::new(&keys.iter().map(|(n, b)| (*n, b.as_slice())).collect::<Vec<_>>()).0);
    // A key that was mistyped: not even a part of it.
    for (form, other) in
        [(TextForm::KeyFile, TextForm::RecoveryKey), (TextForm::RecoveryKey, TextForm::KeyFile)]
    {
        let text = form.print(&Secret32::new(KEY_FILE)).to_string();
        for part in text.as_bytes().windows(8).skip(14) {
            canaries.0.push(("a part of a key".to_owned(), part.to_vec()));
        }
        let mut mistyped: Vec<char> = text.chars().collect();
        mistyped.swap(20, 21);
        for error in [
            other.read(&text).unwrap_err(),
            form.read(&mistyped.iter().collect::<String>()).unwrap_err(),
            form.read(&text[..30]).unwrap_err(),
            form.read(&text.replace('1', "")).unwrap_err(),
        ] {
            texts.push(format!("{error} {error:?}"));
        }
    }
    for text in &texts {
        canaries.assert_absent(text, text.as_bytes());
    }
    println!("{} canaries, not in {} messages", canaries.0.len(), texts.len());
}
