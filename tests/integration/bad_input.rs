//! What is no database, what is a damaged one, and what is no vault: refused clearly or captured exactly, and whatever
//! happens, nothing is changed at the source and no snapshot appears in the vault or disappears from it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pagevault::clock::{Clock, SystemClock};
use pagevault::error::{Error, ErrorKind, Result};
use pagevault::ids::ObjectName;
use pagevault::monitor::{Monitor, Silent};
use pagevault::operations::check::check_names;
use pagevault::operations::list::{ListFilter, list};
use pagevault::operations::snapshot::{SnapshotReport, SnapshotRequest, snapshot};
use pagevault::sqlite::CheckLevel;
use pagevault::store::{LocalStore, MemoryStore, ObjectPath, Store};
use pagevault::vault::Vault;

use crate::children::{Process, holder};
use crate::databases::{
    ROWS, Random, Seen, bytes_of, contents, create, difference, execute, settled, with_suffix,
};
use crate::support::{
    Collected, create_vault, memory_vault, open_vault, request, restore_to, restore_with, run, take,
};

/// Ends the test run where something waits for ever.
struct Watchdog(Option<std::sync::mpsc::Sender<()>>);

impl Watchdog {
    fn of(what: &'static str, limit: Duration) -> Self {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            if receiver.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{what} hangs");
                std::process::abort();
            }
        });
        Self(Some(sender))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

/// A vault with one good snapshot, which must be there at the end, alone and whole.
struct Witness {
    vault: Vault,
    store: Arc<MemoryStore>,
    folder: tempfile::TempDir,
    id: String,
    bytes: Vec<u8>,
    _watchdog: Watchdog,
}

impl Witness {
    fn new(what: &'static str) -> Self {
        let (vault, store) = memory_vault();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witness.db");
        create(&path, "PRAGMA journal_mode=wal");
        let id = take(&vault, &path).unwrap().snapshot_id.to_string();
        let bytes = fs::read(path).unwrap();
        Self { vault, store, folder, id, bytes, _watchdog: Watchdog::of(what, Duration::from_mins(2)) }
    }

    fn snapshots(&self) -> usize {
        list(&self.vault, &ListFilter::default(), &Silent).unwrap().len()
    }

    /// `attempt` fails with `kind`, leaving `folder` and the vault as they are.
    fn refuses(
        &self,
        folder: &Path,
        kind: ErrorKind,
        attempt: impl FnOnce(&Vault) -> Result<SnapshotReport>,
    ) -> Error {
        let before = contents(folder);
        let error = attempt(&self.vault).expect_err("it must be refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.hint().is_some(), "{error}: what now?");
        assert_eq!(traces(folder, &before), [""; 0], "{error}");
        assert_eq!(self.snapshots(), 1, "{error}");
        error
    }

    /// The vault still has its snapshot, for somebody who opens it anew.
    fn prove_whole(self) {
        assert_eq!(self.snapshots(), 1);
        let vault = open_vault(Box::new(Arc::clone(&self.store))).unwrap();
        assert_eq!(vault.warnings(), [""; 0]);
        let target = self.folder.path().join("restored");
        restore_to(&vault, &self.id, &target).unwrap();
        assert!(fs::read(target).unwrap() == self.bytes);
        assert_eq!(check_names(&self.store, &Silent).unwrap().problems, []);
    }
}

#[test]
fn what_is_no_database() {
    let witness = Witness::new("what_is_no_database");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("text"), "to be or not to be\n".repeat(100)).unwrap();
    fs::write(at("one byte"), "S").unwrap();
    fs::write(at("magic"), "SQLite format 3\0").unwrap();
    fs::write(at("half a header"), &settled(&witness.folder.path().join("witness.db"))[..50]).unwrap();
    fs::write(at("zeros"), [0; 8192]).unwrap();
    fs::write(at("random"), Random::new(1).bytes(20_000)).unwrap();
    fs::write(at("only.db-wal"), Random::new(2).bytes(5000)).unwrap();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    symlink(at("gone"), at("dangling")).unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    symlink(at("folder"), at("link to folder")).unwrap();
    for (name, kind) in [
        ("missing", ErrorKind::NotFound),
        ("missing folder/app.db", ErrorKind::NotFound),
        ("dangling", ErrorKind::NotFound),
        ("text/app.db", ErrorKind::Failed),
        ("loop", ErrorKind::Failed),
        ("only.db", ErrorKind::NotFound),
        ("folder", ErrorKind::Refused),
        ("link to folder", ErrorKind::Refused),
        ("text", ErrorKind::Refused),
        ("one byte", ErrorKind::Refused),
        ("magic", ErrorKind::Refused),
        ("half a header", ErrorKind::Refused),
        ("zeros", ErrorKind::Refused),
        ("random", ErrorKind::Refused),
        ("only.db-wal", ErrorKind::Refused),
        ("fifo", ErrorKind::Refused),
        ("socket", ErrorKind::Refused),
    ] {
        let error = witness.refuses(folder.path(), kind, |vault| take(vault, &at(name)));
        let named = name.split(['/', ' ']).next_back().unwrap();
        assert!(error.to_string().contains(named), "{name}: {error}");
    }
    let null = Path::new("/dev/null");
    witness.refuses(folder.path(), ErrorKind::Refused, |vault| take(vault, null));
    let error = witness.refuses(folder.path(), ErrorKind::Usage, |vault| take(vault, Path::new("")));
    assert!(error.to_string().contains("empty"), "{error}");
    let long = at(&"n".repeat(300));
    witness.refuses(folder.path(), ErrorKind::Failed, |vault| take(vault, &long));
    witness.prove_whole();
}

