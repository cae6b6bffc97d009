//! Putting a restored file in the place of an existing one: only when nobody else uses it, and never next to the
//! old one's log.

use std::path::Path;
use std::time::{Duration, Instant};

use super::difference::is_same;
use super::restore::RestoreRequest;
use super::safety::Safety;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::SnapshotId;
use crate::monitor::{Monitor, Silent};
use crate::sqlite::sole_use::{SoleUse, holders};
use crate::vault::{Snapshot, Vault};

/// How long other users of the target may take to finish what they are doing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Times a safety snapshot is taken again because somebody committed after it.
const TRIES: usize = 3;

/// Keeps what is replaced: a safety snapshot, and the proof that it holds the last state there was.
pub(super) struct Keeper<'a> {
    safety: Option<Safety<'a>>,
    kept: Option<Snapshot>,
}

impl<'a> Keeper<'a> {
    /// Takes the safety snapshot if one is wanted and there is something to keep; refuses at once a target that
    /// others are seen to have open.
    pub(super) fn new(
        vault: &'a Vault,
        request: &'a RestoreRequest,
        exists: bool,
        before: &'a Snapshot,
        clock: &'a dyn Clock,
        monitor: &'a dyn Monitor,
    ) -> Result<Self> {
        let mut keeper = Self { safety: None, kept: None };
        if !exists {
            return Ok(keeper);
        }
        let holders = remaining_holders(&request.target);
        if !holders.is_empty() {
            return Err(in_use(&request.target, &holders));
        }
        keeper.safety = request.safety.as_ref().map(|host| Safety {
            vault,
            target: &request.target,
            before,
            host,
            busy_timeout: PATIENCE,
            clock,
            monitor,
        });
        keeper.take_again()?;
        Ok(keeper)
    }

    /// The snapshot of what was there.
    pub(super) fn kept(&self) -> Option<SnapshotId> {
        self.kept.as_ref().map(|kept| kept.id)
    }

    fn take_again(&mut self) -> Result<()> {
        if let Some(safety) = &self.safety {
            let again = self.kept.is_some();
            self.kept = safety.take_if_readable(again)?;
        }
        Ok(())
    }

    /// Whether the database that is used by nobody else is what was kept.
    fn holds(&self, sole: &mut SoleUse) -> Result<bool> {
        let (Some(safety), Some(kept)) = (&self.safety, &self.kept) else { return Ok(true) };
        match sole.pages() {
            Some(pages) => is_same(safety.vault, kept, &mut pages?, &Silent),
            None => Ok(true),
        }
    }
}

/// Renames `new` over `target`, whose sidecars go first, when nobody uses it and `keeper` has its last state.
pub(super) fn replace(new: &Path, target: &Path, keeper: &mut Keeper<'_>) -> Result<()> {
    for _ in 0..TRIES {
        if try_to_replace(new, target, keeper)? {
            return Ok(());
        }
        keeper.take_again()?;
    }
    let message = format!("{} is written to again and again", target.display());
    Err(Error::new(ErrorKind::Busy, message).with_hint("stop what uses it and try again"))
}

/// `false` if the target has changed since it was kept.
fn try_to_replace(new: &Path, target: &Path, keeper: &Keeper<'_>) -> Result<bool> {
    let failed = |verb: &str, error: std::io::Error| {
        Error::new(ErrorKind::Failed, format!("cannot {verb} {}: {error}", target.display()))
            .with_source(error)
    };
    let Some(mut sole) = SoleUse::prove(target, PATIENCE).map_err(|error| failed("lock", error))? else {
        return Err(in_use(target, &holders(target)));
    };
    // In rollback mode an idle connection holds no lock. What it writes next would go to a file without a name.
    let holders = remaining_holders(target);
    if !holders.is_empty() {
        sole.give_back();
        return Err(in_use(target, &holders));
    }
    match keeper.holds(&mut sole) {
        Ok(true) => {}
        outcome => {
            sole.give_back();
            return outcome;
        }
    }
    let put = || -> Result<()> {
        for sidecar in super::restore::sidecars(target) {
            super::restore::remove_if_there(&sidecar)?;
        }
        std::fs::rename(new, target).map_err(|error| failed("replace", error))
    };
    match put() {
        // The lock is let go only now: nobody could open the old file's name meanwhile.
        Ok(()) => {
            drop(sole);
            Ok(true)
        }
        Err(error) => {
            sole.give_back();
            Err(error)
        }
    }
}

/// Those that still have the file open after [`PATIENCE`]. A process that this one has just forked has all that this one
/// has open, until it becomes the program it is meant to be.
fn remaining_holders(target: &Path) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let holders = holders(target);
        if holders.is_empty() || Instant::now() >= deadline {
            return holders;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn in_use(target: &Path, holders: &[String]) -> Error {
    let by = if holders.is_empty() { "another process".to_owned() } else { holders.join(", ") };
    Error::new(ErrorKind::Refused, format!("{} is in use by {by}", target.display()))
        .with_hint("stop what uses it and try again, or restore to another path")
}
