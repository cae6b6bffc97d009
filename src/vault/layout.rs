//! Where objects are (docs/format.md, section 2).

use crate::format::envelope::ObjectKind;
use crate::ids::{ObjectName, SlotId};
use crate::store::{ObjectPath, StoreError};

/// The vault config.
pub const CONFIG: &str = "vault.pv";
/// Its second copy.
pub const CONFIG_COPY: &str = "vault.pv.copy";
/// Folder of key slots.
pub const KEYS: &str = "keys";
/// Folder of packs.
pub const PACKS: &str = "packs";
/// Folder of index objects.
pub const INDEX: &str = "index";
/// Folder of snapshots objects.
pub const SNAPSHOTS: &str = "snapshots";
/// Folder of log objects.
pub const LOG: &str = "log";
/// Keeps a vault inside a project's folder out of its repository.
pub const GITIGNORE: &str = ".gitignore";
/// Folder of what `repair` has moved aside, under the path it had.
pub const QUARANTINE: &str = "quarantine";
const COPY: &str = ".copy";

/// Path of the object of `kind` with this name.
///
/// # Errors
/// Kinds with fixed names have no such path.
pub fn object_path(kind: ObjectKind, name: ObjectName) -> Result<ObjectPath, StoreError> {
    let hex = name.to_string();
    ObjectPath::new(match kind {
        ObjectKind::PagePack | ObjectKind::MetadataPack => format!("{PACKS}/{}/{hex}", &hex[..2]),
        ObjectKind::Index => format!("{INDEX}/{hex}"),
        ObjectKind::Snapshots => format!("{SNAPSHOTS}/{hex}"),
        ObjectKind::Log => format!("{LOG}/{hex}"),
        ObjectKind::VaultConfig | ObjectKind::KeySlot => String::new(),
    })
}

/// Path of a key slot.
///
/// # Errors
/// Never.
pub fn slot_path(slot: SlotId) -> Result<ObjectPath, StoreError> {
    ObjectPath::new(format!("{KEYS}/{slot}"))
}

/// Path of a key slot's second copy.
///
/// # Errors
/// Never.
pub fn slot_copy_path(slot: SlotId) -> Result<ObjectPath, StoreError> {
    ObjectPath::new(format!("{KEYS}/{slot}{COPY}"))
}

/// What the layout says a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Vault config or its copy.
    Config,
    /// Key slot or its copy.
    Slot(SlotId),
    /// A pack of either kind.
    Pack(ObjectName),
    /// An index object.
    Index(ObjectName),
    /// A snapshots object.
    Snapshots(ObjectName),
    /// A log object.
    Log(ObjectName),
    /// Not an object of this format.
    Other,
}

impl Place {
    /// What `path` is.
    #[must_use]
    pub fn of(path: &ObjectPath) -> Self {
        // Only the lower-case form is a name.
        if path.as_str().bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Self::Other;
        }
        let name = || path.file_name().parse::<ObjectName>();
        let parts: Vec<&str> = path.as_str().split('/').collect();
        let place = match parts[..] {
            [CONFIG | CONFIG_COPY] => Ok(Self::Config),
            [KEYS, file] => file.strip_suffix(COPY).unwrap_or(file).parse().map(Self::Slot),
            [PACKS, folder, file] if file.starts_with(folder) && folder.len() == 2 => name().map(Self::Pack),
            [INDEX, _] => name().map(Self::Index),
            [SNAPSHOTS, _] => name().map(Self::Snapshots),
            [LOG, _] => name().map(Self::Log),
            _ => Ok(Self::Other),
        };
        place.unwrap_or(Self::Other)
    }

    /// The name that the bytes at this place must hash to, if they must.
    #[must_use]
    pub const fn name(self) -> Option<ObjectName> {
        match self {
            Self::Pack(name) | Self::Index(name) | Self::Snapshots(name) | Self::Log(name) => Some(name),
            Self::Config | Self::Slot(_) | Self::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_from_paths() {
        let name = ObjectName([0xAB; 32]);
        for (kind, place) in [
            (ObjectKind::PagePack, Place::Pack(name)),
            (ObjectKind::MetadataPack, Place::Pack(name)),
            (ObjectKind::Index, Place::Index(name)),
            (ObjectKind::Snapshots, Place::Snapshots(name)),
            (ObjectKind::Log, Place::Log(name)),
        ] {
            assert_eq!(Place::of(&object_path(kind, name).unwrap()), place);
        }
        let slot = SlotId([7; 8]);
        assert_eq!(Place::of(&slot_path(slot).unwrap()), Place::Slot(slot));
        assert_eq!(Place::of(&slot_copy_path(slot).unwrap()), Place::Slot(slot));
        let upper = slot_path(SlotId([0xAB; 8])).unwrap().as_str().to_uppercase().replace("KEYS", "keys");
        assert_eq!(Place::of(&ObjectPath::new(upper).unwrap()), Place::Other);
        for other in ["packs/00/x", "packs/abab", "notes.txt", ".gitignore", "index/a/b"] {
            assert_eq!(Place::of(&ObjectPath::new(other).unwrap()), Place::Other, "{other}");
        }
        assert!(object_path(ObjectKind::KeySlot, name).is_err());
    }
}
