//! What remote stores were asked for while a command ran: requests cost time, and with most services money.

use std::sync::{Arc, Mutex, PoisonError};

use pagevault::store::{OperationKind, StoreCounts};
use serde::Serialize;

/// Tells a place and what was asked of it so far.
type Ask = Box<dyn Fn() -> (String, StoreCounts) + Send + Sync>;

/// The remote stores that a command has opened.
#[derive(Clone, Default)]
pub(crate) struct RequestLog(Arc<Mutex<Vec<Ask>>>);

impl std::fmt::Debug for RequestLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestLog")
    }
}

/// What a remote store was asked for so far, in the words of docs/cli.md.
#[derive(Debug, Serialize)]
pub(crate) struct Requests {
    store: String,
    get: u64,
    get_range: u64,
    size: u64,
    put: u64,
    list: u64,
    delete: u64,
    bytes_read: u64,
    bytes_written: u64,
}

impl RequestLog {
    /// From now on this store is asked as well.
    #[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "folders are not counted"))]
    pub(crate) fn add(&self, ask: impl Fn() -> (String, StoreCounts) + Send + Sync + 'static) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(ask));
    }

    /// What each of them was asked for; empty where all are folders.
    pub(crate) fn read(&self) -> Vec<Requests> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().map(|ask| ask()).map(|(store, counts)| Requests::new(store, &counts)).collect()
    }
}

impl Requests {
    fn new(store: String, counts: &StoreCounts) -> Self {
        let of = |kind| counts.of(kind);
        let (get, range, put) =
            (of(OperationKind::Get), of(OperationKind::ReadRange), of(OperationKind::Put));
        Self {
            store,
            get: get.requests,
            get_range: range.requests,
            size: of(OperationKind::Size).requests,
            put: put.requests,
            list: of(OperationKind::List).requests,
            delete: of(OperationKind::Delete).requests,
            bytes_read: get.bytes + range.bytes,
            bytes_written: put.bytes,
        }
    }

    /// For people.
    pub(crate) fn sentence(&self) -> String {
        let Self { store, get, get_range, size, put, list, delete, bytes_read, bytes_written } = self;
        format!(
            "{store}: {} requests (get {get}, range {get_range}, size {size}, put {put}, list {list}, \
             delete {delete}), {bytes_read} bytes read, {bytes_written} written",
            get + get_range + size + put + list + delete,
        )
    }
}
