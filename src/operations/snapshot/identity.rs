//! Which database this is: the one whose newest snapshot is of this path on this host. Two files of the same name in
//! two folders are two databases, and a name belongs to one database of a vault. One that moved is told so.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::SnapshotRequest;
use crate::crypto::CryptoError;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{DatabaseId, HostId, SnapshotId};
use crate::operations::list::newest as newest_snapshot;
use crate::vault::{Catalog, Snapshot, VaultError};

/// Which names are taken, and by which database; and what this run has met and not published yet.
#[derive(Debug)]
pub(in crate::operations) struct Names {
    owners: HashMap<String, DatabaseId>,
    new: HashMap<PathBuf, (DatabaseId, String)>,
}

impl Names {
    pub(in crate::operations) fn of(catalog: &Catalog) -> Self {
        let manifests = catalog.snapshots.iter().map(|snapshot| &snapshot.manifest);
        let owners = manifests.map(|manifest| (manifest.name.clone(), manifest.database)).collect();
        Self { owners, new: HashMap::new() }
    }
}

/// A database as the vault knows it.
#[derive(Debug)]
pub(in crate::operations) struct Identity {
    pub(in crate::operations) database: DatabaseId,
    pub(in crate::operations) name: String,
    /// Its newest image.
    pub(in crate::operations) parent: Option<SnapshotId>,
}

impl Identity {
    pub(in crate::operations) fn of(
        catalog: &Catalog,
        names: &mut Names,
        request: &SnapshotRequest,
        canonical: &Path,
        now: Timestamp,
    ) -> Result<Self> {
        let newest = if request.moved {
            Some(moved(catalog, request, canonical)?)
        } else {
            at_path(catalog, request.host.id, canonical)
        };
        let known = newest.map(|snapshot| (snapshot.manifest.database, snapshot.manifest.name.clone()));
        let (database, known_name) = match known.or_else(|| names.new.get(canonical).cloned()) {
            Some((database, name)) => (database, Some(name)),
            None => {
                (DatabaseId::random().map_err(|error| VaultError::Crypto(CryptoError::from(error)))?, None)
            }
        };
        let name = request
            .name
            .clone()
            .or(known_name)
            .or_else(|| canonical.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "database".to_owned());
        check_name(&name)?;
        if *names.owners.entry(name.clone()).or_insert(database) != database {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("the name {name:?} belongs to another database in this vault"),
            )
            .with_hint(
                "choose another with --name; if it is the same database at a new place, add --moved",
            ));
        }
        // An export belongs to its database, and is nothing that an image could be compared with. One that is dated in the
        // future, by a clock that was wrong, would stay the newest for as long as that, and further away each time.
        let is_own = |own: &&Snapshot| own.manifest.database == database && own.is_image();
        let parent = newest_snapshot(catalog.snapshots.iter().rev().filter(is_own), now);
        names.new.insert(canonical.to_path_buf(), (database, name.clone()));
        Ok(Self { database, name, parent: parent.map(|snapshot| snapshot.id) })
    }
}

/// The newest snapshot of the database that is at `canonical`: a path that a database has left is not its any more.
fn at_path<'c>(catalog: &'c Catalog, host: HostId, canonical: &Path) -> Option<&'c Snapshot> {
    let path = canonical.as_os_str().as_bytes();
    let here = |snapshot: &&Snapshot| {
        snapshot.manifest.host == host && snapshot.manifest.details.source_path.as_deref() == Some(path)
    };
    let database = catalog.snapshots.iter().rev().find(here)?.manifest.database;
    newest_of(catalog, database).filter(here)
}

/// The newest image of a database; of one that was only exported, the newest export.
fn newest_of(catalog: &Catalog, database: DatabaseId) -> Option<&Snapshot> {
    let own = || catalog.snapshots.iter().rev().filter(|snapshot| snapshot.manifest.database == database);
    own().find(|snapshot| snapshot.is_image()).or_else(|| own().next())
}

/// The newest snapshot of the database that the user says has moved to `canonical`.
fn moved<'c>(catalog: &'c Catalog, request: &SnapshotRequest, canonical: &Path) -> Result<&'c Snapshot> {
    let Some(name) = request.name.as_deref() else {
        return Err(Error::new(ErrorKind::Usage, "a database that moved was not named")
            .with_hint("say which one it is with --name"));
    };
    let named = catalog.snapshots.iter().rev().find(|snapshot| snapshot.manifest.name == name);
    let Some(newest) = named.and_then(|snapshot| newest_of(catalog, snapshot.manifest.database)) else {
        return Err(Error::new(ErrorKind::NotFound, format!("no database {name:?} in this vault"))
            .with_hint("`list` shows the names; a new database needs no --moved"));
    };
    if let Some(other) = at_path(catalog, request.host.id, canonical)
        && other.manifest.database != newest.manifest.database
    {
        let message = format!("{} is database {:?} already", canonical.display(), other.manifest.name);
        return Err(Error::new(ErrorKind::Refused, message).with_hint("leave out --moved and --name"));
    }
    let before =
        newest.manifest.details.source_path.as_deref().map(|path| Path::new(OsStr::from_bytes(path)));
    match before {
        Some(before) if newest.manifest.host == request.host.id && before != canonical && before.exists() => {
            let message = format!("database {name:?} is still at {}", before.display());
            Err(Error::new(ErrorKind::Refused, message)
                .with_hint("two files are two databases: choose another name, without --moved"))
        }
        _ => Ok(newest),
    }
}

/// What a database at `path` is to be called: the name it has here, or one that is free.
pub(in crate::operations) fn free_name(catalog: &Catalog, host: HostId, path: &Path) -> String {
    let manifests = || catalog.snapshots.iter().rev().map(|snapshot| &snapshot.manifest);
    if let Some(known) = at_path(catalog, host, path) {
        return known.manifest.name.clone();
    }
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().replace('@', "_")).unwrap_or_default();
    let stem: String = stem.chars().filter(|character| !character.is_control()).collect();
    let stem = if stem.is_empty() { "database".to_owned() } else { stem };
    let is_taken = |name: &String| manifests().any(|manifest| manifest.name == *name);
    let numbered = (2..).map(|number| format!("{stem}-{number}"));
    std::iter::once(stem.clone()).chain(numbered).find(|name| !is_taken(name)).unwrap_or(stem)
}

/// A name must be usable in `NAME@TIME` and readable on a terminal.
fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.contains('@') || name.chars().any(char::is_control) {
        return Err(Error::new(ErrorKind::Usage, format!("{name:?} cannot be the name of a database"))
            .with_hint("choose one without `@` and control characters with --name"));
    }
    Ok(())
}