/// One that cannot be captured does not keep the others of its run from being captured.
#[test]
fn the_others_of_a_run_are_done() {
    let folder = tempfile::tempdir().unwrap();
    let [one, text, two] = ["one.db", "text", "two.db"].map(|name| folder.path().join(name));
    create(&one, "");
    create(&two, "");
    fs::write(&text, "no database").unwrap();
    let (vault, _) = memory_vault();
    let missing = folder.path().join("missing");
    let outcomes = run(&vault, &request(&[&text, &one, &missing, &two])).unwrap();
    let done = |path: &Path| outcomes.iter().find(|(of, _)| of == path).unwrap().1.as_ref().is_ok();
    assert_eq!([&text, &one, &missing, &two].map(|path| done(path)), [false, true, false, true]);
    for (path, id) in outcomes.iter().filter_map(|(path, taken)| Some((path, taken.as_ref().ok()?))) {
        let target = path.with_extension("restored");
        restore_to(&vault, &id.snapshot_id.to_string(), &target).unwrap();
        assert!(fs::read(target).unwrap() == fs::read(path).unwrap());
    }
}

/// What differs in `folder`, but for the empty `-wal` and the `-shm` that any read-only reader of a WAL database
/// leaves, if only to find out that there is nothing to read.
fn traces(folder: &Path, before: &BTreeMap<OsString, Seen>) -> Vec<OsString> {
    let mut differing = difference(&contents(folder), before);
    differing.retain(|name| {
        let (bytes, new) = (name.as_encoded_bytes(), !before.contains_key(name));
        let empty = fs::metadata(folder.join(name)).is_ok_and(|metadata| metadata.len() == 0);
        !(bytes.ends_with(b"-shm") || (bytes.ends_with(b"-wal") && new && empty))
    });
    differing
}

/// Tries a database that something was done to: refused without a trace, or captured exactly. `true` if captured.
fn exact_or_refused(vault: &Vault, path: &Path, what: &str) -> bool {
    let folder = path.parent().unwrap();
    let copied = bytes_of(path);
    let before = contents(folder);
    let taken = match take(vault, path) {
        Ok(taken) => taken,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Refused | ErrorKind::Failed), "{what}: {error}");
            assert_eq!(traces(folder, &before), [""; 0], "{what}: {error}");
            return false;
        }
    };
    let target = folder.join("restored");
    let restored = restore_with(vault, &taken.snapshot_id.to_string(), &target, |request| {
        request.check = CheckLevel::None;
    });
    restored.unwrap_or_else(|error| panic!("{what}: captured, but {error}"));
    let found = fs::read(&target).unwrap();
    // What a file has behind its last page is not the database's.
    assert_eq!(found.len() as u64, taken.size, "{what}");
    assert!(copied.starts_with(&found), "{what}: other bytes than the file's");
    assert!(copied.len() - found.len() < 65_536 || taken.page_count > 0, "{what}");
    fs::remove_file(target).unwrap();
    true
}

