//! Prune: what nothing needs goes, what anything needs stays, whoever else is at work.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use pagevault::clock::{FixedClock, SystemClock};
use pagevault::crypto::secret::Secret32;
use pagevault::crypto::unlock::Unlocker;
use pagevault::error::ErrorKind;
use pagevault::format::keyslot::Argon2Params;
use pagevault::format::log::LogEntry;
use pagevault::monitor::Silent;
use pagevault::operations::check::{CheckRequest, DataLevel, check};
use pagevault::operations::export::{ExportRequest, ExportSource, export};
use pagevault::operations::forget::{self, ForgetChoice, ForgetRequest, undelete};
use pagevault::operations::list::SnapshotSpec;
use pagevault::operations::prune::{GRACE, PruneReport, PruneRequest, WAIT, plan, prune};
use pagevault::operations::retention::RetentionPolicy;
use pagevault::operations::stats::stats;
use pagevault::store::{InUse, LocalStore, MemoryStore, ObjectMeta, ObjectPath, Put, Store, StoreError};
use pagevault::vault::{LocalFolders, LockedVault, Vault};
use rusqlite::Connection;

use crate::children::pagevault;
use crate::support::{create_vault, key, memory_vault, open_vault, request, restore_to, take};

pub(crate) const NOW: PruneRequest = PruneRequest { max_unused: 0.0, grace: SignedDuration::ZERO };

/// A database whose every change touches many pages.
pub(crate) struct Scene {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) database: PathBuf,
    /// Snapshots that must stay, with their bytes.
    pub(crate) kept: BTreeMap<String, Vec<u8>>,
    step: i64,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("app.db");
        let db = Connection::open(&database).unwrap();
        db.execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, x);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 4000)
             INSERT INTO t SELECT i, hex(randomblob(100)) FROM n",
        )
        .unwrap();
        Self { folder, database, kept: BTreeMap::new(), step: 0 }
    }

    fn change(&mut self) {
        self.step += 1;
        let db = Connection::open(&self.database).unwrap();
        db.execute("UPDATE t SET x = hex(randomblob(100)) WHERE id % 7 = ?1", [self.step % 7]).unwrap();
    }

    pub(crate) fn keep(&mut self, vault: &Vault) -> String {
        let id = take(vault, &self.database).unwrap().snapshot_id.to_string();
        self.kept.insert(id.clone(), std::fs::read(&self.database).unwrap());
        self.change();
        id
    }

    pub(crate) fn judge(&self, vault: &Vault) {
        for (id, image) in &self.kept {
            let target = self.folder.path().join("restored.db");
            restore_to(vault, id, &target).unwrap_or_else(|error| panic!("{id}: {error}"));
            assert!(std::fs::read(&target).unwrap() == *image, "{id} has other bytes");
            std::fs::remove_file(target).unwrap();
        }
        let everything = CheckRequest { data: DataLevel::All, test_restore: None };
        assert_eq!(check(vault, &everything, &SystemClock, &Silent).unwrap().problems, []);
    }

    pub(crate) fn forget(&mut self, vault: &Vault, ids: &[String]) {
        let specs: Vec<SnapshotSpec> = ids.iter().map(|id| id.parse().unwrap()).collect();
        let choice = ForgetChoice::Named(specs);
        let rules = ForgetRequest::by_policy(RetentionPolicy::none());
        let request = ForgetRequest { choice, allow_empty: true, ..rules };
        forget::plan(vault, &request, &SystemClock, &Silent)
            .unwrap()
            .execute(vault, &SystemClock, &Silent)
            .unwrap();
        ids.iter().for_each(|id| drop(self.kept.remove(id)));
    }
}

pub(crate) fn later(by: SignedDuration) -> FixedClock {
    FixedClock(Timestamp::now() + by)
}

fn go(vault: &Vault, clock: &FixedClock) -> PruneReport {
    prune(vault, &NOW, clock, &Silent).unwrap()
}

