//! `guard`: a migration between two snapshots, verified, and rolled back if it is not right.

use std::path::{Path, PathBuf};

use pagevault::monitor::Monitor;
use pagevault::operations::guard::{
    Checks, Guard, GuardOutcome, GuardReport, GuardRequest, Guarded, RolledBack, Verdict,
};
use pagevault::{Error, ErrorKind, Result};
use serde::Serialize;

use super::super::args::GuardArgs;
use super::super::child::{Ended, Listener};
use super::super::context::Context;
use super::super::failure::{Outcome, describe};
use super::super::first_vault::{First, first_vault};
use super::super::guard_record::Record;
use super::super::text::{printable, shell_word};

/// Guards a migration, or finishes a guard that was killed.
pub(crate) fn run(args: &GuardArgs, context: &Context) -> Result<Outcome> {
    // What options demand of each other counts for nothing where others exclude it, such as databases with --resume.
    if !args.resume && (args.keep || args.roll_back) {
        return Err(Error::new(ErrorKind::Usage, "--keep and --roll-back are for --resume")
            .with_hint("a guard decides by itself; nothing was run"));
    }
    if args.resume { resume(args, context) } else { begin(args, context) }
}

fn resume(args: &GuardArgs, context: &Context) -> Result<Outcome> {
    let vault = context.open_vault()?;
    let record = Record::take_over(&Record::folder(context, &vault)?)?;
    let request = request(record.databases(), record.command.clone(), record.checks()?, args, context)?;
    let guard = Guard { vault: &vault, request: &request, clock: &context.clock, monitor: &context.progress };
    let guarded = record.paths.iter().map(|(path, id)| guard.resume(Path::new(path), *id));
    let guarded = guarded.collect::<Result<Vec<_>>>()?;
    // What has begun is brought to its end.
    let _listener = Listener::new()?;
    context.progress.stop_listening();
    After { guard: &guard, guarded: &guarded, record: &record, context }.resume(args)
}

fn begin(args: &GuardArgs, context: &Context) -> Result<Outcome> {
    let vault = match first_vault(&args.databases, args.busy_timeout, context)? {
        First::Opened(vault) => vault,
        First::NoDatabase(mut failures) => {
            let (_, error) = failures.swap_remove(0);
            return Err(error);
        }
    };
    let folder = Record::folder(context, &vault)?;
    for path in &args.databases {
        Record::refuse_if_unfinished(&folder, path)?;
    }
    let checks = Checks {
        required_tables: args.required_tables.clone(),
        expectations: args.expectations.clone(),
        assertions: args.assertions.clone(),
    };
    let words: Vec<_> = args.command.iter().map(|word| shell_word(Path::new(word))).collect();
    let request = request(args.databases.clone(), words.join(" "), checks, args, context)?;
    let guard = Guard { vault: &vault, request: &request, clock: &context.clock, monitor: &context.progress };
    let guarded = guard.begin()?;
    say_begun(&guarded, context);
    if context.progress.interrupted() {
        return Err(super::super::terminal::interrupted());
    }
    let mut record = Record::create(&folder, &request, &guarded)?;
    let sign_of_life = record.sign_of_life();
    // From here on signals are the command's.
    let mut listener = Listener::new()?;
    context.progress.stop_listening();
    let ended = match listener.run(&args.command, sign_of_life, &mut |pid| record.note_child(pid)) {
        Ok(ended) => ended,
        Err(error) => {
            record.remove();
            return Err(error);
        }
    };
    After { guard: &guard, guarded: &guarded, record: &record, context }.finish(&ended)
}

fn request(
    databases: Vec<PathBuf>,
    command: String,
    checks: Checks,
    args: &GuardArgs,
    context: &Context,
) -> Result<GuardRequest> {
    Ok(GuardRequest { databases, command, checks, busy_timeout: args.busy_timeout, host: context.host()? })
}

fn say_begun(guarded: &[Guarded], context: &Context) {
    for one in guarded {
        context.progress.note(&format!("guard: {} is snapshot {}", one.database, one.before.short()));
    }
    if guarded.len() > 1 {
        context.progress.note(
            "guard: several databases are verified and, if need be, put back one after the other; this is not one transaction",
        );
    }
}

/// What scripts read.
#[derive(Serialize)]
struct Report<'a> {
    outcome: GuardOutcome,
    command: Option<&'a Ended>,
    databases: &'a [Verdict],
    rolled_back: &'a [RolledBack],
}

