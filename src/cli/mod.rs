//! The command line: what people type and read. It uses the public library only.
//!
//! - [`args`], [`values`]: what can be typed.
//! - [`environment`], [`context`], [`secret`], [`key_file`], [`make`], [`host`]: what it means here.
//! - [`commands`]: one file each, a request to the library and what is said about its answer.
//! - [`child`], [`guard_record`]: another program run in between, and what is remembered of it.
//! - [`output`], [`progress`], [`terminal`], [`text`]: results, everything else that is said, questions, forms.
//! - [`failure`]: exit codes and error messages.

#[expect(clippy::doc_markdown, reason = "its comments are help texts, which are plain text")]
mod args;
mod child;
mod commands;
mod context;
mod environment;
mod failure;
mod files;
mod guard_record;
mod host;
mod key_file;
mod make;
mod output;
mod progress;
#[cfg(feature = "remote")]
mod remote;
mod secret;
mod terminal;
mod text;
mod values;

use clap::Parser;

use self::args::Cli;
use self::context::Context;
use self::environment::Environment;
use self::failure::{describe, exit_code};

/// Does what the command line says; returns the exit code.
pub(crate) fn run() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output with code 0, the rest to standard error with code 2.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let context = Context::new(cli.globals, Environment::of_process());
    context.progress.listen_for_signals();
    match commands::run(cli.command, &context) {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            context.progress.always(&describe(&error));
            exit_code(error.kind())
        }
    }
}