fn pack_bytes(store: &MemoryStore) -> u64 {
    let packs = store.objects().into_iter().filter(|(path, _)| path.as_str().starts_with("packs/"));
    packs.map(|(_, bytes)| bytes.len() as u64).sum()
}

#[test]
fn where_others_may_be_packs_wait_and_then_go() {
    let (mut scene, (vault, store)) = (Scene::new(), memory_vault());
    let ids: Vec<String> = (0..8).map(|_| scene.keep(&vault)).collect();
    scene.forget(&vault, &ids[1..7]);
    let before = pack_bytes(&store);
    let planned = plan(&vault, &NOW, &later(SignedDuration::ZERO), &Silent).unwrap().report();
    assert!(planned.dry_run && planned.freed_bytes > 100_000, "{planned:?}");
    assert_eq!((planned.snapshots, planned.removed_snapshots), (2, 6));
    assert_eq!(pack_bytes(&store), before, "a plan has changed something");

    let first = go(&vault, &later(SignedDuration::ZERO));
    assert_eq!(first.deleted.packs, 0, "{first:?}");
    assert!(first.condemned.packs > 0 && first.delete_after.is_some(), "{first:?}");
    scene.judge(&open_vault(Box::new(Arc::clone(&store))).unwrap());
    // Not a moment too early.
    assert_eq!(go(&vault, &later(WAIT - SignedDuration::from_hours(1))).deleted.packs, 0);
    scene.judge(&vault);
    let last = go(&vault, &later(WAIT + SignedDuration::from_hours(1)));
    assert!(last.deleted.packs > 0 && last.condemned.packs == 0, "{last:?}");
    // What is written anew has headers and directories as well.
    let (after, expected) = (pack_bytes(&store), before - planned.freed_bytes);
    assert!(after <= expected + 20_000, "{after} of {before}, expected {expected}");
    let vault = open_vault(Box::new(Arc::clone(&store))).unwrap();
    scene.judge(&vault);
    scene.keep(&vault);
    scene.judge(&vault);
    let rest = go(&vault, &later(WAIT * 3));
    assert_eq!((rest.deleted.packs, rest.condemned.packs), (0, 0), "{rest:?}");
}

#[test]
fn alone_in_a_folder_space_is_free_at_once() {
    let mut scene = Scene::new();
    let place = scene.folder.path().join("vault");
    let open = || open_vault(Box::new(LocalStore::open(&place).unwrap())).unwrap();
    let vault = create_vault(Box::new(LocalStore::create(&place).unwrap()));
    let ids: Vec<String> = (0..5).map(|_| scene.keep(&vault)).collect();
    scene.forget(&vault, &ids[..4]);
    // Somebody else has it open, and be it only to read.
    let other = open();
    let waiting = go(&vault, &later(SignedDuration::ZERO));
    assert!(waiting.deleted.packs == 0 && waiting.condemned.packs > 0, "{waiting:?}");
    drop(other);
    let done = go(&vault, &later(SignedDuration::ZERO));
    assert!(done.deleted.packs > 0 && done.condemned.packs == 0 && done.delete_after.is_none(), "{done:?}");
    drop(vault);
    scene.judge(&open());
    let again = go(&open(), &later(SignedDuration::ZERO));
    assert_eq!(again.deleted.packs, 0, "{again:?}");
}

