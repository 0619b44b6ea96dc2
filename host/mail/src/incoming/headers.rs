//! The header of a mail or of one of its parts.

use mail_parser::{ContentType, Header, HeaderName, HeaderValue, Message, MessageParser, MimeHeaders};
use serde_json::{Value, json};

use super::budget::Budget;

/// The longest header of a mail, in bytes.
pub(super) const MAX_HEAD_BYTES: usize = 128 * 1024;

/// The most header lines, and the most addresses of one of them, that an event tells.
const MAX_ITEMS: usize = 200;

/// Bytes of JSON around an item of a list.
const ITEM_BYTES: usize = 32;

/// A header.
pub(super) struct Head<'a> {
    raw: &'a [u8],
    message: Option<Message<'a>>,
}

impl<'a> Head<'a> {
    pub(super) fn parse(raw: &'a [u8]) -> Self {
        Self { raw, message: MessageParser::new().parse_headers(raw) }
    }

    fn headers(&self) -> &[Header<'a>] {
        self.message.as_ref().and_then(|message| message.parts.first()).map_or(&[], |part| &part.headers)
    }

    fn value(&self, name: &HeaderName<'_>) -> Option<&HeaderValue<'a>> {
        // Of two, the first is the one that people are shown.
        self.headers().iter().find(|header| header.name == *name).map(|header| &header.value)
    }

    /// How often a header is there.
    pub(super) fn count(&self, name: &HeaderName<'_>) -> usize {
        self.headers().iter().filter(|header| header.name == *name).count()
    }

    /// A header as text.
    pub(super) fn text(&self, name: &HeaderName<'_>) -> Option<&str> {
        self.value(name)?.as_text()
    }

    /// The media type.
    pub(super) fn content_type(&self) -> Option<&ContentType<'a>> {
        self.value(&HeaderName::ContentType)?.as_content_type()
    }

    /// How the part is to be shown.
    pub(super) fn disposition(&self) -> Option<&ContentType<'a>> {
        self.value(&HeaderName::ContentDisposition)?.as_content_type()
    }

    /// The name of the file that the part is.
    pub(super) fn file_name(&self) -> Option<&str> {
        self.message.as_ref()?.parts.first()?.attachment_name()
    }

    /// When the mail says that it was written, as RFC 3339 has it.
    pub(super) fn date(&self) -> Option<String> {
        let date = self.value(&HeaderName::Date)?.as_datetime()?;
        date.is_valid().then(|| date.to_rfc3339())
    }

    /// Message ids, in angle brackets.
    pub(super) fn ids(&self, name: &HeaderName<'_>, field: &'static str, budget: &mut Budget) -> Vec<String> {
        let ids: Vec<&str> = match self.value(name) {
            Some(HeaderValue::Text(id)) => vec![id],
            Some(HeaderValue::TextList(ids)) => ids.iter().map(AsRef::as_ref).collect(),
            _ => Vec::new(),
        };
        let mut told = Vec::new();
        for id in ids {
            if told.len() == MAX_ITEMS || !budget.room(field, ITEM_BYTES + id.len()) {
                budget.cut(field);
                break;
            }
            told.push(format!("<{}>", super::budget::clean(id)));
        }
        told
    }

    /// Addresses with their names.
    pub(super) fn mailboxes(
        &self,
        name: &HeaderName<'_>,
        field: &'static str,
        budget: &mut Budget,
    ) -> Vec<Value> {
        let mut told = Vec::new();
        let addresses = self.value(name).and_then(HeaderValue::as_address);
        for address in addresses.into_iter().flat_map(mail_parser::Address::iter) {
            if told.len() == MAX_ITEMS || !budget.room(field, ITEM_BYTES) {
                budget.cut(field);
                break;
            }
            let mut text = |text: &Option<_>| text.as_deref().map(|text: &str| budget.take(field, text));
            told.push(json!({ "address": text(&address.address), "name": text(&address.name) }));
        }
        told
    }

    /// Every header line in its order, decoded.
    pub(super) fn all(&self, budget: &mut Budget) -> Vec<Value> {
        let parser = MessageParser::new().header_text(HeaderName::Subject).default_header_text();
        let Some(message) = parser.parse_headers(self.raw) else { return Vec::new() };
        let mut told = Vec::new();
        for header in message.parts.first().map_or(&[][..], |part| &part.headers) {
            if told.len() == MAX_ITEMS || !budget.room("headers", ITEM_BYTES) {
                budget.cut("headers");
                break;
            }
            let name = budget.take("headers", header.name());
            let value = budget.take("headers", header.value.as_text().unwrap_or_default());
            told.push(json!([name, value]));
        }
        told
    }

    /// Whether a program has sent it by itself, so that no program is to answer it (RFC 3834).
    pub(super) fn is_auto_submitted(&self) -> bool {
        let other = |name: &str| {
            let found = self.headers().iter().find(|header| header.name().eq_ignore_ascii_case(name));
            found.and_then(|header| header.value.as_text()).map(|text| text.trim().to_ascii_lowercase())
        };
        let keyword =
            other("Auto-Submitted").map(|text| text.split([';', ' ']).next().unwrap_or_default().to_owned());
        keyword.is_some_and(|keyword| keyword != "no")
            || other("Precedence").is_some_and(|text| matches!(text.as_str(), "bulk" | "list" | "junk"))
            || self.count(&HeaderName::ListId) > 0
    }
}
