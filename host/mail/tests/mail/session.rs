//! Commands and their order.

use picloud_mail::SinkError;
use serde_json::json;

use crate::support::Server;

#[tokio::test]
async fn a_mail_is_accepted_after_it_is_committed() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("EHLO client.example.org\r\n").await;
    let mut said = Vec::new();
    while said.last().is_none_or(|line: &String| line.starts_with("250-")) {
        said.push(client.line().await);
    }
    assert_eq!(
        said,
        [
            "250-apps.example.org",
            "250-SIZE 10485760",
            "250-8BITMIME",
            "250-SMTPUTF8",
            "250-PIPELINING",
            "250 ENHANCEDSTATUSCODES",
        ]
    );
    client.says("MAIL FROM:<ada@example.org> SIZE=100 BODY=8BITMIME", "250 2.1.0").await;
    client.says("RCPT TO:<Orders+7@APPS.example.org>", "250 2.1.5").await;
    client.says("DATA", "354 ").await;
    server.sink.gate.forget_permits(usize::MAX >> 3);
    client.send("Subject: hi\r\n\r\n..dot\r\n.\r\n").await;
    server.sink.waiting.notified().await;
    assert_eq!(server.events(), []);
    server.sink.gate.add_permits(1);
    assert_eq!(client.line().await, "250 2.6.0 accepted");
    let [(trigger, event)] = server.events().try_into().unwrap();
    assert_eq!(trigger, server.trigger("orders"));
    assert_eq!((&event["subject"], &event["text"]), (&json!("hi"), &json!(".dot\r\n")));
    assert_eq!(event["envelope"], json!({ "from": "ada@example.org", "to": ["Orders+7@APPS.example.org"] }));
    assert_eq!((&event["ip"], &event["helo"]), (&json!("127.0.0.1"), &json!("client.example.org")));
    client.says("QUIT", "221 2.0.0").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn commands_that_come_together_are_answered_in_their_order() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client
        .send(
            "HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<help@apps.example.org>\r\nRCPT TO:<nobody@apps.example.org>\r\n\
             NOOP\r\nDATA\r\nSubject: x\r\n\r\n.\r\nMAIL FROM:<a@b.c>\r\nRSET\r\nDATA\r\nQUIT\r\n",
        )
        .await;
    let said = client.rest().await;
    let codes: Vec<&str> = said.lines().map(|line| &line[..3]).collect();
    assert_eq!(
        codes,
        ["250", "250", "250", "550", "250", "354", "250", "250", "250", "503", "221"],
        "{said}"
    );
    let [(trigger, event)] = server.events().try_into().unwrap();
    assert_eq!((trigger, &event["auto_submitted"]), (server.trigger("help"), &json!(true)));
}

#[tokio::test]
async fn each_recipient_is_one_event_and_learns_of_no_other() {
    let server = Server::start().await;
    let mut client = server.hello().await;
    client.says("MAIL FROM:<ada@example.org>", "250").await;
    for to in ["orders", "help", "orders+1", "A+b", "help"] {
        client.says(&format!("RCPT TO:<{to}@apps.example.org>"), "250 2.1.5").await;
    }
    client.says("RCPT TO:<Postmaster>", "250 2.1.5").await;
    client.says("DATA", "354").await;
    client.says("\r\nhello\r\n.", "250 2.6.0").await;
    let found: Vec<_> = server
        .events()
        .into_iter()
        .map(|(trigger, event)| (trigger, event["envelope"]["to"].clone()))
        .collect();
    assert_eq!(
        found,
        [
            (server.trigger("orders"), json!(["orders@apps.example.org", "orders+1@apps.example.org"])),
            (server.trigger("help"), json!(["help@apps.example.org", "help@apps.example.org"])),
            (server.trigger("a+b"), json!(["A+b@apps.example.org"])),
            (server.trigger("postmaster"), json!(["postmaster"])),
        ]
    );
}

