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

pub mod checksum;
pub mod chunk;
pub mod clock;
pub mod codec;
pub mod crypto;
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

pub use error::{Error, ErrorKind, Result};
