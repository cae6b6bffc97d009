//! What the file says of letting go: which snapshots stay, and when the space of the others is freed.

use std::time::Duration;

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use pagevault::daemon::Schedule;
use pagevault::format::manifest::Kind;
use pagevault::operations::forget::{ForgetChoice, ForgetRequest};
use pagevault::operations::prune::PruneRequest;
use pagevault::operations::retention::{KindAges, RetentionPolicy};

use super::section::Section;
use super::{schedule, values};

/// Keys that say which snapshots stay: of `[retention]`, and of a database's own.
pub(super) const KEEP: [&str; 8] = [
    "keep_all",
    "keep_last",
    "keep_hourly",
    "keep_daily",
    "keep_weekly",
    "keep_monthly",
    "keep_yearly",
    "keep_within",
];
/// Keys that say when space is freed: of `[retention]` alone.
pub(super) const PRUNE: [&str; 3] = ["prune", "grace", "max_unused"];

/// Why the log says that a snapshot went.
const REASON: &str = "retention of the configuration";

/// Which snapshots of a database stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keep {
    /// All.
    All,
    /// By kind and age: automatic ones for 7 days, those of migrations for 30, others for ever.
    ByKind,
    /// Automatic ones by these rules, others by kind and age.
    ByRules(RetentionPolicy),
}

impl Keep {
    pub(super) fn read(section: &Section<'_, '_>) -> Self {
        let count = |key| section.number(key, &(1..=1_000_000)).unwrap_or(0);
        let policy = RetentionPolicy {
            ages: None,
            last: count("keep_last"),
            hourly: count("keep_hourly"),
            daily: count("keep_daily"),
            weekly: count("keep_weekly"),
            monthly: count("keep_monthly"),
            yearly: count("keep_yearly"),
            within: section
                .parsed("keep_within", values::length)
                .and_then(|length| SignedDuration::try_from(length).ok()),
            tags: Vec::new(),
        };
        let has_rules = policy != RetentionPolicy::none();
        if section.flag("keep_all") == Some(true) {
            if has_rules {
                section.wrong("keep_all", "expected no other keep_ beside it");
            }
            return Self::All;
        }
        if has_rules { Self::ByRules(policy) } else { Self::ByKind }
    }

    /// What to ask for, so that of `databases` what is not kept goes.
    pub(crate) fn requests(&self, databases: &[String], time_zone: &TimeZone) -> Vec<ForgetRequest> {
        let by = |policy: RetentionPolicy, kinds: &[Kind]| ForgetRequest {
            choice: ForgetChoice::ByPolicy { policy, databases: databases.to_vec(), kinds: kinds.to_vec() },
            reason: Some(REASON.to_owned()),
            time_zone: time_zone.clone(),
            allow_empty: false,
        };
        match self {
            Self::All => Vec::new(),
            Self::ByKind => vec![by(RetentionPolicy::default(), &[])],
            // Rules count automatic snapshots only: one made by hand must not take the place of a day's.
            Self::ByRules(policy) => vec![
                by(policy.clone(), &[Kind::Automatic]),
                by(
                    RetentionPolicy { ages: Some(KindAges::DEFAULT), ..RetentionPolicy::none() },
                    &[Kind::Migration],
                ),
            ],
        }
    }
}

/// When the space of what was forgotten is freed, and how much of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PrunePlan {
    pub(crate) schedule: Schedule,
    pub(crate) request: PruneRequest,
}

impl PrunePlan {
    /// What `section` says, and defaults where it says nothing or is not there.
    pub(super) fn read(section: Option<&Section<'_, '_>>) -> Self {
        let default = PruneRequest::default();
        let grace = section.and_then(|section| section.parsed("grace", values::length));
        let max_unused =
            section.and_then(|section| section.parsed("max_unused", super::super::values::percent));
        Self {
            schedule: section
                .and_then(|section| schedule(section, "prune"))
                .unwrap_or(Schedule::Every(Duration::from_hours(24))),
            request: PruneRequest {
                max_unused: max_unused.unwrap_or(default.max_unused),
                grace: grace.and_then(|grace| SignedDuration::try_from(grace).ok()).unwrap_or(default.grace),
            },
        }
    }
}
