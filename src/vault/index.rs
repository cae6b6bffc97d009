//! Where chunks are: the vault's index objects, loaded into a local `SQLite` file so that memory does not
//! grow with the vault.
//!
//! The cache can be lost without harm and is never trusted over the vault: its entries count only for
//! index objects seen in this run's listing, and each carries a keyed checksum, so that bit rot there is a
//! miss and never a chunk that is wrongly believed to be stored. Chunk ids in it are keyed hashes; it
//! holds no plaintext.

mod entry;
mod whole;

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lru::LruCache;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use self::entry::Entry;
use super::core::Core;
use super::error::VaultError;
use super::layout;
use crate::chunk::Class;
use crate::crypto::secret::Secret32;
use crate::format::directory::Record;
use crate::format::envelope::ObjectKind;
use crate::format::index::{Index, PackEntry};
use crate::ids::{ChunkId, ObjectName};

/// Records that are added to the cache in one transaction, as whole objects allow.
const RECORDS_AT_ONCE: usize = 20_000;
/// How often the index is listed anew when objects vanish while they are read.
const RELISTINGS: usize = 3;
const CACHE_VERSION: i32 = 2;
/// Numbers of objects are never used again: memories of whole trees rest on that.
const SCHEMA: &str = "
    CREATE TABLE objects(object INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB NOT NULL UNIQUE);
    CREATE TABLE packs(pack INTEGER PRIMARY KEY, object INTEGER NOT NULL, name BLOB NOT NULL, header BLOB NOT NULL,
                       object_len INTEGER NOT NULL);
    CREATE INDEX packs_object ON packs(object);
    CREATE TABLE chunks(id BLOB NOT NULL, pack INTEGER NOT NULL, number INTEGER NOT NULL, entry BLOB NOT NULL,
                        PRIMARY KEY(id, pack, number)) WITHOUT ROWID;
    CREATE TABLE trees(root BLOB PRIMARY KEY, last_object INTEGER NOT NULL, mark BLOB NOT NULL) WITHOUT ROWID;
";

/// Where one stored form of a chunk is, and what its seal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: ObjectName,
    /// The pack's header with extension.
    pub header: Vec<u8>,
    /// The pack's length, in bytes; nothing but a hint.
    pub pack_len: u64,
    /// Number of the record in the pack.
    pub number: u32,
    /// Offset of the record in the pack, in bytes.
    pub offset: u64,
    /// The record.
    pub record: Record,
}

/// What the cache knows of a pack.
#[derive(Debug, Clone)]
struct PackRow {
    object: i64,
    name: ObjectName,
    header: Vec<u8>,
    len: u64,
}

/// Rows of packs at hand: look-ups come in runs of the same few packs.
const PACK_ROWS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Finds chunks. One per process and vault; look-ups are cheap, loading is proportional to what is new.
#[derive(Debug)]
pub struct ChunkIndex {
    connection: Connection,
    key: Secret32,
    /// Cache row of each index object that the vault was seen to have.
    seen: BTreeMap<i64, ObjectName>,
    /// Packs that index objects name and the vault was seen to lack.
    lost: HashSet<ObjectName>,
    /// Packs that are about to be deleted: nothing new may rely on them.
    condemned: HashSet<ObjectName>,
    /// Rows of packs read before, by their number.
    pack_rows: RefCell<LruCache<i64, PackRow>>,
    /// What memories of whole trees rest on; `None` until it is asked for, and when it has changed.
    basis: Option<whole::Basis>,
    /// The file of the cache, unless it is a private one.
    file: Option<PathBuf>,
}

/// An index object that could not be used.
#[derive(Debug)]
pub struct SkippedIndex {
    /// Its name.
    pub name: ObjectName,
    /// Why.
    pub error: VaultError,
}

impl ChunkIndex {
    /// Opens the cache in `folder`, or a private temporary one if there is no folder or it cannot be used.
    ///
    /// # Errors
    /// Not even a temporary one can be had.
    pub fn open(folder: Option<&Path>, key: Secret32) -> Result<Self, VaultError> {
        let (connection, file) = match folder.and_then(open_cache_file) {
            Some((connection, file)) => (connection, Some(file)),
            None => (open_temporary()?, None),
        };
        let (seen, lost, condemned, pack_rows) =
            (BTreeMap::new(), HashSet::new(), HashSet::new(), RefCell::new(LruCache::new(PACK_ROWS)));
        Ok(Self { connection, key, seen, lost, condemned, pack_rows, basis: None, file })
    }

    /// Reads every index object anew, past the cache.
    ///
    /// # Errors
    /// As [`synchronise`](Self::synchronise).
    pub(crate) fn read_anew(&mut self, core: &Core) -> Result<Vec<SkippedIndex>, VaultError> {
        let listed = core.names(layout::INDEX)?;
        self.connection = open_temporary()?;
        self.file = None;
        self.load(core, &listed)
    }

