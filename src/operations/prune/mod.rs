//! `prune`: frees what nothing needs. It plans first, and the plan can be looked at; carrying it out decides nothing.
//!
//! In this order, so that a crash or an interruption anywhere loses nothing and the next run goes on from there:
//!
//! 1. What is still needed of packs that are to go is copied into new packs, which an index object names.
//! 2. Packs that are to go are *condemned* in the log: from now on nobody builds on them.
//! 3. Who is alone in a local vault takes them away at once. Otherwise they stay for [`WAIT`], until everybody who may
//!    have relied on them has published, and a later run takes what then still nobody needs.
//! 4. Taking away: manifests of what was forgotten long ago, index objects (their successors first), packs.

mod execute;
mod survey;

use std::collections::{BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};

use self::survey::{PackFacts, Survey};
use super::list;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{ObjectName, SnapshotId};
use crate::monitor::Monitor;
use crate::vault::log::History;
use crate::vault::{Catalog, Reach, Snapshot, Vault, VaultError};

/// How long condemned packs stay where prune is not alone: longer than any snapshot or restore takes, and than clocks
/// differ.
pub const WAIT: SignedDuration = SignedDuration::from_hours(24);
/// How long a forgotten snapshot can be brought back unless something else is asked for.
pub const GRACE: SignedDuration = SignedDuration::from_hours(24 * 7);
/// A pack below this is small.
const SMALL_PACK: u64 = 4 << 20;
/// So many small packs of a kind are merged.
const MERGE_PACKS: usize = 16;
/// With so many index objects, small ones are merged.
const MERGE_INDEXES: usize = 24;
/// How often a plan is made anew because the vault has changed under it.
const ATTEMPTS: usize = 3;

/// How much is pruned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PruneRequest {
    /// Space in packs that may stay unused rather than be rewritten, in percent of what is used.
    pub max_unused: f64,
    /// How long forgotten snapshots can still be brought back.
    pub grace: SignedDuration,
}

impl Default for PruneRequest {
    fn default() -> Self {
        Self { max_unused: 5.0, grace: GRACE }
    }
}

/// Packs of one sort, in the words of docs/cli.md.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct PackSum {
    /// How many.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl PackSum {
    const fn add(&mut self, bytes: u64) {
        self.packs += 1;
        self.bytes += bytes;
    }
}

/// What a prune will do, or did, in the words of docs/cli.md.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PruneReport {
    /// Whether it was only shown.
    pub dry_run: bool,
    /// Snapshots that are there.
    pub snapshots: u64,
    /// Forgotten snapshots that can still be brought back.
    pub kept_forgotten: u64,
    /// Forgotten snapshots whose manifests go.
    pub removed_snapshots: u64,
    /// All packs before.
    pub before: PackSum,
    /// Packs that nothing needs.
    pub unreferenced: PackSum,
    /// Packs of which a part is needed, which is written anew.
    pub rewritten: PackSum,
    /// Small packs that are merged.
    pub merged: PackSum,
    /// Bytes in packs that stay and that nothing needs.
    pub unused_bytes: u64,
    /// Bytes written anew.
    pub written_bytes: u64,
    /// Bytes that are won when all is done.
    pub freed_bytes: u64,
    /// Packs that were deleted in this run.
    pub deleted: PackSum,
    /// Packs that are condemned and wait: a later run deletes them.
    pub condemned: PackSum,
    /// When the first of them may be deleted, where others use the vault at that time.
    pub delete_after: Option<Timestamp>,
    /// Packs that were condemned and are needed after all.
    pub rescued: u64,
    /// Index objects that were replaced.
    pub replaced_indexes: u64,
}

/// What a prune will do; nothing is done yet.
#[derive(Debug)]
pub struct PrunePlan {
    request: PruneRequest,
    now: Timestamp,
    report: PruneReport,
    history: History,
    survey: Survey,
    reach: Reach,
    /// Packs that are to go: nobody needs them, or what is needed of them is copied first.
    doomed: BTreeSet<ObjectName>,
    /// Those of them that something is copied from.
    copied: HashSet<ObjectName>,
    /// Those of these that are merged because they are small.
    merged: HashSet<ObjectName>,
    /// Snapshots that were taken into account.
    planned: HashSet<SnapshotId>,
}

