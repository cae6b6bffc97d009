//! `repair`: make of a damaged vault what can still be made of it. A plan comes first, which can be shown and changes nothing;
//! carrying it out decides nothing.
//!
//! Invariants: nothing is destroyed, what is damaged is moved aside; what refers to something is written after it and
//! moved away before it, so that a crash at any point leaves a vault that is as good as before, and that the next repair
//! makes whole; nothing is put into the vault that has not been proven by its name, its seal or its id.

mod controls;
mod execute;
mod harm;
mod live;
mod needs;
mod packs;
mod plan;
mod view;

use std::path::PathBuf;
use std::time::Duration;

pub use self::controls::restore_controls;
pub use self::execute::{RepairReport, execute};
pub use self::harm::Harm;
pub use self::plan::{RepairPlan, plan};

use crate::ids::HostId;
use crate::vault::Vault;

/// What may be used to repair a vault.
#[derive(Debug)]
pub struct RepairRequest {
    /// Another copy of the vault, opened with [`Vault::copy_in`].
    pub copy: Option<Vault>,
    /// Live databases in which lost chunks are looked for.
    pub databases: Vec<PathBuf>,
    /// This machine: its databases of which there are snapshots, or will be, count among them.
    pub host: Option<HostId>,
    /// How long to wait for a lock on one of them.
    pub busy_timeout: Duration,
    /// Read every pack, instead of trusting those that are there with the right length.
    pub read_data: bool,
}

/// Something that a repair does.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RepairStep {
    /// `restore`, `rebuild`, `rescue`, `heal`, `recover`, `log` or `quarantine`.
    pub action: &'static str,
    /// The object.
    pub object: String,
    /// Why, or from where.
    pub detail: String,
}
