//! Tokens and addresses: who is let in, and that a refusal costs nothing.

use picloud_core::{AppName, MethodSet, Node as _, RouteAccess, Scope};
use picloud_store::NewToken;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::platform::{Platform, post, put_script, request};

/// A node whose app has a route `/guarded` for holders of tokens.
async fn guarded() -> Platform {
    let platform = Platform::start().await;
    platform.guarded_route(MethodSet::ANY, "/guarded", "echo", with_token).await;
    platform
}

fn with_token(route: &mut picloud_store::NewRoute) {
    route.access = Some(RouteAccess::Token);
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

async fn shown(platform: &Platform, authorization: &str) -> crate::client::Answer {
    platform.ask("GET", "/guarded", &[("authorization", authorization)]).await
}

#[tokio::test]
async fn a_token_lets_in_and_does_not_reach_the_script() {
    let platform = guarded().await;
    let (token, _) = platform.token(|_| {}).await;
    let answer = shown(&platform, &bearer(&token)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!answer.text().contains(&token) && !answer.text().contains("authorization"), "{answer:?}");
    assert_eq!(platform.executions().await, 1);
}

#[tokio::test]
async fn without_a_valid_token_nothing_runs() {
    let platform = guarded().await;
    let (expired, _) = platform
        .token(|token| token.expires_at = Some(OffsetDateTime::now_utc() - Duration::seconds(1)))
        .await;
    let (good, id) = platform.token(|_| {}).await;
    assert_eq!(shown(&platform, &bearer(&good)).await.status, 200);
    platform.store.revoke_token(id).await.unwrap();

    let none = platform.get("/guarded").await;
    none.assert_problem(401, "unauthenticated");
    assert_eq!(none.header("www-authenticate"), Some("Bearer realm=\"picloud\""));
    for token in [&expired, &good, "pcl_", "pcl_unknown"] {
        let refused = shown(&platform, &bearer(token)).await;
        refused.assert_problem(401, "unauthenticated");
        let challenge = refused.header("www-authenticate").unwrap();
        assert!(challenge.ends_with("error=\"invalid_token\""), "{challenge}");
    }
    let (good, _) = platform.token(|_| {}).await;
    for wrong in [good.clone(), format!("Basic {good}"), format!("Token {good}"), format!("Bearer x{good}")] {
        shown(&platform, &wrong).await.assert_problem(401, "unauthenticated");
    }
    let two = bearer(&good);
    let two = [("authorization", two.as_str()), ("authorization", two.as_str())];
    platform.ask("GET", "/guarded", &two).await.assert_problem(401, "unauthenticated");
    for place in [format!("/guarded?token={good}"), format!("/guarded?access_token={good}")] {
        platform.get(&place).await.assert_problem(401, "unauthenticated");
    }
    platform
        .ask("GET", "/guarded", &[("cookie", &format!("picloud_session={good}"))])
        .await
        .assert_problem(401, "unauthenticated");
    let metrics = platform.node.metrics();
    assert!(metrics.contains("picloud_access_refusals_total{reason=\"token\"} 13"), "{metrics}");
    assert_eq!(platform.executions().await, 1, "the one before the revocation");
}

#[tokio::test]
async fn a_token_that_allows_something_else_is_403() {
    let platform = guarded().await;
    let other = platform.store.create_app(&AppName::new("other").unwrap()).await.unwrap().id;
    let reading = [Scope::ScriptRead, Scope::DataRead, Scope::DataWrite, Scope::LogRead, Scope::AppAdmin];
    let (reads, _) = platform.token(|token: &mut NewToken| token.scopes = reading.to_vec()).await;
    let (others, _) = platform.token(|token| token.app = Some(other)).await;
    for token in [reads, others] {
        let refused = shown(&platform, &bearer(&token)).await;
        refused.assert_problem(403, "forbidden");
        let challenge = refused.header("www-authenticate").unwrap();
        assert!(
            challenge.contains("insufficient_scope") && challenge.contains("script:write"),
            "{challenge}"
        );
    }
    let demo = platform.demo;
    let (own, _) = platform.token(|token| token.app = Some(demo)).await;
    assert_eq!(shown(&platform, &bearer(&own)).await.status, 200);
    assert_eq!(platform.executions().await, 1);
}

#[tokio::test]
async fn every_method_and_form_of_the_path_is_guarded() {
    let platform = guarded().await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        platform.ask(method, "/guarded", &[]).await.assert_problem(401, "unauthenticated");
    }
    for path in ["/%67uarded", "/guarded?x", "/guarded?"] {
        platform.get(path).await.assert_problem(401, "unauthenticated");
    }
    let by_path = platform.raw("GET /@demo/guarded HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
    by_path.assert_problem(401, "unauthenticated");
    let mut client = platform.client().await;
    client.send(request("HEAD", "/guarded", &[])).await;
    let head = client.answer_to_head().await;
    assert_eq!((head.status, head.header("picloud-error")), (401, Some("unauthenticated")));
    // The script has a route, so that it does not answer at its name beside it.
    platform.get("/echo").await.assert_problem(404, "route_not_found");
    assert_eq!(platform.executions().await, 0);
}

#[tokio::test]
async fn a_preflight_needs_no_token_and_runs_no_script() {
    let platform = guarded().await;
    let preflight = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
    let plain = platform.ask("OPTIONS", "/guarded", &preflight).await;
    assert_eq!((plain.status, plain.header("access-control-allow-origin")), (204, None), "{plain:?}");
    platform
        .access(json!({ "cors": { "origins": ["https://a.example"], "headers": ["authorization"] } }))
        .await;
    let allowed = platform.ask("OPTIONS", "/guarded", &preflight).await;
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://a.example"));
    assert_eq!(allowed.header("access-control-allow-headers"), Some("authorization"));
    assert_eq!(platform.executions().await, 0);
}

#[tokio::test]
async fn a_refused_request_takes_no_slot_and_its_body_is_not_read() {
    let platform = Platform::with(|config| config.slots = 1).await;
    platform.guarded_route(MethodSet::ANY, "/guarded", "echo", with_token).await;
    let mut holder = platform.client().await;
    holder.send("GET /hold HTTP/1.1\r\nhost: demo.localhost\r\n\r\n").await;
    crate::platform::until(|| platform.node.status().running == 1).await;
    // The body never comes, and the only slot is taken.
    let head = "POST /guarded HTTP/1.1\r\nhost: demo.localhost\r\ncontent-length: 1000\r\n\r\n";
    platform.raw(head).await.assert_problem(401, "unauthenticated");
    assert_eq!(platform.node.status().waiting, 0);
}

#[tokio::test]
async fn a_token_route_without_the_database_is_503_and_a_public_one_goes_on() {
    let platform = guarded().await;
    let (token, _) = platform.token(|_| {}).await;
    platform.store.close().await;
    shown(&platform, &bearer(&token)).await.assert_problem(503, "database_unavailable");
    let public = platform.ask("GET", "/hello", &[("authorization", &bearer(&token))]).await;
    assert_eq!((public.text(), public.header("picloud-fuel-used")), ("hello", None));
}

#[tokio::test]
async fn fuel_and_error_texts_are_for_those_who_may_read_the_logs() {
    let platform = guarded().await;
    let scopes = |scopes: &'static [Scope]| move |token: &mut NewToken| token.scopes = scopes.to_vec();
    let (reader, _) = platform.token(scopes(&[Scope::LogRead])).await;
    let (writer, _) = platform.token(scopes(&[Scope::ScriptWrite])).await;
    let (both, _) = platform.token(|_| {}).await;
    let other = platform.store.create_app(&AppName::new("other").unwrap()).await.unwrap().id;
    let (others, _) = platform.token(|token| token.app = Some(other)).await;
    let fuel = async |path: &str, token: &str| {
        let answer = platform.ask("GET", path, &[("authorization", &bearer(token))]).await;
        answer.header("picloud-fuel-used").map(str::to_owned)
    };
    assert_eq!(fuel("/hello", &reader).await.as_deref(), Some("1000"));
    assert_eq!(fuel("/guarded", &both).await.as_deref(), Some("1000"));
    for (path, token) in [
        ("/hello", &writer),
        ("/hello", &others),
        ("/guarded", &writer),
        ("/guarded", &reader),
        ("/hello", &"pcl_x".to_owned()),
    ] {
        assert_eq!(fuel(path, token).await, None, "{path}");
    }

    let failed = platform.ask("GET", "/fail", &[("authorization", &bearer(&reader))]).await;
    failed.assert_problem(500, "script_error");
    assert_eq!(
        (&failed.json()["detail"], &failed.json()["fuel_used"]),
        (&json!("the secret is 42"), &json!(1000))
    );
    assert_eq!(failed.header("picloud-fuel-used"), Some("1000"));
    for headers in [
        &[][..],
        &[("authorization", bearer(&others).as_str())],
        &[("authorization", bearer(&writer).as_str())],
    ] {
        let public = platform.ask("GET", "/fail", headers).await;
        public.assert_problem(500, "script_error");
        assert!(
            !public.text().contains("secret") && public.header("picloud-fuel-used").is_none(),
            "{public:?}"
        );
    }
}

#[tokio::test]
async fn in_development_everybody_reads_the_error_text() {
    let platform = Platform::start().await;
    platform.access(json!({ "development": true })).await;
    let failed = platform.get("/fail").await;
    failed.assert_problem(500, "script_error");
    assert!(failed.text().contains("the secret is 42"));
    assert_eq!(failed.header("picloud-fuel-used"), None);
    platform.access(json!({ "development": false })).await;
    assert!(!platform.get("/fail").await.text().contains("secret"));
}

#[tokio::test]
async fn addresses_are_those_that_the_connection_or_a_trusted_proxy_says() {
    let platform = Platform::start().await;
    platform.access(json!({ "allow_ips": ["192.0.2.0/24"] })).await;
    for headers in [&[][..], &[("x-forwarded-for", "192.0.2.1")], &[("forwarded", "for=192.0.2.1")]] {
        let denied = platform.ask("GET", "/hello", headers).await;
        denied.assert_problem(403, "address_denied");
        assert_eq!(denied.json()["address"], "127.0.0.1");
    }
    platform.get("/nowhere").await.assert_problem(403, "address_denied");
    platform
        .ask("OPTIONS", "/hello", &[("origin", "x"), ("access-control-request-method", "GET")])
        .await
        .assert_problem(403, "address_denied");
    platform.access(json!({ "allow_ips": ["127.0.0.0/8"] })).await;
    assert_eq!(platform.get("/hello").await.status, 200);
    platform.access(json!({ "deny_ips": ["::ffff:127.0.0.1"] })).await;
    platform.get("/hello").await.assert_problem(403, "address_denied");
    let metrics = platform.node.metrics();
    assert!(metrics.contains("picloud_access_refusals_total{reason=\"address\"} 6"), "{metrics}");
    assert_eq!(platform.executions().await, 1);
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_client_counts_and_denying_goes_first() {
    let platform = Platform::with(|config| {
        config.trusted_proxies = vec!["127.0.0.1".parse::<std::net::IpAddr>().unwrap().into()];
    })
    .await;
    platform
        .access(json!({ "allow_ips": ["192.0.2.0/24", "2001:db8::/32"], "deny_ips": ["192.0.2.128/25", "2001:db8:bad::/48"] }))
        .await;
    let status =
        async |forwarded: &str| platform.ask("GET", "/hello", &[("x-forwarded-for", forwarded)]).await.status;
    for (forwarded, expected) in [
        ("192.0.2.1", 200),
        ("::ffff:192.0.2.1", 200),
        ("192.0.2.129", 403),
        ("::ffff:192.0.2.129", 403),
        ("192.0.2.1, 192.0.2.129", 403),
        ("192.0.2.129, 192.0.2.1", 200),
        ("198.51.100.1", 403),
        ("2001:db8::1", 200),
        ("2001:db8:bad::1", 403),
    ] {
        assert_eq!(status(forwarded).await, expected, "{forwarded}");
    }
}

#[tokio::test]
async fn the_apps_do_not_share_what_they_set() {
    let platform = guarded().await;
    let other = platform.store.create_app(&AppName::new("other").unwrap()).await.unwrap().id;
    put_script(&platform.store, other, "hello").await;
    picloud_core::Node::app_changed(&*platform.node, other).await;
    platform.access(json!({ "deny_ips": ["127.0.0.1"] })).await;
    let answer = platform.raw("GET /hello HTTP/1.1\r\nhost: other.localhost\r\n\r\n").await;
    assert_eq!(answer.text(), "hello");
    platform.raw(post("/hello", "")).await.assert_problem(403, "address_denied");
}
