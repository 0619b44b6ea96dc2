//! HTTP over a bare socket.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// Longer than any answer may take; a test that waits this long has found a hang.
const LIMIT: Duration = Duration::from_mins(1);

/// A response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Understands the bytes of one response, up to the end of the connection.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut response = Self { status, headers, body: Vec::new() };
        let rest = &bytes[end + 4..];
        response.body = match response.header("transfer-encoding") {
            Some("chunked") => dechunk(rest),
            _ => rest.to_vec(),
        };
        Some(response)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The platform's error code: the header and the document must agree.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        let code = self.header("picloud-error").unwrap_or_else(|| panic!("no picloud-error: {self:?}"));
        if !self.body.is_empty() {
            assert_eq!(self.json()["code"], code);
        }
        assert!(self.header("picloud-request-id").is_some(), "{self:?}");
        code.to_owned()
    }
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end]).unwrap();
        let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
    body
}

/// Sends bytes and reads until the server ends the connection.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    // A server that refuses early may close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return answer,
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return answer,
            Err(error) => panic!("{error}; so far: {:?}", String::from_utf8_lossy(&answer)),
        }
    }
}

/// A connection that gives up before a hang becomes the test's own.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// One request on a connection of its own. `head` is the request line and further header lines.
#[track_caller]
pub(crate) fn request(address: SocketAddr, host: &str, head: &str, body: &[u8]) -> Response {
    let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
    let mut bytes = format!("{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for header in headers.lines() {
        bytes.push_str(header);
        bytes.push_str("\r\n");
    }
    if !body.is_empty() {
        bytes = format!("{bytes}content-length: {}\r\n", body.len());
    }
    bytes.push_str("\r\n");
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(body);
    let answer = exchange(address, &bytes);
    Response::parse(&answer).unwrap_or_else(|| panic!("no response: {:?}", String::from_utf8_lossy(&answer)))
}

/// GET of a path.
#[track_caller]
pub(crate) fn get(address: SocketAddr, host: &str, path: &str) -> Response {
    request(address, host, &format!("GET {path}"), b"")
}

/// POST of a JSON document.
#[track_caller]
pub(crate) fn post_json(address: SocketAddr, host: &str, path: &str, body: &str) -> Response {
    request(address, host, &format!("POST {path}\ncontent-type: application/json"), body.as_bytes())
}
