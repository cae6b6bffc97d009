//! Backups of an application's own database, in a few calls: [`Backups`].
//!
//! Everything here is the operations of [`crate::operations`] with what they need at hand: a vault, this machine's identity, a
//! clock, a monitor. Whoever needs more uses those. `docs/library.md` has the whole of it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::clock::{Clock, SystemClock};
use crate::crypto::secret::{Passphrase, Secret32, TextForm};
use crate::crypto::unlock::Unlocker;
use crate::error::{Error, ErrorKind, Result};
use crate::format::keyslot::Argon2Params;
use crate::format::manifest::Kind;
use crate::monitor::{Monitor, Silent};
use crate::operations::check::{CheckReport, CheckRequest, check};
use crate::operations::export::{ExportReport, ExportRequest, OutputFile, export};
use crate::operations::guard::{Checks, GuardReport, GuardRequest, guard};
use crate::operations::host::this_host;
use crate::operations::list::{ListFilter, SnapshotInfo, SnapshotSpec, list};
use crate::operations::restore::{RestoreReport, RestoreRequest, restore};
use crate::operations::restore_into::{LiveRestoreRequest, restore_into};
use crate::operations::snapshot::{Host, SnapshotReport, SnapshotRequest, snapshot};
use crate::sqlite::OpenOptions;
use crate::store::LocalStore;
use crate::vault::{LocalFolders, LockedVault, Vault, layout};

/// Above this, a file is no key file.
const KEY_FILE_LIMIT: u64 = 64 * 1024;

const KEY_FILE_HEADER: &str =
    "# pagevault key file. Whoever has it can read the vault; without it, or another key, nobody can.\n";

/// A vault that an application keeps the backups of its database in.
///
/// An automatic snapshot at every start:
///
/// ```
/// # fn main() -> pagevault::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let (vault, key, database) = (folder.path().join("vault"), folder.path().join("app.key"), folder.path().join("app.db"));
/// # rusqlite::Connection::open(&database).unwrap().execute_batch("CREATE TABLE notes(text)").unwrap();
/// use pagevault::Backups;
///
/// let backups = Backups::at(&vault).key_file(&key).open_or_create()?;
/// let report = backups.snapshot(&database)?;
/// println!("backed up as {}, {} bytes stored", report.snapshot_id.short(), report.stored_bytes);
/// # assert_eq!(report.kind.name(), "automatic");
/// # Ok(())
/// # }
/// ```
///
/// And back:
///
/// ```
/// # fn main() -> pagevault::Result<()> {
/// # use pagevault::Backups;
/// # let folder = tempfile::tempdir().unwrap();
/// # let (vault, key, database) = (folder.path().join("vault"), folder.path().join("app.key"), folder.path().join("app.db"));
/// # rusqlite::Connection::open(&database).unwrap().execute_batch("CREATE TABLE notes(text)").unwrap();
/// # Backups::at(&vault).key_file(&key).create()?.snapshot(&database)?;
/// let backups = Backups::at(&vault).key_file(&key).open()?;
/// for snapshot in backups.list()? {
///     println!("{} {} {}", snapshot.snapshot_id.short(), snapshot.database, snapshot.created_at);
/// }
/// let restored = folder.path().join("restored.db");
/// let report = backups.restore("app@latest", &restored)?;
/// assert_eq!(report.verified.sha256, Some(true));
/// # Ok(())
/// # }
/// ```
pub struct Backups {
    vault: Vault,
    host: Host,
    clock: Box<dyn Clock>,
    monitor: Box<dyn Monitor>,
}

