//! The `pagevault` command. All it does is in [`cli`]; what it works with is in the library.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run().into()
}
