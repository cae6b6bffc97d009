//! The folder of a cache: files that may be lost, cut short or changed at any time without harm.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Bytes of the checksum in front of a block.
const CHECK: usize = 32;
/// An entry whose time is older than this is touched when it is used.
const TOUCH_AFTER_SECONDS: u64 = 600;

/// Entries below one folder, fanned out by the first two digits of the object's name.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    limit: u64,
    /// Bytes in the folder, as far as this process knows.
    used: AtomicU64,
    temporaries: AtomicU64,
}

impl Disk {
    /// `None` if there can be no such folder: then there is no cache, which is no fault.
    pub(super) fn open(folder: PathBuf, limit: u64) -> Option<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
        let random = getrandom::u64().ok()?;
        let disk = Self { folder, limit, used: AtomicU64::new(0), temporaries: AtomicU64::new(random) };
        disk.make_room();
        Some(disk)
    }

    /// A whole object, if its bytes still have its name.
    pub(super) fn whole(&self, name: &str) -> Option<Vec<u8>> {
        let place = self.place(name, "whole");
        let bytes = read(&place)?;
        if blake3::hash(&bytes).to_hex().as_str() == name {
            return Some(bytes);
        }
        let _ = fs::remove_file(place);
        None
    }

    pub(super) fn put_whole(&self, name: &str, bytes: &[u8]) {
        if blake3::hash(bytes).to_hex().as_str() == name {
            self.write(name, "whole", &[bytes]);
        }
    }

    pub(super) fn block(&self, name: &str, number: u64) -> Option<Vec<u8>> {
        let place = self.place(name, &number.to_string());
        let mut bytes = read(&place)?;
        if bytes.len() > CHECK && *checksum(name, number, &bytes[CHECK..]).as_bytes() == bytes[..CHECK] {
            bytes.drain(..CHECK);
            return Some(bytes);
        }
        let _ = fs::remove_file(place);
        None
    }

    pub(super) fn put_block(&self, name: &str, number: u64, bytes: &[u8]) {
        self.write(name, &number.to_string(), &[checksum(name, number, bytes).as_bytes(), bytes]);
    }

    /// Forgets all of an object; whether there was anything.
    pub(super) fn forget(&self, name: &str) -> bool {
        let Ok(entries) = fs::read_dir(self.folder_of(name)) else { return false };
        let mut any = false;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(name) {
                any |= fs::remove_file(entry.path()).is_ok();
            }
        }
        any
    }

    fn folder_of(&self, name: &str) -> PathBuf {
        self.folder.join(&name[..2])
    }

    fn place(&self, name: &str, part: &str) -> PathBuf {
        self.folder_of(name).join(format!("{name}.{part}"))
    }

    /// Complete or not at all, but not made durable. Failing is no fault: it is a cache.
    fn write(&self, name: &str, part: &str, pieces: &[&[u8]]) {
        let size: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if size > self.limit {
            return;
        }
        let folder = self.folder_of(name);
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = folder.join(format!(".tmp-{number:016x}"));
        let outcome = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .and_then(|()| File::options().write(true).create_new(true).mode(0o600).open(&temporary))
            .and_then(|mut file| pieces.iter().try_for_each(|piece| file.write_all(piece)))
            .and_then(|()| fs::rename(&temporary, self.place(name, part)));
        if outcome.is_err() {
            let _ = fs::remove_file(temporary);
        } else if self.used.fetch_add(size, Ordering::Relaxed) + size > self.limit {
            self.make_room();
        }
    }

    /// Counts what is there; if it is too much, removes what was not used for the longest time, down to three quarters.
    fn make_room(&self) {
        let mut files = Vec::new();
        for folder in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            for entry in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                if let Ok(metadata) = entry.metadata() {
                    let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    files.push((used, metadata.len(), entry.path()));
                }
            }
        }
        let mut used: u64 = files.iter().map(|(_, size, _)| size).sum();
        if used > self.limit {
            files.sort_unstable();
            for (_, size, path) in files {
                if used <= self.limit / 4 * 3 {
                    break;
                }
                if fs::remove_file(path).is_ok() {
                    used -= size;
                }
            }
        }
        self.used.store(used, Ordering::Relaxed);
    }
}

fn checksum(name: &str, number: u64, bytes: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes()).update(&number.to_le_bytes()).update(bytes);
    hasher.finalize()
}

fn read(place: &Path) -> Option<Vec<u8>> {
    let mut file = File::open(place).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let modified = file.metadata().and_then(|metadata| metadata.modified()).ok();
    // How old an entry is, only the clock that set its time can tell.
    let age = modified.and_then(|modified| modified.elapsed().ok());
    if age.is_none_or(|age| age.as_secs() > TOUCH_AFTER_SECONDS) {
        let _ = filetime_now(place);
    }
    Some(bytes)
}

/// Sets the time of an entry to now, by the file system's own clock.
fn filetime_now(place: &Path) -> rustix::io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
    let at = |nanoseconds| Timespec { tv_sec: 0, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: at(UTIME_OMIT), last_modification: at(UTIME_NOW) };
    utimensat(CWD, place, &times, AtFlags::empty())
}