#[test]
fn forgotten_snapshots_come_back_until_the_grace_has_passed() {
    let (mut scene, (vault, store)) = (Scene::new(), memory_vault());
    let ids: Vec<String> = (0..3).map(|_| scene.keep(&vault)).collect();
    let image = scene.kept[&ids[0]].clone();
    scene.forget(&vault, &ids[..1]);
    let request = PruneRequest { grace: GRACE, ..NOW };
    let in_time = prune(&vault, &request, &later(WAIT * 2), &Silent).unwrap();
    assert_eq!((in_time.kept_forgotten, in_time.removed_snapshots), (1, 0));
    undelete(&vault, &[ids[0].parse().unwrap()], &SystemClock, &Silent).unwrap();
    scene.kept.insert(ids[0].clone(), image);
    scene.judge(&vault);
    scene.forget(&vault, &ids[..1]);
    go(&vault, &later(SignedDuration::ZERO));
    let error = undelete(&vault, &[ids[0].parse().unwrap()], &SystemClock, &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    scene.judge(&open_vault(Box::new(store)).unwrap());
}

#[test]
fn small_packs_and_index_objects_of_many_runs_are_merged() {
    let (mut scene, (vault, store)) = (Scene::new(), memory_vault());
    for _ in 0..30 {
        scene.keep(&vault);
    }
    let count = |folder: &str| store.paths().iter().filter(|path| path.as_str().starts_with(folder)).count();
    let (packs, indexes) = (count("packs/"), count("index/"));
    go(&vault, &later(SignedDuration::ZERO));
    go(&vault, &later(WAIT * 2));
    assert!(count("packs/") <= 4 && count("index/") <= 3, "{} {}", count("packs/"), count("index/"));
    assert!(packs >= 60 && indexes >= 30);
    let vault = open_vault(Box::new(store)).unwrap();
    scene.judge(&vault);
    let report = stats(&vault, &jiff::tz::TimeZone::UTC, &Silent).unwrap();
    assert_eq!((report.sums.snapshots, report.stored.packs.objects), (30, count_of(&report)));
    assert!(report.ratio.unwrap() > 2.0 && report.sums.delta_ratio.unwrap() > 0.0, "{report:?}");
}

fn count_of(report: &pagevault::operations::stats::StatsReport) -> u64 {
    let stored = report.stored;
    stored.total.objects
        - stored.index.objects
        - stored.snapshots.objects
        - stored.log.objects
        - stored.control.objects
}

#[test]
fn nothing_is_deleted_while_something_is_damaged() {
    let (mut scene, (vault, store)) = (Scene::new(), memory_vault());
    let ids: Vec<String> = (0..3).map(|_| scene.keep(&vault)).collect();
    scene.forget(&vault, &ids[..2]);
    for folder in ["index/", "snapshots/", "log/", "packs/"] {
        let damaged = Arc::new(store.fork());
        let path = damaged.paths().into_iter().rfind(|path| path.as_str().starts_with(folder)).unwrap();
        if folder == "packs/" {
            damaged.paths().iter().filter(|path| path.as_str().starts_with(folder)).for_each(|path| {
                damaged.remove(path);
            });
        } else {
            damaged.replace(&path, *b"rot");
        }
        let before = damaged.paths();
        let vault = open_vault(Box::new(Arc::clone(&damaged))).unwrap();
        let error = prune(&vault, &NOW, &later(WAIT * 9), &Silent).unwrap_err();
        assert!(error.kind() == ErrorKind::Damage && error.hint().is_some(), "{folder}: {error}");
        assert_eq!(damaged.paths(), before, "{folder}");
    }
}

/// Packs that were condemned and turn out to be needed are rescued, and go to nobody.
#[test]
fn what_is_needed_after_all_is_rescued() {
    let (mut scene, (vault, store)) = (Scene::new(), memory_vault());
    (0..3).for_each(|_| drop(scene.keep(&vault)));
    vault.load_index().unwrap();
    let packs: Vec<_> = vault.index().packs().unwrap().into_iter().map(|(name, _)| name).collect();
    let condemned = LogEntry::Condemned(packs.clone(), Timestamp::now().as_microsecond());
    vault.append_log(&vault.history().unwrap(), Timestamp::now(), vec![condemned]).unwrap();
    // A snapshot does not build on them meanwhile.
    let report = take(&vault, &scene.database).unwrap();
    assert_eq!(report.chunks.unchanged + report.chunks.deduplicated, 0, "{report:?}");
    scene.keep(&vault);
    let report = go(&vault, &later(WAIT * 2));
    assert!(report.rescued > 0, "{report:?}");
    scene.judge(&vault);
    go(&vault, &later(WAIT * 4));
    go(&vault, &later(WAIT * 6));
    scene.judge(&open_vault(Box::new(store)).unwrap());
}

/// Two removals of keys at once: each counts on the other's slot, and one key at least stays.
#[test]
fn two_removals_of_keys_at_once_leave_one() {
    for round in 0..12 {
        let (vault, store) = memory_vault();
        let other = Unlocker::RecoveryKey(Secret32::new([round; 32]));
        let slot = vault.add_slot(&other, Argon2Params::recommended(1), None, Timestamp::now()).unwrap().id;
        let first = vault.unlocked_by().unwrap();
        let boxed = || -> Box<dyn Store> { Box::new(Arc::clone(&store)) };
        let second = LockedVault::find(boxed()).unwrap().unlock(&other, &LocalFolders::default()).unwrap();
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                let _ = vault.remove_slot(slot, Timestamp::now());
            });
            start.wait();
            let _ = second.remove_slot(first, Timestamp::now());
        });
        let opens = |unlocker: &Unlocker| {
            LockedVault::find(boxed())
                .and_then(|locked| locked.unlock(unlocker, &LocalFolders::default()))
                .is_ok()
        };
        assert!(opens(&key()) || opens(&other), "round {round}: nobody can open the vault");
        // Whoever is left can add a key and remove the old one.
        let left = if opens(&key()) { &vault } else { &second };
        left.add_slot(&other, Argon2Params::recommended(1), None, Timestamp::now()).unwrap();
        let old = left.unlocked_by().unwrap();
        left.remove_slot(old, Timestamp::now()).unwrap();
    }
}

