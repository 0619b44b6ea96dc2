//! Tokens.

use picloud_core::{AppRole, InstanceRole, Scope};
use picloud_store::PrincipalKind;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::support::{Answer, Server};

const TOKENS: &str = "/api/v1/tokens";

async fn make(server: &Server, token: &str, request: &Value) -> Answer {
    server.anonymous("POST", TOKENS).token(token).json(request).send().await
}

fn in_hours(hours: i64) -> String {
    (OffsetDateTime::now_utc() + Duration::hours(hours)).format(&Rfc3339).unwrap()
}

#[tokio::test]
async fn a_token_is_shown_once_used_and_revoked_at_once() {
    let server = Server::start().await;
    server.app("demo").await;
    let request = json!({ "name": "ci", "scopes": ["script:write", "script:read"], "app": "demo" });
    let made = make(&server, &server.owner, &request).await;
    assert_eq!(made.status, 201, "{made:?}");
    let json = made.json();
    let secret = json["token"].as_str().unwrap();
    assert!(secret.starts_with("pcl_") && secret.len() == 68, "{secret}");
    assert_eq!(json["scopes"], json!(["script:read", "script:write"]));
    assert_eq!((&json["app"], &json["last_used_at"]), (&json!("demo"), &json!(null)));

    let asks = || server.anonymous("GET", "/api/v1/apps/demo/scripts").token(secret).send();
    assert_eq!(asks().await.status, 200);
    let listed = server.get(TOKENS).await;
    assert!(!listed.text.contains(secret) && !listed.text.contains(&secret[4..]));
    let json = listed.json();
    let found = json["items"].as_array().unwrap().iter().find(|token| token["name"] == "ci").unwrap();
    assert!(found["last_used_at"].is_string(), "{found}");

    let path = format!("{TOKENS}/{}", found["id"].as_str().unwrap());
    assert_eq!(server.call("DELETE", &path).send().await.status, 204);
    asks().await.problem("unauthenticated");
    server.call("DELETE", &path).send().await.problem("not_found");
}

#[tokio::test]
async fn a_token_is_never_wider_than_what_it_is_made_with() {
    let server = Server::start().await;
    let demo = server.app("demo").await;
    server.app("other").await;
    let narrow = server.token(&[Scope::ScriptRead, Scope::ScriptWrite], Some(&demo)).await;
    let ok = json!({ "name": "x", "scopes": ["script:read"], "app": "demo" });
    assert_eq!(make(&server, &narrow, &ok).await.status, 201);
    let with = |field: &str, value: Value| {
        let mut request = ok.clone();
        request[field] = value;
        request
    };
    let refused = make(&server, &narrow, &with("scopes", json!(["script:read", "data:read"]))).await;
    assert_eq!(refused.problem("forbidden")["scope"], "data:read");
    let all_apps = json!({ "name": "x", "scopes": ["script:read"] });
    make(&server, &narrow, &all_apps).await.problem("forbidden");
    make(&server, &narrow, &with("app", json!("other"))).await.problem("app_not_found");
    make(&server, &narrow, &with("app", json!("none"))).await.problem("app_not_found");

    let ending = with("expires_at", json!(in_hours(2)));
    let short = make(&server, &narrow, &ending).await.json();
    let short = short["token"].as_str().unwrap();
    make(&server, short, &with("expires_at", json!(in_hours(3)))).await.problem("forbidden");
    let child = make(&server, short, &ok).await.json();
    assert!(child["expires_at"].is_string(), "what ends makes nothing that does not: {child}");
    make(&server, short, &with("expires_at", json!("2020-01-01T00:00:00Z"))).await.problem("invalid");
}

#[tokio::test]
async fn what_was_made_with_a_token_ends_with_it() {
    let server = Server::start().await;
    let request = |name: &str| json!({ "name": name, "scopes": ["script:read", "instance:admin"] });
    let stolen = make(&server, &server.owner, &request("stolen")).await.json();
    let kept = make(&server, stolen["token"].as_str().unwrap(), &request("kept")).await.json();
    let again = make(&server, kept["token"].as_str().unwrap(), &request("again")).await.json();
    server.principal("ci", PrincipalKind::Service, InstanceRole::Member).await;
    let mut for_service = request("for ci");
    for_service["principal"] = "ci".into();
    let for_service = make(&server, stolen["token"].as_str().unwrap(), &for_service).await.json();
    let path = format!("{TOKENS}/{}", stolen["id"].as_str().unwrap());
    assert_eq!(server.call("DELETE", &path).send().await.status, 204);
    for token in [stolen, kept, again, for_service] {
        let secret = token["token"].as_str().unwrap();
        server.anonymous("GET", "/api/v1/whoami").token(secret).send().await.problem("unauthenticated");
    }
}

