//! Cron expressions of five fields: minute, hour, day of the month, month, day of the week.
//!
//! As in every cron since Vixie's: `*`, numbers, ranges, lists, steps, English names of months and weekdays, 0 and 7 for
//! Sunday, and where both days are restricted, either of them is enough. `@hourly`, `@daily`, `@weekly`, `@monthly` and
//! `@yearly` are short for the obvious.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// 29 February on a certain weekday comes round within 28 years, but for a century that is no leap year.
const LONGEST_SEARCH_DAYS: u32 = 366 * 41;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What stands for an expression.
const SHORT_FORMS: [(&str, &str); 6] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
];

/// A cron expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    /// Bit n is set if the value n is wanted.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether a day has to fit both day fields, one of which then is unrestricted, or either.
    both_days: bool,
    /// Whether every hour of the day is wanted: then it is the hours that pass that count, not their names.
    every_hour: bool,
}

/// Why a text is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(String);

/// One of the five.
struct Field {
    what: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { what: "minute", least: 0, most: 59, names: &[] },
    Field { what: "hour", least: 0, most: 23, names: &[] },
    Field { what: "day of the month", least: 1, most: 31, names: &[] },
    Field { what: "month", least: 1, most: 12, names: &MONTHS },
    Field { what: "day of the week", least: 0, most: 7, names: &WEEKDAYS },
];

