//! Results, on standard output: sentences and tables for people, JSON for scripts.
//!
//! A reader that has seen enough (`| head -1`) closes the pipe. That is no error, and it must not stop a
//! snapshot half-way: what would be written after it is dropped.

use std::cell::Cell;
use std::io::{self, Write};

use pagevault::{Error, ErrorKind, Result};
use serde::Serialize;

use super::requests::RequestLog;

/// Standard output.
#[derive(Debug, Default)]
pub(crate) struct Output {
    json: bool,
    closed: Cell<bool>,
    requests: RequestLog,
}

impl Output {
    /// For people, or as JSON; then results that are objects say what was asked of remote stores so far.
    pub(crate) const fn new(json: bool, requests: RequestLog) -> Self {
        Self { json, closed: Cell::new(false), requests }
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
        let requests = self.requests.read();
        let mut line = if requests.is_empty() {
            serde_json::to_vec(value).map_err(failed)?
        } else {
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
