//! Field lists (section 1.1): tagged values of which odd ones may be ignored. The only module that uses
//! bincode, so that the crate can be replaced by anything that writes the same bytes.

use bincode::config;
use bincode::error::DecodeError;
use bincode::{Decode, Encode};

use super::{FormatError, limits};

const CONFIG: config::Configuration = config::standard();

/// Bytes in memory per encoded byte, at most: an empty string takes 24 and is encoded as one.
const MEMORY_PER_BYTE: usize = 32;

fn encode_value<T: Encode>(what: &'static str, value: &T) -> Result<Vec<u8>, FormatError> {
    bincode::encode_to_vec(value, CONFIG).map_err(|_| FormatError::Invalid(what))
}

fn decode_prefix<T: Decode<()>>(what: &'static str, bytes: &[u8]) -> Result<(T, usize), FormatError> {
    decode_bounded(bytes).map_err(|_| FormatError::Invalid(what))
}

/// Decodes without taking more memory than `bytes` can justify, whatever counts they announce. A limit is part of
/// bincode's types, hence one for each order of magnitude.
fn decode_bounded<T: Decode<()>>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    match bytes.len().saturating_mul(MEMORY_PER_BYTE) {
        0..0x1_0000 => bincode::decode_from_slice(bytes, CONFIG.with_limit::<0x1_0000>()),
        0x1_0000..0x10_0000 => bincode::decode_from_slice(bytes, CONFIG.with_limit::<0x10_0000>()),
        0x10_0000..0x100_0000 => bincode::decode_from_slice(bytes, CONFIG.with_limit::<0x100_0000>()),
        _ => bincode::decode_from_slice(bytes, CONFIG.with_limit::<0x800_0000>()),
    }
}

/// Encodes varints without a count, for columns.
pub(crate) fn encode_column(what: &'static str, values: &[u32]) -> Result<Vec<u8>, FormatError> {
    let mut bytes = Vec::with_capacity(values.len() * 3);
    for value in values {
        bincode::encode_into_std_write(value, &mut bytes, CONFIG).map_err(|_| FormatError::Invalid(what))?;
    }
    Ok(bytes)
}

/// Decodes exactly `count` varints that fill `bytes`.
pub(crate) fn decode_column(
    what: &'static str,
    mut bytes: &[u8],
    count: usize,
) -> Result<Vec<u32>, FormatError> {
    within_input(what, count, bytes.len())?;
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let (value, used) = decode_prefix(what, bytes)?;
        values.push(value);
        bytes = &bytes[used..];
    }
    if bytes.is_empty() { Ok(values) } else { Err(FormatError::Length(what)) }
}

/// A count that its input cannot hold is refused before anything is allocated for it.
fn within_input(what: &'static str, count: usize, available: usize) -> Result<(), FormatError> {
    if count > available { Err(FormatError::Length(what)) } else { Ok(()) }
}

/// Collects fields in ascending order of their tags.
pub struct FieldWriter {
    what: &'static str,
    fields: Vec<(u16, Vec<u8>)>,
}

/// Tags without values: some lists hold secrets.
impl std::fmt::Debug for FieldWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tags: Vec<u16> = self.fields.iter().map(|(tag, _)| *tag).collect();
        write!(f, "FieldWriter({}, {tags:?})", self.what)
    }
}

/// Tags without values: some lists hold secrets.
impl std::fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tags: Vec<u16> = self.fields.iter().map(|(tag, _)| *tag).collect();
        write!(f, "Fields({}, {tags:?})", self.what)
    }
}

impl FieldWriter {
    /// An empty list, named for errors.
    #[must_use]
    pub const fn new(what: &'static str) -> Self {
        Self { what, fields: Vec::new() }
    }

    /// Adds a value.
    ///
    /// # Errors
    /// The value is longer than the format can say.
    pub fn put<T: Encode>(&mut self, tag: u16, value: &T) -> Result<&mut Self, FormatError> {
        let bytes = encode_value(self.what, value)?;
        Ok(self.put_raw(tag, bytes))
    }

    /// Adds a value if there is one.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_some<T: Encode>(&mut self, tag: u16, value: Option<&T>) -> Result<&mut Self, FormatError> {
        match value {
            Some(value) => self.put(tag, value),
            None => Ok(self),
        }
    }

    /// Adds a value that is bytes already.
    pub fn put_raw(&mut self, tag: u16, bytes: Vec<u8>) -> &mut Self {
        self.fields.push((tag, bytes));
        self
    }

    /// The encoded list.
    ///
    /// # Errors
    /// A tag was added twice, or there are too many.
    pub fn finish(mut self) -> Result<Vec<u8>, FormatError> {
        self.fields.sort_by_key(|(tag, _)| *tag);
        if self.fields.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(FormatError::Invalid(self.what));
        }
        super::within(self.what, self.fields.len(), limits::FIELDS)?;
        encode_value(self.what, &self.fields)
    }
}

/// A parsed list; fields are taken one by one, and what is left over decides whether a reader may go on.
pub struct Fields<'a> {
    what: &'static str,
    fields: Vec<(u16, &'a [u8])>,
}