#[test]
fn truncated_at_many_lengths() {
    let witness = Witness::new("truncated_at_many_lengths");
    let folder = tempfile::tempdir().unwrap();
    let (vault, _) = memory_vault();
    for journal in ["delete", "wal"] {
        let whole = folder.path().join(format!("whole-{journal}"));
        create(&whole, &format!("PRAGMA page_size=1024; PRAGMA journal_mode={journal}"));
        let bytes = fs::read(&whole).unwrap();
        let lengths = (1..100)
            .step_by(7)
            .chain([100, 101, 511, 512, 513, 1023, 1024, 1025, 2048])
            .chain((0..40).map(|part| bytes.len() * part / 40 + part))
            .chain([bytes.len() - 1024, bytes.len() - 1]);
        for len in lengths.filter(|&len| len > 0) {
            let place = folder.path().join(format!("{journal}-{len}"));
            fs::create_dir(&place).unwrap();
            let path = place.join("app.db");
            fs::write(&path, &bytes[..len]).unwrap();
            witness.refuses(&place, ErrorKind::Refused, |vault| take(vault, &path));
        }
        // Longer than its header says is no damage.
        let place = folder.path().join(format!("{journal}-longer"));
        fs::create_dir(&place).unwrap();
        for more in [1, 1023, 1024, 5000] {
            let path = place.join(format!("{journal}-{more}.db"));
            fs::write(&path, [bytes.as_slice(), &vec![7; more]].concat()).unwrap();
            assert!(exact_or_refused(&vault, &path, &format!("{journal} and {more} bytes")));
            assert_eq!(settled(&path)[..bytes.len()], bytes);
        }
    }
    witness.prove_whole();
}

#[test]
fn garbage_in_the_header() {
    let witness = Witness::new("garbage_in_the_header");
    let folder = tempfile::tempdir().unwrap();
    let (vault, _) = memory_vault();
    let mut random = Random::new(3);
    let mut captured = 0;
    for journal in ["delete", "wal"] {
        let whole = folder.path().join(journal);
        create(&whole, &format!("PRAGMA page_size=1024; PRAGMA journal_mode={journal}"));
        let bytes = fs::read(&whole).unwrap();
        for round in 0..120 {
            let mut wrong = bytes.clone();
            // Single bytes at first, then runs of them.
            let at = random.below(100);
            let len = if round < 80 { 1 } else { 1 + random.below(100 - at) };
            wrong[at..at + len].copy_from_slice(&random.bytes(len));
            let place = folder.path().join(format!("{journal}-{round}"));
            fs::create_dir(&place).unwrap();
            let path = place.join(format!("{journal}-{round}.db"));
            fs::write(&path, &wrong).unwrap();
            captured += usize::from(exact_or_refused(&vault, &path, &format!("{len} bytes at {at}")));
        }
    }
    // Counters and the application's numbers may be anything.
    assert!(captured > 20, "{captured}");
    witness.prove_whole();
}

#[test]
fn random_pages_of_garbage() {
    let _watchdog = Watchdog::of("random_pages_of_garbage", Duration::from_mins(2));
    let folder = tempfile::tempdir().unwrap();
    let (vault, _) = memory_vault();
    let mut random = Random::new(4);
    let (mut captured, mut rounds) = (0, 0);
    for journal in ["delete", "wal"] {
        let whole = folder.path().join(journal);
        create(
            &whole,
            &format!("PRAGMA page_size=1024; PRAGMA auto_vacuum=FULL; PRAGMA journal_mode={journal}"),
        );
        let bytes = fs::read(&whole).unwrap();
        for round in 0..60 {
            let mut wrong = bytes.clone();
            for _ in 0..=random.below(4) {
                // Whole pages, parts of pages, and single bytes, the schema's page more often than others.
                let page = if random.below(4) == 0 { 0 } else { random.below(bytes.len() / 1024) };
                let from = if page == 0 { 100 } else { 0 } + random.below(900);
                let len = [1, 1 + random.below(1024 - from), 1024 - from][random.below(3)];
                let at = page * 1024 + from;
                wrong[at..at + len].copy_from_slice(&random.bytes(len));
            }
            let place = folder.path().join(format!("{journal}-{round}"));
            fs::create_dir(&place).unwrap();
            let path = place.join(format!("{journal}-{round}.db"));
            fs::write(&path, &wrong).unwrap();
            captured += usize::from(exact_or_refused(&vault, &path, &format!("{journal} {round}")));
            rounds += 1;
        }
    }
    assert!(captured * 2 > rounds, "{captured} of {rounds}: garbage in rows is no reason to refuse");
}

