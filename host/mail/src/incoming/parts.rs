//! The parts of a mail: its text, and what is attached.
//!
//! Parts are split here, and only what is no multipart any more is decoded, so that nesting costs no stack and each
//! level of it one pass. A mail within a mail is an attachment and not looked into.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use mail_parser::{
    ContentType, HeaderName,
    decoders::{
        base64::base64_decode, charsets::map::charset_decoder, quoted_printable::quoted_printable_decode,
    },
};
use serde_json::{Value, json};

use super::{budget::Budget, headers::Head};

/// How deep parts may be nested; what is deeper is one attachment.
const MAX_DEPTH: usize = 10;

/// The most parts that are looked at.
const MAX_PARTS: usize = 100;

/// The longest header of a part, in bytes.
const MAX_PART_HEAD_BYTES: usize = 16 * 1024;

/// The longest boundary; standards allow 70 bytes.
const MAX_BOUNDARY_BYTES: usize = 200;

/// The longest name of an attachment and of a content type that an event tells, in bytes of JSON.
const MAX_NAME_BYTES: usize = 1024;

/// Bytes of JSON around an attachment.
const ATTACHMENT_BYTES: usize = 128;

/// The parts of a mail.
pub(super) struct Parts<'a> {
    text: Option<Part<'a>>,
    html: Option<Part<'a>>,
    attached: Vec<Part<'a>>,
    seen: usize,
    is_cut: bool,
}

struct Part<'a> {
    content_type: Option<String>,
    charset: Option<String>,
    name: Option<String>,
    content_id: Option<String>,
    encoding: Encoding,
    body: &'a [u8],
}

#[derive(Clone, Copy)]
enum Encoding {
    None,
    Base64,
    QuotedPrintable,
}

/// The header and the body of a mail or of a part. The header keeps its last line's end.
pub(super) fn split(raw: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        let end = at + line.len();
        if matches!(line, b"\r\n" | b"\n") {
            return (&raw[..at], &raw[end..]);
        }
        at = end;
    }
    (raw, &[])
}

impl<'a> Parts<'a> {
    /// The parts of a mail with this header.
    pub(super) fn of(head: &Head<'_>, body: &'a [u8]) -> Self {
        let mut parts = Self { text: None, html: None, attached: Vec::new(), seen: 0, is_cut: false };
        parts.add(head, body, 0);
        parts
    }

    fn add(&mut self, head: &Head<'_>, body: &'a [u8], depth: usize) {
        if self.seen == MAX_PARTS {
            self.is_cut = true;
            return;
        }
        self.seen += 1;
        if let Some(boundary) = boundary(head)
            && depth < MAX_DEPTH
        {
            for part in split_at_boundary(body, boundary) {
                if self.is_cut {
                    return;
                }
                let (mut part_head, part_body) = split(part);
                if part_head.len() > MAX_PART_HEAD_BYTES {
                    part_head = &[];
                    self.is_cut = true;
                }
                self.add(&Head::parse(part_head), part_body, depth + 1);
            }
            return;
        }
        self.add_leaf(head, body);
    }

    fn add_leaf(&mut self, head: &Head<'_>, body: &'a [u8]) {
        let content_type = head.content_type();
        let part = Part {
            content_type: content_type.map(media_type),
            charset: content_type.and_then(|found| found.attribute("charset")).map(str::to_owned),
            name: head.file_name().map(str::to_owned),
            content_id: head.text(&HeaderName::ContentId).map(str::to_owned),
            encoding: Encoding::of(head),
            body,
        };
        let is_attachment = part.name.is_some() || head.disposition().is_some_and(ContentType::is_attachment);
        match part.content_type.as_deref() {
            None | Some("text/plain") if !is_attachment && self.text.is_none() => self.text = Some(part),
            Some("text/html") if !is_attachment && self.html.is_none() => self.html = Some(part),
            _ => self.attached.push(part),
        }
    }

    /// The plain text; a little more of it than `most` bytes at most is decoded.
    pub(super) fn text(&self, most: usize) -> Option<String> {
        self.text.as_ref().map(|part| part.decoded_text(most))
    }

    /// The HTML; a little more of it than `most` bytes at most is decoded.
    pub(super) fn html(&self, most: usize) -> Option<String> {
        self.html.as_ref().map(|part| part.decoded_text(most))
    }

