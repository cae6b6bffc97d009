//! A client that dies, or whose store fails, at any operation: what was published stays, nothing is damaged, and the
//! next run succeeds. Also other clients in the middle of an operation, and a store that only lets objects be added.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use pagevault::clock::{FixedClock, SystemClock};
use pagevault::crypto::secret::Secret32;
use pagevault::crypto::unlock::Unlocker;
use pagevault::error::{Error, Result};
use pagevault::format::keyslot::Argon2Params;
use pagevault::monitor::Silent;
use pagevault::operations::check::{CheckRequest, DataLevel, Problem, check};
use pagevault::operations::forget::{self, ForgetChoice, ForgetRequest};
use pagevault::operations::list::{ListFilter, SnapshotSpec, list};
use pagevault::operations::prune::{PruneRequest, WAIT, prune};
use pagevault::operations::retention::RetentionPolicy;
use pagevault::store::{
    Fault, FaultStore, InUse, MemoryStore, ObjectMeta, ObjectPath, OperationKind, Put, Store, StoreError,
};
use pagevault::vault::{LocalFolders, LockedVault, Vault};
use rusqlite::Connection;

use crate::repair::repair;
use crate::support::{create_vault_with, key, open_vault, take};
use crate::tamper::fixture::scratch;
use crate::tamper::judge::restored;

/// Snapshots that must be there, with their bytes.
type Kept = BTreeMap<String, Vec<u8>>;

struct World {
    folder: tempfile::TempDir,
    database: PathBuf,
}

impl World {
    fn new() -> Self {
        let folder = scratch();
        let database = folder.path().join("app.db");
        let db = Connection::open(&database).unwrap();
        db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT); BEGIN").unwrap();
        for row in 0..3000u32 {
            let noise = row.wrapping_mul(2_654_435_761);
            db.execute(
                "INSERT INTO t(body) VALUES(?1)",
                [format!("row {row} {noise:x} {}", "word ".repeat(9))],
            )
            .unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
        drop(db);
        Self { folder, database }
    }

    fn change(&self) {
        let db = Connection::open(&self.database).unwrap();
        db.execute("UPDATE t SET body = body || '!' WHERE id = 1500", []).unwrap();
    }

    fn image(&self) -> Vec<u8> {
        std::fs::read(&self.database).unwrap()
    }

    /// Folders of a client of its own.
    fn client(&self, name: impl ToString) -> LocalFolders {
        let place = self.folder.path().join(name.to_string());
        LocalFolders { cache: Some(place.join("cache")), state: Some(place.join("state")) }
    }
}

fn open_as(store: Box<dyn Store>, folders: &LocalFolders) -> Result<Vault> {
    Ok(LockedVault::find(store)?.unlock(&key(), folders)?)
}

fn other_key() -> Unlocker {
    Unlocker::RecoveryKey(Secret32::new([0x77; 32]))
}

/// What the client does that dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Create,
    Snapshot,
    AddKey,
    RemoveKey,
    Forget,
    /// Where others may use the vault.
    Prune,
    /// Alone in a local vault.
    PruneAlone,
}

impl Deed {
    /// Does it; the id of a snapshot that was reported as made.
    fn run(
        self,
        store: &Arc<FaultStore<MemoryStore>>,
        folders: &LocalFolders,
        world: &World,
    ) -> Result<Option<String>> {
        let boxed: Box<dyn Store> = Box::new(Arc::clone(store));
        let (argon2, now) = (Argon2Params::recommended(1), Timestamp::now());
        if self == Self::Create {
            Vault::create(boxed, &key(), argon2, None, now, folders)?;
            return Ok(None);
        }
        let boxed = if self == Self::PruneAlone {
            Box::new(Local { inner: Arc::clone(store), place: scratch() })
        } else {
            boxed
        };
        let vault = open_as(boxed, folders)?;
        match self {
            Self::Create => unreachable!(),
            Self::Forget => {
                let newest = SnapshotSpec::Latest(None);
                let choice = ForgetChoice::Named(vec![newest]);
                let request = ForgetRequest { choice, ..ForgetRequest::by_policy(RetentionPolicy::none()) };
                forget::plan(&vault, &request, &SystemClock, &Silent)?.execute(
                    &vault,
                    &SystemClock,
                    &Silent,
                )?;
            }
            Self::Prune | Self::PruneAlone => {
                prune(&vault, &PRUNE_ALL, &in_two_days(), &Silent)?;
            }
            Self::Snapshot => return Ok(Some(take(&vault, &world.database)?.snapshot_id.to_string())),
            Self::AddKey => drop(vault.add_slot(&other_key(), argon2, Some("other".to_owned()), now)?),
            Self::RemoveKey => {
                let slots = vault.slots()?;
                let other = slots.iter().find(|slot| Some(slot.slot.id) != vault.unlocked_by());
                let other = other.expect("a key that cannot be read is an error, not gone");
                vault.remove_slot(other.slot.id, now)?;
            }
        }
        Ok(None)
    }

