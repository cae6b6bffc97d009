//! The project's standard workload: a case-management application on `SQLite`.
//!
//! A thin program around [`application`]; `workload help` shows the verbs. Not built on the command line's
//! libraries, so that it exists in every feature set.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program, not the library")]

mod application;
mod arguments;

use std::error::Error;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use application::{BuildOptions, Journal, build, check, checkpoint, churn, live};
use arguments::Arguments;

const HELP: &str = "\
The project's standard workload: a case-management application on SQLite.

    workload build DB --megabytes 500 [--journal wal|delete] [--page-size 4096] [--seed 1]
    workload churn DB --transactions 1000 [--seed 2]    one \"hour\" of work, then a checkpoint
    workload live DB --seconds 10 [--seed 3] [--until-stdin-closes]
                                                        the same work without pause or checkpoint
    workload checkpoint DB --seconds 10 [--seed 4] [--until-stdin-closes]
                                                        checkpoints of random kinds at random times
    workload check DB                                   the invariants of every committed state

The same arguments give the same bytes. With --until-stdin-closes, live and checkpoint end when
their standard input does, and --seconds is an optional upper limit.
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = Arguments::from_environment();
    let verb = arguments.positional("verb")?;
    if matches!(verb.as_str(), "help" | "--help" | "-h") {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let database = arguments.positional("database")?;
    let database = Path::new(&database);
    match verb.as_str() {
        "build" => {
            let options = BuildOptions {
                megabytes: arguments.option("--megabytes", 500)?,
                journal: arguments.option("--journal", Journal::Wal)?,
                page_size: arguments.option("--page-size", 4096)?,
                seed: arguments.option("--seed", 1)?,
            };
            arguments.finish()?;
            build(database, &options)?;
        }
        "churn" => {
            let (transactions, seed) =
                (arguments.option("--transactions", 1000)?, arguments.option("--seed", 2)?);
            arguments.finish()?;
            churn(database, transactions, seed)?;
        }
        "live" => {
            let seed = arguments.option("--seed", 3)?;
            let mut running = Deadline::from_arguments(arguments)?;
            let done = live(database, seed, &mut || running.goes_on())?;
            let longest_ms = done.longest.as_secs_f64() * 1000.0;
            println!("transactions {} busy {} longest_ms {longest_ms:.1}", done.transactions, done.busy);
        }
        "checkpoint" => {
            let seed = arguments.option("--seed", 4)?;
            let mut running = Deadline::from_arguments(arguments)?;
            let done = checkpoint(database, seed, &mut || running.goes_on())?;
            println!("checkpoints {} busy {}", done.checkpoints, done.busy);
        }
        "check" => {
            arguments.finish()?;
            return Ok(match check(database)? {
                Ok(moves) => {
                    println!("ok moves {moves}");
                    ExitCode::SUCCESS
                }
                Err(problems) => {
                    println!("{}", problems.join("\n"));
                    ExitCode::FAILURE
                }
            });
        }
        other => return Err(format!("no verb {other:?}; see `workload help`").into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// When the verbs that run for a while end.
struct Deadline {
    end: Option<Instant>,
    stdin_closed: Arc<AtomicBool>,
}

impl Deadline {
    fn from_arguments(mut arguments: Arguments) -> Result<Self, Box<dyn Error>> {
        let until_stdin_closes = arguments.flag("--until-stdin-closes");
        let default_s = if until_stdin_closes { f64::INFINITY } else { 10.0 };
        let seconds: f64 = arguments.option("--seconds", default_s)?;
        arguments.finish()?;
        let stdin_closed = Arc::new(AtomicBool::new(false));
        if until_stdin_closes {
            let closed = Arc::clone(&stdin_closed);
            std::thread::spawn(move || {
                // An unreadable standard input is as good as a closed one.
                let _ = std::io::stdin().read_to_end(&mut Vec::new());
                closed.store(true, Ordering::Relaxed);
            });
        }
        let end =
            Duration::try_from_secs_f64(seconds).ok().and_then(|limit| Instant::now().checked_add(limit));
        Ok(Self { end, stdin_closed })
    }

    fn goes_on(&mut self) -> bool {
        !self.stdin_closed.load(Ordering::Relaxed) && self.end.is_none_or(|end| Instant::now() < end)
    }
}
