//! What can be typed: every command and option, with its help text and an example.
//!
//! Only this file and [`super::values`] know clap's attributes. Unlocking options are checked against each
//! other in [`super::secret`], not here: clap does not see a conflict between an option before the command and
//! one after it, and an option on the command line must win over a variable of the environment without complaint.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::{SignedDuration, Timestamp};
use pagevault::format::manifest::Kind;
use pagevault::operations::list::SnapshotSpec;

use super::values;

mod doctor;
mod export;
mod guard;
mod prune;
mod repair;
mod restore;
mod retention;
mod service;
mod sync;

pub(crate) use self::doctor::DoctorArgs;
pub(crate) use self::export::ExportArgs;
pub(crate) use self::guard::GuardArgs;
pub(crate) use self::prune::{PruneArgs, StatsArgs};
pub(crate) use self::repair::RepairArgs;
pub(crate) use self::restore::RestoreArgs;
pub(crate) use self::retention::{ForgetArgs, KeepArgs, PinArgs, UndeleteArgs, UnpinArgs};
pub(crate) use self::service::{ConfigCommand, RunArgs, ScheduleCommand, Scope, StartedBy, StatusArgs};
pub(crate) use self::sync::SyncArgs;

/// Encrypted, incremental, verified backups of live `SQLite` databases.
#[derive(Debug, Parser)]
#[command(name = "pagevault", version, about, arg_required_else_help = true, after_help = OVERVIEW)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub(crate) globals: Globals,
}

const OVERVIEW: &str = "\
First steps:
  pagevault snapshot app.db              back up; makes a vault and a key file if there is none
  pagevault list                         what there is
  pagevault restore latest --to new.db   bring it back as a new file
  pagevault restore app@-2h --into app.db    bring it back into the database, while it is in use
  pagevault key recovery                 print a key to keep on paper
  pagevault config example               set and forget: a configuration for `pagevault run`

The key is the one that an option names, else the variable of that option, else PAGEVAULT_PASSWORD, else the key \
file pagevault/vault.key in the user's configuration folder, else a passphrase that is asked for.

Exit codes: 0 done, 1 failed, 2 usage, 3 partly done, 4 damage found, 5 cannot unlock, 6 not found, \
7 busy, 8 stale, 9 refused, 10 guard rolled back, 11 guard could not roll back, 130 interrupted.";

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(crate) struct Globals {
    /// Folder or address of the vault [default: pagevault/vault in the user's data folder] [env: PAGEVAULT_VAULT]
    #[arg(long, global = true, value_name = "PLACE", help_heading = "Vault and key")]
    pub(crate) vault: Option<PathBuf>,
    /// How to unlock the vault.
    #[command(flatten)]
    pub(crate) unlock: UnlockOptions,
    /// Configuration file [default: pagevault/config.toml in the user's configuration folder] [env: PAGEVAULT_CONFIG]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Vault and key")]
    pub(crate) config: Option<PathBuf>,
    /// Print results as JSON
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
    /// Print results, warnings and errors only [env: PAGEVAULT_LOG=quiet]
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Output")]
    pub(crate) quiet: bool,
    /// Say more on standard error: which vault, which key [env: PAGEVAULT_LOG=verbose]
    #[arg(short, long, global = true, help_heading = "Output")]
    pub(crate) verbose: bool,
    /// Show no progress bars, even on a terminal
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) no_progress: bool,
}

