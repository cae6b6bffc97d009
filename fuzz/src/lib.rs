//! The bodies of the fuzz targets, apart from libFuzzer, so that a reproducer can be run by anything.
//!
//! Each function takes any bytes and panics if something does not hold that must hold for all bytes.

mod cursor;
mod decoders;
pub mod fixture;
mod forge;
mod hostile_image;
mod hostile_vault;
mod roundtrips;
mod texts;

pub use decoders::{directory, envelope, fields, index, key_slot, keyring, log, manifest, vault_config};
pub use hostile_image::hostile_image;
pub use hostile_vault::hostile_vault;
pub use roundtrips::codec;
pub use texts::{database_header, key_text, names, snapshot_spec};
