//! What is particular to files: permissions, links, leftovers, other processes, full disks.

use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;

fn empty_store() -> (TempDir, LocalStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::create(folder.path().join("vault")).unwrap();
    (folder, store)
}

fn path(text: &str) -> ObjectPath {
    ObjectPath::new(text).unwrap()
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn listed(store: &LocalStore) -> Vec<String> {
    let mut paths = Vec::new();
    store
        .list("", &mut |object| {
            paths.push(object.path.to_string());
            ControlFlow::Continue(())
        })
        .unwrap();
    paths.sort();
    paths
}

#[test]
fn conforms() {
    let (_folder, store) = empty_store();
    super::super::conformance::run(&store);
    let leftovers = Command::new("find").arg(store.root()).args(["-name", ".tmp-*"]).output().unwrap();
    assert!(leftovers.status.success() && leftovers.stdout.is_empty());
}

#[test]
fn create_makes_folders_for_the_owner_only_and_open_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a/b/vault");
    assert!(LocalStore::open(&root).unwrap_err().is_not_found());
    let store = LocalStore::create(&root).unwrap();
    assert!(store.is_empty().unwrap());
    LocalStore::create(&root).unwrap().put_if_absent(&path("packs/0a/x"), b"x").unwrap();
    assert!(!store.is_empty().unwrap());
    let mode = |below: &str| std::fs::metadata(folder.path().join(below)).unwrap().mode() & 0o7777;
    for made in ["a", "a/b", "a/b/vault", "a/b/vault/packs", "a/b/vault/packs/0a"] {
        assert_eq!(mode(made), 0o700, "{made}");
    }
    assert_eq!(mode("a/b/vault/packs/0a/x"), 0o600);
}

#[test]
fn what_no_store_wrote_is_no_object() {
    let (_folder, store) = empty_store();
    store.put_if_absent(&path("packs/good"), b"x").unwrap();
    std::fs::create_dir_all(store.root().join("a/b/c/d/e")).unwrap();
    for foreign in ["packs/.tmp-1", "packs/with space", "pack\u{e4}", "a/b/c/d/deep", "a/b/c/d/e/deeper"] {
        std::fs::write(store.root().join(foreign), "x").unwrap();
    }
    std::fs::create_dir(store.root().join("with space")).unwrap();
    std::fs::write(store.root().join("with space/x"), "x").unwrap();
    assert_eq!(listed(&store), ["packs/good"]);
}

#[test]
fn symbolic_links_are_not_followed() {
    let (folder, store) = empty_store();
    std::fs::create_dir(folder.path().join("elsewhere")).unwrap();
    std::fs::write(folder.path().join("elsewhere/secret"), "secret").unwrap();
    symlink(folder.path().join("elsewhere/secret"), store.root().join("link")).unwrap();
    symlink(folder.path().join("elsewhere"), store.root().join("packs")).unwrap();
    for target in ["link", "packs/secret"] {
        let object = path(target);
        assert!(matches!(store.get(&object, 100), Err(StoreError::Other { .. })), "{target}");
        assert!(matches!(store.get_range(&object, 0, 1), Err(StoreError::Other { .. })), "{target}");
        assert!(matches!(store.size(&object), Err(StoreError::Other { .. })), "{target}");
    }
    assert!(store.put_if_absent(&path("packs/new"), b"x").is_err());
    assert!(store.delete(&path("packs/secret")).is_err());
    assert!(store.list("packs", &mut |_| ControlFlow::Continue(())).is_err());
    assert_eq!(names_in(&folder.path().join("elsewhere")), ["secret"]);
    assert!(listed(&store).is_empty());
    // A delete takes the link itself.
    store.delete(&path("link")).unwrap();
    assert!(folder.path().join("elsewhere/secret").exists() && !store.root().join("link").is_symlink());
}

#[test]
fn what_is_not_a_regular_file_is_refused_without_waiting() {
    let (_folder, store) = empty_store();
    assert!(Command::new("mkfifo").arg(store.root().join("fifo")).status().unwrap().success());
    std::fs::create_dir(store.root().join("folder")).unwrap();
    for target in ["fifo", "folder"] {
        assert!(matches!(store.get(&path(target), 100), Err(StoreError::Other { .. })), "{target}");
        assert!(matches!(store.size(&path(target)), Err(StoreError::Other { .. })), "{target}");
    }
    assert!(listed(&store).is_empty());
}

