//! Snapshot and restore of every kind of database there is: the restored file is what the next reader of the source
//! sees, byte for byte, and the source is left as any reader leaves it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use pagevault::checksum::sha256_portable;
use pagevault::clock::SystemClock;
use pagevault::error::ErrorKind;
use pagevault::monitor::Silent;
use pagevault::operations::assemble::assemble;
use pagevault::operations::check::{CheckRequest, DataLevel, check};
use pagevault::operations::list::{SnapshotInfo, SnapshotSpec, find};
use pagevault::operations::restore::RestoreReport;
use pagevault::operations::snapshot::SnapshotReport;
use pagevault::sqlite::{CheckLevel, Integrity, LOCK_BYTE_OFFSET, verify_image};
use pagevault::vault::Vault;
use rusqlite::{Connection, OpenFlags};

use crate::children::{bound_by_permissions, holder};
use crate::databases::{
    ROWS, bytes_of, contents, copy, create, difference, execute, read_as_anybody, settled, with_suffix,
};
use crate::support::{Collected, memory_vault, request, restore_to, restore_with, run, take};

/// Snapshots the database at `path` and restores it beside the test's other files.
fn there_and_back(vault: &Vault, path: &Path) -> (SnapshotReport, RestoreReport, Vec<u8>) {
    let taken = take(vault, path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("restored");
    let restored = restore_to(vault, &taken.snapshot_id.to_string(), &copy).unwrap();
    let bytes = fs::read(copy).unwrap();
    assert_eq!((taken.sha256, restored.sha256), (restored.sha256, sha256_portable(&bytes)));
    assert_eq!(taken.size, bytes.len() as u64);
    (taken, restored, bytes)
}

/// Proves a database at rest: exact, and left as a plain reader leaves it. `flags` is how that reader opens it.
fn proves(path: &Path, flags: OpenFlags) -> (SnapshotReport, RestoreReport) {
    let expected = settled(path);
    let aside = tempfile::tempdir().unwrap();
    let control = aside.path().join("control");
    copy(path.parent().unwrap(), &control);
    read_as_anybody(&control.join(path.file_name().unwrap()), flags);

    let (vault, _) = memory_vault();
    let (taken, restored, bytes) = there_and_back(&vault, path);
    assert!(bytes == expected, "{}: not the bytes that a reader sees", path.display());
    assert_eq!(restored.verified.sha256, Some(true));
    let differing = difference(&contents(path.parent().unwrap()), &contents(&control));
    assert!(differing.is_empty(), "{}: a reader leaves other {differing:?}", path.display());
    (taken, restored)
}

/// As [`proves`], of a sound database in a folder of its own.
fn proves_sound(path: &Path) -> (SnapshotReport, RestoreReport) {
    let (taken, restored) = proves(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    assert_eq!(restored.verified.integrity_check, Integrity::Ok, "{}", path.display());
    (taken, restored)
}

/// A new folder below `folder` with the name of a database in it.
fn own_folder(folder: &Path, name: &str) -> PathBuf {
    fs::create_dir(folder.join(name)).unwrap();
    folder.join(name).join("app.db")
}

#[test]
fn every_kind_of_content() {
    let folder = tempfile::tempdir().unwrap();
    let words = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 400)";
    let kinds = [
        ("auto-vacuum-full", format!("PRAGMA auto_vacuum=FULL; {ROWS} DELETE FROM t WHERE id > 300;")),
        (
            "auto-vacuum-incremental",
            format!(
                "PRAGMA auto_vacuum=INCREMENTAL; {ROWS} DELETE FROM t WHERE id > 100; PRAGMA incremental_vacuum(5);"
            ),
        ),
        ("free-pages", format!("{ROWS} DELETE FROM t;")),
        ("utf-16le", format!("PRAGMA encoding='UTF-16le'; {ROWS} INSERT INTO t(y) VALUES('käse 日本 🧀');")),
        ("utf-16be", format!("PRAGMA encoding='UTF-16be'; {ROWS} INSERT INTO t(y) VALUES('käse 日本 🧀');")),
        (
            "fts5",
            format!(
                "CREATE VIRTUAL TABLE f USING fts5(a, b, tokenize='porter');
                 {words} INSERT INTO f SELECT 'some words of row ' || i, 'and ' || hex(randomblob(20)) FROM n;
                 DELETE FROM f WHERE rowid % 3 = 0;"
            ),
        ),
        (
            "r-tree",
            format!(
                "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1, y0, y1);
                 {words} INSERT INTO r SELECT i, i, i + 1, 500 - i, 501 - i FROM n;"
            ),
        ),
        (
            "without-rowid",
            format!(
                "CREATE TABLE w(a TEXT, b BLOB, PRIMARY KEY(a, b)) WITHOUT ROWID;
                 {words} INSERT INTO w SELECT 'key ' || i, randomblob(i) FROM n;"
            ),
        ),
        (
            "overflow-and-strict",
            "CREATE TABLE s(a ANY, b BLOB, c TEXT AS (hex(b)) VIRTUAL) STRICT;
             INSERT INTO s(a, b) VALUES(1, randomblob(700000)), (NULL, zeroblob(100000)), ('x', randomblob(5));
             CREATE INDEX si ON s(length(b)) WHERE a IS NOT NULL; CREATE VIEW v AS SELECT * FROM s;
             CREATE TRIGGER g AFTER DELETE ON s BEGIN SELECT 1; END;"
                .to_owned(),
        ),
        ("nothing-but-a-schema", "CREATE TABLE t(x);".to_owned()),
    ];
    for (name, sql) in kinds {
        for (page_size, journal) in [(512, "wal"), (512, "delete"), (4096, "wal"), (32_768, "delete")] {
            let path = own_folder(folder.path(), &format!("{name}-{page_size}-{journal}"));
            execute(&path, &format!("PRAGMA page_size={page_size}; PRAGMA journal_mode={journal}; {sql}"));
            let (taken, _) = proves_sound(&path);
            assert_eq!(taken.page_size, page_size);
            assert_eq!(u64::from(taken.page_count) * u64::from(page_size), taken.size);
        }
    }
}

#[test]
fn other_rollback_journals() {
    let folder = tempfile::tempdir().unwrap();
    for journal in ["truncate", "persist", "memory", "off"] {
        let path = own_folder(folder.path(), journal);
        execute(&path, &format!("PRAGMA journal_mode={journal}; {ROWS} UPDATE t SET y = y || '!';"));
        assert_eq!(with_suffix(&path, "-journal").exists(), ["truncate", "persist"].contains(&journal));
        proves_sound(&path);
    }
}

/// A database whose pages end in 32 bytes that `SQLite` leaves alone, as encrypting extensions have it.
#[test]
fn reserved_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for journal in ["wal", "delete"] {
        let path = own_folder(folder.path(), journal);
        execute(&path, "PRAGMA page_size=1024; PRAGMA user_version=1;");
        // An empty first page: the field at 20, and the end of the b-tree page's content area.
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[32], 20).unwrap();
        file.write_all_at(&(1024_u16 - 32).to_be_bytes(), 105).unwrap();
        drop(file);
        create(&path, &format!("PRAGMA journal_mode={journal}"));
        // What an extension keeps there is content like any other.
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        for page in 0..file.metadata().unwrap().len() / 1024 {
            file.write_all_at(&[0xe5; 32], page * 1024 + 992).unwrap();
        }
        drop(file);
        proves_sound(&path);
        assert_eq!(fs::read(&path).unwrap()[20], 32);
    }
}

