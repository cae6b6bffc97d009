//! Addresses of remote stores: `scheme://[user@]host[:port]/path?option=value&...`.
//!
//! An address is shown in messages and stays in the shell's history, so it never holds a secret: one with a password in
//! it is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::super::StoreError;

/// Services that a vault can be kept with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// S3 and what speaks its protocol: `s3://bucket/prefix`.
    S3,
    /// Google Cloud Storage: `gs://bucket/prefix`.
    Gcs,
    /// Azure Blob Storage: `azblob://container/prefix`.
    Azblob,
    /// A folder behind `OpenSSH`: `sftp://user@host/path`, `sftp://host/~/path` from the home folder.
    Sftp,
    /// A `WebDAV` server: `webdavs://host/path`, without TLS `webdav://`.
    Webdav {
        /// Whether it is spoken to over TLS.
        tls: bool,
    },
}

impl Service {
    const ALL: [(&'static str, Self); 6] = [
        ("s3", Self::S3),
        ("gs", Self::Gcs),
        ("azblob", Self::Azblob),
        ("sftp", Self::Sftp),
        ("webdav", Self::Webdav { tls: false }),
        ("webdavs", Self::Webdav { tls: true }),
    ];

    /// Options that mean something to this service alone.
    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &["endpoint", "region", "style", "class", "profile", "conditional", "anonymous"],
            Self::Gcs => &["endpoint", "class"],
            Self::Azblob => &["endpoint", "account"],
            Self::Sftp => &["key", "known-hosts"],
            Self::Webdav { .. } => &[],
        }
    }
}

/// Options of every service.
const COMMON: [&str; 4] = ["timeout", "retries", "connections", "rate"];

/// Where a remote store is, and how it is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteAddress {
    service: Service,
    /// Bucket, container, or host with port.
    host: String,
    user: Option<String>,
    /// Without slashes at its ends.
    path: String,
    options: BTreeMap<String, String>,
}

impl RemoteAddress {
    /// The service.
    #[must_use]
    pub const fn service(&self) -> Service {
        self.service
    }

    /// Bucket, container, or host with port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The user, where one is named.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The path, without slashes at its ends.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value of an option.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// Sets an option that the address does not name, such as one from the environment.
    #[must_use]
    pub fn with_default(mut self, name: &str, value: Option<impl Into<String>>) -> Self {
        if let Some(value) = value
            && !self.options.contains_key(name)
        {
            self.options.insert(name.to_owned(), value.into());
        }
        self
    }

    /// How requests are made.
    pub(super) fn limits(&self) -> Result<Limits, StoreError> {
        let defaults = Limits::default();
        let number = |name: &str, default: u64, least: u64| match self.option(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| (least..=1_000_000_000_000).contains(number))
                .ok_or_else(|| self.invalid(&format!("{name}={text} is not a number of {least} or more"))),
        };
        Ok(Limits {
            timeout: Duration::from_secs(number("timeout", defaults.timeout.as_secs(), 1)?),
            retries: u32::try_from(number("retries", u64::from(defaults.retries), 0)?).unwrap_or(u32::MAX),
            connections: usize::try_from(number("connections", defaults.connections as u64, 1)?).unwrap_or(1),
            rate: number("rate", 0, 0).map(|rate| (rate > 0).then_some(rate))?,
        })
    }

    pub(super) fn invalid(&self, why: &str) -> StoreError {
        invalid(&self.to_string(), why)
    }
}

fn invalid(address: &str, why: &str) -> StoreError {
    StoreError::InvalidAddress { address: address.to_owned(), why: why.to_owned() }
}

/// How requests to a remote store are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a request may take before any byte has moved; each 32 KiB that it moves adds a second.
    pub timeout: Duration,
    /// How often a request that failed for a passing reason is made again.
    pub retries: u32,
    /// Requests at once.
    pub connections: usize,
    /// Most bytes a second, both ways together.
    pub rate: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), retries: 6, connections: 16, rate: None }
    }
}

