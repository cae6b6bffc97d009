//! SQL over an image, and the three answers about one.

use std::fs::File;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::page_source::Geometry;

/// The image of a database made by `sql`, its schema then edited by `edit`.
fn image(sql: &str, edit: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection.execute_batch(&format!("PRAGMA writable_schema=ON; {edit}")).unwrap();
    drop(connection);
    image_of(&path)
}

fn check(image: Vec<u8>, level: CheckLevel) -> Integrity {
    verify_image(Box::new(MemoryImage::new(image).unwrap()), level, &[]).unwrap().integrity
}

const ROWS: &str = "CREATE TABLE t(x, y TEXT); INSERT INTO t VALUES(1, 'a'), (2, 'B'), (3, 'c');";

#[test]
fn what_only_the_application_has_is_not_damage() {
    let replace =
        |from: &str, to: &str| format!("UPDATE sqlite_schema SET sql = replace(sql, '{from}', '{to}')");
    for (sql, from, to, named) in [
        ("CREATE INDEX i ON t(y COLLATE NOCASE);", "NOCASE", "GERMAN", "GERMAN"),
        (
            "CREATE TABLE u(z TEXT COLLATE NOCASE UNIQUE); INSERT INTO u VALUES('q');",
            "NOCASE",
            "GERMAN",
            "GERMAN",
        ),
        ("CREATE TABLE u(z TEXT COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID;", "NOCASE", "GERMAN", "GERMAN"),
        ("CREATE INDEX i ON t(lower(y));", "lower", "folded", "folded"),
        ("CREATE INDEX i ON t(x) WHERE abs(x) > 1;", "abs", "absol", "absol"),
        ("CREATE TABLE u(z, g AS (lower(z)) STORED); CREATE INDEX i ON u(g);", "lower", "folded", "folded"),
        ("CREATE TABLE u(z CHECK(abs(z) > 1)); INSERT INTO u VALUES(5);", "abs", "absol", "absol"),
        (
            "CREATE VIRTUAL TABLE f USING fts5(z, tokenize=''porter''); INSERT INTO f VALUES('w');",
            "porter",
            "german",
            "german",
        ),
        (
            "CREATE VIRTUAL TABLE f USING fts4(z, tokenize=porter); INSERT INTO f VALUES('w');",
            "porter",
            "german",
            "german",
        ),
        ("CREATE VIRTUAL TABLE f USING fts5(z);", "fts5", "spellfix1", "spellfix1"),
    ] {
        // A constraint or a stored value is not evaluated, a table without its module is passed over.
        let never_asked_for = ["CHECK", "STORED", "fts5(z);"].iter().any(|part| sql.contains(part));
        let made = image(&format!("{ROWS} {}", sql.replace("''", "\"")), &replace(from, to));
        for level in [CheckLevel::Full, CheckLevel::Quick] {
            match check(made.clone(), level) {
                Integrity::NotCheckable { because } => assert!(because.contains(named), "{sql}: {because}"),
                // What the quick check has no need of cannot be missing.
                Integrity::Ok => assert!(level == CheckLevel::Quick || never_asked_for, "{sql}"),
                other => panic!("{sql}: {other:?}"),
            }
        }
    }
}

#[test]
fn damage_is_found_beside_what_cannot_be_checked() {
    let made = image(
        &format!(
            "{ROWS} CREATE INDEX i ON t(y COLLATE NOCASE); CREATE TABLE u(z NOT NULL); INSERT INTO u VALUES(1);"
        ),
        "UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'GERMAN')",
    );
    assert!(matches!(check(made.clone(), CheckLevel::Full), Integrity::NotCheckable { .. }));
    let mut damaged = made;
    let last = damaged.len() - 4096;
    damaged[last..].fill(0xcc);
    assert!(matches!(check(damaged, CheckLevel::Full), Integrity::Damaged { .. }));
}

#[test]
fn good_images_are_ok() {
    for sql in [
        ROWS,
        "",
        "CREATE VIRTUAL TABLE f USING fts5(z, tokenize='porter'); INSERT INTO f VALUES('words');",
        "CREATE VIRTUAL TABLE f USING fts4(z); INSERT INTO f VALUES('words');",
        "CREATE VIRTUAL TABLE r USING rtree(id, a, b); INSERT INTO r VALUES(1, 2, 3);",
        "CREATE TABLE \"o'dd\"(x UNIQUE); INSERT INTO \"o'dd\" VALUES(1);",
        "CREATE VIEW v AS SELECT nosuch(1); CREATE TABLE t(x); CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT nosuch(); END;",
    ] {
        let made = image(sql, "");
        assert_eq!(check(made.clone(), CheckLevel::Full), Integrity::Ok, "{sql}");
        assert_eq!(check(made.clone(), CheckLevel::Quick), Integrity::Ok, "{sql}");
        assert_eq!(check(made, CheckLevel::None), Integrity::Skipped, "{sql}");
    }
}

