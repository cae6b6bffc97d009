//! What every command works with: the place of the vault, the key to it, this machine's folders, and the three
//! channels: results, progress, questions.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use pagevault::clock::{Clock, SystemClock};
use pagevault::crypto::unlock::Unlocker;
use pagevault::ids::VaultId;
use pagevault::monitor::Monitor;
use pagevault::operations::host::this_host;
use pagevault::operations::snapshot::Host;
use pagevault::operations::sync::identity;
use pagevault::store::{FallbackStore, Store, Told};
use pagevault::vault::{LocalFolders, LockedVault, Vault, VaultError};
use pagevault::{Error, ErrorKind, Result};

use super::args::Globals;
use super::config::load::{self, Loaded};
use super::environment::Environment;
use super::key_file;
use super::output::Output;
use super::places::{Opener, absolute, shown};
use super::progress::{Loudness, Progress};
use super::requests::RequestLog;
use super::secret::{Secrets, Source};
use super::terminal::{SystemTerminal, Terminal, interrupted};
use super::text::shell_word;

/// How often a passphrase may be typed.
const ATTEMPTS: usize = 3;

/// Everything around a command.
#[derive(Debug)]
pub(crate) struct Context {
    /// The options of every command.
    pub(crate) globals: Globals,
    /// Variables, and what the configuration says where they are silent.
    pub(crate) environment: Arc<Environment>,
    /// Opens stores.
    pub(crate) places: Opener,
    /// What remote ones were asked for.
    pub(crate) requests: RequestLog,
    /// The configuration, where there is one.
    pub(crate) loaded: Option<Loaded>,
    /// Results.
    pub(crate) output: Output,
    /// Everything else that is said.
    pub(crate) progress: Progress,
    /// The time.
    pub(crate) clock: SystemClock,
    /// What a store with copies said.
    from_copies: Arc<Mutex<Vec<Told>>>,
}

/// Where the vault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its folder, absolute, or its address.
    pub(crate) folder: PathBuf,
    /// Whether an option or a variable names it.
    pub(crate) is_named: bool,
}

impl Context {
    /// For a command line, its environment and its configuration.
    pub(crate) fn new(globals: Globals, environment: Environment, loaded: Option<Loaded>) -> Self {
        let loudness = loudness(&globals, &environment);
        let environment = match &loaded {
            Some(loaded) => load::fill(environment, &loaded.config),
            None => environment,
        };
        let (environment, requests) = (Arc::new(environment), RequestLog::default());
        Self {
            loaded,
            places: Opener::new(Arc::clone(&environment), requests.clone()),
            output: Output::new(globals.json, requests.clone()),
            requests,
            progress: Progress::new(!globals.no_progress && !globals.json, loudness),
            clock: SystemClock,
            from_copies: Arc::default(),
            globals,
            environment,
        }
    }

    /// The current instant.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Where the vault is, or is to be.
    pub(crate) fn place(&self) -> Result<Place> {
        place(self.globals.vault.as_deref(), &self.environment)
    }

    /// This machine.
    pub(crate) fn host(&self) -> Result<Host> {
        this_host(self.environment.state_folder().as_deref())
    }

    /// Folders that the vault's client may use.
    pub(crate) fn folders(&self) -> LocalFolders {
        LocalFolders { cache: self.environment.cache_folder(), state: self.environment.state_folder() }
    }

