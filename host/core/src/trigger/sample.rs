//! Events for trying a trigger out.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{KvOperation, TriggerSource};
use crate::{DeadLetterId, EventId};

/// What stands for a part that nothing says.
const TEST: &str = "test";

impl TriggerSource {
    /// What an event of such a trigger says, made up: a JSON object with all fields that a real one has of its kind. What the
    /// trigger waits for is in it where it says so exactly; of a pattern, `test` stands for the open part.
    pub fn sample(&self, now: OffsetDateTime) -> Value {
        let now = now.format(&Rfc3339).unwrap_or_default();
        match self {
            Self::Kv { collection, operations } => {
                let operation = operations.iter().next().unwrap_or(KvOperation::Set);
                let (value, old_value) = match operation {
                    KvOperation::Set => (json!({}), Value::Null),
                    KvOperation::Delete => (Value::Null, json!({})),
                };
                json!({
                    "collection": filled(collection.as_str()), "key": TEST, "operation": operation.as_str(),
                    "value": value, "old_value": old_value,
                })
            }
            Self::Cron(cron) => json!({
                "scheduled_for": now, "schedule": cron.schedule.as_str(), "timezone": cron.schedule.timezone(),
            }),
            Self::Queue { queue, .. } => json!({ "queue": queue, "priority": 0, "group": null, "body": {} }),
            Self::Topic { topic } => json!({ "topic": filled(topic.as_str()), "body": {} }),
            Self::Email { address } => {
                let to = format!("{}@example.org", address.as_ref().map_or(TEST, |address| address.as_str()));
                json!({
                    "from": { "name": "Test", "address": "sender@example.org" },
                    "to": [{ "name": null, "address": to }], "cc": [], "reply_to": [],
                    "subject": TEST, "date": now, "message_id": "<test@example.org>", "in_reply_to": null,
                    "references": [], "headers": [["Subject", TEST]], "text": TEST, "html": null,
                    "attachments": [], "ip": "192.0.2.1", "helo": "example.org", "auth": "unverified",
                    "auto_submitted": false, "truncated": [],
                    "envelope": { "from": "sender@example.org", "to": [to] },
                })
            }
            Self::DeadLetter { source_kinds, source_triggers } => json!({
                "dead_letter_id": DeadLetterId::generate(),
                "source": {
                    "id": EventId::generate(), "kind": source_kinds.first().map_or("queue", |kind| kind.as_str()),
                    "trigger": source_triggers.first().map_or(TEST, |trigger| trigger.as_str()), "created_at": now,
                    "event": { "queue": TEST, "priority": 0, "group": null, "body": {} },
                },
                "error": { "code": "script_error", "message": TEST },
                "attempts": 1,
            }),
        }
    }
}

/// A name that a pattern matches.
fn filled(pattern: &str) -> String {
    match pattern.strip_suffix('*') {
        Some(prefix) => format!("{prefix}{TEST}"),
        None => pattern.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TriggerSpec;

    fn sample(fields: &str) -> Value {
        let spec: TriggerSpec =
            serde_json::from_str(&format!(r#"{{"name":"t","script":"s",{fields}}}"#)).unwrap();
        spec.source.sample(OffsetDateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_sample_is_what_the_trigger_waits_for() {
        let kv = sample(r#""kind":"kv","collection":"users:*","operations":["delete"]"#);
        assert_eq!((&kv["collection"], &kv["operation"]), (&json!("users:test"), &json!("delete")));
        assert_eq!((&kv["value"], &kv["old_value"]), (&Value::Null, &json!({})));
        assert_eq!(sample(r#""kind":"topic","topic":"orders""#), json!({ "topic": "orders", "body": {} }));
        assert_eq!(sample(r#""kind":"queue","queue":"jobs""#)["queue"], "jobs");
        let cron = sample(r#""kind":"cron","cron":"@daily","timezone":"Europe/Berlin""#);
        assert_eq!(
            cron,
            json!({ "scheduled_for": "1970-01-01T00:00:00Z", "schedule": "@daily", "timezone": "Europe/Berlin" })
        );
        let letter = sample(r#""kind":"dead_letter","source_kinds":["cron"],"source_triggers":["nightly"]"#);
        assert_eq!(
            (&letter["source"]["kind"], &letter["source"]["trigger"]),
            (&json!("cron"), &json!("nightly"))
        );
        assert_eq!(
            sample(r#""kind":"email","address":"support""#)["to"][0]["address"],
            "support@example.org"
        );
    }
}
