//! What an app's scripts may use.

use picloud_core::Scope;
use serde_json::{Value, json};

use crate::support::{Answer, Server};

const GRANTS: &str = "/api/v1/apps/demo/grants";
const PAY: &str = "/api/v1/apps/demo/scripts/pay";

async fn put(server: &Server, body: &Value) -> Answer {
    server.call("PUT", GRANTS).json(body).send().await
}

/// An app whose script `pay` reads the secret `one`, and did read `two`.
async fn with_script() -> Server {
    let server = Server::start().await;
    server.app("demo").await;
    server.script("demo", "pay", "secret two\n1").await;
    server.script("demo", "pay", "secret one\n1").await;
    server
}

fn secrets(names: &[&str]) -> Value {
    json!({ "secrets": { "names": names, "any": false } })
}

#[tokio::test]
async fn an_app_is_open_until_it_is_strict_and_then_grants_what_it_uses() {
    let server = with_script().await;
    let open = json!({ "strict": false, "uses": {}, "beyond": {} });
    assert_eq!(server.get(GRANTS).await.json(), open);
    let strict = put(&server, &json!({ "strict": true })).await;
    assert_eq!(
        strict.json(),
        json!({ "strict": true, "uses": secrets(&["one"]), "beyond": {} }),
        "{strict:?}"
    );
    assert_eq!(server.get(GRANTS).await.json(), strict.json());

    let refused = server.script("demo", "pay", "secret one\nsecret two\n2").await;
    let problem = refused.problem("not_granted");
    assert_eq!(problem["not_granted"], secrets(&["two"]));
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("\"pay\" uses what its app does not grant: secrets \"two\"")
    );
    assert_eq!(server.get(PAY).await.json()["version"], 2, "nothing has changed");
    assert_eq!(server.script("demo", "pay", "secret one\n3").await.status, 200);
    assert_eq!(server.script("demo", "other", "4").await.status, 201);

    put(&server, &json!({ "strict": false })).await;
    assert_eq!(server.script("demo", "pay", "secret two\n5").await.status, 200);
}

#[tokio::test]
async fn no_way_to_a_version_leads_past_the_grants() {
    let server = with_script().await;
    put(&server, &json!({ "strict": true })).await;
    let bundle = json!({ "scripts": { "good": "1", "pay": "secret two\n2" } });
    let refused = server.call("PUT", "/api/v1/apps/demo/bundle").json(&bundle).send().await;
    refused.problem("not_granted");
    assert_eq!(server.get("/api/v1/apps/demo/scripts").await.items("name"), ["pay"], "all or nothing");
    let back = server.call("POST", &format!("{PAY}/rollback")).json(&json!({ "version": 1 })).send().await;
    back.problem("not_granted");
    // By a library as well.
    server.script("demo", "lib", "fn f() {}").await;
    server.script("demo", "lib", "secret two\nfn f() {}").await.problem("not_granted");

    put(&server, &json!({ "strict": true, "uses": secrets(&["one", "two"]) })).await;
    let back = server.call("POST", &format!("{PAY}/rollback")).json(&json!({ "version": 1 })).send().await;
    assert_eq!(back.status, 200, "{back:?}");
}

#[tokio::test]
async fn who_deploys_does_not_grant() {
    let server = with_script().await;
    put(&server, &json!({ "strict": true })).await;
    let editor = server.token(&[Scope::ScriptRead, Scope::ScriptWrite], None).await;
    let call = |method: &str| server.anonymous(method, GRANTS).token(&editor);
    assert_eq!(call("GET").send().await.status, 200);
    call("PUT").json(&json!({ "strict": false })).send().await.problem("forbidden");
    assert_eq!(server.get(GRANTS).await.json()["strict"], true);
}

#[tokio::test]
async fn what_is_taken_back_is_shown_where_it_is_still_used() {
    let server = with_script().await;
    let none = put(&server, &json!({ "strict": true, "uses": {} })).await;
    assert_eq!(none.json()["beyond"], json!({ "pay": secrets(&["one"]) }));
    let any =
        put(&server, &json!({ "strict": true, "uses": { "secrets": { "names": [], "any": true } } })).await;
    assert_eq!(any.json()["beyond"], json!({}));
    assert_eq!(server.script("demo", "pay", "secret whatever\n1").await.status, 200);
}

#[tokio::test]
async fn wrong_grants_are_refused_and_nobody_overwrites_unseen() {
    let server = with_script().await;
    for body in [
        json!({}),
        json!({ "strict": 1 }),
        json!({ "strict": true, "app": "other" }),
        json!({ "strict": true, "uses": { "rockets": { "names": [], "any": true } } }),
        json!({ "strict": true, "uses": { "kv": { "names": ["a\u{0}"], "any": false } } }),
        json!({ "strict": true, "uses": { "kv": { "names": ["x".repeat(129)], "any": false } } }),
    ] {
        put(&server, &body).await.problem("invalid");
    }
    let seen = server.get(GRANTS).await.header("etag").to_owned();
    let change =
        || server.call("PUT", GRANTS).header("if-match", &seen).json(&json!({ "strict": true })).send();
    assert_eq!(change().await.status, 200);
    change().await.problem("precondition_failed");
}
