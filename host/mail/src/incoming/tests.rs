use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use picloud_core::TriggerId;

use super::*;

const MOST: usize = 64 * 1024;

fn parse(raw: &str) -> Value {
    parse_within(raw.as_bytes(), MOST).unwrap()
}

fn parse_within(raw: &[u8], most: usize) -> Result<Value, MailRefusal> {
    let envelope = Envelope {
        from: "ada@example.org".into(),
        peer: "192.0.2.1".parse().unwrap(),
        helo: "mail.example.org".into(),
    };
    let recipient =
        Recipient { trigger: TriggerId::generate(), addresses: vec!["orders+7@apps.example.org".into()] };
    IncomingMail::parse(raw, envelope, most).map(|mail| mail.fields(&recipient).into())
}

#[test]
fn the_sample_of_a_trigger_for_mail_has_the_fields_of_a_mail() {
    let keys = |mail: &Value| mail.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let sample =
        picloud_core::TriggerSource::Email { address: None }.sample(time::OffsetDateTime::UNIX_EPOCH);
    let mail = parse("From: Ada <ada@example.org>\r\nSubject: x\r\nTo: b@example.org\r\n\r\nHello\r\n");
    assert_eq!(keys(&sample), keys(&mail));
    for part in ["from", "envelope"] {
        assert_eq!(keys(&sample[part]), keys(&mail[part]), "{part}");
    }
    assert_eq!(keys(&sample["to"][0]), keys(&mail["to"][0]));
    for (name, value) in mail.as_object().unwrap() {
        let kinds = (std::mem::discriminant(value), std::mem::discriminant(&sample[name]));
        assert!(value.is_null() || sample[name].is_null() || kinds.0 == kinds.1, "{name}: {value}");
    }
}

#[test]
fn a_plain_mail_has_all_its_fields() {
    let mail = parse(
        "From: =?utf-8?Q?Ada_L=C3=B6w?= <ada@example.org>\r\nTo: orders@apps.example.org, \"B, C\" <b@example.org>\r\n\
         Subject: =?utf-8?B?R3LDvMOfZQ==?=\r\nDate: Fri, 2 Jan 2026 03:04:05 +0100\r\nMessage-ID: <1@example.org>\r\n\
         In-Reply-To: <0@example.org>\r\nReferences: <a@example.org>\r\n <0@example.org>\r\nX-Own: one\r\n two\r\n\r\n\
         Hello\r\n",
    );
    assert_eq!(mail["from"], json!({ "address": "ada@example.org", "name": "Ada Löw" }));
    assert_eq!(mail["to"][1], json!({ "address": "b@example.org", "name": "B, C" }));
    assert_eq!(mail["subject"], "Grüße");
    assert_eq!(mail["date"], "2026-01-02T03:04:05+01:00");
    assert_eq!(mail["message_id"], "<1@example.org>");
    assert_eq!(mail["in_reply_to"], "<0@example.org>");
    assert_eq!(mail["references"], json!(["<a@example.org>", "<0@example.org>"]));
    assert_eq!(mail["text"], "Hello\r\n");
    assert_eq!(mail["html"], Value::Null);
    assert_eq!(mail["attachments"], json!([]));
    assert_eq!(mail["headers"][7], json!(["X-Own", "one two"]));
    assert_eq!(mail["envelope"], json!({ "from": "ada@example.org", "to": ["orders+7@apps.example.org"] }));
    assert_eq!((&mail["ip"], &mail["helo"]), (&json!("192.0.2.1"), &json!("mail.example.org")));
    assert_eq!((&mail["auth"], &mail["auto_submitted"]), (&json!("unverified"), &json!(false)));
    assert_eq!(mail["truncated"], json!([]));
}

#[test]
fn texts_and_attachments_are_told_apart() {
    let mail = parse(
        "Content-Type: multipart/mixed; boundary=\"a b\"\r\n\r\npreamble\r\n--a b\r\n\
         Content-Type: multipart/alternative; boundary=in\r\n\r\n--in\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe\r\n--in\r\nContent-Type: text/html\r\n\r\n<p>x</p>\r\n\
         --in--\r\n--a b\r\nContent-Type: image/png; name=x.png\r\nContent-ID: <c1>\r\nContent-Disposition: attachment; filename=\"y.png\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\nAAEC\r\nAwQ=\r\n--a b\r\nContent-Type: message/rfc822\r\n\r\n\
         Subject: inner\r\n\r\ninner text\r\n--a b--\r\nepilogue\r\n",
    );
    assert_eq!((&mail["text"], &mail["html"]), (&json!("Grüße"), &json!("<p>x</p>")));
    assert_eq!(
        mail["attachments"],
        json!([
            { "name": "y.png", "content_type": "image/png", "content_id": "c1", "size": 5, "content": "AAECAwQ=" },
            {
                "name": null, "content_type": "message/rfc822", "content_id": null, "size": 28,
                "content": STANDARD.encode("Subject: inner\r\n\r\ninner text"),
            },
        ])
    );
}

