//! Restoring to a path: over what is there only if asked to, only if nobody uses it, and with nothing changed unless
//! all of it succeeds.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagevault::clock::SystemClock;
use pagevault::error::{Error, ErrorKind};
use pagevault::monitor::Monitor;
use pagevault::operations::restore::{RestoreRequest, restore};
use pagevault::sqlite::{CheckLevel, Integrity};
use pagevault::store::{LocalStore, MemoryStore, ObjectPath, Store};
use pagevault::vault::Vault;
use rusqlite::Connection;

use crate::children::{Process, bound_by_permissions, holder, pagevault, this_binary};
use crate::databases::{ROWS, Random, contents, create, difference, execute, settled, with_suffix};
use crate::support::{create_vault, memory_vault, open_vault, request, restore_to, restore_with, run, take};

/// A vault with one snapshot of about a megabyte, and a folder to restore into.
struct Stored {
    vault: Vault,
    store: Arc<MemoryStore>,
    id: String,
    bytes: Vec<u8>,
    folder: tempfile::TempDir,
}

impl Stored {
    fn new(journal: &str) -> Self {
        let aside = tempfile::tempdir().unwrap();
        let source = aside.path().join("app.db");
        create(&source, &format!("PRAGMA journal_mode={journal}"));
        execute(&source, "INSERT INTO t(x) SELECT randomblob(3000) FROM t");
        let (vault, store) = memory_vault();
        let id = take(&vault, &source).unwrap().snapshot_id.to_string();
        Self { vault, store, id, bytes: fs::read(source).unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target.db")
    }

    fn restore_over(&self, target: &Path) -> Result<(), Error> {
        restore_with(&self.vault, &self.id, target, |request| request.overwrite = true).map(|_| ())
    }

    /// `attempt` fails with `kind` and leaves the folder as it is.
    fn refuses(&self, kind: ErrorKind, attempt: impl FnOnce() -> Result<(), Error>) -> Error {
        let before = contents(self.folder.path());
        let error = attempt().expect_err("it must be refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(difference(&contents(self.folder.path()), &before), [""; 0], "{error}");
        error
    }

    /// The target is the snapshot, and alone in the folder.
    fn is_restored(&self) {
        assert!(fs::read(self.target()).unwrap() == self.bytes);
        assert_eq!(contents(self.folder.path()).into_keys().collect::<Vec<_>>(), ["target.db"]);
        let verdict: String = Connection::open(self.target())
            .unwrap()
            .query_row("PRAGMA integrity_check", (), |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok");
    }
}

#[test]
fn a_new_file_is_its_owners_alone() {
    for journal in ["delete", "wal"] {
        let stored = Stored::new(journal);
        restore_to(&stored.vault, &stored.id, &stored.target()).unwrap();
        assert_eq!(fs::metadata(stored.target()).unwrap().mode() & 0o7777, 0o600);
        stored.is_restored();
        let mode: String = Connection::open(stored.target())
            .unwrap()
            .query_row("PRAGMA journal_mode", (), |row| row.get(0))
            .unwrap();
        assert_eq!(mode, journal);
    }
}

#[test]
fn what_is_there_stays_unless_it_may_be_replaced() {
    let stored = Stored::new("wal");
    let target = stored.target();
    for content in ["", "precious", "SQLite format 3\0"] {
        fs::write(&target, content).unwrap();
        let error =
            stored.refuses(ErrorKind::Refused, || restore_to(&stored.vault, &stored.id, &target).map(|_| ()));
        assert!(error.hint().unwrap().contains("--yes"), "{error}");
    }
    fs::remove_file(&target).unwrap();
    create(&target, "");
    stored.refuses(ErrorKind::Refused, || restore_to(&stored.vault, &stored.id, &target).map(|_| ()));
}

#[test]
fn what_is_no_file_is_never_replaced() {
    let stored = Stored::new("delete");
    let at = |name: &str| stored.folder.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    create(&at("real.db"), "");
    symlink(at("real.db"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    for name in ["folder", "folder/", "fifo", "link", "dangling", ".", "folder/.."] {
        for overwrite in [false, true] {
            let error = stored.refuses(ErrorKind::Refused, || {
                let change = |request: &mut RestoreRequest| request.overwrite = overwrite;
                restore_with(&stored.vault, &stored.id, &at(name), change).map(|_| ())
            });
            assert!(error.hint().is_some(), "{name}: {error}");
        }
    }
    stored.refuses(ErrorKind::NotFound, || stored.restore_over(&at("missing/app.db")));
    stored.refuses(ErrorKind::Refused, || stored.restore_over(&at("missing/")));
    stored.refuses(ErrorKind::Failed, || stored.restore_over(&at("real.db/app.db")));
    stored.refuses(ErrorKind::Usage, || stored.restore_over(Path::new("")));
}

#[test]
fn sidecars_of_another_database_are_not_put_beside_a_new_one() {
    for suffix in ["-wal", "-shm", "-journal"] {
        let stored = Stored::new("wal");
        fs::write(with_suffix(&stored.target(), suffix), "left over").unwrap();
        let error = stored.refuses(ErrorKind::Refused, || {
            restore_to(&stored.vault, &stored.id, &stored.target()).map(|_| ())
        });
        assert!(error.to_string().contains(suffix), "{error}");
        // With a yes they go.
        stored.restore_over(&stored.target()).unwrap();
        stored.is_restored();
    }
}

/// The targets of a replacement: databases in every state, and files that are none.
fn make_targets(folder: &Path) -> Vec<PathBuf> {
    let at = |name: &str| folder.join(name);
    let make = |name: &str| {
        fs::create_dir(at(name)).unwrap();
        at(name).join("target.db")
    };
    let clean_delete = make("delete");
    create(&clean_delete, "");
    let clean_wal = make("wal");
    create(&clean_wal, "PRAGMA journal_mode=wal");
    let crashed_wal = make("crashed-wal");
    holder(&crashed_wal, &format!("PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; {ROWS}")).kill();
    let crashed_delete = make("crashed-delete");
    execute(&crashed_delete, &format!("{ROWS} VACUUM;"));
    holder(&crashed_delete, "PRAGMA cache_size=4; BEGIN; UPDATE t SET x = randomblob(300)").kill();
    let persist = make("persist");
    execute(&persist, &format!("PRAGMA journal_mode=persist; {ROWS}"));
    let longer = make("longer");
    create(&longer, "PRAGMA page_size=65536; PRAGMA journal_mode=wal");
    execute(&longer, "INSERT INTO t(x) VALUES(zeroblob(5000000))");
    let damaged = make("damaged");
    create(&damaged, "PRAGMA journal_mode=wal");
    let len = fs::metadata(&damaged).unwrap().len();
    fs::OpenOptions::new().write(true).open(&damaged).unwrap().set_len(len - 5000).unwrap();
    fs::write(with_suffix(&damaged, "-wal"), Random::new(1).bytes(10_000)).unwrap();
    let text = make("text");
    fs::write(&text, "no database at all, however long one looks at it").unwrap();
    fs::write(with_suffix(&text, "-journal"), "nor is this a journal").unwrap();
    let empty = make("empty");
    fs::write(&empty, "").unwrap();
    vec![clean_delete, clean_wal, crashed_wal, crashed_delete, persist, longer, damaged, text, empty]
}

#[test]
fn a_replaced_file_keeps_mode_and_owner_and_loses_its_sidecars() {
    let root = rustix::process::geteuid().is_root();
    let mut folder = tempfile::tempdir().unwrap();
    for target in make_targets(folder.path()) {
        let mut stored = Stored::new("wal");
        let mode = if target.ends_with("text/target.db") { 0o600 } else { 0o640 };
        fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
        if root {
            chown(&target, Some(65_534), Some(65_533)).unwrap();
        }
        let before = fs::metadata(&target).unwrap();
        // As `is_restored` looks for it.
        let outer = std::mem::replace(&mut stored.folder, folder);
        let inner = target.parent().unwrap().to_path_buf();
        stored.restore_over(&target).unwrap_or_else(|error| panic!("{}: {error}", target.display()));
        let after = fs::metadata(&target).unwrap();
        assert_eq!(after.mode(), before.mode(), "{}", target.display());
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()), "{}", target.display());
        assert!(fs::read(&target).unwrap() == stored.bytes, "{}", target.display());
        assert_eq!(contents(&inner).into_keys().collect::<Vec<_>>(), ["target.db"]);
        let rows: u32 = Connection::open(&target)
            .unwrap()
            .query_row("SELECT count(*) FROM t", (), |row| row.get(0))
            .unwrap();
        assert!(rows > 700);
        folder = std::mem::replace(&mut stored.folder, outer);
    }
}

#[test]
fn a_database_in_use_is_not_replaced_and_its_users_are_named() {
    for (journal, sql) in [
        // Idle: no lock that BEGIN EXCLUSIVE would meet.
        ("wal", "SELECT count(*) FROM t"),
        ("wal", "BEGIN; SELECT count(*) FROM t"),
        ("wal", "BEGIN IMMEDIATE; UPDATE t SET y = 'held'"),
        ("wal", "PRAGMA locking_mode=EXCLUSIVE; UPDATE t SET y = 'held'"),
        ("delete", "BEGIN; SELECT count(*) FROM t"),
        ("delete", "BEGIN IMMEDIATE; UPDATE t SET y = 'held'"),
        ("delete", "PRAGMA locking_mode=EXCLUSIVE; UPDATE t SET y = 'held'"),
        // Idle: no lock at all, but what it writes next would go to a file without a name.
        ("delete", "SELECT count(*) FROM t"),
    ] {
        let stored = Stored::new("delete");
        let target = stored.target();
        create(&target, &format!("PRAGMA journal_mode={journal}"));
        let mut process = holder(&target, sql);
        let what = format!("{journal}: {sql}");
        let image = settled(&target);
        let before = fs::metadata(&target).unwrap().ino();
        let error = stored.restore_over(&target).expect_err(&what);
        assert_eq!(error.kind(), ErrorKind::Refused, "{what}: {error}");
        assert!(error.to_string().contains(&format!("({})", process.id())), "{what}: {error}");
        assert_eq!(fs::metadata(&target).unwrap().ino(), before, "{what}");
        assert!(settled(&target) == image, "{what}");
        let names: BTreeSet<OsString> = contents(stored.folder.path()).into_keys().collect();
        assert!(names.iter().all(|name| name.as_encoded_bytes().starts_with(b"target.db")), "{names:?}");
        // Its user goes on.
        assert!(process.is_running());
        assert!(process.finish().0.success());
        execute(&target, "UPDATE t SET y = 'goes on'");
        let mode: String = Connection::open(&target)
            .unwrap()
            .query_row("PRAGMA journal_mode", (), |row| row.get(0))
            .unwrap();
        assert_eq!(mode, journal, "{what}");
        stored.restore_over(&target).unwrap();
        stored.is_restored();
    }
}

/// Somebody who opens the target while it is being restored, after it was found unused.
#[test]
fn a_database_that_comes_into_use_meanwhile_is_not_replaced() {
    struct Opening(PathBuf, std::sync::Mutex<Option<Process>>);
    impl Monitor for Opening {
        fn begin(&self, _: &str, _: &str, _: u64) {}
        fn advance(&self, _: u64) {
            let mut process = self.1.lock().unwrap();
            process.get_or_insert_with(|| holder(&self.0, "SELECT count(*) FROM t"));
        }
        fn finish(&self) {}
        fn warn(&self, _: &str) {}
    }
    let stored = Stored::new("wal");
    let target = stored.target();
    create(&target, "PRAGMA journal_mode=wal");
    let image = settled(&target);
    let monitor = Opening(target.clone(), std::sync::Mutex::default());
    let request = RestoreRequest {
        snapshot: stored.id.parse().unwrap(),
        target: target.clone(),
        overwrite: true,
        check: CheckLevel::Full,
        safety: None,
    };
    let error = restore(&stored.vault, &request, &SystemClock, &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    drop(monitor);
    assert!(settled(&target) == image);
}

/// Does something when so many bytes are restored.
struct After<F: Fn() + Send + Sync> {
    bytes: u64,
    done: AtomicU64,
    deed: F,
    interrupts: bool,
}

impl<F: Fn() + Send + Sync> After<F> {
    fn new(bytes: u64, interrupts: bool, deed: F) -> Self {
        Self { bytes, done: AtomicU64::new(0), deed, interrupts }
    }
}

impl<F: Fn() + Send + Sync> Monitor for After<F> {
    fn begin(&self, _: &str, _: &str, _: u64) {}
    fn advance(&self, amount: u64) {
        let before = self.done.fetch_add(amount, Ordering::Relaxed);
        if before < self.bytes && before + amount >= self.bytes {
            (self.deed)();
        }
    }
    fn finish(&self) {}
    fn warn(&self, _: &str) {}
    fn interrupted(&self) -> bool {
        self.interrupts && self.done.load(Ordering::Relaxed) >= self.bytes
    }
}

#[test]
fn interrupted_at_any_time() {
    let stored = Stored::new("wal");
    let target = stored.target();
    create(&target, "PRAGMA journal_mode=wal");
    for overwrite in [true, false] {
        let target = if overwrite { target.clone() } else { stored.folder.path().join("new.db") };
        for bytes in [0, 1, 65_536, 500_000, stored.bytes.len() as u64] {
            let monitor = After::new(bytes, true, || {});
            let request = RestoreRequest {
                snapshot: stored.id.parse().unwrap(),
                target: target.clone(),
                overwrite,
                check: CheckLevel::Full,
                safety: None,
            };
            stored.refuses(ErrorKind::Interrupted, || {
                restore(&stored.vault, &request, &SystemClock, &monitor).map(|_| ())
            });
        }
    }
}

/// A target that appears while a new one is made is somebody else's.
#[test]
fn a_target_that_comes_into_being_meanwhile_is_left_alone() {
    let stored = Stored::new("wal");
    let target = stored.target();
    let monitor = After::new(65_536, false, || fs::write(&target, "mine").unwrap());
    let request = RestoreRequest {
        snapshot: stored.id.parse().unwrap(),
        target: target.clone(),
        overwrite: false,
        check: CheckLevel::Full,
        safety: None,
    };
    let error = restore(&stored.vault, &request, &SystemClock, &monitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert_eq!(fs::read(&target).unwrap(), b"mine");
    assert_eq!(contents(stored.folder.path()).len(), 1, "no temporary file is left");
}

#[test]
fn a_vault_that_lost_a_pack_restores_nothing_over_anything() {
    let stored = Stored::new("wal");
    let target = stored.target();
    create(&target, "");
    let mut packs: Vec<(u64, ObjectPath)> = Vec::new();
    stored
        .store
        .list("packs", &mut |meta| {
            packs.push((meta.size, meta.path));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    let (_, largest) = packs.into_iter().max_by_key(|(size, _)| *size).unwrap();
    stored.store.delete(&largest).unwrap();
    let vault = open_vault(Box::new(Arc::clone(&stored.store))).unwrap();
    stored.refuses(ErrorKind::Damage, || {
        restore_with(&vault, &stored.id, &target, |request| request.overwrite = true).map(|_| ())
    });
    stored.refuses(ErrorKind::Damage, || {
        restore_to(&vault, &stored.id, &stored.folder.path().join("new.db")).map(|_| ())
    });
    stored.refuses(ErrorKind::NotFound, || {
        restore_to(&vault, "ffffffff", &stored.folder.path().join("new.db")).map(|_| ())
    });
}

/// The database was damaged when it was captured: that shows when it is restored, before it replaces anything.
#[test]
fn a_damaged_image_replaces_nothing_unless_unchecked() {
    let stored = Stored::new("wal");
    let source = stored.folder.path().join("source.db");
    create(&source, "");
    let mut bytes = fs::read(&source).unwrap();
    let garbage = Random::new(9).bytes(2000);
    bytes[3 * 4096 + 100..][..2000].copy_from_slice(&garbage);
    fs::write(&source, &bytes).unwrap();
    let id = take(&stored.vault, &source).unwrap().snapshot_id.to_string();
    create(&stored.target(), "PRAGMA journal_mode=wal");
    let over = |check: CheckLevel| {
        restore_with(&stored.vault, &id, &stored.target(), |request| {
            (request.overwrite, request.check) = (true, check);
        })
    };
    for level in [CheckLevel::Full, CheckLevel::Quick] {
        let error = stored.refuses(ErrorKind::Damage, || over(level).map(|_| ()));
        assert!(error.hint().unwrap().contains("--check none"), "{error}");
    }
    let restored = over(CheckLevel::None).unwrap();
    assert_eq!(restored.verified.integrity_check, Integrity::Skipped);
    assert!(fs::read(stored.target()).unwrap() == bytes);
}

#[test]
fn a_folder_that_cannot_be_written() {
    if !bound_by_permissions("restore_cases::a_folder_that_cannot_be_written") {
        return;
    }
    let stored = Stored::new("wal");
    create(&stored.target(), "");
    let set_mode =
        |mode| fs::set_permissions(stored.folder.path(), fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o555);
    let error = stored.refuses(ErrorKind::Failed, || stored.restore_over(&stored.target()));
    assert!(error.hint().unwrap().contains("may write"), "{error}");
    set_mode(0o755);
    stored.restore_over(&stored.target()).unwrap();
    stored.is_restored();
}

const VAULT: &str = "PAGEVAULT_TEST_VAULT";
const TARGET: &str = "PAGEVAULT_TEST_TARGET";

#[test]
#[ignore = "the process that `killed_half_way` starts"]
fn restores_and_stalls() {
    let Some(root) = std::env::var_os(VAULT) else { return };
    let vault = open_vault(Box::new(LocalStore::open(root).unwrap())).unwrap();
    let stall = After::new(500_000, false, || {
        println!("ready");
        loop {
            std::thread::park();
        }
    });
    let request = RestoreRequest {
        snapshot: "latest".parse().unwrap(),
        target: std::env::var_os(TARGET).unwrap().into(),
        overwrite: true,
        check: CheckLevel::Full,
        safety: None,
    };
    let _ = restore(&vault, &request, &SystemClock, &stall);
}

#[test]
fn killed_half_way() {
    let folder = tempfile::tempdir().unwrap();
    let [source, root] = ["app.db", "vault"].map(|name| folder.path().join(name));
    create(&source, "PRAGMA journal_mode=wal");
    execute(&source, "INSERT INTO t(x) SELECT randomblob(3000) FROM t");
    let vault = create_vault(Box::new(LocalStore::create(&root).unwrap()));
    take(&vault, &source).unwrap();
    let place = folder.path().join("place");
    fs::create_dir(&place).unwrap();
    let target = place.join("target.db");
    create(&target, "PRAGMA journal_mode=wal");
    let before = contents(&place);
    let mut command = this_binary("restore_cases::restores_and_stalls");
    let mut process = Process::start(command.env(VAULT, &root).env(TARGET, &target));
    process.wait_for("ready");
    process.kill();
    let after = contents(&place);
    let left: Vec<_> = difference(&after, &before);
    // What is left is a temporary file of our own, readable by its owner alone, and nothing else.
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].to_string_lossy().starts_with(".target.db.pagevault-"), "{left:?}");
    assert_eq!(fs::metadata(place.join(&left[0])).unwrap().mode() & 0o7777, 0o600);
    // It is in nobody's way.
    restore_with(&vault, "latest", &target, |request| request.overwrite = true).unwrap();
    assert!(fs::read(&target).unwrap() == settled(&source));
}

/// The same by the command line, at whatever moment the signal comes; and with an interrupt, which leaves nothing.
#[test]
fn the_command_line_killed_or_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let [source, place] = ["app.db", "place"].map(|name| folder.path().join(name));
    execute(&source, "CREATE TABLE t(x); INSERT INTO t VALUES(randomblob(60000000))");
    fs::create_dir(&place).unwrap();
    let target = place.join("target.db");
    let taken = pagevault(folder.path()).arg("snapshot").arg(&source).output().unwrap();
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    for signal in ["KILL", "INT", "TERM"] {
        let mut met = 0;
        for overwrite in [true, false, true] {
            if overwrite {
                create(&target, "PRAGMA journal_mode=wal");
            }
            let before = contents(&place);
            let mut command = pagevault(folder.path());
            command.args(["restore", "latest", "--check", "none", "--to"]).arg(&target);
            command.args(overwrite.then_some("--yes"));
            let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let id = child.id().to_string();
            let started = Instant::now();
            // Its temporary file has begun to grow.
            let grows = || {
                let mut entries = fs::read_dir(&place).unwrap().flatten();
                entries.any(|entry| {
                    let temporary =
                        entry.file_name().as_encoded_bytes().starts_with(b".target.db.pagevault-");
                    temporary && entry.metadata().is_ok_and(|metadata| metadata.len() > 1_000_000)
                })
            };
            while !grows() && started.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
            let output = child.wait_with_output().unwrap();
            let what = format!("{signal} {overwrite}: {}", String::from_utf8_lossy(&output.stderr));
            if output.status.success() {
                // It was faster; the target is then all of it.
                assert!(fs::metadata(&target).unwrap().len() > 60_000_000, "{what}");
            } else {
                met += 1;
                let mut left = difference(&contents(&place), &before);
                if signal == "KILL" {
                    assert!(
                        left.pop().unwrap().to_string_lossy().starts_with(".target.db.pagevault-"),
                        "{what}"
                    );
                } else {
                    assert_eq!(output.status.code(), Some(130), "{what}");
                }
                assert_eq!(left, [""; 0], "{what}");
            }
            for entry in fs::read_dir(&place).unwrap().flatten() {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        assert!(met > 0, "{signal} never came in time");
    }
}

#[test]
fn required_tables_are_asked_for_again() {
    let stored = Stored::new("wal");
    let source = stored.folder.path().join("source.db");
    create(&source, "");
    let mut wanting = request(&[&source]);
    wanting.required_tables = vec!["T".to_owned()];
    let id = run(&stored.vault, &wanting).unwrap().pop().unwrap().1.unwrap().snapshot_id.to_string();
    for level in [CheckLevel::Full, CheckLevel::Quick, CheckLevel::None] {
        let target = stored.folder.path().join(format!("{level:?}"));
        let restored = restore_with(&stored.vault, &id, &target, |request| request.check = level).unwrap();
        assert!(restored.verified.required_tables);
    }
}