/// How to unlock the vault; at most one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct UnlockOptions {
    /// Unlock with a key file [env: PAGEVAULT_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Vault and key")]
    pub(crate) key_file: Option<PathBuf>,
    /// Unlock with the passphrase or recovery key in the first line of a file [env: PAGEVAULT_PASSWORD_FILE]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Vault and key")]
    pub(crate) password_file: Option<PathBuf>,
    /// Unlock with the first line a shell command prints [env: PAGEVAULT_PASSWORD_COMMAND]
    #[arg(long, global = true, value_name = "CMD", help_heading = "Vault and key")]
    pub(crate) password_command: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a vault
    Init(InitArgs),
    /// Back up databases, live or at rest
    Snapshot(SnapshotArgs),
    /// List snapshots, newest last
    #[command(visible_alias = "snapshots")]
    List(ListArgs),
    /// Show all that is known about a snapshot
    Show(ShowArgs),
    /// Restore a snapshot
    Restore(RestoreArgs),
    /// Run a migration between two snapshots, verify what it did, and roll it back if it is not right
    Guard(GuardArgs),
    /// Verify the vault
    Check(CheckArgs),
    /// Export the data of one subject, or of a whole database, as JSON
    Export(ExportArgs),
    /// Make of a damaged vault what can still be made of it
    Repair(RepairArgs),
    /// Let snapshots go that no rule keeps, or that are named
    Forget(ForgetArgs),
    /// Bring back what `forget` let go
    Undelete(UndeleteArgs),
    /// Keep snapshots for ever
    Pin(PinArgs),
    /// Let rules apply to snapshots again
    Unpin(UnpinArgs),
    /// Free the space of what nothing needs
    Prune(PruneArgs),
    /// Sum up what is stored
    Stats(StatsArgs),
    /// Copy the vault to another place
    Sync(SyncArgs),
    /// Find what in this environment endangers the data
    Doctor(DoctorArgs),
    /// Manage the keys that open the vault
    #[command(subcommand)]
    Key(KeyCommand),
    /// Keep databases by the configuration, in the foreground
    Run(RunArgs),
    /// Say how well each database is kept
    Status(StatusArgs),
    /// Start `run` with the machine: systemd units or a crontab line
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Print or check a configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  pagevault completions bash > ~/.local/share/bash-completion/completions/pagevault"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page of pagevault and its commands
    #[command(after_help = "Example:\n  pagevault man | man -l -")]
    Man,
}

/// Options of `init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without an option, a passphrase is asked for on the terminal.

Examples:
  pagevault init
  pagevault init --vault /backup/vault --generate-key-file ~/vault.key
  pagevault init --password-command 'pass show vault'")]
pub(crate) struct InitArgs {
    /// Make a new key file and use it as the vault's key
    #[arg(long, value_name = "FILE")]
    pub(crate) generate_key_file: Option<PathBuf>,
    /// A word for the key, shown by `key list`
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
}

