//! Putting a restored file in the place of an existing one: only when nobody else uses it, and never next to the
//! old one's log.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::sole_use::{SoleUse, holders};

/// How long other users of the target may take to finish what they are doing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Renames `new` over `target`, whose sidecars go first.
pub(super) fn replace(new: &Path, target: &Path) -> Result<()> {
    let failed = |verb: &str, error: std::io::Error| {
        Error::new(ErrorKind::Failed, format!("cannot {verb} {}: {error}", target.display()))
            .with_source(error)
    };
    let Some(sole) = SoleUse::prove(target, PATIENCE).map_err(|error| failed("lock", error))? else {
        return Err(in_use(target, &holders(target)));
    };
    // In rollback mode an idle connection holds no lock. What it writes next would go to a file without a name.
    let holders = remaining_holders(target);
    if !holders.is_empty() {
        sole.give_back();
        return Err(in_use(target, &holders));
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
            Ok(())
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
