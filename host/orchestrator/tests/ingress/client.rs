//! A client that sends exactly the bytes it is told to.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header that is there at most once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} is there twice: {self:?}");
        first
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks that this is a whole problem of the platform.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.header("picloud-error")), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!((&json["status"], &json["code"]), (&status.into(), &code.into()), "{self:?}");
        assert_eq!(json["request_id"].as_str(), self.header("picloud-request-id"), "{self:?}");
        assert!(json["type"].is_string() && json["title"].is_string() && json["detail"].is_string());
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends what the other side may refuse to take.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Sends without reading, until the other side has ended the connection.
    pub(crate) async fn send_until_refused(&mut self) {
        while self.stream.write_all(&[b'x'; 1024]).await.is_ok() {}
    }

    /// Reads one answer; `None` if the connection ends before one begins.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        self.answer_to(true).await
    }

    /// Reads the answer to HEAD, which has a length but no body.
    pub(crate) async fn answer_to_head(&mut self) -> Answer {
        self.answer_to(false).await.unwrap()
    }

    async fn answer_to(&mut self, has_body: bool) -> Option<Answer> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            if self.fill().await == 0 {
                assert!(
                    self.buffer.is_empty(),
                    "half an answer: {:?}",
                    String::from_utf8_lossy(&self.buffer)
                );
                return None;
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length =
            headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse());
        let length: usize = if has_body { length.map_or(0, Result::unwrap) } else { 0 };
        while self.buffer.len() < length {
            assert!(self.fill().await > 0, "the body ends early: {head}");
        }
        Some(Answer { status, headers, body: self.buffer.drain(..length).collect() })
    }

    /// Whether the other side has closed the connection, with nothing more to read.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.fill().await == 0
    }

    /// Reads whatever comes until the connection ends.
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill().await > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// Reads at least `length` bytes.
    pub(crate) async fn read(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if self.fill().await == 0 {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    async fn fill(&mut self) -> usize {
        // A reset is an end as well.
        self.stream.read_buf(&mut self.buffer).await.unwrap_or(0)
    }
}
