//! `restore --dry-run`: what would change, in words or as JSON.

use std::fmt::Write as _;

use pagevault::operations::preview::{RestorePreview, preview_restore, preview_restore_into};
use pagevault::operations::restore::{Method, RestoreRequest};
use pagevault::operations::restore_into::LiveRestoreRequest;
use pagevault::sqlite::{TableChange, TableDifference};
use pagevault::vault::Vault;
use pagevault::{Error, ErrorKind, Result};
use serde::Serialize;

use super::super::super::args::RestoreArgs;
use super::super::super::context::Context;
use super::super::super::failure::Outcome;
use super::super::super::text::{printable, size};

/// What scripts read.
#[derive(Serialize)]
struct Report<'a> {
    /// Tells it from the report of a restore.
    dry_run: bool,
    #[serde(flatten)]
    preview: &'a RestorePreview,
}

/// Says what the restore would change.
pub(super) fn run(args: &RestoreArgs, vault: &Vault, context: &Context) -> Result<Outcome> {
    let previewed = match (&args.to, &args.into) {
        (Some(path), _) => {
            let request = RestoreRequest {
                check: args.check,
                safety: super::safety(args, context)?,
                ..RestoreRequest::new(args.snapshot.clone(), path)
            };
            preview_restore(vault, &request, args.busy_timeout, &context.clock, &context.progress)
        }
        (None, Some(database)) => {
            let request = LiveRestoreRequest {
                snapshot: args.snapshot.clone(),
                target: database.clone(),
                check: args.check,
                safety: super::safety(args, context)?,
                busy_timeout: args.busy_timeout,
            };
            preview_restore_into(vault, &request, &context.clock, &context.progress)
        }
        (None, None) => Err(Error::new(ErrorKind::Usage, "restore needs --to or --into")),
    };
    context.say_what_came_from_copies();
    let preview = previewed?;
    if context.output.is_json() {
        context.output.json(&Report { dry_run: true, preview: &preview })?;
    } else {
        context.output.text(&sentences(&preview))?;
    }
    super::say_findings(&preview.verified, context);
    Ok(Outcome::Done)
}

fn sentences(preview: &RestorePreview) -> String {
    let way = match preview.method {
        Method::Pages => "be written into",
        Method::Replaced => "replace",
        Method::File => "become a new file",
    };
    let mut text = format!(
        "snapshot {} of {}, {}, would {way} {}\n",
        preview.snapshot_id.short(),
        printable(&preview.database),
        size(preview.size),
        printable(&preview.target),
    );
    if let Some(why) = &preview.replaced_because {
        let _ = writeln!(text, "replaced  as a file: {}", printable(why));
    }
    if !preview.in_use_by.is_empty() {
        let users = preview.in_use_by.join(", ");
        let _ = writeln!(text, "in use    by {}: it would be refused", printable(&users));
    }
    if let Some(pages) = preview.pages {
        let _ = writeln!(
            text,
            "pages     {} changed, {} added, {} removed",
            pages.changed, pages.added, pages.removed
        );
    }
    for change in &preview.schema_changes {
        let _ = writeln!(text, "schema    {}", printable(change));
    }
    for table in &preview.tables {
        let _ = writeln!(text, "table     {}", sentence(table));
    }
    for left in &preview.not_compared {
        let table = left.table.as_deref().unwrap_or("tables");
        let _ = writeln!(text, "unknown   {}: {}", printable(table), printable(&left.reason));
    }
    let is_known = preview.not_compared.is_empty() && preview.method != Method::File;
    if is_known && preview.tables.is_empty() && preview.schema_changes.is_empty() {
        text.push_str("tables    no difference\n");
    }
    text.push_str("nothing was changed\n");
    text
}

fn sentence(table: &TableDifference) -> String {
    let name = printable(&table.table);
    let (added, removed, changed) = (table.rows_added, table.rows_removed, table.rows_changed);
    match table.change {
        TableChange::Added => format!("{name}: comes back, with {added} rows"),
        TableChange::Removed => format!("{name}: goes, with {removed} rows"),
        TableChange::Changed => format!("{name}: {added} rows added, {removed} removed, {changed} changed"),
    }
}
