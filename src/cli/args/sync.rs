//! What can be typed after `sync`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use pagevault::operations::sync::Verify;

use super::super::values;

/// Options of `sync`.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs no key. Every moment of it leaves a vault at DEST whose snapshots are whole; after an interruption, run it again.

Examples:
  pagevault sync /mnt/usb/vault
  pagevault sync /mnt/a/vault s3://bucket/vault --delete
  pagevault sync --vault /mnt/usb/vault /srv/new/vault")]
pub(crate) struct SyncArgs {
    /// Places to copy the vault to: a copy of it, or an empty or new place [default: those of the configuration]
    #[arg(value_name = "DEST")]
    pub(crate) destinations: Vec<PathBuf>,
    /// Read everything back from DEST and compare it with its name; `--verify=checksums`: only that
    /// of which the service keeps no checksum, or another one
    #[arg(long, value_name = "LEVEL", conflicts_with = "dry_run", num_args = 0..=1, require_equals = true, default_missing_value = "data", value_parser = values::verify())]
    pub(crate) verify: Option<Verify>,
    /// Delete from DEST what the vault has no longer
    #[arg(long)]
    pub(crate) delete: bool,
    /// Refuse to delete more than this share of the snapshots or of the data at DEST
    #[arg(long, value_name = "PERCENT", default_value = "50%", value_parser = values::percent, requires = "delete")]
    pub(crate) max_delete: f64,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// At most this many bytes a second to and from DEST, such as 500KiB or 2MiB
    #[arg(long, value_name = "RATE", value_parser = values::bytes)]
    pub(crate) limit_rate: Option<u64>,
    /// Objects in transfer at once, up to 64 MiB of memory each, mostly 16 MiB at most
    #[arg(long, value_name = "N", default_value = "4")]
    pub(crate) transfers: NonZeroUsize,
}
