//! Options of `forget`, `undelete`, `pin` and `unpin`.

use clap::Args;
use jiff::SignedDuration;
use pagevault::format::manifest::Kind;
use pagevault::operations::list::SnapshotSpec;

use super::super::values;
use super::SNAP_HELP;

/// Options of `forget`.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Without SNAP, rules decide, for each database by itself. Without a --keep option they are: automatic snapshots for 7 days, \
migration ones for 30, manual ones and exports for ever. With one, only what is given counts, for all kinds. Whatever the \
rules say, pinned snapshots stay, and the newest of each database, and the newest that a test restore has proven.

Nothing is deleted: `prune` frees the space later, and until then `undelete` brings a snapshot back.

{SNAP_HELP}

Examples:
  pagevault forget --dry-run
  pagevault forget --keep-last 24 --keep-daily 30 --keep-monthly 12 --yes
  pagevault forget 7c490871"))]
pub(crate) struct ForgetArgs {
    /// Snapshots to forget; without any, rules decide
    #[arg(value_name = "SNAP")]
    pub(crate) snapshots: Vec<SnapshotSpec>,
    /// The rules.
    #[command(flatten)]
    pub(crate) keep: KeepArgs,
    /// Apply the rules to this database only; may be given several times
    #[arg(long = "database", value_name = "NAME", value_parser = values::name, conflicts_with = "snapshots")]
    pub(crate) databases: Vec<String>,
    /// Apply the rules to snapshots of this kind only; may be given several times
    #[arg(long = "kind", value_name = "KIND", value_parser = values::any_kind(), conflicts_with = "snapshots")]
    pub(crate) kinds: Vec<Kind>,
    /// Also if no snapshot of a database is left
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// A sentence for the log: why
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Show what would go and what keeps the others
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// The rules.
#[derive(Debug, Default, PartialEq, Eq, Args)]
#[expect(clippy::struct_field_names, reason = "they are the names of the options")]
#[group(multiple = true, conflicts_with = "snapshots")]
pub(crate) struct KeepArgs {
    /// Keep the N newest
    #[arg(long, value_name = "N", help_heading = "Rules")]
    pub(crate) keep_last: Option<u32>,
    /// Keep the newest of each of the last N hours that have one
    #[arg(long, value_name = "N", help_heading = "Rules")]
    pub(crate) keep_hourly: Option<u32>,
    /// Keep the newest of each of the last N days that have one
    #[arg(long, value_name = "N", help_heading = "Rules")]
    pub(crate) keep_daily: Option<u32>,
    /// Keep the newest of each of the last N weeks that have one
    #[arg(long, value_name = "N", help_heading = "Rules")]
    pub(crate) keep_weekly: Option<u32>,
    /// Keep the newest of each of the last N months that have one
    #[arg(long, value_name = "N", help_heading = "Rules")]
    pub(crate) keep_monthly: Option<u32>,
    /// Keep the newest of each of the last N years that have one
    #[arg(long, value_name = "N", help_heading = "Rules")]
    pub(crate) keep_yearly: Option<u32>,
    /// Keep all that are not older than this, such as 12h, 30d or 8w
    #[arg(long, value_name = "TIME", value_parser = values::age, help_heading = "Rules")]
    pub(crate) keep_within: Option<SignedDuration>,
    /// Keep all with this tag, or with this value of it; may be given several times
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = values::tag_pattern, help_heading = "Rules")]
    pub(crate) keep_tag: Vec<(String, Option<String>)>,
}

/// Options of `undelete`.
#[derive(Debug, Args)]
#[command(after_help = format!("{SNAP_HELP}
Here SNAP is one of those that `pagevault list --forgotten` shows.

Example:
  pagevault undelete 7c490871"))]
pub(crate) struct UndeleteArgs {
    /// Forgotten snapshots to bring back
    #[arg(value_name = "SNAP", required = true)]
    pub(crate) snapshots: Vec<SnapshotSpec>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Options of `pin`.
#[derive(Debug, Args)]
#[command(after_help = format!("{SNAP_HELP}\n\nExample:\n  pagevault pin app@latest"))]
pub(crate) struct PinArgs {
    /// Snapshots to keep for ever
    #[arg(value_name = "SNAP", required = true)]
    pub(crate) snapshots: Vec<SnapshotSpec>,
}

/// Options of `unpin`.
#[derive(Debug, Args)]
#[command(after_help = format!("{SNAP_HELP}\n\nExample:\n  pagevault unpin 7c490871"))]
pub(crate) struct UnpinArgs {
    /// Snapshots that rules may let go again
    #[arg(value_name = "SNAP", required = true)]
    pub(crate) snapshots: Vec<SnapshotSpec>,
}