impl<'a> Fields<'a> {
    /// Parses `bytes`, which must hold one list and nothing else.
    ///
    /// # Errors
    /// Anything that section 1.1 does not allow.
    pub fn parse(what: &'static str, bytes: &'a [u8]) -> Result<Self, FormatError> {
        let (count, mut at): (u64, usize) = decode_prefix(what, bytes)?;
        let count = usize::try_from(count).map_err(|_| FormatError::Invalid(what))?;
        super::within(what, count, limits::FIELDS)?;
        let mut fields: Vec<(u16, &[u8])> = Vec::with_capacity(count);
        for _ in 0..count {
            let ((tag, len), used): ((u16, u64), usize) = decode_prefix(what, &bytes[at..])?;
            at += used;
            let end = usize::try_from(len)
                .ok()
                .and_then(|len| at.checked_add(len))
                .filter(|&end| end <= bytes.len())
                .ok_or(FormatError::Length(what))?;
            if fields.last().is_some_and(|(last, _)| *last >= tag) {
                return Err(FormatError::Invalid(what));
            }
            fields.push((tag, &bytes[at..end]));
            at = end;
        }
        if at == bytes.len() { Ok(Self { what, fields }) } else { Err(FormatError::Length(what)) }
    }

    /// Takes the bytes of a field.
    pub fn take_raw(&mut self, tag: u16) -> Option<&'a [u8]> {
        let position = self.fields.iter().position(|(known, _)| *known == tag)?;
        Some(self.fields.remove(position).1)
    }

    /// Takes the bytes of a field that must be there.
    ///
    /// # Errors
    /// It is not.
    pub fn require_raw(&mut self, tag: u16) -> Result<&'a [u8], FormatError> {
        let what = self.what;
        self.take_raw(tag).ok_or(FormatError::Missing { what, tag })
    }

    /// Takes a value, if the field is there.
    ///
    /// # Errors
    /// The bytes are not exactly one such value.
    pub fn take<T: Decode<()>>(&mut self, tag: u16) -> Result<Option<T>, FormatError> {
        let Some(bytes) = self.take_raw(tag) else { return Ok(None) };
        let (value, used) = decode_prefix(self.what, bytes)?;
        if used == bytes.len() { Ok(Some(value)) } else { Err(FormatError::Length(self.what)) }
    }

    /// Takes a value that must be there.
    ///
    /// # Errors
    /// It is missing or malformed.
    pub fn require<T: Decode<()>>(&mut self, tag: u16) -> Result<T, FormatError> {
        let what = self.what;
        self.take(tag)?.ok_or(FormatError::Missing { what, tag })
    }

    /// Ends reading: fields that nobody took must be ignorable.
    ///
    /// # Errors
    /// A critical field is not known.
    pub fn finish(self) -> Result<(), FormatError> {
        match self.fields.iter().find(|(tag, _)| tag % 2 == 0) {
            Some((tag, _)) => Err(FormatError::Newer { what: self.what, number: u64::from(*tag) }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn varints_are_as_the_document_says() {
        for (value, bytes) in [
            (250u64, vec![250]),
            (251, vec![0xFB, 251, 0]),
            (65_536, vec![0xFC, 0, 0, 1, 0]),
            (1 << 32, vec![0xFD, 0, 0, 0, 0, 1, 0, 0, 0]),
        ] {
            assert_eq!(encode_value("test", &value).unwrap(), bytes);
        }
        assert_eq!(encode_value("test", &-2i64).unwrap(), [3]);
        assert_eq!(
            encode_value("test", &("ab".to_owned(), [7u8; 2], true)).unwrap(),
            [2, b'a', b'b', 7, 7, 1]
        );
    }

    #[test]
    fn odd_fields_may_be_unknown_even_ones_not() {
        let mut writer = FieldWriter::new("test");
        writer.put(3, &1u8).unwrap().put(2, &5u32).unwrap();
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes, [2, 2, 1, 5, 3, 1, 1]);
        let mut fields = Fields::parse("test", &bytes).unwrap();
        assert_eq!(fields.require::<u32>(2), Ok(5));
        fields.finish().unwrap();
        let fields = Fields::parse("test", &bytes).unwrap();
        assert!(fields.finish().unwrap_err().is_newer());
    }

    #[test]
    fn disorder_repetition_and_rests_are_refused() {
        for bytes in [&[2, 3, 0, 2, 0][..], &[2, 2, 0, 2, 0], &[1, 2, 0, 0], &[1, 2, 5, 0], &[1], &[]] {
            assert!(Fields::parse("test", bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_count_that_the_input_cannot_hold_takes_no_memory() {
        type Entry = ([u8; 32], u64, Vec<u8>, Vec<u8>);
        let half_a_million = encode_value("test", &500_000u64).unwrap();
        let limit = |error| matches!(error, DecodeError::LimitExceeded);
        assert!(limit(decode_bounded::<Vec<Entry>>(&half_a_million).unwrap_err()));
        assert!(limit(decode_bounded::<Vec<u8>>(&half_a_million).unwrap_err()));
        let words = vec![String::new(); 50_000];
        let bytes = encode_value("test", &words).unwrap();
        assert_eq!(decode_bounded::<Vec<String>>(&bytes).unwrap(), (words, bytes.len()));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Fields::parse("test", &bytes);
            let _ = decode_column("test", &bytes, bytes.len());
        }

        #[test]
        fn columns_go_both_ways(values in proptest::collection::vec(any::<u32>(), 0..100)) {
            let bytes = encode_column("test", &values).unwrap();
            prop_assert_eq!(decode_column("test", &bytes, values.len()).unwrap(), values);
        }
    }
}
