//! `sync`: the vault's ciphertext to other places.

use std::fmt::Write as _;
use std::path::Path;

use pagevault::operations::sync::{SyncReport, SyncRequest, identity, sync};
use pagevault::store::{LocalStore, MemoryStore, Store, ThrottledStore};
use pagevault::{Error, ErrorKind, Result};

use super::super::args::SyncArgs;
use super::super::context::{Context, absolute, address};
use super::super::failure::{Outcome, describe};
use super::super::text::{milliseconds, printable, size};

/// Copies the vault.
pub(crate) fn run(args: &SyncArgs, context: &Context) -> Result<Outcome> {
    let source = context.open_store()?;
    // Before anything is made at a destination.
    identity(&*source)?;
    let (mut done, mut failed) = (0, Vec::new());
    for destination in &args.destinations {
        match one(&*source, destination, args, context) {
            Ok(mut report) => {
                done += 1;
                // A folder that does not exist has no store to ask.
                report.destination = shown(destination);
                say(&report, context)?;
                if !report.problems.is_empty() {
                    failed.push(ErrorKind::Damage);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let error = error.context(shown(destination));
                context.progress.always(&describe(&error));
                failed.push(error.kind());
            }
        }
    }
    Ok(match failed.first() {
        None => Outcome::Done,
        Some(kind) if done == 0 || args.destinations.len() == 1 => Outcome::Reported(*kind),
        Some(ErrorKind::Damage) if failed.iter().all(|kind| *kind == ErrorKind::Damage) => {
            Outcome::Reported(ErrorKind::Damage)
        }
        Some(_) => Outcome::Reported(ErrorKind::Partial),
    })
}

fn one(source: &dyn Store, place: &Path, args: &SyncArgs, context: &Context) -> Result<SyncReport> {
    let destination = destination(place, args, context)?;
    if destination.describe() == source.describe() {
        return Err(Error::new(ErrorKind::Usage, "it is the vault itself").with_hint("name another place"));
    }
    let request = SyncRequest {
        verify: args.verify,
        delete: args.delete,
        max_delete: args.max_delete,
        dry_run: args.dry_run,
        transfers: args.transfers,
    };
    match args.limit_rate {
        Some(rate) => sync(source, &ThrottledStore::new(destination, rate), &request, &context.progress),
        None => sync(source, &destination, &request, &context.progress),
    }
}

/// The store of a destination; a folder is made, unless nothing is to be done but planning.
fn destination(place: &Path, args: &SyncArgs, context: &Context) -> Result<Box<dyn Store>> {
    match context.store_at(place)? {
        Some(store) => Ok(store),
        None if args.dry_run => Ok(Box::new(MemoryStore::new())),
        None => Ok(Box::new(LocalStore::create(absolute(place)?)?)),
    }
}

/// The place as it was named, without what an address may hold besides.
fn shown(place: &Path) -> String {
    let Some((scheme, rest)) = address(place).and_then(|text| text.split_once("://")) else {
        return place.display().to_string();
    };
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    let (authority, path) = rest.split_once('/').map_or((rest, String::new()), |(a, p)| (a, format!("/{p}")));
    // A user is no secret; what follows its colon is one, and is refused later on.
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        None => authority.to_owned(),
    };
    format!("{scheme}://{authority}{path}")
}

fn say(report: &SyncReport, context: &Context) -> Result<()> {
    if context.output.is_json() {
        return context.output.json(report);
    }
    let mut text = String::new();
    for problem in &report.problems {
        let (kind, object, message) = (problem.kind, &problem.object, &problem.message);
        text.extend([kind, ": ", &printable(object), ": ", &printable(message), "\n"]);
    }
    let did = |present: &'static str, conditional: &'static str| {
        if report.dry_run { conditional } else { present }
    };
    let copied = report.copied;
    let _ = write!(
        text,
        "{} {}: {} {} objects, {}; {} were there",
        did("synced to", "would sync to"),
        printable(&report.destination),
        did("copied", "to copy:"),
        copied.objects,
        size(copied.bytes),
        report.present.objects,
    );
    for (tally, what) in [
        (report.replaced, did("were damaged and replaced", "are damaged and to be replaced")),
        (report.deleted, did("deleted", "to be deleted")),
        (report.kept, "are at the destination only"),
        (report.verified, "read back and whole"),
    ] {
        if tally.objects > 0 {
            let _ = write!(text, "; {} {what} ({})", tally.objects, size(tally.bytes));
        }
    }
    let _ = writeln!(text, "; {}", milliseconds(report.duration_ms));
    context.output.text(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_shown_without_options_and_passwords() {
        for (typed, expected) in [
            ("/srv/vault", "/srv/vault"),
            ("s3://bucket/prefix?endpoint=http://h", "s3://bucket/prefix"),
            ("sftp://me:secret@host/y", "sftp://me@host/y"),
            ("gs://bucket", "gs://bucket"),
        ] {
            assert_eq!(shown(Path::new(typed)), expected);
        }
    }
}