/// A folder on a disk of which so many bytes are free.
#[derive(Debug)]
struct Cramped {
    inner: LocalStore,
    free: AtomicU64,
}

impl Store for Cramped {
    crate::support::reads_of_inner!();

    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        let taken = |free: u64| free.checked_sub(bytes.len() as u64);
        match self.free.try_update(Ordering::Relaxed, Ordering::Relaxed, taken) {
            Ok(_) => self.inner.put_if_absent(path, bytes),
            Err(_) => Err(StoreError::NoSpace { path: path.to_string() }),
        }
    }
    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner.list(folder, visit)
    }
    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        let size = self.inner.size(path).unwrap_or(0);
        self.inner.delete(path)?;
        self.free.fetch_add(size, Ordering::Relaxed);
        Ok(())
    }
    fn in_use(&self, folder: &str) -> Option<InUse> {
        self.inner.in_use(folder)
    }
}

/// Where there is no room for what would be written anew, what nobody needs goes first, and makes it.
#[test]
fn on_a_full_disk_what_nobody_needs_goes_first() {
    let mut scene = Scene::new();
    let place = scene.folder.path().join("vault");
    let vault = create_vault(Box::new(LocalStore::create(&place).unwrap()));
    for _ in 0..25 {
        scene.keep(&vault);
    }
    let other = scene.folder.path().join("other.db");
    let db = Connection::open(&other).unwrap();
    db.execute_batch("CREATE TABLE large AS SELECT randomblob(3000000) AS x").unwrap();
    let large = take(&vault, &other).unwrap().snapshot_id.to_string();
    drop(vault);
    let open = |free| {
        let store = Cramped { inner: LocalStore::open(&place).unwrap(), free: AtomicU64::new(free) };
        open_vault(Box::new(store)).unwrap()
    };
    // Nothing can be deleted: it fails, and nothing is lost.
    let error = prune(&open(20_000), &NOW, &later(SignedDuration::ZERO), &Silent).unwrap_err();
    assert!(error.to_string().contains("no space left"), "{error}");
    scene.judge(&open(20_000));
    scene.forget(&open(20_000), &[large]);
    let planned = plan(&open(0), &NOW, &later(SignedDuration::ZERO), &Silent).unwrap().report();
    assert!(planned.merged.packs > 40 && planned.written_bytes > 100_000, "{planned:?}");
    let done = go(&open(40_000), &later(SignedDuration::ZERO));
    assert!(done.deleted.bytes > 3_000_000, "{done:?}");
    scene.judge(&open(0));
    let rest = go(&open(10_000_000), &later(SignedDuration::ZERO));
    assert!(done.deleted.packs + rest.deleted.packs > planned.merged.packs, "{done:?} {rest:?}");
    scene.judge(&open(0));
}

