//! The table: snapshots, rules, and which of them stay for which reasons.

use super::*;

const NOW: &str = "2026-11-27T12:00:00Z";

/// `hours ago[kind][*=pinned][+=proven][-=known to be damaged][#=tag v=1]`, of database 1 unless `/2` ends it.
fn parse(word: &str) -> (Candidate<'static>, String) {
    static TAG: std::sync::LazyLock<Vec<(String, String)>> =
        std::sync::LazyLock::new(|| vec![("v".to_owned(), "1".to_owned())]);
    let (text, database) =
        word.split_once('/').map_or((word, 1), |(text, number)| (text, number.parse().unwrap()));
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '!').unwrap_or(text.len());
    let hours: f64 = text[..end].replace('!', "-").parse().unwrap();
    let marks = &text[end..];
    let now: Timestamp = NOW.parse().unwrap();
    let kind = match marks.chars().next() {
        Some('a') => Kind::Automatic,
        Some('g') => Kind::Migration,
        Some('e') => Kind::Export,
        _ => Kind::Manual,
    };
    let tested = if marks.contains('+') {
        Some(true)
    } else if marks.contains('-') {
        Some(false)
    } else {
        None
    };
    let mut id = [0; 16];
    id[..4].copy_from_slice(&u32::try_from(word.len()).unwrap().to_be_bytes());
    let candidate = Candidate {
        id: SnapshotId(id),
        database: DatabaseId([database; 16]),
        kind,
        is_image: kind != Kind::Export,
        created_at: now - SignedDuration::from_secs_f64(hours * 3600.0),
        tags: if marks.contains('#') { &TAG } else { &[] },
        pinned: marks.contains('*'),
        tested,
    };
    (candidate, word.to_owned())
}

fn policy(rules: &str) -> RetentionPolicy {
    let mut policy = RetentionPolicy::none();
    for rule in rules.split(' ').filter(|rule| !rule.is_empty()) {
        let (name, value) = rule.split_once('=').unwrap_or((rule, "0"));
        let number = value.parse().unwrap_or(0);
        match name {
            "default" => policy.ages = Some(KindAges::DEFAULT),
            "last" => policy.last = number,
            "hourly" => policy.hourly = number,
            "daily" => policy.daily = number,
            "weekly" => policy.weekly = number,
            "monthly" => policy.monthly = number,
            "yearly" => policy.yearly = number,
            "within" => policy.within = Some(SignedDuration::from_hours(number.into())),
            "tag" => policy.tags.push((value.to_owned(), None)),
            "tagged" => policy.tags.push(("v".to_owned(), Some(value.to_owned()))),
            other => panic!("{other}"),
        }
    }
    policy
}

