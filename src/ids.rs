//! Ids as types: fixed bytes with one text form, lower-case hexadecimal.

use std::fmt;
use std::str::FromStr;

/// Text that is not the hexadecimal form of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {expected} hexadecimal digits")]
pub struct IdParseError {
    expected: usize,
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hexadecimal form of `bytes`.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(HEX[usize::from(byte >> 4)] as char);
        text.push(HEX[usize::from(byte & 15)] as char);
    }
    text
}

fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], IdParseError> {
    let error = IdParseError { expected: N * 2 };
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return Err(error);
    }
    let digit = |byte: u8| HEX.iter().position(|&known| known == byte.to_ascii_lowercase()).ok_or(error);
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).map_err(|_| error)?;
    }
    Ok(bytes)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// A fresh one from the operating system's random numbers.
            ///
            /// # Errors
            /// The operating system has none to give.
            pub fn random() -> Result<Self, getrandom::Error> {
                let mut bytes = [0; $len];
                getrandom::fill(&mut bytes)?;
                Ok(Self(bytes))
            }

            /// The first eight digits of the text form, for people.
            #[must_use]
            pub fn short(&self) -> String {
                to_hex(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, IdParseError> {
                from_hex(text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

id!(
    /// Identity of a chunk's plaintext inside one vault and epoch (docs/format.md, 5.2).
    ChunkId, 16
);
id!(
    /// Identity of a snapshot: the keyed hash of its manifest (docs/format.md, 5.2).
    SnapshotId, 16
);
id!(
    /// Identity of a database over its snapshots, random.
    DatabaseId, 16
);
id!(
    /// Identity of the machine a database was read on.
    HostId, 16
);
id!(
    /// Identity of a vault, random.
    VaultId, 16
);
id!(
    /// Identity of a writer of the log.
    WriterId, 16
);
id!(
    /// Identity of a key slot, random.
    SlotId, 8
);
id!(
    /// Name of an object: the BLAKE3 hash of its bytes.
    ObjectName, 32
);

impl ObjectName {
    /// The name of an object with these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_goes_both_ways() {
        let id = SlotId([0, 1, 0x9a, 0xff, 4, 5, 6, 7]);
        assert_eq!(id.to_string(), "00019aff04050607");
        assert_eq!("00019AFF04050607".parse(), Ok(id));
        assert!("00019aff0405060".parse::<SlotId>().is_err());
        assert!("00019aff0405060x".parse::<SlotId>().is_err());
        assert!("00019aff040506é".parse::<SlotId>().is_err());
    }
}
