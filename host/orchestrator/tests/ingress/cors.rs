//! Cross-origin sharing.

use picloud_core::MethodSet;
use serde_json::json;

use crate::{client::Answer, platform::Platform};

fn all<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
}

async fn shared() -> Platform {
    let platform = Platform::start().await;
    platform
        .access(json!({ "cors": {
            "origins": ["https://a.example", "http://localhost:3000"], "methods": ["GET", "PUT"],
            "headers": ["content-type"], "exposed_headers": ["x-total"], "credentials": true,
        } }))
        .await;
    platform
}

#[tokio::test]
async fn the_matrix_of_preflights() {
    let platform = shared().await;
    platform.route(MethodSet::ANY, "/api/:id", "respond").await;
    for (path, origin, method, status, allowed) in [
        ("/hello", "https://a.example", "GET", 204, true),
        ("/hello", "http://localhost:3000", "PUT", 204, true),
        ("/api/7", "https://a.example", "DELETE", 204, true),
        ("/hello", "https://a.example", "NONSENSE", 204, true),
        ("/hello", "null", "GET", 204, false),
        ("/hello", "https://A.example", "GET", 204, false),
        ("/hello", "https://a.example.evil.example", "GET", 204, false),
        ("/hello", "http://localhost", "GET", 204, false),
        ("/nowhere", "https://a.example", "GET", 404, true),
        ("/nowhere", "https://evil.example", "GET", 404, false),
    ] {
        let headers = [("origin", origin), ("access-control-request-method", method)];
        let answer = platform.ask("OPTIONS", path, &headers).await;
        let label = format!("{path} {origin} {method}: {answer:?}");
        assert_eq!(answer.status, status, "{label}");
        assert_eq!(answer.header("access-control-allow-origin"), allowed.then_some(origin), "{label}");
        let lists = allowed && status == 204;
        assert_eq!(answer.header("access-control-allow-methods"), lists.then_some("GET, PUT"), "{label}");
        assert!(all(&answer, "vary").contains(&"origin"), "{label}");
    }
    assert_eq!(platform.executions().await, 0, "no script has run for a preflight");
}

#[tokio::test]
async fn answers_name_the_origin_and_refusals_too() {
    let platform = shared().await;
    let from = |origin: &'static str| [("origin", origin)];
    let hello = platform.ask("GET", "/hello", &from("https://a.example")).await;
    assert_eq!(hello.header("access-control-allow-origin"), Some("https://a.example"));
    assert_eq!(hello.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(hello.header("access-control-expose-headers"), Some("x-total"));
    let failed = platform.ask("GET", "/fail", &from("https://a.example")).await;
    failed.assert_problem(500, "script_error");
    assert_eq!(failed.header("access-control-allow-origin"), Some("https://a.example"));
    for origin in ["null", "https://evil.example", "*"] {
        let other = platform.ask("GET", "/hello", &from(origin)).await;
        assert_eq!((other.status, other.header("access-control-allow-origin")), (200, None), "{origin}");
        assert_eq!(all(&other, "vary"), ["origin"]);
    }
    assert_eq!(all(&platform.get("/hello").await, "vary"), ["origin"], "also without an origin, for caches");
}

#[tokio::test]
async fn what_a_script_says_of_it_is_replaced_where_the_app_has_settings() {
    let body = r#"{"headers": [["access-control-allow-origin", "*"], ["access-control-allow-credentials", "true"], ["vary", "accept"]]}"#;
    let platform = Platform::start().await;
    let own = platform.post("/respond", body).await;
    assert_eq!(own.header("access-control-allow-origin"), Some("*"));
    platform.access(json!({ "cors": { "origins": ["https://a.example"] } })).await;
    let replaced = platform.post("/respond", body).await;
    assert_eq!(replaced.header("access-control-allow-origin"), None);
    assert_eq!(replaced.header("access-control-allow-credentials"), None);
    assert_eq!(all(&replaced, "vary"), ["accept", "origin"]);
}

#[tokio::test]
async fn without_settings_options_reaches_the_script() {
    let platform = Platform::start().await;
    platform.route(MethodSet::ANY, "/own", "echo").await;
    let headers = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
    assert_eq!(platform.ask("OPTIONS", "/own", &headers).await.json()["method"], "OPTIONS");
    platform.access(json!({ "cors": { "origins": ["*"] } })).await;
    let preflight = platform.ask("OPTIONS", "/own", &headers).await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, Some("*")));
    // Without its headers it is no preflight.
    assert_eq!(platform.ask("OPTIONS", "/own", &[]).await.json()["method"], "OPTIONS");
}
