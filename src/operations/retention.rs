//! Which snapshots are kept: a pure function of what they are, of rules and of the time.
//!
//! Every database is judged by itself. A snapshot goes only if nothing keeps it, and what keeps it is said. Dates are
//! those of the snapshots, which a host with a wrong clock or a forged manifest can choose; so one that is dated in the
//! future counts for nothing (it neither fills a place nor goes), and the newest proven snapshot stays whatever came
//! after it. An export is no state of the database: it fills no place of one, and exports are counted among themselves.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::format::manifest::Kind;
use crate::ids::{DatabaseId, SnapshotId};

/// How far a snapshot's date may be ahead before it counts as dated in the future: clocks of hosts differ a little.
pub const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// Whether something is dated in the future, beyond what clocks differ.
#[must_use]
pub fn is_ahead(dated: Timestamp, now: Timestamp) -> bool {
    dated > now.saturating_add(CLOCK_TOLERANCE).unwrap_or(Timestamp::MAX)
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// How long snapshots of each kind are kept; `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindAges {
    /// Automatic ones.
    pub automatic: Option<SignedDuration>,
    /// Those made before a migration.
    pub migration: Option<SignedDuration>,
    /// Those a person asked for.
    pub manual: Option<SignedDuration>,
    /// Exports.
    pub export: Option<SignedDuration>,
}

impl KindAges {
    /// 7 days, 30 days, for ever, for ever.
    pub const DEFAULT: Self = Self {
        automatic: Some(DAY.saturating_mul(7)),
        migration: Some(DAY.saturating_mul(30)),
        manual: None,
        export: None,
    };

    const fn of(&self, kind: Kind) -> Option<SignedDuration> {
        match kind {
            Kind::Automatic => self.automatic,
            Kind::Migration => self.migration,
            Kind::Manual => self.manual,
            Kind::Export => self.export,
        }
    }
}

/// Rules; a snapshot that any of them keeps stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// By kind and age. `None`: no kind is kept for its own sake.
    pub ages: Option<KindAges>,
    /// So many of the newest.
    pub last: u32,
    /// The newest of each of so many hours that have one.
    pub hourly: u32,
    /// The newest of each of so many days that have one.
    pub daily: u32,
    /// The newest of each of so many ISO weeks that have one.
    pub weekly: u32,
    /// The newest of each of so many months that have one.
    pub monthly: u32,
    /// The newest of each of so many years that have one.
    pub yearly: u32,
    /// All that are not older than this.
    pub within: Option<SignedDuration>,
    /// All with this tag, whatever its value or with this value.
    pub tags: Vec<(String, Option<String>)>,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        Self { ages: Some(KindAges::DEFAULT), ..Self::none() }
    }
}

impl RetentionPolicy {
    /// No rule at all: only what always stays is kept.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            ages: None,
            last: 0,
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            within: None,
            tags: Vec::new(),
        }
    }
}

/// What is known of a snapshot that the rules are applied to.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// Its id.
    pub id: SnapshotId,
    /// Its database.
    pub database: DatabaseId,
    /// Why it was made.
    pub kind: Kind,
    /// Whether the database can be restored from it: it is no export.
    pub is_image: bool,
    /// When its image was true.
    pub created_at: Timestamp,
    /// The user's `key=value` pairs.
    pub tags: &'a [(String, String)],
    /// Whether it is pinned.
    pub pinned: bool,
    /// What its newest test restore said, if there was one.
    pub tested: Option<bool>,
}

/// What keeps a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is pinned.
    Pinned,
    /// It is the newest of its database that a test restore has proven.
    NewestProven,
    /// It is the newest of its database.
    Newest,
    /// It is dated in the future: no rule is applied to it.
    Future,
    /// Its kind is kept for this long, or for ever.
    Kind(Kind, Option<SignedDuration>),
    /// It is the so-manieth newest.
    Last(u32),
    /// It is the newest of an hour, day, week, month or year, which is the so-manieth.
    Period(&'static str, u32),
    /// It is not older than this.
    Within(SignedDuration),
    /// It has this tag.
    Tag(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned => f.write_str("pinned"),
            Self::NewestProven => f.write_str("newest proven"),
            Self::Newest => f.write_str("newest"),
            Self::Future => f.write_str("dated in the future"),
            Self::Kind(kind, None) => write!(f, "{}: for ever", kind.name()),
            Self::Kind(kind, Some(age)) => write!(f, "{}: {}", kind.name(), days(*age)),
            Self::Last(number) => write!(f, "last {number}"),
            Self::Period(period, number) => write!(f, "{period} {number}"),
            Self::Within(age) => write!(f, "within {}", days(*age)),
            Self::Tag(tag) => write!(f, "tag {tag}"),
        }
    }
}

fn days(age: SignedDuration) -> String {
    if age >= DAY && age.as_secs() % DAY.as_secs() == 0 {
        format!("{}d", age.as_secs() / DAY.as_secs())
    } else {
        format!("{age:#}")
    }
}

