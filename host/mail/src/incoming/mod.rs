//! A mail as the event that a script gets.
//!
//! Everything of it is bounded: what is read of a mail, how deep its parts may be nested, and how long the event is.
//! What does not fit is cut or left out, and `truncated` names it.

mod budget;
mod fit;
mod headers;
mod parts;

use std::net::IpAddr;

use mail_parser::HeaderName;
use serde_json::{Map, Value, json};

use self::{
    budget::Budget,
    headers::{Head, MAX_HEAD_BYTES},
    parts::Parts,
};
use crate::Recipient;

/// Servers that a mail may have come through; one with more goes in circles.
const MAX_RECEIVED: usize = 30;

/// The part of an event that long texts leave for what is attached: a fourth of it.
const ATTACHMENTS_SHARE: usize = 4;

/// What the connection tells of a mail.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    /// The sender's address; empty for a mail that wants no answer.
    pub(crate) from: String,
    /// Who has connected.
    pub(crate) peer: IpAddr,
    /// What that one calls itself.
    pub(crate) helo: String,
}

/// Why a mail is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MailRefusal {
    /// It has come through too many servers.
    Loop,
    /// Its header is too large.
    Header,
}

/// A mail that came in.
#[derive(Clone, Debug)]
pub struct IncomingMail {
    fields: Map<String, Value>,
    envelope_from: Option<String>,
    bytes: usize,
}

impl IncomingMail {
    /// Reads a mail; its event is to be no longer than about `max_event_bytes` of JSON.
    pub(crate) fn parse(raw: &[u8], envelope: Envelope, max_event_bytes: usize) -> Result<Self, MailRefusal> {
        let (head, body) = parts::split(raw);
        if head.len() > MAX_HEAD_BYTES {
            return Err(MailRefusal::Header);
        }
        let head = Head::parse(head);
        if head.count(&HeaderName::Received) > MAX_RECEIVED {
            return Err(MailRefusal::Loop);
        }
        let mut budget = Budget::new(max_event_bytes);
        let parts = Parts::of(&head, body);
        let auto_submitted = envelope.from.is_empty() || head.is_auto_submitted();
        let envelope_from =
            Some(envelope.from).filter(|from| !from.is_empty()).map(|from| budget::clean(&from));
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put(
            "from",
            head.mailboxes(&HeaderName::From, "from", &mut budget).into_iter().next().unwrap_or_default(),
        );
        put("to", head.mailboxes(&HeaderName::To, "to", &mut budget).into());
        put("cc", head.mailboxes(&HeaderName::Cc, "cc", &mut budget).into());
        put("reply_to", head.mailboxes(&HeaderName::ReplyTo, "reply_to", &mut budget).into());
        put("subject", budget.take("subject", head.text(&HeaderName::Subject).unwrap_or_default()).into());
        put("date", head.date().into());
        put(
            "message_id",
            head.ids(&HeaderName::MessageId, "message_id", &mut budget).into_iter().next().into(),
        );
        put(
            "in_reply_to",
            head.ids(&HeaderName::InReplyTo, "in_reply_to", &mut budget).into_iter().next().into(),
        );
        put("references", head.ids(&HeaderName::References, "references", &mut budget).into());
        put("headers", head.all(&mut budget).into());
        let reserved = budget.reserve(max_event_bytes / ATTACHMENTS_SHARE);
        put("text", parts.text(max_event_bytes).map(|text| budget.take("text", &text)).into());
        put("html", parts.html(max_event_bytes).map(|html| budget.take("html", &html)).into());
        budget.release(reserved);
        put("attachments", parts.attachments(&mut budget).into());
        put("ip", envelope.peer.to_string().into());
        put("helo", budget::clean(&envelope.helo).into());
        // Neither SPF nor DKIM nor DMARC is looked at: whoever connects may have written any of this.
        put("auth", "unverified".into());
        put("auto_submitted", auto_submitted.into());
        put("truncated", budget.truncated().into());
        Ok(Self { fields, envelope_from, bytes: raw.len() })
    }

    /// The event's own fields for one of its recipients: `from`, `to`, `cc`, `reply_to`, `subject`, `date`, `message_id`,
    /// `in_reply_to`, `references`, `headers`, `text`, `html`, `attachments`, `ip`, `helo`, `auth`, `auto_submitted`,
    /// `truncated`, and `envelope` with `from` and the addresses of this recipient in `to`. No text has U+0000.
    pub fn fields(&self, recipient: &Recipient) -> Map<String, Value> {
        let to: Vec<String> = recipient.addresses.iter().map(|address| budget::clean(address)).collect();
        let mut fields = self.fields.clone();
        fields.insert("envelope".to_owned(), json!({ "from": self.envelope_from, "to": to }));
        fields
    }

    /// The same, cut to about `most` bytes of JSON, for a recipient that takes no more.
    pub fn fields_within(&self, recipient: &Recipient, most: usize) -> Map<String, Value> {
        let mut fields = self.fields(recipient);
        fit::fit(&mut fields, most);
        fields
    }

    /// The bytes that came.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
