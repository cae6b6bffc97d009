//! Which packs this machine has read, when, and whether they were whole: so that a check of a large vault can go on where
//! the last one stopped. A file in the client's state folder; losing it costs time only.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::crypto::secret::Secret32;
use crate::ids::ObjectName;

const MAGIC: &[u8; 8] = b"PGVREAD1";
const ENTRY_LEN: usize = 32 + 8 + 1;

/// One reading of one pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// When, in microseconds since 1970 UTC.
    pub at_us: i64,
    /// Whether all was as it should be.
    pub whole: bool,
}

/// The newest reading of each pack.
#[derive(Debug)]
pub struct Readings {
    file: Option<PathBuf>,
    key: Secret32,
    packs: HashMap<ObjectName, Reading>,
}

impl Readings {
    /// What is remembered in `file`; nothing, if there is none or what is there is damaged.
    pub(crate) fn load(file: Option<&Path>, key: Secret32) -> Self {
        let packs = file.and_then(|file| File::open(file).ok());
        let packs = packs.and_then(|mut file| decode(&read(&mut file)?, &key)).unwrap_or_default();
        Self { file: file.map(Path::to_path_buf), key, packs }
    }

    /// The newest reading of a pack.
    #[must_use]
    pub fn of(&self, pack: ObjectName) -> Option<Reading> {
        self.packs.get(&pack).copied()
    }

    /// Remembers a reading.
    pub fn note(&mut self, pack: ObjectName, reading: Reading) {
        self.packs.insert(pack, reading);
    }

    /// Writes down what is known of the packs that `is_there`, together with what other checks have written meanwhile.
    /// Without a state folder, or where it cannot be written, nothing happens: the next check reads more than it needs.
    pub fn save(&mut self, is_there: &dyn Fn(ObjectName) -> bool) {
        let _ = self.try_save(is_there);
    }

    fn try_save(&mut self, is_there: &dyn Fn(ObjectName) -> bool) -> Option<()> {
        let path = self.file.as_ref()?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent()?).ok()?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).ok()?;
        file.lock().ok()?;
        for (pack, reading) in decode(&read(&mut file)?, &self.key).unwrap_or_default() {
            let known = self.packs.entry(pack).or_insert(reading);
            if known.at_us < reading.at_us {
                *known = reading;
            }
        }
        self.packs.retain(|pack, _| is_there(*pack));
        let bytes = encode(&self.packs, &self.key);
        file.rewind().ok()?;
        file.write_all(&bytes).ok()?;
        file.set_len(bytes.len() as u64).ok()
    }
}

fn read(file: &mut File) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok().map(|_| bytes)
}

fn encode(packs: &HashMap<ObjectName, Reading>, key: &Secret32) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for (pack, reading) in packs {
        bytes.extend_from_slice(&pack.0);
        bytes.extend_from_slice(&reading.at_us.to_le_bytes());
        bytes.push(u8::from(reading.whole));
    }
    let check = blake3::keyed_hash(key.expose(), &bytes);
    bytes.extend_from_slice(check.as_bytes());
    bytes
}

/// A file that was written in part, or has rotted, is no memory at all.
fn decode(bytes: &[u8], key: &Secret32) -> Option<HashMap<ObjectName, Reading>> {
    let (body, check) = bytes.split_last_chunk::<32>()?;
    let entries = body.strip_prefix(MAGIC)?;
    if blake3::keyed_hash(key.expose(), body) != *check {
        return None;
    }
    let decoded = entries.chunks_exact(ENTRY_LEN).map(|entry| {
        let (pack, rest) = entry.split_first_chunk::<32>()?;
        let (at, whole) = rest.split_first_chunk::<8>()?;
        Some((ObjectName(*pack), Reading { at_us: i64::from_le_bytes(*at), whole: whole == [1] }))
    });
    decoded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(folder: &Path) -> Readings {
        Readings::load(Some(&folder.join("readings")), Secret32::new([3; 32]))
    }

    #[test]
    fn two_checks_at_once_both_count_and_the_newer_wins() {
        let folder = tempfile::tempdir().unwrap();
        let pack = |number| ObjectName([number; 32]);
        let (mut one, mut other) = (load(folder.path()), load(folder.path()));
        one.note(pack(1), Reading { at_us: 5, whole: true });
        one.note(pack(2), Reading { at_us: 5, whole: true });
        other.note(pack(2), Reading { at_us: 9, whole: false });
        other.note(pack(3), Reading { at_us: 9, whole: true });
        one.save(&|_| true);
        other.save(&|name| name != pack(3));
        let known = load(folder.path());
        assert_eq!(known.of(pack(1)), Some(Reading { at_us: 5, whole: true }));
        assert_eq!(known.of(pack(2)), Some(Reading { at_us: 9, whole: false }));
        assert_eq!(known.of(pack(3)), None);
    }

    #[test]
    fn a_damaged_memory_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut readings = load(folder.path());
        readings.note(ObjectName([1; 32]), Reading { at_us: 5, whole: true });
        readings.save(&|_| true);
        let path = folder.path().join("readings");
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            std::fs::write(&path, flipped).unwrap();
            assert_eq!(load(folder.path()).of(ObjectName([1; 32])), None, "{at}");
        }
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(load(folder.path()).of(ObjectName([1; 32])), None);
    }
}