impl std::fmt::Debug for Backups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backups")
            .field("vault", &self.vault)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Backups {
    /// Backups in the vault in the folder `vault`; how it is opened is said next.
    pub fn at(vault: impl Into<PathBuf>) -> BackupsAt {
        BackupsAt {
            place: vault.into(),
            key: None,
            folders: LocalFolders::default(),
            clock: Box::new(SystemClock),
            monitor: Box::new(Silent),
        }
    }

    /// An automatic snapshot of `database`, which may be in use.
    ///
    /// # Errors
    /// See [`snapshot`](crate::operations::snapshot::snapshot); nothing is stored then.
    pub fn snapshot(&self, database: impl AsRef<Path>) -> Result<SnapshotReport> {
        self.snapshot_as(database, |request| request.kind = Kind::Automatic)
    }

    /// A snapshot of `database` as `change` wants it: kind, description, tags, required tables, test restore and so on.
    ///
    /// ```
    /// # fn main() -> pagevault::Result<()> {
    /// # use pagevault::Backups;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let database = folder.path().join("app.db");
    /// # rusqlite::Connection::open(&database).unwrap().execute_batch("CREATE TABLE notes(text)").unwrap();
    /// # let backups = Backups::at(folder.path().join("vault")).passphrase("correct horse").create()?;
    /// use pagevault::format::manifest::Kind;
    ///
    /// let report = backups.snapshot_as(&database, |request| {
    ///     request.kind = Kind::Migration;
    ///     request.description = Some("before 2.0".to_owned());
    ///     request.required_tables = vec!["notes".to_owned()];
    ///     request.verify = true;
    /// })?;
    /// # assert_eq!(report.kind, Kind::Migration);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot).
    pub fn snapshot_as(
        &self,
        database: impl AsRef<Path>,
        change: impl FnOnce(&mut SnapshotRequest),
    ) -> Result<SnapshotReport> {
        let mut request = SnapshotRequest::new([database.as_ref()], self.host.clone());
        change(&mut request);
        let mut taken = None;
        snapshot(&self.vault, &request, &*self.clock, &*self.monitor, &mut |_, outcome| {
            taken = Some(outcome);
        })?;
        taken.unwrap_or_else(|| Err(Error::new(ErrorKind::Usage, "no database was named")))
    }

    /// All snapshots, oldest first.
    ///
    /// # Errors
    /// The vault cannot be read.
    pub fn list(&self) -> Result<Vec<SnapshotInfo>> {
        list(&self.vault, &ListFilter::default(), &*self.monitor)
    }

    /// Restores the snapshot that `snapshot` names (an id, `latest`, `NAME@latest`, `NAME@-2h` ...) to `target`, which must
    /// not exist. It appears when it is complete and proven.
    ///
    /// # Errors
    /// There is no such snapshot, something is at `target`, or the snapshot fails its proof.
    pub fn restore(&self, snapshot: &str, target: impl AsRef<Path>) -> Result<RestoreReport> {
        let request = RestoreRequest::new(spec(snapshot)?, target.as_ref());
        restore(&self.vault, &request, &*self.clock, &*self.monitor)
    }

    /// Restores the snapshot that `snapshot` names into the database at `target` while applications, this one among them,
    /// have it open: in one transaction, only the pages that differ. What it overwrites is stored first, as an automatic
    /// snapshot; restoring that one is the undo.
    ///
    /// ```
    /// # fn main() -> pagevault::Result<()> {
    /// # use pagevault::Backups;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let database = folder.path().join("app.db");
    /// # let backups = Backups::at(folder.path().join("vault")).passphrase("correct horse").create()?;
    /// let db = rusqlite::Connection::open(&database).unwrap();
    /// db.execute_batch("CREATE TABLE users(id INTEGER PRIMARY KEY); INSERT INTO users VALUES(1), (2)").unwrap();
    /// let before = backups.snapshot(&database)?.snapshot_id.to_string();
    /// db.execute("DELETE FROM users", ()).unwrap();
    ///
    /// let report = backups.restore_into(&before, &database)?;
    /// let users = || db.query_row("SELECT count(*) FROM users", (), |row| row.get::<_, i64>(0)).unwrap();
    /// assert_eq!(users(), 2);
    ///
    /// backups.restore_into(&report.safety_snapshot.unwrap().to_string(), &database)?;
    /// assert_eq!(users(), 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`restore_into`](crate::operations::restore_into::restore_into); the database is then as it was.
    pub fn restore_into(&self, snapshot: &str, target: impl AsRef<Path>) -> Result<RestoreReport> {
        let request = LiveRestoreRequest::new(spec(snapshot)?, target.as_ref(), self.host.clone());
        restore_into(&self.vault, &request, &*self.clock, &*self.monitor)
    }

    /// Runs `migrate` between two snapshots of `databases`, and puts them back, in place, if it fails or panics, or if what it
    /// leaves is not right: integrity, foreign keys that were whole before, and `checks`. Whether it stands is in the report.
    ///
    /// ```
    /// # fn main() -> pagevault::Result<()> {
    /// # use pagevault::Backups;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let database = folder.path().join("app.db");
    /// # let sql = "CREATE TABLE users(id INTEGER PRIMARY KEY); INSERT INTO users VALUES(1), (2)";
    /// # rusqlite::Connection::open(&database).unwrap().execute_batch(sql).unwrap();
    /// # let backups = Backups::at(folder.path().join("vault")).passphrase("correct horse").create()?;
    /// use pagevault::operations::guard::Checks;
    ///
    /// let migrate = |sql: &'static str| {
    ///     let database = database.clone();
    ///     move || rusqlite::Connection::open(database)?.execute_batch(sql)
    /// };
    /// let checks = Checks { expectations: vec!["users>=same".parse().unwrap()], ..Checks::default() };
    ///
    /// let report = backups.guard([&database], checks.clone(), migrate("DELETE FROM users"))?;
    /// assert!(!report.is_kept());
    /// assert_eq!(report.databases[0].failures, ["expected users>=same: users has 0 rows, had 2"]);
    ///
    /// let report = backups.guard([&database], checks, migrate("ALTER TABLE users ADD COLUMN name"))?;
    /// assert!(report.is_kept());
    /// assert_eq!(report.databases[0].schema_changes, ["table users: column name added (no type)"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// If the process dies meanwhile, nobody puts anything back: the snapshots of before are in the vault, of kind migration.
    /// The command line's `guard` can be resumed.
    ///
    /// # Errors
    /// A snapshot of before could not be taken: `migrate` was not run.
    pub fn guard<E: std::fmt::Display>(
        &self,
        databases: impl IntoIterator<Item = impl Into<PathBuf>>,
        checks: Checks,
        migrate: impl FnOnce() -> Result<(), E>,
    ) -> Result<GuardReport> {
        let request = GuardRequest {
            databases: databases.into_iter().map(Into::into).collect(),
            command: "a migration of the application".to_owned(),
            checks,
            busy_timeout: OpenOptions::default().busy_timeout,
            host: self.host.clone(),
        };
        guard(&self.vault, &request, &*self.clock, &*self.monitor, migrate)
    }

    /// Exports what `request` says to the file `target`, readable by its owner alone, which must not exist.
    ///
    /// ```
    /// # fn main() -> pagevault::Result<()> {
    /// # use pagevault::Backups;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let database = folder.path().join("app.db");
    /// # let sql = "CREATE TABLE users(id INTEGER PRIMARY KEY); INSERT INTO users VALUES(123)";
    /// # rusqlite::Connection::open(&database).unwrap().execute_batch(sql).unwrap();
    /// # let backups = Backups::at(folder.path().join("vault")).passphrase("correct horse").create()?;
    /// use pagevault::operations::export::{ExportRequest, ExportSource};
    ///
    /// let mut request = ExportRequest::new(ExportSource::Database(database));
    /// request.subject = Some("users:123".parse()?);
    /// let report = backups.export(&request, folder.path().join("user-123.json"))?;
    /// assert_eq!(report.tables["users"], 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`export`](crate::operations::export::export); `target` is then not there.
    pub fn export(&self, request: &ExportRequest, target: impl AsRef<Path>) -> Result<ExportReport> {
        let mut file = OutputFile::create(target.as_ref(), false)?;
        let report = export(Some(&self.vault), request, &*self.clock, &*self.monitor, &mut file)?;
        file.put_in_place()?;
        Ok(report)
    }

    /// Checks what can be trusted, as `request` says.
    ///
    /// # Errors
    /// The vault cannot be listed, or it was interrupted. What is damaged is in the report.
    pub fn check(&self, request: &CheckRequest) -> Result<CheckReport> {
        check(&self.vault, request, &*self.clock, &*self.monitor)
    }

    /// The vault, for every other operation.
    #[must_use]
    pub const fn vault(&self) -> &Vault {
        &self.vault
    }

    /// This machine, for every other operation.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }
}

