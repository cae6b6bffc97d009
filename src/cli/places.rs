//! From a place that was typed to its store: a folder, or the address of a service.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pagevault::store::{LocalStore, Store};
use pagevault::{Error, ErrorKind, Result};

use super::environment::Environment;
use super::requests::RequestLog;

/// How often a request to a copy is made again, unless its address says otherwise.
const RETRIES_OF_COPIES: u32 = 2;

/// Opens stores. May be used from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Opener {
    pub(super) environment: Arc<Environment>,
    #[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "only requests to servers are counted"))]
    pub(super) requests: RequestLog,
}

impl Opener {
    /// As variables say; requests to remote stores are noted in `requests`.
    pub(crate) const fn new(environment: Arc<Environment>, requests: RequestLog) -> Self {
        Self { environment, requests }
    }

    /// The same without the log: for a process that opens stores again and again.
    pub(crate) fn uncounted(&self) -> Self {
        Self::new(Arc::clone(&self.environment), RequestLog::default())
    }

    /// The store at a place; `None` if it is a folder that does not exist.
    pub(crate) fn find(&self, place: &Path) -> Result<Option<Box<dyn Store>>> {
        self.find_with(place, None)
    }

    /// As [`find`](Self::find), for a copy that is read only if something is wrong: less patience, where the address asks for none.
    pub(crate) fn find_copy(&self, place: &Path) -> Result<Option<Box<dyn Store>>> {
        self.find_with(place, Some(RETRIES_OF_COPIES))
    }

    fn find_with(&self, place: &Path, retries: Option<u32>) -> Result<Option<Box<dyn Store>>> {
        let folder = absolute(place)?;
        if let Some(address) = address(&folder) {
            return self.remote(address, retries).map(Some);
        }
        match folder.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Ok(metadata) if !metadata.is_dir() => {
                let message = format!("{} is a file, not the folder of a vault", folder.display());
                Err(Error::new(ErrorKind::NotFound, message).with_hint("name the folder of a vault"))
            }
            _ => Ok(Some(Box::new(LocalStore::open(folder)?))),
        }
    }

    /// As [`find`](Self::find); makes a folder that does not exist.
    pub(crate) fn make(&self, place: &Path) -> Result<Box<dyn Store>> {
        match self.find(place)? {
            Some(store) => Ok(store),
            None => Ok(Box::new(LocalStore::create(absolute(place)?)?)),
        }
    }

    #[cfg(feature = "remote")]
    fn remote(&self, address: &str, retries: Option<u32>) -> Result<Box<dyn Store>> {
        super::remote::open(address, retries, self)
    }

    #[cfg(not(feature = "remote"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    fn remote(&self, _: &str, _: Option<u32>) -> Result<Box<dyn Store>> {
        Err(Error::new(ErrorKind::Usage, "this build of pagevault keeps vaults in folders only")
            .with_hint("name a folder, or install pagevault with the feature `remote`"))
    }
}

/// The address, if a place is one rather than a folder.
pub(crate) fn address(place: &Path) -> Option<&str> {
    place.to_str().filter(|text| text.contains("://") && !text.starts_with("file:"))
}

/// A folder as an absolute path; an address as it is.
pub(crate) fn absolute(folder: &Path) -> Result<PathBuf> {
    if let Some(local) = folder.to_str().and_then(|text| text.strip_prefix("file:")) {
        let path = local.strip_prefix("//localhost").or_else(|| local.strip_prefix("//")).unwrap_or(local);
        if !path.starts_with('/') {
            let message = format!("{}: a file address names a whole path", folder.display());
            return Err(Error::new(ErrorKind::Usage, message)
                .with_hint("as in file:///srv/vault, with three slashes; or name the folder as it is"));
        }
        return Ok(PathBuf::from(path));
    }
    if address(folder).is_some() {
        return Ok(folder.to_path_buf());
    }
    std::path::absolute(folder).map_err(|error| {
        Error::new(
            ErrorKind::Usage,
            format!("{:?} cannot be the place of a vault: {error}", folder.display()),
        )
    })
}

/// Whether an address can be one, as far as that can be told without asking its service.
pub(crate) fn check_address(text: &str) -> std::result::Result<(), String> {
    absolute(Path::new(text)).map_err(|error| error.to_string())?;
    #[cfg(feature = "remote")]
    if address(Path::new(text)).is_some() {
        text.parse::<pagevault::store::RemoteAddress>().map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Whether one place is the other, or lies within it.
pub(crate) fn is_within(inner: &Path, outer: &Path) -> bool {
    let of = |place: &Path| match address(place) {
        Some(_) => PathBuf::from(shown(place).trim_end_matches('/')),
        None => real(&absolute(place).unwrap_or_else(|_| place.to_path_buf())),
    };
    of(inner).starts_with(of(outer))
}

/// A path without symbolic links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        (Err(_), ..) => path.to_path_buf(),
    }
}

/// The place as it was named, without what an address may hold besides.
pub(crate) fn shown(place: &Path) -> String {
    let Some((scheme, rest)) = address(place).and_then(|text| text.split_once("://")) else {
        return place.display().to_string();
    };
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    let (authority, path) = rest.split_once('/').map_or((rest, String::new()), |(a, p)| (a, format!("/{p}")));
    // A user is no secret; what follows its colon is one, and is refused later on.
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        None => authority.to_owned(),
    };
    format!("{scheme}://{authority}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_shown_without_options_and_passwords() {
        for (typed, expected) in [
            ("/srv/vault", "/srv/vault"),
            ("s3://bucket/prefix?endpoint=http://h", "s3://bucket/prefix"),
            ("sftp://me:secret@host/y", "sftp://me@host/y"),
            ("gs://bucket", "gs://bucket"),
        ] {
            assert_eq!(shown(Path::new(typed)), expected);
        }
    }

    #[test]
    fn a_place_within_another_is_known() {
        let within = |inner: &str, outer: &str| is_within(Path::new(inner), Path::new(outer));
        assert!(within("s3://b/v/sub?region=x", "s3://b/v") && within("s3://b/v/", "s3://b/v?rate=1"));
        assert!(!within("s3://b/vault", "s3://b/v") && !within("s3://c/v", "s3://b/v"));
        assert!(within("/none/v/sub", "file:///none/v") && !within("/none/v", "/none/v/sub"));
    }

    #[test]
    fn an_address_stays_and_a_folder_becomes_absolute() {
        let of = |text: &str| absolute(Path::new(text)).unwrap();
        assert_eq!(of("s3://bucket/vault"), Path::new("s3://bucket/vault"));
        assert_eq!(of("file:///srv/vault"), Path::new("/srv/vault"));
        assert_eq!(of("file://localhost/srv/vault"), Path::new("/srv/vault"));
        assert_eq!(of("file:/srv/vault"), Path::new("/srv/vault"));
        assert!(absolute(Path::new("file://srv/vault")).is_err());
        assert!(of("relative").is_absolute());
        assert!(absolute(Path::new("")).is_err());
    }
}
