//! What is written down while a guarded command runs, so that a guard that was killed can be finished: one JSON file per guard
//! in the state folder, removed when it is done.
//!
//! Two files beside it are locked (`flock`), and locks end with those who hold them, however they end. The guard holds one,
//! so that nobody else finishes what it is about to finish. The command inherits the other: between the start of the
//! command and the note of its number only that tells that it lives.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use pagevault::ids::SnapshotId;
use pagevault::operations::guard::{Checks, GuardRequest, Guarded};
use pagevault::vault::Vault;
use pagevault::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::context::Context;
use super::files;

/// A guard that is not done.
#[derive(Debug)]
pub(crate) struct Record {
    file: PathBuf,
    /// The command, in words.
    pub(crate) command: String,
    /// Databases and their snapshots of before.
    pub(crate) paths: Vec<(String, SnapshotId)>,
    value: Value,
    /// Locked by this guard.
    lock: Option<File>,
}

/// Suffix of the file that the guard locks.
const GUARD: &str = "guard";
/// Suffix of the file that the command has locked.
const COMMAND: &str = "command";

impl Record {
    /// Where the records of this vault are.
    pub(crate) fn folder(context: &Context, vault: &Vault) -> Result<PathBuf> {
        let state = context.environment.state_folder().ok_or_else(|| {
            Error::new(ErrorKind::Usage, "HOME is not set, so there is no place to remember a guard")
                .with_hint("set HOME or XDG_STATE_HOME")
        })?;
        Ok(state.join(vault.id().to_string()).join("guards"))
    }

    /// Writes down what is about to run.
    pub(crate) fn create(folder: &Path, request: &GuardRequest, guarded: &[Guarded]) -> Result<Self> {
        let databases = guarded.iter().map(|one| {
            let path = std::path::absolute(&one.path).unwrap_or_else(|_| one.path.clone());
            let path = path.to_str().map(str::to_owned).ok_or_else(|| {
                let message =
                    format!("{} is not UTF-8, which guard needs to remember it", one.path.display());
                Error::new(ErrorKind::Refused, message)
            })?;
            Ok((path, one.before))
        });
        let paths = databases.collect::<Result<Vec<_>>>()?;
        let checks = &request.checks;
        let texts: Vec<String> = checks.expectations.iter().map(ToString::to_string).collect();
        let databases: Vec<Value> =
            paths.iter().map(|(path, id)| json!({"path": path, "before": id.to_string()})).collect();
        let value = json!({
            "command": request.command,
            "databases": databases,
            "require_table": checks.required_tables,
            "expect": texts,
            "assert": checks.assertions,
            "pid": null,
            "pid_started": null,
        });
        let name = paths.first().map_or_else(String::new, |(_, id)| id.to_string());
        let mut record = Self {
            file: folder.join(format!("{name}.json")),
            command: request.command.clone(),
            paths,
            value,
            lock: None,
        };
        // Locked before it can be found: a guard that has just begun is nobody's to finish.
        std::fs::create_dir_all(folder)
            .and_then(|()| {
                record.lock = record.locked(GUARD);
                record.write()
            })
            .map_err(|error| {
                Error::new(ErrorKind::Failed, format!("cannot write {}: {error}", record.file.display()))
            })?;
        Ok(record)
    }

    /// A locked file for the command to inherit. On a file system without locks there is none.
    pub(crate) fn sign_of_life(&self) -> Option<File> {
        self.locked(COMMAND)
    }

    /// A file beside the record, locked; `None` where that is not possible, or it is locked already.
    fn locked(&self, suffix: &str) -> Option<File> {
        let file = File::create(self.file.with_extension(suffix)).ok()?;
        file.try_lock().ok().map(|()| file)
    }

    /// Whether somebody who lives has a file beside the record locked.
    fn is_locked(&self, suffix: &str) -> bool {
        File::open(self.file.with_extension(suffix))
            .is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Adds which process it is.
    pub(crate) fn note_child(&mut self, pid: u32) {
        self.value["pid"] = json!(pid);
        self.value["pid_started"] = json!(started(u64::from(pid)));
        // What it serves for is to refuse a resume too early; it is not worth ending the guard for.
        let _ = self.write();
    }

    fn write(&self) -> std::io::Result<()> {
        let new = self.file.with_extension("new");
        let _ = std::fs::remove_file(&new);
        files::create_private(&new, self.value.to_string().as_bytes())?;
        std::fs::rename(&new, &self.file)
    }

    /// It is done.
    pub(crate) fn remove(&self) {
        let _ = std::fs::remove_file(&self.file);
        for suffix in [GUARD, COMMAND] {
            let _ = std::fs::remove_file(self.file.with_extension(suffix));
        }
    }

    fn read(file: &Path) -> Result<Self> {
        let unreadable = |why: String| {
            Error::new(ErrorKind::Failed, format!("{}: {why}", file.display()))
                .with_hint("restore by hand: `pagevault list --kind migration` shows the snapshots of before; then remove the file")
        };
        let text = std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        let mut paths = Vec::new();
        for one in value["databases"].as_array().into_iter().flatten() {
            let path = one["path"].as_str().unwrap_or_default().to_owned();
            let id = one["before"].as_str().unwrap_or_default().parse();
            paths.push((path, id.map_err(|_| unreadable("it names no snapshot".to_owned()))?));
        }
        let command = value["command"].as_str().unwrap_or_default().to_owned();
        Ok(Self { file: file.to_path_buf(), command, paths, value, lock: None })
    }

    fn all(folder: &Path) -> Result<Vec<Self>> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        files.sort();
        files.iter().map(|file| Self::read(file)).collect()
    }

