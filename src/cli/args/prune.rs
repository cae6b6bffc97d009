//! Options of `prune` and `stats`.

use clap::Args;
use jiff::SignedDuration;

use super::super::values;

/// Options of `prune`.
#[derive(Debug, Args)]
#[command(after_help = "\
If no other process uses the vault, the space is free at once. Otherwise what is to go is condemned, and a prune after 24 \
hours, or the next one that is alone, deletes it. Snapshots and restores may run all the time.

Examples:
  pagevault prune --dry-run
  pagevault prune --max-unused 10% --yes
  pagevault prune --grace 0s --yes")]
pub(crate) struct PruneArgs {
    /// Space in packs that may stay unused rather than be rewritten, as a part of what is used
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = values::share)]
    pub(crate) max_unused: f64,
    /// How long forgotten snapshots can still be brought back
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = values::age)]
    pub(crate) grace: SignedDuration,
    /// Show what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Options of `stats`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  pagevault stats\n  pagevault stats --json")]
pub(crate) struct StatsArgs {}
