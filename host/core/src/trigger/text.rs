//! An event as its handler gets it.

use std::fmt::Write as _;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::TriggerKind;
use crate::{EventId, TriggerName};

/// What every kind of event has, beside what its payload says.
#[derive(Clone, Copy, Debug)]
pub struct EventHead<'a> {
    /// Its id: the same at each attempt.
    pub id: EventId,
    /// The kind of trigger that handles it.
    pub kind: TriggerKind,
    /// The trigger; none where its script is named by a replay.
    pub trigger: Option<&'a TriggerName>,
    /// Which attempt it is, from 1.
    pub attempt: u16,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

impl EventHead<'_> {
    /// The whole event as JSON text; `payload` is a JSON object as text.
    pub fn with(&self, payload: &str) -> String {
        let Self { id, kind, trigger, attempt, created_at } = self;
        let (kind, created_at) = (kind.as_str(), created_at.format(&Rfc3339).unwrap_or_default());
        let mut text = String::with_capacity(payload.len() + 192);
        // Names of triggers have nothing that JSON would escape. Writing to a string cannot fail.
        let _ = match trigger {
            Some(trigger) => write!(text, r#"{{"id":"{id}","kind":"{kind}","trigger":"{trigger}","#),
            None => write!(text, r#"{{"id":"{id}","kind":"{kind}","trigger":null,"#),
        };
        let _ = write!(text, r#""attempt":{attempt},"created_at":"{created_at}""#);
        let rest = payload.trim_start().strip_prefix('{').unwrap_or("}");
        if !rest.trim_start().starts_with('}') {
            text.push(',');
        }
        text.push_str(rest);
        text
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_payload_follows_what_every_kind_has() {
        let trigger = TriggerName::new("jobs").unwrap();
        let id: EventId = "0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b".parse().unwrap();
        let created_at = datetime!(2026-03-01 12:00 UTC);
        let head =
            EventHead { id, kind: TriggerKind::Queue, trigger: Some(&trigger), attempt: 2, created_at };
        let expected = serde_json::json!({
            "id": id, "kind": "queue", "trigger": "jobs", "attempt": 2, "created_at": "2026-03-01T12:00:00Z", "body": [1],
        });
        for payload in [r#"{"body":[1]}"#, " { \"body\" : [1] } "] {
            assert_eq!(serde_json::from_str::<serde_json::Value>(&head.with(payload)).unwrap(), expected);
        }
        for payload in ["{}", "{ }", ""] {
            let head = EventHead { trigger: None, ..head };
            let event: serde_json::Value = serde_json::from_str(&head.with(payload)).unwrap();
            assert_eq!((event.as_object().unwrap().len(), &event["trigger"]), (5, &serde_json::Value::Null));
        }
    }
}
