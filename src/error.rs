//! One error type over the layers. Each layer has its own small enum that names the object; this one
//! adds what callers decide by: the kind (an exit code on the command line) and the next step.

use std::fmt;

/// What an error means to the caller. The command line maps each to an exit code (docs/cli.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Failed, for a reason with no kind of its own.
    Failed,
    /// The request itself makes no sense.
    Usage,
    /// Some databases or objects failed, the others are done.
    Partial,
    /// The vault or a snapshot fails verification.
    Damage,
    /// Wrong or missing key.
    Unlock,
    /// No such vault, snapshot, database or table.
    NotFound,
    /// Locked beyond the time allowed.
    Busy,
    /// Older than allowed.
    Stale,
    /// Refused: would overwrite, unsafe target, unsupported database or format.
    Refused,
    /// Interrupted by the user.
    Interrupted,
}

/// An error of any layer: what happened to which object, and what to do.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` says what happened to which object.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// Adds the next step for the user.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the underlying cause.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Puts `context` in front of the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// What the error means to the caller.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do next, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

/// Shorthand used throughout the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
