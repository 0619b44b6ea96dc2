//! Formats with `%` as C's `strftime` has them: the part that makes sense without a locale.

use std::fmt::Write;

use time::{Date, Month, OffsetDateTime, Time, UtcOffset};

use super::{at, milliseconds, offset};
use crate::raise::{Outcome, Raised, invalid};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Directives that stand for others.
fn expansion(directive: char) -> Option<&'static str> {
    Some(match directive {
        'F' => "%Y-%m-%d",
        'T' => "%H:%M:%S",
        'R' => "%H:%M",
        'D' => "%m/%d/%y",
        _ => return None,
    })
}

/// Writes a time.
pub(super) fn format(moment: OffsetDateTime, format: &str) -> Outcome<String> {
    let mut out = String::with_capacity(format.len() + 16);
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let directive = rest.next().ok_or_else(|| unknown("%"))?;
        match expansion(directive) {
            Some(longer) => out.push_str(&self::format(moment, longer)?),
            None => write_one(&mut out, moment, directive)?,
        }
    }
    Ok(out)
}

fn write_one(out: &mut String, moment: OffsetDateTime, directive: char) -> Outcome<()> {
    let (year, month, day) = moment.to_calendar_date();
    let month_name = MONTHS[usize::from(u8::from(month)) - 1];
    let day_name = DAYS[usize::from(moment.weekday().number_days_from_monday())];
    let half = if moment.hour().is_multiple_of(12) { 12 } else { moment.hour() % 12 };
    let written = match directive {
        'Y' => write!(out, "{year:04}"),
        'y' => write!(out, "{:02}", year.rem_euclid(100)),
        'm' => write!(out, "{:02}", u8::from(month)),
        'd' => write!(out, "{day:02}"),
        'e' => write!(out, "{day:2}"),
        'j' => write!(out, "{:03}", moment.ordinal()),
        'H' => write!(out, "{:02}", moment.hour()),
        'I' => write!(out, "{half:02}"),
        'M' => write!(out, "{:02}", moment.minute()),
        'S' => write!(out, "{:02}", moment.second()),
        'L' => write!(out, "{:03}", moment.millisecond()),
        'p' => write!(out, "{}", if moment.hour() < 12 { "AM" } else { "PM" }),
        'A' => write!(out, "{day_name}"),
        'a' => write!(out, "{}", &day_name[..3]),
        'B' => write!(out, "{month_name}"),
        'b' => write!(out, "{}", &month_name[..3]),
        'u' => write!(out, "{}", moment.weekday().number_from_monday()),
        'w' => write!(out, "{}", moment.weekday().number_days_from_sunday()),
        's' => write!(out, "{}", milliseconds(moment).div_euclid(1_000)),
        'z' => write_offset(out, moment.offset(), ""),
        'Z' if moment.offset().is_utc() => write!(out, "UTC"),
        'Z' => write_offset(out, moment.offset(), ":"),
        '%' => write!(out, "%"),
        other => return Err(unknown(&format!("%{other}"))),
    };
    // Writing to a string cannot fail.
    let _ = written;
    Ok(())
}

fn write_offset(out: &mut String, offset: UtcOffset, separator: &str) -> std::fmt::Result {
    let (hours, minutes, _) = offset.as_hms();
    let sign = if offset.is_negative() { '-' } else { '+' };
    write!(out, "{sign}{:02}{separator}{:02}", hours.unsigned_abs(), minutes.unsigned_abs())
}

/// What was read so far.
#[derive(Default)]
struct Parsed {
    year: Option<i32>,
    month: Option<u8>,
    day: Option<u8>,
    ordinal: Option<u16>,
    hour: u8,
    minute: u8,
    second: u8,
    ms: u16,
    afternoon: Option<bool>,
    offset: Option<UtcOffset>,
    timestamp: Option<i64>,
}

/// Reads a time. Without a time of day it is midnight, without an offset UTC.
pub(super) fn parse(text: &str, format: &str) -> Outcome<i64> {
    let mut parsed = Parsed::default();
    let rest = parsed.read(text, format)?;
    if !rest.is_empty() {
        return Err(mismatch(rest, "the end"));
    }
    parsed.finish()
}