    /// Whether the normal run leaves a point out: prunes have hundreds. `PAGEVAULT_THOROUGH` is for all of them.
    fn is_sampled(self, operation: u64, fault: Fault) -> bool {
        let offset =
            [Fault::Before, Fault::After, Fault::Torn].iter().position(|one| *one == fault).unwrap_or(0);
        matches!(self, Self::Prune | Self::PruneAlone)
            && std::env::var_os("PAGEVAULT_THOROUGH").is_none()
            && !(operation + 5 * offset as u64).is_multiple_of(17)
    }

    /// Whether a problem is what this deed may leave half done: said, and harming no snapshot.
    fn may_leave(self, problem: &Problem) -> bool {
        let control = problem.object.starts_with("vault.pv") || problem.object.starts_with("keys/");
        control
            && problem.snapshots.is_empty()
            && match self {
                Self::Create | Self::AddKey => problem.kind == "missing",
                // Removed according to the log, and still there in part: the check says to remove it again.
                Self::RemoveKey => problem.kind == "missing" || problem.kind == "history",
                Self::Snapshot | Self::Forget | Self::Prune | Self::PruneAlone => false,
            }
    }
}

/// Runs `deed` on copies of `before`, failing at each operation in each way; how many points there were.
fn at_every_operation(
    world: &World,
    deed: Deed,
    before: &MemoryStore,
    kept: &Kept,
    inject: impl Fn(&FaultStore<MemoryStore>, u64, Fault),
    client_of: impl Fn(u64, Fault) -> LocalFolders,
) -> u64 {
    let mut points = 0;
    for fault in [Fault::Before, Fault::After, Fault::Torn] {
        for operation in 0.. {
            if deed.is_sampled(operation, fault) {
                continue;
            }
            let store = Arc::new(FaultStore::new(before.fork()));
            inject(&store, operation, fault);
            let folders = client_of(operation, fault);
            let outcome = deed.run(&store, &folders, world);
            let Some(failed) = store.log().into_iter().nth(usize::try_from(operation).unwrap()) else {
                assert!(outcome.is_ok(), "{deed:?} fails without a fault: {:?}", outcome.err());
                break;
            };
            points += 1;
            let what =
                format!("{deed:?}, {fault:?} operation {operation}: {:?} {}", failed.kind, failed.path);
            if let Err(error) = &outcome {
                assert_clear(&what, error);
            }
            let torn = (fault == Fault::Torn && failed.kind == OperationKind::Put).then_some(failed.path);
            let mut must_be = kept.clone();
            must_be.extend(outcome.ok().flatten().map(|id| (id, world.image())));
            let state = Aftermath { world, deed, what: &what, torn: torn.as_deref(), folders: &folders };
            state.judge(store.inner(), &must_be);
        }
    }
    points
}

fn assert_clear(what: &str, error: &Error) {
    let text = error.to_string();
    let names_it = [
        "vault.pv",
        "keys",
        "packs",
        "index",
        "snapshots",
        "log",
        ".gitignore",
        "is not a vault",
        "reach",
        "snapshot",
    ];
    assert!(names_it.iter().any(|word| text.contains(word)), "{what}: not clear: {text}");
    assert!(!text.contains("worker thread"), "{what}: the cause is lost: {text}");
}

/// Everything that can go, even what could still be brought back.
const PRUNE_ALL: PruneRequest = PruneRequest { max_unused: 0.0, grace: SignedDuration::ZERO };

/// What was condemned has waited by then.
fn in_two_days() -> FixedClock {
    FixedClock(Timestamp::now() + WAIT * 2)
}

/// A store whose users see each other, as those of a folder do.
#[derive(Debug)]
struct Local {
    inner: Arc<FaultStore<MemoryStore>>,
    place: tempfile::TempDir,
}