impl Field {
    fn parse(&self, text: &str) -> Result<u64, CronError> {
        let mut wanted = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(step)),
                None => (part, None),
            };
            let (first, last) = match range.split_once('-') {
                Some((first, last)) => (self.number(first)?, self.number(last)?),
                None if range == "*" => (self.least, self.most),
                // A start with a step goes on to the end.
                None => {
                    let first = self.number(range)?;
                    (first, if step.is_some() { self.most } else { first })
                }
            };
            let step = match step {
                None => 1,
                Some(step) => match step.parse::<u32>() {
                    Ok(step) if step > 0 && step <= self.most => step,
                    _ => return Err(self.wrong(&format!("a step of {step:?}"))),
                },
            };
            if first > last {
                return Err(self.wrong(&format!("{range:?}, which ends before it begins")));
            }
            let mut value = first;
            while value <= last {
                wanted |= 1 << value;
                value += step;
            }
        }
        Ok(wanted)
    }

    fn number(&self, text: &str) -> Result<u32, CronError> {
        if let Some(place) = self.names.iter().position(|name| text.eq_ignore_ascii_case(name)) {
            return Ok(self.least + u32::try_from(place).unwrap_or(0));
        }
        match text.parse::<u32>() {
            Ok(number) if (self.least..=self.most).contains(&number) => Ok(number),
            _ => Err(self.wrong(&format!("{text:?}"))),
        }
    }

    fn wrong(&self, found: &str) -> CronError {
        let (least, most) = (self.least, self.most);
        let names = if self.names.is_empty() { "" } else { " or a name such as " };
        let example = self.names.last().copied().unwrap_or_default();
        CronError(format!("the {} is {found}; expected {least} to {most}{names}{example}", self.what))
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let text = text.trim();
        let short = SHORT_FORMS.iter().find(|(short, _)| text.eq_ignore_ascii_case(short));
        let long = short.map_or(text, |(_, long)| long);
        let words: Vec<&str> = long.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = words.as_slice() else {
            return Err(CronError(format!(
                "a cron expression has five fields (minute, hour, day, month, weekday), and this has {}",
                words.len()
            )));
        };
        let parse = |field: usize, text: &str| FIELDS[field].parse(text);
        let sunday_is_7 = |days: u64| (days | days >> 7) & 0x7f;
        let cron = Self {
            text: text.to_owned(),
            minutes: parse(0, minute)?,
            hours: parse(1, hour)?,
            days: parse(2, day)?,
            months: parse(3, month)?,
            weekdays: sunday_is_7(parse(4, weekday)?),
            both_days: day.starts_with('*') || weekday.starts_with('*'),
            every_hour: parse(1, hour)? == (1 << 24) - 1,
        };
        if cron.next_civil(DateTime::constant(2000, 1, 1, 0, 0, 0, 0)).is_none() {
            return Err(CronError(format!("no day ever fits {text:?}")));
        }
        Ok(cron)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Cron {
    /// The first time after `after` that fits, in `zone`; `None` at the end of the calendar.
    ///
    /// Where the clock is put forward, a time that does not exist comes as much later as the clock jumps. Where it is put
    /// back, a time that exists twice comes once, the first time; unless every hour is wanted: then both come.
    #[must_use]
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if self.every_hour {
            return self.next_by_elapsed_hours(after, zone);
        }
        let mut civil = zone.to_datetime(after);
        loop {
            civil = self.next_civil(civil)?;
            let time = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
            if time > after {
                return Some(time);
            }
        }
    }

    /// Stretch by stretch between changes of the clock, each with its one offset.
    fn next_by_elapsed_hours(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut from = after;
        let mut offset = zone.to_offset(after);
        loop {
            let change = zone.following(from).next();
            let found =
                self.next_civil(offset.to_datetime(from)).and_then(|civil| offset.to_timestamp(civil).ok());
            match (found, change) {
                (Some(time), Some(change)) if time >= change.timestamp() => {
                    offset = change.offset();
                    // The minute of the change itself is in the new stretch.
                    from = change.timestamp();
                    let first = from.checked_sub(SignedDuration::from_mins(1)).ok()?;
                    let civil = self.next_civil(offset.to_datetime(first))?;
                    let time = offset.to_timestamp(civil).ok()?;
                    let next = zone.following(from).next();
                    if next.is_none_or(|next| time < next.timestamp()) {
                        return Some(time);
                    }
                }
                (found, _) => return found,
            }
        }
    }

    /// The first civil minute after `after` that fits.
    fn next_civil(&self, after: DateTime) -> Option<DateTime> {
        let after = after.checked_add(SignedDuration::from_mins(1)).ok()?;
        let (mut day, mut from) = (after.date(), (after.hour(), after.minute()));
        for _ in 0..LONGEST_SEARCH_DAYS {
            if self.fits_day(day)
                && let Some(time) = self.first_time(from)
            {
                return Some(day.to_datetime(time));
            }
            day = day.tomorrow().ok()?;
            from = (0, 0);
        }
        None
    }

    fn fits_day(&self, day: Date) -> bool {
        let has = |set: u64, value: i8| set & (1 << value) != 0;
        let of_month = has(self.days, day.day());
        let of_week = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        let days = if self.both_days { of_month && of_week } else { of_month || of_week };
        days && has(self.months, day.month())
    }

    /// The first time of a day at or after `from` (hour, minute).
    fn first_time(&self, from: (i8, i8)) -> Option<Time> {
        let first = |set: u64, least: i8| (least..60).find(|value| set & (1 << value) != 0);
        let hour = first(self.hours, from.0)?;
        let least = if hour == from.0 { from.1 } else { 0 };
        if let Some(minute) = first(self.minutes, least) {
            return Time::new(hour, minute, 0, 0).ok();
        }
        let hour = first(self.hours, hour + 1)?;
        Time::new(hour, first(self.minutes, 0)?, 0, 0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let cron: Cron = expression.parse().unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let mut time: Timestamp = after.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..count {
            time = cron.next_after(time, &zone).unwrap();
            found.push(time.to_string());
        }
        found
    }

    #[test]
    fn expressions_mean_what_crontabs_say() {
        for (expression, after, expected) in [
            ("*/15 * * * *", "2026-11-22T10:00:00Z", "2026-11-22T10:15:00Z"),
            ("*/15 * * * *", "2026-11-22T10:59:59.5Z", "2026-11-22T11:00:00Z"),
            ("0 3 * * *", "2026-11-22T03:00:00Z", "2026-11-23T03:00:00Z"),
            ("30 9-17/4 * * mon-fri", "2026-11-20T17:31:00Z", "2026-11-23T09:30:00Z"),
            ("0 0 13 * 5", "2026-11-22T00:00:00Z", "2026-11-27T00:00:00Z"),
            ("0 0 1 JAN *", "2026-11-22T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("5,50 4 29 2 *", "2026-11-22T00:00:00Z", "2028-02-29T04:05:00Z"),
            ("0 0 * * 7", "2026-11-22T00:00:00Z", "2026-11-29T00:00:00Z"),
            ("0 0 29 2 0", "2026-11-22T00:00:00Z", "2027-02-07T00:00:00Z"),
            ("@weekly", "2026-11-22T00:00:00Z", "2026-11-29T00:00:00Z"),
            ("@yearly", "2026-11-22T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("10/20 8 * * *", "2026-11-22T08:10:00Z", "2026-11-22T08:30:00Z"),
        ] {
            assert_eq!(times(expression, "UTC", after, 1), [expected], "{expression}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_of_its_field() {
        for (expression, word) in [
            ("", "five fields"),
            ("* * * *", "has 4"),
            ("60 * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of the month"),
            ("* * * 13 *", "month"),
            ("* * * * 8", "day of the week"),
            ("*/0 * * * *", "step"),
            ("5-1 * * * *", "ends before it begins"),
            ("1, * * * *", "minute"),
            ("0 0 30 feb *", "no day ever fits"),
        ] {
            let error = expression.parse::<Cron>().unwrap_err().to_string();
            assert!(error.contains(word), "{expression}: {error}");
        }
    }

    /// Berlin, 29 March 2026: 02:00 becomes 03:00 at 01:00Z.
    #[test]
    fn an_hour_that_does_not_exist_is_made_up_for_once() {
        let night = times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(night, ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]);
        let hourly = times("0 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3);
        assert_eq!(hourly, ["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z", "2026-03-29T03:00:00Z"]);
    }

    /// Berlin, 25 October 2026: 03:00 becomes 02:00 at 01:00Z.
    #[test]
    fn an_hour_that_comes_twice_counts_once_by_name_and_twice_by_length() {
        let night = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(night, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let quarters = times("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:15:00Z", 4);
        assert_eq!(
            quarters,
            ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"]
        );
        let within = times("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1);
        assert_eq!(within, ["2026-10-26T01:30:00Z"]);
    }
}