#[tokio::test]
async fn no_mail_is_relayed() {
    let server = Server::start().await;
    let mut client = server.hello().await;
    client.says("MAIL FROM:<orders@apps.example.org>", "250").await;
    for to in [
        "<ada@example.org>",
        "<orders@sub.apps.example.org>",
        "<orders@apps.example.org.example.net>",
        "<@apps.example.org:ada@example.org>",
    ] {
        client.says(&format!("RCPT TO:{to}"), "550 5.7.1").await;
    }
    client.says("RCPT TO:<orders@[127.0.0.1]>", "501 5.1.3").await;
    for to in ["<ada%example.org@apps.example.org>", "<example.org!ada@apps.example.org>"] {
        client.says(&format!("RCPT TO:{to}"), "550 5.1.1").await;
    }
    client.says("DATA", "503").await;
    assert_eq!(server.events(), []);
}

#[tokio::test]
async fn what_is_out_of_order_or_unknown_is_refused() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.says("MAIL FROM:<a@b.c>", "503 5.5.1").await;
    client.says("RCPT TO:<orders@apps.example.org>", "503").await;
    client.says("DATA", "503").await;
    client.says("HELO x", "250 apps.example.org").await;
    client.says("MAIL FROM:<a@b.c>", "250").await;
    client.says("MAIL FROM:<a@b.c>", "503").await;
    client.says("RSET", "250").await;
    client.says("AUTH PLAIN AGEAYg==", "502").await;
    client.says("EXPN list", "502").await;
    client.says("STARTTLS", "502").await;
    client.says("VRFY orders", "252").await;
    client.says("NONSENSE", "500").await;

    let mut client = server.hello().await;
    client.says("MAIL FROM:<a@b.c> SIZE=10485761", "552 5.3.4").await;
    client.says("MAIL FROM:<a@b.c> BODY=BINARYMIME", "555 5.5.4").await;
    client.says("MAIL FROM:<a@b.c> REQUIRETLS", "555 5.5.4").await;
    client.says("MAIL FROM:<a b>", "501").await;
    client.says("MAIL FROM:a@b.c", "501").await;
    client.says("MAIL FROM:<a@b.c>", "250").await;
    client.says("RCPT TO:<orders@apps.example.org", "501").await;
    client.says("RCPT TO:<>", "501 5.1.3").await;
    client.says("EHLO again", "250-").await;

    // What follows BDAT is no command.
    let mut client = server.hello().await;
    client.send("BDAT 22 LAST\r\nMAIL FROM:<a@b.c>\r\nNOOP\r\n").await;
    assert_eq!(client.rest().await, "502 5.5.1 not implemented\r\n");
}

#[tokio::test]
async fn a_sink_that_cannot_is_not_the_end_of_a_mail() {
    let server = Server::start().await;
    let fail = |error| *server.sink.failure.lock().unwrap() = error;
    let mut client = server.hello().await;
    client.says("MAIL FROM:<a@b.c>", "250").await;
    fail(Some(SinkError::Unavailable));
    client.says("RCPT TO:<orders@apps.example.org>", "451 4.3.0").await;
    fail(None);
    for (error, answer) in [(SinkError::Full, "452 4.3.1"), (SinkError::Unavailable, "451 4.3.0")] {
        client.says("RSET", "250").await;
        client.says("MAIL FROM:<a@b.c>", "250").await;
        client.says("RCPT TO:<orders@apps.example.org>", "250").await;
        client.says("DATA", "354").await;
        fail(Some(error));
        client.says("\r\nhello\r\n.", answer).await;
        fail(None);
    }
    assert_eq!(server.events(), []);
}

#[tokio::test]
async fn a_stop_waits_for_the_mail_that_is_being_received_and_for_nobody_else() {
    let mut server = Server::start().await;
    let mut idle = server.hello().await;
    let mut announced = server.hello().await;
    announced.says("MAIL FROM:<a@b.c>", "250").await;
    let mut busy = server.in_data().await;
    server.stop();
    assert_eq!(idle.rest().await, "421 4.3.2 shutting down; try again later\r\n");
    assert_eq!(announced.rest().await, "421 4.3.2 shutting down; try again later\r\n");
    busy.says("\r\nlast\r\n.", "250 2.6.0").await;
    assert!(busy.rest().await.starts_with("421 4.3.2"));
    let events = server.events();
    assert_eq!((events.len(), server.ended().await.cut), (1, 0));
}
