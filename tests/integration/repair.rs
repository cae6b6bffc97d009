//! Repair: what is lost alone is brought back, what is lost for good is named, and nothing is destroyed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pagevault::clock::{FixedClock, SystemClock};
use pagevault::crypto::secret::Secret32;
use pagevault::crypto::unlock::Unlocker;
use pagevault::error::Result;
use pagevault::format::keyslot::Argon2Params;
use pagevault::format::log::LogEntry;
use pagevault::monitor::Silent;
use pagevault::operations::check::{CheckReport, CheckRequest, DataLevel, check};
use pagevault::operations::repair::{RepairPlan, RepairReport, RepairRequest, execute, plan};
use pagevault::store::{MemoryStore, ObjectMeta, ObjectPath, Put, Store, StoreError};
use pagevault::vault::{LocalFolders, LockedVault, Vault};
use rusqlite::Connection;

use crate::support::{key, memory_vault, open_vault, take};
use crate::tamper::damage::Case;
use crate::tamper::fixture::{Fixture, Kept};
use crate::tamper::judge::{Outcome, restored};
use crate::tamper::{large, small};

/// A repair with nothing but the vault itself.
pub(crate) fn request() -> RepairRequest {
    let busy_timeout = Duration::from_secs(1);
    RepairRequest { copy: None, databases: Vec::new(), host: None, busy_timeout, read_data: true }
}

/// Plans and does it.
pub(crate) fn repair(vault: &Vault, request: &RepairRequest) -> Result<(RepairPlan, RepairReport)> {
    let plan = plan(vault, request, &Silent)?;
    let report = execute(vault, request, &plan, &SystemClock, &Silent)?;
    Ok((plan, report))
}

pub(crate) fn check_all(vault: &Vault) -> CheckReport {
    let request = CheckRequest { data: DataLevel::All, test_restore: None };
    check(vault, &request, &SystemClock, &Silent).unwrap()
}

fn shared(store: &MemoryStore) -> (Arc<MemoryStore>, Vault) {
    let store = Arc::new(store.fork());
    let vault = open_vault(Box::new(Arc::clone(&store))).unwrap();
    (store, vault)
}

/// Everything is as it was: no problem, and every snapshot gives its bytes.
fn assert_all(what: &str, fixture: &Fixture, store: &Arc<MemoryStore>) {
    let vault = open_vault(Box::new(Arc::clone(store))).unwrap();
    let report = check_all(&vault);
    assert!(report.problems.is_empty(), "{what}: {report:?}");
    for kept in &fixture.snapshots {
        let bytes =
            restored(&vault, &kept.id, fixture.folder.path()).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(bytes == kept.image, "{what}: {} has other bytes", kept.id);
    }
    let again = plan(&vault, &request(), &Silent).unwrap();
    assert!(again.is_empty() && again.makes_whole(), "{what}: planned again: {again:?}");
}

/// A key that somebody removes between the plan and its execution stays removed.
#[test]
fn a_key_that_is_being_removed_is_not_put_back() {
    let (store, vault) = shared(&small().store);
    let (other, argon2) = (Unlocker::KeyFile(Secret32::new([9; 32])), Argon2Params::recommended(1));
    let slot = vault.add_slot(&other, argon2, None, jiff::Timestamp::now()).unwrap().id;
    let path = ObjectPath::new(format!("keys/{slot}")).unwrap();
    let copy = ObjectPath::new(format!("keys/{slot}.copy")).unwrap();
    let bytes = store.get(&path, 1 << 20).unwrap();
    store.delete(&copy).unwrap();
    let plan = plan(&vault, &request(), &Silent).unwrap();
    assert!(plan.steps.iter().any(|step| step.object == copy.as_str()), "{plan:?}");
    // The removal has been said in the log, and the first copy is still there.
    vault.remove_slot(slot, jiff::Timestamp::now()).unwrap();
    store.put_if_absent(&path, &bytes).unwrap();
    execute(&vault, &request(), &plan, &SystemClock, &Silent).unwrap();
    store.delete(&path).unwrap();
    assert!(store.size(&copy).is_err(), "the removed key was put back");
    let report = check_all(&vault);
    assert!(report.problems.is_empty(), "{report:?}");
}

fn is_pack(path: &ObjectPath) -> bool {
    path.as_str().starts_with("packs/")
}

