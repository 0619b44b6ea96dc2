//! Any mail, and anything that a client may say.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use picloud_core::{BoxFuture, TriggerId};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::Builder,
};

use crate::{
    IncomingMail, MailSink, Recipient, SinkError, SmtpConfig,
    incoming::Envelope,
    smtp::{Session, Shared},
};

const MAX_EVENT_BYTES: usize = 4096;

/// What an event has around what is counted: names of fields, and the address and the name of the client.
const AROUND_BYTES: usize = 2048;

fn read(raw: &[u8]) {
    let envelope = Envelope { from: "a@b.c".into(), peer: [127, 0, 0, 1].into(), helo: "x".into() };
    let Ok(mail) = IncomingMail::parse(raw, envelope, MAX_EVENT_BYTES) else { return };
    let recipient = Recipient { trigger: TriggerId::generate(), addresses: vec!["x@y.z".into()] };
    let event = Value::from(mail.fields(&recipient)).to_string();
    assert!(event.len() <= MAX_EVENT_BYTES + AROUND_BYTES, "{} bytes: {event}", event.len());
    assert!(!event.contains("\\u0000"), "{event}");
}

#[test]
fn mail() {
    bolero::check!(name = "mail").with_max_len(4096).with_iterations(20_000).for_each(read);
}

/// Lines that mails have, in any order.
#[test]
fn mail_of_likely_lines() {
    const LINES: [&str; 16] = [
        "\r\n",
        "--b\r\n",
        "--b--\r\n",
        "--c\r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n",
        "Content-Type: multipart/alternative; boundary=\"c\"\r\n",
        "Content-Type: text/html; charset=utf-16\r\n",
        "Content-Type: message/rfc822\r\n",
        "Content-Transfer-Encoding: base64\r\n",
        "Content-Transfer-Encoding: quoted-printable\r\n",
        "Content-Disposition: attachment; filename*0*=utf-8''%00; filename*1=x\r\n",
        "Subject: =?utf-8?B?AAA=?= =?x?Q?=00?=\r\n",
        "From: \"a\0b\" <x@y.z>, (c) d:e@f;\r\n",
        "=3D=\r\nQUFB\r\n",
        "Date: 99 Foo -1 99:99 +9999\r\n",
        "References: <a@b> <\0>\r\n",
    ];
    bolero::check!(name = "likely-mail").with_max_len(64).with_iterations(20_000).for_each(
        |input: &[u8]| {
            let text: Vec<u8> =
                input.iter().flat_map(|byte| LINES[usize::from(byte % 16)].as_bytes()).copied().collect();
            read(&text);
        },
    );
}

struct Counter(Arc<AtomicUsize>);

impl MailSink for Counter {
    fn recipient<'a>(&'a self, local: &'a str) -> BoxFuture<'a, Result<Option<TriggerId>, SinkError>> {
        Box::pin(async move { Ok((local != "no").then(TriggerId::generate)) })
    }

    fn deliver(&self, _: IncomingMail, recipients: Vec<Recipient>) -> BoxFuture<'_, Result<(), SinkError>> {
        assert!(!recipients.is_empty());
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }
}

/// What a client says in one connection. Every answer is a line with a code, and as many mails are accepted as end with
/// CRLF, a dot and CRLF after DATA was answered, at the most.
fn converse(said: &[u8]) {
    let delivered = Arc::new(AtomicUsize::new(0));
    let config = SmtpConfig::new("x.y".parse().expect("a domain"));
    let shared = Arc::new(Shared::new(config, Counter(Arc::clone(&delivered))));
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let answers = runtime.block_on(async {
        let (mut client, server) = duplex(1 << 16);
        let session = Session::new(shared, server, [127, 0, 0, 1].into()).run(|| true);
        let talk = async {
            // The server may have ended first.
            let _ = client.write_all(said).await;
            let _ = client.shutdown().await;
            let mut answers = String::new();
            client.read_to_string(&mut answers).await.expect("answers are text");
            answers
        };
        tokio::join!(session, talk).1
    });
    assert!(answers.starts_with("220 x.y ESMTP\r\n") && answers.ends_with("\r\n"), "{answers:?}");
    for line in answers.split_terminator("\r\n") {
        assert!(line.len() > 4 && line.as_bytes()[..3].iter().all(u8::is_ascii_digit), "{line:?}");
    }
    let accepted = answers.matches("250 2.6.0").count();
    assert_eq!(accepted, delivered.load(Ordering::Relaxed));
    let ends = said.windows(5).filter(|window| window == b"\r\n.\r\n").count();
    assert!(accepted <= ends && accepted <= answers.matches("354 ").count(), "{answers:?}");
}

#[test]
fn session() {
    bolero::check!(name = "session").with_max_len(4096).with_iterations(2_000).for_each(converse);
}

/// Commands and pieces of mails, in any order.
#[test]
fn session_of_likely_lines() {
    const LINES: [&str; 16] = [
        "EHLO x\r\n",
        "MAIL FROM:<a@b.c>\r\n",
        "MAIL FROM:<> SIZE=10 BODY=8BITMIME SMTPUTF8\r\n",
        "RCPT TO:<a@x.y>\r\n",
        "RCPT TO:<no@x.y>\r\n",
        "RCPT TO:<@a,@b:\"c d\"@x.y>\r\n",
        "DATA\r\n",
        "\r\n",
        ".\r\n",
        "..\r\n",
        "hello\r\n.\r\n",
        "RSET\r\n",
        ".\n",
        "QUIT\r\n",
        "BDAT 5 LAST\r\n",
        "VRFY \"\\\r\n",
    ];
    bolero::check!(name = "likely-session").with_max_len(40).with_iterations(5_000).for_each(
        |input: &[u8]| {
            let text: Vec<u8> =
                input.iter().flat_map(|byte| LINES[usize::from(byte % 16)].as_bytes()).copied().collect();
            converse(&text);
        },
    );
}