/// Options of `snapshot`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pagevault snapshot app.db
  pagevault snapshot app.db --kind migration --description 'before 2.0' --tag env=prod --verify
  pagevault snapshot --json /srv/*/data.db")]
pub(crate) struct SnapshotArgs {
    /// Database files
    #[arg(required = true, value_name = "DB")]
    pub(crate) databases: Vec<PathBuf>,
    /// Name of the database in the vault [default: the file's name without extension]
    #[arg(long, value_name = "NAME", value_parser = values::name)]
    pub(crate) name: Option<String>,
    /// Continue the database NAME, which was at another path or host before
    #[arg(long, requires = "name")]
    pub(crate) moved: bool,
    /// Why the snapshot is made
    #[arg(long, value_name = "KIND", default_value = "manual", value_parser = values::snapshot_kind())]
    pub(crate) kind: Kind,
    /// A sentence to remember it by
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// A tag; may be given several times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = values::tag)]
    pub(crate) tags: Vec<(String, String)>,
    /// Refuse a database without this table, and require it of every restore; may be given several times
    #[arg(long = "require-table", value_name = "TABLE", value_parser = values::name)]
    pub(crate) required_tables: Vec<String>,
    /// Compare every page with the newest snapshot, instead of trusting what is known to be unchanged
    #[arg(long)]
    pub(crate) full_scan: bool,
    /// Give up if the database would be held longer than this, such as 500ms, 2s or 1m
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) max_hold: Option<Duration>,
    /// How long to wait for a locked database [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) busy_timeout: Option<Duration>,
    /// Restore the snapshot from the vault as a test
    #[arg(long)]
    pub(crate) verify: bool,
    /// From 1 (fast) to 19 (small) [default: 1]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(1..=19))]
    pub(crate) compression_level: Option<i32>,
}

/// Options of `list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pagevault list
  pagevault list --database app --since 7d
  pagevault list --kind migration --tag env=prod --json")]
pub(crate) struct ListArgs {
    /// Only snapshots of this database
    #[arg(long, value_name = "NAME", value_parser = values::name)]
    pub(crate) database: Option<String>,
    /// Only snapshots of this kind
    #[arg(long, value_name = "KIND", value_parser = values::any_kind())]
    pub(crate) kind: Option<Kind>,
    /// Only snapshots since a time or for a while: 2026-11-22, 2026-11-22T10:00, 2h, 30d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = values::since)]
    pub(crate) since: Option<Timestamp>,
    /// Only snapshots with this tag; may be given several times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = values::tag)]
    pub(crate) tags: Vec<(String, String)>,
    /// Those that were forgotten and that `undelete` can bring back until a prune takes them
    #[arg(long)]
    pub(crate) forgotten: bool,
}

const SNAP_HELP: &str = "\
SNAP is an id or its beginning (4 characters or more), `latest`, `latest:KIND`, NAME@latest, \
NAME@2026-11-22T10:00 (the newest at or before), NAME@-2h, or an RFC 3339 time where the vault has one database.";

/// Options of `show`.
#[derive(Debug, Args)]
#[command(after_help = format!("{SNAP_HELP}\n\nExample:\n  pagevault show app@latest"))]
pub(crate) struct ShowArgs {
    /// The snapshot
    #[arg(value_name = "SNAP")]
    pub(crate) snapshot: SnapshotSpec,
}

/// Options of `check`.
#[derive(Debug, Args)]
#[command(after_help = format!("{SNAP_HELP}

Examples:
  pagevault check
  pagevault check --read-data-subset 5% --test-restore
  pagevault check --read-data --budget 10GiB --max-age 30d
  pagevault check --no-key --vault /mnt/copy"))]
#[expect(clippy::option_option, reason = "not given, given, given with a snapshot")]
pub(crate) struct CheckArgs {
    /// Read and verify all data
    #[arg(long, conflicts_with = "read_data_subset")]
    pub(crate) read_data: bool,
    /// Read and verify a random part of the data
    #[arg(long, value_name = "PERCENT", value_parser = values::percent)]
    pub(crate) read_data_subset: Option<f64>,
    /// Read so much at most, such as 10GiB, and go on there next time: first what was never read, then the oldest
    #[arg(long, value_name = "SIZE", requires = "read_data", value_parser = values::bytes)]
    pub(crate) budget: Option<u64>,
    /// Read only what was last found whole longer ago than this, such as 30d
    #[arg(long, value_name = "TIME", requires = "read_data", value_parser = values::age)]
    pub(crate) max_age: Option<SignedDuration>,
    /// Restore a snapshot, or all of them, as a test that writes nothing
    #[arg(long, value_name = "SNAP", num_args = 0..=1)]
    pub(crate) test_restore: Option<Option<SnapshotSpec>>,
    /// Compare names with bytes only, which needs no key
    #[arg(long, conflicts_with_all = ["read_data", "read_data_subset", "test_restore"])]
    pub(crate) no_key: bool,
}

/// The commands below `key`.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum KeyCommand {
    /// Add a key: a passphrase or a key file
    #[command(after_help = "\
Without an option, the new passphrase is asked for on the terminal.

Examples:
  pagevault key add --label laptop
  pagevault key add --generate-key-file server.key --label server")]
    Add {
        /// The new key.
        #[command(flatten)]
        new: NewSecretArgs,
        /// A word for the key, shown by `key list`
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
    },
    /// List the keys; `*` marks the one in use
    #[command(after_help = "Example:\n  pagevault key list")]
    List,
    /// Remove a key
    #[command(after_help = "\
Whoever has copied the vault and this key before can still open that copy.

Example:
  pagevault key remove 3f2a")]
    Remove {
        /// Id of the key, or its beginning, as `key list` shows it
        #[arg(value_name = "SLOT")]
        slot: String,
        /// Do not ask, even for the key in use
        #[arg(long)]
        yes: bool,
    },
    /// Replace the key in use by a new one
    #[command(after_help = "\
Without an option, the new passphrase is asked for on the terminal.

Examples:
  pagevault key change
  pagevault key change --generate-key-file new.key")]
    Change {
        /// The new key.
        #[command(flatten)]
        new: NewSecretArgs,
    },
    /// Add a recovery key and print it, to be kept on paper
    #[command(after_help = "\
A recovery key opens the vault wherever a passphrase does.

Example:
  pagevault key recovery")]
    Recovery {
        /// A word for the key, shown by `key list`
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
    },
}

/// Where a new key comes from; a prompt without any of them.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub(crate) struct NewSecretArgs {
    /// Use an existing key file
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: Option<PathBuf>,
    /// Make a new key file and use it
    #[arg(long, value_name = "FILE")]
    pub(crate) generate_key_file: Option<PathBuf>,
    /// Use the first line of a file as passphrase
    #[arg(long, value_name = "FILE")]
    pub(crate) new_password_file: Option<PathBuf>,
    /// Use the first line a shell command prints as passphrase
    #[arg(long, value_name = "CMD")]
    pub(crate) new_password_command: Option<String>,
}

#[cfg(test)]
mod tests;