/// A store in which something happens once, just before an object is put into a folder.
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
        if path.as_str().starts_with(self.folder)
            && let Some(deed) = self.deed.lock().unwrap().take()
        {
            deed();
        }
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
}

/// While a snapshot is under way, all that it builds on is forgotten and condemned, before it publishes and in the moment
/// between publishing and the log. It is withdrawn and taken again; what is reported outlives the packs that go.
#[test]
fn a_snapshot_that_a_prune_undoes_is_taken_again() {
    for folder in ["snapshots/", "log/", "packs/"] {
        let (mut scene, (vault, store)) = (Scene::new(), memory_vault());
        let ids: Vec<String> = (0..3).map(|_| scene.keep(&vault)).collect();
        let specs: Vec<SnapshotSpec> = ids.iter().map(|id| id.parse().unwrap()).collect();
        let other = open_vault(Box::new(Arc::clone(&store))).unwrap();
        let deed = move || {
            let choice = ForgetChoice::Named(specs);
            let rules = ForgetRequest::by_policy(RetentionPolicy::none());
            let request = ForgetRequest { choice, allow_empty: true, ..rules };
            let plan = forget::plan(&other, &request, &SystemClock, &Silent).unwrap();
            plan.execute(&other, &SystemClock, &Silent).unwrap();
            // A client that is alone in its view of things: nothing is left to need anything.
            assert!(go(&other, &later(SignedDuration::ZERO)).condemned.packs > 0);
        };
        let between = Meanwhile { inner: Arc::clone(&store), folder, deed: Mutex::new(Some(Box::new(deed))) };
        let writer = open_vault(Box::new(between)).unwrap();
        scene.kept.clear();
        let taken = scene.keep(&writer);
        let vault = open_vault(Box::new(Arc::clone(&store))).unwrap();
        let history = vault.history().unwrap();
        assert!(!history.aborted.contains(&taken.parse().unwrap()), "{folder}");
        for hours in [30, 60, 90] {
            go(&vault, &later(SignedDuration::from_hours(hours)));
        }
        scene.judge(&open_vault(Box::new(store)).unwrap());
    }
}

/// The same for an export that is kept: it shares its document with one that is forgotten and pruned meanwhile.
#[test]
fn a_kept_export_that_a_prune_undoes_is_stored_again() {
    for folder in ["snapshots/", "log/"] {
        let (scene, (vault, store)) = (Scene::new(), memory_vault());
        let host = request(&[&scene.database]).host;
        let mut request = ExportRequest::new(ExportSource::Database(scene.database.clone()));
        request.keep = Some(host);
        // At the same instant, so that the documents are the same.
        let clock = later(SignedDuration::ZERO);
        let mut document = Vec::new();
        let first = export(Some(&vault), &request, &clock, &Silent, &mut document).unwrap();
        let other = open_vault(Box::new(Arc::clone(&store))).unwrap();
        let spec: SnapshotSpec = first.snapshot_id.unwrap().to_string().parse().unwrap();
        let deed = move || {
            let choice = ForgetChoice::Named(vec![spec]);
            let rules = ForgetRequest::by_policy(RetentionPolicy::none());
            let request = ForgetRequest { choice, allow_empty: true, ..rules };
            let plan = forget::plan(&other, &request, &SystemClock, &Silent).unwrap();
            plan.execute(&other, &SystemClock, &Silent).unwrap();
            assert!(go(&other, &later(SignedDuration::ZERO)).condemned.packs > 0);
        };
        let between = Meanwhile { inner: Arc::clone(&store), folder, deed: Mutex::new(Some(Box::new(deed))) };
        let writer = open_vault(Box::new(between)).unwrap();
        let mut again = Vec::new();
        let kept = export(Some(&writer), &request, &clock, &Silent, &mut again).unwrap();
        assert!(again == document, "{folder}");
        let vault = open_vault(Box::new(Arc::clone(&store))).unwrap();
        // One was withdrawn, and not the one that was reported.
        let aborted = vault.history().unwrap().aborted;
        let kept = kept.snapshot_id.unwrap();
        assert!(!aborted.contains(&kept), "{folder}: {aborted:?}");
        // A prune that comes after the publishing sees what it must leave.
        assert_eq!(aborted.is_empty(), folder == "log/", "{aborted:?}");
        for hours in [30, 60, 90] {
            go(&vault, &later(SignedDuration::from_hours(hours)));
        }
        let vault = open_vault(Box::new(store)).unwrap();
        let target = scene.folder.path().join("kept.json");
        restore_to(&vault, &kept.to_string(), &target).unwrap();
        assert!(std::fs::read(&target).unwrap() == document, "{folder}");
        scene.judge(&vault);
    }
}

