//! Times of a schedule: cron expressions in a time zone.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Offset as _};
use chrono_tz::{TZ_VARIANTS, Tz};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use time::{OffsetDateTime, UtcOffset};

/// The fields of a schedule that has seconds, and what each may be.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0 to 59"),
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, and L for the last"),
    ("month", "1 to 12, or JAN to DEC"),
    ("day of the week", "0 to 7 with 0 and 7 for Sunday, or SUN to SAT"),
];

/// Words for whole schedules.
const WORDS: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];

/// Where the search for a first run starts; any time does, since no schedule names a year. 2024 began as a leap year.
const FIRST_SEARCH: i64 = 1_704_067_200;

/// How alike a zone's name must be to be proposed (Jaro-Winkler, 0 to 1).
const LIKE: f64 = 0.85;

/// A cron expression in a time zone.
///
/// Five fields (minute, hour, day of the month, month, day of the week), or six with the second before them, or a word
/// such as `@daily`. Where the clock is put forward or back it is as in Vixie's cron: a schedule that has one time of
/// day runs once a day, right after the gap or the first time; any other runs at each time that the clock shows.
#[derive(Clone)]
pub struct Schedule {
    text: String,
    timezone: Tz,
    cron: Arc<Cron>,
}

/// Why a schedule was refused. The text says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It has too many characters.
    #[error("the schedule is {0} bytes long; the longest allowed is {max}", max = Schedule::MAX_BYTES)]
    TooLong(usize),
    /// It has neither five nor six fields.
    #[error(
        "the schedule has {0} fields; allowed are five (minute, hour, day of the month, month, day of the week), six with the \
         second before them, or one of {words}", words = WORDS.join(", ")
    )]
    Fields(usize),
    /// A field is wrong.
    #[error(
        "the schedule has the {field} {text:?}; allowed are {allowed}, ranges (1-5), lists (1,3) and steps (*/5)"
    )]
    Field {
        /// Its name.
        field: &'static str,
        /// What it is.
        text: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// There is no such time.
    #[error("the schedule {0:?} never fires: there is no such date")]
    NeverFires(String),
    /// Its times are too close.
    #[error("the schedule {0:?} fires more often than every {least} seconds, which is the most that is allowed", least = Schedule::LEAST_INTERVAL_SECONDS)]
    TooOften(String),
    /// There is no such time zone.
    #[error("there is no time zone {given:?}{}", suggestion(*.like))]
    TimeZone {
        /// The name, cut at 64 bytes.
        given: String,
        /// What may be meant.
        like: Option<&'static str>,
    },
}

fn suggestion(like: Option<&'static str>) -> String {
    match like {
        Some(name) => format!("; is {name} meant?"),
        None => "; allowed are the names of the IANA database, such as Europe/Berlin or UTC".to_owned(),
    }
}

impl ScheduleError {
    /// The field of a trigger that is wrong.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::TimeZone { .. } => "timezone",
            _ => "cron",
        }
    }
}

impl Schedule {
    /// The longest expression, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// The least time between two runs, in seconds.
    pub const LEAST_INTERVAL_SECONDS: u32 = 10;

    /// The time zone of a schedule that names none.
    pub const DEFAULT_TIMEZONE: &str = "UTC";