/// How the key is told.
#[derive(Debug)]
enum Key {
    File(PathBuf),
    Passphrase(Passphrase),
}

fn spec(text: &str) -> Result<SnapshotSpec> {
    text.parse().map_err(|error| Error::new(ErrorKind::Usage, format!("{error}")))
}

/// How a vault is opened or made.
pub struct BackupsAt {
    place: PathBuf,
    key: Option<Key>,
    folders: LocalFolders,
    clock: Box<dyn Clock>,
    monitor: Box<dyn Monitor>,
}

impl std::fmt::Debug for BackupsAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupsAt")
            .field("place", &self.place)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl BackupsAt {
    /// The key is in this file. A new vault gets a new key file if there is none: keep a copy of it elsewhere.
    #[must_use]
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key = Some(Key::File(path.into()));
        self
    }

    /// The key is a passphrase. Trying one takes 64 MiB and a part of a second, as it should.
    #[must_use]
    pub fn passphrase(mut self, passphrase: &str) -> Self {
        self.key = Some(Key::Passphrase(Passphrase::new(passphrase.as_bytes().to_vec())));
        self
    }

    /// A folder on this machine for what may be lost: a cache of the vault's index, which saves reading it anew, and what notices
    /// that a vault was turned back. Not inside the vault.
    #[must_use]
    pub fn local_folder(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.folders = LocalFolders { cache: Some(path.join("cache")), state: Some(path.join("state")) };
        self
    }

    /// Who hears of progress and warnings, and can interrupt; nobody if not given.
    #[must_use]
    pub fn monitor(mut self, monitor: impl Monitor + 'static) -> Self {
        self.monitor = Box::new(monitor);
        self
    }

    /// Who tells the time; the machine's clock if not given.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Opens the vault.
    ///
    /// # Errors
    /// There is none, or the key does not open it.
    pub fn open(self) -> Result<Backups> {
        let unlocker = self.read_key()?;
        let vault =
            LockedVault::find(Box::new(LocalStore::open(&self.place)?))?.unlock(&unlocker, &self.folders)?;
        vault.warnings().iter().for_each(|warning| self.monitor.warn(warning));
        self.with(vault)
    }

    /// Makes the vault, in a folder that is empty or not there yet.
    ///
    /// # Errors
    /// There is something, or no key was named.
    pub fn create(self) -> Result<Backups> {
        let locked = self.lock()?;
        let made = self.make(locked);
        made?
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Refused,
                    format!("there is a vault at {} already", self.place.display()),
                )
                .with_hint("open it, or choose another folder")
            })
            .and_then(|vault| self.with(vault))
    }

    /// Opens the vault, and makes it first if there is none. Several processes may do so at once: one makes it.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`create`](Self::create).
    pub fn open_or_create(self) -> Result<Backups> {
        if self.holds_vault() {
            return self.open();
        }
        let locked = self.lock()?;
        match self.make(locked)? {
            Some(vault) => self.with(vault),
            None => self.open(),
        }
    }

    fn with(self, vault: Vault) -> Result<Backups> {
        let host = this_host(self.folders.state.as_deref())?;
        Ok(Backups { vault, host, clock: self.clock, monitor: self.monitor })
    }

    fn holds_vault(&self) -> bool {
        [layout::CONFIG, layout::CONFIG_COPY].iter().any(|name| self.place.join(name).exists())
    }

    /// The folder, made if need be, and locked against others that make a vault there; as the command line does.
    fn lock(&self) -> Result<Option<File>> {
        LocalStore::create(&self.place)?;
        Ok(File::open(&self.place).ok().filter(|folder| folder.lock().is_ok()))
    }

    /// Makes the vault; `None` if another process was first.
    fn make(&self, _locked: Option<File>) -> Result<Option<Vault>> {
        if self.holds_vault() {
            return Ok(None);
        }
        let unlocker = match &self.key {
            Some(Key::File(path)) if !path.try_exists().unwrap_or(true) => self.make_key_file(path)?,
            _ => self.read_key()?,
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (argon2, now) = (Argon2Params::recommended(cores), self.clock.now());
        let store = Box::new(LocalStore::open(&self.place)?);
        Ok(Some(Vault::create(store, &unlocker, argon2, None, now, &self.folders)?))
    }

    fn make_key_file(&self, path: &Path) -> Result<Unlocker> {
        let absolute = |path: &Path| {
            let folder =
                path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            folder.canonicalize().ok()
        };
        // In the vault's own folder the key would go wherever the vault is copied to.
        if absolute(path)
            .zip(self.place.canonicalize().ok())
            .is_some_and(|(key, vault)| key.starts_with(vault))
        {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{} is inside the vault it opens", path.display()),
            )
            .with_hint("keep the key file elsewhere"));
        }
        let secret = Secret32::random()
            .map_err(|error| Error::new(ErrorKind::Failed, "cannot make a key").with_source(error))?;
        let key = TextForm::KeyFile.print(&secret);
        let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_HEADER.len() + key.len() + 1));
        text.extend([KEY_FILE_HEADER, &key, "\n"]);
        let mut file = OutputFile::create(path, false)?;
        let written = file.write_all(text.as_bytes());
        written.map_err(|error| {
            Error::new(ErrorKind::Failed, format!("cannot write {}: {error}", path.display()))
        })?;
        file.put_in_place()?;
        Ok(Unlocker::KeyFile(secret))
    }

    fn read_key(&self) -> Result<Unlocker> {
        match &self.key {
            None => Err(Error::new(ErrorKind::Unlock, "no key was named")
                .with_hint("name a key file or a passphrase")),
            Some(Key::Passphrase(passphrase)) => Ok(Unlocker::Passphrase(passphrase.clone())),
            Some(Key::File(path)) => {
                let unreadable = |why: String| {
                    Error::new(ErrorKind::Unlock, format!("cannot read key file {}: {why}", path.display()))
                };
                let long = path.metadata().is_ok_and(|metadata| metadata.len() > KEY_FILE_LIMIT);
                if long {
                    return Err(unreadable("it is larger than any key".to_owned()));
                }
                let text = std::fs::read_to_string(path).map(Zeroizing::new);
                let text = text.map_err(|error| unreadable(error.to_string()))?;
                let secret = TextForm::KeyFile.read(&text).map_err(|error| unreadable(error.to_string()))?;
                Ok(Unlocker::KeyFile(secret))
            }
        }
    }
}
