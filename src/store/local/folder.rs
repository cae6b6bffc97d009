//! Folders by file descriptor: every step down is one `openat` that refuses symbolic links, so no check can
//! be raced by a change of the tree.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, Result};

const OPEN_FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FOLDER_MODE: Mode = Mode::RWXU;

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

/// What a walk found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    folder: &'a str,
    /// Its name in its folder.
    pub(super) name: &'a str,
}

impl Entry<'_> {
    /// Where it is, relative to the store.
    pub(super) fn path(&self) -> String {
        join(self.folder, self.name)
    }
}

impl Folder {
    /// Opens the root of a store; the path to it may contain symbolic links.
    pub(super) fn open_root(place: &Path) -> Result<Self> {
        rustix::fs::open(place, OPEN_FOLDER.difference(OFlags::NOFOLLOW), Mode::empty()).map(Self)
    }

    /// A second handle.
    pub(super) fn again(&self) -> Result<Self> {
        rustix::io::fcntl_dupfd_cloexec(&self.0, 0).map(Self)
    }

    pub(super) fn open_folder(&self, name: &str) -> Result<Self> {
        rustix::fs::openat(&self.0, name, OPEN_FOLDER, Mode::empty()).map(Self)
    }

    /// Makes a folder, or opens the one that another writer made in the meantime.
    pub(super) fn make_folder(&self, name: &str) -> Result<Self> {
        match rustix::fs::mkdirat(&self.0, name, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => self.open_folder(name),
            Err(error) => Err(error),
        }
    }

    /// Opens a file for reading. `NONBLOCK`: opening a FIFO put in an object's place must not wait.
    pub(super) fn open_file(&self, name: &str) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, name, flags, Mode::empty())
    }

    pub(super) fn stat(&self, name: &str) -> Result<Stat> {
        rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    pub(super) fn has(&self, name: &str) -> Result<bool> {
        match self.stat(name) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a file; `false` if there was none.
    pub(super) fn unlink(&self, name: &str) -> Result<bool> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the entries of this folder durable. A file system that has no such thing says `EINVAL` or
    /// `ENOTSUP` (some network and user-space ones); there is nothing more to be had from it.
    pub(super) fn sync(&self) -> Result<()> {
        match rustix::fs::fsync(&self.0) {
            Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
            outcome => outcome,
        }
    }

    /// Shows the name of every entry except `.` and `..`; names that are not UTF-8 show as `None`.
    pub(super) fn visit(&self, visit: &mut dyn FnMut(Option<&str>) -> ControlFlow<()>) -> Result<()> {
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_str().ok();
            if !matches!(name, Some("." | "..")) && visit(name).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Shows everything that is not a folder, down to `depth` components below the folder, whose path
    /// relative to the store is `path`. What is deleted meanwhile is passed over.
    pub(super) fn walk(
        &self,
        path: &str,
        depth: usize,
        visit: &mut dyn FnMut(&Self, Entry<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if matches!(name, "." | "..") {
                continue;
            }
            let step = if self.is_folder(name, entry.file_type())? {
                match self.open_folder(name) {
                    Ok(folder) if depth > 1 => folder.walk(&join(path, name), depth - 1, visit)?,
                    Ok(_) | Err(Errno::NOENT) => ControlFlow::Continue(()),
                    Err(error) => return Err(error),
                }
            } else {
                visit(self, Entry { folder: path, name })
            };
            if step.is_break() {
                return Ok(step);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Some file systems do not say in the listing what an entry is.
    fn is_folder(&self, name: &str, listed: FileType) -> Result<bool> {
        if listed != FileType::Unknown {
            return Ok(listed == FileType::Directory);
        }
        match self.stat(name) {
            Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
