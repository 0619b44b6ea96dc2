//! The relay: the operator's mail server, which takes what scripts send.

mod settings;

use std::{fmt, sync::Arc, time::Duration};

use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Mailbox as LettreMailbox, MultiPart, SinglePart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        Error as TransportError,
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
        extension::ClientId,
    },
};
use picloud_core::{
    AppName, BoxFuture, DomainName, EventId, MailError, Mailbox, Mailer, MailerError, OutgoingMail,
    SecretValue,
};

pub use settings::{RelayUrl, SenderAddress};

use settings::Security;

/// For each answer of the relay.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How a certificate begins in a file.
const PEM_CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// The most characters of what a relay says that are kept.
const MAX_TEXT_CHARS: usize = 500;

/// Answers that mean that the relay does not know this server, which the operator can mend.
const NOT_AUTHENTICATED: [u16; 4] = [530, 534, 535, 538];

/// What is known of a relay.
#[derive(Debug)]
pub struct RelayConfig {
    /// Where it is, and as whom to sign in.
    pub url: RelayUrl,
    /// The password of the user in the URL.
    pub password: Option<Arc<SecretValue>>,
    /// From which address apps send.
    pub from: SenderAddress,
    /// What this server calls itself.
    pub hello: DomainName,
    /// Certificates (PEM) of authorities to trust, beside the public ones.
    pub roots: Option<Vec<u8>>,
}

/// Why there can be no relay with these settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// There is a user and no password.
    #[error("the relay's URL has a user and there is no password; set both or neither")]
    NoPassword,
    /// There is a password and no user.
    #[error("the relay has a password and its URL has no user; allowed is smtp://USER@HOST:PORT")]
    NoUser,
    /// The password would be sent in clear.
    #[error("the relay's URL has a user and tls=none; a password is never sent in clear")]
    PasswordInClear,
    /// There are to be authorities, and there is none.
    #[error("the file of authorities has no certificate; allowed is a file of certificates in PEM form")]
    NoAuthority,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// Why a mail was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may work later: the relay is away or asks to come again, or does not let this server in.
    #[error("the relay cannot take the mail now: {0}")]
    Temporary(String),
    /// It will not work: the relay refuses the mail or one of its receivers.
    #[error("the relay refuses the mail: {0}")]
    Permanent(String),
    /// The mail is not one that can be sent.
    #[error(transparent)]
    Invalid(#[from] MailError),
}

impl SendError {
    /// Whether trying again makes sense.
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Temporary(_))
    }
}

/// A relay.
pub struct Relay {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: SenderAddress,
}

impl Relay {
    /// A relay with these settings. Nothing is connected yet.
    pub fn new(config: RelayConfig) -> Result<Self, RelayError> {
        let RelayConfig { url, password, from, hello, roots } = config;
        if roots.as_ref().is_some_and(|pem| !has_certificate(pem)) {
            return Err(RelayError::NoAuthority);
        }
        let tls = || tls(&url.host, roots.as_deref()).map_err(|error| RelayError::Tls(error.to_string()));
        let security = match url.security {
            Security::None => Tls::None,
            Security::StartTls => Tls::Required(tls()?),
            Security::Tls => Tls::Wrapper(tls()?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(url.host)
            .port(url.port)
            .tls(security)
            .timeout(Some(TIMEOUT))
            .hello_name(ClientId::Domain(hello.to_string()));
        builder = match (url.user, password) {
            (None, None) => builder,
            (None, Some(_)) => return Err(RelayError::NoUser),
            (Some(_), None) => return Err(RelayError::NoPassword),
            (Some(_), Some(_)) if url.security == Security::None => return Err(RelayError::PasswordInClear),
            (Some(user), Some(password)) => {
                builder.credentials(Credentials::new(user, password.expose().to_owned()))
            }
        };
        Ok(Self { transport: builder.build(), from })
    }

    /// Sends a mail of an app. The event's id makes its `Message-ID`, so that a mail that is sent twice can be told as one.
    ///
    /// All receivers or none: one that the relay refuses is a refusal of the mail.
    pub async fn send(&self, event: EventId, app: &AppName, mail: &OutgoingMail) -> Result<(), SendError> {
        let message = message(&self.from, event, app, mail)?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) => Err(of_transport(&error)),
        }
    }
}

impl Mailer for Relay {
    fn send<'a>(
        &'a self,
        event: EventId,
        app: &'a AppName,
        mail: &'a OutgoingMail,
    ) -> BoxFuture<'a, Result<(), MailerError>> {
        Box::pin(async move {
            Self::send(self, event, app, mail).await.map_err(|error| {
                let text = error.to_string();
                if error.is_temporary() { MailerError::Temporary(text) } else { MailerError::Permanent(text) }
            })
        })
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("from", &self.from).finish_non_exhaustive()
    }
}

/// Whether there is one to be read, which nobody else misses.
fn has_certificate(pem: &[u8]) -> bool {
    pem.windows(PEM_CERTIFICATE.len()).any(|part| part == PEM_CERTIFICATE)
}

fn tls(host: &str, roots: Option<&[u8]>) -> Result<TlsParameters, TransportError> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(pem) = roots {
        builder = builder.add_root_certificate(Certificate::from_pem(pem)?);
    }
    builder.build()
}

