//! Proof that a database has not changed since an earlier capture. Only two things prove it; nothing else is taken
//! for a hint:
//!
//! - The write-ahead log ends with the same frame: same file, same salts, same number and checksum of its last frame.
//!   A checkpoint in between moves pages from one file to the other and changes no content.
//! - There are no frames, and the file's identity, size and times are those seen under the earlier capture's lock, with
//!   a `ctime` so much older than that lock that no later write can have got the same one.
//!
//! The change counter proves nothing: commits through a log leave it alone, and copies of older files have it too.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::raw::connection::WalEnd;

/// Times of local file systems advance in steps of at most 10 ms; twice that is safe.
const TIMESTAMP_STEP: Duration = Duration::from_millis(20);

/// File systems of this machine, whose times are the kernel's own: ext2-4, XFS, Btrfs, tmpfs, F2FS, overlay, ZFS,
/// bcachefs. Elsewhere, on network file systems above all, times prove nothing.
const LOCAL_FILE_SYSTEMS: [i64; 8] =
    [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0xF2F5_2010, 0x794C_7630, 0x2FC1_2FC1, 0xCA45_1A4E];

/// What a database looked like while it was held; equal witnesses of a settled state mean an equal image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    /// Device and inode of the database file.
    pub file: (u64, u64),
    /// What proves the content.
    pub state: State,
}

/// The part of a witness that a commit changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The last frame of the write-ahead log.
    Log {
        /// Salts of the log.
        salts: (u32, u32),
        /// Number of its last frame, from 1.
        last_frame: u32,
        /// Cumulative checksum of that frame.
        checksum: (u32, u32),
    },
    /// No log: the file alone.
    File {
        /// Bytes.
        size: u64,
        /// Nanoseconds since 1970.
        modified_ns: i64,
        /// Nanoseconds since 1970.
        changed_ns: i64,
        /// Whether the file had been left alone for long enough before it was held.
        settled: bool,
    },
}

impl Witness {
    /// Whether the image seen with `self`, earlier, is the one seen with `now`.
    #[must_use]
    pub fn proves_unchanged(&self, now: &Self) -> bool {
        if self.file != now.file {
            return false;
        }
        match (self.state, now.state) {
            (State::Log { .. }, State::Log { .. }) => self.state == now.state,
            (
                State::File { size, modified_ns, changed_ns, settled },
                State::File { size: size_now, modified_ns: modified_now, changed_ns: changed_now, .. },
            ) => settled && (size, modified_ns, changed_ns) == (size_now, modified_now, changed_now),
            _ => false,
        }
    }

    /// The witness at a later moment of the same hold. A file that nobody could write meanwhile only gets older; one that
    /// looks different all the same proves nothing.
    pub(super) fn seen_again(self, path: &Path) -> Option<Self> {
        let State::File { size, modified_ns, changed_ns, .. } = self.state else { return Some(self) };
        let again = Self::take(path, None)?;
        match again.state {
            State::File { size: size_now, modified_ns: modified_now, changed_ns: changed_now, .. }
                if self.file == again.file
                    && (size, modified_ns, changed_ns) == (size_now, modified_now, changed_now) =>
            {
                Some(again)
            }
            _ => None,
        }
    }

    /// Looks at `path`, on which a read lock is held. `log` is what was seen of the log before and after taking the
    /// snapshot: only if both are the same, it is what the snapshot sees.
    pub(super) fn take(path: &Path, log: Option<(WalEnd, WalEnd)>) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let file = (metadata.dev(), metadata.ino());
        let frames = match log {
            Some((before, after)) if before != after => return None,
            Some((end, _)) if end.last_frame > 0 => Some(end),
            _ => None,
        };
        if let Some(end) = frames {
            let (salts, last_frame, checksum) = (end.salts, end.last_frame, end.checksum);
            return Some(Self { file, state: State::Log { salts, last_frame, checksum } });
        }
        let mut journal = path.as_os_str().to_owned();
        journal.push("-journal");
        if fs::symlink_metadata(journal).is_ok() || !is_local(path) {
            return None;
        }
        let changed_ns = nanoseconds(metadata.ctime(), metadata.ctime_nsec())?;
        let changed = UNIX_EPOCH + Duration::from_nanos(u64::try_from(changed_ns).ok()?);
        let settled = SystemTime::now().duration_since(changed).is_ok_and(|age| age > TIMESTAMP_STEP);
        let modified_ns = nanoseconds(metadata.mtime(), metadata.mtime_nsec())?;
        Some(Self { file, state: State::File { size: metadata.len(), modified_ns, changed_ns, settled } })
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> Option<i64> {
    seconds.checked_mul(1_000_000_000)?.checked_add(rest)
}

#[allow(clippy::unnecessary_cast, reason = "the field's type differs between platforms")]
fn is_local(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|file_system| LOCAL_FILE_SYSTEMS.contains(&file_system.f_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(changed_ns: i64, settled: bool) -> Witness {
        Witness { file: (1, 2), state: State::File { size: 10, modified_ns: 5, changed_ns, settled } }
    }

    fn log(last_frame: u32) -> Witness {
        Witness { file: (1, 2), state: State::Log { salts: (1, 2), last_frame, checksum: (3, 4) } }
    }

    #[test]
    fn only_equal_and_settled_states_prove() {
        assert!(file(7, true).proves_unchanged(&file(7, false)));
        assert!(!file(7, false).proves_unchanged(&file(7, true)));
        assert!(!file(7, true).proves_unchanged(&file(8, true)));
        assert!(!Witness { file: (1, 3), ..file(7, true) }.proves_unchanged(&file(7, true)));
        assert!(log(4).proves_unchanged(&log(4)));
        assert!(!log(4).proves_unchanged(&log(5)));
        assert!(!log(4).proves_unchanged(&file(7, true)));
        assert!(!file(7, true).proves_unchanged(&log(4)));
    }
}
