//! Answers: a code, an enhanced code (RFC 3463), and a text.

use std::fmt::Write;

use super::SmtpConfig;

/// An answer of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    code: u16,
    enhanced: &'static str,
    text: &'static str,
}

impl Reply {
    pub(super) const OK: Self = Self::new(250, "2.0.0", "ok");
    pub(super) const SENDER_OK: Self = Self::new(250, "2.1.0", "sender ok");
    pub(super) const RECIPIENT_OK: Self = Self::new(250, "2.1.5", "recipient ok");
    pub(super) const ACCEPTED: Self = Self::new(250, "2.6.0", "accepted");
    pub(super) const DATA: Self = Self::new(354, "", "end with <CRLF>.<CRLF>");
    pub(super) const BYE: Self = Self::new(221, "2.0.0", "bye");
    pub(super) const CANNOT_VERIFY: Self = Self::new(252, "2.5.0", "send a mail and see");

    pub(super) const SHUTDOWN: Self = Self::new(421, "4.3.2", "shutting down; try again later");
    pub(super) const TIMEOUT: Self = Self::new(421, "4.4.2", "nothing came in time");
    pub(super) const TOO_MANY_CONNECTIONS: Self =
        Self::new(421, "4.7.0", "too many connections; try again later");
    pub(super) const TOO_MANY_COMMANDS: Self = Self::new(421, "4.7.0", "too many commands without a mail");
    pub(super) const TOO_MANY_ERRORS: Self = Self::new(421, "4.7.0", "too many commands that were refused");
    pub(super) const TOO_FAST: Self =
        Self::new(450, "4.7.1", "too much mail from your address; try again later");
    pub(super) const UNAVAILABLE: Self = Self::new(451, "4.3.0", "cannot store mail now; try again later");
    pub(super) const NO_ROOM: Self = Self::new(452, "4.3.1", "no room for more mail now; try again later");
    pub(super) const TOO_MANY_RECIPIENTS: Self = Self::new(452, "4.5.3", "too many recipients of one mail");

    pub(super) const UNKNOWN: Self = Self::new(500, "5.5.1", "unknown command");
    pub(super) const LINE_TOO_LONG: Self = Self::new(500, "5.5.2", "a line may have 998 bytes and CRLF");
    pub(super) const BARE: Self =
        Self::new(500, "5.5.2", "a line ends with CRLF, and has neither CR nor LF inside");
    pub(super) const SYNTAX: Self = Self::new(501, "5.5.4", "the command is malformed");
    pub(super) const BAD_SENDER: Self = Self::new(501, "5.1.7", "the address of the sender is malformed");
    pub(super) const BAD_RECIPIENT: Self =
        Self::new(501, "5.1.3", "the address of the recipient is malformed");
    pub(super) const NOT_IMPLEMENTED: Self = Self::new(502, "5.5.1", "not implemented");
    pub(super) const HELLO_FIRST: Self = Self::new(503, "5.5.1", "say EHLO first");
    pub(super) const SENDER_FIRST: Self = Self::new(503, "5.5.1", "say MAIL first");
    pub(super) const SENDER_TWICE: Self = Self::new(503, "5.5.1", "there is a sender already");
    pub(super) const RECIPIENT_FIRST: Self = Self::new(503, "5.5.1", "say RCPT first");
    pub(super) const NOT_SUPPORTED: Self = Self::new(555, "5.5.4", "a parameter is not supported");
    pub(super) const NO_SUCH_ADDRESS: Self = Self::new(550, "5.1.1", "no such address");
    pub(super) const NO_RELAY: Self = Self::new(550, "5.7.1", "mail for other domains is not taken");
    pub(super) const TOO_LARGE: Self = Self::new(552, "5.3.4", "the mail is too large");
    pub(super) const LOOP: Self = Self::new(554, "5.4.6", "the mail has come through too many servers");
    pub(super) const HEADERS: Self = Self::new(554, "5.6.0", "the header of the mail is too large");

    const fn new(code: u16, enhanced: &'static str, text: &'static str) -> Self {
        Self { code, enhanced, text }
    }

    /// Whether it says that the command will never be taken.
    pub(super) const fn is_refusal(self) -> bool {
        self.code >= 500
    }

    /// The reply as it is sent.
    pub(super) fn line(self) -> String {
        let Self { code, enhanced, text } = self;
        let space = if enhanced.is_empty() { "" } else { " " };
        format!("{code} {enhanced}{space}{text}\r\n")
    }

    /// What a server that is not asked says first; it does not tell its version.
    pub(super) fn greeting(config: &SmtpConfig) -> String {
        format!("220 {} ESMTP\r\n", config.domain)
    }

    /// The answer to HELO.
    pub(super) fn helo(config: &SmtpConfig) -> String {
        format!("250 {}\r\n", config.domain)
    }

    /// The answer to EHLO: what this server can.
    pub(super) fn ehlo(config: &SmtpConfig) -> String {
        let mut text = format!("250-{}\r\n", config.domain);
        // Writing to a String does not fail.
        let _ = write!(text, "250-SIZE {}\r\n", config.max_message_bytes);
        text.push_str("250-8BITMIME\r\n250-SMTPUTF8\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n");
        text
    }
}
