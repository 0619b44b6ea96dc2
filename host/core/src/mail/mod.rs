//! E-mail addresses, and what may be sent.
//!
//! What a script gives is checked when it calls, so that it learns at once what is wrong, and once more by whoever sends:
//! nothing that could begin another header ever reaches a mail.

mod address;
mod mailer;

use crate::OutgoingMail;

pub use address::{MailAddress, MailAddressError, Mailbox};
pub use mailer::{Mailer, MailerError};

/// The longest subject, in bytes.
const MAX_SUBJECT_BYTES: usize = 900;

/// The longest `Message-ID`, in bytes.
const MAX_MESSAGE_ID_BYTES: usize = 250;

/// Why a mail cannot be sent. The text says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// Nobody would receive it.
    #[error("`to` is empty; at least one receiver is needed")]
    NoReceiver,
    /// Too many would receive it.
    #[error("the mail has {0} receivers; at most {max} are allowed, copies included", max = OutgoingMail::MAX_RECEIVERS)]
    TooManyReceivers(usize),
    /// It has neither form of a text.
    #[error("the mail has neither `text` nor `html`; one of them is needed")]
    NoText,
    /// It is too large.
    #[error("the mail has {0} bytes; at most {max} are allowed", max = OutgoingMail::MAX_BYTES)]
    TooLarge(usize),
    /// An address is wrong.
    #[error("`{field}` has {value:?}, which {problem}")]
    Address {
        /// The field.
        field: &'static str,
        /// What it has, cut at 100 characters.
        value: String,
        /// What is wrong with it.
        problem: MailAddressError,
    },
    /// Another field is wrong.
    #[error("`{field}` {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl OutgoingMail {
    /// The mail that an event of the outbox has, as JSON text. The error says what is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("the event has no mail: {error}"))
    }

    /// The most bytes of one mail, [`Self::bytes`].
    pub const MAX_BYTES: usize = 1 << 20;

    /// Checks everything that can be checked before it is sent.
    pub fn check(&self) -> Result<(), MailError> {
        let receivers = self.to.len() + self.cc.len() + self.bcc.len();
        if self.to.is_empty() {
            return Err(MailError::NoReceiver);
        }
        if receivers > Self::MAX_RECEIVERS {
            return Err(MailError::TooManyReceivers(receivers));
        }
        let bytes = self.bytes();
        if bytes > Self::MAX_BYTES {
            return Err(MailError::TooLarge(bytes));
        }
        if self.text.is_none() && self.html.is_none() {
            return Err(MailError::NoText);
        }
        for (field, texts) in [("to", &self.to), ("cc", &self.cc), ("bcc", &self.bcc)] {
            for text in texts {
                mailbox(field, text)?;
            }
        }
        if let Some(text) = &self.reply_to {
            mailbox("reply_to", text)?;
        }
        if let Some(name) = &self.from_name {
            Mailbox::check_name(name).map_err(|problem| MailError::Address {
                field: "from_name",
                value: cut(name),
                problem,
            })?;
        }
        let field = |field, problem| Err(MailError::Field { field, problem });
        if self.subject.len() > MAX_SUBJECT_BYTES {
            return field("subject", "is longer than 900 bytes");
        }
        if self.subject.chars().any(char::is_control) {
            return field("subject", "has a line break or another control character; allowed is one line");
        }
        for (name, text) in [("text", &self.text), ("html", &self.html)] {
            if text.as_ref().is_some_and(|text| text.contains('\0')) {
                return field(name, "has U+0000, which no mail can carry");
            }
        }
        if self.in_reply_to.as_ref().is_some_and(|id| !is_message_id(id)) {
            return field(
                "in_reply_to",
                "is no message id; allowed is the `message_id` of a mail, <ID@HOST>",
            );
        }
        Ok(())
    }
}

fn mailbox(field: &'static str, text: &str) -> Result<Mailbox, MailError> {
    text.parse().map_err(|problem| MailError::Address { field, value: cut(text), problem })
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Whether it can stand in a header as it is.
fn is_message_id(text: &str) -> bool {
    let inner = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
    text.len() <= MAX_MESSAGE_ID_BYTES
        && inner.is_some_and(|inner| {
            !inner.is_empty()
                && inner.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'<' && byte != b'>')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail() -> OutgoingMail {
        OutgoingMail {
            to: vec!["Ada <ada@example.org>".into()],
            subject: "Grüße".into(),
            text: Some("Hello\r\n.\r\n".into()),
            ..OutgoingMail::default()
        }
    }

    #[test]
    fn a_plain_mail_is_good() {
        assert_eq!(mail().check(), Ok(()));
        let answer = OutgoingMail { in_reply_to: Some("<a.1@example.org>".into()), ..mail() };
        assert_eq!(answer.check(), Ok(()));
    }

    #[test]
    fn nothing_can_begin_another_header() {
        for end in ["\r\n", "\n", "\r", "\0", "\u{85}"] {
            let text = format!("x{end}Bcc: eve@example.org");
            let address = format!("ada@example.org{end}Bcc: eve@example.org");
            let named = format!("A{end}B <ada@example.org>");
            let cases = [
                OutgoingMail { subject: text.clone(), ..mail() },
                OutgoingMail { from_name: Some(text.clone()), ..mail() },
                OutgoingMail { reply_to: Some(address.clone()), ..mail() },
                OutgoingMail { to: vec![address.clone()], ..mail() },
                OutgoingMail { cc: vec![named.clone()], ..mail() },
                OutgoingMail { bcc: vec![named], ..mail() },
                OutgoingMail { in_reply_to: Some(format!("<a@b{end}>")), ..mail() },
            ];
            for case in cases {
                assert!(case.check().is_err(), "{case:?}");
            }
        }
    }

    #[test]
    fn what_is_too_much_is_told_with_what_is_allowed() {
        let many = OutgoingMail { bcc: vec!["a@example.org".into(); 50], ..mail() };
        assert_eq!(many.check(), Err(MailError::TooManyReceivers(51)));
        assert!(many.check().unwrap_err().to_string().contains("at most 50"));
        let large = OutgoingMail { html: Some("x".repeat(1 << 20)), ..mail() };
        assert!(large.check().unwrap_err().to_string().contains("1048576"));
        assert_eq!(OutgoingMail { to: vec![], ..mail() }.check(), Err(MailError::NoReceiver));
        assert_eq!(OutgoingMail { text: None, ..mail() }.check(), Err(MailError::NoText));
        assert!(OutgoingMail { subject: "x".repeat(901), ..mail() }.check().is_err());
        assert!(OutgoingMail { text: Some("a\0b".into()), ..mail() }.check().is_err());
    }
}
