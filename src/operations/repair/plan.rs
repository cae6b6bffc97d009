//! The plan of a repair: everything is looked at, in the order in which it leans on each other, and what is wrong is
//! turned into steps. Nothing is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::landmarks::{ATTEMPTS, landmarks};
use super::harm::{self, Harm};
use super::live::{self, Key};
use super::needs::{Lacks, Losses, Walk};
use super::packs::{Packs, Salvage, index_objects};
use super::view::{Source, View};
use super::{RepairRequest, RepairStep, controls};
use crate::chunk::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::ObjectKind;
use crate::format::limits;
use crate::format::log::Published;
use crate::format::manifest::Manifest;
use crate::ids::{ChunkId, ObjectName, SnapshotId};
use crate::monitor::Monitor;
use crate::store::{DirectReads, ObjectMeta, ObjectPath, StoreError};
use crate::vault::layout::{self, Place};
use crate::vault::log::History;
use crate::vault::reader::plan as plan_chunk;
use crate::vault::{Catalog, Snapshot, Vault, VaultError};

/// What a repair will do, and what it cannot do.
#[derive(Debug, Default)]
pub struct RepairPlan {
    /// In the order in which it is done.
    pub steps: Vec<RepairStep>,
    /// Snapshots that remain harmed.
    pub harmed: Vec<Harm>,
    /// What nothing can be done about, and whatever else should be known.
    pub notes: Vec<String>,
    /// Objects and packs that cannot be made good, as far as no snapshot says so already.
    pub beyond_repair: Vec<String>,
    pub(super) work: Work,
}

impl RepairPlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether all is well when the plan has been carried out.
    #[must_use]
    pub const fn makes_whole(&self) -> bool {
        self.harmed.is_empty() && self.beyond_repair.is_empty()
    }
}

/// An object whose right bytes are known to be elsewhere.
#[derive(Debug, Clone)]
pub(super) struct PutBack {
    pub(super) path: ObjectPath,
    pub(super) source: Source,
    /// Hash of the right bytes.
    pub(super) hash: ObjectName,
    /// Whether something else is in its place.
    pub(super) occupied: bool,
}

/// A manifest whose snapshots object is lost.
#[derive(Debug, Clone)]
pub(super) struct LostManifest {
    pub(super) id: SnapshotId,
    pub(super) epoch: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) manifest: Manifest,
}

/// The same for the machine.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) put_back: Vec<PutBack>,
    pub(super) salvage: Vec<Salvage>,
    pub(super) from_copy: Vec<Key>,
    pub(super) from_live: Vec<(PathBuf, HashSet<Key>)>,
    pub(super) busy_timeout: Duration,
    /// Packs that no index object names any more.
    pub(super) reindex: Vec<ObjectName>,
    /// Index objects that name packs which are gone, or say of packs what is not true.
    pub(super) rewrite: BTreeSet<ObjectName>,
    /// Those of the latter kind.
    pub(super) liars: BTreeSet<ObjectName>,
    /// Packs that no index object is to name.
    pub(super) dropped: HashSet<ObjectName>,
    pub(super) manifests: Vec<LostManifest>,
    /// Snapshots objects of forgotten snapshots whose manifests nobody has.
    pub(super) taken: BTreeSet<ObjectName>,
    pub(super) unlogged: Vec<Published>,
    /// Lost log objects that are answered for from now on.
    pub(super) answered: Vec<ObjectName>,
    pub(super) log_keyring: bool,
    /// What this machine remembers of the log is not to be held against it any more.
    pub(super) accept_log: bool,
    /// What is moved aside, in this order.
    pub(super) aside: Vec<ObjectPath>,
}

