//! SHA-256 of a whole image (FIPS 180-4): by assembly with the default feature `assembly`, by the
//! `sha2` crate without it. A test holds the two equal.

/// A SHA-256 value; its text form is what `sha256sum` prints.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256(pub [u8; 32]);

impl std::fmt::Display for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::ids::to_hex(&self.0))
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl serde::Serialize for Sha256 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// SHA-256 over bytes that come in pieces.
pub struct Sha256Hasher(backend::Hasher);

impl Default for Sha256Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Sha256Hasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self(backend::new())
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        backend::update(&mut self.0, bytes);
    }

    /// The checksum of all bytes taken.
    #[must_use]
    pub fn finish(self) -> Sha256 {
        Sha256(backend::finish(self.0))
    }
}

/// The portable implementation, whatever the features are; for comparison.
#[must_use]
pub fn sha256_portable(bytes: &[u8]) -> Sha256 {
    use sha2::Digest;
    Sha256(sha2::Sha256::digest(bytes).into())
}

#[cfg(feature = "assembly")]
mod backend {
    use aws_lc_rs::digest::{Context, SHA256};

    pub(super) type Hasher = Context;

    pub(super) fn new() -> Hasher {
        Context::new(&SHA256)
    }

    pub(super) fn update(hasher: &mut Hasher, bytes: &[u8]) {
        hasher.update(bytes);
    }

    pub(super) fn finish(hasher: Hasher) -> [u8; 32] {
        let mut value = [0; 32];
        value.copy_from_slice(hasher.finish().as_ref());
        value
    }
}

#[cfg(not(feature = "assembly"))]
mod backend {
    use sha2::Digest;

    pub(super) type Hasher = sha2::Sha256;

    pub(super) fn new() -> Hasher {
        sha2::Sha256::new()
    }

    pub(super) fn update(hasher: &mut Hasher, bytes: &[u8]) {
        Digest::update(hasher, bytes);
    }

    pub(super) fn finish(hasher: Hasher) -> [u8; 32] {
        hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_standard_s_own_example() {
        let mut hasher = Sha256Hasher::new();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(
            hasher.finish().to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    proptest! {
        #[test]
        fn both_backends_agree(bytes in proptest::collection::vec(any::<u8>(), 0..5000), cut in 0usize..5000) {
            let cut = cut.min(bytes.len());
            let mut hasher = Sha256Hasher::new();
            hasher.update(&bytes[..cut]);
            hasher.update(&bytes[cut..]);
            prop_assert_eq!(hasher.finish(), sha256_portable(&bytes));
        }
    }
}
