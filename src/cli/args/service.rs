//! What can be typed of scheduled runs: `run`, `status`, `schedule`, `config`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::super::config::values as lengths;

/// Options of `run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Does what the configuration says until it is told to stop: SIGTERM or Ctrl-C end it cleanly, SIGHUP reads the \
configuration again; a changed file is noticed as well. `pagevault schedule install` starts it with the machine.

Examples:
  pagevault run
  pagevault run --once")]
pub(crate) struct RunArgs {
    /// Do what is due now, and end: for timers and crontabs
    #[arg(long)]
    pub(crate) once: bool,
}

/// Options of `status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pagevault status
  pagevault status --max-age 2h || echo 'backups are late'
  pagevault status --database app --json")]
pub(crate) struct StatusArgs {
    /// Only this database
    #[arg(long, value_name = "NAME", value_parser = super::values::name)]
    pub(crate) database: Option<String>,
    /// Fail with exit code 8 if a database was last kept longer ago than this, such as 2h or 3d
    #[arg(long, value_name = "TIME", value_parser = lengths::length)]
    pub(crate) max_age: Option<Duration>,
}

/// The commands below `config`.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum ConfigCommand {
    /// Print a configuration with every setting explained
    #[command(after_help = "Example:\n  pagevault config example > ~/.config/pagevault/config.toml")]
    Example,
    /// Say whether the configuration is right, and what it makes of databases
    #[command(after_help = "Example:\n  pagevault config check --config /etc/pagevault/config.toml")]
    Check,
}

/// How `run` is to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StartedBy {
    /// A systemd service that runs all the time
    Service,
    /// A systemd timer that does what is due every few minutes
    Timer,
    /// A line in the user's crontab, likewise
    Cron,
}

/// Where the units go.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub(crate) struct Scope {
    /// For this user; the default unless you are root
    #[arg(long)]
    pub(crate) user: bool,
    /// For the machine; the default for root
    #[arg(long)]
    pub(crate) system: bool,
    /// Write the units here, whoever reads them
    #[arg(long, value_name = "DIR")]
    pub(crate) units: Option<PathBuf>,
}

/// The commands below `schedule`.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum ScheduleCommand {
    /// Write what starts `run`, and say what is left to do
    #[command(after_help = "\
Examples:
  pagevault schedule install
  sudo pagevault schedule install --system --config /etc/pagevault/config.toml
  pagevault schedule install --by cron")]
    Install {
        /// What is to start it
        #[arg(long, value_enum, default_value_t = StartedBy::Service)]
        by: StartedBy,
        /// Where the units go.
        #[command(flatten)]
        scope: Scope,
    },
    /// Remove what `install` wrote
    #[command(after_help = "Example:\n  pagevault schedule uninstall")]
    Uninstall {
        /// Where the units are.
        #[command(flatten)]
        scope: Scope,
    },
    /// Say what is installed, and what the configuration has to be done when
    #[command(after_help = "Example:\n  pagevault schedule show")]
    Show {
        /// Where the units are.
        #[command(flatten)]
        scope: Scope,
    },
}
