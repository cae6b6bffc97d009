//! `restore`: a snapshot as a file, proven before it has its name, or into a database that is in use.

mod preview;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pagevault::monitor::Monitor;
use pagevault::operations::list::find;
use pagevault::operations::restore::{Method, RestoreReport, RestoreRequest, Verified, restore};
use pagevault::operations::restore_into::{LiveRestoreRequest, restore_into};
use pagevault::operations::snapshot::Host;
use pagevault::sqlite::{Integrity, LiveDatabase, OpenOptions};
use pagevault::vault::Vault;
use pagevault::{Error, ErrorKind, Result};

use super::super::args::RestoreArgs;
use super::super::context::Context;
use super::super::failure::Outcome;
use super::super::text::{local_time, milliseconds, printable, shell_word, size};

/// Restores a snapshot.
pub(crate) fn run(args: &RestoreArgs, context: &Context) -> Result<Outcome> {
    let vault = context.open_vault_with_copies(&args.copies)?;
    if args.dry_run {
        let outcome = preview::run(args, &vault, context);
        context.say_what_came_from_copies();
        return outcome;
    }
    let outcome = match (&args.to, &args.into) {
        (Some(path), _) => to_path(args, path, &vault, context),
        (None, Some(database)) => into_database(args, database, &vault, context),
        (None, None) => Err(Error::new(ErrorKind::Usage, "restore needs --to or --into")),
    };
    context.say_what_came_from_copies();
    let report = outcome?;
    if context.output.is_json() {
        context.output.json(&report)?;
    } else {
        context.output.text(&sentences(&report))?;
    }
    say_findings(&report.verified, context);
    say_the_way_back(&report, args, context);
    Ok(Outcome::Done)
}

fn to_path(args: &RestoreArgs, target: &Path, vault: &Vault, context: &Context) -> Result<RestoreReport> {
    let exists = target.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let mut safety = if exists { safety(args, context)? } else { None };
    let mut overwrite = args.yes;
    if exists && !args.yes {
        overwrite = is_wanted(args, target, "Replace it by", &mut safety, vault, context)?;
    }
    let request = RestoreRequest {
        snapshot: args.snapshot.clone(),
        target: target.to_path_buf(),
        overwrite,
        check: args.check,
        safety,
    };
    restore(vault, &request, &context.clock, &context.progress)
}

fn into_database(
    args: &RestoreArgs,
    target: &Path,
    vault: &Vault,
    context: &Context,
) -> Result<RestoreReport> {
    let mut safety = safety(args, context)?;
    if target.symlink_metadata().is_ok()
        && !args.yes
        && !is_wanted(args, target, "Overwrite its content with", &mut safety, vault, context)?
    {
        let message = format!("{} would be overwritten", shown(target));
        return Err(Error::new(ErrorKind::Refused, message).with_hint("confirm with --yes"));
    }
    let request = LiveRestoreRequest {
        snapshot: args.snapshot.clone(),
        target: target.to_path_buf(),
        check: args.check,
        safety,
        busy_timeout: args.busy_timeout,
    };
    restore_into(vault, &request, &context.clock, &context.progress)
}

/// This machine, unless no safety snapshot is wanted.
fn safety(args: &RestoreArgs, context: &Context) -> Result<Option<Host>> {
    if args.no_safety_snapshot { Ok(None) } else { context.host().map(Some) }
}

/// Asks whether what exists may be overwritten; without a terminal it may not. Who has been told that nothing of it can be
/// kept, and says yes, wants no safety snapshot.
fn is_wanted(
    args: &RestoreArgs,
    target: &Path,
    deed: &str,
    safety: &mut Option<Host>,
    vault: &Vault,
    context: &Context,
) -> Result<bool> {
    // No question is asked about a snapshot that does not exist.
    let snapshot = find(vault, &args.snapshot, context.now(), &context.progress)?;
    let unreadable = match LiveDatabase::open(target, &OpenOptions { busy_timeout: args.busy_timeout }) {
        Err(error) => Some(Error::from(error)).filter(|error| error.kind() == ErrorKind::Refused),
        Ok(_) => None,
    };
    let (found, kept) = match (&unreadable, &safety) {
        (Some(error), _) => (format!("{error}."), "nothing of it can be kept"),
        (None, None) => (format!("{} exists.", shown(target)), "what is there now is not kept"),
        (None, Some(_)) => (format!("{} exists.", shown(target)), "what is there now is kept as a snapshot"),
    };
    let question = format!(
        "{} {deed} snapshot {} of {} from {}? ({kept})",
        printable(&found),
        snapshot.id.short(),
        printable(&snapshot.manifest.name),
        local_time(snapshot.created_at()),
    );
    let wanted = context.confirm(&question)?;
    if unreadable.is_some() && wanted {
        *safety = None;
    }
    Ok(wanted)
}

fn shown(path: &Path) -> String {
    printable(&path.display().to_string()).into_owned()
}

fn sentences(report: &RestoreReport) -> String {
    let sum = match report.verified.sha256 {
        Some(true) => "as when it was captured",
        _ => "the snapshot has none to compare with",
    };
    let integrity = match &report.verified.integrity_check {
        Integrity::Ok => "ok",
        Integrity::Skipped => "not asked for",
        Integrity::NotCheckable { .. } => "cannot be answered here",
        Integrity::Damaged { .. } => "damaged",
    };
    let into = if report.method == Method::Pages { "into" } else { "to" };
    let mut text = format!(
        "restored {} from snapshot {} {into} {}: {}, in {}\nsha256    {} ({sum})\nintegrity {integrity}\n",
        printable(&report.database),
        report.snapshot_id.short(),
        printable(&report.target),
        size(report.size),
        milliseconds(report.duration_ms),
        report.sha256,
    );
    if report.method == Method::Pages {
        let hold = milliseconds(report.hold_ms.unwrap_or(0));
        let proof = match report.verified.live {
            Some(false) => "its applications went on writing before it could be compared",
            _ => "read back, as in the snapshot",
        };
        let _ = writeln!(
            text,
            "pages     {} written, writers waited {hold} at most\nproof     {proof}",
            report.pages_written
        );
    }
    text
}

/// How to undo what was done.
fn say_the_way_back(report: &RestoreReport, args: &RestoreArgs, context: &Context) {
    let Some(kept) = report.safety_snapshot else { return };
    let way = if args.into.is_some() { "--into" } else { "--to" };
    let target = PathBuf::from(&report.target);
    context.progress.note(&format!(
        "what was there before is snapshot {0}: `pagevault restore {0} {way} {1}` brings it back",
        kept.short(),
        shell_word(&target)
    ));
}

/// What is no fault of the restore, and good to know.
fn say_findings(verified: &Verified, context: &Context) {
    if let Integrity::NotCheckable { because } = &verified.integrity_check {
        context.progress.warn(&format!("SQLite cannot check it without its application: {because}"));
    }
    for problem in &verified.foreign_keys {
        let (table, parent, rows) = (&problem.table, &problem.parent, problem.rows);
        context.progress.warn(&format!("{rows} rows of {table} refer to rows of {parent} that do not exist"));
    }
}
