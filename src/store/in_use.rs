//! Who uses a place: a lock of the operating system that every user of a local vault shares, so that whoever wants to
//! take something away can find out, without waiting, that nobody else is there. The lock goes with its process, however
//! that ends.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// A place that is in use until this is dropped.
#[derive(Debug)]
pub struct InUse {
    folder: File,
}

impl InUse {
    /// Marks `folder` as in use. Waits only for the moment in which somebody who is alone there takes things away.
    /// `None` where there is no such folder, or its file system has no locks.
    #[must_use]
    pub fn enter(folder: &Path) -> Option<Self> {
        let folder = File::open(folder).ok()?;
        let entered = Self { folder };
        entered.lock(FlockOperation::LockShared).then_some(entered)
    }

    /// Whether nobody else uses the place; nobody can enter then until [`share`](Self::share). Does not wait.
    #[must_use]
    pub fn try_alone(&self) -> bool {
        if self.lock(FlockOperation::NonBlockingLockExclusive) {
            return true;
        }
        // A lock that could not be changed is lost.
        let _ = self.share();
        false
    }

    /// Lets others in again, or comes back after [`leave`](Self::leave); waits as [`enter`](Self::enter) does. Whether the
    /// place is in use now.
    #[must_use]
    pub fn share(&self) -> bool {
        self.lock(FlockOperation::LockShared)
    }

    /// The place counts as unused by this until [`share`](Self::share).
    pub fn leave(&self) {
        self.lock(FlockOperation::Unlock);
    }

    fn lock(&self, operation: FlockOperation) -> bool {
        loop {
            match flock(&self.folder, operation) {
                Err(rustix::io::Errno::INTR) => {}
                outcome => return outcome.is_ok(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_alone_only_without_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (InUse::enter(folder.path()).unwrap(), InUse::enter(folder.path()).unwrap());
        assert!(!one.try_alone());
        drop(other);
        assert!(one.try_alone() && one.share());
        let other = InUse::enter(folder.path()).unwrap();
        assert!(!one.try_alone() && !other.try_alone());
        other.leave();
        assert!(one.try_alone());
        assert!(one.share());
        assert!(other.share() && !one.try_alone());
        assert!(InUse::enter(&folder.path().join("nowhere")).is_none());
    }
}
