//! Where a mail ends, and where it does not.

use serde_json::json;

use crate::support::{Server, config};
use picloud_mail::SmtpConfig;

#[tokio::test]
async fn nothing_but_crlf_dot_crlf_ends_a_mail() {
    let server = Server::start().await;
    let smuggled =
        "MAIL FROM:<eve@example.net>\r\nRCPT TO:<orders@apps.example.org>\r\nDATA\r\n\r\nsmuggled\r\n.\r\n";
    for end in [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r\n.\r",
        "\r.\r\n",
        "\r\r\n.\r\n",
        "\r\n.\r\r\n",
        "\n\n.\r\n",
    ] {
        let mut client = server.in_data().await;
        client.send(format!("Subject: x\r\n\r\nhello{end}{smuggled}")).await;
        let said = client.rest().await;
        assert_eq!(said, "500 5.5.2 a line ends with CRLF, and has neither CR nor LF inside\r\n", "{end:?}");
        assert_eq!(server.events(), [], "{end:?}");
    }
    for harmless in ["\r\n..\r\n", "\r\n.x\r\n", "\r\n \r\n. \r\n", "\r\n.\0\r\n"] {
        let before = server.events().len();
        let mut client = server.in_data().await;
        client.says(&format!("\r\nhello{harmless}still the mail\r\n."), "250 2.6.0").await;
        let events = server.events();
        assert_eq!(events.len(), before + 1, "{harmless:?}");
        assert!(events[before].1["text"].as_str().unwrap().ends_with("still the mail\r\n"), "{harmless:?}");
    }
}

#[tokio::test]
async fn commands_end_with_crlf_as_well() {
    let server = Server::start().await;
    for text in ["NOOP\n", "NOOP\rNOOP\r\n", "NO\nOP\r\n", "\n", "NOOP\r\r\n"] {
        let mut client = server.hello().await;
        client.send(text).await;
        assert!(client.rest().await.starts_with("500 5.5.2"), "{text:?}");
    }
}

#[tokio::test]
async fn dots_at_the_start_of_lines_come_back() {
    let server = Server::start().await;
    let mut client = server.in_data().await;
    client.says("\r\n..\r\n...\r\na.\r\n..b\r\n.", "250").await;
    assert_eq!(server.events()[0].1["text"], json!(".\r\n..\r\na.\r\n.b\r\n"));
}

#[tokio::test]
async fn a_mail_that_is_too_large_is_read_to_its_end_and_refused() {
    let server = Server::start_with(SmtpConfig { max_message_bytes: 10_000, ..config() }).await;
    let line = format!("{}\r\n", "x".repeat(498));
    let mut client = server.in_data().await;
    client.send(format!("\r\n{}.\r\n", line.repeat(25))).await;
    assert!(client.line().await.starts_with("552 5.3.4"));
    client.says("MAIL FROM:<a@b.c>", "250").await;
    client.says("RCPT TO:<orders@apps.example.org>", "250").await;
    client.says("DATA", "354").await;
    client.send(format!("\r\n{}.\r\n", line.repeat(19))).await;
    assert!(client.line().await.starts_with("250 2.6.0"));
    // One without an end is not read for ever.
    let mut client = server.in_data().await;
    client.send(line.repeat(60)).await;
    assert!(client.rest().await.starts_with("552 5.3.4"));
    assert_eq!(server.events().len(), 1);
}

#[tokio::test]
async fn lines_have_a_length() {
    let server = Server::start().await;
    let mut client = server.in_data().await;
    client.says(&format!("\r\n{}\r\n.", "x".repeat(998)), "250").await;
    let mut client = server.in_data().await;
    client.send(format!("\r\n{}\r\n.\r\n", "x".repeat(999))).await;
    assert!(client.rest().await.starts_with("500 5.5.2 a line may have 998"));
    let mut client = server.hello().await;
    client.send("x".repeat(5_000)).await;
    assert!(client.rest().await.starts_with("500 5.5.2 a line may have 998"));
}

#[tokio::test]
async fn mails_share_the_memory_that_there_is() {
    let server = Server::start_with(SmtpConfig { max_buffered_bytes: 256 * 1024, ..config() }).await;
    let mut client = server.in_data().await;
    let mut other = server.in_data().await;
    other.send("Subject: first\r\n\r\n").await;
    let line = format!("{}\r\n", "x".repeat(498));
    // Twice 128 KiB are more than what the other one leaves.
    client.send(format!("{}.\r\n", line.repeat(256))).await;
    assert!(client.line().await.starts_with("452 4.3.1"));
    other.says("hello\r\n.", "250").await;
    client.says("MAIL FROM:<a@b.c>", "250").await;
    client.says("RCPT TO:<orders@apps.example.org>", "250").await;
    client.says("DATA", "354").await;
    client.says("\r\nsmall\r\n.", "250").await;
}

#[tokio::test]
async fn a_mail_in_circles_is_refused() {
    let server = Server::start().await;
    let mut client = server.in_data().await;
    client.says(&format!("{}\r\nx\r\n.", "Received: from a by b\r\n".repeat(31)), "554 5.4.6").await;
    assert_eq!(server.events(), []);
}
