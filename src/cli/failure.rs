//! From an outcome to an exit code and the lines on standard error (docs/cli.md, "Exit codes").
//!
//! The library says what happened and of which kind it is; which number scripts see, and how a message looks,
//! is decided here and nowhere else.

use std::error::Error as _;
use std::fmt::Write as _;

use pagevault::{Error, ErrorKind};

use super::text::printable;

/// How a command ended that did not fail with an error of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is done.
    Done,
    /// What went wrong has been said; only the exit code is left to give.
    Reported(ErrorKind),
    /// `guard` has put the databases back.
    RolledBack,
    /// `guard` could not put the databases back.
    RollbackFailed,
}

impl Outcome {
    /// The exit code.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Reported(kind) => exit_code(kind),
            Self::RolledBack => 10,
            Self::RollbackFailed => 11,
        }
    }
}

/// The exit code for an error of `kind`.
pub(crate) const fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => 2,
        ErrorKind::Partial => 3,
        ErrorKind::Damage => 4,
        ErrorKind::Unlock => 5,
        ErrorKind::NotFound => 6,
        ErrorKind::Busy => 7,
        ErrorKind::Refused => 9,
        ErrorKind::Interrupted => 130,
        // `Failed`, and whatever the library may add before this table knows it.
        _ => 1,
    }
}

/// The lines that tell a person of `error`: what happened, why, and what to do.
pub(crate) fn describe(error: &Error) -> String {
    let message = error.to_string();
    let mut text = format!("error: {}\n", printable(&message));
    let mut told = message;
    let mut cause = error.source();
    while let Some(current) = cause {
        let reason = current.to_string();
        // Most messages hold their cause already.
        if !told.contains(&reason) {
            let _ = writeln!(text, "  because: {}", printable(&reason));
            told = reason;
        }
        cause = current.source();
    }
    if let Some(hint) = error.hint() {
        let _ = writeln!(text, "hint: {}", printable(hint));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_code_of_the_contract() {
        for (kind, code) in [
            (ErrorKind::Failed, 1),
            (ErrorKind::Usage, 2),
            (ErrorKind::Partial, 3),
            (ErrorKind::Damage, 4),
            (ErrorKind::Unlock, 5),
            (ErrorKind::NotFound, 6),
            (ErrorKind::Busy, 7),
            (ErrorKind::Refused, 9),
            (ErrorKind::Interrupted, 130),
        ] {
            assert_eq!(exit_code(kind), code, "{kind:?}");
            assert_eq!(Outcome::Reported(kind).exit_code(), code);
        }
        assert_eq!(Outcome::Done.exit_code(), 0);
    }

    #[test]
    fn a_cause_is_told_once_and_the_hint_last() {
        let cause = || std::io::Error::other("disk on fire");
        let known = Error::new(ErrorKind::Failed, "cannot read: disk on fire").with_source(cause());
        assert_eq!(describe(&known), "error: cannot read: disk on fire\n");
        let unknown = Error::new(ErrorKind::Failed, "cannot read").with_source(cause()).with_hint("run");
        assert_eq!(describe(&unknown), "error: cannot read\n  because: disk on fire\nhint: run\n");
    }

    #[test]
    fn a_file_name_cannot_command_the_terminal() {
        let error = Error::new(ErrorKind::Failed, "cannot read \u{1b}[2Jx\ny");
        assert_eq!(describe(&error), "error: cannot read \\u{1b}[2Jx\\ny\n");
    }
}
