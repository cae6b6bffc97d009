//! The oracle: whatever was done to a vault, every command gives the truth or an error that names an object.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use pagevault::clock::SystemClock;
use pagevault::error::{Error, ErrorKind};
use pagevault::monitor::{Monitor, Silent};
use pagevault::operations::check::{CheckReport, CheckRequest, DataLevel, check};
use pagevault::operations::list::{ListFilter, list};
use pagevault::operations::restore::{RestoreRequest, restore};
use pagevault::sqlite::CheckLevel;
use pagevault::store::MemoryStore;
use pagevault::vault::Vault;

use super::damage::Case;
use super::fixture::{Fixture, Kept};
use crate::support::{open_vault, take};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The whole truth, and nothing was said about damage.
    Fine,
    /// The whole truth as far as it can be had, and what is wrong was said.
    Warned,
    /// An error of kind damage or not found that names an object.
    Damage,
    /// An error that says that a newer version is needed.
    Refused,
    /// The vault cannot be unlocked.
    Locked,
}

/// What the commands made of a damaged vault.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) open: Outcome,
    pub(crate) list: Outcome,
    /// The worst of the snapshots that need the object.
    pub(crate) dependent: Outcome,
    /// The worst of those that do not.
    pub(crate) independent: Outcome,
    pub(crate) check: Outcome,
    pub(crate) check_data: Outcome,
    /// A snapshot now, and its restore from the vault opened anew.
    pub(crate) snapshot: Outcome,
}

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Monitor for Warnings {
    fn begin(&self, _: &str, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
    fn warn(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

/// An acceptable error, or the end of the test.
fn class(what: &str, error: &Error) -> Outcome {
    let text = error.to_string();
    let names_an_object =
        ["vault.pv", "keys/", "packs/", "index/", "snapshots/", "log/", "chunk ", "snapshot"]
            .iter()
            .any(|place| text.contains(place));
    match error.kind() {
        ErrorKind::Unlock => Outcome::Locked,
        ErrorKind::NotFound if text.ends_with("is not a vault") => Outcome::Damage,
        ErrorKind::Damage | ErrorKind::NotFound
            if names_an_object || text == "the vault has no snapshots" =>
        {
            Outcome::Damage
        }
        ErrorKind::Refused if names_an_object && text.contains("newer version") => Outcome::Refused,
        kind => panic!("{what}: an unexpected error of kind {kind:?}: {text}"),
    }
}

impl Fixture {
    /// Runs every command on the damaged vault; panics where one of them lies.
    pub(crate) fn judge(&self, case: &Case) -> Verdict {
        let what = &case.what;
        let vault = match open_vault(Box::new(case.store.fork())) {
            Ok(vault) => vault,
            Err(error) => {
                let outcome = class(what, &error);
                return Verdict {
                    open: outcome,
                    list: outcome,
                    dependent: outcome,
                    independent: outcome,
                    check: outcome,
                    check_data: outcome,
                    snapshot: outcome,
                };
            }
        };
        let open = if vault.warnings().is_empty() { Outcome::Fine } else { Outcome::Warned };
        let mut lost = BTreeSet::new();
        let (mut dependent, mut independent) = (Outcome::Fine, Outcome::Fine);
        for kept in &self.snapshots {
            let outcome = self.restore(what, &vault, kept);
            if outcome != Outcome::Fine {
                lost.insert(kept.id.clone());
            }
            let needs = case.harmed.iter().any(|path| kept.needs.contains(path));
            let worst = if needs { &mut dependent } else { &mut independent };
            *worst = outcome.max(*worst);
        }
        let check = self.check(case, &vault, DataLevel::None, &lost);
        let check_data = self.check(case, &vault, DataLevel::All, &lost);
        let list = self.list(case, &vault);
        let snapshot = self.snapshot_again(case);
        Verdict { open, list, dependent, independent, check, check_data, snapshot }
    }

    fn restore(&self, what: &str, vault: &Vault, kept: &Kept) -> Outcome {
        match restored(vault, &kept.id, self.folder.path()) {
            Ok(bytes) => {
                assert!(bytes == kept.image, "{what}: snapshot {} gave other bytes", kept.id);
                Outcome::Fine
            }
            Err(error) => class(&format!("{what}: restore"), &error),
        }
    }

    fn list(&self, case: &Case, vault: &Vault) -> Outcome {
        let what = &case.what;
        let warnings = Warnings::default();
        let listed = list(vault, &ListFilter::default(), &warnings).unwrap();
        let listed: BTreeSet<String> = listed.iter().map(|info| info.snapshot_id.to_string()).collect();
        for kept in &self.snapshots {
            if !case.harmed.contains(&kept.published_in) {
                assert!(listed.contains(&kept.id), "{what}: snapshot {} is not listed", kept.id);
            }
        }
        let known = listed.iter().all(|id| self.snapshots.iter().any(|kept| kept.id == *id));
        assert!(known, "{what}: a snapshot that never was is listed");
        if warnings.0.lock().unwrap().is_empty() { Outcome::Fine } else { Outcome::Warned }
    }

    /// With data, a check must find whatever restoring found, and name the snapshots.
    fn check(&self, case: &Case, vault: &Vault, data: DataLevel, lost: &BTreeSet<String>) -> Outcome {
        let what = &case.what;
        let request = CheckRequest { data, test_restore: None };
        let report = check(vault, &request, &SystemClock, &Silent).unwrap();
        if data == DataLevel::All {
            let named = named(&report);
            assert!(lost.is_subset(&named), "{what}: {lost:?} are lost, check names {named:?}: {report:?}");
            let false_alarm = named.difference(lost).next();
            assert!(false_alarm.is_none(), "{what}: {false_alarm:?} is said to be lost: {report:?}");
        }
        if report.problems.is_empty() && report.warnings.is_empty() { Outcome::Fine } else { Outcome::Warned }
    }

    /// A snapshot on top of the damage; where it reports success, it must be there.
    fn snapshot_again(&self, case: &Case) -> Outcome {
        let what = format!("{}: snapshot again", case.what);
        let store = Arc::new(case.store.fork());
        let vault = open_vault(Box::new(Arc::clone(&store))).unwrap();
        let report = match take(&vault, &self.database) {
            Ok(report) => report,
            Err(error) => return class(&what, &error),
        };
        let vault = open_vault(Box::new(store)).unwrap();
        match restored(&vault, &report.snapshot_id.to_string(), self.folder.path()) {
            Ok(bytes) => {
                assert!(bytes == std::fs::read(&self.database).unwrap(), "{what}: other bytes");
                Outcome::Fine
            }
            Err(error) => class(&what, &error),
        }
    }
}

/// Snapshots that a report calls harmed.
pub(crate) fn named(report: &CheckReport) -> BTreeSet<String> {
    report.problems.iter().flat_map(|problem| &problem.snapshots).map(ToString::to_string).collect()
}

pub(crate) fn restored(vault: &Vault, id: &str, folder: &Path) -> Result<Vec<u8>, Error> {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let target = folder.join(format!("restored-{number}"));
    let request = RestoreRequest {
        snapshot: id.parse().unwrap(),
        target: target.clone(),
        overwrite: false,
        check: CheckLevel::None,
        safety: None,
    };
    restore(vault, &request, &SystemClock, &Silent)?;
    let bytes = std::fs::read(&target).unwrap();
    std::fs::remove_file(target).unwrap();
    Ok(bytes)
}

/// For tests that look for damage in a vault that has none.
pub(crate) fn assert_whole(what: &str, store: &MemoryStore) {
    let vault = open_vault(Box::new(store.fork())).unwrap();
    let request = CheckRequest { data: DataLevel::All, test_restore: None };
    let report = check(&vault, &request, &SystemClock, &Silent).unwrap();
    assert!(report.problems.is_empty(), "{what}: {report:?}");
}
