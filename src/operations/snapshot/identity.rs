//! Which database this is: the one first seen at this path on this host. Two files of the same name in two
//! folders are two databases, and a name belongs to one database of a vault.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::SnapshotRequest;
use crate::crypto::CryptoError;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{DatabaseId, SnapshotId};
use crate::vault::{Catalog, VaultError};

/// Which names are taken, and by which database.
#[derive(Debug)]
pub(super) struct Names(HashMap<String, DatabaseId>);

impl Names {
    pub(super) fn of(catalog: &Catalog) -> Self {
        let owners = catalog.snapshots.iter().map(|snapshot| &snapshot.manifest);
        Self(owners.map(|manifest| (manifest.name.clone(), manifest.database)).collect())
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
        let database = match newest {
            Some(snapshot) => snapshot.manifest.database,
            None => DatabaseId::random().map_err(|error| VaultError::Crypto(CryptoError::from(error)))?,
        };
        let name = request
            .name
            .clone()
            .or_else(|| newest.map(|snapshot| snapshot.manifest.name.clone()))
            .or_else(|| canonical.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "database".to_owned());
        check_name(&name)?;
        if *names.0.entry(name.clone()).or_insert(database) != database {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("the name {name:?} belongs to another database in this vault"),
            )
            .with_hint("choose another with --name"));
        }
        Ok(Self { database, name, parent: newest.map(|snapshot| snapshot.id) })
    }
}

/// A name must be usable in `NAME@TIME` and readable on a terminal.
fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.contains('@') || name.chars().any(char::is_control) {
        return Err(Error::new(ErrorKind::Usage, format!("{name:?} cannot be the name of a database"))
            .with_hint("choose one without `@` and control characters with --name"));
    }
    Ok(())
}
