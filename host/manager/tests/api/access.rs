//! Who may call an app's endpoints.

use picloud_core::Scope;
use serde_json::{Value, json};

use crate::support::{Answer, Server};

const ACCESS: &str = "/api/v1/apps/demo/access";
const ROUTES: &str = "/api/v1/apps/demo/routes";

async fn put(server: &Server, body: &Value) -> Answer {
    server.call("PUT", ACCESS).json(body).send().await
}

async fn with_app() -> Server {
    let server = Server::start().await;
    server.app("demo").await;
    server.script("demo", "hook", "1").await;
    server
}

#[tokio::test]
async fn settings_are_replaced_by_name_and_shown_whole() {
    let server = with_app().await;
    let open = json!({
        "cors": null, "allow_ips": [], "deny_ips": [], "rate_limit": null, "client_rate_limit": null,
        "development": false,
    });
    assert_eq!(server.get(ACCESS).await.json(), open);
    let changed = put(
        &server,
        &json!({
            "cors": { "origins": ["https://Shop.example:443"], "headers": ["Content-Type"] },
            "deny_ips": ["::ffff:10.0.0.0/104", "2001:DB8::1"],
            "client_rate_limit": { "requests": 10, "seconds": 60 },
        }),
    )
    .await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let whole = json!({
        "cors": {
            "origins": ["https://shop.example"], "methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            "headers": ["content-type"], "exposed_headers": [], "credentials": false, "max_age_seconds": 600,
        },
        "allow_ips": [], "deny_ips": ["10.0.0.0/8", "2001:db8::1"], "rate_limit": null,
        "client_rate_limit": { "requests": 10, "seconds": 60 }, "development": false,
    });
    assert_eq!(changed.json(), whole);
    let less = put(&server, &json!({ "cors": null, "client_rate_limit": null, "deny_ips": [] })).await;
    assert_eq!(less.json(), open);
    assert!(server.node.changed.lock().unwrap().len() >= 2);
}

#[tokio::test]
async fn nobody_overwrites_settings_unseen() {
    let server = with_app().await;
    let seen = server.get(ACCESS).await.header("etag").to_owned();
    let call = |tag: &str| {
        server.call("PUT", ACCESS).header("if-match", tag).json(&json!({ "development": true })).send()
    };
    let changed = call(&seen).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), seen);
    call(&seen).await.problem("precondition_failed");
    assert_eq!(server.get(ACCESS).await.header("etag"), changed.header("etag"));
}

