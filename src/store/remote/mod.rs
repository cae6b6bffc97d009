//! Remote stores, through `OpenDAL`. The only place in the crate where anything is asynchronous: a small runtime of
//! this store's own, and a blocking facade.
//!
//! What every service promises here: an object is absent, then complete. Of two writers of one path exactly one is told
//! that it created it where the service has a conditional write (S3, GCS, Azure). On SFTP and `WebDAV` it is looked
//! first and then renamed, so two writers of one path within milliseconds of each other may both believe to have been
//! the first. A vault writes no two different objects of one path but where two hosts make a vault at the same place at
//! the same moment. Durability is the service's.

mod address;
mod connect;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use opendal::{EntryMode, ErrorKind, Operator};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

pub use self::address::{Limits, RemoteAddress, Service};
pub use self::connect::Credentials;

use super::path::{TEMPORARY_PREFIX, check_folder};
use super::{ObjectMeta, ObjectPath, Put, Store, StoreError};

/// Threads that wait for the network.
const RUNTIME_THREADS: usize = 2;
/// Bytes that are worth another second of waiting.
const BYTES_PER_SECOND: u64 = 32 << 10;

/// How a store that has no conditional write in one step gets by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    /// One request that fails if there is such an object.
    Conditional,
    /// Looks whether there is such an object, then writes it; the service shows whole objects only.
    LookFirst,
    /// Writes a temporary object, looks, and renames: the service shows objects while they grow.
    Rename,
}

/// Objects with a remote service.
pub struct RemoteStore {
    operator: Operator,
    runtime: Runtime,
    place: String,
    /// In front of every path.
    prefix: String,
    writing: Writing,
    limits: Limits,
    connections: Semaphore,
    temporaries: AtomicU64,
    tags_are_md5: bool,
}

/// Without the operator, whose configuration holds credentials.
impl std::fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteStore")
            .field("place", &self.place)
            .field("writing", &self.writing)
            .finish_non_exhaustive()
    }
}

impl RemoteStore {
    /// The store at `address`. Nothing is asked of the service yet; the bucket or folder above the path must exist.
    pub fn open(address: &RemoteAddress, credentials: &Credentials) -> Result<Self, StoreError> {
        let limits = address.limits()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("pagevault-store")
            .enable_all()
            .build()
            .map_err(|error| StoreError::from_io("connect to", address, error))?;
        let connected = {
            let _inside = runtime.enter();
            connect::connect(address, credentials)?
        };
        Ok(Self {
            operator: connected.operator,
            runtime,
            place: address.to_string(),
            prefix: connected.prefix,
            writing: connected.writing,
            limits,
            connections: Semaphore::new(limits.connections),
            temporaries: AtomicU64::new(connected.first_temporary),
            tags_are_md5: address.service() == Service::S3,
        })
    }

    /// How requests are made, as far as that is for this store or those around it to see to.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    fn key(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Runs one request, which may move `bytes`.
    fn run<T>(
        &self,
        operation: &'static str,
        path: &str,
        bytes: u64,
        request: impl Future<Output = Result<T, opendal::Error>>,
    ) -> Result<T, StoreError> {
        let patience = self.limits.timeout + Duration::from_secs(bytes / BYTES_PER_SECOND);
        self.runtime.block_on(async {
            // Waiting for others is no fault of the service.
            let _turn = self.connections.acquire().await;
            match tokio::time::timeout(patience, request).await {
                Ok(outcome) => outcome.map_err(|error| self.failure(operation, path, &error)),
                Err(_) => Err(StoreError::Temporary {
                    path: self.shown(path),
                    operation,
                    why: format!("no answer within {} s", patience.as_secs()),
                }),
            }
        })
    }

    fn shown(&self, path: &str) -> String {
        if path.is_empty() { self.place.clone() } else { format!("{}/{path}", self.place) }
    }

