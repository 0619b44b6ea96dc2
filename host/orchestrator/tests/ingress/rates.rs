//! Rate limits.

use picloud_core::{Change, MethodSet, Node as _};
use serde_json::json;

use crate::platform::{Platform, request};

fn proxied(config: &mut picloud_orchestrator::OrchestratorConfig) {
    config.trusted_proxies = vec!["127.0.0.1".parse::<std::net::IpAddr>().unwrap().into()];
}

#[tokio::test]
async fn a_client_over_its_limit_is_429_and_told_when_to_come_again() {
    let platform = Platform::start().await;
    platform.access(json!({ "client_rate_limit": { "requests": 2, "seconds": 3600 } })).await;
    let first = platform.get("/hello").await;
    assert_eq!(first.header("ratelimit-policy"), Some("\"client\";q=2;w=3600"));
    assert_eq!(first.header("ratelimit"), Some("\"client\";r=1;t=1800"));
    assert_eq!(platform.get("/hello").await.header("ratelimit"), Some("\"client\";r=0;t=3600"));
    let refused = platform.get("/hello").await;
    refused.assert_problem(429, "rate_limited");
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1790..=1800).contains(&wait), "{wait}");
    assert_eq!(refused.header("ratelimit"), Some(format!("\"client\";r=0;t={wait}").as_str()));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"client\";q=2;w=3600"));
    assert!(refused.text().contains("this client may make 2/h requests"), "{}", refused.text());
    // A header that a client writes itself makes it nobody else.
    let forged = platform.ask("GET", "/hello", &[("x-forwarded-for", "192.0.2.1")]).await;
    forged.assert_problem(429, "rate_limited");
    let metrics = platform.node.metrics();
    assert!(metrics.contains("picloud_access_refusals_total{reason=\"client\"} 2"), "{metrics}");
    assert_eq!(platform.executions().await, 2);
}

#[tokio::test]
async fn clients_are_counted_apart_and_the_app_together() {
    let platform = Platform::with(proxied).await;
    platform
        .access(json!({
            "client_rate_limit": { "requests": 1, "seconds": 3600 }, "rate_limit": { "requests": 3, "seconds": 3600 },
        }))
        .await;
    let status = async |ip: &str| {
        let answer = platform.ask("GET", "/hello", &[("x-forwarded-for", ip)]).await;
        (answer.status, answer.header("ratelimit").unwrap().to_owned())
    };
    assert_eq!(status("192.0.2.1").await, (200, "\"client\";r=0;t=3600, \"app\";r=2;t=1200".to_owned()));
    // What a client is refused takes nothing from the others.
    for _ in 0..5 {
        assert_eq!(status("192.0.2.1").await.0, 429);
    }
    assert_eq!(status("2001:db8::1").await.0, 200);
    assert_eq!(status("2001:db8::2").await.0, 429, "one of the same network");
    assert_eq!(status("192.0.2.2").await.0, 200);
    let (refused, state) = status("192.0.2.3").await;
    assert!(refused == 429 && state.starts_with("\"app\";r=0;"), "{state}");
    assert!(platform.node.metrics().contains("picloud_access_refusals_total{reason=\"app\"} 1"));
}

#[tokio::test]
async fn a_route_has_limits_of_its_own() {
    let platform = Platform::start().await;
    platform.access(json!({ "client_rate_limit": { "requests": 1, "seconds": 3600 } })).await;
    platform
        .guarded_route(MethodSet::ANY, "/more", "hello", |route| {
            route.client_rate_limit = Change::Set("3/h".parse().unwrap());
            route.rate_limit = Change::Set("2/h".parse().unwrap());
        })
        .await;
    let policy = "\"client\";q=3;w=3600, \"route\";q=2;w=3600";
    assert_eq!(platform.get("/more").await.header("ratelimit-policy"), Some(policy));
    assert_eq!(platform.get("/more").await.status, 200);
    let refused = platform.get("/more").await;
    refused.assert_problem(429, "rate_limited");
    assert!(refused.text().contains("this route takes 2/h"), "{}", refused.text());
    // The app's own limit is counted apart, and holds for the rest.
    assert_eq!(platform.get("/echo").await.status, 200);
    platform.get("/echo").await.assert_problem(429, "rate_limited");
}

#[tokio::test]
async fn a_change_of_the_app_fills_no_bucket() {
    let platform = Platform::start().await;
    platform.access(json!({ "rate_limit": { "requests": 1, "seconds": 3600 } })).await;
    assert_eq!(platform.get("/hello").await.status, 200);
    platform.route(MethodSet::ANY, "/x", "echo").await;
    platform.access(json!({ "development": true })).await;
    platform.get("/hello").await.assert_problem(429, "rate_limited");
    platform.access(json!({ "rate_limit": null })).await;
    assert_eq!(platform.get("/hello").await.header("ratelimit"), None);
}

#[tokio::test]
async fn a_refusal_reads_no_body_takes_no_slot_and_looks_no_token_up() {
    let platform = Platform::start().await;
    platform.access(json!({ "rate_limit": { "requests": 1, "seconds": 3600 } })).await;
    assert_eq!(platform.get("/hello").await.status, 200);
    platform.store.close().await;
    let head = "POST /hello HTTP/1.1\r\nhost: demo.localhost\r\nauthorization: Bearer pcl_x\r\ncontent-length: 9\r\n\r\n";
    platform.raw(head).await.assert_problem(429, "rate_limited");
    let mut client = platform.client().await;
    client.send(request("HEAD", "/hello", &[])).await;
    assert_eq!(client.answer_to_head().await.status, 429);
    assert_eq!((platform.node.status().running, platform.node.status().waiting), (0, 0));
}
