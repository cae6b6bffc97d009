//! When work is due: the part of scheduled runs that needs neither a clock nor a vault.
//!
//! - [`cron`]: cron expressions on civil time.
//! - [`schedule`]: a rhythm, as an expression or an interval, on the time line.
//! - [`planner`]: from a rhythm, what is remembered of earlier attempts, and the time: now or later.
//!
//! Everything here is a function of its arguments. Nothing sleeps, reads the wall clock or remembers: a service (the
//! command line's `run`) does, and a test goes through a month in a second.

pub mod cron;
pub mod planner;
pub mod schedule;

pub use self::planner::{Answer, Memory, Timing};
pub use self::schedule::Schedule;
