//! The list *HTTP* of the threat model, against both listeners where it applies to both: each item gets a typed
//! answer or an orderly end, and the next request works.

use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use crate::support::{App, Response, connect, exchange, get, request, shared, shared_app};

/// An app with a script that shows what it sees.
fn mirror(name: &str) -> App {
    let app = shared_app(name);
    app.deploy(
        "mirror",
        "#{ method: req.method, path: req.path, body: req.body, ip: req.ip, query: req.query }",
    )
    .ok();
    app
}

/// Sends a head as it is, with `HOST` for the app's host, and understands the answer.
#[track_caller]
fn send(app: &App, head: &str) -> Response {
    let bytes = head.replace("HOST", &app.host()).replace('\n', "\r\n");
    let answer = exchange(app.server.app, bytes.as_bytes());
    Response::parse(&answer).unwrap_or_else(|| panic!("no response: {:?}", String::from_utf8_lossy(&answer)))
}

/// The app still answers.
#[track_caller]
fn works(app: &App) {
    assert_eq!(app.get("/mirror").status, 200);
}

#[test]
fn ambiguous_lengths_are_refused() {
    let app = mirror("lengths");
    let heads = [
        "POST /mirror HTTP/1.1\nHost: HOST\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n",
        "POST /mirror HTTP/1.1\nHost: HOST\nTransfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n",
        "POST /mirror HTTP/1.1\nHost: HOST\nContent-Length: 5\nContent-Length: 6\n\nhello",
        "POST /mirror HTTP/1.1\nHost: HOST\nContent-Length: 5\nContent-Length: 5\n\nhello",
        "POST /mirror HTTP/1.1\nHost: HOST\nContent-Length: -1\n\n",
        "POST /mirror HTTP/1.1\nHost: HOST\nContent-Length: 5, 5\n\nhello",
        "POST /mirror HTTP/1.1\nHost: HOST\nTransfer-Encoding: chunked, identity\n\n0\n\n",
    ];
    for head in heads {
        let answer = send(&app, head);
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{head}");
        works(&app);
    }
}

#[test]
fn large_heads_are_refused() {
    let app = mirror("heads");
    let large = format!("GET /mirror HTTP/1.1\nHost: HOST\nx: {}\n\n", "x".repeat(1 << 20));
    let answer = send(&app, &large);
    assert_eq!((answer.status, answer.code().as_str()), (431, "headers_too_large"));
    let endless = format!("POST /mirror HTTP/1.1\nHost: HOST\nContent-Length: {}\n\n", u64::MAX);
    let answer = send(&app, &endless);
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    let many = (0..101).fold(String::new(), |block, number| format!("{block}x-{number}: 1\n"));
    let answer = send(&app, &format!("GET /mirror HTTP/1.1\nHost: HOST\n{many}\n"));
    assert_eq!((answer.status, answer.code().as_str()), (431, "headers_too_large"));
    works(&app);
}

#[test]
fn endless_chunks_end_at_the_limit() {
    let app = mirror("chunks");
    let mut stream = connect(app.server.app);
    let head = format!("POST /mirror HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n", app.host());
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    // It ends by the server's refusal, or this fills the disk of nobody.
    let sent = (0..10_000).take_while(|_| stream.write_all(chunk.as_bytes()).is_ok()).count();
    assert!(sent < 10_000);
    let mut answer = Vec::new();
    // The refusal may be lost where the system resets a connection that has unread data.
    if stream.read_to_end(&mut answer).is_ok()
        && let Some(answer) = Response::parse(&answer)
    {
        assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    }
    works(&app);
}