#[test]
fn empty_and_one_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = own_folder(folder.path(), "empty");
    fs::write(&path, b"").unwrap();
    let (taken, _) = proves(&path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    assert_eq!((taken.size, taken.page_count, taken.chunks.total), (0, 0, 0));
    // It gets its first pages, and loses them again: increments from and to nothing.
    let (vault, _) = memory_vault();
    let mut taken = Vec::new();
    for sql in ["", ROWS, ""] {
        if sql.is_empty() {
            fs::write(&path, b"").unwrap();
        } else {
            execute(&path, sql);
        }
        taken.push((there_and_back(&vault, &path).0, fs::read(&path).unwrap()));
    }
    for (taken, bytes) in taken {
        let copy = folder.path().join(taken.snapshot_id.to_string());
        restore_to(&vault, &taken.snapshot_id.to_string(), &copy).unwrap();
        assert!(fs::read(copy).unwrap() == bytes);
    }
    for journal in ["wal", "delete"] {
        let path = own_folder(folder.path(), &format!("one-page-{journal}"));
        execute(&path, &format!("PRAGMA journal_mode={journal}; PRAGMA user_version=3"));
        let (taken, _) = proves_sound(&path);
        assert_eq!((taken.size, taken.page_count, taken.chunks.total), (4096, 1, 1));
    }
}

