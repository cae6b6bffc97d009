//! `repair`: a plan, a yes, and what has become of it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use pagevault::monitor::Monitor;
use pagevault::operations::check::{CheckRequest, DataLevel, Problem, check};
use pagevault::operations::repair::{
    Harm, RepairPlan, RepairReport, RepairRequest, execute, plan, restore_config,
};
use pagevault::vault::Vault;
use pagevault::{Error, ErrorKind, Result};
use serde::Serialize;

use super::super::args::RepairArgs;
use super::super::context::Context;
use super::super::failure::{Outcome, describe};
use super::super::text::{local_time, printable, size};

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
        let nothing = || Error::new(ErrorKind::NotFound, format!("there is no copy at {}", place.display()));
        let copy = context.places.find(place)?.ok_or_else(nothing)?;
        if restore_config(&*context.open_store()?, &*copy)? {
            context.progress.warn(&format!("vault.pv was lost and is taken from {}", copy.describe()));
        }
    }
    let vault = context.open_vault()?;
    let copy = match &args.from {
        Some(place) => {
            let nothing =
                || Error::new(ErrorKind::NotFound, format!("there is no copy at {}", place.display()));
            Some(vault.copy_in(context.places.find(place)?.ok_or_else(nothing)?)?)
        }
        None => None,
    };
    let request = RepairRequest {
        copy,
        databases: if args.no_live { Vec::new() } else { databases(&vault, context)? },
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
    Ok(conclude(&plan, go, &problems, context))
}

/// The databases on this machine of which there are snapshots.
fn databases(vault: &Vault, context: &Context) -> Result<Vec<PathBuf>> {
    let host = context.host()?.id;
    let snapshots = vault.catalog(&vault.history()?)?.snapshots;
    let here =
        snapshots.into_iter().map(|snapshot| snapshot.manifest).filter(|manifest| manifest.host == host);
    let paths: BTreeSet<PathBuf> = here
        .filter_map(|manifest| manifest.details.source_path)
        .map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
        .filter(|path| path.is_file())
        .collect();
    Ok(paths.into_iter().collect())
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

fn conclude(plan: &RepairPlan, done: bool, problems: &[Problem], context: &Context) -> Outcome {
    if !plan.is_empty() && !done {
        let message = format!("steps to be done: {}; nothing was changed", plan.steps.len());
        let found = Error::new(ErrorKind::Damage, message).with_hint("do them with `pagevault repair --yes`");
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
        "another copy of the vault may have what is lost: `pagevault repair --from COPY`; snapshots that are not named are whole"
    };
    let what = format!(
        "not all could be repaired: {} snapshots remain harmed, {} objects are beyond repair",
        plan.harmed.len(),
        plan.beyond_repair.len()
    );
    context.progress.always(&describe(&Error::new(ErrorKind::Damage, what).with_hint(hint)));
    Outcome::Reported(ErrorKind::Damage)
}
