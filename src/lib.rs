//! Encrypted, incremental, content-addressed backups of live `SQLite` databases.
//!
//! The layers, each knowing only those below it (`docs/architecture.md`):
//!
//! ```text
//! operations   one verb each: snapshot, restore, check, ...
//! vault        a store and a key together: objects, index, snapshots, stored images
//! format       bytes of every object     crypto   keys and sealing     chunk, tree, codec
//! store        dumb, immutable objects; sees ciphertext only
//! sqlite       live databases and images; knows nothing of backups
//! ```
//!
//! A vault in a folder, a snapshot of a database that is open elsewhere, and the way back:
//!
//! ```
//! use jiff::Timestamp;
//! use pagevault::clock::SystemClock;
//! use pagevault::crypto::{secret::Secret32, unlock::Unlocker};
//! use pagevault::format::keyslot::Argon2Params;
//! use pagevault::ids::HostId;
//! use pagevault::monitor::Silent;
//! use pagevault::operations::restore::{RestoreRequest, restore};
//! use pagevault::operations::snapshot::{Host, SnapshotRequest, snapshot};
//! use pagevault::store::LocalStore;
//! use pagevault::vault::{LocalFolders, Vault};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let (source, target) = (folder.path().join("app.db"), folder.path().join("restored.db"));
//! let application = rusqlite::Connection::open(&source)?;
//! application.execute_batch("CREATE TABLE notes(text); INSERT INTO notes VALUES('keep me')")?;
//!
//! // Keep this secret: without it nobody can read the vault.
//! let key = Unlocker::KeyFile(Secret32::random()?);
//! let store = Box::new(LocalStore::create(folder.path().join("vault"))?);
//! let (argon2, folders) = (Argon2Params::recommended(4), LocalFolders::default());
//! let vault = Vault::create(store, &key, argon2, None, Timestamp::now(), &folders)?;
//!
//! // An application keeps its host's id: databases are known by host and path.
//! let host = Host { id: HostId::random()?, name: None };
//! let request = SnapshotRequest::new([&source], host);
//! let mut taken = Vec::new();
//! snapshot(&vault, &request, &SystemClock, &Silent, &mut |_, outcome| taken.push(outcome))?;
//! let id = taken.remove(0)?.snapshot_id;
//!
//! let request = RestoreRequest::new(id.to_string().parse()?, &target);
//! let report = restore(&vault, &request, &SystemClock, &Silent)?;
//! assert_eq!(report.verified.sha256, Some(true));
//! # drop(application);
//! # Ok(())
//! # }
//! ```
//!
//! Two copies of `SQLite` in one process drop each other's locks (POSIX locks belong to the process). An application
//! that uses a `SQLite` other than the one this crate links must take snapshots in another process: the
//! command line is one.

mod backups;
pub mod checksum;
pub mod chunk;
pub mod clock;
pub mod codec;
pub mod crypto;
pub mod daemon;
pub mod error;
pub mod format;
pub mod ids;
pub mod monitor;
pub mod operations;
pub mod page_source;
pub mod sqlite;
pub mod store;
pub mod tree;
pub mod vault;

pub use backups::{Backups, BackupsAt};
pub use error::{Error, ErrorKind, Result};