#[test]
fn content_that_is_only_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = own_folder(folder.path(), "crashed");
    let sql = format!("PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; {ROWS}");
    let writer = holder(&path, &sql);
    assert_eq!(fs::metadata(&path).unwrap().len(), 4096);
    // Beside the live writer: its file and log do not change by a byte.
    let before = contents(path.parent().unwrap());
    let (vault, _) = memory_vault();
    let (taken, _, bytes) = there_and_back(&vault, &path);
    assert!(bytes == settled(&path) && taken.page_count > 10);
    assert_eq!(difference(&contents(path.parent().unwrap()), &before), [""; 0]);
    // After its death.
    writer.kill();
    proves_sound(&path);
    assert_eq!(fs::metadata(&path).unwrap().len(), 4096);
    assert!(with_suffix(&path, "-wal").metadata().unwrap().len() > 4096);
}

/// The last transaction of a killed process is in the log, but its commit is not.
#[test]
fn a_transaction_that_never_ended_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = own_folder(folder.path(), "crashed");
    let update = "BEGIN; UPDATE t SET x = randomblob(300), y = 'never';";
    let sql =
        format!("PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=4; {ROWS} {update}");
    holder(&path, &sql).kill();
    let (_, restored) = proves_sound(&path);
    assert_eq!(restored.verified.integrity_check, Integrity::Ok);
    let never: u32 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM t WHERE y = 'never'", (), |row| row.get(0))
        .unwrap();
    assert_eq!(never, 0);
}

#[test]
fn hot_journals() {
    let folder = tempfile::tempdir().unwrap();
    for journal in ["delete", "truncate", "persist"] {
        let path = own_folder(folder.path(), journal);
        // Free pages are not journalled: what they hold does not come back.
        execute(&path, &format!("PRAGMA page_size=1024; PRAGMA journal_mode={journal}; {ROWS} VACUUM;"));
        let before = fs::read(&path).unwrap();
        let sql = format!(
            "PRAGMA journal_mode={journal}; PRAGMA cache_size=4; BEGIN;
             UPDATE t SET x = randomblob(300), y = 'changed ' || id; INSERT INTO t(x) VALUES(zeroblob(50000));"
        );
        holder(&path, &sql).kill();
        assert!(fs::read(&path).unwrap() != before, "{journal}: the transaction has reached the file");
        // Whoever comes first rolls it back, in the file too; a read-only reader could not.
        proves(&path, OpenFlags::SQLITE_OPEN_READ_WRITE);
        assert!(fs::read(&path).unwrap() == before, "{journal}");
    }
}

