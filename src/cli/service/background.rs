//! Long work beside the snapshots: checks, test restores, prunes and copies, one at a time, on a thread with a vault of its
//! own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, bounded};
use jiff::Timestamp;
use pagevault::clock::{Clock, SystemClock};
use pagevault::crypto::unlock::Unlocker;
use pagevault::ids::SnapshotId;
use pagevault::monitor::Monitor;
use pagevault::operations::check::{CheckRequest, DataLevel, check, note_tests, test_restore};
use pagevault::operations::moved::Holdings;
use pagevault::operations::prune::{PruneReport, PruneRequest, prune};
use pagevault::operations::snapshot::Host;
use pagevault::operations::sync::{SyncRequest, sync};
use pagevault::sqlite::CheckLevel;
use pagevault::store::{Store, ThrottledStore};
use pagevault::vault::{LocalFolders, LockedVault, Vault};
use pagevault::{Error, ErrorKind, Result};

use super::super::config::SyncPlan;
use super::super::places::{Opener, shown};
use super::super::text::size;

/// What can be done in the background.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// Verify structure, and this share of the data in percent.
    Check(f64),
    /// Restore the newest snapshot of each of these, writing nothing.
    TestRestore(Vec<PathBuf>),
    /// Free the space of what was forgotten.
    Prune(PruneRequest),
    /// Bring a copy of the vault up to date.
    Sync(SyncPlan),
}

impl Work {
    /// The job's name in the journal.
    pub(super) fn job(&self) -> String {
        match self {
            Self::Check(_) => "check".to_owned(),
            Self::TestRestore(_) => "test-restore".to_owned(),
            Self::Prune(_) => "prune".to_owned(),
            Self::Sync(plan) => sync_job(plan),
        }
    }
}

/// The name in the journal of a copy's job.
pub(super) fn sync_job(plan: &SyncPlan) -> String {
    format!("sync {}", shown(&plan.destination))
}

/// The test of one database's newest snapshot.
#[derive(Debug)]
pub(super) struct Tested {
    pub(super) path: PathBuf,
    pub(super) snapshot: SnapshotId,
    pub(super) at: Timestamp,
    pub(super) error: Option<String>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) job: String,
    pub(super) began: Timestamp,
    /// In words, for the log.
    pub(super) outcome: Result<String, String>,
    pub(super) tested: Vec<Tested>,
    pub(super) warnings: Vec<String>,
}

/// What the thread needs of the world.
pub(super) struct Means {
    pub(super) store: Box<dyn Store>,
    pub(super) places: Opener,
    pub(super) unlocker: Arc<Unlocker>,
    pub(super) folders: LocalFolders,
    pub(super) host: Host,
    pub(super) stop: Arc<AtomicBool>,
}

/// Work that is being done.
#[derive(Debug)]
pub(super) struct Background {
    finished: Receiver<Finished>,
    job: String,
    began: Timestamp,
}

impl Background {
    /// Begins.
    pub(super) fn start(work: Work, means: Means) -> Self {
        let (report, finished) = bounded(1);
        let (job, began) = (work.job(), SystemClock.now());
        let name = job.clone();
        std::thread::spawn(move || {
            let monitor = Quiet::new(Arc::clone(&means.stop));
            let mut tested = Vec::new();
            let outcome = do_it(&work, means, &monitor, &mut tested).map_err(|error| error.to_string());
            let warnings = monitor.into_warnings();
            let _ = report.send(Finished { job: name, began, outcome, tested, warnings });
        });
        Self { finished, job, began }
    }

    /// What came of it, once it is over.
    pub(super) fn poll(&self) -> Option<Finished> {
        match self.finished.try_recv() {
            Ok(finished) => Some(finished),
            Err(crossbeam_channel::TryRecvError::Empty) => None,
            Err(crossbeam_channel::TryRecvError::Disconnected) => Some(Finished {
                job: self.job.clone(),
                began: self.began,
                outcome: Err("it ended without an answer; this is a defect".to_owned()),
                tested: Vec::new(),
                warnings: Vec::new(),
            }),
        }
    }
}

/// Nobody looks at a bar; what is warned of is told when the work is over.
pub(super) struct Quiet {
    stop: Arc<AtomicBool>,
    warnings: Mutex<Vec<String>>,
}

impl Quiet {
    pub(super) const fn new(stop: Arc<AtomicBool>) -> Self {
        Self { stop, warnings: Mutex::new(Vec::new()) }
    }

