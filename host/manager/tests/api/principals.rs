//! Principals.

use picloud_core::{InstanceRole, Scope};
use picloud_store::PrincipalKind;
use serde_json::json;

use crate::support::Server;

const PRINCIPALS: &str = "/api/v1/principals";

#[tokio::test]
async fn principals_are_made_listed_changed_and_removed() {
    let server = Server::start().await;
    let new = json!({ "name": "ada", "kind": "user" });
    let made = server.call("POST", PRINCIPALS).json(&new).send().await;
    assert_eq!(made.status, 201, "{made:?}");
    let ada = made.json();
    assert_eq!(
        (&ada["kind"], &ada["role"], &ada["disabled_at"]),
        (&json!("user"), &json!("member"), &json!(null))
    );
    assert_eq!(made.header("location"), format!("{PRINCIPALS}/{}", ada["id"].as_str().unwrap()));
    server.call("POST", PRINCIPALS).json(&new).send().await.problem("already_exists");
    let service = json!({ "name": "ci", "kind": "service", "role": "member" });
    assert_eq!(server.call("POST", PRINCIPALS).json(&service).send().await.status, 201);

    assert_eq!(server.get(PRINCIPALS).await.items("name"), ["ada", "ci", "owner"]);
    let page = server.get(&format!("{PRINCIPALS}?limit=2")).await.json();
    let next = page["next_cursor"].as_str().unwrap();
    assert_eq!(server.get(&format!("{PRINCIPALS}?cursor={next}")).await.items("name"), ["owner"]);

    let by_id = server.get(&format!("{PRINCIPALS}/{}", ada["id"].as_str().unwrap())).await.json();
    assert_eq!(by_id, server.get(&format!("{PRINCIPALS}/ada")).await.json());
    let patch = json!({ "name": "ada.l", "disabled": true });
    let changed = server.call("PATCH", &format!("{PRINCIPALS}/ada")).json(&patch).send().await.json();
    assert_eq!(changed["name"], "ada.l");
    assert!(changed["disabled_at"].is_string());
    let taken =
        server.call("PATCH", &format!("{PRINCIPALS}/ada.l")).json(&json!({ "name": "ci" })).send().await;
    taken.problem("already_exists");

    assert_eq!(server.call("DELETE", &format!("{PRINCIPALS}/ada.l")).send().await.status, 204);
    server.get(&format!("{PRINCIPALS}/ada.l")).await.problem("not_found");
    server.call("DELETE", &format!("{PRINCIPALS}/ada.l")).send().await.problem("not_found");
}

#[tokio::test]
async fn wrong_principals_are_refused_by_field() {
    let server = Server::start().await;
    let cases = [
        (json!({ "name": "Ada", "kind": "user" }), "name"),
        (json!({ "name": "0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b", "kind": "user" }), "name"),
        (json!({ "name": "ada", "kind": "god" }), "kind"),
        (json!({ "name": "ada", "kind": "user", "role": "root" }), "role"),
        (json!({ "name": "ada", "kind": "user", "scopes": [] }), "scopes"),
    ];
    for (new, field) in cases {
        let answer = server.call("POST", PRINCIPALS).json(&new).send().await;
        assert!(answer.problem("invalid")["detail"].as_str().unwrap().contains(field), "{answer:?}");
    }
    assert_eq!(server.get(PRINCIPALS).await.items("name"), ["owner"]);
}

#[tokio::test]
async fn the_last_owner_can_neither_be_disabled_nor_demoted_nor_deleted() {
    let server = Server::start().await;
    let owner = format!("{PRINCIPALS}/owner");
    let change = |patch| server.call("PATCH", &owner).json(&patch).send();
    let disabled = server.user("off", InstanceRole::Owner).await;
    server.call("PATCH", &format!("{PRINCIPALS}/off")).json(&json!({ "disabled": true })).send().await;
    for patch in [json!({ "disabled": true }), json!({ "role": "member" })] {
        let answer = change(patch).await;
        answer.problem("last_owner");
        assert_eq!(answer.status, 409);
    }
    server.call("DELETE", &owner).send().await.problem("last_owner");
    let me = server.get("/api/v1/whoami").await.json();
    assert_eq!((&me["name"], &me["role"]), (&json!("owner"), &json!("owner")));

    // With another one, it can; and then that one is the last.
    let second = server.user("second", InstanceRole::Owner).await;
    assert_eq!(change(json!({ "role": "member" })).await.status, 200);
    let token = server.token_of(second.id, Scope::ALL, None).await;
    let last = server.anonymous("DELETE", &format!("{PRINCIPALS}/second")).token(&token).send().await;
    last.problem("last_owner");
    assert!(server.store.principal(disabled.id).await.unwrap().unwrap().disabled_at.is_some());
}

