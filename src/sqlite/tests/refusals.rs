//! What is not a database that can be captured is refused, quickly, clearly, and without a trace.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Instant;

use super::*;

#[test]
fn not_databases() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("text"), "to be or not to be\n".repeat(100)).unwrap();
    fs::write(at("short"), "SQLite format 3\0").unwrap();
    fs::write(at("zeros"), [0; 8192]).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    std::os::unix::fs::symlink(at("gone"), at("dangling")).unwrap();
    let started = Instant::now();
    assert!(matches!(open(&at("missing")), Err(SqliteError::NotFound { .. })));
    assert!(matches!(open(&at("dangling")), Err(SqliteError::NotFound { .. })));
    assert!(matches!(open(folder.path()), Err(SqliteError::IsFolder { .. })));
    for name in ["text", "short", "zeros", "pipe"] {
        let error = open(&at(name)).unwrap_err();
        assert!(matches!(error, SqliteError::NotADatabase { .. }), "{name}: {error:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(!at("missing").exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
}

#[test]
fn every_error_has_a_kind_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let error: crate::Error = open(&folder.path().join("missing")).unwrap_err().into();
    assert_eq!(error.kind(), crate::ErrorKind::NotFound);
    assert!(error.hint().is_some() && error.to_string().contains("missing does not exist"));
    let error: crate::Error = SqliteError::MissingBuildFlags.into();
    assert_eq!(error.kind(), crate::ErrorKind::Refused);
    assert!(error.hint().unwrap().contains("LIBSQLITE3_FLAGS=\"-DSQLITE_ENABLE_DBPAGE_VTAB"));
}

#[test]
fn exclusive_holders_are_busy() {
    let folder = tempfile::tempdir().unwrap();
    for journal in ["delete", "wal"] {
        let path = folder.path().join(journal);
        drop(create(&path, &format!("PRAGMA journal_mode={journal};")));
        let holder = Connection::open(&path).unwrap();
        holder.execute_batch("PRAGMA locking_mode=EXCLUSIVE; UPDATE t SET y = 1 WHERE id = 1;").unwrap();
        let error = open(&path).unwrap_err();
        match &error {
            SqliteError::Busy { waited_ms, .. } if journal == "delete" => assert!(*waited_ms >= 150),
            SqliteError::ExclusivelyLocked { waited_ms, .. } if journal == "wal" => {
                assert!(*waited_ms >= 150);
            }
            _ => panic!("{journal}: {error:?}"),
        }
        assert_eq!(crate::Error::from(error).kind(), crate::ErrorKind::Busy);
        drop(holder);
        assert_eq!(verify(image_of(&path)).integrity, Integrity::Ok);
    }
}

#[test]
fn a_writer_in_the_midst_of_its_commit_is_busy_and_the_next_try_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let writer = create(&path, "");
    let mut database = open(&path).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(matches!(database.begin(), Err(SqliteError::Busy { .. })));
    writer.execute_batch("COMMIT").unwrap();
    database.begin().unwrap().finish().unwrap();
    // Dropped without an end, a capture lets go as well.
    drop(database.begin().unwrap());
    writer.execute_batch("DELETE FROM t").unwrap();
    database.begin().unwrap().finish().unwrap();
}

#[test]
fn a_file_that_moved_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(create(&path, ""));
    let mut database = open(&path).unwrap();
    fs::rename(&path, folder.path().join("b.db")).unwrap();
    assert!(matches!(database.begin(), Err(SqliteError::Moved { .. })));
}

#[test]
fn an_emptied_database_keeps_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let (path, emptied) = (folder.path().join("a.db"), folder.path().join("emptied.db"));
    let writer = create(&path, "PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0;");
    let wal = folder.path().join("emptied.db-wal");
    copy(&folder.path().join("a.db-wal"), &wal);
    fs::write(&emptied, b"").unwrap();
    assert!(matches!(open(&emptied), Err(SqliteError::Unsupported { .. })));
    assert!(fs::metadata(&wal).unwrap().len() > 0);
    drop(writer);
}

#[test]
fn a_log_of_another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("a.db"), folder.path().join("other.db"));
    let writer = create(&path, "PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0;");
    copy(&path, &other);
    let mut log = bytes_of(&folder.path().join("a.db-wal"));
    log[4..8].copy_from_slice(&3_008_000_u32.to_be_bytes());
    fs::write(folder.path().join("other.db-wal"), wal_header_checksum(log)).unwrap();
    let error = open(&other).unwrap_err();
    assert!(matches!(&error, SqliteError::Unsupported { why, .. } if why.contains("3008000")), "{error:?}");
    drop(writer);
}

