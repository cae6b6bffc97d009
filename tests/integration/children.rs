//! Other processes: the workload program, and this binary started again to hold a database or to do one verb.
//! None outlives its test, whatever becomes of it: a [`Process`] is killed and reaped when it is dropped, and ends by
//! itself when its standard input closes.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use rusqlite::Connection;

/// A process that dies with this value.
pub struct Process {
    child: Child,
    /// Closing it asks the process to end.
    stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts `command`; its standard input stays open, its standard output is read by [`Process::wait_for`] or
    /// [`Process::finish`].
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = child.stdin.take();
        Self { child, stdin }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the process prints a line that ends with `word`.
    pub fn wait_for(&mut self, word: &str) {
        let mut output = BufReader::with_capacity(1, self.child.stdout.as_mut().unwrap());
        let mut seen = String::new();
        loop {
            let start = seen.len();
            assert!(output.read_line(&mut seen).unwrap() > 0, "it ended before it was {word}: {seen}");
            if seen[start..].trim_end().ends_with(word) {
                return;
            }
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks the process to end, and returns how it did and what it printed.
    pub fn finish(mut self) -> (ExitStatus, String) {
        drop(self.stdin.take());
        let mut printed = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        (self.child.wait().unwrap(), printed)
    }

    /// As [`Process::finish`], without asking it to end.
    pub fn finish_by_itself(mut self) -> (ExitStatus, String) {
        let stdin = self.stdin.take();
        let finished = self.finish();
        drop(stdin);
        finished
    }

    /// The standard input, to be kept open beyond the process.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// SIGKILL: nothing is cleaned up.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended and been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The project's own workload, an example that `cargo test` builds.
pub fn workload() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples/workload");
    assert!(program.exists(), "{} is missing: cargo build --example workload", program.display());
    program
}

const DATABASE: &str = "PAGEVAULT_TEST_DATABASE";
const SQL: &str = "PAGEVAULT_TEST_SQL";

/// This binary again, to run the ignored test `name` alone, which finds what it needs in its environment.
pub fn this_binary(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    command
}

/// A process that has `database` open and has run `sql` on it; killed, it leaves behind what a crash does.
pub fn holder(database: &Path, sql: &str) -> Process {
    let mut command = this_binary("children::holds_a_database");
    let mut process = Process::start(command.env(DATABASE, database).env(SQL, sql));
    process.wait_for("ready");
    process
}

#[test]
#[ignore = "the process that `holder` starts"]
fn holds_a_database() {
    let Some(database) = std::env::var_os(DATABASE) else { return };
    let connection = Connection::open(database).unwrap();
    connection.execute_batch(&std::env::var(SQL).unwrap()).unwrap();
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Permissions do not bind root: as root, runs `test` again in a process of nobody's, where it must pass. `true` if
/// the caller is bound by permissions and should go on.
pub fn bound_by_permissions(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("tests");
    // By another process: a program that a fork of this one has open for writing does not start.
    super::databases::copy(&std::env::current_exe().unwrap(), &program);
    let status = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--exact", test])
        .current_dir("/")
        .status();
    match status {
        Ok(status) => assert!(status.success(), "{test} fails for a user whom permissions bind"),
        Err(error) => eprintln!("SKIPPED: {test} needs a user other than root, and setpriv failed: {error}"),
    }
    false
}

/// The command line with nothing of this machine's settings, its vault and key in `home`.
pub fn pagevault(home: &Path) -> Command {
    let program = std::env::var_os("PAGEVAULT_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_pagevault").into());
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).args(["--quiet", "--no-progress"]);
    command
}
