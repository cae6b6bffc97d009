//! The environment, read in one place: variables of pagevault's own, and the folders of the user.
//!
//! Passed as a value, so that what a variable means can be tested without setting one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// Environment variables. An empty one counts as unset, as the XDG specification has it.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<&'static str, OsString>,
}

/// Names only: a value may be a secret.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

/// All that pagevault looks at.
const VARIABLES: &[&str] = &[
    "PAGEVAULT_CONFIG",
    "PAGEVAULT_VAULT",
    "PAGEVAULT_KEY_FILE",
    "PAGEVAULT_PASSWORD_FILE",
    "PAGEVAULT_PASSWORD_COMMAND",
    "PAGEVAULT_PASSWORD",
    "PAGEVAULT_LOG",
    "PAGEVAULT_COPIES",
    "PAGEVAULT_CACHE_SIZE",
    "PAGEVAULT_WEBDAV_USER",
    "PAGEVAULT_WEBDAV_PASSWORD",
    "PAGEVAULT_WEBDAV_TOKEN",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "XDG_STATE_HOME",
];

impl Environment {
    /// The environment of this process.
    pub(crate) fn of_process() -> Self {
        Self::of(|name| std::env::var_os(name))
    }

    /// The environment in which `look_up` finds the variables.
    pub(crate) fn of(look_up: impl Fn(&str) -> Option<OsString>) -> Self {
        let variables = VARIABLES
            .iter()
            .copied()
            .filter_map(|name| look_up(name).filter(|value| !value.is_empty()).map(|value| (name, value)));
        Self { variables: variables.collect() }
    }

    /// The value of a variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&OsString> {
        self.variables.get(name)
    }

    /// The value of a variable as a path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// Gives a variable that is not set a value.
    pub(crate) fn set_default(&mut self, name: &'static str, value: Option<OsString>) {
        if let Some(value) = value {
            self.variables.entry(name).or_insert(value);
        }
    }

    /// The configuration file that is used unless one is named.
    pub(crate) fn default_config(&self) -> Option<PathBuf> {
        Some(self.folder("XDG_CONFIG_HOME", ".config")?.join("config.toml"))
    }

    /// Where a vault is unless one is named.
    pub(crate) fn default_vault(&self) -> Option<PathBuf> {
        Some(self.folder("XDG_DATA_HOME", ".local/share")?.join("vault"))
    }

    /// The key file that is used unless something else is named.
    pub(crate) fn default_key_file(&self) -> Option<PathBuf> {
        Some(self.folder("XDG_CONFIG_HOME", ".config")?.join("vault.key"))
    }

    /// For what can be lost at the cost of time.
    pub(crate) fn cache_folder(&self) -> Option<PathBuf> {
        self.folder("XDG_CACHE_HOME", ".cache")
    }

    /// For what this machine remembers.
    pub(crate) fn state_folder(&self) -> Option<PathBuf> {
        self.folder("XDG_STATE_HOME", ".local/state")
    }

    /// pagevault's folder in one of the user's base folders; relative ones are invalid and ignored.
    fn folder(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let named = self.path(variable).filter(|path| path.is_absolute());
        let base = named.or_else(|| {
            self.path("HOME").filter(|path| path.is_absolute()).map(|home| home.join(below_home))
        })?;
        Some(base.join("pagevault"))
    }
}

#[cfg(test)]
impl Environment {
    /// An environment of just these variables.
    pub(crate) fn of_pairs(pairs: &[(&str, &str)]) -> Self {
        Self::of(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_follow_xdg_and_fall_back_to_home() {
        let home = Environment::of_pairs(&[("HOME", "/home/u")]);
        assert_eq!(home.default_vault(), Some("/home/u/.local/share/pagevault/vault".into()));
        assert_eq!(home.default_key_file(), Some("/home/u/.config/pagevault/vault.key".into()));
        assert_eq!(home.cache_folder(), Some("/home/u/.cache/pagevault".into()));
        assert_eq!(home.state_folder(), Some("/home/u/.local/state/pagevault".into()));
        let named = Environment::of_pairs(&[("HOME", "/home/u"), ("XDG_DATA_HOME", "/data")]);
        assert_eq!(named.default_vault(), Some("/data/pagevault/vault".into()));
    }

    #[test]
    fn empty_and_relative_values_do_not_count() {
        let odd =
            Environment::of_pairs(&[("HOME", "/h"), ("XDG_DATA_HOME", ""), ("XDG_CACHE_HOME", "cache")]);
        assert_eq!(odd.default_vault(), Some("/h/.local/share/pagevault/vault".into()));
        assert_eq!(odd.cache_folder(), Some("/h/.cache/pagevault".into()));
        assert_eq!(Environment::default().default_vault(), None);
        assert_eq!(Environment::of_pairs(&[("PAGEVAULT_VAULT", "")]).get("PAGEVAULT_VAULT"), None);
    }
}