impl Store for Local {
    crate::support::reads_of_inner!();

    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        self.inner.put_if_absent(path, bytes)
    }
    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner.list(folder, visit)
    }
    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.inner.delete(path)
    }
    fn in_use(&self, _: &str) -> Option<InUse> {
        InUse::enter(self.place.path())
    }
}

struct Aftermath<'a> {
    world: &'a World,
    deed: Deed,
    what: &'a str,
    /// An object of which only half is there: no store of this crate leaves one, others might.
    torn: Option<&'a str>,
    folders: &'a LocalFolders,
}

impl Aftermath<'_> {
    fn judge(&self, store: &MemoryStore, kept: &Kept) {
        let what = self.what;
        let store = Arc::new(store.fork());
        let boxed = || -> Box<dyn Store> { Box::new(Arc::clone(&store)) };
        let vault = match open_vault(boxed()) {
            Ok(vault) => vault,
            Err(error) if self.deed == Deed::Create => {
                if self.torn.is_some_and(|path| path.starts_with("vault.pv")) {
                    // Half a config cannot be told from a damaged one, so nothing is written over it.
                    assert!(error.to_string().contains("vault.pv"), "{what}: {error}");
                    return;
                }
                create_vault_with(boxed(), self.folders);
                open_vault(boxed()).unwrap_or_else(|error| panic!("{what}: {error}"))
            }
            Err(error) => panic!("{what}: does not open: {error}"),
        };
        for (id, image) in kept {
            let bytes =
                restored(&vault, id, self.world.folder.path()).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(bytes == *image, "{what}: {id} has other bytes");
        }
        self.check(&vault);
        // What is visible is complete, also where success was not reported.
        for info in list(&vault, &ListFilter::default(), &Silent).unwrap() {
            let id = info.snapshot_id.to_string();
            restored(&vault, &id, self.world.folder.path()).unwrap_or_else(|e| panic!("{what}: {id}: {e}"));
        }
        // The same client again, with what it remembers.
        let vault = open_as(boxed(), self.folders).unwrap_or_else(|error| panic!("{what}: {error}"));
        let next = take(&vault, &self.world.database).unwrap_or_else(|error| panic!("{what}: next: {error}"));
        let vault = open_vault(boxed()).unwrap();
        let bytes = restored(&vault, &next.snapshot_id.to_string(), self.world.folder.path()).unwrap();
        assert!(bytes == self.world.image(), "{what}: the next snapshot has other bytes");
        self.check(&vault);
        if matches!(self.deed, Deed::Prune | Deed::PruneAlone) && self.torn.is_none() {
            self.prune_again(boxed(), kept);
        }
    }

    /// The next prune finishes what was begun.
    fn prune_again(&self, store: Box<dyn Store>, kept: &Kept) {
        let what = self.what;
        let vault = open_as(store, self.folders).unwrap();
        prune(&vault, &PRUNE_ALL, &in_two_days(), &Silent).unwrap_or_else(|error| panic!("{what}: {error}"));
        prune(&vault, &PRUNE_ALL, &FixedClock(in_two_days().0 + WAIT * 2), &Silent).unwrap();
        for (id, image) in kept {
            let bytes = restored(&vault, id, self.world.folder.path())
                .unwrap_or_else(|e| panic!("{what}: again: {e}"));
            assert!(bytes == *image, "{what}: {id} has other bytes after another prune");
        }
        self.check(&vault);
    }

    fn check(&self, vault: &Vault) {
        let request = CheckRequest { data: DataLevel::All, test_restore: None };
        let report = check(vault, &request, &SystemClock, &Silent).unwrap();
        for problem in &report.problems {
            let half = self.torn.is_some_and(|path| problem.object == path && problem.snapshots.is_empty());
            let control = self.torn.is_some_and(|path| path.starts_with("keys/"))
                && problem.object.starts_with("keys/");
            assert!(half || control || self.deed.may_leave(problem), "{}: {problem:?}", self.what);
        }
    }
}

/// A vault with a snapshot, a second key and a database that has changed since.
fn prepared(world: &World) -> (Arc<MemoryStore>, Kept) {
    let store = Arc::new(MemoryStore::new());
    let vault = create_vault_with(Box::new(Arc::clone(&store)), &world.client("prepared"));
    let report = take(&vault, &world.database).unwrap();
    let kept = BTreeMap::from([(report.snapshot_id.to_string(), world.image())]);
    vault.add_slot(&other_key(), Argon2Params::recommended(1), None, Timestamp::now()).unwrap();
    world.change();
    (store, kept)
}

