//! What an app's scripts may call over HTTP.

use picloud_core::{EgressRecord, EgressScheme, ErrorCode, Scope};
use serde_json::{Value, json};

use crate::{
    history::called,
    support::{Answer, Server},
};

const EGRESS: &str = "/api/v1/apps/demo/egress";

async fn put(server: &Server, body: &Value) -> Answer {
    server.call("PUT", EGRESS).json(body).send().await
}

async fn with_app() -> Server {
    let server = Server::start().await;
    server.app("demo").await;
    server
}

#[tokio::test]
async fn the_list_is_replaced_whole_and_shown_in_one_form() {
    let server = with_app().await;
    assert_eq!(server.get(EGRESS).await.json(), json!({ "allow": [] }));
    let given = json!({ "allow": [
        { "host": "API.Example.com.", "methods": ["get", "POST"] },
        { "host": "2130706433", "scheme": "http", "port": 8080, "methods": ["GET"] },
        { "host": "*.b\u{fc}cher.example", "methods": ["GET"] },
    ] });
    let kept = json!({ "allow": [
        { "host": "api.example.com", "scheme": "https", "port": 443, "methods": ["GET", "POST"] },
        { "host": "127.0.0.1", "scheme": "http", "port": 8080, "methods": ["GET"] },
        { "host": "*.xn--bcher-kva.example", "scheme": "https", "port": 443, "methods": ["GET"] },
    ] });
    let changed = put(&server, &given).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(changed.json(), kept);
    assert_eq!(server.get(EGRESS).await.json(), kept);
    assert_eq!(put(&server, &kept).await.json(), kept);
    assert_eq!(put(&server, &json!({ "allow": [] })).await.json(), json!({ "allow": [] }));
    assert!(server.node.changed.lock().unwrap().len() >= 3);
}

#[tokio::test]
async fn nobody_overwrites_the_list_unseen() {
    let server = with_app().await;
    let seen = server.get(EGRESS).await.header("etag").to_owned();
    let call = |tag: &str| {
        let body = json!({ "allow": [{ "host": "a.example" }] });
        server.call("PUT", EGRESS).header("if-match", tag).json(&body).send()
    };
    let changed = call(&seen).await;
    assert_eq!(changed.status, 200);
    call(&seen).await.problem("precondition_failed");
    assert_eq!(server.get(EGRESS).await.header("etag"), changed.header("etag"));
}

#[tokio::test]
async fn a_wrong_list_says_what_is_allowed() {
    let server = with_app().await;
    for (rule, expected) in [
        (json!({ "host": "a/b" }), "allowed are a name such as api.example.com"),
        (json!({ "host": "a", "port": 0 }), "1 to 65535"),
        (json!({ "host": "a", "methods": ["TRACE"] }), "allowed are GET"),
        (json!({ "host": "a", "methods": [] }), "leave it out for all"),
        (json!({ "host": "a", "scheme": "ftp" }), "https"),
        (json!({ "host": "a", "app_id": "x" }), "there is no field app_id"),
    ] {
        let refused = put(&server, &json!({ "allow": [rule] })).await;
        let problem = refused.problem("invalid");
        assert!(problem["detail"].as_str().unwrap().contains(expected), "{rule}: {problem}");
    }
    put(&server, &json!({})).await.problem("invalid");
    assert_eq!(server.get(EGRESS).await.json(), json!({ "allow": [] }));
}

#[tokio::test]
async fn a_bundle_brings_the_list_and_a_script_is_told_what_it_may_not_call_yet() {
    let server = with_app().await;
    let bundle = |egress: Value| {
        let mut bundle = json!({ "scripts": { "s": "host api.example.com" } });
        if !egress.is_null() {
            bundle["egress"] = egress;
        }
        server.call("PUT", "/api/v1/apps/demo/bundle").json(&bundle).send()
    };
    let first = bundle(Value::Null).await.json();
    assert_eq!(first["scripts"][0]["uses"]["hosts"], json!({ "names": ["api.example.com"], "any": false }));
    let warning = first["scripts"][0]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("`picloud egress allow https://api.example.com`"), "{warning}");
    let second = bundle(json!({ "allow": [{ "host": "*.example.com" }] })).await.json();
    assert_eq!(second["scripts"][0]["warnings"], json!([]), "{second}");
    bundle(Value::Null).await;
    assert_eq!(server.get(EGRESS).await.json()["allow"][0]["host"], "*.example.com", "it stays");
}

#[tokio::test]
async fn a_bundle_brings_no_list_without_the_scope_for_it() {
    let server = with_app().await;
    let token = server.token(&[Scope::ScriptRead, Scope::ScriptWrite], None).await;
    let bundle = json!({ "scripts": {}, "egress": { "allow": [{ "host": "a.example" }] } });
    let call = server.call("PUT", "/api/v1/apps/demo/bundle").token(&token).json(&bundle);
    call.send().await.problem("forbidden");
    assert_eq!(server.get(EGRESS).await.json(), json!({ "allow": [] }));
}

#[tokio::test]
async fn an_execution_shows_what_it_called() {
    let server = Server::start().await;
    let app = server.app("demo").await;
    let call = EgressRecord {
        method: "GET".into(),
        scheme: Some(EgressScheme::Https),
        host: "api.example.com".into(),
        port: 443,
        path: "/users".into(),
        error: Some(ErrorCode::EgressTimeout),
        duration_ms: 5000,
        ..EgressRecord::empty()
    };
    let id = called(&server, &app, vec![call]).await;
    let shown = server.get(&format!("/api/v1/apps/demo/executions/{id}")).await.json();
    let expected = json!([{
        "method": "GET", "scheme": "https", "host": "api.example.com", "port": 443, "path": "/users",
        "status": null, "error": "egress_timeout", "bytes_sent": 0, "bytes_received": 0, "duration_ms": 5000,
    }]);
    assert_eq!(shown["egress"], expected, "{shown}");
}
