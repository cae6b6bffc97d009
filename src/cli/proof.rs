//! When this machine last saw a restore from a vault succeed: a line in the state folder. The vault's log says it too, and to
//! everybody; but a vault or a copy that cannot be written to has no other place for it.

use std::io::Write;
use std::path::PathBuf;

use jiff::Timestamp;
use pagevault::operations::export::OutputFile;
use pagevault::vault::Vault;

use super::context::Context;

const FILE: &str = "proven";

/// Remembers that a test restore has just succeeded. Where nothing can be remembered, nothing is.
pub(crate) fn remember(vault: &Vault, context: &Context) {
    let Some(path) = path(vault, context) else { return };
    // The vault's client makes the folder when it has something to remember; an empty one would say nothing.
    let Ok(mut file) = OutputFile::create(&path, true) else { return };
    if writeln!(file, "{}", context.now()).is_ok() {
        let _ = file.put_in_place();
    }
}

/// When that was.
pub(crate) fn last(vault: &Vault, context: &Context) -> Option<Timestamp> {
    std::fs::read_to_string(path(vault, context)?).ok()?.trim().parse().ok()
}

fn path(vault: &Vault, context: &Context) -> Option<PathBuf> {
    Some(context.environment.state_folder()?.join(vault.id().to_string()).join(FILE))
}
