//! Results, on standard output: sentences and tables for people, JSON for scripts.
//!
//! A reader that has seen enough (`| head -1`) closes the pipe. That is no error, and it must not stop a
//! snapshot half-way: what would be written after it is dropped.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};

use std::sync::Arc;

use pagevault::store::{CountingStore, OperationKind, Store, StoreCounts};
use pagevault::{Error, ErrorKind, Result};
use serde::Serialize;

/// Standard output.
#[derive(Debug, Default)]
pub(crate) struct Output {
    json: bool,
    closed: Cell<bool>,
    counters: RefCell<Vec<Counter>>,
}

/// Asks a remote store what it was asked for.
struct Counter(Box<dyn Fn() -> (String, StoreCounts)>);

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counter")
    }
}

/// What a remote store was asked for so far.
#[derive(Debug, Serialize)]
struct Requests {
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
}

impl Output {
    /// For people, or as JSON.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json, closed: Cell::new(false), counters: RefCell::new(Vec::new()) }
    }

    /// From now on results in JSON that are objects say what was asked of this store.
    #[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "folders are not counted"))]
    pub(crate) fn count<S: Store + 'static>(&self, store: &Arc<CountingStore<S>>) {
        let store = Arc::clone(store);
        let counter = Counter(Box::new(move || (store.describe(), store.counts())));
        self.counters.borrow_mut().push(counter);
    }

    /// Whether results are to be JSON.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Writes `text`, which ends with a line end if it is not empty.
    pub(crate) fn text(&self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }

    /// Writes `value` as one line of JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<()> {
        let failed =
            |error| Error::new(ErrorKind::Failed, "cannot express the result as JSON").with_source(error);
        let counters = self.counters.borrow();
        let mut line = if counters.is_empty() {
            serde_json::to_vec(value).map_err(failed)?
        } else {
            let requests = counters.iter().map(|Counter(ask)| ask());
            let requests: Vec<Requests> =
                requests.map(|(place, counts)| Requests::new(place, &counts)).collect();
            let mut value = serde_json::to_value(value).map_err(failed)?;
            if let Some(fields) = value.as_object_mut() {
                fields.insert("requests".to_owned(), serde_json::to_value(requests).map_err(failed)?);
            }
            serde_json::to_vec(&value).map_err(failed)?
        };
        line.push(b'\n');
        self.bytes(&line)
    }

    /// Writes `bytes` as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        if self.closed.get() {
            return Ok(());
        }
        match write_now(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed.set(true);
                Ok(())
            }
            outcome => outcome.map_err(|error| unwritable(&error)),
        }
    }

    /// Writes what is worthless if nobody reads it; a closed pipe is an error here.
    pub(crate) fn must_arrive(text: &str) -> Result<()> {
        write_now(text.as_bytes()).map_err(|error| unwritable(&error))
    }
}

fn write_now(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

fn unwritable(error: &io::Error) -> Error {
    Error::new(ErrorKind::Failed, format!("cannot write to standard output: {error}"))
}
