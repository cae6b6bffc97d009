//! `key`: the slots that open a vault. Every change keeps one that works: a new key is in place before an old
//! one goes.

use pagevault::crypto::secret::{Secret32, TextForm};
use pagevault::crypto::unlock::Unlocker;
use pagevault::ids::SlotId;
use pagevault::vault::{Slot, Vault};
use pagevault::{Error, ErrorKind, Result};
use serde::Serialize;
use zeroize::Zeroizing;

use super::super::args::{KeyCommand, NewSecretArgs};
use super::super::context::Context;
use super::super::failure::Outcome;
use super::super::make::argon2_params;
use super::super::output::Output;
use super::super::secret::NewSource;
use super::super::text::{local_time, printable, table};

/// Runs a command below `key`.
pub(crate) fn run(command: KeyCommand, context: &Context) -> Result<Outcome> {
    let vault = context.open_vault()?;
    pagevault::operations::list::watch(&vault, &context.progress)?;
    match command {
        KeyCommand::Add { new, label } => add(&vault, &new, label, context),
        KeyCommand::List => list(&vault, context),
        KeyCommand::Remove { slot, yes } => remove(&vault, &slot, yes, context),
        KeyCommand::Change { new } => change(&vault, &new, context),
        KeyCommand::Recovery { label } => recovery(&vault, label, context),
    }?;
    Ok(Outcome::Done)
}

#[derive(Debug, Serialize)]
struct Changed {
    slot: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<String>,
}

fn add(vault: &Vault, new: &NewSecretArgs, label: Option<String>, context: &Context) -> Result<()> {
    let (slot, described) = add_slot(vault, new, label, context)?;
    let (id, kind) = (slot.id.to_string(), slot.kind.name());
    if context.output.is_json() {
        return context.output.json(&Changed { slot: id, kind, removed: None });
    }
    context.output.text(&format!("added key {}: {described}\n", slot.id.short()))
}

fn add_slot(
    vault: &Vault,
    new: &NewSecretArgs,
    label: Option<String>,
    context: &Context,
) -> Result<(pagevault::format::keyslot::KeySlot, String)> {
    let source = NewSource::of_args(new);
    let place = context.place()?.folder;
    let secret = context.with_secrets(|secrets| secrets.read_new(&source, &place))?;
    let slot = vault.add_slot(&secret.unlocker, argon2_params(), label, context.now())?;
    let described = secret.described.clone();
    secret.keep();
    Ok((slot, described))
}

#[derive(Debug, Serialize)]
struct SlotInfo {
    slot: String,
    kind: &'static str,
    label: Option<String>,
    created_at: Option<jiff::Timestamp>,
    in_use: bool,
}