/// The end of a log that a power cut has torn is not committed; what is before it counts, as for any reader.
#[test]
fn garbage_in_the_log() {
    let _watchdog = Watchdog::of("garbage_in_the_log", Duration::from_mins(2));
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.db");
    let updates: String =
        (0..10).map(|round| format!("UPDATE t SET y = 'round {round}' WHERE id % 10 = {round};")).collect();
    let sql = format!(
        "PRAGMA page_size=1024; PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; {ROWS}
         PRAGMA wal_checkpoint; {updates}"
    );
    holder(&whole, &sql).kill();
    let (bytes, log) = (fs::read(&whole).unwrap(), fs::read(with_suffix(&whole, "-wal")).unwrap());
    let (vault, _) = memory_vault();
    let mut random = Random::new(5);
    for round in 0..40 {
        let place = folder.path().join(round.to_string());
        fs::create_dir(&place).unwrap();
        let path = place.join(format!("log-{round}.db"));
        fs::write(&path, &bytes).unwrap();
        let mut wrong = log.clone();
        if round % 2 == 0 {
            wrong.truncate(random.below(log.len()));
        } else {
            let at = random.below(log.len() - 30);
            wrong[at..at + 30].copy_from_slice(&random.bytes(30));
        }
        fs::write(with_suffix(&path, "-wal"), &wrong).unwrap();
        let expected = settled(&path);
        let before = contents(&place);
        let taken = take(&vault, &path).unwrap();
        assert_eq!(traces(&place, &before), [""; 0]);
        let target = place.join("restored");
        restore_to(&vault, &taken.snapshot_id.to_string(), &target).unwrap();
        assert!(fs::read(target).unwrap() == expected, "{round}");
    }
}

/// Does something to the source while a snapshot is under way: when its first chunk is done, or between opening it
/// and holding it, when the time is asked for.
struct Meddler<'a> {
    deed: Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>,
    before_the_hold: bool,
}

impl<'a> Meddler<'a> {
    fn new(before_the_hold: bool, deed: impl FnOnce() + Send + 'a) -> Self {
        Self { deed: Mutex::new(Some(Box::new(deed))), before_the_hold }
    }

    fn meddle(&self) {
        if let Some(deed) = self.deed.lock().unwrap().take() {
            deed();
        }
    }
}

impl Monitor for Meddler<'_> {
    fn begin(&self, _: &str, _: &str, _: u64) {}
    fn advance(&self, _: u64) {
        if !self.before_the_hold {
            self.meddle();
        }
    }
    fn finish(&self) {}
    fn warn(&self, _: &str) {}
}

impl Clock for Meddler<'_> {
    fn now(&self) -> Timestamp {
        if self.before_the_hold {
            self.meddle();
        }
        Timestamp::now()
    }
}

fn take_with(
    vault: &Vault,
    request: &SnapshotRequest,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<SnapshotReport> {
    let mut outcome = None;
    snapshot(vault, request, clock, monitor, &mut |_, each| outcome = Some(each))?;
    outcome.unwrap()
}

#[test]
fn deleted_or_replaced_while_it_is_captured() {
    let witness = Witness::new("deleted_or_replaced_while_it_is_captured");
    for journal in ["delete", "wal"] {
        for deed in ["delete", "replace", "rename"] {
            for before_the_hold in [true, false] {
                let folder = tempfile::tempdir().unwrap();
                let (path, other) = (folder.path().join("app.db"), folder.path().join("other.db"));
                create(&path, &format!("PRAGMA journal_mode={journal}"));
                // Several chunks, so that most of it is read after the deed.
                execute(&path, "INSERT INTO t(x) SELECT randomblob(3000) FROM t");
                create(&other, "PRAGMA page_size=1024");
                let old = settled(&path);
                let meddler = Meddler::new(before_the_hold, || match deed {
                    "delete" => fs::remove_file(&path).unwrap(),
                    "replace" => fs::rename(&other, &path).unwrap(),
                    _ => fs::rename(&path, folder.path().join("renamed.db")).unwrap(),
                });
                let what = format!("{journal} {deed} {before_the_hold}");
                let (vault, _) = memory_vault();
                match take_with(&vault, &request(&[&path]), &meddler, &meddler) {
                    Ok(taken) => {
                        assert!(!before_the_hold, "{what}: it was another file's turn");
                        let target = folder.path().join("restored");
                        restore_to(&vault, &taken.snapshot_id.to_string(), &target).unwrap();
                        assert!(fs::read(target).unwrap() == old, "{what}: neither the old file nor refused");
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Refused, "{what}: {error}");
                        assert!(list(&vault, &ListFilter::default(), &Silent).unwrap().is_empty());
                    }
                }
                assert!(meddler.deed.lock().unwrap().is_none(), "{what}: the deed was done");
            }
        }
    }
    witness.prove_whole();
}

