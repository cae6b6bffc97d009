//! All integration tests in one binary: real databases, real vaults, other processes.

#![allow(unreachable_pub, reason = "modules of one binary share their helpers")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail, helpers included"
)]

mod architecture;
mod bad_input;
mod capture_cases;
mod children;
mod cli_cases;
mod crash;
mod databases;
mod live;
mod recover;
mod restore_cases;
mod round_trip;
mod secrecy;
mod support;
mod tamper;
mod unchanged;
mod vectors;
