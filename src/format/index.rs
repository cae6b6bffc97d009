//! The index (section 7): directories of packs, so that chunks are found without touching packs.

use super::directory::Directory;
use super::envelope::Header;
use super::fields::{FieldWriter, Fields};
use super::{FormatError, limits, within};
use crate::ids::ObjectName;

/// A pack and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackEntry {
    /// The pack's name.
    pub name: ObjectName,
    /// Bytes of the whole object.
    pub object_len: u64,
    /// The pack's header with extension, so that its keys are known before it is touched; the first record
    /// begins after it.
    pub header: Vec<u8>,
    /// Its records.
    pub directory: Directory,
}

impl PackEntry {
    /// The decoded header.
    ///
    /// # Errors
    /// Never for an entry of a decoded index.
    pub fn decoded_header(&self) -> Result<Header, FormatError> {
        let (header, len) = Header::decode(&self.header)?;
        if len == self.header.len() { Ok(header) } else { Err(FormatError::Length("header")) }
    }

    fn validate(&self) -> Result<(), FormatError> {
        let kind = self.decoded_header()?.kind;
        if kind != self.directory.kind()
            || self.object_len > limits::OBJECT
            || self.header.len() as u64 + self.directory.stored_len() > self.object_len
        {
            return Err(FormatError::Invalid("pack entry of an index"));
        }
        Ok(())
    }
}

/// The content of an index object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// Packs, in the order they were written.
    pub packs: Vec<PackEntry>,
    /// Index objects that this one replaces.
    pub replaces: Vec<ObjectName>,
}

type EncodedEntry = ([u8; 32], u64, Vec<u8>, Vec<u8>);

impl Index {
    /// The encoded field list.
    ///
    /// # Errors
    /// There are too many packs.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        self.validate()?;
        let mut entries: Vec<EncodedEntry> = Vec::with_capacity(self.packs.len());
        for pack in &self.packs {
            entries.push((pack.name.0, pack.object_len, pack.header.clone(), pack.directory.encode()?));
        }
        let mut writer = FieldWriter::new("index");
        writer.put(2, &entries)?;
        if !self.replaces.is_empty() {
            writer.put(5, &self.replaces.iter().map(|name| name.0).collect::<Vec<_>>())?;
        }
        writer.finish()
    }

    /// Decodes a field list.
    ///
    /// # Errors
    /// Anything that section 7 does not allow.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Fields::parse("index", bytes)?;
        let entries: Vec<EncodedEntry> = fields.require(2)?;
        let replaces: Vec<[u8; 32]> = fields.take(5)?.unwrap_or_default();
        fields.finish()?;
        within("packs of an index", entries.len(), limits::PACKS)?;
        let mut packs = Vec::with_capacity(entries.len());
        for (name, object_len, header, directory) in entries {
            let directory = Directory::decode(Header::decode(&header)?.0.kind, &directory)?;
            packs.push(PackEntry { name: ObjectName(name), object_len, header, directory });
        }
        let index = Self { packs, replaces: replaces.into_iter().map(ObjectName).collect() };
        index.validate()?;
        Ok(index)
    }

    fn validate(&self) -> Result<(), FormatError> {
        within("packs of an index", self.packs.len(), limits::PACKS)?;
        self.packs.iter().try_for_each(PackEntry::validate)
    }
}

#[cfg(test)]
mod tests {
    use super::super::directory::tests::any_record;
    use super::super::envelope::ObjectKind;
    use super::*;
    use crate::ids::VaultId;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_goes_both_ways(packs in proptest::collection::vec(proptest::collection::vec(any_record(), 0..9), 0..5)) {
            let header = Header { kind: ObjectKind::PagePack, epoch: 1, vault: VaultId([7; 16]), salt: [8; 32] };
            let packs = packs.into_iter().map(|records| {
                let directory = Directory::new(ObjectKind::PagePack, records).unwrap();
                PackEntry {
                    name: ObjectName([8; 32]),
                    object_len: directory.stored_len() + 200,
                    header: header.encode().to_vec(),
                    directory,
                }
            });
            let index = Index { packs: packs.collect(), replaces: vec![ObjectName([1; 32])] };
            let bytes = index.encode().unwrap();
            prop_assert_eq!(Index::decode(&bytes).unwrap(), index);
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Index::decode(&bytes);
        }
    }
}
