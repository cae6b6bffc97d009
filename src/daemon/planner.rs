//! Now or later: the decision over one job, as a function of its rhythm, its past and the time.
//!
//! - A job that never ran is due at once.
//! - However many times were missed, by downtime, sleep or a long run before, it runs once and is even.
//! - A failed attempt is repeated after a minute, then after two, four and so on up to an hour; the next regular time
//!   comes all the same.
//! - What is remembered from a time that has not come yet (the clock was set back) is remembered from now.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::schedule::Schedule;

const FIRST_RETRY: Duration = Duration::from_mins(1);
const LONGEST_RETRY: Duration = Duration::from_hours(1);

/// When a job is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// The rhythm.
    pub schedule: Schedule,
    /// How long after each of its times: the job's share of the jitter.
    pub delay: Duration,
}

/// What has to be remembered of a job between attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// When the last attempt began.
    pub attempted: Option<Timestamp>,
    /// How many attempts have failed since the last success.
    pub failures: u32,
}

/// What to do about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Do it.
    Now,
    /// Not before this time.
    Later(Timestamp),
    /// The calendar has no further time for it.
    Never,
}

impl Memory {
    /// The memory after an attempt that began at `now`.
    #[must_use]
    pub fn after_attempt(self, now: Timestamp, succeeded: bool) -> Self {
        let failures = if succeeded { 0 } else { self.failures.saturating_add(1) };
        Self { attempted: Some(now), failures }
    }

    /// The memory as it is valid at `now`: nothing can have been attempted in the future. The caller keeps it, so that a
    /// clock that was set back does not keep a job waiting until the old time has come again.
    #[must_use]
    pub fn as_of(self, now: Timestamp) -> Self {
        Self { attempted: self.attempted.map(|attempted| attempted.min(now)), ..self }
    }
}

/// Whether a job is due at `now`, or when it will be. `memory` is as of `now`.
#[must_use]
pub fn decide(timing: &Timing, memory: &Memory, now: Timestamp, zone: &TimeZone) -> Answer {
    let Some(attempted) = memory.attempted else { return Answer::Now };
    let regular = regular_after(timing, attempted, zone);
    let retry =
        (memory.failures > 0).then(|| attempted.saturating_add(patience(memory.failures)).ok()).flatten();
    let next = match (regular, retry) {
        (Some(regular), Some(retry)) => regular.min(retry),
        (Some(next), None) | (None, Some(next)) => next,
        (None, None) => return Answer::Never,
    };
    if next <= now { Answer::Now } else { Answer::Later(next) }
}

/// The first regular time after an attempt, with the job's delay.
fn regular_after(timing: &Timing, attempted: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    // The attempt was made for a time `delay` earlier.
    let before = attempted.checked_sub(timing.delay).ok()?;
    timing.schedule.next_after(before, zone)?.checked_add(timing.delay).ok()
}

fn patience(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    (FIRST_RETRY * (1 << doublings)).min(LONGEST_RETRY)
}

#[cfg(test)]
mod tests;