fn list(vault: &Vault, context: &Context) -> Result<()> {
    let mut slots = vault.slots()?;
    slots.sort_by_key(|slot| (slot.note.created_at_us, slot.slot.id));
    let slots: Vec<SlotInfo> = slots.into_iter().map(|slot| info(slot, vault)).collect();
    if context.output.is_json() {
        return context.output.json(&slots);
    }
    let heading = ["", "ID", "KIND", "CREATED", "LABEL"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(slots.into_iter().map(|slot| {
        vec![
            if slot.in_use { "*".to_owned() } else { String::new() },
            slot.slot,
            slot.kind.to_owned(),
            slot.created_at.map(local_time).unwrap_or_default(),
            slot.label.map(|label| printable(&label).into_owned()).unwrap_or_default(),
        ]
    }));
    context.output.text(&table(&rows, &[]))
}

fn info(slot: Slot, vault: &Vault) -> SlotInfo {
    SlotInfo {
        slot: slot.slot.id.to_string(),
        kind: slot.slot.kind.name(),
        label: slot.note.label,
        created_at: slot.note.created_at_us.and_then(|us| jiff::Timestamp::from_microsecond(us).ok()),
        in_use: vault.unlocked_by() == Some(slot.slot.id),
    }
}

fn remove(vault: &Vault, wanted: &str, yes: bool, context: &Context) -> Result<()> {
    let slots = vault.slots()?;
    let slot = find(&slots, wanted)?;
    let refused = |message: String, hint: &str| Err(Error::new(ErrorKind::Refused, message).with_hint(hint));
    if slots.len() < 2 {
        let message = format!("{} is the last key: without it nobody could open the vault", slot.short());
        return refused(message, "add another first: `pagevault key add` or `pagevault key recovery`");
    }
    let in_use = vault.unlocked_by() == Some(slot);
    let question = || format!("{} is the key in use. Remove it?", slot.short());
    if in_use && !yes && !context.confirm(&question())? {
        let message = format!("{} is the key in use and was not removed", slot.short());
        return refused(message, "make sure that you have another one, then use --yes");
    }
    vault.remove_slot(slot, context.now())?;
    if context.output.is_json() {
        return context.output.json(&Removed { removed: slot.to_string() });
    }
    context.output.text(&format!("removed key {}\n", slot.short()))
}

#[derive(Debug, Serialize)]
struct Removed {
    removed: String,
}

fn find(slots: &[Slot], wanted: &str) -> Result<SlotId> {
    let wanted = wanted.to_ascii_lowercase();
    let mut matching = slots.iter().map(|slot| slot.slot.id).filter(|id| id.to_string().starts_with(&wanted));
    let hint = "`pagevault key list` shows the keys";
    match (matching.next(), matching.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => {
            Err(Error::new(ErrorKind::NotFound, format!("no key has an id that begins with {wanted:?}"))
                .with_hint(hint))
        }
        (Some(_), Some(_)) => {
            let message = format!("several keys have an id that begins with {wanted:?}");
            Err(Error::new(ErrorKind::Usage, message).with_hint("give more digits"))
        }
    }
}

fn change(vault: &Vault, new: &NewSecretArgs, context: &Context) -> Result<()> {
    let Some(old) = vault.unlocked_by() else {
        return Err(Error::new(ErrorKind::Failed, "it is not known which key opened the vault"));
    };
    let label = vault.slots()?.into_iter().find(|slot| slot.slot.id == old).and_then(|slot| slot.note.label);
    let (slot, described) = add_slot(vault, new, label, context)?;
    vault.remove_slot(old, context.now()).map_err(|error| {
        Error::from(error)
            .context(format!(
                "the new key {} is in place, but the old one could not be removed",
                slot.id.short()
            ))
            .with_hint(format!("try again with `pagevault key remove {}`", old.short()))
    })?;
    if context.output.is_json() {
        let removed = Some(old.to_string());
        return context.output.json(&Changed { slot: slot.id.to_string(), kind: slot.kind.name(), removed });
    }
    context.output.text(&format!("replaced key {} by {}: {described}\n", old.short(), slot.id.short()))
}

fn recovery(vault: &Vault, label: Option<String>, context: &Context) -> Result<()> {
    let secret = Secret32::random()
        .map_err(|error| Error::new(ErrorKind::Failed, "cannot make a key").with_source(error))?;
    let text = TextForm::RecoveryKey.print(&secret);
    let unlocker = Unlocker::RecoveryKey(secret);
    let slot = vault.add_slot(&unlocker, argon2_params(), label, context.now())?.id;
    let line = if context.output.is_json() {
        // Neither needs escaping: an id and a key are letters, digits and hyphens.
        Zeroizing::new(format!("{{\"slot\":\"{slot}\",\"recovery_key\":\"{}\"}}\n", &*text))
    } else {
        Zeroizing::new(format!("{}\n", &*text))
    };
    if let Err(error) = Output::must_arrive(&line) {
        // A key that nobody has seen must not stay in the list as if it could help.
        vault.remove_slot(slot, context.now())?;
        return Err(error);
    }
    context
        .progress
        .note("Write this key down or print it, and keep it away from this machine. It is not shown again.");
    context
        .progress
        .note("It opens the vault wherever a passphrase is asked for; hyphens and case do not matter.");
    Ok(())
}
