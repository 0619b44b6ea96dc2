//! Limits of an app under the platform's ceiling.

use serde_json::json;

use crate::support::Server;

const PATH: &str = "/api/v1/apps/demo/limits";

#[tokio::test]
async fn what_is_named_is_replaced_and_the_rest_stays() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    let before = server.get(PATH).await.json();
    let first = server.call("PUT", PATH).json(&json!({ "fuel": 50_000_000 })).send().await;
    assert_eq!(first.status, 200);
    let second = server.call("PUT", PATH).json(&json!({ "wall_ms": 500 })).send().await.json();
    let mut expected = before;
    expected["fuel"] = json!(50_000_000);
    expected["wall_ms"] = json!(500);
    assert_eq!(second, expected);
    assert_eq!(server.get(PATH).await.json(), expected);
    assert_eq!(server.get("/api/v1/apps/demo").await.json()["limits"], expected);
    assert_eq!(*server.node.changed.lock().unwrap(), [app.id; 3]);
    assert_eq!(server.call("PUT", PATH).json(&json!({})).send().await.json(), expected);
}

#[tokio::test]
async fn a_limit_above_the_ceiling_names_both() {
    let server = Server::start().await;
    server.app("demo").await;
    let answer =
        server.call("PUT", PATH).json(&json!({ "wall_ms": 500, "memory_bytes": 999_999_999 })).send().await;
    assert_eq!(answer.status, 422);
    let problem = answer.problem("above_ceiling");
    assert_eq!(problem["field"], "memory_bytes");
    assert_eq!(problem["value"], 999_999_999);
    assert_eq!(problem["ceiling"], 67_108_864);
    assert_eq!(server.get(PATH).await.json()["wall_ms"], 10_000, "nothing of it is taken");
}

#[tokio::test]
async fn only_whole_numbers_within_range_are_limits() {
    let server = Server::start().await;
    server.app("demo").await;
    let cases = [
        ("-1", "invalid"),
        ("0", "invalid"),
        ("1", "invalid"),
        ("9223372036854775807", "above_ceiling"),
        ("9223372036854775808", "above_ceiling"),
        ("18446744073709551616", "invalid"),
        ("1e9", "invalid"),
        ("0.5", "invalid"),
        ("\"500\"", "invalid"),
        ("null", "invalid"),
        ("true", "invalid"),
        ("[]", "invalid"),
    ];
    for (value, code) in cases {
        let answer = server.call("PUT", PATH).raw_json(&format!(r#"{{"fuel":{value}}}"#)).send().await;
        let problem = answer.problem(code);
        assert_eq!(answer.status, 422, "{value}");
        assert_eq!(problem["field"], "fuel", "{value}: {problem}");
    }
    let answer = server.call("PUT", PATH).raw_json(r#"{"fuel":60000000,"fuel":70000000}"#).send().await;
    answer.problem("invalid");
    let answer = server.call("PUT", PATH).json(&json!({ "fule": 1 })).send().await;
    assert!(answer.problem("invalid")["detail"].as_str().unwrap().contains("there is no field fule"));
}

#[tokio::test]
async fn a_change_can_be_bound_to_what_was_seen() {
    let server = Server::start().await;
    server.app("demo").await;
    let seen = server.get(PATH).await.header("etag").to_owned();
    let put = |fuel: u64, tag: &str| {
        server.call("PUT", PATH).json(&json!({ "fuel": fuel })).header("if-match", tag)
    };
    let first = put(60_000_000, &seen).send().await;
    assert_eq!(first.status, 200);
    assert_ne!(first.header("etag"), seen);
    let late = put(70_000_000, &seen).send().await;
    late.problem("precondition_failed");
    assert_eq!(late.status, 412);
    assert_eq!(put(70_000_000, first.header("etag")).send().await.status, 200);
    put(1_000_000, "unquoted").send().await.problem("bad_request");
}
