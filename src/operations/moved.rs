//! Whether a live database has moved on since its newest snapshot, for those who look at many of them often.
//!
//! The answer comes from proofs alone, as in a snapshot: what is not proven to be unchanged counts as changed. Nothing is
//! asked of the vault but its list of snapshots; whether it still holds all it should is for `check` to find.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::list::catalog;
use super::snapshot::Host;
use super::snapshot::unchanged::{from_format, to_format};
use crate::error::Result;
use crate::format::manifest::{Content, SourceWitness};
use crate::ids::{DatabaseId, SnapshotId};
use crate::monitor::Monitor;
use crate::page_source::PageSource;
use crate::sqlite::{LiveDatabase, OpenOptions};
use crate::vault::{Catalog, Vault};

/// The newest snapshot of a database of this host.
#[derive(Debug, Clone)]
pub struct Newest {
    /// Its id.
    pub snapshot: SnapshotId,
    /// When its image was true.
    pub created_at: Timestamp,
    /// The name that the database has.
    pub name: String,
    /// Bytes of its content.
    pub size: u64,
    content: Content,
    witness: Option<SourceWitness>,
}

/// What a vault holds of the databases of a host, by canonical path.
#[derive(Debug, Default)]
pub struct Holdings {
    newest: HashMap<PathBuf, Newest>,
}

impl Holdings {
    /// Reads what there is.
    ///
    /// # Errors
    /// The vault cannot be listed. Objects that cannot be read become warnings.
    pub fn read(vault: &Vault, host: &Host, monitor: &dyn Monitor) -> Result<Self> {
        Ok(Self::of(&catalog(vault, monitor)?, host))
    }

    fn of(catalog: &Catalog, host: &Host) -> Self {
        let mut path_of: HashMap<DatabaseId, &[u8]> = HashMap::new();
        let mut newest = HashMap::new();
        for snapshot in catalog.snapshots.iter().rev() {
            let manifest = &snapshot.manifest;
            let Some(path) = manifest.details.source_path.as_deref() else { continue };
            if manifest.host != host.id || manifest.content.geometry().is_none() {
                continue;
            }
            // Newest first: what comes later says nothing new.
            if *path_of.entry(manifest.database).or_insert(path) != path {
                continue;
            }
            newest.entry(PathBuf::from(std::ffi::OsStr::from_bytes(path))).or_insert_with(|| Newest {
                snapshot: snapshot.id,
                created_at: snapshot.created_at(),
                name: manifest.name.clone(),
                size: manifest.content.len(),
                content: manifest.content,
                witness: manifest.details.witness,
            });
        }
        Self { newest }
    }

    /// The newest snapshot of the database at `path`.
    #[must_use]
    pub fn newest(&self, path: &Path) -> Option<&Newest> {
        self.newest.get(path).or_else(|| self.newest.get(&path.canonicalize().ok()?))
    }

    /// The newest snapshot of the database at `path`, if it is proven to hold the database as it is now.
    ///
    /// # Errors
    /// The database cannot be opened or read.
    pub fn if_unchanged(&self, path: &Path, options: &OpenOptions) -> Result<Option<&Newest>> {
        let Some(newest) = self.newest(path) else { return Ok(None) };
        let Some(before) = newest.witness else { return Ok(None) };
        let mut database = LiveDatabase::open(path, options)?;
        let capture = database.begin()?;
        let Some(now) = capture.witness().map(to_format) else { return Ok(None) };
        let same = Content::Image(capture.geometry()) == newest.content
            && from_format(before).proves_unchanged(&from_format(now));
        capture.finish()?;
        Ok(same.then_some(newest))
    }
}
