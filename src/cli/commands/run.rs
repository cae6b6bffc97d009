//! `run`: scheduled runs in the foreground.

use pagevault::Result;

use super::super::args::RunArgs;
use super::super::context::Context;
use super::super::failure::Outcome;
use super::super::service;

/// Runs until told to stop, or once.
pub(crate) fn run(args: &RunArgs, context: &Context) -> Result<Outcome> {
    service::run(context, args.once)
}
