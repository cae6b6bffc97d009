//! `prune`: what nothing needs is shown, then freed.

use pagevault::operations::prune::{PackSum, PruneReport, PruneRequest, plan};
use pagevault::{Error, ErrorKind, Result};

use super::super::args::PruneArgs;
use super::super::context::Context;
use super::super::failure::Outcome;
use super::super::text::{local_time, size};

/// Prunes the vault.
pub(crate) fn run(args: &PruneArgs, context: &Context) -> Result<Outcome> {
    let vault = context.open_vault()?;
    let request = PruneRequest { max_unused: args.max_unused, grace: args.grace };
    let plan = plan(&vault, &request, &context.clock, &context.progress)?;
    let planned = plan.report();
    if args.dry_run {
        return report(&planned, context);
    }
    if !context.output.is_json() && !plan.is_empty() {
        context.output.text(&planned_sentences(&planned))?;
    }
    if !plan.is_empty() && !args.yes && !context.confirm("Prune?")? {
        return Err(Error::new(ErrorKind::Refused, "nothing was pruned")
            .with_hint("look with --dry-run, then use --yes"));
    }
    report(&plan.execute(&vault, &context.clock, &context.progress)?, context)
}

fn report(report: &PruneReport, context: &Context) -> Result<Outcome> {
    if context.output.is_json() {
        context.output.json(report)?;
    } else if report.dry_run {
        context.output.text(&planned_sentences(report))?;
    } else {
        context.output.text(&done_sentences(report))?;
    }
    Ok(Outcome::Done)
}

fn sum(sum: PackSum) -> String {
    format!("{} packs, {}", sum.packs, size(sum.bytes))
}

fn planned_sentences(report: &PruneReport) -> String {
    let mut text = format!(
        "snapshots     {} kept, {} forgotten ones kept for undelete, {} removed\n",
        report.snapshots, report.kept_forgotten, report.removed_snapshots
    );
    let mut row = |name: &str, what: String| text.extend([&*format!("{name:<14}{what}\n")]);
    row("before", sum(report.before));
    row("unreferenced", sum(report.unreferenced));
    row("rewritten", sum(report.rewritten));
    row("merged", sum(report.merged));
    row("written anew", size(report.written_bytes));
    row("stays unused", size(report.unused_bytes));
    row("freed", size(report.freed_bytes));
    text
}

fn done_sentences(report: &PruneReport) -> String {
    let mut text = format!("deleted {}\n", sum(report.deleted));
    if let Some(after) = report.delete_after {
        let (waiting, after) = (sum(report.condemned), local_time(after));
        text.extend([&*format!(
            "{waiting} wait, for others may use the vault now: a prune after {after} deletes them, or one that is alone in a folder\n"
        )]);
    }
    text
}
