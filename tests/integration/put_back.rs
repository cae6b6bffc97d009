//! History cannot be rewritten unnoticed: what was put back, removed or lost is told, and what was taken rightly is not.

use std::path::Path;

use pagevault::clock::SystemClock;
use pagevault::error::ErrorKind;
use pagevault::monitor::Silent;
use pagevault::operations::check::{CheckRequest, DataLevel, check};
use pagevault::operations::forget::undelete;
use pagevault::operations::list::{self, ListFilter};
use pagevault::operations::prune::{GRACE, PruneRequest, WAIT, prune};
use pagevault::operations::repair;
use pagevault::store::{LocalStore, ObjectPath};
use pagevault::vault::{LocalFolders, LockedVault, Vault};

use crate::prune::{NOW, Scene, later};
use crate::repair::request;
use crate::support::{Collected, create_vault, key, memory_vault, take};
use jiff::SignedDuration;

fn client(folder: &Path, name: &str) -> LocalFolders {
    LocalFolders { cache: None, state: Some(folder.join(name)) }
}

fn open_at(place: &Path, folders: &LocalFolders) -> Vault {
    let store = Box::new(LocalStore::open(place).unwrap());
    LockedVault::find(store).unwrap().unlock(&key(), folders).unwrap()
}

fn copy(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
}

fn problems(vault: &Vault) -> Vec<String> {
    let request = CheckRequest { data: DataLevel::None, test_restore: None };
    let report = check(vault, &request, &SystemClock, &Silent).unwrap();
    report.problems.into_iter().map(|problem| problem.message).collect()
}

/// Put back to an earlier state, also where another client wrote what is lost; every command says so, until the
/// memory is removed as the message says.
#[test]
fn a_vault_that_was_put_back_is_reported() {
    let mut scene = Scene::new();
    let root = scene.folder.path().to_path_buf();
    let (place, earlier) = (root.join("vault"), root.join("earlier"));
    drop(create_vault(Box::new(LocalStore::create(&place).unwrap())));
    let (me, somebody) = (client(&root, "me"), client(&root, "somebody"));
    scene.keep(&open_at(&place, &somebody));
    copy(&place, &earlier);
    scene.keep(&open_at(&place, &somebody));
    // Seen, not written.
    assert!(problems(&open_at(&place, &me)).is_empty());
    std::fs::rename(&place, root.join("aside")).unwrap();
    copy(&earlier, &place);
    let vault = open_at(&place, &me);
    let said = problems(&vault);
    assert!(said.iter().any(|message| message.contains("put back to an earlier state")), "{said:?}");
    let heard = Collected::default();
    list::list(&vault, &ListFilter::default(), &heard).unwrap();
    assert!(heard.warnings().iter().any(|message| message.contains("put back")), "{:?}", heard.warnings());
    let error = prune(&vault, &NOW, &later(WAIT), &Silent).unwrap_err();
    assert!(error.kind() == ErrorKind::Damage && error.to_string().contains("put back"), "{error}");
    let file = said[0].rsplit_once("remove ").unwrap().1.to_owned();
    std::fs::remove_file(file).unwrap();
    assert!(problems(&open_at(&place, &me)).is_empty());
}

/// A manifest that goes without a word in the log is missed.
#[test]
fn a_snapshot_removed_outside_of_forget_is_reported() {
    let (mut scene, (vault, store)) = (Scene::new(), memory_vault());
    let id = scene.keep(&vault);
    scene.keep(&vault);
    let object = vault.catalog(&vault.history().unwrap()).unwrap().snapshots[0].object;
    store.remove(&format!("snapshots/{object}").parse().unwrap());
    let heard = Collected::default();
    list::list(&vault, &ListFilter::default(), &heard).unwrap();
    assert!(heard.warnings().iter().any(|message| message.contains(&id[..8])), "{:?}", heard.warnings());
    assert!(!problems(&vault).is_empty());
}

/// Of a forgotten snapshot the manifest is missed as long as it could have been brought back: a repair finds it, or says
/// that it is lost. What a prune has taken is not missed.
#[test]
fn the_manifest_of_a_forgotten_snapshot_is_missed_until_a_prune_takes_it() {
    let (mut scene, (vault, store)) = (Scene::new(), memory_vault());
    let ids = [scene.keep(&vault), scene.keep(&vault)];
    let image = scene.kept[&ids[0]].clone();
    scene.forget(&vault, &ids[..1]);
    assert_eq!(problems(&vault), [""; 0]);
    let object = |id: &str| {
        let catalog = vault.catalog(&vault.history().unwrap()).unwrap();
        let mut all = catalog.snapshots.iter().chain(&catalog.forgotten);
        let object = all.find(|snapshot| snapshot.id.to_string() == *id).unwrap().object;
        format!("snapshots/{object}").parse::<ObjectPath>().unwrap()
    };
    store.remove(&object(&ids[0]));
    assert!(problems(&vault)[0].contains("could be brought back"), "{:?}", problems(&vault));
    // A prune whose grace it is in, does not go on without it.
    let careful = PruneRequest { grace: GRACE, ..NOW };
    let error = prune(&vault, &careful, &later(SignedDuration::ZERO), &Silent).unwrap_err();
    assert!(error.kind() == ErrorKind::Damage && error.to_string().contains(&ids[0][..8]), "{error}");
    let repaired = |action: &str| {
        let planned = repair::plan(&vault, &request(), &Silent).unwrap();
        assert!(planned.makes_whole() && planned.steps.len() == 1, "{planned:?}");
        assert_eq!(planned.steps[0].action, action, "{planned:?}");
        repair::execute(&vault, &request(), &planned, &SystemClock, &Silent).unwrap();
        assert_eq!(problems(&vault), [""; 0]);
    };
    repaired("recover");
    undelete(&vault, &[ids[0].parse().unwrap()], &SystemClock, &Silent).unwrap();
    scene.kept.insert(ids[0].clone(), image);
    scene.judge(&vault);
    // Its copy in a pack is lost as well, and everything that only it needs: that is said once.
    scene.forget(&vault, &ids[..1]);
    store.remove(&object(&ids[0]));
    let catalog = vault.catalog(&vault.history().unwrap()).unwrap();
    assert!(catalog.forgotten.is_empty() && catalog.vanished_forgotten.len() == 1);
    prune(&vault, &NOW, &later(WAIT), &Silent).unwrap();
    prune(&vault, &NOW, &later(WAIT * 3), &Silent).unwrap();
    assert_eq!(problems(&vault), [""; 0]);
    scene.judge(&vault);
}

