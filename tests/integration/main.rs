//! All integration tests in one binary: real databases, real vaults, other processes.

#![allow(unreachable_pub, reason = "modules of one binary share their helpers")]
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test may fail and say so, and is read rather than run fast"
)]

mod afterwards;
mod architecture;
mod bad_input;
mod beside;
mod capture_cases;
mod children;
mod cli_cases;
mod crash;
mod databases;
mod doctor;
mod export;
mod far_away;
mod guard;
mod history;
mod library;
#[cfg(feature = "remote")]
#[path = "../../src/store/remote/tests/line.rs"]
#[allow(dead_code, reason = "the unit tests share it")]
mod line;
mod live;
mod live_restore;
mod preview;
mod prune;
mod put_back;
mod recover;
#[cfg(feature = "remote")]
mod remote_hosts;
mod repair;
mod restore_cases;
mod round_trip;
mod secrecy;
#[cfg(feature = "remote")]
#[path = "../../src/store/remote/tests/servers.rs"]
#[allow(dead_code, reason = "the unit tests share it")]
mod servers;
mod service;
mod support;
mod synced;
mod tamper;
mod unchanged;
mod vectors;