/// What a repair makes of a damaged vault: nothing that could be restored is lost by it, and what is said to be whole is.
pub(crate) fn judge_repair(fixture: &Fixture, case: &Case) -> Outcome {
    let what = &case.what;
    let store = Arc::new(case.store.fork());
    let Ok(vault) = open_vault(Box::new(Arc::clone(&store))) else { return Outcome::Locked };
    let whole = |vault: &Vault| -> Vec<bool> {
        let good = |kept: &Kept| match restored(vault, &kept.id, fixture.folder.path()) {
            Ok(bytes) => {
                assert!(bytes == kept.image, "{what}: {} has other bytes", kept.id);
                true
            }
            Err(_) => false,
        };
        fixture.snapshots.iter().map(good).collect()
    };
    let before = whole(&vault);
    let (plan, _) = repair(&vault, &request()).unwrap_or_else(|error| panic!("{what}: repair: {error}"));
    let vault = open_vault(Box::new(store)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let after = whole(&vault);
    for (kept, (before, after)) in fixture.snapshots.iter().zip(before.iter().zip(&after)) {
        assert!(after >= before, "{what}: repair has lost {}: {plan:?}", kept.id);
        let is_named = plan.harmed.iter().any(|harm| harm.snapshot.to_string() == kept.id);
        assert!(*after != is_named || !plan.beyond_repair.is_empty(), "{what}: {}: {plan:?}", kept.id);
    }
    let report = check_all(&vault);
    if !plan.makes_whole() {
        return Outcome::Damage;
    }
    assert!(after.iter().all(|whole| *whole), "{what}: {plan:?}");
    assert!(report.problems.is_empty(), "{what}: {plan:?}: {report:?}");
    Outcome::Fine
}

#[test]
fn a_sound_vault_needs_nothing() {
    for fixture in [small(), large()] {
        let (store, vault) = shared(&fixture.store);
        let before = store.paths();
        let (plan, _) = repair(&vault, &request()).unwrap();
        assert!(plan.is_empty() && plan.makes_whole(), "{plan:?}");
        assert_eq!(store.paths(), before);
    }
}

/// Issue 4: for every single object other than a pack lost, `repair` brings back everything. Lost: gone, cut short, emptied,
/// zeros, a bit flipped.
#[test]
fn every_single_object_but_packs() {
    let mut count = BTreeMap::new();
    for fixture in [small(), large()] {
        let is_large = std::ptr::eq(fixture, large());
        for (path, bytes, kind) in fixture.objects() {
            if is_pack(&path) {
                continue;
            }
            let mut flipped = bytes.clone();
            flipped[bytes.len() / 2] ^= 0x10;
            let damages: [(&str, Option<Vec<u8>>); 5] = [
                ("gone", None),
                ("cut", Some(bytes[..bytes.len() / 2].to_vec())),
                ("empty", Some(Vec::new())),
                ("zeros", Some(vec![0; bytes.len()])),
                ("flipped", Some(flipped)),
            ];
            // The tree of the large vault makes no difference here but in time.
            for (damage, bytes) in damages.into_iter().take(if is_large { 1 } else { 5 }) {
                let what = format!("{path} {damage}");
                let store = fixture.store.fork();
                match &bytes {
                    Some(bytes) => store.replace(&path, bytes.clone()),
                    None => drop(store.remove(&path)),
                }
                let (store, vault) = shared(&store);
                let (plan, report) = repair(&vault, &request()).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert!(plan.makes_whole(), "{what}: {plan:?}");
                if let Some(bytes) = bytes {
                    let kept = report.quarantined.iter().any(|place| {
                        store.get(&ObjectPath::new(place.as_str()).unwrap(), 1 << 30).unwrap() == bytes
                    });
                    assert!(kept, "{what}: was destroyed: {report:?}");
                }
                assert_all(&what, fixture, &store);
                *count.entry((kind.name(), damage)).or_insert(0) += 1;
            }
        }
    }
    let total: u32 = count.values().sum();
    println!("single losses made good: {total}: {count:?}");
    assert!(total > 100, "{total}");
}

/// All index objects at once, and all copies of each kind of control object.
#[test]
fn whole_folders() {
    let fixture = small();
    for folder in ["index/", "log/", "snapshots/"] {
        let store = fixture.store.fork();
        for path in store.paths().into_iter().filter(|path| path.as_str().starts_with(folder)) {
            store.remove(&path);
        }
        let (store, vault) = shared(&store);
        let (plan, _) = repair(&vault, &request()).unwrap();
        assert!(plan.makes_whole(), "{folder}: {plan:?}");
        assert_all(folder, fixture, &store);
    }
}

/// A pack that is lost is had back from another copy of the vault, whole or chunk by chunk.
#[test]
fn packs_from_another_copy() {
    for fixture in [small()] {
        for (path, bytes, _) in fixture.objects().into_iter().filter(|(path, ..)| is_pack(path)) {
            for damaged in [None, Some(bytes[..bytes.len() / 2].to_vec())] {
                let store = fixture.store.fork();
                match damaged {
                    Some(bytes) => store.replace(&path, bytes),
                    None => drop(store.remove(&path)),
                }
                let (store, vault) = shared(&store);
                let copy = vault.copy_in(Box::new(fixture.store.fork())).unwrap();
                let request = RepairRequest { copy: Some(copy), ..request() };
                let (plan, _) = repair(&vault, &request).unwrap();
                assert!(plan.makes_whole(), "{path}: {plan:?}");
                assert_all(path.as_str(), fixture, &store);
            }
        }
    }
}

/// A copy whose packs are others, as after a prune there: chunks are taken by their ids.
#[test]
fn chunks_from_a_copy_with_other_packs() {
    let fixture = small();
    // The copy lost a pack and took what it lacked from the live databases' newest snapshot again.
    for (path, ..) in fixture.objects().into_iter().filter(|(path, ..)| is_pack(path)) {
        let other = fixture.store.fork();
        let bytes = other.remove(&path).unwrap();
        let mut cut = bytes.to_vec();
        cut.truncate(bytes.len() - 9);
        other.replace(&path, cut);
        let (other, vault) = shared(&other);
        let (plan, _) = repair(&vault, &request()).unwrap();
        // Only its end was cut: every record is rescued into a pack of another name.
        assert!(plan.makes_whole(), "{path}: {plan:?}");
        assert_all(path.as_str(), fixture, &other);
        let store = fixture.store.fork();
        store.remove(&path);
        let (store, vault) = shared(&store);
        let copy = vault.copy_in(Box::new(other)).unwrap();
        let request = RepairRequest { copy: Some(copy), ..request() };
        let (plan, _) = repair(&vault, &request).unwrap();
        assert!(plan.makes_whole(), "{path}: {plan:?}");
        assert_all(path.as_str(), fixture, &store);
    }
}

/// Without a copy: what the live databases still have is healed, what they do not is named.
#[test]
fn packs_from_live_databases() {
    let fixture = small();
    let other = fixture.database.with_file_name("second.db");
    let databases: Vec<PathBuf> = vec![fixture.database.clone(), other];
    let mut healed_all = 0;
    for (path, ..) in fixture.objects().into_iter().filter(|(path, ..)| is_pack(path)) {
        let store = fixture.store.fork();
        store.remove(&path);
        let (store, vault) = shared(&store);
        let without = plan(&vault, &request(), &Silent).unwrap();
        let request = RepairRequest { databases: databases.clone(), ..request() };
        let (plan, _) = repair(&vault, &request).unwrap();
        assert!(plan.harmed.len() <= without.harmed.len());
        let lost = |plan: &RepairPlan| plan.harmed.iter().map(|harm| harm.lost_bytes).sum::<u64>();
        assert!(lost(&plan) <= lost(&without), "{plan:?}");
        healed_all += u32::from(plan.harmed.is_empty());
        let vault = open_vault(Box::new(Arc::clone(&store))).unwrap();
        let harmed: Vec<String> = plan.harmed.iter().map(|harm| harm.snapshot.to_string()).collect();
        for kept in &fixture.snapshots {
            match restored(&vault, &kept.id, fixture.folder.path()) {
                Ok(bytes) => {
                    assert!(bytes == kept.image && !harmed.contains(&kept.id), "{path}: {plan:?}");
                }
                Err(error) => assert!(harmed.contains(&kept.id), "{path}: {error}: {plan:?}"),
            }
        }
        let named: Vec<String> =
            check_all(&vault).problems.iter().flat_map(|p| &p.snapshots).map(ToString::to_string).collect();
        assert!(harmed.iter().all(|id| named.contains(id)), "{path}: {named:?}");
        // The next snapshot has everything, whatever was lost.
        let next = take(&vault, &fixture.database).unwrap();
        let vault = open_vault(Box::new(store)).unwrap();
        let bytes = restored(&vault, &next.snapshot_id.to_string(), fixture.folder.path()).unwrap();
        assert!(bytes == std::fs::read(&fixture.database).unwrap());
    }
    println!("packs healed from live databases alone: {healed_all}");
}

/// A flipped bit in a pack costs one chunk at most; the others are rescued, and the tables of the one are named.
#[test]
fn a_flipped_bit_in_a_pack_costs_one_chunk() {
    let fixture = small();
    let mut named_tables = 0;
    for (path, bytes, _) in fixture.objects().into_iter().filter(|(path, ..)| is_pack(path)) {
        for at in [10, 80, bytes.len() / 3, bytes.len() / 2, bytes.len() - 30] {
            let store = fixture.store.fork();
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            store.replace(&path, flipped);
            let (store, vault) = shared(&store);
            let (plan, _) = repair(&vault, &request()).unwrap();
            let vault = open_vault(Box::new(Arc::clone(&store))).unwrap();
            let report = check_all(&vault);
            let harmed: Vec<_> = plan.harmed.iter().map(|harm| harm.snapshot).collect();
            for problem in &report.problems {
                assert!(
                    problem.snapshots.iter().all(|id| harmed.contains(id)),
                    "{path} at {at}: {problem:?}"
                );
                assert!(!problem.snapshots.is_empty(), "{path} at {at}: {problem:?}");
            }
            for kept in &fixture.snapshots {
                let is_harmed = harmed.iter().any(|id| id.to_string() == kept.id);
                match restored(&vault, &kept.id, fixture.folder.path()) {
                    Ok(bytes) => assert!(bytes == kept.image && !is_harmed, "{path} at {at}"),
                    Err(error) => assert!(is_harmed, "{path} at {at}: {error}: {plan:?}"),
                }
            }
            for harm in &plan.harmed {
                let tables = harm.tables.as_deref();
                named_tables += usize::from(tables == Some(&["t".to_owned()]));
                assert!(tables.is_none_or(|tables| tables.len() < 2), "{harm:?}");
            }
        }
    }
    println!("harmed snapshots whose table was named: {named_tables}");
    assert!(named_tables > 0);
}

#[test]
fn a_client_that_remembers_the_lost_entry_answers_for_it() {
    let fixture = small();
    let mut heads = 0;
    for (path, ..) in fixture.objects() {
        if !path.as_str().starts_with("log/") {
            continue;
        }
        let store = fixture.store.fork();
        store.remove(&path);
        let store = Arc::new(store);
        // The state folder of the client that wrote them all.
        let state = tempfile::tempdir().unwrap();
        copy_tree(&fixture.folder.path().join("state"), state.path());
        let folders = LocalFolders { cache: None, state: Some(state.path().to_path_buf()) };
        let open =
            || LockedVault::find(Box::new(Arc::clone(&store))).unwrap().unlock(&key(), &folders).unwrap();
        let vault = open();
        let before = check_all(&vault);
        heads += u32::from(before.problems.iter().any(|problem| problem.message.contains("remembers")));
        let (plan, _) = repair(&vault, &request()).unwrap();
        assert!(plan.makes_whole(), "{plan:?}");
        let report = check_all(&open());
        assert!(report.problems.is_empty(), "{path}: {report:?}");
    }
    assert_eq!(heads, 1);
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn what_is_no_copy_of_the_vault_is_refused() {
    let (_, vault) = shared(&small().store);
    let foreign = Fixture::new(false);
    let error = vault.copy_in(Box::new(foreign.store.fork())).unwrap_err();
    assert!(error.to_string().contains("is not a copy of this vault"), "{error}");
    assert!(vault.copy_in(Box::new(MemoryStore::new())).is_err());
}

/// A store in which packs are taken away by another client just before they are listed: first all that refers to them.
#[derive(Debug)]
struct Pruned {
    inner: Arc<MemoryStore>,
    done: std::sync::atomic::AtomicBool,
}

impl Store for Pruned {
    crate::support::reads_of_inner!();

    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        self.inner.put_if_absent(path, bytes)
    }
    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        // The whole listing comes after the index was read.
        if folder.is_empty() && !self.done.swap(true, std::sync::atomic::Ordering::SeqCst) {
            for path in self.inner.paths() {
                if ["index/", "snapshots/", "packs/"].iter().any(|folder| path.as_str().starts_with(folder)) {
                    self.inner.remove(&path);
                }
            }
            let vault = open_vault(Box::new(Arc::clone(&self.inner))).unwrap();
            let history = vault.history().unwrap();
            let forgotten = LogEntry::Forgotten(history.published.iter().copied().collect(), None);
            let deleted = LogEntry::Deleted(history.objects.values().copied().collect());
            vault.append_log(&history, jiff::Timestamp::now(), vec![forgotten, deleted]).unwrap();
        }
        self.inner.list(folder, visit)
    }
    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.inner.delete(path)
    }
}