/// A file across 1 GiB, sparse, whose pages beyond those of [`ROWS`] are in its free list; something that is not
/// zeros lies where `SQLite` keeps its locks.
fn across_the_lock_byte_page(path: &Path, page_size: u32, journal: &str) -> u32 {
    create(path, &format!("PRAGMA page_size={page_size}; PRAGMA journal_mode={journal}"));
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut free_before = [0; 8];
    file.read_exact_at(&mut free_before, 32).unwrap();
    assert_eq!(free_before, [0; 8], "ROWS leaves no free pages");
    let used = u32::try_from(file.metadata().unwrap().len()).unwrap() / page_size;
    let lock_page = u32::try_from(LOCK_BYTE_OFFSET).unwrap() / page_size + 1;
    let count = lock_page + 2;
    file.set_len(u64::from(count) * u64::from(page_size)).unwrap();
    let at = |page: u32| u64::from(page - 1) * u64::from(page_size);
    let free: Vec<u32> = (used + 1..=count).filter(|&page| page != lock_page).collect();
    // Trunk pages (file format, section 1.5): the next trunk, how many leaves, and the leaves.
    let trunks: Vec<&[u32]> = free.chunks(page_size as usize / 4 - 8).collect();
    for (number, trunk) in trunks.iter().enumerate() {
        let next = trunks.get(number + 1).map_or(0, |next| next[0]);
        let fields = [next, u32::try_from(trunk.len() - 1).unwrap()];
        let bytes: Vec<u8> = fields.iter().chain(&trunk[1..]).flat_map(|field| field.to_be_bytes()).collect();
        file.write_all_at(&bytes, at(trunk[0])).unwrap();
    }
    let free_count = u32::try_from(free.len()).unwrap();
    for (offset, field) in [(28, count), (32, free[0]), (36, free_count)] {
        file.write_all_at(&field.to_be_bytes(), offset).unwrap();
    }
    file.write_all_at(&vec![b'*'; 3 * page_size as usize], at(lock_page - 1)).unwrap();
    count
}

/// Compares what is restored, piece by piece, with a source in which all is zeros where the locks are.
struct Comparison {
    source: fs::File,
    page_size: usize,
    at: u64,
}

impl Comparison {
    fn of(source: &Path, page_size: u32) -> Self {
        Self { source: fs::File::open(source).unwrap(), page_size: page_size as usize, at: 0 }
    }

    fn goes_on_with(&mut self, piece: &[u8]) {
        let mut expected = vec![0; piece.len()];
        self.source.read_exact_at(&mut expected, self.at).unwrap();
        if self.at == LOCK_BYTE_OFFSET {
            assert!(expected[0] == b'*', "something else is there");
            expected[..self.page_size].fill(0);
        }
        assert!(expected == piece, "{}: the bytes at {}", self.page_size, self.at);
        self.at += piece.len() as u64;
    }

    fn ends(&self) {
        assert_eq!(self.at, self.source.metadata().unwrap().len());
    }
}

/// Without a gigabyte on the disk: pieces are compared as a restore gets them, and `SQLite` checks the stored image.
#[test]
fn the_lock_byte_page_is_zeros_and_all_around_it_is_exact() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.db");
    let count = across_the_lock_byte_page(&path, 65_536, "delete");
    let (vault, _) = memory_vault();
    let taken = take(&vault, &path).unwrap();
    assert_eq!((taken.page_count, taken.page_size), (count, 65_536));
    let spec = taken.snapshot_id.to_string().parse().unwrap();
    let snapshot = find(&vault, &spec, jiff::Timestamp::now(), &Silent).unwrap();
    let mut comparison = Comparison::of(&path, 65_536);
    let sha256 = assemble(&vault, &snapshot, &Silent, &mut |piece| {
        comparison.goes_on_with(piece);
        Ok(())
    });
    assert_eq!(sha256.unwrap(), taken.sha256);
    comparison.ends();
    let image = vault.image(&snapshot).unwrap();
    assert_eq!(verify_image(Box::new(image), CheckLevel::Full, &[]).unwrap().integrity, Integrity::Ok);
}

