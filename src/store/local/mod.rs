//! A store in a folder of a local or mounted file system.
//!
//! An object appears by a rename that does not overwrite, of a file that is complete and on disk: readers
//! see all of it or nothing, and of two writers one wins. Whatever a killed process leaves behind bears a
//! temporary name. Folders are only ever added, so that one that was once made durable stays so. Below the
//! root no symbolic link is followed, neither to a file nor to a folder: somebody who may write in the vault
//! must not be able to point a reader or a writer elsewhere.

mod folder;
mod temporary;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use lru::LruCache;
use rustix::fs::{FileType, Stat};

use self::folder::{Entry, Folder};
use self::temporary::Temporary;
use super::path::{TEMPORARY_PREFIX, check_folder, is_component};
use super::{ObjectMeta, ObjectPath, Put, Store, StoreError};

/// Open files kept for range reads. A restore goes back and forth between the packs of a few dozen
/// snapshots; each costs a file descriptor, of which a process has 1,024 by default.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(48).unwrap();

/// Objects as files below one folder, readable by their owner only.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
    root_folder: Folder,
    /// Folders whose entry in their parent is known to be on disk.
    durable_folders: Mutex<HashSet<String>>,
    /// Files open for range reads. An object deleted by another process stays readable while it is in here,
    /// which is harmless: what a path holds never changes.
    open_files: Mutex<LruCache<ObjectPath, Arc<File>>>,
}

impl LocalStore {
    /// Opens the store in `root`, making the folder (0700) and those above it if they are missing. Whether a
    /// folder that holds something may become a store is the caller's decision, see [`Self::is_empty`].
    pub fn create(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        let fail = |source: io::Error| StoreError::from_io("create", root.display(), source);
        let missing: Vec<&Path> = root.ancestors().take_while(|place| !exists(place)).collect();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(fail)?;
        for place in missing {
            let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = Folder::open_root(parent.unwrap_or(Path::new("."))).map_err(|e| fail(e.into()))?;
            parent.sync().map_err(|e| fail(e.into()))?;
        }
        Self::open(root)
    }

