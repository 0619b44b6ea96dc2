//! Slow, endless and broken answers, and what is recorded of a call.

use std::time::{Duration, Instant};

use picloud_core::{EgressCall, EgressScheme, ErrorCode, Method, SecretMask, SecretName, SecretValue};

use crate::support::{Caller, LOOPBACK, Reply, Server, get, ok, status, text};

async fn with(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> (Caller, Server, String) {
    let server = Server::start(reply).await;
    let place = format!("http://127.0.0.1:{}", server.port());
    (Caller::new(LOOPBACK, &[&place]), server, place)
}

fn soon(url: &str) -> EgressCall {
    EgressCall { deadline: Instant::now() + Duration::from_millis(300), ..get(url) }
}

#[tokio::test]
async fn an_answer_comes_whole_with_its_headers() {
    let headers = "X-One: 1\r\nset-cookie: a\r\nset-cookie: b\r\n";
    let (caller, server, place) = with(move |_| status("404 Not Found", headers, "not here")).await;
    let mut call = get(&format!("{place}/a%20b/?x=1&y=\u{e9}#fragment"));
    call.method = Method::Post;
    call.headers = vec![("X-A".into(), "b".into())];
    call.body = "sent".into();
    let answer = caller.call(call).await.unwrap();
    assert_eq!((answer.status, text(&answer)), (404, "not here"));
    assert_eq!(answer.url, format!("{place}/a%20b/?x=1&y=%C3%A9"));
    let cookies: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
    assert_eq!(cookies.len(), 2);
    assert!(answer.headers.contains(&("x-one".into(), "1".into())));
    let request = server.seen.requests().remove(0);
    assert!(request.starts_with("POST /a%20b/?x=1&y=%C3%A9 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: 127.0.0.1:{}\r\n", server.port())), "{request}");
    for header in ["x-a: b\r\n", "content-length: 4\r\n", "user-agent: PiCloud\r\n", "accept: */*\r\n"] {
        assert!(request.contains(header), "{request}");
    }
    assert!(!request.contains("accept-encoding"), "{request}");
    let records = caller.records();
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!((record.method.as_str(), record.scheme), ("POST", Some(EgressScheme::Http)));
    assert_eq!(
        (record.host.as_str(), record.port, record.path.as_str()),
        ("127.0.0.1", server.port(), "/a%20b/")
    );
    assert_eq!((record.status, record.error), (Some(404), None));
    assert_eq!((record.bytes_sent, record.bytes_received), (4, 8));
}

