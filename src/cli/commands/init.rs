//! `init`: a vault with its first key.

use pagevault::Result;
use pagevault::vault::{Vault, refuse_occupied};
use serde::Serialize;

use super::super::args::InitArgs;
use super::super::context::Context;
use super::super::failure::Outcome;
use super::super::make::{Reservation, argon2_params};
use super::super::places::address;
use super::super::secret::NewSource;
use super::super::text::shell_word;

#[derive(Debug, Serialize)]
struct Made {
    vault: String,
    vault_id: String,
    slot: Option<String>,
    key_file: Option<String>,
}

/// Makes a vault.
pub(crate) fn run(args: InitArgs, context: &Context) -> Result<Outcome> {
    let source =
        NewSource::of_init(args.generate_key_file.as_deref(), &context.globals.unlock, &context.environment)?;
    let place = context.place()?.folder;
    let (secret, vault) = if address(&place).is_some() {
        let store = context.open_store()?;
        // Before a key is asked for or made.
        refuse_occupied(&*store)?;
        let secret = context.with_secrets(|secrets| secrets.read_new(&source, &place))?;
        let (cost, now) = (argon2_params(), context.now());
        let vault = Vault::create(store, &secret.unlocker, cost, args.label, now, &context.folders())?;
        (secret, vault)
    } else {
        let reservation = Reservation::take(&place)?;
        let secret = context.with_secrets(|secrets| secrets.read_new(&source, reservation.place()))?;
        let vault = reservation.create(&secret.unlocker, args.label, context.now(), &context.folders())?;
        (secret, vault)
    };
    let key_file = secret.key_file.as_ref().map(|file| file.path().display().to_string());
    let described = secret.described.clone();
    secret.keep();
    let (place, id) = (vault.place(), vault.id().to_string());
    if context.output.is_json() {
        let slot = vault.unlocked_by().map(|slot| slot.to_string());
        context.output.json(&Made { vault: place, vault_id: id, slot, key_file })?;
    } else {
        context.output.text(&format!("vault {place}\nid    {id}\nkey   {described}\n"))?;
    }
    context
        .progress
        .note("hint: without the key nothing can be restored; print a recovery key to keep on paper:");
    context.progress.note(&format!("hint: {}", recovery_command(context)?));
    Ok(Outcome::Done)
}

/// The command that prints a recovery key of this vault.
pub(crate) fn recovery_command(context: &Context) -> Result<String> {
    let place = context.place()?;
    Ok(if context.globals.vault.is_some() {
        format!("pagevault key recovery --vault {}", shell_word(&place.folder))
    } else {
        "pagevault key recovery".to_owned()
    })
}
