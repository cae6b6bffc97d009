//! What a vault is unlocked with, and what a new key is made from.
//!
//! The order is: options, variables of the environment, the default key file, a prompt. Two options are a
//! mistake; an option wins over any variable. Secrets are never arguments of the command line, where every
//! process of the machine could read them, and are wiped from memory after use.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pagevault::crypto::secret::{Passphrase, TextForm};
use pagevault::crypto::unlock::Unlocker;
use pagevault::monitor::Monitor;
use pagevault::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::args::{NewSecretArgs, UnlockOptions};
use super::environment::Environment;
use super::files;
use super::key_file::{self, NewKeyFile};
use super::terminal::{Terminal, interrupted};

/// How a recovery key begins, in small letters.
const RECOVERY_PREFIX: &[u8] = b"pvrecovery1";

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A key file.
    KeyFile(PathBuf),
    /// The first line of a file.
    PasswordFile(PathBuf),
    /// The first line of what a shell command prints.
    PasswordCommand(OsString),
    /// `PAGEVAULT_PASSWORD`.
    Variable(Zeroizing<Vec<u8>>),
    /// The person at the terminal.
    Prompt,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl Source {
    /// The source that an option or a variable names, if one does.
    pub(crate) fn named(options: &UnlockOptions, environment: &Environment) -> Result<Option<Self>> {
        let given = [
            options.key_file.clone().map(Self::KeyFile),
            options.password_file.clone().map(Self::PasswordFile),
            options.password_command.as_ref().map(|command| Self::PasswordCommand(command.into())),
        ];
        let mut given = given.into_iter().flatten();
        let first = given.next();
        if given.next().is_some() {
            return Err(Error::new(
                ErrorKind::Usage,
                "only one of --key-file, --password-file and --password-command can be given",
            ));
        }
        Ok(first.or_else(|| Self::of_environment(environment)))
    }

    fn of_environment(environment: &Environment) -> Option<Self> {
        let key_file = || environment.path("PAGEVAULT_KEY_FILE").map(Self::KeyFile);
        let file = || environment.path("PAGEVAULT_PASSWORD_FILE").map(Self::PasswordFile);
        let command = || environment.get("PAGEVAULT_PASSWORD_COMMAND").cloned().map(Self::PasswordCommand);
        let variable = || {
            let value = environment.get("PAGEVAULT_PASSWORD")?;
            Some(Self::Variable(Zeroizing::new(value.as_bytes().to_vec())))
        };
        key_file().or_else(file).or_else(command).or_else(variable)
    }

    /// In words, without the secret.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::KeyFile(path) => format!("key file {}", path.display()),
            Self::PasswordFile(path) => format!("the first line of {}", path.display()),
            Self::PasswordCommand(_) => "the output of the password command".to_owned(),
            Self::Variable(_) => "PAGEVAULT_PASSWORD".to_owned(),
            Self::Prompt => "a passphrase typed at the prompt".to_owned(),
        }
    }
}

/// Where a new secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NewSource {
    /// From somewhere.
    From(Source),
    /// It is made, and written to a new key file.
    Generate(PathBuf),
}

impl NewSource {
    /// What `key add` and `key change` were told.
    pub(crate) fn of_args(args: &NewSecretArgs) -> Self {
        let existing = args.new_key_file.clone().map(Source::KeyFile);
        let file = args.new_password_file.clone().map(Source::PasswordFile);
        let command = args.new_password_command.as_ref().map(|line| Source::PasswordCommand(line.into()));
        match (&args.generate_key_file, existing.or(file).or(command)) {
            (Some(path), _) => Self::Generate(path.clone()),
            (None, source) => Self::From(source.unwrap_or(Source::Prompt)),
        }
    }

    /// What `init` was told.
    pub(crate) fn of_init(
        generate: Option<&Path>,
        options: &UnlockOptions,
        environment: &Environment,
    ) -> Result<Self> {
        let Some(path) = generate else {
            return Ok(Self::From(Source::named(options, environment)?.unwrap_or(Source::Prompt)));
        };
        if Source::named(options, &Environment::default())?.is_some() {
            return Err(Error::new(
                ErrorKind::Usage,
                "--generate-key-file makes the key; no other source of one can be given",
            ));
        }
        Ok(Self::Generate(path.to_path_buf()))
    }
}

/// A new secret, and the key file that was made for it.
#[derive(Debug)]
pub(crate) struct NewSecret {
    /// Makes the key slot.
    pub(crate) unlocker: Unlocker,
    /// Goes again unless kept.
    pub(crate) key_file: Option<NewKeyFile>,
    /// What will open the vault, in words.
    pub(crate) described: String,
}

impl NewSecret {
    /// The vault depends on it now.
    pub(crate) fn keep(self) {
        if let Some(file) = self.key_file {
            file.keep();
        }
    }
}

/// Reads secrets.
#[derive(Clone, Copy)]
pub(crate) struct Secrets<'a> {
    /// Whom to ask.
    pub(crate) terminal: &'a dyn Terminal,
    /// Whom to warn.
    pub(crate) monitor: &'a dyn Monitor,
}

