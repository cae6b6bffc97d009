//! Words of the file that become values.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Span;

/// Suffix and the bytes it stands for, longest suffix first.
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// A size such as `500MiB` or `1.5 GiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let expected = || "expected a size such as 500MiB, 1GiB or 20GB".to_owned();
    let text = text.trim();
    let (number, unit) = UNITS
        .into_iter()
        .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|number| (number, unit)))
        .unwrap_or((text, 1));
    let number: f64 = number.trim().parse().map_err(|_| expected())?;
    #[expect(clippy::cast_precision_loss, reason = "a unit is a small number")]
    let bytes = number * unit as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the range just tested"
    )]
    if (0.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(expected()) }
}

/// A length of time such as `30s` or `7d`; a day has 24 hours.
pub(crate) fn length(text: &str) -> Result<Duration, String> {
    let expected = || "expected a length of time with its unit, such as 30s, 15m, 1h30m or 7d".to_owned();
    let span: Span = text.trim().parse().map_err(|_| expected())?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| expected())?;
    Duration::try_from(length).map_err(|_| expected())
}

/// An address of this machine alone.
pub(super) fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "expected an address and port, such as 127.0.0.1:9187 or [::1]:9187".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("expected a loopback address, such as 127.0.0.1: what the metrics tell is not for everybody"
            .to_owned())
    }
}

/// An address of the web.
pub(super) fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !text.contains(char::is_whitespace) => {
            Ok(text.to_owned())
        }
        _ => Err("expected an address that begins with https:// or http://".to_owned()),
    }
}

/// A path: `~/` is the home, and what is relative starts at the folder of the file.
pub(super) fn path(text: &str, home: Option<&Path>, folder: &Path) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("expected a path, found nothing".to_owned());
    }
    match (text.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => Ok(home.join(rest)),
        (Some(_), None) => Err("~/ cannot be used where HOME is not set".to_owned()),
        (None, _) => Ok(folder.join(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("0", 0), ("17", 17), ("1KiB", 1024), ("1.5 GiB", 1_610_612_736), ("20GB", 20_000_000_000)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "GiB", "-1GiB", "1 parsec", "1e99", "NaN"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_start_at_the_file_or_the_home() {
        let of = |text| path(text, Some(Path::new("/home/u")), Path::new("/etc/pagevault"));
        assert_eq!(of("/a"), Ok("/a".into()));
        assert_eq!(of("a/b"), Ok("/etc/pagevault/a/b".into()));
        assert_eq!(of("~/a"), Ok("/home/u/a".into()));
        assert!(path("~/a", None, Path::new("/")).is_err());
    }

    #[test]
    fn metrics_stay_on_this_machine() {
        assert!(loopback("127.0.0.1:9187").is_ok() && loopback("[::1]:1").is_ok());
        assert!(loopback("0.0.0.0:9187").is_err() && loopback("localhost").is_err());
    }

    #[test]
    fn addresses_of_the_web() {
        assert!(url("https://a.example/x").is_ok() && url("http://127.0.0.1:8080").is_ok());
        for wrong in ["", "ftp://a", "https://", "https:// a", "a.example"] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }
}