/// A vault of seven snapshots, of which all but the first and the last were forgotten, with packs that an earlier prune
/// has condemned.
fn to_prune(world: &World) -> (Arc<MemoryStore>, Kept) {
    let (store, mut kept) = prepared(world);
    let vault = open_as(Box::new(Arc::clone(&store)), &world.client("pruned")).unwrap();
    let mut specs = Vec::new();
    for number in 0..6i64 {
        let id = take(&vault, &world.database).unwrap().snapshot_id.to_string();
        if number == 5 {
            kept.insert(id, world.image());
            break;
        }
        specs.push(id.parse().unwrap());
        let db = Connection::open(&world.database).unwrap();
        let rewrite = "UPDATE t SET body = ?1 || hex(randomblob(40)) WHERE id % 3 = ?1 % 3";
        db.execute(rewrite, [number]).unwrap();
        if number == 1 {
            forget_named(&vault, std::mem::take(&mut specs));
            prune(&vault, &PRUNE_ALL, &SystemClock, &Silent).unwrap();
        }
    }
    forget_named(&vault, specs);
    world.change();
    (store, kept)
}

fn forget_named(vault: &Vault, specs: Vec<SnapshotSpec>) {
    let choice = ForgetChoice::Named(specs);
    let request = ForgetRequest { choice, ..ForgetRequest::by_policy(RetentionPolicy::none()) };
    forget::plan(vault, &request, &SystemClock, &Silent)
        .unwrap()
        .execute(vault, &SystemClock, &Silent)
        .unwrap();
}

fn stages(world: &World) -> Vec<(Deed, MemoryStore, Kept)> {
    let empty = MemoryStore::new();
    let created = Arc::new(MemoryStore::new());
    create_vault_with(Box::new(Arc::clone(&created)), &world.client("creator"));
    let (second, kept) = prepared(world);
    let (to_prune, needed) = to_prune(world);
    let mut but_the_newest = needed.clone();
    let vault = open_vault(Box::new(Arc::clone(&to_prune))).unwrap();
    let newest = list(&vault, &ListFilter::default(), &Silent).unwrap().pop().unwrap();
    but_the_newest.remove(&newest.snapshot_id.to_string());
    vec![
        (Deed::Create, empty, Kept::new()),
        (Deed::Forget, to_prune.fork(), but_the_newest),
        (Deed::Prune, to_prune.fork(), needed.clone()),
        (Deed::PruneAlone, to_prune.fork(), needed),
        (Deed::Snapshot, created.fork(), Kept::new()),
        (Deed::Snapshot, second.fork(), kept.clone()),
        (Deed::AddKey, second.fork(), kept.clone()),
        (Deed::RemoveKey, second.fork(), kept),
    ]
}

#[test]
fn a_client_that_dies_at_any_operation() {
    let world = World::new();
    let mut total = 0;
    for (stage, (deed, before, kept)) in stages(&world).into_iter().enumerate() {
        let client = |operation, fault| world.client(format!("dies-{stage}-{operation}-{fault:?}"));
        let points = at_every_operation(&world, deed, &before, &kept, FaultStore::crash_at, client);
        println!("{deed:?} over {} snapshots: {points} crashes", kept.len());
        total += points;
    }
    println!("{total} crash points");
    assert!(total > 150, "{total}");
}

#[test]
fn a_store_that_fails_once_at_any_operation() {
    let world = World::new();
    let mut total = 0;
    for (stage, (deed, before, kept)) in stages(&world).into_iter().enumerate() {
        let client = |operation, fault| world.client(format!("fails-{stage}-{operation}-{fault:?}"));
        total += at_every_operation(&world, deed, &before, &kept, FaultStore::fail_at, client);
    }
    println!("{total} failures");
}

