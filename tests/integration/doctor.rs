//! What `doctor` finds in worlds made for it, each beside a world in which there is nothing to be found.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use pagevault::ids::HostId;
use pagevault::monitor::Silent;
use pagevault::operations::doctor::{DoctorRequest, Finding, Severity, doctor};
use pagevault::vault::Vault;
use rusqlite::Connection;

use crate::children::holder;
use crate::databases::{contents, create, difference};
use crate::support::{memory_vault, take};
use crate::tamper::fixture::scratch;

fn look(vault: Option<&Vault>, request: &DoctorRequest) -> Vec<Finding> {
    doctor(vault, request, Timestamp::now(), &Silent).unwrap()
}

fn of_check<'f>(findings: &'f [Finding], check: &str) -> Vec<&'f Finding> {
    findings.iter().filter(|finding| finding.check == check).collect()
}

fn of_database(path: &Path) -> DoctorRequest {
    DoctorRequest { databases: vec![path.to_path_buf()], ..DoctorRequest::default() }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_sound_database_is_no_finding_and_is_left_alone() {
    for journal in ["delete", "wal"] {
        let folder = scratch();
        let path = folder.path().join("app.db");
        create(&path, &format!("PRAGMA journal_mode = {journal}"));
        let application = Connection::open(&path).unwrap();
        application.query_row("SELECT count(*) FROM t", (), |_| Ok(())).unwrap();
        let before = contents(folder.path());
        assert_eq!(look(None, &of_database(&path)), []);
        assert_eq!(difference(&before, &contents(folder.path())), Vec::<std::ffi::OsString>::new());
    }
}

#[test]
fn what_keeps_a_database_from_being_backed_up_is_said() {
    let folder = scratch();
    let path = folder.path().join("app.db");
    create(&path, "PRAGMA journal_mode = wal");
    let holding = holder(&path, "PRAGMA locking_mode = EXCLUSIVE; UPDATE t SET y = 'mine' WHERE id = 1");
    let found = look(None, &of_database(&path));
    let locking = of_check(&found, "locking");
    assert_eq!((locking.len(), locking[0].severity), (1, Severity::Danger), "{found:?}");
    assert!(locking[0].advice.contains("locking_mode=EXCLUSIVE"), "{found:?}");
    drop(holding);
    let notes = folder.path().join("notes.txt");
    std::fs::write(&notes, "no database, however long one looks at it, and looks again, and once more, until it is a hundred bytes").unwrap();
    let found = look(None, &of_database(&notes));
    assert_eq!((found[0].check, found[0].severity), ("database", Severity::Danger));
    assert_eq!(of_check(&look(None, &of_database(&folder.path().join("gone.db"))), "database").len(), 1);
}

/// Python's SQLite is the system's. Where it has the bug, that is said of the process that holds the database, with its version.
#[test]
fn the_sqlite_of_another_program_is_named() {
    let folder = scratch();
    let path = folder.path().join("app.db");
    create(&path, "PRAGMA journal_mode = wal");
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT count(*) FROM t').fetchone(); \
                  print(sqlite3.sqlite_version, flush=True); sys.stdin.read()";
    let started = Command::new("python3")
        .args(["-c", script])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut python) = started else {
        println!("skipped: there is no python3 here");
        return;
    };
    let mut version = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(python.stdout.take().unwrap()), &mut version)
        .unwrap();
    let version = version.trim();
    let found = look(None, &of_database(&path));
    drop(python.stdin.take());
    python.wait().unwrap();
    let numbers: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
    let has_bug = pagevault::operations::doctor::has_wal_reset_bug((numbers[0], numbers[1], numbers[2]));
    let named: Vec<&Finding> = found
        .iter()
        .filter(|finding| finding.object.contains(&format!("SQLite {version} in python")))
        .collect();
    assert_eq!(named.len(), usize::from(has_bug), "{version}: {found:?}");
    if has_bug {
        assert_eq!((named[0].check, named[0].severity), ("sqlite", Severity::Danger));
        assert!(named[0].advice.contains("3.51.3"));
    }
    println!("python3 has SQLite {version}");
}