    /// What the service said, without addresses and headers, which may hold credentials.
    fn failure(&self, operation: &'static str, path: &str, error: &opendal::Error) -> StoreError {
        let place = self.shown(path);
        match error.kind() {
            ErrorKind::NotFound => StoreError::NotFound { path: place },
            ErrorKind::PermissionDenied => StoreError::PermissionDenied { path: place, operation },
            kind => {
                let mut why = error.message().to_owned();
                let mut cause = std::error::Error::source(error);
                while let Some(current) = cause {
                    let text = current.to_string();
                    if !why.contains(&text) {
                        why = format!("{why}: {text}");
                    }
                    cause = current.source();
                }
                // Servers of one's own say so of a bucket that nobody has made.
                if why.contains("NoSuchBucket") {
                    let why = "the bucket does not exist; make it first".to_owned();
                    return StoreError::InvalidAddress { address: self.place.clone(), why };
                }
                let status = status_of(error);
                if why.contains("failed to load signing credential") || matches!(status, Some(401 | 403)) {
                    return StoreError::PermissionDenied { path: place, operation };
                }
                if let Some(status) = status.filter(|_| why.trim_start().starts_with('<')) {
                    // A page for people, in a language of the server's own.
                    why = format!("the server answered with status {status}");
                }
                if operation == "write" && why.contains("NotImplemented") {
                    why.push_str(
                        "; for a server without conditional writes there is the option conditional=no",
                    );
                }
                if why.contains("ssh error") && UNREACHABLE.iter().any(|words| why.contains(words)) {
                    return StoreError::Temporary { path: place, operation, why };
                }
                if error.is_temporary() || kind == ErrorKind::RateLimited {
                    StoreError::Temporary { path: place, operation, why }
                } else {
                    StoreError::other(operation, place, format!("{kind}: {why}"))
                }
            }
        }
    }

    /// The MD5 of an object. With S3 it is the entity tag of what was put in one request and not
    /// encrypted under a key of one's own. Other tags look different, or do not match, which says nothing.
    fn md5_of(&self, metadata: &opendal::Metadata) -> Option<[u8; 16]> {
        let tag = metadata.etag().filter(|_| self.tags_are_md5)?.trim_matches('"');
        let mut md5 = [0; 16];
        let digits = tag.len() == 32 && tag.bytes().all(|digit| digit.is_ascii_hexdigit());
        for (at, byte) in md5.iter_mut().enumerate() {
            *byte = u8::from_str_radix(tag.get(at * 2..at * 2 + 2).filter(|_| digits)?, 16).ok()?;
        }
        Some(md5)
    }

    fn exists(&self, path: &ObjectPath) -> Result<bool, StoreError> {
        match self.size(path) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write(&self, path: &ObjectPath, key: &str, bytes: &[u8], absent: bool) -> Result<Put, StoreError> {
        let size = bytes.len() as u64;
        let body = opendal::Buffer::from(bytes.to_vec());
        let request = async {
            match self.operator.write_with(key, body).if_not_exists(absent).await {
                Ok(_) => Ok(Put::Created),
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists) =>
                {
                    Ok(Put::AlreadyPresent)
                }
                Err(error) => Err(error),
            }
        };
        self.run("write", path.as_str(), size, request)
    }

    fn write_by_rename(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        if self.exists(path)? {
            return Ok(Put::AlreadyPresent);
        }
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let folder = if path.folder().is_empty() { String::new() } else { format!("{}/", path.folder()) };
        let temporary = self.key(&format!("{folder}{TEMPORARY_PREFIX}{number:016x}"));
        let outcome = self.write(path, &temporary, bytes, false).and_then(|_| {
            // Once more: uploading may have taken a while.
            if self.exists(path)? {
                return Ok(Put::AlreadyPresent);
            }
            let key = self.key(path.as_str());
            self.run("write", path.as_str(), 0, self.operator.rename(&temporary, &key))?;
            Ok(Put::Created)
        });
        if !matches!(outcome, Ok(Put::Created)) {
            // What stays behind bears a temporary name.
            let _ = self.run("delete", path.as_str(), 0, self.operator.delete(&temporary));
        }
        outcome
    }
}

/// What `ssh` says of a host that may be there the next time.
const UNREACHABLE: [&str; 6] = [
    "Connection refused",
    "Connection reset",
    "Connection closed",
    "Connection timed out",
    "No route to host",
    "Temporary failure in name resolution",
];

/// The status of the HTTP answer that an error is about: it tells it among its circumstances only.
fn status_of(error: &opendal::Error) -> Option<u16> {
    let text = error.to_string();
    let (_, rest) = text.split_once("status: ")?;
    rest.get(..3)?.parse().ok()
}

