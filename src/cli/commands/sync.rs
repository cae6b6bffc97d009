//! `sync`: the vault's ciphertext to other places.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pagevault::operations::sync::{SyncReport, SyncRequest, identity, sync};
use pagevault::store::{MemoryStore, Store, ThrottledStore};
use pagevault::{Error, ErrorKind, Result};

use super::super::args::SyncArgs;
use super::super::context::Context;
use super::super::failure::{Outcome, describe};
use super::super::places::{is_within, shown};
use super::super::text::{milliseconds, printable, size};

/// Copies the vault.
pub(crate) fn run(args: &SyncArgs, context: &Context) -> Result<Outcome> {
    let source = context.open_store()?;
    // Before anything is made at a destination.
    identity(&*source)?;
    let (mut done, mut failed) = (0, Vec::new());
    let targets = targets(args, context)?;
    for target in &targets {
        match one(&*source, target, args, context) {
            Ok(mut report) => {
                done += 1;
                // A folder that does not exist has no store to ask.
                report.destination = shown(&target.place);
                say(&report, context)?;
                if !report.problems.is_empty() {
                    failed.push(ErrorKind::Damage);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let error = error.context(shown(&target.place));
                context.progress.always(&describe(&error));
                failed.push(error.kind());
            }
        }
    }
    Ok(match failed.first() {
        None => Outcome::Done,
        Some(kind) if done == 0 || targets.len() == 1 => Outcome::Reported(*kind),
        Some(ErrorKind::Damage) if failed.iter().all(|kind| *kind == ErrorKind::Damage) => {
            Outcome::Reported(ErrorKind::Damage)
        }
        Some(_) => Outcome::Reported(ErrorKind::Partial),
    })
}

/// A place to copy to, and how.
struct Target {
    place: PathBuf,
    delete: bool,
    limit_rate: Option<u64>,
}

/// The places that were typed; else those of the configuration.
fn targets(args: &SyncArgs, context: &Context) -> Result<Vec<Target>> {
    let typed = args.destinations.iter().map(|place| (place, args.delete, args.limit_rate));
    let plans = context.loaded.iter().flat_map(|loaded| &loaded.config.syncs);
    let planned = plans
        .map(|plan| (&plan.destination, args.delete || plan.delete, args.limit_rate.or(plan.limit_rate)));
    let chosen: Vec<_> = if args.destinations.is_empty() { planned.collect() } else { typed.collect() };
    if chosen.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "there is no place to copy to")
            .with_hint("name one or several, or give the configuration sections [[sync]]"));
    }
    let target = |(place, delete, limit_rate): (&PathBuf, _, Option<u64>)| Target {
        place: place.clone(),
        delete,
        limit_rate: limit_rate.filter(|rate| *rate > 0),
    };
    Ok(chosen.into_iter().map(target).collect())
}

fn one(source: &dyn Store, target: &Target, args: &SyncArgs, context: &Context) -> Result<SyncReport> {
    let own = context.place()?.folder;
    let nested = if is_within(&target.place, &own) {
        Some("it is the vault itself, or lies within it")
    } else if is_within(&own, &target.place) {
        Some("the vault lies within it")
    } else {
        None
    };
    if let Some(message) = nested {
        return Err(Error::new(ErrorKind::Usage, message).with_hint(
            "name a place apart from the vault: whatever happens to one should not happen to the other",
        ));
    }
    let destination = destination(&target.place, args, context)?;
    let request = SyncRequest {
        verify: args.verify.unwrap_or_default(),
        delete: target.delete,
        max_delete: args.max_delete,
        dry_run: args.dry_run,
        transfers: args.transfers,
    };
    match target.limit_rate {
        Some(rate) => sync(source, &ThrottledStore::new(destination, rate), &request, &context.progress),
        None => sync(source, &destination, &request, &context.progress),
    }
}

/// The store of a destination; a folder is made, unless nothing is to be done but planning.
fn destination(place: &Path, args: &SyncArgs, context: &Context) -> Result<Box<dyn Store>> {
    match context.places.find(place)? {
        Some(store) => Ok(store),
        None if args.dry_run => Ok(Box::new(MemoryStore::new())),
        None => context.places.make(place),
    }
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
        (report.checksummed, "whole by the service's checksum"),
    ] {
        if tally.objects > 0 {
            let _ = write!(text, "; {} {what} ({})", tally.objects, size(tally.bytes));
        }
    }
    let _ = writeln!(text, "; {}", milliseconds(report.duration_ms));
    context.output.text(&text)
}