/// Frees what nothing needs, as planned.
///
/// # Errors
/// A snapshot or an object is damaged, so that it cannot be known what is needed; the store fails; or the user asked to
/// stop. Nothing that is needed is gone then, and another run goes on.
pub fn prune(
    vault: &Vault,
    request: &PruneRequest,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<PruneReport> {
    let first = plan(vault, request, clock, monitor)?;
    first.execute(vault, clock, monitor)
}

/// Finds out what can go.
///
/// # Errors
/// As [`prune`].
pub fn plan(
    vault: &Vault,
    request: &PruneRequest,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<PrunePlan> {
    let (mut history, mut catalog) = list::read(vault, monitor)?;
    if !catalog.vanished_forgotten.is_empty() {
        // Another prune may have taken them between the two.
        (history, catalog) = list::read(vault, monitor)?;
    }
    let now = clock.now();
    refuse_unknown(&history, &catalog)?;
    let skipped = vault.load_index()?;
    if let Some(skipped) = skipped.first() {
        return Err(unknown(format!("index object {} cannot be used: {}", skipped.name, skipped.error)));
    }
    vault.look_for_packs()?;
    let grace_began_us = now.saturating_sub(request.grace).unwrap_or(Timestamp::MIN).as_microsecond();
    let can_come_back = |snapshot: &&Snapshot| {
        history.forgotten_at_us.get(&snapshot.id).is_some_and(|at_us| *at_us > grace_began_us)
    };
    let is_lost =
        |id: &&SnapshotId| history.forgotten_at_us.get(id).is_some_and(|at_us| *at_us > grace_began_us);
    if let Some(id) = catalog.vanished_forgotten.iter().find(is_lost) {
        let message =
            format!("the manifest of snapshot {}, which was forgotten not long ago, is gone", id.short());
        return Err(unknown(message));
    }
    let mut forgotten: Vec<&Snapshot> = catalog.forgotten.iter().filter(can_come_back).collect();
    let reach = match reach(vault, &history, &catalog, &mut forgotten, false, monitor) {
        Err(error @ (VaultError::MissingChunk(_) | VaultError::UnreadableChunk { .. })) => {
            // It may be the local cache that lacks something; if it is the vault, a forgotten snapshot may be damaged.
            vault.distrust_cache(&error)?;
            reach(vault, &history, &catalog, &mut forgotten, true, monitor)
        }
        found => found,
    };
    let reach = reach.map_err(damaged)?.ok_or_else(interrupted)?;
    let survey = survey::survey(vault, monitor)?;
    let planned =
        catalog.snapshots.iter().chain(forgotten.iter().copied()).map(|snapshot| snapshot.id).collect();
    let removable = execute::removable(&history, &catalog, grace_began_us);
    let report = PruneReport {
        snapshots: catalog.snapshots.len() as u64,
        kept_forgotten: forgotten.len() as u64,
        removed_snapshots: catalog
            .forgotten
            .iter()
            .chain(&catalog.withdrawn)
            .filter(|snapshot| removable.contains(&snapshot.object))
            .count() as u64,
        ..PruneReport::default()
    };
    let mut plan = PrunePlan {
        request: *request,
        now,
        report,
        history,
        survey,
        reach,
        doomed: BTreeSet::new(),
        copied: HashSet::new(),
        merged: HashSet::new(),
        planned,
    };
    plan.choose(vault.current_epoch()?);
    Ok(plan)
}

/// What cannot be read may need anything.
fn refuse_unknown(history: &History, catalog: &Catalog) -> Result<()> {
    if let Some(text) = history.alarms.first() {
        return Err(unknown(text.clone()));
    }
    if !history.missing.is_empty()
        && let Some(text) = list::gaps(history)
    {
        return Err(unknown(text));
    }
    if let Some((name, error)) = history.skipped.first() {
        return Err(unknown(format!("log object {name} cannot be used: {error}")));
    }
    if let Some((name, error)) = catalog.skipped.first() {
        return Err(unknown(format!("snapshots object {name} cannot be used: {error}")));
    }
    if let Some(id) = catalog.vanished.first() {
        return Err(unknown(format!("the manifest of snapshot {} is gone", id.short())));
    }
    Ok(())
}

fn unknown(message: String) -> Error {
    Error::new(ErrorKind::Damage, message)
        .with_hint("what it needs is not known, so nothing was deleted: repair the vault first")
}

fn damaged(error: VaultError) -> Error {
    match error {
        VaultError::MissingChunk(_) | VaultError::UnreadableChunk { .. } => {
            Error::new(ErrorKind::Damage, format!("a snapshot is damaged: {error}")).with_hint(
                "nothing was deleted; `pagevault check` names the snapshot: repair the vault, or forget the snapshot",
            )
        }
        error => error.into(),
    }
}

fn interrupted() -> Error {
    Error::new(
        ErrorKind::Interrupted,
        "interrupted; nothing that is needed is gone, and another prune goes on",
    )
}

/// Marks what the snapshots need. With `tolerant`, forgotten ones that are not whole any more are left out. `None`: the
/// user asked to stop.
fn reach(
    vault: &Vault,
    history: &History,
    catalog: &Catalog,
    forgotten: &mut Vec<&Snapshot>,
    tolerant: bool,
    monitor: &dyn Monitor,
) -> Result<Option<Reach>, VaultError> {
    let mut reach = vault.reach(history.condemned.keys().copied().collect(), false);
    let mut all: Vec<(&Snapshot, bool)> = catalog.snapshots.iter().map(|snapshot| (snapshot, true)).collect();
    all.extend(forgotten.iter().map(|snapshot| (*snapshot, false)));
    // One database after the other, each in the order of time: neighbours share most of their nodes.
    all.sort_by_key(|(snapshot, _)| (snapshot.manifest.database, snapshot.manifest.created_at_us));
    let mut lost = HashSet::new();
    monitor.begin("prune", "snapshots", all.len() as u64);
    for (snapshot, is_there) in all {
        if monitor.interrupted() {
            return Ok(None);
        }
        match reach.add(&vault.index(), snapshot) {
            Err(VaultError::MissingChunk(_) | VaultError::UnreadableChunk { .. })
                if tolerant && !is_there =>
            {
                lost.insert(snapshot.id);
            }
            added => added?,
        }
        monitor.advance(1);
    }
    monitor.finish();
    forgotten.retain(|snapshot| !lost.contains(&snapshot.id));
    Ok(Some(reach))
}

impl PrunePlan {
    /// What will be done.
    #[must_use]
    pub fn report(&self) -> PruneReport {
        PruneReport { dry_run: true, ..self.report.clone() }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.doomed.is_empty()
            && self.history.condemned.is_empty()
            && self.report.removed_snapshots == 0
            && self.survey.indexes.len() < MERGE_INDEXES
    }

    /// Decides which packs go and which are written anew.
    fn choose(&mut self, epoch: u32) {
        let (mut partly, mut whole) = (Vec::new(), Vec::new());
        let mut used_bytes = 0;
        for pack in self.survey.packs.values() {
            self.report.before.add(pack.object_len);
            let used = self.reach.of(pack.name).map_or(0, |marks| marks.bytes);
            used_bytes += used;
            if used == 0 {
                self.report.unreferenced.add(pack.object_len);
                self.doomed.insert(pack.name);
            } else if pack.epoch != epoch || self.history.condemned.contains_key(&pack.name) {
                // Ids are those of an epoch: a record cannot move to a pack of another. What is condemned and needed is
                // rescued first: who relies on it may just be reading.
                self.report.unused_bytes += pack.stored_len.saturating_sub(used);
            } else {
                let unused = pack.stored_len.saturating_sub(used);
                let PackFacts { name, object_len, is_pages, .. } = *pack;
                let candidate = Candidate { name, object_len, is_pages, used, unused };
                if unused > 0 { &mut partly } else { &mut whole }.push(candidate);
            }
        }
        for (name, size, is_old) in &self.survey.unnamed {
            self.report.before.add(*size);
            self.report.unreferenced.add(*size);
            // A young one may be that of a run which has not written its index object yet.
            if *is_old {
                self.doomed.insert(*name);
            }
        }
        // What is merged leaves nothing unused behind, so it comes first.
        whole.extend(&partly);
        let merge = small_packs(&whole);
        self.merged = merge.iter().map(|pack| pack.name).collect();
        partly.retain(|pack| !self.merged.contains(&pack.name));
        let rewrite = self.emptiest(&mut partly, used_bytes);
        for (packs, is_merge) in [(rewrite, false), (merge, true)] {
            for pack in packs {
                let sum = if is_merge { &mut self.report.merged } else { &mut self.report.rewritten };
                sum.add(pack.object_len);
                self.report.written_bytes += pack.used;
                self.doomed.insert(pack.name);
                self.copied.insert(pack.name);
            }
        }
        let going = self.report.unreferenced.bytes + self.report.rewritten.bytes + self.report.merged.bytes;
        self.report.freed_bytes = going.saturating_sub(self.report.written_bytes);
    }

    /// Takes out of `partly` the packs that are to be written anew: those with the largest unused share first, for they
    /// win most for what they cost, until what stays unused is little enough.
    #[expect(clippy::cast_precision_loss, reason = "shares for a comparison")]
    fn emptiest(&mut self, partly: &mut Vec<Candidate>, used_bytes: u64) -> Vec<Candidate> {
        let share = |pack: &Candidate| pack.unused as f64 / (pack.used + pack.unused).max(1) as f64;
        partly.sort_by(|one, other| share(one).total_cmp(&share(other)).then(one.name.cmp(&other.name)));
        let allowed = used_bytes as f64 * self.request.max_unused / 100.0;
        let mut left: u64 = partly.iter().map(|pack| pack.unused).sum();
        let mut rewrite = Vec::new();
        while left as f64 > allowed {
            let Some(pack) = partly.pop() else { break };
            left -= pack.unused;
            rewrite.push(pack);
        }
        self.report.unused_bytes += left;
        rewrite
    }
}

/// A pack that stays, at least in part.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    name: ObjectName,
    object_len: u64,
    is_pages: bool,
    used: u64,
    unused: u64,
}

/// The small packs of each kind that has many.
fn small_packs(packs: &[Candidate]) -> Vec<Candidate> {
    let mut merge = Vec::new();
    for pages in [false, true] {
        let small: Vec<Candidate> = packs
            .iter()
            .filter(|pack| pack.is_pages == pages && pack.object_len < SMALL_PACK)
            .copied()
            .collect();
        if small.len() >= MERGE_PACKS {
            merge.extend(small);
        }
    }
    merge
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prune_that_nothing_is_asked_of_is_careful() {
        let request = PruneRequest::default();
        assert!(request.grace == GRACE && WAIT >= SignedDuration::from_hours(24));
    }
}
