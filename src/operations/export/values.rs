//! Values as JSON, so that each can be read back as exactly what it was (docs/export.md, "Values").

use std::io::{Read, Write};

use base64_text::Base64Writer;
use rusqlite::types::ValueRef;

use crate::error::Result;

use super::io_failed;

/// The largest integer up to which every JSON reader, those that know floating-point numbers only included, is exact.
const SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Bytes of a large value that are held at once.
const PIECE: usize = 48 * 1024;

/// Writes a value that is at hand.
pub(super) fn write_value(out: &mut dyn Write, value: ValueRef<'_>) -> Result<()> {
    match value {
        ValueRef::Null => out.write_all(b"null"),
        ValueRef::Integer(number) if number.unsigned_abs() <= SAFE_INTEGER => write!(out, "{number}"),
        ValueRef::Integer(number) => write!(out, "{{\"integer\":\"{number}\"}}"),
        // Always with a point or an exponent, so that it stays a real number.
        ValueRef::Real(number) if number.is_finite() => write!(out, "{number:?}"),
        ValueRef::Real(number) => {
            let sign = if number < 0.0 { "-" } else { "" };
            write!(out, "{{\"real\":\"{sign}Infinity\"}}")
        }
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => return write_text(out, text),
            Err(_) => write_base64(out, "text_base64", bytes),
        },
        ValueRef::Blob(bytes) => write_base64(out, "blob_base64", bytes),
    }
    .map_err(io_failed)
}

/// Writes a string.
pub(super) fn write_text(out: &mut dyn Write, text: &str) -> Result<()> {
    serde_json::to_writer(out, text).map_err(|error| io_failed(error.into()))
}

fn write_base64(out: &mut dyn Write, word: &str, mut bytes: &[u8]) -> std::io::Result<()> {
    copy_base64(out, word, &mut bytes)
}

/// Writes a large blob, or a large text that is not UTF-8, piece by piece.
pub(super) fn copy_base64(out: &mut dyn Write, word: &str, source: &mut dyn Read) -> std::io::Result<()> {
    write!(out, "{{\"{word}\":\"")?;
    let mut encoder = Base64Writer::new(&mut *out);
    let mut piece = vec![0; PIECE];
    loop {
        match source.read(&mut piece)? {
            0 => break,
            len => encoder.write(&piece[..len])?,
        }
    }
    encoder.finish()?;
    out.write_all(b"\"}")
}

/// Writes a large text piece by piece; `false`, with nothing written, if it is not UTF-8. `open` begins at its first byte.
pub(super) fn copy_text<R: Read>(
    out: &mut dyn Write,
    mut open: impl FnMut() -> std::io::Result<R>,
) -> std::io::Result<bool> {
    if !each_piece(open()?, &mut |_| Ok(()))? {
        return Ok(false);
    }
    out.write_all(b"\"")?;
    let whole = each_piece(open()?, &mut |text| {
        let quoted = serde_json::to_string(text)?;
        out.write_all(quoted.get(1..quoted.len() - 1).unwrap_or_default().as_bytes())
    })?;
    out.write_all(b"\"")?;
    Ok(whole)
}

/// Gives a text to `take` in whole characters; `false` if it is not UTF-8.
fn each_piece(
    mut source: impl Read,
    take: &mut dyn FnMut(&str) -> std::io::Result<()>,
) -> std::io::Result<bool> {
    let mut piece = vec![0; PIECE];
    let mut held = 0;
    loop {
        let len = source.read(&mut piece[held..])?;
        let filled = held + len;
        let valid = match std::str::from_utf8(&piece[..filled]) {
            Ok(text) => {
                take(text)?;
                filled
            }
            // A character that is cut off by the end of the piece, but not by that of the text.
            Err(error) if error.error_len().is_none() && len > 0 => error.valid_up_to(),
            Err(_) => return Ok(false),
        };
        if valid < filled {
            take(std::str::from_utf8(&piece[..valid]).unwrap_or_default())?;
        }
        piece.copy_within(valid..filled, 0);
        held = filled - valid;
        if len == 0 {
            return Ok(true);
        }
    }
}

