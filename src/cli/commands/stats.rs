//! `stats`: what is stored, and for what.

use jiff::tz::TimeZone;
use pagevault::Result;
use pagevault::operations::stats::{StatsReport, Sums, stats};

use super::super::context::Context;
use super::super::failure::Outcome;
use super::super::text::{local_time, printable, size, table};

/// Days of growth that are shown to people.
const DAYS: usize = 14;

/// Sums up the vault.
pub(crate) fn run(context: &Context) -> Result<Outcome> {
    let vault = context.open_vault()?;
    let report = stats(&vault, &TimeZone::system(), &context.progress)?;
    if context.output.is_json() {
        context.output.json(&report)?;
    } else {
        context.output.text(&sentences(&report))?;
    }
    Ok(Outcome::Done)
}

fn sentences(report: &StatsReport) -> String {
    let stored = &report.stored;
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    row(
        "snapshots",
        format!(
            "{} ({} pinned), and {} forgotten ones",
            report.sums.snapshots, report.pinned, report.forgotten
        ),
    );
    row("logical", size(report.sums.logical_bytes));
    row("stored", format!("{} in {} objects", size(stored.total.bytes), stored.total.objects));
    for (name, sum) in [
        ("  packs", stored.packs),
        ("  index", stored.index),
        ("  snapshots", stored.snapshots),
        ("  log", stored.log),
    ] {
        row(name, format!("{} in {} objects", size(sum.bytes), sum.objects));
    }
    row("logical/stored", report.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}")));
    let mut text = table(&rows, &[]);
    if !report.databases.is_empty() {
        text.push('\n');
        text.push_str(&databases(report));
        text.push('\n');
        text.push_str(&growth(report));
    }
    text
}

fn databases(report: &StatsReport) -> String {
    let heading = ["DATABASE", "SNAPSHOTS", "NEWEST", "SIZE", "LOGICAL", "ADDED", "DEDUP", "DELTAS"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(report.databases.iter().map(|database| {
        let Sums { snapshots, logical_bytes, stored_bytes, dedup_ratio, delta_ratio, .. } = &database.sums;
        vec![
            printable(&database.database).into_owned(),
            snapshots.to_string(),
            local_time(database.newest),
            size(database.size),
            size(*logical_bytes),
            size(*stored_bytes),
            dedup_ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}x")),
            delta_ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.0}%", ratio * 100.0)),
        ]
    }));
    table(&rows, &[1, 3, 4, 5, 6, 7])
}

fn growth(report: &StatsReport) -> String {
    let mut rows = vec![["DAY", "SNAPSHOTS", "ADDED"].map(str::to_owned).to_vec()];
    let shown = report.growth.len().saturating_sub(DAYS);
    rows.extend(
        report.growth[shown..]
            .iter()
            .map(|day| vec![day.day.to_string(), day.snapshots.to_string(), size(day.stored_bytes)]),
    );
    table(&rows, &[1, 2])
}
