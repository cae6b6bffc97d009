//! `docs/recover.py`, the reading of the format that shares no code with this crate, against vaults and vectors of this
//! crate. Where Python or its packages are missing, the tests say so loudly and pass; `PAGEVAULT_PYTHON` names another
//! interpreter, and makes a missing package a failure.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::Timestamp;
use pagevault::crypto::secret::{Passphrase, Secret32, TextForm};
use pagevault::crypto::unlock::Unlocker;
use pagevault::format::keyslot::Argon2Params;
use pagevault::store::LocalStore;
use pagevault::vault::{LocalFolders, Vault};
use rusqlite::Connection;

use crate::support::take;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The interpreter, if it has all that the script needs.
fn python() -> Option<String> {
    let named = std::env::var("PAGEVAULT_PYTHON").ok();
    let python = named.clone().unwrap_or_else(|| "python3".to_owned());
    let packages = "import argon2.low_level, blake3, zstandard, cryptography";
    let found = Command::new(&python).args(["-c", packages]).output();
    if found.as_ref().is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(named.is_none(), "{python} cannot run docs/recover.py: {found:?}");
    println!("SKIPPED: docs/recover.py is not tested, for {python} or one of its packages is missing");
    None
}

fn run(python: &str, arguments: &[&str]) -> Output {
    Command::new(python).arg(root().join("docs/recover.py")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_vector() {
    let Some(python) = python() else { return };
    let output = run(&python, &["--vectors", text(&root().join("tests/data/vectors"))]);
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(" 0 wrong"), "{said}");
    print!("{said}");
}

#[test]
fn a_vault_by_hand() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (key, recovery) = (Secret32::new([7; 32]), Secret32::new([8; 32]));
    let passphrase = Unlocker::Passphrase(Passphrase::new("correct horse: stäple".into()));
    let argon2 = Argon2Params::new(8192, 2, 2).unwrap();
    let (now, folders) = (Timestamp::now(), LocalFolders::default());
    let store = Box::new(LocalStore::create(at("vault")).unwrap());
    let vault = Vault::create(store, &passphrase, argon2, None, now, &folders).unwrap();
    vault.add_slot(&Unlocker::KeyFile(key.clone()), argon2, Some("key".to_owned()), now).unwrap();
    vault.add_slot(&Unlocker::RecoveryKey(recovery.clone()), argon2, None, now).unwrap();
    std::fs::write(at("key"), format!("# comment\n{}\n", *TextForm::KeyFile.print(&key))).unwrap();
    std::fs::write(at("recovery"), TextForm::RecoveryKey.print(&recovery).as_bytes()).unwrap();
    std::fs::write(at("passphrase"), "correct horse: stäple\n").unwrap();

    // More than 256 chunks, and changes that make deltas upon deltas.
    let database = at("app.db");
    let db = Connection::open(&database).unwrap();
    db.execute_batch(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, body); INSERT INTO t(body) VALUES(zeroblob(17500000))",
    )
    .unwrap();
    for row in 0..3000u32 {
        let noise = row.wrapping_mul(2_654_435_761);
        db.execute("INSERT INTO t(body) VALUES(?1)", [format!("row {row} {noise:x}").repeat(5)]).unwrap();
    }
    drop(db);
    let mut kept = Vec::new();
    for round in 0..4 {
        kept.push((take(&vault, &database).unwrap(), std::fs::read(&database).unwrap()));
        let db = Connection::open(&database).unwrap();
        db.execute("UPDATE t SET body = body || ?1 WHERE id BETWEEN 50 + ?1 AND 53 + ?1", [round]).unwrap();
    }
    assert!(kept.iter().skip(1).all(|(report, _)| report.chunks.delta > 0));

    let vault_folder = at("vault");
    let keys = [
        ("--key-file", at("key")),
        ("--recovery-key", at("recovery")),
        ("--password-file", at("passphrase")),
    ];
    for (number, (report, image)) in kept.iter().enumerate() {
        let (option, key) = &keys[number % keys.len()];
        let target = at(&format!("restored-{number}"));
        let id = report.snapshot_id.to_string();
        let arguments = [
            "--vault",
            text(&vault_folder),
            option,
            text(key),
            "--snapshot",
            &id[..12],
            "--to",
            text(&target),
        ];
        let output = run(&python, &arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(std::fs::read(&target).unwrap() == *image, "snapshot {number} has other bytes");
        assert!(String::from_utf8_lossy(&output.stdout).contains(&report.sha256.to_string()));
    }
    let listed = run(&python, &["--vault", text(&vault_folder), "--key-file", text(&at("key"))]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), kept.len());
    let wrong = run(&python, &["--vault", text(&vault_folder), "--password-file", text(&at("recovery"))]);
    assert!(!wrong.status.success());
    println!("{} snapshots of {} bytes restored by hand", kept.len(), kept[0].1.len());
}
