//! What one peer may take, and for how long.

use std::time::Duration;

use picloud_mail::SmtpConfig;

use crate::support::{Client, Server, config};

#[tokio::test]
async fn connections_are_counted_in_all_and_by_address() {
    for config in [
        SmtpConfig { max_connections: 2, ..config() },
        SmtpConfig { max_connections_per_peer: 2, ..config() },
    ] {
        let server = Server::start_with(config).await;
        let mut first = server.hello().await;
        let _second = server.hello().await;
        let mut third = Client::to(server.address).await;
        assert_eq!(third.rest().await, "421 4.7.0 too many connections; try again later\r\n");
        first.says("QUIT", "221").await;
        assert_eq!(first.rest().await, "");
        // The place is free once the server has noticed, which the client cannot see.
        loop {
            let mut fourth = Client::to(server.address).await;
            if fourth.line().await.starts_with("220 ") {
                break;
            }
        }
    }
}

#[tokio::test]
async fn recipients_commands_and_errors_are_counted() {
    let server =
        Server::start_with(SmtpConfig { max_recipients: 3, max_idle_commands: 20, ..config() }).await;
    let mut client = server.hello().await;
    client.says("MAIL FROM:<a@b.c>", "250").await;
    for _ in 0..3 {
        client.says("RCPT TO:<orders@apps.example.org>", "250").await;
    }
    client.says("RCPT TO:<orders@apps.example.org>", "452 4.5.3").await;
    client.says("DATA", "354").await;
    client.says("\r\nx\r\n.", "250").await;
    for _ in 0..20 {
        client.says("NOOP", "250").await;
    }
    client.says("NOOP", "421 4.7.0").await;
    assert_eq!(client.rest().await, "");

    // Whoever tries addresses does not try many.
    let mut client = server.hello().await;
    client.says("MAIL FROM:<a@b.c>", "250").await;
    for _ in 0..10 {
        client.says("RCPT TO:<guess@apps.example.org>", "550 5.1.1").await;
    }
    client.says("RCPT TO:<guess@apps.example.org>", "421 4.7.0").await;
}

#[tokio::test]
async fn a_mail_is_for_so_many_triggers() {
    let server = Server::start_with(SmtpConfig { max_events: 2, ..config() }).await;
    let mut client = server.hello().await;
    client.says("MAIL FROM:<a@b.c>", "250").await;
    for (name, answer) in
        [("orders", "250"), ("help", "250"), ("postmaster", "452 4.5.3"), ("orders+1", "250")]
    {
        client.says(&format!("RCPT TO:<{name}@apps.example.org>"), answer).await;
    }
    client.says("DATA", "354").await;
    client.says("\r\nx\r\n.", "250").await;
    assert_eq!(server.events().len(), 2);
}

#[tokio::test]
async fn hellos_without_end_are_counted() {
    let server = Server::start_with(SmtpConfig { max_idle_commands: 5, ..config() }).await;
    let mut client = server.connect().await;
    client.send("HELO x\r\n".repeat(6)).await;
    assert!(client.rest().await.ends_with("421 4.7.0 too many commands without a mail\r\n"));
}

#[tokio::test]
async fn mails_of_one_address_are_counted_over_its_connections() {
    let server = Server::start_with(SmtpConfig { mails_per_minute: 2, ..config() }).await;
    for answer in ["250", "250", "450 4.7.1"] {
        server.hello().await.says("MAIL FROM:<a@b.c>", answer).await;
    }
}

#[tokio::test]
async fn who_says_nothing_is_told_to_go() {
    let brief = SmtpConfig { line_timeout: Duration::from_millis(50), ..config() };
    let server = Server::start_with(brief).await;
    let mut client = server.hello().await;
    assert_eq!(client.rest().await, "421 4.4.2 nothing came in time\r\n");
    let mut client = server.hello().await;
    client.send("NO").await;
    assert_eq!(client.rest().await, "421 4.4.2 nothing came in time\r\n");

    let slow = SmtpConfig { data_timeout: Duration::from_millis(50), ..config() };
    let server = Server::start_with(slow).await;
    let mut client = server.in_data().await;
    client.send("Subject: never\r\n").await;
    assert_eq!(client.rest().await, "421 4.4.2 nothing came in time\r\n");
    assert_eq!(server.events(), []);
}

#[tokio::test]
async fn a_mail_that_outlasts_the_grace_is_cut() {
    let mut server = Server::start_with(SmtpConfig { grace: Duration::from_millis(20), ..config() }).await;
    let mut client = server.in_data().await;
    client.send("Subject: never\r\n").await;
    server.stop();
    assert_eq!(client.rest().await, "");
    assert_eq!(server.ended().await.cut, 1);
}

#[tokio::test]
async fn a_client_that_goes_in_the_middle_leaves_nothing() {
    let mut server = Server::start().await;
    let mut client = server.in_data().await;
    client.send("Subject: never\r\n\r\nhello\r\n").await;
    drop(client);
    server.stop();
    let events = server.events();
    assert_eq!(server.ended().await.cut, 0);
    assert_eq!(events, []);
}
