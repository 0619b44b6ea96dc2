//! Mail from outside to a script, and from the script to the relay.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use crate::support::{Server, deliver, fill, home};

/// Longer than anything here takes, retries included.
const PATIENCE: Duration = Duration::from_mins(1);

const SCRIPT: &str = r#"
fn on_email(mail) {
    kv::set("inbox", mail.subject, mail.attachments.len());
    email::send(#{ to: mail.from.address, subject: `Re: ${mail.subject}`, text: "Got it." });
}

fn on_dead_letter(letter) {
    email::send(#{ to: "operator@example.org", subject: letter.error.code, text: letter.source.event.subject });
}
"#;

/// A mail server that refuses the receiver `nobody@example.org`, has no time for the first mail, and hands on the rest.
fn relay() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mails) = channel();
    thread::spawn(move || {
        let mut is_busy = true;
        for stream in listener.incoming() {
            let (stream, sender) = (stream.unwrap(), sender.clone());
            let busy = std::mem::take(&mut is_busy);
            thread::spawn(move || talk(&stream, busy, |mail| sender.send(mail).unwrap()));
        }
    });
    (address, mails)
}

fn talk(mut stream: &TcpStream, busy: bool, take: impl Fn(String)) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    stream.write_all(b"220 relay\r\n").ok()?;
    while let Some(Ok(line)) = lines.next() {
        let answer = match line.get(..4).unwrap_or_default() {
            "MAIL" if busy => "451 come again",
            "RCPT" if line.contains("nobody@") => "550 unknown",
            "DATA" => {
                stream.write_all(b"354 go on\r\n").ok()?;
                let text: Vec<String> =
                    lines.by_ref().map_while(Result::ok).take_while(|line| line != ".").collect();
                take(text.join("\n"));
                "250 taken"
            }
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).ok()?;
    }
    Some(())
}

#[test]
fn a_mail_runs_its_script_whose_answer_goes_out_and_what_is_refused_is_a_dead_letter() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let (relay, mails) = relay();
    let settings = [
        ("PICLOUD_SMTP_ADDR", "127.0.0.1:0"),
        ("PICLOUD_SMTP_DOMAIN", "apps.example.org"),
        ("PICLOUD_SMTP_RELAY", &format!("smtp://{relay}?tls=none")),
        ("PICLOUD_MAIL_FROM", "{app}@apps.example.org"),
        ("PICLOUD_TRIGGER_RETRY_BASE_DELAY_MS", "10"),
    ];
    let mut server = Server::start(&data_dir, &settings);
    let listener = server.mail();
    server.cli(&["app", "create", "desk"]).ok();
    let script = home.path().join("desk.rhai");
    fs::write(&script, SCRIPT).unwrap();
    server.cli(&["deploy", script.to_str().unwrap(), "--name", "desk", "--app", "desk"]).ok();
    let add = |rest: &[&str]| {
        server.cli(&[&["trigger", "add"], rest, &["--script", "desk", "--app", "desk"]].concat()).ok()
    };
    add(&["inbox", "--email", "support"]);
    add(&["alarm", "--dead-letters", "--of-kind", "mail"]);

    assert!(deliver(listener, "ada@example.org", "nobody@apps.example.org", "x").starts_with("550"));
    assert!(deliver(listener, "ada@example.org", "support@elsewhere.example", "x").starts_with("55"));
    // The relay has no time at first; the mail is tried again.
    assert!(deliver(listener, "ada@example.org", "Support+7@apps.example.org", "one").starts_with("250"));
    let answer = mails.recv_timeout(PATIENCE).unwrap();
    for part in ["From: desk@apps.example.org", "To: ada@example.org", "Subject: Re: one", "Got it."] {
        assert!(answer.contains(part), "{answer}");
    }
    let entry = server.cli(&["kv", "get", "inbox", "one", "--app", "desk"]).ok();
    assert_eq!(entry.trim(), "0", "it is committed with the mail");
    assert!(deliver(listener, "nobody@example.org", "support@apps.example.org", "two").starts_with("250"));
    let alarm = mails.recv_timeout(PATIENCE).unwrap();
    assert!(alarm.contains("Subject: mail_rejected") && alarm.contains("Re: two"), "{alarm}");

    server.cli(&["app", "limits", "desk", "--set", "outbox_events=0"]).ok();
    assert!(deliver(listener, "ada@example.org", "support@apps.example.org", "three").starts_with("452"));
    server.signal("TERM");
    let (code, stderr) = server.wait();
    assert_eq!(code, Some(0), "{stderr}");
}
