//! The little HTTP/1.1 that the tasks speak with a server on this machine.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

/// No answer here is larger; a server that sends more is refused rather than read on.
const MAX_BODY: usize = 16 << 20;
const MAX_HEADERS: usize = 200;
const TIMEOUT: Duration = Duration::from_secs(30);

/// A request. The host is a name, since both of PiCloud's listeners look at it.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    /// Bearer token.
    pub(crate) token: Option<&'a str>,
    /// Media type and bytes.
    pub(crate) body: Option<(&'a str, &'a [u8])>,
}

impl<'a> Request<'a> {
    /// A GET.
    pub(crate) fn get(host: &'a str, path: &'a str) -> Self {
        Self { method: "GET", host, path, token: None, body: None }
    }

    /// A POST of JSON.
    pub(crate) fn post_json(host: &'a str, path: &'a str, json: &'a [u8]) -> Self {
        Self { method: "POST", host, path, token: None, body: Some(("application/json", json)) }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The body for people.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that is kept between requests.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects; every later wait is bounded too.
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request and reads its answer.
    pub(crate) fn send(&mut self, request: &Request<'_>) -> Result<Response> {
        let mut bytes = Vec::new();
        write!(bytes, "{} {} HTTP/1.1\r\nhost: {}\r\n", request.method, request.path, request.host)?;
        if let Some(token) = request.token {
            write!(bytes, "authorization: Bearer {token}\r\n")?;
        }
        if let Some((media_type, body)) = request.body {
            write!(bytes, "content-type: {media_type}\r\ncontent-length: {}\r\n", body.len())?;
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(request.body.map_or(&[], |(_, body)| body));
        self.stream.get_mut().write_all(&bytes).context("sending a request")?;
        read_response(&mut self.stream)
    }
}

/// Sends one request on a connection of its own.
pub(crate) fn send(address: SocketAddr, request: &Request<'_>) -> Result<Response> {
    Connection::open(address)?.send(request)
}

fn read_response(stream: &mut impl BufRead) -> Result<Response> {
    let status_line = read_line(stream)?;
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("{status_line:?} is no HTTP status line"))?;
    let mut length = None;
    let mut chunked = false;
    for _ in 0..MAX_HEADERS {
        let line = read_line(stream)?;
        if line.is_empty() {
            let body = match (length, chunked) {
                (Some(length), false) => read_exactly(stream, length)?,
                (None, true) => read_chunks(stream)?,
                (None, false) if status == 204 || status == 304 => Vec::new(),
                _ => bail!("the answer says neither its length nor that it comes in chunks"),
            };
            return Ok(Response { status, body });
        }
        let Some((name, value)) = line.split_once(':') else { bail!("{line:?} is no header") };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.trim().parse().context("reading content-length")?),
            "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    bail!("the answer has more than {MAX_HEADERS} headers")
}

fn read_line(stream: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    stream.take(64 << 10).read_line(&mut line).context("reading an answer")?;
    ensure!(line.ends_with('\n'), "the server closed the connection in the middle of an answer");
    Ok(line.trim_end().to_owned())
}

fn read_exactly(stream: &mut impl BufRead, length: usize) -> Result<Vec<u8>> {
    ensure!(length <= MAX_BODY, "the answer is {length} bytes long");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).context("reading an answer's body")?;
    Ok(body)
}

fn read_chunks(stream: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream)?;
        let length =
            usize::from_str_radix(line.trim(), 16).with_context(|| format!("{line:?} is no chunk size"))?;
        ensure!(body.len() + length <= MAX_BODY, "the answer is too long");
        body.extend(read_exactly(stream, length)?);
        read_line(stream)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Response> {
        read_response(&mut text.as_bytes())
    }

    #[test]
    fn bodies_of_known_length_and_in_chunks() {
        let response = read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokrest").unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
        let response =
            read("HTTP/1.1 503 x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n1\r\n!\r\n0\r\n\r\n")
                .unwrap();
        assert_eq!((response.status, response.text().as_str()), (503, "no!"));
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n").unwrap().status, 204);
    }

    #[test]
    fn what_is_not_http_is_an_error() {
        for text in
            ["", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"]
        {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
