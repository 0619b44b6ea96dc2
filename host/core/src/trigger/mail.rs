//! What an e-mail of a script must be to be sent. Whether its receivers exist only the relay can tell.

use super::OutgoingMail;

/// The longest subject, in bytes: what a line of a mail holds (RFC 5322, 2.1.1).
const MAX_LINE_BYTES: usize = 998;
/// The longest part before the `@`, and the longest address (RFC 5321, 4.5.3.1).
const MAX_LOCAL_BYTES: usize = 64;
const MAX_ADDRESS_BYTES: usize = 254;

/// Why an e-mail cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// It goes to nobody.
    #[error("there is no receiver; `to` needs one")]
    NoReceiver,
    /// It goes to too many.
    #[error("there are {0} receivers; allowed are {max}, copies included", max = OutgoingMail::MAX_RECEIVERS)]
    TooManyReceivers(usize),
    /// It says nothing.
    #[error("there is neither a `text` nor an `html`")]
    NoText,
    /// A receiver that cannot be one.
    #[error(
        "{field} is {text:?}; allowed are `address` and `Name <address>`, with an address of ASCII characters"
    )]
    NoAddress {
        /// The field.
        field: &'static str,
        /// What it is, cut at 100 characters.
        text: String,
    },
    /// A field of one line has what would end it.
    #[error("{field} contains {character:?}; allowed is one line of text without control characters")]
    ControlCharacter {
        /// The field.
        field: &'static str,
        /// The character.
        character: char,
    },
    /// A field is too long.
    #[error("{field} is {bytes} bytes long; the longest allowed is {MAX_LINE_BYTES}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// A text cannot be stored.
    #[error("{field} contains U+0000, which cannot be sent")]
    Nul {
        /// The field.
        field: &'static str,
    },
}

impl OutgoingMail {
    /// Checks that it can be made into a mail: nothing in it ends a header.
    pub fn check(&self) -> Result<(), MailError> {
        let receivers = self.to.len() + self.cc.len() + self.bcc.len();
        if receivers == 0 {
            return Err(MailError::NoReceiver);
        }
        if receivers > Self::MAX_RECEIVERS {
            return Err(MailError::TooManyReceivers(receivers));
        }
        if self.text.is_none() && self.html.is_none() {
            return Err(MailError::NoText);
        }
        for (field, list) in [("to", &self.to), ("cc", &self.cc), ("bcc", &self.bcc)] {
            list.iter().try_for_each(|text| check_mailbox(field, text))?;
        }
        self.reply_to.iter().try_for_each(|text| check_mailbox("reply_to", text))?;
        check_line("subject", &self.subject)?;
        self.from_name.iter().try_for_each(|text| check_line("from_name", text))?;
        self.in_reply_to.iter().try_for_each(|text| check_line("in_reply_to", text))?;
        for (field, text) in [("text", &self.text), ("html", &self.html)] {
            if text.as_ref().is_some_and(|text| text.contains('\0')) {
                return Err(MailError::Nul { field });
            }
        }
        Ok(())
    }

    /// The name and the address of `address` or `Name <address>`; `None` where it is neither.
    pub fn mailbox(text: &str) -> Option<(Option<&str>, &str)> {
        let text = text.trim();
        let (name, address) = match text.strip_suffix('>') {
            Some(rest) => {
                let (name, address) = rest.split_once('<')?;
                (Some(name.trim()), address)
            }
            None => (None, text),
        };
        let is_name = name.is_none_or(|name| !name.contains(['<', '>']));
        (is_name && is_address(address)).then_some((name.filter(|name| !name.is_empty()), address))
    }
}

fn check_mailbox(field: &'static str, text: &str) -> Result<(), MailError> {
    check_line(field, text)?;
    match OutgoingMail::mailbox(text) {
        Some(_) => Ok(()),
        None => Err(MailError::NoAddress { field, text: text.chars().take(100).collect() }),
    }
}

fn check_line(field: &'static str, text: &str) -> Result<(), MailError> {
    if text.len() > MAX_LINE_BYTES {
        return Err(MailError::TooLong { field, bytes: text.len() });
    }
    match text
        .chars()
        .find(|character| character.is_control() || matches!(character, '\u{2028}' | '\u{2029}'))
    {
        Some(character) => Err(MailError::ControlCharacter { field, character }),
        None => Ok(()),
    }
}

