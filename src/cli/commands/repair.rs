//! `repair`: a plan, a yes, and what has become of it.

use std::path::Path;

use pagevault::monitor::Monitor;
use pagevault::operations::check::{CheckRequest, DataLevel, Problem, check};
use pagevault::operations::repair::{
    Harm, RepairPlan, RepairReport, RepairRequest, execute, plan, restore_controls,
};
use pagevault::store::Store;
use pagevault::{Error, ErrorKind, Result};
use serde::Serialize;

use super::super::args::RepairArgs;
use super::super::context::Context;
use super::super::failure::{Outcome, describe};
use super::super::text::{local_time, printable, shell_word, size};

/// The result in the words of docs/cli.md.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    steps: &'a [pagevault::operations::repair::RepairStep],
    done: bool,
    quarantined: &'a [String],
    chunks: u64,
    harmed: &'a [Harm],
    beyond_repair: &'a [String],
    problems: &'a [Problem],
}

/// Repairs the vault.
pub(crate) fn run(args: &RepairArgs, context: &Context) -> Result<Outcome> {
    if let (Some(place), true) = (&args.from, args.yes) {
        let copy = copy_at(place, context)?;
        for name in restore_controls(&*context.open_store()?, &*copy)? {
            context.progress.warn(&format!("{name} was lost and is taken from {}", copy.describe()));
        }
    }
    let vault = context.open_vault()?;
    let copy = match &args.from {
        Some(place) => Some(vault.copy_in(copy_at(place, context)?)?),
        None => None,
    };
    let request = RepairRequest {
        copy,
        databases: Vec::new(),
        host: if args.no_live { None } else { Some(context.host()?.id) },
        busy_timeout: args.busy_timeout,
        read_data: !args.quick,
    };
    let plan = plan(&vault, &request, &context.progress)?;
    if !context.output.is_json() {
        context.output.text(&sentences(&plan))?;
    }
    let go = !plan.is_empty() && (args.yes || context.confirm("Do this?")?);
    let (report, problems) = if go {
        let report = execute(&vault, &request, &plan, &context.clock, &context.progress)?;
        let request = CheckRequest { data: DataLevel::None, test_restore: None };
        let problems = check(&vault, &request, &context.clock, &context.progress)?.problems;
        (report, problems)
    } else {
        (RepairReport::default(), Vec::new())
    };
    if context.output.is_json() {
        context.output.json(&Answer {
            steps: &plan.steps,
            done: go,
            quarantined: &report.quarantined,
            chunks: report.chunks,
            harmed: &plan.harmed,
            beyond_repair: &plan.beyond_repair,
            problems: &problems,
        })?;
    } else if go {
        context.output.text(&done(&report))?;
    }
    Ok(conclude(&plan, go, &problems, args, context))
}

/// The store of a copy that was named.
fn copy_at(place: &Path, context: &Context) -> Result<Box<dyn Store>> {
    context.places.find(place)?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("there is no copy at {}", place.display())).with_hint(
            "name the folder or the address of a copy of this vault, as `pagevault sync` makes one",
        )
    })
}

fn sentences(plan: &RepairPlan) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        let object =
            if step.object.is_empty() { String::new() } else { format!("{}: ", printable(&step.object)) };
        text.extend([step.action, ": ", &object, &printable(&step.detail), "\n"]);
    }
    for note in &plan.notes {
        text.extend(["note: ", &printable(note), "\n"]);
    }
    for harm in &plan.harmed {
        text.push_str(&harmed(harm));
    }
    for lost in &plan.beyond_repair {
        text.extend(["beyond repair: ", &printable(lost), "\n"]);
    }
    if plan.is_empty() {
        text.push_str("nothing to repair\n");
    }
    text
}

fn harmed(harm: &Harm) -> String {
    let tables = match harm.tables.as_deref() {
        None => "tables unknown".to_owned(),
        Some([]) => "in no table".to_owned(),
        Some(tables) => format!("tables {}", tables.join(", ")),
    };
    format!(
        "remains harmed: snapshot {} of {} ({}): {} of {} lost, {}\n",
        harm.snapshot.short(),
        printable(&harm.database),
        local_time(harm.created_at),
        size(harm.lost_bytes),
        size(harm.size),
        printable(&tables),
    )
}

fn done(report: &RepairReport) -> String {
    let aside = match report.quarantined.len() {
        0 => String::new(),
        count => format!(", {count} objects moved to the vault's folder quarantine"),
    };
    format!("done: {} steps, {} chunks stored again{aside}\n", report.steps.len(), report.chunks)
}

fn conclude(
    plan: &RepairPlan,
    done: bool,
    problems: &[Problem],
    args: &RepairArgs,
    context: &Context,
) -> Outcome {
    if !plan.is_empty() && !done {
        let message = format!("steps to be done: {}; nothing was changed", plan.steps.len());
        let from =
            args.from.as_ref().map_or_else(String::new, |copy| format!("--from {} ", shell_word(copy)));
        let hint = format!("do them with `pagevault repair {from}--yes`");
        let found = Error::new(ErrorKind::Damage, message).with_hint(hint);
        context.progress.always(&describe(&found));
        return Outcome::Reported(ErrorKind::Damage);
    }
    for problem in problems.iter().filter(|problem| problem.snapshots.is_empty()) {
        context.progress.warn(&problem.to_string());
    }
    if plan.makes_whole() && problems.is_empty() {
        return Outcome::Done;
    }
    let hint = if plan.harmed.is_empty() {
        "what is named above needs you; docs/recovery.md says what each message means"
    } else {
        "another copy of the vault may have what is lost: `pagevault repair --from COPY`; snapshots that are not named are whole. Without a copy, `pagevault forget` those that are"
    };
    let what = format!(
        "not all could be repaired: {} snapshots remain harmed, {} objects are beyond repair",
        plan.harmed.len(),
        plan.beyond_repair.len()
    );
    context.progress.always(&describe(&Error::new(ErrorKind::Damage, what).with_hint(hint)));
    Outcome::Reported(ErrorKind::Damage)
}