    /// Reads an expression and the name of a time zone.
    pub fn new(cron: &str, timezone: &str) -> Result<Self, ScheduleError> {
        let timezone = zone(timezone)?;
        if cron.len() > Self::MAX_BYTES {
            return Err(ScheduleError::TooLong(cron.len()));
        }
        let text = cron.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let schedule = Self { timezone, cron: Arc::new(parse(&text)?), text };
        if schedule.fires_too_often() {
            return Err(ScheduleError::TooOften(schedule.text));
        }
        let first =
            DateTime::from_timestamp(FIRST_SEARCH, 0).map(|time| time.with_timezone(&schedule.timezone));
        match first.and_then(|first| schedule.cron.find_next_occurrence(&first, true).ok()) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::NeverFires(schedule.text)),
        }
    }

    /// The expression, with single spaces.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of its time zone.
    pub fn timezone(&self) -> &'static str {
        self.timezone.name()
    }

    /// The first time after `time`, in the schedule's time zone; `None` where the calendar ends.
    pub fn next_after(&self, time: OffsetDateTime) -> Option<OffsetDateTime> {
        let start = DateTime::from_timestamp(time.unix_timestamp(), time.nanosecond())?;
        let found = self.cron.find_next_occurrence(&start.with_timezone(&self.timezone), false).ok()?;
        zoned(&found)
    }

    /// The first `count` times after `time`.
    pub fn next(&self, time: OffsetDateTime, count: usize) -> Vec<OffsetDateTime> {
        std::iter::successors(self.next_after(time), |last| self.next_after(*last)).take(count).collect()
    }

    /// The same time, as clocks of the schedule's time zone show it.
    pub fn in_zone(&self, time: OffsetDateTime) -> OffsetDateTime {
        let instant = DateTime::from_timestamp(time.unix_timestamp(), time.nanosecond());
        instant.and_then(|instant| zoned(&instant.with_timezone(&self.timezone))).unwrap_or(time)
    }

    /// Whether two of its seconds are too close. Those of two minutes are compared where both are of one schedule; that
    /// no hour or day may have both makes no difference.
    fn fires_too_often(&self) -> bool {
        let pattern = &self.cron.pattern;
        let seconds: Vec<u32> =
            (0..60).filter(|second| pattern.second_match(*second).unwrap_or(false)).collect();
        let least = Self::LEAST_INTERVAL_SECONDS;
        if seconds.windows(2).any(|pair| pair[1] - pair[0] < least) {
            return true;
        }
        let (Some(first), Some(last)) = (seconds.first(), seconds.last()) else { return false };
        let is_minute = |minute: u32| pattern.minute_match(minute % 60).unwrap_or(false);
        let has_neighbours = (0..60).any(|minute| is_minute(minute) && is_minute(minute + 1));
        has_neighbours && first + 60 - last < least
    }
}

fn parse(text: &str) -> Result<Cron, ScheduleError> {
    let fields: Vec<&str> = text.split(' ').filter(|field| !field.is_empty()).collect();
    let is_word = WORDS.iter().any(|word| word.eq_ignore_ascii_case(text));
    if !is_word && !matches!(fields.len(), 5 | 6) {
        return Err(ScheduleError::Fields(fields.len()));
    }
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    if !is_word {
        // Each alone, so that the one that is wrong can be named.
        let names = &FIELDS[FIELDS.len() - fields.len()..];
        for (at, (field, (name, allowed))) in fields.iter().zip(names).enumerate() {
            let mut alone = vec!["*"; fields.len()];
            alone[at] = field;
            let is_plain =
                field.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*,-/#+?".contains(&byte));
            if !is_plain || parser.parse(&alone.join(" ")).is_err() {
                return Err(ScheduleError::Field { field: name, text: (*field).to_owned(), allowed });
            }
        }
    }
    parser.parse(text).map_err(|_| ScheduleError::NeverFires(text.to_owned()))
}

fn zone(name: &str) -> Result<Tz, ScheduleError> {
    name.parse().map_err(|_| {
        let given = name[..name.floor_char_boundary(64)].to_owned();
        ScheduleError::TimeZone { like: nearest_zone(&given), given }
    })
}

/// The zone of the same name in other letters, the one of a city, or the one that is most alike.
fn nearest_zone(given: &str) -> Option<&'static str> {
    let plain = given.trim().to_ascii_lowercase().replace(' ', "_");
    let names = || TZ_VARIANTS.iter().map(|zone| zone.name());
    let city = |name: &str| name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    names()
        .find(|name| name.eq_ignore_ascii_case(&plain))
        .or_else(|| names().find(|name| city(name) == plain))
        .or_else(|| {
            names()
                .map(|name| (strsim::jaro_winkler(&plain, &name.to_ascii_lowercase()), name))
                .filter(|(likeness, _)| *likeness >= LIKE)
                .max_by(|(a, _), (b, _)| a.total_cmp(b))
                .map(|(_, name)| name)
        })
}

fn zoned(time: &DateTime<Tz>) -> Option<OffsetDateTime> {
    let offset = UtcOffset::from_whole_seconds(time.offset().fix().local_minus_utc()).ok()?;
    let instant = OffsetDateTime::from_unix_timestamp(time.timestamp()).ok()?;
    Some(instant.replace_nanosecond(time.timestamp_subsec_nanos()).ok()?.to_offset(offset))
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.timezone) == (&other.text, other.timezone)
    }
}

impl Eq for Schedule {}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({self})")
    }
}

