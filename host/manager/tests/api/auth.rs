//! Who may call what.

use picloud_core::Scope;
use serde_json::{Value, json};

use crate::support::Server;

fn fill(path: &str) -> String {
    let id = uuid::Uuid::nil().to_string();
    path.replace("{app}", "demo")
        .replace("{id}", &id)
        .replace("{name}", "s")
        .replace("{collection}", "c")
        .replace("{key}", "k")
        .replace("{principal}", "nobody")
        .replace("{secret}", "x")
        .replace("{variable}", "x")
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, operation)| {
                (method.to_uppercase(), path.clone(), operation["security"].clone())
            })
        })
        .collect()
}

#[tokio::test]
async fn every_route_of_the_document_needs_a_token_but_the_open_ones() {
    let server = Server::start().await;
    server.app("demo").await;
    let document = server.anonymous("GET", "/api/v1/openapi.json").send().await.json();
    let mut guarded = 0;
    for (method, path, security) in operations(&document) {
        let answer = server.anonymous(&method, &fill(&path)).send().await;
        if security == json!([]) {
            assert_ne!(answer.status, 401, "{method} {path}");
            continue;
        }
        guarded += 1;
        answer.problem("unauthenticated");
        assert_eq!(answer.status, 401, "{method} {path}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{method} {path}");
    }
    assert!(guarded > 25);
}

#[tokio::test]
async fn a_token_without_the_scope_that_the_document_names_is_refused() {
    let server = Server::start().await;
    server.app("demo").await;
    let document = server.anonymous("GET", "/api/v1/openapi.json").send().await.json();
    for (method, path, security) in operations(&document) {
        let Some(needed) = security[0]["token"][0].as_str() else { continue };
        let others: Vec<Scope> =
            Scope::ALL.iter().copied().filter(|scope| scope.as_str() != needed).collect();
        let token = server.token(&others, None).await;
        let answer = server.anonymous(&method, &fill(&path)).token(&token).send().await;
        assert_eq!(answer.problem("forbidden")["scope"], needed, "{method} {path}");
        assert_eq!(answer.status, 403, "{method} {path}");
    }
}

#[tokio::test]
async fn wrong_tokens_are_all_the_same() {
    let server = Server::start().await;
    let well_formed = format!("pcl_{}", "0".repeat(64));
    for token in ["", "x", "pcl_", &well_formed, &server.owner[..20], &format!("{}0", server.owner)] {
        let answer = server.anonymous("GET", "/api/v1/whoami").token(token).send().await;
        answer.problem("unauthenticated");
        assert_eq!(answer.status, 401);
    }
    let basic =
        server.anonymous("GET", "/api/v1/whoami").header("authorization", "Basic cGNsOg==").send().await;
    basic.problem("unauthenticated");
    assert_eq!(server.get("/api/v1/whoami").await.status, 200);
}

#[tokio::test]
async fn a_large_upload_of_a_stranger_is_refused_unread() {
    let server = Server::start().await;
    let call =
        server.anonymous("PUT", "/api/v1/apps/demo/scripts/s").body("text/plain", vec![b' '; 3_000_000]);
    let answer = call.send().await;
    answer.problem("unauthenticated");
    assert_eq!(answer.header("connection"), "close");
}

#[tokio::test]
async fn what_does_not_exist_is_hidden_from_strangers() {
    let server = Server::start().await;
    for path in ["/", "/api/v1/nothing", "/api/v1/apps/none", "/api/v2/apps", "/healthz/", "/metrics"] {
        server.anonymous("GET", path).send().await.problem("unauthenticated");
    }
    server.get("/api/v1/nothing").await.problem("not_found");
    server.get("/api/v1/apps/none").await.problem("app_not_found");
}

#[tokio::test]
async fn a_revoked_token_is_refused_from_the_next_request_on() {
    let server = Server::start().await;
    let token = server.token(&[Scope::ScriptRead], None).await;
    let call = || server.anonymous("GET", "/api/v1/apps").token(&token);
    assert_eq!(call().send().await.status, 200);
    let tokens = server.store.tokens(server.owner_id().await).await.unwrap();
    let revoked = tokens.iter().find(|token| token.name == "test").unwrap();
    server.store.revoke_token(revoked.id).await.unwrap();
    call().send().await.problem("unauthenticated");
}

#[tokio::test]
async fn a_token_of_one_app_reaches_no_other() {
    let server = Server::start().await;
    let mine = server.app("mine").await;
    server.app("other").await;
    let token = server.token(Scope::ALL, Some(&mine)).await;
    let status = async |method: &str, path: &str| {
        server.anonymous(method, path).token(&token).send().await.status.as_u16()
    };
    assert_eq!(status("GET", "/api/v1/apps/mine").await, 200);
    for (method, path) in [
        ("GET", "/api/v1/apps/other"),
        ("GET", "/api/v1/apps/other/kv"),
        ("DELETE", "/api/v1/apps/other"),
        ("PUT", "/api/v1/apps/other/bundle"),
    ] {
        let answer = server.anonymous(method, path).token(&token).send().await;
        assert_eq!(answer.problem("app_not_found")["detail"], "no app \"other\"", "{method} {path}");
    }
    assert_eq!(status("GET", "/api/v1/apps").await, 200);
    assert_eq!(status("GET", "/api/v1/whoami").await, 200);
}

#[tokio::test]
async fn whoami_tells_the_caller_who_it_is() {
    let server = Server::start().await;
    let me = server.get("/api/v1/whoami").await.json();
    assert_eq!(me["name"], "owner");
    assert_eq!(me["role"], "owner");
    assert_eq!(me["scopes"].as_array().unwrap().len(), 7);
    assert_eq!(me["app_id"], Value::Null);
}