impl Secrets<'_> {
    /// Reads what an existing vault is to be unlocked with.
    pub(crate) fn read(&self, source: &Source) -> Result<Unlocker> {
        if let Source::KeyFile(path) = source {
            return key_file::read(path, self.monitor).map(Unlocker::KeyFile);
        }
        let text = match source {
            Source::Prompt => self.ask("Passphrase or recovery key: ")?,
            _ => self.read_line(source)?,
        };
        unlocker_of(&text)
    }

    /// Reads or makes what a vault at `vault` is to be opened with from now on.
    pub(crate) fn read_new(&self, source: &NewSource, vault: &Path) -> Result<NewSecret> {
        let (source, text) = match source {
            NewSource::Generate(path) => {
                let (file, secret) = NewKeyFile::create(path, vault)?;
                let described = format!("key file {}", file.path().display());
                return Ok(NewSecret {
                    unlocker: Unlocker::KeyFile(secret),
                    key_file: Some(file),
                    described,
                });
            }
            NewSource::From(source @ Source::KeyFile(_)) => {
                let unlocker = self.read(source)?;
                return Ok(NewSecret { unlocker, key_file: None, described: source.describe() });
            }
            NewSource::From(Source::Prompt) => (&Source::Prompt, self.ask_twice()?),
            NewSource::From(source) => (source, self.read_line(source)?),
        };
        if is_recovery_key(&text) {
            return Err(Error::new(ErrorKind::Usage, "a passphrase cannot begin like a recovery key")
                .with_hint("choose another; `pagevault key recovery` makes a recovery key"));
        }
        let described = match source {
            Source::Prompt => "the passphrase".to_owned(),
            source => format!("the passphrase from {}", source.describe()),
        };
        let unlocker = Unlocker::Passphrase(Passphrase::new(text.to_vec()));
        Ok(NewSecret { unlocker, key_file: None, described })
    }

    fn ask_twice(&self) -> Result<Zeroizing<Vec<u8>>> {
        let first = self.ask("New passphrase: ")?;
        let second = self.ask("The same again: ")?;
        if first == second {
            return Ok(first);
        }
        Err(Error::new(ErrorKind::Usage, "the two passphrases differ")
            .with_hint("try again; nothing was changed"))
    }

    fn ask(&self, prompt: &str) -> Result<Zeroizing<Vec<u8>>> {
        if !self.terminal.is_attended() {
            return Err(Error::new(
                ErrorKind::Unlock,
                "no key was given, and there is no terminal to ask for one",
            )
            .with_hint("use --key-file, --password-file, --password-command or PAGEVAULT_PASSWORD"));
        }
        let answer = self.terminal.ask_secret(prompt)?;
        if self.monitor.interrupted() {
            return Err(interrupted());
        }
        if answer.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "an empty passphrase protects nothing"));
        }
        Ok(Zeroizing::new(answer.as_bytes().to_vec()))
    }

    /// The first line, byte for byte, without its end.
    fn read_line(&self, source: &Source) -> Result<Zeroizing<Vec<u8>>> {
        let content = match source {
            Source::PasswordFile(path) => {
                let file = files::read_secret(path)
                    .map_err(|error| key_file::unreadable("password file", path, &error))?;
                if let Some(mode) = file.exposed_mode {
                    key_file::warn_of_exposure("password file", path, mode, self.monitor);
                }
                file.content
            }
            Source::PasswordCommand(command) => self.run(command)?,
            Source::Variable(value) => value.clone(),
            Source::KeyFile(_) | Source::Prompt => Zeroizing::default(),
        };
        let line = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            let message = format!("no passphrase: {} is empty", source.describe());
            return Err(Error::new(ErrorKind::Unlock, message));
        }
        Ok(Zeroizing::new(line.to_vec()))
    }

    fn run(&self, command: &OsString) -> Result<Zeroizing<Vec<u8>>> {
        let failed = |why: String| {
            Error::new(ErrorKind::Unlock, format!("the password command {why}"))
                .with_hint("it is run by `sh -c` and must print the passphrase in its first line")
        };
        let cannot_run = |error: std::io::Error| failed(format!("cannot be run: {error}"));
        // Standard input and error stay: the command may ask for a passphrase of its own.
        let mut child = Command::new("sh").arg("-c").arg(command).stdout(Stdio::piped()).spawn();
        let child = child.as_mut().map_err(|error| failed(format!("cannot be run: {error}")))?;
        let output = match child.stdout.take() {
            Some(stdout) => files::read_limited(stdout),
            None => Ok(Zeroizing::default()),
        };
        let status = child.wait().map_err(cannot_run)?;
        if self.monitor.interrupted() {
            return Err(interrupted());
        }
        let output = output.map_err(cannot_run)?;
        if status.success() { Ok(output) } else { Err(failed(format!("failed ({status})"))) }
    }
}

/// A recovery key is told from a passphrase by how it begins.
fn is_recovery_key(text: &[u8]) -> bool {
    let start = text.trim_ascii_start();
    start.get(..RECOVERY_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(RECOVERY_PREFIX))
}

fn unlocker_of(text: &[u8]) -> Result<Unlocker> {
    if !is_recovery_key(text) {
        return Ok(Unlocker::Passphrase(Passphrase::new(text.to_vec())));
    }
    let mistyped = |reason: String| {
        Error::new(ErrorKind::Unlock, format!("this is not a whole recovery key: {reason}")).with_hint(
            "compare it with the paper group by group; after the first hyphen there is no B, I, O or 1 in it",
        )
    };
    let text = std::str::from_utf8(text).map_err(|_| mistyped("it is not text".to_owned()))?;
    TextForm::RecoveryKey.read(text).map(Unlocker::RecoveryKey).map_err(|error| mistyped(error.to_string()))
}

#[cfg(test)]
mod tests;
