//! `check`: what can be trusted. Three depths: names against bytes, which needs no key; structure and references; and
//! data, read, opened and decoded. A test restore adds SQLite's own opinion of a stored image.

mod controls;
mod packs;
pub(super) mod promises;
mod proof;
mod references;

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::time::Duration;

pub use self::proof::{TestedSnapshot, note_tests, test_restore};

use self::controls::{check_controls, check_history};
use self::packs::check_packs;
use self::proof::test_restore_into;
use self::references::check_references;
use super::landmarks::{ATTEMPTS, landmarks};
use super::list::{SnapshotSpec, choose};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::format::vault_config::VaultConfig;
use crate::format::{keyslot::KeySlot, limits};
use crate::ids::{ObjectName, SnapshotId};
use crate::monitor::Monitor;
use crate::store::{DirectReads, ObjectMeta, ObjectPath, Store, StoreError};
use crate::vault::layout::{self, Place};
use crate::vault::{Snapshot, Vault, VaultError};

/// How much of the packs is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DataLevel {
    /// None: presence and sizes only.
    None,
    /// About this share of the packs, chosen at random, in percent.
    Subset(f64),
    /// All.
    All,
    /// What this machine has not read yet, or read longest ago: as many bytes as the budget allows, and only packs that
    /// were last found whole longer ago than the age.
    Due {
        /// Bytes to be read at most; one pack is read in any case.
        budget: Option<u64>,
        /// How old a reading may be.
        max_age: Option<Duration>,
    },
}

/// What is to be checked.
#[derive(Debug, Clone)]
pub struct CheckRequest {
    /// How much data is read.
    pub data: DataLevel,
    /// Test-restore all snapshots (`Some(None)`) or one.
    pub test_restore: Option<Option<SnapshotSpec>>,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The object.
    pub object: String,
    /// `damaged`, `missing`, `unreadable`, `newer`, `unlogged` or `history`.
    pub kind: &'static str,
    /// What does not hold.
    pub message: String,
    /// Snapshots that are harmed.
    pub snapshots: Vec<SnapshotId>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.object, self.message)
    }
}

/// The outcome of a check, in the words of docs/cli.md.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct CheckReport {
    /// Objects looked at.
    pub objects: u64,
    /// Chunks looked at.
    pub chunks: u64,
    /// Bytes read from the store.
    pub bytes_read: u64,
    /// Packs that were read.
    pub packs_read: u64,
    /// Packs that are due to be read and were left for the next check.
    pub packs_left: u64,
    /// Snapshots that were test-restored.
    pub test_restored: Vec<SnapshotId>,
    /// What does not hold.
    pub problems: Vec<Problem>,
    /// What a check could not answer, such as an index that needs the application's own function.
    pub warnings: Vec<String>,
}

impl CheckReport {
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over what they have just made")]
    fn problem(&mut self, object: impl ToString, kind: &'static str, message: impl ToString) {
        let problem =
            Problem { object: object.to_string(), kind, message: message.to_string(), snapshots: Vec::new() };
        self.problems.push(problem);
    }

    fn vault_problem(&mut self, object: &dyn std::fmt::Display, error: &VaultError) {
        let object = object.to_string();
        let message = error.said_of(&object);
        self.problem(object, kind_of(error), message);
    }
}

fn kind_of(error: &VaultError) -> &'static str {
    match error {
        VaultError::Newer { .. } => "newer",
        VaultError::MissingChunk(_) => "missing",
        VaultError::Store(error) if error.is_not_found() => "missing",
        // Nothing is said about its bytes.
        VaultError::Store(
            StoreError::PermissionDenied { .. } | StoreError::ReadOnly { .. } | StoreError::Other { .. },
        ) => "unreadable",
        _ => "damaged",
    }
}

/// Compares the name of every object with its bytes, and the checksums of the objects with fixed names. Needs no key.
///
/// # Errors
/// The store cannot be listed, or holds no vault.
pub fn check_names(store: &dyn Store, monitor: &dyn Monitor) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    let _in_use = store.in_use(layout::KEYS);
    let _direct = DirectReads::of(store);
    let objects = listing(store)?;
    if !objects.iter().any(|meta| Place::of(&meta.path) == Place::Config) {
        return Err(VaultError::NotAVault { place: store.describe() }.into());
    }
    monitor.begin("check", "names", objects.iter().map(|meta| meta.size).sum());
    for meta in &objects {
        if monitor.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        check_bytes(store, meta, &mut report);
        monitor.advance(meta.size);
    }
    monitor.finish();
    check_copies(store, &objects, &mut report);
    Ok(report)
}

pub(super) fn listing(store: &dyn Store) -> Result<Vec<ObjectMeta>> {
    let mut objects = Vec::new();
    store.list("", &mut |meta| {
        objects.push(meta);
        ControlFlow::Continue(())
    })?;
    objects.sort_by(|one, other| one.path.as_str().cmp(other.path.as_str()));
    Ok(objects)
}

