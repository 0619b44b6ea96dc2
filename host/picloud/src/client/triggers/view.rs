//! Triggers as people read them.

use serde::Deserialize;

use crate::units;

/// A trigger as the API shows it.
#[derive(Debug, Deserialize)]
pub(in crate::client) struct Trigger {
    pub(super) id: String,
    pub(in crate::client) name: String,
    pub(super) kind: String,
    pub(super) script: String,
    pub(in crate::client) enabled: bool,
    pub(super) registered_by: String,
    pub(super) next_at: Option<String>,
    pub(super) created_at: String,
    max_attempts: Option<u16>,
    retry_base_delay_ms: Option<u64>,
    retry_max_delay_ms: Option<u64>,
    collection: Option<String>,
    operations: Option<Vec<String>>,
    cron: Option<String>,
    timezone: Option<String>,
    missed: Option<String>,
    max_lateness_ms: Option<u64>,
    jitter_ms: Option<u64>,
    queue: Option<String>,
    concurrency: Option<u32>,
    topic: Option<String>,
    address: Option<String>,
    source_kinds: Option<Vec<String>>,
    source_triggers: Option<Vec<String>>,
    /// What is told where it was put.
    #[serde(default)]
    pub(in crate::client) warnings: Vec<String>,
}

impl Trigger {
    /// What it waits for, in a few words.
    pub(super) fn waits_for(&self) -> String {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let list = |field: &Option<Vec<String>>| field.as_deref().unwrap_or_default().join(", ");
        match self.kind.as_str() {
            "kv" => format!("{} of {}", list(&self.operations), text(&self.collection)),
            "cron" => format!("{} in {}", text(&self.cron), text(&self.timezone)),
            "queue" => format!("messages of {}", text(&self.queue)),
            "topic" => text(&self.topic),
            "email" => format!("mail to {}@", text(&self.address)),
            "dead_letter" => {
                let of = |names: String, what: &str| {
                    if names.is_empty() { String::new() } else { format!(" of {what} {names}") }
                };
                let (kinds, triggers) = (list(&self.source_kinds), list(&self.source_triggers));
                format!("dead letters{}{}", of(kinds, "kind"), of(triggers, "trigger"))
            }
            other => other.to_owned(),
        }
    }

    /// `nightly: 0 3 * * * in Europe/Berlin runs report`.
    pub(in crate::client) fn sentence(&self) -> String {
        format!("{}: {} runs {}", self.name, self.waits_for(), self.script)
    }

    /// Everything about it, as names and values.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let time = |milliseconds: Option<u64>| milliseconds.map(units::exact_millis);
        let lines = [
            ("name", Some(self.name.clone())),
            ("kind", Some(self.kind.clone())),
            ("waits for", Some(self.waits_for())),
            ("runs", Some(self.script.clone())),
            ("enabled", Some(if self.enabled { "yes" } else { "no" }.to_owned())),
            ("next", self.next_at.as_deref().map(clock_with_offset)),
            ("missed", self.missed.clone()),
            ("max lateness", time(self.max_lateness_ms)),
            ("jitter", time(self.jitter_ms)),
            ("concurrency", self.concurrency.map(|number| number.to_string())),
            ("attempts", self.max_attempts.map(|number| number.to_string())),
            ("first wait", time(self.retry_base_delay_ms)),
            ("longest wait", time(self.retry_max_delay_ms)),
            ("id", Some(self.id.clone())),
            ("registered by", Some(self.registered_by.clone())),
            ("added", Some(clock_with_offset(&self.created_at))),
        ];
        lines.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// A time of the API as the clock showed it: `2026-05-20T03:00:00+02:00` as `2026-05-20 03:00:00`.
fn clock(time: &str) -> String {
    let seconds = time.get(..19).unwrap_or(time);
    seconds.replacen('T', " ", 1)
}

/// As [`clock`], with how far the clock was from UTC: `2026-05-20 03:00:00 +02:00`.
pub(super) fn clock_with_offset(time: &str) -> String {
    let rest = time.get(19..).unwrap_or_default();
    match rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit()) {
        "" | "Z" => format!("{} UTC", clock(time)),
        offset => format!("{} {offset}", clock(time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_the_clock_of_their_zone() {
        assert_eq!(clock("2026-05-20T03:00:00-05:00"), "2026-05-20 03:00:00");
        assert_eq!(clock_with_offset("2026-05-20T03:00:00-05:00"), "2026-05-20 03:00:00 -05:00");
        assert_eq!(clock_with_offset("2026-05-20T03:00:00.123456Z"), "2026-05-20 03:00:00 UTC");
        assert_eq!(clock_with_offset("soon"), "soon UTC");
    }
}
