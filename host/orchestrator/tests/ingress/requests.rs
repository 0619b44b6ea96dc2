//! Every kind of request that security.md lists under *HTTP*: a typed answer, and the next one works.

use std::time::Duration;

use picloud_core::{Method, MethodSet};

use crate::platform::{Platform, post, soon};

#[tokio::test]
async fn requests_that_could_be_smuggled_are_refused_and_end_the_connection() {
    let platform = Platform::start().await;
    let bodies = [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
        "content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        "content-length: +3\r\n\r\nabc",
        "content-length: 3, 3\r\n\r\nabc",
        "content-length: -1\r\n\r\n",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "host: other.localhost\r\n\r\n",
        "x: a\r\n folded\r\n\r\n",
        "x: a\0b\r\n\r\n",
        "x y: a\r\n\r\n",
    ];
    for body in bodies {
        let mut client = platform.client().await;
        client.send(format!("POST /echo HTTP/1.1\r\nhost: demo.localhost\r\n{body}")).await;
        let answer = soon(client.answer()).await.unwrap_or_else(|| panic!("no answer to {body:?}"));
        answer.assert_problem(400, "bad_request");
        assert!(soon(client.is_closed()).await, "{body:?}");
    }
    assert_eq!(platform.get("/hello").await.text(), "hello");
}