    /// The person at the terminal.
    pub(crate) const fn terminal(&self) -> SystemTerminal<'_> {
        SystemTerminal(&self.progress)
    }

    /// Runs `use_them` with a reader of secrets.
    pub(crate) fn with_secrets<T>(&self, use_them: impl FnOnce(&Secrets<'_>) -> Result<T>) -> Result<T> {
        let terminal = self.terminal();
        use_them(&Secrets { terminal: &terminal, monitor: &self.progress })
    }

    /// Asks before something is done that cannot be undone; without a terminal the answer is no.
    pub(crate) fn confirm(&self, question: &str) -> Result<bool> {
        self.terminal().confirm(question)
    }

    /// The store of an existing vault.
    pub(crate) fn open_store(&self) -> Result<Box<dyn Store>> {
        self.open_store_with(&self.places)
    }

    /// As [`open_store`](Self::open_store), by these means.
    pub(crate) fn open_store_with(&self, places: &Opener) -> Result<Box<dyn Store>> {
        let place = self.place()?;
        let store = places.find(&place.folder)?.ok_or_else(|| no_vault(&place))?;
        self.progress.detail(&format!("vault: {}", store.describe()));
        Ok(store)
    }

    /// The copies that options name; else the variable; else the configuration.
    fn copies(&self, named: &[PathBuf]) -> Vec<PathBuf> {
        if !named.is_empty() {
            return named.to_vec();
        }
        if let Some(variable) = self.environment.get("PAGEVAULT_COPIES") {
            let variable = variable.to_string_lossy();
            return variable
                .split(',')
                .map(str::trim)
                .filter(|it| !it.is_empty())
                .map(PathBuf::from)
                .collect();
        }
        self.loaded.as_ref().map(|loaded| loaded.config.copies.clone()).unwrap_or_default()
    }

    /// As [`open_store`](Self::open_store); what is missing or damaged in it comes from copies.
    fn open_store_with_copies(&self, named: &[PathBuf]) -> Result<Box<dyn Store>> {
        let mut copies = Vec::new();
        for place in self.copies(named) {
            match self.places.find_copy(&place) {
                Ok(Some(copy)) => copies.push(copy),
                Ok(None) => self.progress.warn(&format!("there is no copy at {}", shown(&place))),
                Err(error) if error.kind() == ErrorKind::Usage && !named.is_empty() => return Err(error),
                Err(error) => self.progress.warn(&format!("a copy is not used: {error}")),
            }
        }
        let store = match self.open_store() {
            // The copies are there for exactly this.
            Err(error) if error.kind() == ErrorKind::NotFound && !copies.is_empty() => {
                self.progress.warn(&format!("{error}; the copies are used"));
                copies.remove(0)
            }
            store => store?,
        };
        if copies.is_empty() {
            return Ok(store);
        }
        let own = identity(&*store);
        copies.retain(|copy| self.is_copy_of(&own, &**copy));
        if copies.is_empty() {
            return Ok(store);
        }
        let heard = Arc::clone(&self.from_copies);
        let say = move |told: &Told| {
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(told.clone());
        };
        let is_silent = match &own {
            // It was waited for once, which is enough.
            Err(error) if store.is_remote() && error.kind() == ErrorKind::Failed => {
                self.progress.warn(&format!("{error}; the copies are read instead"));
                true
            }
            _ => false,
        };
        let store = FallbackStore::new(store, copies, Box::new(say));
        Ok(Box::new(if is_silent { store.with_silent_first() } else { store }))
    }

    /// Whether it is of the same vault, as far as that can be told: what the vault itself has lost, a copy may still have.
    fn is_copy_of(&self, own: &Result<VaultId>, copy: &dyn Store) -> bool {
        let place = copy.describe();
        match (own, identity(copy)) {
            (Ok(own), Ok(theirs)) if *own != theirs => {
                self.progress.warn(&format!("{place} holds another vault, {theirs}, and is not used"));
                false
            }
            (_, Err(error)) => {
                self.progress.warn(&format!("a copy is not used: {error}"));
                false
            }
            _ => true,
        }
    }

    /// Says what had to be taken from copies.
    pub(crate) fn say_what_came_from_copies(&self) {
        let said = std::mem::take(&mut *self.from_copies.lock().unwrap_or_else(PoisonError::into_inner));
        for told in &said {
            let (Told::Mendable(message) | Told::Silent(message)) = told;
            self.progress.warn(message);
        }
        if said.iter().any(|told| matches!(told, Told::Mendable(_))) {
            self.progress
                .note("hint: `pagevault sync --vault COPY --verify VAULT` mends the vault from the copy");
        }
    }

    /// Finds and unlocks the vault.
    pub(crate) fn open_vault(&self) -> Result<Vault> {
        Ok(self.open_vault_and_key()?.0)
    }

    /// Finds and unlocks the vault; with what unlocked it, for whoever has to open it again.
    pub(crate) fn open_vault_and_key(&self) -> Result<(Vault, Unlocker)> {
        self.unlock(|| self.open_store())
    }

    /// As [`open_vault`](Self::open_vault), with copies to turn to: for reading. Those that are `named` by options come before
    /// all others.
    pub(crate) fn open_vault_with_copies(&self, named: &[PathBuf]) -> Result<Vault> {
        Ok(self.unlock(|| self.open_store_with_copies(named))?.0)
    }

    fn unlock(&self, open: impl Fn() -> Result<Box<dyn Store>>) -> Result<(Vault, Unlocker)> {
        let mut attempt = 1;
        loop {
            let locked = LockedVault::find(open()?)?;
            // A damaged key slot may be why a right key will not open the vault.
            if attempt == 1 {
                locked.warnings().iter().for_each(|warning| self.progress.warn(warning));
            }
            let said = locked.warnings().len();
            let (source, unlocker) = self.with_secrets(|secrets| self.choose_key(&locked, secrets))?;
            self.progress.detail(&format!("key: {}", source.describe()));
            match locked.unlock(&unlocker, &self.folders()) {
                Err(error @ VaultError::WrongKey { .. })
                    if source == Source::Prompt && attempt < ATTEMPTS =>
                {
                    self.progress.always(&format!("{error}, try again\n"));
                    attempt += 1;
                }
                Err(error) => return Err(unopened(error, &source)),
                Ok(_) if self.progress.interrupted() => return Err(interrupted()),
                Ok(vault) => {
                    vault.warnings().iter().skip(said).for_each(|warning| self.progress.warn(warning));
                    return Ok((vault, unlocker));
                }
            }
        }
    }

    /// What is named; else the default key file if it is for this vault; else the person at the terminal.
    fn choose_key(&self, locked: &LockedVault, secrets: &Secrets<'_>) -> Result<(Source, Unlocker)> {
        if let Some(source) = Source::named(&self.globals.unlock, &self.environment)? {
            return Ok((source.clone(), secrets.read(&source)?));
        }
        if let Some(path) = self.default_key_file() {
            let source = Source::KeyFile(path.clone());
            let unlocker = secrets.read(&source);
            let fits = |slot: &pagevault::vault::SlotSource| {
                unlocker.as_ref().is_ok_and(|unlocker| !matches!(unlocker.open(&slot.slot), Ok(None)))
            };
            if locked.slots().iter().any(fits) || !secrets.terminal.is_attended() {
                return Ok((source, unlocker?));
            }
            match &unlocker {
                Ok(_) => self.progress.note(&format!("{} does not open this vault", path.display())),
                Err(error) => self.progress.warn(&error.to_string()),
            }
        }
        Ok((Source::Prompt, secrets.read(&Source::Prompt)?))
    }

    /// The default key file, if it is there.
    pub(crate) fn default_key_file(&self) -> Option<PathBuf> {
        // One that cannot be looked at is there: reading it will say why it cannot be used.
        self.environment.default_key_file().filter(|path| path.try_exists().unwrap_or(true))
    }

    /// Where a new default key file goes, with its folder made.
    pub(crate) fn new_default_key_file(&self) -> Result<PathBuf> {
        let path = self.environment.default_key_file().ok_or_else(homeless)?;
        key_file::make_folder(&path)?;
        Ok(path)
    }
}

