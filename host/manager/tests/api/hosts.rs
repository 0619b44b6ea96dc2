//! Whom the listener answers for, and whose pages may change something.

use serde_json::json;

use crate::support::Server;

#[tokio::test]
async fn another_host_is_misdirected() {
    let server = Server::start().await;
    for host in ["evil.example", "localhost.evil.example:8420", "10.0.0.1"] {
        for path in ["/healthz", "/api/v1/apps", "/api/v1/openapi.json"] {
            let answer = server.call("GET", path).header("host", host).send().await;
            answer.problem("misdirected_request");
            assert_eq!(answer.status, 421, "{host}");
        }
    }
    for host in ["localhost", "localhost:8420", "127.0.0.1", "[::1]:8420", "cloud.example"] {
        assert_eq!(server.call("GET", "/healthz").header("host", host).send().await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let server = Server::start().await;
    let new = json!({ "name": "demo" });
    for origin in ["http://evil.example", "null", "http://127.0.0.1:8421"] {
        let answer = server.call("POST", "/api/v1/apps").json(&new).header("origin", origin).send().await;
        answer.problem("forbidden");
        assert_eq!(answer.status, 403, "{origin}");
    }
    let plain = server.call("POST", "/api/v1/apps").body("text/plain", new.to_string()).send().await;
    plain.problem("unsupported_media_type");
    assert_eq!(plain.status, 415);
    assert!(server.get("/api/v1/apps").await.items("name").is_empty());

    let own = format!("http://{}", server.address);
    let answer = server.call("POST", "/api/v1/apps").json(&new).header("origin", &own).send().await;
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn answers_are_not_cached_and_not_sniffed() {
    let server = Server::start().await;
    let answer = server.get("/api/v1/apps").await;
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(!answer.header("picloud-request-id").is_empty());
}

#[tokio::test]
async fn a_wrong_method_names_the_right_ones() {
    let server = Server::start().await;
    let answer = server.call("PATCH", "/api/v1/apps").send().await;
    answer.problem("method_not_allowed");
    assert_eq!(answer.status, 405);
    let mut allowed: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
}
