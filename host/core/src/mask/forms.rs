//! The forms in which a script may write a value.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use zeroize::Zeroizing;

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// What percent-encoding leaves as it is: RFC 3986's unreserved characters, those of JavaScript's
/// `encodeURIComponent`, those of HTML forms.
const UNRESERVED: [&[u8]; 3] = [b"-_.~", b"-_.!~*'()", b"*-._"];

/// Every form of a value: itself, in lower case, base64, hexadecimal, percent-encoding, and the escapes of JSON and of debug output.
pub(super) fn of(value: &str) -> Vec<Zeroizing<Vec<u8>>> {
    let mut forms: Vec<Zeroizing<Vec<u8>>> = Vec::new();
    let mut add = |text: String| {
        let form = Zeroizing::new(text.into_bytes());
        if !forms.contains(&form) {
            forms.push(form);
        }
    };
    add(value.to_owned());
    // Host names and header names are written so.
    add(value.to_ascii_lowercase());
    for engine in [STANDARD, URL_SAFE] {
        let padded = engine.encode(value);
        add(padded.trim_end_matches('=').to_owned());
        add(padded);
        for before in 0..3 {
            add(base64_within(&engine, value, before));
        }
    }
    for digits in [LOWER, UPPER] {
        add(value.bytes().flat_map(|byte| hex(byte, digits)).collect());
        for unreserved in UNRESERVED {
            for space in ["%20", "+"] {
                add(percent(value, unreserved, space, digits));
            }
        }
    }
    let json = in_json(value);
    // JSON in JSON: a text that was made of an object, in the data of a log line.
    add(in_json(&json));
    for digits in [LOWER, UPPER] {
        add(ascii(&json, digits));
    }
    add(json.replace('/', "\\/"));
    add(json);
    let debug = format!("{value:?}");
    add(debug[1..debug.len() - 1].to_owned());
    forms
}

/// The characters of base64 that a value always gives where `before` bytes of a group of three come before it, and
/// anything after it: those that it shares with its neighbours are left out.
fn base64_within(engine: &impl base64::Engine, value: &str, before: usize) -> String {
    let mut bytes = Zeroizing::new(vec![0; before]);
    bytes.extend_from_slice(value.as_bytes());
    let encoded = Zeroizing::new(engine.encode(&*bytes));
    // Six bits a character: the first that has none of the bytes before, the last that has none of those after.
    encoded[(before * 8).div_ceil(6)..bytes.len() * 8 / 6].to_owned()
}

fn hex(byte: u8, digits: &[u8; 16]) -> [char; 2] {
    [byte >> 4, byte & 15].map(|digit| char::from(digits[usize::from(digit)]))
}

fn percent(value: &str, unreserved: &[u8], space: &str, digits: &[u8; 16]) -> String {
    let mut out = String::with_capacity(3 * value.len());
    for byte in value.bytes() {
        if byte == b' ' {
            out.push_str(space);
        } else if byte.is_ascii_alphanumeric() || unreserved.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend(hex(byte, digits));
        }
    }
    out
}

/// As in a JSON string, without its quotes.
fn in_json(value: &str) -> String {
    let quoted = Zeroizing::new(serde_json::Value::from(value).to_string());
    quoted[1..quoted.len() - 1].to_owned()
}

/// JSON with the escapes of a writer that gives ASCII only.
fn ascii(json: &str, digits: &[u8; 16]) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            out.push_str("\\u");
            out.extend(unit.to_be_bytes().into_iter().flat_map(|byte| hex(byte, digits)));
        }
    }
    out
}
