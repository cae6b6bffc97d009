//! Databases for tests, and what can be seen of one from outside.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::{Connection, OpenFlags};

/// Tables and indexes on several pages, with holes.
pub const ROWS: &str = "
    CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB, y TEXT); CREATE INDEX i ON t(y);
    WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n LIMIT 500)
    INSERT INTO t SELECT value, randomblob(300), 'row ' || value FROM n;
    DELETE FROM t WHERE id % 7 = 0 OR id > 450;";

/// Opens `path`, making it if need be, runs `sql` and closes it.
pub fn execute(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// A database with [`ROWS`], closed.
pub fn create(path: &Path, pragmas: &str) {
    execute(path, &format!("{pragmas}; {ROWS}"));
}

/// `path` with something appended to its name, such as `-wal`.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The bytes of a file, read by another process: closing a descriptor in this one would drop the locks of a
/// connection that has the file open.
pub fn bytes_of(path: &Path) -> Vec<u8> {
    let output = Command::new("cat").arg("--").arg(path).output().unwrap();
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Copies a file or a folder with all that is in it by another process, as `cp -a` does.
pub fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args(["-a", "--"]).arg(from).arg(to).status().unwrap().success());
}

/// The image that the next reader of a database at rest would see, by `SQLite` itself on a copy: a hot journal rolled
/// back, the log copied back.
pub fn settled(path: &Path) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let copied = folder.path().join("settled.db");
    for suffix in ["", "-wal", "-journal"] {
        if with_suffix(path, suffix).exists() {
            copy(&with_suffix(path, suffix), &with_suffix(&copied, suffix));
        }
    }
    fs::set_permissions(&copied, fs::Permissions::from_mode(0o600)).unwrap();
    let connection = Connection::open(&copied).unwrap();
    connection.query_row("PRAGMA schema_version", (), |_| Ok(())).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
    connection.close().unwrap();
    fs::read(copied).unwrap()
}

/// What a plain reader does: opens the database, read-only or not, reads the schema, and closes it.
pub fn read_as_anybody(path: &Path, flags: OpenFlags) {
    let connection = Connection::open_with_flags(path, flags).unwrap();
    let read = "SELECT count(*) FROM sqlite_schema";
    connection.query_row(read, (), |row| row.get::<_, u32>(0)).unwrap();
    connection.close().unwrap();
}

/// A file as far as others can see it. A `-shm` is rebuilt by whoever comes first, so its bytes do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    mode: u32,
    owner: (u32, u32),
    bytes: Option<Vec<u8>>,
}

/// Everything in a folder (not in those below).
pub fn contents(folder: &Path) -> BTreeMap<OsString, Seen> {
    let seen = |entry: fs::DirEntry| {
        let metadata = entry.metadata().unwrap();
        let shm = entry.file_name().as_encoded_bytes().ends_with(b"-shm");
        let bytes = (metadata.is_file() && !shm).then(|| bytes_of(&entry.path()));
        let owner = (metadata.uid(), metadata.gid());
        (entry.file_name(), Seen { mode: metadata.mode(), owner, bytes })
    };
    fs::read_dir(folder).unwrap().map(|entry| seen(entry.unwrap())).collect()
}

/// Names of the files of `contents` whose bytes, mode or presence differ, for messages.
pub fn difference(one: &BTreeMap<OsString, Seen>, other: &BTreeMap<OsString, Seen>) -> Vec<OsString> {
    let names = one.keys().chain(other.keys());
    let mut names: Vec<_> = names.filter(|name| one.get(*name) != other.get(*name)).cloned().collect();
    names.sort();
    names.dedup();
    names
}

/// Numbers that look random, and are the same in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub fn choose<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}
