//! Which machine this is: an identity that stays, and a name for people.
//!
//! The identity comes from the system's machine id where there is one, hashed so that the vault does not hold the
//! id itself, which is meant to stay on the machine. Elsewhere a random one is kept in the state folder.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::export::OutputFile;
use super::snapshot::Host;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::HostId;

const MACHINE_ID: &str = "/etc/machine-id";
const CONTEXT: &str = "pagevault v1 host id from machine-id";
const FILE: &str = "host-id";

/// This machine. `state` is a folder that stays, for the identity of a machine whose system gives it none.
///
/// # Errors
/// There is no machine id, and none can be kept.
pub fn this_host(state: Option<&Path>) -> Result<Host> {
    let system = rustix::system::uname();
    let name = system.nodename().to_str().ok().filter(|name| !name.is_empty()).map(str::to_owned);
    Ok(Host { id: host_id(Path::new(MACHINE_ID), state)?, name })
}

fn host_id(machine_id: &Path, state: Option<&Path>) -> Result<HostId> {
    let system = std::fs::read_to_string(machine_id).unwrap_or_default();
    // 32 hexadecimal digits; an image that was not started yet has none, or the word `uninitialized`.
    let system = system.trim();
    if system.len() == 32 && system.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        let hash = blake3::derive_key(CONTEXT, system.to_ascii_lowercase().as_bytes());
        let mut id = [0; HostId::LEN];
        id.copy_from_slice(&hash[..HostId::LEN]);
        return Ok(HostId(id));
    }
    let Some(state) = state else {
        return Err(Error::new(
            ErrorKind::Failed,
            "this machine has no identity: no machine id, no state folder",
        )
        .with_hint("set HOME or XDG_STATE_HOME to a folder that stays"));
    };
    let path = state.join(FILE);
    let failed = |error: io::Error| {
        Error::new(
            ErrorKind::Failed,
            format!("cannot keep this machine's identity in {}: {error}", path.display()),
        )
        .with_hint("set XDG_STATE_HOME to a folder that stays and can be written")
    };
    if let Ok(known) = std::fs::read_to_string(&path) {
        return known.trim().parse().map_err(|error| failed(io::Error::other(error)));
    }
    let id = HostId::random().map_err(|error| failed(io::Error::other(error)))?;
    DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(failed)?;
    let made = OutputFile::create(&path, false).and_then(|mut file| {
        writeln!(file, "{id}").map_err(failed)?;
        file.put_in_place()
    });
    match made {
        Ok(()) => Ok(id),
        // Another process was first.
        Err(error) if error.kind() == ErrorKind::Refused => {
            let known = std::fs::read_to_string(&path).map_err(failed)?;
            known.trim().parse().map_err(|error| failed(io::Error::other(error)))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_id_gives_the_same_identity_every_time_and_hides_itself() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("machine-id");
        std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
        let id = host_id(&file, None).unwrap();
        assert_eq!(host_id(&file, None).unwrap(), id);
        assert_ne!(id.to_string(), "0123456789abcdef0123456789abcdef");
    }

    #[test]
    fn without_one_a_random_identity_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        for content in ["", "uninitialized\n"] {
            let file = folder.path().join("machine-id");
            std::fs::write(&file, content).unwrap();
            let id = host_id(&file, Some(&state)).unwrap();
            assert_eq!(host_id(&file, Some(&state)).unwrap(), id);
            assert!(host_id(&file, None).is_err());
        }
    }
}
