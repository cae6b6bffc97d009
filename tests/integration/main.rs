//! All integration tests in one binary: real databases, real vaults, other processes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail, helpers included"
)]
#![allow(unreachable_pub, reason = "one binary: nothing is reachable from outside")]

mod capture_cases;
mod children;
mod databases;
mod round_trip;
mod support;
