//! `base64::`, `url::` and `html::`.

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use rhai::{Blob, Dynamic, ImmutableString, Map};

use super::{Part, bytes_of};
use crate::{
    raise::{Outcome, invalid},
    request::{build_query, decode_component, encode_component, first_values, parse_query},
};

/// Padding is written for the standard alphabet only, and never asked for.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
pub(super) const BASE64_URL: GeneralPurpose =
    GeneralPurpose::new(&URL_SAFE, LENIENT.with_encode_padding(false));

pub(super) fn base64_module() -> Part {
    let mut part = Part::new("base64");
    part.add("encode(data)", |data: Dynamic| Ok(BASE64.encode(bytes_of(&data, "base64::encode")?)));
    part.add("encode_url(data)", |data: Dynamic| {
        Ok(BASE64_URL.encode(bytes_of(&data, "base64::encode_url")?))
    });
    part.add("decode(text)", |text: &str| decode("base64::decode", text));
    part.add("decode_text(text)", |text: &str| {
        let bytes = decode("base64::decode_text", text)?;
        String::from_utf8(bytes).map_err(|_| invalid("base64::decode_text: the bytes are not text in UTF-8"))
    });
    part
}

/// Decodes either alphabet; spaces and line breaks do not count.
pub(super) fn decode(function: &str, text: &str) -> Outcome<Blob> {
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let alphabet = if text.contains(['-', '_']) { BASE64_URL } else { BASE64 };
    alphabet.decode(text).map_err(|error| invalid(format!("{function}: this is not base64: {error}")))
}

pub(super) fn url_module() -> Part {
    let mut part = Part::new("url");
    part.add("encode(text)", |text: &str| Ok(encode_component(text)));
    part.add("decode(text)", |text: &str| {
        decode_component(text).ok_or_else(|| invalid("url::decode: the decoded bytes are not text in UTF-8"))
    });
    part.add("parse_query(text)", |text: &str| {
        let pairs = parse_query(text.strip_prefix('?').unwrap_or(text));
        let map: Map = first_values(&pairs)
            .map(|(name, value)| (name.into(), ImmutableString::from(value).into()))
            .collect();
        Ok(map)
    });
    part.add("build_query(map)", |map: Map| Ok(build_query(&map)));
    part
}

pub(super) fn html_module() -> Part {
    let mut part = Part::new("html");
    part.add("escape(value)", |value: Dynamic| Ok(escape(&value.to_string())));
    part
}

/// What is safe as text and in quoted attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
