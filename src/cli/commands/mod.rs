//! One file per command: options become a request to the library, its answer becomes words.

mod check;
mod guard;
mod init;
mod key;
mod list;
mod manual;
mod restore;
mod show;
mod snapshot;
mod sync;

use pagevault::Result;

use super::args::Command;
use super::context::Context;
use super::failure::Outcome;
use super::secret::Source;

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
        Command::Sync(args) => sync::run(&args, context),
        Command::Key(command) => key::run(command, context),
        Command::Completions { shell } => manual::completions(shell, context),
        Command::Man => manual::pages(context),
    }
}
