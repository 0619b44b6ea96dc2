//! `name=value` pairs as query strings and forms have them (WHATWG URL, `application/x-www-form-urlencoded`).

use std::{borrow::Cow, collections::BTreeSet};

use rhai::{Array, Dynamic, Map};

/// Splits and decodes pairs.
pub(crate) fn parse_query(text: &str) -> Vec<(String, String)> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode_form(name), decode_form(value))
        })
        .collect()
}

/// The first value of each name.
pub(crate) fn first_values(pairs: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    let mut seen = BTreeSet::new();
    pairs
        .iter()
        .filter(move |(name, _)| seen.insert(name.as_str()))
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

/// An array of all values for each name.
pub(super) fn all_values<V>(pairs: &[(String, V)], to_value: impl Fn(&V) -> Dynamic) -> Map {
    let mut map = Map::new();
    for (name, value) in pairs {
        let values = map.entry(name.as_str().into()).or_insert_with(|| Dynamic::from_array(Array::new()));
        if let Ok(mut values) = values.as_array_mut() {
            values.push(to_value(value));
        }
    }
    map
}

/// `name=value&...` of a map; an array gives a pair for each item.
pub(crate) fn build_query(map: &Map) -> String {
    let mut out = String::new();
    let mut add = |name: &str, value: &Dynamic| {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(&encode_component(name));
        out.push('=');
        out.push_str(&encode_component(&value.to_string()));
    };
    for (name, value) in map {
        match value.as_array_ref() {
            Ok(items) => items.iter().for_each(|item| add(name, item)),
            Err(_) => add(name, value),
        }
    }
    out
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
pub(crate) fn encode_component(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    out
}

/// Decodes percent escapes; `None` where they are not UTF-8. A `%` without two digits stays.
pub(crate) fn decode_component(text: &str) -> Option<String> {
    String::from_utf8(decode_bytes(text.as_bytes())).ok()
}

/// The same with `+` as a space, and U+FFFD for what is not UTF-8, as browsers do.
fn decode_form(text: &str) -> String {
    let text: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    if !text.contains('%') {
        return text.into_owned();
    }
    String::from_utf8_lossy(&decode_bytes(text.as_bytes())).into_owned()
}

fn decode_bytes(text: &[u8]) -> Vec<u8> {
    let digit = |i: usize| text.get(i).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut i = 0;
    while i < text.len() {
        match (text[i], digit(i + 1), digit(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let pairs = parse_query("a=1&b=x+y%20z&&c&=d&a=2&e=%zz%4&f=%C3%A9%ff");
        let expected = [
            ("a", "1"),
            ("b", "x y z"),
            ("c", ""),
            ("", "d"),
            ("a", "2"),
            ("e", "%zz%4"),
            ("f", "é\u{fffd}"),
        ];
        assert!(pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).eq(expected));
        assert_eq!(first_values(&pairs).find(|(name, _)| *name == "a"), Some(("a", "1")));
    }

    #[test]
    fn components_round_trip() {
        for text in ["", "a b", "ä&=?/#%", "\0\u{1f600}"] {
            assert_eq!(decode_component(&encode_component(text)).as_deref(), Some(text));
        }
        assert_eq!(encode_component("a b/ü~"), "a%20b%2F%C3%BC~");
        assert_eq!(decode_component("%ff"), None);
    }
}
