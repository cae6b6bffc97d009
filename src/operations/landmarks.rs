//! Whether others have changed a vault while it was looked at. What seems to be damage may then be only half of a change.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::error::Result;
use crate::vault::{Vault, layout};

/// How often one who looks for damage begins anew when others change the vault meanwhile.
pub(super) const ATTEMPTS: usize = 4;

/// The paths of all that refers to packs, and of the key slots. Whoever prunes moves what refers to a pack before the pack,
/// and whoever adds or removes a key says so in the log.
pub(super) fn landmarks(vault: &Vault) -> Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    for folder in [layout::INDEX, layout::SNAPSHOTS, layout::LOG, layout::KEYS] {
        vault.store().list(folder, &mut |meta| {
            paths.insert(meta.path.to_string());
            ControlFlow::Continue(())
        })?;
    }
    Ok(paths)
}