#[test]
fn places_and_permissions_are_looked_at() {
    let folder = scratch();
    let vault = folder.path().join("vault");
    let key = folder.path().join("keys/app.key");
    for made in [&vault, &folder.path().join("keys")] {
        std::fs::create_dir(made).unwrap();
        set_mode(made, 0o700);
    }
    std::fs::write(&key, "x").unwrap();
    set_mode(&key, 0o600);
    let request = DoctorRequest {
        vault: Some(vault.clone()),
        key_files: vec![key.clone()],
        ..DoctorRequest::default()
    };
    let look = |request: &DoctorRequest| {
        let mut found = look(None, request);
        found.retain(|finding| finding.check != "space" && finding.check != "network");
        found
    };
    assert_eq!(look(&request), []);
    set_mode(&key, 0o640);
    set_mode(&vault, 0o755);
    let severities: Vec<_> = look(&request).iter().map(|finding| (finding.check, finding.severity)).collect();
    assert_eq!(severities, [("permissions", Severity::Danger), ("permissions", Severity::Warning)]);
    set_mode(&vault, 0o700);
    for (place, severity) in
        [(folder.path().join("beside.key"), Severity::Warning), (vault.join("inside.key"), Severity::Danger)]
    {
        std::fs::write(&place, "x").unwrap();
        set_mode(&place, 0o600);
        let found = look(&DoctorRequest { key_files: vec![place], ..request.clone() });
        assert_eq!((found.len(), found[0].check, found[0].severity), (1, "key-file", severity));
    }
    let lost = DoctorRequest { key_files: vec![folder.path().join("lost.key")], ..request.clone() };
    assert_eq!(look(&lost)[0].check, "key-file");
    let nowhere = DoctorRequest { vault: Some(folder.path().join("nowhere")), ..DoctorRequest::default() };
    assert_eq!((look(&nowhere)[0].check, look(&nowhere)[0].severity), ("vault", Severity::Danger));
    let database = folder.path().join("app.db");
    create(&database, "");
    let together = DoctorRequest { databases: vec![database], ..request };
    assert!(look(&together).iter().any(|finding| finding.message.contains("a broken disk takes both")));
}

#[test]
fn what_the_vault_tells_is_judged() {
    let folder = scratch();
    let path = folder.path().join("app.db");
    create(&path, "");
    let (vault, _) = memory_vault();
    let now = Timestamp::now();
    let request =
        DoctorRequest { host: Some(HostId([7; 16])), last_proof: Some(now), ..DoctorRequest::default() };
    let checks = |request: &DoctorRequest, now| {
        let found = doctor(Some(&vault), request, now, &Silent).unwrap();
        found.iter().map(|finding| (finding.check, finding.severity)).collect::<Vec<_>>()
    };
    assert_eq!(checks(&request, now), [("recovery-key", Severity::Danger), ("snapshots", Severity::Warning)]);
    let recovery =
        pagevault::crypto::unlock::Unlocker::RecoveryKey(pagevault::crypto::secret::Secret32::new([9; 32]));
    let cheap = pagevault::format::keyslot::Argon2Params::recommended(1);
    vault.add_slot(&recovery, cheap, None, now).unwrap();
    take(&vault, &path).unwrap();
    let now = Timestamp::now();
    assert_eq!(checks(&request, now), []);
    let unproven = DoctorRequest { last_proof: None, ..request.clone() };
    assert_eq!(checks(&unproven, now), [("test-restore", Severity::Warning)]);
    let later = now + SignedDuration::from_hours(24 * 100);
    assert_eq!(checks(&request, later), [("test-restore", Severity::Warning)]);
    let earlier = now - SignedDuration::from_hours(3);
    assert_eq!(checks(&request, earlier), [("clock", Severity::Danger)]);
    let long_ago = "2001-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(checks(&request, long_ago), [("clock", Severity::Danger); 2]);
    // A database of this machine that the vault knows is looked at without being named.
    std::fs::write(&path, "x").unwrap();
    assert_eq!(checks(&request, now), [("database", Severity::Danger)]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(checks(&request, now), [("database", Severity::Note)]);
    let elsewhere = DoctorRequest { host: None, ..request };
    assert_eq!(checks(&elsewhere, now), []);
}
