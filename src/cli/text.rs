//! Numbers, times and foreign words as people read them.
//!
//! Names, descriptions and paths come from other machines and other people: what of them could command a
//! terminal is shown in escaped form.

use std::borrow::Cow;
use std::path::Path;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};

/// `text` on one line, without characters that a terminal would obey.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unprintable(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Control characters, and those that turn the direction of writing.
fn is_unprintable(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A path as a word that can be pasted into a shell.
pub(crate) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |character: char| character.is_alphanumeric() || "/._-+,:@%=".contains(character);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A number of bytes in the largest unit that leaves one digit or more before the point.
pub(crate) fn size(bytes: u64) -> String {
    let mut unit = None;
    let (mut whole, mut rest) = (bytes, 0);
    for name in UNITS {
        if whole < 1024 {
            break;
        }
        rest = (whole % 1024) * 10 / 1024;
        whole /= 1024;
        unit = Some(name);
    }
    match unit {
        None => format!("{bytes} B"),
        Some(name) if whole >= 100 => format!("{whole} {name}"),
        Some(name) => format!("{whole}.{rest} {name}"),
    }
}

/// A duration in milliseconds.
pub(crate) fn milliseconds(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// How long ago something was, in its largest unit but one.
pub(crate) fn age(age: jiff::SignedDuration) -> String {
    let seconds = age.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// An instant in local time to the second, as RFC 3339 writes it.
pub(crate) fn local_time(time: Timestamp) -> String {
    time_in(time, TimeZone::system())
}

fn time_in(time: Timestamp, zone: TimeZone) -> String {
    let zoned = time.to_zoned(zone);
    let seconds = zoned.round(Unit::Second).unwrap_or(zoned);
    seconds.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// Rows as columns two spaces apart. Columns named in `right` are aligned to the right; the last is not padded.
pub(crate) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let padding = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            let (before, after) =
                if right.contains(&column) { (padding.as_str(), "") } else { ("", &*padding) };
            let gap = if column == 0 { "" } else { "  " };
            line.extend([gap, before, cell, after]);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_and_few_digits() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (150 * 1024, "150 KiB"),
            (1024 * 1024, "1.0 MiB"),
            (500_000_000, "476 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn odd_paths_are_quoted() {
        assert_eq!(shell_word(Path::new("/a/b-c.key")), "/a/b-c.key");
        assert_eq!(shell_word(Path::new("a b")), "'a b'");
        assert_eq!(shell_word(Path::new("it's")), "'it'\\''s'");
        assert_eq!(shell_word(Path::new("$HOME")), "'$HOME'");
    }

    #[test]
    fn ages_are_short() {
        let of = |seconds| age(jiff::SignedDuration::from_secs(seconds));
        assert_eq!(
            [of(-5), of(59), of(60), of(5400), of(172_800)],
            ["0 s", "59 s", "1 min", "1 h 30 min", "2 d"]
        );
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(milliseconds(7), "7 ms");
        assert_eq!(milliseconds(1234), "1.2 s");
        assert_eq!(milliseconds(61_000), "1 min 1 s");
    }

    #[test]
    fn times_are_local_and_say_so() {
        let time: Timestamp = "2026-11-22T10:00:00.6Z".parse().unwrap();
        assert_eq!(time_in(time, TimeZone::fixed(jiff::tz::offset(1))), "2026-11-22T11:00:01+01:00");
        assert_eq!(time_in(time, TimeZone::UTC), "2026-11-22T10:00:01+00:00");
    }

    #[test]
    fn columns_align_without_trailing_spaces() {
        let rows =
            [vec!["ID".into(), "SIZE".into(), "X".into()], vec!["1".into(), "2 B".into(), String::new()]];
        assert_eq!(table(&rows, &[1]), "ID  SIZE  X\n1    2 B\n");
    }

    #[test]
    fn control_characters_show() {
        assert_eq!(printable("naïve"), "naïve");
        assert_eq!(printable("a\tb\u{202e}c"), "a\\tb\\u{202e}c");
    }
}
