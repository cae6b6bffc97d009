//! The vault config (section 4.1): identity and parameters.

use super::envelope::{Header, ObjectKind, Parts, unsealed_object};
use super::fields::{FieldWriter, Fields};
use super::{FormatError, limits};
use crate::chunk::CHUNK_SIZE;
use crate::ids::{ChunkId, VaultId};
use crate::tree::FAN_OUT;

/// Computes the keyed checksum of a config with the vault's key.
pub type Mac<'a> = &'a dyn Fn(&[u8]) -> [u8; 32];

const ID_LEN: u8 = 16;
const _: () = assert!(ID_LEN as usize == ChunkId::LEN);

/// Identity of a vault, when it was made and by which version. Chunk size, fan-out and id length are
/// constants of version 1; they stand in the object so that a reader can refuse others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultConfig {
    /// Identity, random.
    pub vault: VaultId,
    /// Microseconds since 1970 UTC, if known.
    pub created_at_us: Option<i64>,
    /// Version of the tool that made the vault, if known.
    pub tool_version: Option<String>,
}

impl VaultConfig {
    /// The object's bytes; `mac` computes the keyed checksum with the config key.
    ///
    /// # Errors
    /// A string exceeds its limit.
    pub fn encode(&self, mac: impl FnOnce(&[u8]) -> [u8; 32]) -> Result<Vec<u8>, FormatError> {
        self.validate()?;
        let mut writer = FieldWriter::new("vault config");
        writer
            .put(2, &(CHUNK_SIZE as u64))?
            .put(4, &(FAN_OUT as u64))?
            .put(6, &ID_LEN)?
            .put_some(1, self.created_at_us.as_ref())?
            .put_some(3, self.tool_version.as_ref())?;
        let header = Header::unsealed(ObjectKind::VaultConfig, self.vault);
        unsealed_object(&header.encode(), &writer.finish()?, |bytes| Some(mac(bytes)))
    }

    /// Decodes an object and verifies its checksum; `mac` is asked to recompute the keyed one where a key is at hand.
    ///
    /// # Errors
    /// Anything that section 4.1 does not allow.
    pub fn decode(bytes: &[u8], mac: Option<Mac<'_>>) -> Result<Self, FormatError> {
        let parts = Parts::split(bytes, Some(ObjectKind::VaultConfig))?;
        let stored = parts.trailer.mac.ok_or(FormatError::Missing { what: "trailer", tag: 6 })?;
        if let Some(mac) = mac
            && blake3::Hash::from(mac(parts.before_trailer)) != blake3::Hash::from(stored)
        {
            return Err(FormatError::Checksum("vault config with the vault's key"));
        }
        let mut fields = Fields::parse("vault config", parts.body)?;
        for (tag, what, expected) in
            [(2, "chunk size", CHUNK_SIZE as u64), (4, "fan-out of the tree", FAN_OUT as u64)]
        {
            let number = fields.require(tag)?;
            if number != expected {
                return Err(FormatError::Newer { what, number });
            }
        }
        let id_len: u8 = fields.require(6)?;
        if id_len != ID_LEN {
            return Err(FormatError::Newer { what: "chunk id length", number: id_len.into() });
        }
        let config =
            Self { vault: parts.header.vault, created_at_us: fields.take(1)?, tool_version: fields.take(3)? };
        fields.finish()?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), FormatError> {
        super::within("tool version", self.tool_version.as_ref().map_or(0, String::len), limits::STRING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_both_ways_and_the_mac_binds() {
        let config = VaultConfig {
            vault: VaultId([3; 16]),
            created_at_us: Some(-5),
            tool_version: Some("0.1.0".to_owned()),
        };
        let mac = |bytes: &[u8]| *blake3::keyed_hash(&[9; 32], bytes).as_bytes();
        let bytes = config.encode(mac).unwrap();
        assert_eq!(VaultConfig::decode(&bytes, None).unwrap(), config);
        assert_eq!(VaultConfig::decode(&bytes, Some(&mac)).unwrap(), config);
        assert!(VaultConfig::decode(&bytes, Some(&|_| [0; 32])).is_err());
    }
}
