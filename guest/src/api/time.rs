//! `time::`: points in time as milliseconds since the Unix epoch, in UTC or at a fixed offset.
//!
//! Named time zones are left out on purpose: their rules would add some 400 KB to every script's image.

use std::rc::Rc;

use rhai::{Dynamic, Map};
use time::{
    Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset,
    format_description::well_known::{Rfc2822, Rfc3339},
};

use super::{Context, Part};
use crate::raise::{Outcome, invalid};

mod strftime;

pub(super) fn module(context: &Rc<Context>) -> Part {
    let mut part = Part::new("time");
    let shared = context.clone();
    part.add("now()", move || Ok(shared.host("time::now")?.now()));
    let shared = context.clone();
    part.add("now_iso()", move || Ok(iso(moment(shared.host("time::now_iso")?.now(), UtcOffset::UTC)?)));
    part.add("parse(text)", parse);
    part.add("parse(text, format)", strftime::parse);
    part.add("format(ms)", |ms: i64| Ok(iso(moment(ms, UtcOffset::UTC)?)));
    part.add("format(ms, format)", |ms: i64, format: &str| {
        strftime::format(moment(ms, UtcOffset::UTC)?, format)
    });
    part.add("format(ms, format, offset)", |ms: i64, format: &str, at: &str| {
        strftime::format(moment(ms, offset(at)?)?, format)
    });
    part.add("add(ms, amount, unit)", add);
    part.add("parts(ms)", |ms: i64| Ok(parts(moment(ms, UtcOffset::UTC)?)));
    part.add("parts(ms, offset)", |ms: i64, at: &str| Ok(parts(moment(ms, offset(at)?)?)));
    part
}

fn moment(ms: i64, offset: UtcOffset) -> Outcome<OffsetDateTime> {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok();
    moment.and_then(|moment| moment.checked_to_offset(offset)).ok_or_else(out_of_range)
}

fn out_of_range() -> crate::raise::Raised {
    invalid("time: the year is outside of -9999 to 9999")
}

fn milliseconds(moment: OffsetDateTime) -> i64 {
    (moment.unix_timestamp_nanos().div_euclid(1_000_000)) as i64
}

/// RFC 3339 with milliseconds, as JavaScript's `toISOString`.
fn iso(moment: OffsetDateTime) -> String {
    let (year, month, day) = moment.to_calendar_date();
    let (hour, minute, second, ms) = moment.to_hms_milli();
    let sign = if year < 0 { "-" } else { "" };
    let (year, month) = (year.unsigned_abs(), u8::from(month));
    format!("{sign}{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// RFC 3339, a date alone, a date and time without an offset (UTC), or the form of HTTP and mail headers.
fn parse(text: &str) -> Outcome<i64> {
    let text = text.trim();
    if let Ok(moment) =
        OffsetDateTime::parse(text, &Rfc3339).or_else(|_| OffsetDateTime::parse(text, &Rfc2822))
    {
        return Ok(milliseconds(moment));
    }
    for format in ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(ms) = strftime::parse(text, format) {
            return Ok(ms);
        }
    }
    let shown: String = text.chars().take(64).collect();
    Err(invalid(format!("time::parse: {shown:?} is no time like 2025-01-31T08:30:00Z or 2025-01-31")))
}

/// `Z`, `UTC`, `+02:00`, `+0200` or `-05`.
fn offset(text: &str) -> Outcome<UtcOffset> {
    let wrong =
        || invalid(format!("time: {text:?} is no offset like +02:00, -05:30 or Z; zones have no names here"));
    if matches!(text, "Z" | "z" | "UTC" | "GMT") {
        return Ok(UtcOffset::UTC);
    }
    let (sign, digits) = match text.split_at_checked(1) {
        Some(("+", digits)) => (1, digits),
        Some(("-", digits)) => (-1, digits),
        _ => return Err(wrong()),
    };
    let digits = digits.replace(':', "");
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number = |from: usize| digits.get(from..from + 2).map_or(Ok(0), str::parse::<i8>);
    match (number(0), number(2)) {
        (Ok(hours), Ok(minutes)) if minutes < 60 => {
            UtcOffset::from_hms(sign * hours, sign * minutes, 0).map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}

/// Days and shorter units have a fixed length; months and years keep the day, or take the month's last.
fn add(ms: i64, amount: i64, unit: &str) -> Outcome<i64> {
    let scale = match unit.strip_suffix('s').unwrap_or(unit) {
        "m" | "millisecond" => 1,
        "second" => 1_000,
        "minute" => 60_000,
        "hour" => 3_600_000,
        "day" => 86_400_000,
        "week" => 604_800_000,
        "month" => return add_months(ms, amount),
        "year" => return add_months(ms, amount.checked_mul(12).ok_or_else(out_of_range)?),
        _ => {
            return Err(invalid(format!(
                "time::add: {unit:?} is no unit; there are ms, seconds, minutes, hours, days, weeks, months and years"
            )));
        }
    };
    let moved = amount.checked_mul(scale).and_then(|by| ms.checked_add(by)).ok_or_else(out_of_range)?;
    moment(moved, UtcOffset::UTC)?;
    Ok(moved)
}

fn add_months(ms: i64, months: i64) -> Outcome<i64> {
    let start = moment(ms, UtcOffset::UTC)?;
    let (year, month, day) = start.to_calendar_date();
    let total = i64::from(year) * 12 + i64::from(u8::from(month)) - 1;
    let total = total.checked_add(months).ok_or_else(out_of_range)?;
    let year = i32::try_from(total.div_euclid(12)).map_err(|_| out_of_range())?;
    let month = Month::try_from(total.rem_euclid(12) as u8 + 1).map_err(|_| out_of_range())?;
    if !(-9999..=9999).contains(&year) {
        return Err(out_of_range());
    }
    let date =
        Date::from_calendar_date(year, month, day.min(month.length(year))).map_err(|_| out_of_range())?;
    Ok(milliseconds(start.replace_date(date)))
}

fn parts(moment: OffsetDateTime) -> Map {
    let (year, month, day) = moment.to_calendar_date();
    let (hour, minute, second, ms) = moment.to_hms_milli();
    let numbers = [
        ("year", i64::from(year)),
        ("month", i64::from(u8::from(month))),
        ("day", i64::from(day)),
        ("hour", i64::from(hour)),
        ("minute", i64::from(minute)),
        ("second", i64::from(second)),
        ("ms", i64::from(ms)),
        ("weekday", i64::from(moment.weekday().number_from_monday())),
        ("yearday", i64::from(moment.ordinal())),
    ];
    numbers.into_iter().map(|(name, number)| (name.into(), Dynamic::from(number))).collect()
}

/// Milliseconds of a date and a time of day at an offset.
fn at(date: Date, time: Time, offset: UtcOffset) -> i64 {
    let moment = PrimitiveDateTime::new(date, time).assume_utc();
    milliseconds(moment) - Duration::seconds(i64::from(offset.whole_seconds())).whole_milliseconds() as i64
}
