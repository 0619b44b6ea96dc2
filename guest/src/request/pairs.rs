//! `name=value` pairs as query strings and forms have them (WHATWG URL, `application/x-www-form-urlencoded`).

use std::{borrow::Cow, collections::BTreeSet};

use rhai::{Array, Dynamic, Map};

/// Splits and decodes the pairs of a query string. What is not UTF-8 becomes U+FFFD, as in browsers: a link of somebody
/// else may be broken, and what is right in it still counts.
pub(crate) fn parse_query(text: &str) -> Vec<(String, String)> {
    let lossy = |part: &str| String::from_utf8_lossy(&decode_form(part)).into_owned();
    parts(text).map(|(name, value)| (lossy(name), lossy(value))).collect()
}

/// Splits and decodes the pairs of a form; `None` where one is not UTF-8: what is stored of it would not be what was
/// sent.
pub(super) fn parse_form(text: &str) -> Option<Vec<(String, String)>> {
    let exact = |part: &str| String::from_utf8(decode_form(part)).ok();
    parts(text).map(|(name, value)| Some((exact(name)?, exact(value)?))).collect()
}

fn parts(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
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

/// The same with `+` as a space, as bytes.
fn decode_form(text: &str) -> Vec<u8> {
    let text: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    if text.contains('%') { decode_bytes(text.as_bytes()) } else { text.into_owned().into_bytes() }
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
    fn a_form_is_exact_or_none() {
        assert_eq!(parse_form("a=%C3%A9+b"), Some(vec![("a".into(), "é b".into())]));
        assert_eq!(parse_form("a=1&b=%ff"), None);
        assert_eq!(parse_form("%ff=1"), None);
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
