//! A file on its way to becoming an object.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::super::Put;
use super::super::path::TEMPORARY_PREFIX;
use super::folder::Folder;

/// A complete file under a temporary name in the folder of its object; removed when dropped unpublished.
#[derive(Debug)]
pub(super) struct Temporary<'a> {
    folder: &'a Folder,
    /// Empty once there is nothing to remove.
    name: String,
}

impl<'a> Temporary<'a> {
    /// Writes `bytes` to disk under a name that nobody can foresee: 128 random bits, exclusively created.
    pub(super) fn write(folder: &'a Folder, bytes: &[u8]) -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let name = format!("{TEMPORARY_PREFIX}{:032x}", u128::from_ne_bytes(random));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(folder, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?);
        let temporary = Self { folder, name };
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(temporary)
    }

    /// Gives the file its object's name unless that is taken.
    pub(super) fn publish(mut self, name: &str) -> io::Result<Put> {
        match rustix::fs::renameat_with(
            self.folder,
            self.name.as_str(),
            self.folder,
            name,
            RenameFlags::NOREPLACE,
        ) {
            Ok(()) => {
                self.name.clear();
                Ok(Put::Created)
            }
            Err(Errno::EXIST) => Ok(Put::AlreadyPresent),
            // NFS and others know no such rename, but have hard links.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.publish_by_link(name),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Self::publish`]; the temporary name goes when `self` does.
    pub(super) fn publish_by_link(&self, name: &str) -> io::Result<Put> {
        match rustix::fs::linkat(self.folder, self.name.as_str(), self.folder, name, AtFlags::empty()) {
            Ok(()) => Ok(Put::Created),
            Err(Errno::EXIST) => Ok(Put::AlreadyPresent),
            Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the file system can neither rename without overwriting nor make hard links",
            )),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            // Best effort: what stays is removed as stale later.
            let _ = self.folder.unlink(&self.name);
        }
    }
}