#[test]
fn stale_temporaries_go_and_fresh_ones_stay() {
    let (_folder, store) = empty_store();
    store.put_if_absent(&path("packs/0a/object"), b"x").unwrap();
    for (name, age_s) in [("packs/0a/.tmp-old", 7200), (".tmp-older", 90_000), ("packs/.tmp-fresh", 0)] {
        let file = File::create(store.root().join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(age_s)).unwrap();
    }
    let hour_ago = Timestamp::now() - jiff::SignedDuration::from_hours(1);
    assert_eq!(store.remove_stale_temporaries(hour_ago).unwrap(), 2);
    assert_eq!(store.remove_stale_temporaries(hour_ago).unwrap(), 0);
    assert_eq!(names_in(&store.root().join("packs")), [".tmp-fresh", "0a"]);
    assert_eq!(names_in(&store.root().join("packs/0a")), ["object"]);
}

#[test]
fn a_put_that_fails_leaves_nothing() {
    let (_folder, store) = empty_store();
    std::fs::create_dir(store.root().join("packs")).unwrap();
    let folder = store.open_folder("packs").unwrap();
    let temporary = Temporary::write(&folder, b"unpublished").unwrap();
    assert_eq!(names_in(&store.root().join("packs")).len(), 1);
    drop(temporary);
    assert!(names_in(&store.root().join("packs")).is_empty());
}

#[test]
fn publishing_by_hard_link_does_not_overwrite_either() {
    let (_folder, store) = empty_store();
    let folder = store.open_folder("").unwrap();
    for (bytes, expected) in [(b"first", Put::Created), (b"other", Put::AlreadyPresent)] {
        let temporary = Temporary::write(&folder, bytes).unwrap();
        assert_eq!(temporary.publish_by_link("object").unwrap(), expected);
    }
    assert_eq!(store.get(&path("object"), 5).unwrap(), b"first");
    assert_eq!(names_in(store.root()), ["object"]);
}

#[test]
fn open_files_are_bounded_and_an_object_replaced_by_this_store_is_read_anew() {
    let (_folder, store) = empty_store();
    for number in 0..200 {
        let object = path(&format!("packs/{number}"));
        store.put_if_absent(&object, format!("{number:05}").as_bytes()).unwrap();
        store.get_range(&object, 0, 5).unwrap();
    }
    assert_eq!(store.with_open_files(|files| files.len()), OPEN_FILES.get());
    assert_eq!(store.get_range(&path("packs/7"), 0, 5).unwrap(), b"00007");
}

/// Readers of a path that is being put see nothing or all of it.
#[test]
fn readers_during_a_put_see_nothing_or_everything() {
    let (_folder, store) = empty_store();
    let stop = AtomicBool::new(false);
    let content = vec![7; 300_000];
    let whole = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut whole = 0;
            while !stop.load(Ordering::Relaxed) {
                for object in listed(&store) {
                    assert_eq!(store.size(&path(&object)).unwrap(), 300_000);
                    assert_eq!(store.get(&path(&object), 400_000).unwrap().len(), 300_000);
                    whole += 1;
                }
            }
            whole
        });
        for number in 0..30 {
            store.put_if_absent(&path(&format!("packs/{number}")), &content).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(whole > 0, "the reader never saw an object");
}

const CHILD_ROOT: &str = "PAGEVAULT_TEST_CHILD_ROOT";
const CHILD_ID: &str = "PAGEVAULT_TEST_CHILD_ID";
const CHILD_OBJECTS: u32 = 100;

/// Not a test of its own: the process that the next two tests start several times over.
#[test]
fn child_process_puts() {
    let (Ok(root), Ok(id)) = (std::env::var(CHILD_ROOT), std::env::var(CHILD_ID)) else { return };
    let store = LocalStore::open(root).unwrap();
    for number in 0..CHILD_OBJECTS {
        let object = path(&format!("packs/{:02x}/{number}", number % 7));
        let put = store.put_if_absent(&object, id.repeat(20_000).as_bytes()).unwrap();
        if put == Put::Created {
            println!("created {number}");
        }
    }
}