    /// A guard to be finished, which nobody else is going to finish from now on.
    pub(crate) fn take_over(folder: &Path) -> Result<Self> {
        let mut busy = None;
        for mut record in Self::all(folder)? {
            match record.refuse_if_running() {
                Ok(()) => {
                    record.lock = record.locked(GUARD);
                    if record.lock.is_none() && record.is_locked(GUARD) {
                        busy = Some(record.still_at_work());
                        continue;
                    }
                    // Whoever had it until now may have finished it.
                    if record.file.exists() {
                        return Ok(record);
                    }
                    record.remove();
                }
                Err(error) => busy = Some(error),
            }
        }
        Err(busy.unwrap_or_else(|| {
            Error::new(ErrorKind::NotFound, "there is no guard to finish")
                .with_hint("a guard that ended by itself has nothing left to do")
        }))
    }

    /// A database in the midst of another guard is not in a state to go back to.
    pub(crate) fn refuse_if_unfinished(folder: &Path, database: &Path) -> Result<()> {
        let canonical = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let wanted = canonical(database);
        for record in Self::all(folder)? {
            if record.paths.iter().any(|(path, _)| canonical(Path::new(path)) == wanted) {
                let message =
                    format!("{}: a guard over `{}` is not finished", database.display(), record.command);
                return Err(Error::new(ErrorKind::Refused, message)
                    .with_hint("wait for it, or if it was killed: `pagevault guard --resume`"));
            }
        }
        Ok(())
    }

    /// As long as the guard lives, or its command runs, there is nothing to finish.
    fn refuse_if_running(&self) -> Result<()> {
        if self.is_locked(GUARD) {
            return Err(self.still_at_work());
        }
        let busy = |what: String| {
            Err(Error::new(ErrorKind::Busy, what).with_hint("wait until it has ended, or end it"))
        };
        match self.value["pid"].as_u64() {
            // The command alone counts, as for a guard that was not killed, and not what it has left running.
            Some(pid) => {
                let now = started(pid);
                if now.is_some() && now == self.value["pid_started"].as_u64() {
                    return busy(format!("`{}` still runs as process {pid}", self.command));
                }
                Ok(())
            }
            None if self.is_locked(COMMAND) => busy(format!("`{}` still runs", self.command)),
            None => Ok(()),
        }
    }

    fn still_at_work(&self) -> Error {
        let message = format!("the guard over `{}` is still at work", self.command);
        Error::new(ErrorKind::Busy, message).with_hint("wait for it; if the command hangs, end the command")
    }

    /// The databases.
    pub(crate) fn databases(&self) -> Vec<PathBuf> {
        self.paths.iter().map(|(path, _)| path.into()).collect()
    }

    /// What must hold.
    pub(crate) fn checks(&self) -> Result<Checks> {
        let texts = |name: &str| -> Vec<String> {
            let array = self.value[name].as_array().into_iter().flatten();
            array.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let expectations =
            texts("expect").iter().map(|text| text.parse()).collect::<std::result::Result<_, _>>();
        Ok(Checks {
            required_tables: texts("require_table"),
            expectations: expectations.map_err(|error: pagevault::operations::guard::ExpectationError| {
                Error::new(ErrorKind::Failed, format!("{}: {error}", self.file.display()))
            })?,
            assertions: texts("assert"),
        })
    }
}

/// When a process was started, in clock ticks since the machine was; tells it from a later one of the same number.
fn started(pid: u64) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    // A zombie has ended.
    if matches!(fields.next(), Some("Z" | "X")) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use rustix::io::{FdFlags, fcntl_setfd};

    use super::*;

    fn record(folder: &Path) -> Record {
        let file = folder.join("a.json");
        let value = json!({"command": "migrate", "databases": [], "pid": null});
        let record = Record { file, command: "migrate".to_owned(), paths: Vec::new(), value, lock: None };
        record.write().unwrap();
        record
    }

    /// A guard that was killed before it had noted the number of its command.
    #[test]
    fn a_command_that_nobody_has_noted_is_known_to_live() {
        let folder = tempfile::tempdir().unwrap();
        let record = record(folder.path());
        assert!(record.refuse_if_running().is_ok(), "it was never started");
        let sign = record.sign_of_life().unwrap();
        fcntl_setfd(&sign, FdFlags::empty()).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        drop(sign);
        let busy = Record::take_over(folder.path()).unwrap_err();
        assert_eq!((busy.kind(), busy.to_string().as_str()), (ErrorKind::Busy, "`migrate` still runs"));
        drop(child.stdin.take());
        child.wait().unwrap();
        let taken = Record::take_over(folder.path()).unwrap();
        // One at a time.
        let busy = Record::take_over(folder.path()).unwrap_err();
        assert!(busy.to_string().contains("still at work"), "{busy}");
        taken.remove();
        assert_eq!(Record::take_over(folder.path()).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
