//! All integration tests in one binary: real databases, real vaults, other processes.

#![allow(unreachable_pub, reason = "modules of one binary share their helpers")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail, helpers included"
)]

mod bad_input;
mod capture_cases;
mod children;
mod cli_cases;
mod databases;
mod live;
mod restore_cases;
mod round_trip;
mod support;
mod tamper;
mod unchanged;