#[tokio::test]
async fn wrong_settings_name_the_field_and_what_is_allowed() {
    let server = with_app().await;
    for (body, field, detail) in [
        (json!({ "deny_ips": ["10.0.0.0/33"] }), "deny_ips[0]", "such as 10.0.0.0/8"),
        (json!({ "allow_ips": ["10.0.0.1/8"] }), "allow_ips[0]", "write 10.0.0.0/8 for the network"),
        (json!({ "allow_ips": vec!["::1"; 257] }), "allow_ips", "at most 256"),
        (json!({ "rate_limit": { "requests": 0, "seconds": 1 } }), "rate_limit", "allowed is 1 to 1000000"),
        (json!({ "rate_limit": { "requests": 1, "seconds": -1 } }), "rate_limit.seconds", "the number -1"),
        (
            json!({ "rate_limit": { "requests": 1, "seconds": 1, "burst": 2 } }),
            "rate_limit",
            "no field burst",
        ),
        (json!({ "cors": { "origins": ["null"] } }), "cors", "is no origin"),
        (json!({ "cors": { "origins": ["*"], "credentials": true } }), "cors", "credentials is true"),
        (json!({ "development": 1 }), "development", "allowed is true or false"),
    ] {
        let refused = put(&server, &body).await;
        let problem = refused.problem("invalid");
        assert!(problem["field"].as_str().unwrap().starts_with(field), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }
    let unknown = put(&server, &json!({ "role": 1 })).await.problem("invalid");
    assert!(unknown["detail"].as_str().unwrap().contains("allowed are cors, allow_ips"), "{unknown}");
    let twice = r#"{"development": true, "development": false}"#;
    server.call("PUT", ACCESS).raw_json(twice).send().await.problem("invalid");
    assert_eq!(server.get(ACCESS).await.json()["development"], false);
}

#[tokio::test]
async fn a_route_says_who_may_call_it_and_is_not_opened_by_silence() {
    let server = with_app().await;
    let post = async |body: Value| server.call("POST", ROUTES).json(&body).send().await;
    let made = post(json!({ "path": "/a", "script": "hook" })).await.json();
    assert_eq!(
        (&made["access"], &made["rate_limit"], &made["signing_keys"]),
        (&json!("public"), &Value::Null, &json!([]))
    );
    let rate = json!({ "requests": 5, "seconds": 10 });
    let guarded =
        post(json!({ "path": "/a", "script": "hook", "access": "token", "client_rate_limit": rate })).await;
    assert_eq!((guarded.status.as_u16(), &guarded.json()["access"]), (200, &json!("token")));
    let again = post(json!({ "path": "/a", "script": "hook" })).await.json();
    assert_eq!((&again["access"], &again["client_rate_limit"]), (&json!("token"), &rate));
    let bundle = json!({ "scripts": {}, "routes": [{ "path": "/a", "script": "hook" }] });
    let deployed = server.call("PUT", "/api/v1/apps/demo/bundle").json(&bundle).send().await;
    assert_eq!(deployed.status, 200, "{deployed:?}");
    assert_eq!(server.get(ROUTES).await.items("access"), [json!("token")]);

    let path = format!("{ROUTES}/{}", made["id"].as_str().unwrap());
    let patch = async |body: Value| server.call("PATCH", &path).json(&body).send().await;
    let opened = patch(json!({ "access": "public", "client_rate_limit": null })).await.json();
    assert_eq!((&opened["access"], &opened["client_rate_limit"]), (&json!("public"), &Value::Null));
    assert_eq!(patch(json!({})).await.json(), opened);
    patch(json!({ "script": "none" })).await.problem("script_not_found");
    for wrong in
        [json!({ "access": "private" }), json!({ "access": null, "path": "/b" }), json!({ "rate_limit": 5 })]
    {
        patch(wrong).await.problem("invalid");
    }
    let wrong = post(json!({ "path": "/b", "script": "hook", "access": "basic" })).await.problem("invalid");
    assert!(wrong["detail"].as_str().unwrap().contains("public, token and hmac"), "{wrong}");
    let other = path.replace("demo", "other");
    server.app("other").await;
    server.call("PATCH", &other).json(&json!({})).send().await.problem("not_found");
}

#[tokio::test]
async fn a_signing_key_is_shown_once() {
    let server = with_app().await;
    let route = json!({ "path": "/hook", "script": "hook", "access": "hmac" });
    let route = server.call("POST", ROUTES).json(&route).send().await.json();
    let path = format!("{ROUTES}/{}/keys", route["id"].as_str().unwrap());
    let make = async |body: Value| server.call("POST", &path).json(&body).send().await;
    let first = make(json!({})).await;
    assert_eq!(first.status, 201, "{first:?}");
    let first = first.json();
    let key = first["key"].as_str().unwrap();
    assert!(key.starts_with("pcs_") && key.len() == 68, "{key}");
    let second = make(json!({ "keep_seconds": 60 })).await.json();
    let shown = server.get(ROUTES).await;
    assert!(!shown.text.contains(key) && !shown.text.contains(second["key"].as_str().unwrap()));
    let keys = &shown.json()["items"][0]["signing_keys"];
    assert_eq!((&keys[0]["id"], &keys[0]["expires_at"]), (&second["id"], &Value::Null));
    assert_eq!(keys[1]["id"], first["id"]);
    assert!(keys[1]["expires_at"].is_string());
    make(json!({ "keep_seconds": 0 })).await;
    assert_eq!(server.get(ROUTES).await.json()["items"][0]["signing_keys"].as_array().unwrap().len(), 1);

    let wrong = make(json!({ "keep_seconds": 2_592_001 })).await.problem("invalid");
    assert!(wrong["detail"].as_str().unwrap().contains("allowed is 0 to 2592000"), "{wrong}");
    let public =
        server.call("POST", ROUTES).json(&json!({ "path": "/p", "script": "hook" })).send().await.json();
    let of_public = format!("{ROUTES}/{}/keys", public["id"].as_str().unwrap());
    server.call("POST", &of_public).json(&json!({})).send().await.problem("invalid");
}

#[tokio::test]
async fn a_key_of_a_sender_is_taken_and_never_shown() {
    let server = with_app().await;
    let post = async |body: Value| server.call("POST", ROUTES).json(&body).send().await;
    let public = post(json!({ "path": "/p", "script": "hook" })).await.json();
    assert_eq!(public["signature"], Value::Null);
    let route = json!({ "path": "/hook", "script": "hook", "access": "hmac", "signature": "github" });
    let route = post(route).await.json();
    assert_eq!(route["signature"], "github");
    let path = format!("{ROUTES}/{}/keys", route["id"].as_str().unwrap());
    let make = async |body: Value| server.call("POST", &path).json(&body).send().await;
    let key = "a secret of a sender é";
    let made = make(json!({ "key": key })).await;
    assert_eq!((made.status.as_u16(), &made.json()["key"]), (201, &Value::Null));
    let app = server.store.app_by_name(&"demo".parse().unwrap()).await.unwrap().unwrap();
    let stored = server.store.directory_of(app.id).await.unwrap().unwrap().routes;
    let stored: Vec<_> = stored.iter().flat_map(|route| &route.keys).map(|key| key.key.reveal()).collect();
    assert_eq!(stored, [key]);
    let audit = server.get("/api/v1/audit").await;
    for shown in [&made, &server.get(ROUTES).await, &audit] {
        assert!(!shown.text.contains("of a sender"), "{}", shown.text);
    }
    assert!(audit.text.contains("create_key"), "{}", audit.text);
    let long = "x".repeat(1025);
    for wrong in ["", "fifteen bytes..", "a key of two\nlines", "a key with U+0000 \0", &long] {
        let refused = make(json!({ "key": wrong })).await;
        let problem = refused.problem("invalid");
        assert!(problem["detail"].as_str().unwrap().contains("allowed are 16 to 1024"), "{problem}");
        assert!(wrong.is_empty() || !refused.text.contains(wrong), "{problem}");
    }
    make(json!({ "key": 7 })).await.problem("invalid");
}

#[tokio::test]
async fn how_callers_sign_is_one_of_what_is_known() {
    let server = with_app().await;
    let post = async |body: Value| server.call("POST", ROUTES).json(&body).send().await;
    let made = post(json!({ "path": "/a", "script": "hook", "access": "hmac" })).await.json();
    assert_eq!(made["signature"], "picloud");
    let path = format!("{ROUTES}/{}", made["id"].as_str().unwrap());
    let patch = async |body: Value| server.call("PATCH", &path).json(&body).send().await;
    for signature in ["stripe", "slack", "generic:x-shopify-hmac-sha256", "generic"] {
        assert_eq!(patch(json!({ "signature": signature })).await.json()["signature"], signature);
    }
    for wrong in ["gitlab", "", "generic:a b", "generic:x\r\ny"] {
        let problem = patch(json!({ "signature": wrong })).await.problem("invalid");
        assert!(problem["detail"].as_str().unwrap().contains("allowed are"), "{problem}");
    }
    // What asks for no signature is not protected by saying how one would be made.
    let open =
        post(json!({ "path": "/b", "script": "hook", "signature": "github" })).await.problem("invalid");
    assert!(open["detail"].as_str().unwrap().contains("only a route with hmac"), "{open}");
    assert_eq!(server.get(ROUTES).await.items("path"), [json!("/a")]);
    let opened = patch(json!({ "access": "public" })).await.json();
    assert_eq!(opened["signature"], Value::Null);
}

#[tokio::test]
async fn who_may_deploy_may_not_therefore_open_the_app() {
    let server = with_app().await;
    let app = server.app("other").await;
    let editor = server.token(&[Scope::ScriptRead, Scope::ScriptWrite], None).await;
    let call = |method: &str, path: &str| server.anonymous(method, path).token(&editor);
    assert_eq!(call("GET", ACCESS).send().await.status, 200);
    call("PUT", ACCESS).json(&json!({ "development": true })).send().await.problem("forbidden");
    let bundle = json!({ "scripts": {}, "access": { "development": true } });
    let path = "/api/v1/apps/demo/bundle";
    call("PUT", path).json(&bundle).send().await.problem("forbidden");
    assert_eq!(server.get(ACCESS).await.json()["development"], false);
    let deployed = server.call("PUT", path).json(&bundle).send().await;
    assert_eq!(deployed.status, 200, "{deployed:?}");
    assert_eq!(server.get(ACCESS).await.json()["development"], true);
    let of_other = server.token(Scope::ALL, Some(&app)).await;
    let foreign = server.anonymous("PUT", ACCESS).token(&of_other).json(&json!({ "development": false }));
    foreign.send().await.problem("app_not_found");
}