/// That nothing is left of a forgotten snapshot is said once, and then it counts as taken.
#[test]
fn a_forgotten_snapshot_of_which_nothing_is_left_is_given_up() {
    let (mut scene, (vault, store)) = (Scene::new(), memory_vault());
    let id = scene.keep(&vault);
    scene.forget(&vault, std::slice::from_ref(&id));
    for path in store.paths() {
        if ["index/", "packs/", "snapshots/"].iter().any(|folder| path.as_str().starts_with(folder)) {
            store.remove(&path);
        }
    }
    assert!(problems(&vault)[0].contains("could be brought back"), "{:?}", problems(&vault));
    let planned = repair::plan(&vault, &request(), &Silent).unwrap();
    assert!(planned.makes_whole() && planned.steps[0].object.contains(&id[..8]), "{planned:?}");
    repair::execute(&vault, &request(), &planned, &SystemClock, &Silent).unwrap();
    assert_eq!(problems(&vault), [""; 0]);
    assert!(repair::plan(&vault, &request(), &Silent).unwrap().is_empty());
}

/// What was put back stays so, also when the next snapshot has been taken: every command goes on saying so, and none deletes
/// anything, until a repair has answered for the gap.
#[test]
fn a_gap_in_the_log_is_told_until_it_is_answered_for() {
    let mut scene = Scene::new();
    let root = scene.folder.path().to_path_buf();
    let (place, earlier) = (root.join("vault"), root.join("earlier"));
    drop(create_vault(Box::new(LocalStore::create(&place).unwrap())));
    let me = client(&root, "me");
    scene.keep(&open_at(&place, &me));
    copy(&place, &earlier);
    let lost = scene.keep(&open_at(&place, &me));
    std::fs::rename(&place, root.join("aside")).unwrap();
    copy(&earlier, &place);
    scene.kept.remove(&lost);
    scene.keep(&open_at(&place, &me));
    for _ in 0..2 {
        let heard = Collected::default();
        list::list(&open_at(&place, &me), &ListFilter::default(), &heard).unwrap();
        let said = heard.warnings();
        assert!(said.iter().any(|message| message.contains("log is not whole")), "{said:?}");
    }
    let error = prune(&open_at(&place, &me), &NOW, &later(WAIT), &Silent).unwrap_err();
    assert!(error.kind() == ErrorKind::Damage && error.to_string().contains("not whole"), "{error}");
    let vault = open_at(&place, &me);
    let planned = repair::plan(&vault, &request(), &Silent).unwrap();
    repair::execute(&vault, &request(), &planned, &SystemClock, &Silent).unwrap();
    assert_eq!(problems(&vault), [""; 0]);
    let heard = Collected::default();
    list::list(&vault, &ListFilter::default(), &heard).unwrap();
    assert_eq!(heard.warnings(), [""; 0]);
    prune(&vault, &NOW, &later(WAIT), &Silent).unwrap();
    scene.judge(&vault);
}

/// A copy of a vault that goes its own way, and one that lags, are no sign that the original was put back.
#[test]
fn copies_raise_no_alarm_in_the_original() {
    let mut scene = Scene::new();
    let root = scene.folder.path().to_path_buf();
    let (place, mirror) = (root.join("vault"), root.join("mirror"));
    drop(create_vault(Box::new(LocalStore::create(&place).unwrap())));
    let me = client(&root, "me");
    scene.keep(&open_at(&place, &me));
    copy(&place, &mirror);
    // The copy is written to: that is a chain of its own.
    take(&open_at(&mirror, &me), &scene.database).unwrap();
    let heard = Collected::default();
    let original = open_at(&place, &me);
    list::list(&original, &ListFilter::default(), &heard).unwrap();
    assert_eq!(heard.warnings(), [""; 0]);
    assert!(problems(&original).is_empty());
    // The original goes on: the mirror lags, which a check of it mentions and does not call damage.
    scene.keep(&original);
    let lagging = open_at(&mirror, &me);
    assert!(problems(&lagging).is_empty());
    let request = CheckRequest { data: DataLevel::None, test_restore: None };
    let report = check(&lagging, &request, &SystemClock, &Silent).unwrap();
    assert!(report.warnings.iter().any(|warning| warning.contains("behind")), "{report:?}");
    // Both chains in one place again, as after a sync: no fork.
    copy(&mirror.join("log"), &root.join("logs"));
    for entry in std::fs::read_dir(root.join("logs")).unwrap().flatten() {
        let target = place.join("log").join(entry.file_name());
        if !target.exists() {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
    let history = open_at(&place, &me).history().unwrap();
    assert!(history.breaks.is_empty() && history.alarms.is_empty(), "{history:?}");
}