#[test]
fn locked_exclusively() {
    let witness = Witness::new("locked_exclusively");
    let folder = tempfile::tempdir().unwrap();
    for (name, sql) in [
        ("transaction", "BEGIN EXCLUSIVE; UPDATE t SET y = 'held'".to_owned()),
        ("rollback", "PRAGMA locking_mode=EXCLUSIVE; UPDATE t SET y = 'held'".to_owned()),
        ("wal", "PRAGMA journal_mode=wal; PRAGMA locking_mode=EXCLUSIVE; UPDATE t SET y = 'held'".to_owned()),
    ] {
        let place = folder.path().join(name);
        fs::create_dir(&place).unwrap();
        let path = place.join("app.db");
        create(&path, if name == "wal" { "PRAGMA journal_mode=wal" } else { "" });
        let process = holder(&path, &sql);
        let mut hurried = request(&[&path]);
        hurried.busy_timeout = Duration::from_millis(300);
        let started = Instant::now();
        let error = witness.refuses(&place, ErrorKind::Busy, |vault| run(vault, &hurried)?.pop().unwrap().1);
        let waited = started.elapsed();
        assert!(waited > Duration::from_millis(200) && waited < Duration::from_secs(5), "{waited:?}");
        assert!(error.to_string().contains("app.db"), "{error}");
        assert!(process.finish().0.success());
        let (vault, _) = memory_vault();
        take(&vault, &path).unwrap();
    }
    witness.prove_whole();
}

#[test]
fn a_required_table_is_missing() {
    let witness = Witness::new("a_required_table_is_missing");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    create(&path, "");
    execute(&path, "CREATE VIEW users AS SELECT * FROM t");
    let mut wanting = request(&[&path]);
    wanting.required_tables = vec!["t".to_owned(), "users".to_owned()];
    let error =
        witness.refuses(folder.path(), ErrorKind::NotFound, |vault| run(vault, &wanting)?.pop().unwrap().1);
    assert!(error.to_string().contains("users"), "a view is no table: {error}");
    witness.prove_whole();
}

#[test]
fn held_for_too_long() {
    let witness = Witness::new("held_for_too_long");
    for journal in ["delete", "wal"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        create(&path, &format!("PRAGMA journal_mode={journal}"));
        execute(&path, "INSERT INTO t(x) SELECT randomblob(3000) FROM t");
        let before = fs::read(&path).unwrap();
        let mut impatient = request(&[&path]);
        impatient.max_hold = Some(Duration::from_millis(50));
        // Its first chunk takes longer than that.
        let slow = Meddler::new(false, || std::thread::sleep(Duration::from_millis(100)));
        let error = witness.refuses(folder.path(), ErrorKind::Busy, |vault| {
            take_with(vault, &impatient, &SystemClock, &slow)
        });
        assert!(error.to_string().contains("50 ms"), "{error}");
        assert!(fs::read(&path).unwrap() == before);
        // A hold that was given up is no hold.
        execute(&path, "DELETE FROM t WHERE id = 3");
        impatient.max_hold = Some(Duration::from_mins(1));
        let (vault, _) = memory_vault();
        let taken = take_with(&vault, &impatient, &SystemClock, &Silent).unwrap();
        assert!(taken.hold_ms < 60_000);
    }
    witness.prove_whole();
}

/// Asks to stop when so many bytes are done.
struct Interrupting {
    after: u64,
    done: AtomicU64,
}

impl Monitor for Interrupting {
    fn begin(&self, _: &str, _: &str, _: u64) {}
    fn advance(&self, amount: u64) {
        self.done.fetch_add(amount, Ordering::Relaxed);
    }
    fn finish(&self) {}
    fn warn(&self, _: &str) {}
    fn interrupted(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.after
    }
}

