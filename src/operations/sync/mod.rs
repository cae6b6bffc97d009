//! `sync`: copies what another place lacks of a vault, ciphertext byte for byte. Needs no key.
//!
//! Objects are copied in the order in which a vault is written: what identifies and opens it, then packs, index,
//! snapshots, log, each of them durable before the next begins. So the copy is a vault from its first second on, and
//! every snapshot that shows in it is whole, wherever a run is cut off. Whatever is to be deleted goes in the reverse
//! order, last of all.
//!
//! Nothing is remembered between runs: what is there is known from a listing. A run that was cut off is resumed by
//! starting it again.

mod copy;
mod plan;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::time::Instant;

use self::copy::Copier;
use self::plan::{Inventory, Plan};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::VaultId;
use crate::monitor::Monitor;
use crate::store::{DirectReads, Store};
use crate::vault::layout;

pub use self::plan::identity;
pub use super::check::Problem;

/// How often a run begins anew because objects went from the source under its hands.
const ROUNDS: usize = 5;

/// How well a copy is to be known to be whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verify {
    /// Objects are there in their whole length, as the listing says.
    #[default]
    Sizes,
    /// The checksums that the service keeps are those of the source's bytes; what has none, or another, is read back.
    Checksums,
    /// Everything is read back and compared with its name.
    Data,
}

/// How a vault is to be copied.
#[derive(Debug, Clone)]
pub struct SyncRequest {
    /// What is looked at once more at the end.
    pub verify: Verify,
    /// Delete from the destination what the source has no longer.
    pub delete: bool,
    /// Refuse to delete more than this share of the snapshots or of the bytes in packs, in percent.
    pub max_delete: f64,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Objects in transfer at once, each of which is held in memory.
    pub transfers: NonZeroUsize,
}

impl Default for SyncRequest {
    fn default() -> Self {
        Self {
            verify: Verify::Sizes,
            delete: false,
            max_delete: 50.0,
            dry_run: false,
            transfers: const { NonZeroUsize::new(4).unwrap() },
        }
    }
}

/// A number of objects and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Tally {
    pub(super) const fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

impl FromIterator<u64> for Tally {
    fn from_iter<I: IntoIterator<Item = u64>>(sizes: I) -> Self {
        let mut tally = Self::default();
        sizes.into_iter().for_each(|size| tally.add(size));
        tally
    }
}

/// What was done, or would be, in the words of docs/cli.md.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SyncReport {
    /// The vault.
    pub vault_id: VaultId,
    /// Where it was copied from.
    pub source: String,
    /// Where to.
    pub destination: String,
    /// Whether nothing was done but planning.
    pub dry_run: bool,
    /// Newly written at the destination.
    pub copied: Tally,
    /// Damaged at the destination, and written anew.
    pub replaced: Tally,
    /// There already.
    pub present: Tally,
    /// At the destination only, and left there.
    pub kept: Tally,
    /// Deleted from the destination.
    pub deleted: Tally,
    /// Read back from the destination and found whole.
    pub verified: Tally,
    /// Of the right checksum, as the service says.
    pub checksummed: Tally,
    /// What could not be copied, or is damaged on either side.
    pub problems: Vec<Problem>,
    /// Milliseconds.
    pub duration_ms: u64,
}

/// Copies the vault in `source` to `destination`.
///
/// # Errors
/// There is no vault in `source`, something else in `destination`, more would be deleted than is allowed, or a store
/// fails. Objects that are damaged are problems in the report, and keep no other from being copied.
pub fn sync(
    source: &dyn Store,
    destination: &dyn Store,
    request: &SyncRequest,
    monitor: &dyn Monitor,
) -> Result<SyncReport> {
    let started = Instant::now();
    // A copy is made of what is there, and judged by what has become of it there.
    let _direct = (DirectReads::of(source), DirectReads::of(destination));
    let vault_id = identity(source)?;
    // A prune of either does not take away at once what is being copied.
    let _in_use = (source.in_use(layout::KEYS), destination.in_use(layout::KEYS));
    let mut report = SyncReport {
        vault_id,
        source: source.describe(),
        destination: destination.describe(),
        dry_run: request.dry_run,
        copied: Tally::default(),
        replaced: Tally::default(),
        present: Tally::default(),
        kept: Tally::default(),
        deleted: Tally::default(),
        verified: Tally::default(),
        checksummed: Tally::default(),
        problems: Vec::new(),
        duration_ms: 0,
    };
    plan::refuse_another_vault(destination, vault_id)?;
    for round in 1.. {
        let (theirs, ours) = (Inventory::of(destination)?, Inventory::of(source)?);
        let plan = Plan::new(&ours, &theirs);
        if request.delete {
            plan.guard(&theirs, request.max_delete)?;
        }
        if round == 1 {
            report.present = plan.present;
        }
        if request.dry_run {
            plan.describe_into(&mut report, request.delete);
            break;
        }
        let mut copier = Copier::new(source, destination, vault_id, request, monitor, &mut report);
        if copier.copy(&plan)? {
            match request.verify {
                Verify::Sizes => {}
                Verify::Checksums => copier.verify(&ours, Some(&Inventory::of(destination)?))?,
                Verify::Data => copier.verify(&ours, None)?,
            }
            finish(&plan, &mut copier, request)?;
            break;
        }
        // Somebody prunes the source: what is left of it is looked at again.
        if round == ROUNDS {
            let message = format!("objects keep vanishing from {}", source.describe());
            return Err(Error::new(ErrorKind::Busy, message).with_hint("run it again when prune has ended"));
        }
    }
    report.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

/// Deletes what is too much, if that is wanted and everything else has gone well.
fn finish(plan: &Plan, copier: &mut Copier<'_>, request: &SyncRequest) -> Result<()> {
    if !request.delete || !copier.is_sound() {
        copier.keep(&plan.superfluous);
        return Ok(());
    }
    copier.delete(&plan.superfluous)
}