#[tokio::test]
async fn a_disabled_principal_is_nobody_from_the_next_request_on() {
    let server = Server::start().await;
    let ada = server.user("ada", InstanceRole::Member).await;
    let token = server.token_of(ada.id, Scope::ALL, None).await;
    let cookie = server.session("ada", "a long password").await;
    let by_token = || server.anonymous("GET", "/api/v1/whoami").token(&token).send();
    let by_cookie = || server.by_cookie("GET", "/api/v1/whoami", &cookie).send();
    assert_eq!((by_token().await.status.as_u16(), by_cookie().await.status.as_u16()), (200, 200));
    let disable = |disabled: bool| {
        server.call("PATCH", &format!("{PRINCIPALS}/ada")).json(&json!({ "disabled": disabled })).send()
    };
    disable(true).await;
    by_token().await.problem("unauthenticated");
    by_cookie().await.problem("unauthenticated");
    server.sign_in("ada", "a long password").await.problem("unauthenticated");
    disable(false).await;
    assert_eq!(by_token().await.status, 200, "its tokens come back");
    by_cookie().await.problem("unauthenticated");
}

#[tokio::test]
async fn a_deleted_principal_takes_its_tokens_sessions_and_memberships_along() {
    let server = Server::start().await;
    server.app("demo").await;
    let ada = server.user("ada", InstanceRole::Member).await;
    let token = server.token_of(ada.id, Scope::ALL, None).await;
    let cookie = server.session("ada", "a long password").await;
    let member = "/api/v1/apps/demo/members/ada";
    assert_eq!(server.call("PUT", member).json(&json!({ "role": "editor" })).send().await.status, 201);
    let script = server.anonymous("PUT", "/api/v1/apps/demo/scripts/s").token(&token).text("1").send().await;
    assert_eq!(script.status, 201, "{script:?}");
    assert_eq!(server.call("DELETE", &format!("{PRINCIPALS}/ada")).send().await.status, 204);
    server.anonymous("GET", "/api/v1/whoami").token(&token).send().await.problem("unauthenticated");
    server.by_cookie("GET", "/api/v1/whoami", &cookie).send().await.problem("unauthenticated");
    assert!(server.get("/api/v1/apps/demo/members").await.items("name").is_empty());
    assert_eq!(server.get("/api/v1/apps/demo/scripts").await.items("name"), ["s"], "what it made stays");
}

#[tokio::test]
async fn nobody_makes_more_of_itself_or_of_another_than_its_token_allows() {
    let server = Server::start().await;
    let narrow = server.token(&[Scope::InstanceAdmin], None).await;
    let call = |method: &str, path: &str| server.anonymous(method, path).token(&narrow);
    let owner = json!({ "name": "eve", "kind": "user", "role": "owner" });
    call("POST", PRINCIPALS).json(&owner).send().await.problem("forbidden");
    let member = json!({ "name": "eve", "kind": "user" });
    assert_eq!(call("POST", PRINCIPALS).json(&member).send().await.status, 201);
    let eve = format!("{PRINCIPALS}/eve");
    call("PATCH", &eve).json(&json!({ "role": "owner" })).send().await.problem("forbidden");
    let password = json!({ "password": "a long password" });
    for name in ["eve", "owner"] {
        let answer = call("PUT", &format!("{PRINCIPALS}/{name}/password")).json(&password).send().await;
        answer.problem("forbidden");
    }

    let mallory = server.user("mallory", InstanceRole::Member).await;
    let token = server.token_of(mallory.id, Scope::ALL, None).await;
    let call = |method: &str, path: &str| server.anonymous(method, path).token(&token);
    call("PATCH", &format!("{PRINCIPALS}/mallory"))
        .json(&json!({ "role": "owner" }))
        .send()
        .await
        .problem("forbidden");
    call("PUT", &format!("{PRINCIPALS}/mallory/password")).json(&password).send().await.problem("forbidden");
    for name in ["owner", "no-such-name"] {
        let answer = call("PUT", &format!("{PRINCIPALS}/{name}/password")).json(&password).send().await;
        assert_eq!(answer.problem("not_found")["detail"], format!("no principal \"{name}\""));
    }
}

#[tokio::test]
async fn a_service_has_no_password() {
    let server = Server::start().await;
    server.principal("ci", PrincipalKind::Service, InstanceRole::Member).await;
    let path = format!("{PRINCIPALS}/ci/password");
    let answer = server.call("PUT", &path).json(&json!({ "password": "a long password" })).send().await;
    answer.problem("invalid");
    server.sign_in("ci", "a long password").await.problem("unauthenticated");
}
