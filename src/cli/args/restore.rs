//! Options of `restore`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pagevault::operations::list::SnapshotSpec;
use pagevault::sqlite::CheckLevel;

use super::SNAP_HELP;
use crate::cli::values;

/// Options of `restore`.
#[derive(Debug, Args)]
#[command(after_help = format!("{SNAP_HELP}

What is overwritten is stored first, as a snapshot of kind automatic: restoring that one is the way back.

Examples:
  pagevault restore latest --to restored.db
  pagevault restore app@2026-11-22T10:00 --into app.db --dry-run
  pagevault restore app@2026-11-22T10:00 --into app.db --yes
  pagevault restore app@-2h --to /tmp/app.db --check quick
  pagevault restore latest --to app.db --copy /mnt/nas/vault --copy s3://bucket/vault"))]
pub(crate) struct RestoreArgs {
    /// The snapshot
    #[arg(value_name = "SNAP")]
    pub(crate) snapshot: SnapshotSpec,
    /// The file to write; it appears when it is complete and verified
    #[arg(long, value_name = "PATH", required_unless_present = "into", conflicts_with = "into")]
    pub(crate) to: Option<PathBuf>,
    /// The database to write the snapshot into, while applications have it open
    #[arg(long, value_name = "DB")]
    pub(crate) into: Option<PathBuf>,
    /// Overwrite what is there without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Do not store first what is overwritten; also lets a file be replaced that is no database
    #[arg(long)]
    pub(crate) no_safety_snapshot: bool,
    /// Say what would change, and change nothing
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Another copy of the vault, to turn to where an object is missing or damaged; may be repeated [env: PAGEVAULT_COPIES]
    #[arg(long = "copy", value_name = "PLACE")]
    pub(crate) copies: Vec<PathBuf>,
    /// How thoroughly SQLite checks the image first: quick_check, integrity_check or not at all
    #[arg(long, value_name = "LEVEL", default_value = "full", value_parser = values::check_level())]
    pub(crate) check: CheckLevel,
    /// How long to wait for a locked database, with --into or --dry-run
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    pub(crate) busy_timeout: Duration,
}
