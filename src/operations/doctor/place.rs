//! Places: file systems, permissions, space, and the clock.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;

use super::{Findings, Severity, shown};

/// No clock that is right shows an earlier time than that of this code.
const WRITTEN: i64 = 1_767_225_600;

/// Free space below which a vault soon cannot grow: 1 GiB. A tenth of that is a danger.
const LITTLE: u64 = 1 << 30;

/// What kind of file system something is on.
pub(super) enum Place {
    Local,
    /// On another machine, or behind a program that may hide one.
    Network(&'static str),
}

/// Numbers of statfs(2) for file systems of other machines.
const NETWORK: [(i64, &str); 10] = [
    (0x6969, "NFS"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x517B, "SMB"),
    (0x0102_1997, "9P"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x6573_5546, "FUSE, such as sshfs"),
];

#[allow(
    clippy::unnecessary_cast,
    clippy::cast_lossless,
    reason = "the field's type differs between platforms"
)]
pub(super) fn file_system(path: &Path) -> Place {
    let Ok(found) = rustix::fs::statfs(path) else { return Place::Local };
    let number = found.f_type as i64 & 0xFFFF_FFFF;
    let known = NETWORK.iter().find(|(network, _)| *network == number);
    known.map_or(Place::Local, |(_, name)| Place::Network(name))
}

pub(super) fn look_at_clock(now: Timestamp, findings: &mut Findings) {
    if now.as_second() < WRITTEN {
        findings.add(
            "clock",
            Severity::Danger,
            "the clock",
            format!("it says {now}, which is before this program was written"),
            "set it, and let it be kept by NTP: times decide which snapshot is the newest and which are forgotten",
        );
    }
}

/// The folder of a vault, beside `databases`; `largest` is the size of the largest snapshot in it.
pub(super) fn look_at_vault(
    folder: &Path,
    databases: &[std::path::PathBuf],
    largest: u64,
    findings: &mut Findings,
) {
    let metadata = match folder.metadata() {
        Ok(metadata) => metadata,
        Err(error) => {
            findings.add(
                "vault",
                Severity::Danger,
                shown(folder),
                format!("there is no vault that could be looked at: {error}"),
                "`pagevault snapshot DB` makes one at the default place; --vault names another",
            );
            return;
        }
    };
    if metadata.mode() & 0o077 != 0 {
        let message = format!(
            "its folder is open to others (mode {:03o}); they see sizes and times, and may delete if they can write",
            metadata.mode() & 0o777
        );
        findings.add(
            "permissions",
            Severity::Warning,
            shown(folder),
            message,
            format!("chmod 700 {}", shown(folder)),
        );
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() && !rustix::process::geteuid().is_root() {
        let message = format!("its folder belongs to another user (id {})", metadata.uid());
        findings.add(
            "permissions",
            Severity::Warning,
            shown(folder),
            message,
            "run pagevault as the user that owns the vault",
        );
    }
    if let Place::Network(name) = file_system(folder) {
        let message = format!(
            "it is on a network file system ({name}); that is safe, but locks against a prune may not work there"
        );
        findings.add("network", Severity::Note, shown(folder), message, "prune with a grace period");
    }
    look_at_space(folder, largest, findings);
    let beside: Vec<String> = databases
        .iter()
        .filter(|path| path.metadata().is_ok_and(|database| database.dev() == metadata.dev()))
        .map(|path| path.display().to_string())
        .collect();
    if let Some(first) = beside.first() {
        let more = if beside.len() > 1 { format!(" and {} more", beside.len() - 1) } else { String::new() };
        let message = format!("it is on the same file system as {first}{more}: a broken disk takes both");
        findings.add(
            "vault",
            Severity::Warning,
            shown(folder),
            message,
            "copy the vault to another machine, with `pagevault sync` or any other tool",
        );
    }
}

fn look_at_space(folder: &Path, largest: u64, findings: &mut Findings) {
    let Ok(space) = rustix::fs::statvfs(folder) else { return };
    let (free, total) = (space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize);
    let wanted = LITTLE.max(largest);
    let severity = match free {
        _ if free < LITTLE / 10 => Severity::Danger,
        _ if free < wanted || free < total / 50 => Severity::Warning,
        _ => return,
    };
    let message = format!("{} MiB are free on its disk, of {} MiB", free >> 20, total >> 20);
    findings.add(
        "space",
        severity,
        shown(folder),
        message,
        "free space, or forget and prune old snapshots, before a snapshot fails",
    );
}

/// A key file, and the vault it opens.
pub(super) fn look_at_key_file(path: &Path, vault: Option<&Path>, findings: &mut Findings) {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) => {
            let message = format!("the key file cannot be looked at: {error}");
            findings.add(
                "key-file",
                Severity::Danger,
                shown(path),
                message,
                "bring it back from its copy; another key may open the vault",
            );
            return;
        }
    };
    if metadata.is_file() && metadata.mode() & 0o077 != 0 {
        let message = format!(
            "the key file is open to others (mode {:03o}): who reads it, reads every snapshot",
            metadata.mode() & 0o777
        );
        findings.add(
            "permissions",
            Severity::Danger,
            shown(path),
            message,
            format!("chmod 600 {}", shown(path)),
        );
    }
    let (Ok(key), Some(Ok(vault))) = (path.canonicalize(), vault.map(Path::canonicalize)) else { return };
    if key.starts_with(&vault) {
        let message = "the key file is inside the vault: whoever copies the vault has the key";
        findings.add(
            "key-file",
            Severity::Danger,
            shown(path),
            message,
            "move it out of the vault, and make a new key if the vault was ever copied",
        );
    } else if key.parent() == vault.parent() {
        let message = "the key file is beside the vault: what copies or takes the folder takes both";
        findings.add(
            "key-file",
            Severity::Warning,
            shown(path),
            message,
            "keep it in another place, such as the configuration folder",
        );
    }
}
