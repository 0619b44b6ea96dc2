//! What the event of a dead letter says: how it is shown, and how it is changed for a replay.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use picloud_core::{ErrorCode, OutboxKind};
use picloud_store::DeadLetter;
use serde_json::value::RawValue;

use crate::{
    error::ApiError,
    extract::{check_json, read_object},
};

/// Headers of a kept request that say who sent it: whoever sees them could send others in the same name.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Stands for the value of such a header.
const HIDDEN: &str = "(hidden)";

/// Fields that are the client's own: any JSON.
const FREE: [&str; 3] = ["body", "value", "old_value"];

type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

fn fields(payload: &str) -> Result<Fields<'_>, ApiError> {
    serde_json::from_str(payload).map_err(|error| ApiError::internal("a stored event as JSON", &error))
}

fn text(fields: &BTreeMap<Cow<'_, str>, &RawValue>) -> Result<String, ApiError> {
    serde_json::to_string(fields).map_err(|error| ApiError::internal("an event as JSON", &error))
}

/// What the event says, for people: credentials of a kept request are hidden.
pub(super) fn shown(letter: &DeadLetter) -> Result<Box<RawValue>, ApiError> {
    let raw =
        |text| RawValue::from_string(text).map_err(|error| ApiError::internal("an event as JSON", &error));
    if OutboxKind::parse(&letter.kind) != Some(OutboxKind::Http) {
        return raw(letter.payload.clone());
    }
    let mut fields = fields(&letter.payload)?;
    let Some(Ok(headers)) =
        fields.get("headers").map(|headers| serde_json::from_str::<String>(headers.get()))
    else {
        return raw(letter.payload.clone());
    };
    let hidden = serde_json::value::to_raw_value(&without_credentials(&headers))
        .map_err(|error| ApiError::internal("headers as JSON", &error))?;
    fields.insert(Cow::Borrowed("headers"), &hidden);
    raw(text(&fields)?)
}

/// A header block, `name: value` in each line, without the values of credentials.
fn without_credentials(headers: &str) -> String {
    let line = |line: &str| match line.split_once(':') {
        Some((name, _)) if CREDENTIALS.contains(&name) => format!("{name}: {HIDDEN}\n"),
        _ => format!("{line}\n"),
    };
    headers.lines().map(line).collect()
}

/// What the event says with some of its fields replaced: an object whose fields are those of the event, of the same type
/// as there, or null.
pub(super) fn edited(letter: &DeadLetter, event: &RawValue) -> Result<String, ApiError> {
    check_json(event, "event")?;
    let refused = |detail: String| ApiError::new(ErrorCode::Invalid, detail).field("event");
    let edits = read_object(event, "event")?;
    let mut fields = fields(&letter.payload)?;
    for (name, value) in &edits {
        let Some(before) = fields.get(name.as_ref()) else {
            let known = fields.keys().map(AsRef::as_ref).collect::<Vec<&str>>().join(", ");
            return Err(refused(format!("event has no field {name:?}; it has {known}")));
        };
        let (old, new) = (kind_of(before), kind_of(value));
        let is_request = letter.kind == OutboxKind::Http.as_str();
        if (is_request || !FREE.contains(&name.as_ref())) && old != new && old != "null" && new != "null" {
            return Err(refused(format!("event: {name} is {new}; allowed is {old}, as it was, or null")));
        }
        if is_request && name == "body" {
            let body = serde_json::from_str::<String>(value.get()).unwrap_or_default();
            if STANDARD.decode(body).is_err() {
                return Err(refused("event: body of a request is base64".into()));
            }
        }
    }
    fields.extend(edits);
    text(&fields)
}

/// The type of a JSON value in words.
fn kind_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden_and_nothing_else() {
        let headers = "host: a.example\nauthorization: Bearer x: y\ncookie: s=1\nx-authorization: no\n";
        assert_eq!(
            without_credentials(headers),
            "host: a.example\nauthorization: (hidden)\ncookie: (hidden)\nx-authorization: no\n"
        );
    }
}
