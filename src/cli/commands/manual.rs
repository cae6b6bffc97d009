//! `completions` and `man`: the command line describes itself, from the same source as `--help`.

use clap::CommandFactory;
use clap_complete::Shell;
use pagevault::{Error, ErrorKind, Result};

use super::super::args::Cli;
use super::super::context::Context;
use super::super::failure::Outcome;

/// Where a manual page is from, at its foot.
const SOURCE: &str = concat!("pagevault ", env!("CARGO_PKG_VERSION"));

/// Prints a completion script.
pub(crate) fn completions(shell: Shell, context: &Context) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pagevault", &mut script);
    context.output.bytes(&script)?;
    Ok(Outcome::Done)
}

/// Prints the manual pages of pagevault and of every command, one after the other.
pub(crate) fn pages(context: &Context) -> Result<Outcome> {
    let mut command = Cli::command();
    command.build();
    let mut pages = Vec::new();
    render(&command, &mut pages)
        .map_err(|error| Error::new(ErrorKind::Failed, "cannot make the manual page").with_source(error))?;
    context.output.bytes(&pages)?;
    Ok(Outcome::Done)
}

fn render(command: &clap::Command, pages: &mut Vec<u8>) -> std::io::Result<()> {
    clap_mangen::Man::new(command.clone()).source(SOURCE).render(pages)?;
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| render(below, pages))
}