/// What keeps each of `candidates`, in their order; nothing keeps those that go.
#[must_use]
pub fn decide(
    candidates: &[Candidate<'_>],
    policy: &RetentionPolicy,
    now: Timestamp,
    zone: &TimeZone,
) -> Vec<Vec<Reason>> {
    let mut reasons = vec![Vec::new(); candidates.len()];
    let mut groups: BTreeMap<(DatabaseId, bool), Vec<usize>> = BTreeMap::new();
    for (position, candidate) in candidates.iter().enumerate() {
        if candidate.pinned {
            reasons[position].push(Reason::Pinned);
        }
        if is_ahead(candidate.created_at, now) {
            reasons[position].push(Reason::Future);
        } else {
            groups.entry((candidate.database, candidate.is_image)).or_default().push(position);
        }
    }
    let with_images: HashSet<DatabaseId> =
        groups.keys().filter(|(_, is_image)| *is_image).map(|(database, _)| *database).collect();
    for ((database, is_image), mut newest_first) in groups {
        newest_first.sort_by_key(|position| {
            let candidate = &candidates[*position];
            std::cmp::Reverse((candidate.created_at, candidate.id))
        });
        if is_image || !with_images.contains(&database) {
            keep_newest(candidates, &newest_first, &mut reasons);
        }
        keep_by_rules(candidates, &newest_first, policy, now, &mut reasons);
        keep_by_periods(candidates, &newest_first, policy, zone, &mut reasons);
    }
    reasons
}

/// The newest that is proven, and the newest that is not known to be damaged.
fn keep_newest(candidates: &[Candidate<'_>], newest_first: &[usize], reasons: &mut [Vec<Reason>]) {
    let newest = |wanted: &dyn Fn(Option<bool>) -> bool| {
        newest_first.iter().copied().find(|position| wanted(candidates[*position].tested))
    };
    if let Some(position) = newest(&|tested| tested == Some(true)) {
        reasons[position].push(Reason::NewestProven);
    }
    let sound = newest(&|tested| tested != Some(false));
    if let Some(position) = sound.or_else(|| newest_first.first().copied()) {
        reasons[position].push(Reason::Newest);
    }
}

fn keep_by_rules(
    candidates: &[Candidate<'_>],
    newest_first: &[usize],
    policy: &RetentionPolicy,
    now: Timestamp,
    reasons: &mut [Vec<Reason>],
) {
    for (number, position) in (1u32..).zip(newest_first) {
        let (candidate, reasons) = (&candidates[*position], &mut reasons[*position]);
        let age = now.duration_since(candidate.created_at);
        if let Some(ages) = &policy.ages {
            let limit = ages.of(candidate.kind);
            if limit.is_none_or(|limit| age <= limit) {
                reasons.push(Reason::Kind(candidate.kind, limit));
            }
        }
        if number <= policy.last {
            reasons.push(Reason::Last(number));
        }
        if let Some(within) = policy.within
            && age <= within
        {
            reasons.push(Reason::Within(within));
        }
        for (key, value) in &policy.tags {
            let found = candidate
                .tags
                .iter()
                .find(|(own, own_value)| own == key && value.as_ref().is_none_or(|value| value == own_value));
            reasons.extend(found.map(|(key, value)| Reason::Tag(format!("{key}={value}"))));
        }
    }
}

/// A period of the calendar as a number that differs from that of its neighbours.
type Period = fn(Date, i8) -> i64;

const PERIODS: [(&str, Period); 5] = [
    ("hourly", |date, hour| day_number(date) * 24 + i64::from(hour)),
    ("daily", |date, _| day_number(date)),
    ("weekly", |date, _| {
        let week = date.iso_week_date();
        i64::from(week.year()) * 100 + i64::from(week.week())
    }),
    ("monthly", |date, _| i64::from(date.year()) * 12 + i64::from(date.month())),
    ("yearly", |date, _| i64::from(date.year())),
];

fn day_number(date: Date) -> i64 {
    (i64::from(date.year()) * 12 + i64::from(date.month())) * 31 + i64::from(date.day())
}

fn keep_by_periods(
    candidates: &[Candidate<'_>],
    newest_first: &[usize],
    policy: &RetentionPolicy,
    zone: &TimeZone,
    reasons: &mut [Vec<Reason>],
) {
    let wanted = [policy.hourly, policy.daily, policy.weekly, policy.monthly, policy.yearly];
    for ((name, period), wanted) in PERIODS.into_iter().zip(wanted) {
        let mut seen = HashSet::new();
        for position in newest_first {
            if seen.len() >= wanted as usize {
                break;
            }
            let local = candidates[*position].created_at.to_zoned(zone.clone());
            if seen.insert(period(local.date(), local.hour())) {
                let number = u32::try_from(seen.len()).unwrap_or(u32::MAX);
                reasons[*position].push(Reason::Period(name, number));
            }
        }
    }
}

#[cfg(test)]
mod tests;