impl FromStr for RemoteAddress {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid(text, "it has no scheme"))?;
        let known = Service::ALL.iter().find(|(name, _)| *name == scheme);
        let Some((_, service)) = known else {
            let names = Service::ALL.map(|(name, _)| format!("{name}://")).join(", ");
            return Err(invalid(text, &format!("{scheme}:// is none of {names}, file://")));
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            // Not repeated in the message.
            return Err(invalid(&format!("{scheme}://{host}"), "an address must not hold a password"));
        }
        if host.is_empty() || host.starts_with('-') || user.is_some_and(|user| user.starts_with('-')) {
            return Err(invalid(text, "it names no host or bucket"));
        }
        let path = path.trim_matches('/');
        if path.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(invalid(text, "its path must not hold . or .."));
        }
        let mut options = BTreeMap::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if !COMMON.contains(&name) && !service.options().contains(&name) {
                let mut names = service.options().to_vec();
                names.extend(COMMON);
                let names = names.join(", ");
                // The value may be a secret that does not belong here.
                let place = format!("{scheme}://{place}");
                return Err(invalid(&place, &format!("it has no option {name:?}; there are {names}")));
            }
            if name == "endpoint" && value.contains('@') {
                let why = "its endpoint must not hold a user or a password";
                return Err(invalid(&format!("{scheme}://{place}"), why));
            }
            options.insert(name.to_owned(), value.to_owned());
        }
        let (host, user, path) = (host.to_owned(), user.map(str::to_owned), path.to_owned());
        Ok(Self { service: *service, host, user, path, options })
    }
}

/// Scheme, host and path: what tells one place from another. Options are left out.
impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Service::ALL.iter().find(|(_, service)| *service == self.service);
        write!(f, "{}://", named.map_or("", |(name, _)| name))?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        write!(f, "{}", self.host)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RemoteAddress, StoreError> {
        text.parse()
    }

    #[test]
    fn the_parts_of_an_address() {
        let s3 =
            parse("s3://bucket/some/prefix/?endpoint=http://127.0.0.1:9000&region=eu-1&style=path").unwrap();
        assert_eq!((s3.service(), s3.host(), s3.path()), (Service::S3, "bucket", "some/prefix"));
        assert_eq!(s3.option("endpoint"), Some("http://127.0.0.1:9000"));
        assert_eq!(s3.to_string(), "s3://bucket/some/prefix");
        let sftp = parse("sftp://me@host:2222/srv/vault?key=/k").unwrap();
        assert_eq!((sftp.user(), sftp.host(), sftp.path()), (Some("me"), "host:2222", "srv/vault"));
        assert_eq!(sftp.to_string(), "sftp://me@host:2222/srv/vault");
        assert_eq!(parse("gs://bucket").unwrap().to_string(), "gs://bucket");
        assert_eq!(parse("webdavs://host/dav").unwrap().service(), Service::Webdav { tls: true });
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_secrets() {
        for wrong in [
            "bucket",
            "ftp://host/x",
            "s3://",
            "s3:///prefix",
            "s3://bucket/../other",
            "s3://bucket?nope=secret",
            "sftp://-oProxyCommand=x/y",
            "sftp://me:secret@host/y",
            "gs://b?key=secret",
            "s3://b?endpoint=http://me:secret@host",
        ] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn limits_have_defaults_and_bounds() {
        assert_eq!(parse("s3://b").unwrap().limits().unwrap(), Limits::default());
        let limits = parse("s3://b?timeout=5&retries=0&connections=2&rate=1000").unwrap().limits().unwrap();
        assert_eq!((limits.retries, limits.connections, limits.rate), (0, 2, Some(1000)));
        for wrong in ["timeout=0", "retries=x", "connections=0", "rate=-1"] {
            assert!(parse(&format!("s3://b?{wrong}")).unwrap().limits().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_environment_only_fills_in() {
        let address = parse("s3://b?region=mine").unwrap();
        let address = address.with_default("region", Some("other")).with_default("endpoint", None::<String>);
        assert_eq!((address.option("region"), address.option("endpoint")), (Some("mine"), None));
    }
}