/// Whether a text is an address as the `Mailbox` of RFC 5321 (4.1.2) has it, without quoted parts and literals.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let is_atom = |atom: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
        !atom.is_empty() && atom.bytes().all(is_allowed)
    };
    let is_label = |label: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= MAX_ADDRESS_BYTES
        && local.len() <= MAX_LOCAL_BYTES
        && local.split('.').all(is_atom)
        && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(to: &str) -> OutgoingMail {
        OutgoingMail { to: vec![to.into()], text: Some("Hi".into()), ..OutgoingMail::default() }
    }

    #[test]
    fn a_receiver_is_an_address_with_or_without_a_name() {
        for (text, expected) in [
            ("a@example.org", (None, "a@example.org")),
            (" a.b+c@x-1.example ", (None, "a.b+c@x-1.example")),
            ("Anna Ö <anna@example.org>", (Some("Anna Ö"), "anna@example.org")),
            ("\"Last, First\" <a@b.example>", (Some("\"Last, First\""), "a@b.example")),
            ("<a@localhost>", (None, "a@localhost")),
        ] {
            assert_eq!(OutgoingMail::mailbox(text), Some(expected), "{text}");
            assert_eq!(mail(text).check(), Ok(()), "{text}");
        }
        let (long_local, long_domain) = ("l".repeat(65), "d.".repeat(130));
        for bad in [
            "",
            "a",
            "@b.example",
            "a@",
            "a@b@c.example",
            "a b@c.example",
            "a@b..example",
            ".a@b.example",
            "a@-b.example",
            "a@[127.0.0.1]",
            "a@b.example, c@d.example",
            "Name <a@b.example",
            "x <y <a@b.example>",
            "ü@b.example",
            &format!("{long_local}@b.example"),
            &format!("a@{long_domain}example"),
        ] {
            assert!(matches!(mail(bad).check(), Err(MailError::NoAddress { field: "to", .. })), "{bad}");
        }
    }

    #[test]
    fn nothing_in_a_mail_begins_a_header_of_its_own() {
        let good = mail("a@b.example");
        let injected = || "x\r\nBcc: victim@example.org".to_owned();
        for (field, bad) in [
            ("subject", OutgoingMail { subject: injected(), ..good.clone() }),
            ("from_name", OutgoingMail { from_name: Some(injected()), ..good.clone() }),
            ("in_reply_to", OutgoingMail { in_reply_to: Some(injected()), ..good.clone() }),
            (
                "reply_to",
                OutgoingMail { reply_to: Some(format!("{} <a@b.example>", injected())), ..good.clone() },
            ),
            ("cc", OutgoingMail { cc: vec!["a@b.example\n".into()], ..good.clone() }),
            ("bcc", OutgoingMail { bcc: vec!["\0a@b.example".into()], ..good.clone() }),
            ("subject", OutgoingMail { subject: "a\u{85}b".into(), ..good.clone() }),
            ("subject", OutgoingMail { subject: "a\u{2028}b".into(), ..good.clone() }),
        ] {
            let error = bad.check().unwrap_err();
            assert!(
                matches!(error, MailError::ControlCharacter { field: found, .. } if found == field),
                "{error}"
            );
        }
        let nul = OutgoingMail { html: Some("a\0".into()), ..good.clone() };
        assert_eq!(nul.check(), Err(MailError::Nul { field: "html" }));
        let long = OutgoingMail { subject: "x".repeat(999), ..good };
        assert_eq!(long.check(), Err(MailError::TooLong { field: "subject", bytes: 999 }));
    }

    #[test]
    fn a_mail_has_receivers_and_a_text() {
        let many = |count| OutgoingMail { cc: vec!["a@b.example".into(); count], ..mail("a@b.example") };
        assert_eq!(many(49).check(), Ok(()));
        assert_eq!(many(50).check(), Err(MailError::TooManyReceivers(51)));
        let nobody = OutgoingMail { to: Vec::new(), ..mail("") };
        assert_eq!(nobody.check(), Err(MailError::NoReceiver));
        let empty = OutgoingMail { text: None, ..mail("a@b.example") };
        assert_eq!(empty.check(), Err(MailError::NoText));
    }

    #[test]
    fn any_text_is_an_address_or_none() {
        bolero::check!(name = "mailbox").with_max_len(64).with_iterations(20_000).for_each(
            |input: &[u8]| {
                let parts = ["a", "@", "<", ">", ".", " ", "\"", "b.example", ",", "\r\n", "ü", "-"];
                let text: String = input.iter().map(|byte| parts[usize::from(*byte) % parts.len()]).collect();
                if let Some((name, address)) = OutgoingMail::mailbox(&text) {
                    assert_eq!(address.matches('@').count(), 1);
                    assert!(address.is_ascii() && !address.contains([' ', '<', '>', ',', '"', '\r', '\n']));
                    assert!(name.is_none_or(|name| !name.is_empty()));
                }
            },
        );
    }
}
