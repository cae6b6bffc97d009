//! `forget`, `undelete`, `pin` and `unpin`: what becomes of snapshots, said in the log.
//!
//! Nothing is deleted here. A forgotten snapshot is out of sight at once, and its data stays until a prune takes it,
//! which it does only when the grace has passed; until then `undelete` brings it back.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::list::{self, SnapshotSpec, choose};
use super::retention::{Candidate, Reason, RetentionPolicy, decide};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::format::log::LogEntry;
use crate::format::manifest::Kind;
use crate::ids::{DatabaseId, SnapshotId};
use crate::monitor::Monitor;
use crate::vault::log::History;
use crate::vault::{Catalog, Snapshot, Vault};

/// Which snapshots are to be forgotten.
#[derive(Debug, Clone)]
pub enum ForgetChoice {
    /// Those that the rules do not keep.
    ByPolicy {
        /// The rules.
        policy: RetentionPolicy,
        /// Of these databases only, by name; of all if empty.
        databases: Vec<String>,
        /// Of these kinds only; of all if empty. Snapshots of other kinds are left alone and not counted.
        kinds: Vec<Kind>,
    },
    /// These.
    Named(Vec<SnapshotSpec>),
}

/// What is to be forgotten, and how.
#[derive(Debug, Clone)]
pub struct ForgetRequest {
    /// Which snapshots.
    pub choice: ForgetChoice,
    /// Also where a database is left without any snapshot. Rules never do that; it is for snapshots that are named.
    pub allow_empty: bool,
    /// A sentence for the log.
    pub reason: Option<String>,
    /// Where days begin.
    pub time_zone: TimeZone,
}

impl ForgetRequest {
    /// By these rules, in all databases; days begin in UTC.
    #[must_use]
    pub const fn by_policy(policy: RetentionPolicy) -> Self {
        let choice = ForgetChoice::ByPolicy { policy, databases: Vec::new(), kinds: Vec::new() };
        Self { choice, allow_empty: false, reason: None, time_zone: TimeZone::UTC }
    }
}

/// A snapshot, and what is to become of it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Decision {
    /// Its id.
    pub snapshot_id: SnapshotId,
    /// Name of its database.
    pub database: String,
    /// Why it was made.
    pub kind: Kind,
    /// When its image was true.
    pub created_at: Timestamp,
    /// Bytes of its content.
    pub size: u64,
    /// What keeps it; nothing keeps those that go.
    pub because: Vec<String>,
}

/// What a forget will do; nothing is done yet.
#[derive(Debug, Clone)]
pub struct ForgetPlan {
    /// Snapshots that go, oldest first.
    pub forget: Vec<Decision>,
    /// Snapshots that stay, oldest first, with what keeps them.
    pub keep: Vec<Decision>,
    reason: Option<String>,
}

/// What a forget did, in the words of docs/cli.md.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ForgetReport {
    /// Whether it was only shown.
    pub dry_run: bool,
    /// Snapshots that went.
    pub forgotten: Vec<Decision>,
    /// Snapshots that stayed, with what keeps them.
    pub kept: Vec<Decision>,
}

