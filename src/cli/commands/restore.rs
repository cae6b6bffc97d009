//! `restore`: a snapshot as a file, proven before it has its name.

use std::path::Path;

use pagevault::Result;
use pagevault::operations::list::find;
use pagevault::operations::restore::{RestoreReport, RestoreRequest, restore};
use pagevault::sqlite::Integrity;
use pagevault::vault::Vault;

use super::super::args::RestoreArgs;
use super::super::context::Context;
use super::super::failure::Outcome;
use super::super::text::{milliseconds, printable, size};

/// Restores a snapshot.
pub(crate) fn run(args: RestoreArgs, context: &Context) -> Result<Outcome> {
    let vault = context.open_vault_with_copies()?;
    let overwrite = args.yes || may_replace(&args, &vault, context)?;
    let RestoreArgs { snapshot, to: target, check, .. } = args;
    let request = RestoreRequest { snapshot, target, overwrite, check };
    let outcome = restore(&vault, &request, &context.clock, &context.progress);
    context.say_what_came_from_copies();
    let report = outcome?;
    if context.output.is_json() {
        context.output.json(&report)?;
    } else {
        context.output.text(&sentences(&report))?;
    }
    say_findings(&report, context);
    Ok(Outcome::Done)
}

/// Asks whether an existing file may be replaced; without a terminal the library refuses it.
fn may_replace(args: &RestoreArgs, vault: &Vault, context: &Context) -> Result<bool> {
    if !args.to.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(false);
    }
    // No question is asked about a snapshot that does not exist.
    let snapshot = find(vault, &args.snapshot, context.now(), &context.progress)?;
    let question = format!(
        "{} exists. Replace it by snapshot {} of {}?",
        shown(&args.to),
        snapshot.id.short(),
        printable(&snapshot.manifest.name)
    );
    context.confirm(&question)
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
    format!(
        "restored {} from snapshot {} to {}: {}, in {}\nsha256    {} ({sum})\nintegrity {integrity}\n",
        printable(&report.database),
        report.snapshot_id.short(),
        printable(&report.target),
        size(report.size),
        milliseconds(report.duration_ms),
        report.sha256,
    )
}

/// What is no fault of the restore, and good to know.
fn say_findings(report: &RestoreReport, context: &Context) {
    use pagevault::monitor::Monitor;
    if let Integrity::NotCheckable { because } = &report.verified.integrity_check {
        context.progress.warn(&format!("SQLite cannot check it without its application: {because}"));
    }
    for problem in &report.verified.foreign_keys {
        let (table, parent, rows) = (&problem.table, &problem.parent, problem.rows);
        context.progress.warn(&format!("{rows} rows of {table} refer to rows of {parent} that do not exist"));
    }
}