/// Looks at everything and plans what is to be done.
///
/// # Errors
/// The store fails, or the user interrupts. Damage is no error.
pub fn plan(vault: &Vault, request: &RepairRequest, monitor: &dyn Monitor) -> Result<RepairPlan> {
    let copy = request.copy.as_ref();
    let _direct = (DirectReads::of(vault.store()), copy.map(|copy| DirectReads::of(copy.store())));
    let mut attempt = 1;
    loop {
        let before = landmarks(vault)?;
        let view = Arc::new(View::new(vault.shared_core(), copy.map(Vault::shared_core)));
        let seen = vault.over(Box::new(Arc::clone(&view)))?;
        let planner = Planner { vault, copy, request, view, seen, monitor, plan: RepairPlan::default() };
        let plan = planner.run()?;
        let is_clean = plan.is_empty() && plan.makes_whole();
        if is_clean || attempt == ATTEMPTS || landmarks(vault)? == before {
            return Ok(plan);
        }
        attempt += 1;
    }
}

pub(super) struct Planner<'a> {
    pub(super) vault: &'a Vault,
    pub(super) copy: Option<&'a Vault>,
    pub(super) request: &'a RepairRequest,
    pub(super) view: Arc<View>,
    /// The vault as it will be.
    pub(super) seen: Vault,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) plan: RepairPlan,
}

