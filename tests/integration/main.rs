//! All integration tests in one binary: real databases, real vaults, other processes.

mod round_trip;
mod support;
mod tamper;