/// `0 3 * * * in Europe/Berlin`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.text, self.timezone.name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::{format_description::well_known::Rfc3339, macros::datetime};

    use super::*;

    fn times(cron: &str, timezone: &str, after: OffsetDateTime, count: usize) -> Vec<String> {
        let schedule = Schedule::new(cron, timezone).unwrap();
        schedule.next(after, count).into_iter().map(|time| time.format(&Rfc3339).unwrap()).collect()
    }

    fn refusal(cron: &str) -> String {
        Schedule::new(cron, "UTC").unwrap_err().to_string()
    }

    // In Berlin the clock is put forward at 2026-03-29 01:00 UTC, from 02:00 to 03:00, and back at 2026-10-25 01:00 UTC,
    // from 03:00 to 02:00.

    #[test]
    fn an_hourly_schedule_runs_at_each_hour_that_the_clock_shows_when_it_is_put_forward() {
        assert_eq!(
            times("30 * * * *", "Europe/Berlin", datetime!(2026-03-28 23:45 UTC), 4),
            [
                "2026-03-29T01:30:00+01:00",
                "2026-03-29T03:30:00+02:00",
                "2026-03-29T04:30:00+02:00",
                "2026-03-29T05:30:00+02:00"
            ]
        );
    }

    #[test]
    fn an_hourly_schedule_runs_in_both_of_the_repeated_hours() {
        assert_eq!(
            times("30 * * * *", "Europe/Berlin", datetime!(2026-10-24 23:45 UTC), 4),
            [
                "2026-10-25T02:30:00+02:00",
                "2026-10-25T02:30:00+01:00",
                "2026-10-25T03:30:00+01:00",
                "2026-10-25T04:30:00+01:00"
            ]
        );
    }

    #[test]
    fn a_daily_time_in_the_gap_is_right_after_it() {
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", datetime!(2026-03-28 00:00 UTC), 3),
            ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
        );
    }

    #[test]
    fn a_daily_time_that_is_repeated_is_the_first_one_only() {
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", datetime!(2026-10-24 12:00 UTC), 2),
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
        );
        // Also for a search that starts between the two.
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", datetime!(2026-10-25 00:45 UTC), 1),
            ["2026-10-26T02:30:00+01:00"]
        );
    }

    #[test]
    fn a_zone_without_summer_time_has_a_day_of_24_hours_each() {
        let found = times("30 2 * * *", "Asia/Kolkata", datetime!(2026-03-27 22:00 UTC), 3);
        let expected =
            ["2026-03-29T02:30:00+05:30", "2026-03-30T02:30:00+05:30", "2026-03-31T02:30:00+05:30"];
        assert_eq!(found, expected);
    }

    #[test]
    fn seconds_words_and_last_days_are_known() {
        let after = datetime!(2026-02-10 10:00:05.5 UTC);
        assert_eq!(times("*/15 * * * * *", "UTC", after, 1), ["2026-02-10T10:00:15Z"]);
        assert_eq!(times("@daily", "UTC", after, 1), ["2026-02-11T00:00:00Z"]);
        assert_eq!(times("@HOURLY", "UTC", after, 1), ["2026-02-10T11:00:00Z"]);
        assert_eq!(times("0 0 L * *", "UTC", after, 2), ["2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"]);
        assert_eq!(times("  0 9  * * mon-fri ", "UTC", after, 1), ["2026-02-11T09:00:00Z"]);
        assert_eq!(times("0 0 29 2 *", "UTC", after, 1), ["2028-02-29T00:00:00Z"]);
        assert_eq!(Schedule::new("  0 9  * * 1 ", "UTC").unwrap().as_str(), "0 9 * * 1");
    }

    #[test]
    fn days_may_be_the_last_the_nearest_the_second_or_both() {
        let after = datetime!(2026-08-01 00:00 UTC);
        for (cron, next) in [
            // The 15th of August 2026 is a Saturday, the 1st too.
            ("0 0 15W * *", "2026-08-14"),
            ("0 0 * * FRI#2", "2026-08-14"),
            ("0 0 * * FRI#L", "2026-08-28"),
            ("0 0 13 * FRI", "2026-08-07"),
            ("0 0 13 * +FRI", "2026-11-13"),
            ("0 0 2-30/5 * *", "2026-08-02"),
            ("0 0 L 2 *", "2027-02-28"),
            ("0 0 * * 7", "2026-08-02"),
            ("0 0 29 2 +TUE", "2028-02-29"),
            ("0 0 29 2 +MON", "2044-02-29"),
        ] {
            assert_eq!(times(cron, "UTC", after, 1), [format!("{next}T00:00:00Z")], "{cron}");
        }
    }

    #[test]
    fn what_never_fires_is_refused() {
        for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 0 31 2 *"] {
            assert_eq!(refusal(never), format!("the schedule {never:?} never fires: there is no such date"));
        }
    }

    #[test]
    fn what_fires_too_often_is_refused() {
        let often = [
            "* * * * * *",
            "*/5 * * * * *",
            "0,9 * * * * *",
            "0,55 * * * * *",
            "0-3 0 0 1 1 *",
            "0,55 0,59 * * * *",
        ];
        for often in often {
            assert!(refusal(often).contains("more often than every 10 seconds"), "{often}");
        }
        for enough in ["*/10 * * * * *", "0,50 * * * * *", "0,55 0 * * * *", "* * * * *", "5 */2 * * * *"] {
            assert!(Schedule::new(enough, "UTC").is_ok(), "{enough}");
        }
    }

    #[test]
    fn the_field_that_is_wrong_is_named() {
        assert_eq!(
            refusal("61 * * * *"),
            "the schedule has the minute \"61\"; allowed are 0 to 59, ranges (1-5), lists (1,3) and steps (*/5)"
        );
        for (cron, text) in [
            ("* 25 * * *", "the hour \"25\""),
            ("* * 0 * *", "the day of the month \"0\""),
            ("* * * 13 *", "the month \"13\""),
            ("* * * * 8", "the day of the week \"8\""),
            ("60 * * * * *", "the second \"60\""),
            ("*/0 * * * *", "the minute \"*/0\""),
            ("5-1 * * * *", "the minute \"5-1\""),
            ("a\u{0} * * * *", "the minute \"a\\0\""),
            ("* * * * monday", "the day of the week \"monday\""),
            ("", "0 fields"),
            ("* * * *", "4 fields"),
            ("0 * * * * * 2030", "7 fields"),
            ("@never", "1 fields"),
        ] {
            let refusal = refusal(cron);
            assert!(refusal.contains(text), "{cron:?}: {refusal}");
        }
        let long = format!("{} * * * *", "1,".repeat(100));
        assert_eq!(refusal(&long), "the schedule is 208 bytes long; the longest allowed is 128");
    }

    #[test]
    fn an_unknown_zone_is_refused_with_one_that_is_like_it() {
        let refusal = |zone: &str| Schedule::new("@daily", zone).unwrap_err().to_string();
        assert_eq!(
            refusal("Europe/Berln"),
            "there is no time zone \"Europe/Berln\"; is Europe/Berlin meant?"
        );
        assert_eq!(
            refusal("europe/berlin"),
            "there is no time zone \"europe/berlin\"; is Europe/Berlin meant?"
        );
        assert_eq!(refusal("New York"), "there is no time zone \"New York\"; is America/New_York meant?");
        assert!(refusal("").contains("names of the IANA database"));
        assert!(refusal("\0").contains("names of the IANA database"));
        assert!(refusal(&"z".repeat(100_000)).len() < 200);
    }

    proptest! {
        #[test]
        fn whatever_is_given_is_answered(cron in "\\PC{0,40}", zone in "\\PC{0,20}") {
            let _ = Schedule::new(&cron, &zone);
        }

        #[test]
        fn times_go_forward_and_keep_their_distance(
            cron in "(\\*|[0-5]?[0-9]|\\*/[1-9]) (\\*|1?[0-9]|\\*/[1-9]) (\\*|[1-9]|L) (\\*|[1-9]) (\\*|[0-7])",
            zone in 0..TZ_VARIANTS.len(),
            start in 1_700_000_000_i64..1_900_000_000,
        ) {
            let schedule = Schedule::new(&cron, TZ_VARIANTS[zone].name()).unwrap();
            let start = OffsetDateTime::from_unix_timestamp(start).unwrap();
            let found = schedule.next(start, 5);
            prop_assert_eq!(found.len(), 5);
            prop_assert!(found[0] > start);
            prop_assert!(found.windows(2).all(|pair| pair[1] - pair[0] >= time::Duration::seconds(10)));
        }
    }
}
