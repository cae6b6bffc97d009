//! One verb each: what users ask for, written against vault, images and live databases.
//!
//! Nothing here prints, prompts, or reads the environment or the wall clock: a [`Monitor`](crate::monitor::Monitor)
//! and a [`Clock`](crate::clock::Clock) are passed in.

pub mod assemble;
pub mod check;
pub mod forget;
pub mod list;
pub mod prune;
pub mod repair;
mod replace;
pub mod restore;
pub mod retention;
pub mod snapshot;
pub mod stats;
pub mod sync;

use std::num::NonZeroUsize;

/// Threads that encode or decode beside the one that reads.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).clamp(1, 8)
}
