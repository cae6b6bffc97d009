//! `forget`, `undelete`, `pin`, `unpin`: what becomes of snapshots. What goes, and what keeps the rest, is shown before
//! anything is done.

use jiff::tz::TimeZone;
use pagevault::operations::forget::{
    Changed, Decision, ForgetChoice, ForgetPlan, ForgetReport, ForgetRequest, plan, undelete as bring_back,
};
use pagevault::operations::list::SnapshotSpec;
use pagevault::operations::retention::RetentionPolicy;
use pagevault::{Error, ErrorKind, Result};

use super::super::args::{ForgetArgs, KeepArgs, UndeleteArgs};
use super::super::context::Context;
use super::super::failure::Outcome;
use super::super::terminal::Terminal;
use super::super::text::{local_time, printable, size, table};

/// Column of sizes.
const SIZE: usize = 4;

/// Forgets snapshots.
pub(crate) fn run(args: ForgetArgs, context: &Context) -> Result<Outcome> {
    let (dry_run, yes) = (args.dry_run, args.yes);
    let request = request(args);
    let vault = context.open_vault()?;
    let plan = plan(&vault, &request, &context.clock, &context.progress)?;
    let show = !context.output.is_json();
    if dry_run {
        return report(&plan.into_report(true), context);
    }
    if plan.is_empty() {
        return report(&plan.into_report(false), context);
    }
    if show {
        context.output.text(&people_table(&plan.forget, &[]))?;
    }
    if !yes && !context.confirm(&question(&plan))? {
        let message = format!("{} snapshots would be forgotten; none was", plan.forget.len());
        return Err(Error::new(ErrorKind::Refused, message).with_hint("look with --dry-run, then use --yes"));
    }
    report(&plan.execute(&vault, &context.clock, &context.progress)?, context)
}

fn question(plan: &ForgetPlan) -> String {
    format!("Forget these {} snapshots?", plan.forget.len())
}

fn request(args: ForgetArgs) -> ForgetRequest {
    let choice = if args.snapshots.is_empty() {
        ForgetChoice::ByPolicy { policy: policy(args.keep), databases: args.databases, kinds: args.kinds }
    } else {
        ForgetChoice::Named(args.snapshots)
    };
    let time_zone = TimeZone::system();
    ForgetRequest { choice, allow_empty: args.allow_empty, reason: args.reason, time_zone }
}

/// Rules that are given stand for themselves; without any, the ages of the kinds are the rules.
fn policy(keep: KeepArgs) -> RetentionPolicy {
    if keep == KeepArgs::default() {
        return RetentionPolicy::default();
    }
    RetentionPolicy {
        ages: None,
        last: keep.keep_last.unwrap_or(0),
        hourly: keep.keep_hourly.unwrap_or(0),
        daily: keep.keep_daily.unwrap_or(0),
        weekly: keep.keep_weekly.unwrap_or(0),
        monthly: keep.keep_monthly.unwrap_or(0),
        yearly: keep.keep_yearly.unwrap_or(0),
        within: keep.keep_within,
        tags: keep.keep_tag,
    }
}

fn report(report: &ForgetReport, context: &Context) -> Result<Outcome> {
    if context.output.is_json() {
        context.output.json(report)?;
        return Ok(Outcome::Done);
    }
    let (gone, kept) = (report.forgotten.len(), report.kept.len());
    if report.dry_run {
        context.output.text(&people_table(&report.forgotten, &report.kept))?;
        context.output.text(&format!("{gone} would be forgotten, {kept} stay\n"))?;
    } else if gone == 0 {
        context.output.text("nothing to forget\n")?;
    } else {
        context.output.text(&format!("forgot {gone} snapshots\n"))?;
        context.progress.note("hint: `pagevault undelete` brings them back until a prune has taken them");
    }
    Ok(Outcome::Done)
}

fn people_table(forget: &[Decision], keep: &[Decision]) -> String {
    let heading = ["ID", "DATABASE", "CREATED", "KIND", "SIZE", "BECAUSE"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let mut all: Vec<&Decision> = forget.iter().chain(keep).collect();
    all.sort_by_key(|decision| (decision.created_at, decision.snapshot_id));
    rows.extend(all.into_iter().map(|decision| {
        vec![
            decision.snapshot_id.short(),
            printable(&decision.database).into_owned(),
            local_time(decision.created_at),
            decision.kind.name().to_owned(),
            size(decision.size),
            if decision.because.is_empty() {
                "forget".to_owned()
            } else {
                printable(&format!("keep: {}", decision.because.join(", "))).into_owned()
            },
        ]
    }));
    table(&rows, &[SIZE])
}

/// Brings forgotten snapshots back.
pub(crate) fn undelete(args: &UndeleteArgs, context: &Context) -> Result<Outcome> {
    let vault = context.open_vault()?;
    let asks = context.terminal().is_attended() && !args.yes;
    if asks && !context.confirm(&format!("Bring back {} snapshots?", args.snapshots.len()))? {
        return Err(Error::new(ErrorKind::Refused, "no snapshot was brought back").with_hint("or use --yes"));
    }
    let changed = bring_back(&vault, &args.snapshots, &context.clock, &context.progress)?;
    say(&changed, "brought back", "was not forgotten", context)
}

/// Pins snapshots, or ends that.
pub(crate) fn pin(specs: &[SnapshotSpec], pinned: bool, context: &Context) -> Result<Outcome> {
    let vault = context.open_vault()?;
    let changed =
        pagevault::operations::forget::pin(&vault, specs, pinned, &context.clock, &context.progress)?;
    let (did, was) = if pinned { ("pinned", "was pinned already") } else { ("unpinned", "was not pinned") };
    say(&changed, did, was, context)
}

fn say(changed: &Changed, did: &str, was: &str, context: &Context) -> Result<Outcome> {
    if context.output.is_json() {
        context.output.json(changed)?;
        return Ok(Outcome::Done);
    }
    for id in &changed.changed {
        context.output.text(&format!("{did} {}\n", id.short()))?;
    }
    for id in &changed.unchanged {
        context.progress.note(&format!("{} {was}", id.short()));
    }
    Ok(Outcome::Done)
}
