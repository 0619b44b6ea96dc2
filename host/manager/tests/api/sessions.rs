//! Signing in, by name and password.

use picloud_core::{InstanceRole, Scope};
use serde_json::json;

use crate::support::Server;

const PASSWORD: &str = "correct horse battery";

#[tokio::test]
async fn a_session_has_every_scope_until_it_is_signed_out() {
    let server = Server::start().await;
    let cookie = server.session("owner", PASSWORD).await;
    let me = server.by_cookie("GET", "/api/v1/whoami", &cookie).send().await.json();
    assert_eq!((&me["name"], &me["token_id"]), (&json!("owner"), &json!(null)));
    assert_eq!(me["scopes"].as_array().unwrap().len(), 7);
    assert!(me["session_id"].is_string() && me["expires_at"].is_string());
    let new = json!({ "name": "demo" });
    assert_eq!(server.by_cookie("POST", "/api/v1/apps", &cookie).json(&new).send().await.status, 201);
    let out = server.by_cookie("DELETE", "/api/v1/session", &cookie).send().await;
    assert_eq!(out.status, 204);
    assert!(
        out.headers.get_all("set-cookie").iter().all(|cookie| cookie.to_str().unwrap().contains("Max-Age=0"))
    );
    server.by_cookie("GET", "/api/v1/whoami", &cookie).send().await.problem("unauthenticated");
    server.call("DELETE", "/api/v1/session").send().await.problem("bad_request");
}

#[tokio::test]
async fn the_cookie_is_kept_from_scripts_and_other_sites_and_bound_to_the_host_over_tls() {
    let server = Server::start().await;
    server.session("owner", PASSWORD).await;
    let who = json!({ "name": "owner", "password": PASSWORD });
    let plain = server.anonymous("POST", "/api/v1/session").json(&who).send().await;
    let cookie = plain.header("set-cookie").to_owned();
    assert!(cookie.starts_with("picloud_session=pcls_"), "{cookie}");
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure") && !plain.text.contains("pcls_"));
    let call = server.anonymous("POST", "/api/v1/session").json(&who);
    let tls = call.header("host", "cloud.example").header("origin", "https://cloud.example").send().await;
    let cookie = tls.header("set-cookie");
    assert!(cookie.starts_with("__Host-picloud_session=pcls_") && cookie.ends_with("; Secure"), "{cookie}");
    assert!(!cookie.contains("Domain"), "{cookie}");
}

#[tokio::test]
async fn a_page_of_another_origin_can_do_nothing_with_a_session() {
    let server = Server::start().await;
    let cookie = server.session("owner", PASSWORD).await;
    let new = json!({ "name": "demo" });
    let post = || server.anonymous("POST", "/api/v1/apps").header("cookie", &cookie).json(&new);
    post().send().await.problem("forbidden");
    for site in ["cross-site", "same-site", "none", ""] {
        post().header("sec-fetch-site", site).send().await.problem("forbidden");
    }
    for origin in ["http://evil.example", "null", "http://127.0.0.1:8421"] {
        post().header("origin", origin).send().await.problem("forbidden");
    }
    let read = server.anonymous("GET", "/api/v1/apps").header("cookie", &cookie);
    read.header("sec-fetch-site", "same-site").send().await.problem("forbidden");
    assert!(server.get("/api/v1/apps").await.items("name").is_empty());
    let own = format!("http://{}", server.address);
    assert_eq!(post().header("origin", &own).send().await.status, 201);
}

#[tokio::test]
async fn an_unknown_name_and_a_wrong_password_look_the_same() {
    let server = Server::start().await;
    server.session("owner", PASSWORD).await;
    server.user("no-password", InstanceRole::Owner).await;
    let mut answers = Vec::new();
    for (name, password) in
        [("owner", "wrong horse battery"), ("nobody", PASSWORD), ("no-password", ""), ("owner", "")]
    {
        let answer = server.sign_in(name, password).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("set-cookie"), "");
        answers.push(answer.problem("unauthenticated")["detail"].clone());
    }
    answers.dedup();
    assert_eq!(answers, ["the name or the password is wrong"]);
}

#[tokio::test]
async fn the_first_owner_has_no_password_until_one_is_set() {
    let server = Server::start().await;
    for password in ["", "owner", "admin", "password", "picloud", &server.owner] {
        server.sign_in("owner", password).await.problem("unauthenticated");
    }
    assert_eq!(
        server.database.number("SELECT count(*) FROM principals WHERE password_hash IS NOT NULL").await,
        0
    );
}

