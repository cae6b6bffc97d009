//! Secrets as types: wiped when dropped, silent when printed.

use std::fmt;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::CryptoError;

/// 256 secret bits.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret32([u8; 32]);

impl Secret32 {
    /// Takes `bytes` as a secret.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A fresh one from the operating system's random numbers.
    ///
    /// # Errors
    /// The operating system has none to give.
    pub fn random() -> Result<Self, CryptoError> {
        let mut secret = Self([0; 32]);
        getrandom::fill(&mut secret.0)?;
        Ok(secret)
    }

    /// `derive_key` of BLAKE3 over the concatenated `material`.
    #[must_use]
    pub fn derive(context: &str, material: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        for part in material {
            hasher.update(part);
        }
        let secret = Self(*hasher.finalize().as_bytes());
        hasher.zeroize();
        secret
    }

    /// The bytes, for use as a key.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret32(..)")
    }
}

/// A passphrase, byte for byte as given.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Passphrase(Vec<u8>);

impl Passphrase {
    /// Takes `bytes` as a passphrase.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// The two text forms of 256 secret bits (section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextForm {
    /// In a file, for machines.
    KeyFile,
    /// On paper, for people.
    RecoveryKey,
}

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// There is no line with a key.
    #[error("no key in it: expected a line that begins with `{0}1`")]
    Missing(&'static str),
    /// A character was mistyped, lost or swapped.
    #[error("the key's checksum does not match: a character is wrong, missing or swapped")]
    Checksum,
    /// A key of another sort.
    #[error("expected a key that begins with `{0}1`, found `{1}1`")]
    OtherSort(&'static str, String),
}

const GROUP: usize = 6;

impl TextForm {
    const fn prefix(self) -> &'static str {
        match self {
            Self::KeyFile => "pvkey",
            Self::RecoveryKey => "pvrecovery",
        }
    }

    /// The text form of `secret`: one line; a recovery key in capitals and groups.
    #[must_use]
    pub fn print(self, secret: &Secret32) -> Zeroizing<String> {
        let Ok(prefix) = Hrp::parse(self.prefix()) else { return Zeroizing::default() };
        // Cannot fail: prefix and data are far below the length that bech32m covers.
        let text = Zeroizing::new(bech32::encode::<Bech32m>(prefix, secret.expose()).unwrap_or_default());
        match self {
            Self::KeyFile => text,
            Self::RecoveryKey => {
                let capitals = Zeroizing::new(text.to_ascii_uppercase());
                let (prefix, data) = capitals.split_at(self.prefix().len() + 1);
                let mut grouped = Zeroizing::new(prefix.to_owned());
                for (position, digit) in data.chars().enumerate() {
                    if position % GROUP == 0 {
                        grouped.push('-');
                    }
                    grouped.push(digit);
                }
                grouped
            }
        }
    }

    /// Reads a text form back. Lines that begin with `#` are comments; spaces, hyphens and case do not matter.
    ///
    /// # Errors
    /// The text is not one whole key of this form.
    pub fn read(self, text: &str) -> Result<Secret32, KeyTextError> {
        let prefix = self.prefix();
        let mut line = Zeroizing::new(String::with_capacity(text.len()));
        for part in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            line.extend(
                part.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_lowercase()),
            );
        }
        let forms = [Self::KeyFile, Self::RecoveryKey];
        let looks_like_a_key = forms
            .iter()
            .any(|form| line.strip_prefix(form.prefix()).is_some_and(|rest| rest.starts_with('1')));
        if !looks_like_a_key {
            return Err(KeyTextError::Missing(prefix));
        }
        let parsed = CheckedHrpstring::new::<Bech32m>(&line).map_err(|_| KeyTextError::Checksum)?;
        if parsed.hrp().as_str() != prefix {
            return Err(KeyTextError::OtherSort(prefix, parsed.hrp().to_string()));
        }
        let mut secret = Secret32([0; 32]);
        let mut bytes = parsed.byte_iter();
        for byte in &mut secret.0 {
            *byte = bytes.next().ok_or(KeyTextError::Checksum)?;
        }
        if bytes.next().is_some() { Err(KeyTextError::Checksum) } else { Ok(secret) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_both_ways() {
        let secret = Secret32::new([0xA5; 32]);
        for form in [TextForm::KeyFile, TextForm::RecoveryKey] {
            let text = form.print(&secret);
            assert_eq!(form.read(&text).unwrap().expose(), secret.expose());
            let noisy = format!("# a comment\n\n  {}  \n", text.replace('-', " "));
            assert_eq!(form.read(&noisy).unwrap().expose(), secret.expose());
        }
    }

    #[test]
    fn no_single_or_double_mistake_passes() {
        let text = TextForm::RecoveryKey.print(&Secret32::new([7; 32]));
        let characters: Vec<char> = text.chars().collect();
        for position in 11..characters.len() {
            for wrong in ['Q', 'P', 'B', 'Ä', '1'] {
                let mut mistyped = characters.clone();
                if mistyped[position] == wrong || mistyped[position] == '-' {
                    continue;
                }
                mistyped[position] = wrong;
                assert!(TextForm::RecoveryKey.read(&mistyped.iter().collect::<String>()).is_err());
                mistyped.remove(position);
                assert!(TextForm::RecoveryKey.read(&mistyped.iter().collect::<String>()).is_err());
            }
        }
    }

    #[test]
    fn the_sort_is_told_apart() {
        let text = TextForm::RecoveryKey.print(&Secret32::new([7; 32]));
        assert_eq!(
            TextForm::KeyFile.read(&text).unwrap_err(),
            KeyTextError::OtherSort("pvkey", "pvrecovery".to_owned())
        );
        for text in ["", "hello", "print(1)", "pvkeys", "# pvkey1qqqq"] {
            assert_eq!(TextForm::KeyFile.read(text).unwrap_err(), KeyTextError::Missing("pvkey"), "{text}");
        }
    }

    #[test]
    fn secrets_print_nothing() {
        assert_eq!(
            format!("{:?}{:?}", Secret32::new([1; 32]), Passphrase::new(vec![65])),
            "Secret32(..)Passphrase(..)"
        );
    }
}