impl Store for RemoteStore {
    fn describe(&self) -> String {
        self.place.clone()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn get(&self, path: &ObjectPath, limit: u64) -> Result<Vec<u8>, StoreError> {
        let key = self.key(path.as_str());
        // One request, whose answer is given up as soon as it is longer than it may be.
        let opened = async { self.operator.reader(&key).await?.into_stream(0..).await };
        let mut stream = self.run("read", path.as_str(), 0, opened)?;
        let mut bytes = Vec::new();
        while let Some(piece) = self.run("read", path.as_str(), 0, stream.try_next())? {
            if bytes.len() as u64 + piece.len() as u64 > limit {
                let size = self.size(path)?;
                return Err(StoreError::TooLarge { path: self.shown(path.as_str()), size, limit });
            }
            piece.for_each(|part| bytes.extend_from_slice(&part));
        }
        Ok(bytes)
    }

    fn read_range(&self, path: &ObjectPath, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        let length = into.len();
        let short = || StoreError::ShortRead { path: self.shown(path.as_str()), offset, length };
        let end = offset.checked_add(length as u64).ok_or_else(short)?;
        let key = self.key(path.as_str());
        // As it comes: the answer is nowhere a second time.
        let read = async {
            let mut stream = self.operator.reader(&key).await?.into_stream(offset..end).await?;
            let mut at = 0;
            while let Some(piece) = stream.try_next().await? {
                for part in piece {
                    if let Some(place) = into.get_mut(at..at + part.len()) {
                        place.copy_from_slice(&part);
                    }
                    at += part.len();
                }
            }
            Ok(at)
        };
        match self.run("read", path.as_str(), length as u64, read) {
            Ok(received) if received == length => Ok(()),
            Ok(_) => Err(short()),
            Err(error) if error.is_not_found() => Err(error),
            // Services disagree on what to say of a range beyond the end.
            Err(error) => match self.size(path) {
                Ok(size) if size < end => Err(short()),
                _ => Err(error),
            },
        }
    }

    fn size(&self, path: &ObjectPath) -> Result<u64, StoreError> {
        let key = self.key(path.as_str());
        let metadata = self.run("inspect", path.as_str(), 0, self.operator.stat(&key))?;
        if metadata.is_file() {
            Ok(metadata.content_length())
        } else {
            Err(StoreError::NotFound { path: self.shown(path.as_str()) })
        }
    }

    fn put_if_absent(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Put, StoreError> {
        let key = self.key(path.as_str());
        match self.writing {
            Writing::Conditional => self.write(path, &key, bytes, true),
            Writing::LookFirst if self.exists(path)? => Ok(Put::AlreadyPresent),
            Writing::LookFirst => self.write(path, &key, bytes, false),
            Writing::Rename => self.write_by_rename(path, bytes),
        }
    }

    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        check_folder(folder)?;
        let below = if folder.is_empty() { self.prefix.clone() } else { self.key(&format!("{folder}/")) };
        let lister = self.operator.lister_with(if below.is_empty() { "/" } else { &below }).recursive(true);
        let mut lister = match self.run("list", folder, 0, lister.into_future()) {
            Err(error) if error.is_not_found() => return Ok(()),
            lister => lister?,
        };
        loop {
            let entry = match self.run("list", folder, 0, lister.try_next()) {
                Err(error) if error.is_not_found() => return Ok(()),
                entry => entry?,
            };
            let Some(entry) = entry else { return Ok(()) };
            let name = entry.path().strip_prefix(&self.prefix).unwrap_or(entry.path());
            let Ok(path) = ObjectPath::new(name.trim_start_matches('/')) else { continue };
            if entry.metadata().mode() != EntryMode::FILE || !path.is_below(folder) {
                continue;
            }
            let modified = entry.metadata().last_modified().map(opendal::raw::Timestamp::into_inner);
            let (size, md5) = (entry.metadata().content_length(), self.md5_of(entry.metadata()));
            let meta = ObjectMeta { path, size, modified, md5 };
            if visit(meta).is_break() {
                return Ok(());
            }
        }
    }

    fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        let key = self.key(path.as_str());
        match self.run("delete", path.as_str(), 0, self.operator.delete(&key)) {
            Err(error) if error.is_not_found() => Ok(()),
            outcome => outcome,
        }
    }
}
