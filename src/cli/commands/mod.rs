//! One file per command: options become a request to the library, its answer becomes words.

mod check;
mod config;
mod doctor;
mod export;
mod forget;
mod guard;
mod init;
mod key;
mod list;
mod manual;
mod prune;
mod repair;
mod restore;
mod run;
mod schedule;
mod show;
mod snapshot;
mod stats;
mod status;
pub(crate) mod sync;

use pagevault::Result;

pub(crate) use self::init::recovery_command;

use super::args::{Command, ConfigCommand, Globals};
use super::config::load::{self, LoadError, Loaded};
use super::context::Context;
use super::environment::Environment;
use super::failure::Outcome;
use super::secret::Source;

/// The configuration that `command` goes by. Commands that look at configurations themselves, or at nothing, have none.
pub(crate) fn load_config(
    command: &Command,
    globals: &Globals,
    environment: &Environment,
) -> std::result::Result<Option<Loaded>, LoadError> {
    match command {
        Command::Config(ConfigCommand::Example | ConfigCommand::Check)
        | Command::Completions { .. }
        | Command::Man => Ok(None),
        _ => load::find(globals.config.as_deref(), environment),
    }
}

/// Runs `command`.
pub(crate) fn run(command: Command, context: &Context) -> Result<Outcome> {
    // Options that contradict each other are a mistake whether or not this command comes to need a key.
    Source::named(&context.globals.unlock, &context.environment)?;
    match command {
        Command::Init(args) => init::run(args, context),
        Command::Snapshot(args) => snapshot::run(args, context),
        Command::List(args) => list::run(args, context),
        Command::Show(args) => show::run(&args, context),
        Command::Restore(args) => restore::run(&args, context),
        Command::Guard(args) => guard::run(&args, context),
        Command::Check(args) => check::run(args, context),
        Command::Export(args) => export::run(args, context),
        Command::Repair(args) => repair::run(&args, context),
        Command::Forget(args) => forget::run(args, context),
        Command::Undelete(args) => forget::undelete(&args, context),
        Command::Pin(args) => forget::pin(&args.snapshots, true, context),
        Command::Unpin(args) => forget::pin(&args.snapshots, false, context),
        Command::Prune(args) => prune::run(&args, context),
        Command::Stats(_) => stats::run(context),
        Command::Sync(args) => sync::run(&args, context),
        Command::Doctor(args) => doctor::run(args, context),
        Command::Key(command) => key::run(command, context),
        Command::Run(args) => run::run(&args, context),
        Command::Schedule(command) => schedule::run(&command, context),
        Command::Status(args) => status::run(&args, context),
        Command::Config(command) => config::run(&command, context),
        Command::Completions { shell } => manual::completions(shell, context),
        Command::Man => manual::pages(context),
    }
}
