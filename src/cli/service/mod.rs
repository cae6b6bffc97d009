//! Scheduled runs: what is due is done, and what happened is told.
//!
//! - [`keeper`]: the service, step by step; [`round`]: the databases that are due; [`forgetting`]: which snapshots go;
//!   [`background`]: checks, test restores, prunes, copies.
//! - [`databases`]: which files are meant. [`hooks`]: programs around a snapshot.
//! - [`journal`]: what is remembered between runs.
//! - [`conditions`], [`alerts`], [`deliver`], [`metrics`]: what is wrong, since when, and who is told how.
//!
//! When something is due is decided by `pagevault::daemon`, which is a function of the time.

mod alerts;
mod background;
mod conditions;
pub(crate) mod databases;
mod deliver;
mod forgetting;
mod hooks;
pub(crate) mod journal;
mod keeper;
mod metrics;
mod round;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pagevault::monitor::Monitor;
use pagevault::{Error, ErrorKind, Result};

use self::keeper::Keeper;
use super::context::Context;
use super::failure::Outcome;

/// How often the service looks at the time, the configuration and its background work.
const TICK: Duration = Duration::from_secs(1);
/// How soon a signal is heard.
const SLICE: Duration = Duration::from_millis(100);

/// Keeps databases until told to stop, or once.
pub(crate) fn run(context: &Context, once: bool) -> Result<Outcome> {
    let reload = context.progress.listen_for_signals_of_service();
    let mut keeper = match Keeper::start(context) {
        // The run that a timer began before is still at it.
        Err(error) if once && error.kind() == ErrorKind::Busy => {
            context.progress.note(&error.to_string());
            return Ok(Outcome::Done);
        }
        started => started?,
    };
    let mut had_its_round = false;
    loop {
        keeper.reload(reload.swap(false, Ordering::Relaxed));
        keeper.rescan();
        // Once is once, also where the next time is a second away.
        if !(once && had_its_round) {
            keeper.round();
            had_its_round = true;
        }
        keeper.forget();
        let busy = keeper.work_in_background();
        keeper.keep_house();
        if context.progress.interrupted() || (once && !busy) {
            break;
        }
        let tick = Instant::now();
        while tick.elapsed() < TICK && !context.progress.interrupted() && !reload.load(Ordering::Relaxed) {
            std::thread::sleep(SLICE);
        }
    }
    let total = keeper.total;
    keeper.stop();
    let done = total.stored + total.unchanged;
    if once && total.failed > 0 {
        let kind = if done > 0 { ErrorKind::Partial } else { ErrorKind::Failed };
        let message = format!("{} of {} databases failed", total.failed, total.failed + done);
        return Err(Error::new(kind, message).with_hint("`pagevault status` says why"));
    }
    Ok(Outcome::Done)
}
