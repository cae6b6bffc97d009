//! All integration tests in one binary: real databases, real vaults, other processes.

#![allow(unreachable_pub, reason = "modules of one binary share their helpers")]

mod cli_cases;
#![allow(unreachable_pub, reason = "helpers are for every module")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
mod round_trip;
mod support;
mod unchanged;
