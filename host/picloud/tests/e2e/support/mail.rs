//! A mail server that has a mail for the platform.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
};

use super::http::connect;

/// Sends a mail; answers what the listener says to the receiver, or else to the mail.
pub(crate) fn deliver(listener: SocketAddr, from: &str, to: &str, subject: &str) -> String {
    let mut stream = connect(listener);
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut say = |text: &str| {
        if !text.is_empty() {
            stream.write_all(format!("{text}\r\n").as_bytes()).unwrap();
        }
        lines.by_ref().map(Result::unwrap).find(|line| line.as_bytes().get(3) == Some(&b' ')).unwrap()
    };
    say("");
    say("EHLO sender.example.org");
    say(&format!("MAIL FROM:<{from}>"));
    let answer = say(&format!("RCPT TO:<{to}>"));
    if !answer.starts_with("250") {
        return answer;
    }
    assert!(say("DATA").starts_with("354"));
    say(&format!("From: Ada <{from}>\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nHello\r\n."))
}