/// All page sizes, into files that then live on; 1 GiB each, minutes in all:
/// `cargo test --release --test integration the_lock_byte_page -- --ignored`.
#[test]
#[ignore = "takes minutes: 1 GiB for each page size"]
fn the_lock_byte_page_at_every_page_size() {
    for (shift, journal) in (9..=16).zip(["wal", "delete"].into_iter().cycle()) {
        let page_size = 1 << shift;
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("big.db"), folder.path().join("copy"));
        let count = across_the_lock_byte_page(&path, page_size, journal);
        let (vault, _) = memory_vault();
        let taken = take(&vault, &path).unwrap();
        assert_eq!((taken.page_count, taken.page_size), (count, page_size));
        let restored = restore_to(&vault, &taken.snapshot_id.to_string(), &copy).unwrap();
        assert_eq!(restored.verified.integrity_check, Integrity::Ok);
        let mut comparison = Comparison::of(&path, page_size);
        let (file, mut piece) = (fs::File::open(&copy).unwrap(), vec![0; 65_536]);
        while comparison.at < taken.size {
            piece.truncate(usize::try_from(taken.size - comparison.at).unwrap().min(65_536));
            file.read_exact_at(&mut piece, comparison.at).unwrap();
            comparison.goes_on_with(&piece);
        }
        comparison.ends();
        // The free pages are used again, from the first one on.
        drop(file);
        execute(&copy, "INSERT INTO t(x) SELECT zeroblob(500000) FROM t LIMIT 5; PRAGMA quick_check;");
    }
}

#[test]
fn names_of_all_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let names: [&[u8]; 17] = [
        b"a b.db",
        b" leading and trailing ",
        b"what?mode=ro.db",
        b"100%41.db",
        b"no#1.db",
        "käse-日本-🧀.db".as_bytes(),
        b"file:x.db",
        b"'q\"u`o$(te).db",
        b":memory:",
        b"-rf",
        b"back\\slash.db",
        b"*.db",
        b"app.db-wal",
        b"many.dots.in.a.name",
        b".hidden",
        b"latin1-k\xe4se.db",
        b"\xff\xfe\x80",
    ];
    let (vault, _) = memory_vault();
    for (number, name) in names.iter().enumerate() {
        let name = OsString::from_vec(name.to_vec());
        let place = folder.path().join(number.to_string());
        fs::create_dir(&place).unwrap();
        let plain = place.join("plain");
        create(&plain, if number % 2 == 0 { "PRAGMA journal_mode=wal" } else { "" });
        let path = place.join(&name);
        fs::rename(plain, &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let taken = take(&vault, &path).unwrap_or_else(|error| panic!("{name:?}: {error}"));
        let lossy_stem = Path::new(&name).file_stem().unwrap().to_string_lossy().into_owned();
        assert_eq!(taken.database, lossy_stem);
        let target = folder.path().join("restored").join(&name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        restore_to(&vault, &taken.snapshot_id.to_string(), &target).unwrap();
        assert!(fs::read(&target).unwrap() == bytes, "{name:?}");
        // Nothing under another name, as an escape that was taken literally would leave.
        let found: Vec<_> = contents(&place).into_keys().collect();
        for found in found {
            assert!(found.as_encoded_bytes().starts_with(name.as_encoded_bytes()), "{found:?}");
        }
        // The snapshot is found again by the name, and the database is the same.
        let again = take(&vault, &path).unwrap();
        assert_eq!(again.parent, Some(taken.snapshot_id), "{name:?}");
        let spec = SnapshotSpec::Of(Some(lossy_stem), pagevault::operations::list::Moment::Latest);
        let found = find(&vault, &spec, jiff::Timestamp::now(), &Silent).unwrap();
        assert_eq!(found.id, again.snapshot_id);
    }
}

/// `@` separates name and time, and a control character would rule the terminal: such a file needs a name.
#[test]
fn file_names_that_cannot_name_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, _) = memory_vault();
    for (number, name) in ["me@work.db", "new\nline.db", "bell\u{7}.db"].into_iter().enumerate() {
        let path = folder.path().join(name);
        create(&path, "PRAGMA journal_mode=wal");
        let bytes = fs::read(&path).unwrap();
        let error = take(&vault, &path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{name:?}: {error}");
        assert!(error.hint().unwrap().contains("--name"));
        let mut named = request(&[&path]);
        named.name = Some(format!("name {number}"));
        let taken = run(&vault, &named).unwrap().pop().unwrap().1.unwrap();
        let target = folder.path().join(format!("restored {name}"));
        restore_to(&vault, &taken.snapshot_id.to_string(), &target).unwrap();
        assert!(fs::read(target).unwrap() == bytes);
        // From then on the path is known.
        assert_eq!(take(&vault, &path).unwrap().database, format!("name {number}"));
    }
}