#[test]
fn what_is_too_large_is_cut_and_said() {
    let large = "x".repeat(100_000);
    let raw = format!(
        "Subject: s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nshort\r\n--b\r\n\
         Content-Disposition: attachment; filename=large.txt\r\n\r\n{large}\r\n--b\r\n\
         Content-Disposition: attachment; filename=small.txt\r\n\r\nabc\r\n--b--\r\n"
    );
    let mail = parse(&raw);
    assert_eq!(mail["attachments"][0]["omitted"], true);
    assert_eq!(mail["attachments"][0]["size"], 100_000);
    assert_eq!(mail["attachments"][0].get("content"), None);
    assert_eq!(mail["attachments"][1]["content"], "YWJj");
    assert_eq!(mail["truncated"], json!(["attachments"]));

    // However long the text is, what is attached is told of.
    let mail = parse(&raw.replace("short", &large));
    assert_eq!(mail["attachments"][1]["content"], "YWJj");
    assert_eq!(mail["truncated"], json!(["attachments", "text"]));

    let mail = parse(&format!("Subject: s\r\n\r\n{large}"));
    assert_eq!(mail["truncated"], json!(["text"]));
    assert!(mail.to_string().len() <= MOST + 1024, "{}", mail.to_string().len());
}

#[test]
fn every_event_can_be_stored() {
    let mail = parse(
        "Subject: a\0b\r\nFrom: \"\0\" <a\0@b.c>\r\nX\0: \0\r\nContent-Type: text/plain; charset=utf-16\r\n\r\n\0a\0\0",
    );
    assert!(!mail.to_string().contains("\\u0000"), "{mail}");
    let encoded = parse("Subject: =?utf-8?B?AA==?=\r\nMessage-ID: <\0@x>\r\n\r\n\0");
    assert!(!encoded.to_string().contains("\\u0000"), "{encoded}");
}

#[test]
fn a_loop_is_refused_and_answers_of_programs_are_marked() {
    let received =
        |count: usize| "Received: from a by b; Fri, 2 Jan 2026 03:04:05 +0100\r\n".repeat(count) + "\r\n";
    assert!(parse_within(received(30).as_bytes(), MOST).is_ok());
    assert_eq!(parse_within(received(31).as_bytes(), MOST), Err(MailRefusal::Loop));
    let marked = |header: &str| parse(&format!("{header}\r\n\r\nx"))["auto_submitted"] == true;
    for header in [
        "Auto-Submitted: auto-replied (vacation)",
        "auto-submitted: Auto-Generated; x=y",
        "Precedence: BULK",
        "Precedence: list",
        "List-Id: <x.example.org>",
    ] {
        assert!(marked(header), "{header}");
    }
    for header in ["Auto-Submitted: no", "Precedence: first-class", "Subject: Precedence: bulk"] {
        assert!(!marked(header), "{header}");
    }
    let nobody = Envelope { from: String::new(), peer: "::1".parse().unwrap(), helo: String::new() };
    let mail = IncomingMail::parse(b"\r\n", nobody, MOST).unwrap();
    let mail = mail.fields(&Recipient { trigger: TriggerId::generate(), addresses: Vec::new() });
    assert_eq!((&mail["auto_submitted"], &mail["envelope"]["from"]), (&json!(true), &Value::Null));
}

#[test]
fn a_header_that_is_too_large_is_refused() {
    let raw = format!("X: {}\r\n\r\n", "y".repeat(MAX_HEAD_BYTES));
    assert_eq!(parse_within(raw.as_bytes(), MOST), Err(MailRefusal::Header));
}

/// Each of these would take minutes, or all of the stack, where every level or every part costs the whole of what is left.
#[test]
fn bombs_take_little_time_and_no_stack() {
    const SIZE: usize = 2 << 20;
    let many = |unit: &str| unit.repeat(SIZE / unit.len());
    let mut nested = String::new();
    for level in 0..20_000 {
        let part = format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n");
        nested.push_str(&part);
    }
    let within_head = MAX_HEAD_BYTES - 1024;
    let long = |unit: &str| unit.repeat(within_head / unit.len());
    let bombs = [
        nested,
        many("Content-Type: message/rfc822\r\n\r\n"),
        format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", many("--b\r\n\r\n")),
        format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}",
            many("--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n")
        ),
        format!("Content-Type: multipart/digest; boundary=b\r\n\r\n{}", many("--b\r\n\r\n\r\n")),
        format!("{}\r\n\r\nx", long("X:\r\n")),
        format!("To: {}\r\n\r\nx", long("a@b.c,")),
        format!("To: {}\r\n\r\nx", long("a:b@c.d;")),
        format!("To: {}\r\n\r\nx", long("(")),
        format!("To: {}\r\n\r\nx", long("\"\\")),
        format!("From: {}\r\n\r\nx", long("<")),
        format!("Subject: {}\r\n\r\nx", long("=?utf-8?B?YQ==?= ")),
        format!("Subject: {}\r\n\r\nx", long("=?utf-8?Q?=?")),
        format!("Content-Type: {}\r\n\r\nx", long(";a*1*=b")),
        format!("Content-Type: text/plain; {}\r\n\r\nx", long("a*=utf-8''%41;")),
        format!("References: {}\r\n\r\nx", long("<a@b>")),
        format!("Received: {}\r\n\r\nx", long("from a by b (c) ")),
        format!("Content-Type: text/plain; charset=utf-7\r\n\r\n{}", many("+AGE-")),
        format!("Content-Transfer-Encoding: quoted-printable\r\n\r\n{}", many("=\r\n")),
        format!("Content-Transfer-Encoding: base64\r\n\r\n{}", many("QUFB\r\n")),
    ];
    for bomb in bombs {
        let started = Instant::now();
        let mail = parse_within(bomb.as_bytes(), MOST);
        let took = started.elapsed();
        assert!(
            took < Duration::from_secs(5),
            "{took:?} for {:?}",
            bomb.chars().take(60).collect::<String>()
        );
        if let Ok(mail) = mail {
            assert!(mail.to_string().len() <= MOST + 4096, "{:?}", bomb.chars().take(60).collect::<String>());
        }
    }
}