    /// What is attached. Contents that there is no room for are left out, and at last the rest of the attachments.
    pub(super) fn attachments(&self, budget: &mut Budget) -> Vec<Value> {
        if self.is_cut {
            budget.cut("attachments");
        }
        let mut told = Vec::new();
        for part in &self.attached {
            if !budget.room("attachments", ATTACHMENT_BYTES) {
                break;
            }
            told.push(part.attachment(budget));
        }
        told
    }
}

impl Part<'_> {
    fn decoded(&self) -> Cow<'_, [u8]> {
        let decoded = match self.encoding {
            Encoding::None => None,
            Encoding::Base64 => base64_decode(self.body),
            Encoding::QuotedPrintable => quoted_printable_decode(self.body),
        };
        decoded.map_or(Cow::Borrowed(self.body), Cow::Owned)
    }

    fn decoded_text(&self, most: usize) -> String {
        let bytes = self.decoded();
        // No character set has more than four bytes for what is one byte of the event.
        let bytes = &bytes[..bytes.len().min(most.saturating_mul(4))];
        let decoder = self.charset.as_ref().and_then(|charset| charset_decoder(charset.as_bytes()));
        decoder.map_or_else(|| String::from_utf8_lossy(bytes).into_owned(), |decode| decode(bytes))
    }

    fn attachment(&self, budget: &mut Budget) -> Value {
        let mut text = |text: &Option<String>| text.as_deref().map(|text| name(budget, text));
        let (name, content_id) = (text(&self.name), text(&self.content_id));
        let content_type = text(&self.content_type).unwrap_or_else(|| "text/plain".to_owned());
        let content = self.decoded();
        let mut told = json!({
            "name": name,
            "content_type": content_type,
            "content_id": content_id,
            "size": content.len(),
        });
        let (key, value) = if budget.room("attachments", content.len().div_ceil(3) * 4) {
            ("content", STANDARD.encode(&content).into())
        } else {
            ("omitted", true.into())
        };
        told[key] = value;
        told
    }
}

impl Encoding {
    fn of(head: &Head<'_>) -> Self {
        match head.text(&HeaderName::ContentTransferEncoding).map(str::trim) {
            Some(text) if text.eq_ignore_ascii_case("base64") => Self::Base64,
            Some(text) if text.eq_ignore_ascii_case("quoted-printable") => Self::QuotedPrintable,
            _ => Self::None,
        }
    }
}

/// A text that is a name: short, or it is cut.
fn name(budget: &mut Budget, text: &str) -> String {
    let mut own = Budget::new(MAX_NAME_BYTES);
    let cut = own.take("attachments", text);
    budget.take("attachments", &cut)
}

fn media_type(content_type: &ContentType<'_>) -> String {
    let kind = content_type.ctype();
    let text = content_type.subtype().map_or_else(|| kind.to_owned(), |subtype| format!("{kind}/{subtype}"));
    text.to_ascii_lowercase()
}

/// What separates the parts, if there are any.
fn boundary<'h>(head: &'h Head<'_>) -> Option<&'h [u8]> {
    let content_type = head.content_type().filter(|found| found.ctype().eq_ignore_ascii_case("multipart"))?;
    let boundary = content_type.attribute("boundary")?.as_bytes();
    (1..=MAX_BOUNDARY_BYTES).contains(&boundary.len()).then_some(boundary)
}

/// The parts between lines that are `--` and the boundary.
fn split_at_boundary<'b>(body: &'b [u8], boundary: &[u8]) -> Vec<&'b [u8]> {
    let mut parts = Vec::new();
    let mut start = None;
    let mut at = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let end = at + line.len();
        let rest =
            line.strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary)).map(<[u8]>::trim_ascii_end);
        if let Some(rest @ (b"" | b"--")) = rest {
            if let Some(start) = start {
                parts.push(without_line_end(&body[start..at]));
            }
            start = Some(end);
            // One more than is looked at tells that there were more.
            if rest == b"--" || parts.len() > MAX_PARTS {
                return parts;
            }
        }
        at = end;
    }
    // A mail that was cut short has no last boundary.
    parts.extend(start.map(|start| &body[start..]));
    parts
}

/// The line's end before a boundary belongs to the boundary.
fn without_line_end(part: &[u8]) -> &[u8] {
    let part = part.strip_suffix(b"\n").unwrap_or(part);
    part.strip_suffix(b"\r").unwrap_or(part)
}
