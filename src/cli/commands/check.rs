//! `check`: what of the vault can be trusted, and which snapshots are harmed.

use jiff::SignedDuration;
use pagevault::ids::SnapshotId;
use pagevault::monitor::Monitor;
use pagevault::operations::check::{CheckReport, CheckRequest, DataLevel, check, check_names};
use pagevault::{Error, ErrorKind, Result};

use super::super::args::CheckArgs;
use super::super::context::Context;
use super::super::failure::{Outcome, describe};
use super::super::proof;
use super::super::text::{printable, size};

/// Checks the vault.
pub(crate) fn run(args: CheckArgs, context: &Context) -> Result<Outcome> {
    let report = if args.no_key {
        check_names(&*context.open_store()?, &context.progress)?
    } else {
        let data = match (args.read_data, args.read_data_subset) {
            (true, _) if args.budget.is_some() || args.max_age.is_some() => DataLevel::Due {
                budget: args.budget,
                max_age: args.max_age.map(SignedDuration::unsigned_abs),
            },
            (true, _) => DataLevel::All,
            (false, Some(percent)) => DataLevel::Subset(percent),
            (false, None) => DataLevel::None,
        };
        let request = CheckRequest { data, test_restore: args.test_restore };
        let vault = context.open_vault()?;
        let report = check(&vault, &request, &context.clock, &context.progress)?;
        if !report.test_restored.is_empty() && report.problems.is_empty() {
            proof::remember(&vault, context);
        }
        report
    };
    if context.output.is_json() {
        context.output.json(&report)?;
    } else {
        context.output.text(&sentences(&report))?;
        report.warnings.iter().for_each(|warning| context.progress.warn(warning));
    }
    if report.problems.is_empty() {
        return Ok(Outcome::Done);
    }
    let found = Error::new(ErrorKind::Damage, format!("problems found: {}", report.problems.len()))
        .with_hint(
            "`pagevault repair` shows what can be made good; snapshots that are not named are not affected",
        );
    context.progress.always(&describe(&found));
    Ok(Outcome::Reported(ErrorKind::Damage))
}

fn sentences(report: &CheckReport) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        let harmed: Vec<String> = problem.snapshots.iter().map(SnapshotId::short).collect();
        let harmed =
            if harmed.is_empty() { String::new() } else { format!(" [snapshots: {}]", harmed.join(", ")) };
        let (kind, object, message) = (problem.kind, &problem.object, &problem.message);
        text.extend([kind, ": ", &printable(object), ": ", &printable(message), &harmed, "\n"]);
    }
    let tested = match report.test_restored.len() {
        0 => String::new(),
        count => format!(", {count} snapshots restored as a test"),
    };
    let left = match report.packs_left {
        0 => String::new(),
        count => format!(", {count} packs left for the next time"),
    };
    let verdict = if report.problems.is_empty() { "no problems" } else { "problems found" };
    let (objects, chunks, read) = (report.objects, report.chunks, size(report.bytes_read));
    text.extend([&*format!("{objects} objects, {chunks} chunks, {read} read{tested}{left}: {verdict}\n")]);
    text
}
