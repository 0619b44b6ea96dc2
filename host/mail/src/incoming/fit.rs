//! Making an event fit where its app takes less than the listener.

use serde_json::{Map, Value, json};

use super::budget::Budget;

/// Cuts the event until it has at most `most` bytes of JSON, or nothing is left to cut: first the contents of attachments,
/// the largest first, then the HTML, the text, and what lists much. `truncated` names what was cut.
pub(super) fn fit(fields: &mut Map<String, Value>, most: usize) {
    let mut cut: Vec<&str> = Vec::new();
    while size(fields) > most && omit_largest(fields) {
        cut.push("attachments");
    }
    for name in ["html", "text"] {
        shorten(fields, name, most, &mut cut);
    }
    for name in ["attachments", "headers", "references", "cc", "to", "reply_to"] {
        let is_filled = fields.get(name).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        if is_filled && size(fields) > most {
            fields.insert(name.to_owned(), json!([]));
            cut.push(name);
        }
    }
    shorten(fields, "subject", most, &mut cut);
    if let Some(Value::Array(truncated)) = fields.get_mut("truncated") {
        for name in cut {
            if !truncated.iter().any(|known| known == name) {
                truncated.push(name.into());
            }
        }
    }
}

fn size(fields: &Map<String, Value>) -> usize {
    length(&json!(fields))
}

fn length(value: &Value) -> usize {
    value.to_string().len()
}

/// Leaves out the largest content that is there. Answers whether there was one.
fn omit_largest(fields: &mut Map<String, Value>) -> bool {
    let attachments = fields.get_mut("attachments").and_then(Value::as_array_mut).into_iter().flatten();
    let contents = attachments.filter_map(Value::as_object_mut).filter(|told| told.contains_key("content"));
    let Some(largest) = contents.max_by_key(|told| told["content"].as_str().map_or(0, str::len)) else {
        return false;
    };
    largest.remove("content");
    largest.insert("omitted".to_owned(), true.into());
    true
}

/// Cuts a text by as much as the event is too long.
fn shorten(fields: &mut Map<String, Value>, name: &'static str, most: usize, cut: &mut Vec<&str>) {
    let over = size(fields).saturating_sub(most);
    let Some(text) = fields.get(name).filter(|text| over > 0 && text.is_string()) else { return };
    let room = length(text).saturating_sub(over + 2);
    let text = Budget::new(room).take(name, text.as_str().unwrap_or_default());
    fields.insert(name.to_owned(), text.into());
    cut.push(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Map<String, Value> {
        let attachment = |bytes: usize| json!({ "name": "a", "size": bytes, "content": "A".repeat(bytes) });
        let Value::Object(fields) = json!({
            "from": "a@example.org", "to": ["b@example.org"], "cc": [], "reply_to": [], "references": [],
            "subject": "s".repeat(100), "headers": [["x", "h".repeat(1000)]], "text": "\n\"é".repeat(500),
            "html": "h".repeat(3000), "attachments": [attachment(2000), attachment(5000)], "truncated": [],
        }) else {
            unreachable!()
        };
        fields
    }

    #[test]
    fn an_event_that_fits_stays_as_it_is() {
        let mut fields = event();
        fit(&mut fields, 100_000);
        assert_eq!(fields, event());
    }

    #[test]
    fn contents_go_first_and_then_texts_each_only_as_far_as_is_needed() {
        let mut fields = event();
        let whole = size(&fields);
        fit(&mut fields, whole - 1_000);
        assert!(fields["attachments"][0]["content"].is_string());
        assert_eq!(fields["attachments"][1]["omitted"], true);
        assert_eq!(fields["attachments"][1]["size"], 5000);
        assert_eq!(fields["truncated"], json!(["attachments"]));
        let mut fields = event();
        fit(&mut fields, 5_000);
        assert!(fields["html"].as_str().unwrap().len() > 500 && fields["text"] == event()["text"]);
        assert_eq!(fields["truncated"], json!(["attachments", "html"]));
    }

    #[test]
    fn whatever_is_asked_for_is_kept_to_down_to_what_every_event_has() {
        for most in (400..12_000).step_by(97) {
            let mut fields = event();
            fit(&mut fields, most);
            // The names of what was cut come on top.
            assert!(size(&fields) <= most + 80, "{most}: {}", size(&fields));
        }
        let mut fields = event();
        fit(&mut fields, 1);
        assert_eq!(fields["from"], "a@example.org");
    }
}
