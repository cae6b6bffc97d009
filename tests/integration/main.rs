//! All integration tests in one binary: real databases, real vaults, other processes.

#![allow(unreachable_pub, reason = "modules of one binary share their helpers")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod crash;
mod recover;
mod round_trip;
mod secrecy;
mod support;
mod tamper;
mod vectors;
