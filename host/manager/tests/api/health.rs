//! Health, readiness, status and metrics.

use serde_json::json;

use crate::support::Server;

#[tokio::test]
async fn a_node_that_serves_is_ready() {
    let server = Server::start().await;
    assert_eq!(server.anonymous("GET", "/healthz").send().await.text, "ok\n");
    let ready = server.anonymous("GET", "/readyz").send().await;
    assert_eq!(ready.status, 200);
    assert_eq!(
        ready.json(),
        json!({
            "ready": true, "database": "ready", "node": "ready", "notifications": null,
            "pool_mode": "pool_guarded", "reset": "pagemap_scan", "reasons": [], "confinement": [],
        })
    );
    let status = server.get("/api/v1/status").await.json();
    assert_eq!((&status["running"], &status["waiting"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn a_node_that_drains_or_has_another_schema_is_not_ready() {
    let server = Server::start().await;
    *server.node.is_draining.lock().unwrap() = true;
    let draining = server.anonymous("GET", "/readyz").send().await;
    assert_eq!(draining.status, 503);
    assert_eq!(draining.json()["reasons"], json!(["the node is shutting down"]));
    *server.node.is_draining.lock().unwrap() = false;
    server.database.execute("DELETE FROM _sqlx_migrations WHERE version = 7").await;
    let schema = server.anonymous("GET", "/readyz").send().await;
    assert_eq!(schema.status, 503);
    assert_eq!(schema.json()["database"], "other_schema");
}

#[tokio::test]
async fn without_its_database_the_node_says_so_and_lets_nobody_in() {
    let server = Server::start().await;
    server.store.close().await;
    assert_eq!(server.anonymous("GET", "/healthz").send().await.status, 200);
    let ready = server.anonymous("GET", "/readyz").send().await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["reasons"], json!(["the database does not answer"]));
    let call = server.get("/api/v1/apps").await;
    call.problem("database_unavailable");
    assert_eq!(call.status, 503);
    assert!(!call.header("retry-after").is_empty());
}

#[tokio::test]
async fn metrics_are_those_of_the_node_and_of_the_api() {
    let server = Server::start().await;
    server.get("/api/v1/apps/none").await.problem("app_not_found");
    let metrics = server.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    assert!(metrics.text.contains("picloud_invocations_total 3\n"));
    assert!(metrics.text.contains("picloud_api_responses_total{status=\"4xx\"} 1\n"), "{}", metrics.text);
    assert!(metrics.text.ends_with("# EOF\n"));
    assert_eq!(metrics.text.matches("# EOF").count(), 1);
}
