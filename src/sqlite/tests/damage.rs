//! A damaged database is captured exactly or refused.

use std::fs;

use super::*;

fn damaged(journal: &str, damage: impl FnOnce(&Path)) -> Result<(Vec<u8>, Vec<u8>), SqliteError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.db");
    drop(create(&path, &format!("PRAGMA journal_mode={journal};")));
    damage(&path);
    let bytes = bytes_of(&path);
    let mut database = open(&path)?;
    let mut capture = database.begin()?;
    let image = read_all(&mut capture);
    capture.finish()?;
    Ok((bytes, image))
}

fn patch(path: &Path, offset: usize, by: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset..offset + by.len()].copy_from_slice(by);
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path, by: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - by).unwrap();
}

#[test]
fn a_truncated_file_is_refused() {
    for journal in ["delete", "wal"] {
        for by in [1, 100, 4095, 4096, 10_000] {
            let error = damaged(journal, |path| truncate(path, by)).unwrap_err();
            assert!(matches!(error, SqliteError::Damaged { .. }), "{journal} {by}: {error}");
            assert_eq!(crate::Error::from(error).kind(), crate::ErrorKind::Refused);
        }
    }
}

#[test]
fn a_truncated_file_is_refused_also_beside_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let (path, crashed) = (folder.path().join("w.db"), folder.path().join("crashed.db"));
    let writer = create(&path, "PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0;");
    writer.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); UPDATE t SET y = 'new' WHERE id = 5").unwrap();
    copy(&path, &crashed);
    copy(&folder.path().join("w.db-wal"), &folder.path().join("crashed.db-wal"));
    truncate(&crashed, 5000);
    let error = open(&crashed).unwrap().begin().unwrap_err();
    assert!(matches!(error, SqliteError::Damaged { .. }), "{error}");
}

#[test]
fn garbage_in_a_page_is_captured_exactly_and_found() {
    for at in [3 * 4096, 9 * 4096 + 2000] {
        let (bytes, image) = damaged("delete", |path| patch(path, at, &[0xee; 600])).unwrap();
        assert!(bytes == image);
        assert!(matches!(verify(image).integrity, Integrity::Damaged { findings } if !findings.is_empty()));
    }
}

#[test]
fn a_malformed_schema_is_captured_exactly_and_found() {
    for sql in [
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE t(' WHERE name = 't'",
        "UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 't'",
        "UPDATE sqlite_schema SET type = x'00', name = 7 WHERE name = 'i'",
    ] {
        let break_schema = |path: &Path| {
            let connection = Connection::open(path).unwrap();
            connection.execute_batch(&format!("PRAGMA writable_schema=ON; {sql}")).unwrap();
        };
        let (bytes, image) = damaged("delete", break_schema).unwrap();
        assert!(bytes == image, "{sql}");
        assert!(matches!(verify(image).integrity, Integrity::Damaged { .. }), "{sql}");
    }
    // Not even readable as a b-tree: refused.
    let error = damaged("wal", |path| patch(path, 100, &[0x77; 3000])).unwrap_err();
    assert!(matches!(error, SqliteError::Damaged { .. }), "{error:?}");
}

#[test]
fn headers_that_are_not_supported() {
    let error = damaged("delete", |path| patch(path, 18, &[3, 1])).unwrap_err();
    assert!(matches!(error, SqliteError::Unsupported { .. }), "{error}");
    let error = damaged("delete", |path| patch(path, 18, &[3, 3])).unwrap_err();
    assert!(matches!(error, SqliteError::NotADatabase { .. }), "{error}");
    let error = damaged("delete", |path| patch(path, 18, &[2, 1])).unwrap_err();
    assert!(matches!(error, SqliteError::Unsupported { .. }), "{error}");
    let error = damaged("delete", |path| patch(path, 28, &[0, 1, 0, 0])).unwrap_err();
    assert!(matches!(error, SqliteError::Damaged { .. }), "{error}");
}

#[test]
fn any_byte_of_the_header_may_be_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.db");
    drop(create(&whole, "PRAGMA page_size=1024"));
    let bytes = fs::read(&whole).unwrap();
    for at in 0..108 {
        for flip in [0x01, 0x80] {
            let path = folder.path().join(format!("{at}-{flip}.db"));
            let mut wrong = bytes.clone();
            wrong[at] ^= flip;
            fs::write(&path, &wrong).unwrap();
            let Ok(mut database) = open(&path) else { continue };
            let Ok(mut capture) = database.begin() else { continue };
            let image = read_all(&mut capture);
            assert!(image == wrong[..image.len()], "byte {at}");
            drop(capture);
            drop(database);
            fs::remove_file(&path).unwrap();
        }
    }
}