fn place(option: Option<&Path>, environment: &Environment) -> Result<Place> {
    let named = option.map(Path::to_path_buf).or_else(|| environment.path("PAGEVAULT_VAULT"));
    let is_named = named.is_some();
    let folder = named.or_else(|| environment.default_vault()).ok_or_else(homeless)?;
    Ok(Place { folder: absolute(&folder)?, is_named })
}

fn no_vault(place: &Place) -> Error {
    let folder = place.folder.display();
    let hint = if place.is_named {
        format!("check the path, or make a vault with `pagevault init --vault {}`", shell_word(&place.folder))
    } else {
        "`pagevault snapshot DB` or `pagevault init` makes one; --vault names another".to_owned()
    };
    Error::new(ErrorKind::NotFound, format!("there is no vault at {folder}")).with_hint(hint)
}

/// Says which key it was that did not open the vault: nobody may have named it.
fn unopened(error: VaultError, source: &Source) -> Error {
    let VaultError::WrongKey { place, .. } = &error else { return error.into() };
    let message = match source {
        Source::Prompt => error.to_string(),
        source => format!("{} does not open the vault at {place}", source.describe()),
    };
    Error::new(ErrorKind::Unlock, message)
        .with_hint("name its key with --key-file or --password-file; a recovery key opens it as well")
}

