//! The vault of a command that may be the first one a new user gives: the default vault is made if there is none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pagevault::sqlite::{LiveDatabase, OpenOptions};
use pagevault::vault::Vault;
use pagevault::{Error, Result};

use super::commands::recovery_command;
use super::context::Context;
use super::make::{Reservation, holds_vault};
use super::secret::{NewSource, Source};

/// What there is to work with.
pub(crate) enum First {
    /// The vault.
    Opened(Vault),
    /// No vault, and none was made: none of the databases can be opened, for these reasons.
    NoDatabase(Vec<(PathBuf, Error)>),
}

/// Opens the vault. If it is the default one and not there, it is made, unless none of `databases` can be opened: a
/// mistyped path is no reason to make a vault.
pub(crate) fn first_vault(databases: &[PathBuf], busy_timeout: Duration, context: &Context) -> Result<First> {
    let place = context.place()?;
    if !place.is_named && !holds_vault(&place.folder) {
        if let Some(failures) = none_can_be_opened(databases, busy_timeout) {
            return Ok(First::NoDatabase(failures));
        }
        if let Some(vault) = make_default_vault(&place.folder, context)? {
            return Ok(First::Opened(vault));
        }
    }
    context.open_vault().map(First::Opened)
}

fn none_can_be_opened(databases: &[PathBuf], busy_timeout: Duration) -> Option<Vec<(PathBuf, Error)>> {
    let options = OpenOptions { busy_timeout };
    let failures = databases.iter().map(|path| match LiveDatabase::open(path, &options) {
        Ok(_) => None,
        Err(error) => Some((path.clone(), Error::from(error))),
    });
    failures.collect::<Option<Vec<_>>>().filter(|failures| !failures.is_empty())
}

/// Makes the default vault: with the key that is named, else the default key file, else a new one. `None` if
/// another process was first, such as the other line of a crontab.
fn make_default_vault(place: &Path, context: &Context) -> Result<Option<Vault>> {
    let Some(reservation) = Reservation::take_unless_vault(place)? else { return Ok(None) };
    let source = match Source::named(&context.globals.unlock, &context.environment)? {
        Some(source) => NewSource::From(source),
        None => match context.default_key_file() {
            Some(path) => NewSource::From(Source::KeyFile(path)),
            None => NewSource::Generate(context.new_default_key_file()?),
        },
    };
    let secret = context.with_secrets(|secrets| secrets.read_new(&source, reservation.place()))?;
    let vault = reservation.create(&secret.unlocker, None, context.now(), &context.folders())?;
    let note = |line: &str| context.progress.note(line);
    note(&format!("made a new vault at {}", vault.place()));
    match &secret.key_file {
        Some(file) => note(&format!("made its key file {}: keep a copy elsewhere", file.path().display())),
        None => note(&format!("it opens with {}", secret.described)),
    }
    note(&format!("hint: print a recovery key to keep on paper: {}", recovery_command(context)?));
    secret.keep();
    Ok(Some(vault))
}