/// The command has ended.
struct After<'a> {
    guard: &'a Guard<'a>,
    guarded: &'a [Guarded],
    record: &'a Record,
    context: &'a Context,
}

impl After<'_> {
    fn finish(&self, ended: &Ended) -> Result<Outcome> {
        self.say(Some(ended), &self.guard.settle(self.guarded, ended.is_success()))
    }

    /// How the command ended is not known, so that somebody has to say whether it is to be believed.
    fn resume(&self, args: &GuardArgs) -> Result<Outcome> {
        let verdicts = self.guard.verify_all(self.guarded);
        let right = verdicts.iter().all(|one| one.failures.is_empty());
        if args.roll_back || !right {
            return self.say(None, &self.guard.roll_back_all(self.guarded, verdicts));
        }
        let question = format!(
            "What `{}` has left passes, but how it ended is not known. Keep it?",
            printable(&self.record.command)
        );
        if args.keep || self.context.confirm(&question)? {
            let report = GuardReport {
                outcome: GuardOutcome::Kept,
                migration_error: None,
                databases: verdicts,
                rolled_back: Vec::new(),
            };
            return self.say(None, &report);
        }
        Err(Error::new(ErrorKind::Refused, "what the command has left passes, but how it ended is not known")
            .with_hint("decide: `pagevault guard --resume --keep` or `pagevault guard --resume --roll-back`"))
    }

    /// It is over, or must be tried again.
    fn say(&self, ended: Option<&Ended>, report: &GuardReport) -> Result<Outcome> {
        let outcome = match report.outcome {
            GuardOutcome::Kept => Outcome::Done,
            GuardOutcome::RolledBack => Outcome::RolledBack,
            GuardOutcome::RollbackFailed => Outcome::RollbackFailed,
        };
        if outcome != Outcome::RollbackFailed {
            self.record.remove();
        }
        self.say_what_failed(report);
        let GuardReport { outcome: word, databases, rolled_back, .. } = report;
        let report = Report { outcome: *word, command: ended, databases, rolled_back };
        let output = &self.context.output;
        if output.is_json() {
            output.json(&report)?;
        } else {
            output.text(&sentences(&report))?;
        }
        Ok(outcome)
    }

    fn say_what_failed(&self, report: &GuardReport) {
        for (one, guarded) in report.rolled_back.iter().zip(self.guarded) {
            let Some(why) = &one.error else { continue };
            let message = format!("{} is not rolled back: {why}", guarded.path.display());
            let path = shell_word(&guarded.path);
            let id = guarded.before.short();
            let cause = one.hint.as_ref().map_or_else(String::new, |hint| format!("{hint}; "));
            let hint = format!(
                "{cause}then `pagevault guard --resume --roll-back`, or by hand: `pagevault restore {id} --into {path}`"
            );
            let error = Error::new(ErrorKind::Failed, message).with_hint(hint);
            self.context.progress.always(&describe(&error));
        }
    }
}

fn sentences(report: &Report<'_>) -> String {
    let mut lines = Vec::new();
    if let Some(ended) = report.command.filter(|ended| !ended.is_success()) {
        lines.push(format!("guard: the command failed: {}", ended.describe()));
    }
    for verdict in report.databases {
        let name = printable(&verdict.database);
        lines.extend(verdict.failures.iter().map(|why| format!("guard: {name}: {}", printable(why))));
        for change in &verdict.schema_changes {
            lines.push(format!("guard: {name}: schema: {}", printable(change)));
        }
        if verdict.schema_changes.is_empty() && verdict.after.is_some() {
            lines.push(format!("guard: {name}: schema: no change"));
        }
    }
    for done in report.rolled_back {
        let name = printable(&done.database);
        lines.push(match (&done.error, done.safety_snapshot) {
            (Some(_), _) => format!("guard: {name}: NOT rolled back"),
            (None, _) if done.pages_written == 0 => format!("guard: {name}: is as it was before"),
            (None, Some(kept)) => format!(
                "guard: {name}: rolled back and compared, {}; what the command left is snapshot {}",
                pages(done.pages_written),
                kept.short()
            ),
            (None, None) => format!("guard: {name}: rolled back, {}", pages(done.pages_written)),
        });
    }
    if report.outcome == GuardOutcome::Kept {
        lines.push("guard: verified and kept".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}

fn pages(count: u64) -> String {
    format!("{count} {}", if count == 1 { "page" } else { "pages" })
}