#[test]
fn the_same_process_goes_on_after_a_store_error() {
    let world = World::new();
    let (before, kept) = prepared(&world);
    let mut points = 0;
    for fault in [Fault::Before, Fault::After] {
        for operation in 0.. {
            let store = Arc::new(FaultStore::new(before.fork()));
            let vault =
                open_as(Box::new(Arc::clone(&store)), &world.client(format!("on-{operation}-{fault:?}")))
                    .unwrap();
            store.reset();
            store.fail_at(operation, fault);
            let first = take(&vault, &world.database);
            let Some(failed) = store.log().into_iter().nth(usize::try_from(operation).unwrap()) else {
                break;
            };
            points += 1;
            let what = format!("{fault:?} operation {operation}: {failed:?}");
            let second = take(&vault, &world.database).unwrap_or_else(|error| panic!("{what}: {error}"));
            let vault = open_vault(Box::new(store.inner().fork())).unwrap();
            let reported = first.ok().into_iter().chain([second]);
            for id in reported.map(|report| report.snapshot_id.to_string()) {
                assert!(restored(&vault, &id, world.folder.path()).unwrap() == world.image(), "{what}");
            }
            for (id, image) in &kept {
                assert!(restored(&vault, id, world.folder.path()).unwrap() == *image, "{what}");
            }
            let request = CheckRequest { data: DataLevel::All, test_restore: None };
            let report = check(&vault, &request, &SystemClock, &Silent).unwrap();
            assert!(report.problems.is_empty(), "{what}: {report:?}");
        }
    }
    println!("{points} failures in a process that goes on");
}

/// A vault with an object of every kind damaged: a pack, the index, a manifest, a log object, a key slot, the config.
fn broken(world: &World) -> (MemoryStore, Kept) {
    let (store, mut kept) = prepared(world);
    let vault = open_as(Box::new(Arc::clone(&store)), &world.client("prepared")).unwrap();
    let report = take(&vault, &world.database).unwrap();
    kept.insert(report.snapshot_id.to_string(), world.image());
    let store = store.fork();
    let of = |folder: &str| {
        let paths = store.paths().into_iter().filter(|path| path.as_str().starts_with(folder));
        paths.collect::<Vec<ObjectPath>>()
    };
    let spoil_in = |store: &MemoryStore, path: &ObjectPath, at: usize| {
        let mut bytes = store.get(path, 1 << 30).unwrap();
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 1;
        store.replace(path, bytes);
    };
    let spoil = |path: &ObjectPath, at: usize| spoil_in(&store, path, at);
    // The trailer of a pack, all of whose records are whole; and an index object that does not name it, for with both
    // gone nobody knows where its records begin.
    let (packs, indexes) = (of("packs/"), of("index/"));
    let mut pairs = packs.iter().flat_map(|pack| indexes.iter().map(move |index| (pack, index)));
    let (pack, index) = pairs
        .find(|(pack, index)| {
            let trial = store.fork();
            spoil_in(&trial, pack, usize::MAX);
            spoil_in(&trial, index, 100);
            let vault = open_vault(Box::new(trial)).unwrap();
            repair(&vault, &crate::repair::request()).unwrap().0.makes_whole()
        })
        .expect("no pack can be rescued");
    spoil(pack, usize::MAX);
    spoil(index, 100);
    for folder in ["snapshots/", "keys/"] {
        spoil(&of(folder)[0], 100);
    }
    // One that published nothing: a manifest that neither an object nor the log knows is not brought back.
    let says_nothing_of_snapshots = |path: &&ObjectPath| {
        let without = store.fork();
        without.remove(path);
        let vault = open_vault(Box::new(without)).unwrap();
        let history = vault.history().unwrap();
        history.published.len() == kept.len()
    };
    spoil(of("log/").iter().find(says_nothing_of_snapshots).unwrap(), 100);
    drop(store.remove(&of("snapshots/")[1]));
    drop(store.remove(&ObjectPath::new("vault.pv").unwrap()));
    (store, kept)
}