/// Real processes, all at once, round after round: whatever is next to whatever, none fails, and what was reported as
/// stored is there in the end.
#[test]
fn every_command_beside_every_other() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let database = |name: &str| home.join(format!("{name}.db"));
    for name in ["one", "two"] {
        let db = Connection::open(database(name)).unwrap();
        db.execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, x);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000)
             INSERT INTO t SELECT i, hex(randomblob(100)) FROM n",
        )
        .unwrap();
        let made = pagevault(home).arg("snapshot").arg(database(name)).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    let mut reported: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for round in 0..2 {
        for name in ["one", "two"] {
            let db = Connection::open(database(name)).unwrap();
            db.execute("UPDATE t SET x = hex(randomblob(100)) WHERE id % 5 = ?1", [round]).unwrap();
        }
        let images = ["one", "two"].map(|name| std::fs::read(database(name)).unwrap());
        let (one, two) = (database("one").display().to_string(), database("two").display().to_string());
        let target = home.join(format!("restored-{round}.db")).display().to_string();
        let commands: Vec<Vec<&str>> = vec![
            vec!["snapshot", "--json", &one],
            vec!["snapshot", "--json", &one, "--full-scan"],
            vec!["snapshot", "--json", &two],
            vec!["restore", "one@latest", "--to", &target],
            vec!["list"],
            vec!["stats"],
            vec!["check", "--read-data"],
            vec!["forget", "--keep-last", "3", "--yes"],
            vec!["pin", "two@latest"],
            vec!["prune", "--grace", "0s", "--max-unused", "0%", "--yes"],
            vec!["prune", "--yes"],
        ];
        let children: Vec<_> = commands
            .iter()
            .map(|words| {
                let mut command = pagevault(home);
                command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
                (words, command.spawn().unwrap())
            })
            .collect();
        for (words, child) in children {
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "round {round}: {words:?}: {said}");
            if words[0] == "snapshot" {
                let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                let image = &images[usize::from(words[2] == two)];
                reported.insert(line["snapshot_id"].as_str().unwrap().to_owned(), image.clone());
            }
        }
    }
    let run = |words: &[&str]| {
        let output = pagevault(home).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    run(&["prune", "--grace", "0s", "--max-unused", "0%", "--yes"]);
    run(&["check", "--read-data", "--test-restore"]);
    let listed: serde_json::Value = serde_json::from_slice(&run(&["list", "--json"])).unwrap();
    let there = listed.as_array().unwrap().iter().map(|one| one["snapshot_id"].as_str().unwrap().to_owned());
    let there: Vec<String> = there.collect();
    assert!(there.len() >= 4, "{there:?}");
    let mut compared = 0;
    for id in there.iter().filter(|id| reported.contains_key(*id)) {
        let target = home.join("compared.db");
        run(&["restore", id, "--to", target.to_str().unwrap()]);
        assert!(std::fs::read(&target).unwrap() == reported[id], "{id}");
        std::fs::remove_file(target).unwrap();
        compared += 1;
    }
    assert!(compared >= 2, "{compared} of {reported:?}", reported = reported.len());
}
