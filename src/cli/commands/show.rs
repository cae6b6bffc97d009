//! `show`: all that is known about one snapshot.

use pagevault::Result;
use pagevault::operations::list::{ContentKind, SnapshotInfo, describe};

use super::super::args::ShowArgs;
use super::super::context::Context;
use super::super::failure::Outcome;
use super::super::text::{local_time, printable, size, table};

/// Shows a snapshot.
pub(crate) fn run(args: &ShowArgs, context: &Context) -> Result<Outcome> {
    let vault = context.open_vault()?;
    let info = describe(&vault, &args.snapshot, context.now(), &context.progress)?;
    if context.output.is_json() {
        context.output.json(&info)?;
    } else {
        context.output.text(&people_table(&info))?;
    }
    Ok(Outcome::Done)
}

fn people_table(info: &SnapshotInfo) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            rows.push(vec![name.to_owned(), printable(&value).into_owned()]);
        }
    };
    row("id", Some(info.snapshot_id.to_string()));
    row("database", Some(info.database.clone()));
    row("source", Some(info.source.clone()));
    row("host", info.host.clone());
    row("created", Some(local_time(info.created_at)));
    row("kind", Some(info.kind.name().to_owned()));
    row("pinned", info.pinned.then(|| "kept for ever".to_owned()));
    row("description", info.description.clone());
    for (key, value) in &info.tags {
        row("tag", Some(format!("{key}={value}")));
    }
    row("parent", info.parent.map(|id| id.to_string()));
    row("size", Some(format!("{} ({} bytes)", size(info.size), info.size)));
    row(
        "pages",
        match info.content {
            ContentKind::Database => Some(format!("{} of {} bytes", info.page_count, info.page_size)),
            ContentKind::Document => None,
        },
    );
    row("content", (info.content == ContentKind::Document).then(|| "document (an export)".to_owned()));
    row("sha256", info.sha256.map(|sum| sum.to_string()));
    let chunks = &info.chunks;
    row(
        "chunks",
        Some(format!(
            "{}: {} unchanged, {} deduplicated, {} as delta, {} in full",
            chunks.total, chunks.unchanged, chunks.deduplicated, chunks.delta, chunks.full
        )),
    );
    row("stored", Some(size(info.stored_bytes)));
    row("journal", info.journal_mode.map(|mode| format!("{mode:?}").to_lowercase()));
    row("user_version", info.user_version.map(|version| version.to_string()));
    row("application_id", info.application_id.map(|id| id.to_string()));
    row("schema", info.schema_fingerprint.clone());
    for table in &info.required_tables {
        row("requires", Some(table.clone()));
    }
    row("sqlite", info.sqlite_version.clone());
    row("pagevault", info.tool_version.clone());
    table(&rows, &[])
}