/// The snapshots, the rules, those that stay.
const TABLE: &[(&str, &str, &str)] = &[
    // Nothing to decide, and the newest.
    ("", "default", ""),
    ("900a", "", "900a"),
    ("900a 901a", "", "900a"),
    // By kind: automatic 7 days, migration 30 days, the others for ever.
    ("1a 167a 168a 169a", "default", "1a 167a 168a"),
    ("1g 719g 720g 721g", "default", "1g 719g 720g"),
    ("1 99999 99998e", "default", "1 99999 99998e"),
    ("1a 200a 200g 9000", "default", "1a 200g 9000"),
    // Rules stand for themselves: kinds are not kept on top of them.
    ("1 2 3 4", "last=2", "1 2"),
    ("1 2e 3g 4a", "last=1", "1 2e"),
    ("1a 2a 9000", "last=1 default", "1a 2a 9000"),
    // The newest of each hour: now is 12:00, so 0.5 and 0.9 are of 11 o'clock, 1.5 of 10 o'clock.
    ("0.5 0.9 1.5 1.9 2.5", "hourly=2", "0.5 1.5"),
    // Hours without a snapshot do not count.
    ("0.5 50.5 50.6 99.5 200.5", "hourly=3", "0.5 50.5 99.5"),
    // The newest of each day: 12:00 back to midnight is today.
    ("1 11 13 20 37 90", "daily=2", "1 13"),
    ("1 11 13 20 37 90", "daily=9", "1 13 37 90"),
    // 2026-11-27 is a Friday: the week began 108 hours ago.
    ("1 107 109 200", "weekly=2", "1 109"),
    // The month began 636 hours ago.
    ("1 635 637 700", "monthly=2", "1 637"),
    // The year began 7932 hours ago.
    ("1 7931 7933 9000", "yearly=2", "1 7933"),
    ("1 2 30 60 800 9000", "last=1 daily=2 yearly=2", "1 30 9000"),
    // Within.
    ("1 23 24 25", "within=24", "1 23 24"),
    // Tags, of any value or of one.
    ("1 2# 3 4#", "tag=v", "1 2# 4#"),
    ("1 2# 3", "tagged=1", "1 2#"),
    ("1 2# 3", "tagged=2", "1"),
    ("1 2# 3", "tag=w", "1"),
    // A pin keeps whatever the rules say.
    ("1 2 3* 9999a*", "last=1", "1 3* 9999a*"),
    // The newest proven stays, however many came after it; so does the newest.
    ("1 2 3 4+ 5+", "last=1", "1 4+"),
    ("1a 2a 900a+ 901a+", "", "1a 900a+"),
    ("1- 2- 3 4+ 5", "", "3 4+"),
    ("1- 2- 3-", "", "1-"),
    ("1- 2- 3-", "last=1", "1-"),
    // An export is no state of its database: neither the newest, nor counted with them.
    ("1e 900a 901a", "default", "1e 900a"),
    ("1e 2 3 4e", "last=1", "1e 2"),
    ("1e+ 2e 3 4+ 5+", "", "3 4+"),
    ("1e 2 30e 31 60", "daily=1", "1e 2"),
    ("5e 6e", "", "5e"),
    ("1e 2/2", "", "1e 2/2"),
    // Dated in the future: neither counted nor removed. Five minutes are a matter of clocks.
    ("!1 !2 1 2 3", "last=1", "!1 !2 1"),
    ("!1+ 1 2+ 3", "", "!1+ 1 2+"),
    ("!0.05 1 2", "last=1", "!0.05"),
    ("!100a*", "", "!100a*"),
    // Every database is judged by itself.
    ("1 2 3 4/2 5/2 6/2", "last=1", "1 4/2"),
    ("1 900a/2 901a/2", "default", "1 900a/2"),
    ("1 2 5+/2 6/2 4/2", "last=1", "1 5+/2 4/2"),
];

#[test]
fn the_table_holds() {
    let (now, zone) = (NOW.parse().unwrap(), TimeZone::UTC);
    for (snapshots, rules, expected) in TABLE {
        let parsed: Vec<_> = snapshots.split(' ').filter(|word| !word.is_empty()).map(parse).collect();
        let candidates: Vec<Candidate<'_>> = parsed.iter().map(|(candidate, _)| candidate.clone()).collect();
        let reasons = decide(&candidates, &policy(rules), now, &zone);
        let kept: Vec<&str> = parsed
            .iter()
            .zip(&reasons)
            .filter(|(_, reasons)| !reasons.is_empty())
            .map(|((_, word), _)| word.as_str())
            .collect();
        assert_eq!(kept.join(" "), *expected, "{snapshots:?} under {rules:?}");
    }
}

#[test]
fn what_keeps_a_snapshot_is_said() {
    let words = ["1a#*", "30+", "!99"].map(parse);
    let candidates = words.map(|(candidate, _)| candidate);
    let rules = policy("default last=2 daily=2 within=48 tag=v");
    let reasons = decide(&candidates, &rules, NOW.parse().unwrap(), &TimeZone::UTC);
    let said: Vec<String> = reasons
        .iter()
        .map(|reasons| reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        .collect();
    assert_eq!(
        said,
        [
            "pinned, newest, automatic: 7d, last 1, within 2d, tag v=1, daily 1",
            "newest proven, manual: for ever, last 2, within 2d, daily 2",
            "dated in the future",
        ]
    );
}

#[test]
fn days_are_those_of_the_zone() {
    // 23:30 and 00:30 UTC are the same day in New York and different days in UTC.
    let candidates = ["11.5", "12.5"].map(|word| parse(word).0);
    let kept = |zone: &TimeZone| {
        decide(&candidates, &policy("daily=2"), NOW.parse().unwrap(), zone)
            .iter()
            .filter(|reasons| !reasons.is_empty())
            .count()
    };
    assert_eq!((kept(&TimeZone::UTC), kept(&TimeZone::fixed(jiff::tz::offset(-5)))), (2, 1));
}

#[test]
fn the_last_hour_of_summer_time_is_there_twice_and_counts_once() {
    let zone = TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC);
    let mut candidates = ["1", "2"].map(|word| parse(word).0);
    candidates[0].created_at = "2026-10-25T01:30:00Z".parse().unwrap();
    candidates[1].created_at = "2026-10-25T00:30:00Z".parse().unwrap();
    let reasons = decide(&candidates, &policy("hourly=5"), NOW.parse().unwrap(), &zone);
    assert!(!reasons[0].is_empty());
}