    /// After a chunk was not found: where a cache was used, it is thrown away, every index object read anew, and the
    /// answer is whether asking again makes sense.
    ///
    /// # Errors
    /// As [`synchronise`](Self::synchronise).
    pub(crate) fn distrust(&mut self, core: &Core) -> Result<bool, VaultError> {
        let Some(file) = self.file.take() else { return Ok(false) };
        remove_cache_file(&file);
        self.read_anew(core).map(|_| true)
    }

    /// Whether the vault was seen to lack a pack, or is about to.
    #[must_use]
    pub fn is_lost(&self, pack: ObjectName) -> bool {
        self.lost.contains(&pack) || self.condemned.contains(&pack)
    }

    /// Whether the vault was seen to lack a pack.
    pub(crate) fn is_missing(&self, pack: ObjectName) -> bool {
        self.lost.contains(&pack)
    }

    /// From now on, what these packs hold does not count as stored: they are condemned.
    pub fn avoid(&mut self, packs: impl IntoIterator<Item = ObjectName>) {
        self.condemned = packs.into_iter().collect();
        self.basis = None;
    }

    /// Looks which of the packs that index objects name are there and whole in length. What a lost one held does not
    /// count as stored: whoever has it again stores it anew.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub(crate) fn look_for_packs(&mut self, core: &Core) -> Result<Vec<ObjectName>, VaultError> {
        let present = core.names(layout::PACKS)?;
        let named = self.packs()?;
        let lost = named.iter().filter(|pack| present.binary_search(pack).is_err()).map(|(name, _)| *name);
        let mut lost: Vec<ObjectName> = lost.collect();
        lost.dedup();
        self.set_lost(lost.iter().copied().collect());
        Ok(lost)
    }

    fn set_lost(&mut self, lost: HashSet<ObjectName>) {
        self.lost = lost;
        self.basis = None;
    }

    /// Makes the cache know the index objects that the vault has now, and no others.
    ///
    /// # Errors
    /// The store cannot be listed. Single objects that cannot be read are returned, not fatal.
    pub(crate) fn synchronise(&mut self, core: &Core) -> Result<Vec<SkippedIndex>, VaultError> {
        let listed = core.names(layout::INDEX)?;
        match self.load(core, &listed) {
            Err(VaultError::Cache(_)) => {
                // Damaged or locked for too long: start over where nobody else can be in the way.
                self.connection = open_temporary()?;
                self.file = None;
                self.load(core, &listed)
            }
            result => result,
        }
    }

    /// A prune that replaces index objects meanwhile makes this begin anew: what the old ones said is in new ones.
    fn load(&mut self, core: &Core, listed: &[(ObjectName, u64)]) -> Result<Vec<SkippedIndex>, VaultError> {
        let mut skipped = self.load_listed(core, listed)?;
        for _ in 0..RELISTINGS {
            let is_gone = |skipped: &SkippedIndex| matches!(&skipped.error, VaultError::Store(error) if error.is_not_found());
            if !skipped.iter().any(is_gone) {
                break;
            }
            skipped = self.load_listed(core, &core.names(layout::INDEX)?)?;
        }
        Ok(skipped)
    }

    fn load_listed(
        &mut self,
        core: &Core,
        listed: &[(ObjectName, u64)],
    ) -> Result<Vec<SkippedIndex>, VaultError> {
        self.end_reading()?;
        self.drop_vanished(listed)?;
        self.seen.clear();
        self.basis = None;
        let mut skipped = Vec::new();
        let mut new = Vec::new();
        for (name, _) in listed {
            match object_row(&self.connection, *name)? {
                Some(object) => drop(self.seen.insert(object, *name)),
                None => new.push(*name),
            }
        }
        let mut read = Vec::new();
        let mut records = 0;
        core.read_each(
            &new,
            |name| core.read_object(ObjectKind::Index, name),
            |name, object| {
                let index = object.and_then(|(_, body)| {
                    Index::decode(&body).map_err(|error| {
                        VaultError::of_object(format!("{}/{name}", layout::INDEX), error.into())
                    })
                });
                match index {
                    Ok(index) => {
                        records +=
                            index.packs.iter().map(|pack| pack.directory.records().len()).sum::<usize>();
                        read.push((name, index));
                    }
                    Err(error) if error.is_of_ignorable_kind() => {}
                    Err(error) => skipped.push(SkippedIndex { name, error }),
                }
                if records < RECORDS_AT_ONCE {
                    return Ok(());
                }
                records = 0;
                self.add_all(&std::mem::take(&mut read))
            },
        )?;
        self.add_all(&read)?;
        Ok(skipped)
    }

    fn drop_vanished(&mut self, listed: &[(ObjectName, u64)]) -> Result<(), VaultError> {
        let known: Vec<(i64, [u8; 32])> = self
            .connection
            .prepare("SELECT object, name FROM objects")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let vanished: Vec<i64> = known
            .into_iter()
            .filter(|(_, name)| listed.binary_search_by_key(name, |(listed, _)| listed.0).is_err())
            .map(|(object, _)| object)
            .collect();
        if vanished.is_empty() {
            return Ok(());
        }
        // All at once: chunks are in the order of their ids, and finding those of a pack means going through all.
        let vanished = format!("{vanished:?}");
        let transaction = self.begin_writing()?;
        for delete in [
            "DELETE FROM chunks WHERE pack IN
                 (SELECT pack FROM packs WHERE object IN (SELECT value FROM json_each(?1)))",
            "DELETE FROM packs WHERE object IN (SELECT value FROM json_each(?1))",
            "DELETE FROM objects WHERE object IN (SELECT value FROM json_each(?1))",
        ] {
            transaction.execute(delete, [&vanished])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Adds an index object that is durable in the vault.
    ///
    /// # Errors
    /// The cache fails.
    pub(crate) fn add(&mut self, name: ObjectName, index: &Index) -> Result<(), VaultError> {
        self.add_all(&[(name, index)])
    }

    /// Adds several in one transaction: small ones touch the same pages of the cache.
    fn add_all<I: Borrow<Index>>(&mut self, objects: &[(ObjectName, I)]) -> Result<(), VaultError> {
        if objects.is_empty() {
            return Ok(());
        }
        let (key, mut added) = (self.key.clone(), Vec::with_capacity(objects.len()));
        let transaction = self.begin_writing()?;
        for (name, index) in objects {
            let object = match object_row(&transaction, *name)? {
                Some(object) => object,
                None => insert_object(&transaction, &key, *name, index.borrow())?,
            };
            added.push((object, *name));
        }
        transaction.commit()?;
        self.seen.extend(added);
        self.basis = None;
        Ok(())
    }

    /// All stored forms of a chunk, the shallowest first.
    ///
    /// # Errors
    /// The cache fails.
    pub fn forms(&self, class: Class, id: ChunkId) -> Result<Vec<Location>, VaultError> {
        self.read_on()?;
        let mut statement =
            self.connection.prepare_cached("SELECT pack, number, entry FROM chunks WHERE id = ?1")?;
        let mut rows = statement.query([&id.0[..]])?;
        let mut forms = Vec::new();
        while let Some(row) = rows.next()? {
            let Some(pack) = self.pack_row(row.get(0)?)? else { continue };
            let entry = Entry { id, pack: pack.name, header: &pack.header, number: row.get(1)? };
            if let Some((offset, record)) =
                entry.decode(&self.key, row.get_ref(2)?.as_blob().unwrap_or_default())
                && record.class == class
            {
                let (number, PackRow { name, header, len, .. }) = (entry.number, pack);
                forms.push(Location { pack: name, header, pack_len: len, number, offset, record });
            }
        }
        forms.sort_by_key(|location| location.record.encoding.depth());
        Ok(forms)
    }

    /// The row of a pack that an index object names which is in the vault.
    fn pack_row(&self, number: i64) -> Result<Option<PackRow>, rusqlite::Error> {
        let mut rows = self.pack_rows.borrow_mut();
        let known = if let Some(row) = rows.get(&number) {
            row.clone()
        } else {
            let select = "SELECT object, name, header, object_len FROM packs WHERE pack = ?1";
            let found = self.connection.prepare_cached(select)?.query_row([number], |row| {
                let (object, name, header) = (row.get(0)?, ObjectName(row.get(1)?), row.get(2)?);
                Ok(PackRow { object, name, header, len: row.get::<_, i64>(3)?.cast_unsigned() })
            });
            let Some(row) = found.optional()? else { return Ok(None) };
            rows.put(number, row.clone());
            row
        };
        Ok(self.seen.contains_key(&known.object).then_some(known))
    }

    /// Look-ups share one read transaction: beginning one for each would cost more than the look-up.
    fn read_on(&self) -> Result<(), rusqlite::Error> {
        if self.connection.is_autocommit() { self.connection.execute_batch("BEGIN") } else { Ok(()) }
    }

    fn end_reading(&mut self) -> Result<(), rusqlite::Error> {
        self.pack_rows.get_mut().clear();
        if self.connection.is_autocommit() { Ok(()) } else { self.connection.execute_batch("COMMIT") }
    }

    /// A transaction for writing, after that for look-ups has ended. What others wrote meanwhile is seen from now on.
    fn begin_writing(&mut self) -> Result<Transaction<'_>, rusqlite::Error> {
        self.end_reading()?;
        self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
    }

    /// The shallowest stored form of a chunk that is not known to be lost, nor a delta whose base is. What this does not
    /// find is not stored, and must be.
    ///
    /// # Errors
    /// The cache fails.
    pub fn find(&self, class: Class, id: ChunkId) -> Result<Option<Location>, VaultError> {
        self.find_below(class, id, u8::MAX)
    }

    fn find_below(&self, class: Class, id: ChunkId, below: u8) -> Result<Option<Location>, VaultError> {
        for location in self.forms(class, id)? {
            let own = location.record.encoding.depth();
            if own >= below {
                break;
            }
            let base_is_there = match location.record.encoding.base() {
                Some(base) => self.find_below(class, base, own)?.is_some(),
                None => true,
            };
            if base_is_there && !self.is_lost(location.pack) {
                return Ok(Some(location));
            }
        }
        Ok(None)
    }

    /// Names and lengths of all packs that the index objects name.
    ///
    /// # Errors
    /// The cache fails.
    pub fn packs(&self) -> Result<Vec<(ObjectName, u64)>, VaultError> {
        let mut statement = self.connection.prepare_cached("SELECT object, name, object_len FROM packs")?;
        let mut rows = statement.query([])?;
        let mut packs = Vec::new();
        while let Some(row) = rows.next()? {
            if self.seen.contains_key(&row.get(0)?) {
                packs.push((ObjectName(row.get(1)?), row.get::<_, i64>(2)?.cast_unsigned()));
            }
        }
        packs.sort_unstable();
        packs.dedup();
        Ok(packs)
    }

    /// Number of index objects in use.
    #[must_use]
    pub fn object_count(&self) -> usize {
        self.seen.len()
    }
}