    pub(super) fn into_warnings(self) -> Vec<String> {
        self.warnings.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Monitor for Quiet {
    fn begin(&self, _: &str, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
    fn warn(&self, message: &str) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(message.to_owned());
    }
    fn interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn do_it(work: &Work, means: Means, monitor: &Quiet, tested: &mut Vec<Tested>) -> Result<String> {
    let Means { store, places, unlocker, folders, host, .. } = means;
    if let Work::Sync(plan) = work {
        return copy(&*store, plan, &places, monitor);
    }
    let vault = LockedVault::find(store)?.unlock(&unlocker, &folders)?;
    match work {
        Work::Check(percent) => verify(&vault, *percent, monitor),
        Work::TestRestore(paths) => {
            let outcome = restore_all(&vault, paths, &host, monitor, tested);
            let tests: Vec<_> = tested.iter().map(|test| (test.snapshot, test.error.is_none())).collect();
            note_tests(&vault, &tests, &SystemClock)?;
            outcome
        }
        Work::Prune(request) => free(&vault, request, monitor),
        Work::Sync(plan) => copy(vault.store(), plan, &places, monitor),
    }
}

fn free(vault: &Vault, request: &PruneRequest, monitor: &Quiet) -> Result<String> {
    let report = prune(vault, request, &SystemClock, monitor)?;
    let PruneReport { deleted, condemned, removed_snapshots, .. } = report;
    let waits = match condemned.packs {
        0 => String::new(),
        packs => format!("; {packs} packs ({}) wait until nobody else uses the vault", size(condemned.bytes)),
    };
    Ok(format!(
        "{removed_snapshots} forgotten snapshots and {} packs ({}) are gone{waits}",
        deleted.packs,
        size(deleted.bytes)
    ))
}

/// Needs no key.
fn copy(store: &dyn Store, plan: &SyncPlan, places: &Opener, monitor: &Quiet) -> Result<String> {
    let destination = places.make(&plan.destination)?;
    let request = SyncRequest { delete: plan.delete, ..SyncRequest::default() };
    let report = match plan.limit_rate.filter(|rate| *rate > 0) {
        Some(rate) => sync(store, &ThrottledStore::new(destination, rate), &request, monitor)?,
        None => sync(store, &destination, &request, monitor)?,
    };
    match report.problems.first() {
        None => {
            Ok(format!("{} objects copied, {} were there", report.copied.objects, report.present.objects))
        }
        Some(first) => Err(Error::new(ErrorKind::Damage, first.to_string())),
    }
}

fn verify(vault: &Vault, percent: f64, monitor: &Quiet) -> Result<String> {
    let request = CheckRequest { data: DataLevel::Subset(percent), test_restore: None };
    let report = check(vault, &request, &SystemClock, monitor)?;
    for warning in &report.warnings {
        monitor.warn(warning);
    }
    match report.problems.as_slice() {
        [] => Ok(format!("{} objects, no problems", report.objects)),
        [first, rest @ ..] => {
            let others = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
            let message = format!("{first}{others}");
            Err(Error::new(ErrorKind::Damage, message).with_hint("`pagevault check` lists all"))
        }
    }
}

fn restore_all(
    vault: &Vault,
    paths: &[PathBuf],
    host: &Host,
    monitor: &Quiet,
    tested: &mut Vec<Tested>,
) -> Result<String> {
    vault.load_index()?;
    let holdings = Holdings::read(vault, host, monitor)?;
    let catalog = vault.catalog(&vault.history()?)?;
    for path in paths {
        let Some(newest) = holdings.newest(path) else { continue };
        let Some(snapshot) = catalog.snapshots.iter().find(|snapshot| snapshot.id == newest.snapshot) else {
            continue;
        };
        let problems = test_restore(vault, snapshot, CheckLevel::Full, monitor)?;
        tested.push(Tested {
            path: path.clone(),
            snapshot: snapshot.id,
            at: SystemClock.now(),
            error: problems.first().map(ToString::to_string),
        });
    }
    let failed = tested.iter().filter(|test| test.error.is_some()).count();
    match failed {
        0 => Ok(format!("{} snapshots restored as a test", tested.len())),
        _ => Err(Error::new(ErrorKind::Damage, format!("{failed} of {} test restores failed", tested.len()))),
    }
}
