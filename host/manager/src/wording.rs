//! serde's words for a value of the wrong form, said so that they tell a client what is allowed.
//!
//! serde names Rust's types and its own notions ("expected u64", "a map"). Texts that this program writes itself
//! pass as they are.

/// What serde says, in other words, without the place in the text: the field is named beside it.
pub(crate) fn reworded(text: &str) -> String {
    let text = text.split(" at line ").next().unwrap_or(text);
    known(text).unwrap_or_else(|| text.to_owned())
}

/// As [`reworded`], for a text that begins with the name of its field and a colon.
pub(crate) fn reworded_with_field(text: &str) -> (Option<&str>, String) {
    match text.split_once(": ") {
        Some((field, rest)) if field.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => {
            (Some(field), format!("{field}: {}", reworded(rest)))
        }
        _ => (None, reworded(text)),
    }
}

fn known(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix("unknown field ") {
        return Some(format!("there is no field {}", among(rest, "no field is allowed")));
    }
    if let Some(rest) = text.strip_prefix("unknown variant ") {
        return Some(format!("it cannot be {}", among(rest, "nothing is allowed")));
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

/// `` `x`, expected one of `a`, `b` `` as `x; allowed are a, b`.
fn among(text: &str, none: &str) -> String {
    let (name, expected) = text.split_once(", ").unwrap_or((text, ""));
    let names = expected.strip_prefix("expected ").map(|names| {
        let names = names.strip_prefix("one of ").unwrap_or(names);
        bare(&names.replace("` or `", "`, `"))
    });
    match names {
        Some(names) if names.contains(", ") => format!("{}; allowed are {names}", bare(name)),
        Some(name_allowed) => format!("{}; allowed is {name_allowed}", bare(name)),
        None => format!("{}; {none}", bare(name)),
    }
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
            ("missing field `value` at line 1 column 2", "the field value is missing"),
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
        let with_field = reworded_with_field("limit: invalid digit found in string");
        assert_eq!(with_field, (Some("limit"), "limit: allowed is a whole number".to_owned()));
    }
}
