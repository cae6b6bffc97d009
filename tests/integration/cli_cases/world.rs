//! The folder, the home and the program of one case.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rusqlite::Connection;

use super::expect::{self, Output};

/// What a step may fail with: a sentence.
type Step = Result<(), String>;

/// All that a case can see and change.
pub struct World {
    folder: tempfile::TempDir,
    variables: BTreeMap<String, String>,
    names: BTreeMap<String, String>,
    input: String,
    closed_stdout: bool,
    locks: Vec<Connection>,
    output: Option<Output>,
}

impl World {
    /// An empty one.
    pub fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let root = folder.path().canonicalize().map_err(|error| error.to_string())?;
        let (home, dir) = (root.join("home"), root.join("dir"));
        for made in [&home, &dir] {
            fs::create_dir(made).map_err(|error| error.to_string())?;
        }
        let text = |path: &Path| path.display().to_string();
        Ok(Self {
            variables: [("HOME", text(&home)), ("TZ", "UTC".to_owned())]
                .map(|(n, v)| (n.to_owned(), v))
                .into(),
            names: [("home", text(&home)), ("dir", text(&dir))].map(|(n, v)| (n.to_owned(), v)).into(),
            folder,
            input: String::new(),
            closed_stdout: false,
            locks: Vec::new(),
            output: None,
        })
    }

    /// Does what a line says, or finds that it does not hold.
    pub fn step(&mut self, line: &str) -> Step {
        let line = self.fill(line);
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        if let Some(output) = &mut self.output
            && let Some(outcome) = expect::judge(output, verb, rest)
        {
            return outcome;
        }
        match verb {
            "let" => self.remember(rest),
            "run" => self.run(rest),
            "env" => {
                let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
                self.variables.insert(name.to_owned(), value.to_owned());
                Ok(())
            }
            "input" => {
                self.input = format!("{}\n", unescape(rest));
                Ok(())
            }
            "closed-stdout" => {
                self.closed_stdout = true;
                Ok(())
            }
            "write" => {
                let (file, text) = rest.split_once(' ').ok_or("expected FILE TEXT")?;
                fs::write(self.path(file), unescape(text)).map_err(|error| error.to_string())
            }
            "lock" => self.lock(rest),
            _ => self.touch(verb, &words(rest)?),
        }
    }

    /// What files are, or are to become.
    fn touch(&self, verb: &str, words: &[String]) -> Step {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = |error: std::io::Error| error.to_string();
        match (verb, words.as_slice()) {
            ("database", [file, rows @ ..]) => {
                database(&self.path(file), rows.first().map_or(Ok(100), |rows| rows.parse()).unwrap_or(100))
            }
            ("sql", [file, sql]) => {
                let connection = Connection::open(self.path(file)).map_err(|error| error.to_string())?;
                connection.execute_batch(sql).map_err(|error| error.to_string())
            }
            ("folder", [folder]) => fs::create_dir_all(self.path(folder)).map_err(said),
            ("mode", [mode, file]) => {
                let mode = u32::from_str_radix(mode, 8).map_err(|error| error.to_string())?;
                fs::set_permissions(self.path(file), fs::Permissions::from_mode(mode)).map_err(said)
            }
            ("remove", [path]) => {
                let path = self.path(path);
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.map_err(said)
            }
            ("copy", [from, to]) => copy(&self.path(from), &self.path(to)).map_err(said),
            ("damage", [folder]) => damage(&self.path(folder)).map_err(said),
            ("file", [path, mode @ ..]) => expect::file(&self.path(path), mode.first().copied()),
            ("no-file", [path]) => {
                let path = self.path(path);
                if path.symlink_metadata().is_ok() {
                    Err(format!("{} is there", path.display()))
                } else {
                    Ok(())
                }
            }
            ("same", [one, other]) => {
                let read = |file: &str| fs::read(self.path(file)).map_err(|error| format!("{file}: {error}"));
                if read(one)? == read(other)? { Ok(()) } else { Err("they differ".to_owned()) }
            }
            ("rows", [file, count]) => expect::rows(&self.path(file), count),
            _ => Err("no such verb, or not with these words".to_owned()),
        }
    }

    /// That the last run ended well, unless the case said otherwise.
    pub fn check_exit(&self) -> Step {
        self.output.as_ref().map_or(Ok(()), Output::check_exit)
    }

    /// What the last run said, for whoever reads of a failure.
    pub fn last_run(&self) -> String {
        self.output.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    fn run(&mut self, arguments: &str) -> Step {
        self.check_exit()?;
        let binary =
            std::env::var_os("PAGEVAULT_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_pagevault").into());
        let mut child = Command::new(binary)
            .args(words(arguments)?)
            .current_dir(self.path("."))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&self.variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read its input is not at fault.
            let _ = stdin.write_all(std::mem::take(&mut self.input).as_bytes());
        }
        if std::mem::take(&mut self.closed_stdout) {
            drop(child.stdout.take());
        }
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        self.output = Some(Output::new(&output));
        Ok(())
    }

    fn remember(&mut self, rest: &str) -> Step {
        let (name, pointer) = rest.split_once(' ').ok_or("expected NAME POINTER")?;
        let value = self.output.as_ref().ok_or("nothing was run")?.value(pointer)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.names.insert(name.to_owned(), text);
        Ok(())
    }

    fn lock(&mut self, file: &str) -> Step {
        let connection = Connection::open(self.path(file)).map_err(|error| error.to_string())?;
        connection.execute_batch("BEGIN EXCLUSIVE").map_err(|error| error.to_string())?;
        self.locks.push(connection);
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("dir").join(name)
    }

    fn fill(&self, line: &str) -> String {
        self.names
            .iter()
            .fold(line.to_owned(), |line, (name, value)| line.replace(&format!("{{{name}}}"), value))
    }
}

/// A database with a table of some rows.
fn database(path: &Path, rows: u32) -> Step {
    let sql = format!(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
         WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {rows})
         INSERT INTO note SELECT n, printf('note %08d, %08x', n, n * 2654435761) FROM number;"
    );
    let connection = Connection::open(path).map_err(|error| error.to_string())?;
    connection.execute_batch(&sql).map_err(|error| error.to_string())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(|_| ());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn damage(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return fs::read_dir(path)?.try_for_each(|entry| damage(&entry?.path()));
    }
    let mut bytes = fs::read(path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes)
}

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\r", "\r")
}

/// Words as a shell splits them: quotes keep what is inside together.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    if quote.is_some() { Err("a quote is not closed".to_owned()) } else { Ok(words) }
}
