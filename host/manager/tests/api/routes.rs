//! Routes.

use serde_json::{Value, json};

use crate::support::{Answer, Server};

const ROUTES: &str = "/api/v1/apps/demo/routes";

async fn post(server: &Server, path: &str, body: &Value) -> Answer {
    server.call("POST", path).json(body).send().await
}

#[tokio::test]
async fn a_route_is_made_replaced_and_removed() {
    let server = Server::start().await;
    server.app("demo").await;
    server.script("demo", "users", "1").await;
    server.script("demo", "people", "1").await;
    let route =
        json!({ "methods": ["GET", "POST"], "path": "/users/:id", "script": "users", "mode": "sync" });
    let made = post(&server, ROUTES, &route).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    assert_eq!(made["methods"], json!(["GET", "POST"]));
    assert_eq!(made["url"], "http://127.0.0.1:8421/@demo/users/:id");
    assert_eq!(server.get("/api/v1/apps/demo/scripts/users").await.json()["url"], made["url"]);
    let other = json!({ "methods": ["POST", "GET"], "path": "/users/:name", "script": "people" });
    let replaced = post(&server, ROUTES, &other).await;
    assert_eq!((replaced.status.as_u16(), &replaced.json()["id"]), (200, &made["id"]));
    let overlap = json!({ "methods": ["GET"], "path": "/users/:x", "script": "users" });
    let overlap = post(&server, ROUTES, &overlap).await.problem("already_exists");
    let detail = overlap["detail"].as_str().unwrap();
    assert!(
        detail
            .starts_with("the route GET,POST /users/:name exists already: it leads to the script \"people\""),
        "{detail}"
    );
    let bundle = json!({ "scripts": {}, "routes": [{ "path": "/x", "script": "users" }, { "path": "/x", "script": "people" }] });
    let twice = server.call("PUT", "/api/v1/apps/demo/bundle").json(&bundle).send().await;
    assert_eq!(twice.problem("already_exists")["detail"], "the route any /x is given twice");
    let used = server.call("DELETE", "/api/v1/apps/demo/scripts/people").send().await;
    used.problem("script_in_use");

    let path = format!("{ROUTES}/{}", made["id"].as_str().unwrap());
    server.app("other").await;
    let foreign = path.replace("demo", "other");
    server.call("DELETE", &foreign).send().await.problem("not_found");
    assert_eq!(server.call("DELETE", &path).send().await.status, 204);
    server.call("DELETE", &path).send().await.problem("not_found");
    let wrong = server.call("DELETE", &format!("{ROUTES}/1")).send().await.problem("invalid");
    assert!(wrong["detail"].as_str().unwrap().contains("ids look like"), "{wrong}");
    assert!(server.get(ROUTES).await.items("path").is_empty());
}

#[tokio::test]
async fn wrong_routes_are_refused_by_name() {
    let server = Server::start().await;
    server.app("demo").await;
    server.script("demo", "s", "1").await;
    let cases = [
        (json!({ "path": "x", "script": "s" }), "path: "),
        (json!({ "path": "/:a/:a", "script": "s" }), "path: "),
        (json!({ "path": "/@x", "script": "s" }), "path: "),
        (json!({ "path": "/x", "script": "../s" }), "script: "),
        (json!({ "path": "/x", "script": "s", "methods": [] }), "methods: "),
        (json!({ "path": "/x", "script": "s", "methods": ["TRACE"] }), "methods"),
        (json!({ "path": "/x", "script": "s", "methods": ["get"] }), "methods"),
        (
            json!({ "path": "/x", "script": "s", "mode": "later" }),
            "mode: it cannot be later; allowed are sync, durable, async",
        ),
        (json!({ "path": "/f/{id}", "script": "s" }), "write :id"),
        (json!({ "path": "/x", "script": "s", "app": "other" }), "there is no field app"),
    ];
    for (body, detail) in cases {
        let answer = post(&server, ROUTES, &body).await;
        let problem = answer.problem("invalid");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{body}: {problem}");
    }
    post(&server, ROUTES, &json!({ "path": "/x", "script": "none" })).await.problem("script_not_found");
}