/// Plans which snapshots go.
///
/// # Errors
/// A named snapshot or database does not exist, is pinned, or is the last of its database.
pub fn plan(
    vault: &Vault,
    request: &ForgetRequest,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<ForgetPlan> {
    plan_all(vault, std::slice::from_ref(request), clock, monitor)
}

/// As [`plan`], for several requests that speak of different snapshots, such as different databases. The reason is that of
/// the first that has one.
///
/// # Errors
/// As [`plan`].
pub fn plan_all(
    vault: &Vault,
    requests: &[ForgetRequest],
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<ForgetPlan> {
    let (history, catalog) = list::read(vault, monitor)?;
    let now = clock.now();
    let mut plan = ForgetPlan {
        forget: Vec::new(),
        keep: Vec::new(),
        reason: requests.iter().find_map(|request| request.reason.clone()),
    };
    for request in requests {
        let (forget, keep) = match &request.choice {
            ForgetChoice::ByPolicy { policy, databases, kinds } => {
                let wanted = list::databases_named(&catalog, databases)?;
                let applies = |snapshot: &&Snapshot| {
                    let manifest = &snapshot.manifest;
                    (databases.is_empty() || wanted.contains(&manifest.database))
                        && (kinds.is_empty() || kinds.contains(&manifest.kind))
                };
                let considered: Vec<&Snapshot> = catalog.snapshots.iter().filter(applies).collect();
                by_policy(&history, &considered, policy, now, &request.time_zone, monitor)
            }
            ForgetChoice::Named(specs) => named(&history, &catalog, specs, request.allow_empty, now)?,
        };
        plan.forget.extend(forget);
        plan.keep.extend(keep);
    }
    Ok(plan)
}

fn by_policy(
    history: &History,
    considered: &[&Snapshot],
    policy: &RetentionPolicy,
    now: Timestamp,
    zone: &TimeZone,
    monitor: &dyn Monitor,
) -> (Vec<Decision>, Vec<Decision>) {
    let candidates: Vec<Candidate<'_>> = considered
        .iter()
        .map(|snapshot| Candidate {
            id: snapshot.id,
            database: snapshot.manifest.database,
            kind: snapshot.manifest.kind,
            is_image: snapshot.is_image(),
            created_at: snapshot.created_at(),
            tags: &snapshot.manifest.details.tags,
            pinned: history.pinned.contains(&snapshot.id),
            tested: history.tested.get(&snapshot.id).map(|answer| answer.is_whole),
        })
        .collect();
    let reasons = decide(&candidates, policy, now, zone);
    let (mut forget, mut keep) = (Vec::new(), Vec::new());
    for (snapshot, reasons) in considered.iter().zip(reasons) {
        if reasons.contains(&Reason::Future) {
            monitor.warn(&format!("{}: no rule is applied to it", list::dated_ahead(snapshot)));
        }
        let because: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        if because.is_empty() { &mut forget } else { &mut keep }.push(decision(snapshot, because));
    }
    (forget, keep)
}

fn named(
    history: &History,
    catalog: &Catalog,
    specs: &[SnapshotSpec],
    allow_empty: bool,
    now: Timestamp,
) -> Result<(Vec<Decision>, Vec<Decision>)> {
    let mut chosen = BTreeSet::new();
    for spec in specs {
        let snapshot = choose(catalog, spec, now)?;
        if history.pinned.contains(&snapshot.id) {
            let message = format!("snapshot {} is pinned", snapshot.id.short());
            return Err(Error::new(ErrorKind::Refused, message)
                .with_hint(format!("`pagevault unpin {}` first", snapshot.id.short())));
        }
        chosen.insert(snapshot.id);
    }
    let stays = |snapshot: &&Snapshot| !chosen.contains(&snapshot.id);
    let emptied = |(_, own): &(&DatabaseId, &Vec<&Snapshot>)| {
        let (images, exports): (Vec<&Snapshot>, Vec<&Snapshot>) = own.iter().partition(|own| own.is_image());
        // Exports are no snapshots to go back to: they do not make up for the last of those.
        let counted = if images.is_empty() { exports } else { images };
        !counted.iter().any(stays)
    };
    let mut databases: BTreeMap<DatabaseId, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in &catalog.snapshots {
        databases.entry(snapshot.manifest.database).or_default().push(snapshot);
    }
    if let Some((_, own)) = databases.iter().find(emptied).filter(|_| !allow_empty) {
        let name = own.last().map_or("", |newest| newest.manifest.name.as_str());
        let left = if own.iter().any(stays) { "nothing but exports" } else { "no snapshot" };
        let message = format!("that would leave {left} of {name}");
        return Err(Error::new(ErrorKind::Refused, message)
            .with_hint("keep one, or say --allow-empty if all of them are to go"));
    }
    let goes = |snapshot: &&Snapshot| chosen.contains(&snapshot.id);
    Ok((
        catalog.snapshots.iter().filter(goes).map(|snapshot| decision(snapshot, Vec::new())).collect(),
        Vec::new(),
    ))
}

fn decision(snapshot: &Snapshot, because: Vec<String>) -> Decision {
    Decision {
        snapshot_id: snapshot.id,
        database: snapshot.manifest.name.clone(),
        kind: snapshot.manifest.kind,
        created_at: snapshot.created_at(),
        size: snapshot.manifest.content.len(),
        because,
    }
}

impl ForgetPlan {
    /// Whether nothing goes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.forget.is_empty()
    }

    /// As a report of what would be done.
    #[must_use]
    pub fn into_report(self, dry_run: bool) -> ForgetReport {
        ForgetReport { dry_run, forgotten: self.forget, kept: self.keep }
    }

    /// Does it. What was pinned since the plan was made stays.
    ///
    /// # Errors
    /// The log cannot be read or written; then nothing was forgotten.
    pub fn execute(
        mut self,
        vault: &Vault,
        clock: &dyn Clock,
        monitor: &dyn Monitor,
    ) -> Result<ForgetReport> {
        if !self.forget.is_empty() {
            let (history, _) = list::read(vault, monitor)?;
            let (pinned, forget): (Vec<_>, _) =
                self.forget.into_iter().partition(|decision| history.pinned.contains(&decision.snapshot_id));
            self.forget = forget;
            self.keep.extend(
                pinned
                    .into_iter()
                    .map(|decision| Decision { because: vec!["pinned".to_owned()], ..decision }),
            );
            let ids: Vec<SnapshotId> = self.forget.iter().map(|decision| decision.snapshot_id).collect();
            if !ids.is_empty() {
                let entry = LogEntry::Forgotten(ids, self.reason.take());
                vault.append_log(&history, clock.now(), vec![entry])?;
            }
        }
        Ok(self.into_report(false))
    }
}

/// Snapshots whose state was changed, in the words of docs/cli.md.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Changed {
    /// Those that were not in this state before.
    pub changed: Vec<SnapshotId>,
    /// Those that were in it already.
    pub unchanged: Vec<SnapshotId>,
}

