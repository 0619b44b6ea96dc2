//! `queue::`: messages, which a script of the app handles one by one.

use std::{rc::Rc, time::Duration};

use rhai::{Dynamic, Map};

use super::{Context, Part, from_host, optional_text, unknown_option, wrong_type};
use crate::{
    MessageOptions, json,
    raise::{Outcome, invalid},
};

const SEND: &str = "queue::send";

const OPTIONS: [&str; 5] = ["delay", "delay_ms", "priority", "dedupe_key", "group"];

pub(super) fn module(context: &Rc<Context>) -> Part {
    let mut part = Part::new("queue");
    let shared = context.clone();
    part.add("send(queue, body)", move |queue: &str, body: Dynamic| send(&shared, queue, &body, Map::new()));
    let shared = context.clone();
    part.add("send(queue, body, options)", move |queue: &str, body: Dynamic, options: Map| {
        send(&shared, queue, &body, options)
    });
    part
}

fn send(context: &Context, queue: &str, body: &Dynamic, options: Map) -> Outcome<String> {
    let host = context.host(SEND)?;
    let options = read(options)?;
    let body = json::write_body(body).map_err(|problem| invalid(format!("{SEND}: {problem}")))?;
    from_host(host.send(queue, &body, &options))
}

fn read(options: Map) -> Outcome<MessageOptions> {
    if options.contains_key("delay") && options.contains_key("delay_ms") {
        return Err(invalid(format!("{SEND}: there are both `delay`, in seconds, and `delay_ms`")));
    }
    let mut read = MessageOptions::default();
    for (name, value) in options {
        match name.as_str() {
            _ if value.is_unit() && OPTIONS.contains(&name.as_str()) => {}
            "delay" => read.delay_ms = seconds(&value)?,
            "delay_ms" => read.delay_ms = milliseconds(&value)?,
            "priority" => {
                let integer = value.as_int();
                read.priority =
                    integer.map_err(|_| wrong_type(&format!("{SEND}: priority"), "an integer", &value))?;
            }
            "dedupe_key" => read.dedupe_key = optional_text(SEND, "dedupe_key", &value)?,
            "group" => read.group = optional_text(SEND, "group", &value)?,
            other => return Err(unknown_option(SEND, other, &OPTIONS)),
        }
    }
    Ok(read)
}

fn milliseconds(value: &Dynamic) -> Outcome<u64> {
    let whole = value.as_int().ok().and_then(|number| u64::try_from(number).ok());
    whole.ok_or_else(|| invalid(format!("{SEND}: delay_ms is {value}; allowed is a whole number from 0")))
}

/// Seconds, also a part of one. What is too many is for the host to refuse.
fn seconds(value: &Dynamic) -> Outcome<u64> {
    let whole = value.as_int().ok().and_then(|number| u64::try_from(number).ok());
    let part = value.as_float().ok().filter(|number| number.is_finite() && *number >= 0.0);
    match (whole, part) {
        (Some(whole), _) => Ok(whole.saturating_mul(1_000)),
        (None, Some(part)) => {
            let delay = Duration::try_from_secs_f64(part).unwrap_or(Duration::MAX);
            Ok(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
        }
        (None, None) => {
            Err(invalid(format!("{SEND}: delay is {value}; allowed is a number of seconds from 0")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_in_seconds_or_milliseconds() {
        let delay =
            |name: &str, value: Dynamic| read(Map::from([(name.into(), value)])).map(|read| read.delay_ms);
        assert_eq!(delay("delay", 90_i64.into()).ok(), Some(90_000));
        assert_eq!(delay("delay", 1.5_f64.into()).ok(), Some(1_500));
        assert_eq!(delay("delay_ms", 7_i64.into()).ok(), Some(7));
        assert_eq!(delay("delay", i64::MAX.into()).ok(), Some(u64::MAX));
        assert_eq!(delay("delay", 1e300_f64.into()).ok(), Some(u64::MAX));
        for wrong in [(-1_i64).into(), f64::NAN.into(), (-0.5_f64).into(), Dynamic::from("1")] {
            assert!(delay("delay", wrong).is_err());
        }
        assert!(delay("delay_ms", 1.5_f64.into()).is_err());
    }
}
