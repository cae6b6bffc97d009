//! One verb each: what users ask for, written against vault, images and live databases.
//!
//! Nothing here prints, prompts, or reads the environment or the wall clock: a [`Monitor`](crate::monitor::Monitor)
//! and a [`Clock`](crate::clock::Clock) are passed in.

pub mod assemble;
pub mod check;
mod difference;
pub mod guard;
pub mod list;
mod replace;
pub mod restore;
pub mod restore_into;
mod safety;
pub mod snapshot;
pub mod sync;

use std::num::NonZeroUsize;

use crate::error::Result;
use crate::monitor::Monitor;
use crate::vault::Vault;

/// Reads what the index objects say; what cannot be read becomes a warning.
fn load_index(vault: &Vault, monitor: &dyn Monitor) -> Result<()> {
    for skipped in vault.load_index()? {
        monitor.warn(&format!("index object {} is not used: {}", skipped.name, skipped.error));
    }
    Ok(())
}

/// Threads that encode or decode beside the one that reads.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).clamp(1, 8)
}
