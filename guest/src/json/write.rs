//! Values to JSON text.

use std::fmt::{self, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rhai::Dynamic;

use crate::{
    fetched::Fetched,
    limits::{EVENT_DEPTH, JSON_DEPTH},
    request::Request,
};

/// How a blob is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blobs {
    /// As a string of base64.
    Text,
    /// As `{"$blob": base64}`, from which [`super::parse`]'s callers can make a blob again.
    Tagged,
}

/// Why a value has no JSON text.
#[derive(Debug)]
pub(crate) struct WriteError {
    /// Where in the value, innermost part first.
    path: Vec<String>,
    problem: String,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        if !self.path.is_empty() {
            f.write_str(" at ")?;
            // The outermost parts tell enough of a deep path.
            self.path.iter().rev().take(16).try_for_each(|part| f.write_str(part))?;
        }
        Ok(())
    }
}

/// The JSON text of a value, blobs as base64.
pub(crate) fn stringify(value: &Dynamic) -> Result<String, WriteError> {
    write_with(value, Blobs::Text)
}

/// The same with line breaks and two spaces of indentation.
pub(crate) fn stringify_pretty(value: &Dynamic) -> Result<String, WriteError> {
    Writer { blobs: Blobs::Text, pretty: true, ..Writer::default() }.text_of(value)
}

/// The JSON text of a value.
pub(crate) fn write_with(value: &Dynamic, blobs: Blobs) -> Result<String, WriteError> {
    Writer { blobs, ..Writer::default() }.text_of(value)
}

/// The JSON text of a value that goes into an event.
pub(crate) fn write_body(value: &Dynamic) -> Result<String, WriteError> {
    Writer { blobs: Blobs::Tagged, deepest: EVENT_DEPTH, ..Writer::default() }.text_of(value)
}

/// Appends text as a JSON string.
fn write_string(out: &mut String, text: &str) {
    out.reserve(text.len() + 2);
    out.push('"');
    let mut plain = 0;
    for (i, byte) in text.bytes().enumerate() {
        let escaped = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            8 => "\\b",
            12 => "\\f",
            0..=31 => "",
            _ => continue,
        };
        out.push_str(&text[plain..i]);
        out.push_str(escaped);
        if escaped.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\u{byte:04x}");
        }
        plain = i + 1;
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

struct Writer {
    out: String,
    blobs: Blobs,
    /// Whether lines are broken and indented.
    pretty: bool,
    /// How deep arrays and maps may nest.
    deepest: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self { out: String::new(), blobs: Blobs::Text, pretty: false, deepest: JSON_DEPTH }
    }
}

impl Writer {
    fn text_of(mut self, value: &Dynamic) -> Result<String, WriteError> {
        self.value(value, 0)?;
        Ok(self.out)
    }

    fn value(&mut self, value: &Dynamic, depth: usize) -> Result<(), WriteError> {
        if value.is_unit() {
            self.out.push_str("null");
        } else if let Ok(text) = value.as_immutable_string_ref() {
            write_string(&mut self.out, &text);
        } else if let Ok(number) = value.as_int() {
            self.display(number);
        } else if let Ok(truth) = value.as_bool() {
            self.out.push_str(if truth { "true" } else { "false" });
        } else if let Ok(number) = value.as_float() {
            self.float(number)?;
        } else if let Ok(map) = value.as_map_ref() {
            self.map(&map, self.deeper(depth)?)?;
        } else if let Ok(array) = value.as_array_ref() {
            self.array(&array, self.deeper(depth)?)?;
        } else if let Ok(blob) = value.as_blob_ref() {
            self.blob(&blob);
        } else if let Ok(character) = value.as_char() {
            write_string(&mut self.out, character.encode_utf8(&mut [0; 4]));
        } else if let Some(request) = value.read_lock::<Request>() {
            self.value(&request.to_map(), depth)?;
        } else if let Some(answer) = value.read_lock::<Fetched>() {
            self.value(&answer.to_map(), depth)?;
        } else {
            let what = if value.is_fnptr() { "a function" } else { value.type_name() };
            return Err(problem(format!("{what} cannot be JSON")));
        }
        Ok(())
    }

    fn deeper(&self, depth: usize) -> Result<usize, WriteError> {
        if depth >= self.deepest {
            return Err(problem(format!("arrays and maps nest more than {} deep", self.deepest)));
        }
        Ok(depth + 1)
    }

    fn display(&mut self, value: impl fmt::Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.out, "{value}");
    }

    fn float(&mut self, number: f64) -> Result<(), WriteError> {
        if !number.is_finite() {
            return Err(problem(format!("the float {number} cannot be JSON")));
        }
        // The debug form is the shortest that reads back as the same number, with a point or an exponent.
        let _ = write!(self.out, "{number:?}");
        Ok(())
    }

    fn blob(&mut self, blob: &[u8]) {
        if self.blobs == Blobs::Tagged {
            self.out.push_str("{\"$blob\":");
        }
        self.out.push('"');
        STANDARD.encode_string(blob, &mut self.out);
        self.out.push('"');
        if self.blobs == Blobs::Tagged {
            self.out.push('}');
        }
    }

    fn array(&mut self, array: &[Dynamic], depth: usize) -> Result<(), WriteError> {
        self.out.push('[');
        for (i, item) in array.iter().enumerate() {
            self.separate(i > 0, depth);
            self.value(item, depth).map_err(|error| error.within(format!("[{i}]")))?;
        }
        self.close(!array.is_empty(), depth, ']');
        Ok(())
    }

    fn map(&mut self, map: &rhai::Map, depth: usize) -> Result<(), WriteError> {
        if self.blobs == Blobs::Tagged && map.len() == 1 && map.contains_key("$blob") {
            return Err(problem(
                "a map of nothing but `$blob` stands for a blob and cannot be stored".into(),
            ));
        }
        self.out.push('{');
        for (i, (key, value)) in map.iter().enumerate() {
            self.separate(i > 0, depth);
            write_string(&mut self.out, key);
            self.out.push_str(if self.pretty { ": " } else { ":" });
            self.value(value, depth).map_err(|error| error.within(format!(".{key}")))?;
        }
        self.close(!map.is_empty(), depth, '}');
        Ok(())
    }

    fn separate(&mut self, comma: bool, depth: usize) {
        if comma {
            self.out.push(',');
        }
        self.line(depth);
    }

    fn close(&mut self, any: bool, depth: usize, bracket: char) {
        if any {
            self.line(depth - 1);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if self.pretty {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("  ", depth));
        }
    }
}

impl WriteError {
    fn within(mut self, part: String) -> Self {
        self.path.push(part);
        self
    }
}

fn problem(problem: String) -> WriteError {
    WriteError { path: Vec::new(), problem }
}