    /// Opens the store in the folder `root`, which must exist ([`StoreError::NotFound`] otherwise).
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        let root_folder =
            Folder::open_root(&root).map_err(|source| StoreError::from_io("open", root.display(), source))?;
        Ok(Self {
            root,
            root_folder,
            durable_folders: Mutex::default(),
            open_files: Mutex::new(LruCache::new(OPEN_FILES)),
        })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether there is nothing at all in the folder, objects or other files.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        let mut empty = true;
        let look = self.root_folder.visit(&mut |_| {
            empty = false;
            ControlFlow::Break(())
        });
        look.map_err(|source| self.failure("list", "", source))?;
        Ok(empty)
    }

    /// Removes the temporary files last written before `before`, which killed processes left behind, and
    /// returns how many there were. A writer that is still at work on one fails and can start again, so
    /// `before` should be an hour or more ago.
    pub fn remove_stale_temporaries(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut removed = 0;
        let mut failure = None;
        self.walk("", &mut |folder, entry| {
            if !entry.name.starts_with(TEMPORARY_PREFIX) {
                return ControlFlow::Continue(());
            }
            let outcome = folder.stat(entry.name).and_then(|stat| {
                if modified(&stat).is_some_and(|time| time < before) {
                    folder.unlink(entry.name)
                } else {
                    Ok(false)
                }
            });
            match outcome {
                Ok(was_there) => removed += u64::from(was_there),
                Err(rustix::io::Errno::NOENT) => {}
                Err(source) => failure = Some(self.failure("delete", entry.name, source)),
            }
            ControlFlow::Continue(())
        })?;
        failure.map_or(Ok(removed), Err)
    }

    /// Shows every file, symbolic link and the like below `folder` with the folder that holds it; `name` of
    /// the entry may be any name.
    fn walk(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(&Folder, Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        check_folder(folder)?;
        let depth =
            ObjectPath::MAX_COMPONENTS - if folder.is_empty() { 0 } else { folder.split('/').count() };
        match self.open_folder(folder) {
            Ok(opened) => opened.walk(folder, depth, visit).map(|_| ()),
            Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(source) => Err(source),
        }
        .map_err(|source| self.failure("list", folder, source))
    }

    fn open_folder(&self, folder: &str) -> rustix::io::Result<Folder> {
        let mut current = self.root_folder.again()?;
        for name in folder.split('/').filter(|name| !name.is_empty()) {
            current = current.open_folder(name)?;
        }
        Ok(current)
    }

    /// The folder of an object to be written, made where it is missing. Another process may have made it and
    /// be killed before it is on disk, so the first use here syncs the parent whoever made it.
    fn make_folder(&self, folder: &str) -> rustix::io::Result<Folder> {
        let mut current = self.root_folder.again()?;
        let mut end = 0;
        for name in folder.split('/').filter(|name| !name.is_empty()) {
            end += name.len();
            let next = match current.open_folder(name) {
                Err(rustix::io::Errno::NOENT) => current.make_folder(name)?,
                opened => opened?,
            };
            let mut durable = self.durable_folders.lock().unwrap_or_else(PoisonError::into_inner);
            if !durable.contains(&folder[..end]) {
                current.sync()?;
                durable.insert(folder[..end].to_owned());
            }
            end += "/".len();
            current = next;
        }
        Ok(current)
    }

    /// The object's file and its length in bytes.
    fn open_object(&self, path: &ObjectPath) -> Result<(File, u64), StoreError> {
        let fail = |source| self.failure("read", path.as_str(), source);
        let file = self.open_folder(path.folder()).and_then(|folder| folder.open_file(path.file_name()));
        let file = file.map_err(fail)?;
        let stat = rustix::fs::fstat(&file).map_err(fail)?;
        self.check_regular(path, &stat)?;
        Ok((File::from(file), length(&stat)))
    }

    /// The object's file, from those that are open already if possible.
    fn open_for_ranges(&self, path: &ObjectPath) -> Result<Arc<File>, StoreError> {
        let cached = self.with_open_files(|files| files.get(path).cloned());
        if let Some(file) = cached {
            return Ok(file);
        }
        let file = Arc::new(self.open_object(path)?.0);
        self.with_open_files(|files| files.put(path.clone(), Arc::clone(&file)));
        Ok(file)
    }

    fn with_open_files<T>(&self, use_them: impl FnOnce(&mut LruCache<ObjectPath, Arc<File>>) -> T) -> T {
        use_them(&mut self.open_files.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn check_regular(&self, path: &ObjectPath, stat: &Stat) -> Result<(), StoreError> {
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            Ok(())
        } else {
            Err(StoreError::other("read", self.place(path.as_str()), "not a regular file"))
        }
    }

    fn place(&self, below: &str) -> String {
        self.root.join(below).display().to_string()
    }

    fn failure(&self, operation: &'static str, below: &str, source: rustix::io::Errno) -> StoreError {
        match source {
            rustix::io::Errno::LOOP => StoreError::other(
                operation,
                self.place(below),
                "it is a symbolic link, and inside a vault none is followed",
            ),
            source => StoreError::from_io(operation, self.place(below), source),
        }
    }
}

impl Store for LocalStore {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn get(&self, path: &ObjectPath, limit: u64) -> Result<Vec<u8>, StoreError> {
        let (file, size) = self.open_object(path)?;
        let too_large = |size| StoreError::TooLarge { path: self.place(path.as_str()), size, limit };
        if size > limit {
            return Err(too_large(size));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).map_err(|_| too_large(size))?);
        // One byte more than allowed, in case the file is not what a store holds and grows.
        let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|source| StoreError::from_io("read", self.place(path.as_str()), source))?;
        let size = bytes.len() as u64;
        if size > limit { Err(too_large(size)) } else { Ok(bytes) }
    }

    fn read_range(&self, path: &ObjectPath, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.open_for_ranges(path)?.read_exact_at(into, offset).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => {
                StoreError::ShortRead { path: self.place(path.as_str()), offset, length: into.len() }
            }
            _ => StoreError::from_io("read", self.place(path.as_str()), source),
        })
    }

    fn size(&self, path: &ObjectPath) -> Result<u64, StoreError> {
        let stat = self.open_folder(path.folder()).and_then(|folder| folder.stat(path.file_name()));
        let stat = stat.map_err(|source| self.failure("read", path.as_str(), source))?;
        self.check_regular(path, &stat)?;
        Ok(length(&stat))
    }

    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        let write = || {
            let folder = self.make_folder(path.folder())?;
            let outcome = if folder.has(path.file_name())? {
                Put::AlreadyPresent
            } else {
                Temporary::write(&folder, bytes)?.publish(path.file_name())?
            };
            // Also where the object was there: its writer may not have come this far.
            folder.sync()?;
            Ok(outcome)
        };
        write().map_err(|source: io::Error| match source.kind() {
            // The folder or the temporary file was taken away: not what `NotFound` says of an object.
            io::ErrorKind::NotFound => StoreError::other("write", self.place(path.as_str()), source),
            _ => StoreError::from_io("write", self.place(path.as_str()), source),
        })
    }

    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut failure = None;
        self.walk(folder, &mut |holder, entry| {
            if !is_component(entry.name) {
                return ControlFlow::Continue(());
            }
            let Ok(path) = ObjectPath::new(entry.path()) else { return ControlFlow::Continue(()) };
            match holder.stat(entry.name) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                    visit(ObjectMeta { path, size: length(&stat), modified: modified(&stat), md5: None })
                }
                Ok(_) | Err(rustix::io::Errno::NOENT) => ControlFlow::Continue(()),
                Err(source) => {
                    failure = Some(self.failure("list", path.as_str(), source));
                    ControlFlow::Break(())
                }
            }
        })?;
        failure.map_or(Ok(()), Err)
    }

    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.with_open_files(|files| files.pop(path));
        let remove = || {
            let folder = self.open_folder(path.folder())?;
            if folder.unlink(path.file_name())? { folder.sync() } else { Ok(()) }
        };
        match remove() {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(source) => Err(self.failure("delete", path.as_str(), source)),
        }
    }

    fn in_use(&self, folder: &str) -> Option<super::InUse> {
        check_folder(folder).ok()?;
        super::InUse::enter(&self.root.join(folder))
    }
}

/// The empty path is the parent of a relative one, that is, the current folder.
fn exists(place: &Path) -> bool {
    place.as_os_str().is_empty() || place.exists()
}

fn length(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn modified(stat: &Stat) -> Option<Timestamp> {
    Timestamp::new(stat.st_mtime, i32::try_from(stat.st_mtime_nsec).ok()?).ok()
}
