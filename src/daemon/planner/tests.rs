//! A month in a second: a world in which time passes, machines sleep and clocks are set.

use super::super::schedule::delay_of;
use super::*;
use jiff::SignedDuration;

/// A service that asks every job once a second or so, and remembers.
struct World {
    now: Timestamp,
    zone: TimeZone,
    timing: Timing,
    memory: Memory,
    runs: Vec<Timestamp>,
    fails: fn(Timestamp) -> bool,
}

impl World {
    fn new(schedule: &str, zone: &str, start: &str) -> Self {
        Self {
            now: start.parse().unwrap(),
            zone: TimeZone::get(zone).unwrap(),
            timing: Timing { schedule: schedule.parse().unwrap(), delay: Duration::ZERO },
            memory: Memory::default(),
            runs: Vec::new(),
            fails: |_| false,
        }
    }

    /// Lives until `end`, as the service does: asks, acts, sleeps until it may be due, but never for long.
    fn live_until(&mut self, end: &str) {
        let end: Timestamp = end.parse().unwrap();
        while self.now < end {
            self.memory = self.memory.as_of(self.now);
            let soon = self.now + SignedDuration::from_mins(1);
            match decide(&self.timing, &self.memory, self.now, &self.zone) {
                Answer::Now => {
                    self.runs.push(self.now);
                    self.memory = self.memory.after_attempt(self.now, !(self.fails)(self.now));
                }
                Answer::Later(time) => self.now = time.min(soon).min(end),
                Answer::Never => self.now = soon.min(end),
            }
        }
    }

    /// The machine is off, or asleep, or its clock is set.
    fn jump_to(&mut self, time: &str) {
        self.now = time.parse().unwrap();
    }

    /// Lengths between runs that are not `usual`, with the time of the later run.
    fn odd_gaps(&self, usual: SignedDuration) -> Vec<(Timestamp, SignedDuration)> {
        let gaps = self.runs.windows(2).map(|pair| (pair[1], pair[1].duration_since(pair[0])));
        gaps.filter(|(_, gap)| *gap != usual).collect()
    }
}

#[test]
fn thirty_days_of_quarter_hours_through_the_end_of_summer_time() {
    for schedule in ["every 15m", "*/15 * * * *"] {
        let mut world = World::new(schedule, "Europe/Berlin", "2026-10-10T00:00:00Z");
        world.live_until("2026-11-09T00:00:00Z");
        assert_eq!(world.runs.len(), 30 * 96, "{schedule}");
        assert_eq!(world.odd_gaps(SignedDuration::from_mins(15)), [], "{schedule}");
    }
}

#[test]
fn thirty_days_of_nights_through_both_changes_of_the_clock() {
    for (start, end) in
        [("2026-03-10T12:00:00Z", "2026-04-09T12:00:00Z"), ("2026-10-10T12:00:00Z", "2026-11-09T12:00:00Z")]
    {
        let mut world = World::new("30 2 * * *", "Europe/Berlin", start);
        world.live_until(end);
        // The first at once, then one each night.
        assert_eq!(world.runs.len(), 31, "{start}");
        let odd = world.odd_gaps(SignedDuration::from_hours(24));
        assert!(
            odd.iter().all(
                |(_, gap)| gap.as_mins().abs_diff(24 * 60) <= 60 || *gap < SignedDuration::from_hours(24)
            )
        );
        let days: std::collections::BTreeSet<_> =
            world.runs.iter().skip(1).map(|run| world.zone.to_datetime(*run).date()).collect();
        assert_eq!(days.len(), 30, "{start}: one a night, none twice");
    }
}

#[test]
fn after_downtime_it_runs_once_and_falls_into_step() {
    let mut world = World::new("every 15m", "UTC", "2026-11-01T00:00:00Z");
    world.live_until("2026-11-10T10:07:00Z");
    let before = world.runs.len();
    world.jump_to("2026-11-12T17:22:30Z");
    world.live_until("2026-11-30T00:00:00Z");
    let after: Vec<String> = world.runs[before..].iter().take(3).map(ToString::to_string).collect();
    assert_eq!(after, ["2026-11-12T17:22:30Z", "2026-11-12T17:30:00Z", "2026-11-12T17:45:00Z"]);
}

#[test]
fn a_clock_that_is_set_back_makes_nobody_wait_for_the_old_time() {
    let mut world = World::new("every 15m", "UTC", "2026-11-01T00:00:00Z");
    world.live_until("2026-11-20T00:01:00Z");
    let before = world.runs.len();
    world.jump_to("2026-11-10T09:50:00Z");
    world.live_until("2026-11-10T11:00:00Z");
    let after: Vec<String> = world.runs[before..].iter().map(ToString::to_string).collect();
    assert_eq!(
        after,
        ["2026-11-10T10:00:00Z", "2026-11-10T10:15:00Z", "2026-11-10T10:30:00Z", "2026-11-10T10:45:00Z"]
    );
    // And forward again: one run makes up for all.
    world.jump_to("2026-11-20T01:02:00Z");
    world.live_until("2026-11-20T01:10:00Z");
    assert_eq!(world.runs.last().unwrap().to_string(), "2026-11-20T01:02:00Z");
}

#[test]
fn a_failure_is_tried_again_soon_then_less_often_and_never_stops_the_rhythm() {
    let mut world = World::new("every 6h", "UTC", "2026-11-01T00:00:00Z");
    world.fails = |now| now < "2026-11-01T05:00:00Z".parse().unwrap();
    world.live_until("2026-11-01T13:00:00Z");
    let minutes: Vec<i64> = world
        .runs
        .iter()
        .map(|run| run.duration_since("2026-11-01T00:00:00Z".parse().unwrap()).as_mins())
        .collect();
    assert_eq!(minutes, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 360, 720]);
}

#[test]
fn a_failure_over_a_short_interval_waits_for_the_next_time() {
    let mut world = World::new("every 1m", "UTC", "2026-11-01T00:00:00Z");
    world.fails = |_| true;
    world.live_until("2026-11-01T01:00:00Z");
    assert_eq!(world.runs.len(), 60);
}

#[test]
fn jitter_shifts_and_does_not_stretch() {
    let mut world = World::new("every 15m", "UTC", "2026-11-01T00:00:00Z");
    world.timing.delay = delay_of("app", Duration::from_mins(10));
    world.live_until("2026-11-30T00:00:00Z");
    assert_eq!(world.odd_gaps(SignedDuration::from_mins(15)).len(), 1, "only the first one is at once");
    let delay = SignedDuration::try_from(world.timing.delay).unwrap();
    let second = world.runs[1].checked_sub(delay).unwrap();
    assert_eq!(second.as_second() % 900, 0);
}

/// A delay longer than the interval is odd, and loses nothing.
#[test]
fn a_delay_above_the_interval_loses_no_run() {
    let mut world = World::new("every 1m", "UTC", "2026-11-01T00:00:00Z");
    world.timing.delay = Duration::from_secs(150);
    world.live_until("2026-11-01T01:00:00Z");
    assert!(world.runs.len() >= 58, "{}", world.runs.len());
}