fn object_row(connection: &Connection, name: ObjectName) -> Result<Option<i64>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT object FROM objects WHERE name = ?1")?
        .query_row([&name.0[..]], |row| row.get(0))
        .optional()
}

fn insert_object(
    transaction: &Transaction<'_>,
    key: &Secret32,
    name: ObjectName,
    index: &Index,
) -> Result<i64, rusqlite::Error> {
    transaction.execute("INSERT INTO objects(name) VALUES(?1)", [&name.0[..]])?;
    let object = transaction.last_insert_rowid();
    let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO chunks VALUES(?1, ?2, ?3, ?4)")?;
    for pack in &index.packs {
        transaction.execute(
            "INSERT INTO packs(object, name, header, object_len) VALUES(?1, ?2, ?3, ?4)",
            params![object, &pack.name.0[..], pack.header, pack.object_len.cast_signed()],
        )?;
        let row = transaction.last_insert_rowid();
        for (number, offset, record) in located(pack) {
            let entry = Entry { id: record.id, pack: pack.name, header: &pack.header, number };
            insert.execute(params![&record.id.0[..], row, number, entry.encode(key, offset, record)])?;
        }
    }
    Ok(object)
}

/// The records of a pack with their numbers and offsets.
pub(crate) fn located(pack: &PackEntry) -> impl Iterator<Item = (u32, u64, &Record)> {
    let mut offset = pack.header.len() as u64;
    (0u32..).zip(pack.directory.records()).map(move |(number, record)| {
        let start = offset;
        offset += u64::from(record.stored_len);
        (number, start, record)
    })
}

fn open_cache_file(folder: &Path) -> Option<(Connection, PathBuf)> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).ok()?;
    let path = folder.join("index.sqlite3");
    let connection = prepare(&path).or_else(|_| {
        // A cache that does not open is worth nothing; a new one costs time only.
        remove_cache_file(&path);
        prepare(&path)
    });
    Some((connection.ok()?, path))
}

fn remove_cache_file(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
}

fn prepare(path: &Path) -> Result<Connection, rusqlite::Error> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY;")?;
    let _ = std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600));
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "user_version", CACHE_VERSION)?;
    } else if version != CACHE_VERSION {
        return Err(rusqlite::Error::InvalidQuery);
    }
    transaction.commit()?;
    Ok(connection)
}

/// A database in a temporary file that `SQLite` deletes as soon as it is open.
fn open_temporary() -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open("")?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_cache_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("index.sqlite3"),
            b"this is not a database, at all, by any measure",
        )
        .unwrap();
        let index = ChunkIndex::open(Some(folder.path()), Secret32::new([1; 32])).unwrap();
        assert!(index.find(Class::Page, ChunkId([0; 16])).unwrap().is_none());
        assert!(folder.path().join("index.sqlite3").metadata().unwrap().len() > 1000);
    }
}