fn check_bytes(store: &dyn Store, meta: &ObjectMeta, report: &mut CheckReport) {
    let place = Place::of(&meta.path);
    if place == Place::Other {
        return;
    }
    report.objects += 1;
    let bytes = match store.get(&meta.path, limits::OBJECT) {
        Ok(bytes) => bytes,
        Err(error) => {
            report.vault_problem(&meta.path, &error.into());
            return;
        }
    };
    report.bytes_read += bytes.len() as u64;
    match place {
        Place::Config => report.format_problem(&meta.path, VaultConfig::decode(&bytes, None).err()),
        Place::Slot(id) => match KeySlot::decode(&bytes) {
            Ok(slot) if slot.id == id => {}
            Ok(_) => report.problem(&meta.path, "damaged", "it holds another slot"),
            Err(error) => report.format_problem(&meta.path, Some(error)),
        },
        place => {
            if place.name() != Some(ObjectName::of(&bytes)) {
                report.problem(&meta.path, "damaged", "its bytes do not hash to its name");
            }
        }
    }
}

fn check_copies(store: &dyn Store, objects: &[ObjectMeta], report: &mut CheckReport) {
    let paths: BTreeSet<&str> = objects.iter().map(|meta| meta.path.as_str()).collect();
    // Visitors in the vault's folders have no copies and are none.
    let controls =
        objects.iter().filter(|meta| matches!(Place::of(&meta.path), Place::Config | Place::Slot(_)));
    let alone: Vec<(&ObjectPath, String)> = controls
        .map(|meta| {
            let path = meta.path.as_str();
            let other = path.strip_suffix(".copy").map_or_else(|| format!("{path}.copy"), str::to_owned);
            (&meta.path, other)
        })
        .filter(|(_, other)| !paths.contains(other.as_str()))
        .collect();
    if !alone.is_empty() {
        // The two come and go one after the other.
        std::thread::sleep(SECOND_COPY);
    }
    let is_gone = |path: &ObjectPath| store.size(path).is_err_and(|error| error.is_not_found());
    for (path, other) in alone {
        if !is_gone(path) && ObjectPath::new(&other).is_ok_and(|other| is_gone(&other)) {
            report.problem(other, "missing", "the second copy is there, this one is not");
        }
    }
}

/// Time for somebody to write, or remove, the second copy of a control object.
const SECOND_COPY: Duration = Duration::from_millis(100);

/// Checks a vault with its key.
///
/// # Errors
/// The store cannot be listed, or a snapshot to test-restore does not exist. Damage is not an error but a report. What test
/// restores find is said in the log; where that cannot be written, that is a warning of the report.
pub fn check(
    vault: &Vault,
    request: &CheckRequest,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<CheckReport> {
    let _direct = DirectReads::of(vault.store());
    let mut whole = HashSet::new();
    let mut earlier = CheckReport::default();
    for attempt in 1.. {
        let before = landmarks(vault)?;
        let mut report = CheckReport {
            bytes_read: earlier.bytes_read,
            packs_read: earlier.packs_read,
            ..CheckReport::default()
        };
        let mut tests = Vec::new();
        check_once(vault, request, &mut whole, (clock, monitor), &mut tests, &mut report)?;
        // Where others have changed something meanwhile, what seems to be missing may have been taken away rightly.
        if report.problems.is_empty() || attempt == ATTEMPTS || landmarks(vault)? == before {
            if let Err(error) = note_tests(vault, &tests, clock) {
                let message =
                    format!("what the test restores found could not be written down in the vault: {error}");
                report.warnings.push(message);
            }
            return Ok(report);
        }
        earlier = report;
    }
    Ok(earlier)
}

fn check_once(
    vault: &Vault,
    request: &CheckRequest,
    whole: &mut HashSet<ObjectName>,
    (clock, monitor): (&dyn Clock, &dyn Monitor),
    tests: &mut Vec<TestedSnapshot>,
    report: &mut CheckReport,
) -> Result<()> {
    // In this order whatever another client publishes meanwhile is whole: what a manifest needs was named by an index
    // before it was there, and what an index names was there before the index. The cache has no say.
    let history = vault.history()?;
    let snapshots = vault.catalog(&history)?;
    let skipped = vault.load_index_anew()?;
    let objects = listing(vault.store())?;
    for meta in &objects {
        match Place::of(&meta.path) {
            // Read as a whole just now; what is wrong with them is in `skipped`.
            Place::Index(_) | Place::Snapshots(_) | Place::Log(_) => {
                report.objects += 1;
                report.bytes_read += meta.size;
            }
            Place::Pack(_) => report.objects += 1,
            Place::Config | Place::Slot(_) | Place::Other => {}
        }
    }
    check_controls(vault, &objects, &history, report);
    check_copies(vault.store(), &objects, report);
    for skipped in &skipped {
        report.vault_problem(&format!("{}/{}", layout::INDEX, skipped.name), &skipped.error);
    }
    for (name, error) in &history.skipped {
        report.vault_problem(&format!("{}/{name}", layout::LOG), error);
    }
    for (name, error) in &snapshots.skipped {
        report.vault_problem(&format!("{}/{name}", layout::SNAPSHOTS), error);
    }
    check_history(&history, &snapshots, report);
    let now_us = clock.now().as_microsecond();
    let mut bad = check_packs(vault, &objects, request.data, now_us, whole, monitor, report)?;
    check_references(vault, &snapshots, &mut bad, monitor, report)?;
    if let Some(wanted) = &request.test_restore {
        let chosen: Vec<&Snapshot> = match wanted {
            Some(spec) => vec![choose(&snapshots, spec, clock.now())?],
            None => snapshots.snapshots.iter().collect(),
        };
        for snapshot in chosen {
            test_restore_into(vault, snapshot, monitor, tests, report)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