fn start_child(root: &Path, id: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::local::tests::child_process_puts", "--nocapture"])
        .env(CHILD_ROOT, root)
        .env(CHILD_ID, id)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn racing_processes_have_one_winner_per_object() {
    let (_folder, store) = empty_store();
    let children: Vec<(&str, Child)> = ["a", "b", "c"].map(|id| (id, start_child(store.root(), id))).into();
    let mut winners = std::collections::BTreeMap::new();
    for (id, child) in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            if let Some((_, number)) = line.split_once("created ") {
                assert!(
                    winners.insert(number.parse::<u32>().unwrap(), id).is_none(),
                    "two winners of {number}"
                );
            }
        }
    }
    assert_eq!(winners.len(), CHILD_OBJECTS as usize);
    for (number, id) in winners {
        let object = path(&format!("packs/{:02x}/{number}", number % 7));
        assert_eq!(store.get(&object, 20_000).unwrap(), id.repeat(20_000).as_bytes());
    }
}

#[test]
fn killed_processes_leave_whole_objects_and_temporaries_only() {
    let (_folder, store) = empty_store();
    for objects in [5, 25, 45, 65, 85] {
        let mut child = start_child(store.root(), "k");
        while listed(&store).len() < objects && child.try_wait().unwrap().is_none() {}
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for object in listed(&store) {
        assert_eq!(store.get(&path(&object), 20_000).unwrap(), "k".repeat(20_000).as_bytes());
    }
    let soon = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    store.remove_stale_temporaries(soon).unwrap();
    assert!(start_child(store.root(), "k").wait_with_output().unwrap().status.success());
    assert_eq!(listed(&store).len(), CHILD_OBJECTS as usize);
}

/// A file system of 1 MiB, gone again when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(options: &str) -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(disk.0.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(disk)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_no_temporary() {
    let Some(disk) = SmallDisk::mount("size=1m") else {
        eprintln!("SKIPPED: mounting a tmpfs needs root; the full-disk test did not run");
        return;
    };
    let store = LocalStore::create(disk.0.path().join("vault")).unwrap();
    store.put_if_absent(&path("packs/fits"), &vec![1; 400_000]).unwrap();
    let full = store.put_if_absent(&path("packs/does-not"), &vec![1; 800_000]).unwrap_err();
    assert!(matches!(full, StoreError::NoSpace { .. }), "{full}");
    assert!(crate::Error::from(full).hint().is_some());
    assert_eq!(names_in(&store.root().join("packs")), ["fits"]);
    assert_eq!(store.put_if_absent(&path("packs/fits-too"), &vec![1; 400_000]).unwrap(), Put::Created);
}

#[test]
fn a_read_only_disk_is_named() {
    let Some(disk) = SmallDisk::mount("size=1m") else {
        eprintln!("SKIPPED: mounting a tmpfs needs root; the read-only test did not run");
        return;
    };
    let store = LocalStore::create(disk.0.path().join("vault")).unwrap();
    store.put_if_absent(&path("object"), b"x").unwrap();
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.0.path()).status().unwrap();
    assert!(remounted.success());
    assert!(matches!(store.put_if_absent(&path("new"), b"x"), Err(StoreError::ReadOnly { .. })));
    assert!(matches!(store.delete(&path("object")), Err(StoreError::ReadOnly { .. })));
    assert_eq!(store.get(&path("object"), 1).unwrap(), b"x");
}

#[test]
fn a_folder_without_rights_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, store) = empty_store();
    std::fs::set_permissions(store.root(), std::fs::Permissions::from_mode(0o500)).unwrap();
    if std::fs::write(store.root().join("probe"), "x").is_ok() {
        eprintln!("SKIPPED: root may write anywhere; the test of missing rights did not run");
        return;
    }
    let denied = store.put_if_absent(&path("new"), b"x").unwrap_err();
    assert!(matches!(denied, StoreError::PermissionDenied { operation: "write", .. }), "{denied}");
    assert!(crate::Error::from(denied).hint().is_some());
    std::fs::set_permissions(folder.path().join("vault"), std::fs::Permissions::from_mode(0o700)).unwrap();
}