#[test]
fn a_check_that_races_a_prune_reports_no_damage() {
    let inner = Arc::new(small().store.fork());
    let store = Pruned { inner, done: false.into() };
    let vault = open_vault(Box::new(store)).unwrap();
    let report = check_all(&vault);
    assert!(report.problems.is_empty(), "{report:?}");
}

#[test]
fn checks_with_a_budget_go_on_where_the_last_one_stopped() {
    let fixture = small();
    let state = tempfile::tempdir().unwrap();
    let folders = LocalFolders { cache: None, state: Some(state.path().to_path_buf()) };
    let store = Arc::new(fixture.store.fork());
    let vault = LockedVault::find(Box::new(Arc::clone(&store))).unwrap().unlock(&key(), &folders).unwrap();
    let run = |budget, days: Option<u64>, at: &str| {
        let max_age = days.map(|days| Duration::from_secs(days * 86_400));
        let request = CheckRequest { data: DataLevel::Due { budget, max_age }, test_restore: None };
        check(&vault, &request, &FixedClock(at.parse().unwrap()), &Silent).unwrap()
    };
    let packs = fixture.objects().into_iter().filter(|(path, ..)| is_pack(path)).count() as u64;
    for read in 1..=packs {
        let report = run(Some(1), Some(30), "2030-01-01T00:00:00Z");
        assert_eq!((report.packs_read, report.packs_left), (1, packs - read));
    }
    let report = run(Some(1), Some(30), "2030-01-02T00:00:00Z");
    assert_eq!((report.packs_read, report.packs_left), (0, 0));
    let report = run(None, Some(30), "2030-02-02T00:00:00Z");
    assert_eq!((report.packs_read, report.packs_left), (packs, 0));
    // One that was found damaged is always due.
    let (path, mut bytes, _) = fixture.objects().into_iter().find(|(path, ..)| is_pack(path)).unwrap();
    bytes[100] ^= 1;
    store.replace(&path, bytes);
    assert!(!run(None, None, "2030-02-03T00:00:00Z").problems.is_empty());
    let report = run(None, Some(30), "2030-02-04T00:00:00Z");
    // And those with deltas against what is in it.
    assert!((1..packs).contains(&report.packs_read), "{report:?}");
    assert!(report.problems.iter().any(|problem| problem.object.starts_with(path.as_str())), "{report:?}");
}

