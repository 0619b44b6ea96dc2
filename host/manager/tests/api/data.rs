//! Key-value data.

use serde_json::{Value, json};

use crate::support::Server;

const KV: &str = "/api/v1/apps/demo/kv";

#[tokio::test]
async fn any_json_comes_back_exactly() {
    let server = Server::start().await;
    server.app("demo").await;
    let path = format!("{KV}/c/k");
    let values = [
        "null",
        "9223372036854775807",
        "123456789012345678901234567890",
        "-0.0",
        "1.0",
        "1e308",
        "0.1000000000000000055511151231257827",
        r#"{"z":1,"a":2}"#,
        r#""\u0000 é \ud83d\ude00""#,
        "[1,[2,[3]]]",
    ];
    for value in values {
        let answer = server.call("PUT", &path).raw_json(&format!(r#"{{"value":{value}}}"#)).send().await;
        assert_eq!(answer.status, 200, "{value}: {answer:?}");
        let shown = server.get(&path).await.text;
        assert!(shown.contains(&format!(r#""value":{value},"#)), "{value}: {shown}");
    }
}

#[tokio::test]
async fn an_entry_is_set_shown_and_removed() {
    let server = Server::start().await;
    server.app("demo").await;
    let path = format!("{KV}/users/ann");
    let put = |body: &Value| server.call("PUT", &path).json(body);
    let first = put(&json!({ "value": { "age": 41 } })).send().await.json();
    assert_eq!((&first["key"], &first["value"]), (&json!("ann"), &json!({ "age": 41 })));
    assert_eq!(first["expires_at"], Value::Null);
    let second = put(&json!({ "value": 1, "ttl_seconds": 3600 })).send().await.json();
    assert!(second["version"].as_i64() > first["version"].as_i64());
    assert!(second["expires_at"].is_string());
    assert_eq!(server.get(&path).await.json(), second);
    assert_eq!(server.get(KV).await.json()["items"][0], json!({ "name": "users", "entries": 1, "bytes": 4 }));
    assert_eq!(server.call("DELETE", &path).send().await.status, 204);
    server.get(&path).await.problem("not_found");
    server.call("DELETE", &path).send().await.problem("not_found");
}

#[tokio::test]
async fn wrong_values_are_refused() {
    let server = Server::start().await;
    server.app("demo").await;
    let path = format!("{KV}/c/k");
    let cases = [
        ("{}", "the field value is missing"),
        (r#"{"value":1,"app_id":"x"}"#, "there is no field app_id"),
        (r#"{"value":1,"value":2}"#, "the field value is given twice"),
        (r#"{"value":1,"ttl_seconds":0}"#, "ttl_seconds"),
        (r#"{"value":1,"ttl_seconds":-1}"#, "ttl_seconds"),
        (r#"{"value":1,"ttl_seconds":1.5}"#, "ttl_seconds"),
        (r#"{"value":1,"ttl_seconds":3153600001}"#, "the most allowed is 3153600000"),
        // No script could read them.
        (r#"{"value":1e400}"#, "number out of range"),
        (r#"{"value":"\ud800"}"#, "hex escape"),
    ];
    for (body, detail) in cases {
        let answer = server.call("PUT", &path).raw_json(body).send().await;
        assert!(answer.problem("invalid")["detail"].as_str().unwrap().contains(detail), "{body}: {answer:?}");
    }
    for bad in [r#"{"value":}"#, r#"{"value":NaN}"#, "{\"value\":\"\u{1}\"}"] {
        server.call("PUT", &path).raw_json(bad).send().await.problem("bad_request");
    }
    let deep = format!(r#"{{"value":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    server.call("PUT", &path).raw_json(&deep).send().await.problem("bad_request");
    server
        .call("PUT", "/api/v1/apps/demo/limits")
        .json(&json!({ "kv_value_bytes": 8, "kv_bytes": 12 }))
        .send()
        .await;
    assert_eq!(server.call("PUT", &path).json(&json!({ "value": "123456" })).send().await.status, 200);
    let answer = server.call("PUT", &path).json(&json!({ "value": "1234567" })).send().await;
    assert_eq!(answer.problem("too_large")["limit"], 8);
    assert_eq!(answer.status, 413);
    let other = server.call("PUT", &format!("{KV}/c/o")).json(&json!({ "value": "12" })).send().await;
    assert_eq!(other.problem("kv_quota_exceeded")["limit"], 12);
    assert_eq!(other.status, 429);
}

#[tokio::test]
async fn keys_and_prefixes_are_literal() {
    let server = Server::start().await;
    server.app("demo").await;
    let keys = ["%25", "a%2Fb", "a/c", "a_b", "a%25b", "axb", "e%CC%81", "%C3%A9", "%20"];
    for key in keys {
        let answer = server.call("PUT", &format!("{KV}/c/{key}")).json(&json!({ "value": 1 })).send().await;
        assert_eq!(answer.status, 200, "{key}: {answer:?}");
    }
    let list = async |prefix: &str| server.get(&format!("{KV}/c?prefix={prefix}")).await.items("key");
    assert_eq!(list("").await, [" ", "%", "a%b", "a/b", "a/c", "a_b", "axb", "e\u{301}", "\u{e9}"]);
    assert_eq!(list("a_").await, ["a_b"]);
    assert_eq!(list("a%25").await, ["a%b"]);
    assert_eq!(list("a%2F").await, ["a/b", "a/c"]);
    for malformed in ["%", "%2", "%zz", "a%"] {
        server.get(&format!("{KV}/c/{malformed}")).await.problem("bad_request");
    }
    server.get(&format!("{KV}/c/%2525")).await.problem("not_found");
    server.get(&format!("{KV}/c?prefix=%00")).await.problem("invalid");
    server.get(&format!("{KV}/c/%00")).await.problem("invalid");
    server.get(&format!("{KV}/c/%ff")).await.problem("bad_request");
    server.get(&format!("{KV}/a%20b/k")).await.problem("invalid");
    server.get(&format!("{KV}/c/{}", "k".repeat(513))).await.problem("invalid");
    let page = server.get(&format!("{KV}/c?limit=2")).await;
    let cursor = page.json()["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(server.get(&format!("{KV}/c?limit=2&cursor={cursor}")).await.items("key"), ["a%b", "a/b"]);
}

#[tokio::test]
async fn a_write_can_be_bound_to_what_was_seen() {
    let server = Server::start().await;
    server.app("demo").await;
    let path = format!("{KV}/c/k");
    let put =
        |header: &str, tag: &str| server.call("PUT", &path).json(&json!({ "value": 1 })).header(header, tag);
    let first = put("if-none-match", "*").send().await;
    assert_eq!(first.status, 200);
    put("if-none-match", "*").send().await.problem("precondition_failed");
    let tag = first.header("etag").to_owned();
    assert_eq!(put("if-match", &tag).send().await.status, 200);
    put("if-match", &tag).send().await.problem("precondition_failed");
    server.call("DELETE", &path).header("if-match", &tag).send().await.problem("precondition_failed");
}

#[tokio::test]
async fn apps_do_not_share_data() {
    let server = Server::start().await;
    server.app("demo").await;
    server.app("other").await;
    server.call("PUT", &format!("{KV}/c/k")).json(&json!({ "value": 1 })).send().await;
    server.get("/api/v1/apps/other/kv/c/k").await.problem("not_found");
    assert!(server.get("/api/v1/apps/other/kv").await.items("name").is_empty());
    assert!(server.get("/api/v1/apps/other/kv/c").await.items("key").is_empty());
}

#[tokio::test]
async fn a_key_over_the_apps_limit_is_refused() {
    let server = Server::start().await;
    server.app("demo").await;
    server.call("PUT", "/api/v1/apps/demo/limits").json(&json!({ "kv_key_bytes": 4 })).send().await;
    let put = |key: &str| {
        server.call("PUT", &format!("/api/v1/apps/demo/kv/c/{key}")).json(&json!({ "value": 1 })).send()
    };
    assert_eq!(put("1234").await.status, 200);
    let refused = put("12345").await.problem("too_large");
    assert_eq!((&refused["field"], &refused["limit"]), (&json!("key"), &json!(4)));
}
