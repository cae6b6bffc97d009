//! Finding and reading the file, and what it means for commands that know nothing of it: its vault and key count as if a
//! variable had named them, unless one does.

use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pagevault::{Error, ErrorKind, Result};

use super::{Config, Places, Problem};
use crate::cli::environment::Environment;
use crate::cli::failure::describe;

/// No sensible configuration is longer.
const LONGEST: u64 = 4 << 20;

/// A configuration and where it was read.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// The file, absolute.
    pub(crate) file: PathBuf,
    /// What it says.
    pub(crate) config: Config,
}

/// Why there is no configuration.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// The file cannot be read.
    File(Error),
    /// It can, and says what it must not.
    Mistakes(PathBuf, Vec<Problem>),
}

impl LoadError {
    /// What it means to the caller.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::File(error) => error.kind(),
            Self::Mistakes(..) => ErrorKind::Usage,
        }
    }

    /// Lines for standard error.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::File(error) => describe(error),
            Self::Mistakes(file, problems) => {
                let one = |problem: &Problem| {
                    let message = format!("{}:{}: {}", file.display(), problem.line, problem.message);
                    describe(&Error::new(ErrorKind::Usage, message))
                };
                let mut text: String = problems.iter().map(one).collect();
                text.push_str("hint: `pagevault config example` explains every setting\n");
                text
            }
        }
    }

    /// On one line, for a log.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::File(error) => error.to_string(),
            Self::Mistakes(file, problems) => {
                let one =
                    |problem: &Problem| format!("{}:{}: {}", file.display(), problem.line, problem.message);
                problems.iter().map(one).collect::<Vec<_>>().join("; ")
            }
        }
    }
}

/// What tells that a file has changed.
pub(crate) type Seen = (SystemTime, u64);

/// As what `file` is seen now.
pub(crate) fn seen(file: &Path) -> Option<Seen> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The file that an option or a variable names; else the default one.
pub(crate) fn place(option: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    let named = option.map(Path::to_path_buf).or_else(|| environment.path("PAGEVAULT_CONFIG"));
    let file = named.or_else(|| environment.default_config())?;
    Some(std::path::absolute(&file).unwrap_or(file))
}

/// Reads the file that is named, or the default one, if there is one.
pub(crate) fn find(option: Option<&Path>, environment: &Environment) -> Result<Option<Loaded>, LoadError> {
    let is_named = option.is_some() || environment.get("PAGEVAULT_CONFIG").is_some();
    let Some(file) = place(option, environment) else { return Ok(None) };
    match read(&file, environment) {
        Err(LoadError::File(error)) if !is_named && error.kind() == ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Reads `file`.
pub(crate) fn read(file: &Path, environment: &Environment) -> Result<Loaded, LoadError> {
    let unreadable = |error: std::io::Error| {
        let kind =
            if error.kind() == IoErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Failed };
        let message = format!("cannot read the configuration {}: {error}", file.display());
        LoadError::File(
            Error::new(kind, message).with_hint("`pagevault config example` prints one to start from"),
        )
    };
    let metadata = std::fs::metadata(file).map_err(unreadable)?;
    if metadata.len() > LONGEST {
        return Err(unreadable(std::io::Error::other("it is too long to be one")));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let home = environment.path("HOME");
    let places = Places { home: home.as_deref(), folder: crate::cli::files::parent(file) };
    let config =
        Config::parse(&text, places).map_err(|problems| LoadError::Mistakes(file.to_path_buf(), problems))?;
    Ok(Loaded { file: file.to_path_buf(), config })
}

/// `environment`, with the vault and key of `config` where no variable names them.
pub(crate) fn fill(mut environment: Environment, config: &Config) -> Environment {
    let keys =
        ["PAGEVAULT_KEY_FILE", "PAGEVAULT_PASSWORD_FILE", "PAGEVAULT_PASSWORD_COMMAND", "PAGEVAULT_PASSWORD"];
    let unlock = &config.unlock;
    if keys.iter().all(|name| environment.get(name).is_none()) {
        let values = [
            unlock.key_file.clone().map(PathBuf::into_os_string),
            unlock.password_file.clone().map(PathBuf::into_os_string),
            unlock.password_command.clone().map(Into::into),
        ];
        for (name, value) in keys.into_iter().zip(values) {
            environment.set_default(name, value);
        }
    }
    environment.set_default("PAGEVAULT_VAULT", config.vault.clone().map(PathBuf::into_os_string));
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_win_over_the_file() {
        let folder = Path::new("/etc/pagevault");
        let places = Places { home: None, folder };
        let config = Config::parse("[vault]\npath = 'v'\nkey_file = '/k'", places).unwrap();
        let empty = fill(Environment::of_pairs(&[]), &config);
        assert_eq!(empty.path("PAGEVAULT_VAULT"), Some("/etc/pagevault/v".into()));
        assert_eq!(empty.path("PAGEVAULT_KEY_FILE"), Some("/k".into()));
        let named =
            fill(Environment::of_pairs(&[("PAGEVAULT_VAULT", "/o"), ("PAGEVAULT_PASSWORD", "x")]), &config);
        assert_eq!(named.path("PAGEVAULT_VAULT"), Some("/o".into()));
        assert_eq!(named.path("PAGEVAULT_KEY_FILE"), None, "another way of the same kind is named");
    }
}
