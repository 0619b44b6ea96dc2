//! Every kind of answer that security.md lists under *Responses*.

use serde_json::{Value, json};

use crate::{
    client::Answer,
    platform::{Platform, soon},
};

async fn respond(platform: &Platform, wanted: Value) -> Answer {
    platform.post("/respond", &wanted.to_string()).await
}

#[tokio::test]
async fn answers_that_cannot_be_sent_are_bad_responses() {
    let platform = Platform::start().await;
    let many: Vec<Value> = (0..10_000).map(|n| json!([format!("x-{n}"), "y"])).collect();
    let hostile = [
        json!({"status": 0}),
        json!({"status": 99}),
        json!({"status": 101}),
        json!({"status": 1000}),
        json!({"status": -1}),
        json!({"headers": [["x", "a\r\nset-cookie: b=1"]]}),
        json!({"headers": [["x", "a\u{0}"]]}),
        json!({"headers": [["x\u{0}", "a"]]}),
        json!({"headers": [["é", "a"]]}),
        json!({"headers": [["x y", "a"]]}),
        json!({"headers": many}),
        json!({"headers": [["set-cookie", "picloud_session=stolen; Path=/"]]}),
        json!({"headers": [["set-cookie", "__Host-picloud_session=stolen; Secure; Path=/"]]}),
        json!({"size": 64 * 1024 * 1024}),
    ];
    for wanted in hostile {
        let answer = respond(&platform, wanted.clone()).await;
        answer.assert_problem(502, "bad_response");
        assert_eq!(answer.header("set-cookie"), None);
    }
    assert_eq!(platform.get("/hello").await.text(), "hello");
}

#[tokio::test]
async fn framing_is_the_platforms() {
    let platform = Platform::start().await;
    let mut client = platform.client().await;
    let wanted = json!({
        "headers": [
            ["content-length", "1"], ["transfer-encoding", "chunked"], ["connection", "close"],
            ["keep-alive", "timeout=1"], ["upgrade", "h2c"], ["picloud-error", "fake"], ["x-own", "kept"],
        ],
        "body": "whole",
    });
    client.send(crate::platform::post("/respond", &wanted.to_string()).repeat(2)).await;
    for _ in 0..2 {
        let answer = soon(client.answer()).await.unwrap();
        assert_eq!((answer.text(), answer.header("content-length")), ("whole", Some("5")));
        assert_eq!(answer.header("x-own"), Some("kept"));
        for name in ["transfer-encoding", "connection", "keep-alive", "upgrade", "picloud-error"] {
            assert_eq!(answer.header(name), None, "{name}");
        }
    }
}

#[tokio::test]
async fn statuses_without_a_body_have_none() {
    let platform = Platform::start().await;
    let mut client = platform.client().await;
    for status in [204, 304] {
        let wanted = json!({"status": status, "body": "smuggled"});
        client.send(crate::platform::post("/respond", &wanted.to_string())).await;
        let answer = soon(client.answer_to_head()).await;
        assert_eq!(answer.status, status);
    }
    client.send("GET /hello HTTP/1.1\r\nhost: demo.localhost\r\n\r\n").await;
    assert_eq!(soon(client.answer()).await.unwrap().text(), "hello");
}

#[tokio::test]
async fn cookies_stay_with_their_app() {
    let platform = Platform::start().await;
    let wanted = json!({"headers": [["set-cookie", "a=1; Domain=localhost; Path=/"]]});
    assert_eq!(respond(&platform, wanted).await.header("set-cookie"), Some("a=1; Path=/"));

    let cookies = "cookie: picloud_session=secret; a=1; __Host-picloud_session=secret\r\n";
    let request = format!("GET /echo HTTP/1.1\r\nhost: demo.localhost\r\n{cookies}\r\n");
    let seen = platform.raw(request).await;
    assert!(!seen.text().contains("secret"), "{}", seen.text());
    assert_eq!(seen.json()["headers"], "host: demo.localhost\ncookie: a=1\n");
}

#[tokio::test]
async fn a_failure_shows_its_code_but_not_its_words() {
    let platform = Platform::start().await;
    let answer = platform.get("/fail").await;
    answer.assert_problem(500, "script_error");
    assert!(!answer.text().contains("secret"), "{}", answer.text());
    assert_eq!(answer.json()["instance"], "/fail");
}
