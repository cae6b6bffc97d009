//! What can be typed after `doctor`.

use std::path::PathBuf;

use clap::Args;

/// Options of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Looks at the databases that are named and at those of this machine that the vault knows, at the programs that have them open, at \
the vault, its keys and its place. Changes nothing. Exit code 1 if there are warnings or dangers.

Examples:
  pagevault doctor
  pagevault doctor /srv/*/data.db --no-key
  pagevault doctor --json")]
pub(crate) struct DoctorArgs {
    /// Database files to look at
    #[arg(value_name = "DB")]
    pub(crate) databases: Vec<PathBuf>,
    /// Do not open the vault: say only what can be seen without its key
    #[arg(long)]
    pub(crate) no_key: bool,
}
