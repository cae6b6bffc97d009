//! Scheduled runs: what is due is done, and what happened is told.
//!
//! - [`databases`]: which files are meant.
//! - [`journal`]: what is remembered between runs.

pub(crate) mod databases;
pub(crate) mod journal;