#[test]
fn names_as_long_as_they_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, _) = memory_vault();
    // `-journal` must still fit behind it.
    let name = "n".repeat(255 - "-journal".len());
    let path = folder.path().join(&name);
    create(&path, "");
    let taken = take(&vault, &path).unwrap();
    let target = folder.path().join("restored").join(&name);
    fs::create_dir(target.parent().unwrap()).unwrap();
    restore_to(&vault, &taken.snapshot_id.to_string(), &target).unwrap();
    assert!(fs::read(target).unwrap() == fs::read(path).unwrap());
}

#[test]
fn links_to_one_file_are_one_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    create(&path, "PRAGMA journal_mode=wal");
    let links = ["one", "two"].map(|name| folder.path().join(name));
    for link in &links {
        symlink(&path, link).unwrap();
    }
    let (vault, _) = memory_vault();
    let one = take(&vault, &links[0]).unwrap();
    let two = take(&vault, &links[1]).unwrap();
    let direct = take(&vault, &path).unwrap();
    assert_eq!((two.parent, direct.parent), (Some(one.snapshot_id), Some(two.snapshot_id)));
    let source = fs::canonicalize(&path).unwrap().to_string_lossy().into_owned();
    for taken in [&one, &two, &direct] {
        assert_eq!((taken.database.as_str(), &taken.source), ("app", &source));
        assert_eq!(info(&vault, taken).database_id, info(&vault, &one).database_id);
    }
    assert!(!folder.path().join("one-wal").exists(), "SQLite resolves links as well");
}

#[test]
fn links_to_one_file_in_one_run_are_one_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    create(&path, "");
    symlink(&path, folder.path().join("link")).unwrap();
    let (vault, _) = memory_vault();
    let both = request(&[&path, &folder.path().join("link")]);
    let taken: Vec<_> = run(&vault, &both).unwrap().into_iter().map(|(_, taken)| taken.unwrap()).collect();
    assert_eq!(taken.len(), 2);
    assert_eq!(info(&vault, &taken[0]).database_id, info(&vault, &taken[1]).database_id);
    assert_eq!(taken[0].sha256, taken[1].sha256);
}

fn info(vault: &Vault, taken: &SnapshotReport) -> SnapshotInfo {
    let spec = taken.snapshot_id.to_string().parse().unwrap();
    SnapshotInfo::from(&find(vault, &spec, jiff::Timestamp::now(), &Silent).unwrap())
}

#[test]
fn read_only_files_and_folders() {
    if !bound_by_permissions("capture_cases::read_only_files_and_folders") {
        return;
    }
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for journal in ["delete", "wal"] {
        for (file_mode, folder_mode) in [(0o444, 0o755), (0o444, 0o555), (0o644, 0o555)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("app.db");
            create(&path, &format!("PRAGMA journal_mode={journal}"));
            let bytes = fs::read(&path).unwrap();
            set_mode(&path, file_mode);
            set_mode(folder.path(), folder_mode);
            let before = contents(folder.path());
            let (vault, _) = memory_vault();
            let what = format!("{journal} {file_mode:o} {folder_mode:o}");
            if (journal, file_mode) == ("wal", 0o644) {
                // It can be written by others, and SQLite cannot make the -shm by which they would agree.
                let error = take(&vault, &path).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Refused, "{what}: {error}");
            } else {
                let (_, _, restored) = there_and_back(&vault, &path);
                assert!(restored == bytes, "{what}");
            }
            if folder_mode == 0o555 {
                assert_eq!(difference(&contents(folder.path()), &before), [""; 0], "{what}");
            }
            set_mode(folder.path(), 0o755);
        }
    }
}

