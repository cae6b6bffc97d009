//! Options of `repair`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::super::values;

/// Options of `repair`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows what it would do, and does it with --yes, or after asking on a terminal. Nothing is destroyed: what is damaged is \
moved to the folder quarantine inside the vault.

Examples:
  pagevault repair
  pagevault repair --from /mnt/copy --yes
  pagevault repair --quick --no-live")]
pub(crate) struct RepairArgs {
    /// Do it without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Take what is lost from another copy of this vault
    #[arg(long, value_name = "COPY")]
    pub(crate) from: Option<PathBuf>,
    /// Do not read packs that are there with the right length
    #[arg(long)]
    pub(crate) quick: bool,
    /// Do not look for lost data in the databases on this machine
    #[arg(long)]
    pub(crate) no_live: bool,
    /// How long to wait for a locked database
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    pub(crate) busy_timeout: Duration,
}