#[test]
fn interrupted() {
    let witness = Witness::new("interrupted");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    create(&path, "");
    execute(&path, "INSERT INTO t(x) SELECT randomblob(3000) FROM t");
    for after in [0, 65_536, 500_000] {
        let monitor = Interrupting { after, done: AtomicU64::new(0) };
        let before = contents(folder.path());
        let error = take_with(&witness.vault, &request(&[&path]), &SystemClock, &monitor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        assert_eq!(difference(&contents(folder.path()), &before), [""; 0]);
        execute(&path, "UPDATE t SET y = 'not locked any more' WHERE id = 1");
    }
    witness.prove_whole();
}

/// A vault in a folder with one snapshot, and the database it is of.
struct VaultFolder {
    folder: tempfile::TempDir,
    database: PathBuf,
    id: String,
    bytes: Vec<u8>,
}

impl VaultFolder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("app.db");
        create(&database, "");
        let vault = create_vault(Box::new(LocalStore::create(folder.path().join("vault")).unwrap()));
        let id = take(&vault, &database).unwrap().snapshot_id.to_string();
        let bytes = fs::read(&database).unwrap();
        Self { folder, database, id, bytes }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("vault")
    }

    fn open(&self) -> Result<Vault> {
        open_vault(Box::new(LocalStore::open(self.root())?))
    }

    fn restores(&self, vault: &Vault) {
        let target = self.folder.path().join("restored");
        restore_to(vault, &self.id, &target).unwrap();
        assert!(fs::read(&target).unwrap() == self.bytes);
        fs::remove_file(target).unwrap();
    }

    /// Paths of all objects below `folder`.
    fn objects(&self, folder: &str) -> Vec<ObjectPath> {
        let mut paths = Vec::new();
        LocalStore::open(self.root())
            .unwrap()
            .list(folder, &mut |meta| {
                paths.push(meta.path);
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        paths.sort_by_key(ToString::to_string);
        paths
    }
}

#[test]
fn no_vault_there() {
    let folder = tempfile::tempdir().unwrap();
    let missing = LocalStore::open(folder.path().join("missing")).map_err(Error::from).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    assert!(!folder.path().join("missing").exists());
    fs::write(folder.path().join("notes.txt"), "hello").unwrap();
    let text = LocalStore::open(folder.path().join("notes.txt")).map_err(Error::from).unwrap_err();
    assert!(text.to_string().contains("notes.txt"), "{text}");
    let before = contents(folder.path());
    let error = open_vault(Box::new(LocalStore::open(folder.path()).unwrap())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("not a vault") && error.hint().is_some(), "{error}");
    // Something that only looks like one.
    for config in [b"".as_slice(), b"not a vault", &[0x89, 0x50, 0x47, 0x56], &[0; 200]] {
        fs::write(folder.path().join("vault.pv"), config).unwrap();
        let error = open_vault(Box::new(LocalStore::open(folder.path()).unwrap())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damage, "{error}");
        assert!(error.to_string().contains("vault.pv"), "{error}");
    }
    fs::remove_file(folder.path().join("vault.pv")).unwrap();
    assert_eq!(difference(&contents(folder.path()), &before), [""; 0]);
}

/// The format version is byte 8 of every object.
fn make_newer(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(&[2], 8).unwrap();
}

/// A newer format is no damage, and the message says so.
#[test]
fn a_vault_of_a_newer_format() {
    for folder in ["vault.pv", "keys"] {
        let vault = VaultFolder::new();
        let objects = match folder {
            "keys" => vault.objects("keys"),
            _ => ["vault.pv", "vault.pv.copy"].map(|path| ObjectPath::new(path).unwrap()).to_vec(),
        };
        assert_eq!(objects.len(), 2);
        for path in &objects {
            make_newer(&vault.root().join(path.as_str()));
        }
        let before = contents(vault.folder.path());
        let error = vault.open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{folder}: {error}");
        assert!(error.to_string().contains("newer version of pagevault"), "{folder}: {error}");
        assert_eq!(difference(&contents(vault.folder.path()), &before), [""; 0]);
    }
}

/// With a name by content: it is passed over by name, and does not keep the rest from being used.
#[test]
fn objects_of_a_newer_format() {
    for folder in ["packs", "index", "snapshots", "log"] {
        let vault = VaultFolder::new();
        let original = vault.objects(folder).pop().unwrap();
        let copied = vault.folder.path().join("newer");
        fs::copy(vault.root().join(original.as_str()), &copied).unwrap();
        make_newer(&copied);
        let name = ObjectName::of(&fs::read(&copied).unwrap()).to_string();
        let place = match folder {
            "packs" => vault.root().join(folder).join(&name[..2]),
            _ => vault.root().join(folder),
        };
        fs::create_dir_all(&place).unwrap();
        fs::rename(&copied, place.join(&name)).unwrap();
        let opened = vault.open().unwrap();
        vault.restores(&opened);
        let heard = Collected::default();
        let taken = take_with(&opened, &request(&[&vault.database]), &SystemClock, &heard).unwrap();
        assert_eq!(taken.parent.unwrap().to_string(), vault.id, "{folder}");
        if ["index", "snapshots"].contains(&folder) {
            let warnings = heard.warnings().join("\n");
            assert!(warnings.contains(&name) && warnings.contains("newer"), "{folder}: {warnings}");
        }
        assert_eq!(list(&opened, &ListFilter::default(), &Silent).unwrap().len(), 2, "{folder}");
    }
}

/// A vault in a synchronised folder gets visitors; none is an object, and none is touched.
#[test]
fn foreign_files_in_a_vault() {
    let vault = VaultFolder::new();
    let name = "ab".repeat(32);
    for folder in ["", "keys", "packs", "packs/ab", "index", "snapshots", "log", "notes"] {
        let folder = vault.root().join(folder);
        fs::create_dir_all(&folder).unwrap();
        for file in [
            ".DS_Store",
            "notes (conflicted copy).txt",
            "Thumbs.db",
            "ABCDEF",
            ".tmp-1234",
            "x".repeat(200).as_str(),
        ] {
            fs::write(folder.join(file), "hello").unwrap();
        }
        fs::write(folder.join("käse 日本"), "hello").unwrap();
        symlink("/etc/passwd", folder.join("link")).unwrap();
        fs::create_dir_all(folder.join("sub/folder")).unwrap();
    }
    let before: Vec<_> = ["keys", "index", "log"].map(|folder| contents(&vault.root().join(folder))).into();
    let opened = vault.open().unwrap();
    assert_eq!(opened.warnings(), [""; 0]);
    vault.restores(&opened);
    let heard = Collected::default();
    let taken = take_with(&opened, &request(&[&vault.database]), &SystemClock, &heard).unwrap();
    assert_eq!(taken.chunks.unchanged, taken.chunks.total);
    assert_eq!(heard.warnings(), [""; 0]);
    let report = check_names(opened.store(), &Silent).unwrap();
    assert_eq!(report.problems, []);
    for (folder, before) in ["keys", "index", "log"].into_iter().zip(before) {
        let after = contents(&vault.root().join(folder));
        assert!(before.iter().all(|(name, seen)| after.get(name) == Some(seen)), "{folder}");
    }
    // One that has the name of an object is taken at its word, found wanting, and passed over.
    for folder in ["packs/ab", "index", "snapshots", "log"] {
        fs::write(vault.root().join(folder).join(&name), "hello").unwrap();
    }
    let opened = vault.open().unwrap();
    vault.restores(&opened);
    let heard = Collected::default();
    take_with(&opened, &request(&[&vault.database]), &SystemClock, &heard).unwrap();
    let warnings = heard.warnings().join("\n");
    assert!(warnings.matches(&name).count() >= 2, "index and snapshots: {warnings}");
    let problems = check_names(opened.store(), &Silent).unwrap().problems;
    assert_eq!(problems.len(), 4, "{problems:?}");
}

/// Whether a process that only reads the file is in the way: it is not.
#[test]
fn another_reader_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    for journal in ["delete", "wal"] {
        let path = folder.path().join(format!("{journal}.db"));
        create(&path, &format!("PRAGMA journal_mode={journal}"));
        let mut reader: Process = holder(&path, "BEGIN; SELECT count(*) FROM t;");
        let (vault, _) = memory_vault();
        let taken = take(&vault, &path).unwrap();
        assert_eq!(taken.size, fs::metadata(&path).unwrap().len());
        assert!(reader.is_running());
    }
}
