//! A rhythm: a cron expression, or an interval.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::cron::Cron;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// When something is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At multiples of this length since 1970 UTC, so that restarts do not shift it: `every 15m` is at :00, :15, :30, :45.
    Every(Duration),
    /// At times of the day.
    Cron(Cron),
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(String);

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let text = text.trim();
        let Some(length) = text.strip_prefix("every ") else {
            return text.parse().map(Self::Cron).map_err(|error: super::cron::CronError| {
                ScheduleError(format!("{error}; or write `every 15m`"))
            });
        };
        let length = span(length.trim());
        match length {
            Some(length) if (SHORTEST..=LONGEST).contains(&length) => Ok(Self::Every(length)),
            _ => Err(ScheduleError(
                "expected a length of time after `every`, from 1s to 366d, such as 15m, 1h30m or 7d"
                    .to_owned(),
            )),
        }
    }
}

/// A length of time in units up to weeks; a day has 24 hours.
fn span(text: &str) -> Option<Duration> {
    let span: jiff::Span = text.parse().ok()?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(length).ok()
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(length) => match SignedDuration::try_from(*length) {
                Ok(length) => write!(f, "every {length:#}"),
                Err(_) => write!(f, "every {} s", length.as_secs()),
            },
            Self::Cron(cron) => cron.fmt(f),
        }
    }
}

impl Schedule {
    /// The first time after `after`; `None` at the end of the calendar.
    #[must_use]
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Cron(cron) => cron.next_after(after, zone),
            Self::Every(length) => {
                let step = i128::try_from(length.as_nanos()).ok()?.max(1);
                let slot = after.as_nanosecond().div_euclid(step) + 1;
                Timestamp::from_nanosecond(slot.checked_mul(step)?).ok()
            }
        }
    }
}

/// A delay below `jitter` that is always the same for `name`: jobs of one rhythm spread out, and each keeps its rhythm.
#[must_use]
pub fn delay_of(name: &str, jitter: Duration) -> Duration {
    let hash = blake3::hash(name.as_bytes());
    let mut share = [0; 4];
    share.copy_from_slice(&hash.as_bytes()[..4]);
    jitter.mul_f64(f64::from(u32::from_le_bytes(share)) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_at_their_multiples() {
        let schedule: Schedule = "every 15m".parse().unwrap();
        let next =
            |after: &str| schedule.next_after(after.parse().unwrap(), &TimeZone::UTC).unwrap().to_string();
        assert_eq!(next("2026-11-22T10:00:00Z"), "2026-11-22T10:15:00Z");
        assert_eq!(next("2026-11-22T10:14:59.999Z"), "2026-11-22T10:15:00Z");
        assert_eq!(schedule.to_string(), "every 15m");
    }

    #[test]
    fn both_forms_are_read_and_others_refused() {
        assert_eq!("every 1h 30m".parse(), Ok(Schedule::Every(Duration::from_mins(90))));
        assert_eq!("every 7d".parse(), Ok(Schedule::Every(Duration::from_hours(168))));
        assert!(matches!("0 3 * * *".parse(), Ok(Schedule::Cron(_))));
        for wrong in ["", "every", "every 0s", "every 15", "every -5m", "hourly", "every 400d", "15m"] {
            assert!(wrong.parse::<Schedule>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn delays_spread_and_stay() {
        let jitter = Duration::from_mins(1);
        let delays: Vec<Duration> = (0..100).map(|n| delay_of(&format!("db{n}"), jitter)).collect();
        assert!(delays.iter().all(|delay| *delay < jitter));
        assert!(delays.iter().filter(|delay| **delay < jitter / 2).count().abs_diff(50) < 20);
        assert_eq!(delays[7], delay_of("db7", jitter));
        assert_eq!(delay_of("db7", Duration::ZERO), Duration::ZERO);
    }
}