/// Whatever step a repair dies at, the next one ends as if there had been none before it.
#[test]
fn a_repair_that_dies_or_fails_at_any_operation() {
    let world = World::new();
    let (before, kept) = broken(&world);
    let restorable = |store: &MemoryStore| -> Vec<String> {
        let vault = open_vault(Box::new(store.fork())).unwrap();
        let good = |(id, image): (&String, &Vec<u8>)| {
            let bytes = restored(&vault, id, world.folder.path()).ok()?;
            assert!(bytes == *image, "{id} has other bytes");
            Some(id.clone())
        };
        kept.iter().filter_map(good).collect()
    };
    let readable = restorable(&before).len();
    let (mut points, mut failures) = (0, 0);
    for crash in [true, false] {
        for fault in [Fault::Before, Fault::After, Fault::Torn] {
            for operation in 0.. {
                let store = Arc::new(FaultStore::new(before.fork()));
                let first = open_vault(Box::new(Arc::clone(&store))).unwrap();
                store.reset();
                if crash {
                    store.crash_at(operation, fault);
                } else {
                    store.fail_at(operation, fault);
                }
                let outcome = repair(&first, &crate::repair::request());
                let Some(failed) = store.log().into_iter().nth(usize::try_from(operation).unwrap()) else {
                    assert!(outcome.unwrap().0.makes_whole());
                    break;
                };
                *if crash { &mut points } else { &mut failures } += 1;
                let what = format!("crash {crash}, {fault:?}, operation {operation}: {failed:?}");
                if let Err(error) = &outcome {
                    assert_clear(&what, error);
                }
                assert!(restorable(store.inner()).len() >= readable, "{what}: less than before");
                let after = Arc::new(store.inner().fork());
                let vault = open_vault(Box::new(Arc::clone(&after))).unwrap();
                let (plan, _) =
                    repair(&vault, &crate::repair::request()).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert!(plan.makes_whole(), "{what}: {plan:?}");
                assert_eq!(restorable(&after).len(), kept.len(), "{what}");
                let report = crate::repair::check_all(&open_vault(Box::new(Arc::clone(&after))).unwrap());
                assert!(report.problems.is_empty(), "{what}: {report:?}");
            }
        }
    }
    println!("repair: {points} crashes, {failures} single failures");
    assert!(points > 60, "{points}");
}

#[test]
fn a_store_that_only_adds_is_enough_for_snapshots() {
    let world = World::new();
    let store = Arc::new(FaultStore::new(MemoryStore::new()));
    store.refuse_deletes();
    let vault = create_vault_with(Box::new(Arc::clone(&store)), &LocalFolders::default());
    for _ in 0..3 {
        let report = take(&vault, &world.database).unwrap();
        let bytes = restored(&vault, &report.snapshot_id.to_string(), world.folder.path()).unwrap();
        assert!(bytes == world.image());
        world.change();
    }
    let slot = vault.add_slot(&other_key(), Argon2Params::recommended(1), None, Timestamp::now()).unwrap();
    assert!(store.log().iter().all(|operation| operation.kind != OperationKind::Delete));
    let error = Error::from(vault.remove_slot(slot.id, Timestamp::now()).unwrap_err());
    assert!(error.to_string().contains("permission denied"), "{error}");
}

/// A store in which something happens just before a folder is listed for the first time.
struct Meanwhile {
    inner: Arc<MemoryStore>,
    folder: &'static str,
    deed: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Store for Meanwhile {
    crate::support::reads_of_inner!();

    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        self.inner.put_if_absent(path, bytes)
    }
    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if folder == self.folder {
            let deed = self.deed.lock().unwrap().take();
            if let Some(deed) = deed {
                deed();
            }
        }
        self.inner.list(folder, visit)
    }
    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.inner.delete(path)
    }
}

/// Whatever another client publishes in the middle of an operation, nothing is taken for damage.
#[test]
fn another_client_publishes_meanwhile() {
    for folder in ["log", "snapshots", "index", "packs", "", "keys"] {
        for verb in ["check", "restore", "snapshot"] {
            let world = World::new();
            let (store, _) = prepared(&world);
            let database = world.database.clone();
            let other = open_as(Box::new(Arc::clone(&store)), &world.client("other")).unwrap();
            let store = Meanwhile {
                inner: store,
                folder,
                deed: Mutex::new(Some(Box::new(move || drop(take(&other, Path::new(&database)).unwrap())))),
            };
            let vault = open_as(Box::new(store), &world.client("own")).unwrap();
            let what = format!("{verb} while {folder:?} is listed");
            match verb {
                "check" => {
                    let request = CheckRequest { data: DataLevel::All, test_restore: Some(None) };
                    let report = check(&vault, &request, &SystemClock, &Silent).unwrap();
                    assert!(report.problems.is_empty(), "{what}: {report:?}");
                }
                "restore" => {
                    let spec = "latest".to_owned();
                    restored(&vault, &spec, world.folder.path())
                        .unwrap_or_else(|error| panic!("{what}: {error}"));
                }
                _ => {
                    let report =
                        take(&vault, &world.database).unwrap_or_else(|error| panic!("{what}: {error}"));
                    let id = report.snapshot_id.to_string();
                    assert!(restored(&vault, &id, world.folder.path()).unwrap() == world.image(), "{what}");
                }
            }
        }
    }
}

