//! All integration tests in one binary: real databases, real vaults, other processes.

mod cli_cases;
mod round_trip;
mod support;