impl Planner<'_> {
    fn run(mut self) -> Result<RepairPlan> {
        self.plan.work.busy_timeout = self.request.busy_timeout;
        let history = self.logs()?;
        controls::plan(&mut self, &history)?;
        self.snapshots_objects(&history)?;
        self.index_objects()?;
        let packs = Packs::survey(&mut self, &history)?;
        let catalog = self.seen.catalog(&history)?;
        let mut snapshots = catalog.snapshots.clone();
        self.manifests(&history, &catalog, &mut snapshots)?;
        if !self.plan.work.answered.is_empty() {
            self.unpublished(&history, &snapshots)?;
        }
        self.unlogged(&catalog, &history);
        let harmed = self.heal(&snapshots, &packs.losses)?;
        packs.finish(&mut self)?;
        self.plan.harmed = harm::describe(&self.seen, &snapshots, harmed);
        self.log_steps();
        self.aside_steps();
        Ok(self.plan)
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers hand over what they have just made")]
    pub(super) fn step(&mut self, action: &'static str, object: impl ToString, detail: impl ToString) {
        self.plan.steps.push(RepairStep { action, object: object.to_string(), detail: detail.to_string() });
    }

    /// The whole object of this path and name in the other copy, if there is one.
    pub(super) fn is_whole_in_copy(&self, path: &ObjectPath, hash: ObjectName) -> bool {
        let read = |copy: &Vault| copy.store().get(path, limits::OBJECT);
        self.copy.is_some_and(|copy| read(copy).is_ok_and(|bytes| ObjectName::of(&bytes) == hash))
    }

    /// The right bytes of an object will be put where it belongs.
    pub(super) fn put_back(&mut self, path: &ObjectPath, source: Source, hash: ObjectName, why: &str) {
        let occupied = self.vault.store().size(path).is_ok();
        let from = match &source {
            Source::Own(place) => place.to_string(),
            Source::Copy => {
                self.copy.map_or_else(String::new, |copy| format!("the copy at {}", copy.place()))
            }
        };
        self.step("restore", path, format!("{why}; from {from}"));
        self.view.redirect(path, source.clone());
        self.plan.work.put_back.push(PutBack { path: path.clone(), source, hash, occupied });
    }

    /// What is there will be moved aside.
    pub(super) fn set_aside(&mut self, path: &ObjectPath, why: &str) {
        self.view.hide(path);
        self.step("quarantine", path, why);
        self.plan.work.aside.push(path.clone());
    }

    /// An object with a name that cannot be used: put back where the other copy has it, else moved aside if it is damaged.
    /// Whether it is gone then.
    fn object(&mut self, kind: ObjectKind, name: ObjectName, error: &VaultError) -> Result<bool> {
        let path = layout::object_path(kind, name).map_err(VaultError::from)?;
        if self.is_whole_in_copy(&path, name) {
            self.put_back(&path, Source::Copy, name, &why(error));
            return Ok(false);
        }
        match error {
            VaultError::Damaged { .. } => {
                self.set_aside(&path, &why(error));
                Ok(true)
            }
            // Not damage, and not for a repair to work around.
            VaultError::Store(StoreError::PermissionDenied { .. }) => {
                Err(Error::new(ErrorKind::Failed, error.to_string())
                    .with_hint("run as the vault's owner, or give this user rights to the vault's folder"))
            }
            error => {
                self.plan.beyond_repair.push(format!("{path} is left as it is: {error}"));
                Ok(false)
            }
        }
    }

    /// The log first: it says what of the rest is to be there.
    fn logs(&mut self) -> Result<History> {
        let history = self.vault.history()?;
        let mut lost: BTreeSet<ObjectName> = history.missing.clone();
        for (name, error) in &history.skipped {
            if self.object(ObjectKind::Log, *name, error)? {
                lost.insert(*name);
            } else {
                lost.remove(name);
            }
        }
        let remembered = self.vault.remembered_head();
        if let Some((writer, sequence, name)) = remembered
            && history.heads.get(&writer).is_none_or(|(head, _)| *head < sequence)
        {
            lost.insert(name);
        }
        for text in &history.alarms {
            self.step("log", "this machine's memory", text);
        }
        self.plan.work.accept_log = !history.alarms.is_empty();
        for name in lost {
            let path = layout::object_path(ObjectKind::Log, name).map_err(VaultError::from)?;
            if self.is_whole_in_copy(&path, name) {
                self.put_back(&path, Source::Copy, name, "it is missing");
            } else if !history.skipped.iter().any(|(skipped, _)| *skipped == name)
                && self.vault.store().size(&path).is_ok()
            {
                // There after all: the chain has a fork, which is not for a repair to judge.
                self.plan.beyond_repair.push(format!("{path}: the log's chain does not fit it"));
            } else {
                self.plan.work.answered.push(name);
            }
        }
        Ok(self.seen.history()?)
    }

    fn snapshots_objects(&mut self, history: &History) -> Result<()> {
        let mut seen = BTreeSet::new();
        for (name, error) in self.seen.catalog(history)?.skipped {
            if seen.insert(name) {
                self.object(ObjectKind::Snapshots, name, &error)?;
            }
        }
        Ok(())
    }

    fn index_objects(&mut self) -> Result<()> {
        for skipped in self.seen.load_index_anew()? {
            self.object(ObjectKind::Index, skipped.name, &skipped.error)?;
        }
        for skipped in self.seen.load_index_anew()? {
            self.monitor.warn(&format!("index object {} is not used: {}", skipped.name, skipped.error));
        }
        Ok(())
    }

    /// Manifests that the log published and that no object holds, from the other copy or from metadata packs.
    fn manifests(
        &mut self,
        history: &History,
        catalog: &Catalog,
        snapshots: &mut Vec<Snapshot>,
    ) -> Result<()> {
        let (vanished, forgotten) = (&catalog.vanished, &catalog.vanished_forgotten);
        let theirs = match self.copy {
            Some(copy) if !(vanished.is_empty() && forgotten.is_empty()) => copy.catalog(&copy.history()?)?,
            _ => Catalog::default(),
        };
        let mut put_back = BTreeSet::new();
        for id in vanished.iter().chain(forgotten) {
            let is_forgotten = forgotten.contains(id);
            let mut all = theirs.snapshots.iter().chain(&theirs.forgotten);
            if let Some(there) = all.find(|snapshot| snapshot.id == *id) {
                let path =
                    layout::object_path(ObjectKind::Snapshots, there.object).map_err(VaultError::from)?;
                if put_back.insert(there.object) {
                    self.put_back(&path, Source::Copy, there.object, "it is missing");
                }
                if !is_forgotten {
                    snapshots.push(there.clone());
                }
                continue;
            }
            match self.manifest_in_pack(*id) {
                Some(lost) => {
                    let detail = format!("of {}, from its copy in a metadata pack", lost.manifest.name);
                    self.step("recover", format!("snapshot {}", id.short()), detail);
                    if !is_forgotten {
                        let (object, manifest) = (ObjectName([0; 32]), lost.manifest.clone());
                        snapshots.push(Snapshot { id: *id, object, epoch: lost.epoch, manifest });
                    }
                    self.plan.work.manifests.push(lost);
                }
                None if is_forgotten => {
                    // From now on it is as if a prune had taken it.
                    let detail = "it was forgotten and its manifest is lost: it cannot be brought back any more";
                    self.step("log", format!("snapshot {}", id.short()), detail);
                    self.plan.work.taken.extend(history.objects.get(id));
                }
                None => self.plan.beyond_repair.push(format!(
                    "snapshot {}: the log says that it was published, and no copy of its manifest can be read",
                    id.short()
                )),
            }
        }
        snapshots.sort_by_key(|snapshot| (snapshot.manifest.created_at_us, snapshot.id));
        Ok(())
    }

    fn manifest_in_pack(&self, id: SnapshotId) -> Option<LostManifest> {
        let plan = plan_chunk(&self.seen.index(), Class::Manifest, ChunkId(id.0)).ok()?;
        let mut bytes = Vec::new();
        self.seen.reader().read(&plan, &mut bytes).ok()?;
        let header = &plan.location()?.header;
        let epoch = crate::format::envelope::Header::decode(header).ok()?.0.epoch;
        let manifest = Manifest::decode(&bytes).ok()?;
        Some(LostManifest { id, epoch, bytes, manifest })
    }

    /// Where log objects are lost for good, manifests may be in packs that the log no longer says were published. They are
    /// not brought back, for their runs may have ended before, but they are not passed over in silence either.
    fn unpublished(&mut self, history: &History, snapshots: &[Snapshot]) -> Result<()> {
        let known: HashSet<SnapshotId> = snapshots
            .iter()
            .map(|snapshot| snapshot.id)
            .chain(history.published.iter().copied())
            .chain(history.forgotten.iter().copied())
            .chain(history.aborted.iter().copied())
            .collect();
        let mut found = BTreeSet::new();
        for (_, index) in index_objects(&self.seen)? {
            let records = index.packs.iter().flat_map(|pack| pack.directory.records());
            let manifests = records.filter(|record| record.class == Class::Manifest);
            found.extend(manifests.map(|record| SnapshotId(record.id.0)).filter(|id| !known.contains(id)));
        }
        for id in found {
            let Some(lost) = self.manifest_in_pack(id) else { continue };
            self.plan.beyond_repair.push(format!(
                "snapshot {} of {}: a pack has its manifest, and what would say that it was published is lost",
                id.short(),
                lost.manifest.name
            ));
        }
        Ok(())
    }

    fn unlogged(&mut self, catalog: &Catalog, history: &History) {
        for id in &catalog.unlogged {
            let Some(snapshot) = catalog.get(*id) else { continue };
            if history.published.contains(id) {
                continue;
            }
            self.plan.work.unlogged.push(Published {
                snapshot: *id,
                database: snapshot.manifest.database,
                object: snapshot.object,
            });
        }
    }

    /// Where chunks may be found alive: those that were named, and the databases on this machine of which there are snapshots.
    fn databases(&self, snapshots: &[Snapshot]) -> BTreeSet<PathBuf> {
        let manifests = snapshots.iter().map(|snapshot| &snapshot.manifest);
        let here = manifests.filter(|manifest| Some(manifest.host) == self.request.host);
        let paths = here.filter_map(|manifest| manifest.details.source_path.as_deref());
        let own = paths.map(|bytes| PathBuf::from(OsStr::from_bytes(bytes))).filter(|path| path.is_file());
        own.chain(self.request.databases.iter().cloned()).collect()
    }

    /// Looks for what snapshots lack in the other copy and in live databases, until nothing more is found.
    fn heal(
        &mut self,
        snapshots: &[Snapshot],
        losses: &Losses,
    ) -> Result<Vec<(SnapshotId, Vec<std::ops::Range<u64>>)>> {
        let databases = self.databases(snapshots);
        let mut found: HashMap<Key, Vec<u8>> = HashMap::new();
        let mut live: BTreeMap<PathBuf, HashSet<Key>> = BTreeMap::new();
        if let Some(copy) = self.copy {
            copy.load_index_anew()?;
        }
        let mut asked: HashSet<Key> = HashSet::new();
        loop {
            let Lacks { wanted, harmed } =
                Walk::new(&self.seen, losses, &found).lacks(snapshots, self.monitor)?;
            let mut new: HashSet<Key> = wanted.into_iter().filter(|key| asked.insert(*key)).collect();
            if new.is_empty() {
                self.heal_steps(live);
                return Ok(harmed);
            }
            self.search_copy(&mut new, &mut found);
            for path in &databases {
                if new.is_empty() {
                    break;
                }
                let mut had = HashSet::new();
                let searched = live::search(
                    self.vault,
                    path,
                    &new,
                    self.request.busy_timeout,
                    self.monitor,
                    &mut |key, plain| {
                        found.insert(key, if key.0 == Class::Page { Vec::new() } else { plain.to_vec() });
                        had.insert(key);
                        Ok(())
                    },
                );
                match searched {
                    Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                    Err(error) => {
                        self.monitor.warn(&format!("nothing is taken from {}: {error}", path.display()));
                    }

                    Ok(()) => {}
                }
                new.retain(|key| !had.contains(key));
                live.entry(path.clone()).or_default().extend(had);
            }
        }
    }

    fn search_copy(&mut self, new: &mut HashSet<Key>, found: &mut HashMap<Key, Vec<u8>>) {
        let Some(copy) = self.copy else { return };
        let (mut reader, mut plain) = (copy.reader(), Vec::new());
        new.retain(|key| {
            let read =
                plan_chunk(&copy.index(), key.0, key.1).and_then(|plan| reader.read(&plan, &mut plain));
            if read.is_ok() {
                self.plan.work.from_copy.push(*key);
                found.insert(*key, if key.0 == Class::Page { Vec::new() } else { plain.clone() });
            }
            read.is_err()
        });
    }

    fn heal_steps(&mut self, live: BTreeMap<PathBuf, HashSet<Key>>) {
        let from_copy = self.plan.work.from_copy.len();
        if let Some(copy) = self.copy.filter(|_| from_copy > 0) {
            self.step("heal", format!("{from_copy} chunks"), format!("from the copy at {}", copy.place()));
        }
        for (path, keys) in live.into_iter().filter(|(_, keys)| !keys.is_empty()) {
            self.step("heal", format!("{} chunks", keys.len()), format!("from {}", path.display()));
            self.plan.work.from_live.push((path, keys));
        }
    }

    fn log_steps(&mut self) {
        let published = self.plan.work.unlogged.len();
        if published > 0 {
            self.step("log", format!("{published} snapshots"), "they are in no log entry");
        }
        let answered: Vec<ObjectName> = self.plan.work.answered.clone();
        for name in &answered {
            let detail = "it is lost: what was forgotten, pinned or removed in it is not known any more";
            self.step("log", format!("{}/{name}", layout::LOG), detail);
        }
        if !answered.is_empty() {
            self.plan.work.log_keyring = true;
            self.plan.work.accept_log = true;
        }
        if self.plan.work.log_keyring {
            self.step("log", "key slots", "those that are there are written down again");
        }
    }

    /// Moving aside comes last.
    fn aside_steps(&mut self) {
        let (last, first): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.plan.steps).into_iter().partition(|step| step.action == "quarantine");
        self.plan.steps = first.into_iter().chain(last).collect();
        // What refers goes before what is referred to.
        self.plan.work.aside.sort_by_key(|path| match Place::of(path) {
            Place::Index(_) => 0,
            Place::Pack(_) => 2,
            _ => 1,
        });
    }
}

/// Why an object cannot be used, without its name.
pub(super) fn why(error: &VaultError) -> String {
    match error {
        VaultError::Damaged { why, .. } => why.clone(),
        error => error.to_string(),
    }
}

/// The packs of a listing.
pub(super) fn packs_of(objects: &[ObjectMeta]) -> HashMap<ObjectName, &ObjectMeta> {
    let named = |meta: &'_ ObjectMeta| match Place::of(&meta.path) {
        Place::Pack(name) => Some(name),
        _ => None,
    };
    objects.iter().filter_map(|meta| named(meta).map(|name| (name, meta))).collect()
}