fn message(
    from: &SenderAddress,
    event: EventId,
    app: &AppName,
    mail: &OutgoingMail,
) -> Result<Message, SendError> {
    mail.check()?;
    let sender = from.of(app);
    let own = Mailbox { name: mail.from_name.clone(), address: sender.clone() };
    // RFC 3834: what programs send says so, so that no program answers it.
    let origin = if mail.in_reply_to.is_some() { "auto-replied" } else { "auto-generated" };
    let origin = HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), origin.to_owned());
    let mut builder = Message::builder()
        .from(mailbox(&own)?)
        .subject(mail.subject.as_str())
        .message_id(Some(format!("<{event}@{}>", sender.domain())))
        .raw_header(origin)
        .date_now();
    for text in &mail.to {
        builder = builder.to(parsed("to", text)?);
    }
    for text in &mail.cc {
        builder = builder.cc(parsed("cc", text)?);
    }
    for text in &mail.bcc {
        builder = builder.bcc(parsed("bcc", text)?);
    }
    if let Some(text) = &mail.reply_to {
        builder = builder.reply_to(parsed("reply_to", text)?);
    }
    if let Some(id) = &mail.in_reply_to {
        builder = builder.in_reply_to(id.clone()).references(id.clone());
    }
    let (text, html) = (mail.text.as_deref().map(lines), mail.html.as_deref().map(lines));
    let built = match (text, html) {
        (Some(text), Some(html)) => builder.multipart(MultiPart::alternative_plain_html(text, html)),
        (None, Some(html)) => builder.singlepart(SinglePart::html(html)),
        (text, None) => builder.singlepart(SinglePart::plain(text.unwrap_or_default())),
    };
    built.map_err(|error| SendError::Permanent(error.to_string()))
}

/// `text` with the line ends of mail, whichever it had.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n")
}

fn parsed(field: &'static str, text: &str) -> Result<LettreMailbox, SendError> {
    let of = |problem| MailError::Address { field, value: text.to_owned(), problem };
    mailbox(&text.parse::<Mailbox>().map_err(of)?)
}

fn mailbox(mailbox: &Mailbox) -> Result<LettreMailbox, SendError> {
    let address = Address::new(mailbox.address.local(), mailbox.address.domain());
    let address = address.map_err(|error| SendError::Permanent(format!("{}: {error}", mailbox.address)))?;
    Ok(LettreMailbox::new(mailbox.name.clone(), address))
}

fn of_transport(error: &TransportError) -> SendError {
    let text = error.to_string().chars().take(MAX_TEXT_CHARS).collect();
    let is_mendable = error.status().is_some_and(|code| NOT_AUTHENTICATED.contains(&u16::from(code)));
    if error.is_permanent() && !is_mendable { SendError::Permanent(text) } else { SendError::Temporary(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(mail: &OutgoingMail) -> String {
        let from = "{app}@apps.example.org".parse().unwrap();
        let event = "0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b".parse().unwrap();
        let message = message(&from, event, &"demo".parse().unwrap(), mail).unwrap();
        String::from_utf8(message.formatted()).unwrap()
    }

    fn mail() -> OutgoingMail {
        OutgoingMail {
            to: vec!["ada@example.org".into()],
            subject: "Hello".into(),
            text: Some("one\ntwo\rthree\r\n.\n".into()),
            ..OutgoingMail::default()
        }
    }

    #[test]
    fn a_mail_has_the_id_of_its_event_and_says_that_a_program_sent_it() {
        let text = formatted(&mail());
        assert!(
            text.contains("\r\nMessage-ID: <0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b@apps.example.org>\r\n"),
            "{text}"
        );
        assert!(text.contains("From: demo@apps.example.org\r\n"), "{text}");
        assert!(
            text.contains("\r\nAuto-Submitted: auto-generated\r\n") && text.contains("\r\nDate: "),
            "{text}"
        );
        let answer = formatted(&OutgoingMail { in_reply_to: Some("<a@b.c>".into()), ..mail() });
        assert!(answer.contains("\r\nAuto-Submitted: auto-replied\r\n"), "{answer}");
        assert!(
            answer.contains("\r\nIn-Reply-To: <a@b.c>\r\n") && answer.contains("\r\nReferences: <a@b.c>\r\n")
        );
    }

    #[test]
    fn lines_end_as_lines_of_mail_do() {
        let text = formatted(&OutgoingMail { html: Some("<p>\r</p>\n".into()), ..mail() });
        let rest = text.replace("\r\n", "");
        assert!(!rest.contains(['\r', '\n']), "{text:?}");
        assert!(text.split("\r\n").all(|line| line.len() <= 998));
    }

    #[test]
    fn names_and_subjects_stay_in_their_headers() {
        let mail = OutgoingMail {
            from_name: Some("Eve\" <eve@example.net>, \"Grüße: <x>".into()),
            to: vec!["A; B, \"C\" (D) <ada@example.org>".into()],
            bcc: vec!["hidden@example.org".into()],
            subject: format!("Bcc: x {}", "ü".repeat(400)),
            ..mail()
        };
        let text = formatted(&mail);
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        let names: Vec<&str> = head
            .split("\r\n")
            .filter(|line| !line.starts_with([' ', '\t']))
            .map(|line| line.split(':').next().unwrap())
            .collect();
        assert!(!names.contains(&"Bcc") && !text.contains("hidden"), "{text}");
        assert_eq!(names.iter().filter(|name| **name == "From").count(), 1, "{text}");
        assert!(head.split("\r\n").all(|line| line.len() <= 998), "{text}");
    }

    #[test]
    fn what_cannot_be_sent_is_told_and_not_tried_again() {
        let from = "{app}@apps.example.org".parse().unwrap();
        let mail = OutgoingMail { to: vec!["ada@example.org\r\nBcc: eve@example.org".into()], ..mail() };
        let error = message(&from, EventId::generate(), &"demo".parse().unwrap(), &mail).unwrap_err();
        assert!(matches!(error, SendError::Invalid(_)) && !error.is_temporary(), "{error}");
    }
}
