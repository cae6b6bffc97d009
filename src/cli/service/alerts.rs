//! What is wrong, since when, and who was told.
//!
//! A condition is computed anew from what is known; the difference to what was raised before is what people are told:
//! once when it begins, again after a while if it lasts, and once when it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::journal::Raised;

/// Something that is wrong at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Of which kind: `snapshot_failed`, `stale`, `vanished` ...
    pub(crate) kind: &'static str,
    /// A database, a destination, or nothing.
    pub(crate) object: String,
    /// In words.
    pub(crate) message: String,
}

impl Condition {
    /// What makes it the same one later.
    pub(crate) fn key(&self) -> String {
        if self.object.is_empty() { self.kind.to_owned() } else { format!("{}:{}", self.kind, self.object) }
    }
}

/// Whether it begins, lasts or is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Turn {
    Raised,
    Repeated,
    Resolved,
}

/// What people are told: the body of a webhook, in the words of docs/operations.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Notice {
    pub(crate) event: Turn,
    pub(crate) alert: String,
    pub(crate) object: String,
    pub(crate) message: String,
    pub(crate) since: Timestamp,
    pub(crate) at: Timestamp,
}

/// Brings `raised` up to date with what is wrong now; what has to be told is returned.
pub(crate) fn settle(
    raised: &mut BTreeMap<String, Raised>,
    conditions: &[Condition],
    now: Timestamp,
    repeat: Duration,
) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut seen = BTreeMap::new();
    for condition in conditions {
        let key = condition.key();
        let notice = |event, since| Notice {
            event,
            alert: condition.kind.to_owned(),
            object: condition.object.clone(),
            message: condition.message.clone(),
            since,
            at: now,
        };
        let message = condition.message.clone();
        let entry = match raised.remove(&key) {
            None => {
                notices.push(notice(Turn::Raised, now));
                Raised { since: now, told: now, message }
            }
            Some(before) => {
                let quiet = now.duration_since(before.told);
                // A clock that was set back must not silence an alert for years.
                let due = quiet.is_negative() || Duration::try_from(quiet).is_ok_and(|quiet| quiet >= repeat);
                if due {
                    notices.push(notice(Turn::Repeated, before.since));
                }
                Raised { since: before.since, told: if due { now } else { before.told }, message }
            }
        };
        seen.insert(key, entry);
    }
    for (key, before) in std::mem::replace(raised, seen) {
        let (alert, object) = key.split_once(':').unwrap_or((&key, ""));
        // Two conditions of one key are one alert.
        if !raised.contains_key(&key) {
            notices.push(Notice {
                event: Turn::Resolved,
                alert: alert.to_owned(),
                object: object.to_owned(),
                message: before.message,
                since: before.since,
                at: now,
            });
        }
    }
    notices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_then_again_after_a_while_then_that_it_is_over() {
        let mut raised = BTreeMap::new();
        let stale = |message: &str| Condition {
            kind: "stale",
            object: "app".to_owned(),
            message: message.to_owned(),
        };
        let mut at = |time: &str, conditions: &[Condition]| -> Vec<(Turn, String)> {
            let notices = settle(&mut raised, conditions, time.parse().unwrap(), Duration::from_hours(24));
            notices.into_iter().map(|notice| (notice.event, notice.message)).collect()
        };
        let told = |turn, message: &str| vec![(turn, message.to_owned())];
        assert_eq!(at("2026-11-22T10:00:00Z", &[stale("3 h")]), told(Turn::Raised, "3 h"));
        assert_eq!(at("2026-11-22T11:00:00Z", &[stale("4 h")]), []);
        assert_eq!(at("2026-11-23T10:00:00Z", &[stale("27 h")]), told(Turn::Repeated, "27 h"));
        assert_eq!(at("2026-11-23T11:00:00Z", &[stale("28 h")]), []);
        assert_eq!(at("2026-11-22T12:00:00Z", &[stale("5 h")]), told(Turn::Repeated, "5 h"));
        assert_eq!(at("2026-11-23T12:00:00Z", &[]), told(Turn::Resolved, "5 h"));
        assert_eq!(at("2026-11-23T13:00:00Z", &[]), []);
    }
}