impl Parsed {
    fn read<'t>(&mut self, mut text: &'t str, format: &str) -> Outcome<&'t str> {
        let mut rest = format.chars();
        while let Some(expected) = rest.next() {
            if expected != '%' {
                text = text
                    .strip_prefix(expected)
                    .ok_or_else(|| mismatch(text, expected.encode_utf8(&mut [0; 4])))?;
                continue;
            }
            let directive = rest.next().ok_or_else(|| unknown("%"))?;
            text = match expansion(directive) {
                Some(longer) => self.read(text, longer)?,
                None => self.read_one(text, directive)?,
            };
        }
        Ok(text)
    }

    fn read_one<'t>(&mut self, text: &'t str, directive: char) -> Outcome<&'t str> {
        let (value, rest) = match directive {
            'b' | 'B' => return self.read_month(text),
            'a' | 'A' => {
                return name(text, &DAYS).map(|(_, rest)| rest).ok_or_else(|| mismatch(text, "a weekday"));
            }
            'p' => return self.read_half(text),
            'z' | 'Z' => return self.read_offset(text),
            '%' => return text.strip_prefix('%').ok_or_else(|| mismatch(text, "%")),
            'Y' => number(text, 4)?,
            'j' | 'L' => number(text, 3)?,
            's' => number(text, 12)?,
            'y' | 'm' | 'd' | 'e' | 'H' | 'I' | 'M' | 'S' => number(text.trim_start_matches(' '), 2)?,
            other => return Err(unknown(&format!("%{other}"))),
        };
        let small = value as u8;
        match directive {
            'Y' => self.year = i32::try_from(value).ok(),
            // As POSIX has it: 69 to 99 are of the last century.
            'y' => self.year = i32::try_from(value + if value < 69 { 2000 } else { 1900 }).ok(),
            'j' => self.ordinal = Some(value as u16),
            'L' => self.ms = value as u16,
            's' => self.timestamp = i64::try_from(value).ok(),
            'm' => self.month = Some(small),
            'd' | 'e' => self.day = Some(small),
            'H' | 'I' => self.hour = small,
            'M' => self.minute = small,
            _ => self.second = small,
        }
        Ok(rest)
    }

    fn read_month<'t>(&mut self, text: &'t str) -> Outcome<&'t str> {
        let (month, rest) = name(text, &MONTHS).ok_or_else(|| mismatch(text, "a month's name"))?;
        self.month = Some(month);
        Ok(rest)
    }

    fn read_half<'t>(&mut self, text: &'t str) -> Outcome<&'t str> {
        let (half, rest) = text.split_at_checked(2).unwrap_or((text, ""));
        match half.to_ascii_uppercase().as_str() {
            "AM" => self.afternoon = Some(false),
            "PM" => self.afternoon = Some(true),
            _ => return Err(mismatch(text, "AM or PM")),
        }
        Ok(rest)
    }

    fn read_offset<'t>(&mut self, text: &'t str) -> Outcome<&'t str> {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | ':')));
        let (written, rest) = text.split_at(end.unwrap_or(text.len()));
        self.offset = Some(offset(written)?);
        Ok(rest)
    }

    fn finish(self) -> Outcome<i64> {
        if let Some(seconds) = self.timestamp {
            return seconds.checked_mul(1_000).ok_or_else(super::out_of_range);
        }
        let wrong = |what: &str| invalid(format!("time::parse: there is no such {what}"));
        let Some(year) = self.year else { return Err(invalid("time::parse: the format has no year")) };
        let date = match self.ordinal {
            Some(ordinal) => Date::from_ordinal_date(year, ordinal),
            None => Month::try_from(self.month.unwrap_or(1))
                .and_then(|month| Date::from_calendar_date(year, month, self.day.unwrap_or(1))),
        };
        let hour = match self.afternoon {
            Some(afternoon) => self.hour % 12 + if afternoon { 12 } else { 0 },
            None => self.hour,
        };
        let time = Time::from_hms_milli(hour, self.minute, self.second, self.ms);
        let (date, time) = (date.map_err(|_| wrong("date"))?, time.map_err(|_| wrong("time of day"))?);
        Ok(at(date, time, self.offset.unwrap_or(UtcOffset::UTC)))
    }
}

/// A number of at most `max` digits.
fn number(text: &str, max: usize) -> Outcome<(u64, &str)> {
    let digits = text.bytes().take(max).take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    number.parse().map(|number| (number, rest)).map_err(|_| mismatch(text, "a number"))
}

/// Which of `names` the text starts with, in full or by its first three letters; counts from 1.
fn name<'t>(text: &'t str, names: &[&str]) -> Option<(u8, &'t str)> {
    let starts = |with: &str| text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    let at = names.iter().position(|name| starts(&name[..3]))?;
    let len = if starts(names[at]) { names[at].len() } else { 3 };
    Some((at as u8 + 1, &text[len..]))
}

fn mismatch(found: &str, expected: &str) -> Raised {
    let found: String = found.chars().take(32).collect();
    invalid(format!("time::parse: {expected} is expected, not {found:?}"))
}

/// `directive` is with its `%`, which is all there is of it at the end of a format.
fn unknown(directive: &str) -> Raised {
    let known = "%Y %y %m %d %e %j %H %I %M %S %L %p %A %a %B %b %u %w %s %z %Z %F %T %R %D %%";
    invalid(format!("time: {directive} is no part of a format; there are {known}"))
}
