//! Requests under an `Idempotency-Key`.

use picloud_core::Scope;
use serde_json::{Value, json};

use crate::{
    events::{APP, claim, server},
    support::{Answer, Server},
};

async fn keyed(server: &Server, path: &str, key: &str, body: &Value) -> Answer {
    server.call("POST", path).header("idempotency-key", key).json(body).send().await
}

#[tokio::test]
async fn the_same_request_is_answered_once_and_then_the_same() {
    let server = server().await;
    let path = format!("{APP}/queues/jobs/messages");
    let first = keyed(&server, &path, "k", &json!({ "body": 1 })).await;
    assert_eq!((first.status.as_u16(), first.header("picloud-idempotent-replay")), (202, ""));
    let again = keyed(&server, &path, "k", &json!({ "body": 1 })).await;
    assert_eq!((again.status.as_u16(), again.header("picloud-idempotent-replay")), (202, "true"));
    assert_eq!((again.json(), again.header("content-type")), (first.json(), "application/json"));
    keyed(&server, &path, "k", &json!({ "body": 2 })).await.problem("idempotency_conflict");
    assert_eq!(claim(&server).await.len(), 1);

    // Of another path, or of somebody else, it is another key.
    let other = keyed(&server, &format!("{APP}/queues/other/messages"), "k", &json!({ "body": 1 })).await;
    assert_ne!(other.json()["id"], first.json()["id"]);
    let ada = server.user("ada", picloud_core::InstanceRole::Owner).await;
    let token = server.token_of(ada.id, &[Scope::DataWrite], None).await;
    let call = server.anonymous("POST", &path).token(&token).header("idempotency-key", "k");
    assert_eq!(call.json(&json!({ "body": 2 })).send().await.status, 202);
    assert_eq!(claim(&server).await.len(), 2);
}

#[tokio::test]
async fn what_was_refused_may_be_put_right_under_its_key() {
    let server = server().await;
    let path = format!("{APP}/triggers/jobs/fire");
    keyed(&server, &path, "k", &json!({ "event": { "bodies": 1 } })).await.problem("invalid");
    let fired = keyed(&server, &path, "k", &json!({ "event": { "body": 1 } })).await;
    assert_eq!(fired.status, 202);
    assert_eq!(keyed(&server, &path, "k", &json!({ "event": { "body": 1 } })).await.json(), fired.json());
    assert_eq!(claim(&server).await.len(), 1);
}

#[tokio::test]
async fn what_makes_no_events_has_keys_as_well() {
    let server = server().await;
    let new = json!({ "name": "shop" });
    let made = keyed(&server, "/api/v1/apps", "k", &new).await;
    assert_eq!(made.status, 201);
    let again = keyed(&server, "/api/v1/apps", "k", &new).await;
    assert_eq!((again.status.as_u16(), again.json()), (201, made.json()));
    assert_eq!(again.header("location"), made.header("location"));
    keyed(&server, "/api/v1/apps", "other", &new).await.problem("already_exists");
    let pause = format!("{APP}/queues/jobs/pause");
    for replayed in ["", "true"] {
        let paused = keyed(&server, &pause, "k", &json!({})).await;
        assert_eq!((paused.status.as_u16(), paused.header("picloud-idempotent-replay")), (204, replayed));
    }
}

#[tokio::test]
async fn a_secret_that_is_shown_once_is_kept_nowhere() {
    let server = server().await;
    let new = json!({ "name": "ci", "scopes": ["data:read"] });
    let problem = keyed(&server, "/api/v1/tokens", "k", &new).await.problem("invalid");
    assert_eq!(problem["field"], "idempotency-key");
    for key in ["", " ", &"a".repeat(256), "\u{e9}"] {
        keyed(&server, "/api/v1/apps", key, &json!({ "name": "shop" })).await.problem("bad_request");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_gets_the_answer_when_it_comes_back() {
    let server = server().await;
    let new = json!({ "name": "shop" });
    // The app is made once this lock is given up; by then its client is gone.
    let held = server.database.hold("LOCK TABLE apps IN EXCLUSIVE MODE").await;
    let call = server.call("POST", "/api/v1/apps").header("idempotency-key", "k").json(&new);
    let client = tokio::spawn(async move { call.send().await });
    server.database.until_blocked().await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    held.release().await;
    let again = loop {
        let again = keyed(&server, "/api/v1/apps", "k", &new).await;
        if again.status != 409 {
            break again;
        }
        again.problem("idempotency_conflict");
    };
    assert_eq!((again.status.as_u16(), again.header("picloud-idempotent-replay")), (201, "true"));
}
