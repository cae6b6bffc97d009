//! All integration tests in one binary: real databases, real vaults, other processes.

#![allow(unreachable_pub, reason = "modules of one binary share their helpers")]

mod round_trip;
mod support;
mod tamper;
