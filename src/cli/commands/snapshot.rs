//! `snapshot`: databases into the vault.

use std::collections::BTreeSet;
use std::path::Path;

use pagevault::operations::snapshot::{SnapshotReport, SnapshotRequest, snapshot};
use pagevault::{Error, ErrorKind, Result};

use super::super::args::SnapshotArgs;
use super::super::context::Context;
use super::super::failure::{Outcome, describe};
use super::super::first_vault::{First, first_vault};
use super::super::proof;
use super::super::text::{milliseconds, printable, size};

/// Takes snapshots.
pub(crate) fn run(args: SnapshotArgs, context: &Context) -> Result<Outcome> {
    let request = request(args, context)?;
    let mut tally = Tally::new(context);
    let vault = match first_vault(&request.databases, request.busy_timeout, context)? {
        First::Opened(vault) => vault,
        First::NoDatabase(failures) => {
            for (path, error) in failures {
                tally.add(&path, Err(error));
            }
            return tally.outcome();
        }
    };
    let run = snapshot(&vault, &request, &context.clock, &context.progress, &mut |path, outcome| {
        tally.add(path, outcome);
    });
    if request.verify && tally.done > 0 && tally.failed.is_empty() {
        proof::remember(&vault, context);
    }
    match run {
        Ok(()) => tally.outcome(),
        // What was reported before is in the vault all the same.
        Err(error) if tally.done > 0 && error.kind() != ErrorKind::Interrupted => {
            context.progress.always(&describe(&error));
            Ok(Outcome::Reported(ErrorKind::Partial))
        }
        Err(error) => Err(error),
    }
}

fn request(args: SnapshotArgs, context: &Context) -> Result<SnapshotRequest> {
    if args.name.is_some() && args.databases.len() > 1 {
        return Err(Error::new(ErrorKind::Usage, "one --name was given for several databases")
            .with_hint("snapshot them one by one, or leave --name out: each is then named after its file"));
    }
    let mut keys = BTreeSet::new();
    if let Some((key, _)) = args.tags.iter().find(|(key, _)| !keys.insert(key)) {
        return Err(Error::new(ErrorKind::Usage, format!("the tag {key:?} was given twice")));
    }
    // What nobody said, the configuration says for all databases.
    let defaults = context.loaded.as_ref().map(|loaded| loaded.config.defaults.clone()).unwrap_or_default();
    Ok(SnapshotRequest {
        databases: args.databases,
        name: args.name,
        moved: args.moved,
        kind: args.kind,
        description: args.description,
        tags: args.tags,
        required_tables: args.required_tables,
        compression_level: args.compression_level.unwrap_or(defaults.compression_level),
        busy_timeout: args.busy_timeout.unwrap_or(defaults.busy_timeout),
        max_hold: args.max_hold.or(defaults.max_hold),
        full_scan: args.full_scan,
        verify: args.verify,
        only_if_changed: false,
        host: context.host()?,
    })
}

/// Says how each database fared, and sums it up.
struct Tally<'a> {
    context: &'a Context,
    done: usize,
    failed: Vec<ErrorKind>,
    unwritten: Result<()>,
}

impl<'a> Tally<'a> {
    const fn new(context: &'a Context) -> Self {
        Self { context, done: 0, failed: Vec::new(), unwritten: Ok(()) }
    }

    fn add(&mut self, path: &Path, outcome: Result<SnapshotReport>) {
        match outcome {
            Ok(report) => {
                self.done += 1;
                let written = self.say(&report);
                // The snapshots go on; that nobody could be told is for the end.
                self.unwritten = std::mem::replace(&mut self.unwritten, Ok(())).and(written);
            }
            Err(error) => {
                self.failed.push(error.kind());
                let shown = path.display().to_string();
                let named = error.to_string().contains(&shown);
                let error = if named { error } else { error.context(shown) };
                self.context.progress.always(&describe(&error));
            }
        }
    }

    fn say(&self, report: &SnapshotReport) -> Result<()> {
        if self.context.output.is_json() {
            return self.context.output.json(report);
        }
        let chunks = &report.chunks;
        let changed = chunks.total.saturating_sub(chunks.unchanged);
        self.context.output.text(&format!(
            "{}: snapshot {} of {}: {changed} of {} chunks changed, {} stored, in {}\n",
            printable(&report.database),
            report.snapshot_id.short(),
            size(report.size),
            chunks.total,
            size(report.stored_bytes),
            milliseconds(report.duration_ms),
        ))
    }

    fn outcome(self) -> Result<Outcome> {
        self.unwritten?;
        Ok(match outcome_of(self.done, &self.failed) {
            Outcome::Reported(ErrorKind::Partial) => {
                let total = self.done + self.failed.len();
                let summary =
                    format!("{} of {total} databases failed, the others are done", self.failed.len());
                self.context.progress.always(&describe(&Error::new(ErrorKind::Partial, summary)));
                Outcome::Reported(ErrorKind::Partial)
            }
            outcome => outcome,
        })
    }
}

fn outcome_of(done: usize, failed: &[ErrorKind]) -> Outcome {
    match failed.first() {
        None => Outcome::Done,
        Some(_) if failed.contains(&ErrorKind::Interrupted) => Outcome::Reported(ErrorKind::Interrupted),
        Some(_) if done > 0 => Outcome::Reported(ErrorKind::Partial),
        Some(first) => Outcome::Reported(*first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_done_and_some_failed_is_partial() {
        use ErrorKind::{Busy, Interrupted, NotFound, Partial};
        assert_eq!(outcome_of(2, &[]), Outcome::Done);
        assert_eq!(outcome_of(1, &[Busy]), Outcome::Reported(Partial));
        assert_eq!(outcome_of(0, &[Busy, NotFound]), Outcome::Reported(Busy));
        assert_eq!(outcome_of(1, &[NotFound, Interrupted]), Outcome::Reported(Interrupted));
    }
}