/// The collation is the application's: nobody else can check its index, and nobody needs to.
#[test]
fn what_only_the_application_has_is_said_and_stands_in_no_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = own_folder(folder.path(), "collation");
    create(&path, "PRAGMA journal_mode=wal");
    execute(
        &path,
        "CREATE INDEX german ON t(y COLLATE NOCASE); PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'GERMAN')",
    );
    let (_, restored) = proves(&path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let because = "no such collation sequence: GERMAN".to_owned();
    assert_eq!(restored.verified.integrity_check, Integrity::NotCheckable { because });

    let (vault, _) = memory_vault();
    let heard = Collected::default();
    let mut verified = request(&[&path]);
    verified.verify = true;
    let mut outcomes = Vec::new();
    pagevault::operations::snapshot::snapshot(&vault, &verified, &SystemClock, &heard, &mut |_, outcome| {
        outcomes.push(outcome);
    })
    .unwrap();
    outcomes.pop().unwrap().unwrap();
    let warnings = heard.warnings();
    assert!(
        warnings.iter().any(|warning| warning.contains("GERMAN")),
        "a test restore says so: {warnings:?}"
    );

    let everything = CheckRequest { data: DataLevel::All, test_restore: Some(None) };
    let report = check(&vault, &everything, &SystemClock, &Silent).unwrap();
    assert_eq!(report.problems, []);
    assert!(report.warnings[0].contains("GERMAN"), "{:?}", report.warnings);
}

#[test]
fn what_show_knows() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, _) = memory_vault();
    for (journal, user_version, application_id) in
        [("wal", 7, 0x4150_5031), ("delete", -7, -1), ("delete", 0, 0), ("wal", i32::MAX, i32::MIN)]
    {
        let path = own_folder(folder.path(), &format!("{journal}{user_version}"));
        let numbers = format!("PRAGMA user_version={user_version}; PRAGMA application_id={application_id}");
        create(&path, &format!("PRAGMA journal_mode={journal}; {numbers}"));
        let mut described = request(&[&path]);
        described.name = Some(format!("{journal} {user_version}"));
        described.description = Some("before the move".to_owned());
        described.tags = vec![("ticket".to_owned(), "42".to_owned())];
        described.required_tables = vec!["T".to_owned()];
        let taken = run(&vault, &described).unwrap().pop().unwrap().1.unwrap();
        let shown = serde_json::to_value(info(&vault, &taken)).unwrap();
        assert_eq!(shown["user_version"], user_version);
        assert_eq!(shown["application_id"], application_id);
        let mode = if journal == "wal" { "wal" } else { "rollback" };
        assert_eq!(shown["journal_mode"], mode);
        assert_eq!(shown["source"], path.to_string_lossy().as_ref());
        assert_eq!(shown["description"], "before the move");
        assert_eq!(shown["tags"]["ticket"], "42");
        assert_eq!(shown["required_tables"][0], "T");
        assert_eq!(shown["sha256"], taken.sha256.to_string());
        assert_eq!(shown["host"], "test");
        assert_eq!(shown["sqlite_version"], rusqlite::version());
    }
}

