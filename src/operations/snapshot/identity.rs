//! Which database this is: the one first seen at this path on this host. Two files of the same name in two
//! folders are two databases, and a name belongs to one database of a vault.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::SnapshotRequest;
use crate::crypto::CryptoError;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{DatabaseId, HostId, SnapshotId};
use crate::vault::{Catalog, VaultError};

/// Which names are taken, and by which database; and what this run has met and not published yet.
#[derive(Debug)]
pub(super) struct Names {
    owners: HashMap<String, DatabaseId>,
    new: HashMap<PathBuf, (DatabaseId, String)>,
}

impl Names {
    pub(super) fn of(catalog: &Catalog) -> Self {
        let manifests = catalog.snapshots.iter().map(|snapshot| &snapshot.manifest);
        let owners = manifests.map(|manifest| (manifest.name.clone(), manifest.database)).collect();
        Self { owners, new: HashMap::new() }
    }
}

/// A database as the vault knows it.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) database: DatabaseId,
    pub(super) name: String,
    /// Its newest snapshot.
    pub(super) parent: Option<SnapshotId>,
}

impl Identity {
    pub(super) fn of(
        catalog: &Catalog,
        names: &mut Names,
        request: &SnapshotRequest,
        canonical: &Path,
    ) -> Result<Self> {
        let path = canonical.as_os_str().as_bytes();
        let known = catalog.snapshots.iter().rev().find(|snapshot| {
            let manifest = &snapshot.manifest;
            manifest.host == request.host.id
                && manifest.content.geometry().is_some()
                && manifest.details.source_path.as_deref() == Some(path)
        });
        let newest = known.and_then(|known| {
            let database = known.manifest.database;
            catalog.snapshots.iter().rev().find(|snapshot| snapshot.manifest.database == database)
        });
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
            .with_hint("choose another with --name"));
        }
        names.new.insert(canonical.to_path_buf(), (database, name.clone()));
        Ok(Self { database, name, parent: newest.map(|snapshot| snapshot.id) })
    }
}

/// What a database at `path` is to be called: the name it has here, or one that is free.
pub(in crate::operations) fn free_name(catalog: &Catalog, host: HostId, path: &Path) -> String {
    let manifests = || catalog.snapshots.iter().rev().map(|snapshot| &snapshot.manifest);
    let bytes = path.as_os_str().as_bytes();
    let known = manifests().find(|manifest| {
        manifest.host == host
            && manifest.content.geometry().is_some()
            && manifest.details.source_path.as_deref() == Some(bytes)
    });
    if let Some(known) = known {
        let newest = manifests().find(|manifest| manifest.database == known.database);
        return newest.map_or_else(String::new, |newest| newest.name.clone());
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