/// The manifest alone tells where the database is that still has what is lost.
#[test]
fn a_manifest_that_is_recovered_names_a_live_database() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("app.db");
    let db = Connection::open(&database).unwrap();
    db.execute_batch("CREATE TABLE t AS SELECT hex(randomblob(200000)) AS x").unwrap();
    let (vault, store) = memory_vault();
    take(&vault, &database).unwrap();
    let packs = || store.objects().into_iter().filter(|(path, _)| path.as_str().starts_with("packs/"));
    let (pages, _) = packs().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    store.remove(&pages);
    let manifests = store.paths().into_iter().filter(|path| path.as_str().starts_with("snapshots/"));
    manifests.for_each(|path| drop(store.remove(&path)));
    let harmed = plan(&vault, &request(), &Silent).unwrap();
    assert!(!harmed.makes_whole(), "{harmed:?}");
    let host = Some(crate::support::request(&[]).host.id);
    let request = RepairRequest { host, ..request() };
    let planned = plan(&vault, &request, &Silent).unwrap();
    assert!(planned.makes_whole() && planned.steps.iter().any(|step| step.action == "heal"), "{planned:?}");
    execute(&vault, &request, &planned, &SystemClock, &Silent).unwrap();
    assert_eq!(check_all(&vault).problems, []);
}

/// A pack that no index names because a prune is at the point of deleting it.
#[test]
fn what_a_prune_is_about_to_delete_is_not_named_again() {
    let fixture = small();
    let store = fixture.store.fork();
    for path in store.paths().into_iter().filter(|path| path.as_str().starts_with("index/")) {
        store.remove(&path);
    }
    let (store, vault) = shared(&store);
    let packs: Vec<ObjectPath> = store.paths().into_iter().filter(is_pack).collect();
    let condemned = packs[0].file_name().parse().unwrap();
    let entry = LogEntry::Condemned(vec![condemned], i64::MAX);
    vault.append_log(&vault.history().unwrap(), jiff::Timestamp::now(), vec![entry]).unwrap();
    let plan = plan(&vault, &request(), &Silent).unwrap();
    let rebuilt: Vec<&str> = plan.steps.iter().map(|step| step.object.as_str()).collect();
    let others: Vec<&str> = packs[1..].iter().map(ObjectPath::as_str).collect();
    assert_eq!(rebuilt, others, "{plan:?}");
}
