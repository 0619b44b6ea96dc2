//! Plain variables.

use picloud_core::Scope;
use serde_json::json;

use crate::support::{Answer, Server};

async fn put(server: &Server, name: &str, value: &str) -> Answer {
    server.call("PUT", &format!("/api/v1/apps/demo/env/{name}")).text(value).send().await
}

#[tokio::test]
async fn a_variable_is_set_read_listed_and_removed() {
    let server = Server::start().await;
    server.app("demo").await;
    assert_eq!(put(&server, "REGION", "eu").await.status, 201);
    assert_eq!(put(&server, "REGION", "").await.status, 200);
    assert_eq!(put(&server, "A", "é\n").await.json()["value"], "é\n");
    assert_eq!(server.get("/api/v1/apps/demo/env/REGION").await.json()["value"], "");
    assert_eq!(server.get("/api/v1/apps/demo/env").await.items("name"), ["A", "REGION"]);
    assert_eq!(server.call("DELETE", "/api/v1/apps/demo/env/A").send().await.status, 204);
    for method in ["GET", "DELETE"] {
        let missing = server.call(method, "/api/v1/apps/demo/env/A").send().await;
        assert_eq!(missing.problem("not_found")["detail"], "no variable \"A\" in app \"demo\"");
    }
}

#[tokio::test]
async fn what_cannot_be_a_variable_is_refused() {
    let server = Server::start().await;
    server.app("demo").await;
    put(&server, "A", &"x".repeat(4097)).await.problem("body_too_large");
    assert!(put(&server, "A", "a\0").await.problem("invalid")["detail"].as_str().unwrap().contains("U+0000"));
    let binary = server.call("PUT", "/api/v1/apps/demo/env/A").body("text/plain", &b"\xff"[..]).send().await;
    binary.problem("invalid");
    put(&server, "a%20b", "x").await.problem("invalid");
}

#[tokio::test]
async fn reading_needs_less_than_writing() {
    let server = Server::start().await;
    server.app("demo").await;
    put(&server, "A", "1").await;
    let reader = server.token(&[Scope::ScriptRead], None).await;
    let path = "/api/v1/apps/demo/env/A";
    assert_eq!(server.anonymous("GET", path).token(&reader).send().await.status, 200);
    server.anonymous("PUT", path).token(&reader).text("2").send().await.problem("forbidden");

    let deployer = server.token(&[Scope::ScriptWrite], None).await;
    let bundle = json!({ "scripts": {}, "env": { "A": "2" } });
    let call = || server.call("PUT", "/api/v1/apps/demo/bundle").json(&bundle);
    call().token(&deployer).send().await.problem("forbidden");
    assert_eq!(server.get(path).await.json()["value"], "1");
    assert_eq!(call().send().await.status, 200);
    assert_eq!(server.get(path).await.json()["value"], "2");
    let twice =
        server.call("PUT", "/api/v1/apps/demo/bundle").raw_json(r#"{"scripts":{},"env":{"A":"1","A":"2"}}"#);
    twice.send().await.problem("invalid");
}
