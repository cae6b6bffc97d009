//! How the words behind options become values, and what is said about words that do not.

use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use pagevault::Error;
use pagevault::format::manifest::Kind;
use pagevault::operations::sync::Verify;
use pagevault::sqlite::CheckLevel;

/// What the library reads from text, and in its words how to write it where it cannot be read.
pub(crate) fn spoken<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: Error| match error.hint() {
        Some(hint) => format!("{error}: {hint}"),
        None => error.to_string(),
    })
}

/// The kinds a person or script may give a snapshot.
pub(crate) fn snapshot_kind() -> impl TypedValueParser<Value = Kind> {
    kinds(&[Kind::Automatic, Kind::Manual, Kind::Migration])
}

/// The kinds a snapshot may have.
pub(crate) fn any_kind() -> impl TypedValueParser<Value = Kind> {
    kinds(&Kind::ALL)
}

fn kinds(allowed: &[Kind]) -> impl TypedValueParser<Value = Kind> + use<> {
    let named = |word: String| Kind::ALL.into_iter().find(|kind| kind.name() == word);
    PossibleValuesParser::new(allowed.iter().map(|kind| kind.name()))
        .try_map(move |word| named(word).ok_or("no such kind"))
}

/// How thoroughly a restored image is checked.
pub(crate) fn check_level() -> impl TypedValueParser<Value = CheckLevel> {
    PossibleValuesParser::new(["quick", "full", "none"]).map(|word| match word.as_str() {
        "quick" => CheckLevel::Quick,
        "none" => CheckLevel::None,
        _ => CheckLevel::Full,
    })
}

/// How well a copy is to be known to be whole.
pub(crate) fn verify() -> impl TypedValueParser<Value = Verify> {
    PossibleValuesParser::new(["checksums", "data"]).map(|word| match word.as_str() {
        "checksums" => Verify::Checksums,
        _ => Verify::Data,
    })
}

/// A name that is not empty.
pub(crate) fn name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// `key=value`, with a key that is not empty. The value may hold further `=`.
pub(crate) fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as env=prod".to_owned()),
    }
}

/// A length of time such as `500ms`, `2s` or `1m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time with its unit, such as 500ms, 2s, 1m or 1h".to_owned();
    let duration: SignedDuration = text.parse().map_err(|_| expected())?;
    Duration::try_from(duration).map_err(|_| expected())
}

/// A length of time in which a day has 24 hours, such as `30d`, `2w` or `12h`; `forever` where that makes sense is up to
/// the caller.
pub(crate) fn age(text: &str) -> Result<SignedDuration, String> {
    let expected = || "expected a time with its unit, such as 12h, 30d or 8w".to_owned();
    let span: Span = text.parse().map_err(|_| expected())?;
    let age = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| expected())?;
    if age.is_negative() { Err(expected()) } else { Ok(age) }
}

/// A tag's key, or `key=value`.
pub(crate) fn tag_pattern(text: &str) -> Result<(String, Option<String>), String> {
    let (key, value) =
        text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value.to_owned())));
    if key.trim().is_empty() {
        return Err("expected KEY or KEY=VALUE, such as env or env=prod".to_owned());
    }
    Ok((key.to_owned(), value))
}

/// A percentage such as `5%`, above 0 and at most 100.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
        _ => Err("expected a percentage above 0 and up to 100, such as 5%".to_owned()),
    }
}

/// A percentage such as `5%`, from 0 to 100.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("expected a percentage from 0 to 100, such as 5%".to_owned()),
    }
}

/// A number of bytes such as `500KiB`, `2M` or `10MB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let expected = || "expected a number of bytes, such as 500KiB, 2MiB or 10MB".to_owned();
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit: u64 = match unit.trim() {
        "" | "B" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(expected()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(expected)
}

/// A point in time, or how long ago it was; local time unless the text says otherwise.
pub(crate) fn since(text: &str) -> Result<Timestamp, String> {
    since_at(text, Timestamp::now(), &TimeZone::system())
}

fn since_at(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    let expected =
        || "expected a date, a time or a span, such as 2026-11-22, 2026-11-22T10:00 or 2h".to_owned();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(local) = text.parse::<DateTime>() {
        return local.to_zoned(zone.clone()).map(|zoned| zoned.timestamp()).map_err(|_| expected());
    }
    let span: Span = text.strip_prefix('-').unwrap_or(text).parse().map_err(|_| expected())?;
    now.to_zoned(zone.clone()).checked_sub(span.abs()).map(|zoned| zoned.timestamp()).map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1m"), Ok(Duration::from_mins(1)));
        assert_eq!(duration("1h"), Ok(Duration::from_hours(1)));
        for wrong in ["", "2", "-2s", "2 parsecs", "s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ages_have_days_of_24_hours() {
        assert_eq!(age("30d"), Ok(SignedDuration::from_hours(720)));
        assert_eq!(age("8w"), Ok(SignedDuration::from_hours(1344)));
        assert_eq!(age("0s"), Ok(SignedDuration::ZERO));
        for wrong in ["", "30", "-1d", "soon", "1mo"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pattern_is_a_key_with_or_without_a_value() {
        assert_eq!(tag_pattern("env"), Ok(("env".to_owned(), None)));
        assert_eq!(tag_pattern("env=a=b"), Ok(("env".to_owned(), Some("a=b".to_owned()))));
        assert!(tag_pattern("=a").is_err());
    }

    #[test]
    fn percentages_are_above_0_and_at_most_100() {
        assert_eq!(percent("5%"), Ok(5.0));
        assert_eq!(percent("0.5"), Ok(0.5));
        for wrong in ["0%", "-1%", "101%", "NaN", "inf", "five", "", "%"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_have_binary_and_decimal_units() {
        assert_eq!(bytes("500KiB"), Ok(500 << 10));
        assert_eq!(bytes("2M"), Ok(2 << 20));
        assert_eq!(bytes("10MB"), Ok(10_000_000));
        assert_eq!(bytes("17"), Ok(17));
        for wrong in ["", "0", "-1", "1.5M", "M", "5 parsecs", "99999999999999999999"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tags_have_a_key() {
        assert_eq!(tag("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(tag("a="), Ok(("a".to_owned(), String::new())));
        assert!(tag("a").is_err());
        assert!(tag("=b").is_err());
    }

    #[test]
    fn a_time_is_absolute_local_or_a_while_ago() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        for (text, expected) in [
            ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"),
            ("2026-11-22T10:00", "2026-11-22T09:00:00Z"),
            ("2026-11-22", "2026-11-21T23:00:00Z"),
            ("2h", "2026-11-22T10:00:00Z"),
            ("-2h", "2026-11-22T10:00:00Z"),
            ("7d", "2026-11-15T12:00:00Z"),
        ] {
            assert_eq!(since_at(text, now, &zone), Ok(expected.parse().unwrap()), "{text}");
        }
        assert!(since_at("yesterday", now, &zone).is_err());
        assert!(since_at("", now, &zone).is_err());
    }
}
