//! An export as a file: private, complete or absent, and never in the place of another unless that is wanted.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::ids::to_hex;

/// A file that has its name only when it is put in place; forgotten if it is dropped before.
#[derive(Debug)]
pub struct OutputFile {
    target: PathBuf,
    overwrite: bool,
    temporary: PathBuf,
    file: BufWriter<File>,
    in_place: bool,
}

impl OutputFile {
    /// Begins a file for `target`, beside it and readable by its owner alone.
    ///
    /// # Errors
    /// `target` exists and may not be replaced, or is no ordinary file; its folder does not exist or cannot be written.
    pub fn create(target: &Path, overwrite: bool) -> Result<Self> {
        match target.symlink_metadata() {
            Ok(metadata) if !metadata.is_file() => {
                let message = format!("{} is not an ordinary file", target.display());
                return Err(Error::new(ErrorKind::Refused, message)
                    .with_hint("name a new file; without --output the export goes to standard output"));
            }
            Ok(_) if !overwrite => return Err(exists(target)),
            _ => {}
        }
        if target.file_name().is_none() {
            return Err(Error::new(ErrorKind::Usage, format!("{:?} does not name a file", target.display())));
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
        let temporary = target.with_file_name(format!(".pagevault-{}", to_hex(&random)));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let file =
            BufWriter::with_capacity(64 * 1024, file.map_err(|error| failed(target, "create", error))?);
        Ok(Self { target: target.to_path_buf(), overwrite, temporary, file, in_place: false })
    }

    /// Makes the bytes durable, then gives them their name.
    ///
    /// # Errors
    /// The disk is full, or the target has come into being meanwhile.
    pub fn put_in_place(mut self) -> Result<()> {
        self.file.flush().map_err(|error| failed(&self.target, "write", error))?;
        self.file.get_ref().sync_all().map_err(|error| failed(&self.target, "write", error))?;
        if self.overwrite {
            std::fs::rename(&self.temporary, &self.target)
        } else {
            rename_new(&self.temporary, &self.target)
        }
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => exists(&self.target),
            _ => failed(&self.target, "create", error),
        })?;
        self.in_place = true;
        let folder =
            self.target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(folder, "sync", error))
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.in_place {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system without such a rename: a hard link never replaces either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        outcome => Ok(outcome?),
    }
}

fn exists(target: &Path) -> Error {
    Error::new(ErrorKind::Refused, format!("{} exists", target.display()))
        .with_hint("choose another path, or replace it with --yes")
}

fn failed(target: &Path, verb: &str, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Failed,
    };
    let made = Error::new(kind, format!("cannot {verb} {}: {error}", target.display()));
    match error.kind() {
        std::io::ErrorKind::NotFound => made.with_hint("the folder must exist"),
        std::io::ErrorKind::StorageFull => made.with_hint("free space there, or export to another disk"),
        _ => made,
    }
    .with_source(error)
}
