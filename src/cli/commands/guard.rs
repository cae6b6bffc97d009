//! `guard`: a migration between two snapshots, verified, and rolled back if it is not right.

use std::path::{Path, PathBuf};

use pagevault::monitor::Monitor;
use pagevault::operations::guard::{Checks, Guard, GuardRequest, Guarded, Verdict};
use pagevault::{Error, ErrorKind, Result};
use serde::Serialize;

use super::super::args::GuardArgs;
use super::super::child::{Ended, Listener};
use super::super::context::Context;
use super::super::failure::{Outcome, describe};
use super::super::guard_record::Record;
use super::super::text::{printable, shell_word};

/// Guards a migration, or finishes a guard that was killed.
pub(crate) fn run(args: &GuardArgs, context: &Context) -> Result<Outcome> {
    let vault = context.open_vault()?;
    let folder = Record::folder(context, &vault)?;
    if args.resume {
        let record = Record::only_one(&folder)?;
        record.refuse_if_running()?;
        let request = request(record.databases(), record.command.clone(), record.checks()?, args, context)?;
        let guard =
            Guard { vault: &vault, request: &request, clock: &context.clock, monitor: &context.progress };
        let guarded = record.paths.iter().map(|(path, id)| guard.resume(Path::new(path), *id));
        let guarded = guarded.collect::<Result<Vec<_>>>()?;
        let listener = Listener::new()?;
        context.progress.stop_listening();
        let end = After { guard: &guard, guarded: &guarded, record: &record, context };
        let outcome = end.resume(args);
        drop(listener);
        return outcome;
    }
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
    // From here on signals are the command's.
    let mut listener = Listener::new()?;
    context.progress.stop_listening();
    let ended = match listener.run(&args.command, &mut |pid| record.note_child(pid)) {
        Ok(ended) => ended,
        Err(error) => {
            record.remove();
            return Err(error);
        }
    };
    After { guard: &guard, guarded: &guarded, record: &record, context }.finish(Some(&ended))
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
    outcome: &'static str,
    command: Option<&'a Ended>,
    databases: &'a [Verdict],
    rolled_back: Vec<RolledBack>,
}

#[derive(Serialize)]
struct RolledBack {
    database: String,
    pages_written: u64,
    safety_snapshot: Option<pagevault::ids::SnapshotId>,
    error: Option<String>,
}

/// The command has ended.
struct After<'a> {
    guard: &'a Guard<'a>,
    guarded: &'a [Guarded],
    record: &'a Record,
    context: &'a Context,
}

impl After<'_> {
    fn finish(&self, ended: Option<&Ended>) -> Result<Outcome> {
        let verdicts = self.verify()?;
        let right = ended.is_none_or(Ended::is_success) && verdicts.iter().all(|one| one.failures.is_empty());
        if right {
            self.record.remove();
            self.say(&Report {
                outcome: "kept",
                command: ended,
                databases: &verdicts,
                rolled_back: Vec::new(),
            })?;
            return Ok(Outcome::Done);
        }
        self.roll_back(ended, &verdicts)
    }

    /// How the command ended is not known, so that somebody has to say whether it is to be believed.
    fn resume(&self, args: &GuardArgs) -> Result<Outcome> {
        let verdicts = self.verify()?;
        let right = verdicts.iter().all(|one| one.failures.is_empty());
        if args.roll_back || !right {
            return self.roll_back(None, &verdicts);
        }
        let question = format!(
            "What `{}` has left passes, but how it ended is not known. Keep it?",
            printable(&self.record.command)
        );
        if args.keep || self.context.confirm(&question)? {
            self.record.remove();
            self.say(&Report {
                outcome: "kept",
                command: None,
                databases: &verdicts,
                rolled_back: Vec::new(),
            })?;
            return Ok(Outcome::Done);
        }
        Err(Error::new(ErrorKind::Refused, "what the command has left passes, but how it ended is not known")
            .with_hint("decide: `pagevault guard --resume --keep` or `pagevault guard --resume --roll-back`"))
    }

    fn verify(&self) -> Result<Vec<Verdict>> {
        self.guarded.iter().map(|one| self.guard.verify(one)).collect()
    }

    fn roll_back(&self, ended: Option<&Ended>, verdicts: &[Verdict]) -> Result<Outcome> {
        let mut failed = false;
        let rolled_back = self.guarded.iter().map(|one| match self.guard.roll_back(one) {
            Ok(report) => RolledBack {
                database: one.database.clone(),
                pages_written: report.pages_written,
                safety_snapshot: report.safety_snapshot,
                error: None,
            },
            Err(error) => {
                failed = true;
                self.context.progress.always(&describe(&error));
                self.context.progress.always(&format!(
                    "hint: stop what uses {path}, then `pagevault guard --resume --roll-back`, or by hand: \
                     `pagevault restore {id} --into {path}`\n",
                    path = shell_word(&one.path),
                    id = one.before.short(),
                ));
                RolledBack {
                    database: one.database.clone(),
                    pages_written: 0,
                    safety_snapshot: None,
                    error: Some(error.to_string()),
                }
            }
        });
        let rolled_back: Vec<_> = rolled_back.collect();
        let outcome = if failed { "rollback_failed" } else { "rolled_back" };
        if !failed {
            self.record.remove();
        }
        self.say(&Report { outcome, command: ended, databases: verdicts, rolled_back })?;
        Ok(if failed { Outcome::RollbackFailed } else { Outcome::RolledBack })
    }

    fn say(&self, report: &Report<'_>) -> Result<()> {
        let output = &self.context.output;
        if output.is_json() { output.json(report) } else { output.text(&sentences(report)) }
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
    for done in &report.rolled_back {
        let name = printable(&done.database);
        lines.push(match (&done.error, done.safety_snapshot) {
            (Some(_), _) => format!("guard: {name}: NOT rolled back"),
            (None, _) if done.pages_written == 0 => format!("guard: {name}: is as it was before"),
            (None, Some(kept)) => format!(
                "guard: {name}: rolled back and compared, {} pages; what the command left is snapshot {}",
                done.pages_written,
                kept.short()
            ),
            (None, None) => format!("guard: {name}: rolled back, {} pages", done.pages_written),
        });
    }
    if report.outcome == "kept" {
        lines.push("guard: verified and kept".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}
