//! Key files: reading them, and making new ones that are on disk before anything depends on them.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use pagevault::crypto::secret::{KeyTextError, Secret32, TextForm};
use pagevault::monitor::Monitor;
use pagevault::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::files;
use super::text::{printable, shell_word};

const HEADER: &str = "\
# pagevault key file. Whoever has it can read the vault; without it, or another key, nobody can.
";

/// Reads the key in a file. Others being able to read it too is worth a warning.
pub(crate) fn read(path: &Path, monitor: &dyn Monitor) -> Result<Secret32> {
    let file = files::read_secret(path).map_err(|error| unreadable("key file", path, &error))?;
    if let Some(mode) = file.exposed_mode {
        warn_of_exposure("key file", path, mode, monitor);
    }
    let not_a_key = |reason: String, hint: &str| {
        Error::new(ErrorKind::Unlock, format!("{} is not a key file: {reason}", path.display()))
            .with_hint(hint)
    };
    let text = std::str::from_utf8(&file.content).map_err(|_| {
        not_a_key("it is not text".to_owned(), "name the key file of the vault with --key-file")
    })?;
    TextForm::KeyFile.read(text).map_err(|error| {
        let hint = match error {
            KeyTextError::Missing(_) => "give a passphrase with --password-file, a key file with --key-file",
            KeyTextError::Checksum => "take it from another copy, or unlock with another key",
            KeyTextError::OtherSort(..) => "give a recovery key at the prompt or with --password-file",
        };
        not_a_key(error.to_string(), hint)
    })
}

/// The error for a file with a secret that cannot be read.
pub(crate) fn unreadable(what: &str, path: &Path, error: &io::Error) -> Error {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        io::ErrorKind::FileTooLarge => "it is larger than any key".to_owned(),
        _ => error.to_string(),
    };
    Error::new(ErrorKind::Unlock, format!("cannot read {what} {}: {reason}", path.display()))
        .with_hint("check the path and who may read it")
}

/// Warns of a secret that not only its owner may read.
pub(crate) fn warn_of_exposure(what: &str, path: &Path, mode: u32, monitor: &dyn Monitor) {
    let (shown, word) = (path.display(), shell_word(path));
    monitor
        .warn(&format!("{what} {shown} is open to others (mode {mode:03o}); `chmod 600 {word}` mends that"));
}

/// A key file that was just made. It goes again when dropped, unless it is [kept](Self::keep).
#[derive(Debug)]
pub(crate) struct NewKeyFile {
    path: PathBuf,
    kept: bool,
}

impl NewKeyFile {
    /// Makes a key file for a vault at `vault`, which must not hold it. When this returns it is on disk.
    pub(crate) fn create(path: &Path, vault: &Path) -> Result<(Self, Secret32)> {
        refuse_inside(path, vault)?;
        let secret = Secret32::random()
            .map_err(|error| Error::new(ErrorKind::Failed, "cannot make a key").with_source(error))?;
        let key = TextForm::KeyFile.print(&secret);
        let mut text = Zeroizing::new(String::with_capacity(HEADER.len() + key.len() + 1));
        text.extend([HEADER, &key, "\n"]);
        files::create_private(path, text.as_bytes()).map_err(|error| uncreatable(path, &error))?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        Ok((Self { path, kept: false }, secret))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Something depends on it now.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewKeyFile {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing was locked with it; a stray key file would only confuse.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes the folder of the default key file.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    let folder = files::parent(path);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| uncreatable(path, &error))
}

fn uncreatable(path: &Path, error: &io::Error) -> Error {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::AlreadyExists => Error::new(ErrorKind::Refused, format!("{shown} exists"))
            .with_hint("choose another path; to use an existing key file, name it with --key-file"),
        io::ErrorKind::NotFound => {
            Error::new(ErrorKind::Failed, format!("cannot make {shown}: its folder does not exist"))
                .with_hint("make the folder first")
        }
        _ => Error::new(ErrorKind::Failed, format!("cannot make key file {shown}: {error}"))
            .with_hint("choose a place where you may write"),
    }
}

/// A key next to what it opens protects nothing, and would travel with every copy of the vault.
fn refuse_inside(path: &Path, vault: &Path) -> Result<()> {
    let (Ok(folder), Ok(vault)) = (files::parent(path).canonicalize(), vault.canonicalize()) else {
        return Ok(());
    };
    if !folder.starts_with(&vault) {
        return Ok(());
    }
    let message = format!("{} would lie inside the vault it opens", printable(&path.display().to_string()));
    Err(Error::new(ErrorKind::Refused, message).with_hint("choose a place outside the vault"))
}

#[cfg(test)]
mod tests {
    use pagevault::monitor::Silent;

    use super::*;

    #[test]
    fn a_new_key_file_can_be_read_and_goes_unless_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let vault = folder.path().join("vault");
        let (file, secret) = NewKeyFile::create(&path, &vault).unwrap();
        assert_eq!(read(&path, &Silent).unwrap().expose(), secret.expose());
        assert_eq!(NewKeyFile::create(&path, &vault).unwrap_err().kind(), ErrorKind::Refused);
        drop(file);
        assert!(!path.exists());
        NewKeyFile::create(&path, &vault).unwrap().0.keep();
        assert!(path.exists());
    }

    #[test]
    fn a_key_is_not_put_into_its_vault() {
        let folder = tempfile::tempdir().unwrap();
        let error = NewKeyFile::create(&folder.path().join("a.key"), folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
    }

    #[test]
    fn what_is_no_key_file_is_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let recovery = TextForm::RecoveryKey.print(&Secret32::new([1; 32]));
        let key = TextForm::KeyFile.print(&Secret32::new([1; 32]));
        let cut = &key.as_bytes()[..30];
        for (content, reason) in [
            (b"hello" as &[u8], "no key in it"),
            (b"\xff\xfe", "not text"),
            (recovery.as_bytes(), "found `pvrecovery1`"),
            (cut, "checksum"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = read(&path, &Silent).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unlock);
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert_eq!(read(Path::new("/nowhere/key"), &Silent).unwrap_err().kind(), ErrorKind::Unlock);
        assert_eq!(read(folder.path(), &Silent).unwrap_err().kind(), ErrorKind::Unlock);
    }
}