/// A log that was cut at its end has no gap, but the client that wrote the lost entries remembers them.
#[test]
fn a_vault_put_back_to_an_earlier_state_is_noticed_by_its_writer() {
    let world = World::new();
    let (store, _) = prepared(&world);
    let earlier = store.fork();
    let client = world.client("prepared");
    let vault = open_as(Box::new(Arc::clone(&store)), &client).unwrap();
    take(&vault, &world.database).unwrap();
    let request = CheckRequest { data: DataLevel::None, test_restore: None };
    let now = check(&vault, &request, &SystemClock, &Silent).unwrap();
    assert!(now.problems.is_empty(), "{now:?}");
    let vault = open_as(Box::new(earlier), &client).unwrap();
    let put_back = check(&vault, &request, &SystemClock, &Silent).unwrap();
    assert!(put_back.problems.iter().any(|problem| problem.message.contains("remembers")), "{put_back:?}");
}

/// A removed key that comes back opens the vault, and a check says so.
#[test]
fn a_removed_key_that_is_put_back_is_reported() {
    let world = World::new();
    let (store, _) = prepared(&world);
    let earlier = store.objects();
    let vault = open_vault(Box::new(Arc::clone(&store))).unwrap();
    let slots = vault.slots().unwrap();
    let other = slots.iter().find(|slot| Some(slot.slot.id) != vault.unlocked_by()).unwrap().slot.id;
    vault.remove_slot(other, Timestamp::now()).unwrap();
    let request = CheckRequest { data: DataLevel::None, test_restore: None };
    assert!(check(&vault, &request, &SystemClock, &Silent).unwrap().problems.is_empty());
    let last = vault.unlocked_by().unwrap();
    assert!(vault.remove_slot(last, Timestamp::now()).is_err(), "the last key was removed");
    for (path, bytes) in earlier {
        store.replace(&path, bytes.to_vec());
    }
    let report = check(&vault, &request, &SystemClock, &Silent).unwrap();
    let told = report.problems.iter().filter(|problem| problem.message.contains("removed")).count();
    assert_eq!(told, 2, "{report:?}");
}

/// What the local cache says is never taken for damage of the vault, nor hides it.
#[test]
fn a_cache_that_is_wrong_is_thrown_away() {
    let world = World::new();
    let (store, kept) = prepared(&world);
    let client = world.client("cached");
    let vault = open_as(Box::new(Arc::clone(&store)), &client).unwrap();
    vault.load_index().unwrap();
    let file = client.cache.clone().unwrap().join(vault.id().to_string()).join("index.sqlite3");
    drop(vault);
    let rot = Connection::open(&file).unwrap();
    assert!(rot.execute("DELETE FROM chunks", []).unwrap() > 0);
    drop(rot);
    let vault = open_as(Box::new(Arc::clone(&store)), &client).unwrap();
    let (id, image) = kept.first_key_value().unwrap();
    assert!(restored(&vault, id, world.folder.path()).unwrap() == *image);
    // A cached index object that was damaged since is found all the same.
    let vault = open_as(Box::new(Arc::clone(&store)), &client).unwrap();
    vault.load_index().unwrap();
    let index = store.paths().into_iter().find(|path| path.as_str().starts_with("index/")).unwrap();
    let mut bytes = store.get(&index, 1 << 26).unwrap();
    bytes[100] ^= 1;
    store.replace(&index, bytes);
    let request = CheckRequest { data: DataLevel::None, test_restore: None };
    let report = check(&vault, &request, &SystemClock, &Silent).unwrap();
    assert!(report.problems.iter().any(|problem| problem.object == index.as_str()), "{report:?}");
}

/// An initialisation never begins a second vault among the objects of a first whose config is lost.
#[test]
fn a_vault_without_its_config_is_not_overwritten() {
    let world = World::new();
    let (store, _) = prepared(&world);
    for path in store.paths() {
        if path.as_str().starts_with("vault.pv") {
            store.remove(&path);
        }
    }
    let (argon2, now) = (Argon2Params::recommended(1), Timestamp::now());
    let made = Vault::create(Box::new(store), &key(), argon2, None, now, &LocalFolders::default());
    assert!(made.unwrap_err().to_string().contains("not empty"));
}
