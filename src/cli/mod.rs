//! The command line: what people type and read. It uses the public library only.
//!
//! - [`args`], [`values`]: what can be typed.
//! - [`config`]: the configuration file.
//! - [`service`]: scheduled runs.
//! - [`places`], `remote`: from a folder or an address to a store. [`requests`]: what remote ones were asked for.
//! - [`environment`], [`context`], [`secret`], [`key_file`], [`make`]: what it means here.
//! - [`commands`]: one file each, a request to the library and what is said about its answer.
//! - [`child`], [`guard_record`]: another program run in between, and what is remembered of it.
//! - [`units`]: what starts a service.
//! - [`output`], [`progress`], [`terminal`], [`text`]: results, everything else that is said, questions, forms.
//! - [`proof`]: when this machine last saw a restore succeed.
//! - [`failure`]: exit codes and error messages.

#[expect(clippy::doc_markdown, reason = "its comments are help texts, which are plain text")]
mod args;
mod child;
mod commands;
mod config;
mod context;
mod environment;
mod failure;
mod files;
mod first_vault;
mod guard_record;
mod key_file;
mod make;
mod output;
mod places;
mod progress;
mod proof;
#[cfg(feature = "remote")]
mod remote;
mod requests;
mod secret;
mod service;
mod terminal;
mod text;
mod units;
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
    let environment = Environment::of_process();
    let loaded = match commands::load_config(&cli.command, &cli.globals, &environment) {
        Ok(loaded) => loaded,
        Err(error) => {
            let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), error.describe().as_bytes());
            return exit_code(error.kind());
        }
    };
    let context = Context::new(cli.globals, environment, loaded);
    // Scheduled runs hear SIGHUP in another sense.
    if !matches!(cli.command, args::Command::Run(_)) {
        context.progress.listen_for_signals();
    }
    let outcome = commands::run(cli.command, &context);
    for requests in context.requests.read() {
        context.progress.detail(&requests.sentence());
    }
    match outcome {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            context.progress.always(&describe(&error));
            exit_code(error.kind())
        }
    }
}