/// Base64 (RFC 4648, section 4, with padding).
mod base64_text {
    use std::io::Write;

    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub(super) struct Base64Writer<'a> {
        out: &'a mut dyn Write,
        rest: Vec<u8>,
    }

    impl<'a> Base64Writer<'a> {
        pub(super) fn new(out: &'a mut dyn Write) -> Self {
            Self { out, rest: Vec::new() }
        }

        pub(super) fn write(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
            while !self.rest.is_empty() && self.rest.len() < 3 {
                let Some((&byte, after)) = bytes.split_first() else { return Ok(()) };
                self.rest.push(byte);
                bytes = after;
            }
            let mut text = Vec::with_capacity(bytes.len() / 3 * 4 + 8);
            let (groups, rest) = bytes.as_chunks::<3>();
            for group in self.rest.as_chunks::<3>().0.iter().chain(groups) {
                text.extend_from_slice(&digits(*group));
            }
            self.rest.clear();
            self.rest.extend_from_slice(rest);
            self.out.write_all(&text)
        }

        pub(super) fn finish(self) -> std::io::Result<()> {
            match *self.rest.as_slice() {
                [one] => {
                    let [first, second, ..] = digits([one, 0, 0]);
                    self.out.write_all(&[first, second, b'=', b'='])
                }
                [one, two] => {
                    let [first, second, third, _] = digits([one, two, 0]);
                    self.out.write_all(&[first, second, third, b'='])
                }
                _ => Ok(()),
            }
        }
    }

    fn digits(group: [u8; 3]) -> [u8; 4] {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        [18, 12, 6, 0].map(|shift| DIGITS[(bits >> shift) as usize & 63])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: ValueRef<'_>) -> String {
        let mut out = Vec::new();
        write_value(&mut out, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_value_keeps_its_storage_class() {
        for (value, expected) in [
            (ValueRef::Null, "null"),
            (ValueRef::Integer(-7), "-7"),
            (ValueRef::Integer(9_007_199_254_740_991), "9007199254740991"),
            (ValueRef::Integer(9_007_199_254_740_992), r#"{"integer":"9007199254740992"}"#),
            (ValueRef::Integer(i64::MIN), r#"{"integer":"-9223372036854775808"}"#),
            (ValueRef::Real(1.0), "1.0"),
            (ValueRef::Real(-0.0), "-0.0"),
            (ValueRef::Real(1e300), "1e300"),
            (ValueRef::Real(f64::NEG_INFINITY), r#"{"real":"-Infinity"}"#),
            (ValueRef::Text(b"a\"\n\0\xc3\xa9"), "\"a\\\"\\n\\u0000\u{e9}\""),
            (ValueRef::Text(b"\xff"), r#"{"text_base64":"/w=="}"#),
            (ValueRef::Blob(b""), r#"{"blob_base64":""}"#),
            (ValueRef::Blob(b"fo"), r#"{"blob_base64":"Zm8="}"#),
            (ValueRef::Blob(b"foobar"), r#"{"blob_base64":"Zm9vYmFy"}"#),
        ] {
            assert_eq!(json(value), expected);
        }
    }

    /// Gives few bytes at a time, as a pipe may.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let len = self.1.min(into.len()).min(self.0.len());
            into[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    #[test]
    fn large_values_are_the_same_in_pieces() {
        let text = "\u{1F600}\"\u{e9}x\n".repeat(9_000);
        for step in [1, 2, 3, 5, 7, 50_000] {
            let (mut whole, mut pieces) = (Vec::new(), Vec::new());
            write_value(&mut whole, ValueRef::Text(text.as_bytes())).unwrap();
            assert!(copy_text(&mut pieces, || Ok(Slow(text.as_bytes(), step))).unwrap());
            assert!(whole == pieces, "text by {step}");
            let (mut whole, mut pieces) = (Vec::new(), Vec::new());
            write_value(&mut whole, ValueRef::Blob(text.as_bytes())).unwrap();
            copy_base64(&mut pieces, "blob_base64", &mut Slow(text.as_bytes(), step)).unwrap();
            assert!(whole == pieces, "blob by {step}");
        }
        let broken = [text.as_bytes(), b"\xf0\x9f"].concat();
        let mut nothing = Vec::new();
        assert!(!copy_text(&mut nothing, || Ok(Slow(&broken, 1000))).unwrap());
        assert!(nothing.is_empty());
    }
}