#[tokio::test]
async fn who_never_answers_ends_in_time_wherever_it_stops() {
    for start in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let (caller, _server, place) = with(move |_| Reply::Silent(start.into())).await;
        let begun = Instant::now();
        assert_eq!(Caller::refused(caller.call(soon(&place)).await), "egress_timeout", "{start:?}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{start:?}: {:?}", begun.elapsed());
        let record = caller.records().remove(0);
        assert_eq!(record.error, Some(ErrorCode::EgressTimeout));
        assert!((250..1_000).contains(&record.duration_ms), "{}", record.duration_ms);
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_a_record_and_no_connection() {
    let (caller, server, place) = with(|_| Reply::Silent(Vec::new())).await;
    let call = caller.get(&place);
    assert!(tokio::time::timeout(Duration::from_millis(200), call).await.is_err());
    let record = caller.records().remove(0);
    assert_eq!((record.status, record.error), (None, Some(ErrorCode::EgressStopped)));
    assert_eq!(server.seen.connections(), 1);
}

#[tokio::test]
async fn endless_bodies_are_cut_where_the_limit_is() {
    let endless: [(&str, Vec<u8>); 3] = [
        ("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 1000]),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"5\r\nabcde\r\n".to_vec()),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", vec![b'x'; 1000]),
    ];
    for (start, part) in endless {
        let (caller, _server, place) = with(move |_| Reply::Endless(start.into(), part.clone())).await;
        let mut call = get(&place);
        call.response_bytes = 10_000;
        let refused = caller.call(call).await.unwrap_err();
        assert_eq!(refused.code.as_str(), "response_too_large", "{start:?}");
        let record = caller.records().remove(0);
        assert_eq!((record.status, record.error), (Some(200), Some(ErrorCode::ResponseTooLarge)));
        assert!(record.bytes_received <= 10_000 + (64 << 10), "{}", record.bytes_received);
    }
    let (caller, _server, place) = with(|_| ok(&"x".repeat(10_000))).await;
    assert!(caller.call(EgressCall { response_bytes: 10_000, ..get(&place) }).await.is_ok());
    assert_eq!(
        Caller::refused(caller.call(EgressCall { response_bytes: 9_999, ..get(&place) }).await),
        "response_too_large"
    );
}

#[tokio::test]
async fn a_compressed_bomb_is_what_it_is_in_bytes() {
    let zipped = vec![0; 500];
    let (caller, _server, place) = with(move |_| {
        let mut reply = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 500\r\n\r\n".to_vec();
        reply.extend_from_slice(&zipped);
        Reply::Bytes(reply)
    })
    .await;
    assert_eq!(caller.get(&place).await.unwrap().body.len(), 500);
}

#[tokio::test]
async fn bombs_of_headers_are_refused() {
    let many = "x: y\r\n".repeat(101);
    let long = format!("x: {}\r\n", "y".repeat(70 << 10));
    for headers in [many, long] {
        let (caller, _server, place) = with(move |_| status("200 OK", &headers, "")).await;
        assert_eq!(Caller::refused(caller.get(&place).await), "response_too_large");
    }
    let (caller, _server, place) =
        with(|_| Reply::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".to_vec())).await;
    assert_eq!(Caller::refused(caller.get(&place).await), "response_too_large");
}

#[tokio::test]
async fn what_is_not_http_is_told_as_that() {
    for (reply, expected) in [
        ("SSH-2.0-OpenSSH_9.2\r\n", "did not answer as HTTP/1.1 has it"),
        ("HTTP/1.1 abc OK\r\n\r\n", "did not answer as HTTP/1.1 has it"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
            "did not answer as HTTP/1.1 has it",
        ),
        ("", "closed the connection before its answer was whole"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
            "closed the connection before its answer was whole",
        ),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "answered 101"),
    ] {
        let (caller, _server, place) = with(move |_| Reply::Last(reply.into())).await;
        let failed = caller.get(&place).await.unwrap_err();
        assert_eq!(failed.code.as_str(), "egress_failed", "{reply:?}: {failed}");
        assert!(failed.message.contains(expected), "{reply:?}: {failed}");
    }
}

#[tokio::test]
async fn smuggled_headers_never_leave() {
    let (caller, server, place) = with(|_| ok("")).await;
    for (name, value) in [
        ("x", "a\r\nhost: evil.test"),
        ("x\r\nhost", "evil.test"),
        ("host", "evil.test"),
        ("Transfer-Encoding", "chunked"),
        ("content-length", "0"),
        ("connection", "upgrade"),
    ] {
        let call = EgressCall { headers: vec![(name.into(), value.into())], ..get(&place) };
        assert_eq!(Caller::refused(caller.call(call).await), "invalid", "{name}");
    }
    assert_eq!(Caller::refused(caller.get(&format!("{place}/\r\nx: y")).await), "invalid");
    assert_eq!(server.seen.connections(), 0);
    assert!(caller.records().iter().all(|record| record.error == Some(ErrorCode::Invalid)));
}

#[tokio::test]
async fn secrets_in_urls_are_masked_in_the_record_and_never_in_a_query() {
    let (mut caller, server, place) = with(|_| ok("")).await;
    let name = SecretName::new("key").unwrap();
    let value = SecretValue::new(b"Hunter2/Hunter2".to_vec()).unwrap();
    let mask = SecretMask::new([(&name, &value)]);
    caller.allow(&[&format!("http://*.a.test:{}", server.port())]);
    caller.names.set("hunter2hunter2.a.test", &[&["127.0.0.1"]]);
    for url in [
        format!("{place}/x/Hunter2%2FHunter2/y?key=Hunter2%2FHunter2"),
        format!("{place}/bot:Hunter2/Hunter2"),
        format!("{place}/{}", "é".repeat(1000)),
    ] {
        caller.call(EgressCall { mask: mask.clone(), ..get(&url) }).await.unwrap();
    }
    let paths: Vec<_> = caller.records().into_iter().map(|record| record.path).collect();
    assert_eq!(paths[..2], ["/x/[secret key]/y", "/bot:[secret key]"]);
    assert!(paths[2].len() <= 256);
    // A secret in the name of a host, where upper case is lost.
    let value = SecretValue::new(b"Hunter2Hunter2".to_vec()).unwrap();
    let mask = SecretMask::new([(&name, &value)]);
    let url = format!("http://Hunter2Hunter2.a.test:{}/", server.port());
    caller.call(EgressCall { mask, ..get(&url) }).await.unwrap();
    assert_eq!(caller.records()[0].host, "[secret key].a.test");
}
