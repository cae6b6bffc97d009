//! Questions to the person at the terminal.
//!
//! A trait, so that tests can be that person. Secrets are read by `rpassword`, which keeps them off the screen and
//! hears Ctrl-C itself; for a plain question `read` would go on waiting after a signal, so it is asked only
//! once there is something to read.

use std::io::{self, IsTerminal, Write};

use pagevault::monitor::Monitor;
use pagevault::{Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroizing;

use super::progress::Progress;

/// Somebody who can be asked.
pub(crate) trait Terminal {
    /// Whether there is anybody to ask for a secret.
    fn is_attended(&self) -> bool;
    /// Asks for a secret, which does not show.
    fn ask_secret(&self, prompt: &str) -> Result<Zeroizing<String>>;
    /// Asks for a yes; anything else is a no, and so is nobody to ask.
    fn confirm(&self, question: &str) -> Result<bool>;
}

/// The terminal of this process.
#[derive(Debug)]
pub(crate) struct SystemTerminal<'a>(pub(crate) &'a Progress);

impl Terminal for SystemTerminal<'_> {
    fn is_attended(&self) -> bool {
        // What is asked goes to the terminal itself, wherever standard error goes.
        io::stdin().is_terminal()
    }

    fn ask_secret(&self, prompt: &str) -> Result<Zeroizing<String>> {
        rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => interrupted(),
            io::ErrorKind::UnexpectedEof => {
                self.0.always("\n");
                Error::new(ErrorKind::Unlock, "no passphrase was given")
            }
            _ => Error::new(ErrorKind::Unlock, format!("cannot ask for a passphrase: {error}")),
        })
    }

    fn confirm(&self, question: &str) -> Result<bool> {
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Ok(false);
        }
        self.0.always(&format!("{question} [y/N] "));
        self.wait_for_input()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(|error| failed(&error))?;
        if !answer.ends_with('\n') {
            let _ = writeln!(io::stderr());
        }
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }
}

impl SystemTerminal<'_> {
    fn wait_for_input(&self) -> Result<()> {
        // Short, for a signal may come between the look at the flag and the wait.
        let pause = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        loop {
            if self.0.interrupted() {
                let _ = writeln!(io::stderr());
                return Err(interrupted());
            }
            let stdin = io::stdin();
            match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&pause)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(failed(&error.into())),
            }
        }
    }
}

/// The error of whoever was told to stop before anything began.
pub(crate) fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "interrupted; nothing was done")
}

fn failed(error: &io::Error) -> Error {
    Error::new(ErrorKind::Failed, format!("cannot read the answer: {error}"))
}

#[cfg(test)]
pub(crate) mod script {
    //! A person who follows a script.

    use std::cell::RefCell;

    use super::*;

    /// Gives these answers, in order; `None` where nobody is there.
    #[derive(Debug, Default)]
    pub(crate) struct Scripted(pub(crate) Option<RefCell<Vec<&'static str>>>);

    impl Scripted {
        /// Somebody who gives `answers`.
        pub(crate) fn answering(answers: &[&'static str]) -> Self {
            Self(Some(RefCell::new(answers.iter().rev().copied().collect())))
        }

        fn next(&self) -> &'static str {
            self.0.as_ref().unwrap().borrow_mut().pop().unwrap()
        }
    }

    impl Terminal for Scripted {
        fn is_attended(&self) -> bool {
            self.0.is_some()
        }

        fn ask_secret(&self, _: &str) -> Result<Zeroizing<String>> {
            Ok(Zeroizing::new(self.next().to_owned()))
        }

        fn confirm(&self, _: &str) -> Result<bool> {
            Ok(self.next() == "y")
        }
    }
}
