//! Another program with our standard streams, and signals passed on to it.

use std::ffi::OsString;
use std::fs::File;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use pagevault::{Error, ErrorKind, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

/// Between two looks at the program.
const PAUSE: Duration = Duration::from_millis(10);

/// How the program ended.
#[derive(Debug, Serialize)]
pub(crate) struct Ended {
    exit_code: Option<i32>,
    signal: Option<i32>,
    duration_ms: u64,
}

impl Ended {
    /// With code 0.
    pub(crate) fn is_success(&self) -> bool {
        self.exit_code == Some(0)
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        match (self.exit_code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "ended without a code".to_owned(),
        }
    }
}

/// Hears signals as long as it lives; they end nobody but the program.
pub(crate) struct Listener(Signals);

impl Listener {
    /// From now on.
    pub(crate) fn new() -> Result<Self> {
        let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2]);
        signals.map(Self).map_err(|error| {
            Error::new(ErrorKind::Failed, format!("cannot listen for signals: {error}")).with_source(error)
        })
    }

    /// Runs the program; `started` hears its process id. The program and what it starts have `sign_of_life` open as long as
    /// they live, and nobody else has.
    pub(crate) fn run(
        &mut self,
        words: &[OsString],
        sign_of_life: Option<File>,
        started: &mut dyn FnMut(u32),
    ) -> Result<Ended> {
        let (program, arguments) = words
            .split_first()
            .ok_or_else(|| Error::new(ErrorKind::Usage, "there is no command to run after --"))?;
        let since = Instant::now();
        if let Some(file) = &sign_of_life {
            // Without it only the number of the process tells whether it lives.
            let _ = fcntl_setfd(file, FdFlags::empty());
        }
        let spawned = Command::new(program).args(arguments).spawn();
        drop(sign_of_life);
        let mut child = spawned.map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Failed,
            };
            Error::new(kind, format!("cannot run {}: {error}", program.display()))
                .with_hint("nothing was run; the databases are as they were")
        })?;
        started(child.id());
        // One thread waits and passes on, so that no signal goes to another process that has got the number since.
        let status = loop {
            for signal in self.0.pending() {
                pass_on(&child, signal);
            }
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => std::thread::sleep(PAUSE),
                Err(error) => {
                    let message = format!("cannot wait for the command: {error}");
                    return Err(Error::new(ErrorKind::Failed, message)
                        .with_hint("`pagevault guard --resume` finishes it"));
                }
            }
        };
        let duration_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Ended { exit_code: status.code(), signal: status.signal(), duration_ms })
    }
}

fn pass_on(child: &Child, signal: i32) {
    // What is typed on a terminal has reached the program already.
    let typed = matches!(signal, SIGINT | SIGQUIT) && std::io::stdin().is_terminal();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let (false, Some(pid), Some(signal)) = (typed, pid, named(signal)) {
        let _ = kill_process(pid, signal);
    }
}

const fn named(signal: i32) -> Option<Signal> {
    match signal {
        SIGINT => Some(Signal::INT),
        SIGTERM => Some(Signal::TERM),
        SIGHUP => Some(Signal::HUP),
        SIGQUIT => Some(Signal::QUIT),
        SIGUSR1 => Some(Signal::USR1),
        SIGUSR2 => Some(Signal::USR2),
        _ => None,
    }
}
