//! Running a script once.

use serde_json::{Value, json};

use crate::support::Server;

fn path(script: &str) -> String {
    format!("/api/v1/apps/demo/scripts/{script}/invoke")
}

#[tokio::test]
async fn a_run_answers_its_value_and_its_cost() {
    let server = Server::start().await;
    server.app("demo").await;
    let answer =
        server.call("POST", &path("api/echo")).json(&json!({ "event": { "name": "bob" } })).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    assert_eq!(json["result"], json!({ "name": "bob" }));
    assert_eq!(json["logs"], json!([{ "level": "info", "message": "ran", "at_ms": 1.5 }]));
    assert_eq!((&json["fuel_used"], &json["duration_ms"]), (&json!(12_628), &json!(0.25)));
    assert!(json["execution_id"].is_string());

    let exact =
        server.call("POST", &path("echo")).raw_json(r#"{"event":12345678901234567890.10}"#).send().await;
    assert!(exact.text.contains(r#""result":12345678901234567890.10"#), "{}", exact.text);
    assert_eq!(
        server.call("POST", &path("echo")).json(&json!({})).send().await.json()["result"],
        Value::Null
    );
    server.call("POST", &path("echo")).raw_json(r#"{"event":1,"as":"x"}"#).send().await.problem("invalid");
    server.call("POST", &path("echo")).send().await.problem("unsupported_media_type");
}

#[tokio::test]
async fn a_failed_run_says_where_and_what_it_logged() {
    let server = Server::start().await;
    server.app("demo").await;
    let answer = server.call("POST", &path("broken")).json(&json!({ "event": 1 })).send().await;
    assert_eq!(answer.status, 500);
    let problem = answer.problem("script_error");
    assert_eq!(problem["detail"], "Division by zero: 1 / 0");
    assert_eq!(
        (&problem["script"], &problem["line"], &problem["column"]),
        (&json!("broken"), &json!(3), &json!(7))
    );
    assert_eq!(problem["logs"][0]["message"], "ran");
    assert_eq!(problem["fuel_used"], 12_628);
    assert!(problem["execution_id"].is_string());
    let missing = server.call("POST", &path("missing")).json(&json!({})).send().await;
    missing.problem("script_not_found");
    assert_eq!(missing.status, 404);
}
