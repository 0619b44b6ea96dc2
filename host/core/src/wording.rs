//! serde's words for a value of the wrong form, said so that they tell a client what is allowed.
//!
//! serde names Rust's types and its own notions ("expected u64", "a map"). Texts that this program writes itself
//! pass as they are.

/// The longest sentence, in bytes: what a client gave is repeated in it, and may be as long as a body.
const MAX_BYTES: usize = 500;

/// What serde says, in other words.
pub fn reworded(text: &str) -> String {
    let mut said = known(text).unwrap_or_else(|| text.to_owned());
    if said.len() > MAX_BYTES {
        said.truncate(said.floor_char_boundary(MAX_BYTES));
        said.push('…');
    }
    said
}

/// As [`reworded`], without the place in the text: the field is named beside it.
pub fn reworded_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // A line of zero is that of no place, which is not written then.
    let place = format!(" at line {} column {}", error.line(), error.column());
    let said = if error.line() > 0 { text.strip_suffix(&place) } else { None };
    reworded(said.unwrap_or(&text))
}

/// As [`reworded`], for a text that begins with the name of its field and a colon.
pub fn reworded_with_field(text: &str) -> (Option<&str>, String) {
    match text.split_once(": ") {
        Some((field, rest)) if field.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => {
            (Some(field), format!("{field}: {}", reworded(rest)))
        }
        _ => (None, reworded(text)),
    }
}

fn known(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix("unknown field ") {
        return Some(format!(
            "there is no field {}",
            among(rest, "there are no fields", "no field is allowed")?
        ));
    }
    if let Some(rest) = text.strip_prefix("unknown variant ") {
        return Some(format!("it cannot be {}", among(rest, "there are no variants", "nothing is allowed")?));
    }
    if let Some(rest) = text.strip_prefix("missing field ") {
        return Some(format!("the field {} is missing", bare(rest)));
    }
    if let Some(rest) = text.strip_prefix("duplicate field ") {
        return Some(format!("the field {} is given twice", bare(rest)));
    }
    for prefix in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some((given, expected)) =
            text.strip_prefix(prefix).and_then(|rest| rest.rsplit_once(", expected "))
        {
            return Some(format!("it is {}; allowed is {}", given_kind(given), expected_kind(expected)));
        }
    }
    Some(match text {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "allowed is a whole number".to_owned()
        }
        "number too large to fit in target type" => "the number is too large".to_owned(),
        "number too small to fit in target type" => "the number is too small".to_owned(),
        "provided string was not `true` or `false`" => "allowed is true or false".to_owned(),
        _ => return None,
    })
}

/// `` `x`, expected one of `a`, `b` `` as `x; allowed are a, b`, and `` `x`, `` with `serdes_none` as `x; ` with
/// `none`. The name is the client's and may be anything; what comes last is serde's.
fn among(text: &str, serdes_none: &str, none: &str) -> Option<String> {
    let text = text.strip_prefix('`')?;
    if let Some(name) = text.strip_suffix(serdes_none).and_then(|rest| rest.strip_suffix("`, ")) {
        return Some(format!("{name}; {none}"));
    }
    let (name, expected) = text.rsplit_once("`, expected ")?;
    let names = expected.strip_prefix("one of ").unwrap_or(expected);
    let names = bare(&names.replace("` or `", "`, `"));
    let are = if names.contains(", ") { "are" } else { "is" };
    Some(format!("{name}; allowed {are} {names}"))
}

fn bare(text: &str) -> String {
    text.replace('`', "")
}

fn given_kind(text: &str) -> String {
    let named = |kind: &str| text.strip_prefix(kind).map(bare);
    if let Some(number) = named("integer ").or_else(|| named("floating point ")) {
        return format!("the number {number}");
    }
    if let Some(truth) = named("boolean ") {
        return truth;
    }
    match text.strip_prefix("string ") {
        Some(string) => format!("the text {string}"),
        None => match text {
            "map" => "an object".to_owned(),
            "sequence" => "an array".to_owned(),
            other => bare(other),
        },
    }
}

fn expected_kind(text: &str) -> String {
    match text {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a string" | "a borrowed string" => "a text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a map" => "an object".to_owned(),
        _ if text.starts_with("struct ") => "an object".to_owned(),
        other => bare(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serdes_words_become_sentences() {
        let cases = [
            ("missing field `value`", "the field value is missing"),
            ("duplicate field `fuel`", "the field fuel is given twice"),
            ("unknown field `x`, expected one of `a`, `b`", "there is no field x; allowed are a, b"),
            ("unknown field `x`, expected `a` or `b`", "there is no field x; allowed are a, b"),
            ("unknown field `x`, expected `a`", "there is no field x; allowed is a"),
            ("unknown field `x`, there are no fields", "there is no field x; no field is allowed"),
            ("unknown variant `async`, expected `sync`", "it cannot be async; allowed is sync"),
            (
                "invalid value: integer `-1`, expected u64",
                "it is the number -1; allowed is a whole number that is not negative",
            ),
            ("invalid type: string \"1\", expected i32", "it is the text \"1\"; allowed is a whole number"),
            ("invalid type: map, expected a string", "it is an object; allowed is a text"),
            ("invalid type: sequence, expected struct Bundle", "it is an array; allowed is an object"),
            ("invalid digit found in string", "allowed is a whole number"),
            ("script name must not be empty", "script name must not be empty"),
        ];
        for (serde, ours) in cases {
            assert_eq!(reworded(serde), ours);
        }
    }

    #[test]
    fn the_name_that_a_client_gave_is_shown_whole() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct One {
            #[expect(dead_code, reason = "only its name matters")]
            a: Option<u8>,
        }

        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}

        let hostile = [
            "x at line 1 column 2",
            "x, y",
            "x`, expected `y",
            "x`, expected one of `y`, `z",
            "x`, there are no fields",
            "`",
        ];
        for name in hostile {
            let json = serde_json::json!({ name: 1 }).to_string();
            let of = |error: serde_json::Error| reworded_json(&error);
            let one = of(serde_json::from_str::<One>(&json).unwrap_err());
            assert_eq!(one, format!("there is no field {name}; allowed is a"));
            let none = of(serde_json::from_str::<Nothing>(&json).unwrap_err());
            assert_eq!(none, format!("there is no field {name}; no field is allowed"));
            let json = serde_json::json!({ "a": name }).to_string();
            let value = of(serde_json::from_str::<One>(&json).unwrap_err());
            assert_eq!(
                value,
                format!("it is the text {name:?}; allowed is a whole number that is not negative")
            );
        }
    }

    #[test]
    fn what_is_repeated_is_cut() {
        let long = "é".repeat(1_000_000);
        for text in [format!("unknown field `{long}`, expected `a`"), long] {
            let said = reworded(&text);
            assert!(said.len() < 510 && said.ends_with('…'), "{}", said.len());
        }
    }

    #[test]
    fn a_field_in_front_is_kept_in_front() {
        let with_field = reworded_with_field("limit: invalid digit found in string");
        assert_eq!(with_field, (Some("limit"), "limit: allowed is a whole number".to_owned()));
    }
}