#[tokio::test]
async fn a_password_is_changed_with_the_current_one_and_ends_every_session() {
    let server = Server::start().await;
    let ada = server.user("ada", InstanceRole::Member).await;
    let cookie = server.session("ada", PASSWORD).await;
    let token = server.token_of(ada.id, &[Scope::ScriptRead], None).await;
    let set = |body| server.by_cookie("PUT", "/api/v1/principals/ada/password", &cookie).json(&body).send();
    set(json!({ "password": "another password" })).await.problem("forbidden");
    set(json!({ "password": "another password", "current_password": "wrong" })).await.problem("forbidden");
    set(json!({ "password": "short", "current_password": PASSWORD })).await.problem("invalid");
    set(json!({ "password": "x".repeat(1025), "current_password": PASSWORD })).await.problem("invalid");
    let other = server.sign_in("ada", PASSWORD).await;
    assert_eq!(other.status, 200);
    assert_eq!(
        set(json!({ "password": "another password", "current_password": PASSWORD })).await.status,
        204
    );
    let other = other.header("set-cookie").split(';').next().unwrap().to_owned();
    for cookie in [&cookie, &other] {
        server.by_cookie("GET", "/api/v1/whoami", cookie).send().await.problem("unauthenticated");
    }
    server.sign_in("ada", PASSWORD).await.problem("unauthenticated");
    assert_eq!(server.sign_in("ada", "another password").await.status, 200);
    let me = server.anonymous("GET", "/api/v1/whoami").token(&token).send().await;
    assert_eq!(me.status, 200, "tokens stay");
}

#[tokio::test]
async fn guessing_is_limited_by_name_and_says_when_to_come_again() {
    let server = Server::start().await;
    server.session("owner", PASSWORD).await;
    for _ in 0..10 {
        server.sign_in("owner", "wrong horse battery").await.problem("unauthenticated");
    }
    let limited = server.sign_in("owner", PASSWORD).await;
    limited.problem("sign_in_limited");
    assert_eq!(limited.status, 429);
    let seconds: u64 = limited.header("retry-after").parse().unwrap();
    assert!((1..=61).contains(&seconds), "{seconds}");
    let ada = server.user("ada", InstanceRole::Member).await;
    assert_eq!(server.session("ada", PASSWORD).await.split('=').next(), Some("picloud_session"));
    assert!(server.store.principal(ada.id).await.unwrap().is_some());
    let failed = "SELECT count(*) FROM audit_log WHERE action = 'sign_in' AND outcome <> 'ok'";
    assert_eq!(
        server.database.number(failed).await,
        10,
        "what is refused for being too often is not written"
    );
}

#[tokio::test]
async fn a_session_ends_by_itself_when_it_is_idle_and_when_it_is_old() {
    let server = Server::start().await;
    let cookie = server.session("owner", PASSWORD).await;
    let asks = || server.by_cookie("GET", "/api/v1/whoami", &cookie).send();
    server
        .database
        .execute("UPDATE sessions SET last_used_at = now() - interval '11 hours 59 minutes'")
        .await;
    assert_eq!(asks().await.status, 200);
    let used = "SELECT count(*) FROM sessions WHERE last_used_at > now() - interval '1 minute'";
    assert_eq!(server.database.number(used).await, 1, "use is noted");
    server.database.execute("UPDATE sessions SET last_used_at = now() - interval '12 hours 1 second'").await;
    asks().await.problem("unauthenticated");
    server
        .database
        .execute("UPDATE sessions SET last_used_at = now(), expires_at = now() - interval '1 second'")
        .await;
    asks().await.problem("unauthenticated");
    assert_eq!(server.store.remove_ended_sessions(10).await.unwrap(), 1);
}

#[tokio::test]
async fn a_token_goes_before_a_cookie_and_two_cookies_are_none() {
    let server = Server::start().await;
    let cookie = server.session("owner", PASSWORD).await;
    let wrong = server.by_cookie("GET", "/api/v1/whoami", &cookie).token("pcl_wrong").send().await;
    wrong.problem("unauthenticated");
    let two = format!("{cookie}; picloud_session=pcls_planted");
    server.by_cookie("GET", "/api/v1/whoami", &two).send().await.problem("unauthenticated");
    let as_token = cookie.split('=').nth(1).unwrap();
    server.anonymous("GET", "/api/v1/whoami").token(as_token).send().await.problem("unauthenticated");
    let as_cookie = format!("picloud_session={}", server.owner);
    server.by_cookie("GET", "/api/v1/whoami", &as_cookie).send().await.problem("unauthenticated");
}

#[tokio::test]
async fn a_token_made_in_a_session_outlasts_it() {
    let server = Server::start().await;
    let cookie = server.session("owner", PASSWORD).await;
    let request = json!({ "name": "laptop", "scopes": ["script:read"] });
    let made = server.by_cookie("POST", "/api/v1/tokens", &cookie).json(&request).send().await.json();
    assert_eq!((&made["made_by"], &made["expires_at"]), (&json!(null), &json!(null)));
    server.by_cookie("DELETE", "/api/v1/session", &cookie).send().await;
    let secret = made["token"].as_str().unwrap();
    assert_eq!(server.anonymous("GET", "/api/v1/whoami").token(secret).send().await.status, 200);
}
