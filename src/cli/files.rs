//! Small files of the command line's own: written so that they are complete or absent, read up to a limit.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags, linkat, renameat_with};
use rustix::io::Errno;
use zeroize::Zeroizing;

/// What is read of a file or a command at most: no key or passphrase is longer.
pub(crate) const LIMIT: usize = 64 * 1024;

/// Writes a new file that its owner alone can read, and makes it durable. It appears complete, so that another
/// process that finds it can use it; one that exists is left alone ([`io::ErrorKind::AlreadyExists`]).
pub(crate) fn create_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = Temporary::write(path, content)?;
    publish(&temporary.0, path)?;
    sync_folder(parent(path))
}

/// Replaces a file, or makes it, with its folder: whoever reads it sees all of the old or all of the new.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = parent(path);
    if !folder.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let temporary = Temporary::write(path, content)?;
    std::fs::set_permissions(&temporary.0, Permissions::from_mode(mode))?;
    std::fs::rename(&temporary.0, path)?;
    sync_folder(folder)
}

/// The folder that holds `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn publish(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems without such a rename have hard links, mostly.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => linkat(CWD, from, CWD, to, AtFlags::empty())?,
        outcome => outcome?,
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network file systems have no such thing.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        outcome => outcome,
    }
}

/// A file under a name that nobody can foresee, gone when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn write(target: &Path, content: &[u8]) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let name = format!(".pagevault-{:016x}.tmp", u64::from_ne_bytes(random));
        let path = parent(target).join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let temporary = Self(path);
        file.write_all(content)?;
        file.sync_all()?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing left under this name.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A secret that was read, and whether others can read it too.
pub(crate) struct SecretFile {
    /// The content.
    pub(crate) content: Zeroizing<Vec<u8>>,
    /// The file's permissions, if it is a file that not only its owner may read or write.
    pub(crate) exposed_mode: Option<u32>,
}

/// Reads a file that holds a secret.
pub(crate) fn read_secret(path: &Path) -> io::Result<SecretFile> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mode = metadata.permissions().mode() & 0o777;
    let exposed_mode = (metadata.is_file() && mode & 0o077 != 0).then_some(mode);
    Ok(SecretFile { content: read_limited(file)?, exposed_mode })
}

/// Reads to the end, which must come within [`LIMIT`].
pub(crate) fn read_limited(source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it: a buffer that grows leaves copies of the secret behind.
    let mut content = Zeroizing::new(Vec::with_capacity(LIMIT + 1));
    source.take(LIMIT as u64 + 1).read_to_end(&mut content)?;
    if content.len() > LIMIT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(content) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_once_complete_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_private(&path, b"one").unwrap();
        assert_eq!(create_private(&path, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let read = read_secret(&path).unwrap();
        assert_eq!((read.content.as_slice(), read.exposed_mode), (b"one".as_slice(), None));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn exposed_and_impossible_files_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read_secret(&path).unwrap().exposed_mode, Some(0o644));
        assert!(read_secret(folder.path()).is_err());
        std::fs::write(&path, vec![0; LIMIT + 1]).unwrap();
        assert!(read_secret(&path).is_err());
    }
}
