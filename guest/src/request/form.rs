//! `req.form`: bodies of forms, urlencoded and multipart (RFC 7578).

use rhai::{Dynamic, ImmutableString, Map};

use super::{header, pairs};
use crate::{
    HttpRequest,
    raise::{Outcome, Raised, bad_request},
};

/// More parts than any form has.
const MAX_PARTS: usize = 1_000;

/// The fields of a form, in the order they came.
pub(super) struct Form(Vec<(String, Dynamic)>);

impl Form {
    pub(super) fn first_values(&self) -> Dynamic {
        let mut map = Map::new();
        for (name, value) in &self.0 {
            map.entry(name.as_str().into()).or_insert_with(|| value.clone());
        }
        Dynamic::from_map(map).into_shared()
    }

    pub(super) fn all_values(&self) -> Dynamic {
        Dynamic::from_map(pairs::all_values(&self.0, Dynamic::clone)).into_shared()
    }
}

/// The form in the body; empty where the content type is none of a form.
pub(super) fn parse(http: &HttpRequest) -> Outcome<Form> {
    let content_type = header(http, "content-type").unwrap_or_default();
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    match media_type.trim().to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => {
            let fields = str::from_utf8(&http.body).ok().and_then(pairs::parse_form).ok_or_else(not_text)?;
            let fields = fields.into_iter();
            Ok(Form(fields.map(|(name, value)| (name, ImmutableString::from(value).into())).collect()))
        }
        "multipart/form-data" => match parameter(parameters, "boundary") {
            Some(boundary) if !boundary.is_empty() && boundary.len() <= 200 => {
                multipart(&http.body, &boundary)
            }
            _ => Err(bad_request("the form has no boundary in its content type")),
        },
        _ => Ok(Form(Vec::new())),
    }
}

fn multipart(body: &[u8], boundary: &str) -> Outcome<Form> {
    let delimiter = format!("\r\n--{boundary}");
    // The first delimiter has no line break before it.
    let Some(mut rest) = body.strip_prefix(&delimiter.as_bytes()[2..]) else {
        return Err(bad_request("the form does not start with its boundary"));
    };
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        if fields.len() >= MAX_PARTS {
            return Err(bad_request(format!("the form has more than {MAX_PARTS} parts")));
        }
        let Some(part) = rest.strip_prefix(b"\r\n") else { return Err(broken()) };
        let end = find(part, delimiter.as_bytes()).ok_or_else(broken)?;
        fields.push(field(&part[..end])?);
        rest = &part[end + delimiter.len()..];
    }
    Ok(Form(fields))
}

fn field(part: &[u8]) -> Outcome<(String, Dynamic)> {
    let (head, data) = if let Some(data) = part.strip_prefix(b"\r\n") {
        (&b""[..], data)
    } else {
        let end = find(part, b"\r\n\r\n").ok_or_else(broken)?;
        (&part[..end], &part[end + 4..])
    };
    let head = str::from_utf8(head).map_err(|_| not_text())?;
    let header = |wanted: &str| {
        let named = |line: &'_ str| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        };
        head.lines().find_map(named)
    };
    let disposition = header("content-disposition").unwrap_or_default();
    let Some(name) = parameter(&disposition, "name") else {
        return Err(bad_request("a part of the form has no name"));
    };
    let value = match parameter(&disposition, "filename") {
        Some(filename) => file(&name, &filename, header("content-type"), data),
        None => ImmutableString::from(str::from_utf8(data).map_err(|_| not_text())?).into(),
    };
    Ok((name, value))
}

fn not_text() -> Raised {
    bad_request("the form is not text in UTF-8; req.bytes has it as a blob")
}

fn file(name: &str, filename: &str, content_type: Option<String>, data: &[u8]) -> Dynamic {
    let content_type = content_type.unwrap_or_else(|| "application/octet-stream".into());
    let mut map = Map::new();
    map.insert("name".into(), name.into());
    map.insert("filename".into(), filename.into());
    map.insert("content_type".into(), content_type.into());
    map.insert("data".into(), Dynamic::from_blob(data.to_vec()));
    Dynamic::from_map(map)
}

/// The value of `name=value` or `name="value"` in a list separated by `;`. Browsers write `"` as `%22`, so that a
/// quoted value ends at the next quote.
fn parameter(list: &str, name: &str) -> Option<String> {
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        if rest.is_empty() {
            return None;
        }
        let (key, after) = match rest.find(['=', ';']) {
            Some(at) if rest[at..].starts_with('=') => (rest[..at].trim(), &rest[at + 1..]),
            Some(at) => {
                rest = &rest[at..];
                continue;
            }
            None => return None,
        };
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(';').unwrap_or(after.len())),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.trim().replace("%22", "\""));
        }
        rest = after;
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    // Looking for the first byte alone is fast, and boundaries start with a rare one.
    while let Some(at) = haystack.get(from..)?.iter().position(|byte| *byte == first) {
        if haystack[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn broken() -> crate::raise::Raised {
    bad_request("the form is broken: it ends in the middle of a part")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found() {
        let list = r#"form-data; name="a b"; filename="x;y=%22.txt"; other=1"#;
        assert_eq!(parameter(list, "name").as_deref(), Some("a b"));
        assert_eq!(parameter(list, "filename").as_deref(), Some("x;y=\".txt"));
        assert_eq!(parameter(list, "other").as_deref(), Some("1"));
        assert_eq!(parameter(list, "none"), None);
    }

    #[test]
    fn broken_forms_are_refused() {
        for body in ["", "--b", "--b\r\n", "--b\r\nx", "--b\r\nx\r\n\r\ny", "--b\r\n\r\ndata\r\n--b--"] {
            assert!(multipart(body.as_bytes(), "b").is_err(), "{body:?}");
        }
        assert!(multipart(b"--b--", "b").is_ok());
    }
}