#[tokio::test]
async fn a_chunked_request_behind_another_is_refused() {
    let platform = Platform::start().await;
    let chunked =
        "POST /echo HTTP/1.1\r\nhost: demo.localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let mut client = platform.client().await;
    client.send(post("/echo", "x") + chunked).await;
    assert_eq!(soon(client.answer()).await.unwrap().status, 200);
    soon(client.answer()).await.unwrap().assert_problem(400, "bad_request");
    assert!(soon(client.is_closed()).await);

    let mut client = platform.client().await;
    for _ in 0..3 {
        client.send(chunked).await;
        assert_eq!(soon(client.answer()).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_refusal_arrives_although_the_body_is_not_read() {
    let platform = Platform::start().await;
    for _ in 0..5 {
        platform.post("/nowhere", &"x".repeat(2_000_000)).await.assert_problem(404, "route_not_found");
    }
}

#[tokio::test]
async fn hosts_must_agree() {
    let platform = Platform::start().await;
    let no_host = platform.raw("GET /hello HTTP/1.1\r\n\r\n").await;
    no_host.assert_problem(400, "bad_request");
    let two =
        platform.raw("GET /hello HTTP/1.1\r\nhost: demo.localhost\r\nhost: demo.localhost\r\n\r\n").await;
    two.assert_problem(400, "bad_request");
    let other = "GET http://demo.localhost/hello HTTP/1.1\r\nhost: evil.example\r\n\r\n";
    platform.raw(other).await.assert_problem(400, "bad_request");
    let same = "GET http://demo.localhost/hello HTTP/1.1\r\nhost: demo.localhost\r\n\r\n";
    assert_eq!(platform.raw(same).await.text(), "hello");
}

#[tokio::test]
async fn paths_are_decoded_once_and_confusing_ones_refused() {
    let platform = Platform::start().await;
    platform.route(MethodSet::ANY, "/p/:one/*rest", "echo").await;
    for path in ["/a/%2e%2e/b", "/%2E", "/../hello", "/%00", "/%zz", "/%", "/%ff", "/%c3"] {
        platform.get(path).await.assert_problem(400, "bad_request");
    }
    let seen = platform.get("/p/a%2Fb/%252f//x/?q=%00&%").await.json();
    assert_eq!(seen["path"], "/p/a/b/%2f//x/");
    assert_eq!(seen["query"], "q=%00&%");
    assert_eq!(seen["params"], serde_json::json!([["one", "a/b"], ["rest", "%2f//x/"]]));
    for path in ["/hello/", "//hello", "/hello//"] {
        platform.get(path).await.assert_problem(404, "route_not_found");
    }
    // Bytes that are not UTF-8 are not a path at all.
    platform
        .raw(b"GET /\xff HTTP/1.1\r\nhost: demo.localhost\r\n\r\n")
        .await
        .assert_problem(400, "bad_request");
}

#[tokio::test]
async fn methods_are_routed_or_refused_with_what_is_allowed() {
    let platform = Platform::start().await;
    let get_only = MethodSet::default().with(Method::Get);
    platform.route(get_only, "/only", "echo").await;

    let refused = platform.post("/only", "").await;
    refused.assert_problem(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"));
    for method in ["TRACE", "BREW"] {
        let answer = platform.raw(format!("{method} /only HTTP/1.1\r\nhost: demo.localhost\r\n\r\n")).await;
        answer.assert_problem(405, "method_not_allowed");
    }
    let connect = "CONNECT demo.localhost:80 HTTP/1.1\r\nhost: demo.localhost:80\r\n\r\n";
    platform.raw(connect).await.assert_problem(405, "method_not_allowed");

    let options = platform.raw("OPTIONS /only HTTP/1.1\r\nhost: demo.localhost\r\n\r\n").await;
    assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    let any = platform.raw("OPTIONS * HTTP/1.1\r\nhost: demo.localhost\r\n\r\n").await;
    assert_eq!(any.status, 204);
    // A script without routes answers every method, also this one.
    let own = platform.raw("OPTIONS /hello HTTP/1.1\r\nhost: demo.localhost\r\n\r\n").await;
    assert_eq!((own.status, own.text()), (200, "hello"));
}

#[tokio::test]
async fn head_runs_as_get_and_has_no_body() {
    let platform = Platform::start().await;
    let get = platform.get("/echo").await;
    assert_eq!(get.json()["method"], "GET");
    let mut client = platform.client().await;
    let head = "HEAD /echo HTTP/1.1\r\nhost: demo.localhost\r\n\r\n";
    client.send(format!("{head}GET /hello HTTP/1.1\r\nhost: demo.localhost\r\n\r\n")).await;
    let answer = soon(client.answer_to_head()).await;
    assert_eq!(answer.header("content-length"), get.header("content-length"));
    assert_eq!(soon(client.answer()).await.unwrap().text(), "hello");

    client.send("HEAD /nowhere HTTP/1.1\r\nhost: demo.localhost\r\n\r\n").await;
    let answer = soon(client.answer_to_head()).await;
    assert_eq!((answer.status, answer.header("picloud-error")), (404, Some("route_not_found")));
}

#[tokio::test]
async fn large_heads_are_refused() {
    let platform = Platform::start().await;
    let head = |lines: &str| format!("GET /hello HTTP/1.1\r\nhost: demo.localhost\r\n{lines}\r\n");
    let long = format!("x: {}\r\n", "x".repeat(1024 * 1024));
    platform.raw(head(&long)).await.assert_problem(431, "headers_too_large");
    platform.raw(head(&"x: y\r\n".repeat(100))).await.assert_problem(431, "headers_too_large");
    assert_eq!(platform.raw(head(&"x: y\r\n".repeat(99))).await.status, 200);
    let long = format!("GET /{} HTTP/1.1\r\nhost: demo.localhost\r\n\r\n", "x".repeat(70_000));
    platform.raw(long).await.assert_problem(431, "headers_too_large");
    platform.raw("GARBAGE\r\n\r\n").await.assert_problem(400, "bad_request");
    assert_eq!(platform.get("/hello").await.status, 200);
}

#[tokio::test]
async fn bodies_stop_at_the_limit() {
    let platform = Platform::start().await;
    let announced = "POST /echo HTTP/1.1\r\nhost: demo.localhost\r\ncontent-length: 99999999\r\n\r\n";
    platform.raw(announced).await.assert_problem(413, "body_too_large");
    platform.post("/echo", &"x".repeat(1024 * 1024 + 1)).await.assert_problem(413, "body_too_large");
    let whole = platform.post("/echo", &"x".repeat(1024 * 1024)).await;
    assert_eq!(whole.json()["bytes"], 1024 * 1024);

    let mut endless =
        "POST /echo HTTP/1.1\r\nhost: demo.localhost\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    endless.push_str(&format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(40));
    platform.raw(endless).await.assert_problem(413, "body_too_large");

    let chunked = "POST /echo HTTP/1.1\r\nhost: demo.localhost\r\ntransfer-encoding: chunked\r\n\r\n\
        1\r\na\r\n2;ext=1\r\nbc\r\n0\r\n\r\n";
    assert_eq!(platform.raw(chunked).await.json()["body"], "abc");
    let broken = "POST /echo HTTP/1.1\r\nhost: demo.localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
    platform.raw(broken).await.assert_problem(400, "bad_request");
}

#[tokio::test]
async fn slow_clients_are_ended() {
    let platform = Platform::with(|config| {
        config.serve.head_timeout = Duration::from_millis(200);
        config.serve.idle_timeout = Duration::from_millis(300);
        config.body.between = Duration::from_millis(200);
    })
    .await;
    // A head that stalls, an empty connection, and one that never says which protocol it speaks.
    for (sent, status) in [("GET /hello HTTP/1.1\r\nhost:", Some(408)), ("", None), ("P", Some(408))] {
        let mut client = platform.client().await;
        client.send(sent).await;
        let answer = soon(client.answer()).await;
        assert_eq!(answer.as_ref().map(|answer| answer.status), status, "{sent:?}");
        if let Some(answer) = answer {
            answer.assert_problem(408, "request_timeout");
        }
        assert!(soon(client.is_closed()).await, "{sent:?}");
    }
    // A body that stalls, with and without Expect.
    for expect in ["", "expect: 100-continue\r\n"] {
        let mut client = platform.client().await;
        let head =
            format!("POST /echo HTTP/1.1\r\nhost: demo.localhost\r\ncontent-length: 5\r\n{expect}\r\n");
        client.send(head).await;
        let mut answer = soon(client.answer()).await.unwrap();
        if answer.status == 100 {
            answer = soon(client.answer()).await.unwrap();
        }
        answer.assert_problem(408, "request_timeout");
        assert!(soon(client.is_closed()).await);
    }
    // Idle between two requests: closed without a word.
    let mut client = platform.client().await;
    client.send("GET /hello HTTP/1.1\r\nhost: demo.localhost\r\n\r\n").await;
    assert_eq!(soon(client.answer()).await.unwrap().status, 200);
    assert!(soon(client.is_closed()).await);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_ended() {
    let platform = Platform::with(|config| config.serve.write_timeout = Duration::from_millis(300)).await;
    let mut client = platform.client().await;
    let wanted = post("/respond", r#"{"size": 1000000}"#);
    // More answers than the sockets' buffers hold, and nobody who reads them.
    soon(client.try_send(wanted.repeat(64))).await;
    // The node gives up, and then so does whoever goes on sending to it.
    soon(client.send_until_refused()).await;
    assert_eq!(platform.get("/hello").await.text(), "hello");
}

#[tokio::test]
async fn expect_continue_works_and_upgrades_are_ignored() {
    let platform = Platform::start().await;
    let mut client = platform.client().await;
    client
        .send("POST /echo HTTP/1.1\r\nhost: demo.localhost\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(soon(client.answer()).await.unwrap().status, 100);
    client.send("ab").await;
    assert_eq!(soon(client.answer()).await.unwrap().json()["body"], "ab");

    for upgrade in ["websocket", "h2c"] {
        let lines = format!(
            "connection: upgrade, http2-settings\r\nupgrade: {upgrade}\r\nhttp2-settings: AAMAAABk\r\n"
        );
        let answer = platform.raw(format!("GET /echo HTTP/1.1\r\nhost: demo.localhost\r\n{lines}\r\n")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["headers"], "host: demo.localhost\n");
    }
}

#[tokio::test]
async fn bodies_and_headers_of_any_bytes_reach_the_script() {
    let platform = Platform::start().await;
    let mut request =
        b"POST /echo HTTP/1.1\r\nhost: demo.localhost\r\nx: caf\xe9\r\ncontent-length: 3\r\n\r\n".to_vec();
    request.extend_from_slice(b"\xff\x00\xfe");
    let seen = platform.raw(request).await.json();
    assert_eq!(seen["bytes"], 3);
    assert_eq!(seen["headers"], "host: demo.localhost\nx: café\ncontent-length: 3\n");
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let platform = Platform::start().await;
    let mut client = platform.client().await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..3 {
        client.send(post("/echo", "x").repeat(5)).await;
        for _ in 0..5 {
            let answer = soon(client.answer()).await.unwrap();
            let id = answer.header("picloud-request-id").unwrap().to_owned();
            assert_eq!(answer.json()["id"], id);
            assert!(ids.insert(id));
        }
    }
}