/// Keeps snapshots for ever, or ends that.
///
/// # Errors
/// There is no such snapshot, or the log cannot be written.
pub fn pin(
    vault: &Vault,
    specs: &[SnapshotSpec],
    pinned: bool,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<Changed> {
    let (history, catalog) = list::read(vault, monitor)?;
    let mut ids = BTreeSet::new();
    for spec in specs {
        ids.insert(choose(&catalog, spec, clock.now())?.id);
    }
    let (unchanged, changed): (Vec<_>, Vec<_>) =
        ids.into_iter().partition(|id| history.pinned.contains(id) == pinned);
    if !changed.is_empty() {
        let list = changed.clone();
        let entry = if pinned { LogEntry::Pinned(list) } else { LogEntry::Unpinned(list) };
        vault.append_log(&history, clock.now(), vec![entry])?;
    }
    Ok(Changed { changed, unchanged })
}

/// Brings forgotten snapshots back.
///
/// # Errors
/// There is no such forgotten snapshot, or a prune has taken or condemned what it needs. Then it stays forgotten.
pub fn undelete(
    vault: &Vault,
    specs: &[SnapshotSpec],
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<Changed> {
    let (history, catalog) = list::read(vault, monitor)?;
    let forgotten = Catalog { snapshots: catalog.forgotten.clone(), ..Catalog::default() };
    let (mut wanted, mut unchanged) = (Vec::<Snapshot>::new(), Vec::new());
    let mut seen = HashSet::new();
    for spec in specs {
        let snapshot = match choose_forgotten(&forgotten, spec, clock.now()) {
            Ok(snapshot) => snapshot,
            Err(error) => match choose(&catalog, spec, clock.now()) {
                Ok(present) if matches!(spec, SnapshotSpec::Prefix(_)) => {
                    unchanged.push(present.id);
                    continue;
                }
                _ => return Err(error),
            },
        };
        if seen.insert(snapshot.id) {
            wanted.push(snapshot.clone());
        }
    }
    if wanted.is_empty() {
        return Ok(Changed { changed: Vec::new(), unchanged });
    }
    refuse_incomplete(vault, &history, &wanted, monitor)?;
    let ids: Vec<SnapshotId> = wanted.iter().map(|snapshot| snapshot.id).collect();
    vault.append_log(&history, clock.now(), vec![LogEntry::Undeleted(ids.clone())])?;
    // A prune may have condemned or taken what they need before it could see that they are back: looked at again now
    // that it can see it. The other order would leave a moment in which neither side sees the other.
    let after = vault.history()?;
    if after.prunings != history.prunings
        && let Err(error) = refuse_incomplete(vault, &after, &wanted, monitor)
    {
        let entry = LogEntry::Forgotten(ids, Some("a prune was faster than undelete".to_owned()));
        vault.append_log(&after, clock.now(), vec![entry])?;
        return Err(error);
    }
    Ok(Changed { changed: ids, unchanged })
}

fn choose_forgotten<'c>(forgotten: &'c Catalog, spec: &SnapshotSpec, now: Timestamp) -> Result<&'c Snapshot> {
    let hint = "`pagevault list --forgotten` shows what can be brought back";
    if forgotten.snapshots.is_empty() {
        let message = format!("no forgotten snapshot is left to bring back for {spec}");
        return Err(Error::new(ErrorKind::NotFound, message).with_hint(hint));
    }
    choose(forgotten, spec, now).map_err(|error| {
        if error.kind() == ErrorKind::NotFound {
            let message = format!("no forgotten snapshot for {spec}");
            Error::new(ErrorKind::NotFound, message).with_hint(hint)
        } else {
            error
        }
    })
}

fn refuse_incomplete(
    vault: &Vault,
    history: &History,
    wanted: &[Snapshot],
    monitor: &dyn Monitor,
) -> Result<()> {
    list::load_index(vault, monitor)?;
    vault.look_for_packs()?;
    for snapshot in wanted {
        if !vault.is_whole_without(snapshot, &history.condemned)? {
            let (id, name) = (snapshot.id.short(), &snapshot.manifest.name);
            let message =
                format!("snapshot {id} of {name} cannot be brought back: a prune has taken its data");
            return Err(Error::new(ErrorKind::NotFound, message).with_hint(
                "take a new snapshot; `pagevault prune --grace` says how long forgotten ones are kept",
            ));
        }
    }
    Ok(())
}
