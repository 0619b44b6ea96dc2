//! Apps.

use serde_json::{Value, json};

use crate::support::Server;

#[tokio::test]
async fn an_app_is_made_shown_listed_and_removed() {
    let server = Server::start().await;
    let made = server.call("POST", "/api/v1/apps").json(&json!({ "name": "demo" })).send().await;
    assert_eq!(made.status, 201);
    assert_eq!(made.header("location"), "/api/v1/apps/demo");
    let app = made.json();
    assert_eq!(app["url"], "http://127.0.0.1:8421/@demo/");
    assert_eq!(app["limits"]["fuel"], 500_000_000);
    let mut shown = app.clone();
    shown["unresolved_dead_letters"] = json!(0);
    assert_eq!(server.get("/api/v1/apps/demo").await.json(), shown);
    assert_eq!(server.get("/api/v1/apps").await.json(), json!({ "items": [app], "next_cursor": null }));
    let id = app["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(*server.node.changed.lock().unwrap(), [id], "the node hears of it before the answer");

    let again = server.call("POST", "/api/v1/apps").json(&json!({ "name": "demo" })).send().await;
    again.problem("already_exists");
    assert_eq!(again.status, 409);

    let gone = server.call("DELETE", "/api/v1/apps/demo").send().await;
    assert_eq!((gone.status.as_u16(), gone.text.as_str()), (204, ""));
    server.get("/api/v1/apps/demo").await.problem("app_not_found");
    server.call("DELETE", "/api/v1/apps/demo").send().await.problem("app_not_found");
    assert_eq!(server.node.changed.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn bodies_are_read_strictly() {
    let server = Server::start().await;
    let cases = [
        (r#"{"name":"demo","role":"owner"}"#, 422, "invalid", "there is no field role"),
        (r#"{"name":"demo","id":"0"}"#, 422, "invalid", "there is no field id"),
        (r#"{"name":"demo","name":"other"}"#, 422, "invalid", "the field name is given twice"),
        ("{}", 422, "invalid", "the field name is missing"),
        (r#"{"name":7}"#, 422, "invalid", "name: "),
        (r#"{"name":"Demo"}"#, 422, "invalid", "name: app name contains 'D'; allowed are a-z, 0-9 and -"),
        (r#"{"name":"a\u0000"}"#, 422, "invalid", "name: app name contains '\\0'"),
        (r#"["demo"]"#, 422, "invalid", "must be a JSON object"),
        (r#"{"name":"demo""#, 400, "bad_request", "not valid JSON"),
        ("", 400, "bad_request", "not valid JSON"),
        ("\u{feff}{}", 400, "bad_request", "not valid JSON"),
    ];
    for (body, status, code, detail) in cases {
        let answer = server.call("POST", "/api/v1/apps").raw_json(body).send().await;
        let problem = answer.problem(code);
        assert_eq!(answer.status, status, "{body}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{body}: {problem}");
    }
    let large = format!(r#"{{"name":"{}"}}"#, "a".repeat(70_000));
    let answer = server.call("POST", "/api/v1/apps").raw_json(&large).send().await;
    answer.problem("body_too_large");
    assert_eq!(answer.status, 413);
    let deep = format!(r#"{{"name":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    server.call("POST", "/api/v1/apps").raw_json(&deep).send().await.problem("bad_request");
    assert!(server.get("/api/v1/apps").await.items("name").is_empty());
}

#[tokio::test]
async fn lists_come_in_pages() {
    let server = Server::start().await;
    for name in ["c", "a", "d", "b", "e"] {
        server.app(name).await;
    }
    let (mut seen, mut path) = (Vec::new(), "/api/v1/apps?limit=2".to_owned());
    loop {
        let page = server.get(&path).await;
        let names = page.items("name");
        assert!(names.len() <= 2);
        seen.extend(names);
        match &page.json()["next_cursor"] {
            Value::String(cursor) => path = format!("/api/v1/apps?limit=2&cursor={cursor}"),
            _ => break,
        }
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    for bad in [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=x",
        "cursor=%25",
        "cursor=",
        "offset=1",
        "limit=1&limit=2",
    ] {
        let answer = server.get(&format!("/api/v1/apps?{bad}")).await;
        answer.problem("invalid");
        assert_eq!(answer.status, 422, "{bad}");
    }
}