/// Repairs the checksum of a log's header (walformat, section 4.1).
fn wal_header_checksum(mut log: Vec<u8>) -> Vec<u8> {
    let (mut s0, mut s1) = (0_u32, 0_u32);
    let big_endian = log[3] & 1 == 1;
    let word = |bytes: &[u8]| {
        let bytes = bytes.try_into().unwrap();
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    for pair in log[..24].chunks(8) {
        s0 = s0.wrapping_add(word(&pair[..4])).wrapping_add(s1);
        s1 = s1.wrapping_add(word(&pair[4..])).wrapping_add(s0);
    }
    log[24..28].copy_from_slice(&s0.to_be_bytes());
    log[28..32].copy_from_slice(&s1.to_be_bytes());
    log
}

/// Permissions do not bind root: as root, runs `test` again in a child that is nobody, where it must pass.
/// `true` if the caller is bound by permissions and should go on.
fn bound_by_permissions(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("tests");
    // By another process: a program that a fork of this one has open for writing does not start.
    copy(&std::env::current_exe().unwrap(), &program);
    let status = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--exact", &format!("sqlite::tests::refusals::{test}")])
        .current_dir("/")
        .status();
    match status {
        Ok(status) => assert!(status.success(), "{test} fails for a user whom permissions bind"),
        Err(error) => eprintln!("SKIPPED: {test} needs a user other than root, and setpriv failed: {error}"),
    }
    false
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn read_only_files() {
    if !bound_by_permissions("read_only_files") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for journal in ["delete", "wal"] {
        let path = folder.path().join(journal);
        drop(create(&path, &format!("PRAGMA journal_mode={journal};")));
        set_mode(&path, 0o444);
        assert!(image_of(&path) == bytes_of(&path), "{journal}");
        set_mode(&path, 0);
        assert!(matches!(open(&path), Err(SqliteError::NoPermission { .. })), "{journal}");
    }
}

#[test]
fn read_only_folders() {
    if !bound_by_permissions("read_only_folders") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    drop(create(&at("delete.db"), ""));
    drop(create(&at("quiet ?#%.db"), "PRAGMA journal_mode=wal;"));
    drop(create(&at("writable.db"), "PRAGMA journal_mode=wal;"));
    let writer = create(&at("live.db"), "PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0;");
    for suffix in ["", "-wal"] {
        copy(&at(&format!("live.db{suffix}")), &at(&format!("crashed.db{suffix}")));
    }
    set_mode(&at("quiet ?#%.db"), 0o444);
    set_mode(folder.path(), 0o555);
    assert!(image_of(&at("delete.db")) == bytes_of(&at("delete.db")));
    // No sidecars, and nothing can be written: immutable.
    assert!(image_of(&at("quiet ?#%.db")) == bytes_of(&at("quiet ?#%.db")));
    // The file itself can be written, so immutability would be a guess.
    assert!(matches!(open(&at("writable.db")), Err(SqliteError::Unsupported { .. })));
    // With the sidecars of a live writer SQLite needs to create nothing.
    let image = image_of(&at("live.db"));
    // A log without its -shm cannot be read here, and must not be left out.
    assert!(matches!(open(&at("crashed.db")), Err(SqliteError::Unsupported { .. })));
    set_mode(folder.path(), 0o755);
    assert!(image_of(&at("crashed.db")) == image);
    drop(writer);
}

#[test]
fn an_immutable_file_that_changed_is_noticed() {
    if !bound_by_permissions("an_immutable_file_that_changed_is_noticed") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(create(&path, "PRAGMA journal_mode=wal;"));
    set_mode(&path, 0o444);
    set_mode(folder.path(), 0o555);
    let mut database = open(&path).unwrap();
    let capture = database.begin().unwrap();
    assert_eq!(capture.facts().journal_mode, JournalMode::Wal);
    set_mode(folder.path(), 0o755);
    fs::write(folder.path().join("a.db-wal"), b"x").unwrap();
    assert!(matches!(capture.finish(), Err(SqliteError::Moved { .. })));
}

#[test]
fn a_hot_journal_that_cannot_be_rolled_back_is_refused() {
    if !bound_by_permissions("a_hot_journal_that_cannot_be_rolled_back_is_refused") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (path, crashed) = (folder.path().join("hot.db"), folder.path().join("crashed.db"));
    let writer = create(&path, "PRAGMA cache_size=4;");
    writer.execute_batch("BEGIN; UPDATE t SET x = randomblob(300), y = 'changed ' || id;").unwrap();
    copy(&path, &crashed);
    copy(&folder.path().join("hot.db-journal"), &folder.path().join("crashed.db-journal"));
    let before = bytes_of(&crashed);
    set_mode(&crashed, 0o444);
    let error = open(&crashed).unwrap_err();
    assert!(matches!(&error, SqliteError::Unsupported { why, .. } if why.contains("-journal")), "{error:?}");
    assert!(before == bytes_of(&crashed));
}