/// Sends a beginning and nothing more; the server must end it by itself.
fn stall(address: SocketAddr, beginning: &str) -> Option<Response> {
    let mut stream = connect(address);
    stream.write_all(beginning.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    Response::parse(&answer)
}

#[test]
fn a_head_that_stalls_is_ended() {
    let app = mirror("slow-head");
    for address in [app.server.app, app.server.admin] {
        let answer = stall(address, "GET /mirror HTTP/1.1\r\nhost: x").unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
    }
    works(&app);
}

#[test]
fn a_body_that_stalls_is_ended() {
    let app = mirror("slow-body");
    let head = format!("POST /mirror HTTP/1.1\r\nhost: {}\r\ncontent-length: 10\r\n\r\nhello", app.host());
    let answer = stall(app.server.app, &head).unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
    works(&app);
}

#[test]
fn a_promised_body_that_never_comes_is_ended() {
    let app = mirror("expect");
    let head = format!(
        "POST /mirror HTTP/1.1\r\nhost: {}\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n",
        app.host()
    );
    let mut stream = connect(app.server.app);
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let rest = answer.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
    assert_eq!(Response::parse(rest).unwrap().code(), "request_timeout");
    works(&app);
}

#[test]
fn a_client_that_does_not_read_is_ended() {
    let app = mirror("slow-reader");
    app.deploy("big", "let s = \"x\"; while s.len < 900_000 { s += s; } s.sub_string(0, 900_000)").ok();
    app.limit(&["memory_bytes=67108864"]).ok();
    let mut stream = connect(app.server.app);
    let one = format!("GET /big HTTP/1.1\r\nhost: {}\r\n\r\n", app.host());
    // More answers than any socket buffer takes; nobody reads them.
    stream.write_all(one.repeat(40).as_bytes()).unwrap();
    // The server gives up: writing fails once it has closed.
    let gave_up = (0..).map(|_| stream.write_all(b"x")).find_map(Result::err).map(|error| error.kind());
    assert!(gave_up.is_some());
    works(&app);
}

#[test]
fn paths_are_decoded_once_or_refused() {
    let app = mirror("paths");
    for path in
        ["/%2e%2e/mirror", "/../mirror", "/a/./b", "/%00", "/mirror%00", "/%", "/%zz", "/%ff", "/mirror%c3"]
    {
        let answer = send(&app, &format!("GET {path} HTTP/1.1\nHost: HOST\nconnection: close\n\n"));
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{path}");
    }
    for path in ["/%252e%252e/mirror", "/%252f", "//mirror", "/mirror/", "/mirror//", "/MIRROR"] {
        let answer = send(&app, &format!("GET {path} HTTP/1.1\nHost: HOST\nconnection: close\n\n"));
        assert_eq!((answer.status, answer.code().as_str()), (404, "route_not_found"), "{path}");
    }
    let answer = send(&app, "GET /m%69rror HTTP/1.1\nHost: HOST\nconnection: close\n\n");
    assert_eq!(answer.json()["path"], "/mirror");
    let raw = format!("GET /\u{e9} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", app.host());
    let latin: Vec<u8> = raw.chars().map(|c| c as u8).collect();
    let answer = Response::parse(&exchange(app.server.app, &latin)).unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"));
    works(&app);
}

#[test]
fn one_host_is_addressed_or_none() {
    let app = mirror("hosts");
    for head in [
        "GET /mirror HTTP/1.1\nHost: HOST\nHost: other.localhost\nconnection: close\n\n",
        "GET http://other.localhost/mirror HTTP/1.1\nHost: HOST\nconnection: close\n\n",
        "GET /mirror HTTP/1.1\nHost: a b\nconnection: close\n\n",
    ] {
        let answer = send(&app, head);
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{head}");
    }
    let absolute = send(&app, "GET http://HOST/mirror HTTP/1.1\nHost: HOST\nconnection: close\n\n");
    assert_eq!(absolute.json()["path"], "/mirror");
    let unknown = get(app.server.app, "no-such-app.localhost", "/mirror");
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "app_not_found"));
    works(&app);
}

#[test]
fn methods_are_answered_or_refused() {
    let app = mirror("methods");
    let head = app.request("HEAD /mirror", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.header("content-length").is_some_and(|length| length != "0"), "{head:?}");
    for method in ["TRACE", "CONNECT", "BREW"] {
        let target = if method == "CONNECT" { "HOST:80" } else { "/mirror" };
        let answer = send(&app, &format!("{method} {target} HTTP/1.1\nHost: HOST\nconnection: close\n\n"));
        assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"), "{method}");
        assert!(answer.header("allow").is_some(), "{method}");
    }
    let options = app.request("OPTIONS *", b"");
    assert!(options.header("allow").is_some_and(|allow| allow.contains("POST")), "{options:?}");
    works(&app);
}

#[test]
fn an_upgrade_is_not_taken() {
    let app = mirror("upgrade");
    for protocol in ["websocket", "h2c"] {
        let answer =
            app.request(&format!("GET /mirror\nupgrade: {protocol}\nsec-websocket-version: 13"), b"");
        assert_eq!(answer.status, 200, "{protocol}");
    }
    works(&app);
}

#[test]
fn a_body_that_is_not_text_is_bytes() {
    let app = mirror("bytes");
    app.deploy("bytes", "req.bytes.len").ok();
    let answer = app.request("POST /bytes", &[0xff, 0xfe, 0x00]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "3"));
    works(&app);
}

#[test]
fn a_forged_address_is_not_believed() {
    let app = mirror("forged");
    let answer = app.request("GET /mirror\nx-forwarded-for: 10.9.8.7\nforwarded: for=10.9.8.7", b"");
    assert_eq!(answer.json()["ip"], "127.0.0.1");
    works(&app);
}

#[test]
fn garbage_is_answered_or_ended() {
    let app = mirror("garbage");
    for bytes in [
        &b"\0\x01\x02\x03\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ] {
        let mut stream = connect(app.server.app);
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        if let Some(answer) = Response::parse(&answer) {
            assert_eq!(answer.code(), "bad_request", "{bytes:?}");
        }
    }
    works(&app);
}

#[test]
fn headers_cannot_be_smuggled_into_the_management_api() {
    let server = shared();
    let head =
        format!("GET /api/v1/apps\nauthorization: Bearer {}\ntransfer-encoding: chunked", server.token());
    let answer = request(server.admin, &server.admin.to_string(), &head, b"0\r\n\r\n");
    assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"));
}

#[test]
fn http2_rapid_reset_ends_the_connection_and_nothing_else() {
    let app = mirror("reset");
    let mut stream = connect(app.server.app);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(0x4, 0, 0, &[]));
    stream.write_all(&bytes).unwrap();
    let host = app.host();
    // GET, http, the path and the authority, by HPACK's static table and literals that are not indexed.
    let mut head = vec![0x82, 0x86, 0x04, 7];
    head.extend_from_slice(b"/mirror");
    head.extend([0x01, host.len() as u8]);
    head.extend_from_slice(host.as_bytes());
    let ended = (0..100_000_u32).map(|number| 2 * number + 1).any(|id| {
        let mut bytes = frame(0x1, 0x5, id, &head);
        bytes.extend(frame(0x3, 0, id, &8_u32.to_be_bytes()));
        stream.write_all(&bytes).is_err()
    });
    assert!(ended, "100,000 resets on one connection were taken");
    works(&app);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}