#[tokio::test]
async fn tokens_of_others_are_for_those_who_manage_principals() {
    let server = Server::start().await;
    let ada = server.user("ada", InstanceRole::Member).await;
    let ci = server.principal("ci", PrincipalKind::Service, InstanceRole::Member).await;
    let hers = server.token_of(ada.id, Scope::ALL, None).await;
    let for_ci = json!({ "name": "deploy", "scopes": ["script:write"], "principal": "ci" });
    make(&server, &hers, &for_ci).await.problem("forbidden");
    let made = make(&server, &server.owner, &for_ci).await;
    assert_eq!((made.status.as_u16(), &made.json()["principal_id"]), (201, &json!(ci.id.to_string())));
    let for_ada = json!({ "name": "spy", "scopes": ["script:read"], "principal": "ada" });
    assert_eq!(make(&server, &server.owner, &for_ada).await.problem("invalid")["field"], "principal");

    let ask = |token: &str, path: &str| server.anonymous("GET", path).token(token);
    ask(&hers, &format!("{TOKENS}?principal=owner")).send().await.problem("forbidden");
    ask(&hers, &format!("{TOKENS}?principal=none")).send().await.problem("forbidden");
    assert_eq!(ask(&hers, TOKENS).send().await.items("name"), ["test"]);
    assert_eq!(ask(&hers, &format!("{TOKENS}?principal=ada")).send().await.items("name"), ["test"]);
    let theirs = server.get(&format!("{TOKENS}?principal=ci")).await;
    assert_eq!(theirs.items("name"), ["deploy"]);
    let path = format!("{TOKENS}/{}", theirs.items("id")[0].as_str().unwrap());
    server.anonymous("DELETE", &path).token(&hers).send().await.problem("not_found");
    assert_eq!(server.call("DELETE", &path).send().await.status, 204);
}

#[tokio::test]
async fn a_token_with_limits_neither_sees_nor_revokes_wider_ones() {
    let server = Server::start().await;
    let demo = server.app("demo").await;
    let ada = server.user("ada", InstanceRole::Member).await;
    server.store.put_member(demo.id, ada.id, AppRole::Editor).await.unwrap();
    let wide = server.token_of(ada.id, Scope::ALL, None).await;
    let narrow = server.token_of(ada.id, &[Scope::LogRead], Some(demo.id)).await;
    let ids = |answer: &Answer| answer.items("id");
    let all = ids(&server.anonymous("GET", TOKENS).token(&wide).send().await);
    let seen = ids(&server.anonymous("GET", TOKENS).token(&narrow).send().await);
    assert_eq!((all.len(), &seen[..]), (2, &all[1..]));
    let revoke = |id: &Value| {
        let path = format!("{TOKENS}/{}", id.as_str().unwrap());
        server.anonymous("DELETE", &path).token(&narrow).send()
    };
    revoke(&all[0]).await.problem("not_found");
    assert_eq!(revoke(&all[1]).await.status, 204, "itself");
}

#[tokio::test]
async fn a_principal_has_a_bounded_number_of_tokens() {
    let server = Server::start().await;
    let ada = server.user("ada", InstanceRole::Member).await;
    for _ in 0..99 {
        server.token_of(ada.id, &[Scope::ScriptRead], None).await;
    }
    let token = server.token_of(ada.id, &[Scope::ScriptRead], None).await;
    let request = json!({ "name": "x", "scopes": ["script:read"] });
    let refused = make(&server, &token, &request).await.problem("invalid");
    assert!(refused["detail"].as_str().unwrap().contains("at most 100 tokens"), "{refused}");
    server.database.execute("UPDATE tokens SET expires_at = now() - interval '31 days' WHERE id IN (SELECT id FROM tokens WHERE name = 'test' ORDER BY id LIMIT 1)").await;
    assert_eq!(make(&server, &token, &request).await.status, 201);
    assert_eq!(server.database.number("SELECT count(*) FROM tokens WHERE expires_at < now()").await, 0);
}

#[tokio::test]
async fn wrong_requests_are_refused_by_field() {
    let server = Server::start().await;
    let cases = [
        (json!({ "name": "", "scopes": ["script:read"] }), "name"),
        (json!({ "name": "a\u{0}b", "scopes": ["script:read"] }), "name"),
        (json!({ "name": "x", "scopes": [] }), "scope"),
        (json!({ "name": "x", "scopes": ["root"] }), "scopes"),
        (json!({ "name": "x", "scopes": ["script:read"], "role": "owner" }), "role"),
        (json!({ "name": "x", "scopes": ["script:read"], "app_id": "x" }), "app_id"),
        (json!({ "name": "x", "scopes": ["script:read"], "expires_at": "soon" }), "expires_at"),
        (
            json!({ "name": "x", "scopes": ["script:read"], "expires_at": "9999-12-31T23:59:59+99:99" }),
            "expires_at",
        ),
    ];
    for (request, field) in cases {
        let answer = make(&server, &server.owner, &request).await;
        assert!(answer.problem("invalid")["detail"].as_str().unwrap().contains(field), "{answer:?}");
    }
    let twice = r#"{"name":"x","scopes":["script:read"],"scopes":["instance:admin"]}"#;
    let answer = server.call("POST", TOKENS).raw_json(twice).send().await;
    assert!(answer.problem("invalid")["detail"].as_str().unwrap().contains("twice"));
    let far = json!({ "name": "x", "scopes": ["script:read"], "expires_at": "9999-12-31T23:59:59Z" });
    assert_eq!(make(&server, &server.owner, &far).await.status, 201);
}