#[test]
fn required_tables_and_foreign_keys() {
    let made = image(
        "PRAGMA foreign_keys=OFF; CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p(id), q REFERENCES gone(id));
         CREATE TABLE odd(x REFERENCES t(y)); CREATE TABLE t(y); INSERT INTO odd VALUES(1);
         INSERT INTO c(p) VALUES(1), (2), (3); INSERT INTO p VALUES(2);",
        "",
    );
    let required = ["P", "c", "users"].map(str::to_owned);
    let report =
        verify_image(Box::new(MemoryImage::new(made).unwrap()), CheckLevel::Full, &required).unwrap();
    assert_eq!(report.integrity, Integrity::Ok);
    assert_eq!(report.missing_tables, ["users"]);
    let problem = ForeignKeyProblem { table: "c".into(), parent: "p".into(), rows: 2 };
    assert_eq!(report.foreign_keys, [problem]);
}

#[test]
fn an_image_of_a_wal_database_opens_without_sidecars() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(create(&path, "PRAGMA journal_mode=wal; PRAGMA page_size=65536; VACUUM;"));
    let bytes = image_of(&path);
    assert_eq!(bytes[18..20], [2, 2]);
    let copied = folder.path().join("image");
    std::fs::write(&copied, &bytes).unwrap();
    let source = FileImage::new(File::open(&copied).unwrap()).unwrap();
    let image = ImageConnection::open(Box::new(source), 0).unwrap();
    let rows: u32 = image
        .query_row("SELECT count(*) FROM (SELECT DISTINCT x FROM t ORDER BY y)", (), |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 386);
    let fingerprint = schema_fingerprint(&image).unwrap();
    drop(image);
    assert!(!folder.path().join("image-wal").exists() && !folder.path().join("image-shm").exists());
    assert_eq!(open(&path).unwrap().begin().unwrap().facts().schema_fingerprint, fingerprint);
}

#[test]
fn an_image_cannot_be_written_and_reaches_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let image = ImageConnection::open(Box::new(MemoryImage::new(image(ROWS, "")).unwrap()), 0).unwrap();
    assert!(image.execute_batch("DELETE FROM t").is_err());
    assert!(image.execute_batch("PRAGMA query_only=0; DELETE FROM t").is_err());
    assert!(image.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE z(x)").is_err());
    let outside = folder.path().join("outside.db");
    assert!(image.execute_batch(&format!("ATTACH '{}' AS o", outside.display())).is_err());
    assert!(image.execute_batch(&format!("VACUUM INTO '{}'", outside.display())).is_err());
    assert!(!outside.exists());
}

#[test]
fn an_image_of_no_pages() {
    let report = verify(Vec::new());
    assert_eq!((report.integrity, report.foreign_keys), (Integrity::Ok, vec![]));
}

/// Fails, one way or another, from a page on.
struct Broken {
    inner: MemoryImage,
    from: u32,
    panics: bool,
}

impl PageSource for Broken {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn read_pages(&mut self, first_page: u32, into: &mut [u8]) -> Result<(), Error> {
        if first_page >= self.from {
            assert!(!self.panics, "broken on purpose");
            return Err(Error::new(ErrorKind::Damage, format!("chunk of page {first_page} is damaged")));
        }
        self.inner.read_pages(first_page, into)
    }
}

#[test]
fn the_error_of_the_source_comes_through() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(create(&path, ""));
    let inner = MemoryImage::new(image_of(&path)).unwrap();
    for (from, panics) in [(0, false), (16, false), (16, true)] {
        let source = Broken { inner: inner.clone(), from, panics };
        let error = ImageConnection::open(Box::new(source), 1 << 20).err().map_or_else(
            || {
                verify_image(Box::new(Broken { inner: inner.clone(), from, panics }), CheckLevel::Full, &[])
                    .unwrap_err()
            },
            Error::from,
        );
        if panics {
            assert!(error.to_string().contains("panicked"), "{error}");
        } else {
            assert_eq!(error.kind(), ErrorKind::Damage);
            assert!(error.to_string().starts_with("chunk of page"), "{error}");
        }
    }
}

#[test]
fn images_are_whole_pages_behind_a_header() {
    let bytes = image(ROWS, "");
    assert!(MemoryImage::new(bytes[..bytes.len() - 1].to_vec()).is_err());
    assert!(MemoryImage::new(b"text".to_vec()).is_err());
    assert!(MemoryImage::new(vec![7; 4096]).is_err());
    let page_size = crate::page_source::PageSize::new(512).unwrap();
    assert_eq!(MemoryImage::with_page_size(vec![7; 4096], page_size).unwrap().geometry().page_count, 8);
}
