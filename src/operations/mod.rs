//! One verb each: what users ask for, written against vault, images and live databases.
//!
//! Nothing here prints, prompts, or reads the environment or the wall clock: a [`Monitor`]
//! and a [`Clock`](crate::clock::Clock) are passed in.

pub mod assemble;
pub mod check;
mod difference;
pub mod doctor;
pub mod export;
pub mod forget;
pub mod guard;
pub mod host;
mod landmarks;
pub mod list;
pub mod moved;
pub mod preview;
pub mod prune;
pub mod repair;
mod replace;
pub mod restore;
pub mod restore_into;
pub mod retention;
mod safety;
pub mod snapshot;
pub mod stats;
pub mod status;
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