fn homeless() -> Error {
    Error::new(ErrorKind::Usage, "HOME is not set, so there is no default place for vault and key")
        .with_hint("name them with --vault and --key-file, or set HOME")
}

fn loudness(globals: &Globals, environment: &Environment) -> Loudness {
    let variable = environment.get("PAGEVAULT_LOG").and_then(|value| value.to_str());
    match (globals.quiet, globals.verbose, variable) {
        (true, ..) | (_, false, Some("quiet")) => Loudness::Quiet,
        (_, true, _) | (.., Some("verbose")) => Loudness::Verbose,
        _ => Loudness::Normal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vault_is_where_the_option_says_then_the_variable_then_the_default() {
        let variable = Environment::of_pairs(&[("PAGEVAULT_VAULT", "/v"), ("HOME", "/h")]);
        let at = |option: Option<&str>, environment: &Environment| {
            place(option.map(Path::new), environment).map(|place| (place.folder, place.is_named)).unwrap()
        };
        assert_eq!(at(Some("/o"), &variable), ("/o".into(), true));
        assert_eq!(at(None, &variable), ("/v".into(), true));
        let home = Environment::of_pairs(&[("HOME", "/h")]);
        assert_eq!(at(None, &home), ("/h/.local/share/pagevault/vault".into(), false));
        assert!(at(Some("relative"), &home).0.is_absolute());
    }

    #[test]
    fn nowhere_and_elsewhere_are_usage_errors() {
        assert_eq!(place(None, &Environment::default()).unwrap_err().kind(), ErrorKind::Usage);
        let named = |text: &str| place(Some(Path::new(text)), &Environment::default()).unwrap().folder;
        assert_eq!(named("s3://bucket/vault"), Path::new("s3://bucket/vault"));
        assert_eq!(named("file:///srv/vault"), Path::new("/srv/vault"));
    }

    #[test]
    fn options_win_over_the_variable_for_loudness() {
        let quiet = Environment::of_pairs(&[("PAGEVAULT_LOG", "quiet")]);
        let verbose = Environment::of_pairs(&[("PAGEVAULT_LOG", "verbose")]);
        let options = |quiet, verbose| Globals { quiet, verbose, ..Globals::default() };
        assert_eq!(loudness(&options(false, false), &quiet), Loudness::Quiet);
        assert_eq!(loudness(&options(false, true), &quiet), Loudness::Verbose);
        assert_eq!(loudness(&options(true, false), &verbose), Loudness::Quiet);
        assert_eq!(loudness(&options(false, false), &verbose), Loudness::Verbose);
        assert_eq!(loudness(&Globals::default(), &Environment::default()), Loudness::Normal);
    }
}