#[test]
fn two_files_of_one_name_are_two_databases() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| {
        fs::create_dir(folder.path().join(name)).unwrap();
        folder.path().join(name).join("db.sqlite3")
    });
    create(&one, "");
    create(&two, "PRAGMA journal_mode=wal");
    let (vault, _) = memory_vault();
    let first = take(&vault, &one).unwrap();
    let error = take(&vault, &two).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("\"db\"") && error.hint().unwrap().contains("--name"), "{error}");

    let mut named = request(&[&two]);
    named.name = Some("second".to_owned());
    let second = run(&vault, &named).unwrap().pop().unwrap().1.unwrap();
    assert_eq!((second.database.as_str(), second.parent), ("second", None));
    // Each is known by its path, and has its own line of parents.
    execute(&one, "DELETE FROM t WHERE id = 1");
    execute(&two, "DELETE FROM t WHERE id = 2");
    let (next, following) = (take(&vault, &one).unwrap(), take(&vault, &two).unwrap());
    assert_eq!((next.database.as_str(), next.parent), ("db", Some(first.snapshot_id)));
    assert_eq!((following.database.as_str(), following.parent), ("second", Some(second.snapshot_id)));
    assert_ne!(info(&vault, &next).database_id, info(&vault, &following).database_id);
    // Neither may take the other's name.
    for (path, name) in [(&one, "second"), (&two, "db")] {
        let mut taken = request(&[path]);
        taken.name = Some(name.to_owned());
        let error = run(&vault, &taken).unwrap().pop().unwrap().1.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
    // In one run as in two: the first is done, the second is refused.
    let (vault, _) = memory_vault();
    let outcomes = run(&vault, &request(&[&one, &two])).unwrap();
    let kinds: Vec<_> = outcomes.iter().map(|(path, outcome)| (path, outcome.is_ok())).collect();
    assert_eq!(kinds.len(), 2);
    assert!(kinds.contains(&(&one, true)) && kinds.contains(&(&two, false)), "{kinds:?}");
    // `latest` alone is not enough for two.
    let latest = "latest".parse().unwrap();
    find(&vault, &latest, jiff::Timestamp::now(), &Silent).unwrap();
    run(&vault, &named).unwrap().pop().unwrap().1.unwrap();
    let error = find(&vault, &latest, jiff::Timestamp::now(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(error.hint().unwrap().contains("second@latest"), "{:?}", error.hint());
}

#[test]
fn databases_share_chunks_and_a_moved_one_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    create(&path, "");
    execute(&path, "INSERT INTO t(x) SELECT randomblob(2000) FROM t");
    let (vault, _) = memory_vault();
    let first = take(&vault, &path).unwrap();
    assert_eq!(first.chunks.full, first.chunks.total);
    let twin = folder.path().join("twin.db");
    copy(&path, &twin);
    let other = take(&vault, &twin).unwrap();
    assert_eq!((other.parent, other.chunks.deduplicated), (None, other.chunks.total));
    assert_eq!((other.stored_bytes, other.sha256), (0, first.sha256));
    assert_ne!(info(&vault, &other).database_id, info(&vault, &first).database_id);
    // Two that are alike in one run.
    let (vault, _) = memory_vault();
    let mut stored: Vec<_> = run(&vault, &request(&[&path, &twin]))
        .unwrap()
        .into_iter()
        .map(|(_, taken)| taken.unwrap().stored_bytes)
        .collect();
    stored.sort_unstable();
    assert!(stored[0] == 0 && stored[1] > 0, "{stored:?}");
}

#[test]
fn restoring_without_a_check_says_that_nothing_was_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    create(&path, "");
    let (vault, _) = memory_vault();
    let taken = take(&vault, &path).unwrap();
    for (level, said) in [
        (CheckLevel::Full, Integrity::Ok),
        (CheckLevel::Quick, Integrity::Ok),
        (CheckLevel::None, Integrity::Skipped),
    ] {
        let target = folder.path().join(format!("{level:?}"));
        let restored =
            restore_with(&vault, &taken.snapshot_id.to_string(), &target, |request| request.check = level)
                .unwrap();
        assert_eq!(restored.verified.integrity_check, said);
        assert!(bytes_of(&target) == bytes_of(&path));
    }
}
