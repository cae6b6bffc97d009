//! `list`: the snapshots of a vault, newest last, where a terminal leaves the eye.

use pagevault::Result;
use pagevault::operations::list::{ListFilter, SnapshotInfo, list};

use super::super::args::ListArgs;
use super::super::context::Context;
use super::super::failure::Outcome;
use super::super::text::{local_time, printable, size, table};

/// Columns of numbers.
const SIZE: usize = 4;
const STORED: usize = 5;

/// Lists snapshots.
pub(crate) fn run(args: ListArgs, context: &Context) -> Result<Outcome> {
    let ListArgs { database, kind, since, tags, forgotten } = args;
    let vault = context.open_vault()?;
    let filter = ListFilter { database, kind, since, tags, forgotten };
    let snapshots = list(&vault, &filter, &context.progress)?;
    if context.output.is_json() {
        context.output.json(&snapshots)?;
    } else if snapshots.is_empty() {
        context.progress.note("no snapshots");
    } else {
        context.output.text(&people_table(&snapshots))?;
    }
    Ok(Outcome::Done)
}

fn people_table(snapshots: &[SnapshotInfo]) -> String {
    let heading = ["ID", "DATABASE", "CREATED", "KIND", "SIZE", "STORED", "DESCRIPTION"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(snapshots.iter().map(|snapshot| {
        vec![
            snapshot.snapshot_id.short(),
            printable(&snapshot.database).into_owned(),
            local_time(snapshot.created_at),
            snapshot.kind.name().to_owned(),
            size(snapshot.size),
            size(snapshot.stored_bytes),
            words(snapshot),
        ]
    }));
    table(&rows, &[SIZE, STORED])
}

/// Description and tags on one line.
fn words(snapshot: &SnapshotInfo) -> String {
    let description = snapshot.description.clone();
    let tags = snapshot.tags.iter().map(|(key, value)| format!("{key}={value}"));
    let pinned = snapshot.pinned.then(|| "[pinned]".to_owned());
    let words: Vec<String> = pinned.into_iter().chain(description).chain(tags).collect();
    printable(&words.join("  ")).into_owned()
}
